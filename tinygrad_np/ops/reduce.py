"""Sums, products, moments, norms, order statistics and extrema over axes.

Conventions at kinks: where several elements tie for a maximum or minimum they share the gradient
equally, as in PyTorch's ``amax`` and JAX. `norm` has slope 0 at the zero vector and `std` where all
elements are equal, the subgradient of least norm, as in PyTorch. Products are right with any number
of zeros among the factors: no formula divides by a factor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import ArgumentError, DtypeError, IndexingError, ShapeError, message
from .arithmetic import absolute, where
from .axes import axis_text, canonical_axes, canonical_axis, kept
from .shape import expand_dims, moveaxis, reshape, transpose
from .sort import sort


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
        kept(g / (x.size / (y.size or 1)), axis, keepdims), x.shape))  # fmt: skip


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
# Variance, standard deviation, norms
# --------------------------------------------------------------------------------------------------


def _spread_text(function: str) -> Any:
    def expr(x: str, axis: tuple[int, ...], ddof: float, keepdims: bool) -> str:
        extra = f", ddof={ddof}" if ddof else ""
        return f"np.{function}({x}, {axis_text(axis, keepdims)}{extra})"

    return expr


@primitive(expr=_spread_text("var"), name="var")
def var_over(x, *, axis, ddof, keepdims):
    return np.var(x, axis=axis, ddof=ddof, keepdims=keepdims)


@primitive(expr=_spread_text("std"), name="std")
def std_over(x, *, axis, ddof, keepdims):
    return np.std(x, axis=axis, ddof=ddof, keepdims=keepdims)


def _centred(x: Any, y: Any, axis: tuple[int, ...], ddof: float) -> Any:
    """What var and std share: the deviations from the mean over the degrees of freedom."""
    return (x - np.mean(x, axis=axis, keepdims=True)) / (x.size / (y.size or 1) - ddof)


var_over.vjp(
    x=lambda g, x, y, axis, ddof, keepdims: (
        kept(2 * g, axis, keepdims) * _centred(x, y, axis, ddof)))  # fmt: skip
std_over.vjp(
    x=lambda g, x, y, axis, ddof, keepdims: (
        kept(g / np.where(y == 0, 1, y), axis, keepdims) * _centred(x, y, axis, ddof)))  # fmt: skip


def _spread(name: str, reduction: Any, x: Any, axis: Any, ddof: float, keepdims: bool) -> Tensor:
    shape = np.shape(plain(x))
    axes = canonical_axes(name, axis, len(shape))
    n = math.prod([shape[a] for a in axes])
    if n <= ddof:
        raise ShapeError(message(name, f"more than ddof={ddof} elements along axes {axes}", f"{n}"))
    return reduction(x, axis=axes, ddof=ddof, keepdims=bool(keepdims))


def var(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Variance ``y = sum_i (x_i - m)**2 / f``, ``f = n - ddof``; ``dx = 2 g (x - m) / f``.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    ddof : float
        What is taken off the number of elements n: 0 as in NumPy (PyTorch's ``correction`` is 1).
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If there are not more than ``ddof`` elements.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.var(tg.Tensor([1.0, 2.0, 6.0]), ddof=1)
    Tensor(7.)
    """
    return _spread("var", var_over, x, axis, ddof, keepdims)


