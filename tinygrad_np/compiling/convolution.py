"""Convolution, ReLU and max-pooling as one operation on memory of its own, a few rows at a time.

Activations lie as (H, C, W, N). The input is copied once for each column of the kernel, not for each
element; what the windows of an output row see is then one run of rows of the copies, so that a row is
one matrix product (M. Cho and D. Brand, "MEC: memory-efficient convolution", 2017), and the
gradients are products of the same arrays. Pooling comes before bias and ReLU, which then have a
quarter of the numbers: the largest of ``z + b`` is the largest z, plus b.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
BLOCK: Final = 1 << 18
# Bytes of what is added up to the cotangent of the input at a time: here more are less calls.
ADDED: Final = 1 << 21
# Bytes of copies of an input. Larger ones are made a few rows at a time, by the operation as it is.
COPIES: Final = 1 << 26
PAIRS: Final = Window((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))


class Block(NamedTuple):
    """A few rows of a convolution: views of its arrays, and scratch that all blocks use.

    Attributes
    ----------
    new : slice
        Rows of the input that no block before it has copied.
    copies, columns : ndarray
        Of these rows; what the windows of each row see, (rows, kh C kw, W' N).
    z, left, right : ndarray
        The products (rows, O, W' N), and those at even and at odd places of a row.
    pairs, upper, lower : ndarray
        The larger of left and right, and those at even and at odd rows.
    is_left, is_upper : ndarray
        Where the first of a pair is the larger, or both are equal.
    here : slice
        The rows of y.
    y, live : ndarray
        The result, and where it is not 0.
    """

    new: slice
    copies: Any
    columns: Any
    z: Any
    left: Any
    right: Any
    pairs: Any
    upper: Any
    lower: Any
    is_left: Any
    is_upper: Any
    here: slice
    y: Any
    live: Any


class BlockBack(NamedTuple):
    """The same rows on the way back: cotangents of y (also with W' N as one axis), z, left, right."""

    dy: Any
    runs: Any
    sums: Any
    dzT: Any
    dleft: Any
    dright: Any
    part: Any


class Convolution:
    """``y = max_pool(relu(conv(x, W) + b))`` of stride 1, with or without ReLU and 2x2 maxima.

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
    to_x : bool
        Whether `x_gradient` will be, too; else the blocks use one dz after another.
    rows_first : bool
        Whether y lies as (H, O, W, N), which another convolution reads as it is, or as
        (O, H, W, N), of which the flattened batch is a view.

    Attributes
    ----------
    y : ndarray, (N, O, H', W')
    dz : ndarray, (H', O, W' N)
        The cotangent before pooling.
    dW, db : ndarray
    dx : ndarray, (N, C, H, W)
        Results of the methods, each written over by the next call.
    """

    def __init__(
        self,
        name: str,
        x: Any,
        shape: tuple[int, ...],
        padding: Pads,
        rectified: bool,
        pooled: bool,
        trained: bool,
        to_x: bool,
        rows_first: bool,
    ) -> None:
        self.name, self.rectified, self.pooled, self.trained = name, rectified, pooled, trained
        (N, C, H, W), (outputs, _, kh, kw), dtype = x.shape, shape, x.dtype
        (top, bottom), (left, right) = padding
        self.size, self.top, self.left = (H, W), top, left
        height, width = H + top + bottom, W + left + right
        self.p = p = 2 if pooled else 1
        self.rows, self.half = (height - kh + 1) // p * p, (width - kw + 1) // p

        self.copies = np.empty((height, C, kw, p, self.half, N), dtype)
        self.matrix = np.empty((outputs, kh, C, kw), dtype)
        self.inner: Any = None  # where the input is copied to, in an array with a margin
        self.seen: Any = None  # or the input that `shifts` is a view of
        if any(map(any, padding)) or not x.transpose(2, 1, 3, 0).flags.c_contiguous:
            wide = np.zeros((height, C, width, N), dtype)
            self.inner = wide[top : top + H, :, left : left + W]
            self.shifts = self._shifted(wide)

        rows, half = self.rows // p, self.half
        memory = np.empty(
            (rows, outputs, half, N) if rows_first else (outputs, rows, half, N), dtype
        )
        self.rows_of_y = memory if rows_first else memory.transpose(1, 0, 2, 3)
        self.y = self.rows_of_y.transpose(3, 1, 0, 2)
        self.zeros, self.ones = np.zeros((half, N), dtype), np.ones(half * N, dtype)
        self.blocks = self._blocks()
        self.to_x = to_x
        self.pulled = False  # whether a backward pass has its gradients
        if trained:
            self._make_gradients()

    # -- y -----------------------------------------------------------------------------------------

    def forward(self, x: Any, W: Any, b: Any = None) -> Any:
        """`y`."""
        shifts = self._shifts(x)
        np.copyto(self.matrix, W.transpose(0, 2, 1, 3))
        matrix = self.matrix.reshape(len(W), -1)
        bias = None if b is None else b[:, None, None]
        for at in self.blocks:
            np.copyto(at.copies, shifts[at.new])
            np.matmul(matrix, at.columns, out=at.z)
            if self.pooled:
                np.maximum(at.left, at.right, out=at.pairs)
                np.maximum(at.upper, at.lower, out=at.y)
                if self.trained:
                    np.greater_equal(at.left, at.right, at.is_left)
                    np.greater_equal(at.upper, at.lower, at.is_upper)
            if bias is not None:
                np.add(at.y, bias, at.y)
            if self.rectified:
                np.maximum(at.y, self.zeros, out=at.y)
        return self.y

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

    def _blocks(self) -> list[Block]:
        (_, C, kw, p, half, N), (outputs, kh, *_) = self.copies.shape, self.matrix.shape
        dtype, item, run = self.copies.dtype, self.copies.itemsize, p * half * N
        block = max(p, BLOCK // (outputs * run * item) // p * p)
        columns = as_strided(
            self.copies, (self.rows, kh * C * kw, run), (self.copies.strides[0], run * item, item)
        )
        z, pairs = (
            np.empty((block, outputs, run), dtype),
            np.empty((block, outputs, half, N), dtype),
        )
        kept = self.rows if self.trained and self.pooled else 0
        is_left = np.empty((kept, outputs, half, N), bool)
        is_upper = np.empty((kept // 2, outputs, half, N), bool)
        live = np.empty((block, outputs, half, N), bool)
        blocks, copied = [], 0
        for start in range(0, self.rows, block):
            stop = min(start + block, self.rows)
            n, new = stop - start, slice(copied, stop + kh - 1)
            copied = new.stop
            here = slice(start // p, stop // p)
            y = self.rows_of_y[here]
            products = z[:n] if self.pooled else _with_runs(y)
            blocks.append(
                Block(new, self.copies[new], columns[start:stop], products,
                      *_alternating(products, half, p), pairs[:n], pairs[0:n:2], pairs[1:n:2],
                      is_left[start:stop], is_upper[here], here, y, live[: len(y)])
            )  # fmt: skip
        return blocks

    # -- gradients ---------------------------------------------------------------------------------

    def backward(self, g: Any, y: Any) -> Any:
        """`dz`, `dW` and `db`, from the cotangent ``g`` of the result ``y`` of `forward`."""
        g, zero = g.transpose(2, 1, 3, 0), self.zeros[0, 0]
        for at, back in zip(self.blocks, self.blocks_back):
            if self.rectified:
                np.greater(at.y, zero, at.live)
                np.multiply(g[at.here], at.live, back.dy)
            else:
                np.copyto(back.dy, g[at.here])
            np.matmul(back.runs, self.ones, out=back.sums)
            if self.pooled:
                np.multiply(back.dy, at.is_upper, at.upper)
                np.subtract(back.dy, at.upper, at.lower)
                np.multiply(at.pairs, at.is_left, back.dleft)
                np.subtract(at.pairs, back.dleft, back.dright)
            np.matmul(at.columns, back.dzT, out=back.part)  # the other order takes twice as long
        np.sum(self.parts, axis=0, out=self.dmatrix)
        np.sum(self.sums, axis=0, out=self.db)
        return self.dz, self.dW, self.db

    def _make_gradients(self) -> None:
        (_, C, kw, p, half, N), (outputs, kh, *_) = self.copies.shape, self.matrix.shape
        dtype = self.copies.dtype
        self.dmatrix = np.empty((kh * C * kw, outputs), dtype)
        self.dW = self.dmatrix.T.reshape(outputs, kh, C, kw).transpose(0, 2, 1, 3)
        self.db = np.empty(outputs, dtype)
        kept = self.rows if self.to_x else len(self.blocks[0].columns)
        self.dz = np.empty((kept, outputs, p * half * N), dtype)
        self.sums = np.empty((self.rows // p, outputs), dtype)
        self.parts = np.empty((self.rows, kh * C * kw, outputs), dtype)
        self.blocks_back = self._blocks_back()

    def for_a_pass(self) -> Convolution:
        """Itself, or for another backward pass the same with gradients of its own."""
        if not self.pulled:
            self.pulled = True
            return self
        other = copy(self)
        for name in ("dx", "_flipped", "_blocks_of_x"):
            other.__dict__.pop(name, None)
        other._make_gradients()
        return other

    def _blocks_back(self) -> list[BlockBack]:
        dy = np.empty_like(self.blocks[0].live, self.copies.dtype)
        blocks, start = [], 0
        for at in self.blocks:
            rows = slice(start, start + len(at.columns))
            start = rows.stop
            dz = self.dz[rows] if len(self.dz) == self.rows else self.dz[: len(at.columns)]
            mine = dy[: len(at.y)] if self.pooled else dz.reshape(at.y.shape)
            blocks.append(
                BlockBack(mine, _with_runs(mine), self.sums[at.here], dz.mT,
                          *_alternating(dz, self.half, self.p), self.parts[rows])
            )  # fmt: skip
        return blocks

    def x_gradient(self, dz: Any, W: Any) -> Any:
        """`dx`, from the `dz` of `backward`: summed over the kernel's rows within a product."""
        blocks = self._blocks_of_x
        np.copyto(self._flipped, W[:, :, ::-1].transpose(1, 3, 2, 0))
        for dx, products, places in blocks:
            for matrix, cotangents, product in products:
                np.matmul(matrix, cotangents, out=product)
            dx.fill(0)
            for place, part in places:
                np.add(place, part, place)
        return self.dx

    @cached_property
    def dx(self) -> Any:
        _, C, *_, N = self.copies.shape
        return np.empty((self.size[0], C, self.size[1], N), self.copies.dtype).transpose(3, 1, 0, 2)

    @cached_property
    def _flipped(self) -> Any:
        outputs, kh, C, kw = self.matrix.shape
        return np.empty((C, kw, kh, outputs), self.matrix.dtype)

    @cached_property
    def _blocks_of_x(self) -> Any:
        """Rows of dx; the products that they are sums of; and what is added to which of their places."""
        (_, C, kw, p, half, N), item = self.copies.shape, self.copies.itemsize
        block = max(1, ADDED // (C * kw * p * half * N * item))
        made = np.empty((block, C * kw, p * half * N), self.copies.dtype)
        blocks = []
        for start in range(0, self.size[0], block):
            dx = self.dx.transpose(2, 1, 3, 0)[start : start + block]
            parts = made[: len(dx)].reshape(len(dx), C, kw, p, half, N)
            products = self._products(start, made[: len(dx)])
            blocks.append((dx, products, self._places(dx, parts)))
        return blocks

    def _products(self, start: int, made: Any) -> list[tuple[Any, Any, Any]]:
        """Rows of the input that are seen by as many output rows are one call each."""
        C, kw, kh, outputs = self._flipped.shape
        matrix = self._flipped.reshape(C * kw, kh * outputs)
        (down, across, item), run = self.dz.strides, self.dz.shape[2]

        def seen(i: int) -> tuple[int, int]:
            """The rows of the flipped kernel that the output's rows fall on."""
            last = start + i + self.top
            first = last - kh + 1
            return max(0, -first), max(0, min(kh, self.rows - first))

        found = []
        for (begin, end), group in groupby(range(len(made)), seen):
            these = list(group)
            first = start + these[0] + self.top - kh + 1 + begin
            count = max(0, end - begin)
            cotangents = as_strided(
                self.dz[first:], (len(these), count * outputs, run), (down, across, item)
            )
            taps = matrix[:, begin * outputs : (begin + count) * outputs]
            found.append((taps, cotangents, made[these[0] : these[-1] + 1]))
        return found

    def _places(self, dx: Any, parts: Any) -> list[tuple[Any, Any]]:
        """For each column of the kernel, places along the rows of dx and what comes there."""
        _, _, kw, p, half, _ = parts.shape
        width, found = dx.shape[2], []
        for column, odd in np.ndindex(kw, p):
            first = column + odd - self.left
            skipped = max(0, -(first // p))
            begin = first + p * skipped
            count = min(half - skipped, -((begin - width) // p))
            if count > 0:
                part = parts[:, :, column, odd, skipped : skipped + count]
                found.append((dx[:, :, begin : begin + p * count : p], part))
        return found


def _with_runs(y: Any) -> Any:
    """(rows, O, W N) of an array (rows, O, W, N)."""
    rows, outputs, W, N = y.shape
    return as_strided(y, (rows, outputs, W * N), (*y.strides[:2], y.itemsize))


def _alternating(z: Any, half: int, p: int) -> tuple[Any, Any]:
    """The even and the odd places of rows (rows, O, p half N), if p is 2."""
    parts = z.reshape(*z.shape[:2], p, half, -1) if p == 2 else z[:, :, None]
    return parts[:, :, 0], parts[:, :, -1]


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
    if (
        after is not None
        and after.primitive is pool_max
        and (after.params or {})["window"] == PAIRS
    ):
        nodes.append(after)
    return nodes


def convolution(
    lowering: Lowering, node: Node, x: Any, W: Any, b: Any, *, window: Window, groups: int
) -> Any:
    """The whole of it; its result belongs to the last of the operations."""
    covered = groups == 1 and window.stride == window.dilation == (1, 1)
    if not covered or not are_floats(*[one for one in (x, W, b) if one is not None]):
        raise UntraceableError("a convolution as it is")
    *_, last = nodes = taken_together(lowering, node)
    width = last.value.shape[3] * (2 if last.primitive is pool_max else 1)
    copied = x.size // x.shape[3] * W.shape[3] * width * x.itemsize
    if not last.value.size or copied > COPIES:
        raise UntraceableError("a convolution as it is")
    after = lowering.only_reader(last)
    layer = Convolution(
        f"convolution{lowering.counts['conv'] + 1}", x.example, W.shape, window.padding,
        rectified=any(one.primitive is relu for one in nodes), pooled=last.primitive is pool_max,
        trained=node.needs, to_x=node.inputs[0].needs,
        rows_first=after is not None and after.primitive is conv,
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
    layer = layer.for_a_pass()
    g, y = _outer(g), _outer(y)
    if not isinstance(g, Traced):
        g = y.tape.fixed(np.broadcast_to(g, y.shape))
    dz, dW, db = y.tape.owned(layer.backward, (g, y), layer.dz, layer.dW, layer.db)
    found = {"W": dW, "b": db}
    if node.inputs[0].needs:
        found["x"] = y.tape.owned(layer.x_gradient, (dz, W), layer.dx)
    return found


def _outer(value: Any) -> Any:
    return value.outer if isinstance(value, Within) else value


def are_floats(*arrays: Any) -> bool:
    """Whether all are stand-ins of one dtype, of those that BLAS knows."""
    traced = all(isinstance(one, Traced) for one in arrays)
    return traced and arrays[0].dtype.char in "fd" and len({one.dtype for one in arrays}) == 1
