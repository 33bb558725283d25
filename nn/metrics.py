"""How good predictions are: functions of plain arrays, named and defined as in scikit-learn.

For classification, `y_true` holds integer labels (N,) or one-hot rows (N, K), and `y_pred` integer
labels (N,) or scores (N, K), logits or probabilities, of which the largest counts. A ratio whose
denominator is 0 (the precision of a class that was never predicted) is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nn.data import check_finite, check_rows
from nn.names import near
from tinygrad_np.errors import ArgumentError, DtypeError, IndexingError, ShapeError, message

__all__ = [
    "ClassificationReport",
    "accuracy",
    "classification_report",
    "confusion_matrix",
    "f1",
    "mean_absolute_error",
    "mean_squared_error",
    "precision",
    "r2",
    "recall",
    "roc_auc",
    "top_k_accuracy",
]

Array = NDArray[Any]
Average = Literal["macro", "weighted", "micro"] | None


def accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the fraction of rows whose predicted class is the true one.

    Parameters
    ----------
    y_true : array_like (N,) of int labels, or (N, K) one-hot
    y_pred : array_like (N,) of int labels, or (N, K) scores

    Raises
    ------
    ShapeError
        For different numbers of rows or none, or a single column.
    DtypeError
        For labels that are not integers.
    IndexingError
        For labels without a column in the scores.
    ArgumentError
        For rows of y_true that are not one-hot.
    NonFiniteError
        For NaN among the scores.

    Examples
    --------
    >>> accuracy([0, 1, 2], [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1]])
    0.6666666666666666
    """
    true, predicted = _labels("accuracy", y_true, y_pred)
    return float(np.mean(true == predicted))


def top_k_accuracy(y_true: ArrayLike, scores: ArrayLike, k: int = 5) -> float:
    """Return the fraction of rows whose true class is among the k largest scores.

    Of equal scores the lower class comes first, as in argmax: k=1 is `accuracy`.

    Parameters
    ----------
    y_true : array_like (N,) of int labels in 0 .. K-1, or (N, K) one-hot
    scores : array_like (N, K)
    k : int
        In 1 .. K.

    Raises
    ------
    ArgumentError
        For k outside 1 .. K.
    IndexingError
        For labels without a column of scores.
    ShapeError, DtypeError, NonFiniteError
        As in `accuracy`.

    Examples
    --------
    >>> top_k_accuracy([0, 1, 2], [[5, 4, 0], [9, 8, 7], [9, 8, 7]], k=2)
    0.6666666666666666
    """
    operation = "top_k_accuracy"
    true, table = _scored(operation, y_true, scores)
    columns = table.shape[1]
    if not 1 <= k <= columns:
        raise ArgumentError(
            message(operation, f"k in 1 .. {columns}", f"k={k}",
                    f"For fit write functools.partial(nn.metrics.top_k_accuracy, k={columns - 1}).")
        )  # fmt: skip
    best = np.argsort(-table, axis=1, kind="stable")[:, :k]
    return float(np.mean((best == true[:, None]).any(axis=1)))


def confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, labels: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Count ``C[i, j]``, the rows of class i that were predicted as class j.

    Parameters
    ----------
    y_true, y_pred
        As in `accuracy`.
    labels : array_like of int (K,), optional
        The classes, in the order of rows and columns; rows of data with another class are left
        out. By default those that occur in either, ascending.

    Returns
    -------
    ndarray of int64 (K, K)

    Examples
    --------
    >>> confusion_matrix([0, 0, 1, 1, 1], [0, 1, 1, 1, 0])
    array([[1, 1],
           [1, 2]])
    """
    true, predicted = _labels("confusion_matrix", y_true, y_pred)
    classes = _classes(true, predicted, labels)
    k = classes.size
    order = np.argsort(classes)
    row, column = (_positions(classes, order, y) for y in (true, predicted))
    listed = (row < k) & (column < k)
    counts = np.bincount(row[listed] * k + column[listed], minlength=k * k)
    return counts.reshape(k, k).astype(np.int64)


def _positions(classes: Array, order: Array, y: Array) -> Array:
    """Find where each label stands in classes; ``classes.size`` where it does not."""
    at = np.searchsorted(classes, y, sorter=order).clip(max=classes.size - 1)
    return np.where(classes[order[at]] == y, order[at], classes.size)


def precision(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    average: Average = "macro",
    labels: ArrayLike | None = None,
) -> float | Array:
    """Return ``tp / (tp + fp)``: of the rows predicted as a class, the part that is of it.

    Parameters
    ----------
    y_true, y_pred
        As in `accuracy`.
    average : {'macro', 'weighted', 'micro'} or None
        The mean over classes; the mean weighted by their rows; the ratio of the summed counts;
        or one value a class.
    labels : array_like of int (K,), optional
        The classes to look at. By default those that occur in either, ascending.

    Returns
    -------
    float, or ndarray (K,) for ``average=None``
        0 where nothing was predicted.

    Raises
    ------
    ArgumentError
        For an unknown average.
    ShapeError, DtypeError, NonFiniteError
        As in `accuracy`.

    Examples
    --------
    >>> precision([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], average=None).round(3)
    array([0.5  , 0.667])
    """
    hits, _, predicted = counts = _counts("precision", y_true, y_pred, labels)
    return _averaged("precision", hits, predicted, counts, average)


def recall(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    average: Average = "macro",
    labels: ArrayLike | None = None,
) -> float | Array:
    """Return ``tp / (tp + fn)``: of the rows of a class, the part predicted as it.

    Parameters, result and errors are as in `precision`; 0 where a class has no row.

    Examples
    --------
    >>> recall([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], average="micro")
    0.6
    """
    hits, support, _ = counts = _counts("recall", y_true, y_pred, labels)
    return _averaged("recall", hits, support, counts, average)


def f1(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    average: Average = "macro",
    labels: ArrayLike | None = None,
) -> float | Array:
    """Return ``2 tp / (2 tp + fp + fn)``, the harmonic mean of precision and recall.

    Parameters, result and errors are as in `precision`; 0 where a class neither occurs nor is
    predicted.

    Examples
    --------
    >>> f1([0, 0, 1, 1], [0, 0, 1, 0], average=None).round(3)
    array([0.8  , 0.667])
    """
    hits, support, predicted = counts = _counts("f1", y_true, y_pred, labels)
    return _averaged("f1", 2 * hits, support + predicted, counts, average)


Counts = tuple[Array, Array, Array]  # of each class: rows hit, true rows, predicted rows


def _counts(
    operation: str, y_true: ArrayLike, y_pred: ArrayLike, labels: ArrayLike | None
) -> Counts:
    true, predicted = _labels(operation, y_true, y_pred)
    classes = _classes(true, predicted, labels)
    hits, support, guesses = (
        np.array([np.count_nonzero(y == label) for label in classes])
        for y in (true[true == predicted], true, predicted)
    )
    return hits, support, guesses


def _averaged(
    operation: str, numerator: Array, denominator: Array, counts: Counts, average: Average
) -> float | Array:
    _, support, _ = counts
    match average:
        case None:
            return _ratio(numerator, denominator)
        case "macro":
            return float(_ratio(numerator, denominator).mean())
        case "weighted":
            total = (_ratio(numerator, denominator) * support).sum()
            return float(_ratio(total, support.sum()))
        case "micro":
            return float(_ratio(numerator.sum(), denominator.sum()))
    raise ArgumentError(
        message(operation, "average 'macro', 'weighted', 'micro' or None", repr(average),
                near(average, ("macro", "weighted", "micro"))
                or f"For two classes, the positive one is {operation}(..., average=None)[1].")
    )  # fmt: skip


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """Return ``numerator / denominator``, and 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    ratio: Array = np.zeros_like(denominator)
    np.divide(numerator, denominator, out=ratio, where=denominator != 0)
    return ratio


