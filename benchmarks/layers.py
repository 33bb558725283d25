"""Time of single layers and a small net, forward and backward, beside PyTorch's with the same weights.

Prints for each the CPU time of both (medians over interleaved rounds, one thread, float32), the
median ratio, and how far outputs and gradients lie apart in norm; stops with an error when they do not
agree.
"""

import argparse
import os
import sys
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any, NamedTuple

# A BLAS reads these when NumPy is imported, so that happens in `main`.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Norm of the difference over that of PyTorch's. Sums come in another order, in float32, and where two
# numbers of a window are equal but for that, their gradient goes to the other.
TOLERANCE = 1e-3


class Case(NamedTuple):
    """A layer here and in PyTorch, and what it is given.

    Attributes
    ----------
    ours, theirs : callable
        Make the layer, given `nn` and ``torch.nn``.
    shape : tuple of int
        Of a batch.
    labels : tuple of int, optional
        Shape and number of labels, which a loss is given, too.
    ids : int, optional
        The batch is whole numbers below this.
    random : bool
        Whether zeros are drawn: then only the numbers are compared that both let through.
    """

    ours: Callable[[Any], Any]
    theirs: Callable[[Any], Any]
    shape: tuple[int, ...]
    labels: tuple[tuple[int, ...], int] | None = None
    ids: int | None = None
    random: bool = False


