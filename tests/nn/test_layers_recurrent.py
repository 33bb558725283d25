from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.nn.twins import check, check_with_pytorch, draw, float64, pulled, shaken
from tinygrad_np.errors import ArgumentError, ShapeError

N, T, F, H = 3, 4, 2, 5
NAMES = {
    "W_x": "weight_ih_l0.T", "W_h": "weight_hh_l0.T", "b_x": "bias_ih_l0", "b_h": "bias_hh_l0",
}  # fmt: skip
each = pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def collected(x, dzx, dzh, hs, W_x):
    """All gradients, from those of ``x_t W_x + b_x`` and ``h W_h + b_h`` in each step."""
    return {
        "x": np.stack([dz @ W_x.T for dz in dzx], axis=1),
        "W_x": sum(x[:, t].T @ dzx[t] for t in range(T)),
        "W_h": sum(hs[t].T @ dzh[t] for t in range(T)),
        "b_x": sum(dzx).sum(axis=0),
        "b_h": sum(dzh).sum(axis=0),
    }


def rnn_by_hand(W_x, W_h, b_x, b_h):
    """``h_t = tanh(z_t)``: ``dh_t`` is what arrives from above and from step t + 1."""

    def by_hand(x, g):
        hs = [np.zeros((N, H))]
        for t in range(T):
            hs.append(np.tanh(x[:, t] @ W_x + b_x + hs[t] @ W_h + b_h))
        dz, dh = [None] * T, 0
        for t in reversed(range(T)):
            dh = dh + g[:, t]
            dz[t] = dh * (1 - hs[t + 1] ** 2)
            dh = dz[t] @ W_h.T
        return np.stack(hs[1:], axis=1), collected(x, dz, dz, hs, W_x)

    return by_hand


def lstm_by_hand(W_x, W_h, b_x, b_h):
    """Backpropagation through time: ``dc_t`` gathers o's tanh and the forget gate of step t + 1."""

    def by_hand(x, g):
        hs, cs, gates = [np.zeros((N, H))], [np.zeros((N, H))], []
        for t in range(T):
            z = x[:, t] @ W_x + b_x + hs[t] @ W_h + b_h
            i, f, c, o = (z[:, k * H : (k + 1) * H] for k in range(4))
            i, f, c, o = sigmoid(i), sigmoid(f), np.tanh(c), sigmoid(o)
            gates.append((i, f, c, o))
            cs.append(f * cs[t] + i * c)
            hs.append(o * np.tanh(cs[t + 1]))
        dz, dh, dc = [None] * T, 0, 0
        for t in reversed(range(T)):
            i, f, c, o = gates[t]
            dh = dh + g[:, t]
            tanh_c = np.tanh(cs[t + 1])
            do = dh * tanh_c
            dc = dc + dh * o * (1 - tanh_c**2)
            di, df, dg = dc * c, dc * cs[t], dc * i
            parts = di * i * (1 - i), df * f * (1 - f), dg * (1 - c**2), do * o * (1 - o)
            dz[t] = np.concatenate(parts, axis=1)
            dh, dc = dz[t] @ W_h.T, dc * f
        return np.stack(hs[1:], axis=1), collected(x, dz, dz, hs, W_x)

    return by_hand


def gru_by_hand(W_x, W_h, b_x, b_h):
    """The reset gate stands between ``v_n`` and n, so the two sides have cotangents of their own."""

    def by_hand(x, g):
        hs, gates = [np.zeros((N, H))], []
        for t in range(T):
            z, v = x[:, t] @ W_x + b_x, hs[t] @ W_h + b_h
            r, u = sigmoid(z[:, :H] + v[:, :H]), sigmoid(z[:, H:-H] + v[:, H:-H])
            v_n = v[:, -H:]
            n = np.tanh(z[:, -H:] + r * v_n)
            gates.append((r, u, n, v_n))
            hs.append((1 - u) * n + u * hs[t])
        dzx, dzh, dh = [None] * T, [None] * T, 0
        for t in reversed(range(T)):
            r, u, n, v_n = gates[t]
            dh = dh + g[:, t]
            dn, du = dh * (1 - u), dh * (hs[t] - n)
            da = dn * (1 - n**2)
            dr = da * v_n
            dz_r, dz_u = dr * r * (1 - r), du * u * (1 - u)
            dzx[t] = np.concatenate([dz_r, dz_u, da], axis=1)
            dzh[t] = np.concatenate([dz_r, dz_u, da * r], axis=1)
            dh = dzh[t] @ W_h.T + dh * u
        return np.stack(hs[1:], axis=1), collected(x, dzx, dzh, hs, W_x)

    return by_hand


