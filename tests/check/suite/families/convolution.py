"""Convolution by loops and by im2col, max pooling, and a network of one dimension."""

import numpy as np

from ..program import Program, arrays


def images(rng, N):
    params = arrays(rng, F=(2, 1, 3, 3), b=2, W=(8, 3))
    return params, rng.normal(size=(N, 1, 6, 6)), rng.integers(0, 3, N)


def small_images(rng, N):
    params = arrays(rng, K=(3, 3), c=(), v=(3, 3))
    return params, rng.normal(size=(N, 5, 5)), rng.normal(size=N)


def signals(rng, N):
    params = arrays(rng, w=3, b=(), V=(6, 2))
    return params, rng.normal(size=(N, 8)), rng.normal(size=(N, 2))


def columns_of(x, size):
    """Every window of the images as a row: (N, places, channels * size * size)."""
    N, C, H, W = x.shape
    windows = []
    for i in range(H - size + 1):
        for j in range(W - size + 1):
            windows.append(x[:, :, i : i + size, j : j + size].reshape(N, -1))
    return np.stack(windows, axis=1)


def im2col_and_max_pool(params, X, y):
    F, b, W = params["F"], params["b"], params["W"]
    N = len(X)
    cols = columns_of(X, 3)
    Fr = F.reshape(2, -1)
    conv = cols @ Fr.T + b
    h = np.maximum(conv, 0)
    # 4 x 4 places and 2 filters; blocks of 2 x 2
    blocks = h.reshape(N, 2, 2, 2, 2, 2)
    pooled = blocks.max(axis=(2, 4))
    flat = pooled.reshape(N, 8)
    scores = flat @ W
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(N), y]).mean()

    dscores = p.copy()
    dscores[np.arange(N), y] -= 1
    dscores = dscores / N
    dW = flat.T @ dscores
    dflat = dscores @ W.T
    dpooled = dflat.reshape(pooled.shape)
    largest = blocks == pooled[:, :, None, :, None, :]
    dblocks = largest * dpooled[:, :, None, :, None, :]
    dh = dblocks.reshape(h.shape)
    dconv = dh * (conv > 0)
    db = dconv.sum(axis=(0, 1))
    dFr = np.einsum("npf,npk->fk", dconv, cols)
    dF = dFr.reshape(F.shape)
    return loss, {"F": dF, "b": db, "W": dW}


def nested_loops(params, X, t):
    K, c, v = params["K"], params["c"], params["v"]
    N = X.shape[0]
    z = np.zeros((N, 3, 3)) + c
    for i in range(3):
        for j in range(3):
            z = z + K[i, j] * X[:, i : i + 3, j : j + 3]
    h = np.tanh(z)
    y = np.sum(h * v, axis=(1, 2))
    loss = 0.5 * np.mean((y - t) ** 2)

    dy = (y - t) / N
    dh = dy[:, None, None] * v
    dv = np.sum(dy[:, None, None] * h, axis=0)
    dz = dh * (1 - h**2)
    dK = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            dK[i, j] = np.sum(dz * X[:, i : i + 3, j : j + 3])
    dc = dz.sum()
    return loss, {"K": dK, "c": dc, "v": dv}


def two_convolutions_of_a_signal(params, x, t):
    w, b, V = params["w"], params["b"], params["V"]
    N = len(x)
    # the same filter of three taps, twice: length 8, 6, 6 (padded)
    z1 = w[0] * x[:, :-2] + w[1] * x[:, 1:-1] + w[2] * x[:, 2:] + b
    h1 = np.maximum(z1, 0.1 * z1)
    pad = np.pad(h1, ((0, 0), (1, 1)))
    z2 = w[0] * pad[:, :-2] + w[1] * pad[:, 1:-1] + w[2] * pad[:, 2:]
    h2 = np.tanh(z2)
    y = h2 @ V
    loss = np.sum((y - t) ** 2) / N

    dy = 2 * (y - t) / N
    dV = h2.T @ dy
    dh2 = dy @ V.T
    dz2 = dh2 * (1 - h2**2)
    dw = np.array([np.sum(dz2 * pad[:, k : k + 6]) for k in range(3)])
    dpad = np.zeros((N, 8))
    for k in range(3):
        dpad[:, k : k + 6] += dz2 * w[k]
    dh1 = dpad[:, 1:-1]
    dz1 = dh1 * np.where(z1 > 0, 1, 0.1)
    dw = dw + np.array([np.sum(dz1 * x[:, k : k + 6]) for k in range(3)])
    db = np.sum(dz1)
    return loss, {"w": dw, "b": db, "V": dV}


