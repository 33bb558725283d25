"""Which mistake was made: each plausible one is made on purpose, and kept if it gives the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..backward import by_order, pull_useful, reach, sweep, unbroadcast
from ..core import Node, Tensor, mode, parameter_names
from ..drawing import formula
from .findings import Diagnosis
from .rules import Array, Change, Mistake, Pass, norm, run


@dataclass
class Case:
    """A recorded loss, and the arrays that were given for some of its nodes.

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
        The constant that the intermediate gradients were divided by: a convention.
    others : dict
        Arrays at hand that are no part of the loss: those of an earlier pass, perhaps.
    """

    loss: Node
    names: Mapping[Node, str]
    given: dict[Node, Array]
    theirs: dict[Node, Array]
    local: Pass
    near: dict[Node, float]
    carried: float = 1.0
    others: Mapping[str, Array] = field(default_factory=dict)
    consumers: dict[Node, list[Node]] = field(init=False)

    def __post_init__(self) -> None:
        self.consumers = {}
        for node in reach([self.loss]):
            for parent in dict.fromkeys(node.inputs):
                if parent.needs:
                    self.consumers.setdefault(parent, []).append(node)

    def name(self, node: Node) -> str:
        if node in self.names:
            return self.names[node]
        return (
            formula.expression(node, self.names)
            if node.primitive
            else f"array{np.shape(node.value)}"
        )

    def same(self, node: Node, made: Array | None) -> bool:
        """Whether an array is the given one but for rounding."""
        there = self.theirs[node]
        if made is None or made.shape != there.shape or not np.isfinite(there).all():
            return False
        size, right = norm(there), norm(self.local.arrived[node])
        larger = (
            size / right if right > self.near[node] else 1.0
        )  # what is 0 but for rounding has no size
        return norm(made - there) <= self.near[node] * max(1.0, larger)

    def span(self, target: Node) -> list[Node]:
        """The nodes from ``target`` towards the loss, up to and with the nearest given ones."""
        found, todo = {target: None}, [target]
        for node in todo:
            for one in self.consumers.get(node, []):
                if one not in found:
                    found[one] = None
                    if one not in self.given:
                        todo.append(one)
        return list(found)

    @cached_property
    def batch(self) -> set[int]:
        """The lengths that every intermediate matrix has: what a batch can be."""
        shapes = [
            set(node.value.shape) for node in self.local.arrived
            if node.primitive is not None and node.value.ndim >= 2 and self._is_data(node)
        ]  # fmt: skip
        return {n for n in set.intersection(*shapes) if n > 1} if shapes else set()

    @cached_property
    def _data(self) -> set[Node]:
        """What depends on something besides parameters and numbers."""
        found: set[Node] = set()
        nodes = sorted(
            {one for node in reach([self.loss]) for one in (node, *node.inputs)}, key=by_order
        )
        for node in nodes:
            outside = node.primitive is None and not node.needs and np.ndim(node.value) > 0
            if outside or any(one in found for one in node.inputs):
                found.add(node)
        return found

    def _is_data(self, node: Node) -> bool:
        return node in self._data

    def penalty(self, node: Node) -> bool:
        """Whether a node depends on parameters only."""
        return node not in self._data


LONGEST = 200  # characters of a line that somebody would write
# Derivatives that are written with the output: of the sigmoid, of tanh, of ReLU.
SLOPES: dict[str, Callable[[Array], Array]] = {
    "{0} * (1 - {0})": lambda v: v * (1 - v),
    "(1 - {0}**2)": lambda v: 1 - v * v,
    "({0} > 0)": lambda v: (v > 0).astype(float),
}


def explain(case: Case, wrong: Sequence[Node]) -> dict[Node, tuple[Diagnosis, ...]]:
    """The readings of each wrong array; arrays that one mistake explains share theirs."""
    sound = [
        node
        for node in case.given
        if node not in wrong and case.same(node, case.local.arrived[node])
    ]
    made: list[Mistake] = []
    groups: list[tuple[list[Mistake], tuple[Node, ...]]] = []
    left = list(wrong)
    while left:
        target, *others = left
        tried = [
            (one, _explained(case, [*made, one], target, others, sound))
            for one in candidates(case, target)
        ]
        most = max((len(nodes) for _, nodes in tried), default=0)
        best = [(one, nodes) for one, nodes in tried if nodes and len(nodes) == most]
        explained = best[0][1] if best else (target,)
        readings: list[Mistake] = []
        for one, nodes in best:  # of one kind the nearest: further up it is the same mistake
            if nodes == explained and one.kind not in [known.kind for known in readings]:
                readings.append(one)
        groups.append((readings, explained))
        made += readings[:1]
        left = [node for node in left if node not in explained]
    everything = all(readings for readings, _ in groups)
    found: dict[Node, tuple[Diagnosis, ...]] = {}
    for readings, nodes in groups:
        diagnoses = tuple(
            _diagnosis(case, one, nodes, everything, len(readings)) for one in readings
        )
        found |= dict.fromkeys(nodes, diagnoses)
    return found


def _explained(
    case: Case, mistakes: list[Mistake], target: Node, others: list[Node], sound: list[Node]
) -> tuple[Node, ...]:
    """The wrong arrays that these mistakes give; none if ``target`` is not, or a sound one is no more."""
    try:
        with np.errstate(all="ignore"):
            arrived = run(case.loss, case.given, mistakes).arrived
    except ValueError:  # the mistake does not fit these shapes
        return ()
    if not case.same(target, arrived.get(target)):
        return ()
    if not all(case.same(node, arrived.get(node)) for node in sound):
        return ()
    return (target, *[node for node in others if case.same(node, arrived.get(node))])


def _diagnosis(
    case: Case, one: Mistake, nodes: tuple[Node, ...], everything: bool, readings: int
) -> Diagnosis:
    several = ", ".join(f"d{case.name(node)}" for node in nodes)
    count = len(case.theirs)
    whole = f"; with it all {count} arrays are accounted for" if everything and count > 1 else ""
    evidence = f"Made on purpose, this reproduces {several} to rounding{whole}."
    place = one.into if one.into is not None and one.into in case.names else nodes[0]
    return Diagnosis(one.kind, one.text, fix(case, place), evidence, everything and readings == 1)


def fix(case: Case, target: Node) -> str:
    """The line that computes a gradient from those of the nearest named nodes; empty if it is no line."""
    ends: list[Node] = []
    todo, seen = [target], {target}
    for node in todo:
        for one in case.consumers.get(node, []):
            if one not in seen:
                seen.add(one)
                (ends if one in case.names or one is case.loss else todo).append(one)
    if len(ends) == 1 and ends[0] is not case.loss:
        written = _slope_text(case, target, ends[0])
        if written:
            return f"d{case.name(target)} = d{case.name(ends[0])} * {written}"
    names = dict(case.names)
    region, pending = {*todo}, dict[Node, Any]()
    with mode(recording=True, everything=True, watchers=()), np.errstate(all="ignore"):
        for node in sorted({*ends, *todo[1:]}, key=by_order, reverse=True):
            if node in region:
                g = pending.pop(node)
            else:
                g = Tensor(np.ones_like(node.value))
                names[g.node] = "1" if node is case.loss else f"d{case.name(node)}"
            pull_useful(node, g, pending, region, recorded=True)
    text = formula.gradient(pending[target].node, names)
    if case.carried != 1.0 and target.primitive is None:
        text = f"({text}) / {case.carried:g}"
    return f"d{case.name(target)} = {text}" if len(text) < LONGEST else ""


def _slope_text(case: Case, z: Node, a: Node) -> str:
    """The derivative of an activation in terms of its output, where it is one of the known; else empty."""
    block = _between(case, z, a) if a.value.shape == z.value.shape else []
    slope = _slope(block, z, a) if block else None
    if slope is None:
        return ""
    known = (
        text
        for text, rule in SLOPES.items()
        if np.allclose(rule(a.value), slope, rtol=1e-6, atol=1e-9)
    )
    return next(known, "").format(case.name(a))


# -- the plausible mistakes ----------------------------------------------------------------------------


def candidates(case: Case, target: Node) -> Iterator[Mistake]:
    """Mistakes on the way to one wrong array, the likelier first."""
    span = case.span(target)
    if case.loss in span:
        yield from _other_loss(case, target)
    yield from _transposed(case, target)
    yield from _parts(case, target)
    for node in span:
        yield from _derivatives(case, node, span)
    for node in span:
        for consumer in case.consumers.get(node, []):
            if consumer in span or consumer is case.loss:
                yield from _sums(case, consumer, node)
                yield from _operands(case, consumer, node)
    for node in span[1:]:
        if node not in case.given and node in case.names:
            yield from _scaled(case, target, node)


def _transposed(case: Case, target: Node) -> Iterator[Mistake]:
    if target.value.ndim >= 2:
        text = f"d{case.name(target)} is the transpose of the right one"
        yield Mistake("transpose", text, target, None, lambda g, _: g.mT)


def _times(c: float) -> Change:
    return lambda g, d: c * d


def _always(made: Array) -> Change:
    return lambda g, d: made


def _slope_of(slope: Array) -> Change:
    return lambda g, d: g * slope


def _after(raw: Callable[[Array], Array], total: Callable[[Array], Any]) -> Change:
    return lambda g, d: np.asarray(total(raw(g)))


def _other_loss(case: Case, target: Node) -> Iterator[Mistake]:
    """The gradient of a squared error, whatever the loss is."""
    for node in reach([case.loss]):
        for one in node.inputs:
            if one.needs or np.shape(one.value) != target.value.shape or not target.value.ndim:
                continue
            off = target.value - one.value
            right = case.local.arrived[target]
            if norm(right - _ratio(right, off) * off) <= 1e-9 * norm(right):
                continue  # it is the loss
            c = _ratio(case.theirs[target], off)
            text = f"it is the gradient of {c / 2:.6g} * the sum of squared errors, which is not the loss"
            yield Mistake("other_loss", text, target, None, _always(c * off))


def _ratio(a: Array, b: Array) -> float:
    """The c for which ``c * b`` is nearest to ``a``."""
    square = float(np.vdot(b, b))
    return float(np.vdot(a, b)) / square if a.shape == b.shape and square else 1.0


def _parts(case: Case, target: Node) -> Iterator[Mistake]:
    """One of the terms that add up in a gradient is left out, or has a factor."""
    parts = {a: d for (a, b), d in case.local.parts.items() if b is target}
    there = case.theirs[target]
    if there.shape != target.value.shape:
        return
    for consumer, d in parts.items():
        rest = sum(part for one, part in parts.items() if one is not consumer)
        c = _ratio(there - rest, d)
        if len(parts) == 1:
            yield from _scaled(case, target, target)
        elif abs(c) * norm(d) <= case.near[target]:
            whose = case.name(consumer)
            kind = "missing_regularisation" if case.penalty(consumer) else "missing_path"
            text = f"the term of d{case.name(target)} that comes by way of {whose} is missing"
            yield Mistake(kind, text, consumer, target, lambda g, d: np.zeros_like(d))
        else:
            for kind, text in _kinds(case, c, target):
                way = f" in the term that comes by way of {case.name(consumer)}"
                yield Mistake(kind, text + way, consumer, target, _times(c))
    if len(parts) > 1:
        yield from _scaled(case, target, target)


def _scaled(case: Case, target: Node, node: Node) -> Iterator[Mistake]:
    c = _ratio(case.theirs[target], case.local.arrived[target])
    for kind, text in _kinds(case, c, node):
        yield Mistake(kind, text, node, None, lambda g, _: c * g)


def _kinds(case: Case, c: float, node: Node) -> Iterator[tuple[str, str]]:
    """What a factor can mean."""
    name = f"d{case.name(node)}"
    if not np.isfinite(c) or c == 0 or abs(c - 1) < 1e-6:
        return

    def equal(x: float) -> bool:
        return abs(c / x - 1) < 1e-4

    if equal(-1):
        yield "sign", f"{name} has the opposite sign"
        return
    stretched = _stretched(case, node)
    for n in stretched:
        if equal(1 / n):
            yield "mean_instead_of_sum", f"{name} is averaged over {n}, not summed"
    batches = [n for n in sorted(case.batch) if equal(n) or equal(1 / n)]
    for n in batches:
        if equal(n):
            yield (
                "missing_batch_mean",
                f"{name} is {n} times too large: not divided by the batch size {n}",
            )
        elif n not in stretched:
            yield (
                "extra_batch_mean",
                f"{name} is {n} times too small: divided by the batch size {n} once too often",
            )
    yield "factor", f"{name} has a factor {c:.6g} too many"


def _stretched(case: Case, node: Node) -> list[int]:
    """The lengths that the argument was broadcast along where it was used."""
    lengths = []
    for consumer in case.consumers.get(node, []):
        if consumer.value.shape != node.value.shape and consumer.primitive is not None:
            d = _raw(consumer, node, case.local.arrived[consumer])
            if d is not None and d.shape != node.value.shape and node.value.size:
                lengths.append(d.size // node.value.size)
    return lengths


def _raw(
    node: Node, into: Node, g: Array, swap: Callable[[str, Any], Any] = lambda name, value: value
) -> Array | None:
    """What one argument's formula gives before broadcasting is undone; ``swap`` changes what it reads."""
    primitive = node.primitive
    assert primitive is not None
    if primitive.variadic:
        return None
    i = node.inputs.index(into)
    rule = primitive.formulas.get(primitive.arguments[i])
    if rule is None:
        return None
    values = [one.value for one in node.inputs]
    known = dict(zip(primitive.arguments, values)) | (node.params or {}) | (node.saved or {})
    known |= {"y": node.value, "i": i}
    known = {name: swap(name, value) for name, value in known.items()} | {"g": g}
    return np.asarray(rule(*[known[name] for name in parameter_names(rule)]))


