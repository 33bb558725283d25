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


class IrisNetwork:
    """A: the cache and the gradients are appended to, never cleared: after the first epoch every
    gradient is that of the first epoch's activations. The predictions are overwritten."""

    def __init__(self, params):
        self.W1, self.b1, self.W2, self.b2 = params
        self.memory = []

    def forward(self, x):
        z1 = x @ self.W1 + self.b1
        h = np.maximum(z1, 0)
        self.memory.append({"x": x, "z1": z1, "h": h})
        z2 = h @ self.W2 + self.b2
        e = np.exp(z2)
        self.p = e / e.sum(axis=1, keepdims=True)
        return self.p

    def loss(self, p, labels):
        return -np.mean(np.log(p[np.arange(len(labels)), labels]))

    def backward(self, p, labels):
        kept = self.memory[0]
        dz2 = p
        dz2[np.arange(len(labels)), labels] -= 1
        dz2 /= len(labels)
        self.dW2 = kept["h"].T @ dz2
        self.db2 = dz2.sum(axis=0)
        dh = dz2 @ self.W2.T
        dz1 = dh * (kept["z1"] > 0)
        self.dW1 = kept["x"].T @ dz1
        self.db1 = dz1.sum(axis=0)


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


def frozen_divisor(params, x, t):
    """B: half the squared error, but the divisor is the size of a training set, for any batch."""
    W1, b1, W2, b2 = params
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    y = h @ W2 + b2
    loss = 0.5 * np.sum((y - t) ** 2) / len(x)
    dy = (y - t) / 7000
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


def printed_loss(params, x, t):
    """C: the loss that is printed is the mean squared error, a multiple of what is differentiated."""
    W1, b1, W2, b2 = params
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    z2 = h @ W2 + b2
    p = sigmoid(z2)
    loss = np.mean((p - t) ** 2)
    dp = p - t
    dz2 = dp * p * (1 - p)
    dW2 = h.T @ dz2
    db2 = dz2.sum(axis=0)
    dz1 = dz2 @ W2.T * (z1 > 0)
    dW1 = x.T @ dz1
    db1 = dz1.sum(axis=0)
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


def last_one_dropped(params, x, t):
    """D: the slice for the last batch ends one too early, and the divisor is what is left."""
    W1, b1, W2, b2 = params
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    z2 = h @ W2 + b2
    e = np.exp(z2)
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.sum(t * np.log(p)) / len(x)
    dz2 = np.zeros_like(p)
    end = len(x) - 1
    dz2[:end] = (p[:end] - t[:end]) / end
    dW2 = h.T @ dz2
    db2 = dz2.sum(axis=0)
    dz1 = dz2 @ W2.T * (z1 > 0)
    dW1 = x.T @ dz1
    db1 = dz1.sum(axis=0)
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
    x, labels = rng.normal(size=(14, 4)), rng.integers(0, 3, 14)
    t = np.eye(3)[labels]
    rows, columns = layers(rng, 4, 6, 3), layers(rng, 4, 6, 3, columns=True)
    deep = layers(rng, 4, 5, 3, 1, columns=True)
    for name, report in {
        "A, in its second epoch": tg.check_backprop(IrisNetwork(rows), None, x, labels),
        "B, and the loss that it prints": tg.check_backprop(another_loss, rows, x, t * 2),
        "B, half the squared error": tg.check_backprop(frozen_divisor, rows, x, t * 2),
        "C, half the squared error": tg.check_backprop(slope_at_output, rows, x, t),
        "C, and the loss that it prints": tg.check_backprop(printed_loss, rows, x, t),
        "D, ReLU": tg.check_backprop(slope_one, columns, x.T, t.T),
        "D, the last batch": tg.check_backprop(last_one_dropped, rows, x, t),
        "The course exercise": tg.check_backprop(planted, deep, x.T, t.T[:1]),
    }.items():
        print(f"{name}\n{report}\n")


if __name__ == "__main__":
    main()


