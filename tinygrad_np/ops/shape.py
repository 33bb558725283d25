"""Operations that move elements and compute nothing: the VJP moves them back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..core import Tensor, broadcasting_hint, case, plain, primitive, samples
from ..errors import DtypeError, IndexingError, ShapeError, message
from .axes import axis_text, canonical_axes, canonical_axis


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


def ravel(x: Any) -> Tensor:
    """The elements in one axis, row by row; a view where NumPy's is one.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor, (n,)

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.ravel(tg.Tensor([[1.0, 2.0], [3.0, 4.0]])).shape
    (4,)
    """
    return reshape_to(x, shape=(-1,))


@primitive("{x}.flatten()")
def flatten(x):
    """The elements in one axis, row by row: as `ravel`, but never a view.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor, (n,)

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.Tensor([[1.0, 2.0], [3.0, 4.0]]).flatten()
    Tensor([1., 2., 3., 4.])
    """
    return np.asarray(x).flatten()


flatten.vjp(x=lambda g, x: np.reshape(g, x.shape))


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
        axes = tuple(axes[0] or ())
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


def _positions(name: str, axes: Any, ndim: int) -> list[int]:
    """One axis or several, counted from the front, in the order given."""
    given = axes if isinstance(axes, Sequence) else (axes,)
    found = [canonical_axis(name, axis, ndim) for axis in given]
    if len(set(found)) != len(found):
        raise IndexingError(message(name, "each axis once", f"{tuple(given)}"))
    return found


def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """Move axes to other positions; the others keep their order.

    Parameters
    ----------
    x : array_like
    source, destination : int or tuple of int
        As many of one as of the other.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexingError, ShapeError
        For an axis that is not there or given twice, and for more of one than of the other.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.moveaxis(tg.Tensor(np.ones((2, 3, 4))), 0, -1).shape
    (3, 4, 2)
    """
    ndim = np.ndim(plain(x))
    sources = _positions("moveaxis", source, ndim)
    places = _positions("moveaxis", destination, ndim)
    if len(sources) != len(places):
        raise ShapeError(
            message(
                "moveaxis", "as many destinations as sources", f"{len(places)} for {len(sources)}"
            )
        )
    order = [axis for axis in range(ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources)):
        order.insert(place, axis)
    return permute(x, axes=tuple(order))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    Parameters
    ----------
    x : array_like
    axis1, axis2 : int

    Returns
    -------
    Tensor

    Raises
    ------
    IndexingError
        For an axis that is not there.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.Tensor(np.ones((2, 3, 4))).swapaxes(0, 2).shape
    (4, 3, 2)
    """
    order = list(range(np.ndim(plain(x))))
    a, b = (canonical_axis("swapaxes", axis, len(order)) for axis in (axis1, axis2))
    order[a], order[b] = order[b], order[a]
    return permute(x, axes=tuple(order))


@primitive(expr=lambda x, axis: f"np.flip({x}, {axis_text(axis)})", name="flip", view=True)
def reverse(x, *, axis):
    return np.flip(x, axis)


reverse.vjp(x=lambda g, axis: reverse(g, axis=axis))


def flip(x: Any, axis: Any = None) -> Tensor:
    """The elements in reverse order along axes.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        None for all of them.

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
    >>> tg.flip(tg.Tensor([1.0, 2.0, 3.0]))
    Tensor([3., 2., 1.])
    """
    return reverse(x, axis=canonical_axes("flip", axis, np.ndim(plain(x))))


def flipud(x: Any) -> Tensor:
    """The rows in reverse order: ``flip(x, axis=0)``.

    Parameters
    ----------
    x : array_like, (n, ...)

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.flipud(tg.Tensor([[1.0], [2.0]])).squeeze()
    Tensor([2., 1.])
    """
    return reverse(x, axis=(canonical_axis("flipud", 0, np.ndim(plain(x))),))


