"""Losses, as modules of outputs and targets.

The gradients in the first lines are those of ``reduction="mean"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import tinygrad_np as tg
from nn.module import Module
from nn.names import check_name
from nn.options import differing
from tinygrad_np.errors import ArgumentError, IndexingError, ShapeError, message

__all__ = [
    "L1", "MSE", "NLL", "BinaryCrossEntropy", "CosineDistance", "HalfSquaredError", "Hinge",
    "Huber", "KLDivergence", "SoftmaxCrossEntropy",
]  # fmt: skip

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
        check_name(f"{type(self).__name__}: reduction", reduction, REDUCTIONS)
        self.reduction = reduction

    @property
    def weighs_rows(self) -> bool:
        """Whether some rows count more than others in the mean, by `counts`."""
        return False

    def describe(self) -> str:
        return ", ".join(differing(self))


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


class OfLabels(Loss):
    """What the losses of labels share: rows that count by their class, or for nothing.

    Parameters
    ----------
    reduction, weight, ignore_label
        As for `SoftmaxCrossEntropy`.
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        weight: ArrayLike | None = None,
        ignore_label: int | None = None,
    ) -> None:
        super().__init__(reduction)
        self.weight = weight
        self.ignore_label = ignore_label

    @property
    def weighs_rows(self) -> bool:
        weighted = self.weight is not None or self.ignore_label is not None
        return weighted and self.reduction != "sum"

    def counts(self, outputs: Any, targets: Any) -> Any:
        """What each row counts in the mean, ``w[t_n]`` or 0: it divides by their sum.

        Parameters
        ----------
        outputs, targets
            What the loss was given.
        """
        *rows, classes = np.shape(outputs)
        if np.shape(targets) == (*rows, classes):  # probabilities, which have no class
            return np.ones(rows)
        w = np.ones(classes) if self.weight is None else np.asarray(self.weight, float)
        if self.ignore_label is None:
            return tg.take(w, targets)  # and not w[targets], of which a compiled step has no record
        ignored = targets == self.ignore_label
        return np.where(ignored, 0.0, tg.take(w, np.where(ignored, 0, targets)))


class SoftmaxCrossEntropy(OfLabels):
    """Cross-entropy ``L = -mean_n log p_n[t_n]``, ``p = softmax(z)``; ``dz = (p - onehot(t)) / N``.

    The outputs are logits: the model ends without a softmax. The targets are integers (N,), or
    one-hot rows or probabilities (N, K). See `tinygrad_np.softmax_cross_entropy`.

    Parameters
    ----------
    reduction
        As for `Loss`; the mean is weighted, ``sum_n w[t_n] L_n / sum_n w[t_n]``, as in PyTorch.
    weight : array_like (K,), optional
        The weight ``w`` of each class.
    ignore_label : int, optional
        Rows with this label count for nothing.
    label_smoothing : float
        ``s`` in [0, 1]: the target is ``(1 - s) onehot(t) + s / K``.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.SoftmaxCrossEntropy()(np.array([[0.0, 0.0], [1000.0, 0.0]]), [0, 0]))
    0.34657359027997264
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        weight: ArrayLike | None = None,
        ignore_label: int | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, weight=weight, ignore_label=ignore_label)
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.softmax_cross_entropy(
            outputs, targets, self.reduction, self.weight, self.ignore_label, self.label_smoothing
        )


class BinaryCrossEntropy(Loss):
    """Cross-entropy ``L = mean(log(1 + exp(z)) - t z)``, ``p = sigmoid(z)``; ``dz = (p - t) / n``.

    The outputs are logits: the model ends without a sigmoid. The targets are 0, 1 or between, of
    the same shape. See `tinygrad_np.binary_cross_entropy`.

    Parameters
    ----------
    reduction
        As for `Loss`; the mean divides by the number of elements, whatever the weights.
    weight, pos_weight : array_like, optional
        Factors of the losses, and of the part of them that belongs to label 1, broadcast.

    Raises
    ------
    IndexingError
        For targets outside 0 ... 1.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.BinaryCrossEntropy()(np.array([0.0, 1000.0]), [1, 1]))
    0.34657359027997264
    """

    def __init__(
        self,
        reduction: str = "mean",
        *,
        weight: ArrayLike | None = None,
        pos_weight: ArrayLike | None = None,
    ) -> None:
        super().__init__(reduction)
        self.weight = weight
        self.pos_weight = pos_weight

    def forward(self, outputs: Any, targets: Any) -> Any:
        loss = tg.binary_cross_entropy(
            outputs, targets, self.reduction, self.weight, self.pos_weight
        )
        t = targets if isinstance(targets, tg.Tensor | np.ndarray) else np.asarray(targets)
        if t.size and not (t.min() >= 0 and t.max() <= 1):
            raise IndexingError(
                message("BinaryCrossEntropy", "targets in 0 ... 1",
                        f"{t.min().item()} ... {t.max().item()}",
                        "The labels of the two classes are 0 and 1.")
            )  # fmt: skip
        return loss


class NLL(OfLabels):
    """Negative log-likelihood ``L = -mean_n y_n[t_n]``; ``dy = -onehot(t) / N``.

    The outputs are log-probabilities: the model ends with a log_softmax. See `tinygrad_np.nll`.

    Parameters
    ----------
    reduction, weight, ignore_label
        As for `SoftmaxCrossEntropy`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.NLL()(np.log([[0.5, 0.5], [0.5, 0.5]]), [0, 1]))
    0.6931471805599453
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.nll(outputs, targets, self.reduction, self.weight, self.ignore_label)


