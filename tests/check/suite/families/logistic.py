"""Logistic regression: probabilities, columns, logits."""

import numpy as np

from ..program import Program, arrays


def line_in_columns(rng, N):
    params = arrays(rng, w=(4, 1), b=(1, 1))
    return params, rng.normal(size=(4, N)), rng.integers(0, 2, (1, N)).astype(float)


def coin(rng, N):
    return arrays(rng, w=4, b=()), rng.normal(size=(N, 4)), rng.integers(0, 2, N).astype(float)


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


PROGRAMS = [
    Program(logistic_regression, coin, """
        dz = (p - t) / len(t)
            z missing_batch_mean: dz = p - t
            z sign: dz = (t - p) / len(t)
            z extra_term|other_loss: dz = (p - t) * p * (1 - p) / len(t)
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
            Z extra_term|other_loss: dZ = (A - Y) * A * (1 - A)
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
]  # fmt: skip
