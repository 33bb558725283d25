"""Models as ONNX files: what onnxruntime computes from them, in batches of several lengths."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.nn.twins import draw
from tinygrad_np.errors import ArgumentError, ShapeError, TensorError
from tinygrad_np.tree import leaves

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

FLOAT32 = {"rtol": 1e-4, "atol": 2e-6}  # sums of some hundred numbers, in another order


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def described(model):
    """Inputs and outputs: name, shape and ONNX's number of the dtype."""
    return [
        (one.name, [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim])
        for one in [*model.graph.input, *model.graph.output]
    ]


def float32(array):
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def check(model, path, *example):
    """Export, and compare what onnxruntime and the model compute for other batches."""
    nn.export_onnx(model, example if len(example) > 1 else example[0], path)
    exported = onnx.load(path)
    onnx.checker.check_model(exported, full_check=True)
    session = ort.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    model.eval()
    for n in (1, 2, 7):
        batch = [float32(np.resize(a, (n, *a.shape[1:]))) for a in example]
        found = session.run(None, dict(zip(names, batch)))
        expected = leaves(model(*batch))
        assert len(found) == len(expected)
        for y, right in zip(found, expected):
            np.testing.assert_allclose(y, right.data, **FLOAT32)
            assert (y.shape, y.dtype) == (right.shape, right.dtype)
    return exported


def trained(model, *example):
    """A model that has seen batches, with running statistics and biases that are not 0."""
    for _ in range(3):
        model(*example)
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + rng.normal(size=p.shape, scale=0.1)
    return model


class Caption(nn.Module):
    """A user's model: several inputs, several outputs, a loop, a tied table, operations of its own."""

    def __init__(self):
        self.table = nn.Embedding(11, 6, rng=0)
        self.blocks = [nn.TransformerBlock(6, heads=2, rng=i) for i in range(2)]
        self.picture = nn.Sequential(nn.Conv2d(3, 6, kernel=3, rng=3), nn.GlobalAvgPool())
        self.scale = tg.Tensor(np.float32([1.5]), requires_grad=True)
        self.shift = tg.Tensor(np.float32(0.5))

    def forward(self, ids, picture):
        x = self.table(ids) + self.picture(picture)[:, None] * self.scale
        for block in self.blocks:
            x = block(x)
        x = np.where(x > 0, x, 0.1 * x) + self.shift
        logits = x @ self.table.W.T
        return tg.log_softmax(logits), (x.mean(axis=1), tg.argmax(logits, axis=-1))


LENET = (
    nn.Conv2d(1, 6, kernel=5, padding=2, activation="sigmoid", rng=0), nn.AvgPool2d(2),
    nn.Conv2d(6, 16, kernel=5, activation="relu", rng=1), nn.MaxPool2d(2), nn.Flatten(),
    nn.Dense(400, 120, activation="tanh", rng=2), nn.Dense(120, 84, activation="relu", rng=3),
    nn.Dense(84, 10, rng=4), nn.Softmax(),
)  # fmt: skip
ids = np.array([[0, 2, 1, 4], [4, 4, 3, 0], [1, 2, 2, 3]])
MODELS = {
    "MLP": (nn.Sequential(nn.Dense(4, 8, activation="relu"), nn.Dense(8, 3)), draw(5, 4)),
    "LeNet": (nn.Sequential(*LENET), draw(3, 1, 28, 28)),
    "batch norm": (
        nn.Sequential(nn.Dense(6), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.5), nn.Dense(2)),
        draw(5, 4),
    ),
    "batch norm of pictures": (
        nn.Sequential(nn.Conv2d(4, kernel=3, stride=2), nn.BatchNorm(affine=False), nn.Tanh()),
        draw(3, 2, 7, 7),
    ),
    "transformer block": (nn.TransformerBlock(8, heads=2, causal=True, dropout=0.1), draw(3, 5, 8)),
    "transformer block, norm last": (
        nn.TransformerBlock(8, heads=2, norm_first=False, activation="relu"), draw(3, 5, 8),
    ),
    "attention to a memory": (nn.MultiHeadAttention(8, heads=4), draw(3, 5, 8), draw(3, 4, 8)),
    "LSTM": (nn.LSTM(3, 4), draw(2, 6, 3)),
    "LSTM, last": (nn.Sequential(nn.LSTM(3, 4, last=True, bias=False), nn.Dense(2)), draw(2, 6, 3)),
    "GRU": (nn.GRU(3, 4), draw(2, 6, 3)),
    "RNN": (nn.RNN(3, 4, activation="relu"), draw(2, 6, 3)),
    "embedding": (nn.Sequential(nn.Embedding(5, 6), nn.Flatten(), nn.Dense(3)), ids),
    "norms": (
        nn.Sequential(nn.GroupNorm(groups=2), nn.LayerNorm(5, 5), nn.RMSNorm(affine=False)),
        draw(3, 4, 5, 5),
    ),
    "transposed convolution": (
        nn.ConvTranspose2d(4, 2, kernel=3, stride=2, padding=1, output_padding=1, groups=2),
        draw(2, 4, 3, 4),
    ),
    "convolution of sequences": (
        nn.Sequential(
            nn.Conv1d(4, kernel=4, padding="same", groups=2, activation="gelu"),
            nn.Conv1d(3, kernel=2, dilation=2), nn.GlobalAvgPool(),
        ),
        draw(2, 2, 9),
    ),
    "residual": (nn.Residual(nn.Dense(4, 4, activation="silu"), nn.Dense(4, 4)), draw(3, 4)),
    "a module of the user": (Caption(), ids, draw(3, 3, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_computes_what_the_model_computes(name, path):
    model, *example = MODELS[name]
    trained(model, *example)
    check(model, path, *example)


def test_sparse_layers(path):
    pytest.importorskip("scipy")
    model = nn.Sequential(nn.SparseDense(9, 7, epsilon=1, activation="relu", rng=0), nn.Dense(2))
    check(model, path, draw(4, 9))


ACTIVATIONS = ["CELU", "ELU", "GELU", "Hardsigmoid", "Hardswish", "LeakyReLU", "LogSigmoid",
               "LogSoftmax", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softmax",
               "Softplus", "Softsign", "Tanh"]  # fmt: skip


def test_all_activations_are_looked_at():
    from nn.layers import activation

    kinds = [
        c for c in vars(activation).values() if isinstance(c, type) and issubclass(c, nn.Module)
    ]
    assert {c.__name__ for c in kinds} - {"Module", "Parametric"} == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, path):
    check(nn.Sequential(getattr(nn, name)()), path, float32(3 * draw(4, 5)))


@pytest.mark.parametrize(
    "layer", [nn.GELU("tanh"), nn.Softplus(2.0), nn.ELU(0.5), nn.CELU(2.0), nn.LeakyReLU(0.3),
              nn.Softmax(axis=1)], ids=str,
)  # fmt: skip
def test_activations_with_options(layer, path):
    check(nn.Sequential(layer), path, float32(draw(4, 5, 3)))


# --- names, shapes, dtypes ---


def test_parameters_and_buffers_keep_their_paths(path):
    model = trained(nn.Sequential(nn.Dense(4, 3), nn.BatchNorm(3)), draw(5, 4))
    exported = check(model, path, draw(5, 4))
    arrays = {a.name: onnx.numpy_helper.to_array(a) for a in exported.graph.initializer}
    for name in ("0.W", "0.b", "1.weight", "1.bias", "1.running_mean"):
        np.testing.assert_array_equal(
            arrays[name].reshape(-1), model.state_dict()[name].reshape(-1)
        )
    assert exported.graph.doc_string == ""
    assert exported.doc_string == repr(model)


def test_inputs_and_outputs_are_named(path):
    exported = check(MODELS["a module of the user"][0], path, ids, draw(3, 3, 6, 6))
    assert described(exported) == [
        ("ids", ["N", 4]), ("picture", ["N", 3, 6, 6]), ("output_0", ["N", 4, 11]),
        ("output_1", ["N", 6]), ("output_2", ["N", 4]),
    ]  # fmt: skip
    model = nn.Sequential(nn.Dense(4, 3))
    nn.export_onnx(model, draw(5, 4), path, input_names=["pixels"], output_names=["scores"])
    assert described(onnx.load(path)) == [("pixels", ["N", 4]), ("scores", ["N", 3])]
    nn.export_onnx(model, draw(5, 4), path, dynamic_batch=False)
    assert described(onnx.load(path)) == [("x", [5, 4]), ("output", [5, 3])]


def test_a_float64_model_stays_one(path):
    model = nn.Sequential(
        nn.Dense(4, 3, dtype=np.float64, activation="tanh"), nn.LayerNorm(dtype=np.float64)
    )
    x = draw(5, 4)
    nn.export_onnx(model, x, path)
    (y,) = ort.InferenceSession(path).run(None, {"x": x})
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, model(x).data, rtol=1e-12, atol=1e-12)


