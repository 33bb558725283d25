"""What the tuned steps share: flat parameters, optimizers, losses and the dense layer."""

import numpy as np
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.workloads import Floats


def constant(value: float) -> Floats:
    return np.array(value, np.float32)


def empty(*shape: int) -> Floats:
    return np.empty(shape, np.float32)


ZERO, ONE = constant(0), constant(1)


class Flat:
    """Parameters and gradients, each one flat array with a view per weight.

    A weight ``W (in, out)`` and the bias ``b (out,)`` after it are one array ``(in + 1, out)``,
    the bias its last row: `dense` gives views of such pairs.
    """

    def __init__(self, initial: list[Floats]) -> None:
        self.parameters = np.concatenate([p.ravel() for p in initial])
        self.gradients = np.empty_like(self.parameters)
        ends = np.cumsum([p.size for p in initial])
        self.starts = [0, *ends]
        self.p, self.g = (
            [
                part.reshape(p.shape)
                for part, p in zip(np.split(flat, ends[:-1]), initial, strict=True)
            ]
            for flat in (self.parameters, self.gradients)
        )

    def dense(self, i: int) -> tuple[Floats, Floats]:
        """Weight `i` with the bias after it as the last row, and their gradient."""
        rows, columns = self.p[i].shape
        pair = slice(self.starts[i], self.starts[i + 2])
        return tuple(  # type: ignore[return-value]
            flat[pair].reshape(rows + 1, columns) for flat in (self.parameters, self.gradients)
        )


class SGD:
    """Expects gradients that are already multiplied by `scale`, the learning rate."""

    def __init__(self, flat: Flat, settings: workloads.SGD) -> None:
        self.flat, self.scale = flat, settings.lr
        self.momentum = constant(settings.momentum) if settings.momentum else None
        self.velocity = np.zeros_like(flat.parameters)

    def step(self) -> None:
        p, g, v = self.flat.parameters, self.flat.gradients, self.velocity
        if self.momentum is not None:
            np.multiply(v, self.momentum, v)
            g = np.add(v, g, v)
        np.subtract(p, g, p)


class Adam:
    """In chunks that stay in the cache, on ``M = m / (1 - beta1)`` and ``V = v / (1 - beta2)``."""

    scale = 1.0
    chunk = 32768  # floats, 128 KiB

    def __init__(self, flat: Flat, settings: workloads.Adam) -> None:
        self.settings, self.t = settings, 0
        self.beta1, self.beta2 = constant(settings.beta1), constant(settings.beta2)
        states = flat.parameters, flat.gradients, *np.zeros((2, flat.parameters.size), np.float32)
        ends = range(self.chunk, flat.parameters.size, self.chunk)
        self.chunks = list(zip(*(np.split(state, ends) for state in states), strict=True))
        self.scratch = empty(self.chunk)

    def step(self) -> None:
        self.t += 1
        s = self.settings
        root = ((1 - s.beta2**self.t) / (1 - s.beta2)) ** 0.5
        rate = constant(s.lr * root * (1 - s.beta1) / (1 - s.beta1**self.t))
        eps = constant(s.eps * root)
        for p, g, M, V in self.chunks:
            work = self.scratch[: p.size]
            np.multiply(M, self.beta1, M)
            np.add(M, g, M)
            np.multiply(V, self.beta2, V)
            np.multiply(g, g, work)
            np.add(V, work, V)
            np.sqrt(V, work)
            np.add(work, eps, work)
            np.divide(M, work, work)
            np.multiply(work, rate, work)
            np.subtract(p, work, p)


def optimizer(flat: Flat, settings: workloads.SGD | workloads.Adam) -> SGD | Adam:
    return Adam(flat, settings) if isinstance(settings, workloads.Adam) else SGD(flat, settings)


