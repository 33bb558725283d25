"""The checker of hand-written backprop: right programs pass, each mistake is found where it was made."""

import importlib.util
import re

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.check.matching import quantity_of
from tinygrad_np.errors import ArgumentError, GradientError

ROWS = """
def f(params, x, t):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    z1 = x @ W1 + b1
    h = {act}
    z2 = h @ W2 + b2
    e = np.exp(z2 - z2.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.sum(t * np.log(p)) / len(x)
    dz2 = (p - t) / len(x)
    dW2 = h.T @ dz2
    db2 = dz2.sum(axis=0)
    dh = dz2 @ W2.T
    dz1 = dh * {slope}
    dW1 = x.T @ dz1
    db1 = dz1.sum(axis=0)
    return loss, {{"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}}
"""
COLUMNS = """
def f(params, x, t):
    W1, b1, W2, b2 = params["W1"], params["b1"], params["W2"], params["b2"]
    m = x.shape[1]
    Z1 = np.dot(W1, x) + b1
    A1 = {act}
    Z2 = np.dot(W2, A1) + b2
    A2 = 1 / (1 + np.exp(-Z2))
    cost = -np.sum(t * np.log(A2) + (1 - t) * np.log(1 - A2)) / m
    dZ2 = A2 - t
    dW2 = 1 / m * np.dot(dZ2, A1.T)
    db2 = 1 / m * np.sum(dZ2, axis=1, keepdims=True)
    dZ1 = np.dot(W2.T, dZ2) * {slope}
    dW1 = 1 / m * np.dot(dZ1, x.T)
    db1 = 1 / m * np.sum(dZ1, axis=1, keepdims=True)
    return float(cost), [dW1, db1, dW2, db2]
"""
ACTIVATIONS = {
    "sigmoid": ("1 / (1 + np.exp(-{z}))", "{h} * (1 - {h})"),
    "tanh": ("np.tanh({z})", "(1 - {h}**2)"),
    "relu": ("np.maximum({z}, 0)", "({h} > 0)"),
}


def written(source, activation, *edits):
    """The program with some texts replaced, as a function."""
    z, h = ("z1", "h") if source is ROWS else ("Z1", "A1")
    act, slope = (text.format(z=z, h=h) for text in ACTIVATIONS[activation])
    source = source.format(act=act, slope=slope)
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    space = {"np": np}
    exec(source, space)
    return space["f"]


def problem(columns=False, dtype=float, seed=0, N=7):
    rng = np.random.default_rng(seed)
    params = {"W1": rng.normal(size=(4, 5)), "b1": rng.normal(size=5), "W2": rng.normal(size=(5, 3)),
              "b2": rng.normal(size=3)}  # fmt: skip
    x, t = rng.normal(size=(N, 4)), np.eye(3)[rng.integers(0, 3, N)]
    if columns:
        params = {k: a.T if a.ndim == 2 else a[:, None] for k, a in params.items()}
        x, t = x.T, t.T
    return {k: a.astype(dtype) for k, a in params.items()}, x.astype(dtype), t.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("source", [ROWS, COLUMNS], ids=["rows", "columns"])
def test_right_programs_are_never_accused(source, activation, dtype):
    f = written(source, activation)
    for seed, n in enumerate((2, 3, 7, 40, 300)):
        report = tg.check_backprop(f, *problem(source is COLUMNS, dtype, seed, n))
        assert report.ok, str(report)
        assert {one.verdict for one in report.findings} == {"right"}
        assert len(report.findings) == (7 if source is ROWS else 6)
        carries = [note for note in report.notes if f"carry the batch size {n}" in note]
        assert len(carries) == (source is COLUMNS)


MISTAKES = [
    ("z2", "missing_batch_mean", ("(p - t) / len(x)", "p - t")),
    ("z2", "extra_batch_mean", ("(p - t) / len(x)", "(p - t) / len(x)**2")),
    ("z2", "sign", ("(p - t)", "(t - p)")),
    ("z2", "factor", ("(p - t)", "3 * (p - t)")),
    ("W2", "wrong_operand", ("h.T @ dz2", "z1.T @ dz2")),
    ("W2", "factor", ("h.T @ dz2", "2 * h.T @ dz2")),
    ("W2", "transpose", ("h.T @ dz2", "dz2.T @ h")),
    ("b2", "mean_instead_of_sum", ("dz2.sum(axis=0)", "dz2.mean(axis=0)")),
    ("b2", "unreduced_broadcast", ("dz2.sum(axis=0)", "dz2")),
    ("b2", "wrong_axis_sum", ("dz2.sum(axis=0)", "dz2.sum(axis=1)")),
    ("b1", "wrong_axis_sum", ("dz1.sum(axis=0)", "dz1.sum()")),
    ("h", "sign", ("dz2 @ W2.T", "-dz2 @ W2.T")),
    ("W1", "sign", ("x.T @ dz1", "-x.T @ dz1")),
]


