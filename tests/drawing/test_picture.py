"""DOT, engines and files."""

import shutil
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from tests.drawing.conftest import chain
from tinygrad_np import Tensor
from tinygrad_np.drawing import draw, engine
from tinygrad_np.drawing.dot import quoted
from tinygrad_np.drawing.theme import THEMES
from tinygrad_np.errors import ArgumentError, TensorError

SVG = "{http://www.w3.org/2000/svg}"
REAL_DOT = shutil.which("dot")
HOSTILE = ["</script><b>", '"; }', "\\N\\", "a\nb", "&lt;", "\x00\x1b", "]]>", "名前", "--", ""]


@pytest.fixture
def no_dot(monkeypatch, tmp_path):
    """Hides any `dot` on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def scalar():
    a = Tensor(2.0, requires_grad=True, name="a")
    return a * a + 1


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def nodes(svg):
    groups = [g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("class") == "node"]
    titles = [g.find(f"{SVG}title").text for g in groups]
    return [title for title in titles if not title.startswith("legend_")]


def test_dot_has_a_line_for_each_box_and_edge(scalar):
    lines = draw(scalar, legend=False).dot.splitlines()
    assert lines[0] == "digraph {"
    assert [line.split()[0] for line in lines if line.startswith("  n") and "->" not in line] == [
        "node", "n0", "n1", "n2", "n3",
    ]  # fmt: skip
    assert [line.split(" [")[0].strip() for line in lines if "->" in line] == [
        "n0 -> n2", "n0 -> n2", "n2 -> n3", "n1 -> n3",
    ]  # fmt: skip


def test_each_kind_of_box_has_its_own_shape(perceptron):
    source = draw(perceptron["loss"] * 2, names=perceptron, legend=False).dot
    shapes = {
        line.split()[0]: line.split("shape=")[1].split(",")[0] + ("rounded" in line) * " rounded"
        for line in source.splitlines()
        if "shape=" in line
    }
    assert len(set(shapes.values())) == 4


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_readable_on_every_area(theme):
    """WCAG contrast of 4.5 : 1 for text and 3 : 1 for lines."""

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    def contrast(one, other):
        low, high = sorted([luminance(one), luminance(other)])
        return (high + 0.05) / (low + 0.05)

    colors = THEMES[theme]
    for kind in ("parameter", "input", "constant", "computed", "fold"):
        area = colors.paint(kind).area
        for ink in (colors.ink, colors.faint, colors.gradient):
            assert contrast(ink, area) >= 4.5, (kind, ink)
    assert contrast(colors.header, colors.computed.line) >= 4.5
    assert contrast(colors.gradient, colors.paper) >= 4.5


def test_without_dot_the_engine_from_pip_draws(no_dot, scalar):
    assert shutil.which("dot") is None
    assert engine.find_engine().stem == "graphviz-pure"
    svg = draw(scalar).svg
    assert sorted(nodes(svg)) == ["n0", "n1", "n2", "n3"]
    assert {"a", "multiply", "add", "g * a", "dv1/da = 2", "no gradient yet"} <= set(texts(svg))


@pytest.mark.skipif(REAL_DOT is None, reason="no Graphviz on PATH")
def test_a_dot_on_path_draws(scalar):
    assert engine.find_engine() == Path(REAL_DOT)
    assert sorted(nodes(draw(scalar).svg)) == ["n0", "n1", "n2", "n3"]


def test_a_dot_on_path_goes_first(monkeypatch, tmp_path, scalar):
    name = "dot.exe" if sys.platform == "win32" else "dot"
    shutil.copy2(engine.find_engine(), tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine.find_engine() == tmp_path / name


def test_without_any_engine_the_error_says_what_to_install(no_dot, monkeypatch, scalar, tmp_path):
    monkeypatch.setattr(engine.sysconfig, "get_path", lambda *args: str(tmp_path))
    monkeypatch.setattr(engine.sys, "executable", str(tmp_path / "python"))
    drawing = draw(scalar)
    with pytest.raises(TensorError, match="pip install graphviz-pure"):
        _ = drawing.svg
    drawing.save(tmp_path / "graph.dot")
    assert (tmp_path / "graph.dot").read_text() == drawing.dot


def test_without_the_graphviz_package_the_error_says_so(monkeypatch, scalar):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(TensorError, match="pip install graphviz"):
        _ = draw(scalar).svg


def test_the_engine_of_the_graphviz_package_is_put_back(no_dot, monkeypatch):
    from graphviz.backend import dot_command

    monkeypatch.setattr(dot_command, "DOT_BINARY", Path("theirs"))
    engine.render("digraph { a }", "svg")
    assert dot_command.DOT_BINARY.name == "theirs"
    with pytest.raises(TensorError, match=r"failed: .*syntax error"):
        engine.render("digraph {", "svg")
    assert dot_command.DOT_BINARY.name == "theirs"


def test_threads_draw_side_by_side(no_dot, scalar):
    drawings = [draw(scalar, theme=theme) for theme in ("light", "dark") * 3]
    threads = [threading.Thread(target=lambda d=d: d.svg) for d in drawings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [drawing.__dict__["svg"] == drawings[i % 2].svg for i, drawing in enumerate(drawings)]
    assert len({drawing.svg for drawing in drawings}) == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_drawn_as_text(name):
    x = Tensor(np.ones((2, 3)), requires_grad=True, name=name)
    svg = draw(x @ np.ones((3, 2)) * x.T.mT.sum()).svg
    shown = "".join(c if c.isprintable() else "�" for c in name)
    assert len(nodes(svg)) == 7
    if shown:
        assert shown in {text and text.replace("\xa0", " ") for text in texts(svg)}
    assert "<script" not in svg
    assert not [tag for tag in ET.fromstring(svg).iter() if tag.tag.endswith("}b")]


@pytest.mark.parametrize("name", HOSTILE)
def test_quoted_text_is_what_the_engine_reads(name):
    shown = "".join(c if c.isprintable() else "�" for c in name.replace("\n", ""))
    svg = engine.render(f"digraph {{ n [label={quoted(name)}] }}", "svg")
    assert "".join(text for text in texts(svg) if text).replace("\xa0", " ") == shown


@pytest.mark.parametrize(
    ("ending", "start"), [(".svg", b"<?xml"), (".PNG", b"\x89PNG"), (".dot", b"digraph")]
)
def test_save_goes_by_the_ending(tmp_path, scalar, ending, start):
    path = draw(scalar).save(tmp_path / f"graph{ending}")
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_ending_is_refused(tmp_path, scalar):
    with pytest.raises(ArgumentError, match=r"ends in .*\.json, got 'graph\.pdf'"):
        draw(scalar).save(tmp_path / "graph.pdf")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file_whole(tmp_path, scalar, monkeypatch):
    path = draw(scalar).save(tmp_path / "graph.dot")
    old = path.read_bytes()

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        draw(scalar * 2).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_png_of_a_huge_graph_is_refused(tmp_path):
    drawing = draw(chain(1400), fold=False, formulas=False)
    with pytest.raises(ArgumentError, match=r"2,000 boxes in a PNG, got 2,803\. Save it as \.svg"):
        drawing.save(tmp_path / "graph.png")


def test_a_notebook_shows_svg(scalar):
    bundle = draw(scalar)._repr_mimebundle_()
    assert bundle["text/plain"] == "Drawing(4 boxes, 4 edges)"
    assert sorted(nodes(bundle["image/svg+xml"])) == ["n0", "n1", "n2", "n3"]


def test_themes_and_directions_reach_the_source(scalar):
    dark = draw(scalar, theme="dark", direction="right", legend=False, formulas=False).dot
    assert THEMES["dark"].paper in dark
    assert 'rankdir="LR"' in dark
    assert "g * a" not in dark
    assert "requires a gradient" not in dark
