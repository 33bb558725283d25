"""Dropout, padded sequences, clipped losses: what a mask takes away stays away in the backward pass."""

import numpy as np

from ..program import Program, arrays


def two_masks(rng, N):
    params = arrays(rng, W1=(4, 6), b1=6, W2=(6, 6), b2=6, W3=(6, 3))
    masks = [(rng.random((N, 6)) < 0.7) / 0.7 for _ in range(2)]
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N), masks


def seeded(rng, N):
    params = arrays(rng, W1=(4, 6), W2=(6, 2))
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 2)), 0.6


def padded(rng, N):
    lengths = rng.integers(2, 6, N)
    mask = (np.arange(5) < lengths[:, None]).astype(float)
    params = arrays(rng, W=(3, 4), b=4, v=4)
    return params, rng.normal(size=(N, 5, 3)), mask, rng.normal(size=(N, 5))


def outliers(rng, N):
    return arrays(rng, W=(4, 3), b=3), rng.normal(size=(N, 4)), 2 * rng.normal(size=(N, 3))


def dropout_twice(params, X, y, masks):
    W1, b1, W2, b2, W3 = [params[k] for k in ("W1", "b1", "W2", "b2", "W3")]
    m1, m2 = masks  # already divided by the probability to keep
    N = len(X)
    z1 = X @ W1 + b1
    h1 = np.maximum(z1, 0)
    d1 = h1 * m1
    z2 = d1 @ W2 + b2
    h2 = np.maximum(z2, 0)
    d2 = h2 * m2
    scores = d2 @ W3
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(N), y]).mean()

    grad_scores = p.copy()
    grad_scores[np.arange(N), y] -= 1
    grad_scores /= N
    grad_W3 = d2.T @ grad_scores
    grad_d2 = grad_scores @ W3.T
    grad_h2 = grad_d2 * m2
    grad_z2 = grad_h2 * (z2 > 0)
    grad_W2 = d1.T @ grad_z2
    grad_b2 = grad_z2.sum(axis=0)
    grad_d1 = grad_z2 @ W2.T
    grad_h1 = grad_d1 * m1
    grad_z1 = grad_h1 * (z1 > 0)
    grad_W1 = X.T @ grad_z1
    grad_b1 = grad_z1.sum(axis=0)
    return loss, {"W1": grad_W1, "b1": grad_b1, "W2": grad_W2, "b2": grad_b2, "W3": grad_W3}


def inverted_dropout(params, X, T, keep):
    W1, W2 = params["W1"], params["W2"]
    rng = np.random.default_rng(7)
    z = X @ W1
    a = np.tanh(z)
    D = rng.random(a.shape) < keep
    A = a * D / keep
    out = A @ W2
    loss = np.mean((out - T) ** 2)

    dout = 2 * (out - T) / T.size
    dW2 = A.T @ dout
    dA = dout @ W2.T
    da = dA * D / keep
    dz = da * (1 - a**2)
    dW1 = X.T @ dz
    return loss, {"W1": dW1, "W2": dW2}


def padded_sequences(params, X, mask, T):
    W, b, v = params["W"], params["b"], params["v"]
    total = mask.sum()
    z = X @ W + b
    h = np.maximum(z, 0)
    y = h @ v
    # padding counts for nothing
    loss = np.sum(mask * (y - T) ** 2) / total

    dy = 2 * mask * (y - T) / total
    dv = np.einsum("nt,nth->h", dy, h)
    dh = dy[:, :, None] * v
    dz = dh * (z > 0)
    dW = np.einsum("ntd,nth->dh", X, dz)
    db = dz.sum(axis=(0, 1))
    return loss, {"W": dW, "b": db, "v": dv}


def huber(params, X, T):
    W, b = params["W"], params["b"]
    y = X @ W + b
    r = y - T
    small = np.abs(r) <= 1.0
    losses = np.where(small, 0.5 * r**2, np.abs(r) - 0.5)
    loss = losses.sum() / len(X)

    dr = np.where(small, r, np.sign(r)) / len(X)
    dy = dr
    dW = X.T @ dy
    db = dy.sum(axis=0)
    return loss, {"W": dW, "b": db}


