"""A recorded step as plain data: what was computed, and the backward pass, as a list of steps.

The backward pass is not written here: the VJP formulas are run on Tensors, and what they record is
read like the forward pass. Which lengths grow with the batch is found by running the recorded step
once more with more rows, and comparing the two records number by number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from .backward import pull_useful, reach
from .core import Node, Primitive, Tensor, handle, mode, ndarray, parameter_names
from .errors import GradientError, TensorError
from .ops.arithmetic import divide
from .ops.index import read
from .ops.random import dropout_mask
from .ops.shape import reshape_to
from .transforms import alias


class Length(int):
    """A whole number that grows with the batch: ``times`` the number of its rows."""

    times: int

    def __new__(cls, value: int, times: int = 1) -> Length:
        length = super().__new__(cls, value)
        length.times = times
        return length

    def __repr__(self) -> str:
        """As source, in which ``N`` is the number of rows."""
        return "N" if self.times == 1 else f"{self.times} * N"

    __str__ = __repr__


Shape = tuple[int, ...]


class Names:
    """What the user calls tensors and arrays: by ``name=``, by variable, or by both.

    Attributes
    ----------
    nodes : dict
        Names of recorded values.
    arrays : dict
        Names of plain arrays by identity; they are held, so that no other takes their place.
    """

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        self.nodes: dict[Node, str] = {}
        self.arrays: dict[int, tuple[str, Any]] = {}
        for name, value in (given or {}).items():
            self.add(name, value)

    def add(self, name: str, value: Any) -> None:
        """Name a tensor, an array, or those in a list, tuple or dict; the first name counts."""
        if isinstance(value, Tensor):
            self.nodes.setdefault(value.node, name)
            self.hold(value.node.value, name)
        elif isinstance(value, ndarray):
            self.hold(value, name)
        elif isinstance(value, list | tuple):
            for i, one in enumerate(value):
                self.add(f"{name}.{i}", one)
        elif isinstance(value, dict):
            for key, one in value.items():
                self.add(str(key), one)

    def hold(self, array: Any, name: str) -> None:
        if array.ndim:
            self.arrays.setdefault(id(array), (name, array))

    def of(self, node: Node) -> str | None:
        return node.name or self.nodes.get(node)

    def of_array(self, array: Any) -> str | None:
        """The name of an array, or of the one it is a view of all elements of."""
        base = array.base
        whole = isinstance(base, ndarray) and base.size == array.size
        found = self.arrays.get(id(array)) or (self.arrays.get(id(base)) if whole else None)
        return None if found is None else found[0]


@dataclass(eq=False, slots=True)
class Step:
    """One value: an input, a number, or what an operation makes of other values.

    Attributes
    ----------
    operation : Primitive or None
        What computes it; None for an input, a number or None itself.
    inputs, params
        Its arguments; an array among the parameters (an index) is a `Step`, too.
    shape, dtype
        Of the value; lengths that grow with the batch are of type `Length`.
    value
        What was computed when the step was recorded; None in a step made by rewriting others.
    name : str or None
        The user's name.
    source : Step or None
        For a step of a backward pass, the step whose VJP recorded it.
    by_formula : bool
        Whether a VJP formula recorded it, and not the user's own code.
    """

    operation: Primitive | None = None
    inputs: tuple[Step, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    shape: Shape = ()
    dtype: np.dtype[Any] | None = None
    value: Any = None
    name: str | None = None
    source: Step | None = None
    by_formula: bool = False


@dataclass(eq=False)
class Backward:
    """One backward pass.

    Attributes
    ----------
    seeds : dict
        For each output (for each variable, in a second pass) the cotangent that the pass starts
        from: 1, or an input.
    cotangents : dict
        The complete cotangent of each step that a gradient reaches.
    residuals : list of (Step, str, Step)
        The by-products that VJPs read: of which step, their name, and how they are computed.
    """

    seeds: dict[Step, Step]
    cotangents: dict[Step, Step]
    residuals: list[tuple[Step, str, Step]]


@dataclass(eq=False)
class Program:
    """A recorded computation and its backward passes.

    Attributes
    ----------
    inputs : list of Step
        The arrays it is given, in the order of their first use.
    steps : list of Step
        Every computed value in the order of computation, the backward passes last.
    outputs, wanted : list of Step
        What is computed, and with respect to what it is differentiated.
    passes : list of Backward
        The backward pass; for ``order=2`` also that of the gradients.
    reads : list of (Step, object)
        Values that Python took out of tensors while the step was recorded, in a branch or as a
        number; the record holds as long as they are what they were.
    rows : Length or None
        The length of the batch.
    """

    inputs: list[Step]
    steps: list[Step]
    outputs: list[Step]
    wanted: list[Step]
    passes: list[Backward]
    reads: list[tuple[Step, Any]]
    rows: Length | None


def record(
    outputs: Sequence[Tensor],
    wanted: Sequence[Tensor],
    names: Names | None = None,
    given: Sequence[Tensor] = (),
    reads: Sequence[tuple[Node, Any]] = (),
    by_formula: AbstractSet[Node] = frozenset(),
    order: int = 1,
) -> Program:
    """The program of recorded outputs: all that they were computed from, and the way back.

    Parameters
    ----------
    outputs : sequence of Tensor
        A single number starts its backward pass with 1; any other output brings its own cotangent.
    wanted : sequence of Tensor
        What to differentiate with respect to.
    names : Names, optional
        The user's names.
    given : sequence of Tensor, optional
        Inputs in the order of the user, whether they are used or not.
    reads : sequence, optional
        Nodes whose values Python has read, and what it got.
    by_formula : set of Node, optional
        Nodes that a transform within the user's function recorded on its way back.
    order : {1, 2}
        2 differentiates the gradients once more, each with a cotangent of its own.

    Raises
    ------
    GradientError
        If an output needs no gradient, or an input was changed since it was used.
    """
    targets = [output.node for output in outputs]
    for node in targets:
        if not node.needs:
            raise GradientError(
                f"derive: {node.label} needs no gradient: nothing it was computed from has "
                "requires_grad=True, or it was computed under no_grad()."
            )
    tape = _Tape(targets, [w.node for w in wanted], [node for node, _ in reads], order)
    longer = _with_more_rows(tape, [tensor.node for tensor in given], names or Names())
    reader = _Reader(tape, longer, names or Names(), by_formula)
    leaves = [node for node in _by_use(tape) if node.primitive is None]
    first = [reader.step(node) for node in [*[tensor.node for tensor in given], *leaves]]
    steps = [reader.step(node) for node in tape.nodes()]
    return Program(
        inputs=[one for one in dict.fromkeys([*first, *reader.inputs]) if one in reader.inputs],
        steps=[step for step in dict.fromkeys(steps) if step.operation is not None],
        outputs=[reader.step(node) for node in targets],
        wanted=[reader.step(tensor.node) for tensor in wanted],
        passes=[reader.backward(one) for one in tape.passes],
        reads=[(reader.step(node), value) for node, value in reads],
        rows=reader.rows,
    )


# --------------------------------------------------------------------------------------------------
# Running the formulas
# --------------------------------------------------------------------------------------------------


class _Pass:
    """One backward pass, recorded: each node it made, and the node whose VJP made it."""

    def __init__(self, starts: Mapping[Node, Node]) -> None:
        # Two variables may share one gradient, and each of them has a direction of its own.
        self.seeds = {key: Tensor(np.ones_like(start.value)).node for key, start in starts.items()}
        self.made: dict[Node, Node] = {}
        self.cotangents: dict[Node, Node] = {}
        self.residuals: list[tuple[Node, str, Node]] = []
        fresh: list[Node] = []
        pending: dict[Node, Any] = {}
        with (
            mode(recording=True, everything=True, watchers=(fresh.append,), audit=None),
            np.errstate(all="ignore"),
        ):
            for key, start in starts.items():
                g = handle(self.seeds[key])
                pending[start] = pending[start] + g if start in pending else g
            for node in reach([*starts.values()]):
                g = pending.pop(node, None)
                if g is None:
                    continue
                g = _hooked(node, g)
                self.cotangents[node] = g.node
                self.residuals += _residuals(node)
                pull_useful(node, g, pending, None, True)
                self.made |= dict.fromkeys(fresh, node)
                fresh.clear()
        self.cotangents |= {node: g.node for node, g in pending.items()}


def _hooked(node: Node, g: Any) -> Any:
    """The cotangent after the user's hooks, if they change it; `retain_grad` (0) only looks."""
    for key, hook in (node.hooks or {}).items():
        result = hook(node, g) if key else None
        g = g if result is None else result
    return g


