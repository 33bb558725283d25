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
from nn.names import check_name, named
from tinygrad_np import note_change
from tinygrad_np.errors import ArgumentError, ShapeError, message

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

    Notes
    -----
    All numbers are drawn in one thread, so that they do not depend on how many there are. But some
    BLAS add up in another order when they have other threads (OPENBLAS_NUM_THREADS) to share, and
    then sums differ in the last digit.

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
    before, _generator = _generator, _seeded("seed", number)
    note_change("the generator of nn", id(before), id(_generator))


def generator(rng: Rng = None) -> Generator:
    """A generator: ``rng`` itself, one seeded with an int, or for None the one of `nn`."""
    if rng is not None:
        return _seeded("rng", rng)
    if _generator is None:
        seed(None)
    assert _generator is not None
    return _generator


def _seeded(operation: str, given: Rng) -> Generator:
    try:
        return np.random.default_rng(given)
    except (TypeError, ValueError) as error:  # from NumPy, for what is no seed
        raise ArgumentError(
            message(operation, "a whole number of at least 0, a numpy.random.Generator or None",
                    repr(given))
        ) from error  # fmt: skip


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


def _check_matrix(name: str, shape: Shape, why: str = "") -> None:
    if len(shape) < 2:
        raise ShapeError(
            message(name, f"a shape (in, out) or (out, in, ...){why}", f"{shape}",
                    "For a bias give zeros, constant(value), uniform(low, high) or normal(std).")
        )  # fmt: skip


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
    _check_matrix("init", shape, " to tell the fan-in")
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


def variance_scaling(
    scale: float = 1.0, mode: str = "in", distribution: str = "normal"
) -> Initializer:
    """Mean 0 and variance ``scale / fan``: the family of all rules that scale with the fans.

    Parameters
    ----------
    scale : float
        > 0. The square of a gain: 2 for ReLU, ``2 / (1 + a^2)`` for its leaky kind of slope a.
    mode : {"in", "out", "mean"}
        The fan that counts: "in" keeps the size of activations, "out" that of gradients.
    distribution : {"normal", "truncated_normal", "uniform"}
        The second without values beyond two standard deviations of the normal that is cut.

    Raises
    ------
    ArgumentError
        For anything else.

    References
    ----------
    K. He et al., "Delving deep into rectifiers", 2015, equations 10, 14 and 15.

    Examples
    --------
    >>> from nn import init
    >>> init.variance_scaling(2, "out", "uniform")((1, 6), rng=0, dtype=float).round(3)
    array([[ 0.274, -0.46 , -0.918, -0.967,  0.627,  0.826]])
    """
    if not scale > 0:
        raise ArgumentError(message("init.variance_scaling", "scale above 0", repr(scale)))
    check_name("init.variance_scaling: mode", mode, ("in", "out", "mean"))
    check_name("init.variance_scaling: distribution", distribution, tuple(DISTRIBUTIONS))
    return partial(_variance_scaling, scale=scale, mode=mode, distribution=distribution)


def _variance_scaling(
    shape: Shape,
    rng: Rng = None,
    dtype: DTypeLike = np.float32,
    *,
    weights: Shape | None = None,
    scale: float,
    mode: str,
    distribution: str,
) -> Array:
    n, m = fans(shape, weights)
    sigma = math.sqrt(scale / {"in": n, "out": m, "mean": (n + m) / 2}[mode])
    return DISTRIBUTIONS[distribution](sigma)(shape, rng, dtype)


def truncated_normal(std: float = 1.0, mean: float = 0.0, limit: float = 2.0) -> Initializer:
    """``w ~ N(mean, std^2)``, drawn again where it is more than ``limit * std`` from the mean.

    With the limit 2 the standard deviation of what is left is 0.88 of that of the normal.

    Raises
    ------
    ArgumentError
        For a limit that is not above 0.

    Examples
    --------
    >>> from nn import init
    >>> bool(abs(init.truncated_normal(0.1)((1000,), rng=0)).max() <= 0.2)
    True
    """
    if not limit > 0:
        raise ArgumentError(message("init.truncated_normal", "limit above 0", repr(limit)))
    return partial(_truncated_normal, std=std, mean=mean, limit=limit)


def _truncated_normal(
    shape: Shape,
    rng: Rng = None,
    dtype: DTypeLike = np.float32,
    *,
    std: float,
    mean: float,
    limit: float,
) -> Array:
    rng = generator(rng)
    z = np.asarray(rng.normal(size=shape))
    while (outside := abs(z) > limit).any():
        z[outside] = rng.normal(size=np.count_nonzero(outside))
    w: Array = mean + std * z
    return w.astype(dtype)


# The standard deviation of a normal that is cut at two of its own
CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))

DISTRIBUTIONS: dict[str, Callable[[float], Initializer]] = {
    "normal": normal,
    "truncated_normal": lambda sigma: truncated_normal(sigma / CUT),
    "uniform": lambda sigma: uniform(-math.sqrt(3) * sigma, math.sqrt(3) * sigma),
}


