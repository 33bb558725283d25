"""The backprop of four published networks, checked: each report names the first wrong line.

Networks by hand from four articles, their backward passes with the slips they were published
with, and a well-known course exercise with two planted ones. `tg.check_backprop` runs each as it
is: it compares every gradient with what the right rule makes of the gradients above it, and makes
plausible mistakes on purpose until one gives the same numbers.

    python examples/published_mistakes.py
"""

from itertools import pairwise

import numpy as np

import tinygrad_np as tg


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def stale_cache(params, x, t, cache):
    """A: activations come from a cache that still starts with the first epoch's (iris)."""
    W1, b1, W2, b2 = params
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    z2 = h @ W2 + b2
    e = np.exp(z2)
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.sum(t * np.log(p)) / len(x)
    dz2 = (p - t) / len(x)
    dW2 = cache["old_h"].T @ dz2
    db2 = dz2.sum(axis=0)
    dz1 = dz2 @ W2.T * (cache["old_z1"] > 0)
    dW1 = x.T @ dz1
    db1 = dz1.sum(axis=0)
    return loss, [dW1, db1, dW2, db2]


def another_loss(params, x, t):
    """B: prints the mean norm of the halved squared errors, descends on half their squares."""
    W1, b1, W2, b2 = params
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    y = h @ W2 + b2
    loss = np.mean(np.sqrt(np.sum(((y - t) ** 2 / 2) ** 2, axis=1)))
    dy = (y - t) / len(x)
    dW2 = h.T @ dy
    db2 = dy.sum(axis=0)
    dz1 = dy @ W2.T * (z1 > 0)
    dW1 = x.T @ dz1
    db1 = dz1.sum(axis=0)
    return loss, [dW1, db1, dW2, db2]


def slope_at_output(params, x, t):
    """C: the sigmoid's slope at its output; sums for the weights, means for the biases."""
    W1, b1, W2, b2 = params
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    z2 = h @ W2 + b2
    p = sigmoid(z2)
    loss = np.sum((p - t) ** 2) / 2
    dz2 = (p - t) * sigmoid(p) * (1 - sigmoid(p))
    dW2 = h.T @ dz2
    db2 = dz2.mean(axis=0)
    dz1 = dz2 @ W2.T * (z1 > 0)
    dW1 = x.T @ dz1
    db1 = dz1.mean(axis=0)
    return loss, [dW1, db1, dW2, db2]


def slope_one(params, x, t):
    """D: data in columns; of the two steps of ReLU's derivative the second undoes the first."""
    W1, b1, W2, b2 = params
    m = x.shape[1]
    z1 = W1 @ x + b1
    h = np.maximum(z1, 0)
    z2 = W2 @ h + b2
    e = np.exp(z2)
    p = e / e.sum(axis=0)
    loss = -np.sum(t * np.log(p)) / m
    dz2 = p - t
    dW2 = dz2 @ h.T / m
    db2 = dz2.sum(axis=1, keepdims=True) / m
    slope = np.where(z1 < 0, 0, z1)
    slope = np.where(slope >= 0, 1, slope)
    dz1 = W2.T @ dz2 * slope
    dW1 = dz1 @ x.T / m
    db1 = dz1.sum(axis=1, keepdims=True) / m
    return loss, [dW1, db1, dW2, db2]


def planted(params, x, t):
    """The course exercise in gradient checking: a 2 in one line, a 4 in another."""
    W1, b1, W2, b2, W3, b3 = params
    m = x.shape[1]
    z1 = W1 @ x + b1
    a1 = np.maximum(z1, 0)
    z2 = W2 @ a1 + b2
    a2 = np.maximum(z2, 0)
    z3 = W3 @ a2 + b3
    a3 = sigmoid(z3)
    loss = -np.sum(t * np.log(a3) + (1 - t) * np.log(1 - a3)) / m
    dz3 = a3 - t
    dW3 = dz3 @ a2.T / m
    db3 = dz3.sum(axis=1, keepdims=True) / m
    dz2 = W3.T @ dz3 * (a2 > 0)
    dW2 = dz2 @ a1.T / m * 2
    db2 = dz2.sum(axis=1, keepdims=True) / m
    dz1 = W2.T @ dz2 * (a1 > 0)
    dW1 = dz1 @ x.T / m
    db1 = 4 / m * dz1.sum(axis=1, keepdims=True)
    return loss, [dW1, db1, dW2, db2, dW3, db3]


