"""``tg.debug()``: what it finds, and what its messages say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.errors import GradientError, NonFiniteError


def leaf(value: Any, name: str) -> tg.Tensor:
    return tg.Tensor(np.asarray(value, dtype=float), requires_grad=True, name=name)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda x, w: np.log(x * w), r"^log in the forward pass gave -inf at index \(1,\): log of x = 0\."),
        (lambda x, w: w / x, r"divide in the forward pass gave inf .*: divide of w = 1, x = 0"),
        (lambda x, w: np.exp(x * 1000), r"exp .* gave inf at index \(0,\) \(and 1 more\): exp of x = 1000"),
        (lambda x, w: np.sqrt(x).sum().backward(), r"sqrt in the backward pass gave inf .* x = 0"),
        (lambda x, w: x @ np.full((3, 1), 1e308), r"matmul .* gave inf .* \(3, 1\) within \[1e\+308"),
    ],
)  # fmt: skip
def test_the_first_non_finite_number_is_traced(step: Any, text: str) -> None:
    x, w = leaf([1.0, 0.0, 2.0], "x"), leaf([1.0, 1.0, 1.0], "w")
    with tg.debug(), pytest.raises(NonFiniteError, match=text) as caught:
        step(x, w)
    assert "test_debug.py:" in str(caught.value)


def test_numbers_that_come_in_non_finite_are_not_blamed_on_an_operation() -> None:
    x = leaf([np.inf, 1.0], "x")
    with tg.debug():
        y = x * 2
    assert np.isinf(y.data[0])


def test_an_array_changed_through_an_alias_is_detected_and_not_locked() -> None:
    w, a = leaf([1.0, 2.0], "w"), np.ones(2)
    with tg.debug():
        loss = (w * tg.Tensor(a, name="a")).sum()
        a[0] = 5.0  # not locked
        with pytest.raises(GradientError, match=r"array of 'a', argument b of multiply .*changed"):
            loss.backward()
        b = np.ones(2)
        loss = (w + tg.Tensor(b)).sum()
        b[0] = 5.0  # no VJP of an addition reads it
        loss.backward()


def test_parameters_that_the_loss_never_reaches_are_reported() -> None:
    w, u, other = leaf([1.0], "w"), leaf([1.0], "u"), leaf([1.0], "other")
    with tg.debug([other]):
        loss = (w * u.detach()).sum() + 0 * (u * 2).detach().sum()
        with pytest.warns(RuntimeWarning, match=r"did not reach 'other', 'u'"):
            loss.backward()


def test_a_stale_gradient_is_reported() -> None:
    w = leaf([1.0], "w")
    with tg.debug():
        (w * 2).sum().backward()
        with pytest.warns(RuntimeWarning, match=r"left from an earlier pass: 'w'.*zero_grad"):
            (w * 2).sum().backward()


def test_a_clean_step_is_silent_and_gives_the_same_numbers() -> None:
    w = leaf([1.0, 2.0], "w")

    def step() -> Any:
        w.grad = None
        (np.tanh(w) * w).sum().backward()
        return w.grad

    expected = step()
    with tg.debug([w]):
        np.testing.assert_array_equal(step(), expected)
    np.testing.assert_array_equal(tg.debug([w])(step)(), expected)
    assert (w * 2).requires_grad
