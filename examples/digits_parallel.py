"""The digits on as many MPI ranks as there are, with nn.fit and with a loop written by hand.

Each rank takes its share of every batch, and after each backward pass the gradients are added up. So
the batches are the same ones on any number of ranks, and so are the weights, but for rounding.

    python examples/digits_parallel.py [--epochs 20]
    mpiexec -n 4 python examples/digits_parallel.py
"""

import argparse
from time import perf_counter

import numpy as np

import nn

BATCH = 96


def network():
    nn.seed(0)
    return nn.Sequential(
        nn.Dense(64, 128, activation="relu", dtype=np.float64), nn.Dense(128, 10, dtype=np.float64)
    )


def with_fit(data, epochs):
    model = network()
    nn.fit(model, data, loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=1e-3), epochs=epochs,
           batch_size=BATCH, seed=1, parallel=True)  # fmt: skip
    return model


def by_hand(data, epochs):
    model, loss, rng = network(), nn.SoftmaxCrossEntropy(), np.random.default_rng(1)
    optimizer = nn.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for x, y in nn.parallel.shares(model, nn.batches(*data, batch_size=BATCH, rng=rng)):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return model


def main(epochs):
    x, y = nn.datasets.digits()
    x, x_test, y, y_test = nn.train_test_split(x / 16, y, test_size=0.25, rng=0, stratify=y)
    first = nn.parallel.rank() == 0
    if first:
        print(
            f"Ranks: {nn.parallel.size()}; {epochs} epochs of {len(y):,} rows in batches of {BATCH}"
        )
        print("loop      accuracy   sum of |weights|   seconds")
    for train in with_fit, by_hand:
        start = perf_counter()
        model = train((x, y), epochs)
        seconds = perf_counter() - start
        if first:
            accuracy = nn.evaluate(model, (x_test, y_test), metrics=["accuracy"])["accuracy"]
            size = sum(abs(p.data).sum() for p in model.parameters())
            print(f"{train.__name__:8}{accuracy:10.4f}{size:19.9f}{seconds:10.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=20)
    main(**vars(parser.parse_args()))


# Printed:
#
# Ranks: 1; 20 epochs of 1,348 rows in batches of 96
# loop      accuracy   sum of |weights|   seconds
# with_fit    0.9621     1067.074185872      0.08
# by_hand     0.9621     1067.074185872      0.07
#
# and with mpiexec -n 4, on two cores, which a network this small does not need:
#
# Ranks: 4; 20 epochs of 1,348 rows in batches of 96
# loop      accuracy   sum of |weights|   seconds
# with_fit    0.9621     1067.074185872      0.50
# by_hand     0.9621     1067.074185872      0.55
