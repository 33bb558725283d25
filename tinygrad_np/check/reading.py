"""What a wrong derivative looks like beside the right one."""

from __future__ import annotations

import numpy as np

from .numerical import Array


def axis_reading(recorded: Array, numerical: Array, near: Array) -> tuple[str, str]:
    """Mistakes that move or collect elements: a transpose, a sum or a mean over an axis."""

    def same(other: Array) -> bool:
        return other.shape == recorded.shape and bool(np.all(np.abs(recorded - other) <= near))

    if recorded.ndim >= 2 and same(numerical.mT):
        return "transpose", "It equals the transpose of the right one (.mT)."
    for axis, n in enumerate(recorded.shape):
        if n < 2:
            continue
        total = np.broadcast_to(numerical.sum(axis=axis, keepdims=True), recorded.shape)
        if np.any(np.abs(total) > near) and same(total):
            return "wrong_axis_sum", f"It equals the right one summed over axis {axis}."
        if np.any(np.abs(total) > near) and same(total / n):
            return "wrong_axis_sum", f"It equals the right one averaged over axis {axis}."
        if same(np.flip(numerical, axis)):
            return "wrong_operand", f"It equals the right one in reverse along axis {axis}."
    return "", ""


def ratio_reading(
    recorded: Array, numerical: Array, near: Array, lengths: dict[int, str]
) -> tuple[str, str]:
    """Mistakes that multiply: a sign, a factor, a mean for a sum, nothing at all."""
    if not recorded.size:  # directions are wrong, but none of the elements that were looked at
        return "", ""
    if not np.isfinite(recorded).all():
        return "not_finite", "The recorded derivative is not finite where f has a slope."
    if np.all(recorded == 0):
        return "missing_path", "It is zero: the path through this argument is missing."
    if np.all(np.abs(numerical) <= near):
        return "extra_term", "The result does not depend on it: a term too many."
    ratio = float(recorded @ numerical / (numerical @ numerical))
    if not np.all(np.abs(recorded - ratio * numerical) <= near * max(1, abs(ratio))):
        return "", "No simple ratio: compare the formula term by term."
    if abs(ratio + 1) < 1e-3:
        return "sign", "It is the right one with the opposite sign."
    for n, whose in lengths.items():
        two = " Or a factor 2." if n == 2 else ""
        if n > 1 and abs(ratio / n - 1) < 1e-3:
            text = f"It is {n} times too large, {n} being {whose}: summed, not averaged?{two}"
            return "missing_batch_mean", text
        if n > 1 and abs(ratio * n - 1) < 1e-3:
            text = f"It is {n} times too small, {n} being {whose}: averaged, not summed?{two}"
            return "extra_batch_mean", text
    if abs(ratio - 2) < 1e-3 or abs(ratio - 0.5) < 1e-3:
        return "factor", f"It is the right one times {ratio:.3g}: a factor 2, as of a square."
    if len(recorded) > 1:
        return "factor", f"It is the right one times {ratio:.6g}, a constant factor."
    return "", f"Its ratio to the right one is {ratio:.6g}."