def fliplr(x: Any) -> Tensor:
    """The columns in reverse order: ``flip(x, axis=1)``.

    Parameters
    ----------
    x : array_like, (n, m, ...)

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.fliplr(tg.Tensor([[1.0, 2.0]]))
    Tensor([[2., 1.]])
    """
    return reverse(x, axis=(canonical_axis("fliplr", 1, np.ndim(plain(x))),))


def rot90(x: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turn by ``k`` quarter turns in the plane of two axes, from the first towards the second.

    Parameters
    ----------
    x : array_like
        At least two axes.
    k : int
        The number of quarter turns, also negative.
    axes : (int, int)

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
    >>> tg.rot90(tg.Tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([[2., 4.],
            [1., 3.]])
    """
    a, b = _positions("rot90", tuple(axes), np.ndim(plain(x)))
    if k % 4 == 1:
        return swapaxes(reverse(x, axis=(b,)), a, b)
    if k % 4 == 3:
        return reverse(swapaxes(x, a, b), axis=(b,))
    return reverse(x, axis=(a, b) if k % 4 else ())


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


@primitive("np.broadcast_to({x}, {shape})", name="broadcast_to", view=True)
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


def broadcast_arrays(*xs: Any) -> tuple[Tensor, ...]:
    """Each array repeated to the shape that they broadcast to together.

    Parameters
    ----------
    *xs : array_like

    Returns
    -------
    tuple of Tensor
        Of one shape.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> row, column = tg.broadcast_arrays(tg.Tensor([1.0, 2.0]), tg.Tensor([[3.0], [4.0]]))
    >>> row.shape, column.shape
    ((2, 2), (2, 2))
    """
    shapes = [np.shape(plain(x)) for x in xs]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        hint = broadcasting_hint(*[np.empty(s) for s in shapes])
        raise ShapeError(
            message("broadcast_arrays", "shapes that broadcast", ", ".join(map(str, shapes)), hint)
        ) from error
    return tuple([stretch(x, shape=shape) for x in xs])


def _each(xs: tuple[Any, ...], ndim: int, shape: Callable[[Any], tuple[int, ...]]) -> Any:
    """Each of ``xs`` with fewer than ``ndim`` axes in the shape given; a single one by itself."""
    arrays = [x if type(x) is Tensor else np.asarray(x) for x in xs]
    raised = [x if x.ndim >= ndim else reshape_to(x, shape=shape(x.shape)) for x in arrays]
    return raised[0] if len(raised) == 1 else tuple(raised)


def atleast_1d(*xs: Any) -> Any:
    """Scalars as arrays of shape (1,); others as they are.

    Parameters
    ----------
    *xs : array_like

    Returns
    -------
    Tensor, or tuple of Tensor for several

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.atleast_1d(tg.Tensor(3.0))
    Tensor([3.])
    """
    return _each(xs, 1, lambda shape: (1,))


def atleast_2d(*xs: Any) -> Any:
    """Scalars and vectors as a row (1, n); others as they are.

    Parameters
    ----------
    *xs : array_like

    Returns
    -------
    Tensor, or tuple of Tensor for several

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.atleast_2d(tg.Tensor([3.0, 4.0])).shape
    (1, 2)
    """
    return _each(xs, 2, lambda shape: (1, *(shape or (1,))))


def atleast_3d(*xs: Any) -> Any:
    """A vector (n,) as (1, n, 1), a matrix (n, m) as (n, m, 1); others as they are.

    Parameters
    ----------
    *xs : array_like

    Returns
    -------
    Tensor, or tuple of Tensor for several

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.atleast_3d(tg.Tensor([3.0, 4.0])).shape
    (1, 2, 1)
    """
    return _each(xs, 3, lambda shape: (*shape, 1) if len(shape) == 2 else (1, *(shape or (1,)), 1))


# --------------------------------------------------------------------------------------------------
# Joining
# --------------------------------------------------------------------------------------------------


@primitive("np.concatenate([{xs}], axis={axis})", name="concatenate",
           hint=lambda *xs, axis: f"Their lengths must agree but for that of axis {axis}.")  # fmt: skip
def join(*xs, axis):
    return np.concatenate(xs, axis=axis)


def _part(g: Any, xs: Any, i: int, axis: int) -> Any:
    start = sum([x.shape[axis] for x in xs[:i]])
    return g[(slice(None),) * axis + (slice(start, start + xs[i].shape[axis]),)]


join.vjp(xs=_part)


@primitive("np.stack([{xs}], axis={axis})", name="stack",
           hint=lambda *xs, axis: "They must be of one shape.")  # fmt: skip
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


def hstack(xs: Sequence[Any]) -> Tensor:
    """Arrays side by side: joined along the columns, vectors end to end.

    Parameters
    ----------
    xs : sequence of array_like

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
    >>> np.hstack([tg.Tensor([[1.0], [2.0]]), [[3.0], [4.0]]])
    Tensor([[1., 3.],
            [2., 4.]])
    """
    arrays = [atleast_1d(x) for x in _sequence("hstack", xs)]
    return join(*arrays, axis=0 if arrays[0].ndim == 1 else 1)


def vstack(xs: Sequence[Any]) -> Tensor:
    """Arrays on top of each other: joined along the rows, a vector being a row.

    Parameters
    ----------
    xs : sequence of array_like

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
    >>> np.vstack([tg.Tensor([1.0, 2.0]), [3.0, 4.0]]).shape
    (2, 2)
    """
    return join(*[atleast_2d(x) for x in _sequence("vstack", xs)], axis=0)


def dstack(xs: Sequence[Any]) -> Tensor:
    """Arrays behind each other: joined along the third axis, which a matrix is given.

    Parameters
    ----------
    xs : sequence of array_like

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
    >>> np.dstack([tg.Tensor([1.0, 2.0]), [3.0, 4.0]]).shape
    (1, 2, 2)
    """
    return join(*[atleast_3d(x) for x in _sequence("dstack", xs)], axis=2)


def column_stack(xs: Sequence[Any]) -> Tensor:
    """Arrays side by side, a vector being a column.

    Parameters
    ----------
    xs : sequence of array_like
        (n,) or (n, m).

    Returns
    -------
    Tensor, (n, sum of m)

    Raises
    ------
    ShapeError
        If the numbers of rows differ.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> np.column_stack([tg.Tensor([1.0, 2.0]), [3.0, 4.0]])
    Tensor([[1., 3.],
            [2., 4.]])
    """
    arrays = _sequence("column_stack", xs)
    return join(*[x if x.ndim > 1 else reshape_to(x, shape=(-1, 1)) for x in arrays], axis=1)


def append(x: Any, values: Any, axis: int | None = None) -> Tensor:
    """``x`` with ``values`` joined on at the end of an axis.

    Parameters
    ----------
    x, values : array_like
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
    >>> import tinygrad_np as tg
    >>> tg.append(tg.Tensor([1.0, 2.0]), 3.0)
    Tensor([1., 2., 3.])
    """
    return concatenate([x, values], axis)


# --------------------------------------------------------------------------------------------------
# Splitting
# --------------------------------------------------------------------------------------------------


def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Consecutive parts along an axis, as equal in length as they can be, or cut at given places.

    Parameters
    ----------
    x : array_like
    indices_or_sections : int or sequence of int
        The number of parts, or the positions at which to cut.
    axis : int

    Returns
    -------
    list of Tensor
        Views. Where the parts cannot be equal the first ones are longer by 1.

    Raises
    ------
    ShapeError
        For fewer than one part.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> [part.size for part in tg.array_split(tg.Tensor(np.ones(5)), 3)]
    [2, 2, 1]
    """
    x = x if type(x) is Tensor else np.asarray(x)
    axis = canonical_axis("array_split", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(indices_or_sections, int | np.integer):
        if indices_or_sections < 1:
            raise ShapeError(message("array_split", "at least one part", f"{indices_or_sections}"))
        length, longer = divmod(n, int(indices_or_sections))
        cuts = [i * length + min(i, longer) for i in range(1, int(indices_or_sections))]
    else:
        cuts = [int(cut) for cut in indices_or_sections]
    before = (slice(None),) * axis
    return [x[(*before, slice(start, end))] for start, end in pairwise([0, *cuts, n])]


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Consecutive parts of equal length along an axis, or cut at given places.

    Parameters
    ----------
    x : array_like
    indices_or_sections : int or sequence of int
        The number of parts, or the positions at which to cut.
    axis : int

    Returns
    -------
    list of Tensor
        Views.

    Raises
    ------
    ShapeError
        If the parts cannot be of equal length; `array_split` makes them unequal.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.split(tg.Tensor([1.0, 2.0, 3.0, 4.0]), 2)
    [Tensor([1., 2.]), Tensor([3., 4.])]
    >>> [part.size for part in tg.split(tg.Tensor([1.0, 2.0, 3.0, 4.0]), [1])]
    [1, 3]
    """
    shape = np.shape(plain(x))
    axis = canonical_axis("split", axis, len(shape))
    parts = indices_or_sections
    if isinstance(parts, int | np.integer) and (parts < 1 or shape[axis] % parts):
        raise ShapeError(
            message("split", f"a number of parts that divides the length {shape[axis]} of the axis",
                    f"{parts}", "array_split makes parts of unequal length.")
        )  # fmt: skip
    return array_split(x, parts, axis)


def _split_along(name: str, x: Any, parts: Any, axis: int, least: int) -> list[Tensor]:
    ndim = np.ndim(plain(x))
    if ndim < least:
        raise ShapeError(message(name, f"an array of at least {least} axes", f"{ndim}"))
    return split(x, parts, axis)


def hsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """The columns in consecutive parts (of a vector: the elements); see `split`.

    Parameters
    ----------
    x : array_like, (n,) or (n, m, ...)
    indices_or_sections : int or sequence of int

    Returns
    -------
    list of Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> [part.shape for part in tg.hsplit(tg.Tensor(np.ones((2, 4))), 2)]
    [(2, 2), (2, 2)]
    """
    return _split_along("hsplit", x, indices_or_sections, min(1, np.ndim(plain(x)) - 1), least=1)


def vsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """The rows in consecutive parts; see `split`.

    Parameters
    ----------
    x : array_like, (n, m, ...)
    indices_or_sections : int or sequence of int

    Returns
    -------
    list of Tensor

    Raises
    ------
    ShapeError
        For a vector.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> [part.shape for part in tg.vsplit(tg.Tensor(np.ones((2, 4))), 2)]
    [(1, 4), (1, 4)]
    """
    return _split_along("vsplit", x, indices_or_sections, 0, least=2)


def dsplit(x: Any, indices_or_sections: Any) -> list[Tensor]:
    """The third axis in consecutive parts; see `split`.

    Parameters
    ----------
    x : array_like, (n, m, k, ...)
    indices_or_sections : int or sequence of int

    Returns
    -------
    list of Tensor

    Raises
    ------
    ShapeError
        For fewer than three axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> [part.shape for part in tg.dsplit(tg.Tensor(np.ones((1, 2, 4))), [3])]
    [(1, 2, 3), (1, 2, 1)]
    """
    return _split_along("dsplit", x, indices_or_sections, 2, least=3)


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------

samples(
    reshape,
    lambda r: [
        case(r(2, 3), (3, 2)),
        case(r(2, 3), -1),
        case(r(2, 3), 1, 6),
        case(r(), (1, 1)),
        case(r(0, 3), (3, 0)),
        case(r(4), (2, -1)),
    ],
    reference=lambda x, *shape: x.reshape(*shape),
    fails=lambda: [(case(Tensor(np.ones((2, 3))), (4, 2)), ShapeError, "shape=(4, 2)")],
)
samples(
    transpose,
    lambda r: [
        case(r(2, 3)),
        case(r(2, 3, 4), (1, 2, 0)),
        case(r(2, 3, 4), 0, -1, 1),
        case(r()),
        case(r(3)),
    ],
    reference=lambda x, *axes: x.transpose(*axes),
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), (0, 0)), IndexingError, "each of the 2 axes once"),
        (case(Tensor(np.ones((2, 3))), (0, 2)), IndexingError, "axis in [-2, 2)"),
    ],
)
samples(
    matrix_transpose,
    lambda r: [case(r(2, 3)), case(r(5, 2, 3))],
    reference=lambda x: np.swapaxes(x, -1, -2),
    fails=lambda: [(case(Tensor(np.ones(3))), ShapeError, "at least two axes")],
)
samples(
    squeeze,
    lambda r: [
        case(r(2, 1, 3, 1)),
        case(r(2, 1, 3, 1), axis=-1),
        case(r(1, 1), axis=(0, 1)),
        case(r()),
    ],
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
        case([r(2, 3), r(1, 3)]),
        case([r(2, 3), r(2, 1), r(2, 0)], axis=-1),
        case([r(2), r(2, 2)], axis=None),
        case([r(3)]),
    ],
    reference=np.concatenate,
    fails=lambda: [
        (case([Tensor(np.ones((2, 3))), np.ones((2, 2))]), ShapeError, "xs[1] of shape (2, 2)"),
        (case([]), DtypeError, "at least one"),
    ],
)
samples(
    stack,
    lambda r: [case([r(2, 3), r(2, 3)]), case([r(2), r(2), r(2)], axis=-1), case([r(), r()])],
    reference=np.stack,
    fails=lambda: [(case([Tensor(np.ones(3)), np.ones(2)]), ShapeError, "xs[1] of shape (2,)")],
)
samples(ravel, lambda r: [case(r(2, 3)), case(r()), case(r(0, 2))], reference=np.ravel)
flatten.samples(lambda r: [case(r(2, 3)), case(r()), case(r(0, 2))], reference=np.ravel)
samples(
    moveaxis,
    lambda r: [
        case(r(2, 3, 4), 0, -1),
        case(r(2, 3, 4), -1, 0),
        case(r(2, 3, 4, 1), (0, -1), (1, 0)),
        case(r(3), 0, 0),
    ],
    reference=np.moveaxis,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), 0, 2), IndexingError, "axis in [-2, 2)"),
        (case(Tensor(np.ones((2, 3))), (0, 0), (0, 1)), IndexingError, "each axis once"),
        (case(Tensor(np.ones((2, 3))), (0, 1), 0), ShapeError, "1 for 2"),
    ],
)
samples(
    swapaxes,
    lambda r: [case(r(2, 3, 4), 0, 2), case(r(2, 3, 4), -1, 1), case(r(3), 0, 0)],
    reference=np.swapaxes,
    fails=lambda: [
        (
            case(Tensor(np.ones((2, 3))), 0, 2),
            IndexingError,
            "swapaxes: expected an axis in [-2, 2)",
        )
    ],
)
samples(
    flip,
    lambda r: [
        case(r(2, 3)),
        case(r(2, 3), 0),
        case(r(2, 3, 4), (-1, 0)),
        case(r()),
        case(r(0, 3), 1),
    ],
    reference=np.flip,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), 2), IndexingError, "flip: expected an axis in [-2, 2)")
    ],
)
samples(
    flipud,
    lambda r: [case(r(3, 2)), case(r(3))],
    reference=np.flipud,
    fails=lambda: [(case(Tensor(1.0)), IndexingError, "flipud")],
)
samples(
    fliplr,
    lambda r: [case(r(2, 3)), case(r(2, 3, 2))],
    reference=np.fliplr,
    fails=lambda: [(case(Tensor(np.ones(3))), IndexingError, "fliplr")],
)
samples(
    rot90,
    lambda r: (
        [case(r(2, 3), k) for k in (0, 1, 2, 3, -1, 5)]
        + [case(r(2, 3, 4), 1, (2, 0)), case(r(2, 3))]
    ),
    reference=np.rot90,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), 1, (0, 0)), IndexingError, "rot90: expected each axis once")
    ],
)
samples(
    broadcast_arrays,
    lambda r: [case(r(3), r(2, 1)), case(r(), r(2, 2)), case(r(2))],
    reference=np.broadcast_arrays,
    fails=lambda: [(case(Tensor(np.ones(2)), np.ones((2, 3))), ShapeError, "[:, None]")],
)
for raised, reference in (
    (atleast_1d, np.atleast_1d),
    (atleast_2d, np.atleast_2d),
    (atleast_3d, np.atleast_3d),
):
    samples(
        raised,
        lambda r: [case(r()), case(r(3)), case(r(2, 3)), case(r(2, 3, 1)), case(r(), r(2))],
        reference=reference,
    )


def _rows_of_two(r: Any) -> list[Any]:
    return [case([r(3), r(3)]), case((r(2, 3), r(2, 3))), case([r(2, 1, 3), r(2, 1, 3)])]


_ragged = lambda: [
    (
        case([Tensor(np.ones((2, 3, 2))), np.ones((3, 2, 1))]),
        ShapeError,
        "xs[1] of shape (3, 2, 1)",
    ),
    (case([]), DtypeError, "at least one"),
]

samples(
    hstack,
    lambda r: [*_rows_of_two(r), case([r(), r(2)]), case([r(2, 1), r(2, 0)])],
    reference=np.hstack,
    fails=_ragged,
)
samples(vstack, lambda r: [*_rows_of_two(r), case([r(), r()])], reference=np.vstack, fails=_ragged)
samples(dstack, lambda r: [*_rows_of_two(r), case([r(), r()])], reference=np.dstack, fails=_ragged)
samples(
    column_stack,
    lambda r: [case([r(3), r(3)]), case([r(3), r(3, 2)]), case([r(), r()])],
    reference=np.column_stack,
    fails=_ragged,
)
samples(
    append,
    lambda r: [
        case(r(2, 3), r(2)),
        case(r(2, 3), r(1, 3), axis=0),
        case(r(2), r()),
        case(r(2, 3), r(2, 1), axis=-1),
    ],
    reference=np.append,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.ones(3), axis=0), ShapeError, "xs[1] of shape (3,)")
    ],
)
samples(
    array_split,
    lambda r: [
        case(r(5), 3),
        case(r(2, 5), 2, axis=-1),
        case(r(2), 3),
        case(r(5), [1, 3]),
        case(r(5), [3, 9]),
        case(r(5), [-2]),
    ],
    reference=np.array_split,
    fails=lambda: [(case(Tensor(np.ones(3)), 0), ShapeError, "at least one part")],
)
samples(
    split,
    lambda r: [case(r(4, 3), 2), case(r(2, 6), 3, axis=1), case(r(4), [1, 1, 3])],
    reference=np.split,
    fails=lambda: [
        (case(Tensor(np.ones(5)), 2), ShapeError, "array_split"),
        (case(Tensor(np.ones(5)), 0), ShapeError, "divides the length 5"),
        (case(Tensor(np.ones(5)), 2, axis=1), IndexingError, "split: expected an axis"),
    ],
)
samples(
    hsplit,
    lambda r: [case(r(4), 2), case(r(2, 4), [1])],
    reference=np.hsplit,
    fails=lambda: [(case(Tensor(1.0), 1), ShapeError, "hsplit")],
)
samples(
    vsplit,
    lambda r: [case(r(4, 1), 2), case(r(4, 2), [1])],
    reference=np.vsplit,
    fails=lambda: [
        (case(Tensor(np.ones(4)), 2), ShapeError, "vsplit: expected an array of at least 2 axes")
    ],
)
samples(
    dsplit,
    lambda r: [case(r(1, 2, 4), 2)],
    reference=np.dsplit,
    fails=lambda: [
        (
            case(Tensor(np.ones((2, 2))), 2),
            ShapeError,
            "dsplit: expected an array of at least 3 axes",
        )
    ],
)
