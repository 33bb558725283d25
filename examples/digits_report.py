"""Digits, 64-15-10: a published classification report, where it came from, and one on new rows.

Ritchie Vink, "Programming a neural network from scratch": scikit-learn's 1797 digits, ReLU then
sigmoid, squared error on one-hot labels, W ~ N(0, 1/in), b = 0, seed 1, batches of 15, shuffled,
lr 1e-3, 100 epochs. Its gradient is that of half the squared error, summed over the batch (for b
the mean), with a slip: the sigmoid's slope is taken at its output p, not at its input z. Written
out below in NumPy, this gives the published report to every digit.

The true gradient does far worse with these settings: pixels of 0..16 saturate the sigmoids from
the start, their slope p (1 - p) is next to 0, and some outputs never learn. The slip puts a slope
between 0.20 and 0.25 in its place, so dz is (p - t) / 5 to (p - t) / 4: the direction of the
cross-entropy's gradient, dz = p - t. That is the loss to choose; all else stays as it is.

    python examples/digits_report.py [--epochs 100]
"""

import argparse
from itertools import pairwise

import numpy as np

import nn
import tinygrad_np as tg

SIZES, BATCH, LR = (64, 15, 10), 15, 1e-3

# Precision, recall and F1 of the classes 0..9, on the training data
PUBLISHED = np.array([
    [1.00, 1.00, 1.00], [0.99, 1.00, 1.00], [1.00, 1.00, 1.00], [0.99, 1.00, 1.00],
    [1.00, 1.00, 1.00], [1.00, 0.99, 1.00], [1.00, 1.00, 1.00], [1.00, 1.00, 1.00],
    [1.00, 0.99, 1.00], [0.99, 0.99, 0.99],
])  # fmt: skip


def network(*sizes, rng):
    """ReLU layers and a linear one; weights as in the article."""

    def drawn(shape, *_):
        return rng.standard_normal(shape) / np.sqrt(shape[0])

    options = {"weights_init": drawn, "dtype": np.float64}
    *hidden, last = pairwise(sizes)
    return nn.Sequential(
        *[nn.Dense(m, n, activation="relu", **options) for m, n in hidden],
        nn.Dense(*last, **options),
    )


