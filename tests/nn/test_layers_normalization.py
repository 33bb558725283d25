from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.nn.twins import check, check_with_pytorch, draw, pulled, shaken
from tinygrad_np.errors import ArgumentError, ShapeError

EPS = 1e-5


def standardized_by_hand(x, g, weight, bias, axes, along, eps=EPS):
    """Backprop through mean, variance and root, step by step, as Ioffe and Szegedy derive it.

    ``axes`` are those of the statistics, ``along`` those that weight and bias have.
    """
    others = tuple(i for i in range(x.ndim) if i not in along)
    shape = [n if i in along else 1 for i, n in enumerate(x.shape)]
    n = np.prod([x.shape[i] for i in axes])
    mean = x.sum(axis=axes, keepdims=True) / n
    d = x - mean
    var = (d * d).sum(axis=axes, keepdims=True) / n
    h = d / np.sqrt(var + eps)
    y = h * weight.reshape(shape) + bias.reshape(shape)

    dh = g * weight.reshape(shape)
    dvar = (dh * d).sum(axis=axes, keepdims=True) * -0.5 * (var + eps) ** -1.5
    dd = dh / np.sqrt(var + eps) + dvar * 2 * d / n
    dmean = -dd.sum(axis=axes, keepdims=True)
    dx = dd + dmean / n
    dweight, dbias = (g * h).sum(axis=others), g.sum(axis=others)
    return y, {"x": dx, "weight": dweight, "bias": dbias}


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5), (4, 3, 2, 5)])
def test_batch_norm_agrees_with_backprop_derived_by_hand(shape):
    layer = shaken(nn.BatchNorm(3, dtype=np.float64))
    axes = (0, *range(2, len(shape)))
    weight, bias = layer.weight.data, layer.bias.data
    check(layer, 2 + 3 * draw(*shape),
          lambda x, g: standardized_by_hand(x, g, weight, bias, axes, (1,)))  # fmt: skip


@pytest.mark.parametrize("features", [(4,), (3, 4)])
def test_layer_norm_agrees_with_backprop_derived_by_hand(features):
    layer = shaken(nn.LayerNorm(*features, dtype=np.float64))
    axes = tuple(range(3 - len(features), 3))
    weight, bias = layer.weight.data, layer.bias.data
    check(layer, 2 + 3 * draw(5, 3, 4),
          lambda x, g: standardized_by_hand(x, g, weight, bias, axes, axes))  # fmt: skip


def test_group_norm_agrees_with_backprop_derived_by_hand():
    layer = shaken(nn.GroupNorm(4, groups=2, dtype=np.float64))
    weight, bias = layer.weight.data, layer.bias.data

    def by_hand(x, g):
        halves = [slice(0, 2), slice(2, 4)]
        parts = [
            standardized_by_hand(x[:, c], g[:, c], weight[c], bias[c], (1, 2, 3), (1,))
            for c in halves
        ]
        y = np.concatenate([y for y, _ in parts], axis=1)
        axis = {"x": 1, "weight": 0, "bias": 0}
        return y, {
            name: np.concatenate([grads[name] for _, grads in parts], axis=a)
            for name, a in axis.items()
        }

    check(layer, 2 + 3 * draw(5, 4, 2, 3), by_hand)


def test_rms_norm_agrees_with_backprop_derived_by_hand():
    layer = shaken(nn.RMSNorm(4, dtype=np.float64))
    w = layer.weight.data

    def by_hand(x, g):
        m = (x * x).sum(axis=-1, keepdims=True) / 4
        r = (m + 1e-6) ** -0.5
        dh = g * w
        dr = (dh * x).sum(axis=-1, keepdims=True)
        dm = dr * -0.5 * (m + 1e-6) ** -1.5
        dx = dh * r + dm * 2 * x / 4
        return x * r * w, {"x": dx, "weight": (g * x * r).sum(axis=(0, 1))}

    assert layer.bias is None
    check(layer, draw(5, 3, 4), by_hand)


