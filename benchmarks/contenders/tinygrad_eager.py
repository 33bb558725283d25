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

    def step(self, x: Floats, t: Any) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), t)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

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