def _sums(case: Case, consumer: Node, node: Node) -> Iterator[Mistake]:
    """Broadcasting undone along the wrong axis, or by a mean, or not at all."""
    if consumer not in case.local.arrived or consumer.value.shape == node.value.shape:
        return
    d = _raw(consumer, node, case.local.arrived[consumer])
    shape = node.value.shape
    if d is None or d.shape == shape or d.size == node.value.size:
        return
    name = f"d{case.name(node)}"

    def raw(g: Array) -> Array:
        made = _raw(consumer, node, g)
        assert made is not None
        return made

    yield Mistake("unreduced_broadcast", f"{name} is not summed over the axes that {case.name(node)} was "
                  "broadcast along", consumer, node, lambda g, d: raw(g))  # fmt: skip
    right = [
        axis for axis in range(d.ndim) if d.ndim - axis > len(shape) or shape[axis - d.ndim] == 1
    ]
    for axis in range(d.ndim):
        if right != [axis]:
            text = f"{name} is summed over axis {axis}, not {', '.join(map(str, right))}"
            for keep in (False, True):
                total = partial(np.sum, axis=axis, keepdims=keep)
                yield Mistake("wrong_axis_sum", text, consumer, node, _after(raw, total))
    text = f"{name} is summed over all axes, not axis {', '.join(map(str, right))} alone"
    yield Mistake("wrong_axis_sum", text, consumer, node, lambda g, d: raw(g).sum())
    yield Mistake("wrong_axis_sum", text, consumer, node, lambda g, d: np.full(shape, raw(g).sum()))


