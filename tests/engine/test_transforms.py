"""grad, vjp, jvp, jacobian, hessian, hvp and checkpoint, against formulas derived by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.errors import DtypeError, GradientError, IndexingError, ShapeError

A = np.array([[2.0, 1.0], [0.5, 3.0]])
X = np.array([1.0, -2.0])


def quadratic(x: Any) -> Any:
    """x^T A x: gradient (A + A^T) x, Hessian A + A^T."""
    return x @ A @ x


def test_grad_of_a_quadratic_form() -> None:
    g = tg.grad(quadratic)(X)
    assert type(g) is np.ndarray
    np.testing.assert_allclose(g, (A + A.T) @ X)
    np.testing.assert_allclose(tg.hessian(quadratic)(X), A + A.T)
    (product,) = tg.hvp(quadratic, [X], [np.array([1.0, 10.0])])
    np.testing.assert_allclose(product, (A + A.T) @ [1.0, 10.0])


def test_a_tensor_comes_back_for_a_tensor_and_a_number_for_a_number() -> None:
    assert isinstance(tg.grad(quadratic)(tg.Tensor(X)), tg.Tensor)
    assert tg.grad(lambda x: x**3)(2.0) == 12.0
    assert tg.grad(lambda x: x**3)(np.float32(2)).dtype == np.float32


def test_argnums_and_keywords() -> None:
    f = lambda a, b, *, k: a * b**2 * k
    assert tg.grad(f, 1)(2.0, 3.0, k=5.0) == 2 * 2 * 3 * 5
    assert tg.grad(f, (0, 1))(2.0, 3.0, k=1.0) == (9.0, 12.0)
    assert tg.grad(f, -1)(2.0, 3.0, k=1.0) == 12.0
    with pytest.raises(IndexingError, match="argnums within the 2 arguments"):
        tg.grad(f, 2)(2.0, 3.0, k=1.0)


def test_nests_of_tuples_lists_and_dicts() -> None:
    params = {"layer": [(np.array([1.0, 2.0]), np.array(3.0))], "scale": 2.0}

    def f(p: Any) -> Any:
        w, b = p["layer"][0]
        return p["scale"] * (w.sum() + b)

    value, g = tg.value_and_grad(f)(params)
    assert value == 12.0
    np.testing.assert_array_equal(g["layer"][0][0], [2.0, 2.0])
    assert (g["layer"][0][1], g["scale"]) == (2.0, 6.0)
    assert isinstance(g["layer"][0], tuple)


def test_nested_to_fourth_order() -> None:
    f: Any = lambda x: x**5
    for expected in (5 * 2**4, 20 * 2**3, 60 * 2**2, 120 * 2):
        f = tg.grad(f)
        assert f(2.0) == expected


def test_inner_and_outer_variables_are_not_confused() -> None:
    # d/dx [ d/dy (x * y * y) at y = x ] = d/dx (2 x * x) = 4 x, where y's derivative holds x fixed
    assert tg.grad(lambda x: tg.grad(lambda y: x * y * y)(x))(3.0) == 12.0
    assert tg.grad(lambda w: tg.grad(lambda x: w * x * x)(3.0))(2.0) == 6.0
    assert tg.grad(lambda x: x * tg.grad(lambda y: x + y)(1.0))(1.0) == 1.0


def test_a_closure_over_a_users_tensor_stays_connected() -> None:
    w = tg.Tensor(2.0, requires_grad=True)
    slope = tg.grad(lambda x: w * x**2)(3.0)
    assert isinstance(slope, tg.Tensor)
    slope.backward()
    assert w.grad == 6.0


def test_jacobian_of_a_linear_map_and_its_structures() -> None:
    np.testing.assert_allclose(tg.jacobian(lambda x: A @ x)(X), A)
    j = tg.jacobian(lambda p: {"y": p["a"] * p["b"], "s": p["a"].sum()})({"a": X, "b": 2 * X})
    np.testing.assert_allclose(j["y"]["a"], np.diag(2 * X))
    np.testing.assert_allclose(j["y"]["b"], np.diag(X))
    np.testing.assert_allclose(j["s"]["b"], np.zeros(2))
    assert tg.jacobian(lambda x: x[:0])(X).shape == (0, 2)


def test_vjp_and_jvp_agree() -> None:
    f = lambda x, y: (np.tanh(A @ x) * y, (x * y).sum())
    args = [X, np.array([0.5, 1.5])]
    v = [np.array([0.3, -0.2]), np.array([1.0, 2.0])]
    u = (np.array([1.0, -1.0]), np.array(0.7))
    y, pull = tg.vjp(f, *args)
    _, dy = tg.jvp(f, args, v)
    back = pull(u)
    left = sum(np.sum(a * b) for a, b in zip(u, dy))
    right = sum(np.sum(a * b) for a, b in zip(back, v))
    np.testing.assert_allclose(left, right)
    t = np.tanh(A @ X)
    np.testing.assert_allclose(dy[0], (1 - t**2) * (A @ v[0]) * args[1] + t * v[1])
    np.testing.assert_allclose(y[0], t * args[1])


def test_jvp_inside_grad_gives_the_hessian_product() -> None:
    v = np.array([1.0, 2.0])
    g = tg.grad(lambda x: tg.jvp(quadratic, [x], [v])[1])(X)
    np.testing.assert_allclose(g, (A + A.T) @ v)


def test_a_function_that_ignores_its_argument() -> None:
    np.testing.assert_array_equal(tg.grad(lambda x: 3.0)(X), np.zeros(2))
    np.testing.assert_array_equal(tg.hessian(lambda x: x.sum())(X), np.zeros((2, 2)))
    _, dy = tg.jvp(lambda x: np.ones(3), [X], [X])
    np.testing.assert_array_equal(dy, np.zeros(3))


def test_errors() -> None:
    with pytest.raises(
        ShapeError, match=r"grad: expected a function that returns a scalar, got shape"
    ):
        tg.grad(lambda x: x * 2)(X)
    with pytest.raises(ShapeError, match="got tuple"):
        tg.grad(lambda x: (x, x))(X)
    with pytest.raises(DtypeError, match="floating-point arguments"):
        tg.grad(lambda x: x * 2)(3)
    with pytest.raises(ShapeError, match=r"tangent of shape \(2,\)"):
        tg.jvp(quadratic, [X], [np.ones(3)])
    with pytest.raises(ShapeError, match="1 tangents"):
        tg.jvp(quadratic, [X], [])
    with pytest.raises(ShapeError, match="1 vectors"):
        tg.hvp(quadratic, [X], [])
    with pytest.raises(ShapeError, match="vector of shape"):
        tg.hvp(quadratic, [X], [np.ones(3)])
    with pytest.raises(ShapeError, match="1 cotangents"):
        tg.vjp(quadratic, X)[1]([1.0, 2.0])


# -- checkpoint ------------------------------------------------------------------------------------


def stack_of_layers(wrap: Any) -> tuple[Any, list[tg.Tensor]]:
    rng = np.random.default_rng(0)
    weights = [tg.Tensor(rng.normal(size=(3, 3)), requires_grad=True) for _ in range(4)]
    x = tg.Tensor(rng.normal(size=(5, 3)), requires_grad=True)
    h = x @ weights[0]
    for W in weights:  # weights[0] is used before, and inside, the checkpoint
        h = wrap(lambda h, W=W: np.tanh(h @ W) + h)(h)
    return (h * h).sum(), [x, *weights]


def test_checkpoint_changes_no_gradient() -> None:
    plain, inputs = stack_of_layers(lambda f: f)
    kept, same = stack_of_layers(tg.checkpoint)
    assert plain.item() == kept.item()
    for a, b in zip(tg.gradients(plain, inputs), tg.gradients(kept, same)):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-13)
    plain.backward()
    kept.backward()
    for a, b in zip(inputs, same):
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-13)


def test_checkpoint_can_be_differentiated_twice() -> None:
    found = []
    for wrap in (lambda f: f, tg.checkpoint):
        loss, inputs = stack_of_layers(wrap)
        first = tg.gradients(loss, inputs, create_graph=True)
        second = tg.gradients(sum((d * d).sum() for d in first), inputs)
        found.append([d.data for d in second])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_checkpoint_keeps_no_intermediates() -> None:
    from tinygrad_np.backward import reach

    loss, _ = stack_of_layers(tg.checkpoint)
    names = [node.primitive.name for node in reach([loss.node])]
    assert names.count("checkpoint") == 4
    assert "tanh" not in names


def test_checkpoint_detects_random_numbers_and_bad_results() -> None:
    rng = np.random.default_rng(0)
    x = tg.Tensor(X, requires_grad=True)
    y = tg.checkpoint(lambda x: x * rng.normal(size=2))(x)
    with pytest.raises(GradientError, match="random numbers"):
        y.sum().backward()
    with pytest.raises(DtypeError, match="returns one Tensor"):
        tg.checkpoint(lambda x: (x, x))(x)
    assert not tg.checkpoint(lambda x: x * 2)(tg.Tensor(X)).requires_grad
