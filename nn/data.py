"""Prepare arrays for training: check, standardise, split, encode and serve in batches."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygrad_np import one_hot
from tinygrad_np.errors import (
    ArgumentError,
    DtypeError,
    NonFiniteError,
    ShapeError,
    message,
)

__all__ = ["Standardizer", "batches", "check_finite", "check_rows", "one_hot", "train_test_split"]

Array = NDArray[Any]
# A string, because naming numpy.random would import it: 15 ms for who may never draw.
Rng: TypeAlias = "np.random.Generator | int | None"


def check_finite(x: ArrayLike, operation: str, name: str = "x", *, allow_inf: bool = False) -> None:
    """Refuse NaN and infinity, naming the first place that holds one.

    Parameters
    ----------
    x : array_like, any shape
        Only floating-point arrays can fail.
    operation, name : str
        What the error calls the operation and its argument.
    allow_inf : bool
        Refuse NaN alone.

    Raises
    ------
    NonFiniteError
        With row and column, counted from 0.

    Examples
    --------
    >>> check_finite([[1.0, 2.0], [3.0, np.nan]], "load")
    Traceback (most recent call last):
    tinygrad_np.errors.NonFiniteError: load: expected finite numbers in x of shape (2, 2), got nan \
at row 1, column 1 (1 such value in all). Remove or replace these values first.
    """
    x = np.asarray(x)
    if _all_finite(x, allow_inf):
        return
    bad = np.isnan(x) if allow_inf else ~np.isfinite(x)
    first = tuple(int(i) for i in np.unravel_index(bad.argmax(), x.shape))
    count = int(np.count_nonzero(bad))
    match first:
        case (row,):
            place = f"row {row}"
        case (row, column):
            place = f"row {row}, column {column}"
        case _:
            place = f"index {first}"
    raise NonFiniteError(
        message(
            operation,
            f"{'numbers' if allow_inf else 'finite numbers'} in {name} of shape {x.shape}",
            f"{x[first]} at {place} ({count} such value{'s' * (count > 1)} in all)",
            "Remove or replace these values first.",
        )
    )


# Numbers that are looked at together: what they give stays in the cache, where that of a whole
# MNIST, 47 MB, took 100 ms.
_TOGETHER: Final = 2**16


def _all_finite(x: Array, allow_inf: bool = False) -> bool:
    if x.dtype.kind not in "fc":
        return True
    rows = max(1, _TOGETHER // max(1, math.prod(x.shape[1:])))
    parts = [x] if x.ndim == 0 else (x[i : i + rows] for i in range(0, len(x), rows))
    if allow_inf:
        return not any(np.isnan(part).any() for part in parts)
    return all(np.isfinite(part).all() for part in parts)


def check_rows(operation: str, **arrays: Array) -> int:
    """Return the number of rows N > 0 that all named arrays ``(N, ...)`` share.

    Raises
    ------
    ShapeError
        For no array, a 0-d array, no rows, or different numbers of rows.

    Examples
    --------
    >>> check_rows("fit", x=np.ones((3, 2)), y=np.ones(3))
    3
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no arrays"
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1:
        expected, fix = "arrays with the same number of rows", "Rows belong together: one a sample."
    elif () in lengths:
        expected, fix = "arrays of shape (N, ...)", "A single number has no rows."
    elif (0,) in lengths:
        expected, fix = "at least one row", "The data is empty: see how it was loaded or filtered."
    else:
        ((n,),) = lengths
        return int(n)
    raise ShapeError(message(operation, expected, listed, fix))


def checksum(arrays: Iterable[Array]) -> int:
    """A number of 32 bits that tells arrays apart, all but surely: the CRC of their bytes.

    Examples
    --------
    >>> checksum([np.ones(3)]) == checksum([np.ones(2), np.ones(1)]) != checksum([np.ones(4)])
    True
    """
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc


