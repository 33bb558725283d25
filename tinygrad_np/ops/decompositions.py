"""Inverses, determinants and decompositions of square and tall matrices, in stacks of any shape.

A primitive has one result. A decomposition is therefore computed once as one array, its factors on
top of each other, of which the results are read: ``Q`` and ``R`` are rows of ``qr_factors(x)``, and
the VJP is given both cotangents at once, however many of them are used. Eigenvalues and singular
values are a primitive each that reads the factors, so that their own derivative does not contain
that of the vectors, which does not exist where two values are equal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import ArgumentError, DtypeError, ShapeError, message
from .arithmetic import where
from .index import tril
from .linalg import matmul
from .shape import concatenate, expand_dims, matrix_transpose, squeeze


def _square_hint(x: Any, *rest: Any, **params: Any) -> str:
    """That a matrix is not square; else nothing."""
    shape = np.shape(x)
    if len(shape) > 1 and shape[-1] == shape[-2]:
        return ""
    return "Its last two axes must be of equal length: square matrices."


def _singular_hint(x: Any, *rest: Any) -> str:
    """As `_square_hint`; else what to do about a singular matrix."""
    meets = not rest or np.shape(rest[0])[-2:-1] == np.shape(x)[-1:]
    singular = "A matrix is singular. Add a multiple of the identity, or use pinv."
    return _square_hint(x) or singular * meets


def _definite_hint(x: Any) -> str:
    """As `_square_hint`; else what to do about a matrix that is not positive definite."""
    return _square_hint(x) or (
        "A matrix is not positive definite. Add a small multiple of the identity to it."
    )


# --------------------------------------------------------------------------------------------------
# Inverses and determinants
# --------------------------------------------------------------------------------------------------


@primitive("np.linalg.inv({x})", shapes="(..., n, n)", hint=_singular_hint)
def inv(x):
    """Inverse ``y = x^-1``; ``dx = -y.T @ g @ y.T``.

    Parameters
    ----------
    x : array_like, (..., n, n)

    Returns
    -------
    Tensor, (..., n, n)

    Raises
    ------
    ShapeError
        If a matrix is not square, or singular.

    Notes
    -----
    Giles (2008), *Collected matrix derivative results*, section 2.2.3. To solve equations use
    `solve`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([[2.0, 0.0], [0.0, 4.0]], requires_grad=True)
    >>> np.linalg.inv(x).sum().backward()
    >>> x.grad
    array([[-0.25  , -0.125 ],
           [-0.125 , -0.0625]])
    """
    return np.linalg.inv(x)


inv.vjp(x=lambda g, y: -(y.mT @ g @ y.mT))


@primitive(
    "np.linalg.solve({A}, {b})",
    name="solve",
    shapes="(..., n, n), (..., n, m)",
    hint=_singular_hint,
)
def solve_columns(A, b):
    return np.linalg.solve(A, b)


solve_columns.vjp(A=lambda g, y, A: -(solve_columns(A.mT, g) @ y.mT),
                  b=lambda g, A: solve_columns(A.mT, g))  # fmt: skip


def solve(A: Any, b: Any) -> Tensor:
    """Solution of ``A y = b``; ``db = A^-T g``, ``dA = -db @ y.T``.

    Parameters
    ----------
    A : array_like, (..., n, n)
    b : array_like, (n,) or (..., n, m)
        Only an array of one axis is a vector, as in NumPy 2.

    Returns
    -------
    Tensor
        Of the shape of ``b``, leading axes broadcast.

    Raises
    ------
    ShapeError
        If a matrix is not square, or singular, or the lengths differ.

    Notes
    -----
    Giles (2008), *Collected matrix derivative results*, section 2.3.1.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> b = tg.Tensor([2.0, 4.0], requires_grad=True)
    >>> y = np.linalg.solve([[2.0, 0.0], [0.0, 1.0]], b)
    >>> y.sum().backward()
    >>> y.data, b.grad
    (array([1., 4.]), array([0.5, 1. ]))
    """
    A = A if type(A) is Tensor else np.asarray(A)
    if np.ndim(plain(b)) == 1:
        return squeeze(solve_columns(A, expand_dims(b, -1)), -1)
    return solve_columns(A, b if type(b) is Tensor else np.asarray(b))


@primitive("np.linalg.det({x})", shapes="(..., n, n)", hint=_square_hint)
def det(x):
    """Determinant ``y = det x``; ``dx = g y x^-T``.

    Parameters
    ----------
    x : array_like, (..., n, n)

    Returns
    -------
    Tensor, (...)

    Raises
    ------
    ShapeError
        If a matrix is not square; in the backward pass, if it is singular.

    Notes
    -----
    Giles (2008), *Collected matrix derivative results*, section 2.2.4. For large matrices use
    `slogdet`, which does not overflow.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([[2.0, 0.0], [0.0, 4.0]], requires_grad=True)
    >>> tg.det(x).backward()
    >>> x.grad
    array([[4., 0.],
           [0., 2.]])
    """
    return np.linalg.det(x)


det.vjp(x=lambda g, y, x: (g * y)[..., None, None] * inv(x).mT)


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


@primitive(
    "np.stack(np.linalg.slogdet({x}), axis=-1)",
    name="slogdet",
    shapes="(..., n, n)",
    hint=_square_hint,
)
def slogdet_factors(x):
    """Sign and logarithm of the determinant, in one array (..., 2)."""
    return np.stack(np.linalg.slogdet(x), axis=-1)


slogdet_factors.vjp(x=lambda g, x: g[..., 1, None, None] * inv(x).mT)


def slogdet(x: Any) -> SlogdetResult:
    """Sign and logarithm of the determinant, ``det x = s exp(l)``; ``dx = dl x^-T``.

    Parameters
    ----------
    x : array_like, (..., n, n)

    Returns
    -------
    SlogdetResult
        ``sign`` (...), whose derivative is 0, and ``logabsdet`` (...).

    Raises
    ------
    ShapeError
        If a matrix is not square; in the backward pass, if it is singular.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([[2.0, 0.0], [0.0, -4.0]], requires_grad=True)
    >>> sign, logabsdet = np.linalg.slogdet(x)
    >>> logabsdet.backward()
    >>> sign.item(), x.grad.diagonal()
    (-1.0, array([ 0.5 , -0.25]))
    """
    factors = slogdet_factors(_array(x))
    return SlogdetResult(factors[..., 0], factors[..., 1])


def _array(x: Any) -> Any:
    return x if type(x) is Tensor else np.asarray(x)


def matrix_power(x: Any, n: int) -> Tensor:
    """Product of ``n`` copies of a matrix (of its inverse for negative n), by repeated squaring.

    Parameters
    ----------
    x : array_like, (..., k, k)
    n : int

    Returns
    -------
    Tensor, (..., k, k)

    Raises
    ------
    ShapeError
        If a matrix is not square, or for a negative power singular.
    DtypeError
        If ``n`` is not an integer.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.matrix_power(tg.Tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    Tensor([[1., 5.],
            [0., 1.]])
    """
    x = _array(x)
    if not isinstance(n, int | np.integer):
        raise DtypeError(message("matrix_power", "an integer power", f"{n!r}"))
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(message("matrix_power", "square matrices (..., n, n)", f"shape {x.shape}"))
    if n == 0:
        return where(False, x, np.eye(x.shape[-1], dtype=x.dtype))
    base = inv(x) if n < 0 else x
    return _powers(base, abs(int(n)))


def _powers(x: Any, n: int) -> Any:
    """``x^n`` for n > 0, by repeated squaring."""
    if n == 1:
        return x
    half = _powers(x, n // 2)
    square = matmul(half, half)
    return matmul(square, x) if n % 2 else square


@primitive("np.linalg.pinv({x}, {rcond})", name="pinv", shapes="(..., m, n)")
def pseudo_inverse(x, *, rcond):
    return np.linalg.pinv(x, rcond)


def _pseudo_inverse_vjp(g: Any, x: Any, y: Any) -> Any:
    """Golub and Pereyra (1973), equation 4.12: as of an inverse, and within both null spaces."""
    beside_rows = g.mT - x @ (y @ g.mT)
    beside_columns = g.mT - (g.mT @ y) @ x
    return -(y.mT @ g @ y.mT) + beside_rows @ y @ y.mT + y.mT @ y @ beside_columns


pseudo_inverse.vjp(x=_pseudo_inverse_vjp)


def pinv(x: Any, rcond: Any = None) -> Tensor:
    """Moore-Penrose pseudo-inverse: ``pinv(A) @ b`` is the shortest y with the least ``|A y - b|``.

    Parameters
    ----------
    x : array_like, (..., m, n)
    rcond : float or array_like, optional
        Singular values up to ``rcond`` times the largest count as 0; NumPy's default.

    Returns
    -------
    Tensor, (..., n, m)

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Notes
    -----
    The derivative is that at constant rank (Golub and Pereyra 1973, equation 4.12); where the rank
    changes the pseudo-inverse is not continuous.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> np.linalg.pinv(tg.Tensor([[2.0], [0.0]])).data.round(6)
    array([[0.5, 0. ]])
    """
    return pseudo_inverse(_array(x), rcond=plain(rcond))


# --------------------------------------------------------------------------------------------------
# Cholesky
# --------------------------------------------------------------------------------------------------


@primitive("np.linalg.cholesky({x})", name="cholesky", shapes="(..., n, n)", hint=_definite_hint)
def cholesky_factor(x):
    return np.linalg.cholesky(x)


def _half_lower(x: Any) -> Any:
    """The lower triangle with half of the diagonal: ``x = half + half.T`` for a symmetric x."""
    return (tril(x) + tril(x, -1)) / 2


def _symmetric(x: Any) -> Any:
    return (x + x.mT) / 2


def _cholesky_vjp(g: Any, y: Any) -> Any:
    """Murray (2016): ``L^-T Phi(L^T g) L^-1``, symmetrised; Phi halves the diagonal."""
    inverse = inv(y)
    return _symmetric(inverse.mT @ _half_lower(y.mT @ g) @ inverse)


cholesky_factor.vjp(x=_cholesky_vjp)


def cholesky(x: Any, *, upper: bool = False) -> Tensor:
    """Cholesky factor of a symmetric positive definite matrix: ``x = L L^T``, L lower triangular.

    Parameters
    ----------
    x : array_like, (..., n, n)
        Only one triangle is read, the lower one, or the upper one for ``upper=True``.
    upper : bool
        Whether to return the upper triangular ``L^T``.

    Returns
    -------
    Tensor, (..., n, n)

    Raises
    ------
    ShapeError
        If a matrix is not square, or not positive definite.

    Notes
    -----
    The gradient is symmetric: ``x`` counts as a symmetric argument, both of whose triangles change
    together (the convention of JAX and PyTorch). Murray (2016), *Differentiation of the Cholesky
    decomposition*.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> np.linalg.cholesky(tg.Tensor([[4.0, 2.0], [2.0, 5.0]]))
    Tensor([[2., 0.],
            [1., 2.]])
    """
    x = _array(x)
    return matrix_transpose(cholesky_factor(x.mT)) if upper else cholesky_factor(x)


# --------------------------------------------------------------------------------------------------
# QR
# --------------------------------------------------------------------------------------------------


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Any
    R: Any


@primitive("np.concatenate(np.linalg.qr({x}), axis=-2)", name="qr", shapes="(..., m, n)")
def qr_factors(x):
    """Q on top of R, (..., m + n, n), for m >= n."""
    return np.concatenate(np.linalg.qr(x), axis=-2)


def _qr_vjp(g: Any, y: Any) -> Any:
    """Roberts and Roberts (2020): ``(dQ + Q copyltu(R dR^T - dQ^T Q)) R^-T``.

    ``copyltu`` copies the lower triangle to the upper.
    """
    m = y.shape[-2] - y.shape[-1]
    Q, R = y[..., :m, :], y[..., m:, :]
    dQ, dR = g[..., :m, :], g[..., m:, :]
    inner = R @ dR.mT - dQ.mT @ Q
    return (dQ + Q @ (tril(inner) + tril(inner, -1).mT)) @ inv(R).mT


qr_factors.vjp(x=_qr_vjp)


def qr(x: Any, mode: str = "reduced") -> Any:
    """QR decomposition ``x = Q R``: Q has orthonormal columns, R is upper triangular.

    Parameters
    ----------
    x : array_like, (..., m, n)
        Its first min(m, n) columns are linearly independent.
    mode : {"reduced", "r"}
        "r" for R alone.

    Returns
    -------
    QRResult
        ``Q`` (..., m, k) and ``R`` (..., k, n) with k = min(m, n); or the Tensor ``R``.

    Raises
    ------
    ArgumentError
        For another mode: the columns that "complete" adds to Q are not a function of ``x``.
    ShapeError
        For fewer than two axes; in the backward pass, if the columns are not independent.

    Notes
    -----
    Roberts and Roberts (2020), *QR and LQ decomposition matrix backpropagation algorithms for
    square, wide, and deep matrices*.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> Q, R = np.linalg.qr(tg.Tensor([[0.0, 2.0], [1.0, 3.0]]))
    >>> (Q @ R).data
    array([[0., 2.],
           [1., 3.]])
    """
    if mode not in ("reduced", "r"):
        raise ArgumentError(message("qr", "mode among reduced, r", repr(mode)))
    x = _array(x)
    if x.ndim < 2:
        raise ShapeError(message("qr", "matrices (..., m, n)", f"shape {x.shape}"))
    m = x.shape[-2]
    factors = qr_factors(x[..., :m])
    Q, R = factors[..., :m, :], factors[..., m:, :]
    if x.shape[-1] > m:
        R = concatenate([R, matmul(Q.mT, x[..., m:])], axis=-1)
    return R if mode == "r" else QRResult(Q, R)


# --------------------------------------------------------------------------------------------------
# Symmetric eigenvalues
# --------------------------------------------------------------------------------------------------


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Any
    eigenvectors: Any


def _gaps(differences: Any) -> Any:
    """Differences of all pairs, infinite on the diagonal: what is divided by them is 0 there."""
    return np.where(np.eye(differences.shape[-1], dtype=bool), np.inf, differences)


@primitive("eigh_factors({x})", name="eigh", shapes="(..., n, n)", hint=_square_hint)
def eigh_factors(x, *, uplo):
    """The row of eigenvalues on top of the eigenvectors, (..., n + 1, n)."""
    w, V = np.linalg.eigh(x, uplo)
    return np.concatenate([w[..., None, :], V], axis=-2)


def _eigh_vjp(g: Any, y: Any) -> Any:
    """Giles (2008), section 3.1: ``V (diag(dw) + F * (V^T dV)) V^T``, symmetrised.

    ``F_ij = 1 / (w_j - w_i)``, and 0 on the diagonal.
    """
    w, V = y[..., :1, :], y[..., 1:, :]
    turn = V.mT @ g[..., 1:, :]
    inner = (turn - turn.mT) / (2 * _gaps(w - w.mT))
    return (V * g[..., :1, :]) @ V.mT + V @ inner @ V.mT


eigh_factors.vjp(x=_eigh_vjp)


@primitive("{factors}[..., 0, :]", name="eigvalsh")
def eigenvalues(x, factors):
    """The eigenvalues among the factors of ``x``; ``dx = V diag(g) V^T``, equal ones or not."""
    return factors[..., 0, :]


eigenvalues.vjp(
    x=lambda g, factors: (factors[..., 1:, :] * g[..., None, :]) @ factors[..., 1:, :].mT
)


def _eigh_factors(name: str, x: Any, UPLO: str) -> tuple[Any, Any]:
    if UPLO not in ("L", "U"):
        raise ArgumentError(message(name, "UPLO as 'L' or 'U'", repr(UPLO)))
    x = _array(x)
    return x, eigh_factors(x, uplo=UPLO)


def eigh(x: Any, UPLO: str = "L") -> EighResult:
    """Eigenvalues and eigenvectors of a symmetric matrix: ``x = V diag(w) V^T``.

    Parameters
    ----------
    x : array_like, (..., n, n)
        Only one triangle is read.
    UPLO : {"L", "U"}
        Which one: the lower or the upper.

    Returns
    -------
    EighResult
        ``eigenvalues`` (..., n), ascending, and ``eigenvectors`` (..., n, n), the columns.

    Raises
    ------
    ShapeError, ArgumentError
        If a matrix is not square; for another UPLO.

    Notes
    -----
    The gradient is symmetric: ``x`` counts as a symmetric argument, both of whose triangles change
    together (the convention of JAX and PyTorch). The derivative of the eigenvalues does not need
    that of the vectors; equal ones are differentiated in the order and basis that came out. The
    derivative of the eigenvectors divides by the gaps ``w_j - w_i``: where two eigenvalues are
    equal it does not exist and comes out infinite or NaN. The sign of an eigenvector is arbitrary,
    so a gradient has a meaning only for functions that do not depend on it. Giles (2008), section
    3.1.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    >>> w, V = np.linalg.eigh(x)
    >>> w[1].backward()
    >>> w.data, x.grad
    (array([1., 2.]), array([[1., 0.],
           [0., 0.]]))
    """
    x, factors = _eigh_factors("eigh", x, UPLO)
    return EighResult(eigenvalues(x, factors), factors[..., 1:, :])


def eigvalsh(x: Any, UPLO: str = "L") -> Tensor:
    """Eigenvalues of a symmetric matrix, ascending; ``dx = V diag(g) V^T``.

    Parameters
    ----------
    x : array_like, (..., n, n)
        Only one triangle is read.
    UPLO : {"L", "U"}
        Which one: the lower or the upper.

    Returns
    -------
    Tensor, (..., n)

    Raises
    ------
    ShapeError, ArgumentError
        As `eigh`.

    Notes
    -----
    As `eigh`. The second derivative divides by the gaps between the eigenvalues.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> np.linalg.eigvalsh(tg.Tensor([[2.0, 0.0], [0.0, 1.0]]))
    Tensor([1., 2.])
    """
    return eigenvalues(*_eigh_factors("eigvalsh", x, UPLO))


# --------------------------------------------------------------------------------------------------
# Singular values
# --------------------------------------------------------------------------------------------------


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Any
    S: Any
    Vh: Any


@primitive("svd_factors({x})", name="svd", shapes="(..., m, n)")
def svd_factors(x):
    """U, the row of singular values, and V on top of each other, (..., m + 1 + n, min(m, n))."""
    U, S, Vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([U, S[..., None, :], Vh.mT], axis=-2)


def _svd_parts(y: Any, m: int) -> tuple[Any, Any, Any]:
    """U, S as a row, and V."""
    return y[..., :m, :], y[..., m : m + 1, :], y[..., m + 1 :, :]


def _svd_vjp(g: Any, x: Any, y: Any) -> Any:
    """Townsend (2016): what turns the vectors within their span, and for m != n out of it."""
    m, n = x.shape[-2:]
    (U, S, V), (dU, dS, dV) = _svd_parts(y, m), _svd_parts(g, m)
    gaps = _gaps((S - S.mT) * (S + S.mT))
    turn_U, turn_V = U.mT @ dU, V.mT @ dV
    inner = (turn_U - turn_U.mT) / gaps * S + S.mT * ((turn_V - turn_V.mT) / gaps)
    dx = (U * dS) @ V.mT + U @ inner @ V.mT
    if m > n:
        dx = dx + ((dU - U @ turn_U) / S) @ V.mT
    if n > m:
        dx = dx + U @ ((dV - V @ turn_V) / S).mT
    return dx


svd_factors.vjp(x=_svd_vjp)


@primitive("{factors}[..., {x}.shape[-2], :]", name="svdvals")
def singular_values(x, factors):
    """The singular values among the factors of ``x``; ``dx = U diag(g) V^T``, equal ones or not."""
    return factors[..., x.shape[-2], :]


def _singular_values_vjp(g: Any, x: Any, factors: Any) -> Any:
    U, _, V = _svd_parts(factors, x.shape[-2])
    return (U * g[..., None, :]) @ V.mT


singular_values.vjp(x=_singular_values_vjp)


def svd(x: Any, full_matrices: bool = True, compute_uv: bool = True) -> Any:
    """Singular value decomposition ``x = U diag(S) Vh``.

    Parameters
    ----------
    x : array_like, (..., m, n)
    full_matrices : bool
        Must be False unless m = n: what fills up a larger U or Vh is not a function of ``x``.
    compute_uv : bool
        False for the singular values alone: see `svdvals`.

    Returns
    -------
    SVDResult
        ``U`` (..., m, k), ``S`` (..., k), descending, and ``Vh`` (..., k, n) with k = min(m, n).

    Raises
    ------
    ShapeError
        For fewer than two axes, and for ``full_matrices`` of matrices that are not square.

    Notes
    -----
    The derivative of the singular values does not need that of the vectors; at 0, a kink, it is
    one of the subgradients. The derivative of the vectors divides by ``S_j^2 - S_i^2``, and for
    m != n by ``S_i``: where two singular values are equal, or one is 0, it does not exist and comes
    out infinite or NaN. The sign of a pair of vectors is arbitrary, so a gradient has a meaning
    only for functions that do not depend on it. Townsend (2016), *Differentiating the singular
    value decomposition*.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]], requires_grad=True)
    >>> U, S, Vh = np.linalg.svd(x, full_matrices=False)
    >>> S.sum().backward()
    >>> S.data, x.grad
    (array([3., 1.]), array([[1., 0.],
           [0., 1.],
           [0., 0.]]))
    """
    if not compute_uv:
        return svdvals(x)
    x = _array(x)
    if x.ndim < 2:
        raise ShapeError(message("svd", "matrices (..., m, n)", f"shape {x.shape}"))
    m, n = x.shape[-2:]
    if full_matrices and m != n:
        raise ShapeError(
            message("svd", "square matrices for full_matrices=True", f"shape {x.shape}",
                    "Pass full_matrices=False.")
        )  # fmt: skip
    factors = svd_factors(x)
    U, _, V = _svd_parts(factors, m)
    return SVDResult(U, singular_values(x, factors), matrix_transpose(V))


def svdvals(x: Any) -> Tensor:
    """Singular values, descending; ``dx = U diag(g) Vh``.

    Parameters
    ----------
    x : array_like, (..., m, n)

    Returns
    -------
    Tensor, (..., min(m, n))

    Raises
    ------
    ShapeError
        For fewer than two axes.

    Notes
    -----
    As `svd`.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> np.linalg.svdvals(tg.Tensor([[0.0, 3.0], [4.0, 0.0]]))
    Tensor([4., 3.])
    """
    x = _array(x)
    return singular_values(x, svd_factors(x))


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------


def _invertible(r: Any, *shape: int) -> Any:
    """Matrices far from singular, of either sign of the determinant."""
    return r(*shape) + 3 * np.diag([-1.0] + [1.0] * (shape[-1] - 1))


def _square(r: Any) -> list[Any]:
    return [
        case(_invertible(r, 3, 3)),
        case(_invertible(r, 2, 2, 2)),
        case(r.positive(1, 1)),
        case(r(0, 2, 2)),
    ]


def _not_square() -> list[Any]:
    return [
        (case(Tensor(np.ones((2, 3)))), ShapeError, "square matrices"),
        (case(Tensor(np.ones(3))), ShapeError, "square matrices"),
    ]


inv.samples(
    _square,
    reference=np.linalg.inv,
    fails=lambda: [
        *_not_square(),
        (case(Tensor(np.ones((2, 2)))), ValueError, "inv: cannot take x of shape (2, 2). It takes"),
        (case(Tensor(np.ones((2, 2)))), ValueError, "A matrix is singular. Add"),
    ],
)
samples(
    solve,
    lambda r: [
        case(_invertible(r, 3, 3), r(3)),
        case(_invertible(r, 3, 3), r(3, 2)),
        case(_invertible(r, 2, 2, 2), r(2)),
        case(_invertible(r, 2, 2, 2), r(2, 2, 1)),
        case(_invertible(r, 2, 2), r(3, 2, 1)),
        case(_invertible(r, 3, 1, 2, 2), r(2, 1)),
        case(_invertible(r, 2, 2), r(2, 0)),
    ],
    reference=np.linalg.solve,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.ones(2)), ShapeError, "square matrices"),
        (case(Tensor(np.ones((2, 2))), np.ones(2)), ValueError, "A matrix is singular"),
        (
            case(Tensor(np.eye(2)), np.ones(3)),
            ShapeError,
            "solve: cannot take A of shape (2, 2), b of shape (3, 1)",
        ),
    ],
)
det.samples(_square, reference=np.linalg.det, fails=_not_square)
samples(slogdet, _square, reference=lambda x: tuple(np.linalg.slogdet(x)), fails=_not_square)
samples(
    matrix_power,
    lambda r: (
        [case(_invertible(r, 2, 2), n) for n in (0, 1, 2, 3, 5, 6, -1, -2)]
        + [case(_invertible(r, 2, 2, 2), 3), case(r(1, 1), np.int64(2))]
    ),
    reference=np.linalg.matrix_power,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), 2), ShapeError, "square matrices"),
        (case(Tensor(np.ones((2, 2))), 0.5), DtypeError, "an integer power"),
        (case(Tensor(np.ones((2, 2))), -1), ValueError, "A matrix is singular"),
    ],
)
samples(
    pinv,
    lambda r: [
        case(r(4, 2)),
        case(r(2, 3)),
        case(_invertible(r, 2, 2)),
        case(r(2, 3, 2)),
        case(r(3, 2), 1e-10),
    ],
    reference=np.linalg.pinv,
    fails=lambda: [(case(Tensor(np.ones(3))), ShapeError, "pinv: cannot take x of shape (3,)")],
)

# Cholesky and eigh read one triangle and return the gradient of a symmetric argument. Finite
# differences in a single element agree with that only if the argument is made symmetric first.


def cholesky_of_symmetric(x: Any, upper: bool) -> Any:
    return cholesky(x + x.mT, upper=upper)


def eigh_of_symmetric(x: Any, UPLO: str) -> Any:
    """The eigenvalues, and what does not depend on the signs of the eigenvectors."""
    w, V = eigh(x + x.mT, UPLO)
    return w, V * V


def eigvalsh_of_symmetric(x: Any) -> Any:
    return eigvalsh(x + x.mT)


samples(
    cholesky,
    lambda r: [case(r.positive(2, 1, 1)), case(r.positive(1, 1), upper=True)],
    reference=lambda x, upper=False: np.sqrt(x),
    kinks=lambda: [  # where one triangle is read, and both get the gradient
        (case(np.array([[4.0, 2.0], [2.0, 5.0]])), [np.array([[0.1875, 0.125], [0.125, 0.25]])]),
    ],
    fails=lambda: [
        *_not_square(),
        (case(Tensor(-np.eye(2))), ValueError, "cholesky: cannot take x of shape (2, 2)"),
        (case(Tensor(-np.eye(2))), ValueError, "not positive definite"),
    ],
)
samples(
    cholesky_of_symmetric,
    lambda r: [
        case(r(3, 3) + 5 * np.eye(3), False),
        case(r(2, 2, 2) + 5 * np.eye(2), False),
        case(r(3, 3) + 5 * np.eye(3), True),
    ],
    reference=lambda x, upper: (
        np.linalg.cholesky(x + x.mT).mT if upper else np.linalg.cholesky(x + x.mT)
    ),
)


def _no_triangle() -> list[Any]:
    return [
        *_not_square(),
        (case(Tensor(np.eye(2)), UPLO="lower"), ArgumentError, "UPLO as 'L' or 'U', got 'lower'"),
    ]


samples(
    eigh,
    lambda r: [case(r(2, 1, 1)), case(r(1, 1), "U")],
    reference=lambda x, UPLO="L": tuple(np.linalg.eigh(x, UPLO)),
    fails=_no_triangle,
)
samples(
    eigh_of_symmetric,
    lambda r: [
        case(r.distinct(3, 3), "L"),
        case(r(2, 2, 2), "L"),
        case(r.distinct(3, 3), "U"),
        case(r(2, 1, 3, 3), "L"),
    ],
    reference=lambda x, UPLO: (np.linalg.eigh(x + x.mT)[0], np.linalg.eigh(x + x.mT)[1] ** 2),
)
samples(
    eigvalsh,
    lambda r: [case(r(2, 1, 1)), case(r(1, 1), "U")],
    reference=np.linalg.eigvalsh,
    fails=_no_triangle,
)
samples(
    eigvalsh_of_symmetric,
    lambda r: [case(r.distinct(3, 3)), case(r(2, 2, 2))],
    reference=lambda x: np.linalg.eigvalsh(x + x.mT),
)


def _tall_and_wide(r: Any) -> list[Any]:
    return [
        case(r(*shape)) for shape in ((3, 3), (4, 2), (2, 4), (2, 3, 2), (1, 1), (2, 1), (0, 3, 2))
    ]


samples(
    qr,
    lambda r: [*_tall_and_wide(r), case(r(3, 2), "r"), case(r(2, 3), mode="r")],
    reference=lambda x, mode="reduced": (
        np.linalg.qr(x, mode) if mode == "r" else tuple(np.linalg.qr(x))
    ),
    fails=lambda: [
        (
            case(Tensor(np.ones((3, 2))), "complete"),
            ArgumentError,
            "mode among reduced, r, got 'complete'",
        ),
        (case(Tensor(np.ones(3))), ShapeError, "matrices (..., m, n)"),
    ],
)


def svd_without_signs(x: Any) -> Any:
    """The singular values, and what no sign of a vector changes: each ``u_k v_k^T``."""
    U, S, Vh = svd(x, full_matrices=False)
    return S, expand_dims(U.mT, -1) * expand_dims(Vh, -2)


def _svd_reference(x: Any) -> Any:
    U, S, Vh = np.linalg.svd(x, full_matrices=False)
    return S, np.einsum("...ik,...kj->...kij", U, Vh)


samples(svd_without_signs, _tall_and_wide, reference=_svd_reference)
samples(
    svd,
    lambda r: [case(r(2, 2)), case(r(2, 1), full_matrices=False), case(r(3, 2), compute_uv=False)],
    reference=lambda x, full_matrices=True, compute_uv=True: (
        tuple(np.linalg.svd(x, full_matrices)) if compute_uv else np.linalg.svd(x, compute_uv=False)
    ),
    fails=lambda: [
        (case(Tensor(np.ones((3, 2)))), ShapeError, "Pass full_matrices=False"),
        (case(Tensor(np.ones(3))), ShapeError, "matrices (..., m, n)"),
        (case(Tensor(np.full((2, 2), np.nan))), ValueError, "svd: cannot take x of shape (2, 2)"),
    ],
)
samples(
    svdvals,
    _tall_and_wide,
    reference=lambda x: np.linalg.svd(x, compute_uv=False),
    fails=lambda: [(case(Tensor(np.ones(3))), ShapeError, "svd: cannot take x of shape (3,)")],
)
