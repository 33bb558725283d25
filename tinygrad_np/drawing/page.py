"""The page: the picture as SVG, the steps as data, and a script that walks through them.

One file that asks for nothing else. Its colours are CSS variables, so that light and dark follow
the reader; names reach it as SVG text and as JSON, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import fields, is_dataclass, replace
from importlib.resources import files
from string import Template
from typing import Any

from .dot import LEGEND, dot
from .engine import render
from .graph import Graph
from .numbers import Summary
from .steps import Story
from .theme import THEMES, Paint, Theme

SVG = "{http://www.w3.org/2000/svg}"
SHORTEST_GRADIENT = len("no grad yet") - len("grad ")  # the room a box has for saying so


def page(story: Story, direction: str) -> str:
    """The whole file."""
    style = f"{_palette()}\n{_file('page.css')}"
    script = _file("page.js")
    return Template(_file("page.html")).substitute(
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        picture=picture(story, direction),
        legend="".join(_legend(story.graph)),
        data=_json(_data(story)),
    )


def _data(story: Story) -> dict[str, Any]:
    """The story, in which each summary is said once and else by its place among the ``said``."""
    graph = story.graph
    said: dict[Any, int] = {}
    steps = [_plain(step, said) for step in story.steps]
    return {
        "forward": sum(step.pop("phase") == "forward" for step in steps),
        "steps": steps,
        "values": {id: _plain(value, said) for id, value in story.values.items()},
        "said": list(said),
        "folds": {fold.id: [fold.title, *fold.lines] for fold in graph.folds},
        "edges": [[edge.tail, edge.head] for edge in graph.edges],
        "root": story.root,
        "notes": [*graph.note.splitlines(), *story.notes],
    }


def _plain(one: Any, said: dict[Any, int]) -> Any:
    """A record as JSON, without the fields that are as nearly always."""
    if isinstance(one, Summary):
        return said.setdefault((one.lines, one.histogram, one.finite), len(said))
    if isinstance(one, tuple):
        return [_plain(each, said) for each in one]
    if not is_dataclass(one):
        return one
    pairs = ((field, getattr(one, field.name)) for field in fields(one))
    return {field.name: _plain(value, said) for field, value in pairs if value != field.default}


def _json(data: Any) -> str:
    """JSON that is safe inside a script element: nothing in it can end the element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _file(name: str) -> str:
    """A part of the page, without its indentation."""
    return re.sub(r"\n\s+", "\n", files(__package__).joinpath(name).read_text("utf-8"))


