"""Translations of what computes with many elements: sums, products, windows, norms, loops over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import (
    activation,
    attention,
    convolution,
    decompositions,
    linalg,
    normalization,
    pooling,
    products,
    recurrent,
    reduce,
    sparse,
)
from ..ops.windows import Window
from .arrangement import reshaped, stack
from .graph import Value
from .translation import Result, translates

# --------------------------------------------------------------------------------------------------
# Reductions
# --------------------------------------------------------------------------------------------------

Axes = tuple[int, ...]


def reduced(y: Result, kind: str, x: Value, axis: Axes, keepdims: bool = True) -> Value:
    """An operator that reduces axes; without any it does nothing, where NumPy's says so."""
    return y.op(kind, x, y.integers(*axis), keepdims=int(keepdims), noop_with_empty_axes=1)


def _reduction(primitive: Any, kind: str) -> None:
    @translates(primitive)
    def reduce_axes(y: Result, x: Value, *, axis: Axes, keepdims: bool) -> Value:
        return reduced(y, kind, x, axis, keepdims)


_reduction(reduce.sum_over, "ReduceSum")
_reduction(reduce.mean_over, "ReduceMean")
_reduction(reduce.max_over, "ReduceMax")
_reduction(reduce.min_over, "ReduceMin")
_reduction(activation.logsumexp_over, "ReduceLogSumExp")


@translates(reduce.var_over)
def var(y: Result, x: Value, *, axis: Axes, ddof: float, keepdims: bool) -> Value:
    d = x - reduced(y, "ReduceMean", x, axis)
    n = int(np.prod(y.static(0, axis)))
    return reduced(y, "ReduceSum", d * d, axis, keepdims) / (n - ddof)


@translates(reduce.std_over)
def std(y: Result, x: Value, *, axis: Axes, ddof: float, keepdims: bool) -> Value:
    return y.op("Sqrt", var(y, x, axis=axis, ddof=ddof, keepdims=keepdims))


@translates(reduce.norm_2)
def norm(y: Result, x: Value, *, axis: Axes, keepdims: bool) -> Value:
    return reduced(y, "ReduceL2", x, axis, keepdims)


@translates(reduce.norm_p)
def norm_p(y: Result, x: Value, *, ord: float, axis: Axes, keepdims: bool) -> Value:
    return reduced(y, "ReduceSum", y.op("Abs", x) ** ord, axis, keepdims) ** (1 / ord)


@translates(reduce.prod_along)
def prod(y: Result, x: Value, *, axis: int) -> Value:
    return reduced(y, "ReduceProd", x, (axis,), keepdims=False)


@translates(reduce.cumsum_along)
def cumsum(y: Result, x: Value, *, axis: int) -> Value:
    return y.op("CumSum", x, y.graph.constant(np.int64(axis)))


def _place(primitive: Any, kind: str) -> None:
    @translates(primitive, mixed=True)
    def place(y: Result, x: Value, *, axis: int | None, keepdims: bool) -> Value:
        x = x.cast(np.int32) if x.dtype == bool else x
        if axis is None:
            flat = y.op(
                kind, y.op("Reshape", x, y.integers(-1)), axis=0, keepdims=0, dtype=np.int64
            )
            return reshaped(y, flat, y.shape)
        return y.op(kind, x, axis=axis, keepdims=int(keepdims), dtype=np.int64)


_place(reduce.argmax_along, "ArgMax")
_place(reduce.argmin_along, "ArgMin")


def _quantifier(primitive: Any, kind: str) -> None:
    @translates(primitive)
    def quantify(y: Result, x: Value, *, axis: Axes, keepdims: bool) -> Value:
        return reduced(y, kind, x.cast(np.int32), axis, keepdims).cast(bool)


_quantifier(reduce.all_over, "ReduceMin")
_quantifier(reduce.any_over, "ReduceMax")

# --------------------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------------------


@translates(linalg.matmul_2d)
def matmul(y: Result, x: Value, W: Value) -> Value:
    return y.op("MatMul", x, W)