class SoftmaxCrossEntropy:
    """Reads logits `z` (K, N), which it overwrites, and writes `scale` times the gradient to `g`."""

    def __init__(self, z: Floats, scale: float) -> None:
        classes, rows = z.shape
        self.z, self.g = z, np.empty_like(z)
        self.flat = self.g.reshape(-1)
        self.top, self.total, self.picked = empty(3, rows)
        self.ones, self.columns = np.ones(classes, np.float32), np.arange(rows)
        self.stride, self.index = np.array(rows), np.empty(rows, np.intp)
        self.mean, self.scale = np.full(rows, 1 / rows, np.float32), constant(scale / rows)

    def __call__(self, t: NDArray[np.intp]) -> np.float32:
        z, g, top, total, picked, index = (
            self.z, self.g, self.top, self.total, self.picked, self.index
        )  # fmt: skip
        np.multiply(t, self.stride, index)
        np.add(index, self.columns, index)
        np.maximum.reduce(z, 0, None, top)
        np.subtract(z, top, z)
        z.take(index, None, picked, "clip")
        np.exp(z, g)
        self.ones.dot(g, total)
        np.log(total, top)
        np.subtract(top, picked, top)
        np.divide(self.scale, total, total)
        np.multiply(g, total, g)
        self.flat[index] -= self.scale
        return self.mean.dot(top)


class SquaredError:
    """Reads outputs `y` (K, N), targets (N, K), and writes `scale` times the gradient to `g`."""

    def __init__(self, y: Floats, scale: float) -> None:
        self.y, self.g = y, np.empty_like(y)
        self.flat = self.g.reshape(-1)
        self.size, self.scale = y.size, constant(2 * scale / y.size)

    def __call__(self, t: Floats) -> np.float32:
        np.subtract(self.y, t.T, self.g)
        loss = self.flat.dot(self.flat) / self.size
        np.multiply(self.g, self.scale, self.g)
        return loss


class ReLU:
    """In place on `h`, which has to be contiguous for the array of zeros to pay."""

    def __init__(self, h: Floats) -> None:
        self.h, self.small = h, h.size < 1500
        self.zeros = ZERO if self.small else np.zeros(h.shape, np.float32)
        self.mask = np.empty(h.shape, np.float32 if self.small else bool)

    def forward(self) -> None:
        np.maximum(self.h, self.zeros, out=self.h)

    def backward(self, g: Floats) -> None:
        if self.small:
            np.sign(self.h, self.mask)  # h >= 0; no cast, so less overhead, but no SIMD
        else:
            np.greater(self.h, ZERO, self.mask)
        np.multiply(g, self.mask, g)


def with_ones(features: int, rows: int) -> Floats:
    """A buffer ``(features + 1, rows)`` whose last row is 1, for `Dense` to read."""
    return np.ones((features + 1, rows), np.float32)


class Dense:
    """``z = Wb.T @ [h; 1]`` of feature-major ``h (in, N)``: the bias is a row of the product.

    `below` is a buffer of `with_ones`, or None for a first layer, whose inputs are then copied to
    one, as rows unless these are very short; `z` is where the result goes.
    """

    def __init__(self, Wb: Floats, dWb: Floats, z: Floats, below: Floats | None = None) -> None:
        self.first = below is None
        inputs, rows = len(Wb) - 1, z.shape[1]
        if below is None:
            as_rows = np.ones((rows, inputs + 1), np.float32).T
            below = as_rows if inputs > 16 else with_ones(inputs, rows)
        self.h = below
        self.z, self.WbT, self.W, self.dWb = z, Wb.T, Wb[:-1], dWb
        self.input = self.h[:-1]
        self.g = np.empty_like(self.input)

    def forward(self, x: Floats) -> None:
        if self.first:
            self.input[...] = x.T
        self.WbT.dot(self.h, self.z)

    def backward(self, g: Floats, x: Floats) -> Floats:
        """Writes the weights' gradient; the cotangent of `h`, if there is a layer below."""
        self.h.dot(g.T, self.dWb)
        if not self.first:
            self.W.dot(g, self.g)
        return self.g
