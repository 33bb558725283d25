from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tracemalloc
from functools import partial

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn.history import History
from tinygrad_np.errors import ArgumentError, DtypeError, IndexingError, NonFiniteError, ShapeError


def data(n=10, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    return x, x[:, :3].argmax(axis=1)


def network(seed=0):
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Dense(4, 6, activation="tanh", rng=rng), nn.Dense(6, 3, rng=rng))


def fit(model, rows=None, **settings):
    defaults = {"loss": nn.SoftmaxCrossEntropy(), "optimizer": nn.SGD(lr=0.1), "verbose": False}
    return nn.fit(model, data() if rows is None else rows, **(defaults | settings))


def assert_same_weights(model, other):
    for (path, value), expected in zip(model.state_dict().items(), other.state_dict().values()):
        np.testing.assert_array_equal(value, expected, err_msg=path)


# --- what an epoch does ---


def test_fit_takes_the_steps_one_would_write_by_hand():
    (x, y), model, twin = data(), network(), network()
    optimizer = nn.SGD(lr=0.1, momentum=0.9)
    history = fit(model, optimizer=optimizer, epochs=3, batch_size=4, shuffle=False)

    parameters = [p.data.astype(np.float64) for p in twin.parameters()]
    velocity = [np.zeros_like(p) for p in parameters]
    losses = []
    for _ in range(3):
        total = 0.0
        for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):  # the last batch holds what remains
            W1, b1, W2, b2 = parameters
            xb, t, n = x[rows], y[rows], len(y[rows])
            h = np.tanh(xb @ W1 + b1)
            z = h @ W2 + b2
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            total += -np.log(p[np.arange(n), t]).sum()
            dz = (p - np.eye(3)[t]) / n
            da = dz @ W2.T * (1 - h**2)
            grads = [xb.T @ da, da.sum(axis=0), h.T @ dz, dz.sum(axis=0)]
            velocity = [0.9 * v + g for v, g in zip(velocity, grads)]
            parameters = [p - 0.1 * v for p, v in zip(parameters, velocity)]
        losses.append(total / 10)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)  # float32 against float64
    for found, expected in zip(model.parameters(), parameters):
        np.testing.assert_allclose(found.data, expected, rtol=1e-5, atol=1e-6)


def test_a_full_batch_is_one_step_an_epoch_in_the_given_order():
    seen = []

    class Spy(nn.Dense):
        def forward(self, x):
            if self.training:
                seen.append(x)
            return super().forward(x)

    x, y = data()
    fit(Spy(4, 3), (x, y), epochs=3, batch_size=None, compile=False)
    assert len(seen) == 3
    assert all(batch is x for batch in seen)


@pytest.mark.parametrize("batch_size", [4, 10, None])
def test_a_function_gives_the_order_of_each_epoch(batch_size):
    x, y = data()
    rng, seen = np.random.default_rng(3), []

    class Spy(nn.Dense):
        def forward(self, x):
            if self.training:
                seen.append(x)
            return super().forward(x)

    orders = [rng.integers(10, size=10) for _ in range(2)]  # drawn with replacement
    served = iter(orders)
    fit(Spy(4, 3), (x, y), epochs=2, batch_size=batch_size, shuffle=lambda n: next(served)[:n])
    np.testing.assert_array_equal(np.concatenate(seen), x[np.concatenate(orders)])


@pytest.mark.parametrize(
    ("order", "error", "text"),
    [(range(9), ShapeError, "fit: shuffle: expected a function that gives 10 indices of rows, got "
      "int64 (9,)."),
     (np.full(10, 0.5), ShapeError, "got float64 (10,)."),
     (range(1, 11), IndexingError, "fit: shuffle: expected indices of rows in 0..9, got 1..10."),
     (range(-1, 9), IndexingError, "got -1..8.")],
)  # fmt: skip
def test_an_order_that_does_not_fit_is_refused(order, error, text):
    with pytest.raises(error, match=re.escape(text)):
        fit(network(), shuffle=lambda n: order)


def test_batches_hold_every_row_once_an_epoch_in_a_new_order():
    orders = []

    class Spy(nn.Dense):
        def forward(self, x):
            if self.training:
                orders.extend(x[:, 0].tolist())
            return super().forward(x)

    x = np.repeat(np.arange(10.0)[:, None], 4, axis=1)
    fit(Spy(4, 3), (x, data()[1]), epochs=2, batch_size=3, seed=0)
    first, second = orders[:10], orders[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second != sorted(second)


def test_the_epochs_loss_weighs_rows_equally_or_adds_up():
    x, y = data()
    frozen = nn.SGD(lr=0.0)
    mean = fit(network(), (x, y), optimizer=frozen, batch_size=4)["loss"][0]
    whole = nn.evaluate(network(), (x, y), loss=nn.SoftmaxCrossEntropy())["loss"]
    np.testing.assert_allclose(mean, whole, rtol=1e-6)
    summed = fit(network(), (x, y), optimizer=nn.SGD(lr=0.0), batch_size=4,
                 loss=nn.SoftmaxCrossEntropy(reduction="sum"))["loss"][0]  # fmt: skip
    np.testing.assert_allclose(summed, 10 * whole, rtol=1e-6)


def test_training_metrics_are_those_of_the_outputs_before_each_step():
    x, y = data()
    history = fit(
        network(), (x, y), optimizer=nn.SGD(lr=0.0), batch_size=4, metrics=["accuracy", "f1"]
    )
    outputs = nn.predict(network(), x)
    assert history["accuracy"] == [nn.metrics.accuracy(y, outputs)]
    assert history["f1"] == [nn.metrics.f1(y, outputs)]


def test_any_function_of_outputs_and_targets_is_a_loss():
    model, twin = network(), network()
    fit(model, loss=lambda z, t: tg.softmax_cross_entropy(z, t), seed=0)
    fit(twin, seed=0)
    assert_same_weights(model, twin)


def test_a_dataset_is_data():
    history = fit(
        network(), nn.datasets.iris(), validation=nn.datasets.iris(), metrics=["accuracy"]
    )
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}


