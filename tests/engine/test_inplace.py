"""Writing into tensors: what read before keeps the old, views and gradients are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, DtypeError, GradientError, ShapeError


def leaf(value: Any, name: str | None = None) -> tg.Tensor:
    return tg.Tensor(np.asarray(value, dtype=float), requires_grad=True, name=name)


def test_a_write_records() -> None:
    w, v = leaf([1.0, 2.0, 3.0]), leaf(5.0)
    x = w * 2
    x[1] = v
    (x * x).sum().backward()
    np.testing.assert_array_equal(w.grad, [8.0, 0.0, 24.0])
    assert v.grad == 10.0


def test_what_was_computed_before_keeps_the_old_elements() -> None:
    w = leaf([1.0, 2.0])
    x = w * 3
    y = x * x
    x[0] = 100.0
    y.sum().backward()
    np.testing.assert_array_equal(w.grad, 2 * 9 * w.data)


def test_the_array_a_tensor_was_made_from_is_not_written() -> None:
    a = np.zeros(3)
    x = tg.Tensor(a)
    x[0] = 1.0
    x += 1
    np.testing.assert_array_equal(a, np.zeros(3))
    np.testing.assert_array_equal(x.data, [2.0, 1.0, 1.0])


def test_masks_and_augmented_writes() -> None:
    w = leaf([1.0, -2.0, 3.0])
    x = w * 1
    x[x < 0] = 0.0
    x[x > 2] += 10
    np.testing.assert_array_equal(x.data, [1.0, 0.0, 13.0])
    (x * x).sum().backward()
    np.testing.assert_array_equal(w.grad, [2.0, 0.0, 26.0])


def test_an_element_named_twice_takes_the_last_value() -> None:
    v = leaf([1.0, 2.0])
    x = tg.Tensor(np.zeros(2))
    x[[0, 0]] = v
    x.sum().backward()
    np.testing.assert_array_equal(x.data, [2.0, 0.0])
    np.testing.assert_array_equal(v.grad, [0.0, 1.0])


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(
    ("view", "write"),
    [
        (lambda x: x[1], lambda v: v.__setitem__(0, 7.0)),
        (lambda x: x[:, 1:], lambda v: v.__setitem__((0, slice(None)), 7.0)),
        (lambda x: x.T, lambda v: v.__setitem__(2, 7.0)),
        (lambda x: x.reshape(3, 2), lambda v: v.__setitem__(1, 7.0)),
        (lambda x: x[None].squeeze(0), lambda v: v.__setitem__((0, 0), 7.0)),
        (lambda x: x.T[1:].reshape(2, 2), lambda v: v.__setitem__(0, 7.0)),  # a copy in NumPy, too
        (lambda x: x[::-1, ::2], lambda v: v.__imul__(3.0)),
        (lambda x: x[[0, 1]], lambda v: v.__setitem__(0, 7.0)),
    ],
)
def test_views_and_bases_see_each_others_writes_as_in_numpy(
    view: Any, write: Any, requires_grad: bool
) -> None:
    start = np.arange(6.0).reshape(2, 3)
    w = tg.Tensor(start.copy(), requires_grad=requires_grad)
    x, a = w * 1, start.copy()
    v, b = view(x), view(a)
    write(v), write(b)
    np.testing.assert_array_equal(v.data, b)
    np.testing.assert_array_equal(x.data, a)
    x[0, 0], a[0, 0] = -5.0, -5.0
    np.testing.assert_array_equal(v.data, b)
    x += 1
    a += 1
    np.testing.assert_array_equal(v.data, b)
    np.testing.assert_array_equal(x.data, a)


def test_gradients_through_writes_into_views() -> None:
    w, u = leaf(np.ones((2, 3))), leaf([10.0, 20.0])
    x = w * 2
    column = x[:, 1]
    row = x[0]
    column *= u  # x[:, 1] = 2 w[:, 1] u
    (row * row).sum().backward()  # row = (2, 2 * 10, 2)
    np.testing.assert_array_equal(row.data, [2.0, 20.0, 2.0])
    np.testing.assert_array_equal(w.grad, [[8.0, 2 * 20 * 2 * 10, 8.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(u.grad, [2 * 20 * 2.0, 0.0])


def test_a_broadcast_view_follows_its_base_and_cannot_be_written() -> None:
    x = tg.Tensor([1.0, 2.0]) * 1
    v = tg.broadcast_to(x, (3, 2))
    x[0] = 5.0
    np.testing.assert_array_equal(v.data, [[5.0, 2.0]] * 3)
    with pytest.raises(ArgumentError, match=r"read-only as in NumPy. Copy it first"):
        v[0] = 1.0
    with pytest.raises(ArgumentError, match="read-only"):
        v += 1


def test_a_parameter_is_written_through_its_diagonal_under_no_grad() -> None:
    w = leaf(np.zeros((2, 2)))
    with tg.no_grad():
        d = w.diagonal()
        d += 1
        transposed = w.T[0]
        transposed[1] = 7.0
    np.testing.assert_array_equal(w.data, [[1.0, 0.0], [7.0, 1.0]])


def test_dead_views_are_forgotten() -> None:
    x = tg.Tensor(np.zeros(10))
    for i in range(100):
        _ = x[i % 10 :]
    del _
    assert len(x._views) == 0


def test_a_leaf_that_requires_a_gradient_is_written_only_under_no_grad() -> None:
    w = leaf([1.0, 2.0], name="w")
    w.grad = np.ones(2)
    for write in (
        lambda: w.__setitem__(0, 1.0),
        lambda: w.__iadd__(1.0),
        lambda: w[:1].__iadd__(1.0),
    ):
        with pytest.raises(GradientError, match=r"requires a gradient.*no_grad"):
            write()
    np.testing.assert_array_equal(w.data, [1.0, 2.0])
    array = w.data
    loss = (w * w).sum()
    with tg.no_grad():
        w -= 0.5 * w.grad
        w[0] = 0.0
        w[1:] += 1
    assert w.data is array  # truly in place: whoever packed the array still holds it
    np.testing.assert_array_equal(w.data, [0.0, 2.5])
    assert w.requires_grad
    assert w.is_leaf
    with pytest.raises(GradientError, match="'w' was changed"):
        loss.backward()


def test_dtype_and_shape_stay() -> None:
    x = tg.Tensor(np.zeros(2, np.float32))
    x += np.ones(2)
    assert x.dtype == np.float32
    x[0] = np.float64(3)
    assert x.dtype == np.float32
    i = tg.Tensor([1, 2])
    with pytest.raises(DtypeError, match=r"\+=: expected values that fit dtype int64"):
        i += 0.5
    with pytest.raises(DtypeError, match="gradient of what is written would be lost"):
        i[0] = leaf(1.0)
    with pytest.raises(ShapeError, match=r"broadcasts to shape \(2,\)"):
        x += np.ones((3, 2))


def test_the_name_stays_with_the_tensor() -> None:
    x = tg.Tensor([1.0, 2.0], name="x")
    x += 1
    assert x.name == "x"


def test_augmented_assignment_is_seen_through_every_alias() -> None:
    x = tg.Tensor([1.0, 2.0])
    y = x
    y += 1
    np.testing.assert_array_equal(x.data, [2.0, 3.0])
