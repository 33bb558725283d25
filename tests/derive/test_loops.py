"""Recurrences and stacks of layers as Python loops: what is printed, and that it computes the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np import tree

from .test_golden import body

r = np.random.default_rng(3)


def parameter(*shape: int) -> tg.Tensor:
    return tg.Tensor(0.5 * r.normal(size=shape), requires_grad=True)


def agrees(d: Any, f: Callable[..., Any], *inputs: Any, tolerance: float = 1e-9) -> None:
    """The source, run in a namespace of its own, gives the value and the gradients of the engine."""
    variables = [
        one for one in tree.leaves(list(inputs)) if isinstance(one, tg.Tensor) and one.requires_grad
    ]
    for one in variables:
        one.grad = None
    loss = f(*inputs)
    loss.backward()
    space: dict[str, Any] = {}
    exec(d.source, space)
    value, gradients = space[d.name](**d.arguments)
    np.testing.assert_allclose(value, loss.data, rtol=tolerance)
    assert len(gradients) == len(variables)
    unrolled = tg.derive(f, *inputs, loops=False)
    names = {id(step.value): step.name or name for name, step in unrolled.layout.arguments.items()}
    for one in variables:
        mine = gradients[names[id(one.data)]]
        expected = one.grad if one.grad is not None else np.zeros_like(one.data)
        assert np.shape(mine) == expected.shape
        assert np.asarray(mine).dtype == expected.dtype
        scale = max(1.0, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(mine, expected, rtol=tolerance, atol=tolerance * scale)


# -- word for word ---------------------------------------------------------------------------------


def rnn(x, h, t, U, W, b):
    for k in range(x.shape[1]):
        h = np.tanh(x[:, k] @ U + h @ W + b)
    return tg.mean_squared_error(h, t)


def rnn_inputs(steps: int = 10) -> tuple[Any, ...]:
    return (
        r.normal(size=(8, steps, 4)), np.zeros((8, 5)), r.normal(size=(8, 5)),
        parameter(4, 5), parameter(5, 5), parameter(5),
    )  # fmt: skip


RNN = """hs = [h]
for k in range(10):
    z = x[:, k] @ U + hs[k] @ W + b
    hs.append(np.tanh(z))
loss = np.mean((hs[-1] - t) ** 2)

# Backward
dU = np.zeros_like(U)
dW = np.zeros_like(W)
db = np.zeros_like(b)
dh = 2 * (hs[-1] - t) / hs[-1].size
for k in reversed(range(10)):
    dz = dh * (1 - hs[k + 1] ** 2)
    dU += x[:, k].T @ dz
    dW += hs[k].T @ dz
    db += dz.sum(axis=0)
    dh = dz @ W.T
return loss, {"U": dU, "W": dW, "b": db}"""


def test_a_recurrent_network() -> None:
    inputs = rnn_inputs()
    d = tg.derive(rnn, *inputs)
    assert body(d) == RNN
    agrees(d, rnn, *inputs)


def test_the_number_of_steps_does_not_change_the_number_of_lines() -> None:
    inputs = rnn_inputs(200)
    few, many = tg.derive(rnn, *rnn_inputs(10)), tg.derive(rnn, *inputs)
    assert few.source.replace("range(10)", "range(200)") == many.source
    for text in ("text", "latex", "markdown"):
        assert len(getattr(few, text).split("\n")) == len(getattr(many, text).split("\n"))
    agrees(many, rnn, *inputs)


def predictor(x, t, h, U, W, V, c):
    loss = 0.0
    for k in range(len(x)):
        h = np.tanh(x[k] @ U + h @ W)
        y = h @ V + c
        loss = loss + tg.softmax_cross_entropy(y, t[k])
    return loss


def test_a_loss_at_each_step() -> None:
    inputs = (
        r.normal(size=(5, 8, 4)), r.integers(3, size=(5, 8)), parameter(8, 2),
        parameter(4, 2), parameter(2, 2), parameter(2, 3), parameter(3),
    )  # fmt: skip
    d = tg.derive(predictor, *inputs)
    assert body(d) == """hs = [h]
loss = 0.0
p = []
for k in range(5):
    z = x[k] @ U + hs[k] @ W
    hs.append(np.tanh(z))
    y = hs[k + 1] @ V + c
    p.append(softmax(y))
    loss -= np.mean(log_softmax(y)[np.arange(8), t[k]])

# Backward
dV = np.zeros_like(V)
dc = np.zeros_like(c)
dU = np.zeros_like(U)
dW = np.zeros_like(W)
dh = np.zeros_like(hs[-1])
for k in reversed(range(5)):
    dy = 0.125 * (p[k] - onehot(t[k]))
    dV += hs[k + 1].T @ dy
    dc += dy.sum(axis=0)
    dh = dh + dy @ V.T
    dz = dh * (1 - hs[k + 1] ** 2)
    dU += x[k].T @ dz
    dW += hs[k].T @ dz
    dh = dz @ W.T
return loss, {"h": dh, "U": dU, "W": dW, "V": dV, "c": dc}"""
    agrees(d, predictor, *inputs)


def lstm(x, t, h, c, Wx, Wh, b):
    n = h.shape[1]
    for k in range(len(x)):
        a = x[k] @ Wx + h @ Wh + b
        i, f = tg.sigmoid(a[:, :n]), tg.sigmoid(a[:, n : 2 * n])
        o, g = tg.sigmoid(a[:, 2 * n : 3 * n]), np.tanh(a[:, 3 * n :])
        c = f * c + i * g
        h = o * np.tanh(c)
    return ((h - t) ** 2).sum()


def test_a_long_short_term_memory_by_hand() -> None:
    inputs = (
        r.normal(size=(6, 7, 3)), r.normal(size=(7, 2)), parameter(7, 2), parameter(7, 2),
        parameter(3, 8), parameter(2, 8), parameter(8),
    )  # fmt: skip
    d = tg.derive(lstm, *inputs)
    assert body(d) == """cs = [c]
