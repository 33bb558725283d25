"""Dropout, embedding and sparse products: what the samples of the matrix cannot say."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_np as tg
from tinygrad_np.ops.embedding import scatter_rows
from tinygrad_np.ops.sparse import sparse_outer

# -- dropout ---------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_uses_one_mask_both_ways():
    x = tg.Tensor(np.ones(100_000), requires_grad=True)
    y = tg.dropout(x, 0.3, rng=np.random.default_rng(0))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert set(np.unique(y.data)) == {0, 1 / 0.7}
    assert np.mean(y.data) == pytest.approx(1, abs=0.01)
    assert np.mean(y.data == 0) == pytest.approx(0.3, abs=0.01)


def test_dropout_is_the_seed_and_nothing_else():
    x = tg.Tensor(np.ones(50))
    a, b, c = (tg.dropout(x, rng=np.random.default_rng(seed)).data for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    rng = np.random.default_rng(1)
    first, second = (tg.dropout(x, rng=rng).data for _ in range(2))
    assert (first != second).any()


def test_the_second_derivative_sees_the_mask_of_the_forward_pass():
    """y = (x m)^3: dy = 3 x^2 m^3, ddy = 6 x m^3, with one m."""
    x = tg.Tensor(np.linspace(1, 2, 20), requires_grad=True)
    y = tg.dropout(x, 0.5, rng=np.random.default_rng(0))
    m = y.data / x.data
    first = tg.gradients((y**3).sum(), x, create_graph=True)
    second = tg.gradients(first.sum(), x)
    np.testing.assert_allclose(first.data, 3 * x.data**2 * m**3)
    np.testing.assert_allclose(second.data, 6 * x.data * m**3)


def test_dropout_in_evaluation_draws_nothing():
    rng = np.random.default_rng(0)
    x = tg.Tensor(np.ones(5), requires_grad=True)
    assert tg.dropout(x, 0.5, rng=rng, training=False) is x
    assert rng.random() == np.random.default_rng(0).random()


# -- embedding -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30), st.integers(1, 3))
def test_rows_are_added_as_by_add_at(ids, width):
    ids = np.array(ids, dtype=int)
    g = np.random.default_rng(0).normal(size=(len(ids), width))
    expected = np.zeros((7, width))
    np.add.at(expected, ids, g)
    np.testing.assert_allclose(scatter_rows(g, ids, count=7), expected, rtol=1e-12, atol=1e-14)


def test_embedding_equals_pytorch():
    torch = pytest.importorskip("torch")
    ids, table = np.array([[1, 3, 1], [0, 1, 3]]), np.random.default_rng(0).normal(size=(5, 4))
    ours, theirs = tg.Tensor(table, requires_grad=True), torch.tensor(table, requires_grad=True)
    y, expected = tg.embedding(ids, ours), torch.nn.functional.embedding(torch.tensor(ids), theirs)
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    (y**2).sum().backward()
    (expected**2).sum().backward()
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-12)


# -- sparse ----------------------------------------------------------------------------------------


def random_pattern(rng, shape, density=0.3):
    return tg.SparsePattern(*np.nonzero(rng.random(shape) < density), shape)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_sparse_product_is_the_dense_one_with_the_gradient_masked(transposed):
    rng = np.random.default_rng(0)
    pattern = random_pattern(rng, (6, 9))
    pattern = pattern.T if transposed else pattern
    values = tg.Tensor(rng.normal(size=pattern.rows.size), requires_grad=True)
    x = tg.Tensor(rng.normal(size=(pattern.shape[1], 4)), requires_grad=True)
    y = tg.sparse_matmul(values, pattern, x)
    g = rng.normal(size=y.shape)
    y.backward(g)
    A = np.zeros(pattern.shape)
    A[pattern.rows, pattern.columns] = values.data
    np.testing.assert_allclose(y.data, A @ x.data, rtol=1e-12)
    np.testing.assert_allclose(x.grad, A.T @ g, rtol=1e-12)
    np.testing.assert_allclose(
        values.grad, (g @ x.data.T)[pattern.rows, pattern.columns], rtol=1e-12
    )


def test_a_layer_with_sparse_weights():
    """x @ W as (W.T @ x.T).T, what a sparse dense layer computes."""
    rng = np.random.default_rng(0)
    pattern = random_pattern(rng, (5, 3))
    values, x = rng.normal(size=pattern.rows.size), rng.normal(size=(4, 5))
    W = np.zeros((5, 3))
    W[pattern.rows, pattern.columns] = values
    y = tg.sparse_matmul(tg.Tensor(values), pattern.T, x.T).T
    np.testing.assert_allclose(y.data, x @ W, rtol=1e-12)


def test_the_gradient_of_the_values_is_gathered_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    pattern = random_pattern(rng, (20, 30))
    u, x = rng.normal(size=(20, 7)), rng.normal(size=(30, 7))
    expected = (u @ x.T)[pattern.rows, pattern.columns]
    for block in (1, 50, 10**6):
        monkeypatch.setattr("tinygrad_np.ops.sparse.BLOCK", block)
        np.testing.assert_allclose(sparse_outer(u, x, pattern=pattern), expected, rtol=1e-12)


def test_the_cost_follows_the_values_and_not_the_shape():
    """A matrix of a million times a million: dense it would take 4 TB."""
    n = 10**6
    pattern = tg.SparsePattern([0, 5, n - 1], [7, n - 1, 0], (n, n))
    values = tg.Tensor(np.ones(3, np.float32), requires_grad=True)
    tg.sparse_matmul(values, pattern, np.ones((n, 1), np.float32)).sum().backward()
    np.testing.assert_array_equal(values.grad, np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("rows", "columns", "text"),
    [([0, 1], [0], r"as many rows as columns, \(n,\), got \(2,\) and \(1,\)"),
     ([0, 3], [0, 1], "inside the shape .* got 0 ... 3 along the axis of length 3"),
     ([0, 1], [0, -1], "along the axis of length 2"),
     ([1, 0], [0, 0], r"np.lexsort\(\(columns, rows\)\)"),
     ([1, 1], [0, 0], "each once")],
)  # fmt: skip
def test_a_wrong_pattern_is_refused(rows, columns, text):
    with pytest.raises(tg.TensorError, match=text):
        tg.SparsePattern(rows, columns, (3, 2))


def test_a_missing_scipy_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(tg.TensorError, match=r"pip install tinygrad-np\[sparse\]"):
        tg.sparse_matmul(np.ones(1), tg.SparsePattern([0], [0], (1, 1)), np.ones((1, 1)))
