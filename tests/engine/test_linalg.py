"""Linear algebra: gradients by hand, einsum against unit arrays, everything against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_np as tg
from tinygrad_np.errors import TensorError
from tinygrad_np.ops.products import contract

from .test_shape import adjoint


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def leaf(array: Any) -> tg.Tensor:
    return tg.Tensor(array, requires_grad=True)


def gradient(f: Any, *arrays: Any) -> Any:
    """The gradients of a scalar function, as arrays; the gradient itself for one argument."""
    inputs = [leaf(a) for a in arrays]
    f(*inputs).backward()
    grads = [x.grad for x in inputs]
    return grads[0] if len(grads) == 1 else grads


def close(got: Any, expected: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


A = draw(3, 3) + 3 * np.eye(3)
S = A @ A.T
G = draw(3, 3, seed=1)
B = draw(4, 3, seed=2)

# --------------------------------------------------------------------------------------------------
# By hand
# --------------------------------------------------------------------------------------------------


def test_inverse() -> None:
    """``d(A^-1) = -A^-1 dA A^-1``, so ``dA = -A^-T G A^-T``."""
    inverse = np.linalg.inv(A)
    close(gradient(lambda x: (np.linalg.inv(x) * G).sum(), A), -inverse.T @ G @ inverse.T)


def test_determinant_is_the_sum_of_elements_times_cofactors() -> None:
    """``d det / dA_ij`` is the cofactor: the signed determinant without row i and column j."""
    cofactors = [
        [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(A, i, 0), j, 1)) for j in range(3)]
        for i in range(3)
    ]
    close(gradient(np.linalg.det, A), cofactors)


def test_log_determinant() -> None:
    """``d log|det A| = tr(A^-1 dA)``: through slogdet, and through each decomposition."""
    expected = np.linalg.inv(S).T
    close(gradient(lambda x: np.linalg.slogdet(x).logabsdet, S), expected)
    close(gradient(lambda x: 2 * np.log(np.diagonal(np.linalg.cholesky(x))).sum(), S), expected)
    close(gradient(lambda x: np.log(np.linalg.eigvalsh(x)).sum(), S), expected)
    close(gradient(lambda x: np.log(np.linalg.svdvals(x)).sum(), S), expected)
    close(gradient(lambda x: np.log(abs(np.diagonal(np.linalg.qr(x, "r")))).sum(), S), expected)


def test_solve() -> None:
    """``y = A^-1 b``: ``db = A^-T g`` and ``dA = -db y^T``."""
    b, g = draw(3), draw(3, seed=3)
    y = np.linalg.solve(A, b)
    dA, db = gradient(lambda A, b: (np.linalg.solve(A, b) * g).sum(), A, b)
    close(db, np.linalg.inv(A).T @ g)
    close(dA, -np.outer(db, y))


def test_least_squares_through_the_pseudo_inverse() -> None:
    """``L = |A y - b|^2`` at its least, where y may be held: ``dA = -2 r y^T``, r = b - A y."""
    b = draw(4)
    y = np.linalg.pinv(B) @ b
    r = b - B @ y
    close(
        gradient(lambda x: ((x @ (np.linalg.pinv(x) @ b) - b) ** 2).sum(), B), -2 * np.outer(r, y)
    )


def test_pseudo_inverse_of_an_invertible_matrix_is_its_inverse() -> None:
    expected = gradient(lambda x: (np.linalg.inv(x) * G).sum(), A)
    close(gradient(lambda x: (np.linalg.pinv(x) * G).sum(), A), expected)


def test_quadratic_form() -> None:
    """``x^T A x``: ``dx = (A + A^T) x`` and ``dA = x x^T``."""
    x = draw(3)
    for f in (
        lambda A, x: x @ A @ x,
        lambda A, x: np.einsum("i,ij,j", x, A, x),
        lambda A, x: np.dot(x, np.dot(A, x)),
        lambda A, x: np.linalg.multi_dot([x, A, x]),
        lambda A, x: np.vdot(np.outer(x, x), A),
        lambda A, x: np.inner(x, np.matvec(A, x) if hasattr(np, "matvec") else tg.matvec(A, x)),
        lambda A, x: np.tensordot(np.tensordot(A, x, 1), x, 1),
        lambda A, x: np.vecdot(x, tg.vecmat(x, A.T)),
    ):
        dA, dx = gradient(f, A, x)
        close(dA, np.outer(x, x))
        close(dx, (A + A.T) @ x)


def test_cross_product() -> None:
    """``g . (a x b)`` is the volume ``a . (b x g)``: ``da = b x g`` and ``db = g x a``."""
    a, b, g = draw(3), draw(3, seed=1), draw(3, seed=2)
    da, db = gradient(lambda a, b: (np.cross(a, b) * g).sum(), a, b)
    close(da, np.cross(b, g))
    close(db, np.cross(g, a))


def test_kronecker_product() -> None:
    """``<G, A kron B>``: ``dA_ij = <G_ij, B>`` for the blocks of G."""
    g = draw(3 * 4, 3 * 3)
    dA, dB = gradient(lambda A, B: (np.kron(A, B) * g).sum(), A, B)
    blocks = g.reshape(3, 4, 3, 3).swapaxes(1, 2)
    close(dA, (blocks * B).sum((2, 3)))
    close(dB, (blocks * A[:, :, None, None]).sum((0, 1)))


def test_what_the_factors_are_put_together_to_is_the_matrix_itself() -> None:
    """``<G, f(x)>``, f takes x apart and puts it together: ``dx = G``, or its symmetric part."""
    for x in (A, B, B.T):
        g = draw(*x.shape, seed=4)

        def through_svd(x: Any) -> Any:
            U, s, Vh = np.linalg.svd(x, full_matrices=False)
            return (U * s) @ Vh

        def through_qr(x: Any) -> Any:
            Q, R = np.linalg.qr(x)
            return Q @ R

        close(gradient(lambda x: (through_svd(x) * g).sum(), x), g)
        close(gradient(lambda x: (through_qr(x) * g).sum(), x), g)
    symmetric = (G + G.T) / 2

    def through_eigh(x: Any) -> Any:
        w, V = np.linalg.eigh(x)
        return (V * w) @ V.mT

    close(gradient(lambda x: (through_eigh(x) * G).sum(), S), symmetric)
    close(
        gradient(lambda x: (np.linalg.cholesky(x) @ np.linalg.cholesky(x).mT * G).sum(), S),
        symmetric,
    )


def test_eigenvalue_and_nuclear_norm() -> None:
    """``dw_k = v_k v_k^T``; the sum of the singular values has the gradient ``U Vh``."""
    v = np.linalg.eigh(S)[1][:, 2]
    close(gradient(lambda x: np.linalg.eigh(x).eigenvalues[2], S), np.outer(v, v))
    U, _, Vh = np.linalg.svd(B, full_matrices=False)
    close(gradient(lambda x: np.linalg.svdvals(x).sum(), B), U @ Vh)


def test_matrix_power() -> None:
    """``d tr(A^n) = n (A^T)^(n-1)``, for negative n, too; A^0 is constant."""
    for n in (-3, -1, 0, 1, 2, 5):
        expected = n * np.linalg.matrix_power(A.T, n - 1)
        close(gradient(lambda x: np.trace(np.linalg.matrix_power(x, n)), A), expected, 1e-10)


# --------------------------------------------------------------------------------------------------
# Conventions
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [tg.eigvalsh, lambda x, U: tg.eigh(x, U)[1] ** 2])
def test_one_triangle_is_read_and_the_gradient_is_symmetric(f: Any) -> None:
    for uplo, triangle in (("L", np.tril(S)), ("U", np.triu(S))):
        weights = np.arange(3.0)
        np.testing.assert_allclose(f(triangle, uplo), f(S, "L"))
        grads = [gradient(lambda x: (f(x, uplo) * weights).sum(), x) for x in (triangle, S)]
        close(*grads)
        close(grads[0], grads[0].T)


def test_cholesky_reads_one_triangle_and_its_gradient_is_symmetric() -> None:
    lower = gradient(lambda x: (np.linalg.cholesky(x) * G).sum(), np.tril(S))
    close(lower, gradient(lambda x: (np.linalg.cholesky(x) * G).sum(), S))
    close(lower, lower.T)
    upper = gradient(lambda x: (tg.cholesky(x, upper=True) * G.T).sum(), np.triu(S))
    close(upper, lower)


def test_equal_eigenvalues_have_a_derivative_and_their_vectors_have_none() -> None:
    eye = np.eye(3)
    close(
        gradient(lambda x: (np.linalg.eigvalsh(x) * [1, 2, 3]).sum(), eye), np.diag([1.0, 2.0, 3.0])
    )
    close(gradient(lambda x: (np.linalg.eigh(x)[0] ** 2).sum(), eye), 2 * eye)
    close(gradient(lambda x: (np.linalg.svd(x)[1] ** 2).sum(), eye), 2 * eye)
    for vectors in (lambda x: np.linalg.eigh(x)[1], lambda x: np.linalg.svd(x).U):
        with pytest.warns(RuntimeWarning, match="divide by zero|invalid value"):
            grad = gradient(lambda x: (vectors(x) * G).sum(), eye)
        assert not np.isfinite(grad).all()


def test_singular_matrices_are_refused_in_the_backward_pass() -> None:
    for f in (np.linalg.det, lambda x: np.linalg.slogdet(x).logabsdet):
        with (
            np.errstate(divide="ignore"),
            pytest.raises(TensorError, match=r"inv: .*A matrix is singular"),
        ):
            gradient(f, np.ones((2, 2)))


def test_the_sign_of_a_determinant_has_derivative_zero() -> None:
    np.testing.assert_array_equal(
        gradient(lambda x: np.linalg.slogdet(x).sign, A), np.zeros((3, 3))
    )


def test_results_have_the_names_of_numpys() -> None:
    for f in (np.linalg.eigh, np.linalg.svd, np.linalg.qr, np.linalg.slogdet):
        assert f(leaf(S))._fields == f(S)._fields
        assert type(f(leaf(S))).__name__ == type(f(S)).__name__


def test_columns_and_rows_of_qr_for_wide_matrices() -> None:
    Q, R = np.linalg.qr(leaf(B.T))
    for got, expected in zip((Q, R), np.linalg.qr(B.T)):
        close(got.data, expected)


# --------------------------------------------------------------------------------------------------
# einsum
# --------------------------------------------------------------------------------------------------


@st.composite
def contractions(draw: Any) -> Any:
    """Subscripts with repeated, single and shared letters, ellipses, lengths of 1; and shapes."""
    lengths = {c: draw(st.integers(1, 3)) for c in "abcd"}
    broadcast = draw(st.lists(st.integers(1, 2), max_size=2))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 3))):
        term = draw(st.lists(st.sampled_from("abcd"), max_size=3))
        # A length of 1 goes with any other, but not within one array.
        short = {c for c in set(term) if draw(st.integers(0, 4)) == 0}
        shape = [1 if c in short else lengths[c] for c in term]
        if draw(st.booleans()):
            at = draw(st.integers(0, len(term)))
            rest = [
                draw(st.sampled_from([1, n]))
                for n in broadcast[draw(st.integers(0, len(broadcast))) :]
            ]
            term.insert(at, "...")
            shape[at:at] = rest
        terms.append("".join(term))
        shapes.append(tuple(shape))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        letters = sorted(set(subscripts) & set("abcd"))
        out = draw(st.permutations(letters))[: draw(st.integers(0, len(letters)))]
        dots = draw(st.integers(0, len(out)))
        subscripts += "->" + "".join(
            [*out[:dots], "..." if "..." in subscripts else "", *out[dots:]]
        )
    return subscripts, shapes


@settings(max_examples=200, deadline=None)
@given(contractions(), st.sampled_from(["greedy", "optimal", False]))
def test_einsum(contraction: Any, optimize: Any) -> None:
    """The value is NumPy's; each gradient is what NumPy makes of unit arrays in that place."""
    subscripts, shapes = contraction
    arrays = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    inputs = [leaf(a) for a in arrays]
    y = np.einsum(subscripts, *inputs, optimize=optimize)
    close(y.data, np.einsum(subscripts, *arrays))
    g = draw(*y.shape, seed=9)
    y.backward(g)
    for k, x in enumerate(inputs):
        others = lambda unit: np.einsum(subscripts, *arrays[:k], unit, *arrays[k + 1 :])
        close(x.grad, adjoint(others, x.shape, g))


