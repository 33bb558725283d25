"""Numerical derivatives along a line, each with an estimate of its own error.

What is measured is not the slope but the residual: the change of the function less the change that
the recorded gradient explains. Its slope is 0 where the gradient is right, so that neither the
rounding of ``x + h v`` nor the size of the slope enters into the comparison.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Evaluate = Callable[[Sequence[Array]], list[Array]]
# Complex step: so small that h**2 vanishes beside 1, in single precision too.
IMAGINARY_STEP = 2.0**-60


@dataclass(frozen=True)
class Measured:
    """A recorded and a numerical derivative along one direction.

    ``uncertainty`` is how far apart the two may be by rounding and truncation alone; ``verdict`` is
    ``right``, ``wrong``, ``noise`` (they agree, but within an uncertainty that would hide a mistake)
    or ``kink``.
    """

    recorded: float
    numerical: float
    uncertainty: float
    verdict: str
    method: str = "central"

    @property
    def difference(self) -> float:
        return abs(self.recorded - self.numerical)

    def over(self, scale: float) -> Measured:
        """The same along a direction ``scale`` times shorter."""
        return replace(
            self, recorded=self.recorded / scale, numerical=self.numerical / scale,
            uncertainty=self.uncertainty / scale,
        )  # fmt: skip


@dataclass(frozen=True)
class Point:
    """Where a function is examined: its inputs, its outputs, and the cotangents that weight them.

    ``natural`` is how large each output is before anything cancels, where that is known.
    """

    evaluate: Evaluate
    arrays: list[Array]
    outputs: list[Array]
    cotangents: list[Array]
    natural: list[float] | None = None

    def weighted(self, outputs: Sequence[Array]) -> float:
        """``sum(g * y)``, in double precision."""
        return sum(float(np.sum(g * y, dtype=float)) for g, y in zip(self.cotangents, outputs))

    @property
    def size(self) -> float:
        """``sum(|g * y|)``, whose rounding a difference of two values cannot undercut."""
        return self.weighted(
            [np.sign(g) * np.abs(y) for g, y in zip(self.cotangents, self.outputs)]
        )

    def significant(self, scale: float, eps: float) -> float:
        """The size of a derivative that matters: ``scale``, unless that is 0 but for rounding."""
        natural = self.size
        if self.natural is not None:
            weights = [float(np.linalg.norm(g)) for g in self.cotangents]
            natural = max(natural, sum(n * w for n, w in zip(self.natural, weights)))
        return natural if scale <= 4 * eps * natural else scale

    def epsilon(self, k: int) -> float:
        """The rounding unit of the k-th input and of the outputs, the coarser of them."""
        dtypes = [self.arrays[k].dtype, *(y.dtype for y in self.outputs)]
        return max(float(np.finfo(dtype).eps) for dtype in dtypes)

    def moved(self, k: int, array: Array) -> list[Array]:
        """The outputs with another k-th input."""
        arrays = [array if i == k else a for i, a in enumerate(self.arrays)]
        with np.errstate(all="ignore"):
            return self.evaluate(arrays)


class Line:
    """The function along ``x + t v``, one input moved, less what its recorded gradient explains.

    ``scale`` is the size of a derivative that matters: that of the whole argument.
    """

    def __init__(self, point: Point, k: int, v: Array, gradient: Array, scale: float) -> None:
        self.point, self.k, self.v = point, k, v
        with np.errstate(invalid="ignore"):
            self.recorded = float(np.sum(gradient * v, where=v != 0, dtype=float))
        self.finite = math.isfinite(self.recorded)
        self.gradient = np.where(np.isfinite(gradient), gradient, 0).astype(float)
        self.eps = point.epsilon(k)
        explained = self.gradient * v
        self.explained = float(explained.sum())
        self.magnitude = float(np.abs(explained).sum())
        self.scale = point.significant(max(scale, float(np.linalg.norm(explained))), self.eps)

    def at(self, t: float) -> tuple[float, float]:
        """The change of the function at ``t``, and what the recorded gradient explains of it."""
        x = self.point.arrays[self.k]
        there = np.asarray(x + t * self.v).astype(x.dtype)
        outputs = self.point.moved(self.k, there)
        with np.errstate(all="ignore"):
            change = [np.subtract(y, y0, dtype=float) for y, y0 in zip(outputs, self.point.outputs)]
            step = there.astype(float) - x
            return self.point.weighted(change), float((self.gradient * step).sum())

    def slopes(self, h: float) -> tuple[float, float, float]:
        """The residual's slopes to the right and to the left over a step ``h``; how far f moved."""
        (up, explained_up), (down, explained_down) = self.at(h), self.at(-h)
        return (up - explained_up) / h, -(down - explained_down) / h, abs(up) + abs(down)

    def complex_slope(self, sign: int = 1) -> tuple[float, list[Array]]:
        """The derivative by a complex step, and the complex outputs."""
        h = sign * IMAGINARY_STEP
        outputs = self.point.moved(self.k, self.point.arrays[self.k] + 1j * h * self.v)
        return self.point.weighted([np.imag(y) for y in outputs]) / h, outputs

    # -- the verdict -------------------------------------------------------------------------------

    def measured(self, residual: float, uncertainty: float, verdict: str) -> Measured:
        if verdict != "kink" and not self.finite:
            verdict = "wrong"
        return Measured(self.recorded, self.explained + residual, uncertainty, verdict)

    def measure(self) -> Measured:
        """Central differences: two steps where they settle it, else the sweep over all steps."""
        eps, h = self.eps, 2.0 ** round(math.log2(self.eps) / 5)
        rounding = eps * self.point.size / h
        floor = 10 * rounding + 1e3 * eps * self.magnitude
        (right, left, _), (right2, left2, height) = self.slopes(h), self.slopes(h / 2)
        coarse, fine = (right + left) / 2, (right2 + left2) / 2
        best = (4 * fine - coarse) / 3
        bend, bend2 = abs(right - left), abs(right2 - left2)
        bent = bend2 > 20 * rounding and bend2 > 0.7 * bend
        if self.finite and not bent and abs(best) <= floor <= eps**0.4 * self.scale:
            return self.measured(best, floor, "right")
        error = abs(coarse - fine) + floor
        if height > 0 and abs(best) > max(100 * error, 0.1 * self.scale, 5 * bend2):
            return self.measured(best, error, "wrong")
        return self.sweep()

    def sweep(self) -> Measured:
        """Central differences over a range of steps, from truncation down to rounding.

        The step is taken where three extrapolations in a row agree best. Rounding shows as the
        scatter at the smallest steps, a kink as one-sided slopes that stay apart as the step shrinks.
        """
        eps, exponent = self.eps, math.log2(self.eps)
        steps = 2.0 ** np.arange(round(exponent / 8), exponent * 2 / 3, -2)
        right, left, heights = np.array([self.slopes(float(h)) for h in steps]).T
        known = np.isfinite(right) & np.isfinite(left)
        moving = heights > 4 * eps * self.scale
        if self._is_staircase(heights[moving], int(sum(~moving))):
            known &= moving
            if known.sum() < 4:
                return self.measured(math.nan, math.inf, "noise")
        if known.sum() < 4:  # the edge of the domain: there is no slope on one side
            one_sided = np.append(right[np.isfinite(right)], left[np.isfinite(left)])
            return self.measured(one_sided[-1] if one_sided.size else math.nan, math.inf, "kink")
        steps, right, left = steps[known], right[known], left[known]
        central, bend = (right + left) / 2, np.abs(right - left)
        jumps = np.abs(np.diff(central))
        noise = max(eps * self.point.size, 2 * float(np.median((jumps * steps[1:])[-4:])))
        best = central[1:] + np.diff(central) / 15  # each step is a quarter of the last
        apart = np.abs(np.diff(best))
        errors = np.maximum(np.maximum(apart[:-1], apart[1:]), noise / steps[2:-1])
        k = int(np.argmin(errors))
        residual, error = float(best[k + 1]), float(errors[k])
        uncertainty = max(
            5 * error + 1e3 * eps * self.magnitude + 1e2 * eps * (self.scale + self.point.size),
            eps**0.6 * self.scale,
        )
        if self._has_kink(steps, central, bend, noise):
            return self.measured(
                residual, uncertainty, "kink" if self._bends_in_double() else "noise"
            )
        if abs(residual) > uncertainty:
            return self.measured(residual, uncertainty, "wrong")
        scale = max(self.scale, abs(self.explained + residual))
        return self.measured(
            residual, uncertainty, "noise" if uncertainty > eps**0.2 * scale else "right"
        )

    def _is_staircase(self, heights: Array, still: int) -> bool:
        """Whether f stands still below some step because of its rounding, not because it is flat.

        Then it moves the less the smaller the step, down to one stair; beside a jump, where a slope
        of 0 is right, it moves by the same height until it does not move at all.
        """
        if not (still and heights.size):
            return False
        flat = abs(self.explained) <= self.eps**0.6 * self.scale
        return not flat or bool(heights.max() > 2 * heights.min())

    def _bends_in_double(self) -> bool:
        """Whether the kink is one in double precision, too, and not what single makes of rounding."""
        point = self.point
        if all(array.dtype == float for array in point.arrays):
            return True
        arrays = [array.astype(float) for array in point.arrays]
        outputs = point.evaluate(arrays)
        if any(y.dtype != float for y in outputs):
            return True  # f computes in a precision of its own
        double = replace(
            point, arrays=arrays, outputs=outputs,
            cotangents=[np.asarray(g, float) for g in point.cotangents],
        )  # fmt: skip
        line = Line(double, self.k, self.v.astype(float), self.gradient, self.scale)
        return line.sweep().verdict == "kink"

    def _has_kink(self, steps: Array, central: Array, bend: Array, noise: float) -> bool:
        """Whether the one-sided slopes stay apart (curvature shrinks to a quarter a step), or f jumps."""
        certain = bend > np.maximum(20 * noise / steps, self.eps**0.4 * self.scale)
        last = np.flatnonzero(certain)[-3:]
        stays = len(last) == 3 and bool(np.all(bend[last][1:] > 0.7 * bend[last][:-1]))
        heights = np.abs(central * steps)[-3:]
        jumps = (
            heights.min() > 0.9 * heights.max() > 1e4 * self.eps * max(self.scale, self.point.size)
        )
        return stays or bool(jumps)

    def measure_complex(self) -> Measured:
        """A complex step; what disagrees with it has to disagree with central differences, too."""
        slope, _ = self.complex_slope()
        uncertainty = 1e3 * self.eps * (self.magnitude + self.scale)
        if abs(slope - self.recorded) <= uncertainty:
            return Measured(self.recorded, slope, uncertainty, "right", "complex")
        measured = self.measure()
        if abs(slope - measured.numerical) <= measured.uncertainty:
            measured = replace(measured, numerical=slope, method="complex")
        return measured


def complex_step_refused(line: Line) -> str:
    """Why the complex step cannot be used for this input; empty if it can.

    The function has to take complex arrays, to keep their imaginary part, and to be analytic: then
    ``f(conj(x)) = conj(f(x))``, and the slope is that of central differences.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            slope, outputs = line.complex_slope()
            _, mirrored = line.complex_slope(-1)
    except (
        Exception
    ) as error:  # whatever the user's function raises when it is given complex numbers
        text = " ".join(str(error).split())
        return f"f does not take complex arrays ({type(error).__name__}: {text:.100})"
    near = math.sqrt(line.eps)
    for y, other, y0 in zip(outputs, mirrored, line.point.outputs):
        if not np.allclose(np.real(y), y0, rtol=near, atol=near, equal_nan=True):
            return "f has other values on complex arrays"
        size = np.abs(np.imag(y)).max(initial=0)
        if not np.allclose(np.imag(y), -np.imag(other), rtol=near, atol=near * size):
            return "f has another branch on the other side: a kink"
    central = line.sweep()
    if central.verdict == "kink" or not abs(slope - central.numerical) <= max(
        central.uncertainty, near * line.scale
    ):
        return "f is not analytic on complex arrays: the central difference is another"
    return ""
