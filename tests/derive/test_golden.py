"""What is printed, word for word, and that it computes what the engine computes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg

r = np.random.default_rng(0)


def parameter(*shape: int) -> tg.Tensor:
    return tg.Tensor(r.normal(size=shape), requires_grad=True)


def body(d: Any) -> str:
    """The derived function without its helpers and its first line."""
    lines = d.source.split("\n\n\n")[-1].split("\n")[1:]
    return "\n".join(line.removeprefix("    ") for line in lines)


def agrees(d: Any, f: Any, *inputs: Any, order: int = 1) -> None:
    """The derived function gives what the engine gives, in float64 and float32."""
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 2e-5)):
        arrays = [one.data if isinstance(one, tg.Tensor) else np.asarray(one) for one in inputs]
        arrays = [one.astype(dtype) if one.dtype.kind == "f" else one for one in arrays]
        tensors = [tg.Tensor(one, requires_grad=one.dtype.kind == "f") for one in arrays]
        loss = f(*tensors)
        loss.backward()
        value, grads = d.function(*arrays)
        np.testing.assert_allclose(value, loss.data, rtol=tolerance)
        assert grads
        for name, g in grads.items():
            expected = tensors[list(d.arguments).index(name)].grad
            assert np.asarray(g).dtype == dtype
            scale = np.abs(expected).max()
            np.testing.assert_allclose(g, expected, rtol=tolerance, atol=tolerance * scale)


def test_linear_regression() -> None:
    def loss(x, t, w, b):
        y = x @ w + b
        return np.mean((y - t) ** 2)

    inputs = r.normal(size=(10, 3)), r.normal(size=10), r.normal(size=3), 0.5
    d = tg.derive(loss, *inputs, wrt=["w", "b"])
    assert d.source == (
        """import numpy as np


def loss_and_gradients(x, t, w, b):
    N = x.shape[0]
    y = x @ w + b
    e = y - t
    loss = np.mean(e**2)

    # Backward
    dy = 2 * e / N
    dw = x.T @ dy
    db = dy.sum()
    return loss, {"w": dw, "b": db}"""
    )
    agrees(d, loss, *inputs)


def mlp(x, t, W1, b1, W2, b2):
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    z2 = h @ W2 + b2
    return tg.softmax_cross_entropy(z2, t)


def mlp_inputs(rows: int = 16, hidden: int = 5) -> tuple[Any, ...]:
    return (
        r.normal(size=(rows, 4)), r.integers(3, size=rows), parameter(4, hidden), parameter(hidden),
        parameter(hidden, 3), parameter(3),
    )  # fmt: skip


MLP = """N = x.shape[0]
z1 = x @ W1 + b1
h = np.maximum(z1, 0)
z2 = h @ W2 + b2
p = softmax(z2)
loss = -np.mean(log_softmax(z2)[np.arange(N), t])

# Backward
dz2 = (p - onehot(t)) / N
dW2 = h.T @ dz2
db2 = dz2.sum(axis=0)
dh = dz2 @ W2.T
dz1 = dh * (z1 > 0)
dW1 = x.T @ dz1
db1 = dz1.sum(axis=0)
return loss, {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}"""


def test_two_layers_with_softmax_cross_entropy() -> None:
    inputs = mlp_inputs()
    d = tg.derive(mlp, *inputs)
    assert body(d) == MLP
    assert list(d.arguments) == ["x", "t", "W1", "b1", "W2", "b2"]
    agrees(d, mlp, *inputs)


@pytest.mark.parametrize("rows", [2, 3, 4, 5])
def test_the_batch_is_found_where_other_lengths_are_the_same(rows: int) -> None:
    inputs = mlp_inputs(rows=rows)
    d = tg.derive(mlp, *inputs)
    assert body(d) == MLP
    more = mlp_inputs(rows=9)[:2]
    value, grads = d.function(*more, *[one.data for one in inputs[2:]])
    loss = mlp(*more, *inputs[2:])
    loss.backward()
    np.testing.assert_allclose(value, loss.data)
    np.testing.assert_allclose(grads["W1"], inputs[2].grad)


def test_a_recorded_loss_takes_names_from_locals() -> None:
    x, t, W1, b1, W2, b2 = mlp_inputs()
    z1 = x @ W1 + b1
    h = np.maximum(z1, 0)
    z2 = h @ W2 + b2
    loss = tg.softmax_cross_entropy(z2, t)
    d = tg.derive(loss, names=locals())
    assert body(d) == MLP


def test_a_tensor_used_twice() -> None:
    def f(x):
        y = np.exp(x)
        return (y * y + y).sum()

    d = tg.derive(f, r.normal(size=(2, 3)))
    assert body(d) == (
        """y = np.exp(x)
