"""`History`: what `nn.fit` measured, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from nn.names import near
from tinygrad_np.errors import ArgumentError, message

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 80
ROWS = 20  # of a printed table, which leaves epochs out when there are more

# Which values of a measure are better, the low or the high.
LOW = ("loss", "mae", "mse")
HIGH = ("accuracy", "precision", "recall", "f1", "roc_auc", "r2")


class History(dict[str, list[float]]):
    """Losses and metrics of each epoch: a dict of lists that prints as a table.

    ``history["loss"][-1]`` is the last training loss. Keys are ``loss`` and the metrics' names, and
    each with ``val_`` before it where there was validation data, or the names of several such sets;
    with a schedule also ``lr``, the learning rate at the end of the epoch.

    Attributes
    ----------
    seconds : list of float
        The time each epoch took, validation included.
    sets : list of str
        The names of the validation sets.
    stopped : str
        Why the training ended before its time, if it did.

    Examples
    --------
    >>> history = History()
    >>> for loss, accuracy in (2.5, 0.25), (0.3125, 0.875), (4e-5, 1.0):
    ...     history.add({"loss": loss, "accuracy": accuracy}, seconds=0.5)
    >>> history
    epoch        loss    accuracy
        1      2.5000      0.2500
        2      0.3125      0.8750
        3   4.000e-05      1.0000
    3 epochs in 1.5 s
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.sets: list[str] = []
        self.stopped = ""

    def add(self, measured: Mapping[str, float], seconds: float) -> None:
        """Append one epoch."""
        for name, value in measured.items():
            self.setdefault(name, []).append(value)
        self.seconds.append(seconds)

    def head(self, names: Iterable[str] | None = None) -> str:
        """The first line of the table, with all columns or those named."""
        return "epoch" + "".join(f"{name:>{_width(name)}}" for name in names or self)

    def row(self, epoch: int, names: Iterable[str] | None = None) -> str:
        """The line of an epoch, counted from 1."""
        cells = [f"{_number(self[name][epoch - 1]):>{_width(name)}}" for name in names or self]
        return f"{epoch:5d}" + "".join(cells)

    def __str__(self) -> str:
        n = len(self.seconds)
        every = math.ceil(n / ROWS)
        epochs = [epoch for epoch in range(1, n + 1) if epoch in (1, n) or epoch % every == 0]
        blocks = [
            "\n".join([self.head(names), *(self.row(epoch, names) for epoch in epochs)])
            for names in self._fitting()
        ]
        total = f"{n} epoch{'s' * (n != 1)} in {_duration(sum(self.seconds))}"
        if self.stopped:
            total += f"; stopped: {self.stopped}"
        return "\n".join(["\n\n".join(blocks), total]) if blocks else total

    __repr__ = __str__

    def growing(self) -> list[str]:
        """The columns of one table of rows printed one by one: the losses, and what else fits."""
        first = next(self._fitting(sorted(self, key=lambda name: not name.endswith("loss"))), [])
        return [name for name in self if name in first]

    def _fitting(self, columns: Iterable[str] | None = None) -> Iterator[list[str]]:
        """The columns in groups that fit into the width, one table each."""
        names: list[str] = []
        for name in columns or self:
            if names and 5 + sum(map(_width, [*names, name])) > WIDTH:
                yield names
                names = []
            names.append(name)
        if names:
            yield names

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw a panel for each measure, with the curves of training and validation.

        Parameters
        ----------
        path : str or path, optional
            Where to save it: ``.png``, ``.svg`` or ``.pdf``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib, which the extra ``plot`` brings.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                'History.plot: needs matplotlib. Install it with pip install "tinygrad-np[plot]".'
            ) from error
        of_sets = {f"{held_out}_{name}" for held_out in self._sets() for name in self}
        names = [name for name in self if name not in of_sets]
        columns = min(3, len(names)) or 1
        rows = math.ceil(len(names) / columns) or 1
        figure = Figure(figsize=(5.2 * columns, 3.6 * rows), dpi=150, layout="constrained")
        for position, name in enumerate(names, start=1):
            self._panel(figure.add_subplot(rows, columns, position), name)
        if path is not None:
            figure.savefig(path)
        return figure

    def _sets(self) -> list[str]:
        return self.sets or ["val"]

    def _panel(self, axes: Any, name: str) -> None:
        from matplotlib.ticker import MaxNLocator

        curves = {"training": self[name]}
        for held_out in self._sets():
            label = "validation" if held_out == "val" else held_out
            curves[label] = self.get(f"{held_out}_{name}", [])
        epochs = range(1, len(self[name]) + 1)
        marker = "o" if len(epochs) < 3 else None
        for position, (label, values) in enumerate(curves.items()):
            if values:
                colour = f"C{position}"
                axes.plot(epochs, values, label=label, color=colour, marker=marker, linewidth=1.8)
        drawn = [value for values in curves.values() for value in values]
        if min(drawn) > 0 and max(drawn) > 100 * min(drawn):
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)


def direction(operation: str, name: str, mode: str | None = None) -> int:
    """1 if high values of a measure are better, -1 if low ones are: by its mode, else its name.

    Raises
    ------
    ArgumentError
        For another mode than "min" and "max", or none for a measure that is not known.
    """
    known = {"min": -1, "max": 1}
    if mode in known:
        return known[mode]
    if mode is None:
        for names, sign in ((LOW, -1), (HIGH, 1)):
            if any(name == measure or name.endswith(f"_{measure}") for measure in names):
                return sign
    meant = near(name, [*LOW, *HIGH]) if mode is None else ""
    raise ArgumentError(
        message(operation, 'mode="min" or mode="max"', f"mode={mode!r} for {name!r}",
                f"Say which values are better. {meant}".strip())
    )  # fmt: skip


def monitored(operation: str, measured: Mapping[str, float], name: str | None) -> tuple[str, float]:
    """The measure of that name, or without one the validation loss, or else the loss.

    Raises
    ------
    ArgumentError
        For a name that was not measured.
    """
    if name is None:
        name = "val_loss" if "val_loss" in measured else "loss"
    if name not in measured:
        raise ArgumentError(
            message(operation, f"monitor among {', '.join(measured)}", repr(name),
                    near(name, measured))
        )  # fmt: skip
    return name, measured[name]


def _width(name: str) -> int:
    return 2 + max(len(name), 10)


def _number(value: float) -> str:
    """Four decimals, or four digits where these would hide the value."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"


def _duration(seconds: float) -> str:
    """``0.85 ms``, ``12.3 s`` or ``3 min 20 s``."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
