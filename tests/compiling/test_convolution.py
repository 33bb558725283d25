"""Convolution, ReLU and pooling as one call: equal to eager, and used where it can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg

TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}


def weights(dtype: Any, *shapes: tuple[int, ...]) -> list[tg.Tensor]:
    rng = np.random.default_rng(1)
    return [tg.Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in shapes]


def runs_alone(compiled: Any) -> bool:
    """Whether every replay was right: one that is not is dropped, and another one compiled."""
    return all(
        entry.failures == 0 and [variant.rehearsed for variant in entry.variants] == [True]
        for entry in compiled._entries.values()
    )


def agree(step: Any, make: Any, dtype: Any = np.float64, calls: int = 5) -> str:
    """Compiled and eager give the same on data that nothing was captured on; the source."""
    compiled = tg.compile(step, warn=False)
    for seed in range(calls):
        x = make(np.random.default_rng(seed)).astype(dtype)
        given = x.copy()
        for ours, eager in zip(compiled(x), step(x), strict=True):
            ours, eager = (np.asarray(getattr(one, "data", one)) for one in (ours, eager))
            assert (ours.shape, ours.dtype) == (eager.shape, eager.dtype)
            scale = np.abs(eager).max(initial=1.0)
            np.testing.assert_allclose(
                ours, eager, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale
            )
        np.testing.assert_array_equal(x, given)
    assert compiled.reason is None
    assert runs_alone(compiled)
    return compiled.source


def layer(
    W: Any, b: Any, relu: bool = True, pool: bool = True, to_x: bool = True, **options: Any
) -> Any:
    """A step with the values of a layer, and the gradients of a sum of their cubes."""

    def step(x: Any) -> Any:
        x = tg.Tensor(x, requires_grad=to_x)
        y = tg.conv2d(x, W, b, **options)
        y = tg.relu(y) if relu else y
        y = tg.max_pool(y, 2) if pool else y
        inputs = [one for one in (x, W, b) if one is not None and one.requires_grad]
        return y, *tg.gradients((y * y * y).sum(), inputs)

    return step


SHAPES = {
    "even": ((2, 3, 8, 10), (4, 3, 3, 3)),
    "odd": ((3, 2, 9, 8), (5, 2, 2, 3)),
    "one row of windows": ((2, 1, 4, 7), (2, 1, 3, 2)),
    "kernel as large as the input": ((2, 2, 4, 5), (3, 2, 4, 4)),
    "one sample": ((1, 1, 7, 7), (1, 1, 2, 2)),
    "kernel of one": ((4, 3, 5, 6), (2, 3, 1, 1)),
    "many rows": ((40, 4, 40, 41), (8, 4, 5, 5)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("padding", [0, (2, 1), "same"])
@pytest.mark.parametrize(
    ("relu", "pool"), [(True, True), (False, True), (True, False), (False, False)]
)
@pytest.mark.parametrize("name", SHAPES)
def test_layers(name: str, relu: bool, pool: bool, padding: Any, dtype: Any) -> None:
    shape, kernel = SHAPES[name]
    if pool and padding == 0 and any(n - k < 1 for n, k in zip(shape[2:], kernel[2:])):
        padding = 1
    W, b = weights(dtype, kernel, kernel[:1])
    make = lambda rng: rng.normal(size=shape)
    source = agree(layer(W, b, relu, pool, padding=padding), make, dtype)
    assert "convolution1.forward(" in source
    assert "convolution1.backward(" in source
    assert "convolution1.x_gradient(" in source
    assert "# relu" not in source
    assert "# max_pool" not in source


@pytest.mark.parametrize("pool", [True, False])
def test_without_bias_or_with_something_frozen(pool: bool) -> None:
    W, b = weights(np.float64, (4, 2, 3, 3), (4,))
    make = lambda rng: rng.normal(size=(3, 2, 7, 6))
    assert "convolution1.backward(" in agree(layer(W, None, pool=pool), make)
    source = agree(layer(W, b, pool=pool, to_x=False), make)
    assert "x_gradient" not in source
    W.requires_grad = False
    assert "x_gradient" in agree(layer(W, b, pool=pool), make)
    b.requires_grad = False
    source = agree(lambda x: (tg.max_pool(tg.relu(tg.conv2d(x, W, b)), 2),), make)
    assert "convolution1.forward(" in source
    assert "backward" not in source


def test_ties_go_to_the_first_and_zeros_get_nothing() -> None:
    """Whole numbers have no rounding: windows of equal ones, and sums of exactly 0, are many."""
    W, b = weights(np.float64, (3, 1, 2, 2), (3,))
    W.data, b.data = np.sign(W.data).round(), np.array([0.0, 1.0, -1.0])
    make = lambda rng: rng.integers(-1, 2, size=(4, 1, 9, 9))
    compiled = tg.compile(layer(W, b))
    for seed in range(6):
        x = make(np.random.default_rng(seed)).astype(float)
        for ours, eager in zip(compiled(x), layer(W, b)(x), strict=True):
            np.testing.assert_array_equal(ours.data, eager.data)
    assert "convolution1.forward(" in compiled.source
    assert runs_alone(compiled)
    x = np.zeros((1, 1, 3, 3))
    W.data, b.data = np.ones((3, 1, 2, 2)), np.array([0.0, 0.0, 2.0])
    tied = tg.compile(layer(W, b))
    for _ in range(4):
        y, dx, dW, db = tied(x)
    np.testing.assert_array_equal(y.data.ravel(), [0, 0, 2])
    np.testing.assert_array_equal(db.data, [0, 0, 12])  # 3 y^2
    expected = np.zeros((3, 3))
    expected[:2, :2] = 12  # the first of four equal windows
    np.testing.assert_array_equal(dx.data[0, 0], expected)
    np.testing.assert_array_equal(dW.data, np.zeros((3, 1, 2, 2)))


@pytest.mark.parametrize(
    "options", [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"stride": (1, 2), "padding": 1}]
)
def test_other_convolutions_are_as_they_are(options: Any) -> None:
    W, b = weights(np.float64, (4, 4 // options.get("groups", 1), 2, 2), (4,))
    source = agree(layer(W, b, **options), lambda rng: rng.normal(size=(2, 4, 8, 8)))
    assert "convolution1.forward(" not in source


def test_large_ones_are_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    W, b = weights(np.float64, (4, 2, 2, 2), (4,))
    copied = 8 * (2 * 2 * 8) * 2 * 6  # bytes of (N, C, H), kernel columns, columns of the output
    for limit in (copied, copied - 1):
        monkeypatch.setattr("tinygrad_np.compiling.convolution.COPIES", limit)
        source = agree(layer(W, b), lambda rng: rng.normal(size=(2, 2, 8, 8)))
        assert ("convolution1.forward(" in source) == (limit == copied)


def test_blocks_of_a_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows a block has, the last one with fewer among them."""
    W, b = weights(np.float64, (3, 2, 3, 2), (3,))
    make = lambda rng: rng.normal(size=(2, 2, 15, 8))
    row = 8 * 3 * 2 * 6  # bytes of a row of the output
    for rows in (1, 4, 5, 100):
        monkeypatch.setattr("tinygrad_np.compiling.convolution.BLOCK", rows * row)
        monkeypatch.setattr("tinygrad_np.compiling.convolution.ADDED", rows * row)
        for relu, pool in ((True, True), (True, False)):
            assert "convolution1.x_gradient(" in agree(layer(W, b, relu, pool), make)


