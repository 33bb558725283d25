"""The training loop, and its halves: `fit`, `evaluate`, `predict`."""

from __future__ import annotations

import copy
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import inf
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import tinygrad_np as tg
from nn import init, losses, optim, schedules
from nn import metrics as measures
from nn.byhand import ByHand, HandWritten, as_module, written_back
from nn.callbacks import Callback, Checkpoint, Run, check_count
from nn.checkpoint import checked_path, load_run
from nn.data import check_rows, serve
from nn.history import History
from nn.layers.activation import Sigmoid, Softmax
from nn.layers.container import Residual, Sequential
from nn.module import Module, as_array, mode
from nn.names import named, near
from nn.optim import LBFGS, Optimizer, clip_norm, clip_value
from nn.parallel import Ranks, check_loss, job, on_terminal
from nn.schedules import Schedule
from nn.sources import Batch, ClassWeights, Data, Rows, Shuffle, Stream, source
from tinygrad_np.errors import ArgumentError, NonFiniteError, message

Array = NDArray[Any]
Loss = Callable[[Any, Any], Any]
Metric = Callable[..., Any]  # of (y_true, outputs), giving a number

METRICS: dict[str, Metric] = {
    "accuracy": measures.accuracy,
    "top_k_accuracy": measures.top_k_accuracy,
    "precision": measures.precision,
    "recall": measures.recall,
    "f1": measures.f1,
    "roc_auc": measures.roc_auc,
    "r2": measures.r2,
    "mae": measures.mean_absolute_error,
    "mse": measures.mean_squared_error,
}
OF_CLASSES = list(METRICS.values())[:6]
TAKEN = {losses.SoftmaxCrossEntropy: tg.softmax, losses.BinaryCrossEntropy: tg.sigmoid}
OF_ALL_ROWS = (measures.roc_auc, measures.r2)  # a part of the rows may not have what they need


