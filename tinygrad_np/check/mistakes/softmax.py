"""The Jacobian of the softmax, ``p * (dp - sum(dp * p))``, written wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...backward import by_order
from ...core import Node
from ..case import Case, between
from ..rules import Array, Edit, Mistake


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    span = case.span(target)
    for z in sorted(span.inside, key=by_order):
        if not z.value.ndim or z not in case.local.arrived:
            continue
        for p in span.steps:
            if p.value.shape == z.value.shape and p in case.local.arrived:
                axis = _axis(z, p)
                if axis is not None and between(case, z, p):
                    yield from _of(case, z, p, axis)
                axis = _axis(z, p, logarithm=True)
                if axis is not None and between(case, z, p):
                    yield from _of_logarithm(case, z, p, axis)


def _axis(z: Node, p: Node, logarithm: bool = False) -> int | None:
    """The axis along which ``p`` is the softmax of ``z`` (or its logarithm); None if it is not."""
    value = np.exp(p.value) if logarithm else p.value
    if np.any(value < 0) or np.any(value > 1 + 1e-9) or z.order > p.order:
        return None
    for axis in range(z.value.ndim):
        e = np.exp(z.value - z.value.max(axis=axis, keepdims=True))
        if z.value.shape[axis] > 1 and np.allclose(
            value, e / e.sum(axis=axis, keepdims=True), atol=1e-12
        ):
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
    text = (
        f"{dz} lacks the sum in the softmax's Jacobian, {name} * (d{name} - sum(d{name} * {name}))"
    )
    yield from made("missing_path", text, lambda g: g * v)
    yield from made("wrong_operand", f"{dz} lacks the factor {name} of the softmax's Jacobian",
                    lambda g: g - total(g * v))  # fmt: skip
    yield from made(
        "wrong_operand", f"the sum in {dz} lacks the factor {name}", lambda g: v * (g - total(g))
    )
    yield from made(
        "missing_activation_derivative", f"{dz} lacks the derivative of the softmax", lambda g: g
    )
    for other in range(v.ndim):
        if other != axis:
            text = f"the sum in {dz} runs over axis {other}, not {axis}"
            yield from made(
                "wrong_axis_sum", text, lambda g, other=other: v * (g - total(g * v, other))
            )
    yield from made("wrong_axis_sum", f"the sum in {dz} runs over everything, not axis {axis}",
                    lambda g: v * (g - (g * v).sum()))  # fmt: skip
    text = f"the sum in {dz} is a mean over axis {axis}"
    n = v.shape[axis]
    yield from made("mean_instead_of_sum", text, lambda g: v * (g - total(g * v) / n))
    yield from made(
        "sign", f"the sum in {dz} has the opposite sign", lambda g: v * (g + total(g * v))
    )


def _of_logarithm(case: Case, z: Node, logp: Node, axis: int) -> Iterator[Mistake]:
    """The Jacobian of the logarithm, ``dlogp - p * sum(dlogp)``."""
    dz, dlogp, p = f"d{case.name(z)}", f"d{case.name(logp)}", np.exp(logp.value)
    right = f"{dlogp} - p * sum({dlogp})"

    def made(kind: str, text: str, change: Callable[[Array], Array]) -> Mistake:
        return Mistake(kind, text, (Edit(logp, z, lambda g, d: change(g), alone=True),))

    text = f"{dz} uses only the diagonal of the log-softmax's Jacobian, 1 - p, of {right}"
    yield made("softmax_jacobian_diagonal_only", text, lambda g: g * (1 - p))
    yield made("missing_path", f"{dz} lacks the sum of {right}", lambda g: g)
    yield made(
        "missing_path",
        f"{dz} lacks the first term of {right}",
        lambda g: -p * g.sum(axis, keepdims=True),
    )
    yield made(
        "sign",
        f"the sum in {dz} has the opposite sign",
        lambda g: g + p * g.sum(axis, keepdims=True),
    )
    text = f"the sum in {dz} lacks the factor p of {right}"
    yield made("wrong_operand", text, lambda g: g - g.sum(axis, keepdims=True))
    text = f"{dz} has the mean of {dlogp} over axis {axis} where its sum belongs"
    yield made("mean_instead_of_sum", text, lambda g: g - p * g.mean(axis, keepdims=True))
    text = f"the sum in {dz} has the factor p twice"
    yield made("wrong_operand", text, lambda g: g - p * (g * p).sum(axis, keepdims=True))
    for other in (*range(p.ndim), None):
        if other != axis:
            over = "everything" if other is None else f"axis {other}"
            text = f"the sum in {dz} runs over {over}, not axis {axis}"
            yield made(
                "wrong_axis_sum",
                text,
                lambda g, other=other: g - p * g.sum(axis=other, keepdims=True),
            )
