"""Learn a + b, a - b and |a - b| from 7,000 pairs of numbers, 2-4-4-3.

"Neural Network Using Python and Numpy", a neural net in 9 steps: 10,000 rows with a and b uniform
in 0..100, the first 7,000 to train on, everything standardised with their mean and deviation;
dense layers, ReLU, linear output; weights and biases ~ N(0, 2 / in); gradient descent on half the
squared error, all rows in one step, lr 0.01, in float64. What the article prints is not what it
descends on, but the mean over the rows of the 2-norm of half the squared errors. Both are here.

Two starts: the article's (seed 42; its data and weights to the last bit), which comes to rest on a
plateau without having learnt a - b, and one that does not. The article goes to 1,000,000 epochs;
tried once, its start stays at 0.4904 (training) and 0.4541 (test) from 300,000 on. The default
takes some seconds.

    python examples/sums_and_differences.py [--epochs 10000]
"""

import argparse
from itertools import pairwise

import numpy as np

import nn

SIZES = (2, 4, 4, 3)
TRAINING = 7000  # rows
PAIRS = np.array([[30, 70], [70, 30], [3, 5], [888, 122]])


def network(rng):
    """The model; for each layer W is drawn, as (out, in), then b."""

    def layer(m, n, activation=None):
        W, b = (np.sqrt(2 / m) * rng.standard_normal(shape) for shape in [(n, m), n])
        return nn.Dense(
            m, n, activation=activation, dtype=np.float64,
            weights_init=lambda *_: W.T, bias_init=lambda *_: b,
        )  # fmt: skip

    *hidden, last = pairwise(SIZES)
    return nn.Sequential(*[layer(m, n, "relu") for m, n in hidden], layer(*last))


def norm_of_halves(y, outputs):
    """What the article prints: the mean over the rows of ``|(outputs - y)^2 / 2|``."""
    return np.linalg.norm((outputs - y) ** 2 / 2, axis=1).mean()


def train(model, training, test, epochs):
    """Print both losses on both parts, ten times."""
    print("            half the squared error        norm of its halves")
    print("    epoch    training       test       training       test")
    optimizer = nn.SGD(lr=0.01)
    for part in range(1, 11):
        nn.fit(
            model, training, loss=nn.HalfSquaredError(), optimizer=optimizer,
            epochs=epochs // 10, batch_size=None, verbose=False,
        )  # fmt: skip
        on_training, on_test = [
            nn.evaluate(model, rows, loss=nn.HalfSquaredError(), metrics=[norm_of_halves])
            for rows in (training, test)
        ]
        cells = [f"{on_training[name]:12.5f}{on_test[name]:11.5f}" for name in on_training]
        print(f"{part * (epochs // 10):9,}" + "   ".join(cells))


def main(epochs):
    x, y = nn.datasets.sums_and_differences()
    of_x, of_y = nn.Standardizer().fit(x[:TRAINING]), nn.Standardizer().fit(y[:TRAINING])
    rows = of_x.transform(x), of_y.transform(y)
    training, test = [part[:TRAINING] for part in rows], [part[TRAINING:] for part in rows]

    article = np.random.RandomState(42)
    article.rand(*x.shape)  # its weights come after the data in the same stream
    starts = {"The article's start": article, "Another start": np.random.default_rng(3)}

    print(network(np.random).summary(x))
    formula = sum((m + 1) * n for m, n in pairwise(SIZES))
    counted = sum(parameter.size for parameter in network(np.random).parameters())
    print(f"By formula {formula} parameters, by counting {counted}, for {len(x):,} rows.")
    for name, rng in starts.items():
        model = network(rng)
        print(f"\n{name}")
        train(model, training, test, epochs)
        predicted = of_y.inverse_transform(nn.predict(model, of_x.transform(PAIRS)))
        print("\n    a    b          a + b             a - b           |a - b|")
        for (a, b), outputs in zip(PAIRS, predicted):
            true = a + b, a - b, abs(a - b)
            print(f"{a:5}{b:5}" + " ".join(f"{t:7} {p:9.2f}" for t, p in zip(true, outputs)))
        print("           true and predicted; 888 is far outside the training data")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10_000, help="default: 10000")
    main(**vars(parser.parse_args()))


# Printed:
#
# layer  kind                            output  params  bytes  MACs
# ------------------------------------------------------------------
# 0      Dense(2, 4, activation='relu')  (N, 4)      12   96 B     8
# 1      Dense(4, 4, activation='relu')  (N, 4)      20  160 B    16
# 2      Dense(4, 3)                     (N, 3)      15  120 B    12
# ------------------------------------------------------------------
# 47 parameters, 376 bytes
# 36 multiply-adds (MACs) for each row
# By formula 47 parameters, by counting 47, for 10,000 rows.
#
# The article's start
#             half the squared error        norm of its halves
#     epoch    training       test       training       test
#     1,000     0.74190    0.72879        0.57116    0.56108
#     2,000     0.56351    0.55269        0.50568    0.49655
#     3,000     0.51532    0.50196        0.49494    0.48226
#     4,000     0.50641    0.49137        0.49767    0.48293
#     5,000     0.50327    0.48680        0.49915    0.48281
#     6,000     0.50177    0.48408        0.49963    0.48203
#     7,000     0.50089    0.48215        0.49954    0.48087
#     8,000     0.50028    0.48062        0.49909    0.47949
#     9,000     0.49983    0.47933        0.49837    0.47794
#    10,000     0.49946    0.47818        0.49743    0.47625
#
#     a    b          a + b             a - b           |a - b|
#    30   70    100     99.48     -40     -1.16      40     41.42
#    70   30    100    100.42      40     -0.86      40     38.61
#     3    5      8      7.83      -2      1.99       2      2.17
#   888  122   1010    100.21     766     -6.04     766     88.35
#            true and predicted; 888 is far outside the training data
#
# Another start
#             half the squared error        norm of its halves
#     epoch    training       test       training       test
#     1,000     0.09552    0.09631        0.07027    0.07083
#     2,000     0.03420    0.03457        0.02519    0.02543
#     3,000     0.01663    0.01695        0.01230    0.01251
#     4,000     0.00954    0.00982        0.00711    0.00731
#     5,000     0.00602    0.00629        0.00452    0.00472
#     6,000     0.00403    0.00426        0.00304    0.00321
#     7,000     0.00277    0.00295        0.00209    0.00222
#     8,000     0.00194    0.00209        0.00147    0.00157
#     9,000     0.00140    0.00152        0.00106    0.00114
#    10,000     0.00103    0.00113        0.00078    0.00085
#
#     a    b          a + b             a - b           |a - b|
#    30   70    100    100.28     -40    -39.33      40     40.11
#    70   30    100    100.15      40     40.35      40     40.11
#     3    5      8     11.45      -2     -4.15       2      1.50
#   888  122   1010    871.42     766    803.49     766    636.67
#            true and predicted; 888 is far outside the training data
