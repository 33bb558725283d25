"""Scaled dot-product attention, from two matrix products and a softmax that knows masks."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ..core import Tensor, case, primitive, samples
from ..errors import DtypeError, ShapeError, message
from .linalg import matmul_2d
from .random import dropout as dropped
from .shape import matrix_transpose


@lru_cache(maxsize=16)
def _no_later(T: int, S: int, dtype: np.dtype[Any]) -> Any:
    """0 where position t may see position s, which is where s <= t; -inf elsewhere."""
    bias = np.triu(np.full((T, S), -np.inf, dtype), k=1)
    bias.flags.writeable = False
    return bias


def _row_maximum(x: Any) -> Any:
    """The maximum along the last axis, kept: halves against halves, which on rows of tens of
    numbers takes a sixth of the time of `numpy.max`."""
    while x.shape[-1] > 1:
        half = (x.shape[-1] + 1) // 2
        x = np.maximum(x[..., :half], x[..., -half:])
    return x


@primitive("attention_weights({s}, {mask}, causal={causal})")
def attention_weights(s, mask, *, causal):
    """Softmax along the last axis over what the mask lets through; a row without anything is 0."""
    if mask is not None:
        s = s + (
            np.where(mask, s.dtype.type(0), s.dtype.type(-np.inf)) if mask.dtype == bool else mask
        )
    if causal:
        s = s + _no_later(*s.shape[-2:], s.dtype)
    masked = mask is not None or causal
    top = _row_maximum(s)
    e = s - (np.where(np.isfinite(top), top, s.dtype.type(0)) if masked else top)
    np.exp(e, out=e)
    total = (e @ np.ones(e.shape[-1], e.dtype))[..., None]
    e /= np.where(total == 0, s.dtype.type(1), total) if masked else total
    return e


def _softmax_pull(g: Any, y: Any) -> Any:
    return y * (g - np.sum(g * y, axis=-1, keepdims=True))


def _softmax_pull_of_arrays(g: Any, y: Any) -> Any:
    d = g - np.vecdot(g, y)[..., None]
    d *= y
    return d


attention_weights.vjp(s=_softmax_pull, mask=_softmax_pull).arrays(
    s=_softmax_pull_of_arrays, mask=_softmax_pull_of_arrays)  # fmt: skip


def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    causal: bool = False,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention ``y = softmax(scale q k^T + mask) v``, over any leading axes (batch, heads).

    With ``p`` the weights and ``dp = g v^T``: ``dv = p^T g``, ``ds = p * (dp - sum(dp * p))``,
    ``dq = scale ds k`` and ``dk = scale ds^T q``.

    Parameters
    ----------
    q : array_like, (..., T, d)
    k : array_like, (..., S, d)
    v : array_like, (..., S, e)
    mask : array_like, (..., T, S), optional
        True where attention is allowed; or floats, which are added (a learned bias among them).
    causal : bool
        Position t sees positions 0 ... t only.
    dropout : float
        The probability to drop a weight; needs ``rng``.
    rng : numpy.random.Generator, optional
    scale : float, optional
        By default ``1 / sqrt(d)``.

    Returns
    -------
    Tensor, (..., T, e)

    Raises
    ------
    ShapeError
        If the shapes do not meet, or a mask does not broadcast to (..., T, S).
    DtypeError
        For a mask of integers.

    Notes
    -----
    Where a position may see nothing its result and its gradient are 0.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017, equation 1.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> q = k = np.zeros((3, 2))
    >>> tg.scaled_dot_product_attention(q, k, np.array([[0.0], [2.0], [7.0]]), causal=True)
    array([[0.],
           [1.],
           [3.]])
    """
    name = "scaled_dot_product_attention"
    q, k, v = (x if type(x) is Tensor else np.asarray(x) for x in (q, k, v))
    shapes = f"q {q.shape}, k {k.shape}, v {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(message(name, "q (..., T, d), k (..., S, d) and v (..., S, e)", shapes))
    s = matmul_2d(q * (1 / math.sqrt(q.shape[-1]) if scale is None else scale), matrix_transpose(k))
    if mask is not None:
        mask = _checked_mask(name, mask, s)
    p = attention_weights(s, mask, causal=causal)
    if dropout:
        p = dropped(p, dropout, rng=rng)  # type: ignore[arg-type]  # dropout refuses None
    return matmul_2d(p, v)


def _checked_mask(name: str, mask: Any, s: Any) -> Any:
    """A mask that broadcasts to the scores; a plain one of floats takes their dtype."""
    mask = mask if type(mask) is Tensor else np.asarray(mask)
    if mask.dtype.kind not in "bf":  # 1 and 0, added to the scores, would hide next to nothing
        raise DtypeError(
            message(name, "a mask of booleans, or of floats that are added", f"dtype {mask.dtype}",
                    "For 1 and 0 write mask.astype(bool).")
        )  # fmt: skip
    if type(mask) is not Tensor:
        mask = mask if mask.dtype == bool else mask.astype(s.dtype)
    try:
        fits = np.broadcast_shapes(mask.shape, s.shape) == s.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            message(name, f"a mask that broadcasts to (..., T, S), {s.shape}", f"{mask.shape}")
        )
    return mask


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _attention_by_definition(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None
) -> Any:
    s = np.einsum("...td,...sd->...ts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    seen = np.ones(s.shape, bool)
    if causal:
        seen &= np.arange(s.shape[-1]) <= np.arange(s.shape[-2])[:, None]
    if mask is not None and mask.dtype == bool:
        seen &= mask
    elif mask is not None:
        s = s + mask
    e = np.exp(s) * seen
    total = e.sum(axis=-1, keepdims=True)
    return np.einsum("...ts,...se->...te", e / np.where(total == 0, 1, total), v)


_blind = np.array([[True, False, True], [False, False, False]])

samples(
    scaled_dot_product_attention,
    lambda r: [
        case(r(2, 3), r(4, 3), r(4, 2)),
        case(r(2, 1, 3, 2), r(2, 1, 3, 2), r(2, 1, 3, 1), causal=True),
        case(r(2, 2), r(3, 2), r(3, 2), _blind),
        case(r(2, 2, 2), r(2, 3, 2), r(2, 3, 1), r(2, 3), scale=0.3),
        case(r(2, 2), r(3, 2), r(3, 2), _blind, causal=True),
        case(3 * r(2, 2), r(1, 2), r(1, 2)),
        case(r(0, 2, 3), r(0, 4, 3), r(0, 4, 2)),
    ],
    reference=_attention_by_definition,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.ones((4, 2)), np.ones((4, 2))), ShapeError, "k (4, 2)"),
        (case(Tensor(np.ones((2, 3))), np.ones((4, 3)), np.ones((3, 2))), ShapeError, "v (3, 2)"),
        (case(Tensor(np.ones(3)), np.ones((4, 3)), np.ones((4, 2))), ShapeError, "q (3,)"),
        (case(Tensor(np.ones((2, 3))), np.ones((4, 3)), np.ones((4, 2)), np.ones((4, 2), bool)),
         ShapeError, "broadcasts to (..., T, S), (2, 4), got (4, 2)"),
        (case(Tensor(np.ones((2, 3))), np.ones((4, 3)), np.ones((4, 2)), np.ones((5, 2, 4), bool)),
         ShapeError, "got (5, 2, 4)"),
        (case(Tensor(np.ones((2, 3))), np.ones((4, 3)), np.ones((4, 2)), np.ones((2, 4), int)),
         DtypeError, "got dtype int64. For 1 and 0 write mask.astype(bool)."),
    ],
)  # fmt: skip
