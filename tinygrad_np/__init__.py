"""A define-by-run computation graph with reverse-mode differentiation, on NumPy.

>>> import numpy as np, tinygrad_np as tg
>>> W = tg.Tensor(np.ones((3, 2)), requires_grad=True, name="W")
>>> loss = np.tanh(np.eye(3) @ W).sum()
>>> loss.backward()
>>> W.grad.shape
(3, 2)
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from . import operators as operators  # binds operators, methods and NumPy's functions to Tensor
from .backward import backward, gradients, register_hook, retain_grad
from .core import Tensor, case, no_grad, primitive, samples
from .debug import debug
from .errors import TensorError
from .ops.activation import (
    celu, elu, gelu, hardsigmoid, hardswish, leaky_relu, log_sigmoid, log_softmax, logsumexp, mish, relu,
    relu6, selu, sigmoid, silu, softmax, softplus, softsign,
)  # fmt: skip
from .ops.arithmetic import (
    absolute, add, astype, clip, divide, exp, log, maximum, minimum, multiply, negative, power, sign, sqrt,
    subtract, tanh, where,
)  # fmt: skip
from .ops.attention import scaled_dot_product_attention
from .ops.convolution import conv1d, conv2d, conv_transpose2d
from .ops.decompositions import (
    cholesky, det, eigh, eigvalsh, inv, matrix_power, pinv, qr, slogdet, solve, svd, svdvals,
)  # fmt: skip
from .ops.elementwise import (
    arccos, arccosh, arcsin, arcsinh, arctan, arctan2, arctanh, cbrt, ceil, copysign, cos, cosh, deg2rad,
    erf, exp2, expm1, floor, floor_divide, fmod, heaviside, hypot, log1p, log2, log10, logaddexp,
    logaddexp2, positive, rad2deg, reciprocal, remainder, rint, round, sin, sinh, square, tan, trunc,
)  # fmt: skip
from .ops.embedding import embedding
from .ops.index import (
    diag, diagonal, getitem, one_hot, take, take_along_axis, trace, tril, triu,
)  # fmt: skip
from .ops.linalg import linear, matmul
from .ops.loss import (
    binary_cross_entropy, cosine_similarity, hinge, huber, kl_div, l1, mean_squared_error, nll,
    softmax_cross_entropy,
)  # fmt: skip
from .ops.normalization import batch_norm, group_norm, layer_norm, rms_norm
from .ops.pooling import avg_pool, fold, max_pool, unfold
from .ops.products import (
    cross, dot, einsum, inner, kron, matvec, multi_dot, outer, tensordot, vdot, vecdot, vecmat,
)  # fmt: skip
from .ops.reduce import (
    all, any, argmax, argmin, cumprod, cumsum, max, mean, median, min, norm, prod, quantile, std, sum, var,
)  # fmt: skip
from .ops.random import dropout
from .ops.rearrange import pad, repeat, roll, tile
from .ops.shape import (
    append, array_split, atleast_1d, atleast_2d, atleast_3d, broadcast_arrays, broadcast_to, column_stack,
    concatenate, dsplit, dstack, expand_dims, flatten, flip, fliplr, flipud, hsplit, hstack, matrix_transpose,
    moveaxis, ravel, reshape, rot90, split, squeeze, stack, swapaxes, transpose, vsplit, vstack,
)  # fmt: skip
from .ops.sort import argsort, searchsorted, sort, topk
from .ops.sparse import SparsePattern, sparse_matmul
from .transforms import (
    checkpoint, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp,
)  # fmt: skip

# Until glibc has seen a large block freed it gives the memory of each finished step back to the
# system, and the next step pays for it in page faults: up to half the time of a LeNet step. These
# pages are never touched, so they cost nothing.
np.empty(2**25 - 2**16, np.uint8)

if TYPE_CHECKING:
    from .drawing import Drawing, draw

__all__ = [
    "Drawing", "SparsePattern", "Tensor", "TensorError", "absolute", "add", "all", "any",
    "append", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax",
    "argmin", "argsort", "array_split", "astype", "atleast_1d", "atleast_2d", "atleast_3d",
    "avg_pool", "backward", "batch_norm", "binary_cross_entropy", "broadcast_arrays",
    "broadcast_to", "case", "cbrt", "ceil", "celu", "checkpoint", "cholesky", "clip",
    "column_stack", "concatenate", "conv1d", "conv2d", "conv_transpose2d", "copysign", "cos",
    "cosh", "cosine_similarity", "cross", "cumprod", "cumsum", "debug", "deg2rad", "derive",
    "det", "diag", "diagonal", "divide", "dot", "draw", "dropout", "dsplit", "dstack", "eigh",
    "eigvalsh", "einsum", "elu", "embedding", "erf", "exp", "exp2", "expand_dims", "expm1",
    "flatten", "flip", "fliplr", "flipud", "floor", "floor_divide", "fmod", "fold", "gelu",
    "getitem", "grad", "gradcheck", "gradients", "group_norm", "hardsigmoid", "hardswish",
    "heaviside", "hessian", "hinge", "hsplit", "hstack", "huber", "hvp", "hypot", "inner", "inv",
    "jacobian", "jvp", "kl_div", "kron", "l1", "layer_norm", "leaky_relu", "linear", "log",
    "log10", "log1p", "log2", "log_sigmoid", "log_softmax", "logaddexp", "logaddexp2",
    "logsumexp", "matmul", "matrix_power", "matrix_transpose", "matvec", "max", "max_pool",
    "maximum", "mean", "mean_squared_error", "median", "min", "minimum", "mish", "moveaxis",
    "multi_dot", "multiply", "negative", "nll", "no_grad", "norm", "one_hot", "outer", "pad",
    "pinv", "positive", "power", "primitive", "prod", "qr", "quantile", "rad2deg", "ravel",
    "reciprocal", "register_hook", "relu", "relu6", "remainder", "repeat", "reshape",
    "retain_grad", "rint", "rms_norm", "roll", "rot90", "round", "samples",
    "scaled_dot_product_attention", "searchsorted", "selu", "sigmoid", "sign", "silu", "sin",
    "sinh", "slogdet", "softmax", "softmax_cross_entropy", "softplus", "softsign", "solve",
    "sort", "sparse_matmul", "split", "sqrt", "square", "squeeze", "stack", "std", "subtract",
    "sum", "svd", "svdvals", "swapaxes", "take", "take_along_axis", "tan", "tanh", "tensordot",
    "tile", "topk", "trace", "transpose", "tril", "triu", "trunc", "unfold", "value_and_grad",
    "var", "vdot", "vecdot", "vecmat", "vjp", "vsplit", "vstack", "where",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Drawing is loaded when it is first used: with what it imports it takes as long as all the rest.
    if name in ("Drawing", "draw"):
        from . import drawing

        return getattr(drawing, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
