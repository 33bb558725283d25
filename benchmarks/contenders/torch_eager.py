"""PyTorch, eager, with its own layers, losses and optimizers at their default settings."""

import os
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.workloads import Floats, Workload

if "OMP_NUM_THREADS" in os.environ:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def as_stored(weight: Floats) -> Floats:
    """A Linear's weight is the transpose of the workload's; a convolution's is the same."""
    return weight.T if weight.ndim < 4 else weight


class Trained(Contender):
    """What all of them share."""

    def __init__(self, workload: Workload, model: torch.nn.Module, loss: torch.nn.Module) -> None:
        self.model, self.loss = model, loss
        with torch.no_grad():
            for p, initial in zip(model.parameters(), workload.initial, strict=True):
                p.copy_(torch.from_numpy(as_stored(initial)))
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
        return [as_stored(p.detach().numpy()) for p in self.model.parameters()]


class LeNet(Trained):
    def __init__(self, workload: workloads.LeNet) -> None:
        layers: list[torch.nn.Module] = []
        for shape, padding in zip(((6, 1, 5, 5), (16, 6, 5, 5)), (2, 0), strict=True):
            layers += [torch.nn.Conv2d(shape[1], shape[0], 5, padding=padding), torch.nn.ReLU(),
                       torch.nn.MaxPool2d(2)]  # fmt: skip
        layers.append(torch.nn.Flatten())
        for weight in workload.initial[4::2]:
            layers += [torch.nn.Linear(*weight.shape), torch.nn.ReLU()]
        super().__init__(workload, torch.nn.Sequential(*layers[:-1]), torch.nn.CrossEntropyLoss())


class Attention(torch.nn.Module):
    """The whole block; one product makes queries, keys and values."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = torch.nn.LayerNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width, bias=False)
        self.out = torch.nn.Linear(width, width)
        self.second = torch.nn.LayerNorm(width)
        self.up = torch.nn.Linear(width, inner)
        self.gelu = torch.nn.GELU(approximate="tanh")
        self.down = torch.nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        N, T, d = x.shape
        q, k, v = self.qkv(self.first(x)).view(N, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(N, T, d))
        return x + self.down(self.gelu(self.up(self.second(x))))


class Block(Trained):
    def __init__(self, workload: workloads.Block) -> None:
        model = Attention(*workload.initial[-4].shape, workload.heads)
        g, a, Wq, Wk, Wv, *others = workload.initial
        joined = replace(workload, initial=[g, a, np.concatenate([Wq, Wk, Wv], axis=1), *others])
        super().__init__(joined, model, torch.nn.MSELoss())

    def parameters(self) -> list[Floats]:
        g, a, qkv, *others = super().parameters()
        return [g, a, *np.split(qkv, 3, axis=1), *others]


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
