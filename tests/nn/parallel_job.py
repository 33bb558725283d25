"""What test_parallel.py has run on several ranks, and on one for comparison.

    mpiexec -n 2 python parallel_job.py FOLDER NAME...

runs the named functions on each rank and writes what they return as FOLDER/rank0.npz and so on.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

import nn
from nn import parallel
from tinygrad_np.errors import TensorError

X, Y = nn.datasets.iris()
LOSS = nn.SoftmaxCrossEntropy()


def network(*layers, **options):
    options = {"dtype": np.float64} | options
    return nn.Sequential(
        nn.Dense(4, 8, activation="tanh", **options), *layers, nn.Dense(8, 3, **options)
    )


def fitted(model=None, optimizer=None, data=(X, Y), loss=LOSS, **settings):
    """A run of fit; its weights and its history."""
    if model is None:
        nn.seed(4)
        model = network()
    defaults = {"epochs": 4, "batch_size": 32, "seed": 7, "verbose": False, "parallel": True}
    history = nn.fit(
        model, data, loss=loss, optimizer=optimizer or nn.SGD(lr=0.1, momentum=0.9),
        **(defaults | settings),
    )  # fmt: skip
    return model.state_dict() | {f"history/{name}": np.array(v) for name, v in history.items()}


# --- the same as on one rank ---


def in_order(y, outputs):
    return np.arange(len(y)) @ y


def momentum(folder):
    return fitted(validation=0.2, metrics=["accuracy", in_order])


def begun_apart(folder):
    """Seeds differ, but all ranks begin with the weights and the order of rank 0."""
    nn.seed(10 + parallel.rank())
    found = fitted(nn.Sequential(nn.Dense(4, 3, dtype=np.float64)), seed=None)
    nn.seed(20 + parallel.rank())
    model = network()
    optimizer = nn.SGD(model.parameters(), lr=0.1)
    for x, y in parallel.shares(model, nn.batches(X, Y, batch_size=40, rng=0)):
        LOSS(model(x), y).backward()
        optimizer.step()
    return found | {f"hand/{name}": value for name, value in model.state_dict().items()}


def adam(folder):
    return fitted(
        optimizer=nn.Adam(lr=0.01), clip_norm=0.05, clip_value=0.04,
        schedule=nn.CosineDecay(length=20, per="step"), validation={"a": (X[:7], Y[:7]), "b": (X, Y)},
    )  # fmt: skip


def fewer_rows_than_ranks(folder):
    return fitted(batch_size=49, validation=(X[:1], Y[:1]), metrics=["accuracy"])  # 49 49 49 3


def accumulated(folder):
    return fitted(batch_size=16, accumulate=4)


def summed(folder):
    return fitted(loss=nn.SoftmaxCrossEntropy("sum"), optimizer=nn.SGD(lr=0.001), batch_size=49)


def summed_and_accumulated(folder):
    loss = nn.SoftmaxCrossEntropy("sum")
    return fitted(loss=loss, optimizer=nn.SGD(lr=0.001), batch_size=49, accumulate=2)


def weighted(folder):
    weights = np.linspace(0, 2, 150)
    return fitted(sample_weight=weights, class_weight={0: 1, 1: 2, 2: 0.5})


def all_rows_at_once(folder):
    return fitted(batch_size=None, epochs=6)


def served_by_a_function(folder):
    def batches():
        order = nn.init.generator().permutation(150)
        noise = nn.init.generator().normal(0, 0.1, X.shape)
        return ((X[rows] + noise[rows], Y[rows]) for rows in np.split(order, [40, 41, 100]))

    return fitted(data=batches)


def in_pieces(folder):
    parallel.OVERLAP_FROM, parallel.PIECE, before = 0, 64, (parallel.OVERLAP_FROM, parallel.PIECE)
    nn.seed(1)
    found = fitted(network(nn.Dense(8, 8, activation="relu", dtype=np.float64))) | by_hand(folder)
    parallel.OVERLAP_FROM, parallel.PIECE = before
    return found


def stopped_early(folder):
    stop = nn.EarlyStopping(patience=1, min_delta=0.1, monitor="loss")
    return fitted(callbacks=[stop], epochs=30)


class Evolve(nn.Callback):
    every_rank = True

    def on_epoch_end(self, run):
        run.model[0].evolve(0.3, run.optimizer)


def evolved(folder):
    nn.seed(1)
    layer = nn.SparseDense(4, 8, epsilon=1, activation="tanh", dtype=np.float64, rng=5)
    return fitted(nn.Sequential(layer, nn.Dense(8, 3, dtype=np.float64)), callbacks=[Evolve()])


def by_hand(folder):
    nn.seed(2)
    model, rng = network(), np.random.default_rng(3)
    optimizer = nn.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        for x, y in parallel.shares(model, nn.batches(X, Y, batch_size=49, rng=rng)):
            optimizer.zero_grad()
            LOSS(model(x), y).backward()
            nn.clip_norm(model.parameters(), 0.1)
            optimizer.step()
    return model.state_dict() | {f"grad/{i}": p.grad for i, p in enumerate(model.parameters())}


def by_hand_with_two_passes_a_step(folder):
    nn.seed(2)
    model, penalty = network(), network()
    optimizer = nn.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in parallel.shares(model, nn.batches(X, Y, batch_size=40, shuffle=False)):
        optimizer.zero_grad()
        LOSS(model(x), y).backward()
        LOSS(penalty(x), y).backward()  # another model, which is not our concern
        (LOSS(model(x * 2), y) * 0.5).backward()
        optimizer.step()
    return model.state_dict()


class Branches(nn.Module):
    """Which parameters are reached differs from batch to batch, and from row to row."""

    def __init__(self):
        nn.seed(3)
        self.first, self.second, self.never = (nn.Dense(4, 3, dtype=np.float64) for _ in range(3))

    def forward(self, x):
        return self.second(x) if x[0, 0] > 5.8 else self.first(x)


def reached_in_part(folder):
    model = Branches()
    optimizer = nn.Adam(model.parameters(), lr=0.05)
    for x, y in parallel.shares(model, nn.batches(X, Y, batch_size=10, shuffle=False)):
        optimizer.zero_grad()
        LOSS(model(x), y).backward()
        optimizer.step()
    assert model.never.W.grad is None
    return model.state_dict()


def mixed_dtypes(folder):
    nn.seed(5)
    model = nn.Sequential(nn.Dense(4, 8), nn.Dense(8, 3, dtype=np.float64))
    found = fitted(model)
    assert model[0].W.data.dtype == np.float32
    return {name: np.float64(value) for name, value in found.items()}


# --- the same on all ranks, but not as on one ---


def dropped_out(folder):
    """Masks of this rank's own, batches of all; resumed in the middle, the same bits."""
    seen = []

    class Watched(nn.Dropout):
        def forward(self, x):
            y = super().forward(x)
            if self.training:
                seen.append(np.asarray(y == 0)[:3])
            return y

    def run(name, epochs):
        nn.seed(4)
        layers = Watched(0.5), nn.Dense(8, 8, dtype=np.float64), nn.Dropout(0.2, rng=6)
        path = folder / f"{name}.npz"
        return fitted(
            network(*layers), nn.Adam(lr=0.01), epochs=epochs,
            callbacks=[nn.Checkpoint(path), nn.CSVLog(folder / f"{name}.csv")], resume=path,
        )  # fmt: skip

    whole = run("whole", 5)
    masks = np.array([mask[0] for mask in seen if mask.any()][:10])
    run("parts", 2)
    parts = run("parts", 5)
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value)
    return whole | {"apart/masks": masks}


