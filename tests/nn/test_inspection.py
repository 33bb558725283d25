from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, NonFiniteError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = X[:, :3].argmax(axis=1)
LOSS = nn.SoftmaxCrossEntropy()


def network(*sizes, activation="relu", **options):
    return nn.Sequential(
        *[nn.Dense(m, n, activation=activation, dtype=np.float64, rng=i, **options)
          for i, (m, n) in enumerate(pairwise(sizes[:-1]))],
        nn.Dense(*sizes[-2:], dtype=np.float64, rng=99),
    )  # fmt: skip


def test_activations_and_gradients_are_those_derived_by_hand():
    model = network(4, 6, 3)
    first, last = nn.inspect(model, (X, Y), LOSS).layers
    W1, b1, W2, b2 = (p.data for p in model.parameters())
    h = np.maximum(X @ W1 + b1, 0)
    z = h @ W2 + b2
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    dz = (p - np.eye(3)[Y]) / 40
    dh = dz @ W2.T
    assert (first.path, first.kind, first.units, last.path, last.units) == ("0", "Dense", 6, "1", 3)
    for found, array in (
        (first.activations, h), (first.gradients, dh), (last.activations, z), (last.gradients, dz),
    ):  # fmt: skip
        for value, expected in (
            (found.mean, array.mean()), (found.std, array.std()), (found.low, array.min()),
            (found.high, array.max()), (found.rms, np.sqrt((array**2).mean())),
        ):  # fmt: skip
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-15)
        np.testing.assert_array_equal(found.counts, np.histogram(array, 40)[0])
        np.testing.assert_allclose(found.edges, np.histogram(array, 40)[1], rtol=1e-12)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(network(4, 6, 3), nn.Dropout(0.5))
    model[0][0].W.grad = np.ones((4, 6))
    kept = model[0][0].W.grad
    before = model.state_dict()
    nn.seed(0)
    nn.inspect(model, (X, Y), LOSS)
    assert model.training
    assert model[0][0].W.grad is kept
    np.testing.assert_array_equal(kept, np.ones((4, 6)))
    assert model[0][1].W.grad is None
    assert "forward" not in vars(model[0][0])
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[path])
    expected = np.random.default_rng(0).random()
    assert nn.init.generator().random() == expected  # nothing was drawn


def test_dead_relus_are_named():
    bias = np.array([0, -99.0, 0, -99.0, -99.0, 0])
    model = network(4, 6, 3, bias_init=bias)
    found = nn.inspect(model, (X, Y), LOSS)
    assert found.layers[0].dead == 3
    assert found.findings == ["0: dead, 3 of 6 units are 0 for every row"]
    apart = nn.Sequential(
        nn.Dense(4, 6, bias_init=bias), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Dense(6, 3))
    )
    assert nn.inspect(apart, (X, Y), LOSS).findings == ["1: dead, 3 of 6 units are 0 for every row"]
    # Inputs that are always 0, as the corners of pictures, are no dead units.
    flat = nn.Sequential(nn.Flatten(), nn.Dense(4, 3))
    assert nn.inspect(flat, (X * [0, 1, 1, 1], Y), LOSS).findings == []


def test_the_units_of_pictures_are_their_channels():
    class Channels(nn.ReLU):
        def forward(self, x):
            w = tg.Tensor([[[1.0]], [[-1.0]], [[0.0]]], requires_grad=True)
            return super().forward(w * x)

    model = nn.Sequential(Channels(), nn.Flatten(), nn.Dense(3 * 2 * 2, 3))
    x = np.abs(X).reshape(40, 1, 2, 2)
    [found, *_] = nn.inspect(model, (x, Y), LOSS).layers
    assert (found.units, found.dead) == (3, 2)


@pytest.mark.parametrize(("gain", "kind"), [(0.01, "vanishing"), (100.0, "exploding")])
def test_gradients_that_vanish_or_explode_are_named(gain, kind):
    eye = lambda shape, rng, dtype: gain * np.eye(4, dtype=dtype)
    model = nn.Sequential(*[nn.Dense(4, 4, weights_init=eye) for _ in range(3)])
    found = nn.inspect(model, (X, X), lambda z, y: tg.mean(z))
    assert found.findings == [f"0: {kind} gradient, {gain**2:.0e} of the last layer's"]


def test_a_gradient_that_never_arrives_is_named():
    class Off(nn.Module):
        def forward(self, x):
            return tg.relu(x - 1e6)

    model = nn.Sequential(nn.Dense(4, 4), Off(), nn.Dense(4, 3))
    assert nn.inspect(model, (X, Y), LOSS).findings == ["0: vanishing gradient, all of it is 0"]


def test_long_paths_keep_the_end_that_tells_them_apart():
    model = nn.Sequential(nn.Dense(4, 4), nn.Dense(4, 3))
    for _ in range(8):
        model = nn.Sequential(model)
    rows = str(nn.inspect(model, (X, Y), LOSS)).splitlines()[2:4]
    assert [row.split()[0] for row in rows] == ["...0.0.0.0.0", "...0.0.0.0.1"]


