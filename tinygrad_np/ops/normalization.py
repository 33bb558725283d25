"""Normalisation: layer, batch, group and root-mean-square, each over other axes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..backward import added
from ..core import Tensor, case, plain, primitive, samples
from ..errors import ArgumentError, IndexingError, ShapeError, message
from .axes import canonical_axes
from .shape import reshape

Axes = tuple[int, ...]


@lru_cache(maxsize=64)
def equal_shares(n: int, dtype: np.dtype[Any]) -> Any:
    """The vector of n times 1/n: along a short last axis the product with it is the mean in a fifth
    of the time that `numpy.mean` takes."""
    shares = np.full(n, 1 / n, dtype)
    shares.flags.writeable = False
    return shares


def _mean(x: Any, axis: Axes) -> Any:
    """The mean of a plain array, axes kept."""
    if axis == (x.ndim - 1,) and x.dtype.kind == "f":
        return (x @ equal_shares(x.shape[-1], x.dtype))[..., None]
    return np.expand_dims(added(x, axis), axis) / _number(x, axis)


def _mean_of_product(a: Any, b: Any, axis: Axes) -> Any:
    """The mean of a * b of plain arrays, axes kept; no array holds the products."""
    if axis == (a.ndim - 1,):
        return np.vecdot(a, b)[..., None] / a.shape[-1]
    axes = range(a.ndim)
    total = np.einsum(a, axes, b, axes, [i for i in axes if i not in axis])
    return np.expand_dims(total, axis) / _number(a, axis)


def _number(x: Any, axis: Axes) -> int:
    """Of numbers that a mean is taken over."""
    return math.prod([x.shape[i] for i in axis])


@primitive(
    "standardize({x}, axis={axis}, eps={eps})",
    residuals={"r": lambda x, axis, eps: 1 / np.sqrt(np.var(x, axis=axis, keepdims=True) + eps)},
)
def standardize(x, *, axis, eps):
    """``y = (x - mean(x)) r`` with ``r = 1 / sqrt(var(x) + eps)``."""
    d = x - _mean(x, axis)
    r = 1 / np.sqrt(_mean_of_product(d, d, axis) + eps)
    d *= r
    return d, r


def _standardize_pull(g: Any, y: Any, r: Any, axis: Axes) -> Any:
    d = y * -_mean_of_product(g, y, axis)
    d += g
    d -= _mean(g, axis)
    d *= r
    return d


standardize.vjp(
    x=lambda g, y, r, axis: r * (g - np.mean(g, axis=axis, keepdims=True)
                                 - y * np.mean(g * y, axis=axis, keepdims=True))
).arrays(x=_standardize_pull)  # fmt: skip


@primitive(
    "rescale({x}, axis={axis}, eps={eps})",
    residuals={
        "r": lambda x, axis, eps: 1 / np.sqrt(np.mean(x * x, axis=axis, keepdims=True) + eps)
    },
)
def rescale(x, *, axis, eps):
    """``y = x r`` with ``r = 1 / sqrt(mean(x**2) + eps)``."""
    r = 1 / np.sqrt(_mean_of_product(x, x, axis) + eps)
    return x * r, r


rescale.vjp(
    x=lambda g, y, r, axis: r * (g - y * np.mean(g * y, axis=axis, keepdims=True))
).arrays(
    x=lambda g, y, r, axis: r * (g - y * _mean_of_product(g, y, axis)))  # fmt: skip


def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, axis: Any = -1, eps: float = 1e-5
) -> Tensor:
    """Layer normalisation ``y = (x - mean) / sqrt(var + eps) * weight + bias``, sample by sample.

    With ``h`` for y before weight and bias, and g its cotangent:
    ``dx = (g - mean(g) - h mean(g h)) / sqrt(var + eps)``.

    Parameters
    ----------
    x : array_like
    weight, bias : array_like, optional
        Of the lengths of ``x`` along the axes.
    axis : int or tuple of int
        The axes over which mean and (biased) variance are taken.
    eps : float
        Keeps the root from 0.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError, IndexingError
        For a weight or bias of another shape; for axes that are not there.

    References
    ----------
    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer normalization", 2016, equations 3 and 4.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.layer_norm(np.array([[1.0, 3.0], [-5.0, 5.0]]), eps=0)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    x, axes = _operand("layer_norm", x, axis)
    return _affine("layer_norm", standardize(x, axis=axes, eps=eps), weight, bias, axes)


