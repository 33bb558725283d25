"""Any number of layers: loops, lists of caches, parameters in lists and in dicts by their number."""

import numpy as np

from ..program import Program


def layers(rng, N, *sizes):
    """Weights and biases of each layer; data and labels for them."""
    shapes = list(zip(sizes, sizes[1:]))
    weights = [rng.normal(size=shape) * 0.6 for shape in shapes]
    biases = [rng.normal(size=n) * 0.4 for _, n in shapes]
    return weights, biases, rng.normal(size=(N, sizes[0])), rng.integers(0, sizes[-1], N)


def numbered(rng, N):
    weights, biases, X, y = layers(rng, N, 4, 5, 5, 5, 3)
    params = {}
    for i, (W, b) in enumerate(zip(weights, biases), 1):
        params[f"W{i}"], params[f"b{i}"] = W, b
    return params, X, y


def numbered_in_columns(rng, N):
    params, X, y = numbered(rng, N)
    turned = {name: a.T if a.ndim == 2 else a[:, None] for name, a in params.items()}
    return turned, X.T, np.eye(3)[y].T


def paired(rng, N):
    weights, biases, X, _ = layers(rng, N, 4, 5, 5, 2)
    return list(zip(weights, biases)), X, rng.normal(size=(N, 2))


def weights_only(rng, N):
    weights, _, X, _ = layers(rng, N, 4, 5, 5, 2)
    return weights, X, rng.normal(size=(N, 2))


def by_number(params, X, y):
    L = len(params) // 2
    N = len(X)
    h = {0: X}
    z = {}
    for l in range(1, L + 1):
        z[l] = h[l - 1] @ params[f"W{l}"] + params[f"b{l}"]
        h[l] = np.maximum(z[l], 0) if l < L else z[l]
    scores = h[L]
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(N), y]).mean()

    grads = {}
    dz = p.copy()
    dz[np.arange(N), y] -= 1
    dz = dz / N
    for l in range(L, 0, -1):
        grads[f"W{l}"] = h[l - 1].T @ dz
        grads[f"b{l}"] = dz.sum(axis=0)
        if l > 1:
            dh = dz @ params[f"W{l}"].T
            dz = dh * (z[l - 1] > 0)
    return loss, grads


def pairs(params, x, t):
    a = x
    caches = []
    for W, b in params:
        z = a @ W + b
        caches.append((a, z))
        a = np.tanh(z)
    loss = 0.5 * np.sum((a - t) ** 2) / len(x)

    grads = []
    da = (a - t) / len(x)
    for (W, b), (a_prev, z) in zip(reversed(params), reversed(caches)):
        dz = da * (1 - np.tanh(z) ** 2)
        dW = a_prev.T @ dz
        db = dz.sum(axis=0)
        grads.insert(0, (dW, db))
        da = dz @ W.T
    return loss, grads


def lists_of_activations(weights, x, t):
    zs, acts = [], [x]
    for W in weights:
        zs.append(acts[-1] @ W)
        acts.append(1 / (1 + np.exp(-zs[-1])))
    loss = np.mean((acts[-1] - t) ** 2)

    deltas = [None] * len(weights)
    grads = [None] * len(weights)
    error = 2 * (acts[-1] - t) / t.size
    for i in reversed(range(len(weights))):
        s = acts[i + 1]
        deltas[i] = error * s * (1 - s)
        grads[i] = acts[i].T @ deltas[i]
        error = deltas[i] @ weights[i].T
    return loss, grads


def linear_forward(A, W, b):
    Z = W @ A + b
    return Z, (A, W, b)


def linear_backward(dZ, cache):
    A_prev, W, b = cache
    m = A_prev.shape[1]
    dW = dZ @ A_prev.T / m
    db = np.sum(dZ, axis=1, keepdims=True) / m
    dA_prev = W.T @ dZ
    return dA_prev, dW, db


def functions_with_caches(params, X, Y):
    L = len(params) // 2
    A = X
    linear_caches, activation_caches = [], []
    for i in range(1, L):
        Z, cache = linear_forward(A, params["W" + str(i)], params["b" + str(i)])
        linear_caches.append(cache)
        activation_caches.append(Z)
        A = np.maximum(0, Z)
    Z, cache = linear_forward(A, params["W" + str(L)], params["b" + str(L)])
    linear_caches.append(cache)
    e = np.exp(Z)
    AL = e / e.sum(axis=0, keepdims=True)
    cost = -np.sum(Y * np.log(AL)) / Y.shape[1]

    grads = {}
    dZ = AL - Y
    for i in range(L, 0, -1):
        dA, dW, db = linear_backward(dZ, linear_caches[i - 1])
        grads["dW" + str(i)] = dW
        grads["db" + str(i)] = db
        if i > 1:
            dZ = dA * (activation_caches[i - 2] > 0)
    return cost, grads