@pytest.mark.parametrize(("place", "kind", "edit"), MISTAKES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_mistake_is_found_and_named(activation, place, kind, edit):
    report = tg.check_backprop(written(ROWS, activation, edit), *problem())
    assert report.first_wrong == place
    assert report[place].diagnoses[0].kind == kind, str(report)
    assert [one.name for one in report.findings if one.verdict in ("wrong", "shape")] == [place]
    assert not report.ok


SLOPES = [
    ("sigmoid", "missing_activation_derivative", ("dh * h * (1 - h)", "dh")),
    ("sigmoid", "derivative_wrong_function", ("dh * h * (1 - h)", "dh * (1 - h**2)")),
    ("sigmoid", "derivative_at_wrong_point", ("dh * h * (1 - h)", "dh * z1 * (1 - z1)")),
    ("sigmoid", "derivative_at_wrong_point",
     ("dh * h * (1 - h)", "dh / (1 + np.exp(-h)) * (1 - 1 / (1 + np.exp(-h)))")),
    ("tanh", "derivative_at_wrong_point", ("(1 - h**2)", "(1 - np.tanh(h)**2)")),
    ("tanh", "derivative_wrong_function", ("(1 - h**2)", "h * (1 - h)")),
    ("tanh", "extra_term", ("(1 - h**2)", "(1 - h**2)**2")),
    ("relu", "derivative_all_ones", ("dh * (h > 0)", "dh")),
    ("relu", "mask_wrong", ("(h > 0)", "(h <= 0)")),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "kind", "edit"), SLOPES)
@pytest.mark.parametrize("only", [None, ("W1", "b1", "W2", "b2")], ids=["all", "parameters"])
def test_a_wrong_slope_is_found_and_named(activation, kind, edit, only):
    f = written(ROWS, activation, edit)
    params, x, t = problem()
    report = tg.check_backprop(f, params, x, t)
    assert report.first_wrong == "z1"
    assert kind in [one.kind for one in report["z1"].diagnoses]
    assert {report[name].verdict for name in ("W1", "b1")} == {"follows"}
    if only:  # one mistake above explains both, though its place was not given
        tensors = {k: tg.Tensor(a, requires_grad=True, name=k) for k, a in params.items()}
        loss = recorded(tensors, x, t, ACTIVATIONS[activation][0])
        _, grads = f(params, x, t)
        report = tg.check_gradients(loss, grads)
        assert report.first_wrong in only
        assert [one.name for one in report.findings if one.verdict == "wrong"] == ["b1", "W1"]
        assert report["b1"].diagnoses == report["W1"].diagnoses
        assert kind in [one.kind for one in report["W1"].diagnoses]


def recorded(tensors, x, t, act):
    z1 = x @ tensors["W1"] + tensors["b1"]
    h = eval(act.format(z="z1"), {"np": np, "z1": z1})
    z1.name, h.name = "z1", "h"
    return tg.softmax_cross_entropy(h @ tensors["W2"] + tensors["b2"], t)


def test_a_factor_of_the_batch_size_is_told_by_another_batch():
    f = written(ROWS, "tanh", ("(p - t) / len(x)", "p - t"))
    report = tg.check_backprop(f, *problem())
    (reading,) = report["z2"].diagnoses
    assert reading.kind == "missing_batch_mean"
    assert "A run on 4 rows gives the same reading" in reading.evidence
    f = written(ROWS, "tanh", ("(p - t) / len(x)", "7 * (p - t) / len(x)"))
    (reading,) = tg.check_backprop(f, *problem())["z2"].diagnoses
    assert reading.kind == "factor"


def test_without_another_batch_a_factor_of_its_size_is_never_certain():
    params, x, t = problem()
    tensors = {k: tg.Tensor(a, requires_grad=True, name=k) for k, a in params.items()}
    loss = recorded(tensors, x, t, "np.tanh({z})")
    loss.backward()
    grads = {name: len(x) * tensor.grad for name, tensor in tensors.items()}
    report = tg.check_gradients(loss, grads)
    assert [one.kind for one in report["b2"].diagnoses] == ["missing_batch_mean", "factor"]
    assert not any(one.certain for one in report["b2"].diagnoses)


