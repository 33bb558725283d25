from __future__ import annotations

import re
import subprocess
import sys
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
    fit(Spy(4, 3), (x, y), epochs=3, batch_size=None)
    assert len(seen) == 3
    assert all(batch is x for batch in seen)


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
    "no pair": (X, {}, ArgumentError, "fit: expected data as (x, y) or a Dataset, got a ndarray."),
    "a number": (3, {}, ArgumentError, "data as (x, y) or a Dataset, got a int."),
    "three": ((X, Y, Y), {}, ArgumentError, "data as (x, y) or a Dataset, got a tuple."),
    "text": ((X.astype(str), Y), {}, DtypeError, "fit: x: expected real numbers, got dtype <U"),
    "text in y": ((X, Y.astype(str)), {}, DtypeError, "fit: y: expected real numbers, got"),
    "labels from 1": (
        (X, Y + 1), {}, IndexingError,
        "labels in 0 ... 2 for 3 classes, got 2 ... 3. Do the labels start at 1?"),
    "one label": ((X, np.r_[Y[:9], 7]), {}, IndexingError, "for 3 classes, got 1 ... 7."),
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
    "no tensor": ((X, Y), {"loss": lambda z, t: 1.0}, ArgumentError, "got () from <function"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "settings", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_before_training(rows, settings, error, text):
    model = network()
    optimizer = nn.SGD(lr=0.1)
    with pytest.raises(error, match=re.escape(text)):
        fit(model, rows, **({"optimizer": optimizer, "batch_size": 4} | settings))
    assert_same_weights(model, network())
    assert optimizer.params is None


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
        (nan(X), NonFiniteError, "got nan at row 3, column 1"),
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
