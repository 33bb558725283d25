"""Softmax regression: labels and a penalty, log-softmax, and squared error through its Jacobian."""

import numpy as np

from ..program import Program, arrays


def classes(rng, N):
    return arrays(rng, W=(4, 3), b=3), rng.normal(size=(N, 4)), rng.integers(0, 3, N), 0.1


def one_hot(rng, N):
    return arrays(rng, W=(4, 3), b=3), rng.normal(size=(N, 4)), np.eye(3)[rng.integers(0, 3, N)]


def softmax_classifier(params, X, y, reg):
    W, b = params["W"], params["b"]
    num_train = X.shape[0]
    scores = X.dot(W) + b
    scores = scores - scores.max(axis=1, keepdims=True)
    p = np.exp(scores)
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[range(num_train), y]).mean()
    loss += reg * np.sum(W * W)

    dscores = p
    dscores[range(num_train), y] -= 1
    dscores /= num_train
    dW = X.T.dot(dscores)
    dW += 2 * reg * W
    db = dscores.sum(axis=0)
    return loss, {"W": dW, "b": db}


def log_softmax(params, X, T):
    W, b = params["W"], params["b"]
    z = X @ W + b
    c = z.max(axis=1, keepdims=True)
    logp = z - c - np.log(np.exp(z - c).sum(axis=1, keepdims=True))
    loss = -(T * logp).sum(axis=1).mean()
    dlogp = -T / len(X)
    dz = dlogp - np.exp(logp) * dlogp.sum(axis=1, keepdims=True)
    dW = X.T @ dz
    db = dz.sum(axis=0)
    return loss, {"W": dW, "b": db}


def softmax_squared_error(params, X, T):
    W, b = params["W"], params["b"]
    z = X @ W + b
    e = np.exp(z)
    p = e / np.sum(e, axis=1, keepdims=True)
    loss = np.sum((p - T) ** 2) / len(X)
    dp = 2 * (p - T) / len(X)
    # the Jacobian of softmax times dp, for each sample
    dz = p * (dp - np.sum(dp * p, axis=1, keepdims=True))
    dW = X.T @ dz
    db = np.sum(dz, axis=0)
    return loss, {"W": dW, "b": db}


PROGRAMS = [
    Program(softmax_classifier, classes, """
        dscores[range(num_train), y] -= 1
            scores/scores[0]/scores[1] missing_path: pass
            scores/scores[0]/scores[1] sign: dscores[range(num_train), y] -= 1; dscores *= -1
            scores/scores[0]/scores[1] off_by_one: dscores[range(num_train), (y + 1) % 3] -= 1
        dscores /= num_train
            scores/scores[0]/scores[1] missing_batch_mean: pass
            scores/scores[0]/scores[1] factor: dscores /= 2 * num_train
        dW = X.T.dot(dscores)
            W unreduced_broadcast: dW = X[:, :, None] * dscores[:, None, :]
            W extra_batch_mean: dW = X.T.dot(dscores) / num_train
        dW += 2 * reg * W
            right: dW = dW + (reg * 2) * W
            W missing_regularisation: pass
            W factor|missing_regularisation: dW += reg * W
            W sign: dW -= 2 * reg * W
        db = dscores.sum(axis=0)
            b extra_term: db = dscores.sum(axis=0) + 2 * reg * b
            b wrong_axis_sum: db = dscores.sum(axis=1)
            b mean_instead_of_sum|extra_batch_mean: db = dscores.mean(axis=0)
        """),
    Program(log_softmax, one_hot, """
        dlogp = -T / len(X)
            logp missing_batch_mean: dlogp = -T
            logp sign: dlogp = T / len(X)
        dz = dlogp - np.exp(logp) * dlogp.sum(axis=1, keepdims=True)
            right: dz = (np.exp(logp) - T) / len(X)
            z missing_path|softmax_jacobian_diagonal_only: dz = dlogp
            z softmax_jacobian_diagonal_only: dz = dlogp * (1 - np.exp(logp))
            z sign: dz = dlogp + np.exp(logp) * dlogp.sum(axis=1, keepdims=True)
            z wrong_axis_sum: dz = dlogp - np.exp(logp) * dlogp.sum(axis=0, keepdims=True)
            z wrong_axis_sum: dz = dlogp - np.exp(logp) * dlogp.sum()
        """),
    Program(softmax_squared_error, one_hot, """
        dp = 2 * (p - T) / len(X)
            p factor: dp = (p - T) / len(X)
            p sign: dp = 2 * (T - p) / len(X)
        dz = p * (dp - np.sum(dp * p, axis=1, keepdims=True))
            right: dz = p * dp - p * np.sum(dp * p, axis=1, keepdims=True)
            z softmax_jacobian_diagonal_only: dz = dp * p * (1 - p)
            z softmax_jacobian_diagonal_only|missing_path: dz = p * dp
            z missing_activation_derivative|derivative_all_ones: dz = dp
            z wrong_axis_sum: dz = p * (dp - np.sum(dp * p, axis=0, keepdims=True))
            z mean_instead_of_sum|factor: dz = p * (dp - np.mean(dp * p, axis=1, keepdims=True))
            z missing_factor|wrong_operand: dz = p * (dp - np.sum(dp, axis=1, keepdims=True))
        dW = X.T @ dz
            W wrong_operand|missing_activation_derivative: dW = X.T @ dp
        """),
]  # fmt: skip
