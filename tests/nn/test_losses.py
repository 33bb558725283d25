from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.engine.arrays import numerical_gradient
from tinygrad_np.errors import ArgumentError, DtypeError, IndexingError, ShapeError

N, K = 4, 3
Z = np.random.default_rng(0).normal(size=(N, K))
T = np.array([2, 0, 1, 1])
ONEHOT = np.eye(K)[T]


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# Loss, targets, each row's (or element's) loss by definition, and the derivative of their sum.
CASES = {
    "MSE": (nn.MSE, ONEHOT, (Z - ONEHOT) ** 2, 2 * (Z - ONEHOT)),
    "HalfSquaredError": (
        nn.HalfSquaredError, ONEHOT, 0.5 * ((Z - ONEHOT) ** 2).sum(axis=1), Z - ONEHOT),
    "SoftmaxCrossEntropy": (
        nn.SoftmaxCrossEntropy, T, -np.log(softmax(Z)[np.arange(N), T]), softmax(Z) - ONEHOT),
    "SoftmaxCrossEntropy of one-hot rows": (
        nn.SoftmaxCrossEntropy, ONEHOT, -np.log(softmax(Z)[np.arange(N), T]), softmax(Z) - ONEHOT),
    "BinaryCrossEntropy": (
        nn.BinaryCrossEntropy, ONEHOT,
        -(ONEHOT * np.log(sigmoid(Z)) + (1 - ONEHOT) * np.log(1 - sigmoid(Z))),
        sigmoid(Z) - ONEHOT),
}  # fmt: skip
each_case = pytest.mark.parametrize(("loss", "targets", "losses", "derivative"), CASES.values(),
                                    ids=CASES)  # fmt: skip


@each_case
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_value_and_gradient_are_those_derived_by_hand(loss, targets, losses, derivative, reduction):
    z = tg.Tensor(Z, requires_grad=True)
    value = loss(reduction=reduction)(z, targets)
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
    np.testing.assert_allclose(value.data, expected, rtol=1e-13)
    assert value.shape == np.shape(expected)
    value.backward(np.ones(value.shape))
    scale = 1 / losses.size if reduction == "mean" else 1
    np.testing.assert_allclose(z.grad, derivative * scale, rtol=1e-12, atol=1e-16)


@each_case
def test_gradient_agrees_with_finite_differences(loss, targets, losses, derivative):
    z = tg.Tensor(Z, requires_grad=True)
    loss()(z, targets).backward()
    [numerical] = numerical_gradient(lambda z: loss()(z, targets), [Z], np.array(1.0))
    np.testing.assert_allclose(z.grad, numerical, rtol=1e-8, atol=1e-11)


@each_case
def test_float32_outputs_stay_float32_whatever_the_targets(loss, targets, losses, derivative):
    for dtype in [np.float64, np.float32, np.int64, np.uint8]:
        if targets is T and np.dtype(dtype).kind == "f":
            continue
        z = tg.Tensor(Z.astype(np.float32), requires_grad=True)
        h = z * 1
        h.retain_grad()
        dtypes = []
        h.register_hook(lambda g: dtypes.append(g.dtype))
        value = loss()(h, targets.astype(dtype))
        value.backward()
        assert (value.dtype, dtypes) == (np.float32, [np.float32])
        np.testing.assert_allclose(value.data, losses.mean(), rtol=1e-5)


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    q = softmax(np.random.default_rng(1).normal(size=(N, K)))
    pairs = [
        (nn.MSE, F.mse_loss, q, torch.tensor(q)),
        (nn.SoftmaxCrossEntropy, F.cross_entropy, T, torch.tensor(T)),
        (nn.SoftmaxCrossEntropy, F.cross_entropy, q, torch.tensor(q)),
        (nn.BinaryCrossEntropy, F.binary_cross_entropy_with_logits, q, torch.tensor(q)),
    ]
    for loss, theirs, targets, their_targets in pairs:
        for reduction in ("mean", "sum"):
            z, their_z = tg.Tensor(Z, requires_grad=True), torch.tensor(Z, requires_grad=True)
            ours = loss(reduction)(z, targets)
            other = theirs(their_z, their_targets, reduction=reduction)
            ours.backward()
            other.backward()
            np.testing.assert_allclose(ours.item(), other.item(), rtol=1e-13)
            np.testing.assert_allclose(z.grad, their_z.grad, rtol=1e-12, atol=1e-16)


def test_half_squared_error_of_plain_numbers_takes_each_as_a_row():
    y = tg.Tensor([1.0, 2.0, 4.0], requires_grad=True)
    loss = nn.HalfSquaredError()(y, [1.0, 0.0, 0.0])
    loss.backward()
    np.testing.assert_allclose(loss.item(), (0 + 4 + 16) / 2 / 3, rtol=1e-15)
    np.testing.assert_allclose(y.grad, [0, 2 / 3, 4 / 3], rtol=1e-15)
    none = nn.HalfSquaredError(reduction="none")(y, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(none.data, [0, 2, 8])


def test_losses_are_finite_at_any_magnitude():
    z = tg.Tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], requires_grad=True)
    for loss, targets, expected in [
        (nn.SoftmaxCrossEntropy(), [0, 0], 1000.0),
        (nn.BinaryCrossEntropy(), [[1, 0], [1, 0]], 500.0),
    ]:
        value = loss(z, targets)
        value.backward()
        assert value.item() == expected
        assert np.isfinite(z.grad).all()


def test_repr_shows_what_differs_from_the_default():
    assert repr(nn.MSE()) == "MSE()"
    assert repr(nn.BinaryCrossEntropy(reduction="sum")) == "BinaryCrossEntropy(reduction='sum')"


@pytest.mark.parametrize(
    "loss", [nn.MSE, nn.HalfSquaredError, nn.SoftmaxCrossEntropy, nn.BinaryCrossEntropy]
)
def test_unknown_reductions_are_refused(loss):
    text = f"{loss.__name__}: reduction: expected one of mean, sum, none, got 'avg'."
    with pytest.raises(ArgumentError, match=f"^{re.escape(text)}$"):
        loss(reduction="avg")


@pytest.mark.parametrize(
    ("loss", "targets", "error", "text"),
    [
        (nn.MSE(), np.ones(N), ShapeError, "the shape of predictions, (4, 3), got (4,)."),
        (nn.HalfSquaredError(), np.ones((N, 1)), ShapeError, "of predictions, (4, 3), got (4, 1)."),
        (nn.BinaryCrossEntropy(), T, ShapeError, "the shape of logits, (4, 3), got (4,)."),
        (nn.BinaryCrossEntropy(), np.full((N, K), 2), IndexingError,
         "BinaryCrossEntropy: expected targets in 0 ... 1, got 2 ... 2. The labels of the two"),
        (nn.BinaryCrossEntropy(), -np.ones((N, K)), IndexingError, "got -1.0 ... -1.0."),
        (nn.BinaryCrossEntropy(), np.full((N, K), np.nan), IndexingError, "got nan ... nan."),
        (nn.Hinge(), np.zeros((N, K)), ArgumentError, "give 2 * labels - 1."),
        (nn.SoftmaxCrossEntropy(), T + 1, IndexingError, "got 1 ... 3. Do the labels start at 1?"),
        (nn.SoftmaxCrossEntropy(), T * 1.0, DtypeError, "Did you mean labels.astype(int)?"),
        (nn.SoftmaxCrossEntropy(), T[:, None], ShapeError, "Did you mean labels.reshape(-1)"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit_are_refused(loss, targets, error, text):
    with pytest.raises(error, match=re.escape(text)):
        loss(tg.Tensor(Z, requires_grad=True), targets)
