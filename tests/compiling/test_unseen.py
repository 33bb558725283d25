"""Ways past NumPy's protocols by which Python may look at an array: a branch on it is never missed."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg

# Each is true of [2, 2] and [3, 3], and false of numbers below 1.
LOOKS: dict[str, Callable[[Any], Any]] = {
    "allclose": lambda x: not np.allclose(x, 0.6, atol=0.3),
    "any": lambda x: any(v > 1 for v in x),
    "apply_along_axis": lambda x: np.apply_along_axis(lambda v: v > 1, 0, x)[0],
    "arange": lambda x: len(np.arange(x[0])) > 1,
    "argwhere": lambda x: np.argwhere(x > 1).size > 0,
    "array of numbers": lambda x: np.array([x[0], x[1]])[0] > 1,
    "array with a dtype": lambda x: np.array(x, "f4")[0] > 1,
    "array": lambda x: np.array(x)[0] > 1,
    "array_equal": lambda x: not np.array_equal(x, np.minimum(x, 1)),
    "asarray with a dtype": lambda x: np.asarray(x, dtype=object)[0] > 1,
    "asarray": lambda x: np.asarray(x)[0] > 1,
    "asmatrix": lambda x: np.asmatrix(x)[0, 0] > 1,
    "average": lambda x: np.average(x) > 1,
    "base": lambda x: (x if x.base is None else x.base)[0] > 1,
    "bincount": lambda x: np.bincount((x > 1).astype(int)).shape[0] > 1,
    "complex": lambda x: complex(x[0]).real > 1,
    "contains": lambda x: 2.0 in x or 3.0 in x,
    "copyto": lambda x: (lambda a: (np.copyto(a, x), a[0] > 1)[1])(np.zeros(2)),
    "count_nonzero": lambda x: np.count_nonzero(x > 1) > 0,
    "dict": lambda x: {2.0: True, 3.0: True}.get(x[0], False),
    "digitize": lambda x: np.digitize(x, [1.0])[0] > 0,
    "divmod": lambda x: divmod(x[0], 1)[0] >= 2,
    "flat": lambda x: x.flat[0] > 1,
    "float32": lambda x: np.float32(x[0]) > 1,
    "fromiter": lambda x: np.fromiter(x, float)[0] > 1,
    "frombuffer": lambda x: np.frombuffer(x)[0] > 1,
    "frompyfunc": lambda x: np.frompyfunc(lambda v: v > 1, 1, 1)(x)[0],
    "full": lambda x: np.full(2, x[0])[0] > 1,
    "full_like": lambda x: np.full_like(np.zeros(2), x[0])[0] > 1,
    "histogram": lambda x: np.histogram(x, bins=[0, 1, 10])[0][1] > 0,
    "int": lambda x: int(x[0]) > 1,
    "int64": lambda x: np.int64(x[0]) > 1,
    "interface": lambda x: np.asarray(type("A", (), vars_of(x))())[0] > 1,
    "interp": lambda x: np.interp(x, [0, 1, 2], [0, 0, 1])[0] > 0,
    "isclose": lambda x: not np.isclose(x, 0.6, atol=0.3).all(),
    "item": lambda x: x.item(0) > 1,
    "mask": lambda x: x[x > 1].size > 0,
    "max": lambda x: max(x) > 1,
    "median": lambda x: np.median(x) > 1,
    "nan_to_num": lambda x: np.nan_to_num(x)[0] > 1,
    "ndenumerate": lambda x: any(v > 1 for _, v in np.ndenumerate(x)),
    "nonzero": lambda x: len(np.nonzero(x > 1)[0]) > 0,
    "norm": lambda x: np.linalg.norm(x) > 2,
    "out=": lambda x: (lambda a: (np.multiply(x, 1, out=a), a[0] > 1)[1])(np.zeros(2)),
    "real": lambda x: x.real[0] > 1,
    "reduce": lambda x: functools.reduce(operator.add, x) > 2,
    "reshape": lambda x: x.reshape(2, 1).T.ravel()[0] > 1,
    "round": lambda x: round(x[0] * 10) > 10,
    "searchsorted": lambda x: np.searchsorted([1.0], x)[0] > 0,
    "sorted": lambda x: sorted(x)[0] > 1,
    "sqrt": lambda x: math.sqrt(x[0]) > 1,
    "str": lambda x: str(x) > "[1.5",
    "tensor": lambda x: tg.Tensor(x).data[0] > 1,
    "tensor to array": lambda x: np.asarray(tg.Tensor(x))[0] > 1,
    "tensor to list": lambda x: tg.Tensor(x * 1).data.tolist()[0] > 1,
    "text": lambda x: f"{x[0]:.1f}" > "1.5",
    "tolist": lambda x: x.tolist()[0] > 1,
    "unique": lambda x: np.unique(x)[0] > 1,
    "vectorize": lambda x: np.vectorize(lambda v: v > 1)(x)[0],
    "view": lambda x: x.view(np.ndarray)[0] > 1,
    "where": lambda x: len(np.where(x > 1)[0]) > 0,
}


def vars_of(x: Any) -> dict[str, Any]:
    return {"__array_interface__": x.__array_interface__}


def argument(w: tg.Tensor, x: Any) -> Any:
    return x


def gradient(w: tg.Tensor, x: Any) -> Any:
    w.grad = None
    (x * w).sum().backward()
    return w.grad


def parameter(w: tg.Tensor, x: Any) -> Any:
    return w.data


def result(w: tg.Tensor, x: Any) -> Any:
    return (tg.Tensor(x) * 1).data


@pytest.mark.filterwarnings("ignore:.*matrix")
@pytest.mark.parametrize("of", [argument, gradient, parameter, result])
@pytest.mark.parametrize("look", LOOKS)
def test_a_branch_on_what_python_sees(look: str, of: Any) -> None:
    w = tg.Tensor(np.ones(2), requires_grad=True)

    def step(x: Any) -> Any:
        return x * 2 if LOOKS[look](of(w, x)) else x * 3

    compiled = tg.compile(step, warn=False)
    for value in (0.5, 0.6, 0.7, 0.8, 2.0, 3.0, 0.5, 2.0):
        w.data[:] = value
        expected = 2 * value if value > 1 else 3 * value
        assert compiled(np.full(2, value)).tolist() == pytest.approx([expected] * 2)


def test_a_number_of_an_array_taken_out_is_not_returned_as_a_constant() -> None:
    w = tg.Tensor(np.ones(2), requires_grad=True)

    def step(x: Any) -> Any:
        w.grad = None
        (x * w).sum().backward()
        buffer = np.zeros(2)
        buffer[:] = w.grad
        return int((buffer > 1).sum())

    compiled = tg.compile(step, warn=False)
    for value in (0.5, 0.6, 0.7, 2.0):
        assert compiled(np.full(2, value)) == 2 * (value > 1)
    assert "returns the number 0" in str(compiled.reason)


TABLE = np.array([1.0, 1.0, 1.0, 9.0])
HOLDER = SimpleNamespace(table=TABLE)


def of_a_variable(x: Any, t: Any) -> Any:
    return x / TABLE[t].sum()


def of_an_attribute(x: Any, t: Any) -> Any:
    return x / float(HOLDER.table[t - 1 + 1].sum())


def taken(x: Any, t: Any) -> Any:
    return x / tg.take(TABLE, t).sum() + TABLE[1:].sum() * (1 / len(x)) + HOLDER.table[0]


@pytest.mark.parametrize("step", [of_a_variable, of_an_attribute, taken])
def test_elements_of_a_table_that_are_rarely_others(step: Any) -> None:
    compiled = tg.compile(step, warn=False)
    for k in range(30):
        t = np.array([0, k % 3, 3 if k in (12, 20) else 1])
        x = tg.Tensor(np.full(2, float(k)))
        assert compiled(x, t).data.tolist() == pytest.approx(step(x, t).data.tolist())
    if step is taken:
        assert compiled.reason is None
    else:
        assert "which leaves no record if the places are an argument's" in str(compiled.reason)
