from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.nn.twins import check, check_with_pytorch, draw, float64, shaken
from tinygrad_np.errors import ArgumentError, ShapeError


def windows(size, kernel, stride, dilation):
    """The places that each window sees, by the number of the window."""
    count = (size - dilation * (kernel - 1) - 1) // stride + 1
    return [range(i * stride, i * stride + dilation * kernel, dilation) for i in range(count)]


def conv2d_by_hand(W, b, stride=1, padding=0, dilation=1, groups=1):
    """``z = b + sum W x`` window by window; ``dW = sum g x``, ``dx = sum g W``, ``db = sum g``."""

    def by_hand(x, g):
        x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
        rows = windows(x.shape[2], W.shape[2], stride, dilation)
        columns = windows(x.shape[3], W.shape[3], stride, dilation)
        y = np.zeros((len(x), len(W), len(rows), len(columns)))
        dx, dW = np.zeros_like(x), np.zeros_like(W)
        for o in range(len(W)):
            first = o // (len(W) // groups) * W.shape[1]
            inputs = range(first, first + W.shape[1])
            for i, r in enumerate(rows):
                for j, c in enumerate(columns):
                    at = np.ix_(range(len(x)), inputs, r, c)
                    y[:, o, i, j] = (x[at] * W[o]).sum(axis=(1, 2, 3)) + b[o]
                    cotangent = g[:, o, i, j][:, None, None, None]
                    dW[o] += (cotangent * x[at]).sum(axis=0)
                    dx[at] += cotangent * W[o]
        inner = slice(padding, x.shape[2] - padding), slice(padding, x.shape[3] - padding)
        return y, {"x": dx[:, :, *inner], "W": dW, "b": g.sum(axis=(0, 2, 3))}

    return by_hand


OPTIONS = [
    {}, {"padding": 1}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2, "stride": 2},
    {"groups": 2},
]  # fmt: skip


@pytest.mark.parametrize("channels", [(2, 4), (4, 2)], ids=str)
@pytest.mark.parametrize("options", [*OPTIONS, {"padding": 3}], ids=str)
def test_conv2d_agrees_with_backprop_derived_by_hand(options, channels):
    layer = shaken(nn.Conv2d(*channels, kernel=(3, 2), **options, **float64()))
    x = draw(2, channels[0], 6, 5)
    check(layer, x, conv2d_by_hand(layer.W.data, layer.b.data, **options))


