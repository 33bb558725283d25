"""Batch normalisation and layer normalisation, in one formula and step by step."""

import numpy as np

from ..program import Program, arrays


def normalised(rng, N):
    params = arrays(rng, W1=(4, 5), gamma=5, beta=5, W2=(5, 3))
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N)


def regression(rng, N):
    params = arrays(rng, gamma=4, beta=4, w=4)
    return params, rng.normal(size=(N, 4)), rng.normal(size=N)


def scaled(rng, N):
    params = arrays(rng, W=(4, 5), g=5, V=(5, 2))
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 2))


def batchnorm_in_one_line(params, X, y):
    W1, gamma, beta, W2 = params["W1"], params["gamma"], params["beta"], params["W2"]
    N = X.shape[0]
    eps = 1e-5
    a = X @ W1
    mu = a.mean(axis=0)
    var = a.var(axis=0)
    xhat = (a - mu) / np.sqrt(var + eps)
    out = gamma * xhat + beta
    h = np.maximum(out, 0)
    scores = h @ W2
    shifted = scores - scores.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(N), y]).sum() / N

    dscores = p.copy()
    dscores[np.arange(N), y] -= 1
    dscores /= N
    dW2 = h.T @ dscores
    dh = dscores @ W2.T
    dout = dh * (out > 0)
    dgamma = (dout * xhat).sum(axis=0)
    dbeta = dout.sum(axis=0)
    dxhat = dout * gamma
    # all of batch norm's backward pass at once
    da = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / np.sqrt(var + eps)
    dW1 = X.T @ da
    return loss, {"W1": dW1, "gamma": dgamma, "beta": dbeta, "W2": dW2}


