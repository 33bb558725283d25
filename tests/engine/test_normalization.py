"""Normalisation against PyTorch and against its derivation by hand."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_np as tg


def normal(*shape, seed=0):
    return 3 + 2 * np.random.default_rng([seed, *shape]).normal(size=shape)


def compare(ours, theirs, *arrays):
    """Outputs and all gradients, for one random cotangent, equal those of PyTorch."""
    torch = pytest.importorskip("torch")
    a = [tg.Tensor(x.copy(), requires_grad=True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, expected = ours(*a), theirs(torch, *b)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = normal(*y.shape, seed=1)
    y.backward(g)
    expected.backward(torch.tensor(g))
    for p, q in zip(a, b, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7)])
def test_layer_norm_equals_pytorch(shape):
    compare(
        tg.layer_norm,
        lambda torch, x, w, b: torch.nn.functional.layer_norm(x, (7,), w, b),
        normal(*shape), normal(7), normal(7, seed=2),
    )  # fmt: skip


def test_layer_norm_over_two_axes_equals_pytorch():
    compare(
        lambda x, w, b: tg.layer_norm(x, w, b, axis=(-2, -1), eps=0.3),
        lambda torch, x, w, b: torch.nn.functional.layer_norm(x, (3, 7), w, b, 0.3),
        normal(2, 3, 7), normal(3, 7), normal(3, 7, seed=2),
    )  # fmt: skip


def test_rms_norm_equals_pytorch():
    compare(
        lambda x, w: tg.rms_norm(x, w, eps=0.1),
        lambda torch, x, w: torch.nn.functional.rms_norm(x, (7,), w, 0.1),
        normal(2, 3, 7), normal(7),
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm_in_training_equals_pytorch(shape):
    compare(
        tg.batch_norm,
        lambda torch, x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, training=True),
        normal(*shape), normal(3), normal(3, seed=2),
    )  # fmt: skip


def test_batch_norm_with_running_statistics_equals_pytorch():
    mean, var = normal(3), abs(normal(3, seed=4))
    compare(
        lambda x, w, b: tg.batch_norm(x, w, b, mean, var, eps=0.1),
        lambda torch, x, w, b: torch.nn.functional.batch_norm(
            x, torch.tensor(mean), torch.tensor(var), w, b, eps=0.1),
        normal(2, 3, 4, 5), normal(3), normal(3, seed=2),
    )  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm_equals_pytorch(groups):
    compare(
        lambda x, w, b: tg.group_norm(x, groups, w, b),
        lambda torch, x, w, b: torch.nn.functional.group_norm(x, groups, w, b),
        normal(3, 4, 5), normal(4), normal(4, seed=2),
    )  # fmt: skip


def test_the_gradient_of_batch_norm_is_the_one_derived_by_hand():
    """Ioffe & Szegedy: dv = -sum(g(x-m)) r^3/2, dm = -r sum(g), dx = gr + (2 (x-m) dv + dm)/N."""
    x, g = normal(6, 3), normal(6, 3, seed=1)
    t = tg.Tensor(x, requires_grad=True)
    tg.batch_norm(t, eps=0.01).backward(g)
    d, r = x - x.mean(axis=0), (x.var(axis=0) + 0.01) ** -0.5
    dvar = (-0.5 * g * d * r**3).sum(axis=0)
    dmean = (-g * r).sum(axis=0)
    np.testing.assert_allclose(t.grad, g * r + dvar * 2 * d / 6 + dmean / 6, rtol=1e-10)


def test_shifts_and_scales_of_a_row_have_no_gradient():
    """layer_norm(a x + c) is layer_norm(x) at eps = 0, so dx is orthogonal to 1 and to x."""
    x = tg.Tensor(normal(4, 9), requires_grad=True)
    tg.layer_norm(x, eps=0).backward(normal(4, 9, seed=1))
    np.testing.assert_allclose(x.grad.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose((x.grad * x.data).sum(axis=1), 0, atol=1e-11)


def test_rows_far_from_zero_keep_their_variance():
    """The variance is that of the deviations, not a difference of two large means."""
    x = np.array([[1e6, 1e6 + 1, 1e6 + 2]], dtype=np.float32)
    np.testing.assert_allclose(
        tg.layer_norm(x, eps=0), [[-1.2247449, 0, 1.2247449]], rtol=1e-5, atol=1e-6
    )


def test_rows_of_nothing():
    x = tg.Tensor(np.zeros((0, 3)), requires_grad=True)
    w = tg.Tensor(np.ones(3), requires_grad=True)
    (tg.layer_norm(x, w).sum() + tg.rms_norm(x, w).sum()).backward()
    assert x.grad.shape == (0, 3)
    assert not w.grad.any()
    assert tg.group_norm(np.zeros((0, 4, 3)), 2).shape == (0, 4, 3)
