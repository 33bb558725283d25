"""What happens while a step runs, in order: what has to happen again when it is replayed.

Operations on Tensors are told by the engine. An array that the step is given comes to it as a
`Given`, an ndarray whose NumPy calls are recorded operations, so that what Python computes from it
before it becomes a Tensor is known, too. What cannot be replayed, such as a number that Python took
out and did not return, stops the log with the reason.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .. import core, operators
from ..core import Node, Tensor, handle, mode, plain, tick
from ..errors import TensorError
from ..tree import leaves, rebuild

ENGINE = str(Path(__file__).parents[1])
# Where the methods are that take numbers out of tensors and arrays.
TAKERS = (__file__, operators.__file__, core.__file__)


# Code of these does not change, or tells of it (`note_change`).
OWN: Final = frozenset({"tinygrad_np", "nn"})
INSTALLED: Final = tuple({sysconfig.get_path(one) for one in ("stdlib", "purelib", "platlib")})


class UnreplayableError(Exception):
    """Why a step cannot be replayed: in words for the user.

    Attributes
    ----------
    passing : bool
        Whether the next run of the step may be another case.
    """

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


class Sweep(NamedTuple):
    """A backward pass that was run on arrays, and what arrived at its end."""

    outputs: Sequence[Node]
    cotangents: Sequence[Any]
    wanted: Sequence[Node] | None
    partial: bool
    arrived: dict[Node, Any]


class Delivery(NamedTuple):
    """Gradients that became ``.grad``: of which leaf, the cotangent, ``.grad`` before and now."""

    leaves: list[tuple[Node, Any, Any, Any]]


class Assignment(NamedTuple):
    """``leaf.data = value``."""

    leaf: Node
    value: Any


class Touch(NamedTuple):
    """``leaf.data = leaf.data``: the array was written into."""

    leaf: Node


class Gradient(NamedTuple):
    """``leaf.grad = value``, and the array that ``.grad`` is then."""

    leaf: Node
    value: Any
    array: Any


class Branch(NamedTuple):
    """Python took one way because of a value."""

    node: Node
    value: bool


class Check(NamedTuple):
    """An operation has made sure that the integers of an array are in ``0 ... limit - 1``."""

    array: Any
    limit: int


class ArrayCode(NamedTuple):
    """A function of plain arrays that was called, and what it returned."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]
    result: Any


class HostCode(NamedTuple):
    """A function of nothing that every replay calls."""

    function: Callable[[], Any]


class Said(NamedTuple):
    """What a function says of numbers, such as that they are finite."""

    name: str


