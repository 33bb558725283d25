"""Products over any axes: einsum and what is said in its terms, and the products of vectors.

Every contraction of more than two arrays is a sequence of contractions of two, and each of these
is one matrix product. The VJPs of ``ij,jk->ik`` are contractions again: ``ik,jk->ij`` and
``ij,ik->jk``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from string import ascii_letters
from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import ArgumentError, DtypeError, IndexingError, ShapeError, message
from .arithmetic import multiply, subtract
from .axes import canonical_axis
from .index import diagonal_of
from .linalg import matmul
from .rearrange import roll
from .reduce import sum_over
from .shape import expand_dims, moveaxis, permute, ravel, reshape, squeeze, squeeze_axes

# --------------------------------------------------------------------------------------------------
# Contraction of two arrays
# --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _as_matrices(subscripts: str) -> Any:
    """How two arrays become stacks of matrices whose product is their contraction, if that pays."""
    a, b, out = subscripts.replace("->", ",").split(",")
    stacked = [c for c in out if c in a and c in b]
    summed = [c for c in a if c in b and c not in out]
    rows = [c for c in out if c not in b]
    columns = [c for c in out if c not in a]
    if not summed or not (rows or columns):
        return None
    order = [*stacked, *rows, *columns]
    return (
        tuple([a.index(c) for c in [*stacked, *rows, *summed]]),
        tuple([b.index(c) for c in [*stacked, *summed, *columns]]),
        tuple([order.index(c) for c in out]),
        len(stacked), len(rows), len(summed),
    )  # fmt: skip


@primitive("np.einsum('{subscripts}', {a}, {b})", name="einsum")
def contract(a, b, *, subscripts):
    """Sum of products: each subscript stands once in an array, and in two of a, b, result."""
    plan = _as_matrices(subscripts)
    if plan is None:
        return np.einsum(subscripts, a, b)
    a_axes, b_axes, back, stacked, rows, summed = plan
    a, b = np.transpose(a, a_axes), np.transpose(b, b_axes)
    stack, inner = a.shape[:stacked], math.prod(a.shape[stacked + rows :])
    left, right = a.shape[stacked : stacked + rows], b.shape[stacked + summed :]
    y = a.reshape((*stack, math.prod(left), inner)) @ b.reshape((*stack, inner, math.prod(right)))
    return y.reshape(stack + left + right).transpose(back)


def _adjoint(subscripts: str, position: int) -> str:
    """The contraction of the cotangent and the other array that gives the cotangent of one."""
    a, b, out = subscripts.replace("->", ",").split(",")
    return f"{out},{b}->{a}" if position == 0 else f"{a},{out}->{b}"


contract.vjp(a=lambda g, b, subscripts: contract(g, b, subscripts=_adjoint(subscripts, 0)),
             b=lambda g, a, subscripts: contract(a, g, subscripts=_adjoint(subscripts, 1)),
)  # fmt: skip

# --------------------------------------------------------------------------------------------------
# einsum
# --------------------------------------------------------------------------------------------------


def _refused(expected: str, got: str, fix: str = "") -> ShapeError:
    return ShapeError(message("einsum", expected, got, fix))


@lru_cache(maxsize=512)
def _parsed(subscripts: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """The subscripts of each array and of the result, with letters in place of ``...``."""
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise _refused(f"{len(terms)} arrays for '{subscripts}'", f"{len(ndims)}")
    named = [term.replace("...", "") for term in terms]
    wrong = sorted(set("".join([*named, out.replace("...", "")])) - set(ascii_letters))
    if wrong:
        raise _refused("letters, commas, '...' and '->'", f"'{subscripts}' with {''.join(wrong)!r}")
    for term, name, ndim in zip(terms, named, ndims):
        if len(name) > ndim or ("..." not in term and len(name) < ndim):
            raise _refused(f"{len(name)} axes for '{term}' of '{subscripts}'", f"{ndim}")
    rest = [
        ndim - len(name) if "..." in term else 0 for term, name, ndim in zip(terms, named, ndims)
    ]
    dots = "".join([c for c in ascii_letters if c not in subscripts][: max(rest)])
    spelled = [term.replace("...", dots[len(dots) - n :]) for term, n in zip(terms, rest)]
    if not arrow:
        letters = "".join(named)
        out = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if dots and "..." not in out:
        raise _refused("'...' in the result, too", f"'{subscripts}'", "Sum over named axes only.")
    out = out.replace("...", dots)
    strange = sorted(c for c in out if out.count(c) > 1 or not any(c in term for term in spelled))
    if strange:
        raise _refused("each subscript of the result once, and in an array as well",
                       f"'{subscripts}' with {strange[0]!r}")  # fmt: skip
    return tuple(spelled), out


def _lengths(terms: Sequence[str], xs: Sequence[Any], subscripts: str) -> dict[str, int]:
    """The length that each subscript stands for; 1 goes with any other."""
    lengths: dict[str, int] = {}
    for term, x in zip(terms, xs):
        for c, n in zip(term, x.shape):
            known = lengths.get(c, 1)
            if n != known and 1 not in (n, known):
                raise _refused(f"one length for each subscript of '{subscripts}'",
                               f"{known} and {n} for '{c}'")  # fmt: skip
            lengths[c] = n if known == 1 else known
    return lengths


def _distinct(x: Any, term: str, lengths: dict[str, int]) -> tuple[Any, str]:
    """An array without repeated subscripts, or axes of length 1 that go with longer ones."""
    for c in sorted({c for c in term if term.count(c) > 1}):
        while term.count(c) > 1:
            i, j = term.index(c), term.rindex(c)
            if x.shape[i] != x.shape[j]:
                raise _refused(f"equal lengths for the repeated '{c}'", f"shape {x.shape}")
            x = diagonal_of(x, offset=0, axis1=i, axis2=j)
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + c
    short = tuple([i for i, c in enumerate(term) if x.shape[i] != lengths[c]])
    if not short:
        return x, term
    return squeeze_axes(x, axis=short), "".join([c for i, c in enumerate(term) if i not in short])


def _shared(x: Any, term: str, elsewhere: str) -> tuple[Any, str]:
    """An array summed over the subscripts that it alone has."""
    alone = tuple([i for i, c in enumerate(term) if c not in elsewhere])
    if not alone:
        return x, term
    return sum_over(x, axis=alone, keepdims=False), "".join([c for c in term if c in elsewhere])


@lru_cache(maxsize=512)
def _order(terms: tuple[str, ...], out: str, shapes: tuple[Any, ...], optimize: Any) -> Any:
    """Which arrays to contract next, as positions in the list of those that are left."""
    if isinstance(optimize, tuple) and optimize[0] == "einsum_path":
        steps = optimize[1:]
        if sum([len(step) - 1 for step in steps]) == len(terms) - 1:
            return steps
    elif optimize in ("greedy", "optimal", True, False):
        return _found_order(terms, out, shapes, "optimal" if optimize == "optimal" else "greedy")
    raise ArgumentError(
        message("einsum", 'optimize as "greedy", "optimal", a bool or a path that leaves one array',
                repr(optimize))
    )  # fmt: skip


def _found_order(terms: tuple[str, ...], out: str, shapes: tuple[Any, ...], strategy: str) -> Any:
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    arrays = [np.broadcast_to(np.empty(()), shape) for shape in shapes]
    # A limit on the memory, which the default would set, leads to steps of three arrays at once.
    unlimited = (strategy, sys.maxsize)
    return np.einsum_path(f"{','.join(terms)}->{out}", *arrays, optimize=unlimited)[0][1:]


def einsum(subscripts: Any, *xs: Any, optimize: Any = "greedy") -> Tensor:
    """Einstein's summation: products summed over every subscript that the result does not have.

    ``einsum("ij,jk->ik", A, B)`` is ``A @ B``, ``"ii"`` a trace, ``"...i,...i->..."`` a stack of
    inner products.

    Parameters
    ----------
    subscripts : str
        A letter for each axis of each array, ``...`` for any further axes, which broadcast. Without
        ``->`` the result has the letters that stand once, in alphabetical order. NumPy's other
        form, ``einsum(A, [0, 1], B, [1, 2], [0, 2])``, is understood, too.
    *xs : array_like
    optimize : {"greedy", "optimal", True, False} or a path of `numpy.einsum_path`
        How the order is found in which more than two arrays are multiplied; it changes the time
        that takes, and nothing else. True and False mean "greedy".

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If subscripts and shapes do not agree.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> y = np.einsum("i,ij,j->", x, [[2.0, 0.0], [0.0, 3.0]], x)
    >>> y.backward()
    >>> y.item(), x.grad
    (14.0, array([ 4., 12.]))
    """
    if not isinstance(subscripts, str):
        subscripts, xs = _lettered((subscripts, *xs))
    if not xs:
        raise DtypeError(message("einsum", "subscripts and at least one array", "no array"))
    arrays = [x if type(x) is Tensor else np.asarray(x) for x in xs]
    terms, out = _parsed(subscripts, tuple([x.ndim for x in arrays]))
    lengths = _lengths(terms, arrays, subscripts)
    parts = [_distinct(x, term, lengths) for x, term in zip(arrays, terms)]
    found = [term for _, term in parts]
    parts = [
        _shared(x, term, out + "".join(found[:i] + found[i + 1 :]))
        for i, (x, term) in enumerate(parts)
    ]
    left = tuple([term for _, term in parts])
    path = tuple(optimize) if isinstance(optimize, list) else optimize
    for positions in _order(left, out, tuple([x.shape for x, _ in parts]), path):
        taken = [parts.pop(i) for i in sorted(positions, reverse=True)][::-1]
        while len(taken) > 1:
            others = out + "".join([term for _, term in [*taken[2:], *parts]])
            taken[:2] = [_pair(taken[0], taken[1], others)]
        parts.extend(taken)
    [(y, term)] = parts
    order = tuple([term.index(c) for c in out])
    return y if order == tuple(range(len(order))) else permute(y, axes=order)


def _pair(first: tuple[Any, str], second: tuple[Any, str], others: str) -> tuple[Any, str]:
    """Two arrays contracted; the subscripts that the others have, too, stay."""
    (x, a), (y, b) = first, second
    stay = "".join(sorted({c for c in a + b if c in others}, key=others.index))
    return contract(x, y, subscripts=f"{a},{b}->{stay}"), stay


def _lettered(mixed: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Subscripts and arrays, given arrays each followed by a list of numbers."""

    def text(numbers: Any) -> str:
        return "".join(["..." if n is Ellipsis else ascii_letters[n] for n in numbers])

    try:
        left = ",".join([text(numbers) for numbers in mixed[1::2]][: len(mixed) // 2])
        out = f"->{text(mixed[-1])}" if len(mixed) % 2 else ""
    except (TypeError, IndexError) as error:
        raise DtypeError(
            message("einsum", "a str of subscripts, or arrays each with a list of numbers",
                    f"{type(mixed[0]).__name__} first")
        ) from error  # fmt: skip
    return left + out, tuple(mixed[0 : len(mixed) // 2 * 2 : 2])


# --------------------------------------------------------------------------------------------------
# Named products
# --------------------------------------------------------------------------------------------------


def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """Sum of products over pairs of axes, one of ``a`` and one of ``b``.

    Parameters
    ----------
    a, b : array_like
    axes : int, or (axes of a, axes of b)
        An int pairs that many last axes of ``a`` with as many first axes of ``b``.

    Returns
    -------
    Tensor
        The other axes of ``a``, then those of ``b``.

    Raises
    ------
    ShapeError, IndexingError
        For pairs of unequal length, and for axes that are not there.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.tensordot(tg.Tensor(np.ones((2, 3, 4))), np.ones((4, 3, 5)), axes=([1, 2], [1, 0])).shape
    (2, 5)
    """
    m, n = np.ndim(plain(a)), np.ndim(plain(b))
    a_axes, b_axes = (
        (range(m - axes, m), range(axes)) if isinstance(axes, int | np.integer) else axes
    )
    first = [canonical_axis("tensordot", i, m) for i in np.atleast_1d(np.asarray(a_axes, int))]
    second = [canonical_axis("tensordot", i, n) for i in np.atleast_1d(np.asarray(b_axes, int))]
    pairs = dict(zip(second, first))
    lengths = [(np.shape(plain(a))[i], np.shape(plain(b))[j]) for j, i in pairs.items()]
    if len(first) != len(second) or any(i != j for i, j in lengths):
        raise ShapeError(
            message("tensordot", "pairs of axes of equal length", f"shapes {np.shape(plain(a))} "
                    f"and {np.shape(plain(b))} with axes {first} and {second}")
        )  # fmt: skip
    left = ascii_letters[:m]
    right = "".join([left[pairs[j]] if j in pairs else ascii_letters[m + j] for j in range(n)])
    out = "".join([c for c in left + right if (c in left) != (c in right)])
    return contract(a, b, subscripts=f"{left},{right}->{out}")


def dot(a: Any, b: Any) -> Tensor:
    """Sum of products over the last axis of ``a`` and the last but one of ``b`` (its only one).

    Parameters
    ----------
    a, b : array_like
        For two matrices it is `matmul`, for a scalar `multiply`; for more axes nothing broadcasts.

    Returns
    -------
    Tensor
        The other axes of ``a``, then those of ``b``.

    Raises
    ------
    ShapeError
        If the lengths differ.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.dot(tg.Tensor([1.0, 2.0]), [3.0, 4.0]).item()
    11.0
    """
    m, n = np.ndim(plain(a)), np.ndim(plain(b))
    if m == 0 or n == 0:
        return multiply(a, b)
    return matmul(a, b) if n <= 2 else tensordot(a, b, ([-1], [-2]))


def inner(a: Any, b: Any) -> Tensor:
    """Sum of products over the last axes: ``y[i, j] = sum_k a[i, k] b[j, k]``.

    Parameters
    ----------
    a : array_like, (..., k)
    b : array_like, (..., k)

    Returns
    -------
    Tensor
        The other axes of ``a``, then those of ``b``.

    Raises
    ------
    ShapeError
        If the lengths differ.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.inner(tg.Tensor(np.ones((2, 3))), np.ones((4, 3))).shape
    (2, 4)
    """
    if np.ndim(plain(a)) == 0 or np.ndim(plain(b)) == 0:
        return multiply(a, b)
    return tensordot(a, b, ([-1], [-1]))


def vdot(a: Any, b: Any) -> Tensor:
    """Sum of the products of all elements, whatever the shapes.

    Parameters
    ----------
    a, b : array_like
        Of equal size.

    Returns
    -------
    Tensor, ()

    Raises
    ------
    ShapeError
        If the sizes differ.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.vdot(tg.Tensor([[1.0], [2.0]]), [3.0, 4.0]).item()
    11.0
    """
    return matmul(ravel(a), ravel(b))


def outer(a: Any, b: Any) -> Tensor:
    """All products of an element of ``a`` and one of ``b``: ``y[i, j] = a[i] b[j]``.

    Parameters
    ----------
    a, b : array_like
        Flattened if need be.

    Returns
    -------
    Tensor, (a.size, b.size)

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.outer(tg.Tensor([1.0, 2.0]), [3.0, 4.0])
    Tensor([[3., 4.],
            [6., 8.]])
    """
    return multiply(reshape(a, (-1, 1)), reshape(b, (1, -1)))


def vecdot(a: Any, b: Any, axis: int = -1) -> Tensor:
    """Inner products of the vectors along an axis: ``y = sum_i a_i b_i``.

    Parameters
    ----------
    a, b : array_like
        Shapes that broadcast.
    axis : int

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If the shapes do not broadcast.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.vecdot(tg.Tensor(np.ones((2, 3))), [1.0, 2.0, 3.0])
    Tensor([6., 6.])
    """
    return einsum("...i,...i->...", moveaxis(a, axis, -1), moveaxis(b, axis, -1))


def matvec(A: Any, x: Any) -> Tensor:
    """Matrix times vector, ``y = A x``, for stacks of both.

    Parameters
    ----------
    A : array_like, (..., n, k)
    x : array_like, (..., k)

    Returns
    -------
    Tensor, (..., n)

    Raises
    ------
    ShapeError
        If the lengths differ.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.matvec(np.eye(2), tg.Tensor(np.ones((5, 2)))).shape
    (5, 2)
    """
    return squeeze(matmul(A, expand_dims(x, -1)), -1)


def vecmat(x: Any, A: Any) -> Tensor:
    """Vector times matrix, ``y = x A``, for stacks of both.

    Parameters
    ----------
    x : array_like, (..., k)
    A : array_like, (..., k, n)

    Returns
    -------
    Tensor, (..., n)

    Raises
    ------
    ShapeError
        If the lengths differ.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.vecmat(tg.Tensor(np.ones((5, 2))), np.eye(2)).shape
    (5, 2)
    """
    return squeeze(matmul(expand_dims(x, -2), A), -2)


def kron(a: Any, b: Any) -> Tensor:
    """Kronecker product: every element of ``a`` times the whole of ``b``.

    Parameters
    ----------
    a, b : array_like
        The one with fewer axes is given leading ones.

    Returns
    -------
    Tensor
        Its lengths are the products of theirs.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.kron(tg.Tensor([1.0, 10.0]), [1.0, 2.0])
    Tensor([ 1.,  2., 10., 20.])
    """
    shapes = [np.shape(plain(x)) for x in (a, b)]
    ndim = max(len(shape) for shape in shapes)
    coarse, fine = ((1,) * (ndim - len(shape)) + shape for shape in shapes)
    blocks = reshape(a, [n for length in coarse for n in (length, 1)])
    within = reshape(b, [n for length in fine for n in (1, length)])
    return reshape(multiply(blocks, within), [m * n for m, n in zip(coarse, fine)])


def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Tensor:
    """Cross product of three-dimensional vectors: ``y_i = a_j b_k - a_k b_j``.

    Parameters
    ----------
    a, b : array_like
        Shapes that broadcast, with 3 along the axes of the vectors.
    axisa, axisb, axisc : int
        Where the vectors lie in ``a``, in ``b`` and in the result.
    axis : int, optional
        For all three.

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        For vectors that have not 3 elements.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.cross(tg.Tensor([1.0, 0.0, 0.0]), [0.0, 1.0, 0.0])
    Tensor([0., 0., 1.])
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(a, axisa, -1), moveaxis(b, axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ShapeError(
            message(
                "cross",
                "3 elements along the axis of the vectors",
                f"{a.shape[-1]} and {b.shape[-1]}",
            )
        )
    forth = multiply(roll(a, -1, -1), roll(b, -2, -1))
    return moveaxis(subtract(forth, multiply(roll(a, -2, -1), roll(b, -1, -1))), -1, axisc)


def multi_dot(xs: Sequence[Any]) -> Tensor:
    """Product of a chain of matrices, multiplied in the order that costs least.

    Parameters
    ----------
    xs : sequence of array_like
        Two or more matrices; the first may be a row (n,), the last a column (n,).

    Returns
    -------
    Tensor

    Raises
    ------
    ShapeError
        If neighbours do not meet.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.multi_dot([tg.Tensor(np.ones((2, 9))), np.ones((9, 9)), np.ones(9)]).shape
    (2,)
    """
    ndims = [np.ndim(plain(x)) for x in xs]
    if len(xs) < 2 or any(n != 2 for n in ndims[1:-1]) or {ndims[0], ndims[-1]} - {1, 2}:
        raise ShapeError(
            message("multi_dot", "two or more matrices, vectors only at the ends", f"axes {ndims}")
        )
    terms = [ascii_letters[i : i + 2] for i in range(len(xs))]
    terms[0] = terms[0][2 - ndims[0] :]
    terms[-1] = terms[-1][: ndims[-1]]
    ends = terms[0][: ndims[0] - 1] + terms[-1][1:]
    return einsum(f"{','.join(terms)}->{ends}", *xs, optimize="optimal")


# --------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------

samples(
    einsum,
    lambda r: [
        case("ij,jk->ik", r(2, 3), r(3, 4)),
        case("ij,jk", r(2, 3), r(3, 2)),
        case("ba,b", r(2, 3), r(2)),
        case("ii", r(3, 3)),
        case("ii->i", r(3, 3)),
        case("iij->j", r(3, 3, 2)),
        case("iiji,j->i", r(2, 2, 3, 2), r(3)),
        case("ij->ji", r(2, 3)),
        case("ij->j", r(2, 3)),
        case("ij->", r(2, 3)),
        case("i,j->ij", r(2), r(3)),
        case("i,i", r(3), r(3)),
        case("bi,bi->b", r(2, 3), r(2, 3)),
        case("bhqd,bhkd->bhqk", r(2, 1, 3, 2), r(2, 1, 2, 2)),
        case("qhd,khd->khq", r(3, 2, 2), r(2, 2, 2)),
        case("...ij,...jk->...ik", r(4, 1, 2, 3), r(5, 3, 2)),
        case("i...,i...", r(3, 2), r(3)),
        case("...", r(2, 3)),
        case("ij,ij->ij", r(1, 3), r(2, 3)),
        case("ij,ij->", r(2, 3), r(1, 3)),
        case("ij,jk->ik", r(2, 1), r(3, 2)),
        case("ij,k->", r(2, 3), r(2)),
        case("i,ij,j->", r(2), r(2, 3), r(3)),
        case("i,i,i->i", r(3), r(3), r(3)),
        case("ab,bc,cd,de->ae", r(2, 3), r(3, 2), r(2, 2), r(2, 3), optimize="optimal"),
        case("ab,cd,bc->ad", r(2, 3), r(2, 2), r(3, 2), optimize=False),
        case("ab,cd,bc->ad", r(2, 3), r(2, 2), r(3, 2), optimize=True),
        case("ab,bc,cd->ad", r(2, 3), r(3, 2), r(2, 2), optimize=["einsum_path", (1, 2), (0, 1)]),
        case(",i->i", r(), r(3)),
        case("ij,jk->ik", r(2, 0), r(0, 3)),
        case(" i j , j -> i ", r(2, 3), r(3)),
        case(r(2, 3), [0, 1], r(3, 4), [1, 2], [0, 2]),
        case(r(2, 3), [Ellipsis, 1], r(3), [1]),
    ],
    reference=np.einsum,
    fails=lambda: [
        (
            case("ij,jk->ik", Tensor(np.ones((2, 3))), np.ones((4, 2))),
            ShapeError,
            "3 and 4 for 'j'",
        ),
        (case("ij,jk->ik", Tensor(np.ones((2, 3)))), ShapeError, "2 arrays for 'ij,jk->ik', got 1"),
        (case("ijk", Tensor(np.ones((2, 3)))), ShapeError, "3 axes for 'ijk' of 'ijk', got 2"),
        (case("i", Tensor(np.ones((2, 3)))), ShapeError, "1 axes for 'i' of 'i', got 2"),
        (case("ij->ik", Tensor(np.ones((2, 3)))), ShapeError, "'ij->ik' with 'k'"),
        (case("...i->i", Tensor(np.ones((2, 3)))), ShapeError, "'...' in the result, too"),
        (case("i->ii", Tensor(np.ones(2))), ShapeError, "'i->ii' with 'i'"),
        (case("i1->i", Tensor(np.ones((2, 3)))), ShapeError, "with '1'"),
        (case("ii", Tensor(np.ones((2, 3)))), ShapeError, "2 and 3 for 'i'"),
        (case("ii", Tensor(np.ones((1, 3)))), ShapeError, "equal lengths for the repeated 'i'"),
        (case("ij"), DtypeError, "at least one array"),
        (case("i,i", Tensor(np.ones(3)), np.ones(3), optimize="fast"), ArgumentError, "got 'fast'"),
        (
            case("i,i", Tensor(np.ones(3)), np.ones(3), optimize=["einsum_path"]),
            ArgumentError,
            "a path that leaves one array",
        ),
        (case(Tensor(np.ones(3)), 1), DtypeError, "a str of subscripts"),
    ],
)
samples(
    tensordot,
    lambda r: [
        case(r(2, 3), r(3, 4), 1),
        case(r(2, 3, 2), r(3, 2, 4)),
        case(r(2), r(3), 0),
        case(r(2, 3, 4), r(4, 3), ([1, 2], [1, 0])),
        case(r(2, 3), r(4, 2), (0, -1)),
        case(r(), r(2), 0),
        case(r(0, 2), r(2, 3), 1),
    ],
    reference=np.tensordot,
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.ones((2, 3)), 1), ShapeError, "with axes [1] and [0]"),
        (
            case(Tensor(np.ones((2, 2))), np.ones((2, 2)), ([0, 1], [0])),
            ShapeError,
            "pairs of axes",
        ),
        (case(Tensor(np.ones(2)), np.ones(2), 2), IndexingError, "tensordot: expected an axis"),
    ],
)
samples(
    dot,
    lambda r: [
        case(r(3), r(3)),
        case(r(2, 3), r(3)),
        case(r(3), r(3, 2)),
        case(r(2, 3), r(3, 2)),
        case(r(), r(2)),
        case(r(2), 3.0),
        case(r(2, 2, 3), r(2, 3, 2)),
        case(r(3), r(2, 3, 2)),
        case(r(2, 2, 3), r(3)),
    ],
    reference=np.dot,
    fails=lambda: [(case(Tensor(np.ones(2)), np.ones(3)), ShapeError, "inner dimensions 2 and 3")],
)
samples(
    inner,
    lambda r: [case(r(3), r(3)), case(r(2, 3), r(4, 3)), case(r(2, 2, 3), r(3)), case(r(), r(2))],
    reference=np.inner,
    fails=lambda: [(case(Tensor(np.ones(2)), np.ones(3)), ShapeError, "shapes (2,) and (3,)")],
)
samples(
    vdot,
    lambda r: [case(r(3), r(3)), case(r(2, 3), r(3, 2)), case(r(), r(1))],
    reference=np.vdot,
    fails=lambda: [(case(Tensor(np.ones(2)), np.ones(3)), ShapeError, "inner dimensions 2 and 3")],
)
samples(
    outer,
    lambda r: [case(r(3), r(2)), case(r(2, 2), r(3)), case(r(), r(2)), case(r(0), r(2))],
    reference=np.outer,
)
samples(
    vecdot,
    lambda r: [
        case(r(2, 3), r(2, 3)),
        case(r(2, 3), r(3)),
        case(r(3, 2), r(3, 2), axis=0),
        case(r(4, 1, 3), r(2, 3)),
    ],
    reference=lambda a, b, axis=-1: np.sum(a * b, axis=axis),
    fails=lambda: [(case(Tensor(np.ones(2)), np.ones(3)), ShapeError, "einsum")],
)
samples(
    matvec,
    lambda r: [
        case(r(2, 3), r(3)),
        case(r(4, 2, 3), r(3)),
        case(r(2, 3), r(4, 3)),
        case(r(5, 1, 2, 3), r(4, 3)),
    ],
    reference=lambda A, x: np.einsum("...ij,...j->...i", A, x),
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), np.ones(2)), ShapeError, "inner dimensions 3 and 2")
    ],
)
samples(
    vecmat,
    lambda r: [case(r(2), r(2, 3)), case(r(4, 2), r(2, 3)), case(r(2), r(4, 2, 3))],
    reference=lambda x, A: np.einsum("...i,...ij->...j", x, A),
    fails=lambda: [(case(Tensor(np.ones(3)), np.ones((2, 3))), ShapeError, "Did you mean W.T?")],
)
samples(
    kron,
    lambda r: [
        case(r(2), r(3)),
        case(r(2, 3), r(2, 2)),
        case(r(2), r(2, 1)),
        case(r(2, 1, 2), r(2, 3)),
        case(r(), r(2)),
    ],
    reference=np.kron,
)
samples(
    cross,
    lambda r: [
        case(r(3), r(3)),
        case(r(2, 3), r(3)),
        case(r(3, 2), r(3, 2), axis=0),
        case(r(3, 2), r(2, 3), axisa=0, axisb=1, axisc=0),
    ],
    reference=np.cross,
    fails=lambda: [(case(Tensor(np.ones(2)), np.ones(2)), ShapeError, "3 elements")],
)
samples(
    multi_dot,
    lambda r: [
        case([r(2, 3), r(3, 2), r(2, 4)]),
        case([r(3), r(3, 2), r(2)]),
        case([r(2, 3), r(3)]),
        case([r(3), r(3)]),
        case([r(3), r(3, 2), r(2, 1), r(1, 3)]),
    ],
    reference=np.linalg.multi_dot,
    fails=lambda: [
        (
            case([Tensor(np.ones((2, 2))), np.ones(2), np.ones((2, 2))]),
            ShapeError,
            "vectors only at the ends",
        ),
        (case([Tensor(np.ones((2, 3))), np.ones((2, 3))]), ShapeError, "3 and 2 for 'b'"),
    ],
)
