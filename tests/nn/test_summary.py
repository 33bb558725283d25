"""`summary`: shapes, parameters, bytes and multiply-adds, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, ShapeError


class Holder(nn.Module):
    """Whatever is given, as attributes; calls them one after another."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def forward(self, x):
        for module in list(vars(self).values()):
            x = module(x) if isinstance(module, nn.Module) else x
        return x


def test_it_prints_shapes_counts_bytes_and_multiply_adds():
    model = nn.Sequential(nn.Flatten(), nn.Dense(784, 64, activation="sigmoid"), nn.Dense(10))
    summary = model.summary((28, 28))
    assert str(summary) == (
        "layer  kind                                  output    params    bytes    MACs\n"
        "------------------------------------------------------------------------------\n"
        "0      Flatten()                             (N, 784)       0      0 B       0\n"
        "1      Dense(784, 64, activation='sigmoid')  (N, 64)   50,240   201 kB  50.2 k\n"
        "2      Dense(64, 10)                         (N, 10)      650  2.60 kB     640\n"
        "------------------------------------------------------------------------------\n"
        "50,890 parameters, 203,560 bytes\n"
        "50,816 multiply-adds (MACs) for each row"
    )
    assert [row.output for row in summary.rows] == [(1, 784), (1, 64), (1, 10)]
    assert [row.bytes for row in summary.rows] == [0, 4 * 50_240, 4 * 650]
    assert summary.parameters == 784 * 64 + 64 + 64 * 10 + 10
    assert summary.multiply_adds == 784 * 64 + 64 * 10


def test_without_a_batch_there_are_no_shapes_and_no_multiply_adds():
    summary = nn.Sequential(nn.Dense(2, 3), nn.ReLU()).summary()
    assert str(summary) == (
        "layer  kind         params  bytes\n"
        "---------------------------------\n"
        "0      Dense(2, 3)       9   36 B\n"
        "1      ReLU()            0    0 B\n"
        "---------------------------------\n"
        "9 parameters, 36 bytes"
    )
    assert [row.output for row in summary.rows] == [None, None]
    assert summary.multiply_adds is None


def test_a_batch_or_the_shape_of_a_row_may_be_given():
    model = nn.Sequential(nn.Dense(2, 3), nn.ReLU())
    of_batch, of_row = model.summary(np.ones((5, 2))), model.summary((2,))
    assert str(of_batch) == str(of_row)
    assert of_batch.rows[0].output == (5, 3)
    with pytest.raises(ArgumentError, match=r"shape of a row such as \(4,\), got \(\)"):
        model.summary(())


def test_shared_parameters_count_once_and_buffers_apart():
    layer = nn.Dense(2, 2, dtype=np.float64)
    own = tg.Tensor(np.ones(5), requires_grad=True)
    model = Holder(a=layer, tied=Holder(W=layer.W), own=own, mean=tg.Tensor(np.ones(3)))
    summary = model.summary()
    assert [(row.path, row.parameters, row.bytes) for row in summary.rows] == [
        ("", 5, 8 * 8), ("a", 6, 8 * 6), ("tied", 0, 0),
    ]  # fmt: skip
    assert (summary.parameters, summary.buffers, summary.bytes) == (11, 3, 8 * 14)
    assert str(summary).endswith("11 parameters, 3 in buffers, 112 bytes")


def test_the_model_stays_as_it_was():
    model = nn.Sequential(nn.Dense(2, 3), nn.Dense(1))
    with pytest.raises(ShapeError):
        model.summary((5,))
    assert all("forward" not in vars(module) for _, module in model.named_modules())
    assert model.training
    model.summary((2,))
    assert model(np.ones((1, 2))).requires_grad


def test_it_fits_80_columns():
    deep = nn.Dense(1000, 1000, activation="log_softmax", bias=False)
    for _ in range(20):
        deep = Holder(with_quite_a_long_name=deep)
    lines = str(deep.summary((1000,))).splitlines()
    assert max(map(len, lines)) == 80
    assert lines[2].endswith("(N, 1000)  1,000,000  4.00 MB  1.00 M")
    assert "Dense(1000, ...)" in lines[2]
    wide = nn.Sequential(nn.Conv2d(256, 512, kernel=3, padding=1, groups=2, activation="relu"))
    assert max(map(len, str(wide.summary((256, 128, 128))).splitlines())) == 80


def test_numbers_are_rounded_to_three_digits():
    rounded = nn.summary._rounded
    found = [rounded(n) for n in (0, 999, 1000, 9994, 9996, 99_960, 999_499, 999_500, 6 * 10**13)]
    assert found == [
        "0 ", "999 ", "1.00 k", "9.99 k", "10.0 k", "100 k", "999 k", "1.00 M", "60.0 T",
    ]  # fmt: skip


def test_lenet_has_the_numbers_that_are_taught():
    model = nn.Sequential(
        nn.Conv2d(1, 6, kernel=5, padding=2), nn.MaxPool2d(2), nn.Conv2d(6, 16, kernel=5),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dense(120), nn.Dense(84), nn.Dense(10),
    )  # fmt: skip
    summary = model.summary((1, 28, 28))
    assert [row.parameters for row in summary.rows] == [156, 0, 2416, 0, 0, 48_120, 10_164, 850]
    assert [row.multiply_adds for row in summary.rows] == [
        28 * 28 * 6 * 25, 0, 10 * 10 * 16 * 6 * 25, 0, 0, 400 * 120, 120 * 84, 84 * 10,
    ]  # fmt: skip
    assert (summary.parameters, summary.multiply_adds) == (61_706, 416_520)


