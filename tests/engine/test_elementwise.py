"""Elementwise functions and activations: NumPy's names, limits at large magnitudes, PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np import Tensor
from tinygrad_np.operators import UFUNCS

ACTIVATIONS = {
    "celu": {"alpha": 0.5},
    "elu": {"alpha": 0.7},
    "gelu": {"approximate": "tanh"},
    "hardsigmoid": {},
    "hardswish": {},
    "leaky_relu": {"negative_slope": 0.2},
    "log_sigmoid": {},
    "mish": {},
    "relu": {},
    "relu6": {},
    "selu": {},
    "sigmoid": {},
    "silu": {},
    "softplus": {"beta": 2.5},
    "softsign": {},
}
CALLS = [
    (name, options)
    for name, given in ACTIVATIONS.items()
    for options in ([{}, given] if given else [{}])
]
IN_TORCH = {"log_sigmoid": "logsigmoid", "sigmoid": "sigmoid", "erf": "erf"}


def value_and_slope(f: Any, x: Any) -> tuple[Any, Any]:
    t = Tensor(x, requires_grad=True)
    y = f(t)
    y.backward(np.ones_like(x))
    return y.data, t.grad


# -- NumPy's names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ufunc", list(UFUNCS), ids=lambda ufunc: ufunc.__name__)
def test_a_ufunc_of_a_tensor_is_the_operation_of_the_same_name(ufunc: Any) -> None:
    inputs = [np.array([[0.3, 0.8], [0.5, 0.1]]), np.array([[0.7, 0.2], [0.5, 0.4]])][: ufunc.nin]
    if ufunc is np.arccosh:
        inputs = [inputs[0] + 1]
    if ufunc.__name__.startswith(("bitwise", "invert")):
        inputs = [x > 0.4 for x in inputs]
    expected = ufunc(*inputs)
    for tensors in ([Tensor(x) for x in inputs], [Tensor(inputs[0]), *inputs[1:]]):
        y = ufunc(*tensors)
        assert type(y) is Tensor
        assert y.dtype == expected.dtype
        # One unit in the last place: BLAS may add a product without rounding it before.
        np.testing.assert_allclose(y.data, expected, rtol=np.finfo(float).eps, atol=0)


def test_python_operators() -> None:
    x = Tensor([5.0, -7.0], requires_grad=True)
    np.testing.assert_array_equal((x % 3).data, [2, 2])
    np.testing.assert_array_equal((x // 3).data, [1, -3])
    np.testing.assert_array_equal((17 % x).data, [2, -4])
    np.testing.assert_array_equal((17 // x).data, [3, -3])
    np.testing.assert_array_equal((+x).data, x.data)
    inside = (x > -6) & (x < 6)
    np.testing.assert_array_equal(inside.data, [True, False])
    np.testing.assert_array_equal((~inside).data, [False, True])
    np.testing.assert_array_equal((inside | ~inside).data, [True, True])
    np.testing.assert_array_equal((inside ^ True).data, [False, True])
    assert not inside.requires_grad
    with pytest.raises(tg.errors.DtypeError, match="bitwise_and"):
        x & x


def test_remainder_has_the_slopes_of_its_definition() -> None:
    """a % b = a - floor(a / b) b."""
    a, b = np.array([5.0, -7.0, 5.0]), np.array([3.0, 3.0, -3.0])
    x, y = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    (x % y).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1, 1])
    np.testing.assert_array_equal(y.grad, [-1, 3, 2])


# -- erf -------------------------------------------------------------------------------------------


def test_erf_is_exact_to_the_last_digit() -> None:
    x = np.concatenate([
        np.linspace(-7, 7, 20001), 10.0 ** np.linspace(-300, 3, 500), np.nextafter(0.46875, [0, 1]),
        [0.0, -0.0, 4.0, 6.0, np.inf, -np.inf],
    ])  # fmt: skip
    expected = np.array([math.erf(v) for v in x])
    got = tg.erf(x)
    assert np.abs(got - expected).max() < 2.3e-16
    np.testing.assert_allclose(got, expected, rtol=1e-15, atol=0)
    np.testing.assert_array_equal(tg.erf(-x), -got)
    assert np.signbit(tg.erf(np.array(-0.0)))
    assert np.isnan(tg.erf(np.nan))
    np.testing.assert_allclose(tg.erf([0, 1]), [0, math.erf(1)], rtol=1e-15)


def test_erf_in_float32() -> None:
    x = np.linspace(-7, 7, 2001, dtype=np.float32)
    got = tg.erf(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [math.erf(v) for v in x], rtol=3e-7, atol=0)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), CALLS)
def test_activations_are_finite_at_any_magnitude(name: str, options: Any, dtype: Any) -> None:
    """Warnings are errors in this test run, so an overflow on the way fails too."""
    far = np.array([-1e10, -1e4, -800, -100, -20, 0, 20, 100, 800, 1e4, 1e10], dtype)
    y, slope = value_and_slope(lambda x: getattr(tg, name)(x, **options), far)
    assert y.dtype == slope.dtype == dtype
    assert np.all(np.isfinite(y))
    # An activation climbs by at most a little more than its argument does (selu: 1.76 at 0).
    assert np.all((slope >= -0.2) & (slope <= 1.8))
    # Far out each is a straight line.
    np.testing.assert_allclose(slope[[0, 1]], slope[0], atol=1e-6)
    np.testing.assert_allclose(slope[[-1, -2]], slope[-1], atol=1e-6)


@pytest.mark.parametrize(
    "f", [tg.arctan, tg.arcsinh, tg.erf, tg.tanh, lambda x: tg.logaddexp(x, 0.0)]
)
def test_functions_of_any_argument_do_not_overflow(f: Any) -> None:
    y, slope = value_and_slope(f, np.array([-1e150, -1e10, 1e10, 1e150]))
    assert np.all(np.isfinite(y))
    assert np.all((slope >= 0) & (slope <= 1))


def test_slopes_keep_their_relative_accuracy_in_the_tails() -> None:
    x = np.array([-50.0, -100.0])
    np.testing.assert_allclose(value_and_slope(tg.expm1, x)[1], np.exp(x), rtol=1e-15)
    big = np.array([1e8, 1e200])
    np.testing.assert_allclose(value_and_slope(tg.arctan, big)[1], 1 / big / big, rtol=1e-15)
    np.testing.assert_allclose(value_and_slope(tg.arcsinh, big)[1], 1 / big, rtol=1e-15)
    near_one = np.array([1 + 1e-10])
    np.testing.assert_allclose(
        value_and_slope(tg.arccosh, near_one)[1], 1 / np.sqrt((near_one - 1) * 2), rtol=1e-9
    )


def test_log_space_sums_of_nothing() -> None:
    """log(0 + 0) is -inf, and its slope is 0: no NaN comes back from it."""
    a = Tensor([-np.inf, -np.inf, 0.0], requires_grad=True)
    b = Tensor([-np.inf, 0.0, 0.0], requires_grad=True)
    y = np.logaddexp(a, b)
    y.backward(np.ones(3))
    np.testing.assert_allclose(y.data, [-np.inf, 0, math.log(2)])
    np.testing.assert_allclose(a.grad, [0, 0, 0.5])
    np.testing.assert_allclose(b.grad, [0, 1, 0.5])


# -- PyTorch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"), [*CALLS, ("erf", {}), ("leaky_relu", {"negative_slope": "w"})]
)
def test_activations_equal_pytorch(name: str, options: Any) -> None:
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn.functional, IN_TORCH.get(name, name), None) or getattr(torch, name)
    x = np.concatenate([np.linspace(-9, 9, 181), [-3.0, 0.0, 3.0, 6.0, -30.0, 30.0]])
    w = np.linspace(0.1, 0.4, x.size)
    ours = dict(options)
    if options.get("negative_slope") == "w":  # one learned slope for each element: PReLU
        theirs = torch.nn.functional.prelu
        ours["negative_slope"] = Tensor(w, requires_grad=True)
        weight = torch.tensor(w, requires_grad=True)
        options = {"weight": weight}
    if name == "softplus":  # PyTorch returns x itself beyond a threshold
        options = {**options, "threshold": 1e3}
    t = torch.tensor(x[None], requires_grad=True)
    expected = theirs(t, **options)
    expected.sum().backward()
    y, slope = value_and_slope(lambda x: getattr(tg, name)(x, **ours), x)
    np.testing.assert_allclose(y, expected.detach().numpy()[0], rtol=1e-12, atol=1e-14)
    single = name == "hardsigmoid"  # PyTorch keeps its 1/6 in single precision
    np.testing.assert_allclose(slope, t.grad.numpy()[0], rtol=3e-8 if single else 1e-12, atol=1e-14)
    if "weight" in options:
        np.testing.assert_allclose(ours["negative_slope"].grad, weight.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "arcsinh", "arctanh",
     "exp2", "expm1", "log1p", "square", "reciprocal", "deg2rad", "rad2deg", "floor", "ceil",
     "trunc", "round"],
)  # fmt: skip
def test_functions_of_one_array_equal_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([-0.9, -0.5, -0.1, 0.2, 0.5, 0.95])
    t = torch.tensor(x, requires_grad=True)
    expected = getattr(torch, name)(t)
    expected.sum().backward()
    y, slope = value_and_slope(getattr(tg, name), x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(slope, t.grad.numpy(), rtol=1e-13)


@pytest.mark.parametrize(
    "name",
    [
        "arctan2",
        "hypot",
        "logaddexp",
        "logaddexp2",
        "remainder",
        "fmod",
        "floor_divide",
        "copysign",
    ],
)
def test_functions_of_two_arrays_equal_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    a, b = np.array([3.5, -3.5, 7.2, -0.4]), np.array([1.5, 1.5, -2.0, -3.0])
    x, y = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    t, u = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    ours, theirs = getattr(tg, name)(x, y), getattr(torch, name)(t, u)
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-13)
    if name == "floor_divide":  # not differentiable in PyTorch
        return
    ours.sum().backward()
    theirs.sum().backward()
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-13)
    np.testing.assert_allclose(y.grad, u.grad.numpy(), rtol=1e-13)


def test_erf_and_gelu_of_half_precision_are_finite():
    x = np.array([-20, -6, -4, -3, -1, 0, 0.5, 3, 4, 6, 20], np.float16)
    for f in (tg.erf, tg.gelu):
        y = f(tg.Tensor(x)).data
        assert y.dtype == np.float16
        np.testing.assert_allclose(y, f(tg.Tensor(x.astype(float))).data, rtol=2e-3, atol=2e-3)
