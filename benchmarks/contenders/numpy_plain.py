"""Backprop by hand in plain NumPy, as someone who knows both would write it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.workloads import Floats


class SGD:
    def __init__(self, parameters: list[Floats], settings: workloads.SGD) -> None:
        self.parameters, self.lr, self.momentum = parameters, settings.lr, settings.momentum
        self.velocity = [np.zeros_like(p) for p in parameters]

    def step(self, gradients: Iterable[Floats]) -> None:
        for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
            if self.momentum:
                v *= self.momentum
                v += g
                g = v
            p -= self.lr * g


class Adam:
    def __init__(self, parameters: list[Floats], settings: workloads.Adam) -> None:
        self.parameters, self.settings, self.t = parameters, settings, 0
        self.m = [np.zeros_like(p) for p in parameters]
        self.v = [np.zeros_like(p) for p in parameters]

    def step(self, gradients: Iterable[Floats]) -> None:
        self.t += 1
        s = self.settings
        rate = s.lr / (1 - s.beta1**self.t)
        correction = 1 / (1 - s.beta2**self.t) ** 0.5
        for p, m, v, g in zip(self.parameters, self.m, self.v, gradients, strict=True):
            m *= s.beta1
            m += (1 - s.beta1) * g
            g2 = g * g
            g2 *= 1 - s.beta2
            v *= s.beta2
            v += g2
            root = np.sqrt(v)
            root *= correction
            root += s.eps
            update = m / root
            update *= rate
            p -= update


def optimizer(parameters: list[Floats], settings: workloads.SGD | workloads.Adam) -> SGD | Adam:
    """The optimizer of these `settings`, updating `parameters` in place."""
    if isinstance(settings, workloads.Adam):
        return Adam(parameters, settings)
    return SGD(parameters, settings)


def softmax_cross_entropy(z: Floats, t: NDArray[np.intp]) -> tuple[np.float32, Floats]:
    """Mean cross-entropy of logits `z` (N, K), overwritten; its gradient ``(p - onehot) / N``."""
    rows = np.arange(len(t))
    z -= z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    loss = np.log(total).mean() - z[rows, t].mean()
    e /= total
    e[rows, t] -= 1
    e /= len(t)
    return loss, e


def squared_error(y: Floats, t: Floats) -> tuple[np.float32, Floats]:
    """Mean squared error over all elements, and its gradient ``2 (y - t) / size``."""
    g = y - t
    loss = np.vdot(g, g) / g.size
    g *= 2 / g.size
    return loss, g


class Network(Contender):
    def __init__(self, workload: workloads.Network) -> None:
        self.workload = workload
        self.weights = [p.copy() for p in workload.initial]
        self.optimizer = optimizer(self.weights, workload.optimizer)

    def step(self, x: Floats, t: Any) -> np.float32:
        weights, biases = self.weights[::2], self.weights[1::2]
        hidden = [x]
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            z = hidden[-1] @ W
            z += b
            hidden.append(np.maximum(z, 0, out=z))
        y = hidden[-1] @ weights[-1]
        y += biases[-1]

        if self.workload.output == "sigmoid":
            y = 1 / (1 + np.exp(-y))
        loss, g = (
            softmax_cross_entropy(y, t) if self.workload.loss == "cross_entropy"
            else squared_error(y, t)
        )  # fmt: skip
        if self.workload.output == "sigmoid":
            g *= y * (1 - y)

        gradients = []
        for i in reversed(range(len(weights))):
            gradients += [g.sum(axis=0), hidden[i].T @ g]
            if i:
                g = g @ weights[i].T
                g *= hidden[i] > 0
        self.optimizer.step(reversed(gradients))
        return loss


class Chain(Contender):
    """One call an operation: nothing is gained from the chain's repeating itself."""

    def __init__(self, workload: workloads.Chain) -> None:
        self.cycles = workload.cycles
        self.weights = [p.copy() for p in workload.initial]
        self.optimizer = optimizer(self.weights, workload.optimizer)

    def step(self, x: Floats, t: Floats) -> np.float32:
        w, b = self.weights
        outputs = [x]
        for _ in range(self.cycles):
            x = x * w
            x += b
            np.tanh(x, out=x)
            np.maximum(x, 0, out=x)
            outputs.append(x)
        loss, g = squared_error(x, t)

        dw, db = np.zeros_like(w), np.zeros_like(b)
        y = outputs.pop()
        while outputs:
            x = outputs.pop()
            g *= y > 0
            g *= 1 - y * y  # where ReLU passed y on, y is tanh's output
            db += g
            dw += g * x
            g *= w
            y = x
        self.optimizer.step([dw, db])
        return loss


