"""Batch normalisation, its backward pass in one formula and step by step."""

import numpy as np

from ..program import Program, arrays


def normalised(rng, N):
    params = arrays(rng, W1=(4, 5), gamma=5, beta=5, W2=(5, 3))
    return params, rng.normal(size=(N, 4)), rng.integers(0, 3, N)


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
            xhat missing_factor|missing_activation_derivative|wrong_operand: dxhat = dout
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
]  # fmt: skip
