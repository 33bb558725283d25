"""Operations that draw random numbers, from a generator that the caller gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, case, primitive, samples
from ..errors import ArgumentError, DtypeError, message


@primitive("dropout_mask({x}, p={p}, rng=rng)")
def dropout_mask(x, *, p, rng):
    """0 with probability p, else 1 / (1 - p), for each element; drawn anew when it is run anew."""
    kept = rng.random(x.shape, dtype=np.float32) >= p
    return kept * x.dtype.type(1 / (1 - p) if p < 1 else 0)


def dropout(x: Any, p: float = 0.5, *, rng: np.random.Generator, training: bool = True) -> Tensor:
    """0 with probability p, else ``y = x / (1 - p)``, so that the mean stays; ``dx = g * mask``.

    Parameters
    ----------
    x : array_like of float
    p : float
        The probability to drop an element, in [0, 1].
    rng : numpy.random.Generator
        Where the mask is drawn from: the same seed gives the same masks.
    training : bool
        False returns ``x`` as it is.

    Returns
    -------
    Tensor

    Raises
    ------
    ArgumentError
        For a p outside [0, 1].
    DtypeError
        If ``rng`` is no Generator, or x holds no floats.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014
    (there the scaling is done at test time).

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.dropout(np.ones(6), 0.5, rng=np.random.default_rng(0))
    array([2., 2., 2., 0., 0., 0.])
    """
    x = x if type(x) is Tensor else np.asarray(x)
    if not 0 <= p <= 1:
        raise ArgumentError(message("dropout", "a probability p in [0, 1]", f"{p!r}"))
    if not isinstance(rng, np.random.Generator):
        raise DtypeError(
            message("dropout", "rng to be a numpy.random.Generator", f"{rng!r:.40}",
                    "Make one with np.random.default_rng(seed).")
        )  # fmt: skip
    if x.dtype.kind != "f":
        raise DtypeError(message("dropout", "x of a floating-point dtype", f"{x.dtype}"))
    return x * dropout_mask(x, p=p, rng=rng) if training and p > 0 else x


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _repeating() -> Any:
    """A generator that draws the same numbers each time, so that one sample call is one function."""

    class Repeating(np.random.Generator):  # here, since naming numpy.random imports it
        def random(self, *args: Any, **named: Any) -> Any:
            return np.random.default_rng(0).random(*args, **named)

    return Repeating(np.random.PCG64(0))


def _dropped_by_definition(x: Any, p: float = 0.5, *, rng: Any, training: bool = True) -> Any:
    if not training:
        return x
    drawn = rng.random(x.shape, dtype=np.float32)
    return np.where(drawn < p, 0, x / max(1 - p, 0.1))


samples(
    dropout,
    lambda r: [
        case(r(3, 4), 0.4, rng=_repeating()),
        case(r(3, 4), rng=_repeating()),
        case(r(3), 0, rng=_repeating()),
        case(r(3), 1, rng=_repeating()),
        case(r(3), 0.5, rng=_repeating(), training=False),
        case(r(0, 2), 0.5, rng=_repeating()),
    ],
    reference=_dropped_by_definition,
    fails=lambda: [
        (
            case(Tensor(np.ones(3)), 1.5, rng=np.random.default_rng(0)),
            ArgumentError,
            "p in [0, 1], got 1.5",
        ),
        (case(Tensor(np.ones(3)), rng=0), DtypeError, "np.random.default_rng(seed)"),
        (
            case(Tensor([1, 2]), rng=np.random.default_rng(0)),
            DtypeError,
            "floating-point dtype, got int64",
        ),
    ],
)
