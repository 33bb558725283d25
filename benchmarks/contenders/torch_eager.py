"""PyTorch, eager, with its own layers, losses and optimizers at their default settings."""

import os

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.workloads import Floats, Workload

if "OMP_NUM_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class Trained(Contender):
    """What network and chain share; a Linear's weight is the transpose of the workload's."""

    def __init__(self, workload: Workload, model: torch.nn.Module, loss: torch.nn.Module) -> None:
        self.model, self.loss = model, loss
        with torch.no_grad():
            for p, initial in zip(model.parameters(), workload.initial, strict=True):
                p.copy_(torch.from_numpy(initial.T))
        s = workload.optimizer
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(model.parameters(), lr=s.lr, betas=(s.beta1, s.beta2), eps=s.eps)
            if isinstance(s, workloads.Adam)
            else torch.optim.SGD(model.parameters(), lr=s.lr, momentum=s.momentum)
        )

    def batch(self, x: Floats, t: NDArray[np.generic]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(x), torch.from_numpy(t)

    def step(self, x: torch.Tensor, t: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), t)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def parameters(self) -> list[Floats]:
        return [p.detach().numpy().T for p in self.model.parameters()]


class Network(Trained):
    def __init__(self, workload: workloads.Network) -> None:
        layers: list[torch.nn.Module] = []
        for weight in workload.initial[::2]:
            layers += [torch.nn.Linear(*weight.shape), torch.nn.ReLU()]
        layers[-1:] = [torch.nn.Sigmoid()] if workload.output == "sigmoid" else []
        losses = {"cross_entropy": torch.nn.CrossEntropyLoss, "mse": torch.nn.MSELoss}
        super().__init__(workload, torch.nn.Sequential(*layers), losses[workload.loss]())


class Cycles(torch.nn.Module):
    def __init__(self, workload: workloads.Chain) -> None:
        super().__init__()
        self.w, self.b = (torch.nn.Parameter(torch.empty(p.shape)) for p in workload.initial)
        self.cycles = workload.cycles

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w, b = self.w, self.b
        for _ in range(self.cycles):
            x = x * w
            x = x + b
            x = torch.tanh(x)
            x = torch.relu(x)
        return x


class Chain(Trained):
    def __init__(self, workload: workloads.Chain) -> None:
        super().__init__(workload, Cycles(workload), torch.nn.MSELoss())
