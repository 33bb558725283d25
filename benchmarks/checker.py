"""Times the checker of hand-written backprop: ``python -m benchmarks.checker``.

A two-layer perceptron of 50,000 parameters, right, and with each of some mistakes; prints the
median wall and CPU time of a check, and stops with an error when a verdict is not the expected one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

from benchmarks.__main__ import THREAD_VARIABLES

MISTAKES = {
    "none": ("", "", "ok"),
    "no mean": ("(p - t) / len(x)", "p - t", "missing_batch_mean"),
    "no slope": ("dh * (1 - h * h)", "dh", "missing_activation_derivative"),
    "operand": ("h.T @ dz2", "z1.T @ dz2", "wrong_operand"),
    "mean of b": ("dz1.sum(axis=0)", "dz1.mean(axis=0)", "mean_instead_of_sum"),
}
SOURCE = """
def f(params, x, t):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    z1 = x @ W1 + b1
    h = np.tanh(z1)
    z2 = h @ W2 + b2
    e = np.exp(z2 - z2.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.sum(t * np.log(p)) / len(x)
    dz2 = (p - t) / len(x)
    dW2 = h.T @ dz2
    db2 = dz2.sum(axis=0)
    dh = dz2 @ W2.T
    dz1 = dh * (1 - h * h)
    dW1 = x.T @ dz1
    db1 = dz1.sum(axis=0)
    return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checker", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="timed checks (%(default)s)")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))

    import numpy as np

    import tinygrad_np as tg

    rng = np.random.default_rng(0)
    params = {
        "W1": rng.normal(size=(784, 63)) / 28, "b1": np.zeros(63),
        "W2": rng.normal(size=(63, 10)) / 8, "b2": np.zeros(10),
    }  # fmt: skip
    x, t = rng.normal(size=(64, 784)), np.eye(10)[rng.integers(0, 10, 64)]
    print(f"{sum(a.size for a in params.values()):,} parameters, {len(x)} rows")
    print(f"{'mistake':<12}{'wall':>9}{'CPU':>9}   first reading")
    for name, (old, new, expected) in MISTAKES.items():
        space = {"np": np}
        exec(SOURCE.replace(old, new) if old else SOURCE, space)
        wall, cpu = [], []
        for _ in range(arguments.rounds + 1):  # the first one is not counted
            before = time.perf_counter(), time.process_time()
            report = tg.check_backprop(space["f"], params, x, t)
            wall.append(time.perf_counter() - before[0])
            cpu.append(time.process_time() - before[1])
        found = "ok" if report.ok else report[report.first_wrong or ""].diagnoses[0].kind
        times = "".join(f"{statistics.median(some[1:]):>7.3f} s" for some in (wall, cpu))
        print(f"{name:<12}{times}   {found}")
        if found != expected:
            sys.exit(f"{name}: expected {expected}")


if __name__ == "__main__":
    main()
