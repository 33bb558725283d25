"""Reading by index, along axes, on diagonals: adjoints against NumPy's reading of unit arrays."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_np as tg
from tinygrad_np.ops.index import scatter_add

from .test_shape import assert_linear

shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)


@settings(max_examples=100, deadline=None)
@given(st.data(), shapes)
def test_any_index(data: Any, shape: tuple[int, ...]) -> None:
    integers = hnp.integer_array_indices(
        shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)
    )
    index = data.draw(
        st.one_of(
            hnp.basic_indices(shape, allow_newaxis=True),
            integers,
            integers.map(lambda parts: parts[:1]),
            hnp.arrays(bool, shape),
            hnp.arrays(bool, shape[:1]),
            hnp.arrays(np.int8, 3, elements=st.integers(-shape[-1], shape[-1] - 1)).map(
                lambda i: (..., i)
            ),
        )
    )
    assert_linear(lambda x: x[index], lambda x: x[index], shape)


@settings(max_examples=50, deadline=None)
@given(st.data(), shapes)
def test_take_and_take_along_axis(data: Any, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    near = st.integers(-shape[axis], shape[axis] - 1)
    indices = data.draw(
        hnp.arrays(np.int64, hnp.array_shapes(max_dims=2, max_side=5), elements=near)
    )
    assert_linear(lambda x: np.take(x, indices, axis), lambda x: tg.take(x, indices, axis), shape)
    lengths = list(shape)
    lengths[axis] = data.draw(st.integers(0, 5))
    each = data.draw(hnp.arrays(np.int64, tuple(lengths), elements=near))
    assert_linear(
        lambda x: np.take_along_axis(x, each, axis),
        lambda x: np.take_along_axis(x, each, axis),
        shape,
    )


@settings(max_examples=50, deadline=None)
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=4, max_side=4))
def test_diagonals_and_triangles(data: Any, shape: tuple[int, ...]) -> None:
    k = data.draw(st.integers(-5, 5))
    axis1, axis2 = data.draw(st.permutations(range(-len(shape), 0)))[:2]
    for name, args in (
        ("diagonal", (k, axis1, axis2)),
        ("trace", (k, axis1, axis2)),
        ("tril", (k,)),
        ("triu", (k,)),
    ):  # fmt: skip
        numpy_f, tensor_f = getattr(np, name), getattr(tg, name)
        assert_linear(lambda x: numpy_f(x, *args), lambda x: tensor_f(x, *args), shape)


@pytest.mark.parametrize("k", [-2, 0, 3])
def test_diag_of_a_vector_reads_its_diagonal_back(k: int) -> None:
    assert_linear(lambda x: np.diag(x, k), lambda x: np.diag(x, k), (3,))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (40,), (6, 7)])
def test_the_gradient_of_an_embedding_is_the_one_hot_product(shape: Any, dtype: Any) -> None:
    """``W[t]`` is ``onehot(t) @ W``, so ``dW = onehot(t).T @ g``."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(-8, 8, size=shape)
    g = rng.integers(-9, 9, size=(*shape, 5)).astype(
        dtype
    )  # whole numbers: sums in any order are equal
    expected = np.eye(8, dtype=dtype)[tokens.reshape(-1)].T @ g.reshape(-1, 5)
    for read in (
        lambda W: W[tokens],
        lambda W: tg.take(W, tokens, axis=0),
        lambda W: W.take(tokens, 0),
    ):
        W = tg.Tensor(rng.normal(size=(8, 5)).astype(dtype), requires_grad=True)
        read(W).backward(g)
        assert W.grad.dtype == dtype
        np.testing.assert_array_equal(W.grad, expected)


@settings(max_examples=100, deadline=None)
@given(st.data(), shapes)
def test_scatter_add_adds_where_numpys_add_at_does(data: Any, shape: tuple[int, ...]) -> None:
    index = data.draw(hnp.integer_array_indices(shape, dtype=np.dtype(np.intp)))
    k = data.draw(st.integers(1, len(shape)))
    index = index[:k]
    g = np.arange(1.0, 1 + np.zeros(shape)[index].size).reshape(np.zeros(shape)[index].shape)
    expected = np.zeros(shape)
    np.add.at(expected, index, g)
    np.testing.assert_array_equal(scatter_add(g, index=index, shape=shape), expected)


def test_tensors_of_integers_are_indices() -> None:
    x = tg.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    order = tg.Tensor([1, 0])
    for y in (
        x[order],
        tg.take(x, order, axis=0),
        tg.take_along_axis(x, tg.Tensor([[1, 0], [0, 1]])),
    ):
        assert y.requires_grad
    np.testing.assert_array_equal(tg.take(x, order, axis=0).data, [[3.0, 4.0], [1.0, 2.0]])


def test_trace_of_a_product_by_hand() -> None:
    """``L = tr(A B)``: ``dA = B.T`` and ``dB = A.T``; ``L = tr(A A^T)``: ``dA = 2 A``."""
    rng = np.random.default_rng(0)
    A = tg.Tensor(rng.normal(size=(2, 3)), requires_grad=True)
    B = tg.Tensor(rng.normal(size=(3, 2)), requires_grad=True)
    tg.trace(A @ B).backward()
    np.testing.assert_allclose(A.grad, B.data.T, rtol=1e-15)
    np.testing.assert_allclose(B.grad, A.data.T, rtol=1e-15)
    A.grad = None
    np.trace(A @ A.T).backward()
    np.testing.assert_allclose(A.grad, 2 * A.data, rtol=1e-15)


def test_one_hot_of_a_tensor_needs_no_gradient() -> None:
    rows = tg.one_hot(tg.Tensor([2, 0]), 3, dtype=np.float32)
    assert isinstance(rows, tg.Tensor)
    assert not rows.requires_grad
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows.data, [[0, 0, 1], [1, 0, 0]])


def test_pytorch_gathers_the_same() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, i, g = rng.normal(size=(4, 5)), rng.integers(4, size=(7, 5)), rng.normal(size=(7, 5))
    x, t = tg.Tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    y, u = tg.take_along_axis(x, i, axis=0), torch.gather(t, 0, torch.tensor(i))
    np.testing.assert_array_equal(y.data, u.detach().numpy())
    y.backward(g)
    u.backward(torch.tensor(g))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-13, atol=1e-14)