def fit(
    model: Module | HandWritten,
    data: Data,
    *,
    loss: Loss | None = None,
    optimizer: Optimizer,
    epochs: int = 1,
    batch_size: int | None = 32,
    validation: Data | Mapping[str, Data] | float | None = None,
    metrics: Sequence[str | Metric] = (),
    seed: int | None = None,
    shuffle: Shuffle = True,
    verbose: bool | int = True,
    callbacks: Sequence[Callback] = (),
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    class_weight: ClassWeights | None = None,
    sample_weight: ArrayLike | None = None,
    resume: str | os.PathLike[str] | None = None,
    parallel: bool = False,
    compile: bool | None = None,
) -> History:
    """Train a model: for each batch, forward, backward, step.

    Parameters
    ----------
    model : Module, or written by hand
        The latter has ``.params``, a dict of arrays, and ``.loss(X, y)``, which returns the loss
        and a dict of their gradients; ``.loss(X)`` returns the scores, for metrics and validation.
        Its ``.params`` are trained.
    data : (x, y), Dataset, or batches
        Inputs (N, ...) and targets (N, ...). Memory-mapped arrays are read batch by batch. Batches
        are an iterable of (x, y) or (x, y, weights), read once an epoch, or a function of nothing
        that makes one; size and order are theirs.
    loss : callable
        ``loss(outputs, targets)`` gives a Tensor of one element, as the modules of `nn.losses` do.
        A model written by hand has its own.
    optimizer : Optimizer
        Without parameters it is given those of the model.
    epochs : int
        How often all rows are seen.
    batch_size : int or None
        Rows a step, fewer in the last of an epoch; None for all rows in one step.
    validation : data, dict of data, or float, optional
        Measured after each epoch; several sets under their names; a fraction holds out that part of
        the rows, drawn at random.
    metrics : sequence of str or callable
        Names among those of `METRICS`, or functions of (y_true, outputs), both arrays, such as
        ``functools.partial(nn.metrics.precision, average="micro")``. Those of `nn.metrics` that are
        about classes take what losses take: labels (N, T) of outputs (N, T, K), of which the loss's
        ``ignore_label`` is left out; and a single column, which is class 1 where the logit of
        `nn.BinaryCrossEntropy` is above 0, or the probability of a final sigmoid above 0.5.
    seed : int, optional
        For `nn.seed`: with the same seed and weights, the same run.
    shuffle : bool or callable
        Whether each epoch has an order of its own; or a function of the number of rows N that gives
        the N indices of an epoch, of which some may come twice and others not at all.
    verbose : bool or int
        True for a progress bar, where standard error is a terminal and ``CI`` is not set; an int
        k to print every k-th epoch.
    callbacks : sequence of Callback
        Called in this order, but a `Checkpoint` last, for it saves what the others have done.
    schedule : Schedule, optional
        Sets the learning rate after each epoch or step.
    clip_norm, clip_value : float, optional
        Limits of the gradient before each step, by value first; see `nn.clip_norm`.
    accumulate : int
        Batches a step: its gradient is that of all their rows together.
    class_weight : {label: weight}, array_like (K,) or "balanced", optional
        Factors of the rows' losses, by label; "balanced" is ``N / (K N_k)``.
    sample_weight : array_like (N,), optional
        Factors of the rows' losses; the mean still divides by what it divides by without them: the
        number of rows, as in Keras, or the sum of the weights that the loss has. Losses of
        validation data have no weights.
    resume : path, optional
        A file of `nn.Checkpoint`: the run goes on where it was written, with the seed, options and
        learning rate of then, to the same bits. A file that is not there yet means from the start.
    parallel : bool
        Whether the ranks of an MPI job train this model together, each with its share of every
        batch; see `nn.parallel`. Without a job it changes nothing.
    compile : bool, optional
        Whether the step is compiled (see `tinygrad_np.compile`) after the first 50 batches, or the first
        3 of a run of 500 and more:
        by default where it can be, with True also with a warning where it cannot. Weights then
        differ by rounding from those of a run that is not; with a `Checkpoint` or ``resume`` they
        are the same to the bit.

    Returns
    -------
    History
        The loss is the mean over an epoch's rows, each measured before its step (with
        ``reduction="sum"``, the sum); metrics are those of the same outputs. A batch of nothing
        but ignored labels is passed over.

    Raises
    ------
    ShapeError, DtypeError, IndexingError, NonFiniteError, ArgumentError
        Before training, for data, targets or settings that do not fit.
    NonFiniteError
        When a loss is not finite, with epoch and step. The weights are those before that step; if
        these are not finite either, the last that were copied, at most `COPIED` batches old.
    ArgumentError
        With ``parallel``, on all ranks, if they disagree about model, data or settings. Any other
        error of a rank while it trains ends the job.

    Warns
    -----
    UserWarning
        After Ctrl-C, which ends the training: the model keeps the weights it has, and the history
        has the epochs that were completed. For a model that ends in the softmax or sigmoid that its
        loss takes as well.

    Examples
    --------
    >>> import nn
    >>> nn.seed(0)
    >>> model = nn.Sequential(nn.Dense(4, 8, activation="tanh"), nn.Dense(8, 3))
    >>> history = nn.fit(model, nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(),
    ...                  optimizer=nn.SGD(lr=0.1), epochs=20, metrics=["accuracy"], seed=0)
    >>> history["loss"][-1] < history["loss"][0], history["accuracy"][-1] > 0.9
    (True, True)
    """
    model = as_module("fit", model)
    loss = _loss_of(model, loss, validation, metrics)
    if seed is not None:
        init.seed(seed)
    comm = job() if parallel else None
    ranks = None if comm is None else Ranks(comm, "fit")
    if ranks is not None:
        ranks.same_draws(model)
    interrupted = None
    if resume is not None:
        interrupted = (
            _interrupted(resume) if ranks is None else ranks.of_first(partial(_interrupted, resume))
        )
    generator = init.generator()
    if interrupted is not None:
        generator.bit_generator.state = interrupted["first_draw"]
    first_draw = dict(generator.bit_generator.state)

    ignore_label = getattr(loss, "ignore_label", None)
    given = source("fit", data, sample_weight, class_weight, ignore_label)
    training, held_out = _split(given, validation)
    parts = (training, *held_out.values())
    _check_kinds(loss, optimizer, schedule, callbacks)
    _check_settings(parts, epochs, batch_size, accumulate, callbacks, optimizer)
    end = TAKEN.get(type(loss))
    if end is not None and _end(model) is end:
        warnings.warn(
            message(f"fit: {type(loss).__name__}", f"logits, of which it takes the {end.__name__}",
                    "a model that ends in it already",
                    "Leave it out of the model: nn.predict_proba gives the probabilities."),
            stacklevel=2,
        )  # fmt: skip
    if ranks is not None:
        check_loss(loss, optimizer)
    functions, weighted = _metrics(metrics, model, loss), _Weighted(loss)
    for part in parts:
        _try(model, part, weighted, functions, batch_size)
    parameters = model.parameters()
    clips = _clips(optimizer.params or parameters, clip_norm, clip_value)
    _hand_over(optimizer, parameters)
    if schedule is not None:
        schedule.attach(optimizer)

    settings: dict[str, Any] = {
        "rows": len(training) if isinstance(training, Rows) else None, "batch_size": batch_size,
        "shuffle": "a function" if callable(shuffle) else shuffle, "accumulate": accumulate,
        "clip_norm": clip_norm, "clip_value": clip_value,
    }  # fmt: skip
    callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))
    if ranks is not None:
        ranks.attach(model, overlap=accumulate == 1)
        ranks.agree(_facts(parts, settings, epochs, optimizer))
    run = Run(model, loss, optimizer, schedule, callbacks, epochs, settings, first_draw)
    if interrupted is not None:
        run.go_on(interrupted)
    if run.epoch > 0:
        for part in parts:
            part.forget()
    run.history.sets = list(held_out)
    loop = _Loop(run, weighted, functions, clips, accumulate, ranks)
    if compile or (compile is None and loop.replayable):
        exact = resume is not None or any(isinstance(one, Checkpoint) for one in callbacks)
        loop.whole_step = tg.compile(loop.whole_step, exact=exact, warn=compile is True)
    steps = training.steps(batch_size)
    total = None if steps is None else epochs * steps
    if total is not None and total >= LONG:
        loop.as_it_is = FEW
    first = ranks is None or ranks.rank == 0
    with (
        nullcontext() if ranks is None else ranks.together(),
        _bar(total, run.epoch * (steps or 0), verbose is True and first) as bar,
        mode(model, training=True),
        written_back(model),
    ):
        try:
            loop.train(
                partial(_served, ranks, training, batch_size, shuffle), held_out, bar,
                every=0 if isinstance(verbose, bool) or not first else verbose,
            )  # fmt: skip
        except KeyboardInterrupt:
            if ranks is not None:  # one alone cannot stop
                raise
            run.stop("interrupted")
        for callback in loop.callbacks:
            callback.on_train_end(run)
    if run.history.stopped == "interrupted":  # now, so that it does not run into the bar
        warnings.warn(
            f"fit: interrupted after {len(run.history.seconds)} of {epochs} epochs; the model "
            "keeps the weights it has.",
            stacklevel=2,
        )
    return run.history


