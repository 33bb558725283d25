"""The contenders of the benchmarks train alike, and the harness notices one that does not."""

import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.contenders import CONTENDERS, NotInstalledError, build, numpy_plain
from benchmarks.workloads import SGD, WORKLOADS, Chain, Network

PEERS = ["pytorch", "mygrad", "autograd"]
ABSENT = {("numpy-tuned", "W7"), ("numpy-tuned", "W8"), ("autograd", "W7")}
ROOT = Path(__file__).parents[1]


def tiny(name):
    workload = WORKLOADS[name]()
    return replace(workload, cycles=40) if isinstance(workload, Chain) else workload


@pytest.mark.parametrize(
    ("contender", "workload"),
    [pair for pair in product(CONTENDERS, WORKLOADS) if pair[0] != "numpy" and pair not in ABSENT],
)
def test_contenders_train_alike(workload, contender):
    if contender in PEERS:
        pytest.importorskip(CONTENDERS[contender][1])
    results = harness.run(tiny(workload), [contender], rounds=1, steps=2)
    assert list(results) == ["numpy", contender]
    assert results[contender].difference < 1e-4  # a few steps: rounding has not grown yet
    assert contender in harness.table(results)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_there_is_something_to_learn(workload):
    workload = tiny(workload)
    contender = build("numpy", workload)
    (x, t), *_ = workload.batches
    first = contender.step(x, t)
    for _ in range(10):
        last = contender.step(x, t)
    assert last < 0.99 * first


class WrongRate(numpy_plain.Network):
    def __init__(self, workload):
        super().__init__(replace(workload, optimizer=SGD(lr=1.1 * workload.optimizer.lr)))


class WrongLoss(numpy_plain.Network):
    def step(self, x, t):
        return super().step(x, t) * np.float32(1.01)


class NoBias(numpy_plain.Network):
    """Leaves out the last update of the last bias, which no loss has shown yet."""

    def parameters(self):
        return [*self.weights[:-1], self.before]

    def step(self, x, t):
        self.before = self.weights[-1].copy()
        return super().step(x, t)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [(WrongRate, "the change of weight 0"), (WrongLoss, "the loss after round 0"),
     (NoBias, "the change of weight 3")],
)  # fmt: skip
def test_a_wrong_contender_is_caught(monkeypatch, wrong, what):
    workload = tiny("W4")
    assert isinstance(workload, Network)
    made = {"numpy": numpy_plain.Network, "wrong": wrong}
    monkeypatch.setattr(harness, "build", lambda name, workload: made[name](workload))
    with pytest.raises(harness.DisagreementError, match=rf"wrong: {what} differs .* allowed is"):
        harness.run(workload, ["wrong"], rounds=1, steps=1)


def test_a_loss_that_is_nan_is_caught():
    with pytest.raises(harness.DisagreementError, match="by nan"):
        harness.check("numpy-tuned", "the loss", float("nan"))


@pytest.mark.parametrize(("contender", "workload"), sorted(ABSENT))
def test_who_cannot_take_part_is_named_and_skipped(contender, workload, capsys):
    if contender in PEERS:
        pytest.importorskip(CONTENDERS[contender][1])
    assert list(harness.run(tiny(workload), [contender], rounds=0, steps=1)) == ["numpy"]
    assert capsys.readouterr().out.startswith(f"{contender}: skipped, it has no ")


def test_a_missing_package_is_named_and_skipped(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mygrad", None)
    monkeypatch.delitem(sys.modules, "benchmarks.contenders.mygrad_eager", raising=False)
    with pytest.raises(NotInstalledError, match="mygrad: skipped, mygrad is not installed"):
        build("mygrad", tiny("W4"))
    results = harness.run(tiny("W4"), ["mygrad", "numpy-tuned"], rounds=1, steps=1)
    assert list(results) == ["numpy", "numpy-tuned"]
    assert capsys.readouterr().out == "mygrad: skipped, mygrad is not installed\n"


def command(*arguments):
    line = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_prints_machine_and_table():
    done = command("W4", "--steps", "2", "--rounds", "1", "--contenders", "numpy-tuned")
    assert done.returncode == 0, done.stderr
    machine, _, title, head, *rows = done.stdout.splitlines()
    assert f"NumPy {np.__version__}" in machine
    assert machine.endswith("1 thread(s)")
    assert title.startswith("W4  64-15-10 ReLU")
    assert head.split()[:3] == ["cpu", "us", "/numpy"]
    assert [row.split()[0] for row in rows] == ["numpy", "numpy-tuned"]


def test_the_command_names_what_it_does_not_know():
    done = command("W4", "W99")
    assert done.returncode == 2
    assert "unknown: W99; choose from W1, W2" in done.stderr
