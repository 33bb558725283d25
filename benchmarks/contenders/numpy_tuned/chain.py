"""One call an operation still: stacking the cycles of the chain would be another program."""

import numpy as np

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.contenders.numpy_tuned.shared import ZERO, Flat, SquaredError, empty, optimizer
from benchmarks.workloads import Floats


class Chain(Contender):
    def __init__(self, workload: workloads.Chain) -> None:
        self.flat = Flat(workload.initial)
        self.weights = self.flat.p
        self.optimizer = optimizer(self.flat, workload.optimizer)
        width = workload.initial[0].size
        self.y = list(empty(workload.cycles, width))
        self.slope, self.square = empty(2, width)
        self.loss = SquaredError(self.y[-1][None], self.optimizer.scale)

    def step(self, x: Floats, t: Floats) -> np.float32:
        (w, b), (dw, db) = self.weights, self.flat.g
        multiply, add, subtract = np.multiply, np.add, np.subtract
        tanh, maximum, sign = np.tanh, np.maximum, np.sign
        slope, square = self.slope, self.square
        below = x
        for y in self.y:
            multiply(below, w, y)
            add(y, b, y)
            tanh(y, y)
            below = maximum(y, ZERO, out=y)
        loss, g = self.loss(t[:, None]), self.loss.flat

        dw[:] = db[:] = 0
        for k in range(len(self.y) - 1, -1, -1):
            y, below = self.y[k], self.y[k - 1] if k else x
            sign(y, slope)
            multiply(y, y, square)
            subtract(slope, square, slope)  # of ReLU after tanh: (y > 0) - y * y
            multiply(g, slope, g)
            add(db, g, db)
            multiply(g, below, square)
            add(dw, square, dw)
            multiply(g, w, g)
        self.optimizer.step()
        return loss
