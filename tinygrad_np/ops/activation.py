"""Activation functions and the softmax family, each stable at any magnitude.

Convention at kinks, that of PyTorch: at 0 `relu`, `relu6`, `elu` and `leaky_relu` have the slope of
their left piece. Where a saturating piece begins (`relu6` at 6, `hardsigmoid` at -3 and 3) the
slope is 0; `hardswish` has slope 0 at -3 and 1 at 3.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ..core import ONE, ZERO, Tensor, as_array, case, plain, primitive, samples
from ..errors import ArgumentError, IndexingError, ShapeError, message
from .arithmetic import mismatch
from .axes import canonical_axes, canonical_axis, kept
from .elementwise import erf, finite
from .reduce import bad_axes


@primitive("np.maximum({x}, 0)", out="np.maximum({x}, 0, out={out})")
def relu(x):
    """Rectified linear unit ``y = max(x, 0)``; ``dx = g * (x > 0)``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    Notes
    -----
    The slope at 0 is 0, as in PyTorch and JAX.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> z = tg.Tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> z.relu().sum().backward()
    >>> z.grad
    array([0., 0., 1.])
    """
    return np.maximum(x, ZERO[x.dtype] if type(x) is np.ndarray else 0)


relu.vjp(x=lambda g, x: g * (x > 0)).arrays(x=lambda g, x: g * (x > ZERO[x.dtype]))


@cache
def _largest_exponent(dtype: np.dtype[Any]) -> Any:
    """The largest z whose exp(z) is finite, in the same dtype."""
    kind: Any = dtype if dtype.kind == "f" else np.float64
    return np.nextafter(np.log(np.finfo(kind).max), kind.type(0), dtype=kind)


@primitive("1 / (1 + np.exp(-{x}))")
def sigmoid(x):
    """Logistic function ``y = 1 / (1 + exp(-x))``; ``dx = g * y * (1 - y)``.

    Parameters
    ----------
    x : array_like
        Any magnitude; there is no overflow.

    Returns
    -------
    Tensor
        Within [0, 1].

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.sigmoid(np.array([-800.0, 0.0, 800.0])).round(9)
    array([0. , 0.5, 1. ])
    """
    x = as_array(x)
    if x.dtype.kind != "f":
        return 1 / (1 + np.exp(-x.astype(np.result_type(x, np.float32))))
    y = np.minimum(np.negative(x), _largest_exponent(x.dtype))
    if isinstance(y, np.generic):  # of a 0-d array NumPy makes a number
        return 1 / (1 + np.exp(y))
    np.exp(y, out=y)
    y += ONE[y.dtype]
    return np.reciprocal(y, out=y)


sigmoid.vjp(x=lambda g, y: g * (y * (1 - y))).arrays(
    x=lambda g, y: g * (y * (ONE[y.dtype] - y)))  # fmt: skip


# --------------------------------------------------------------------------------------------------
# Smooth activations
# --------------------------------------------------------------------------------------------------


@primitive("softplus({x}, beta={beta})", name="softplus")
def softplus_of(x, *, beta):
    z = np.multiply(x, beta)
    return (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta


softplus_of.vjp(x=lambda g, x, beta: g * sigmoid(x * beta))


def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """Smooth `relu` ``y = log(1 + exp(beta x)) / beta``; ``dx = g * sigmoid(beta x)``.

    Parameters
    ----------
    x : array_like
        Any magnitude: there is no overflow, and so none of PyTorch's ``threshold``.
    beta : float
        Positive; the larger, the closer to `relu`.

    Returns
    -------
    Tensor

    Raises
    ------
    ArgumentError
        If ``beta`` is not positive.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.softplus(np.array([-1000.0, 0.0, 1000.0]))
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    if beta <= 0:
        raise ArgumentError(message("softplus", "beta > 0", f"{beta}"))
    return softplus_of(x, beta=beta)


@primitive("log_sigmoid({x})")
def log_sigmoid(x):
    """Logarithm of the logistic function ``y = -log(1 + exp(-x))``; ``dx = g * sigmoid(-x)``.

    Parameters
    ----------
    x : array_like
        Any magnitude.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.log_sigmoid(np.array([-1000.0, 0.0]))
    array([-1.00000000e+03, -6.93147181e-01])
    """
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


