"""Two drawings of the same model, compared: what changed in structure, values and gradients.

Boxes answer to each other by what they are and in which order, and by the names the user gave, so
that an operation put in between is one difference and not a shift of all that follows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from .graph import Box, Edge, Fold, Graph, Mark, State, Tag
from .numbers import SAMPLE, Summary, number

Part = Box | Fold | Tag
Ends = tuple[str, str, str]
COUNTED = re.compile(r"d?[vwc]\d+(_\d+)?")  # names given by counting, which shift
NAME = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Found:
    """The differences, a line each, and the second graph with marks on what is another."""

    graph: Graph
    structure: tuple[str, ...]
    values: tuple[str, ...]
    gradients: tuple[str, ...]


def compared(a: Graph, b: Graph, rtol: float) -> Found:
    """What is another in ``b``; numbers may differ by ``rtol`` times the norm of their array."""
    return _Comparison(a, b, rtol).found()


class _Comparison:
    def __init__(self, a: Graph, b: Graph, rtol: float) -> None:
        self.a, self.b, self.rtol = a, b, rtol
        pairs = [*_pairs(a.boxes, b.boxes), *_pairs(a.folds, b.folds), *_pairs(a.tags, b.tags)]
        place = {part.id: i for i, part in enumerate(b.parts)}
        self.pairs = sorted(pairs, key=lambda pair: place[pair[1].id] if pair[1] else -1)
        self.names = {x.name: y.name for x, y in pairs if isinstance(x, Box) and isinstance(y, Box)}
        taken = {*place, *[frame.id for frame in b.frames]}
        self.twins = {x.id: y.id if y else _free(f"a_{x.id}", taken) for x, y in pairs if x}
        self.lines: dict[str, list[str]] = {"structure": [], "value": [], "gradient": []}
        self.marks: dict[str, Mark] = {}
        self.rewritten: set[str] = set()

    def found(self) -> Found:
        gone = []
        for x, y in self.pairs:
            if x is None:
                self.lines["structure"].append(f"+ {_told(y)}")
                self.marks[y.id] = Mark(("+ only in the second",), state="added")
            elif y is None:
                self.lines["structure"].append(f"- {_told(x)}")
                self.marks[self.twins[x.id]] = Mark(("- only in the first",), state="removed")
                gone.append(replace(x, id=self.twins[x.id], frame=""))
            elif isinstance(x, Box):
                self._boxes(x, y)
            elif isinstance(x, Fold) and x.lines != y.lines:
                was = f"{', '.join(x.lines)} -> {', '.join(y.lines)}"
                self.lines["structure"].append(f"{y.title}: {was}")
                self.marks[y.id] = Mark((was,), state="changed")
        old = [
            replace(edge, tail=self.twins[edge.tail], head=self.twins[edge.head])
            for edge in self.a.edges
        ]
        lost = Counter(map(_ends, old)) - Counter(map(_ends, self.b.edges))
        fresh = Counter(map(_ends, self.b.edges)) - Counter(map(_ends, old))
        self._edges("-", lost)
        self._edges("+", fresh)
        left = [edge for edge in old if _ends(edge) in lost]
        return Found(_union(self.b, gone, left, self.marks), *map(tuple, self.lines.values()))

    def _boxes(self, x: Box, y: Box) -> None:
        some = {
            "structure": [*_shapes(x, y, self.names)],
            "value": _numbers(x.value, y.value, self.rtol),
            "gradient": _numbers(x.gradient, y.gradient, self.rtol),
        }
        for what, lines in some.items():
            to = "gradient" if what == "value" and y.kind == "gradient" else what
            self.lines[to] += [f"{y.name}: {line}" for line in lines]
        shown = some["structure"] + [
            f"{what} {line}" for what in ("value", "gradient") for line in some[what]
        ]
        if shown:
            self.marks[y.id] = Mark(tuple(shown), state="changed")
        if _expression(x, y, self.names):
            self.rewritten.add(y.id)

    def _edges(self, sign: str, edges: Mapping[Ends, int]) -> None:
        """Edges between boxes that are in both, where no other expression has said so."""
        titles = {y.id: _title(y) for x, y in self.pairs if x and y}
        for tail, head, _ in edges:
            if tail in titles and head in titles and head not in self.rewritten:
                self.lines["structure"].append(f"{sign} {titles[tail]} goes into {titles[head]}")


def _ends(edge: Edge) -> Ends:
    return edge.tail, edge.head, edge.role


def _free(id: str, taken: set[str]) -> str:
    while id in taken:
        id += "_"
    return id


# --------------------------------------------------------------------------------------------------
# What answers to what
# --------------------------------------------------------------------------------------------------


def _pairs(a: Sequence[Any], b: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """The parts of two graphs side by side, None where one of them has nothing."""
    named, others = _by_name(a), _by_name(b)
    for name in named.keys() & others.keys():
        yield named[name], others[name]
    a = [part for part in a if _name(part) not in named.keys() & others.keys()]
    b = [part for part in b if _name(part) not in named.keys() & others.keys()]
    yield from _aligned(a, b)


def _by_name(parts: Sequence[Part]) -> dict[str, Part]:
    """The parts with a name of the user's that no other has."""
    counts = Counter([_name(part) for part in parts])
    return {_name(part): part for part in parts if _name(part) and counts[_name(part)] == 1}


