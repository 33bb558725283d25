"""A model with ``.params`` and ``.loss(X, y)`` is trained as it is."""

from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn.byhand import with_gradient
from tinygrad_np.errors import ArgumentError, DtypeError, IndexingError, NonFiniteError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = (X[:, 0] > 0) * 1 + (X[:, 1] > 0) * 1


class TwoLayers:
    """Affine, ReLU, affine, softmax; an L2 penalty; as students write it."""

    def __init__(self, reg=0.0, dtype=np.float64):
        rng = np.random.default_rng(1)
        self.reg = reg
        self.params = {
            "W1": rng.normal(size=(4, 6)).astype(dtype), "b1": np.zeros(6, dtype),
            "W2": rng.normal(size=(6, 3)).astype(dtype), "b2": np.zeros(3, dtype),
        }  # fmt: skip

    def loss(self, X, y=None):
        W1, b1, W2, b2 = (self.params[name] for name in ("W1", "b1", "W2", "b2"))
        h = np.maximum(X @ W1 + b1, 0)
        scores = h @ W2 + b2
        if y is None:
            return scores
        n = len(y)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(n), y]).mean() + self.reg * ((W1**2).sum() + (W2**2).sum())
        dscores = p
        dscores[np.arange(n), y] -= 1
        dscores /= n
        dh = dscores @ W2.T * (h > 0)
        grads = {
            "W1": X.T @ dh + 2 * self.reg * W1, "b1": dh.sum(axis=0),
            "W2": h.T @ dscores + 2 * self.reg * W2, "b2": dscores.sum(axis=0),
        }  # fmt: skip
        return loss, grads


def twin():
    """The same network of layers."""
    params = TwoLayers().params
    return nn.Sequential(
        nn.Dense(4, 6, activation="relu", weights_init=params["W1"], dtype=np.float64),
        nn.Dense(6, 3, weights_init=params["W2"], dtype=np.float64),
    )


def arrays(model):
    return list(model.params.values())


SETTINGS = {
    "sgd": {"optimizer": lambda: nn.SGD(lr=0.1)},
    "momentum": {"optimizer": lambda: nn.SGD(lr=0.1, momentum=0.9)},
    "adam": {"optimizer": lambda: nn.Adam(lr=0.01)},
    "lbfgs": {"optimizer": lambda: nn.LBFGS(), "batch_size": None, "epochs": 5},
    "accumulated": {"optimizer": lambda: nn.SGD(lr=0.1), "accumulate": 2},
    "clipped": {"optimizer": lambda: nn.SGD(lr=0.1), "clip_norm": 0.1},
    "scheduled": {"optimizer": lambda: nn.SGD(lr=0.1), "schedule": lambda: nn.StepDecay(size=2)},
    "in order": {"optimizer": lambda: nn.SGD(lr=0.1), "shuffle": False},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_it_is_trained_as_the_same_network_of_layers(settings):
    common = {"epochs": 4, "batch_size": 7, "seed": 3, "metrics": ["accuracy"]} | settings

    def made():
        return {name: value() if callable(value) else value for name, value in common.items()}

    byhand, layers = TwoLayers(), twin()
    history = nn.fit(byhand, (X, Y), **made())
    expected = nn.fit(layers, (X, Y), loss=nn.SoftmaxCrossEntropy(), **made())
    for found, parameter in zip(arrays(byhand), layers.parameters(), strict=True):
        np.testing.assert_allclose(found, parameter.data, rtol=1e-11, atol=1e-13)
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-11)


def test_it_is_trained_as_by_the_loop_one_would_write():
    byhand, model = TwoLayers(reg=0.01), TwoLayers(reg=0.01)
    nn.fit(byhand, (X, Y), optimizer=nn.SGD(lr=0.1), epochs=3, batch_size=8, shuffle=False)
    for _ in range(3):
        for start in range(0, 40, 8):
            _, grads = model.loss(X[start : start + 8], Y[start : start + 8])
            for name, gradient in grads.items():
                model.params[name] = model.params[name] - 0.1 * gradient
    for found, expected in zip(arrays(byhand), arrays(model)):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_single_step_reaches_the_model_and_its_first_arrays_stay_as_they_were():
    model = TwoLayers()
    before = model.params["W1"]
    first = before.copy()
    nn.fit(model, (X, Y), optimizer=nn.SGD(lr=0.1), batch_size=None)
    assert not np.array_equal(model.params["W1"], first)
    np.testing.assert_array_equal(before, first)


