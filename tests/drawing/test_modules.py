"""Functions and models as targets: names, module boxes, what of them is one box."""

import functools
import itertools
import sys

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.drawing.test_picture import HOSTILE, texts
from tinygrad_np import Tensor
from tinygrad_np.drawing import draw
from tinygrad_np.errors import ArgumentError, DtypeError

X = np.random.default_rng(0).normal(size=(6, 4))


class Block(nn.Module):
    """A residual block."""

    def __init__(self, seed):
        self.scale = Tensor(np.ones(8, np.float32), requires_grad=True)
        self.inner = nn.Dense(8, 8, rng=seed)

    def forward(self, x):
        return x + self.inner(x * self.scale)


class Net(nn.Module):
    """Layers, blocks in a list, and a head."""

    def __init__(self, blocks=6):
        self.embed = nn.Dense(4, 8, activation="relu", rng=0)
        self.blocks = [Block(i) for i in range(blocks)]
        self.head = nn.Dense(8, 3, rng=1)

    def forward(self, x):
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        logits = self.head(h)
        return logits


def names(drawing):
    return [box.name for box in drawing.graph.boxes]


def tree(drawing):
    """The titles of the frames with what lies directly in each, by name or title."""
    graph = drawing.graph
    inside = {"": [], **{frame.id: [] for frame in graph.frames}}
    for part in graph.parts:
        inside[part.frame].append(getattr(part, "title", None) or part.name)
    for frame in graph.frames:
        inside[frame.inside].append(f"[{frame.title}]")
    titles = {frame.id: frame.title for frame in graph.frames}
    return {titles.get(id, ""): parts for id, parts in inside.items()}


# -- functions -------------------------------------------------------------------------------------


def test_a_function_is_drawn_with_the_names_of_its_variables():
    W = Tensor(np.ones((4, 3)), requires_grad=True)
    targets = np.array([0, 1, 2, 0, 1, 2])

    def loss_of(x, t):
        z = x @ W
        h = np.tanh(z)
        loss = tg.softmax_cross_entropy(h, t)
        return loss

    drawing = draw(loss_of, X, targets)
    assert names(drawing) == ["W", "x", "t", "z", "h", "loss"]
    kinds = {box.name: box.kind for box in drawing.graph.boxes}
    assert (kinds["W"], kinds["x"], kinds["t"]) == ("parameter", "input", "input")


def test_inputs_need_a_gradient_if_nothing_else_does():
    def f(a, b):
        c = a * b
        return c + a

    drawing = draw(f, 2.0, -3.0)
    assert [(box.name, box.kind) for box in drawing.graph.boxes[:2]] == [
        ("a", "parameter"), ("b", "parameter"),
    ]  # fmt: skip
    assert [edge.slope for edge in drawing.graph.edges] == [-3.0, 2.0, 1.0, 1.0]
    given = draw(f, Tensor(2.0, requires_grad=True), -3.0)
    assert [box.kind for box in given.graph.boxes[:2]] == ["parameter", "input"]


def test_an_argument_keeps_its_name_when_the_variable_is_bound_again():
    def f(x):
        x = np.exp(x)
        y = x + 1
        return y

    assert names(draw(f, 1.0)) == ["x", "1", "v1", "y"]


def test_names_of_the_user_go_before_variables():
    def f(x):
        y = x * 2
        y.name = "mine"
        z = y + 1
        return z

    x = Tensor([1.0])
    assert names(draw(f, x, names={"given": x})) == ["given", "2", "1", "mine", "z"]


def test_lists_and_dicts_of_tensors_are_named_by_place():
    def f(params, rows):
        return params["w"] * rows[0] + rows[1]

    assert names(draw(f, {"w": 2.0}, [np.ones(2), np.ones(2)])) == [
        "params['w']", "rows[0]", "rows[1]", "v1", "v2",
    ]  # fmt: skip


