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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial, wraps
from pathlib import Path
from threading import Lock
from types import CodeType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .. import core, operators
from ..core import Node, Tensor, handle, mode, plain, tick
from ..errors import TensorError
from ..ops.index import is_basic
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


class Write(NamedTuple):
    """``array[index] = value``, in an array that code of the user's took out of a tensor."""

    array: Node
    index: Any
    value: Any
    leaf: Node | None  # whose array it is a part of


class Handed(NamedTuple):
    """An array that code of the user's was given, its node, and the leaf whose array it is part of."""

    array: Any
    node: Node
    leaf: Node | None


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
    exact : bool
        Whether what NumPy does to arrays must be the same to the bit when Tensors are given to it.
    start : int
        When the step began, on the clock of the nodes.
    events : list
        Nodes, and the classes above, in order.
    given : list of (ndarray, Node or None)
        The arrays among the arguments, as the step saw them; the node of one that was a Tensor.
    reads : list of (Node, object)
        What Python took out of tensors.
    user_reads : list of (Node, object)
        What code that is none of a library took out of tensors.
    handed : dict
        By identity, what such code was given instead of a leaf's array, a gradient, or a view of one:
        an array whose NumPy calls are recorded, and what is written into it.
    handed_of : list of (Node, ndarray)
        The leaves whose arrays were handed out, and these.
    gave : bool
        Whether that, or the array of a result, was given to code of the user's.
    old : set of Node
        Tensors from before the step that it has written into.
    scalars : set
        The identities of arrays without axes for which NumPy gives a scalar.
    same : dict
        Nodes that hold the array of another node.
    arrays : dict
        By identity, the node whose value an array that Python computed is.
    reason : str or None
        Why the step cannot be replayed.
    """

    def __init__(self, around: Any, exact: bool = False) -> None:
        self.around = around
        self.exact = exact
        self.start = tick()
        self.events: list[Any] = []
        self.given: list[tuple[Any, Node | None]] = []
        self.reads: list[tuple[Node, Any]] = []
        self.user_reads: list[tuple[Node, Any]] = []
        self.handed: dict[int, Handed] = {}
        self.handed_of: list[tuple[Node, Any]] = []
        self.gave = False
        self.old: set[Node] = set()
        self.scalars: set[int] = set()
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

    def constant(self, value: Any) -> Given:
        """An array that the step makes of nothing, as one whose NumPy calls are recorded."""
        return self.array(value, Node(value), computed=False)

    def array(self, value: Any, node: Node | None, computed: bool = True) -> Given:
        """An array as one whose NumPy calls are recorded."""
        given: Given = value.view(Given)
        given.log = self
        if value.size and computed:
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

    def unwrapped(self, result: Any) -> Any:
        """What a step returned while its arguments were watched, as it returns it otherwise."""

        def unwrapped(leaf: Any) -> Any:
            array = _bare(leaf)
            return array[()] if id(leaf) in self.scalars else array

        return rebuild(result, unwrapped)

    @contextmanager
    def recording(self) -> Iterator[None]:
        with CONVERSIONS, mode(everything=True, watchers=(self.events.append,), log=self):
            yield

    # -- operations on plain arrays ----------------------------------------------------------------

    def knows(self, given: Any) -> bool:
        """Whether an operation is called on an array that the step was given, or a view of one."""
        return not self.within and any(
            isinstance(arg, Given) or (isinstance(arg, np.ndarray) and self.is_known(arg))
            for arg in leaves(given)
        )

    def records(self, value: Any) -> bool:
        """Whether what NumPy computes from a value now is recorded."""
        return isinstance(value, Given) and not self.within

    def is_argument(self, array: Any) -> bool:
        """Whether an array lies in the memory of an argument."""
        return any(np.may_share_memory(array, own) for _, own, _ in self.originals)

    def is_known(self, array: Any) -> bool:
        """Whether an array lies in the memory of one that is recorded."""
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

    def read(self, node: Node, value: Any) -> Any:
        """Python took the value of a node: the array itself, or a number."""
        frame = _reader()
        if frame.f_code.co_filename.startswith(ENGINE):
            return value  # it reads shapes; operations that look at numbers tell of it: `checked`
        by_user = not _is_of_a_library(frame)
        if by_user and type(value) is np.ndarray:
            if node.primitive is None and (node.needs or self.is_old(node)):
                self.handed_of.append((node, value))
                return self._hand_out(value, node)
            if self.same.get(node, node).primitive is not None:
                self.gave = True
                return self.array(value, Node(value))
        self.reads.append((node, value))
        if by_user:
            self.user_reads.append((node, value))
        if type(value) is not np.ndarray and _may_branch(frame):
            self.refuse(
                f"Python took the number {value!r} out of {node.label} in a function that branches, "
                "so a replay could not tell which way to go. Compare tensors (`if loss > 10:`), or "
                "take the number outside of the step."
            )
        return value

    def is_old(self, node: Node) -> bool:
        """Whether a tensor was there before the step; a write makes it as new as what it computed."""
        return node.order < self.start or node in self.old

    def _keeps_old(self, node: Node) -> None:
        """Before a write: what was there before the step still counts as such after it."""
        if self.is_old(node):
            self.old.add(node)

    def _hand_out(self, value: Any, leaf: Node | None = None) -> Given:
        """An array that stays the tensor's own, as one whose NumPy calls and writes are recorded."""
        self.gave = True
        node = Node(value)
        given = self.array(value, node)
        self.handed[id(given)] = Handed(given, node, leaf)
        return given

    def part(self, given: Given, index: Any) -> Given | None:
        """A view of an array that was handed out, to be written into as well."""
        whole = self.handed.get(id(given))
        if whole is None or not is_basic(index):
            return None
        index = index if isinstance(index, tuple) else (index,)
        number = not isinstance(whole.node.value[index], np.ndarray)
        made = self._hand_out(whole.node.value[(*index, ...) if number else index], whole.leaf)
        if number:
            self.scalars.add(id(made))
        return made

    def write(self, given: Given, index: Any, value: Any) -> bool:
        """Write into an array, if it was handed out; False if it was not."""
        if id(given) not in self.handed or not is_basic(index):
            return False
        _, node, leaf = self.handed[id(given)]
        if leaf is not None:
            self._keeps_old(leaf)
        bare = _bare(value)
        if isinstance(bare, np.ndarray) and _is_place(bare, node.value[index]):
            return True  # p[i] += x has written it
        node.value[index] = bare
        self.events.append(Write(node, index, _lifted(value), leaf))
        return True

    def looked(self, node: Node, name: str) -> None:
        """A function said something of the numbers of a node."""
        if not _reader().f_code.co_filename.startswith(ENGINE):
            self.reads.append((node, Said(name)))
            self.user_reads.append((node, Said(name)))

    def read_gradient(self, node: Node, value: Any) -> Any:
        frame = _reader()
        if value is None or _is_of_a_library(frame) or _asks_for_none(frame):
            return value
        return self._hand_out(value)

    def checked(self, array: Any, limit: int) -> None:
        self.events.append(Check(array, limit))

    def branched(self, node: Node, value: bool) -> None:
        self.events.append(Branch(node, value))

    def same_as(self, node: Node, other: Node) -> None:
        self.same[node] = other

    def set(self, node: Node, value: Any) -> Any:
        self._keeps_old(node)
        bare = _bare(value)
        if bare is node.value or (value is not bare and _is_place(bare, node.value)):
            self.events.append(Touch(node))
            return node.value
        self.events.append(Assignment(node, _lifted(value)))
        return bare

    def array_code(
        self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Call a function of plain arrays that every replay calls, too."""
        args, options = rebuild((args, options), _bare)
        result = self.apart(partial(function, *args, **options))
        self.events.append(ArrayCode(function, args, options, result))
        return result

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

    def set_gradient(self, node: Node, value: Any, array: Any) -> Any:
        bare = _bare(value)
        if value is not bare and node.grad is not None and _is_place(bare, node.gradient()):
            return node.grad  # p.grad *= x has written it
        self.events.append(Gradient(node, _lifted(value), array))
        return array

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


def _is_of_a_library(frame: Any) -> bool:
    return is_library(frame.f_globals.get("__name__"))


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


def _is_place(a: Any, b: Any) -> bool:
    """Whether two arrays are the same place in memory."""
    return bool(a.__array_interface__ == b.__array_interface__)


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
# NumPy functions that add up, or order ties, otherwise than the operations on Tensors do.
ROUNDED_OTHERWISE: Final = frozenset({
    "argsort", "dot", "einsum", "eigvalsh", "inner", "multi_dot", "norm", "prod", "qr", "svdvals",
    "tensordot", "vdot", "vecdot",
})  # fmt: skip
NO_RECORD: Final = (
    "NumPy made an array or a number of an array of the step in a way that leaves no record. Compute "
    "with a Tensor."
)
# Options of ufuncs as they are where nobody gives any.
PLAIN_OPTIONS: Final[dict[str, Any]] = {"out": None, "dtype": None, "where": True}


class Given(np.ndarray[Any, Any]):
    """An array that a step was given, or computed from one, whose NumPy calls are recorded.

    It stays an array for the step: what `tg.grad` and ``isinstance`` make of arrays does not change.
    """

    log: Log

    def __array_finalize__(self, other: Any) -> None:
        log = getattr(other, "log", None)
        if log is None:
            return
        self.log = log
        if self.base is None and not log.within and core.current_log() is log:
            log.refuse(NO_RECORD)  # a copy that NumPy made in C

    def _tensor(self) -> Tensor:
        known = self.log.arrays.get(id(self))
        if known is None and not self.log.is_known(self):
            self.log.refuse(NO_RECORD)
        return handle(Node(self.view(np.ndarray)) if known is None else known[1])

    def _recorded(self, operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A NumPy call done on Tensors, so that it is recorded; the results are arrays again."""
        if self.log.within:
            return _plainly(operation, args, options)
        name = getattr(operation, "__name__", "")
        if self.log.exact and name in ROUNDED_OTHERWISE:
            self.log.refuse(
                f"np.{name} on an array rounds otherwise than the operation on a Tensor, and "
                f"exact=True allows no such thing. Call it on a Tensor, or leave exact=True out."
            )
            return _plainly(operation, args, options)
        try:
            result = operation(*rebuild(args, _lifted), **rebuild(options, _lifted))
        except (TensorError, TypeError) as error:
            self.log.refuse(f"a NumPy call on an array of the step is not recorded: {error}")
            return _plainly(operation, args, options)
        made = rebuild(result, self._lowered)
        if not any(isinstance(leaf, Tensor) for leaf in leaves([args, options])):
            expected = _plainly(operation, args, options)
            if not self._agree(expected, result):
                self.log.refuse(
                    "NumPy computes other numbers from an array than the operation that is recorded "
                    "does. Make it a Tensor first."
                )
                return expected
            if isinstance(made, Given) and isinstance(expected, np.generic):
                self.log.scalars.add(id(made))
        return made

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
        call = ufunc if method == "__call__" else getattr(ufunc, method)
        if ufunc in operators.ABOUT_UFUNCS:
            self._said(ufunc.__name__)
        if self.log.within:
            return _plainly(call, inputs, options)
        # ndarray.sum() and its like say of all options that they are not given.
        given = {
            key: value for key, value in options.items()
            if value is not np._NoValue and value is not PLAIN_OPTIONS.get(key, MISSING)
        }  # fmt: skip
        if method == "__call__" and given.keys() == {"out"} and self._takes(given["out"], inputs):
            self.log.write(given["out"][0], ..., self._recorded(call, *inputs))
            return given["out"][0]
        unseen = sorted(given.keys() & {"out", "dtype", "where", "initial"})
        if unseen or method == "at":
            self.log.refuse(
                f"np.{ufunc.__name__} on an array of the step is called with {unseen[0]}=, as x += y is "
                "with out=, and leaves no record. Write x = x + y, or compute with a Tensor."
                if unseen else f"np.{ufunc.__name__}.at on an array leaves no record."
            )  # fmt: skip
            written = given.get("out", ())
            result = _plainly(call, inputs, given)
            return written[0] if len(written) == 1 else result
        return self._recorded(call, *inputs, **given)

    def _takes(self, outs: tuple[Any, ...], inputs: tuple[Any, ...]) -> bool:
        """Whether a result of these inputs goes into one array that was handed out, as in p -= x."""
        there = outs[0]
        if len(outs) > 1 or id(there) not in self.log.handed:
            return False
        dtype = np.result_type(*rebuild(inputs, _bare))
        shape = np.broadcast_shapes(there.shape, *map(np.shape, inputs))
        return shape == there.shape and np.can_cast(dtype, there.dtype, "same_kind")

    def _said(self, name: str) -> None:
        """Refuse what says something of the numbers and is no operation, where a user asks for it."""
        if not self.log.within and not _reader().f_code.co_filename.startswith(ENGINE):
            self.log.refuse(
                f"np.{name} says something of the numbers of an array of the step, and a replay "
                "could not know what became of it. Write it with operators, as (x != 0).sum()."
            )

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        if function in operators.ABOUT_NUMBERS or (
            function is np.full_like and self is not args[0]
        ):
            self._said(function.__name__)
        if self.log.within or function in operators.ABOUT or function in operators.LIKE:
            return _plainly(function, args, options)
        return self._recorded(function, *args, **options)

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        return self._recorded(lambda x: x.astype(dtype), self)

    def copy(self, order: Any = "C") -> Any:
        return self._recorded(_by_rows if order == "C" else np.copy, self)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        made = _bare(self).reshape(*shape, **options)
        if np.may_share_memory(made, self):
            return super().reshape(*shape, **options)  # known by its place in memory
        return self._recorded(lambda x: x.reshape(*shape, **options), self)

    def ravel(self, order: Any = "C") -> Any:
        return self.reshape(-1, order=order) if order != "C" else self.reshape(-1)

    def __getitem__(self, index: Any) -> Any:
        part = None if self.log.within else self.log.part(self, index)
        if part is not None:
            return part
        return self._recorded(lambda x, index: x[index], self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not self.log.within and self.log.write(self, index, value):
            return
        self.log.refuse(
            "the step writes into an array it was given."
            if self.log.is_argument(self) else
            "the step writes into elements that an array or a list names. Write x[...] = np.where(...)."
            if id(self) in self.log.handed else
            "the step writes into an array that it computed. Make it a Tensor first."
        )  # fmt: skip
        super().__setitem__(index, value)

    @property
    def flat(self) -> Any:
        self.log.refuse("the step takes numbers out of an argument by .flat.")
        return self.view(np.ndarray).flat

    def view(self, *args: Any) -> Any:  # type: ignore[override]
        made = super().view(*args)
        if not isinstance(made, Given) and not _is_of_a_library(sys._getframe(1)):
            self.log.refuse(NO_RECORD)
        return made

    def __iter__(self) -> Any:
        return iter([self[i] for i in range(len(self))])

    def _read(self, value: Any) -> Any:
        """Python took numbers: of a leaf's own array it is watched that they stay these."""
        whole = self.log.handed.get(id(self))
        if whole is None or whole.leaf is None:
            self.log.read(self._tensor().node, value)
        else:
            self.log.user_reads.append((whole.leaf, value))
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
    "take", "repeat", "argmax", "argmin", "argsort", "cumsum", "cumprod", "round",
    "clip", "dot", "diagonal", "trace", "flatten", "mean", "var", "std", "prod", "any", "all",
):  # fmt: skip

    def _method(self: Given, *args: Any, _name: str = _name, **options: Any) -> Any:
        def call(x: Any, *args: Any) -> Any:
            return getattr(x, _name)(*args, **options)

        call.__name__ = _name
        return self._recorded(call, self, *args)

    setattr(Given, _name, _method)


# And those that give its numbers away, or write into it, where no record sees them.
TAKING: Final = (
    "tobytes", "tofile", "dump", "dumps", "choose", "compress", "nonzero", "searchsorted", "argpartition",
    "__contains__", "__complex__", "__reduce__", "__reduce_ex__", "__deepcopy__", "__copy__", "__str__",
    "__repr__", "__format__",
)  # fmt: skip
WRITING: Final = (
    "sort", "partition", "fill", "put", "resize", "setfield", "byteswap", "getfield", "__dlpack__",
    "setflags",
)  # fmt: skip
for _name in TAKING + WRITING:

    def _unseen(self: Given, *args: Any, _name: str = _name, **options: Any) -> Any:
        result = getattr(self.view(np.ndarray), _name)(*args, **options)
        whole = self.log.handed.get(id(self))
        if _name in TAKING and whole is not None and whole.leaf is not None:
            return self._read(result)
        self.log.refuse(
            f"the step calls .{_name}() of an array that it was given or took from a tensor, and a "
            "replay would not. Write it as a function of NumPy, or do it outside of the step."
        )
        return result

    setattr(Given, _name, _unseen)


# What leads to its memory.
for _name in ("base", "ctypes", "data", "__array_interface__", "__array_struct__"):

    def _memory(self: Given, _name: str = _name) -> Any:
        if not _is_of_a_library(sys._getframe(1)):
            self.log.refuse(NO_RECORD)
        return getattr(super(Given, self), _name)

    setattr(Given, _name, property(_memory))


# Of a scalar, which such an array stands for.
for _name in ("__round__", "__hash__", "is_integer", "as_integer_ratio", "hex"):

    def _unseen_of_scalar(self: Given, *args: Any, _name: str = _name) -> Any:
        self.log.refuse(
            f"the step calls .{_name}() of a number that NumPy computed, and a replay would not. Do "
            "it outside of the step."
        )
        return getattr(self.view(np.ndarray)[()], _name)(*args)

    setattr(Given, _name, _unseen_of_scalar)


class Conversions:
    """While a log is kept: ``np.asarray(x)`` and its like, which no protocol of NumPy's tells of.

    They would make plain arrays of those that are recorded, and what Python computes from these, or
    decides by them, would not be seen. So their names in NumPy's module stand for functions that do
    the same to all other arguments, in threads that keep no log, and in the engine. An ``np.eye(K)``
    is recorded, so that ``np.eye(K)[labels]`` is.
    """

    LAID = ("ascontiguousarray", "asfortranarray")
    KNOWN = ("array", "asarray", "asanyarray", *LAID)
    NAMES = (*KNOWN, "asmatrix", "frombuffer", "full")

    def __init__(self) -> None:
        self.lock = Lock()
        self.count = 0
        self.originals = {name: getattr(np, name) for name in (*self.NAMES, "eye")}
        self.found: dict[str, Any] = {}  # what the names stood for, which need not be these

    def __enter__(self) -> None:
        with self.lock:
            self.count += 1
            if self.count == 1:
                self.found = {name: getattr(np, name) for name in self.originals}
                for name, original in self.found.items():
                    setattr(np, name, (_made if name == "eye" else _telling)(original))

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.count -= 1
            if self.count == 0:
                for name, original in self.found.items():
                    setattr(np, name, original)


CONVERSIONS: Final = Conversions()


def _made(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def make(*args: Any, **options: Any) -> Any:
        log = core.current_log()
        made = original(*args, **options)
        if log is None or log.within or _is_of_a_library(sys._getframe(1)):
            return made
        return log.constant(made)

    return make


def _telling(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def convert(*args: Any, **options: Any) -> Any:
        log = core.current_log()
        seen = [one for one in leaves(args) if isinstance(one, Given)] if log is not None else ()
        if not seen or log.within or sys._getframe(1).f_code.co_filename.startswith(ENGINE):
            return original(*args, **options)
        a, dtype = args[0], args[1] if len(args) > 1 else options.get("dtype")
        known = original.__name__ in Conversions.KNOWN and a is seen[0] and len(args) < 3
        known = known and (dtype is None or np.dtype(dtype).kind in "biufc")
        laid = original.__name__ in Conversions.LAID and log.exact
        known = known and not (laid and original(_bare(a)).strides != a.strides)
        if not known or options.keys() - {"copy", "dtype"}:
            log.refuse(
                f"np.{original.__name__} of arrays in a list, or with options, leaves no record. "
                "Write np.stack([...]), x.copy() or x.astype(dtype)."
            )
            return _plainly(original, args, options)
        if dtype is not None and np.dtype(dtype) != a.dtype:
            return a.astype(dtype)
        copies = original.__name__ == "array" and options.get("copy", True)
        return a.copy() if copies or id(a) in log.scalars else a

    return convert


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


def _plainly(function: Callable[..., Any], args: Any, options: dict[str, Any]) -> Any:
    """Call a function with plain arrays in place of those that are recorded."""
    return function(*rebuild(args, _bare), **rebuild(options, _bare))


def taken_but_not_returned(log: Log, result: Any) -> str | None:
    """Says what Python took out of a tensor that was computed in the step, and did not return."""
    returned = {id(leaf) for leaf in leaves(result)}
    computed = {event for event in log.events if isinstance(event, Node)}
    for node, value in log.reads:
        own = log.same.get(node, node)
        # Of what was handed out, or is a part of an argument, there are nodes that nobody computed.
        part = not own.needs and isinstance(own.value, np.ndarray) and log.is_known(own.value)
        if id(value) in returned or not (own in computed or part):
            continue
        kind = "the array" if isinstance(value, np.ndarray) else f"the number {value!r:.20}"
        if isinstance(value, Said):
            kind = f"what {value.name} says"
        return (
            f"Python took {kind} out of {node.label} and did not return it, so a replay could not "
            "know what became of it. Compute with the tensor, or return it from the step."
        )
    return None
