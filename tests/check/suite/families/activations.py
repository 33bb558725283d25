"""One hidden layer with each of the other activations, and with their slopes mixed up."""

import numpy as np

from ..program import Program, arrays


def regression(rng, N):
    params = arrays(rng, W1=(4, 5), b1=5, W2=(5, 2), b2=2)
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 2))


def squashed(rng, N):
    params = arrays(rng, W=(4, 5), v=5)
    return params, rng.normal(size=(N, 4)), rng.normal(size=N)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def leaky_relu(params, X, T):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    z = X @ W1 + b1
    h = np.where(z > 0, z, 0.01 * z)
    y = h @ W2 + b2
    loss = np.sum((y - T) ** 2) / len(X)
    dy = 2 * (y - T) / len(X)
    dW2 = h.T @ dy
    db2 = dy.sum(axis=0)
    dh = dy @ W2.T
    dz = dh.copy()
    dz[z < 0] *= 0.01
    dW1 = X.T @ dz
    db1 = dz.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def elu(params, X, T):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    alpha = 0.8
    z = X @ W1 + b1
    h = np.where(z > 0, z, alpha * (np.exp(z) - 1))
    y = h @ W2 + b2
    loss = np.mean((y - T) ** 2)
    dy = 2 * (y - T) / T.size
    dW2 = h.T @ dy
    db2 = dy.sum(axis=0)
    dh = dy @ W2.T
    dz = dh * np.where(z > 0, 1, h + alpha)
    dW1 = X.T @ dz
    db1 = dz.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


def softplus(params, X, T):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    z = X.dot(W1) + b1
    h = np.log(1 + np.exp(z))
    y = h.dot(W2) + b2
    loss = 0.5 * np.mean((y - T) ** 2)
    dy = (y - T) / T.size
    dW2 = h.T.dot(dy)
    db2 = dy.sum(axis=0)
    dh = dy.dot(W2.T)
    dz = dh * sigmoid(z)
    dW1 = X.T.dot(dz)
    db1 = dz.sum(axis=0)
    return loss, [dW1, db1, dW2, db2]


def swish(params, X, t):
    W, v = params["W"], params["v"]
    z = X @ W
    s = sigmoid(z)
    h = z * s
    y = h @ v
    loss = np.mean(np.abs(y - t))
    dy = np.sign(y - t) / len(t)
    dv = h.T @ dy
    dh = np.outer(dy, v)
    ds = dh * z
    dz = dh * s + ds * s * (1 - s)
    dW = X.T @ dz
    return loss, {"W": dW, "v": dv}


def gelu(params, X, t):
    W, v = params["W"], params["v"]
    k = np.sqrt(2 / np.pi)
    z = X @ W
    u = k * (z + 0.044715 * z**3)
    th = np.tanh(u)
    h = 0.5 * z * (1 + th)
    y = h @ v
    loss = 0.5 * np.sum((y - t) ** 2)
    dy = y - t
    dv = h.T @ dy
    dh = dy[:, None] * v
    dth = dh * 0.5 * z
    du = dth * (1 - th**2)
    dz = dh * 0.5 * (1 + th) + du * k * (1 + 3 * 0.044715 * z**2)
    dW = X.T @ dz
    return loss, {"W": dW, "v": dv}


def gated(params, X, T):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    # polynomial features, squared activation
    z = X @ W1 + b1
    q = z**3
    n = q / np.sqrt(1 + q**2)
    y = n @ W2 + b2
    loss = np.log(np.cosh(y - T)).sum()
    dy = np.tanh(y - T)
    dW2 = n.T @ dy
    db2 = dy.sum(axis=0)
    dn = dy @ W2.T
    dq = dn / (1 + q**2) ** 1.5
    dz = dq * 3 * z**2
    dW1 = X.T @ dz
    db1 = dz.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}


