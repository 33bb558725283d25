"""Sorting, and what is built on it; the gradient goes back to where each element came from.

Of equal elements the one that a stable sort puts there gets the gradient of a place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import ArgumentError, IndexingError, message
from .axes import canonical_axis
from .shape import reshape


@primitive("np.argsort({x}, axis={axis}, stable=True)", name="argsort")
def argsort_along(x, *, axis):
    return np.argsort(x, axis=axis, stable=True)


@primitive("np.take_along_axis({x}, {order}, axis={axis})")
def permuted(x, order, *, axis):
    """The elements along an axis in another order; each place is read once."""
    return np.take_along_axis(np.asarray(x), order, axis=axis)


permuted.vjp(
    x=lambda g, order, axis: permuted(g, argsort_along(order, axis=axis), axis=axis))  # fmt: skip


def argsort(x: Any, axis: int | None = -1) -> Tensor:
    """The order that sorts ``x`` along an axis, stable, as integers, which carry no gradient.

    Parameters
    ----------
    x : array_like
    axis : int or None
        None sorts the flattened array.

    Returns
    -------
    Tensor of int

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.argsort(tg.Tensor([3.0, 1.0, 2.0]))
    Tensor([1, 2, 0])
    """
    if axis is None:
        x, axis = reshape(x, -1), 0
    return argsort_along(x, axis=canonical_axis("argsort", axis, np.ndim(plain(x))))


def sort(x: Any, axis: int | None = -1) -> Tensor:
    """The elements in ascending order along an axis; ``dx`` is ``g`` put back in the old order.

    Parameters
    ----------
    x : array_like
        NaN is put last.
    axis : int or None
        None sorts the flattened array.

    Returns
    -------
    Tensor
        The values alone, as in NumPy; `argsort` gives the order.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([3.0, 1.0, 2.0], requires_grad=True)
    >>> (np.sort(x) * [1.0, 10.0, 100.0]).sum().backward()
    >>> x.grad
    array([100.,   1.,  10.])
    """
    if axis is None:
        x, axis = reshape(x, -1), 0
    axis = canonical_axis("sort", axis, np.ndim(plain(x)))
    return permuted(x, argsort_along(x, axis=axis), axis=axis)


def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The ``k`` largest (or smallest) elements along an axis in falling (rising) order, and where.

    Parameters
    ----------
    x : array_like
    k : int
        At most the length of the axis.
    axis : int
    largest : bool
        False for the smallest.

    Returns
    -------
    values : Tensor
    positions : Tensor of int
        Which carry no gradient.

    Raises
    ------
    ArgumentError
        If ``k`` is negative or longer than the axis.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> values, positions = tg.topk(tg.Tensor([3.0, 1.0, 2.0]), 2)
    >>> values, positions
    (Tensor([3., 2.]), Tensor([0, 2]))
    """
    shape = np.shape(plain(x))
    axis = canonical_axis("topk", axis, len(shape))
    if not 0 <= k <= shape[axis]:
        raise ArgumentError(
            message("topk", f"k in 0 ... {shape[axis]}, the length of axis {axis}", f"{k}")
        )
    order = argsort_along(x, axis=axis)
    part = slice(None, -k - 1, -1) if largest else slice(0, k)
    first = (*[slice(None)] * axis, part)
    return permuted(x, order, axis=axis)[first], order[first]


@primitive("np.searchsorted({a}, {v}, side={side!r})", name="searchsorted")
def search(a, v, *, side):
    return np.searchsorted(a, v, side=side)


def searchsorted(a: Any, v: Any, side: str = "left") -> Tensor:
    """Where to insert ``v`` into the sorted ``a``, as integers, which carry no gradient.

    Parameters
    ----------
    a : array_like, (n,)
        In ascending order.
    v : array_like
    side : {"left", "right"}
        Before or after the elements of ``a`` that are equal.

    Returns
    -------
    Tensor of int

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.searchsorted(tg.Tensor([1.0, 2.0, 3.0]), [0.5, 2.0])
    Tensor([0, 1])
    """
    if side not in ("left", "right"):
        raise ArgumentError(message("searchsorted", "side among left, right", repr(side)))
    return search(a, v, side=side)


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _along_axes(r: Any) -> list[Any]:
    return [
        case(r.distinct(4)),
        case(r.distinct(2, 3)),
        case(r.distinct(2, 3), axis=0),
        case(r.distinct(2, 3), axis=None),
        case(r.distinct(2, 3, 2), axis=-2),
        case(r.distinct(0, 3), axis=0),
    ]


_bad_axis = lambda: [  # read as a table
    (case(Tensor(np.ones((2, 3))), axis=2), IndexingError, "axis in [-2, 2)"),
    (case(Tensor(np.ones(()))), IndexingError, "axis in [0, 0)"),
]


def _topk_by_sorting(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    found = [
        sorted(range(len(row)), key=lambda i: -row[i] if largest else row[i])[:k] for row in rows
    ]
    shape = (*np.moveaxis(x, axis, -1).shape[:-1], k)
    order = np.moveaxis(np.array(found).reshape(shape), -1, axis)
    return np.take_along_axis(x, order, axis), order


samples(
    sort, _along_axes, reference=np.sort, fails=_bad_axis,
)  # fmt: skip
samples(argsort, _along_axes, reference=np.argsort, fails=_bad_axis, differentiable=False)
samples(
    topk,
    lambda r: [
        case(r.distinct(5), 2),
        case(r.distinct(3, 4), 3, axis=0),
        case(r.distinct(3, 4), 2, largest=False),
        case(r.distinct(2, 3, 2), 3, axis=-2),
    ],
    reference=_topk_by_sorting,
    fails=lambda: [
        (case(Tensor(np.ones(3)), 4), ArgumentError, "k in 0 ... 3"),
        (case(Tensor(np.ones(3)), -1), ArgumentError, "k in 0 ... 3"),
    ],
)  # fmt: skip
samples(
    searchsorted,
    lambda r: [
        case(np.sort(r(5)), r(2, 3)),
        case(np.array([1.0, 2.0, 2.0]), np.array([2.0]), side="right"),
    ],
    reference=np.searchsorted,
    fails=lambda: [(case(Tensor(np.ones(3)), 1.0, side="both"), ArgumentError, "left, right")],
    differentiable=False,
)