log_sigmoid.vjp(x=lambda g, x: g * sigmoid(-x))


def _normal_cdf(x: Any) -> Any:
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))


def _normal_pdf(x: Any) -> Any:
    return math.sqrt(0.5 / math.pi) * np.exp(-0.5 * x * x)


@primitive("gelu({x})", name="gelu", residuals={"Phi": lambda x: _normal_cdf(x)})
def gelu_exact(x):
    x = as_array(x)
    Phi = _normal_cdf(x)
    return x * Phi, Phi


gelu_exact.vjp(x=lambda g, x, Phi: g * (Phi + x * _normal_pdf(x)))


def _gelu_gate(x: Any) -> Any:
    return np.tanh(math.sqrt(2 / math.pi) * x * (1 + 0.044715 * x * x))


@primitive("gelu_tanh({x})", name="gelu", residuals={"t": lambda x: _gelu_gate(x)})
def gelu_tanh(x):
    x = as_array(x)
    t = _gelu_gate(x)
    return 0.5 * x * (1 + t), t


gelu_tanh.vjp(
    x=lambda g, x, t: g * (
        0.5 * (1 + t)
        + math.sqrt(0.5 / math.pi) * x * (1 - t * t) * (1 + 3 * 0.044715 * x * x)))  # fmt: skip


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit ``y = x Phi(x)``; ``dx = g * (Phi(x) + x phi(x))``.

    ``Phi`` is the distribution function of the standard normal, ``phi`` its density.

    Parameters
    ----------
    x : array_like
    approximate : {"none", "tanh"}
        "tanh": ``y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3)))``, within 5e-4 of the exact.

    Returns
    -------
    Tensor

    Raises
    ------
    ArgumentError
        For another ``approximate``.

    References
    ----------
    D. Hendrycks, K. Gimpel, Gaussian error linear units (2016), section 2.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.gelu(np.array([-1.0, 0.0, 1.0]))
    array([-0.15865525,  0.        ,  0.84134475])
    """
    kinds = {"none": gelu_exact, "tanh": gelu_tanh}
    if approximate not in kinds:
        raise ArgumentError(message("gelu", "approximate among none, tanh", repr(approximate)))
    return kinds[approximate](x)


@primitive("{x} * sigmoid({x})", residuals={"s": lambda x: sigmoid(x)})
def silu(x):
    """Sigmoid linear unit (swish) ``y = x s``, ``s = sigmoid(x)``; ``dx = g * (s + y (1 - s))``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    References
    ----------
    S. Elfwing, E. Uchibe, K. Doya, Neural Networks 107 (2018), equation 6.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.silu(np.array([0.0, 1.0]))
    array([0.        , 0.73105858])
    """
    s = sigmoid(x)
    return x * s, s


silu.vjp(x=lambda g, y, s: g * (s + y * (1 - s)))


@primitive("{x} * np.tanh(softplus({x}))", residuals={"t": lambda x: np.tanh(softplus(x))})
def mish(x):
    """Mish ``y = x t``, ``t = tanh(softplus(x))``; ``dx = g * (t + x (1 - t**2) sigmoid(x))``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    References
    ----------
    D. Misra, Mish: a self regularized non-monotonic activation function (2019), equation 1.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.mish(np.array([0.0, 1.0]))
    array([0.        , 0.86509839])
    """
    t = np.tanh(softplus(x))
    return x * t, t


mish.vjp(x=lambda g, x, t: g * (t + x * (1 - t * t) * sigmoid(x)))


@primitive("{x} / (1 + np.abs({x}))")
def softsign(x):
    """Softsign ``y = x / (1 + |x|)``; ``dx = g / (1 + |x|)**2``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor
        Within (-1, 1).

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.softsign(np.array([-1.0, 0.0, 3.0]))
    array([-0.5 ,  0.  ,  0.75])
    """
    return x / (1 + np.abs(x))


softsign.vjp(x=lambda g, x: g / (1 + np.abs(x)) ** 2)

# --------------------------------------------------------------------------------------------------
# Activations in pieces
# --------------------------------------------------------------------------------------------------


@primitive("np.where({x} > 0, {x}, {negative_slope} * {x})", name="leaky_relu")
def leaky(x, negative_slope):
    return np.where(np.greater(x, 0), x, np.multiply(negative_slope, x))


leaky.vjp(x=lambda g, x, negative_slope: np.where(x > 0, g, g * negative_slope),
          negative_slope=lambda g, x: g * np.minimum(x, 0))  # fmt: skip


def leaky_relu(x: Any, negative_slope: Any = 0.01) -> Tensor:
    """Leaky rectifier ``y = x if x > 0 else a x``; ``dx = g`` or ``a g``.

    Parameters
    ----------
    x : array_like
    negative_slope : float or array_like
        ``a``; a tensor that broadcasts with ``x`` is learned (a parametric rectifier, PReLU).

    Returns
    -------
    Tensor

    Notes
    -----
    The slope at 0 is ``a``, as in PyTorch.

    References
    ----------
    K. He et al., Delving deep into rectifiers (2015), equation 1.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.leaky_relu(np.array([-2.0, 3.0]))
    array([-0.02,  3.  ])
    """
    return leaky(x, negative_slope)


@primitive("elu({x}, alpha={alpha})", name="elu")
def elu_of(x, *, alpha):
    return np.where(np.greater(x, 0), x, alpha * np.expm1(np.minimum(x, 0)))


elu_of.vjp(x=lambda g, x, y, alpha: np.where(x > 0, g, g * (y + alpha)))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """Exponential linear unit ``y = x if x > 0 else a (exp(x) - 1)``; ``dx = g`` or ``g (y + a)``.

    Parameters
    ----------
    x : array_like
    alpha : float
        ``a``, minus the limit at minus infinity.

    Returns
    -------
    Tensor

    Notes
    -----
    The slope at 0 is ``a``, as in PyTorch.

    References
    ----------
    D. Clevert, T. Unterthiner, S. Hochreiter, Exponential linear units (2016), equation 15.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.elu(np.array([-1000.0, 0.0, 2.0]))
    array([-1.,  0.,  2.])
    """
    return elu_of(x, alpha=alpha)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """Continuously differentiable `elu` ``y = a elu(x / a)``: its slope at 0 is 1 for every ``a``.

    Parameters
    ----------
    x : array_like
    alpha : float
        ``a``, minus the limit at minus infinity.

    Returns
    -------
    Tensor

    References
    ----------
    J. T. Barron, Continuously differentiable exponential linear units (2017), equation 2.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.celu(np.array([-1000.0, 2.0]), alpha=2.0)
    array([-2.,  2.])
    """
    return alpha * elu(np.divide(x, alpha))


# The fixed point of mean 0 and variance 1: Klambauer et al. (2017), equation 14.
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


def selu(x: Any) -> Tensor:
    """Scaled `elu` ``y = 1.0507 elu(x, 1.6733)``, which keeps mean 0 and variance 1 through layers.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    References
    ----------
    G. Klambauer et al., Self-normalizing neural networks (2017), equation 2.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.selu(np.array([-1000.0, 1.0]))
    array([-1.75809934,  1.05070099])
    """
    return SELU_SCALE * elu(x, SELU_ALPHA)


@primitive("np.clip({x}, 0, 6)")
def relu6(x):
    """Rectifier that saturates at 6 ``y = min(max(x, 0), 6)``; ``dx = g * (0 < x < 6)``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.relu6(np.array([-1.0, 2.0, 9.0]))
    array([0., 2., 6.])
    """
    return np.clip(x, 0, 6)


relu6.vjp(x=lambda g, x: g * (x > 0) * (x < 6))


@primitive("np.clip({x} + 3, 0, 6) / 6")
def hardsigmoid(x):
    """Sigmoid in three straight pieces ``y = relu6(x + 3) / 6``; ``dx = g / 6`` within (-3, 3).

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor
        Within [0, 1].

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.hardsigmoid(np.array([-4.0, 0.0, 4.0]))
    array([0. , 0.5, 1. ])
    """
    return np.clip(np.add(x, 3), 0, 6) / 6


hardsigmoid.vjp(x=lambda g, x: g / 6 * (np.abs(x) < 3))


@primitive("{x} * np.clip({x} + 3, 0, 6) / 6")
def hardswish(x):
    """`silu` in pieces ``y = x hardsigmoid(x)``; ``dx = g (x/3 + 1/2)`` in (-3, 3), else 0 or g.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    References
    ----------
    A. Howard et al., Searching for MobileNetV3 (2019), section 5.2.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.hardswish(np.array([-4.0, 0.0, 4.0]))
    array([-0.,  0.,  4.])
    """
    return x * hardsigmoid(x)


hardswish.vjp(x=lambda g, x: np.where(np.abs(x) < 3, g * (x / 3 + 0.5), g * (x >= 3)))

# --------------------------------------------------------------------------------------------------
# Softmax and its logarithm
# --------------------------------------------------------------------------------------------------


@primitive("softmax({x}, axis={axis})", name="softmax")
def softmax_along(x, *, axis):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


softmax_along.vjp(x=lambda g, y, axis: y * (g - np.sum(g * y, axis=axis, keepdims=True)))


@primitive("log_softmax({x}, axis={axis})", name="log_softmax")
def log_softmax_along(x, *, axis):
    z = x - np.max(x, axis=axis, keepdims=True)
    return z - np.log(np.sum(np.exp(z), axis=axis, keepdims=True))


log_softmax_along.vjp(x=lambda g, y, axis: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True))


@primitive("logsumexp({x}, axis={axis}, keepdims={keepdims})", name="logsumexp")
def logsumexp_over(x, *, axis, keepdims):
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):  # the log of a sum of nothing but exp(-inf) is -inf
        y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis)


logsumexp_over.vjp(
    x=lambda g, y, x, axis, keepdims: (
        kept(g, axis, keepdims) * np.exp(x - kept(finite(y), axis, keepdims))))  # fmt: skip


def _along(name: str, operation: Any, x: Any, axis: int) -> Tensor:
    return operation(x, axis=canonical_axis(name, axis, np.ndim(plain(x))))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """Probabilities ``y_i = exp(x_i) / sum_j exp(x_j)``; ``dx = y * (g - sum(g * y))``.

    Parameters
    ----------
    x : array_like
        Logits, any magnitude: each row's own maximum is subtracted first.
    axis : int
        The axis of the classes.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    return _along("softmax", softmax_along, x, axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Logarithms of the softmax ``y_i = x_i - log sum_j exp(x_j)``; ``dx = g - exp(y) * sum(g)``.

    Parameters
    ----------
    x : array_like
        Logits, any magnitude.
    axis : int
        The axis of the classes.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.log_softmax(np.array([0.0, -1000.0]))
    array([    0., -1000.])
    """
    return _along("log_softmax", log_softmax_along, x, axis)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """``y = log sum_i exp(x_i)`` over axes, without overflow; ``dx = g * softmax(x)``.

    Parameters
    ----------
    x : array_like
    axis : int, tuple of int or None
        The axes to reduce; None for all.
    keepdims : bool
        Whether the axes stay, with length 1.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.logsumexp(tg.Tensor([1000.0, 1000.0])).item()
    1000.6931471805599
    """
    axes = canonical_axes("logsumexp", axis, np.ndim(plain(x)))
    return logsumexp_over(x, axis=axes, keepdims=bool(keepdims))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def everywhere(r: Any) -> list[Any]:
    return [case(r(2, 3)), case(r()), case(r(0, 3)), case(5 * r(2, 1, 4))]


relu.samples(
    everywhere,
    reference=lambda x: np.where(x > 0, x, 0.0),
    kinks=lambda: [(case(np.array([0.0, -0.0])), [np.zeros(2)])],
)
sigmoid.samples(everywhere, reference=lambda x: 0.5 + 0.5 * np.tanh(x / 2))

_cdf = np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2, otypes=[float])
_elu = lambda x, a=1.0: np.where(x > 0, x, a * (np.exp(x) - 1))

samples(
    softplus,
    lambda r: [*everywhere(r), case(r(2, 3), beta=2.5)],
    reference=lambda x, beta=1.0: np.log(1 + np.exp(beta * x)) / beta,
    fails=lambda: [(case(Tensor(np.ones(2)), beta=0), ArgumentError, "beta > 0")],
)
log_sigmoid.samples(everywhere, reference=lambda x: np.log(1 / (1 + np.exp(-x))))
samples(
    gelu,
    lambda r: [*everywhere(r), case(r(2, 3), approximate="tanh"), case(3 * r(4), "tanh")],
    reference=lambda x, approximate="none": x * (
        _cdf(x) if approximate == "none"
        else 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    ),
    fails=lambda: [(case(Tensor(np.ones(2)), "erf"), ArgumentError, "none, tanh")],
)  # fmt: skip
silu.samples(everywhere, reference=lambda x: x / (1 + np.exp(-x)))
mish.samples(everywhere, reference=lambda x: x * np.tanh(np.log(1 + np.exp(x))))
softsign.samples(everywhere, reference=lambda x: x / (1 + np.sqrt(x * x)))
samples(
    leaky_relu,
    lambda r: [*everywhere(r), case(r(2, 3), 0.2), case(r(2, 3), r(3)), case(r(2, 3), r())],
    reference=lambda x, a=0.01: np.maximum(x, 0) + a * np.minimum(x, 0),
    kinks=lambda: [(case(np.array([0.0]), 0.2), [np.array([0.2])])],
    fails=mismatch,
)
samples(
    elu,
    lambda r: [*everywhere(r), case(r(2, 3), alpha=0.3), case(r(2, 3), alpha=-0.5)],
    reference=lambda x, alpha=1.0: _elu(x, alpha),
    kinks=lambda: [(case(np.array([0.0]), alpha=0.3), [np.array([0.3])])],
)
samples(
    celu,
    lambda r: [*everywhere(r), case(r(2, 3), alpha=0.3)],
    reference=lambda x, alpha=1.0: alpha * _elu(x / alpha),
)
samples(
    selu,
    everywhere,
    reference=lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    kinks=lambda: [(case(np.array([0.0])), [np.array([SELU_SCALE * SELU_ALPHA])])],
)
relu6.samples(
    lambda r: [*everywhere(r), case(5 + 3 * r(4))],
    reference=lambda x: np.minimum(np.maximum(x, 0), 6),
    kinks=lambda: [(case(np.array([0.0, 6.0])), [np.zeros(2)])],
)
hardsigmoid.samples(
    everywhere,
    reference=lambda x: np.minimum(np.maximum(x / 6 + 0.5, 0), 1),
    kinks=lambda: [(case(np.array([-3.0, 3.0])), [np.zeros(2)])],
)
hardswish.samples(
    everywhere,
    reference=lambda x: np.where(x <= -3, 0, np.where(x >= 3, x, x * (x + 3) / 6)),
    kinks=lambda: [(case(np.array([-3.0, 3.0])), [np.array([0.0, 1.0])])],
)


def _rows(r: Any) -> list[Any]:
    return [
        case(r(2, 3)),
        case(r(2, 3), axis=0),
        case(r(2, 3, 4), axis=-2),
        case(r(3)),
        case(r(0, 3)),
    ]


_bad_axis = lambda: [  # read as a table
    (case(Tensor(np.ones((2, 3))), axis=2), IndexingError, "axis in [-2, 2)"),
    (case(Tensor(np.ones((2, 0)))), ShapeError, "(2, 0)"),
]


def _by_definition(x: Any, axis: int = -1) -> Any:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


samples(softmax, _rows, reference=_by_definition, fails=_bad_axis)
samples(
    log_softmax,
    _rows,
    reference=lambda x, axis=-1: np.log(_by_definition(x, axis)),
    fails=_bad_axis,
)
samples(
    logsumexp,
    lambda r: [
        case(r(2, 3)), case(r(2, 3), axis=0), case(r(2, 3, 4), axis=(0, -1), keepdims=True), case(r()),
        case(r(2, 3), axis=1),
    ],
    reference=lambda x, axis=None, keepdims=False: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims)),
    kinks=lambda: [(case(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]), axis=1),
                    [np.array([[0.0, 0.0], [0.0, 1.0]])])],
    fails=bad_axes,
)  # fmt: skip
