"""The contenders of the benchmarks train alike, and the harness notices one that does not."""

import re
import subprocess
import sys
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.contenders import CONTENDERS, Contender, NotInstalledError, build, numpy_plain
from benchmarks.workloads import SGD, WORKLOADS, Chain, Network

PEERS = {"pytorch", "torch-compile", "jax-jit", "jax-scan", "mygrad", "autograd", "sklearn"}
ABSENT = {
    ("autograd", "W7"), ("torch-compile", "W6"),
    *(("sklearn", workload) for workload in WORKLOADS if workload != "W1"),
}  # fmt: skip
# PyTorch's compiler takes ten to thirty seconds each; a run of the benchmarks compares them all.
SLOW = {("torch-compile", workload) for workload in WORKLOADS if workload != "W4"}
ROOT = Path(__file__).parents[1]


def tiny(name):
    workload = WORKLOADS[name]()
    return replace(workload, cycles=40) if isinstance(workload, Chain) else workload


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is:DeprecationWarning")  # its own use
@pytest.mark.parametrize(
    ("contender", "workload"),
    [
        pair
        for pair in product(CONTENDERS, WORKLOADS)
        if pair[0] != "numpy" and pair not in ABSENT | SLOW
    ],
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


class Noted(Contender):
    """Notes which batches each of its rounds is given."""

    def __init__(self, whole_rounds):
        self.whole_rounds, self.rounds = whole_rounds, []

    def step(self, x, t):
        return self.rounds[-1].append((x, t)) or 1.0

    def gather(self, batches):
        self.rounds.append([])
        return batches

    def parameters(self):
        return [np.ones(1, np.float32)]


@pytest.mark.parametrize(("whole_rounds", "lengths"), [(False, [3, 2, 5, 5]), (True, [5, 5, 5])])
def test_rounds_are_the_same_batches_for_all_and_the_first_steps_are_apart(
    monkeypatch, whole_rounds, lengths
):
    noted = Noted(whole_rounds)
    monkeypatch.setattr(harness, "build", lambda name, workload: noted)
    workload = replace(
        tiny("W4"), initial=[np.zeros(1, np.float32)], batches=[(k, -k) for k in range(4)]
    )
    results = harness.run(workload, ["numpy"], rounds=2, steps=5)
    assert [len(round_) for round_ in noted.rounds] == lengths
    assert list(chain(*noted.rounds)) == [(k % 4, -(k % 4)) for k in range(15)]
    assert len(results["numpy"].wall) == len(results["numpy"].cpu) == 2
    assert results["numpy"].first_steps == lengths[0]


def test_preparation_is_what_the_first_steps_took_more():
    assert harness.Result(wall=[1.0, 2.0, 7.0], first_steps=3, first_wall=10.0).preparation == 4.0
    assert harness.Result(wall=[1.0], first_steps=3, first_wall=2.5).preparation == 0.0


def test_the_summary_is_of_one_contender_and_one_kind_of_time():
    def result(cpu, wall):
        return harness.Result(cpu=[cpu], wall=[wall])

    runs = {
        "W1": {"numpy": result(2.0, 1.0), "pytorch": result(4.0, 1.0), "mine": result(1.0, 3.0)},
        "W2": {"numpy": result(2.0, 1.0)},
    }
    assert [line.split() for line in harness.summary(runs, "mine", "cpu").splitlines()] == [
        ["mine,", "cpu", "time", "/", "W1", "W2"],
        ["pytorch", "0.25", "-"],
        ["numpy", "0.50", "-"],
        ["jax-jit", "-", "-"],
    ]
    assert harness.summary(runs, "mine", "wall").splitlines()[2].split() == ["numpy", "3.00", "-"]


@pytest.mark.parametrize(("contender", "workload"), sorted(ABSENT))
def test_who_cannot_take_part_is_named_and_skipped(contender, workload, capsys):
    if contender in PEERS:
        pytest.importorskip(CONTENDERS[contender][1])
    assert list(harness.run(tiny(workload), [contender], rounds=0, steps=1)) == ["numpy"]
    assert capsys.readouterr().out.startswith(f"{contender}: skipped, it ")


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
    machine, _, title, head, *rows, products = done.stdout.splitlines()
    assert f"NumPy {np.__version__}" in machine
    assert machine.endswith("1 thread(s)")
    assert title.startswith("W4  64-15-10 ReLU")
    assert head.split()[0] == "loss"
    assert head.split()[2:] == ["cpu", "us", "wall", "us", "/numpy", "first", "ms", "differs"]
    assert [row.split()[0] for row in rows] == ["numpy", "numpy-tuned"]
    assert re.match(r"its matrix products alone: \S+ us; of that, numpy \S+, numpy-tuned", products)


def test_the_command_leaves_threads_to_the_libraries_and_sums_up(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = command("W4", "--steps", "2", "--rounds", "1", "--contenders", "numpy", "numpy-tuned",
                   "--threads", "default", "--summary", "numpy-tuned")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "; default thread(s)" in done.stdout
    head, *rows = done.stdout.split("\n\n")[-1].splitlines()
    assert head.split() == ["numpy-tuned,", "wall", "time", "/", "W4"]
    assert [row.split()[0] for row in rows] == ["pytorch", "numpy", "jax-jit"]


@pytest.mark.parametrize("threads", ["0", "two"])
def test_the_command_refuses_a_wrong_number_of_threads(threads):
    done = command("W4", "--threads", threads)
    assert done.returncode == 2
    assert "argument --threads: invalid" in done.stderr


def test_the_command_sums_up_only_who_takes_part():
    done = command("W4", "--contenders", "numpy-tuned", "--summary", "pytorch")
    assert done.returncode == 2
    assert "unknown: pytorch; choose from numpy-tuned" in done.stderr


def test_the_command_names_what_it_does_not_know():
    done = command("W4", "W99")
    assert done.returncode == 2
    assert "unknown: W99; choose from W1, W2" in done.stderr