@pytest.mark.parametrize(("kernel", "stride"), [(3, None), (2, 1), ((2, 1), None)])
def test_other_windows_are_pooled_by_themselves(kernel: Any, stride: Any) -> None:
    W, b = weights(np.float64, (4, 2, 2, 2), (4,))

    def step(x: Any) -> Any:
        y = tg.max_pool(tg.relu(tg.conv2d(x, W, b)), kernel, stride)
        return y, *tg.gradients((y * y).sum(), [W, b])

    source = agree(step, lambda rng: rng.normal(size=(2, 2, 8, 8)))
    assert "convolution1.forward(" in source
    assert "pool_max(" in source


def test_what_others_read_stays() -> None:
    """Between the operations there is a value, if it is returned, read twice, or its own gradient."""
    W, b = weights(np.float64, (4, 2, 2, 2), (4,))
    make = lambda rng: rng.normal(size=(2, 2, 7, 8))

    def returned(x: Any) -> Any:
        z = tg.conv2d(x, W, b)
        y = tg.max_pool(tg.relu(z), 2)
        return z, y, *tg.gradients((y * y).sum(), [W, b])

    def read_twice(x: Any) -> Any:
        h = tg.relu(tg.conv2d(x, W, b))
        y = tg.max_pool(h, 2)
        return y, *tg.gradients((y * y).sum() + (h * h).sum(), [W, b])

    def asked_for(x: Any) -> Any:
        h = tg.relu(tg.conv2d(x, W, b))
        y = tg.max_pool(h, 2)
        return y, *tg.gradients((y * y).sum(), [h, W, b])

    def seen_as_array(x: Any) -> Any:
        h = tg.relu(tg.conv2d(x, W, b))
        return tg.max_pool(h, 2), h.data

    for step in (returned, read_twice, asked_for, seen_as_array):
        source = agree(step, make)
        assert "convolution1.forward(" in source
        assert "pool_max(" in source


