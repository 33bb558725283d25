"""Steps that update parameters in NumPy, without an optimizer: replayed, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np import operators
from tinygrad_np.compiling.log import ROUNDED_OTHERWISE


def in_place(p: Any) -> None:
    p.data -= 0.1 * p.grad


def anew(p: Any) -> None:
    p.data = p.data - 0.1 * p.grad


def all_elements(p: Any) -> None:
    p.data[:] = p.data - 0.1 * p.grad


def all_elements_in_place(p: Any) -> None:
    p.data[...] -= 0.1 * p.grad


def some_elements(p: Any) -> None:
    p.data[1:] -= 0.1 * p.grad[1:]
    p.data[0] = 0.5 * p.data[0]
    p.data[-1] = 0.25


def by_another_name(p: Any) -> None:
    w = p.data
    w -= 0.1 * p.grad


def with_out(p: Any) -> None:
    np.subtract(p.data, 0.1 * p.grad, out=p.data)


def decayed(p: Any) -> None:
    p.data *= 0.99
    p.data -= 0.1 * (p.grad + 0.01 * p.data)


def signs(p: Any) -> None:
    p.data -= 0.01 * np.sign(p.grad)


def clipped(p: Any) -> None:
    p.data -= 0.1 * np.clip(p.grad, -0.01, 0.01)


def scaled_gradient(p: Any) -> None:
    p.grad *= 0.5
    p.data -= 0.1 * p.grad


def another_gradient(p: Any) -> None:
    p.grad = 0.5 * p.grad
    p.data -= 0.1 * p.grad


def on_arrays(p: Any) -> None:
    tg.on_arrays(lambda p, g: np.subtract(p, 0.1 * g, out=p), p.data, p.grad)


UPDATES: list[Callable[[Any], None]] = [
    in_place, anew, all_elements, all_elements_in_place, some_elements, by_another_name, with_out,
    decayed, signs, clipped, scaled_gradient, another_gradient, on_arrays,
]  # fmt: skip


def training(update: Callable[[Any], None], dtype: Any = np.float32) -> Any:
    """A step that a user writes without an optimizer, and its parameters."""
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Dense(6, 8, activation="tanh", rng=rng, dtype=dtype),
        nn.Dense(8, 3, rng=rng, dtype=dtype),
    )
    params = model.parameters()

    def step(x: Any, t: Any) -> Any:
        for p in params:
            p.grad = None
        loss = tg.softmax_cross_entropy(model(x), t)
        loss.backward()
        for p in params:
            update(p)
        return loss

    return step, params


def batch(k: int, dtype: Any) -> Any:
    rng = np.random.default_rng(k)
    return rng.normal(size=(20, 6)).astype(dtype), rng.integers(0, 3, 20)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("update", UPDATES)
def test_updates(update: Any, dtype: Any, exact: bool) -> None:
    (eager, expected), (step, params) = training(update, dtype), training(update, dtype)
    arrays = [p.data for p in params]
    compiled = tg.compile(step, exact=exact)
    rtol = 0 if exact else 1e-4 if dtype is np.float32 else 1e-12  # sums in another order
    for k in range(9):
        loss, ours = eager(*batch(k, dtype)), compiled(*batch(k, dtype))
        np.testing.assert_allclose(ours.item(), loss.item(), rtol=rtol)
        for p, q in zip(expected, params):
            assert type(q.data) is type(q.grad) is np.ndarray
            np.testing.assert_allclose(q.data, p.data, rtol=rtol, atol=rtol)
            np.testing.assert_allclose(q.grad, p.grad, rtol=rtol, atol=rtol)
    assert compiled.reason is None
    if update is not anew:  # the array of the user's is written into, as by the step itself
        assert all(p.data is array for p, array in zip(params, arrays))


def test_a_norm_of_gradients_is_guarded_and_refused_to_the_bit() -> None:
    def step(params: Any, x: Any, t: Any, model: Any) -> Any:
        for p in params:
            p.grad = None
        loss = tg.softmax_cross_entropy(model(x), t)
        loss.backward()
        length = np.sqrt(sum(np.linalg.norm(p.grad) ** 2 for p in params))
        rate = 0.1 if length < 0.6 else 0.06 / length
        for p in params:
            p.data -= rate * p.grad
        return loss

    def make() -> Any:
        model = nn.Dense(6, 3, rng=np.random.default_rng(0), dtype=float)
        params = model.parameters()
        return lambda x, t: step(params, x, t, model), params

    (eager, expected), (ours, params), (exact, _) = make(), make(), make()
    compiled = tg.compile(ours)
    for k in range(12):
        x, t = batch(k, float)
        x *= (0.1, 3.0)[k % 2]
        assert compiled(x, t).item() == pytest.approx(eager(x, t).item(), rel=1e-12)
        for p, q in zip(expected, params):
            np.testing.assert_allclose(q.data, p.data, rtol=1e-12)
    assert compiled.reason is None
    assert "2 variants" in repr(compiled)
    refused = tg.compile(exact, exact=True, warn=False)
    for k in range(3):
        refused(*batch(k, float))
    assert "np.norm on an array rounds otherwise" in str(refused.reason)


def average_anew(mean: Any, p: Any) -> None:
    mean.data = 0.9 * mean.data + 0.1 * p.data


def average_in_place(mean: Any, p: Any) -> None:
    mean.data *= 0.9
    mean.data += 0.1 * p.data


def copy_now_and_then(mean: Any, p: Any) -> None:
    mean.data[...] = p.data


@pytest.mark.parametrize("average", [average_anew, average_in_place, copy_now_and_then])
def test_averages_of_parameters(average: Any) -> None:
    def make() -> Any:
        p = tg.Tensor(np.ones(3), requires_grad=True)
        mean = tg.Tensor(np.zeros(3))
        optimizer = nn.Adam([p], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = ((x * p - mean) ** 2).sum()
            loss.backward()
            optimizer.step()
            average(mean, p)
            return loss

        return step, mean, p

    (eager, mean, p), (step, our_mean, q) = make(), make()
    compiled = tg.compile(step)
    for k in range(12):
        x = np.random.default_rng(k).normal(size=3)
        assert compiled(x).item() == pytest.approx(eager(x).item(), rel=1e-12)
        np.testing.assert_allclose(our_mean.data, mean.data, rtol=1e-12)
        np.testing.assert_allclose(q.data, p.data, rtol=1e-12)
        if k == 6:
            our_mean.data, mean.data = np.full(3, 0.5), np.full(3, 0.5)
    assert compiled.reason is None


def test_a_wrong_rehearsal_leaves_no_data_behind() -> None:
    kept, scale = tg.Tensor(np.zeros(2)), SimpleNamespace(now=0.0)

    def step(x: Any) -> Any:
        kept.data = tg.Tensor(x) * getattr(scale, chr(110) + "ow")  # read where no log looks
        return tg.Tensor(x) * 2

    compiled = tg.compile(step, warn=False)
    for k in range(12):
        scale.now = k + 1.5
        compiled(np.ones(2))
        assert kept.data.tolist() == [scale.now] * 2
    assert "a constant changed" in str(compiled.reason)


def places(p: Any) -> None:
    p.data[np.abs(p.data) > 0.1] = 0.1


def text(p: Any) -> None:
    str(p.data)
    p.data *= 0.5


def sorted_gradient(p: Any) -> None:
    p.grad.sort()


def another_shape(p: Any) -> None:
    p.data += np.ones((4, *p.shape))


REFUSED = {
    places: "elements that an array or a list names",
    text: "Python computes with the array of '0.W', which the step changes",
    sorted_gradient: "calls .sort() of an array that it was given or took from a tensor",
}


@pytest.mark.parametrize("update", REFUSED)
def test_what_is_refused_is_done_as_written(update: Any) -> None:
    (eager, expected), (step, params) = training(update), training(update)
    compiled = tg.compile(step, warn=False)
    for k in range(6):
        assert compiled(*batch(k, np.float32)).item() == eager(*batch(k, np.float32)).item()
        for p, q in zip(expected, params):
            assert q.data.tobytes() == p.data.tobytes()
    assert REFUSED[update] in str(compiled.reason)


def test_an_update_of_another_shape_is_the_users_error() -> None:
    step, params = training(another_shape)
    before = [p.data.copy() for p in params]
    compiled = tg.compile(step, warn=False)
    for k in range(4):
        with pytest.raises(ValueError, match="broadcast"):
            compiled(*batch(k, np.float32))
    assert all(np.array_equal(p.data, array) for p, array in zip(params, before))


def test_an_array_that_becomes_a_plain_one_is_watched() -> None:
    w = tg.Tensor(np.ones(3), requires_grad=True)
    compiled = tg.compile(lambda x: x * np.asarray(w.data).sum())
    for _ in range(4):
        assert compiled(np.ones(1)).tolist() == [3.0]
    w.data[0] = 5.0
    assert compiled(np.ones(1)).tolist() == [7.0]


def test_another_place_is_another_step() -> None:
    w, row = tg.Tensor(np.zeros((3, 2)), requires_grad=True), [0]

    def step(x: Any) -> Any:
        w.data[row[0]] += x
        return w * 1

    compiled = tg.compile(step)
    expected = np.zeros((3, 2))
    for k in range(9):
        row[0] = k // 5
        expected[row[0]] += k
        assert compiled(np.full(2, float(k))).tolist() == expected.tolist()


FUNCTIONS = {
    f.__name__: f for f in {**operators.UFUNCS, **operators.FUNCTIONS}
    if f.__name__ not in ROUNDED_OTHERWISE
}  # fmt: skip


def calls_of(dtype: Any) -> Any:
    """Arguments and options, among which are some for nearly every function."""
    rng = np.random.default_rng(0)
    for shape in ((7,), (1000,), (40, 30), (3, 4, 5), (6, 6), (5, 3)):
        x, y = rng.normal(size=(2, *shape)).astype(dtype)
        yield from [((a,), {}) for a in (x, np.abs(x), np.clip(x, -0.9, 0.9))]
        yield from [((x, other), {}) for other in (y, y.T, 2, shape[::-1], -1)]
        yield from [((x, -0.5, 0.5), {}), ((x, 0, -1), {}), ((x > 0, x, y), {})]
        yield from [((x,), {"axis": 0}), ((x,), {"axis": -1, "keepdims": True})]
        yield (np.argsort(x, axis=-1), np.argsort(y, axis=-1)), {}
        yield (x, np.argsort(x, axis=-1), -1), {}
        if shape[0] == shape[-1]:
            yield (x @ x.T,), {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_on_arrays_and_on_tensors_agree_to_the_bit(name: str) -> None:
    f, compared = FUNCTIONS[name], 0
    for args, options in (one for dtype in "fd" for one in calls_of(dtype)):
        lifted = [
            tg.Tensor(a) if isinstance(a, np.ndarray) and a.dtype != bool else a for a in args
        ]
        try:
            plain, made = f(*args, **options), f(*lifted, **options)
        except Exception:  # no way to call this function: others are
            continue
        several = isinstance(plain, tuple | list)
        for a, b in zip(plain, made) if several else [(plain, made)]:
            np.testing.assert_array_equal(b.data if isinstance(b, tg.Tensor) else b, a)
            compared += 1
    assert compared
