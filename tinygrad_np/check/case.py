"""A recorded loss, the arrays that were given for its nodes, and what plausible mistakes need to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..backward import by_order, reach, sweep
from ..core import Node, parameter_names
from ..drawing import formula
from .rules import Array, Edit, Pass, Span, norm
from .watching import Position


@dataclass(frozen=True)
class Facts:
    """What is known besides the record itself.

    Attributes
    ----------
    names : dict
        What nodes are called.
    series : dict
        The nodes of a loop, by the name of the variable.
    positions : dict
        Where in the user's code each node was recorded; nodes of one place are those of a loop.
    stale : sequence of (str, ndarray)
        Arrays at hand that are no part of this forward pass, and what they are called.
    rewritten : dict
        What else an array held after it was written into.
    written : dict
        For the gradient of a node, the operations of the user's own expression for it.
    """

    names: Mapping[Node, str]
    series: Mapping[str, Sequence[Node]] = field(default_factory=dict)
    positions: Mapping[Node, Position | None] = field(default_factory=dict)
    stale: Sequence[tuple[str, Array]] = ()
    rewritten: Mapping[Node, Sequence[Array]] = field(default_factory=dict)
    written: Mapping[Node, Sequence[Node]] = field(default_factory=dict)

    def moved(self, copies: Mapping[Node, Node]) -> Facts:
        """The same for a copy of the record."""

        def by(found: Mapping[Node, Any]) -> dict[Node, Any]:
            return {copies[node]: value for node, value in found.items() if node in copies}

        series = {
            name: [copies[node] for node in nodes if node in copies]
            for name, nodes in self.series.items()
        }
        return replace(
            self, names=by(self.names), series=series, positions=by(self.positions),
            rewritten=by(self.rewritten), written=by(self.written),
        )  # fmt: skip


@dataclass
class Case:
    """One way to read the given arrays.

    Attributes
    ----------
    given : dict
        The arrays of the right shape, in the order of the report.
    theirs : dict
        All given arrays.
    local : Pass
        What the right rule makes of ``given``.
    near : dict
        For each given node how far, in norm, rounding may set an array from that.
    carried : float
        The constant that the intermediate gradients carry.
    dead : tuple of Edit
        Ways that stay closed.
    stopped : bool
        Whether not all plausible mistakes were tried, as there were too many steps.
    """

    loss: Node
    facts: Facts
    given: dict[Node, Array]
    theirs: dict[Node, Array]
    local: Pass
    near: dict[Node, float]
    carried: float = 1.0
    dead: tuple[Edit, ...] = ()
    stopped: bool = False
    consumers: dict[Node, list[Node]] = field(init=False)
    spans: dict[Node, Span] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.consumers = {}
        self.nodes = reach([self.loss])
        for node in self.nodes:
            for parent in dict.fromkeys(node.inputs):
                if parent.needs:
                    self.consumers.setdefault(parent, []).append(node)

    @property
    def names(self) -> Mapping[Node, str]:
        return self.facts.names

    def name(self, node: Node) -> str:
        if node in self.names:
            return self.names[node]
        if node.primitive is None:
            return f"array{np.shape(node.value)}"
        text = formula.expression(node, self.names)
        return text if len(text) <= 40 else f"a {node.primitive.name} of shape {node.value.shape}"

    def same(self, node: Node, made: Array | None) -> bool:
        """Whether an array is the given one but for rounding."""
        there = self.theirs[node]
        if made is None or made.shape != there.shape or not np.isfinite(there).all():
            return False
        size, right = norm(there), norm(self.local.arrived[node])
        # What is 0 but for rounding has no size.
        larger = size / right if right > self.near[node] else 1.0
        return norm(made - there) <= self.near[node] * max(1.0, larger)

    def span(self, target: Node) -> Span:
        """The way to ``target`` from the nearest given nodes."""
        if target not in self.spans:
            inside, ends, todo = {target}, set(), [target]
            for node in todo:
                for one in self.consumers.get(node, []):
                    if one in self.given or one is self.loss:
                        ends.add(one)
                    elif one not in inside:
                        inside.add(one)
                        todo.append(one)
            steps = sorted({*inside, *ends} - {target}, key=by_order, reverse=True)
            self.spans[target] = Span(target, tuple(steps), frozenset(inside))
        return self.spans[target]

    @cached_property
    def start(self) -> dict[Node, Array]:
        """What the backward pass starts from at each end of a span."""
        return {self.loss: np.ones_like(self.loss.value)} | self.given

    def siblings(self, node: Node) -> list[Node]:
        """The nodes that the same place in the code recorded in one call; in order."""
        return self._places.get((self.facts.positions.get(node), node.primitive), [node])

    def relatives(self, node: Node) -> list[Node]:
        """The nodes that the same place in the code recorded in any call."""
        position = self.facts.positions.get(node)
        return (
            [node] if position is None else self._places.get((position[:2], node.primitive), [node])
        )

    def of_one_line(self, node: Node, among: Sequence[Node]) -> list[Node]:
        """Those of some nodes that the same line recorded in one call."""
        position = self.facts.positions.get(node)
        if position is None:
            return [node]

        def line(one: Node) -> Any:
            other = self.facts.positions.get(one)
            return None if other is None else (other[0], *other[2:])

        return [one for one in among if line(one) == line(node)]

    @cached_property
    def _places(self) -> dict[Any, list[Node]]:
        found: dict[Any, list[Node]] = {}
        for node in reversed(self.nodes):
            position = self.facts.positions.get(node)
            if position is not None:
                found.setdefault((position, node.primitive), []).append(node)
                found.setdefault((position[:2], node.primitive), []).append(node)
        return found

    def edges(self, target: Node) -> Iterator[list[tuple[Node, Node]]]:
        """The edges of a span, (node, argument): each alone, and with those of the same place."""
        span = self.span(target)
        done: set[tuple[Node, ...]] = set()
        for node in sorted(span.inside, key=by_order):
            for consumer in self.consumers.get(node, []):
                if consumer not in self.local.arrived:
                    continue
                yield [(consumer, node)]
                i = consumer.inputs.index(node)
                for group in (self.siblings(consumer), self.relatives(consumer)):
                    alike = [(one, one.inputs[i]) for one in group]
                    key = tuple(one for one, _ in alike)
                    if len(alike) > 1 and key not in done:
                        done.add(key)
                        yield [(a, b) for a, b in alike if b.needs and a in self.local.arrived]

    @cached_property
    def batch(self) -> set[int]:
        """The lengths that every intermediate matrix has: what a batch can be."""
        shapes = [
            set(node.value.shape) for node in self.local.arrived
            if node.primitive is not None and node.value.ndim >= 2 and node in self._data
        ]  # fmt: skip
        found = set.intersection(*shapes) if shapes else set()
        return {n for n in found or self._rows if n > 1}

    @cached_property
    def _rows(self) -> set[int]:
        """The lengths of the arrays that are no parameters."""
        given = [
            one.value.shape for node in self.nodes for one in node.inputs
            if one.primitive is None and not one.needs and np.ndim(one.value)
        ]  # fmt: skip
        return {n for shape in given for n in (shape[0], shape[-1])}

    @cached_property
    def lengths(self) -> set[int]:
        """What a mean may have been taken over: axes and sizes of the data and of the results."""
        shapes = [
            node.value.shape for node in self.local.arrived
            if node.primitive is not None and node in self._data
        ]  # fmt: skip
        found = {n for shape in shapes for n in (*shape, int(np.prod(shape)))}
        return {n for n in found if n > 1} | self.batch

    @cached_property
    def divided(self) -> set[int]:
        """The lengths that a mean in the loss is, or may be, taken over."""
        divisors = set()
        for node in self.nodes:
            kind = node.primitive.name if node.primitive is not None else ""
            if kind == "mean" and node.value.size:
                divisors.add(node.inputs[0].value.size // node.value.size)
            elif kind in ("divide", "multiply"):
                numbers = [
                    float(one.value)
                    for one in node.inputs
                    if np.ndim(one.value) == 0 and not one.needs
                ]
                divisors |= {round(c if kind == "divide" else 1 / c) for c in numbers if c}
        return {n for n in self.lengths if any(d > 1 and d % n == 0 for d in divisors)}

    @cached_property
    def _data(self) -> set[Node]:
        """What depends on something besides parameters and numbers."""
        found: set[Node] = set()
        nodes = sorted({one for node in self.nodes for one in (node, *node.inputs)}, key=by_order)
        for node in nodes:
            outside = node.primitive is None and not node.needs and np.ndim(node.value) > 0
            indexed = any(isinstance(one, np.ndarray) for one in (node.params or {}).values())
            if outside or indexed or any(one in found for one in node.inputs):
                found.add(node)
        return found

    def penalty(self, node: Node) -> bool:
        """Whether a node and what becomes of it depends on parameters only, up to a sum with the loss."""
        if node in self._data:
            return False
        after = self.consumers.get(node, [])
        return all(one.value.size == 1 if one in self._data else self.penalty(one) for one in after)

    def arrays(self, shape: tuple[int, ...]) -> list[tuple[Node, Array]]:
        """The named values of a shape, in the order of computation."""
        return [(one, one.value) for one in self._named if np.shape(one.value) == shape]

    @cached_property
    def _named(self) -> list[Node]:
        known = {one for node in self.nodes for one in (node, *node.inputs) if one in self.names}
        return sorted(
            (n for n in known if getattr(n.value, "dtype", np.dtype(int)).kind == "f"), key=by_order
        )


def raw(
    node: Node, into: Node, g: Array, swap: Callable[[str, Any], Any] = lambda name, value: value
) -> Array | None:
    """What one argument's formula gives before broadcasting is undone; ``swap`` changes what it reads."""
    primitive = node.primitive
    assert primitive is not None
    total = None
    for i, one in enumerate(node.inputs):
        if one is not into:
            continue
        rule = primitive.formulas.get("xs" if primitive.variadic else primitive.arguments[i])
        if rule is None:
            return None
        values = [each.value for each in node.inputs]
        known = dict(zip(primitive.arguments, values)) | (node.params or {}) | (node.saved or {})
        known |= {"y": node.value, "i": i, "xs": values}
        known = {name: swap(name, value) for name, value in known.items()} | {"g": g}
        part = np.asarray(rule(*[known[name] for name in parameter_names(rule)]))
        total = part if total is None else total + part
    return total