def test_floats_take_the_dtype_of_the_model(path):
    for layer in (nn.GroupNorm(4, groups=2, affine=False), nn.Sequential(nn.Dense(4, 2))):
        nn.export_onnx(layer, draw(5, 4), path)
        assert onnx.load(path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_model_is_exported_as_evaluated_and_left_as_it_was(path):
    model = nn.Sequential(nn.Dense(4, 4), nn.BatchNorm(4), nn.Sequential(nn.Dropout(0.5)))
    model.layers[2].eval()
    before = model.state_dict()
    nn.export_onnx(model, draw(5, 4), path)
    assert "RandomUniform" not in [node.op_type for node in onnx.load(path).graph.node]
    assert [m.training for _, m in model.named_modules()] == [True, True, True, False, False]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert all(p.grad is None for p in model.parameters())


def test_layers_that_wait_for_their_first_batch_are_made(path):
    model = nn.Sequential(nn.Dense(3), nn.Dense(2))
    check(model, path, draw(5, 4))
    assert repr(model[0]) == "Dense(4, 3)"


# --- what cannot be exported ---


class Uncommon(nn.Module):
    def forward(self, x):
        return tg.cumprod(x, axis=1)


def test_an_operation_without_translation_is_named(path):
    with pytest.raises(ArgumentError, match=r"^to_onnx: cumprod is not translated to ONNX"):
        nn.export_onnx(nn.Sequential(Uncommon()), draw(5, 4), path)
    assert not path.exists()


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"^export_onnx: expected a path ending in \.onnx, got"):
        nn.export_onnx(nn.Dense(4, 3), draw(5, 4), tmp_path / "model.pt")


def test_an_example_that_does_not_fit_is_refused_by_the_layer(path):
    with pytest.raises(ShapeError, match=r"^Dense\(4, 3\) with weights '0.W': expected x"):
        nn.export_onnx(nn.Sequential(nn.Dense(4, 3)), draw(5, 7), path)


def test_without_onnx_the_extra_is_named(path, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name == "onnx" or name.startswith("onnx.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TensorError, match=r'pip install "tinygrad-np\[onnx\]"'):
        nn.export_onnx(nn.Dense(4, 3), draw(5, 4), path)


def test_a_full_diskleaves_the_old_file(path, monkeypatch):
    nn.export_onnx(nn.Dense(4, 3), draw(5, 4), path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        nn.export_onnx(nn.Dense(4, 5), draw(5, 4), path)
    assert caught.value.__notes__[-1].startswith(f"export_onnx: {path} was not written")
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
