"""From the log of a step to NumPy calls on stand-ins: the formulas of each operation, called again.

The array-only twins of VJP formulas are what runs, as in the eager backward pass, so that a compiled
step computes the same numbers. An operation whose function does more than NumPy calls is kept whole,
as one call.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from ..backward import added_rows, between, reach, unbroadcast
from ..core import Node, Primitive, Tensor, parameter_names
from ..derivation.layout import identifier
from ..tree import leaves, rebuild
from .log import (
    ArrayCode,
    Assignment,
    Branch,
    Check,
    Delivery,
    Given,
    Gradient,
    HostCode,
    Log,
    Sweep,
    Touch,
    UnreplayableError,
    Write,
)
from .rewrites import BACKWARD, FORWARD
from .traced import (
    FIXED,
    GIVEN,
    INTO,
    MAKES,
    VIEW,
    WRITES,
    Call,
    Storage,
    Tape,
    Traced,
    UntraceableError,
    empty,
    examples,
)
from .traced import found as found_in

ndarray = np.ndarray
# What a step may return besides Tensors and arrays.
KNOWN: Final = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)


class Guard(NamedTuple):
    """The way Python took holds while the value is what it was."""

    value: Traced
    expected: bool
    note: str = "if"


class Host(NamedTuple):
    """A function of nothing to be called."""

    function: Callable[[], Any]
    note: str = "each time"


class Store(NamedTuple):
    """``leaf.data = value``."""

    leaf: Node
    value: Any
    note: str = "data"


class Result(NamedTuple):
    """One leaf of what the step returns: its kind, the stand-in, and for constants the object."""

    kind: (
        str  # "tensor", "cut" (one that needs a gradient), "array", "number", "scalar", "constant"
    )
    value: Any


class Lowered(NamedTuple):
    """What `lower` makes of a log.

    Attributes
    ----------
    lines : list of Call, Guard, Host or Store
    given : list of (Traced, bool)
        The arguments that are arrays, and whether each came as a Tensor.
    leaves : list of (Node, ndarray, bool)
        Tensors whose arrays the calls are bound to, and whether they need a gradient.
    replaced : list of (Node, Traced)
        Tensors whose array is read anew each time, since the step sets it.
    gradients : dict of Node to Traced or None
        What is in ``.grad`` at the end.
    clean : list of Node
        Tensors whose ``.grad`` must be None when the step begins.
    results : list of Result
    generators : list of numpy.random.Generator
        What random numbers are drawn from.
    constants : list
        Numbers and arrays that are none of the above: they were the same whenever the step ran.
    touched : list of Node
        Tensors whose arrays the step writes into.
    """

    lines: list[Any]
    given: list[tuple[Traced, bool]]
    leaves: list[tuple[Node, Any, bool]]
    replaced: list[tuple[Node, Traced]]
    gradients: dict[Node, Traced | None]
    clean: list[Node]
    results: list[Result]
    generators: list[np.random.Generator]
    constants: list[Any]
    touched: list[Node]


def lower(
    log: Log, result: Any, exact: bool = False, moved: frozenset[Node] = frozenset()
) -> Lowered:
    """The calls of a step that was logged, and what it returned; see `compile` for ``exact``.

    The arrays of the tensors ``moved`` are read anew each time.
    """
    with np.errstate(all="ignore"):  # what an example gives rise to says nothing of a run
        return Lowering(log, exact, moved).run(result)


class Lowering:
    """The work of `lower`.

    Attributes
    ----------
    tape : Tape
    notes : dict
        What the rewrite of an operation leaves for that of its VJP.
    """

    def __init__(self, log: Log, exact: bool, moved: frozenset[Node] = frozenset()) -> None:
        self.log = log
        self.tape = Tape(exact)
        self.lines = self.tape.calls
        self.values: dict[Node, Any] = {}
        self.arrays: dict[int, tuple[Any, Traced]] = {}  # by identity
        self.places: dict[Any, Traced] = {}  # by address, shape, strides and dtype
        self.regions: list[tuple[int, int, Any, Traced]] = []  # by place in memory, sorted
        self.leaves: dict[Node, Any] = {}
        self.gradients: dict[Node, Traced | None] = {}
        self.passing: dict[Node, Traced | None] = {}  # gradients of leaves that the step makes
        self.clean: dict[Node, None] = {}
        self.generators: dict[int, np.random.Generator] = {}
        self.constants: list[Any] = []
        self.touched: dict[Node, None] = {}
        self.counts: Counter[str] = Counter()
        self.notes: dict[Node, Any] = {}
        self.result: Any = None
        self.given: list[tuple[Traced, bool]] = []
        for array, node in log.given:
            stand_in = Traced(self.tape, array, Storage(GIVEN, array.nbytes))
            self.given.append((stand_in, node is not None))
            self._know(array, stand_in)
            if node is not None:
                self.values[node] = stand_in
        self.replaced: dict[Node, Traced | None] = dict.fromkeys(moved)
        for event in log.events:
            if isinstance(event, Assignment):
                self.replaced.setdefault(event.leaf)
        for node, value in (*log.reads, *log.handed_of):
            if isinstance(value, ndarray) and self._stays(node):
                if node in self.replaced:
                    self._know(value, self.value(node))
                else:
                    self.leaves[node] = value

    def run(self, result: Any) -> Lowered:
        handlers: dict[type, Callable[[Any], None]] = {
            Node: self._operation, Sweep: self._sweep, Delivery: self._delivery,
            Gradient: self._gradient, Assignment: self._assignment, Branch: self._branch,
            ArrayCode: self._array_code, HostCode: self._host_code,
            Touch: self._touch, Check: self._check, Write: self._write,
        }  # fmt: skip
        self.result = result
        for event in self.log.events:
            handlers[type(event)](event)
        results: list[Result] = []
        rebuild(result, lambda leaf: results.append(self._result(leaf)))
        return Lowered(
            self.lines, self.given, [(node, one, node.needs) for node, one in self.leaves.items()],
            [(node, one) for node, one in self.replaced.items() if one is not None],
            self.gradients, list(self.clean), results, list(self.generators.values()), self.constants,
            list(self.touched),
        )  # fmt: skip

    # -- values ------------------------------------------------------------------------------------

    def _know(self, array: Any, value: Traced) -> None:
        """Remember the stand-in of an array, by identity and by place in memory."""
        if not isinstance(array, ndarray):
            return
        self.arrays[id(array)] = (array, value)
        self.places[_place(array)] = value
        if array.size and value.strides == array.strides:
            low, high = byte_bounds(array)
            at = bisect_right(self.regions, low, key=lambda region: region[0])
            self.regions.insert(at, (low, high, array, value))

    def value(self, node: Node) -> Any:
        """The stand-in of a node; a number as it is."""
        node = self.log.same.get(node, node)
        if node in self.values:
            return self.values[node]
        if not isinstance(node.value, ndarray):
            self.constants.append(node.value)
            return node.value
        if node in self.replaced:
            found = Traced(self.tape, node.value, Storage(GIVEN, node.value.nbytes))
            self.replaced[node] = found
        else:
            found = self.located(node.value)
            if found.storage.kind == FIXED:
                if self._stays(node):
                    self.leaves[node] = node.value
                else:
                    self.constants.append(node.value)
        found.label = found.label or (node.name and identifier(node.name))
        self.values[node] = found
        return found

    def _stays(self, node: Node) -> bool:
        """Whether it is a leaf that was there before the step, which may be given another array."""
        return node.primitive is None and (node.needs or self.log.is_old(node))

    def located(self, array: Any) -> Traced:
        """The stand-in of an array: one that was computed, a view of one, or an array that stays."""
        known = self.arrays.get(id(array))
        if known is not None:
            return known[1]
        if array.size and _place(array) in self.places:
            return self.places[_place(array)]
        region = self._region(array)
        if region is None:
            return self.tape.fixed(array)
        base, value = region
        if (
            array.shape == base.shape
            and array.strides == base.strides
            and array.dtype == base.dtype
        ):
            return value
        offset = array.ctypes.data - byte_bounds(base)[0]  # of its first element, not its lowest
        rows = array.flags.c_contiguous and base.flags.c_contiguous
        if rows and array.size == base.size and array.dtype == base.dtype:
            return value.reshape(array.shape)  # type: ignore[no-any-return]
        return self.tape.call(  # type: ignore[no-any-return]
            part_of, (value, offset, array.shape, array.strides, array.dtype.str), {}, VIEW
        )

    def _region(self, array: Any) -> tuple[Any, Traced] | None:
        if not array.size or not self.regions:
            return None
        low, high = byte_bounds(array)
        at = bisect_right(self.regions, low, key=lambda region: region[0])
        # Regions may nest: a view that was computed lies within what it is a view of.
        for first, last, base, value in reversed(self.regions[max(0, at - 8) : at]):
            if first <= low and high <= last:
                return base, value
        return None

    def parameter(self, value: Any) -> Any:
        """A parameter of an operation, with stand-ins for arrays that depend on the arguments."""
        if isinstance(value, ndarray):
            found = self.located(value.view(ndarray))
            if found.storage.kind != FIXED:
                return found
            self.constants.append(value)
            return value
        if type(value) in (tuple, list):
            return type(value)([self.parameter(part) for part in value])
        if isinstance(value, slice):
            self.parameter((value.start, value.stop, value.step))
        if isinstance(value, int | float):
            self.constants.append(value)
        return value

    # -- who reads what ----------------------------------------------------------------------------

    @cached_property
    def _readers(self) -> dict[Node, list[Node]]:
        """For each node the operations that it is an input of."""
        readers: dict[Node, list[Node]] = {}
        for event in self.log.events:
            for one in event.inputs if isinstance(event, Node) else ():
                readers.setdefault(self.log.same.get(one, one), []).append(event)
        return readers

    @cached_property
    def _otherwise_read(self) -> tuple[set[Node], list[Any]]:
        """Nodes and arrays that are spoken of past the inputs of operations."""
        events = self.log.events
        told = [one.params if isinstance(one, Node) else one for one in events]
        found = leaves([told, self.result, self.log.reads])
        nodes = {one for one in found if isinstance(one, Node)}
        nodes |= {one.node for one in found if isinstance(one, Tensor)}
        nodes |= {node for one in events if isinstance(one, Sweep) for node in one.arrived}
        return nodes, [one for one in found if isinstance(one, ndarray)]

    def only_reader(self, node: Node) -> Node | None:
        """The operation that alone reads a node; None if others do, or if it is spoken of elsewhere."""
        readers = self._readers.get(node, [])
        nodes, arrays = self._otherwise_read
        alone = (
            len(readers) == 1 and node not in nodes
            and not any(np.may_share_memory(node.value, one) for one in arrays)
        )  # fmt: skip
        return readers[0] if alone else None

    # -- operations --------------------------------------------------------------------------------

    def _operation(self, node: Node) -> None:
        primitive = node.primitive
        assert primitive is not None
        self.tape.note = primitive.name
        inputs = tuple([self.value(one) for one in node.inputs])
        params = {key: self.parameter(value) for key, value in (node.params or {}).items()}
        made = self._rewritten(primitive, inputs, params, node)
        if made is None:
            made = self._traced(primitive, inputs, params, node)
        if made is None:
            made = self._whole(primitive, inputs, params, node)
        y, residuals = made
        self.counts[primitive.name] += 1
        y.label = node.name or f"{primitive.name}{self.counts[primitive.name]}"
        self.values[node] = y
        self._know(node.value, y)
        for name, residual in residuals.items():
            residual.label = residual.label or f"{name}{self.counts[primitive.name]}"
            self.values[_Residual(node, name)] = residual  # type: ignore[index]

    def _rewritten(
        self, primitive: Primitive, inputs: tuple[Any, ...], params: dict[str, Any], node: Node
    ) -> Any:
        """What a rewrite makes of an operation; None if there is none for these arguments."""
        rewrite = FORWARD.get(primitive)
        if rewrite is None or self.tape.exact:
            return None
        mark = self.tape.mark()
        try:
            return rewrite(self, node, *inputs, **params)
        except UntraceableError:
            self.tape.take_back(mark)
            return None

    def guard(self, value: Traced) -> None:
        """Let the compiled function do nothing unless ``value`` is true."""
        self.lines.append(Guard(value, True, self.tape.note))

    def _traced(
        self, primitive: Primitive, inputs: tuple[Any, ...], params: dict[str, Any], node: Node
    ) -> Any:
        """What an operation's function makes of stand-ins; None if that does not work."""
        if any(isinstance(value, np.random.Generator) for value in params.values()):
            return None
        mark = self.tape.mark()
        try:
            made = primitive.fn(*inputs, **params)
        except Exception:  # whatever a stand-in cannot do, the whole operation can
            self.tape.take_back(mark)
            return None
        y, *rest = made if primitive.residuals else (made,)
        all_traced = all(isinstance(one, Traced) for one in (y, *rest))
        if all_traced and (y.shape, y.dtype) == (node.value.shape, node.value.dtype):
            return y, dict(zip(primitive.residuals, rest))
        self.tape.take_back(mark)
        return None

    def _whole(
        self, primitive: Primitive, inputs: tuple[Any, ...], params: dict[str, Any], node: Node
    ) -> Any:
        """An operation as one call of its function."""
        for value in params.values():
            if isinstance(value, np.random.Generator):
                self.generators[id(value)] = value
        for value in _flat(params):
            if isinstance(value, Traced) and value.dtype == bool:
                raise UnreplayableError(
                    f"the shape of a result of {primitive.name} depends on values (a mask as an index)."
                )
        arrays = [one for one in inputs if isinstance(one, Traced)]
        example: Any = node.value
        if primitive.residuals:
            example = (example, *[(node.saved or {}).get(name) for name in primitive.residuals])
            if any(one is None for one in example):
                example = primitive.fn(*examples(inputs), **examples(params))
        kind = VIEW if primitive.view and arrays and _shares(node.value, node.inputs) else MAKES
        if kind == VIEW and primitive.residuals:
            kind = MAKES
        made = self.tape.call(primitive.fn, inputs, params, kind, example)
        if primitive.residuals:
            y, *rest = made
            return y, dict(zip(primitive.residuals, rest))
        return made, {}

    # -- the way back ------------------------------------------------------------------------------

    def _sweep(self, event: Sweep) -> None:
        wanted = event.wanted
        nodes = reach(event.outputs, wanted if event.partial and wanted else ())
        useful = None if wanted is None else between(nodes, wanted)
        targets = frozenset(wanted or ())
        pending: dict[Node, Any] = {}
        for node, g in zip(event.outputs, event.cotangents):
            self._add(pending, node, self._cotangent(g))
        arrived: dict[Node, Any] = {}
        for node in nodes:
            g = pending.pop(node, None)
            if g is None:
                continue
            if node.hooks:
                raise UnreplayableError(f"there is a hook (or retain_grad) on {node.label}.")
            if node in targets:
                arrived[node] = g
            self._pull(node, g, pending, useful)
        arrived |= {leaf: g for leaf, g in pending.items() if wanted is None or leaf in targets}
        for node, array in event.arrived.items():
            if node.hooks:
                raise UnreplayableError(f"there is a hook on {node.label}.")
            g = arrived.get(node)
            if g is None:
                raise UnreplayableError(
                    f"the step sets requires_grad of {node.label} to False after backward() gave it a "
                    "gradient. Set it back before the step ends."
                )
            if isinstance(g, Traced):
                self.arrays[id(array)] = (array, g)  # of one number, it may be no ndarray
                self._know(array, g)

    def _cotangent(self, g: Any) -> Any:
        if isinstance(g, Tensor):
            return self.value(g.node)
        if not isinstance(g, ndarray):
            return g
        found = self.located(g)
        return g if found.storage.kind == FIXED else found

    def _add(self, pending: dict[Node, Any], node: Node, g: Any) -> None:
        pending[node] = pending[node] + g if node in pending else g

    def _pull(self, node: Node, g: Any, pending: dict[Node, Any], useful: set[Node] | None) -> None:
        primitive = node.primitive
        assert primitive is not None
        self.tape.note = f"back through {primitive.name}"
        values = [self.value(one) for one in node.inputs]
        known = dict(zip(primitive.arguments, values)) | {
            "xs": values,
            "g": g,
            "y": self.value(node),
        }
        known |= {key: self.parameter(value) for key, value in (node.params or {}).items()}
        for name in primitive.residuals:
            known[name] = self.values.get(_Residual(node, name))  # type: ignore[call-overload]
        found = self._pulled_by_rewrite(primitive, node, known)
        for i, parent in enumerate(node.inputs):
            name = "xs" if primitive.variadic else primitive.arguments[i]
            formula = primitive.formulas.get(name)
            if useful is None or not self.tape.exact:  # as the eager pass does
                formula = primitive.twins.get(name) or formula
            if formula is None or not parent.needs or (useful is not None and parent not in useful):
                continue
            if found is not None:
                d = found[name]
            else:
                asked = [(known | {"i": i})[one] for one in parameter_names(formula)]
                d = self._derivative(formula, asked)
            if d.shape != parent.value.shape:
                d = self._unbroadcast(d, parent.value.shape)
            if isinstance(d, Traced) and d.label is None:
                d.label = f"d{identifier(self._name(parent))}"
            self._add(pending, parent, d)

    def _pulled_by_rewrite(self, primitive: Primitive, node: Node, known: dict[str, Any]) -> Any:
        rewrite = BACKWARD.get(primitive)
        if rewrite is None or self.tape.exact:
            return None
        mark = self.tape.mark()
        try:
            return rewrite(self, node, *[known[one] for one in parameter_names(rewrite)[2:]])
        except UntraceableError:
            self.tape.take_back(mark)
            return None

    def _name(self, node: Node) -> str:
        value = self.values.get(node)
        return node.name or (value.label if isinstance(value, Traced) else None) or "x"

    def _derivative(self, formula: Callable[..., Any], asked: list[Any]) -> Any:
        """What a VJP formula makes of stand-ins, or the formula as one call."""
        mark = self.tape.mark()
        if not any(isinstance(one, np.random.Generator) for one in asked):
            try:
                if formula is added_rows and isinstance(asked[0], Traced):
                    return rows_added(*asked)
                return _as_array(formula(*asked))
            except Exception:  # as in _traced
                self.tape.take_back(mark)
        return self.tape.call(formula, tuple(asked))

    def _unbroadcast(self, g: Any, shape: tuple[int, ...]) -> Any:
        """As `backward.unbroadcast`, whose sum of rows calls BLAS on arrays alone."""
        if isinstance(g, Traced) and g.ndim == 2 and shape == g.shape[1:]:
            return rows_added(g)
        return unbroadcast(g, shape)

    # -- what the step keeps -----------------------------------------------------------------------

    def _delivery(self, event: Delivery) -> None:
        for leaf, g, before, after in event.leaves:
            kept: Any = self._kept(leaf, g)
            # What the step made, as of an argument for a penalty on its gradient, is gone after it.
            made_here = not self.log.is_old(leaf)
            gradients = self.passing if made_here else self.gradients
            if before is not None:
                held: Any = gradients.get(leaf)
                if held is None:
                    raise UnreplayableError(
                        f"backward() adds to a gradient that {leaf.label} has from before the step: "
                        "call zero_grad() in the step, before the first backward()."
                    )
                kept = self._kept(leaf, held + kept)
            elif leaf not in gradients and not made_here:
                self.clean[leaf] = None
            gradients[leaf] = kept
            self._know(after, kept)

    def _kept(self, leaf: Node, g: Any) -> Traced:
        """A cotangent as an array of the leaf's dtype, in memory of its own."""
        known = self.arrays.get(id(g))
        taken = [one.example for one in self.gradients.values() if one is not None]
        value = g if isinstance(g, Traced) else np.asarray(g) if known is None else known[1]
        if not isinstance(value, Traced):
            self.constants.append(value)
        alone = (
            isinstance(value, Traced) and value.dtype == leaf.value.dtype
            and value.storage.kind not in (GIVEN, FIXED) and value.flags.forc
            and not any(np.may_share_memory(value.example, one) for one in taken)
        )  # fmt: skip
        if alone:
            return value  # type: ignore[return-value]
        fresh = empty(self.tape, leaf.value.shape, leaf.value.dtype)
        self.tape.note = "gradient"
        self.tape.write(np.copyto, fresh, value)
        return fresh

    def _gradient(self, event: Gradient) -> None:
        if event.value is None:
            self.gradients[event.leaf] = None
            return
        if isinstance(event.value, Tensor):
            kept = self._kept(event.leaf, self.value(event.value.node))
        elif id(event.value) in self.arrays:
            kept = self._kept(event.leaf, event.value)
        else:
            raise UnreplayableError(
                f"the gradient of {event.leaf.label} was set to an array that Python computed. "
                "Compute it in tg.on_arrays, or clip with nn.clip_norm and nn.clip_value."
            )
        self.gradients[event.leaf] = kept
        self._know(event.array, kept)

    def _assignment(self, event: Assignment) -> None:
        given = event.value
        if isinstance(given, Tensor):
            value: Any = self.value(given.node)
        else:
            known = self.arrays.get(id(given))
            if known is None:
                raise UnreplayableError(
                    f"the data of {event.leaf.label} was set to an array that Python computed. "
                    "Let an optimizer of nn do it, or set it to a Tensor.",
                    passing=True,
                )
            value = known[1]
        if not isinstance(value, Traced):
            raise UnreplayableError(f"the data of {event.leaf.label} was set to a number.")
        self.tape.note = "data"
        if value.dtype != event.leaf.value.dtype:
            value = value.astype(event.leaf.value.dtype)
        self.lines.append(Store(event.leaf, value))
        self.values[event.leaf] = value

    def _write(self, event: Write) -> None:
        there = self.value(event.array)
        value = self.value(event.value.node) if isinstance(event.value, Tensor) else event.value
        if not isinstance(value, Traced):
            value = self.parameter(value)
        self.parameter(event.index)
        if event.leaf is not None:
            self.touched[event.leaf] = None
        if there.storage.kind == GIVEN:
            raise UnreplayableError(
                "the step writes into an array that another is set for each time."
            )
        self.tape.note = "data"
        if event.index is Ellipsis:
            self.tape.write(np.copyto, there, value)
        else:
            self.tape.write(operator.setitem, there, event.index, value)

    def _touch(self, event: Touch) -> None:
        self.touched[event.leaf] = None

    def _branch(self, event: Branch) -> None:
        value = self.value(event.node)
        if isinstance(value, Traced):
            self.lines.append(Guard(value, event.value))
            self._bring_forward(
                "Python branches on a value after the step has changed a parameter. Branch before, or "
                "outside of the step."
            )

    def _check(self, event: Check) -> None:
        """Let the compiled function leave integers outside the limits to the step as it is."""
        found = self.located(event.array)
        if found.storage.kind == FIXED:
            return
        # As unsigned numbers the negative ones are the largest.
        kind = np.dtype(f"u{found.itemsize}")
        self.tape.note = "labels"
        largest = np.maximum.reduce(found.view(kind.type), axis=None)
        self.guard(largest < kind.type(min(event.limit, np.iinfo(kind).max)))
        self._bring_forward(
            "labels are computed from what the step changes, and checked after that. Compute them "
            "before, or outside of the step."
        )

    def _bring_forward(self, refusal: str) -> None:
        """Let the guard that is the last line come before all that changes anything.

        Where it does not hold the step as it is follows, which begins from the beginning.
        """
        first = next((i for i, line in enumerate(self.lines) if changes(line)), None)
        if first is None:
            return
        guard = self.lines.pop()
        wanted: set[Any] = {guard.value, guard.value.storage}
        moves: list[bool] = []
        for line in reversed(self.lines[first:]):
            moves.append(isinstance(line, Call) and not wanted.isdisjoint(_made(line)))
            if moves[-1]:
                wanted |= {*line.reads, *_memory(line.reads)}
        moved: list[Any] = []
        stays: list[Any] = []
        there: set[Any] = set()  # what the lines that stay have read, written or drawn from
        for line, goes in zip(self.lines[first:], reversed(moves)):
            drawn = {
                one for one in getattr(line, "args", ()) if isinstance(one, np.random.Generator)
            }
            if goes and line.kind != VIEW and not there.isdisjoint(_memory(_made(line)) | drawn):
                raise UnreplayableError(refusal)
            (moved if goes else stays).append(line)
            there |= set() if goes else _memory(touched(line)) | drawn
        if any(changes(line) for line in moved) or _memory(map(written_by, stays)) & wanted:
            raise UnreplayableError(refusal)
        self.lines[first:] = [*moved, guard, *stays]

    def _array_code(self, event: ArrayCode) -> None:
        self.tape.note = getattr(event.function, "__name__", "array code")
        args = rebuild(list(event.args), self._effect_argument)
        options = rebuild(event.options, self._effect_argument)
        code = getattr(event.function, "__code__", None)
        named = dict(zip(code.co_varnames[: code.co_argcount], args)) if code else {}
        for name, value in (named | options).items():
            if isinstance(value, Traced) and value.label is None:
                value.label = name
        mark = self.tape.mark()
        self.tape.writable = True
        try:
            made = event.function(*args, **options)
        except Exception as error:
            self.tape.take_back(mark)
            raise UnreplayableError(
                f"{self.tape.note} is more than NumPy calls: {error}"
            ) from error
        finally:
            self.tape.writable = False
        for array, value in zip(leaves(event.result), leaves(made), strict=True):
            if isinstance(value, Traced):
                self.arrays[id(array)] = (array, value)

    def _effect_argument(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self.value(leaf.node)
        if not isinstance(leaf, ndarray):
            return leaf
        found = self.located(leaf)
        if found.storage.kind == FIXED:
            self.constants.append(leaf)
        return found

    def _host_code(self, event: HostCode) -> None:
        self.lines.append(Host(event.function))

    def _result(self, leaf: Any) -> Result:
        if isinstance(leaf, Tensor):
            value = self.value(leaf.node)
            own = isinstance(value, Traced) and value.storage.kind != FIXED
            kind = "cut" if leaf.requires_grad else "tensor"
            return Result(kind, value) if own else Result("constant", leaf)
        if isinstance(leaf, ndarray):
            known = self.arrays.get(id(leaf))
            if known is None and isinstance(leaf, Given):
                known = (leaf, self.value(leaf._tensor().node))
            if known is not None:
                return Result("scalar" if id(leaf) in self.log.scalars else "array", known[1])
            if self._region(leaf) is not None:
                return Result("array", self.located(leaf))
            raise UnreplayableError("the step returns an array that Python computed.")
        if isinstance(leaf, np.generic):
            for event in reversed(self.log.events):  # array[()] is a number without a past
                is_number = isinstance(event, Node) and event.value.ndim == 0
                if (
                    is_number
                    and event in self.values
                    and event.value.dtype == leaf.dtype
                    and event.value == leaf
                ):
                    return Result("scalar", self.value(event))
        for node, value in self.log.reads:
            if value is leaf and type(leaf) in (int, float):
                return Result("number", self.value(node))
        if not isinstance(leaf, KNOWN) and not callable(leaf):
            raise UnreplayableError(
                f"the step returns a {type(leaf).__name__}, and a replay could not make another one. "
                "Return Tensors, arrays and numbers, in tuples, lists and dicts."
            )
        if isinstance(leaf, int | float | complex | np.generic) and self.log.gave:
            raise UnreplayableError(
                f"the step returns the number {leaf!r:.20}, and Python may have computed it from an "
                "array that it took out of a tensor. Return what NumPy makes of the array, or a Tensor."
            )
        return Result("constant", leaf)


def _place(array: Any) -> Any:
    return array.ctypes.data, array.shape, array.strides, array.dtype


class _Residual(NamedTuple):
    """The key of a by-product of an operation."""

    node: Node
    name: str


def touched(line: Any) -> Iterable[Traced]:
    """The stand-ins that a line reads or writes."""
    if isinstance(line, Call):
        return line.touches
    return found_in(line.value) if isinstance(line, Guard | Store) else ()


def changes(line: Any) -> bool:
    """Whether a line changes what outlives the step."""
    return isinstance(line, Store | Host) or written_by(line) is not None


def written_by(line: Any) -> Traced | None:
    """The array that stays and that a line writes into, if there is one."""
    if not isinstance(line, Call):
        return None
    written = line.out if line.kind != WRITES else line.args[0]
    stays = isinstance(written, Traced) and written.storage.kind == FIXED
    return written if stays else None


def _made(call: Call) -> set[Any]:
    """What a call makes or writes into, and its memory."""
    made = call.args[:1] if call.kind == WRITES else call.touches[len(call.reads) :]
    return {*made, *_memory(made)}


def _memory(values: Iterable[Any]) -> set[Storage]:
    """The memory of stand-ins, but for that of arguments, which nobody writes into."""
    return {one.storage for one in values if isinstance(one, Traced) and one.storage.kind != GIVEN}


def _as_array(d: Any) -> Any:
    return d if isinstance(d, Traced | ndarray) else np.asarray(d)


def _shares(array: Any, inputs: Sequence[Node]) -> bool:
    return isinstance(inputs[0].value, ndarray) and np.may_share_memory(array, inputs[0].value)


def _flat(params: dict[str, Any]) -> list[Any]:
    leaves: list[Any] = []
    rebuild(params, leaves.append)
    return leaves


def rows_added(g: Traced) -> Any:
    """``g.sum(axis=0)`` of a matrix, by BLAS where it can, as `backward.added_rows`."""
    if g.dtype.char not in "fd":
        return g.sum(axis=0)
    return g.tape.call(np.dot, (g.tape.filled(1, g.shape[:1], g.dtype), g), {}, INTO)


def part_of(
    base: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: str
) -> Any:
    """The array that lies within another's memory, so many bytes after its beginning."""
    owners = (base, base.T, base.base, getattr(base.base, "T", None))
    owner = next((one for one in owners if one is not None and one.flags.c_contiguous), None)
    if owner is None:
        raise UntraceableError("a part of an array that is not contiguous")
    start = byte_bounds(base)[0] - byte_bounds(owner)[0]
    return np.ndarray(shape, dtype, owner, start + offset, strides)
