"""This project's eager step, as a user writes it."""

from typing import Any

import nn
import tinygrad_np as tg
from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.workloads import Floats, Workload


class Trained(Contender):
    """What network and chain share."""

    def __init__(self, workload: Workload, model: nn.Module, loss: nn.Module) -> None:
        self.model, self.loss = model, loss
        for p, initial in zip(model.parameters(), workload.initial, strict=True):
            p.data = initial.copy()
        s = workload.optimizer
        self.optimizer = (
            nn.Adam(model.parameters(), lr=s.lr, betas=(s.beta1, s.beta2), eps=s.eps)
            if isinstance(s, workloads.Adam)
            else nn.SGD(model.parameters(), lr=s.lr, momentum=s.momentum)
        )

    def train(self, x: Floats, t: Any) -> tg.Tensor:
        """A training step as a user writes it."""
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), t)
        loss.backward()
        self.optimizer.step()
        return loss

    def step(self, x: Floats, t: Any) -> float:
        return float(self.train(x, t).item())

    def parameters(self) -> list[Floats]:
        return [p.data for p in self.model.parameters()]


class Network(Trained):
    def __init__(self, workload: workloads.Network) -> None:
        *hidden, last = (weight.shape for weight in workload.initial[::2])
        output = "sigmoid" if workload.output == "sigmoid" else None
        model = nn.Sequential(
            *(nn.Dense(*shape, activation="relu") for shape in hidden),
            nn.Dense(*last, activation=output),
        )
        losses = {"cross_entropy": nn.SoftmaxCrossEntropy, "mse": nn.MSE}
        super().__init__(workload, model, losses[workload.loss]())


class Cycles(nn.Module):
    def __init__(self, workload: workloads.Chain) -> None:
        super().__init__()
        self.w, self.b = (tg.Tensor(p, requires_grad=True) for p in workload.initial)
        self.cycles = workload.cycles

    def forward(self, x: Any) -> Any:
        w, b = self.w, self.b
        for _ in range(self.cycles):
            x = x * w
            x = x + b
            x = tg.tanh(x)
            x = tg.relu(x)
        return x


class Chain(Trained):
    def __init__(self, workload: workloads.Chain) -> None:
        super().__init__(workload, Cycles(workload), nn.MSE())


class Pictures(nn.Module):
    def __init__(self, workload: workloads.LeNet) -> None:
        self.weights = [tg.Tensor(p, requires_grad=True) for p in workload.initial]

    def forward(self, x: Any) -> Any:
        V1, a1, V2, a2, W1, b1, W2, b2, W3, b3 = self.weights
        x = tg.max_pool(tg.relu(tg.conv2d(x, V1, a1, padding=2)), 2)
        x = tg.max_pool(tg.relu(tg.conv2d(x, V2, a2)), 2)
        x = x.reshape(len(x), -1)
        x = tg.relu(tg.linear(x, W1, b1))
        x = tg.relu(tg.linear(x, W2, b2))
        return tg.linear(x, W3, b3)


class LeNet(Trained):
    def __init__(self, workload: workloads.LeNet) -> None:
        super().__init__(workload, Pictures(workload), nn.SoftmaxCrossEntropy())


class Attention(nn.Module):
    """The whole block."""

    def __init__(self, workload: workloads.Block) -> None:
        self.weights = [tg.Tensor(p, requires_grad=True) for p in workload.initial]
        self.heads = workload.heads

    def split(self, x: Any, shape: tuple[int, ...]) -> Any:
        N, T, d = shape
        return x.reshape(N, T, self.heads, d // self.heads).transpose(0, 2, 1, 3)

    def forward(self, x: Any) -> Any:
        g1, a1, Wq, Wk, Wv, Wo, bo, g2, a2, W1, b1, W2, b2 = self.weights
        N, T, d = shape = x.shape
        x = x.reshape(N * T, d)
        u = tg.layer_norm(x, g1, a1)
        q, k, v = (self.split(u @ W, shape) for W in (Wq, Wk, Wv))
        y = tg.scaled_dot_product_attention(q, k, v)
        x = x + tg.linear(y.transpose(0, 2, 1, 3).reshape(N * T, d), Wo, bo)
        m = tg.gelu(tg.linear(tg.layer_norm(x, g2, a2), W1, b1), approximate="tanh")
        return (x + tg.linear(m, W2, b2)).reshape(N, T, d)


class Block(Trained):
    def __init__(self, workload: workloads.Block) -> None:
        super().__init__(workload, Attention(workload), nn.MSE())
