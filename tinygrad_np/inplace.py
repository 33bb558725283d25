"""Writing into tensors: ``x[i] = y``, ``x += y``, and the views that must see it.

A write never changes an array that somebody may have used. It computes a new array, by a recorded
operation, and gives the tensor that node; what was computed from the old one stays right. Views
follow: a write into a view is a write into its base, and every live view of the base is read again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .core import Node, Tensor, case, current_mode, plain, primitive, samples, tick
from .errors import ArgumentError, DtypeError, GradientError, IndexingError, ShapeError, message
from .ops.arithmetic import add, astype, divide, multiply, power, subtract
from .ops.elementwise import floor_divide, remainder
from .ops.index import index_text, is_basic, plain_index, scatter_add
from .ops.linalg import matmul
from .ops.shape import broadcast_to, reshape


def _written(x: Any, index: Any, value: Any) -> Any:
    y = np.array(x)
    y[index] = value
    return y


@primitive(expr=lambda x, value, index: f"written({x}, {value}, at=({index_text(index)}))")
def write(x, value, *, index):
    return _written(x, index, value)


@primitive(expr=lambda g, index: f"written({g}, 0, at=({index_text(index)}))")
def erase(g, *, index):
    """``g`` with zeros at the index."""
    return _written(g, index, 0)


def _last_writers(index: Any, x: Any) -> Any:
    """1 where a position of ``x[index]`` is the last of those that name the same element, else 0."""
    order = np.zeros(x.shape, dtype=int)
    positions = np.arange(order[index].size).reshape(order[index].shape)
    order[index] = positions
    return (order[index] == positions).astype(x.dtype)


write.vjp(
    x=lambda g, index: erase(g, index=index),
    value=lambda g, x, index: g[index] if is_basic(index) else g[index] * _last_writers(index, x),
)
erase.vjp(g=lambda g, index: erase(g, index=index))


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Write ``x[index] = value``; the gradient of ``x`` is 0 there, that of ``value`` is ``g[index]``.

    Parameters
    ----------
    x : Tensor
    index : as in reading
        Where an element is named twice the last value stays, and only that gets a gradient.
    value : array_like
        Of a shape that broadcasts to ``x[index]``.

    Raises
    ------
    GradientError
        For a leaf that requires a gradient: use ``tg.no_grad()``, or a copy.
    IndexingError, ShapeError

    Notes
    -----
    Whoever read ``x`` before keeps the old elements, and so does the ndarray it was made from;
    views of ``x`` see the new ones.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x, v = tg.Tensor([1.0, 2.0, 3.0]), tg.Tensor(5.0, requires_grad=True)
    >>> x[1:] = v
    >>> x.sum().backward()
    >>> x.data, v.grad
    (array([1., 5., 5.]), array(2.))
    """
    index = plain_index(index)
    if _is_parameter(x):
        _write_into_parameter(x, "x[...] = y", lambda array: array.__setitem__(index, plain(value)))
        return
    assign(x, _kept_dtype("x[...] = y", x, value, lambda: write(x, value, index=index)))


def _is_parameter(x: Tensor) -> bool:
    return x.is_leaf and x.requires_grad


def _write_into_parameter(x: Tensor, operation: str, change: Callable[[Any], Any]) -> None:
    """A write into a leaf that requires a gradient: only while nothing is recorded."""
    if current_mode().recording:
        raise GradientError(
            f"{operation}: {x.node.label} requires a gradient, and a recorded write would make it a "
            "result instead of a leaf. Write under `with tg.no_grad():`, or into a copy (x = x + 0)."
        )
    change(x.data)
    x.node.order = tick()


def _kept_dtype(operation: str, x: Tensor, value: Any, compute: Callable[[], Tensor]) -> Tensor:
    """The result of a write, in the dtype of ``x`` as in NumPy."""
    if x.dtype.kind != "f" and type(value) is Tensor and value.requires_grad:
        raise DtypeError(
            message(operation, "a floating-point tensor to write into", f"dtype {x.dtype}",
                    "The gradient of what is written would be lost; make it float.")
        )  # fmt: skip
    result = compute()
    if not np.can_cast(result.dtype, x.dtype, "same_kind"):
        raise DtypeError(message(operation, f"values that fit dtype {x.dtype}", f"{result.dtype}"))
    return result if result.dtype == x.dtype else astype(result, x.dtype)


