"""scikit-learn's multi-layer perceptrons, trained by `nn`: estimators for pipelines and searches.

Parameters, attributes and random numbers are those of ``sklearn.neural_network``: in float64 a fit
with the same ``random_state`` goes through the same weights. By default the stochastic solvers
compute in float32 on data that is not small: its rounding is far below their noise, and they take
half the time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import chain, pairwise
from math import inf, prod, sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import tinygrad_np as tg
from nn.callbacks import Callback, Run
from nn.layers import Dense, Sequential
from nn.layers.activation import ACTIVATIONS
from nn.losses import HalfSquaredError
from nn.names import check_name, named
from nn.optim import SGD, Adam, Optimizer
from nn.train import fit, predict
from tinygrad_np.errors import ArgumentError, NonFiniteError, ShapeError, message

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        'nn.sklearn needs scikit-learn 1.6 or newer: pip install "tinygrad-np[sklearn]"'
    ) from error

__all__ = ["MLPClassifier", "MLPRegressor"]

Array = NDArray[Any]

SOLVERS = ("adam", "sgd", "lbfgs")
RATES = ("constant", "invscaling", "adaptive")
LOSSES = ("squared_error", "poisson")
# Those of scikit-learn, and the names they have in nn; then all of nn.
NAMES = {"identity": "linear", "logistic": "sigmoid"} | {name: name for name in ACTIVATIONS}
SMALLEST = 1e-6  # the learning rate from which "adaptive" does not go on
SMALL = 10_000  # numbers in X, up to which the calls and not the numbers take the time
DENSE = 1024  # rows of a sparse matrix that are made dense at a time, when they are predicted


# --------------------------------------------------------------------------------------------------
# What is minimised
# --------------------------------------------------------------------------------------------------


@tg.primitive("{loss} + {c} / 2 * np.vdot({W}, {W})")  # type: ignore[untyped-decorator]
def penalised(loss: Any, W: Any, c: float) -> Any:
    """``y = loss + c/2 |W|^2``; ``dW = c W``."""
    return loss + loss.dtype.type(c / 2) * np.vdot(W, W)


penalised.vjp(
    loss=lambda g: g,
    W=lambda g, W, c: g * c * W,
)


def _cross_entropy(z: Any, t: Array, reduction: str) -> Any:
    """Of logits (N, K) and labels (N,)."""
    return tg.softmax_cross_entropy(z, t, reduction)


def _binary_cross_entropy(z: Any, t: Array, reduction: str) -> Any:
    """Of logits (N, K) and K labels a row, each 0 or 1; their sum."""
    losses = tg.sum(tg.binary_cross_entropy(z, t, "none"), axis=1)
    return losses if reduction == "none" else losses.mean()


def _half_squares(z: Any, t: Array, reduction: str) -> Any:
    """Of outputs and targets (N, K); their sum in a row."""
    return HalfSquaredError(reduction)(z, t)


def _half_poisson_deviance(z: Any, t: Array, reduction: str) -> Any:
    """``t log(t / y) - t + y`` of the rates ``y = exp(z)``, with ``0 log 0 = 0``."""
    at_best = t * np.log(np.where(t > 0, t, 1)) - t
    losses = tg.sum(tg.exp(z) - z * t + at_best, axis=1)
    return losses if reduction == "none" else losses.mean()


@dataclass
class _Objective:
    """``(sum_n w_n L_n + alpha/2 sum |W|^2) / sum_n w_n`` over the rows of a batch.

    Weights of rows lie in the last column of the targets, where there are any.
    """

    losses: Callable[[Any, Array, str], Any]
    coefs: list[tg.Tensor]
    alpha: float
    weighted: bool

    def __call__(self, z: Any, t: Array) -> Any:
        if self.weighted:
            t, w = t[:, :-1], t[:, -1]
            total = float(w.sum()) or 1.0  # a batch whose rows all weigh nothing
            if self.losses is _cross_entropy:
                t = t[:, 0].astype(np.intp)
            loss = tg.sum(self.losses(z, t, "none") * (w / total).astype(z.dtype))
        else:
            total = len(t)
            loss = self.losses(z, t, "mean")
        if self.alpha:
            for W in self.coefs:
                loss = penalised(loss, W, self.alpha / total)
        return loss


@dataclass(kw_only=True, eq=False, repr=False)
class _SGD(SGD):
    """Gradient descent whose velocity contains the learning rate, ``v = momentum v - lr g``.

    That is, ``lr v`` stays what it is when the rate changes.
    """

    def states(self) -> dict[str, float]:
        return dict.fromkeys(super().states(), self.lr)


@dataclass(kw_only=True, eq=False, repr=False)
class _Adam(Adam):
    """Adam in the efficient order of its paper's section 2: ``eps`` beside the biased ``sqrt(v)``."""

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        *others, _ = super().coefficients(n)
        return *others, self.eps / sqrt(1 - self.betas[1])


