"""Weights to PyTorch and back: names, layouts, and equal outputs in float64."""

from __future__ import annotations

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.nn.twins import draw, float64, shaken
from tinygrad_np.errors import ArgumentError, DtypeError

EXACT = {"rtol": 1e-10, "atol": 1e-10}


class Flat(nn.Module):
    """A user's module: a list, a dict, a parameter and a buffer of its own, one module twice."""

    def __init__(self, **options):
        self.blocks = [nn.Dense(4, 4, **options) for _ in range(2)]
        self.heads = nn.ModuleDict({"a": nn.Dense(4, 3, **options), "b": nn.Dense(4, 3, **options)})
        self.again = self.blocks[0]
        self.scale = tg.Tensor(draw(3), requires_grad=True)
        self.shift = tg.Tensor(draw(3, seed=1))

    def forward(self, x):
        for block in self.blocks:
            x = tg.tanh(block(x))
        x = self.again(x)
        return (self.heads["a"](x) + self.heads["b"](x)) * self.scale + self.shift


def flat_of_pytorch(torch):
    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(2)])
            self.heads = torch.nn.ModuleDict({k: torch.nn.Linear(4, 3) for k in "ab"})
            self.again = self.blocks[0]
            self.scale = torch.nn.Parameter(torch.zeros(3))
            self.register_buffer("shift", torch.zeros(3))

        def forward(self, x):
            for block in self.blocks:
                x = torch.tanh(block(x))
            x = self.again(x)
            return (self.heads["a"](x) + self.heads["b"](x)) * self.scale + self.shift

    return Twin()


def normalized(layer, *shape):
    """A batch norm whose running statistics are no longer those it began with."""
    layer(draw(*shape, seed=9))
    return layer


