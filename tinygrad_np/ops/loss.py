"""Losses, each fused into one operation where the fused form is stable and the parts are not."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import ArgumentError, DtypeError, IndexingError, ShapeError, message
from .activation import log_softmax_along, sigmoid, softmax_along
from .shape import reshape

REDUCTIONS = ("mean", "sum", "none")


def checked_reduction(name: str, reduction: str) -> str:
    """The name of a reduction, if it is one."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(message(name, f"reduction among {', '.join(REDUCTIONS)}", repr(reduction)))
    return reduction


def reduced(losses: Any, reduction: str) -> Any:
    """Elementwise losses as their mean, their sum, or themselves."""
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)
    return total / losses.size if reduction == "mean" else total


def share(g: Any, n: int, reduction: str) -> Any:
    """The cotangent of one of ``n`` elementwise losses."""
    return g / n if reduction == "mean" else g


# --------------------------------------------------------------------------------------------------
# Softmax cross-entropy
# --------------------------------------------------------------------------------------------------


@primitive("onehot({t}, {classes})", name="onehot")
def onehot(t, *, classes, dtype):
    """Rows of zeros with a 1 at each label."""
    rows = np.zeros((t.size, classes), dtype)
    rows[_count(t.size), t.reshape(-1)] = 1
    return rows.reshape((*t.shape, classes))


@lru_cache(maxsize=64)
def _count(n: int) -> Any:
    """0 ... n-1, kept from call to call."""
    rows = np.arange(n)
    rows.flags.writeable = False
    return rows


def _column(g: Any, n: int, reduction: str) -> Any:
    """The cotangent of each of n rows, as a scalar or a column."""
    return g[:, None] if reduction == "none" else share(g, n, reduction)


@primitive("cross_entropy({z}, {t})", name="softmax_cross_entropy",
           residuals={"p": lambda z: softmax_along(z, axis=1)})  # fmt: skip
def cross_entropy_of_labels(z, t, *, reduction):
    shifted = z - np.maximum.reduce(z, axis=1, keepdims=True)
    picked = shifted[_count(t.size), t]
    p = np.exp(shifted, out=shifted)
    total = np.add.reduce(p, axis=1, keepdims=True)
    p /= total
    return reduced(np.log(total)[:, 0] - picked, reduction), p


cross_entropy_of_labels.vjp(
    z=lambda g, p, t, reduction: (
        (p - onehot(t, classes=p.shape[1], dtype=p.dtype)) * _column(g, t.size, reduction)))  # fmt: skip


@primitive("cross_entropy({z}, {q})", name="softmax_cross_entropy",
           residuals={"logp": lambda z: log_softmax_along(z, axis=1)})  # fmt: skip
def cross_entropy_of_probabilities(z, q, *, reduction):
    logp = log_softmax_along(z, axis=1)
    return reduced(-np.sum(q * logp, axis=1), reduction), logp


cross_entropy_of_probabilities.vjp(
    z=lambda g, logp, q, reduction: (
        (np.exp(logp) * np.sum(q, axis=1, keepdims=True) - q) * _column(g, q.shape[0], reduction)),
    q=lambda g, logp, q, reduction: -logp * _column(g, q.shape[0], reduction))  # fmt: skip


def softmax_cross_entropy(logits: Any, labels: Any, reduction: str = "mean") -> Tensor:
    """Cross-entropy of softmax probabilities ``L = -mean_n log softmax(z_n)[t_n]``.

    Softmax and logarithm are one operation, so it is finite for logits of any magnitude, and its
    derivative is ``dz = (softmax(z) - onehot(t)) / N``.

    Parameters
    ----------
    logits : array_like, (..., K)
        Scores of the K classes, not probabilities.
    labels : array_like
        Integers (...,) in 0 ... K-1, or probabilities (one-hot rows among them) (..., K).
    reduction : {"mean", "sum", "none"}
        Over the rows.

    Returns
    -------
    Tensor
        A scalar, or (...,) for "none". Units: nats.

    Raises
    ------
    ShapeError, IndexingError, DtypeError
        For labels of another shape, outside the classes, or not integers.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> z = tg.Tensor([[0.0, 0.0], [1000.0, 0.0]], requires_grad=True)
    >>> loss = tg.softmax_cross_entropy(z, [0, 0])
    >>> loss.item()
    0.34657359027997264
    >>> loss.backward()
    >>> z.grad
    array([[-0.25,  0.25],
           [ 0.  ,  0.  ]])
    """
    checked_reduction("softmax_cross_entropy", reduction)
    z, t, shape = _rows("softmax_cross_entropy", logits, labels)
    if plain(t).ndim == 2:
        losses = cross_entropy_of_probabilities(z, t, reduction=reduction)
    else:
        losses = cross_entropy_of_labels(z, t, reduction=reduction)
    return reshape(losses, shape[:-1]) if reduction == "none" and len(shape) != 2 else losses


