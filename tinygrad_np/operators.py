"""One table that binds Python's operators, methods and NumPy's functions to the operations.

An operation becomes an operator, a method or the NumPy function of the same meaning here and
nowhere else. A NumPy function that is not in the table raises when it is given a Tensor, since what
it computed would have lost its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import backward, inplace
from .core import Primitive, Tensor, plain, told
from .errors import DtypeError, GradientError, NoDerivativeError, ShapeError, message
from .ops import (
    activation,
    arithmetic,
    decompositions,
    elementwise,
    index,
    linalg,
    products,
    rearrange,
    reduce,
    shape,
    sort,
)  # fmt: skip
from .tree import leaves

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
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.remainder,
    "and": arithmetic.bitwise_and,
    "or": arithmetic.bitwise_or,
    "xor": arithmetic.bitwise_xor,
}
UNARY = {
    "neg": arithmetic.negative,
    "abs": arithmetic.absolute,
    "pos": elementwise.positive,
    "invert": arithmetic.invert,
}
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
    "copy": arithmetic.copy,
    "round": elementwise.round,
    "sin": elementwise.sin,
    "cos": elementwise.cos,
    "square": elementwise.square,
    "relu": activation.relu,
    "sigmoid": activation.sigmoid,
    "softmax": activation.softmax,
    "log_softmax": activation.log_softmax,
    "logsumexp": activation.logsumexp,
    "sum": reduce.sum,
    "mean": reduce.mean,
    "max": reduce.max,
    "min": reduce.min,
    "var": reduce.var,
    "std": reduce.std,
    "prod": reduce.prod,
    "cumsum": reduce.cumsum,
    "cumprod": reduce.cumprod,
    "norm": reduce.norm,
    "median": reduce.median,
    "quantile": reduce.quantile,
    "argmax": reduce.argmax,
    "argmin": reduce.argmin,
    "all": reduce.all,
    "any": reduce.any,
    "argsort": sort.argsort,
    "reshape": shape.reshape,
    "transpose": shape.transpose,
    "squeeze": shape.squeeze,
    "ravel": shape.ravel,
    "flatten": shape.flatten,
    "swapaxes": shape.swapaxes,
    "repeat": rearrange.repeat,
    "take": index.take,
    "diagonal": index.diagonal,
    "trace": index.trace,
    "dot": products.dot,
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
    np.vecdot: products.vecdot,
    **{  # since NumPy 2.2
        getattr(np, f.__name__): f
        for f in (products.matvec, products.vecmat)
        if hasattr(np, f.__name__)
    },
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
    np.logical_xor: arithmetic.logical_xor,
    np.bitwise_and: arithmetic.bitwise_and,
    np.bitwise_or: arithmetic.bitwise_or,
    np.bitwise_xor: arithmetic.bitwise_xor,
    np.invert: arithmetic.invert,
    np.sin: elementwise.sin,
    np.cos: elementwise.cos,
    np.tan: elementwise.tan,
    np.arcsin: elementwise.arcsin,
    np.arccos: elementwise.arccos,
    np.arctan: elementwise.arctan,
    np.arctan2: elementwise.arctan2,
    np.hypot: elementwise.hypot,
    np.sinh: elementwise.sinh,
    np.cosh: elementwise.cosh,
    np.arcsinh: elementwise.arcsinh,
    np.arccosh: elementwise.arccosh,
    np.arctanh: elementwise.arctanh,
    np.rad2deg: elementwise.rad2deg,
    np.deg2rad: elementwise.deg2rad,
    np.exp2: elementwise.exp2,
    np.expm1: elementwise.expm1,
    np.log2: elementwise.log2,
    np.log10: elementwise.log10,
    np.log1p: elementwise.log1p,
    np.logaddexp: elementwise.logaddexp,
    np.logaddexp2: elementwise.logaddexp2,
    np.square: elementwise.square,
    np.cbrt: elementwise.cbrt,
    np.reciprocal: elementwise.reciprocal,
    np.positive: elementwise.positive,
    np.floor: elementwise.floor,
    np.ceil: elementwise.ceil,
    np.trunc: elementwise.trunc,
    np.rint: elementwise.rint,
    np.floor_divide: elementwise.floor_divide,
    np.remainder: elementwise.remainder,
    np.fmod: elementwise.fmod,
    np.fmax: elementwise.fmax,
    np.fmin: elementwise.fmin,
    np.fabs: elementwise.fabs,
    np.copysign: elementwise.copysign,
    np.heaviside: elementwise.heaviside,
    np.degrees: elementwise.rad2deg,
    np.radians: elementwise.deg2rad,
}
FUNCTIONS: dict[Operation, Operation] = {
    np.where: arithmetic.where,
    np.copy: arithmetic.copy,
    np.clip: arithmetic.clip,
    np.round: elementwise.round,
    np.around: elementwise.round,
    np.sum: reduce.sum,
    np.mean: reduce.mean,
    np.max: reduce.max,
    np.min: reduce.min,
    np.var: reduce.var,
    np.std: reduce.std,
    np.prod: reduce.prod,
    np.cumsum: reduce.cumsum,
    np.cumprod: reduce.cumprod,
    np.linalg.norm: reduce.norm,
    np.median: reduce.median,
    np.quantile: reduce.quantile,
    np.argmax: reduce.argmax,
    np.argmin: reduce.argmin,
    np.all: reduce.all,
    np.any: reduce.any,
    np.sort: sort.sort,
    np.argsort: sort.argsort,
    np.searchsorted: sort.searchsorted,
    np.reshape: shape.reshape,
    np.transpose: shape.transpose,
    np.matrix_transpose: shape.matrix_transpose,
    np.squeeze: shape.squeeze,
    np.expand_dims: shape.expand_dims,
    np.broadcast_to: shape.broadcast_to,
    np.concatenate: shape.concatenate,
    np.stack: shape.stack,
    np.ravel: shape.ravel,
    np.moveaxis: shape.moveaxis,
    np.swapaxes: shape.swapaxes,
    np.flip: shape.flip,
    np.flipud: shape.flipud,
    np.fliplr: shape.fliplr,
    np.rot90: shape.rot90,
    np.atleast_1d: shape.atleast_1d,
    np.atleast_2d: shape.atleast_2d,
    np.atleast_3d: shape.atleast_3d,
    np.broadcast_arrays: shape.broadcast_arrays,
    np.hstack: shape.hstack,
    np.vstack: shape.vstack,
    np.dstack: shape.dstack,
    np.column_stack: shape.column_stack,
    np.append: shape.append,
    np.array_split: shape.array_split,
    np.split: shape.split,
    np.hsplit: shape.hsplit,
    np.vsplit: shape.vsplit,
    np.dsplit: shape.dsplit,
    np.roll: rearrange.roll,
    np.tile: rearrange.tile,
    np.repeat: rearrange.repeat,
    np.pad: rearrange.pad,
    np.take: index.take,
    np.take_along_axis: index.take_along_axis,
    np.diagonal: index.diagonal,
    np.trace: index.trace,
    np.diag: index.diag,
    np.tril: index.tril,
    np.triu: index.triu,
    np.einsum: products.einsum,
    np.tensordot: products.tensordot,
    np.dot: products.dot,
    np.inner: products.inner,
    np.vdot: products.vdot,
    np.outer: products.outer,
    np.kron: products.kron,
    np.cross: products.cross,
    np.linalg.tensordot: products.tensordot,
    np.linalg.outer: products.outer,
    np.linalg.cross: products.cross,
    np.linalg.vecdot: products.vecdot,
    np.linalg.multi_dot: products.multi_dot,
    np.linalg.matmul: linalg.matmul,
    np.linalg.matrix_transpose: shape.matrix_transpose,
    np.linalg.diagonal: lambda x, offset=0: index.diagonal(x, offset, -2, -1),
    np.linalg.trace: lambda x, offset=0: index.trace(x, offset, -2, -1),
    np.linalg.inv: decompositions.inv,
    np.linalg.solve: decompositions.solve,
    np.linalg.det: decompositions.det,
    np.linalg.slogdet: decompositions.slogdet,
    np.linalg.matrix_power: decompositions.matrix_power,
    np.linalg.pinv: decompositions.pinv,
    np.linalg.cholesky: decompositions.cholesky,
    np.linalg.qr: decompositions.qr,
    np.linalg.eigh: decompositions.eigh,
    np.linalg.eigvalsh: decompositions.eigvalsh,
    np.linalg.svd: decompositions.svd,
    np.linalg.svdvals: decompositions.svdvals,
}
# NumPy functions that make a new array of the same kind: a Tensor, so that writes into it record.
LIKE: frozenset[Operation] = frozenset({np.zeros_like, np.ones_like, np.empty_like, np.full_like})
# NumPy functions that say something about the array and have nothing to differentiate.
ABOUT_NUMBERS: frozenset[Operation] = frozenset({
    np.array_equal, np.allclose, np.isclose, np.count_nonzero, np.nonzero,
})  # fmt: skip
ABOUT: frozenset[Operation] = ABOUT_NUMBERS | {
    np.shape, np.ndim, np.size, np.array_repr, np.array_str, np.array2string, np.result_type,
    np.may_share_memory, np.shares_memory, np.iscomplexobj, np.isrealobj,
}  # fmt: skip
# Methods of ufuncs: what `reduce` and `accumulate` are when they reduce one axis, 0 by default.
REDUCE: dict[np.ufunc, Operation] = {
    np.add: reduce.sum,
    np.multiply: reduce.prod,
    np.maximum: reduce.max,
    np.minimum: reduce.min,
    np.logical_and: reduce.all,
    np.logical_or: reduce.any,
}
ACCUMULATE: dict[np.ufunc, Operation] = {np.add: reduce.cumsum, np.multiply: reduce.cumprod}
ABOUT_UFUNCS: frozenset[np.ufunc] = frozenset({np.isnan, np.isfinite, np.isinf, np.signbit})


def _deep_plain(value: Any) -> Any:
    """Arguments of a NumPy function with the arrays in place of the tensors."""
    if isinstance(value, tuple | list):
        return type(value)(map(_deep_plain, value))
    if isinstance(value, dict):
        return {key: _deep_plain(item) for key, item in value.items()}
    return plain(value)


def looked_at(args: Any, name: str) -> None:
    """Tell those who keep a log that a function says something of the numbers of tensors."""
    for leaf in leaves(args):
        if type(leaf) is Tensor:
            told("looked", leaf.node, name)


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """NumPy calls this when a ufunc is given a Tensor."""
    name = f"np.{ufunc.__name__}"
    out = kwargs.pop("out", None)
    if out is not None:
        if method != "__call__" or len(out) != 1 or type(out[0]) is not Tensor:
            raise NoDerivativeError(
                f"{name}: out= and in-place writes into an ndarray would lose the gradient of a Tensor. "
                "Write a = a + b, or make `a` a Tensor."
            )
        return inplace.write_out(name, out[0], array_ufunc(self, ufunc, method, *inputs, **kwargs))
    if kwargs.get("where", True) is not True:
        raise NoDerivativeError(f"{name}: where= is not recorded. Use np.where on the result.")
    kwargs.pop("where", None)
    if ufunc in ABOUT_UFUNCS and method == "__call__":
        looked_at(inputs, name)
        return ufunc(*_deep_plain(inputs), **kwargs)
    if method == "__call__" and ufunc in UFUNCS and not kwargs:
        return UFUNCS[ufunc](*inputs)
    if method == "reduce" and ufunc in REDUCE and not kwargs.keys() - {"axis", "keepdims"}:
        return REDUCE[ufunc](*inputs, **{"axis": 0} | kwargs)
    if method == "accumulate" and ufunc in ACCUMULATE and not kwargs.keys() - {"axis"}:
        return ACCUMULATE[ufunc](*inputs, **{"axis": 0} | kwargs)
    if method == "at" and ufunc in (np.add, np.subtract) and type(inputs[0]) is Tensor:
        x, places, value = inputs
        return inplace.add_at(x, places, value if ufunc is np.add else -value)
    if method == "outer" and ufunc in UFUNCS and not kwargs:
        a, b = inputs
        return UFUNCS[ufunc](
            np.expand_dims(a, tuple(range(np.ndim(a), np.ndim(a) + np.ndim(b)))), b
        )
    spelled = name if method == "__call__" else f"{name}.{method}"
    raise _no_derivative(spelled + (f" with {', '.join(kwargs)}" if kwargs else ""))


def array_function(
    self: Tensor, function: Operation, types: Any, args: Any, kwargs: dict[str, Any]
) -> Any:
    """NumPy calls this when one of its other functions is given a Tensor."""
    if function in LIKE:
        return Tensor(function(*_deep_plain(args), **_deep_plain(kwargs)))
    if function in ABOUT:
        if function in ABOUT_NUMBERS:
            looked_at((args, kwargs), spelled(function))
        return function(*_deep_plain(args), **_deep_plain(kwargs))
    operation = FUNCTIONS.get(function)
    name = spelled(function)
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


def spelled(function: Operation) -> str:
    """A NumPy function as a user writes it: ``np.linalg.inv``."""
    module = (function.__module__ or "numpy").replace("numpy", "np", 1).split("._")[0]
    return f"{module}.{function.__name__}"


def _no_derivative(name: str) -> NoDerivativeError:
    return NoDerivativeError(
        f"{name}: no derivative is known here, so its result would lose the gradient. Pass x.data to "
        "compute with plain arrays, or define a primitive (tg.primitive) with its VJP."
    )


def to_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> Any:
    """``np.asarray(tensor)``: refused where it would drop a gradient."""
    if self.requires_grad:
        raise GradientError(
            f"array: {self.node.label} needs a gradient, which a plain array would lose. Join tensors "
            "with np.stack or np.concatenate; if plain numbers are meant, use .data or .detach()."
        )
    return np.array(self.numpy(), dtype=dtype, copy=copy)


def length(self: Tensor) -> int:
    if not self.shape:
        raise ShapeError(message("len", "a tensor with at least one axis", "a scalar"))
    return self.shape[0]


def iterate(self: Tensor) -> Any:
    rows = range(length(self))
    return (self[i] for i in rows)


def truth(self: Tensor) -> bool:
    if self.size != 1:
        raise ShapeError(
            message(
                "bool", "a tensor of one element", f"shape {self.shape}", "Use .any() or .all()."
            )
        )
    value = bool(self.node.value)
    told("branched", self.node, value)
    return value


def _bindings() -> dict[str, Any]:
    """Everything that `Tensor` is given here: operators, methods, properties, protocols."""
    bound: dict[str, Any] = {}
    for name, operation in BINARY.items():
        bound[f"__{name}__"] = _fast(operation)
        bound[f"__r{name}__"] = _reflected(operation)
    for name, operation in (UNARY | COMPARISONS).items():
        bound[f"__{name}__"] = _fast(operation)
    bound |= {name: _fast(operation) for name, operation in METHODS.items()}
    return bound | inplace.IN_PLACE | {
        "__getitem__": index.getitem,
        "__setitem__": inplace.setitem,
        "__array_ufunc__": array_ufunc,
        "__array_function__": array_function,
        "__array__": to_array,
        "__dlpack__": lambda self, **options: self.numpy().__dlpack__(**options),
        "__dlpack_device__": lambda self: self.data.__dlpack_device__(),
        "tolist": lambda self: self.data.tolist(),
        "__len__": length,
        "__iter__": iterate,
        "__bool__": truth,
        "__float__": lambda self: float(self.item()),
        "__int__": lambda self: int(self.item()),
        "__index__": lambda self: self.item().__index__(),
        "__hash__": object.__hash__,
        "T": property(shape.transpose),
        "mT": property(shape.matrix_transpose),
    }  # fmt: skip


def bound_names() -> set[str]:
    """The names that operators.py gives to `Tensor`."""
    return set(_bindings())


for _name, _value in _bindings().items():
    setattr(Tensor, _name, _value)
