"""Schedules against their formulas, written out here, and against PyTorch's."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, NonFiniteError

RATES = (0.5, 0.02)  # of two groups
TIMES = range(25)


def optimizer(rates=RATES):
    groups = [{"params": [tg.Tensor(1.0, requires_grad=True)], "lr": lr} for lr in rates]
    return nn.SGD(groups, lr=1.0)


def rates(schedule, times=TIMES):
    """What the schedule sets for each group, time after time."""
    made = optimizer()
    schedule.attach(made)
    found = []
    for _ in times:
        found.append([group.lr for group in made.groups])
        schedule.step()
    return np.array(found)


def cosine(start, end, part):
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


def one_cycle(t, lr, length=25, warmup=0.4, div=10, final=100):
    peak = warmup * length - 1
    if t <= peak:
        return cosine(lr / div, lr, t / peak)
    return cosine(lr, lr / div / final, (t - peak) / (length - 1 - peak))


def warm_then_cosine(t, lr):
    return lr * (0.25 + 0.75 * t / 4) if t < 4 else cosine(lr, 0.001, min((t - 4) / 12, 1))


# Name: schedule, formula of (t, lr), and PyTorch's of the optimizer.
SCHEDULES = {
    "step": (
        lambda: nn.StepDecay(size=7, gamma=0.3), lambda t, lr: lr * 0.3 ** (t // 7),
        lambda s, o: s.StepLR(o, step_size=7, gamma=0.3)),
    "multi-step": (
        lambda: nn.MultiStepDecay(milestones=[3, 4, 20], gamma=0.3),
        lambda t, lr: lr * 0.3 ** ((t >= 3) + (t >= 4) + (t >= 20)),
        lambda s, o: s.MultiStepLR(o, milestones=[3, 4, 20], gamma=0.3)),
    "exponential": (
        lambda: nn.ExponentialDecay(gamma=0.9), lambda t, lr: lr * 0.9**t,
        lambda s, o: s.ExponentialLR(o, gamma=0.9)),
    "cosine": (
        lambda: nn.CosineDecay(length=25, low=0.001), lambda t, lr: cosine(lr, 0.001, t / 25),
        lambda s, o: s.CosineAnnealingLR(o, T_max=25, eta_min=0.001)),
    "cosine, then low": (
        lambda: nn.CosineDecay(length=10), lambda t, lr: cosine(lr, 0, min(t / 10, 1)), None),
    "warm-up": (
        lambda: nn.LinearWarmup(length=6, start=0.25),
        lambda t, lr: lr * (0.25 + 0.75 * min(t, 6) / 6),
        lambda s, o: s.LinearLR(o, start_factor=0.25, total_iters=6)),
    "warm-up, then cosine": (
        lambda: nn.LinearWarmup(
            length=4, start=0.25, then=nn.CosineDecay(length=12, low=0.001, per="step")),
        warm_then_cosine, None),
    "one-cycle": (
        lambda: nn.OneCycle(length=25, warmup=0.4, div=10, final_div=100), one_cycle,
        lambda s, o: s.OneCycleLR(
            o, max_lr=list(RATES), total_steps=25, pct_start=0.4, div_factor=10,
            final_div_factor=100, cycle_momentum=False)),
}  # fmt: skip


@pytest.mark.parametrize(("make", "formula"), [s[:2] for s in SCHEDULES.values()], ids=SCHEDULES)
def test_rates_are_those_of_the_formula_in_every_group(make, formula):
    expected = [[formula(t, lr) for lr in RATES] for t in TIMES]
    np.testing.assert_allclose(rates(make()), expected, rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize(
    ("make", "peer"), [s[::2] for s in SCHEDULES.values() if s[2]],
    ids=[name for name, s in SCHEDULES.items() if s[2]],
)  # fmt: skip
def test_rates_are_those_of_pytorch(make, peer):
    torch = pytest.importorskip("torch")
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in RATES]
    other = torch.optim.SGD(groups, lr=1.0)
    theirs = peer(torch.optim.lr_scheduler, other)
    expected = []
    for t in TIMES:
        expected.append([group["lr"] for group in other.param_groups])
        other.step()
        if t < TIMES[-1]:  # where PyTorch's cycle ends
            theirs.step()
    np.testing.assert_allclose(rates(make()), expected, rtol=1e-12, atol=1e-17)


LOSSES = [3.0, 2.0, 1.99, 1.985, 1.98, 2.5, 2.5, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_plateau_reduces_after_patience():
    made = optimizer()
    schedule = nn.ReduceOnPlateau(made, gamma=0.5, patience=2, threshold=0.01, low=0.015)
    found = []
    for loss in LOSSES:
        schedule.step(loss)
        found.append([group.lr for group in made.groups])
    # 1.99 and 1.985 are within 1 % of 2, and 1.98 is no less than 0.99 * 2: three epochs without.
    reductions = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4]
    assert found == [[max(lr * 0.5**k, 0.015) for lr in RATES] for k in reductions]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_is_that_of_pytorch(mode):
    torch = pytest.importorskip("torch")
    other = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        other, mode=mode, factor=0.3, patience=1, threshold=0.02, min_lr=0.01
    )
    made = optimizer([0.5])
    schedule = nn.ReduceOnPlateau(made, gamma=0.3, patience=1, threshold=0.02, low=0.01, mode=mode)
    for value in np.random.default_rng(0).uniform(1, 2, 40):
        theirs.step(value)
        schedule.step(value)
        np.testing.assert_allclose(made.groups[0].lr, other.param_groups[0]["lr"], rtol=1e-13)
    assert made.groups[0].lr == 0.01


def test_a_plateau_never_raises_a_rate():
    made = optimizer([0.001])
    nn.ReduceOnPlateau(made, low=0.01)
    assert made.groups[0].lr == 0.001


# --- in fit ---


def fit(schedule, **settings):
    x = np.random.default_rng(0).normal(size=(10, 4))
    model = nn.Dense(4, 1, rng=0)
    defaults = {"loss": nn.MSE(), "optimizer": nn.SGD(lr=0.5), "epochs": 3, "batch_size": 4}
    return nn.fit(model, (x, x[:, :1]), schedule=schedule, **(defaults | settings))


def test_fit_steps_per_epoch_and_the_history_has_the_rate():
    schedule = nn.ExponentialDecay(gamma=0.5)
    assert fit(schedule)["lr"] == [0.5, 0.25, 0.125]
    assert schedule.t == 3


def test_fit_steps_per_step_of_the_optimizer():
    seen = []

    class Watch(nn.Callback):
        def on_step_end(self, run):
            seen.append(run.optimizer.lr)

    fit(nn.ExponentialDecay(gamma=0.5, per="step"), callbacks=[Watch()], epochs=2)
    assert seen == [0.5 * 0.5**t for t in range(1, 7)]  # three batches an epoch
    fit(schedule := nn.LinearWarmup(length=100), accumulate=2)
    assert schedule.t == 6  # two steps an epoch


def test_fit_gives_a_plateau_its_measure():
    history = fit(nn.ReduceOnPlateau(patience=1, threshold=1.0, gamma=0.1), epochs=5)
    # No loss is below 0 times the best: reduced after the third epoch and the fifth.
    np.testing.assert_allclose(history["lr"], [0.5, 0.5, 0.5, 0.05, 0.05])
    accuracy = nn.ReduceOnPlateau(monitor="val_accuracy")
    assert accuracy.sign == 1
    with pytest.raises(ArgumentError, match=r"monitor among loss, lr, got 'val_accuracy'"):
        fit(accuracy)


# --- state ---


@pytest.mark.parametrize(
    "make",
    [*(s[0] for s in SCHEDULES.values()), lambda: nn.ReduceOnPlateau(patience=1, gamma=0.5)],
    ids=[*SCHEDULES, "plateau"],
)
def test_a_schedule_goes_on_from_its_state(make):
    values = [[loss] if isinstance(make(), nn.ReduceOnPlateau) else [] for loss in LOSSES]
    first, second = optimizer(), optimizer()
    schedule, other = make(), make()
    schedule.attach(first)
    for value in values[:8]:
        schedule.step(*value)
    state = json.loads(json.dumps(schedule.state_dict()))  # nothing but numbers and texts
    for group in second.groups:
        group.lr = 7.0  # what the second begins with does not matter
    other.attach(second)
    other.load_state_dict(state)
    for value in values[8:]:
        assert [group.lr for group in first.groups] == [group.lr for group in second.groups]
        schedule.step(*value)
        other.step(*value)


def test_the_state_of_another_is_refused():
    schedule = nn.StepDecay(optimizer(), size=2)
    before = schedule.state_dict()
    text = "StepDecay.load_state_dict: expected the state of StepDecay, got CosineDecay's."
    with pytest.raises(ArgumentError, match=re.escape(text)):
        schedule.load_state_dict(nn.CosineDecay(optimizer(), length=3).state_dict())
    with pytest.raises(ArgumentError, match="the rates of 2 groups, got 1"):
        schedule.load_state_dict(nn.StepDecay(optimizer([1.0]), size=2).state_dict())
    assert schedule.state_dict() == before


# --- what is refused ---


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.StepDecay(size=0), "StepDecay: expected size as a whole number of at least 1"),
        (lambda: nn.StepDecay(size=2.5), "got 2.5."),
        (lambda: nn.StepDecay(size=2, gamma=1.5), "gamma in [0, 1], got 1.5"),
        (lambda: nn.StepDecay(size=2, per="batch"), 'per="epoch" or "step", got \'batch\''),
        (lambda: nn.MultiStepDecay(milestones=[4, 2]), "ascending order, got (4, 2)"),
        (lambda: nn.MultiStepDecay(milestones=[0, 2]), "milestones as a whole number"),
        (lambda: nn.MultiStepDecay(milestones=[2], gamma=-1), "gamma in [0, 1], got -1"),
        (lambda: nn.ExponentialDecay(gamma=float("nan")), "gamma in [0, 1], got nan"),
        (lambda: nn.CosineDecay(length=0), "length as a whole number"),
        (lambda: nn.CosineDecay(length=2, low=-1), "low in [0, inf], got -1"),
        (lambda: nn.LinearWarmup(length=2, start=2), "start in [0, 1], got 2"),
        (lambda: nn.LinearWarmup(length=2, then=nn.CosineDecay(length=2)), "per='step', got Cos"),
        (lambda: nn.LinearWarmup(length=2, per="epoch", then=nn.ReduceOnPlateau()), "got Reduce"),
        (lambda: nn.OneCycle(length=2), "steps before and after the peak, got length=2 with"),
        (lambda: nn.OneCycle(length=20, div=0.5), "div in [1, inf], got 0.5"),
        (lambda: nn.OneCycle(length=20, warmup=1.5), "warmup in [0, 1], got 1.5"),
        (lambda: nn.ReduceOnPlateau(per="step"), "per=\"epoch\", got 'step'"),
        (lambda: nn.ReduceOnPlateau(mode="low"), 'expected mode="min" or mode="max", got mode='),
        (lambda: nn.ReduceOnPlateau(monitor="val_taste"), "for 'val_taste'. Say which"),
        (lambda: nn.ReduceOnPlateau(patience=-1), "patience in [0, inf], got -1"),
        (lambda: nn.CosineDecay(length=2).step(), "CosineDecay: expected an optimizer, got none"),
        (lambda: nn.CosineDecay(nn.SGD(lr=0.1), length=2), "an optimizer with parameters, got one"),
        (lambda: nn.ReduceOnPlateau(optimizer()).step(), "the measure of the epoch, got none"),
        (lambda: nn.CosineDecay(optimizer(), length=2).attach(optimizer()), "got another one"),
    ],
)
def test_bad_settings_are_refused(make, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        make()


def test_a_plateau_of_nan_is_refused():
    with pytest.raises(NonFiniteError, match="ReduceOnPlateau: expected a measure, got nan"):
        nn.ReduceOnPlateau(optimizer()).step(float("nan"))
