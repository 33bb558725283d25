"""`torch.compile` of a whole step: loss, gradients and update, written as one function of tensors.

Written as a module with ``backward()`` and ``optimizer.step()`` it is compiled in pieces, which took
1.6 times (W1) to 3 times (W2) as long.
"""

import os
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import workloads
from benchmarks.contenders import torch_eager
from benchmarks.workloads import Workload

# A program that an earlier run has left in the cache would not show what compiling costs.
cache = TemporaryDirectory(prefix="torch_compile_")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.name


def memory(weights: dict[str, torch.Tensor], settings: workloads.SGD | workloads.Adam) -> list[Any]:
    """What the optimizer keeps of each weight."""
    copies = 2 if isinstance(settings, workloads.Adam) else 1 if settings.momentum else 0
    return [[torch.zeros_like(p) for p in weights.values()] for _ in range(copies)]


def descend(
    weights: Any, gradients: Any, memory: Any, k: Any, s: workloads.SGD | workloads.Adam
) -> None:
    """Step `k` of the optimizer, in place."""
    for p, g, *states in zip(weights, gradients, *memory, strict=True):
        if isinstance(s, workloads.Adam):
            m, v = states
            m.mul_(s.beta1).add_(g, alpha=1 - s.beta1)
            v.mul_(s.beta2).addcmul_(g, g, value=1 - s.beta2)
            root = v.sqrt() * (1 - s.beta2**k) ** -0.5 + s.eps
            p.sub_(s.lr / (1 - s.beta1**k) * m / root)
        elif s.momentum:
            (v,) = states
            v.mul_(s.momentum).add_(g)
            p.sub_(v, alpha=s.lr)
        else:
            p.sub_(g, alpha=s.lr)


class Compiled(torch_eager.Trained):
    """Turns the eager contender it is mixed into to one compiled function."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        torch.compiler.reset()
        s = workload.optimizer
        weights = {name: p.detach() for name, p in self.model.named_parameters()}
        states = memory(weights, s)
        self.k = torch.zeros(())

        def loss(weights: Any, x: Any, t: Any) -> Any:
            return self.loss(torch.func.functional_call(self.model, weights, (x,)), t)

        @torch.compile
        def train(x: Any, t: Any, k: Any) -> Any:
            gradients, value = torch.func.grad_and_value(loss)(weights, x, t)
            descend(weights.values(), gradients.values(), states, k, s)
            return value

        self.train = train

    def step(self, x: torch.Tensor, t: torch.Tensor) -> float:
        self.k += 1
        return float(self.train(x, t, self.k).item())


class Network(Compiled, torch_eager.Network):
    """`torch_eager`'s network."""


class LeNet(Compiled, torch_eager.LeNet):
    """`torch_eager`'s LeNet."""


class Block(Compiled, torch_eager.Block):
    """There is no Chain: ten thousand operations compile for longer than anyone waits."""
