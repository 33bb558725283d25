from __future__ import annotations

import csv
import re
import struct
import zlib

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn import tensorboard
from tinygrad_np.errors import ArgumentError

X = np.random.default_rng(0).normal(size=(10, 4))
Y = X[:, :3].argmax(axis=1)


def fit(*callbacks, model=None, **settings):
    defaults = {"loss": nn.SoftmaxCrossEntropy(), "optimizer": nn.SGD(lr=0.1), "batch_size": 4}
    model = nn.Dense(4, 3, rng=0) if model is None else model
    return nn.fit(model, (X, Y), callbacks=callbacks, **(defaults | settings))


class Moves(nn.Callback):
    """Gives a model of one parameter the values of a list, an epoch each, as its loss."""

    def __init__(self, losses):
        self.losses = losses
        self.model = nn.Module()
        self.model.w = tg.Tensor(np.zeros(1), requires_grad=True)
        self.model.forward = lambda x: self.model.w * np.ones((len(x), 1))

    def on_epoch_end(self, run):
        self.model.w.data = np.full(1, self.losses[min(run.epoch, len(self.losses) - 1)])

    def fit(self, *callbacks, **settings):
        self.model.w.data = np.full(1, self.losses[0])
        defaults = {
            "loss": lambda z, y: z.mean(), "optimizer": nn.SGD(lr=0.0), "epochs": len(self.losses)
        }  # fmt: skip
        history = nn.fit(self.model, (X, Y), callbacks=[*callbacks, self], **(defaults | settings))
        return history, self.model.w.data[0]


# --- when they are called, and with what ---


def test_callbacks_are_called_in_this_order():
    calls = []

    class Watch(nn.Callback):
        def __init__(self, name):
            self.name = name

        def on_train_begin(self, run):
            calls.append((self.name, "begin", run.epoch))

        def on_step_end(self, run):
            calls.append((self.name, "step", run.epoch, run.step, run.value > 0))

        def on_epoch_end(self, run):
            calls.append((self.name, "epoch", run.epoch, len(run.history["loss"])))

        def on_train_end(self, run):
            calls.append((self.name, "end", run.epoch))

    fit(Watch("a"), Watch("b"), epochs=2, batch_size=5)
    each = [("begin", 0)]
    for epoch in (1, 2):
        each += [("step", epoch, 1, True), ("step", epoch, 2, True), ("epoch", epoch, epoch)]
    each += [("end", 2)]
    assert calls == [(name, *call) for call in each for name in "ab"]


def test_steps_are_those_of_the_optimizer():
    steps = []

    class Watch(nn.Callback):
        def on_step_end(self, run):
            steps.append(run.step)

    fit(Watch(), batch_size=1, accumulate=4)
    assert steps == [4, 8, 10]  # the last has what remains


def test_a_run_shows_what_there_is():
    class Watch(nn.Callback):
        def on_train_begin(self, run):
            self.run = run

    watch, model, loss = Watch(), nn.Dense(4, 3), nn.SoftmaxCrossEntropy()
    optimizer, schedule = nn.SGD(lr=0.1), nn.StepDecay(size=1)
    history = fit(watch, model=model, loss=loss, optimizer=optimizer, schedule=schedule, epochs=3)
    run = watch.run
    assert run.model is model
    assert run.loss is loss
    assert run.optimizer is optimizer
    assert run.schedule is schedule
    assert run.history is history
    assert (run.epoch, run.epochs) == (3, 3)