@pytest.mark.parametrize(("place", "kind", "edit"), [
    ("b2", "missing_batch_mean", ("1 / m * np.sum(dZ2", "np.sum(dZ2")),
    ("W1", "missing_batch_mean", ("1 / m * np.dot(dZ1", "np.dot(dZ1")),
    ("W2", "factor", ("1 / m * np.dot(dZ2", "2 / m * np.dot(dZ2")),
    ("Z1", "sign", ("np.dot(W2.T, dZ2)", "-np.dot(W2.T, dZ2)")),
])  # fmt: skip
def test_a_carried_batch_size_hides_no_mistake(place, kind, edit):
    report = tg.check_backprop(written(COLUMNS, "tanh", edit), *problem(columns=True))
    assert report.first_wrong == place
    assert report[place].diagnoses[0].kind == kind
    assert report["Z2"].verdict == "right"
    assert any("carry the batch size 7" in note for note in report.notes)


def test_several_mistakes_are_found_one_after_another():
    f = written(
        ROWS, "tanh", ("h.T @ dz2", "-h.T @ dz2"), ("dz1.sum(axis=0)", "3 * dz1.sum(axis=0)")
    )
    report = tg.check_backprop(f, *problem())
    found = {one.name: one.diagnoses[0].kind for one in report.findings if one.diagnoses}
    assert found == {"W2": "sign", "b1": "factor"}


def test_in_place_statements_aliases_and_a_residual_path():
    def f(params, X, y):
        W1, W2 = params["W1"], params["W2"]
        N = len(X)
        h = np.maximum(0, X.dot(W1))
        s = h + h.dot(W2)
        probs = np.exp(s) / np.sum(np.exp(s), axis=1, keepdims=True)
        loss = -np.sum(np.log(probs[range(N), y])) / N + 0.1 * np.sum(W2 * W2)
        ds = probs
        ds[range(N), y] -= 1
        ds /= N
        grads = {"dW2": h.T.dot(ds) + 0.2 * W2 * (mistake != "penalty")}
        dh = ds.dot(W2.T)
        if mistake != "path":
            dh += ds
        dh[h <= 0] = 0
        grads["dW1"] = X.T.dot(dh)
        return loss, grads

    rng = np.random.default_rng(0)
    params = {"W1": rng.normal(size=(4, 5)), "W2": rng.normal(size=(5, 5))}
    data = rng.normal(size=(6, 4)), rng.integers(0, 5, 6)
    mistake = None
    report = tg.check_backprop(f, params, *data)
    assert report.ok
    assert report["s"].place.endswith("ds /= N")
    assert report["W2"].given == "grads['dW2']" or report["W2"].given == "dW2"
    mistake = "penalty"
    report = tg.check_backprop(f, params, *data)
    assert report.first_wrong == "W2"
    assert report["W2"].diagnoses[0].kind == "missing_regularisation"
    mistake = "path"
    report = tg.check_backprop(f, params, *data)
    assert report.first_wrong == "h"
    assert report["h"].diagnoses[0].kind == "missing_path"
    assert report["W1"].verdict == "follows"


def test_a_loop_over_layers():
    def f(params, x, t):
        a, acts = x, [x]
        for W in params:
            z = a @ W
            a = np.tanh(z)
            acts.append(a)
        loss = 0.5 * np.sum((a - t) ** 2)
        grads = [None] * 3
        dz = (a - t) * (1 - a**2)
        for i in (2, 1, 0):
            grads[i] = acts[i].T @ dz * (2 if i == slip else 1)
            if i:
                dz = (dz @ params[i].T) * (1 - acts[i] ** 2)
        return loss, grads

    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape) for shape in [(3, 4), (4, 4), (4, 2)]]
    for slip, kinds in (None, []), (1, ["factor"]):
        report = tg.check_backprop(f, params, rng.normal(size=(6, 3)), rng.normal(size=(6, 2)))
        assert report.ok == (slip is None)
        assert [one.kind for row in report.findings for one in row.diagnoses] == kinds
        assert [one.given for one in report.findings].count("dz") == 3


def test_code_that_tensors_cannot_follow_is_checked_by_differences():
    def f(params, x, t):
        w = params["w"]
        out = np.random.default_rng(0).normal(size=len(x))
        out[:] = x @ w
        return np.mean((out - t) ** 2), {"w": scale * x.T @ (out - t) / len(x)}

    rng = np.random.default_rng(0)
    data = rng.normal(size=(6, 3)), rng.normal(size=6)
    for each, verdict in (2, "right"), (1, "wrong"):
        scale = each
        report = tg.check_backprop(f, {"w": rng.normal(size=3)}, *data)
        assert report["w"].verdict == verdict
        assert "out[:] = x @ w" in str(report)
        assert "finite differences" in str(report)