def batch_norm(folder):
    nn.seed(1)
    model = network(nn.BatchNorm(8, dtype=np.float64))
    found = fitted(model, epochs=1, batch_size=None, optimizer=nn.SGD(lr=0.0))
    return found | {"hidden": model[0](X).data}


# --- what is refused, on all ranks ---


def refused(error, run):
    try:
        run()
    except error as caught:
        return np.array(str(caught))
    raise AssertionError("nothing was refused")


def quietly(run):
    with np.errstate(all="ignore"):
        return run()


class Change(nn.Callback):
    def on_epoch_end(self, run):
        run.optimizer.lr = 0.5


def refusals(folder):
    r = parallel.rank()
    rng = np.random.default_rng(r)

    def loop(batches):
        model = network()
        for x, y in parallel.shares(model, batches):
            LOSS(model(x), y).backward()

    last = parallel.size() - 1
    other = np.where(np.arange(150)[:, None] == 75 * (r == last), X + 1, X)
    bad = [np.inf if r == last else 1.0] * 3

    def stream():
        yield X[:64], Y[:64]
        yield X[64:], Y[64:]
        if r != last:
            yield X, Y

    class Diverging(nn.Callback):
        every_rank = True

        def on_step_end(self, run):
            if r == last and run.step == 2:
                run.model[1].b.data = np.array(bad)

    model = network()
    cases = {
        "model": lambda: fitted(nn.Sequential(nn.Dense(4, 3 + (r == last)))),
        "data": lambda: fitted(data=(other, Y)),
        "rows": lambda: fitted(data=(X[r:], Y[r:])),
        "setting": lambda: fitted(batch_size=32 + r),
        "shuffle": lambda: loop(nn.batches(X, Y, batch_size=40, rng=rng)),
        "number": lambda: fitted(data=stream, epochs=1),
        "callback": lambda: fitted(callbacks=[Change()]),
        "lbfgs": lambda: fitted(optimizer=nn.LBFGS()),
        "loss": lambda: fitted(loss=nn.SoftmaxCrossEntropy(ignore_label=2)),
        "batch": lambda: loop([X]),
        "finite": lambda: quietly(lambda: fitted(model, callbacks=[Diverging()])),
    }
    found = {f"refused/{name}": refused(TensorError, case) for name, case in cases.items()}
    return found | {"apart/loss": np.array(float(LOSS(model(X), Y).item()) if r != last else 1.0)}


# --- the end of a job; nothing is returned ---


class End(nn.Callback):
    every_rank = True

    def __init__(self, end):
        self.end = end

    def on_step_end(self, run):
        if (run.epoch, run.step) == (3, 2) and parallel.rank() == 1:
            self.end()


def ended(folder, end):
    fitted(epochs=6, callbacks=[nn.Checkpoint(folder / "run.npz"), End(end)])


def raises(folder):
    ended(folder, lambda: [][0])


def exits(folder):
    ended(folder, lambda: sys.exit(3))


def is_killed(folder):
    ended(folder, lambda: os.kill(os.getpid(), signal.SIGKILL))


def raises_in_a_loop(folder):
    for x, _ in parallel.shares(network(), nn.batches(X, Y, batch_size=40, shuffle=False)):
        if parallel.rank() == 1:
            raise ValueError(f"rows {len(x)}")
        parallel.total(1)


def shows_a_bar(folder):
    fitted(verbose=True, epochs=40)


def resumes(folder):
    return fitted(epochs=6, resume=folder / "run.npz")


def main(folder, names):
    found = {}
    for name in names:
        for key, value in (globals()[name](folder) or {}).items():
            found[f"{name}/{key}"] = value
    np.savez(folder / f"rank{parallel.rank()}.npz", allow_pickle=False, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
