"""The text of expressions and VJPs, in the user's names."""

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np import Tensor
from tinygrad_np.drawing import draw


def on_edge(output, argument):
    """The formula and slope on the edge that leaves the tensor of that name."""
    graph = draw(output).graph
    (box,) = [box for box in graph.boxes if box.name == argument]
    (edge,) = [edge for edge in graph.edges if edge.tail == box.id]
    return edge.formula, edge.slope


def leaf(name, *shape):
    return Tensor(np.full(shape, 0.5), requires_grad=True, name=name)


@pytest.mark.parametrize(
    ("output", "argument", "formula"),
    [
        (leaf("x", 2, 4) @ leaf("W", 4, 3), "x", "g @ W.T"),
        (leaf("x", 2, 4) @ leaf("W", 4, 3), "W", "x.T @ g"),
        (leaf("z", 2, 3) + leaf("b", 3), "b", "np.sum(g, axis=0)"),
        (leaf("z", 2, 3) + leaf("b", 2, 1), "b", "np.reshape(np.sum(g, axis=1), (2, 1))"),
        (leaf("a", 2) - leaf("b", 2), "b", "-g"),
        (leaf("a", 2) / leaf("b", 2), "a", "g / b"),
        (leaf("a", 2) / leaf("b", 2), "b", "-g * v1 / b"),
        (leaf("a", 2) ** 3, "a", "g * (3 * a ** 2)"),
        (np.tanh(leaf("z", 2)), "z", "g * (1 - v1 * v1)"),
        (tg.relu(leaf("z", 2)), "z", "g * (z > 0)"),
        (leaf("z", 2, 3).sum(), "z", "np.broadcast_to(g, (2, 3))"),
        (leaf("z", 2, 3).mean(), "z", "np.broadcast_to(g / 6, (2, 3))"),
        (tg.softmax_cross_entropy(leaf("z", 2, 3), [0, 2]), "z", "(p - onehot(c1, 3)) * (g / 2)"),
        (np.concatenate([leaf("a", 2), leaf("b", 3)]), "b", "g[2:5]"),
    ],
)
def test_the_vjp_is_written_as_on_paper(output, argument, formula):
    assert on_edge(output, argument)[0] == formula


def test_between_scalars_there_is_the_local_derivative_as_a_number():
    a, b = leaf("a"), Tensor(-3.0, requires_grad=True, name="b")
    assert on_edge(a * b, "a") == ("g * b", -3.0)
    assert on_edge(a / b, "b") == ("-g * v1 / b", pytest.approx(-0.5 / 9))
    assert on_edge(leaf("x", 2) * b, "b")[1] is None


def test_residuals_are_explained():
    output = tg.softmax_cross_entropy(leaf("z", 2, 3), [0, 2])
    assert draw(output).graph.boxes[-1].residuals == ("p = softmax(z, axis=1)",)


def test_names_that_are_no_identifiers_stay_as_they_are():
    output = leaf("x", 2, 4) @ leaf("0.W", 4, 3)
    assert on_edge(output, "x")[0] == "g @ 0.W.T"
    assert draw(output).graph.boxes[-1].expression == "x @ 0.W"


def test_a_formula_that_only_arrays_can_run_is_shown_as_a_call():
    @tg.primitive("cube({x})")
    def cube(x):
        return x**3

    def only_arrays(g, x):
        return np.asarray(g.tobytes() and g * 3 * x**2)

    cube.vjp(x=only_arrays)
    assert on_edge(cube(leaf("x", 2)), "x") == ("cube.vjp.x(g, x)", None)


def test_text_that_is_not_python_is_shown_as_it_is():
    @tg.primitive("|{x}|")
    def bars(x):
        return np.abs(x)

    bars.vjp(x=lambda g, x: g * np.sign(x))
    assert draw(bars(leaf("0.x", 2))).graph.boxes[-1].expression == "|0.x|"


def test_formulas_are_run_on_symbols_and_record_nothing():
    seen = []
    x = leaf("x", 2)
    y = np.tanh(x)
    from tinygrad_np.core import mode

    with mode(watchers=(seen.append,)):
        draw(y)
    assert seen == []
