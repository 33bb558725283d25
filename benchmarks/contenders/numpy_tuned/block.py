"""The attention block on rows of tokens, in which products of this size are faster.

Scale and shift of a layer norm are part of the weights after it: ``(n * g + a) @ W + b`` is
``n @ (g[:, None] * W) + (a @ W + b)``, with gradients from those of the folded weights. So the
norm's output is not scaled, and nobody needs its cotangent where it stands first. Scores are kept
as (keys, queries), where a reduction over the keys runs along memory.
"""

from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.contenders.numpy_tuned.shared import ONE, Flat, constant, empty, optimizer
from benchmarks.workloads import Floats


class Norm:
    """``n = (x - mean) / deviation`` of rows (M, d), then ``n @ W + b`` with folded weights."""

    def __init__(self, rows: int, width: int, outputs: int) -> None:
        self.n, self.work, self.dx = empty(3, rows, width)
        self.mean, self.ones = np.full(width, 1 / width, np.float32), np.ones(rows, np.float32)
        self.middle, self.r = empty(2, rows)
        self.middle_column, self.r_column = self.middle[:, None], self.r[:, None]
        self.W, self.dW, self.product = empty(3, width, outputs)
        self.b, self.db = empty(2, outputs)
        self.eps = constant(1e-5)

    def fold(self, g: Floats, a: Floats, W: Floats) -> None:
        a.dot(W, self.b)
        np.multiply(W, g[:, None], self.W)

    def unfold(self, g: Floats, a: Floats, W: Floats, dg: Floats, da: Floats, dW: Floats) -> None:
        """Gradients of what was folded, from those of the folded weights."""
        W.dot(self.db, da)
        np.multiply(self.dW, W, self.product)
        np.add.reduce(self.product, 1, None, dg)
        np.multiply(self.dW, g[:, None], dW)
        np.multiply(a[:, None], self.db, self.product)
        np.add(dW, self.product, dW)

    def forward(self, x: Floats, z: Floats) -> None:
        n, square, middle, r = self.n, self.work, self.middle, self.r
        x.dot(self.mean, middle)
        np.subtract(x, self.middle_column, n)
        np.multiply(n, n, square)
        square.dot(self.mean, r)
        np.add(r, self.eps, r)
        np.sqrt(r, r)
        np.divide(ONE, r, r)
        np.multiply(n, self.r_column, n)
        n.dot(self.W, z)
        np.add(z, self.b, z)

    def weight_gradient(self, dz: Floats) -> None:
        self.n.T.dot(dz, self.dW)
        self.ones.dot(dz, self.db)

    def x_gradient(self, dz: Floats) -> Floats:
        n, dx, work, middle = self.n, self.dx, self.work, self.middle
        dz.dot(self.W.T, dx)
        np.multiply(dx, n, work)
        dx.dot(self.mean, middle)
        np.subtract(dx, self.middle_column, dx)
        work.dot(self.mean, middle)
        np.multiply(n, self.middle_column, work)
        np.subtract(dx, work, dx)
        return np.multiply(dx, self.r_column, dx)


class Halving:
    """Reduces axis -2 by taking its halves together: long runs, several times as fast."""

    def __init__(self, x: Floats) -> None:
        self.x, length = x, x.shape[-2]
        if length & (length - 1):
            raise ValueError(f"halving needs a power of 2, got {length}")
        self.parts = []
        while length > 1:
            length //= 2
            self.parts.append(empty(*x.shape[:-2], length, x.shape[-1]))

    def __call__(self, ufunc: np.ufunc) -> Floats:
        x = self.x
        for part in self.parts:
            half = part.shape[-2]
            x = ufunc(x[..., :half, :], x[..., half:, :], out=part)
        return x


class Attention:
    """Of joined queries, keys and values (M, 3 d); `y` (M, d) is the heads' joined output.

    A few samples at a time, whose scores stay in the cache.
    """

    piece = 4

    def __init__(self, N: int, T: int, d: int, heads: int) -> None:
        k, piece = d // heads, min(self.piece, N)

        def split(joined: Floats) -> Any:
            return joined.reshape(N, T, heads, k).transpose(0, 2, 1, 3)

        self.joined, self.djoined = empty(2, N * T, 3 * d)
        self.y, self.dy, self.work = empty(3, N * T, d)
        self.products, self.ones = self.work.reshape(-1, k), np.ones(k, np.float32)
        self.sums = empty(N * T * heads)
        sums = self.sums.reshape(N, T, heads).transpose(0, 2, 1)[:, :, None]
        whole = [*map(split, np.split(self.joined, 3, axis=1)), split(self.y), split(self.dy),
                 *map(split, np.split(self.djoined, 3, axis=1)), empty(N, heads, T, T), sums]  # fmt: skip
        ends = range(piece, N, piece)
        self.pieces = list(zip(*(np.split(array, ends) for array in whole), strict=True))
        self.scores = empty(piece, heads, T, T)  # (keys, queries)
        self.over_keys = Halving(self.scores)

    def forward(self) -> Floats:
        for q, k, v, y, _, _, _, _, p, _ in self.pieces:
            s = np.matmul(k, q.mT, out=self.scores)
            np.subtract(s, self.over_keys(np.maximum), s)
            np.exp(s, s)
            total = self.over_keys(np.add)
            np.multiply(s, np.divide(ONE, total, total), p)
            np.matmul(p.mT, v, out=y)
        return self.y

    def backward(self) -> Floats:
        """From `dy` that of the joined inputs."""
        np.multiply(self.dy, self.y, self.work)  # its sum over a head is that of p * dp over keys
        self.products.dot(self.ones, self.sums)
        for q, k, v, _, dy, dq, dk, dv, p, sums in self.pieces:
            np.matmul(p, dy, out=dv)
            d = np.matmul(v, dy.mT, out=self.scores)
            np.subtract(d, sums, d)
            np.multiply(d, p, d)
            np.matmul(d.mT, k, out=dq)
            np.matmul(d, q, out=dk)
        return self.djoined