def _name(part: Part) -> str:
    """The name of a box that the user gave, if there is one."""
    if not isinstance(part, Box) or part.kind == "constant" or COUNTED.fullmatch(part.name):
        return ""
    return part.name


def _aligned(a: Sequence[Any], b: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Pairs of equal kind in the same order. Equal ends are cut off first, since that is fast."""
    keys, others = [_key(part) for part in a], [_key(part) for part in b]
    head = _common(keys, others)
    tail = _common(keys[head:][::-1], others[head:][::-1])
    yield from zip(a[:head], b[:head])
    yield from zip(a[len(a) - tail :], b[len(b) - tail :])
    a, keys = a[head : len(a) - tail], keys[head : len(a) - tail]
    b, others = b[head : len(b) - tail], others[head : len(b) - tail]
    for _, i, end, j, stop in SequenceMatcher(None, keys, others, autojunk=False).get_opcodes():
        if keys[i:end] == others[j:stop]:
            yield from zip(a[i:end], b[j:stop])
        else:
            yield from [(one, None) for one in a[i:end]]
            yield from [(None, one) for one in b[j:stop]]


def _common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How long two sequences are the same."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _key(part: Part) -> tuple[str, ...]:
    match part:
        case Fold():
            return (re.sub(r"[\d,]+", "", part.title),)
        case Tag():
            return (part.kind, part.name)
        case Box():
            return (part.kind, part.operation, _name(part))


def _told(part: Part) -> str:
    match part:
        case Box() if part.operation:
            return f"{part.name} = {part.expression or part.operation}, {part.shape} {part.dtype}"
        case Box():
            return f"{part.kind} {part.name}, {part.shape} {part.dtype}"
    return _title(part)


def _title(part: Part) -> str:
    return part.title if isinstance(part, Fold) else part.name


# --------------------------------------------------------------------------------------------------
# What is another
# --------------------------------------------------------------------------------------------------


def _shapes(x: Box, y: Box, names: Mapping[str, str]) -> Iterator[str]:
    if x.kind != y.kind:
        yield f"{x.kind} -> {y.kind}"
    if x.shape != y.shape:
        yield f"shape {x.shape} -> {y.shape}"
    if x.dtype != y.dtype:
        yield f"dtype {x.dtype} -> {y.dtype}"
    yield from _expression(x, y, names)


def _expression(x: Box, y: Box, names: Mapping[str, str]) -> list[str]:
    """Where another expression is computed, whatever the names in it are counted to."""
    renamed = NAME.sub(lambda match: names.get(match[0], match[0]), x.expression)
    return [] if renamed == y.expression else [f"{x.expression} -> {y.expression}"]


def _numbers(x: Summary | str | None, y: Summary | str | None, rtol: float) -> list[str]:
    """How two arrays differ, if they do."""
    if not (isinstance(x, Summary) and isinstance(y, Summary)):
        return [] if x == y else [f"{_short(x)} -> {_short(y)}"]
    if x.digest == y.digest:
        return []
    if len(x.sample) == len(y.sample) == 1:
        before, after = x.sample[0], y.sample[0]
        near = abs(after - before) <= rtol * abs(before)
        return [] if near else [f"{_short(x)} -> {_short(y)}"]
    if len(x.sample) != len(y.sample):
        return [f"norm {number(x.norm)} -> {number(y.norm)}"]
    with np.errstate(all="ignore"):
        apart = np.abs(np.subtract(y.sample, x.sample))
    apart[np.equal(y.sample, x.sample) | (np.isnan(x.sample) & np.isnan(y.sample))] = 0
    largest = float(apart.max(initial=0.0))
    scale = max(x.norm, y.norm)
    norms = f"norm {number(x.norm)} -> {number(y.norm)}"
    if largest <= rtol * scale:
        return [] if abs(y.norm - x.norm) <= rtol * scale else [norms]
    bound = "by up to" if len(x.sample) < SAMPLE else "by at least"  # of a sample, or of all
    return [f"{bound} {number(largest, 3)}; {norms}"]


def _short(one: Summary | str | None) -> str:
    if isinstance(one, Summary):
        return one.lines[0].strip() if len(one.sample) == 1 else f"norm {number(one.norm)}"
    return one or "none"


# --------------------------------------------------------------------------------------------------
# The picture
# --------------------------------------------------------------------------------------------------


def _union(
    graph: Graph, gone: Sequence[Part], left: Sequence[Edge], marks: Mapping[str, Mark]
) -> Graph:
    """The second graph with what is only in the first, and with marks."""
    boxes = [*graph.boxes, *[one for one in gone if isinstance(one, Box)]]
    folds = [*graph.folds, *[one for one in gone if isinstance(one, Fold)]]
    counts: Counter[State] = Counter([mark.state for mark in marks.values()])
    return replace(
        graph,
        boxes=tuple([replace(box, mark=marks.get(box.id)) for box in boxes]),
        folds=tuple([replace(fold, mark=marks.get(fold.id)) for fold in folds]),
        tags=(*graph.tags, *[one for one in gone if isinstance(one, Tag)]),
        edges=(*graph.edges, *left),
        note=", ".join([f"{n:,} {state}" for state, n in counts.items()]) or "nothing changed",
    )