def test_norms_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    both = {"weight": "weight", "bias": "bias"}
    double = {"dtype": np.float64}
    pictures, rows = 1 + 2 * draw(4, 6, 3, 5), 1 + 2 * draw(4, 6, 5)
    for layer, twin, x in [
        (nn.BatchNorm(6, **double), torch.nn.BatchNorm2d(6), pictures),
        (nn.BatchNorm(6, **double), torch.nn.BatchNorm1d(6), rows),
        (nn.LayerNorm(5, **double), torch.nn.LayerNorm(5), rows),
        (nn.LayerNorm(6, 5, eps=0.1, **double), torch.nn.LayerNorm((6, 5), eps=0.1), rows),
        (nn.GroupNorm(6, groups=3, **double), torch.nn.GroupNorm(3, 6), pictures),
        (nn.GroupNorm(6, groups=6, **double), torch.nn.InstanceNorm2d(6, affine=True), pictures),
    ]:
        check_with_pytorch(shaken(layer), twin, x, both)
    twin = torch.nn.RMSNorm(5, eps=1e-6)
    check_with_pytorch(shaken(nn.RMSNorm(5, **double)), twin, rows, {"weight": "weight"})


@pytest.mark.parametrize("momentum", [0.3, 0.0, 1.0, None])
def test_running_statistics_and_evaluation_agree_with_pytorch(momentum):
    torch = pytest.importorskip("torch")
    layer, twin = nn.BatchNorm(3, momentum=momentum, dtype=np.float64), torch.nn.BatchNorm2d(
        3, momentum=momentum, dtype=torch.float64
    )  # fmt: skip
    for seed in range(3):
        x = 2 + draw(4, 3, 2, 2, seed=seed)
        layer(x)
        twin(torch.tensor(x))
    assert momentum is not None or layer.batches.data == twin.num_batches_tracked == 3
    np.testing.assert_allclose(layer.running_mean.data, twin.running_mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.data, twin.running_var, rtol=1e-12)
    layer.eval()
    twin.eval()
    before = layer.running_mean.data
    names = {"weight": "weight", "bias": "bias"}
    check_with_pytorch(shaken(layer), twin, draw(4, 3, 2, 2, seed=9), names)
    assert layer.running_mean.data is before


def test_running_statistics_by_hand():
    layer = nn.BatchNorm(1, momentum=0.25, dtype=np.float64)
    layer(np.array([[1.0], [2.0], [6.0]]))  # mean 3, squares 4 + 1 + 9 = 14, over 2 (not 3) 7
    np.testing.assert_allclose(layer.running_mean.data, [0.75 * 0 + 0.25 * 3], rtol=1e-15)
    np.testing.assert_allclose(layer.running_var.data, [0.75 * 1 + 0.25 * 7], rtol=1e-15)
    y = layer.eval()(np.array([[0.75]]))
    np.testing.assert_array_equal(y.data, [[0.0]])


def test_without_a_momentum_the_running_statistics_are_means_over_the_batches():
    layer = nn.BatchNorm(1, momentum=None)
    for values in ([1.0, 3.0], [4.0, 12.0]):  # means 2 and 8, variances 2 and 32
        layer(np.array(values)[:, None])
    np.testing.assert_array_equal(layer.running_mean.data, np.array([5], np.float32))
    np.testing.assert_array_equal(layer.running_var.data, np.array([17], np.float32))
    other = nn.BatchNorm(1, momentum=None)
    other.load_state_dict(layer.state_dict())
    other(np.array([[0.0], [6.0]]))
    np.testing.assert_allclose(other.running_mean.data, [(5 * 2 + 3) / 3], rtol=1e-6)


def test_running_statistics_are_state_and_no_parameters():
    layer = nn.BatchNorm(2)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert [name for name, _ in layer.named_buffers()] == ["running_mean", "running_var"]
    layer(draw(8, 2) + 5)
    other = nn.BatchNorm(2)
    other.load_state_dict(layer.state_dict())
    x = draw(3, 2)
    np.testing.assert_array_equal(other.eval()(x).data, layer.eval()(x).data)
    assert not np.array_equal(nn.BatchNorm(2).eval()(x).data, layer(x).data)


