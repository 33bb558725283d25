"""Normalisation, with the scale and shift that are learnt after it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import tinygrad_np as tg
from nn.init import Shape, ones, zeros
from nn.layers.layer import Layer, divisible, label
from nn.options import differing, sizes
from tinygrad_np.errors import ArgumentError, ShapeError, message


class Normalization(Layer):
    """What the normalisations share: a weight of ones and a bias of zeros, both learnt."""

    shape: Shape | None
    affine: bool
    weight: tg.Tensor | None
    bias: tg.Tensor | None

    @property
    def built(self) -> bool:
        return self.shape is not None

    def multiply_adds(self, y: Shape, x: Shape) -> int:
        """For each number its square, its product with the scale, and that with the weight."""
        return math.prod(x) * (3 if self.affine else 2)

    def _build(self, features: int) -> None:
        self._make((features,))

    def _make(self, shape: Shape) -> None:
        self.weight = self.bias = None
        if self.affine:
            self.weight = tg.Tensor(ones(shape, dtype=self.dtype), requires_grad=True)
            self.bias = tg.Tensor(zeros(shape, dtype=self.dtype), requires_grad=True)
        self.shape = shape


class BatchNorm(Normalization):
    """Batch normalisation ``y = (x - mean) / sqrt(var + eps) * weight + bias``, channel by channel.

    In training mean and variance are those of the batch, over all axes but the channels', and the
    gradient flows through them. In evaluation they are the running ones, which training moves by
    ``running = (1 - momentum) running + momentum batch``. As in PyTorch the variance is divided by n
    where it normalises, and by n - 1 where it is added to the running one.

    Parameters
    ----------
    channels : int, optional
        By default taken from the first batch, ``(N, C)`` or ``(N, C, *spatial)``.
    momentum : float or None
        In [0, 1]: how much of the running statistics a batch replaces. As in PyTorch; Keras counts
        what is kept. None makes them the mean over all batches.
    eps : float
        Keeps the root from 0.
    affine : bool
        Whether there are weight and bias.
    dtype : dtype
        Of the parameters; see `Dense`.

    Attributes
    ----------
    weight, bias : Tensor (C,), or None
    running_mean, running_var : Tensor (C,)
        Buffers: without gradient, but part of the state.
    batches : Tensor () of int, or None
        For ``momentum=None`` the number of batches, a buffer.

    Raises
    ------
    ArgumentError
        For channels or a momentum that are no such number.
    ShapeError
        When called with another number of channels; in training also for a single value a channel.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch normalization", 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.BatchNorm(1)
    >>> layer(np.array([[1.0], [3.0]])).data.round(2)
    array([[-1.],
           [ 1.]], dtype=float32)
    >>> layer.running_mean.data, layer.running_var.data
    (array([0.2], dtype=float32), array([1.1], dtype=float32))
    """

    running_mean: tg.Tensor
    running_var: tg.Tensor
    batches: tg.Tensor | None

    def __init__(
        self,
        channels: int | None = None,
        *,
        momentum: float | None = 0.1,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if momentum is not None and not 0 <= momentum <= 1:
            raise ArgumentError(message("BatchNorm", "momentum in [0, 1] or None", repr(momentum)))
        self.shape = None
        self.momentum = momentum
        self.eps = eps
        self.affine = affine
        self.dtype = np.dtype(dtype)
        if channels is not None:
            sizes("BatchNorm", (channels,), "(channels,)", most=1)
            self._build(channels)

    def _build(self, features: int) -> None:
        super()._build(features)
        self.running_mean = tg.Tensor(zeros((features,), dtype=self.dtype))
        self.running_var = tg.Tensor(ones((features,), dtype=self.dtype))
        self.batches = tg.Tensor(0, dtype=np.int64) if self.momentum is None else None

    def multiply_adds(self, y: Shape, x: Shape) -> int:
        """In evaluation, where the statistics are known: the squares are left out."""
        return super().multiply_adds(y, x) - math.prod(x)

    def forward(self, x: Any) -> Any:
        x = self._operand(x, "N", self.shape[0] if self.shape else "C", "...")
        self._ready(x, 1)
        w, b = self.weight, self.bias
        if not self.training:
            # Other tensors: training moves the statistics before a backward pass may come.
            mean, var = self.running_mean.detach(), self.running_var.detach()
            return tg.batch_norm(x, w, b, mean, var, eps=self.eps)
        if x.size <= x.shape[1]:
            raise ShapeError(
                message(label(self), "more than one value a channel in training", f"{x.shape}",
                        "Choose a batch size that leaves no batch of one row, or nn.GroupNorm.")
            )  # fmt: skip
        y = tg.batch_norm(x, w, b, eps=self.eps)
        self._move(x)
        return y

    @tg.no_grad()
    def _move(self, x: Any) -> None:
        """Move the running statistics towards those of a batch: as tensors, so that a compiled step
        moves them, too."""
        axes = (0, *range(2, x.ndim))
        replaced: Any = self.momentum
        if self.batches is not None:
            count = self.batches + 1
            self.batches.data = count
            replaced = tg.astype(1 / count, self.running_mean.dtype)
        for running, batch in (
            (self.running_mean, tg.mean(x, axis=axes)),
            (self.running_var, tg.var(x, axis=axes, ddof=1)),
        ):
            running.data = running + replaced * (batch - running)

    def describe(self) -> str:
        options = differing(self, "momentum", "eps", "affine")
        return ", ".join([*map(str, self.shape or ()), *options])


class LayerNorm(Normalization):
    """Layer normalisation ``y = (x - mean) / sqrt(var + eps) * weight + bias``, row by row.

    Mean and variance (divided by n) are over the last axis or axes. See `tinygrad_np.layer_norm`.

    Parameters
    ----------
    *features : int
        The lengths of the last axes; by default that of the last one, from the first batch.
    eps, affine, dtype
        As for `BatchNorm`.

    Attributes
    ----------
    weight, bias : Tensor (*features), or None

    Raises
    ------
    ArgumentError
        For features that are not positive whole numbers.
    ShapeError
        When called with other features.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016, equations 3 and 4.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.LayerNorm(2)(np.array([[1.0, 3.0], [-5.0, 5.0]])).data.round(2)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        *features: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        sizes(type(self).__name__, features, "the lengths of the last axes", most=len(features))
        self.shape = None
        self.eps = eps
        self.affine = affine
        self.dtype = np.dtype(dtype)
        if features:
            self._make(features)

    def forward(self, x: Any) -> Any:
        x = self._operand(x, "...", *(self.shape or ["features"]))
        self._ready(x, -1)
        assert self.shape is not None
        return self._normalized(x, tuple(range(-len(self.shape), 0)))

    def _normalized(self, x: Any, axes: tuple[int, ...]) -> Any:
        return tg.layer_norm(x, self.weight, self.bias, axis=axes, eps=self.eps)

    def describe(self) -> str:
        return ", ".join([*map(str, self.shape or ()), *differing(self, "eps", "affine")])


