"""Initial values of parameters: functions of ``(shape, rng, dtype)``; and the one random generator.

The rules that scale with the fans of a layer take the shape of its weights as ``weights``, where
that is not the shape to draw: so they give a bias, too.

Everything random in `nn` that is given no generator of its own (initial weights, the order of
batches) draws from one `numpy.random.Generator`, which `seed` sets. Numbers are drawn in float64
and then rounded, so that a seed means the same network in every dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from nn.module import as_array
from nn.names import named
from tinygrad_np.errors import ShapeError, message

Array = NDArray[Any]
Shape = tuple[int, ...]
# Strings, because naming numpy.random would import it: 15 ms for who may never draw.
Generator: TypeAlias = "np.random.Generator"
Rng: TypeAlias = "np.random.Generator | int | None"
Initializer = Callable[[Shape, Rng, DTypeLike], Array]

_generator: Generator | None = None


def seed(number: int | None) -> None:
    """Start `nn`'s generator anew: the same seed, the same weights and the same training.

    Parameters
    ----------
    number : int or None
        None starts it at random.

    Examples
    --------
    >>> import nn
    >>> nn.seed(0)
    >>> first = nn.Dense(2, 3).W.data
    >>> nn.seed(0)
    >>> bool((nn.Dense(2, 3).W.data == first).all())
    True
    """
    global _generator
    _generator = np.random.default_rng(number)


def generator(rng: Rng = None) -> Generator:
    """A generator: ``rng`` itself, one seeded with an int, or for None the one of `nn`."""
    if rng is not None:
        return np.random.default_rng(rng)
    if _generator is None:
        seed(None)
    assert _generator is not None
    return _generator


def exchange(other: Generator) -> Generator:
    """Make another generator that of `nn`; returns the one it was."""
    global _generator
    before, _generator = generator(), other
    return before


def zeros(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """``w = 0``."""
    return np.zeros(shape, dtype)


def ones(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32) -> Array:
    """``w = 1``."""
    return np.ones(shape, dtype)


def constant(value: float) -> Initializer:
    """``w = value``."""
    return partial(_constant, value=value)


def _constant(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, value: float
) -> Array:
    return np.full(shape, value, dtype)


def uniform(low: float = -1.0, high: float = 1.0) -> Initializer:
    """``w ~ U(low, high)``.

    Examples
    --------
    >>> from nn import init
    >>> init.uniform(-1, 1)((2,), rng=0, dtype=float)
    array([ 0.27392337, -0.46042657])
    """
    return partial(_uniform, low=low, high=high)


def _uniform(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, low: float, high: float
) -> Array:
    return np.asarray(generator(rng).uniform(low, high, shape)).astype(dtype)


def normal(std: float = 1.0, mean: float = 0.0) -> Initializer:
    """``w ~ N(mean, std^2)``."""
    return partial(_normal, std=std, mean=mean)


def _normal(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, std: float, mean: float
) -> Array:
    return np.asarray(generator(rng).normal(mean, std, shape)).astype(dtype)


def fans(shape: Shape, weights: Shape | None = None) -> tuple[int, int]:
    """Inputs that reach one output, and outputs that one input reaches.

    ``(in, out)`` for a matrix, ``(in * k, out * k)`` for a kernel ``(out, in, ...)`` of k taps.

    Parameters
    ----------
    shape : tuple of int
    weights : tuple of int, optional
        The weights beside what is drawn, whose fans count.

    Raises
    ------
    ShapeError
        For fewer than two axes, as of a bias.
    """
    if weights is not None:
        shape = weights
    if len(shape) < 2:
        raise ShapeError(
            message("init", "a shape (in, out) or (out, in, ...) to tell the fan-in", f"{shape}",
                    "For a bias give zeros, constant(value), uniform(low, high) or normal(std).")
        )  # fmt: skip
    if len(shape) == 2:
        return shape
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def xavier_normal(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, weights: Shape | None = None
) -> Array:
    """``w ~ N(0, 2 / (in + out))``: the variance of Glorot and Bengio (2010), equation 12."""
    n, m = fans(shape, weights)
    return normal(math.sqrt(2 / (n + m)))(shape, rng, dtype)


def xavier_uniform(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, weights: Shape | None = None
) -> Array:
    """``w ~ U(-a, a), a = sqrt(6 / (in + out))``: Glorot and Bengio (2010), equation 16."""
    n, m = fans(shape, weights)
    a = math.sqrt(6 / (n + m))
    return uniform(-a, a)(shape, rng, dtype)


def he_normal(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, weights: Shape | None = None
) -> Array:
    """``w ~ N(0, 2 / in)``, for ReLU: He et al. (2015), equation 10."""
    n, _ = fans(shape, weights)
    return normal(math.sqrt(2 / n))(shape, rng, dtype)


def he_uniform(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, weights: Shape | None = None
) -> Array:
    """``w ~ U(-a, a), a = sqrt(6 / in)``: the uniform of variance ``2 / in``."""
    n, _ = fans(shape, weights)
    a = math.sqrt(6 / n)
    return uniform(-a, a)(shape, rng, dtype)


def lecun_normal(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, weights: Shape | None = None
) -> Array:
    """``w ~ N(0, 1 / in)``: LeCun et al., "Efficient BackProp" (1998), equation 16."""
    n, _ = fans(shape, weights)
    return normal(math.sqrt(1 / n))(shape, rng, dtype)


def lecun_uniform(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, weights: Shape | None = None
) -> Array:
    """``w ~ U(-a, a), a = sqrt(3 / in)``: the uniform of variance ``1 / in``."""
    n, _ = fans(shape, weights)
    a = math.sqrt(3 / n)
    return uniform(-a, a)(shape, rng, dtype)


SCALED = (xavier_normal, xavier_uniform, he_normal, he_uniform, lecun_normal, lecun_uniform)

INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function for function in (*SCALED, zeros, ones)
}


def initializer(given: str | Initializer | ArrayLike) -> Initializer:
    """The function of that name, the callable itself, or one that gives a copy of an array.

    Raises
    ------
    ArgumentError
        For an unknown name, with the near ones; for a number, which has no shape.
    DtypeError
        For an array of something else than real numbers.

    Examples
    --------
    >>> from nn import init
    >>> init.initializer([1, 2])((2,), dtype=float)
    array([1., 2.])
    """
    if isinstance(given, np.ndarray | list | tuple):
        return partial(_given, values=as_array(given, "init"))
    return named("init", given, INITIALIZERS)  # type: ignore[arg-type]  # numbers are refused


def _given(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, values: Array) -> Array:
    return np.array(values, dtype)


def of_bias(given: Initializer, weights: Shape) -> Initializer:
    """The initialiser for the bias beside weights of that shape, whose fans it takes."""
    return partial(given, weights=weights) if given in SCALED else given