@each
def test_layer_agrees_with_backprop_through_time_derived_by_hand(kind):
    layer = shaken(getattr(nn, kind)(F, H, **float64()))
    by_hand = {"RNN": rnn_by_hand, "LSTM": lstm_by_hand, "GRU": gru_by_hand}[kind]
    check(layer, draw(N, T, F), by_hand(*[p.data for p in layer.parameters()]))


@each
@pytest.mark.parametrize("length", [1, 2, 7])
def test_layer_agrees_with_pytorch(kind, length):
    torch = pytest.importorskip("torch")
    layer = shaken(getattr(nn, kind)(F, H, **float64()))
    twin = getattr(torch.nn, kind)(F, H, batch_first=True)
    check_with_pytorch(layer, twin, draw(N, length, F), NAMES)


def test_rnn_with_relu_and_without_bias_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    layer = nn.RNN(F, H, activation="relu", bias=False, **float64())
    twin = torch.nn.RNN(F, H, nonlinearity="relu", bias=False, batch_first=True)
    names = {name: other for name, other in NAMES.items() if name.startswith("W")}
    check_with_pytorch(layer, twin, draw(N, T, F), names)


@each
def test_a_sequence_may_be_run_in_parts(kind):
    layer, x = getattr(nn, kind)(F, H, **float64()), draw(N, T, F)
    whole, end = layer.run(x)
    first, state = layer.run(x[:, :1])
    second, last = layer.run(x[:, 1:], state)
    parts = np.concatenate([first.data, second.data], axis=1)
    np.testing.assert_allclose(parts, whole.data, rtol=1e-13)
    for a, b in zip(end, last) if kind == "LSTM" else [(end, last)]:
        np.testing.assert_allclose(a.data, b.data, rtol=1e-13)


@each
def test_the_last_output_alone(kind):
    every, x = getattr(nn, kind)(F, H, **float64()), draw(N, T, F)
    last = getattr(nn, kind)(F, H, last=True, **float64())
    np.testing.assert_array_equal(last(x).data, every(x).data[:, -1])
    y, g, grads = pulled(last, x)
    assert y.shape == g.shape == (N, H)
    whole = tg.Tensor(x, requires_grad=True)
    every(whole).backward(np.concatenate([np.zeros((N, T - 1, H)), g[:, None]], axis=1))
    np.testing.assert_allclose(grads["x"], whole.grad, rtol=1e-12)


@each
def test_stacked_layers_take_their_sizes_from_the_first_batch(kind):
    make = getattr(nn, kind)
    late = nn.Sequential(make(H, rng=1), make(H, last=True, rng=2), nn.Dense(3, rng=3))
    early = nn.Sequential(make(F, H, rng=1), make(H, H, last=True, rng=2), nn.Dense(H, 3, rng=3))
    x = draw(N, T, F)
    assert repr(late[0]) == f"{kind}(5)"
    np.testing.assert_array_equal(late(x).data, early(x).data)
    assert repr(late[1]) == f"{kind}(5, 5, last=True)"
    assert late(x).dtype == np.float32


@each
@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((N, T, F + 1), "(2, 5) with weights '0.W_x': expected x (N, T, 2), got (3, 4, 3)."),
        ((T, F), "expected x (N, T, 2), got (4, 2). Did you mean x[None], a batch of one?"),
        ((N, 0, F), "(2, 5) with weights '0.W_x': expected at least one time step, got (3, 0, 2)."),
    ],
)
def test_batches_that_do_not_fit_name_the_layer(kind, shape, text):
    with pytest.raises(ShapeError, match=re.escape(text)):
        nn.Sequential(getattr(nn, kind)(F, H))(np.ones(shape))


@each
def test_states_and_sizes_that_do_not_fit_are_refused(kind):
    layer = getattr(nn, kind)(F, H)
    wrong = tg.Tensor(np.zeros((N, H + 1), np.float32))
    state = (wrong, wrong) if kind == "LSTM" else wrong
    with pytest.raises(ShapeError, match=re.escape("expected a state (3, 5), got (3, 6)")):
        layer.run(np.ones((N, T, F)), state)
    with pytest.raises(ArgumentError, match=f"^{kind}: expected "):
        getattr(nn, kind)(F, H, 3)