def reads(node: Node, into: Node) -> tuple[str, ...]:
    """What the formula of an argument reads."""
    primitive = node.primitive
    assert primitive is not None
    if primitive.variadic:
        return ()
    rule = primitive.formulas.get(primitive.arguments[node.inputs.index(into)])
    return parameter_names(rule) if rule is not None else ()


def between(case: Case, z: Node, a: Node) -> list[Node]:
    """The nodes after ``z`` up to ``a`` if together they are a function of ``z`` alone; else none."""
    block = [node for node in reach([a], [z]) if z.order < node.order]
    inside = {*block, z}
    closed = all(one in inside or not one.needs for node in block for one in node.inputs)
    ends = all(
        one in inside for node in block if node is not a for one in case.consumers.get(node, [])
    )
    return block[::-1] if closed and ends else []


def slope(block: Sequence[Node], z: Node, a: Node) -> Array | None:
    """The derivative of ``a`` by ``z`` if it is elementwise."""
    if any(node.value.shape != z.value.shape for node in block):
        return None
    ones = np.ones_like(a.value)
    tilted = np.random.default_rng(0).uniform(0.5, 1.5, a.value.shape)
    found, other = (
        np.asarray(sweep([a], [g], wanted=[z], partial=True)[z]) for g in (ones, tilted)
    )
    return found if np.allclose(other, tilted * found, rtol=1e-9, atol=1e-12) else None


def again(block: Sequence[Node], z: Node, point: Array) -> tuple[list[Node], Node]:
    """The block computed at another point, and the node that holds the point."""
    copies = {z: Node(point, True)}
    for node in block:
        assert node.primitive is not None
        inputs = tuple(copies.get(one, one) for one in node.inputs)
        value = node.primitive.fn(*[one.value for one in inputs], **(node.params or {}))
        saved = None
        if node.primitive.residuals:
            value, *rest = value
            saved = dict(zip(node.primitive.residuals, rest))
        copies[node] = Node(np.asarray(value), True, node.primitive, inputs, node.params, saved)
    return [copies[node] for node in block], copies[z]


def slope_at(block: Sequence[Node], z: Node, point: Array) -> Array | None:
    """The derivative of an elementwise block at another point."""
    if point.shape != z.value.shape:
        return None
    moved, there = again(block, z, point)
    return slope(moved, there, moved[-1])


def ratio(a: Array, b: Array) -> float:
    """The c for which ``c * b`` is nearest to ``a``."""
    square = float(np.vdot(b, b)) if a.shape == b.shape else 0.0
    return float(np.vdot(a, b)) / square if square else 1.0
