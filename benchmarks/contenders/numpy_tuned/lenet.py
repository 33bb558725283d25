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
    """Valid convolution of `x` (H, C, W, N) with weights (O, C, k, k), 2x2 maxima, bias, ReLU.

    A few rows at a time, which stay in the cache until they are pooled. Copies are made of the k
    shifts along a row only: the columns for a row of the convolution are then k rows of copies,
    which lie one after another. Along a row even places come before odd ones, so that the pairs of
    the pooling are two long runs. Of equal ones in a window the first counts, as one reads.
    """

    def __init__(self, x: Floats, outputs: int, k: int, block: int) -> None:
        (H, C, W, N), (down, across, right, next_) = x.shape, x.strides
        rows, half, run = H - k + 1, (W - k + 1) // 2, (W - k + 1) * N
        self.x, self.k, self.half = x, k, half
        self.copies = empty(H, C, k, 2, half, N)
        self.shifts = as_strided(
            x, self.copies.shape, (down, across, right, right, 2 * right, next_)
        )
        step = self.copies.strides[0]
        columns = as_strided(self.copies, (rows, k * C * k, run), (step, 4 * run, 4))
        self.W, self.parts = empty(outputs, k, C, k), empty(rows, k * C * k, outputs)
        self.dW = empty(k * C * k, outputs)

        self.y = empty(rows // 2, outputs, half, N)
        self.zeros, self.ones = np.zeros((half, N), np.float32), np.ones(half * N, np.float32)
        self.live, self.sums = np.empty(self.y.shape, bool), empty(rows // 2, outputs)
        # The cotangent before pooling has k - 1 rows of zeros above and below, for `x_gradient`.
        self.padded = np.zeros((rows + 2 * (k - 1), outputs, run), np.float32)
        g = self.padded[k - 1 : k - 1 + rows]

        self.z, self.pairs = empty(block, outputs, run), empty(block, outputs, half, N)
        self.left, self.right = np.moveaxis(self.z.reshape(block, outputs, 2, half, N), 2, 0)
        self.upper, self.lower = np.moveaxis(self.pairs.reshape(-1, 2, outputs, half, N), 1, 0)
        is_left, is_upper = np.empty((rows, *self.y.shape[1:]), bool), np.empty(self.y.shape, bool)
        self.blocks = []
        for start in range(0, rows, block):
            these, pooled = slice(start, start + block), slice(start // 2, (start + block) // 2)
            dleft, dright = np.moveaxis(g[these].reshape(block, outputs, 2, half, N), 2, 0)
            self.blocks.append(
                (columns[these], is_left[these], is_upper[pooled], self.y[pooled], pooled,
                 g[these].mT, dleft, dright, self.parts[these])
            )  # fmt: skip

        step = self.padded.strides[0]
        self.cotangents = as_strided(self.padded, (H, k * outputs, run), (step, 4 * run, 4))
        self.flipped, self.dcopies = empty(C, k, k, outputs), empty(H, C * k, run)
        self.dx = empty(H, C, W, N)

    def forward(self, W: Floats, b: Floats) -> Floats:
        np.copyto(self.copies, self.shifts)
        np.copyto(self.W, W.transpose(0, 2, 1, 3))
        W = self.W.reshape(len(W), -1)
        left, right, upper, lower = self.left, self.right, self.upper, self.lower
        for columns, is_left, is_upper, y, *_ in self.blocks:
            np.matmul(W, columns, out=self.z)
            np.greater_equal(left, right, is_left)
            np.maximum(left, right, out=self.pairs)
            np.greater_equal(upper, lower, is_upper)
            np.maximum(upper, lower, out=y)
        np.add(self.y, b[:, None, None], self.y)
        return np.maximum(self.y, self.zeros, out=self.y)

    def backward(self, g: Floats, dW: Floats, db: Floats) -> None:
        """From the cotangent `g` of the result, which is overwritten."""
        np.greater(self.y, ZERO, self.live)
        np.multiply(g, self.live, g)
        g.reshape(*self.sums.shape, -1).dot(self.ones, self.sums)
        np.add.reduce(self.sums, 0, None, db)
        pairs, upper, lower = self.pairs, self.upper, self.lower
        for columns, is_left, is_upper, _, pooled, dzT, dleft, dright, part in self.blocks:
            np.multiply(g[pooled], is_upper, upper)
            np.subtract(g[pooled], upper, lower)
            np.multiply(pairs, is_left, dleft)
            np.subtract(pairs, dleft, dright)
            np.matmul(columns, dzT, out=part)  # in the other order it takes twice as long
        np.add.reduce(self.parts, 0, None, self.dW)
        outputs, C, k, _ = dW.shape
        np.copyto(dW, self.dW.T.reshape(outputs, k, C, k).transpose(0, 2, 1, 3))

    def x_gradient(self, W: Floats) -> Floats:
        """Summed over the kernel's rows within a product, and over its columns after it."""
        outputs, C, k, _ = W.shape
        np.copyto(self.flipped, W[:, :, ::-1].transpose(1, 3, 2, 0))
        np.matmul(self.flipped.reshape(C * k, k * outputs), self.cotangents, out=self.dcopies)
        H, _, width, N = self.x.shape
        d = self.dcopies.reshape(H, C, k, 2, self.half, N)
        dx = self.dx.reshape(H, C, width // 2, 2, N)
        self.dx.fill(0)
        for column in range(k):
            for odd in (0, 1):
                start, parity = divmod(column + odd, 2)
                place = dx[:, :, start : start + self.half, parity]
                np.add(place, d[:, :, column, odd], place)
        return self.dx


class LeNet(Contender):
    def __init__(self, workload: workloads.LeNet) -> None:
        self.flat = flat = Flat(workload.initial)
        self.weights = flat.p
        self.optimizer = optimizer(flat, workload.optimizer)
        N = len(workload.batches[0][0])
        self.padded = np.zeros((32, 1, 32, N), np.float32)
        self.first = Convolution(self.padded, 6, 5, block=4)
        self.second = Convolution(self.first.y, 16, 5, block=2)
        self.dh = np.empty_like(self.second.y)

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
        self.first.forward(W1, b1)
        np.copyto(self.flattened, self.second.forward(W2, b2).transpose(1, 0, 2, 3))
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
        self.second.backward(self.dh, dW2, db2)
        self.first.backward(self.second.x_gradient(W2), dW1, db1)
        self.optimizer.step()
        return loss
