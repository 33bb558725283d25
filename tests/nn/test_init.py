from __future__ import annotations

import math
import re

import numpy as np
import pytest

import nn
from nn import init
from tinygrad_np.errors import ArgumentError, DtypeError, ShapeError

N, M = 300, 500
# The variance each rule gives W (N, M), and the bound of the uniform ones.
VARIANCES = {"xavier": 2 / (N + M), "he": 2 / N, "lecun": 1 / N}


@pytest.mark.parametrize("rule", VARIANCES)
def test_normal_rules_have_their_variance(rule):
    w = getattr(init, f"{rule}_normal")((N, M), rng=0, dtype=np.float64)
    sigma = math.sqrt(VARIANCES[rule])
    size = N * M
    # Five standard errors: of a mean sigma / sqrt(n), of a variance sigma^2 sqrt(2 / n).
    assert abs(w.mean()) < 5 * sigma / math.sqrt(size)
    assert abs(w.var() / sigma**2 - 1) < 5 * math.sqrt(2 / size)
    # Of a normal's absolute values 68.27 % are below sigma, of a uniform's 57.7 %.
    assert abs((abs(w) < sigma).mean() - 0.6827) < 5 * math.sqrt(0.25 / size)


@pytest.mark.parametrize("rule", VARIANCES)
def test_uniform_rules_have_their_variance_and_bound(rule):
    w = getattr(init, f"{rule}_uniform")((N, M), rng=0, dtype=np.float64)
    bound = math.sqrt(3 * VARIANCES[rule])
    assert abs(w.mean()) < 5 * bound / math.sqrt(3 * w.size)
    assert 0.9999 * bound < abs(w).max() < bound  # the largest of 150,000 is that near
    assert abs(w.var() / VARIANCES[rule] - 1) < 5 * math.sqrt(0.8 / w.size)


