from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from nn.metrics import (
    accuracy,
    classification_report,
    confusion_matrix,
    f1,
    mean_absolute_error,
    mean_squared_error,
    precision,
    r2,
    recall,
    roc_auc,
    top_k_accuracy,
)
from tinygrad_np.errors import (
    ArgumentError,
    DtypeError,
    IndexingError,
    NonFiniteError,
    ShapeError,
)

# Class 0: 3 rows, 3 predicted, 2 of them right. Class 1: 2 rows, 1 predicted, right.
# Class 2: 1 row, 2 predicted, none right.
TRUE = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 2, 1, 2, 0])


def scores_of(labels, k):
    return np.random.default_rng(0).random((len(labels), k)) + np.eye(k)[labels]


def random_labels(seed, n=200, k=5):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, k, n)
    predicted = np.where(rng.random(n) < 0.6, true, rng.integers(0, k, n))
    return true, predicted


@pytest.fixture(scope="module")
def sk():
    return pytest.importorskip("sklearn.metrics")


# --- by hand ---


def test_counts_by_hand():
    assert accuracy(TRUE, PREDICTED) == 3 / 6
    np.testing.assert_array_equal(
        confusion_matrix(TRUE, PREDICTED), [[2, 0, 1], [0, 1, 1], [1, 0, 0]]
    )
    assert confusion_matrix(TRUE, PREDICTED).dtype == np.int64


def test_precision_recall_f1_by_hand():
    np.testing.assert_allclose(precision(TRUE, PREDICTED, average=None), [2 / 3, 1, 0])
    np.testing.assert_allclose(recall(TRUE, PREDICTED, average=None), [2 / 3, 1 / 2, 0])
    np.testing.assert_allclose(f1(TRUE, PREDICTED, average=None), [2 / 3, 2 / 3, 0])
    assert precision(TRUE, PREDICTED) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert precision(TRUE, PREDICTED, "weighted") == pytest.approx((3 * 2 / 3 + 2 * 1 + 0) / 6)
    assert recall(TRUE, PREDICTED, "micro") == pytest.approx(3 / 6)
    assert f1(TRUE, PREDICTED, "weighted") == pytest.approx((3 * 2 / 3 + 2 * 2 / 3) / 6)


def test_division_by_zero_gives_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision([0, 1], [0, 0], average=None).tolist() == [0.5, 0.0]
        assert recall([0, 0], [0, 1], average=None).tolist() == [0.5, 0.0]
        assert f1([0, 1], [0, 1], average=None, labels=[0, 1, 2]).tolist() == [1.0, 1.0, 0.0]
        assert precision([0, 1], [0, 1], "weighted", labels=[7]) == 0.0


