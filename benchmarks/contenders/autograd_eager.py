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
