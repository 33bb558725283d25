"""A quantity used twice: tied weights, residual connections, shared layers, several losses."""

import numpy as np

from ..program import Program, arrays


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def reconstruction(rng, N):
    return arrays(rng, W=(6, 3), b=3, c=6), rng.uniform(size=(N, 6))


def blocks(rng, N):
    params = arrays(rng, W1=(5, 5), b1=5, W2=(5, 5), b2=5, V=(5, 3))
    return params, rng.normal(size=(N, 5)), rng.integers(0, 3, N)


def pairs(rng, N):
    same = rng.integers(0, 2, N).astype(float)
    return arrays(rng, W=(4, 3)), rng.normal(size=(N, 4)), rng.normal(size=(N, 4)), same


def heads(rng, N):
    params = arrays(rng, W=(4, 5), V=(5, 3), u=5)
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N), rng.normal(size=N), 0.7


def noise(rng, N):
    params = arrays(rng, We=(5, 4), Wm=(4, 2), Ws=(4, 2), Wd=(2, 5))
    return params, rng.normal(size=(N, 5)), rng.normal(size=(N, 2))


def tied_autoencoder(params, X):
    W, b, c = params["W"], params["b"], params["c"]
    N = X.shape[0]
    h = sigmoid(X @ W + b)
    z = h @ W.T + c
    X_hat = sigmoid(z)
    loss = np.sum((X_hat - X) ** 2) / (2 * N)

    dX_hat = (X_hat - X) / N
    dz = dX_hat * X_hat * (1 - X_hat)
    dc = dz.sum(axis=0)
    dh = dz @ W
    da = dh * h * (1 - h)
    db = da.sum(axis=0)
    # once as the encoder, once as the decoder
    dW = X.T @ da + dz.T @ h
    return loss, {"W": dW, "b": db, "c": dc}


def residual_blocks(params, X, y):
    W1, b1, W2, b2, V = [params[k] for k in ("W1", "b1", "W2", "b2", "V")]
    N = len(y)
    z1 = X @ W1 + b1
    h1 = X + np.maximum(z1, 0)
    z2 = h1 @ W2 + b2
    h2 = h1 + np.maximum(z2, 0)
    scores = h2 @ V
    p = np.exp(scores)
    p = p / p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(N), y]).sum() / N

    dscores = (p - np.eye(3)[y]) / N
    dV = h2.T @ dscores
    dh2 = dscores @ V.T
    dz2 = dh2 * (z2 > 0)
    dW2 = h1.T @ dz2
    db2 = dz2.sum(axis=0)
    dh1 = dh2 + dz2 @ W2.T
    dz1 = dh1 * (z1 > 0)
    dW1 = X.T @ dz1
    db1 = dz1.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2, "V": dV}


def siamese(params, A, B, same):
    (W,) = params.values()
    a = np.tanh(A @ W)
    b = np.tanh(B @ W)
    diff = a - b
    dist = np.sum(diff**2, axis=1)
    gap = np.maximum(0, 2.0 - dist)
    loss = np.mean(same * dist + (1 - same) * gap)

    N = len(same)
    dgap = (1 - same) / N
    ddist = same / N - dgap * (gap > 0)
    ddiff = 2 * diff * ddist[:, None]
    da = ddiff
    db = -ddiff
    dza = da * (1 - a**2)
    dzb = db * (1 - b**2)
    dW = A.T @ dza + B.T @ dzb
    return loss, {"W": dW}


def two_heads(params, X, y, t, weight):
    W, V, u = params["W"], params["V"], params["u"]
    N = len(X)
    h = np.tanh(X @ W)
    logits = h @ V
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    r = h @ u
    loss1 = -np.mean(np.log(p[np.arange(N), y]))
    loss2 = np.mean((r - t) ** 2)
    loss = loss1 + weight * loss2

    dlogits = p.copy()
    dlogits[np.arange(N), y] -= 1
    dlogits /= N
    dV = h.T @ dlogits
    dr = weight * 2 * (r - t) / N
    du = h.T @ dr
    dh = dlogits @ V.T + np.outer(dr, u)
    dW = X.T @ (dh * (1 - h**2))
    return loss, {"W": dW, "V": dV, "u": du}


