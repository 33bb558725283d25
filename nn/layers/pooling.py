"""Pooling: windows, or whole pictures, as one number a channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import tinygrad_np as tg
from nn.layers.layer import checked, explained
from nn.module import Module
from nn.options import differing
from tinygrad_np.errors import TensorError


class Pooling(Module):
    """What the poolings over windows share: their arguments."""

    pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
    ) -> None:
        self.kernel = kernel
        self.stride = stride
        self.padding = padding

    def forward(self, x: Any) -> Any:
        x = checked(self, x, "N", "C", "H", "W")
        try:
            return type(self).pool(x, self.kernel, self.stride, self.padding)
        except TensorError as error:
            raise explained(self, error) from error

    def describe(self) -> str:
        return ", ".join([str(self.kernel), *differing(self, "stride", "padding")])


class MaxPool2d(Pooling):
    """The largest element of each window; of equal ones the first gets the gradient.

    Parameters
    ----------
    kernel : int or pair of int
        The height and width of a window.
    stride : int or pair of int, optional
        The step from window to window; by default the kernel, so that they lie side by side.
    padding : int or pair of int
        At most half the kernel; what is added is never the largest. See `tinygrad_np.max_pool`.

    Raises
    ------
    ShapeError, ArgumentError
        When called, for what is no batch ``(N, C, H, W)`` or smaller than the kernel, and for a
        kernel, stride or padding that is no such number.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    pool = staticmethod(tg.max_pool)


class AvgPool2d(Pooling):
    """The mean of each window; the zeros of the padding count, as by default in PyTorch.

    Parameters
    ----------
    kernel, stride, padding
        As for `MaxPool2d`. See `tinygrad_np.avg_pool`.

    Raises
    ------
    ShapeError, ArgumentError
        As `MaxPool2d`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    pool = staticmethod(tg.avg_pool)


class GlobalAvgPool(Module):
    """The mean of each channel: ``(N, C, ...)`` becomes ``(N, C)``, ``y[n, c] = mean(x[n, c])``.

    Raises
    ------
    ShapeError
        When called with fewer than three axes.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.GlobalAvgPool()(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    def forward(self, x: Any) -> Any:
        x = checked(self, x, "N", "C", "L", "...")
        return tg.mean(x, axis=tuple(range(2, x.ndim)))