@translates(linalg.linear_2d)
def linear(y: Result, x: Value, W: Value, b: Value) -> Value:
    if len(y.shape) == 2:
        return y.op("Gemm", x, W, b)
    return y.op("MatMul", x, W) + b


@translates(products.contract)
def einsum(y: Result, a: Value, b: Value, *, subscripts: str) -> Value:
    return y.op("Einsum", a, b, equation=subscripts)


@translates(decompositions.det)
def det(y: Result, x: Value) -> Value:
    return y.op("Det", x)


@translates(sparse.sparse_product)
def sparse_product(y: Result, values: Value, x: Value, *, pattern: Any) -> Value:
    """Rows of x times the values, each added to the row of the result where its value stands."""
    columns = y.op("Unsqueeze", values, y.integers(1))
    terms = y.op("Gather", x, pattern.columns.astype(np.int64), axis=0) * columns
    zeros = y.op("Expand", y.graph.constant(np.zeros((), y.dtype)), y.graph.lengths(y.shape))
    places = pattern.rows.astype(np.int64)[:, None]
    return y.op("ScatterND", zeros, places, terms, reduction="add")


# --------------------------------------------------------------------------------------------------
# Softmax, attention, norms
# --------------------------------------------------------------------------------------------------


@translates(activation.softmax_along)
def softmax(y: Result, x: Value, *, axis: int) -> Value:
    return y.op("Softmax", x, axis=axis)


@translates(activation.log_softmax_along)
def log_softmax(y: Result, x: Value, *, axis: int) -> Value:
    return y.op("LogSoftmax", x, axis=axis)


@translates(attention.attention_weights, mixed=True)
def attention_weights(y: Result, s: Value, mask: Value | None, *, causal: bool) -> Value:
    """Softmax over what the mask lets through; where that is nothing, 0 and not NaN."""
    hidden = np.array(-np.inf, y.dtype)
    if mask is not None:
        s = y.op("Where", mask, s, hidden, dtype=y.dtype) if mask.dtype == bool else s + mask
    if causal:
        T, S = y.static(0, (-2, -1))
        s = s + y.graph.constant(np.triu(np.full((T, S), hidden), k=1))
    p = y.op("Softmax", s, axis=-1)
    if mask is None:
        return p
    nothing = reduced(y, "ReduceMax", s, (-1,)).same(hidden)
    return y.op("Where", nothing, np.zeros((), y.dtype), p, dtype=y.dtype)


@translates(normalization.standardize)
def standardize(y: Result, x: Value, *, axis: Axes, eps: float) -> Value:
    d = x - reduced(y, "ReduceMean", x, axis)
    return d / y.op("Sqrt", reduced(y, "ReduceMean", d * d, axis) + eps)


@translates(normalization.rescale)
def rescale(y: Result, x: Value, *, axis: Axes, eps: float) -> Value:
    return x / y.op("Sqrt", reduced(y, "ReduceMean", x * x, axis) + eps)


# --------------------------------------------------------------------------------------------------
# Windows
# --------------------------------------------------------------------------------------------------


def _pads(window: Window) -> list[int]:
    """The margin before all axes, then that after."""
    return [*[before for before, _ in window.padding], *[after for _, after in window.padding]]


def _attributes(window: Window) -> dict[str, Any]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "dilations": window.dilation,
        "pads": _pads(window),
    }


@translates(convolution.conv)
def conv(y: Result, x: Value, W: Value, b: Value | None, *, window: Window, groups: int) -> Value:
    return y.op("Conv", x, W, b, group=groups, **_attributes(window))


@translates(convolution.conv_input)
def conv_transpose(
    y: Result, u: Value, W: Value, *, size: Any, window: Window, groups: int
) -> Value:
    steps = zip(window.margin(size), y.static(0, (2, 3)), window.stride, window.reach)
    output_padding = [n - (stride * (m - 1) + reach) for n, m, stride, reach in steps]
    return y.op(
        "ConvTranspose", u, W, group=groups, output_padding=output_padding, **_attributes(window)
    )


@translates(pooling.pool_max)
def max_pool(y: Result, x: Value, *, window: Window) -> Value:
    return y.op("MaxPool", x, **_attributes(window))