N, T, E, H = 3, 5, 8, 4
COUNTED = {
    "dense": (nn.Dense(E, H), (N, E), E * H),
    "dense on sequences": (nn.Dense(E, H), (N, T, E), T * E * H),
    "conv1d": (nn.Conv1d(2, 3, kernel=4, stride=2), (N, 2, 10), 4 * 3 * 2 * 4),
    "conv2d, grouped": (
        nn.Conv2d(4, 6, kernel=(3, 2), groups=2, padding=1), (N, 4, 7, 7), 7 * 8 * 6 * 2 * 3 * 2),
    "depthwise": (nn.Conv2d(4, 4, kernel=3, groups=4), (N, 4, 5, 5), 3 * 3 * 4 * 9),
    # Each input is multiplied with one kernel for each output channel.
    "conv transposed": (
        nn.ConvTranspose2d(4, 6, kernel=3, stride=2), (N, 4, 5, 5), 5 * 5 * 4 * 6 * 9),
    # (x - mean) * r, then * weight + bias; the statistics are known in evaluation.
    "batch norm": (nn.BatchNorm(4), (N, 4, 5, 5), 2 * 4 * 25),
    "batch norm, plain": (nn.BatchNorm(4, affine=False), (N, 4, 5, 5), 4 * 25),
    # d * d in the variance, d * r, * weight + bias.
    "layer norm": (nn.LayerNorm(E), (N, T, E), 3 * T * E),
    "group norm": (nn.GroupNorm(4, groups=2), (N, 4, 6), 3 * 4 * 6),
    "rms norm": (nn.RMSNorm(E), (N, T, E), 3 * T * E),
    "embedding": (nn.Embedding(9, E), (N, T), 0),
    "rnn": (nn.RNN(E, H), (N, T, E), T * (E * H + H * H)),
    # Four gates; f c, i g and o tanh(c).
    "lstm": (nn.LSTM(E, H), (N, T, E), T * (4 * (E * H + H * H) + 3 * H)),
    "lstm, last": (nn.LSTM(E, H, last=True), (N, T, E), T * (4 * (E * H + H * H) + 3 * H)),
    # Three gates; r v and u (h - n).
    "gru": (nn.GRU(E, H), (N, T, E), T * (3 * (E * H + H * H) + 2 * H)),
    # Four dense layers; in each head q k^T and p v take T T d each, together T T E.
    "attention": (nn.MultiHeadAttention(E, heads=2), (N, T, E), 4 * T * E * E + 2 * T * T * E),
    "block": (
        nn.TransformerBlock(E, heads=2, hidden=H), (N, T, E),
        4 * T * E * E + 2 * T * T * E + 2 * T * E * H + 2 * 3 * T * E),
    "pooling, dropout, activation": (
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.GlobalAvgPool(), nn.Dropout()),
        (N, 2, 8, 8), 0),
}  # fmt: skip


@pytest.mark.parametrize(("model", "shape", "expected"), COUNTED.values(), ids=COUNTED)
def test_multiply_adds_are_those_counted_by_hand(model, shape, expected):
    batch = np.zeros(shape, int if isinstance(model, nn.Embedding) else float)
    assert model.summary(batch).multiply_adds == expected
    assert model.summary(batch[:1]).multiply_adds == expected  # it is that of one row


def test_attention_to_a_memory_counts_its_positions():
    class Model(nn.Module):
        def __init__(self):
            self.attention = nn.MultiHeadAttention(E, heads=2)

        def forward(self, x):
            return self.attention(x[:, :2], memory=x)

    # 2 positions ask T; q and out are those of 2 positions, k and v of T.
    expected = 2 * 2 * E * E + 2 * T * E * E + 2 * 2 * T * E
    assert Model().summary((T, E)).multiply_adds == expected


def test_a_layer_that_is_called_twice_counts_twice():
    layer = nn.Dense(4, 4)
    summary = nn.Sequential(layer, layer).summary((4,))
    assert (summary.parameters, summary.multiply_adds) == (20, 2 * 16)


def test_layers_that_wait_for_a_batch_show_their_parts():
    late, early = (
        nn.Sequential(nn.TransformerBlock(*given, heads=2), nn.LSTM(3)) for given in ((), (8,))
    )
    assert str(late.summary((5, 8))) == str(early.summary((5, 8)))


def test_a_layer_that_does_not_tell_is_marked():
    class Scale(nn.Module):
        def __init__(self):
            self.w = tg.Tensor(np.ones(4), requires_grad=True)

        def forward(self, x):
            return x * self.w

    class Telling(Scale):
        def multiply_adds(self, y, x):
            return y[0] * y[1]

    model = nn.Sequential(Scale(), nn.Dense(4, 2))
    summary = model.summary((4,))
    assert [row.multiply_adds for row in summary.rows] == [None, 8]
    lines = str(summary).splitlines()
    assert lines[2].split()[-1] == "?"
    assert lines[-1] == "at least 8 multiply-adds (MACs) for each row"
    assert nn.Sequential(Telling(), nn.Dense(4, 2)).summary((4,)).multiply_adds == 12
