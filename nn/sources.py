"""What `fit`, `evaluate` and `predict` read: arrays row by row, or batches as somebody makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nn import init
from nn.data import check_finite, check_rows, checksum, train_test_split
from nn.datasets.dataset import Dataset
from nn.module import as_array
from tinygrad_np.errors import ArgumentError, IndexingError, NonFiniteError, ShapeError, message

Array = NDArray[Any]
Data = Iterable[Any] | Callable[[], Iterable[Any]]
Batch = tuple[Array, Array, Array | None]
Shuffle = bool | Callable[[int], ArrayLike]
ClassWeights = Mapping[int, float] | ArrayLike


def source(
    operation: str,
    data: Data,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeights | None = None,
    ignore_label: int | None = None,
) -> Rows | Stream:
    """The data as `Rows` or as a `Stream`, checked as far as it can be before it is read.

    Rows with the label that is ignored have no class, and no class weight.

    Raises
    ------
    ShapeError, DtypeError, IndexingError, NonFiniteError, ArgumentError
        For data or weights that do not fit.
    """
    if isinstance(data, tuple | list | Dataset):
        parts = list(data)
        if len(parts) == 2:
            x, y = parts
            return Rows(operation, x, y, sample_weight, class_weight, ignore_label)
    elif callable(data) or (isinstance(data, Iterable) and not isinstance(data, np.ndarray | str)):
        if sample_weight is not None:
            raise ArgumentError(
                message(operation, "the weights within the batches, as (x, y, weights)",
                        "batches and a sample_weight")
            )  # fmt: skip
        return Stream(operation, data, class_weight, ignore_label)
    fix = "Or give batches: an iterable of (x, y), or a function that makes one."
    got = type(data).__name__
    if isinstance(data, tuple | list):
        got, fix = f"{got} of {len(data)}", "Weights of rows are given to fit as sample_weight."
    raise ArgumentError(message(operation, "data as (x, y) or a Dataset", got, fix))


class Rows:
    """Inputs ``(N, ...)`` and targets ``(N, ...)``, with weights ``(N,)`` or None.

    Arrays in memory are searched for NaN once, at the start. Memory-mapped ones are never read as a
    whole, but batch by batch, and each batch is searched.
    """

    def __init__(
        self,
        operation: str,
        x: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeights | None = None,
        ignore_label: int | None = None,
    ) -> None:
        self.operation = operation
        self.x, self.y = (
            as_array(part, f"{operation}: {name}") for name, part in zip("xy", (x, y))
        )
        check_rows(operation, x=self.x, y=self.y)
        self.mapped = {
            name: array for name, array in (("x", self.x), ("y", self.y)) if _is_mapped(array)
        }
        for name, array in (("x", self.x), ("y", self.y)):
            if name not in self.mapped:
                check_finite(array, operation, name)
        self.weights = None
        if sample_weight is not None:
            self.weights = _sample_weights(operation, sample_weight, len(self))
        if class_weight is not None:
            by_class = ClassWeight(operation, class_weight, self.y, ignore_label)(self.y)
            self.weights = by_class if self.weights is None else self.weights * by_class

    def __len__(self) -> int:
        return len(self.x)

    def described(self) -> str:
        """Shapes, dtypes and a checksum of some hundred rows, in words."""
        x, y = self.x, self.y
        arrays = [x, y] if self.weights is None else [x, y, self.weights]
        step = ceil(len(self) / 200)
        crc = checksum(array[i] for array in arrays for i in range(0, len(self), step))
        return f"x {x.shape} {x.dtype}, y {y.shape} {y.dtype} with checksum {crc:08x}"

    def steps(self, batch_size: int | None) -> int | None:
        """Batches an epoch."""
        return 1 if batch_size is None else ceil(len(self) / batch_size)

    def split(self, fraction: float) -> tuple[Rows, Rows]:
        """Training rows, and rows drawn at random to hold out.

        Raises
        ------
        ArgumentError
            For a fraction that leaves a part empty, or for memory-mapped arrays.
        """
        if self.mapped:
            raise ArgumentError(
                message(self.operation, "validation data", f"validation={fraction} of arrays that "
                        "are memory-mapped", "A fraction would copy them: give slices of them.")
            )  # fmt: skip
        arrays = [self.x, self.y] + ([] if self.weights is None else [self.weights])
        x, x_held, y, y_held, *weights = train_test_split(
            *arrays, test_size=fraction, rng=init.generator()
        )
        training = Rows(self.operation, x, y, weights[0] if weights else None)
        return training, Rows(self.operation, x_held, y_held)

    def first(self) -> Batch:
        """A row and all targets that are in memory, for which it stands; or only a few."""
        rows = slice(256 if self.mapped else None)
        return self.x[:1], self.y[rows], None if self.weights is None else self.weights[rows]

    def forget(self) -> None:
        """There is nothing to forget."""

    def batches(
        self, batch_size: int | None, shuffle: Shuffle, cut: Callable[[Any], Any] | None = None
    ) -> Iterator[Batch]:
        """All rows once, in batches. Without shuffling they are views.

        Of the rows of a batch, a slice or indices, only those are taken that `cut` returns.
        """
        x, y, weights, n = self.x, self.y, self.weights, len(self)
        whole = batch_size is None or (batch_size >= n and not shuffle)
        if cut is None and whole and not callable(shuffle):
            self._check(slice(None))
            yield x, y, weights
            return
        order = self._order(callable(shuffle) and shuffle if batch_size is None else shuffle)
        x_rows, y_rows = (_picker(array, order is not None) for array in (x, y))
        size = n if batch_size is None else batch_size
        for start in range(0, n, size):
            rows: Any = slice(start, min(start + size, n))
            if order is not None:
                rows = order[rows]
            if cut is not None:
                rows = cut(rows)
            if self.mapped:
                self._check(rows)
            yield x_rows(rows), y_rows(rows), None if weights is None else weights[rows]

    def _order(self, shuffle: Shuffle) -> Array | None:
        """The rows' indices in the order of an epoch; None for that of the arrays."""
        n = len(self)
        if not callable(shuffle):
            return init.generator().permutation(n) if shuffle else None
        order = np.asarray(shuffle(n))
        if order.shape != (n,) or order.dtype.kind not in "iu":
            raise ShapeError(
                message(f"{self.operation}: shuffle", f"a function that gives {n} indices of rows",
                        f"{order.dtype} {order.shape}")
            )  # fmt: skip
        if not 0 <= order.min() <= order.max() < n:
            raise IndexingError(
                message(f"{self.operation}: shuffle", f"indices of rows in 0..{n - 1}",
                        f"{order.min()}..{order.max()}")
            )  # fmt: skip
        return order

    def _check(self, rows: Any) -> None:
        """Refuse NaN and infinity in those rows of mapped arrays, by the place in the whole."""
        for name, array in self.mapped.items():
            part = array[rows]
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                first = int(np.nonzero(~np.isfinite(part).reshape(len(part), -1).all(axis=1))[0][0])
                row = range(len(self))[rows][first] if isinstance(rows, slice) else rows[first]
                raise NonFiniteError(
                    message(self.operation, f"finite numbers in {name} of shape {array.shape}",
                            f"others in row {row}", "Remove or replace these values first.")
                )  # fmt: skip


