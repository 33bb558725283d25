"""Backprop by hand in plain NumPy, as someone who knows both would write it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.workloads import Floats


class SGD:
    def __init__(self, parameters: list[Floats], settings: workloads.SGD) -> None:
        self.parameters, self.lr, self.momentum = parameters, settings.lr, settings.momentum
        self.velocity = [np.zeros_like(p) for p in parameters]

    def step(self, gradients: Iterable[Floats]) -> None:
        for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
            if self.momentum:
                v *= self.momentum
                v += g
                g = v
            p -= self.lr * g


class Adam:
    def __init__(self, parameters: list[Floats], settings: workloads.Adam) -> None:
        self.parameters, self.settings, self.t = parameters, settings, 0
        self.m = [np.zeros_like(p) for p in parameters]
        self.v = [np.zeros_like(p) for p in parameters]

    def step(self, gradients: Iterable[Floats]) -> None:
        self.t += 1
        s = self.settings
        rate = s.lr / (1 - s.beta1**self.t)
        correction = 1 / (1 - s.beta2**self.t) ** 0.5
        for p, m, v, g in zip(self.parameters, self.m, self.v, gradients, strict=True):
            m *= s.beta1
            m += (1 - s.beta1) * g
            g2 = g * g
            g2 *= 1 - s.beta2
            v *= s.beta2
            v += g2
            root = np.sqrt(v)
            root *= correction
            root += s.eps
            update = m / root
            update *= rate
            p -= update


def optimizer(parameters: list[Floats], settings: workloads.SGD | workloads.Adam) -> SGD | Adam:
    """The optimizer of these `settings`, updating `parameters` in place."""
    if isinstance(settings, workloads.Adam):
        return Adam(parameters, settings)
    return SGD(parameters, settings)


def softmax_cross_entropy(z: Floats, t: NDArray[np.intp]) -> tuple[np.float32, Floats]:
    """Mean cross-entropy of logits `z` (N, K), overwritten; its gradient ``(p - onehot) / N``."""
    rows = np.arange(len(t))
    z -= z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    loss = np.log(total).mean() - z[rows, t].mean()
    e /= total
    e[rows, t] -= 1
    e /= len(t)
    return loss, e


def squared_error(y: Floats, t: Floats) -> tuple[np.float32, Floats]:
    """Mean squared error over all elements, and its gradient ``2 (y - t) / size``."""
    g = y - t
    loss = np.vdot(g, g) / g.size
    g *= 2 / g.size
    return loss, g


class Network(Contender):
    def __init__(self, workload: workloads.Network) -> None:
        self.workload = workload
        self.weights = [p.copy() for p in workload.initial]
        self.optimizer = optimizer(self.weights, workload.optimizer)

    def step(self, x: Floats, t: Any) -> np.float32:
        weights, biases = self.weights[::2], self.weights[1::2]
        hidden = [x]
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            z = hidden[-1] @ W
            z += b
            hidden.append(np.maximum(z, 0, out=z))
        y = hidden[-1] @ weights[-1]
        y += biases[-1]

        if self.workload.output == "sigmoid":
            y = 1 / (1 + np.exp(-y))
        loss, g = (
            softmax_cross_entropy(y, t) if self.workload.loss == "cross_entropy"
            else squared_error(y, t)
        )  # fmt: skip
        if self.workload.output == "sigmoid":
            g *= y * (1 - y)

        gradients = []
        for i in reversed(range(len(weights))):
            gradients += [g.sum(axis=0), hidden[i].T @ g]
            if i:
                g = g @ weights[i].T
                g *= hidden[i] > 0
        self.optimizer.step(reversed(gradients))
        return loss


class Chain(Contender):
    """One call an operation: nothing is gained from the chain's repeating itself."""

    def __init__(self, workload: workloads.Chain) -> None:
        self.cycles = workload.cycles
        self.weights = [p.copy() for p in workload.initial]
        self.optimizer = optimizer(self.weights, workload.optimizer)

    def step(self, x: Floats, t: Floats) -> np.float32:
        w, b = self.weights
        outputs = [x]
        for _ in range(self.cycles):
            x = x * w
            x += b
            np.tanh(x, out=x)
            np.maximum(x, 0, out=x)
            outputs.append(x)
        loss, g = squared_error(x, t)

        dw, db = np.zeros_like(w), np.zeros_like(b)
        y = outputs.pop()
        while outputs:
            x = outputs.pop()
            g *= y > 0
            g *= 1 - y * y  # where ReLU passed y on, y is tanh's output
            db += g
            dw += g * x
            g *= w
            y = x
        self.optimizer.step([dw, db])
        return loss