def variational_autoencoder(params, X, eps):
    We, Wm, Ws, Wd = params["We"], params["Wm"], params["Ws"], params["Wd"]
    N = len(X)
    h = np.tanh(X @ We)
    mu = h @ Wm
    logvar = h @ Ws
    std = np.exp(0.5 * logvar)
    code = mu + std * eps
    X_hat = code @ Wd
    kl = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar))
    loss = (0.5 * np.sum((X_hat - X) ** 2) + kl) / N

    dX_hat = (X_hat - X) / N
    dWd = code.T @ dX_hat
    dcode = dX_hat @ Wd.T
    dmu = dcode + mu / N
    dstd = dcode * eps
    dlogvar = dstd * 0.5 * std + 0.5 * (np.exp(logvar) - 1) / N
    dWm = h.T @ dmu
    dWs = h.T @ dlogvar
    dh = dmu @ Wm.T + dlogvar @ Ws.T
    dWe = X.T @ (dh * (1 - h * h))
    return loss, {"We": dWe, "Wm": dWm, "Ws": dWs, "Wd": dWd}


PROGRAMS = [
    Program(tied_autoencoder, reconstruction, """
        dX_hat = (X_hat - X) / N
            X_hat missing_batch_mean: dX_hat = X_hat - X
            X_hat factor: dX_hat = 2 * (X_hat - X) / N
        dz = dX_hat * X_hat * (1 - X_hat)
            z missing_activation_derivative|derivative_all_ones: dz = dX_hat
            z derivative_at_wrong_point: dz = dX_hat * z * (1 - z)
            z derivative_at_wrong_point|wrong_operand: dz = dX_hat * X * (1 - X)
        dh = dz @ W
            h wrong_operand|missing_activation_derivative: dh = dX_hat @ W
        dc = dz.sum(axis=0)
            c mean_instead_of_sum|extra_batch_mean: dc = dz.mean(axis=0)
        dW = X.T @ da + dz.T @ h
            right: dW = (h.T @ dz).T + X.T @ da
            W missing_path: dW = X.T @ da
            W missing_path: dW = dz.T @ h
            W sign: dW = X.T @ da - dz.T @ h
            W wrong_operand|missing_activation_derivative: dW = X.T @ da + dX_hat.T @ h
            W wrong_operand|missing_activation_derivative: dW = X.T @ dh + dz.T @ h
        """, (sigmoid,)),
    Program(residual_blocks, blocks, """
        dscores = (p - np.eye(3)[y]) / N
            scores sign: dscores = (np.eye(3)[y] - p) / N
        dz2 = dh2 * (z2 > 0)
            z2 derivative_at_wrong_point|mask_wrong: dz2 = dh2 * (h2 > 0)
            z2 missing_activation_derivative|derivative_all_ones: dz2 = dh2
        dW2 = h1.T @ dz2
            W2 off_by_one|wrong_operand: dW2 = X.T @ dz2
            W2 off_by_one|wrong_operand: dW2 = h2.T @ dz2
            W2 transpose: dW2 = dz2.T @ h1
        dh1 = dh2 + dz2 @ W2.T
            right: dh1 = dz2 @ W2.T + dh2
            h1 missing_path|detached: dh1 = dz2 @ W2.T
            h1 missing_path|detached: dh1 = dh2
            h1 sign: dh1 = dh2 - dz2 @ W2.T
            h1 factor: dh1 = 2 * dh2 + dz2 @ W2.T
            h1 transpose: dh1 = dh2 + dz2 @ W2
            h1 wrong_operand: dh1 = dz2 + dz2 @ W2.T
        dW1 = X.T @ dz1
            W1 transpose: dW1 = dz1.T @ X
            W1 extra_batch_mean: dW1 = X.T @ dz1 / N
        db1 = dz1.sum(axis=0)
            b1 mean_instead_of_sum|extra_batch_mean: db1 = dz1.mean(axis=0)
            b1 wrong_operand|missing_activation_derivative: db1 = dh1.sum(axis=0)
        """),
    Program(siamese, pairs, """
        ddist = same / N - dgap * (gap > 0)
            dist mask_not_applied|missing_activation_derivative|derivative_all_ones: ddist = same / N - dgap
            dist missing_path: ddist = same / N
            dist sign: ddist = same / N + dgap * (gap > 0)
            dist mask_wrong: ddist = same / N - dgap * (dist > 1.0)
        ddiff = 2 * diff * ddist[:, None]
            diff factor: ddiff = diff * ddist[:, None]
            diff wrong_operand: ddiff = 2 * a * ddist[:, None]
        db = -ddiff
            b sign: db = ddiff
        dzb = db * (1 - b**2)
            W derivative_at_wrong_point|wrong_operand: dzb = db * (1 - a**2)
            W missing_activation_derivative|derivative_all_ones: dzb = db
        dW = A.T @ dza + B.T @ dzb
            right: dW = B.T @ dzb + np.dot(A.T, dza)
            W detached|missing_path: dW = A.T @ dza
            W wrong_operand: dW = A.T @ dza + A.T @ dzb
            W sign: dW = A.T @ dza - B.T @ dzb
        """),
    Program(two_heads, heads, """
        dr = weight * 2 * (r - t) / N
            r factor: dr = 2 * (r - t) / N
            r missing_batch_mean: dr = weight * 2 * (r - t)
            r factor: dr = weight * (r - t) / N
        dlogits /= N
            logits missing_batch_mean: pass
        dh = dlogits @ V.T + np.outer(dr, u)
            right: dh = dr[:, None] * u + dlogits @ V.T
            h detached|missing_path: dh = dlogits @ V.T
            h detached|missing_path: dh = np.outer(dr, u)
            h factor: dh = dlogits @ V.T + np.outer(dr, u) / weight
        dW = X.T @ (dh * (1 - h**2))
            W missing_activation_derivative|derivative_all_ones: dW = X.T @ dh
            W derivative_at_wrong_point: dW = X.T @ (dh * (1 - np.tanh(h) ** 2))
            W transpose: dW = (dh * (1 - h**2)).T @ X
        du = h.T @ dr
            u wrong_operand: du = h.T @ r
            u factor: du = weight * h.T @ dr
        """),
    Program(variational_autoencoder, noise, """
        dmu = dcode + mu / N
            mu missing_path: dmu = dcode
            mu sign: dmu = dcode - mu / N
            mu missing_batch_mean: dmu = dcode + mu
        dstd = dcode * eps
            std wrong_operand|missing_activation_derivative: dstd = dcode
        dlogvar = dstd * 0.5 * std + 0.5 * (np.exp(logvar) - 1) / N
            logvar detached|missing_path: dlogvar = 0.5 * (np.exp(logvar) - 1) / N
            logvar missing_path: dlogvar = dstd * 0.5 * std
            logvar factor: dlogvar = dstd * std + 0.5 * (np.exp(logvar) - 1) / N
            logvar sign: dlogvar = dstd * 0.5 * std - 0.5 * (np.exp(logvar) - 1) / N
            logvar missing_path: dlogvar = dstd * 0.5 * std + 0.5 * np.exp(logvar) / N
        dWs = h.T @ dlogvar
            Ws wrong_operand: dWs = h.T @ dmu
        dh = dmu @ Wm.T + dlogvar @ Ws.T
            h missing_path: dh = dmu @ Wm.T
            h wrong_operand: dh = dmu @ Wm.T + dlogvar @ Wm.T
        dWe = X.T @ (dh * (1 - h * h))
            We derivative_wrong_function: dWe = X.T @ (dh * h * (1 - h))
        """),
]  # fmt: skip
