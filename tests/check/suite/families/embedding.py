"""Rows of a table of embeddings, several positions at once, and the gradient that adds up in them."""

import numpy as np

from ..program import Program, arrays


def words(rng, N):
    params = arrays(rng, E=(6, 3), W=(6, 4), b=4)
    return params, rng.integers(0, 6, (N, 2)), rng.integers(0, 4, N)


def bag(rng, N):
    return arrays(rng, E=(6, 3), w=3), rng.integers(0, 6, (N, 4)), rng.normal(size=N)


def ratings(rng, N):
    params = {"U": rng.normal(size=(4, 3)), "V": rng.normal(size=(5, 3))}
    return params, rng.integers(0, 4, N), rng.integers(0, 5, N), rng.normal(size=N), 0.1


def embedding_then_linear(params, X, y):
    E, W, b = params["E"], params["W"], params["b"]
    N = X.shape[0]
    emb = E[X]
    x = emb.reshape(N, -1)
    logits = x @ W + b
    counts = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = counts / counts.sum(axis=1, keepdims=True)
    loss = -np.log(probs[np.arange(N), y]).mean()

    dlogits = probs.copy()
    dlogits[np.arange(N), y] -= 1
    dlogits /= N
    dW = x.T @ dlogits
    db = dlogits.sum(axis=0)
    dx = dlogits @ W.T
    demb = dx.reshape(emb.shape)
    dE = np.zeros_like(E)
    np.add.at(dE, X, demb)
    return loss, {"E": dE, "W": dW, "b": db}


def embedding_by_loops(params, X, y):
    E, W, b = params["E"], params["W"], params["b"]
    N, context = X.shape
    x = np.concatenate([E[X[:, j]] for j in range(context)], axis=1)
    z = x @ W + b
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = np.mean(-np.log(p[np.arange(N), y]))

    dz = (p - np.eye(4)[y]) / N
    dW = x.T @ dz
    db = dz.sum(axis=0)
    dx = dz @ W.T
    dE = np.zeros(E.shape)
    for n in range(N):
        for j in range(context):
            dE[X[n, j]] += dx[n, 3 * j : 3 * j + 3]
    return loss, {"E": dE, "W": dW, "b": db}


def mean_of_a_bag(params, X, t):
    E, w = params["E"], params["w"]
    N, L = X.shape
    # how often each word occurs in each bag
    counts = np.zeros((N, len(E)))
    for n in range(N):
        for word in X[n]:
            counts[n, word] += 1
    bag = counts @ E / L
    score = bag @ w
    margin = np.tanh(score)
    loss = np.mean((margin - t) ** 2)

    dmargin = 2 * (margin - t) / N
    dscore = dmargin * (1 - margin**2)
    dw = bag.T @ dscore
    dbag = np.outer(dscore, w)
    dE = counts.T @ dbag / L
    return loss, {"E": dE, "w": dw}


def factorisation(params, users, items, ratings, reg):
    U, V = params["U"], params["V"]
    u = U[users]
    v = V[items]
    pred = np.sum(u * v, axis=1)
    loss = np.mean((pred - ratings) ** 2) + reg * (np.sum(U**2) + np.sum(V**2))

    dpred = 2 * (pred - ratings) / len(ratings)
    du = dpred[:, None] * v
    dv = dpred[:, None] * u
    dU = np.zeros_like(U)
    dV = np.zeros_like(V)
    np.add.at(dU, users, du)
    np.add.at(dV, items, dv)
    dU = dU + 2 * reg * U
    dV = dV + 2 * reg * V
    return loss, {"U": dU, "V": dV}


PROGRAMS = [
    Program(embedding_then_linear, words, """
        dlogits /= N
            logits missing_batch_mean: pass
            logits extra_batch_mean: dlogits /= N**2
        dW = x.T @ dlogits
            W sign: dW = -x.T @ dlogits
            W factor: dW = 3 * x.T @ dlogits
        db = dlogits.sum(axis=0)
            b wrong_axis_sum: db = dlogits.sum(axis=1)
        dx = dlogits @ W.T
            x factor: dx = 2 * dlogits @ W.T
            x sign: dx = -dlogits @ W.T
        demb = dx.reshape(emb.shape)
            emb transpose|wrong_operand: demb = dx.reshape(N, 3, 2).transpose(0, 2, 1)
        np.add.at(dE, X, demb)
            right: [np.add.at(dE, X[:, j], demb[:, j]) for j in range(2)]
            E missing_path: dE[X] += demb
            E missing_path: np.add.at(dE, X[:, 0], demb[:, 0])
            E off_by_one|wrong_operand: np.add.at(dE, (X + 1) % 6, demb)
            E sign: np.subtract.at(dE, X, demb)
            E mean_instead_of_sum|extra_batch_mean: np.add.at(dE, X, demb / N)
        """),
    Program(embedding_by_loops, words, """
        dz = (p - np.eye(4)[y]) / N
            z sign: dz = (np.eye(4)[y] - p) / N
            z missing_batch_mean: dz = p - np.eye(4)[y]
            z extra_term|softmax_jacobian_diagonal_only|other_loss: dz = (p - np.eye(4)[y]) * p * (1 - p) / N
        dE[X[n, j]] += dx[n, 3 * j : 3 * j + 3]
            E missing_path: dE[X[n, j]] = dx[n, 3 * j : 3 * j + 3]
            E off_by_one|wrong_operand: dE[X[n, j]] += dx[n, 3 - 3 * j : 6 - 3 * j]
            E off_by_one|wrong_operand: dE[X[n, j]] += dx[n, j : j + 3]
            E factor: dE[X[n, j]] += 0.5 * dx[n, 3 * j : 3 * j + 3]
        db = dz.sum(axis=0)
            b mean_instead_of_sum|extra_batch_mean: db = dz.mean(axis=0)
            b unreduced_broadcast: db = dz
        """, recordable=False),
    Program(mean_of_a_bag, bag, """
        dmargin = 2 * (margin - t) / N
            margin factor: dmargin = (margin - t) / N
        dscore = dmargin * (1 - margin**2)
            score derivative_at_wrong_point: dscore = dmargin * (1 - score**2)
            score missing_activation_derivative|derivative_all_ones: dscore = dmargin
        dw = bag.T @ dscore
            w wrong_operand|missing_activation_derivative: dw = bag.T @ dmargin
        dbag = np.outer(dscore, w)
            right: dbag = dscore[:, None] * w
            bag sign: dbag = -np.outer(dscore, w)
        dE = counts.T @ dbag / L
            E factor: dE = counts.T @ dbag
            E factor: dE = counts.T @ dbag / L * 2
            E wrong_operand: dE = (counts > 0).T @ dbag / L
        """),
    Program(factorisation, ratings, """
        dpred = 2 * (pred - ratings) / len(ratings)
            pred factor: dpred = (pred - ratings) / len(ratings)
            pred missing_batch_mean: dpred = 2 * (pred - ratings)
        du = dpred[:, None] * v
            u wrong_operand: du = dpred[:, None] * u
            u missing_factor|missing_activation_derivative|wrong_operand: du = dpred[:, None] * np.ones_like(v)
        dv = dpred[:, None] * u
            v sign: dv = -dpred[:, None] * u
        np.add.at(dU, users, du)
            U missing_path: dU[users] += du
        dU = dU + 2 * reg * U
            U missing_regularisation: pass
            U factor|missing_regularisation: dU = dU + reg * U
        dV = dV + 2 * reg * V
            V missing_regularisation: pass
            V sign: dV = dV - 2 * reg * V
        """),
]  # fmt: skip