AS_IT_IS = 50  # batches before the step is compiled, which takes as long as some tens of small ones
LONG, FEW = (
    500,
    3,
)  # batches of a run that is worth it from the start, and then before it is compiled
COPIED = 100  # batches after which the weights are copied, in case that later ones are not finite


class _Loop:
    """The epochs of a run, and what happens in each."""

    def __init__(
        self,
        run: Run,
        weighted: _Weighted,
        metrics: dict[str, Metric],
        clips: list[Callable[[], Any]],
        accumulate: int,
        ranks: Ranks | None,
    ) -> None:
        self.run, self.weighted, self.metrics = run, weighted, metrics
        self.clips, self.accumulate, self.ranks = clips, accumulate, ranks
        self.callbacks = run.callbacks if ranks is None else ranks.called(run.callbacks)
        self.good = _Good(run.model, ranks)
        per_step = run.schedule is not None and run.schedule.per == "step"
        self.schedule = run.schedule if per_step else None
        self.watchers = [
            callback for callback in self.callbacks
            if type(callback).on_step_end is not Callback.on_step_end
        ]  # fmt: skip
        self.rows = 0.0  # of the batches since the last step
        self.loss = 0.0  # of this rank's share of them
        self.whole_step: Callable[..., Any] = self._whole_step
        self.as_it_is = AS_IT_IS

    @property
    def replayable(self) -> bool:
        """Whether each batch is a step of its own, and the step a function of the batch."""
        own = isinstance(self.run.optimizer, LBFGS) or isinstance(self.run.model, ByHand)
        return self.accumulate == 1 and self.ranks is None and not own

    def train(
        self,
        batches: Callable[[], Iterable[Batch]],
        held_out: Mapping[str, Rows | Stream],
        bar: Any,
        every: int,
    ) -> None:
        """Train until the last epoch or until somebody stops it; print every so many epochs."""
        run, history, ranks = self.run, self.run.history, self.ranks
        for callback in self.callbacks:
            callback.on_train_begin(run)
        while run.epoch < run.epochs and not history.stopped:
            run.epoch += 1
            start = perf_counter()
            served = batches() if ranks is None else ranks.drawn_apart(batches())
            measured = self._epoch(served, bar)
            for name, part in held_out.items():
                weighted = _Weighted(None) if isinstance(run.model, ByHand) else self.weighted
                found = _measure(run.model, part, weighted, self.metrics, 1024, ranks)
                measured |= {f"{name}_{measure}": value for measure, value in found.items()}
            if run.schedule is not None:
                measured["lr"] = run.optimizer.groups[0].lr
                run.schedule.epoch_ended(measured)
            history.add(measured, perf_counter() - start)
            if run.callbacks or run.epoch == run.epochs:
                self.good.check(f"epoch {run.epoch}")
            for callback in self.callbacks:
                callback.on_epoch_end(run)
            if ranks is not None:
                history.stopped = ranks.of_first(lambda: history.stopped)
                ranks.check_weights(f"after epoch {run.epoch}", {"optimizer": repr(run.optimizer)})
            if bar is not None:
                _show(bar, {"epoch": run.epoch} | measured)
            if every:
                self._print(every)

    def _print(self, every: int) -> None:
        run, history = self.run, self.run.history
        if run.epoch == 1:
            print(history.head(history.growing()))
        if run.epoch % every == 0 or run.epoch in (1, run.epochs) or history.stopped:
            print(history.row(run.epoch, history.growing()), flush=True)

    def _epoch(self, served: Iterable[Batch], bar: Any) -> dict[str, float]:
        """Train on each batch once."""
        run, weighted, good, accumulate = self.run, self.weighted, self.good, self.accumulate
        model, loss, optimizer = run.model, run.loss, run.optimizer
        summed = weighted.summed
        ranks = self.ranks
        total = rows = 0.0
        seen: list[tuple[Array, Array]] = []
        for step, (x, y, weights) in enumerate(weighted.counting(served), start=1):
            place, run.step = f"epoch {run.epoch}, step {step}", step
            to_copy = good.batches % COPIED == 0
            replayed = self.replayable and good.batches > self.as_it_is and not to_copy
            if replayed:
                given = (x, y) if weights is None else (x, y, weights)
                error, outputs = self.whole_step(*given)
            else:
                if accumulate == 1 or step % accumulate == 1:
                    optimizer.zero_grad()
                outputs = model(x)
                error = loss(outputs, y) if weights is None else weighted(outputs, y, weights)
            value = run.value = error.item()
            if not -inf < value < inf and ranks is None:  # nor if it is nan
                raise good.refusal(place, f"{value}")
            part = len(y) if ranks is None else ranks.part
            weight: float = min(part, 1) if summed else part
            if weighted.uneven:
                weight = weighted.divisor(outputs, y)
            total += weight * value
            rows += weight
            if self.metrics:
                seen.append((y[:part], _plain(outputs)[:part]))
            if replayed:
                self._after_step()
            else:
                if to_copy:
                    good.copy(place)
                again = partial(self._loss, x, y, weights)
                self._update(error, weight, step % accumulate == 0, again)
                value = run.value
            good.batches += 1
            if bar is not None and bar.update():
                bar.set_postfix({"epoch": run.epoch, "loss": value}, refresh=False)
        if self.rows:
            self._step()
        if ranks is not None:
            ranks.end_epoch()
        return _mean(total, rows, summed, ranks) | _measured(self.metrics, seen, ranks)

    def _whole_step(self, x: Array, y: Array, weights: Array | None = None) -> tuple[Any, Any]:
        """One batch, forward and back, and the update; the loss, and the outputs for metrics."""
        run = self.run
        run.optimizer.zero_grad()
        outputs = run.model(x)
        error = run.loss(outputs, y) if weights is None else self.weighted(outputs, y, weights)
        if abs(error) < inf:
            error.backward()
            for clip in self.clips:
                clip()
            run.optimizer.step()
        return error, outputs if self.metrics or self.weighted.uneven else None

    def _loss(self, x: Array, y: Array, weights: Array | None) -> Any:
        return self.weighted(self.run.model(x), y, weights)

    def _update(self, error: Any, rows: float, complete: bool, again: Callable[[], Any]) -> None:
        """Add the gradient of a batch, and take a step after the last one."""
        if self.accumulate == 1 and self.ranks is None:
            error.backward()
            self._step(again)
            return
        whole = rows if self.ranks is None else self.ranks.whole
        if self.accumulate == 1:
            weight = rows if self.weighted.summed else rows / whole
        else:
            weight = rows  # of the sum over rows, so that batches of different sizes add up
            self.rows += whole
        error.backward(np.full(error.shape, weight))
        self.loss += weight * error.item()
        if complete:
            self._step(again)

    def _reduce(self, ranks: Ranks) -> None:
        """Add up gradients and losses over the ranks."""
        run = self.run
        run.value = ranks.reduce(self.loss) / (1 if self.weighted.summed else self.rows or 1)
        self.loss = 0.0
        if not -inf < run.value < inf:
            place = f"epoch {run.epoch}, step {run.step}"
            raise ranks.everywhere(self.good.refusal(place, f"{run.value}"))

    def _step(self, again: Callable[[], Any] | None = None) -> None:
        if self.ranks is not None:
            self._reduce(self.ranks)
        if self.rows and not self.weighted.summed:
            for p in self.run.optimizer.params:
                if p.grad is not None:
                    p.grad = p.grad / self.rows
        self.rows = 0.0
        for clip in self.clips:
            clip()
        optimizer = self.run.optimizer
        if isinstance(optimizer, LBFGS):
            optimizer.step(again)
        else:
            optimizer.step()
        self._after_step()

    def _after_step(self) -> None:
        if self.schedule is not None:
            self.schedule.step()
        for callback in self.watchers:
            callback.on_step_end(self.run)


