"""Attention against PyTorch, with every kind of mask, and dropout within it."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_np as tg


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def operands():
    return normal(2, 3, 5, 4), normal(2, 3, 7, 4, seed=1), normal(2, 3, 7, 6, seed=2)


@pytest.mark.parametrize("kind", ["none", "causal", "bool", "floats", "scale"])
def test_attention_equals_pytorch(kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    allowed = rng.random((2, 1, 5, 7)) < 0.6
    allowed[..., 0] = True  # no blind row: PyTorch's gradient there is NaN in some versions
    ours, theirs = {
        "none": ({}, {}),
        "causal": ({"causal": True}, {"is_causal": True}),
        "bool": ({"mask": allowed}, {"attn_mask": torch.tensor(allowed)}),
        "floats": ({"mask": normal(5, 7)}, {"attn_mask": torch.tensor(normal(5, 7))}),
        "scale": ({"scale": 0.9}, {"scale": 0.9}),
    }[kind]
    a = [tg.Tensor(x, requires_grad=True) for x in operands()]
    b = [torch.tensor(x, requires_grad=True) for x in operands()]
    y = tg.scaled_dot_product_attention(*a, **ours)
    expected = torch.nn.functional.scaled_dot_product_attention(*b, **theirs)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10)
    g = normal(*y.shape, seed=3)
    y.backward(g)
    expected.backward(torch.tensor(g))
    for p, q in zip(a, b, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_the_gradients_are_those_derived_by_hand():
    q, k, v = (tg.Tensor(x[0, 0], requires_grad=True) for x in operands())
    g = normal(5, 6, seed=3)
    tg.scaled_dot_product_attention(q, k, v).backward(g)
    s = q.data @ k.data.T / 2
    p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    dp = g @ v.data.T
    ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(v.grad, p.T @ g, rtol=1e-11)
    np.testing.assert_allclose(q.grad, ds @ k.data / 2, rtol=1e-11)
    np.testing.assert_allclose(k.grad, ds.T @ q.data / 2, rtol=1e-11)


def test_the_future_has_no_influence():
    q, k, v = (tg.Tensor(normal(6, 3, seed=i), requires_grad=True) for i in range(3))
    y = tg.scaled_dot_product_attention(q, k, v, causal=True)
    y[2].sum().backward()
    assert k.grad[:3].all()
    assert not k.grad[3:].any()
    assert v.grad[:3].all()
    assert not v.grad[3:].any()
    assert not np.delete(q.grad, 2, axis=0).any()


def test_a_blind_position_gives_zero_and_no_nan():
    q, k, v = (tg.Tensor(normal(3, 2, seed=i), requires_grad=True) for i in range(3))
    mask = np.array([[True] * 3, [False] * 3, [True] * 3])
    y = tg.scaled_dot_product_attention(q, k, v, mask)
    y.sum().backward()
    assert not y.data[1].any()
    assert not q.grad[1].any()
    assert np.isfinite([q.grad, k.grad, v.grad]).all()


def test_scores_of_any_magnitude_do_not_overflow():
    q = tg.Tensor(np.array([[1e4], [-1e4]], np.float32), requires_grad=True)
    y = tg.scaled_dot_product_attention(q, [[1.0], [-1.0]], np.array([[1.0], [2.0]], np.float32))
    np.testing.assert_array_equal(y.data, [[1.0], [2.0]])


def test_a_learned_bias_gets_its_gradient():
    bias = tg.Tensor(normal(5, 7), requires_grad=True)
    q, k, v = operands()
    y = tg.scaled_dot_product_attention(q, k, v, bias)
    y.backward(normal(*y.shape, seed=3))
    v_row = normal(5, 7, seed=4)
    h = 1e-6
    ahead, behind = (
        np.vdot(
            tg.scaled_dot_product_attention(q, k, v, bias.data + step * v_row),
            normal(*y.shape, seed=3),
        )
        for step in (h, -h)
    )
    assert np.vdot(bias.grad, v_row) == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)


def test_dropout_drops_weights():
    q, k = np.zeros((1, 2)), np.zeros((1000, 2))
    v = np.eye(1000)
    y = tg.scaled_dot_product_attention(q, k, v, dropout=0.25, rng=np.random.default_rng(0))
    dropped = np.count_nonzero(np.asarray(y) == 0)
    assert 200 < dropped < 300
    np.testing.assert_allclose(np.unique(y), [0, 1 / 750])
    with pytest.raises(
        tg.TensorError, match=r"dropout: expected rng to be a numpy.random.Generator"
    ):
        tg.scaled_dot_product_attention(q, k, v, dropout=0.25)
