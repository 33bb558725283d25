"""Reading elements by index, and its adjoint: adding cotangents back where they were read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples, told
from ..errors import ArgumentError, DtypeError, IndexingError, ShapeError, message
from .axes import canonical_axis
from .shape import ravel


def index_text(index: Any) -> str:
    """An index as one would type it between the brackets."""
    parts = index if isinstance(index, tuple) else (index,)
    return ", ".join([_part_text(part) for part in parts]) or "()"


def _part_text(part: Any) -> str:
    if isinstance(part, slice):
        ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
        return ":".join(ends if part.step is None else [*ends, str(part.step)])
    if part is None:
        return "None"
    return (
        "..." if part is Ellipsis else str(part.tolist() if isinstance(part, np.ndarray) else part)
    )


def is_basic(index: Any) -> bool:
    """Whether the index has only integers, slices, None and Ellipsis, and so reads a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, slice) or _is_number(part)
        for part in parts
    )


def _is_number(part: Any) -> bool:
    return isinstance(part, int | np.integer) and not isinstance(part, bool)


@primitive(expr=lambda x, index: f"{x}[{index_text(index)}]", name="getitem", view=True)
def read(x, *, index):
    return x[index]


@primitive(
    expr=lambda g, index, shape: f"scatter({g}, {shape}, {index_text(index)})", name="scatter_add"
)
def scatter_add(g, *, index, shape):
    """Zeros of ``shape`` with ``g`` added at ``index``, once for each time it was read."""
    z = np.zeros(shape, dtype=g.dtype)
    if is_basic(index) or (isinstance(index, np.ndarray) and index.dtype == bool):
        z[index] = g  # no element is named twice
    else:
        np.add.at(z.reshape(-1), _elements(index, shape), g.reshape(-1))
    return z


def _elements(index: Any, shape: tuple[int, ...]) -> Any:
    """The position in the flattened array of each element that an index reads.

    ``np.add.at`` adds up numbers at flat positions five times faster than rows at row numbers.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if not all(
        _is_number(p) or (isinstance(p, np.ndarray) and p.dtype.kind in "iu") for p in parts
    ):
        return np.arange(math.prod(shape)).reshape(shape)[index].reshape(-1)
    rows = np.ravel_multi_index(np.broadcast_arrays(*parts), shape[: len(parts)], mode="wrap")
    width = math.prod(shape[len(parts) :])
    return (np.reshape(rows, (-1, 1)) * width + np.arange(width)).reshape(-1)


read.vjp(x=lambda g, x, index: scatter_add(g, index=index, shape=x.shape))
scatter_add.vjp(g=lambda g, index: g[index])


def getitem(x: Any, index: Any) -> Tensor:
    """Elements by index: ``y = x[index]``; an element that is read twice gets both cotangents.

    Parameters
    ----------
    x : Tensor
    index : int, slice, None, Ellipsis, array of int or bool, or a tuple of them
        As in NumPy; a Tensor of integers or booleans counts as its array.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexingError
        For an index outside the shape.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 2]].sum().backward()
    >>> x.grad
    array([2., 0., 1.])
    """
    return read(x, index=plain_index(index))


def plain_index(index: Any) -> Any:
    """An index without Tensors and lists in it."""
    if type(index) is tuple:
        return tuple([plain_index(part) for part in index])
    if type(index) is Tensor:
        index = index.data
    elif isinstance(index, list):
        index = np.asarray(index, dtype=None if len(index) else int)
    if isinstance(index, np.ndarray) and index.dtype.kind not in "iub":
        raise DtypeError(
            message("getitem", "indices that are integers or booleans", f"dtype {index.dtype}")
        )
    return index


# --------------------------------------------------------------------------------------------------
# Reading along an axis
# --------------------------------------------------------------------------------------------------


@primitive("np.take({x}, {indices}, axis={axis})", name="take")
def take_at(x, *, indices, axis):
    return np.take(x, indices, axis=axis)


take_at.vjp(
    x=lambda g, x, indices, axis: scatter_add(
        g, index=(*(slice(None),) * axis, indices), shape=x.shape))  # fmt: skip


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Whole slices by number: ``y[..., i, ...] = x[..., indices[i], ...]`` along an axis.

    The lookup of an embedding is ``take(W, tokens, axis=0)``. A slice that is read several times
    gets the sum of the cotangents.

    Parameters
    ----------
    x : array_like
    indices : array_like of int, any shape
        In ``-n ... n - 1`` for a length n.
    axis : int or None
        None reads from the flattened array.

    Returns
    -------
    Tensor
        The shape of ``x`` with that of ``indices`` in the place of the axis.

    Raises
    ------
    IndexingError, DtypeError
        For indices out of range, or not integers.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> W = tg.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> tg.take(W, [1, 1, 0], axis=0).sum().backward()
    >>> W.grad
    array([[1., 1.],
           [2., 2.]])
    """
    indices = _integers("take", indices)
    if axis is None:
        return take_at(ravel(x), indices=indices, axis=0)
    return take_at(x, indices=indices, axis=canonical_axis("take", axis, np.ndim(plain(x))))


