"""Runs the contenders on one workload in turn, checks that they agree, and reports the ratios."""

import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any, Literal

import numpy as np

from benchmarks.contenders import Contender, SkippedError, build
from benchmarks.workloads import Floats, Workload

REFERENCE = "numpy"
BASELINES = ("pytorch", REFERENCE, "jax-jit")  # whose times a table's ratios are to

# Steps at the start during which a contender may still record, compile or set up its state.
FIRST_STEPS = 3

# Sums in another order, in float32, moved losses and weights (as a part of their whole change) by
# up to 4e-4 in a full run, most on W5, where Adam makes a whole step of a first tiny gradient.
TOLERANCE = 2e-3


Kind = Literal["cpu", "wall"]


class DisagreementError(Exception):
    """A contender did not compute what the reference computed."""


@dataclass
class Result:
    """Seconds per step, a number a round; those of the first steps; and where training ended."""

    loss: float = np.nan
    difference: float = 0.0  # the largest seen: of a loss or of the weights' change
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    first_steps: int = 0
    first_wall: float = np.nan  # seconds, all of the first steps together

    @property
    def preparation(self) -> float:
        """Seconds (wall) that the first steps took more than later ones: to record and compile."""
        return max(self.first_wall - self.first_steps * median(self.wall), 0.0)


def distance(ours: Floats, theirs: Floats, start: Floats) -> float:
    """``|ours - theirs| / |theirs - start|``: how differently the weights have moved."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - start))


def check(name: str, what: str, difference: float) -> float:
    if not difference <= TOLERANCE:  # also when it is nan
        raise DisagreementError(
            f"{name}: {what} differs from that of {REFERENCE} by {difference:.2g} (relative), "
            f"allowed is {TOLERANCE}"
        )
    return difference


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Hides the objects there are now from the garbage collector."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def train(
    contender: Contender, batches: list[tuple[Any, Any]], settle: float
) -> tuple[float, float, float]:
    """A step on each of `batches`: the last loss, and the seconds (CPU, wall) that they took."""
    gathered = contender.gather(batches)
    gc.collect()
    sleep(settle)
    cpu, wall = process_time(), perf_counter()
    loss = contender.round(gathered)
    cpu, wall = process_time() - cpu, perf_counter() - wall
    return float(loss), cpu, wall


def run(
    workload: Workload, names: list[str], rounds: int, steps: int, settle: float = 0.0
) -> dict[str, Result]:
    """Train every contender for one round untimed and `rounds` rounds timed, in turn.

    In each round every contender takes the same `steps` steps on the same batches; its loss is then
    compared with the reference's, and its weights after the last round. The first steps of the
    untimed round are timed apart, since some contenders compile in them. Garbage collection
    stays on, as in real use, but nobody pays for another's garbage nor for the objects that
    importing the others' packages left (with PyTorch's, MyGrad's chain took 1.5 times as long).
    A round starts `settle` seconds after the last one, for worker threads that spin before they
    sleep and would take a core from the next contender.

    Raises
    ------
    DisagreementError
        When a loss or a weight is not the reference's within `TOLERANCE`.
    """
    contenders = {}
    for name in [REFERENCE, *(n for n in names if n != REFERENCE)]:
        try:
            contenders[name] = build(name, workload)
        except SkippedError as skipped:
            print(skipped)
    feeds = {
        name: cycle([contender.batch(x, t) for x, t in workload.batches])
        for name, contender in contenders.items()
    }
    results = {name: Result() for name in contenders}

    with frozen_garbage():
        for round_ in range(rounds + 1):
            for name, contender in contenders.items():
                result, batches = results[name], list(islice(feeds[name], steps))
                if round_ == 0:
                    first = steps if contender.whole_rounds else min(FIRST_STEPS, steps)
                    result.first_steps = first
                    result.loss, _, result.first_wall = train(contender, batches[:first], settle)
                    batches = batches[first:]
                if batches:
                    result.loss, cpu, wall = train(contender, batches, settle)
                if round_ > 0:
                    result.cpu.append(cpu / steps)
                    result.wall.append(wall / steps)
                expected = results[REFERENCE].loss
                gap = check(name, f"the loss after round {round_}", abs(result.loss / expected - 1))
                result.difference = max(result.difference, gap)

    truth = contenders[REFERENCE].parameters()
    for name, contender in contenders.items():
        for i, (ours, theirs, start) in enumerate(
            zip(contender.parameters(), truth, workload.initial, strict=True)
        ):
            gap = check(name, f"the change of weight {i}", distance(ours, theirs, start))
            results[name].difference = max(results[name].difference, gap)
    return results


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the rounds of one contender's time to another's in the same round."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def table(results: dict[str, Result], kind: Kind = "cpu") -> str:
    """A line a contender: times of a step, ratios of one kind of time, preparation, agreement."""
    baselines = [name for name in BASELINES if name in results]
    ratios = "".join(f"{'/' + name:>9}" for name in baselines)
    loss = f"loss {results[REFERENCE].loss:.6f}"
    lines = [f"{loss:17}{'cpu us':>9}{'wall us':>9}{ratios}{'first ms':>10}{'differs':>8}"]
    for name, result in results.items():
        line = f"{name:17}{1e6 * median(result.cpu):9.1f}{1e6 * median(result.wall):9.1f}"
        for base in baselines:
            line += f"{ratio(getattr(result, kind), getattr(results[base], kind)):9.2f}"
        lines.append(f"{line}{1e3 * result.preparation:10.1f}{result.difference:8.0e}")
    return "\n".join(lines)


def summary(runs: dict[str, dict[str, Result]], name: str, kind: Kind) -> str:
    """One contender's ratios to the baselines, a column a workload; a dash where one is absent."""
    lines = [f"{name + ', ' + kind + ' time /':28}" + "".join(f"{w:>6}" for w in runs)]
    for base in BASELINES:
        line = f"{base:28}"
        for results in runs.values():
            both = name in results and base in results
            times = (getattr(results[n], kind) for n in (name, base) if both)
            line += f"{ratio(*times):6.2f}" if both else f"{'-':>6}"
        lines.append(line)
    return "\n".join(lines)


def machine() -> str:
    """Processor, Python, NumPy, BLAS and threads, on one line."""
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith("model name")
    ]
    config: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]  # by its mode
    blas = config["Build Dependencies"]["blas"]
    return (
        f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}; NumPy {np.__version__} with {blas['name']} "
        f"{blas['version']}; {os.environ.get('OMP_NUM_THREADS', 'default')} thread(s)"
    )