# --- seeds ---


def test_the_same_seed_gives_the_same_run():
    def run(seed):
        model = nn.Sequential(nn.Dense(6, activation="relu"), nn.Dense(3))  # built within fit
        return model, fit(model, epochs=3, batch_size=3, validation=0.2, seed=seed)

    (model, history), (twin, again), (_, other) = run(1), run(1), run(2)
    assert history == again != other
    assert_same_weights(model, twin)


def test_the_same_seed_gives_the_same_run_on_any_number_of_threads():
    code = """
import sys
import numpy as np, nn
rng = np.random.default_rng(0)
x, y = rng.random((300, 784)), rng.integers(10, size=300)
nn.seed(0)
model = nn.Sequential(nn.Dense(784, 64, activation="relu", dtype=float), nn.Dropout(0.2),
                      nn.Dense(64, 10, dtype=float))
nn.fit(model, (x, y), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=1e-3), epochs=2, seed=1)
state = [p.data.ravel() for p in model.parameters()] + [nn.init.normal()((5,), None, float)]
sys.stdout.buffer.write(np.concatenate(state).tobytes())
"""

    def run(threads):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        line = [sys.executable, "-c", code]
        done = subprocess.run(line, capture_output=True, check=True, env=environment)
        return np.frombuffer(done.stdout)

    one, again, two = run(1), run(1), run(2)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one[-5:], two[-5:])  # as many numbers have been drawn
    # A BLAS may add in another order; 20 steps of Adam make more of it. Another order of the rows,
    # or other units dropped, would show in the first digits.
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9)


def test_a_step_with_batch_norm_is_compiled():
    results = []
    for compiled in True, False:  # True warns, which is an error here, where it cannot be
        model = nn.Sequential(
            nn.Dense(4, 6, bias=False, rng=0), nn.BatchNorm(6), nn.Dense(6, 3, rng=1)
        )
        fit(model.astype("float64"), batch_size=5, epochs=40, seed=0, compile=compiled)
        results.append(model.state_dict())
    for value, expected in zip(*[one.values() for one in results]):
        np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_nn_seed_fixes_the_run_too():
    runs = []
    for _ in range(2):
        nn.seed(3)
        model = nn.Sequential(nn.Dense(4, 6), nn.Dense(6, 3))
        runs.append(fit(model, batch_size=3, epochs=2))
    assert runs[0] == runs[1]


# --- validation, modes ---


def test_validation_is_measured_after_each_epoch_on_all_rows():
    held_out = data(7, seed=5)
    model = network()
    history = fit(model, validation=held_out, metrics=["accuracy"], epochs=2)
    found = nn.evaluate(model, held_out, loss=nn.SoftmaxCrossEntropy(), metrics=["accuracy"])
    assert {"loss": history["val_loss"][-1], "accuracy": history["val_accuracy"][-1]} == found


def test_a_fraction_is_held_out_and_not_trained_on():
    seen = set()

    class Spy(nn.Dense):
        def forward(self, x):
            if self.training:
                seen.update(x[:, 0].tolist())
            return super().forward(x)

    x = np.repeat(np.arange(10.0)[:, None], 4, axis=1)
    history = fit(Spy(4, 3), (x, data()[1]), epochs=4, batch_size=3, validation=0.3, seed=0)
    assert len(seen) == 7
    assert seen != set(range(7))
    assert len(history["val_loss"]) == 4


def test_modes_while_training_and_validating_and_afterwards():
    modes = []

    class Spy(nn.Dense):
        def forward(self, x):
            modes.append((self.training, tg.core.current_mode().recording))
            return super().forward(x)

    model = nn.Sequential(Spy(4, 3))
    model.eval()
    fit(model, batch_size=5, validation=data(), epochs=1)
    # Once for the data and once for the validation data before training, two steps, validation.
    assert modes == [(False, False)] * 2 + [(True, True)] * 2 + [(False, False)]
    assert not model[0].training


# --- what is refused before training ---


def nan(x):
    x = x.copy()
    x[3, 1] = np.nan
    return x