def layers(rng, *sizes, columns=False):
    """Weights and biases of normal numbers; ``(out, in)`` and ``(out, 1)`` for data in columns."""
    params = []
    for m, n in pairwise(sizes):
        W, b = rng.normal(size=(m, n)), rng.normal(size=n)
        params += [W.T, b[:, None]] if columns else [W, b]
    return params


def main():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(15, 4)), np.eye(3)[rng.integers(0, 3, 15)]
    old = {"old_h": np.maximum(rng.normal(size=(15, 6)), 0), "old_z1": rng.normal(size=(15, 6))}
    rows, columns = layers(rng, 4, 6, 3), layers(rng, 4, 6, 3, columns=True)
    deep = layers(rng, 4, 5, 3, 1, columns=True)
    for name, report in {
        "A": tg.check_backprop(stale_cache, rows, x, t, old),
        "B": tg.check_backprop(another_loss, rows, x, t * 2),
        "C": tg.check_backprop(slope_at_output, rows, x, t),
        "D": tg.check_backprop(slope_one, columns, x.T, t.T),
        "Planted": tg.check_backprop(planted, deep, x.T, t.T[:1]),
    }.items():
        print(f"{name}\n{report}\n")


if __name__ == "__main__":
    main()


# Printed:
#
# A
# backprop: WRONG, first in the gradient of W2
# quantity       given as         verdict     error where
# z2             dz2              right     1.4e-16 31: dz2 = (p - t) / len(x)
# b2             db2              right     1.8e-16 33: db2 = dz2.sum(axis=0)
# W2             dW2              WRONG     1.1e+00 32: dW2 = cache["old_h"].…
# z1             dz1              WRONG     9.9e-01 34: dz1 = dz2 @ W2.T * (c…
# b1             db1              follows   1.1e+00 36: db1 = dz1.sum(axis=0)
# W1             dW1              follows   8.4e-01 35: dW1 = x.T @ dz1
#   W2: stale_cache: dW2 is computed with cache['old_h'], which is not of this
#     forward pass, where h belongs
#     Made on purpose, this reproduces dW2 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dW2 = h.T @ dz2
#   z1: stale_cache: the derivative is taken at cache['old_z1'], which is not of
#     this forward pass
#     Made on purpose, this reproduces dz1 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dz1 = dh * (h > 0)
#
# B
# backprop: WRONG, first in the gradient of y
# quantity       given as         verdict     error where
# y              dy               WRONG     4.0e-01 47: dy = (y - t) / len(x)
# b2             db2              follows   2.7e-01 49: db2 = dy.sum(axis=0)
# W2             dW2              follows   3.4e-01 48: dW2 = h.T @ dy
# z1             dz1              follows   2.6e-01 50: dz1 = dy @ W2.T * (z1…
# b1             db1              follows   2.5e-01 52: db1 = dz1.sum(axis=0)
# W1             dW1              follows   2.5e-01 51: dW1 = x.T @ dz1
#   y: other_loss: it is the gradient of 0.0333333 * the sum of squared errors,
#     which is not the loss
#     Made on purpose, this reproduces dy to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dy = np.broadcast_to(np.expand_dims(np.broadcast_to(1 / 15,
#                  (15,)) / (2 * np.sqrt(np.sum(((y - t) ** 2 / 2) ** 2,
#                  axis=1))), (1,)), (15, 3)) * (2 * ((y - t) ** 2 / 2) ** 1) / 2
#                  * (2 * (y - t) ** 1)
#
# C
# backprop: WRONG, first in the gradient of z2
# quantity       given as         verdict     error where
# z2             dz2              WRONG     8.1e-01 64: dz2 = (p - t) * sigmo…
# b2             db2              WRONG     9.9e-01 66: db2 = dz2.mean(axis=0)
# W2             dW2              follows   1.5e+00 65: dW2 = h.T @ dz2
# z1             dz1              follows   1.2e+00 67: dz1 = dz2 @ W2.T * (z…
# b1             db1              WRONG     9.2e-01 69: db1 = dz1.mean(axis=0)
# W1             dW1              follows   2.0e+00 68: dW1 = x.T @ dz1
#   z2: derivative_at_wrong_point: the derivative is taken at p instead of z2
#     Made on purpose, this reproduces dz2 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dz2 = dp * p * (1 - p)
#   b2: readings that these arrays cannot tell apart:
#   b2: perhaps mean_instead_of_sum: db2 is averaged over 15, not summed
#   b2: perhaps factor: db2 has a factor 0.0666667 too many
#     Made on purpose, this reproduces db2 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  db2 = np.sum(dz2, axis=0)
#   b1: readings that these arrays cannot tell apart:
#   b1: perhaps mean_instead_of_sum: db1 is averaged over 15, not summed
#   b1: perhaps factor: db1 has a factor 0.0666667 too many
#     Made on purpose, this reproduces db1 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  db1 = np.sum(dz1, axis=0)
#
# D
# backprop: WRONG, first in the gradient of z1
# quantity       given as         verdict     error where
# z2             dz2              right     1.7e-16 83: dz2 = p - t
# b2             db2              right     1.1e-16 85: db2 = dz2.sum(axis=1,…
# W2             dW2              right     1.3e-16 84: dW2 = dz2 @ h.T / m
# z1             dz1              WRONG     1.0e+00 88: dz1 = W2.T @ dz2 * sl…
# b1             db1              follows   8.5e-01 90: db1 = dz1.sum(axis=1,…
# W1             dW1              follows   1.2e+00 89: dW1 = dz1 @ x.T / m
#   z1: readings that these arrays cannot tell apart:
#   z1: perhaps missing_activation_derivative: dz1 lacks the derivative of h
#   z1: perhaps derivative_all_ones: the derivative of h is taken as 1 everywhere
#     Made on purpose, this reproduces dz1 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dz1 = dh * (h > 0)
#   Convention: the intermediate gradients carry the batch size 15, and the
#     parameters' divide by it.
#
# Planted
# backprop: WRONG, first in the gradient of W2
# quantity       given as         verdict     error where
# z3             dz3              right     4.4e-16 105: dz3 = a3 - t
# b3             db3              right     3.8e-16 107: db3 = dz3.sum(axis=1…
# W3             dW3              right     2.0e-16 106: dW3 = dz3 @ a2.T / m
# z2             dz2              right     2.6e-16 108: dz2 = W3.T @ dz3 * (…
# b2             db2              right     7.0e-17 110: db2 = dz2.sum(axis=1…
# W2             dW2              WRONG     1.0e+00 109: dW2 = dz2 @ a1.T / m…
# z1             dz1              right     3.2e-16 111: dz1 = W2.T @ dz2 * (…
# b1             db1              WRONG     3.0e+00 113: db1 = 4 / m * dz1.su…
# W1             dW1              right     2.6e-16 112: dW1 = dz1 @ x.T / m
#   W2: factor: dW2 has a factor 2 too many
#     Made on purpose, this reproduces dW2 to rounding; with it all 9 arrays are
#     accounted for.
#     should read  dW2 = (dz2 @ a1.T) / 15
#   b1: factor: db1 has a factor 4 too many
#     Made on purpose, this reproduces db1 to rounding; with it all 9 arrays are
#     accounted for.
#     should read  db1 = (np.reshape(np.sum(dz1, axis=1), (5, 1))) / 15
#   Convention: the intermediate gradients carry the batch size 15, and the
#     parameters' divide by it.