def windows(x: Floats, k: int) -> Floats:
    """The windows of (C, H, W, N) as columns (C k k, H' W' N)."""
    views = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
    C, H, W, N = views.shape[:4]
    return views.transpose(0, 4, 5, 1, 2, 3).reshape(C * k * k, H * W * N)


def pool(x: Floats) -> tuple[Floats, list[NDArray[np.bool_]]]:
    """2x2 maxima of (C, H, W, N), and for each place in a window where it was the first."""
    views = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    y = np.maximum(np.maximum(views[0], views[1]), np.maximum(views[2], views[3]))
    free, hits = np.ones(y.shape, bool), []
    for view in views:
        hits.append((view == y) & free)
        free &= ~hits[-1]
    return y, hits


def unpool(g: Floats, hits: list[NDArray[np.bool_]], shape: tuple[int, ...]) -> Floats:
    x = np.empty(shape, np.float32)
    for (i, j), hit in zip(((0, 0), (0, 1), (1, 0), (1, 1)), hits, strict=True):
        np.multiply(g, hit, out=x[:, i::2, j::2])
    return x


class LeNet(Contender):
    """Pictures lie as (C, H, W, N), so that a convolution is one matrix product."""

    def __init__(self, workload: workloads.LeNet) -> None:
        self.weights = [p.copy() for p in workload.initial]
        self.optimizer = optimizer(self.weights, workload.optimizer)

    def step(self, x: Floats, t: Any) -> np.float32:
        W1, b1, W2, b2, *dense = self.weights
        N = len(x)
        padded = np.zeros((1, 32, 32, N), np.float32)
        padded[:, 2:30, 2:30] = x.transpose(1, 2, 3, 0)

        columns1 = windows(padded, 5)
        z1 = W1.reshape(6, 25) @ columns1
        z1 += b1[:, None]
        z1 = np.maximum(z1, 0, out=z1).reshape(6, 28, 28, N)
        h1, hits1 = pool(z1)
        columns2 = windows(h1, 5)
        z2 = W2.reshape(16, 150) @ columns2
        z2 += b2[:, None]
        z2 = np.maximum(z2, 0, out=z2).reshape(16, 10, 10, N)
        h2, hits2 = pool(z2)

        hidden = [h2.reshape(400, N).T]
        for W, b in zip(dense[:-2:2], dense[1:-2:2], strict=True):
            z = hidden[-1] @ W
            z += b
            hidden.append(np.maximum(z, 0, out=z))
        loss, g = softmax_cross_entropy(hidden[-1] @ dense[-2] + dense[-1], t)
        gradients = []
        for i in reversed(range(3)):
            gradients += [g.sum(axis=0), hidden[i].T @ g]
            g = g @ dense[2 * i].T
            if i:
                g *= hidden[i] > 0

        g = unpool(g.T.reshape(h2.shape), hits2, z2.shape)
        g *= z2 > 0
        g = g.reshape(16, -1)
        gradients += [g.sum(axis=1), (g @ columns2.T).reshape(W2.shape)]
        seen = (W2.reshape(16, 150).T @ g).reshape(6, 5, 5, 10, 10, N)
        g = np.zeros_like(h1)
        for i in range(5):
            for j in range(5):
                g[:, i : i + 10, j : j + 10] += seen[:, i, j]
        g = unpool(g, hits1, z1.shape)
        g *= z1 > 0
        g = g.reshape(6, -1)
        gradients += [g.sum(axis=1), (g @ columns1.T).reshape(W1.shape)]
        self.optimizer.step(reversed(gradients))
        return loss