def test_decorated_partial_and_callable_targets_are_seen_through():
    def f(x, k):
        y = x * k
        return y

    @functools.wraps(f)
    def wrapped(*args):
        return f(*args)

    class Callable:
        def __call__(self, x):
            y = x * 2.0
            return y

    assert names(draw(wrapped, 1.0, 2.0)) == ["x", "k", "y"]
    assert names(draw(functools.partial(f, k=Tensor(2.0)), 1.0))[:2] == ["k", "x"]
    assert names(draw(Callable(), 1.0)) == ["x", "2", "y"]
    assert draw(np.tanh, 1.0).graph.boxes[-1].operation == "tanh"


def test_several_results_are_all_drawn():
    drawing = draw(lambda x: {"double": x * 2, "more": [x + 1]}, np.ones(2))
    assert [box.operation for box in drawing.graph.boxes if box.operation] == ["multiply", "add"]


def test_the_profiler_is_put_back_also_after_an_error():
    before = sys.getprofile()
    with pytest.raises(ZeroDivisionError):
        draw(lambda x: 1 / 0, 1.0)
    assert sys.getprofile() is before


def test_what_is_not_to_be_drawn_is_refused():
    with pytest.raises(DtypeError, match=r"a function that returns a Tensor, got NoneType"):
        draw(lambda x: None, 1.0)
    with pytest.raises(DtypeError, match=r"inputs only after a function or a module, got Tensor"):
        draw(Tensor(1.0), Tensor(2.0))
    with pytest.raises(ArgumentError, match=r"a module, or a function that calls one.*got Tensor"):
        draw(Tensor(1.0), depth=1)


# -- models ----------------------------------------------------------------------------------------


def test_module_boxes_nest_as_the_modules_do_with_their_parameters_inside():
    inner = nn.Sequential(nn.Dense(5, 5, rng=0), nn.Dense(5, 3, rng=0))
    model = nn.Sequential(nn.Dense(4, 5, activation="relu", rng=0), inner)
    assert tree(draw(model, X)) == {
        "": ["x", "[Sequential]"],
        "Sequential": ["[0   Dense]", "[1   Sequential]"],
        "0   Dense": ["0.W", "0.b", "v1", "v2"],
        "1   Sequential": ["[1.0   Dense]", "[1.1   Dense]"],
        "1.0   Dense": ["1.0.W", "1.0.b", "v3"],
        "1.1   Dense": ["1.1.W", "1.1.b", "v4"],
    }