ids = np.array([[0, 2, 1], [4, 4, 3]])
# name: our model, PyTorch's, a batch
PAIRS = {
    "Dense": (lambda: nn.Dense(4, 3, **float64()), lambda t: t.nn.Linear(4, 3), draw(5, 4)),
    "Dense, no bias": (
        lambda: nn.Dense(4, 3, bias=False, **float64()),
        lambda t: t.nn.Linear(4, 3, bias=False),
        draw(5, 4),
    ),
    "Conv1d": (
        lambda: nn.Conv1d(4, 6, kernel=3, stride=2, padding=1, groups=2, **float64()),
        lambda t: t.nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
        draw(2, 4, 9),
    ),
    "Conv2d": (
        lambda: nn.Conv2d(2, 3, kernel=(3, 2), dilation=2, **float64()),
        lambda t: t.nn.Conv2d(2, 3, (3, 2), dilation=2),
        draw(2, 2, 8, 7),
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(
            4, 6, kernel=3, stride=2, padding=1, output_padding=1, groups=2, **float64()
        ),
        lambda t: t.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        draw(2, 4, 5, 4),
    ),
    "BatchNorm": (
        lambda: normalized(nn.BatchNorm(3, dtype=np.float64), 6, 3),
        lambda t: t.nn.BatchNorm1d(3),
        draw(5, 3),
    ),
    "BatchNorm of pictures, not affine": (
        lambda: normalized(nn.BatchNorm(3, affine=False, dtype=np.float64), 2, 3, 4, 4),
        lambda t: t.nn.BatchNorm2d(3, affine=False),
        draw(2, 3, 4, 5),
    ),
    "LayerNorm": (
        lambda: nn.LayerNorm(3, 4, dtype=np.float64),
        lambda t: t.nn.LayerNorm((3, 4)),
        draw(5, 3, 4),
    ),
    "GroupNorm": (
        lambda: nn.GroupNorm(4, groups=2, dtype=np.float64),
        lambda t: t.nn.GroupNorm(2, 4),
        draw(2, 4, 3, 3),
    ),
    "RMSNorm": (
        lambda: nn.RMSNorm(4, dtype=np.float64),
        lambda t: t.nn.RMSNorm(4, eps=1e-6),
        draw(5, 4),
    ),
    "Embedding": (lambda: nn.Embedding(5, 3, **float64()), lambda t: t.nn.Embedding(5, 3), ids),
    "RNN": (
        lambda: nn.RNN(3, 4, activation="relu", **float64()),
        lambda t: t.nn.RNN(3, 4, nonlinearity="relu", batch_first=True),
        draw(2, 5, 3),
    ),
    "LSTM": (
        lambda: nn.LSTM(3, 4, **float64()),
        lambda t: t.nn.LSTM(3, 4, batch_first=True),
        draw(2, 5, 3),
    ),
    "LSTM, no bias": (
        lambda: nn.LSTM(3, 4, bias=False, **float64()),
        lambda t: t.nn.LSTM(3, 4, bias=False, batch_first=True),
        draw(2, 5, 3),
    ),
    "GRU": (
        lambda: nn.GRU(3, 4, **float64()),
        lambda t: t.nn.GRU(3, 4, batch_first=True),
        draw(2, 5, 3),
    ),
    "MultiHeadAttention": (
        lambda: nn.MultiHeadAttention(6, heads=2, **float64()),
        lambda t: t.nn.MultiheadAttention(6, 2, batch_first=True),
        draw(2, 5, 6),
    ),
    "MultiHeadAttention, no bias": (
        lambda: nn.MultiHeadAttention(6, heads=3, bias=False, **float64()),
        lambda t: t.nn.MultiheadAttention(6, 3, bias=False, batch_first=True),
        draw(2, 5, 6),
    ),
    "TransformerBlock": (
        lambda: nn.TransformerBlock(6, heads=2, hidden=8, **float64()),
        lambda t: t.nn.TransformerEncoderLayer(
            6, 2, dim_feedforward=8, dropout=0, activation="gelu", batch_first=True, norm_first=True
        ),
        draw(2, 5, 6),
    ),
    "TransformerBlock, norm last": (
        lambda: nn.TransformerBlock(
            6, heads=2, hidden=8, activation="relu", norm_first=False, **float64()
        ),
        lambda t: t.nn.TransformerEncoderLayer(6, 2, dim_feedforward=8, dropout=0, batch_first=True),
        draw(2, 5, 6),
    ),
    "Sequential": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, kernel=3, **float64(1)), nn.BatchNorm(2, dtype=np.float64), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Dense(8, 3, **float64(2)),
        ),
        lambda t: t.nn.Sequential(
            t.nn.Conv2d(1, 2, 3), t.nn.BatchNorm2d(2), t.nn.ReLU(), t.nn.MaxPool2d(2),
            t.nn.Flatten(), t.nn.Dropout(0.5), t.nn.Linear(8, 3),
        ),
        draw(2, 1, 6, 6),
    ),
    "Sequential, with activations in the layers": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, kernel=3, activation="relu", **float64(1)), nn.Flatten(),
            nn.Sequential(
                nn.Dense(32, 5, activation="tanh", **float64(2)), nn.Dense(5, 4, **float64(3)),
            ),
            nn.Dense(4, 3, **float64(4)),
        ),
        lambda t: t.nn.Sequential(
            t.nn.Conv2d(1, 2, 3), t.nn.ReLU(), t.nn.Flatten(),
            t.nn.Sequential(t.nn.Linear(32, 5), t.nn.Tanh(), t.nn.Linear(5, 4)),
            t.nn.Linear(4, 3),
        ),
        draw(2, 1, 6, 6),
    ),
    "a module of the user": (lambda: Flat(**float64()), flat_of_pytorch, draw(5, 4)),
}  # fmt: skip


