"""MyGrad, with the optimizers of `numpy_plain` (it has none of its own)."""

from typing import Any

import mygrad
from mygrad.nnet.activations import relu, sigmoid
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.contenders.numpy_plain import optimizer
from benchmarks.workloads import Floats, Workload


class Trained(Contender):
    """MyGrad's tensors over the weights that the optimizer updates in place."""

    def __init__(self, workload: Workload) -> None:
        self.tensors: list[Any] = [mygrad.Tensor(p) for p in workload.initial]
        self.weights = [p.data for p in self.tensors]
        self.optimizer = optimizer(self.weights, workload.optimizer)

    def descend(self, loss: Any) -> float:
        loss.backward()
        self.optimizer.step([p.grad for p in self.tensors])
        return float(loss.item())


class Network(Trained):
    def __init__(self, workload: workloads.Network) -> None:
        super().__init__(workload)
        self.workload = workload

    def step(self, x: Any, t: Any) -> float:
        *hidden, (W, b) = zip(self.tensors[::2], self.tensors[1::2], strict=True)
        for V, a in hidden:
            x = relu(mygrad.matmul(x, V) + a)
        y = mygrad.matmul(x, W) + b
        if self.workload.output == "sigmoid":
            y = sigmoid(y)
        if self.workload.loss == "cross_entropy":
            return self.descend(softmax_crossentropy(y, t))
        return self.descend(mygrad.mean((y - t) ** 2))


class Chain(Trained):
    def __init__(self, workload: workloads.Chain) -> None:
        super().__init__(workload)
        self.cycles = workload.cycles

    def step(self, x: Any, t: Floats) -> float:
        w, b = self.tensors
        for _ in range(self.cycles):
            x = x * w
            x = x + b
            x = mygrad.tanh(x)
            x = relu(x)
        return self.descend(mygrad.mean((x - t) ** 2))
