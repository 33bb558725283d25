"""Activation functions and the softmax family, each stable at any magnitude."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..core import Tensor, case, number, plain, primitive, samples
from ..errors import IndexingError, ShapeError
from .axes import canonical_axes, canonical_axis, kept
from .reduce import bad_axes


@primitive("np.maximum({x}, 0)", out="np.maximum({x}, 0, out={out})")
def relu(x):
    """Rectified linear unit ``y = max(x, 0)``; ``dx = g * (x > 0)``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    Notes
    -----
    The slope at 0 is 0, as in PyTorch and JAX.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> z = tg.Tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> z.relu().sum().backward()
    >>> z.grad
    array([0., 0., 1.])
    """
    return np.maximum(x, number(0, x.dtype) if type(x) is np.ndarray else 0)


relu.vjp(x=lambda g, x: g * (x > 0)).arrays(x=lambda g, x: g * (x > number(0, x.dtype)))


@cache
def _largest_exponent(dtype: np.dtype[Any]) -> Any:
    """The largest z whose exp(z) is finite, in the same dtype."""
    kind: Any = dtype if dtype.kind == "f" else np.float64
    return np.nextafter(np.log(np.finfo(kind).max), kind.type(0), dtype=kind)


@primitive("1 / (1 + np.exp(-{x}))")
def sigmoid(x):
    """Logistic function ``y = 1 / (1 + exp(-x))``; ``dx = g * y * (1 - y)``.

    Parameters
    ----------
    x : array_like
        Any magnitude; there is no overflow.

    Returns
    -------
    Tensor
        Within [0, 1].

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.sigmoid(np.array([-800.0, 0.0, 800.0]))
    array([0. , 0.5, 1. ])
    """
    x = np.asarray(x)
    y = np.negative(x, dtype=x.dtype if x.dtype.kind in "fc" else np.float64)
    y = np.minimum(y, _largest_exponent(y.dtype)) if y.dtype.kind == "f" else y
    y = np.exp(y)
    y = y + 1
    return np.reciprocal(y)


sigmoid.vjp(x=lambda g, y: g * (y * (1 - y))).arrays(
    x=lambda g, y: g * (y * (number(1, y.dtype) - y)))  # fmt: skip


@primitive("softmax({x}, axis={axis})", name="softmax")
def softmax_along(x, *, axis):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


softmax_along.vjp(x=lambda g, y, axis: y * (g - np.sum(g * y, axis=axis, keepdims=True)))


@primitive("log_softmax({x}, axis={axis})", name="log_softmax")
def log_softmax_along(x, *, axis):
    z = x - np.max(x, axis=axis, keepdims=True)
    return z - np.log(np.sum(np.exp(z), axis=axis, keepdims=True))


log_softmax_along.vjp(x=lambda g, y, axis: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True))


@primitive("logsumexp({x}, axis={axis}, keepdims={keepdims})", name="logsumexp")
def logsumexp_over(x, *, axis, keepdims):
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # the log of a sum of nothing but exp(-inf) is -inf
        y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis)


logsumexp_over.vjp(
    x=lambda g, y, x, axis, keepdims: kept(g, axis, keepdims) * np.exp(x - kept(y, axis, keepdims))
)


def _along(name: str, operation: Any, x: Any, axis: int) -> Tensor:
    return operation(x, axis=canonical_axis(name, axis, np.ndim(plain(x))))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Probabilities ``y_i = exp(x_i) / sum_j exp(x_j)``; ``dx = y * (g - sum(g * y))``.

    Parameters
    ----------
    x : array_like
        Logits, any magnitude: each row's own maximum is subtracted first.
    axis : int
        The axis of the classes.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    return _along("softmax", softmax_along, x, axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Logarithms of the softmax ``y_i = x_i - log sum_j exp(x_j)``; ``dx = g - exp(y) * sum(g)``.

    Parameters
    ----------
    x : array_like
        Logits, any magnitude.
    axis : int
        The axis of the classes.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    return _along("log_softmax", log_softmax_along, x, axis)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """``y = log sum_i exp(x_i)`` over axes, without overflow; ``dx = g * softmax(x)``.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.logsumexp(np.array([1000.0, 1000.0])) - 1000
    0.6931471805599454
    """
    axes = canonical_axes("logsumexp", axis, np.ndim(plain(x)))
    return logsumexp_over(x, axis=axes, keepdims=bool(keepdims))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def everywhere(r: Any) -> list[Any]:
    return [case(r(2, 3)), case(r()), case(r(0, 3)), case(5 * r(2, 1, 4))]


relu.samples(
    everywhere,
    reference=lambda x: np.where(x > 0, x, 0.0),
    kinks=lambda: [(case(np.array([0.0, -0.0])), [np.zeros(2)])],
)
sigmoid.samples(everywhere, reference=lambda x: 0.5 + 0.5 * np.tanh(x / 2))


def _rows(r: Any) -> list[Any]:
    return [case(r(2, 3)), case(r(2, 3), axis=0), case(r(2, 3, 4), axis=-2), case(r(3)), case(r(0, 3))]


_bad_axis = lambda: [  # noqa: E731  # read as a table
    (case(Tensor(np.ones((2, 3))), axis=2), IndexingError, "axis in [-2, 2)"),
    (case(Tensor(np.ones((2, 0)))), ShapeError, "(2, 0)"),
]


def _by_definition(x: Any, axis: int = -1) -> Any:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


samples(softmax, _rows, reference=_by_definition, fails=_bad_axis)
samples(
    log_softmax, _rows, reference=lambda x, axis=-1: np.log(_by_definition(x, axis)), fails=_bad_axis
)
samples(
    logsumexp,
    lambda r: [
        case(r(2, 3)), case(r(2, 3), axis=0), case(r(2, 3, 4), axis=(0, -1), keepdims=True), case(r()),
    ],
    reference=lambda x, axis=None, keepdims=False: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims)),
    fails=bad_axes,
)  # fmt: skip
