"""Graphs that several tests draw."""

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np import Tensor


@pytest.fixture
def perceptron():
    """Two layers and a softmax cross-entropy, as a user writes them; all local names."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(16, 4)), name="x")
    t = rng.integers(0, 3, 16)
    W1 = Tensor(rng.normal(size=(4, 8)), requires_grad=True, name="W1")
    b1 = Tensor(np.zeros(8), requires_grad=True, name="b1")
    W2 = Tensor(rng.normal(size=(8, 3)), requires_grad=True, name="W2")
    b2 = Tensor(np.zeros(3), requires_grad=True, name="b2")
    h = np.tanh(x @ W1 + b1)
    z = h @ W2 + b2
    loss = tg.softmax_cross_entropy(z, t)
    return locals()


def chain(operations, size=3):
    """``h = h * 0.999 + b``, repeated."""
    h = Tensor(np.ones(size), requires_grad=True, name="x")
    b = Tensor(np.ones(size), requires_grad=True, name="b")
    for _ in range(operations // 2):
        h = h * 0.999 + b
    return h.sum()