@pytest.fixture(params=PAIRS)
def pair(request):
    """Our model, evaluated; PyTorch's; a batch; and what PyTorch's makes of it."""
    torch = pytest.importorskip("torch")
    ours, theirs, x = PAIRS[request.param]
    twin = theirs(torch).to(torch.float64).eval()

    def run(x):
        x = torch.tensor(x)
        attends = isinstance(twin, torch.nn.MultiheadAttention)
        y = twin(x, x, x) if attends else twin(x)
        return (y[0] if isinstance(y, tuple) else y).detach().numpy()

    return shaken(ours()).eval(), twin, x, run


def tensors(state):
    torch = pytest.importorskip("torch")
    return {name: torch.from_numpy(array) for name, array in state.items()}


def test_weights_given_to_pytorch_compute_the_same(pair):
    model, twin, x, run = pair
    state = nn.torch_state_dict(model)
    assert not np.allclose(run(x), model(x).data)
    twin.load_state_dict(tensors(state))
    np.testing.assert_allclose(run(x), model(x).data, **EXACT)
    assert state.keys() == twin.state_dict().keys()


def test_weights_taken_from_pytorch_compute_the_same(pair):
    torch = pytest.importorskip("torch")
    model, twin, x, run = pair
    for name, value in twin.state_dict().items():
        if value.dtype.is_floating_point:
            noise = torch.from_numpy(draw(*value.shape, seed=2))
            value += 0.3 * noise**2 if name.endswith("var") else 0.3 * noise
    nn.load_torch_state_dict(model, twin.state_dict())
    np.testing.assert_allclose(model(x).data, run(x), **EXACT)


def test_there_and_back_is_the_same(pair):
    model, *_ = pair
    before = model.state_dict()
    state = nn.torch_state_dict(model)
    for p in model.parameters():
        p.data = p.data + 1
    nn.load_torch_state_dict(model, state)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


# --- without PyTorch ---


def test_dense_is_transposed():
    layer = nn.Dense(2, 3)
    state = nn.torch_state_dict(layer)
    assert {name: array.shape for name, array in state.items()} == {"weight": (3, 2), "bias": (3,)}
    np.testing.assert_array_equal(state["weight"], layer.W.data.T)
    assert state["weight"].flags.c_contiguous
    state["weight"][:] = 0
    assert layer.W.data.all(), "copies"


def test_attention_is_one_matrix_over_another():
    layer = nn.MultiHeadAttention(4, heads=2)
    state = nn.torch_state_dict(layer)
    np.testing.assert_array_equal(state["in_proj_weight"][4:8], layer.k.W.data.T)
    assert state["in_proj_bias"].shape == (12,)


def test_weights_take_the_dtype_of_the_model():
    layer = nn.Dense(1, 1)
    nn.load_torch_state_dict(layer, {"weight": np.full((1, 1), 0.1), "bias": [2]})
    assert layer.W.dtype == np.float32
    assert layer.b.data == 2


def test_batches_tracked_may_be_missing():
    layer = nn.BatchNorm(2)
    state = nn.torch_state_dict(layer)
    assert state.pop("num_batches_tracked") == 0
    nn.load_torch_state_dict(layer, state | {"weight": [2, 3]})
    np.testing.assert_array_equal(layer.weight.data, [2, 3])


def test_the_count_of_batches_goes_both_ways():
    layer, other = nn.BatchNorm(2, momentum=None), nn.BatchNorm(2, momentum=None)
    for _ in range(3):
        layer(np.eye(2))
    state = nn.torch_state_dict(layer)
    assert state["num_batches_tracked"] == 3
    nn.load_torch_state_dict(other, state)
    assert other.batches.data == 3
    nn.load_torch_state_dict(nn.BatchNorm(2), state)  # which does not count
    del state["num_batches_tracked"]
    with pytest.raises(ArgumentError, match=r"missing: num_batches_tracked \(\)"):
        nn.load_torch_state_dict(other, state)


