"""Through time: a plain recurrent network, LSTM, GRU; the state's gradient comes from two sides."""

import numpy as np

from ..program import Program, arrays

STEPS = 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def many_to_one(rng, N):
    params = arrays(rng, Wx=(3, 5), Wh=(5, 5), b=5, Wy=(5, 2))
    return params, rng.normal(size=(N, STEPS, 3)), rng.normal(size=(N, 2))


def characters(rng, N):
    params = arrays(rng, Wxh=(5, 4), Whh=(5, 5), Why=(4, 5), bh=(5, 1), by=(4, 1))
    letters = rng.integers(0, 4, N - 1)
    return params, letters[:-1].tolist(), letters[1:].tolist(), rng.normal(size=(5, 1))


def gates(rng, N):
    params = arrays(rng, W=(3 + 4, 4 * 4), b=16, V=(4, 2))
    return params, rng.normal(size=(N, STEPS, 3)), rng.normal(size=(N, 2))


def named_gates(rng, N):
    shapes = {f"W{gate}": (3, 4) for gate in "zrh"} | {f"U{gate}": (4, 4) for gate in "zrh"}
    params = arrays(rng, **shapes, V=(4, 2))
    return params, rng.normal(size=(N, STEPS - 1, 3)), rng.normal(size=(N, 2))


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


def lstm(params, X, T):
    W, b, V = params["W"], params["b"], params["V"]
    N, steps, _ = X.shape
    H = 4
    h = np.zeros((N, H))
    c = np.zeros((N, H))
    cache = []
    for t in range(steps):
        xh = np.concatenate([X[:, t], h], axis=1)
        a = xh @ W + b
        i = sigmoid(a[:, :H])
        f = sigmoid(a[:, H : 2 * H])
        o = sigmoid(a[:, 2 * H : 3 * H])
        g = np.tanh(a[:, 3 * H :])
        c_prev = c
        c = f * c_prev + i * g
        tanh_c = np.tanh(c)
        h = o * tanh_c
        cache.append((xh, i, f, o, g, c_prev, tanh_c))
    y = h @ V
    loss = 0.5 * np.mean(np.sum((y - T) ** 2, axis=1))

    dy = (y - T) / N
    dV = h.T @ dy
    dh = dy @ V.T
    dc = 0.0
    dW, db = 0.0, 0.0
    for t in reversed(range(steps)):
        xh, i, f, o, g, c_prev, tanh_c = cache[t]
        do = dh * tanh_c
        dc = dc + dh * o * (1 - tanh_c**2)
        di = dc * g
        df = dc * c_prev
        dg = dc * i
        dai = di * i * (1 - i)
        daf = df * f * (1 - f)
        dao = do * o * (1 - o)
        dag = dg * (1 - g**2)
        da = np.concatenate([dai, daf, dao, dag], axis=1)
        dW = dW + xh.T @ da
        db = db + da.sum(axis=0)
        dxh = da @ W.T
        dh = dxh[:, 3:]
        dc = dc * f
    return loss, {"W": dW, "b": db, "V": dV}


def gru(params, X, T):
    Wz, Wr, Wh = params["Wz"], params["Wr"], params["Wh"]
    Uz, Ur, Uh, V = params["Uz"], params["Ur"], params["Uh"], params["V"]
    N, steps, _ = X.shape
    h = [np.zeros((N, 4))]
    z, r, n, rh = [], [], [], []
    for t in range(steps):
        x = X[:, t]
        z.append(sigmoid(x @ Wz + h[t] @ Uz))
        r.append(sigmoid(x @ Wr + h[t] @ Ur))
        rh.append(r[t] * h[t])
        n.append(np.tanh(x @ Wh + rh[t] @ Uh))
        h.append((1 - z[t]) * n[t] + z[t] * h[t])
    y = h[steps] @ V
    loss = np.sum((y - T) ** 2) / (2 * N)

    grads = {name: np.zeros_like(value) for name, value in params.items()}
    dy = (y - T) / N
    grads["V"] = h[steps].T @ dy
    dh = dy @ V.T
    for t in reversed(range(steps)):
        x = X[:, t]
        dz = dh * (h[t] - n[t])
        dn = dh * (1 - z[t])
        dn_in = dn * (1 - n[t] ** 2)
        drh = dn_in @ Uh.T
        dr = drh * h[t]
        dz_in = dz * z[t] * (1 - z[t])
        dr_in = dr * r[t] * (1 - r[t])
        grads["Wz"] = grads["Wz"] + x.T @ dz_in
        grads["Wr"] = grads["Wr"] + x.T @ dr_in
        grads["Wh"] = grads["Wh"] + x.T @ dn_in
        grads["Uz"] = grads["Uz"] + h[t].T @ dz_in
        grads["Ur"] = grads["Ur"] + h[t].T @ dr_in
        grads["Uh"] = grads["Uh"] + rh[t].T @ dn_in
        dh = dh * z[t] + drh * r[t] + dz_in @ Uz.T + dr_in @ Ur.T
    return loss, grads


