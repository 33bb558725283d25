"""Sums, means and extrema over axes.

Convention at kinks: where several elements tie for a maximum or minimum they share the gradient
equally, as in PyTorch's ``amax`` and JAX.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import IndexingError, ShapeError
from .axes import axis_text, canonical_axes, kept


def _text(function: str) -> Any:
    def expr(x: str, axis: tuple[int, ...], keepdims: bool) -> str:
        return f"np.{function}({x}, {axis_text(axis, keepdims)})"

    return expr


@primitive(expr=_text("sum"), name="sum")
def sum_over(x, *, axis, keepdims):
    return np.sum(x, axis=axis, keepdims=keepdims)


sum_over.vjp(
    x=lambda g, x, axis, keepdims: np.broadcast_to(kept(g, axis, keepdims), x.shape))  # fmt: skip


@primitive(expr=_text("mean"), name="mean")
def mean_over(x, *, axis, keepdims):
    return np.mean(x, axis=axis, keepdims=keepdims)


mean_over.vjp(
    x=lambda g, x, y, axis, keepdims: np.broadcast_to(
        kept(g / (x.size / y.size), axis, keepdims), x.shape))  # fmt: skip


def _shared_among_ties(g: Any, x: Any, y: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    hit = (x == kept(y, axis, keepdims)).astype(x.dtype)
    return kept(g, axis, keepdims) * hit / np.sum(hit, axis=axis, keepdims=True)


@primitive(expr=_text("max"), name="max")
def max_over(x, *, axis, keepdims):
    return np.max(x, axis=axis, keepdims=keepdims)


@primitive(expr=_text("min"), name="min")
def min_over(x, *, axis, keepdims):
    return np.min(x, axis=axis, keepdims=keepdims)


max_over.vjp(x=_shared_among_ties)
min_over.vjp(x=_shared_among_ties)


def _over(name: str, reduction: Any, x: Any, axis: Any, keepdims: bool) -> Tensor:
    ndim = np.ndim(plain(x))
    return reduction(x, axis=canonical_axes(name, axis, ndim), keepdims=bool(keepdims))


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum ``y = sum_i x_i`` over axes; every summand gets the whole ``g``.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to sum over; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexingError
        For an axis that is not there, or given twice.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> x.sum(axis=0)
    Tensor([4., 6.], from sum)
    """
    return _over("sum", sum_over, x, axis, keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Mean ``y = 1/n sum_i x_i`` over axes; every element gets ``g / n``.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to average over; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0, 6.0], requires_grad=True)
    >>> x.mean().backward()
    >>> x.grad
    array([0.33333333, 0.33333333, 0.33333333])
    """
    return _over("mean", mean_over, x, axis, keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest element over axes; the gradient goes to it, shared equally where several tie.

    Parameters
    ----------
    x : array_like
        At least one element along the axes.
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If there is no element to choose from.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 5.0, 5.0], requires_grad=True)
    >>> x.max().backward()
    >>> x.grad
    array([0. , 0.5, 0.5])
    """
    return _over("max", max_over, x, axis, keepdims)


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axes; the gradient goes to it, shared equally where several tie.

    Parameters
    ----------
    x : array_like
        At least one element along the axes.
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([[1.0, 5.0], [0.0, 7.0]], requires_grad=True)
    >>> x.min(axis=1)
    Tensor([1., 0.], from min)
    """
    return _over("min", min_over, x, axis, keepdims)


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def over_axes(r: Any) -> list[Any]:
    """A reduction over every kind of axis."""
    return [
        case(r.distinct(2, 3)),
        case(r.distinct(2, 3), axis=0),
        case(r.distinct(2, 3), axis=-1, keepdims=True),
        case(r.distinct(2, 3, 4), axis=(0, -1)),
        case(r.distinct(2, 3, 4), axis=(2, 1), keepdims=True),
        case(r.distinct()),
        case(r.distinct(2, 3), axis=()),
        case(r.distinct(3, 1), axis=1),
    ]


bad_axes = lambda: [  # noqa: E731  # read as a table
    (case(Tensor(np.ones((2, 3))), axis=2), IndexingError, "axis in [-2, 2)"),
    (case(Tensor(np.ones((2, 3))), axis=(0, -2)), IndexingError, "each axis once"),
]

samples(sum, lambda r: [*over_axes(r), case(r(0, 3), axis=0)], reference=np.sum, fails=bad_axes)
samples(mean, over_axes, reference=np.mean, fails=bad_axes)
for extremum, reference in ((max, np.max), (min, np.min)):
    samples(
        extremum, over_axes, reference=reference,
        kinks=lambda: [
            (case(np.array([[2.0, 2.0], [2.0, 2.0]]), axis=0), [np.full((2, 2), 0.5)]),
            (case(np.array([3.0, 3.0, 3.0])), [np.full(3, 1 / 3)]),
        ],
        fails=lambda: [*bad_axes(), (case(Tensor(np.ones((0, 3))), axis=0), ShapeError, "(0, 3)")],
    )  # fmt: skip