class Stream:
    """Batches ``(x, y)`` or ``(x, y, weights)`` from an iterable, or a function that makes one."""

    mapped: Mapping[str, Array] = {}

    def __init__(
        self,
        operation: str,
        data: Data,
        class_weight: ClassWeights | None,
        ignore_label: int | None = None,
    ) -> None:
        self.operation = operation
        self.make: Callable[[], Iterable[Any]] = data if callable(data) else lambda: data
        self.once = not callable(data) and iter(data) is data
        self.by_class = None
        if class_weight is not None:
            self.by_class = ClassWeight(operation, class_weight, None, ignore_label)
        self.begun: Iterator[Batch] | None = None

    def steps(self, batch_size: int | None) -> int | None:
        """Nobody knows before an epoch has been read."""
        return None

    def split(self, fraction: float) -> tuple[Rows, Rows]:
        """Batches are not held out."""
        raise ArgumentError(
            message(self.operation, "validation data", f"validation={fraction} of batches",
                    "A fraction can be held out of arrays only.")
        )  # fmt: skip

    def first(self) -> Batch:
        """The first batch, which `batches` will serve once more."""
        served = self._read()
        batch = next(served)
        self.begun = chain([batch], served)
        return batch

    def forget(self) -> None:
        """Forget the batch that was read ahead: a resumed run is in a later epoch."""
        self.begun = None

    def batches(self, batch_size: int | None, shuffle: Shuffle) -> Iterator[Batch]:
        """The batches as they come; size and order are up to who makes them."""
        served, self.begun = self.begun or self._read(), None
        return served

    def _read(self) -> Iterator[Batch]:
        number = 0
        for number, batch in enumerate(self.make(), start=1):
            yield self._checked(f"{self.operation}: batch {number}", batch)
        if number == 0:
            raise ShapeError(
                message(self.operation, "at least one batch", "none",
                        "What can be read only once has been: give a function that makes it anew.")
            )  # fmt: skip

    def _checked(self, operation: str, batch: Any) -> Batch:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise ArgumentError(
                message(operation, "(x, y) or (x, y, weights)", type(batch).__name__)
            )
        rows = Rows(operation, *batch)
        weights = rows.weights
        if self.by_class is not None:
            by_class = self.by_class(rows.y)
            weights = by_class if weights is None else weights * by_class
        return rows.x, rows.y, weights


