"""The training loop, and its halves: `fit`, `evaluate`, `predict`."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import tinygrad_np as tg
from nn import init
from nn import metrics as measures
from nn.data import batches, check_finite, check_rows, train_test_split
from nn.history import History
from nn.module import Module, as_array, mode
from nn.names import named
from nn.optim import Optimizer
from tinygrad_np.errors import ArgumentError, NonFiniteError, message

Array = NDArray[Any]
Data = Iterable[ArrayLike]
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


def fit(
    model: Module,
    data: Data,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int = 1,
    batch_size: int | None = 32,
    validation: Data | float | None = None,
    metrics: Sequence[str | Metric] = (),
    seed: int | None = None,
    shuffle: bool = True,
    verbose: bool | int = True,
) -> History:
    """Train a model: for each batch, forward, backward, step.

    Parameters
    ----------
    model : Module
    data : (x, y) or Dataset
        Inputs (N, ...) and targets (N, ...).
    loss : callable
        ``loss(outputs, targets)`` gives a Tensor of one element, as the modules of `nn.losses` do.
    optimizer : Optimizer
        Without parameters it is given those of the model.
    epochs : int
        How often all rows are seen.
    batch_size : int or None
        Rows a step, fewer in the last of an epoch; None for all rows in one step.
    validation : (x, y), Dataset or float, optional
        Measured after each epoch; a fraction holds out that part of the rows, drawn at random.
    metrics : sequence of str or callable
        Names among those of `METRICS`, or functions of (y_true, outputs), both arrays.
    seed : int, optional
        For `nn.seed`: with the same seed and weights, the same run.
    shuffle : bool
        Whether each epoch has an order of its own.
    verbose : bool or int
        True for a progress bar, where standard error is a terminal and ``CI`` is not set; an int
        k to print every k-th epoch.

    Returns
    -------
    History
        The loss is the mean over an epoch's rows, each measured before its step (with
        ``reduction="sum"``, the sum); metrics are those of the same outputs.

    Raises
    ------
    ShapeError, DtypeError, IndexingError, NonFiniteError, ArgumentError
        Before training, for data, targets or settings that do not fit.
    NonFiniteError
        When a loss is not finite, with epoch and step; the weights are those before that step.

    Warns
    -----
    UserWarning
        After Ctrl-C, which ends the training: the model keeps the weights it has, and the history
        has the epochs that were completed.

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
    if seed is not None:
        init.seed(seed)
    x, y = _rows("fit", data)
    held_out: tuple[Array, Array] | None = None
    if isinstance(validation, float):
        x, held_x, y, held_y = train_test_split(x, y, test_size=validation, rng=init.generator())
        held_out = held_x, held_y
    elif validation is not None:
        held_out = _rows("fit: validation", validation)
    if not isinstance(epochs, int | np.integer) or epochs < 1:
        raise ArgumentError(message("fit", "epochs as a whole number of at least 1", repr(epochs)))
    functions = _metrics(metrics)
    for given_x, given_y in filter(None, [(x, y), held_out]):
        _try(model, given_x, given_y, loss, functions, batch_size)
    _hand_over(optimizer, model)

    history = History()
    every = 0 if isinstance(verbose, bool) else verbose
    steps = 1 if batch_size is None else math.ceil(len(x) / batch_size)
    with _bar(epochs * steps, shown=verbose is True) as bar, mode(model, training=True):
        try:
            for epoch in range(1, epochs + 1):
                start = perf_counter()
                served = _served(x, y, batch_size, shuffle)
                measured = _epoch(model, served, loss, optimizer, functions, f"epoch {epoch}", bar)
                if held_out is not None:
                    found = evaluate(model, held_out, loss=loss, metrics=metrics)
                    measured |= {f"val_{name}": value for name, value in found.items()}
                history.add(measured, perf_counter() - start)
                bar.set_postfix({"epoch": epoch} | measured, refresh=False)
                if every and epoch == 1:
                    print(history.head())
                if every and (epoch % every == 0 or epoch in (1, epochs)):
                    print(history.row(epoch), flush=True)
        except KeyboardInterrupt:
            warnings.warn(
                f"fit: interrupted after {len(history.seconds)} of {epochs} epochs; the model "
                "keeps the weights it has.",
                stacklevel=2,
            )
    return history


def _epoch(
    model: Module,
    served: Iterable[tuple[Array, ...]],
    loss: Loss,
    optimizer: Optimizer,
    metrics: dict[str, Metric],
    place: str,
    bar: Any,
) -> dict[str, float]:
    """Train on each batch once."""
    summed = getattr(loss, "reduction", "mean") == "sum"
    total, rows = 0.0, 0
    seen: list[tuple[Array, Array]] = []
    for step, (x, y) in enumerate(served, start=1):
        optimizer.zero_grad()
        outputs = model(x)
        error = loss(outputs, y)
        value = error.item()
        if not math.isfinite(value):
            raise NonFiniteError(
                message(f"fit: {place}, step {step}", "a finite loss", f"{value}",
                        "Lower the learning rate, or standardise x and y (nn.Standardizer).")
            )  # fmt: skip
        error.backward()
        optimizer.step()
        weight = 1 if summed else len(y)
        total += weight * value
        rows += weight
        if metrics:
            seen.append((y, _plain(outputs)))
        bar.update()
    return {"loss": total if summed else total / rows} | _measured(metrics, seen)


