"""The backward pass: order, accumulation, depth, memory, threads, and what it refuses."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_np as tg
from tinygrad_np.backward import unbroadcast
from tinygrad_np.core import REGISTRY
from tinygrad_np.errors import ArgumentError, DtypeError, GradientError, ShapeError


def leaf(value: Any, name: str | None = None) -> tg.Tensor:
    return tg.Tensor(np.asarray(value, dtype=float), requires_grad=True, name=name)


def test_a_tensor_used_several_times_gets_the_sum() -> None:
    x = leaf(3.0)
    y = x * x + x + x * 2
    y.backward()
    assert x.grad == 2 * 3 + 1 + 2


def test_diamonds_are_visited_once_with_the_complete_cotangent() -> None:
    calls = []
    count = tg.primitive("{x}", name="count")(lambda x: x * 1.0).vjp(
        x=lambda g: (calls.append(g), g)[1]
    )
    REGISTRY.remove(count)
    x = leaf(2.0)
    h = count(x)
    for _ in range(20):  # 2**20 paths
        h = h + h
    h.backward()
    assert x.grad == 2.0**20
    assert len(calls) == 1


def test_backward_twice_accumulates_exactly() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    first = x.grad.copy()
    y.backward()
    np.testing.assert_array_equal(x.grad, 2 * first)


def test_gradients_do_not_share_memory() -> None:
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    seed = np.ones(2)
    (a + b).backward(seed)
    a.grad *= 10
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])
    np.testing.assert_array_equal(seed, [1.0, 1.0])
    c = leaf([1.0, 2.0])
    c.backward(seed)
    c.grad += 1
    np.testing.assert_array_equal(seed, [1.0, 1.0])


def test_a_vjp_that_returns_a_saved_array_does_not_lend_it() -> None:
    f = tg.primitive("{x}.sum()", name="dot_with_itself")(lambda x, w: np.sum(x * w)).vjp(
        x=lambda w: w
    )
    REGISTRY.remove(f)
    x, w = leaf([1.0, 2.0]), np.array([5.0, 6.0])
    f(x, w).backward()
    x.grad *= 0
    np.testing.assert_array_equal(w, [5.0, 6.0])
    tg.gradients(f(x, w), x).data[...] = 0
    np.testing.assert_array_equal(w, [5.0, 6.0])
    with tg.debug():
        x.grad = None
        f(x, w).backward()
    x.grad *= 0
    np.testing.assert_array_equal(w, [5.0, 6.0])


def test_a_chain_of_100_000_operations() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1e-5
    y.backward()
    assert x.grad == 1.0


def test_a_million_operations_are_built_differentiated_and_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0)
        y = x
        for _ in range(1_000_000):
            y = -y
        y.backward()
        assert x.grad == 1.0
        last = weakref.ref(y)
        del y
        assert last() is None
        assert gc.collect() < 100  # no reference cycles were left for the collector
    finally:
        gc.enable()


def test_the_memory_of_a_finished_graph_is_gone_at_once() -> None:
    gc.disable()
    try:
        x = leaf(np.ones(10_000))
        tracemalloc.start()
        loss = x
        for _ in range(100):
            loss = loss * 1.01
        loss = loss.sum()
        loss.backward()
        full, _ = tracemalloc.get_traced_memory()
        del loss
        empty, _ = tracemalloc.get_traced_memory()
        assert full > 100 * 80_000
        assert empty < 3 * 80_000  # the gradient and little else
    finally:
        tracemalloc.stop()
        gc.enable()


def test_no_grad_records_nothing_and_nests() -> None:
    x = leaf([1.0])
    with tg.no_grad():
        with tg.no_grad():
            pass
        y = x * 2
    assert not y.requires_grad
    assert y.is_leaf
    assert (x * 2).requires_grad

    @tg.no_grad()
    def f(x: Any) -> Any:
        return x * 2

    assert not f(x).requires_grad
    assert f.__name__ == "f"


def test_no_grad_ends_with_an_exception() -> None:
    x = leaf([1.0])
    with pytest.raises(ZeroDivisionError), tg.no_grad():
        1 / 0  # noqa: B018  # raises
    assert (x * 2).requires_grad


def test_no_grad_in_one_thread_leaves_the_others_recording() -> None:
    x, inside, go_on = leaf([1.0]), threading.Event(), threading.Event()

    def quiet() -> None:
        with tg.no_grad():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=quiet)
    thread.start()
    inside.wait(10)
    recorded = (x * 2).requires_grad
    go_on.set()
    thread.join()
    assert recorded


def _train(seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    W, v = leaf(rng.normal(size=(5, 8))), leaf(rng.normal(size=(8, 1)))
    x, t = rng.normal(size=(20, 5)), rng.normal(size=(20, 1))
    for step in range(30):
        loss = tg.mean_squared_error((x @ W).tanh() @ v, t)
        if step % 5 == 0:
            with tg.no_grad():
                (x @ W).tanh()
        for p in (W, v):
            p.grad = None
        loss.backward()
        for p in (W, v):
            p.data = p.data - 0.1 * p.grad
    return np.concatenate([W.data.ravel(), v.data.ravel()])


def test_eight_threads_give_the_single_thread_numbers() -> None:
    expected = [_train(seed) for seed in range(8)]
    got: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: got.__setitem__(seed, _train(seed)))
        for seed in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(8):
        np.testing.assert_array_equal(got[seed], expected[seed])


@given(st.lists(st.integers(1, 3), max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_unbroadcast_is_the_adjoint_of_broadcasting(shape: list[int], data: st.DataObject) -> None:
    extra = data.draw(st.lists(st.integers(0, 3), max_size=2))
    stretched = [data.draw(st.integers(0, 3)) if n == 1 else n for n in shape]
    x = np.random.default_rng(0).normal(size=shape)
    g = np.random.default_rng(1).normal(size=(*extra, *stretched))
    back = unbroadcast(g, tuple(shape))
    assert back.shape == tuple(shape)
    np.testing.assert_allclose(
        np.sum(g * np.broadcast_to(x, g.shape)), np.sum(back * x), atol=1e-12
    )


def test_hooks_see_the_complete_cotangent_and_may_replace_it() -> None:
    x = leaf([1.0, 2.0])
    h = x * 3
    seen = []
    remove = h.register_hook(lambda g: seen.append(g.copy()))
    h.register_hook(lambda g: g * 2)
    (h + h).sum().backward()
    np.testing.assert_array_equal(seen, [[2.0, 2.0]])
    np.testing.assert_array_equal(x.grad, [12.0, 12.0])
    remove()
    (h + h).sum().backward()
    assert len(seen) == 1
    with pytest.raises(GradientError, match="register_hook"):
        tg.Tensor([1.0]).register_hook(print)
    h.register_hook(lambda g: g.sum())
    with pytest.raises(ShapeError, match="hook on"):
        h.sum().backward()


def test_hooks_of_leaves_run_as_soon_as_their_cotangent_is_complete() -> None:
    W1, W2, both = leaf(np.ones((2, 3))), leaf(np.ones((3, 2))), leaf(2.0)
    seen: list[str] = []
    for name, tensor in (("W1", W1), ("W2", W2), ("both", both)):
        tensor.register_hook(lambda g, name=name: seen.append(f"{name} {g.shape}"))
    h = np.tanh(np.ones((4, 2)) @ W1) * both
    h.register_hook(lambda g: seen.append("h"))
    z = (h @ W2) * both
    z.register_hook(lambda g: seen.append("z"))
    z.sum().backward()
    assert seen == ["z", "W2 (3, 2)", "h", "both ()", "W1 (2, 3)"]
    seen.clear()
    tg.gradients((np.tanh(W1) @ W2).sum(), W1, create_graph=True)
    assert seen == ["W1 (2, 3)"]


def test_a_hook_of_a_leaf_replaces_its_gradient_alone_and_once() -> None:
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    remove = x.register_hook(lambda g: g * 10)
    (x * y + x).sum().backward()
    np.testing.assert_array_equal(x.grad, [40.0, 50.0])
    np.testing.assert_array_equal(y.grad, [1.0, 2.0])
    x.backward([1.0, 1.0])  # the leaf itself is the output
    np.testing.assert_array_equal(x.grad, [50.0, 60.0])
    remove()
    x.backward([1.0, 1.0])
    np.testing.assert_array_equal(x.grad, [51.0, 61.0])


def test_after_backward_sees_the_gradients_and_may_set_them() -> None:
    x = leaf([1.0, 2.0])

    def double() -> None:
        x.grad = x.grad * 2

    removes = [tg.after_backward(double), tg.after_backward(double)]
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, [4.0, 4.0])
    removes[0]()
    removes[0]()
    x.grad = None
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, [2.0, 2.0])
    removes[1]()
    tg.gradients(x.sum(), x)
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, [3.0, 3.0])


def test_retain_grad_keeps_an_intermediate_gradient() -> None:
    x = leaf([1.0, 2.0])
    h, other = x * 3, x * 5
    h.retain_grad()
    (h * h).sum().backward()
    np.testing.assert_array_equal(h.grad, 2 * h.data)
    assert other.grad is None
    with pytest.raises(GradientError, match="retain_grad"):
        tg.Tensor([1.0]).retain_grad()


def test_gradients_of_several_outputs_and_of_intermediates() -> None:
    x = leaf([1.0, 2.0])
    h = x * x
    loss = (h * 3).sum()
    dh, dx = tg.gradients(loss, [h, x])
    np.testing.assert_array_equal(dh.data, [3.0, 3.0])
    np.testing.assert_array_equal(dx.data, 6 * x.data)
    assert x.grad is None
    both = tg.gradients([loss, h.sum()], x, [2.0, None])
    np.testing.assert_array_equal(both.data, 12 * x.data + 2 * x.data)


def test_gradients_says_what_is_not_reached() -> None:
    x, y = leaf([1.0]), leaf([2.0], name="y")
    with pytest.raises(GradientError, match=r"does not depend on 'y'.*unreached"):
        tg.gradients((x * 2).sum(), y)
    zeros = tg.gradients((x * 2).sum(), y, unreached="zeros")
    np.testing.assert_array_equal(zeros.data, [0.0])
    with pytest.raises(GradientError, match="2 cotangents"):
        tg.gradients([x.sum(), x.sum()], x, [1.0])


def test_third_derivative() -> None:
    x = leaf(2.0)
    d1 = tg.gradients(x**5, x, create_graph=True)
    d2 = tg.gradients(d1, x, create_graph=True)
    d3 = tg.gradients(d2, x)
    assert d3.item() == 60 * 2.0**2


# -- what is refused -------------------------------------------------------------------------------


def test_backward_on_a_non_scalar_needs_a_cotangent() -> None:
    x = leaf([1.0, 2.0], name="x")
    with pytest.raises(GradientError, match=r"expected a scalar.*shape \(2,\).*\.sum\(\)"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"cotangent of the output's shape \(2,\)"):
        (x * 2).backward(np.ones(3))


def test_backward_on_what_needs_no_gradient() -> None:
    with pytest.raises(GradientError, match="'c' needs no gradient"):
        tg.Tensor(1.0, name="c").backward()


def test_integers_cannot_require_a_gradient() -> None:
    with pytest.raises(DtypeError, match=r"floating-point.*int64.*1\.0, not 1"):
        tg.Tensor([1, 2], requires_grad=True)
    with pytest.raises(DtypeError, match="floating-point"):
        tg.Tensor([True], requires_grad=True)


def test_a_parameter_changed_between_forward_and_backward_is_detected() -> None:
    W = leaf(np.ones((2, 2)), name="W")
    loss = (np.ones((1, 2)) @ W @ W).sum()
    W.data = W.data * 2
    with pytest.raises(GradientError, match="'W' was changed after matmul used it"):
        loss.backward()
    b = leaf(np.ones(2), name="b")
    loss = (b + 1).sum()
    b.data = b.data * 2  # no VJP reads b: the gradient is right all the same
    loss.backward()
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])


@pytest.mark.parametrize(
    ("formula", "error", "text"),
    [
        (lambda g: g.sum(), ShapeError, r"VJP of broken.*shape \(2, 3\)"),
        (lambda g: g[:, :2], ShapeError, r"VJP of broken"),
        (lambda g: g.T, ShapeError, r"VJP of broken.*shape \(3, 2\)"),
        (lambda g: 1.0, DtypeError, "VJP of broken"),
        (lambda g: None, DtypeError, "VJP of broken"),
        (lambda g: g * 1j, DtypeError, "complex"),
    ],
)
def test_a_vjp_with_a_wrong_result_is_an_error_that_names_the_operation(
    formula: Any, error: type[Exception], text: str
) -> None:
    broken = tg.primitive("{x}", name="broken")(lambda x: x * 1.0).vjp(x=formula)
    REGISTRY.remove(broken)
    x = leaf(np.ones((2, 3)))
    with pytest.raises(error, match=text):
        broken(x).backward(np.ones((2, 3)))
    assert x.grad is None


def test_an_exception_inside_a_vjp_names_the_operation() -> None:
    broken = tg.primitive("{x}", name="broken")(lambda x: x * 1.0).vjp(x=lambda g: g[7])
    REGISTRY.remove(broken)
    with pytest.raises(IndexError) as caught:
        broken(leaf([1.0])).backward([1.0])
    assert "backward step (VJP or hook) of broken" in caught.value.__notes__[0]


def test_a_vjp_formula_with_an_unknown_parameter_is_refused_at_definition() -> None:
    cube = tg.primitive("{x} ** 3", name="cube")(lambda x: x**3)
    REGISTRY.remove(cube)
    with pytest.raises(ArgumentError, match=r"vjp of cube: expected parameters among g, y, x"):
        cube.vjp(x=lambda g, z: g * z)
    with pytest.raises(ArgumentError, match="arguments among"):
        cube.vjp(z=lambda g: g)


def test_a_complex_output_is_refused() -> None:
    with pytest.raises(DtypeError, match="real output"):
        (leaf([1.0]) * 1j).backward([1.0])
