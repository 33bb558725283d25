"""Linear regression, with no penalty, a squared one and an absolute one."""

import numpy as np

from ..program import Program, arrays


def line(rng, N):
    return arrays(rng, w=4, b=()), rng.normal(size=(N, 4)), rng.normal(size=N)


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
            W/params[0] missing_regularisation: dW = X.T @ dpred
            W/params[0] factor|missing_regularisation: dW = X.T @ dpred + 2 * alpha * W
            W/params[0] sign: dW = X.T @ dpred - alpha * W
            W/params[0] transpose: dW = (X.T @ dpred + alpha * W).T
        """),
    Program(lasso, several, """
        d_W = np.dot(X.T, d_pred) + alpha * np.sign(W)
            W/params[0] missing_regularisation: d_W = np.dot(X.T, d_pred)
            W/params[0] derivative_wrong_function: d_W = np.dot(X.T, d_pred) + alpha * W
            W/params[0] missing_activation_derivative|derivative_all_ones: d_W = np.dot(X.T, d_pred) + alpha
            W/params[0] factor: d_W = 2 * (np.dot(X.T, d_pred) + alpha * np.sign(W))
        d_pred = (pred - Y) / n
            pred missing_batch_mean: d_pred = pred - Y
        """),
]  # fmt: skip
