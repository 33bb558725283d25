"""Attention and GELU as a compiled step writes them: equal to eager, and used where they can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.ops.attention import attention_weights

from .test_convolution import agree, weights

N, T, HEADS, D = 2, 32, 4, 16  # 8192 scores


def split(x: Any) -> Any:
    return x.reshape(N, T, HEADS, D // HEADS).transpose(0, 2, 1, 3)


def heads_of(x: Any) -> Any:
    return x.transpose(0, 2, 1, 3).reshape(N * T, D)


def block(attend: Any, dtype: Any = np.float64, more: tuple[Any, ...] = ()) -> Any:
    """A step with the joined heads, and the gradients of a sum of their cubes."""
    Ws = weights(dtype, (D, D), (D, D), (D, D))

    def step(x: Any) -> Any:
        q, k, v = (split(x.reshape(N * T, D) @ W) for W in Ws)
        y = heads_of(attend(q, k, v))
        return y, *tg.gradients((y * y * y).sum(), [*Ws, *more])

    return step


def make(rng: Any) -> Any:
    return rng.normal(size=(N, T, D))


LATER = np.random.default_rng(0).random((T, T)) > 0.3
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"causal": True},
    "mask": {"mask": LATER},
    "blind": {"mask": np.zeros((T, T), bool)},
    "bias": {"mask": np.linspace(-2, 2, T)},
    "both": {"mask": LATER, "causal": True},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIONS)
def test_attention(name: str, dtype: Any) -> None:
    attend = lambda q, k, v: tg.scaled_dot_product_attention(q, k, v, **OPTIONS[name])
    source = agree(block(attend, dtype), make, dtype)
    # Scores, sums and results; on the way back as many, and the gradients of queries and keys.
    assert source.count(" matmul(") == 8
    assert "vecdot" not in source
    # The heads are joined, and the cotangents of keys and values, where the products are written.
    assert source.count("[...] = ") == 1


def test_scores_that_others_read_stay_as_they_are() -> None:
    def attend(q: Any, k: Any, v: Any) -> Any:
        s = tg.matmul(q, k.transpose(0, 1, 3, 2))
        return tg.matmul(attention_weights(s, None, causal=False), v) + s.max()

    source = agree(block(attend), make)
    scores = source.partition("# attention_weights")[0].rpartition("# matmul")[2]
    assert scores.count(" matmul(") == 1


def test_a_mask_that_learns_and_one_that_is_given() -> None:
    (bias,) = weights(np.float64, (T, T))
    attend = lambda q, k, v: tg.scaled_dot_product_attention(q, k, v, bias)
    source = agree(block(attend, more=(bias,)), make)
    assert "vecdot" in source

    Ws = weights(np.float64, (D, D), (D, D), (D, D))

    def masked(x: Any) -> Any:
        q, k, v = (split(x.reshape(N * T, D) @ W) for W in Ws)
        mask = np.concatenate([x[0], x[1]], axis=1) > 0  # another one each time
        y = tg.scaled_dot_product_attention(q, k, v, mask)
        return y, *tg.gradients((y * y * y).sum(), Ws)

    agree(masked, make)


def test_products_that_are_read_where_they_were_too() -> None:
    """Heads that are joined and read apart from each other have one place in memory."""
    (W,) = weights(np.float64, (D, D))

    def step(x: Any) -> Any:
        q = split(x.reshape(N * T, D) @ W)
        y = tg.matmul(tg.matmul(q, q.transpose(0, 1, 3, 2)), q)
        joined = heads_of(y)
        return y, joined, (y * 2).sum(axis=1), *tg.gradients((joined * joined).sum() + y.sum(), [W])

    agree(step, make)


@pytest.mark.parametrize("order", [(1, 2, 0, 3), (2, 0, 1, 3), (3, 0, 1, 2), (2, 3, 0, 1)])
def test_products_in_any_order(order: tuple[int, ...]) -> None:
    (W,) = weights(np.float64, (D, D))

    def step(x: Any) -> Any:
        q = split(x.reshape(N * T, D) @ W)
        y = tg.matmul(q, tg.matmul(q.transpose(0, 1, 3, 2), q)).transpose(order)
        y = y.reshape(y.shape[0], -1)
        return y, *tg.gradients((y * y * y).sum(), [W])

    source = agree(step, make)
    copied = "# reshape" in source.partition("# back")[0]
    assert copied == (order[-1] < 2)  # else rows or columns of a matrix stay together


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu(dtype: Any) -> None:
    (W,) = weights(dtype, (D, 40))

    def step(x: Any) -> Any:
        y = tg.gelu(3 * (x.reshape(N * T, D) @ W), approximate="tanh")
        return y, *tg.gradients((y * y).sum(), [W])

    assert "tanh(" in agree(step, make, dtype)


def test_gelu_far_out() -> None:
    """Where tanh is 1 or -1, y is x or 0, and the slope 1 or 0."""
    x = np.array([-1e4, -30.0, -5.0, 0.0, 5.0, 30.0, 1e4])
    w = tg.Tensor(np.ones(7), requires_grad=True)

    def step(x: Any) -> Any:
        y = tg.gelu(x * w, approximate="tanh")
        return y, *tg.gradients(y.sum(), [w])

    compiled = tg.compile(step)
    for _ in range(5):
        y, g = compiled(x)
    expected, slope = step(x)
    np.testing.assert_allclose(y.data, expected.data, rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(g.data, slope.data, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(y.data[[0, 6]], [0, 1e4])