X, Y = data()
CE_NONE = nn.SoftmaxCrossEntropy(reduction="none")
# Data, settings, and the error.
REFUSED = {
    "lengths": (
        (X, Y[:9]), {}, ShapeError,
        "fit: expected arrays with the same number of rows, got x (10, 4), y (9,)."),
    "no rows": (
        (X[:0], Y[:0]), {}, ShapeError,
        "fit: expected at least one row, got x (0, 4), y (0,)."),
    "nan in x": (
        (nan(X), Y), {}, NonFiniteError,
        "fit: expected finite numbers in x of shape (10, 4), got nan at row 3, column 1"),
    "inf in y": (
        (X, np.full(10, np.inf)), {"loss": nn.MSE()}, NonFiniteError,
        "fit: expected finite numbers in y of shape (10,), got inf at row 0"),
    "no pair": (X, {}, ArgumentError, "fit: expected data as (x, y) or a Dataset, got ndarray."),
    "a number": (3, {}, ArgumentError, "data as (x, y) or a Dataset, got int."),
    "three": (
        (X, Y, Y), {}, ArgumentError,
        "data as (x, y) or a Dataset, got tuple of 3. Weights of rows are given to fit as sample"),
    "text": ((X.astype(str), Y), {}, DtypeError, "fit: x: expected real numbers, got dtype <U"),
    "text in y": ((X, Y.astype(str)), {}, DtypeError, "fit: y: expected real numbers, got"),
    "labels from 1": (
        (X, Y + 1), {}, IndexingError,
        "labels in 0 ... 2 for 3 classes, got 2 ... 3. Do the labels start at 1?"),
    "one label": ((X, np.r_[Y[:9], 7]), {}, IndexingError, "for 3 classes, got 0 ... 7."),
    "float labels": ((X, Y * 1.0), {}, DtypeError, "Did you mean labels.astype(int)?"),
    "column of labels": ((X, Y[:, None]), {}, ShapeError, "labels[:, 0]"),
    "targets": ((X, X), {"loss": nn.MSE()}, ShapeError, "(4, 3), got (4, 4)"),
    "features": (
        (X[:, :3], Y), {}, ShapeError,
        "Dense(4, 6, activation='tanh') with weights '0.W': expected x (..., 4), got (1, 3)."),
    "validation rows": (
        (X, Y), {"validation": (X, Y[:3])}, ShapeError,
        "fit: validation: expected arrays with the same number of rows"),
    "validation labels": (
        (X, Y), {"validation": (X, Y + 1)}, IndexingError, "for 3 classes, got 2 ... 3."),
    "fraction": ((X, Y), {"validation": 1.5}, ArgumentError, "test_size=1.5"),
    "epochs": (
        (X, Y), {"epochs": 0}, ArgumentError,
        "fit: expected epochs as a whole number of at least 1, got 0."),
    "batch size": (
        (X, Y), {"batch_size": 0}, ArgumentError,
        "batch_size as a whole number of at least 1, got 0"),
    "metric": ((X, Y), {"metrics": ["acuracy"]}, ArgumentError, "Did you mean 'accuracy'"),
    "no metric": ((X, Y), {"metrics": [3]}, ArgumentError, "metrics: expected a callable or"),
    "metrics": ((X, Y), {"metrics": "accuracy"}, ArgumentError, "Write ['accuracy']."),
    "metric twice": (
        (X, Y), {"metrics": ["f1", "f1"]}, ArgumentError, "distinct names, got f1."),
    "metric of other targets": (
        (X, Y), {"metrics": ["mae"]}, ShapeError, "mean_absolute_error: expected y_true and"),
    "no number": (
        (X, Y), {"loss": CE_NONE}, ArgumentError,
        "fit: expected a loss that gives a Tensor of one element, got (4,) from "
        "SoftmaxCrossEntropy(reduction='none'). Use reduction=\"mean\""),
    "loss by name": (
        (X, Y), {"loss": "mse"}, ArgumentError, "fit: loss: expected a function of (outputs, "
        "targets), got 'mse'. Did you mean nn.MSE(...)?"),
    "loss class": (
        (X, Y), {"loss": nn.MSE}, ArgumentError, "Write loss=nn.MSE(...)."),
    "optimizer by name": (
        (X, Y), {"optimizer": "adam"}, ArgumentError,
        "fit: optimizer: expected an nn.Optimizer, got 'adam'. Did you mean nn.Adam(...) or nn."),
    "optimizer class": (
        (X, Y), {"optimizer": nn.SGD}, ArgumentError, "Write optimizer=nn.SGD(...)."),
    "schedule by name": (
        (X, Y), {"schedule": "cosine"}, ArgumentError,
        "fit: schedule: expected an nn.Schedule, got 'cosine'. Did you mean nn.CosineDecay(...)"),
    "a callback": (
        (X, Y), {"callbacks": nn.EarlyStopping()}, ArgumentError,
        "fit: callbacks: expected a list of nn.Callback, got EarlyStopping. Write callbacks=[...]."),
    "metric without column": (
        (X, np.r_[Y[:9], 3]), {"loss": lambda z, t: z.sum(), "metrics": ["accuracy"]},
        IndexingError, "accuracy: expected labels in 0 .. 2, one for each column of scores, got "
        "labels from 0 to 3."),
    "binary labels": (
        (X, np.tile(Y[:, None], 3)), {"loss": nn.BinaryCrossEntropy()}, IndexingError,
        "BinaryCrossEntropy: expected targets in 0 ... 1, got 1 ... 2."),
    "no tensor": ((X, Y), {"loss": lambda z, t: 1.0}, ArgumentError, "got () from <function"),
    "seed": (
        (X, Y), {"seed": "one"}, ArgumentError, "seed: expected a whole number of at least 0, "
        "a numpy.random.Generator or None, got 'one'."),
    "seed below 0": ((X, Y), {"seed": -1}, ArgumentError, "seed: expected a whole number of at"),
    "file to resume": (
        (X, Y), {"resume": "run.txt"}, ArgumentError,
        "resume: expected a path ending in .npz or .safetensors, got 'run.txt'."),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "settings", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_before_training(rows, settings, error, text):
    model = network()
    optimizer = nn.SGD(lr=0.1)
    with pytest.raises(error, match=re.escape(text)):
        fit(model, rows, **({"optimizer": optimizer, "batch_size": 4} | settings))
    assert_same_weights(model, network())
    assert optimizer.params is None


def test_targets_are_looked_at_in_larger_parts_than_small_batches():
    class Counts(nn.SoftmaxCrossEntropy):
        seen = ()

        def forward(self, outputs, targets):
            self.seen += (len(targets),)
            return super().forward(outputs, targets)

    x, y = data(10_000)
    loss = Counts()
    with pytest.raises(IndexingError, match=r"got 0 \.\.\. 7"):
        fit(network(), (x, np.r_[y[:-1], 7]), loss=loss, batch_size=1)
    assert loss.seen == (1, 4096, 4096, 1807)


def test_an_optimizer_of_another_model_is_refused():
    with pytest.raises(ArgumentError, match=r"an optimizer of this model's parameters, got one of"):
        fit(network(), optimizer=nn.SGD(network().parameters(), lr=0.1))


def test_an_optimizer_goes_on_and_may_have_some_of_the_parameters():
    model = network()
    before = model.state_dict()
    optimizer = nn.SGD(model[1].parameters(), lr=0.1)
    fit(model, optimizer=optimizer)
    fit(model, optimizer=optimizer)
    after = model.state_dict()
    changed = {path: not np.array_equal(before[path], after[path]) for path in after}
    assert changed == {"0.W": False, "0.b": False, "1.W": True, "1.b": True}


# --- what ends training early ---


def test_a_loss_that_is_not_finite_stops_with_epoch_and_step():
    x, y = np.full((10, 1), 10.0), np.ones((10, 1))
    model = nn.Dense(1, 1, dtype=np.float64)
    text = r"^fit: epoch \d+, step [12]: expected a finite loss, got (inf|nan)\. Lower the learning"
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(NonFiniteError, match=text):
        fit(model, (x, y), loss=nn.MSE(), optimizer=nn.SGD(lr=1e3), batch_size=5, epochs=100)
    assert model.training


def test_ctrl_c_leaves_model_and_history_usable():
    class Interrupted(nn.MSE):
        calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            if self.calls == 9:  # one before training, then two an epoch
                raise KeyboardInterrupt
            return super().forward(outputs, targets)

    x, _ = data()
    model = nn.Sequential(nn.Dense(4, 4))
    model.eval()
    with pytest.warns(UserWarning, match="^fit: interrupted after 3 of 50 epochs; the model"):
        history = fit(model, (x, x), loss=Interrupted(), batch_size=5, epochs=50)
    assert len(history["loss"]) == len(history.seconds) == 3
    assert not model.training
    assert np.isfinite(nn.predict(model, x)).all()
    fit(model, (x, x), loss=nn.MSE())


# --- evaluate and predict ---


def test_predict_is_the_forward_pass_in_batches_without_recording():
    x, _ = data()
    model = network()
    outputs = nn.predict(model, x, batch_size=3)
    assert type(outputs) is np.ndarray
    assert outputs.shape == (10, 3)
    np.testing.assert_allclose(outputs, model(x).data, rtol=1e-6)
    np.testing.assert_allclose(nn.predict(model, x, batch_size=None), outputs, rtol=1e-6)
    np.testing.assert_array_equal(nn.predict(nn.Flatten(), np.ones((2, 3, 4))), np.ones((2, 12)))


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.ones((0, 4)), ShapeError, "predict: expected at least one row"),
        (
            nan(X),
            NonFiniteError,
            "predict: expected finite numbers in x of shape (10, 4), got nan at row 3, column 1",
        ),
        ([["a"]], DtypeError, "predict: expected real numbers"),
        (np.ones((2, 5)), ShapeError, "expected x (..., 4), got (2, 5)"),
    ],
)
def test_predict_refuses(x, error, text):
    with pytest.raises(error, match=re.escape(text)):
        nn.predict(network(), x)