class _Good:
    """The last weights and buffers that gave a finite loss, as far as they were copied."""

    def __init__(self, model: Module, ranks: Ranks | None) -> None:
        self.ranks = ranks
        tensors = model.named_parameters() + model.named_buffers()
        self.tensors = [tensor for _, tensor in tensors]
        self.batches = 0
        self.copies: list[Array] = []
        self.place = ""

    def copy(self, place: str) -> None:
        """Keep the present ones."""
        self.copies = [tensor.data.copy() for tensor in self.tensors]
        self.place = place

    def check(self, place: str) -> None:
        """Raise unless all weights are finite."""
        if not self._finite():
            error = self.refusal(f"after {place}", "weights that are not finite")
            raise error if self.ranks is None else self.ranks.everywhere(error)

    def refusal(self, place: str, got: str) -> NonFiniteError:
        """The error, after the weights were set to those it names."""
        kept = "that step"
        if self.copies and not self._finite():
            kept = self.place
            for tensor, array in zip(self.tensors, self.copies):
                tensor.data = array.copy()
        return NonFiniteError(
            message(f"fit: {place}", "a finite loss", got,
                    "Lower the learning rate, or standardise x and y (nn.Standardizer). "
                    f"The model has the weights from before {kept}.")
        )  # fmt: skip

    def _finite(self) -> bool:
        finite = all(bool(np.isfinite(tensor.data).all()) for tensor in self.tensors)
        return finite if self.ranks is None else self.ranks.sum(not finite) == [0]