def _hash(content: str) -> str:
    """The source expression by which a content security policy allows one inline element."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _legend(graph: Graph) -> Iterator[str]:
    present = {box.kind for box in graph.boxes} | ({"fold"} if graph.folds else set())
    for kind, text in LEGEND.items():
        if kind in present:
            yield f'<li class="{kind}">{text}</li>'


# --------------------------------------------------------------------------------------------------
# Colours: every role of the theme is a CSS variable
# --------------------------------------------------------------------------------------------------


def _roles(theme: Theme) -> Iterator[tuple[str, str]]:
    """Each colour of a theme with the name of its variable."""
    for field in fields(theme):
        color = getattr(theme, field.name)
        if isinstance(color, Paint):
            yield f"{field.name}-line", color.line
            yield f"{field.name}-area", color.area
        else:
            yield field.name, color


def _palette() -> str:
    """The two themes as variables."""
    light, dark = ("".join(f"--{k}:{v};" for k, v in _roles(THEMES[n])) for n in ("light", "dark"))
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def _marked_theme() -> tuple[Theme, dict[str, str]]:
    """A theme that has every colour once, and the role of each: what the engine carries through."""
    light = THEMES["light"]
    roles = {f"#0000{i:02x}": name for i, (name, _) in enumerate(_roles(light), start=1)}
    unused = iter(roles)
    colors: dict[str, Any] = {
        field.name: Paint(next(unused), next(unused))
        if isinstance(getattr(light, field.name), Paint)
        else next(unused)
        for field in fields(light)
    }
    return Theme(**colors), roles


# --------------------------------------------------------------------------------------------------
# The picture
# --------------------------------------------------------------------------------------------------


def picture(story: Story, direction: str) -> str:
    """The SVG of the page: boxes with ``data-id``, edges with ``data-edge``, and what is a number
    marked as value or gradient."""
    theme, roles = _marked_theme()
    graph = story.graph
    shown = _with_gradients(story)
    root = ET.fromstring(render(dot(shown, theme, direction, legend=False), "svg"))
    for parent in [*root.iter()]:
        for group in parent.findall(f"{SVG}g"):
            _identify(group)
            _unwrap(group)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        _styled(element, roles)
    kinds = {box.id: box.kind for box in graph.boxes} | {tag.id: tag.kind for tag in graph.tags}
    values = {box.id: set(box.value.lines) for box in graph.boxes}
    for group in root.iter("g"):
        if id := group.attrib.get("data-id"):
            _slim_box(group, kinds.get(id, "fold"), values.get(id, set()))
        elif "data-edge" in group.attrib:
            _slim_edge(group)
    root.attrib = {"viewBox": root.attrib["viewBox"], "id": "picture"}
    return ET.tostring(root, encoding="unicode")


def _with_gradients(story: Story) -> Graph:
    """The graph with the gradients that the steps end with; the note is for the panel."""
    graph = story.graph
    final = {arrival.to: arrival.total for step in story.steps for arrival in step.arrivals}
    if story.root is not None:
        final[story.root] = Summary(("1",))
    boxes = []
    for box in graph.boxes:
        gradient: Summary | str | None = final.get(box.id)
        if isinstance(gradient, Summary):
            first, *rest = gradient.lines
            gradient = gradient._replace(lines=(first.ljust(SHORTEST_GRADIENT), *rest))
        elif box.gradient is not None:
            gradient = "no gradient arrives"
        boxes.append(replace(box, gradient=gradient))
    return replace(graph, boxes=tuple(boxes), note="")


def _identify(group: ET.Element) -> None:
    """``data-id`` or ``data-edge`` instead of the title, which a browser would show."""
    title = group.find(f"{SVG}title")
    if title is None:
        return
    kind = group.get("class")
    if kind == "node":
        group.set("data-id", title.text or "")
    elif kind == "edge":  # the engine numbers edges as the source does
        group.set("data-edge", str(int(group.attrib["id"].removeprefix("edge")) - 1))
    group.remove(title)


def _unwrap(group: ET.Element) -> None:
    """Without the links that carry tooltips: their content in their place."""
    content: list[ET.Element] = []
    for child in group:
        links = child.findall(f"{SVG}a")
        content += [inner for link in links for inner in link] if links else [child]
    group[:] = content


def _styled(element: ET.Element, roles: Mapping[str, str]) -> None:
    """Attributes that a strict policy allows, with colours by role, and no more than are needed."""
    for part in element.attrib.pop("style", "").split(";"):
        if part.strip():
            name, value = part.split(":", 1)
            element.set(name.strip(), value.strip())
    for name, value in [*element.items()]:
        if value in roles:
            element.set(name, f"var(--{roles[value]})")
        elif name in ("points", "d", "x", "y"):
            element.set(name, _rounded(value))
    if element.tag == "polygon":
        first, *rest = element.attrib["points"].split()
        element.set("points", " ".join([first, *rest[: -1 if rest[-1] == first else None]]))
    if element.tag == "text":
        _font(element)
    else:
        element.text = None
    element.tail = None


def _slim_edge(edge: ET.Element) -> None:
    """An edge without the colours it has unless it says otherwise (see page.css)."""
    del edge.attrib["id"], edge.attrib["class"]
    for element in edge:
        for name in ("fill", "stroke"):
            if element.get(name) in ("var(--ink)", "none"):
                del element.attrib[name]


def _rounded(numbers: str) -> str:
    """Tenths of a point are enough."""
    return re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), numbers)


def _font(text: ET.Element) -> None:
    """A class for the typewriter face and for gradients; the rest is inherited (see page.css)."""
    font = {
        "mono": "Courier" in text.attrib.pop("font-family"),
        "gradient": text.attrib["fill"] == "var(--gradient)",
    }
    if (text.get("font-size"), text.get("fill")) == ("9.00", "var(--faint)"):
        del text.attrib["font-size"], text.attrib["fill"]
        font["small"] = True
    if any(font.values()):
        text.set("class", " ".join(name for name, has in font.items() if has))
    size = "10.00" if font["mono"] else "12.00"
    for name, value in [*text.items()]:
        if value in ("var(--ink)", "var(--gradient)", "start", "preserve", size):
            del text.attrib[name]
    text.text = (text.text or "").replace("\u00a0", " ")


def _slim_box(box: ET.Element, kind: str, values: Set[str]) -> None:
    """A box without the colours of its kind (see page.css); the class ``value`` on what says a
    value; the bars of a histogram as one path for the script to draw."""
    del box.attrib["id"]
    box.set("class", kind)
    own = {"fill": f"var(--{kind}-area)", "stroke": f"var(--{kind}-line)"}
    bars: dict[str, list[str]] = {}
    area = ET.Element("")
    for element in [*box]:
        fill = element.get("fill")
        if element.tag == "polygon" and fill in ("var(--ink)", "var(--gradient)"):
            what = "value" if fill == "var(--ink)" else "gradient"
            bars.setdefault(what, []).append(element.attrib["points"])
            box.remove(element)
        elif fill == "none" and element.get("points", "") == area.get("points"):
            area.set("stroke", element.attrib["stroke"])  # the frame of an area, drawn apart
            box.remove(element)
        elif element.get("class") == "mono" and (element.text or "").removeprefix("! ") in values:
            element.set("class", "mono value")
        area = element
    for element in box:
        for name, value in own.items():
            if element.tag != "text" and element.get(name) == value:
                del element.attrib[name]
    for what, columns in bars.items():
        box.append(_bars(what, columns))


def _bars(what: str, columns: Iterable[str]) -> ET.Element:
    """The room of a histogram: left, bottom and width; the script has its counts."""
    numbers = [float(number) for points in columns for number in re.split("[ ,]", points)]
    left, right, bottom = min(numbers[::2]), max(numbers[::2]), max(numbers[1::2])
    return ET.Element(
        "path", {"class": what, "data-room": f"{left:.0f} {bottom:.0f} {right - left:.0f}"}
    )
