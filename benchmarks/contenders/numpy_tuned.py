"""The same backprop with every trick we know: what a compiler's output has to be compared with.

Activations are feature-major ``(features, N)``, so that adding a bias to a tall thin array and
reducing over classes run along memory; every result has its buffer; sums over the batch are
products with ones; all parameters lie in one flat array, as do their gradients; constants are
0-d arrays; SGD's learning rate and the mean over the batch are folded into the first cotangent.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.workloads import Floats


def constant(value: float) -> Floats:
    return np.array(value, np.float32)


ZERO, ONE = constant(0), constant(1)


class Flat:
    """Parameters and gradients, each one flat array with a view per weight."""

    def __init__(self, initial: list[Floats]) -> None:
        self.parameters = np.concatenate([p.ravel() for p in initial])
        self.gradients = np.empty_like(self.parameters)
        ends = np.cumsum([p.size for p in initial])[:-1]
        self.p, self.g = (
            [part.reshape(p.shape) for part, p in zip(np.split(flat, ends), initial, strict=True)]
            for flat in (self.parameters, self.gradients)
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
            np.multiply(v, self.momentum, out=v)
            g = np.add(v, g, out=v)
        np.subtract(p, g, out=p)


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
        self.scratch = np.empty(self.chunk, np.float32)

    def step(self) -> None:
        self.t += 1
        s = self.settings
        root = ((1 - s.beta2**self.t) / (1 - s.beta2)) ** 0.5
        rate = constant(s.lr * root * (1 - s.beta1) / (1 - s.beta1**self.t))
        eps = constant(s.eps * root)
        for p, g, M, V in self.chunks:
            work = self.scratch[: p.size]
            np.multiply(M, self.beta1, out=M)
            np.add(M, g, out=M)
            np.multiply(V, self.beta2, out=V)
            np.multiply(g, g, out=work)
            np.add(V, work, out=V)
            np.sqrt(V, out=work)
            np.add(work, eps, out=work)
            np.divide(M, work, out=work)
            np.multiply(work, rate, out=work)
            np.subtract(p, work, out=p)


def optimizer(flat: Flat, settings: workloads.SGD | workloads.Adam) -> SGD | Adam:
    return Adam(flat, settings) if isinstance(settings, workloads.Adam) else SGD(flat, settings)


class SoftmaxCrossEntropy:
    """Reads logits (K, N), which it overwrites, and writes `scale` times the gradient to `g`."""

    def __init__(self, classes: int, rows: int, scale: float) -> None:
        self.g = np.empty((classes, rows), np.float32)
        self.flat = self.g.reshape(-1)
        self.top, self.total, self.picked = np.empty((3, rows), np.float32)
        self.ones, self.columns = np.ones(classes, np.float32), np.arange(rows)
        self.stride, self.index = np.array(rows), np.empty(rows, np.intp)
        self.mean, self.scale = np.full(rows, 1 / rows, np.float32), constant(scale / rows)

    def __call__(self, z: Floats, t: NDArray[np.intp]) -> np.float32:
        np.multiply(t, self.stride, out=self.index)
        np.add(self.index, self.columns, out=self.index)
        np.maximum.reduce(z, axis=0, out=self.top)
        np.subtract(z, self.top, out=z)
        z.take(self.index, out=self.picked, mode="clip")
        np.exp(z, out=self.g)
        np.matmul(self.ones, self.g, out=self.total)
        np.log(self.total, out=self.top)
        np.subtract(self.top, self.picked, out=self.top)
        np.divide(self.scale, self.total, out=self.total)
        np.multiply(self.g, self.total, out=self.g)
        self.flat[self.index] -= self.scale
        return np.vdot(self.mean, self.top)


class SquaredError:
    """Reads outputs (K, N), targets (N, K), and writes `scale` times the gradient to `g`."""

    def __init__(self, width: int, rows: int, scale: float) -> None:
        self.g = np.empty((width, rows), np.float32)
        self.flat = self.g.reshape(-1)
        self.size, self.scale = self.g.size, constant(2 * scale / self.g.size)

    def __call__(self, y: Floats, t: Floats) -> np.float32:
        np.subtract(y, t.T, out=self.g)
        loss = np.vdot(self.flat, self.flat) / self.size
        np.multiply(self.g, self.scale, out=self.g)
        return loss


class Network(Contender):
    def __init__(self, workload: workloads.Network) -> None:
        self.flat = Flat(workload.initial)
        self.weights = self.flat.p
        self.optimizer = optimizer(self.flat, workload.optimizer)
        rows, scale = len(workload.batches[0][0]), self.optimizer.scale
        W, b = self.weights[::2], self.weights[1::2]
        self.dW, self.db = [v.T for v in self.flat.g[::2]], self.flat.g[1::2]
        self.W, self.WT = W, [v.T for v in W]
        self.b = [v[:, None] for v in b]
        self.h, self.g, self.mask = (
            [np.empty((v.size, rows), np.float32) for v in b] for _ in range(3)
        )
        self.ones, self.sigmoid = np.ones(rows, np.float32), workload.output == "sigmoid"
        loss = SoftmaxCrossEntropy if workload.loss == "cross_entropy" else SquaredError
        self.loss = loss(b[-1].size, rows, scale)
        self.g[-1] = self.loss.g

    def step(self, x: Floats, t: Any) -> np.float32:
        last = len(self.W) - 1
        below = x.T
        for i, (WT, b, h) in enumerate(zip(self.WT, self.b, self.h, strict=True)):
            np.matmul(WT, below, out=h)
            np.add(h, b, out=h)
            if i < last:
                below = np.maximum(h, ZERO, out=h)
        if self.sigmoid:
            np.negative(h, out=h)
            np.exp(h, out=h)
            np.add(h, ONE, out=h)
            np.reciprocal(h, out=h)

        loss, g = self.loss(h, t), self.loss.g
        if self.sigmoid:
            np.multiply(g, h, out=g)
            np.subtract(ONE, h, out=h)
            np.multiply(g, h, out=g)

        for i in range(last, -1, -1):
            np.matmul(g, self.h[i - 1].T if i else x, out=self.dW[i])
            np.matmul(g, self.ones, out=self.db[i])
            if i:
                h, mask = self.h[i - 1], self.mask[i - 1]
                if h.size < 2048:
                    np.sign(h, out=mask)  # h >= 0; no cast, so less overhead, but no SIMD
                else:
                    np.greater(h, ZERO, out=mask)
                g = np.matmul(self.W[i], g, out=self.g[i - 1])
                np.multiply(g, mask, out=g)
        self.optimizer.step()
        return loss


class Chain(Contender):
    """One call an operation still: stacking the cycles would be another program."""

    def __init__(self, workload: workloads.Chain) -> None:
        self.flat = Flat(workload.initial)
        self.weights = self.flat.p
        self.optimizer = optimizer(self.flat, workload.optimizer)
        width = workload.initial[0].size
        self.y = list(np.empty((workload.cycles, width), np.float32))
        self.slope, self.square = np.empty((2, width), np.float32)
        self.loss = SquaredError(1, width, self.optimizer.scale)

    def step(self, x: Floats, t: Floats) -> np.float32:
        (w, b), (dw, db) = self.weights, self.flat.g
        multiply, add, subtract = np.multiply, np.add, np.subtract
        tanh, maximum, sign = np.tanh, np.maximum, np.sign
        slope, square = self.slope, self.square
        below = x
        for y in self.y:
            multiply(below, w, out=y)
            add(y, b, out=y)
            tanh(y, out=y)
            below = maximum(y, ZERO, out=y)
        loss, g = self.loss(y, t[:, None]), self.loss.flat

        dw[:] = db[:] = 0
        for k in range(len(self.y) - 1, -1, -1):
            y, below = self.y[k], self.y[k - 1] if k else x
            sign(y, out=slope)
            multiply(y, y, out=square)
            subtract(slope, square, out=slope)  # of ReLU after tanh: (y > 0) - y * y
            multiply(g, slope, out=g)
            add(db, g, out=db)
            multiply(g, below, out=square)
            add(dw, square, out=dw)
            multiply(g, w, out=g)
        self.optimizer.step()
        return loss