def std(x: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Standard deviation, the root of `var`; ``dx = g (x - m) / (y (n - ddof))``.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    ddof : float
        What is taken off the number of elements n: 0 as in NumPy (PyTorch's ``correction`` is 1).
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If there are not more than ``ddof`` elements.

    Notes
    -----
    The slope is 0 where all elements are equal, as in PyTorch.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.std(tg.Tensor([[1.0, 3.0], [2.0, 2.0]]), axis=1)
    Tensor([1., 0.])
    """
    return _spread("std", std_over, x, axis, ddof, keepdims)


@primitive(expr=_text("linalg.norm"), name="norm")
def norm_2(x, *, axis, keepdims):
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))


norm_2.vjp(
    x=lambda g, x, y, axis, keepdims: (
        kept(g / np.where(y == 0, 1, y), axis, keepdims) * x))  # fmt: skip


@primitive(
    expr=lambda x, ord, axis, keepdims: (
        f"np.linalg.norm({x}, {ord:g}, {axis_text(axis, keepdims)})"
    ),
    name="norm",
)
def norm_p(x, *, ord, axis, keepdims):
    return np.sum(np.abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)


norm_p.vjp(
    x=lambda g, x, y, ord, axis, keepdims: kept(g, axis, keepdims) * np.sign(x) * (
        np.abs(x) / kept(np.where(y == 0, 1, y), axis, keepdims)) ** (ord - 1))  # fmt: skip


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Norm ``y = (sum_i |x_i|**p)**(1/p)`` over axes; ``dx = g * sign(x) (|x| / y)**(p - 1)``.

    Parameters
    ----------
    x : array_like
    ord : None, "fro", inf, -inf or float >= 1
        ``p``. None, for any number of axes, and "fro", for two, are the root of the sum of squares;
        inf and -inf are the largest and the smallest ``|x_i|``.
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Raises
    ------
    ArgumentError
        For ``p < 1``, which is no norm, and for the operator norms of matrices.

    Notes
    -----
    The slope at the zero vector is 0, as in PyTorch. Elements that tie for inf share the gradient.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    >>> np.linalg.norm(x, axis=1).sum().backward()
    >>> x.grad
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    axes = canonical_axes("norm", axis, np.ndim(plain(x)))
    if ord is None or (ord == "fro" and len(axes) == 2) or (ord == 2 and len(axes) == 1):
        return norm_2(x, axis=axes, keepdims=bool(keepdims))
    if len(axes) != 1:
        raise ArgumentError(
            message("norm", f"ord None or 'fro' over {len(axes)} axes", repr(ord),
                    "For a norm of vectors give one axis; those of matrices need singular values.")
        )  # fmt: skip
    if ord in (math.inf, -math.inf):
        return (max if ord > 0 else min)(absolute(x), axes, keepdims)
    if isinstance(ord, str) or ord < 1:
        raise ArgumentError(message("norm", "ord >= 1, inf or -inf for a vector", repr(ord)))
    return norm_p(x, ord=ord, axis=axes, keepdims=bool(keepdims))


# --------------------------------------------------------------------------------------------------
# Products and running sums
# --------------------------------------------------------------------------------------------------


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, part)


def _reversed(x: Any, axis: int) -> Any:
    return x[_along(axis, slice(None, None, -1))]


def _delayed(x: Any, axis: int, first: float) -> Any:
    """``x`` moved on by one place, with ``first`` in the place before."""
    start = np.full_like(x[_along(axis, slice(0, 1))], first)
    return np.concatenate([start, x[_along(axis, slice(0, -1))]], axis)


@primitive("recurrence({a}, {b}, axis={axis})")
def recurrence(a, b, *, axis):
    """The sequence ``y_i = a_i y_{i-1} + b_i`` along an axis, from 0."""
    y = np.array(b)
    rows, factors = np.moveaxis(y, axis, 0), np.moveaxis(a, axis, 0)
    for i in range(1, len(rows)):
        rows[i] += factors[i] * rows[i - 1]
    return y


def _gathered(a: Any, g: Any, axis: int) -> Any:
    """The adjoint of the recurrence: ``s_i = g_i + a_{i+1} s_{i+1}``, from the end."""
    factors = _delayed(_reversed(a, axis), axis, 0)
    return _reversed(recurrence(factors, _reversed(g, axis), axis=axis), axis)


recurrence.vjp(
    a=lambda g, a, y, axis: _gathered(a, g, axis) * _delayed(y, axis, 0),
    b=lambda g, a, axis: _gathered(a, g, axis))  # fmt: skip


@primitive("np.cumsum({x}, axis={axis})", name="cumsum")
def cumsum_along(x, *, axis):
    return np.cumsum(x, axis=axis)


cumsum_along.vjp(
    x=lambda g, axis: _reversed(np.cumsum(_reversed(g, axis), axis=axis), axis))  # fmt: skip


@primitive("np.cumprod({x}, axis={axis})", name="cumprod")
def cumprod_along(x, *, axis):
    return np.cumprod(x, axis=axis)


def _product_before(x: Any, axis: int) -> Any:
    """The product of all elements before each one."""
    return np.cumprod(_delayed(x, axis, 1), axis=axis)


def _product_after(x: Any, axis: int) -> Any:
    return _reversed(_product_before(_reversed(x, axis), axis), axis)


cumprod_along.vjp(
    x=lambda g, x, axis: _product_before(x, axis) * _gathered(x, g, axis))  # fmt: skip


@primitive("np.prod({x}, axis={axis})", name="prod")
def prod_along(x, *, axis):
    return np.prod(x, axis=axis)


prod_along.vjp(
    x=lambda g, x, axis: (
        np.expand_dims(g, axis) * _product_before(x, axis) * _product_after(x, axis)))  # fmt: skip


def _merged(x: Any, axes: tuple[int, ...]) -> tuple[Any, int]:
    """The array with several axes merged into one, and which that is."""
    if len(axes) == 1:
        return x, axes[0]
    shape = np.shape(plain(x))
    rest = [a for a in range(len(shape)) if a not in axes]
    n = math.prod([shape[a] for a in axes])
    return reshape(transpose(x, (*rest, *axes)), (*[shape[a] for a in rest], n)), len(rest)


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Product ``y = prod_i x_i`` over axes; each factor gets ``g`` times the product of the others.

    Parameters
    ----------
    x : array_like
        Zeros are allowed, and their gradient is exact.
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
    >>> x = tg.Tensor([2.0, 0.0, 3.0], requires_grad=True)
    >>> x.prod().backward()
    >>> x.grad
    array([0., 6., 0.])
    """
    axes = canonical_axes("prod", axis, np.ndim(plain(x)))
    factors, merged = _merged(x, axes)
    y = prod_along(factors, axis=merged)
    return expand_dims(y, axes) if keepdims else y


def _running(name: str, operation: Any, x: Any, axis: int | None) -> Tensor:
    if axis is None:
        return operation(reshape(x, -1), axis=0)
    return operation(x, axis=canonical_axis(name, axis, np.ndim(plain(x))))


def cumsum(x: Any, axis: int | None = None) -> Tensor:
    """Running sum ``y_k = x_1 + ... + x_k``; ``dx_i = g_i + g_{i+1} + ...``.

    Parameters
    ----------
    x : array_like
    axis : int or None
        None runs over the flattened array.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x.cumsum().sum().backward()
    >>> x.grad
    array([3., 2., 1.])
    """
    return _running("cumsum", cumsum_along, x, axis)


def cumprod(x: Any, axis: int | None = None) -> Tensor:
    """Running product ``y_k = x_1 ... x_k``; exact also with zeros among the factors.

    Parameters
    ----------
    x : array_like
    axis : int or None
        None runs over the flattened array.

    Returns
    -------
    Tensor

    Notes
    -----
    ``dx_i = (x_1 ... x_{i-1}) s_i`` where ``s_i = g_i + x_{i+1} s_{i+1}``. The recurrence is a loop
    over the axis, so the backward pass of a long axis is slow.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([2.0, 0.0, 3.0], requires_grad=True)
    >>> x.cumprod().sum().backward()
    >>> x.grad
    array([1., 8., 0.])
    """
    return _running("cumprod", cumprod_along, x, axis)


# --------------------------------------------------------------------------------------------------
# Order statistics
# --------------------------------------------------------------------------------------------------


def quantile(x: Any, q: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Quantile ``y = (1 - w) x_(k) + w x_(k+1)``, linear between the two nearest in sorted order.

    Parameters
    ----------
    x : array_like
    q : array_like within [0, 1]
        Which quantiles; ``k + w = q (n - 1)``, counted from 0. Its axes come first in the result.
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor
        NaN where there is one among the elements.

    Raises
    ------
    ArgumentError
        If ``q`` is not within [0, 1].
    ShapeError
        If there is no element.

    Notes
    -----
    The two elements get the weights as their slopes; of equal elements those that a stable sort
    puts there.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([4.0, 1.0, 2.0], requires_grad=True)
    >>> np.quantile(x, 0.75).backward()
    >>> x.grad
    array([0.5, 0. , 0.5])
    """
    if type(q) is Tensor and q.requires_grad:
        raise DtypeError(
            message("quantile", "q that needs no gradient", "q with requires_grad=True")
        )
    q = np.asarray(plain(q))
    if not np.all((q >= 0) & (q <= 1)):
        raise ArgumentError(message("quantile", "q within [0, 1]", f"{q.tolist()}"))
    shape = np.shape(plain(x))
    axes = canonical_axes("quantile", axis, len(shape))
    merged, position = _merged(x, axes)
    ordered = moveaxis(sort(merged, axis=position), position, 0)
    n = ordered.shape[0]
    if n == 0:
        raise ShapeError(message("quantile", "at least one element", f"shape {shape}"))
    dtype = ordered.dtype if ordered.dtype.kind == "f" else float
    place = q * (n - 1)
    low = np.minimum(place.astype(int), n - 2 if n > 1 else 0)
    high = np.minimum(low + 1, n - 1)
    w = (place - low).astype(dtype).reshape(q.shape + (1,) * (ordered.ndim - 1))
    y = ordered[low]
    if w.any():
        y = (1 - w) * y + w * ordered[high]
    y = where(np.isnan(ordered[-1]), np.nan, y)  # a sort puts NaN last
    return expand_dims(y, tuple([q.ndim + a for a in axes])) if keepdims else y


def median(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Middle element in sorted order, or the mean of the two middle ones, which share the gradient.

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
        As in NumPy; PyTorch's ``median`` takes the lower of the two.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([4.0, 1.0, 2.0, 9.0], requires_grad=True)
    >>> x.median().backward()
    >>> x.grad
    array([0.5, 0. , 0.5, 0. ])
    """
    return quantile(x, 0.5, axis, keepdims)


# --------------------------------------------------------------------------------------------------
# Reductions without a gradient
# --------------------------------------------------------------------------------------------------


@primitive("np.argmax({x}, axis={axis}, keepdims={keepdims})", name="argmax")
def argmax_along(x, *, axis, keepdims):
    return np.argmax(x, axis=axis, keepdims=keepdims)


@primitive("np.argmin({x}, axis={axis}, keepdims={keepdims})", name="argmin")
def argmin_along(x, *, axis, keepdims):
    return np.argmin(x, axis=axis, keepdims=keepdims)


@primitive(expr=_text("all"), name="all")
def all_over(x, *, axis, keepdims):
    return np.all(x, axis=axis, keepdims=keepdims)


@primitive(expr=_text("any"), name="any")
def any_over(x, *, axis, keepdims):
    return np.any(x, axis=axis, keepdims=keepdims)


def _place(name: str, operation: Any, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    if axis is not None:
        axis = canonical_axis(name, axis, np.ndim(plain(x)))
    return operation(x, axis=axis, keepdims=bool(keepdims))


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the (first) largest element, as integers, which carry no gradient.

    Parameters
    ----------
    x : array_like
    axis : int or None
        None counts positions in the flattened array.
    keepdims : bool
        Whether the axis stays, with length 1.

    Returns
    -------
    Tensor of int

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.argmax(tg.Tensor([[1.0, 5.0], [7.0, 2.0]]), axis=1)
    Tensor([1, 0])
    """
    return _place("argmax", argmax_along, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the (first) smallest element, as integers, which carry no gradient.

    Parameters
    ----------
    x : array_like
    axis : int or None
        None counts positions in the flattened array.
    keepdims : bool
        Whether the axis stays, with length 1.

    Returns
    -------
    Tensor of int

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.argmin(tg.Tensor([[1.0, 5.0], [7.0, 2.0]]))
    Tensor(0)
    """
    return _place("argmin", argmin_along, x, axis, keepdims)


def all(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements are true (not zero); booleans carry no gradient.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor of bool

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> (tg.Tensor([1.0, 2.0]) > 0).all()
    Tensor(True)
    """
    return _over("all", all_over, x, axis, keepdims)


def any(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether some element is true (not zero); booleans carry no gradient.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor of bool

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> (tg.Tensor([[1.0, -2.0], [3.0, 4.0]]) < 0).any(axis=1)
    Tensor([ True, False])
    """
    return _over("any", any_over, x, axis, keepdims)


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


bad_axes = lambda: [  # read as a table
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

for spread in (var, std):
    samples(
        spread,
        lambda r: [
            *over_axes(r), case(r(4, 3), axis=0, ddof=1), case(r(4, 3), ddof=2, keepdims=True),
        ],
        reference=getattr(np, spread.__name__),
        kinks=lambda: [(case(np.array([2.0, 2.0, 2.0])), [np.zeros(3)])],
        fails=lambda: [
            *bad_axes(),
            (case(Tensor(np.ones((3, 1))), axis=1, ddof=1), ShapeError, "more than ddof=1"),
        ],
    )  # fmt: skip
samples(
    norm,
    lambda r: [*over_axes(r)]
    + [case(r.distinct(3), ord) for ord in (1, 2, 3, 1.5, np.inf, -np.inf)]
    + [case(r.distinct(2, 3), ord, axis=1) for ord in (1, 2, 3, np.inf)]
    + [case(r.distinct(2, 3, 4), 3, axis=-2, keepdims=True), case(r(2, 3), "fro", keepdims=True)],
    reference=lambda x, ord=None, axis=None, keepdims=False: (
        np.linalg.norm(x, ord, axis, keepdims) if ord is not None
        else np.sqrt(np.sum(x**2, axis=axis, keepdims=keepdims))
    ),
    kinks=lambda: [
        (case(np.zeros((2, 2)), ord, axis=0), [np.zeros((2, 2))]) for ord in (None, 1, 2, 3, np.inf)
    ],
    fails=lambda: [
        *bad_axes(),
        (case(Tensor(np.ones((2, 3))), 2), ArgumentError, "singular values"),
        (case(Tensor(np.ones(3)), 0.5), ArgumentError, "ord >= 1"),
        (case(Tensor(np.ones(3)), "fro"), ArgumentError, "ord >= 1"),
    ],
)  # fmt: skip


def _with_zeros(r: Any) -> list[Any]:
    """Rows of factors without a zero, with one, and with two."""
    x = r.distinct(3, 4)
    x[1, 2] = x[2, 0] = x[2, 3] = 0
    return x


samples(
    prod,
    lambda r: [
        *over_axes(r), case(_with_zeros(r), axis=1), case(_with_zeros(r)), case(r(0, 3), axis=0),
        case(np.array([0.0, 0.0, 2.0])), case(np.array([0.0])),
    ],
    reference=np.prod, fails=bad_axes,
)  # fmt: skip
for running in (cumsum, cumprod):
    samples(
        running,
        lambda r: [
            case(r(4)), case(r(2, 3)), case(r(2, 3), axis=0), case(r(2, 3, 2), axis=-2),
            case(r(0, 3), axis=0), case(_with_zeros(r), axis=1), case(_with_zeros(r)), case(r()),
        ],
        reference=getattr(np, running.__name__),
        fails=lambda: bad_axes()[:1],
    )  # fmt: skip


def _step_by_step(a: Any, b: Any, axis: int) -> Any:
    y = [np.zeros_like(np.take(b, 0, axis))]
    for i in range(b.shape[axis]):
        y.append(np.take(a, i, axis) * y[-1] + np.take(b, i, axis))
    return np.stack(y[1:], axis)


recurrence.samples(
    lambda r: [
        case(r(4), r(4), axis=0), case(r(2, 3), r(2, 3), axis=1), case(r(3, 2), r(3, 2), axis=0),
    ],
    reference=_step_by_step,
)  # fmt: skip
samples(
    median, over_axes, reference=np.median,
    kinks=lambda: [(case(np.array([1.0, 5.0, 5.0])), [np.array([0.0, 1.0, 0.0])])],
    fails=lambda: [*bad_axes(), (case(Tensor(np.ones((0, 3)))), ShapeError, "at least one")],
)  # fmt: skip
samples(
    quantile,
    lambda r: (
        [
            case(*c.args, q, **c.kwargs)
            for c, q in zip(over_axes(r), (0.3, 0.0, 1.0, 0.5, 0.75, 0.1, 0.2, 0.9))
        ]
        + [
            case(r.distinct(5, 3), [0.1, 0.6], axis=0),
            case(r.distinct(5, 3), [[0.25]], axis=1, keepdims=True),
        ]
    ),
    reference=np.quantile,
    fails=lambda: [
        (case(Tensor(np.ones(3)), 50), ArgumentError, "q within [0, 1]"),
        (
            case(Tensor(np.ones(3)), Tensor(0.5, requires_grad=True)),
            DtypeError,
            "q that needs no gradient",
        ),
    ],
)
for place in (argmax, argmin):
    samples(
        place,
        lambda r: [
            case(r(4)),
            case(r(2, 3)),
            case(r(2, 3), axis=-1),
            case(r(2, 3), axis=0, keepdims=True),
        ],
        reference=getattr(np, place.__name__),
        fails=lambda: [*bad_axes()[:1], (case(Tensor(np.ones(0))), ShapeError, "(0,)")],
        differentiable=False,
    )
for truth in (all, any):
    samples(
        truth,
        lambda r: [
            case(_with_zeros(r)), case(_with_zeros(r), axis=1),
            case(_with_zeros(r), axis=(0, 1), keepdims=True),
        ],
        reference=getattr(np, truth.__name__), fails=bad_axes, differentiable=False,
    )  # fmt: skip