def test_plain_distributions():
    w = init.uniform(-1, 3)((N, M), rng=0, dtype=np.float64)
    assert -1 <= w.min() < -0.999
    assert 2.999 < w.max() < 3
    assert abs(w.mean() - 1) < 5 * math.sqrt(16 / 12 / w.size)
    w = init.normal(std=0.5, mean=2)((N, M), rng=0, dtype=np.float64)
    assert abs(w.mean() - 2) < 5 * 0.5 / math.sqrt(w.size)
    assert abs(w.std() / 0.5 - 1) < 5 * math.sqrt(0.5 / w.size)
    np.testing.assert_array_equal(init.zeros((2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(init.ones((2,)), np.ones(2))
    np.testing.assert_array_equal(init.constant(0.25)((2,)), [0.25, 0.25])


@pytest.mark.parametrize("name", init.INITIALIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_name_gives_shape_and_dtype_and_follows_the_seed(name, dtype):
    function = init.initializer(name)
    shape = (3, 4, 5) if name == "dirac" else (3, 4)
    w = function(shape, rng=5, dtype=dtype)
    assert (w.shape, w.dtype) == (shape, dtype)
    np.testing.assert_array_equal(w, function(shape, rng=np.random.default_rng(5), dtype=dtype))
    if name not in ("zeros", "ones", "identity", "dirac"):
        assert not np.array_equal(w, function(shape, rng=6, dtype=dtype))


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5), (4, 3, 2, 2), (2, 3, 5)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    w = init.orthogonal(gain=3)(shape, rng=0, dtype=np.float64).reshape(shape[0], -1) / 3
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, np.eye(min(w.shape)), atol=1e-14)
    torch = pytest.importorskip("torch")
    theirs = torch.empty(shape, dtype=torch.float64)
    torch.nn.init.orthogonal_(theirs)  # of other numbers, but the same kind
    theirs = theirs.numpy().reshape(shape[0], -1)
    assert np.linalg.matrix_rank(theirs) == np.linalg.matrix_rank(w)
    np.testing.assert_allclose(np.linalg.norm(theirs), np.linalg.norm(w), rtol=1e-12)


def test_orthogonal_matrices_are_drawn_evenly():
    # Without the signs, QR would never give a rotation beside a reflection: the first column of Q
    # would have the sign opposite to that of the drawn one. The mean of an even draw is 0, its
    # variance 1/n.
    draws = np.array([init.orthogonal()((3, 3), rng=i, dtype=np.float64) for i in range(4000)])
    error = 5 / math.sqrt(3 * len(draws))
    assert abs(draws.mean(axis=0)).max() < error
    determinants = np.linalg.det(draws)
    assert abs(determinants.mean()) < 5 / math.sqrt(len(draws))
    assert abs((draws**2).mean(axis=0) - 1 / 3).max() < error


def test_truncated_normal_has_no_tails():
    w = init.truncated_normal(std=0.5, mean=2)((N, M), rng=0, dtype=np.float64)
    assert 0.99 < abs(w - 2).max() <= 1
    # Variance of the normal cut at 2: 1 - 2 a phi(a) / (2 Phi(a) - 1) with a = 2.
    phi, inside = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    variance = 1 - 2 * 2 * phi / inside
    assert abs(w.mean() - 2) < 5 * 0.5 / math.sqrt(w.size)
    assert abs(w.var() / (0.25 * variance) - 1) < 5 * math.sqrt(2 / w.size)
    assert abs(init.truncated_normal(limit=0.1)((1000,), rng=0)).max() <= 0.1


@pytest.mark.parametrize("distribution", init.DISTRIBUTIONS)
@pytest.mark.parametrize(("mode", "fan"), [("in", N), ("out", M), ("mean", (N + M) / 2)])
def test_variance_scaling_has_the_variance_it_says(mode, fan, distribution):
    w = init.variance_scaling(3, mode, distribution)((N, M), rng=0, dtype=np.float64)
    assert abs(w.mean()) < 5 * math.sqrt(3 / fan / w.size)
    assert abs(w.var() / (3 / fan) - 1) < 5 * math.sqrt(2 / w.size)
    bounds = {"normal": 4, "truncated_normal": 2 / 0.8796, "uniform": math.sqrt(3)}
    assert (abs(w).max() > 1.001 * bounds[distribution] * math.sqrt(3 / fan)) == (
        distribution == "normal"
    )


def test_variance_scaling_holds_the_other_rules():
    for rule, scale, mode in (("he", 2, "in"), ("xavier", 1, "mean"), ("lecun", 1, "in")):
        for kind in ("normal", "uniform"):
            np.testing.assert_allclose(
                init.variance_scaling(scale, mode, kind)((4, 6), rng=0, dtype=np.float64),
                getattr(init, f"{rule}_{kind}")((4, 6), rng=0, dtype=np.float64),
                rtol=1e-15,
            )
    kernel = init.variance_scaling(2, "out")((8, 3, 5, 5), rng=0, dtype=np.float64)
    assert kernel.std() == pytest.approx(math.sqrt(2 / (8 * 25)), rel=0.1)


def test_identity_and_dirac_pass_on_what_they_are_given():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(nn.Dense(7, 7, weights_init="identity")(x).data, x)
    wide = nn.Dense(7, 9, weights_init=nn.init.identity(gain=2))(x).data
    np.testing.assert_array_equal(wide, np.concatenate([2 * x, 0 * x[..., :2]], axis=-1))
    same = nn.Conv2d(3, 3, kernel=3, padding=1, weights_init="dirac")(x).data
    np.testing.assert_allclose(same, x, rtol=1e-6)
    torch = pytest.importorskip("torch")
    for shape, groups in (((4, 2, 3), 1), ((2, 4, 3, 5), 1), ((6, 2, 3, 3), 3), ((4, 3, 2), 2)):
        theirs = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        np.testing.assert_array_equal(init.dirac(groups)(shape), theirs)


def test_sparse_leaves_as_many_inputs_to_each_output():
    w = init.sparse(0.9, std=2.0)((105, 200), rng=0, dtype=np.float64)
    np.testing.assert_array_equal((w != 0).sum(axis=0), np.full(200, 105 - math.ceil(0.9 * 105)))
    assert abs(w[w != 0].std() / 2 - 1) < 5 * math.sqrt(0.5 / np.count_nonzero(w))
    rows = (w != 0).mean(axis=1)  # and any input is as likely as any other
    assert abs(rows - rows.mean()).max() < 5 * math.sqrt(0.1 * 0.9 / 200)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: init.orthogonal()((3,)), ShapeError,
         "init.orthogonal: expected a shape (in, out) or (out, in, ...), got (3,). For a bias"),
        (lambda: init.identity()((3, 3, 3)), ShapeError, "give dirac()."),
        (lambda: init.dirac()((3, 3)), ShapeError, "give identity()."),
        (lambda: init.dirac(2)((3, 3, 3)), ShapeError, "whose outputs 2 divides, got (3, 3, 3)"),
        (lambda: init.sparse(0.5)((3,)), ShapeError, "init.sparse: expected a shape (in, out)"),
        (lambda: init.sparse(1.5), ArgumentError, "expected sparsity in [0, 1], got 1.5."),
        (lambda: init.truncated_normal(limit=0), ArgumentError, "limit above 0, got 0."),
        (lambda: init.variance_scaling(-1), ArgumentError, "scale above 0, got -1."),
        (lambda: init.variance_scaling(1, "fan_in"), ArgumentError,
         "init.variance_scaling: mode: expected one of in, out, mean, got 'fan_in'."),
        (lambda: init.variance_scaling(1, "in", "unifrm"), ArgumentError, "mean 'uniform'"),
        (lambda: init.variance_scaling()((3,)), ShapeError, "to tell the fan-in, got (3,)"),
    ],
)  # fmt: skip
def test_what_an_initialiser_cannot_take_is_refused(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()


def test_variance_scaling_of_a_bias_takes_the_fans_of_its_weights():
    rule = init.variance_scaling(2, "in", "uniform")
    layer = nn.Dense(N, M, bias_init=rule, rng=0, dtype=np.float64)
    assert abs(layer.b.data).max() < math.sqrt(6 / N)
    assert layer.b.data.var() == pytest.approx(2 / N, rel=0.2)


def test_a_seed_means_the_same_network_in_every_dtype():
    double = init.he_normal((30, 40), rng=1, dtype=np.float64)
    np.testing.assert_array_equal(init.he_normal((30, 40), rng=1), double.astype(np.float32))


def test_fans():
    assert init.fans((3, 5)) == (3, 5)
    assert init.fans((8, 3, 5, 7)) == (3 * 35, 8 * 35)  # (out, in, height, width)


def test_a_bias_alone_has_no_fan_in():
    text = "expected a shape (in, out) or (out, in, ...) to tell the fan-in, got (3,). For a bias"
    with pytest.raises(ShapeError, match=re.escape(text)):
        init.he_normal((3,))


@pytest.mark.parametrize("rule", VARIANCES)
@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_a_layers_bias_is_scaled_by_the_fans_of_its_weights(rule, kind):
    layer = nn.Dense(N, M, bias_init=f"{rule}_{kind}", rng=0, dtype=np.float64)
    rng = np.random.default_rng(0)
    rng.uniform(size=(N, M))  # the weights are drawn first
    variance = VARIANCES[rule]
    bound = math.sqrt(3 * variance)
    expected = (
        rng.normal(0, math.sqrt(variance), M) if kind == "normal" else rng.uniform(-bound, bound, M)
    )
    np.testing.assert_array_equal(layer.b.data, expected)


def test_ready_made_values_are_copied():
    W, b = np.arange(6.0).reshape(2, 3), [1, 2, 3]
    layer = nn.Dense(2, 3, weights_init=W, bias_init=b)
    np.testing.assert_array_equal(layer.W.data, W)
    np.testing.assert_array_equal(layer.b.data, b)
    assert layer.W.dtype == layer.b.dtype == np.float32
    double = nn.Dense(3, weights_init=W, dtype=np.float64)
    double(np.ones((1, 2)))
    double.W.data[...] = 7
    assert W[0, 0] == 0
    with pytest.raises(ShapeError, match=r"^Dense\(3, 2\): expected \(3, 2\) from weights_init, g"):
        nn.Dense(3, 2, weights_init=W)
    with pytest.raises(ShapeError, match=r"expected \(2,\) from bias_init, got \(3,\)"):
        nn.Dense(3, 2, bias_init=b)
    with pytest.raises(DtypeError, match=r"^init: expected real numbers, got dtype <U1"):
        nn.Dense(3, 2, bias_init=["a", "b"])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("he-normal", "got 'he-normal'. Did you mean 'he_normal'"),
        ("he", "got 'he'. Did you mean 'he_normal' or 'he_uniform'?"),
        ("xavier", "Did you mean 'xavier_normal' or 'xavier_uniform'?"),
        (0.1, "init: expected a callable or one of xavier_normal, xavier_uniform, he_normal"),
    ],
)
def test_unknown_names_are_refused_with_the_near_ones(given, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        nn.Dense(2, 3, weights_init=given)


def test_layers_use_what_they_are_given():
    count = lambda shape, rng, dtype: [1, 2, 3]
    layer = nn.Dense(2, 3, weights_init=init.constant(2), bias_init=count)
    np.testing.assert_array_equal(layer.W.data, np.full((2, 3), 2))
    np.testing.assert_array_equal(layer.b.data, [1, 2, 3])
    assert layer.b.dtype == np.float32
    with pytest.raises(ShapeError, match=r"^Dense\(2, 3\): expected \(2, 3\) from weights_init, "):
        nn.Dense(2, 3, weights_init=lambda shape, rng, dtype: np.ones(shape[::-1]))


# --- the one generator ---


def test_seed_fixes_all_layers():
    def network():
        nn.seed(4)
        return nn.Sequential(nn.Dense(2, 3), nn.Dense(3, 3)).state_dict()

    first, second = network(), network()
    np.testing.assert_array_equal(first["0.W"], second["0.W"])
    np.testing.assert_array_equal(first["1.W"], second["1.W"])
    nn.seed(5)
    assert not np.array_equal(first["0.W"], nn.Dense(2, 3).W.data)


def test_layers_of_one_seed_differ_from_each_other():
    nn.seed(0)
    assert not np.array_equal(nn.Dense(3, 3).W.data, nn.Dense(3, 3).W.data)
    rng = np.random.default_rng(0)
    assert not np.array_equal(nn.Dense(3, 3, rng=rng).W.data, nn.Dense(3, 3, rng=rng).W.data)


def test_weights_and_bias_of_one_seed_are_not_the_same_numbers():
    normal = init.normal()
    layer = nn.Dense(1, 4, weights_init=normal, bias_init=normal, rng=0)
    assert not np.array_equal(layer.W.data[0], layer.b.data)


def test_a_generator_of_ones_own_leaves_the_common_one_alone():
    nn.seed(0)
    expected = nn.Dense(2, 3).W.data
    nn.seed(0)
    nn.Dense(9, 9, rng=1)
    np.testing.assert_array_equal(nn.Dense(2, 3).W.data, expected)


def test_without_a_seed_runs_differ(monkeypatch):
    weights = []
    for _ in range(2):
        monkeypatch.setattr(init, "_generator", None)  # as when nn is imported
        weights.append(nn.Dense(3, 3).W.data)
    assert not np.array_equal(*weights)
