"""A plain recurrent network through time, with one output at the end and with one at each step."""

import numpy as np

from ..program import Program, arrays

STEPS = 3


def many_to_one(rng, N):
    params = arrays(rng, Wx=(3, 5), Wh=(5, 5), b=5, Wy=(5, 2))
    return params, rng.normal(size=(N, STEPS, 3)), rng.normal(size=(N, 2))


def characters(rng, N):
    params = arrays(rng, Wxh=(5, 4), Whh=(5, 5), Why=(4, 5), bh=(5, 1), by=(4, 1))
    letters = rng.integers(0, 4, min(N, 5))
    return params, letters[:-1].tolist(), letters[1:].tolist(), rng.normal(size=(5, 1))


def last_state(params, X, T):
    Wx, Wh, b, Wy = params["Wx"], params["Wh"], params["b"], params["Wy"]
    N, steps, _ = X.shape
    hs = [np.zeros((N, 5))]
    for t in range(steps):
        hs.append(np.tanh(X[:, t] @ Wx + hs[t] @ Wh + b))
    y = hs[-1] @ Wy
    loss = np.sum((y - T) ** 2) / N

    dy = 2 * (y - T) / N
    dWy = hs[-1].T @ dy
    dWx, dWh, db = np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
    dh = dy @ Wy.T
    for t in range(steps - 1, -1, -1):
        da = dh * (1 - hs[t + 1] ** 2)
        dWx = dWx + X[:, t].T @ da
        dWh = dWh + hs[t].T @ da
        db = db + da.sum(axis=0)
        dh = da @ Wh.T
    return loss, {"Wx": dWx, "Wh": dWh, "b": db, "Wy": dWy}


def character_model(params, inputs, targets, hprev):
    Wxh, Whh, Why, bh, by = [params[k] for k in ("Wxh", "Whh", "Why", "bh", "by")]
    xs, hs, ys, ps = {}, {}, {}, {}
    hs[-1] = hprev
    loss = 0
    for t in range(len(inputs)):
        xs[t] = np.zeros((4, 1))
        xs[t][inputs[t]] = 1
        hs[t] = np.tanh(Wxh @ xs[t] + Whh @ hs[t - 1] + bh)
        ys[t] = Why @ hs[t] + by
        ps[t] = np.exp(ys[t]) / np.sum(np.exp(ys[t]))
        loss = loss - np.log(ps[t][targets[t], 0])

    dWxh, dWhh, dWhy = np.zeros_like(Wxh), np.zeros_like(Whh), np.zeros_like(Why)
    dbh, dby = np.zeros_like(bh), np.zeros_like(by)
    dhnext = np.zeros_like(hprev)
    for t in reversed(range(len(inputs))):
        dy = np.copy(ps[t])
        dy[targets[t]] -= 1
        dWhy += dy @ hs[t].T
        dby += dy
        dh = Why.T @ dy + dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
        dbh += dhraw
        dWxh += dhraw @ xs[t].T
        dWhh += dhraw @ hs[t - 1].T
        dhnext = Whh.T @ dhraw
    return loss, {"Wxh": dWxh, "Whh": dWhh, "Why": dWhy, "bh": dbh, "by": dby}


PROGRAMS = [
    Program(last_state, many_to_one, """
        dy = 2 * (y - T) / N
            y factor: dy = (y - T) / N
            y missing_batch_mean: dy = 2 * (y - T)
        dh = dy @ Wy.T
            right: dh = np.dot(dy, Wy.T)
            hs[3] sign: dh = -dy @ Wy.T
        da = dh * (1 - hs[t + 1] ** 2)
            ~da/hs[2]/b/Wx/Wh missing_activation_derivative|derivative_all_ones: da = dh
            ~da/hs[2]/b/Wx/Wh off_by_one|derivative_at_wrong_point|wrong_operand: da = dh * (1 - hs[t] ** 2)
            ~da/hs[2]/b/Wx/Wh derivative_wrong_function: da = dh * (1 - hs[t + 1])
        dWx = dWx + X[:, t].T @ da
            Wx off_by_one|wrong_operand: dWx = dWx + X[:, t - 1].T @ da
            Wx missing_path: dWx = X[:, t].T @ da
            Wx wrong_operand|missing_activation_derivative: dWx = dWx + X[:, t].T @ dh
        dWh = dWh + hs[t].T @ da
            Wh off_by_one|wrong_operand: dWh = dWh + hs[t + 1].T @ da
            Wh missing_path: dWh = hs[t].T @ da
            Wh transpose: dWh = dWh + da.T @ hs[t]
            Wh sign: dWh = dWh - hs[t].T @ da
        db = db + da.sum(axis=0)
            b mean_instead_of_sum|extra_batch_mean: db = db + da.mean(axis=0)
            b missing_path: db = da.sum(axis=0)
        dh = da @ Wh.T
            hs[2] transpose: dh = da @ Wh
            hs[2] wrong_operand|missing_activation_derivative: dh = dh @ Wh.T
            hs[2] factor: dh = 0.5 * da @ Wh.T
        for t in range(steps - 1, -1, -1):
            b/Wx/Wh off_by_one|missing_path: for t in range(steps - 1, 0, -1):
        """),
    Program(character_model, characters, """
        dy[targets[t]] -= 1
            ys[3] missing_path: pass
            ys[3] off_by_one: dy[targets[t - 1]] -= 1
        dWhy += dy @ hs[t].T
            Why off_by_one|wrong_operand: dWhy += dy @ hs[t - 1].T
            Why missing_path: dWhy = dy @ hs[t].T
        dby += dy
            by missing_path: dby = dy
        dh = Why.T @ dy + dhnext
            right: dh = np.dot(Why.T, dy) + dhnext
            hs[2] detached|missing_path: dh = Why.T @ dy
            hs[2] missing_path: dh = Why.T @ dy if t == len(inputs) - 1 else dhnext
            hs[3] sign: dh = -(Why.T @ dy) + dhnext
            hs[2] sign: dh = Why.T @ dy - dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
            ~dhraw/hs[2]/bh/Wxh/Whh missing_activation_derivative|derivative_all_ones: dhraw = dh
            ~dhraw/hs[2]/bh/Wxh/Whh off_by_one|derivative_at_wrong_point|wrong_operand: dhraw = (1 - hs[t - 1] * hs[t - 1]) * dh
            ~dhraw/hs[2]/bh/Wxh/Whh derivative_wrong_function: dhraw = hs[t] * (1 - hs[t]) * dh
        dWhh += dhraw @ hs[t - 1].T
            right: dWhh += np.outer(dhraw, hs[t - 1])
            Whh off_by_one|wrong_operand: dWhh += dhraw @ hs[t].T
            Whh transpose: dWhh += hs[t - 1] @ dhraw.T
        dWxh += dhraw @ xs[t].T
            Wxh wrong_operand|missing_activation_derivative: dWxh += dh @ xs[t].T
        dhnext = Whh.T @ dhraw
            hs[2] transpose: dhnext = Whh @ dhraw
            hs[2] wrong_operand|missing_activation_derivative: dhnext = Whh.T @ dh
        """),
]  # fmt: skip
