"""Convolutions: layers whose weights are the same at every position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import tinygrad_np as tg
from nn.init import Initializer, Rng, Shape, generator, initializer
from nn.layers.activation import Activation, activation_named
from nn.layers.layer import Layer, divisible, explained
from nn.options import differing, in_and_out, is_size
from tinygrad_np.errors import ArgumentError, TensorError, message


class Convolution(Layer):
    """What the convolutions share: their arguments and parameters."""

    axes: ClassVar[tuple[str, ...]]
    transposed: ClassVar[bool] = False
    W: tg.Tensor
    b: tg.Tensor | None

    def __init__(
        self,
        *channels: int,
        kernel: int | Sequence[int] | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        activation: str | Activation | None = None,
        bias: bool = True,
        weights_init: str | Initializer | ArrayLike = "xavier_uniform",
        bias_init: str | Initializer | ArrayLike = "zeros",
        rng: Rng = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        name = type(self).__name__
        self.in_channels, self.out_channels = in_and_out(name, channels)
        self.kernel = _per_axis(name, kernel, len(self.axes))
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        divisible(name, "groups", groups, "output channels", self.out_channels)
        self.activation = activation_named(activation)
        self.bias = bias
        self.weights_init = initializer(weights_init)
        self.bias_init = initializer(bias_init)
        self.rng = rng
        self.dtype = np.dtype(dtype)
        if self.in_channels is not None:
            self._build(self.in_channels)

    @property
    def built(self) -> bool:
        return self.in_channels is not None

    def _build(self, features: int) -> None:
        divisible(type(self).__name__, "groups", self.groups, "input channels", features)
        rng = generator(self.rng)
        channels = self.out_channels, features
        first, second = reversed(channels) if self.transposed else channels
        shape = first, second // self.groups, *self.kernel
        self.W = self._parameter("weights_init", shape, rng)
        b = (self.out_channels,)
        self.b = self._parameter("bias_init", b, rng, weights=shape) if self.bias else None
        self.in_channels = features

    def forward(self, x: Any) -> Any:
        x = self._operand(x, "N", self.in_channels or "C", *self.axes)
        self._ready(x, 1)
        try:
            z = self._convolved(x)
        except TensorError as error:
            raise explained(self, error) from error
        return z if self.activation is None else self.activation(z)

    def _convolved(self, x: Any) -> Any:
        raise NotImplementedError

    def multiply_adds(self, y: Shape, x: Shape) -> int:
        """Each output (each input, if transposed) meets the weights of one kernel."""
        return math.prod(x if self.transposed else y) * math.prod(self.W.shape[1:])

    def describe(self) -> str:
        channels = [str(n) for n in (self.in_channels, self.out_channels) if n is not None]
        same = len(set(self.kernel)) == 1
        kernel = f"kernel={self.kernel[0] if same else self.kernel}"
        options = ["stride", "padding", "dilation", "groups", "activation", "bias"]
        return ", ".join([*channels, kernel, *differing(self, *options)])


class Conv1d(Convolution):
    """Convolution over one axis ``y[n, o, i] = activation(b[o] + sum_cr W[o, c, r] x[n, c, i + r])``.

    Parameters
    ----------
    *channels, kernel, stride, padding, dilation, groups, activation, bias, \
    weights_init, bias_init, rng, dtype
        As for `Conv2d`, for one axis.

    Attributes
    ----------
    W : Tensor (out, in / groups, k)
    b : Tensor (out,), or None

    Raises
    ------
    ArgumentError, ShapeError
        As `Conv2d`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.Conv1d(8, kernel=3, padding="same")(np.ones((2, 4, 10))).shape
    (2, 8, 10)
    """

    axes = ("L",)

    def _convolved(self, x: Any) -> Any:
        return tg.conv1d(x, self.W, self.b, self.stride, self.padding, self.dilation, self.groups)


class Conv2d(Convolution):
    """Convolution ``y = activation(conv2d(x, W) + b)``, of pictures ``(N, C, H, W)``.

    At stride 1 ``conv2d(x, W)[n, o, i, j] = sum_crs W[o, c, r, s] x[n, c, i + r, j + s]``: the kernel
    is not flipped. See `tinygrad_np.conv2d`.

    Parameters
    ----------
    *channels : int
        ``in, out``; or only ``out``, and the number of input channels is taken from the first batch.
    kernel : int or pair of int
        The height and width of a window.
    stride, dilation : int or pair of int
        The step from window to window, and from element to element within one.
    padding : int, pair of int, "valid" or "same"
        Zeros added on both sides; "same" keeps the size, at stride 1.
    groups : int
        Divides both numbers of channels: each group of outputs sees its own group of inputs only.
    activation, bias, weights_init, bias_init, rng, dtype
        As for `Dense`.

    Attributes
    ----------
    W : Tensor (out, in / groups, kh, kw)
    b : Tensor (out,), or None

    Raises
    ------
    ArgumentError
        For sizes that are not positive whole numbers, groups that do not divide the channels, a
        stride, padding or dilation that is no such number, or unknown names.
    ShapeError
        When called with another number of channels, or on pictures smaller than the kernel.

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.Conv2d(6, kernel=5, padding=2, activation="relu")
    >>> layer(np.ones((2, 1, 28, 28))).shape
    (2, 6, 28, 28)
    >>> layer
    Conv2d(1, 6, kernel=5, padding=2, activation='relu')
    """

    axes = ("H", "W")

    def _convolved(self, x: Any) -> Any:
        return tg.conv2d(x, self.W, self.b, self.stride, self.padding, self.dilation, self.groups)


class ConvTranspose2d(Convolution):
    """Transposed convolution: each ``x[n, c, i, j] W[c]`` is added to its window of ``y``.

    The adjoint of the `Conv2d` of the same weights, from ``out`` to ``in`` channels; it makes
    pictures larger. See `tinygrad_np.conv_transpose2d`.

    Parameters
    ----------
    *channels, kernel, stride, padding, dilation, groups, activation, bias, \
    weights_init, bias_init, rng, dtype
        As for `Conv2d`; padding is what is cut off y on both sides, in numbers.
    output_padding : int or pair of int
        Less than the stride: added to the size of y, of which several lead to one size of x.

    Attributes
    ----------
    W : Tensor (in, out / groups, kh, kw)
    b : Tensor (out,), or None

    Raises
    ------
    ArgumentError, ShapeError
        As `Conv2d`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.ConvTranspose2d(16, 8, kernel=2, stride=2)(np.ones((2, 16, 7, 7))).shape
    (2, 8, 14, 14)
    """

    axes = ("H", "W")
    transposed = True

    def __init__(
        self, *channels: int, output_padding: int | Sequence[int] = 0, **options: Any
    ) -> None:
        self.output_padding = output_padding
        super().__init__(*channels, **options)

    def _convolved(self, x: Any) -> Any:
        return tg.conv_transpose2d(
            x, self.W, self.b, self.stride, self.padding, self.output_padding, self.groups,
            self.dilation,
        )  # fmt: skip

    def describe(self) -> str:
        return ", ".join([super().describe(), *differing(self, "output_padding")])


def _per_axis(name: str, kernel: Any, axes: int) -> Shape:
    """The length of the kernel along each axis."""
    lengths = tuple(kernel) if isinstance(kernel, Sequence) else (kernel,) * axes
    if len(lengths) != axes or not all(map(is_size, lengths)):
        each = "a whole number" if axes == 1 else f"a whole number or {axes} of them"
        fix = f"Write {name}(in, out, kernel=3)." if kernel is None else ""
        raise ArgumentError(message(name, f"kernel as {each}, at least 1", repr(kernel), fix))
    return lengths
