"""LeNet on activations (H, C, W, N), a row of the convolution's output being one matrix product.

Bias and ReLU come after the pooling, on a quarter of the numbers; the maximum of ``z + b`` is that
of ``z``, plus ``b``.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.contenders.numpy_tuned.shared import (
    ZERO,
    Dense,
    Flat,
    ReLU,
    SoftmaxCrossEntropy,
    empty,
    optimizer,
    with_ones,
)
from benchmarks.workloads import Floats


class Convolution:
    """Valid convolution of `x` (H, C, W, N) with weights (O, C, k, k), for all its rows at once.

    Copies are made of the k shifts along a row only. The columns for a row of the output are then
    k rows of copies, which lie one after another: overlapping views, a matrix each. Along a row
    even places come before odd ones, which makes the pairs of the pooling two long runs.
    """

    def __init__(self, x: Floats, outputs: int, k: int) -> None:
        (H, C, W, N), (down, across, right, next_) = x.shape, x.strides
        rows, width = H - k + 1, W - k + 1
        self.x, self.k, self.shape = x, k, (rows, outputs, 2, width // 2, N)
        self.copies = empty(H, C, k, 2, width // 2, N)
        self.shifts = as_strided(
            x, self.copies.shape, (down, across, right, right, 2 * right, next_)
        )
        row, run = self.copies.strides[0], width * N
        self.columns = as_strided(self.copies, (rows, k * C * k, run), (row, 4 * run, 4))
        self.W, self.z = empty(outputs, k, C, k), empty(rows, outputs, run)
        # The cotangent of z has k - 1 rows of zeros above and below, for `x_gradient`.
        self.padded = np.zeros((rows + 2 * (k - 1), outputs, run), np.float32)
        self.g = self.padded[k - 1 : k - 1 + rows]
        self.parts, self.dW = empty(rows, k * C * k, outputs), empty(k * C * k, outputs)

        row = self.padded.strides[0]
        self.cotangents = as_strided(self.padded, (H, k * outputs, run), (row, 4 * run, 4))
        self.flipped, self.dcopies = empty(C, k, k, outputs), empty(H, C * k, run)
        self.dx = empty(H, C, W, N)

    def forward(self, W: Floats) -> None:
        np.copyto(self.copies, self.shifts)
        np.copyto(self.W, W.transpose(0, 2, 1, 3))
        np.matmul(self.W.reshape(len(W), -1), self.columns, out=self.z)

    def weight_gradient(self, dW: Floats) -> None:
        # In this order twice as fast as cotangents times columns.
        np.matmul(self.columns, self.g.mT, out=self.parts)
        np.add.reduce(self.parts, 0, None, self.dW)
        outputs, C, k, _ = dW.shape
        np.copyto(dW, self.dW.T.reshape(outputs, k, C, k).transpose(0, 2, 1, 3))

    def x_gradient(self, W: Floats) -> Floats:
        """Summed over the kernel's rows within a product, and over its columns after it."""
        outputs, C, k, _ = W.shape
        np.copyto(self.flipped, W[:, :, ::-1].transpose(1, 3, 2, 0))
        np.matmul(self.flipped.reshape(C * k, k * outputs), self.cotangents, out=self.dcopies)
        H, _, width, N = self.x.shape
        half = self.shape[3]
        d = self.dcopies.reshape(H, C, k, 2, half, N)
        dx = self.dx.reshape(H, C, width // 2, 2, N)
        self.dx.fill(0)
        for column in range(k):
            for odd in (0, 1):
                start, parity = divmod(column + odd, 2)
                place = dx[:, :, start : start + half, parity]
                np.add(place, d[:, :, column, odd], place)
        return self.dx


class Pooling:
    """2x2 maxima, first along the row and then of the two rows, plus bias, then ReLU.

    Of equal ones the first counts, in the order of reading.
    """

    def __init__(self, convolution: Convolution) -> None:
        rows, outputs, _, half, N = shape = convolution.shape
        self.left, self.right = np.moveaxis(convolution.z.reshape(shape), 2, 0)
        self.dleft, self.dright = np.moveaxis(convolution.g.reshape(shape), 2, 0)
        self.pairs = empty(rows, outputs, half, N)
        self.upper, self.lower = np.moveaxis(self.pairs.reshape(-1, 2, outputs, half, N), 1, 0)
        self.y = empty(rows // 2, outputs, half, N)
        self.zeros, self.ones = np.zeros((half, N), np.float32), np.ones(half * N, np.float32)
        self.is_left, self.is_upper = np.empty(self.pairs.shape, bool), np.empty(self.y.shape, bool)
        self.live, self.sums = np.empty(self.y.shape, bool), empty(rows // 2, outputs)

    def forward(self, b: Floats) -> Floats:
        np.maximum(self.left, self.right, out=self.pairs)
        np.maximum(self.upper, self.lower, out=self.y)
        np.add(self.y, b[:, None, None], self.y)
        return np.maximum(self.y, self.zeros, out=self.y)

    def backward(self, g: Floats, db: Floats) -> None:
        """Overwrites `g`, the cotangent of `y`, and `pairs`."""
        np.greater(self.y, ZERO, self.live)
        np.multiply(g, self.live, g)
        g.reshape(*self.sums.shape, -1).dot(self.ones, self.sums)
        np.add.reduce(self.sums, 0, None, db)
        np.greater_equal(self.upper, self.lower, self.is_upper)
        np.greater_equal(self.left, self.right, self.is_left)
        np.multiply(g, self.is_upper, self.upper)
        np.subtract(g, self.upper, self.lower)
        np.multiply(self.pairs, self.is_left, self.dleft)
        np.subtract(self.pairs, self.dleft, self.dright)


class LeNet(Contender):
    def __init__(self, workload: workloads.LeNet) -> None:
        self.flat = flat = Flat(workload.initial)
        self.weights = flat.p
        self.optimizer = optimizer(flat, workload.optimizer)
        N = len(workload.batches[0][0])
        self.padded = np.zeros((32, 1, 32, N), np.float32)
        self.first = Convolution(self.padded, 6, 5)
        self.first_pooling = Pooling(self.first)
        self.second = Convolution(self.first_pooling.y, 16, 5)
        self.second_pooling = Pooling(self.second)
        self.dh = np.empty_like(self.second_pooling.y)

        sizes = [W.shape for W in workload.initial[4::2]]
        buffers = [with_ones(inputs, N) for inputs, _ in sizes]
        self.flattened = buffers[0][:-1].reshape(16, 5, 5, N)
        outputs = [*(buffer[:-1] for buffer in buffers[1:]), empty(10, N)]
        self.dense = [
            Dense(*flat.dense(4 + 2 * i), z, h)
            for i, (z, h) in enumerate(zip(outputs, buffers, strict=True))
        ]
        self.relus = [ReLU(z) for z in outputs[:-1]]
        self.loss = SoftmaxCrossEntropy(outputs[-1], self.optimizer.scale)

    def step(self, x: Floats, t: NDArray[Any]) -> np.float32:
        (W1, b1, W2, b2), (dW1, db1, dW2, db2) = self.flat.p[:4], self.flat.g[:4]
        np.copyto(self.padded[2:30, :, 2:30], x.transpose(2, 1, 3, 0))
        self.first.forward(W1)
        self.first_pooling.forward(b1)
        self.second.forward(W2)
        np.copyto(self.flattened, self.second_pooling.forward(b2).transpose(1, 0, 2, 3))
        for layer, relu in zip(self.dense[:-1], self.relus, strict=True):
            layer.forward(x)
            relu.forward()
        self.dense[-1].forward(x)

        loss, g = self.loss(t), self.loss.g
        for layer, relu in zip(self.dense[:0:-1], self.relus[::-1], strict=True):
            g = layer.backward(g, x)
            relu.backward(g)
        g = self.dense[0].backward(g, x).reshape(self.flattened.shape)

        np.copyto(self.dh, g.transpose(1, 0, 2, 3))
        self.second_pooling.backward(self.dh, db2)
        self.second.weight_gradient(dW2)
        self.first_pooling.backward(self.second.x_gradient(W2), db1)
        self.first.weight_gradient(dW1)
        self.optimizer.step()
        return loss