def assign(x: Tensor, new: Tensor) -> None:
    """Make ``x`` hold what ``new`` holds, for its views and its base as well."""
    view_of = getattr(x, "_base", None)
    if view_of is None:
        _renode(x, new.node)
        return
    base, view, params = view_of
    places = view.fn(np.arange(base.size).reshape(base.shape), **params)
    if len(np.unique(places)) != places.size:
        raise ArgumentError(
            f"write into {x.node.label}: it is a view (of {view.name}) in which several elements are "
            "one element of its base, and is read-only as in NumPy. Copy it first (x + 0)."
        )
    if _is_parameter(base):
        _write_into_parameter(
            base,
            "write into a view",
            lambda array: array.flat.__setitem__(places.ravel(), new.data.ravel()),
        )
        _refresh(base)
        return
    flat = write(reshape(base, -1), new, index=places)
    assign(base, reshape(flat, base.shape))


def _renode(x: Tensor, node: Node) -> None:
    node.name = x.node.name
    x.node = node
    _refresh(x)


def _refresh(base: Tensor) -> None:
    """Read every live view of ``base`` again."""
    for reference in list(getattr(base, "_views", {}).values()):
        view = reference()
        if view is not None:
            _, read, params = view._base
            _renode(view, read(base, **params).node)


def in_place(name: str, operation: Any, ufunc: np.ufunc) -> Callable[[Tensor, Any], Tensor]:
    """The augmented assignment ``x op= y``: the same tensor, with new content."""

    def apply(self: Tensor, other: Any) -> Tensor:
        if _is_parameter(self):
            _write_into_parameter(
                self, name, lambda array: ufunc(array, plain(other), out=array, casting="same_kind")
            )
            return self
        new = _kept_dtype(name, self, other, lambda: operation(self, other))
        if new.shape != self.shape:
            raise ShapeError(
                message(name, f"an operand that broadcasts to shape {self.shape}",
                        f"a result of shape {new.shape}", "Write x = x + y for a new tensor.")
            )  # fmt: skip
        assign(self, new)
        return self

    return apply


def write_out(name: str, out: Tensor, result: Tensor) -> Tensor:
    """What a ufunc does with ``out=``: the result becomes the content of that tensor."""
    if _is_parameter(out):
        _write_into_parameter(out, f"{name} with out=", lambda array: np.copyto(array, result.data))
        return out
    new = _kept_dtype(f"{name} with out=", out, result, lambda: result)
    if new.shape != out.shape:
        raise ShapeError(
            message(f"{name} with out=", f"out of shape {result.shape}", f"{out.shape}")
        )
    assign(out, new)
    return out


def add_at(x: Tensor, index: Any, value: Any) -> None:
    """``np.add.at(x, index, value)``: each position of the index is added, also where two are one."""
    index = plain_index(index)
    if _is_parameter(x):
        _write_into_parameter(x, "np.add.at", lambda a: np.add.at(a, index, plain(value)))
        return
    shape = x.data[index].shape
    added = scatter_add(broadcast_to(value, shape), index=index, shape=x.shape)
    assign(x, _kept_dtype("np.add.at", x, added, lambda: x + added))


IN_PLACE = {
    "__iadd__": in_place("+=", add, np.add),
    "__isub__": in_place("-=", subtract, np.subtract),
    "__imul__": in_place("*=", multiply, np.multiply),
    "__itruediv__": in_place("/=", divide, np.divide),
    "__ifloordiv__": in_place("//=", floor_divide, np.floor_divide),
    "__imod__": in_place("%=", remainder, np.remainder),
    "__ipow__": in_place("**=", power, np.power),
    "__imatmul__": in_place("@=", matmul, np.matmul),
}


def written(x: Any, index: Any, value: Any) -> Tensor:
    """A copy of ``x`` in which ``copy[index] = value``: the pure form of `setitem`."""
    return write(x, value, index=plain_index(index))


samples(
    written,
    lambda r: [
        case(r(4, 3), 1, r(3)),
        case(r(4, 3), (slice(None), 2), r()),
        case(r(4, 3), slice(1, 3), r(2, 1)),
        case(r(4, 3), [0, 2], r(2, 3)),
        case(r(4), [0, 0, 2], r(3)),
        case(r(4, 3), r.data(4, 3) > 0, 1.5),
        case(r(4, 3), Ellipsis, r(4, 3)),
    ],
    reference=lambda x, index, value: _written(x, index, value),
    fails=lambda: [
        (case(Tensor(np.ones(3)), 5, 1.0), IndexingError, "index=5"),
        (case(Tensor(np.ones(3)), slice(0, 2), np.ones(3)), ShapeError, "value of shape (3,)"),
    ],
)
