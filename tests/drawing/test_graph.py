"""What a drawing says: boxes, edges, names, values, gradients, and that it changes nothing."""

import numpy as np
import pytest

import tinygrad_np as tg
from tests.drawing.conftest import chain
from tinygrad_np import Tensor
from tinygrad_np.drawing import draw
from tinygrad_np.errors import ArgumentError, DtypeError


def boxes(drawing):
    return {box.name: box for box in drawing.graph.boxes}


def edges(drawing):
    names = {box.id: box.name for box in drawing.graph.boxes}
    return [(names[edge.tail], names[edge.head]) for edge in drawing.graph.edges]


def test_a_perceptron_is_a_dozen_boxes(perceptron):
    drawing = draw(perceptron["loss"], names=perceptron)
    assert [(box.name, box.kind, box.operation) for box in drawing.graph.boxes] == [
        ("x", "input", ""),
        ("W1", "parameter", ""),
        ("b1", "parameter", ""),
        ("W2", "parameter", ""),
        ("b2", "parameter", ""),
        ("t", "input", ""),
        ("v1", "computed", "matmul"),
        ("v2", "computed", "add"),
        ("h", "computed", "tanh"),
        ("v3", "computed", "matmul"),
        ("z", "computed", "add"),
        ("loss", "computed", "softmax_cross_entropy"),
    ]
    assert edges(drawing) == [
        ("x", "v1"), ("W1", "v1"), ("v1", "v2"), ("b1", "v2"), ("v2", "h"), ("h", "v3"),
        ("W2", "v3"), ("v3", "z"), ("b2", "z"), ("z", "loss"), ("t", "loss"),
    ]  # fmt: skip
    flowing = {edges(drawing)[i] for i, edge in enumerate(drawing.graph.edges) if edge.flows}
    assert set(edges(drawing)) - flowing == {("x", "v1"), ("t", "loss")}
    assert boxes(drawing)["h"].expression == "np.tanh(v2)"
    assert (boxes(drawing)["W1"].shape, boxes(drawing)["W1"].dtype) == ((4, 8), "float64")


def test_a_tensor_used_twice_has_two_edges():
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    assert edges(draw(x * x)) == [("x", "v1"), ("x", "v1")]


def test_several_targets_share_a_picture():
    x = Tensor([1.0], requires_grad=True, name="x")
    assert [box.name for box in draw([x * 2, x + 1]).graph.boxes] == ["x", "2", "1", "v1", "v2"]


def test_names_come_from_the_dict_then_from_the_tensor_then_from_a_counter():
    x = Tensor([1.0], requires_grad=True, name="mine")
    layers = [x * 2]
    y = layers[0] * np.array([3.0])
    assert list(boxes(draw(y))) == ["mine", "2", "c1", "v1", "v2"]
    assert list(boxes(draw(y, names=locals()))) == ["x", "2", "c1", "layers[0]", "y"]


def test_values_a_number_a_small_array_and_a_summary():
    x = Tensor([[1.0, -2.5], [1e-7, 4.0]], requires_grad=True, name="x")
    w = Tensor(np.arange(100.0), requires_grad=True, name="w")
    s = Tensor(1 / 3, requires_grad=True, name="s")
    drawn = boxes(draw([x, w, s]))
    assert drawn["x"].value.lines == ("    1   -2.5", "1e-07      4")
    assert drawn["w"].value.lines == ("0 … 99  mean 49.5",)
    assert sum(drawn["w"].value.histogram) == 100
    assert drawn["s"].value.lines == ("0.3333",)


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        (np.full(50, 7.0), ("all 7",)),
        (np.linspace(7.0, 7.0001, 50), ("all near 7",)),
        (np.zeros((0, 3)), ("empty",)),
        (np.r_[np.nan, np.inf, np.arange(48.0)], ("2 of 50 not finite", "0 … 47  mean 23.5")),
        (np.full(50, np.nan), ("50 of 50 not finite",)),
        (np.arange(50) % 2 == 0, ("25 of 50 true",)),
        (np.r_[-1.7e308, np.zeros(48), 1.7e308], ("-1.7e+308 … 1.7e+308  mean 0",)),
        (np.r_[np.zeros(49), 5e-324], ("0 … 4.94e-324  mean 0",)),
        (np.array([2, 3]), ("2  3",)),
        (np.full(30, 3 + 4j), ("|.| all 5",)),
    ],
)
def test_summaries_are_true_for_every_kind_of_array(values, lines):
    (box,) = draw(Tensor(values)).graph.boxes
    assert box.value.lines == lines


