"""This project's compiled step: the very functions of `tinygrad_eager`, given to `tg.compile`."""

import tinygrad_np as tg
from benchmarks.contenders import tinygrad_eager
from benchmarks.workloads import Workload


class Compiled(tinygrad_eager.Trained):
    """Compiles the training step of the eager contender it is mixed into."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.train = tg.compile(self.train)


class Network(Compiled, tinygrad_eager.Network):
    """`tinygrad_eager`'s network."""


class Chain(Compiled, tinygrad_eager.Chain):
    """`tinygrad_eager`'s chain."""


class LeNet(Compiled, tinygrad_eager.LeNet):
    """`tinygrad_eager`'s LeNet."""


class Block(Compiled, tinygrad_eager.Block):
    """`tinygrad_eager`'s block."""