class Standardizer:
    """Give every feature mean 0 and standard deviation 1: ``z = (x - mean) / scale``.

    Fit it on the training part alone, and use it on every part. Mean and (population) standard
    deviation are summed in float64; a feature that never varies keeps scale 1, so it becomes 0.

    Attributes
    ----------
    mean, scale : ndarray (features,), float64
        Set by `fit`.

    Raises
    ------
    NonFiniteError
        For NaN or infinity in x, naming row and column.
    ShapeError
        For x that is not ``(N, features)`` with the features of `fit`, or is empty.
    ArgumentError
        For `transform` or `inverse_transform` before `fit`.

    Examples
    --------
    >>> standardizer = Standardizer()
    >>> standardizer.fit_transform(np.array([[1.0, 5.0], [3.0, 5.0]]))
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> standardizer.inverse_transform(np.array([[2.0, 0.0]]))
    array([[4., 5.]])
    """

    mean: Array
    scale: Array

    def fit(self, x: ArrayLike) -> Self:
        """Take mean and standard deviation of each column of x ``(N, features)``."""
        x = _table(x, "Standardizer.fit")
        std = x.std(axis=0, dtype=np.float64)
        # The rounded mean of equal numbers may differ from them, so a constant column is
        # recognised by its range: its std can be 1e-17 where it should be 0.
        varies = (x.max(axis=0) > x.min(axis=0)) & (std > 0)
        self.mean = x.mean(axis=0, dtype=np.float64)
        self.scale = np.where(varies, std, 1.0)
        return self

    def transform(self, x: ArrayLike) -> Array:
        """Return ``(x - mean) / scale`` in the dtype of x (float64 for integers)."""
        x = self._checked(x, "Standardizer.transform")
        z: Array = (x - self.mean.astype(x.dtype)) / self.scale.astype(x.dtype)
        return z

    def fit_transform(self, x: ArrayLike) -> Array:
        """Return ``fit(x).transform(x)``."""
        return self.fit(x).transform(x)

    def inverse_transform(self, z: ArrayLike) -> Array:
        """Return ``z * scale + mean``, back in the original units."""
        z = self._checked(z, "Standardizer.inverse_transform")
        x: Array = z * self.scale.astype(z.dtype) + self.mean.astype(z.dtype)
        return x

    def _checked(self, x: ArrayLike, operation: str) -> Array:
        if not hasattr(self, "mean"):
            raise ArgumentError(
                message(operation, "a fitted Standardizer", "one without mean and scale",
                        "Call fit(x_train) first.")
            )  # fmt: skip
        x = _table(x, operation)
        if x.shape[1] != self.mean.size:
            raise ShapeError(
                message(operation, f"(N, {self.mean.size}), the features of fit", f"x {x.shape}",
                        "Give the columns that fit was given.")
            )  # fmt: skip
        return x

    def __repr__(self) -> str:
        return f"Standardizer({f'{self.mean.size} features' if hasattr(self, 'mean') else ''})"


def _table(x: ArrayLike, operation: str) -> Array:
    """Return x as a finite, non-empty floating-point ``(N, features)`` array."""
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise DtypeError(
            message(operation, "x of real numbers", f"dtype {x.dtype}", "Convert it first.")
        )
    if x.ndim != 2:
        raise ShapeError(
            message(operation, "x of shape (N, features)", f"x {x.shape}",
                    "Use x[:, None] for one feature, x[None] for one row, x.reshape(len(x), -1).")
        )  # fmt: skip
    check_rows(operation, x=x)
    check_finite(x, operation)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def batches(
    *arrays: ArrayLike, batch_size: int, shuffle: bool = True, rng: Rng = None
) -> Iterator[tuple[Array, ...]]:
    """Serve the rows of arrays in batches, once each: one epoch.

    Parameters
    ----------
    *arrays : array_like (N, ...)
        Rows with the same index stay together. Memory-mapped arrays are read batch by batch.
    batch_size : int
        Rows a batch; the last batch holds what remains.
    shuffle : bool
        Serve the rows in an order drawn from `rng`. Without it the batches are views.
    rng : numpy.random.Generator, int or None
        A generator (which advances, so that each epoch has its own order), a seed, or None for an
        order that differs from run to run.

    Yields
    ------
    tuple of ndarray (n, ...)
        One for each array; n = batch_size, in the last batch ``1 <= n <= batch_size``.

    Raises
    ------
    ShapeError
        At the call, for different numbers of rows or none.
    ArgumentError
        At the call, for a batch size that is not a whole number of at least 1.
    NonFiniteError
        At the batch that holds NaN or infinity, naming its row in the whole array.

    Examples
    --------
    >>> x = np.arange(5)
    >>> for xb, yb in batches(x, x**2, batch_size=2, shuffle=False):
    ...     print(xb, yb)
    [0 1] [0 1]
    [2 3] [4 9]
    [4] [16]
    """
    named = _numbered([np.asarray(array) for array in arrays])
    n = check_rows("batches", **named)
    order = np.random.default_rng(rng).permutation(n) if shuffle else None
    return serve("batches", named, batch_size, order)


