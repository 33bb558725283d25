"""Elementwise arithmetic and elementary functions.

Conventions at kinks: `absolute` has slope 0 at 0. `maximum` and `minimum` of two tensors share the
gradient equally where they tie (the mean of the subgradients, as PyTorch and JAX do); against a
plain number or array the tensor's slope at a tie is 0, so that ``np.maximum(z, 0)`` is `relu`.
`clip` has slope 1 at its bounds, as in PyTorch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import ONE, Tensor, case, plain, primitive, samples
from ..errors import DtypeError, ShapeError, message

# --------------------------------------------------------------------------------------------------
# + - * / ** and negation
# --------------------------------------------------------------------------------------------------

add = primitive(np.add, "{a} + {b}", out="np.add({a}, {b}, out={out})").vjp(
    a=lambda g: g,
    b=lambda g: g)  # fmt: skip

subtract = primitive(np.subtract, "{a} - {b}", out="np.subtract({a}, {b}, out={out})").vjp(
    a=lambda g: g,
    b=lambda g: -g)  # fmt: skip

multiply = primitive(np.multiply, "{a} * {b}", out="np.multiply({a}, {b}, out={out})").vjp(
    a=lambda g, b: g * b,
    b=lambda g, a: g * a)  # fmt: skip

divide = primitive(np.divide, "{a} / {b}", out="np.divide({a}, {b}, out={out})").vjp(
    a=lambda g, b: g / b,
    b=lambda g, y, b: -g * y / b)  # fmt: skip

negative = primitive(np.negative, "-{x}", out="np.negative({x}, out={out})").vjp(x=lambda g: -g)


@primitive("{x} ** {exponent}", out="np.power({x}, {exponent}, out={out})")
def power_of(x, *, exponent):
    return x**exponent


power_of.vjp(x=lambda g, x, exponent: g * (exponent * x ** (exponent - 1)) if exponent else g * 0)


@primitive("{base} ** {x}")
def power_to(x, *, base):
    return base**x


power_to.vjp(x=lambda g, y, base: g * y * math.log(base) if base else g * 0)


@primitive("{a} ** {b}", name="power", out="np.power({a}, {b}, out={out})")
def power_tensor(a, b):
    return np.power(a, b)


# a ** 0 has slope 0 everywhere, also at a = 0; 0 ** b has slope 0 in b for b > 0.
power_tensor.vjp(a=lambda g, a, b: g * b * a ** np.where(b == 0, 1, b - 1),
                 b=lambda g, y, a: g * y * np.log(np.where(a == 0, 1, a)))  # fmt: skip


def power(a: Any, b: Any) -> Tensor:
    """Power ``y = a ** b``, elementwise; ``dy/da = b a**(b-1)`` and ``dy/db = y log a``.

    Parameters
    ----------
    a, b : array_like
        Shapes that broadcast. A constant exponent is a Python number.

    Returns
    -------
    Tensor

    Notes
    -----
    ``a ** 0`` has slope 0 also at ``a = 0``, and ``0 ** b`` has slope 0 in ``b``.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> (x**3).sum().backward()
    >>> x.grad
    array([ 3., 12.])
    """
    if type(b) in (int, float) and type(a) in (Tensor, np.ndarray):
        return power_of(a, exponent=b)
    if type(a) in (int, float) and type(b) is Tensor and a >= 0:
        return power_to(b, base=a)
    return power_tensor(a, b)


# --------------------------------------------------------------------------------------------------
# Elementary functions
# --------------------------------------------------------------------------------------------------

exp = primitive(np.exp, "np.exp({x})", out="np.exp({x}, out={out})").vjp(x=lambda g, y: g * y)
log = primitive(np.log, "np.log({x})", out="np.log({x}, out={out})").vjp(x=lambda g, x: g / x)
sqrt = primitive(np.sqrt, "np.sqrt({x})", out="np.sqrt({x}, out={out})").vjp(
    x=lambda g, y: g / (2 * y))  # fmt: skip
tanh = primitive(np.tanh, "np.tanh({x})", out="np.tanh({x}, out={out})").vjp(
    x=lambda g, y: g * (1 - y * y)).arrays(
    x=lambda g, y: g * (ONE[y.dtype] - y * y))  # fmt: skip
absolute = primitive(np.absolute, "np.abs({x})", out="np.abs({x}, out={out})").vjp(
    x=lambda g, x: g * np.sign(x))  # fmt: skip
sign = primitive(np.sign, "np.sign({x})", out="np.sign({x}, out={out})").vjp(
    x=lambda g: g * 0)  # fmt: skip


@primitive("{x}.astype({dtype})", name="astype")
def cast(x, *, dtype):
    return np.asarray(x).astype(dtype)


cast.vjp(x=lambda g, x: g.astype(x.dtype))


def astype(x: Any, dtype: Any) -> Tensor:
    """The same numbers in another dtype; the gradient comes back in the dtype of ``x``.

    Parameters
    ----------
    x : array_like
    dtype : dtype
        A gradient flows only to a floating-point dtype.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.Tensor([1.0, 2.0]).astype(np.float32).dtype
    dtype('float32')
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f" or type(x) is not Tensor or not x.requires_grad:
        return cast(x, dtype=dtype)
    return cast(x.detach(), dtype=dtype)  # integers have no gradient