PROGRAMS = [
    Program(im2col_and_max_pool, images, """
        dscores = dscores / N
            scores missing_batch_mean: pass
        dblocks = largest * dpooled[:, :, None, :, None, :]
            right: dblocks = np.where(largest, dpooled[:, :, None, :, None, :], 0)
            blocks mask_not_applied|missing_activation_derivative: dblocks = np.ones(blocks.shape) * dpooled[:, :, None, :, None, :]
            blocks derivative_wrong_function|mask_wrong: dblocks = np.ones(blocks.shape) * dpooled[:, :, None, :, None, :] / 4
            blocks mask_wrong: dblocks = ~largest * dpooled[:, :, None, :, None, :]
        dconv = dh * (conv > 0)
            right: dconv = dh * (h > 0)
            conv missing_activation_derivative|derivative_all_ones: dconv = dh
            conv mask_wrong: dconv = dh * (conv < 0)
            conv derivative_wrong_function: dconv = dh * h
        db = dconv.sum(axis=(0, 1))
            b wrong_axis_sum|unreduced_broadcast: db = dconv.sum(axis=0)
            b mean_instead_of_sum: db = dconv.mean(axis=(0, 1))
            b unreduced_broadcast|wrong_axis_sum: db = dconv.sum(axis=1)
            b wrong_operand|missing_activation_derivative: db = dh.sum(axis=(0, 1))
        dFr = np.einsum("npf,npk->fk", dconv, cols)
            right: dFr = dconv.reshape(-1, 2).T @ cols.reshape(-1, 9)
            Fr/F factor: dFr = 2 * np.einsum("npf,npk->fk", dconv, cols)
            Fr/F mean_instead_of_sum|extra_batch_mean: dFr = np.einsum("npf,npk->fk", dconv, cols) / N
            Fr/F off_by_one|wrong_operand: dFr = np.einsum("npf,npk->fk", dconv[:, 1:], cols[:, :-1])
        dF = dFr.reshape(F.shape)
            F transpose: dF = dFr.reshape(F.shape).transpose(0, 1, 3, 2)
            F wrong_operand|transpose: dF = dFr.reshape(F.shape)[:, :, ::-1, ::-1]
        """, (columns_of,)),
    Program(nested_loops, small_images, """
        dy = (y - t) / N
            y sign: dy = (t - y) / N
        dv = np.sum(dy[:, None, None] * h, axis=0)
            v wrong_operand: dv = np.sum(dy[:, None, None] * z, axis=0)
            v unreduced_broadcast: dv = dy[:, None, None] * h
        dz = dh * (1 - h**2)
            z/z[9] derivative_at_wrong_point: dz = dh * (1 - z**2)
            z/z[9] missing_activation_derivative|derivative_all_ones: dz = dh
        dK[i, j] = np.sum(dz * X[:, i : i + 3, j : j + 3])
            right: dK[i, j] += (dz * X[:, i : i + 3, j : j + 3]).sum()
            K transpose: dK[j, i] = np.sum(dz * X[:, i : i + 3, j : j + 3])
            K mean_instead_of_sum|extra_batch_mean: dK[i, j] = np.sum(dz * X[:, i : i + 3, j : j + 3]) / N
            K wrong_operand|transpose: dK[2 - i, 2 - j] = np.sum(dz * X[:, i : i + 3, j : j + 3])
            K off_by_one|wrong_operand: dK[i, j] = np.sum(dz[:, :2, :2] * X[:, i + 1 : i + 3, j + 1 : j + 3])
        dc = dz.sum()
            c mean_instead_of_sum: dc = dz.mean()
            c unreduced_broadcast|wrong_axis_sum: dc = dz.sum(axis=0)
        """),
    Program(two_convolutions_of_a_signal, signals, """
        dz2 = dh2 * (1 - h2**2)
            z2 derivative_wrong_function: dz2 = dh2 * h2 * (1 - h2)
            z2 derivative_at_wrong_point: dz2 = dh2 * (1 - z2**2)
        dpad[:, k : k + 6] += dz2 * w[k]
            pad/h1 transpose|wrong_operand: dpad[:, k : k + 6] += dz2 * w[2 - k]
            pad/h1 missing_path: dpad[:, k : k + 6] = dz2 * w[k]
        dh1 = dpad[:, 1:-1]
            h1 off_by_one: dh1 = dpad[:, :-2]
            h1 off_by_one: dh1 = dpad[:, 2:]
        dz1 = dh1 * np.where(z1 > 0, 1, 0.1)
            right: dz1 = np.where(h1 > 0, dh1, 0.1 * dh1)
            z1 derivative_all_ones|missing_activation_derivative: dz1 = dh1
            z1 derivative_wrong_function|mask_wrong|missing_path: dz1 = dh1 * (z1 > 0)
            z1 mask_wrong: dz1 = dh1 * np.where(z1 < 0, 1, 0.1)
        dw = dw + np.array([np.sum(dz1 * x[:, k : k + 6]) for k in range(3)])
            w missing_path: pass
            w missing_path: dw = np.array([np.sum(dz1 * x[:, k : k + 6]) for k in range(3)])
            w wrong_operand|transpose: dw = dw + np.array([np.sum(dz1 * x[:, 2 - k : 8 - k]) for k in range(3)])
            w sign: dw = dw - np.array([np.sum(dz1 * x[:, k : k + 6]) for k in range(3)])
        db = np.sum(dz1)
            b extra_term|factor: db = np.sum(dz1) + np.sum(dz2)
            b mean_instead_of_sum: db = np.mean(dz1)
            b unreduced_broadcast|wrong_axis_sum: db = np.sum(dz1, axis=0)
        """, recordable=False),
]  # fmt: skip
