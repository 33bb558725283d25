"""Embedding, dropout, activations, containers, and what all layers have in common."""

from __future__ import annotations

import copy
import math
import pickle
import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn.layers.activation import ACTIVATIONS
from tests.engine.arrays import numerical_gradient
from tests.nn.twins import check_with_pytorch, draw, float64, pulled, shaken
from tinygrad_np.errors import ArgumentError, DtypeError, IndexingError, ShapeError

# --- embedding ---


def test_embedding_agrees_with_its_definition():
    layer = nn.Embedding(5, 3, **float64())
    ids = np.array([[1, 4, 1], [0, 1, 4]])
    y = layer(ids)
    g = draw(2, 3, 3)
    y.backward(g)
    onehot = np.eye(5)[ids.reshape(-1)]  # y = onehot W, so dW = onehot^T g
    np.testing.assert_array_equal(y.data.reshape(6, 3), onehot @ layer.W.data)
    np.testing.assert_allclose(layer.W.grad, onehot.T @ g.reshape(6, 3), rtol=1e-13)
    assert not layer.W.grad[[2, 3]].any()


def test_embedding_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    layer = nn.Embedding(5, 3, **float64())
    W = torch.tensor(layer.W.data, requires_grad=True)
    ids, g = np.array([1, 4, 1]), draw(3, 3)
    layer(ids).backward(g)
    torch.nn.functional.embedding(torch.tensor(ids), W).backward(torch.tensor(g))
    np.testing.assert_allclose(layer.W.grad, W.grad, rtol=1e-13)


def test_embedding_draws_from_a_standard_normal():
    W = nn.Embedding(200, 100, rng=0).W.data
    assert W.dtype == np.float32
    np.testing.assert_allclose([W.mean(), W.std()], [0, 1], atol=0.02)


@pytest.mark.parametrize(
    ("ids", "error", "text"),
    [
        ([[5]], IndexingError, "Embedding(5, 3) with weights '0.W': embedding: expected ids in 0"),
        ([-1], IndexingError, "ids in 0 ... 4 for W (5, 3), got -1 ... -1."),
        ([1.0], DtypeError, "with weights '0.W': embedding: expected integer ids"),
    ],
)
def test_ids_that_do_not_fit_name_the_layer(ids, error, text):
    with pytest.raises(error, match=re.escape(text)):
        nn.Sequential(nn.Embedding(5, 3))(ids)
    with pytest.raises(ArgumentError, match=re.escape("Embedding: expected (count, features) as")):
        nn.Embedding(5, 0)


# --- dropout ---


def test_dropout_scales_what_it_keeps_and_passes_gradients_there():
    x = 1 + draw(1000) ** 2
    y, g, grads = pulled(nn.Sequential(nn.Dropout(0.25, rng=0)), x)
    kept = y != 0
    np.testing.assert_allclose(kept.mean(), 0.75, atol=0.05)
    np.testing.assert_allclose(y[kept], x[kept] / 0.75, rtol=1e-15)
    np.testing.assert_allclose(grads["x"], np.where(kept, g / 0.75, 0), rtol=1e-15)


def test_dropout_draws_from_the_generator_of_nn_or_its_own():
    x, layer = np.ones(50), nn.Dropout()
    nn.seed(1)
    first, second = layer(x), layer(x)
    nn.seed(1)
    np.testing.assert_array_equal(layer(x), first)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(nn.Dropout(rng=2)(x), nn.Dropout(rng=2)(x))
    own = nn.Dropout(rng=2)
    assert not np.array_equal(own(x), own(x))


def test_dropout_does_nothing_in_evaluation_or_with_p_0():
    x = tg.Tensor(np.ones(5), requires_grad=True)
    assert nn.Dropout(0.9).eval()(x) is x
    assert nn.Dropout(0)(x) is x
    assert not nn.Dropout(1)(x).data.any()


def test_dropout_refuses():
    with pytest.raises(
        ArgumentError, match=re.escape("Dropout: expected a probability p in [0, 1]")
    ):
        nn.Dropout(1.5)
    with pytest.raises(DtypeError, match=r"^Dropout\(0\.5\) at '1': dropout: .* floating-point"):
        nn.Sequential(nn.ReLU(), nn.Dropout())(np.ones(3, int))