def conv(
    *channels: int, kernel: int, **options: int
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """A convolution, here and there."""
    return (lambda nn: nn.Conv2d(*channels, kernel=kernel, **options),
            lambda nn: nn.Conv2d(*channels, kernel, **options))  # fmt: skip


def recurrent(kind: str, *features: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """A recurrent layer, here and there."""
    return (lambda nn: getattr(nn, kind)(*features),
            lambda nn: getattr(nn, kind)(*features, batch_first=True))  # fmt: skip


LAYERS = {
    "lstm, T 32, 16 to 32": Case(*recurrent("LSTM", 16, 32), (16, 32, 16)),
    "lstm, T 64, 64 to 128": Case(*recurrent("LSTM", 64, 128), (32, 64, 64)),
    "lstm, T 50, 64 to 256": Case(*recurrent("LSTM", 64, 256), (64, 50, 64)),
    "gru, T 64, 64 to 128": Case(*recurrent("GRU", 64, 128), (32, 64, 64)),
    "rnn, T 64, 64 to 128": Case(*recurrent("RNN", 64, 128), (32, 64, 64)),
    "conv 5x5, 1 to 6, 28x28": Case(*conv(1, 6, kernel=5), (64, 1, 28, 28)),
    "conv 3x3, 16 to 32, 32x32": Case(*conv(16, 32, kernel=3), (32, 16, 32, 32)),
    "conv 3x3, 64 to 64, 28x28": Case(*conv(64, 64, kernel=3), (16, 64, 28, 28)),
    "conv 1x1, 64 to 128, 28x28": Case(*conv(64, 128, kernel=1), (16, 64, 28, 28)),
    "conv 3x3, 32 to 64, stride 2": Case(*conv(32, 64, kernel=3, stride=2), (16, 32, 32, 32)),
    "depthwise 3x3, 64, 28x28": Case(*conv(64, 64, kernel=3, groups=64), (16, 64, 28, 28)),
    "grouped 3x3, 64 in 4, 28x28": Case(*conv(64, 64, kernel=3, groups=4), (16, 64, 28, 28)),
    "conv1d 5, 32 to 64, L 128": Case(
        lambda nn: nn.Conv1d(32, 64, kernel=5), lambda nn: nn.Conv1d(32, 64, 5), (32, 32, 128)),
    "transposed 4x4, 64 to 32, 14x14": Case(
        lambda nn: nn.ConvTranspose2d(64, 32, kernel=4, stride=2, padding=1),
        lambda nn: nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), (16, 64, 14, 14)),
    "conv, norm, relu, pool, twice": Case(
        lambda nn: nn.Sequential(
            nn.Conv2d(3, 32, kernel=3, padding=1), nn.BatchNorm(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, kernel=3), nn.BatchNorm(64), nn.ReLU(), nn.MaxPool2d(2)),
        lambda nn: nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        (32, 3, 32, 32)),
    "max pool 2, 64, 28x28": Case(
        lambda nn: nn.MaxPool2d(2), lambda nn: nn.MaxPool2d(2), (16, 64, 28, 28)),
    "max pool 3, stride 2, 32x32": Case(
        lambda nn: nn.MaxPool2d(3, 2, 1), lambda nn: nn.MaxPool2d(3, 2, 1), (16, 64, 32, 32)),
    "mean pool 2, 64, 28x28": Case(
        lambda nn: nn.AvgPool2d(2), lambda nn: nn.AvgPool2d(2), (16, 64, 28, 28)),
    "batch norm, 64, 28x28": Case(
        lambda nn: nn.BatchNorm(64), lambda nn: nn.BatchNorm2d(64), (16, 64, 28, 28)),
    "batch norm, 256 by 512": Case(
        lambda nn: nn.BatchNorm(512), lambda nn: nn.BatchNorm1d(512), (256, 512)),
    "layer norm, T 64, 128": Case(
        lambda nn: nn.LayerNorm(128), lambda nn: nn.LayerNorm(128), (32, 64, 128)),
    "dropout, T 64, 512": Case(
        lambda nn: nn.Dropout(0.5), lambda nn: nn.Dropout(0.5), (32, 64, 512), random=True),
    "embedding, T 64, 5000 by 128": Case(
        lambda nn: nn.Embedding(5000, 128), lambda nn: nn.Embedding(5000, 128), (32, 64), ids=5000),
    "attention, T 64, 128 in 4": Case(
        lambda nn: nn.MultiHeadAttention(128, heads=4),
        lambda nn: nn.MultiheadAttention(128, 4, batch_first=True), (16, 64, 128)),
    "block, T 64, 128 in 4": Case(
        lambda nn: nn.TransformerBlock(128, heads=4),
        lambda nn: nn.TransformerEncoderLayer(
            128, 4, 512, 0.0, "gelu", batch_first=True, norm_first=True), (16, 64, 128)),
    "cross-entropy, 256 of 1000": Case(
        lambda nn: nn.SoftmaxCrossEntropy(), lambda nn: nn.CrossEntropyLoss(),
        (256, 1000), labels=((256,), 1000)),
    "cross-entropy, 1024 of 10": Case(
        lambda nn: nn.SoftmaxCrossEntropy(), lambda nn: nn.CrossEntropyLoss(),
        (1024, 10), labels=((1024,), 10)),
}  # fmt: skip


def pair(name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A step of ours and one of PyTorch's; each gives outputs and the gradient of the input.

    Of an input of whole numbers, which has none, that of the first parameter.
    """
    import numpy as np
    import torch

    import nn
    import tinygrad_np as tg

    case, rng = LAYERS[name], np.random.default_rng(0)
    torch.manual_seed(0)
    ours, twin = case.ours(nn), case.theirs(torch.nn)
    if isinstance(ours, nn.Module):
        nn.load_torch_state_dict(ours, twin.state_dict())
    if case.ids is None:
        x = rng.normal(size=case.shape).astype(np.float32)
    else:
        x = rng.integers(case.ids, size=case.shape)
    mine = tg.Tensor(x, requires_grad=case.ids is None)
    other = torch.tensor(x, requires_grad=case.ids is None)
    labels = [] if case.labels is None else [rng.integers(case.labels[1], size=case.labels[0])]
    others = list(map(torch.from_numpy, labels))
    if isinstance(twin, torch.nn.MultiheadAttention):
        others = [other, other]
    options = {"need_weights": False} if len(others) == 2 else {}
    g = rng.normal(size=ours(mine, *labels).shape).astype(np.float32)
    wanted, theirs = (mine, other) if case.ids is None else (ours.W, twin.weight)

    def our_step() -> Any:
        for tensor in (mine, *getattr(ours, "parameters", list)()):
            tensor.grad = None
        y = ours(mine, *labels)
        y.backward(g)
        return y.data, wanted.grad

    def their_step() -> Any:
        twin.zero_grad()
        other.grad = None
        y = twin(other, *others, **options)
        y = y[0] if isinstance(y, tuple) else y
        y.backward(torch.from_numpy(g))
        return y.detach().numpy(), theirs.grad.numpy()

    return our_step, their_step


def measured(name: str, rounds: int, steps: int) -> str:
    """A line of the table."""
    import numpy as np

    contenders = pair(name)
    apart = 0.0
    for a, b in zip(*[step() for step in contenders], strict=True):
        there = (a != 0) & (b != 0) if LAYERS[name].random else np.True_
        apart = max(apart, float(np.linalg.norm((a - b) * there) / np.linalg.norm(b)))
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
    return f"{name:33}{median(times[0]):10.2f}{median(times[1]):12.2f}{ratio:8.2f}{apart:10.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("layers", nargs="*", help="those whose names contain one of these (all)")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps a round (%(default)s)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    import torch

    torch.set_num_threads(1)
    print(f"{'':33}{'ours, ms':>10}{'PyTorch, ms':>12}{'ratio':>8}{'differ':>10}")
    for name in LAYERS:
        if not arguments.layers or any(part in name for part in arguments.layers):
            print(measured(name, arguments.rounds, arguments.steps), flush=True)


if __name__ == "__main__":
    main()
