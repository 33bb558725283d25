"""Self-attention: one head by rows, a causal mask, and several sequences by einsum."""

import numpy as np

from ..program import Program, arrays


def one_sequence(rng, N):
    params = arrays(rng, Wq=(4, 4), Wk=(4, 4), Wv=(4, 4), Wo=(4, 2))
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 2))


def several(rng, N):
    params = arrays(rng, Wq=(4, 3), Wk=(4, 3), Wv=(4, 5), w=5)
    return params, rng.normal(size=(N, 4, 4)), rng.normal(size=N)


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def single_head(params, X, T):
    Wq, Wk, Wv, Wo = params["Wq"], params["Wk"], params["Wv"], params["Wo"]
    n, d = X.shape
    Q = X @ Wq
    K = X @ Wk
    V = X @ Wv
    S = Q @ K.T / np.sqrt(d)
    A = softmax(S)
    O = A @ V
    Y = O @ Wo
    loss = np.sum((Y - T) ** 2) / (2 * n)

    dY = (Y - T) / n
    dWo = O.T @ dY
    dO = dY @ Wo.T
    dV = A.T @ dO
    dA = dO @ V.T
    # softmax, row by row
    dS = A * (dA - np.sum(dA * A, axis=1, keepdims=True))
    dQ = dS @ K / np.sqrt(d)
    dK = dS.T @ Q / np.sqrt(d)
    dWq = X.T @ dQ
    dWk = X.T @ dK
    dWv = X.T @ dV
    return loss, {"Wq": dWq, "Wk": dWk, "Wv": dWv, "Wo": dWo}


def causal(params, X, T):
    Wq, Wk, Wv, Wo = params["Wq"], params["Wk"], params["Wv"], params["Wo"]
    n, d = X.shape
    mask = np.tril(np.ones((n, n)))
    q, k, v = X.dot(Wq), X.dot(Wk), X.dot(Wv)
    scores = q.dot(k.T) / d**0.5
    masked = scores * mask - 1e4 * (1 - mask)
    att = softmax(masked)
    out = X + att.dot(v)
    pred = out.dot(Wo)
    loss = 0.5 * np.mean((pred - T) ** 2)

    dpred = (pred - T) / T.size
    dWo = out.T.dot(dpred)
    dout = dpred.dot(Wo.T)
    datt = dout.dot(v.T)
    dv = att.T.dot(dout)
    dmasked = att * datt
    dmasked = dmasked - att * dmasked.sum(axis=1, keepdims=True)
    dscores = dmasked * mask
    dq = dscores.dot(k) / d**0.5
    dk = dscores.T.dot(q) / d**0.5
    dWq, dWk, dWv = X.T.dot(dq), X.T.dot(dk), X.T.dot(dv)
    return loss, {"Wq": dWq, "Wk": dWk, "Wv": dWv, "Wo": dWo}


def batch_of_sequences(params, X, t):
    Wq, Wk, Wv, w = params["Wq"], params["Wk"], params["Wv"], params["w"]
    N, L, D = X.shape
    Q = np.einsum("nld,dh->nlh", X, Wq)
    K = np.einsum("nld,dh->nlh", X, Wk)
    V = np.einsum("nld,dh->nlh", X, Wv)
    S = np.einsum("nih,njh->nij", Q, K) / np.sqrt(3)
    P = softmax(S)
    C = np.einsum("nij,njh->nih", P, V)
    pooled = C.mean(axis=1)
    y = pooled @ w
    loss = np.mean((y - t) ** 2)

    dy = 2 * (y - t) / N
    dw = pooled.T @ dy
    dpooled = dy[:, None] * w
    dC = np.repeat(dpooled[:, None, :], L, axis=1) / L
    dP = np.einsum("nih,njh->nij", dC, V)
    dV = np.einsum("nij,nih->njh", P, dC)
    dS = P * (dP - (dP * P).sum(axis=-1, keepdims=True))
    dQ = np.einsum("nij,njh->nih", dS, K) / np.sqrt(3)
    dK = np.einsum("nij,nih->njh", dS, Q) / np.sqrt(3)
    dWq = np.einsum("nld,nlh->dh", X, dQ)
    dWk = np.einsum("nld,nlh->dh", X, dK)
    dWv = np.einsum("nld,nlh->dh", X, dV)
    return loss, {"Wq": dWq, "Wk": dWk, "Wv": dWv, "w": dw}


