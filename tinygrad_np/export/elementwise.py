"""Translations of elementwise operations: arithmetic, comparisons, activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ops import activation, arithmetic, elementwise
from ..transforms import alias
from .graph import Value
from .translation import Result, operator, translates

for _primitive, _kind in {
    arithmetic.add: "Add", arithmetic.subtract: "Sub", arithmetic.multiply: "Mul",
    arithmetic.divide: "Div", arithmetic.negative: "Neg", arithmetic.power_tensor: "Pow",
    arithmetic.exp: "Exp", arithmetic.log: "Log", arithmetic.sqrt: "Sqrt", arithmetic.tanh: "Tanh",
    arithmetic.absolute: "Abs", arithmetic.sign: "Sign", arithmetic.logical_not: "Not",
    arithmetic.maximum_of_two: "Max", arithmetic.minimum_of_two: "Min",
    arithmetic.at_least: "Max", arithmetic.at_most: "Min",
    elementwise.sin: "Sin", elementwise.cos: "Cos", elementwise.tan: "Tan",
    elementwise.arcsin: "Asin", elementwise.arccos: "Acos", elementwise.arctan: "Atan",
    elementwise.sinh: "Sinh", elementwise.cosh: "Cosh", elementwise.arcsinh: "Asinh",
    elementwise.arccosh: "Acosh", elementwise.arctanh: "Atanh", elementwise.fabs: "Abs",
    elementwise.reciprocal: "Reciprocal", elementwise.floor: "Floor", elementwise.ceil: "Ceil",
    elementwise.rint: "Round", elementwise.erf: "Erf",
    activation.relu: "Relu", activation.sigmoid: "Sigmoid", activation.softsign: "Softsign",
    activation.mish: "Mish",
}.items():  # fmt: skip
    operator(_primitive, _kind)


@translates(arithmetic.copy, elementwise.positive, alias)
def same(y: Result, x: Value) -> Value:
    return x


@translates(arithmetic.cast, mixed=True)
def astype(y: Result, x: Value, *, dtype: Any) -> Value:
    return x.cast(y.dtype)


@translates(arithmetic.power_of)
def power_of(y: Result, x: Value, *, exponent: float) -> Value:
    return x**exponent


@translates(arithmetic.power_to)
def power_to(y: Result, x: Value, *, base: float) -> Value:
    return y.graph.constant(np.asarray(base, y.dtype)) ** x


@translates(arithmetic.clip_between)
def clip(y: Result, x: Value, *, low: Any, high: Any) -> Value:
    if np.ndim(low) or np.ndim(high):
        low, high = (None if one is None else np.asarray(one, y.dtype) for one in (low, high))
        x = x if low is None else y.op("Max", x, low)
        return x if high is None else y.op("Min", x, high)
    return y.op("Clip", x, low, high)


# --------------------------------------------------------------------------------------------------
# Comparisons and logic
# --------------------------------------------------------------------------------------------------


def _comparison(primitive: Any, kind: str, negated: bool = False) -> None:
    @translates(primitive, mixed=True)
    def compare(y: Result, a: Value, b: Value) -> Value:
        common = np.result_type(a.dtype, b.dtype)
        if common.kind == "b" and kind != "Equal":  # ONNX has no order of booleans
            common = np.dtype(np.int32)
        found = y.op(kind, a.cast(common), b.cast(common), dtype=bool)
        return y.op("Not", found) if negated else found


_comparison(arithmetic.equal, "Equal")
_comparison(arithmetic.not_equal, "Equal", negated=True)
_comparison(arithmetic.less, "Less")
_comparison(arithmetic.less_equal, "LessOrEqual")
_comparison(arithmetic.greater, "Greater")
_comparison(arithmetic.greater_equal, "GreaterOrEqual")


def _logic(primitive: Any, of_booleans: str, of_integers: str | None = None) -> None:
    @translates(primitive)
    def combine(y: Result, *args: Value) -> Value:
        if y.dtype.kind == "b":
            return y.op(of_booleans, *args)
        assert of_integers is not None
        return y.op(of_integers, *args)


_logic(arithmetic.logical_and, "And")
_logic(arithmetic.logical_or, "Or")
_logic(arithmetic.logical_xor, "Xor")
_logic(arithmetic.bitwise_and, "And", "BitwiseAnd")
_logic(arithmetic.bitwise_or, "Or", "BitwiseOr")
_logic(arithmetic.bitwise_xor, "Xor", "BitwiseXor")
_logic(arithmetic.invert, "Not", "BitwiseNot")


@translates(arithmetic.where, mixed=True)
def where(y: Result, condition: Value, a: Value, b: Value) -> Value:
    return y.op("Where", condition.cast(bool), a.cast(y.dtype), b.cast(y.dtype), dtype=y.dtype)


# --------------------------------------------------------------------------------------------------
# What ONNX has no operator for
# --------------------------------------------------------------------------------------------------


@translates(elementwise.hypot)
def hypot(y: Result, a: Value, b: Value) -> Value:
    return y.op("Sqrt", a * a + b * b)


@translates(elementwise.rad2deg)
def rad2deg(y: Result, x: Value) -> Value:
    return x * (180 / math.pi)


@translates(elementwise.deg2rad)
def deg2rad(y: Result, x: Value) -> Value:
    return x * (math.pi / 180)


@translates(elementwise.exp2)
def exp2(y: Result, x: Value) -> Value:
    return y.graph.constant(np.asarray(2, y.dtype)) ** x


@translates(elementwise.expm1)
def expm1(y: Result, x: Value) -> Value:
    """``tanh(x/2) (exp(x) + 1)``, which loses no digits near 0."""
    return y.op("Tanh", x / 2) * (y.op("Exp", x) + 1)


@translates(elementwise.log1p)
def log1p(y: Result, x: Value) -> Value:
    """``log(u) x / (u - 1)`` with ``u = 1 + x``, as rounded: so it loses no digits near 0 (Kahan)."""
    u = x + 1
    d = u - 1
    zero = d.same(0)
    safe = y.op("Where", zero, np.ones((), y.dtype), d, dtype=y.dtype)
    return y.op("Where", zero, x, y.op("Log", u) * (x / safe), dtype=y.dtype)


@translates(elementwise.log2)
def log2(y: Result, x: Value) -> Value:
    return y.op("Log", x) / math.log(2)


@translates(elementwise.log10)
def log10(y: Result, x: Value) -> Value:
    return y.op("Log", x) / math.log(10)


@translates(elementwise.logaddexp)
def logaddexp(y: Result, a: Value, b: Value) -> Value:
    return y.op("Max", a, b) + y.op("Softplus", -y.op("Abs", a - b))


@translates(elementwise.logaddexp2)
def logaddexp2(y: Result, a: Value, b: Value) -> Value:
    distance = y.op("Abs", a - b) * math.log(2)
    return y.op("Max", a, b) + y.op("Softplus", -distance) / math.log(2)


@translates(elementwise.square)
def square(y: Result, x: Value) -> Value:
    return x * x


@translates(elementwise.cbrt)
def cbrt(y: Result, x: Value) -> Value:
    return y.op("Sign", x) * y.op("Abs", x) ** (1 / 3)


@translates(elementwise.trunc)
def trunc(y: Result, x: Value) -> Value:
    return y.op("Sign", x) * y.op("Floor", y.op("Abs", x))


@translates(elementwise.floor_divide)
def floor_divide(y: Result, a: Value, b: Value) -> Value:
    if y.dtype.kind == "f":
        return y.op("Floor", a / b)
    return (a - y.op("Mod", a, b)) / b  # the integers' quotient is rounded towards 0


@translates(elementwise.remainder)
def remainder(y: Result, a: Value, b: Value) -> Value:
    if y.dtype.kind == "f":
        return a - y.op("Floor", a / b) * b
    return y.op("Mod", a, b)


@translates(elementwise.fmod)
def fmod(y: Result, a: Value, b: Value) -> Value:
    return y.op("Mod", a, b, fmod=1)


@translates(elementwise.copysign)
def copysign(y: Result, a: Value, b: Value) -> Value:
    """The sign of -0 is lost."""
    size = y.op("Abs", a)
    return y.op("Where", b.below(0), -size, size, dtype=y.dtype)


@translates(elementwise.heaviside)
def heaviside(y: Result, x: Value, at_zero: Value) -> Value:
    step = y.op("Not", x.below(0)).cast(y.dtype)
    return y.op("Where", x.same(0), at_zero, step, dtype=y.dtype)


@translates(elementwise.fmax)
def fmax(y: Result, a: Value, b: Value) -> Value:
    return _unless_nan(y, a, b, "Max")


@translates(elementwise.fmin)
def fmin(y: Result, a: Value, b: Value) -> Value:
    return _unless_nan(y, a, b, "Min")


def _unless_nan(y: Result, a: Value, b: Value, kind: str) -> Value:
    """The larger or smaller of two; of a number and NaN the number."""
    both = y.op(kind, a, b)
    a_else_both = y.op("Where", y.op("IsNaN", b, dtype=bool), a, both, dtype=y.dtype)
    return y.op("Where", y.op("IsNaN", a, dtype=bool), b, a_else_both, dtype=y.dtype)


@translates(elementwise.round_to)
def round_to(y: Result, x: Value, *, decimals: int) -> Value:
    if decimals == 0:
        return y.op("Round", x)
    scale = 10.0**decimals
    return y.op("Round", x * scale) / scale


# --------------------------------------------------------------------------------------------------
# Activations with options
# --------------------------------------------------------------------------------------------------


@translates(activation.softplus_of)
def softplus(y: Result, x: Value, *, beta: float) -> Value:
    return y.op("Softplus", x) if beta == 1 else y.op("Softplus", x * beta) / beta


@translates(activation.log_sigmoid)
def log_sigmoid(y: Result, x: Value) -> Value:
    return -y.op("Softplus", -x)


@translates(activation.gelu_exact)
def gelu_exact(y: Result, x: Value) -> Value:
    return y.op("Gelu", x)


@translates(activation.gelu_tanh)
def gelu_tanh(y: Result, x: Value) -> Value:
    """Written out: onnxruntime's own is computed with constants of float32, in float64, too."""
    gate = y.op("Tanh", (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi))
    return x * 0.5 * (gate + 1)


@translates(activation.silu)
def silu(y: Result, x: Value) -> Value:
    return x * y.op("Sigmoid", x)


@translates(activation.leaky)
def leaky_relu(y: Result, x: Value, negative_slope: Value) -> Value:
    return y.op("Where", x.below(0), x * negative_slope, x, dtype=y.dtype)


@translates(activation.elu_of)
def elu(y: Result, x: Value, *, alpha: float) -> Value:
    return y.op("Elu", x, alpha=float(alpha))


@translates(activation.relu6)
def relu6(y: Result, x: Value) -> Value:
    return y.op("Clip", x, 0, 6)


@translates(activation.hardsigmoid)
def hardsigmoid(y: Result, x: Value) -> Value:
    return y.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@translates(activation.hardswish)
def hardswish(y: Result, x: Value) -> Value:
    return x * y.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)