def _integers(name: str, indices: Any) -> Any:
    indices = np.asarray(plain(indices))
    if indices.dtype.kind in "iu":
        return indices
    if indices.size == 0:
        return indices.astype(int)
    fix = (
        "Index with x[mask] instead." if indices.dtype.kind == "b" else "Did you mean .astype(int)?"
    )
    raise DtypeError(message(name, "integer indices", f"dtype {indices.dtype}", fix))


@primitive("np.take_along_axis({x}, {indices}, axis={axis})", name="take_along_axis")
def take_each(x, *, indices, axis):
    return np.take_along_axis(x, indices, axis)


def _along(indices: Any, shape: tuple[int, ...], axis: int) -> tuple[Any, ...]:
    """The index that reads what `take_along_axis` does."""
    grid = np.ogrid[tuple([slice(n) for n in shape])]
    return (*grid[:axis], indices, *grid[axis + 1 :])


take_each.vjp(
    x=lambda g, x, indices, axis: scatter_add(
        g, index=_along(indices, x.shape, axis), shape=x.shape))  # fmt: skip


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """One element for each index: ``y[i, j] = x[i, indices[i, j]]`` for the last of two axes.

    It puts to use what `argsort` and `argmax` return; PyTorch calls it ``gather``.

    Parameters
    ----------
    x : array_like
    indices : array_like of int
        As many axes as ``x``; the lengths along the others broadcast with those of ``x``.
    axis : int or None
        None reads from the flattened array, with flat indices.

    Returns
    -------
    Tensor
        Of the shape of ``indices``, broadcast.

    Raises
    ------
    IndexingError, DtypeError, ShapeError
        For indices out of range, not integers, or with another number of axes.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([[5.0, 6.0], [7.0, 8.0]], requires_grad=True)
    >>> y = tg.take_along_axis(x, [[1], [0]])
    >>> y.squeeze()
    Tensor([6., 7.], from squeeze)
    >>> y.sum().backward()
    >>> x.grad
    array([[0., 1.],
           [1., 0.]])
    """
    indices = _integers("take_along_axis", indices)
    if axis is None:
        x, axis = ravel(x), 0
    ndim = np.ndim(plain(x))
    if indices.ndim != ndim:
        raise ShapeError(
            message("take_along_axis", f"indices with {ndim} axes, as many as x", f"{indices.ndim}",
                    "Use take to read whole slices.")
        )  # fmt: skip
    return take_each(x, indices=indices, axis=canonical_axis("take_along_axis", axis, ndim))


# --------------------------------------------------------------------------------------------------
# Diagonals and triangles
# --------------------------------------------------------------------------------------------------


def _diagonal_text(x: str, offset: int, axis1: int, axis2: int) -> str:
    return f"np.diagonal({x}, {offset}, {axis1}, {axis2})"


