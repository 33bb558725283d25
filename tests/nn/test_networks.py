"""Whole networks against the same ones in PyTorch: loss, outputs and all gradients, in float64."""

from __future__ import annotations

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.nn.twins import draw, shaken

DOUBLE = {"dtype": np.float64}


def in_pytorch(module, twin, names):
    """Give a PyTorch module our weights; pairs of our tensors and its parameters, in its layout."""
    torch = pytest.importorskip("torch")
    pairs = []
    parameters = dict(twin.named_parameters())
    for ours, theirs in names.items():
        tensor = getattr(module, ours)
        value = tensor.data.T if theirs.endswith(".T") else tensor.data
        parameter = parameters[theirs.removesuffix(".T")]
        parameter.data = torch.tensor(np.ascontiguousarray(value))
        pairs.append((tensor, parameter, theirs.endswith(".T")))
    return pairs


LINEAR = {"W": "weight.T", "b": "bias"}
SAME = {"W": "weight", "b": "bias"}
NORM = {"weight": "weight", "bias": "bias"}
RECURRENT = {
    "W_x": "weight_ih_l0.T", "W_h": "weight_hh_l0.T", "b_x": "bias_ih_l0", "b_h": "bias_hh_l0",
}  # fmt: skip


def agree(outputs, loss, expected, expected_loss, pairs):
    loss.backward()
    expected_loss.backward()
    np.testing.assert_allclose(outputs.data, expected.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(loss.item(), expected_loss.item(), rtol=1e-12)
    for tensor, parameter, turned in pairs:
        gradient = parameter.grad.numpy()
        np.testing.assert_allclose(
            tensor.grad, gradient.T if turned else gradient, rtol=1e-10, atol=1e-12,
            err_msg=tensor.name,
        )  # fmt: skip


def test_a_convolutional_network_with_norms_and_residuals():
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(
        nn.Conv2d(2, 4, kernel=3, padding=1, **DOUBLE), nn.BatchNorm(4, **DOUBLE), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Residual(nn.Conv2d(4, 4, kernel=3, padding=1, groups=2, activation="tanh", **DOUBLE)),
        nn.ConvTranspose2d(4, 3, kernel=2, stride=2, **DOUBLE), nn.AvgPool2d(2), nn.Flatten(),
        nn.Dropout(0.0), nn.Dense(3 * 3 * 4, 5, **DOUBLE),
    )  # fmt: skip
    shaken(ours)
    t = torch.nn
    conv, norm, inner = (
        t.Conv2d(2, 4, 3, padding=1),
        t.BatchNorm2d(4),
        t.Conv2d(4, 4, 3, 1, 1, 1, 2),
    )
    back, last = t.ConvTranspose2d(4, 3, 2, 2), t.Linear(36, 5)
    pairs = [
        *in_pytorch(ours[0], conv, SAME), *in_pytorch(ours[1], norm, NORM),
        *in_pytorch(ours[4][0], inner, SAME), *in_pytorch(ours[5], back, SAME),
        *in_pytorch(ours[9], last, LINEAR),
    ]  # fmt: skip
    norm.to(torch.float64)
    x, labels = draw(6, 2, 6, 8), np.arange(6) % 5
    F = t.functional
    h = F.max_pool2d(torch.relu(norm(conv(torch.tensor(x)))), 2)
    h = h + torch.tanh(inner(h))
    expected = last(F.avg_pool2d(back(h), 2).flatten(1))
    outputs = ours(x)
    agree(
        outputs, nn.SoftmaxCrossEntropy()(outputs, labels),
        expected, F.cross_entropy(expected, torch.tensor(labels)), pairs,
    )  # fmt: skip


class Language(nn.Module):
    """Embedding, two recurrent layers and scores, in containers by number and by name."""

    def __init__(self, kind):
        self.parts = nn.ModuleDict(
            {"embedding": nn.Embedding(7, 3, **DOUBLE), "output": nn.Dense(4, 7, **DOUBLE)}
        )
        make = getattr(nn, kind)
        self.layers = nn.ModuleList([make(3, 5, **DOUBLE), make(5, 4, **DOUBLE)])

    def forward(self, ids):
        x = self.parts["embedding"](ids)
        for layer in self.layers:
            x = layer(x)
        return self.parts["output"](x)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_recurrent_language_model(kind):
    torch = pytest.importorskip("torch")
    ours = shaken(Language(kind))
    t = torch.nn
    embedding, output = t.Embedding(7, 3), t.Linear(4, 7)
    make = getattr(t, kind)
    layers = [make(3, 5, batch_first=True), make(5, 4, batch_first=True)]
    pairs = [
        *in_pytorch(ours.parts["embedding"], embedding, {"W": "weight"}),
        *in_pytorch(ours.parts["output"], output, LINEAR),
        *[pair for a, b in zip(ours.layers, layers) for pair in in_pytorch(a, b, RECURRENT)],
    ]
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(7, size=(2, 3, 6))
    x = embedding(torch.tensor(ids))
    for layer in layers:
        x, _ = layer(x)
    expected = output(x)
    outputs = ours(ids)
    agree(
        outputs, nn.SoftmaxCrossEntropy()(outputs, labels), expected,
        t.functional.cross_entropy(expected.reshape(-1, 7), torch.tensor(labels.reshape(-1))), pairs,
    )  # fmt: skip


def test_tied_weights():
    torch = pytest.importorskip("torch")

    class Tied(nn.Module):
        """Scores of all ids from the table that embeds them; a gradient from both sides."""

        def __init__(self):
            self.embedding = nn.Embedding(7, 4, **DOUBLE)
            self.hidden = nn.Dense(4, 4, activation="tanh", **DOUBLE)

        def forward(self, ids):
            return self.hidden(self.embedding(ids)) @ self.embedding.W.T

    ours = shaken(Tied())
    embedding, hidden = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 4)
    pairs = [
        *in_pytorch(ours.embedding, embedding, {"W": "weight"}),
        *in_pytorch(ours.hidden, hidden, LINEAR),
    ]
    ids, labels = np.array([[1, 2, 1], [6, 0, 1]]), np.array([[2, 1, 6], [0, 1, 3]])
    expected = torch.tanh(hidden(embedding(torch.tensor(ids)))) @ embedding.weight.T
    outputs = ours(ids)
    agree(
        outputs, nn.SoftmaxCrossEntropy()(outputs, labels), expected,
        torch.nn.functional.cross_entropy(
            expected.reshape(-1, 7), torch.tensor(labels.reshape(-1))), pairs,
    )  # fmt: skip


def test_every_layer_has_a_docstring_with_an_example_or_a_function_that_has_one():
    for name in nn.layers.__all__:
        text = getattr(nn, name).__doc__ or ""
        _, _, function = text.partition("see `tinygrad_np.")
        described = getattr(tg, function.partition("`")[0]).__doc__ if function else text
        assert ">>>" in described, name