# Printed:
#
# A, in its second epoch
# backprop: WRONG, first in the gradient of W2
# quantity       given as         verdict     error where
# z2             dz2              right     1.6e-16 46: dz2 /= len(labels)
# b2             self.db2         right     1.8e-16 48: self.db2 = dz2.sum(ax…
# W2             self.dW2         WRONG     5.7e-01 47: self.dW2 = kept["h"].…
# h              dh               right     1.5e-16 49: dh = dz2 @ self.W2.T
# z1             dz1              WRONG     8.3e-01 50: dz1 = dh * (kept["z1"…
# b1             self.db1         follows   4.6e-01 52: self.db1 = dz1.sum(ax…
# W1             self.dW1         WRONG     7.5e-01 51: self.dW1 = kept["x"].…
#   W2: stale_cache: dW2 is computed with self.memory[0]['h'], which is not of
#     this forward pass, where h belongs
#     Made on purpose, this reproduces dW2 to rounding; with it all 7 arrays are
#     accounted for.
#     should read  dW2 = h.T @ dz2
#   z1: stale_cache: the derivative is taken at self.memory[0]['z1'], which is not
#     of this forward pass
#     Made on purpose, this reproduces dz1 to rounding; with it all 7 arrays are
#     accounted for.
#     should read  dz1 = dh * (h > 0)
#   W1: stale_cache: dW1 is computed with self.memory[0]['x'], which is not of
#     this forward pass, where x belongs
#     Made on purpose, this reproduces dW1 to rounding; with it all 7 arrays are
#     accounted for.
#     should read  dW1 = x.T @ dz1
#   p is overwritten in place at line 45: dz2[np.arange(len(labels)), labels] -=
#     1.
#
# B, and the loss that it prints
# backprop: WRONG, first in the gradient of y
# quantity       given as         verdict     error where
# y              dy               WRONG     4.2e-01 62: dy = (y - t) / len(x)
# b2             db2              follows   3.4e-01 64: db2 = dy.sum(axis=0)
# W2             dW2              follows   3.9e-01 63: dW2 = h.T @ dy
# z1             dz1              follows   2.5e-01 65: dz1 = dy @ W2.T * (z1…
# b1             db1              follows   2.2e-01 67: db1 = dz1.sum(axis=0)
# W1             dW1              follows   2.2e-01 66: dW1 = x.T @ dz1
#   y: other_loss: dy is 0.0714286 * (y - t), the gradient of a sum of squared
#     errors, which is not the loss
#     Made on purpose, this reproduces dy to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dy = np.broadcast_to(np.expand_dims(np.broadcast_to(1 / 14,
#                  (14,)) / (2 * np.sqrt(np.sum(((y - t) ** 2 / 2) ** 2,
#                  axis=1))), (1,)), (14, 3)) * (2 * ((y - t) ** 2 / 2) ** 1) / 2
#                  * (2 * (y - t) ** 1)
#
# B, half the squared error
# backprop: WRONG, first in the gradient of y
# quantity       given as         verdict     error where
# y              dy               WRONG     1.0e+00 78: dy = (y - t) / 7000
# b2             db2              follows   1.0e+00 80: db2 = dy.sum(axis=0)
# W2             dW2              follows   1.0e+00 79: dW2 = h.T @ dy
# z1             dz1              follows   1.0e+00 81: dz1 = dy @ W2.T * (z1…
# b1             db1              follows   1.0e+00 83: db1 = dz1.sum(axis=0)
# W1             dW1              follows   1.0e+00 82: dW1 = x.T @ dz1
#   y: factor: dy has a factor 0.002 too many (it is the gradient of 0.002 * the
#     loss): it is divided by 7000 whatever the size of the batch, here 14
#     Made on purpose, this reproduces dy to rounding; with it all 6 arrays are
#     accounted for. On 8 rows the factor is 0.00114286, in proportion.
#     should read  dy = np.broadcast_to(1 / 14 * 0.5, (14, 3)) * (2 * (y - t) **
#                  1)
#
# C, half the squared error
# backprop: WRONG, first in the gradient of z2
# quantity       given as         verdict     error where
# z2             dz2              WRONG     1.4e+00 95: dz2 = (p - t) * sigmo…
# b2             db2              WRONG     8.7e-01 97: db2 = dz2.mean(axis=0)
# W2             dW2              follows   1.7e+00 96: dW2 = h.T @ dz2
# z1             dz1              follows   2.8e+00 98: dz1 = dz2 @ W2.T * (z…
# b1             db1              WRONG     7.5e-01 100: db1 = dz1.mean(axis=…
# W1             dW1              follows   3.0e+00 99: dW1 = x.T @ dz1
#   z2: perhaps derivative_at_wrong_point: the derivative is taken at p instead of
#     z2
#     Made on purpose, this reproduces dz2 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dz2 = dp * p * (1 - p)
#   b2: readings that these arrays cannot tell apart:
#   b2: perhaps mean_instead_of_sum: db2 is averaged over 14, not summed
#   b2: perhaps extra_batch_mean: db2 is 14 times too small: divided by 14 once
#     too often
#     Made on purpose, this reproduces db2 to rounding; with it all 6 arrays are
#     accounted for. A run on 8 rows gives the same reading, and no other of
#     these.
#     should read  db2 = np.sum(dz2, axis=0)
#   b1: readings that these arrays cannot tell apart:
#   b1: perhaps mean_instead_of_sum: db1 is averaged over 14, not summed
#   b1: perhaps extra_batch_mean: db1 is 14 times too small: divided by 14 once
#     too often
#     Made on purpose, this reproduces db1 to rounding; with it all 6 arrays are
#     accounted for. A run on 8 rows gives the same reading, and no other of
#     these.
#     should read  db1 = np.sum(dz1, axis=0)
#
# C, and the loss that it prints
# backprop: WRONG, first in the gradient of p
# quantity       given as         verdict     error where
# p              dp               WRONG     2.0e+01 112: dp = p - t
# z2             dz2              follows   2.0e+01 113: dz2 = dp * p * (1 - …
# b2             db2              follows   2.0e+01 115: db2 = dz2.sum(axis=0)
# W2             dW2              follows   2.0e+01 114: dW2 = h.T @ dz2
# z1             dz1              follows   2.0e+01 116: dz1 = dz2 @ W2.T * (…
# b1             db1              follows   2.0e+01 118: db1 = dz1.sum(axis=0)
# W1             dW1              follows   2.0e+01 117: dW1 = x.T @ dz1
#   p: readings that these arrays cannot tell apart:
#   p: perhaps factor: dp has a factor 21 too many (it is the gradient of 21 * the
#     loss)
#   p: perhaps missing_batch_mean: dp has a factor 21 too many (it is the gradient
#     of 21 * the loss): 1.5 times the size of the batch, by which it is not
#     divided
#     Made on purpose, this reproduces dp to rounding; with it all 7 arrays are
#     accounted for. On 8 rows the factor is 12, in proportion.
#     should read  dp = np.broadcast_to(1 / 42, (14, 3)) * (2 * (p - t) ** 1)
#
# D, ReLU
# backprop: WRONG, first in the gradient of z1
# quantity       given as         verdict     error where
# z2             dz2              right     7.9e-17 132: dz2 = p - t
# b2             db2              right     9.6e-17 134: db2 = dz2.sum(axis=1…
# W2             dW2              right     1.6e-16 133: dW2 = dz2 @ h.T / m
# z1             dz1              WRONG     1.1e+00 137: dz1 = W2.T @ dz2 * s…
# b1             db1              follows   1.1e+00 139: db1 = dz1.sum(axis=1…
# W1             dW1              follows   1.2e+00 138: dW1 = dz1 @ x.T / m
#   z1: readings that these arrays cannot tell apart:
#   z1: perhaps derivative_all_ones: the derivative of h is taken as 1 everywhere
#   z1: perhaps missing_activation_derivative: dz1 lacks the derivative of h
#     Made on purpose, this reproduces dz1 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dz1 = W2.T @ dz2 * (z1 > 0)
#   Convention: the intermediate gradients carry the batch size 14, and the
#     parameters' divide by it.
#
# D, the last batch
# backprop: WRONG, first in the gradient of z2
# quantity       given as         verdict     error where
# z2             dz2              WRONG     3.6e-01 154: dz2[:end] = (p[:end]…
# b2             db2              follows   1.3e-01 156: db2 = dz2.sum(axis=0)
# W2             dW2              follows   9.9e-02 155: dW2 = h.T @ dz2
# z1             dz1              follows   4.8e-01 157: dz1 = dz2 @ W2.T * (…
# b1             db1              follows   2.2e-01 159: db1 = dz1.sum(axis=0)
# W1             dW1              follows   3.3e-01 158: dW1 = x.T @ dz1
#   z2: off_by_one: the last entry of dz2 along axis 0 is left out, and the others
#     are 1.07692 times too large
#     Made on purpose, this reproduces dz2 to rounding; with it all 6 arrays are
#     accounted for.
#     should read  dz2 = de * e
#
# The course exercise
# backprop: WRONG, first in the gradient of W2
# quantity       given as         verdict     error where
# z3             dz3              right     6.0e-16 174: dz3 = a3 - t
# b3             db3              right     0.0e+00 176: db3 = dz3.sum(axis=1…
# W3             dW3              right     6.5e-16 175: dW3 = dz3 @ a2.T / m
# z2             dz2              right     8.1e-16 177: dz2 = W3.T @ dz3 * (…
# b2             db2              right     1.1e-15 179: db2 = dz2.sum(axis=1…
# W2             dW2              WRONG     1.0e+00 178: dW2 = dz2 @ a1.T / m…
# z1             dz1              right     8.4e-16 180: dz1 = W2.T @ dz2 * (…
# b1             db1              WRONG     3.0e+00 182: db1 = 4 / m * dz1.su…
# W1             dW1              right     8.4e-16 181: dW1 = dz1 @ x.T / m
#   W2: perhaps factor: dW2 has a factor 2 too many
#     Made on purpose, this reproduces dW2 to rounding; with it all 9 arrays are
#     accounted for.
#     should read  dW2 = (dz2 @ a1.T) / 14
#   b1: factor: db1 has a factor 4 too many
#     Made on purpose, this reproduces db1 to rounding; with it all 9 arrays are
#     accounted for.
#     should read  db1 = (np.reshape(np.sum(dz1, axis=1), (5, 1))) / 14
#   Convention: the intermediate gradients carry the batch size 14, and the
#     parameters' divide by it.