def _rows(name: str, logits: Any, labels: Any) -> tuple[Any, Any, tuple[int, ...]]:
    """Logits as rows (N, K) and labels as (N,) or (N, K), checked."""
    z = logits if type(logits) is Tensor else np.asarray(logits)
    t = labels if type(labels) is Tensor else np.asarray(labels)
    shape, given = z.shape, t.shape
    if not shape or shape[-1] == 0 or z.size == 0:
        raise ShapeError(message(name, "logits (..., K) with at least one row and class", f"{shape}"))
    if given == shape:
        t = t if type(t) is Tensor else t.astype(z.dtype, copy=False)
        t = t if len(shape) == 2 else reshape(t, (-1, shape[-1]))
    elif given == shape[:-1]:
        t = checked_labels(name, plain(t), shape[-1]).reshape(-1)
    else:
        fix = "Did you mean labels.reshape(-1) or labels[:, 0]?" if given == (*shape[:-1], 1) else ""
        raise ShapeError(
            message(name, f"labels of shape {shape[:-1]} (integers) or {shape} (probabilities) for "
                    f"logits {shape}", f"{given}", fix)
        )  # fmt: skip
    return z if len(shape) == 2 else reshape(z, (-1, shape[-1])), t, shape


def checked_labels(name: str, labels: Any, classes: int) -> Any:
    """Integer labels, all within 0 ... classes - 1."""
    if labels.dtype.kind not in "iu":
        raise DtypeError(
            message(name, "integer labels", f"dtype {labels.dtype}", "Did you mean labels.astype(int)?")
        )
    low, high = np.minimum.reduce(labels, axis=None), np.maximum.reduce(labels, axis=None)
    if low < 0 or high >= classes:
        fix = "Do the labels start at 1?" if high == classes and low > 0 else ""
        raise IndexingError(
            message(name, f"labels in 0 ... {classes - 1} for {classes} classes", f"{low} ... {high}", fix)
        )
    return labels


# --------------------------------------------------------------------------------------------------
# Binary cross-entropy and squared error
# --------------------------------------------------------------------------------------------------


@primitive("binary_cross_entropy({z}, {t})", name="binary_cross_entropy")
def cross_entropy_of_logits(z, t, *, reduction):
    return reduced(np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))), reduction)


cross_entropy_of_logits.vjp(
    z=lambda g, z, t, reduction: (sigmoid(z) - t) * share(g, z.size, reduction),
    t=lambda g, z, reduction: -z * share(g, z.size, reduction))  # fmt: skip


def binary_cross_entropy(logits: Any, labels: Any, reduction: str = "mean") -> Tensor:
    """Cross-entropy of a logistic output ``L = mean(log(1 + exp(z)) - t z)``; ``dz = (sigmoid(z) - t) / N``.

    Parameters
    ----------
    logits : array_like
        Scores before the sigmoid, any magnitude.
    labels : array_like
        0, 1 or probabilities between, of the same shape.
    reduction : {"mean", "sum", "none"}
        Over all elements.

    Returns
    -------
    Tensor
        Units: nats.

    Raises
    ------
    ShapeError
        If the shapes differ: an (N,) against an (N, 1) would broadcast to (N, N).

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> z = tg.Tensor([0.0, 1000.0], requires_grad=True)
    >>> tg.binary_cross_entropy(z, [1, 1]).item()
    0.34657359027997264
    """
    z, t = same_shape("binary_cross_entropy", "logits", logits, "labels", labels)
    return cross_entropy_of_logits(z, t, reduction=checked_reduction("binary_cross_entropy", reduction))


def same_shape(name: str, first: str, a: Any, second: str, b: Any) -> tuple[Any, Any]:
    """Both operands, if neither would be broadcast; a plain ``b`` is data and takes the dtype of ``a``."""
    a = a if type(a) is Tensor else np.asarray(a)
    b = b if type(b) is Tensor else np.asarray(b)
    if type(b) is not Tensor and a.dtype.kind == "f":
        b = b.astype(a.dtype, copy=False)
    if a.shape != b.shape:
        fix = "One of them has an axis of length 1 too many: reshape it." if a.size == b.size else ""
        raise ShapeError(
            message(name, f"{second} of the shape of {first}, {a.shape}", f"{b.shape}", fix)
        )
    return a, b


@primitive("np.mean(({x} - {t}) ** 2)", name="mean_squared_error")
def squared_error(x, t, *, reduction):
    d = np.subtract(x, t)
    if reduction == "none":
        return d * d
    total = np.vdot(d, d)
    return total / d.size if reduction == "mean" else total


