"""Pooling, and the windows of an array as columns.

Convention at kinks: a maximum that several elements of a window share passes its gradient to the
first of them in row order, as PyTorch's ``max_pool2d`` does.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np

from ..core import Tensor, case, primitive, samples
from ..errors import ArgumentError, ShapeError, message
from .windows import ALL, Ints, Window, array_of, check_fit, numbers_of, ones, window_of

# --------------------------------------------------------------------------------------------------
# Unfold and fold
# --------------------------------------------------------------------------------------------------


def _seen(x: Any, window: Window, fill: float = 0) -> list[Any]:
    """For each place within the window, what all windows see there: views (N, C, *positions)."""
    views = window.views(window.padded(x, 2, fill), 2)
    return [views[(ALL, ALL, *place)] for place in np.ndindex(*window.kernel)]


def _put_back(parts: Iterable[Any], like: Any, channels: int, size: Ints, window: Window) -> Any:
    """Adjoint of `_seen`: each part added where it was seen; in memory like another array."""
    x = np.zeros_like(like, shape=(len(like), channels, *window.margin(size)))
    views = window.views(x, 2)
    apart = all(map(operator.ge, window.stride, window.reach))
    for place, part in zip(np.ndindex(*window.kernel), parts):
        view = views[(ALL, ALL, *place)]
        view[...] = part if apart else view + part
    return window.inner(x, 2)


@primitive("unfold({x}, window={window})", name="unfold")
def windows_as_columns(x, *, window):
    views = window.views(window.padded(x, 2), 2)
    return views.reshape(len(x), x.shape[1] * math.prod(window.kernel), math.prod(views.shape[4:]))


@primitive("fold({u}, size={size}, window={window})", name="fold")
def columns_as_windows(u, *, size, window):
    places = math.prod(window.kernel)
    parts = u.reshape(len(u), u.shape[1] // places, places, *window.positions(window.margin(size)))
    return _put_back(parts.transpose(2, 0, 1, 3, 4), u, parts.shape[1], size, window)


windows_as_columns.vjp(
    x=lambda g, x, window: columns_as_windows(g, size=x.shape[2:], window=window)
)
columns_as_windows.vjp(u=lambda g, window: windows_as_columns(g, window=window))


def unfold(x: Any, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Tensor:
    """Every window as a column: ``W.reshape(O, -1) @ unfold(x, ...)`` is a convolution ("im2col").

    Parameters
    ----------
    x : array_like, (N, C, H, W)
    kernel, stride, dilation : int or pair of int
    padding : int, pair of int, "valid" or "same"

    Returns
    -------
    Tensor, (N, C kh kw, L)
        L windows, in row order.

    Raises
    ------
    ShapeError, ArgumentError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.unfold(np.arange(6.0).reshape(1, 1, 2, 3), kernel=2)
    array([[[0., 1.],
            [1., 2.],
            [3., 4.],
            [4., 5.]]])
    """
    x = array_of("unfold", "x", x, "(N, C, H, W)")
    window = window_of(
        "unfold", numbers_of("unfold", "kernel", kernel, 2, 1), stride, padding, dilation
    )
    check_fit("unfold", window, x.shape[2:])
    return windows_as_columns(x, window=window)


def fold(
    x: Any, size: Any, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Tensor:
    """Adjoint of `unfold`: every column added where its window was ("col2im").

    Parameters
    ----------
    x : array_like, (N, C kh kw, L)
    size : int or pair of int
        Height and width of the result.
    kernel, stride, dilation : int or pair of int
    padding : int, pair of int, "valid" or "same"

    Returns
    -------
    Tensor, (N, C, H, W)

    Raises
    ------
    ShapeError
        If x has not a row for each element of a window, and a column for each window.
    ArgumentError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.fold(np.ones((1, 4, 2)), size=(2, 3), kernel=2)
    array([[[[1., 2., 1.],
             [1., 2., 1.]]]])
    """
    x = array_of("fold", "x", x, "(N, C kh kw, L)")
    size = numbers_of("fold", "size", size, 2, 1)
    window = window_of(
        "fold", numbers_of("fold", "kernel", kernel, 2, 1), stride, padding, dilation
    )
    check_fit("fold", window, size)
    rows, columns = math.prod(window.kernel), math.prod(window.positions(window.margin(size)))
    if x.shape[1] % rows or x.shape[2] != columns:
        raise ShapeError(
            message("fold", f"x of shape (N, a multiple of {rows}, {columns}) for size={size} and "
                    f"kernel={window.kernel}", f"{x.shape}")
        )  # fmt: skip
    return columns_as_windows(x, size=size, window=window)


# --------------------------------------------------------------------------------------------------
# Pooling
# --------------------------------------------------------------------------------------------------


@primitive("pool_mean({x}, window={window})", name="avg_pool")
def pool_mean(x, *, window):
    return sum(_seen(x, window)) / math.prod(window.kernel)


@primitive("pool_spread({u}, size={size}, window={window})")
def pool_spread(u, *, size, window):
    """Adjoint of `pool_mean`: its share of ``u`` added to every element of a window."""
    share = u / math.prod(window.kernel)
    return _put_back(repeat(share), u, u.shape[1], size, window)


pool_mean.vjp(x=lambda g, x, window: pool_spread(g, size=x.shape[2:], window=window))
pool_spread.vjp(u=lambda g, window: pool_mean(g, window=window))


def _maxima(x: Any, window: Window) -> tuple[Any, Any]:
    """The largest element of each window, and the first place within the window where it stands."""
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    first, *others = _seen(x, window, lowest)
    y = first.copy(order="K")
    winner = np.zeros_like(y, dtype=np.min_scalar_type(len(others)))
    for place, candidate in enumerate(others, start=1):
        # Places only grow: the last to win is the largest. Writing where= takes ten times as long.
        np.maximum(winner, (candidate > y) * winner.dtype.type(place), out=winner)
        np.maximum(y, candidate, out=y)
    return y, winner


@primitive("pool_argmax({x}, window={window})")
def pool_argmax(x, *, window):
    """The place of the maximum within each window, counted in row order."""
    return _maxima(x, window)[1]


@primitive("pool_max({x}, window={window})", name="max_pool",
           residuals={"winner": lambda x, window: pool_argmax(x, window=window)})  # fmt: skip
def pool_max(x, *, window):
    return _maxima(x, window)


@primitive("pool_place({u}, {winner}, size={size}, window={window})")
def pool_place(u, winner, *, size, window):
    """Zeros with each ``u`` added where the winner of its window stood."""
    g = np.empty_like(
        winner, u.dtype
    )  # in memory as the input was: a flatten may have come between
    g[...] = u
    parts = (g * (winner == place) for place in range(math.prod(window.kernel)))
    return _put_back(parts, g, g.shape[1], size, window)


@primitive("pool_pick({x}, {winner}, window={window})")
def pool_pick(x, winner, *, window):
    """Adjoint of `pool_place`: what stands where the winner of each window stood."""
    return sum([part * (winner == place) for place, part in enumerate(_seen(x, window))])


pool_max.vjp(x=lambda g, x, winner, window: pool_place(g, winner, size=x.shape[2:], window=window))
pool_place.vjp(u=lambda g, winner, window: pool_pick(g, winner, window=window))
pool_pick.vjp(x=lambda g, x, winner, window: pool_place(g, winner, size=x.shape[2:], window=window))


def max_pool(x: Any, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """Largest element of each window; the gradient goes to it.

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (N, C, L)
    kernel : int or pair of int
    stride : int or pair of int, optional
        By default the kernel: windows side by side.
    padding : int or pair of int
        At most half the kernel; what is added is never the largest.

    Returns
    -------
    Tensor, (N, C, H', W') or (N, C, L')
        ``H' = (H + 2 padding - kh) // stride + 1``: what is left over at the end is not seen.

    Raises
    ------
    ShapeError, ArgumentError
        As `conv2d`.

    Notes
    -----
    Of equal largest elements the first in row order gets the gradient, as in PyTorch.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([[[1.0, 3.0, 2.0, 2.0]]], requires_grad=True)
    >>> y = tg.max_pool(x, 2)
    >>> y.sum().backward()
    >>> y.data, x.grad
    (array([[[3., 2.]]]), array([[[0., 1., 1., 0.]]]))
    """
    return _pooled("max_pool", pool_max, x, kernel, stride, padding)


def avg_pool(x: Any, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """Mean of each window; every element of it gets an equal share of the gradient.

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (N, C, L)
    kernel : int or pair of int
    stride : int or pair of int, optional
        By default the kernel: windows side by side.
    padding : int or pair of int
        At most half the kernel. The zeros count, as by default in PyTorch.

    Returns
    -------
    Tensor, (N, C, H', W') or (N, C, L')

    Raises
    ------
    ShapeError, ArgumentError
        As `conv2d`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.avg_pool(np.array([[[1.0, 3.0, 2.0, 2.0]]]), 2)
    array([[[2., 2.]]])
    """
    return _pooled("avg_pool", pool_mean, x, kernel, stride, padding)


def _pooled(name: str, operation: Any, x: Any, kernel: Any, stride: Any, padding: Any) -> Tensor:
    x = x if type(x) is Tensor else np.asarray(x)
    axes = x.ndim - 2
    if axes not in (1, 2):
        raise ShapeError(message(name, "x of shape (N, C, H, W) or (N, C, L)", f"{x.shape}"))
    kernel = numbers_of(name, "kernel", kernel, axes, 1)
    window = window_of(name, kernel, kernel if stride is None else stride, padding, 1)
    if any(2 * max(pads) > k for pads, k in zip(window.padding, kernel)):
        raise ArgumentError(
            message(name, f"padding of at most half the kernel {kernel}", f"{padding}")
        )
    check_fit(name, window, x.shape[2:])
    return operation(x, window=window)


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _unfold_by_definition(
    x: Any, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Any:
    """Element by element, each read where it stands."""
    k, s, p, d = (np.broadcast_to(n, 2) for n in (kernel, stride, padding, dilation))
    x = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in p)])
    positions = (np.array(x.shape[2:]) - d * (k - 1) - 1) // s + 1
    y = np.zeros((*x.shape[:2], *k, *positions))
    for a, b, i, j in np.ndindex(*k, *positions):
        y[:, :, a, b, i, j] = x[:, :, i * s[0] + a * d[0], j * s[1] + b * d[1]]
    return y.reshape(len(x), x.shape[1] * math.prod(k), math.prod(positions))


def _fold_by_definition(
    x: Any, size: Any, kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> Any:
    """Element by element, each added where it belongs."""
    size, k, s, p, d = (np.broadcast_to(n, 2) for n in (size, kernel, stride, padding, dilation))
    positions = (size + 2 * p - d * (k - 1) - 1) // s + 1
    y = np.zeros((len(x), x.shape[1] // math.prod(k), *(size + 2 * p)))
    x = x.reshape(*y.shape[:2], *k, *positions)
    for a, b, i, j in np.ndindex(*k, *positions):
        y[:, :, i * s[0] + a * d[0], j * s[1] + b * d[1]] += x[:, :, a, b, i, j]
    return y[:, :, p[0] : p[0] + size[0], p[1] : p[1] + size[1]]


def _seen_by_definition(x: Any, kernel: Any, stride: Any, padding: Any, fill: float) -> Any:
    """What each window sees: (N, C, *positions, elements)."""
    axes = x.ndim - 2
    k, p = np.broadcast_to(kernel, axes), np.broadcast_to(padding, axes)
    s = k if stride is None else np.broadcast_to(stride, axes)
    x = np.pad(x, [(0, 0), (0, 0), *((n, n) for n in p)], constant_values=fill)
    size = [(n - a) // t + 1 for n, a, t in zip(x.shape[2:], k, s)]
    seen = np.zeros((*x.shape[:2], *size, math.prod(k)))
    for at in np.ndindex(*size):
        window = tuple([slice(i * t, i * t + a) for i, t, a in zip(at, s, k)])
        seen[(ALL, ALL, *at)] = x[(ALL, ALL, *window)].reshape(*x.shape[:2], seen.shape[-1])
    return seen


samples(
    unfold,
    lambda r: [
        case(r(2, 2, 3, 4), 2),
        case(r(1, 1, 5, 4), (3, 2), stride=(2, 1), padding=(1, 0)),
        case(r(1, 2, 4, 4), 2, 2, dilation=2, padding=1),
        case(r(0, 2, 3, 3), 2),
    ],
    reference=_unfold_by_definition,
    fails=lambda: [
        (case(ones(3, 5, 5), 2), ShapeError, "x[None], a batch of one"),
        (case(ones(2, 3, 5, 5), 6), ShapeError, "padded size (5, 5)"),
        (case(ones(2, 3, 5, 5), 0), ArgumentError, "kernel to be an int or 2 of them, at least 1"),
    ],
)  # fmt: skip
samples(
    fold,
    lambda r: [
        case(r(2, 8, 6), (3, 4), 2),
        case(r(1, 6, 6), (5, 3), (3, 2), stride=(2, 1), padding=(1, 0)),
        case(r(1, 8, 4), 4, 2, 2, dilation=2, padding=1),
        case(r(0, 4, 1), 2, 2),
    ],
    reference=_fold_by_definition,
    fails=lambda: [
        (case(ones(2, 8, 5), (3, 4), 2), ShapeError, "(N, a multiple of 4, 6) for size=(3, 4)"),
        (case(ones(2, 7, 6), (3, 4), 2), ShapeError, "a multiple of 4"),
        (case(ones(2, 8), (3, 4), 2), ShapeError, "(N, C kh kw, L)"),
        (case(ones(2, 8, 6), (1, 4), 2), ShapeError, "padded size (1, 4)"),
    ],
)  # fmt: skip


def _pools(r: Any) -> list[Any]:
    return [
        case(r.distinct(2, 2, 4, 4), 2),
        case(r.distinct(1, 2, 5, 4), (3, 2), stride=(2, 1), padding=(1, 0)),
        case(r.distinct(1, 1, 5, 5), 2),
        case(r.distinct(1, 1, 5, 5), 2, stride=3),
        case(r.distinct(2, 2, 6), 3, 2, 1),
        case(r.distinct(0, 2, 4), 2),
    ]


_bad_pools = lambda: [
    (case(ones(5, 5), 2), ShapeError, "(N, C, H, W) or (N, C, L)"),
    (case(ones(1, 2, 5, 5), 6), ShapeError, "padded size (5, 5)"),
    (case(ones(1, 2, 5, 5), 2, padding=2), ArgumentError, "at most half the kernel (2, 2), got 2"),
    (case(ones(1, 2, 5, 5), 2, stride=(1, 0)), ArgumentError, "stride to be an int or 2 of them"),
]
samples(
    max_pool, _pools, fails=_bad_pools,
    reference=lambda x, kernel, stride=None, padding=0: (
        _seen_by_definition(x, kernel, stride, padding, -np.inf).max(axis=-1)),
    kinks=lambda: [
        (case(np.array([[[[1.0, 1.0], [1.0, 1.0]]]]), 2), [np.array([[[[1.0, 0.0], [0.0, 0.0]]]])]),
        (case(np.array([[[0.0, 2.0, 2.0]]]), 2, 1), [np.array([[[0.0, 2.0, 0.0]]])]),
    ],
)  # fmt: skip
samples(
    avg_pool, _pools, fails=_bad_pools,
    reference=lambda x, kernel, stride=None, padding=0: (
        _seen_by_definition(x, kernel, stride, padding, 0).mean(axis=-1)),
)  # fmt: skip


def _unpooled_by_definition(parts: Any, size: Any, window: Window) -> Any:
    """What each window gives to its elements (N, C, H', W', elements), at their places."""
    x = np.zeros((*parts.shape[:2], *size))
    for i, j, k in np.ndindex(*parts.shape[2:]):
        a, b = divmod(k, window.kernel[1])
        x[:, :, i * window.stride[0] + a, j * window.stride[1] + b] += parts[:, :, i, j, k]
    return x


_apart = Window((2, 2), (2, 3), ((0, 0), (0, 0)), (1, 1))

pool_pick.samples(
    lambda r: [case(r(2, 1, 4, 5), r.integers(4, 2, 1, 2, 2), window=_apart)],
    reference=lambda x, winner, window: np.take_along_axis(
        _seen_by_definition(x, window.kernel, window.stride, 0, 0), winner[..., None], axis=-1
    )[..., 0],
)
# The adjoints by themselves: what flows through them back to a cotangent.
pool_place.samples(
    lambda r: [case(r(2, 1, 2, 2), r.integers(4, 2, 1, 2, 2), size=(4, 5), window=_apart)],
    reference=lambda u, winner, size, window: _unpooled_by_definition(
        u[..., None] * (winner[..., None] == np.arange(4)), size, window
    ),
)
pool_spread.samples(
    lambda r: [case(r(2, 1, 2, 2), size=(4, 5), window=_apart)],
    reference=lambda u, size, window: _unpooled_by_definition(
        np.repeat(u[..., None] / 4, 4, axis=-1), size, window
    ),
)