class _Weighted:
    """The loss of a batch whose rows have weights: ``mean_n w_n L_n``, or the sum.

    The mean divides by what that of the loss divides by: weights of 1 change nothing.
    """

    def __init__(self, loss: Loss | None) -> None:
        self.loss: Any = loss
        self.summed = getattr(loss, "reduction", "mean") == "sum"
        self.uneven = isinstance(loss, losses.Loss) and loss.weighs_rows
        self.each: Any = None
        if isinstance(loss, Module) and getattr(loss, "reduction", None) in ("mean", "sum"):
            self.each = copy.copy(loss)
            self.each.reduction = "none"

    def __call__(self, outputs: Any, y: Array, weights: Array | None) -> Any:
        if weights is None:
            return self.loss(outputs, y)
        if self.each is None:
            raise ArgumentError(
                message("fit: weights", 'a loss of nn.losses with reduction "mean" or "sum"',
                        repr(self.loss))
            )  # fmt: skip
        errors = self.each(outputs, y)
        factors = weights.astype(errors.dtype).reshape(-1, *[1] * (errors.ndim - 1))
        if self.uneven:
            return tg.sum(errors * factors) / np.sum(self.each.counts(outputs, y))
        return (tg.sum if self.summed else tg.mean)(errors * factors)

    def divisor(self, outputs: Any, y: Array) -> float:
        """What the mean over an uneven batch divides by."""
        return float(self.each.counts(outputs, y).sum())

    def counting(self, served: Iterable[Batch]) -> Iterable[Batch]:
        """The batches in which some row counts: of others there is no mean."""
        ignored = getattr(self.loss, "ignore_label", None)
        if ignored is None or self.summed:
            return served
        return (batch for batch in served if (batch[1] != ignored).any())


def evaluate(
    model: Module | HandWritten,
    data: Data,
    *,
    loss: Loss | None = None,
    metrics: Sequence[str | Metric] = (),
    batch_size: int | None = 1024,
) -> dict[str, float]:
    """Loss and metrics of a model on data, in evaluation mode.

    Parameters
    ----------
    model, data, loss, metrics
        As in `fit`.
    batch_size : int or None
        Rows that the model and the loss are given at a time.

    Returns
    -------
    dict of float
        ``loss``, the mean over all rows (or the sum), and the metrics' names.

    Examples
    --------
    >>> import numpy as np, nn
    >>> model, x = nn.Dense(2, 1), np.ones((3, 2))
    >>> nn.evaluate(model, (x, nn.predict(model, x)), loss=nn.MSE(), metrics=["mae"])
    {'loss': 0.0, 'mae': 0.0}
    """
    model = as_module("evaluate", model)
    functions = _metrics(metrics, model, loss)
    return _measure(model, source("evaluate", data), _Weighted(loss), functions, batch_size)


