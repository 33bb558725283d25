"""Operations that move elements and compute nothing: the VJP moves them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import DtypeError, IndexingError, ShapeError, message
from .axes import canonical_axes, canonical_axis


@primitive("np.reshape({x}, {shape})", name="reshape", view=True)
def reshape_to(x, *, shape):
    return np.reshape(x, shape)


reshape_to.vjp(x=lambda g, x: np.reshape(g, x.shape))


def reshape(x: Any, *shape: Any) -> Tensor:
    """The same elements, row by row, in another shape.

    Parameters
    ----------
    x : array_like
    *shape : int or tuple of int
        Lengths; one of them may be -1, to be worked out.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If the number of elements differs.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.reshape(np.arange(4.0), 2, -1)
    array([[0., 1.],
           [2., 3.]])
    """
    wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence | np.ndarray) else shape
    return reshape_to(x, shape=tuple([int(n) for n in wanted]))


def _transpose_text(x: str, axes: tuple[int, ...]) -> str:
    if axes == tuple(reversed(range(len(axes)))):
        return f"{x}.T"
    if axes == (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2):
        return f"{x}.mT"
    return f"np.transpose({x}, {axes})"


@primitive(expr=_transpose_text, name="transpose", view=True)
def permute(x, *, axes):
    return np.transpose(x, axes)


permute.vjp(x=lambda g, axes: np.transpose(g, tuple(np.argsort(axes).tolist())))


def transpose(x: Any, *axes: Any) -> Tensor:
    """The same elements with the axes in another order; without ``axes``, reversed.

    Parameters
    ----------
    x : array_like
    *axes : int or tuple of int
        A permutation of the axes.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexingError
        If ``axes`` is not a permutation.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.Tensor([[1.0, 2.0]]).transpose().shape
    (2, 1)
    """
    ndim = np.ndim(plain(x))
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], Sequence)):
        axes = axes[0] or ()
    order = tuple([canonical_axis("transpose", a, ndim) for a in axes]) or tuple(range(ndim))[::-1]
    if sorted(order) != list(range(ndim)):
        raise IndexingError(message("transpose", f"each of the {ndim} axes once", f"{tuple(axes)}"))
    return permute(x, axes=order)


def matrix_transpose(x: Any) -> Tensor:
    """The last two axes exchanged: ``x.mT``.

    Parameters
    ----------
    x : array_like, (..., n, m)

    Returns
    -------
    Tensor, (..., m, n)

    Raises
    ------
    ShapeError
        If there are fewer than two axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.Tensor(np.ones((5, 2, 3))).mT.shape
    (5, 3, 2)
    """
    ndim = np.ndim(plain(x))
    if ndim < 2:
        raise ShapeError(message("matrix_transpose", "at least two axes", f"{ndim}"))
    return permute(x, axes=(*range(ndim - 2), ndim - 1, ndim - 2))


@primitive("np.squeeze({x}, axis={axis})", name="squeeze", view=True)
def squeeze_axes(x, *, axis):
    return np.squeeze(x, axis)


squeeze_axes.vjp(x=lambda g, axis: np.expand_dims(g, axis))


def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Without axes of length 1: those given, or all of them.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If a given axis is longer than 1.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.Tensor([[1.0], [2.0]]).squeeze().shape
    (2,)
    """
    shape = np.shape(plain(x))
    if axis is None:
        axis = tuple(i for i, n in enumerate(shape) if n == 1)
    return squeeze_axes(x, axis=canonical_axes("squeeze", axis, len(shape)))


@primitive("np.expand_dims({x}, {axis})", name="expand_dims", view=True)
def expand_axes(x, *, axis):
    return np.expand_dims(x, axis)


expand_axes.vjp(x=lambda g, axis: np.squeeze(g, axis))


def expand_dims(x: Any, axis: Any) -> Tensor:
    """With new axes of length 1 at the given positions of the result.

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.expand_dims(tg.Tensor([1.0, 2.0]), -1).shape
    (2, 1)
    """
    count = len(axis) if isinstance(axis, Sequence) else 1
    ndim = np.ndim(plain(x)) + count
    return expand_axes(x, axis=canonical_axes("expand_dims", axis, ndim))


@primitive("np.broadcast_to({x}, {shape})", name="broadcast_to")
def stretch(x, *, shape):
    return np.broadcast_to(x, shape)


stretch.vjp(x=lambda g: g)  # the engine sums over the axes that were stretched


