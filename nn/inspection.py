"""`inspect`: what flows through a model, forward and backward, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import tinygrad_np as tg
from nn.callbacks import Callback, Run, check_count
from nn.layers.activation import ReLU
from nn.module import Module, mode, submodules
from nn.sources import Data, source
from nn.summary import cut_front
from tinygrad_np.errors import ArgumentError, message

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]

BINS = 40
SIGNS = 10  # of a histogram in a table
SHADES = " .:-=+*#%@"  # of a histogram, none to most
VANISHING, EXPLODING = 1e-3, 1e3  # a layer's gradient beside that of the last layer


@dataclass(frozen=True)
class Values:
    """Statistics of many numbers: mean, standard deviation, extremes and a histogram.

    ``counts`` are those of `BINS` intervals of equal width from ``low`` to ``high``; around a single
    value they are 1 wide in all.
    """

    mean: float
    std: float
    rms: float
    low: float
    high: float
    counts: Array

    @classmethod
    def of(cls, array: Array) -> Values:
        """The statistics of all elements, in float64."""
        x = np.asarray(array, np.float64).ravel()
        low, high = float(x.min()), float(x.max())
        counts, _ = np.histogram(x, BINS)
        return cls(
            float(x.mean()), float(x.std()), float(np.sqrt(np.mean(x * x))), low, high, counts
        )

    @property
    def edges(self) -> Array:
        """The ends of the intervals, one more than there are."""
        return np.histogram_bin_edges([self.low, self.high], BINS)

    @property
    def picture(self) -> str:
        """The histogram as `SIGNS` signs."""
        counts = self.counts.reshape(SIGNS, -1).sum(axis=1).tolist()
        return "".join(SHADES[-(-n * (len(SHADES) - 1) // max(counts))] for n in counts)


@dataclass(frozen=True)
class Flow:
    """One layer of an `Inspection`.

    ``dead`` of its ``units`` (features, channels) are ReLUs that are 0 for every row of the data,
    so that no row can teach them anything. Activations are those of the output, gradients those of
    the loss with respect to it.
    """

    path: str
    kind: str
    units: int
    dead: int
    activations: Values
    gradients: Values | None


@dataclass(frozen=True, repr=False)
class Inspection:
    """Activations and gradients of each layer, and what is wrong with them; prints as a table.

    Attributes
    ----------
    layers : list of Flow
        In the order of the computation.
    findings : list of str
        Dead units, and gradients that vanish or explode: whose root mean square is less than
        `VANISHING` or more than `EXPLODING` times that of the last layer.
    """

    layers: list[Flow]

    @property
    def findings(self) -> list[str]:
        return [f"{flow.path}: {what}" for flow in self.layers for what in self.of(flow).values()]

    def of(self, flow: Flow) -> dict[str, str]:
        """What is wrong with the ``activations`` and the ``gradients`` of a layer."""
        found = {}
        if flow.dead:
            found["activations"] = f"dead, {flow.dead} of {flow.units} units are 0 for every row"
        last = next((one.gradients.rms for one in self.layers[::-1] if one.gradients), 0.0)
        if flow.gradients is not None and last:
            ratio = flow.gradients.rms / last
            if ratio == 0:
                found["gradients"] = "vanishing gradient, all of it is 0"
            elif ratio < VANISHING or ratio > EXPLODING:
                kind = "vanishing" if ratio < 1 else "exploding"
                found["gradients"] = f"{kind} gradient, {ratio:.0e} of the last layer's"
        return found

    def __str__(self) -> str:
        head = ("layer", "kind", "mean", "std", "activations", "dead", "grad rms", "gradients")
        rows = [head]
        width = min(max(9, *[len(flow.path) for flow in self.layers]), 12)  # 80 columns in all
        for flow in self.layers:
            g = flow.gradients
            rows.append((
                cut_front(flow.path, width), _cut(flow.kind, 11),
                f"{flow.activations.mean:.2g}", f"{flow.activations.std:.2g}",
                flow.activations.picture, f"{flow.dead / flow.units:.0%}",
                "" if g is None else f"{g.rms:.1e}", "" if g is None else g.picture,
            ))  # fmt: skip
        lines = [
            f"{path:{width}} {kind:11} {mean:>7} {std:>6} {shape:11} {dead:>5} {rms:>8}  {grads:10}"
            for path, kind, mean, std, shape, dead, rms, grads in rows
        ]
        rule = "-" * max(map(len, lines))
        findings = self.findings or ["no dead units, no vanishing or exploding gradients"]
        return "\n".join(line.rstrip() for line in [lines[0], rule, *lines[1:], rule, *findings])

    __repr__ = __str__


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def inspect(model: Module, data: Data, loss: Callable[[Any, Any], Any]) -> Inspection:
    """Run a model forward and backward on data and look at each layer; the model stays as it is.

    The layers are the modules that hold no other modules. Batches of a generator are not all read:
    the first is taken.

    Parameters
    ----------
    model : Module
    data : (x, y), Dataset, or batches
        Some hundred rows suffice.
    loss : callable
        As in `fit`.

    Returns
    -------
    Inspection

    Raises
    ------
    ShapeError, DtypeError, NonFiniteError, ArgumentError
        For data that does not fit.

    Examples
    --------
    >>> import nn
    >>> nn.seed(0)
    >>> model = nn.Sequential(nn.Dense(4, 8, activation="relu", bias_init=nn.init.constant(-9)),
    ...                       nn.Dense(8, 3))
    >>> found = nn.inspect(model, nn.datasets.iris(), nn.SoftmaxCrossEntropy())
    >>> found.findings[0].partition(",")[0]
    '0: dead'
    """
    x, y, _ = next(iter(source("inspect", data).batches(None, shuffle=False)))
    outputs: dict[str, tuple[Module, tg.Tensor]] = {}
    with mode(model, training=False):
        if not all(module.built for _, module in model.named_modules()):
            with tg.no_grad():
                model(x)
        parameters = model.parameters()
        gradients = [p.grad for p in parameters]
        try:
            with _watched(model, outputs):
                error = loss(model(x), y)
            error.backward()
        finally:
            for p, gradient in zip(parameters, gradients):
                p.grad = gradient
    return Inspection([_flow(path, *found) for path, found in outputs.items()])


@contextmanager
def _watched(model: Module, outputs: dict[str, tuple[Module, tg.Tensor]]) -> Iterator[None]:
    """Note what each module without modules within gives, under its path, with its gradient."""
    modules = {
        path: module for path, module in model.named_modules()
        if not list(submodules(module.members()))
    }  # fmt: skip

    def watching(path: str, module: Module) -> Callable[..., Any]:
        forward = module.forward

        def watch(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            if isinstance(output, tg.Tensor):
                if output.requires_grad:
                    output.retain_grad()
                outputs[path] = module, output
            return output

        return watch

    for path, module in modules.items():
        module.forward = watching(path, module)  # on the instance, over its class's
    try:
        yield
    finally:
        for module in modules.values():
            del module.forward


def _flow(path: str, module: Module, output: tg.Tensor) -> Flow:
    axis = 1 if output.ndim == 4 else -1  # channels, features
    units = output.shape[axis]
    dead = 0
    if isinstance(module, ReLU) or getattr(module, "activation", None) is tg.relu:
        rows = np.moveaxis(output.data, axis, 0).reshape(units, -1)
        dead = int(np.count_nonzero(~rows.any(axis=1)))
    return Flow(
        path or "model", type(module).__name__, units, dead,
        Values.of(output.data), None if output.grad is None else Values.of(output.grad),
    )  # fmt: skip


class Inspector(Callback):
    """`inspect` after every n epochs, on the same data; prints as a table of the epochs.

    Parameters
    ----------
    data : (x, y) or Dataset
        Some hundred rows suffice.
    every : int
        Epochs from one to the next.

    Attributes
    ----------
    inspections : dict of Inspection
        By epoch, counted from 1.

    Examples
    --------
    >>> import nn
    >>> watch = nn.Inspector(nn.datasets.iris())
    >>> _ = nn.fit(nn.Sequential(nn.Dense(4, 8, activation="relu"), nn.Dense(8, 3)),
    ...            nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=0.1),
    ...            epochs=2, callbacks=[watch])
    >>> list(watch.inspections), watch.inspections[2].layers[0].kind
    ([1, 2], 'Dense')
    """

    def __init__(self, data: Data, every: int = 1) -> None:
        check_count("Inspector", "every", every)
        self.data, self.every = data, every
        self.inspections: dict[int, Inspection] = {}

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch % self.every == 0:
            self.inspections[run.epoch] = inspect(run.model, self.data, run.loss)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw the histograms of each layer over the epochs: activations left, gradients right.

        A column of a panel is a histogram, the darker the more; what is wrong at the end is written
        into the panel.

        Parameters
        ----------
        path : str or path, optional
            Where to save it: ``.png``, ``.svg`` or ``.pdf``.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ArgumentError
            Before the first inspection.
        ImportError
            Without matplotlib, which the extra ``plot`` brings.
        """
        if not self.inspections:
            raise ArgumentError(
                message("Inspector.plot", "inspections", "none", "Train with it as a callback.")
            )
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                'Inspector.plot: needs matplotlib. Install it with pip install "tinygrad-np[plot]".'
            ) from error
        last = list(self.inspections.values())[-1]
        figure = Figure(
            figsize=(9, 0.6 + 1.3 * len(last.layers)), dpi=150, layout="constrained"
        )  # fmt: skip
        panels = figure.subplots(len(last.layers), 2, sharex=True, squeeze=False)
        for flow, pair in zip(last.layers, panels):
            for axes, what in zip(pair, ("activations", "gradients")):
                self._panel(axes, flow.path, what)
                axes.set_title(
                    last.of(flow).get(what, ""), color="tab:red", fontsize=7, loc="right"
                )
            pair[0].set_title(f"{flow.path} {flow.kind}", fontsize=8, loc="left")
        for axes, what in zip(panels[-1], ("activations", "gradients of the loss by them")):
            axes.set_xlabel(f"{what}, by epoch", fontsize=8)
        if path is not None:
            figure.savefig(path)
        return figure

    def _panel(self, axes: Any, path: str, what: str) -> None:
        """The histograms of a layer as columns side by side, each with its own range."""
        for epoch, found in self.inspections.items():
            flow = next((flow for flow in found.layers if flow.path == path), None)
            values: Values | None = None if flow is None else getattr(flow, what)
            if values is None:
                continue
            counts = np.sqrt(values.counts[:, None] / values.counts.max())  # so that few are seen
            sides = [epoch - self.every / 2, epoch + self.every / 2]
            axes.pcolormesh(sides, values.edges, counts, cmap="Blues", vmin=0, vmax=1)
        axes.tick_params(labelsize=7)
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.yaxis.get_offset_text().set(size=7, family="sans-serif")
        axes.xaxis.get_major_locator().set_params(integer=True)

    def __str__(self) -> str:
        lines = [f"{'layer':16} {'epoch':>5}  activations {'std':>8}   gradients  {'rms':>8}  dead"]
        flows = [
            (epoch, flow) for epoch, found in self.inspections.items() for flow in found.layers
        ]
        for path in dict.fromkeys(flow.path for _, flow in flows):
            for epoch, flow in flows:
                if flow.path == path:
                    g = flow.gradients
                    lines.append(
                        f"{cut_front(path, 16):16} {epoch:5}  {flow.activations.picture:11} "
                        f"{flow.activations.std:8.2g}   {g.picture if g else '':10} "
                        f"{f'{g.rms:.1e}' if g else '':>8} {flow.dead / flow.units:5.0%}"
                    )
        last = list(self.inspections.values())[-1:]
        return "\n".join(lines + [finding for found in last for finding in found.findings])

    __repr__ = __str__
