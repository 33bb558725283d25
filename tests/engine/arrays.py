"""What the engine's tests share: random sample arrays and central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Draw:
    """A seeded source of sample arrays: ``r(2, 3)`` is normal; every shape may be ``()``."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Floats:
        return np.asarray(self.rng.normal(size=shape))

    data = __call__

    def positive(self, *shape: int) -> Floats:
        return np.asarray(self.rng.uniform(0.5, 2.5, size=shape))

    def unit(self, *shape: int) -> Floats:
        """Within (-0.9, 0.9)."""
        return np.asarray(self.rng.uniform(-0.9, 0.9, size=shape))

    def distinct(self, *shape: int) -> Floats:
        """No two elements closer than 0.1: no ties, and finite differences cannot swap two."""
        n = int(np.prod(shape))
        return np.asarray((self.rng.permutation(n) - n / 2 + 0.25) * 0.3).reshape(shape)

    def integers(self, high: int, *shape: int) -> NDArray[np.int64]:
        return np.asarray(self.rng.integers(high, size=shape))


def numerical_gradient(
    f: Callable[..., Any], arrays: Sequence[Floats], cotangent: Floats, h: float = 1e-5
) -> list[Floats]:
    """d(sum(cotangent * f(*arrays))) by central differences, of fourth order in h."""
    grads = []
    for k, array in enumerate(arrays):
        grad = np.zeros_like(array)
        for i in np.ndindex(array.shape):
            values = []
            for step in (-2 * h, -h, h, 2 * h):
                moved = [a.copy() for a in arrays]
                moved[k][i] += step
                values.append(np.sum(cotangent * np.asarray(f(*moved))))
            far_left, left, right, far_right = values
            grad[i] = (8 * (right - left) - (far_right - far_left)) / (12 * h)
        grads.append(grad)
    return grads