def batchnorm_step_by_step(params, X, y):
    W1, gamma, beta, W2 = params["W1"], params["gamma"], params["beta"], params["W2"]
    N = X.shape[0]
    # forward, one operation a line
    x = X @ W1
    mu = 1 / N * np.sum(x, axis=0)
    xmu = x - mu
    sq = xmu**2
    var = 1 / N * np.sum(sq, axis=0)
    sqrtvar = np.sqrt(var + 1e-5)
    ivar = 1 / sqrtvar
    xhat = xmu * ivar
    out = gamma * xhat + beta
    h = np.tanh(out)
    z = h @ W2
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(p[np.arange(N), y]))

    # backward, one operation a line
    dz = p.copy()
    dz[np.arange(N), y] -= 1
    dz = dz / N
    dW2 = h.T @ dz
    dh = dz @ W2.T
    dout = dh * (1 - h**2)
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / (sqrtvar**2) * divar
    dvar = 0.5 * 1.0 / np.sqrt(var + 1e-5) * dsqrtvar
    dsq = 1.0 / N * np.ones_like(X @ W1) * dvar
    dxmu2 = 2 * xmu * dsq
    dxmu = dxmu1 + dxmu2
    dmu = -1 * np.sum(dxmu, axis=0)
    dx = dxmu + 1.0 / N * dmu
    dW1 = X.T @ dx
    return loss, {"W1": dW1, "gamma": dgamma, "beta": dbeta, "W2": dW2}


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
    Program(batchnorm_in_one_line, normalised, """
        dout = dh * (out > 0)
            right: dout = dh * (h > 0)
            out derivative_all_ones|missing_activation_derivative: dout = dh * (h >= 0)
            out mask_wrong: dout = dh * (out <= 0)
        dgamma = (dout * xhat).sum(axis=0)
            right: dgamma = np.einsum("nd,nd->d", dout, xhat)
            gamma wrong_operand: dgamma = (dout * a).sum(axis=0)
            gamma mean_instead_of_sum|extra_batch_mean: dgamma = (dout * xhat).mean(axis=0)
            gamma wrong_operand: dgamma = (dout * out).sum(axis=0)
            gamma wrong_axis_sum: dgamma = (dout * xhat).sum(axis=1)
            gamma unreduced_broadcast: dgamma = dout * xhat
        dbeta = dout.sum(axis=0)
            beta mean_instead_of_sum|extra_batch_mean: dbeta = dout.mean(axis=0)
            beta wrong_operand|missing_activation_derivative: dbeta = dh.sum(axis=0)
        dxhat = dout * gamma
            xhat wrong_operand|missing_activation_derivative: dxhat = dout
            xhat wrong_operand: dxhat = dout * beta
        da = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / np.sqrt(var + eps)
            right: da = (N * dxhat - dxhat.sum(0) - xhat * (dxhat * xhat).sum(0)) / (N * np.sqrt(var + eps))
            a batchnorm_statistics_constant: da = dxhat / np.sqrt(var + eps)
            a batchnorm_statistics_constant|missing_path: da = (dxhat - dxhat.mean(axis=0)) / np.sqrt(var + eps)
            a batchnorm_statistics_constant|missing_path: da = (dxhat - xhat * (dxhat * xhat).mean(axis=0)) / np.sqrt(var + eps)
            a mean_instead_of_sum|extra_batch_mean: da = (N * dxhat - dxhat.sum(0) - xhat * (dxhat * xhat).mean(0)) / (N * np.sqrt(var + eps))
            a wrong_operand: da = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / (var + eps)
            a sign: da = (dxhat - dxhat.mean(axis=0) + xhat * (dxhat * xhat).mean(axis=0)) / np.sqrt(var + eps)
            a wrong_axis_sum: da = (dxhat - dxhat.mean(1, keepdims=True) - xhat * (dxhat * xhat).mean(axis=0)) / np.sqrt(var + eps)
        """),
    Program(batchnorm_step_by_step, normalised, """
        dz = dz / N
            z missing_batch_mean: pass
        dout = dh * (1 - h**2)
            out derivative_at_wrong_point: dout = dh * (1 - out**2)
            out missing_activation_derivative|derivative_all_ones: dout = dh
        dgamma = np.sum(dout * xhat, axis=0)
            gamma wrong_operand: dgamma = np.sum(dout * xmu, axis=0)
        divar = np.sum(dxhat * xmu, axis=0)
            ivar wrong_operand: divar = np.sum(dxhat * xhat, axis=0)
            ivar mean_instead_of_sum|extra_batch_mean: divar = np.mean(dxhat * xmu, axis=0)
            ivar unreduced_broadcast: divar = dxhat * xmu
        dsqrtvar = -1.0 / (sqrtvar**2) * divar
            sqrtvar sign: dsqrtvar = 1.0 / (sqrtvar**2) * divar
            sqrtvar derivative_wrong_function: dsqrtvar = -1.0 / sqrtvar * divar
        dvar = 0.5 * 1.0 / np.sqrt(var + 1e-5) * dsqrtvar
            right: dvar = 0.5 * ivar * dsqrtvar
            var factor: dvar = 1.0 / np.sqrt(var + 1e-5) * dsqrtvar
        dsq = 1.0 / N * np.ones_like(X @ W1) * dvar
            sq missing_batch_mean: dsq = np.ones_like(X @ W1) * dvar
        dxmu2 = 2 * xmu * dsq
            xmu factor: dxmu2 = xmu * dsq
        dxmu = dxmu1 + dxmu2
            xmu detached|missing_path|batchnorm_statistics_constant: dxmu = dxmu1
            xmu sign: dxmu = dxmu1 - dxmu2
        dmu = -1 * np.sum(dxmu, axis=0)
            mu sign: dmu = np.sum(dxmu, axis=0)
        dx = dxmu + 1.0 / N * dmu
            x batchnorm_statistics_constant|missing_path: dx = dxmu
            x missing_batch_mean: dx = dxmu + dmu
        """),
    Program(layernorm, regression, """
        dout = dy[:, None] * (1 - np.tanh(out) ** 2)
            out missing_activation_derivative|derivative_all_ones: dout = dy[:, None] * np.ones_like(X)
            out derivative_at_wrong_point: dout = dy[:, None] * (1 - out**2)
        dbeta = dout.sum(axis=0)
            beta wrong_axis_sum: dbeta = dout.sum(axis=1)
        dgamma = (dout * xhat).sum(axis=0)
            gamma wrong_operand: dgamma = (dout * x).sum(axis=0)
            gamma wrong_operand|missing_activation_derivative: dgamma = dout.sum(axis=0)
        dx = dxhat - dxhat.mean(axis=1, keepdims=True)
            x missing_path|detached|batchnorm_statistics_constant: dx = dxhat
            x wrong_axis_sum: dx = dxhat - dxhat.mean(axis=0, keepdims=True)
            x sign: dx = dxhat + dxhat.mean(axis=1, keepdims=True)
        dx = dx - xhat * (dxhat * xhat).mean(axis=1, keepdims=True)
            x missing_path|detached|batchnorm_statistics_constant: pass
            x wrong_axis_sum: dx = dx - xhat * (dxhat * xhat).mean(axis=0, keepdims=True)
            x factor|mean_instead_of_sum: dx = dx - xhat * (dxhat * xhat).sum(axis=1, keepdims=True)
        dx = dx * rstd
            x wrong_operand: dx = dx * var
            x wrong_operand|missing_activation_derivative: pass
        dw = (dx * X).sum(axis=0)
            w wrong_operand: dw = (dx * x).sum(axis=0)
        """),
    Program(rms_norm, scaled, """
        dg = np.sum(dng * n, axis=0)
            g wrong_operand: dg = np.sum(dng * u, axis=0)
            g unreduced_broadcast: dg = dng * n
        dn = dng * g
            n wrong_operand|missing_activation_derivative: dn = dng
        du = r * (dn - n * np.mean(dn * n, axis=-1, keepdims=True))
            u missing_path|detached|batchnorm_statistics_constant: du = r * dn
            u wrong_operand: du = r * (dn - u * np.mean(dn * n, axis=-1, keepdims=True))
            u factor|mean_instead_of_sum: du = r * (dn - n * np.sum(dn * n, axis=-1, keepdims=True))
        dW = X.T @ du
            W wrong_operand: dW = X.T @ dn
        """),
]  # fmt: skip