def _residuals(node: Node) -> list[tuple[Node, str, Node]]:
    primitive = node.primitive
    assert primitive is not None
    known = dict(zip(primitive.arguments, [_lifted(one) for one in node.inputs])) | (
        node.params or {}
    )
    return [
        (node, name, formula(*[known[one] for one in parameter_names(formula)]).node)
        for name, formula in primitive.residuals.items()
    ]


def _lifted(node: Node) -> Any:
    return handle(node) if isinstance(node.value, ndarray) else node.value


class _Tape:
    """The nodes of a computation, and those of its backward passes."""

    def __init__(
        self, outputs: list[Node], wanted: list[Node], others: Iterable[Node], order: int
    ) -> None:
        self.outputs, self.wanted = outputs, wanted
        self.others = list(others)
        self.forward = ancestors([*outputs, *self.others, *wanted])
        self.passes: list[_Pass] = []
        starts = {node: node for node in outputs}
        for _ in range(order):
            self.passes.append(_Pass(starts))
            found = self.passes[-1].cotangents
            starts = {node: found[node] for node in wanted if node in found and found[node].needs}

    def nodes(self) -> list[Node]:
        """All nodes; a residual follows the arguments it is computed from."""
        return [*self.forward, *[new for one in self.passes for new in one.made]]