def test_before_backward_no_gradient_is_shown(perceptron):
    drawn = boxes(draw(perceptron["loss"], names=perceptron))
    needing = {name for name, box in drawn.items() if box.gradient is not None}
    assert needing == set(drawn) - {"x", "t"}
    assert {drawn[name].gradient for name in needing} == {"no gradient yet"}


def test_after_backward_leaves_and_results_show_their_gradients():
    a = Tensor(2.0, requires_grad=True, name="a")
    b = Tensor(-3.0, requires_grad=True, name="b")
    c = a * b
    d = c * c
    d.backward()
    drawn = boxes(draw(d, names=locals()))
    gradients = {name: box.gradient.lines for name, box in drawn.items()}
    assert gradients == {"a": ("36",), "b": ("-24",), "c": ("-12",), "d": ("1",)}


def test_a_result_shows_no_gradient_that_does_not_belong_to_those_kept():
    x = Tensor(2.0, requires_grad=True, name="x")
    y = x * x
    z = y * y
    z.backward()
    z.backward()  # what x.grad holds now is twice the derivative
    drawn = boxes(draw(z, names=locals()))
    assert drawn["x"].gradient.lines == ("64",)
    assert drawn["y"].gradient == "gradient not kept"
    x.grad = np.array(32.0)
    assert boxes(draw(z, names=locals()))["y"].gradient.lines == ("8",)
    x.data = np.array(5.0)  # a step later the values are of another time
    assert boxes(draw(z, names=locals()))["y"].gradient == "gradient not kept"


def test_a_retained_gradient_is_shown():
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    y = x * 3
    y.retain_grad()
    (y * y).backward([1.0, 1.0])
    assert boxes(draw(y * y, names=locals()))["y"].gradient.lines == (" 6  12",)


@pytest.mark.parametrize("after", [False, True])
def test_drawing_changes_nothing(perceptron, after):
    loss = perceptron["loss"]
    perceptron["h"].retain_grad()
    if after:
        loss.backward()
    tensors = [value for value in perceptron.values() if isinstance(value, Tensor)]

    def state():
        return [
            (t.data.copy(), None if t.grad is None else t.grad.copy(), t.name, t.node.order)
            for t in tensors
        ]

    before = state()
    draw(loss, names=perceptron, around=perceptron["h"])
    draw(loss, names=perceptron, fold=True)
    for old, new in zip(before, state()):
        np.testing.assert_array_equal(old[0], new[0])
        assert (old[1] is None) == (new[1] is None)
        if old[1] is not None:
            np.testing.assert_array_equal(old[1], new[1])
        assert old[2:] == new[2:]
    kept = {name: value.grad for name, value in perceptron.items() if isinstance(value, Tensor)}
    loss.backward()
    times = 2 if after else 1
    for name, grad in kept.items():
        if after and grad is not None:
            np.testing.assert_allclose(perceptron[name].grad, times * grad)


# -- folding and cropping --------------------------------------------------------------------------


def test_repeats_are_folded_and_counted():
    drawing = draw(chain(10_000))
    (fold,) = drawing.graph.folds
    assert fold.title == "x4,998   multiply → add"
    assert fold.lines == ("9,996 operations", "4,998 constants")
    assert [box.operation for box in drawing.graph.boxes if box.operation] == [
        "multiply", "add", "multiply", "add", "sum",
    ]  # fmt: skip
    into = {edge.tail: edge.count for edge in drawing.graph.edges if edge.head == fold.id}
    assert into == {boxes(drawing)["b"].id: 4998, boxes(drawing)["v2"].id: 1}


