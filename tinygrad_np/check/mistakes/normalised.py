"""Normalisation in one line, ``dx = (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) / std``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from ...backward import by_order
from ...core import Node
from ..case import Case, between
from ..rules import Array, Edit, Mistake

Axes = tuple[int, ...]


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    span = case.span(target)
    for z in sorted(span.inside, key=by_order):
        if z.value.ndim < 2 or z not in case.local.arrived:
            continue
        for xhat in span.steps:
            same = xhat.value.shape == z.value.shape and xhat.order > z.order
            if (
                not same
                or xhat not in case.local.arrived
                or not (xhat in case.names or z is target)
            ):
                continue
            found = _normalised(z, xhat)
            if found is not None and between(case, z, xhat):
                yield from _of(case, z, xhat, *found)


def _normalised(z: Node, xhat: Node) -> tuple[Axes, bool, Array] | None:
    """The axes along which ``xhat = (z - mean) * r`` or ``z * r``; whether centred; and ``r``."""
    ndim = z.value.ndim
    for size in range(1, ndim):
        for axes in combinations(range(ndim), size):
            for centred in (True, False):
                x = z.value - z.value.mean(axis=axes, keepdims=True) if centred else z.value
                r = np.sqrt(
                    (xhat.value**2).sum(axis=axes, keepdims=True)
                    / (x**2).sum(axis=axes, keepdims=True)
                )
                near = np.isfinite(r).all() and np.allclose(
                    x * r, xhat.value, rtol=1e-9, atol=1e-12
                )
                if near and np.ptp(r) > 1e-9 * np.abs(r).max():
                    return axes, centred, r
    return None


def _of(case: Case, z: Node, xhat: Node, axes: Axes, centred: bool, r: Array) -> Iterator[Mistake]:
    name, n = case.name(z), xhat.value
    count = int(np.prod([n.shape[axis] for axis in axes]))

    def mean(x: Array, along: Axes | None = axes) -> Array:
        return np.asarray(x.mean(axis=along, keepdims=True))

    def made(kind: str, text: str, change: Callable[[Array], Array], free: bool = False) -> Mistake:
        edit = Edit(xhat, z, lambda g, d: change(g), alone=True)
        return Mistake(kind, f"d{name}: {text}", (edit,), free)

    def whole(
        g: Array, first: Array | float, second: Array | float, by: Array | float = r
    ) -> Array:
        return np.asarray(by * (g - (first if centred else 0.0) - second))

    def second(g: Array, along: Axes | None = axes) -> Array:
        return n * mean(g * n, along)

    others = [some for size in (1, 2) for some in combinations(range(n.ndim), size) if some != axes]
    for other in (*others, None):
        said = f"is taken over axis {other}, not {axes}"
        if centred:
            yield made("wrong_axis_sum", f"the mean of d{case.name(xhat)} {said}",
                       lambda g, other=other: whole(g, mean(g, other), second(g)))  # fmt: skip
        yield made("wrong_axis_sum", f"the mean of d{case.name(xhat)} * {case.name(xhat)} {said}",
                   lambda g, other=other: whole(g, mean(g), second(g, other)))  # fmt: skip
        yield made("wrong_axis_sum", f"each mean {said}",
                   lambda g, other=other: whole(g, mean(g, other), second(g, other)))  # fmt: skip
    summed = "is summed where a mean belongs"
    if centred:
        yield made("factor", f"d{case.name(xhat)} {summed}: a factor {count}",
                   lambda g: whole(g, count * mean(g), second(g)))  # fmt: skip
        yield made("missing_path", "lacks the term of the mean", lambda g: whole(g, 0.0, second(g)))
        yield made(
            "sign",
            "the term of the mean has the opposite sign",
            lambda g: whole(g, -mean(g), second(g)),
        )
    yield made("factor", f"d{case.name(xhat)} * {case.name(xhat)} {summed}: a factor {count}",
               lambda g: whole(g, mean(g), count * second(g)))  # fmt: skip
    yield made("missing_path", "lacks the term of the variance", lambda g: whole(g, mean(g), 0.0))
    yield made(
        "sign",
        "the term of the variance has the opposite sign",
        lambda g: whole(g, mean(g), -second(g)),
    )
    yield made("wrong_operand", f"the sum lacks the factor {case.name(xhat)}",
               lambda g: whole(g, mean(g), mean(g * n)))  # fmt: skip
    if centred:
        x = z.value - mean(z.value)
        yield made("wrong_operand", f"{name} less its mean stands where {case.name(xhat)} belongs",
                   lambda g: whole(g, mean(g), x * mean(g * n)))  # fmt: skip
    yield made("wrong_operand", f"{name} stands where {case.name(xhat)} belongs",
               lambda g: whole(g, mean(g), z.value * mean(g * n)))  # fmt: skip
    for by, said in ((1.0, "is not divided by the standard deviation"),
                     (r * r, "is divided by the variance instead of the standard deviation"),
                     (1 / r, "is multiplied by the standard deviation instead of divided"),
                     (1 / r**2, "is multiplied by the variance instead of divided by the deviation"),
                     ):  # fmt: skip
        yield made("wrong_operand", said, lambda g, by=by: whole(g, mean(g), second(g), by))
    for node, value in case.arrays(r.shape):
        for by, said in ((value, "multiplied by"), (1 / value, "divided by")):
            if np.isfinite(by).all() and not np.allclose(by, r):
                text = f"is {said} {case.name(node)} instead of divided by the standard deviation"
                yield made("wrong_operand", text, lambda g, by=by: whole(g, mean(g), second(g), by))
    for by, said in ((r * r, "the variance"), (1 / r**2, "the variance, multiplied")):
        yield made("wrong_operand", f"{said} stands where the standard deviation belongs",
                   lambda g, by=by: whole(g, mean(g), second(g), by), free=True)  # fmt: skip
