"""The fully connected layer, and what makes rows for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import tinygrad_np as tg
from nn.init import Initializer, Rng, Shape, generator, initializer
from nn.layers.activation import Activation, activation_named
from nn.layers.layer import Layer, label
from nn.module import Module, as_operand
from nn.options import differing, in_and_out
from tinygrad_np.errors import ShapeError, message


class Dense(Layer):
    """Fully connected layer ``y = activation(x @ W + b)``.

    With ``z = x @ W + b``: ``dz = dy * activation'(z)``, ``dW = x.T @ dz``, ``db = dz.sum(0)``,
    ``dx = dz @ W.T``.

    Parameters
    ----------
    *features : int
        ``in, out``; or only ``out``, and the input size is taken from the first batch.
    activation : str or callable, optional
        Its name (``"relu"``) or a function of a tensor; by default none.
    bias : bool
        Whether there is a ``b``.
    weights_init, bias_init : str, callable or array_like
        The initialiser's name, a function of (shape, rng, dtype), or the values; see `nn.init`. The
        fans of a bias are those of the weights.
    rng : numpy.random.Generator, int or None
        What the initial values are drawn from; by default the generator that `nn.seed` sets.
    dtype : dtype
        Of the parameters. Batches that are plain arrays are converted to it; those that are tensors
        keep theirs, as in NumPy.

    Attributes
    ----------
    W : Tensor (in, out)
    b : Tensor (out,), or None

    Raises
    ------
    ArgumentError
        For sizes that are not positive whole numbers, or unknown names.
    ShapeError
        When called with another number of features.

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.Dense(3, activation="relu")
    >>> layer
    Dense(3, activation='relu')
    >>> layer(np.ones((2, 4))).shape
    (2, 3)
    >>> layer
    Dense(4, 3, activation='relu')
    """

    W: tg.Tensor
    b: tg.Tensor | None

    def __init__(
        self,
        *features: int,
        activation: str | Activation | None = None,
        bias: bool = True,
        weights_init: str | Initializer | ArrayLike = "xavier_uniform",
        bias_init: str | Initializer | ArrayLike = "zeros",
        rng: Rng = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.in_features, self.out_features = in_and_out("Dense", features)
        self.activation = activation_named(activation)
        self.bias = bias
        self.weights_init = initializer(weights_init)
        self.bias_init = initializer(bias_init)
        self.rng = rng
        self.dtype = np.dtype(dtype)
        if self.in_features is not None:
            self._build(self.in_features)

    def _build(self, features: int) -> None:
        rng = generator(self.rng)
        W, b = (features, self.out_features), (self.out_features,)
        self.W = self._parameter("weights_init", W, rng)
        self.b = self._parameter("bias_init", b, rng, weights=W) if self.bias else None
        self.in_features = features

    @property
    def built(self) -> bool:
        return self.in_features is not None

    def forward(self, x: Any) -> Any:
        if not isinstance(x, tg.Tensor):
            x = as_operand(x, self.dtype, "Dense")
        if self.in_features is None:
            self._build(self._features(x.shape))
        try:
            z = tg.matmul(x, self.W) if self.b is None else tg.linear(x, self.W, self.b)
        except ShapeError as error:
            raise self._explained(x) from error
        return z if self.activation is None else self.activation(z)

    def multiply_adds(self, y: Shape, x: Shape) -> int:
        return math.prod(y) * x[-1]

    def _features(self, shape: Shape) -> int:
        if len(shape) < 2 or shape[-1] == 0:
            raise ShapeError(message(f"{self!r}", "a first batch (N, features)", f"{shape}"))
        return shape[-1]

    def _explained(self, x: Any) -> ShapeError:
        m = self.in_features
        fix = "Flatten the rows first: nn.Flatten()." if math.prod(x.shape[1:]) == m else ""
        return ShapeError(message(label(self), f"x (..., {m})", f"{x.shape}", fix))

    def describe(self) -> str:
        sizes = (self.in_features, self.out_features)
        parts = [str(n) for n in sizes if n is not None]
        return ", ".join([*parts, *differing(self, "activation", "bias")])


class Flatten(Module):
    """The axes of each row as one: ``(N, ...)`` becomes ``(N, features)``.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.Flatten()(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    def forward(self, x: Any) -> Any:
        shape = np.shape(x)
        if not shape:
            raise ShapeError(message(label(self), "x (N, ...)", "a scalar"))
        return tg.reshape(x, (shape[0], math.prod(shape[1:])))