def _operands(case: Case, consumer: Node, node: Node) -> Iterator[Mistake]:
    """Another array of the same shape where the formula reads the other factor."""
    primitive = consumer.primitive
    if primitive is None or consumer not in case.local.arrived or primitive.variadic:
        return
    rule = primitive.formulas.get(primitive.arguments[consumer.inputs.index(node)])
    reads = parameter_names(rule) if rule else ()
    for name, other in zip(primitive.arguments, consumer.inputs):
        if name not in reads or other is node or np.ndim(other.value) == 0:
            continue
        for value, said, kind in _instead(case, other):

            def change(g: Array, d: Any, name: str = name, value: Array = value) -> Array:
                made = _raw(consumer, node, g, lambda key, old: value if key == name else old)
                assert made is not None
                return np.asarray(unbroadcast(made, node.value.shape))

            text = f"d{case.name(node)} is computed with {said} where {case.name(other)} belongs"
            yield Mistake(kind, text, consumer, node, change)


def _instead(case: Case, other: Node) -> Iterator[tuple[Array, str, str]]:
    shape = other.value.shape
    if len(shape) == 2 and shape[0] == shape[1]:
        yield other.value.T, f"{case.name(other)}.T", "transpose"
    known = {*case.local.arrived, *(one for node in case.local.arrived for one in node.inputs)}
    for one in sorted(known, key=by_order):
        named = one in case.names and one is not other and one.value is not other.value
        if named and np.shape(one.value) == shape and one.value.dtype.kind == "f":
            yield one.value, case.name(one), "wrong_operand"
    for name, array in case.others.items():
        if array.shape == shape:
            yield array, f"{name}, which is not of this forward pass,", "stale_cache"


