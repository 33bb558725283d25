"""A character model with batch normalisation, the gradient of every intermediate by hand, checked.

From three letters of a word the next: embedding, linear, batch normalisation (Ioffe and Szegedy,
2015, with the variance divided by N - 1), tanh, linear, cross-entropy; the words are those of Python's
own help texts. Each forward line is one operation and has its gradient below. `tg.check_backprop` holds
all of them against the recorded loss; then one line is left out, and the report says which.

    python examples/batchnorm_by_hand.py [--steps 1000]
"""

import argparse
import re
from pydoc_data.topics import topics

import numpy as np

import tinygrad_np as tg

LETTERS = ".abcdefghijklmnopqrstuvwxyz"  # the point ends a word, and stands before its first letter
CONTEXT, SIZE, HIDDEN = 3, 8, 48


def words():
    """The words of three to ten letters in the help texts, each once."""
    return sorted(set(re.findall(r"\b[a-z]{3,10}\b", " ".join(topics.values()))))


def examples(words):
    """For each letter of each word the letters before it, as numbers."""
    before, letter = [], []
    for word in words:
        window = [0] * CONTEXT
        for i in map(LETTERS.index, word + "."):
            before.append(window)
            letter.append(i)
            window = [*window[1:], i]
    return np.array(before), np.array(letter)


def parameters(rng):
    inputs = CONTEXT * SIZE
    return {
        "C": rng.normal(size=(len(LETTERS), SIZE)),
        "W1": rng.normal(size=(inputs, HIDDEN)) * (5 / 3) / inputs**0.5,
        "b1": rng.normal(size=HIDDEN) * 0.1,
        "bngain": 1 + rng.normal(size=(1, HIDDEN)) * 0.1,
        "bnbias": rng.normal(size=(1, HIDDEN)) * 0.1,
        "W2": rng.normal(size=(HIDDEN, len(LETTERS))) * 0.1,
        "b2": rng.normal(size=len(LETTERS)) * 0.1,
    }


def by_hand(params, X, y, forgetful=False):
    """The loss and its gradients; ``forgetful`` leaves out the way through the variance."""
    C, W1, b1, W2, b2 = (params[name] for name in ("C", "W1", "b1", "W2", "b2"))
    bngain, bnbias = params["bngain"], params["bnbias"]
    N = len(X)
    letter = np.eye(len(LETTERS))[X]
    target = np.eye(len(LETTERS))[y]

    # Forward: look up, mix, normalise over the batch, squash, mix, and the logarithm of softmax.
    emb = C[X]
    embcat = emb.reshape(N, -1)
    hprebn = embcat @ W1 + b1
    bnmeani = hprebn.sum(axis=0, keepdims=True) / N
    bndiff = hprebn - bnmeani
    bndiff2 = bndiff**2
    bnvar = bndiff2.sum(axis=0, keepdims=True) / (N - 1)
    bnvar_inv = (bnvar + 1e-5) ** -0.5
    bnraw = bndiff * bnvar_inv
    hpreact = bngain * bnraw + bnbias
    h = np.tanh(hpreact)
    logits = h @ W2 + b2
    logit_maxes = logits.max(axis=1, keepdims=True)
    norm_logits = logits - logit_maxes
    counts = np.exp(norm_logits)
    counts_sum = counts.sum(axis=1, keepdims=True)
    counts_sum_inv = 1 / counts_sum
    probs = counts * counts_sum_inv
    logprobs = np.log(probs)
    loss = -np.sum(target * logprobs) / N

    # Backward: the same lines from the last to the first.
    dlogprobs = -target / N
    dprobs = dlogprobs / probs
    dcounts_sum_inv = (dprobs * counts).sum(axis=1, keepdims=True)
    dcounts_sum = -dcounts_sum_inv * counts_sum_inv**2
    dcounts = dprobs * counts_sum_inv + dcounts_sum
    dnorm_logits = dcounts * counts
    dlogit_maxes = -dnorm_logits.sum(axis=1, keepdims=True)
    dlogits = dnorm_logits + dlogit_maxes * (logits == logit_maxes)
    dh = dlogits @ W2.T
    dW2 = h.T @ dlogits
    db2 = dlogits.sum(axis=0)
    dhpreact = dh * (1 - h**2)
    dbngain = (dhpreact * bnraw).sum(axis=0, keepdims=True)
    dbnbias = dhpreact.sum(axis=0, keepdims=True)
    dbnraw = dhpreact * bngain
    dbnvar_inv = (dbnraw * bndiff).sum(axis=0, keepdims=True)
    dbnvar = dbnvar_inv * -0.5 * (bnvar + 1e-5) ** -1.5
    dbndiff2 = dbnvar / (N - 1) * np.ones_like(bndiff2)
    dbndiff = dbnraw * bnvar_inv
    if not forgetful:
        dbndiff = dbndiff + dbndiff2 * 2 * bndiff
    dbnmeani = -dbndiff.sum(axis=0, keepdims=True)
    dhprebn = dbndiff + dbnmeani / N
    dembcat = dhprebn @ W1.T
    dW1 = embcat.T @ dhprebn
    db1 = dhprebn.sum(axis=0)
    demb = dembcat.reshape(emb.shape)
    dC = np.einsum("ntl,ntd->ld", letter, demb)  # a letter's row collects from wherever it stood
    grads = {
        "C": dC,
        "W1": dW1,
        "b1": db1,
        "bngain": dbngain,
        "bnbias": dbnbias,
        "W2": dW2,
        "b2": db2,
    }
    return loss, grads


