"""HIPS autograd: a loss function of the weights, with the optimizers of `numpy_plain`."""

from abc import abstractmethod
from typing import Any

import autograd.numpy as np
from autograd import value_and_grad

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.contenders.numpy_plain import optimizer
from benchmarks.workloads import Workload


class Trained(Contender):
    def __init__(self, workload: Workload) -> None:
        self.weights = [p.copy() for p in workload.initial]
        self.optimizer = optimizer(self.weights, workload.optimizer)
        self.loss_and_gradients = value_and_grad(self.loss)

    @abstractmethod
    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        """The loss of `weights` on a batch."""

    def step(self, x: Any, t: Any) -> float:
        loss, gradients = self.loss_and_gradients(self.weights, x, t)
        self.optimizer.step(gradients)
        return float(loss)


class Network(Trained):
    def __init__(self, workload: workloads.Network) -> None:
        super().__init__(workload)
        self.workload = workload

    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        *hidden, (W, b) = zip(weights[::2], weights[1::2], strict=True)
        for V, a in hidden:
            x = np.maximum(np.dot(x, V) + a, 0)
        y = np.dot(x, W) + b
        if self.workload.output == "sigmoid":
            y = 1 / (1 + np.exp(-y))
        if self.workload.loss == "mse":
            return np.mean((y - t) ** 2)
        y = y - np.max(y, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(y), axis=1)) - y[np.arange(len(t)), t])


class Chain(Trained):
    def __init__(self, workload: workloads.Chain) -> None:
        super().__init__(workload)
        self.cycles = workload.cycles

    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        w, b = weights
        for _ in range(self.cycles):
            x = x * w
            x = x + b
            x = np.tanh(x)
            x = np.maximum(x, 0)
        return np.mean((x - t) ** 2)


def layer_norm(x: Any, g: Any, a: Any) -> Any:
    d = x - np.mean(x, axis=1, keepdims=True)
    return d / np.sqrt(np.mean(d**2, axis=1, keepdims=True) + 1e-5) * g + a


class Block(Trained):
    """There is no LeNet: its only convolution (`autograd.scipy.signal`) is no training matter."""

    def __init__(self, workload: workloads.Block) -> None:
        super().__init__(workload)
        self.heads = workload.heads

    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        g1, a1, Wq, Wk, Wv, Wo, bo, g2, a2, W1, b1, W2, b2 = weights
        N, T, d = x.shape
        x, t = x.reshape(N * T, d), t.reshape(N * T, d)
        u = layer_norm(x, g1, a1)
        q, k, v = (
            np.transpose(np.reshape(np.dot(u, W), (N, T, self.heads, -1)), (0, 2, 1, 3))
            for W in (Wq, Wk, Wv)
        )
        s = np.matmul(q, np.swapaxes(k, 2, 3)) * (d // self.heads) ** -0.5
        e = np.exp(s - np.max(s, axis=-1, keepdims=True))
        y = np.matmul(e / np.sum(e, axis=-1, keepdims=True), v)
        x = x + np.dot(np.reshape(np.transpose(y, (0, 2, 1, 3)), (N * T, d)), Wo) + bo
        z = np.dot(layer_norm(x, g2, a2), W1) + b1
        gate = np.tanh(float(np.sqrt(2 / np.pi)) * (z + 0.044715 * z * z * z))
        y = x + np.dot(0.5 * z * (1 + gate), W2) + b2
        return np.mean((y - t) ** 2)