def evaluate(
    model: Module,
    data: Data,
    *,
    loss: Loss | None = None,
    metrics: Sequence[str | Metric] = (),
    batch_size: int | None = 1024,
) -> dict[str, float]:
    """Loss and metrics of a model on data, all rows at once, in evaluation mode.

    Parameters
    ----------
    model, data, loss, metrics
        As in `fit`.
    batch_size : int or None
        Rows that the model is given at a time.

    Returns
    -------
    dict of float
        ``loss`` and the metrics' names.

    Examples
    --------
    >>> import numpy as np, nn
    >>> model, x = nn.Dense(2, 1), np.ones((3, 2))
    >>> nn.evaluate(model, (x, nn.predict(model, x)), loss=nn.MSE(), metrics=["mae"])
    {'loss': 0.0, 'mae': 0.0}
    """
    x, y = _rows("evaluate", data)
    functions = _metrics(metrics)
    outputs = predict(model, x, batch_size)
    with tg.no_grad():
        measured = {} if loss is None else {"loss": float(loss(tg.Tensor(outputs), y).item())}
    return measured | _measured(functions, [(y, outputs)])


def predict(model: Module, x: ArrayLike, batch_size: int | None = 1024) -> Array:
    """The outputs for all rows of x, in evaluation mode and without recording.

    Parameters
    ----------
    model : Module
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
    x = as_array(x, "predict")
    check_rows("predict", x=x)
    size = len(x) if batch_size is None else batch_size
    with mode(model, training=False), tg.no_grad():
        parts = [_plain(model(part)) for (part,) in batches(x, batch_size=size, shuffle=False)]
    return np.concatenate(parts)


# --------------------------------------------------------------------------------------------------
# Before training: everything that can be refused is
# --------------------------------------------------------------------------------------------------


def _rows(operation: str, data: Data) -> tuple[Array, Array]:
    """Inputs and targets, checked."""
    pair = list(data) if isinstance(data, Iterable) and not isinstance(data, np.ndarray) else []
    if len(pair) != 2:
        raise ArgumentError(
            message(operation, "data as (x, y) or a Dataset", f"a {type(data).__name__}")
        )
    x, y = (as_array(part, f"{operation}: {name}") for name, part in zip("xy", pair))
    check_rows(operation, x=x, y=y)
    check_finite(x, operation, "x")
    check_finite(y, operation, "y")
    return x, y


def _metrics(given: Sequence[str | Metric]) -> dict[str, Metric]:
    """The metrics' functions, by the names they have in a history."""
    if isinstance(given, str):
        raise ArgumentError(message("fit", "metrics as a list", repr(given), f"Write [{given!r}]."))
    functions = [named("metrics", metric, METRICS) for metric in given]
    names = [
        metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))
        for metric in given
    ]
    found = dict(zip(names, functions))
    if len(found) != len(given) or "loss" in found:
        raise ArgumentError(message("fit", "metrics with distinct names", ", ".join(found)))
    return found


def _try(
    model: Module,
    x: Array,
    y: Array,
    loss: Loss,
    metrics: dict[str, Metric],
    batch_size: int | None,
) -> None:
    """Let model, loss and metrics refuse what does not fit, and build layers that wait for a batch.

    Each sees all the targets; the outputs for the first row stand for those of the others.
    """
    row = predict(model, x[:1])
    outputs = np.broadcast_to(row, (len(y), *row.shape[1:]))
    size = len(y) if batch_size is None else batch_size
    with tg.no_grad(), np.errstate(all="ignore"):
        for (part,) in batches(y, batch_size=size, shuffle=False):
            error = loss(tg.Tensor(outputs[: len(part)]), part)
            if not isinstance(error, tg.Tensor) or error.size != 1:
                raise ArgumentError(
                    message("fit", "a loss that gives a Tensor of one element",
                            f"{np.shape(error)} from {loss!r}", 'Use reduction="mean" or "sum".')
                )  # fmt: skip
        _measured(metrics, [(y, outputs)])


def _hand_over(optimizer: Optimizer, model: Module) -> None:
    """Give the optimizer the model's parameters, or see that it has some of them."""
    parameters = model.parameters()
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
    x: Array, y: Array, batch_size: int | None, shuffle: bool
) -> Iterable[tuple[Array, ...]]:
    if batch_size is None:  # whose order does not matter
        return [(x, y)]
    return batches(x, y, batch_size=batch_size, shuffle=shuffle, rng=init.generator())


def _measured(metrics: dict[str, Metric], seen: Sequence[tuple[Array, Array]]) -> dict[str, float]:
    """Each metric of all targets and outputs seen."""
    if not metrics:
        return {}
    y, outputs = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*seen))
    return {name: float(metric(y, outputs)) for name, metric in metrics.items()}


def _plain(outputs: Any) -> Array:
    return outputs.data if isinstance(outputs, tg.Tensor) else np.asarray(outputs)


def _bar(steps: int, shown: bool) -> Any:
    """A progress bar on standard error; none where that is no terminal, or in CI."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # ships no types

    hidden = None if shown and not os.environ.get("CI") else True  # None asks the terminal
    return tqdm(total=steps, disable=hidden, unit="step", mininterval=0.2)
