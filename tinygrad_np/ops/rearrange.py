"""Elements shifted, repeated, and continued beyond the edges; the VJP adds up the copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import ArgumentError, DtypeError, IndexingError, ShapeError, message
from .axes import canonical_axis
from .index import scatter_add, take
from .shape import ravel, reshape

# --------------------------------------------------------------------------------------------------
# Shifted
# --------------------------------------------------------------------------------------------------


@primitive("np.roll({x}, {shift}, axis={axis})", name="roll")
def shift_along(x, *, shift, axis):
    return np.roll(x, shift, axis)


shift_along.vjp(
    x=lambda g, shift, axis: shift_along(g, shift=tuple([-n for n in shift]), axis=axis)
)


def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Move elements on along axes; what leaves at the end comes back at the start.

    Parameters
    ----------
    x : array_like
    shift : int or tuple of int
        The number of places, also negative.
    axis : int, tuple of int or None
        One for each shift; None rolls the flattened array.

    Returns
    -------
    Tensor
        Of the same shape.

    Raises
    ------
    IndexingError, ShapeError
        For an axis that is not there, and for shifts and axes that do not pair.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.roll(tg.Tensor([1.0, 2.0, 3.0]), 1)
    Tensor([3., 1., 2.])
    """
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), np.shape(plain(x)))
    try:
        shifts, axes = np.broadcast_arrays(np.atleast_1d(shift), np.atleast_1d(axis))
    except ValueError as error:
        raise ShapeError(
            message("roll", "one shift for each axis", f"shift={shift}, axis={axis}")
        ) from error
    ndim = np.ndim(plain(x))
    return shift_along(
        x, shift=tuple(shifts.tolist()), axis=tuple([canonical_axis("roll", a, ndim) for a in axes])
    )


# --------------------------------------------------------------------------------------------------
# Repeated
# --------------------------------------------------------------------------------------------------


@primitive("np.tile({x}, {reps})", name="tile")
def lay(x, *, reps):
    return np.tile(x, reps)


def _over_tiles(g: Any, x: Any, reps: tuple[int, ...]) -> Any:
    """The sum over the tiles: each axis is split into (tile, place within the tile)."""
    lengths = [n for pair in zip(reps, x.shape) for n in pair]
    return np.sum(np.reshape(g, tuple(lengths)), axis=tuple(range(0, 2 * len(reps), 2)))


lay.vjp(x=_over_tiles)


def tile(x: Any, reps: Any) -> Tensor:
    """The whole array repeated along each axis, like tiles; each element gets the sum of ``g``.

    Parameters
    ----------
    x : array_like
    reps : int or tuple of int
        The number of copies along each of the last axes, or along new leading ones.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For a negative number of copies.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.tile(tg.Tensor([1.0, 2.0]), 2)
    Tensor([1., 2., 1., 2.])
    """
    reps = tuple(reps) if isinstance(reps, Sequence | np.ndarray) else (reps,)
    if any(n < 0 for n in reps):
        raise ShapeError(message("tile", "numbers of copies that are not negative", f"{reps}"))
    shape = np.shape(plain(x))
    if len(reps) > len(shape):
        x = reshape(x, (1,) * (len(reps) - len(shape)) + shape)
    return lay(x, reps=(1,) * (len(shape) - len(reps)) + reps)


@primitive("np.repeat({x}, {repeats}, axis={axis})", name="repeat")
def repeat_each(x, *, repeats, axis):
    return np.repeat(x, repeats, axis)


def _over_copies(g: Any, x: Any, repeats: int, axis: int) -> Any:
    """The sum over the copies of each element, which lie side by side."""
    return np.sum(
        np.reshape(g, (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])), axis=axis + 1
    )


