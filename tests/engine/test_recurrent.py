"""The loops of an LSTM and of a GRU: any size and magnitude, in both precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.ops import recurrent


def pulled(T: int, N: int, H: int, dtype: Any, scale: float = 1.0) -> list[Any]:
    """Outputs, memory, and the gradients of all arguments."""
    r = np.random.default_rng([T, N, H])
    shapes = (T, N, 4 * H), (H, 4 * H), (N, H), (N, H)
    inputs = [
        tg.Tensor((scale * r.normal(size=shape)).astype(dtype), requires_grad=True)
        for shape in shapes
    ]
    outputs, memory = tg.lstm(*inputs)
    g = r.normal(size=outputs.shape).astype(dtype)
    ((outputs * g).sum() + memory.sum()).backward()
    return [outputs.data, memory.data, *[x.grad for x in inputs]]


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 2, 1), (7, 3, 2), (40, 4, 5), (3, 2, 33)])
def test_float32_is_float64_rounded(size: tuple[int, int, int]) -> None:
    for single, double in zip(pulled(*size, np.float32), pulled(*size, np.float64), strict=True):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, rtol=1e-3, atol=2e-5 * np.abs(double).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gates_that_are_shut_or_open_do_not_overflow(dtype: Any) -> None:
    for array in pulled(4, 3, 2, dtype, scale=1e4):  # a warning would be an error here
        assert np.isfinite(array).all()


def test_open_gates_sum_what_comes_in() -> None:
    """With ``i = f = o = 1`` and ``n = 1`` the memory counts the steps; nothing flows back to z."""
    z = tg.Tensor(np.full((3, 1, 4), 800.0), requires_grad=True)
    outputs, memory = tg.lstm(z, np.zeros((1, 4)), np.zeros((1, 1)), np.zeros((1, 1)))
    np.testing.assert_array_equal(memory.data, [[3.0]])
    np.testing.assert_allclose(outputs.data[:, 0, 0], np.tanh([1.0, 2.0, 3.0]), rtol=1e-15)
    (outputs.sum() + memory.sum()).backward()
    np.testing.assert_array_equal(z.grad, np.zeros((3, 1, 4)))


@pytest.mark.parametrize("block", [1, 200, 1 << 17])
def test_it_agrees_with_pytorch_over_many_steps(block: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(recurrent, "BLOCK", block)  # 1, 2 or all steps at a time
    torch = pytest.importorskip("torch")
    T, N, H = 60, 3, 7
    outputs, memory, dz, dW, dh, dc = pulled(T, N, H, np.float64)
    r = np.random.default_rng([T, N, H])
    z, W, h, c = (
        torch.tensor(r.normal(size=shape), requires_grad=True)
        for shape in ((T, N, 4 * H), (H, 4 * H), (N, H), (N, H))
    )
    cell = torch.nn.LSTM(4 * H, H, dtype=torch.float64)
    cell.weight_ih_l0.data = torch.eye(4 * H, dtype=torch.float64)
    for bias in (cell.bias_ih_l0, cell.bias_hh_l0):
        bias.data = torch.zeros(4 * H, dtype=torch.float64)
    cell.weight_hh_l0.data = W.detach().T.contiguous()
    y, (_, last) = cell(z, (h[None], c[None]))
    ((y * torch.tensor(r.normal(size=y.shape))).sum() + last.sum()).backward()
    for ours, theirs in [
        (outputs, y), (memory, last[0]), (dz, z.grad), (dW, cell.weight_hh_l0.grad.T),
        (dh, h.grad), (dc, c.grad),
    ]:  # fmt: skip
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-10, atol=1e-11)


# -- GRU -------------------------------------------------------------------------------------------


def pulled_gru(T: int, N: int, H: int, dtype: Any, scale: float = 1.0) -> list[Any]:
    """The arguments, the outputs, their cotangent, and the gradients of all arguments."""
    r = np.random.default_rng([T, N, H])
    shapes = (T, N, 3 * H), (H, 3 * H), (3 * H,), (N, H)
    inputs = [
        tg.Tensor((scale * r.normal(size=shape)).astype(dtype), requires_grad=True)
        for shape in shapes
    ]
    outputs = tg.gru(*inputs)
    g = r.normal(size=outputs.shape).astype(dtype)
    outputs.backward(g)
    return [*[x.data for x in inputs], outputs.data, g, *[x.grad for x in inputs]]


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 2, 1), (7, 3, 2), (40, 4, 5), (3, 2, 33)])
def test_gru_in_float32_is_float64_rounded(size: tuple[int, int, int]) -> None:
    single, double = (pulled_gru(*size, dtype)[4:] for dtype in (np.float32, np.float64))
    for a, b in zip(single, double, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gates_of_a_gru_that_are_shut_or_open_do_not_overflow(dtype: Any) -> None:
    for array in pulled_gru(4, 3, 2, dtype, scale=1e4):  # a warning would be an error here
        assert np.isfinite(array).all()


def test_an_update_gate_that_is_open_keeps_the_state() -> None:
    """With ``u = 1`` the state stays, and its gradient is the sum of all cotangents."""
    z = np.zeros((3, 1, 3))
    z[..., 1] = 800.0
    h = tg.Tensor([[0.3]], requires_grad=True)
    outputs = tg.gru(z, np.zeros((1, 3)), np.zeros(3), h)
    np.testing.assert_array_equal(outputs.data, np.full((3, 1, 1), 0.3))
    outputs.backward(np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1))
    np.testing.assert_array_equal(h.grad, [[111.0]])


@pytest.mark.parametrize("block", [1, 200, 1 << 17])
def test_gru_agrees_with_pytorch_over_many_steps(block: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(recurrent, "BLOCK", block)  # 1, 2 or all steps at a time
    torch = pytest.importorskip("torch")
    T, N, H = 60, 3, 7
    *given, outputs, g, dz, dW, db, dh = pulled_gru(T, N, H, np.float64)
    z, W, b, h = (torch.tensor(a, requires_grad=True) for a in given)
    cell = torch.nn.GRU(3 * H, H, dtype=torch.float64)
    cell.weight_ih_l0.data = torch.eye(3 * H, dtype=torch.float64)
    cell.bias_ih_l0.data = torch.zeros(3 * H, dtype=torch.float64)
    cell.weight_hh_l0.data = W.detach().T.contiguous()
    cell.bias_hh_l0.data = b.detach()
    y, _ = cell(z, h[None])
    y.backward(torch.tensor(g))
    for ours, theirs in [
        (outputs, y), (dz, z.grad), (dW, cell.weight_hh_l0.grad.T), (db, cell.bias_hh_l0.grad),
        (dh, h.grad),
    ]:  # fmt: skip
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-10, atol=1e-11)
