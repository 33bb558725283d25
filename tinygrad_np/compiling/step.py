"""`compile`: when the compiled function runs, and when the step itself."""

from __future__ import annotations

import gc
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from threading import Lock
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from .. import core
from ..core import Node, Tensor, plain
from ..effects import Surroundings
from ..errors import ArgumentError, DtypeError, message
from ..tree import leaves, like, rebuild
from .around import NUMBERS, Around, equal
from .buffers import Plan
from .log import ArrayCode, Log, UnreplayableError, taken_but_not_returned
from .lowering import Host, Lowered, Store, lower, touched, written_by
from .source import MISS, Source
from .traced import FIXED, WRITES

P = ParamSpec("P")
R = TypeVar("R")

# So many ways through the step (Python's branches) are kept for arguments of the same shapes.
VARIANTS = 8
# So many sets of arguments are known at a time; and so many may come without one that was known.
ENTRIES, NEW = 64, 512
# So often may a step do what only its first runs do, such as to lay out an optimizer's state.
PATIENCE = 2
# So many runs must agree where Python may have read numbers of the arguments past the record; else one.
DOUBTS = 4
# What reads them so: arrays that these make need not be known to be computed from an argument.
PAST_THE_RECORD = frozenset({
    "array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "frombuffer", "memoryview",
    "choose", "eye", "full", "repeat", "take",
})  # fmt: skip


def compile(step: Callable[P, R], *, exact: bool = False, warn: bool = True) -> Compiled[P, R]:
    """The same function, but from its third call on as straight-line NumPy on reused memory.

    The first call runs the step as it is, the second keeps a log of it and writes the compiled
    function, and the third runs both from the same state and compares all that they return and
    change; so do three more if the step's code names ``np.asarray`` or its like. From then on the
    compiled function runs alone, for arguments of those shapes and dtypes; for others it begins
    anew. Numbers, texts and objects among the arguments must be the same ones.

    Parameters
    ----------
    step : callable
        A training step (forward, ``backward()``, ``optimizer.step()``), or any function of arrays
        and Tensors. Its Python code no longer runs once it is compiled: what it prints is printed
        in the first calls only.
    exact : bool
        Whether every number is to be that of the step as it is, to the bit. Otherwise sums may be
        taken in another order, for the speed of it.
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
        computed past the tensors, numbers drawn from ``np.random``, variables that the step itself
        changes. It then runs as it is, with the same results.

    Notes
    -----
    Unless ``exact``, long narrow arrays are laid out column by column, a bias is part of the product
    with its weights, and probabilities are divided by their sum last: NumPy then adds up in another
    order, and the results differ by rounding. A convolution's bias is added after the 2x2 maxima that
    follow it: where rounding makes two sums equal, the larger product wins, not the first sum.
    A branch on a tensor (``if loss > 10:``) is guarded: where it goes the other way, the step runs
    as it is and that way is captured, too. Gradients are left where the next run overwrites them
    and copied when ``.grad`` is read. Results are arrays of the caller's own, without a graph: a
    gradient that is to flow through one raises.

    What the step's code reads besides its arguments is watched: variables around it and those of
    functions that it calls, the attributes, lists and dicts that it names, the layers of models.
    When one is another, the step runs as it is and is captured once more. Of arrays that only
    Python reads the numbers are compared, of more than 4096 a sample. Not seen is what code reads
    by other ways, such as ``getattr`` with a computed name, files, the environment and the clock, nor
    what NumPy makes of an argument where no protocol of it tells, as in ``table[x]`` and ``buffer[:] =
    x``: where that was the same in the first calls and is another later, write ``tg.take(table, x)``.

    NumPy on the step's own arrays is replayed, too: on arguments, on ``loss.data``, on ``p.data`` and
    ``p.grad`` of a parameter, and so is ``p.data -= rate * p.grad``.

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
    >>> print(step.source.partition("    # power_of")[2].partition("# .grad")[0].rstrip())
    <BLANKLINE>
        square(multiply1, power_of1)
    <BLANKLINE>
        # sum
        sum1 = add_reduce(power_of1, axis=(0,))
    <BLANKLINE>
        # back through power_of
        positive(multiply1, v)
        multiply(two, v, v2)
        multiply(c, v2, dmultiply1)
    <BLANKLINE>
        # back through multiply
        multiply(dmultiply1, x, dw)
    """
    if not callable(step):
        raise DtypeError(message("compile", "a function", type(step).__name__))
    return Compiled(step, exact, warn)