repeat_each.vjp(x=_over_copies)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element several times in a row; it gets the sum of ``g`` over its copies.

    Parameters
    ----------
    x : array_like
    repeats : int or sequence of int
        The number of copies of each, or one for each position along the axis.
    axis : int or None
        None repeats the flattened array.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError, IndexingError
        For numbers that are negative, or not as many as the axis is long; for an axis that is not
        there.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> y = tg.repeat(x, [2, 1])
    >>> y.sum().backward()
    >>> y.data, x.grad
    (array([1., 1., 2.]), array([2., 1.]))
    """
    if axis is None:
        x, axis = ravel(x), 0
    shape = np.shape(plain(x))
    axis = canonical_axis("repeat", axis, len(shape))
    counts = np.asarray(plain(repeats))
    if counts.dtype.kind not in "iu":
        raise DtypeError(message("repeat", "integer repeats", f"dtype {counts.dtype}"))
    if (counts < 0).any() or counts.shape not in ((), (1,), (shape[axis],)):
        raise ShapeError(
            message("repeat", "one number of copies, or one for each of the "
                    f"{shape[axis]} positions along the axis, none negative", f"{repeats}")
        )  # fmt: skip
    if counts.size == 1:
        return repeat_each(x, repeats=int(counts.item()), axis=axis)
    return take(x, np.repeat(np.arange(shape[axis]), counts), axis)


# --------------------------------------------------------------------------------------------------
# Continued beyond the edges
# --------------------------------------------------------------------------------------------------


@primitive("np.pad({x}, {widths}, constant_values={value})", name="pad")
def pad_with_number(x, *, widths, value):
    return np.pad(x, widths, constant_values=value)


pad_with_number.vjp(
    x=lambda g, widths: g[tuple([slice(a, n - b) for (a, b), n in zip(widths, g.shape)])]
)


@primitive("np.pad({x}, {widths}, mode={mode!r})", name="pad")
def pad_with_copies(x, *, widths, mode):
    return np.pad(x, widths, mode=mode)


@primitive
def fold_edges(g, *, widths, mode):
    """The adjoint of padding: what lies beyond the edges is added to what it is a copy of."""
    for axis, (before, after) in enumerate(widths):
        n = g.shape[axis] - before - after
        sources = np.pad(np.arange(n), (before, after), mode=mode)
        shape = (*g.shape[:axis], n, *g.shape[axis + 1 :])
        g = scatter_add(g, index=(*(slice(None),) * axis, sources), shape=shape)
    return g


pad_with_copies.vjp(x=lambda g, widths, mode: fold_edges(g, widths=widths, mode=mode))
fold_edges.vjp(g=lambda g, widths, mode: pad_with_copies(g, widths=widths, mode=mode))

COPYING = ("edge", "reflect", "symmetric", "wrap")


def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    """Continue an array beyond its edges, with a number or with copies of its elements.

    Parameters
    ----------
    x : array_like
    pad_width : int, (int, int) or sequence of (int, int)
        How far before and after: for all axes, or for each.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}
        As in NumPy: with a number; with the outermost elements; mirrored at them
        (``c b | a b c | b a``) or beyond them (``b a | a b c | c b``); with the other end.
    constant_values : float or sequence
        What "constant" pads with, in the forms of ``pad_width``; a constant.

    Returns
    -------
    Tensor

    Raises
    ------
    ArgumentError, ShapeError, DtypeError
        For another mode, and for widths that are negative, not integers or too many.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> tg.pad(x, 1, mode="edge").sum().backward()
    >>> x.grad
    array([2., 1., 2.])
    """
    widths = _widths(pad_width, np.ndim(plain(x)))
    if mode in COPYING:
        return pad_with_copies(x, widths=widths, mode=mode)
    if mode != "constant":
        raise ArgumentError(
            message("pad", f"mode among constant, {', '.join(COPYING)}", repr(mode))
        )
    if type(constant_values) is Tensor and constant_values.requires_grad:
        raise DtypeError(
            message("pad", "constant_values that need no gradient", "requires_grad=True",
                    "Write np.where(mask, padded, value).")
        )  # fmt: skip
    return pad_with_number(x, widths=widths, value=plain(constant_values))


def _widths(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """How far to pad each axis, before and after."""
    given = np.asarray(pad_width)
    if ndim == 0:
        raise ShapeError(message("pad", "at least one axis", "a scalar"))
    if given.dtype.kind not in "iu":
        raise DtypeError(message("pad", "integer widths", f"{pad_width!r:.40}"))
    try:
        pairs = np.broadcast_to(given, (ndim, 2)).tolist()
    except ValueError as error:
        raise ShapeError(
            message(
                "pad", f"one width, a pair, or a pair for each of the {ndim} axes", f"{pad_width}"
            )
        ) from error
    if given.size and given.min() < 0:
        raise ShapeError(message("pad", "widths that are not negative", f"{pad_width}"))
    return tuple([(before, after) for before, after in pairs])


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------

samples(
    roll,
    lambda r: [
        case(r(2, 3), 1),
        case(r(2, 3), -2, 1),
        case(r(2, 3), (1, -1), (0, -1)),
        case(r(2, 3), 1, (0, 1)),
        case(r(4), (1, 2), 0),
        case(r(0, 3), 1, 0),
        case(r(), 1),
    ],
    reference=np.roll,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), 1, 2), IndexingError, "roll: expected an axis in [-2, 2)"),
        (case(Tensor(np.ones((2, 3))), (1, 2, 3), (0, 1)), ShapeError, "one shift for each axis"),
    ],
)
samples(
    tile,
    lambda r: [
        case(r(2, 3), 2),
        case(r(2, 3), (2, 1)),
        case(r(3), (2, 2, 2)),
        case(r(2, 3), (2, 1, 3)),
        case(r(), 3),
        case(r(2, 3), ()),
        case(r(2), 0),
        case(r(2, 1), np.array([3, 2])),
    ],
    reference=np.tile,
    fails=lambda: [(case(Tensor(np.ones(3)), -1), ShapeError, "not negative")],
)
samples(
    repeat,
    lambda r: [
        case(r(2, 3), 2),
        case(r(2, 3), 2, axis=0),
        case(r(2, 3, 2), 3, axis=-2),
        case(r(3), [0, 2, 1]),
        case(r(2, 3), [2, 0, 1], axis=1),
        case(r(2), 0),
        case(r(), 3),
        case(r(3), [2]),
    ],
    reference=np.repeat,
    fails=lambda: [
        (case(Tensor(np.ones(3)), [1, 2]), ShapeError, "each of the 3 positions"),
        (case(Tensor(np.ones(3)), -1), ShapeError, "none negative"),
        (case(Tensor(np.ones(3)), 1.5), DtypeError, "integer repeats"),
        (case(Tensor(np.ones(3)), 2, axis=1), IndexingError, "repeat: expected an axis"),
    ],
)
fold_edges.samples(
    lambda r: [case(r(4, 6), widths=((1, 1), (2, 1)), mode=mode) for mode in COPYING]
)
samples(
    pad,
    lambda r: (
        [
            case(r(2, 3), 1),
            case(r(2, 3), (1, 2)),
            case(r(2, 3), ((1, 0), (0, 2)), constant_values=0.5),
            case(r(3), 1, constant_values=(1.0, 2.0)),
            case(r(0, 2), 1),
            case(r(2, 3), 0),
            case(r(2, 1), 1, "constant"),
        ]
        + [case(r(2, 3), ((1, 0), (2, 1)), mode) for mode in COPYING]
        + [case(r(3), (4, 5), mode) for mode in COPYING]
    ),
    reference=np.pad,
    fails=lambda: [
        (
            case(Tensor(np.ones(3)), 1, "mean"),
            ArgumentError,
            "constant, edge, reflect, symmetric, wrap",
        ),
        (case(Tensor(np.ones(3)), -1), ShapeError, "not negative"),
        (case(Tensor(1.0), 2), ShapeError, "at least one axis"),
        (case(Tensor(np.ones(3)), ((1, 1), (1, 1))), ShapeError, "each of the 1 axes"),
        (case(Tensor(np.ones(3)), 1.5), DtypeError, "integer widths"),
        (case(Tensor(np.ones(0)), 1, "edge"), ShapeError, "pad: cannot take x of shape (0,)"),
        (
            case(Tensor(np.ones(3)), 1, constant_values=Tensor(1.0, requires_grad=True)),
            DtypeError,
            "np.where",
        ),
    ],
)
