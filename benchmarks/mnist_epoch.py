"""Times an epoch of 784-64-10 on MNIST beside hand-written NumPy, PyTorch and scikit-learn.

Two trainings, of batches of 128: sigmoid with momentum, and ReLU with Adam. The hand-written network is
plain NumPy as course notes present it: float64, columns as samples, one-hot labels, all rows copied in the
order of the epoch, momentum as a moving average. All contenders start from the same weights and train in
turn, a few epochs each; prints CPU and wall time of an epoch (medians over the rounds), the ratios of ours
to the others' (medians of the rounds), and each one's test accuracy. Without the MNIST files (see
`nn.datasets.mnist`) the rows are random ones of the same shape.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time
from typing import Any

# A BLAS reads these when NumPy is imported, so that happens later.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
BATCH, HIDDEN, CLASSES = 128, 64, 10
NEAR = 0.01  # accuracies that differ by more are no longer those of one training

Train = Callable[[int], Callable[[Any], Any]]  # of epochs; gives what predicts labels


def data() -> tuple[str, tuple[Any, Any], tuple[Any, Any]]:
    """What the rows are; 60,000 to train on, and 10,000 to test."""
    import numpy as np

    import nn

    try:
        training, test = nn.datasets.mnist(download=False)
        return "MNIST", tuple(training), tuple(test)
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        images = rng.random((CLASSES, 784), np.float32) * (rng.random((CLASSES, 784)) < 0.2)
        parts = []
        for n in (60_000, 10_000):
            y = rng.integers(CLASSES, size=n)
            x = images[y] + rng.normal(scale=0.3, size=(n, 784)).astype(np.float32)
            parts.append((np.clip(x, 0, 1), y))
        return "synthetic rows of MNIST's size, as its files are not there", parts[0], parts[1]


def first_weights(features: int) -> tuple[Any, Any]:
    """``W ~ N(0, 1/in)``."""
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = ((features, HIDDEN), (HIDDEN, CLASSES))
    first, second = (rng.normal(scale=m**-0.5, size=(m, n)) for m, n in sizes)
    return first, second


# --------------------------------------------------------------------------------------------------
# Contenders: each gives a function that trains anew for some epochs
# --------------------------------------------------------------------------------------------------


def ours(x: Any, y: Any, adam: bool) -> Train:
    import nn

    def train(epochs: int) -> Callable[[Any], Any]:
        nn.seed(0)
        W1, W2 = first_weights(x.shape[1])
        model = nn.Sequential(
            nn.Dense(x.shape[1], HIDDEN, activation="relu" if adam else "sigmoid", weights_init=W1),
            nn.Dense(HIDDEN, CLASSES, weights_init=W2),
        )
        optimizer = nn.Adam(lr=2e-3) if adam else nn.SGD(lr=4, momentum=0.9, dampening=0.9)
        nn.fit(
            model, (x, y), loss=nn.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=epochs,
            batch_size=BATCH, verbose=False,
        )  # fmt: skip
        return lambda x: nn.predict(model, x).argmax(axis=1)

    return train


class Columns:
    """The hand-written network: sigmoid, softmax, cross-entropy; samples are columns."""

    def __init__(self, features: int) -> None:
        import numpy as np

        W1, W2 = first_weights(features)
        self.W1, self.b1 = W1.T.copy(), np.zeros((HIDDEN, 1))
        self.W2, self.b2 = W2.T.copy(), np.zeros((CLASSES, 1))
        self.names = ("W1", "b1", "W2", "b2")
        self.velocity = {name: np.zeros_like(getattr(self, name)) for name in self.names}

    def forward(self, x: Any) -> Any:
        import numpy as np

        self.x = x
        self.z1 = self.W1 @ x.T + self.b1
        self.a1 = 1 / (1 + np.exp(-self.z1))
        z2 = self.W2 @ self.a1 + self.b2
        e = np.exp(z2 - z2.max())
        return e / e.sum(axis=0)

    def gradients(self, onehot: Any, p: Any) -> dict[str, Any]:
        import numpy as np

        n = len(onehot)
        dz2 = p - onehot.T
        da1 = self.W2.T @ dz2
        dz1 = da1 * np.exp(-self.z1) / (np.exp(-self.z1) + 1) ** 2
        return {
            "W1": dz1 @ self.x / n, "b1": dz1.sum(axis=1, keepdims=True) / n,
            "W2": dz2 @ self.a1.T / n, "b2": dz2.sum(axis=1, keepdims=True) / n,
        }  # fmt: skip

    def step(self, gradients: dict[str, Any], lr: float, beta: float) -> None:
        for name in self.names:
            self.velocity[name] = beta * self.velocity[name] + (1 - beta) * gradients[name]
            setattr(self, name, getattr(self, name) - lr * self.velocity[name])


def hand_written(x: Any, y: Any) -> Train:
    import numpy as np

    x, onehot = x.astype(np.float64), np.eye(CLASSES)[y]

    def train(epochs: int) -> Callable[[Any], Any]:
        rng = np.random.default_rng(0)
        network = Columns(x.shape[1])
        for _ in range(epochs):
            order = rng.permutation(len(x))
            shuffled, labels = x[order], onehot[order]
            for start in range(0, len(x), BATCH):
                batch = labels[start : start + BATCH]
                p = network.forward(shuffled[start : start + BATCH])
                network.step(network.gradients(batch, p), lr=4, beta=0.9)
        return lambda x: network.forward(x).argmax(axis=0)

    return train


def pytorch(x: Any, y: Any, adam: bool, loader: bool) -> Train:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    xs, ys = torch.from_numpy(x), torch.from_numpy(y)

    def batches() -> Any:
        if loader:
            rows = torch.utils.data.TensorDataset(xs, ys)
            return torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True)
        return ((xs[rows], ys[rows]) for rows in torch.randperm(len(xs)).split(BATCH))

    def train(epochs: int) -> Callable[[Any], Any]:
        torch.manual_seed(0)
        activation = torch.nn.ReLU() if adam else torch.nn.Sigmoid()
        first, second = torch.nn.Linear(x.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, CLASSES)
        with torch.no_grad():
            for layer, W in zip((first, second), first_weights(x.shape[1])):
                layer.weight.copy_(torch.from_numpy(W.T))
                layer.bias.zero_()
        model = torch.nn.Sequential(first, activation, second)
        optimizer: Any = (
            torch.optim.Adam(model.parameters(), lr=2e-3)
            if adam
            else torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9)
        )
        criterion = torch.nn.CrossEntropyLoss()
        for _ in range(epochs):
            total = 0.0
            for xb, yb in batches():
                optimizer.zero_grad()
                loss = criterion(model(xb), yb)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(yb)
        return lambda x: model(torch.from_numpy(x)).argmax(dim=1).numpy()

    return train


def scikit_learn(x: Any, y: Any, adam: bool, dtype: str) -> Train:
    from sklearn.neural_network import MLPClassifier

    x = x.astype(dtype)

    def train(epochs: int) -> Callable[[Any], Any]:
        solver = (
            {"solver": "adam", "learning_rate_init": 2e-3}
            if adam
            else {"solver": "sgd", "learning_rate_init": 0.4, "nesterovs_momentum": False}
        )
        model = MLPClassifier(
            HIDDEN, "relu" if adam else "logistic", alpha=0, batch_size=BATCH, max_iter=epochs,
            n_iter_no_change=epochs, tol=0, random_state=0, **solver,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this did not converge
            model.fit(x, y)
        return model.predict  # type: ignore[no-any-return]

    return train


def contenders(x: Any, y: Any, adam: bool) -> dict[str, Train]:
    """All that take part in a training; who is not installed is named and left out."""
    made: dict[str, Callable[[], Train]] = {
        "ours": lambda: ours(x, y, adam),
        "hand-written": lambda: hand_written(x, y),
        "PyTorch": lambda: pytorch(x, y, adam, loader=False),
        "PyTorch, DataLoader": lambda: pytorch(x, y, adam, loader=True),
        "scikit-learn": lambda: scikit_learn(x, y, adam, "float32"),
        "scikit-learn, float64": lambda: scikit_learn(x, y, adam, "float64"),
    }
    if adam:
        del made["hand-written"]  # the course leaves Adam as an exercise
    found = {}
    for name, make in made.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name}: skipped, {error.name} is not installed")
    return found


# --------------------------------------------------------------------------------------------------


def compare(trainings: dict[str, Train], test: Any, rounds: int, epochs: int) -> None:
    """Train in turn, and print a line each."""
    x_test, y_test = test
    cpu: dict[str, list[float]] = {name: [] for name in trainings}
    wall: dict[str, list[float]] = {name: [] for name in trainings}
    accuracy = {}
    for train in trainings.values():
        train(1)  # untimed: what is loaded and compiled at first
    for _ in range(rounds):
        for name, train in trainings.items():
            gc.collect()
            c, w = process_time(), perf_counter()
            predict = train(epochs)
            cpu[name].append((process_time() - c) / epochs)
            wall[name].append((perf_counter() - w) / epochs)
            accuracy[name] = float((predict(x_test) == y_test).mean())
    print(
        f"{'':23}{'cpu ms/epoch':>13}{'ours/':>7}{'wall ms/epoch':>15}{'ours/':>7}{'accuracy':>10}"
    )
    for name in trainings:
        line = f"{name:23}"
        for times, width in ((cpu, 13), (wall, 15)):
            ratio = median(a / b for a, b in zip(times["ours"], times[name]))
            line += f"{1e3 * median(times[name]):{width}.0f}{ratio:7.2f}"
        print(f"{line}{accuracy[name]:10.4f}")
    spread = max(accuracy.values()) - min(accuracy.values())
    if spread > NEAR:
        sys.exit(f"the accuracies differ by {spread:.3f}: this is not one training")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_epoch", description=__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="epochs a training (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="trainings each (%(default)s)")
    parser.add_argument("--rows", type=int, help="train on so many rows only")
    parser.add_argument("--threads", type=int, default=1, help="threads (%(default)s)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(arguments.threads)))

    from benchmarks.harness import machine

    print(machine())
    kind, (x, y), test = data()
    x, y = x[: arguments.rows], y[: arguments.rows]
    print(f"{len(x):,} rows: {kind}; {arguments.epochs} epochs, {arguments.rounds} rounds")
    for adam, title in ((False, "sigmoid, momentum"), (True, "ReLU, Adam")):
        print(f"\n784-{HIDDEN}-{CLASSES}, {title}, batches of {BATCH}")
        compare(contenders(x, y, adam), test, arguments.rounds, arguments.epochs)


if __name__ == "__main__":
    main()
