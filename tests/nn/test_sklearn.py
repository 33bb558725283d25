"""nn.sklearn: scikit-learn's own checks, and the networks that scikit-learn's perceptrons become."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, NonFiniteError, ShapeError

sklearn = pytest.importorskip("sklearn", minversion="1.6")

from sklearn import neural_network as theirs  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_diabetes, load_digits, load_iris  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import nn.sklearn as ours  # noqa: E402
from nn.sklearn import MLPClassifier, MLPRegressor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = load_digits()
X, Y = DIGITS.data[:600] / 16, DIGITS.target[:600]
DIABETES = load_diabetes()
XR, YR = 10 * DIABETES.data, (DIABETES.target - 150) / 80
WEIGHTS = np.random.default_rng(0).random(len(Y)) + 0.1
BOTH = [MLPClassifier, MLPRegressor]


@parametrize_with_checks([kind(max_iter=100) for kind in BOTH])
@pytest.mark.filterwarnings("ignore")  # the checks look at those that matter
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


# --- the same networks as scikit-learn's ---

SGD = {"solver": "sgd", "learning_rate_init": 0.05}
ADAPTIVE = {"learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1, "max_iter": 25}
MULTILABEL = np.c_[Y % 2, Y > 4, Y == 3]
CASES = {
    "adam": (X, Y, {}),
    "adam, several layers": (X, Y, {"hidden_layer_sizes": (20, 15), "alpha": 0.1}),
    "no hidden layer": (X, Y, {"hidden_layer_sizes": ()}),
    "betas": (X, Y, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}),
    "logistic": (X, Y, {"activation": "logistic"}),
    "tanh": (X, Y, {"activation": "tanh"}),
    "identity": (X, Y, {"activation": "identity"}),
    "in order": (X, Y, {"shuffle": False, "batch_size": 64}),
    "nesterov": (X, Y, SGD),
    "momentum": (X, Y, SGD | {"nesterovs_momentum": False}),
    "plain": (X, Y, SGD | {"momentum": 0}),
    "invscaling": (X, Y, SGD | {"learning_rate": "invscaling", "power_t": 0.1}),
    "adaptive": (X, Y, SGD | ADAPTIVE),
    "adaptive, momentum": (X, Y, SGD | ADAPTIVE | {"nesterovs_momentum": False}),
    "early stopping": (X, Y, {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 40}),
    "early stopping, tol 0": (
        X, Y, {"early_stopping": True, "tol": 0, "n_iter_no_change": 1, "max_iter": 40}),
    "stopped by the loss": (X, Y, {"tol": 0.02, "n_iter_no_change": 1, "max_iter": 60}),
    "two classes": (X, Y > 4, {}),
    "two classes, early": (X, Y > 4, {"early_stopping": True}),
    "names": (X, DIGITS.target_names[Y].astype(str), {}),
    "labels that overlap": (X, MULTILABEL, {}),
    "float32": (X.astype(np.float32), Y, {"dtype": "float32"}),
    "lbfgs": (X, Y, {"solver": "lbfgs", "max_iter": 15}),
    "lbfgs, two classes": (X, Y > 4, {"solver": "lbfgs", "max_iter": 15, "activation": "tanh"}),
    "numbers": (XR, YR, {}),
    "numbers, early": (XR, YR, {"early_stopping": True, "n_iter_no_change": 1, "max_iter": 40}),
    "numbers, lbfgs": (XR, YR, {"solver": "lbfgs", "max_iter": 15}),
    "several numbers": (XR, np.c_[YR, YR**2], {}),
    "counts": (XR, DIABETES.target // 20, {"loss": "poisson"}),
    "counts, lbfgs": (XR, DIABETES.target // 20, {"loss": "poisson", "solver": "lbfgs"}),
}  # fmt: skip


def pair(x, y, options):
    """Both estimators, ours in float64 where nothing else is asked for."""
    kind = "MLPRegressor" if x is XR else "MLPClassifier"
    options = {"random_state": 3, "max_iter": 6} | options
    their = {name: value for name, value in options.items() if name != "dtype"}
    if not their.keys() <= getattr(theirs, kind)().get_params().keys():
        pytest.skip("an older scikit-learn without one of these parameters")
    return (
        getattr(ours, kind)(**({"dtype": "float64"} | options)),
        getattr(theirs, kind)(**their),
    )


def assert_same_network(our, their, tolerance=1e-10):
    for found, expected in zip(
        our.coefs_ + our.intercepts_, their.coefs_ + their.intercepts_, strict=True
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("x", "y", "options"), CASES.values(), ids=CASES)
def test_networks_are_those_of_scikit_learn(x, y, options):
    our, their = pair(x, y, options)
    our.fit(x, y)
    their.fit(x, y)
    # L-BFGS amplifies rounding from one iteration to the next; float32 has 7 digits.
    tolerance = {"lbfgs": 1e-7}.get(our.solver, 1e-5 if x.dtype == np.float32 else 1e-10)
    assert_same_network(our, their, tolerance)
    assert (our.n_iter_, our.t_, our.n_outputs_, our.n_layers_, our.out_activation_) == (
        their.n_iter_, their.t_, their.n_outputs_, their.n_layers_, their.out_activation_
    )  # fmt: skip
    if x is XR:
        np.testing.assert_allclose(our.predict(x), their.predict(x), rtol=1e-6)
    else:
        np.testing.assert_array_equal(our.predict(x), their.predict(x))
    if our.n_outputs_ == 1 or x is not XR:  # theirs shows the mean over the outputs
        assert our.loss_ == pytest.approx(their.loss_, rel=max(tolerance, 1e-10))
    if our.solver != "lbfgs":
        assert our.loss_curve_[-1] == our.loss_
        assert our.early_stopping == (our.best_loss_ is None)
    if our.early_stopping:
        assert our.validation_scores_ == pytest.approx(their.validation_scores_, rel=1e-9)
        assert our.best_validation_score_ == pytest.approx(their.best_validation_score_, rel=1e-9)
    if x is not XR:
        np.testing.assert_allclose(
            our.predict_proba(x), their.predict_proba(x), rtol=1e-3, atol=10 * tolerance
        )


@pytest.mark.parametrize("options", [{}, SGD, {"solver": "lbfgs"}], ids=["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("y", [Y, Y > 4], ids=["ten", "two"])
def test_weights_of_rows_are_those_of_scikit_learn(y, options):
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7):
        pytest.skip("scikit-learn's take sample_weight from 1.7 on")
    our, their = pair(X, y, options)
    assert_same_network(
        our.fit(X, y, sample_weight=WEIGHTS), their.fit(X, y, sample_weight=WEIGHTS), 1e-7
    )
    numbers, their = pair(XR, YR, options)
    w = np.random.default_rng(1).random(len(YR))
    assert_same_network(
        numbers.fit(XR, YR, sample_weight=w), their.fit(XR, YR, sample_weight=w), 1e-7
    )


@pytest.mark.parametrize("options", [{}, SGD], ids=["adam", "sgd"])
def test_partial_fit_goes_on_as_scikit_learns_does(options):
    our, their = pair(X, Y, options)
    for rows in np.array_split(np.arange(len(Y)), 4):
        for estimator in (our, their):
            estimator.partial_fit(X[rows], Y[rows], classes=np.arange(10))
    assert_same_network(our, their)
    assert our.loss_curve_ == pytest.approx(their.loss_curve_, rel=1e-10)


def test_partial_fit_of_numbers():
    our, their = pair(XR, YR, {})
    for estimator in (our, their):
        estimator.fit(XR[:200], YR[:200]).partial_fit(XR[200:], YR[200:])
    assert_same_network(our, their)


def test_warm_start_goes_on_as_scikit_learns_does():
    our, their = pair(X, Y, {"warm_start": True})
    for estimator in (our, their):
        estimator.fit(X, Y).set_params(max_iter=3).fit(X[::-1], Y[::-1])
    assert_same_network(our, their)
    assert our.n_iter_ == 3
    assert len(our.loss_curve_) == 9


def test_solver_and_early_stopping_may_change_between_warm_starts():
    model = MLPClassifier(solver="lbfgs", max_iter=3, warm_start=True, random_state=0).fit(X, Y)
    model.set_params(solver="adam").fit(X, Y)
    assert len(model.loss_curve_) == 3
    model.set_params(early_stopping=True).fit(X, Y)
    assert len(model.validation_scores_) == 3
    best = model.best_validation_score_
    model.set_params(early_stopping=False, max_iter=30).fit(X, Y)
    assert model.validation_scores_ is None
    assert model.score(X, Y) > best  # and not the best weights of the fit before


def test_weights_may_be_set_before_going_on():
    model = MLPClassifier(max_iter=3, random_state=0).fit(X, Y)
    model.coefs_[0][:] = 0
    model.intercepts_[0][:] = 0
    np.testing.assert_array_equal(model.predict(X), np.full(len(X), model.predict(X[:1])[0]))
    model.partial_fit(X, Y)
    assert abs(model.coefs_[0]).max() < 0.01  # a few steps of Adam from 0


# --- float32 ---


def test_by_default_the_stochastic_solvers_compute_in_float32(monkeypatch):
    dtypes, record = set(), ours._Watch.on_epoch_end

    def spy(self, run):
        record(self, run)
        dtypes.update(p.dtype for p in run.model.parameters())

    monkeypatch.setattr(ours._Watch, "on_epoch_end", spy)
    model = MLPClassifier(max_iter=30, random_state=3).fit(X, Y)
    assert dtypes == {np.dtype(np.float32)}
    assert model.coefs_[0].dtype == model.predict_proba(X).dtype == np.float64
    double = MLPClassifier(max_iter=30, random_state=3, dtype="float64").fit(X, Y)
    assert_same_network(model, double, tolerance=1e-4)
    assert model.score(X, Y) == pytest.approx(double.score(X, Y), abs=0.002)


# --- the objective, by hand ---


def test_the_objective_is_the_formula():
    rng = np.random.default_rng(0)
    z, W = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    t, w, alpha = np.array([0, 2, 1, 2]), np.array([1.0, 0.5, 0.0, 2.0]), 0.3
    logits, weights = tg.Tensor(z, requires_grad=True), tg.Tensor(W, requires_grad=True)
    objective = ours._Objective(ours._cross_entropy, [weights], alpha, weighted=True)
    loss = objective(logits, np.column_stack([t, w]))
    loss.backward()
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    losses = -np.log(p[np.arange(4), t])
    assert float(loss.data) == pytest.approx(
        ((w * losses).sum() + alpha / 2 * (W**2).sum()) / w.sum(), rel=1e-12
    )
    dz = w[:, None] * (p - np.eye(3)[t]) / w.sum()
    np.testing.assert_allclose(logits.grad, dz, atol=1e-14)
    np.testing.assert_allclose(weights.grad, alpha * W / w.sum(), atol=1e-14)
    # A batch in which nothing counts has no loss, but the penalty, and no nan.
    nothing = objective(tg.Tensor(z), np.column_stack([t, 0 * w]))
    assert float(nothing.data) == pytest.approx(alpha / 2 * (W**2).sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("losses", "targets"),
    [(ours._binary_cross_entropy, [[0, 1], [1, 1], [0, 0]]),
     (ours._half_squares, [[0.5, 1], [2, -1], [0, 0]]),
     (ours._half_poisson_deviance, [[0, 1], [3, 1], [2, 0]])],
    ids=["bernoulli", "squares", "poisson"],
)  # fmt: skip
def test_losses_add_over_the_outputs_of_a_row(losses, targets):
    z, t = np.random.default_rng(0).normal(size=(3, 2)), np.array(targets, dtype=float)
    p = 1 / (1 + np.exp(-z))
    with np.errstate(all="ignore"):
        each = {
            "_binary_cross_entropy": -(t * np.log(p) + (1 - t) * np.log(1 - p)),
            "_half_squares": (z - t) ** 2 / 2,
            "_half_poisson_deviance": np.where(t > 0, t * (np.log(t) - z), 0) - t + np.exp(z),
        }[losses.__name__]
    derivative = {
        "_binary_cross_entropy": p - t, "_half_squares": z - t,
        "_half_poisson_deviance": np.exp(z) - t,
    }[losses.__name__]  # fmt: skip
    np.testing.assert_allclose(losses(tg.Tensor(z), t, "none").data, each.sum(axis=1), rtol=1e-12)
    outputs = tg.Tensor(z, requires_grad=True)
    loss = losses(outputs, t, "mean")
    loss.backward()
    assert float(loss.data) == pytest.approx(each.sum() / 3, rel=1e-12)
    np.testing.assert_allclose(outputs.grad, derivative / 3, atol=1e-14)


def test_the_penalty_has_the_derivative_it_says():
    loss, W = np.array(1.5), np.random.default_rng(0).normal(size=(3, 2))
    assert tg.gradcheck(lambda loss, W: ours.penalised(loss, W, 0.3), [loss, W], order=2).ok


# --- as part of scikit-learn ---


def test_pipelines_searches_and_scores():
    x, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(8, max_iter=60, random_state=0))
    search = GridSearchCV(
        pipeline,
        {"mlpclassifier__learning_rate_init": [1e-5, 0.05], "mlpclassifier__alpha": [0, 1e-3]},
        cv=3,
    ).fit(x, y)
    assert search.best_params_["mlpclassifier__learning_rate_init"] == 0.05
    assert search.best_score_ > 0.93
    assert cross_val_score(pipeline.set_params(**search.best_params_), x, y).mean() > 0.93


def test_clone_and_parameters():
    model = MLPRegressor(7, "tanh", alpha=0.5, loss="poisson", random_state=0)
    again = clone(model.fit(XR, DIABETES.target))
    assert not hasattr(again, "coefs_")
    assert again.get_params() == model.get_params()
    assert repr(again) == (
        "MLPRegressor(activation='tanh', alpha=0.5, hidden_layer_sizes=7, loss='poisson',\n"
        "             random_state=0)"
    )
    assert theirs.MLPRegressor().get_params().keys() <= again.get_params().keys()
    assert {**theirs.MLPClassifier().get_params(), "dtype": None} == MLPClassifier().get_params()


@pytest.mark.parametrize("options", [{}, SGD], ids=["adam", "sgd"])
def test_a_pickled_estimator_goes_on_to_the_same_bits(options):
    model = MLPClassifier(max_iter=3, random_state=0, **options).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        one.partial_fit(X, Y)
    for found, expected in zip(again.coefs_, model.coefs_):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", ["csr_matrix", "csr_array", "csc_array", "coo_array"])
@pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}, {"early_stopping": True}, SGD])
def test_sparse_rows_are_the_rows(form, options):
    sparse = pytest.importorskip("scipy.sparse")
    x = getattr(sparse, form)(X)
    model = MLPClassifier(max_iter=4, random_state=0, **options).fit(x, Y)
    dense = MLPClassifier(max_iter=4, random_state=0, **options).fit(X, Y)
    assert_same_network(model, dense, 1e-7)
    np.testing.assert_allclose(model.predict_proba(x), dense.predict_proba(X), atol=1e-6)
    one = MLPClassifier(random_state=0).partial_fit(x, Y, classes=np.arange(10))
    two = MLPClassifier(random_state=0).partial_fit(X, Y, classes=np.arange(10))
    assert_same_network(one, two, 1e-7)


def test_the_network_is_there_to_be_used():
    model = MLPClassifier((12, 8), activation="gelu", max_iter=20, random_state=0).fit(X, Y)
    network = model.network_
    assert repr(network) == (
        "Sequential(\n  0: Dense(64, 12, activation='gelu')\n  1: Dense(12, 8, activation='gelu')"
        "\n  2: Dense(8, 10)\n)"
    )
    np.testing.assert_allclose(nn.predict_proba(network, X), model.predict_proba(X), rtol=1e-12)
    assert [name for name, _ in network.named_parameters()][:2] == ["0.W", "0.b"]


def test_random_numbers_of_nn_are_left_alone():
    nn.seed(0)
    expected = nn.init.normal()((3,))
    nn.seed(0)
    MLPClassifier(max_iter=2, random_state=0, early_stopping=True).fit(X, Y)
    np.testing.assert_array_equal(nn.init.normal()((3,)), expected)


# --- predictions ---


def test_probabilities_and_their_logarithms():
    for y in (Y, Y > 4, MULTILABEL):
        model = MLPClassifier(max_iter=5, random_state=0).fit(X, y)
        p, log_p = model.predict_proba(X), model.predict_log_proba(X)
        np.testing.assert_allclose(np.log(p), log_p, rtol=1e-9)
        if y.ndim == 1:
            assert p.shape == (len(X), len(model.classes_))
            np.testing.assert_allclose(p.sum(axis=1), 1)
            np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(X))
        else:
            np.testing.assert_array_equal(p > 0.5, model.predict(X))
    far = MLPClassifier((), max_iter=1, random_state=0).fit(X, Y > 4)
    far.coefs_[0] *= 1e6
    assert np.isfinite(far.predict_log_proba(X)).all()


def test_a_single_class_is_certain():
    model = MLPClassifier(max_iter=2).fit(X, np.full(len(X), "a"))
    assert set(model.predict(X)) == {"a"}
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))


# --- what is said ---


def test_progress_is_printed(capsys):
    model = MLPClassifier(max_iter=2, verbose=True, early_stopping=True).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"epoch 1: loss {model.loss_curve_[0]:.8f}"
    assert lines[1] == f"validation score {model.validation_scores_[0]:.6f}"
    assert len(lines) == 4
    MLPClassifier(max_iter=20, tol=10, n_iter_no_change=2, verbose=True).fit(X, Y)
    assert capsys.readouterr().out.splitlines()[-1] == "no better loss for 2 epochs"
    MLPClassifier(verbose=True, **SGD | ADAPTIVE).fit(X, Y)
    assert "learning rate 0.01\n" in capsys.readouterr().out
    MLPClassifier(max_iter=2, solver="lbfgs", verbose=True).fit(X, Y)
    assert re.search(r"^iteration 2: loss \d", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_training_that_did_not_converge_warns(solver):
    with pytest.warns(ConvergenceWarning, match=r"not converged after (max_iter=)?2 "):
        MLPClassifier(max_iter=2, solver=solver).fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(max_iter=3, tol=10, n_iter_no_change=1).fit(X, Y)


def test_ctrl_c_leaves_an_estimator_that_predicts(monkeypatch):
    watch = ours._Watch.on_epoch_end

    def interrupt(self, run):
        watch(self, run)
        if run.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ours._Watch, "on_epoch_end", interrupt)
    model = MLPClassifier(max_iter=50, random_state=0)
    with pytest.warns(UserWarning, match="interrupted after 2 of 50 epochs"):
        model.fit(X, Y)
    assert len(model.loss_curve_) == 2
    assert model.score(X, Y) > 0.1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", BOTH)
def test_a_loss_that_is_not_finite_keeps_the_last_good_weights(kind):
    x, y = (XR, 1e3 * YR) if kind is MLPRegressor else (1e4 * X, Y)
    model = kind(solver="sgd", learning_rate_init=1e6, random_state=0)
    with pytest.raises(NonFiniteError, match=r"fit: (after )?epoch \d+.* Lower the learning rate"):
        model.fit(x, y)
    assert all(np.isfinite(W).all() for W in model.coefs_ + model.intercepts_)


NEGATIVE = np.r_[-1.0, np.ones(len(YR) - 1)]
REFUSED = {
    "solver": ({"solver": "adm"}, X, Y, {}, "MLPClassifier: solver: expected one of "
               "adam, sgd, lbfgs, got 'adm'. Did you mean 'adam'?"),
    "activation": ({"activation": "rleu"}, X, Y, {}, "Did you mean 'relu'"),
    "rate": ({"learning_rate": 0.1}, X, Y, {}, "MLPClassifier: learning_rate: expected"),
    "sizes": ({"hidden_layer_sizes": (10, 0)}, X, Y, {},
              "MLPClassifier: hidden_layer_sizes: expected whole numbers of at least 1, got (10, 0)"),
    "fraction of a unit": ({"hidden_layer_sizes": 1.5}, X, Y, {}, "at least 1, got 1.5."),
    "alpha": ({"alpha": -1}, X, Y, {}, "MLPClassifier: alpha: expected a number in [0, inf), got"),
    "lr": ({"learning_rate_init": 0}, X, Y, {}, "learning_rate_init: expected a number in (0, inf)"),
    "momentum": ({"momentum": 1.0}, X, Y, {}, "momentum: expected a number in [0, 1), got 1.0."),
    "text": ({"tol": "small"}, X, Y, {}, "tol: expected a number in [0, inf), got 'small'."),
    "dtype": ({"dtype": "int32"}, X, Y, {}, "dtype: expected a floating-point dtype, got 'int32'."),
    "iterations": ({"max_iter": 0}, X, Y, {}, "max_iter: expected a whole number of at least 1"),
    "batch": ({"batch_size": 0.5}, X, Y, {}, "whole number of at least 1, or \"auto\", got 0.5."),
    "held out": ({"early_stopping": True, "validation_fraction": 0.001}, X, Y, {},
                 "expected at least 2 rows held out, got 1 of 600."),
    "weights": ({}, X, Y, {"sample_weight": WEIGHTS[:5]}, "expected sample_weight (600,), got (5,)."),
    "negative weights": ({}, X, Y, {"sample_weight": -WEIGHTS}, "expected sample_weight >= 0 and"),
    "lengths": ({}, X, Y[:9], {}, "inconsistent numbers of samples: [600, 9]"),
    "no rows": ({}, X[:0], Y[:0], {}, "Found array with 0 sample(s)"),
    "nan": ({}, np.where(X > 0.99, np.nan, X), Y, {}, "Input X contains NaN."),
    "labels that are numbers": ({}, X, Y + 0.5, {}, "Unknown label type: continuous"),
    "two sets of labels": ({}, X, np.c_[Y, Y], {}, "MLPClassifier: y: expected labels (N,), or 0"),
    "loss": ({"loss": "square"}, XR, YR, {}, "MLPRegressor: loss: expected one of "
             "squared_error, poisson, got 'square'. Did you mean 'squared_error'?"),
    "counts": ({"loss": "poisson"}, XR, NEGATIVE, {}, 'numbers >= 0 for loss="poisson", got -1.0.'),
}  # fmt: skip


@pytest.mark.parametrize(("options", "x", "y", "more", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(options, x, y, more, text):
    kind = MLPRegressor if x is XR else MLPClassifier
    with pytest.raises(ValueError, match=re.escape(text)):
        kind(**options).fit(x, y, **more)


def test_use_before_fit_is_refused():
    for kind in BOTH:
        with pytest.raises(NotFittedError):
            kind().predict(X)
    with pytest.raises(
        ArgumentError, match=r"classes in the first call, got none\. Give all labels"
    ):
        MLPClassifier().partial_fit(X, Y)
    with pytest.raises(AttributeError, match="no attribute 'partial_fit'") as info:
        MLPClassifier(solver="lbfgs").partial_fit  # noqa: B018
    assert "the solver lbfgs needs all rows" in str(info.value.__cause__)
    with pytest.raises(ArgumentError, match="leave none to hold out"):
        MLPClassifier(early_stopping=True).partial_fit(X, Y, classes=range(10))


def test_other_classes_or_outputs_than_before_are_refused():
    model = MLPClassifier(max_iter=1, warm_start=True).fit(X, Y)
    with pytest.raises(ArgumentError, match=r"the classes \[0, 1, .* 9\] of the fit before, got"):
        model.fit(X, Y % 5)
    model = MLPClassifier().partial_fit(X[:5], Y[:5], classes=range(10))
    with pytest.raises(ArgumentError, match=r"labels among \[0, .*, got \[99\] too"):
        model.partial_fit(X[:5], np.full(5, 99))
    with pytest.raises(ArgumentError, match=r"classes=\[0, .* as in the first call, got \[0, 1\]"):
        model.partial_fit(X[:5], Y[:5], classes=[0, 1])
    with pytest.raises(ShapeError, match=r"MLPRegressor: y: expected 1 outputs, .* got 2"):
        MLPRegressor(max_iter=1, warm_start=True).fit(XR, YR).fit(XR, np.c_[YR, YR])
    with pytest.raises(ValueError, match=r"X has 63 features, but MLPClassifier is expecting 64"):
        model.predict(X[:, 1:])


def test_a_batch_of_more_rows_than_there_are_warns():
    with pytest.warns(UserWarning, match="batch_size=1000 is more than the 600 rows there are"):
        MLPClassifier(max_iter=1, batch_size=1000).fit(X, Y)


def test_nn_does_not_import_scikit_learn_and_its_absence_is_named():
    code = (
        "import sys, nn; assert 'sklearn' not in sys.modules\n"
        "sys.modules['sklearn.base'] = None\n"
        "try: import nn.sklearn\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        'nn.sklearn needs scikit-learn 1.6 or newer: pip install "tinygrad-np[sklearn]"\n'
    )