def serve(
    operation: str, named: dict[str, Array], batch_size: int, order: Array | None = None
) -> Iterator[tuple[Array, ...]]:
    """The rows of arrays with the same number of rows, as for `batches`; errors have these names."""
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ArgumentError(
            message(operation, "batch_size as a whole number of at least 1", repr(batch_size))
        )
    return _served(operation, named, int(batch_size), order)


def _served(
    operation: str, named: dict[str, Array], batch_size: int, order: Array | None
) -> Iterator[tuple[Array, ...]]:
    n = len(next(iter(named.values())))
    for start in range(0, n, batch_size):
        rows = slice(start, start + batch_size)
        batch = tuple(array[rows if order is None else order[rows]] for array in named.values())
        for (name, array), part in zip(named.items(), batch, strict=True):
            if not _all_finite(part):
                check_finite(array, operation, name)
        yield batch


def _numbered(data: list[Array]) -> dict[str, Array]:
    return {f"arrays[{i}]": array for i, array in enumerate(data)}


def train_test_split(
    *arrays: ArrayLike,
    test_size: float = 0.25,
    rng: Rng = None,
    stratify: ArrayLike | None = None,
) -> list[Array]:
    """Split the rows of arrays at random into a training and a test part.

    Parameters
    ----------
    *arrays : array_like (N, ...)
    test_size : float or int
        A fraction of the rows in (0, 1), rounded to whole rows, or a number of rows.
    rng : numpy.random.Generator, int or None
        As in `batches`.
    stratify : array_like (N,), optional
        Labels whose proportions both parts keep, to within a row each (largest remainders).

    Returns
    -------
    list of ndarray
        ``[a_train, a_test, b_train, b_test, ...]``, copies.

    Raises
    ------
    ShapeError
        For different numbers of rows, or none.
    ArgumentError
        For a test size that leaves a part empty, or a class with a single row.
    NonFiniteError
        For NaN or infinity, naming row and column.

    Examples
    --------
    >>> x, y = np.arange(8), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> x_train, x_test, y_train, y_test = train_test_split(x, y, rng=0, stratify=y)
    >>> np.bincount(y_train), np.bincount(y_test)
    (array([3, 3]), array([1, 1]))
    """
    operation = "train_test_split"
    data = [np.asarray(array) for array in arrays]
    named = _numbered(data)
    labels = None if stratify is None else np.asarray(stratify)
    n = check_rows(operation, **named, **({} if labels is None else {"stratify": labels}))
    for name, array in named.items():
        check_finite(array, operation, name)
    n_test = round(test_size * n) if isinstance(test_size, float | np.floating) else test_size
    if not 0 < n_test < n:
        raise ArgumentError(
            message(operation, f"a test_size that leaves rows of {n} in both parts",
                    f"test_size={test_size!r}, {n_test} test rows",
                    "Give a fraction in (0, 1) or a number of rows.")
        )  # fmt: skip
    order = np.random.default_rng(rng).permutation(n)
    in_test = np.zeros(n, dtype=bool)
    if labels is None:
        in_test[:n_test] = True
    else:
        for members in _stratified(labels[order], n_test):
            in_test[members] = True
    train, test = order[~in_test], order[in_test]
    return [part for array in data for part in (array[train], array[test])]


def _stratified(labels: Array, n_test: int) -> Iterator[Array]:
    """Yield for each class the positions of its first rows, as many as its share of n_test."""
    if labels.ndim != 1:
        raise ShapeError(
            message("train_test_split", "stratify as labels (N,)", f"stratify {labels.shape}",
                    "Use onehot.argmax(axis=1).")
        )  # fmt: skip
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise ArgumentError(
            message("train_test_split", "at least 2 rows of each class in stratify",
                    f"1 row of class {classes[counts.argmin()]}", "Merge or drop rare classes.")
        )  # fmt: skip
    whole, remainder = np.divmod(counts * n_test, labels.size)
    largest = np.argsort(-remainder, kind="stable")[: n_test - whole.sum()]
    whole[largest] += 1
    for label, share in zip(classes, whole, strict=True):
        yield np.flatnonzero(labels == label)[:share]