hs = [h]
i, f, o, g, u = [], [], [], [], []
for k in range(6):
    a = x[k] @ Wx + hs[k] @ Wh + b
    i.append(1 / (1 + np.exp(-a[:, :2])))
    f.append(1 / (1 + np.exp(-a[:, 2:4])))
    o.append(1 / (1 + np.exp(-a[:, 4:6])))
    g.append(np.tanh(a[:, 6:]))
    cs.append(f[k] * cs[k] + i[k] * g[k])
    u.append(np.tanh(cs[k + 1]))
    hs.append(o[k] * u[k])
e = hs[-1] - t
loss = np.sum(e**2)

# Backward
dWx = np.zeros_like(Wx)
dWh = np.zeros_like(Wh)
db = np.zeros_like(b)
dh = 2 * e
dc = np.zeros_like(cs[-1])
for k in reversed(range(6)):
    do = dh * u[k]
    du = dh * o[k]
    dc = dc + du * (1 - u[k] ** 2)
    di = dc * g[k]
    dg = dc * i[k]
    df = dc * cs[k]
    v = di * i[k] * (1 - i[k])
    s = df * f[k] * (1 - f[k])
    da = np.concatenate([v, s, do * o[k] * (1 - o[k]), dg * (1 - g[k] ** 2)], axis=1)
    dWx += x[k].T @ da
    dWh += hs[k].T @ da
    db += da.sum(axis=0)
    dh = da @ Wh.T
    dc = dc * f[k]
return loss, {"h": dh, "c": dc, "Wx": dWx, "Wh": dWh, "b": db}"""
    agrees(d, lstm, *inputs)


def layers(x, t, Ws, bs):
    h = x
    for W, b in zip(Ws[:-1], bs[:-1]):
        h = np.tanh(h @ W + b)
    return tg.softmax_cross_entropy(h @ Ws[-1] + bs[-1], t)


def layer_inputs() -> tuple[Any, ...]:
    sizes = [4, 6, 5, 6, 3]
    return (
        r.normal(size=(16, 4)), r.integers(3, size=16),
        [parameter(*size) for size in zip(sizes, sizes[1:])], [parameter(n) for n in sizes[1:]],
    )  # fmt: skip


def test_a_list_of_layers() -> None:
    inputs = layer_inputs()
    d = tg.derive(layers, *inputs)
    assert body(d) == """N = x.shape[0]
h = [x]
for i in range(3):
    z = h[i] @ Ws[i] + bs[i]
    h.append(np.tanh(z))
z3 = h[-1] @ Ws[3] + bs[3]
p = softmax(z3)
loss = -np.mean(log_softmax(z3)[np.arange(N), t])

# Backward
dz3 = (p - onehot(t)) / N
dWs, dbs = [None] * 4, [None] * 4
dWs[3] = h[-1].T @ dz3
dbs[3] = dz3.sum(axis=0)
dh = dz3 @ Ws[3].T
for i in reversed(range(3)):
    dz = dh * (1 - h[i + 1] ** 2)
    dWs[i] = h[i].T @ dz
    dbs[i] = dz.sum(axis=0)
    dh = dz @ Ws[i].T
return (
    loss,
    {
        **{f"Ws.{i}": g for i, g in enumerate(dWs)},
        **{f"bs.{i}": g for i, g in enumerate(dbs)},
    },
)"""
    assert list(d.arguments) == ["x", "t", "Ws", "bs"]
    agrees(d, layers, *inputs)


def test_a_sequential_of_like_layers() -> None:
    sizes = [4, 5, 6, 5, 4]
    model = nn.Sequential(
        *[nn.Dense(a, b, activation="relu", rng=a) for a, b in zip(sizes, sizes[1:])]
    )
    x, t = r.normal(size=(8, 4)), r.normal(size=(8, 4))
    loss = tg.mean_squared_error(model(x), t)
    d = tg.derive(loss)
    assert body(d) == """h = [x]
z = []
for i in range(4):
    z.append(h[i] @ W[i] + b[i])
    h.append(np.maximum(z[i], 0))
loss = np.mean((h[-1] - t) ** 2)

# Backward
dW, db = [None] * 4, [None] * 4
dh = 2 * (h[-1] - t) / h[-1].size
for i in reversed(range(4)):
    dz = dh * (z[i] > 0)
    dW[i] = h[i].T @ dz
    db[i] = dz.sum(axis=0)
    dh = dz @ W[i].T
return (
    loss,
    {**{f"{i}.W": g for i, g in enumerate(dW)}, **{f"{i}.b": g for i, g in enumerate(db)}},
)"""
    loss.backward()
    _, gradients = d.function(**d.arguments)
    for name, tensor in model.named_parameters():
        np.testing.assert_allclose(gradients[name], tensor.grad, rtol=1e-5, atol=1e-7)
        assert gradients[name].dtype == np.float32


def test_numbers_that_decay_are_powers() -> None:
    def momentum(w, x, t):
        v = np.zeros(3)
        for k in range(6):
            g = x.T @ (x @ w - t)
            v = 0.9 * v + g
            w = w - 0.1 * 0.5**k * v / (1 - 0.9 ** (k + 1))
        return ((x @ w - t) ** 2).sum()

    inputs = parameter(3), r.normal(size=(8, 3)), r.normal(size=8)
    d = tg.derive(momentum, *inputs)
    assert "0.5**k" in d.source
    assert "(1 - 0.9 ** (k + " in d.source
    agrees(d, momentum, *inputs, tolerance=1e-8)
