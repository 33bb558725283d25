"""Make the pictures that the README shows: ``python docs/pictures.py``, on data that ships with nn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import nn
import tinygrad_np as tg

HERE = Path(__file__).parent


def iris_network() -> tg.Tensor:
    """The loss of a 4-5-3 network on the first plants of each kind, after its backward pass."""
    flowers = nn.datasets.iris()
    rows = np.arange(0, 150, 25)
    model = nn.Sequential(
        nn.Dense(4, 5, activation="relu", rng=0), nn.Dense(5, 3, rng=1)
    )
    x = tg.Tensor(flowers.x[rows].astype(np.float32), name="x")
    loss = nn.SoftmaxCrossEntropy()(model(x), flowers.y[rows])
    loss.name = "loss"
    loss.backward()
    return loss


if __name__ == "__main__":
    tg.draw(iris_network()).save(HERE / "graph.png")
