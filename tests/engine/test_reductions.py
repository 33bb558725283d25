"""Reductions, running products, order statistics and sorting, against PyTorch and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np import Tensor
from tinygrad_np.errors import NoDerivativeError

ZEROS = np.array(
    [[2.0, 3.0, -1.5, 0.5], [2.0, 0.0, 3.0, 4.0], [0.0, 5.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0]]
)


def gradient(f: Any, x: Any, g: Any) -> Any:
    t = Tensor(x, requires_grad=True)
    f(t).backward(g)
    return t.grad


# -- products with zeros ---------------------------------------------------------------------------


def test_the_gradient_of_a_product_is_the_product_of_the_others() -> None:
    expected = np.array([
        [np.prod(np.delete(row, i)) for i in range(row.size)] for row in ZEROS
    ])  # fmt: skip
    np.testing.assert_array_equal(
        gradient(lambda x: np.prod(x, axis=1), ZEROS, np.ones(4)), expected
    )


@pytest.mark.parametrize("name", ["prod", "cumprod"])
@pytest.mark.parametrize("axis", [0, 1])
def test_products_with_zeros_equal_pytorch_to_the_second_order(name: str, axis: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    g, v = rng.normal(size=(4, 4) if name == "cumprod" else 4), rng.normal(size=(4, 4))
    t = torch.tensor(ZEROS, requires_grad=True)
    (first,) = torch.autograd.grad(getattr(t, name)(axis), t, torch.tensor(g), create_graph=True)
    (second,) = torch.autograd.grad(first, t, torch.tensor(v))
    x = Tensor(ZEROS, requires_grad=True)
    ours = tg.gradients(getattr(x, name)(axis=axis), x, g, create_graph=True)
    np.testing.assert_allclose(ours.data, first.detach().numpy(), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(
        tg.gradients(ours, x, v).data, second.numpy(), rtol=1e-13, atol=1e-13
    )


def test_a_product_does_not_divide() -> None:
    """The factors' product over one of them would be 0/0 here, or overflow."""
    tiny = np.array([1e-200, 1e-200, 3.0])
    np.testing.assert_allclose(gradient(tg.prod, tiny, 1.0), [3e-200, 3e-200, 0.0])


# -- moments and norms -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["var", "std"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_moments_equal_pytorch(name: str, ddof: int) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(3, 4, 5)) + 100
    g = np.random.default_rng(1).normal(size=(3, 5))
    t = torch.tensor(x, requires_grad=True)
    getattr(torch, name)(t, dim=1, correction=ddof).backward(torch.tensor(g))
    ours = gradient(lambda x: getattr(np, name)(x, axis=1, ddof=ddof), x, g)
    np.testing.assert_allclose(ours, t.grad.numpy(), rtol=1e-11)


@pytest.mark.parametrize("ord", [1, 1.5, 2, 3, np.inf, -np.inf])
def test_vector_norms_equal_pytorch_with_a_zero_vector_among_them(ord: float) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([[3.0, -4.0, 1.0], [0.0, 0.0, 0.0], [0.0, 2.0, -2.0]])
    t = torch.tensor(x, requires_grad=True)
    torch.linalg.vector_norm(t, ord, dim=1).sum().backward()
    ours = gradient(lambda x: np.linalg.norm(x, ord, axis=1), x, np.ones(3))
    np.testing.assert_allclose(ours, t.grad.numpy(), rtol=1e-14)


def test_the_frobenius_norm_of_a_stack() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    y = np.linalg.norm(Tensor(x), axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(y.data, np.linalg.norm(x, axis=(1, 2), keepdims=True), rtol=1e-15)


# -- order statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, [0.1, 0.9]])
def test_quantiles_equal_pytorch(q: Any) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(6, 5))
    g = np.random.default_rng(1).normal(size=(*np.shape(q), 5))
    t = torch.tensor(x, requires_grad=True)
    torch.quantile(t, torch.tensor(q, dtype=t.dtype), dim=0).backward(torch.tensor(g))
    ours = gradient(lambda x: np.quantile(x, q, axis=0), x, g)
    np.testing.assert_allclose(ours, t.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_a_nan_among_the_elements_is_not_sorted_away() -> None:
    x = np.array([[1.0, np.nan, 3.0, 0.0], [1.0, 2.0, 3.0, 0.0]])
    np.testing.assert_array_equal(np.median(Tensor(x), axis=1).data, [np.nan, 1.5])


def test_an_infinite_neighbour_does_not_spoil_an_exact_place() -> None:
    assert np.median(Tensor([1.0, 2.0, np.inf])).item() == 2.0
    assert np.median(Tensor([1.0, np.inf, np.inf, np.inf])).item() == np.inf


def test_sort_and_topk_equal_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).permutation(24).astype(float).reshape(4, 6)
    g = np.random.default_rng(1).normal(size=(4, 6))
    for ours, theirs, cotangent in (
        (lambda x: np.sort(x, axis=0), lambda t: t.sort(dim=0)[0], g),
        (lambda x: tg.topk(x, 2)[0], lambda t: t.topk(2)[0], g[:, :2]),
        (lambda x: tg.topk(x, 3, axis=0, largest=False)[0],
         lambda t: t.topk(3, dim=0, largest=False)[0], g[:3]),
    ):  # fmt: skip
        t = torch.tensor(x, requires_grad=True)
        theirs(t).backward(torch.tensor(cotangent))
        np.testing.assert_array_equal(gradient(ours, x, cotangent), t.grad.numpy())


def test_equal_elements_are_sorted_stably_and_each_place_has_one_owner() -> None:
    x = np.arange(400.0) % 2  # long enough for the sorts that are not stable
    expected = np.arange(400.0).reshape(2, 200).T.ravel()
    np.testing.assert_array_equal(gradient(tg.sort, x, np.arange(400.0)), expected)


def test_topk_of_unsigned_integers() -> None:
    values, positions = tg.topk(np.array([0, 200, 7], np.uint8), 2)
    assert values.tolist() == [200, 7]
    assert positions.tolist() == [1, 2]


# -- results without a gradient --------------------------------------------------------------------


def test_positions_and_truth_values_are_tensors_without_a_gradient() -> None:
    x = Tensor([[3.0, 1.0], [2.0, 5.0]], requires_grad=True)
    for result in (x.argmax(axis=1), np.argmin(x), x.argsort(), np.argsort(x, axis=0),
                   (x > 2).all(), np.any(x, axis=0), tg.searchsorted([1.0, 2.0], x)):  # fmt: skip
        assert type(result) is Tensor
        assert not result.requires_grad
    np.testing.assert_array_equal(x[[0, 1], x.argmax(axis=1)].data, [3, 5])
    assert bool((x > 0).all())
    assert not bool((x > 5).any())


@pytest.mark.parametrize(
    ("call", "keyword"),
    [
        (lambda x: np.quantile(x, 0.5, method="lower"), "method"),
        (lambda x: np.var(x, dtype=np.float32), "dtype"),
        (lambda x: np.sort(x, kind="heapsort"), "kind"),
        (lambda x: np.prod(x, initial=2.0), "initial"),
    ],
)
def test_keywords_that_are_not_honoured_are_refused_by_name(call: Any, keyword: str) -> None:
    with pytest.raises(NoDerivativeError, match=keyword):
        call(Tensor([1.0, 2.0], requires_grad=True))