def rms_norm(x: Any, weight: Any = None, axis: Any = -1, eps: float = 1e-6) -> Tensor:
    """Root-mean-square normalisation ``y = x / sqrt(mean(x**2) + eps) * weight``.

    Parameters
    ----------
    x : array_like
    weight : array_like, optional
        Of the lengths of ``x`` along the axes.
    axis : int or tuple of int
    eps : float
        Keeps the root from 0.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError, IndexingError
        As `layer_norm`.

    References
    ----------
    B. Zhang and R. Sennrich, "Root mean square layer normalization", 2019, equation 4.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.rms_norm(np.array([1.0, 7.0]), eps=0)
    array([0.2, 1.4])
    """
    x, axes = _operand("rms_norm", x, axis)
    return _affine("rms_norm", rescale(x, axis=axes, eps=eps), weight, None, axes)


def batch_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    mean: Any = None,
    var: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation ``y = (x - mean) / sqrt(var + eps) * weight + bias``, by channel.

    In training mean and (biased) variance are those of the batch, over all axes but the channels',
    and the gradient flows through them; in evaluation give the running ones.

    Parameters
    ----------
    x : array_like, (N, C) or (N, C, *spatial)
    weight, bias : array_like, (C,), optional
    mean, var : array_like, (C,), optional
        Both or none.
    eps : float
        Keeps the root from 0.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For a weight, bias, mean or var not of shape (C,), and for a batch of a single value a
        channel, whose variance is nothing.
    ArgumentError
        For a mean without var or the reverse.

    References
    ----------
    S. Ioffe and C. Szegedy, "Batch normalization", 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> tg.batch_norm(x, eps=0)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> tg.batch_norm(x, mean=[1.0, 10.0], var=[4.0, 100.0], eps=0)
    array([[0., 0.],
           [1., 2.]])
    """
    name = "batch_norm"
    x, channels = _operand(name, x, 1)
    if (mean is None) != (var is None):
        raise ArgumentError(message(name, "both mean and var, or none", "only one of them"))
    if mean is not None:
        mean, var = (
            _along(name, what, a, x, channels) for what, a in (("mean", mean), ("var", var))
        )
        y = (x - mean) * (1 / np.sqrt(var + eps))
    else:
        axes = (0, *range(2, x.ndim))
        if x.size == x.shape[1]:
            raise ShapeError(
                message(name, "more than one value a channel", f"{x.shape}",
                        "Give running mean and var, or a larger batch.")
            )  # fmt: skip
        y = standardize(x, axis=axes, eps=eps)
    return _affine(name, y, weight, bias, channels)


def group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Group normalisation: each sample's channels in groups, each with its own mean and variance.

    Parameters
    ----------
    x : array_like, (N, C, *spatial)
    groups : int
        Divides C; 1 for all channels together, C for instance normalisation.
    weight, bias : array_like, (C,), optional
    eps : float
        Keeps the root from 0.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError, ArgumentError
        For a weight or bias not of shape (C,); for groups that do not divide C.

    References
    ----------
    Y. Wu and K. He, "Group normalization", 2018, equation 7.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), groups=2, eps=0)
    array([[-1.,  1., -1.,  1.]])
    """
    name = "group_norm"
    x, channels = _operand(name, x, 1)
    if not isinstance(groups, int) or groups < 1 or x.shape[1] % groups:
        raise ArgumentError(
            message(name, f"groups to divide the {x.shape[1]} channels", f"{groups!r}")
        )
    rows = reshape(x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups))
    y = reshape(standardize(rows, axis=(2,), eps=eps), x.shape)
    return _affine(name, y, weight, bias, channels)


def _operand(name: str, x: Any, axis: Any) -> tuple[Any, Axes]:
    """x as an array, and its axes."""
    x = x if type(x) is Tensor else np.asarray(x)
    return x, canonical_axes(name, axis, x.ndim)


def _affine(name: str, y: Any, weight: Any, bias: Any, axes: Axes) -> Tensor:
    y = y if weight is None else y * _along(name, "weight", weight, y, axes)
    return y if bias is None else y + _along(name, "bias", bias, y, axes)


def _along(name: str, argument: str, a: Any, x: Any, axes: Axes) -> Any:
    """An array of the lengths of x along some axes, as it broadcasts with x."""
    shape = np.shape(plain(a))
    expected = tuple([x.shape[axis] for axis in axes])
    if shape != expected:
        raise ShapeError(
            message(name, f"{argument} of shape {expected} for x {x.shape}", f"{shape}")
        )
    if type(a) is not Tensor:
        a = np.asarray(a, dtype=x.dtype if x.dtype.kind == "f" else None)
    if axes == tuple(range(x.ndim))[-len(axes) :]:
        return a
    return reshape(a, [n if axis in axes else 1 for axis, n in enumerate(x.shape)])


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _standardized(x: Any, axis: Any, eps: float) -> Any:
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(x.var(axis=axis, keepdims=True) + eps)


