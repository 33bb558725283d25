"""Drawings as JSON, reloaded; and what is no such file."""

import json

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tests.drawing.conftest import chain
from tests.drawing.test_picture import HOSTILE
from tinygrad_np import Tensor
from tinygrad_np.errors import ArgumentError


def saved(drawing, folder):
    return drawing.save(folder / "graph.json")


def damaged(path, change):
    """The file with a change made to its data."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


@pytest.fixture
def file(tmp_path, perceptron):
    return saved(tg.draw(perceptron["loss"], names=perceptron), tmp_path)


def test_a_drawing_is_reloaded_whole(tmp_path, perceptron):
    perceptron["loss"].backward()
    drawings = [
        tg.draw(perceptron["loss"], names=perceptron, backward=True, overlay="bytes"),
        tg.draw(perceptron["loss"], theme="dark", direction="right", legend=False),
        tg.draw(chain(400), overlay="time"),
        tg.draw(chain(40)),
        tg.draw(nn.Sequential(nn.Dense(4, 3, rng=0)), np.ones((2, 4)), depth=1),
    ]
    for drawing in drawings:
        again = tg.draw.load(saved(drawing, tmp_path))
        assert (again.graph, again.look) == (drawing.graph, drawing.look)
        assert again.dot == drawing.dot
    assert again.svg.count("<g ") == drawing.svg.count("<g ")


def test_numbers_that_are_not_finite_survive_and_the_file_is_strict_json(tmp_path):
    x = Tensor([np.nan, np.inf, -np.inf], requires_grad=True, name="x")

    def refuse(name):
        raise AssertionError(name)

    drawing = tg.draw(x)
    path = saved(drawing, tmp_path)
    json.loads(path.read_text(), parse_constant=refuse)
    sample = tg.draw.load(path).graph.boxes[0].value.sample
    np.testing.assert_array_equal(sample, x.data)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_survive(tmp_path, name):
    x = Tensor([1.0], requires_grad=True, name=name)
    drawing = tg.draw(x * 2)
    assert tg.draw.load(saved(drawing, tmp_path)).dot == drawing.dot


def test_a_reloaded_drawing_has_no_page(tmp_path, file):
    with pytest.raises(ArgumentError, match=r"computed from the tensors.*Save the page"):
        tg.draw.load(file).save(tmp_path / "page.html")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("\xff", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", "a graph that Drawing.save wrote, got other JSON"),
        ('{"format": "theirs"}', "got other JSON"),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path, content, words):
    path = tmp_path / "graph.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ArgumentError, match=f"draw.load: graph.json: expected .*{words}|{words}"):
        tg.draw.load(path)


def box(data):
    return data["graph"]["boxes"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: d.update(version=2),
            "expected version 1, got version 2. Read it with the version",
        ),
        (lambda d: d.pop("graph"), "graph: expected Graph, got None"),
        (lambda d: d["graph"].pop("edges"), r"missing 1 required positional argument: 'edges'"),
        (lambda d: d["graph"].update(boxes={}), r"graph.boxes: expected a list, got \{\}"),
        (
            lambda d: box(d).update(shape=["4"]),
            r"graph.boxes\[0\].shape\[0\]: expected int, got '4'",
        ),
        (lambda d: box(d).update(shape=[True]), r"expected int, got True"),
        (lambda d: box(d).update(kind="spy"), r"kind: expected one of 'parameter', .*, got 'spy'"),
        (lambda d: box(d).update(extra=1), "expected fields among id, kind, .* got extra"),
        (lambda d: box(d).update(name=None), r"name: expected str, got None"),
        (lambda d: box(d)["value"].update(norm="high"), "norm: expected float, got 'high'"),
        (lambda d: box(d).update(id="n0; evil"), "ids that are words, each once, got 'n0; evil'"),
        (lambda d: box(d).update(id="n1"), "ids that are words, each once, got 'n1'"),
        (lambda d: box(d).update(frame="m7"), "n0 to lead to what is there, got 'm7'"),
        (lambda d: d["graph"]["edges"][0].update(tail="n99"), "an edge to lead .* got 'n99'"),
        (lambda d: d["look"].update(theme="blue"), "theme= among light, dark, got 'blue'"),
        (
            lambda d: d["graph"].update(frames=[{"id": "m0", "title": "", "inside": "m0"}]),
            "the frame m0 to lead to what is there, got 'm0'",
        ),
    ],
)
def test_a_damaged_graph_is_refused(file, change, words):
    with pytest.raises(ArgumentError, match=words) as caught:
        tg.draw.load(damaged(file, change))
    assert str(caught.value).startswith("draw.load: graph.json")


def test_a_missing_file_is_what_python_says(tmp_path):
    with pytest.raises(FileNotFoundError):
        tg.draw.load(tmp_path / "nowhere.json")
