"""The steps of the page and the file, without a browser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import tinygrad_np as tg
from tests.drawing.conftest import chain
from tests.drawing.test_picture import HOSTILE
from tinygrad_np import Tensor, draw
from tinygrad_np.drawing.steps import messages, vjps
from tinygrad_np.errors import ArgumentError, GradientError


@pytest.fixture
def reused():
    """``y = x·x·b + 4x``: the gradient of ``x`` has three parts."""
    x = Tensor(2.0, requires_grad=True, name="x")
    b = Tensor(-3.0, requires_grad=True, name="b")
    return x * x * b + x * 4.0, x, b


class Page(HTMLParser):
    """The elements of a page, and the text inside its scripts and styles."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.inside, self.attributes = [], {}, []
        self._open = None
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        self._open = (tag, dict(attrs).get("id"))

    def handle_data(self, data):
        if self._open and self._open[0] in ("script", "style"):
            self.inside[self._open] = self.inside.get(self._open, "") + data

    def handle_endtag(self, tag):
        self._open = None

    @property
    def data(self):
        return json.loads(self.inside["script", "data"])


def by_phase(story, phase):
    return [step for step in story.steps if step.phase == phase]


# --------------------------------------------------------------------------------------------------
# The steps
# --------------------------------------------------------------------------------------------------


def test_there_is_a_step_for_each_operation_and_each_vjp(perceptron):
    story = draw(perceptron["loss"], names=perceptron).story
    told = [(step.phase[0], step.title, step.formula) for step in story.steps]
    assert told == [
        ("f", "matmul", "x @ W1"),
        ("f", "add", "v1 + b1"),
        ("f", "tanh", "np.tanh(v2)"),
        ("f", "matmul", "h @ W2"),
        ("f", "add", "v3 + b2"),
        ("f", "softmax_cross_entropy", "cross_entropy(z, t)"),
        ("b", "softmax_cross_entropy", "(p - onehot(t, 3)) * (g / 16)"),
        ("b", "add", "g"),
        ("b", "add", "np.sum(g, axis=0)"),
        ("b", "matmul", "g @ W2.T"),
        ("b", "matmul", "h.T @ g"),
        ("b", "tanh", "g * (1 - h * h)"),
        ("b", "add", "g"),
        ("b", "add", "np.sum(g, axis=0)"),
        ("b", "matmul", "x.T @ g"),
    ]
    assert all(step.covers == 1 for step in story.steps)


def test_the_engine_calls_the_same_vjps_in_the_same_order():
    """Noted by the formulas themselves, in a pass of `backward`."""
    called = []

    def noted(name):
        def note(argument, g):
            called.append((name, argument))
            return g

        @tg.primitive("{a} + {b}", name=name)
        def add(a, b):
            return a + b

        return add.vjp(a=lambda g: note("a", g), b=lambda g: note("b", g))

    x = Tensor(1.0, requires_grad=True, name="x")
    z = Tensor(1.0, requires_grad=True, name="z")
    one, two, three = noted("one"), noted("two"), noted("three")
    h = one(x, 5.0)
    y = three(two(h, z), h)
    story = draw(y).story
    called.clear()
    y.backward()
    assert called == [("three", "a"), ("three", "b"), ("two", "a"), ("two", "b"), ("one", "a")]
    assert [step.title for step in by_phase(story, "backward")] == [name for name, _ in called]
    received = [story.values[step.arrivals[0].to].name for step in by_phase(story, "backward")]
    assert received == ["v2", "v1", "v1", "z", "x"]


def test_gradients_are_those_of_the_engine_bit_by_bit(perceptron):
    loss = perceptron["loss"]
    totals = {m.node.inputs[m.position]: m.total for m in messages(loss.node, vjps(loss.node))}
    loss.backward()
    for name in ("W1", "b1", "W2", "b2"):
        tensor = perceptron[name]
        np.testing.assert_array_equal(totals[tensor.node], tensor.grad)


def test_a_value_used_three_times_gets_a_running_sum(reused):
    """By hand: dy/dx = 2xb + 4 = -8, in parts 4, xb = -6 and xb = -6; dy/db = x² = 4."""
    y, _, _ = reused
    story = draw(y).story
    got = {
        name: [(a.part.lines, a.total.lines, a.number, a.count)
               for step in story.steps for a in step.arrivals if story.values[a.to].name == name]
        for name in ("x", "b")
    }  # fmt: skip
    assert got["x"] == [
        (("4",), ("4",), 1, 3),
        (("-6",), ("-2",), 2, 3),
        (("-6",), ("-8",), 3, 3),
    ]
    assert got["b"] == [(("4",), ("4",), 1, 1)]