def test_top_k_by_hand():
    scores = [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]
    assert [top_k_accuracy([0, 1, 2], scores, k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1.0]


def test_top_1_is_accuracy_also_among_equal_scores():
    scores = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    true = [0, 1, 2]
    assert top_k_accuracy(true, scores, k=1) == accuracy(true, scores) == 1 / 3


def test_roc_auc_by_hand():
    # Of 2 x 3 pairs, the positive is higher in 4 and equal in 1.
    assert roc_auc([1, 1, 0, 0, 0], [0.9, 0.4, 0.4, 0.5, 0.1]) == 4.5 / 6
    assert roc_auc([0, 0, 1], [1, 2, 3]) == 1.0
    assert roc_auc([1, 1, 0], [1, 2, 3]) == 0.0
    assert roc_auc([0, 1], [5, 5]) == 0.5


def test_regression_by_hand():
    true, predicted = [1.0, 2.0, 3.0, 6.0], [1.0, 3.0, 3.0, 3.0]
    assert mean_absolute_error(true, predicted) == 4 / 4
    assert mean_squared_error(true, predicted) == 10 / 4
    assert r2(true, predicted) == pytest.approx(1 - 10 / 14)
    assert r2([[1, 5], [3, 5]], [[1, 5], [3, 5]]) == 1.0
    assert r2([[1, 5], [3, 5]], [[1, 5], [3, 6]]) == 0.5


def test_regression_of_unsigned_integers_does_not_wrap():
    true, predicted = np.array([1, 2], dtype=np.uint8), np.array([3, 2], dtype=np.uint8)
    assert mean_absolute_error(true, predicted) == 1.0
    assert mean_squared_error(true, predicted) == 2.0


def test_r2_of_a_constant_whose_mean_is_rounded():
    assert r2(np.full(12, 0.1), np.full(12, 0.2)) == 0.0
    assert r2(np.full(12, 0.1), np.full(12, 0.1)) == 1.0


# --- forms of input ---


@pytest.mark.parametrize(
    "metric", [accuracy, precision, recall, f1, confusion_matrix, classification_report]
)
def test_labels_one_hot_and_scores_are_the_same(metric):
    true, predicted = random_labels(1)
    expected = metric(true, predicted)
    one_hot = np.eye(5)[true]
    for y_true in (true, true.astype(np.uint8), one_hot, one_hot.astype(bool), true.tolist()):
        for y_pred in (predicted, scores_of(predicted, 5), np.log(scores_of(predicted, 5))):
            np.testing.assert_equal(metric(y_true, y_pred), expected)


def test_masked_logits_may_be_infinite():
    assert accuracy([0, 1], [[0.0, -np.inf], [-np.inf, 3.0]]) == 1.0


def test_one_hot_for_top_k_and_roc_auc():
    true, predicted = random_labels(2)
    scores = scores_of(predicted, 5)
    assert top_k_accuracy(np.eye(5)[true], scores, 2) == top_k_accuracy(true, scores, 2)
    assert roc_auc(np.eye(5)[true], scores) == roc_auc(true, scores)


def test_roc_auc_of_two_columns_is_that_of_the_second():
    true = np.array([0, 1, 1, 0])
    p = np.array([0.2, 0.9, 0.3, 0.4])
    assert roc_auc(true, np.stack([1 - p, p], axis=1)) == roc_auc(true, p) == 0.75


def test_confusion_matrix_labels():
    expected = [[0, 0, 1], [0, 0, 0], [1, 0, 2]]
    np.testing.assert_array_equal(confusion_matrix(TRUE, PREDICTED, labels=[2, 7, 0]), expected)


# --- scikit-learn ---


@pytest.mark.parametrize("average", [None, "macro", "weighted", "micro"])
@pytest.mark.parametrize("labels", [None, [3, 0], [0, 1, 2, 3, 4, 5, 9]])
@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_f1_agree_with_sklearn(sk, average, labels, seed):
    true, predicted = random_labels(seed, n=30, k=6)
    predicted[predicted == 2] = 8  # one class that is never predicted, one that never occurs
    options = {"average": average, "labels": labels}
    for ours, theirs in (
        (precision, sk.precision_score),
        (recall, sk.recall_score),
        (f1, sk.f1_score),
    ):
        expected = theirs(true, predicted, zero_division=0, **options)
        np.testing.assert_allclose(ours(true, predicted, **options), expected, rtol=1e-14)


@pytest.mark.parametrize("labels", [None, [3, 0], [4, 9, 1]])
def test_confusion_matrix_and_accuracy_agree_with_sklearn(sk, labels):
    true, predicted = random_labels(4)
    np.testing.assert_array_equal(
        confusion_matrix(true, predicted, labels),
        sk.confusion_matrix(true, predicted, labels=labels),
    )
    assert accuracy(true, predicted) == sk.accuracy_score(true, predicted)


def test_labels_below_zero_agree_with_sklearn(sk):
    true, predicted = np.array([-1, 1, 1, -1]), np.array([-1, 1, -1, -1])
    np.testing.assert_array_equal(
        confusion_matrix(true, predicted), sk.confusion_matrix(true, predicted)
    )
    assert f1(true, predicted) == sk.f1_score(true, predicted, average="macro")


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_agrees_with_sklearn(sk, k):
    true, predicted = random_labels(5)
    scores = scores_of(predicted, 5)
    assert top_k_accuracy(true, scores, k) == sk.top_k_accuracy_score(true, scores, k=k)


@pytest.mark.parametrize("decimals", [1, 8])  # with many ties, and with none
def test_roc_auc_agrees_with_sklearn(sk, decimals):
    rng = np.random.default_rng(6)
    true, binary = rng.integers(0, 4, 300), rng.integers(0, 2, 300)
    scores = rng.random((300, 4)) + np.eye(4)[true] * 0.5
    scores = (scores / scores.sum(axis=1, keepdims=True)).round(decimals)
    scores[:, 3] = 1 - scores[:, :3].sum(axis=1)
    for average in (None, "macro", "weighted"):
        np.testing.assert_allclose(
            roc_auc(true, scores, average),
            sk.roc_auc_score(true, scores, multi_class="ovr", average=average),
            rtol=1e-13,
        )
    np.testing.assert_allclose(
        roc_auc(binary, scores[:, 0]), sk.roc_auc_score(binary, scores[:, 0]), rtol=1e-13
    )


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
def test_regression_agrees_with_sklearn(sk, shape):
    rng = np.random.default_rng(7)
    true = rng.normal(5.0, 2.0, shape)
    predicted = true + rng.normal(size=shape)
    if len(shape) == 2:
        true[:, 1] = 4.0
    for ours, theirs in (
        (r2, sk.r2_score),
        (mean_absolute_error, sk.mean_absolute_error),
        (mean_squared_error, sk.mean_squared_error),
    ):
        np.testing.assert_allclose(ours(true, predicted), theirs(true, predicted), rtol=1e-13)


@pytest.mark.parametrize("names", [None, ["zero", "one", "two", "three", "four"]])
def test_report_agrees_with_sklearn(sk, names):
    true, predicted = random_labels(8, n=60)
    predicted[predicted == 2] = 0
    report = classification_report(true, predicted, names)
    options = {"target_names": names, "zero_division": 0}
    expected = sk.classification_report(true, predicted, output_dict=True, **options)
    assert report.keys() == expected.keys()
    for name, values in expected.items():
        assert report[name] == pytest.approx(values, rel=1e-14)
    # The same table to the last figure, blank lines and a column's width aside.
    text = sk.classification_report(true, predicted, **options)
    assert str(report).split() == text.split()


# --- the report ---


def test_report_reads_as_a_dict():
    report = classification_report(TRUE, PREDICTED)
    assert report["0"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1-score": 2 / 3, "support": 3}
    )
    assert report["accuracy"] == 0.5
    assert list(report) == ["0", "1", "2", "accuracy", "macro avg", "weighted avg"]
    assert type(report["1"]["precision"]) is float
    assert type(report["1"]["support"]) is int


def test_report_prints_an_aligned_table():
    report = classification_report(TRUE, PREDICTED, ["cat", "dog", "bird"])
    assert (
        str(report)
        == repr(report)
        == (
            "             precision    recall  f1-score   support\n"
            "\n"
            "         cat      0.67      0.67      0.67         3\n"
            "         dog      1.00      0.50      0.67         2\n"
            "        bird      0.00      0.00      0.00         1\n"
            "\n"
            "    accuracy                          0.50         6\n"
            "   macro avg      0.56      0.39      0.44         6\n"
            "weighted avg      0.67      0.50      0.56         6"
        )
    )


def test_report_fits_80_columns():
    text = str(classification_report(TRUE, PREDICTED, ["a" * 90, "b" * 40, "c"]))
    lines = text.splitlines()
    assert max(map(len, lines)) == 80
    assert lines[2].startswith("a" * 37 + "...  ")
    assert lines[3].startswith("b" * 40 + "  ")


def test_report_leaves_out_classes_that_do_not_occur():
    report = classification_report([0, 2], [0, 2], ["a", "b", "c"])
    assert list(report)[:2] == ["a", "c"]
    assert report["macro avg"]["recall"] == 1.0


def test_report_refuses_names():
    with pytest.raises(
        IndexingError,
        match=r"classification_report: expected labels in 0 \.\. 1, one for each of class_names, "
        r"got labels from 0 to 2\.",
    ):
        classification_report(TRUE, PREDICTED, ["a", "b"])
    with pytest.raises(IndexingError, match="labels from -1 to 1"):
        classification_report([-1, 1], [1, 1], ["a", "b"])
    for names in (["a", "b", "a"], ["a", "b", "macro avg"]):
        with pytest.raises(
            ArgumentError,
            match=re.escape(f"none called 'accuracy', 'macro avg' or 'weighted avg', got {names}"),
        ):
            classification_report(TRUE, PREDICTED, names)


# --- errors ---


CLASSIFICATION = [
    accuracy,
    precision,
    recall,
    f1,
    confusion_matrix,
    classification_report,
    top_k_accuracy,
    roc_auc,
]
SCORED = [top_k_accuracy, roc_auc]


@pytest.mark.parametrize("metric", CLASSIFICATION)
def test_classification_refuses(metric):
    name = metric.__name__
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(
        ShapeError,
        match=rf"^{name}: expected arrays with the same number of rows, "
        r"got y_true \(3,\), y_pred \(2, 2\)",
    ):
        metric([0, 1, 1], scores)
    with pytest.raises(ShapeError, match=f"^{name}: expected at least one row"):
        metric(np.zeros(0, int), np.zeros((0, 2)))
    with pytest.raises(ShapeError, match=rf"^{name}: .* with K >= 2, got \w+ \(2, 1\)\. Use \(p"):
        metric([0, 1], [[0.1], [0.9]])
    with pytest.raises(
        DtypeError,
        match=rf"^{name}: expected y_true as integer labels \(N,\) .*, got "
        "dtype float64",
    ):
        metric([0.0, 1.0], scores)
    with pytest.raises(
        ArgumentError,
        match=rf"^{name}: expected one-hot rows in y_true, got \[0\.2 "
        r"0\.8\] in row 1\. Are y_true and y_pred swapped",
    ):
        metric([[1, 0], [0.2, 0.8]], scores)
    with pytest.raises(ArgumentError, match=r"one-hot rows in y_true, got \[1 1\] in row 0"):
        metric([[1, 1], [0, 1]], scores)
    with pytest.raises(NonFiniteError, match=f"^{name}: .* got nan at row 1, column 0"):
        metric([0, 1], [[0.9, 0.1], [np.nan, 0.8]])


@pytest.mark.parametrize("metric", [m for m in CLASSIFICATION if m not in SCORED])
def test_probabilities_of_one_class_are_no_labels(metric):
    with pytest.raises(
        DtypeError, match=r"y_pred as integer labels .* Use .*\(p >= 0\.5\)\.astype"
    ):
        metric([0, 1], [0.1, 0.9])


@pytest.mark.parametrize("metric", SCORED)
def test_labels_need_a_column_of_scores(metric):
    with pytest.raises(
        IndexingError,
        match=rf"{metric.__name__}: expected labels in 0 \.\. 1, one for "
        "each column of scores, got labels from 0 to 2",
    ):
        metric([0, 2], [[1, 0], [0, 1]])


@pytest.mark.parametrize("metric", [accuracy, precision, recall, f1, confusion_matrix])
@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_labels_without_a_column_are_refused(metric, labels):
    with pytest.raises(IndexingError, match=r"labels in 0 \.\. 1, one for each column of scores"):
        metric(labels, [[1, 0], [0, 1]])


@pytest.mark.parametrize("metric", [precision, recall, f1])
def test_unknown_average(metric):
    name = metric.__name__
    with pytest.raises(
        ArgumentError,
        match=rf"^{name}: expected average 'macro', 'weighted', 'micro' "
        rf"or None, got 'binary'\. .* is {name}\(\.\.\., average=None\)\[1\]",
    ):
        metric([0, 1], [0, 1], average="binary")
    with pytest.raises(ArgumentError, match="Did you mean 'macro'"):
        metric([0, 1], [0, 1], average="marco")


def test_top_k_refuses_k():
    for k in (0, 4):
        with pytest.raises(
            ArgumentError,
            match=rf"top_k_accuracy: expected k in 1 \.\. 3, got k={k}. For fit write functools",
        ):
            top_k_accuracy([0], [[1, 2, 3]], k)


def test_roc_auc_refuses():
    with pytest.raises(
        ArgumentError,
        match="roc_auc: expected rows of each of the 2 classes in y_true, got none of class 0",
    ):
        roc_auc([1, 1], [0.1, 0.9])
    with pytest.raises(ArgumentError, match=r"roc_auc: expected average .*, got 'micro'"):
        roc_auc([0, 1], [0.1, 0.9], average="micro")


@pytest.mark.parametrize("metric", [r2, mean_absolute_error, mean_squared_error])
def test_regression_refuses(metric):
    name = metric.__name__
    with pytest.raises(
        ShapeError,
        match=rf"^{name}: expected y_true and y_pred of the same shape, got "
        r"y_true \(3,\), y_pred \(3, 1\)\. Use y_true\[:, None\]",
    ):
        metric([1, 2, 3], [[1], [2], [3]])
    with pytest.raises(ShapeError, match=f"^{name}: expected at least one row"):
        metric([], [])
    with pytest.raises(NonFiniteError, match=f"^{name}: .* in y_pred .* got nan at row 1"):
        metric([1, 2], [1, np.nan])
    with pytest.raises(
        NonFiniteError, match=f"^{name}: .* in y_true .* got inf at row 0, column 1"
    ):
        metric([[1, np.inf]], [[1, 2]])


def test_r2_needs_two_rows():
    with pytest.raises(ShapeError, match="r2: expected at least 2 rows, got 1"):
        r2([1.0], [1.0])
