"""What the matrix products of a network's training step take alone: no step can be faster."""

from statistics import median
from time import perf_counter, process_time

import numpy as np

from benchmarks.workloads import Network


def seconds(workload: Network, kind: str, rounds: int, steps: int) -> float:
    """Median over the rounds of the products of one step, into memory that is there already.

    ``x @ W`` of each layer, ``x.T @ g``, and ``g @ W.T`` where there is a layer below.
    """
    clock = process_time if kind == "cpu" else perf_counter
    rng = np.random.default_rng(0)
    rows = len(workload.batches[0][0])
    calls = []
    for layer, W in enumerate(workload.initial[::2]):
        x, g = (rng.normal(size=(rows, n)).astype(W.dtype) for n in W.shape)
        calls += [(x, W, np.empty_like(g)), (x.T, g, np.empty_like(W))]
        if layer:
            calls.append((g, W.T, np.empty_like(x)))
    times = []
    for _ in range(rounds):
        start = clock()
        for _ in range(steps):
            for a, b, out in calls:
                np.dot(a, b, out=out)
        times.append((clock() - start) / steps)
    return median(times)
