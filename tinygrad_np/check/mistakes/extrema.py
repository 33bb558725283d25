"""Maxima and minima over an axis: conventions at ties, which are no mistakes, and wrong masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...core import Node
from ..case import Case
from ..rules import Array, Edit, Mistake


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    """Where several elements are the largest, each may get the gradient, or one, or a part."""
    for group in case.edges(target):
        consumer, _ = group[0]
        name = consumer.primitive.name if consumer.primitive is not None else ""
        if name in ("max", "min"):
            for share, said in ((_each, "each gets all of it"), (_first, "the first gets it"),
                                (_last, "the last gets it")):  # fmt: skip
                yield _convention(case, group, share, said)
            yield from _masks(case, group)
        elif name in ("maximum", "minimum", "fmax", "fmin"):
            for side in (0.0, 1.0, 0.5):
                yield _convention(case, group, _at_ties(side), f"the first gets {side:g} of it")


def _convention(
    case: Case, group: list[tuple[Node, Node]], share: Callable[..., Array], said: str
) -> Mistake:
    def change(consumer: Node, node: Node) -> Callable[[Array, Array | None], Array]:
        def changed(g: Array, d: Array | None) -> Array:
            assert d is not None
            return share(consumer, node, g, d)

        return changed

    text = f"where elements tie in {case.name(group[0][0])}, {said}: a convention"
    return Mistake("kink", text, tuple(Edit(a, b, change(a, b)) for a, b in group), rank=0)


def _masks(case: Case, group: list[tuple[Node, Node]]) -> Iterator[Mistake]:
    consumer, node = group[0]
    name, pool = f"d{case.name(node)}", case.name(consumer)
    n = node.value.size // max(consumer.value.size, 1)

    def made(kind: str, text: str, weigh: Callable[[Array], Array]) -> Mistake:
        def change(a: Node, b: Node) -> Callable[[Array, Array | None], Array]:
            def changed(g: Array, _: Array | None) -> Array:
                ties, wide, _axes = _spread(a, b, g)
                return weigh(ties) * wide

            return changed

        return Mistake(kind, text, tuple(Edit(a, b, change(a, b)) for a, b in group))

    text = f"{name} goes to all elements, not to those that are the extremum {pool}"
    yield made("mask_not_applied", text, np.ones_like)
    text = f"{name} is spread evenly, as that of a mean, not to the extremum {pool}"
    yield made("derivative_wrong_function", text, lambda ties: np.full(ties.shape, 1 / n))
    yield made("mask_wrong", f"the mask in {name} is the opposite one", lambda ties: ~ties)


def _spread(consumer: Node, node: Node, g: Array) -> tuple[Array, Array, tuple[int, ...]]:
    """Where the extremum is taken, and the cotangent there; the axes."""
    params = consumer.params or {}
    axis = params.get("axis")
    n = node.value.ndim
    axes = tuple(range(n)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    y = consumer.value
    if not params.get("keepdims"):
        y, g = np.expand_dims(y, axes), np.expand_dims(g, axes)
    return node.value == y, np.broadcast_to(g, node.value.shape), axes


def _each(consumer: Node, node: Node, g: Array, d: Array) -> Array:
    ties, wide, _ = _spread(consumer, node, g)
    return ties * wide


def _one(consumer: Node, node: Node, g: Array, last: bool) -> Array:
    ties, wide, axes = _spread(consumer, node, g)
    axes = tuple(axis % ties.ndim for axis in axes)
    kept = [axis for axis in range(ties.ndim) if axis not in axes]
    order = [*kept, *axes]
    flat = ties.transpose(order).reshape(*(ties.shape[axis] for axis in kept), -1)
    if last:
        flat = flat[..., ::-1]
    chosen = np.arange(flat.shape[-1]) == flat.argmax(axis=-1)[..., None]
    if last:
        chosen = chosen[..., ::-1]
    back = chosen.reshape([ties.shape[axis] for axis in order]).transpose(np.argsort(order))
    return back * wide


def _first(consumer: Node, node: Node, g: Array, d: Array) -> Array:
    return _one(consumer, node, g, last=False)


def _last(consumer: Node, node: Node, g: Array, d: Array) -> Array:
    return _one(consumer, node, g, last=True)


def _at_ties(side: float) -> Callable[..., Array]:
    def share(consumer: Node, node: Node, g: Array, d: Array) -> Array:
        a, b = (np.broadcast_to(one.value, consumer.value.shape) for one in consumer.inputs[:2])
        if d.shape != consumer.value.shape:
            return d
        part = side if consumer.inputs[0] is node else 1 - side
        return np.where(a == b, part * g, d)

    return share