# --- activations ---

MODULES = {
    "relu": nn.ReLU(), "relu6": nn.ReLU6(), "leaky_relu": nn.LeakyReLU(), "elu": nn.ELU(),
    "celu": nn.CELU(), "selu": nn.SELU(), "gelu": nn.GELU(), "silu": nn.SiLU(), "mish": nn.Mish(),
    "softplus": nn.Softplus(), "sigmoid": nn.Sigmoid(), "log_sigmoid": nn.LogSigmoid(),
    "hardsigmoid": nn.Hardsigmoid(), "hardswish": nn.Hardswish(), "tanh": nn.Tanh(),
    "softsign": nn.Softsign(), "softmax": nn.Softmax(), "log_softmax": nn.LogSoftmax(),
}  # fmt: skip


def test_every_activation_has_a_module_and_a_name():
    assert MODULES.keys() == ACTIVATIONS.keys() - {"linear"}
    assert len({type(module) for module in MODULES.values()}) == len(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_an_activation_by_name_by_module_and_by_function_is_the_same(name):
    x = 3 * draw(5, 4)
    layers = [nn.Dense(4, 3, activation=a, rng=0) for a in (name, MODULES[name], getattr(tg, name))]
    outputs = [layer(x).data for layer in layers]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])
    assert not np.array_equal(outputs[0], nn.Dense(4, 3, rng=0)(x).data)
    assert repr(layers[0]) == f"Dense(4, 3, activation='{name}')"


def test_activations_agree_with_pytorch():
    torch = pytest.importorskip("torch").nn
    x = 3 * draw(5, 4)
    for ours, theirs in [
        (nn.ReLU(), torch.ReLU()), (nn.ReLU6(), torch.ReLU6()), (nn.SELU(), torch.SELU()),
        (nn.LeakyReLU(0.2), torch.LeakyReLU(0.2)), (nn.ELU(0.5), torch.ELU(0.5)),
        (nn.CELU(0.5), torch.CELU(0.5)), (nn.GELU(), torch.GELU()), (nn.SiLU(), torch.SiLU()),
        (nn.GELU("tanh"), torch.GELU("tanh")), (nn.Mish(), torch.Mish()),
        (nn.Softplus(2.0), torch.Softplus(2.0, threshold=100)), (nn.Sigmoid(), torch.Sigmoid()),
        (nn.LogSigmoid(), torch.LogSigmoid()), (nn.Hardswish(), torch.Hardswish()),
        (nn.Tanh(), torch.Tanh()), (nn.Softsign(), torch.Softsign()),
        (nn.Softmax(axis=0), torch.Softmax(0)), (nn.LogSoftmax(), torch.LogSoftmax(-1)),
    ]:  # fmt: skip
        check_with_pytorch(ours, theirs, x, {})


def sigma(x):
    return 1 / (1 + np.exp(-x))


def normal_cdf(x):
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.flat]).reshape(x.shape)


