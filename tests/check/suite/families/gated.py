"""LSTM and GRU: gates, and a state whose gradient comes along two ways."""

import numpy as np

from ..program import Program, arrays

STEPS = 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gates(rng, N):
    params = arrays(rng, W=(3 + 4, 4 * 4), b=16, V=(4, 2))
    return params, rng.normal(size=(N, STEPS, 3)), rng.normal(size=(N, 2))


def named_gates(rng, N):
    shapes = {f"W{gate}": (3, 4) for gate in "zrh"} | {f"U{gate}": (4, 4) for gate in "zrh"}
    params = arrays(rng, **shapes, V=(4, 2))
    return params, rng.normal(size=(N, STEPS, 3)), rng.normal(size=(N, 2))


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
    Program(lstm, gates, """
        dy = (y - T) / N
            y missing_batch_mean: dy = y - T
        do = dh * tanh_c
            o[1]/cache[1][3] wrong_operand: do = dh * c_prev
        dc = dc + dh * o * (1 - tanh_c**2)
            c[0]/cache[1][5]/c_prev missing_path: dc = dh * o * (1 - tanh_c**2)
            c[1] missing_activation_derivative|derivative_all_ones: dc = dc + dh * o
            c[1] missing_factor|missing_activation_derivative|wrong_operand: dc = dc + dh * (1 - tanh_c**2)
        di = dc * g
            i[1]/cache[1][1] wrong_operand: di = dc * f
        df = dc * c_prev
            f[1]/cache[1][2] wrong_operand: df = dc * tanh_c
        dg = dc * i
            g[1]/cache[1][4] wrong_operand: dg = dc * f
        dai = di * i * (1 - i)
            a[1]/~dai missing_activation_derivative|derivative_all_ones: dai = di
            a[1]/~dai derivative_wrong_function: dai = di * (1 - i**2)
        dag = dg * (1 - g**2)
            a[1]/~dag derivative_wrong_function: dag = dg * g * (1 - g)
            a[1]/~dag derivative_at_wrong_point: dag = dg * (1 - np.tanh(g) ** 2)
        da = np.concatenate([dai, daf, dao, dag], axis=1)
            a[1] wrong_operand: da = np.concatenate([dai, dao, daf, dag], axis=1)
        dW = dW + xh.T @ da
            W missing_path: dW = xh.T @ da
            W factor: dW = dW + 2 * xh.T @ da
        db = db + da.sum(axis=0)
            b mean_instead_of_sum|extra_batch_mean: db = db + da.mean(axis=0)
            b missing_path: db = da.sum(axis=0)
        dh = dxh[:, 3:]
            h[0] off_by_one: dh = dxh[:, 2:-1]
            h[0] sign: dh = -dxh[:, 3:]
        dc = dc * f
            right: dc = f * dc
            c[0]/cache[1][5]/c_prev wrong_operand: dc = dc * i
            c[0]/cache[1][5]/c_prev missing_factor|missing_activation_derivative|wrong_operand: pass
        """, (sigmoid,)),
    Program(gru, named_gates, """
        dz = dh * (h[t] - n[t])
            z[1] sign: dz = dh * (n[t] - h[t])
            z[1] missing_path: dz = dh * h[t]
            z[1] off_by_one|wrong_operand: dz = dh * (h[t + 1] - n[t])
        dn = dh * (1 - z[t])
            n[1] wrong_operand: dn = dh * z[t]
            n[1] missing_factor|missing_activation_derivative|wrong_operand: dn = dh
        dn_in = dn * (1 - n[t] ** 2)
            ~dn_in/rh[1]/Uh/Wh missing_activation_derivative|derivative_all_ones: dn_in = dn
            ~dn_in/rh[1]/Uh/Wh derivative_wrong_function: dn_in = dn * n[t] * (1 - n[t])
        drh = dn_in @ Uh.T
            rh[1] transpose: drh = dn_in @ Uh
        dr = drh * h[t]
            r[1] wrong_operand: dr = drh * n[t]
            r[1] off_by_one|wrong_operand: dr = drh * h[t + 1]
        dz_in = dz * z[t] * (1 - z[t])
            ~dz_in/h[1]/Uz/Wz derivative_wrong_function: dz_in = dz * (1 - z[t] ** 2)
        grads["Uh"] = grads["Uh"] + rh[t].T @ dn_in
            Uh wrong_operand: grads["Uh"] = grads["Uh"] + h[t].T @ dn_in
            Uh transpose: grads["Uh"] = grads["Uh"] + dn_in.T @ rh[t]
        grads["Ur"] = grads["Ur"] + h[t].T @ dr_in
            Ur wrong_operand: grads["Ur"] = grads["Ur"] + h[t].T @ dz_in
            Ur missing_path: grads["Ur"] = h[t].T @ dr_in
        dh = dh * z[t] + drh * r[t] + dz_in @ Uz.T + dr_in @ Ur.T
            right: dh = dr_in @ Ur.T + dz_in @ Uz.T + drh * r[t] + dh * z[t]
            h[1] missing_path: dh = drh * r[t] + dz_in @ Uz.T + dr_in @ Ur.T
            h[1] detached|missing_path: dh = dh * z[t] + drh * r[t]
            h[1] missing_path: dh = dh * z[t] + drh * r[t] + dz_in @ Uz.T
            h[1] missing_factor|missing_activation_derivative|wrong_operand: dh = dh * z[t] + drh + dz_in @ Uz.T + dr_in @ Ur.T
            h[1] sign: dh = dh * z[t] - drh * r[t] + dz_in @ Uz.T + dr_in @ Ur.T
        """, (sigmoid,)),
]  # fmt: skip
