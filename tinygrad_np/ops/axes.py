"""What every reduction and shape operation does with ``axis=``."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import DtypeError, IndexingError, message


def canonical_axis(name: str, axis: Any, ndim: int) -> int:
    """One axis, counted from the front."""
    try:
        axis = operator.index(axis)
    except TypeError:
        raise DtypeError(message(name, "axis to be an int", f"{axis!r}")) from None
    if not -ndim <= axis < ndim:
        raise IndexingError(message(name, f"an axis in [{-ndim}, {ndim})", str(axis)))
    return axis % ndim


def canonical_axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes counted from the front, in ascending order; all of them for None."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, Iterable):
        axis = (axis,)
    axes = [canonical_axis(name, a, ndim) for a in axis]
    if len(set(axes)) != len(axes):
        raise IndexingError(message(name, "each axis once", f"axis={tuple(axis)}"))
    return tuple(sorted(axes))


def axis_text(axis: tuple[int, ...], keepdims: bool = False, ndim: int | None = None) -> str:
    """The ``axis=`` and ``keepdims=`` arguments as one would type them."""
    parts = []
    if ndim is None or axis != tuple(range(ndim)):
        parts.append(f"axis={axis[0] if len(axis) == 1 else axis}")
    if keepdims:
        parts.append("keepdims=True")
    return ", ".join(parts)


def kept(g: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """A reduced array with its reduced axes put back as 1, so that it broadcasts."""
    return g if keepdims else np.expand_dims(g, axis)