def _channelwise(a: Any, x: Any, default: float) -> Any:
    return default if a is None else np.reshape(a, (-1, *(1,) * (x.ndim - 2)))


def _layer_norm_by_definition(
    x: Any, weight: Any = 1, bias: Any = 0, axis: Any = -1, eps: float = 1e-5
) -> Any:
    moved = np.moveaxis(_standardized(x, axis, eps), axis, np.arange(-np.size(axis), 0))
    moved = moved * (1 if weight is None else weight) + bias
    return np.moveaxis(moved, np.arange(-np.size(axis), 0), axis)


def _batch_norm_by_definition(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    mean: Any = None,
    var: Any = None,
    eps: float = 1e-5,
) -> Any:
    others = (0, *range(2, x.ndim))
    m = x.mean(axis=others) if mean is None else mean
    v = x.var(axis=others) if var is None else var
    y = (x - _channelwise(m, x, 0)) / np.sqrt(_channelwise(v, x, 1) + eps)
    return y * _channelwise(weight, x, 1) + _channelwise(bias, x, 0)


def _group_norm_by_definition(
    x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    parts = [
        _standardized(part, tuple(range(1, x.ndim)), eps) for part in np.split(x, groups, axis=1)
    ]
    return np.concatenate(parts, axis=1) * _channelwise(weight, x, 1) + _channelwise(bias, x, 0)


samples(
    layer_norm,
    lambda r: [
        case(r(3, 4), r(4), r(4)),
        case(r(2, 3, 4), r(4)),
        case(r(2, 3, 4), r(3, 4), r(3, 4), axis=(1, -1)),
        case(r(2, 3, 2), r(3), r(3), axis=1, eps=0.1),
        case(r(5), None, r(5)),
    ],
    reference=_layer_norm_by_definition,
    fails=lambda: [
        (
            case(Tensor(np.ones((2, 3))), np.ones(2)),
            ShapeError,
            "weight of shape (3,) for x (2, 3)",
        ),
        (case(Tensor(np.ones((2, 3))), None, np.ones((1, 3))), ShapeError, "bias of shape (3,)"),
        (case(Tensor(np.ones((2, 3))), axis=2), IndexingError, "axis in [-2, 2)"),
    ],
)
samples(
    rms_norm,
    lambda r: [
        case(r(3, 4), r(4)), case(r(2, 3, 4)), case(r(2, 3, 2), r(3), axis=1, eps=0.1),
    ],
    reference=lambda x, weight=None, axis=-1, eps=1e-6: (
        x / np.sqrt((x**2).mean(axis=axis, keepdims=True) + eps)
        * (1 if weight is None else weight if axis == -1 else weight[:, None])),
    fails=lambda: [(case(Tensor(np.ones((2, 3))), np.ones(2)), ShapeError, "weight of shape (3,)")],
)  # fmt: skip
samples(
    batch_norm,
    lambda r: [
        case(r(4, 3), r(3), r(3)),
        case(r(3, 2, 2, 2), r(2), r(2)),
        case(r(3, 2, 4), eps=0.1),
        case(r(3, 2, 2), r(2), r(2), r(2), r.positive(2)),
        case(r(1, 3), None, r(3), mean=r(3), var=r.positive(3)),
    ],
    reference=_batch_norm_by_definition,
    fails=lambda: [
        (
            case(Tensor(np.ones((2, 3))), np.ones(2)),
            ShapeError,
            "weight of shape (3,) for x (2, 3)",
        ),
        (
            case(Tensor(np.ones((2, 3))), mean=np.ones(2), var=np.ones(3)),
            ShapeError,
            "mean of shape (3,)",
        ),
        (case(Tensor(np.ones((2, 3))), mean=np.ones(3)), ArgumentError, "both mean and var"),
        (case(Tensor(np.ones((1, 3)))), ShapeError, "more than one value a channel"),
        (case(Tensor(np.ones(3))), IndexingError, "batch_norm"),
    ],
)
samples(
    group_norm,
    lambda r: [
        case(r(2, 4), 2, r(4), r(4)),
        case(r(2, 4, 3), 2, r(4), r(4)),
        case(r(2, 2, 2, 2), 1, eps=0.1),
        case(r(2, 2, 3), 2),
    ],
    reference=_group_norm_by_definition,
    fails=lambda: [
        (
            case(Tensor(np.ones((2, 4, 3))), 3),
            ArgumentError,
            "groups to divide the 4 channels, got 3",
        ),
        (case(Tensor(np.ones((2, 4, 3))), 2, np.ones(2)), ShapeError, "weight of shape (4,)"),
    ],
)
