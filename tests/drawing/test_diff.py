"""Two runs of the same model, compared."""

from dataclasses import replace

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.drawing.conftest import chain
from tinygrad_np import Tensor
from tinygrad_np.drawing import Drawing
from tinygrad_np.errors import DtypeError

X = np.random.default_rng(0).normal(size=(6, 4))


def step(x, w, scale=2.0):
    h = np.tanh(x @ w)
    loss = (h * scale).sum()
    return h, loss


def leaves():
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(5, 4)), name="x")
    return x, Tensor(rng.normal(size=(4, 3)), requires_grad=True, name="w")


def marks(drawing):
    parts = (*drawing.graph.boxes, *drawing.graph.folds)
    titles = {part.id: getattr(part, "title", None) or part.name for part in parts}
    return {titles[part.id]: part.mark.state for part in parts if part.mark is not None}


def test_the_same_run_twice_is_the_same():
    x, w = leaves()
    a, b = (tg.draw(step(x, w)[1]) for _ in range(2))
    found = tg.draw.diff(a, b)
    assert (found.structure, found.values, found.gradients) == ((), (), ())
    assert found.text == "structure: the same\nvalues: the same\ngradients: the same"
    assert found.graph.note == "nothing changed"
    assert marks(found) == {}


def test_values_and_gradients_that_changed_are_told_with_how_much():
    x, w = leaves()
    h, loss = step(x, w)
    before = tg.draw(loss, names={"h": h, "loss": loss})
    w.data = w.data + 0.5 * np.eye(4, 3)
    h, loss = step(x, w)
    loss.backward()
    found = tg.draw.diff(before, tg.draw(loss, names={"h": h, "loss": loss}))
    assert found.structure == ()
    told = dict(line.split(": ", 1) for line in found.values)
    assert told["w"].startswith("by up to 0.5; norm ")
    assert list(told) == ["w", "v1", "h", "v2", "loss"]
    gradients = dict(line.split(": ", 1) for line in found.gradients)
    assert gradients["loss"] == "no gradient yet -> 1"
    assert gradients["w"].startswith("no gradient yet -> norm ")
    assert marks(found)["w"] == "changed"


def test_differences_of_rounding_are_none():
    x, w = leaves()
    before = tg.draw(step(x, w)[1])
    w.data = w.data * (1 + 1e-12)
    after = tg.draw(step(x, w)[1])
    assert tg.draw.diff(before, after).values == ()
    assert tg.draw.diff(before, after, rtol=0).values != ()


def test_the_same_numbers_that_are_not_finite_are_no_difference():
    a, b = (tg.draw(Tensor([np.nan, np.inf, 1.0], name="x")) for _ in range(2))
    assert tg.draw.diff(a, b).values == ()
    other = tg.draw(Tensor([1.0, np.inf, 1.0], name="x"))
    assert tg.draw.diff(a, other).values == ("x: by up to nan; norm nan -> inf",)


def test_one_element_of_a_large_array_is_noticed():
    values = np.zeros(100_000)
    before = tg.draw(Tensor(values, name="x"))
    values = values.copy()
    values[777] = 1.0
    (line,) = tg.draw.diff(before, tg.draw(Tensor(values, name="x"))).values
    assert line == "x: norm 0 -> 1"
    (line,) = tg.draw.diff(before, tg.draw(Tensor(values + 1, name="x"))).values
    assert line.startswith("x: by at least 1; norm 0 -> 316.2")


def test_an_operation_put_in_between_is_one_difference():
    x, w = leaves()
    a = tg.draw((np.tanh(x @ w) * 2.0).sum())
    b = tg.draw((np.abs(np.tanh(x @ w)) * 2.0).sum())
    found = tg.draw.diff(a, b)
    assert found.structure == ("+ v3 = np.abs(v2), (5, 3) float64", "v4: v2 * 2 -> v3 * 2")
    assert marks(found)["v3"] == "added"


def test_what_is_gone_is_drawn_dashed():
    x, w = leaves()
    a = tg.draw((np.abs(np.tanh(x @ w)) * 2.0).sum())
    b = tg.draw((np.tanh(x @ w) * 2.0).sum())
    found = tg.draw.diff(a, b)
    assert "- v3 = np.abs(v2), (5, 3) float64" in found.structure
    (gone,) = [box for box in found.graph.boxes if box.mark and box.mark.state == "removed"]
    assert gone.id == "a_n5"
    assert "striped,dashed" in found.dot
    assert {edge.head for edge in found.graph.edges if edge.tail == "a_n5"} == {"n5"}
    assert found.svg