class ClassWeight:
    """The weight of each row by its label: ``w_n = weights[t_n]``, and 0 where it is ignored."""

    def __init__(
        self, operation: str, given: ClassWeights, y: Array | None, ignore_label: int | None
    ) -> None:
        self.operation = operation
        if isinstance(given, str):
            if given != "balanced" or y is None:
                raise ArgumentError(
                    message(operation, 'class_weight as {label: weight}, as (K,), or for arrays as '
                            '"balanced"', f"{given!r}" + (" for batches" if y is None else ""))
                )  # fmt: skip
            labels, counts = np.unique(self._labels(y), return_counts=True)
            counted = labels != ignore_label  # all of them, where it is None
            labels, counts = labels[counted], counts[counted]
            balanced = counts.sum() / (len(labels) * counts)
            given = dict(zip(labels.tolist(), balanced.tolist()))
        if not isinstance(given, Mapping):
            given = dict(enumerate(as_array(given, f"{operation}: class_weight").tolist()))
        for label, weight in given.items():
            if not isinstance(weight, int | float | np.number) or not weight >= 0:
                raise ArgumentError(
                    message(operation, "class weights >= 0", f"{weight!r} of class {label!r}")
                )
        self.table = {int(label): float(weight) for label, weight in given.items()}
        if ignore_label is not None:
            self.table[ignore_label] = 0.0

    def __call__(self, y: Array) -> Array:
        """Weights ``(N,)`` for labels ``(N,)``, or for one-hot rows."""
        classes, where = np.unique(self._labels(y), return_inverse=True)
        without = [str(label) for label in classes.tolist() if label not in self.table]
        if without:
            raise IndexingError(
                message(self.operation, "a class_weight for each label",
                        f"none for {', '.join(without)}")
            )  # fmt: skip
        weights: Array = np.array([self.table[label] for label in classes.tolist()])[where]
        return weights

    def _labels(self, y: Array) -> Array:
        labels = y
        if y.ndim == 2 and ((y == 1).sum(axis=1) == 1).all() and (abs(y).sum(axis=1) == 1).all():
            labels = y.argmax(axis=1)
        if labels.ndim != 1 or labels.dtype.kind not in "iub":
            raise ArgumentError(
                message(f"{self.operation}: class_weight", "targets that are labels (N,) or "
                        "one-hot rows (N, K)", f"{y.dtype} {y.shape}")
            )  # fmt: skip
        return labels


def _sample_weights(operation: str, given: ArrayLike, n: int) -> Array:
    weights = as_array(given, f"{operation}: sample_weight")
    if weights.shape != (n,):
        raise ShapeError(message(operation, f"sample_weight ({n},)", f"{weights.shape}"))
    check_finite(weights, operation, "sample_weight")
    if weights.min() < 0:
        raise ArgumentError(message(operation, "sample_weight >= 0", f"{weights.min()}"))
    return weights


def _is_mapped(array: Array) -> bool:
    """Whether the array lies in a file, itself or as a view."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _picker(array: Array, shuffle: bool) -> Callable[[Any], Array]:
    """What gives rows by a slice, or by an order: faster, unless the array has gaps, with `take`."""
    if shuffle and array.flags.c_contiguous and array.flags.aligned:  # `take` would copy others
        return partial(array.take, axis=0)
    return array.__getitem__