PROGRAMS = [
    Program(single_head, one_sequence, """
        dWo = O.T @ dY
            Wo wrong_operand: dWo = V.T @ dY
        dV = A.T @ dO
            V transpose: dV = A @ dO
            V missing_factor|missing_activation_derivative|wrong_operand: dV = dO
        dA = dO @ V.T
            A wrong_operand: dA = dO @ O.T
            A sign: dA = -dO @ V.T
        dS = A * (dA - np.sum(dA * A, axis=1, keepdims=True))
            right: dS = A * dA - A * np.einsum("ij,ij->i", A, dA)[:, None]
            S softmax_jacobian_diagonal_only: dS = dA * A * (1 - A)
            S softmax_jacobian_diagonal_only|missing_path: dS = A * dA
            S missing_activation_derivative|derivative_all_ones: dS = dA
            S wrong_axis_sum: dS = A * (dA - np.sum(dA * A, axis=0, keepdims=True))
            S wrong_axis_sum: dS = A * (dA - np.sum(dA * A))
        dQ = dS @ K / np.sqrt(d)
            Q factor: dQ = dS @ K
            Q wrong_operand: dQ = dS @ Q / np.sqrt(d)
            Q transpose: dQ = dS.T @ K / np.sqrt(d)
            Q factor: dQ = dS @ K / d
        dK = dS.T @ Q / np.sqrt(d)
            right: dK = np.dot(Q.T, dS).T / np.sqrt(d)
            K transpose: dK = dS @ Q / np.sqrt(d)
            K factor: dK = dS.T @ Q
            K wrong_operand: dK = dS.T @ V / np.sqrt(d)
            K detached|missing_path: dK = np.zeros_like(K)
        dWq = X.T @ dQ
            Wq transpose: dWq = (X.T @ dQ).T
            Wq wrong_operand: dWq = Q.T @ dQ
        dWv = X.T @ dV
            Wv wrong_operand: dWv = X.T @ dO
            Wv wrong_operand: dWv = X.T @ dK
        """, (softmax,)),
    Program(causal, one_sequence, """
        dpred = (pred - T) / T.size
            pred missing_batch_mean: dpred = (pred - T) / T.shape[1]
        datt = dout.dot(v.T)
            att factor: datt = 2 * dout.dot(v.T)
        dmasked = dmasked - att * dmasked.sum(axis=1, keepdims=True)
            right: dmasked = dmasked - att * np.sum(dmasked, axis=-1)[:, None]
            masked softmax_jacobian_diagonal_only|missing_path: pass
            masked softmax_jacobian_diagonal_only: dmasked = dmasked * (1 - att)
            masked wrong_axis_sum: dmasked = dmasked - att * dmasked.sum(axis=0, keepdims=True)
            masked sign: dmasked = dmasked + att * dmasked.sum(axis=1, keepdims=True)
        dscores = dmasked * mask
            scores mask_wrong|transpose: dscores = dmasked * mask.T
            scores mask_wrong: dscores = dmasked * (1 - mask)
        dq = dscores.dot(k) / d**0.5
            q factor: dq = dscores.dot(k)
            q wrong_operand: dq = dscores.dot(v) / d**0.5
        dk = dscores.T.dot(q) / d**0.5
            k transpose: dk = dscores.dot(q) / d**0.5
        dv = att.T.dot(dout)
            v transpose: dv = att.dot(dout)
            v wrong_operand: dv = mask.T.dot(dout)
        """, (softmax,)),
    Program(batch_of_sequences, several, """
        dC = np.repeat(dpooled[:, None, :], L, axis=1) / L
            right: dC = dpooled[:, None, :] / L * np.ones((N, L, 1))
            C factor|missing_batch_mean: dC = np.repeat(dpooled[:, None, :], L, axis=1)
        dV = np.einsum("nij,nih->njh", P, dC)
            V transpose: dV = np.einsum("nij,njh->nih", P, dC)
        dS = P * (dP - (dP * P).sum(axis=-1, keepdims=True))
            S softmax_jacobian_diagonal_only: dS = dP * P * (1 - P)
            S softmax_jacobian_diagonal_only|missing_path: dS = P * dP
            S wrong_axis_sum: dS = P * (dP - (dP * P).sum(axis=1, keepdims=True))
            S mean_instead_of_sum|factor: dS = P * (dP - (dP * P).mean(axis=-1, keepdims=True))
        dQ = np.einsum("nij,njh->nih", dS, K) / np.sqrt(3)
            Q factor: dQ = np.einsum("nij,njh->nih", dS, K)
            Q wrong_operand: dQ = np.einsum("nij,njh->nih", dS, Q) / np.sqrt(3)
        dK = np.einsum("nij,nih->njh", dS, Q) / np.sqrt(3)
            K transpose: dK = np.einsum("nij,njh->nih", dS, Q) / np.sqrt(3)
        dWk = np.einsum("nld,nlh->dh", X, dK)
            right: dWk = np.tensordot(X, dK, ((0, 1), (0, 1)))
            Wk unreduced_broadcast: dWk = np.einsum("nld,nlh->ndh", X, dK)
            Wk mean_instead_of_sum|extra_batch_mean: dWk = np.einsum("nld,nlh->dh", X, dK) / N
            Wk wrong_operand: dWk = np.einsum("nld,nlh->dh", X, dQ)
        dw = pooled.T @ dy
            w mean_instead_of_sum|extra_batch_mean: dw = np.mean(pooled * dy[:, None], axis=0)
            w sign: dw = -pooled.T @ dy
        """, (softmax,)),
]  # fmt: skip