PROGRAMS = [
    Program(leaky_relu, regression, """
        dy = 2 * (y - T) / len(X)
            y factor: dy = (y - T) / len(X)
        dz[z < 0] *= 0.01
            right: dz[h <= 0] *= 0.01
            z missing_activation_derivative|derivative_all_ones|factor: pass
            z derivative_wrong_function|mask_wrong|missing_path: dz[z < 0] = 0
            z mask_wrong: dz[z > 0] *= 0.01
            z derivative_wrong_function|mask_wrong|factor: dz[z < 0] *= 0.1
            z sign: dz[z < 0] *= -0.01; dz[z > 0] *= -1
        db1 = dz.sum(axis=0)
            b1 wrong_operand|missing_activation_derivative: db1 = dh.sum(axis=0)
            b1 wrong_axis_sum: db1 = dz.sum(axis=1)
        """),
    Program(elu, regression, """
        dy = 2 * (y - T) / T.size
            y missing_batch_mean|factor: dy = 2 * (y - T)
        dz = dh * np.where(z > 0, 1, h + alpha)
            right: dz = dh * np.where(z > 0, 1, alpha * np.exp(z))
            z derivative_wrong_function|factor: dz = dh * np.where(z > 0, 1, np.exp(z))
            z derivative_wrong_function: dz = dh * np.where(z > 0, 1, h)
            z missing_activation_derivative|derivative_all_ones: dz = dh
            z derivative_at_wrong_point: dz = dh * np.where(h > 0, 1, alpha * np.exp(h))
            z mask_wrong: dz = dh * np.where(z < 0, 1, h + alpha)
        dW1 = X.T @ dz
            W1 transpose: dW1 = dz.T @ X
        """),
    Program(softplus, lambda rng, N: regression(rng, N), """
        dz = dh * sigmoid(z)
            right: dz = dh * (1 - np.exp(-h))
            z derivative_at_wrong_point: dz = dh * sigmoid(h)
            z derivative_wrong_function|extra_term: dz = dh * sigmoid(z) * (1 - sigmoid(z))
            z derivative_wrong_function: dz = dh * (z > 0)
            z derivative_wrong_function|missing_activation_derivative|derivative_all_ones: dz = dh / (1 + np.exp(z))
            z missing_activation_derivative|derivative_all_ones: dz = dh
            z derivative_wrong_function: dz = dh * np.tanh(z)
        db1 = dz.sum(axis=0)
            b1 mean_instead_of_sum|extra_batch_mean: db1 = dz.mean(axis=0)
        dW2 = h.T.dot(dy)
            W2 wrong_operand: dW2 = z.T.dot(dy)
        """, (sigmoid,)),
    Program(swish, squashed, """
        dy = np.sign(y - t) / len(t)
            right: dy = np.where(y > t, 1, -1) / len(t)
            y derivative_wrong_function|other_loss: dy = (y - t) / len(t)
            y missing_batch_mean: dy = np.sign(y - t)
            y sign: dy = np.sign(t - y) / len(t)
            y derivative_all_ones|missing_activation_derivative: dy = np.ones(len(t)) / len(t)
        dz = dh * s + ds * s * (1 - s)
            right: dz = dh * (s + h * (1 - s))
            z detached|missing_path: dz = dh * s
            z missing_path: dz = ds * s * (1 - s)
            z missing_activation_derivative|derivative_all_ones: dz = dh * s + ds
            z sign: dz = dh * s - ds * s * (1 - s)
            z derivative_wrong_function: dz = dh * s + ds * (1 - s**2)
        """, (sigmoid,)),
    Program(gelu, squashed, """
        dth = dh * 0.5 * z
            th factor: dth = dh * z
        du = dth * (1 - th**2)
            u missing_activation_derivative|derivative_all_ones: du = dth
            u derivative_at_wrong_point: du = dth * (1 - u**2)
            u derivative_wrong_function: du = dth * th * (1 - th)
        dz = dh * 0.5 * (1 + th) + du * k * (1 + 3 * 0.044715 * z**2)
            z detached|missing_path: dz = dh * 0.5 * (1 + th)
            z missing_path: dz = du * k * (1 + 3 * 0.044715 * z**2)
            z factor: dz = dh * 0.5 * (1 + th) + du * (1 + 3 * 0.044715 * z**2)
            z missing_path: dz = dh * 0.5 * (1 + th) + du * k
            z factor: dz = dh * (1 + th) + du * k * (1 + 3 * 0.044715 * z**2)
        dv = h.T @ dy
            v wrong_operand: dv = z.T @ dy
        """),
    Program(gated, regression, """
        dy = np.tanh(y - T)
            y derivative_wrong_function|other_loss: dy = y - T
            y sign: dy = np.tanh(T - y)
            y extra_batch_mean: dy = np.tanh(y - T) / len(X)
        dq = dn / (1 + q**2) ** 1.5
            right: dq = dn * (1 - n**2) / np.sqrt(1 + q**2)
            q missing_path: dq = dn / np.sqrt(1 + q**2)
            q derivative_wrong_function: dq = dn / (1 + q**2)
        dz = dq * 3 * z**2
            z factor: dz = dq * z**2
            z derivative_wrong_function: dz = dq * 3 * z
            z derivative_at_wrong_point: dz = dq * 3 * q**2
            z missing_activation_derivative|derivative_all_ones: dz = dq
        """),
]  # fmt: skip
