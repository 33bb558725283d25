"""The backward pass beside the forward one."""

import numpy as np
import pytest

import tinygrad_np as tg
from tests.drawing.conftest import chain
from tinygrad_np import Tensor
from tinygrad_np.drawing import draw
from tinygrad_np.errors import GradientError


def gradients(drawing):
    return {box.name: box for box in drawing.graph.boxes if box.kind == "gradient"}


def edges(drawing, role):
    titles = {part.id: getattr(part, "title", None) or part.name for part in drawing.graph.parts}
    some = [edge for edge in drawing.graph.edges if edge.role == role]
    return [(titles[edge.tail], titles[edge.head]) for edge in some]


def test_a_perceptrons_backward_pass_is_the_sheet_one_writes(perceptron):
    drawing = draw(perceptron["loss"], names=perceptron, backward=True)
    assert {name: (box.operation, box.expression) for name, box in gradients(drawing).items()} == {
        "dloss": ("start", ""),
        "dz": ("vjp of softmax_cross_entropy", "(p - onehot(t, 3)) * (dloss / 16)"),
        "db2": ("vjp of add", "np.sum(dz, axis=0)"),
        "dh": ("vjp of matmul", "dz @ W2.T"),
        "dW2": ("vjp of matmul", "h.T @ dz"),
        "dv2": ("vjp of tanh", "dh * (1 - h * h)"),
        "db1": ("vjp of add", "np.sum(dv2, axis=0)"),
        "dW1": ("vjp of matmul", "x.T @ dv2"),
    }
    assert gradients(drawing)["dz"].also == ("dv3",)
    assert gradients(drawing)["dv2"].also == ("dv1",)


def test_its_values_are_the_gradients(perceptron):
    drawn = gradients(draw(perceptron["loss"], names=perceptron, backward=True))
    perceptron["loss"].backward()
    for name in ("W1", "b1", "W2", "b2"):
        grad = perceptron[name].grad
        box = drawn[f"d{name}"]
        assert box.shape == grad.shape
        np.testing.assert_allclose(box.value.sample, grad.ravel(), rtol=1e-12)


def test_each_gradient_is_linked_to_its_quantity(perceptron):
    drawing = draw(perceptron["loss"], names=perceptron, backward=True)
    assert sorted(edges(drawing, "link")) == [
        ("W1", "dW1"), ("W2", "dW2"), ("b1", "db1"), ("b2", "db2"), ("h", "dh"),
        ("loss", "dloss"), ("v1", "dv2"), ("v2", "dv2"), ("v3", "dz"), ("z", "dz"),
    ]  # fmt: skip
    assert set(edges(drawing, "backward")) == {
        ("dloss", "dz"), ("dz", "db2"), ("dz", "dh"), ("dz", "dW2"), ("dh", "dv2"),
        ("dv2", "db1"), ("dv2", "dW1"),
    }  # fmt: skip
    assert set(edges(drawing, "read")) == {
        ("t", "dz"), ("W2", "dh"), ("h", "dW2"), ("h", "dv2"), ("x", "dW1"),
    }  # fmt: skip
    forward = [box for box in drawing.graph.boxes if box.kind != "gradient"]
    assert {box.gradient for box in forward} == {None}


def test_a_value_used_twice_gets_a_sum():
    x = Tensor(3.0, requires_grad=True, name="x")
    drawn = gradients(draw(x * x + np.sin(x), backward=True))
    dx = drawn["dx"]
    assert (dx.operation, dx.expression) == ("sum of 3 uses", "dx_1 + dx_2 + dx_3")
    parts = [drawn[f"dx_{k}"].value.sample[0] for k in (1, 2, 3)]
    assert sorted(parts) == pytest.approx(sorted([3.0, 3.0, np.cos(3.0)]))
    assert dx.value.sample[0] == pytest.approx(6 + np.cos(3.0))


def test_a_gradient_of_several_values_goes_by_the_users_name():
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    h = np.exp(x)
    drawn = gradients(draw((h + 1.0).sum(), names={"h": h}, backward=True))
    assert drawn["dh"].also == ("dv1",)


def test_dot_ties_and_turns_the_edges():
    x = Tensor(3.0, requires_grad=True, name="x")
    source = draw(np.exp(x), names={}, backward=True).dot
    (link, *_) = [line for line in source.splitlines() if "minlen" in line]
    assert "n0 -> g1" in source
    assert 'style="dashed"' in link
    (turned,) = [line for line in source.splitlines() if 'dir="back"' in line]
    assert turned.split(" [")[0].strip() == "g1 -> g0"  # dx stands above the gradient it came from


def test_second_order_graphs_are_drawn_forward_and_backward():
    x = Tensor(2.0, requires_grad=True, name="x")
    dx = tg.gradients(x**3, x, create_graph=True)
    dx.name = "dx"
    forward = draw(dx)
    assert forward.graph.boxes[-1].value.lines == ("12",)
    again = gradients(draw(dx, backward=True))
    assert again["ddx"].operation == "start"
    second = [box for name, box in again.items() if name == "dx"]
    assert second[0].value.sample[0] == pytest.approx(12.0)  # 6 x


def test_the_pass_changes_nothing_and_calls_no_hook():
    called = []
    x = Tensor([1.0, 2.0], requires_grad=True, name="x")
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: called.append(g))
    draw(y.sum(), backward=True)
    assert (called, x.grad, y.grad) == ([], None, None)


def test_of_ten_thousand_operations_gradients_fold_at_the_side_of_values():
    drawing = draw(chain(10_000), backward=True)
    assert [fold.title for fold in drawing.graph.folds] == [
        "x4,998   multiply → add", "backward of x4,998   multiply → add",
    ]  # fmt: skip
    db = gradients(drawing)["db"]
    assert db.operation == "sum of 5,000 uses"
    assert db.expression.endswith(" + …")
    assert ("x4,998   multiply → add", "backward of x4,998   multiply → add") in edges(
        drawing, "link"
    )


def test_around_a_tensor_only_its_gradients_are_drawn():
    h = x = Tensor(np.ones(2), requires_grad=True, name="x")
    results = []
    for _ in range(50):
        h = np.tanh(h)
        results.append(h)
    middle = results[25]
    drawing = draw(h.sum(), names={"middle": middle}, around=middle, radius=1, backward=True)
    assert list(gradients(drawing)) == ["dv26", "dmiddle", "dv25"]
    assert x.grad is None


def test_without_a_gradient_there_is_no_backward_pass():
    with pytest.raises(GradientError, match=r"a target that needs a gradient, for backward=True"):
        draw(Tensor(1.0, name="x") * 2, backward=True)


def test_a_leaf_changed_since_is_refused():
    x = Tensor(3.0, requires_grad=True, name="x")
    y = x * x
    x.data = 4.0
    with pytest.raises(GradientError, match="changed after multiply used it"):
        draw(y, backward=True)
