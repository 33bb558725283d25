"""Times a data-parallel training step on several MPI ranks, and its parts.

Each rank has the same number of rows, so that n ranks share out a batch of n times as many. Prints the
medians, in milliseconds a step, of

- one rank: a rank that has that whole batch to itself,
- ranks: all ranks together, with `nn.parallel.shares`, gradients added up after the backward pass,
- pieces: the same, but in pieces while the backward pass still runs,
- compute: all ranks at the same time, each with its own rows and nothing in common,
- reduce: the all-reduce of as many numbers as there are parameters, alone,
- gain: one rank / ranks.

Stops with an error when the weights are not those of the one rank. Where there are fewer cores than
ranks, these take turns, and 'compute' shows it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise, repeat
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

# A BLAS reads these when NumPy is imported, so that happens in the jobs.
THREADS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Open MPI: start as root, as in a container, and more ranks than cores. Others do not read them.
ALLOWED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_mpi_yield_when_idle": "1",  # ranks that wait leave the core to others
}
WORKLOADS = {"784-64-10": 128, "784-256-256-256-10": 128, "784-1024-1024-10": 256}


def mpiexec() -> str | None:
    """The launcher beside this Python, where pip installs it, or else in the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def job(ranks: int, *arguments: str) -> list[str]:
    """The command that runs this Python on so many ranks; its environment needs `ALLOWED`."""
    launcher = mpiexec()
    if launcher is None:
        sys.exit('no mpiexec: pip install "tinygrad-np[mpi]"')
    return [launcher, "-n", str(ranks), sys.executable, *arguments]


# --------------------------------------------------------------------------------------------------
# In a job
# --------------------------------------------------------------------------------------------------


def network(widths: list[int]) -> tuple[Any, Any]:
    """A model with its initial weights, and its optimizer."""
    import nn

    nn.seed(0)
    hidden = [nn.Dense(m, n, activation="relu") for m, n in pairwise(widths[:-1])]
    model = nn.Sequential(*hidden, nn.Dense(*widths[-2:]))
    return model, nn.SGD(model.parameters(), lr=0.05, momentum=0.9)


def train(widths: list[int], batches: Iterator[Any], shared: bool) -> tuple[list[float], Any]:
    """Seconds of each step, and the weights afterwards in one array."""
    import numpy as np

    import nn

    model, optimizer = network(widths)
    loss = nn.SoftmaxCrossEntropy()
    seconds, start = [], perf_counter()
    for x, y in nn.parallel.shares(model, batches) if shared else batches:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        now = perf_counter()
        seconds.append(now - start)
        start = now
    return seconds, np.concatenate([p.data.ravel() for p in model.parameters()])


def reductions(size: int, steps: int) -> list[float]:
    """Seconds of each all-reduce of so many numbers."""
    import numpy as np

    import nn

    comm = nn.parallel.job()
    numbers, seconds = np.ones(size, np.float32), []
    for _ in range(steps):
        comm.Barrier()
        start = perf_counter()
        comm.Allreduce(nn.parallel.mpi().IN_PLACE, numbers)
        seconds.append(perf_counter() - start)
        numbers[:] = 1
    return seconds


def measure(widths: list[int], rows: int, fold: int, steps: int, out: Path) -> None:
    """In each rank: the contenders in turn, in short rounds; rank 0 writes what it has seen."""
    import numpy as np

    import nn

    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows * fold, widths[0])).astype(np.float32)
    y = rng.integers(widths[-1], size=rows * fold)
    mine = slice(rows * nn.parallel.rank(), rows * (nn.parallel.rank() + 1))
    seconds: dict[str, list[float]] = {}
    weights = {}

    def run(name: str, x: Any, y: Any, shared: bool) -> None:
        nn.parallel.total(0)  # so that all begin together
        found, weights[name] = train(widths, repeat((x, y), steps), shared)
        seconds.setdefault(name, []).append(mean(found[1:]))

    for _ in range(5):
        if nn.parallel.size() == 1:
            run("one rank", x, y, False)
            continue
        for name, start in ("ranks", 2**62), ("pieces", 0):
            nn.parallel.OVERLAP_FROM = start
            run(name, x, y, True)
        run("compute", x[mine], y[mine], False)
        size = len(weights["ranks"])
        seconds.setdefault("reduce", []).append(mean(reductions(size, steps)[1:]))
    if nn.parallel.rank() == 0:
        np.savez(
            out, allow_pickle=False, seconds=json.dumps({k: median(v) for k, v in seconds.items()}),
            start=np.concatenate([p.data.ravel() for p in network(widths)[0].parameters()]),
            **{name: w for name, w in weights.items() if name != "compute"},
        )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Outside
# --------------------------------------------------------------------------------------------------


def launched(ranks: int, name: str, fold: int, steps: int) -> dict[str, Any]:
    """What a job of so many ranks measured."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.npz")
        options = ["--job", name, str(fold), str(steps), str(out)]
        command = job(ranks, "-m", "benchmarks.parallel", *options)
        subprocess.run(command, check=True, env=os.environ | THREADS | ALLOWED)
        with np.load(out) as arrays:
            return dict(arrays)


def report(name: str, fold: int, steps: int, repeats: int) -> str:
    """A line of the table: one rank and several, in turn."""
    from benchmarks.harness import TOLERANCE, distance

    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        one, several = (launched(ranks, name, fold, steps) for ranks in (1, fold))
        for found in one, several:
            for part, value in json.loads(str(found["seconds"])).items():
                seconds.setdefault(part, []).append(1e3 * value)
        for part in "ranks", "pieces":
            gap = distance(several[part], one["one rank"], one["start"])
            if not gap <= TOLERANCE:
                sys.exit(f"{name}: the weights of {part} on {fold} ranks differ by {gap:.1e}")
    t = {part: median(values) for part, values in seconds.items()}
    cells = [t[part] for part in ("one rank", "ranks", "pieces", "compute", "reduce")]
    return f"{fold:5}" + "".join(f"{c:11.3f}" for c in cells) + f"{t['one rank'] / t['ranks']:8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parallel", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], help="how many (2 4)")
    parser.add_argument("--steps", type=int, default=40, help="a round (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="jobs of each (%(default)s)")
    parser.add_argument(
        "--networks", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="which (all)"
    )
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        name, fold, steps, out = arguments.job
        widths = [int(n) for n in name.split("-")]
        measure(widths, WORKLOADS[name], int(fold), int(steps), Path(out))
        return

    from benchmarks.harness import machine

    os.environ.update(THREADS)
    print(machine())
    for name in arguments.networks:
        widths = [int(n) for n in name.split("-")]
        numbers = sum(m * n + n for m, n in pairwise(widths))
        print(f"\n{name}, {WORKLOADS[name]} rows a rank, {numbers:,} numbers; ms a step")
        print("ranks   one rank      ranks     pieces    compute     reduce    gain")
        for fold in arguments.ranks:
            print(report(name, fold, arguments.steps, arguments.repeats), flush=True)


if __name__ == "__main__":
    main()