def gelu_tanh_slope(x):
    """``y = x (1 + t) / 2`` with ``t = tanh(u)``, so ``(1 + t) / 2 + x (1 - t^2) u' / 2``."""
    c = math.sqrt(2 / math.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return (1 + t) / 2 + x * (1 - t * t) * c * (1 + 3 * 0.044715 * x**2) / 2


def mish_slope(x):
    """``y = x t`` with ``t = tanh(s)``, ``s = log(1 + e^x)`` and ``s' = sigma(x)``."""
    t = np.tanh(np.log1p(np.exp(x)))
    return t + x * (1 - t * t) * sigma(x)


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al., equation 14
BY_HAND = [  # the module, its value, and its slope as one derives it from the value
    (nn.ReLU(), lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0)),
    (nn.ReLU6(), lambda x: np.clip(x, 0, 6), lambda x: 1.0 * ((x > 0) & (x < 6))),
    (nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x), lambda x: np.where(x > 0, 1, 0.2)),
    (nn.ELU(0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)),
     lambda x: np.where(x > 0, 1, 0.5 * np.exp(x))),
    (nn.CELU(0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5)),
     lambda x: np.where(x > 0, 1, np.exp(x / 0.5))),
    (nn.SELU(), lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(x)),
     lambda x: SCALE * np.where(x > 0, 1, ALPHA * np.exp(x))),
    # (x Phi(x))' = Phi(x) + x phi(x)
    (nn.GELU(), lambda x: x * normal_cdf(x),
     lambda x: normal_cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
    (nn.GELU("tanh"),
     lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
     gelu_tanh_slope),
    (nn.SiLU(), lambda x: x * sigma(x), lambda x: sigma(x) + x * sigma(x) * (1 - sigma(x))),
    (nn.Mish(), lambda x: x * np.tanh(np.log1p(np.exp(x))), mish_slope),
    (nn.Softplus(2.0), lambda x: np.log1p(np.exp(2 * x)) / 2, lambda x: sigma(2 * x)),
    (nn.Sigmoid(), sigma, lambda x: sigma(x) * (1 - sigma(x))),
    (nn.LogSigmoid(), lambda x: np.log(sigma(x)), lambda x: 1 - sigma(x)),
    # PyTorch's slope is 1/6 rounded to float32, also in float64.
    (nn.Hardsigmoid(), lambda x: np.clip(x / 6 + 0.5, 0, 1), lambda x: (np.abs(x) < 3) / 6),
    (nn.Hardswish(), lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
     lambda x: np.where(x > 3, 1, np.where(x < -3, 0, (2 * x + 3) / 6))),
    (nn.Tanh(), np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    (nn.Softsign(), lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
]  # fmt: skip


@pytest.mark.parametrize(("module", "value", "slope"), BY_HAND, ids=lambda m: repr(m)[:20])
def test_activations_agree_with_slopes_derived_by_hand(module, value, slope):
    x = 3 * draw(50)
    y, g, grads = pulled(module, x)
    np.testing.assert_allclose(y, value(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grads["x"], g * slope(x), rtol=1e-11, atol=1e-14)


def test_softmax_and_its_logarithm_agree_with_jacobians_derived_by_hand():
    """``dp_i / dx_j = p_i (delta_ij - p_j)`` and ``d log p_i / dx_j = delta_ij - p_j``, row by row."""
    x = 3 * draw(5, 4)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    for module, value, jacobian in [
        (nn.Softmax(), p, lambda p: np.diag(p) - np.outer(p, p)),
        (nn.LogSoftmax(), np.log(p), lambda p: np.eye(4) - p),
    ]:
        y, g, grads = pulled(module, x)
        np.testing.assert_allclose(y, value, rtol=1e-12)
        expected = [g_row @ jacobian(p_row) for g_row, p_row in zip(g, p)]
        np.testing.assert_allclose(grads["x"], expected, rtol=1e-11, atol=1e-13)


def test_every_activation_is_derived_by_hand():
    derived = {type(module) for module, *_ in BY_HAND} | {nn.Softmax, nn.LogSoftmax}
    assert derived == {type(module) for module in MODULES.values()}


def test_repr_shows_options_that_differ():
    assert repr(nn.LeakyReLU()) == "LeakyReLU()"
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.GELU("tanh")) == "GELU(approximate='tanh')"
    assert repr(nn.Softmax(axis=0)) == "Softmax(axis=0)"


# --- containers ---


def test_residual_adds_its_input():
    layer = nn.Residual(nn.Dense(4, 6, activation="tanh", **float64()), nn.Dense(6, 4, **float64()))
    x = draw(5, 4)
    y, g, grads = pulled(layer, x)
    inner = nn.Sequential(*layer)
    z, _, of_layers = pulled(inner, x)
    np.testing.assert_allclose(y, x + z, rtol=1e-15)
    np.testing.assert_allclose(grads["x"], g + of_layers["x"], rtol=1e-13)
    assert list(grads) == ["x", "0.W", "0.b", "1.W", "1.b"]
    text = "Residual() with weights '0.0.W': expected layers that keep the shape of x, (5, 4), got (5, 1)."
    with pytest.raises(ShapeError, match=re.escape(text)):
        nn.Sequential(nn.Residual(nn.Dense(4, 1)))(x)


def test_module_list_is_a_list():
    a, b, c = nn.Dense(2, 2), nn.Dense(2, 2), nn.ReLU()
    modules = nn.ModuleList([a])
    modules.append(b)
    modules.insert(0, c)
    assert (len(modules), list(modules), modules[-1], modules[1:]) == (3, [c, a, b], b, [a, b])
    modules[1] = b
    del modules[0]
    assert list(modules) == [b, b]
    assert [name for name, _ in modules.named_parameters()] == ["0.W", "0.b"]
    assert repr(nn.ModuleList([c])) == "ModuleList(\n  0: ReLU()\n)"
    for wrong in (lambda: modules.append(np.tanh), lambda: nn.ModuleList(["relu"])):
        with pytest.raises(ArgumentError, match=r"^ModuleList: expected modules, got "):
            wrong()
    assert not modules.eval()[0].training


def test_module_list_and_dict_are_found_in_a_module():
    class Model(nn.Module):
        def __init__(self):
            self.blocks = nn.ModuleList([nn.Dense(2, 2)])
            self.heads = nn.ModuleDict({"a": nn.Dense(2, 1, bias=False)})

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.heads["a"](x)

    model = Model()
    assert list(model.state_dict()) == ["blocks.0.W", "blocks.0.b", "heads.a.W"]
    assert model(np.ones((3, 2))).shape == (3, 1)


def test_module_dict_is_a_dict():
    a, b = nn.Dense(2, 2), nn.ReLU()
    modules = nn.ModuleDict({"a": a})
    modules["b"] = b
    assert (len(modules), list(modules), list(modules.keys())) == (2, ["a", "b"], ["a", "b"])
    assert (list(modules.values()), list(modules.items())) == ([a, b], [("a", a), ("b", b)])
    assert "a" in modules
    del modules["a"]
    assert "a" not in modules
    with pytest.raises(ArgumentError, match=r"^ModuleDict: expected modules, got 3"):
        modules["c"] = 3


def test_tied_weights_are_listed_once_and_get_both_gradients():
    class Autoencoder(nn.Module):
        def __init__(self):
            self.encoder = nn.Dense(4, 3, activation="tanh", **float64())
            self.W = self.encoder.W
            self.b = tg.Tensor(np.zeros(4), requires_grad=True)

        def forward(self, x):
            return self.encoder(x) @ self.W.T + self.b

    model, x = Autoencoder(), draw(5, 4)
    assert [name for name, _ in model.named_parameters()] == ["encoder.W", "encoder.b", "b"]
    _, g, grads = pulled(model, x)
    W = model.W.data
    h = np.tanh(x @ W + model.encoder.b.data)
    dz = g @ W * (1 - h**2)
    np.testing.assert_allclose(grads["encoder.W"], x.T @ dz + g.T @ h, rtol=1e-12)
    square = nn.Sequential(nn.Dense(3, 3), nn.Dense(3, 3))
    square[1].W = square[0].W
    optimizer = nn.SGD(square.parameters(), lr=0.1)
    square(np.ones((2, 3))).sum().backward()
    optimizer.step()
    assert square[1].W is square[0].W
    assert list(square.state_dict()) == ["0.W", "0.b", "1.b"]


# --- all layers ---

LAYERS = {
    "Conv1d": (lambda *n, **o: nn.Conv1d(*n, 3, kernel=2, **o), 2, (2, 2, 4)),
    "Conv2d": (lambda *n, **o: nn.Conv2d(*n, 3, kernel=2, activation="tanh", **o), 2, (2, 2, 3, 3)),
    "ConvTranspose2d": (lambda *n, **o: nn.ConvTranspose2d(*n, 2, kernel=2, **o), 2, (1, 2, 2, 3)),
    "BatchNorm": (lambda *n, **o: nn.BatchNorm(*n, **o), 3, (4, 3)),
    "LayerNorm": (lambda *n, **o: nn.LayerNorm(*n, **o), 3, (4, 3)),
    "RMSNorm": (lambda *n, **o: nn.RMSNorm(*n, **o), 3, (4, 3)),
    "GroupNorm": (lambda *n, **o: nn.GroupNorm(*n, groups=2, **o), 4, (3, 4, 2)),
    "RNN": (lambda *n, **o: nn.RNN(*n, 3, **o), 2, (2, 3, 2)),
    "LSTM": (lambda *n, **o: nn.LSTM(*n, 2, **o), 2, (2, 3, 2)),
    "GRU": (lambda *n, **o: nn.GRU(*n, 2, **o), 2, (2, 3, 2)),
    "MultiHeadAttention": (lambda *n, **o: nn.MultiHeadAttention(*n, heads=2, **o), 4, (2, 3, 4)),
    "TransformerBlock": (
        lambda *n, **o: nn.TransformerBlock(*n, heads=1, hidden=3, **o), 2, (2, 3, 2)),
    "SparseDense": (lambda *n, **o: nn.SparseDense(*n, 3, epsilon=1, **o), 4, (2, 4)),
}  # fmt: skip
NORMS = {"BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm"}
each_layer = pytest.mark.parametrize("name", LAYERS)


def made(name, *, late=False, dtype=np.float64, seed=3):
    make, features, shape = LAYERS[name]
    options = {"dtype": dtype} | ({} if name in NORMS else {"rng": seed})
    return make(*(() if late else (features,)), **options), draw(*shape)


@each_layer
def test_gradients_agree_with_finite_differences(name):
    layer, x = made(name)
    shaken(layer)
    _, g, grads = pulled(layer, x)
    parameters = dict(layer.named_parameters())

    def value(x, *arrays):
        for p, array in zip(parameters.values(), arrays):
            p.data = array
        return layer(x).data

    numerical = numerical_gradient(value, [x, *[p.data for p in parameters.values()]], g)
    for path, expected in zip(["x", *parameters], numerical):
        np.testing.assert_allclose(grads[path], expected, rtol=1e-6, atol=1e-8, err_msg=path)


@each_layer
def test_sizes_come_from_the_first_batch(name):
    late, x = made(name, late=True)
    early, _ = made(name)
    assert (late.built, early.built) == (False, True)
    with pytest.raises(ArgumentError, match="waits for its first batch"):
        nn.Sequential(late).state_dict()
    np.testing.assert_array_equal(late(x).data, early(x).data)
    assert late.built
    assert repr(late) == repr(early)


@each_layer
def test_float32_stays_float32_forward_and_back(name):
    layer, x = made(name, dtype=np.float32)
    y = layer(x)
    y.sum().backward()
    assert y.dtype == np.float32
    assert {p.grad.dtype for p in layer.parameters()} == {np.dtype(np.float32)}


@each_layer
def test_state_goes_from_layer_to_layer_and_copies_are_equal(name):
    layer, x = made(name)
    shaken(layer)(x)
    layer.eval()
    expected = layer(x).data
    other = made(name, seed=4)[0].eval()
    other.load_state_dict(layer.state_dict())
    for twin in other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)):
        np.testing.assert_array_equal(twin(x).data, expected)


