from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.engine.arrays import numerical_gradient
from tinygrad_np.errors import ArgumentError, DtypeError, ShapeError


def float64(**options):
    return dict(
        rng=np.random.default_rng(3), dtype=np.float64, bias_init=nn.init.normal(0.1), **options
    )


def data(n=5, features=4, classes=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, features)), rng.integers(classes, size=n)


# --- backprop, derived by hand ---


def backprop_relu_softmax(x, t, W1, b1, W2, b2):
    """``L = -mean_n log softmax(relu(x W1 + b1) W2 + b2)[n, t_n]``, and all that backprop gives."""
    n = len(x)
    z1 = x @ W1 + b1
    h = np.where(z1 > 0, z1, 0)
    z2 = h @ W2 + b2
    p = np.exp(z2) / np.exp(z2).sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(n), t]).mean()
    dz2 = p.copy()
    dz2[np.arange(n), t] -= 1
    dz2 /= n
    dW2 = h.T @ dz2
    db2 = dz2.sum(axis=0)
    dh = dz2 @ W2.T
    dz1 = dh * (z1 > 0)
    dW1 = x.T @ dz1
    db1 = dz1.sum(axis=0)
    dx = dz1 @ W1.T
    grads = {
        "dz2": dz2,
        "dW2": dW2,
        "db2": db2,
        "dh": dh,
        "dz1": dz1,
        "dW1": dW1,
        "db1": db1,
        "dx": dx,
    }
    return loss, z2, grads


def test_two_layers_agree_with_hand_derived_backprop_in_every_intermediate():
    array, t = data()
    first, second = nn.Dense(4, 6, **float64()), nn.Dense(6, 3, **float64())
    x = tg.Tensor(array, requires_grad=True)
    z1 = first(x)
    h = nn.ReLU()(z1)
    z2 = second(h)
    for intermediate in (z1, h, z2):
        intermediate.retain_grad()
    loss = nn.SoftmaxCrossEntropy()(z2, t)
    loss.backward()

    weights = (first.W.data, first.b.data, second.W.data, second.b.data)
    expected_loss, expected_z2, expected = backprop_relu_softmax(array, t, *weights)
    assert 0 < (z1.data > 0).mean() < 1  # both sides of the kink are tried
    np.testing.assert_allclose(loss.item(), expected_loss, rtol=1e-13)
    np.testing.assert_allclose(z2.data, expected_z2, rtol=1e-13)
    found = {
        "dz2": z2.grad, "dW2": second.W.grad, "db2": second.b.grad, "dh": h.grad, "dz1": z1.grad,
        "dW1": first.W.grad, "db1": first.b.grad, "dx": x.grad,
    }  # fmt: skip
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-12, atol=1e-15, err_msg=name)