@primitive("np.copy({x})")
def copy(x):
    """The same numbers in an array of its own, ``y = x``; writes into one are not seen in the other.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> y = x.copy()
    >>> y[0] = 5.0
    >>> x.data, y.data
    (array([1., 2.]), array([5., 2.]))
    """
    return np.array(x)


copy.vjp(x=lambda g: g)


# --------------------------------------------------------------------------------------------------
# Comparisons and choices
# --------------------------------------------------------------------------------------------------

equal = primitive(np.equal, "{a} == {b}")
not_equal = primitive(np.not_equal, "{a} != {b}")
less = primitive(np.less, "{a} < {b}")
less_equal = primitive(np.less_equal, "{a} <= {b}")
greater = primitive(np.greater, "{a} > {b}")
greater_equal = primitive(np.greater_equal, "{a} >= {b}")
logical_and = primitive(np.logical_and, "np.logical_and({a}, {b})")
logical_or = primitive(np.logical_or, "np.logical_or({a}, {b})")
logical_xor = primitive(np.logical_xor, "np.logical_xor({a}, {b})")
logical_not = primitive(np.logical_not, "np.logical_not({x})")
bitwise_and = primitive(np.bitwise_and, "{a} & {b}")
bitwise_or = primitive(np.bitwise_or, "{a} | {b}")
bitwise_xor = primitive(np.bitwise_xor, "{a} ^ {b}")
invert = primitive(np.invert, "~{x}")


@primitive("np.where({condition}, {a}, {b})")
def where(condition, a, b):
    """Choose ``y = a`` where the condition is true, else ``b``; the gradient goes where y came from.

    Parameters
    ----------
    condition : array_like of bool
    a, b : array_like
        Shapes that broadcast with that of the condition.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([-1.0, 2.0], requires_grad=True)
    >>> np.where(x.data > 0, x, 0.1 * x).sum().backward()
    >>> x.grad
    array([0.1, 1. ])
    """
    return np.where(condition, a, b)


where.vjp(a=lambda g, condition: np.where(condition, g, 0),
          b=lambda g, condition: np.where(condition, 0, g))  # fmt: skip

maximum_of_two = primitive(np.maximum, "np.maximum({a}, {b})", name="maximum",
                           out="np.maximum({a}, {b}, out={out})").vjp(
    a=lambda g, a, b: g * (a > b) + 0.5 * g * (a == b),
    b=lambda g, a, b: g * (b > a) + 0.5 * g * (a == b))  # fmt: skip

minimum_of_two = primitive(np.minimum, "np.minimum({a}, {b})", name="minimum",
                           out="np.minimum({a}, {b}, out={out})").vjp(
    a=lambda g, a, b: g * (a < b) + 0.5 * g * (a == b),
    b=lambda g, a, b: g * (b < a) + 0.5 * g * (a == b))  # fmt: skip


@primitive("np.maximum({x}, {bound})", out="np.maximum({x}, {bound}, out={out})")
def at_least(x, bound):
    return np.maximum(x, bound)


at_least.vjp(x=lambda g, x, bound: g * (x > bound))


@primitive("np.minimum({x}, {bound})", out="np.minimum({x}, {bound}, out={out})")
def at_most(x, bound):
    return np.minimum(x, bound)


