"""A graph as DOT: HTML labels in boxes and ellipses, which every Graphviz engine draws alike."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Set

from .graph import Box, Edge, Fold, Graph, Tag
from .numbers import Summary, number
from .theme import Paint, Theme

SANS = "Helvetica"
MONO = "Courier"
BAR_HEIGHT = 14  # points
LONGEST = 46  # characters of a name or a formula; the tooltip has all of it

# A kind of box has its own shape as well as its own colour.
SHAPES = {
    "parameter": {"shape": "box", "style": "filled", "penwidth": "3"},
    "input": {"shape": "box", "style": "filled,rounded", "penwidth": "1.5"},
    "constant": {"shape": "ellipse", "style": "filled", "margin": "0"},
    "fold": {"shape": "box", "style": "filled,dashed", "peripheries": "2"},
}
LEGEND = {
    "parameter": "parameter: requires a gradient",
    "input": "input",
    "constant": "constant",
    "computed": "result of an operation",
    "fold": "folded or left out",
}


def dot(graph: Graph, theme: Theme, direction: str, legend: bool = True) -> str:
    """The source of a picture."""
    return "\n".join(_lines(graph, theme, direction, legend)) + "\n"


def _lines(graph: Graph, theme: Theme, direction: str, legend: bool) -> Iterator[str]:
    named: list[Box | Tag] = [*graph.boxes, *graph.tags]
    names = {one.id: one.name for one in named}
    leaves = {one.id for one in named if one.kind != "computed"}
    yield "digraph {"
    yield "  graph" + attributes(
        rankdir=direction, bgcolor=theme.paper, fontname=SANS, fontcolor=theme.ink, pad="0.15",
        nodesep="0.3", ranksep="0.35", labelloc="b", labeljust="l",
        label=_caption(graph, theme, legend),
    )  # fmt: skip
    yield "  node" + attributes(
        fontname=SANS, fontsize="12", fontcolor=theme.ink, margin="0.08,0.05"
    )
    yield "  edge" + attributes(fontname=MONO, fontsize="10", arrowsize="0.6")
    for box in graph.boxes:
        yield f"  {box.id}" + _box(box, theme)
    for fold in graph.folds:
        yield f"  {fold.id}" + _fold(fold, theme)
    for tag in graph.tags:
        yield f"  {tag.id}" + _tag(tag, theme)
    for edge in graph.edges:
        yield f"  {edge.tail} -> {edge.head}" + _edge(edge, theme, names, leaves)
    yield "}"


# --------------------------------------------------------------------------------------------------
# Boxes and edges
# --------------------------------------------------------------------------------------------------


def _box(box: Box, theme: Theme) -> str:
    paint = theme.paint(box.kind)
    whole = f"{box.name} = {box.expression}" if box.expression else box.name
    body = table(*_rows(box, theme))
    if box.kind != "computed":
        return _shape(box.kind, paint, body, whole)
    header = row(text(box.operation, theme.header, bold=True), bgcolor=paint.line)
    framed = table(header, row(body), border=1, padding=3, color=paint.line, bgcolor=paint.area)
    return attributes(shape="plain", label=framed, tooltip=whole)


def _shape(kind: str, paint: Paint, label: str, tooltip: str) -> str:
    return attributes(
        **SHAPES[kind], label=label, tooltip=tooltip, color=paint.line, fillcolor=paint.area
    )


def _rows(box: Box, theme: Theme) -> Iterator[str]:
    number = box.shape == ()
    if not (box.kind == "constant" and number):
        kind = box.dtype if number else f"{box.shape} {box.dtype}"
        yield row(text(_short(box.name), theme.ink, bold=True) + text(f"  {kind}", theme.faint, 9))
    if box.expression:
        yield row(text(f"= {_short(box.expression)}", theme.ink, 10, MONO))
    for residual in box.residuals:
        yield row(text(f"where {_short(residual)}", theme.faint, 10, MONO))
    yield from _summary(box.value, theme.ink, theme)
    if isinstance(box.gradient, Summary):
        yield from _summary(box.gradient, theme.gradient, theme, "grad ")
    elif box.gradient is not None:
        yield row(text(box.gradient, theme.faint, 9, italic=True))
    if box.tags:
        yield row(text(f"used {box.tags} times, named at each", theme.faint, 9, italic=True))


def _summary(summary: Summary, color: str, theme: Theme, label: str = "") -> Iterator[str]:
    """Lines under each other, the first after the label, and the histogram as a strip of shades."""
    if not summary.finite:
        label = f"! {label}"
    lines = [f"{'' if i else label:{len(label)}}{line}" for i, line in enumerate(summary.lines)]
    yield row(text(lines, color, 10, MONO, bold=not summary.finite))
    if summary.histogram:
        yield row(_bars(summary.histogram, color))


def _bars(counts: tuple[int, ...], color: str) -> str:
    """A histogram as wide as the box: columns of an empty and a coloured cell."""
    columns = []
    for count in counts:
        height = max(round(BAR_HEIGHT * count / max(counts)), int(count > 0))
        parts = [(BAR_HEIGHT - height, ""), (height, f' BGCOLOR="{color}"')]
        cells = [f'<TR><TD HEIGHT="{h}" WIDTH="6"{fill}></TD></TR>' for h, fill in parts if h]
        columns.append(f"<TD>{table(*cells, padding=0)}</TD>")
    return table(f"<TR>{''.join(columns)}</TR>", padding=0, spacing=1)


def _tag(tag: Tag, theme: Theme) -> str:
    label = table(row(text(_short(tag.name), theme.ink, 10, bold=True)))
    kind = "constant" if tag.kind == "computed" else tag.kind
    return _shape(kind, theme.paint(tag.kind), label, tag.name)


def _fold(fold: Fold, theme: Theme) -> str:
    rows = [row(text(fold.title, theme.ink, bold=True))]
    rows += [row(text(line, theme.ink, 10)) for line in fold.lines]
    return _shape("fold", theme.fold, table(*rows), fold.title)


def _edge(edge: Edge, theme: Theme, names: Mapping[str, str], leaves: Set[str]) -> str:
    # The results are kept in a line, and the leaves beside it.
    style = {"weight": "1" if edge.tail in leaves else "8"}
    style |= {"color": theme.ink} if edge.flows else {"color": theme.faint, "style": "dashed"}
    lines = [f"x{edge.count:,}"] if edge.count > 1 else []
    if edge.formula:
        lines.append(_short(edge.formula))
        style |= {"tooltip": edge.formula, "labeltooltip": edge.formula}
    if edge.slope is not None:
        lines.append(f"d{names[edge.head]}/d{names[edge.tail]} = {number(edge.slope)}")
    if lines:
        style["label"] = table(row(text(lines, theme.gradient, 10, MONO)), padding=3)
    return attributes(**style)


def _caption(graph: Graph, theme: Theme, legend: bool) -> str:
    lines = [row(text(graph.note, theme.ink, 11))] if graph.note else []
    if legend:
        present = [*dict.fromkeys(box.kind for box in graph.boxes), *["fold"] * bool(graph.folds)]
        entries = [_entry(kind, theme) for kind in LEGEND if kind in present]
        lines.append(row(table(f"<TR>{''.join(entries)}</TR>", spacing=4)))
        if any(edge.formula for edge in graph.edges):
            lines.append(row(
                text("on an edge: ", theme.faint, 10)
                + text("what backward() sends to the argument, g being the gradient of the result",
                       theme.gradient, 10)
            ))  # fmt: skip
    return table(*lines) if lines else ""


def _entry(kind: str, theme: Theme) -> str:
    paint = theme.paint(kind)
    style = {"input": "ROUNDED", "constant": "ROUNDED", "fold": "DASHED"}.get(kind, "SOLID")
    swatch = (
        f'<TABLE BORDER="{3 if kind == "parameter" else 1}" CELLBORDER="0" COLOR="{paint.line}" '
        f'BGCOLOR="{paint.area}" STYLE="{style}"><TR><TD>'
        f"{text(LEGEND[kind], theme.ink, 10)}</TD></TR></TABLE>"
    )
    return f"<TD>{swatch}</TD>"


# --------------------------------------------------------------------------------------------------
# DOT and its HTML labels
# --------------------------------------------------------------------------------------------------


def attributes(**values: str) -> str:
    """An attribute list; a label that is a table is an HTML label, all else is quoted."""
    texts = [
        f"{key}=<{value}>" if value.startswith("<TABLE") else f"{key}={quoted(value)}"
        for key, value in values.items()
    ]
    return f" [{', '.join(texts)}]"


def quoted(value: str) -> str:
    """A DOT string that shows ``value``: no escape, entity or end of string in it has an effect."""
    for old, new in (("\\", "\\\\"), ("&", "&amp;"), ('"', '\\"'), ("\n", "\\n")):
        value = value.replace(old, new)
    return f'"{_printable(value)}"'


def escaped(value: str) -> str:
    """Text for an HTML label, where a backslash begins an escape as it does in a string."""
    return _printable(html.escape(value)).replace("\\", "\\\\") or " "


def _printable(value: str) -> str:
    """Without the characters that XML does not have: control codes, halves of surrogate pairs."""
    return "".join(c if c.isprintable() or c == " " else "�" for c in value)


def text(
    lines: str | list[str], color: str, size: int = 12, face: str = SANS, *,
    bold: bool = False, italic: bool = False,
) -> str:  # fmt: skip
    """Text in one font: a line, or several, aligned on the left."""
    if isinstance(lines, str):
        body = escaped(lines)
    else:
        body = "".join(f'{escaped(line)}<BR ALIGN="LEFT"/>' for line in lines)
    body = f"<B>{body}</B>" if bold else body
    body = f"<I>{body}</I>" if italic else body
    return f'<FONT FACE="{face}" POINT-SIZE="{size}" COLOR="{color}">{body}</FONT>'


def row(cell: str, bgcolor: str = "") -> str:
    """A row of one cell."""
    fill = f' BGCOLOR="{bgcolor}"' if bgcolor else ' ALIGN="LEFT" BALIGN="LEFT"'
    return f"<TR><TD{fill}>{cell}</TD></TR>"


def table(
    *rows: str, border: int = 0, padding: int = 1, spacing: int = 0,
    color: str = "", bgcolor: str = "",
) -> str:  # fmt: skip
    """A table without lines between its cells."""
    paint = f' COLOR="{color}" BGCOLOR="{bgcolor}"' if color else ""
    return (
        f'<TABLE BORDER="{border}" CELLBORDER="0" CELLSPACING="{spacing}" CELLPADDING="{padding}"'
        f"{paint}>{''.join(rows)}</TABLE>"
    )


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
