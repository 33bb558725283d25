"""Times `nn.sklearn.MLPClassifier` beside scikit-learn's, with the same parameters and random numbers.

On scikit-learn's digits until the loss stops improving, and on MNIST (or random rows of its size, where its
files are not there; see `nn.datasets.mnist`) for some epochs; each in float64, as scikit-learn's loaders give
it, and in float32. The estimators fit in turn; prints the CPU time of a fit (medians over the rounds), the
ratio to scikit-learn's (median of the rounds), epochs, loss and accuracy on rows held out.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import warnings
from statistics import median
from time import process_time
from typing import Any

from benchmarks.mnist_epoch import THREAD_VARIABLES, data

NEAR = 0.005  # accuracies that differ by more are not equal


def compare(title: str, training: Any, test: Any, rounds: int, options: dict[str, Any]) -> None:
    """Fit in turn, and print a line each."""
    from sklearn import neural_network

    from nn.sklearn import MLPClassifier

    contenders = {
        "scikit-learn": neural_network.MLPClassifier(**options),
        "ours": MLPClassifier(**options),
        "ours, dtype=float64": MLPClassifier(dtype="float64", **options),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for seed in range(rounds):
        for name, model in contenders.items():
            gc.collect()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that some epochs are not enough to converge
                start = process_time()
                model.set_params(random_state=seed).fit(*training)
                times[name].append(process_time() - start)
    print(f"\n{title}")
    print(f"{'':21}{'cpu s':>9}{'/scikit-learn':>15}{'epochs':>8}{'loss':>10}{'accuracy':>10}")
    accuracy = {name: model.score(*test) for name, model in contenders.items()}
    for name, model in contenders.items():
        ratio = median(a / b for a, b in zip(times[name], times["scikit-learn"]))
        print(
            f"{name:21}{median(times[name]):9.3f}{ratio:15.2f}{model.n_iter_:8}{model.loss_:10.5f}"
            f"{accuracy[name]:10.4f}"
        )
        if abs(accuracy[name] - accuracy["scikit-learn"]) > NEAR:
            sys.exit(f"{name}: the accuracy is not that of scikit-learn")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sklearn", description=__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="epochs on MNIST (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="fits each (%(default)s)")
    parser.add_argument("--rows", type=int, help="train on so many rows of MNIST only")
    parser.add_argument("--threads", type=int, default=1, help="threads (%(default)s)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(arguments.threads)))

    import nn
    from benchmarks.harness import machine

    print(machine())
    digits = nn.datasets.digits()
    x, x_test, y, y_test = nn.train_test_split(digits.x / 16, digits.y, rng=0, stratify=digits.y)
    for dtype in ("float64", "float32"):
        compare(
            f"digits, {len(x):,} rows, {dtype}", (x.astype(dtype), y), (x_test.astype(dtype), y_test),
            arguments.rounds, {},
        )  # fmt: skip
    kind, (x, y), (x_test, y_test) = data()
    x, y = x[: arguments.rows], y[: arguments.rows]
    for dtype in ("float64", "float32"):
        compare(
            f"{kind}, {len(x):,} rows, {dtype}", (x.astype(dtype), y), (x_test.astype(dtype), y_test),
            arguments.rounds, {"max_iter": arguments.epochs},
        )  # fmt: skip


if __name__ == "__main__":
    main()
