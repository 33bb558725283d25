from __future__ import annotations

import re

import numpy as np
import pytest

import nn
from tests.nn.twins import check, check_with_pytorch, draw
from tinygrad_np.errors import ArgumentError, ShapeError


def pooled_by_hand(kernel, stride, pool):
    """Window by window; ``pool(window)`` gives the value and its derivative by each element."""

    def by_hand(x, g):
        dx, y = np.zeros_like(x), np.zeros(g.shape)
        for n, c, i, j in np.ndindex(*g.shape):
            at = (
                n,
                c,
                slice(i * stride, i * stride + kernel),
                slice(j * stride, j * stride + kernel),
            )
            y[n, c, i, j], slopes = pool(x[at])
            dx[at] += g[n, c, i, j] * slopes
        return y, {"x": dx}

    return by_hand


def largest(window):
    return window.max(), window == window.max()


def mean(window):
    return window.mean(), np.full(window.shape, 1 / window.size)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 1), (2, 3)])
def test_pooling_agrees_with_backprop_derived_by_hand(kernel, stride):
    x = draw(2, 3, 6, 7)
    check(nn.MaxPool2d(kernel, stride), x, pooled_by_hand(kernel, stride, largest))
    check(nn.AvgPool2d(kernel, stride), x, pooled_by_hand(kernel, stride, mean))


@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"stride": 2, "padding": 1}], ids=str)
def test_pooling_agrees_with_pytorch(options):
    torch = pytest.importorskip("torch")
    x = draw(2, 3, 6, 7)
    check_with_pytorch(nn.MaxPool2d(3, **options), torch.nn.MaxPool2d(3, **options), x, {})
    check_with_pytorch(nn.AvgPool2d(3, **options), torch.nn.AvgPool2d(3, **options), x, {})


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5)])
def test_global_average(shape):
    def by_hand(x, g):
        size = x[0, 0].size
        spread = g.reshape(*g.shape, *(1,) * (x.ndim - 2)) / size
        return x.reshape(2, 3, size).sum(axis=2) / size, {"x": np.broadcast_to(spread, x.shape)}

    check(nn.GlobalAvgPool(), draw(*shape), by_hand)


def test_global_average_and_flatten_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    x = draw(2, 3, 4, 5)
    pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    check_with_pytorch(nn.GlobalAvgPool(), pool, x, {})
    check_with_pytorch(nn.Flatten(), torch.nn.Flatten(), x, {})


@pytest.mark.parametrize(
    ("layer", "shape", "error", "text"),
    [
        (nn.MaxPool2d(2), (3, 5, 5), ShapeError,
         "MaxPool2d(2): expected x (N, C, H, W), got (3, 5, 5). Did you mean x[None]"),
        (nn.MaxPool2d(6), (1, 3, 5, 5), ShapeError, "MaxPool2d(6): max_pool: expected a kernel"),
        (nn.AvgPool2d(2, padding=2), (1, 3, 5, 5), ArgumentError, "AvgPool2d(2, padding=2): avg_"),
        (nn.GlobalAvgPool(), (3, 5), ShapeError, "expected x (N, C, L, ...), got (3, 5)."),
    ],
)  # fmt: skip
def test_batches_that_do_not_fit_name_the_layer(layer, shape, error, text):
    with pytest.raises(error, match=re.escape(text)):
        layer(np.ones(shape))


def test_repr():
    assert repr(nn.MaxPool2d((2, 3), stride=1)) == "MaxPool2d((2, 3), stride=1)"