def test_a_backward_pass_in_evaluation_may_come_after_training_moved_the_statistics():
    layer = nn.BatchNorm(2, dtype=np.float64)
    y = layer.eval()(draw(3, 2))
    layer.train()(draw(3, 2))
    y.sum().backward()
    np.testing.assert_allclose(layer.bias.grad, [3, 3])


@pytest.mark.parametrize("make", [
    lambda: nn.BatchNorm(affine=False), lambda: nn.LayerNorm(affine=False),
    lambda: nn.RMSNorm(affine=False), lambda: nn.GroupNorm(groups=1, affine=False),
])  # fmt: skip
def test_without_weight_and_bias_there_are_no_parameters(make):
    layer = make()
    y, _, grads = pulled(nn.Sequential(layer), draw(5, 4))
    assert grads.keys() == {"x"}
    assert layer.weight is None
    np.testing.assert_allclose((y**2).mean(), 1, rtol=1e-4)
    assert "affine=False" in repr(layer)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.BatchNorm(0), "BatchNorm: expected (channels,) as whole numbers of at least 1"),
        (lambda: nn.BatchNorm(3, momentum=1.5), "expected momentum in [0, 1] or None, got 1.5."),
        (lambda: nn.LayerNorm(3, 0.1), "LayerNorm: expected the lengths of the last axes as whole"),
        (lambda: nn.RMSNorm(-1), "RMSNorm: expected the lengths"),
        (lambda: nn.GroupNorm(4, groups=3), "groups that divide the 4 channels, got groups=3."),
        (lambda: nn.GroupNorm(groups=0), "GroupNorm: expected groups of at least 1, got groups=0"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(make, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (nn.BatchNorm(3), (5, 4), "BatchNorm(3) with weights '0.weight': expected x (N, 3, ...), "),
        (nn.BatchNorm(3), (2, 5, 5, 3), "got (2, 5, 5, 3). Did you mean np.moveaxis(x, -1, 1)?"),
        (nn.BatchNorm(3), (1, 3), "'0.weight': expected more than one value a channel in training, "
         "got (1, 3). Choose a batch size that leaves no batch of one row"),
        (nn.BatchNorm(3), (0, 3), "more than one value a channel in training, got (0, 3)."),
        (nn.LayerNorm(4), (5, 3), "LayerNorm(4) with weights '0.weight': expected x (..., 4), got"),
        (nn.LayerNorm(3, 4), (4,), "expected x (..., 3, 4), got (4,)."),
        (nn.LayerNorm(), (5, 0), "LayerNorm(): expected a first batch with features, got (5, 0)."),
        (nn.LayerNorm(), (), "LayerNorm() at '0': expected x (..., features), got ()."),
        (nn.GroupNorm(4, groups=2), (5, 3), "groups=2) with weights '0.weight': expected x (N, 4,"),
    ],
)  # fmt: skip
def test_batches_that_do_not_fit_name_the_layer(layer, shape, text):
    with pytest.raises(ShapeError, match=re.escape(text)):
        nn.Sequential(layer)(np.ones(shape))


def test_a_refused_batch_leaves_the_running_statistics():
    layer = nn.BatchNorm(3)
    with pytest.raises(ShapeError):
        layer(np.ones((1, 3)))
    np.testing.assert_array_equal(layer.running_mean.data, np.zeros(3))


def test_groups_must_divide_the_channels_of_the_first_batch():
    layer = nn.GroupNorm(groups=2)
    with pytest.raises(ArgumentError, match="groups that divide the 3 channels"):
        layer(np.ones((2, 3)))
    assert not layer.built


def test_results_are_float32_for_plain_batches():
    for layer in nn.BatchNorm(), nn.LayerNorm(), nn.RMSNorm(), nn.GroupNorm(groups=2):
        assert layer(draw(4, 6)).dtype == np.float32
        assert isinstance(layer(draw(4, 6)), tg.Tensor)