def test_evaluate_gives_what_it_is_asked_for():
    x, y = data()
    model = network()
    outputs = nn.predict(model, x)
    found = nn.evaluate(model, (x, y), metrics=["accuracy", spread])
    assert found == {"accuracy": nn.metrics.accuracy(y, outputs), "spread": float(np.ptp(outputs))}
    assert nn.evaluate(model, (x, y)) == {}


def test_a_metric_needs_no_name():
    found = nn.evaluate(network(), data(), metrics=[partial(nn.metrics.top_k_accuracy, k=3)])
    assert list(found.values()) == [1.0]


def spread(y_true, outputs):
    return np.ptp(outputs)


# --- batches as somebody makes them, and arrays in files ---


def generated(x, y, size=4):
    return ((x[i : i + size], y[i : i + size]) for i in range(0, len(x), size))


def test_batches_of_a_function_are_those_of_arrays():
    x, y = data()
    model, twin = network(), network()
    settings = {"epochs": 3, "metrics": ["accuracy"]}
    batches = lambda: generated(x, y)
    history = fit(model, batches, validation=batches, **settings)
    again = fit(twin, validation=(x, y), batch_size=4, shuffle=False, **settings)
    assert history["loss"] == again["loss"]
    assert history["val_accuracy"] == again["val_accuracy"]
    np.testing.assert_allclose(history["val_loss"], again["val_loss"], rtol=1e-6)
    assert_same_weights(model, twin)
    fit(model, generated(x, y))  # what can be read once is enough for an epoch