def orthogonal(gain: float = 1.0) -> Initializer:
    """``w = gain Q`` with orthonormal rows or columns, whichever are fewer, drawn evenly from all.

    Such a matrix keeps lengths, forward and back. Of a kernel ``(out, in, ...)`` the rows are those
    of ``(out, in * taps)``.

    Raises
    ------
    ShapeError
        When drawn, for fewer than two axes.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", 2014. F. Mezzadri, "How to generate random matrices from the
    classical compact groups", 2007, for the signs that make QR give all of them alike.

    Examples
    --------
    >>> from nn import init
    >>> w = init.orthogonal()((2, 5), rng=0, dtype=float)
    >>> (w @ w.T).round(12) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """
    return partial(_orthogonal, gain=gain)


def _orthogonal(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, gain: float
) -> Array:
    _check_matrix("init.orthogonal", shape)
    rows, columns = shape[0], math.prod(shape[1:])
    a = generator(rng).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(a)
    q *= np.where(np.diagonal(r) < 0, -1, 1)
    w: Array = gain * (q if rows >= columns else q.T)
    return w.reshape(shape).astype(dtype)


def identity(gain: float = 1.0) -> Initializer:
    """``w = gain I``: a dense layer that passes on what it is given; zeros where there is no square.

    Raises
    ------
    ShapeError
        When made, for a shape that is not (in, out).

    References
    ----------
    Q. Le, N. Jaitly, G. Hinton, "A simple way to initialize recurrent networks of rectified linear
    units", 2015.

    Examples
    --------
    >>> from nn import init
    >>> init.identity()((2, 3), dtype=float)
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    return partial(_identity, gain=gain)


def _identity(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, gain: float
) -> Array:
    if len(shape) != 2:
        raise ShapeError(
            message("init.identity", "a shape (in, out)", f"{shape}",
                    "For the kernel of a convolution give dirac().")
        )  # fmt: skip
    w: Array = gain * np.eye(*shape)
    return w.astype(dtype)


def dirac(groups: int = 1) -> Initializer:
    """The identity of a convolution: output channel i is input channel i, at the kernel's middle.

    Where there are more channels on one side, the others of ``w (out, in, ...)`` are 0.

    Parameters
    ----------
    groups : int
        Parts of the output channels, each of which is an identity of its own.

    Raises
    ------
    ShapeError
        When made, for a shape that is no kernel, or output channels that the groups do not divide.

    Examples
    --------
    >>> from nn import init
    >>> init.dirac()((2, 2, 3), dtype=float)[:, :, 1]
    array([[1., 0.],
           [0., 1.]])
    """
    return partial(_dirac, groups=groups)


def _dirac(shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, groups: int) -> Array:
    if len(shape) < 3 or shape[0] % groups:
        raise ShapeError(
            message("init.dirac", f"a shape (out, in, ...) whose outputs {groups} divides",
                    f"{shape}", "For a dense layer give identity().")
        )  # fmt: skip
    w = np.zeros(shape, dtype)
    middle = tuple(taps // 2 for taps in shape[2:])
    for part in np.split(w, groups):
        for i in range(min(part.shape[:2])):
            part[(i, i, *middle)] = 1
    return w


def sparse(sparsity: float, std: float = 0.01) -> Initializer:
    """``w ~ N(0, std^2)``, with that part of the inputs of each output set to 0, drawn at random.

    Parameters
    ----------
    sparsity : float
        In [0, 1]; of n inputs ``ceil(sparsity n)`` are 0.
    std : float
        Of the others.

    Raises
    ------
    ArgumentError
        For another part.
    ShapeError
        When drawn, for a shape that is not (in, out).

    References
    ----------
    J. Martens, "Deep learning via Hessian-free optimization", 2010, section 5.

    Examples
    --------
    >>> from nn import init
    >>> (init.sparse(0.5)((4, 3), rng=0) == 0).sum(axis=0)
    array([2, 2, 2])
    """
    if not 0 <= sparsity <= 1:
        raise ArgumentError(message("init.sparse", "sparsity in [0, 1]", repr(sparsity)))
    return partial(_sparse, sparsity=sparsity, std=std)


def _sparse(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = np.float32, *, sparsity: float, std: float
) -> Array:
    if len(shape) != 2:
        raise ShapeError(message("init.sparse", "a shape (in, out)", f"{shape}"))
    rng = generator(rng)
    w = np.asarray(rng.normal(0.0, std, shape))
    ranks = rng.random(shape).argsort(axis=0).argsort(axis=0)
    w[ranks < math.ceil(sparsity * shape[0])] = 0
    return w.astype(dtype)


SCALED = (
    xavier_normal, xavier_uniform, he_normal, he_uniform, lecun_normal, lecun_uniform,
    _variance_scaling,
)  # fmt: skip
"""Those that take the shape of the weights beside which a bias is drawn."""

INITIALIZERS: dict[str, Initializer] = {
    **{function.__name__: function for function in (*SCALED[:-1], zeros, ones)},
    "truncated_normal": truncated_normal(),
    "orthogonal": orthogonal(),
    "identity": identity(),
    "dirac": dirac(),
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
    rule = given.func if isinstance(given, partial) else given
    return partial(given, weights=weights) if rule in SCALED else given  # type: ignore[call-arg]  # they take it