def test_validation_metrics_and_predictions_are_of_the_scores():
    model = TwoLayers()
    history = nn.fit(
        model, (X, Y), optimizer=nn.Adam(lr=0.02), epochs=30, batch_size=8, seed=0,
        validation=(X, Y), metrics=["accuracy"],
        callbacks=[nn.EarlyStopping(monitor="val_accuracy", patience=30)],
    )  # fmt: skip
    assert history["val_accuracy"][-1] > 0.8
    assert "val_loss" not in history
    scores = nn.predict(model, X)
    np.testing.assert_array_equal(scores, model.loss(X))
    np.testing.assert_allclose(nn.predict_proba(model, X), tg.softmax(scores))
    assert nn.evaluate(model, (X, Y), metrics=["accuracy"]) == {
        "accuracy": (scores.argmax(axis=1) == Y).mean()
    }
    assert nn.evaluate(model, (X, Y), loss=nn.SoftmaxCrossEntropy())["loss"] == pytest.approx(
        model.loss(X, Y)[0], rel=1e-12
    )


def test_scores_are_computed_for_metrics_only_and_losses_for_training_only():
    calls = []

    class Spy(TwoLayers):
        def loss(self, X, y=None):
            calls.append((len(X), y is None))
            return super().loss(X, y)

    nn.fit(Spy(), (X, Y), optimizer=nn.SGD(lr=0.1), batch_size=20)
    assert calls == [(1, True), (20, False), (20, False)]  # a row is tried before training
    calls.clear()
    nn.fit(Spy(), (X, Y), optimizer=nn.SGD(lr=0.1), batch_size=40, metrics=["accuracy"])
    assert calls == [(1, True), (40, False), (40, True)]
    calls.clear()
    nn.evaluate(Spy(), (X, Y), metrics=["accuracy"])
    assert calls == [(40, True)]


def test_dtypes_stay():
    model = TwoLayers(dtype=np.float32)
    nn.fit(model, (X.astype(np.float32), Y), optimizer=nn.Adam(lr=0.01), epochs=2)
    assert {array.dtype for array in arrays(model)} == {np.dtype(np.float32)}


def test_a_killed_run_is_resumed_to_the_same_bits(tmp_path):
    path = tmp_path / "run.npz"

    def run(epochs, model, **more):
        nn.fit(model, (X, Y), optimizer=nn.Adam(lr=0.01), epochs=epochs, batch_size=8,
               callbacks=[nn.Checkpoint(path)], **more)  # fmt: skip
        return model

    whole = run(6, TwoLayers(), seed=1)
    path.unlink()
    run(3, TwoLayers(), seed=1)
    resumed = run(6, TwoLayers(), resume=path)
    for found, expected in zip(arrays(resumed), arrays(whole)):
        np.testing.assert_array_equal(found, expected)


