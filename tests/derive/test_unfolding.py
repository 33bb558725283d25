"""`lstm` and `gru`, each one operation, are derived as the loops of their equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.program import ancestors

from .test_golden import body
from .test_loops import agrees

r = np.random.default_rng(5)


def parameter(*shape: int) -> tg.Tensor:
    return tg.Tensor(0.5 * r.normal(size=shape), requires_grad=True)


def agrees_with_backward(model: nn.Module, loss: tg.Tensor, d: Any) -> None:
    """All gradients of the derived function are those of the engine, in float64."""
    loss.backward()
    value, gradients = d.function(**d.arguments)
    np.testing.assert_allclose(value, loss.data, rtol=1e-12)
    named = dict(model.named_parameters())
    assert {*gradients} == {*named}
    for name, tensor in named.items():
        assert gradients[name].dtype == np.float64
        np.testing.assert_allclose(
            gradients[name], tensor.grad, rtol=1e-10, atol=1e-12 * np.abs(tensor.grad).max()
        )


LSTM = """N = x.shape[0]
b = b_x + b_h
c = [np.zeros((N, 2))]
h = [np.zeros((N, 2))]
i, f, g, o, u = [], [], [], [], []
for t in range(10):
    a = x[:, t] @ W_x + h[t] @ W_h + b
    i.append(1 / (1 + np.exp(-a[:, :2])))
    f.append(1 / (1 + np.exp(-a[:, 2:4])))
    g.append(np.tanh(a[:, 4:6]))
    o.append(1 / (1 + np.exp(-a[:, 6:])))
    c.append(f[t] * c[t] + i[t] * g[t])
    u.append(np.tanh(c[t + 1]))
    h.append(o[t] * u[t])
y = np.stack(h[1:], axis=1)
loss = np.sum(y**2)

# Backward
dy = 2 * y
db = np.zeros_like(b)
dW_x = np.zeros_like(W_x)
dW_h = np.zeros_like(W_h)
dh = np.zeros_like(h[-1])
dc = np.zeros_like(c[-1])
for t in reversed(range(10)):
    dh = dh + dy[:, t]
    do = dh * u[t]
    du = dh * o[t]
    dc = dc + du * (1 - u[t] ** 2)
    di = dc * g[t]
    dg = dc * i[t]
    df = dc * c[t]
    v = di * i[t] * (1 - i[t])
    s = df * f[t] * (1 - f[t])
    da = np.concatenate([v, s, dg * (1 - g[t] ** 2), do * o[t] * (1 - o[t])], axis=1)
    db += da.sum(axis=0)
    dW_x += x[:, t].T @ da
    dW_h += h[t].T @ da
    dh = da @ W_h.T
    dc = dc * f[t]
db_x = db
db_h = db
return loss, {"b_x": db_x, "b_h": db_h, "W_x": dW_x, "W_h": dW_h}"""

GRU = """N = x.shape[0]
h = [np.zeros((N, 2))]
v, r, u, n, e = [], [], [], [], []
for t in range(10):
    z = x[:, t] @ W_x + b_x
    v.append(h[t] @ W_h + b_h)
    a_r = z[:, :2] + v[t][:, :2]
    a_u = z[:, 2:4] + v[t][:, 2:4]
    r.append(1 / (1 + np.exp(-a_r)))
    u.append(1 / (1 + np.exp(-a_u)))
    a_n = z[:, 4:] + r[t] * v[t][:, 4:]
    n.append(np.tanh(a_n))
    e.append(1 - u[t])
    h.append(e[t] * n[t] + u[t] * h[t])
loss = np.sum(h[-1] ** 2)

