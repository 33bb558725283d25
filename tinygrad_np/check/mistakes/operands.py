"""Another array where a formula reads a value: the wrong one, one of another time, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...backward import unbroadcast
from ...core import Node
from ..case import Case, ratio, raw, reads
from ..rules import Array, Change, Edit, Mistake, norm

Group = list[tuple[Node, Node]]


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    yield from _of_ends(case, target)
    for group in case.edges(target):
        yield from _of_formula(case, group)
        yield from _of_cotangent(case, target, group)


def _of_formula(case: Case, group: Group) -> Iterator[Mistake]:
    consumer, node = group[0]
    primitive = consumer.primitive
    assert primitive is not None
    names = primitive.arguments
    if primitive.variadic:
        names = tuple(f"xs[{i}]" for i in range(len(consumer.inputs)))
    named = names if primitive.variadic else reads(consumer, node)
    for i, (name, other) in enumerate(zip(names, consumer.inputs)):
        if name not in named:
            continue
        own = other is node and not (
            primitive.name == "multiply" and consumer.inputs.count(node) == 2
        )
        if own or not isinstance(other.value, np.ndarray):
            continue
        others = [a.inputs[i] for a, _ in group]
        if other.value.ndim or len(group) > 1:
            for kind, text, values in _instead(case, others):
                said = (
                    f"d{case.name(node)} is computed with {text} where {case.name(other)} belongs"
                )
                yield _swapped(kind, said, group, name, values)
        yield from _without(case, group, name, others)


def _swapped(
    kind: str, text: str, group: Group, name: str, values: Sequence[Array], rank: int = 1
) -> Mistake:
    edits = [Edit(a, b, _reading(a, b, name, value)) for (a, b), value in zip(group, values)]
    return Mistake(kind, text, tuple(edits), rank=rank)


def _reading(consumer: Node, node: Node, name: str, value: Array) -> Change:
    """The formula with another array for one of its arguments."""

    def swap(key: str, old: Any) -> Any:
        if key == "xs" and name.startswith("xs["):
            return [value if name == f"xs[{i}]" else one for i, one in enumerate(old)]
        return value if key == name else old

    def change(g: Array, _: Array | None) -> Array:
        made = raw(consumer, node, g, swap)
        assert made is not None
        return np.asarray(unbroadcast(made, node.value.shape))

    return change


def _instead(case: Case, others: list[Node]) -> Iterator[tuple[str, str, list[Array]]]:
    """What may stand where these values belong (one, or one for each turn of a loop)."""
    first = others[0]
    shape = np.shape(first.value)
    if len(shape) >= 2 and shape[-1] == shape[-2]:
        yield "transpose", f"{case.name(first)}.T", [one.value.mT for one in others]
    mask = _is_mask(first)
    if mask:
        yield (
            "mask_wrong",
            f"the opposite of {case.name(first)}",
            [_opposite(one.value) for one in others],
        )
        if not np.isin(first.value, (0, 1)).all():
            text = f"{case.name(first)} without its scale"
            yield "mask_wrong", text, [(one.value != 0).astype(float) for one in others]
    for other in case.facts.rewritten.get(first, ()) if len(others) == 1 else ():
        if other.shape == shape:
            text = f"what was written over {case.name(first)}"
            yield "overwritten_in_place", text, [other]
    if len(others) == 1:
        for node, value in case.arrays(shape):
            if node is first or _parallel(value, np.asarray(first.value)):
                continue
            yield _kind_of_other(case, first, node, mask), case.name(node), [value]
        if len(shape) >= 2:
            for node, value in case.arrays((*shape[:-2], shape[-1], shape[-2])):
                if not np.array_equal(value.mT, first.value):
                    yield "wrong_operand", f"{case.name(node)}.T", [value.mT]
    yield from _series(case, others, mask)
    for name, array in case.facts.stale:
        if array.shape == shape and not np.array_equal(array, first.value):
            kind = "mask_reused" if mask and _looks_like_mask(array) else "stale_cache"
            yield kind, f"{name}, which is not of this forward pass,", [array] * len(others)
    for axis in range(len(shape)):
        if shape[axis] > 1:
            for step in (1, -1):
                text = f"{case.name(first)} shifted by one along axis {axis}"
                yield "off_by_one", text, [np.roll(one.value, step, axis) for one in others]
    if mask:
        text = f"{case.name(first)} of the wrong shape"
        for axis in range(len(shape)):
            yield "mask_wrong", text, [np.flip(one.value, axis) for one in others]


def _series(case: Case, others: list[Node], mask: bool) -> Iterator[tuple[str, str, list[Array]]]:
    """In a loop: the values of another variable, or the same variable a turn earlier or later."""
    count = len(others)
    if count < 2:
        return
    shape = np.shape(others[0].value)
    for name, nodes in case.facts.series.items():
        values = [one.value for one in nodes if np.shape(one.value) == shape]
        if len(values) < count or set(nodes) == set(others):
            continue
        extra = len(values) - count
        for k in range(extra + 1):
            kind = "off_by_one" if set(nodes) & set(others) else "wrong_operand"
            yield kind, name, values[k : k + count]
    values = [one.value for one in others]
    if all(np.shape(one) == shape for one in values):
        text = f"{case.name(others[0])} of the next turn"
        yield "off_by_one", text, [*values[1:], values[-1]]
        yield "off_by_one", text.replace("next", "previous"), [values[0], *values[:-1]]
        yield "off_by_one", text, [*values[1:], values[0]]
        yield "off_by_one", text.replace("next", "previous"), [values[-1], *values[:-1]]
        for node, value in case.arrays(shape):
            if not node.needs:  # what was there before the first turn
                yield "off_by_one", text.replace("next", "previous"), [value, *values[:-1]]
        zero = np.zeros(shape)
        yield "off_by_one", text, [*values[1:], zero]
        yield "off_by_one", text.replace("next", "previous"), [zero, *values[:-1]]
        reverse = f"{case.name(others[0])} in the opposite order"
        yield "wrong_operand", reverse, values[::-1]
        last = f"{case.name(others[-1])}, that of the last turn,"
        yield "wrong_operand", last, [values[-1]] * count
    for node, value in case.arrays(shape):
        if node not in others:
            yield "wrong_operand", case.name(node), [value] * count


def _kind_of_other(case: Case, first: Node, node: Node, mask: bool) -> str:
    if mask and _looks_like_mask(node.value):
        return "mask_reused"
    together = [nodes for nodes in case.facts.series.values() if first in nodes and node in nodes]
    if together and any(abs(nodes.index(first) - nodes.index(node)) == 1 for nodes in together):
        return "off_by_one"
    return "wrong_operand"


def _is_mask(node: Node) -> bool:
    """Whether a value is a constant that lets some elements through: 0 and one other number."""
    return not node.needs and _looks_like_mask(node.value)


def _looks_like_mask(array: Any) -> bool:
    if np.ndim(array) == 0 or array.size < 2:
        return False
    found = np.unique(array)
    return (len(found) == 2 and found[0] == 0) or (len(found) == 1 and array.dtype == bool)


def _opposite(mask: Array) -> Array:
    return np.where(mask == 0, mask.max(), 0)


def _without(case: Case, group: Group, name: str, others: list[Node]) -> Iterator[Mistake]:
    """The factor is left out, multiplied instead of divided, or taken twice."""
    consumer, node = group[0]
    assert consumer.primitive is not None
    kind = consumer.primitive.name
    first = others[0]
    number = np.ndim(first.value) == 0 and not first.needs
    if kind not in ("multiply", "divide") or first is node or number:
        return
    said = f"d{case.name(node)} lacks the factor {case.name(first)}"
    one_for = [np.ones_like(one.value) for one in others]
    if _is_mask(first):
        text = f"{case.name(first)} is not applied to d{case.name(node)}"
        yield _swapped("mask_not_applied", text, group, name, one_for, rank=0)
    else:
        yield _swapped("wrong_operand", said, group, name, one_for)
    with np.errstate(all="ignore"):
        squared = [one.value**2 for one in others]
        inverse = [1 / np.asarray(one.value, float) for one in others]
    if not _is_mask(first) and all(np.isfinite(one).all() for one in inverse):
        text = f"d{case.name(node)} is divided by {case.name(first)} instead of multiplied, or the other way"
        yield _swapped("wrong_operand", text, group, name, inverse)
    text = f"d{case.name(node)} has the factor {case.name(first)} twice"
    kind = "mask_wrong" if _is_mask(first) else "extra_term"
    yield _swapped(kind, text, group, name, squared)


def _of_cotangent(case: Case, target: Node, group: Group) -> Iterator[Mistake]:
    """Another gradient where that of the result belongs, or what it was overwritten with."""
    if len(group) > 1:
        yield from _of_cotangents(case, group)
        return
    consumer, node = group[0]
    right = case.given.get(consumer, case.local.arrived[consumer])
    name = f"d{case.name(consumer)}"
    if right.ndim >= 2 and right.shape[-1] == right.shape[-2]:
        text = f"d{case.name(node)} is computed with {name}.T where {name} belongs"
        yield Mistake("transpose", text, (_from(consumer, node, right.mT),))
    for one, value in case.arrays(right.shape):
        if one is not node and not _parallel(value, right):
            text = f"d{case.name(node)} is computed with {case.name(one)} where {name} belongs"
            yield Mistake("wrong_operand", text, (_from(consumer, node, value),), free=True, rank=2)
    for other in case.facts.rewritten.get(consumer, ()):
        if other.shape == right.shape and consumer in case.given:
            text = f"d{case.name(node)} is computed with {name} after it was overwritten in place"
            yield Mistake("overwritten_in_place", text, (_from(consumer, node, other),))
    for one, array in case.given.items():
        ours = one is consumer or one is target or one.primitive is None
        unfit = ours or array.shape != right.shape or one not in case.names
        if unfit or _parallel(array, right):
            continue
        text = f"d{case.name(node)} is computed with d{case.name(one)} where d{case.name(consumer)} belongs"
        yield Mistake("wrong_operand", text, (_from(consumer, node, array),))


def _of_cotangents(case: Case, group: Group) -> Iterator[Mistake]:
    """In a loop: the gradient of another variable, or of another turn."""
    consumer, node = group[0]
    shape, count = consumer.value.shape, len(group)
    for nodes in [*case.facts.series.values(), [a for a, _ in group]]:
        arrays = [case.given.get(one, case.local.arrived.get(one)) for one in nodes]
        known = [one for one in arrays if one is not None and one.shape == shape]
        own = nodes[0] is consumer
        if len(known) != len(nodes) or len(known) < count:
            continue
        shifts = (1, -1) if own else range(len(known) - count + 1)
        for k in shifts:
            some = np.roll(known, k, axis=0) if own else known[k : k + count]
            whose = f"d{case.name(nodes[0])} where d{case.name(consumer)} belongs"
            text = f"d{case.name(node)} is computed with {whose}"
            edits = tuple(_from(a, b, g) for (a, b), g in zip(group, some))
            yield Mistake("off_by_one" if own else "wrong_operand", text, edits)


def _of_ends(case: Case, target: Node) -> Iterator[Mistake]:
    """What the span starts from is another gradient, or what it was overwritten with."""
    span = case.span(target)
    name = f"d{case.name(target)}"
    for end in span.steps:
        if end in span.inside or end not in case.given:
            continue
        right = case.given[end]
        for other in case.facts.rewritten.get(end, ()):
            if other.shape == right.shape:
                text = (
                    f"{name} is computed with d{case.name(end)} after it was overwritten in place"
                )
                yield Mistake(
                    "overwritten_in_place", text, _started(case, target, end, other), rank=0
                )
        for one, array in case.given.items():
            mine = one in (end, target) or one.primitive is None
            if not mine and array.shape == right.shape and not _parallel(array, right):
                text = f"{name} is computed with d{case.name(one)} where d{case.name(end)} belongs"
                yield Mistake("wrong_operand", text, _started(case, target, end, array), rank=2)
        for one, array in case.arrays(right.shape):
            if not _parallel(array, right):
                text = f"{name} is computed with {case.name(one)} where d{case.name(end)} belongs"
                yield Mistake(
                    "wrong_operand", text, _started(case, target, end, array), free=True, rank=2
                )


def _started(case: Case, target: Node, end: Node, g: Array) -> tuple[Edit, ...]:
    """The line of the target alone, given another cotangent."""
    made = case.span(target).run({**case.start, end: g}, case.dead)
    return (Edit(target, None, lambda _, __: np.zeros(()) if made is None else made),)


def _parallel(a: Array, b: Array) -> bool:
    """Whether two arrays differ by a factor only."""
    if a.shape != b.shape or a.dtype.kind not in "fb":
        return False
    return norm(b - ratio(b, a) * a) <= 1e-9 * norm(b)


def _from(consumer: Node, node: Node, g: Array) -> Edit:
    def change(_: Array, __: Array | None) -> Array:
        made = raw(consumer, node, g)
        assert made is not None
        return np.asarray(unbroadcast(made, node.value.shape))

    return Edit(consumer, node, change)