def test_clusters_in_dot_are_nested_and_closed():
    model = nn.Sequential(nn.Dense(4, 5, rng=0), nn.Sequential(nn.Dense(5, 3, rng=0)))
    lines = [line.strip() for line in draw(model, X, legend=False).dot.splitlines()]
    shape = [
        line.removeprefix("subgraph cluster_").removesuffix(" {")
        for line in lines
        if line.startswith("subgraph") or line == "}"
    ]
    assert shape == ["m0", "m1", "}", "m2", "m3", "}", "}", "}", "}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_titles_of_modules_are_drawn_as_text(name):
    class Held(nn.Module):
        def __init__(self):
            self.parts = {name: nn.Dense(4, 4, rng=0)}

        def forward(self, x):
            return self.parts[name](x)

    for depth in (1, 2):
        svg = draw(Held(), X, depth=depth, overlay="bytes").svg
        shown = "".join(c if c.isprintable() else "\ufffd" for c in f"parts.{name}   Dense")
        assert shown in {text and text.replace("\xa0", " ") for text in texts(svg)}


def test_a_model_in_a_function_has_its_boxes_and_its_name():
    model = nn.Sequential(nn.Dense(4, 3, rng=0))
    criterion = nn.SoftmaxCrossEntropy()

    def step(x, t):
        z = model(x)
        loss = criterion(z, t)
        return loss

    drawn = tree(draw(step, X.astype(np.float32), np.zeros(6, int)))
    assert drawn[""] == ["x", "t", "[model   Sequential]", "[criterion   SoftmaxCrossEntropy]"]
    assert drawn["0   Dense"] == ["0.W", "0.b", "z"]
    assert drawn["criterion   SoftmaxCrossEntropy"] == ["loss"]


def test_a_parameter_is_in_its_module_also_when_it_is_used_elsewhere():
    model = nn.Sequential(nn.Dense(4, 3, rng=0))

    def penalised(x):
        y = model(x)
        return y.sum() + (model[0].W * model[0].W).sum()

    drawn = tree(draw(penalised, X))
    assert drawn["0   Dense"] == ["0.W", "0.b", "y"]


def test_modules_stand_under_each_other():
    model = nn.Sequential(nn.Dense(4, 5, rng=0), nn.Dense(5, 3, rng=0))
    drawing = draw(model, X, legend=False)
    ids = {box.name: box.id for box in drawing.graph.boxes}
    hidden = [line.split(" [")[0].strip() for line in drawing.dot.splitlines() if "invis" in line]
    assert hidden == [
        f"{ids[above]} -> {ids[leaf]}"
        for above, leaf in [("x", "0.W"), ("x", "0.b"), ("v1", "1.W"), ("v1", "1.b")]
    ]


def test_a_module_called_twice_has_a_box_for_each_call():
    layer = nn.Dense(4, 4, rng=0)

    class Twice(nn.Module):
        def __init__(self):
            self.cell = layer

        def forward(self, x):
            return self.cell(self.cell(x))

    drawn = tree(draw(Twice(), X))
    assert drawn["cell   Dense   call 1"] == ["v1"]
    assert drawn["cell   Dense   call 2"] == ["v2"]
    assert drawn["Twice"][:2] == ["cell.W", "cell.b"]  # of both calls


def test_any_object_with_modules_and_forward_is_a_module():
    class Plain:
        def __init__(self):
            self.k = Tensor(2.0, requires_grad=True)

        def named_modules(self):
            return [("", self)]

        def forward(self, x):
            return x * self.k

    assert tree(draw(Plain(), X)) == {"": ["x", "[Plain]"], "Plain": ["k", "v1"]}


class Noisy(nn.Module):
    """Has all that a call may change: a running mean, a counter, a generator, a cache."""

    def __init__(self):
        self.mean = Tensor(np.zeros(4))
        self.k = Tensor(np.ones(4), requires_grad=True)
        self.rng = np.random.default_rng(0)
        self.calls = 0
        self.last = self.k * 1

    def forward(self, x):
        self.calls += 1
        self.mean.data[...] += 1
        self.last = x * self.k * self.rng.random(4)
        return self.last


def test_drawing_a_model_changes_nothing_of_it():
    model = Noisy()
    state, last = model.rng.bit_generator.state, model.last
    model.k.grad = np.ones(4)
    drawing = draw(model, X, backward=True, overlay="time")
    assert (model.calls, model.last, model.k.name) == (0, last, None)
    assert model.rng.bit_generator.state == state
    np.testing.assert_array_equal(model.mean.data, np.zeros(4))
    np.testing.assert_array_equal(model.k.grad, np.ones(4))
    assert "k" in names(drawing)


def test_parameters_in_the_picture_are_the_models_own():
    model = nn.Sequential(nn.Dense(4, 3, rng=0))
    model[0].W.grad = np.full((4, 3), 7, np.float32)
    drawing = draw(model, X, around=model[0].W, radius=1)
    (box,) = [box for box in drawing.graph.boxes if box.name == "0.W"]
    assert box.gradient.lines[0].split() == ["7", "7", "7"]


def test_a_model_that_waits_for_its_first_batch_is_refused():
    with pytest.raises(ArgumentError, match=r"got Dense at '0', which waits .* Call the model"):
        draw(nn.Sequential(nn.Dense(3)), X)


def test_a_model_that_cannot_be_copied_is_refused():
    model = nn.Sequential(nn.Dense(4, 3, rng=0))
    model.log = (i for i in range(3))
    with pytest.raises(ArgumentError, match=r"cannot be copied .* draw the result"):
        draw(model, X)


# -- depth, collapse, repeats ----------------------------------------------------------------------


def test_below_depth_modules_are_one_box_and_equal_ones_in_a_row_together():
    drawing = draw(Net(), X, depth=1)
    assert tree(drawing) == {
        "": ["x", "[Net]"],
        "Net": ["embed   Dense", "x6   Block", "head   Dense"],
    }
    (blocks,) = [fold for fold in drawing.graph.folds if "Block" in fold.title]
    assert blocks.lines == (
        "blocks.0 … blocks.5", "gives (6, 8) float32", "18 operations", "18 parameters",
    )  # fmt: skip
    assert tree(draw(Net(), X, depth=0)) == {"": ["x", "Net"]}


def test_all_levels_are_open_if_depth_is_large():
    assert draw(Net(), X, depth=9).graph == draw(Net(), X).graph


def test_collapse_takes_paths_patterns_classes_and_functions():
    def titles(collapse):
        return [fold.title for fold in draw(Net(2), X, collapse=collapse).graph.folds]

    assert titles("embed") == ["embed   Dense"]
    assert titles(["embed", "blocks.1"]) == ["embed   Dense", "blocks.1   Block"]
    assert titles("blocks.?") == ["blocks.0   Block", "blocks.1   Block"]
    assert titles("Block") == ["blocks.0   Block", "blocks.1   Block"]
    model = Net(2)
    drawing = draw(model, X, collapse=lambda module: module is model.head)
    assert [fold.title for fold in drawing.graph.folds] == ["head   Dense"]
    with pytest.raises(ArgumentError, match=r"collapse= among Net, embed, .*head, got 'tail'"):
        titles("tail")


def test_fold_leaves_the_first_and_the_last_of_equal_modules_open():
    drawing = draw(Net(), X, fold=True)
    (fold,) = drawing.graph.folds
    assert fold.title == "x4   Block"
    frames = [frame.title for frame in drawing.graph.frames]
    assert [title for title in frames if title.endswith("Block")] == [
        "blocks.0   Block", "blocks.5   Block",
    ]  # fmt: skip


def test_modules_that_differ_are_not_repeats():
    sizes = [4, 5, 6, 7, 8, 9]
    model = nn.Sequential(*[nn.Dense(m, n, rng=0) for m, n in itertools.pairwise(sizes)])
    assert draw(model, X, fold=True).graph.folds == ()
    assert [fold.title for fold in draw(model, X, depth=1).graph.folds] == [
        f"{i}   Dense" for i in range(5)
    ]


def test_a_folded_model_runs_one_way():
    graph = draw(Net(), X, depth=1).graph
    order = {part.id: i for i, part in enumerate(graph.folds)}
    for edge in graph.edges:
        if edge.tail in order:
            assert order[edge.tail] < order[edge.head]


def test_a_model_too_large_to_be_drawn_in_full_is_opened_as_far_as_it_fits():
    sizes = [*range(4, 100)]
    stages = [
        nn.Sequential(*[nn.Dense(m, m + 1, activation="tanh", rng=0) for m in sizes[i : i + 12]])
        for i in range(0, 96, 12)
    ]
    drawing = draw(nn.Sequential(*stages), X)
    assert len(drawing.graph.folds) == 96
    assert {frame.title for frame in drawing.graph.frames} == {
        "Sequential", *[f"{i}   Sequential" for i in range(8)],
    }  # fmt: skip


def test_ten_thousand_operations_in_modules_are_a_few_boxes():
    drawing = draw(Net(2500), X * 1e-300)
    (fold,) = drawing.graph.folds
    assert fold.title == "x2,498   Block"
    assert "7,494 operations" in fold.lines
    assert len(drawing.graph.boxes) < 30
