"""Losses, each fused into one operation where the fused form is stable and the parts are not."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..core import Tensor, case, plain, plain_array, primitive, samples, told
from ..errors import ArgumentError, DtypeError, IndexingError, ShapeError, message
from .activation import log_softmax_along, sigmoid, softmax_along, softplus
from .arithmetic import astype, maximum
from .index import one_hot_rows, take
from .reduce import mean, norm, sum
from .shape import reshape

REDUCTIONS = ("mean", "sum", "none")


def checked_reduction(name: str, reduction: str) -> str:
    """The name of a reduction, if it is one."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(
            message(name, f"reduction among {', '.join(REDUCTIONS)}", repr(reduction))
        )
    return reduction


def reduced(losses: Any, reduction: str) -> Any:
    """Elementwise losses as their mean, their sum, or themselves."""
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)
    return total / losses.size if reduction == "mean" else total


def reduced_text(losses: str) -> Any:
    """The text of a loss: that of its elements, within the reduction."""
    around = {"mean": "np.mean({})", "sum": "np.sum({})", "none": "{}"}
    return lambda reduction, **texts: around[reduction].format(losses.format(**texts))


def averaged(losses: Any, reduction: str) -> Any:
    """As `reduced`, recorded: for losses that are made of several operations."""
    return {"mean": mean, "sum": sum, "none": lambda losses: losses}[reduction](losses)


