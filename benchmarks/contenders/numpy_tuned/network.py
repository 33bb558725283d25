"""Dense layers on feature-major activations ``(features, N)``, the biases within the products."""

from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.contenders.numpy_tuned.shared import (
    ONE,
    Dense,
    Flat,
    ReLU,
    SoftmaxCrossEntropy,
    SquaredError,
    empty,
    optimizer,
    with_ones,
)
from benchmarks.workloads import Floats


class Wide:
    """A first layer with so many inputs that copying them would cost more than adding a bias.

    A product with few columns is a third faster in rows; the bias is then added on the way to
    feature-major.
    """

    def __init__(self, W: Floats, b: Floats, dW: Floats, db: Floats, z: Floats) -> None:
        self.W, self.b, self.dW, self.db, self.z = W, b[:, None], dW, db, z
        rows = z.shape[1]
        self.rows = empty(rows, b.size) if b.size < 256 else None
        self.ones = np.ones(rows, np.float32)

    def forward(self, x: Floats) -> None:
        if self.rows is None:
            np.dot(self.W.T, x.T, self.z)
            np.add(self.z, self.b, self.z)
        else:
            x.dot(self.W, self.rows)
            np.add(self.rows.T, self.b, self.z)

    def backward(self, g: Floats, x: Floats) -> None:
        x.T.dot(g.T, self.dW)
        g.dot(self.ones, self.db)


class Sigmoid:
    """In place on `y`, which the way back overwrites."""

    def __init__(self, y: Floats) -> None:
        self.y = y

    def forward(self) -> None:
        y = self.y
        np.negative(y, y)
        np.exp(y, y)
        np.add(y, ONE, y)
        np.reciprocal(y, y)

    def backward(self, g: Floats) -> None:
        y = self.y
        np.multiply(g, y, g)
        np.subtract(ONE, y, y)
        np.multiply(g, y, g)


class Network(Contender):
    def __init__(self, workload: workloads.Network) -> None:
        flat = Flat(workload.initial)
        self.weights = flat.p
        self.optimizer = optimizer(flat, workload.optimizer)
        x = workload.batches[0][0]
        sizes = [b.size for b in workload.initial[1::2]]
        buffers = [with_ones(size, len(x)) for size in sizes[:-1]]
        outputs = [*(buffer[:-1] for buffer in buffers), empty(sizes[-1], len(x))]

        first: Dense | Wide = (
            Wide(*flat.p[:2], *flat.g[:2], outputs[0]) if x.size > 20_000
            else Dense(*flat.dense(0), outputs[0])
        )  # fmt: skip
        others = [
            Dense(*flat.dense(2 * i), z, h)
            for i, (z, h) in enumerate(zip(outputs[1:], buffers, strict=True), start=1)
        ]
        self.layers = [first, *others]
        self.hidden = list(zip([first, *others[:-1]], map(ReLU, outputs[:-1]), strict=True))
        self.backwards = list(
            zip(others[::-1], [relu for _, relu in self.hidden][::-1], strict=True)
        )
        self.sigmoid = Sigmoid(outputs[-1]) if workload.output == "sigmoid" else None
        loss = SoftmaxCrossEntropy if workload.loss == "cross_entropy" else SquaredError
        self.loss = loss(outputs[-1], self.optimizer.scale)

    def step(self, x: Floats, t: Any) -> np.float32:
        for layer, relu in self.hidden:
            layer.forward(x)
            relu.forward()
        self.layers[-1].forward(x)
        if self.sigmoid:
            self.sigmoid.forward()

        loss, g = self.loss(t), self.loss.g
        if self.sigmoid:
            self.sigmoid.backward(g)
        for layer, relu in self.backwards:
            g = layer.backward(g, x)
            relu.backward(g)
        self.layers[0].backward(g, x)
        self.optimizer.step()
        return loss