@translates(pooling.pool_mean)
def avg_pool(y: Result, x: Value, *, window: Window) -> Value:
    return y.op("AveragePool", x, count_include_pad=1, **_attributes(window))


@translates(pooling.windows_as_columns)
def unfold(y: Result, x: Value, *, window: Window) -> Value:
    """Every window as a column, picked out of the picture as one axis."""
    height, width = window.margin(tuple(y.static(0, (2, 3))))
    pads = [0, 0, *[b for b, _ in window.padding], 0, 0, *[a for _, a in window.padding]]
    wide = y.op("Pad", x, y.integers(*pads)) if any(pads) else x
    n, channels = y.shapes[0][:2]
    flat = reshaped(y, wide, (n, channels, height * width))
    places = window.views(np.arange(height * width).reshape(height, width), 0)
    seen = y.op("Gather", flat, np.ascontiguousarray(places, np.int64), axis=2)
    return reshaped(y, seen, y.shape)


@translates(pooling.columns_as_windows)
def fold(y: Result, u: Value, *, size: Any, window: Window) -> Value:
    attributes = {"strides": window.stride, "dilations": window.dilation, "pads": _pads(window)}
    return y.op("Col2Im", u, y.integers(*size), y.integers(*window.kernel), **attributes)


# --------------------------------------------------------------------------------------------------
# Loops over time
# --------------------------------------------------------------------------------------------------


def _of_a_loop(y: Result, q: Value, size: Any, gates: int, *shapes: Any) -> list[Value]:
    """The parts of the vector: z with the steps first, W transposed, others of the given shapes.

    They are taken from before they were joined, so that W stays a constant.
    """
    T, N, H = size
    parts = zip(y.graph.joined(q), [(gates * H, T, N), (H, gates * H), *shapes], strict=True)
    z, W, *others = [reshaped(y, *one) for one in parts]
    return [y.op("Transpose", z, perm=[1, 0, 2]), y.op("Transpose", W, perm=[1, 0]), *others]


@translates(recurrent.lstm_states)
def lstm_states(y: Result, q: Value, *, size: Any) -> Value:
    """A loop of any length. ONNX's LSTM is none: of the memories it returns the last alone."""
    _, N, H = size
    if not isinstance(H, int):
        raise y.unsupported("along the axis of the batch")
    z, W_T, b, h, c = _of_a_loop(y, q, size, 4, (4 * H, 1), (H, N), (H, N))

    def step(h: Value, c: Value, z: Value) -> tuple[Value, Value]:
        gates = z + y.op("MatMul", W_T, h) + b
        i, f, n, o = y.graph.ops("Split", 4, gates, dtypes=[y.dtype] * 4, axis=0, num_outputs=4)
        i, f, o = [y.op("Sigmoid", gate) for gate in (i, f, o)]
        c = f * c + i * y.op("Tanh", n)
        return o * y.op("Tanh", c), c

    return stack(y, *y.graph.scan(step, (h, c), z), axis=0)


@translates(recurrent.gru_states)
def gru_states(y: Result, q: Value, *, size: Any) -> Value:
    """A loop of any length, with the operators that `lstm_states` has, too."""
    _, N, H = size
    if not isinstance(H, int):
        raise y.unsupported("along the axis of the batch")
    z, W_T, b, h = _of_a_loop(y, q, size, 3, (3 * H, 1), (H, N))

    def step(h: Value, z: Value) -> tuple[Value]:
        split: dict[str, Any] = {"dtypes": [y.dtype] * 3, "axis": 0, "num_outputs": 3}
        z_r, z_u, z_n = y.graph.ops("Split", 3, z, **split)
        v_r, v_u, v_n = y.graph.ops("Split", 3, y.op("MatMul", W_T, h) + b, **split)
        r, u = [y.op("Sigmoid", gate) for gate in (z_r + v_r, z_u + v_u)]
        n = y.op("Tanh", z_n + r * v_n)
        return (n + u * (h - n),)

    (states,) = y.graph.scan(step, (h,), z)
    return states