def test_the_table_fits_80_columns():
    long = nn.Sequential()
    long.a_layer_with_a_very_long_name = nn.Dense(4, 3, weights_init=nn.init.constant(1e-30))
    long.layers = [long.a_layer_with_a_very_long_name]
    for model in (network(4, 6, 3), network(4, *[5] * 12, 3, activation="sigmoid"), long):
        text = str(nn.inspect(model, (X, Y), LOSS))
        assert max(map(len, text.splitlines())) <= 80
    assert str(nn.inspect(network(4, 6, 3), (X, Y), LOSS)).splitlines()[-1] == (
        "no dead units, no vanishing or exploding gradients"
    )
    text = str(nn.inspect(network(4, *[5] * 12, 3, activation="sigmoid"), (X, Y), LOSS))
    assert "0: vanishing gradient, " in text


def test_a_histogram_is_drawn_by_its_counts():
    values = nn.inspection.Values.of(np.repeat(np.arange(10.0), [9, 0, 1, 2, 3, 4, 5, 6, 7, 8]))
    assert values.picture == "@ .:-=+*#%"
    assert nn.inspection.Values.of(np.zeros(3)).picture.count("@") == 1


@pytest.mark.parametrize(
    ("rows", "error", "text"),
    [
        ((X, Y[:3]), ShapeError, "inspect: expected arrays with the same number of rows"),
        ((X * np.nan, Y), NonFiniteError, "inspect: expected finite numbers in x"),
        (3, ArgumentError, "inspect: expected data as (x, y) or a Dataset, got int."),
        ((X[:, :2], Y), ShapeError, "expected x (..., 4), got (40, 2)"),
    ],
)
def test_data_that_does_not_fit_is_refused(rows, error, text):
    model = network(4, 6, 3)
    with pytest.raises(error, match=re.escape(text)):
        nn.inspect(model, rows, LOSS)
    assert "forward" not in vars(model[0])
    assert model.training


def test_over_training_each_layer_has_a_row_an_epoch():
    watch = nn.Inspector((X, Y), every=2)
    model = network(4, 6, 3)
    nn.fit(model, (X, Y), loss=LOSS, optimizer=nn.SGD(lr=0.5), epochs=5, callbacks=[watch])
    assert list(watch.inspections) == [2, 4]
    head, *rows = str(watch).splitlines()
    assert head.split() == ["layer", "epoch", "activations", "std", "gradients", "rms", "dead"]
    assert [row.split()[:2] for row in rows] == [["0", "2"], ["0", "4"], ["1", "2"], ["1", "4"]]
    assert max(map(len, [head, *rows])) <= 80
    assert (
        watch.inspections[4].layers[1].gradients.rms < watch.inspections[2].layers[1].gradients.rms
    )
    with pytest.raises(ArgumentError, match="Inspector: expected every as a whole number of at"):
        nn.Inspector((X, Y), every=0)


def test_a_model_that_waits_for_its_first_batch_is_built():
    model = nn.Sequential(nn.Dense(6, activation="relu"), nn.TransformerBlock(heads=2), nn.Dense(3))
    x = RNG.normal(size=(5, 4, 4))
    found = nn.inspect(model, (x, X[:5]), lambda z, y: tg.mean(z * z))
    assert [flow.path for flow in found.layers][:3] == ["0", "1.norm1", "1.attention.q"]
    assert all(flow.gradients is not None for flow in found.layers)


def test_histograms_over_training_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    watch = nn.Inspector((X, Y), every=2)
    with pytest.raises(ArgumentError, match=r"^Inspector.plot: expected inspections, got none\."):
        watch.plot()
    model = network(4, 6, 3, bias_init=np.array([0, -99.0, 0, -99.0, -99.0, 0]))
    nn.fit(model, (X, Y), loss=LOSS, optimizer=nn.SGD(lr=0.5), epochs=5, callbacks=[watch])
    figure = watch.plot(tmp_path / "histograms.png")
    assert (tmp_path / "histograms.png").stat().st_size > 10_000
    first, _, last, _ = figure.axes
    assert first.get_title(loc="left") == "0 Dense"
    assert first.get_title(loc="right") == "dead, 3 of 6 units are 0 for every row"
    assert last.get_title(loc="right") == ""
    assert len(first.collections) == len(watch.inspections) == 2
    values = watch.inspections[4].layers[1].activations
    np.testing.assert_allclose(
        last.collections[1].get_array().ravel(), np.sqrt(values.counts / values.counts.max())
    )
    coordinates = last.collections[1].get_coordinates()
    np.testing.assert_allclose(coordinates[:, 0, 1], values.edges)
    np.testing.assert_allclose(coordinates[0, :, 0], [3, 5])
