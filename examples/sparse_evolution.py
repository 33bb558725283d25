"""Sparse layers that evolve, beside the dense network on the same digits, and what they cost.

Sparse evolutionary training (Mocanu et al., Nature Communications 9, 2018) grew from the code of
the article that digits_report.py reproduces. A layer has epsilon (in + out) weights at random
places; after each epoch the 30 % of them that are nearest to zero, of each sign, are removed and
as many are grown elsewhere. "Fixed" is the same without that, for comparison. On data this small
evolution pays where weights are scarcest; the dense network stays a little ahead of 2 % of them.

Cost follows the weights, not the product of the widths. From the size on at which a batch no longer
fits the cache, each weight also waits for memory.

    python examples/sparse_evolution.py [--epochs 60] [--neurons 3000 30000 300000]
"""

import argparse
import tracemalloc
from functools import partial
from time import perf_counter

import numpy as np

import nn

WIDTH, ZETA = 1000, 0.3


def network(layer):
    return nn.Sequential(
        layer(64, WIDTH, activation="relu"), nn.Dropout(0.3),
        layer(WIDTH, WIDTH, activation="relu"), nn.Dropout(0.3),
        layer(WIDTH, 10),
    )  # fmt: skip


class Evolve(nn.Callback):
    every_rank = True  # on several MPI ranks, too, all of them evolve alike

    def on_epoch_end(self, run):
        if run.epoch < run.epochs:  # what grows last would stay untrained
            for layer in run.model[::2]:
                layer.evolve(ZETA, run.optimizer)


def train(model, data, test, epochs, callbacks):
    """Accuracy on the test rows, and seconds."""
    optimizer = nn.SGD(lr=0.1, momentum=0.9, weight_decay=2e-4)
    start = perf_counter()
    nn.fit(model, data, loss=nn.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=epochs,
           batch_size=64, callbacks=callbacks, verbose=False)  # fmt: skip
    seconds = perf_counter() - start
    return nn.evaluate(model, test, metrics=["accuracy"])["accuracy"], seconds


def compare(epochs):
    x, y = nn.datasets.digits()
    x, x_test, y, y_test = nn.train_test_split(x / 16, y, test_size=0.25, rng=0, stratify=y)
    print(f"Digits, 64-{WIDTH}-{WIDTH}-10, {epochs} epochs of {len(y):,} rows")
    print("layers                  weights    share   accuracy   seconds")
    dense = None
    for epsilon, evolve in (None, False), (5, False), (5, True), (1, False), (1, True):
        nn.seed(0)
        model = network(partial(nn.SparseDense, epsilon=epsilon) if epsilon else nn.Dense)
        callbacks = [Evolve()] if evolve else []
        accuracy, seconds = train(model, (x, y), (x_test, y_test), epochs, callbacks)
        weights = sum(p.size for p in model.parameters())
        dense = dense or weights
        kind = f"epsilon {epsilon}, {'evolved' if evolve else 'fixed'}" if epsilon else "dense"
        share = weights / dense
        print(f"{kind:18}{weights:13,}{share:9.1%}{accuracy:11.4f}{seconds:10.1f}", flush=True)


def measure(neurons):
    print("\nOne layer with as many outputs as inputs, epsilon 5, 16 rows; ms, MB at most")
    print(" neurons      weights       step     evolve   memory   dense weights alone")
    nn.SparseDense(2, 2)(np.ones((1, 2)))  # imports SciPy
    for n in neurons:
        tracemalloc.start()
        layer = nn.SparseDense(n, n, epsilon=5, activation="relu", rng=0)
        optimizer = nn.SGD(layer.parameters(), lr=0.01, momentum=0.9)
        x = np.ones((16, n), np.float32)
        seconds_of_step(layer, optimizer, x)
        layer.evolve(ZETA, optimizer)
        _, memory = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        step = min(seconds_of_step(layer, optimizer, x) for _ in range(3))
        start = perf_counter()
        layer.evolve(ZETA, optimizer)
        evolve = perf_counter() - start
        print(f"{n:8,}{layer.values.size:13,}{step * 1e3:11.1f}{evolve * 1e3:11.1f}"
              f"{memory / 1e6:9.1f}{4 * n * n / 1e6:22,.0f}", flush=True)  # fmt: skip


def seconds_of_step(layer, optimizer, x):
    start = perf_counter()
    optimizer.zero_grad()
    layer(x).sum().backward()
    optimizer.step()
    return perf_counter() - start


def main(epochs, neurons):
    compare(epochs)
    measure(neurons)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--neurons", type=int, nargs="+", default=[3_000, 30_000, 300_000])
    main(**vars(parser.parse_args()))


# Printed:
#
# Digits, 64-1000-1000-10, 60 epochs of 1,348 rows
# layers                  weights    share   accuracy   seconds
# dense                 1,076,010   100.0%     0.9800      10.2
# epsilon 5, fixed         22,380     2.1%     0.9733       4.9
# epsilon 5, evolved       22,380     2.1%     0.9733       4.7
# epsilon 1, fixed          6,084     0.6%     0.8486       2.6
# epsilon 1, evolved        6,084     0.6%     0.9399       2.8
#
# One layer with as many outputs as inputs, epsilon 5, 16 rows; ms, MB at most
#  neurons      weights       step     evolve   memory   dense weights alone
#    3,000       30,000        1.0        2.2      5.6                    36
#   30,000      300,000       11.5       22.0     26.5                 3,600
#  300,000    3,000,000      201.4      249.9    244.5               360,000