def ancestors(targets: Iterable[Node]) -> list[Node]:
    """Every node that the targets were computed from, and they themselves, leaves first."""
    todo = list(targets)
    seen = set(todo)
    while todo:
        for parent in todo.pop().inputs:
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    # A leaf that was changed is younger than what was computed from it, but still comes first.
    return sorted(seen, key=lambda node: (node.primitive is not None, node.order))


def _index_of(view: Any, base: Any) -> tuple[Any, ...] | None:
    """The index with which a view takes whole axes of an array, and one place of each other."""
    if view.dtype != base.dtype or not 0 < view.ndim < base.ndim or not base.flags.c_contiguous:
        return None
    start = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    for kept in combinations(range(base.ndim), view.ndim):
        index: list[Any] = [slice(None)] * base.ndim
        rest = start
        for axis in range(base.ndim):
            if axis not in kept:
                index[axis], rest = divmod(rest, base.strides[axis])
        inside = all([isinstance(i, slice) or i < n for i, n in zip(index, base.shape)])
        found = base[tuple(index)] if inside and rest == 0 else None
        if found is not None and (found.shape, found.strides) == (view.shape, view.strides):
            return tuple(index)
    return None


# --------------------------------------------------------------------------------------------------
# Which lengths are the batch's
# --------------------------------------------------------------------------------------------------


def _with_more_rows(tape: _Tape, given: Sequence[Node], names: Names) -> _Longer | None:
    """The same computation on more rows, if it can be told which inputs have the batch's rows."""
    leaves = [n for n in [*given, *_by_use(tape)] if n.primitive is None and np.ndim(n.value) > 0]
    constant = [node for node in leaves if not node.needs]
    named = [node for node in constant if names.of(node) or names.of_array(node.value)]
    data = named or [node for node in given if np.ndim(node.value) > 0] or constant or leaves
    data.sort(key=lambda node: np.ndim(node.value) < 2)
    if not data or len(data[0].value) == 0:
        return None
    rows = len(data[0].value)
    equal = [node for node in leaves if len(node.value) == rows]
    for batch in ({data[0], *[node for node in equal if not node.needs]}, set(equal)):
        try:
            return _Longer(tape, batch, rows)
        except (TensorError, ValueError, IndexError):
            continue  # these inputs do not share the batch's axis: shapes no longer fit
    return None


def _by_use(tape: _Tape) -> list[Node]:
    """The leaves in the order of their first use."""
    return list(dict.fromkeys([one for node in tape.forward for one in node.inputs]))


