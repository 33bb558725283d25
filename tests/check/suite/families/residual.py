"""Residual connections: a block's input is also its way around."""

import numpy as np

from ..program import Program, arrays


def blocks(rng, N):
    params = arrays(rng, W1=(5, 5), b1=5, W2=(5, 5), b2=5, V=(5, 3))
    return params, rng.normal(size=(N, 5)), rng.integers(0, 3, N)


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


PROGRAMS = [
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
]  # fmt: skip