# -- activations ---------------------------------------------------------------------------------------


def _derivatives(case: Case, z: Node, span: list[Node]) -> Iterator[Mistake]:
    """Wrong factors in place of the derivative of an elementwise function of ``z``."""
    for a in span:
        direct = z in a.inputs
        if (
            a is z
            or a.value.shape != z.value.shape
            or not a.value.ndim
            or not (direct or a in case.names)
        ):
            continue
        block = _between(case, z, a)
        if not block:
            continue
        slope = _slope(block, z, a)
        if slope is None or np.ptp(slope) == 0:
            continue
        for kind, text, other in _slopes(case, block, z, a, slope):
            if np.isfinite(other).all() and not np.array_equal(other, slope):
                yield Mistake(kind, text, a, z, _slope_of(other), alone=True)


def _between(case: Case, z: Node, a: Node) -> list[Node]:
    """The nodes after ``z`` up to ``a`` if together they are a function of ``z`` alone; else none."""
    block = [node for node in reach([a], [z]) if z.order < node.order]
    inside = {*block, z}
    closed = all(one in inside or not one.needs for node in block for one in node.inputs)
    same = all(node.value.shape == z.value.shape for node in block)
    ends = all(
        one in inside for node in block if node is not a for one in case.consumers.get(node, [])
    )
    return block[::-1] if closed and same and ends else []


