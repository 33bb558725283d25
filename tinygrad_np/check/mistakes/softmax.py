"""The Jacobian of the softmax, ``p * (dp - sum(dp * p))``, written wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...core import Node
from ..case import Case, between
from ..rules import Array, Edit, Mistake


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    span = case.span(target)
    for z in span.inside:
        if not z.value.ndim or z not in case.local.arrived:
            continue
        for p in span.steps:
            if p.value.shape == z.value.shape and p in case.local.arrived:
                axis = _axis(z, p)
                if axis is not None and between(case, z, p):
                    yield from _of(case, z, p, axis)


def _axis(z: Node, p: Node) -> int | None:
    """The axis along which ``p`` is the softmax of ``z``; None if it is not."""
    if np.any(p.value <= 0) or np.any(p.value > 1) or z.order > p.order:
        return None
    for axis in range(z.value.ndim):
        e = np.exp(z.value - z.value.max(axis=axis, keepdims=True))
        if z.value.shape[axis] > 1 and np.allclose(p.value, e / e.sum(axis=axis, keepdims=True), atol=1e-12):
            return axis
    return None


def _of(case: Case, z: Node, p: Node, axis: int) -> Iterator[Mistake]:
    dz, name, v = f"d{case.name(z)}", case.name(p), p.value

    def made(kind: str, text: str, change: Callable[[Array], Array]) -> Iterator[Mistake]:
        def edit(a: Node, b: Node) -> Edit:
            return Edit(a, b, lambda g, d: change(g), alone=True)

        yield Mistake(kind, text, (edit(p, z),))

    def total(x: Array, along: int = axis) -> Array:
        return np.asarray(x.sum(axis=along, keepdims=True))

    text = f"{dz} uses only the diagonal of the softmax's Jacobian, {name} * (1 - {name})"
    yield from made("softmax_jacobian_diagonal_only", text, lambda g: g * v * (1 - v))
    text = f"{dz} lacks the sum in the softmax's Jacobian, {name} * (d{name} - sum(d{name} * {name}))"
    yield from made("missing_path", text, lambda g: g * v)
    yield from made("missing_factor", f"{dz} lacks the factor {name} of the softmax's Jacobian",
                    lambda g: g - total(g * v))  # fmt: skip
    yield from made("missing_factor", f"the sum in {dz} lacks the factor {name}", lambda g: v * (g - total(g)))
    yield from made("missing_activation_derivative", f"{dz} lacks the derivative of the softmax", lambda g: g)
    for other in range(v.ndim):
        if other != axis:
            text = f"the sum in {dz} runs over axis {other}, not {axis}"
            yield from made("wrong_axis_sum", text, lambda g, other=other: v * (g - total(g * v, other)))
    yield from made("wrong_axis_sum", f"the sum in {dz} runs over everything, not axis {axis}",
                    lambda g: v * (g - (g * v).sum()))  # fmt: skip
    yield from made("sign", f"the sum in {dz} has the opposite sign", lambda g: v * (g + total(g * v)))