PROGRAMS = [
    Program(dropout_twice, two_masks, """
        grad_scores /= N
            scores missing_batch_mean: pass
        grad_W3 = d2.T @ grad_scores
            W3 wrong_operand|mask_not_applied: grad_W3 = h2.T @ grad_scores
        grad_h2 = grad_d2 * m2
            right: grad_h2 = m2 * grad_d2
            h2 mask_not_applied: grad_h2 = grad_d2
            h2 mask_reused|wrong_operand: grad_h2 = grad_d2 * m1
            h2 mask_wrong|factor: grad_h2 = grad_d2 * (m2 > 0)
            h2 mask_wrong: grad_h2 = grad_d2 * (m2 == 0)
        grad_z2 = grad_h2 * (z2 > 0)
            right: grad_z2 = grad_h2 * (h2 > 0)
            z2 missing_activation_derivative|derivative_all_ones: grad_z2 = grad_h2
            z2 off_by_one|mask_wrong|derivative_at_wrong_point|wrong_operand: grad_z2 = grad_h2 * (z1 > 0)
        grad_h1 = grad_d1 * m1
            h1 mask_reused|wrong_operand: grad_h1 = grad_d1 * m2
            h1 mask_not_applied: grad_h1 = grad_d1
            h1 mask_wrong|extra_term|factor: grad_h1 = grad_d1 * m1 * m1
        grad_W2 = d1.T @ grad_z2
            W2 wrong_operand|mask_not_applied: grad_W2 = h1.T @ grad_z2
        grad_z1 = grad_h1 * (z1 > 0)
            z1 mask_wrong: grad_z1 = grad_h1 * (z1 <= 0)
            z1 mask_reused|mask_wrong|wrong_operand: grad_z1 = grad_h1 * (z2 > 0)
        grad_b1 = grad_z1.sum(axis=0)
            b1 mean_instead_of_sum|extra_batch_mean: grad_b1 = grad_z1.mean(axis=0)
        """),
    Program(inverted_dropout, seeded, """
        dA = dout @ W2.T
            A sign: dA = -dout @ W2.T
        da = dA * D / keep
            right: da = np.where(D, dA / keep, 0)
            a mask_not_applied: da = dA
            a factor|mask_wrong: da = dA * D
            a mask_not_applied|factor: da = dA / keep
            a mask_wrong: da = dA * ~D / (1 - keep)
            a mask_wrong: da = dA * (rng.random(a.shape) < keep) / keep
            a factor: da = dA * D * keep
        dz = da * (1 - a**2)
            z derivative_at_wrong_point|wrong_operand: dz = da * (1 - A**2)
            z derivative_at_wrong_point: dz = da * (1 - z**2)
            z missing_activation_derivative|derivative_all_ones: dz = da
        dW2 = A.T @ dout
            W2 wrong_operand|mask_not_applied: dW2 = a.T @ dout
        """),
    Program(padded_sequences, padded, """
        dy = 2 * mask * (y - T) / total
            right: dy = np.where(mask > 0, 2 * (y - T), 0) / total
            y mask_not_applied: dy = 2 * (y - T) / total
            y missing_batch_mean|factor|missing_factor: dy = 2 * mask * (y - T)
            y factor: dy = mask * (y - T) / total
            y factor|wrong_operand: dy = 2 * mask * (y - T) / T.size
            y mask_wrong: dy = 2 * (1 - mask) * (y - T) / total
            y sign: dy = 2 * mask * (T - y) / total
        dv = np.einsum("nt,nth->h", dy, h)
            v mean_instead_of_sum|extra_batch_mean: dv = np.einsum("nt,nth->h", dy, h) / len(X)
            v wrong_operand: dv = np.einsum("nt,nth->h", dy, z)
        dz = dh * (z > 0)
            z derivative_all_ones|missing_activation_derivative: dz = dh * (h >= 0)
        db = dz.sum(axis=(0, 1))
            b unreduced_broadcast|wrong_axis_sum: db = dz.sum(axis=0)
            b wrong_axis_sum: db = dz.sum(axis=(1, 2))
            b unreduced_broadcast: db = dz
        """),
    Program(huber, outliers, """
        dr = np.where(small, r, np.sign(r)) / len(X)
            right: dr = np.clip(r, -1, 1) / len(X)
            r missing_batch_mean: dr = np.where(small, r, np.sign(r))
            r mask_not_applied|derivative_wrong_function|other_loss: dr = r / len(X)
            r derivative_wrong_function: dr = np.sign(r) / len(X)
            r mask_wrong: dr = np.where(small, np.sign(r), r) / len(X)
            r missing_activation_derivative|derivative_all_ones: dr = np.where(small, r, 1) / len(X)
        db = dy.sum(axis=0)
            b unreduced_broadcast: db = dy
            b wrong_axis_sum: db = dy.sum(axis=1)
        """),
]  # fmt: skip
