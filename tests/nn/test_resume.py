"""A run that is killed and resumed ends with the bits it would have ended with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, NonFiniteError

ROOT = Path(__file__).parent.parent.parent


class Noisy(nn.Module):
    """Parameters, a buffer that training moves, and two random generators beside that of nn."""

    def __init__(self):
        self.net = nn.Sequential(nn.Dense(8, activation="tanh"), nn.Dense(3))  # sizes from data
        self.mean = tg.Tensor(np.zeros(4, np.float32))
        self.rng = np.random.default_rng()
        self.inner = nn.Sequential()
        self.inner.rng = np.random.default_rng()

    def forward(self, x):
        if self.training:
            self.mean.data = 0.9 * self.mean.data + 0.1 * np.float32(x.mean(axis=0))
            x = x + self.rng.normal(0, 0.1, x.shape) + self.inner.rng.normal(0, 0.1, x.shape)
            x = x + nn.init.generator().normal(0, 0.1, x.shape)
        return self.net(np.asarray(x - self.mean.data, np.float32))


OPTIMIZERS = {
    "momentum": lambda model: nn.SGD(lr=0.05, momentum=0.9),
    "adam": lambda model: nn.Adam(lr=0.01, amsgrad=True),
    "nadam": lambda model: nn.NAdam(lr=0.01, weight_decay=1e-3),
    "lbfgs": lambda model: nn.LBFGS(lr=0.5, history=3),
    "groups": lambda model: nn.AdamW(
        [{"params": model.net[0].parameters()},
         {"params": model.net[1].parameters(), "lr": 0.02}], lr=0.01),
}  # fmt: skip


def train(path, epochs=6, optimizer="adam", callbacks=(), every=1, model=None, **settings):
    """One run, resumed from the path if there is something; the model and the history."""
    model = Noisy() if model is None else model
    if optimizer == "groups":
        model(nn.datasets.iris().x)  # so that there are parameters to group
    defaults = {
        "schedule": nn.LinearWarmup(length=9, then=nn.CosineDecay(length=40, per="step")),
        "validation": 0.2, "metrics": ["accuracy"], "batch_size": 32, "verbose": False,
    }  # fmt: skip
    history = nn.fit(
        model, nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(),
        optimizer=OPTIMIZERS[optimizer](model), epochs=epochs, resume=path,
        callbacks=[nn.Checkpoint(path, every=every), *callbacks], **(defaults | settings),
    )  # fmt: skip
    return model, history


class Killed(Exception):
    pass


class KillAt(nn.Callback):
    def __init__(self, epoch, step):
        self.at = epoch, step

    def on_step_end(self, run):
        if (run.epoch, run.step) == self.at:
            raise Killed


def assert_same_run(one, other):
    (model, history), (twin, again) = one, other
    assert dict(history) == dict(again)
    for (path, value), expected in zip(model.state_dict().items(), twin.state_dict().values()):
        np.testing.assert_array_equal(value, expected, err_msg=path)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_is_resumed_after_any_epoch_is_the_unbroken_run(tmp_path, optimizer):
    path, copies = tmp_path / "run.npz", {}

    class Keep(nn.Callback):
        def on_step_end(self, run):
            copies.setdefault((run.epoch, run.step), path.read_bytes())

    whole = train(path, optimizer=optimizer, callbacks=[Keep()])
    assert len({*copies.values()}) == 6  # one before the first step, one after each epoch but last
    for bytes_then in {*copies.values()}:
        path.write_bytes(bytes_then)
        nn.seed(None)  # whatever the new process would draw
        assert_same_run(train(path, optimizer=optimizer), whole)
    assert_same_run(train(path, optimizer=optimizer), whole)  # nothing is left to do


def test_a_second_kill_changes_nothing(tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(Killed):
        train(path, callbacks=[KillAt(1, 1)], every=2)
    first = path.read_bytes()
    whole = train(path, every=2)
    path.write_bytes(first)
    for at in ((3, 2), (4, 4), (6, 1)):  # the file is that of epoch 2, 2 and 4
        with pytest.raises(Killed):
            train(path, every=2, callbacks=[KillAt(*at)])
    assert_same_run(train(path, every=2), whole)


def test_early_stopping_and_a_plateau_are_resumed(tmp_path):
    def run(name, kill=()):
        stop = nn.EarlyStopping(patience=2, min_delta=1e-2)
        path = tmp_path / name
        return train(
            path, epochs=60, optimizer="momentum", callbacks=[stop, *kill], seed=3,
            schedule=nn.ReduceOnPlateau(patience=0, threshold=0.2),
            model=nn.Sequential(nn.Dense(3)),
        )  # fmt: skip

    whole = run("whole.npz")
    stopped = len(whole[1].seconds)
    assert 4 < stopped < 60
    assert whole[1]["lr"][-1] < whole[1]["lr"][0]
    for epoch in (stopped, stopped - 1):
        with pytest.raises(Killed):
            run(f"{epoch}.npz", [KillAt(epoch, 1)])
        resumed = run(f"{epoch}.npz")
        assert_same_run(resumed, whole)
        assert resumed[1].stopped == whole[1].stopped != ""
    assert_same_run(run("whole.npz"), whole)  # what has stopped stays stopped, with its best


def test_accumulation_weights_clips_and_batches_of_a_function_are_resumed(tmp_path):
    x, y = nn.datasets.iris()

    def batches():
        order = nn.init.generator().permutation(150)
        return ((x[order[i : i + 20]], y[order[i : i + 20]]) for i in range(0, 150, 20))

    def run(name, kill=()):
        path = tmp_path / name
        model = nn.Sequential(nn.Dense(5, activation="relu"), nn.Dense(3))
        history = nn.fit(
            model, batches, loss=nn.SoftmaxCrossEntropy(), optimizer=nn.RMSProp(lr=0.01),
            epochs=4, accumulate=3, class_weight={0: 1, 1: 2, 2: 0.5}, clip_norm=0.1, seed=1,
            callbacks=[nn.Checkpoint(path), *kill], resume=path,
        )  # fmt: skip
        return model, history

    whole = run("whole.npz")
    with pytest.raises(Killed):
        run("killed.npz", [KillAt(3, 6)])
    assert_same_run(run("killed.npz"), whole)


# --- killed from outside ---

PROGRAM = """
import sys
import numpy as np
import nn