PROGRAMS = [
    Program(by_number, numbered, """
        dz = dz / N
            z[4]/scores/h[4] missing_batch_mean: pass
            z[4]/scores/h[4] sign: dz = -dz / N
        grads[f"W{l}"] = h[l - 1].T @ dz
            right: grads[f"W{l}"] = np.dot(h[l - 1].T, dz)
            W4 wrong_operand: grads[f"W{l}"] = (z[l - 1] if l > 1 else X).T @ dz
            W4 factor: grads[f"W{l}"] = 2 * h[l - 1].T @ dz
            W3 factor: grads[f"W{l}"] = h[l - 1].T @ dz * (2 if l == 3 else 1)
            W3 off_by_one|wrong_operand: grads[f"W{l}"] = (h[l - 2] if l == 3 else h[l - 1]).T @ dz
        grads[f"b{l}"] = dz.sum(axis=0)
            b4 mean_instead_of_sum|extra_batch_mean: grads[f"b{l}"] = dz.mean(axis=0)
            b4 unreduced_broadcast: grads[f"b{l}"] = dz
        dh = dz @ params[f"W{l}"].T
            h[3] sign: dh = -dz @ params[f"W{l}"].T
            h[2] transpose: dh = dz @ (params[f"W{l}"].T if l == 4 else params[f"W{l}"])
            h[2] off_by_one|wrong_operand: dh = dz @ params[f"W{2 if l == 3 else l}"].T
        dz = dh * (z[l - 1] > 0)
            right: dz = dh * (h[l - 1] > 0)
            z[3] derivative_all_ones|missing_activation_derivative: dz = dh * (h[l - 1] >= 0)
            z[3] mask_wrong: dz = dh * (z[l - 1] <= 0)
            z[2] off_by_one|mask_wrong|derivative_at_wrong_point|wrong_operand: dz = dh * (z[3] > 0)
        """),
    Program(pairs, paired, """
        da = (a - t) / len(x)
            a/a[2] missing_batch_mean: da = a - t
            a/a[2] factor: da = 2 * (a - t) / len(x)
        dz = da * (1 - np.tanh(z) ** 2)
            z[2]/caches[2][1] missing_activation_derivative|derivative_all_ones: dz = da
            z[2]/caches[2][1] derivative_at_wrong_point: dz = da * (1 - z**2)
            z[2]/caches[2][1] derivative_wrong_function: dz = da * (z > 0)
            z[2]/caches[2][1] derivative_at_wrong_point: dz = da * (1 - np.tanh(np.tanh(z)) ** 2)
        dW = a_prev.T @ dz
            params[2][0]/W[2] sign: dW = -a_prev.T @ dz
            params[2][0]/W[2] wrong_operand|missing_activation_derivative: dW = a_prev.T @ da
        db = dz.sum(axis=0)
            params[2][1]/b[2] mean_instead_of_sum|extra_batch_mean: db = dz.mean(axis=0)
            params[2][1]/b[2] wrong_axis_sum: db = dz.sum()
        da = dz @ W.T
            a[1]/caches[2][0] sign: da = -dz @ W.T
            a[1]/caches[2][0] wrong_operand: da = da @ W.T
        """),
    Program(lists_of_activations, weights_only, """
        error = 2 * (acts[-1] - t) / t.size
            acts[3]/s[2]/zs[2] factor: error = (acts[-1] - t) / t.size
            acts[3]/s[2]/zs[2] missing_batch_mean: error = 2 * (acts[-1] - t) / t.shape[1]
        s = acts[i + 1]
            zs[1] off_by_one|derivative_at_wrong_point|wrong_operand: s = acts[max(i, 1) + (i > 1)]
        deltas[i] = error * s * (1 - s)
            right: deltas[i] = error * (s - s * s)
            zs[2] missing_activation_derivative|derivative_all_ones: deltas[i] = error
            zs[2] derivative_wrong_function: deltas[i] = error * (1 - s * s)
            zs[2] derivative_at_wrong_point: deltas[i] = error * zs[i] * (1 - zs[i])
        grads[i] = acts[i].T @ deltas[i]
            params[2]/weights[2]/W[2] wrong_operand: grads[i] = (zs[i - 1] if i else x).T @ deltas[i]
            params[2]/weights[2]/W[2] wrong_operand|missing_activation_derivative: grads[i] = acts[i].T @ error
            params[1]/weights[1]/W[1] transpose: grads[i] = acts[i].T @ deltas[i] if i != 1 else deltas[i].T @ acts[i]
        error = deltas[i] @ weights[i].T
            acts[2]/s[1]/zs[1] factor: error = deltas[i] @ weights[i].T / 2
            acts[1]/s[0]/zs[0] transpose: error = deltas[i] @ (weights[i].T if i != 1 else weights[i])
        """),
    Program(functions_with_caches, numbered_in_columns, """
        dW = dZ @ A_prev.T / m
            W4 missing_batch_mean: dW = dZ @ A_prev.T
            W4 factor: dW = 2 * dZ @ A_prev.T / m
        db = np.sum(dZ, axis=1, keepdims=True) / m
            b4 missing_batch_mean: db = np.sum(dZ, axis=1, keepdims=True)
            b4 wrong_axis_sum: db = np.sum(dZ, axis=0, keepdims=True) / m
            b4 unreduced_broadcast: db = dZ / m
        dA_prev = W.T @ dZ
            A[2]/A[3]/linear_caches[3][0] sign: dA_prev = -W.T @ dZ
        dZ = dA * (activation_caches[i - 2] > 0)
            right: dZ = np.where(activation_caches[i - 2] > 0, dA, 0)
            Z[2]/activation_caches[2] missing_activation_derivative|derivative_all_ones: dZ = dA
            Z[2]/activation_caches[2] mask_wrong: dZ = dA * (activation_caches[i - 2] < 0)
            Z[2]/activation_caches[2] off_by_one|mask_wrong|derivative_at_wrong_point|wrong_operand: dZ = dA * (activation_caches[i - 3] > 0)
        """, (linear_forward, linear_backward)),
]  # fmt: skip
