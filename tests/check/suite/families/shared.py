"""One layer used on two inputs, one layer under two losses."""

import numpy as np

from ..program import Program, arrays


def pairs(rng, N):
    same = rng.integers(0, 2, N).astype(float)
    return arrays(rng, W=(4, 3)), rng.normal(size=(N, 4)), rng.normal(size=(N, 4)), same


def heads(rng, N):
    params = arrays(rng, W=(4, 5), V=(5, 3), u=5)
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N), rng.normal(size=N), 0.7


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


PROGRAMS = [
    Program(siamese, pairs, """
        ddist = same / N - dgap * (gap > 0)
            dist mask_not_applied|missing_activation_derivative|derivative_all_ones: ddist = same / N - dgap
            dist missing_path: ddist = same / N
            dist sign: ddist = same / N + dgap * (gap > 0)
            dist mask_wrong: ddist = same / N - dgap * (dist > 1.0)
        ddiff = 2 * diff * ddist[:, None]
            diff factor: ddiff = diff * ddist[:, None]
            diff wrong_operand|derivative_at_wrong_point: ddiff = 2 * a * ddist[:, None]
        db = -ddiff
            b sign: db = ddiff
        dzb = db * (1 - b**2)
            W/~dzb derivative_at_wrong_point|wrong_operand: dzb = db * (1 - a**2)
            W/~dzb missing_activation_derivative|derivative_all_ones: dzb = db
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
]  # fmt: skip