class Log:
    """The events of one run of a step.

    Attributes
    ----------
    around : Around
        The variables that the step reads.
    start : int
        When the step began, on the clock of the nodes.
    events : list
        Nodes, and the classes above, in order.
    given : list of (ndarray, Node or None)
        The arrays among the arguments, as the step saw them; the node of one that was a Tensor.
    reads : list of (Node, object)
        What Python took out of tensors.
    user_reads, gradient_reads : list of (Node, object)
        What code that is none of a library took out of tensors, and out of ``.grad``.
    same : dict
        Nodes that hold the array of another node.
    arrays : dict
        By identity, the node whose value an array that Python computed is.
    reason : str or None
        Why the step cannot be replayed.
    """

    def __init__(self, around: Any, exact: bool = False) -> None:
        self.around = around
        self.exact = exact  # whether every number is to be the same to the bit
        self.start = tick()
        self.events: list[Any] = []
        self.given: list[tuple[Any, Node | None]] = []
        self.reads: list[tuple[Node, Any]] = []
        self.user_reads: list[tuple[Node, Any]] = []
        self.gradient_reads: list[tuple[Node, Any]] = []
        self.same: dict[Node, Node] = {}
        self.arrays: dict[int, tuple[Any, Node]] = {}
        self.before: dict[Node, Any] = {}
        self.needs: dict[Node, bool] = {}  # whether a gradient was wanted before the step set that
        self.regions: list[tuple[int, int]] = []
        self.within = (
            0  # functions of operations and passes on arrays, in which nothing is recorded
        )
        self.originals: list[tuple[Any, Any, Any]] = []  # arrays among the arguments, and copies
        self.changed: str | None = None  # what the step's Python code has set
        self.reason: str | None = None

    def refuse(self, reason: str) -> None:
        self.reason = self.reason or reason

    def argument(self, leaf: Any) -> Any:
        """An argument as the step is to see it."""
        if isinstance(leaf, Tensor):
            if leaf.requires_grad:
                raise UnreplayableError(
                    "an argument needs a gradient, and what is computed from it a graph, which a "
                    "replay does not keep. Give it detached, or compute the gradient in the step."
                )
            self.given.append((leaf.node.value, leaf.node))
            return leaf
        if isinstance(leaf, np.ndarray):
            if type(leaf) not in (np.ndarray, np.memmap):
                raise UnreplayableError(
                    f"an argument is a {type(leaf).__name__}, and a replay knows plain arrays only. "
                    "Give np.asarray(...) of it."
                )
            if leaf.dtype.kind not in "biufc":
                raise UnreplayableError(
                    f"an argument has dtype {leaf.dtype}, and a replay knows numbers only."
                )
            own = _copied(leaf)  # memory of its own, by which its views are known
            self.given.append((own, None))
            self.originals.append((leaf, own, own.copy()))
            return self.array(own, None)
        return leaf

    def array(self, value: Any, node: Node | None) -> Given:
        """An array as one whose NumPy calls are recorded."""
        given: Given = value.view(Given)
        given.log = self
        if value.size:
            self.regions.append(byte_bounds(value))
        if node is not None:
            self.arrays[id(given)] = (given, node)
        return given

    def give_back(self) -> None:
        """What the step has written into its arguments, written into the caller's arrays."""
        for original, own, before in self.originals:
            if not _same(own, before):
                self.refuse("the step writes into an array it was given.")
                original[...] = own
            elif not _same(original, before):
                self.refuse("an argument is an array that the step changes.")

    def is_number(self, leaf: Any) -> bool:
        """Whether NumPy would have computed a number, and no array, where nothing is recorded."""
        return isinstance(leaf, Given) and leaf.ndim == 0 and not self.is_argument(leaf)

    def unwrapped(self, result: Any) -> Any:
        """What a step returned while its arguments were watched, as it returns it otherwise."""

        def unwrapped(leaf: Any) -> Any:
            array = _bare(leaf)
            return array[()] if self.is_number(leaf) else array

        return rebuild(result, unwrapped)

    def recording(self) -> mode:
        return mode(everything=True, watchers=(self.events.append,), log=self)

    # -- operations on plain arrays ----------------------------------------------------------------

    def knows(self, given: Any) -> bool:
        """Whether an operation is called on an array that the step was given, or a view of one."""
        return not self.within and any(
            isinstance(arg, Given) or (isinstance(arg, np.ndarray) and self._is_given(arg))
            for arg in leaves(given)
        )

    def is_argument(self, array: Any) -> bool:
        """Whether an array lies in the memory of an argument."""
        return any(np.may_share_memory(array, own) for _, own, _ in self.originals)

    def _is_given(self, array: Any) -> bool:
        if not array.size:
            return False
        low, high = byte_bounds(array)
        return any(first <= low and high <= last for first, last in self.regions)

    def recorded(self, operation: Callable[..., Any], args: Sequence[Any], params: Any) -> Any:
        """The operation on Tensors instead, so that it is recorded; the result is an array again."""
        lifted = [
            _lifted(arg) if isinstance(arg, Given) else
            handle(Node(arg)) if isinstance(arg, np.ndarray) else arg
            for arg in args
        ]  # fmt: skip
        result = operation(*lifted, **params)
        return self.array(result.node.value, result.node)

    def apart(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function whose inner operations are not recorded."""
        self.within += 1
        try:
            return function(*args)
        finally:
            self.within -= 1

    # -- what the engine tells ---------------------------------------------------------------------

    def read(self, node: Node, value: Any) -> None:
        """Python took the value of a node: the array itself, or a number."""
        frame = _reader()
        if frame.f_code.co_filename.startswith(ENGINE):
            return  # it reads shapes; an operation that looks at numbers tells of it with `checked`
        self.reads.append((node, value))
        if not is_library(frame.f_globals.get("__name__")):
            self.user_reads.append((node, value))
        if type(value) is not np.ndarray and _may_branch(frame):
            self.refuse(
                f"Python took the number {value!r} out of {node.label} in a function that branches, "
                "so a replay could not tell which way to go. Compare tensors (`if loss > 10:`), or "
                "take the number outside of the step."
            )

    def looked(self, node: Node, name: str) -> None:
        """A function said something of the numbers of a node."""
        if not _reader().f_code.co_filename.startswith(ENGINE):
            self.reads.append((node, Said(name)))
            self.user_reads.append((node, Said(name)))

    def read_gradient(self, node: Node, value: Any) -> None:
        frame = _reader()
        by_user = not is_library(frame.f_globals.get("__name__"))
        if by_user and value is not None and not _asks_for_none(frame):
            self.gradient_reads.append((node, value))

    def checked(self, array: Any, limit: int) -> None:
        self.events.append(Check(array, limit))

    def branched(self, node: Node, value: bool) -> None:
        self.events.append(Branch(node, value))

    def same_as(self, node: Node, other: Node) -> None:
        self.same[node] = other

    def set(self, node: Node, value: Any) -> None:
        self.events.append(Touch(node) if value is node.value else Assignment(node, value))

    def array_code(self, *what: Any) -> None:
        self.events.append(ArrayCode(*what))

    def host_code(self, function: Callable[[], Any]) -> None:
        """Call a function that each replay calls, too: what it changes is not the step's doing."""
        read = self.around.give_way(function)
        if read is not None:
            self.refuse(
                f"the step reads `{read}`, which a function that it calls each time changes, and a "
                "replay would not read it. Read it outside of the step."
            )
        self.events.append(HostCode(function))

    def frozen(self) -> str | None:
        """The name of a tensor that needs a gradient now and did not before the step, or vice versa."""
        changed = (one for one, needs in self.needs.items() if one.needs is not needs)
        return next((f"requires_grad of {one.label}" for one in changed), None)

    def set_needs(self, node: Node) -> None:
        if node.order < self.start:
            self.needs.setdefault(node, node.needs)

    def set_gradient(self, node: Node, value: Any, array: Any) -> None:
        self.events.append(Gradient(node, value, array))

    def swept(self, *what: Any) -> None:
        self.events.append(Sweep(*what))

    def before_delivery(self, arrived: Iterable[Node]) -> None:
        self.before = {leaf: leaf.gradient() for leaf in arrived}

    def delivered(self, arrived: dict[Node, Any]) -> None:
        self.events.append(
            Delivery([(leaf, g, self.before[leaf], leaf.gradient()) for leaf, g in arrived.items()])
        )


def is_library(module: str | None) -> bool:
    """Whether code of that module is none of the user's."""
    top = (module or "").partition(".")[0]
    if top in OWN or top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is not None and file.startswith(INSTALLED)


def _copied(array: Any) -> Any:
    """The same numbers, as far from each other in memory."""
    if not array.size:
        return np.array(array)
    low, high = byte_bounds(array)
    start = array.ctypes.data - low  # of its first element, which need not be its lowest
    own = np.ndarray(array.shape, array.dtype, np.empty(high - low, np.uint8), start, array.strides)
    own[...] = array
    own.flags.writeable = array.flags.writeable
    return own


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def _reader() -> Any:
    """The frame of the code that takes something out of a tensor."""
    frame: Any = sys._getframe(2)
    while frame.f_code.co_filename in TAKERS:
        frame = frame.f_back
    return frame


def _asks_for_none(frame: Any) -> bool:
    """Whether what a frame reads is compared with None and nothing else."""
    following = [
        one for one in dis.get_instructions(frame.f_code)
        if one.offset > frame.f_lasti and one.opname != "CACHE"
    ][:2]  # fmt: skip
    names = [one.opname for one in following]
    compared = names[1:] == ["IS_OP"] and following[0].argval is None
    return compared or (bool(names) and names[0].startswith("POP_JUMP") and "NONE" in names[0])


def _may_branch(frame: Any) -> bool:
    """Whether the function that takes a number out has a conditional jump after that place."""
    return any(at > frame.f_lasti for at in _conditional_jumps(frame.f_code))


@cache
def _conditional_jumps(code: CodeType) -> tuple[int, ...]:
    return tuple([
        one.offset for one in dis.get_instructions(code)
        if one.opname.startswith(("POP_JUMP", "JUMP_IF"))
    ])  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Arrays among the arguments
# --------------------------------------------------------------------------------------------------


MISSING: Final = object()
# Options of ufuncs as they are where nobody gives any.
PLAIN_OPTIONS: Final[dict[str, Any]] = {"out": None, "dtype": None, "where": True}
# Functions of NumPy that add up in another order than the operations of the same names.
OTHER_SUMS: Final = frozenset({np.linalg.norm, np.einsum, np.vdot})


class Given(np.ndarray[Any, Any]):
    """An array that a step was given, or computed from one, whose NumPy calls are recorded.

    It stays an array for the step: what `tg.grad` and ``isinstance`` make of arrays does not change.
    """

    log: Log

    def __array_finalize__(self, other: Any) -> None:
        log = getattr(other, "log", None)
        if log is not None:
            self.log = log

    def _tensor(self) -> Tensor:
        known = self.log.arrays.get(id(self))
        return handle(Node(self.view(np.ndarray)) if known is None else known[1])

    def _recorded(self, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A NumPy call done on Tensors, so that it is recorded; the results are arrays again."""
        if self.log.within:
            return operation(*_changed(args, _bare), **_changed(options, _bare))
        try:
            result = operation(*_changed(args, _lifted), **_changed(options, _lifted))
        except (TensorError, TypeError) as error:
            self.log.refuse(f"a NumPy call on an argument of the step is not recorded: {error}")
            return operation(*_changed(args, _bare), **_changed(options, _bare))
        if not any(isinstance(leaf, Tensor) for leaf in leaves([args, options])):
            expected = operation(*_changed(args, _bare), **_changed(options, _bare))
            otherwise = self.log.exact and operation in OTHER_SUMS
            if otherwise or not self._agree(expected, result):
                self.log.refuse(
                    "NumPy computes other numbers from an argument than the operation that is recorded "
                    "does. Make it a Tensor first."
                )
                return expected
        return _changed(result, self._lowered)

    def _agree(self, expected: Any, recorded: Any) -> bool:
        """Whether NumPy's results are those of the operation of the same name that is recorded."""
        return all(
            np.shape(a) == np.shape(b) and getattr(a, "dtype", None) == b.dtype
            and (_same(a, b) if self.log.exact else _close(a, b))
            for a, b in zip(leaves(expected), map(plain, leaves(recorded)))
        )  # fmt: skip

    def _lowered(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf if leaf.requires_grad else self.log.array(leaf.node.value, leaf.node)
        return leaf

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(one, Tensor) for one in inputs):
            return NotImplemented  # the Tensor's turn
        call = getattr(ufunc, method)
        if self.log.within:
            return call(*_changed(inputs, _bare), **_changed(options, _bare))
        # ndarray.sum() and its like say of all options that they are not given.
        given = {
            key: value for key, value in options.items()
            if value is not np._NoValue and value is not PLAIN_OPTIONS.get(key, MISSING)
        }  # fmt: skip
        unseen = sorted(given.keys() & {"out", "dtype", "where", "initial"})
        if unseen or method == "at":
            self.log.refuse(
                f"np.{ufunc.__name__} on an argument of the step, or on what was computed from it, "
                f"is called with {unseen[0]}= or in place. Write x = x + 1 for x += 1, or compute with "
                "a Tensor."
                if unseen else f"np.{ufunc.__name__}.at on an array leaves no record."
            )  # fmt: skip
            written = given.get("out", ())
            result = call(*_changed(inputs, _bare), **_changed(given, _bare))
            return written[0] if len(written) == 1 else result
        return self._recorded(call, *inputs, **given)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if self.log.within or function in operators.ABOUT or function in operators.LIKE:
            return function(*_changed(args, _bare), **_changed(options, _bare))
        return self._recorded(function, *args, **options)

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        return self._recorded(lambda x: x.astype(dtype), self)

    def copy(self, order: Any = "C") -> Any:
        return self._recorded(_by_rows if order == "C" else np.copy, self)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        view = super().reshape(*shape, **options)
        if np.may_share_memory(view, self):
            return view  # known by its place in memory
        return self._recorded(lambda x: x.reshape(*shape, **options), self)

    def ravel(self, order: Any = "C") -> Any:
        return self.reshape(-1, order=order) if order != "C" else self.reshape(-1)

    def __getitem__(self, index: Any) -> Any:
        return self._recorded(lambda x, index: x[index], self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.log.refuse(
            "the step writes into an array it was given."
            if self.log.is_argument(self) else
            "the step writes into an array that it computed from an argument. Make it a Tensor first."
        )  # fmt: skip
        super().__setitem__(index, value)

    @property
    def flat(self) -> Any:
        self.log.refuse("the step takes numbers out of an argument by .flat.")
        return self.view(np.ndarray).flat

    def __iter__(self) -> Any:
        return iter([self[i] for i in range(len(self))])

    def _read(self, value: Any) -> Any:
        self.log.read(self._tensor().node, value)
        return value

    def item(self, *args: Any) -> Any:
        return self._read(super().item(*args))

    def tolist(self) -> Any:
        return self._read(super().tolist())

    def __bool__(self) -> bool:
        value = bool(self.view(np.ndarray))
        self.log.branched(self._tensor().node, value)
        return value

    def __float__(self) -> float:
        return self._read(float(self.view(np.ndarray)))  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return self._read(int(self.view(np.ndarray)))  # type: ignore[no-any-return]

    def __index__(self) -> int:
        return self._read(self.view(np.ndarray).__index__())  # type: ignore[no-any-return]


# Methods that NumPy computes in C, past the protocols above.
for _name in (
    "take", "repeat", "argmax", "argmin", "argsort", "cumsum", "cumprod", "round", "clip", "dot", "diagonal",
    "trace", "flatten", "mean", "var", "std", "prod", "any", "all",
):  # fmt: skip

    def _method(self: Given, *args: Any, _name: str = _name, **options: Any) -> Any:
        return self._recorded(lambda x, *args: getattr(x, _name)(*args, **options), self, *args)

    setattr(Given, _name, _method)


# And those that give its numbers away, or write into it, where no record sees them.
for _name in (
    "tobytes", "tofile", "dump", "dumps", "sort", "partition", "fill", "put", "resize", "setfield",
    "byteswap", "getfield", "choose", "compress", "nonzero", "searchsorted", "argpartition", "__contains__",
    "__complex__", "__reduce__", "__reduce_ex__", "__deepcopy__", "__copy__", "__str__", "__repr__",
    "__format__", "__dlpack__", "setflags",
):  # fmt: skip

    def _unseen(self: Given, *args: Any, _name: str = _name, **options: Any) -> Any:
        self.log.refuse(
            f"the step calls .{_name}() of an array it was given, and a replay would not. Write it "
            "as a function of NumPy, or do it before the step."
        )
        return getattr(self.view(np.ndarray), _name)(*args, **options)

    setattr(Given, _name, _unseen)


def _by_rows(x: Any) -> Any:
    """A copy row by row, as `ndarray.copy` makes it; that of a Tensor lies as the tensor does."""
    y = x.copy()
    return y if plain(y).flags.c_contiguous else y.reshape(-1).reshape(y.shape)


def _close(a: Any, b: Any) -> bool:
    """Whether two results are the same up to rounding."""
    if a.dtype.kind not in "fc":
        return _same(a, b)
    with np.errstate(all="ignore"):
        scale = np.max(np.abs(a), initial=0, where=np.isfinite(a))
        near = np.sqrt(np.finfo(a.dtype).eps)
    return bool(np.allclose(a, b, rtol=near, atol=near * scale, equal_nan=True))


def _lifted(leaf: Any) -> Any:
    return leaf._tensor() if isinstance(leaf, Given) else leaf


def _bare(leaf: Any) -> Any:
    return leaf.view(np.ndarray) if isinstance(leaf, Given) else leaf


def _changed(tree: Any, change: Callable[[Any], Any]) -> Any:
    if type(tree) in (tuple, list):
        return type(tree)([_changed(part, change) for part in tree])
    if type(tree) is dict:
        return {key: _changed(part, change) for key, part in tree.items()}
    return change(tree)


def taken_but_not_returned(log: Log, result: Any) -> str | None:
    """Says what Python took out of a tensor that was computed in the step, and did not return."""
    returned = {id(leaf) for leaf in leaves(result)}
    computed = {event for event in log.events if isinstance(event, Node)}
    given = {id(array) for array, _ in log.given}
    for node, value in log.reads:
        own = log.same.get(node, node)
        if id(value) in returned or not (own in computed or id(own.value) in given):
            continue
        kind = "the array" if isinstance(value, np.ndarray) else f"the number {value!r:.20}"
        if isinstance(value, Said):
            kind = f"what {value.name} says"
        return (
            f"Python took {kind} out of {node.label} and did not return it, so a replay could not "
            "know what became of it. Compute with the tensor, or return it from the step."
        )
    return None