def constants(name: str, argument: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Weights as an array of ``shape``, which they must broadcast to; they are not learned."""
    if type(value) is Tensor and value.requires_grad:
        raise DtypeError(
            message(name, f"{argument} that needs no gradient", "requires_grad=True",
                    "Multiply the losses of reduction='none' by it.")
        )  # fmt: skip
    value = np.asarray(plain(value), dtype)
    try:
        return np.broadcast_to(value, shape)
    except ValueError:
        raise ShapeError(
            message(name, f"{argument} of a shape that broadcasts to {shape}", f"{value.shape}")
        ) from None


def share(g: Any, n: int, reduction: str) -> Any:
    """The cotangent of one of ``n`` elementwise losses."""
    return g / n if reduction == "mean" else g


# --------------------------------------------------------------------------------------------------
# Softmax cross-entropy
# --------------------------------------------------------------------------------------------------


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
    # One row for each class: NumPy reduces over few columns several times slower than over rows.
    p = z.T.copy(order="C" if z.shape[1] < 64 else "F")
    p -= np.maximum.reduce(p, axis=0)
    picked = p[t, _count(t.size)]
    np.exp(p, out=p)
    total = np.add.reduce(p, axis=0)
    p /= total
    return reduced(np.log(total) - picked, reduction), p.T


cross_entropy_of_labels.vjp(
    z=lambda g, p, t, reduction: (
        (p - one_hot_rows(t, classes=p.shape[1], dtype=p.dtype)) * _column(g, t.size, reduction))).arrays(
    z=lambda g, p, t, reduction: _label_error(p.T, t, share(g, t.size, reduction)))  # fmt: skip


def _label_error(p: Any, t: Any, g: Any) -> Any:
    """``(p - onehot(t)) * g`` for ``p`` with a row for each class, without forming the one-hots."""
    d = p * g
    d[t, _count(t.size)] -= g
    return d.T


def _crossed(q: Any, logp: Any) -> Any:
    """``-sum_k q_k log p_k`` of each row, where a class with q = 0 adds 0 even if log p is -inf."""
    return 0 - np.vecdot(q, np.where(q == 0, 0, logp))  # and not -(...), which would make -0.0


@primitive("cross_entropy({z}, {q})", name="softmax_cross_entropy",
           residuals={"logp": lambda z: log_softmax_along(z, axis=1)})  # fmt: skip
def cross_entropy_of_probabilities(z, q, *, reduction):
    logp = log_softmax_along(z, axis=1)
    return reduced(_crossed(q, logp), reduction), logp


cross_entropy_of_probabilities.vjp(
    z=lambda g, logp, q, reduction: (
        (np.exp(logp) * np.sum(q, axis=1, keepdims=True) - q) * _column(g, q.shape[0], reduction)),
    q=lambda g, logp, q, reduction: -logp * _column(g, q.shape[0], reduction))  # fmt: skip


@primitive(expr=reduced_text("nll({logp}, {q})"), name="nll")
def nll_of_probabilities(logp, q, *, reduction):
    return reduced(_crossed(q, logp), reduction)


nll_of_probabilities.vjp(
    logp=lambda g, q, reduction: -q * _column(g, q.shape[0], reduction),
    q=lambda g, q, logp, reduction: -logp * _column(g, q.shape[0], reduction))  # fmt: skip


def softmax_cross_entropy(
    logits: Any,
    labels: Any,
    reduction: str = "mean",
    weight: Any = None,
    ignore_label: int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
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
        Over the rows. As in PyTorch, the mean of rows with integer labels is weighted:
        ``sum_n w[t_n] L_n / sum_n w[t_n]``, with 0 for ``w`` where the label is ignored.
    weight : array_like, (K,), optional
        The weight ``w`` of each class.
    ignore_label : int, optional
        Rows with this label count for nothing (-100 in PyTorch, none here unless given).
    label_smoothing : float within [0, 1]
        ``s``: the labels become probabilities ``(1 - s) onehot(t) + s / K``.

    Returns
    -------
    Tensor
        A scalar, or (...,) for "none". Units: nats.

    Raises
    ------
    ShapeError, IndexingError, DtypeError
        For labels of another shape, outside the classes, or not integers.
    ArgumentError
        For a mean over rows of which none counts.

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
    if weight is not None or ignore_label is not None or label_smoothing:
        return _weighted("softmax_cross_entropy", cross_entropy_of_probabilities, logits, labels,
                         reduction, weight, ignore_label, label_smoothing)  # fmt: skip
    z, t, shape = _rows("softmax_cross_entropy", logits, labels)
    if plain(t).ndim == 2:
        losses = cross_entropy_of_probabilities(z, t, reduction=reduction)
    else:
        losses = cross_entropy_of_labels(z, t, reduction=reduction)
    return reshape(losses, shape[:-1]) if reduction == "none" and len(shape) != 2 else losses


def nll(
    log_probabilities: Any,
    labels: Any,
    reduction: str = "mean",
    weight: Any = None,
    ignore_label: int | None = None,
) -> Tensor:
    """Negative log-likelihood ``L = -mean_n logp_n[t_n]``; ``dlogp = -onehot(t) / N``.

    Of `log_softmax` it is `softmax_cross_entropy`, whose one operation is faster.

    Parameters
    ----------
    log_probabilities : array_like, (..., K)
        The classes are the last axis (PyTorch: the second).
    labels : array_like
        Integers (...,) in 0 ... K-1, or probabilities (..., K).
    reduction, weight, ignore_label
        As for `softmax_cross_entropy`.

    Returns
    -------
    Tensor
        A scalar, or (...,) for "none". Units: nats.

    Raises
    ------
    ShapeError, IndexingError, DtypeError, ArgumentError
        As `softmax_cross_entropy`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> logp = np.log([[0.5, 0.5], [0.1, 0.9], [0.8, 0.2]])
    >>> tg.nll(logp, [0, 1, -1], reduction="none", ignore_label=-1)
    array([0.69314718, 0.10536052, 0.        ])
    """
    checked_reduction("nll", reduction)
    return _weighted(
        "nll", nll_of_probabilities, log_probabilities, labels, reduction, weight, ignore_label
    )


def _weighted(
    name: str,
    operation: Any,
    scores: Any,
    labels: Any,
    reduction: str,
    weight: Any,
    ignore_label: int | None,
    smoothing: float = 0.0,
) -> Tensor:
    """Class weights, ignored rows and smoothing, all of them put into the target probabilities."""
    if not 0 <= smoothing <= 1:
        raise ArgumentError(message(name, "label_smoothing within [0, 1]", f"{smoothing}"))
    counts: Any = True
    if ignore_label is not None:
        labels = plain_array(plain(labels))
        if labels.shape == np.shape(plain(scores)):
            raise ArgumentError(message(name, "integer labels with ignore_label", "probabilities"))
        counts = labels.reshape(-1) != ignore_label
        labels = np.where(labels == ignore_label, 0, labels)
    z, t, shape = _rows(name, scores, labels)
    dtype, classes = z.dtype if z.dtype.kind == "f" else np.dtype(float), shape[-1]
    w = constants(name, "weight", 1 if weight is None else weight, dtype, (classes,))
    row_weights = counts * (np.ones(z.shape[0], dtype) if t.ndim == 2 else take(w, t))
    q = t if t.ndim == 2 else one_hot_rows(t, classes=classes, dtype=dtype)
    q = (q * (1 - smoothing) + smoothing / classes) * w
    q = q if counts is True else q * counts[:, None]
    losses = operation(z, q, reduction="none" if reduction == "none" else "sum")
    if reduction == "none":
        return reshape(losses, shape[:-1])
    if reduction == "sum":
        return losses
    total = np.sum(row_weights)  # no float: a compiled step computes it anew
    if total == 0:
        raise ArgumentError(
            message(name, "at least one row that counts", "labels all ignored or of weight 0",
                    'reduction="sum" gives 0.')
        )  # fmt: skip
    return losses / total


def _rows(name: str, logits: Any, labels: Any) -> tuple[Any, Any, tuple[int, ...]]:
    """Logits as rows (N, K) and labels as (N,) or (N, K), checked."""
    z = logits if type(logits) is Tensor else np.asarray(logits)
    t = labels if type(labels) is Tensor else plain_array(labels)
    shape, given = z.shape, t.shape
    if not shape or shape[-1] == 0 or z.size == 0:
        raise ShapeError(
            message(name, "logits (..., K) with at least one row and class", f"{shape}")
        )
    if given == shape:
        t = t if type(t) is Tensor else t.astype(z.dtype, copy=False)
        t = t if len(shape) == 2 else reshape(t, (-1, shape[-1]))
    elif given == shape[:-1]:
        t = checked_labels(name, plain(t), shape[-1])
        t = t if t.ndim == 1 else t.reshape(-1)
    else:
        fix = (
            "Did you mean labels.reshape(-1) or labels[:, 0]?" if given == (*shape[:-1], 1) else ""
        )
        raise ShapeError(
            message(name, f"labels of shape {shape[:-1]} (integers) or {shape} (probabilities) for "
                    f"logits {shape}", f"{given}", fix)
        )  # fmt: skip
    return z if len(shape) == 2 else reshape(z, (-1, shape[-1])), t, shape


def checked_labels(name: str, labels: Any, classes: int) -> Any:
    """Integer labels, all within 0 ... classes - 1."""
    if labels.dtype.kind not in "iu":
        raise DtypeError(
            message(
                name, "integer labels", f"dtype {labels.dtype}", "Did you mean labels.astype(int)?"
            )
        )
    # As unsigned numbers the negative ones are the largest: one pass finds both kinds.
    t = np.asarray(labels)  # for a log the check is told of below
    unsigned = t.dtype.str.replace("i", "u")  # in the same order of bytes
    if np.maximum.reduce(t.view(unsigned), axis=None) >= classes:
        low, high = np.min(labels), np.max(labels)
        fix = "Do the labels start at 1?" if high == classes and low > 0 else ""
        raise IndexingError(
            message(
                name,
                f"labels in 0 ... {classes - 1} for {classes} classes",
                f"{low} ... {high}",
                fix,
            )
        )
    told("checked", labels, classes)
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


def binary_cross_entropy(
    logits: Any, labels: Any, reduction: str = "mean", weight: Any = None, pos_weight: Any = None
) -> Tensor:
    """Cross-entropy of a logistic output ``L = mean(log(1 + exp(z)) - t z)``; ``dz = (sigmoid(z) - t) / N``.

    Parameters
    ----------
    logits : array_like
        Scores before the sigmoid, any magnitude.
    labels : array_like
        0, 1 or probabilities between, of the same shape.
    reduction : {"mean", "sum", "none"}
        Over all elements; the mean divides by their number, whatever the weights, as in PyTorch.
    weight : array_like, optional
        Factors of the losses, broadcast to their shape.
    pos_weight : array_like, optional
        Factors of the part of a loss that belongs to label 1, broadcast: (K,) for (N, K) logits.

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
    name = "binary_cross_entropy"
    z, t = same_shape(name, "logits", logits, "labels", labels)
    checked_reduction(name, reduction)
    if weight is None and pos_weight is None:
        return cross_entropy_of_logits(z, t, reduction=reduction)
    dtype = z.dtype if z.dtype.kind == "f" else np.dtype(float)
    w = constants(name, "weight", 1 if weight is None else weight, dtype, z.shape)
    p = constants(name, "pos_weight", 1 if pos_weight is None else pos_weight, dtype, z.shape)
    t = t if type(t) is Tensor else astype(t, dtype)  # what is computed from labels is recorded
    losses = (w * p) * t * softplus(-z) + w * (1 - t) * softplus(z)
    return averaged(losses, reduction)


def same_shape(name: str, first: str, a: Any, second: str, b: Any) -> tuple[Any, Any]:
    """Both operands, if neither would be broadcast; a plain ``b`` is data and takes the dtype of ``a``."""
    a = a if type(a) is Tensor else np.asarray(a)
    dtype, shape = plain(a).dtype, plain(a).shape
    if type(b) is not Tensor:
        b = np.asarray(b)
        if b.dtype.kind not in "fiub":
            raise DtypeError(message(name, f"{second} that are numbers", f"dtype {b.dtype}"))
        if b.dtype is not dtype and dtype.kind == "f":
            b = astype(b, dtype)
    if plain(b).shape != shape:
        fix = (
            "One of them has an axis of length 1 too many: reshape it." if a.size == b.size else ""
        )
        raise ShapeError(
            message(name, f"{second} of the shape of {first}, {a.shape}", f"{b.shape}", fix)
        )
    return a, b


@primitive(expr=reduced_text("({x} - {t}) ** 2"), name="mean_squared_error")
def squared_error(x, t, *, reduction):
    d = np.subtract(x, t)
    if reduction == "none":
        return d * d
    total = np.vdot(d, d)
    return total / d.size if reduction == "mean" else total


squared_error.vjp(
    x=lambda g, x, t, reduction: (x - t) * share(2 * g, t.size, reduction),
    t=lambda g, x, t, reduction: (t - x) * share(2 * g, t.size, reduction)).arrays(
    x=lambda g, x, t, reduction: (x - t) * (g * (2 / t.size if reduction == "mean" else 2.0)))  # fmt: skip


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


@primitive(expr=reduced_text("np.abs({x} - {t})"), name="l1")
def absolute_error(x, t, *, reduction):
    return reduced(np.abs(x - t), reduction)


absolute_error.vjp(
    x=lambda g, x, t, reduction: np.sign(x - t) * share(g, t.size, reduction),
    t=lambda g, x, t, reduction: np.sign(t - x) * share(g, t.size, reduction))  # fmt: skip


def l1(predictions: Any, targets: Any, reduction: str = "mean") -> Tensor:
    """Mean absolute error ``L = mean(|y - t|)`` over all elements; ``dy = sign(y - t) / n``.

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
        If the shapes differ.

    Notes
    -----
    The slope where the two are equal is 0, as in PyTorch.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.l1(tg.Tensor([1.0, 2.0]), [1.0, 4.0]).item()
    1.0
    """
    x, t = same_shape("l1", "predictions", predictions, "targets", targets)
    return absolute_error(x, t, reduction=checked_reduction("l1", reduction))


@primitive(expr=reduced_text("huber({x}, {t}, delta={delta})"), name="huber")
def huber_error(x, t, *, delta, reduction):
    d = x - t
    c = np.clip(d, -delta, delta)
    return reduced(c * (d - 0.5 * c), reduction)


huber_error.vjp(
    x=lambda g, x, t, delta, reduction: (
        np.clip(x - t, -delta, delta) * share(g, t.size, reduction)),
    t=lambda g, x, t, delta, reduction: (
        np.clip(t - x, -delta, delta) * share(g, t.size, reduction)))  # fmt: skip


def huber(predictions: Any, targets: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Huber loss of ``d = y - t``: ``d**2 / 2`` if ``|d| < delta``, else ``delta (|d| - delta/2)``.

    The derivative is ``dy = clip(d, -delta, delta) / n``.

    Parameters
    ----------
    predictions, targets : array_like
        Of one shape.
    reduction : {"mean", "sum", "none"}
        Over all elements.
    delta : float
        Positive: where the parabola becomes a line. PyTorch's ``smooth_l1_loss`` is this / delta.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If ``delta`` is not positive.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35 (1964).

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.huber(tg.Tensor([1.0, 2.0]), [1.5, 4.0], reduction="none")
    Tensor([0.125, 1.5  ])
    """
    x, t = same_shape("huber", "predictions", predictions, "targets", targets)
    if delta <= 0:
        raise ArgumentError(message("huber", "delta > 0", f"{delta}"))
    return huber_error(x, t, delta=delta, reduction=checked_reduction("huber", reduction))


# --------------------------------------------------------------------------------------------------
# Divergence, margin, angle
# --------------------------------------------------------------------------------------------------


@primitive(expr=reduced_text("kl_div({logp}, {q})"), name="kl_div")
def divergence(logp, q, *, reduction):
    entropy = _crossed(q, np.log(np.where(q == 0, 1, q)))
    return reduced(_crossed(q, logp) - entropy, reduction)


divergence.vjp(
    logp=lambda g, q, reduction: -q * _column(g, q.shape[0], reduction),
    q=lambda g, q, logp, reduction: (
        (np.log(q) + 1 - logp) * _column(g, q.shape[0], reduction)))  # fmt: skip


def kl_div(log_probabilities: Any, probabilities: Any, reduction: str = "mean") -> Tensor:
    """Kullback-Leibler divergence ``L = mean_n sum_k q_k (log q_k - logp_k)``; ``dlogp = -q / N``.

    Parameters
    ----------
    log_probabilities : array_like, (..., K)
        ``logp``, of the model.
    probabilities : array_like, (..., K)
        ``q``, of the target; 0 adds 0.
    reduction : {"mean", "sum", "none"}
        Over the rows: the mean is PyTorch's "batchmean" (its "mean" divides by K too), and "none"
        is one number a row.

    Returns
    -------
    Tensor
        A scalar, or (...,) for "none". Units: nats.

    Raises
    ------
    ShapeError
        If the shapes differ.

    References
    ----------
    S. Kullback, R. A. Leibler, On information and sufficiency, Ann. Math. Stat. 22 (1951).

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.kl_div(np.log([[0.5, 0.5], [0.5, 0.5]]), [[0.5, 0.5], [1.0, 0.0]], reduction="none")
    array([0.        , 0.69314718])
    """
    checked_reduction("kl_div", reduction)
    logp, q = same_shape(
        "kl_div", "log_probabilities", log_probabilities, "probabilities", probabilities
    )
    logp, q, shape = _rows("kl_div", logp, q)
    losses = divergence(logp, q, reduction=reduction)
    return reshape(losses, shape[:-1]) if reduction == "none" else losses


@primitive(expr=reduced_text("np.maximum(1 - {t} * {z}, 0)"), name="hinge")
def hinge_of_scores(z, t, *, reduction):
    return reduced(np.maximum(1 - t * z, 0), reduction)


hinge_of_scores.vjp(
    z=lambda g, z, t, reduction: -t * (t * z < 1) * share(g, t.size, reduction))  # fmt: skip


def hinge(scores: Any, labels: Any, reduction: str = "mean") -> Tensor:
    """Hinge loss of a two-class margin ``L = mean(max(0, 1 - t z))``; ``dz = -t (t z < 1) / n``.

    Parameters
    ----------
    scores : array_like
        Any real number; its sign is the class.
    labels : array_like
        -1 and 1, of the same shape.
    reduction : {"mean", "sum", "none"}
        Over all elements.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If a label is neither -1 nor 1.

    Notes
    -----
    The slope where ``t z = 1`` is 0, that of `relu` at 0.

    References
    ----------
    C. Cortes, V. Vapnik, Support-vector networks, Machine Learning 20 (1995).

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.hinge(tg.Tensor([0.5, 2.0, 0.5]), [1, 1, -1], reduction="none")
    Tensor([0.5, 0. , 1.5])
    """
    z, t = same_shape("hinge", "scores", scores, "labels", plain(labels))
    if not np.all(np.abs(t) == 1):
        raise ArgumentError(
            message("hinge", "labels -1 and 1", f"{t.min():g} ... {t.max():g}",
                    "For labels 0 and 1, give 2 * labels - 1.")
        )  # fmt: skip
    return hinge_of_scores(z, t, reduction=checked_reduction("hinge", reduction))


def cosine_similarity(a: Any, b: Any, axis: int = -1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between vectors ``y = a.b / (max(|a|, eps) max(|b|, eps))``.

    Parameters
    ----------
    a, b : array_like
        Shapes that broadcast.
    axis : int
        The axis of the vectors' elements.
    eps : float
        What stands for a smaller length, so that y of a zero vector is 0, as in PyTorch.

    Returns
    -------
    Tensor
        Within [-1, 1]. As a loss: ``1 - y``.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.cosine_similarity(tg.Tensor([[1.0, 0.0], [0.0, 0.0]]), [[1.0, 1.0], [1.0, 1.0]])
    Tensor([0.70710678, 0.        ])
    """
    tensors = [x for x in (a, b) if type(x) is Tensor]
    dtype = tensors[0].dtype if tensors and tensors[0].dtype.kind == "f" else None
    a, b = [x if type(x) is Tensor else np.asarray(x, dtype) for x in (a, b)]
    a_length, b_length = [maximum(norm(x, axis=axis), eps) for x in (a, b)]
    return sum(a * b, axis=axis) / (a_length * b_length)


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _nll_by_definition(
    logp: Any, t: Any, reduction: str = "mean", weight: Any = None, ignore_label: Any = None,
    label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """Row by row, as the formulas of the docstring say it."""
    classes = logp.shape[-1]
    w = np.ones(classes) if weight is None else np.asarray(weight)
    losses, weights = np.zeros(logp.shape[:-1]), np.zeros(logp.shape[:-1])
    for n in np.ndindex(losses.shape):
        label = np.asarray(t)[n]
        if label.ndim == 0 and label == ignore_label:
            continue
        q = label if label.ndim else np.eye(classes)[label]
        q = (1 - label_smoothing) * q + label_smoothing / classes
        losses[n] = -np.sum(w * q * logp[n])
        weights[n] = 1 if label.ndim else w[label]
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / weights.sum()}[reduction]


def _cross_entropy_by_definition(z: Any, t: Any, reduction: str = "mean", **options: Any) -> Any:
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    return _nll_by_definition(np.log(p), t, reduction, **options)


def _weighted_cases(r: Any) -> list[Any]:
    """Class weights and ignored labels, alone and together, by each reduction."""
    w, t = np.array([0.5, 2.0, 0.0]), np.array([0, 2, 1, 1])
    return [
        case(r(4, 3), t, weight=w),
        case(r(4, 3), t, weight=w, reduction="sum"),
        case(r(4, 3), t, weight=w, reduction="none", ignore_label=1),
        case(r(4, 3), t, ignore_label=1),
        case(r(4, 3), [0, -100, 1, 2], ignore_label=-100, reduction="sum"),
        case(r(2, 2, 3), t.reshape(2, 2), weight=w, ignore_label=0),
        case(r(2, 2, 3), t.reshape(2, 2), reduction="none", ignore_label=0),
        case(r(4, 3), _probabilities(r, 4, 3), weight=w),
    ]


_bad_options = lambda: [  # read as a table
    (case(Tensor(np.ones((2, 3))), [0, 1], weight=[1, 2]), ShapeError, "broadcasts to (3,)"),
    (case(Tensor(np.ones((2, 3))), [0, 1], weight=Tensor(np.ones(3), True)), DtypeError,
     "reduction='none'"),
    (case(Tensor(np.ones((2, 3))), [-1, -1], ignore_label=-1), ArgumentError, "row that counts"),
    (case(Tensor(np.ones((2, 3))), [-1, 3], ignore_label=-1), IndexingError, "labels in 0 ... 2"),
    (case(Tensor(np.ones((2, 3))), np.ones((2, 3)), ignore_label=0), ArgumentError, "integer"),
]  # fmt: skip


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
        *_weighted_cases(r),
        case(r(4, 3), r.integers(3, 4), label_smoothing=0.1),
        case(r(4, 3), [0, 2, 1, 1], label_smoothing=0.3, weight=[0.5, 2.0, 1.0], ignore_label=2),
        case(
            r(4, 3),
            _probabilities(r, 4, 3),
            "none",
            weight=[0.5, 2.0, 1.0],
            label_smoothing=0.2,
        ),
    ],
    reference=_cross_entropy_by_definition,
    fails=lambda: [
        *_bad_options(),
        (case(Tensor(np.ones((1, 3))), [0], label_smoothing=1.5), ArgumentError, "within [0, 1]"),
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
        case(r(4, 2), r.data(4, 2) ** 2 / 20),
        case(r(4, 1), r.data(4, 1) ** 2 / 20, reduction="sum"),
        case(r(2, 3), r.integers(2, 2, 3), reduction="none"),
        case(r(2, 3), np.array([[0, 1, 1], [1, 0, 1]]), weight=[1.0, 2.0, 3.0]),
        case(r(2, 3), r.unit(2, 3) ** 2, pos_weight=[1.0, 2.0, 3.0], reduction="none"),
        case(
            r(2, 3),
            np.array([[0, 1, 1], [1, 0, 1]]),
            "sum",
            weight=[[0.5], [2.0]],
            pos_weight=3.0,
        ),
    ],
    reference=lambda z, t, reduction="mean", weight=1.0, pos_weight=1.0: reduced(
        np.negative(weight)
        * (pos_weight * t * np.log(1 / (1 + np.exp(-z))) + (1 - t) * np.log(1 / (1 + np.exp(z)))),
        reduction,
    ),
    fails=lambda: [
        (case(Tensor(np.ones(2)), [0, 1], weight=np.ones(3)), ShapeError, "weight of a shape"),
        (case(Tensor(np.ones(2)), [0, 1], pos_weight=np.ones(3)), ShapeError, "pos_weight of"),
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
        (case(Tensor(np.ones(2)), ["a", "b"]), DtypeError, "targets that are numbers"),
        (case(Tensor(np.ones(2)), np.ones(2), reduction="avg"), ArgumentError, "mean, sum, none"),
    ],
)
samples(
    nll,
    lambda r: [
        case(r(4, 3), r.integers(3, 4)), case(r(4, 3), r.integers(3, 4), reduction="none"),
        case(r(4, 3), _probabilities(r, 4, 3), reduction="none"),
        case(r(3), np.array(1)), case(r(2, 2, 3), _probabilities(r, 2, 2, 3), reduction="sum"),
        *_weighted_cases(r),
    ],
    reference=_nll_by_definition,
    fails=lambda: [
        *_bad_options(),
        (case(Tensor(np.ones((2, 3))), [0, 1], reduction="avg"), ArgumentError, "mean, sum, none"),
    ],
)  # fmt: skip


