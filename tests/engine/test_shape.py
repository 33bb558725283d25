"""Operations that move elements: their adjoints, their views, and what PyTorch says."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_np as tg
from tinygrad_np.errors import NoDerivativeError

shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)


def adjoint(f: Any, shape: tuple[int, ...], g: Any) -> Any:
    """The gradient of sum(g * f(x)) for a linear f, exactly: what it makes of each unit array."""
    grad = np.zeros(shape)
    for i in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[i] = 1.0
        grad[i] = np.sum(g * f(unit))
    return grad


def assert_linear(numpy_f: Any, tensor_f: Any, shape: tuple[int, ...]) -> None:
    """The value is NumPy's, the gradient is the adjoint of NumPy's function."""
    rng = np.random.default_rng(len(shape))
    x = tg.Tensor(rng.normal(size=shape), requires_grad=True)
    y = tensor_f(x)
    np.testing.assert_array_equal(y.data, numpy_f(x.data))
    g = rng.normal(size=y.shape)
    y.backward(g)
    np.testing.assert_allclose(x.grad, adjoint(numpy_f, shape, g), rtol=1e-13, atol=1e-13)


@settings(max_examples=40, deadline=None)
@given(st.data(), shapes)
def test_pad(data: Any, shape: tuple[int, ...]) -> None:
    mode = data.draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]))
    width = st.tuples(st.integers(0, 5), st.integers(0, 5))
    widths = data.draw(st.lists(width, min_size=len(shape), max_size=len(shape)))
    assert_linear(lambda x: np.pad(x, widths, mode), lambda x: tg.pad(x, widths, mode), shape)


@settings(max_examples=40, deadline=None)
@given(st.data(), shapes)
def test_roll_flip_tile_and_repeat(data: Any, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = data.draw(st.integers(-5, 5))
    reps = tuple(data.draw(st.lists(st.integers(0, 3), max_size=4)))
    counts = data.draw(st.lists(st.integers(0, 3), min_size=shape[axis], max_size=shape[axis]))
    for f, args in (
        ("roll", (n, axis)), ("roll", (n,)), ("flip", (axis,)), ("tile", (reps,)),
        ("repeat", (abs(n), axis)), ("repeat", (counts, axis)),
    ):  # fmt: skip
        numpy_f, tensor_f = getattr(np, f), getattr(tg, f)
        assert_linear(lambda x: numpy_f(x, *args), lambda x: tensor_f(x, *args), shape)


@settings(max_examples=30, deadline=None)
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=4, max_side=3))
def test_orders_of_axes(data: Any, shape: tuple[int, ...]) -> None:
    axes = data.draw(st.permutations(range(len(shape))))
    k = data.draw(st.integers(1, len(shape)))
    back = [axis - len(shape) for axis in data.draw(st.permutations(range(len(shape))))]
    for f, args in (
        ("transpose", (axes,)),
        ("moveaxis", (axes[:k], back[:k])),
        ("swapaxes", (axes[0], back[0])),
        ("rot90", (data.draw(st.integers(-4, 4)), axes[:2])),
    ):  # fmt: skip
        numpy_f, tensor_f = getattr(np, f), getattr(tg, f)
        assert_linear(lambda x: numpy_f(x, *args), lambda x: tensor_f(x, *args), shape)


@settings(max_examples=30, deadline=None)
@given(st.data(), shapes)
def test_the_parts_of_a_split_make_the_whole(data: Any, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    sections = data.draw(
        st.one_of(st.integers(1, 5), st.lists(st.integers(0, 5), max_size=3).map(sorted))
    )
    x = tg.Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)
    parts = np.array_split(x, sections, axis)
    for part, expected in zip(parts, np.array_split(x.data, sections, axis), strict=True):
        np.testing.assert_array_equal(part.data, expected)
    weights = np.arange(1.0, 1.0 + x.size).reshape(shape)
    (np.concatenate(parts, axis) * weights).sum().backward()
    np.testing.assert_array_equal(x.grad, weights)


VIEWS = {
    "reshape": lambda np_, x: np_.reshape(x, (3, 2)),
    "ravel": lambda np_, x: np_.ravel(x),
    "transpose": lambda np_, x: np_.transpose(x),
    "matrix_transpose": lambda np_, x: np_.matrix_transpose(x),
    "moveaxis": lambda np_, x: np_.moveaxis(x, 0, -1),
    "swapaxes": lambda np_, x: np_.swapaxes(x, 0, 1),
    "squeeze": lambda np_, x: np_.squeeze(x),
    "expand_dims": lambda np_, x: np_.expand_dims(x, 0),
    "flip": lambda np_, x: np_.flip(x, 0),
    "rot90": lambda np_, x: np_.rot90(x),
    "diagonal": lambda np_, x: np_.diagonal(x),
    "diag": lambda np_, x: np_.diag(x),
    "atleast_3d": lambda np_, x: np_.atleast_3d(x),
    "split": lambda np_, x: np_.split(x, [1])[1],
    "broadcast_to": lambda np_, x: np_.broadcast_to(x, (2, 2, 3)),
    "roll": lambda np_, x: np_.roll(x, 1),
    "tile": lambda np_, x: np_.tile(x, 1),
    "repeat": lambda np_, x: np_.repeat(x, 1, axis=0),
    "pad": lambda np_, x: np_.pad(x, 0),
    "take": lambda np_, x: np_.take(x, [0], axis=0),
    "tril": lambda np_, x: np_.tril(x, 5),
    "hstack": lambda np_, x: np_.hstack([x]),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_result_shares_memory_where_that_of_numpy_does(name: str, order: Any) -> None:
    array = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    expected = VIEWS[name](np, array)
    got = VIEWS[name](tg, tg.Tensor(array))
    assert np.shares_memory(got.data, array) == np.shares_memory(expected, array)
    np.testing.assert_array_equal(got.data, expected)


def test_flatten_is_never_a_view() -> None:
    x = tg.Tensor([[1.0, 2.0]])
    assert not np.shares_memory(x.flatten().data, x.data)
    assert np.shares_memory(x.ravel().data, x.data)


@pytest.mark.parametrize(
    ("view", "place"),
    [
        (lambda x: tg.flip(x, 1), (0, 2)),
        (lambda x: tg.rot90(x), (0, 2)),
        (lambda x: tg.swapaxes(x, 0, 1), (0, 0)),
        (lambda x: tg.ravel(x)[2:][None], (0, 2)),
        (lambda x: tg.hsplit(x, [2])[1], (0, 2)),
    ],
    ids=["flip", "rot90", "swapaxes", "ravel", "hsplit"],
)
def test_a_write_into_a_view_is_a_write_into_its_base(view: Any, place: Any) -> None:
    x = tg.Tensor(np.zeros((2, 3))) * 1.0
    y = view(x)
    v = tg.Tensor(7.0, requires_grad=True)
    y[0, 0] = v
    expected = np.zeros((2, 3))
    expected[place] = 7.0
    np.testing.assert_array_equal(x.data, expected)
    (x * np.arange(6.0).reshape(2, 3)).sum().backward()
    assert v.grad == 3 * place[0] + place[1]


@pytest.mark.parametrize(
    "name", ["ravel", "fliplr", "flipud", "rot90", "atleast_2d", "tril", "trace", "diag"]
)
def test_numpys_own_functions_record(name: str) -> None:
    x = tg.Tensor(np.arange(4.0).reshape(2, 2), requires_grad=True)
    y = getattr(np, name)(x)
    assert isinstance(y, tg.Tensor)
    assert y.requires_grad or y is x
    np.testing.assert_array_equal(y.data, getattr(np, name)(x.data))


@pytest.mark.parametrize(
    ("call", "keyword"),
    [
        (lambda x: np.ravel(x, order="F"), "order"),
        (lambda x: np.hstack([x, x], dtype=np.float32), "dtype"),
        (lambda x: np.take(x, [0], mode="clip"), "mode"),
        (lambda x: np.pad(x, 1, "reflect", reflect_type="odd"), "reflect_type"),
        (lambda x: np.trace(x, dtype=np.float32), "dtype"),
    ],
)
def test_a_keyword_that_is_not_honoured_is_refused(call: Any, keyword: str) -> None:
    with pytest.raises(NoDerivativeError, match=f"'{keyword}' is not supported"):
        call(tg.Tensor(np.ones((2, 2)), requires_grad=True))


TORCH = {
    "roll": (lambda x: tg.roll(x, (1, -2), (0, 2)), lambda t, x: t.roll(x, (1, -2), (0, 2))),
    "flip": (lambda x: tg.flip(x, (0, 2)), lambda t, x: t.flip(x, (0, 2))),
    "rot90": (lambda x: tg.rot90(x, 3, (0, 2)), lambda t, x: t.rot90(x, 3, (0, 2))),
    "tile": (lambda x: tg.tile(x, (2, 1, 3)), lambda t, x: t.tile(x, (2, 1, 3))),
    "repeat": (lambda x: tg.repeat(x, 2, 1), lambda t, x: t.repeat_interleave(x, 2, 1)),
    "repeat each": (
        lambda x: tg.repeat(x, [2, 0, 1], 1),
        lambda t, x: t.repeat_interleave(x, t.tensor([2, 0, 1]), 1),
    ),
    "moveaxis": (
        lambda x: tg.moveaxis(x, (0, 1), (2, 0)),
        lambda t, x: t.movedim(x, (0, 1), (2, 0)),
    ),
    "dstack": (lambda x: tg.dstack([x, x * x]), lambda t, x: t.dstack([x, x * x])),
    "column_stack": (
        lambda x: tg.column_stack([x, x * x]),
        lambda t, x: t.column_stack([x, x * x]),
    ),
    "reflect": (
        lambda x: tg.pad(x, ((0, 0), (0, 0), (2, 3)), "reflect"),
        lambda t, x: t.nn.functional.pad(x, (2, 3), "reflect"),
    ),
    "edge": (
        lambda x: tg.pad(x, ((0, 0), (0, 0), (2, 3)), "edge"),
        lambda t, x: t.nn.functional.pad(x, (2, 3), "replicate"),
    ),
    "wrap": (
        lambda x: tg.pad(x, ((0, 0), (0, 0), (2, 3)), "wrap"),
        lambda t, x: t.nn.functional.pad(x, (2, 3), "circular"),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_pytorch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = TORCH[name]
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 3, 4))
    x, t = tg.Tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    y, u = ours(x), theirs(torch, t)
    np.testing.assert_array_equal(y.data, u.detach().numpy())
    g = rng.normal(size=y.shape)
    y.backward(g)
    u.backward(torch.tensor(g))
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-13, atol=1e-13)