# --------------------------------------------------------------------------------------------------
# Estimators
# --------------------------------------------------------------------------------------------------


def _is_stochastic(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit: the solver lbfgs needs all rows; sgd and adam do not.")
    return True


@dataclass(eq=False, repr=False)
class _Perceptron(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifier and regressor share: all but targets, loss and predictions."""

    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"
    _: KW_ONLY
    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000
    dtype: DTypeLike | None = None

    # -- what differs ------------------------------------------------------------------------------

    def _targets(self, y: Array, known: bool, classes: ArrayLike | None) -> Array:
        """The targets of the loss: labels (N,), or (N, K)."""
        raise NotImplementedError

    def _output(self, targets: Array) -> tuple[int, str]:
        """The number of outputs, and the name of what makes predictions of them."""
        raise NotImplementedError

    def _losses(self) -> Callable[[Any, Array, str], Any]:
        raise NotImplementedError

    def _predicted(self, outputs: Array) -> Array:
        """Predictions for the outputs of the last layer."""
        raise NotImplementedError

    def _score(self, y: Array, predicted: Array, sample_weight: Array | None) -> float:
        raise NotImplementedError

    # -- fit and predict ---------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train on all rows, anew unless ``warm_start``.

        Parameters
        ----------
        X : array_like or sparse matrix (N, features)
            Rows of a sparse matrix are made dense a batch at a time; all of them for lbfgs.
        y : array_like (N,) or (N, outputs)
        sample_weight : array_like (N,), optional
            Factors of the rows' losses, whose mean is weighted.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data or parameters that do not fit.
        NonFiniteError
            When the loss is not finite; the weights are the last that gave one that was.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None,
        incremental: bool,
        classes: ArrayLike | None = None,
    ) -> Self:
        self._check_parameters(incremental)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, dtype=(np.float64, np.float32),
            y_numeric=isinstance(self, RegressorMixin), reset=first,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weights = None if sample_weight is None else self._weights(sample_weight, len(y))
        targets = self._targets(y, not first, classes)
        rng = check_random_state(self.random_state)
        if first:
            self._begin(X, targets, rng)
        elif self._output(targets)[0] != self.n_outputs_:
            raise ShapeError(
                message(f"{type(self).__name__}: y", f"{self.n_outputs_} outputs, as in the fit "
                        "before", f"{self._output(targets)[0]}", "Fit without warm_start.")
            )  # fmt: skip
        network, optimizer = self._trained(incremental, X)
        objective = _Objective(
            self._losses(), network.parameters()[::2], self.alpha, weights is not None
        )
        parts = [X, targets if weights is None else np.column_stack([targets, weights])]
        try:
            if optimizer is None:
                self._minimise(network, objective, *parts)
            else:
                self._descend(network, optimizer, objective, parts, y, weights, rng, incremental)
        finally:
            self._keep(network, X.dtype)
        return self

    def predict(self, X: Any) -> Array:
        """The predictions for all rows of X (N, features)."""
        return self._predicted(self._outputs(X))

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self, "coefs_")
        X = validate_data(
            self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False
        )  # fmt: skip
        return _outputs(self.network_, X)

    # -- the network -------------------------------------------------------------------------------

    @property
    def network_(self) -> Sequential:
        """The layers with the present weights, as a new `nn.Sequential`; it ends in logits."""
        return self._network(self.coefs_[0].dtype)

    def _network(self, dtype: DTypeLike) -> Sequential:
        names = [NAMES.get(self.activation, self.activation)] * (len(self.coefs_) - 1) + ["linear"]
        return Sequential(
            *[
                Dense(*W.shape, activation=name, weights_init=W, bias_init=b, dtype=dtype)
                for W, b, name in zip(self.coefs_, self.intercepts_, names)
            ]
        )

    def _begin(self, X: Any, targets: Array, rng: np.random.RandomState) -> None:
        """First weights: uniform within the bound of Glorot and Bengio (2010), intercepts too."""
        self.n_outputs_, self.out_activation_ = self._output(targets)
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=int)).tolist()
        sizes = [X.shape[1], *hidden, self.n_outputs_]
        factor = 2.0 if self.activation in ("logistic", "sigmoid") else 6.0
        self.coefs_: list[Array] = []
        self.intercepts_: list[Array] = []
        for m, n in pairwise(sizes):
            bound = sqrt(factor / (m + n))
            self.coefs_.append(rng.uniform(-bound, bound, (m, n)).astype(X.dtype))
            self.intercepts_.append(rng.uniform(-bound, bound, n).astype(X.dtype))
        self.n_layers_ = len(sizes)
        self.n_iter_ = self.t_ = 0
        self._watched: bool | None = None  # what the records are of

    def _begin_records(self) -> None:
        """What is kept of each epoch, and goes on with `warm_start` and `partial_fit`."""
        self._watched = bool(self.early_stopping)
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_ = -inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else inf
        self._waited = 0
        self._best: list[Array] = []

    def _trained(self, incremental: bool, X: Any) -> tuple[Sequential, Optimizer | None]:
        """The network to train and its optimizer, which go on where `partial_fit` left them."""
        usual = X.dtype if prod(X.shape) < SMALL else np.float32
        dtype = np.dtype(self.dtype or (np.float64 if self.solver == "lbfgs" else usual))
        if self.solver == "lbfgs":
            return self._network(dtype), None
        before: tuple[Sequential, Optimizer] | None = getattr(self, "_training", None)
        if incremental and before is not None and self.dtype is None:
            dtype = before[0][0].dtype  # batches may be small and large
        if incremental and before is not None and before[0][0].dtype == dtype:
            values = chain(*zip(self.coefs_, self.intercepts_))
            for parameter, value in zip(before[0].parameters(), values):
                parameter.data = value.astype(dtype)
            return before
        network = self._network(dtype)
        parameters = network.parameters()
        optimizer: Optimizer = (
            _SGD(
                parameters, lr=self.learning_rate_init, momentum=self.momentum,
                nesterov=bool(self.nesterovs_momentum and self.momentum > 0),
            )
            if self.solver == "sgd"
            else _Adam(
                parameters, lr=self.learning_rate_init, betas=(self.beta_1, self.beta_2),
                eps=self.epsilon,
            )
        )  # fmt: skip
        self._training = network, optimizer
        return network, optimizer

    def _keep(self, network: Sequential, dtype: DTypeLike) -> None:
        """Take over the network's weights."""
        values = [parameter.data.astype(dtype) for parameter in network.parameters()]
        self.coefs_, self.intercepts_ = values[::2], values[1::2]

    # -- solvers -----------------------------------------------------------------------------------

    def _descend(
        self,
        network: Sequential,
        optimizer: Optimizer,
        objective: _Objective,
        parts: list[Any],
        y: Array,
        weights: Array | None,
        rng: np.random.RandomState,
        incremental: bool,
    ) -> None:
        """Batch after batch, epoch after epoch, until the loss or the score improves no more."""
        held_out = None
        if self._watched != self.early_stopping:
            self._begin_records()
        if self.early_stopping:
            parts, held_out = self._split(parts, y, weights, rng)
        X, targets = parts
        n = len(targets)
        wanted = 200 if isinstance(self.batch_size, str) else self.batch_size
        if wanted > n and wanted == self.batch_size:
            warnings.warn(
                f"batch_size={wanted} is more than the {n} rows there are: it is {n}.", stacklevel=4
            )
        size = min(wanted, n)
        order = _Order(n, rng) if self.shuffle else np.arange
        X = X.astype(network[0].dtype, copy=False)
        watch = _Watch(self, n, held_out)
        self.n_iter_ = 0
        fit(
            network,
            (lambda: _dense_batches(X, targets, size, order)) if _is_sparse(X) else (X, targets),
            loss=objective, optimizer=optimizer, epochs=1 if incremental else self.max_iter,
            batch_size=size, shuffle=order if self.shuffle else False, verbose=False,
            callbacks=[watch],
        )  # fmt: skip
        if self._best:
            for parameter, best in zip(network.parameters(), self._best):
                parameter.data = best
        if not (incremental or watch.stopped) and self.n_iter_ == self.max_iter:
            warnings.warn(
                f"{type(self).__name__}: not converged after max_iter={self.max_iter} epochs; the "
                f"loss is {self.loss_:.6g}.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _split(
        self, parts: list[Any], y: Array, weights: Array | None, rng: np.random.RandomState
    ) -> tuple[list[Any], tuple[Any, Array, Array | None]]:
        """Rows to train on, and inputs, true values and weights that are held out."""
        arrays = [*parts, y] + ([] if weights is None else [weights])
        binary = isinstance(self, ClassifierMixin) and self.n_outputs_ == 1
        X, X_out, t, _, _, y_out, *w = train_test_split(
            *arrays, test_size=self.validation_fraction, random_state=rng,
            stratify=y if binary else None,
        )  # fmt: skip
        if len(y_out) < 2:
            raise ArgumentError(
                message(f"{type(self).__name__}: validation_fraction", "at least 2 rows held out",
                        f"{len(y_out)} of {len(y)}", "Give a larger one, or more rows.")
            )  # fmt: skip
        return [X, t], (X_out, y_out, w[1] if w else None)

    def _minimise(self, network: Sequential, objective: _Objective, X: Any, targets: Array) -> None:
        """All rows at once, by SciPy's L-BFGS-B."""
        from scipy.optimize import minimize

        x = (X.toarray() if _is_sparse(X) else X).astype(network[0].dtype, copy=False)
        parameters = network.parameters()
        ends = np.cumsum([p.size for p in parameters])[:-1]

        def place(flat: Array) -> None:
            for p, part in zip(parameters, np.split(flat, ends)):
                p.data = part.reshape(p.shape).astype(p.dtype)

        def loss_and_gradient(flat: Array) -> tuple[float, Array]:
            place(flat)
            network.zero_grad()
            loss = objective(network(x), targets)
            loss.backward()
            gradient = np.concatenate([np.ravel(p.grad) for p in parameters])  # type: ignore[arg-type]
            return float(loss.item()), gradient.astype(np.float64)

        def show(flat: Array) -> None:
            self.n_iter_ += 1
            print(
                f"iteration {self.n_iter_}: loss {float(objective(network(x), targets).data):.8f}"
            )

        self.n_iter_ = 0
        start = np.concatenate([p.data.ravel() for p in parameters]).astype(np.float64)
        result = minimize(
            loss_and_gradient, start, method="L-BFGS-B", jac=True,
            callback=show if self.verbose else None,
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )  # fmt: skip
        if not np.isfinite(result.fun):
            place(start)
            raise NonFiniteError(
                message(f"{type(self).__name__}: lbfgs", "a finite loss", f"{result.fun}",
                        "Standardise X (sklearn.preprocessing.StandardScaler).")
            )  # fmt: skip
        place(result.x)
        self.n_iter_, self.loss_ = min(int(result.nit), self.max_iter), float(result.fun)
        if result.status == 1:
            warnings.warn(
                f"{type(self).__name__}: not converged after {result.nit} iterations and "
                f"{result.nfev} losses (max_iter={self.max_iter}, max_fun={self.max_fun}); the "
                f"loss is {self.loss_:.6g}.",
                ConvergenceWarning,
                stacklevel=4,
            )

    # -- what is refused ---------------------------------------------------------------------------

    def _check_parameters(self, incremental: bool) -> None:
        kind = type(self).__name__
        named(f"{kind}: activation", self.activation, dict.fromkeys(NAMES, tg.relu))
        check_name(f"{kind}: solver", self.solver, SOLVERS)
        check_name(f"{kind}: learning_rate", self.learning_rate, RATES)
        sizes = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if sizes.ndim > 1 or (sizes.size and sizes.dtype.kind not in "iu") or (sizes <= 0).any():
            raise ArgumentError(
                message(f"{kind}: hidden_layer_sizes", "whole numbers of at least 1",
                        f"{self.hidden_layer_sizes!r}")
            )  # fmt: skip
        counts = {"max_iter": 1, "max_fun": 1}
        if self.batch_size != "auto":
            counts["batch_size"] = 1
        for name, least in counts.items():
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < least:
                extra = ', or "auto"' if name == "batch_size" else ""
                raise ArgumentError(
                    message(f"{kind}: {name}", f"a whole number of at least {least}{extra}",
                            repr(value))
                )  # fmt: skip
        for name, interval in RANGES.items():
            value = getattr(self, name)
            if not _within(value, interval):
                raise ArgumentError(
                    message(f"{kind}: {name}", f"a number in {interval}", repr(value))
                )
        if self.dtype is not None and np.dtype(self.dtype).kind != "f":
            raise ArgumentError(
                message(f"{kind}: dtype", "a floating-point dtype", repr(self.dtype))
            )
        if self.early_stopping and incremental:
            raise ArgumentError(
                message(f"{kind}.partial_fit", "early_stopping=False", "True",
                        "Rows that come piece by piece leave none to hold out.")
            )  # fmt: skip

    def _weights(self, given: ArrayLike, n: int) -> Array:
        weights = np.asarray(given, dtype=np.float64)
        if weights.shape != (n,):
            raise ShapeError(
                message(type(self).__name__, f"sample_weight ({n},)", f"{weights.shape}")
            )
        if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
            raise ArgumentError(
                message(type(self).__name__, "sample_weight >= 0 and finite, and not all of the weights zero",
                        f"{weights.min()} to {weights.max()}")
            )  # fmt: skip
        return weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


RANGES = {
    "alpha": "[0, inf)", "learning_rate_init": "(0, inf)", "power_t": "[0, inf)",
    "tol": "[0, inf)", "momentum": "[0, 1)", "beta_1": "[0, 1)", "beta_2": "[0, 1)",
    "epsilon": "(0, inf)", "validation_fraction": "(0, 1)", "n_iter_no_change": "[1, inf]",
}  # fmt: skip


def _within(value: Any, interval: str) -> bool:
    """Whether it is a number in an interval, such as ``[0, 1)``."""
    low, high = map(float, interval[1:-1].split(","))
    inside = isinstance(value, int | float | np.number) and low <= value <= high
    left, right = (interval[0] == "(" and value == low), (interval[-1] == ")" and value == high)
    return bool(inside and not left and not right)


@dataclass
class _Order:
    """The rows' order in the next epoch: that of the last, shuffled with scikit-learn's numbers.

    Its own function looks at what it is given, which took a fifth of a fit of the digits.
    """

    n: int
    rng: np.random.RandomState

    def __post_init__(self) -> None:
        self.rows = np.arange(self.n)

    def __call__(self, n: int) -> Array:
        places = np.arange(n)
        self.rng.shuffle(places)
        self.rows = self.rows[places]
        return self.rows


class _Watch(Callback):
    """Keeps the estimator's records of each epoch, and stops when it improves no more."""

    def __init__(
        self, estimator: Any, rows: int, held_out: tuple[Any, Array, Array | None] | None
    ) -> None:
        self.estimator, self.rows, self.held_out = estimator, rows, held_out
        self.stopped = False

    def on_epoch_end(self, run: Run) -> None:
        e = self.estimator
        e.n_iter_ += 1
        e.t_ += self.rows
        e.loss_ = run.history["loss"][-1]
        e.loss_curve_.append(e.loss_)
        if e.verbose:
            print(f"epoch {e.n_iter_}: loss {e.loss_:.8f}")
        improved = self._loss_improved() if self.held_out is None else self._score_improved(run)
        e._waited = 0 if improved else e._waited + 1
        if e.solver == "sgd" and e.learning_rate == "invscaling":
            run.optimizer.lr = e.learning_rate_init / (e.t_ + 1) ** e.power_t
        if e._waited > e.n_iter_no_change:
            self._end(run)

    def _loss_improved(self) -> bool:
        e = self.estimator
        improved = e.loss_ <= e.best_loss_ - e.tol
        e.best_loss_ = min(e.best_loss_, e.loss_)
        return bool(improved)

    def _score_improved(self, run: Run) -> bool:
        e = self.estimator
        assert self.held_out is not None
        X, y, weights = self.held_out
        score = e._score(y, e._predicted(_outputs(run.model, X)), weights)
        e.validation_scores_.append(score)
        if e.verbose:
            print(f"validation score {score:.6f}")
        improved = score >= e.best_validation_score_ + e.tol
        if score > e.best_validation_score_:
            e.best_validation_score_ = score
            e._best = [p.data.copy() for p in run.model.parameters()]
        return bool(improved)

    def _end(self, run: Run) -> None:
        """The last epoch, or a smaller learning rate."""
        e = self.estimator
        if e.solver == "sgd" and e.learning_rate == "adaptive" and run.optimizer.lr > SMALLEST:
            run.optimizer.lr /= 5
            e._waited = 0
            if e.verbose:
                print(f"learning rate {run.optimizer.lr:g}")
            return
        what = "loss" if self.held_out is None else "validation score"
        self.stopped = True
        run.stop(f"no better {what} for {e.n_iter_no_change} epochs")
        if e.verbose:
            print(run.history.stopped)


def _is_sparse(X: Any) -> bool:
    return not isinstance(X, np.ndarray)


def _dense_batches(
    X: Any, targets: Array, size: int, order: Callable[[int], Array]
) -> Iterator[tuple[Array, Array]]:
    """The rows of a sparse matrix in batches."""
    rows = order(len(targets))
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        yield X[batch].toarray(), targets[batch]


def _outputs(network: Any, X: Any) -> Array:
    """Outputs for all rows, of a sparse matrix too."""
    if not _is_sparse(X):
        return predict(network, X)
    starts = range(0, X.shape[0], DENSE)
    return np.concatenate([predict(network, X[i : i + DENSE].toarray()) for i in starts])


@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, _Perceptron):  # type: ignore[misc]
    """Multi-layer perceptron that classifies: cross-entropy of logits, plus an L2 penalty.

    It minimises ``(sum_n w_n L_n + alpha/2 sum |W|^2) / sum_n w_n``. Two classes share one logit;
    more have one each, with softmax; labels that do not exclude each other, given as 0 and 1 in
    (N, K), have one each, with sigmoid.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; none for a linear model.
    activation : str or callable
        Of the hidden layers: "identity", "logistic", "tanh", "relu", or whatever `nn.Dense` takes.
    solver : {"adam", "sgd", "lbfgs"}
        lbfgs, SciPy's, takes all rows at once: for some thousand of them it often needs less time.
    alpha : float
        Factor of the penalty; the intercepts have none.
    batch_size : int or "auto"
        Rows a step, "auto" for 200; not for lbfgs.
    learning_rate : {"constant", "invscaling", "adaptive"}
        For sgd: as it is; ``learning_rate_init / (t + 1)**power_t``, t the rows seen so far;
        divided by 5 instead of stopping, down to 1e-6.
    learning_rate_init, power_t : float
        The first (for adam the only) learning rate; the exponent of "invscaling".
    max_iter : int
        Most epochs; for lbfgs iterations.
    shuffle : bool
        Whether each epoch has an order of its own.
    random_state : int, RandomState or None
        For first weights, order of rows and rows that are held out.
    tol, n_iter_no_change : float
        Training stops when for more than ``n_iter_no_change`` epochs the loss, or the score of
        ``early_stopping``, has not improved by at least `tol`. For lbfgs `tol` is the largest
        component of the gradient that counts as none.
    verbose : bool
        Print the loss of each epoch.
    warm_start : bool
        Whether `fit` goes on from the weights there are.
    momentum, nesterovs_momentum : float, bool
        For sgd.
    early_stopping, validation_fraction : bool, float
        Hold out that part of the rows, stop by the accuracy on it, and keep the best weights.
    beta_1, beta_2, epsilon : float
        For adam.
    max_fun : int
        For lbfgs: most losses that are computed.
    dtype : dtype, optional
        What training computes in. By default float64 for lbfgs, and for the others the dtype of X
        where it has less than 10,000 numbers, float32 where it has more. Weights and predictions
        have the dtype of X.

    Attributes
    ----------
    classes_ : ndarray (K,)
    coefs_, intercepts_ : list of ndarray (in, out), (out,)
        Weights of each layer.
    network_ : nn.Sequential
        A new one with these weights, to be drawn, derived, checked or saved.
    loss_, best_loss_, loss_curve_ : float, float, list of float
        The last, the lowest and all means over an epoch's rows; no curve of lbfgs.
    validation_scores_, best_validation_score_ : list of float, float
        With ``early_stopping``.
    n_iter_, t_ : int
        Epochs of the last fit; rows seen since the first weights.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As in scikit-learn.

    Notes
    -----
    First weights, order of rows and steps are those of ``sklearn.neural_network``, so with
    ``dtype="float64"`` the same ``random_state`` gives the same network to rounding. Losses and
    logarithms are computed from the logits, so that no probability is clipped.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: A method for stochastic optimization", 2015. X. Glorot, Y. Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", 2010.

    Examples
    --------
    >>> import nn
    >>> from nn.sklearn import MLPClassifier
    >>> X, y = nn.datasets.iris()
    >>> model = MLPClassifier(16, max_iter=300, random_state=0, solver="lbfgs").fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    >>> model.predict_proba(X[:2]).shape, model.network_
    ((2, 3), Sequential(
      0: Dense(4, 16, activation='relu')
      1: Dense(16, 3)
    ))
    """

    @available_if(_is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on these rows, from the weights there are.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array_like (K,)
            All labels that will come; needed in the first call only.

        Raises
        ------
        ValueError
            For labels that are not among the classes, or no classes in the first call.
        """
        if classes is None and not hasattr(self, "classes_"):
            raise ArgumentError(
                message("MLPClassifier.partial_fit", "classes in the first call", "none",
                        "Give all labels that will come: classes=np.unique(y_of_all).")
            )  # fmt: skip
        if classes is not None and hasattr(self, "classes_"):
            given = unique_labels(classes)
            if not np.array_equal(given, self.classes_):
                raise ArgumentError(
                    message("MLPClassifier.partial_fit", f"classes={self.classes_.tolist()}, as in "
                            "the first call", f"{given.tolist()}")
                )  # fmt: skip
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (N, K) of `classes_`; for labels that do not exclude each other, of each."""
        z = self._outputs(X)
        if self.out_activation_ == "softmax":
            return np.asarray(tg.softmax(z))
        return np.asarray(tg.sigmoid(self._logits(z)))

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of `predict_proba`, computed from the logits: none is -inf."""
        z = self._outputs(X)
        if self.out_activation_ == "softmax":
            return np.asarray(tg.log_softmax(z))
        return np.asarray(tg.log_sigmoid(self._logits(z)))

    def _logits(self, z: Array) -> Array:
        """A logit for each class: that of the first of two is the other's negative."""
        return np.hstack([-z, z]) if self.n_outputs_ == 1 else z

    def _targets(self, y: Any, known: bool, classes: ArrayLike | None) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multilabel-indicator":
            found = np.arange(y.shape[1])
        elif y.ndim == 1:
            found = unique_labels(y)
        else:
            raise ShapeError(
                message("MLPClassifier: y", "labels (N,), or 0 and 1 in (N, K)", f"{kind}",
                        "sklearn.multioutput.MultiOutputClassifier fits one model a column.")
            )  # fmt: skip
        if known and self.warm_start and not np.array_equal(found, self.classes_):
            raise ArgumentError(
                message("MLPClassifier: warm_start", f"the classes {self.classes_.tolist()} of "
                        "the fit before", f"{found.tolist()}", "Fit without warm_start.")
            )  # fmt: skip
        if not known:
            self.classes_: Array = found if classes is None else unique_labels(classes)
            self._multilabel = kind == "multilabel-indicator"
        strange = np.setdiff1d(found, self.classes_)
        if strange.size:
            raise ArgumentError(
                message("MLPClassifier: y", f"labels among {self.classes_.tolist()}",
                        f"{strange.tolist()} too")
            )  # fmt: skip
        if self._multilabel:
            return np.asarray(y.toarray() if _is_sparse(y) else y, dtype=np.float64)
        labels: Array = np.searchsorted(self.classes_, y)
        return labels[:, None] if len(self.classes_) == 2 else labels

    def _output(self, targets: Array) -> tuple[int, str]:
        if self._multilabel or len(self.classes_) == 2:
            return targets.shape[1], "logistic"
        return len(self.classes_), "softmax"

    def _losses(self) -> Callable[[Any, Array, str], Any]:
        return _cross_entropy if self.out_activation_ == "softmax" else _binary_cross_entropy

    def _predicted(self, outputs: Array) -> Array:
        if self._multilabel:
            return np.asarray(outputs > 0, dtype=int)
        if self.n_outputs_ == 1 and self.out_activation_ == "logistic":
            return np.asarray(self.classes_[(outputs[:, 0] > 0).astype(int)])
        return np.asarray(self.classes_[outputs.argmax(axis=1)])

    def _score(self, y: Array, predicted: Array, sample_weight: Array | None) -> float:
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, _Perceptron):  # type: ignore[misc]
    """Multi-layer perceptron that predicts numbers: half the squared error, plus an L2 penalty.

    It minimises ``(sum_n w_n L_n + alpha/2 sum |W|^2) / sum_n w_n``, where ``L_n`` is the sum over
    the outputs of a row.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, \
    power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, \
    nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon, \
    n_iter_no_change, max_fun, dtype
        As for `MLPClassifier`; the score of ``early_stopping`` is R2.
    loss : {"squared_error", "poisson"}
        ``(y - t)^2 / 2`` of the output y; or half the Poisson deviance ``t log(t/y) - t + y`` of
        ``y = exp(output)``, for counts t >= 0.

    Attributes
    ----------
    coefs_, intercepts_, network_, loss_, best_loss_, loss_curve_, validation_scores_, \
    best_validation_score_, n_iter_, t_, n_features_in_, feature_names_in_, n_layers_, n_outputs_, \
    out_activation_
        As of `MLPClassifier`.

    Notes
    -----
    As for `MLPClassifier`. For several outputs scikit-learn shows the mean of their losses, but
    follows the gradient of the sum, which is what is shown here.

    Examples
    --------
    >>> import numpy as np
    >>> from nn.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> model = MLPRegressor(hidden_layer_sizes=20, solver="lbfgs", max_iter=500, random_state=0)
    >>> model.fit(X, np.sin(3 * X[:, 0])).score(X, np.sin(3 * X[:, 0])) > 0.99
    True
    """

    _: KW_ONLY
    loss: str = "squared_error"

    @available_if(_is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch on these rows, from the weights there are; see `fit`."""
        return self._fit(X, y, sample_weight, incremental=True)

    def _targets(self, y: Array, known: bool, classes: ArrayLike | None) -> Array:
        check_name(f"{type(self).__name__}: loss", self.loss, LOSSES)
        if self.loss == "poisson" and y.min() < 0:
            raise ArgumentError(
                message("MLPRegressor: y", 'numbers >= 0 for loss="poisson"', f"{y.min()}")
            )
        return y.reshape(len(y), -1)

    def _output(self, targets: Array) -> tuple[int, str]:
        return targets.shape[1], "exp" if self.loss == "poisson" else "identity"

    def _losses(self) -> Callable[[Any, Array, str], Any]:
        return _half_poisson_deviance if self.loss == "poisson" else _half_squares

    def _predicted(self, outputs: Array) -> Array:
        y = np.exp(outputs) if self.out_activation_ == "exp" else outputs
        return y[:, 0] if self.n_outputs_ == 1 else y

    def _score(self, y: Array, predicted: Array, sample_weight: Array | None) -> float:
        return float(r2_score(y, predicted, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
