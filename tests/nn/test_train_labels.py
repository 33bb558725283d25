"""Training on labels that weigh, are ignored or stand in sequences, and the metrics of them."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest

import nn
from nn import metrics
from tinygrad_np.errors import ArgumentError, DtypeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 4))
Y = np.array([0, 1, 2, -100, 1, 1, -100, 2, 0, 1])
W = np.array([1.0, 2.0, 0.5])
LABELS = np.maximum(Y, 0)
COUNTS = np.where(Y == -100, 0, W[LABELS])  # what a row counts; one that is ignored nothing
LOSSES = {
    "softmax": nn.SoftmaxCrossEntropy(weight=W, ignore_label=-100),
    "nll": nn.NLL(weight=W, ignore_label=-100),
}


def line(end=(), seed=0):
    return nn.Sequential(nn.Dense(4, 3, bias=False, dtype=np.float64, rng=seed), *end)


def fit(model, rows=(X, Y), **settings):
    defaults = {"optimizer": nn.SGD(lr=0.1), "verbose": False, "shuffle": False}
    return nn.fit(model, rows, **(defaults | settings))


def errors_of(model):
    """``-log p[t]`` of each row, 0 where it is ignored, written out."""
    z = nn.predict(model, X)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return np.where(Y == -100, 0, -np.log(p[np.arange(10), LABELS]))


# --- what a mean divides by ---


@pytest.mark.parametrize("size", [10, 4, 3])
@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_does_not_depend_on_how_its_rows_are_cut(kind, size):
    model = line([nn.LogSoftmax()] if kind == "nll" else [])
    expected = (COUNTS * errors_of(model)).sum() / COUNTS.sum()
    found = nn.evaluate(model, (X, Y), loss=LOSSES[kind], batch_size=size)["loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    history = fit(model, batch_size=size, loss=LOSSES[kind], optimizer=nn.SGD(lr=0.0))
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-13)


@pytest.mark.parametrize("batches", [2, 3])
def test_accumulated_batches_with_other_weights_are_one_batch(batches):
    model, twin = line(), line()
    settings = {"loss": LOSSES["softmax"], "epochs": 3, "sample_weight": np.linspace(0, 2, 10)}
    fit(model, batch_size=3, accumulate=batches, **settings)
    fit(twin, batch_size=3 * batches, **settings)
    np.testing.assert_allclose(model[0].W.data, twin[0].W.data, rtol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("targets", ["labels", "probabilities"])
def test_weights_of_one_change_nothing(targets, compiled):
    labels = np.tile(LABELS, 20)  # no two batches have the same sum of weights in a row
    y = labels if targets == "labels" else nn.one_hot(labels).astype(float)
    rows = np.tile(X, (20, 1)), y
    settings = {"loss": nn.SoftmaxCrossEntropy(weight=W), "batch_size": 3, "compile": compiled}
    with_ones = fit(model := line(), rows, sample_weight=np.ones(200), epochs=2, **settings)
    without = fit(twin := line(), rows, epochs=2, **settings)
    np.testing.assert_allclose(model[0].W.data, twin[0].W.data, rtol=1e-12)
    np.testing.assert_allclose(with_ones["loss"], without["loss"], rtol=1e-12)


def test_the_weights_of_rows_come_on_top_of_those_of_the_loss():
    weights, model = np.linspace(0, 2, 10), line()
    expected = (weights * COUNTS * errors_of(model)).sum() / COUNTS.sum()
    history = fit(model, batch_size=None, loss=LOSSES["softmax"], sample_weight=weights)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-13)


# --- labels that are ignored ---


def test_a_batch_of_nothing_but_ignored_labels_is_passed_over():
    y = np.where(np.arange(10) // 3 == 1, -100, LABELS)  # the second batch of 3
    kept = y != -100
    model, twin = line(), line()
    settings = {"loss": nn.SoftmaxCrossEntropy(ignore_label=-100), "batch_size": 3, "epochs": 4}
    history = fit(model, (X, y), validation=(X, y), metrics=["accuracy"], **settings)
    again = fit(twin, (X[kept], y[kept]), **settings)
    np.testing.assert_array_equal(model[0].W.data, twin[0].W.data)
    assert history["loss"] == again["loss"]
    measured = nn.evaluate(model, (X, y), loss=settings["loss"], batch_size=3)["loss"]
    np.testing.assert_allclose(history["val_loss"][-1], measured, rtol=1e-13)


def test_labels_of_which_none_counts_are_refused():
    model, y = line(), np.full(10, -100)
    with pytest.raises(ArgumentError, match="at least one row that counts, got labels all ignored"):
        fit(model, (X, y), loss=LOSSES["softmax"])
    with pytest.raises(
        ArgumentError, match="loss: expected at least one row that counts, got none"
    ):
        nn.evaluate(model, (X, y), loss=LOSSES["softmax"])
    np.testing.assert_array_equal(model[0].W.data, line()[0].W.data)


def test_a_class_weight_is_for_the_labels_that_count():
    loss = nn.SoftmaxCrossEntropy(ignore_label=-100)
    counted = Y != -100
    balanced = 8 / (3 * np.bincount(Y[counted]))  # 8 rows of 3 classes
    for given in ("balanced", dict(enumerate(balanced)), list(balanced)):
        model, twin = line(), line()
        fit(model, loss=loss, class_weight=given, batch_size=None)
        fit(twin, (X[counted], Y[counted]), loss=nn.SoftmaxCrossEntropy(), batch_size=None,
            sample_weight=balanced[Y[counted]])  # fmt: skip
        np.testing.assert_allclose(model[0].W.data, twin[0].W.data, rtol=1e-13)


@pytest.mark.parametrize("name", ["accuracy", "f1", "roc_auc"])
def test_metrics_leave_ignored_labels_out(name):
    model, counted = line(), Y != -100
    loss = nn.SoftmaxCrossEntropy(ignore_label=-100)
    expected = getattr(metrics, name)(Y[counted], nn.predict(model, X[counted]))
    history = fit(model, loss=loss, metrics=[name], optimizer=nn.SGD(lr=0.0), validation=(X, Y))
    assert history[name] == history[f"val_{name}"] == [expected]
    assert nn.evaluate(model, (X, Y), loss=loss, metrics=[name])[name] == expected


# --- what metrics of classes are given ---


def test_sequences_are_rows_to_metrics_of_classes():
    x, y = RNG.normal(size=(5, 6, 4)), RNG.integers(0, 3, (5, 6))
    model = line()
    predicted = nn.predict(model, x).argmax(axis=2)
    for targets in (y, nn.one_hot(y).astype(float)):
        found = nn.evaluate(model, (x, targets), metrics=["accuracy", "recall"], batch_size=2)
        assert found["accuracy"] == (predicted == y).mean()
        assert found["recall"] == metrics.recall(y.ravel(), predicted.ravel())


BINARY = {
    "logits": ([], nn.BinaryCrossEntropy(), 0.0),
    "probabilities": ([nn.Sigmoid()], nn.MSE(), 0.5),
    "neither known": ([nn.Sequential(nn.Sigmoid())], None, 0.5),
}


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
@pytest.mark.parametrize("kind", BINARY)
def test_a_single_column_is_the_second_of_two_classes(kind, dtype):
    end, loss, middle = BINARY[kind]
    model = nn.Sequential(nn.Dense(4, 1, rng=1), *end)
    labels = np.array([0, 1, 1, 0, 1, 1, 0, 1, 0, 1])
    outputs = nn.predict(model, X)[:, 0]
    predicted = (outputs > middle).astype(int)
    assert 0 < predicted.sum() < 10
    names = ["accuracy", "precision", "recall", "f1", "roc_auc"]
    found = nn.evaluate(model, (X, labels[:, None].astype(dtype)), loss=loss, metrics=names)
    for name in names[:-1]:
        assert found[name] == getattr(metrics, name)(labels, predicted)
    assert found["roc_auc"] == metrics.roc_auc(labels, outputs)


def test_a_column_that_is_no_class_is_refused_by_metrics_of_classes():
    model, y = nn.Dense(4, 1), np.linspace(0, 1, 10)[:, None]
    with pytest.raises(DtypeError, match="accuracy: expected y_true as integer labels"):
        nn.evaluate(model, (X, y), loss=nn.BinaryCrossEntropy(), metrics=["accuracy"])
    with pytest.raises(ArgumentError, match="accuracy: expected one-hot rows in y_true"):
        nn.evaluate(model, (X, y), loss=nn.MSE(), metrics=["accuracy"])


def test_metrics_that_need_all_rows_are_not_asked_about_a_few(tmp_path):
    order = np.argsort(LABELS, kind="stable")
    x, y = X[order], LABELS[order]  # the first batch has one class
    expected = metrics.roc_auc(y, nn.predict(line(), x))

    def measured(rows):
        still = nn.SGD(lr=0.0)
        settings = {"loss": nn.SoftmaxCrossEntropy(), "metrics": ["roc_auc"], "optimizer": still}
        return fit(line(), rows, **settings)["roc_auc"]

    assert measured(lambda: ((x[i : i + 1], y[i : i + 1]) for i in range(10))) == [expected]
    np.save(tmp_path / "x.npy", np.repeat(x, 100, axis=0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_allclose(measured((mapped, np.repeat(y, 100))), expected, rtol=1e-12)
    regression = lambda: ((x[i : i + 1], x[i : i + 1, :3]) for i in range(10))
    history = fit(line(), regression, metrics=["r2"], loss=nn.MSE(), optimizer=nn.SGD(lr=0.0))
    expected = metrics.r2(x[:, :3], nn.predict(line(), x))
    np.testing.assert_allclose(history["r2"], expected, rtol=1e-12)


def test_arguments_of_a_metric_may_be_fixed():
    x, y = RNG.normal(size=(5, 6, 4)), RNG.integers(0, 3, (5, 6))
    second = partial(metrics.top_k_accuracy, k=2)
    expected = second(y.reshape(-1), nn.predict(line(), x).reshape(-1, 3))
    for rows in ((x, y), lambda: ((x[i : i + 1], y[i : i + 1]) for i in range(5))):
        history = fit(line(), rows, loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=0.0),
                      metrics=[second])  # fmt: skip
        assert history["top_k_accuracy"] == [expected]


# --- a softmax that is taken twice ---


@pytest.mark.parametrize(
    ("end", "loss", "name"),
    [
        (nn.Softmax(), nn.SoftmaxCrossEntropy(), "softmax"),
        (nn.Dense(3, 3, activation="softmax"), nn.SoftmaxCrossEntropy(), "softmax"),
        (nn.Sequential(nn.Dense(3, 3), nn.Sigmoid()), nn.BinaryCrossEntropy(), "sigmoid"),
    ],
)
def test_a_model_that_ends_in_what_its_loss_takes_is_warned_of(end, loss, name):
    text = f"{type(loss).__name__}: expected logits, of which it takes the {name}, got a model"
    with pytest.warns(UserWarning, match=re.escape(text)):
        fit(line([end]), (X, nn.one_hot(LABELS).astype(float)), loss=loss)


def test_a_residual_adds_to_the_softmax_within():
    model = nn.Residual(nn.Dense(4, 4, activation="softmax"))
    fit(model, (X, LABELS), loss=nn.SoftmaxCrossEntropy())  # without a warning
    outputs = nn.predict(model, X)
    e = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    expected = e / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(nn.predict_proba(model, X), expected, rtol=1e-5)