def test_sigmoid_layers_with_half_squared_error_agree_with_hand_derived_backprop():
    x, _ = data()
    y = np.random.default_rng(1).uniform(size=(5, 3))
    options = float64(activation="sigmoid")
    first, second = nn.Dense(4, 6, **options), nn.Dense(6, 3, **options)
    loss = nn.HalfSquaredError()(second(first(x)), y)
    loss.backward()

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    h = sigmoid(x @ first.W.data + first.b.data)
    o = sigmoid(h @ second.W.data + second.b.data)
    dz2 = (o - y) / 5 * o * (1 - o)
    dz1 = dz2 @ second.W.data.T * h * (1 - h)
    np.testing.assert_allclose(loss.item(), ((o - y) ** 2).sum() / 2 / 5, rtol=1e-13)
    np.testing.assert_allclose(second.W.grad, h.T @ dz2, rtol=1e-12)
    np.testing.assert_allclose(second.b.grad, dz2.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(first.W.grad, x.T @ dz1, rtol=1e-12)
    np.testing.assert_allclose(first.b.grad, dz1.sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax", "log_softmax", None])
def test_gradients_agree_with_finite_differences(activation):
    x, t = data()
    model = nn.Sequential(nn.Dense(4, 6, activation=activation, **float64()),
                          nn.Dense(6, 3, **float64()))  # fmt: skip
    loss = nn.SoftmaxCrossEntropy()
    loss(model(x), t).backward()
    state = model.state_dict()

    def value(*arrays):
        model.load_state_dict(dict(zip(state, arrays)))
        return loss(model(x), t).data

    numerical = numerical_gradient(value, list(state.values()), np.array(1.0))
    for parameter, gradient in zip(model.parameters(), numerical):
        np.testing.assert_allclose(parameter.grad, gradient, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax", "log_softmax", None])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_agrees_with_pytorch(activation, bias):
    torch = pytest.importorskip("torch")
    array, _ = data()
    cotangent = np.random.default_rng(2).normal(size=(5, 3))
    layer = nn.Dense(4, 3, activation=activation, bias=bias, **float64())
    twin = torch.nn.Linear(4, 3, bias=bias, dtype=torch.float64)
    twin.weight.data = torch.tensor(layer.W.data.T.copy())
    if bias:
        twin.bias.data = torch.tensor(layer.b.data)
    functions = {
        "softmax": lambda z: torch.softmax(z, 1), "log_softmax": lambda z: torch.log_softmax(z, 1),
        "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, None: lambda z: z,
    }  # fmt: skip
    x, x_twin = tg.Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    y, y_twin = layer(x), functions[activation](twin(x_twin))
    y.backward(cotangent)
    y_twin.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(y.data, y_twin.detach(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(x.grad, x_twin.grad, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(layer.W.grad, twin.weight.grad.T, rtol=1e-11, atol=1e-14)
    if bias:
        np.testing.assert_allclose(layer.b.grad, twin.bias.grad, rtol=1e-11, atol=1e-14)


# --- activations ---


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("relu", nn.ReLU()), ("sigmoid", nn.Sigmoid()), ("tanh", nn.Tanh()),
        ("softmax", nn.Softmax()), ("log_softmax", nn.LogSoftmax()),
    ],
)  # fmt: skip
def test_an_activation_by_name_by_module_and_by_function_is_the_same(name, module):
    x, _ = data()
    layers = [nn.Dense(4, 3, activation=a, rng=0) for a in (name, module, getattr(tg, name))]
    outputs = [layer(x).data for layer in layers]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])
    assert not np.array_equal(outputs[0], nn.Dense(4, 3, rng=0)(x).data)


def test_linear_is_no_activation():
    assert nn.Dense(2, 3, activation="linear").activation is None


def test_softmax_modules_take_an_axis():
    z = np.log([[1.0, 3.0], [1.0, 1.0]])
    np.testing.assert_allclose(nn.Softmax(axis=0)(z), [[0.5, 0.75], [0.5, 0.25]])
    np.testing.assert_allclose(nn.LogSoftmax(axis=0)(z), np.log([[0.5, 0.75], [0.5, 0.25]]))


def test_an_activation_with_parameters_is_trained():
    class PReLU(nn.Module):
        def __init__(self):
            self.slope = tg.Tensor(0.25, requires_grad=True)

        def forward(self, x):
            return tg.where(x > 0, x, x * self.slope)

    layer = nn.Dense(2, 3, activation=PReLU())
    assert [path for path, _ in layer.named_parameters()] == ["activation.slope", "W", "b"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("rulu", "softsign, softmax, log_softmax, got 'rulu'. Did you mean 'relu' or 'relu6'"),
        ("ReLU", "got 'ReLU'. Did you mean 'relu' or"),
        ("log-softmax", "got 'log-softmax'. Did you mean 'log_softmax' or 'softmax' or"),
        ("swoosh!", "got 'swoosh!'."),
        (3, "activation: expected a callable or one of linear, relu,"),
    ],
)  # fmt: skip
def test_unknown_activations_are_refused_with_the_near_names(given, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        nn.Dense(2, activation=given)


# --- sizes ---


def test_the_input_size_comes_from_the_first_batch():
    late, early = nn.Dense(3, rng=7), nn.Dense(4, 3, rng=7)
    assert (late.built, early.built) == (False, True)
    assert repr(late) == "Dense(3)"
    x, _ = data()
    np.testing.assert_array_equal(late(x).data, early(x).data)
    assert late.W.shape == (4, 3)
    assert repr(late) == "Dense(4, 3)"


def test_without_bias_there_is_none():
    layer = nn.Dense(4, 3, bias=False)
    x, _ = data()
    assert layer.b is None
    assert [path for path, _ in layer.named_parameters()] == ["W"]
    np.testing.assert_allclose(layer(x).data, x.astype(np.float32) @ layer.W.data, rtol=1e-6)


def test_leading_axes_are_kept():
    layer = nn.Dense(4, 3, **float64())
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    np.testing.assert_allclose(layer(x).data, x @ layer.W.data + layer.b.data, rtol=1e-13)
    assert layer(x[0, 0]).shape == (3,)
    assert layer(x[:0]).shape == (0, 5, 3)


@pytest.mark.parametrize("features", [(), (1, 2, 3), ("relu",), (4, "relu"), (0,), (2.0,), (-1, 3)])
def test_sizes_that_are_no_sizes_are_refused(features):
    text = (
        "Dense: expected (in, out) or (out,) as whole numbers of at least 1, "
        f"got ({', '.join(map(repr, features))}). Everything else is given by keyword"
    )
    with pytest.raises(ArgumentError, match=re.escape(text)):
        nn.Dense(*features)


def test_a_wrong_feature_count_names_the_layer():
    model = nn.Sequential(nn.Dense(4, 6, activation="relu"), nn.Dense(7, 3))
    text = "Dense(7, 3) with weights '1.W': expected x (..., 7), got (5, 6)."
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
        model(data()[0])
    text = "Dense(4, 6, activation='relu') with weights '0.W': expected x (..., 4), got (5, 2, 2). "
    with pytest.raises(ShapeError, match=f"^{re.escape(text)}Flatten the rows first"):
        model(np.ones((5, 2, 2)))
    with pytest.raises(ShapeError, match=r"expected x \(\.\.\., 4\), got \(\)\.$"):
        model(1.0)


@pytest.mark.parametrize("shape", [(), (4,), (4, 0)])
def test_a_first_batch_without_features_is_refused(shape):
    layer = nn.Dense(3)
    text = re.escape(f"Dense(3): expected a first batch (N, features), got {shape}.")
    with pytest.raises(ShapeError, match=f"^{text}$"):
        layer(np.ones(shape))
    assert not layer.built


# --- dtypes ---


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, bool])
def test_plain_batches_take_the_dtype_of_the_parameters(dtype):
    model = nn.Sequential(nn.Dense(4, 6, activation="relu"), nn.Dense(6, 3))
    x = np.arange(20).reshape(5, 4).astype(dtype)
    y = model(x)
    y.sum().backward()
    assert (y.dtype, model[0].W.dtype, model[0].W.grad.dtype) == (np.float32,) * 3
    assert x.dtype == dtype
    np.testing.assert_array_equal(y.data, model(x.astype(np.float32)).data)
    np.testing.assert_array_equal(y.data, model(x.tolist()).data)


def test_a_tensor_keeps_its_dtype_as_in_numpy():
    layer = nn.Dense(4, 3)
    x = tg.Tensor(np.ones((2, 4)), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, layer.W.grad.dtype) == (np.float64, np.float64, np.float32)


def test_float64_is_float64_throughout():
    layer = nn.Dense(4, 3, activation="tanh", dtype=np.float64)
    y = layer(np.ones((2, 4), np.float32))
    y.sum().backward()
    assert (y.dtype, layer.W.grad.dtype, layer.b.grad.dtype) == (np.float64,) * 3


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ([["a", "b"]], "Dense: expected real numbers, got dtype <U1. Convert them first."),
        ([[1.0], [1.0, 2.0]], "Dense: expected numbers in rows of equal length, got list:"),
        ([[None, 1]], "Dense: expected real numbers, got dtype object."),
        ([[1j, 1]], "Dense: expected real numbers, got dtype complex128."),
    ],
)
def test_batches_that_are_not_real_numbers_are_refused(x, text):
    with pytest.raises(DtypeError, match=re.escape(text)):
        nn.Dense(2, 3)(x)