def test_modules_may_be_called_otherwise():
    model = nn.Sequential(nn.Dense(2, 3, activation="relu"), nn.Sequential(nn.Dense(3, 1)))
    names = {"0": "encoder", "1.0": "head.out"}
    state = nn.torch_state_dict(model, names)
    assert list(state) == ["encoder.weight", "encoder.bias", "head.out.weight", "head.out.bias"]
    nn.load_torch_state_dict(model, state, names)
    assert list(nn.torch_state_dict(model, {"": "module"})) == [
        "module.0.weight", "module.0.bias", "module.2.0.weight", "module.2.0.bias"
    ]  # fmt: skip
    assert list(nn.torch_state_dict(model, {"1": "mlp"}))[2:] == ["mlp.0.weight", "mlp.0.bias"]


def test_a_module_that_holds_itself_is_read_once():
    layer = nn.Dense(2, 1)
    layer.me = layer
    assert list(nn.torch_state_dict(layer)) == ["weight", "bias"]


class Tied(nn.Module):
    def __init__(self):
        self.a = nn.Dense(2, 2)
        self.b = self.a


def test_tensors_with_two_names_are_given_once_or_twice_alike():
    model = Tied()
    state = nn.torch_state_dict(model)
    assert list(state) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    one = {name: 2 * array for name, array in state.items() if name.startswith("b")}
    nn.load_torch_state_dict(model, one)
    np.testing.assert_array_equal(model.a.W.data.T, one["b.weight"])
    text = "expected equal values for a.weight and b.weight, one tensor here, got different ones"
    before = model.state_dict()
    with pytest.raises(ArgumentError, match=text):
        nn.load_torch_state_dict(model, state | {"a.weight": np.ones((2, 2))})
    np.testing.assert_array_equal(model.a.W.data, before["a.W"])


def test_differences_are_listed_and_nothing_is_changed():
    model = nn.Sequential(nn.Dense(2, 3), nn.LSTM(3, 2))
    before = model.state_dict()
    state = nn.torch_state_dict(model)
    del state["1.bias_hh_l0"]
    state |= {"0.weight": np.ones((2, 3)), "0.bias": np.ones(3, complex), "2.weight": np.ones(4)}
    with pytest.raises(ArgumentError) as caught:
        nn.load_torch_state_dict(model, state)
    lines = str(caught.value).split("\n")
    assert lines[:5] == [
        "load_torch_state_dict: the state is not that of this model, which stays as it was.",
        "  missing: 1.bias_hh_l0 (8,)",
        "  unexpected: 2.weight (4,)",
        "  of another shape: 0.weight (2, 3) for (3, 2)",
        "  of another kind: 0.bias complex128 for float32",
    ]
    assert caught.value.__notes__[-1].endswith('names={"path here": "path there"}.')
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_what_pytorch_has_not_is_refused():
    with pytest.raises(ArgumentError, match=r"^torch_state_dict: expected layers that PyTorch has, "
                       r"too, got SparseDense\(2, 3\) at '0'"):  # fmt: skip
        nn.torch_state_dict(nn.Sequential(nn.SparseDense(2, 3)))


def test_a_layer_that_waits_for_its_first_batch_is_refused():
    for call in (nn.torch_state_dict, lambda model: nn.load_torch_state_dict(model, {})):
        with pytest.raises(ArgumentError, match="which waits for its first batch"):
            call(nn.Sequential(nn.Dense(3)))


def test_a_path_that_there_is_not_is_refused():
    text = r"^torch_state_dict: expected paths of modules in names, got '00'. Did you mean '0'"
    with pytest.raises(ArgumentError, match=text):
        nn.torch_state_dict(nn.Sequential(nn.Dense(1, 1)), {"00": "x"})


def test_a_dtype_that_numpy_has_not_is_refused():
    torch = pytest.importorskip("torch")
    state = torch.nn.Linear(2, 3).to(torch.bfloat16).state_dict()
    text = (
        r"^load_torch_state_dict: expected dtypes that NumPy has, got weight of torch.bfloat16\. "
    )
    with pytest.raises(DtypeError, match=text):
        nn.load_torch_state_dict(nn.Dense(2, 3), state)