at_most.vjp(x=lambda g, x, bound: g * (x < bound))


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of two, elementwise: ``y = max(a, b)``; NaN wins, as in NumPy.

    Parameters
    ----------
    a, b : array_like
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Notes
    -----
    Where two tensors tie each gets half the gradient (PyTorch and JAX do the same). Against a plain
    number or array the tensor's slope at a tie is 0: ``maximum(z, 0)`` is `relu`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> z = tg.Tensor([-1.0, 0.0, 2.0], requires_grad=True)
    >>> np.maximum(z, 0).sum().backward()
    >>> z.grad
    array([0., 0., 1.])
    """
    return _choose(a, b, maximum_of_two, at_least)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of two, elementwise: ``y = min(a, b)``; NaN wins. Ties are as in `maximum`.

    Parameters
    ----------
    a, b : array_like
        Shapes that broadcast.

    Returns
    -------
    Tensor

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> z = tg.Tensor([-1.0, 2.0], requires_grad=True)
    >>> np.minimum(z, 0).sum().backward()
    >>> z.grad
    array([1., 0.])
    """
    return _choose(a, b, minimum_of_two, at_most)


def _choose(a: Any, b: Any, of_two: Any, against_constant: Any) -> Tensor:
    if type(b) is not Tensor:
        return against_constant(a, b)
    if type(a) is not Tensor:
        return against_constant(b, a)
    return of_two(a, b)


@primitive("np.clip({x}, {low}, {high})")
def clip_between(x, *, low, high):
    return np.clip(x, low, high)


clip_between.vjp(x=lambda g, x, y: g * (x == y))


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """Limit to an interval: ``y = minimum(maximum(x, min), max)``; slope 1 within, 0 outside.

    Parameters
    ----------
    x : array_like
    min, max : array_like or None
        Constants that broadcast with ``x``; None for no bound on that side.

    Returns
    -------
    Tensor

    Notes
    -----
    At the bounds themselves the slope is 1, as in PyTorch's ``clamp``.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([-2.0, 0.5, 3.0], requires_grad=True)
    >>> x.clip(-1, 1).sum().backward()
    >>> x.grad
    array([0., 1., 0.])
    """
    if any(type(bound) is Tensor and bound.requires_grad for bound in (min, max)):
        raise DtypeError(
            message("clip", "bounds that need no gradient", "a bound with requires_grad=True",
                    "Write np.minimum(np.maximum(x, low), high).")
        )  # fmt: skip
    if min is None and max is None:
        raise ShapeError(message("clip", "a min, a max, or both", "neither"))
    return clip_between(x, low=plain(min), high=plain(max))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def pairs(r: Any) -> list[Any]:
    """Two operands in all the ways that broadcast."""
    return [
        case(r(2, 3), r(2, 3)),
        case(r(2, 3), r(3)),
        case(r(3), r(2, 3)),
        case(r(4, 1, 3), r(2, 1)),
        case(r(1, 3), r(3)),
        case(r(), r(2, 2)),
        case(r(2, 3), 2.5),
        case(-1.5, r(2, 3)),
        case(r(0, 3), r(3)),
    ]


def away_from_zero(r: Any) -> list[Any]:
    return [
        case(a, b if isinstance(b, float) else np.asarray(np.sign(b) * (abs(b) + 0.5)))
        for (a, b), _ in pairs(r)
    ]


mismatch = lambda: [  # read as a table
    (case(Tensor(np.ones((2, 3))), np.ones(2)), ShapeError, "[:, None]"),
    (case(Tensor(np.ones((2, 3))), np.ones((3, 2))), ShapeError, "transpose"),
    (case(Tensor(np.ones(3)), "x"), DtypeError, "str"),
]