def test_what_is_gone_gets_an_id_that_is_free():
    _, w = leaves()
    a, b = tg.draw(np.abs(np.exp(w))), tg.draw(np.exp(w))
    boxes = [replace(box, id=f"a_{box.id.replace('n1', 'n2')}") for box in b.graph.boxes]
    edges = [replace(edge, tail="a_n0", head="a_n2") for edge in b.graph.edges]
    b = Drawing(replace(b.graph, boxes=tuple(boxes), edges=tuple(edges)), b.look)
    found = tg.draw.diff(a, b)
    assert [box.id for box in found.graph.boxes] == ["a_n0", "a_n2", "a_n2_"]


def test_shapes_dtypes_kinds_and_parameters_are_structure():
    w = Tensor(np.ones((4, 3)), requires_grad=True, name="w")
    other = Tensor(np.ones((4, 5), np.float32), name="w")
    a = tg.draw(lambda: tg.leaky_relu(w, 0.01).sum(axis=0))
    b = tg.draw(lambda: tg.leaky_relu(other, 0.2).sum(axis=0))
    lines = tg.draw.diff(a, b).structure
    assert lines[:3] == (
        "w: parameter -> input", "w: shape (4, 3) -> (4, 5)", "w: dtype float64 -> float32",
    )  # fmt: skip
    assert any("0.01" in line and "0.2" in line for line in lines)


def test_names_that_shift_are_not_a_difference():
    x, w = leaves()
    a = tg.draw(np.exp(np.tanh(x @ w)))
    b = tg.draw(np.exp(np.tanh(-(x @ w))))
    assert [line for line in tg.draw.diff(a, b).structure if "exp" in line] == []


def test_an_operation_on_something_else_is_told_by_its_expression():
    p, q = (Tensor(v, requires_grad=True, name=n) for n, v in [("p", 1.0), ("q", 1.0)])
    a = tg.draw([np.exp(p), q])
    b = tg.draw([np.exp(q), p])
    found = tg.draw.diff(a, b)
    assert found.structure == ("v1: np.exp(p) -> np.exp(q)",)
    assert marks(found) == {"v1": "changed"}


class Skipping(nn.Module):
    """Three layers, the last of which reads the first or the second."""

    def __init__(self, skip):
        self.skip = skip
        self.first, self.second, self.third = (nn.Dense(4, 4, rng=i) for i in range(3))

    def forward(self, x):
        a = self.first(x)
        b = self.second(a)
        return self.third(a if self.skip else b), b


def test_an_edge_that_no_expression_tells_of_is_told():
    a, b = (tg.draw(Skipping(skip), X, depth=1) for skip in (True, False))
    assert tg.draw.diff(a, b).structure == (
        "- first   Dense goes into third   Dense",
        "+ second   Dense goes into third   Dense",
    )


def test_folds_are_compared_by_what_is_in_them():
    found = tg.draw.diff(tg.draw(chain(1000)), tg.draw(chain(1200)))
    assert any("996 operations" in line and "1,196" in line for line in found.structure)


def test_ten_thousand_boxes_are_compared():
    a, b = (tg.draw(chain(4000, size=1), fold=False, formulas=False) for _ in range(2))
    assert tg.draw.diff(a, b).structure == ()


def test_a_run_on_disk_is_compared_with_a_live_one(tmp_path):
    model = nn.Sequential(nn.Dense(4, 3, rng=0))
    path = tg.draw(model, X).save(tmp_path / "before.json")
    model[0].b.data = model[0].b.data + 1
    found = tg.draw.diff(tg.draw.load(path), tg.draw(model, X))
    assert [line.split(":")[0] for line in found.values] == ["0.b", "v1"]
    assert repr(found) == found.text
    assert found._repr_mimebundle_()["text/plain"] == found.text


def test_backward_passes_are_compared():
    x, w = leaves()
    before = tg.draw(step(x, w)[1], backward=True)
    found = tg.draw.diff(before, tg.draw(step(x, w, 3.0)[1], backward=True))
    assert any(line.startswith("dw: ") for line in found.gradients)
    assert not any(line.startswith("dw: ") for line in found.values)


def test_only_drawings_are_compared(tmp_path):
    with pytest.raises(DtypeError, match=r"two Drawings, got Tensor\. Draw the graphs first"):
        tg.draw.diff(Tensor(1.0), Tensor(1.0))