def broadcast_to(x: Any, shape: int | Sequence[int]) -> Tensor:
    """Repeat along axes of length 1, and along new leading ones; the VJP sums over them.

    Parameters
    ----------
    x : array_like
    shape : tuple of int

    Returns
    -------
    Tensor
        A read-only view, as in NumPy.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> b = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> tg.broadcast_to(b, (3, 2)).sum().backward()
    >>> b.grad
    array([3., 3.])
    """
    return stretch(x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


# --------------------------------------------------------------------------------------------------
# Joining
# --------------------------------------------------------------------------------------------------


@primitive("np.concatenate([{xs}], axis={axis})", name="concatenate")
def join(*xs, axis):
    return np.concatenate(xs, axis=axis)


def _part(g: Any, xs: Any, i: int, axis: int) -> Any:
    start = sum([x.shape[axis] for x in xs[:i]])
    return g[(slice(None),) * axis + (slice(start, start + xs[i].shape[axis]),)]


join.vjp(xs=_part)


@primitive("np.stack([{xs}], axis={axis})", name="stack")
def pile(*xs, axis):
    return np.stack(xs, axis=axis)


pile.vjp(xs=lambda g, i, axis: g[(slice(None),) * axis + (i,)])


def _sequence(name: str, xs: Any) -> list[Any]:
    if type(xs) is Tensor or isinstance(xs, np.ndarray):
        return list(xs)
    if not isinstance(xs, Sequence) or not len(xs):
        raise DtypeError(message(name, "a list or tuple of at least one array", f"{xs!r:.40}"))
    return [x if type(x) is Tensor else np.asarray(x) for x in xs]


def concatenate(xs: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Arrays joined along an axis they have; each gets its part of ``g``.

    Parameters
    ----------
    xs : sequence of array_like
        Of equal shapes but for the length along ``axis``.
    axis : int or None
        None joins the flattened arrays.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If the other lengths differ.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0])
    >>> np.concatenate([x, [3.0]])
    Tensor([1., 2., 3.])
    """
    xs = _sequence("concatenate", xs)
    if axis is None:
        return join(*[reshape(x, -1) for x in xs], axis=0)
    return join(*xs, axis=canonical_axis("concatenate", axis, np.ndim(plain(xs[0]))))


def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis.

    Parameters
    ----------
    xs : sequence of array_like
    axis : int
        The position of the new axis in the result.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> np.stack([tg.Tensor([1.0, 2.0]), [3.0, 4.0]], axis=1).shape
    (2, 2)
    """
    xs = _sequence("stack", xs)
    return pile(*xs, axis=canonical_axis("stack", axis, np.ndim(plain(xs[0])) + 1))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------

samples(
    reshape,
    lambda r: [
        case(r(2, 3), (3, 2)), case(r(2, 3), -1), case(r(2, 3), 1, 6), case(r(), (1, 1)),
        case(r(0, 3), (3, 0)), case(r(4), (2, -1)),
    ],
    reference=lambda x, *shape: x.reshape(*shape),
    fails=lambda: [(case(Tensor(np.ones((2, 3))), (4, 2)), ShapeError, "shape=(4, 2)")],
)  # fmt: skip
samples(
    transpose,
    lambda r: [
        case(r(2, 3)), case(r(2, 3, 4), (1, 2, 0)), case(r(2, 3, 4), 0, -1, 1), case(r()), case(r(3)),
    ],
    reference=lambda x, *axes: x.transpose(*axes),
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), (0, 0)), IndexingError, "each of the 2 axes once"),
        (case(Tensor(np.ones((2, 3))), (0, 2)), IndexingError, "axis in [-2, 2)"),
    ],
)  # fmt: skip
samples(
    matrix_transpose,
    lambda r: [case(r(2, 3)), case(r(5, 2, 3))],
    reference=lambda x: np.swapaxes(x, -1, -2),
    fails=lambda: [(case(Tensor(np.ones(3))), ShapeError, "at least two axes")],
)
samples(
    squeeze,
    lambda r: [case(r(2, 1, 3, 1)), case(r(2, 1, 3, 1), axis=-1), case(r(1, 1), axis=(0, 1)), case(r())],
    reference=np.squeeze,
    fails=lambda: [(case(Tensor(np.ones((2, 3))), axis=0), ShapeError, "squeeze")],
)
samples(
    expand_dims,
    lambda r: [case(r(2, 3), 0), case(r(2, 3), -1), case(r(3), (0, 2)), case(r(), 0)],
    reference=np.expand_dims,
    fails=lambda: [(case(Tensor(np.ones((2, 3))), 4), IndexingError, "axis in [-3, 3)")],
)
samples(
    broadcast_to,
    lambda r: [case(r(3), (2, 3)), case(r(2, 1), (4, 2, 3)), case(r(), (2, 2)), case(r(3), (3,))],
    reference=np.broadcast_to,
    fails=lambda: [(case(Tensor(np.ones(3)), (2, 4)), ShapeError, "shape=(2, 4)")],
)
samples(
    concatenate,
    lambda r: [
        case([r(2, 3), r(1, 3)]), case([r(2, 3), r(2, 1), r(2, 0)], axis=-1), case([r(2), r(2, 2)], axis=None),
        case([r(3)]),
    ],
    reference=np.concatenate,
    fails=lambda: [
        (case([Tensor(np.ones((2, 3))), np.ones((2, 2))]), ShapeError, "xs[1] of shape (2, 2)"),
        (case([]), DtypeError, "at least one"),
    ],
)  # fmt: skip
samples(
    stack,
    lambda r: [case([r(2, 3), r(2, 3)]), case([r(2), r(2), r(2)], axis=-1), case([r(), r()])],
    reference=np.stack,
    fails=lambda: [(case([Tensor(np.ones(3)), np.ones(2)]), ShapeError, "xs[1] of shape (2,)")],
)
