"""Embeddings: a learnt row for each number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import tinygrad_np as tg
from nn.init import Initializer, Rng, Shape, generator, initializer, normal
from nn.layers.layer import Layer, explained
from nn.options import sizes
from tinygrad_np.errors import TensorError


class Embedding(Layer):
    """Rows of a table ``y[...] = W[ids[...]]``; a row read k times gets the sum of k gradients.

    Parameters
    ----------
    count, features : int
        The shape of the table: ids are 0 ... count - 1.
    weights_init : str, callable or array_like
        As for `Dense`; by default from N(0, 1).
    rng, dtype
        As for `Dense`.

    Attributes
    ----------
    W : Tensor (count, features)
        For scores of all ids from the same table write ``h @ embedding.W.T``.

    Raises
    ------
    ArgumentError
        For sizes that are not positive whole numbers.
    DtypeError, IndexingError
        When called with ids that are not integers, or outside the table.

    Examples
    --------
    >>> import nn
    >>> nn.Embedding(65, 16)([[1, 2, 3], [3, 2, 1]]).shape
    (2, 3, 16)
    """

    def __init__(
        self,
        count: int,
        features: int,
        *,
        weights_init: str | Initializer | ArrayLike = normal(1.0),  # noqa: B008  # makes no state
        rng: Rng = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        sizes("Embedding", (count, features), "(count, features)", most=2)
        self.count = count
        self.features = features
        self.rng = rng
        self.dtype = np.dtype(dtype)
        self.weights_init = initializer(weights_init)
        self.W = self._parameter("weights_init", (count, features), generator(rng))

    def forward(self, ids: Any) -> Any:
        try:
            return tg.embedding(ids, self.W)
        except TensorError as error:
            raise explained(self, error) from error

    def multiply_adds(self, y: Shape, ids: Shape) -> int:
        """None at all: rows are read."""
        return 0

    def describe(self) -> str:
        return f"{self.count}, {self.features}"
