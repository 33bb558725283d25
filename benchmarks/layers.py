"""Time of single layers, forward and backward, beside PyTorch's with the same weights.

Prints for each the CPU time of both (medians over interleaved rounds, one thread, float32), the
median ratio, and how far outputs and input gradients lie apart; stops with an error when they do
not agree.
"""

import argparse
import os
import sys
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

# A BLAS reads these when NumPy is imported, so that happens in `main`.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
TOLERANCE = 1e-3  # relative to the largest number; sums in another order, in float32

# Of each layer: its name here and in PyTorch, its arguments in both, and the shape of a batch.
RECURRENT = {"batch_first": True}
LAYERS: dict[str, tuple[str, str, tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "lstm, T 32, 16 to 32": ("LSTM", "LSTM", (16, 32), RECURRENT, (16, 32, 16)),
    "lstm, T 64, 64 to 128": ("LSTM", "LSTM", (64, 128), RECURRENT, (32, 64, 64)),
    "lstm, T 50, 64 to 256": ("LSTM", "LSTM", (64, 256), RECURRENT, (64, 50, 64)),
    "gru, T 64, 64 to 128": ("GRU", "GRU", (64, 128), RECURRENT, (32, 64, 64)),
    "rnn, T 64, 64 to 128": ("RNN", "RNN", (64, 128), RECURRENT, (32, 64, 64)),
    "conv 5x5, 1 to 6, 28x28": ("Conv2d", "Conv2d", (1, 6), {"kernel": 5}, (64, 1, 28, 28)),
    "conv 3x3, 16 to 32, 32x32": ("Conv2d", "Conv2d", (16, 32), {"kernel": 3}, (32, 16, 32, 32)),
    "conv 3x3, 64 to 64, 28x28": ("Conv2d", "Conv2d", (64, 64), {"kernel": 3}, (16, 64, 28, 28)),
    "conv 1x1, 64 to 128, 28x28": ("Conv2d", "Conv2d", (64, 128), {"kernel": 1}, (16, 64, 28, 28)),
    "conv 3x3, 32 to 64, stride 2": (
        "Conv2d", "Conv2d", (32, 64), {"kernel": 3, "stride": 2}, (16, 32, 32, 32)),
    "depthwise 3x3, 64, 28x28": (
        "Conv2d", "Conv2d", (64, 64), {"kernel": 3, "groups": 64}, (16, 64, 28, 28)),
    "grouped 3x3, 64 in 4, 28x28": (
        "Conv2d", "Conv2d", (64, 64), {"kernel": 3, "groups": 4}, (16, 64, 28, 28)),
    "conv1d 5, 32 to 64, L 128": ("Conv1d", "Conv1d", (32, 64), {"kernel": 5}, (32, 32, 128)),
}  # fmt: skip
NAMES = {"W": "weight", "b": "bias", "W_x": "weight_ih_l0", "W_h": "weight_hh_l0",
         "b_x": "bias_ih_l0", "b_h": "bias_hh_l0"}  # fmt: skip


def pair(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A step of ours and one of PyTorch's; each gives outputs and the gradient of the input."""
    import numpy as np
    import torch

    import nn
    import tinygrad_np as tg

    kind, theirs, sizes, options, shape = LAYERS[name]
    ours = getattr(nn, kind)(*sizes, **{k: v for k, v in options.items() if k != "batch_first"})
    renamed = {"kernel_size" if k == "kernel" else k: v for k, v in options.items()}
    twin = getattr(torch.nn, theirs)(*sizes, **renamed)
    parameters = dict(twin.named_parameters())
    for path, p in ours.named_parameters():
        value = p.data.T if p.ndim == 2 else p.data
        parameters[NAMES[path]].data = torch.tensor(np.ascontiguousarray(value))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    mine, other = tg.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    g = np.random.default_rng(1).normal(size=ours(mine).shape).astype(np.float32)

    def our_step() -> Any:
        ours.zero_grad()
        mine.grad = None
        y = ours(mine)
        y.backward(g)
        return y.data, mine.grad

    def their_step() -> Any:
        twin.zero_grad()
        other.grad = None
        y = twin(other)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(torch.from_numpy(g))
        return y.detach().numpy(), other.grad.numpy()

    return our_step, their_step


def measured(name: str, rounds: int, steps: int) -> str:
    """A line of the table."""
    import numpy as np

    contenders = pair(name)
    apart = max(
        float(np.abs(a - b).max() / np.abs(b).max())
        for a, b in zip(*[step() for step in contenders], strict=True)
    )
    if not apart < TOLERANCE:
        sys.exit(f"{name}: differs from PyTorch by {apart:.2g}, allowed is {TOLERANCE}")
    times: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for step, found in zip(contenders, times, strict=True):
            start = process_time()
            for _ in range(steps):
                step()
            found.append(1e3 * (process_time() - start) / steps)
    ratio = median(a / b for a, b in zip(*times, strict=True))
    return f"{name:29}{median(times[0]):10.2f}{median(times[1]):12.2f}{ratio:8.2f}{apart:10.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("layers", nargs="*", help="those whose names contain one of these (all)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps a round (%(default)s)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    import torch

    torch.set_num_threads(1)
    print(f"{'':29}{'ours, ms':>10}{'PyTorch, ms':>12}{'ratio':>8}{'differ':>10}")
    for name in LAYERS:
        if not arguments.layers or any(part in name for part in arguments.layers):
            print(measured(name, arguments.rounds, arguments.steps), flush=True)


if __name__ == "__main__":
    main()