@each_layer
def test_parameters_are_named_by_their_path(name):
    layer, x = made(name)
    model = nn.Sequential(nn.Sequential(layer))
    model(x)
    for path, p in model.named_parameters():
        assert p.name == path
        assert path.startswith("0.0.")


@each_layer
@pytest.mark.parametrize("wrong", ["x", None, [[None, 1]]])
def test_batches_that_are_not_real_numbers_are_refused(name, wrong):
    with pytest.raises(DtypeError, match=rf"^{name}: expected real numbers, got dtype"):
        made(name)[0](wrong)


@pytest.mark.parametrize(
    "name", sorted(LAYERS.keys() - NORMS - {"MultiHeadAttention", "TransformerBlock"})
)
def test_an_initialiser_of_another_shape_is_refused(name):
    make, features, _ = LAYERS[name]
    with pytest.raises(ShapeError, match=rf"^{name}\(.*from weights_init, got \(1,\)\.$"):
        make(features, weights_init=lambda shape, rng, dtype: np.zeros(1))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dense(3, 2), (2, 4)), (nn.Conv1d(3, 2, kernel=2), (2, 4, 5)),
        (nn.Conv2d(3, 2, kernel=2), (2, 4, 5, 5)), (nn.ConvTranspose2d(3, 2, kernel=2), (2, 4, 5, 5)),
        (nn.BatchNorm(3), (2, 4)), (nn.LayerNorm(3), (2, 4)), (nn.RMSNorm(3), (2, 4)),
        (nn.GroupNorm(4, groups=2), (2, 6)), (nn.LayerNorm(3, affine=False), (2, 4)),
        (nn.RNN(3, 2), (2, 5, 4)), (nn.LSTM(3, 2), (2, 5, 4)), (nn.GRU(3, 2), (2, 5, 4)),
        (nn.MultiHeadAttention(4, heads=2), (2, 5, 3)), (nn.TransformerBlock(4, heads=2), (2, 5, 3)),
        (nn.SparseDense(3, 2), (2, 4)), (nn.Residual(nn.Dense(4, 3)), (2, 4)),
        (nn.MaxPool2d(2), (2, 4)), (nn.AvgPool2d(2), (2, 4)), (nn.GlobalAvgPool(), (2, 4)),
    ],
    ids=lambda value: repr(value).partition("(")[0],
)  # fmt: skip
def test_a_wrong_shape_names_the_layer_by_its_path_in_the_model(layer, shape):
    class Model(nn.Module):
        def __init__(self):
            self.first = nn.ReLU()
            self.body = nn.Sequential(nn.ReLU(), layer)

        def forward(self, x):
            return self.body(self.first(x))

    with pytest.raises(ShapeError) as caught:
        copy.deepcopy(Model())(np.ones(shape))
    kind, before = type(layer).__name__, str(caught.value).partition(": expected")[0]
    assert re.match(rf"{kind}\(.*\) (with weights|at) 'body\.1", before), str(caught.value)
    assert f"got {shape}" in str(caught.value) or kind == "Residual"


