"""Schedules: learning rates over time. Each is its options and a formula, `Schedule.rate`.

Time ``t`` = 0, 1, ... counts epochs or optimizer steps (``per``). `fit` and a loop written by hand
call `Schedule.step` after each; the learning rate of every group follows from the one it had
before, so what a schedule sets does not add up over calls.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import cos, inf, pi
from typing import Any, ClassVar

import numpy as np

from nn.history import direction, monitored
from nn.optim import Optimizer
from tinygrad_np import each_time
from tinygrad_np.errors import ArgumentError, NonFiniteError, message

__all__ = [
    "CosineDecay", "ExponentialDecay", "LinearWarmup", "MultiStepDecay", "OneCycle",
    "ReduceOnPlateau", "Schedule", "StepDecay",
]  # fmt: skip


@dataclass(kw_only=True, eq=False)
class Schedule:
    """Base of all schedules: ``lr_t = rate(t, lr_0)`` for each group of the optimizer.

    A new schedule is a dataclass derived from it (``kw_only=True, eq=False``) that defines `rate`.

    Parameters
    ----------
    optimizer : Optimizer, optional
        With parameters. `fit` gives its own.
    per : {"epoch", "step"}
        What ``t`` counts: epochs or optimizer steps.

    Attributes
    ----------
    t : int

    Raises
    ------
    ArgumentError
        For an option outside its range; for a second optimizer.

    Examples
    --------
    >>> import tinygrad_np as tg, nn
    >>> optimizer = nn.SGD([tg.Tensor(1.0, requires_grad=True)], lr=0.5)
    >>> schedule = nn.ExponentialDecay(optimizer, gamma=0.5)
    >>> for _ in range(3):
    ...     print(optimizer.lr)
    ...     schedule.step()
    0.5
    0.25
    0.125
    """

    optimizer: Optimizer | None = field(default=None, kw_only=False, repr=False)
    per: str = "epoch"

    def rate(self, t: int, lr: float) -> float:
        """The learning rate at time t of a group that began with ``lr``."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        self._expect(self.per in ("epoch", "step"), 'per="epoch" or "step"', repr(self.per))
        self.t = 0
        self.initial: list[float] = []
        optimizer, self.optimizer = self.optimizer, None
        if optimizer is not None:
            self.attach(optimizer)

    def attach(self, optimizer: Optimizer) -> None:
        """Take the optimizer, if none was given, and set its learning rates."""
        if self.optimizer is optimizer:
            return
        self._expect(self.optimizer is None, "the optimizer it has", "another one")
        self._expect(
            optimizer.params is not None, "an optimizer with parameters", "one without",
            "Give them: SGD(model.parameters(), lr=...).",
        )  # fmt: skip
        self.optimizer = optimizer
        self.initial = [group.lr for group in optimizer.groups]
        self._set()

    def step(self) -> None:
        """Set the learning rates of the next epoch or step."""
        self._expect(self.optimizer is not None, "an optimizer", "none yet", "Call attach first.")
        each_time(self._advance)

    def _advance(self) -> None:
        self.t += 1
        self._set()

    def epoch_ended(self, measured: Mapping[str, float]) -> None:
        """What `fit` calls: a step, for a schedule per epoch."""
        if self.per == "epoch":
            self.step()

    def _set(self) -> None:
        assert self.optimizer is not None
        for group, lr in zip(self.optimizer.groups, self.initial):
            group.lr = self.rate(self.t, lr)

    def _expect(self, holds: bool, expected: str, got: str, fix: str = "") -> None:
        if not holds:
            raise ArgumentError(message(type(self).__name__, expected, got, fix))

    def _expect_length(self, name: str, value: Any) -> None:
        whole = isinstance(value, int | np.integer) and value > 0
        self._expect(bool(whole), f"{name} as a whole number of at least 1", f"{value!r}")

    def _expect_within(self, name: str, value: Any, low: float, high: float) -> None:
        number = isinstance(value, int | float | np.number) and low <= value <= high
        self._expect(bool(number), f"{name} in [{low:g}, {high:g}]", f"{value!r}")

    # -- state -------------------------------------------------------------------------------------

    numbers: ClassVar[tuple[str, ...]] = ("t",)
    """The attributes that change over time."""

    def state_dict(self) -> dict[str, Any]:
        """What it takes to go on: the kind, the time, and the learning rates at the start."""
        own = {name: getattr(self, name) for name in self.numbers}
        return {"kind": type(self).__name__, "initial": list(self.initial)} | own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same kind; the options stay those given.

        Raises
        ------
        ArgumentError
            For the state of another kind, or of another number of groups.
        """
        where = f"{type(self).__name__}.load_state_dict"
        kind, groups = state.get("kind"), len(self.initial)
        if kind != type(self).__name__ or not {"initial", *self.numbers} <= state.keys():
            raise ArgumentError(message(where, f"the state of {type(self).__name__}", f"{kind}'s"))
        if len(state["initial"]) != groups:
            raise ArgumentError(
                message(where, f"the rates of {groups} groups", f"{len(state['initial'])}")
            )
        self.initial = list(state["initial"])
        for name in self.numbers:
            setattr(self, name, state[name])
        if self.optimizer is not None:
            self._set()


@dataclass(kw_only=True, eq=False)
class StepDecay(Schedule):
    """``lr_t = gamma^floor(t / size) lr_0``: a drop after every ``size`` epochs.

    Parameters
    ----------
    optimizer, per
        See `Schedule`.
    size : int
    gamma : float
        In [0, 1].

    Examples
    --------
    >>> schedule = StepDecay(size=2, gamma=0.1)
    >>> [round(schedule.rate(t, 1.0), 6) for t in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.01]
    """

    size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._expect_length("size", self.size)
        self._expect_within("gamma", self.gamma, 0, 1)
        super().__post_init__()

    def rate(self, t: int, lr: float) -> float:
        return lr * self.gamma ** (t // self.size)


@dataclass(kw_only=True, eq=False)
class MultiStepDecay(Schedule):
    """``lr_t = gamma^k lr_0``, with k milestones at or before t.

    Parameters
    ----------
    optimizer, per
        See `Schedule`.
    milestones : sequence of int
        Ascending.
    gamma : float
        In [0, 1].

    Examples
    --------
    >>> schedule = MultiStepDecay(milestones=[1, 3], gamma=0.1)
    >>> [round(schedule.rate(t, 1.0), 6) for t in range(5)]
    [1.0, 0.1, 0.1, 0.01, 0.01]
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self.milestones = tuple(self.milestones)
        for milestone in self.milestones:
            self._expect_length("milestones", milestone)
        ascending = list(self.milestones) == sorted(set(self.milestones))
        self._expect(ascending, "milestones in ascending order", f"{self.milestones}")
        self._expect_within("gamma", self.gamma, 0, 1)
        super().__post_init__()

    def rate(self, t: int, lr: float) -> float:
        return lr * self.gamma ** bisect_right(self.milestones, t)


