"""Recurrences and stacks of layers as Python loops: what is printed, and that it computes the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
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
    assert (
        body(d)
        == """hs = [h]
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
    )
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
    assert (
        body(d)
        == """cs = [c]
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
    )
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
        [parameter(*size) for size in pairwise(sizes)], [parameter(n) for n in sizes[1:]],
    )  # fmt: skip


def test_a_list_of_layers() -> None:
    inputs = layer_inputs()
    d = tg.derive(layers, *inputs)
    assert (
        body(d)
        == """N = x.shape[0]
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
    )
    assert list(d.arguments) == ["x", "t", "Ws", "bs"]
    agrees(d, layers, *inputs)


def test_a_sequential_of_like_layers() -> None:
    sizes = [4, 5, 6, 5, 4]
    model = nn.Sequential(*[nn.Dense(a, b, activation="relu", rng=a) for a, b in pairwise(sizes)])
    x, t = r.normal(size=(8, 4)), r.normal(size=(8, 4))
    loss = tg.mean_squared_error(model(x), t)
    d = tg.derive(loss)
    assert (
        body(d)
        == """h = [x]
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
    )
    loss.backward()
    _, gradients = d.function(**d.arguments)
    for name, tensor in model.named_parameters():
        np.testing.assert_allclose(gradients[name], tensor.grad, rtol=1e-5, atol=1e-7)
        assert gradients[name].dtype == np.float32


def test_each_mask_of_dropout_is_an_item() -> None:
    def f(x, Ws):
        rng = np.random.default_rng(0)
        for W in Ws:
            x = tg.dropout(np.tanh(x @ W), 0.5, rng=rng)
        return (x**2).sum()

    d = tg.derive(f, r.normal(size=(5, 3)), [parameter(3, 3) for _ in range(4)])
    assert list(d.arguments) == ["x", "Ws", "mask"]
    assert "xs.append(h[i] * mask[i])" in body(d)
    unrolled = tg.derive(
        f, d.arguments["x"], [tg.Tensor(W, True) for W in d.arguments["Ws"]], loops=False
    )
    _, expected = unrolled.function(**unrolled.arguments)
    for name, g in d.function(**d.arguments)[1].items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-9)


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


def test_rows_that_are_gathered_are_added_where_they_came_from() -> None:
    def f(E, W, ids, t):
        h = np.zeros((4, 3))
        for k in range(5):
            h = np.tanh(E[ids[k]] + h @ W)
        return ((h - t) ** 2).sum()

    inputs = parameter(6, 3), parameter(3, 3), r.integers(6, size=(5, 4)), r.normal(size=(4, 3))
    d = tg.derive(f, *inputs)
    assert "    np.add.at(dE, ids[k], dz)" in body(d).split("\n")
    agrees(d, f, *inputs)


def test_layers_of_recurrences_hand_their_gradients_over_in_lists() -> None:
    def f(x, t, W1, U1, W2, U2):
        first, second = [], []
        h = np.zeros((3, 4))
        for k in range(6):
            h = np.tanh(x[k] @ W1 + h @ U1)
            first.append(h)
        s = np.zeros((3, 4))
        for one in first:
            s = np.tanh(one @ W2 + s @ U2)
            second.append(s)
        return ((np.stack(second) - t) ** 2).mean()

    inputs = (
        r.normal(size=(6, 3, 2)), r.normal(size=(6, 3, 4)), parameter(2, 4), parameter(4, 4),
        parameter(4, 4), parameter(4, 4),
    )  # fmt: skip
    d = tg.derive(f, *inputs)
    lines = [line.strip() for line in body(d).split("\n")]
    assert sum(line.startswith("for ") for line in lines) == 4
    assert "dh = dh + dz_2[k] @ W2.T" in lines
    agrees(d, f, *inputs)


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_recurrent_layers(layer: Any) -> None:
    model = layer(3, 4, rng=0)
    x = r.normal(size=(6, 9, 3))
    loss = (model(x) ** 2).sum()
    d = tg.derive(loss)
    assert d.source.count("for ") == 2
    assert "range(9)" in d.source
    loss.backward()
    _, gradients = d.function(**d.arguments)
    for name, tensor in model.named_parameters():
        scale = np.abs(tensor.grad).max()
        np.testing.assert_allclose(gradients[name], tensor.grad, rtol=1e-4, atol=1e-5 * scale)


def test_a_list_of_dicts_keeps_every_gradient() -> None:
    def f(x, blocks):
        for p in blocks:
            x = x + np.tanh(x @ p["W"] + p["b"])
        return (x**2).sum()

    inputs = r.normal(size=(5, 3)), [{"W": parameter(3, 3), "b": parameter(3)} for _ in range(4)]
    for loops in (True, False):
        d = tg.derive(f, *inputs, loops=loops)
        agrees(d, f, *inputs)
        assert set(d.function(**d.arguments)[1]) == {
            f"blocks.{i}.{key}" for i in range(4) for key in "Wb"
        }


# -- what stays as it is ---------------------------------------------------------------------------


def test_few_or_different_rounds_have_no_loop() -> None:
    assert "for " not in tg.derive(rnn, *rnn_inputs(2)).source
    assert "for " not in tg.derive(rnn, *rnn_inputs(10), loops=False).source
    assert "for " not in tg.derive(rnn, *rnn_inputs(4), order=2).source.split("\n\n\n")[-1]

    def irregular(x, W):
        for k in (0, 1, 4, 2, 3):
            x = np.tanh(x * W[k])
        return x.sum()

    assert "for " not in tg.derive(irregular, r.normal(size=3), parameter(5, 3)).source

    def branches(x, W):
        for _ in range(6):
            if x.sum() > 0:
                x = np.tanh(x @ W)
        return x.sum()

    d = tg.derive(branches, np.abs(r.normal(size=(2, 3))), tg.Tensor(np.ones((3, 3)), True))
    assert d.source.count("assert ") == 6


def test_a_step_that_differs_is_outside_of_the_loop() -> None:
    def f(x, W, V):
        h = x @ V
        for k in range(6):
            h = np.tanh(h @ W) if k else np.sin(h @ W)
        return (h**2).sum()

    inputs = r.normal(size=(4, 2)), parameter(3, 3), parameter(2, 3)
    d = tg.derive(f, *inputs)
    assert "range(5)" in d.source
    assert "np.sin(" in d.source
    agrees(d, f, *inputs)


# -- in other forms --------------------------------------------------------------------------------


def test_comments_and_the_text_beside_it() -> None:
    d = tg.derive(rnn, *rnn_inputs(), comments=True)
    lines = d.source.split("\n")
    at = lines.index("        # z = x[:, k] @ U + hs[k] @ W + b")
    assert lines[at + 1] == "        dU += x[:, k].T @ dz"
    assert lines[lines.index("        # hs.append(np.tanh(z))") + 1].endswith(
        "dz = dh * (1 - hs[k + 1] ** 2)"
    )
    text = d.text.split("\n")
    at = next(i for i, line in enumerate(text) if line.startswith("for k in range(10):"))
    assert any("for k in reversed(range(10)):" in line for line in text[at:])
    assert any(
        re.fullmatch(r"    hs.append\(np.tanh\(z\)\) +    dz = dh \* .*", line) for line in text
    )


def test_mathematics_has_indices() -> None:
    d = tg.derive(rnn, *rnn_inputs())
    for line in (
        r"h_{0} &= h",
        r"&\text{for } k = 0, \ldots, 9:",
        r"z_{k} &= x_{:,k}\, U + h_{k}\, W + b",
        r"h_{k+1} &= \tanh\left(z_{k}\right)",
        r"\mathrm{d}h_{10} &= \frac{2\, \left(h_{10} - t\right)}{\left|h_{10}\right|}",
        r"&\text{for } k = 9, \ldots, 0:",
        r"\mathrm{d}z_{k} &= \mathrm{d}h_{k+1} \odot \left(1 - h_{k+1}^{2}\right)",
        r"\mathrm{d}U &= \sum_{k} x_{:,k}^{\top}\, \mathrm{d}z_{k}",
        r"\mathrm{d}h_{k} &= \mathrm{d}z_{k}\, W^{\top}",
    ):
        assert line in d.latex
    for text in (d.latex, d.markdown):
        assert text.count("{") == text.count("}")
        assert text.count(r"\left") == text.count(r"\right")
    assert r"| for $k = 9, \ldots, 0$: |  |" in d.markdown
    layered = tg.derive(layers, *layer_inputs()).markdown
    assert r"\mathrm{Ws}_{3} \in \mathbb{R}^{6 \times 3}" in layered
    assert r"$\quad \mathrm{d}\mathrm{Ws}_{i} = h_{i}^{\top}\, \mathrm{d}z_{i}$ |  |" in layered


BY_HAND = """
def backprop(x, h, t, U, W, b):
    hs = {-1: h}
    for k in range(x.shape[1]):
        hs[k] = np.tanh(x[:, k] @ U + hs[k - 1] @ W + b)
    loss = np.mean((hs[k] - t) ** 2)
    dU, dW, db = np.zeros_like(U), np.zeros_like(W), np.zeros_like(b)
    dh = 2 * (hs[k] - t) / t.size
    dz = [None] * x.shape[1]
    for k in reversed(range(x.shape[1])):
        dz[k] = dh * (1 - hs[k] ** 2)
        dU += x[:, k].T @ dz[k]
        dW += hs[k - 1].T @ dz[k]
        db += dz[k].sum(axis=0)
        dh = dz[k] @ W.T
    return loss, {"U": dU, "W": dW, "b": db}
"""


def test_diff_compares_each_round() -> None:
    d = tg.derive(rnn, *rnn_inputs(6))
    same = d.diff(BY_HAND)
    assert same.first_wrong is None
    assert {"dz[0]", "dz[5]", "dU", "db"} <= {
        row.name for row in same.rows if row.verdict == "same"
    }
    wrong = d.diff(BY_HAND.replace("dz[k] = dh *", "dz[k] = dh * (1 if k > 2 else 2) *"))
    assert wrong.first_wrong == "dz[2]"
    assert wrong["dz[3]"].verdict == "same"
    assert d.diff(d.source).ok
    assert tg.derive(layers, *layer_inputs()).diff(tg.derive(layers, *layer_inputs()).source).rows


def test_diff_takes_lists_of_arguments_and_single_ones() -> None:
    d = tg.derive(layers, *layer_inputs())

    def listed(x, t, Ws, bs):
        z0 = x @ Ws[0] + bs[0]
        return z0

    assert d.diff(listed)["z[0]"].verdict == "same"
    assert d.diff("def single(x, Ws0, bs0):\n    z0 = x @ Ws0 + bs0")["z[0]"].verdict == "same"


# -- at random -------------------------------------------------------------------------------------

ELEMENTWISE: list[Callable[[Any], Any]] = [
    np.tanh, tg.sigmoid, tg.relu, np.sin, lambda v: v / (1 + np.abs(v)), lambda v: np.sqrt(v * v + 1),
]  # fmt: skip


def random_recurrence(seed: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Some states that read each other, old or new, the input of the step, and parameters."""
    g = np.random.default_rng(seed)
    T, N, F, H, S = [int(g.integers(*ends)) for ends in ((3, 9), (1, 5), (1, 4), (1, 5), (1, 4))]
    rows_first, where_loss = bool(g.integers(2)), int(g.integers(4))
    starts = [int(g.integers(4)) for _ in range(S)]
    W: list[tg.Tensor] = []

    def new(*shape: int) -> int:
        W.append(tg.Tensor(0.6 * g.normal(size=shape), requires_grad=bool(g.random() < 0.9)))
        return len(W) - 1

    def term(s: int) -> Callable[..., Any]:
        kind, a, b = int(g.integers(6)), int(g.integers(S)), int(g.integers(S))
        if kind == 0:
            i = new(F, H)
            return lambda x, old, now, W: x @ W[i]
        if kind == 1:
            i = new(H, H)
            return lambda x, old, now, W: now[a] @ W[i]
        if kind == 2:
            i = new(H, H)
            return lambda x, old, now, W: (now[a] * old[b]) @ W[i]
        if kind == 3:
            i = new(H)
            return lambda x, old, now, W: old[a] * 0.7 + W[i]
        if kind == 4:
            i = new()
            return lambda x, old, now, W: now[a] * W[i]
        return lambda x, old, now, W: now[a] * now[b]

    cells = [
        ([term(s) for _ in range(int(g.integers(1, 4)))], int(g.integers(len(ELEMENTWISE))),
         int(g.integers(3)))
        for s in range(S)
    ]  # fmt: skip
    V = new(H, 2)
    x = tg.Tensor(g.normal(size=(N, T, F) if rows_first else (T, N, F)), bool(g.random() < 0.3))
    firsts = [tg.Tensor(g.normal(size=(N, H)), start == 1) for start in starts]

    def f(x: Any, t: Any, firsts: Any, W: Any) -> Any:
        h = [
            np.zeros((N, H)) if start == 2 else np.tanh(one) if start == 3 else one
            for start, one in zip(starts, firsts)
        ]
        loss, seen = 0.0, []
        for k in range(T):
            now = list(h)
            for s, (terms, act, mix) in enumerate(cells):
                z = sum([one(x[:, k] if rows_first else x[k], h, now, W) for one in terms])
                y = ELEMENTWISE[act](z)
                now[s] = y if mix == 0 else h[s] + y if mix == 1 else 0.5 * h[s] + 0.5 * y
            h = now
            seen.append(h[-1])
            if where_loss == 1:
                loss = loss + ((h[0] @ W[V] - t[k]) ** 2).sum()
        if where_loss == 2:
            return ((np.stack(seen) @ W[V] - t) ** 2).mean()
        return loss + ((h[-1] @ W[V] - t[0]) ** 2).mean() + 0.1 * (W[V] ** 2).sum()

    return f, (x, g.normal(size=(T, N, 2)), firsts, W)


def random_stack(seed: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Layers of a list, with or without biases, residuals and normalization, of any widths."""
    g = np.random.default_rng(seed)
    L = int(g.integers(3, 8))
    plain, bias, normed, linear_end = [bool(g.random() < 0.5) for _ in range(4)]
    act = ELEMENTWISE[int(g.integers(len(ELEMENTWISE)))]
    widths = [int(g.integers(2, 5)) for _ in range(L + 1)] if plain else [3] * (L + 1)
    Ws = [tg.Tensor(0.6 * g.normal(size=size), True) for size in pairwise(widths)]
    ps = [{"b": tg.Tensor(g.normal(size=n), True), "g": tg.Tensor(g.normal(size=n), True)}
          for n in widths[1:]]  # fmt: skip

    def f(x: Any, Ws: Any, ps: Any) -> Any:
        h = x
        for i, (W, p) in enumerate(zip(Ws, ps)):
            z = h @ W + p["b"] if bias else h @ W
            y = z if linear_end and i == L - 1 else act(z)
            if normed:
                y = (y - y.mean(axis=1, keepdims=True)) / np.sqrt(
                    y.var(axis=1, keepdims=True) + 0.1
                )
            h = y * p["g"] if plain else h + y * p["g"]
        return (h * h).mean() + sum([(0 * p["b"]).sum() for p in ps])

    return f, (g.normal(size=(4, widths[0])), Ws, ps)


def random_layers_of_recurrences(seed: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Recurrences on top of each other: layer by layer, or all layers at each step."""
    g = np.random.default_rng(seed)
    T, N, H, L = [int(g.integers(*ends)) for ends in ((3, 8), (2, 5), (2, 5), (1, 4))]
    by_layer, gathered = bool(g.integers(2)), bool(g.integers(2))
    act = ELEMENTWISE[int(g.integers(len(ELEMENTWISE)))]
    E = tg.Tensor(g.normal(size=(5, H)), True)
    Wx, Wh = [[tg.Tensor(0.6 * g.normal(size=(H, H)), True) for _ in range(L)] for _ in range(2)]
    ids, t = g.integers(5, size=(T, N)), g.normal(size=(T, N, H))

    def f(E: Any, ids: Any, t: Any, Wx: Any, Wh: Any) -> Any:
        seq = [E[ids[k]] if gathered else E[:1] * t[k] for k in range(T)]
        if by_layer:
            for U, V in zip(Wx, Wh):
                h, out = np.zeros((N, H)), []
                for x in seq:
                    h = act(x @ U + h @ V)
                    out.append(h)
                seq = out
            return ((np.stack(seq) - t) ** 2).mean()
        hs, loss = [np.zeros((N, H))] * L, 0.0
        for k, x in enumerate(seq):
            z = x
            hs = [z := act(z @ U + h @ V) for h, U, V in zip(hs, Wx, Wh)]
            loss = loss + ((z - t[k]) ** 2).sum()
        return loss

    return f, (E, ids, t, Wx, Wh)


@pytest.mark.parametrize("made", [random_recurrence, random_stack, random_layers_of_recurrences])
def test_random_programs_compute_what_the_engine_computes(made: Any) -> None:
    rolled = 0
    for seed in range(20):
        f, inputs = made(seed)
        d = tg.derive(f, *inputs)
        agrees(d, f, *inputs)
        rolled += "for " in body(d)
        for text in (d.latex, d.markdown):
            assert text.count("{") == text.count("}")
        assert d.text
        assert d.diff(d.source).first_wrong is None
    assert rolled >= 10


def test_sources_with_loops_pass_the_linter(tmp_path: Path) -> None:
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    if not Path(ruff).exists():
        pytest.skip("ruff is not installed")
    made = [random_recurrence(seed) for seed in range(12)] + [random_stack(s) for s in range(6)]
    made += [random_layers_of_recurrences(seed) for seed in range(6)]
    made += [(rnn, rnn_inputs()), (layers, layer_inputs())]
    for i, (f, inputs) in enumerate(made):
        source = tg.derive(f, *inputs).source
        (tmp_path / f"derived_{i}.py").write_text(source + "\n")
        assert max(map(len, source.split("\n"))) <= 100
    result = subprocess.run(
        [ruff, "check", "--isolated", "--select", "E4,E7,E9,F,UP,NPY,SIM,RET", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_a_list_in_reverse_and_a_gradient_of_ones() -> None:
    def f(x, Ws):
        for W in Ws[::-1]:
            x = tg.sigmoid(x @ W)
        return x.sum()

    inputs = r.normal(size=(5, 3)), [parameter(3, 3) for _ in range(4)]
    d = tg.derive(f, *inputs)
    lines = body(d).split("\n")
    assert "dx = np.ones_like(xs[-1])" in lines
    assert "    dWs[3 - i] = xs[i].T @ dz" in lines
    agrees(d, f, *inputs)