class L1(Loss):
    """Absolute error ``L = mean(|y - t|)`` over all elements; ``dy = sign(y - t) / n``, 0 at 0.

    See `tinygrad_np.l1`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.L1()(np.array([1.0, 2.0]), [1.0, 4.0]))
    1.0
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.l1(outputs, targets, self.reduction)


class Huber(Loss):
    """Half the squared error where it is small, a line where ``|y - t| >= delta``.

    ``dy = clip(y - t, -delta, delta) / n``. See `tinygrad_np.huber`.

    Parameters
    ----------
    reduction
        As for `Loss`.
    delta : float
        Above 0: where the parabola becomes a line.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.Huber("none")(np.array([1.0, 2.0]), [1.5, 4.0])
    array([0.125, 1.5  ])
    """

    def __init__(self, reduction: str = "mean", *, delta: float = 1.0) -> None:
        super().__init__(reduction)
        if not delta > 0:
            raise ArgumentError(message("Huber", "delta above 0", repr(delta)))
        self.delta = delta

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.huber(outputs, targets, self.reduction, self.delta)


class KLDivergence(Loss):
    """Divergence ``L = mean_n sum_k t_nk (log t_nk - y_nk)`` of log-probabilities y from t.

    ``dy = -t / N``. The targets are probabilities (N, K). See `tinygrad_np.kl_div`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> float(nn.KLDivergence()(np.log([[0.5, 0.5]]), [[1.0, 0.0]]))
    0.6931471805599453
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.kl_div(outputs, targets, self.reduction)


class Hinge(Loss):
    """Hinge loss ``L = mean(max(0, 1 - t y))`` of labels -1 and 1; ``dy = -t (t y < 1) / n``.

    See `tinygrad_np.hinge`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.Hinge("none")(np.array([0.5, 2.0, 0.5]), [1, 1, -1])
    array([0.5, 0. , 1.5])
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        return tg.hinge(outputs, targets, self.reduction)


class CosineDistance(Loss):
    """``L = mean_n (1 - cos(y_n, t_n))``, the cosine being ``y.t / (|y| |t|)`` of rows (N, K).

    ``dy = (cos y / |y| - t / |t|) / (N |y|)``. See `tinygrad_np.cosine_similarity`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.CosineDistance("none")(np.array([[1.0, 0.0], [2.0, 0.0]]), [[0.0, 3.0], [1.0, 0.0]])
    array([1., 0.])
    """

    def forward(self, outputs: Any, targets: Any) -> Any:
        if np.shape(outputs) != np.shape(targets):
            raise ShapeError(
                message("CosineDistance", f"targets of the shape of the outputs, {np.shape(outputs)}",
                        f"{np.shape(targets)}")
            )  # fmt: skip
        losses = 1 - tg.cosine_similarity(outputs, targets)
        return losses if self.reduction == "none" else getattr(losses, self.reduction)()
