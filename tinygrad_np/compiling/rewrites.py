"""Operations that are written differently on memory that is used again, where that is faster.

Each rewrite computes what the operation's function and VJP compute, up to the order in which NumPy
adds. `python -m benchmarks` shows what they gain together; the test matrix holds them equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..core import Node, Primitive
from ..ops.activation import gelu_tanh, relu
from ..ops.attention import attention_weights
from ..ops.convolution import conv
from ..ops.linalg import linear_2d
from ..ops.loss import cross_entropy_of_labels
from ..ops.pooling import pool_max
from .convolution import (
    Within,
    are_floats,
    convolution,
    convolution_back,
    passed_back,
    passed_on,
    pooling,
    pooling_back,
)
from .traced import (
    FIXED,
    GIVEN,
    INTO_COLUMNS,
    INTO_ROWS,
    TEMPORARY,
    Call,
    Storage,
    Traced,
    UntraceableError,
)

if TYPE_CHECKING:
    from .lowering import Lowering

# Elements. Below, a mask of 0 and 1 in the array's dtype is faster to make and to multiply with; above,
# NumPy is several times faster with booleans, and with an array of zeros in place of one zero.
SMALL: Final = 1200
# Elements of an input that is copied, to put a row of ones below it.
COPIED: Final = 2**14
# Rows of a batch so short that where a product's result lies costs the product nothing.
FEW_ROWS: Final = 64
# Scores of an attention that are computed by columns.
SCORES: Final = 2**12


# --------------------------------------------------------------------------------------------------
# ReLU
# --------------------------------------------------------------------------------------------------


def _relu(lowering: Lowering, node: Node, x: Any) -> Any:
    if isinstance(x, Within):
        return passed_on(node, x)
    if not isinstance(x, Traced) or x.dtype.kind != "f" or x.size < SMALL:
        raise UntraceableError("relu of few numbers is as it is")
    if x.flags.c_contiguous:
        zeros = x.tape.filled(0, x.shape, x.dtype)
    elif x.flags.f_contiguous:
        zeros = x.tape.filled(0, x.shape[::-1], x.dtype).transpose()
    else:
        raise UntraceableError("relu of a view is as it is")
    return np.maximum(x, zeros), {}


def _relu_back(lowering: Lowering, node: Node, g: Any, x: Any, y: Any) -> dict[str, Any]:
    """Where y > 0 instead of x > 0: so x, which nobody else reads, can be written over by y."""
    if isinstance(x, Within):
        return passed_back(g, x)
    mask = np.sign(y) if y.dtype.kind == "f" and y.size < SMALL else y > 0
    return {"x": g * mask}


# --------------------------------------------------------------------------------------------------
# Affine maps whose weights and bias lie one after the other
# --------------------------------------------------------------------------------------------------


def _linear(lowering: Lowering, node: Node, x: Any, W: Any, b: Any) -> Any:
    """``y = x @ W + b`` as one product: of x with a column of ones, and of W with b as its last row.

    An optimizer's parameters lie in one flat array, and so W and b do; the gradients of both are one
    product as well. It saves a sum over the batch and the sum of arrays of different shapes.
    """
    both = _joined(W, b)
    if not isinstance(x, Traced) or both is None or x.dtype != W.dtype or W.shape[1] > 64:
        raise UntraceableError("weights and bias that do not lie together")
    ones = _with_ones(x)
    rows = len(x) <= FEW_ROWS and _stay_rows(lowering, node)
    y = x.tape.call(np.dot, (ones, both), {}, INTO_ROWS if rows else INTO_COLUMNS)
    lowering.notes[node] = (ones, both)
    return y, {}


def _stay_rows(lowering: Lowering, node: Node) -> bool:
    """Whether what is computed from a node meets no further product and no cross-entropy.

    Both take columns; what comes from outside, such as targets, lies by rows.
    """
    reader = lowering.only_reader(node)
    while reader is not None and reader.primitive not in (linear_2d, cross_entropy_of_labels):
        if np.ndim(reader.value) == 0:
            return True
        reader = lowering.only_reader(reader)
    return False


def _joined(W: Any, b: Any) -> Traced | None:
    """W and b as one matrix, if b begins where W ends."""
    if not (isinstance(W, Traced) and isinstance(b, Traced) and W.storage.kind == FIXED):
        return None
    w, bias = W.example, b.example
    if w.dtype != bias.dtype or not (w.flags.c_contiguous and bias.flags.c_contiguous):
        return None
    if b.storage is not W.storage or bias.ctypes.data != w.ctypes.data + w.nbytes:
        return None
    both = np.lib.stride_tricks.as_strided(w, (w.shape[0] + 1, w.shape[1]), w.strides)
    made = Traced(W.tape, both, W.storage)
    made.label = f"{W.label}_{b.label}"
    return made


def _with_ones(x: Traced) -> Traced:
    """x with a column of ones, in memory that keeps the ones."""
    storage = x.storage
    own = storage.kind == TEMPORARY and storage.home is None
    if not (own and x.covers() and x.flags.f_contiguous and x.ndim == 2):
        if x.storage.kind != GIVEN or x.size > COPIED or x.shape[1] > 64:
            raise UntraceableError("only a small argument of the step is worth a copy")
        if x.shape[0] < x.shape[1]:
            return _copied_beside_ones(x)
        copied = x.tape.temporary(np.empty_like(x.example, order="F"))
        copied.label = x.label or "inputs"
        x.tape.write(np.copyto, copied, x)
        x, storage = copied, copied.storage
    storage.ones = x.shape[0]
    rows, columns = x.shape
    example = np.ones((rows, columns + 1), x.dtype, order="F")
    example[:, :-1] = x.example
    made = Traced(x.tape, example, storage)
    made.label = f"{x.label}_1"
    return made


def _copied_beside_ones(x: Traced) -> Traced:
    """Few long rows of x, copied row by row, each with a one at its end."""
    storage = Storage(TEMPORARY, x.example.nbytes)
    storage.ones = len(x)
    made = Traced(x.tape, np.ones((len(x), x.shape[1] + 1), x.dtype), storage)
    copied = made[:, :-1]
    copied.label = x.label or "inputs"
    made.label = f"{copied.label}_1"
    x.tape.write(np.copyto, copied, x)
    return made


def _linear_back(lowering: Lowering, node: Node, g: Any, W: Any) -> dict[str, Any]:
    if node not in lowering.notes or not isinstance(g, Traced):
        raise UntraceableError("linear as it is")
    ones, joined = lowering.notes[node]
    found: dict[str, Any] = {}
    if node.inputs[0].needs:
        found["x"] = g.tape.call(np.dot, (g, W.T), {}, INTO_COLUMNS)
    if node.inputs[1].needs or node.inputs[2].needs:
        both = np.dot(ones.T, g)
        both.label = f"d{joined.label}"
        found |= {"W": both[:-1], "b": both[-1]}
    return found


# --------------------------------------------------------------------------------------------------
# Attention
# --------------------------------------------------------------------------------------------------


def _turned(s: Traced) -> Any:
    """A stack of products ``a @ b`` as the transposes of ``b.T @ a.T``.

    What is reduced over the last axis then runs along memory: several times as fast for rows of tens
    of numbers. Where nobody else reads the product as it was, it is not computed.
    """
    for call in reversed(s.tape.calls):
        if isinstance(call, Call) and call.result is s:
            if call.function is not np.matmul or call.args[0].ndim < 3 or call.args[1].ndim < 3:
                break
            a, b = call.args
            return np.matmul(b.swapaxes(-1, -2), a.swapaxes(-1, -2)).mT
    raise UntraceableError("no stack of products")


def _attention(lowering: Lowering, node: Node, s: Any, mask: Any, *, causal: bool) -> Any:
    product = node.inputs[0]
    if not isinstance(s, Traced) or s.size < SCORES or lowering.only_reader(product) is not node:
        raise UntraceableError("few scores, or scores that others read")
    if len(node.inputs) > 1 and node.inputs[1].needs:
        raise UntraceableError("a mask that learns")
    turned = _turned(s)
    p = attention_weights.fn(turned, mask, causal=causal)
    lowering.values[product] = turned
    lowering.notes[node] = True
    return p, {}


def _attention_back(lowering: Lowering, node: Node, g: Any, y: Any) -> dict[str, Any]:
    if node not in lowering.notes or not isinstance(g, Traced):
        raise UntraceableError("attention as it is")
    g = _turned(g)
    ones = g.tape.filled(1, g.shape[-1:], g.dtype)
    d = g - np.matmul(g * y, ones)[..., None]
    d *= y
    return {"s": d}


# --------------------------------------------------------------------------------------------------
# GELU
# --------------------------------------------------------------------------------------------------


def _gelu(lowering: Lowering, node: Node, x: Any) -> Any:
    """``y = (x/2) h`` with ``h = 1 + tanh(u)``, ``u = (c + 0.044715 c x**2) x``: two passes less."""
    if not are_floats(x):
        raise UntraceableError("gelu as it is")
    c = math.sqrt(2 / math.pi)
    u = x * x
    u *= 0.044715 * c
    u += c
    u *= x
    h = np.tanh(u)
    h += 1
    y = 0.5 * x
    y *= h
    lowering.notes[node] = h
    return y, {"t": _Later()}


def _gelu_back(lowering: Lowering, node: Node, g: Any, x: Any, y: Any) -> dict[str, Any]:
    """``dx = g (h/2 + y (2 - h) u')``, since ``1 - tanh(u)**2 = h (2 - h)``: three passes less."""
    if node not in lowering.notes:
        raise UntraceableError("gelu as it is")
    c, h = math.sqrt(2 / math.pi), lowering.notes[node]
    slope = x * x
    slope *= 3 * 0.044715 * c
    slope += c
    slope *= 2 - h
    slope *= y
    slope += 0.5 * h
    return {"x": slope * g}


# --------------------------------------------------------------------------------------------------
# Softmax cross-entropy
# --------------------------------------------------------------------------------------------------


def _cross_entropy(lowering: Lowering, node: Node, z: Any, t: Any, *, reduction: str) -> Any:
    """With a row for each class, so that what is reduced over classes runs along the batch."""
    if not isinstance(z, Traced) or not isinstance(t, Traced) or z.dtype.char not in "fd":
        raise UntraceableError("cross-entropy as it is")
    tape = z.tape
    rows, classes = z.shape
    t = t.astype(np.intp, copy=False)
    place = t * tape.filled(rows, (), t.dtype) + tape.fixed(np.arange(rows))
    by_class = z.T if z.T.flags.c_contiguous else z.T.copy()
    p = by_class - np.max(by_class, axis=0)
    picked = np.take(p.reshape(-1), place, mode="clip")
    e = np.exp(p)
    total = np.dot(tape.filled(1, (classes,), z.dtype), e)
    losses = np.log(total) - picked
    lowering.notes[node] = (e, total, place)
    weights = {"mean": 1 / rows, "sum": 1}
    if reduction in weights:
        losses = np.dot(tape.filled(weights[reduction], (rows,), z.dtype), losses)
    return losses, {"p": _Later(e, total)}


class _Later:
    """A residual that nobody but the rewritten VJP reads."""

    label = "p"

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


def _cross_entropy_back(lowering: Lowering, node: Node, g: Any, reduction: str) -> dict[str, Any]:
    """``dz = (p - onehot(t)) g / N`` with ``p = e / total``: the factor goes to the totals first."""
    if node not in lowering.notes:
        raise UntraceableError("cross-entropy as it is")
    e, total, place = lowering.notes[node]
    share = g / total.dtype.type(total.size) if reduction == "mean" else g
    d = e * (share / total)
    d.tape.write(subtract_at, d.reshape(-1), place, share)
    dz = d.T
    dz.turned = False  # a row for each sample again, and no product with weights
    return {"z": dz}


def subtract_at(x: Any, index: Any, value: Any) -> None:
    """``x[index] -= value``."""
    x[index] -= value


FORWARD: Final[dict[Primitive, Callable[..., Any]]] = {
    conv: convolution,
    relu: _relu,
    pool_max: pooling,
    gelu_tanh: _gelu,
    linear_2d: _linear,
    attention_weights: _attention,
    cross_entropy_of_labels: _cross_entropy,
}
BACKWARD: Final[dict[Primitive, Callable[..., dict[str, Any]]]] = {
    conv: convolution_back,
    relu: _relu_back,
    pool_max: pooling_back,
    gelu_tanh: _gelu_back,
    linear_2d: _linear_back,
    attention_weights: _attention_back,
    cross_entropy_of_labels: _cross_entropy_back,
}