def test_three_arrays_are_contracted_two_at_a_time() -> None:
    """Of the two orders of a product of three matrices the cheaper one is recorded."""
    thin, wide = leaf(np.ones((2, 50))), leaf(np.ones((50, 50)))
    node = np.einsum("ij,jk,kl->il", wide, wide, thin.mT).node
    sizes = []
    while node.primitive is contract:
        sizes.append(node.value.size)
        node = max(node.inputs, key=lambda n: n.order)
    assert sizes == [100, 100]


# --------------------------------------------------------------------------------------------------
# PyTorch
# --------------------------------------------------------------------------------------------------

STACK = draw(2, 3, 3) + 3 * np.eye(3)
TALL = draw(2, 4, 3)
# name: ours, theirs (given torch.linalg), the arrays. No result depends on signs of vectors.
CASES: dict[str, tuple[Any, Any, list[Any]]] = {
    "inv": (np.linalg.inv, lambda t, x: t.inv(x), [STACK]),
    "det": (np.linalg.det, lambda t, x: t.det(x), [STACK]),
    "slogdet": (lambda x: np.linalg.slogdet(x)[1], lambda t, x: t.slogdet(x)[1], [STACK]),
    "solve": (np.linalg.solve, lambda t, x, b: t.solve(x, b), [STACK, draw(2, 3, 2)]),
    "solve one matrix for a stack": (
        np.linalg.solve,
        lambda t, x, b: t.solve(x, b),
        [A, draw(2, 3, 2)],
    ),
    "cholesky": (
        lambda x: np.linalg.cholesky(x @ x.mT),
        lambda t, x: t.cholesky(x @ x.mT),
        [STACK],
    ),
    "Q": (lambda x: np.linalg.qr(x).Q, lambda t, x: t.qr(x)[0], [TALL]),
    "R": (lambda x: np.linalg.qr(x).R, lambda t, x: t.qr(x)[1], [TALL]),
    "wide Q": (lambda x: np.linalg.qr(x.mT).Q, lambda t, x: t.qr(x.mT)[0], [TALL]),
    "wide R": (lambda x: np.linalg.qr(x.mT).R, lambda t, x: t.qr(x.mT)[1], [TALL]),
    "eigenvalues": (
        lambda x: np.linalg.eigvalsh(x + x.mT),
        lambda t, x: t.eigvalsh(x + x.mT),
        [STACK],
    ),
    "eigenvectors": (
        lambda x: np.linalg.eigh(x + x.mT)[1] ** 2,
        lambda t, x: t.eigh(x + x.mT)[1] ** 2,
        [STACK],
    ),
    "singular values": (np.linalg.svdvals, lambda t, x: t.svdvals(x), [TALL]),
    "U": (
        lambda x: np.linalg.svd(x, False).U ** 2,
        lambda t, x: t.svd(x, full_matrices=False)[0] ** 2,
        [TALL],
    ),
    "V of wide": (
        lambda x: np.linalg.svd(x.mT, False).Vh ** 2,
        lambda t, x: t.svd(x.mT, full_matrices=False)[2] ** 2,
        [TALL],
    ),
    "pinv": (np.linalg.pinv, lambda t, x: t.pinv(x), [TALL]),
    "matrix_power": (
        lambda x: np.linalg.matrix_power(x, -3),
        lambda t, x: t.matrix_power(x, -3),
        [STACK],
    ),
    "multi_dot": (
        lambda *xs: np.linalg.multi_dot(xs),
        lambda t, *xs: t.multi_dot(xs),
        [draw(2, 4), draw(4, 3), draw(3, 5)],
    ),
    "cross": (np.cross, lambda t, a, b: t.cross(a, b), [draw(4, 3), draw(4, 3, seed=1)]),
}


@pytest.mark.parametrize("name", CASES)
def test_pytorch_agrees_to_the_second_derivative(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs, arrays = CASES[name]
    inputs = [leaf(a) for a in arrays]
    others = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, u = ours(*inputs), theirs(torch.linalg, *others)
    close(y.data, u.detach().numpy(), 1e-10)
    g = draw(*y.shape, seed=5)
    first = tg.gradients(y, inputs, g, create_graph=True)
    expected = torch.autograd.grad(u, others, torch.tensor(g), create_graph=True)
    for d, e in zip(first, expected):
        close(d.data, e.detach().numpy(), 1e-9)
    directions = [draw(*a.shape, seed=6 + i) for i, a in enumerate(arrays)]
    second = tg.gradients(first, inputs, directions, unreached="zeros")
    reached = torch.autograd.grad(
        expected,
        others,
        [torch.tensor(v) for v in directions],
        allow_unused=True,
        materialize_grads=True,
    )
    for d, e in zip(second, reached):
        close(d.data, e.numpy(), 1e-8)
