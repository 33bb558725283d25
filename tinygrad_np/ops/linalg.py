"""Products of matrices and vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backward import added_rows
from ..core import Tensor, case, plain, primitive, samples
from ..errors import ShapeError, message
from .shape import expand_dims, reshape, squeeze


def _transpose_hint(x: Any, W: Any, *rest: Any) -> str:
    """Which transpose would make the inner dimensions meet."""
    k = x.shape[-1]
    if W.ndim >= 2 and W.shape[-1] == k:
        return f"The inner dimensions {k} and {W.shape[-2]} differ. Did you mean W.T?"
    if x.ndim >= 2 and W.ndim >= 2 and x.shape[-2] == W.shape[-2]:
        return f"The inner dimensions {k} and {W.shape[-2]} differ. Did you mean x.T?"
    if W.ndim >= 2 and k != W.shape[-2]:
        return f"The inner dimensions {k} and {W.shape[-2]} differ."
    return ""


def product(x: Any, W: Any) -> Any:
    """``x @ W`` of arrays. For two matrices ``dot`` calls the same BLAS at half of matmul's overhead."""
    if type(x) is np.ndarray and type(W) is np.ndarray and x.ndim == 2 and W.ndim == 2:
        return x.dot(W)
    return np.matmul(x, W)


@primitive("{x} @ {W}", name="matmul", out="np.matmul({x}, {W}, out={out})",
           shapes="(..., n, k), (..., k, m) -> (..., n, m)", hint=_transpose_hint)  # fmt: skip
def matmul_2d(x, W):
    return product(x, W)


matmul_2d.vjp(x=lambda g, W: g @ W.mT,
              W=lambda g, x: x.mT @ g).arrays(
              x=lambda g, W: product(g, W.mT),
              W=lambda g, x: product(x.mT, g))  # fmt: skip


def matmul(x: Any, W: Any) -> Tensor:
    """Matrix product ``y = x @ W``; ``dx = g @ W.T``, ``dW = x.T @ g``.

    Parameters
    ----------
    x : array_like, (..., n, k) or (k,)
    W : array_like, (..., k, m) or (k,)
        Leading axes broadcast; vectors are taken as a row on the left, a column on the right.

    Returns
    -------
    Tensor, (..., n, m)
        Without the axis that was added to a vector.

    Raises
    ------
    ShapeError
        If the inner dimensions differ.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> W = tg.Tensor(np.eye(2), requires_grad=True)
    >>> (np.array([[1.0, 2.0]]) @ W).sum().backward()
    >>> W.grad
    array([[1., 1.],
           [2., 2.]])
    """
    m, n = np.ndim(plain(x)), np.ndim(plain(W))
    if m > 1 and n > 1:
        return matmul_2d(x, W)
    if m == 0 or n == 0:
        raise ShapeError(message("matmul", "at least one axis on both sides", "a scalar", "Use *."))
    row = expand_dims(x, 0) if m == 1 else x
    column = expand_dims(W, -1) if n == 1 else W
    y = matmul_2d(row, column)
    return squeeze(y, tuple([-2] * (m == 1) + [-1] * (n == 1)))


def _linear(x, W, b):
    y = product(x, W)
    if type(b) is np.ndarray and b.ndim == 1 and b.dtype is y.dtype:
        y += b  # y is ours: no second array
        return y
    return y + b


linear_2d = primitive(_linear, "{x} @ {W} + {b}", name="linear",
                      shapes="(n, k), (k, m), (m,) -> (n, m)", hint=_transpose_hint)  # fmt: skip
linear_2d.vjp(x=lambda g, W: g @ W.mT,
              W=lambda g, x: x.mT @ g,
              b=lambda g: g).arrays(
              x=lambda g, W: product(g, W.mT),
              W=lambda g, x: product(x.mT, g),
              b=added_rows)  # fmt: skip


def linear(x: Any, W: Any, b: Any) -> Tensor:
    """Affine map ``y = x @ W + b``; ``dx = g @ W.T``, ``dW = x.T @ g``, ``db = g.sum(0)``.

    Parameters
    ----------
    x : array_like, (..., k)
    W : array_like, (k, m)
    b : array_like, (m,)

    Returns
    -------
    Tensor, (..., m)

    Raises
    ------
    ShapeError
        If the shapes do not meet.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> b = tg.Tensor([0.5, -0.5], requires_grad=True)
    >>> y = tg.linear(np.ones((3, 2)), np.eye(2), b)
    >>> y.sum().backward()
    >>> b.grad
    array([3., 3.])
    """
    shape = x.node.value.shape if type(x) is Tensor else np.shape(x)
    if len(shape) == 2:
        return linear_2d(x, W, b)
    if len(shape) < 2:
        return matmul(x, W) + b
    rows = reshape(x, (math.prod(shape[:-1]), shape[-1]))
    return reshape(linear_2d(rows, W, b), (*shape[:-1], np.shape(plain(W))[-1]))


samples(
    matmul,
    lambda r: [
        case(r(2, 3), r(3, 4)),
        case(r(3), r(3)),
        case(r(3), r(3, 2)),
        case(r(2, 3), r(3)),
        case(r(5, 2, 3), r(3, 4)),
        case(r(2, 3), r(5, 3, 4)),
        case(r(4, 1, 2, 3), r(5, 3, 2)),
        case(r(2, 5, 3), r(3)),
        case(r(0, 3), r(3, 2)),
        case(r(2, 0), r(0, 3)),
    ],
    reference=np.matmul,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.ones((4, 3))), ShapeError, "Did you mean W.T?"),
        (case(Tensor(np.ones((3, 2))), np.ones((3, 4))), ShapeError, "Did you mean x.T?"),
        (case(Tensor(np.ones((2, 3))), np.ones((5, 4))), ShapeError, "inner dimensions 3 and 5"),
        (case(Tensor(np.ones((2, 3))), np.ones(4)), ShapeError, "inner dimensions 3 and 4"),
        (case(Tensor(np.ones((2, 3))), 2.0), ShapeError, "Use *"),
    ],
)
samples(
    linear,
    lambda r: [
        case(r(2, 3), r(3, 4), r(4)),
        case(r(3), r(3, 4), r(4)),
        case(r(5, 2, 3), r(3, 4), r(4)),
        case(r(0, 3), r(3, 2), r(2)),
        case(r(2, 0, 3), r(3, 2), r(2)),
        case(r(2, 3), r(3, 4), r(4).astype(np.longdouble)),  # whose rows BLAS does not add
        case(r(2, 3), r(3, 4), 1.0),
    ],
    reference=lambda x, W, b: np.matmul(x, W) + b,
    fails=lambda: [
        (
            case(Tensor(np.ones((2, 3))), np.ones((4, 3)), np.ones(3)),
            ShapeError,
            "Did you mean W.T?",
        ),
        (case(Tensor(np.ones((2, 3))), np.ones((3, 4)), np.ones(3)), ShapeError, "b of shape (3,)"),
    ],
)
