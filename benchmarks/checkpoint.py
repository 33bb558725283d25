"""Memory and time of a deep stack with and without `tinygrad_np.checkpoint`.

The stack is 32 residual blocks ``h + tanh(h @ W + b)`` on 1024 rows of 128 numbers in float64, so that
what is kept for the backward pass outweighs the parameters. Prints the peak of the memory that a step
allocates and its CPU time (the median over interleaved rounds), without checkpoints, of a forward pass
alone, and with a checkpoint around every k blocks; stops with an error when the gradients differ.
"""

import argparse
import gc
import os
import sys
import tracemalloc
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

# A BLAS reads these when NumPy is imported, so that happens in `main`.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def stack(layers: int, rows: int, width: int) -> tuple[list[Any], Callable[[int], Any]]:
    """The parameters of a deep stack, and its loss with a checkpoint around every k blocks (0: none)."""
    import numpy as np

    import tinygrad_np as tg

    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, width))
    blocks = [
        (
            tg.Tensor(rng.normal(size=(width, width)) / width, requires_grad=True),
            tg.Tensor(np.zeros(width), requires_grad=True),
        )
        for _ in range(layers)
    ]

    def piece(h: Any, first: int, last: int) -> Any:
        for W, b in blocks[first:last]:
            h = h + np.tanh(h @ W + b)
        return h

    def loss(k: int) -> Any:
        h = x
        for first in range(0, layers, k or layers):
            run = tg.checkpoint(piece) if k else piece
            h = run(h, first, min(first + (k or layers), layers))
        return (h * h).mean()

    return [parameter for block in blocks for parameter in block], loss


def step(parameters: list[Any], loss: Callable[[int], Any], k: int) -> list[Any]:
    """One forward and backward pass; the gradients."""
    for parameter in parameters:
        parameter.grad = None
    loss(k).backward()
    return [parameter.grad for parameter in parameters]


def seconds(run: Callable[[], Any]) -> float:
    """CPU time of one call."""
    gc.collect()
    start = process_time()
    run()
    return process_time() - start


def peak(run: Callable[[], Any]) -> int:
    """The largest number of bytes that one call holds at a time, NumPy's arrays included."""
    gc.collect()
    tracemalloc.start()
    run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description=__doc__)
    parser.add_argument(
        "every", nargs="*", type=int, default=[2, 4, 8], help="blocks a checkpoint (2 4 8)"
    )
    parser.add_argument("--layers", type=int, default=32, help="blocks (%(default)s)")
    parser.add_argument("--rows", type=int, default=1024, help="rows of the batch (%(default)s)")
    parser.add_argument("--width", type=int, default=128, help="numbers a row (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (%(default)s)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))

    import numpy as np

    parameters, loss = stack(arguments.layers, arguments.rows, arguments.width)
    expected = step(parameters, loss, 0)
    runs: dict[str, Callable[[], Any]] = {
        "forward alone": lambda: loss(0),
        "without": lambda: step(parameters, loss, 0),
    }
    for k in arguments.every:
        for ours, theirs in zip(step(parameters, loss, k), expected, strict=True):
            if not np.allclose(ours, theirs, rtol=1e-12, atol=1e-15):
                sys.exit(f"every {k}: the gradients are not those without checkpoints")
        runs[f"every {k}"] = lambda k=k: step(parameters, loss, k)

    peaks = {name: peak(run) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))

    forward, base = times["forward alone"], times["without"]
    print(
        f"{'checkpoints':14}{'peak MB':>9}{'/without':>10}{'cpu ms':>9}{'/without':>10}{'more forwards':>15}"
    )
    for name in runs:
        ratio = median(a / b for a, b in zip(times[name], base))
        extra = median((a - b) / c for a, b, c in zip(times[name], base, forward))
        print(
            f"{name:14}{peaks[name] / 1e6:9.1f}{peaks[name] / peaks['without']:10.2f}"
            f"{1e3 * median(times[name]):9.1f}{ratio:10.2f}{extra:15.2f}"
        )


if __name__ == "__main__":
    main()
