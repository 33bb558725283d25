"""Losses beyond the first four, and weights, ignored labels and smoothing."""

from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.engine.arrays import numerical_gradient
from tinygrad_np.errors import ArgumentError, ShapeError

N, K = 4, 3
Z = np.random.default_rng(0).normal(size=(N, K))
X = np.random.default_rng(1).normal(size=(N, K))
T = np.array([2, 0, 1, 1])
ONEHOT = np.eye(K)[T]
W = np.array([0.5, 2.0, 1.5])
P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
Q = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
LOGP = np.log(P)
SIGNS = 2 * ONEHOT - 1
S = 1 / (1 + np.exp(-Z))


def norm(a):
    return np.sqrt((a * a).sum(axis=1, keepdims=True))


COS = (Z * X).sum(axis=1, keepdims=True) / (norm(Z) * norm(X))
SMOOTH = 0.8 * ONEHOT + 0.2 / K
SEEN = T != 1

# Loss and options, outputs, targets, losses by definition, the derivative of their sum by hand, and
# what the mean divides by, if not their number.
CASES = {
    "L1": (nn.L1, {}, Z, X, abs(Z - X), np.sign(Z - X), None),
    "Huber": (
        nn.Huber, {"delta": 0.5}, Z, X,
        np.where(abs(Z - X) < 0.5, (Z - X) ** 2 / 2, 0.5 * (abs(Z - X) - 0.25)),
        np.clip(Z - X, -0.5, 0.5), None),
    "NLL": (nn.NLL, {}, LOGP, T, -LOGP[range(N), T], -ONEHOT, None),
    "NLL weighted": (
        nn.NLL, {"weight": W}, LOGP, T, -W[T] * LOGP[range(N), T], -ONEHOT * W, W[T].sum()),
    "KLDivergence": (nn.KLDivergence, {}, LOGP, Q, (Q * (np.log(Q) - LOGP)).sum(axis=1), -Q, None),
    "Hinge": (
        nn.Hinge, {}, Z, SIGNS, np.maximum(1 - SIGNS * Z, 0), -SIGNS * (SIGNS * Z < 1), None),
    "CosineDistance": (
        nn.CosineDistance, {}, Z, X, 1 - COS[:, 0],
        (COS * Z / norm(Z) - X / norm(X)) / norm(Z), None),
    "SoftmaxCrossEntropy weighted": (
        nn.SoftmaxCrossEntropy, {"weight": W}, Z, T, -W[T] * LOGP[range(N), T],
        W[T][:, None] * (P - ONEHOT), W[T].sum()),
    "SoftmaxCrossEntropy with an ignored label": (
        nn.SoftmaxCrossEntropy, {"ignore_label": 1}, Z, T, -LOGP[range(N), T] * SEEN,
        (P - ONEHOT) * SEEN[:, None], 2),
    "SoftmaxCrossEntropy smoothed": (
        nn.SoftmaxCrossEntropy, {"label_smoothing": 0.2}, Z, T, -(SMOOTH * LOGP).sum(axis=1),
        P - SMOOTH, None),
    "BinaryCrossEntropy weighted": (
        nn.BinaryCrossEntropy, {"weight": W, "pos_weight": 3.0}, Z, ONEHOT,
        -W * (3 * ONEHOT * np.log(S) + (1 - ONEHOT) * np.log(1 - S)),
        W * (-3 * ONEHOT * (1 - S) + (1 - ONEHOT) * S), None),
}  # fmt: skip
each_case = pytest.mark.parametrize(
    ("loss", "options", "z", "targets", "losses", "derivative", "total"), CASES.values(), ids=CASES
)


@each_case
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_value_and_gradient_are_those_derived_by_hand(
    loss, options, z, targets, losses, derivative, total, reduction
):
    outputs = tg.Tensor(z, requires_grad=True)
    value = loss(reduction, **options)(outputs, targets)
    divisor = (total or losses.size) if reduction == "mean" else 1
    expected = losses if reduction == "none" else losses.sum() / divisor
    np.testing.assert_allclose(value.data, expected, rtol=1e-12)
    assert value.shape == np.shape(expected)
    value.backward(np.ones(value.shape))
    np.testing.assert_allclose(outputs.grad, derivative / divisor, rtol=1e-11, atol=1e-15)