def gather(x: Any, index: Any, axis: int) -> Tensor:
    """Pick along an axis, ``y[i, j] = x[index[i, j], j]`` for axis 0, as PyTorch's ``gather``.

    Other than in `take_along_axis`, nothing is broadcast, and the index may be shorter than ``x``
    along the other axes, where it then picks from the first elements.

    Parameters
    ----------
    x : array_like
    index : array_like of int
        With as many axes as ``x``, and along the others no longer than it.
    axis : int

    Returns
    -------
    Tensor
        Of the shape of ``index``.

    Raises
    ------
    ShapeError, IndexingError, DtypeError
        For an index that does not fit, points outside, or is not of integers.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    >>> tg.gather(x, [[0, 0], [1, 0]], axis=1)
    Tensor([[1., 1.],
            [4., 3.]], from getitem)
    """
    index = np.asarray(plain(index))
    shape = np.shape(plain(x))
    axis = canonical_axis("gather", axis, len(shape))
    fits = index.ndim == len(shape) and all(
        n <= m for k, (n, m) in enumerate(zip(index.shape, shape)) if k != axis
    )
    if not fits:
        raise ShapeError(
            message("gather", f"an index of {len(shape)} axes, no longer than {shape} but for axis {axis}",
                    f"{index.shape}")
        )  # fmt: skip
    places = list(np.indices(index.shape, sparse=True))
    places[axis] = index
    return getitem(x, tuple(places))


samples(
    gather,
    lambda r: [
        case(r(4, 3), r.integers(4, 2, 3), 0),
        case(r(4, 3), r.integers(3, 4, 5), axis=-1),
        case(r(4, 3), r.integers(3, 2, 2), axis=1),
        case(r(4), r.integers(4, 6), axis=0),
    ],
    reference=lambda x, index, axis: np.take_along_axis(
        x[tuple(slice(None) if k == axis % x.ndim else slice(n) for k, n in enumerate(index.shape))],
        index, axis,
    ),
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.zeros((3, 3), int), 1), ShapeError, "no longer than (2, 3)"),
        (case(Tensor(np.ones((2, 3))), np.zeros(3, int), 1), ShapeError, "an index of 2 axes"),
        (case(Tensor(np.ones(3)), [3], 0), IndexingError, "getitem"),
        (case(Tensor(np.ones(3)), [0.5], 0), DtypeError, "integers"),
    ],
)  # fmt: skip


@primitive(expr=_diagonal_text, name="diagonal", view=True)
def diagonal_of(x, *, offset, axis1, axis2):
    return np.diagonal(x, offset, axis1, axis2)


@primitive
def place_diagonal(g, *, shape, offset, axis1, axis2):
    """Zeros of ``shape`` with ``g`` on a diagonal."""
    z = np.zeros(shape, dtype=g.dtype)
    i = np.arange(np.diagonal(z, offset, axis1, axis2).shape[-1])
    np.moveaxis(z, (axis1, axis2), (-2, -1))[..., i - min(offset, 0), i + max(offset, 0)] = g
    return z


diagonal_of.vjp(
    x=lambda g, x, offset, axis1, axis2: place_diagonal(
        g, shape=x.shape, offset=offset, axis1=axis1, axis2=axis2))  # fmt: skip
place_diagonal.vjp(
    g=lambda g, offset, axis1, axis2: diagonal_of(g, offset=offset, axis1=axis1, axis2=axis2)
)


def _plane(name: str, x: Any, axis1: int, axis2: int) -> dict[str, int]:
    """Two different axes of ``x``, counted from the front."""
    ndim = np.ndim(plain(x))
    if ndim < 2:
        raise ShapeError(message(name, "at least two axes", f"{ndim}"))
    axes = {"axis1": canonical_axis(name, axis1, ndim), "axis2": canonical_axis(name, axis2, ndim)}
    if axes["axis1"] == axes["axis2"]:
        raise IndexingError(message(name, "two different axes", f"{axis1} and {axis2}"))
    return axes


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """A diagonal of each matrix: ``y[..., i] = x[i, i + offset, ...]``.

    Parameters
    ----------
    x : array_like
        At least two axes.
    offset : int
        How far above the main diagonal; negative below.
    axis1, axis2 : int
        The rows and columns of the matrices.

    Returns
    -------
    Tensor
        Without these two axes, the diagonal last; a view.

    Raises
    ------
    ShapeError, IndexingError
        For fewer than two axes, and for axes that are not there or the same.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.diagonal(tg.Tensor([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([1., 4.])
    """
    return diagonal_of(x, offset=offset, **_plane("diagonal", x, axis1, axis2))


