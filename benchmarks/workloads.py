"""The workloads: initial weights, batches and settings that every contender shares.

The data is synthetic, from a fixed seed, with the sizes and ranges of the real sets (MNIST, iris,
scikit-learn's digits, sums and differences of two numbers) and labels that can be learnt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Batch = tuple[Floats, NDArray[np.generic]]


@dataclass(frozen=True)
class SGD:
    """``v = momentum * v + g``, then ``p -= lr * v``."""

    lr: float
    momentum: float = 0.0


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba (2015), algorithm 1: ``p -= lr * m_hat / (sqrt(v_hat) + eps)``."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True)
class Workload:
    """What a contender is given; step ``k`` trains on ``batches[k % len(batches)]``."""

    title: str
    initial: list[Floats]
    batches: list[Batch]
    optimizer: SGD | Adam
    steps: int  # in a timed round


@dataclass(frozen=True)
class Network(Workload):
    """Dense layers ``initial = [W1, b1, W2, b2, ...]`` with ReLU between them.

    ``loss`` is ``"cross_entropy"`` (softmax, integer labels, mean over the batch) or ``"mse"``
    (mean over all elements); ``output`` is ``"linear"`` or ``"sigmoid"``.
    """

    loss: str = "cross_entropy"
    output: str = "linear"


@dataclass(frozen=True)
class Chain(Workload):
    """``x = relu(tanh(x * w + b))``, `cycles` times over, four operations each; squared error.

    ``w`` is a little over 1 and ``b`` almost 0, so that ``x`` settles near ``sqrt(3 (w - 1))`` and
    the cotangents, shrinking by about ``1 - 2 (w - 1)`` a cycle, never become subnormal.
    """

    cycles: int = 2500


@dataclass(frozen=True)
class LeNet(Workload):
    """LeNet-5 as it is taught today: softmax cross-entropy of integer labels, mean over the batch.

    Convolution (padding 2), ReLU, 2x2 max pooling, convolution, ReLU, pooling, then dense layers
    with ReLU between them; ``initial = [W1, b1, ...]``, convolutions (out, in, 5, 5), dense layers
    (in, out). Pictures are (N, 1, 28, 28).
    """


@dataclass(frozen=True)
class Block(Workload):
    """A pre-norm transformer block; mean squared error, over all elements, of its output.

    ``h = x + attention(norm(x)) @ Wo + bo``, then ``h + gelu(norm(h) @ W1 + b1) @ W2 + b2``, with
    the tanh form of GELU; ``initial = [g1, a1, Wq, Wk, Wv, Wo, bo, g2, a2, W1, b1, W2, b2]`` where
    g and a are scale and shift of the layer norms. Queries, keys and values have no bias: the
    gradient of a bias of the keys is 0, and nothing but rounding could be compared.
    """

    heads: int = 4


def dense_layers(rng: np.random.Generator, *sizes: int) -> list[Floats]:
    """He's normal weights and small biases (not 0, which would put dead units on ReLU's kink)."""
    parameters = []
    for fan_in, fan_out in pairwise(sizes):
        scale = np.float32(np.sqrt(2 / fan_in))
        parameters.append(scale * rng.standard_normal((fan_in, fan_out), dtype=np.float32))
        parameters.append(np.float32(0.1) * rng.standard_normal(fan_out, dtype=np.float32))
    return parameters


def images(rng: np.random.Generator, count: int, size: int, rows: int) -> list[Batch]:
    """`count` batches of pictures in 0..1, most pixels dark, one of ten noisy patterns each."""
    patterns = rng.random((10, size)) * (rng.random((10, size)) < 0.25)
    batches: list[Batch] = []
    for _ in range(count):
        labels = rng.integers(10, size=rows)
        lit = patterns[labels] * rng.uniform(0.3, 1.2, (rows, size))
        stray = rng.random((rows, size)) * (rng.random((rows, size)) < 0.1)
        batches.append((np.clip(lit + stray, 0, 1).astype(np.float32), labels))
    return batches


def w1() -> Network:
    rng = np.random.default_rng(1)
    return Network(
        "784-64-10 ReLU, softmax cross-entropy, batch 128, SGD with momentum",
        dense_layers(rng, 784, 64, 10), images(rng, 32, 784, 128),
        SGD(lr=0.01, momentum=0.9), steps=100,
    )  # fmt: skip


def w2() -> Network:
    rng = np.random.default_rng(2)
    labels = np.arange(3).repeat(50)
    centres = np.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.0]])
    flowers = centres[labels] + rng.normal(scale=[0.5, 0.3, 0.4, 0.2], size=(150, 4))
    flowers -= flowers.mean(axis=0)
    return Network(
        "4-6-8-10-3 ReLU, softmax cross-entropy, full batch of 150, SGD",
        dense_layers(rng, 4, 6, 8, 10, 3), [(flowers.astype(np.float32), labels)],
        SGD(lr=0.01), steps=300,
    )  # fmt: skip


def w3() -> Network:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 100, (2, 7000))
    x, t = np.stack([a, b], 1), np.stack([a + b, a - b, abs(a - b)], 1)
    x, t = (x - x.mean(0)) / x.std(0), (t - t.mean(0)) / t.std(0)
    return Network(
        "2-4-4-3 ReLU, squared error, full batch of 7000, SGD",
        dense_layers(rng, 2, 4, 4, 3), [(x.astype(np.float32), t.astype(np.float32))],
        SGD(lr=0.01), steps=60, loss="mse",
    )  # fmt: skip


def w4() -> Network:
    rng = np.random.default_rng(4)
    onehot = np.eye(10, dtype=np.float32)
    return Network(
        "64-15-10 ReLU then sigmoid, squared error on one-hot labels, batch 15, SGD",
        dense_layers(rng, 64, 15, 10), [(x, onehot[t]) for x, t in images(rng, 119, 64, 15)],
        SGD(lr=0.1), steps=500, loss="mse", output="sigmoid",
    )  # fmt: skip


def w5() -> Network:
    rng = np.random.default_rng(5)
    return Network(
        "784-1024-1024-10 ReLU, softmax cross-entropy, batch 256, Adam",
        dense_layers(rng, 784, 1024, 1024, 10), images(rng, 16, 784, 256),
        Adam(lr=1e-4), steps=5,
    )  # fmt: skip


def w6() -> Chain:
    rng = np.random.default_rng(6)
    w = 1 + rng.uniform(0.003, 0.005, 32)
    b = 1e-4 * rng.uniform(0.5, 1.5, 32)
    x = 0.1 * rng.standard_normal(32)
    t = rng.uniform(0.13, 0.14, 32)
    return Chain(
        "a chain of 10,000 elementwise operations on 32 numbers, squared error, SGD",
        [w.astype(np.float32), b.astype(np.float32)],
        [(x.astype(np.float32), t.astype(np.float32))], SGD(lr=1e-4), steps=4,
    )  # fmt: skip


def w7() -> LeNet:
    rng = np.random.default_rng(7)
    convolutions: list[Floats] = []
    for shape in (6, 1, 5, 5), (16, 6, 5, 5):
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        convolutions.append(scale * rng.standard_normal(shape, dtype=np.float32))
        convolutions.append(np.float32(0.1) * rng.standard_normal(shape[0], dtype=np.float32))
    return LeNet(
        "LeNet-5 on 1x28x28, softmax cross-entropy, batch 64, SGD with momentum",
        convolutions + dense_layers(rng, 400, 120, 84, 10),
        [(x.reshape(-1, 1, 28, 28), t) for x, t in images(rng, 16, 784, 64)],
        SGD(lr=0.01, momentum=0.9), steps=20,
    )  # fmt: skip


def w8() -> Block:
    rng = np.random.default_rng(8)
    width, inner = 64, 256
    norm = [np.ones(width, np.float32), np.zeros(width, np.float32)]
    attention = dense_layers(rng, *[width] * 4)[::2]
    x = rng.standard_normal((8, 16, 64, width), dtype=np.float32)
    mix = rng.standard_normal((width, width), dtype=np.float32) / np.float32(np.sqrt(width))
    t = np.roll(x, 1, axis=2) @ mix
    return Block(
        "pre-norm block, d 64, 4 heads, T 64, MLP 4x GELU, batch 16, squared error, SGD",
        [*norm, *attention, *dense_layers(rng, width, width), *[p.copy() for p in norm],
         *dense_layers(rng, width, inner, width)],
        list(zip(x, t, strict=True)), SGD(lr=0.1, momentum=0.9), steps=12,
    )  # fmt: skip


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7, "W8": w8,
}  # fmt: skip
