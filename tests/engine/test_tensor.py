"""The Tensor itself: construction, data, NumPy's protocols, copying, messages."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.core import REGISTRY, TYPE_CHECKING, Tensor
from tinygrad_np.errors import (
    ArgumentError,
    DtypeError,
    GradientError,
    NoDerivativeError,
    ShapeError,
)


def leaf(value: Any, name: str | None = None) -> Tensor:
    return Tensor(np.asarray(value, dtype=float), requires_grad=True, name=name)


def test_data_is_the_array_itself() -> None:
    array = np.ones(3, np.float32)
    t = Tensor(array)
    assert t.data is array
    assert t.dtype == np.float32
    assert Tensor([1, 2]).dtype == np.int64
    assert Tensor([1, 2], dtype=np.float32).dtype == np.float32


def test_attributes() -> None:
    t = Tensor(np.zeros((2, 3, 4)))
    assert (t.shape, t.ndim, t.size, len(t)) == ((2, 3, 4), 3, 24, 2)
    assert t.T.shape == (4, 3, 2)
    assert t.mT.shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("abc", "numbers or booleans"),
        ([[1.0], [1.0, 2.0]], "rows of equal length"),
        ([object()], "numbers or booleans"),
        (Tensor(1.0), r"\.detach\(\)"),
        (np.ma.masked_array([1.0], [True]), "mask would be lost"),
    ],
)
def test_what_is_not_an_array_of_numbers_is_refused(data: Any, text: str) -> None:
    with pytest.raises(DtypeError, match=text):
        Tensor(data)


def test_setting_data_keeps_shape_and_dtype() -> None:
    t = Tensor(np.ones(3, np.float32), requires_grad=True)
    t.data = np.full(3, 2.0)
    assert t.dtype == np.float32
    t.data -= 0.5 * np.ones(3, np.float32)
    np.testing.assert_array_equal(t.data, np.full(3, 1.5, np.float32))
    with pytest.raises(ShapeError, match=r"shape \(3,\) as before"):
        t.data = np.ones(4)
    with pytest.raises(GradientError, match="cannot be given other data"):
        (t * 2).data = np.ones(3)


def test_setting_grad_and_requires_grad() -> None:
    t = leaf([1.0, 2.0])
    t.grad = [3, 4]
    assert t.grad.dtype == np.float64
    with pytest.raises(ShapeError, match="grad"):
        t.grad = [1.0]
    t.grad = None
    t.requires_grad = False
    assert not (t * 2).requires_grad
    t.requires_grad = True
    with pytest.raises(GradientError, match="leaves only"):
        (t * 2).requires_grad = False


def test_numpy_and_asarray_refuse_to_drop_a_gradient() -> None:
    t = leaf([1.0], name="w")
    with pytest.raises(GradientError, match=r"'w' needs a gradient.*\.detach\(\)"):
        t.numpy()
    with pytest.raises(GradientError):
        np.asarray(t)
    with pytest.raises(GradientError):
        np.ones(1).astype(float).__iadd__(np.asarray(t * 2))
    d = t.detach()
    assert d.numpy() is t.data
    assert not d.requires_grad


def test_array_protocol_follows_the_copy_rules() -> None:
    t = Tensor([1.0, 2.0])
    assert np.asarray(t) is t.data
    assert np.array(t) is not t.data
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, dtype=np.float32, copy=False)


def test_dlpack() -> None:
    t = Tensor([1.0, 2.0])
    assert np.shares_memory(np.from_dlpack(t), t.data)
    with pytest.raises(GradientError):
        np.from_dlpack(leaf([1.0]))


def test_an_ndarray_on_the_left_records() -> None:
    x = leaf([1.0, 2.0])
    a = np.array([3.0, 4.0])
    for y in (a + x, a - x, a * x, a / x, a**x, a @ x, np.float64(2) * x, 2 - x):
        assert isinstance(y, Tensor)
        assert y.requires_grad


def test_numpy_functions_record() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    loss = np.sum(np.concatenate([np.exp(x), np.maximum(x, 2.0)], axis=1))
    loss.backward()
    np.testing.assert_allclose(x.grad, np.exp(x.data) + (x.data > 2))


def test_a_function_without_derivative_raises_and_names_it() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(NoDerivativeError, match=r"np\.fft\.fft.*x\.data"):
        np.fft.fft(x)
    with pytest.raises(NoDerivativeError, match=r"np\.spacing"):
        np.spacing(x)
    with pytest.raises(NoDerivativeError, match=r"np\.sum: the keyword 'dtype'"):
        np.sum(x, dtype=np.float32)


def test_out_and_where_are_refused() -> None:
    x, a = leaf([1.0, 2.0]), np.ones(2)
    with pytest.raises(NoDerivativeError, match=r"np\.add: out="):
        np.add(x, 1, out=a)
    with pytest.raises(NoDerivativeError, match="in-place writes into an ndarray"):
        a += x
    np.testing.assert_array_equal(a, np.ones(2))
    with pytest.raises(NoDerivativeError, match=r"where="):
        np.add(x, 1, where=np.array([True, False]))


def test_arrays_like_a_tensor_are_tensors_so_that_writes_record() -> None:
    x = leaf([1.0, 2.0, 3.0])
    y = np.zeros_like(x)
    y[1:] = x[1:] * 10
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [0.0, 10.0, 10.0])
    assert isinstance(np.full_like(x, 3.0), Tensor)
    assert x.copy().tolist() == [1.0, 2.0, 3.0]


def test_backprop_as_students_write_it_runs_on_tensors() -> None:
    rng = np.random.default_rng(0)
    scores, t = leaf(rng.normal(size=(4, 3))), np.array([0, 2, 1, 1])
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[range(4), t]).mean()
    dscores = p.copy()
    dscores[range(4), t] -= 1
    dscores /= 4
    loss.backward()
    np.testing.assert_allclose(scores.grad, dscores.data, atol=1e-15)


def test_ufunc_methods_record() -> None:
    a = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    x = leaf(a)
    for got, expected in [
        (np.add.reduce(x), np.add.reduce(a)),
        (np.add.reduce(x, axis=None), np.add.reduce(a, axis=None)),
        (
            np.multiply.reduce(x, axis=1, keepdims=True),
            np.multiply.reduce(a, axis=1, keepdims=True),
        ),
        (np.maximum.reduce(x, axis=(0, 1)), 6.0),
        (np.add.accumulate(x, axis=1), np.add.accumulate(a, axis=1)),
        (np.multiply.accumulate(x), np.multiply.accumulate(a)),
        (np.multiply.outer(x, x[0]), np.multiply.outer(a, a[0])),
        (np.subtract.outer(x[0], 1.0), np.subtract.outer(a[0], 1.0)),
    ]:
        assert got.requires_grad
        np.testing.assert_array_equal(got.data, expected)
    for call in (lambda: np.add.reduceat(x, [0]), lambda: np.multiply.at(x, 0, 1.0),
                 lambda: np.logaddexp.accumulate(x), lambda: np.add.reduce(x, initial=3.0)):  # fmt: skip
        with pytest.raises(NoDerivativeError):
            call()


def test_about_functions_compute_on_the_arrays() -> None:
    x = leaf([1.0, np.nan])
    np.testing.assert_array_equal(np.isnan(x), [False, True])
    assert np.shape(x) == (2,)
    assert not np.allclose(x, x)
    assert np.array_equal(x, x, equal_nan=True)


def test_iteration_truth_and_numbers() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    rows = list(x)
    assert all(isinstance(row, Tensor) and row.requires_grad for row in rows)
    assert float(x[0, 1]) == 2.0
    assert int(Tensor(3)) == 3
    assert [10, 20, 30][Tensor(1)] == 20
    assert bool(Tensor([1.0]))
    with pytest.raises(ShapeError, match=r"\.any\(\) or \.all\(\)"):
        bool(x)
    with pytest.raises(ShapeError, match="at least one axis"):
        len(Tensor(1.0))
    with pytest.raises(ShapeError, match="at least one axis"):
        iter(Tensor(1.0))
    with pytest.raises(ShapeError, match="one element"):
        x.item()


def test_comparisons_are_elementwise_and_tensors_are_hashable() -> None:
    x = leaf([1.0, 2.0])
    y = x > 1.5
    assert isinstance(y, Tensor)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.data, [False, True])
    assert {x: 1}[x] == 1
    np.testing.assert_array_equal((x == x).data, [True, True])


def test_copy_and_pickle_of_leaves() -> None:
    x = leaf([1.0, 2.0], name="x")
    x.grad = np.array([3.0, 4.0])
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        np.testing.assert_array_equal(twin.data, x.data)
        np.testing.assert_array_equal(twin.grad, x.grad)
        assert twin.data is not x.data
        assert (twin.name, twin.requires_grad) == ("x", True)
    with pytest.raises(GradientError, match=r"\.detach\(\)"):
        copy.deepcopy(x * 2)


def test_primitives_are_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(tg.relu)) is tg.relu
    assert copy.deepcopy(tg.tanh) is tg.tanh
    gone = tg.primitive("{x}", name="gone")(lambda x: x)
    data = pickle.dumps(gone)
    REGISTRY.remove(gone)
    with pytest.raises(ArgumentError, match="no primitive 'gone'"):
        pickle.loads(data)


def test_tensor_cannot_be_subclassed() -> None:
    with pytest.raises(TypeError, match="cannot be subclassed"):
        type("Mine", (Tensor,), {})


def test_names_are_strings() -> None:
    t = Tensor(1.0)
    t.name = "t"
    assert t.name == "t"
    with pytest.raises(DtypeError, match="name"):
        t.name = 3  # type: ignore[assignment]  # what is refused


def test_repr() -> None:
    assert repr(leaf([1.0, 2.0], name="w")) == "Tensor([1., 2.], requires_grad=True, name='w')"
    assert repr(leaf(2.0) * 3) == "Tensor(6., from multiply)"
    assert repr(Tensor(np.ones(2, np.float32))) == "Tensor([1., 1.], dtype=float32)"
    assert "shape=(200, 200)" in repr(Tensor(np.ones((200, 200))))


def test_every_bound_method_is_declared_for_type_checkers() -> None:
    """The TYPE_CHECKING block of Tensor and the table of operators.py name the same things."""
    import ast
    import inspect

    from tinygrad_np import core, operators

    assert not TYPE_CHECKING
    tree = ast.parse(inspect.getsource(core))
    tensor = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Tensor")
    block = next(n for n in tensor.body if isinstance(n, ast.If))
    declared = {n.name for n in block.body if isinstance(n, ast.FunctionDef)}
    declared |= {n.target.id for n in block.body if isinstance(n, ast.AnnAssign)}  # type: ignore[union-attr]
    bound = operators.bound_names() - {"__hash__", "__array_ufunc__", "__array_function__"}
    assert bound - declared == set()
    assert declared - bound == set()


def test_all_lists_what_is_public() -> None:
    import types

    names = {
        name for name, value in vars(tg).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }  # fmt: skip
    assert names - set(tg.__all__) <= {"TYPE_CHECKING", "Any", "import_module"}
    assert all(hasattr(tg, name) for name in tg.__all__)
