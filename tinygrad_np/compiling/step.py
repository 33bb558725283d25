"""`compile`: when the compiled function runs, and when the step itself."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import numpy as np

from ..core import Tensor, plain
from ..effects import Surroundings
from ..errors import ArgumentError, DtypeError, message
from ..tree import leaves, like, rebuild
from .buffers import Plan
from .log import Log, UnreplayableError, taken_but_not_returned
from .lowering import Host, Lowered, lower
from .source import MISS, Source
from .traced import FIXED, WRITES, Call, Traced

P = ParamSpec("P")
R = TypeVar("R")

# So many ways through the step (Python's branches) are kept for arguments of the same shapes.
VARIANTS = 8
# So often may a step do what only its first runs do, such as to lay out an optimizer's state.
PATIENCE = 2


def compile(step: Callable[P, R], *, warn: bool = True) -> Compiled[P, R]:
    """The same function, but from its third call on as straight-line NumPy on reused memory.

    The first call runs the step as it is, the second keeps a log of it and writes the compiled
    function, and the third runs both from the same state and compares all that they return and
    change. From then on the compiled function runs alone, for arguments of those shapes and dtypes;
    other shapes are captured when they come.

    Parameters
    ----------
    step : callable
        A training step (forward, ``backward()``, ``optimizer.step()``), or any function of arrays
        and Tensors. Its Python code no longer runs once it is compiled: what it prints, counts or
        appends happens in the first calls only.
    warn : bool
        Whether to warn, once for each reason, when the step goes on as it is; see ``.reason``.

    Returns
    -------
    Compiled
        Called like the step. ``.source`` is the text of what runs, ``.reason`` says why nothing
        was compiled, or is None.

    Raises
    ------
    DtypeError
        If ``step`` is not callable.

    Warns
    -----
    UserWarning
        If the step cannot be replayed: a number that Python took out of a tensor, a hook, an array
        computed past the tensors. It then runs as it is, with the same results.

    Notes
    -----
    The numbers are those of the step as it is, to the bit where NumPy adds up in the same order;
    long narrow arrays are laid out column by column, which changes that order, and so the rounding.
    A convolution's bias is added after the 2x2 maxima that follow it: where rounding makes two sums
    equal, the larger product wins, not the first sum.
    A branch on a tensor (``if loss > 10:``) is guarded: where it goes the other way, the step runs
    as it is and that way is captured, too. Gradients are left where the next run overwrites them
    and copied when ``.grad`` is read. Results are arrays of the caller's own.

    What Python reads besides is not watched: numbers in the step's own variables around it count as
    arguments, and a change of an `nn.Module` (``train()``, ``eval()``, an attribute) is noticed,
    but not one of other objects.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> w = tg.Tensor(np.ones(3), requires_grad=True, name="w")
    >>> @tg.compile
    ... def step(x):
    ...     w.grad = None
    ...     loss = ((x * w) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> [step(np.full(3, k)).item() for k in (1.0, 2.0, 3.0, 4.0)]
    [3.0, 12.0, 27.0, 48.0]
    >>> w.grad
    array([32., 32., 32.])
    >>> print(step.source.partition("# multiply")[2].partition("# .grad")[0].strip())
    """
    if not callable(step):
        raise DtypeError(message("compile", "a function", type(step).__name__))
    return Compiled(step, warn)


class Variant(NamedTuple):
    """One way through a step, compiled."""

    function: Callable[..., Any]  # of the arrays among the arguments
    rehearsal: Callable[..., Any]  # the same without the calls of `each_time`
    source: str
    lowered: Lowered
    plan: Plan
    finish: Callable[[Any], Any] | None  # from the flat results to what the step returns

    def run(self, arrays: Sequence[Any]) -> Any:
        """The results, or MISS, with the generators as they were."""
        return self._called(self.function, arrays)

    def rehearse(self, arrays: Sequence[Any]) -> Any:
        return self._called(self.rehearsal, arrays)

    def _called(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        before = [one.bit_generator.state for one in self.lowered.generators]
        results = function(*arrays)
        if results is MISS:
            for one, state in zip(self.lowered.generators, before):
                one.bit_generator.state = state
            return MISS
        return results if self.finish is None else self.finish(results)


class Entry:
    """What is known for arguments of the same shapes, dtypes and numbers."""

    def __init__(self) -> None:
        self.variants: list[Variant] = []
        self.rehearsed: set[int] = set()
        self.failures = 0
        self.reason: str | None = None


class Compiled(Generic[P, R]):
    """A step that `compile` was given.

    Attributes
    ----------
    step : callable
        The step as it is.
    reason : str or None
        Why it runs as it is for the last arguments that it was called with.
    """

    def __init__(self, step: Callable[P, R], warn: bool) -> None:
        self.step = step
        self.warn = warn
        self.reason: str | None = None
        self._entries: dict[Any, Entry] = {}
        self._latest: Variant | None = None
        self._fast: Callable[..., Any] | None = None
        self._count = 0
        self._warm = False
        self._state = 0
        self._around = _numbers_around(step)
        self._numbers = self._around()
        update_wrapper(self, step, updated=())  # not its attributes, which may be called as ours

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        if (
            self._fast is not None and len(args) == self._count and not options
            and self._state == Surroundings.state and self._numbers == self._around()
        ):  # fmt: skip
            results = self._fast(*args)
            if results is not MISS:
                return results  # type: ignore[no-any-return]
        return self._slowly(args, options)  # type: ignore[no-any-return]

    @property
    def source(self) -> str:
        """The text of the compiled function that ran last.

        Raises
        ------
        ArgumentError
            Before there is one.
        """
        if self._latest is None:
            why = self.reason or "it is written in the second call of the step"
            raise ArgumentError(f"compile: there is no source yet: {why}.")
        return self._latest.source

    def __repr__(self) -> str:
        name = getattr(self.step, "__name__", repr(self.step))
        count = sum(len(entry.variants) for entry in self._entries.values())
        return f"<compiled {name}: {count} variants{'; ' + self.reason if self.reason else ''}>"

    # -- the slow way ------------------------------------------------------------------------------

    def _slowly(self, args: Any, options: Any) -> Any:
        if not self._warm:
            self._warm = True
            return self.step(*args, **options)
        arrays, key = _signature(args, options)
        entry = self._entries.setdefault((key, Surroundings.state, self._around()), Entry())
        self.reason = entry.reason
        if entry.reason is not None:
            return self.step(*args, **options)
        for variant in entry.variants:
            if id(variant) in entry.rehearsed:
                results = variant.run(arrays)
                if results is not MISS:
                    self._remember(variant, args, options)
                    return results
        return self._carefully(entry, args, options, arrays)

    def _remember(self, variant: Variant, args: Any, options: Any) -> None:
        """Let the next call try this one first, past all that is slow."""
        self._latest = variant
        flat = not options and all(isinstance(one, np.ndarray | Tensor) for one in args)
        simple = flat and variant.finish is None and not variant.lowered.generators
        self._fast = variant.function if simple else None
        self._count = len(args)
        self._state, self._numbers = Surroundings.state, self._around()

    def _refuse(self, entry: Entry, reason: str) -> None:
        entry.reason = self.reason = reason
        entry.variants.clear()
        if self.warn:
            name = getattr(self.step, "__name__", repr(self.step))
            warnings.warn(f"compile: {name} runs as it is: {reason}", stacklevel=4)

    def _logged(self, log: Log, args: Any, options: Any) -> Any:
        """What the step returns as it is, with a log kept."""
        seen = [rebuild(one, log.argument) for one in args]
        named = {key: rebuild(one, log.argument) for key, one in options.items()}
        with log.recording():
            return self.step(*seen, **named)

    def _carefully(self, entry: Entry, args: Any, options: Any, arrays: Sequence[Any]) -> Any:
        """Run the step as it is, and with its log rehearse a variant, or compile another one."""
        waiting = [one for one in entry.variants if id(one) not in entry.rehearsed]
        state = State([one.lowered for one in waiting])
        before = state.now()
        log = Log()
        try:
            result = self._logged(log, args, options)
        except UnreplayableError as error:
            self._refuse(entry, str(error))
            return self.step(*args, **options)
        after = state.now()
        for variant in waiting:
            state.restore(before)
            ours = variant.rehearse(arrays)
            then = state.now()
            state.restore(after)
            if ours is not MISS:
                difference = state.difference(before, after, then) or _difference(result, ours)
                self._judge(entry, variant, difference or self._changed(variant, log, result))
                if id(variant) in entry.rehearsed:
                    self._remember(variant, args, options)
                return _unwrapped(result)
        self._add(entry, log, result, args)
        return _unwrapped(result)

    def _judge(self, entry: Entry, variant: Variant, difference: str | None) -> None:
        """Let a variant run alone from now on, or drop it."""
        if difference is None:
            entry.rehearsed.add(id(variant))
            return
        entry.variants.remove(variant)
        entry.failures += 1
        if entry.failures > PATIENCE:
            self._refuse(entry, f"a replay does not do the same: {difference}.")

    def _add(self, entry: Entry, log: Log, result: Any, args: Any) -> None:
        """Compile the way that the log shows."""
        if len(entry.variants) >= VARIANTS:
            self._refuse(entry, f"Python took more than {VARIANTS} ways through it.")
            return
        try:
            variant = self._compiled(log, result, args)
        except UnreplayableError as error:
            entry.failures += error.passing
            if not error.passing or entry.failures > PATIENCE:
                self._refuse(entry, str(error))
        else:
            entry.variants.append(variant)
            self._latest = variant

    def _compiled(self, log: Log, result: Any, args: Any) -> Variant:
        reason = log.reason or taken_but_not_returned(log, result)
        if reason is not None:
            raise UnreplayableError(reason)
        lowered = lower(log, result)
        plan = Plan(lowered)
        name = getattr(self.step, "__name__", "step")
        source = Source(
            plan, name if name.isidentifier() else "step", _argument_names(self.step, lowered),
            bare=not isinstance(result, tuple | list | dict),
        )  # fmt: skip
        rehearsal = dict(source.names)
        for line in lowered.lines:
            if isinstance(line, Host):
                rehearsal[source.objects[id(line.function)][1]] = _nothing
        return Variant(
            source.function(source.names), source.function(rehearsal), source.text, lowered, plan,
            _finisher(result),
        )  # fmt: skip

    def _changed(self, variant: Variant, log: Log, result: Any) -> str | None:
        """What the log of another run says that is not in the one that was compiled."""
        lowered = lower(log, result)
        for ours, theirs in zip(variant.lowered.constants, lowered.constants):
            same = ours is theirs or (
                type(ours) is type(theirs)
                and np.array_equal(ours, theirs, equal_nan=np.asarray(ours).dtype.kind in "fc")
            )
            if not same:
                return f"a constant changed from {ours!r:.40} to {theirs!r:.40}"
        if len(lowered.constants) != len(variant.lowered.constants):
            return "it computed something else"
        return None


def _nothing() -> None:
    """What a rehearsal does in place of `each_time`, which the step has just done."""


class State:
    """All that compiled steps change and that outlives them."""

    def __init__(self, programs: Sequence[Lowered]) -> None:
        self.generators = list({id(one): one for p in programs for one in p.generators}.values())
        self.gradients = list(dict.fromkeys(node for p in programs for node in p.gradients))
        self.replaced = list(dict.fromkeys(node for p in programs for node, _ in p.replaced))
        roots: dict[int, Any] = {}
        for line in [line for p in programs for line in p.lines]:
            if isinstance(line, Call):
                written = line.args[0] if line.kind == WRITES else line.out
                if isinstance(written, Traced) and written.storage.kind == FIXED:
                    roots[id(written.storage.root)] = written.storage.root
        self.arrays = list(roots.values())

    def now(self) -> Any:
        return (
            [array.copy() for array in self.arrays],
            [node.value for node in self.replaced],
            [node.gradient() for node in self.gradients],
            [one.bit_generator.state for one in self.generators],
        )

    def restore(self, state: Any) -> None:
        arrays, values, gradients, generators = state
        for array, value in zip(self.arrays, arrays):
            array[...] = value
        for node, value in zip(self.replaced, values):
            node.value = value
        for node, value in zip(self.gradients, gradients):
            node.grad = value
        for one, value in zip(self.generators, generators):
            one.bit_generator.state = value

    def difference(self, before: Any, after: Any, then: Any) -> str | None:
        """What is not the same in two states that one state led to."""
        for kind, old, one, other in zip(("array", "data", "gradient"), before, after, then):
            largest = max([_largest(a) for a in one if a is not None], default=0.0)
            for start, a, b in zip(old, one, other):
                if (a is None) != (b is None) or (
                    a is not None and not agree(a, b, start, largest * (kind == "gradient"))
                ):
                    return f"another {kind} of shape {np.shape(a)}"
        if after[3] != then[3]:
            return "another number of random draws"
        return None


# How far two runs of one step may be apart: much more than rounding, and much less than a mistake.
APART = 1e-2


def _largest(array: Any) -> float:
    return float(np.max(np.abs(array), initial=0)) if array.dtype.kind in "fc" else 0.0


@np.errstate(all="ignore")  # scratch memory may hold anything
def agree(a: Any, b: Any, start: Any = None, scale: float = 0.0) -> bool:
    """Whether two results are the same up to rounding, measured by how far they moved.

    What ``scale`` has as its largest number was computed beside them: a gradient that is 0 but for
    the rounding of such numbers may be any other rounding of them.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    if np.array_equal(a, b, equal_nan=True):
        return True
    finite, dtype = np.isfinite(a), a.dtype
    if not np.array_equal(finite, np.isfinite(b)):
        return False
    wide = np.result_type(a, np.float64)
    a, b = a[finite].astype(wide), b[finite].astype(wide)
    moved = a if start is None else a - start[finite]
    rounding = 64 * np.finfo(dtype).eps * (np.linalg.norm(a) + scale * np.sqrt(a.size))
    return bool(np.linalg.norm(a - b) <= APART * np.linalg.norm(moved) + rounding)


def _difference(result: Any, ours: Any) -> str | None:
    theirs, mine = leaves(result), leaves(ours)
    if len(theirs) != len(mine):
        return "another number of results"
    for a, b in zip(theirs, mine):
        if isinstance(a, Tensor):
            a, b = a.data, b.data
        if isinstance(a, np.ndarray | float | int) and not agree(a, b):
            return f"another result of shape {np.shape(a)}"
    return None


# --------------------------------------------------------------------------------------------------
# Arguments and results
# --------------------------------------------------------------------------------------------------


def _signature(args: Any, options: Any) -> tuple[list[Any], Any]:
    """The arrays among the arguments, and what else must be the same."""
    arrays: list[Any] = []

    def part(leaf: Any) -> Any:
        if isinstance(leaf, Tensor | np.ndarray):
            arrays.append(leaf)
            return (type(leaf), leaf.shape, leaf.dtype.str, plain(leaf).strides)
        hashable = isinstance(leaf, int | float | str | bool | type(None))
        return (type(leaf), leaf if hashable else id(leaf))

    return arrays, repr(rebuild([list(args), options], part))


def _argument_names(step: Callable[..., Any], lowered: Lowered) -> list[str]:
    count = len(lowered.given)
    try:
        names = [
            one.name for one in inspect.signature(step).parameters.values()
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        ]  # fmt: skip
    except (TypeError, ValueError):
        names = []
    return [*names, *[f"x{i}" for i in range(count)]][:count]


def _unwrapped(result: Any) -> Any:
    """What a step returned while its arguments were watched, as it returns it otherwise."""
    return rebuild(
        result, lambda leaf: leaf.view(np.ndarray) if isinstance(leaf, np.ndarray) else leaf
    )


def _finisher(result: Any) -> Callable[[Any], Any] | None:
    """From a tuple of results to the nest that the step returns; None where that is the tuple."""
    if not isinstance(result, tuple | list | dict):
        return None
    if type(result) is tuple and all(not isinstance(one, tuple | list | dict) for one in result):
        return None
    return lambda results: like(result, iter(results))


def _numbers_around(step: Callable[..., Any]) -> Callable[[], tuple[Any, ...]]:
    """Reads the numbers that the step takes from the variables around it."""
    code = getattr(step, "__code__", None)
    if code is None:
        return tuple
    cells = [
        cell for cell in getattr(step, "__closure__", None) or () if _is_number(_content(cell))
    ]
    space = getattr(step, "__globals__", {})
    names = [name for name in code.co_names if _is_number(space.get(name))]
    if not cells and not names:
        return tuple
    return lambda: (*[cell.cell_contents for cell in cells], *[space.get(one) for one in names])


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float, bool, str)