loss = np.sum(y * y + y)

# Backward
dy = 1 + 2 * y
dx = dy * y
return loss, {"x": dx}"""
    )
    agrees(d, f, r.normal(size=(2, 3)))


def test_a_recurrent_network_of_three_steps() -> None:
    def rnn(x, h, Wx, Wh, b, t):
        for k in range(3):
            h = np.tanh(x[:, k] @ Wx + h @ Wh + b)
        return tg.mean_squared_error(h, t)

    inputs = (
        r.normal(size=(8, 3, 4)), np.zeros((8, 5)), parameter(4, 5), parameter(5, 5), parameter(5),
        r.normal(size=(8, 5)),
    )  # fmt: skip
    d = tg.derive(rnn, *inputs)
    assert body(d) == (
        """z1 = x[:, 0] @ Wx + h @ Wh + b
h1 = np.tanh(z1)
z2 = x[:, 1] @ Wx + h1 @ Wh + b
h2 = np.tanh(z2)
z3 = x[:, 2] @ Wx + h2 @ Wh + b
h3 = np.tanh(z3)
loss = np.mean((h3 - t) ** 2)

# Backward
dh3 = 2 * (h3 - t) / h3.size
dz3 = dh3 * (1 - h3**2)
dh2 = dz3 @ Wh.T
dz2 = dh2 * (1 - h2**2)
dh1 = dz2 @ Wh.T
dz1 = dh1 * (1 - h1**2)
dWx = x[:, 2].T @ dz3 + x[:, 1].T @ dz2 + x[:, 0].T @ dz1
dWh = h2.T @ dz3 + h1.T @ dz2 + h.T @ dz1
db = dz3.sum(axis=0) + dz2.sum(axis=0) + dz1.sum(axis=0)
return loss, {"Wx": dWx, "Wh": dWh, "b": db}"""
    )
    agrees(d, rnn, *inputs)


def test_batch_norm_by_hand() -> None:
    def f(x, gamma, beta, t):
        mu = x.mean(axis=0)
        xc = x - mu
        var = (xc**2).mean(axis=0)
        std = np.sqrt(var + 1e-5)
        xhat = xc / std
        y = gamma * xhat + beta
        return ((y - t) ** 2).sum() / len(x)

    inputs = r.normal(size=(16, 3)), np.ones(3), np.zeros(3), r.normal(size=(16, 3))
    d = tg.derive(f, *inputs, wrt=["x", "gamma", "beta"])
    assert body(d).partition("# Backward\n")[2] == (
        """dy = 2 * e / N
dgamma = np.sum(dy * xhat, axis=0)
dbeta = dy.sum(axis=0)
dxhat = dy * gamma
dstd = -np.sum(dxhat * xhat / std, axis=0)
dvar = dstd / (2 * std)
dxc = dxhat / std + 2 * dvar * xc / N
dmu = -dxc.sum(axis=0)
dx = dxc + dmu / N
return loss, {"x": dx, "gamma": dgamma, "beta": dbeta}"""
    )
    agrees(d, f, *inputs)


def test_second_derivative_of_a_number() -> None:
    d = tg.derive(lambda x: x**3 + np.sin(x), 2.0, order=2)
    assert body(d).partition("# Backward\n")[2] == (
        """dx = np.cos(x) + 3 * x**2
ddx = 6 * x - v
return loss, {"x": dx}, {"x": ddx}"""
    )
    value, first, second = d.function(2.0)
    np.testing.assert_allclose(
        [value, first["x"], second["x"]], [8 + np.sin(2), np.cos(2) + 12, 12 - np.sin(2)]
    )


def test_second_derivatives_gather_terms_and_have_no_power_of_0() -> None:
    x, v = r.normal(size=3), r.normal(size=3)
    d = tg.derive(lambda x: np.sin(x * x).sum(), x, order=2)
    assert body(d).splitlines()[-2] == "ddx = 2 * vx * dv1 - 4 * vx * x * v2 * x"
    np.testing.assert_allclose(
        d.function(x, v)[2]["x"], v * (2 * np.cos(x * x) - 4 * x * x * np.sin(x * x))
    )
    d = tg.derive(lambda x: np.exp(-(x**2)).sum(), x, order=2)
    assert body(d).splitlines()[-2] == "ddx = -2 * vx * v + 4 * vx * x * v * x"
    np.testing.assert_allclose(d.function(x, v)[2]["x"], v * (4 * x * x - 2) * np.exp(-x * x))


def test_derive_of_a_gradient() -> None:
    d = tg.derive(tg.grad(lambda x: x**3), 2.0)
    assert body(d) == 'loss = 3 * x**2\n\n# Backward\ndx = 6 * x\nreturn loss, {"x": dx}'


def test_order_2_is_the_hessian_times_a_direction() -> None:
    inputs = mlp_inputs()
    d = tg.derive(mlp, *inputs, order=2)
    assert list(d.arguments)[6:] == ["vW1", "vb1", "vW2", "vb2"]
    vs = [r.normal(size=one.shape) for one in inputs[2:]]
    _, _, seconds = d.function(*inputs[:2], *[one.data for one in inputs[2:]], *vs)
    expected = tg.hvp(lambda *ps: mlp(*inputs[:2], *ps), [one.data for one in inputs[2:]], vs)
    for mine, theirs in zip(seconds.values(), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-14)


def test_a_model_of_layers() -> None:
    model = nn.Sequential(nn.Dense(4, 6, activation="relu", rng=0), nn.Dense(6, 3, rng=1))
    x, t = r.normal(size=(8, 4)), r.integers(3, size=8)
    loss = nn.SoftmaxCrossEntropy()(model(x), t)
    d = tg.derive(loss)
    assert body(d) == (
        """N = x.shape[0]
