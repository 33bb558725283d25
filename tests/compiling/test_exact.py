"""``exact=True``: every number to the bit, and what `nn.fit` does with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.errors import NonFiniteError

from ..engine.test_matrix import ALL
from .test_matrix import Sample, cases, values
from .test_steps import LABELS, OPTIMIZERS, Training, X, network


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALL)
def test_every_operation_to_the_bit(name: str) -> None:
    for k, case in enumerate(cases(name, 0)):
        sample = Sample(name, case)
        if not sample.arrays(case):
            continue
        step = tg.compile(sample, exact=True, warn=False)
        for seed in range(5):
            arrays = sample.arrays(cases(name, seed)[k])
            for a, b in zip(values(step(*arrays)), values(sample(*arrays)), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_to_the_bit(name: str) -> None:
    eager, ours = (
        Training(network(), OPTIMIZERS[name](), nn.SoftmaxCrossEntropy()) for _ in range(2)
    )
    step = tg.compile(ours.step, exact=True)
    assert ours.run(step, LABELS) == eager.run(eager.step, LABELS)
    for a, b in zip(ours.model.parameters(), eager.model.parameters()):
        np.testing.assert_array_equal(a.data, b.data)
    assert step.reason is None


def fitted(**options: Any) -> tuple[nn.Sequential, nn.History]:
    model = network()
    history = nn.fit(
        model, (X, LABELS), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=0.1, momentum=0.9),
        epochs=8, batch_size=16, seed=0, verbose=False, **options,
    )  # fmt: skip
    return model, history


def test_fit_compiles_and_learns_the_same(tmp_path: Any) -> None:
    plain, expected = fitted(compile=False, metrics=["accuracy"])
    model, history = fitted(metrics=["accuracy"])
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-4)
    assert history["accuracy"] == expected["accuracy"]
    for a, b in zip(model.parameters(), plain.parameters()):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-3, atol=1e-5)

    # With a checkpoint, from which a run must go on to the same bits, nothing is rounded otherwise.
    model, history = fitted(callbacks=[nn.Checkpoint(tmp_path / "run.npz")], metrics=["accuracy"])
    assert history["loss"] == expected["loss"]
    for a, b in zip(model.parameters(), plain.parameters()):
        np.testing.assert_array_equal(a.data, b.data)


def test_fit_runs_compiled_code() -> None:
    called = []

    class Counting(nn.Dense):
        def forward(self, x: Any) -> Any:
            called.append(self.training)
            return super().forward(x)

    model = nn.Sequential(Counting(6, 3, rng=0))
    nn.fit(
        model, (X[:192], LABELS[:192]), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=0.1),
        epochs=20, batch_size=16, seed=0, verbose=False,
    )  # fmt: skip
    assert called.count(True) < 51 + 10  # of 240 steps


def test_fit_says_why_it_does_not_compile_when_asked_to() -> None:
    seen = []

    class Looking(nn.Dense):
        def forward(self, x: Any) -> Any:
            y = super().forward(x)
            seen.append(float(y.data.max()))
            return y

    def run(compile: bool | None) -> None:
        model = nn.Sequential(Looking(6, 3, rng=0))
        nn.fit(
            model, (X, LABELS), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=0.1), epochs=20,
            batch_size=40, verbose=False, compile=compile,
        )  # fmt: skip

    with pytest.warns(UserWarning, match=r"Python took|the step changes"):
        run(True)
    run(None)  # silently
    assert len(seen) == 2 * (100 + 1)


def test_a_loss_that_is_not_finite_stops_a_compiled_run_before_the_update() -> None:
    x = X.copy()
    model = nn.Sequential(nn.Dense(6, 3, rng=0))

    class Poison(nn.Callback):
        def on_step_end(self, run: Any) -> None:
            if run.epoch == 8 and run.step == 2:
                model[0].b.data[...] = np.inf

    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"epoch 8, step 3"):
        nn.fit(
            model, (x, LABELS), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.SGD(lr=0.1), epochs=9,
            batch_size=20, shuffle=False, verbose=False, callbacks=[Poison()],
        )  # fmt: skip
    assert all(np.isfinite(p.data).all() for p in model.parameters())