def trained(params, X, y, rng, steps):
    """The mean loss of the last hundred of some steps of gradient descent."""
    losses = []
    for step in range(steps):
        batch = rng.integers(0, len(X), 64)
        loss, grads = by_hand(params, X[batch], y[batch])
        for name, gradient in grads.items():
            params[name] -= (0.2 if step < 0.7 * steps else 0.02) * gradient
        losses.append(loss)
    return np.mean(losses[-100:])


def main(steps):
    rng = np.random.default_rng(0)
    X, y = examples(words())
    params = parameters(rng)
    print(f"{len(X):,} letters of {np.sum(y == 0):,} words\n")
    batch = X[:32], y[:32]
    print(f"Every line by hand\n{tg.check_backprop(by_hand, params, *batch)}\n")
    report = tg.check_backprop(by_hand, params, *batch, True)
    print(f"The way through the variance forgotten\n{report}\n")
    before = by_hand(params, X, y)[0]
    after = trained(params, X, y, rng, steps)
    print(f"Loss {before:.2f}; after {steps:,} steps along these gradients {after:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1000)
    main(**vars(parser.parse_args()))


# Printed:
#
# 19,034 letters of 2,447 words
#
# Every line by hand
# backprop: ok
# quantity       given as         verdict     error where
# logprobs       dlogprobs        right     0.0e+00 84: dlogprobs = -target /…
# probs          dprobs           right     0.0e+00 85: dprobs = dlogprobs / …
# counts_sum_inv dcounts_sum_inv  right     0.0e+00 86: dcounts_sum_inv = (dp…
# counts_sum     dcounts_sum      right     8.0e-17 87: dcounts_sum = -dcount…
# counts         dcounts          right     1.0e-17 88: dcounts = dprobs * co…
# norm_logits    dnorm_logits     right     1.8e-17 89: dnorm_logits = dcount…
# logit_maxes    dlogit_maxes     right     1.6e-01 90: dlogit_maxes = -dnorm…
# logits         dlogits          right     7.5e-17 91: dlogits = dnorm_logit…
# b2             db2              right     2.3e-16 94: db2 = dlogits.sum(axi…
# W2             dW2              right     8.3e-17 93: dW2 = h.T @ dlogits
# h              dh               right     9.8e-17 92: dh = dlogits @ W2.T
# hpreact        dhpreact         right     9.6e-17 95: dhpreact = dh * (1 - …
# bnbias         dbnbias          right     1.3e-16 97: dbnbias = dhpreact.su…
# bngain         dbngain          right     1.0e-16 96: dbngain = (dhpreact *…
# bnraw          dbnraw           right     9.8e-17 98: dbnraw = dhpreact * b…
# bnvar_inv      dbnvar_inv       right     1.2e-16 99: dbnvar_inv = (dbnraw …
# bnvar          dbnvar           right     1.4e-16 100: dbnvar = dbnvar_inv …
# bndiff2        dbndiff2         right     1.4e-16 101: dbndiff2 = dbnvar / …
# bndiff         dbndiff          right     1.1e-16 104: dbndiff = dbndiff + …
# bnmeani        dbnmeani         right     1.7e-16 105: dbnmeani = -dbndiff.…
# hprebn         dhprebn          right     1.3e-16 106: dhprebn = dbndiff + …
# b1             db1              right     4.7e-01 109: db1 = dhprebn.sum(ax…
# W1             dW1              right     1.7e-16 108: dW1 = embcat.T @ dhp…
# embcat         dembcat          right     1.7e-16 107: dembcat = dhprebn @ …
# emb            demb             right     1.7e-16 110: demb = dembcat.resha…
# C              dC               right     2.7e-16 111: dC = np.einsum("ntl,…
#
# The way through the variance forgotten
# backprop: WRONG, first in the gradient of bndiff
# quantity       given as         verdict     error where
# logprobs       dlogprobs        right     0.0e+00 84: dlogprobs = -target /…
# probs          dprobs           right     0.0e+00 85: dprobs = dlogprobs / …
# counts_sum_inv dcounts_sum_inv  right     0.0e+00 86: dcounts_sum_inv = (dp…
# counts_sum     dcounts_sum      right     8.0e-17 87: dcounts_sum = -dcount…
# counts         dcounts          right     1.0e-17 88: dcounts = dprobs * co…
# norm_logits    dnorm_logits     right     1.8e-17 89: dnorm_logits = dcount…
# logit_maxes    dlogit_maxes     right     1.6e-01 90: dlogit_maxes = -dnorm…
# logits         dlogits          right     7.5e-17 91: dlogits = dnorm_logit…
# b2             db2              right     2.3e-16 94: db2 = dlogits.sum(axi…
# W2             dW2              right     8.3e-17 93: dW2 = h.T @ dlogits
# h              dh               right     9.8e-17 92: dh = dlogits @ W2.T
# hpreact        dhpreact         right     9.6e-17 95: dhpreact = dh * (1 - …
# bnbias         dbnbias          right     1.3e-16 97: dbnbias = dhpreact.su…
# bngain         dbngain          right     1.0e-16 96: dbngain = (dhpreact *…
# bnraw          dbnraw           right     9.8e-17 98: dbnraw = dhpreact * b…
# bnvar_inv      dbnvar_inv       right     1.2e-16 99: dbnvar_inv = (dbnraw …
# bnvar          dbnvar           right     1.4e-16 100: dbnvar = dbnvar_inv …
# bndiff2        dbndiff2         right     1.4e-16 101: dbndiff2 = dbnvar / …
# bndiff         dbndiff          WRONG     1.7e-01 102: dbndiff = dbnraw * b…
# bnmeani        dbnmeani         right     3.0e-16 105: dbnmeani = -dbndiff.…
# hprebn         dhprebn          follows   1.8e-01 106: dhprebn = dbndiff + …
# b1             db1              right     7.7e-01 109: db1 = dhprebn.sum(ax…
# W1             dW1              follows   2.6e-01 108: dW1 = embcat.T @ dhp…
# embcat         dembcat          follows   1.9e-01 107: dembcat = dhprebn @ …
# emb            demb             follows   1.9e-01 110: demb = dembcat.resha…
# C              dC               follows   3.7e-01 111: dC = np.einsum("ntl,…
#   bndiff: missing_path: the term of dbndiff that comes by way of bndiff2 is
#     missing
#     Made on purpose, this reproduces dbndiff to rounding; with it all 26 arrays
#     are accounted for.
#     should read  dbndiff = dbnraw * bnvar_inv + dbndiff2 * (2 * bndiff ** 1)
#
# Loss 3.39; after 1,000 steps along these gradients 2.36