# --- summary ---


def test_summary_of_a_network_of_many_kinds():
    model = nn.Sequential(
        nn.Conv2d(8, kernel=3, bias=False), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2),
        nn.Residual(nn.Conv2d(8, kernel=3, padding=1)), nn.GlobalAvgPool(), nn.Dropout(),
        nn.Dense(10),
    )  # fmt: skip
    summary = model.summary((1, 28, 28))
    expected = [
        ("0", (8, 26, 26), 72), ("1", (8, 26, 26), 16), ("2", (8, 26, 26), 0),
        ("3", (8, 13, 13), 0), ("4.0", (8, 13, 13), 584), ("5", (8,), 0), ("6", (8,), 0),
        ("7", (10,), 90),
    ]  # fmt: skip
    assert [(row.path, row.output[1:], row.parameters) for row in summary.rows] == expected
    assert (summary.parameters, summary.buffers, summary.bytes) == (762, 16, 4 * 778)
    line = "0      Conv2d(1, 8, kernel=3, ...)       (N, 8, 26, 26)      72    288 B  48.7 k"
    assert line in str(summary)
    np.testing.assert_array_equal(model[1].running_mean.data, np.zeros(8))
    text = nn.Sequential(nn.TransformerBlock(8, heads=2), nn.LSTM(3)).summary((5, 8))
    outputs = {row.path: row.output for row in text.rows}
    assert outputs["0.attention.q"] == (1, 5, 8)
    assert outputs["0.mlp.0"] == (1, 5, 32)
    assert outputs["1"] == (1, 5, 3)


def test_fit_trains_a_convolutional_network_with_every_mode():
    x, y = nn.datasets.digits()
    x = (x[:600] / 16).reshape(-1, 1, 8, 8)
    nn.seed(0)
    model = nn.Sequential(
        nn.Conv2d(8, kernel=3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.2), nn.Dense(10),
    )  # fmt: skip
    history = nn.fit(model, (x, y[:600]), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=0.01),
                     epochs=8, metrics=["accuracy"], verbose=False, seed=0)  # fmt: skip
    assert history["accuracy"][-1] > 0.9
    assert nn.evaluate(model, (x, y[:600]), metrics=["accuracy"])["accuracy"] > 0.95
    assert model.training