def _slope(block: list[Node], z: Node, a: Node) -> Array | None:
    """The derivative of ``a`` by ``z`` if it is elementwise."""
    ones = np.ones_like(a.value)
    tilted = np.random.default_rng(0).uniform(0.5, 1.5, a.value.shape)
    slope, other = (
        np.asarray(sweep([a], [g], wanted=[z], partial=True)[z]) for g in (ones, tilted)
    )
    return slope if np.allclose(other, tilted * slope, rtol=1e-9, atol=1e-12) else None


def _slope_at(block: list[Node], z: Node, point: Array) -> Array | None:
    """The derivative of the block at another point."""
    copies = {z: Node(point, True)}
    for node in block:
        assert node.primitive is not None
        inputs = tuple(copies.get(one, one) for one in node.inputs)
        value, saved = (
            node.primitive.fn(*[one.value for one in inputs], **(node.params or {})),
            None,
        )
        if node.primitive.residuals:
            value, *rest = value
            saved = dict(zip(node.primitive.residuals, rest))
        copies[node] = Node(np.asarray(value), True, node.primitive, inputs, node.params, saved)
    moved = [copies[node] for node in block]
    return _slope(moved, copies[z], moved[-1])


def _slopes(
    case: Case, block: list[Node], z: Node, a: Node, slope: Array
) -> Iterator[tuple[str, str, Array]]:
    point, output = case.name(z), case.name(a)
    x, y = z.value, a.value
    mask = bool(np.isin(slope, (0, 1)).all())
    for side in (0.0, 1.0, 0.5):
        if mask and np.any(x == 0):
            text = (
                f"the derivative of {output} is taken as {side:g} where {point} is 0: a convention"
            )
            yield "kink", text, np.where(x == 0, side, slope)
    yield (
        "missing_activation_derivative",
        f"d{point} lacks the derivative of {output}",
        np.ones_like(slope),
    )
    if mask:
        yield (
            "derivative_all_ones",
            f"the derivative of {output} is taken as 1 everywhere",
            np.ones_like(slope),
        )
        yield "mask_wrong", f"the mask in d{point} is the opposite one", 1 - slope
    with np.errstate(all="ignore"):
        there = _slope_at(block, z, y)
    if there is not None and there.shape == slope.shape:
        yield (
            "derivative_at_wrong_point",
            f"the derivative is taken at {output} instead of {point}",
            there,
        )
    for name, array in case.others.items():
        there = _slope_at(block, z, array) if array.shape == x.shape else None
        if there is not None:
            text = f"the derivative is taken at {name}, which is not of this forward pass"
            yield "stale_cache", text, there
    yield "extra_term", f"the derivative of {output} is multiplied in twice", slope * slope
    for text, rule in SLOPES.items():
        if np.allclose(rule(y), slope, rtol=1e-6, atol=1e-9):
            said = f"{text.format(output)} is written with {point}"
            yield "derivative_at_wrong_point", said, rule(x)
        elif np.ptp(rule(y)):
            said = f"{text.format(output)} is not the derivative of {output}"
            yield "derivative_wrong_function", said, rule(y)
