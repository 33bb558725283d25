"""One table that binds Python's operators, methods and NumPy's functions to the operations.

An operation becomes an operator, a method or the NumPy function of the same meaning here and
nowhere else. A NumPy function that is not in the table raises when it is given a Tensor, since what
it computed would have lost its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import backward
from .core import Primitive, Tensor, plain
from .errors import DtypeError, NoDerivativeError, ShapeError, message
from .ops import activation, arithmetic, index, linalg, reduce, shape

Operation = Callable[..., Any]


def _fast(operation: Operation) -> Operation:
    """The recording function itself, without the call through the `Primitive`."""
    return operation.apply if isinstance(operation, Primitive) else operation


def _reflected(operation: Operation) -> Operation:
    fast = _fast(operation)
    return lambda self, other: fast(other, self)


BINARY = {
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "mul": arithmetic.multiply,
    "truediv": arithmetic.divide,
    "pow": arithmetic.power,
    "matmul": linalg.matmul,
}
UNARY = {"neg": arithmetic.negative, "abs": arithmetic.absolute}
COMPARISONS = {
    "eq": arithmetic.equal,
    "ne": arithmetic.not_equal,
    "lt": arithmetic.less,
    "le": arithmetic.less_equal,
    "gt": arithmetic.greater,
    "ge": arithmetic.greater_equal,
}
METHODS: dict[str, Operation] = {
    "backward": backward.backward,
    "retain_grad": backward.retain_grad,
    "register_hook": backward.register_hook,
    "exp": arithmetic.exp,
    "log": arithmetic.log,
    "sqrt": arithmetic.sqrt,
    "tanh": arithmetic.tanh,
    "abs": arithmetic.absolute,
    "clip": arithmetic.clip,
    "astype": arithmetic.astype,
    "relu": activation.relu,
    "sigmoid": activation.sigmoid,
    "softmax": activation.softmax,
    "log_softmax": activation.log_softmax,
    "logsumexp": activation.logsumexp,
    "sum": reduce.sum,
    "mean": reduce.mean,
    "max": reduce.max,
    "min": reduce.min,
    "reshape": shape.reshape,
    "transpose": shape.transpose,
    "squeeze": shape.squeeze,
}
# NumPy functions whose signature is ours; for those that differ, see the adapters below.
UFUNCS: dict[np.ufunc, Operation] = {
    np.add: arithmetic.add,
    np.subtract: arithmetic.subtract,
    np.multiply: arithmetic.multiply,
    np.divide: arithmetic.divide,
    np.negative: arithmetic.negative,
    np.power: arithmetic.power,
    np.matmul: linalg.matmul,
    np.exp: arithmetic.exp,
    np.log: arithmetic.log,
    np.sqrt: arithmetic.sqrt,
    np.tanh: arithmetic.tanh,
    np.absolute: arithmetic.absolute,
    np.sign: arithmetic.sign,
    np.maximum: arithmetic.maximum,
    np.minimum: arithmetic.minimum,
    np.equal: arithmetic.equal,
    np.not_equal: arithmetic.not_equal,
    np.less: arithmetic.less,
    np.less_equal: arithmetic.less_equal,
    np.greater: arithmetic.greater,
    np.greater_equal: arithmetic.greater_equal,
    np.logical_and: arithmetic.logical_and,
    np.logical_or: arithmetic.logical_or,
    np.logical_not: arithmetic.logical_not,
}
FUNCTIONS: dict[Operation, Operation] = {
    np.where: arithmetic.where,
    np.clip: arithmetic.clip,
    np.sum: reduce.sum,
    np.mean: reduce.mean,
    np.max: reduce.max,
    np.min: reduce.min,
    np.reshape: shape.reshape,
    np.transpose: shape.transpose,
    np.matrix_transpose: shape.matrix_transpose,
    np.squeeze: shape.squeeze,
    np.expand_dims: shape.expand_dims,
    np.broadcast_to: shape.broadcast_to,
    np.concatenate: shape.concatenate,
    np.stack: shape.stack,
}
# NumPy functions that say something about the array and have nothing to differentiate.
ABOUT: frozenset[Operation] = frozenset({
    np.shape, np.ndim, np.size, np.array_equal, np.allclose, np.isclose, np.array_repr,
    np.array_str, np.array2string, np.argsort, np.count_nonzero, np.nonzero, np.result_type,
    np.may_share_memory, np.shares_memory, np.iscomplexobj, np.isrealobj, np.zeros_like,
    np.ones_like, np.empty_like, np.full_like,
})  # fmt: skip
ABOUT_UFUNCS: frozenset[np.ufunc] = frozenset({np.isnan, np.isfinite, np.isinf, np.signbit})


def _deep_plain(value: Any) -> Any:
    """Arguments of a NumPy function with the arrays in place of the tensors."""
    if isinstance(value, tuple | list):
        return type(value)(map(_deep_plain, value))
    if isinstance(value, dict):
        return {key: _deep_plain(item) for key, item in value.items()}
    return plain(value)


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """NumPy calls this when a ufunc is given a Tensor."""
    name = f"np.{ufunc.__name__}"
    if kwargs.pop("out", None) is not None:
        raise NoDerivativeError(
            f"{name}: out= and in-place writes into an ndarray would lose the gradient of a Tensor. "
            "Write a = a + b, or make `a` a Tensor."
        )
    if kwargs.get("where", True) is not True:
        raise NoDerivativeError(f"{name}: where= is not recorded. Use np.where on the result.")
    kwargs.pop("where", None)
    if ufunc in ABOUT_UFUNCS and method == "__call__":
        return ufunc(*_deep_plain(inputs), **kwargs)
    if method == "__call__" and ufunc in UFUNCS and not kwargs:
        return UFUNCS[ufunc](*inputs)
    spelled = name if method == "__call__" else f"{name}.{method}"
    raise _no_derivative(spelled + (f" with {', '.join(kwargs)}" if kwargs else ""))


def array_function(
    self: Tensor, function: Operation, types: Any, args: Any, kwargs: dict[str, Any]
) -> Any:
    """NumPy calls this when one of its other functions is given a Tensor."""
    if function in ABOUT:
        return function(*_deep_plain(args), **_deep_plain(kwargs))
    operation = FUNCTIONS.get(function)
    name = f"np.{function.__name__}"
    if operation is None:
        raise _no_derivative(name)
    try:
        return operation(*args, **kwargs)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error) or isinstance(error, DtypeError):
            raise
        keyword = str(error).rpartition("argument ")[2]
        raise NoDerivativeError(
            f"{name}: the keyword {keyword} is not supported for tensors."
        ) from None


def _no_derivative(name: str) -> NoDerivativeError:
    return NoDerivativeError(
        f"{name}: no derivative is known here, so its result would lose the gradient. Pass x.data to "
        "compute with plain arrays, or define a primitive (tg.primitive) with its VJP."
    )


def to_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> Any:
    """``np.asarray(tensor)``: refused where it would drop a gradient."""
    return np.array(self.numpy(), dtype=dtype, copy=copy)


def length(self: Tensor) -> int:
    if not self.shape:
        raise ShapeError(message("len", "a tensor with at least one axis", "a scalar"))
    return self.shape[0]


def iterate(self: Tensor) -> Any:
    return (self[i] for i in range(length(self)))


def truth(self: Tensor) -> bool:
    if self.size != 1:
        raise ShapeError(
            message("bool", "a tensor of one element", f"shape {self.shape}", "Use .any() or .all().")
        )
    return bool(self.data)


def bind() -> None:
    """Give `Tensor` its operators and methods."""
    for name, operation in BINARY.items():
        setattr(Tensor, f"__{name}__", _fast(operation))
        setattr(Tensor, f"__r{name}__", _reflected(operation))
    for name, operation in (UNARY | COMPARISONS).items():
        setattr(Tensor, f"__{name}__", _fast(operation))
    for name, operation in METHODS.items():
        setattr(Tensor, name, _fast(operation))
    others: dict[str, Any] = {
        "__getitem__": index.getitem,
        "__array_ufunc__": array_ufunc,
        "__array_function__": array_function,
        "__array__": to_array,
        "__len__": length,
        "__iter__": iterate,
        "__bool__": truth,
        "__float__": lambda self: float(self.item()),
        "__int__": lambda self: int(self.item()),
        "__index__": lambda self: self.item().__index__(),
        "__hash__": object.__hash__,
        "T": property(shape.transpose),
        "mT": property(shape.matrix_transpose),
    }
    for name, value in others.items():
        setattr(Tensor, name, value)




bind()