@dataclass(kw_only=True, eq=False)
class ExponentialDecay(Schedule):
    """``lr_t = gamma^t lr_0``.

    Parameters
    ----------
    optimizer, per
        See `Schedule`.
    gamma : float
        In [0, 1].
    """

    gamma: float

    def __post_init__(self) -> None:
        self._expect_within("gamma", self.gamma, 0, 1)
        super().__post_init__()

    def rate(self, t: int, lr: float) -> float:
        return float(lr * self.gamma**t)


@dataclass(kw_only=True, eq=False)
class CosineDecay(Schedule):
    """``lr_t = low + (lr_0 - low) (1 + cos(pi t / length)) / 2``, and ``low`` from then on.

    Parameters
    ----------
    optimizer, per
        See `Schedule`.
    length : int
        Epochs or steps from ``lr_0`` down to ``low``.
    low : float
        The learning rate at the end.

    Notes
    -----
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017),
    equation 5, without restarts.

    Examples
    --------
    >>> schedule = CosineDecay(length=4)
    >>> [round(schedule.rate(t, 1.0), 4) for t in range(6)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """

    length: int
    low: float = 0.0

    def __post_init__(self) -> None:
        self._expect_length("length", self.length)
        self._expect_within("low", self.low, 0, inf)
        super().__post_init__()

    def rate(self, t: int, lr: float) -> float:
        return _cosine(lr, self.low, t / self.length)


def _cosine(start: float, end: float, part: float) -> float:
    """From start to end along half a period of the cosine, of which ``part`` is done."""
    return end + (start - end) * (1 + cos(pi * part)) / 2 if part < 1 else end


@dataclass(kw_only=True, eq=False)
class LinearWarmup(Schedule):
    """``lr_t = (start + (1 - start) t / length) lr_0`` while ``t < length``, then ``lr_0``.

    Parameters
    ----------
    optimizer, per
        See `Schedule`; by default steps.
    length : int
        Steps or epochs until ``lr_0``.
    start : float
        In [0, 1]; with 0 the first step changes nothing.
    then : Schedule, optional
        What follows; its time starts when the warm-up is over, and counts the same.

    Notes
    -----
    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour" (2017), section 2.2.

    Examples
    --------
    >>> schedule = LinearWarmup(length=2, start=0.5, then=CosineDecay(length=2, per="step"))
    >>> [round(schedule.rate(t, 1.0), 4) for t in range(5)]
    [0.5, 0.75, 1.0, 0.5, 0.0]
    """

    per: str = "step"
    length: int
    start: float = 0.01
    then: Schedule | None = None

    def __post_init__(self) -> None:
        self._expect_length("length", self.length)
        self._expect_within("start", self.start, 0, 1)
        if self.then is not None:
            fits = not isinstance(self.then, ReduceOnPlateau) and self.then.per == self.per
            self._expect(
                fits and self.then.optimizer is None,
                f"then as a schedule of its own time, per={self.per!r}", f"{self.then!r}",
            )  # fmt: skip
        super().__post_init__()

    def rate(self, t: int, lr: float) -> float:
        if t < self.length:
            return lr * (self.start + (1 - self.start) * t / self.length)
        return lr if self.then is None else self.then.rate(t - self.length, lr)


