"""Callbacks: what `nn.fit` calls while it trains, and the `Run` it shows them."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nn import init
from nn.checkpoint import checked_path, remove_unfinished, save_run
from nn.history import History, direction, monitored
from nn.module import Module, check_state
from nn.optim import Optimizer
from nn.schedules import Schedule
from tinygrad_np.errors import ArgumentError, TensorError, message

Array = NDArray[Any]


class Callback:
    """Base of all callbacks: override what is to happen.

    One that keeps something from epoch to epoch gives it in `state_dict` and takes it back in
    `load_state_dict`, so that a resumed run is the run it would have been.

    Examples
    --------
    >>> import nn
    >>> class Loud(nn.Callback):
    ...     def on_epoch_end(self, run):
    ...         print(f"epoch {run.epoch} of {run.epochs}")
    >>> _ = nn.fit(nn.Dense(4, 3), nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(),
    ...            optimizer=nn.SGD(lr=0.1), epochs=2, callbacks=[Loud()])
    epoch 1 of 2
    epoch 2 of 2
    """

    every_rank: ClassVar[bool] = False
    """Whether it is called on all ranks of a parallel run, as what changes the model has to be;
    else only on rank 0, as what writes or prints should be."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first epoch, or the first after the one that is resumed."""

    def on_step_end(self, run: Run) -> None:
        """After each step of the optimizer."""

    def on_epoch_end(self, run: Run) -> None:
        """After each epoch, which the history has; ``run.stop(...)`` makes it the last."""

    def on_train_end(self, run: Run) -> None:
        """After the last epoch, or Ctrl-C; not after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What it takes to go on, of dicts, lists, numbers, texts, None and arrays."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""


@dataclass(eq=False)
class Run:
    """A training under way.

    Attributes
    ----------
    model : Module
    loss : callable
    optimizer : Optimizer
    schedule : Schedule or None
    epochs : int
        How many there will be.
    history : History
        Of the epochs that are over.
    epoch, step : int
        The present ones, counted from 1; the steps are the batches of the epoch.
    value : float
        The loss of the last batch.
    settings : dict
        What a run that goes on must have in common with the one that was interrupted.
    """

    model: Module
    loss: Any
    optimizer: Optimizer
    schedule: Schedule | None
    callbacks: list[Callback]
    epochs: int
    settings: dict[str, Any]
    first_draw: dict[str, Any]  # the state of nn's generator before anything was drawn
    history: History = field(default_factory=History)
    epoch: int = 0
    step: int = 0
    value: float = float("nan")

    def stop(self, reason: str) -> None:
        """End the training after this epoch."""
        self.history.stopped = reason

    # -- state -------------------------------------------------------------------------------------

    saved: ClassVar[tuple[str, ...]] = (
        "epoch", "common", "first_draw", "generators", "parts", "history", "seconds", "stopped",
    )  # fmt: skip
    """What `save` writes beside the weights."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all it takes to go on to the same bits."""
        values = (
            self.epoch, self._common(), self.first_draw,
            [generator.bit_generator.state for generator in self._generators().values()],
            {name: part.state_dict() for name, part in self._parts().items()},
            dict(self.history), self.history.seconds, self.history.stopped,
        )  # fmt: skip
        save_run(self.model, path, dict(zip(self.saved, values, strict=True)))

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Take over what `save` wrote and `load_run` read.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError
            For the state of another run, with the differences; nothing is changed then.
        """
        try:
            check_state("resume", dict(self.model._state("resume")), state["model"], self.model)
        except ArgumentError as error:
            error.add_note(f"resume: the file holds a run of\n{state['described']}")
            raise
        common, had = self._common(), state["common"]
        differences = [
            f"{name}={had.get(name)!r}, now {common.get(name)!r}"
            for name in common | had
            if had.get(name) != common.get(name)
        ]
        if state["epoch"] > self.epochs:
            differences.append(f"{state['epoch']} epochs already, of {self.epochs}")
        if differences:
            raise ArgumentError(
                message("resume", "the run that was interrupted", f"{'; '.join(differences)}",
                        "nn.load(model, path) takes only its weights.")
            )  # fmt: skip
        parts = {"model": self.model} | self._parts()
        states = {"model": state["model"]} | state["parts"]
        before = {name: part.state_dict() for name, part in parts.items()}
        try:
            for name, part in parts.items():
                part.load_state_dict(states[name])
        except TensorError:
            for name, part in parts.items():
                part.load_state_dict(before[name])
            raise
        for generator, kept in zip(self._generators().values(), state["generators"]):
            generator.bit_generator.state = kept
        self.epoch = state["epoch"]
        self.history.update(state["history"])
        self.history.seconds = list(state["seconds"])
        self.history.stopped = state["stopped"]

    def _common(self) -> dict[str, Any]:
        """What a run must have in common with one that it continues."""
        return self.settings | {"parts": list(self._parts()), "rng": list(self._generators())}

    def _parts(self) -> dict[str, Any]:
        """Optimizer, schedule and callbacks that have a state, by name."""
        parts: dict[str, Any] = {type(self.optimizer).__name__: self.optimizer}
        if self.schedule is not None:
            parts[type(self.schedule).__name__] = self.schedule
        for i, callback in enumerate(self.callbacks):
            if callback.state_dict():
                parts[f"{type(callback).__name__} {i}"] = callback
        return parts

    def _generators(self) -> dict[str, Any]:
        return generators(self.model)


def generators(model: Module) -> dict[str, np.random.Generator]:
    """The random generators: of `nn`, and those that modules hold, by path."""
    held = {
        f"{path}.{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, np.random.Generator)
    }
    return {"nn": init.generator()} | held


# --------------------------------------------------------------------------------------------------
# The callbacks there are
# --------------------------------------------------------------------------------------------------


class EarlyStopping(Callback):
    """End the training when a measure has not improved for ``patience`` epochs.

    Parameters
    ----------
    patience : int
        Epochs without improvement until it ends.
    monitor : str, optional
        A name in the history; by default ``val_loss``, or without validation data ``loss``.
    min_delta : float
        What an improvement must exceed.
    restore_best : bool
        Whether the model has the weights of the best epoch at the end, however the training ended.
    mode : {"min", "max"}, optional
        Which values are better; known for losses and the metrics that have a name.

    Attributes
    ----------
    best : float or None
    best_epoch : int

    Raises
    ------
    ArgumentError
        For settings outside their range; after the first epoch for a measure that there is not.

    Notes
    -----
    Prechelt, "Early Stopping - But When?" (1998), the third class of criteria.
    """

    every_rank = True

    def __init__(
        self,
        patience: int = 10,
        monitor: str | None = None,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: str | None = None,
    ) -> None:
        check_count("EarlyStopping", "patience", patience)
        if not min_delta >= 0:
            raise ArgumentError(message("EarlyStopping", "min_delta >= 0", repr(min_delta)))
        self.patience, self.monitor, self.min_delta = patience, monitor, min_delta
        self.restore_best = restore_best
        self.sign = direction("EarlyStopping", monitor or "loss", mode)
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.best_epoch = 0
        self.weights: dict[str, Array] | None = None

    def on_train_begin(self, run: Run) -> None:
        if run.epoch == 0:
            self._forget()

    def on_epoch_end(self, run: Run) -> None:
        measured = {name: values[-1] for name, values in run.history.items()}
        name, value = monitored("EarlyStopping", measured, self.monitor)
        if self.best is None or self.sign * (value - self.best) > self.min_delta:
            self.best, self.best_epoch = value, run.epoch
            if self.restore_best:
                self.weights = run.model.state_dict()
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop(f"{name} was best in epoch {self.best_epoch}")

    def on_train_end(self, run: Run) -> None:
        if self.weights is not None:
            run.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.weights = state["weights"]


class Checkpoint(Callback):
    """Write the whole state of the run after every n epochs, for ``fit(..., resume=path)``.

    Weights, optimizer, schedule, callbacks, random generators and history: a run that is killed at
    any moment and resumed ends with the weights it would have had, to the bit. There is a first
    file before the first step and one after the last epoch; each takes the place of the one before
    at once, so that there always is a whole one. `nn.load` reads its weights.

    Parameters
    ----------
    path : str or path
        Ending in ``.npz`` or ``.safetensors``, as for `nn.save`.
    every : int
        Epochs from one file to the next.

    Raises
    ------
    ArgumentError
        For another ending or number.
    OSError
        If it cannot be written; the file that was there is as it was.

    Examples
    --------
    >>> import nn, os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "run.npz")
    >>> def train(epochs):
    ...     model = nn.Sequential(nn.Dense(4, 8, activation="tanh"), nn.Dense(8, 3))
    ...     return nn.fit(model, nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(),
    ...                   optimizer=nn.Adam(lr=0.01), epochs=epochs, seed=0,
    ...                   callbacks=[nn.Checkpoint(path)], resume=path)
    >>> first, longer = train(2), train(5)  # the second begins with the third epoch
    >>> len(longer.seconds), longer["loss"][:2] == first["loss"]
    (5, True)
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        check_count("Checkpoint", "every", every)
        self.path, self.every = checked_path("Checkpoint", path), every

    def on_train_begin(self, run: Run) -> None:
        remove_unfinished(self.path)
        if run.epoch == 0:
            run.save(self.path)

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch % self.every == 0 or run.epoch == run.epochs or run.history.stopped:
            run.save(self.path)


class CSVLog(Callback):
    """Write the history into a ``.csv`` file, a row after each epoch: epoch, seconds, measures.

    The file is begun anew; by a resumed run with the epochs that went before.

    Parameters
    ----------
    path : str or path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def on_train_begin(self, run: Run) -> None:
        self._write("w", run, ["epoch", "seconds", *run.history], range(1, run.epoch + 1))

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch == 1:  # only now it is known what is measured
            self._write("w", run, ["epoch", "seconds", *run.history], [1])
        else:
            self._write("a", run, None, [run.epoch])

    def _write(self, mode: str, run: Run, head: list[str] | None, epochs: Iterable[int]) -> None:
        with self.path.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if head is not None:
                writer.writerow(head)
            for epoch in epochs:
                values = [column[epoch - 1] for column in run.history.values()]
                writer.writerow([epoch, run.history.seconds[epoch - 1], *values])


def check_count(operation: str, name: str, value: Any) -> None:
    """Raise unless a setting is a whole number of at least 1.

    Raises
    ------
    ArgumentError
        Otherwise.
    """
    if not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(
            message(operation, f"{name} as a whole number of at least 1", repr(value))
        )
