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
