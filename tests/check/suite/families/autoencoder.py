"""Autoencoders: one with tied weights, one with a sampled code."""

import numpy as np

from ..program import Program, arrays


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def reconstruction(rng, N):
    return arrays(rng, W=(6, 3), b=3, c=6), rng.uniform(size=(N, 6))


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
    Program(variational_autoencoder, noise, """
        dmu = dcode + mu / N
            mu missing_path: dmu = dcode
            mu sign: dmu = dcode - mu / N
            mu missing_batch_mean: dmu = dcode + mu
        dstd = dcode * eps
            std missing_factor|missing_activation_derivative|wrong_operand: dstd = dcode
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
