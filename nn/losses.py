"""Losses, as modules of outputs and targets."""

from __future__ import annotations

from typing import Any

import tinygrad_np as tg
from nn.module import Module
from tinygrad_np.errors import ArgumentError, message

REDUCTIONS = ("mean", "sum", "none")


class Loss(Module):
    """What the losses share: how their elements become one number.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        `nn.fit` needs a number, so "mean" or "sum".

    Raises
    ------
    ArgumentError
        For another reduction.
    """

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in REDUCTIONS:
            raise ArgumentError(
                message(type(self).__name__, f"reduction among {', '.join(REDUCTIONS)}",
                        repr(reduction))
            )  # fmt: skip
        self.reduction = reduction

    def describe(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class MSE(Loss):
    """Squared error ``L = mean((y - t)^2)`` over all elements; ``dy = 2 (y - t) / n``.

    See `tinygrad_np.mean_squared_error`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.MSE()(np.array([1.0, 2.0]), [1.0, 4.0]))
    2.0
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.mean_squared_error(outputs, targets, self.reduction)


class HalfSquaredError(Loss):
    """Half the squared error of a row, ``L = mean_n 1/2 |y_n - t_n|^2``; ``dy = (y - t) / N``.

    The mean is over the N rows, not over their elements: the gradient of a row is the plain error.
    For outputs (N,) a row is one number.

    Examples
    --------
    >>> import numpy as np, nn
    >>> y, t = np.array([[1.0, 2.0], [0.0, 0.0]]), [[1.0, 4.0], [1.0, 1.0]]
    >>> float(nn.HalfSquaredError()(y, t))
    1.5
    >>> nn.HalfSquaredError(reduction="none")(y, t)
    array([2., 1.])
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        if self.reduction == "none":
            squares = tg.mean_squared_error(outputs, targets, "none")
            return tg.sum(squares, axis=tuple(range(1, squares.ndim))) * 0.5
        factor = 0.5 / len(outputs) if self.reduction == "mean" else 0.5
        return tg.mean_squared_error(outputs, targets, "sum") * factor


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy ``L = -mean_n log p_n[t_n]``, ``p = softmax(z)``; ``dz = (p - onehot(t)) / N``.

    The outputs are logits: the model ends without a softmax. The targets are integers (N,), or
    one-hot rows or probabilities (N, K). See `tinygrad_np.softmax_cross_entropy`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.SoftmaxCrossEntropy()(np.array([[0.0, 0.0], [1000.0, 0.0]]), [0, 0]))
    0.34657359027997264
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.softmax_cross_entropy(outputs, targets, self.reduction)


class BinaryCrossEntropy(Loss):
    """Cross-entropy ``L = mean(log(1 + exp(z)) - t z)``, ``p = sigmoid(z)``; ``dz = (p - t) / n``.

    The outputs are logits: the model ends without a sigmoid. The targets are 0, 1 or between, of
    the same shape. See `tinygrad_np.binary_cross_entropy`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.BinaryCrossEntropy()(np.array([0.0, 1000.0]), [1, 1]))
    0.34657359027997264
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.binary_cross_entropy(outputs, targets, self.reduction)
