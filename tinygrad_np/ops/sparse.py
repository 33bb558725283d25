"""Sparse matrices times dense ones, with gradients at the stored places only.

A sparse matrix is a fixed `SparsePattern` and a tensor of the values in it. Time and memory follow
the number of values, forward and backward.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import Tensor, case, primitive, samples
from ..errors import IndexingError, ShapeError, TensorError, message

# Numbers of each operand gathered at once for the gradient of the values: 256 KB of float32.
BLOCK = 1 << 16


class SparsePattern:
    """Where the values of a sparse matrix stand.

    Parameters
    ----------
    rows, columns : array_like of int, (n,)
        The place of each value, row by row and within a row from left to right, none twice.
    shape : pair of int
        Of the matrix.

    Raises
    ------
    ShapeError, IndexingError
        If rows and columns differ in length; for places outside the shape, or out of order.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> pattern = tg.SparsePattern([0, 2], [1, 0], shape=(3, 2))
    >>> pattern
    SparsePattern(2 values in (3, 2))
    >>> pattern.T.rows
    array([1, 0])
    """

    def __init__(self, rows: ArrayLike, columns: ArrayLike, shape: tuple[int, int]) -> None:
        self.rows, self.columns = (np.asarray(places, dtype=np.intp) for places in (rows, columns))
        self.shape = shape
        if self.rows.ndim != 1 or self.rows.shape != self.columns.shape:
            raise ShapeError(
                message("SparsePattern", "as many rows as columns, (n,)",
                        f"{self.rows.shape} and {self.columns.shape}")
            )  # fmt: skip
        for places, length in ((self.rows, shape[0]), (self.columns, shape[1])):
            if places.size and not 0 <= places.min() <= places.max() < length:
                raise IndexingError(
                    message("SparsePattern", f"places inside the shape {shape}",
                            f"{places.min()} ... {places.max()} along the axis of length {length}")
                )  # fmt: skip
        if np.any(np.diff(self.rows * shape[1] + self.columns) <= 0):
            raise IndexingError(
                message("SparsePattern", "places in row order, each once", "others",
                        "Sort with np.lexsort((columns, rows)), and values alike.")
            )  # fmt: skip
        # Compressed rows, as scipy.sparse names them; a transposed pattern shares them.
        self.starts = np.searchsorted(self.rows, np.arange(shape[0] + 1))
        self.transposed = False

    @property
    def T(self) -> SparsePattern:
        """The pattern of the transposed matrix, for the same values in the same order."""
        other = object.__new__(SparsePattern)
        other.rows, other.columns, other.shape = self.columns, self.rows, self.shape[::-1]
        other.starts, other.transposed = self.starts, not self.transposed
        return other

    def matrix(self, values: NDArray[Any]) -> Any:
        """The `scipy.sparse` matrix of some values.

        Raises
        ------
        TensorError
            If SciPy is not installed.
        """
        try:
            from scipy.sparse import (
                csc_matrix,
                csr_matrix,
            )
        except ImportError as error:
            raise TensorError(
                "sparse_matmul: needs SciPy. Install the extra: pip install tinygrad-np[sparse]"
            ) from error
        kind, places = (csc_matrix, self.rows) if self.transposed else (csr_matrix, self.columns)
        return kind((values, places, self.starts), shape=self.shape)

    def __repr__(self) -> str:
        return f"SparsePattern({self.rows.size} values in {self.shape})"


# S(v, x, u) = sum(u * (A(v) @ x)) is linear in each of the three; the product is dS/du with one
# pattern and dS/dx with its transpose, and sparse_outer is dS/dv.


@primitive("sparse_matmul({values}, {x}, pattern={pattern})", name="sparse_matmul")
def sparse_product(values, x, *, pattern):
    return pattern.matrix(values) @ x


@primitive("sparse_outer({u}, {x}, pattern={pattern})")
def sparse_outer(u, x, *, pattern):
    """``u @ x.T`` at the places of the pattern only: row of u times row of x for each value."""
    # Transposed views would be gathered number by number, at tens of times the cost of a copy.
    u, x = np.ascontiguousarray(u), np.ascontiguousarray(x)
    values = np.empty(pattern.rows.size, np.result_type(u, x))
    step = max(1, BLOCK // max(1, x.shape[1]))
    for start in range(0, values.size, step):
        at = slice(start, start + step)
        np.vecdot(
            np.take(u, pattern.rows[at], axis=0),
            np.take(x, pattern.columns[at], axis=0),
            out=values[at],
        )
    return values


sparse_product.vjp(
    values=lambda g, x, pattern: sparse_outer(g, x, pattern=pattern),
    x=lambda g, values, pattern: sparse_product(values, g, pattern=pattern.T))  # fmt: skip
sparse_outer.vjp(
    u=lambda g, x, pattern: sparse_product(g, x, pattern=pattern),
    x=lambda g, u, pattern: sparse_product(g, u, pattern=pattern.T))  # fmt: skip


def sparse_matmul(values: Any, pattern: SparsePattern, x: Any) -> Tensor:
    """Sparse matrix times dense matrix ``y = A @ x``; ``dx = A.T @ g``, ``dA = g @ x.T`` on A.

    Parameters
    ----------
    values : array_like, (n,)
        The values of A (m, k), in the order of the pattern.
    pattern : SparsePattern
        Where they stand. For ``x @ A`` write ``sparse_matmul(values, pattern.T, x.T).T``.
    x : array_like, (k, p)

    Returns
    -------
    Tensor, (m, p)

    Raises
    ------
    ShapeError
        If values, pattern and x do not fit.
    TensorError
        If SciPy (the extra ``sparse``) is not installed.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> pattern = tg.SparsePattern([0, 0, 1], [0, 2, 1], shape=(2, 3))
    >>> values = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = tg.sparse_matmul(values, pattern, np.array([[1.0], [10.0], [100.0]]))
    >>> y.data.ravel()
    array([201.,  30.])
    >>> y.sum().backward()
    >>> values.grad
    array([  1., 100.,  10.])
    """
    values, x = (a if type(a) is Tensor else np.asarray(a) for a in (values, x))
    if values.shape != pattern.rows.shape:
        raise ShapeError(
            message(
                "sparse_matmul",
                f"values of shape {pattern.rows.shape} for {pattern}",
                f"{values.shape}",
            )
        )
    if x.ndim != 2 or x.shape[0] != pattern.shape[1]:
        fix = "Did you mean pattern.T?" if x.ndim == 2 and x.shape[0] == pattern.shape[0] else ""
        raise ShapeError(
            message(
                "sparse_matmul",
                f"x of shape ({pattern.shape[1]}, p) for {pattern}",
                f"{x.shape}",
                fix,
            )
        )
    return sparse_product(values, x, pattern=pattern)


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _product_by_definition(values: Any, pattern: SparsePattern, x: Any) -> Any:
    A = np.zeros(pattern.shape)
    A[pattern.rows, pattern.columns] = values
    return A @ x


_pattern = SparsePattern([0, 0, 1, 3], [0, 2, 2, 1], (4, 3))

samples(
    sparse_matmul,
    lambda r: [
        case(r(4), _pattern, r(3, 2)),
        case(r(4), _pattern.T, r(4, 1)),
        case(r(0), SparsePattern([], [], (2, 3)), r(3, 2)),
        case(r(4), _pattern, r(3, 0)),
    ],
    reference=_product_by_definition,
    fails=lambda: [
        (case(Tensor(np.ones(3)), _pattern, np.ones((3, 2))), ShapeError, "values of shape (4,)"),
        (
            case(Tensor(np.ones(4)), _pattern, np.ones((4, 2))),
            ShapeError,
            "Did you mean pattern.T?",
        ),
        (case(Tensor(np.ones(4)), _pattern, np.ones(3)), ShapeError, "x of shape (3, p)"),
    ],
)
sparse_outer.samples(
    lambda r: [
        case(r(4, 2), r(3, 2), pattern=_pattern),
        case(r(3, 1), r(4, 1), pattern=_pattern.T),
    ],
    reference=lambda u, x, pattern: (u @ x.T)[pattern.rows, pattern.columns],
)