def train_as_published(x, y, epochs):
    """The article's steps by hand; its mean squared errors ten times on the way, and outputs."""
    rng = np.random.RandomState(1)
    W1, b1, W2, b2 = [p.data for p in network(*SIZES, rng=rng).parameters()]
    t = nn.one_hot(y)
    errors = []
    for epoch in range(1, epochs + 1):
        order = np.arange(len(x))
        rng.shuffle(order)
        for rows in order[: len(x) // BATCH * BATCH].reshape(-1, BATCH):  # leaves 12 rows out
            z = x[rows] @ W1 + b1
            h = np.maximum(z, 0)
            p = tg.sigmoid(h @ W2 + b2)
            slope = tg.sigmoid(p) * (1 - tg.sigmoid(p))  # of the sigmoid at p; p * (1 - p) at z
            dz2 = (p - t[rows]) * slope
            dz1 = dz2 @ W2.T * (z > 0)
            W2 -= LR * h.T @ dz2
            b2 -= LR * dz2.mean(axis=0)
            W1 -= LR * x[rows].T @ dz1
            b1 -= LR * dz1.mean(axis=0)
        p = tg.sigmoid(np.maximum(x @ W1 + b1, 0) @ W2 + b2)
        if epoch % (epochs // 10) == 0:
            errors.append(nn.metrics.mean_squared_error(t, p))
    return errors, p


def train(loss, x, y, epochs):
    """The same with the graph and a loss of logits; and the model."""
    nn.seed(1)
    model, t = network(*SIZES, rng=np.random.RandomState(1)), nn.one_hot(y)
    optimizer = nn.SGD(lr=LR)
    errors = []
    for _ in range(10):
        nn.fit(
            model, (x, t), loss=loss, optimizer=optimizer, epochs=epochs // 10, batch_size=BATCH,
            verbose=False,
        )  # fmt: skip
        errors.append(nn.metrics.mean_squared_error(t, tg.sigmoid(nn.predict(model, x))))
    return errors, nn.predict(model, x), model


def half_squared_error(z, t):
    return nn.HalfSquaredError(reduction="sum")(tg.sigmoid(z), t)


def ratios(y, outputs):
    """Precision, recall and F1 of each digit, as in the table of the published ones."""
    report = nn.classification_report(y, outputs)
    return [[report[k][name] for name in ("precision", "recall", "f1-score")] for k in "0123456789"]


def main(epochs):
    print("The article's worked network, 2-3-1 with seed 1")
    for name, values in network(2, 3, 1, rng=np.random.RandomState(1)).state_dict().items():
        print(f"{name}  {np.array2string(values, prefix=' ' * 5)}")

    x, y = nn.datasets.digits()
    cross_entropy = nn.BinaryCrossEntropy(reduction="sum")
    errors, outputs = zip(
        train_as_published(x, y, epochs),
        train(half_squared_error, x, y, epochs)[:2],
        train(cross_entropy, x, y, epochs)[:2],
    )

    print("\nTraining data, mean squared error as the article prints it")
    print("epoch       article's steps    true gradient    cross-entropy")
    for i, row in enumerate(zip(*errors), start=1):
        print(f"{i * (epochs // 10):5}     " + "".join(f"{error:17.4f}" for error in row))
    print("accuracy  " + "".join(f"{nn.metrics.accuracy(y, z):17.4f}" for z in outputs))

    print("\nTraining data, precision, recall and F1")
    print("digit        published   article's steps     true gradient     cross-entropy")
    for digit, blocks in enumerate(zip(PUBLISHED, *[ratios(y, z) for z in outputs])):
        print(f"{digit:5}" + "".join("   " + "".join(f"{v:5.2f}" for v in each) for each in blocks))

    x, x_test, y, y_test = nn.train_test_split(x, y, test_size=0.25, rng=0, stratify=y)
    *_, model = train(cross_entropy, x, y, epochs)
    print(f"\nCross-entropy, {len(y_test)} held-out rows after training on the other {len(y):,}")
    print(nn.classification_report(y_test, nn.predict(model, x_test)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=100)
    main(**vars(parser.parse_args()))


# Printed:
#
# The article's worked network, 2-3-1 with seed 1
# 0.W  [[ 1.14858562 -0.43257711 -0.37347383]
#       [-0.75870339  0.6119356  -1.62743362]]
# 0.b  [0. 0. 0.]
# 1.W  [[ 1.00736754]
#       [-0.43948301]
#       [ 0.18419731]]
# 1.b  [0.]
#
# Training data, mean squared error as the article prints it
# epoch       article's steps    true gradient    cross-entropy
#    10                0.0100           0.0422           0.0047
#    20                0.0062           0.0366           0.0037
#    30                0.0050           0.0352           0.0020
#    40                0.0041           0.0346           0.0012
#    50                0.0033           0.0339           0.0011
#    60                0.0027           0.0334           0.0012
#    70                0.0025           0.0332           0.0011
#    80                0.0022           0.0327           0.0003
#    90                0.0017           0.0325           0.0004
#   100                0.0016           0.0322           0.0002
# accuracy             0.9983           0.6906           1.0000
#
# Training data, precision, recall and F1
# digit        published   article's steps     true gradient     cross-entropy
#     0    1.00 1.00 1.00    1.00 1.00 1.00    0.89 1.00 0.94    1.00 1.00 1.00
#     1    0.99 1.00 1.00    0.99 1.00 1.00    0.78 1.00 0.88    1.00 1.00 1.00
#     2    1.00 1.00 1.00    1.00 1.00 1.00    0.00 0.00 0.00    1.00 1.00 1.00
#     3    0.99 1.00 1.00    0.99 1.00 1.00    0.00 0.00 0.00    1.00 1.00 1.00
#     4    1.00 1.00 1.00    1.00 1.00 1.00    0.97 0.98 0.98    1.00 1.00 1.00
#     5    1.00 0.99 1.00    1.00 0.99 1.00    0.00 0.00 0.00    1.00 1.00 1.00
#     6    1.00 1.00 1.00    1.00 1.00 1.00    0.94 0.99 0.97    1.00 1.00 1.00
#     7    1.00 1.00 1.00    1.00 1.00 1.00    0.69 0.99 0.81    1.00 1.00 1.00
#     8    1.00 0.99 1.00    1.00 0.99 1.00    0.47 0.97 0.63    1.00 1.00 1.00
#     9    0.99 0.99 0.99    0.99 0.99 0.99    0.53 0.99 0.69    1.00 1.00 1.00
#
# Cross-entropy, 449 held-out rows after training on the other 1,348
#              precision    recall  f1-score   support
#
#            0      0.98      0.96      0.97        45
#            1      0.96      0.98      0.97        45
#            2      0.98      0.93      0.95        44
#            3      0.98      0.96      0.97        46
#            4      0.92      1.00      0.96        45
#            5      0.93      0.96      0.95        45
#            6      1.00      0.93      0.97        45
#            7      0.98      0.98      0.98        45
#            8      0.98      0.95      0.97        44
#            9      0.96      1.00      0.98        45
#
#     accuracy                          0.96       449
#    macro avg      0.97      0.96      0.96       449
# weighted avg      0.97      0.96      0.96       449
