"""Defining operations: parameters, defaults, residuals, variadic arguments, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.core import REGISTRY, samples
from tinygrad_np.errors import ArgumentError, DtypeError, ShapeError


@pytest.fixture(autouse=True)
def forget_what_was_defined() -> Iterator[None]:
    known = len(REGISTRY)
    yield
    del REGISTRY[known:]


def leaf(value: Any) -> tg.Tensor:
    return tg.Tensor(np.asarray(value, dtype=float), requires_grad=True)


def test_parameters_have_defaults_and_arguments_have_names() -> None:
    @tg.primitive("{k} * {x} + {c}")
    def scaled(x: Any, c: Any, *, k: float = 2.0) -> Any:
        return k * x + c

    scaled.vjp(x=lambda g, k: g * k, c=lambda g: g)
    x = leaf([1.0, 2.0])
    for y, slope in (
        (scaled(x, 1.0), 2.0),
        (scaled(x, c=1.0, k=5.0), 5.0),
        (scaled(c=0.0, x=x), 2.0),
    ):
        x.grad = None
        y.sum().backward()
        np.testing.assert_array_equal(x.grad, [slope, slope])
    np.testing.assert_array_equal(scaled(np.ones(2), 1.0), [3.0, 3.0])
    assert tg.grad(tg.grad(lambda x: scaled(x * x, 1.0)))(3.0) == 4.0


def test_a_residual_is_read_by_the_vjp_and_recomputed_for_the_second_derivative() -> None:
    @tg.primitive("{x} ** 4", residuals={"square": lambda x: x * x})
    def fourth(x: Any) -> Any:
        square = x * x
        return square * square, square

    fourth.vjp(x=lambda g, x, square: g * 4 * square * x)
    assert fourth(2.0) == 16.0
    x = leaf(2.0)
    fourth(x).backward()
    assert x.grad == 32.0
    assert tg.grad(tg.grad(fourth))(2.0) == 12 * 4


def test_any_number_of_arguments() -> None:
    @tg.primitive("sum([{xs}])")
    def total(*xs: Any) -> Any:
        return sum(xs[1:], xs[0])

    total.vjp(xs=lambda g, i: g * (i + 1))
    a, b = leaf([1.0]), leaf([2.0])
    total(a, np.ones(1), b, a).backward([1.0])
    assert (a.grad[0], b.grad[0]) == (1 + 4, 3)
    assert total.text(["a", "b"]) == "sum([a, b])"


def test_an_argument_without_vjp_carries_no_gradient() -> None:
    @tg.primitive("{x} * {mask}")
    def masked(x: Any, mask: Any) -> Any:
        return x * mask

    masked.vjp(x=lambda g, mask: g * mask)
    x, mask = leaf([1.0, 2.0]), leaf([1.0, 0.0])
    masked(x, mask).sum().backward()
    np.testing.assert_array_equal(x.grad, [1.0, 0.0])
    assert mask.grad is None
    assert not masked(np.ones(2), mask).requires_grad


def test_a_numpy_error_names_the_operation_and_the_shapes() -> None:
    @tg.primitive("pairs({a}, {b})", shapes="(n,), (n,) -> (n, 2)")
    def pairs(a: Any, b: Any) -> Any:
        return np.stack([a, b], axis=1)

    pairs.vjp(a=lambda g: g[:, 0], b=lambda g: g[:, 1])
    with pytest.raises(ShapeError) as caught:
        pairs(leaf([1.0, 2.0]), np.ones(3))
    text = str(caught.value)
    assert "pairs: cannot take a of shape (2,), b of shape (3,)" in text
    assert "(n,), (n,) -> (n, 2)" in text
    with pytest.raises(DtypeError, match="pairs: expected tensors, arrays or numbers, got dict"):
        pairs(leaf([1.0]), {})


def test_twins_must_be_of_known_arguments_and_samples_are_given_once() -> None:
    double = tg.primitive("2 * {x}", name="double")(lambda x: 2 * x).vjp(x=lambda g: 2 * g)
    with pytest.raises(ArgumentError, match="arguments among"):
        double.arrays(z=lambda g: g)
    with pytest.raises(ArgumentError, match="relu has been given samples already"):
        samples(tg.relu, lambda r: [])
