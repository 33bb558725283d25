"""Rows of a table by number, and the adjoint: rows added where they were read."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples, told
from ..errors import DtypeError, IndexingError, ShapeError, message


@primitive("{W}[{ids}]")
def gather_rows(W, ids):
    return np.take(W, ids, axis=0)


@primitive("scatter_rows({g}, {ids}, {count})")
def scatter_rows(g, ids, *, count):
    """Zeros of ``count`` rows, with each row of ``g`` added to that of its number.

    The first row of each number is copied. Those that come again are brought together and summed
    at once: `numpy.add.reduceat` takes as long for one row as for many, `numpy.add.at` far longer.
    """
    flat = ids.reshape(-1)
    rows = g.reshape(flat.size, *g.shape[ids.ndim :])
    W = np.zeros((count, *rows.shape[1:]), g.dtype)
    order = np.argsort(flat, kind="stable")
    numbers = flat[order]
    new = np.diff(numbers, prepend=-1) != 0
    W[numbers[new]] = rows[order[new]]
    order, numbers = order[~new], numbers[~new]
    if len(order):
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        W[numbers[first]] += np.add.reduceat(rows[order], first, axis=0)
    return W


gather_rows.vjp(W=lambda g, W, ids: scatter_rows(g, ids, count=W.shape[0]))
scatter_rows.vjp(g=lambda g, ids: gather_rows(g, ids))


def embedding(ids: Any, W: Any) -> Tensor:
    """Rows of a table ``y[...] = W[ids[...]]``; a row read k times gets the sum of k cotangents.

    Parameters
    ----------
    ids : array_like of int
        In 0 ... V-1, of any shape.
    W : array_like, (V, d)

    Returns
    -------
    Tensor, (*ids.shape, d)

    Raises
    ------
    DtypeError
        If the ids are not integers.
    IndexingError
        For an id outside the table; none counts from the end.
    ShapeError
        If ``W`` has not two axes.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> W = tg.Tensor([[0.0, 1.0], [2.0, 3.0]], requires_grad=True)
    >>> tg.embedding([1, 1, 0], W).sum().backward()
    >>> W.grad
    array([[1., 1.],
           [2., 2.]])
    """
    ids = ids if type(ids) is Tensor else np.asarray(ids, dtype=None if np.size(ids) else np.intp)
    W = W if type(W) is Tensor else np.asarray(W)
    if W.ndim != 2:
        raise ShapeError(message("embedding", "a table W of shape (V, d)", f"{W.shape}"))
    if ids.dtype.kind not in "iu":
        fix = "Arguments are (ids, W)." if W.dtype.kind in "iu" else "Did you mean ids.astype(int)?"
        raise DtypeError(message("embedding", "integer ids", f"dtype {ids.dtype}", fix))
    if ids.size:
        low, high = ids.min().item(), ids.max().item()
        if low < 0 or high >= W.shape[0]:
            raise IndexingError(
                message(
                    "embedding",
                    f"ids in 0 ... {W.shape[0] - 1} for W {W.shape}",
                    f"{low} ... {high}",
                )
            )
    told("checked", plain(ids), W.shape[0])
    return gather_rows(W, ids)


samples(
    embedding,
    lambda r: [
        case(r.integers(3, 5), r(3, 2)),
        case(r.integers(3, 2, 4), r(3, 2)),
        case(np.array(1), r(3, 2)),
        case(np.zeros((0, 2), int), r(3, 2)),
        case(np.array([2, 2, 2, 0]), r(4, 1)),
    ],
    reference=lambda ids, W: np.eye(len(W))[ids] @ W,
    fails=lambda: [
        (
            case([0, 3], Tensor(np.ones((3, 2)))),
            IndexingError,
            "ids in 0 ... 2 for W (3, 2), got 0 ... 3",
        ),
        (case([-1], Tensor(np.ones((3, 2)))), IndexingError, "got -1 ... -1"),
        (case([0.0], Tensor(np.ones((3, 2)))), DtypeError, "ids.astype(int)"),
        (case(Tensor(np.ones((3, 2))), [[0, 1]]), DtypeError, "Arguments are (ids, W)"),
        (case([0], Tensor(np.ones(3))), ShapeError, "a table W of shape (V, d), got (3,)"),
    ],
)
scatter_rows.samples(
    lambda r: [
        case(r(5, 2), np.array([2, 0, 2, 2, 1]), count=4),
        case(r(2, 3, 2), r.integers(3, 2, 3), count=3),
        case(r(0, 2), np.zeros(0, int), count=2),
    ],
    reference=lambda g, ids, count: np.tensordot(
        np.eye(count)[ids], g, (range(ids.ndim), range(ids.ndim))
    ),
)
