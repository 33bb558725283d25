"""Linear, logistic and softmax regression, with and without a penalty."""

import numpy as np

from ..program import Program, arrays


def line(rng, N):
    return arrays(rng, w=4, b=()), rng.normal(size=(N, 4)), rng.normal(size=N)


def line_in_columns(rng, N):
    params = arrays(rng, w=(4, 1), b=(1, 1))
    return params, rng.normal(size=(4, N)), rng.integers(0, 2, (1, N)).astype(float)


def coin(rng, N):
    return arrays(rng, w=4, b=()), rng.normal(size=(N, 4)), rng.integers(0, 2, N).astype(float)


def classes(rng, N):
    return arrays(rng, W=(4, 3), b=3), rng.normal(size=(N, 4)), rng.integers(0, 3, N), 0.1


def one_hot(rng, N):
    return arrays(rng, W=(4, 3), b=3), rng.normal(size=(N, 4)), np.eye(3)[rng.integers(0, 3, N)]


def several(rng, N):
    return (rng.normal(size=(4, 3)),), rng.normal(size=(N, 4)), rng.normal(size=(N, 3)), 0.3


def linear_regression(params, X, y):
    w, b = params["w"], params["b"]
    n = len(y)
    y_pred = X @ w + b
    residual = y_pred - y
    loss = (residual**2).sum() / n
    dy_pred = 2 / n * residual
    dw = X.T @ dy_pred
    db = dy_pred.sum()
    return loss, {"w": dw, "b": db}


def ridge(params, X, Y, alpha):
    (W,) = params
    pred = X @ W
    loss = 0.5 * np.sum((pred - Y) ** 2) + 0.5 * alpha * np.sum(W**2)
    dpred = pred - Y
    dW = X.T @ dpred + alpha * W
    return loss, (dW,)


def lasso(params, X, Y, alpha):
    (W,) = params
    n = X.shape[0]
    pred = np.dot(X, W)
    # mean over the samples, sum over the outputs
    loss = np.sum((pred - Y) ** 2) / (2 * n) + alpha * np.sum(np.abs(W))
    d_pred = (pred - Y) / n
    d_W = np.dot(X.T, d_pred) + alpha * np.sign(W)
    return loss, (d_W,)


def logistic_regression(params, X, t):
    w, b = params["w"], params["b"]
    z = X @ w + b
    p = 1 / (1 + np.exp(-z))
    loss = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    dz = (p - t) / len(t)
    grads = {}
    grads["w"] = X.T @ dz
    grads["b"] = np.sum(dz)
    return loss, grads


def logistic_in_columns(params, X, Y):
    w, b = params["w"], params["b"]
    m = X.shape[1]
    Z = np.dot(w.T, X) + b
    A = 1 / (1 + np.exp(-Z))
    cost = -1 / m * np.sum(Y * np.log(A) + (1 - Y) * np.log(1 - A))
    # each gradient without 1/m until it is a parameter's
    dZ = A - Y
    dw = 1 / m * np.dot(X, dZ.T)
    db = 1 / m * np.sum(dZ, axis=1, keepdims=True)
    return cost, {"dw": dw, "db": db}


