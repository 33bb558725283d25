"""An array as a few short lines of text, and as a histogram."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_ROWS, MOST_COLUMNS = 4, 4  # of an array that is written out in full
DIGITS_OF_A_NUMBER, DIGITS_IN_ARRAYS = 4, 3
BINS = 16


class Summary(NamedTuple):
    """What a picture says about an array.

    Attributes
    ----------
    lines : tuple of str
        The number, the rows of a small array, or minimum, mean and maximum.
    histogram : tuple of int
        Counts of the finite elements between minimum and maximum; empty for a small array.
    finite : bool
        Whether there is neither a NaN nor an infinity.
    """

    lines: tuple[str, ...]
    histogram: tuple[int, ...] = ()
    finite: bool = True


def summary(array: Any) -> Summary:
    """The number itself, a small array itself, else its extent and distribution."""
    array = np.asarray(array)
    finite = bool(np.isfinite(array).all())
    if array.ndim == 0:
        return Summary((number(array[()]),), finite=finite)
    if array.size == 0:
        return Summary(("empty",))
    rows, columns = (1, *array.shape)[-2:]
    if array.ndim <= 2 and rows <= MOST_ROWS and columns <= MOST_COLUMNS:
        return Summary(_rows(array), finite=finite)
    if array.dtype.kind == "b":
        return Summary((f"{np.count_nonzero(array)} of {array.size} true",))
    return _distribution(array, finite)


def number(value: Any, digits: int = DIGITS_OF_A_NUMBER) -> str:
    """A number to some significant digits; integers and booleans in full."""
    return str(value) if np.asarray(value).dtype.kind in "iub" else f"{value:.{digits}g}"


def _rows(array: NDArray[Any]) -> tuple[str, ...]:
    """The rows of a small array, one line each, with the columns aligned."""
    texts = [[number(x, DIGITS_IN_ARRAYS) for x in row] for row in np.atleast_2d(array)]
    width = max(len(text) for row in texts for text in row)
    return tuple("  ".join(text.rjust(width) for text in row) for row in texts)


def _distribution(array: NDArray[Any], finite: bool) -> Summary:
    what = ""
    if array.dtype.kind == "c":
        array, what = np.abs(array), "|.| "
    shown = array if finite else array[np.isfinite(array)]
    lines = [] if finite else [f"{array.size - shown.size} of {array.size} not finite"]
    if not shown.size:
        return Summary(tuple(lines), finite=False)
    shown = shown.astype(np.float64, copy=False)
    low, mean, high = (number(f(shown), DIGITS_IN_ARRAYS) for f in (np.min, np.mean, np.max))
    if low != high:
        lines.append(f"{what}{low} … {high}  mean {mean}")
    else:
        lines.append(f"{what}all {'' if np.ptp(shown) == 0 else 'near '}{low}")
    return Summary(tuple(lines), _histogram(shown), finite)


def _histogram(values: NDArray[np.float64]) -> tuple[int, ...]:
    low, high = values.min(), values.max()
    with np.errstate(invalid="ignore", divide="ignore"):
        # Scaled first: the difference of the extremes may overflow, or be too small for BINS edges.
        place = (values / 2 - low / 2) / (high / 2 - low / 2)
    if low == high or not np.isfinite(place).all():
        return ()
    bins = np.minimum((place * BINS).astype(np.intp), BINS - 1)
    return tuple(np.bincount(bins.ravel(), minlength=BINS).tolist())
