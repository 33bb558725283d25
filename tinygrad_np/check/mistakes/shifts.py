"""Indices that are off by one, and arrays that are shifted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...core import Node
from ..case import Case
from ..rules import Array, Edit, Mistake, copied, run


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    for group in case.edges(target):
        yield from _indices(case, group)
        yield from _windows(case, group)
    yield from _shifted(case, target)
    yield from _labels(case, target)


def _labels(case: Case, target: Node) -> Iterator[Mistake]:
    """The gradient for other labels: those of the next class, or of the next sample."""
    if case.loss not in case.span(target).steps or case.penalty(target):
        return
    for node in case.nodes:
        index = (node.params or {}).get("index")
        parts = _parts(index)
        for place, labels in enumerate(parts):
            if not _is_labels(labels) or labels is not [p for p in parts if _is_labels(p)][-1]:
                continue  # of p[range(N), y] the classes
            for said, other in _beside(labels, node.inputs[0].value.shape[place]):
                new = (*parts[:place], other, *parts[place + 1 :])
                params = (node.params or {}) | {"index": new if isinstance(index, tuple) else other}
                yield _instead(case, target, said, {}, {node: params})
    constants = dict.fromkeys(one for node in case.nodes for one in node.inputs if not one.needs)
    for one in constants:
        if np.ndim(one.value) == 2 and np.isin(one.value, (0, 1)).all():
            for step in (1, -1):
                for axis in (0, 1):
                    said = f"{case.name(one)} shifted by one along axis {axis}"
                    yield _instead(case, target, said, {one: np.roll(one.value, step, axis)}, {})


def _is_labels(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind in "iu" and part.size > 1


def _beside(labels: Array, length: int) -> Iterator[tuple[str, Array]]:
    for step in (1, -1):
        yield f"the labels {step:+d}", (labels + step) % length
        yield "the labels of the sample beside it", np.roll(labels, step)


def _instead(
    case: Case, target: Node, said: str, values: dict[Node, Array], params: dict[Node, Any]
) -> Mistake:
    """What the right rule gives where the loss was computed from something else."""
    copies = copied(case.loss, lambda node: lambda value: values.get(node, value), params)
    made = run(copies[case.loss], {}).arrived.get(copies[target], np.zeros(()))
    text = f"d{case.name(target)} is computed with {said}"
    return Mistake("off_by_one", text, (Edit(target, None, lambda g, _: made),))


def _indices(case: Case, group: list[tuple[Node, Node]]) -> Iterator[Mistake]:
    """Elements are added back one place from where they were read."""
    consumer, node = group[0]
    if "index" not in (consumer.params or {}):
        return
    for step in (1, -1):
        for axis in range(node.value.ndim):
            if node.value.shape[axis] < 2:
                continue

            def change(g: Array, d: Array | None, step: int = step, axis: int = axis) -> Array:
                assert d is not None
                return np.roll(d, step, axis)

            text = (
                f"the indices at which d{case.name(node)} gets {case.name(consumer)} are off by one"
            )
            yield Mistake("off_by_one", text, tuple(Edit(a, b, change) for a, b in group))
    once = tuple(Edit(a, b, _assigned(a, b)) for a, b in group)
    index = (consumer.params or {})["index"]
    if any(isinstance(one, np.ndarray) and one.dtype != bool for one in _parts(index)):
        text = (
            f"what belongs to one element of d{case.name(node)} is assigned, not added up: an index that "
            "occurs twice counts once (np.add.at adds up)"
        )
        yield Mistake("missing_path", text, once)


def _windows(case: Case, group: list[tuple[Node, Node]]) -> Iterator[Mistake]:
    """A part is cut out of a gradient one place too early or too late."""
    consumer, node = group[0]
    g, d = case.local.arrived[consumer], case.local.parts.get((consumer, node))
    if d is None or g.ndim != d.ndim:
        return
    axes = [axis for axis in range(d.ndim) if d.shape[axis] != g.shape[axis]]
    if len(axes) != 1 or d.shape[axes[0]] > g.shape[axes[0]]:
        return
    axis, n = axes[0], d.shape[axes[0]]
    g = case.given.get(consumer, g)
    for start in range(g.shape[axis] - n + 1):
        if not np.array_equal(np.take(g, range(start, start + n), axis), d):
            continue
        for other in (start - 1, start + 1):
            if 0 <= other <= g.shape[axis] - n:

                def change(g: Array, _: Array | None, other: int = other) -> Array:
                    return np.take(g, range(other, other + n), axis)

                text = f"d{case.name(node)} is cut out of d{case.name(consumer)} at {other}, not at {start}"
                yield Mistake("off_by_one", text, tuple(Edit(a, b, change) for a, b in group))
        return


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _assigned(consumer: Node, node: Node) -> Any:
    index = (consumer.params or {})["index"]

    def change(g: Array, d: Array | None) -> Array:
        assert d is not None
        made = np.zeros_like(d)
        made[index] = g
        return made

    return change


def _shifted(case: Case, target: Node) -> Iterator[Mistake]:
    """The array itself, one place further along an axis; what falls out comes in again, or zeros do."""
    name = f"d{case.name(target)}"
    for axis, n in enumerate(target.value.shape):
        if n < 2:
            continue
        for step in (1, -1):

            def rolled(g: Array, _: Array | None, step: int = step, axis: int = axis) -> Array:
                return np.roll(g, step, axis)

            def pushed(g: Array, _: Array | None, step: int = step, axis: int = axis) -> Array:
                made = np.roll(g, step, axis)
                end = [slice(None)] * made.ndim
                end[axis] = slice(0, 1) if step > 0 else slice(-1, None)
                made[tuple(end)] = 0
                return made

            def clipped(g: Array, _: Array | None, step: int = step, axis: int = axis) -> Array:
                made = g.copy()
                end = [slice(None)] * made.ndim
                end[axis] = slice(0, 1) if step > 0 else slice(-1, None)
                made[tuple(end)] = 0
                return made

            text = f"{name} is shifted by one along axis {axis}"
            yield Mistake("off_by_one", text, (Edit(target, None, rolled),))
            yield Mistake("off_by_one", text, (Edit(target, None, pushed),))
            end = "first" if step > 0 else "last"
            text = f"the {end} entry of {name} along axis {axis} is left out"
            yield Mistake("off_by_one", text, (Edit(target, None, clipped),))
            text += ", and the others are {c} times too large"
            yield Mistake("off_by_one", text, (Edit(target, None, clipped),), free=True, rank=2)