path, out = sys.argv[1:]
x = np.random.default_rng(0).normal(size=(400, 20)).astype(np.float32)
y = (x[:, :3] ** 2).argmax(axis=1)
nn.seed(7)
model = nn.Sequential(nn.Dense(20, 32, activation="relu"), nn.Dropout(0.2), nn.Dense(32, 3))
history = nn.fit(
    model, (x, y), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=3e-3), epochs=150,
    batch_size=16, validation=0.1, schedule=nn.CosineDecay(length=150),
    callbacks=[nn.Checkpoint(path, every=2), nn.CSVLog(path + ".csv")], resume=path,
)
nn.save(model, out)
"""


def start(tmp_path, name):
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        f"{tmp_path}/{name}.npz",
        f"{tmp_path}/{name}_end.npz",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment)


def test_a_process_killed_at_several_moments_and_resumed_ends_with_the_same_bits(tmp_path):
    assert start(tmp_path, "whole").wait() == 0
    rng = np.random.default_rng()
    kills, path = 0, tmp_path / "killed.npz"
    while True:
        process = start(tmp_path, "killed")
        limit = time.monotonic() + 30
        before = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None and time.monotonic() < limit:
            # The first is killed as it starts; later ones once they have written a file, some
            # moments on: in the middle of a step, of writing, of a validation.
            if kills == 0 or (path.exists() and path.stat().st_mtime_ns != before):
                break
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        if kills == 6 or process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kills += 1
    assert process.wait() == 0
    assert kills >= 3
    assert (tmp_path / "killed_end.npz").read_bytes() == (tmp_path / "whole_end.npz").read_bytes()
    logs = [(tmp_path / f"{name}.npz.csv").read_text().splitlines() for name in ("whole", "killed")]
    without_seconds = [[row.split(",")[:1] + row.split(",")[2:] for row in log] for log in logs]
    assert without_seconds[0] == without_seconds[1]
    assert len(logs[0]) == 151
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


# --- the file ---


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


def test_the_file_holds_weights_that_load_reads(path):
    model, history = train(path, epochs=2)
    other = Noisy()
    other(np.zeros((1, 4)))
    nn.load(other, path)
    assert_same_run((other, history), (model, history))
    with np.load(path, allow_pickle=False) as arrays:
        run = json.loads(str(arrays["about"]))["run"]
        np.testing.assert_array_equal(arrays["net.0.W"], model.net[0].W.data)
    assert (run["epoch"], run["history"]) == (2, dict(history))


def test_what_killed_processes_left_is_removed(path):
    left = path.with_name(f".{path.name}.0123abcd.part")
    other = path.with_name(".other.npz.0123abcd.part")
    for file in (left, other):
        file.write_bytes(b"half")
    train(path, epochs=1)
    assert sorted(os.listdir(path.parent)) == [other.name, path.name]


def test_a_checkpoint_is_written_every_n_epochs_and_at_the_end(path):
    times = []

    class Watch(nn.Checkpoint):
        def on_epoch_end(self, run):
            before = path.stat().st_ino
            super().on_epoch_end(run)
            if path.stat().st_ino != before:
                times.append(run.epoch)

    nn.fit(nn.Dense(4, 3), nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(),
           optimizer=nn.SGD(lr=0.1), epochs=7, callbacks=[Watch(path, every=3)])  # fmt: skip
    assert times == [3, 6, 7]


def test_a_full_disk_ends_the_run_and_keeps_the_old_file(path, monkeypatch):
    train(path, epochs=2)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        train(path, epochs=4)
    assert caught.value.__notes__ == [
        f"Checkpoint: {path} was not written; what was there before is as it was."
    ]
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


# --- what is refused ---


def refused(path, text, **settings):
    model = Noisy() if settings.get("model") is None else settings["model"]
    model(np.zeros((1, 4)))
    before, file = model.state_dict(), path.read_bytes()
    with pytest.raises(ArgumentError, match=text) as caught:
        train(path, **(settings | {"model": model}))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert path.read_bytes() == file
    return caught.value


def test_another_run_is_refused_with_the_differences(path):
    train(path, epochs=3)
    text = r"resume: expected the run that was interrupted, got batch_size=32, now 16; shuffle="
    refused(path, text, batch_size=16, shuffle=False, epochs=3)
    refused(path, "got 3 epochs already, of 2. nn.load", epochs=2)
    refused(path, r"'EarlyStopping 0'", callbacks=[nn.EarlyStopping()])
    refused(path, "parts=.'Adam', 'LinearWarmup'., now .'SGD', 'Lin", optimizer="momentum")
    refused(path, "accumulate=1, now 2", accumulate=2)
    refused(path, "clip_norm=None, now 3", clip_norm=3)


def test_a_run_with_other_groups_is_refused_and_nothing_is_changed(path):
    train(path, optimizer="groups", epochs=2)
    model = Noisy()
    model(np.zeros((1, 4)))
    before = model.state_dict()
    optimizer = nn.AdamW(lr=0.5)
    with pytest.raises(ArgumentError, match="expected algorithm, options and state"):
        nn.fit(model, nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(), optimizer=optimizer,
               epochs=6, resume=path, callbacks=[nn.Checkpoint(path)], validation=0.2,
               schedule=nn.LinearWarmup(length=9))  # fmt: skip
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_another_architecture_is_refused_with_the_differences(path):
    train(path, epochs=3)
    other = Noisy()
    other.net = nn.Sequential(nn.Dense(9), nn.Dense(3))
    error = refused(path, r"of another shape: net.0.W \(4, 8\) for \(4, 9\)", model=other)
    assert error.__notes__[0].startswith("resume: the file holds a run of\nNoisy(")
    # The weights that differ are told before the generators that are not there.
    other = nn.Sequential(nn.Dense(4, 3), nn.Dropout(0.2, rng=0))
    refused(path, r"missing: 0.W \(4, 3\), 0.b \(3,\)", model=other)


def test_other_files_are_refused(path):
    model = Noisy()
    model(np.zeros((1, 4)))
    nn.save(model, path)
    refused(path, "resume: expected a file written by nn.Checkpoint, got .* written by nn.save")
    train(path.with_name("other.npz"), epochs=1)
    whole = path.with_name("other.npz").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, r"^resume: .* is damaged or no \.npz file \(")


@pytest.mark.parametrize("key", ["epoch", "parts", "history", "generators"])
def test_a_file_that_lacks_something_is_refused(path, key):
    train(path, epochs=1)
    with np.load(path) as file:
        arrays = dict(file)
    about = json.loads(str(arrays["about"]))
    del about["run"][key]
    np.savez(path, **(arrays | {"about": np.array(json.dumps(about))}))
    refused(path, f"^resume: .* is damaged: it lacks {key}")
    about["run"][key] = {"array": "run/999"}
    np.savez(path, **(arrays | {"about": np.array(json.dumps(about))}))
    refused(path, "^resume: .* is damaged: it lacks run/999")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no folder {tmp_path / 'none'}")):
        train(tmp_path / "none" / "run.npz")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Checkpoint("run.ckpt"), "Checkpoint: expected a path ending in .npz or"),
        (lambda: nn.Checkpoint("run.npz", every=0), "Checkpoint: expected every as a whole number"),
    ],
)
def test_bad_settings_are_refused(make, text):
    with pytest.raises(ArgumentError, match=f"^{re.escape(text)}"):
        make()


def test_weights_that_are_not_finite_are_never_written(path):
    class Spoil(nn.Callback):
        def on_step_end(self, run):
            if run.epoch == 2:
                run.model.parameters()[0].data = np.full((4, 3), np.nan)

    model = nn.Dense(4, 3)
    with pytest.raises(NonFiniteError, match=r"^fit: after epoch 2: expected") as caught:
        nn.fit(
            model,
            nn.datasets.iris(),
            loss=nn.SoftmaxCrossEntropy(),
            batch_size=None,
            optimizer=nn.SGD(lr=0.1),
            epochs=9,
            callbacks=[nn.Checkpoint(path), Spoil()],
        )
    assert "from before epoch 1, step 1." in str(caught.value)
    with np.load(path) as file:
        assert np.isfinite(file["W"]).all()
        assert json.loads(str(file["about"]))["run"]["epoch"] == 1