def test_a_step_says_what_it_reads(perceptron):
    story = draw(perceptron["loss"], names=perceptron).story
    names = [[story.values[id].name for id in step.reads] for step in story.steps]
    assert names[:6] == [
        ["x", "W1"], ["v1", "b1"], ["v2"], ["h", "W2"], ["v3", "b2"], ["z", "t"],
    ]  # fmt: skip
    assert names[9:12] == [["W2"], ["h"], ["h"]]
    first = story.steps[6]
    assert [name for name, _ in first.saved] == ["p"]
    assert first.where == ("p = softmax(z, axis=1)",)


def test_a_step_back_names_its_edge(reused):
    drawing = draw(reused[0])
    values = drawing.story.values
    for step in by_phase(drawing.story, "backward"):
        edge = drawing.graph.edges[step.edge]
        assert edge.head == step.place
        assert [edge.tail] == [arrival.to for arrival in step.arrivals]
        assert edge.formula == step.formula
        assert edge.slope == step.slope
        assert values[edge.tail].needs


def test_a_step_back_names_the_tag_of_a_value_used_often():
    x = Tensor(1.0, requires_grad=True, name="x")
    y = x * 1.0
    for k in range(20):
        y = y + x * float(k)
    drawing = draw(y)
    tags = {tag.id: tag.name for tag in drawing.graph.tags}
    tails = [drawing.graph.edges[step.edge].tail for step in by_phase(drawing.story, "backward")]
    assert sum(tags.get(tail) == "x" for tail in tails) == 21
    assert all(
        step.place == drawing.graph.edges[step.edge].head
        for step in by_phase(drawing.story, "backward")
    )


def test_telling_changes_nothing(perceptron):
    loss, W1 = perceptron["loss"], perceptron["W1"]
    perceptron["h"].retain_grad()
    before = [W1.data.copy(), W1.node.order, W1.node.name]
    draw(loss).story  # noqa: B018  (told for its effects, of which there are to be none)
    assert W1.grad is None
    assert perceptron["h"].grad is None
    assert [W1.node.order, W1.node.name] == before[1:]
    np.testing.assert_array_equal(W1.data, before[0])


def test_a_folded_run_is_one_step():
    drawing = draw(chain(400), fold=True)
    story = drawing.story
    forward, backward = by_phase(story, "forward"), by_phase(story, "backward")
    assert sum(step.covers for step in forward) == 401
    assert sum(step.covers for step in backward) == 601  # b and h for each add, h for each multiply
    assert len(forward) < 12
    (folded,) = [step for step in backward if step.covers > 1]
    assert folded.place == drawing.graph.folds[0].id
    (to_b,) = [a for a in folded.arrivals if story.values[a.to].name == "b"]
    assert (to_b.number, to_b.count) == (199, 200)
    # By hand: b's gradient is the sum of 0.999**k; the fold has all but k = 0 and k = 199.
    part = sum(0.999**k for k in range(1, 199))
    assert to_b.part.lines == ("  ".join([f"{part:.3g}"] * 3),)
    assert to_b.total.lines == ("  ".join([f"{part + 1:.3g}"] * 3),)


def test_what_a_crop_leaves_out_is_stepped_over_as_one(perceptron):
    drawing = draw(perceptron["loss"], names=perceptron, around=perceptron["h"], radius=1)
    outside = [step for step in drawing.story.steps if step.place is None]
    assert [(step.phase, step.covers) for step in outside] == [
        ("forward", 1), ("forward", 2), ("backward", 3), ("backward", 1),
    ]  # fmt: skip
    assert sum(step.covers for step in drawing.story.steps) == 15
    page = Page(drawing.html)
    assert page.data["notes"] == ["5 of 12 values, within 1 edges"]
    assert drawing.html.count("within 1 edges") == 1  # in the panel, not once more in the picture


@pytest.mark.parametrize(
    ("target", "note"),
    [
        (lambda x: x * 2, "starts from one scalar"),
        (lambda x: [x.sum(), (x * 2).sum()], "starts from one scalar"),
        (lambda x: x.detach().sum(), "needs no gradient"),
    ],
)
def test_without_a_scalar_that_needs_a_gradient_there_is_only_the_way_forward(target, note):
    x = Tensor(np.ones(3), requires_grad=True, name="x")
    story = draw(target(x)).story
    assert by_phase(story, "backward") == []
    assert story.root is None
    assert note in story.notes[0]


def test_a_leaf_changed_after_its_use_ends_the_pass_with_the_reason():
    x = Tensor(2.0, requires_grad=True, name="x")
    y = x * x + 1
    x.data = 3.0
    story = draw(y).story
    assert [step.title for step in by_phase(story, "backward")] == ["add"]
    assert "'x' was changed after multiply used it" in story.notes[0]