def test_a_loss_without_scores_is_trained():
    class OnlyLoss(TwoLayers):
        def loss(self, X, y):
            return super().loss(X, y)

    model, same = OnlyLoss(), TwoLayers()
    for one in (model, same):
        nn.fit(one, (X, Y), optimizer=nn.SGD(lr=0.1), epochs=2, seed=0)
    np.testing.assert_array_equal(model.params["W1"], same.params["W1"])
    with pytest.raises(
        ArgumentError, match=r"OnlyLoss\.loss\(X\), which gives the scores, got only"
    ):
        nn.fit(model, (X, Y), optimizer=nn.SGD(lr=0.1), metrics=["accuracy"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_leaves_the_last_good_weights():
    class Breaks(TwoLayers):
        calls = 0

        def loss(self, X, y=None):
            if y is None:
                return super().loss(X)
            self.calls += 1
            loss, grads = super().loss(X, y)
            return (np.nan, grads) if self.calls == 4 else (loss, grads)

    model, good = Breaks(), TwoLayers()
    with pytest.raises(
        NonFiniteError, match=r"fit: epoch 1, step 4: expected a finite loss, got na"
    ):
        nn.fit(model, (X, Y), optimizer=nn.SGD(lr=0.1), batch_size=8, shuffle=False)
    nn.fit(good, (X[:24], Y[:24]), optimizer=nn.SGD(lr=0.1), batch_size=8, shuffle=False)
    for found, expected in zip(arrays(model), arrays(good)):
        np.testing.assert_array_equal(found, expected)


def returning(value):
    class Model(TwoLayers):
        def loss(self, X, y=None):
            loss, grads = super().loss(X, Y[: len(X)])
            return super().loss(X) if y is None else value(loss, grads)

    return Model()


REFUSED = {
    "no tuple": (returning(lambda loss, grads: loss), {}, ArgumentError,
                 "Model.loss(X, y): expected (loss, grads), got a float64."),
    "no dict": (returning(lambda loss, grads: (loss, list(grads))), {}, ArgumentError,
                "expected a number and a dict of gradients, got () and a list."),
    "no number": (returning(lambda loss, grads: (np.ones(3), grads)), {}, ArgumentError,
                  "expected a number and a dict of gradients, got (3,) and a dict."),
    "no gradient": (returning(lambda loss, grads: (loss, {"W1": grads["W1"]})), {}, ArgumentError,
                    "expected gradients of W1, b1, W2, b2, got none of b1, W2, b2."),
    "transposed": (returning(lambda loss, grads: (loss, grads | {"W1": grads["W1"].T})), {},
                   ShapeError, "expected a gradient (4, 6) of 'W1', got (6, 4). tg.check_backprop"),
    "labels": (TwoLayers(), {"data": (X, Y + 1)}, IndexingError,
               "fit: y for TwoLayers: expected labels in 0 ... 2 for 3 scores, got 1 ... 3."),
    "two losses": (TwoLayers(), {"loss": nn.MSE()}, ArgumentError,
                   "fit: expected no loss, for TwoLayers.loss is it, got MSE(). Leave loss= out."),
    "what to validate": (TwoLayers(), {"validation": (X, Y)}, ArgumentError,
                         "TwoLayers.loss(X, y) is for training. Give metrics=[\"accuracy\"]."),
    "weights": (TwoLayers(), {"sample_weight": np.ones(40)}, ArgumentError,
                "fit: weights: expected a loss of nn.losses"),
    "nan": (TwoLayers(), {"data": (np.where(X > 1, np.nan, X), Y)}, NonFiniteError,
            "fit: expected finite numbers in x of shape (40, 4), got nan"),
    "lengths": (TwoLayers(), {"data": (X, Y[:9])}, ShapeError, "got x (40, 4), y (9,)."),
    "no model": (object(), {}, DtypeError, "fit: expected an nn.Module, or a model with .params, a "
                 "dict of arrays, and .loss(X, y), got a object."),
    "no loss": (nn.Dense(4, 3), {}, ArgumentError, "fit: expected a loss, got none."),
}  # fmt: skip


@pytest.mark.parametrize(("model", "settings", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(model, settings, error, text):
    before = {name: array.copy() for name, array in getattr(model, "params", {}).items()}
    with pytest.raises(error, match=re.escape(text)):
        nn.fit(model, **{"data": (X, Y), "optimizer": nn.SGD(lr=0.1)} | settings)
    for name, array in before.items():
        np.testing.assert_array_equal(model.params[name], array)


def test_parameters_that_are_no_arrays_of_numbers_are_refused():
    model = TwoLayers()
    model.params["layers"] = 2
    with pytest.raises(
        DtypeError, match=r"TwoLayers\.params\['layers'\]: expected a floating-point"
    ):
        nn.fit(model, (X, Y), optimizer=nn.SGD(lr=0.1))


def test_the_given_gradient_is_passed_on_times_the_cotangent():
    p = tg.Tensor(np.ones((2, 3)), requires_grad=True)
    given = np.arange(6.0).reshape(2, 3)
    loss = with_gradient(tg.Tensor(5.0), p, given)
    (loss * 3).backward()
    assert float(loss.data) == 5
    np.testing.assert_array_equal(p.grad, 3 * given)