z0 = x @ W0 + b0
h0 = np.maximum(z0, 0)
z1 = h0 @ W1 + b1
p = softmax(z1)
loss = -np.mean(log_softmax(z1)[np.arange(N), t])

# Backward
dz1 = (p - onehot(t)) / N
dW1 = h0.T @ dz1
db1 = dz1.sum(axis=0)
dh0 = dz1 @ W1.T
dz0 = dh0 * (z0 > 0)
dW0 = x.T @ dz0
db0 = dz0.sum(axis=0)
return loss, {"0.W": dW0, "0.b": db0, "1.W": dW1, "1.b": db1}"""
    )
    loss.backward()
    _, grads = d.function(**d.arguments)
    for name, tensor in model.named_parameters():
        np.testing.assert_allclose(grads[name], tensor.grad, rtol=1e-5, atol=1e-7)
        assert grads[name].dtype == np.float32


def test_layers_without_loops_are_numbered() -> None:
    def deep(x, t, layers):
        h = x
        for W, b in layers:
            h = tg.sigmoid(h @ W + b)
        return ((h - t) ** 2).sum()

    layers = [(parameter(3, 3), parameter(3)) for _ in range(3)]
    d = tg.derive(deep, r.normal(size=(7, 3)), r.normal(size=(7, 3)), layers, loops=False)
    lines = body(d).split("\n")
    assert lines[:4] == [
        "z1 = x @ layers0_0 + layers0_1", "h1 = 1 / (1 + np.exp(-z1))",
        "z2 = h1 @ layers1_0 + layers1_1", "h2 = 1 / (1 + np.exp(-z2))",
    ]  # fmt: skip
    assert "dz2 = dh2 * h2 * (1 - h2)" in lines


def test_what_is_used_through_two_views_is_computed_once() -> None:
    def f(x, w):
        return (np.exp(x @ w).reshape(6) * np.exp(x @ w).reshape(6)[::-1]).sum()

    d = tg.derive(f, r.normal(size=(2, 4)), r.normal(size=(4, 3)))
    assert d.source.count("np.exp(") == 1
    agrees(d, f, r.normal(size=(2, 4)), r.normal(size=(4, 3)))


def test_source_passes_the_linter(tmp_path: Path) -> None:
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    if not Path(ruff).exists():
        pytest.skip("ruff is not installed")
    model = nn.Sequential(nn.Conv2d(1, 2, kernel=3, activation="gelu"), nn.Flatten(), nn.Dense(5))
    image = nn.SoftmaxCrossEntropy()(model(r.normal(size=(4, 1, 6, 6))), r.integers(5, size=4))
    for i, d in enumerate([
        tg.derive(mlp, *mlp_inputs()), tg.derive(mlp, *mlp_inputs(), order=2, comments=True),
        tg.derive(image),
    ]):  # fmt: skip
        (tmp_path / f"derived_{i}.py").write_text(d.source + "\n")
        assert max(map(len, d.source.split("\n"))) <= 120
    result = subprocess.run(
        [ruff, "check", "--isolated", "--select", "E4,E7,E9,F,UP,NPY,SIM,RET", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


# -- what reads well -------------------------------------------------------------------------------


def backward(d: Any) -> list[str]:
    return body(d).partition("# Backward\n")[2].split("\n")


def test_labels_that_are_a_part_of_an_array_are_its_part() -> None:
    def f(z, t):
        return tg.softmax_cross_entropy(z, t[:, 1])

    inputs = parameter(5, 3), r.integers(3, size=(5, 2))
    d = tg.derive(f, *inputs)
    assert "log_softmax(z)[np.arange(N), t[:, 1]]" in body(d)
    agrees(d, f, *inputs)


def test_classes_that_are_the_batch_are_given() -> None:
    def f(z):
        return tg.softmax_cross_entropy(z @ z.T, np.arange(len(z)))

    inputs = (parameter(5, 3),)
    d = tg.derive(f, *inputs)
    assert "onehot(np.arange(N), N)" in d.source
    agrees(d, f, *inputs)


def test_parts_side_by_side_are_joined() -> None:
    def f(x, W):
        z = x @ W
        return (np.tanh(z[:, :2]) * z[:, 2:4] * np.exp(z[:, 4:])).sum()

    inputs = r.normal(size=(6, 3)), parameter(3, 6)
    d = tg.derive(f, *inputs)
    assert any("np.concatenate([" in line for line in backward(d))
    assert "scatter_add" not in d.source
    agrees(d, f, *inputs)

    def g(x, W):
        q, k, v = np.moveaxis((x @ W).reshape(4, 3, 2), 1, 0)
        return (np.tanh(q) * k + np.sin(v)).sum()

    inputs = r.normal(size=(4, 3)), parameter(3, 6)
    d = tg.derive(g, *inputs)
    assert any("np.stack([" in line for line in backward(d))
    agrees(d, g, *inputs)


def test_parts_of_parts_have_one_index() -> None:
    def f(x):
        return (x[:, 1:4][:, :2][:, 1] ** 2).sum()

    d = tg.derive(f, r.normal(size=(5, 6)))
    assert "x[:, 2] ** 2" in body(d)
    assert "np.s_[:, 2]" in body(d)
    agrees(d, f, r.normal(size=(5, 6)))


def test_factors_cancel_and_signs_go_to_the_front() -> None:
    def f(a, b):
        na = np.sqrt((a * a).sum(axis=1))
        return ((a * b).sum(axis=1) / na - na).sum()

    inputs = parameter(5, 3), r.normal(size=(5, 3))
    d = tg.derive(f, *inputs)
    assert "2 *" not in body(d)
    agrees(d, f, *inputs)

    def g(x, w):
        y = -w
        e = x * y
        return (0.25 * e - (w - x) * e).mean()

    inputs = r.normal(size=(5, 3)), parameter(3)
    d = tg.derive(g, *inputs)
    for wrong in ("+ -", "- -", "--", "-("):
        assert wrong not in "\n".join(backward(d))
    agrees(d, g, *inputs)


def test_ones_are_not_multiplied() -> None:
    def f(x, W, v):
        return (tg.softplus(x @ W) @ v).sum()

    inputs = r.normal(size=(6, 3)), parameter(3, 2), parameter(2)
    d = tg.derive(f, *inputs)
    assert "dv = h.sum(axis=0)" in backward(d)
    assert "ones" not in body(d)
    agrees(d, f, *inputs)

    def g(A, B, c):
        return np.einsum("ik,k->", np.einsum("ij,jk->ik", A, B), c)

    inputs = parameter(3, 4), parameter(4, 2), parameter(2)
    d = tg.derive(g, *inputs)
    assert "ones" not in body(d)
    assert 'np.einsum("ij,jk->ik", A, B)' in body(d)
    agrees(d, g, *inputs)


def test_a_gradient_whose_name_an_argument_has_keeps_its_own() -> None:
    def f(x, dx):
        y = x * dx
        return (y * y).sum()

    inputs = parameter(3), parameter(3)
    d = tg.derive(f, *inputs)
    assert body(d).split("\n")[-1] == 'return loss, {"x": dx1, "dx": ddx}'
    agrees(d, f, *inputs)


def test_nested_arguments_keep_every_gradient() -> None:
    def f(x, p):
        h = np.tanh(x @ p["first"]["W"])
        return (h @ p["last"]["W"]).sum()

    p = {"first": {"W": parameter(3, 4)}, "last": {"W": parameter(4, 2)}}
    d = tg.derive(f, r.normal(size=(5, 3)), p)
    gradients = d.function(**d.arguments)[1]
    assert list(gradients) == ["first.W", "last.W"]
    assert [g.shape for g in gradients.values()] == [(3, 4), (4, 2)]


def test_the_transpose_of_a_product_of_stacks_is_a_product() -> None:
    def f(x, Wq, Wk):
        q, k = x @ Wq, x @ Wk
        return (tg.softmax(q @ k.mT) ** 2).sum()

    inputs = r.normal(size=(2, 5, 4)), parameter(4, 3), parameter(4, 3)
    d = tg.derive(f, *inputs)
    assert re.search(r"dk = dz\d*\.mT @ q$", body(d), re.MULTILINE)
    agrees(d, f, *inputs)
