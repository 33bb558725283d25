"""Overlays: bytes, time, gradients, what is not finite, verdicts."""

import numpy as np
import pytest

import tinygrad_np as tg
from tests.drawing.conftest import chain
from tinygrad_np import Tensor
from tinygrad_np.drawing import draw
from tinygrad_np.errors import ArgumentError, GradientError


def marks(drawing):
    return {box.name: box.mark for box in drawing.graph.boxes if box.mark is not None}


def test_bytes_are_those_of_results_and_residuals_each_array_once():
    x = Tensor(np.ones((10, 4)), requires_grad=True, name="x")
    h = np.tanh(x)  # 320 bytes
    flat = h.reshape(40)  # a view of them
    z = flat.reshape((10, 4)) * 1.0  # 320 bytes
    loss = tg.softmax_cross_entropy(z, np.zeros(10, int))  # 8 bytes and p, 320
    drawing = draw(loss, names=locals(), overlay="bytes")
    said = {name: mark.lines for name, mark in marks(drawing).items()}
    assert said == {
        "h": ("320 bytes   33%",), "flat": ("0 bytes   0%",), "v1": ("0 bytes   0%",),
        "z": ("320 bytes   33%",), "loss": ("328 bytes   34%",),
    }  # fmt: skip
    assert sum(mark.share for mark in marks(drawing).values()) == pytest.approx(1)
    assert drawing.graph.note == "968 bytes kept for backward, results and residuals"


def test_what_no_gradient_flows_through_is_not_kept():
    w = Tensor(np.ones(5), requires_grad=True)

    def f(x):
        raw = x + 1
        scaled = raw * 2  # which the product with w holds, and raw nobody
        y = scaled * w
        return y

    drawn = marks(draw(f, np.ones(5), overlay="bytes"))
    assert [drawn[name].lines[0].split()[0] for name in ("raw", "scaled", "y")] == ["0", "40", "40"]


def test_bytes_of_folded_operations_add_up():
    drawing = draw(chain(1000, size=100), overlay="bytes")
    (fold,) = drawing.graph.folds
    assert fold.mark.lines == ("797 kB   100%",)  # 996 arrays of 800 bytes
    assert drawing.graph.note.startswith("800 kB kept")


def test_time_is_that_of_running_each_operation_again():
    calls = []

    @tg.primitive("counted({x})")
    def counted(x):
        calls.append(x)
        return x * 2

    drawing = draw(np.tanh(counted(Tensor(np.ones(3), name="x") * 1.0)), overlay="time")
    assert marks(drawing) == {}  # nothing was recorded
    counted.vjp(x=lambda g: g * 2)
    x = Tensor(np.ones(3), requires_grad=True, name="x")
    y = np.tanh(counted(x))
    calls.clear()
    shares = [mark.share for mark in marks(draw(y, overlay="time")).values()]
    assert len(calls) == 3
    assert sum(shares) == pytest.approx(1)


def test_timing_does_not_draw_from_a_random_generator():
    rng, same = np.random.default_rng(0), np.random.default_rng(0)
    x = Tensor(np.ones(10), requires_grad=True)
    drawing = draw(lambda: tg.dropout(x, 0.5, rng=rng), overlay="time")
    tg.dropout(x, 0.5, rng=same)  # what the function itself draws
    assert "dropout_mask" in [box.operation for box in drawing.graph.boxes]
    assert rng.bit_generator.state == same.bit_generator.state


def test_gradients_are_measured_against_the_last_parameter():
    first, middle, last = (
        Tensor(np.full(4, v), requires_grad=True, name=name)
        for name, v in [("first", 1.0), ("middle", 1.0), ("last", 1.0)]
    )
    y = ((first * 1e-4 + middle * 1e4) * last).sum()
    drawing = draw(y, names=locals(), overlay="gradients")
    drawn = marks(drawing)
    # d(last) = 1e4, d(middle) = 1e4, d(first) = 1e-4
    assert drawn["last"].lines == ("|grad| = 2e+04",)
    assert drawn["middle"].lines == ("|grad| = 2e+04",)
    assert drawn["first"].lines == ("|grad| = 0.0002", "vanishing")
    assert (drawn["first"].state, drawn["last"].state) == ("framed", "")
    assert drawing.graph.note == (
        "|grad|: the norm of the gradient. Vanishing, exploding: its root mean square is less than "
        "1/1,000 of, more than 1,000 times that at last, the last parameter"
    )
    assert first.grad is None


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1e4, ("exploding",)), (1e-4, ("vanishing",)), (0.0, ("vanishing: all zero",)), (900.0, ())],
)
def test_vanishing_and_exploding_are_marked(factor, verdict):
    w = Tensor([1.0, 1.0], requires_grad=True, name="w")
    b = Tensor([1.0, 1.0], requires_grad=True, name="b")
    drawn = marks(draw((w * factor + b).sum(), overlay="gradients"))
    assert drawn["w"].lines[1:] == verdict
    assert drawn["w"].state == ("framed" if verdict else "")