@dataclass(kw_only=True, eq=False)
class OneCycle(Schedule):
    """From ``lr_0 / div`` up to ``lr_0`` and down to ``lr_0 / (div final_div)``, along cosines.

    The peak is at ``t = warmup length - 1``, the end at ``t = length - 1``.

    Parameters
    ----------
    optimizer, per
        See `Schedule`; by default steps. The learning rate of the optimizer is the highest.
    length : int
        All steps (or epochs) of the run: ``epochs * ceil(N / batch_size)``.
    warmup : float
        The part of them that goes up, in (0, 1).
    div, final_div : float
        >= 1.

    Notes
    -----
    Smith and Topin, "Super-Convergence" (2018), with the cosines and the numbers of PyTorch. Only
    the learning rate follows the cycle, not the momentum.

    Examples
    --------
    >>> schedule = OneCycle(length=10, div=10, final_div=10)
    >>> [round(schedule.rate(t, 1.0), 2) for t in range(10)]
    [0.1, 0.55, 1.0, 0.95, 0.81, 0.62, 0.39, 0.2, 0.06, 0.01]
    """

    per: str = "step"
    length: int
    warmup: float = 0.3
    div: float = 25.0
    final_div: float = 1e4

    def __post_init__(self) -> None:
        self._expect_length("length", self.length)
        self._expect_within("warmup", self.warmup, 0, 1)
        for name in ("div", "final_div"):
            self._expect_within(name, getattr(self, name), 1, inf)
        peak = self.warmup * self.length - 1
        self._expect(
            0 < peak < self.length - 1, "a length with steps before and after the peak",
            f"length={self.length} with warmup={self.warmup}",
        )  # fmt: skip
        super().__post_init__()

    def rate(self, t: int, lr: float) -> float:
        low, peak, end = lr / self.div, self.warmup * self.length - 1, self.length - 1
        if t <= peak:
            return _cosine(low, lr, t / peak)
        return _cosine(lr, low / self.final_div, (t - peak) / (end - peak))


@dataclass(kw_only=True, eq=False)
class ReduceOnPlateau(Schedule):
    """``lr = max(gamma lr, low)`` each time a measure has not improved for ``patience`` epochs.

    An improvement is a value below ``(1 - threshold) best``, or above ``(1 + threshold) best`` for
    a measure that should be high.

    Parameters
    ----------
    optimizer
        See `Schedule`.
    gamma : float
        In [0, 1].
    patience : int
        Epochs without improvement that are waited; the next one reduces.
    threshold : float
        In [0, 1].
    low : float
        The learning rate is not reduced below.
    monitor : str, optional
        A name in the history; by default ``val_loss``, or without validation data ``loss``.
    mode : {"min", "max"}, optional
        Which values are better; known for losses and the metrics that have a name.

    Examples
    --------
    >>> import tinygrad_np as tg, nn
    >>> optimizer = nn.SGD([tg.Tensor(1.0, requires_grad=True)], lr=1.0)
    >>> schedule = nn.ReduceOnPlateau(optimizer, gamma=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> optimizer.lr
    0.5
    """

    gamma: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    low: float = 0.0
    monitor: str | None = None
    mode: str | None = None

    numbers: ClassVar[tuple[str, ...]] = ("t", "best", "waited", "reductions")

    def __post_init__(self) -> None:
        self._expect(self.per == "epoch", 'per="epoch"', repr(self.per))
        self._expect_within("gamma", self.gamma, 0, 1)
        self._expect_within("patience", self.patience, 0, inf)
        self._expect_within("threshold", self.threshold, 0, 1)
        self._expect_within("low", self.low, 0, inf)
        self.sign = direction(type(self).__name__, self.monitor or "loss", self.mode)
        self.best: float | None = None
        self.waited, self.reductions = 0, 0
        super().__post_init__()

    def rate(self, t: int, lr: float) -> float:
        return max(lr * self.gamma**self.reductions, min(lr, self.low))

    def step(self, value: float | None = None) -> None:
        """Take the measure of an epoch."""
        self._expect(value is not None, "the measure of the epoch", "none", "Call step(loss).")
        assert value is not None
        if value != value:
            raise NonFiniteError(message(type(self).__name__, "a measure", "nan"))
        each_time(partial(self._take, value))
        super().step()

    def _take(self, value: float) -> None:
        best = self.best
        if best is None or self.sign * value > self.sign * best * (1 + self.sign * self.threshold):
            self.best, self.waited = float(value), 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.waited = 0
            self.reductions += 1

    def epoch_ended(self, measured: Mapping[str, float]) -> None:
        self.step(monitored(type(self).__name__, measured, self.monitor)[1])