def _error_cases(r: Any) -> list[Any]:
    return [
        case(r(4, 3), r(4, 3)),
        case(r(4, 3), r(4, 3), reduction="sum"),
        case(r(4, 3), r(4, 3), reduction="none"),
        case(r(4), r.integers(5, 4)),
        case(r(), r()),
    ]


_bad_errors = lambda: [  # read as a table
    (case(Tensor(np.ones((2, 1))), np.ones(2)), ShapeError, "axis of length 1 too many"),
    (case(Tensor(np.ones(2)), np.ones(2), reduction="avg"), ArgumentError, "mean, sum, none"),
]

samples(
    l1, _error_cases, fails=_bad_errors,
    reference=lambda x, t, reduction="mean": reduced(np.sqrt((x - t) ** 2), reduction),
    kinks=lambda: [(case(np.array([1.0]), np.array([1.0])), [np.zeros(1), np.zeros(1)])],
)  # fmt: skip
samples(
    huber,
    lambda r: [
        *_error_cases(r), case(r(4, 3), r(4, 3), delta=0.4), case(r(4), r(4), "none", delta=2.0),
    ],
    reference=lambda x, t, reduction="mean", delta=1.0: reduced(
        np.where(abs(x - t) < delta, (x - t) ** 2 / 2, delta * (abs(x - t) - delta / 2)), reduction
    ),
    fails=lambda: [
        *_bad_errors(), (case(Tensor(np.ones(2)), np.ones(2), delta=0), ArgumentError, "delta > 0"),
    ],
)  # fmt: skip
samples(
    kl_div,
    lambda r: [
        case(r(4, 3), _probabilities(r, 4, 3)),
        case(r(4, 3), _probabilities(r, 4, 3), reduction="sum"),
        case(r(2, 2, 3), _probabilities(r, 2, 2, 3), reduction="none"),
        case(r(4, 3), np.eye(3, dtype=int)[r.integers(3, 4)]),
    ],
    reference=lambda logp, q, reduction="mean": reduced(
        np.sum(q * (np.log(np.where(q > 0, q, 1)) - logp), axis=-1), reduction
    ),
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), [0, 1]), ShapeError, "of the shape of log_probabilities"),
        (case(Tensor(np.ones((1, 3))), np.ones((1, 3)), "avg"), ArgumentError, "mean, sum, none"),
    ],
)
samples(
    hinge,
    lambda r: [
        case(r(4), 2 * r.integers(2, 4) - 1),
        case(2 * r(2, 3), 2 * r.integers(2, 2, 3) - 1, reduction="sum"),
        case(2 * r(2, 3), 2 * r.integers(2, 2, 3) - 1, reduction="none"),
    ],
    reference=lambda z, t, reduction="mean": reduced(np.where(z * t < 1, 1 - z * t, 0), reduction),
    kinks=lambda: [(case(np.array([1.0, -1.0]), np.array([1, -1])), [np.zeros(2)])],
    fails=lambda: [
        (case(Tensor(np.ones(2)), [0, 1]), ArgumentError, "2 * labels - 1"),
        *_bad_errors(),
    ],
)
samples(
    cosine_similarity,
    lambda r: [
        case(r(3), r(3)), case(r(4, 3), r(4, 3)), case(r(4, 3), r(3)), case(r(2, 1, 3), r(4, 3)),
        case(r(3, 4), r(3, 4), axis=0), case(r(2, 3), r(2, 3), eps=10.0),
    ],
    reference=lambda a, b, axis=-1, eps=1e-8: np.sum(a * b, axis) / (
        np.maximum(np.sqrt(np.sum(a * a, axis)), eps)
        * np.maximum(np.sqrt(np.sum(b * b, axis)), eps)
    ),
    kinks=lambda: [
        (case(np.zeros(2), np.array([0.0, 4.0]), eps=0.5), [np.array([0.0, 2.0]), np.zeros(2)]),
    ],
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.ones(2)), ShapeError, "[:, None]"),
        (case(Tensor(np.ones((2, 3))), np.ones(3), axis=2), IndexingError, "axis in [-2, 2)"),
    ],
)  # fmt: skip