def compile_again(step: Callable[..., Any], exact: bool, warn: bool) -> Compiled[..., Any]:
    """A copy of a compiled step: it compiles for itself."""
    return Compiled(step, exact, warn)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python from looking for garbage while as many objects are made that are none.

    Of 10,000 operations it takes half of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Variant:
    """One way through a step, compiled."""

    def __init__(
        self, source: Source, rehearsal: dict[str, Any], finish: Callable[[Any], Any] | None,
        around: Around,
    ) -> None:  # fmt: skip
        self.function = source.function(source.names)  # of the arrays among the arguments
        self.rehearsal = source.function(rehearsal)  # the same without the calls of `each_time`
        self.source = source.text
        self.left_nothing = source.left_nothing
        self.lowered = source.lowered
        self.finish = finish  # from the flat results to what the step returns
        self.around = around
        self.agreed = 0  # runs with the step as it is
        self.needed = DOUBTS if around.names & PAST_THE_RECORD else 1
        # Arguments that were the same whenever the step was logged, if it made arrays past the
        # record: these may come from them.
        self.pinned: dict[int, Any] = {}

    @property
    def rehearsed(self) -> bool:
        return self.agreed >= self.needed

    def run(self, arrays: Sequence[Any]) -> Any:
        """The results, or MISS, with the generators as they were."""
        for i, value in self.pinned.items():
            one = arrays[i]
            if not isinstance(one, np.ndarray | Tensor) or not equal(plain(one), value):
                return MISS
        return self._called(self.function, arrays)

    def shortcut(self, args: Sequence[Any]) -> Callable[..., Any]:
        """What runs it for arguments as these are, and gives MISS for others."""
        places = [i for i, one in enumerate(args) if isinstance(one, np.ndarray | Tensor)]
        alone = len(places) == len(args) and self.finish is None
        if alone and not (self.pinned or self.around.arrays or self.lowered.generators):
            return self.function
        others = [(i, one) for i, one in enumerate(args) if i not in places]

        def run(*args: Any) -> Any:
            if self.around.arrays and self.around.overwritten():
                return MISS
            if any(args[i] is not one for i, one in others):
                return MISS  # though it may be an equal number
            return self.run([args[i] for i in places])

        return run

    def rehearse(self, arrays: Sequence[Any]) -> Any:
        return self._called(self.rehearsal, arrays)

    def _called(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        before = [one.bit_generator.state for one in self.lowered.generators]
        try:
            results = function(*arrays)
        except core.NumPyError as error:
            if not self.left_nothing(error):
                raise
            results = MISS  # the step as it is says what is wrong
        if results is MISS:
            for one, state in zip(self.lowered.generators, before):
                one.bit_generator.state = state
            return MISS
        return results if self.finish is None else self.finish(results)

    def holds(self) -> bool:
        """Whether the variables that the step reads are what they were."""
        return (self.around.same() or self.around.changed() is None) and not (
            self.around.arrays and self.around.overwritten()
        )

    def fits(self) -> bool:
        """Whether it may run for some arguments, as things are now."""
        return self.holds() and all(
            node.value is array and node.needs is needs
            for node, array, needs in self.lowered.leaves
        )

    def pin(self, log: Log) -> None:
        """Let it run for no other numbers in arguments that did not differ from the last log's."""
        fixed = {}
        for i, ((old, _), (new, _)) in enumerate(zip(self.lowered.given, log.given)):
            if np.size(new) and equal(old.example, new):
                fixed[i] = np.array(new)
        self.pinned = fixed


class Entry:
    """What is known for arguments of the same shapes, dtypes and numbers."""

    def __init__(self) -> None:
        self.seen = False
        self.variants: list[Variant] = []
        self.failures = 0
        self.reason: str | None = None

    def add(self, variant: Variant) -> None:
        """Keep a variant, in place of one whose surroundings are gone."""
        if len(self.variants) >= VARIANTS:
            gone = next((one for one in self.variants if not one.fits()), None)
            if gone is None:
                raise UnreplayableError(f"Python took more than {VARIANTS} ways through it.")
            self.variants.remove(gone)
        self.variants.append(variant)

    def forget_unused(self) -> str | None:
        """Drop what was compiled and is of no use already; says why if that happens again and again."""
        for one in [one for one in self.variants if not one.rehearsed and not one.holds()]:
            self.variants.remove(one)
            self.failures += 1
            if self.failures > PATIENCE:
                name = one.around.changed() or "an array"
                return (
                    f"what the step reads in `{name}` differs from call to call, and a replay would "
                    "not read it. Give what changes as an argument: an array or a Tensor."
                )
        return None


class Compiled(Generic[P, R]):
    """A step that `compile` was given.

    Attributes
    ----------
    step : callable
        The step as it is.
    reason : str or None
        Why it runs as it is for the last arguments that it was called with.
    """

    def __init__(self, step: Callable[P, R], exact: bool, warn: bool) -> None:
        self.step = step
        self.exact = exact
        self.warn = warn
        self.reason: str | None = None
        self._entries: dict[Any, Entry] = {}
        self._latest: Variant | None = None
        self._fast: Callable[..., Any] | None = None
        self._same: Callable[[], bool] = bool
        self._count = 0
        self._new = 0  # sets of arguments in a row that were not known
        self._state = 0
        self._lock = Lock()
        update_wrapper(self, step, updated=())  # not its attributes, which may be called as ours

    def __call__(self, *args: P.args, **options: P.kwargs) -> R:
        if not self._lock.acquire(False):
            return self.step(
                *args, **options
            )  # its memory is in use, by another thread or a caller
        try:
            if (
                self._fast is not None and len(args) == self._count and not options
                and self._state == Surroundings.state and not core._active and self._same()
            ):  # fmt: skip
                try:
                    results = self._fast(*args)
                except core.NumPyError as error:
                    if self._latest is None or not self._latest.left_nothing(error):
                        raise
                    results = MISS  # the step as it is says what is wrong
                if results is not MISS:
                    return results  # type: ignore[no-any-return]
            return self._slowly(args, options)  # type: ignore[no-any-return]
        finally:
            self._lock.release()

    def __reduce__(self) -> Any:
        return compile_again, (self.step, self.exact, self.warn)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

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
        mode = core.current_mode()
        if mode.everything or mode.watchers or mode.audit is not None or mode.log is not None:
            return self.step(*args, **options)  # somebody wants to see it as it is
        arrays, key = _signature(args, options)
        entry = self._entry((key, Surroundings.state, mode.recording))
        self.reason = entry.reason
        if entry.reason is not None or not entry.seen:
            entry.seen = True  # shapes that come once are not worth a program
            return self.step(*args, **options)
        for variant in entry.variants:
            if variant.rehearsed and variant.holds():
                results = variant.run(arrays)
                if results is not MISS:
                    self._remember(variant, args, options)
                    return results
        return self._carefully(entry, args, options, arrays)

    def _entry(self, key: Any) -> Entry:
        """What is known for a key; of the keys that did not come for long nothing is kept."""
        if self._new > NEW:
            return self._entries[None]
        entry = self._entries.pop(key, None) or Entry()
        self._entries[key] = entry
        self._new = 0 if entry.seen else self._new + 1
        if self._new > NEW:
            self._entries = {None: entry}
            self._refuse(entry, "what it is given, or reads besides, is never twice the same.")
        elif len(self._entries) > ENTRIES:
            del self._entries[next(iter(self._entries))]
        return entry

    def _remember(self, variant: Variant, args: Any, options: Any) -> None:
        """Let the next call try this one first, past all that is slow."""
        self._latest = variant
        flat = all(isinstance(one, (np.ndarray, Tensor, *NUMBERS)) for one in args)
        usual = flat and not options and core.current_mode() == core.Mode()
        self._fast = variant.shortcut(args) if usual else None
        self._same = variant.around.same
        self._count = len(args)
        self._state = Surroundings.state

    def _refuse(self, entry: Entry, reason: str) -> None:
        entry.reason = self.reason = reason
        entry.variants.clear()
        self._fast = None
        if self.warn:
            name = getattr(self.step, "__name__", repr(self.step))
            warnings.warn(f"compile: {name} runs as it is: {reason}", stacklevel=_level())

    def _logged(self, log: Log, args: Any, options: Any) -> Any:
        """What the step returns as it is, with a log kept."""
        seen = [rebuild(one, log.argument) for one in args]
        named = {key: rebuild(one, log.argument) for key, one in options.items()}
        try:
            with log.recording():
                return self.step(*seen, **named)
        finally:
            log.give_back()

    def _carefully(self, entry: Entry, args: Any, options: Any, arrays: Sequence[Any]) -> Any:
        """Run the step as it is, and with its log rehearse a variant, or compile another one."""
        reason = entry.forget_unused()
        try:
            around = Around([self.step, *_objects([args, options])])
            if reason is not None:
                raise UnreplayableError(reason)
        except UnreplayableError as error:
            self._refuse(entry, str(error))
            return self.step(*args, **options)
        waiting = [one for one in entry.variants if not one.rehearsed or one.pinned]
        state = State([one.lowered for one in waiting])
        before = state.now()
        surroundings = Surroundings.state
        log = Log(around, self.exact)
        try:
            result = self._logged(log, args, options)
        except UnreplayableError as error:
            self._refuse(entry, str(error))
            return self.step(*args, **options)
        log.changed = log.changed or around.changed() or log.frozen()
        if Surroundings.state != surroundings:
            log.changed = log.changed or "an attribute of a Module"
        after = state.now()
        for variant in waiting:
            if not variant.holds():
                continue
            state.restore(before)
            try:
                ours = variant.rehearse(arrays)
                then = state.now()
            except Exception as error:  # the step has done its work already
                self._judge(entry, variant, f"{type(error).__name__}: {error}")
                return log.unwrapped(result)
            finally:
                state.restore(after)
            if ours is not MISS:
                difference = state.difference(before, after, then) or _difference(result, ours)
                try:
                    self._judge(entry, variant, self._changed(variant, log, result) or difference)
                except UnreplayableError as error:  # this run of the step is another case
                    self._judge(entry, variant, str(error))
                if variant.rehearsed:
                    self._remember(variant, args, options)
                return log.unwrapped(result)
        self._add(entry, log, result, around)
        return log.unwrapped(result)

    def _judge(self, entry: Entry, variant: Variant, difference: str | None) -> None:
        """Let a variant run alone from now on, or drop it."""
        if difference is None:
            variant.agreed += 1
            return
        entry.variants.remove(variant)
        entry.failures += 1
        if entry.failures > PATIENCE:
            self._refuse(entry, f"a replay does not do the same: {difference}.")

    def _add(self, entry: Entry, log: Log, result: Any, around: Around) -> None:
        """Compile the way that the log shows."""
        try:
            variant = self._compiled(entry, log, result, around)
            entry.add(variant)
        except UnreplayableError as error:
            entry.failures += error.passing
            if not error.passing or entry.failures > PATIENCE:
                self._refuse(entry, str(error))
        except (
            Exception
        ) as error:  # the step has done its work, whatever keeps it from being compiled
            self._refuse(entry, f"it cannot be compiled: {type(error).__name__}: {error}.")
        else:
            self._latest = variant

    @uncollected()
    def _compiled(self, entry: Entry, log: Log, result: Any, around: Around) -> Variant:
        reason = log.reason or taken_but_not_returned(log, result)
        if reason is not None:
            raise UnreplayableError(reason)
        moved = _moved(entry.variants) - {node for node, _ in log.user_reads}
        lowered = lower(log, result, self.exact, moved)
        _check_python(log, lowered, around, result)
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
        return Variant(source, rehearsal, _finisher(result), around)

    @uncollected()
    def _changed(self, variant: Variant, log: Log, result: Any) -> str | None:
        """What the log of another run says that is not in the one that was compiled."""
        moved = frozenset([node for node, _ in variant.lowered.replaced])
        try:
            lowered = lower(log, result, self.exact, moved)
        except UnreplayableError as error:
            return str(error).rstrip(".")
        made = False
        for ours, theirs in zip(variant.lowered.constants, lowered.constants):
            made = made or (isinstance(ours, np.ndarray | float) and ours is not theirs)
            same = ours is theirs or (
                type(ours) is type(theirs)
                and np.array_equal(ours, theirs, equal_nan=np.asarray(ours).dtype.kind in "fc")
            )
            if not same:
                return (
                    f"a constant changed from {_short(ours)} to {_short(theirs)}. Python computed it, "
                    "or NumPy in a way that leaves no record: for np.asarray(x, dtype) write "
                    "x.astype(dtype), for array[x] tg.take(array, x)"
                )
        if len(lowered.constants) != len(variant.lowered.constants):
            return "it computed something else"
        if lowered.gradients.keys() != variant.lowered.gradients.keys():
            return "it gave gradients to other tensors"
        table = variant.around.indexed() if made else None
        if table is not None:
            return (
                f"Python computed a constant, and takes elements from `{table}`, which leaves no record "
                f"if the places are an argument's: write tg.take({table}, places, axis=0)"
            )
        if made or variant.pinned:
            variant.pin(log)
        return None


def _moved(variants: Sequence[Variant]) -> frozenset[Node]:
    """Tensors that were given other arrays since variants were compiled: they may be again."""
    return frozenset([
        node for one in variants for node, array, _ in one.lowered.leaves
        if node.value is not array and node not in one.lowered.touched
    ])  # fmt: skip


def _check_python(log: Log, lowered: Lowered, around: Around, result: Any) -> None:
    """Refuse a step whose Python code did what a replay would not."""
    drawn = around.drawn(lowered.generators)
    if drawn is not None:
        raise UnreplayableError(
            f"the step draws from {drawn}, and a replay would not. Draw before it and give the "
            "numbers as an array, or use nn.Dropout or tg.dropout, which are replayed."
        )
    if log.changed is not None:
        raise UnreplayableError(
            f"the step changes `{log.changed}`, and a replay would not. Do it outside of the step, or "
            "in tg.each_time.", passing=True,
        )  # fmt: skip
    if around.overwritten():
        around.leave_out(_written(lowered))
        if around.overwritten():
            raise UnreplayableError(
                "the step writes into an array around it, and a replay would not. Do it in "
                "tg.on_arrays."
            )
    _check_reads(log, lowered, around, result)


def _check_reads(log: Log, lowered: Lowered, around: Around, result: Any) -> None:
    """Refuse a step that computes with arrays that change, and watch those that may."""
    handed = {id(leaf) for leaf in leaves(result)}
    for event in log.events:
        if isinstance(event, ArrayCode):
            handed |= {id(leaf) for leaf in leaves([event.args, event.options])}
    changing = {*lowered.touched, *[one.leaf for one in lowered.lines if isinstance(one, Store)]}
    for node, _ in log.handed_of:  # their arrays may have become plain ones
        if node not in changing:
            around.watch(node.value)
    around.leave_out([root for line in lowered.lines for root in _roots(line)])
    computed = {event for event in log.events if isinstance(event, Node)}
    for node, value in log.user_reads:
        own = log.same.get(node, node)
        if id(value) in handed or own in computed or type(node.value) is not np.ndarray:
            continue
        if own in changing:
            raise UnreplayableError(
                f"Python computes with the array of {node.label}, which the step changes, and a "
                "replay would not. Compute with the tensor, or do it in tg.on_arrays."
            )
        around.watch(node.value)


def _written(lowered: Lowered) -> list[Any]:
    """The arrays that stay and that the step writes into."""
    return [one for one in map(_written_by, lowered.lines) if one is not None]


def _written_by(line: Any) -> Any:
    """The array, as a whole, that stays and that a line writes into, if there is one."""
    written = written_by(line)
    return None if written is None else written.storage.root


def _roots(line: Any) -> list[Any]:
    """The arrays that a line reads where they are."""
    return [one.storage.root for one in touched(line) if one.storage.kind == FIXED]


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _nothing() -> None:
    """What a rehearsal does in place of `each_time`, which the step has just done."""


class State:
    """All that compiled steps change and that outlives them."""

    def __init__(self, programs: Sequence[Lowered]) -> None:
        self.generators = list({id(one): one for p in programs for one in p.generators}.values())
        self.gradients = list(dict.fromkeys(node for p in programs for node in p.gradients))
        stored = [line.leaf for p in programs for line in p.lines if isinstance(line, Store)]
        self.replaced = list(
            dict.fromkeys([*[node for p in programs for node, _ in p.replaced], *stored])
        )
        roots = {id(one): one for p in programs for one in _written(p)}
        self.arrays = list(roots.values())
        self.scratch = {one for p in programs for one in _scratch(p)}

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
        noise = self._noise(after[2])
        for array, a, b in zip(self.arrays, after[0], then[0]):
            if id(array) in noise or (noise and id(array) in self.scratch):
                np.copyto(b, a, where=noise.get(id(array), True))
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

    def _noise(self, gradients: Sequence[Any]) -> dict[int, Any]:
        """Where in the arrays parameters are whose gradient is 0 but for rounding.

        Adam and others divide by the gradient's size: such a parameter moves as far as the others, any
        way. A bias before batch normalisation is one.
        """
        found: dict[int, Any] = {}
        largest = max([_largest(g) for g in gradients if g is not None], default=0.0)
        for node, g in zip(self.gradients, gradients):
            for array in self.arrays if g is not None and g.dtype.kind == "f" else ():
                small = np.abs(g) <= 64 * np.finfo(g.dtype).eps * largest
                inside = array.flags.c_contiguous and np.may_share_memory(array, node.value)
                if small.any() and inside and node.value.flags.c_contiguous:
                    mask = found.setdefault(id(array), np.zeros(array.shape, bool)).reshape(-1)
                    start = (node.value.ctypes.data - array.ctypes.data) // array.itemsize
                    mask[start : start + g.size] = small.ravel()
        return found


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


def _scratch(lowered: Lowered) -> set[int]:
    """Arrays that stay, whose numbers are overwritten before they are read."""
    first: dict[int, bool] = {}
    for line in lowered.lines:
        written = _written_by(line)
        read = [one for one in _roots(line) if one is not written or line.kind == WRITES]
        for root in read:
            first.setdefault(id(root), False)
        if written is not None:
            first.setdefault(id(written), True)
    return {one for one, is_written in first.items() if is_written}


# --------------------------------------------------------------------------------------------------
# Arguments and results
# --------------------------------------------------------------------------------------------------


def _signature(args: Any, options: Any) -> tuple[list[Any], Any]:
    """The arrays among the arguments, and what else must be the same."""
    arrays: list[Any] = []

    def part(leaf: Any) -> Any:
        if type(leaf) is np.memmap:
            leaf = leaf.view(np.ndarray)
        if isinstance(leaf, Tensor | np.ndarray):
            arrays.append(leaf)
            needs = isinstance(leaf, Tensor) and leaf.requires_grad
            return (type(leaf), leaf.shape, leaf.dtype.str, plain(leaf).strides, needs)
        if isinstance(leaf, NUMBERS):
            return (type(leaf), repr(leaf))
        if isinstance(leaf, MethodType):  # made anew whenever it is read
            return (MethodType, id(leaf.__self__), id(leaf.__func__))
        return (type(leaf), id(leaf))  # what it holds is looked for in `Around`, which keeps it

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


def _level() -> int:
    """How many frames above the caller's the code is that called the compiled step."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        level, frame = level + 1, frame.f_back
    return level


def _objects(tree: Any) -> list[Any]:
    """What is neither an array nor a number in a nest of arguments."""
    return [
        one for one in leaves(tree)
        if not isinstance(one, (Tensor, np.ndarray, *NUMBERS))
    ]  # fmt: skip


def _finisher(result: Any) -> Callable[[Any], Any] | None:
    """From a tuple of results to the nest that the step returns; None where that is the tuple."""
    if not isinstance(result, tuple | list | dict):
        return None
    if type(result) is tuple and all(not isinstance(one, tuple | list | dict) for one in result):
        return None
    return lambda results: like(result, iter(results))