def test_folded_gradients_are_counted():
    h = Tensor(np.ones(2), requires_grad=True, name="x")
    for _ in range(150):
        h = h * 10.0
    (fold,) = draw(h.sum() * Tensor(1.0, requires_grad=True), overlay="gradients").graph.folds
    (line,) = fold.mark.lines
    assert line.endswith(" vanishing")
    assert fold.mark.state == "framed"


def test_the_first_that_is_not_finite_is_framed_and_the_rest_hatched():
    x = Tensor([1.0, 0.0], requires_grad=True, name="x")
    w = Tensor([1.0, 2.0], requires_grad=True, name="w")
    with np.errstate(divide="ignore"):
        v = np.log(x)
    y = v * w
    total = y.sum()
    drawing = draw(total, names=locals(), overlay="nonfinite")
    assert {name: (mark.lines, mark.state) for name, mark in marks(drawing).items()} == {
        "v": (("value: 1 of 2 not finite",), "framed"),
        "y": (("value: 1 of 2 not finite",), "hatched"),
        "total": (("value: 1 of 1 not finite",), "hatched"),
        "w": (("gradient: 1 of 2 not finite",), "hatched"),
        "x": (("gradient: 1 of 2 not finite",), "hatched"),
    }
    assert drawing.graph.note.startswith("framed: v, the first that is not finite")


def test_a_gradient_that_is_not_finite_while_values_are():
    x = Tensor([0.0], requires_grad=True, name="x")
    h = np.sqrt(x)
    drawing = draw(h.sum(), names=locals(), overlay="nonfinite")
    assert list(marks(drawing)) == ["x"]
    finite = draw(Tensor(1.0, requires_grad=True) * 2, overlay="nonfinite")
    assert marks(finite) == {}
    assert finite.graph.note == "all values and gradients are finite"


def test_a_checkers_verdicts_are_drawn_by_name():
    w = Tensor([1.0], requires_grad=True, name="w")
    y = w * 2
    z = y + 1
    drawing = draw(z, names=locals(), overlay={"y": "wrong", "w": "follows", "z": "right"})
    assert {name: mark.state for name, mark in marks(drawing).items()} == {
        "w": "hatched", "y": "framed", "z": "",
    }  # fmt: skip
    lines = [line for line in drawing.dot.splitlines() if line.startswith("  n")]
    styles = {line.split()[0]: line for line in lines if "->" not in line}
    assert 'style="striped,solid"' in styles["n0"]
    assert 'style="filled,solid"' in styles["n3"]
    assert 'shape="plain"' in styles["n4"]


def test_marks_do_not_hide_the_box():
    x = Tensor([0.0], requires_grad=True, name="x & y")
    drawing = draw(np.exp(x), overlay={"x & y": "<wrong>"})
    assert "x &amp; y" in drawing.dot
    assert "&lt;wrong&gt;" in drawing.svg


def test_unknown_overlays_are_refused():
    x = Tensor(1.0, requires_grad=True, name="x")
    with pytest.raises(ArgumentError, match=r"overlay= among bytes, time, gradients, nonfinite"):
        draw(x * 2, overlay="heat")
    with pytest.raises(ArgumentError, match=r"names in the picture \(x, 2, v1\), got 'w'"):
        draw(x * 2, overlay={"w": "wrong"})
    with pytest.raises(GradientError, match="needs a gradient, for overlay='gradients'"):
        draw(Tensor(1.0) * 2, overlay="gradients")