squared_error.vjp(
    x=lambda g, x, t, reduction: (x - t) * (2 * share(g, t.size, reduction)),
    t=lambda g, x, t, reduction: (t - x) * (2 * share(g, t.size, reduction)))  # fmt: skip


def mean_squared_error(predictions: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """Mean squared error ``L = mean((y - t)**2)`` over all elements; ``dy = 2 (y - t) / n``.

    Parameters
    ----------
    predictions, targets : array_like
        Of one shape.
    reduction : {"mean", "sum", "none"}
        Over all elements.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If the shapes differ: an (N,) against an (N, 1) would broadcast to (N, N).

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.mean_squared_error(tg.Tensor([1.0, 2.0]), [1.0, 4.0]).item()
    2.0
    """
    x, t = same_shape("mean_squared_error", "predictions", predictions, "targets", targets)
    return squared_error(x, t, reduction=checked_reduction("mean_squared_error", reduction))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _cross_entropy_by_definition(z: Any, t: Any, reduction: str = "mean") -> Any:
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    q = t if np.ndim(t) == np.ndim(z) else np.eye(z.shape[-1])[t]
    return reduced(-(q * np.log(p)).sum(axis=-1), reduction)


def _probabilities(r: Any, *shape: int) -> Any:
    q = r.positive(*shape)
    return q / q.sum(axis=-1, keepdims=True)


samples(
    softmax_cross_entropy,
    lambda r: [
        case(r(4, 3), r.integers(3, 4)),
        case(r(4, 3), r.integers(3, 4), reduction="sum"),
        case(r(4, 3), r.integers(3, 4), reduction="none"),
        case(r(4, 3), np.eye(3, dtype=int)[r.integers(3, 4)]),
        case(r(4, 3), _probabilities(r, 4, 3)),
        case(r(4, 3), _probabilities(r, 4, 3), reduction="none"),
        case(r(2, 4, 3), r.integers(3, 2, 4)),
        case(r(2, 4, 3), r.integers(3, 2, 4), reduction="none"),
        case(r(2, 2, 3), _probabilities(r, 2, 2, 3)),
        case(r(3), np.array(1)),
    ],
    reference=_cross_entropy_by_definition,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), [1, 3]), IndexingError, "Do the labels start at 1?"),
        (case(Tensor(np.ones((2, 3))), [-1, 0]), IndexingError, "labels in 0 ... 2 for 3 classes"),
        (case(Tensor(np.ones((2, 3))), [0.0, 1.0]), DtypeError, "labels.astype(int)"),
        (case(Tensor(np.ones((2, 3))), [[0], [1]]), ShapeError, "labels[:, 0]"),
        (case(Tensor(np.ones((2, 3))), [0, 1, 2]), ShapeError, "labels of shape (2,)"),
        (case(Tensor(np.ones((0, 3))), np.zeros(0, int)), ShapeError, "at least one row"),
        (case(Tensor(np.ones((2, 3))), [0, 1], reduction="avg"), ArgumentError, "mean, sum, none"),
    ],
)
samples(
    binary_cross_entropy,
    lambda r: [
        case(r(4), r.integers(2, 4)),
        case(r(4, 1), r.data(4, 1) ** 2 / 20, reduction="sum"),
        case(r(2, 3), r.integers(2, 2, 3), reduction="none"),
    ],
    reference=lambda z, t, reduction="mean": reduced(
        -(t * np.log(1 / (1 + np.exp(-z))) + (1 - t) * np.log(1 / (1 + np.exp(z)))), reduction
    ),
    fails=lambda: [
        (case(Tensor(np.ones((2, 1))), [0, 1]), ShapeError, "axis of length 1 too many"),
        (case(Tensor(np.ones(2)), [0, 1], reduction="avg"), ArgumentError, "mean, sum, none"),
    ],
)
samples(
    mean_squared_error,
    lambda r: [
        case(r(4, 3), r(4, 3)),
        case(r(4, 3), r(4, 3), reduction="sum"),
        case(r(4, 3), r(4, 3), reduction="none"),
        case(r(4), r.integers(5, 4)),
        case(r(), r()),
    ],
    reference=lambda x, t, reduction="mean": reduced(np.asarray((x - t) ** 2), reduction),
    fails=lambda: [
        (case(Tensor(np.ones((2, 1))), np.ones(2)), ShapeError, "axis of length 1 too many"),
        (case(Tensor(np.ones(2)), np.ones(2), reduction="avg"), ArgumentError, "mean, sum, none"),
    ],
)
onehot.samples(
    lambda r: [case(r.integers(3, 4), classes=3, dtype=np.dtype(float))],
    reference=lambda t, classes, dtype: np.eye(classes, dtype=dtype)[t],
    differentiable=False,
)
