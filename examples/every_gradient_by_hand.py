"""A character model with batch normalisation, each of its gradients by hand, and all of them right.

Three letters are embedded, and the fourth is predicted: embedding, linear, batch norm, tanh, linear,
cross-entropy, cut into the smallest steps. `tg.check_backprop` compares the gradient of every
intermediate value with the true one.

    python examples/every_gradient_by_hand.py
"""

import numpy as np

import tinygrad_np as tg


def loss_and_gradients(params, letters, nexts):
    C, W1, b1, gain, shift, W2, b2 = (
        params[name] for name in ("C", "W1", "b1", "gain", "shift", "W2", "b2")
    )
    N = len(letters)
    each = np.arange(N)
    emb = C[letters]
    row = emb.reshape(N, -1)
    pre = row @ W1 + b1
    mean = pre.mean(axis=0, keepdims=True)
    centred = pre - mean
    squares = centred**2
    var = squares.sum(axis=0, keepdims=True) / (N - 1)
    inv = (var + 1e-5) ** -0.5
    norm = centred * inv
    act = gain * norm + shift
    h = np.tanh(act)
    logits = h @ W2 + b2
    top = logits.max(axis=1, keepdims=True)
    below = logits - top
    counts = np.exp(below)
    total = counts.sum(axis=1, keepdims=True)
    recip = total**-1.0
    probs = counts * recip
    logp = np.log(probs)
    loss = -logp[each, nexts].mean()

    dlogp = np.zeros_like(logp)
    dlogp[each, nexts] = -1 / N
    dprobs = dlogp / probs
    drecip = (dprobs * counts).sum(axis=1, keepdims=True)
    dtotal = -drecip * recip**2
    dcounts = dprobs * recip + dtotal
    dbelow = dcounts * counts
    dtop = -dbelow.sum(axis=1, keepdims=True)
    dlogits = dbelow + dtop * (logits == top)
    dW2 = h.T @ dlogits
    db2 = dlogits.sum(axis=0)
    dh = dlogits @ W2.T
    dact = dh * (1 - h**2)
    dgain = (dact * norm).sum(axis=0, keepdims=True)
    dshift = dact.sum(axis=0, keepdims=True)
    dnorm = dact * gain
    dinv = (dnorm * centred).sum(axis=0, keepdims=True)
    dvar = dinv * -0.5 * (var + 1e-5) ** -1.5
    dsquares = dvar * np.ones_like(squares) / (N - 1)
    dcentred = dnorm * inv + dsquares * 2 * centred
    dmean = -dcentred.sum(axis=0, keepdims=True)
    dpre = dcentred + dmean / N
    dW1 = row.T @ dpre
    db1 = dpre.sum(axis=0)
    drow = dpre @ W1.T
    demb = drow.reshape(emb.shape)
    dC = np.zeros_like(C)
    np.add.at(dC, letters, demb)
    return loss, {
        "C": dC, "W1": dW1, "b1": db1, "gain": dgain, "shift": dshift, "W2": dW2, "b2": db2,
    }  # fmt: skip


def problem(alphabet=27, features=4, hidden=16, samples=32, seed=0):
    """Parameters of normal numbers, and random letters."""
    r = np.random.default_rng(seed)
    params = {
        "C": r.normal(size=(alphabet, features)),
        "W1": r.normal(size=(3 * features, hidden)) / 4, "b1": 0.1 * r.normal(size=hidden),
        "gain": 1 + 0.1 * r.normal(size=(1, hidden)), "shift": 0.1 * r.normal(size=(1, hidden)),
        "W2": 0.2 * r.normal(size=(hidden, alphabet)), "b2": 0.1 * r.normal(size=alphabet),
    }  # fmt: skip
    return params, r.integers(0, alphabet, (samples, 3)), r.integers(0, alphabet, samples)


def main():
    print(tg.check_backprop(loss_and_gradients, *problem()))


if __name__ == "__main__":
    main()
