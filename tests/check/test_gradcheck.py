"""gradcheck: right functions are never accused, each planted mistake is found and read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tests.engine.test_matrix import DIFFERENTIABLE, calls
from tinygrad_np.check.numerical import Line, Point
from tinygrad_np.check.reading import axis_reading, ratio_reading
from tinygrad_np.errors import ArgumentError, DtypeError, GradientError

rng = np.random.default_rng(0)
x = rng.normal(size=(5, 4))
W = rng.normal(size=(4, 3))
b = rng.normal(size=3)
labels = np.array([0, 1, 2, 0, 1])


def network(x: Any, W: Any, b: Any) -> Any:
    return tg.softmax_cross_entropy(np.tanh(x @ W + b), labels)


def affine(**formulas: Any) -> Any:
    """``x @ W + b`` with the given VJPs in place of the right ones."""

    @tg.primitive("{x} @ {W} + {b}")
    def affine(x, W, b):
        return x @ W + b

    right = {"x": lambda g, W: g @ W.mT, "W": lambda g, x: x.mT @ g, "b": lambda g: g}
    return affine.vjp(**(right | formulas))


def elementwise(fn: Any, vjp: Any) -> Any:
    return tg.primitive(fn, "f({x})", name="f").vjp(x=vjp)


# --------------------------------------------------------------------------------------------------
# Right ones
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_no_operation_is_accused(name: str, dtype: Any) -> None:
    for call in calls(name)[:4]:
        if call.arrays:
            report = tg.gradcheck(lambda *xs: call(*xs), [a.astype(dtype) for a in call.arrays])
            assert not {row.verdict for row in report.rows} & {"wrong", "missing", "shape"}, report
            assert dtype == np.float32 or report.ok, report


def deep(x: Any, W: Any, b: Any) -> Any:
    for _ in range(6):
        x = tg.layer_norm(x + tg.gelu(x @ W @ W.T) + b[0], axis=1)
    return (x * x).mean() + tg.logsumexp(x)


PROGRAMS: dict[str, Any] = {
    "network": network,
    "deep": deep,
    "two outputs": lambda x, W, b: (np.sin(x @ W), [x.sum(axis=0) * 3]),
    "dict of outputs": lambda x, W, b: {"a": np.exp(b) @ W.T, "n": 3, "none": None},
    "written in place": lambda x, W, b: written(x, b),
    "attention": lambda x, W, b: tg.scaled_dot_product_attention(x, x, x @ W @ W.T, causal=True),
    "no dependence": lambda x, W, b: x.sum() * 2.0,
    "zero slope": lambda x, W, b: tg.softmax(x @ W + b).sum(),
    "checkpointed": lambda x, W, b: tg.checkpoint(network)(x, W, b),
    "gradient inside": lambda x, W, b: tg.grad(lambda w: network(x, w, b))(W),
}


def written(x: Any, b: Any) -> Any:
    y = x * 1.0
    y[1:3, :3] += b
    y[0] = b.sum()
    return y * y


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", PROGRAMS)
def test_right_programs_are_right_to_the_second_order(name: str, dtype: Any) -> None:
    order = 1 if name in ("checkpointed", "gradient inside") else 2
    report = tg.gradcheck(PROGRAMS[name], [a.astype(dtype) for a in (x, W, b)], order=order)
    verdicts = {row.verdict for row in report.rows}
    if dtype == np.float64:
        assert verdicts == {"right"}, report
    else:  # six normalizations leave a gradient of 1e-4 beside rounding of 1e-5
        assert verdicts <= ({"right", "noise"} if name == "deep" else {"right"}), report


def test_the_numbers_are_those_of_the_formula() -> None:
    a = np.array([0.5, -2.0])
    row = tg.gradcheck(lambda a: (a**3).sum(), [a], method="central")["a"]
    assert row.method == "central"
    assert row.index is not None
    assert row.numerical == pytest.approx(3 * a[row.index] ** 2, rel=1e-9)
    assert row.recorded == pytest.approx(3 * a[row.index] ** 2, rel=1e-15)
    second = tg.gradcheck(lambda a: (a**3).sum(), [a], order=2).rows[1]
    g = second.recorded / (6 * a[second.index])  # the random cotangent of the gradient
    assert 0.5 <= abs(g) <= 1.5
    assert second.numerical == pytest.approx(second.recorded, rel=1e-8)


def test_mixed_magnitudes_are_no_trouble() -> None:
    wide = np.array([1e-9, 1e-3, 1.0, 1e6])
    for f in (np.log, np.sqrt, lambda a: a**3, lambda a: 1 / a, lambda a: np.tanh(a * 1e-6)):
        for method in ("central", None):
            assert tg.gradcheck(f, [wide], method=method), tg.gradcheck(f, [wide], method=method)


# --------------------------------------------------------------------------------------------------
# Planted mistakes
# --------------------------------------------------------------------------------------------------

MISTAKES = {
    "sign": ("x", lambda g, W: -(g @ W.mT), "sign", "opposite sign"),
    "factor 2": ("x", lambda g, W: 2 * (g @ W.mT), "factor", "factor 2"),
    "factor 0.5": ("b", lambda g: g / 2, "factor", "times 0.5"),
    "factor": ("W", lambda g, x: 1.7 * (x.mT @ g), "factor", "times 1.7"),
    "averaged": ("W", lambda g, x: x.mT @ g / 5, "extra_batch_mean",
                 "5 times too small, 5 being the length of axis 0 of x"),
    "bias averaged": ("b", lambda g: g.mean(axis=0), "extra_batch_mean", "5 times too small"),
    "summed": ("W", lambda g, x: x.mT @ g * 5, "missing_batch_mean", "summed, not averaged"),
    "zero": ("W", lambda g, x: x.mT @ g * 0, "missing_path", "path through this argument"),
    "not a number": ("W", lambda g, x: x.mT @ g * np.nan, "not_finite", "not finite"),
    "over an axis": ("W", lambda g, x: np.broadcast_to((x.mT @ g).sum(axis=1, keepdims=True), (4, 3)),
                     "wrong_axis_sum", "summed over axis 1"),
    "mean over an axis": ("W", lambda g, x: np.broadcast_to((x.mT @ g).mean(axis=0), (4, 3)),
                          "wrong_axis_sum", "averaged over axis 0"),
    "reversed": ("W", lambda g, x: (x.mT @ g)[::-1], "wrong_operand", "reverse along axis 0"),
    "an added term": ("W", lambda g, x: x.mT @ g + 0.1 * np.cos(np.arange(3)), "", "term by term"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found_and_read(mistake: str, dtype: Any) -> None:
    argument, formula, kind, text = MISTAKES[mistake]
    report = tg.gradcheck(affine(**{argument: formula}), [a.astype(dtype) for a in (x, W, b)])
    assert {row.name for row in report.rows if not row.ok} == {argument}, report
    row = report[argument]
    assert (row.verdict, row.kind) == ("wrong", kind), report
    assert row.method == "complex"
    assert text in row.reading
    assert text.split()[0] in str(report)
    with pytest.raises(GradientError, match=f"NOT OK: {argument}"):
        report.raise_if_wrong()


def test_the_worst_element_is_shown_with_both_numbers() -> None:
    def formula(g: Any, x: Any) -> Any:
        d = (x.mT @ g).copy()
        d[2, 1] *= -1
        return d

    row = tg.gradcheck(affine(W=formula), [x, W, b])["W"]
    assert row.index == (2, 1)
    assert row.recorded == pytest.approx(-row.numerical, rel=1e-9)
    assert row.counts == {"right": 11, "wrong": 1, "kink": 0, "noise": 0}
    assert row.kind == "sign"
    assert row.error == pytest.approx(2)


def test_a_transpose_is_read() -> None:
    square = rng.normal(size=(4, 4))
    wrong = tg.primitive(lambda A, v: v @ A, "{v} @ {A}", name="turn").vjp(
        A=lambda g, v: g.mT @ v, v=lambda g, A: g @ A.mT
    )
    row = tg.gradcheck(wrong, {"A": square, "v": x})["A"]
    assert (row.verdict, row.kind) == ("wrong", "transpose")


def test_a_small_mistake_is_no_rounding() -> None:
    for off, dtype in ((1e-8, np.float64), (3e-3, np.float32)):
        for method in ("central", "complex"):
            wrong = affine(W=lambda g, x: (x.mT @ g) * (1 + off))
            report = tg.gradcheck(wrong, [a.astype(dtype) for a in (x, W, b)], method=method)
            assert report["W"].verdict == "wrong", report


def test_a_gradient_that_is_no_number_is_wrong_where_the_slope_is_0() -> None:
    row = tg.gradcheck(elementwise(lambda x: x * 0.0, lambda g: g * np.nan), [b]).rows[0]
    assert (row.verdict, row.kind) == ("wrong", "not_finite")


def test_a_tiny_element_takes_the_steps_of_the_others() -> None:
    tiny = np.array([1e-15, 1.0])
    assert tg.gradcheck(np.exp, [tiny], method="central").rows[0].counts["right"] == 2
    wrong = elementwise(np.exp, lambda g, y: 2 * g * y)
    assert tg.gradcheck(wrong, [tiny], method="central").rows[0].counts["wrong"] == 2


def test_readings_of_nothing_and_of_what_adds_up_to_nothing() -> None:
    none = np.zeros(0)
    assert ratio_reading(none, none, none, {}) == ("", "")
    balanced, near = np.array([[1.0, -1.0], [2.0, -2.0]]), np.full((2, 2), 1e-9)
    assert axis_reading(np.zeros((2, 2)), balanced, near) == ("", "")
    assert ratio_reading(np.zeros(4), balanced.ravel(), near.ravel(), {})[0] == "missing_path"


def test_a_term_on_which_nothing_depends_is_read() -> None:
    f = tg.primitive(lambda a, b: a * 1.0, "{a}", name="first").vjp(a=lambda g: g, b=lambda g: g)
    assert tg.gradcheck(f, [x, x])["b"].kind == "extra_term"


def test_what_was_detached_is_missing() -> None:
    report = tg.gradcheck(lambda x, W: (x.data @ W).sum(), [x, W])
    assert report["x"].verdict == "missing"
    assert report["x"].kind == "detached"
    assert report["W"].verdict == "right"
    assert not report
    assert tg.gradcheck(lambda x: float((x.data**2).sum()), [x])["x"].verdict == "missing"


@pytest.mark.parametrize("formula", [
    lambda g, W: (g @ W.mT).mean(axis=0),
    lambda g, W: (g @ W.mT)[:3],
    lambda g, W: g @ W,
], ids=["reduced", "cut", "not multiplied"])  # fmt: skip
def test_a_gradient_of_another_shape_is_a_mistake(formula: Any) -> None:
    report = tg.gradcheck(affine(x=formula), [x, W, b], order=2)
    assert {row.name: row.verdict for row in report.rows} == {
        "x": "shape",
        "W": "right",
        "b": "right",
    }
    assert "affine" in report["x"].reading
    assert "shape" in report["x"].reading
    assert "SHAPE" in str(report)
    assert not report.ok


def test_a_twin_that_is_not_its_formula_is_found() -> None:
    f = affine().arrays(b=lambda g: g * 2)
    row = tg.gradcheck(f, [x, W, b])["b"]
    assert (row.verdict, row.kind) == ("wrong", "twin")


def test_a_formula_without_its_cotangent_is_found_on_a_scalar_too() -> None:
    total = tg.primitive(lambda x: np.asarray(x.sum()), "total({x})", name="total")
    row = tg.gradcheck(total.vjp(x=lambda g, x: np.ones(x.shape)), [b]).rows[0]
    assert (row.verdict, row.kind) == ("wrong", "missing_cotangent")
    assert tg.gradcheck(total.vjp(x=lambda g, x: g * np.ones(x.shape)), [b]).ok


def test_the_second_order_finds_what_the_first_cannot() -> None:
    """A formula right in numbers, in which the input or the cotangent is not recorded."""
    constant = elementwise(np.exp, lambda g, y: g * (y.data if isinstance(y, tg.Tensor) else y))
    report = tg.gradcheck(constant, [x], order=2)
    assert [(row.name, row.order, row.verdict) for row in report.rows] == [
        ("x", 1, "right"), ("x", 2, "missing"), ("g", 2, "right"),
    ]  # fmt: skip
    cut = elementwise(np.exp, lambda g, y: y * (g.data if isinstance(g, tg.Tensor) else g))
    assert [row.verdict for row in tg.gradcheck(cut, [x], order=2).rows] == [
        "right",
        "right",
        "missing",
    ]


# --------------------------------------------------------------------------------------------------
# Kinks, rounding, methods
# --------------------------------------------------------------------------------------------------

KINKED = {
    "relu": tg.relu,
    "relu with slope 1": elementwise(lambda x: np.maximum(x, 0), lambda g, x: g * (x >= 0)),
    "absolute": np.abs,
    "floor": np.floor,
    "sign": np.sign,
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", KINKED)
def test_a_kink_is_no_mistake(name: str, dtype: Any) -> None:
    report = tg.gradcheck(KINKED[name], [np.array([-1.3, 0.0, 2.4], dtype)])
    row = report.rows[0]
    assert row.verdict == "kink"
    assert row.kinks == ((1,),)
    assert row.counts == {"right": 2, "kink": 1, "noise": 0, "wrong": 0}
    assert report.ok
    assert "[1]" in str(report)


def test_beside_a_kink_a_mistake_is_still_one() -> None:
    wrong = elementwise(lambda x: np.maximum(x, 0), lambda g, x: g * (x > -1))
    row = tg.gradcheck(wrong, [np.array([-0.5, 0.0, 2.0, 1e-4])]).rows[0]
    assert row.verdict == "wrong"
    assert row.index == (0,)
    assert row.kinks == ((1,),)
    close = tg.gradcheck(tg.relu, [np.array([1e-4, -1e-4])]).rows[0]
    assert close.verdict == "right"


def test_at_the_edge_of_the_domain_there_is_a_kink() -> None:
    with np.errstate(divide="ignore"):
        report = tg.gradcheck(np.sqrt, [np.array([0.0, 4.0])])
    assert report.rows[0].verdict == "kink"
    assert report.rows[0].kinks == ((0,),)
    assert "not analytic" in report.rows[0].note


def test_what_rounding_hides_is_not_called_right() -> None:
    cancelling = elementwise(lambda x: (x + 1e12) - 1e12, lambda g: g)
    report = tg.gradcheck(cancelling, [b], method="central")
    assert report.rows[0].verdict == "noise"
    assert not report.ok
    assert "rounding hides" in str(report)
    for dtype, powers in ((np.float64, 14), (np.float32, 7)):  # beyond, f stands still at all steps
        for power in range(powers):
            f = lambda x: (x + dtype(10**power)) - dtype(10**power)
            assert tg.gradcheck(f, [b.astype(dtype)], method="central")["x"].verdict != "wrong"


def test_the_sweep_finds_the_best_step_and_its_error() -> None:
    x = np.array([1.0])
    point = Point(lambda arrays: [np.exp(arrays[0])], [x], [np.exp(x)], [np.ones(1)])
    for recorded in (0.0, np.e, 1e3):
        measured = Line(point, 0, np.ones(1), np.array([recorded]), 1.0).sweep()
        error = abs(measured.numerical - np.e)
        assert error < 2e-11
        assert error < measured.uncertainty < 1e-8 * max(1.0, recorded)
        assert measured.verdict == ("right" if recorded == np.e else "wrong")


def test_the_method_used_is_said_and_the_reason() -> None:
    assert tg.gradcheck(network, [x, W, b])["W"].method == "complex"
    report = tg.gradcheck(lambda a: np.abs(a).sum(), [b])
    assert report["a"].method == "central"
    assert "not analytic" in report["a"].note
    assert "a: central differences, not the complex step" in str(report)
    refused = tg.gradcheck(lambda a: np.logaddexp(a, 1.0), [b])["a"]
    assert "does not take complex arrays" in refused.note
    assert "another branch on the other side" in tg.gradcheck(tg.relu, [np.zeros(1)]).rows[0].note
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy only warns of an imaginary part that it drops
        real = tg.gradcheck(lambda a: tg.astype(a, np.float64), [b])["a"]
    assert real.method == "central"
    assert "discards the imaginary part" in real.note
    with pytest.raises(ArgumentError, match="'complex' cannot be used for a: f is not analytic"):
        tg.gradcheck(lambda a: np.abs(a).sum(), [b], method="complex")


def test_a_big_input_is_examined_along_directions() -> None:
    big = rng.normal(size=(60, 500))
    row = tg.gradcheck(lambda A: np.tanh(A).sum(), [big])["A"]
    assert row.method == "complex x16"
    assert (row.verdict, row.counts["right"]) == ("right", 16)

    def formula(g: Any, y: Any) -> Any:
        d = g * (1 - y * y)
        d[41, 137] *= 2
        return d

    for method in ("central", "complex"):
        row = tg.gradcheck(elementwise(np.tanh, formula), [big], method=method).rows[0]
        assert row.verdict == "wrong"
        assert row.index == (41, 137)
        assert row.recorded == pytest.approx(2 * row.numerical, rel=1e-6)
    averaged = tg.gradcheck(elementwise(np.tanh, lambda g, y: g * (1 - y * y) / 500), [big]).rows[0]
    assert averaged.kind == "extra_batch_mean"
    assert tg.gradcheck(np.tanh, [b], directions=3).rows[0].counts["right"] == 3


# --------------------------------------------------------------------------------------------------
# Arguments and the report
# --------------------------------------------------------------------------------------------------


def test_a_primitive_with_parameters_is_checked_in_one_call() -> None:
    @tg.primitive("scaled({x}, {power})")
    def scaled(x, *, power=2.0):
        return x**power

    scaled = scaled.vjp(x=lambda g, x, power: g * power * x ** (power - 1))
    report = tg.gradcheck(scaled, {"x": np.abs(x) + 0.5, "power": 3.0}, order=2)
    assert report.ok
    assert [row.name for row in report.rows] == ["x", "x", "g"]
    variadic = tg.primitive(lambda *xs: sum(xs), "sum({xs})", name="total").vjp(xs=lambda g, i: g)
    assert [row.name for row in tg.gradcheck(variadic, [x, x]).rows] == ["inputs[0]", "inputs[1]"]


def test_nests_names_and_constants() -> None:
    params = {"W": tg.Tensor(W, name="weights"), "layers": [b, (b, labels)]}
    report = tg.gradcheck(
        lambda p, t: (x @ p["W"] + p["layers"][0] * p["layers"][1][0]).sum() * t, [params, 2]
    )
    assert [row.name for row in report.rows] == ["weights", "p['layers'][0]", "p['layers'][1][0]"]
    assert report.ok
    with pytest.raises(KeyError, match="among the arguments weights"):
        report["W"]


def test_the_report_fits_a_terminal() -> None:
    long = {
        f"a_rather_long_parameter_name_{i}": rng.normal(size=(1, 2, 1, 2, 1, 2, 1))
        for i in range(2)
    }
    for report in (
        tg.gradcheck(lambda p: np.abs(sum(p.values())).sum() * -1e-300, [long]),
        tg.gradcheck(affine(x=lambda g, W: -(g @ W.mT), W=lambda g: g), [x, W, b], order=2),
        tg.gradcheck(np.tanh, [rng.normal(size=(60, 50))], order=2),
    ):
        assert max(map(len, str(report).splitlines())) <= 80, report
    assert str(tg.gradcheck(np.tanh, [b])).startswith("gradcheck: ok")


def test_empty_arrays_are_right() -> None:
    assert tg.gradcheck(lambda x: x.sum(), [np.zeros((0, 3))]).ok


def test_hooks_and_gradients_of_the_user_are_left_alone() -> None:
    kept = tg.Tensor(W, requires_grad=True)
    before = W.copy()
    assert tg.gradcheck(lambda x, V: (x @ V @ kept.T).sum(), [x, kept]).ok
    assert kept.grad is None
    np.testing.assert_array_equal(kept.data, before)


def test_a_random_function_is_refused() -> None:
    with pytest.raises(GradientError, match="two evaluations of f at the same inputs differ"):
        tg.gradcheck(lambda x: x * rng.random(), [x])


@pytest.mark.parametrize(("f", "inputs", "options", "error", "text"), [
    (np.tanh, x, {}, DtypeError, r"Write gradcheck\(f, \[x\]\)"),
    (np.tanh, [np.array([1, 2])], {}, DtypeError, r"int64.*Give floats"),
    (np.tanh, [], {}, DtypeError, "got none"),
    (lambda x: x > 0, [x], {}, DtypeError, "returns floating-point"),
    (np.tanh, [x], {"order": 0}, ArgumentError, "order 1 or more"),
    (np.tanh, [x], {"method": "forward"}, ArgumentError, "'forward'"),
])  # fmt: skip
def test_bad_arguments_are_refused(
    f: Any, inputs: Any, options: Any, error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        tg.gradcheck(f, inputs, **options)


def test_chosen_directions():
    def f(x, y):
        return np.sum(broken(x) * y)

    @tg.primitive("{x} ** 2", name="broken")
    def broken(x):
        return x**2

    broken.vjp(x=lambda g, x: g * np.where(np.arange(6) == 4, 3, 2) * x)
    inputs = {"x": np.arange(1.0, 7.0), "y": np.ones(6)}
    e = np.eye(6)
    report = tg.gradcheck(f, inputs, directions={"x": [e[0], e[1] + e[2]]})
    assert report.ok
    assert "x2" in report["x"].method
    report = tg.gradcheck(f, inputs, directions={"x": [e[0], e[3] + e[4]]})
    assert (report["x"].verdict, report["x"].index) == ("wrong", (4,))
    assert report["y"].verdict == "right"
    with pytest.raises(ArgumentError, match="directions of x, y, got 'z'"):
        tg.gradcheck(f, inputs, directions={"z": [e[0]]})
    with pytest.raises(ArgumentError, match=r"directions of shape \(6,\) for x"):
        tg.gradcheck(f, inputs, directions={"x": [np.ones(3)]})
