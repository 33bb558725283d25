"""Broadcasting that is undone along the wrong axis, or by a mean, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from ...core import Node
from ..case import Case, raw
from ..rules import Array, Change, Edit, Mistake, norm


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    yield from _unreduced(case, target)
    for group in case.edges(target):
        yield from _of_edge(case, target, group)
        yield from _of_reduction(case, group)


def _unreduced(case: Case, target: Node) -> Iterator[Mistake]:
    """An array with axes too many, whose sum over them is right."""
    there, right = case.theirs[target], case.local.arrived[target]
    if there.shape == target.value.shape or there.size <= right.size:
        return
    for axes in (some for n in (1, 2, 3) for some in combinations(range(there.ndim), n)):
        total = there.sum(axis=axes)
        if (
            total.size == right.size
            and norm(total.reshape(right.shape) - right) <= case.near[target] * 4
        ):
            text = f"d{case.name(target)} is not summed over axis {', '.join(map(str, axes))}"
            yield Mistake("unreduced_broadcast", text, (Edit(target, None, lambda g, _: there),))
            return


def _of_edge(case: Case, target: Node, group: list[tuple[Node, Node]]) -> Iterator[Mistake]:
    consumer, node = group[0]
    if consumer.value.shape == node.value.shape:
        return
    d = raw(consumer, node, case.local.arrived[consumer])
    shape = node.value.shape
    if d is None or d.shape == shape or d.size == node.value.size:
        return
    name = f"d{case.name(node)}"
    right = [
        axis for axis in range(d.ndim) if d.ndim - axis > len(shape) or shape[axis - d.ndim] == 1
    ]
    along = ", ".join(map(str, right))

    def made(kind: str, text: str, total: Callable[[Array], Any], rank: int = 1) -> Mistake:
        edits = tuple(Edit(a, b, _after(a, b, total)) for a, b in group)
        return Mistake(kind, text, edits, rank=rank)

    text = f"{name} is not summed over the axes that {case.name(node)} was broadcast along"
    yield made("unreduced_broadcast", text, lambda d: d, 1 if node is target else 2)
    for axes in (some for n in (1, 2, 3) for some in combinations(range(d.ndim), n)):
        if right == list(axes):
            continue
        text = f"{name} is summed over axis {', '.join(map(str, axes))}, not {along}"
        for keep in (False, True):
            for total, rank in ((np.sum, 1), (np.mean, 2)):
                kind = "wrong_axis_sum"
                yield made(kind, text, partial(total, axis=axes, keepdims=keep), rank)
                if d.sum(axis=axes, keepdims=keep).size == node.value.size:
                    whole = partial(total, axis=axes, keepdims=keep)
                    yield made(kind, text, lambda d, whole=whole: whole(d).reshape(shape), rank)
    text = f"{name} is summed over all axes, not axis {along} alone"
    yield made("wrong_axis_sum", text, np.sum)
    yield made("wrong_axis_sum", text, lambda d: np.full(shape, d.sum()))
    text = f"{name} is one element of what should be summed over axis {along}"
    first, last = (
        tuple(end if axis in right else slice(None) for axis in range(d.ndim)) for end in (0, -1)
    )
    for place in (first, last):
        yield made("unreduced_broadcast", text, lambda d, place=place: d[place].reshape(shape))


def _after(consumer: Node, node: Node, total: Callable[[Array], Any]) -> Change:
    def change(g: Array, _: Array | None) -> Array:
        d = raw(consumer, node, g)
        assert d is not None
        return np.asarray(total(d))

    return change


def _of_reduction(case: Case, group: list[tuple[Node, Node]]) -> Iterator[Mistake]:
    """What a sum or a mean over an axis sends back is spread along another axis."""
    consumer, node = group[0]
    axis = (consumer.params or {}).get("axis")
    if consumer.primitive is None or consumer.primitive.name not in ("sum", "mean") or axis is None:
        return
    n = node.value.ndim
    axes = [axis] if isinstance(axis, int) else list(axis)
    for other in range(n):
        if len(axes) != 1 or other == axes[0] % n:
            continue
        text = (
            f"what comes back from {case.name(consumer)} is spread over axis {other}, not {axes[0]}"
        )

        def change(g: Array, d: Array | None, other: int = other) -> Array:
            assert d is not None
            return np.broadcast_to(np.expand_dims(np.squeeze(g), other), d.shape) * (
                d.flat[0] / np.ravel(g)[0]
            )

        yield Mistake("wrong_axis_sum", text, tuple(Edit(a, b, change) for a, b in group))
