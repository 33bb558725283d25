"""Random networks, optimizers, layouts and changes between calls: compiled equals the step as it is."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg

ACTIVATIONS = ("relu", "tanh", "sigmoid", "gelu", "leaky_relu", "elu", None)
OPTIMIZERS: list[Callable[[Any], Any]] = [
    lambda ps: nn.SGD(ps, lr=0.05), lambda ps: nn.SGD(ps, lr=0.05, momentum=0.9, nesterov=True),
    lambda ps: nn.SGD(ps, lr=0.05, weight_decay=0.1), lambda ps: nn.RMSProp(ps, lr=0.003),
    lambda ps: nn.Adam(ps, lr=0.003), lambda ps: nn.AdamW(ps, lr=0.003), lambda ps: nn.Adagrad(ps, lr=0.01),
    lambda ps: nn.SGD([{"params": ps[:1], "lr": 0.01}, {"params": ps[1:]}], lr=0.05),
]  # fmt: skip
LAYOUTS: list[Callable[[Any], Any]] = [
    np.copy, np.asfortranarray, lambda x: np.copy(x[::-1])[::-1],
    lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
]  # fmt: skip


class Tied(nn.Module):
    """There and back with the same weights, beside the input and a number that learns."""

    def __init__(self, features: int, hidden: int, seed: int) -> None:
        self.there = nn.Dense(features, hidden, rng=seed, dtype=float)
        self.share = tg.Tensor(0.5, requires_grad=True)

    def forward(self, x: Any) -> Any:
        return x + self.share * (tg.tanh(self.there(x)) @ self.there.W.T)


class Case:
    """One random training; two made from the same seed are the same."""

    def __init__(self, seed: int) -> None:
        r = random.Random(seed)
        rows, width, classes = r.randint(1, 70), r.randint(1, 70), r.randint(2, 9)
        self.shapes = [(n, width) for n in (rows, max(1, rows // 2))]
        self.labels = r.random() < 0.5
        self.classes = classes
        layers: list[Any] = []
        for k in range(r.randint(0, 3)):
            hidden = r.randint(1, 70)
            layers += r.choice([
                [nn.Dense(width, hidden, rng=k, dtype=float, activation=r.choice(ACTIVATIONS))],
                [nn.LayerNorm(width, dtype=float)], [nn.Dropout(0.3, rng=k)], [Tied(width, hidden, k)],
            ])  # fmt: skip
            width = hidden if isinstance(layers[-1], nn.Dense) else width
        self.model = nn.Sequential(*layers, nn.Dense(width, classes, rng=9, dtype=float))
        self.params = self.model.parameters()
        self.optimizer = r.choice(OPTIMIZERS)(self.params)
        reduction = r.choice(["mean", "sum"])
        self.loss = (
            nn.SoftmaxCrossEntropy(reduction) if self.labels
            else r.choice([nn.MSE, nn.Huber, nn.L1, nn.BinaryCrossEntropy])(reduction)
        )  # fmt: skip
        self.scale, self.factors = 1.0, [1.0, 2.0]
        self.clip = r.choice([None, 0.5, 50.0])
        self.limit = r.choice([None, 1.0, 100.0])
        self.schedule = (
            nn.ExponentialDecay(self.optimizer, per="step", gamma=0.9) if r.random() < 0.3 else None
        )
        self.lay = r.choice(LAYOUTS)
        self.exact = r.random() < 0.4

    def batch(self, k: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(k)
        rows, width = self.shapes[k % len(self.shapes)]
        labels = rng.integers(0, self.classes, rows)
        targets = labels if self.labels else rng.integers(0, 2, (rows, self.classes)).astype(float)
        return self.lay(rng.normal(size=(rows, width))), self.lay(targets)

    def step(self, x: Any, t: Any) -> Any:
        self.optimizer.zero_grad()
        y = self.model(x)
        loss = self.loss(y, t) * self.scale * self.factors[0]
        loss.backward()
        if self.clip is not None:
            nn.clip_value(self.params, self.clip)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.limit is not None and loss > self.limit:
            return {"loss": loss, "y": [y]}
        return loss, y.detach()

    def state(self) -> list[Any]:
        optimizer = tg.tree.leaves(self.optimizer.state_dict())
        return [
            *self.model.state_dict().values(),
            *[one for one in optimizer if not isinstance(one, str)],
        ]


def other_data(case: Case, r: random.Random) -> None:
    p = r.choice(case.params)
    p.data = np.array(p.data) * 0.9


def other_numbers(case: Case, r: random.Random) -> None:
    r.choice(case.params).data[...] *= 0.9


def load(case: Case, r: random.Random) -> None:
    state = case.model.state_dict()
    case.model.load_state_dict({key: value * 0.9 for key, value in state.items()})
    case.optimizer.load_state_dict(copy.deepcopy(case.optimizer.state_dict()))


def freeze(case: Case, r: random.Random) -> None:
    p = r.choice(case.params[:-1] or case.params)
    p.requires_grad = not p.requires_grad if p is not case.params[-1] else True


CHANGES: list[Callable[[Case, random.Random], object]] = [
    other_data, other_numbers, load, freeze, lambda case, r: setattr(case, "scale", r.choice([0.5, 2.0])),
    lambda case, r: case.factors.__setitem__(0, r.choice([1.0, 0.5])),
    lambda case, r: setattr(case.optimizer, "lr", 0.01), lambda case, r: case.model.train(r.random() < 0.5),
    lambda case, r: case.model.zero_grad(), lambda case, r: copy.deepcopy(case.model),
    lambda case, r: case.step(*case.batch(r.randrange(99))),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_random_training(seed: int) -> None:
    eager, case = Case(seed), Case(seed)
    compiled = tg.compile(case.step, exact=case.exact, warn=False)
    r, kept = random.Random(seed), []
    # Optimizers that divide by the size of a gradient carry its rounding on.
    rtol = 0.0 if case.exact else 1e-5
    atol = 0.0 if case.exact else 1e-7
    for k in range(14):
        if k and r.random() < 0.25:
            change, chance = r.choice(CHANGES), r.random()
            for one in (eager, case):
                change(one, random.Random(chance))
        expected, got = eager.step(*eager.batch(k)), compiled(*case.batch(k))
        kept.append((got, [one.data.copy() for one in tg.tree.leaves(got)]))
        pairs = list(
            zip(tg.tree.leaves([expected, eager.state()]), tg.tree.leaves([got, case.state()]))
        )
        if r.random() < 0.5:  # else the gradients stay where the next run overwrites them
            pairs += [(p.grad, q.grad) for p, q in zip(eager.params, case.params)]
        for a, b in pairs:
            assert (a is None) == (b is None)
            if a is not None:
                a, b = tg.core.plain(a), tg.core.plain(b)
                np.testing.assert_allclose(b, a, rtol=rtol, atol=atol, err_msg=f"call {k}")
    for result, numbers in kept:  # nobody has written into them since
        for one, before in zip(tg.tree.leaves(result), numbers):
            np.testing.assert_array_equal(one.data, before)
    if compiled.reason is not None:
        assert any(
            text in compiled.reason
            for text in ("differs from call to call", "set to an array that Python computed")
        )