def _measure(
    model: Module,
    part: Rows | Stream,
    weighted: _Weighted,
    metrics: dict[str, Metric],
    batch_size: int | None,
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """What `evaluate` returns; outputs are kept only for metrics."""
    loss, summed = weighted.loss, weighted.summed
    total = rows = 0.0
    seen: list[tuple[Array, Array]] = []
    with mode(model, training=False), tg.no_grad():
        for x, y, _ in weighted.counting(_served(ranks, part, batch_size, shuffle=False)):
            outputs = model(x)
            count = len(y) if ranks is None else ranks.part
            if loss is not None:
                weight: float = min(count, 1) if summed else count
                if weighted.uneven:
                    weight = weighted.divisor(outputs, y)
                total += weight * float(loss(outputs, y).item())
                rows += weight
            if metrics:
                seen.append((y[:count], _plain(outputs)[:count]))
    measured = {} if loss is None else _mean(total, rows, summed, ranks)
    return measured | _measured(metrics, seen, ranks)


def predict(model: Module | HandWritten, x: ArrayLike, batch_size: int | None = 1024) -> Array:
    """The outputs for all rows of x, in evaluation mode and without recording.

    Parameters
    ----------
    model : Module, or written by hand
    x : array_like (N, ...)
    batch_size : int or None
        Rows that the model is given at a time, which bounds the memory; None for all.

    Returns
    -------
    ndarray (N, ...)

    Raises
    ------
    ShapeError, NonFiniteError
        For x without rows, or that holds NaN or infinity.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.predict(nn.Dense(2, 3), np.ones((5, 2))).shape
    (5, 3)
    """
    model = as_module("predict", model)
    x = as_array(x, "predict")
    check_rows("predict", x=x)
    size = len(x) if batch_size is None else batch_size
    with mode(model, training=False), tg.no_grad():
        parts = [_plain(model(part)) for (part,) in serve("predict", {"x": x}, size)]
    return np.concatenate(parts)


def predict_proba(
    model: Module | HandWritten,
    x: ArrayLike,
    batch_size: int | None = 1024,
    *,
    multilabel: bool = False,
) -> Array:
    """The probabilities of the classes: softmax of `predict`, or sigmoid for a single column.

    A model that ends in a softmax or sigmoid gives probabilities already; of any other the outputs
    are taken to be logits, as the losses do.

    Parameters
    ----------
    model, x, batch_size
        As in `predict`.
    multilabel : bool
        Whether the columns are classes that do not exclude each other: the sigmoid of each.

    Returns
    -------
    ndarray (N, K), or (N, 1) or (N,) like the outputs

    Examples
    --------
    >>> import numpy as np, nn
    >>> model = nn.Dense(2, 3, weights_init="zeros", bias_init=nn.init.constant(5))
    >>> nn.predict_proba(model, np.ones((1, 2))).round(3)
    array([[0.333, 0.333, 0.333]], dtype=float32)
    """
    outputs = predict(model, x, batch_size)
    if _end(model) in (tg.softmax, tg.sigmoid):
        return outputs
    columns = outputs.shape[1] if outputs.ndim > 1 else 1
    return np.asarray((tg.sigmoid if multilabel or columns == 1 else tg.softmax)(outputs))


def _end(model: Any) -> Any:
    """The activation that a model is known to end in."""
    while isinstance(model, Sequential) and not isinstance(model, Residual) and len(model):
        model = model[-1]
    if isinstance(model, Softmax | Sigmoid):
        return tg.softmax if isinstance(model, Softmax) else tg.sigmoid
    return getattr(model, "activation", model)


# --------------------------------------------------------------------------------------------------
# Before training: everything that can be refused is
# --------------------------------------------------------------------------------------------------


def _interrupted(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The run to resume, or None for a file that is not there yet."""
    path = checked_path("resume", path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"resume: there is no folder {path.parent}.")
    return load_run(path, Run.saved) if path.exists() else None


def _split(
    training: Rows | Stream, validation: Data | Mapping[str, Data] | float | None
) -> tuple[Rows | Stream, dict[str, Rows | Stream]]:
    """The data to train on, and the validation sets by name."""
    if validation is None:
        return training, {}
    if isinstance(validation, float):
        training, held_out = training.split(validation)
        return training, {"val": held_out}
    if isinstance(validation, Mapping):
        return training, {name: source(f"fit: {name}", part) for name, part in validation.items()}
    return training, {"val": source("fit: validation", validation)}


def _check_kinds(loss: Any, optimizer: Any, schedule: Any, callbacks: Any) -> None:
    """Refuse names and classes where an object is wanted."""
    if not callable(loss) or isinstance(loss, type):
        raise ArgumentError(_kind("loss", "a function of (outputs, targets)", loss, losses))
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(_kind("optimizer", "an nn.Optimizer", optimizer, optim))
    if not isinstance(schedule, Schedule | None):
        raise ArgumentError(_kind("schedule", "an nn.Schedule", schedule, schedules))
    if not isinstance(callbacks, Iterable):
        raise ArgumentError(
            message(
                "fit: callbacks",
                "a list of nn.Callback",
                type(callbacks).__name__,
                "Write callbacks=[...].",
            )
        )


def _kind(name: str, expected: str, given: Any, module: Any) -> str:
    """The message that names what may be meant among the classes of a module."""
    fix = near(given, module.__all__)
    if isinstance(given, type):
        fix = f"Write {name}=nn.{given.__name__}(...)."
    elif fix:
        fix = fix.replace("'", "nn.", 1).replace(" or '", " or nn.").replace("'", "(...)")
    return message(f"fit: {name}", expected, repr(given), fix)


def _check_settings(
    parts: Sequence[Rows | Stream],
    epochs: int,
    batch_size: int | None,
    accumulate: int,
    callbacks: Sequence[Callback],
    optimizer: Optimizer,
) -> None:
    check_count("fit", "epochs", epochs)
    check_count("fit", "accumulate", accumulate)
    if batch_size is not None:
        check_count("fit", "batch_size", batch_size)
    for part in parts:
        if epochs > 1 and isinstance(part, Stream) and part.once:
            raise ArgumentError(
                message(part.operation, "batches that can be read once an epoch", "an iterator",
                        "Give a function that makes it: lambda: batches().")
            )  # fmt: skip
    for callback in callbacks:
        if not isinstance(callback, Callback):
            fix = f"Write nn.{callback.__name__}(...)." if isinstance(callback, type) else ""
            raise ArgumentError(
                message("fit", "callbacks that are nn.Callback", repr(callback), fix)
            )
    if isinstance(optimizer, LBFGS) and accumulate > 1:
        raise ArgumentError(
            message("fit", "accumulate=1 for LBFGS, which measures the loss of its steps",
                    f"accumulate={accumulate}", "Give it all rows in one batch: batch_size=None.")
        )  # fmt: skip


def _metrics(given: Sequence[str | Metric], model: Module, loss: Loss | None) -> dict[str, Metric]:
    """The metrics' functions, by the names they have in a history."""
    if isinstance(given, str):
        raise ArgumentError(message("fit", "metrics as a list", repr(given), f"Write [{given!r}]."))
    functions = [named("metrics", metric, METRICS) for metric in given]
    names = [metric if isinstance(metric, str) else _name(metric) for metric in given]
    found = dict(zip(names, functions))
    if len(found) != len(given) or {"loss", "lr"} & found.keys():
        raise ArgumentError(message("fit", "metrics with distinct names", ", ".join(found)))
    middle = 0.5 if _end(model) is tg.sigmoid else None
    if middle is None and isinstance(loss, losses.BinaryCrossEntropy):
        middle = 0.0
    ignore_label = getattr(loss, "ignore_label", None)
    return {
        name: _OfClasses(metric, ignore_label, middle) if _whole(metric) in OF_CLASSES else metric
        for name, metric in found.items()
    }


def _whole(metric: Metric) -> Metric:
    """The function of which some arguments may be fixed."""
    return metric.func if isinstance(metric, partial) else metric


def _name(metric: Metric) -> str:
    return getattr(_whole(metric), "__name__", repr(metric))


@dataclass(frozen=True)
class _OfClasses:
    """A metric of classes, of the targets and outputs that losses take.

    A single column above the ``middle`` is class 1; rows of labels (N, ..., K) are rows, and those
    with the ignored label are left out.
    """

    metric: Metric
    ignore_label: int | None
    middle: float | None

    def __call__(self, y: Array, outputs: Array) -> Any:
        if self.middle is not None and math.prod(outputs.shape[1:]) == 1:
            z = outputs.reshape(-1) - self.middle
            outputs, y = np.stack([np.zeros_like(z), z], axis=1), y.reshape(-1)
            if ((y == 0) | (y == 1)).all():
                y = y.astype(np.int64)
        elif outputs.ndim > 2:
            classes = outputs.shape[-1]
            y = y.reshape(-1, classes) if y.shape == outputs.shape else y.reshape(-1)
            outputs = outputs.reshape(-1, classes)
        if self.ignore_label is not None:
            counted = y != self.ignore_label
            y, outputs = y[counted], outputs[counted]
        return self.metric(y, outputs)


def _try(
    model: Module,
    part: Rows | Stream,
    weighted: _Weighted,
    metrics: dict[str, Metric],
    batch_size: int | None,
) -> None:
    """Let model, loss and metrics refuse what does not fit, and build layers that wait for a batch.

    Each sees all the targets in memory; the outputs for the first row stand for those of the others.
    Of batches and mapped arrays that is a part, for which not every metric is defined.
    """
    x, y, weights = part.first()
    if isinstance(model, ByHand) and not model.gives_scores:
        return
    row = predict(model, x[:1])
    outputs = np.broadcast_to(row, (len(y), *row.shape[1:]))
    size = batch_size or len(y)
    many = max(size, 4096)  # rows; of a batch of few each call would cost more than its rows
    cuts = [slice(size)] + [slice(at, at + many) for at in range(size, len(y), many)]
    batches = [(outputs[at], y[at], None if weights is None else weights[at]) for at in cuts]
    whole = isinstance(part, Rows) and not part.mapped
    if not whole:
        metrics = {name: one for name, one in metrics.items() if _of_any_rows(one)}
    with tg.no_grad(), np.errstate(all="ignore"):
        for z, t, factors in list(weighted.counting(batches)) or batches[: int(whole)]:
            error = weighted(tg.Tensor(z), t, factors)
            if not isinstance(error, tg.Tensor) or error.size != 1:
                raise ArgumentError(
                    message("fit", "a loss that gives a Tensor of one element",
                            f"{np.shape(error)} from {weighted.loss!r}",
                            'Use reduction="mean" or "sum".')
                )  # fmt: skip
        _measured(metrics, [(y, outputs)])


def _of_any_rows(metric: Metric) -> bool:
    """Whether a metric is known to be defined for any part of the rows."""
    function = _whole(metric.metric if isinstance(metric, _OfClasses) else metric)
    return function in METRICS.values() and function not in OF_ALL_ROWS


def _loss_of(
    model: Module, loss: Loss | None, validation: Any, metrics: Sequence[str | Metric]
) -> Loss:
    """The loss that was given, or that of a model written by hand."""
    if not isinstance(model, ByHand):
        if loss is None:
            raise ArgumentError(
                message("fit", "a loss", "none", "Give one of nn.losses: loss=nn.MSE().")
            )
        return loss
    name = type(model.model).__name__
    if loss is not None:
        raise ArgumentError(
            message("fit", f"no loss, for {name}.loss is it", repr(loss), "Leave loss= out.")
        )
    if not model.gives_scores and (metrics or validation is not None):
        raise ArgumentError(
            message("fit: metrics and validation", f"{name}.loss(X), which gives the scores",
                    f"only {name}.loss(X, y)", "Write loss(self, X, y=None).")
        )  # fmt: skip
    if validation is not None and not metrics:
        raise ArgumentError(
            message("fit: validation", "metrics to measure", f"none, and {name}.loss(X, y) is for "
                    "training", 'Give metrics=["accuracy"].')
        )  # fmt: skip
    return model.loss


def _facts(
    parts: Sequence[Rows | Stream], settings: Mapping[str, Any], epochs: int, optimizer: Optimizer
) -> dict[str, str]:
    """What ranks that train together must have in common, in words."""
    data = [part.described() for part in parts if isinstance(part, Rows)]
    return {
        **{name: repr(value) for name, value in settings.items()},
        "epochs": repr(epochs), "optimizer": repr(optimizer),
        **{f"data {i}" if i else "data": text for i, text in enumerate(data)},
    }  # fmt: skip


def _clips(
    parameters: list[tg.Tensor], norm: float | None, value: float | None
) -> list[Callable[[], Any]]:
    """What clips the gradients, its limits checked."""
    clips: list[Callable[[], Any]] = []
    if value is not None:
        clip_value([], value)
        clips.append(partial(clip_value, parameters, value))
    if norm is not None:
        clip_norm([], norm)
        clips.append(partial(clip_norm, parameters, norm))
    return clips


def _hand_over(optimizer: Optimizer, parameters: list[tg.Tensor]) -> None:
    """Give the optimizer the model's parameters, or see that it has some of them."""
    if optimizer.params is None:
        optimizer.attach(parameters)
    elif not {id(p) for p in optimizer.params} & {id(p) for p in parameters}:
        raise ArgumentError(
            message("fit", "an optimizer of this model's parameters", "one of others",
                    f"Make a new one: {type(optimizer).__name__}(lr=...).")
        )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Parts of an epoch
# --------------------------------------------------------------------------------------------------


def _served(
    ranks: Ranks | None, part: Rows | Stream, batch_size: int | None, shuffle: Shuffle
) -> Iterable[Batch]:
    """The batches, or this rank's share of each."""
    if ranks is None:
        return part.batches(batch_size, shuffle)
    return ranks.batches(part, batch_size, shuffle)


def _mean(total: float, rows: float, summed: bool, ranks: Ranks | None) -> dict[str, float]:
    """The loss of all rows, from the sum over those seen here."""
    if ranks is not None:
        total, rows = ranks.sum(total, rows)
    if not (rows or summed):
        raise ArgumentError(message("fit: loss", "at least one row that counts", "none"))
    return {"loss": total if summed else total / rows}


def _measured(
    metrics: dict[str, Metric], seen: list[tuple[Array, Array]], ranks: Ranks | None = None
) -> dict[str, float]:
    """Each metric of all targets and outputs seen."""
    if not metrics:
        return {}
    if ranks is not None:
        seen = ranks.gathered(seen)
        return ranks.of_first(partial(_measured, metrics, seen))
    y, outputs = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*seen))
    return {name: float(metric(y, outputs)) for name, metric in metrics.items()}


def _plain(outputs: Any) -> Array:
    return outputs.data if isinstance(outputs, tg.Tensor) else np.asarray(outputs)


def _bar(total: int | None, done: int, wanted: bool) -> Any:
    """A progress bar on standard error; None where that is no terminal, or in CI."""
    if not wanted or os.environ.get("CI") or not on_terminal():
        return nullcontext()
    from tqdm import tqdm

    # A rank cannot ask for the width of the launcher's terminal.
    width = None if sys.stderr.isatty() else shutil.get_terminal_size().columns
    return tqdm(total=total, initial=done, unit="step", mininterval=0.2, ncols=width)


def _show(bar: Any, values: Mapping[str, float]) -> None:
    """Write as many of the values behind the bar as fit into its line, none of them cut."""
    shown: dict[str, float] = {}
    for name, value in values.items():
        before = bar.postfix
        shown[name] = value
        bar.set_postfix(shown, refresh=False)
        whole = bar.format_meter(**bar.format_dict | {"ncols": None})
        spare = 9 if bar.total else 0  # of the bar one cell is enough
        if bar.ncols is not None and len(whole) - spare > bar.ncols:
            bar.postfix = before
            return