add.samples(pairs, reference=np.add, fails=mismatch)
subtract.samples(pairs, reference=np.subtract, fails=mismatch)
multiply.samples(pairs, reference=np.multiply, fails=mismatch)
divide.samples(away_from_zero, reference=np.divide, fails=mismatch)
samples(
    power,
    lambda r: (
        [case(r.positive(2, 3), r(2, 3)), case(r.positive(3), r(2, 3)), case(2.0, r(2, 3))]
        + [case(r.positive(2, 3), p) for p in (0, 1, 2, 3, -1, 0.5, 2.5)]
        + [case(base, r.positive(2, 3)) for base in (0, 1, 3)]
        + [case(r(2, 3), p) for p in (0, 1, 2, 3)]
    ),
    reference=np.power,
    kinks=lambda: [
        *[(case(np.array([0.0]), p), [np.array([d])]) for p, d in [(0, 0.0), (1, 1.0), (2, 0.0)]],
        (case(np.array([np.inf]), 0), [np.array([0.0])]),
        *[
            (case(np.array([0.0]), np.array([p])), [np.array([d]), np.array([0.0])])
            for p, d in [(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)]
        ],
    ],
    fails=mismatch,
)


def anywhere(r: Any) -> list[Any]:
    return [case(r(2, 3)), case(r()), case(r(0, 3)), case(r(2, 1, 4))]


def positive_only(r: Any) -> list[Any]:
    return [case(r.positive(*args[0].shape)) for args, _ in anywhere(r)]


negative.samples(anywhere, reference=np.negative)
exp.samples(anywhere, reference=np.exp)
tanh.samples(anywhere, reference=np.tanh)
log.samples(positive_only, reference=np.log)
sqrt.samples(positive_only, reference=np.sqrt)
absolute.samples(
    anywhere, reference=np.abs, kinks=lambda: [(case(np.array([0.0])), [np.array([0.0])])]
)
sign.samples(anywhere, reference=np.sign)
for comparison in (equal, not_equal, less, less_equal, greater, greater_equal, logical_and,
                   logical_or, logical_xor):  # fmt: skip
    comparison.samples(pairs, reference=comparison.fn, differentiable=False)
logical_not.samples(anywhere, reference=np.logical_not, differentiable=False)


def combined_masks(a, b):
    """The operators that combine masks, which are made of float arrays here."""
    return (a > 0) & (b > 0), (a > 0) | (b > 0), (a > 0) ^ (b > 0), ~(a > b)


samples(
    combined_masks,
    pairs,
    reference=lambda a, b: (
        np.minimum(a > 0, b > 0), np.maximum(a > 0, b > 0), np.not_equal(a > 0, b > 0), a <= b,
    ),
    differentiable=False,
)  # fmt: skip
where.samples(
    lambda r: [
        case(r(2, 3) > 0, r(2, 3), r(2, 3)),
        case(r(3) > 0, r(2, 3), r(3)),
        case(r(2, 3) > 0, r(2, 3), 0.0),
        case(r(2, 1) > 0, r(3), 1.0),
    ],
    reference=np.where,
    fails=lambda: [(case(np.ones(2, bool), Tensor(np.ones(3)), 0.0), ShapeError, "where")],
)
samples(
    maximum, pairs, reference=np.maximum, fails=mismatch,
    kinks=lambda: [
        (case(np.array([0.0]), 0.0), [np.array([0.0])]),
        (case(0.0, np.array([0.0])), [np.array([0.0])]),
        (case(np.array([1.0]), np.array([1.0])), [np.array([0.5]), np.array([0.5])]),
    ],
)  # fmt: skip
samples(
    minimum, pairs, reference=np.minimum, fails=mismatch,
    kinks=lambda: [
        (case(np.array([0.0]), 0.0), [np.array([0.0])]),
        (case(np.array([1.0]), np.array([1.0])), [np.array([0.5]), np.array([0.5])]),
    ],
)  # fmt: skip
samples(
    clip,
    lambda r: [
        case(r(2, 3), -0.5, 0.5),
        case(r(2, 3), None, 0.3),
        case(r(2, 3), min=0.1),
        case(r(4), -1, 1),
    ],
    reference=np.clip,
    kinks=lambda: [(case(np.array([-1.0, 1.0]), -1.0, 1.0), [np.array([1.0, 1.0])])],
    fails=lambda: [
        (case(Tensor(np.ones(2))), ShapeError, "a min, a max, or both"),
        (
            case(Tensor(np.ones(2)), Tensor(0.0, requires_grad=True)),
            DtypeError,
            "np.minimum(np.maximum",
        ),
    ],
)
samples(
    astype,
    lambda r: [case(r(2, 3), float), case(r(), np.float64)],
    reference=lambda x, dtype: x.astype(dtype),
)
copy.samples(anywhere, reference=np.copy)
