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
    """``n = (x - mean) / deviation`` of rows (M, d), followed by a product with weights (d, out).

    ``n`` has a last column of ones, and the folded weights a last row, the bias.
    """

    def __init__(self, rows: int, width: int, outputs: int, scale: Floats) -> None:
        self.ones = np.ones((rows, width + 1), np.float32)
        self.n = self.ones[:, :-1]
        self.mean, self.scale = np.full(width, 1 / width, np.float32), scale
        self.middle, self.r = empty(2, rows)
        self.middle_column, self.r_column = self.middle[:, None], self.r[:, None]
        self.work, self.dx = empty(2, rows, width)
        self.Wb, self.dWb = empty(2, width + 1, outputs)
        self.eps = constant(1e-5)

    def fold(self, g: Floats, a: Floats, W: Floats) -> None:
        """The weights with `g`, `a` and `scale`, one factor a column."""
        Wb = self.Wb
        np.multiply(W, self.scale, Wb[:-1])
        a.dot(Wb[:-1], Wb[-1])
        np.multiply(Wb[:-1], g[:, None], Wb[:-1])

    def unfold(self, g: Floats, a: Floats, W: Floats, dg: Floats, da: Floats, dW: Floats) -> Floats:
        """Gradients of what was folded, from that of the product; returns the bias's."""
        dWb = np.multiply(self.dWb, self.scale, self.dWb)
        dV, db = dWb[:-1], dWb[-1]
        np.multiply(a[:, None], db, dW)
        W.dot(db, da)
        np.add(dW, dV * g[:, None], dW)
        np.add.reduce(np.multiply(dV, W, dV), 1, None, dg)
        return db

    def forward(self, x: Floats, z: Floats) -> None:
        d, square = self.work, self.dx
        x.dot(self.mean, self.middle)
        np.subtract(x, self.middle_column, d)
        np.multiply(d, d, square)
        square.dot(self.mean, self.r)
        np.add(self.r, self.eps, self.r)
        np.sqrt(self.r, self.r)
        np.divide(ONE, self.r, self.r)
        np.multiply(d, self.r_column, self.n)
        self.ones.dot(self.Wb, z)

    def weight_gradient(self, dz: Floats) -> None:
        self.ones.T.dot(dz, self.dWb)

    def x_gradient(self, dz: Floats) -> Floats:
        n, dx, work, middle = self.n, self.dx, self.work, self.middle
        dz.dot(self.Wb[:-1].T, dx)
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
    """Of joined queries, keys and values (M, 3 d); `y` (M, d) is the heads' joined output."""

    def __init__(self, N: int, T: int, d: int, heads: int) -> None:
        k = d // heads

        def split(joined: Floats) -> Any:
            return joined.reshape(N, T, heads, k).transpose(0, 2, 1, 3)

        self.joined, self.djoined = empty(2, N * T, 3 * d)
        self.q, self.k, self.v = (split(part) for part in np.split(self.joined, 3, axis=1))
        self.dq, self.dk, self.dv = (split(part) for part in np.split(self.djoined, 3, axis=1))
        self.y, self.dy, self.work = empty(3, N * T, d)
        self.heads, self.dheads = split(self.y), split(self.dy)
        self.p, self.dp = empty(2, N, heads, T, T)  # (keys, queries)
        self.over_keys = Halving(self.p)
        self.products, self.ones = self.work.reshape(-1, k), np.ones(k, np.float32)
        self.sums = empty(N * T * heads)
        self.sums_by_head = self.sums.reshape(N, T, heads).transpose(0, 2, 1)[:, :, None]

    def forward(self) -> Floats:
        p = np.matmul(self.k, self.q.mT, out=self.p)
        np.subtract(p, self.over_keys(np.maximum), p)
        np.exp(p, p)
        total = self.over_keys(np.add)
        np.multiply(p, np.divide(ONE, total, total), p)
        np.matmul(p.mT, self.v, out=self.heads)
        return self.y

    def backward(self) -> Floats:
        """From `dy` that of the joined inputs."""
        np.multiply(self.dy, self.y, self.work)  # its sum over a head is that of p * dp over keys
        self.products.dot(self.ones, self.sums)
        np.matmul(self.p, self.dheads, out=self.dv)
        d = np.matmul(self.v, self.dheads.mT, out=self.dp)
        np.subtract(d, self.sums_by_head, d)
        np.multiply(d, self.p, d)
        np.matmul(d.mT, self.k, out=self.dq)
        np.matmul(d, self.q, out=self.dk)
        return self.djoined


class GELU:
    """``y = z (1 + tanh(u))``, ``u = c z + 0.044715 c z ** 3``: without the factor 1/2."""

    def __init__(self, rows: int, width: int) -> None:
        c = np.sqrt(2 / np.pi)
        self.z, self.y, self.slope, self.tanh, self.work = empty(5, rows, width)
        self.c, self.cubic, self.three = constant(c), constant(0.044715 * c), constant(3)

    def forward(self) -> Floats:
        z, y, slope, tanh, work = self.z, self.y, self.slope, self.tanh, self.work
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
        return y


class Block(Contender):
    def __init__(self, workload: workloads.Block) -> None:
        g1, a1, Wq, Wk, Wv, *others = workload.initial
        N, T, d = workload.batches[0][0].shape
        inner, heads = others[-4].shape[1], workload.heads
        self.flat = Flat([g1, a1, np.concatenate([Wq, Wk, Wv], axis=1), *others])
        self.optimizer = optimizer(self.flat, workload.optimizer)
        scores = np.repeat(constant((d // heads) ** -0.5), d)
        self.first = Norm(N * T, d, 3 * d, np.concatenate([scores, np.ones(2 * d, np.float32)]))
        self.attention = Attention(N, T, d, heads)
        self.second = Norm(N * T, d, inner, ONE)
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
        first.forward(x, attention.joined)
        attention.forward().dot(Wo, h)
        np.add(h, bo, h)
        np.add(h, x, h)
        second.fold(g2, a2, W1)
        np.add(second.Wb[-1], b1, second.Wb[-1])
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
        db1[:] = second.unfold(g2, a2, W1, dg2, da2, dW1)
        np.add(g, second.x_gradient(dz), dh)
        attention.y.T.dot(dh, dWo)
        self.ones.dot(dh, dbo)
        dh.dot(Wo.T, attention.dy)
        first.weight_gradient(attention.backward())
        first.unfold(g1, a1, Wqkv, dg1, da1, dWqkv)
        self.optimizer.step()
        return loss

    def parameters(self) -> list[Floats]:
        g1, a1, Wqkv, *others = self.flat.p
        return [g1, a1, *np.split(Wqkv, 3, axis=1), *others]