def test_a_second_derivative() -> None:
    W, b = weights(np.float64, (3, 1, 2, 2), (3,))

    def step(x: Any) -> Any:
        y = tg.max_pool(tg.relu(tg.conv2d(x, W, b)), 2)
        (g,) = tg.gradients((y * y).sum(), [W], create_graph=True)
        return y, *tg.gradients((g * g).sum(), [W, b])

    agree(step, lambda rng: rng.normal(size=(2, 1, 5, 5)))


@pytest.mark.parametrize(("relu", "pool"), [(True, True), (False, True), (False, False)])
def test_gradients_alone(relu: bool, pool: bool) -> None:
    """Of a sum, whose cotangent is one number: the result is computed for what is behind it."""
    W, b = weights(np.float64, (4, 2, 2, 2), (4,))

    def step(x: Any) -> Any:
        y = tg.conv2d(x, W, b)
        y = tg.relu(y) if relu else y
        y = tg.max_pool(y, 2) if pool else y
        return tuple(tg.gradients(y.sum(), [W, b]))

    source = agree(step, lambda rng: rng.normal(size=(2, 2, 7, 8)))
    assert "convolution1.forward(" in source
    assert "convolution1.backward(" in source


@pytest.mark.parametrize("pool", [True, False])
def test_two_backward_passes(pool: bool) -> None:
    """The gradients of one are still there after the other."""
    W, b = weights(np.float64, (4, 2, 2, 2), (4,))

    def step(x: Any) -> Any:
        x = tg.Tensor(x, requires_grad=True)
        y = tg.relu(tg.conv2d(x, W, b))
        y = tg.max_pool(y, 2) if pool else y
        first = tg.gradients((y * y).sum(), [x, W, b])
        return *first, *tg.gradients((y * y * y).sum(), [x, W, b])

    source = agree(step, lambda rng: rng.normal(size=(2, 2, 7, 8)))
    assert "convolution1.backward(" in source
    assert "convolution1_2.backward(" in source


def test_results_are_the_callers() -> None:
    W, b = weights(np.float64, (4, 2, 2, 2), (4,))
    step = tg.compile(layer(W, b))
    held, copies = [], []
    for seed in range(6):
        results = [one.data for one in step(np.random.default_rng(seed).normal(size=(2, 2, 6, 6)))]
        held.append(results)
        copies.append([one.copy() for one in results])
        results[0][...] += 0
    for results, kept in zip(held, copies):
        for a, c in zip(results, kept):
            np.testing.assert_array_equal(a, c)


class Pictures(nn.Module):
    """Convolutions behind one another, a flattened end, and a branch that adds up two layers."""

    def __init__(self) -> None:
        self.first = nn.Conv2d(1, 4, kernel=3, padding=1, rng=1)
        self.second = nn.Conv2d(4, 6, kernel=3, rng=2)
        self.third = nn.Conv2d(6, 6, kernel=3, padding=1, rng=3)
        self.dense = nn.Dense(6 * 2 * 2, 3, rng=4)

    def forward(self, x: Any) -> Any:
        x = tg.max_pool(tg.relu(self.first(x)), 2)
        x = tg.max_pool(tg.relu(self.second(x)), 2)
        x = x + tg.relu(self.third(x))
        return self.dense(x.reshape(len(x), -1))


def test_training() -> None:
    """Gradients arrive in the optimizer's one array, and the weights move as they do in eager runs."""

    def training() -> Any:
        model = Pictures()
        optimizer = nn.SGD(model.parameters(), lr=0.05, momentum=0.9)
        loss_of = nn.SoftmaxCrossEntropy()

        def step(x: Any, t: Any) -> Any:
            optimizer.zero_grad()
            loss = loss_of(model(x), t)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    (model, step), (other, eager) = training(), training()
    step = tg.compile(step)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(8 if seed % 4 < 3 else 5, 1, 13, 12)).astype(np.float32)
        t = rng.integers(0, 3, len(x))
        assert step(x, t).item() == pytest.approx(eager(x, t).item(), rel=1e-4)
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    assert step.reason is None
    assert "convolution3.x_gradient(" in step.source
