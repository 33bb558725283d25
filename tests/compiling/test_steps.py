"""Whole training runs, compiled and as they are: the same losses, weights, states and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg

X = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
LABELS = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(np.int64) + (X[:, 2] > 1)
TARGETS = np.stack([X[:, 0] * X[:, 1], np.abs(X[:, 2])], axis=1)


def network(*layers: Any) -> nn.Sequential:
    rng = np.random.default_rng(1)
    made = layers or (nn.Dense(6, 8, activation="relu", rng=rng), nn.Dense(8, 3, rng=rng))
    return nn.Sequential(*made)


class Training:
    """A model, its optimizer, and the step that a user writes."""

    def __init__(self, model: Any, optimizer: Any, loss: Any, clip: Any = None) -> None:
        self.model, self.optimizer, self.loss, self.clip = model, optimizer, loss, clip
        optimizer.attach(model.parameters())

    def step(self, x: Any, t: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), t)
        loss.backward()
        if self.clip is not None:
            self.clip(self.model.parameters())
        self.optimizer.step()
        return loss

    def run(self, step: Any, targets: Any, steps: int = 12, batch: int = 25) -> list[float]:
        losses = []
        for i in range(steps):
            rows = slice(batch * (i % 8), batch * (i % 8 + 1))
            losses.append(step(X[rows], targets[rows]).item())
        return losses


def twins(make: Any) -> tuple[Training, Training]:
    return make(), make()


def check(make: Any, targets: Any = LABELS, steps: int = 12) -> Any:
    """Train both, compare everything, and give the compiled step."""
    eager, ours = twins(make)
    compiled = tg.compile(ours.step)
    expected = eager.run(eager.step, targets, steps)
    got = ours.run(compiled, targets, steps)
    assert compiled.reason is None
    np.testing.assert_allclose(got, expected, rtol=2e-5)
    same(eager, ours)
    return compiled


def same(eager: Training, ours: Training) -> None:
    for a, b in zip(ours.model.parameters(), eager.model.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=2e-4, atol=2e-6)
        assert a.dtype == b.dtype
        assert (a.grad is None) == (b.grad is None)
        if b.grad is not None:
            np.testing.assert_allclose(a.grad, b.grad, rtol=2e-3, atol=2e-5)
    for (name, a), (_, b) in zip(
        ours.model.named_buffers(), eager.model.named_buffers(), strict=True
    ):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-6, err_msg=name)
    mine, theirs = ours.optimizer.state_dict(), eager.optimizer.state_dict()
    for a, b in zip(mine.get("state", ()), theirs.get("state", ())):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_allclose(a[key], b[key], rtol=1e-3, atol=1e-5, err_msg=key)


OPTIMIZERS = {
    "sgd": lambda: nn.SGD(lr=0.1),
    "momentum": lambda: nn.SGD(lr=0.1, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda: nn.SGD(lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda: nn.Adam(lr=0.01),
    "amsgrad": lambda: nn.Adam(lr=0.01, amsgrad=True),
    "adamw": lambda: nn.AdamW(lr=0.01, weight_decay=0.1),
    "rmsprop": lambda: nn.RMSProp(lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda: nn.Adagrad(lr=0.05),
    "adadelta": lambda: nn.Adadelta(lr=1.0),
    "adamax": lambda: nn.Adamax(lr=0.01),
    "nadam": lambda: nn.NAdam(lr=0.01),
    "radam": lambda: nn.RAdam(lr=0.01),
    "lion": lambda: nn.Lion(lr=0.003),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str) -> None:
    step = check(lambda: Training(network(), OPTIMIZERS[name](), nn.SoftmaxCrossEntropy()))
    assert "subtract" in step.source  # the update is part of the program


LAYERS: dict[str, Any] = {
    "batch norm": lambda r: (
        nn.Dense(6, 8, rng=r),
        nn.BatchNorm(8),
        nn.ReLU(),
        nn.Dense(8, 3, rng=r),
    ),
    "layer norm": lambda r: (
        nn.Dense(6, 8, rng=r),
        nn.LayerNorm(8),
        nn.Tanh(),
        nn.Dense(8, 3, rng=r),
    ),
    "dropout": lambda r: (nn.Dense(6, 8, rng=r), nn.Dropout(0.3, rng=5), nn.Dense(8, 3, rng=r)),
    "gelu": lambda r: (nn.Dense(6, 8, activation="gelu", rng=r), nn.Dense(8, 3, rng=r)),
    "one layer": lambda r: (nn.Dense(6, 3, rng=r),),
    "wide": lambda r: (nn.Dense(6, 100, activation="relu", rng=r), nn.Dense(100, 3, rng=r)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    check(
        lambda: Training(
            network(*LAYERS[name](np.random.default_rng(1))),
            nn.SGD(lr=0.1, momentum=0.9),
            nn.SoftmaxCrossEntropy(),
        )
    )


def test_dropout_goes_on_where_the_generator_was() -> None:
    eager, ours = twins(
        lambda: Training(
            network(*LAYERS["dropout"](np.random.default_rng(1))),
            nn.SGD(lr=0.1),
            nn.SoftmaxCrossEntropy(),
        )
    )
    step = tg.compile(ours.step)
    for training, run in ((eager, eager.step), (ours, step)):
        training.run(run, LABELS, 7)
    states = [t.model[1].rng.bit_generator.state for t in (eager, ours)]
    assert states[0] == states[1]


def test_few_rows_stay_rows_where_targets_are_rows() -> None:
    def make() -> Training:
        rng = np.random.default_rng(2)
        wide = nn.Dense(6, 4, activation="tanh", rng=rng)
        return Training(network(wide, nn.Dense(4, 2, rng=rng)), nn.SGD(lr=0.1), nn.MSE())

    eager, ours = twins(make)
    step = tg.compile(ours.step)
    for i in range(12):  # 5 rows of 6 columns: each is copied beside a one
        rows = slice(5 * i, 5 * i + 5)
        a, b = eager.step(X[rows], TARGETS[rows]), step(X[rows], TARGETS[rows])
        assert a.item() == pytest.approx(b.item(), rel=2e-5)
    same(eager, ours)
    names = step._latest.rehearsal.__globals__
    assert "    inputs[...] = x\n" in step.source
    assert names["inputs"].strides == (28, 4)
    assert names["linear1"].flags.f_contiguous  # a product reads it
    assert names["linear2"].flags.c_contiguous  # targets are taken from it


def test_squared_error_and_float64() -> None:
    rng = np.random.default_rng(2)

    def make() -> Training:
        rng = np.random.default_rng(2)
        layers = (
            nn.Dense(6, 5, activation="sigmoid", rng=rng, dtype=float),
            nn.Dense(5, 2, rng=rng, dtype=float),
        )
        return Training(nn.Sequential(*layers), nn.Adam(lr=0.01), nn.MSE())

    assert rng is not None
    eager, ours = twins(make)
    step = tg.compile(ours.step)
    x, t = X.astype(float), TARGETS.astype(float)
    for i in range(20):
        rows = slice(10 * i, 10 * i + 10)
        a, b = eager.step(x[rows], t[rows]), step(x[rows], t[rows])
        assert b.dtype == np.float64
        assert a.item() == pytest.approx(b.item(), rel=1e-12)


@pytest.mark.parametrize("clip", ["norm", "value"])
def test_gradient_clipping(clip: str) -> None:
    limit = {"norm": lambda ps: nn.clip_norm(ps, 0.05), "value": lambda ps: nn.clip_value(ps, 0.01)}
    check(lambda: Training(network(), nn.SGD(lr=0.5), nn.SoftmaxCrossEntropy(), limit[clip]))


def test_a_learning_rate_that_changes_needs_no_new_program() -> None:
    eager, ours = twins(
        lambda: Training(network(), nn.SGD(lr=0.5, momentum=0.9), nn.SoftmaxCrossEntropy())
    )
    step = tg.compile(ours.step)
    for i in range(12):
        for training, run in ((eager, eager.step), (ours, step)):
            training.optimizer.lr = 0.5 / (i + 1)
            run(X[:40], LABELS[:40])
    same(eager, ours)
    assert len(step._entries) == 1


def test_another_momentum_that_makes_or_drops_a_state_does() -> None:
    eager, ours = twins(lambda: Training(network(), nn.SGD(lr=0.1), nn.SoftmaxCrossEntropy()))
    step = tg.compile(ours.step)
    for i in range(12):
        for training, run in ((eager, eager.step), (ours, step)):
            if i == 6:
                training.optimizer.momentum = 0.9
            run(X[:40], LABELS[:40])
    same(eager, ours)


@pytest.mark.parametrize("exact", [False, True])
def test_several_backward_passes_before_an_update(exact: bool) -> None:
    def make() -> Training:
        return Training(network(), nn.Adam(lr=0.01), nn.SoftmaxCrossEntropy())

    def accumulated(one: Training) -> Any:
        def step(x: Any, t: Any) -> Any:
            one.optimizer.zero_grad()
            total = 0.0
            for rows in (slice(0, 10), slice(10, 20), slice(20, 25)):
                loss = one.loss(one.model(x[rows]), t[rows]) / 3
                loss.backward()
                total = total + loss.detach()
            one.optimizer.step()
            return total

        return step

    eager, ours = twins(make)
    step = tg.compile(accumulated(ours), exact=exact)
    expected = eager.run(accumulated(eager), LABELS)
    got = ours.run(step, LABELS)
    assert step.reason is None
    np.testing.assert_allclose(got, expected, rtol=0 if exact else 2e-5)
    same(eager, ours)
    for p, q in zip(eager.model.parameters(), ours.model.parameters()):
        np.testing.assert_allclose(q.grad, p.grad, rtol=0 if exact else 1e-4, atol=1e-6)


def test_a_last_batch_with_fewer_rows() -> None:
    eager, ours = twins(lambda: Training(network(), nn.Adam(lr=0.01), nn.SoftmaxCrossEntropy()))
    step = tg.compile(ours.step)
    for _ in range(6):
        for rows in (slice(0, 64), slice(64, 128), slice(128, 150)):
            a, b = eager.step(X[rows], LABELS[rows]), step(X[rows], LABELS[rows])
            assert a.item() == pytest.approx(b.item(), rel=1e-5)
    same(eager, ours)
    assert step.reason is None
    assert len(step._entries) == 2


def test_train_and_eval_are_two_programs() -> None:
    def make() -> Training:
        layers = LAYERS["batch norm"](np.random.default_rng(1))
        return Training(network(*layers), nn.SGD(lr=0.1), nn.SoftmaxCrossEntropy())

    eager, ours = twins(make)
    step, predict = tg.compile(ours.step), tg.compile(lambda x: ours.model(x))
    for _ in range(5):
        for training, run in ((eager, eager.step), (ours, step)):
            training.model.train()
            training.run(run, LABELS, 4)
            training.model.eval()
        a, b = eager.model(X[:30]), predict(X[:30])
        np.testing.assert_allclose(a.data, b.data, rtol=1e-4, atol=1e-5)
    assert predict.reason is None
    same(eager, ours)


def test_loading_weights_is_seen() -> None:
    eager, ours = twins(
        lambda: Training(network(), nn.SGD(lr=0.1, momentum=0.9), nn.SoftmaxCrossEntropy())
    )
    start = eager.model.state_dict()
    step = tg.compile(ours.step)
    for i in range(10):
        for training, run in ((eager, eager.step), (ours, step)):
            if i == 6:
                training.model.load_state_dict(start)
            run(X[:40], LABELS[:40])
    same(eager, ours)


def test_setting_a_hyperparameter_of_a_layer_is_seen() -> None:
    ours = network(*LAYERS["dropout"](np.random.default_rng(1)))
    run = tg.compile(lambda x: ours(x))
    for _ in range(4):
        run(X[:50])
    ours[1].p = 0.0
    for _ in range(4):
        np.testing.assert_allclose(run(X[:50]).data, ours(X[:50]).data, rtol=1e-6)