class Loader:
    """Batches that can be read again and again, as those of a PyTorch DataLoader."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        return generated(*self.arrays)


def test_an_iterable_is_read_once_an_epoch():
    model, twin = network(), network()
    fit(model, Loader(*data()), epochs=3)
    fit(twin, batch_size=4, shuffle=False, epochs=3)
    assert_same_weights(model, twin)


def test_a_generator_is_read_only_as_far_as_it_is_trained_on():
    x, y = data()
    read = []

    def endless():
        for part in generated(x, y, 1):
            read.append(1)
            yield part

    class Interrupt(nn.Callback):
        def on_step_end(self, run):
            if run.step == 3:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        fit(network(), endless, callbacks=[Interrupt()])
    assert len(read) == 3


BATCHES_REFUSED = {
    "iterator": (
        lambda: generated(X, Y), {"epochs": 2}, ArgumentError,
        "fit: expected batches that can be read once an epoch, got an iterator. Give a function"),
    "no batches": (
        lambda: (lambda: []), {}, ShapeError, "fit: expected at least one batch, got none."),
    "no pair": (
        lambda: (lambda: [X]), {}, ArgumentError,
        "fit: batch 1: expected (x, y) or (x, y, weights), got ndarray."),
    "lengths": (
        lambda: (lambda: [(X, Y[:3])]), {}, ShapeError,
        "fit: batch 1: expected arrays with the same number of rows"),
    "weights": (
        lambda: (lambda: [(X, Y, Y[:3])]), {}, ShapeError,
        "fit: batch 1: expected sample_weight (10,), got (3,)"),
    "fraction": (
        lambda: (lambda: [(X, Y)]), {"validation": 0.1}, ArgumentError,
        "fit: expected validation data, got validation=0.1 of batches."),
    "sample_weight": (
        lambda: (lambda: [(X, Y)]), {"sample_weight": Y}, ArgumentError,
        "fit: expected the weights within the batches, as (x, y, weights), got batches and a"),
    "balanced": (
        lambda: (lambda: [(X, Y)]), {"class_weight": "balanced"}, ArgumentError,
        "or for arrays as \"balanced\", got 'balanced' for batches."),
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "settings", "error", "text"), BATCHES_REFUSED.values(), ids=BATCHES_REFUSED
)
def test_batches_that_do_not_fit_are_refused(make, settings, error, text):
    model = network()
    with pytest.raises(error, match=re.escape(text)):
        fit(model, make(), **settings)
    assert_same_weights(model, network())


def test_nan_in_a_later_batch_stops_before_its_step():
    def batches():
        yield X[:5], Y[:5]
        yield nan(X)[:5], Y[:5]

    model, twin = network(), network()
    text = "fit: batch 2: expected finite numbers in x of shape (5, 4), got nan at row 3, column 1"
    with pytest.raises(NonFiniteError, match=re.escape(text)):
        fit(model, batches)
    fit(twin, (X[:5], Y[:5]), shuffle=False)
    assert_same_weights(model, twin)


@pytest.fixture
def mapped(tmp_path):
    """Arrays as memory-mapped files."""

    def write(array, name):
        np.save(tmp_path / name, array)
        return np.load(tmp_path / name, mmap_mode="r")

    return lambda x, y: (write(x, "x.npy"), write(y, "y.npy"))


def test_mapped_arrays_train_as_arrays_in_memory(mapped):
    x, y = data(50)
    model, twin = network(), network()
    settings = {"batch_size": 8, "epochs": 3, "seed": 0, "metrics": ["accuracy"]}
    files = mapped(x, y)
    history = fit(model, files, validation=files, class_weight="balanced", **settings)
    assert history == fit(twin, (x, y), validation=(x, y), class_weight="balanced", **settings)
    assert_same_weights(model, twin)


@pytest.mark.parametrize(("columns", "shuffle"), [(16, False), (16, True), (8, True)])
def test_mapped_arrays_are_never_read_as_a_whole(tmp_path, columns, shuffle):
    shape = (2_000_000, 16)  # 128 MB, without a byte on the disk
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=shape)
    y = np.arange(len(x)) % 3

    class Stop(nn.Callback):
        def on_step_end(self, run):
            if run.step == 3:
                raise KeyboardInterrupt

    rows = x[10:, :columns], y[10:]
    tracemalloc.start()
    with pytest.warns(UserWarning, match="interrupted"):
        fit(nn.Dense(columns, 3), rows, batch_size=4096, shuffle=shuffle, callbacks=[Stop()])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The order is 16 MB; a mask of x would be 16 or 32, a copy 64 or 128.
    assert peak < 24e6


@pytest.mark.parametrize("shuffle", [True, False])
def test_nan_in_a_mapped_array_is_found_in_its_batch_and_row(mapped, shuffle):
    x, y = data(50)
    x[37, 2] = np.nan
    text = "fit: expected finite numbers in x of shape (50, 4), got others in row 37. Remove"
    with pytest.raises(NonFiniteError, match=re.escape(text)):
        fit(network(), mapped(x, y), batch_size=8, shuffle=shuffle)


def test_a_fraction_of_mapped_arrays_is_refused(mapped):
    with pytest.raises(ArgumentError, match=r"memory-mapped\. A fraction would copy them: give"):
        fit(network(), mapped(*data()), validation=0.5)


# --- several validation sets ---


def test_each_validation_set_is_measured_under_its_name():
    sets = {"train": data(), "test": data(7, seed=5)}
    model = network()
    history = fit(model, validation=sets, metrics=["accuracy"], epochs=2)
    assert list(history) == [
        "loss", "accuracy", "train_loss", "train_accuracy", "test_loss", "test_accuracy",
    ]  # fmt: skip
    for name, held_out in sets.items():
        found = nn.evaluate(model, held_out, loss=nn.SoftmaxCrossEntropy(), metrics=["accuracy"])
        assert {key: history[f"{name}_{key}"][-1] for key in found} == found
    with pytest.raises(ShapeError, match=r"^fit: test: expected arrays with the same number"):
        fit(model, validation={"test": (X, Y[:3])})


def test_the_curves_of_several_sets_share_a_panel():
    pytest.importorskip("matplotlib")
    made = history(loss=[3.0, 1.0], train_loss=[2.0, 0.5], test_loss=[2.5, 0.75], lr=[1.0, 1.0])
    made.sets = ["train", "test"]
    loss, lr = made.plot().axes
    assert [line.get_label() for line in loss.get_lines()] == ["training", "train", "test"]
    assert lr.get_ylabel() == "lr"


# --- weights, accumulation, clipping ---


def gradients(x, y, weights, W):
    """Of ``mean(w_n L_n)`` for softmax cross-entropy of ``x @ W``."""
    z = x @ W
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = -(weights * np.log(p[np.arange(len(y)), y])).mean()
    return loss, x.T @ ((p - np.eye(3)[y]) * weights[:, None]) / len(y)


def line(seed=0):
    return nn.Dense(4, 3, bias=False, dtype=np.float64, rng=seed)


WEIGHTS = np.linspace(0, 2, 10)
BALANCED = (10 / (3 * np.bincount(Y)))[Y]


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"sample_weight": WEIGHTS}, WEIGHTS),
        ({"class_weight": {0: 0.5, 1: 0, 2: 3, 7: 9}}, np.array([0.5, 0, 3])[Y]),
        ({"class_weight": [0.5, 1, 3]}, np.array([0.5, 1, 3])[Y]),
        ({"class_weight": "balanced"}, BALANCED),
        ({"class_weight": "balanced", "sample_weight": WEIGHTS}, BALANCED * WEIGHTS),
    ],
)
def test_weights_multiply_the_losses_of_rows(settings, weights):
    for targets in (Y, nn.one_hot(Y).astype(float)):
        model = line()
        W = model.W.data.copy()
        history = fit(model, (X, targets), epochs=2, batch_size=None, **settings)
        for loss in history["loss"]:
            expected, g = gradients(X, Y, weights, W)
            np.testing.assert_allclose(loss, expected, rtol=1e-13)
            W = W - 0.1 * g
        np.testing.assert_allclose(model.W.data, W, rtol=1e-12)


def test_weights_stay_with_their_rows():
    model, twin = line(), line()
    batches = lambda: generated_weighted(X, Y, WEIGHTS)
    fit(model, batches)
    fit(twin, (X, Y), sample_weight=WEIGHTS, batch_size=4, shuffle=False)
    assert_same_weights(model, twin)
    only = WEIGHTS > 1  # a weight of 0 is a row that is not there, but for the mean's divisor
    fit(model := line(), (X, Y), sample_weight=only, batch_size=3, seed=0, epochs=3,
        loss=nn.SoftmaxCrossEntropy(reduction="sum"))  # fmt: skip
    fit(twin := line(), (nanless(X, only), Y), sample_weight=only, batch_size=3, seed=0, epochs=3,
        loss=nn.SoftmaxCrossEntropy(reduction="sum"))  # fmt: skip
    np.testing.assert_allclose(model.W.data, twin.W.data, rtol=1e-12)


def generated_weighted(x, y, w, size=4):
    return ((x[i : i + size], y[i : i + size], w[i : i + size]) for i in range(0, len(x), size))


def nanless(x, keep):
    """Other numbers in the rows that are not kept."""
    return np.where(keep[:, None], x, 100.0)


def test_validation_has_no_weights():
    history = fit(line(), (X, Y), sample_weight=WEIGHTS, validation=(X, Y),
                  optimizer=nn.SGD(lr=0.0))  # fmt: skip
    assert history["loss"] != history["val_loss"]
    assert history["val_loss"][0] == pytest.approx(gradients(X, Y, np.ones(10), line().W.data)[0])


def test_elements_of_a_row_share_its_weight():
    targets = np.stack([X[:, 0], X[:, 1], X[:, 2]], axis=1)
    model = line()
    W = model.W.data.copy()
    fit(model, (X, targets), loss=nn.MSE(), sample_weight=WEIGHTS, batch_size=None)
    g = X.T @ (2 * (X @ W - targets) * WEIGHTS[:, None]) / 30
    np.testing.assert_allclose(model.W.data, W - 0.1 * g, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("batches", [2, 3])
def test_accumulated_batches_are_one_batch(reduction, weights, batches):
    loss = nn.SoftmaxCrossEntropy(reduction=reduction)
    settings = {"loss": loss, "shuffle": False, "epochs": 3, "sample_weight": weights}
    model, twin = line(), line()
    momentum = lambda: nn.SGD(lr=0.1, momentum=0.9)
    # Batches of 3, 3, 3 and 1: steps of two of different sizes, and a last step of one alone.
    history = fit(model, optimizer=momentum(), batch_size=3, accumulate=batches, **settings)
    again = fit(twin, optimizer=momentum(), batch_size=3 * batches, **settings)
    np.testing.assert_allclose(model.W.data, twin.W.data, rtol=1e-12)
    np.testing.assert_allclose(history["loss"], again["loss"], rtol=1e-12)


def test_gradients_are_clipped_by_value_then_by_norm():
    model = line()
    W = model.W.data.copy()
    fit(model, batch_size=None, clip_value=0.05, clip_norm=0.1, epochs=2)
    for _ in range(2):
        g = np.clip(gradients(X, Y, np.ones(10), W)[1], -0.05, 0.05)
        assert np.linalg.norm(g) > 0.1
        W = W - 0.1 * g * 0.1 / np.linalg.norm(g)
    np.testing.assert_allclose(model.W.data, W, rtol=1e-12)


def test_only_what_the_optimizer_has_counts_in_the_norm():
    model, twin = network(), network()
    for p in twin[0].parameters():
        p.requires_grad = False
    for net in (model, twin):
        fit(net, optimizer=nn.SGD(net[1].parameters(), lr=0.1), clip_norm=0.01, epochs=5, seed=0)
    assert_same_weights(model, twin)


def test_what_is_accumulated_is_clipped_as_a_whole():
    model, twin = line(), line()
    fit(model, batch_size=2, accumulate=5, clip_norm=0.01, shuffle=False)
    fit(twin, batch_size=None, clip_norm=0.01)
    np.testing.assert_allclose(model.W.data, twin.W.data, rtol=1e-12)


def test_lbfgs_searches_along_the_loss_of_the_batch():
    model = line()
    optimizer = nn.LBFGS(lr=8.0, weight_decay=0.1)  # far too long without a search
    fit(model, optimizer=optimizer, batch_size=None, epochs=60)
    W = model.W.data
    g = gradients(X, Y, np.ones(10), W)[1] + 0.1 * W
    assert abs(g).max() < 1e-7  # the minimum, to half the digits


SETTINGS_REFUSED = {
    "lbfgs": ({"accumulate": 2, "optimizer": nn.LBFGS()}, ArgumentError,
              "fit: expected accumulate=1 for LBFGS, which measures the loss of its steps, got"),
    "accumulate": ({"accumulate": 0}, ArgumentError, "fit: expected accumulate as a whole number"),
    "clip_norm": ({"clip_norm": 0}, ArgumentError, "clip_norm: expected a limit above 0, got 0."),
    "clip_value": ({"clip_value": -1}, ArgumentError, "clip_value: expected a limit above 0, got"),
    "sample_weight": (
        {"sample_weight": Y[:3]}, ShapeError, "fit: expected sample_weight (10,), got (3,)."),
    "negative": (
        {"sample_weight": Y - 2}, ArgumentError, "fit: expected sample_weight >= 0, got -2."),
    "nan": ({"sample_weight": nan(X)[:, 1]}, NonFiniteError, "got nan at row 3"),
    "class": ({"class_weight": {0: 1, 2: 1}}, IndexingError,
              "fit: expected a class_weight for each label, got none for 1."),
    "class below 0": ({"class_weight": [1, -1, 2]}, ArgumentError,
                      "fit: expected class weights >= 0, got -1 of class 1."),
    "class text": ({"class_weight": "even"}, ArgumentError, "\"balanced\", got 'even'."),
    "class of numbers": (
        {"class_weight": [1, 2], "rows": (X, X), "loss": nn.MSE()}, ArgumentError,
        "fit: class_weight: expected targets that are labels (N,) or one-hot rows (N, K), got"),
    "function": ({"sample_weight": WEIGHTS, "loss": lambda z, y: tg.mean(z)}, ArgumentError,
                 'fit: weights: expected a loss of nn.losses with reduction "mean" or "sum", got'),
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    SETTINGS_REFUSED.values(),
    ids=SETTINGS_REFUSED,
)
def test_settings_that_do_not_fit_are_refused(settings, error, text):
    model = network()
    with pytest.raises(error, match=re.escape(text)):
        fit(model, **settings)
    assert_same_weights(model, network())


# --- losses that are not finite ---


def test_the_weights_of_before_a_nan_loss_stay():
    class Fails(nn.SoftmaxCrossEntropy):
        calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return super().forward(outputs, targets) * (np.nan if self.calls == 11 else 1.0)

    model, twin = network(), network()
    text = r"^fit: epoch 3, step 3: expected a finite loss, got nan.*weights from before that step"
    with pytest.raises(NonFiniteError, match=text):
        fit(model, loss=Fails(), batch_size=4, epochs=9, shuffle=False)  # 2 calls before training
    fit(twin, batch_size=4, epochs=2, shuffle=False)
    fit(twin, (X[:8], Y[:8]), batch_size=4, shuffle=False)
    assert_same_weights(model, twin)


class Square(nn.Module):
    """A weight, and a buffer that follows it."""

    def __init__(self, w):
        self.w = tg.Tensor(np.full(1, w), requires_grad=True)
        self.seen = tg.Tensor(np.full(1, w))

    def forward(self, x):
        if self.training:
            self.seen.data = self.w.data.copy()
        return self.w * np.ones((len(x), 1))


@pytest.mark.parametrize(("epochs", "place"), [(9, "epoch 3, step 1"), (2, "after epoch 2")])
def test_weights_that_are_not_finite_are_replaced_by_the_last_that_were(epochs, place):
    # The root's slope is 1/4 at 4, so a step of 16 slopes ends at 0, where it is infinite.
    model, x = Square(4.0), np.ones((2, 1))
    text = f"^fit: {place}: expected a finite loss, got .*weights from before epoch 1, step 1."
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=text):
        fit(model, (x, x), loss=lambda z, y: tg.sqrt(z).mean(), optimizer=nn.SGD(lr=16.0),
            epochs=epochs)  # fmt: skip
    assert model.w.data == model.seen.data == 4


def test_weights_are_copied_now_and_then():
    model, x = Square(1.0), np.ones((2, 1))

    def loss(z, y):
        return (z if model.w.data > -0.6 else tg.sqrt(z * 0)).mean()  # whose slope is no number

    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="from before epoch 101"):
        fit(model, (x, x), loss=loss, optimizer=nn.SGD(lr=1 / 64), epochs=200)
    assert model.w.data == 1 - 100 / 64


# --- probabilities ---


def test_predict_proba_is_softmax_or_sigmoid_of_the_outputs():
    x, _ = data()
    outputs = nn.predict(network(), x).astype(np.float64)
    e = np.exp(outputs)
    softmax, sigmoid = e / e.sum(axis=1, keepdims=True), 1 / (1 + np.exp(-outputs))
    np.testing.assert_allclose(nn.predict_proba(network(), x), softmax, rtol=1e-5)
    found = nn.predict_proba(network(), x, batch_size=3, multilabel=True)
    np.testing.assert_allclose(found, sigmoid, rtol=1e-5)
    single = nn.Dense(4, 1, rng=0)
    expected = 1 / (1 + np.exp(-nn.predict(single, x).astype(np.float64)))
    np.testing.assert_allclose(nn.predict_proba(single, x), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "end",
    [
        [nn.Dense(3, 3, activation="softmax")],
        [nn.Softmax()],
        [nn.Dense(3, 2, activation="sigmoid")],
        [nn.Sequential(nn.Sequential(nn.Sigmoid()))],
    ],
)
def test_probabilities_stay_what_they_are(end):
    model = nn.Sequential(nn.Dense(4, 3), *end)
    np.testing.assert_array_equal(nn.predict_proba(model, X), nn.predict(model, X))


# --- evaluate, on what is not two arrays ---


def test_evaluate_takes_batches_and_its_loss_is_the_mean_over_rows():
    loss = nn.SoftmaxCrossEntropy()
    whole = nn.evaluate(network(), (X, Y), loss=loss, metrics=["accuracy"])
    parts = nn.evaluate(network(), lambda: generated(X, Y), loss=loss, metrics=["accuracy"])
    assert parts["accuracy"] == whole["accuracy"]
    np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-6)
    summed = nn.SoftmaxCrossEntropy(reduction="sum")
    found = nn.evaluate(network(), (X, Y), loss=summed, batch_size=3)["loss"]
    np.testing.assert_allclose(found, 10 * whole["loss"], rtol=1e-6)


# --- what is shown ---


def history(**columns):
    made = History()
    for values in zip(*columns.values()):
        made.add(dict(zip(columns, values)), seconds=0.25)
    return made


def test_a_history_is_a_dict_of_lists():
    made = history(loss=[3.0, 2.0], accuracy=[0.5, 1.0])
    assert made == {"loss": [3.0, 2.0], "accuracy": [0.5, 1.0]}
    assert made.seconds == [0.25, 0.25]


def test_a_history_prints_as_a_table():
    assert str(history(loss=[30.0, 2e-5], val_loss=[0.0, 1e6])) == (
        "epoch        loss    val_loss\n"
        "    1     30.0000      0.0000\n"
        "    2   2.000e-05   1.000e+06\n"
        "2 epochs in 500 ms"
    )
    assert str(History()) == "0 epochs in 0 ms"


@pytest.mark.parametrize(
    ("epochs", "shown"), [(20, range(1, 21)), (41, [1, *range(3, 41, 3), 41]), (90_000, None)]
)
def test_a_long_history_is_abridged(epochs, shown):
    lines = str(history(loss=[1.0] * epochs)).splitlines()
    found = [int(line.split()[0]) for line in lines[1:-1]]
    assert found == list(shown or [1, *range(4500, 90_001, 4500)])
    assert lines[-1].startswith(f"{epochs} epochs in ")


def test_a_wide_history_is_folded_into_80_columns():
    columns = ["loss", "accuracy", "a_metric_with_a_long_name"]
    columns += [f"val_{name}" for name in columns]
    made = history(**{name: [1.0, 2.0] for name in columns})
    blocks = str(made).split("\n\n")
    assert [block.splitlines()[0].split() for block in blocks] == [
        ["epoch", *columns[:4]], ["epoch", *columns[4:]],
    ]  # fmt: skip
    assert max(map(len, str(made).splitlines())) <= 80


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (1.25, "1.25 s"), (59.0, "59 s"), (200.0, "3 min 20 s")],
)
def test_times_have_units(seconds, text):
    made = History()
    made.add({"loss": 1.0}, seconds)
    assert str(made).endswith(f"\n1 epoch in {text}")


def test_plot_draws_a_panel_a_measure_with_training_and_validation(tmp_path):
    pytest.importorskip("matplotlib")
    made = history(
        loss=[3.0, 0.02], accuracy=[0.5, 1.0], val_loss=[3.5, 1.0], val_accuracy=[0.4, 0.9]
    )
    figure = made.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    loss, accuracy = figure.axes
    curves = {line.get_label(): line.get_ydata().tolist() for line in loss.get_lines()}
    assert curves == {"training": [3.0, 0.02], "validation": [3.5, 1.0]}
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    assert loss.get_lines()[0].get_xdata().tolist() == [1, 2]


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "tinygrad-np\[plot\]"'):
        history(loss=[1.0]).plot()


def test_an_int_prints_every_so_many_epochs(capsys):
    fit(network(), epochs=7, verbose=3, metrics=["accuracy"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "epoch        loss    accuracy"
    assert [int(row.split()[0]) for row in rows] == [1, 3, 6, 7]


def test_rows_printed_one_by_one_fit_80_columns(capsys):
    names = ["accuracy", "f1", "recall", "precision", "top_k_accuracy"]
    top = lambda y, z: nn.metrics.top_k_accuracy(y, z, k=2)
    top.__name__ = names.pop()
    fit(network(), epochs=2, verbose=1, metrics=[*names, top], validation=data(seed=1))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == [
        "epoch",
        "loss",
        "accuracy",
        "f1",
        "recall",
        "precision",
        "val_loss",
    ]
    assert len(lines) == 3


class Terminal:
    """Standard error as a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("verbose", "ci", "shown"),
    [(True, "", True), (True, "true", False), (False, "", False), (1, "", False)],
)
def test_the_bar_is_shown_on_terminals_outside_ci(monkeypatch, capsys, verbose, ci, shown):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("CI", ci)
    fit(network(), epochs=2, batch_size=5, verbose=verbose)
    assert ("4/4" in terminal.text and "loss=" in terminal.text) == shown
    assert bool(terminal.text) == shown


