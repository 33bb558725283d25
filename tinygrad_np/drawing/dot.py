"""A graph as DOT: HTML labels in boxes and ellipses, which every Graphviz engine draws alike."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Set

from .graph import Box, Edge, Fold, Frame, Graph, Mark, Tag
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
    "gradient": "gradient, in the backward pass",
}
OPERATION = {"computed": "operation", "gradient": "vjp of operation"}
BAR_STEPS = 20  # of a bar that shows a part of the whole
STRIPES = 12
# What a marked box has around it: the colours from left to right, and the line.
BANDS = {
    "framed": (("mark",), "solid"),
    "hatched": (("mark", "paper"), "solid"),
    "changed": (("mark",), "solid"),
    "added": (("added",), "solid"),
    "removed": (("removed", "paper"), "dashed"),
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
        # One ranking for all modules, so that the hints of `_ranks` bind.
        **({"newrank": "true"} if graph.frames else {}),
    )  # fmt: skip
    yield "  node" + attributes(
        fontname=SANS, fontsize="12", fontcolor=theme.ink, margin="0.08,0.05"
    )
    yield "  edge" + attributes(fontname=MONO, fontsize="10", arrowsize="0.6")
    yield from _nodes(graph, theme)
    for edge in graph.edges:
        # The backward pass runs up beside the forward one.
        ends = (edge.head, edge.tail) if edge.role == "backward" else (edge.tail, edge.head)
        yield f"  {ends[0]} -> {ends[1]}" + _edge(edge, theme, names, leaves)
    # What is only drawn to place boxes comes last: the edges are numbered in their order.
    yield from _ranks(graph)
    if legend:
        yield from _legend(graph, theme)
    yield "}"


def _nodes(graph: Graph, theme: Theme) -> Iterator[str]:
    """The boxes, those of a module in its cluster."""
    lines: dict[str, list[str]] = {}
    for box in graph.boxes:
        lines.setdefault(box.frame, []).append(f"{box.id}{_box(box, theme)}")
    for fold in graph.folds:
        lines.setdefault(fold.frame, []).append(f"{fold.id}{_fold(fold, theme)}")
    for tag in graph.tags:
        lines.setdefault(tag.frame, []).append(f"{tag.id}{_tag(tag, theme)}")
    inside: dict[str, list[Frame]] = {}
    for inner in reversed(graph.frames):
        inside.setdefault(inner.inside, []).append(inner)
    todo: list[tuple[int, Frame | None]] = [(1, outer) for outer in inside.get("", [])]
    yield from [f"  {line}" for line in lines.get("", [])]
    while todo:
        depth, frame = todo.pop()
        margin = "  " * depth
        if frame is None:
            yield f"{margin}}}"
            continue
        yield f"{margin}subgraph cluster_{frame.id} {{"
        yield f"{margin}  graph" + attributes(
            label=table(row(text(frame.title, theme.faint, 11, bold=True))), tooltip=frame.title,
            labelloc="t", labeljust="l", style="filled,rounded", color=theme.frame.line,
            fillcolor=theme.frame.area, margin="10",
        )  # fmt: skip
        yield from [f"{margin}  {line}" for line in lines.get(frame.id, [])]
        todo.append((depth, None))
        todo += [(depth + 1, inner) for inner in inside.get(frame.id, [])]


def _ranks(graph: Graph) -> Iterator[str]:
    """The leaves of a module below what comes into it, so that modules stand under each other."""
    around = {frame.id: frame.inside for frame in graph.frames}
    home = {part.id: [*_outward(part.frame, around)] for part in graph.parts}
    entering: dict[str, dict[str, None]] = {}
    used_outside: set[tuple[str, str]] = set()
    for edge in graph.edges:
        if edge.role == "use":
            for frame in home[edge.head]:
                if frame not in home[edge.tail]:
                    entering.setdefault(frame, {})[edge.tail] = None
            for frame in home[edge.tail]:
                if frame not in home[edge.head]:
                    used_outside.add((edge.tail, frame))
    named: list[Box | Tag] = [*graph.boxes, *graph.tags]
    for one in named:
        if one.kind not in ("computed", "gradient") and (one.id, one.frame) not in used_outside:
            for tail in entering.get(one.frame, ()):
                yield f"  {tail} -> {one.id}" + attributes(style="invis", weight="0")


def _outward(frame: str, around: Mapping[str, str]) -> Iterator[str]:
    while frame:
        yield frame
        frame = around[frame]


# --------------------------------------------------------------------------------------------------
# Boxes and edges
# --------------------------------------------------------------------------------------------------


def _box(box: Box, theme: Theme) -> str:
    paint = theme.paint(box.kind)
    whole = f"{box.name} = {box.expression}" if box.expression else box.name
    body = table(*_rows(box, theme))
    rows = [row(body)]
    if box.operation:
        rows.insert(0, row(text(box.operation, theme.header, bold=True), bgcolor=paint.line))
    framed = table(*rows, border=1, padding=3, color=paint.line, bgcolor=paint.area)
    if box.mark is not None and box.mark.state:
        return _band(box.mark.state, framed, whole, theme)
    if box.operation:
        return attributes(shape="plain", label=framed, tooltip=whole)
    return _shape(box.kind, paint, body, whole)


def _band(state: str, framed: str, tooltip: str, theme: Theme) -> str:
    """A box with a band of one colour, or of stripes, around it."""
    colors, line = BANDS[state]
    band = [getattr(theme, color) for color in colors]
    return attributes(
        shape="box", label=framed, tooltip=tooltip, margin="0.09,0.09", color=theme.ink,
        penwidth="2", style=f"{'striped' if band[1:] else 'filled'},{line}",
        fillcolor=":".join(band * STRIPES if band[1:] else band),
    )  # fmt: skip


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
    if box.also:
        yield row(text(f"= {_short(' = '.join(box.also))}", theme.faint, 10, MONO))
    if box.mark is not None:
        yield from _mark(box.mark, theme)
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


def _mark(mark: Mark, theme: Theme) -> Iterator[str]:
    """What an overlay says, with a bar for the part of the whole."""
    for line in mark.lines:
        yield row(text(_short(line), theme.ink, 10, bold=bool(mark.state)))
    if mark.share is not None:
        filled = math.ceil(BAR_STEPS * mark.share - 1e-9)
        colors = [theme.mark if i < filled else theme.frame.area for i in range(BAR_STEPS)]
        cells = "".join([f'<TD HEIGHT="5" WIDTH="5" BGCOLOR="{color}"></TD>' for color in colors])
        yield row(table(f"<TR>{cells}</TR>", padding=0))


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
    rows += _mark(fold.mark, theme) if fold.mark is not None else ()
    body = table(*rows)
    if fold.mark is not None and fold.mark.state:
        line, area = theme.fold.line, theme.fold.area
        framed = table(row(body), border=1, padding=3, color=line, bgcolor=area)
        return _band(fold.mark.state, framed, fold.title, theme)
    return _shape("fold", theme.fold, body, fold.title)


def _edge(edge: Edge, theme: Theme, names: Mapping[str, str], leaves: Set[str]) -> str:
    if edge.role != "use":
        return attributes(**_besides(edge, theme))
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


def _besides(edge: Edge, theme: Theme) -> dict[str, str]:
    """The look of an edge of the backward pass."""
    gradient = theme.backward.line
    match edge.role:
        case "backward":
            lines = [f"x{edge.count:,}"] if edge.count > 1 else []
            label = table(row(text(lines, theme.gradient, 10, MONO)), padding=3) if lines else ""
            return {"dir": "back", "color": gradient, "weight": "8", "label": label}
        case "read":
            return {"constraint": "false", "color": theme.frame.line, "penwidth": "0.6"}
        case _:  # as high as its value if possible
            return {
                "dir": "none", "style": "dashed", "color": gradient, "minlen": "0", "weight": "2"
            }  # fmt: skip


def _caption(graph: Graph, theme: Theme, legend: bool) -> str:
    lines = [row(text(line, theme.ink, 11)) for line in graph.note.splitlines()]
    if legend and any(edge.formula for edge in graph.edges):
        lines.append(row(
            text("on an edge: ", theme.faint, 10)
            + text("what backward() sends to the argument, g being the gradient of the result",
                   theme.gradient, 10)
        ))  # fmt: skip
    return table(*lines) if lines else ""


def _legend(graph: Graph, theme: Theme) -> Iterator[str]:
    """A node for each kind of box, drawn as they are, below the last result."""
    present = [*dict.fromkeys(box.kind for box in graph.boxes), *["fold"] * bool(graph.folds)]
    kinds = [kind for kind in LEGEND if kind in present]
    yield "  subgraph legend {"
    yield '    graph [rank="sink"]'
    yield '    node [width="0.1", height="0.1"]'
    for kind in kinds:
        paint = theme.paint(kind)
        body = table(row(text(LEGEND[kind], theme.ink, 10)))
        if kind in SHAPES:
            yield f"    legend_{kind}" + _shape(kind, paint, body, LEGEND[kind])
        else:
            header = row(text(OPERATION[kind], theme.header, 10, bold=True), bgcolor=paint.line)
            body = table(header, row(body), border=1, color=paint.line, bgcolor=paint.area)
            yield f"    legend_{kind}" + attributes(shape="plain", label=body)
    yield "  }"
    used = {edge.tail for edge in graph.edges if edge.role == "use"}
    ends = [part.id for part in graph.parts if part.id not in used]
    for kind in kinds:
        yield f"  {ends[0]} -> legend_{kind}" + attributes(style="invis")


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