def test_a_backward_pass_that_tensors_cannot_follow_is_checked_line_by_line():
    def f(params, x, t):
        E = params["E"]
        z = E[x]
        loss = np.mean((z - t) ** 2)
        dz = (z - t) * factor / t.size
        dE = np.random.default_rng(0).normal(size=E.shape)
        dE[:] = 0
        dE[:] = np.add.reduceat(dz, [0, 1, 2]) * 0
        for i, row in zip(x, dz):
            dE[i] += row
        return loss, {"E": dE}

    rng = np.random.default_rng(0)
    data = np.array([0, 2, 2, 1]), rng.normal(size=(4, 3))
    for each, verdicts in (2, ["right", "right"]), (3, ["wrong", "follows"]):
        factor = each
        report = tg.check_backprop(f, {"E": rng.normal(size=(3, 3))}, *data)
        assert [one.verdict for one in report.findings] == verdicts
        assert report["E"].place.endswith("dE[i] += row")
        assert "np.add.reduceat: no derivative is known" in str(report)
    assert report["z"].diagnoses[0].kind == "factor"


def test_a_path_lost_in_recording_is_noticed():
    def f(params, x):
        w = params["w"]
        loss = np.sum(x * w) + float(np.sum(w * w))
        return loss, {"w": x + 2 * w}

    report = tg.check_backprop(f, {"w": np.arange(3.0)}, np.ones(3))
    assert report["w"].verdict == "right"
    assert "some step leaves the tensors" in str(report)


def test_a_kink_is_a_convention():
    def f(params, x):
        z = x * params["w"]
        h = np.maximum(z, 0)
        dz = 1.0 * (z >= 0)
        return np.sum(h), {"w": x * dz}

    report = tg.check_backprop(f, {"w": np.array([0.0, 1.0, -1.0])}, np.ones(3))
    assert report["z"].verdict == "kink"
    assert report.ok


def test_a_missing_gradient_and_one_that_matches_nothing():
    def f(params, x):
        loss = np.sum((x * params["a"] + params["b"]) ** 2)
        return loss, {"a": 2 * x * (x * params["a"] + params["b"]), "other": x}

    report = tg.check_backprop(f, {"a": np.ones(3), "b": np.ones(3)}, np.arange(3.0))
    assert (report["a"].verdict, report["b"].verdict) == ("right", "missing")
    assert report.unmatched == ("other",)
    assert not report.ok
    assert report.first_wrong is None


def test_broadcasting_hides_no_shape():
    x = np.arange(6.0).reshape(3, 2)
    b = tg.Tensor(np.ones((1, 2)), requires_grad=True, name="b")
    loss = ((x + b) ** 2).sum()
    right = 2 * (x + 1)
    finding = tg.check_gradients(loss, {"db": right})["b"]
    assert finding.verdict == "shape"
    assert "sum over axis 0 (.sum(axis=0, keepdims=True))" in finding.note
    assert tg.check_gradients(loss, {"db": right.sum(axis=0)})["b"].verdict == "shape"
    assert tg.check_gradients(loss, {"db": right.sum(axis=0, keepdims=True)}).ok


def test_rounding_is_judged_by_the_dtype():
    x = np.random.default_rng(0).normal(size=(50, 3))
    w = tg.Tensor(np.ones(3), requires_grad=True, name="w")
    loss = ((x @ w) ** 2).mean()
    right = 2 * x.T @ (x @ w.data) / 50
    assert tg.check_gradients(loss, {"w": right.astype(np.float32)})["w"].verdict == "right"
    assert tg.check_gradients(loss, {"w": right * (1 + 1e-5)})["w"].verdict == "wrong"
    assert tg.check_gradients(loss, {"w": right * (1 + 1e-9)})["w"].verdict == "noise"


def test_a_clip_and_a_constant_in_the_logarithm():
    def f(params, x, t):
        z = x @ params["W"]
        p = np.clip(1 / (1 + np.exp(-z)), 1e-9, 1 - 1e-9)
        loss = -np.mean(t * np.log(p + 1e-8) + (1 - t) * np.log(1 - p + 1e-8))
        dz = (p - t) / len(x) * factor
        return loss, {"W": x.T @ dz}

    rng = np.random.default_rng(0)
    data = {"W": rng.normal(size=3)}, rng.normal(size=(8, 3)), np.arange(8) % 2.0
    factor = 1
    report = tg.check_backprop(f, *data)
    assert report.ok
    assert report["z"].verdict == "noise"
    factor = 1 + 1e-5
    report = tg.check_backprop(f, *data)
    assert (report["z"].verdict, report["W"].verdict) == ("wrong", "follows")


