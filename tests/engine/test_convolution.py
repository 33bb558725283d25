"""Convolution and pooling against PyTorch, loops and formulas; in blocks of any size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_np as tg
from tinygrad_np.ops import convolution

SETTINGS = [
    {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    for stride, padding, dilation, groups in itertools.product(
        [1, 2, (3, 1)], [0, 1, (2, 0)], [1, 2, (1, 3)], [1, 2]
    )
]


def normal(*shape, seed=0, dtype=float):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def leaves(*arrays):
    return [tg.Tensor(a.copy(), requires_grad=True) for a in arrays]


def agree(ours, theirs, ours_in, theirs_in, seed=9):
    """Outputs and all gradients, for one random cotangent, equal those of PyTorch."""
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = normal(*ours.shape, seed=seed)
    ours.backward(g)
    theirs.backward(torch.tensor(g))
    for a, b in zip(ours_in, theirs_in, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-11)


def torch_leaves(*arrays):
    torch = pytest.importorskip("torch")
    return [torch.tensor(a, requires_grad=True) for a in arrays]


@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_conv2d_equals_pytorch(how):
    torch = pytest.importorskip("torch")
    arrays = normal(3, 4, 9, 8), normal(6, 4 // how["groups"], 3, 2), normal(6)
    ours, theirs = leaves(*arrays), torch_leaves(*arrays)
    agree(tg.conv2d(*ours, **how), torch.nn.functional.conv2d(*theirs, **how), ours, theirs)


@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_conv_transpose2d_equals_pytorch(how):
    torch = pytest.importorskip("torch")
    how = how | {"output_padding": tuple(np.broadcast_to(how["stride"], 2).tolist())}
    how["output_padding"] = tuple([n - 1 for n in how["output_padding"]])
    arrays = normal(2, 4, 4, 5), normal(4, 3, 3, 2), normal(3 * how["groups"])
    ours, theirs = leaves(*arrays), torch_leaves(*arrays)
    expected = torch.nn.functional.conv_transpose2d(*theirs, **how)
    agree(tg.conv_transpose2d(*ours, **how), expected, ours, theirs)


@pytest.mark.parametrize(
    "how", [h for h in SETTINGS if all(isinstance(n, int) for n in h.values())], ids=str
)
def test_conv1d_equals_pytorch(how):
    torch = pytest.importorskip("torch")
    arrays = normal(3, 4, 9), normal(6, 4 // how["groups"], 3), normal(6)
    ours, theirs = leaves(*arrays), torch_leaves(*arrays)
    agree(tg.conv1d(*ours, **how), torch.nn.functional.conv1d(*theirs, **how), ours, theirs)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # PyTorch's
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 5)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_by_name_equals_pytorch(kernel, dilation):
    torch = pytest.importorskip("torch")
    for padding in ("same", "valid"):
        arrays = normal(2, 2, 9, 10), normal(3, 2, *kernel), normal(3)
        ours, theirs = leaves(*arrays), torch_leaves(*arrays)
        expected = torch.nn.functional.conv2d(*theirs, padding=padding, dilation=dilation)
        agree(tg.conv2d(*ours, padding=padding, dilation=dilation), expected, ours, theirs)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((6, 8), 2, None, 0),
        ((7, 7), 3, 2, 1),
        ((7, 9), (3, 2), (1, 3), (1, 0)),
        ((5, 5), 2, 3, 0),
        ((9,), 3, 2, 1),
    ],
)
def test_pooling_equals_pytorch(size, kernel, stride, padding):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    names = ("max_pool2d", "avg_pool2d") if len(size) == 2 else ("max_pool1d", "avg_pool1d")
    for mine, name in zip((tg.max_pool, tg.avg_pool), names, strict=True):
        x = normal(2, 3, *size)
        ours, theirs = leaves(x), torch_leaves(x)
        expected = getattr(F, name)(*theirs, kernel, stride, padding)
        agree(mine(*ours, kernel, stride, padding), expected, ours, theirs)


@pytest.mark.parametrize("stride", [1, 2])
def test_ties_of_max_pool_go_where_pytorch_sends_them(stride):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).integers(3, size=(2, 2, 6, 6)).astype(float)
    ours, theirs = leaves(x), torch_leaves(x)
    expected = torch.nn.functional.max_pool2d(*theirs, 2, stride)
    agree(tg.max_pool(*ours, 2, stride), expected, ours, theirs)


@pytest.mark.parametrize("how", [{}, {"stride": (2, 1), "padding": (1, 2), "dilation": 2}])
def test_unfold_and_fold_equal_pytorch(how):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x = normal(2, 3, 6, 7)
    ours, theirs = leaves(x), torch_leaves(x)
    columns = F.unfold(*theirs, (2, 3), **how)
    agree(tg.unfold(*ours, (2, 3), **how), columns, ours, theirs)
    columns = columns.detach().numpy()
    ours, theirs = leaves(columns), torch_leaves(columns)
    agree(
        tg.fold(*ours, (6, 7), (2, 3), **how), F.fold(*theirs, (6, 7), (2, 3), **how), ours, theirs
    )


@pytest.mark.parametrize("block", [1, 100, 1000])
@pytest.mark.parametrize("how", SETTINGS[::5], ids=str)
def test_blocks_of_rows_change_nothing(monkeypatch, block, how):
    arrays = normal(3, 4, 9, 8), normal(6, 4 // how["groups"], 3, 2), normal(6)
    results = []
    for numbers in (convolution.BLOCK, block):
        monkeypatch.setattr(convolution, "BLOCK", numbers)
        inputs = leaves(*arrays)
        y = tg.conv2d(*inputs, **how)
        y.backward(normal(*y.shape))
        results.append([y.data, *(t.grad for t in inputs)])
    for whole, blocked in zip(*results, strict=True):
        np.testing.assert_allclose(blocked, whole, rtol=1e-11, atol=1e-12)


def test_a_small_block_really_splits_the_rows(monkeypatch):
    monkeypatch.setattr(convolution, "BLOCK", 1)
    window = convolution.Window((3,), (2,), ((0, 0),), (1,))
    blocks = list(convolution._blocks(np.zeros((1, 9, 1, 1, 1, 1)), window))
    assert blocks == [(slice(i, i + 1), slice(2 * i, 2 * i + 3)) for i in range(4)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_three_maps_are_adjoint(data):
    """<conv(x, W), u> = <x, conv_input(u, W)> = <W, conv_weight(u, x)> for every geometry."""
    number = lambda low, high: data.draw(st.integers(low, high))
    groups = number(1, 3)
    kernel, stride, dilation = ([number(1, 3) for _ in range(2)] for _ in range(3))
    window = convolution.Window(
        *map(tuple, (kernel, stride, [(number(0, 2), number(0, 2))] * 2, dilation))
    )
    size = tuple(
        [max(1, r - a - b) + number(0, 4) for r, (a, b) in zip(window.reach, window.padding)]
    )
    x = normal(number(1, 3), groups * number(1, 2), *size)
    W = normal(groups * number(1, 2), x.shape[1] // groups, *kernel)
    y = convolution.conv(x, W, None, window=window, groups=groups)
    u = normal(*y.shape, seed=5)
    dx = convolution.conv_input(u, W, size=size, window=window, groups=groups)
    dW = convolution.conv_weight(u, x, window=window, groups=groups)
    assert dx.shape == x.shape
    assert dW.shape == W.shape
    s = np.vdot(y, u)
    assert np.vdot(x, dx) == pytest.approx(s, abs=1e-10)
    assert np.vdot(W, dW) == pytest.approx(s, abs=1e-10)


def test_the_gradients_are_those_derived_by_hand():
    """dW[o,c,r,s] = sum_nij g[n,o,i,j] x[n,c,i+r,j+s]; dx[n,c,i+r,j+s] += g[n,o,i,j] W[o,c,r,s]."""
    x, W, b = leaves(normal(2, 3, 5, 4), normal(2, 3, 3, 2), normal(2))
    y = tg.conv2d(x, W, b)
    g = normal(*y.shape)
    y.backward(g)
    dx, dW = np.zeros(x.shape), np.zeros(W.shape)
    for i, j, r, s in np.ndindex(*y.shape[2:], *W.shape[2:]):
        dW[:, :, r, s] += g[:, :, i, j].T @ x.data[:, :, i + r, j + s]
        dx[:, :, i + r, j + s] += g[:, :, i, j] @ W.data[:, :, r, s]
    np.testing.assert_allclose(W.grad, dW, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(x.grad, dx, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(b.grad, g.sum(axis=(0, 2, 3)), rtol=1e-12)


def test_a_transposed_convolution_undoes_the_size_of_a_convolution():
    x = normal(1, 2, 7, 8)
    y = tg.conv2d(x, normal(3, 2, 3, 3), stride=2, padding=1)
    back = tg.conv_transpose2d(y, normal(3, 2, 3, 3), stride=2, padding=1, output_padding=(0, 1))
    assert back.shape == x.shape


def test_unfold_and_a_matrix_product_are_a_convolution():
    x, W = normal(2, 3, 6, 5), normal(4, 3, 2, 3)
    y = W.reshape(4, -1) @ tg.unfold(x, (2, 3), 2, 1)
    np.testing.assert_allclose(y.reshape(2, 4, 4, 3), tg.conv2d(x, W, None, 2, 1), rtol=1e-12)


def test_results_lie_so_that_the_next_layer_copies_nothing():
    """(H, C, W, N) in memory after convolution, ReLU and pooling, and on the way back."""
    x, W, V = leaves(normal(4, 2, 8, 8), normal(3, 2, 3, 3), normal(5, 3, 2, 2))
    h = tg.max_pool(tg.relu(tg.conv2d(x, W, padding=1)), 2)
    assert h.data.transpose(2, 1, 3, 0).flags.c_contiguous
    seen = []
    h.register_hook(lambda g: seen.append(g))
    (tg.conv2d(h, V).reshape(4, -1) ** 2).sum().backward()
    assert seen[0].transpose(2, 1, 3, 0).flags.c_contiguous


def test_a_batch_of_nothing_gives_gradients_of_nothing():
    x, W, b = leaves(np.zeros((0, 2, 4, 4)), normal(3, 2, 2, 2), normal(3))
    y = tg.max_pool(tg.conv2d(x, W, b), 2)
    assert y.shape == (0, 3, 1, 1)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not W.grad.any()
    assert not b.grad.any()


def test_second_order_reaches_through_a_network():
    """The Hessian-vector product of a small network equals differences of its gradient."""
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=s) for s in [(2, 1, 6, 6), (2, 1, 3, 3), (2,)]]
    v = rng.normal(size=(2, 1, 3, 3))

    def gradient(W, create_graph=False):
        x, b = arrays[0], arrays[2]
        loss = (tg.max_pool(tg.tanh(tg.conv2d(x, W, b)), 2) ** 2).sum()
        return tg.gradients(loss, W, create_graph=create_graph)

    (W,) = leaves(arrays[1])
    exact = tg.gradients((gradient(W, create_graph=True) * v).sum(), W).data
    h = 1e-5
    ahead, behind = (gradient(*leaves(arrays[1] + step * v)).data for step in (h, -h))
    np.testing.assert_allclose(exact, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)


def test_integers_are_pooled_and_convolved_as_they_are():
    x = np.array([[[-3, -1, -2, 4]]])
    np.testing.assert_array_equal(tg.max_pool(x, 3, 1, 1), [[[-1, -1, 4, 4]]])
    np.testing.assert_array_equal(tg.conv1d(x, np.array([[[1, 1]]])), [[[-4, -3, 2]]])
