"""Layer normalisation, and normalisation by the root mean square."""

import numpy as np

from ..program import Program, arrays


def regression(rng, N):
    params = arrays(rng, gamma=4, beta=4, w=4)
    return params, rng.normal(size=(N, 4)), rng.normal(size=N)


def scaled(rng, N):
    params = arrays(rng, W=(4, 5), g=5, V=(5, 2))
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 2))


def layernorm(params, X, t):
    gamma, beta, w = params["gamma"], params["beta"], params["w"]
    N, D = X.shape
    x = X * w
    mean = x.mean(axis=1, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt(var + 1e-5)
    xhat = (x - mean) * rstd
    out = xhat * gamma + beta
    y = np.sum(np.tanh(out), axis=1)
    loss = np.mean((y - t) ** 2)

    dy = 2 * (y - t) / N
    dout = dy[:, None] * (1 - np.tanh(out) ** 2)
    dbeta = dout.sum(axis=0)
    dgamma = (dout * xhat).sum(axis=0)
    dxhat = dout * gamma
    dx = dxhat - dxhat.mean(axis=1, keepdims=True)
    dx = dx - xhat * (dxhat * xhat).mean(axis=1, keepdims=True)
    dx = dx * rstd
    dw = (dx * X).sum(axis=0)
    return loss, {"gamma": dgamma, "beta": dbeta, "w": dw}


def rms_norm(params, X, T):
    W, g, V = params["W"], params["g"], params["V"]
    N = len(X)
    u = X @ W
    ms = np.mean(u * u, axis=-1, keepdims=True)
    r = 1.0 / np.sqrt(ms + 1e-6)
    n = u * r
    y = (n * g) @ V
    loss = 0.5 * np.sum((y - T) ** 2) / N

    dy = (y - T) / N
    dV = (n * g).T @ dy
    dng = dy @ V.T
    dg = np.sum(dng * n, axis=0)
    dn = dng * g
    du = r * (dn - n * np.mean(dn * n, axis=-1, keepdims=True))
    dW = X.T @ du
    return loss, {"W": dW, "g": dg, "V": dV}


PROGRAMS = [
    Program(layernorm, regression, """
        dout = dy[:, None] * (1 - np.tanh(out) ** 2)
            out missing_activation_derivative|derivative_all_ones: dout = dy[:, None] * np.ones_like(X)
            out derivative_at_wrong_point: dout = dy[:, None] * (1 - out**2)
        dbeta = dout.sum(axis=0)
            beta wrong_axis_sum: dbeta = dout.sum(axis=1)
        dgamma = (dout * xhat).sum(axis=0)
            gamma wrong_operand: dgamma = (dout * x).sum(axis=0)
            gamma missing_factor|missing_activation_derivative|wrong_operand: dgamma = dout.sum(axis=0)
        dx = dxhat - dxhat.mean(axis=1, keepdims=True)
            x missing_path|detached|batchnorm_statistics_constant: dx = dxhat
            x wrong_axis_sum: dx = dxhat - dxhat.mean(axis=0, keepdims=True)
            x sign: dx = dxhat + dxhat.mean(axis=1, keepdims=True)
        dx = dx - xhat * (dxhat * xhat).mean(axis=1, keepdims=True)
            x missing_path|detached|batchnorm_statistics_constant: pass
            x wrong_axis_sum: dx = dx - xhat * (dxhat * xhat).mean(axis=0, keepdims=True)
            x factor|mean_instead_of_sum|missing_batch_mean: dx = dx - xhat * (dxhat * xhat).sum(axis=1, keepdims=True)
        dx = dx * rstd
            x wrong_operand: dx = dx * var
            x missing_factor|missing_activation_derivative|wrong_operand: pass
        dw = (dx * X).sum(axis=0)
            w wrong_operand: dw = (dx * x).sum(axis=0)
        """),
    Program(rms_norm, scaled, """
        dg = np.sum(dng * n, axis=0)
            g wrong_operand: dg = np.sum(dng * u, axis=0)
            g unreduced_broadcast: dg = dng * n
        dn = dng * g
            n missing_factor|missing_activation_derivative|wrong_operand: dn = dng
        du = r * (dn - n * np.mean(dn * n, axis=-1, keepdims=True))
            u missing_path|detached|batchnorm_statistics_constant: du = r * dn
            u wrong_operand: du = r * (dn - u * np.mean(dn * n, axis=-1, keepdims=True))
            u factor|mean_instead_of_sum|missing_batch_mean: du = r * (dn - n * np.sum(dn * n, axis=-1, keepdims=True))
        dW = X.T @ du
            W wrong_operand: dW = X.T @ dn
        """),
]  # fmt: skip