class ClassificationReport(dict[str, Any]):
    """Precision, recall, F1 and support of each class: a dict that prints as a table.

    Each class and both averages hold a dict with keys ``precision``, ``recall``, ``f1-score`` and
    ``support``; ``report["accuracy"]`` is a float.
    """

    def __str__(self) -> str:
        columns = ("precision", "recall", "f1-score", "support")
        averages = ("accuracy", "macro avg", "weighted avg")
        classes = [name for name in self if name not in averages]
        rows = int(self["weighted avg"]["support"])
        width = min(max(map(len, self)), 40)  # and 4 columns of 10: 80 in all

        def line(name: str) -> str:
            values = self[name]
            ratios = "".join(f"{values[column]:10.2f}" for column in columns[:3])
            return f"{_cut(name, width):>{width}}{ratios}{values['support']:10d}"

        return "\n".join(
            [
                " " * width + "".join(f"{column:>10}" for column in columns),
                "",
                *map(line, classes),
                "",
                f"{'accuracy':>{width}}{self['accuracy']:30.2f}{rows:10d}",
                *map(line, averages[1:]),
            ]
        )

    __repr__ = __str__


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 3] + "..."


def classification_report(
    y_true: ArrayLike, y_pred: ArrayLike, class_names: Sequence[str] | None = None
) -> ClassificationReport:
    """Report precision, recall, F1 and support (rows) of every class that occurs, and averages.

    Parameters
    ----------
    y_true, y_pred
        As in `accuracy`.
    class_names : sequence of str, optional
        ``class_names[label]`` names a class; by default ``str(label)``.

    Returns
    -------
    ClassificationReport
        Read as a dict, ``report["3"]["precision"]``, or printed, at most 80 columns wide.

    Raises
    ------
    IndexingError
        For a label without a name.
    ArgumentError
        For names that are not distinct, or those of the averages.
    ShapeError, DtypeError, NonFiniteError
        As in `accuracy`.

    Examples
    --------
    >>> classification_report([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], ["cat", "dog"])
                 precision    recall  f1-score   support
    <BLANKLINE>
             cat      0.50      0.50      0.50         2
             dog      0.67      0.67      0.67         3
    <BLANKLINE>
        accuracy                          0.60         5
       macro avg      0.58      0.58      0.58         5
    weighted avg      0.60      0.60      0.60         5
    """
    operation = "classification_report"
    true, predicted = _labels(operation, y_true, y_pred)
    labels = _classes(true, predicted, None)
    names = [str(label) for label in labels] if class_names is None else list(class_names)
    if class_names is not None:
        if labels[0] < 0 or labels[-1] >= len(names):
            raise IndexingError(
                message(operation, f"labels in 0 .. {len(names) - 1}, one for each of class_names",
                        f"labels from {labels[0]} to {labels[-1]}")
            )  # fmt: skip
        if len({*names, "accuracy", "macro avg", "weighted avg"}) != len(names) + 3:
            raise ArgumentError(
                message(operation, "distinct class_names, none called 'accuracy', 'macro avg' or "
                        "'weighted avg'", str(names))
            )  # fmt: skip
        names = [names[label] for label in labels]
    metrics = {"precision": precision, "recall": recall, "f1-score": f1}
    each = {key: metric(true, predicted, average=None) for key, metric in metrics.items()}
    report = ClassificationReport()
    for i, (name, label) in enumerate(zip(names, labels, strict=True)):
        report[name] = {key: float(np.asarray(values)[i]) for key, values in each.items()}
        report[name]["support"] = int(np.count_nonzero(true == label))
    report["accuracy"] = accuracy(true, predicted)
    for average in ("macro", "weighted"):
        report[f"{average} avg"] = {
            key: metric(true, predicted, average=average) for key, metric in metrics.items()
        } | {"support": true.size}
    return report


