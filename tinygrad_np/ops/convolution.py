"""Convolution over one or two axes.

Public arrays are ``(N, C, *spatial)`` and weights ``(out, in/groups, *kernel)``, as in PyTorch, and
what is computed is the correlation that the field calls convolution. In memory the results lie as
``(H, C, W, N)``. What the windows of an output row see is then one block of rows of an array that
holds the input once for each *column* of the kernel (not for each element), so that an output row
is one matrix product (M. Cho and D. Brand, "MEC: memory-efficient convolution", 2017). That array
is made a few rows at a time and stays in the cache, and nothing is transposed on the way, since
elementwise operations and pooling keep the layout of what they are given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..core import Tensor, case, primitive, samples
from ..errors import ArgumentError, ShapeError, message
from .shape import expand_dims, reshape, squeeze
from .windows import ALL, Ints, Pads, Window, array_of, check_fit, numbers_of, ones, window_of

# Numbers in one block of what the windows see: 2 MB of float32. A block's first rows are copied
# again for the next one; larger blocks, which repeat less, leave the cache.
BLOCK = 1 << 19
# Bytes. Pictures so far apart, or a multiple of it, are at the same place of the cache and push one
# another out. A copy picture by picture first, row by row, then takes half the time or less.
SAME_PLACE = 1 << 12
ALONE = Window((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))  # a window of one element, everywhere


def _rows_first(x: Any, groups: int, padding: Pads = ((0, 0), (0, 0))) -> Any:
    """(N, C, H, W) as (groups, H, C/groups, W, N), with a margin of zeros.

    What `conv` returned is not copied; else the last axes are made contiguous.
    """
    N, C, H, W = x.shape
    x = x.reshape(N, groups, C // groups, H, W)
    if x.strides[0] % SAME_PLACE == 0 and x.strides[4] == x.itemsize:
        x = np.ascontiguousarray(x.transpose(1, 3, 2, 0, 4)).transpose(3, 0, 2, 1, 4)
    x = x.transpose(1, 3, 2, 4, 0)
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return x if x.strides[4] == x.itemsize else np.ascontiguousarray(x)
    wide = np.zeros((groups, top + H + bottom, C // groups, left + W + right, N), x.dtype)
    wide[:, top : top + H, :, left : left + W] = x
    return wide


def _batch_first(x: Any) -> Any:
    """(groups, H, C/groups, W, N) as (N, C, H, W), of an array (H, C, W, N); a view of one group."""
    groups, H, C, W, N = x.shape
    return x.swapaxes(0, 1).reshape(H, groups * C, W, N).transpose(3, 1, 0, 2)


def _weight_matrix(W: Any, groups: int) -> Any:
    """(O, C/groups, kh, kw) as (groups, O/groups, kh C/groups kw)."""
    return W.transpose(0, 2, 1, 3).reshape(groups, len(W) // groups, math.prod(W.shape[1:]))


def _by_picture(x: Any, window: Window, groups: int) -> bool:
    """Whether one product for each picture does it, where they lie one after another."""
    alone = window._replace(dilation=(1, 1)) == ALONE
    return alone and groups == 1 and x.flags.c_contiguous


def _blocks(views: Any, down: Window) -> Iterator[tuple[slice, slice]]:
    """Output rows, a few at a time, and the input rows that they see."""
    (kernel,), (stride,) = down.reach, down.stride
    (positions,) = down.positions(views.shape[1:2])
    seen = BLOCK * views.shape[1] // max(1, views.size)
    step = max(1, (seen - kernel) // stride + 1)
    for start in range(0, positions, step):
        stop = min(start + step, positions)
        yield slice(start, stop), slice(start * stride, (stop - 1) * stride + kernel)


def _columns(views: Any, seen: slice, down: Window) -> Any:
    """What each window of some output rows sees: (groups, rows, kh C/groups kw, W' N)."""
    groups, _, C, kw, W, N = views.shape
    height = seen.stop - seen.start
    lowered = np.ascontiguousarray(views[:, seen]).reshape(groups, height, C * kw, W * N)
    columns = down.views(lowered, 1).transpose(0, 2, 1, 3, 4)
    return columns.reshape(groups, columns.shape[1], down.kernel[0] * C * kw, W * N)


# --------------------------------------------------------------------------------------------------
# Convolution: three linear maps, each an adjoint of the others
# --------------------------------------------------------------------------------------------------
# S(x, W, u) = sum(u * conv(x, W)) is linear in each of the three, and conv = dS/du, conv_input =
# dS/dx, conv_weight = dS/dW. So the derivatives of each are the other two, to any order.


def _correlated(x: Any, W: Any, b: Any, window: Window, groups: int) -> Any:
    if _by_picture(x, window, groups):
        y = np.matmul(W[:, :, 0, 0], x.reshape(*x.shape[:2], x.shape[2] * x.shape[3]))
        if b is not None:
            y += b[:, None]
        return y.reshape(len(x), len(W), *x.shape[2:])
    down, across = window.along(0), window.along(1)
    views = across.views(_rows_first(x, groups, window.padding), 3)
    outputs = len(W) // groups
    shape = (groups, *down.positions(views.shape[1:2]), outputs, *views.shape[4:])
    y, W = np.empty(shape, np.result_type(x, W)), _weight_matrix(W, groups)
    flat = y.reshape(*shape[:3], shape[3] * shape[4])
    for rows, seen in _blocks(views, down):
        np.matmul(W[:, None], _columns(views, seen, down), out=flat[:, rows])
        if b is not None:
            flat[:, rows] += b.reshape(groups, 1, outputs, 1)
    return _batch_first(y)


@primitive("conv({x}, {W}, {b}, window={window}, groups={groups})")
def conv(x, W, b, *, window, groups):
    """Correlation of x (N, C, H, W) with W (O, C/groups, kh, kw), and a bias (O,) or None."""
    return _correlated(x, W, b, window, groups)


def _turned(W: Any, groups: int) -> Any:
    """(O, C/groups, kh, kw) as (C, O/groups, kh, kw), with each kernel turned by half a circle."""
    outputs, inputs = len(W) // groups, W.shape[1]
    W = W.reshape(groups, outputs, *W.shape[1:])[..., ::-1, ::-1].swapaxes(1, 2)
    W = np.ascontiguousarray(W)  # without a BLAS that steps back the product would take far longer
    return W.reshape(groups * inputs, outputs, *W.shape[3:])


class Phase(NamedTuple):
    """Places of an axis of x that are one stride apart.

    Attributes
    ----------
    places, taps : slice
        Which they are, and the elements of the kernel that came to stand there.
    before, after : int
        The margin of ``u`` with which windows of these elements, at stride 1, see what was added.
    """

    places: slice
    taps: slice
    before: int
    after: int


def _phases(size: int, positions: int, along: Window) -> list[Phase]:
    """All of an axis: at stride 1 there is one."""
    (kernel,), (stride,), ((margin, _),), (dilation,) = along
    phases = []
    for first in range(min(stride, size)):
        begin, tap = divmod(first + margin, stride)
        count, reach = len(range(first, size, stride)), len(range(tap, kernel, stride)) - 1
        phases.append(
            Phase(slice(first, None, stride), slice(tap, None, stride),
                  dilation * reach - begin, count + begin - positions)
        )  # fmt: skip
    return phases


def _input_by_phases(
    u: Any, W: Any, size: Ints, phases: list[list[Phase]], window: Window, groups: int
) -> Any:
    """`conv_input` as a correlation for each pair of phases, with its part of the kernel."""
    (top, _), (left, _) = margins = tuple(
        [(max(p.before for p in axis), max(p.after for p in axis)) for axis in phases]
    )
    if max(window.stride) == 1:
        around = window._replace(padding=margins)
        return _correlated(u, _turned(W, groups), None, around, groups)
    height, width = u.shape[2:]
    wide = _batch_first(_rows_first(u, groups, margins))
    x = np.empty((size[0], W.shape[1] * groups, size[1], len(u)), np.result_type(u, W))
    x = x.transpose(3, 1, 0, 2)
    for row, column in product(*phases):
        seen = wide[:, :, top - row.before : top + height + row.after,
                    left - column.before : left + width + column.after]  # fmt: skip
        kernel = W[:, :, row.taps, column.taps]
        around = Window(kernel.shape[2:], (1, 1), ((0, 0), (0, 0)), window.dilation)
        part = _correlated(seen, _turned(kernel, groups), None, around, groups)
        x[:, :, row.places, column.places] = part
    return x


@primitive("conv_input({u}, {W}, size={size}, window={window}, groups={groups})")
def conv_input(u, W, *, size, window, groups):
    """Adjoint of `conv` in x, of spatial ``size``: ``u * W`` added up where the windows were.

    Each place of x was seen through the kernel turned round, or at a stride of s through every s-th
    row and column of it: that is another correlation, which copies what windows of u see. Adding up
    what windows of x saw copies as much of x, and takes longer where they are further apart.
    """
    phases = [_phases(size[i], u.shape[2 + i], window.along(i)) for i in (0, 1)]
    fits = all(min(one.before, one.after) >= 0 for axis in phases for one in axis)
    copies_less = u.shape[1] <= W.shape[1] * groups * max(window.stride)
    even = all(1 in pair for pair in zip(window.stride, window.dilation))
    if fits and even and (copies_less or _by_picture(u, window, groups)):
        return _input_by_phases(u, W, size, phases, window, groups)
    down, across = window.along(0), window.along(1)
    inputs, kernel = W.shape[1:2], W.shape[2:]
    height, width = window.margin(size)
    u, W = _rows_first(u, groups), _weight_matrix(W, groups).mT
    x = np.zeros((groups, height, *inputs, width, u.shape[-1]), np.result_type(u, W))
    views = across.views(x, 3)
    u = u.reshape(*u.shape[:3], u.shape[3] * u.shape[4])
    for rows, seen in _blocks(views, down):
        lowered = np.zeros_like(views[:, seen])
        by_row = down.views(lowered, 1)
        for i, row in enumerate(range(rows.start, rows.stop)):
            by_row[:, :, i] += (W @ u[:, row]).reshape(by_row[:, :, i].shape)
        for j in range(kernel[1]):
            views[:, seen, :, j] += lowered[:, :, :, j]
    return window.inner(_batch_first(x), 2)


@primitive("conv_weight({u}, {x}, window={window}, groups={groups})")
def conv_weight(u, x, *, window, groups):
    """Adjoint of `conv` in W: what the windows see times the ``u`` of their positions, summed."""
    if _by_picture(x, window, groups) and u.flags.c_contiguous:
        u, x = [a.reshape(*a.shape[:2], a.shape[2] * a.shape[3]) for a in (u, x)]
        return np.matmul(u, x.mT).sum(axis=0)[:, :, None, None]
    down, across = window.along(0), window.along(1)
    views = across.views(_rows_first(x, groups, window.padding), 3)
    outputs, inputs, (kh, kw) = u.shape[1] // groups, x.shape[1] // groups, window.kernel
    u = _rows_first(u, groups)
    u = u.reshape(*u.shape[:3], u.shape[3] * u.shape[4])
    total = np.zeros((groups, kh * inputs * kw, outputs), np.result_type(u, x))
    part = np.empty_like(total)
    for rows, seen in _blocks(views, down):
        columns = _columns(views, seen, down)
        for i, row in enumerate(range(rows.start, rows.stop)):
            # OpenBLAS takes up to twice as long for u @ columns.T, a product of few rows.
            total += np.matmul(columns[:, i], u[:, row].mT, out=part)
    W = total.reshape(groups, kh, inputs, kw, outputs).transpose(0, 4, 2, 1, 3)
    return W.reshape(groups * outputs, inputs, kh, kw)


conv.vjp(
    x=lambda g, x, W, window, groups: conv_input(
        g, W, size=x.shape[2:], window=window, groups=groups),
    W=lambda g, x, window, groups: conv_weight(g, x, window=window, groups=groups),
    b=lambda g: np.sum(g, axis=(0, 2, 3)))  # fmt: skip
conv_input.vjp(
    u=lambda g, W, window, groups: conv(g, W, None, window=window, groups=groups),
    W=lambda g, u, window, groups: conv_weight(u, g, window=window, groups=groups))  # fmt: skip
conv_weight.vjp(
    u=lambda g, x, window, groups: conv(x, g, None, window=window, groups=groups),
    x=lambda g, u, x, window, groups: conv_input(
        u, g, size=x.shape[2:], window=window, groups=groups))  # fmt: skip


def conv1d(
    x: Any,
    W: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution over one axis ``y[n, o, i] = b[o] + sum_cr W[o, c, r] x[n, c, i + r]``.

    Parameters
    ----------
    x : array_like, (N, C, L)
    W : array_like, (O, C/groups, k)
    b : array_like, (O,), optional
    stride, padding, dilation, groups
        As in `conv2d`, for one axis.

    Returns
    -------
    Tensor, (N, O, L')
        ``L' = (L + 2 padding - dilation (k - 1) - 1) // stride + 1``.

    Raises
    ------
    ShapeError, ArgumentError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.conv1d(np.array([[[1.0, 2.0, 4.0, 8.0]]]), np.array([[[-1.0, 1.0]]]))
    array([[[1., 2., 4.]]])
    """
    return _convolved("conv1d", 1, x, W, b, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    W: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution ``y[n, o, i, j] = b[o] + sum_crs W[o, c, r, s] x[n, c, i + r, j + s]``.

    So at stride 1. The kernel is not flipped, as everywhere in this field. ``dW`` is the
    correlation of x with g, ``dx`` that of the padded g with the flipped W (`conv_transpose2d`).

    Parameters
    ----------
    x : array_like, (N, C, H, W)
    W : array_like, (O, C/groups, kh, kw)
    b : array_like, (O,), optional
    stride, dilation : int or pair of int
        The step from window to window, and from element to element within one.
    padding : int, pair of int, "valid" or "same"
        Zeros added on both sides; "same" keeps the size (at stride 1), and puts an odd one behind.
    groups : int
        Divides C and O: each group of outputs sees its own group of channels only.

    Returns
    -------
    Tensor, (N, O, H', W')
        ``H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1``, in memory (H', O, W', N).

    Raises
    ------
    ShapeError
        If the channels do not meet, groups do not divide them, or the kernel does not fit.
    ArgumentError
        For a stride, padding, dilation or groups that is no such number.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> W = tg.Tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
    >>> y = tg.conv2d(x, W)
    >>> y.data
    array([[[[ 8., 12.],
             [20., 24.]]]])
    >>> y.sum().backward()
    >>> W.grad
    array([[[[ 8., 12.],
             [20., 24.]]]])
    """
    return _convolved("conv2d", 2, x, W, b, stride, padding, dilation, groups)


def conv_transpose2d(
    x: Any,
    W: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution, the adjoint of `conv2d`: each ``x * W`` is added to its window of y.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
    W : array_like, (C, O/groups, kh, kw)
        The weights of the `conv2d` from O to C channels whose adjoint it is.
    b : array_like, (O,), optional
    stride, padding, dilation : int or pair of int
        Those of that `conv2d`: padding is what is cut off y on both sides.
    output_padding : int or pair of int
        Less than the stride: added to the size of y, of which several lead to one size of x.
    groups : int

    Returns
    -------
    Tensor, (N, O, H', W')
        ``H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1``.

    Raises
    ------
    ShapeError, ArgumentError
        As `conv2d`; and if nothing is left of y.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.conv_transpose2d(np.array([[[[1.0, 2.0]]]]), np.array([[[[1.0, 10.0]]]]), stride=(1, 2))
    array([[[[ 1., 10.,  2., 20.]]]])
    """
    name = "conv_transpose2d"
    x, W, b = _arrays(name, 2, x, W, b)
    window = window_of(name, W.shape[2:], stride, padding, dilation)
    extra = numbers_of(name, "output_padding", output_padding, 2, 0)
    _check_channels(name, x, W, b, groups, transposed=True)
    if not all(e < s for e, s in zip(extra, window.stride)):
        raise ArgumentError(
            message(name, f"output_padding less than stride={window.stride}", f"{extra}")
        )
    size = tuple([
        (n - 1) * s + r + e - before - after
        for n, s, r, e, (before, after) in zip(
            x.shape[2:], window.stride, window.reach, extra, window.padding)
    ])  # fmt: skip
    if min(size) < 1:
        raise ShapeError(
            message(name, "a result with elements", f"spatial size {size}", "Pad less.")
        )
    y = conv_input(x, W, size=size, window=window, groups=groups)
    return y if b is None else y + reshape(b, (-1, 1, 1))


def _convolved(
    name: str,
    axes: int,
    x: Any,
    W: Any,
    b: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    x, W, b = _arrays(name, axes, x, W, b)
    window = window_of(name, W.shape[2:], stride, padding, dilation)
    _check_channels(name, x, W, b, groups, transposed=False)
    check_fit(name, window, x.shape[2:])
    if axes == 2:
        return conv(x, W, b, window=window, groups=groups)
    flat = Window(
        (1, *window.kernel), (1, *window.stride), ((0, 0), *window.padding), (1, *window.dilation)
    )
    return squeeze(conv(expand_dims(x, 2), expand_dims(W, 2), b, window=flat, groups=groups), 2)


def _arrays(name: str, axes: int, x: Any, W: Any, b: Any) -> tuple[Any, Any, Any]:
    """The operands as arrays of as many axes as they must have."""
    x = array_of(name, "x", x, ("(N, C, L)", "(N, C, H, W)")[axes - 1])
    W = W if type(W) is Tensor else np.asarray(W)
    if W.ndim != axes + 2 or W.size == 0:
        kernel = ("k", "kh, kw")[axes - 1]
        raise ShapeError(message(name, f"weights (out, in/groups, {kernel})", f"{W.shape}"))
    return x, W, b if b is None or type(b) is Tensor else np.asarray(b)


def _check_channels(name: str, x: Any, W: Any, b: Any, groups: int, transposed: bool) -> None:
    """Raise unless x (N, C, ...), W, b and groups agree."""
    if not isinstance(groups, int) or groups < 1 or len(W) % groups:
        which = f"the {len(W)} {'input' if transposed else 'output'} channels of W {W.shape}"
        raise ArgumentError(message(name, f"groups to divide {which}", f"groups={groups!r}"))
    expected = len(W) if transposed else W.shape[1] * groups
    if x.shape[1] != expected:
        fix = (
            "Channels are the second axis: np.moveaxis(x, -1, 1)?"
            if x.shape[-1] == expected
            else ""
        )
        of_groups = f" and groups={groups}" if groups > 1 else ""
        raise ShapeError(
            message(
                name, f"x with {expected} channels for W {W.shape}{of_groups}", f"{x.shape}", fix
            )
        )
    outputs = W.shape[1] * groups if transposed else len(W)
    if b is not None and b.shape != (outputs,):
        raise ShapeError(message(name, f"b of shape ({outputs},) for W {W.shape}", f"{b.shape}"))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _conv_by_definition(
    x: Any,
    W: Any,
    b: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Output by output, one sum of products each."""
    axes = x.ndim - 2
    s, d = (np.broadcast_to(n, axes) for n in (stride, dilation))
    total = d * (np.array(W.shape[2:]) - 1)
    p = (
        [(n // 2, n - n // 2) for n in total]
        if padding == "same"
        else ([(n, n) for n in np.broadcast_to(padding, axes)])
    )
    x = np.pad(x, [(0, 0), (0, 0), *p])
    size = [(n - e * (k - 1) - 1) // t + 1 for n, k, t, e in zip(x.shape[2:], W.shape[2:], s, d)]
    y = np.zeros((len(x), len(W), *size))
    for o, *at in np.ndindex(*y.shape[1:]):
        first = o // (len(W) // groups) * W.shape[1]
        seen = tuple([slice(i * t, i * t + e * k, e) for i, t, e, k in zip(at, s, d, W.shape[2:])])
        seen = x[(ALL, slice(first, first + W.shape[1]), *seen)]
        y[(ALL, o, *at)] = (seen * W[o]).sum(axis=tuple(range(1, x.ndim))) + (
            0 if b is None else b[o]
        )
    return y


def _transpose_by_definition(
    x: Any,
    W: Any,
    b: Any = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Any:
    """Input by input, each adding W to its window."""
    outs, ins = W.shape[1], len(W) // groups
    spread = [
        (n - 1) * stride + dilation * (k - 1) + 1 + output_padding
        for n, k in zip(x.shape[2:], W.shape[2:])
    ]  # fmt: skip
    y = np.zeros((len(x), outs * groups, *spread))
    for n, c, i, j in np.ndindex(*x.shape):
        o, rows, columns = c // ins * outs, i * stride, j * stride
        y[n, o : o + outs, rows : rows + dilation * W.shape[2] : dilation,
          columns : columns + dilation * W.shape[3] : dilation] += x[n, c, i, j] * W[c]  # fmt: skip
    y = y[:, :, padding : spread[0] - padding, padding : spread[1] - padding]
    return y if b is None else y + b[:, None, None]


samples(
    conv1d,
    lambda r: [
        case(r(2, 3, 5), r(4, 3, 2), r(4)),
        case(r(2, 2, 6), r(4, 1, 3), None, 2, 1, groups=2),
        case(r(1, 2, 7), r(1, 2, 2), padding=2, dilation=3),
        case(r(1, 1, 4), r(1, 1, 4)),
        case(r(0, 2, 4), r(1, 2, 3)),
    ],
    reference=_conv_by_definition,
    fails=lambda: [
        (case(ones(3, 5), np.ones((1, 3, 2))), ShapeError, "x[None], a batch of one"),
        (case(ones(2, 3, 5), np.ones((1, 3, 2, 2))), ShapeError, "weights (out, in/groups, k)"),
        (case(ones(2, 3, 5), np.ones((1, 3, 6))), ShapeError, "fits into the padded size (5,)"),
        (
            case(ones(2, 3, 5), np.ones((1, 3, 2)), stride=(1, 1)),
            ArgumentError,
            "stride to be an int",
        ),
    ],
)
samples(
    conv2d,
    lambda r: [
        case(r(2, 2, 3, 4), r(3, 2, 2, 2), r(3)),
        case(r(1, 1, 3, 3), r(2, 1, 2, 3), padding=1),
        case(r(2, 2, 4, 3), r(2, 2, 3, 1), r(2), stride=(2, 1), padding=(1, 0)),
        case(r(1, 2, 5, 5), r(4, 1, 2, 2), r(4), stride=2, groups=2),
        case(r(2, 2, 4, 5), r(2, 1, 2, 2), padding=(0, 2), dilation=(1, 3), groups=2),
        case(r(1, 1, 6, 6), r(1, 1, 3, 2), r(1), stride=(3, 2), padding=2, dilation=2),
        case(r(1, 2, 2, 2), r(1, 2, 2, 2)),
        case(r(1, 1, 3, 4), r(1, 1, 2, 4), padding="same"),
        case(r(0, 2, 3, 3), r(3, 2, 2, 2), r(3)),
    ],
    reference=_conv_by_definition,
    fails=lambda: [
        (
            case(ones(2, 1, 5, 5), np.ones((4, 3, 2, 2))),
            ShapeError,
            "x with 3 channels for W (4, 3, 2, 2)",
        ),
        (case(ones(2, 5, 5, 3), np.ones((4, 3, 2, 2))), ShapeError, "np.moveaxis(x, -1, 1)"),
        (case(ones(2, 3, 5, 5), np.ones((4, 3, 2, 2)), groups=2), ShapeError, "x with 6 channels"),
        (
            case(ones(2, 4, 5, 5), np.ones((3, 2, 2, 2)), groups=2),
            ArgumentError,
            "groups to divide the 3",
        ),
        (case(ones(2, 4, 5, 5), np.ones((4, 4, 2, 2)), groups=0), ArgumentError, "groups=0"),
        (case(ones(2, 3, 5, 5), np.ones((4, 3, 2, 2)), np.ones(3)), ShapeError, "b of shape (4,)"),
        (case(ones(3, 5, 5), np.ones((4, 3, 2, 2))), ShapeError, "x[None], a batch of one"),
        (case(ones(2, 3, 5, 5), np.ones((4, 3))), ShapeError, "weights (out, in/groups, kh, kw)"),
        (
            case(ones(2, 3, 2, 5), np.ones((4, 3, 3, 3))),
            ShapeError,
            "padded size (2, 5), got one of (3, 3)",
        ),
        (
            case(ones(2, 3, 3, 3), np.ones((4, 3, 2, 2)), dilation=3),
            ShapeError,
            "(4, 4) (kernel (2, 2), dil",
        ),
        (
            case(ones(2, 3, 3, 3), np.ones((4, 3, 2, 2)), stride=0),
            ArgumentError,
            "at least 1, got 0",
        ),
        (
            case(ones(2, 3, 3, 3), np.ones((4, 3, 2, 2)), padding=-1),
            ArgumentError,
            "at least 0, got -1",
        ),
        (
            case(ones(2, 3, 3, 3), np.ones((4, 3, 2, 2)), padding=(1, 1, 1)),
            ArgumentError,
            "or 2 of them",
        ),
        (
            case(ones(2, 3, 3, 3), np.ones((4, 3, 2, 2)), dilation=0.5),
            ArgumentError,
            "dilation to be an int",
        ),
        (
            case(ones(2, 3, 3, 3), np.ones((4, 3, 2, 2)), None, 2, "same"),
            ArgumentError,
            "the stride is 1",
        ),
        (
            case(ones(2, 3, 3, 3), np.ones((4, 3, 2, 2)), padding="full"),
            ArgumentError,
            '"valid" or "same"',
        ),
    ],
)
samples(
    conv_transpose2d,
    lambda r: [
        case(r(2, 2, 2, 3), r(2, 3, 2, 2), r(3)),
        case(r(1, 2, 3, 2), r(2, 1, 3, 2), r(1), stride=2, padding=1, output_padding=1),
        case(r(2, 4, 2, 2), r(4, 1, 2, 2), r(2), stride=3, groups=2),
        case(r(1, 1, 2, 3), r(1, 2, 2, 2), padding=1, dilation=2),
        case(r(0, 2, 3, 3), r(2, 1, 2, 2)),
    ],
    reference=_transpose_by_definition,
    fails=lambda: [
        (
            case(ones(2, 3, 5, 5), np.ones((4, 3, 2, 2))),
            ShapeError,
            "x with 4 channels for W (4, 3, 2, 2)",
        ),
        (
            case(ones(2, 3, 5, 5), np.ones((3, 4, 2, 2)), groups=2),
            ArgumentError,
            "the 3 input channels",
        ),
        (case(ones(2, 3, 5, 5), np.ones((3, 4, 2, 2)), np.ones(3)), ShapeError, "b of shape (4,)"),
        (
            case(ones(2, 3, 5, 5), np.ones((3, 4, 2, 2)), output_padding=1),
            ArgumentError,
            "less than stride",
        ),
        (
            case(ones(2, 3, 1, 1), np.ones((3, 4, 2, 2)), padding=1),
            ShapeError,
            "spatial size (0, 0)",
        ),
    ],
)