def test_a_gradient_that_cancels_to_nothing_is_not_accused():
    """A bias before a batch is centred: its gradient is rounding and nothing else."""
    x = np.random.default_rng(0).normal(size=20)
    b = tg.Tensor(0.3, requires_grad=True, name="b")
    z = x + b
    loss = ((z - z.mean()) ** 3).sum()
    assert tg.check_gradients(loss, {"b": np.array(3e-15)}).ok
    assert not tg.check_gradients(loss, {"b": np.array(3e-10)}).ok


def test_the_report_as_text_and_as_data():
    report = tg.check_backprop(written(ROWS, "tanh", ("h.T @ dz2", "z1.T @ dz2")), *problem())
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    assert "WRONG, first in the gradient of W2" in text
    assert "wrong_operand: dW2 is computed with z1 where h belongs" in text
    assert "should read  dW2 = h.T @ dz2" in text
    assert report["W2"].diagnoses[0].certain
    data = report.to_dict()
    assert (data["ok"], data["first_wrong"]) == (False, "W2")
    assert data["findings"][2]["diagnoses"][0]["kind"] == "wrong_operand"
    assert report["dW2"] is report["W2"]
    with pytest.raises(KeyError, match="'W7' is not among z2, b2"):
        report["W7"]


@pytest.mark.parametrize(("variable", "quantity"), [
    ("dW1", "W1"), ("d_W1", "W1"), ("grad_W1", "W1"), ("gW1", "W1"), ("W1_grad", "W1"),
    ("grads['W1']", "W1"), ("grads['dW1']", "W1"), ("delta2", "z2"), ("d_z2", "z2"),
    ("dL_dz2", "z2"), ("dLdz2", "z2"), ("dw1", "W1"), ("loss", None), ("data", None),
])  # fmt: skip
def test_names_of_gradients(variable, quantity):
    assert quantity_of(variable, ["W1", "z2"]) == quantity


def test_bad_input():
    w = tg.Tensor(np.ones(3), requires_grad=True, name="w")
    with pytest.raises(GradientError, match=r"check_gradients: .*scalar loss"):
        tg.check_gradients(w * 2, {"w": np.ones(3)})
    with pytest.raises(ArgumentError, match=r"check_gradients: .*gradients of w.*names=locals"):
        tg.check_gradients(w.sum(), {"q": np.ones(3)})
    with pytest.raises(ArgumentError, match=r"\(loss, grads\)"):
        tg.check_backprop(lambda p: p["w"].sum(), {"w": np.ones(3)})
    with pytest.raises(ArgumentError, match=r"params: floating-point arrays in a dict, list"):
        tg.check_backprop(lambda p: (0.0, p), {"w": np.ones(3, int)})
    rng = np.random.default_rng()
    with pytest.raises(ArgumentError, match=r"same loss every time"):
        tg.check_backprop(lambda p: (rng.normal(), p), {"w": np.ones(3)})


def test_the_parameters_are_not_changed():
    params, x, t = problem()
    before = {k: a.copy() for k, a in params.items()}
    tg.check_backprop(written(ROWS, "relu"), params, x, t)
    assert all(np.array_equal(params[k], before[k]) for k in params)


def test_the_published_mistakes(capsys, request):
    path = request.config.rootpath / "examples" / "published_mistakes.py"
    spec = importlib.util.spec_from_file_location("published_mistakes", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main()
    text = capsys.readouterr().out
    kinds = re.findall(r"(?m)^  (\w+): (?:perhaps )?(\w+): ", text)
    assert kinds == [
        ("W2", "stale_cache"), ("z1", "stale_cache"), ("W1", "stale_cache"),
        ("y", "other_loss"), ("y", "factor"), ("z2", "derivative_at_wrong_point"),
        ("b2", "mean_instead_of_sum"), ("b2", "extra_batch_mean"),
        ("b1", "mean_instead_of_sum"), ("b1", "extra_batch_mean"),
        ("p", "factor"), ("p", "missing_batch_mean"),
        ("z1", "derivative_all_ones"), ("z1", "missing_activation_derivative"),
        ("z2", "off_by_one"), ("W2", "factor"), ("b1", "factor"),
    ]  # fmt: skip
    assert "p is overwritten in place" in text
    assert "divided by 7000 whatever the size of the batch" in re.sub(r"\s+", " ", text)
    comment = path.read_text().partition("\n# Printed:\n#\n")[2]
    assert kinds == re.findall(r"(?m)^#   (\w+): (?:perhaps )?(\w+): ", comment)
