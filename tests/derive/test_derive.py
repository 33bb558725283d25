"""Names, conditions, mathematics, the comparison with another's backprop, and errors."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, DtypeError, GradientError

from .test_golden import body, mlp, mlp_inputs, parameter

DOCS = Path(__file__).parents[2] / "docs"
r = np.random.default_rng(1)


def page() -> Any:
    spec = importlib.util.spec_from_file_location("docs_derive", DOCS / "derive.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_published_networks_is_up_to_date() -> None:
    assert (DOCS / "derive.md").read_text() == page().page(), "run: python docs/derive.py"


def test_the_published_networks_compute_what_the_engine_computes() -> None:
    module = page()
    for network in module.NETWORKS.values():
        d = module.derivation(network)
        value, grads = d.function(**d.arguments)
        tensors = {
            name: tg.Tensor(array, requires_grad=name[0] in "Wb")
            for name, array in d.arguments.items()
        }
        loss = network["f"](*tensors.values())
        loss.backward()
        np.testing.assert_allclose(value, loss.data, rtol=1e-12)
        for name, g in grads.items():
            np.testing.assert_allclose(g, tensors[name].grad, rtol=1e-9, atol=1e-13)


# -- names -----------------------------------------------------------------------------------------


def test_names_come_from_called_functions_too() -> None:
    def layer(v, W):
        pre = v @ W
        return np.tanh(pre)

    def f(x, W1, W2):
        out = layer(layer(x, W1), W2)
        return out.sum()

    d = tg.derive(f, r.normal(size=(5, 3)), parameter(3, 4), parameter(4, 2))
    lines = body(d).split("\n")
    assert lines[0] == "pre1 = x @ W1"
    assert "out = np.tanh(pre2)" in lines
    assert "dpre2 = 1 - out**2" in lines


def test_an_explicit_name_comes_before_the_variable() -> None:
    w = tg.Tensor([1.0, 2.0], requires_grad=True, name="weights")

    def f(w):
        return (w * w).sum()

    assert body(tg.derive(f, w)).split("\n")[-1] == 'return loss, {"weights": dweights}'


def test_captured_tensors_become_arguments() -> None:
    W = parameter(3, 2)
    scale = np.array([[0.5, 1.5]])

    def f(x):
        return (x @ W * scale).sum()

    x = r.normal(size=(4, 3))
    d = tg.derive(f, x)
    assert list(d.arguments) == ["x", "W", "scale"]
    np.testing.assert_allclose(
        d.function(x, W.data, scale)[1]["W"], x.T @ np.repeat(scale, 4, axis=0)
    )


def test_names_that_python_or_the_program_needs_are_not_taken() -> None:
    def f(N, np_):
        return (N * np_).mean(axis=0).sum()

    d = tg.derive(f, r.normal(size=(4, 3)), r.normal(size=(4, 3)))
    assert "n = N.shape[0]" in d.source
    d.function(**d.arguments)
    p = tg.Tensor([1.0, 2.0], requires_grad=True, name="lambda")
    assert list(tg.derive((p * p).sum()).arguments) == ["lambda_"]


def test_nests_of_arguments_are_taken_apart() -> None:
    def f(params, x):
        return (x @ params["W"] + params["b"]).sum()

    d = tg.derive(f, {"W": np.ones((3, 2)), "b": np.zeros(2)}, np.ones((5, 3)), wrt=["W", "b"])
    assert list(d.arguments) == ["W", "b", "x"]


# -- conditions ------------------------------------------------------------------------------------


def test_a_branch_is_recorded_as_taken_and_asserted() -> None:
    def f(x):
        s = x.sum()
        if s > 0:
            return s * s
        return -s

    d = tg.derive(f, np.array([1.0, 2.0]))
    assert "assert s > 0  # the branch that was recorded" in d.source
    d.function(np.array([2.0, 2.0]))
    with pytest.raises(AssertionError):
        d.function(np.array([-2.0, 1.0]))
    other = tg.derive(f, np.array([-1.0, 0.0]))
    assert "assert not (s > 0)" in other.source
    with pytest.raises(AssertionError):
        other.function(np.array([2.0, 2.0]))


def test_a_loop_is_unrolled_as_often_as_it_ran() -> None:
    def f(x):
        while (x**2).sum() > 1:
            x = x / 2
        return x.sum()

    d = tg.derive(f, np.array([3.0, 0.0]))
    assert d.source.count("assert ") == 3
    assert d.function(np.array([3.0, 0.0]))[1]["x"].tolist() == [0.25, 0.25]


def test_a_number_that_python_read_is_noted() -> None:
    def f(x):
        top = x.max()
        return (x / top.item()).sum()

    d = tg.derive(f, np.array([1.0, 4.0]))
    assert "# Python read top as 4.0 when this was recorded." in d.source


# -- what else is printed --------------------------------------------------------------------------


def test_comments_say_which_forward_line_a_gradient_comes_from() -> None:
    lines = tg.derive(mlp, *mlp_inputs(), comments=True).source.split("\n")
    at = lines.index("    # z2 = h @ W2 + b2")
    assert lines[at + 1] == "    dW2 = h.T @ dz2"
    assert lines[lines.index("    # h = np.maximum(z1, 0)") + 1] == "    dz1 = dh * (z1 > 0)"


def test_text_sets_gradients_beside_their_forward_lines() -> None:
    text = tg.derive(mlp, *mlp_inputs()).text.split("\n")
    assert re.fullmatch(r"h = np.maximum\(z1, 0\) +dz1 = dh \* \(z1 > 0\)", text[4])
    assert re.fullmatch(r"z1 = x @ W1 \+ b1 +dW1 = x.T @ dz1", text[2])


def test_latex_is_balanced_and_has_shapes() -> None:
    def strange(x, w_long_name, alpha):
        v = np.where(x > alpha, x[:, ::-1], np.abs(x)) ** 2
        return np.sqrt(v.sum(axis=1)).max() / (alpha - (v - w_long_name).mean())

    for d in [
        tg.derive(mlp, *mlp_inputs()),
        tg.derive(strange, r.normal(size=(4, 3)), r.normal(size=(4, 3)), 0.25),
    ]:
        for text in (d.latex, d.markdown):
            assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
            assert text.count(r"\left") == text.count(r"\right")
            assert text.count("$") % 2 == 0
        assert d.latex.startswith(r"\begin{aligned}")
        for row in d.markdown.split("\n"):
            assert row.count("|") in (0, 3)
    mathematics = tg.derive(mlp, *mlp_inputs())
    assert (
        r"\mathrm{d}z_{1} &= \mathrm{d}h \odot \left[z_{1} > 0\right] && \in \mathbb{R}^{N \times 5}"
        in (mathematics.latex)
    )
    assert (
        r"\mathrm{d}z_{2} &= \frac{p - \operatorname{onehot}\left(t\right)}{N}" in mathematics.latex
    )
    assert mathematics._repr_markdown_() == mathematics.markdown
    assert r"t \in \mathbb{Z}^{N}" in mathematics.markdown


def test_a_result_that_is_no_number_takes_its_cotangent() -> None:
    d = tg.derive(lambda x: np.exp(x), np.array([0.0, 1.0]))
    assert list(d.arguments) == ["x", "dy"]
    assert d.function(np.zeros(2), np.array([3.0, 4.0]))[1]["x"].tolist() == [3.0, 4.0]


def test_an_operation_of_the_users_own_brings_its_function() -> None:
    def cubed(x):
        """Three times."""
        return x**3

    cube = tg.primitive(cubed).vjp(x=lambda g, x: g * 3 * x**2)
    d = tg.derive(lambda x: cube(x).sum(), np.array([1.0, 2.0]))
    tg.core.REGISTRY.pop()
    assert "def cubed(x):\n    return x**3" in d.source.replace(" ** ", "**")
    assert d.function(np.array([1.0, 2.0]))[1]["x"].tolist() == [3.0, 12.0]


def test_dropout_takes_its_mask_as_an_argument() -> None:
    rng = np.random.default_rng(0)
    d = tg.derive(lambda x: tg.dropout(x, 0.5, rng=rng).sum(), np.ones((4, 3)))
    assert list(d.arguments) == ["x", "mask"]
    assert np.array_equal(d.function(**d.arguments)[1]["x"], d.arguments["mask"])


def test_a_gradient_that_a_variable_does_not_get_is_zero() -> None:
    d = tg.derive(lambda x, w: (x * 2).sum() + 0 * w.sum(), np.ones(2), np.ones(3))
    assert d.function(np.ones(2), np.ones(3))[1]["w"].tolist() == [0.0, 0.0, 0.0]
    unused = tg.derive(lambda x, w: (x * 2).sum(), np.ones(2), np.ones(3))
    assert unused.function(np.ones(2), np.ones(3))[1]["w"].tolist() == [0.0, 0.0, 0.0]


def test_hooks_are_part_of_the_backward_pass() -> None:
    x = tg.Tensor([1.0, 2.0], requires_grad=True, name="x")
    y = x * x
    y.register_hook(lambda g: g * 10)
    y.retain_grad()
    d = tg.derive(y.sum())
    assert d.function(x.data)[1]["x"].tolist() == [20.0, 40.0]
    assert y.grad is None


def test_a_chain_of_more_operations_than_python_nests_calls() -> None:
    x = tg.Tensor(np.full(3, 0.5), requires_grad=True, name="x")
    y = x
    for _ in range(1200):
        y = np.sin(y)
    d = tg.derive(y.sum())
    y.sum().backward()
    np.testing.assert_allclose(d.function(x.data)[1]["x"], x.grad)


# -- beside another's ------------------------------------------------------------------------------

RIGHT = """
def backprop(x, t, W1, b1, W2, b2):
    z1 = x @ W1 + b1
    h = np.where(z1 > 0, z1, 0)
    z2 = h @ W2 + b2
    e = np.exp(z2 - z2.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    dz2 = (p - np.eye(3)[t]) / len(t)
    dh = dz2 @ W2.T
    dz1 = np.where(z1 > 0, dh, 0)
    loss = -np.log(p[np.arange(len(t)), t]).mean()
    return loss, {"W1": x.T @ dz1, "b1": dz1.sum(0), "W2": h.T @ dz2, "b2": dz2.sum(0)}
"""


def test_diff_finds_the_right_one_right() -> None:
    difference = tg.derive(mlp, *mlp_inputs()).diff(RIGHT)
    assert difference.ok
    assert difference.first_wrong is None
    assert {row.verdict for row in difference.rows} == {"same"}
    assert difference["dz1"].theirs == "np.where(z1 > 0, dh, 0)"


def test_diff_names_the_first_quantity_that_differs() -> None:
    d = tg.derive(mlp, *mlp_inputs())
    wrong = d.diff(RIGHT.replace("np.where(z1 > 0, dh, 0)", "dh"))
    assert not wrong.ok
    assert wrong.first_wrong == "dz1"
    assert {row.name: row.verdict for row in wrong.rows}["dW2"] == "same"
    assert "dz1: differs" in str(wrong)
    shaped = d.diff(RIGHT.replace("dz1.sum(0)", "dz1"))
    assert shaped.first_wrong == "db1"
    assert shaped["db1"].verdict == "shape"


def test_diff_runs_functions_and_statements_and_leaves_arrays_alone() -> None:
    d = tg.derive(lambda x, w: (x * w).sum(), np.ones(3), tg.Tensor(np.arange(3.0), True))

    def theirs(x, w):
        dw = x
        x *= 2
        return dw

    assert d.diff(theirs).first_wrong == "dw"
    assert d.arguments["x"].tolist() == [1, 1, 1]
    assert d.diff("dw = x + 0").ok
    with pytest.raises(ArgumentError, match="a function of x, w, got parameters a"):
        d.diff(lambda a: a)


# -- errors ----------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    x = tg.Tensor([1.0], requires_grad=True)
    with pytest.raises(ArgumentError, match="order 1 or 2, got 3"):
        tg.derive(x.sum(), order=3)
    with pytest.raises(ArgumentError, match="a Tensor or a function, got float"):
        tg.derive(1.0)
    with pytest.raises(ArgumentError, match="a tensor and 1 more"):
        tg.derive(x.sum(), x)
    with pytest.raises(ArgumentError, match=r"wrt among a, b, got 'c'"):
        tg.derive(lambda a, b: (a * b).sum(), np.ones(2), np.ones(2), wrt="c")
    with pytest.raises(DtypeError, match="returns a Tensor"):
        tg.derive(lambda a: 3.0, np.ones(2))
    with pytest.raises(GradientError, match="needs no gradient"):
        tg.derive(tg.Tensor([1.0]) * 2)
    with pytest.raises(ArgumentError, match=r"Leave tg.checkpoint out"):
        _ = tg.derive(lambda a: tg.checkpoint(np.exp)(a).sum(), np.ones(2)).source


def test_nothing_is_left_behind() -> None:
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    tg.derive(loss)
    assert x.grad is None
    assert tg.core._active == 0