class _Longer:
    """A computation repeated with ``2 N + 1`` rows: its tape, and which node answers to which."""

    def __init__(self, tape: _Tape, batch: set[Node], rows: int) -> None:
        self.rows = rows
        self.twin: dict[Node, Node] = {}
        for node in tape.forward:
            self.twin[node] = self._again(node, node in batch)
        self.tape = _Tape(
            [self.twin[node] for node in tape.outputs], [self.twin[node] for node in tape.wanted],
            [self.twin[node] for node in tape.others], len(tape.passes),
        )  # fmt: skip
        for one, other in zip(tape.passes, self.tape.passes):
            for a, b in zip(one.made, other.made, strict=True):
                if a.primitive is not b.primitive:
                    raise ValueError("the formulas branch on the shape")
                self.twin[a] = b
                for mine, twin in zip(a.inputs, b.inputs, strict=True):
                    if self.twin.setdefault(mine, twin) is not twin:
                        raise ValueError("the formulas branch on the shape")
            self.twin |= dict(zip(one.seeds.values(), other.seeds.values()))

    def _again(self, node: Node, longer: bool) -> Node:
        value = node.value
        if node.primitive is None:
            return Node(_more(value) if longer else value, node.needs)
        inputs = tuple([self.twin[one] for one in node.inputs])
        values = tuple([one.value for one in inputs])
        if node.primitive is dropout_mask:
            return Node(_more(value) if len(value) == self.rows else value)
        params = node.params or {}
        changed = {key: self._longer(key, one) for key, one in params.items()}
        try:
            y = node.primitive.compute(values, changed)
        except TensorError:  # a shape that only looked like the batch's
            y, changed = node.primitive.compute(values, params), params
        saved = None
        if node.primitive.residuals:
            y, *rest = y
            saved = dict(zip(node.primitive.residuals, rest))
        return Node(np.asarray(y), node.needs, node.primitive, inputs, changed, saved)

    def _longer(self, key: str, value: Any) -> Any:
        """A parameter for more rows: index arrays along the batch, and the first length of a shape."""
        if isinstance(value, ndarray):
            return _more(value) if value.ndim and len(value) == self.rows else value
        if key == "shape" and value and value[0] > 0 and value[0] % self.rows == 0:
            return (value[0] // self.rows * (2 * self.rows + 1), *value[1:])
        if isinstance(value, tuple) and any(isinstance(one, ndarray) for one in value):
            return tuple([self._longer("", one) for one in value])
        return value


def _more(value: Any) -> Any:
    return np.concatenate([value, value, value[:1]])


# --------------------------------------------------------------------------------------------------
# Reading the nodes
# --------------------------------------------------------------------------------------------------


class _Reader:
    """Turns nodes into steps; two arrays that are one in memory become one input."""

    def __init__(
        self, tape: _Tape, longer: _Longer | None, names: Names, by_formula: AbstractSet[Node]
    ) -> None:
        self.tape, self.longer, self.names, self.by_formula = tape, longer, names, by_formula
        self.rows = None if longer is None else Length(longer.rows)
        self.source = {new: old for one in tape.passes for new, old in one.made.items()}
        self.steps: dict[Node, Step] = {}
        self.arrays: dict[int, Step] = {}
        self.inputs: list[Step] = []
        for number, one in enumerate(tape.passes):
            for seed in one.seeds.values():
                self._seed(
                    seed, alone=len(one.seeds) == 1 and (number == 0 or len(tape.wanted) == 1)
                )

    def _seed(self, seed: Node, alone: bool) -> None:
        """The cotangent of a single number is 1; any other is an input."""
        if alone and seed.value.size == 1:
            self.steps[seed] = Step(shape=seed.value.shape, dtype=seed.value.dtype, value=1)
            return
        twin = seed if self.longer is None else self.longer.twin[seed]
        shape = self._param(seed.value.shape, twin.value.shape)
        self.steps[seed] = Step(shape=shape, dtype=seed.value.dtype, value=seed.value)
        self.inputs.append(self.steps[seed])

    def step(self, node: Node) -> Step:
        if node not in self.steps:
            for one in node.inputs:
                if one not in self.steps and one.primitive is not None:
                    raise AssertionError("nodes are read in the order of computation")
            self.steps[node] = self._read(node)
        return self.steps[node]

    def _read(self, node: Node) -> Step:
        twin = self.longer.twin.get(node) if self.longer is not None else None
        name = self.names.of(node)
        if node.primitive is None or node.primitive is dropout_mask:  # what was drawn is given
            name = name or ("mask" if node.primitive is dropout_mask else None)
            return self._leaf(node.value, name, twin and twin.value, node.needs)
        if node.primitive is alias:
            return self.step(node.inputs[0])
        source = self.source.get(node)
        by_rows = node.primitive is divide and (source is None or source.primitive is divide)
        if by_rows and self._is_rows(node.inputs[1].value):
            self.steps[node.inputs[1]] = Step(value=self.rows)
        inputs = tuple([self.step(one) for one in node.inputs])
        params = {
            key: self._param(value, (twin.params or {})[key] if twin is not None else value)
            for key, value in (node.params or {}).items()
        }
        shape = self._param(
            node.value.shape, twin.value.shape if twin is not None else node.value.shape
        )
        return Step(
            node.primitive, inputs, params, shape, node.value.dtype, node.value, name,
            None if source is None else self.steps[source],
            source is not None or node in self.by_formula,
        )  # fmt: skip

    def _leaf(self, value: Any, name: str | None, more: Any, needs: bool = False) -> Step:
        if not isinstance(value, ndarray) or (value.ndim == 0 and not needs and name is None):
            number = value if more is None else self._number(value, more)
            dtype = value.dtype if isinstance(value, ndarray | np.generic) else None
            return Step(value=number[()] if isinstance(number, ndarray) else number, dtype=dtype)
        name = name or self.names.of_array(value)
        base = value.base if isinstance(value.base, ndarray) else value
        known = self.arrays.get(id(base) if base.size == value.size else id(value))
        if known is not None and known.value.dtype == value.dtype:
            known.name = known.name or name
            if known.value.shape == value.shape:
                if more is not None:
                    known.shape = self._param(value.shape, np.shape(more))
                return known
            if np.array_equal(
                np.reshape(known.value, value.shape), value, equal_nan=value.dtype.kind == "f"
            ):
                return Step(
                    reshape_to, (known,), {"shape": value.shape}, value.shape, value.dtype, value
                )
        if name is None and base is not value:
            part = self._part(value, base, more)
            if part is not None:
                return part
        shape = self._param(value.shape, np.shape(more) if more is not None else value.shape)
        step = Step(shape=shape, dtype=value.dtype, value=value, name=name)
        self.arrays[id(value)] = self.arrays[id(base)] = step
        self.inputs.append(step)
        return step

    def _part(self, value: Any, base: Any, more: Any) -> Step | None:
        """An array that is ``x[:, 3]`` of another which the program is given, or which has a name."""
        index = _index_of(value, base)
        if index is None:
            return None
        of = self.arrays.get(id(base))
        shape = self._param(value.shape, value.shape if more is None else np.shape(more))
        if of is None or of.value is not base:
            name = self.names.of_array(base)
            if name is None:
                return None
            lengths = iter(shape)
            whole = tuple([
                next(lengths) if isinstance(one, slice) else n for one, n in zip(index, base.shape)
            ])  # fmt: skip
            of = self.arrays[id(base)] = Step(shape=whole, dtype=base.dtype, value=base, name=name)
            self.inputs.append(of)
        while index and index[-1] == slice(None):
            index = index[:-1]
        kept = index if len(index) > 1 else index[0]
        return Step(read, (of,), {"index": kept}, shape, value.dtype, value)

    def _param(self, value: Any, more: Any) -> Any:
        """A parameter with `Length`s, and with steps in place of arrays."""
        if isinstance(value, ndarray):
            return self._leaf(value, None, more)
        if type(value) is tuple and type(more) is tuple and len(value) == len(more):
            return tuple([self._param(a, b) for a, b in zip(value, more)])
        if isinstance(value, slice) and isinstance(more, slice):
            ends = [(value.start, more.start), (value.stop, more.stop), (value.step, more.step)]
            return slice(*[self._param(a, b) for a, b in ends])
        return self._number(value, more)

    def _is_rows(self, value: Any) -> bool:
        """Whether a number the user divides by is the length of the batch: ``len(x)`` was recorded
        as a number, so a small one may well be just that."""
        return type(value) in (int, float) and self.rows is not None and value == self.rows > 3

    def _number(self, value: Any, more: Any) -> Any:
        """A number, as a `Length` if it grows with the rows as a multiple of them."""
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if self.longer is None or isinstance(value, bool) or not whole:
            return value
        times = value / self.longer.rows
        if value == more or times != int(times) or more != times * (2 * self.longer.rows + 1):
            return value
        return Length(int(value), int(times))

    def backward(self, one: _Pass) -> Backward:
        return Backward(
            seeds={self.step(node): self.step(seed) for node, seed in one.seeds.items()},
            cotangents={self.step(node): self.step(g) for node, g in one.cotangents.items()},
            residuals=[(self.step(node), name, self.step(r)) for node, name, r in one.residuals],
        )