# Backward
dW_h = np.zeros_like(W_h)
db_h = np.zeros_like(b_h)
dW_x = np.zeros_like(W_x)
db_x = np.zeros_like(b_x)
dh = 2 * h[-1]
for t in reversed(range(10)):
    dn = dh * e[t]
    du = dh * h[t] - dh * n[t]
    da_n = dn * (1 - n[t] ** 2)
    dr = da_n * v[t][:, 4:]
    da_u = du * u[t] * e[t]
    da_r = dr * r[t] * (1 - r[t])
    dv = np.concatenate([da_r, da_u, da_n * r[t]], axis=1)
    dW_h += h[t].T @ dv
    db_h += dv.sum(axis=0)
    dz = np.concatenate([da_r, da_u, da_n], axis=1)
    dW_x += x[:, t].T @ dz
    db_x += dz.sum(axis=0)
    dh = dh * u[t] + dv @ W_h.T
return loss, {"W_x": dW_x, "b_x": db_x, "W_h": dW_h, "b_h": db_h}"""


def recorded(layer: Any, steps: int, last: bool) -> tuple[nn.Module, tg.Tensor]:
    model = layer(3, 2, last=last, rng=0, dtype=np.float64)
    return model, (model(r.normal(size=(7, steps, 3))) ** 2).sum()


@pytest.mark.parametrize(("layer", "last", "text"), [(nn.LSTM, False, LSTM), (nn.GRU, True, GRU)])
def test_a_layer_word_for_word(layer: Any, last: bool, text: str) -> None:
    model, loss = recorded(layer, 10, last)
    d = tg.derive(loss)
    assert body(d) == text
    agrees_with_backward(model, loss, d)
    model, loss = recorded(layer, 200, last)
    long = tg.derive(loss)
    assert long.source == d.source.replace("range(10)", "range(200)")
    for form in ("text", "latex", "markdown"):
        assert len(getattr(long, form).split("\n")) == len(getattr(d, form).split("\n"))
    agrees_with_backward(model, loss, long)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_each_option(layer: Any, bias: bool, last: bool, steps: int) -> None:
    model = layer(3, 4, bias=bias, last=last, rng=1, dtype=np.float64)
    loss = (np.sin(model(r.normal(size=(5, steps, 3))))).mean()
    for loops in (True, False):
        d = tg.derive(loss, loops=loops)
        assert "_states" not in d.source
        assert "transpose" not in d.source
        assert "reshape" not in d.source
        assert ("b_" in d.source) is bias
        for _, tensor in model.named_parameters():
            tensor.grad = None
        agrees_with_backward(model, loss, d)


def test_layers_on_top_of_each_other() -> None:
    model = nn.Sequential(
        nn.LSTM(3, 4, rng=0, dtype=np.float64), nn.GRU(4, 5, rng=1, dtype=np.float64),
        nn.LSTM(5, 2, rng=2, last=True, dtype=np.float64), nn.Dense(2, 3, rng=3, dtype=np.float64),
    )  # fmt: skip
    x, t = r.normal(size=(6, 8, 3)), r.integers(3, size=6)
    loss = tg.softmax_cross_entropy(model(x), t)
    d = tg.derive(loss)
    assert d.source.count("for ") == 6
    assert "h[k + 1] @ W_x1" in d.source
    for needless in ("transpose", "reshape", "np.stack"):
        assert needless not in d.source
    agrees_with_backward(model, loss, d)


def test_an_embedding_below_and_every_output_above() -> None:
    model = nn.Sequential(
        nn.Embedding(9, 3, rng=0, dtype=np.float64), nn.GRU(3, 4, rng=1, dtype=np.float64),
        nn.Dense(4, 2, rng=2, dtype=np.float64),
    )  # fmt: skip
    loss = (model(r.integers(9, size=(5, 6))) ** 2).mean()
    d = tg.derive(loss)
    assert d.source.count("for t") == 2
    agrees_with_backward(model, loss, d)


def lstm(z, W, h, c, b):
    states, memory = tg.lstm(z, W, h, c, b)
    return (states**2).sum() + np.sin(memory).sum() + states[1:, :, 0].sum() + states[-1, 0, 0]


def gru(z, W, b, h):
    states = tg.gru(z, W, b, h)
    return (states[-1] ** 2).sum() + np.sin(states[::2]).sum() + states[..., 1].sum()


CASES = [
    (lstm, lambda: (parameter(6, 3, 8), parameter(2, 8), parameter(3, 2), parameter(3, 2), parameter(8))),
    (gru, lambda: (parameter(6, 3, 6), parameter(2, 6), parameter(6), parameter(3, 2))),
]  # fmt: skip


@pytest.mark.parametrize(("f", "inputs"), CASES)
def test_the_operation_itself_with_all_its_gradients(f: Any, inputs: Any) -> None:
    given = inputs()
    d = tg.derive(f, *given)
    assert d.source.count("for t in") == 2
    assert "states = np.stack(hs[1:], axis=0)" in body(d)
    agrees(d, f, *given)
    assert d.diff(d.source).first_wrong is None


@pytest.mark.parametrize(("f", "inputs"), CASES)
def test_the_second_derivative(f: Any, inputs: Any) -> None:
    z, *rest = [one.data for one in inputs()]
    z = tg.Tensor(z[:2], requires_grad=True)
    d = tg.derive(f, z, *rest, order=2)
    v = r.normal(size=z.shape)
    *_, second = d.function(**{**d.arguments, "vz": v})
    _, expected = tg.jvp(tg.grad(lambda z: f(z, *rest)), (z.data,), (v,))
    np.testing.assert_allclose(second["z"], expected, rtol=1e-9)


def test_a_state_that_is_given_and_an_input_that_needs_a_gradient() -> None:
    layer = nn.LSTM(3, 4, rng=0, dtype=np.float64)

    def f(x, h, c):
        outputs, (h, c) = layer.run(x, (h, c))
        return (outputs * np.cos(outputs)).sum() + (h * c).sum()

    inputs = parameter(5, 6, 3), parameter(5, 4), parameter(5, 4)
    d = tg.derive(f, *inputs, wrt=["x", "h", "c"])
    assert "dx[:, t] += da @ W.T" in d.source
    value, gradients = d.function(**d.arguments)
    loss = f(*inputs)
    loss.backward()
    np.testing.assert_allclose(value, loss.data)
    for name, one in zip("xhc", inputs):
        np.testing.assert_allclose(gradients[name], one.grad, rtol=1e-10, atol=1e-12)


def test_constants_are_arguments_with_their_names() -> None:
    z, h = r.normal(size=(5, 2, 6)), r.normal(size=(2, 2))
    W, b = parameter(2, 6), r.normal(size=6)
    loss = (tg.gru(z, W, b, h) ** 2).sum()
    d = tg.derive(loss, names={"W": W, "b": b})
    assert "[t] @ W + b" in d.source
    loss.backward()
    _, gradients = d.function(**d.arguments)
    np.testing.assert_allclose(gradients["W"], W.grad, rtol=1e-10)


def test_a_hook_on_the_outputs_is_kept() -> None:
    z, W, b, h = parameter(4, 2, 6), parameter(2, 6), parameter(6), parameter(2, 2)
    states = tg.gru(z, W, b, h)
    states.register_hook(lambda g: 3 * g)
    loss = (states**2).sum()
    d = tg.derive(loss, names={"z": z, "W": W, "b": b, "h": h})
    loss.backward()
    _, gradients = d.function(**d.arguments)
    np.testing.assert_allclose(gradients["z"], z.grad, rtol=1e-10)


def test_the_recorded_graph_stays_what_it_is() -> None:
    model, loss = recorded(nn.LSTM, 4, False)

    def graph() -> list[Any]:
        return [
            (node, node.primitive, node.inputs, node.name, node.order)
            for node in ancestors([loss.node])
        ]

    before = graph()
    tg.derive(loss)
    assert graph() == before
    loss.backward()
    assert all([tensor.grad is not None for _, tensor in model.named_parameters()])


def test_an_array_that_was_changed_is_an_error_as_ever() -> None:
    model, loss = recorded(nn.GRU, 4, False)
    model.W_h.data = 2 * model.W_h.data
    with pytest.raises(tg.errors.GradientError, match="changed"):
        tg.derive(loss)


def twice(layer: Any, x: Any) -> Any:
    return (np.concatenate([layer(x), layer(x[:, ::-1])[:, ::-1]], axis=2) ** 2).sum()


def continued(layer: Any, x: Any) -> Any:
    first, state = layer.run(x)
    second, _ = layer.run(2 * x, state)
    return (second**2).sum() + first.sum()


def in_parts(layer: Any, x: Any) -> Any:
    y = layer(x)
    parts = (y[:, -1] ** 2).sum() + y[:, 2, 1].sum() + y[..., 0].mean() + y[:, [1, 2]].sum()
    return parts + (np.transpose(y, (2, 0, 1))[1:, :, ::2] ** 2).sum() + y.reshape(35, 4)[3].sum()


@pytest.mark.parametrize("use", [twice, continued, in_parts])
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_outputs_and_states_are_used_in_any_way(layer: Any, use: Any) -> None:
    model, x = layer(3, 4, rng=0, dtype=np.float64), r.normal(size=(5, 7, 3))
    model(x)  # which gives the parameters their names
    loss = use(model, x)
    d = tg.derive(loss)
    assert "_states" not in d.source
    agrees_with_backward(model, loss, d)


@pytest.mark.parametrize("size", [(4, 4, 4), (1, 5, 4), (5, 1, 4), (1, 1, 1), (1, 4, 1)])
def test_axes_of_equal_lengths_are_not_mistaken(size: tuple[int, int, int]) -> None:
    model = nn.Sequential(*[nn.GRU(size[2], rng=i, dtype=np.float64) for i in range(2)])
    loss = np.sin(model(r.normal(size=size))).sum()
    agrees_with_backward(model, loss, tg.derive(loss))


def test_a_matrix_that_is_frozen() -> None:
    model = nn.LSTM(3, 4, rng=0, dtype=np.float64)
    model.W_x.requires_grad = False
    loss = (model(r.normal(size=(5, 6, 3))) ** 2).sum()
    d = tg.derive(loss)
    loss.backward()
    _, gradients = d.function(**d.arguments)
    assert {*gradients} == {"W_h", "b_x", "b_h"}
    np.testing.assert_allclose(gradients["W_h"], model.W_h.grad, rtol=1e-10)


def test_a_gradient_within_the_function() -> None:
    model = nn.LSTM(3, 2, rng=0, dtype=np.float64)

    def penalty(x):
        return (tg.grad(lambda x: (model(x) ** 2).sum())(x) ** 2).sum()

    x = parameter(4, 3, 3)
    d = tg.derive(penalty, x)
    assert "_states" not in d.source
    loss = penalty(x)
    loss.backward()
    value, gradients = d.function(**d.arguments)
    np.testing.assert_allclose(value, loss.data)
    np.testing.assert_allclose(gradients["x"], x.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axes", [(2, 0, 1), None])
def test_a_product_with_its_elements_elsewhere_is_no_input_of_steps(axes: Any) -> None:
    """(6, 10) as (2, 5, 6) without transposing it, and with the features where time is expected."""

    def f(columns, W_x, W, b, h):
        if axes is None:
            return (tg.gru(np.reshape(W_x.T @ columns, (2, 5, 6)), W, b, h) ** 2).sum()
        return (
            tg.gru(np.transpose(np.reshape(W_x.T @ columns, (5, 6, 2)), axes), W, b, h) ** 2
        ).sum()

    inputs = parameter(3, 10), parameter(3, 6), parameter(2, 6), parameter(6), parameter(5, 2)
    agrees(tg.derive(f, *inputs), f, *inputs)


def test_what_has_a_name_is_computed_where_it_was() -> None:
    def f(x, W_x, W, b, h):
        z = np.transpose(np.reshape(W_x.T @ np.reshape(x.T, (3, 20)), (6, 4, 5)), (1, 2, 0))
        return (tg.gru(z, W, b, h) ** 2).sum()

    inputs = parameter(5, 4, 3), parameter(3, 6), parameter(2, 6), parameter(6), parameter(5, 2)
    d = tg.derive(f, *inputs)
    assert "dz = np.zeros_like(z)" in d.source
    agrees(d, f, *inputs)