def test_the_bar_shows_loss_and_speed_within_an_epoch(monkeypatch):
    class Slow(nn.SoftmaxCrossEntropy):
        def forward(self, outputs, targets):
            time.sleep(0.06)
            return super().forward(outputs, targets)

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.delenv("CI", raising=False)
    # Compiled, it would not sleep.
    fit(network(), lambda: generated(*data(), size=1), loss=Slow(), verbose=True, compile=False)
    shown = [line for line in terminal.text.split("\r") if re.search(r"\b[1-9]step", line)]
    assert any(re.search(r"step/s.*epoch=1, loss=\d", line) for line in shown)


@pytest.mark.parametrize("rows", [data(), lambda: generated(*data(), size=1)])
def test_no_value_behind_the_bar_is_cut(monkeypatch, rows):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (80, 24))
    monkeypatch.delenv("CI", raising=False)
    fit(network(), rows, verbose=True, metrics=["accuracy", "f1", "recall"],
        validation=data(seed=1))  # fmt: skip
    last = terminal.text.rstrip("\n").rpartition("\r")[2]
    assert len(last) <= 80
    assert re.search(r"step/s, epoch=1, loss=[\d.]+(, \w+=[\d.]+)*\]$", last)


def test_the_warning_of_ctrl_c_has_a_line_of_its_own(monkeypatch):
    class Interrupts(nn.Callback):
        def on_step_end(self, run):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("nn.train.warnings.warn", lambda text, **_: terminal.write(text))
    monkeypatch.delenv("CI", raising=False)
    fit(network(), verbose=True, callbacks=[Interrupts()])
    assert "\nfit: interrupted after 0 of 1 epochs" in terminal.text


def test_the_bar_is_quiet_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.delenv("CI", raising=False)
    fit(network(), verbose=True)
    assert capsys.readouterr() == ("", "")


def test_importing_nn_brings_nothing_heavy():
    program = (
        "import sys, nn; heavy = {'tqdm', 'matplotlib', 'scipy', 'graphviz', 'sklearn', 'torch'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(("rows", "fewest", "most"), [(100, 51, 60), (600, 4, 20)])
def test_long_runs_are_compiled_from_the_start(rows, fewest, most, capsys):
    class Loud(nn.Module):
        def forward(self, x):
            print("forward")
            return x * 2

    model = nn.Sequential(nn.Dense(2, 1, rng=0), Loud())
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    nn.fit(model, (x, x[:, :1]), loss=nn.MSE(), optimizer=nn.SGD(lr=0.01), epochs=1, batch_size=1,
           shuffle=False, verbose=False)  # fmt: skip
    assert fewest <= capsys.readouterr().out.count("forward") <= most