class RMSNorm(LayerNorm):
    """Root-mean-square normalisation ``y = x / sqrt(mean(x**2) + eps) * weight``, row by row.

    Parameters
    ----------
    *features, eps, affine, dtype
        As for `LayerNorm`; there is no bias. See `tinygrad_np.rms_norm`.

    Attributes
    ----------
    weight : Tensor (*features), or None

    Raises
    ------
    ArgumentError, ShapeError
        As `LayerNorm`.

    References
    ----------
    B. Zhang and R. Sennrich, "Root mean square layer normalization", 2019, equation 4.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.RMSNorm(2)(np.array([[1.0, 7.0]])).data.round(2)
    array([[0.2, 1.4]], dtype=float32)
    """

    def __init__(
        self,
        *features: int,
        eps: float = 1e-6,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(*features, eps=eps, affine=affine, dtype=dtype)

    def _make(self, shape: Shape) -> None:
        super()._make(shape)
        self.bias = None

    def _normalized(self, x: Any, axes: tuple[int, ...]) -> Any:
        return tg.rms_norm(x, self.weight, axis=axes, eps=self.eps)


class GroupNorm(Normalization):
    """Group normalisation: as `LayerNorm`, over each group of the channels of a row.

    Parameters
    ----------
    channels : int, optional
        By default taken from the first batch, ``(N, C)`` or ``(N, C, *spatial)``.
    groups : int
        Divides the channels; 1 for all of them together, C for instance normalisation.
    eps, affine, dtype
        As for `BatchNorm`. See `tinygrad_np.group_norm`.

    Attributes
    ----------
    weight, bias : Tensor (C,), or None

    Raises
    ------
    ArgumentError
        For channels that are no positive whole number, or that the groups do not divide.
    ShapeError
        When called with another number of channels.

    References
    ----------
    Y. Wu and K. He, "Group normalization", 2018, equation 7.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.GroupNorm(4, groups=2)(np.array([[1.0, 3.0, 10.0, 30.0]])).data.round(2)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        channels: int | None = None,
        *,
        groups: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        divisible("GroupNorm", "groups", groups, "channels", None)
        self.shape = None
        self.groups = groups
        self.eps = eps
        self.affine = affine
        self.dtype = np.dtype(dtype)
        if channels is not None:
            sizes("GroupNorm", (channels,), "(channels,)", most=1)
            self._build(channels)

    def _build(self, features: int) -> None:
        divisible("GroupNorm", "groups", self.groups, "channels", features)
        super()._build(features)

    def forward(self, x: Any) -> Any:
        x = self._operand(x, "N", self.shape[0] if self.shape else "C", "...")
        self._ready(x, 1)
        return tg.group_norm(x, self.groups, self.weight, self.bias, eps=self.eps)

    def describe(self) -> str:
        options = [f"groups={self.groups}", *differing(self, "eps", "affine")]
        return ", ".join([*map(str, self.shape or ()), *options])