def test_residual_blocks_are_repeats():
    h = Tensor(np.ones((2, 4)), name="x")
    for i in range(12):
        W = Tensor(np.eye(4), requires_grad=True, name=f"{i}.W")
        h = tg.relu(h @ W) + h
    (fold,) = draw(h, fold=True).graph.folds
    assert fold.title == "x9   matmul → relu → add"
    assert fold.lines == ("27 operations", "9 parameters")


def test_targets_are_never_folded():
    h = Tensor(np.ones(3), requires_grad=True, name="x")
    results = []
    for _ in range(300):
        h = np.tanh(h)
        results.append(h)
    middle = results[150]
    drawing = draw([middle, h], names={"middle": middle})
    assert [fold.title for fold in drawing.graph.folds] == ["x148   tanh", "x147   tanh"]
    assert "middle" in boxes(drawing)


def test_a_value_with_very_many_uses_is_named_at_each():
    drawing = draw(chain(40))
    assert [tag.name for tag in drawing.graph.tags] == ["b"] * 20
    assert boxes(drawing)["b"].tags == 20
    tags = {tag.id for tag in drawing.graph.tags}
    assert [edge.formula for edge in drawing.graph.edges if edge.tail in tags] == ["g"] * 20
    assert draw(chain(20)).graph.tags == ()


def test_small_graphs_are_drawn_in_full():
    assert draw(chain(40)).graph.folds == ()
    assert len(draw(chain(40), fold=True).graph.folds) == 1
    assert draw(chain(400), fold=False).graph.folds == ()


def test_of_a_large_graph_without_repeats_the_last_operations_are_drawn():
    rng = np.random.default_rng(0)
    results = [Tensor(np.ones(2), requires_grad=True, name="x")]
    functions = [np.tanh, np.abs, np.negative, tg.sigmoid, lambda x: x * results[0]]
    for _ in range(500):
        argument = results[rng.integers(len(results) // 2, len(results))]
        results.append(functions[rng.integers(5)](argument))
    total = results[-1]
    for result in results[-200:]:
        total = total + result
    drawing = draw(total)
    (earlier,) = [fold for fold in drawing.graph.folds if fold.title == "earlier operations"]
    drawn = sum(box.kind == "computed" for box in drawing.graph.boxes)
    assert 1 < drawn <= 100
    assert not any(edge.head == earlier.id and edge.tail != "n0" for edge in drawing.graph.edges)


def test_around_a_tensor_only_the_neighbourhood_is_drawn():
    h = Tensor(np.ones(3), requires_grad=True, name="x")
    for i in range(5000):
        h = np.tanh(h)
        if i == 2500:
            middle = h
    drawing = draw(h, names={"middle": middle}, around=middle, radius=2)
    assert list(boxes(drawing)) == ["v2499", "v2500", "middle", "v2501", "v2502"]
    assert [fold.lines for fold in drawing.graph.folds] == [("1 more use",), ("1 more input",)]
    assert "5 of 5,001 values, within 2 edges" in drawing.dot


def test_a_hundred_thousand_operations_do_not_exhaust_the_stack():
    output = chain(100_000, size=1)
    output.backward()
    assert len(draw(output).graph.boxes) < 20
    assert len(draw(output, around=output).graph.boxes) < 20


# -- what is refused -------------------------------------------------------------------------------


def test_bad_arguments_are_refused():
    x = Tensor([1.0], name="x")
    with pytest.raises(DtypeError, match=r"draw: expected a Tensor, a list of .*, got ndarray"):
        draw(np.ones(3))
    with pytest.raises(ArgumentError, match="at least one Tensor"):
        draw([])
    with pytest.raises(DtypeError, match=r"names= to be a dict such as locals\(\), got list"):
        draw(x, names=["x"])
    with pytest.raises(ArgumentError, match="theme= among light, dark, got 'blue'"):
        draw(x, theme="blue")
    with pytest.raises(ArgumentError, match="direction= among down, right, got 'up'"):
        draw(x, direction="up")
    with pytest.raises(ArgumentError, match="that the target depends on, got 'y'"):
        draw(x, around=Tensor([1.0], name="y"))
    with pytest.raises(DtypeError, match="around= to be a Tensor, got str"):
        draw(x, around="x")
