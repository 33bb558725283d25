"""Translations of what moves elements and does not compute: shapes, indices, order."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import inplace
from ..ops import embedding, index, rearrange, shape, sort
from .graph import LAST, Value
from .recording import Length
from .translation import Result, translates

# --------------------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------------------


@translates(shape.reshape_to)
def reshape(y: Result, x: Value, *, shape: Any) -> Value:
    return reshaped(y, x, y.shape)


def reshaped(y: Result, x: Value, lengths: tuple[Length, ...]) -> Value:
    """The elements of x in another shape; a single length of the batch is left to ONNX to find."""
    open_axes = [axis for axis, n in enumerate(lengths) if not isinstance(n, int)]
    if len(open_axes) == 1 and 0 not in lengths:
        found = [-1 if axis in open_axes else n for axis, n in enumerate(lengths)]
        return y.op("Reshape", x, y.graph.lengths(found))
    return y.op("Reshape", x, y.graph.lengths(lengths), allowzero=1 if 0 in lengths else None)


@translates(shape.flatten)
def flatten(y: Result, x: Value) -> Value:
    return y.op("Reshape", x, y.integers(-1))


@translates(shape.permute)
def transpose(y: Result, x: Value, *, axes: Any) -> Value:
    return y.op("Transpose", x, perm=axes) if axes else x


@translates(shape.reverse)
def flip(y: Result, x: Value, *, axis: tuple[int, ...]) -> Value:
    n = len(axis)
    ends = [y.integers(*[end] * n) for end in (LAST, -LAST)]
    return y.op("Slice", x, *ends, y.integers(*axis), y.integers(*[-1] * n)) if n else x


@translates(shape.squeeze_axes)
def squeeze(y: Result, x: Value, *, axis: Any) -> Value:
    return y.op("Squeeze", x, y.integers(*axis)) if axis else x


@translates(shape.expand_axes)
def expand_dims(y: Result, x: Value, *, axis: Any) -> Value:
    return y.op("Unsqueeze", x, y.integers(*np.atleast_1d(axis).tolist()))


@translates(shape.stretch)
def broadcast_to(y: Result, x: Value, *, shape: Any) -> Value:
    return y.op("Expand", x, y.graph.lengths(y.shape))


@translates(shape.join)
def concatenate(y: Result, *xs: Value, axis: int) -> Value:
    return y.op("Concat", *xs, axis=axis)


@translates(shape.pile)
def stack(y: Result, *xs: Value, axis: int) -> Value:
    return y.op("Concat", *[y.op("Unsqueeze", x, y.integers(axis)) for x in xs], axis=axis)


# --------------------------------------------------------------------------------------------------
# Indices
# --------------------------------------------------------------------------------------------------


@translates(index.read)
def getitem(y: Result, x: Value, *, index: Any) -> Value:
    parts = _whole(index, len(y.shapes[0]))
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if arrays:
        return _by_arrays(y, x, parts)
    read = [part for part in parts if part is not None]
    x = _sliced(y, x, read)
    for axis in reversed(range(len(read))):
        if not isinstance(read[axis], slice):
            x = y.op("Gather", x, y.graph.number(read[axis]), axis=axis)
    kept = [part for part in parts if part is None or isinstance(part, slice)]
    new = [axis for axis, part in enumerate(kept) if part is None]
    return y.op("Unsqueeze", x, y.integers(*new)) if new else x


def _whole(index: Any, ndim: int) -> list[Any]:
    """One part for each axis, and None for new ones; booleans as the numbers of what is true."""
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, np.ndarray) and part.dtype == bool:
            parts += part.nonzero()
        else:
            parts.append(part)
    read = len([part for part in parts if part is not None and part is not Ellipsis])
    rest = [slice(None)] * (ndim - read)
    at = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    return [*parts, *rest] if at is None else [*parts[:at], *rest, *parts[at + 1 :]]


def _sliced(y: Result, x: Value, parts: list[Any]) -> Value:
    """Those slices that leave something out."""
    cut = [(axis, part) for axis, part in enumerate(parts) if _cuts(part)]
    if not cut:
        return x
    steps = [1 if part.step is None else part.step for _, part in cut]
    starts = [
        part.start if part.start is not None else (0 if step > 0 else LAST)
        for (_, part), step in zip(cut, steps)
    ]
    stops = [
        part.stop if part.stop is not None else (LAST if step > 0 else -LAST)
        for (_, part), step in zip(cut, steps)
    ]
    axes = y.integers(*[axis for axis, _ in cut])
    ends = y.graph.lengths(starts), y.graph.lengths(stops)
    return y.op("Slice", x, *ends, axes, y.integers(*steps))


def _cuts(part: Any) -> bool:
    return (
        isinstance(part, slice) and (part.start or part.stop is not None or part.step) is not None
    )


def _by_arrays(y: Result, x: Value, parts: list[Any]) -> Value:
    """An index with arrays: one along any axis, or several along the first ones."""
    read = [part for part in parts if part is not None]
    picked = [axis for axis, part in enumerate(read) if not isinstance(part, slice)]
    x = _sliced(y, x, read)
    if len(picked) == 1:
        places = np.asarray(read[picked[0]], np.int64)
        x = y.op("Gather", x, places, axis=picked[0])
        lengths = [places.ndim if isinstance(part, np.ndarray) else 1 for part in parts]
        starts = np.cumsum([0, *lengths])
        new = [int(at) for at, part in zip(starts, parts) if part is None]
        return y.op("Unsqueeze", x, y.integers(*new)) if new else x
    if picked != list(range(len(picked))) or len(read) < len(parts):
        raise y.unsupported("with arrays along several axes that are not the first")
    places = np.stack(np.broadcast_arrays(*[read[axis] for axis in picked]), axis=-1)
    return y.op("GatherND", x, places.astype(np.int64))


@translates(index.take_at)
def take(y: Result, x: Value, *, indices: Any, axis: int) -> Value:
    return y.op("Gather", x, np.asarray(indices, np.int64), axis=axis)


@translates(index.take_each)
def take_along_axis(y: Result, x: Value, *, indices: Any, axis: int) -> Value:
    return _gathered(y, x, y.graph.constant(np.asarray(indices, np.int64)), axis)


@translates(sort.permuted, mixed=True)
def permuted(y: Result, x: Value, order: Value, *, axis: int) -> Value:
    return _gathered(y, x, order.cast(np.int64), axis)


def _gathered(y: Result, x: Value, order: Value, axis: int) -> Value:
    """Elements along an axis; GatherElements does not broadcast, so the indices are spread first."""
    lengths = [*y.shapes[0]]
    lengths[axis] = y.shape[axis]
    if y.shape != tuple(lengths):
        raise y.unsupported("of an array that the indices stretch")
    return y.op("GatherElements", x, y.op("Expand", order, y.graph.lengths(lengths)), axis=axis)


@translates(embedding.gather_rows, mixed=True)
def gather_rows(y: Result, W: Value, ids: Value) -> Value:
    wide = ids.dtype in (np.int32, np.int64)
    return y.op("Gather", W, ids if wide else ids.cast(np.int64), axis=0)


@translates(index.one_hot_rows, mixed=True)
def one_hot(y: Result, t: Value, *, classes: int, dtype: Any) -> Value:
    values = y.graph.constant(np.array([0, 1], y.dtype))
    depth = y.graph.constant(np.int64(classes))
    return y.op("OneHot", t.cast(np.int64), depth, values, axis=-1, dtype=y.dtype)


@translates(index.lower_triangle)
def tril(y: Result, x: Value, *, k: int) -> Value:
    return y.op("Trilu", x, y.graph.constant(np.int64(k)), upper=0)


@translates(index.upper_triangle)
def triu(y: Result, x: Value, *, k: int) -> Value:
    return y.op("Trilu", x, y.graph.constant(np.int64(k)), upper=1)


@translates(index.diagonal_of)
def diagonal(y: Result, x: Value, *, offset: int, axis1: int, axis2: int) -> Value:
    """The last axis of the result, picked out of both axes laid out as one."""
    ndim = len(y.shapes[0])
    axes = axis1 % ndim, axis2 % ndim
    others = [axis for axis in range(ndim) if axis not in axes]
    rows, columns = y.static(0, axes)
    places = np.diagonal(np.arange(rows * columns).reshape(rows, columns), offset)
    flat = y.op("Transpose", x, perm=[*others, *axes])
    lengths = (*[y.shapes[0][axis] for axis in others], rows * columns)
    return y.op("Gather", reshaped(y, flat, lengths), places.astype(np.int64), axis=len(others))


@translates(index.trace_of)
def trace(y: Result, x: Value, *, offset: int, axis1: int, axis2: int) -> Value:
    values = diagonal(y, x, offset=offset, axis1=axis1, axis2=axis2)
    return y.op("ReduceSum", values, y.integers(-1), keepdims=0)


@translates(inplace.write)
def write(y: Result, x: Value, value: Value, *, index: Any) -> Value:
    """``x[index] = value``: the elements as one axis (for each row of a batch), some replaced."""
    parts = _whole(index, len(y.shape))
    if any([isinstance(part, np.ndarray) for part in parts]):
        raise y.unsupported("with an array as index")
    of_batch = not isinstance(y.shape[0], int)
    rows = y.shape[:1] if of_batch else ()
    if of_batch and parts[0] != slice(None):
        raise y.unsupported("into some rows of the batch")
    lengths = y.static(0, range(len(rows), len(y.shape)))
    places = np.arange(int(np.prod(lengths))).reshape(lengths)[tuple(parts[len(rows) :])]
    wanted = (*rows, *places.shape)
    flat = y.op("Reshape", x, y.integers(*[0] * len(rows), -1))
    at = y.graph.constant(places.reshape(-1).astype(np.int64))
    at = y.op("Expand", at, y.graph.lengths((*rows, places.size)))
    value = y.op("Expand", value, y.graph.lengths(wanted))
    value = reshaped(y, value, (*rows, places.size))
    changed = y.op("ScatterElements", flat, at, value, axis=len(rows))
    return reshaped(y, changed, y.shape)


# --------------------------------------------------------------------------------------------------
# Copies and order
# --------------------------------------------------------------------------------------------------


@translates(rearrange.shift_along)
def roll(y: Result, x: Value, *, shift: Any, axis: Any) -> Value:
    for distance, along in zip(np.atleast_1d(shift).tolist(), np.atleast_1d(axis).tolist()):
        (n,) = y.static(0, [along])
        distance = distance % n if n else 0
        if distance:
            ends = y.integers(n - distance), y.integers(LAST), y.integers(along)
            start = y.integers(0), y.integers(n - distance), y.integers(along)
            x = y.op("Concat", y.op("Slice", x, *ends), y.op("Slice", x, *start), axis=along)
    return x


@translates(rearrange.lay)
def tile(y: Result, x: Value, *, reps: Any) -> Value:
    return y.op("Tile", x, y.integers(*reps))


@translates(rearrange.repeat_each)
def repeat(y: Result, x: Value, *, repeats: Any, axis: int) -> Value:
    length = y.shapes[0][axis]
    if isinstance(length, int):
        places = np.repeat(np.arange(length), repeats)
        return y.op("Gather", x, places.astype(np.int64), axis=axis)
    if np.ndim(repeats):
        raise y.unsupported("by numbers for each row of the batch")
    copies = [1] * (len(y.shape) + 1)
    copies[axis + 1] = int(repeats)
    rows = y.op("Unsqueeze", x, y.integers(axis + 1))
    return reshaped(y, y.op("Tile", rows, y.integers(*copies)), y.shape)


@translates(rearrange.pad_with_number)
def pad_with_number(y: Result, x: Value, *, widths: Any, value: Any) -> Value:
    if np.ndim(value):
        raise y.unsupported("with other values on each side")
    return y.op("Pad", x, y.integers(*_ends(widths)), np.asarray(value, y.dtype))


@translates(rearrange.pad_with_copies)
def pad_with_copies(y: Result, x: Value, *, widths: Any, mode: str) -> Value:
    if mode not in ("reflect", "edge", "wrap"):
        raise y.unsupported(f"with mode={mode!r}")
    padded = [axis for axis, pair in enumerate(widths) if any(pair)]
    room = [n - (mode == "reflect") for n in y.static(0, padded)]
    if mode != "edge" and any([max(widths[axis]) > n for axis, n in zip(padded, room)]):
        raise y.unsupported("by more than there is to copy")
    return y.op("Pad", x, y.integers(*_ends(widths)), mode=mode)


def _ends(widths: Any) -> list[int]:
    """The widths before all axes, then those after."""
    return [*[before for before, _ in widths], *[after for _, after in widths]]


@translates(sort.argsort_along, mixed=True)
def argsort(y: Result, x: Value, *, axis: int) -> Value:
    length = y.graph.lengths([y.shapes[0][axis]])
    order = y.graph.ops(
        "TopK", 2, x, length, dtypes=[x.dtype, np.int64], axis=axis, largest=0, sorted=1
    )
    return order[1]
