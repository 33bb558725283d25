"""Losses: every option against PyTorch and by hand, and limits at large magnitudes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np import Tensor

rng = np.random.default_rng(0)
Z = 3 * rng.normal(size=(6, 4))
LABELS = np.array([0, 3, 1, 1, 2, 3])
WEIGHT = np.array([0.5, 2.0, 1.0, 0.25])
Q = np.exp(Z[::-1]) / np.exp(Z[::-1]).sum(axis=1, keepdims=True)
BINARY = np.array([[0, 1, 1, 0]] * 3 + [[1, 1, 0, 0]] * 3)
REDUCTIONS = ["mean", "sum", "none"]


def loss_and_gradient(f: Any, z: Any = Z) -> tuple[Any, Any]:
    t = Tensor(z, requires_grad=True)
    loss = f(t)
    loss.sum().backward()
    return loss.data, t.grad


def equals_torch(ours: Any, theirs: Any, z: Any = Z) -> None:
    """The same loss and the same gradient in the first argument."""
    torch = pytest.importorskip("torch")
    t = torch.tensor(z, requires_grad=True)
    expected = theirs(t, torch.nn.functional)
    expected.sum().backward()
    loss, grad = loss_and_gradient(ours, z)
    np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grad, t.grad.numpy(), rtol=1e-12, atol=1e-14)


def torched(x: Any) -> Any:
    return pytest.importorskip("torch").tensor(x)


# -- PyTorch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_labels(
    reduction: str, smoothing: float, ignored: int | None, weighted: bool
) -> None:
    weight = WEIGHT if weighted else None
    equals_torch(
        lambda z: tg.softmax_cross_entropy(z, LABELS, reduction, weight, ignored, smoothing),
        lambda z, F: F.cross_entropy(
            z, torched(LABELS), torched(WEIGHT) if weighted else None, reduction=reduction,
            ignore_index=-100 if ignored is None else ignored, label_smoothing=smoothing,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_probabilities(reduction: str, smoothing: float, weighted: bool) -> None:
    weight = WEIGHT if weighted else None
    equals_torch(
        lambda z: tg.softmax_cross_entropy(z, Q, reduction, weight, label_smoothing=smoothing),
        lambda z, F: F.cross_entropy(
            z, torched(Q.copy()), torched(WEIGHT) if weighted else None, reduction=reduction,
            label_smoothing=smoothing,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_nll(reduction: str, ignored: int | None, weighted: bool) -> None:
    equals_torch(
        lambda z: tg.nll(
            tg.log_softmax(z), LABELS, reduction, WEIGHT if weighted else None, ignored
        ),
        lambda z, F: F.nll_loss(
            F.log_softmax(z, -1), torched(LABELS), torched(WEIGHT) if weighted else None,
            reduction=reduction, ignore_index=-100 if ignored is None else ignored,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, WEIGHT, np.linspace(0.1, 1, 6)[:, None]])
@pytest.mark.parametrize("pos_weight", [None, WEIGHT])
def test_binary_cross_entropy(reduction: str, weight: Any, pos_weight: Any) -> None:
    equals_torch(
        lambda z: tg.binary_cross_entropy(z, BINARY, reduction, weight, pos_weight),
        lambda z, F: F.binary_cross_entropy_with_logits(
            z, torched(BINARY).double(), None if weight is None else torched(weight),
            pos_weight=None if pos_weight is None else torched(pos_weight), reduction=reduction,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("delta", [0.5, 1.0, 3.0])
def test_huber_and_l1(reduction: str, delta: float) -> None:
    targets = Z[::-1].copy()
    equals_torch(
        lambda z: tg.huber(z, targets, reduction, delta),
        lambda z, F: F.huber_loss(z, torched(targets), reduction=reduction, delta=delta),
    )
    equals_torch(
        lambda z: tg.huber(z, targets, reduction, delta) / delta,
        lambda z, F: F.smooth_l1_loss(z, torched(targets), reduction=reduction, beta=delta),
    )
    equals_torch(
        lambda z: tg.l1(z, targets, reduction),
        lambda z, F: F.l1_loss(z, torched(targets), reduction=reduction),
    )


@pytest.mark.parametrize(("ours", "theirs"), [("mean", "batchmean"), ("sum", "sum")])
def test_kl_div(ours: str, theirs: str) -> None:
    with_zeros = np.where(Q < 0.1, 0, Q)
    for q in (Q.copy(), with_zeros):
        equals_torch(
            lambda z: tg.kl_div(tg.log_softmax(z), q, ours),
            lambda z, F: F.kl_div(F.log_softmax(z, -1), torched(q), reduction=theirs),
        )


def test_kl_div_of_each_row_is_its_cross_entropy_less_its_entropy() -> None:
    rows = tg.kl_div(tg.log_softmax(Z), Q, "none")
    crossed = tg.softmax_cross_entropy(Z, Q, "none")
    np.testing.assert_allclose(rows, crossed + np.sum(Q * np.log(Q), axis=1), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_cosine_similarity(axis: int) -> None:
    other = rng.normal(size=(6, 4))
    other[2] = 0
    equals_torch(
        lambda z: tg.cosine_similarity(z, other, axis),
        lambda z, F: F.cosine_similarity(z, torched(other), axis),
    )


# -- by hand ---------------------------------------------------------------------------------------


def test_the_gradient_of_the_weighted_smoothed_cross_entropy_by_hand() -> None:
    """dz_n = (p_n sum_k w_k q_nk - w q_n) / sum_n w[t_n], 0 for an ignored row."""
    s, ignored = 0.2, 3
    counted = ~np.isin(LABELS, ignored)
    q = (1 - s) * np.eye(4)[LABELS] + s / 4
    p = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    total = WEIGHT[LABELS][counted].sum()
    dz = counted[:, None] * (p * (WEIGHT * q).sum(axis=1, keepdims=True) - WEIGHT * q) / total
    _, grad = loss_and_gradient(
        lambda z: tg.softmax_cross_entropy(z, LABELS, "mean", WEIGHT, ignored, s)
    )
    np.testing.assert_allclose(grad, dz, rtol=1e-12, atol=1e-16)


def test_ignored_rows_are_as_if_they_were_not_there() -> None:
    padded = np.array([0, -1, 1, -1, 2, 3])
    there = padded >= 0
    loss, grad = loss_and_gradient(lambda z: tg.softmax_cross_entropy(z, padded, ignore_label=-1))
    short, expected = loss_and_gradient(
        lambda z: tg.softmax_cross_entropy(z, padded[there]), Z[there]
    )
    np.testing.assert_allclose(loss, short, rtol=1e-14)
    np.testing.assert_allclose(grad[there], expected, rtol=1e-13)
    np.testing.assert_array_equal(grad[~there], 0)


def test_without_options_cross_entropy_is_one_operation() -> None:
    z = Tensor(Z, requires_grad=True)
    node = tg.softmax_cross_entropy(z, LABELS).node
    assert node.primitive.name == "softmax_cross_entropy"
    assert node.inputs[0] is z.node


def test_probabilities_that_are_learned_get_a_gradient_through_the_options() -> None:
    q = Tensor(Q, requires_grad=True)
    tg.softmax_cross_entropy(Z, q, "sum", WEIGHT, label_smoothing=0.1).backward()
    logp = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(q.grad, -0.9 * WEIGHT * logp, rtol=1e-12)


# -- limits ----------------------------------------------------------------------------------------

FAR = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 800.0], [800.0, 801.0, -1e10]])
T = np.array([1, 1, 0])
SIGNS = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "f",
    [
        lambda z: tg.softmax_cross_entropy(z, T),
        lambda z: tg.softmax_cross_entropy(z, T, weight=[1, 2, 3], label_smoothing=0.1),
        lambda z: tg.softmax_cross_entropy(z, np.eye(3)[T]),
        lambda z: tg.nll(tg.log_softmax(z), T),
        lambda z: tg.kl_div(tg.log_softmax(z), np.eye(3)[T]),
        lambda z: tg.binary_cross_entropy(z, SIGNS),
        lambda z: tg.binary_cross_entropy(z, SIGNS, weight=2.0, pos_weight=3.0),
        lambda z: tg.hinge(z, 2 * SIGNS - 1),
        lambda z: tg.huber(z, SIGNS),
        lambda z: tg.l1(z, SIGNS),
        lambda z: tg.cosine_similarity(z, SIGNS).sum(),
    ],
)
def test_losses_are_finite_at_large_magnitudes(f: Any, dtype: Any) -> None:
    """Warnings are errors in this test run, so an overflow on the way fails too."""
    loss, grad = loss_and_gradient(f, FAR.astype(dtype))
    assert loss.dtype == grad.dtype == dtype
    assert np.all(np.isfinite(loss))
    assert np.all(np.isfinite(grad))


def test_the_small_side_of_binary_cross_entropy_keeps_its_digits() -> None:
    """log(1 + exp(-z)) of a right answer is exp(-z), not what is left of z - z."""
    loss, _ = loss_and_gradient(
        lambda z: tg.binary_cross_entropy(z, [0, 1], "none", 1.0), np.array([-40.0, 40.0])
    )
    np.testing.assert_allclose(loss, np.exp([-40.0, -40.0]), rtol=1e-14)


def test_classes_ruled_out_by_minus_infinity() -> None:
    """A masked class has probability 0: it adds nothing where its target is 0, in either form."""
    z = np.array([[0.0, 1.0, -np.inf]])
    for labels, options in (([1], {}), ([[0.0, 1.0, 0.0]], {}), ([1], {"weight": [1.0, 1.0, 1.0]})):
        loss, grad = loss_and_gradient(
            lambda z: tg.softmax_cross_entropy(z, labels, **options),
            z,
        )
        np.testing.assert_allclose(loss, np.log1p(np.exp(-1)), rtol=1e-14)
        p = np.exp([0.0, 1.0, -np.inf]) / (1 + np.e)
        np.testing.assert_allclose(grad, [p - [0, 1, 0]], rtol=1e-13)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_follow_the_dtype_of_the_logits(reduction: str) -> None:
    z = Z.astype(np.float32)
    for f in (
        lambda z: tg.softmax_cross_entropy(z, LABELS, reduction, WEIGHT, 1, 0.1),
        lambda z: tg.binary_cross_entropy(z, BINARY, reduction, WEIGHT, WEIGHT),
        lambda z: tg.nll(z, LABELS, reduction, list(WEIGHT)),
    ):
        loss, grad = loss_and_gradient(f, z)
        assert loss.dtype == grad.dtype == np.float32


def test_labels_in_any_order_of_bytes() -> None:
    z, t = np.arange(6.0).reshape(2, 3), np.array([0, 2])
    expected = tg.softmax_cross_entropy(z, t)
    for dtype in (">i4", "<i2", ">u8", "i1"):
        assert tg.softmax_cross_entropy(z, t.astype(dtype)) == expected
    with pytest.raises(tg.TensorError, match=r"labels in 0 \.\.\. 2 for 3 classes, got -1"):
        tg.softmax_cross_entropy(z, np.array([-1, 0], ">i4"))