def layer_norm(x: Floats) -> tuple[Floats, Floats]:
    """Rows less their mean, over their deviation; and 1 over that."""
    h = x - x.mean(axis=1, keepdims=True)
    r = 1 / np.sqrt(np.vecdot(h, h)[:, None] / h.shape[1] + np.float32(1e-5))
    h *= r
    return h, r


def layer_norm_back(g: Any, h: Floats, r: Floats) -> Any:
    d = g - g.mean(axis=1, keepdims=True) - h * (np.vecdot(g, h)[:, None] / h.shape[1])
    d *= r
    return d


class Block(Contender):
    """Tokens lie as (N T, d), heads as (N, heads, T, d / heads)."""

    def __init__(self, workload: workloads.Block) -> None:
        self.heads = workload.heads
        self.weights = [p.copy() for p in workload.initial]
        self.optimizer = optimizer(self.weights, workload.optimizer)

    def step(self, x: Floats, t: Any) -> np.float32:
        g1, a1, Wq, Wk, Wv, Wo, bo, g2, a2, W1, b1, W2, b2 = self.weights
        N, T, d = x.shape

        def split(y: Any) -> Any:
            return y.reshape(N, T, self.heads, -1).transpose(0, 2, 1, 3)

        def join(y: Any) -> Any:
            return y.transpose(0, 2, 1, 3).reshape(N * T, d)

        x, t = x.reshape(N * T, d), t.reshape(N * T, d)
        scale = np.float32((d // self.heads) ** -0.5)

        n1 = layer_norm(x)[0]
        u = n1 * g1 + a1
        q, k, v = split(u @ (Wq * scale)), split(u @ Wk), split(u @ Wv)
        p = q @ k.mT
        p -= p.max(axis=-1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=-1, keepdims=True)
        o = join(p @ v)
        h = o @ Wo
        h += bo
        h += x
        n2, r2 = layer_norm(h)
        w = n2 * g2 + a2
        z = w @ W1
        z += b1
        c, cubic = np.float32(np.sqrt(2 / np.pi)), np.float32(0.044715)
        square = z * z
        gate = np.tanh(c * z * (1 + cubic * square))
        m = 0.5 * z * (1 + gate)
        y = m @ W2
        y += b2
        y += h
        loss, g = squared_error(y, t)

        db2, dW2 = g.sum(axis=0), m.T @ g
        dz = g @ W2.T
        dz *= 0.5 * (1 + gate + z * (1 - gate * gate) * (c * (1 + 3 * cubic * square)))
        db1, dW1 = dz.sum(axis=0), w.T @ dz
        dw = dz @ W1.T
        dg2, da2 = (dw * n2).sum(axis=0), dw.sum(axis=0)
        g += layer_norm_back(dw * g2, n2, r2)
        dbo, dWo = g.sum(axis=0), o.T @ g
        do = split(g @ Wo.T)
        dv = p.mT @ do
        ds = do @ v.mT
        ds -= np.vecdot(ds, p)[..., None]
        ds *= p
        dq, dk, dv = join(ds @ k), join(ds.mT @ q), join(dv)
        dq *= scale
        du = dq @ Wq.T + dk @ Wk.T + dv @ Wv.T
        self.optimizer.step(
            [(du * n1).sum(axis=0), du.sum(axis=0), u.T @ dq, u.T @ dk, u.T @ dv, dWo, dbo,
             dg2, da2, dW1, db1, dW2, db2]
        )  # fmt: skip
        return loss
