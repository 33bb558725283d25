"""An array as a few short lines of text, and as a histogram."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_ROWS, MOST_COLUMNS = 4, 4  # of an array that is written out in full
DIGITS_OF_A_NUMBER, DIGITS_IN_ARRAYS = 4, 3
BINS = 16
SAMPLE = 100  # elements by which two arrays are compared when only their summaries are left


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
    digest : str
        A checksum: two arrays with the same are equal bit for bit.
    norm : float
        The root of the sum of squares.
    sample : tuple of float
        All elements of an array of at most 100, else as many, evenly spread; of complex numbers
        real and imaginary parts.
    """

    lines: tuple[str, ...]
    histogram: tuple[int, ...] = ()
    finite: bool = True
    digest: str = ""
    norm: float = 0.0
    sample: tuple[float, ...] = ()


def summary(array: Any) -> Summary:
    """The number itself, a small array itself, else its extent and distribution."""
    array = np.asarray(array)
    if array.dtype.kind == "O":  # None, where an argument was left out
        return Summary((str(array[()]),))
    return _shown(array)._replace(**_compared(array))


def _compared(array: NDArray[Any]) -> dict[str, Any]:
    """What another array is compared with."""
    flat = np.ascontiguousarray(array).ravel()
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    with np.errstate(all="ignore"):
        norm = np.sqrt(np.sum(np.square(flat, dtype=np.float64)))
    places = np.linspace(0, flat.size - 1, min(flat.size, SAMPLE)).astype(np.intp)
    return {
        "digest": hashlib.blake2b(flat.view(np.uint8).data, digest_size=8).hexdigest(),
        "norm": float(norm),
        "sample": tuple(flat[places].astype(np.float64).tolist()),
    }


def _shown(array: NDArray[Any]) -> Summary:
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
    """A number to some significant digits; integers, booleans and None in full."""
    return str(value) if np.asarray(value).dtype.kind in "iubO" else f"{value:.{digits}g}"


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
