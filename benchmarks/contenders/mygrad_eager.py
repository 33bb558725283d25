"""MyGrad, with the optimizers of `numpy_plain` (it has none of its own)."""

import math
from typing import Any

import mygrad
from mygrad.nnet.activations import relu, sigmoid, softmax
from mygrad.nnet.layers import conv_nd, max_pool
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


class LeNet(Trained):
    def step(self, x: Any, t: Any) -> float:
        V1, a1, V2, a2, *dense = self.tensors
        x = relu(conv_nd(x, V1, stride=1, padding=2) + a1.reshape(1, -1, 1, 1))
        x = max_pool(x, pool=(2, 2), stride=2)
        x = relu(conv_nd(x, V2, stride=1) + a2.reshape(1, -1, 1, 1))
        x = max_pool(x, pool=(2, 2), stride=2)
        x = x.reshape(len(t), -1)
        *hidden, (W, b) = zip(dense[::2], dense[1::2], strict=True)
        for V, a in hidden:
            x = relu(mygrad.matmul(x, V) + a)
        return self.descend(softmax_crossentropy(mygrad.matmul(x, W) + b, t))


def layer_norm(x: Any, g: Any, a: Any) -> Any:
    d = x - mygrad.mean(x, axis=1, keepdims=True)
    return d / mygrad.sqrt(mygrad.mean(d**2, axis=1, keepdims=True) + 1e-5) * g + a


class Block(Trained):
    def __init__(self, workload: workloads.Block) -> None:
        super().__init__(workload)
        self.heads = workload.heads

    def step(self, x: Any, t: Floats) -> float:
        g1, a1, Wq, Wk, Wv, Wo, bo, g2, a2, W1, b1, W2, b2 = self.tensors
        N, T, d = x.shape
        x, t = x.reshape(N * T, d), t.reshape(N * T, d)
        u = layer_norm(x, g1, a1)
        q, k, v = (
            mygrad.matmul(u, W).reshape(N, T, self.heads, -1).transpose(0, 2, 1, 3)
            for W in (Wq, Wk, Wv)
        )
        s = mygrad.matmul(q, k.transpose(0, 1, 3, 2)) * (d // self.heads) ** -0.5
        y = mygrad.matmul(softmax(s), v)
        x = x + mygrad.matmul(y.transpose(0, 2, 1, 3).reshape(N * T, d), Wo) + bo
        z = mygrad.matmul(layer_norm(x, g2, a2), W1) + b1
        gate = mygrad.tanh((2 / math.pi) ** 0.5 * (z + 0.044715 * z * z * z))
        y = x + mygrad.matmul(0.5 * z * (1 + gate), W2) + b2
        return self.descend(mygrad.mean((y - t) ** 2))
