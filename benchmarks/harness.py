"""Runs the contenders on one workload in turn, checks that they agree, and reports the ratios."""

import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

from benchmarks.contenders import SkippedError, build
from benchmarks.workloads import Floats, Workload

REFERENCE = "numpy"
BASELINES = (REFERENCE, "pytorch")

# Sums in another order, in float32, moved losses and weights (as a part of their whole change) by
# up to 4e-4 in a full run, most on W5, where Adam makes a whole step of a first tiny gradient.
TOLERANCE = 2e-3


class DisagreementError(Exception):
    """A contender did not compute what the reference computed."""


@dataclass
class Result:
    """Seconds per step, a number a round, and where training ended."""

    loss: float = np.nan
    difference: float = 0.0  # the largest seen: of a loss or of the weights' change
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


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


def run(
    workload: Workload, names: list[str], rounds: int, steps: int, settle: float = 0.0
) -> dict[str, Result]:
    """Train every contender for one round untimed and `rounds` rounds timed, in turn.

    In each round every contender takes the same `steps` steps on the same batches; its loss is then
    compared with the reference's, and its weights after the last round. Garbage collection
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
    batches = {
        name: cycle([contender.batch(x, t) for x, t in workload.batches])
        for name, contender in contenders.items()
    }
    results = {name: Result() for name in contenders}

    with frozen_garbage():
        for round_ in range(rounds + 1):
            for name, contender in contenders.items():
                result, feed, step = results[name], batches[name], contender.step
                gc.collect()
                sleep(settle)
                cpu, wall = process_time(), perf_counter()
                for _ in range(steps):
                    loss = step(*next(feed))
                cpu, wall = process_time() - cpu, perf_counter() - wall
                if round_ > 0:
                    result.cpu.append(cpu / steps)
                    result.wall.append(wall / steps)
                result.loss = float(loss)
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


def table(results: dict[str, Result]) -> str:
    """A line a contender: microseconds a step, ratios to the baselines, and agreement."""
    baselines = [name for name in BASELINES if name in results]
    ratios = "".join(f"{'/' + name:>9}" for name in baselines)
    lines = [f"{'':12}{'cpu us':>10}{ratios}{'wall us':>12}{ratios}{'loss':>12}{'differs':>9}"]
    for name, result in results.items():
        line = f"{name:12}"
        for kind, width in ("cpu", 10), ("wall", 12):
            times = getattr(result, kind)
            line += f"{1e6 * median(times):{width}.1f}"
            for base in baselines:
                line += f"{ratio(times, getattr(results[base], kind)):9.2f}"
        lines.append(f"{line}{result.loss:12.6f}{result.difference:9.0e}")
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