def test_a_callback_can_end_the_training():
    class Enough(nn.Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                run.stop("it is enough")

    history = fit(Enough(), epochs=9)
    assert len(history["loss"]) == 2
    assert str(history).endswith("; stopped: it is enough")


def test_the_end_comes_after_ctrl_c_too():
    ended = []

    class Watch(nn.Callback):
        def on_step_end(self, run):
            raise KeyboardInterrupt

        def on_train_end(self, run):
            ended.append(run.history.stopped)

    with pytest.warns(UserWarning, match="interrupted after 0 of 1 epochs"):
        fit(Watch())
    assert ended == ["interrupted"]


def test_only_callbacks_are_callbacks():
    text = "fit: expected callbacks that are nn.Callback, got <built-in function print>."
    with pytest.raises(ArgumentError, match=re.escape(text)):
        fit(print)


# --- EarlyStopping ---

FALLS_AND_RISES = [5.0, 3.0, 2.0, 2.5, 1.875, 2.0, 4.0, 2.5, 1.0]


@pytest.mark.parametrize(
    ("settings", "epochs", "best"),
    [
        ({"patience": 3}, 8, 5),
        ({"patience": 1}, 4, 3),
        ({"patience": 4}, 9, 9),  # 1.0 comes in time
        ({"patience": 2, "min_delta": 0.125}, 5, 3),  # 2 - 1.875 does not exceed it
        ({"patience": 3, "mode": "max"}, 4, 1),
        ({"patience": 3, "restore_best": False}, 8, None),
    ],
)
def test_early_stopping_waits_and_restores(settings, epochs, best):
    moves = Moves(FALLS_AND_RISES)
    stop = nn.EarlyStopping(**settings)
    history, weight = moves.fit(stop)
    assert history["loss"] == FALLS_AND_RISES[:epochs]
    if epochs < len(FALLS_AND_RISES):
        assert history.stopped == f"loss was best in epoch {stop.best_epoch}"
    if best is None:
        assert weight == FALLS_AND_RISES[epochs]
    else:
        assert (stop.best_epoch, stop.best) == (best, FALLS_AND_RISES[best - 1])
        assert weight == FALLS_AND_RISES[best - 1]


def test_early_stopping_watches_the_validation_loss_or_what_it_is_told():
    stop = nn.EarlyStopping(patience=1)
    history = fit(stop, epochs=30, validation=(X[:3], Y[:3]), optimizer=nn.SGD(lr=3.0), seed=0)
    assert stop.best == min(history["val_loss"])
    assert history.stopped.startswith("val_loss was best in")
    stop = nn.EarlyStopping(patience=2, monitor="test_accuracy")
    history = fit(stop, epochs=50, validation={"test": (X[:3], Y[:3])}, metrics=["accuracy"])
    assert stop.best == max(history["test_accuracy"])
    assert len(history["loss"]) < 50


def test_early_stopping_restores_buffers_and_begins_anew_in_another_fit():
    class Model(nn.Module):
        def __init__(self):
            self.layer = nn.Dense(4, 3, rng=0)
            self.count = tg.Tensor(np.zeros(1))

        def forward(self, x):
            if self.training:
                self.count.data = self.count.data + 1
            return self.layer(x)

    model, stop = Model(), nn.EarlyStopping(patience=2)
    for count in (1, 2):  # a step an epoch; with no learning rate the first remains the best
        history = fit(stop, model=model, optimizer=nn.SGD(lr=0.0), batch_size=None, epochs=9)
        assert (stop.best_epoch, len(history["loss"])) == (1, 3)
        assert model.count.data[0] == count


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: nn.EarlyStopping(patience=0),
            "EarlyStopping: expected patience as a whole number",
        ),
        (lambda: nn.EarlyStopping(min_delta=-1), "EarlyStopping: expected min_delta >= 0, got -1."),
        (lambda: nn.EarlyStopping(mode="best"), 'expected mode="min" or mode="max", got mode=\'b'),
        (lambda: nn.EarlyStopping(monitor="taste"), "got mode=None for 'taste'. Say which values"),
        (
            lambda: nn.EarlyStopping(monitor="val_acuracy"),
            "Say which values are better. Did you mean 'accuracy'",
        ),
        (lambda: fit(nn.EarlyStopping), "Write nn.EarlyStopping(...)."),
        (
            lambda: fit(nn.EarlyStopping(monitor="val_loss")),
            "expected monitor among loss, got 'val_loss'. Did you mean 'loss'?",
        ),
    ],
)
def test_bad_settings_of_early_stopping_are_refused(make, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        make()


# --- CSVLog ---


def test_a_csv_log_has_a_row_an_epoch_as_soon_as_it_is_over(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("of another run")
    counts = []

    class Watch(nn.Callback):
        def on_epoch_end(self, run):
            counts.append(len(path.read_text().splitlines()))

    history = fit(nn.CSVLog(path), Watch(), epochs=3, metrics=["accuracy"], validation=(X, Y))
    assert counts == [2, 3, 4]
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["epoch", "seconds", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert [int(row[0]) for row in rows] == [1, 2, 3]
    columns = [history.seconds, *history.values()]
    for row, values in zip(rows, zip(*columns)):
        assert [float(cell) for cell in row[1:]] == list(values)  # to the bit


# --- TensorBoardLog ---


def records(content):
    """The data of each record, checksums checked."""
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        data = content[12 : 12 + length]
        assert content[8:12] == tensorboard._checksum(content[:8])
        assert content[12 + length : 16 + length] == tensorboard._checksum(data)
        yield data
        content = content[16 + length :]


def fields(data):
    """Numbers and values of the fields of a protocol buffer."""

    def varint(at):
        n, shift = 0, 0
        while True:
            n |= (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 128:
                return n, at

    found, at = {}, 0
    while at < len(data):
        key, at = varint(at)
        match key & 7:
            case 0:
                value, at = varint(at)
            case 1:
                value, at = struct.unpack("<d", data[at : at + 8])[0], at + 8
            case 5:
                value, at = struct.unpack("<f", data[at : at + 4])[0], at + 4
            case 2:
                length, at = varint(at)
                value, at = data[at : at + length], at + length
        found[key >> 3] = value
    return found


def test_event_files_hold_every_measure(tmp_path):
    history = fit(nn.TensorBoardLog(tmp_path / "a" / "b"), epochs=300, metrics=["accuracy"])
    [file] = (tmp_path / "a" / "b").iterdir()
    first, *events = map(fields, records(file.read_bytes()))
    assert first[3] == b"brain.Event:2"
    found = {}
    for event in events:
        value = fields(fields(event[5])[1])
        found.setdefault(value[1].decode(), {})[event[2]] = value[2]
        assert event[1] > 1.7e9  # seconds since 1970
    assert found == {
        name: dict(enumerate(np.float32(values).tolist(), start=1))
        for name, values in history.items()
    }


def test_tensorboard_reads_them(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    history = fit(nn.TensorBoardLog(tmp_path), epochs=3)
    read = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert read.Tags()["scalars"] == ["loss"]
    found = [(event.step, event.value) for event in read.Scalars("loss")]
    assert found == list(enumerate(np.float32(history["loss"]).tolist(), start=1))


def test_a_resumed_run_replaces_the_epochs_it_does_again(tmp_path):
    path = tmp_path / "run.npz"
    fit(nn.Checkpoint(path), epochs=2)
    fit(nn.Checkpoint(path), nn.TensorBoardLog(tmp_path / "log"), epochs=4, resume=path)
    [file] = (tmp_path / "log").iterdir()
    _, start, *events = map(fields, records(file.read_bytes()))
    assert (start[2], fields(start[7])) == (3, {1: 1})  # a session starts: purge from step 3 on
    assert [event[2] for event in events] == [3, 4]


def test_the_checksum_is_not_that_of_zip():
    assert tensorboard.crc32c(b"123456789") == 0xE3069283  # RFC 3720, and any table of CRCs
    assert tensorboard.crc32c(b"") == 0
    # The first twelve bytes of event files, as every hex dump of one shows them.
    assert tensorboard.record(bytes(24))[:12].hex() == "1800000000000000a37f4b22"
    assert tensorboard.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert zlib.crc32(b"123456789") != 0xE3069283


def test_numbers_take_as_many_bytes_as_they_need():
    assert [tensorboard.varint(n) for n in (0, 127, 128, 300)] == [
        b"\x00", b"\x7f", b"\x80\x01", b"\xac\x02",
    ]  # fmt: skip