def test_a_graph_changed_since_it_was_drawn_is_refused(reused):
    y, x, _ = reused
    drawing = draw(y)
    x.data = 7.0
    with pytest.raises(GradientError, match=r"'x' has been changed since it was drawn.*draw again"):
        _ = drawing.html


def test_hooks_are_not_called_and_the_page_says_so(reused):
    y, x, _ = reused
    x.register_hook(lambda g: pytest.fail("called"))
    assert draw(y).story.notes == ("Not called here: the hooks of x.",)


def test_a_loaded_drawing_has_no_steps(reused, tmp_path):
    path = draw(reused[0]).save(tmp_path / "graph.json")
    with pytest.raises(ArgumentError, match="computed from the tensors"):
        _ = draw.load(path).html


# --------------------------------------------------------------------------------------------------
# The file
# --------------------------------------------------------------------------------------------------


def test_the_file_asks_for_nothing_and_allows_only_its_own_script(perceptron, tmp_path):
    path = draw(perceptron["loss"]).save(tmp_path / "graph.html")
    source = path.read_text("utf-8")
    page = Page(source)
    (policy,) = [a["content"] for t, a in page.attributes if a.get("http-equiv")]
    for kind in ("script", "style"):
        content = page.inside[kind, None]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not {"link", "img", "iframe", "object", "a"} & set(page.tags)
    assert not [a for _, a in page.attributes if {"src", "href", "style", "xlink:href"} & a.keys()]
    assert set(re.findall(r"https?://[^\"'` )]+", source)) == {"http://www.w3.org/2000/svg"}


def test_the_page_has_the_steps_and_the_picture(perceptron):
    drawing = draw(perceptron["loss"], names=perceptron)
    page = Page(drawing.html)
    assert len(page.data["steps"]) == len(drawing.story.steps) == 15
    assert page.data["forward"] == 6
    boxes = [a["data-id"] for t, a in page.attributes if "data-id" in a]
    assert sorted(boxes) == sorted(box.id for box in drawing.graph.boxes)
    edges = [int(a["data-edge"]) for t, a in page.attributes if "data-edge" in a]
    assert sorted(edges) == list(range(len(drawing.graph.edges)))


def test_an_edge_of_the_picture_is_that_of_the_graph(perceptron):
    """Its text is the formula of the edge whose number it has."""
    drawing = draw(perceptron["loss"], names=perceptron)
    found = re.findall(r'data-edge="(\d+)".*?</g>', drawing.html)
    assert len(found) == len(drawing.graph.edges)
    for number, content in re.findall(r'<g data-edge="(\d+)">(.*?)</g>', drawing.html):
        shown = re.findall(r"<text[^>]*>([^<]*)</text>", content)
        formula = drawing.graph.edges[int(number)].formula
        assert shown == ([formula] if formula else [])


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(name):
    x = Tensor(np.ones((2, 3)), requires_grad=True, name=name)
    drawing = draw((x @ np.ones((3, 2)) * x.T.mT.sum()).sum())
    page = Page(drawing.html)
    assert page.tags.count("script") == 2
    assert "b" not in page.tags
    named = [value["name"] for value in page.data["values"].values()]
    assert name in named or not name
    assert drawing.html.encode()


def test_the_page_is_the_same_whatever_the_theme_and_has_both(reused):
    light, dark = draw(reused[0]).html, draw(reused[0], theme="dark").html
    assert light == dark
    assert "prefers-color-scheme:dark" in light


def test_a_page_with_the_backward_pass_drawn_steps_through_the_forward_picture(reused):
    assert draw(reused[0], backward=True).html == draw(reused[0]).html


def test_an_overlay_is_not_on_the_page(reused):
    """It would tell a gradient before its step."""
    assert draw(reused[0], overlay="gradients").html == draw(reused[0]).html


def test_a_page_of_sixty_operations_is_small():
    rng = np.random.default_rng(0)
    h = Tensor(rng.normal(size=(8, 6)), name="x")
    for k in range(19):
        W = Tensor(rng.normal(size=(6, 6)) / 3, requires_grad=True, name=f"{k}.W")
        b = Tensor(np.zeros(6), requires_grad=True, name=f"{k}.b")
        h = np.tanh(h @ W + b)
    drawing = draw((h * h).mean())
    assert len(by_phase(drawing.story, "forward")) == 59
    assert len(drawing.html.encode()) < 160_000


def test_numbers_that_are_not_finite_are_marked(reused):
    x = Tensor(0.0, requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        y = np.log(x)
    page = Page(draw(y).html)
    said = page.data["said"]
    assert [["-inf"], [], False] in said
    assert [["inf"], [], False] in said
