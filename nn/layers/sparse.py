"""A sparse layer whose connections evolve while it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import tinygrad_np as tg
from nn.init import Array, Generator, Initializer, Rng, generator, initializer
from nn.layers.activation import Activation, activation_named
from nn.layers.layer import Layer
from nn.optim import Optimizer
from nn.options import differing, in_and_out
from tinygrad_np.errors import ArgumentError, message


class SparseDense(Layer):
    """Dense layer ``y = activation(x @ A + b)`` of which only some weights exist.

    A (in, out) has ``round(epsilon (in + out))`` weights, at random places that `evolve` changes.
    Time and memory follow their number, which grows with the neurons and not with their product.

    Parameters
    ----------
    *features : int
        ``in, out``; or only ``out``, and the input size is taken from the first batch.
    epsilon : float
        Above 0: about how many weights a neuron has on each side. If there is no room for them,
        A is full.
    activation, bias, weights_init, bias_init, rng, dtype
        As for `Dense`. The fans are the mean numbers of weights that an output and an input have.
        `evolve` goes on with the same generator.

    Attributes
    ----------
    values : Tensor (n,)
        The weights, in row order of their places.
    places : Tensor (n,) of int
        ``i * out + j`` for the weight from input i to output j. A buffer: part of the state.
    b : Tensor (out,), or None

    Raises
    ------
    ArgumentError
        For an epsilon that is not above 0, and as `Dense`.
    ShapeError
        When called with what is no ``(N, in)``.
    TensorError
        When called, if SciPy (the extra ``sparse``) is not installed.

    References
    ----------
    D. C. Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science", Nature Communications 9 (2018): equation 1 for the
    number of weights (there it is the mean of a random number), algorithm 1 for `evolve`.

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.SparseDense(1000, 500, epsilon=10, rng=0)
    >>> layer.values.size / (1000 * 500)
    0.03
    >>> layer(np.ones((2, 1000))).shape
    (2, 500)
    >>> layer.evolve(zeta=0.3)
    4499
    """

    values: tg.Tensor
    places: tg.Tensor
    b: tg.Tensor | None

    def __init__(
        self,
        *features: int,
        epsilon: float = 20.0,
        activation: str | Activation | None = None,
        bias: bool = True,
        weights_init: str | Initializer | ArrayLike = "xavier_uniform",
        bias_init: str | Initializer | ArrayLike = "zeros",
        rng: Rng = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.in_features, self.out_features = in_and_out("SparseDense", features)
        if not epsilon > 0:
            raise ArgumentError(message("SparseDense", "epsilon above 0", repr(epsilon)))
        self.epsilon = epsilon
        self.activation = activation_named(activation)
        self.bias = bias
        self.weights_init = initializer(weights_init)
        self.bias_init = initializer(bias_init)
        self.rng = None if rng is None else generator(rng)
        self.dtype = np.dtype(dtype)
        if self.in_features is not None:
            self._build(self.in_features)

    @property
    def built(self) -> bool:
        return self.in_features is not None

    def _build(self, features: int) -> None:
        rng = generator(self.rng)
        m, n = features, self.out_features
        count = max(1, min(m * n, round(self.epsilon * (m + n))))
        self.places = tg.Tensor(_free(np.empty(0, np.int64), m * n, count, rng))
        fans = self._fans = max(1, round(count / n)), max(1, round(count / m))
        self.values = self._parameter("weights_init", (count,), rng, weights=fans)
        self.b = self._parameter("bias_init", (n,), rng, weights=fans) if self.bias else None
        self.in_features = features
        self._known: tuple[Array, tg.SparsePattern] | None = None

    @property
    def pattern(self) -> tg.SparsePattern:
        """Where the weights stand in A."""
        places = self.places.data
        if self._known is None or self._known[0] is not places:  # evolved, or loaded
            shape = self.in_features or 0, self.out_features
            rows, columns = np.divmod(places, self.out_features)
            self._known = places, tg.SparsePattern(rows, columns, shape)
        return self._known[1]

    def forward(self, x: Any) -> Any:
        x = self._operand(x, "N", self.in_features or "features")
        self._ready(x, -1)
        z = tg.sparse_matmul(self.values, self.pattern.T, x.T).T
        z = z if self.b is None else z + self.b
        return z if self.activation is None else self.activation(z)

    def evolve(self, zeta: float = 0.3, optimizer: Optimizer | None = None) -> int:
        """Remove the weights nearest to 0 and grow as many at random free places.

        Of the positive weights (0 among them) the fraction ``zeta`` with the smallest values goes,
        and of the negative ones that with the largest. New weights are drawn like the first ones.

        Parameters
        ----------
        zeta : float
            In [0, 1].
        optimizer : Optimizer, optional
            One that has the parameter `values`: the state of each weight that stays moves with it,
            and that of a new one is 0, as at the start. The count of steps, which all weights share,
            goes on: an optimizer that corrects its averages for it, such as Adam, makes the first
            steps of a new weight longer (Adam up to 6.6 times, with the default betas).

        Returns
        -------
        int
            How many weights were replaced.

        Raises
        ------
        ArgumentError
            For a zeta outside [0, 1], an optimizer of other parameters, or a layer without weights
            yet.
        """
        if not self.built or not 0 <= zeta <= 1:
            got = f"zeta={zeta!r}" if self.built else "no weights yet"
            raise ArgumentError(message(f"{self!r}: evolve", "zeta in [0, 1] and weights", got))
        rng, values, places = generator(self.rng), self.values.data, self.places.data
        total = self.in_features * self.out_features  # type: ignore[operator]  # it is built
        kept = np.ones(values.size, bool)
        for sign in values >= 0, values < 0:
            kept[_nearest_zero(values, np.flatnonzero(sign), zeta)] = False
        count = values.size - int(np.count_nonzero(kept))
        grown = _free(places[kept], total, count, rng)
        new = self._drawn("weights_init", (count,), rng, weights=self._fans)
        order = np.argsort(np.concatenate([places[kept], grown]), kind="stable")  # merges two runs

        def moved(array: Array, new: Array) -> Array:
            return np.concatenate([array[kept], new])[order]

        if optimizer is not None:
            _move_state(optimizer, self.values, lambda a: moved(a, np.zeros(count, a.dtype)))
        self.values.data = moved(values, new)
        self.values.grad = None
        self.places.data = moved(places, grown)
        return count

    def multiply_adds(self, y: Any, x: Any) -> int:
        """One for each weight that is kept, and each row."""
        rows: int = math.prod(x[:-1])
        return rows * self.values.size

    def describe(self) -> str:
        features = [str(n) for n in (self.in_features, self.out_features) if n is not None]
        return ", ".join([*features, *differing(self, "epsilon", "activation", "bias")])


def _nearest_zero(values: Array, index: Array, fraction: float) -> Array:
    """Those of the indices whose values are nearest to 0."""
    count = int(fraction * index.size)
    if count == 0:
        return index[:0]
    return index[np.argpartition(np.abs(values[index]), count - 1)[:count]]


def _free(taken: Array, total: int, count: int, rng: Generator) -> Array:
    """Places of 0 ... total - 1 that are not taken, each equally likely; both in rising order."""
    ranks = np.sort(rng.choice(total - taken.size, count, replace=False, shuffle=False))
    free_before = taken - np.arange(taken.size)
    return ranks + np.searchsorted(free_before, ranks, side="right")


def _move_state(
    optimizer: Optimizer, parameter: tg.Tensor, moved: Callable[[Array], Array]
) -> None:
    """Rearrange what an optimizer keeps for each element of a parameter."""
    state = optimizer.state_dict()
    found = [
        entry
        for group, part in zip(optimizer.groups, state.get("groups", [state]))
        for p, entry in zip(group.params, part["state"])
        if p is parameter
    ]
    if not found:
        raise ArgumentError(
            message("SparseDense: evolve", "an optimizer of its values", f"{optimizer!r} of others")
        )
    (entry,) = found
    entry |= {name: moved(a) for name, a in entry.items() if isinstance(a, np.ndarray)}
    optimizer.load_state_dict(state)