def roc_auc(
    y_true: ArrayLike,
    scores: ArrayLike,
    average: Literal["macro", "weighted"] | None = "macro",
) -> float | Array:
    """Return the area under the ROC curve, ``P(score of a positive > score of a negative)``.

    Computed from ranks, a tie counting one half. For K > 2 classes, each against the rest.

    Parameters
    ----------
    y_true : array_like (N,) of int labels in 0 .. K-1, or (N, K) one-hot
    scores : array_like (N,) for two classes, the score of class 1; or (N, K)
    average : {'macro', 'weighted'} or None
        For K > 2: the mean over classes, weighted by their rows, or one value a class.

    Returns
    -------
    float, or ndarray (K,) for ``average=None`` and K > 2

    Raises
    ------
    ArgumentError
        For a class without rows, for which the area is not defined, or an unknown average.
    IndexingError
        For labels without a column of scores.
    ShapeError, DtypeError, NonFiniteError
        As in `accuracy`.

    References
    ----------
    J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143 (1982), 29-36.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    operation = "roc_auc"
    if average not in ("macro", "weighted", None):
        raise ArgumentError(
            message(
                operation,
                "average 'macro', 'weighted' or None",
                repr(average),
                near(average, ("macro", "weighted")),
            )
        )
    binary = np.asarray(scores)
    if binary.ndim == 1:
        scores = np.stack([np.zeros_like(binary), binary], axis=1)
    true, table = _scored(operation, y_true, scores)
    k = table.shape[1]
    support = np.bincount(true, minlength=k)
    if not support.all():
        raise ArgumentError(
            message(operation, f"rows of each of the {k} classes in y_true",
                    f"none of class {support.argmin()}", "The area is not defined without them.")
        )  # fmt: skip
    if k == 2:
        return _area(true == 1, table[:, 1])
    areas = np.array([_area(true == label, table[:, label]) for label in range(k)])
    match average:
        case None:
            return areas
        case "macro":
            return float(areas.mean())
        case "weighted":
            return float(np.average(areas, weights=support))


def _area(positive: Array, score: Array) -> float:
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # from 1; equal scores share their mean rank
    p = np.count_nonzero(positive)
    wins = rank[inverse][positive].sum() - p * (p + 1) / 2
    return float(wins / (p * (positive.size - p)))


def r2(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return ``1 - sum((y_true - y_pred)^2) / sum((y_true - mean(y_true))^2)``.

    Averaged over the columns for (N, outputs). A column of equal true values gives 1 where it is
    met exactly and 0 otherwise, as in scikit-learn.

    Parameters
    ----------
    y_true, y_pred : array_like (N,) or (N, outputs), N >= 2

    Raises
    ------
    ShapeError
        For different shapes, or fewer than 2 rows.
    NonFiniteError
        For NaN or infinity, naming row and column.

    Examples
    --------
    >>> r2([1, 2, 3, 4], [1, 2, 3, 2])
    0.19999999999999996
    """
    true, predicted = _numbers("r2", y_true, y_pred)
    if len(true) < 2:
        raise ShapeError(message("r2", "at least 2 rows", f"{len(true)}"))
    residual = ((true - predicted) ** 2).sum(axis=0)
    constant = true.max(axis=0) == true.min(axis=0)
    total = np.where(constant, 0.0, ((true - true.mean(axis=0)) ** 2).sum(axis=0))
    return float(np.mean(np.where(constant, residual == 0, 1 - _ratio(residual, total))))


