"""Windows that slide over the spatial axes of an array, and the arguments that describe them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..core import Tensor
from ..errors import ArgumentError, ShapeError, message

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
ALL = slice(None)


class Window(NamedTuple):
    """A window that slides over spatial axes: one number (two for the padding) for each axis."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints

    @property
    def reach(self) -> Ints:
        """How far it extends."""
        return tuple([d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation)])

    def positions(self, size: Ints) -> Ints:
        """How often it fits, given the size with its margin."""
        return tuple([(n - r) // s + 1 for n, r, s in zip(size, self.reach, self.stride)])

    def along(self, axis: int) -> Window:
        """The same window along one of its axes."""
        one = slice(axis, axis + 1)
        return Window(self.kernel[one], self.stride[one], self.padding[one], self.dilation[one])

    def margin(self, size: Ints) -> Ints:
        """The size with its margin."""
        return tuple([n + before + after for n, (before, after) in zip(size, self.padding)])

    def padded(self, x: Any, first: int, fill: float = 0) -> Any:
        """With a margin around the spatial axes from ``first`` on; the order in memory stays."""
        if not any(map(any, self.padding)):
            return x
        last = first + len(self.kernel)
        shape = (*x.shape[:first], *self.margin(x.shape[first:last]), *x.shape[last:])
        wide = np.full_like(x, fill, shape=shape)
        self.inner(wide, first)[...] = x
        return wide

    def inner(self, wide: Any, first: int) -> Any:
        """What lies within the margin: a view."""
        spatial = zip(wide.shape[first:], self.padding)
        return wide[(ALL,) * first + tuple([slice(b, n - a) for n, (b, a) in spatial])]

    def views(self, wide: Any, first: int) -> Any:
        """All windows at once, as a view of shape ``(..., *kernel, *positions, ...)``."""
        last = first + len(self.kernel)
        steps = wide.strides[first:last]
        return as_strided(
            wide,
            (*wide.shape[:first], *self.kernel, *self.positions(wide.shape[first:last]),
             *wide.shape[last:]),
            (*wide.strides[:first], *map(operator.mul, steps, self.dilation),
             *map(operator.mul, steps, self.stride), *wide.strides[last:]),
        )  # fmt: skip


def array_of(name: str, argument: str, x: Any, axes: str) -> Any:
    """An operand as an array, if it has the axes that are named."""
    x = x if type(x) is Tensor else np.asarray(x)
    expected = axes.count(",") + 1
    if x.ndim != expected:
        fix = f"Did you mean {argument}[None], a batch of one?" if x.ndim == expected - 1 else ""
        raise ShapeError(message(name, f"{argument} of shape {axes}", f"{x.shape}", fix))
    return x


def check_fit(name: str, window: Window, size: Ints) -> None:
    """Raise unless the window fits at least once."""
    wide = window.margin(size)
    if any(r > n for r, n in zip(window.reach, wide)):
        dilated = f" (kernel {window.kernel}, dilated)" if window.reach != window.kernel else ""
        raise ShapeError(
            message(name, f"a kernel that fits into the padded size {wide}",
                    f"one of {window.reach}{dilated}", "Pad more, or pool less before.")
        )  # fmt: skip


def numbers_of(name: str, argument: str, value: Any, axes: int, low: int) -> Ints:
    """One int for each axis, none below ``low``."""
    given = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    try:
        numbers = tuple([operator.index(n) for n in given])
    except TypeError:
        numbers = ()
    if len(numbers) != axes or min(numbers) < low:
        each = "an int" if axes == 1 else f"an int or {axes} of them"
        raise ArgumentError(
            message(name, f"{argument} to be {each}, at least {low}", f"{value!r:.40}")
        )
    return numbers


def window_of(name: str, kernel: Ints, stride: Any, padding: Any, dilation: Any) -> Window:
    """A window from the arguments of a public function."""
    axes = len(kernel)
    stride = numbers_of(name, "stride", stride, axes, 1)
    dilation = numbers_of(name, "dilation", dilation, axes, 1)
    if not isinstance(padding, str):
        pads = tuple([(n, n) for n in numbers_of(name, "padding", padding, axes, 0)])
    elif padding == "valid":
        pads = ((0, 0),) * axes
    elif padding == "same" and set(stride) == {1}:
        total = [d * (k - 1) for k, d in zip(kernel, dilation)]
        pads = tuple([(n // 2, n - n // 2) for n in total])
    else:
        fix = 'With "same" the stride is 1.' if padding == "same" else ""
        raise ArgumentError(
            message(name, 'padding to be numbers, "valid" or "same"',
                    f"{padding!r}, stride={stride}", fix)
        )  # fmt: skip
    return Window(kernel, stride, pads, dilation)


def ones(*shape: int) -> Tensor:
    """A tensor for sample calls that must fail."""
    return Tensor(np.ones(shape))