@primitive("np.trace({x}, {offset}, {axis1}, {axis2})", name="trace")
def trace_of(x, *, offset, axis1, axis2):
    return np.trace(x, offset, axis1, axis2)


trace_of.vjp(
    x=lambda g, x, offset, axis1, axis2: place_diagonal(
        np.expand_dims(g, -1), shape=x.shape, offset=offset, axis1=axis1, axis2=axis2))  # fmt: skip


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of a diagonal of each matrix: ``y = sum_i x_ii``; ``dx = g I``.

    Parameters
    ----------
    x : array_like
        At least two axes.
    offset, axis1, axis2 : int
        As in `diagonal`.

    Returns
    -------
    Tensor
        Without these two axes.

    Raises
    ------
    ShapeError, IndexingError
        As `diagonal`.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.trace(tg.Tensor([[1.0, 2.0], [3.0, 4.0]])).item()
    5.0
    """
    return trace_of(x, offset=offset, **_plane("trace", x, axis1, axis2))


def diag(x: Any, k: int = 0) -> Tensor:
    """A vector as the diagonal of a matrix, or the diagonal of a matrix as a vector.

    Parameters
    ----------
    x : array_like, (n,) or (n, m)
    k : int
        How far above the main diagonal; negative below.

    Returns
    -------
    Tensor, (n + abs(k), n + abs(k)) or (length of the diagonal,)

    Raises
    ------
    ShapeError
        For another number of axes.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.diag(tg.Tensor([1.0, 2.0]))
    Tensor([[1., 0.],
            [0., 2.]])
    """
    x = x if type(x) is Tensor else np.asarray(x)
    if x.ndim == 1:
        return place_diagonal(x, shape=(x.size + abs(k),) * 2, offset=k, axis1=0, axis2=1)
    if x.ndim == 2:
        return diagonal_of(x, offset=k, axis1=0, axis2=1)
    raise ShapeError(message("diag", "one or two axes", f"{x.ndim}", "See diagonal for stacks."))


@primitive("np.tril({x}, {k})", name="tril")
def lower_triangle(x, *, k):
    return np.tril(x, k)


@primitive("np.triu({x}, {k})", name="triu")
def upper_triangle(x, *, k):
    return np.triu(x, k)


lower_triangle.vjp(x=lambda g, k: lower_triangle(g, k=k))
upper_triangle.vjp(x=lambda g, k: upper_triangle(g, k=k))


def tril(x: Any, k: int = 0) -> Tensor:
    """Each matrix with zeros above its ``k``-th diagonal.

    Parameters
    ----------
    x : array_like, (..., n, m)
    k : int
        The highest diagonal that is kept.

    Returns
    -------
    Tensor, (..., n, m)

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.tril(tg.Tensor(np.ones((2, 2))))
    Tensor([[1., 0.],
            [1., 1.]])
    """
    _plane("tril", x, -2, -1)
    return lower_triangle(x, k=k)


def triu(x: Any, k: int = 0) -> Tensor:
    """Each matrix with zeros below its ``k``-th diagonal.

    Parameters
    ----------
    x : array_like, (..., n, m)
    k : int
        The lowest diagonal that is kept.

    Returns
    -------
    Tensor, (..., n, m)

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.triu(tg.Tensor(np.ones((2, 2))), 1)
    Tensor([[0., 1.],
            [0., 0.]])
    """
    _plane("triu", x, -2, -1)
    return upper_triangle(x, k=k)


# --------------------------------------------------------------------------------------------------
# Labels as rows
# --------------------------------------------------------------------------------------------------


@primitive("onehot({t}, {classes})", name="one_hot")
def one_hot_rows(t, *, classes, dtype):
    rows = np.zeros((t.size, classes), dtype)
    rows[np.arange(t.size), t.reshape(-1)] = 1
    return rows.reshape((*t.shape, classes))


def one_hot(labels: Any, num_classes: int | None = None, dtype: Any = np.float64) -> Any:
    """Labels as rows of the identity: ``y[..., k] = 1 if labels[...] == k else 0``.

    Parameters
    ----------
    labels : array_like of int, any shape
        In ``0 ... num_classes - 1``.
    num_classes : int, optional
        K; by default the largest label plus 1.
    dtype : dtype

    Returns
    -------
    ndarray, labels.shape + (K,)
        A Tensor, which needs no gradient, for a Tensor.

    Raises
    ------
    DtypeError
        For labels that are not integers.
    IndexingError
        For a label out of range; its position is named.
    ArgumentError
        For no labels at all without ``num_classes``.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.one_hot([0, 2, 1])
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 1., 0.]])
    """
    t = np.asarray(plain(labels))
    if t.size == 0:
        if num_classes is None:
            raise ArgumentError(message("one_hot", "labels, or num_classes for none", f"{t.shape}"))
        t = t.astype(int)
    if t.dtype.kind not in "iu":
        raise DtypeError(
            message("one_hot", "integer labels", f"dtype {t.dtype}", "Use labels.astype(int).")
        )
    classes = int(t.max()) + 1 if num_classes is None else num_classes
    outside = (t < 0) | (t >= classes)
    if outside.any():
        first = tuple(np.argwhere(outside)[0].tolist())
        raise IndexingError(
            message("one_hot", f"labels in 0 .. {classes - 1}",
                    f"{t[first]} at index {', '.join(map(str, first))}",
                    "Number the classes from 0, or raise num_classes.")
        )  # fmt: skip
    if num_classes is None:
        told(
            "refuse", "one_hot counts the classes of the labels that it is given: give num_classes."
        )
    told("checked", t, classes)
    given = labels if type(labels) is Tensor else t
    return one_hot_rows(given, classes=classes, dtype=np.dtype(dtype))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------

samples(
    getitem,
    lambda r: [
        case(r(4, 3), 1),
        case(r(4, 3), -1),
        case(r(4, 3), slice(1, None, 2)),
        case(r(4, 3), (slice(None), 2)),
        case(r(4, 3), (Ellipsis, None, slice(None, None, -1))),
        case(r(4, 3), [0, 0, 2]),
        case(r(4, 3), (np.array([0, 1, 1]), np.array([2, 0, 0]))),
        case(r(4, 3), (slice(None), np.array([[0, 1], [2, 2]]))),
        case(r(4, 3), r.data(4, 3) > 0),
        case(r(3), np.array([True, False, True])),
        case(r(4, 3), ()),
        case(r(4, 3), slice(2, 2)),
        case(r(4), []),
        case(r(4, 3, 2), (np.array([-1, 0, -1]), 2)),
        case(r(4, 3, 2), (np.array([[1], [1]]), np.array([0, -3]))),
        case(r(4, 3), (slice(1, 3), np.array([0, 0, -1]))),
        case(r(4, 3), (None, np.array([0, 0]), Ellipsis)),
        case(r(4, 3), (r.data(4) > 0, np.array([1]))),
        case(r(0, 3), np.zeros(0, int)),
    ],
    reference=lambda x, index: x[index],
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), 2), IndexingError, "index=2"),
        (case(Tensor(np.ones((2, 3))), (0, 0, 0)), IndexingError, "getitem"),
        (case(Tensor(np.ones(3)), np.array([0.5])), DtypeError, "integers or booleans"),
    ],
)
scatter_add.samples(
    lambda r: [
        case(r(3, 2), index=np.array([0, 0, 1]), shape=(4, 2)),
        case(r(2), index=(slice(None), 1), shape=(2, 3)),
    ]
)
samples(
    take,
    lambda r: [
        case(r(4, 3), [0, 0, -1], axis=0),
        case(r(4, 3), [[0, 2], [2, 2]], axis=-1),
        case(r(4, 3), 1, axis=1),
        case(r(4, 3), [0, 11, 0]),
        case(r(4, 3), np.zeros(0, int), axis=0),
        case(r(2, 3, 2), np.array([2, 2], np.uint8), axis=1),
    ],
    reference=np.take,
    fails=lambda: [
        (
            case(Tensor(np.ones((4, 3))), [4], axis=0),
            IndexingError,
            "take: cannot take x of shape (4, 3)",
        ),
        (
            case(Tensor(np.ones((4, 3))), [0], axis=2),
            IndexingError,
            "take: expected an axis in [-2, 2)",
        ),
        (case(Tensor(np.ones(3)), [0.5], axis=0), DtypeError, ".astype(int)"),
        (case(Tensor(np.ones(2)), [True, False], axis=0), DtypeError, "x[mask]"),
    ],
)
samples(
    take_along_axis,
    lambda r: [
        case(r(3, 4), r.integers(4, 3, 2)),
        case(r(3, 4), r.integers(3, 5, 4), axis=0),
        case(r(3, 4), np.array([[-1, -1]])),
        case(r(1, 4), r.integers(4, 3, 2)),
        case(r(3, 4), np.array([0, 11, 0]), axis=None),
        case(r(2, 3, 2), r.integers(3, 2, 1, 2), axis=-2),
    ],
    reference=lambda x, indices, axis=-1: np.take_along_axis(x, indices, axis),
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), [[3], [0]]), IndexingError, "take_along_axis: cannot take"),
        (case(Tensor(np.ones((2, 3))), [0, 1]), ShapeError, "2 axes, as many as x, got 1"),
        (case(Tensor(np.ones((2, 3))), [[0.0]]), DtypeError, "integer indices"),
    ],
)


def _matrices(r: Any) -> list[Any]:
    return [
        case(r(3, 3)), case(r(2, 4)), case(r(4, 2), 1), case(r(3, 4), -1), case(r(2, 3), 7),
        case(r(2, 3, 4), 1, 2, 0), case(r(2, 3, 3), 0, -2, -1), case(r(0, 3)),
    ]  # fmt: skip


_no_plane = lambda: [
    (case(Tensor(np.ones(3))), ShapeError, "at least two axes"),
    (case(Tensor(np.ones((3, 3))), 0, 1, -1), IndexingError, "two different axes"),
]

samples(diagonal, _matrices, reference=np.diagonal, fails=_no_plane)
samples(trace, _matrices, reference=np.trace, fails=_no_plane)
samples(
    diag,
    lambda r: [case(r(3)), case(r(2), -1), case(r(2), 2), case(r(3, 3)), case(r(2, 3), 1)],
    reference=np.diag,
    fails=lambda: [(case(Tensor(np.ones((1, 1, 1)))), ShapeError, "See diagonal")],
)
for triangle, reference in ((tril, np.tril), (triu, np.triu)):
    samples(
        triangle,
        lambda r: [case(r(3, 3)), case(r(2, 4), 1), case(r(4, 2), -1), case(r(2, 3, 3))],
        reference=reference,
        fails=lambda: [(case(Tensor(np.ones(3))), ShapeError, "at least two axes")],
    )
samples(
    one_hot,
    lambda r: [
        case(r.integers(3, 4), 3),
        case(np.array([[0, 1], [2, 0]]), dtype=np.float32),
        case(np.array(1, np.uint8), 3),
        case([], 3),
    ],
    reference=lambda t, k=None, dtype=float: np.eye(k or np.max(t) + 1, dtype=dtype)[
        np.asarray(t, int)
    ],
    fails=lambda: [
        (case([0, 3], 3), IndexingError, "labels in 0 .. 2, got 3 at index 1"),
        (case([[0], [-1]]), IndexingError, "-1 at index 1, 0"),
        (case([0.0, 1.0]), DtypeError, "integer labels"),
        (case([]), ArgumentError, "num_classes"),
    ],
    differentiable=False,
)