PROGRAMS = [
    Program(last_state, many_to_one, """
        dy = 2 * (y - T) / N
            y factor: dy = (y - T) / N
            y missing_batch_mean: dy = 2 * (y - T)
        dh = dy @ Wy.T
            right: dh = np.dot(dy, Wy.T)
            hs[4] sign: dh = -dy @ Wy.T
        da = dh * (1 - hs[t + 1] ** 2)
            hs[3]/b/Wx/Wh missing_activation_derivative|derivative_all_ones: da = dh
            hs[3]/b/Wx/Wh off_by_one|derivative_at_wrong_point: da = dh * (1 - hs[t] ** 2)
            hs[3]/b/Wx/Wh derivative_wrong_function: da = dh * (1 - hs[t + 1])
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
            hs[3] transpose: dh = da @ Wh
            hs[3] wrong_operand|missing_activation_derivative: dh = dh @ Wh.T
            hs[3] factor: dh = 0.5 * da @ Wh.T
        for t in range(steps - 1, -1, -1):
            b/Wx/Wh off_by_one|missing_path: for t in range(steps - 1, 0, -1):
        """),
    Program(character_model, characters, """
        dy[targets[t]] -= 1
            ys[4] missing_path: pass
            ys[4] off_by_one: dy[targets[t - 1]] -= 1
        dWhy += dy @ hs[t].T
            Why off_by_one|wrong_operand: dWhy += dy @ hs[t - 1].T
            Why missing_path: dWhy = dy @ hs[t].T
        dby += dy
            by missing_path: dby = dy
        dh = Why.T @ dy + dhnext
            right: dh = np.dot(Why.T, dy) + dhnext
            hs[3] detached|missing_path: dh = Why.T @ dy
            hs[3] missing_path: dh = Why.T @ dy if t == len(inputs) - 1 else dhnext
            hs[4] sign: dh = -(Why.T @ dy) + dhnext
            hs[3] sign: dh = Why.T @ dy - dhnext
        dhraw = (1 - hs[t] * hs[t]) * dh
            hs[3]/bh/Wxh/Whh missing_activation_derivative|derivative_all_ones: dhraw = dh
            hs[3]/bh/Wxh/Whh off_by_one|derivative_at_wrong_point: dhraw = (1 - hs[t - 1] * hs[t - 1]) * dh
            hs[3]/bh/Wxh/Whh derivative_wrong_function: dhraw = hs[t] * (1 - hs[t]) * dh
        dWhh += dhraw @ hs[t - 1].T
            right: dWhh += np.outer(dhraw, hs[t - 1])
            Whh off_by_one|wrong_operand: dWhh += dhraw @ hs[t].T
            Whh transpose: dWhh += hs[t - 1] @ dhraw.T
        dWxh += dhraw @ xs[t].T
            Wxh wrong_operand|missing_activation_derivative: dWxh += dh @ xs[t].T
        dhnext = Whh.T @ dhraw
            hs[3] transpose: dhnext = Whh @ dhraw
            hs[3] wrong_operand|missing_activation_derivative: dhnext = Whh.T @ dh
        """),
    Program(lstm, gates, """
        dy = (y - T) / N
            y missing_batch_mean: dy = y - T
        do = dh * tanh_c
            o[3]/cache[3][3] wrong_operand: do = dh * c_prev
        dc = dc + dh * o * (1 - tanh_c**2)
            c[2]/cache[3][5] missing_path: dc = dh * o * (1 - tanh_c**2)
            c[3] missing_activation_derivative|derivative_all_ones: dc = dc + dh * o
            c[3] wrong_operand|missing_activation_derivative: dc = dc + dh * (1 - tanh_c**2)
        di = dc * g
            i[3]/cache[3][1] wrong_operand: di = dc * f
        df = dc * c_prev
            f[3]/cache[3][2] wrong_operand: df = dc * tanh_c
        dg = dc * i
            g[3]/cache[3][4] wrong_operand: dg = dc * f
        dai = di * i * (1 - i)
            a[3] missing_activation_derivative|derivative_all_ones: dai = di
            a[3] derivative_wrong_function: dai = di * (1 - i**2)
        dag = dg * (1 - g**2)
            a[3] derivative_wrong_function: dag = dg * g * (1 - g)
            a[3] derivative_at_wrong_point: dag = dg * (1 - np.tanh(g) ** 2)
        da = np.concatenate([dai, daf, dao, dag], axis=1)
            a[3] wrong_operand: da = np.concatenate([dai, dao, daf, dag], axis=1)
        dW = dW + xh.T @ da
            W missing_path: dW = xh.T @ da
            W factor: dW = dW + 2 * xh.T @ da
        db = db + da.sum(axis=0)
            b mean_instead_of_sum|extra_batch_mean: db = db + da.mean(axis=0)
            b missing_path: db = da.sum(axis=0)
        dh = dxh[:, 3:]
            h[2] off_by_one: dh = dxh[:, 2:-1]
            h[2] sign: dh = -dxh[:, 3:]
        dc = dc * f
            right: dc = f * dc
            c[2]/cache[3][5] wrong_operand: dc = dc * i
            c[2]/cache[3][5] wrong_operand|missing_activation_derivative: pass
        """, (sigmoid,)),
    Program(gru, named_gates, """
        dz = dh * (h[t] - n[t])
            z[2] sign: dz = dh * (n[t] - h[t])
            z[2] missing_path: dz = dh * h[t]
            z[2] off_by_one|wrong_operand: dz = dh * (h[t + 1] - n[t])
        dn = dh * (1 - z[t])
            n[2] wrong_operand: dn = dh * z[t]
            n[2] wrong_operand|missing_activation_derivative: dn = dh
        dn_in = dn * (1 - n[t] ** 2)
            rh[2]/Uh/Wh missing_activation_derivative|derivative_all_ones: dn_in = dn
            rh[2]/Uh/Wh derivative_wrong_function: dn_in = dn * n[t] * (1 - n[t])
        drh = dn_in @ Uh.T
            rh[2] transpose: drh = dn_in @ Uh
        dr = drh * h[t]
            r[2] wrong_operand: dr = drh * n[t]
            r[2] off_by_one|wrong_operand: dr = drh * h[t + 1]
        dz_in = dz * z[t] * (1 - z[t])
            h[2]/Uz/Wz derivative_wrong_function: dz_in = dz * (1 - z[t] ** 2)
        grads["Uh"] = grads["Uh"] + rh[t].T @ dn_in
            Uh wrong_operand: grads["Uh"] = grads["Uh"] + h[t].T @ dn_in
            Uh transpose: grads["Uh"] = grads["Uh"] + dn_in.T @ rh[t]
        grads["Ur"] = grads["Ur"] + h[t].T @ dr_in
            Ur wrong_operand: grads["Ur"] = grads["Ur"] + h[t].T @ dz_in
            Ur missing_path: grads["Ur"] = h[t].T @ dr_in
        dh = dh * z[t] + drh * r[t] + dz_in @ Uz.T + dr_in @ Ur.T
            right: dh = dr_in @ Ur.T + dz_in @ Uz.T + drh * r[t] + dh * z[t]
            h[2] missing_path: dh = drh * r[t] + dz_in @ Uz.T + dr_in @ Ur.T
            h[2] detached|missing_path: dh = dh * z[t] + drh * r[t]
            h[2] missing_path: dh = dh * z[t] + drh * r[t] + dz_in @ Uz.T
            h[2] wrong_operand|missing_activation_derivative: dh = dh * z[t] + drh + dz_in @ Uz.T + dr_in @ Ur.T
            h[2] sign: dh = dh * z[t] - drh * r[t] + dz_in @ Uz.T + dr_in @ Ur.T
        """, (sigmoid,)),
]  # fmt: skip