@each_case
def test_gradient_agrees_with_finite_differences(
    loss, options, z, targets, losses, derivative, total
):
    outputs, instance = tg.Tensor(z, requires_grad=True), loss(**options)
    instance(outputs, targets).backward()
    [numerical] = numerical_gradient(lambda z: instance(z, targets), [z], np.array(1.0))
    np.testing.assert_allclose(outputs.grad, numerical, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_pytorch_agrees(reduction):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    w, t, q, x = (torch.tensor(a) for a in (W, T, Q, X))
    ones = torch.ones(N)
    r = {"reduction": reduction}

    def kl(z):
        elements = F.kl_div(z, q, reduction="none").sum(dim=1)  # a row's; F.kl_div's mean is older
        return elements if reduction == "none" else getattr(elements, reduction)()

    for loss, z, targets, theirs in [
        (nn.L1(**r), Z, X, lambda z: F.l1_loss(z, x, **r)),
        (nn.Huber(delta=0.5, **r), Z, X, lambda z: F.huber_loss(z, x, delta=0.5, **r)),
        (nn.NLL(weight=W, **r), LOGP, T, lambda z: F.nll_loss(z, t, weight=w, **r)),
        (nn.NLL(ignore_label=1, **r), LOGP, T, lambda z: F.nll_loss(z, t, ignore_index=1, **r)),
        (nn.KLDivergence(**r), LOGP, Q, kl),
        (nn.CosineDistance(**r), Z, X, lambda z: F.cosine_embedding_loss(z, x, ones, **r)),
        (nn.SoftmaxCrossEntropy(weight=W, ignore_label=0, label_smoothing=0.1, **r), Z, T,
         lambda z: F.cross_entropy(z, t, weight=w, ignore_index=0, label_smoothing=0.1, **r)),
        (nn.SoftmaxCrossEntropy(weight=W, label_smoothing=0.2, **r), Z, Q,
         lambda z: F.cross_entropy(z, q, weight=w, label_smoothing=0.2, **r)),
        (nn.BinaryCrossEntropy(weight=W, pos_weight=W, **r), Z, Q,
         lambda z: F.binary_cross_entropy_with_logits(z, q, weight=w, pos_weight=w, **r)),
    ]:  # fmt: skip
        ours, other = tg.Tensor(z, requires_grad=True), torch.tensor(z, requires_grad=True)
        value, expected = loss(ours, targets), theirs(other)
        cotangent = np.linspace(1, 2, value.size).reshape(value.shape)
        value.backward(cotangent)
        expected.backward(torch.tensor(cotangent))
        np.testing.assert_allclose(value.data, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(ours.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_repr_shows_what_differs_from_the_default():
    assert repr(nn.Huber(delta=0.5)) == "Huber(delta=0.5)"
    loss = nn.SoftmaxCrossEntropy("sum", weight=[1, 2], ignore_label=-1)
    assert repr(loss) == "SoftmaxCrossEntropy(reduction='sum', weight=[1, 2], ignore_label=-1)"
    assert repr(nn.NLL(weight=W)) == "NLL(weight=array([0.5, 2. , 1.5]))"


def test_weights_are_no_parameters():
    assert nn.NLL(weight=W).state_dict() == {}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nn.Huber(delta=0), ArgumentError, "Huber: expected delta above 0, got 0."),
        (lambda: nn.L1("avg"), ArgumentError, "L1: reduction: expected one of mean, sum, none, got"),
        (lambda: nn.CosineDistance()(Z, X[:, :2]), ShapeError,
         "CosineDistance: expected targets of the shape of the outputs, (4, 3), got (4, 2)."),
        (lambda: nn.NLL(weight=[1, 2])(LOGP, T), ShapeError, "weight of a shape that broadcasts to"),
        (lambda: nn.SoftmaxCrossEntropy(ignore_label=1)(Z, [1] * N), ArgumentError, "at least one"),
        (lambda: nn.SoftmaxCrossEntropy(label_smoothing=2)(Z, T), ArgumentError, "within [0, 1]"),
        (lambda: nn.Hinge()(Z, ONEHOT), ArgumentError, "give 2 * labels - 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()