class GELU:
    """``y = z (1 + tanh(u))``, ``u = c z + 0.044715 c z ** 3``: without the factor 1/2.

    In pieces of so many rows that all arrays of a piece stay in the cache.
    """

    piece = 128

    def __init__(self, rows: int, width: int) -> None:
        c = np.sqrt(2 / np.pi)
        self.z, self.y, self.slope = empty(3, rows, width)
        ends = range(self.piece, rows, self.piece)
        arrays = (np.split(a, ends) for a in (self.z, self.y, self.slope))
        self.pieces = list(zip(*arrays, strict=True))
        self.tanh, self.work = empty(2, min(rows, self.piece), width)
        self.c, self.cubic, self.three = constant(c), constant(0.044715 * c), constant(3)

    def forward(self) -> Floats:
        for z, y, slope in self.pieces:
            tanh, work = self.tanh[: len(z)], self.work[: len(z)]
            np.multiply(z, z, slope)
            np.multiply(slope, self.cubic, slope)
            np.add(slope, self.c, tanh)
            np.multiply(tanh, z, tanh)
            np.tanh(tanh, tanh)
            # The slope is (1 + tanh) + y (1 - tanh) u', and u' = c + 3 * 0.044715 c z ** 2.
            np.multiply(slope, self.three, slope)
            np.add(slope, self.c, slope)
            np.subtract(ONE, tanh, work)
            np.multiply(slope, work, slope)
            np.add(tanh, ONE, tanh)
            np.multiply(z, tanh, y)
            np.multiply(slope, y, slope)
            np.add(slope, tanh, slope)
        return self.y


class Block(Contender):
    def __init__(self, workload: workloads.Block) -> None:
        g1, a1, Wq, Wk, Wv, *others = workload.initial
        N, T, d = workload.batches[0][0].shape
        inner, heads = others[-4].shape[1], workload.heads
        self.flat = Flat([g1, a1, np.concatenate([Wq, Wk, Wv], axis=1), *others])
        self.optimizer = optimizer(self.flat, workload.optimizer)
        self.first = Norm(N * T, d, 3 * d)
        self.of_queries = [a[..., :d] for a in (self.first.W, self.first.b)]
        self.dqueries = [a[..., :d] for a in (self.first.dW, self.first.db)]
        self.score = constant((d // heads) ** -0.5)
        self.attention = Attention(N, T, d, heads)
        self.second = Norm(N * T, d, inner)
        self.gelu = GELU(N * T, inner)
        self.h, self.g, self.dh = empty(3, N * T, d)
        self.dz, self.half, self.halved = empty(N * T, inner), constant(0.5), empty(inner, d)
        self.ones = np.ones(N * T, np.float32)
        self.scale = constant(2 * self.optimizer.scale / self.g.size)

    def step(self, x: Floats, t: Any) -> np.float32:
        g1, a1, Wqkv, Wo, bo, g2, a2, W1, b1, W2, b2 = self.flat.p
        dg1, da1, dWqkv, dWo, dbo, dg2, da2, dW1, db1, dW2, db2 = self.flat.g
        first, second, attention, gelu = self.first, self.second, self.attention, self.gelu
        h, g, dh, dz = self.h, self.g, self.dh, self.dz
        x, t = x.reshape(h.shape), t.reshape(h.shape)

        first.fold(g1, a1, Wqkv)
        for part in self.of_queries:
            np.multiply(part, self.score, part)
        first.forward(x, attention.joined)
        attention.forward().dot(Wo, h)
        np.add(h, bo, h)
        np.add(h, x, h)
        second.fold(g2, a2, W1)
        np.add(second.b, b1, second.b)
        second.forward(h, gelu.z)
        m = gelu.forward()
        np.multiply(W2, self.half, self.halved)
        m.dot(self.halved, g)
        np.add(g, b2, g)
        np.add(g, h, g)
        np.subtract(g, t, g)
        flat = g.reshape(-1)
        loss = flat.dot(flat) / g.size
        np.multiply(g, self.scale, g)

        m.T.dot(g, dW2)
        np.multiply(dW2, self.half, dW2)
        self.ones.dot(g, db2)
        g.dot(self.halved.T, dz)
        np.multiply(dz, gelu.slope, dz)
        second.weight_gradient(dz)
        second.unfold(g2, a2, W1, dg2, da2, dW1)
        db1[:] = second.db
        np.add(g, second.x_gradient(dz), dh)
        attention.y.T.dot(dh, dWo)
        self.ones.dot(dh, dbo)
        dh.dot(Wo.T, attention.dy)
        first.weight_gradient(attention.backward())
        for part in self.dqueries:
            np.multiply(part, self.score, part)
        first.unfold(g1, a1, Wqkv, dg1, da1, dWqkv)
        self.optimizer.step()
        return loss

    def parameters(self) -> list[Floats]:
        g1, a1, Wqkv, *others = self.flat.p
        return [g1, a1, *np.split(Wqkv, 3, axis=1), *others]
