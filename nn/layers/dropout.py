"""Dropout."""

from __future__ import annotations

from typing import Any

import tinygrad_np as tg
from nn.init import Rng, generator
from nn.layers.layer import explained
from nn.module import Module
from tinygrad_np.errors import ArgumentError, TensorError, message


class Dropout(Module):
    """In training ``y = x mask / (1 - p)``, where the mask is 0 with probability p; else ``y = x``.

    Parameters
    ----------
    p : float
        The probability to drop an element, in [0, 1].
    rng : numpy.random.Generator, int or None
        What the masks are drawn from, one after another. None is the generator of `nn` that
        `nn.seed` sets, at the time of the call; one of the layer's own is no part of its state.

    Raises
    ------
    ArgumentError
        For a p outside [0, 1].
    DtypeError
        When called in training with what is not floating-point.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014
    (there the scaling is done at test time).

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.Dropout(0.5, rng=0)
    >>> layer(np.ones(6))
    array([2., 2., 2., 0., 0., 0.])
    >>> layer.eval()(np.ones(6))
    array([1., 1., 1., 1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(message("Dropout", "a probability p in [0, 1]", repr(p)))
        self.p = p
        self.rng = None if rng is None else generator(rng)

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        try:
            return tg.dropout(x, self.p, rng=generator(self.rng))
        except TensorError as error:
            raise explained(self, error) from error

    def describe(self) -> str:
        return f"{self.p}"
