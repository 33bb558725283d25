"""Convolution, ReLU and max-pooling as one operation on memory of its own, a few rows at a time.

Activations lie as (H, C, W, N). The input is copied once for each column of the kernel, not for each
element; what the windows of an output row see is then one run of rows of the copies, so that a row is
one matrix product (M. Cho and D. Brand, "MEC: memory-efficient convolution", 2017), and the
gradients are products of the same arrays. Pooling comes before bias and ReLU, which then have a
quarter of the numbers: the largest of ``z + b`` is the largest z, plus b.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..core import Node
from ..ops.activation import relu
from ..ops.convolution import conv
from ..ops.pooling import pool_max
from ..ops.windows import Pads, Window
from .traced import Traced, UntraceableError

if TYPE_CHECKING:
    from .lowering import Lowering

# Bytes of the convolution's output that are made before they are pooled: they stay in the cache.
BLOCK: Final = 2**17
# Bytes of copies of an input. Larger ones are made a few rows at a time, by the operation as it is.
COPIES: Final = 2**26
PAIRS: Final = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))


class Convolution:
    """``y = max_pool(relu(conv(x, W) + b))`` of stride 1, with or without relu and 2x2 maxima.

    Of equal ones in a window the first counts, as one reads; the slope of ReLU at 0 is 0. Along a row
    even places come before odd ones if there is pooling, so that its pairs are two long runs. Rows
    and columns that no pair sees are not computed.

    Parameters
    ----------
    name : str
    x : ndarray, (N, C, H, W)
        An example of the input: its shape, dtype and layout.
    shape : (O, C, kh, kw)
        That of the weights.
    padding : ((top, bottom), (left, right))
    rectified, pooled : bool
        Whether ReLU and maxima follow.
    trained : bool
        Whether `backward` will be called.
    rows_first : bool
        Whether y lies as (H, O, W, N), which another convolution reads as it is, or as
        (O, H, W, N), of which the flattened batch is a view.

    Attributes
    ----------
    y : ndarray, (N, O, H', W')
    dx : ndarray, (N, C, H, W)
    dz : ndarray
        The cotangent before pooling, with zeros around it.
    dW, db : ndarray
        In the shapes of W and b. The results of the methods, all written over by the next call.
    """

    def __init__(
        self,
        name: str,
        x: Any,
        shape: tuple[int, int, int, int],
        padding: Pads,
        rectified: bool,
        pooled: bool,
        trained: bool,
        rows_first: bool,
    ) -> None:
        self.name, self.rectified, self.pooled, self.trained = name, rectified, pooled, trained
        (N, C, H, W), (O, _, kh, kw), dtype = x.shape, shape, x.dtype
        (top, bottom), (left, right) = padding
        height, width = H + top + bottom, W + left + right
        self.p = p = 2 if pooled else 1
        self.height, self.width, self.top, self.left = H, W, top, left
        rows, half = (height - kh + 1) // p, (width - kw + 1) // p
        run = p * half * N

        self.copies = np.empty((height, C, kw, p, half, N), dtype)
        self.seen: Any = None  # the input that `shifts` is a view of
        self.shifts: Any = None
        self.inner: Any = None  # where the input is copied to, in an array with a margin
        if any(map(any, padding)) or not x.transpose(2, 1, 3, 0).flags.c_contiguous:
            wide = np.zeros((height, C, width, N), dtype)
            self.inner = wide[top : top + H, :, left : left + W]
            self.shifts = self._shifted(wide)
        step, item = self.copies.strides[0], self.copies.itemsize
        columns = as_strided(self.copies, (rows * p, kh * C * kw, run), (step, run * item, item))
        self.matrix = np.empty((O, kh, C, kw), dtype)

        shape_of_y = (rows, O, half, N) if rows_first else (O, rows, half, N)
        rows_of_y = np.empty(shape_of_y, dtype)
        self.rows_of_y = rows_of_y if rows_first else rows_of_y.transpose(1, 0, 2, 3)
        self.y = self.rows_of_y.transpose(3, 1, 0, 2)
        self.zeros = np.zeros((half, N), dtype)

        block = max(p, BLOCK // (O * run * item) // p * p)
        z = np.empty((block, O, run), dtype)
        pairs = np.empty((block, O, half, N), dtype)
        is_left = np.empty((rows * p if trained and pooled else 0, O, half, N), bool)
        is_upper = np.empty((rows if trained and pooled else 0, O, half, N), bool)
        # Zeros above and below, which `x_gradient` reads.
        self.padded = np.zeros((height + kh - 1 if trained else 0, O, run), dtype)
        self.blocks, self.blocks_back = [], []
        if trained:
            g = self.padded[kh - 1 : kh - 1 + rows * p]
            self.parts = np.empty((rows * p, kh * C * kw, O), dtype)
            self.sums, self.db = np.empty((rows, O), dtype), np.empty(O, dtype)
            self.ones = np.ones(half * N, dtype)
            live = np.empty((block, O, half, N), bool)
            dy = np.empty((block, O, half, N), dtype)
            self.dmatrix = np.empty((kh * C * kw, O), dtype)
            self.dW = self.dmatrix.T.reshape(O, kh, C, kw).transpose(0, 2, 1, 3)
        copied = 0
        for start in range(0, rows * p, block):
            stop = min(start + block, rows * p)
            n, these, here = stop - start, slice(start, stop), slice(start // p, stop // p)
            new, copied = slice(copied, stop + kh - 1), stop + kh - 1
            y = self.rows_of_y[here]
            out = z[:n] if pooled else y.reshape(n, O, run) if rows_first else _merged(y)
            self.blocks.append(
                (new, self.copies[new], columns[these], out, y,
                 *_halves(z[:n], half, N, pooled), is_left[these],
                 pairs[:n], pairs[0:n:2], pairs[1:n:2], is_upper[here])
            )  # fmt: skip
            if trained:
                dz = g[these]
                m = stop // p - start // p
                after = dy[:m] if pooled else dz.reshape(n, O, half, N)
                self.blocks_back.append(
                    (here, y, live[:m], after, after.reshape(m, O, half * N), self.sums[here],
                     is_upper[here], pairs[:n], pairs[0:n:2], pairs[1:n:2], is_left[these],
                     *_halves(dz, half, N, pooled), columns[these], dz.mT, self.parts[these])
                )  # fmt: skip

    def forward(self, x: Any, W: Any, b: Any = None) -> Any:
        """`y`."""
        shifts = self._shifts(x)
        np.copyto(self.matrix, W.transpose(0, 2, 1, 3))
        matrix = self.matrix.reshape(len(W), -1)
        bias = None if b is None else b[:, None, None]
        for new, copies, columns, z, y, left, right, is_left, pairs, upper, lower, is_upper in (
            self.blocks
        ):
            np.copyto(copies, shifts[new])
            np.matmul(matrix, columns, out=z)
            if self.pooled:
                np.maximum(left, right, out=pairs)
                np.maximum(upper, lower, out=y)
                if self.trained:
                    np.greater_equal(left, right, is_left)
                    np.greater_equal(upper, lower, is_upper)
            if bias is not None:
                np.add(y, bias, y)
            if self.rectified:
                np.maximum(y, self.zeros, out=y)
        return self.y

    def backward(self, g: Any, y: Any) -> Any:
        """`dz`, `dW` and `db`, from the cotangent ``g`` of the result ``y`` of `forward`."""
        g, zero = g.transpose(2, 1, 3, 0), self.zeros[0, 0]
        for (here, y, live, dy, runs, sums, is_upper, pairs, upper, lower, is_left, left, right,
             columns, dzT, part) in self.blocks_back:  # fmt: skip
            if self.rectified:
                np.greater(y, zero, live)
                np.multiply(g[here], live, dy)
            else:
                np.copyto(dy, g[here])
            np.matmul(runs, self.ones, out=sums)
            if self.pooled:
                np.multiply(dy, is_upper, upper)
                np.subtract(dy, upper, lower)
                np.multiply(pairs, is_left, left)
                np.subtract(pairs, left, right)
            np.matmul(columns, dzT, out=part)  # in the other order it takes twice as long
        np.add.reduce(self.parts, 0, None, self.dmatrix)
        np.add.reduce(self.sums, 0, None, self.db)
        return self.padded, self.dW, self.db

    def x_gradient(self, dz: Any, W: Any) -> Any:
        """`dx`, from the `dz` of `backward`: summed over the kernel's rows within a product."""
        flipped, blocks = self._flipped, self._blocks_of_x
        np.copyto(flipped, W[:, :, ::-1].transpose(1, 3, 2, 0))
        matrix = flipped.reshape(-1, flipped.shape[2] * flipped.shape[3])
        for dx, cotangents, products, places in blocks:
            np.matmul(matrix, cotangents, out=products)
            dx.fill(0)
            for place, part in places:
                np.add(place, part, place)
        return self.dx

    def _shifts(self, x: Any) -> Any:
        """(H, C, kw, p, W'/p, N): what stands so many columns to the right."""
        if self.inner is not None:
            np.copyto(self.inner, x.transpose(2, 1, 3, 0))
        elif x is not self.seen:
            self.seen, self.shifts = x, self._shifted(x.transpose(2, 1, 3, 0))
        return self.shifts

    def _shifted(self, wide: Any) -> Any:
        down, across, right, following = wide.strides
        strides = (down, across, right, right, self.p * right, following)
        return as_strided(wide, self.copies.shape, strides)

    @cached_property
    def _flipped(self) -> Any:
        O, kh, C, kw = self.matrix.shape
        return np.empty((C, kw, kh, O), self.matrix.dtype)

    @cached_property
    def dx(self) -> Any:
        C, N = self.copies.shape[1], self.copies.shape[-1]
        rows = np.empty((self.height, C, self.width, N), self.copies.dtype)
        return rows.transpose(3, 1, 0, 2)

    @cached_property
    def _blocks_of_x(self) -> Any:
        """Rows of the input; the cotangents they are made of; products of these; where they go."""
        C, kw, kh, O = self._flipped.shape
        *_, p, half, N = self.copies.shape
        run, item = p * half * N, self.copies.itemsize
        cotangents = as_strided(
            self.padded[self.top :], (self.height, kh * O, run),
            (self.padded.strides[0], run * item, item),
        )  # fmt: skip
        block = max(1, BLOCK // (C * kw * run * item))
        products = np.empty((block, C * kw, run), self.copies.dtype)
        blocks = []
        for start in range(0, self.height, block):
            dx = self.dx.transpose(2, 1, 3, 0)[start : start + block]
            made = products[: len(dx)]
            parts = made.reshape(len(dx), C, kw, p, half, N)
            places = []
            for column, odd in np.ndindex(kw, p):
                first = column + odd - self.left  # the place of the part's first column
                skipped = max(0, -(first // p))
                begin = first + p * skipped
                count = min(half - skipped, -((begin - self.width) // p))
                if count > 0:
                    part = parts[:, :, column, odd, skipped : skipped + count]
                    places.append((dx[:, :, begin : begin + p * count : p], part))
            blocks.append((dx, cotangents[start : start + block], made, places))
        return blocks


def _merged(y: Any) -> Any:
    """(rows, O, W, N) of an array (O, H, W, N), with its last two axes as one."""
    rows, O, W, N = y.shape
    return as_strided(y, (rows, O, W * N), (*y.strides[:2], y.itemsize))


def _halves(z: Any, half: int, N: int, pooled: bool) -> tuple[Any, Any]:
    """The even and the odd places of rows."""
    if not pooled:
        return z, z
    parts = z.reshape(*z.shape[:2], 2, half, N)
    return parts[:, :, 0], parts[:, :, 1]


# --------------------------------------------------------------------------------------------------
# The rewrites of the operations that are taken together
# --------------------------------------------------------------------------------------------------


class Within:
    """A value, or a cotangent, between operations that are one call: it is nowhere in memory."""

    def __init__(self, layer: Convolution, last: Node, outer: Any, shape: tuple[int, ...]) -> None:
        self.layer = layer
        self.last = last  # the last of the operations
        self.outer = outer  # the value or cotangent at its end
        self.shape = shape
        self.strides = None
        self.label: str | None = None


def taken_together(lowering: Lowering, node: Node) -> list[Node]:
    """A convolution, and the ReLU and the pooling after it, if nobody else reads what is between."""
    nodes = [node]
    after = lowering.only_reader(node)
    if after is not None and after.primitive is relu:
        nodes.append(after)
        after = lowering.only_reader(after)
    if after is not None and after.primitive is pool_max and (after.params or {})["window"] == PAIRS:
        nodes.append(after)
    return nodes


def convolution(
    lowering: Lowering, node: Node, x: Any, W: Any, b: Any, *, window: Window, groups: int
) -> Any:
    """The whole of it; its result belongs to the last of the operations."""
    covered = groups == 1 and window.stride == window.dilation == (1, 1)
    if not covered or not _same_floats(x, W) or (b is not None and not _same_floats(x, b)):
        raise UntraceableError("a convolution as it is")
    *_, last = nodes = taken_together(lowering, node)
    width = last.value.shape[3] * (2 if last.primitive is pool_max else 1)
    copied = x.size // x.shape[3] * W.shape[3] * width * x.itemsize
    if not last.value.size or copied > COPIES:
        raise UntraceableError("a convolution as it is")
    after = lowering.only_reader(last)
    layer = Convolution(
        f"conv{lowering.counts['conv'] + 1}", x.example, W.shape, window.padding,
        rectified=any(one.primitive is relu for one in nodes), pooled=last.primitive is pool_max,
        trained=node.needs, rows_first=after is not None and after.primitive is conv,
    )  # fmt: skip
    layer.y[...] = last.value
    args = (x, W) if b is None else (x, W, b)
    y = x.tape.owned(layer.forward, args, layer.y)
    lowering.notes[last] = layer
    return passed_on(node, Within(layer, last, y, node.value.shape))


def passed_on(node: Node, z: Within) -> Any:
    """The result of an operation that is within another one."""
    return (z.outer if node is z.last else z), {}


def passed_back(g: Any, x: Within) -> dict[str, Any]:
    """The cotangent goes on to the convolution as it is."""
    return {"x": Within(x.layer, x.last, _outer(g), x.shape)}


def pooling(lowering: Lowering, node: Node, x: Any, *, window: Window) -> Any:
    if not isinstance(x, Within):
        raise UntraceableError("max_pool as it is")
    return passed_on(node, x)


def pooling_back(lowering: Lowering, node: Node, g: Any, x: Any) -> dict[str, Any]:
    if not isinstance(x, Within):
        raise UntraceableError("max_pool as it is")
    return passed_back(g, x)


def convolution_back(lowering: Lowering, node: Node, g: Any, y: Any, W: Any) -> dict[str, Any]:
    layer = y.layer if isinstance(y, Within) else lowering.notes.get(node)
    if layer is None:
        raise UntraceableError("a convolution as it is")
    g, y = _outer(g), _outer(y)
    if not isinstance(g, Traced):
        g = y.tape.fixed(np.broadcast_to(g, y.shape))
    dz, dW, db = y.tape.owned(layer.backward, (g, y), layer.padded, layer.dW, layer.db)
    found = {"W": dW, "b": db}
    if node.inputs[0].needs:
        found["x"] = y.tape.owned(layer.x_gradient, (dz, W), layer.dx)
    return found


def _outer(value: Any) -> Any:
    return value.outer if isinstance(value, Within) else value


def _same_floats(x: Any, other: Any) -> bool:
    arrays = isinstance(x, Traced) and isinstance(other, Traced)
    return arrays and x.dtype == other.dtype and x.dtype.char in "fd"
