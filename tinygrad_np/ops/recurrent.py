"""The loops of an LSTM and of a GRU over time, each as one operation.

Step by step it would be eighteen small operations on one step's arrays, each of which adds its part
to the gradient of the whole W. Here the steps only fill arrays that hold all of them, and ``dW`` is
one product at the end. The arguments go in as one vector, so that one pass back through time gives
the cotangents of them all. In it and in the loop features come before the batch: so each gate of a
step is one run of memory, on which NumPy is about twice as fast as on parts of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core import Primitive, Tensor, case, primitive, samples
from ..errors import ShapeError, message
from .activation import sigmoid

# --------------------------------------------------------------------------------------------------
# LSTM
# --------------------------------------------------------------------------------------------------

BLOCK = 1 << 17  # numbers: of the steps whose slopes are computed together, 512 kB of float32


def _shares(q, size):
    """The parts of the vector: z (4H, T, N), W (H, 4H), b (4H, 1), h and c (H, N)."""
    T, N, H = size
    z, W, b, h, c = np.split(q, np.cumsum([4 * H * T * N, H * 4 * H, 4 * H, H * N]))
    z, W, b = z.reshape(4 * H, T, N), W.reshape(H, 4 * H), b.reshape(4 * H, 1)
    return z, W, b, h.reshape(H, N), c.reshape(H, N)


def _last_first(a):
    """The steps, a few at a time, from the last: as slices, given what there is of each step."""
    count = max(1, BLOCK // max(1, a[0].size))
    return [slice(start, start + count) for start in reversed(range(0, len(a), count))]


def _gates(q, size):
    """All gates (T, 4H, N), given the outputs; no step waits for another."""
    z, W, b, h, _ = _shares(q, size)
    before = np.concatenate([h[None], lstm_states(q, size=size)[0, :-1]])
    i, f, n, o = np.split(z.transpose(1, 0, 2) + W.mT @ before + b, 4, axis=1)
    return np.concatenate([sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(n)], axis=1)


def _sigmoids_first(x, b):
    """(..., 4H, N) with ``-i, -f, -o, n`` of ``i, f, n, o = x + b``: exp and tanh make the gates."""
    H = x.shape[-2] // 4
    y = np.empty(x.shape, x.dtype)
    np.subtract(-b[: 2 * H], x[..., : 2 * H, :], out=y[..., : 2 * H, :])
    np.subtract(-b[3 * H :], x[..., 3 * H :, :], out=y[..., 2 * H : 3 * H, :])
    np.add(x[..., 2 * H : 3 * H, :], b[2 * H : 3 * H], out=y[..., 3 * H :, :])
    return y


@primitive("lstm_states({q}, size={size})", residuals={"a": _gates})
def lstm_states(q, *, size):
    """Outputs h and memories c of all steps (2, T, H, N), and the gates i, f, o, n behind them."""
    T, N, H = size
    z, W, b, h, c = _shares(q, size)
    a, W_T = _sigmoids_first(z.transpose(1, 0, 2), b), _sigmoids_first(W.T, np.zeros_like(b))
    y = np.empty((2, T, H, N), q.dtype)
    product, new = np.empty((4 * H, N), q.dtype), np.empty((H, N), q.dtype)
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0
        for gates, h_t, c_t in zip(a, y[0], y[1]):
            gates += W_T.dot(h, product)
            s, n = gates[: 3 * H], gates[3 * H :]
            np.exp(s, s)
            s += 1
            np.reciprocal(s, s)
            np.tanh(n, n)
            np.multiply(gates[H : 2 * H], c, c_t)
            c_t += np.multiply(gates[:H], n, new)
            np.tanh(c_t, h_t)
            h_t *= gates[2 * H : 3 * H]
            h, c = h_t, c_t
    return y, a


def _through_time(g, y, q, a, size):
    """Backpropagation through time; with ``k = tanh(c)``, from the last step to the first

    ``dc += dh o (1 - k**2)``, ``dz = [dc n i (1 - i), dc c' f (1 - f), dc i (1 - n**2),
    dh k o (1 - o)]``, and to the step before ``dc f`` and ``W @ dz``; then ``dW = h' @ dz.T``,
    where h' and c' are the states before each step.
    """
    T, N, H = size
    _, W, _, h, c = _shares(q, size)
    before, memory = [
        np.concatenate([first[None], later[:-1]]) for first, later in zip((h, c), y)
    ]  # fmt: skip
    i, f, o, n = np.split(a, 4, axis=1)
    k = np.tanh(y[1])
    i_slope, f_slope, n_slope = n * i * (1 - i), memory * f * (1 - f), i * (1 - n * n)
    o_slope, k_slope = k * o * (1 - o), o * (1 - k * k)
    dh: Any = 0
    dc: Any = 0
    steps = []
    for t in reversed(range(T)):
        dh = dh + g[0, t]
        dc = dc + g[1, t] + dh * k_slope[t]
        dz = np.concatenate(
            [dc * i_slope[t], dc * f_slope[t], dc * n_slope[t], dh * o_slope[t]], axis=0
        )
        steps.append(dz)
        dh, dc = W @ dz, dc * f[t]
    dz = np.stack(steps[::-1], axis=1)
    dW = before.transpose(1, 0, 2).reshape(H, T * N) @ dz.reshape(4 * H, T * N).T
    db = np.sum(dz, axis=(1, 2))
    return np.concatenate([np.ravel(part) for part in (dz, dW, db, dh, dc)])


def _slopes(a, c, memory, dz):
    """What dc and dh are to be multiplied with, in ``dz``; and the slope of h by c."""
    H = c.shape[1]
    i, _, o, n = [a[:, at : at + H] for at in range(0, 4 * H, H)]
    di, df, dn, do = [dz[:, at : at + H] for at in range(0, 4 * H, H)]
    for slope, gates in (dz[:, : 2 * H], a[:, : 2 * H]), (do, o):
        np.subtract(1, gates, out=slope)
        slope *= gates
    di *= n
    df *= memory
    np.multiply(n, n, out=dn)
    np.subtract(1, dn, out=dn)
    dn *= i
    k = np.tanh(c)
    do *= k
    k *= k
    np.subtract(1, k, out=k)
    k *= o
    return k


def _through_time_of_arrays(g, y, q, a, size):
    """The same, in the place of the result, a few steps at a time: their slopes, times dc and dh."""
    T, N, H = size
    _, W, _, h, c = _shares(q, size)
    dq = np.empty_like(q)
    dz, dW, db, dh, dc = _shares(dq, size)
    dh[...] = dc[...] = 0
    before, memory = [
        np.concatenate([first[None], later[:-1]]) for first, later in zip((h, c), y)
    ]  # fmt: skip
    for steps in _last_first(a):
        d = np.empty_like(a[steps])
        k = _slopes(a[steps], y[1, steps], memory[steps], d)
        f = a[steps, H : 2 * H]
        for d_t, k_t, f_t, gh, gc in reversed([*zip(d, k, f, g[0, steps], g[1, steps])]):
            dh += gh
            dc += gc
            k_t *= dh
            dc += k_t
            d_t.reshape(4, H, N)[:3] *= dc
            d_t[3 * H :] *= dh
            dc *= f_t
            W.dot(d_t, dh)
        dz[:, steps] = d.transpose(1, 0, 2)
    before, dz = before.transpose(1, 0, 2).reshape(H, T * N), dz.reshape(4 * H, T * N)
    np.matmul(before, dz.T, out=dW)
    np.sum(dz, axis=1, keepdims=True, out=db)
    return dq


lstm_states.vjp(q=_through_time).arrays(q=_through_time_of_arrays)


def lstm_steps(z: Any, W: Any, h: Any, c: Any, b: Any) -> Iterator[dict[str, Any]]:
    """The quantities of each step, of basic operations: what the operation is, as it is read."""
    H = len(W)
    for t in range(len(z)):
        a = z[t] + h @ W + b
        i, f = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H])
        g, o = np.tanh(a[:, 2 * H : 3 * H]), sigmoid(a[:, 3 * H :])
        c = f * c + i * g
        u = np.tanh(c)
        h = o * u
        yield {"b": b, "a": a, "i": i, "f": f, "g": g, "o": o, "c": c, "u": u, "h": h}


def _lstm_states_by_steps(z, W, b, h, c, *, size, called):
    """`lstm_states` of the parts of its vector, step by step."""
    T, N, H = size
    z, h, c = z.reshape(4 * H, T, N).transpose(1, 2, 0), h.reshape(H, N).T, c.reshape(H, N).T
    steps = [called(step) for step in lstm_steps(z, W.reshape(H, 4 * H), h, c, b)]
    y, memory = [np.stack([step[name].T for step in steps]) for name in "hc"]
    return np.stack([called({"y": y})["y"], memory])


def lstm(z: Any, W: Any, h: Any, c: Any, b: Any = None) -> tuple[Tensor, Tensor]:
    """Long short-term memory, T steps of ``i, f, n, o = z_t + h_{t-1} @ W + b``, four parts of the sum.

    ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(n)`` and ``h_t = sigmoid(o) tanh(c_t)``.

    Parameters
    ----------
    z : array_like, (T, N, 4H)
        What the inputs give, ``x_t @ W_x``: T at least 1.
    W : array_like, (H, 4H)
    h, c : array_like, (N, H)
        The state before the first step.
    b : array_like, (4H,), optional

    Returns
    -------
    outputs : Tensor, (T, N, H)
        ``h_1`` ... ``h_T``.
    memory : Tensor, (N, H)
        ``c_T``.

    Raises
    ------
    ShapeError
        If the shapes do not meet.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; the forget gate: F. A. Gers,
    J. Schmidhuber and F. Cummins, "Learning to forget", 2000.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> z, W, h = np.zeros((3, 1, 4)), np.zeros((1, 4)), np.zeros((1, 1))
    >>> outputs, c = tg.lstm(z, W, h, 8 * np.ones((1, 1)))
    >>> c  # each gate is 1/2
    array([[1.]])
    >>> bool(outputs[-1] == np.tanh(c) / 2)
    True
    """
    z, W, h, c = (x if type(x) is Tensor else np.asarray(x) for x in (z, W, h, c))
    if b is None:
        b = np.zeros(W.shape[-1:], W.dtype)
    b = b if type(b) is Tensor else np.asarray(b)
    T, N, H = size = (*z.shape[:2], len(W)) if z.ndim == 3 and W.ndim == 2 else (0, 0, 0)
    expected = (T, N, 4 * H), (H, 4 * H), (N, H), (N, H), (4 * H,)
    if T < 1 or (z.shape, W.shape, h.shape, c.shape, b.shape) != expected:
        raise ShapeError(
            message("lstm", "z (T, N, 4H) with T of at least 1, W (H, 4H), h and c (N, H), b (4H,)",
                    f"z {z.shape}, W {W.shape}, h {h.shape}, c {c.shape}, b {b.shape}")
        )  # fmt: skip
    q = np.concatenate([x.reshape(-1) for x in (z.transpose(2, 0, 1), W, b, h.T, c.T)])
    y = lstm_states(q, size=size)
    return y[0].swapaxes(1, 2), y[1, -1].T


# --------------------------------------------------------------------------------------------------
# GRU
# --------------------------------------------------------------------------------------------------


def _gru_shares(q, size):
    """The parts of the vector: z (3H, T, N), W (H, 3H), b (3H, 1) and h (H, N)."""
    T, N, H = size
    z, W, b, h = np.split(q, np.cumsum([3 * H * T * N, H * 3 * H, 3 * H]))
    return z.reshape(3 * H, T, N), W.reshape(H, 3 * H), b.reshape(3 * H, 1), h.reshape(H, N)


def _gru_gates(q, size):
    """All r, u, n, and v of n (T, 4H, N), given the outputs; no step waits for another."""
    z, W, b, h = _gru_shares(q, size)
    before = np.concatenate([h[None], gru_states(q, size=size)[:-1]])
    z_r, z_u, z_n = np.split(z.transpose(1, 0, 2), 3, axis=1)
    v_r, v_u, v_n = np.split(W.mT @ before + b, 3, axis=1)
    r, u = sigmoid(z_r + v_r), sigmoid(z_u + v_u)
    return np.concatenate([r, u, np.tanh(z_n + r * v_n), v_n], axis=1)


@primitive("gru_states({q}, size={size})", residuals={"a": _gru_gates})
def gru_states(q, *, size):
    """Outputs h of all steps (T, H, N), and r, u, n, and v of n behind them."""
    T, N, H = size
    z, W, b, h = _gru_shares(q, size)
    a = np.empty((T, 4 * H, N), q.dtype)
    a[:, : 3 * H] = z.transpose(1, 0, 2)
    a[:, : 2 * H] += b[: 2 * H]
    np.negative(a[:, : 2 * H], out=a[:, : 2 * H])  # of which exp makes the gates
    W_T = W.T.copy()
    np.negative(W_T[: 2 * H], out=W_T[: 2 * H])
    b = np.repeat(b[2 * H :], N, axis=1)
    y = np.empty((T, H, N), q.dtype)
    product, new = np.empty((3 * H, N), q.dtype), np.empty((H, N), q.dtype)
    with np.errstate(over="ignore"):  # 1 / (1 + inf) is 0
        for gates, h_t in zip(a, y):
            W_T.dot(h, product)
            s, n, v = gates[: 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
            s += product[: 2 * H]
            np.exp(s, s)
            s += 1
            np.reciprocal(s, s)
            np.add(product[2 * H :], b, v)
            n += np.multiply(s[:H], v, new)
            np.tanh(n, n)
            np.subtract(h, n, h_t)
            h_t *= s[H:]
            h_t += n
            h = h_t
    return y, a


def _gru_through_time(g, y, q, a, size):
    """Backpropagation through time, from the last step to the first

    ``dz = dh o [s v r (1 - r), (h' - n) u (1 - u), s]`` with ``s = (1 - u) (1 - n**2)``; dv is the
    same but for ``dh o s r``, and to the step before go ``dh u + W @ dv``; then ``dW = h' @ dv.T``,
    where h' are the states before each step.
    """
    T, N, H = size
    _, W, _, h = _gru_shares(q, size)
    before = np.concatenate([h[None], y[:-1]])
    r, u, n, v = np.split(a, 4, axis=1)
    s = (1 - u) * (1 - n * n)
    slopes = np.stack([s * v * r * (1 - r), (before - n) * u * (1 - u), s * r, s], axis=1)
    dh: Any = 0
    steps = []
    for t in reversed(range(T)):
        dh = dh + g[t]
        d = dh * slopes[t]
        steps.append(d)
        dh = dh * u[t] + W @ d[:3].reshape(3 * H, N)
    d = np.stack(steps[::-1], axis=2)  # (4, H, T, N)
    dz, dv = np.concatenate([d[:2], d[3:]]), d[:3].reshape(3 * H, T * N)
    dW = before.transpose(1, 0, 2).reshape(H, T * N) @ dv.T
    db = np.sum(dv, axis=1)
    return np.concatenate([np.ravel(part) for part in (dz, dW, db, dh)])


def _gru_through_time_of_arrays(g, y, q, a, size):
    """The same, a few steps at a time: their slopes, times dh."""
    T, N, H = size
    _, W, _, h = _gru_shares(q, size)
    dq = np.empty_like(q)
    dz, dW, db, dh = _gru_shares(dq, size)
    dv, new = np.empty((3 * H, T, N), q.dtype), np.empty((H, N), q.dtype)
    dh[...] = 0
    before = np.concatenate([h[None], y[:-1]])
    for steps in _last_first(a):
        d = np.empty_like(a[steps])
        r, u, n, v = np.split(a[steps], 4, axis=1)
        d_r, d_u, d_v, d_n = np.split(d, 4, axis=1)
        np.multiply(n, n, out=d_n)
        np.subtract(1, d_n, out=d_n)
        d_n *= np.subtract(1, u, out=d_u)
        np.multiply(d_n, r, out=d_v)
        d_u *= u
        d_u *= before[steps] - n
        np.subtract(1, r, out=d_r)
        d_r *= d_v
        d_r *= v
        for d_t, u_t, g_t in reversed([*zip(d, u, g[steps])]):
            dh += g_t
            d_t.reshape(4, H, N)[...] *= dh
            np.multiply(dh, u_t, new)
            W.dot(d_t[: 3 * H], dh)
            dh += new
        d = d.transpose(1, 0, 2)
        dv[:, steps] = d[: 3 * H]
        dz[: 2 * H, steps], dz[2 * H :, steps] = d[: 2 * H], d[3 * H :]
    before, dv = before.transpose(1, 0, 2).reshape(H, T * N), dv.reshape(3 * H, T * N)
    np.matmul(before, dv.T, out=dW)
    np.sum(dv, axis=1, keepdims=True, out=db)
    return dq


gru_states.vjp(q=_gru_through_time).arrays(q=_gru_through_time_of_arrays)


def gru_steps(z: Any, W: Any, b: Any, h: Any) -> Iterator[dict[str, Any]]:
    """The quantities of each step, of basic operations: what the operation is, as it is read."""
    H = len(W)
    for t in range(len(z)):
        x, v = z[t], h @ W + b
        a_r, a_u = x[:, :H] + v[:, :H], x[:, H : 2 * H] + v[:, H : 2 * H]
        r, u = sigmoid(a_r), sigmoid(a_u)
        a_n = x[:, 2 * H :] + r * v[:, 2 * H :]
        n = np.tanh(a_n)
        h = (1 - u) * n + u * h
        yield {
            "b": b, "z": x, "v": v, "a_r": a_r, "a_u": a_u, "a_n": a_n, "r": r, "u": u, "n": n, "h": h
        }  # fmt: skip


def _gru_states_by_steps(z, W, b, h, *, size, called):
    """`gru_states` of the parts of its vector, step by step."""
    T, N, H = size
    z, h = z.reshape(3 * H, T, N).transpose(1, 2, 0), h.reshape(H, N).T
    steps = [called(step) for step in gru_steps(z, W.reshape(H, 3 * H), b, h)]
    return called({"y": np.stack([step["h"].T for step in steps])})["y"]


# For those who read a recorded program: each loop as the operations of its steps, given the arrays
# that its vector was joined of. ``called`` is handed each step, to note what its quantities are called.
BY_STEPS: dict[Primitive, Callable[..., Any]] = {
    lstm_states: _lstm_states_by_steps, gru_states: _gru_states_by_steps
}  # fmt: skip


def gru(z: Any, W: Any, b: Any, h: Any) -> Tensor:
    """Gated recurrent unit, T steps; ``v = h_{t-1} @ W + b`` and ``z_t`` have parts for r, u, n.

    ``r = sigmoid(z_r + v_r)``, ``u = sigmoid(z_u + v_u)``, ``n = tanh(z_n + r v_n)`` and
    ``h_t = (1 - u) n + u h_{t-1}``.

    Parameters
    ----------
    z : array_like, (T, N, 3H)
        What the inputs give, ``x_t @ W_x + b_x``: T at least 1.
    W : array_like, (H, 3H)
    b : array_like, (3H,)
    h : array_like, (N, H)
        The state before the first step.

    Returns
    -------
    Tensor, (T, N, H)
        ``h_1`` ... ``h_T``.

    Raises
    ------
    ShapeError
        If the shapes do not meet.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; there r acts
    before the product, here after it, as in PyTorch.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> z, W, b = np.zeros((3, 1, 3)), np.zeros((1, 3)), np.zeros(3)
    >>> tg.gru(z, W, b, 8 * np.ones((1, 1)))[:, 0, 0]  # u is 1/2, and n is 0
    array([4., 2., 1.])
    """
    z, W, b, h = (x if type(x) is Tensor else np.asarray(x) for x in (z, W, b, h))
    T, N, H = size = (*z.shape[:2], len(W)) if z.ndim == 3 and W.ndim == 2 else (0, 0, 0)
    expected = (T, N, 3 * H), (H, 3 * H), (3 * H,), (N, H)
    if T < 1 or (z.shape, W.shape, b.shape, h.shape) != expected:
        raise ShapeError(
            message("gru", "z (T, N, 3H) with T of at least 1, W (H, 3H), b (3H,) and h (N, H)",
                    f"z {z.shape}, W {W.shape}, b {b.shape}, h {h.shape}")
        )  # fmt: skip
    q = np.concatenate([x.reshape(-1) for x in (z.transpose(2, 0, 1), W, b, h.T)])
    return gru_states(q, size=size).swapaxes(1, 2)


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _lstm_by_definition(z: Any, W: Any, h: Any, c: Any, b: Any = 0) -> Any:
    steps = [*lstm_steps(z, W, h, c, b)]
    return np.stack([step["h"] for step in steps]), steps[-1]["c"]


_z = np.ones((3, 2, 8))

samples(
    lstm,
    lambda r: [
        case(r(3, 2, 4), r(1, 4), r(2, 1), r(2, 1)),
        case(r(2, 1, 8), r(2, 8), r(1, 2), r(1, 2)),
        case(r(1, 3, 8), r(2, 8), r(3, 2), r(3, 2)),
        case(r(2, 2, 8), r(2, 8), r(2, 2), r(2, 2), r(8)),
        case(r(2, 0, 8), r(2, 8), r(0, 2), r(0, 2)),
    ],
    reference=_lstm_by_definition,
    fails=lambda: [
        (case(Tensor(_z), np.ones((2, 9)), np.ones((2, 2)), np.ones((2, 2))), ShapeError, "W (2, 9)"),
        (case(Tensor(_z), np.ones((3, 12)), np.ones((2, 3)), np.ones((2, 3))), ShapeError, "W (3, 12)"),
        (case(Tensor(_z), np.ones((2, 8)), np.ones((2, 2)), np.ones((1, 2))), ShapeError, "c (1, 2)"),
        (case(Tensor(_z), np.ones((2, 8)), np.ones((2, 2)), np.ones((2, 2)), np.ones(4)),
         ShapeError, "b (4,)"),
        (case(Tensor(_z[0]), np.ones((2, 8)), np.ones((2, 2)), np.ones((2, 2))),
         ShapeError, "z (2, 8)"),
        (case(Tensor(_z[:0]), np.ones((2, 8)), np.ones((2, 2)), np.ones((2, 2))),
         ShapeError, "T of at least 1"),
    ],
)  # fmt: skip


def _gru_by_definition(z: Any, W: Any, b: Any, h: Any) -> Any:
    return np.stack([step["h"] for step in gru_steps(z, W, b, h)])


_three = np.ones((3, 2, 6))

samples(
    gru,
    lambda r: [
        case(r(3, 2, 3), r(1, 3), r(3), r(2, 1)),
        case(r(2, 1, 6), r(2, 6), r(6), r(1, 2)),
        case(r(1, 3, 6), r(2, 6), r(6), r(3, 2)),
        case(r(2, 0, 6), r(2, 6), r(6), r(0, 2)),
    ],
    reference=_gru_by_definition,
    fails=lambda: [
        (case(Tensor(_three), np.ones((2, 7)), np.ones(6), np.ones((2, 2))), ShapeError, "W (2, 7)"),
        (case(Tensor(_three), np.ones((2, 6)), np.ones(2), np.ones((2, 2))), ShapeError, "b (2,)"),
        (case(Tensor(_three), np.ones((2, 6)), np.ones(6), np.ones((1, 2))), ShapeError, "h (1, 2)"),
        (case(Tensor(_three[0]), np.ones((2, 6)), np.ones(6), np.ones((2, 2))), ShapeError, "z (2, 6)"),
        (case(Tensor(_three[:0]), np.ones((2, 6)), np.ones(6), np.ones((2, 2))),
         ShapeError, "T of at least 1"),
    ],
)  # fmt: skip