def logistic_from_logits(params, X, t):
    w, b = params["w"], params["b"]
    z = X.dot(w) + b
    # log(1 + exp(z)) - t z, which does not overflow
    losses = np.logaddexp(0, z) - t * z
    loss = losses.mean()
    dlosses = np.ones(len(t)) / len(t)
    dz = dlosses * (1 / (1 + np.exp(-z)) - t)
    dw = X.T.dot(dz)
    db = dz.sum()
    return loss, {"w": dw, "b": db}


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
    Program(linear_regression, line, """
        dy_pred = 2 / n * residual
            right: dy_pred = 2.0 * (y_pred - y) / n
            y_pred factor: dy_pred = 1 / n * residual
            y_pred missing_batch_mean: dy_pred = 2 * residual
            y_pred sign: dy_pred = 2 / n * (y - y_pred)
            y_pred extra_batch_mean: dy_pred = 2 / n**2 * residual
        dw = X.T @ dy_pred
            right: dw = (dy_pred[:, None] * X).sum(axis=0)
            w mean_instead_of_sum|extra_batch_mean: dw = (dy_pred[:, None] * X).mean(axis=0)
            w sign: dw = -X.T @ dy_pred
            w unreduced_broadcast: dw = dy_pred[:, None] * X
            w wrong_operand: dw = X.T @ y_pred
        db = dy_pred.sum()
            b mean_instead_of_sum|extra_batch_mean: db = dy_pred.mean()
            b unreduced_broadcast: db = dy_pred
        """),
    Program(ridge, several, """
        dpred = pred - Y
            pred sign: dpred = Y - pred
            pred factor: dpred = 2 * (pred - Y)
            pred extra_batch_mean: dpred = (pred - Y) / len(X)
        dW = X.T @ dpred + alpha * W
            right: dW = alpha * W + np.einsum("ni,nj->ij", X, dpred)
            W missing_regularisation: dW = X.T @ dpred
            W factor|missing_regularisation: dW = X.T @ dpred + 2 * alpha * W
            W sign: dW = X.T @ dpred - alpha * W
            W transpose: dW = (X.T @ dpred + alpha * W).T
        """),
    Program(lasso, several, """
        d_W = np.dot(X.T, d_pred) + alpha * np.sign(W)
            W missing_regularisation: d_W = np.dot(X.T, d_pred)
            W derivative_wrong_function: d_W = np.dot(X.T, d_pred) + alpha * W
            W missing_activation_derivative|derivative_all_ones: d_W = np.dot(X.T, d_pred) + alpha
            W factor: d_W = 2 * (np.dot(X.T, d_pred) + alpha * np.sign(W))
        d_pred = (pred - Y) / n
            pred missing_batch_mean: d_pred = pred - Y
        """),
    Program(logistic_regression, coin, """
        dz = (p - t) / len(t)
            z missing_batch_mean: dz = p - t
            z sign: dz = (t - p) / len(t)
            z extra_term: dz = (p - t) * p * (1 - p) / len(t)
        grads["w"] = X.T @ dz
            right: grads["w"] = dz @ X
            w mean_instead_of_sum|extra_batch_mean: grads["w"] = X.T @ dz / len(t)
            w wrong_operand: grads["w"] = X.T @ p
        grads["b"] = np.sum(dz)
            b unreduced_broadcast: grads["b"] = dz
            b factor: grads["b"] = 2 * np.sum(dz)
        """),
    Program(logistic_in_columns, line_in_columns, """
        dZ = A - Y
            right: dZ = -(Y - A)
            Z sign: dZ = Y - A
            Z extra_term: dZ = (A - Y) * A * (1 - A)
        dw = 1 / m * np.dot(X, dZ.T)
            right: dw = np.dot(X, dZ.T) / m
            w missing_batch_mean: dw = np.dot(X, dZ.T)
            w transpose: dw = 1 / m * np.dot(dZ, X.T)
            w factor: dw = 2 / m * np.dot(X, dZ.T)
        db = 1 / m * np.sum(dZ, axis=1, keepdims=True)
            right: db = np.mean(dZ, axis=1, keepdims=True)
            b missing_batch_mean: db = np.sum(dZ, axis=1, keepdims=True)
            b unreduced_broadcast: db = 1 / m * dZ
            b wrong_axis_sum|unreduced_broadcast: db = 1 / m * np.sum(dZ, axis=0, keepdims=True)
        """),
    Program(logistic_from_logits, coin, """
        dlosses = np.ones(len(t)) / len(t)
            losses missing_batch_mean: dlosses = np.ones(len(t))
        dz = dlosses * (1 / (1 + np.exp(-z)) - t)
            z sign: dz = dlosses * (t - 1 / (1 + np.exp(-z)))
            z missing_path: dz = dlosses * (1 / (1 + np.exp(-z)))
            z missing_path: dz = -dlosses * t
            z missing_activation_derivative|derivative_all_ones: dz = dlosses * (1 - t)
            z derivative_wrong_function: dz = dlosses * (np.tanh(z) - t)
        dw = X.T.dot(dz)
            w factor: dw = X.T.dot(dz) / 2
        db = dz.sum()
            b mean_instead_of_sum|extra_batch_mean: db = dz.mean()
        """),
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
            z wrong_operand: dz = p * (dp - np.sum(dp, axis=1, keepdims=True))
        dW = X.T @ dz
            W wrong_operand|missing_activation_derivative: dW = X.T @ dp
        """),
]  # fmt: skip