@pytest.mark.parametrize("channels", [(4, 6), (6, 4)], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_convolutions_agree_with_pytorch(options, channels):
    torch = pytest.importorskip("torch")
    names = {"W": "weight", "b": "bias"}
    for ours, theirs, size in [
        (nn.Conv1d, torch.nn.Conv1d, (9,)),
        (nn.Conv2d, torch.nn.Conv2d, (7, 6)),
        (nn.ConvTranspose2d, torch.nn.ConvTranspose2d, (3, 4)),
    ]:
        layer = shaken(ours(*channels, kernel=3, **options, **float64()))
        x = draw(3, channels[0], *size)
        check_with_pytorch(layer, theirs(*channels, 3, **options), x, names)


def test_conv_transpose2d_with_output_padding_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    options = {"stride": 3, "padding": 1, "output_padding": 2}
    layer = nn.ConvTranspose2d(2, 3, kernel=3, bias=False, **options, **float64())
    twin = torch.nn.ConvTranspose2d(2, 3, 3, bias=False, **options)
    check_with_pytorch(layer, twin, draw(2, 2, 4, 3), {"W": "weight"})
    assert layer(draw(2, 2, 4, 3)).shape == (2, 3, 12, 9)


def test_conv1d_agrees_with_backprop_derived_by_hand():
    layer = shaken(nn.Conv1d(2, 3, kernel=2, stride=2, **float64()))

    def by_hand(x, g):
        W, b = layer.W.data, layer.b.data
        pairs = x.reshape(2, 2, 3, 2)  # n, c, position, r: windows of 2 side by side
        y = np.einsum("ncir,ocr->noi", pairs, W) + b[:, None]
        dW = np.einsum("noi,ncir->ocr", g, pairs)
        dx = np.einsum("noi,ocr->ncir", g, W).reshape(x.shape)
        return y, {"x": dx, "W": dW, "b": g.sum(axis=(0, 2))}

    check(layer, draw(2, 2, 6), by_hand)


def conv_transpose2d_by_hand(W, b, stride=1, padding=0, output_padding=0, dilation=1, groups=1):
    """Each input writes ``x W`` where a window stands: ``y[window] += x W``.

    So y's window gives back ``dx = sum g W`` to the input that wrote there, ``dW = sum x g``, and the
    bias, which every place has, gets ``db = sum g``. The padding is what is cut off y.
    """

    def by_hand(x, g):
        N, C, H, width = x.shape
        outputs, kernel = W.shape[1], W.shape[2:]
        size = [
            (n - 1) * stride + dilation * (k - 1) + 1 + output_padding
            for n, k in zip((H, width), kernel)
        ]
        whole = np.zeros((N, groups * outputs, *size))
        cut = tuple(slice(padding, n - padding) for n in size)
        arrived = np.zeros_like(whole)
        arrived[:, :, *cut] = g
        dx, dW = np.zeros_like(x), np.zeros_like(W)
        for c in range(C):
            group = c // (C // groups)
            written = range(group * outputs, (group + 1) * outputs)
            for i in range(H):
                for j in range(width):
                    places = [
                        range(at * stride, at * stride + dilation * k, dilation)
                        for at, k in zip((i, j), kernel)
                    ]
                    window = np.ix_(range(N), written, *places)
                    value = x[:, c, i, j][:, None, None, None]
                    whole[window] += value * W[c]
                    dx[:, c, i, j] = (arrived[window] * W[c]).sum(axis=(1, 2, 3))
                    dW[c] += (arrived[window] * value).sum(axis=0)
        y = whole[:, :, *cut] + b[:, None, None]
        return y, {"x": dx, "W": dW, "b": g.sum(axis=(0, 2, 3))}

    return by_hand


@pytest.mark.parametrize(
    "options", [*OPTIONS, {"stride": 3, "padding": 1, "output_padding": 2}], ids=str
)
def test_conv_transpose2d_agrees_with_backprop_derived_by_hand(options):
    layer = shaken(nn.ConvTranspose2d(2, 4, kernel=(3, 2), **options, **float64()))
    check(layer, draw(2, 2, 4, 3), conv_transpose2d_by_hand(layer.W.data, layer.b.data, **options))


def test_conv_transpose2d_is_the_adjoint_of_conv2d():
    forward = nn.Conv2d(3, 2, kernel=3, stride=2, bias=False, **float64())
    back = nn.ConvTranspose2d(2, 3, kernel=3, stride=2, bias=False, **float64())
    back.W = forward.W  # (2, 3, 3, 3) for both
    x, u = draw(1, 3, 7, 7), draw(1, 2, 3, 3, seed=1)
    np.testing.assert_allclose((forward(x).data * u).sum(), (x * back(u).data).sum(), rtol=1e-12)


def test_activation_and_bias():
    layer = nn.Conv2d(2, 3, kernel=2, activation="relu", bias=False, **float64())
    x = draw(2, 2, 4, 4)
    expected = np.maximum(tg.conv2d(x, layer.W.data), 0)
    np.testing.assert_array_equal(layer(x).data, expected)
    assert 0 < (expected > 0).mean() < 1
    assert layer.b is None


def test_shapes_of_parameters_and_initial_range():
    layer = nn.Conv2d(4, 8, kernel=(3, 5), groups=2, rng=0)
    assert (layer.W.shape, layer.b.shape) == ((8, 2, 3, 5), (8,))
    assert nn.ConvTranspose2d(4, 8, kernel=3, groups=2).W.shape == (4, 4, 3, 3)
    assert np.abs(layer.W.data).max() <= np.sqrt(6 / (2 * 15 + 8 * 15))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Conv2d(3, 8, 5, kernel=5), "Conv2d: expected (in, out) or (out,) as whole"),
        (lambda: nn.Conv2d(3, 8, 5), "got (3, 8, 5). Everything else is given by keyword."),
        (lambda: nn.ConvTranspose2d(3, 8), "got None. Write ConvTranspose2d(in, out, kernel=3)."),
        (lambda: nn.Conv2d(0, 8, kernel=5), "at least 1, got (0, 8). Everything else is given by"),
        (lambda: nn.Conv2d(8, kernel=(3, 3, 3)), "kernel as a whole number or 2 of them, at least"),
        (lambda: nn.Conv1d(8, kernel=0), "Conv1d: expected kernel as a whole number, at least 1"),
        (lambda: nn.Conv2d(8, kernel=3, groups=3), "divide the 8 output channels, got groups=3"),
        (lambda: nn.Conv2d(3, 8, kernel=3, groups=2), "divide the 3 input channels, got groups=2"),
        (lambda: nn.Conv2d(8, kernel=3, groups=0), "divide the 8 output channels, got groups=0"),
        (lambda: nn.Conv2d(8, kernel=3, activation="rulu"), "Did you mean 'relu'"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(make, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "error", "text"),
    [
        (nn.Conv2d(3, 8, kernel=3), (2, 4, 5, 5), ShapeError,
         "Conv2d(3, 8, kernel=3) with weights '0.W': expected x (N, 3, H, W), got (2, 4, 5, 5)."),
        (nn.Conv2d(3, 8, kernel=3), (3, 5, 5), ShapeError, "Did you mean x[None], a batch of one?"),
        (nn.Conv2d(3, 8, kernel=3), (2, 5, 5, 3), ShapeError, "np.moveaxis(x, -1, 1)?"),
        (nn.Conv2d(3, 8, kernel=7), (2, 3, 5, 5), ShapeError,
         "kernel=7) with weights '0.W': conv2d: expected a kernel that fits into the padded size"),
        (nn.Conv2d(3, 8, kernel=3, stride=0), (2, 3, 5, 5), ArgumentError, "'0.W': conv2d: expect"),
        (nn.Conv1d(3, 8, kernel=3), (2, 4, 5), ShapeError, "expected x (N, 3, L), got (2, 4, 5)."),
        (nn.Conv2d(8, kernel=3), (2, 0, 5, 5), ShapeError, "Conv2d(8, kernel=3): expected a first"),
        (nn.ConvTranspose2d(3, 8, kernel=3, output_padding=1), (2, 3, 5, 5), ArgumentError,
         "output_padding=1) with weights '0.W': conv_transpose2d: expected output_padding less"),
    ],
)  # fmt: skip
def test_batches_that_do_not_fit_name_the_layer(layer, shape, error, text):
    with pytest.raises(error, match=re.escape(text)):
        nn.Sequential(layer)(np.ones(shape))


def test_repr():
    assert repr(nn.Conv2d(3, 8, kernel=3)) == "Conv2d(3, 8, kernel=3)"
    text = "Conv2d(4, 8, kernel=(3, 5), stride=2, padding='valid', groups=4, bias=False)"
    layer = nn.Conv2d(4, 8, kernel=(3, 5), stride=2, padding="valid", groups=4, bias=False)
    assert repr(layer) == text
    assert repr(nn.ConvTranspose2d(8, kernel=2, output_padding=1, activation="tanh")) == (
        "ConvTranspose2d(8, kernel=2, activation='tanh', output_padding=1)"
    )