def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return ``mean(abs(y_true - y_pred))`` over all entries, in the units of y.

    Parameters
    ----------
    y_true, y_pred : array_like (N,) or (N, outputs)

    Raises
    ------
    ShapeError, NonFiniteError
        As in `r2`.

    Examples
    --------
    >>> mean_absolute_error([1, 2, 3], [1, 2, 6])
    1.0
    """
    true, predicted = _numbers("mean_absolute_error", y_true, y_pred)
    return float(np.abs(true - predicted).mean())


def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return ``mean((y_true - y_pred)^2)`` over all entries, in the squared units of y.

    Parameters
    ----------
    y_true, y_pred : array_like (N,) or (N, outputs)

    Raises
    ------
    ShapeError, NonFiniteError
        As in `r2`.

    Examples
    --------
    >>> mean_squared_error([1, 2, 3], [1, 2, 6])
    3.0
    """
    true, predicted = _numbers("mean_squared_error", y_true, y_pred)
    return float(((true - predicted) ** 2).mean())


def _numbers(operation: str, y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Array]:
    # float64 before subtracting: unsigned integers would wrap around.
    true, predicted = (np.asarray(y, dtype=np.float64) for y in (y_true, y_pred))
    if true.shape != predicted.shape:
        raise ShapeError(
            message(operation, "y_true and y_pred of the same shape",
                    f"y_true {true.shape}, y_pred {predicted.shape}",
                    "Use y_true[:, None] or y_pred.squeeze(axis=1) for one output.")
        )  # fmt: skip
    check_rows(operation, y_true=true, y_pred=predicted)
    check_finite(true, operation, "y_true")
    check_finite(predicted, operation, "y_pred")
    return true, predicted


def _labels(operation: str, y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Array]:
    """Return both as labels (N,)."""
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    check_rows(operation, y_true=true, y_pred=predicted)
    if true.ndim == 2:
        _check_one_hot(operation, true)
    labels = _as_labels(operation, "y_true", true), _as_labels(operation, "y_pred", predicted)
    if predicted.ndim == 2:
        _check_columns(operation, labels[0], predicted.shape[1])
    return labels


def _check_columns(operation: str, true: Array, k: int) -> None:
    if true.min() < 0 or true.max() >= k:
        raise IndexingError(
            message(operation, f"labels in 0 .. {k - 1}, one for each column of scores",
                    f"labels from {true.min()} to {true.max()}")
        )  # fmt: skip


def _as_labels(operation: str, name: str, y: Array) -> Array:
    if y.ndim == 1 and y.dtype.kind in "iub":
        return y.astype(np.int64)
    if y.ndim == 1:
        raise DtypeError(
            message(operation, f"{name} as integer labels (N,) or a table (N, K)",
                    f"dtype {y.dtype}, shape {y.shape}",
                    "Use y.astype(np.int64) for labels, (p >= 0.5).astype(np.int64) for "
                    "probabilities of two classes.")
        )  # fmt: skip
    labels: Array = _table(operation, name, y).argmax(axis=1)
    return labels


def _table(operation: str, name: str, y: Array) -> Array:
    """Check scores (N, K), K >= 2: of a single column argmax would always say class 0."""
    if y.ndim != 2 or y.shape[1] < 2:
        raise ShapeError(
            message(operation, f"{name} as labels (N,) or scores (N, K) with K >= 2",
                    f"{name} {y.shape}",
                    "Use (p[:, 0] >= 0.5).astype(np.int64) for one column of probabilities.")
        )  # fmt: skip
    check_finite(y, operation, name, allow_inf=True)
    return y


def _check_one_hot(operation: str, y: Array) -> None:
    bad = ~(((y == 0) | (y == 1)).all(axis=1) & (y.sum(axis=1) == 1))
    if bad.any():
        row = int(bad.argmax())
        raise ArgumentError(
            message(operation, "one-hot rows in y_true", f"{y[row]} in row {row}",
                    "Are y_true and y_pred swapped?")
        )  # fmt: skip


def _scored(operation: str, y_true: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return true labels (N,), each with a column in the scores (N, K)."""
    table = _table(operation, "scores", np.asarray(scores, dtype=np.float64))
    return _labels(operation, y_true, table)[0], table


def _classes(true: Array, predicted: Array, labels: ArrayLike | None) -> Array:
    return np.union1d(true, predicted) if labels is None else np.asarray(labels)
