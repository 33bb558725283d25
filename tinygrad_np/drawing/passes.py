"""The backward pass, recorded: for each value its gradient, and what that is the sum of.

The pass is that of `backward`, except that it calls no hooks, since those may act on what is the
user's. What the VJPs record in between is not drawn but written out in the text of a gradient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..backward import by_order, pull_useful, reach
from ..core import Node, Tensor, mode
from ..errors import GradientError, message
from .formula import gradient
from .graph import Box, Edge, Fold, Graph, Group, Reading, Role
from .numbers import summary

MOST_PARTS = 6  # of a sum that is written out


@dataclass
class Pass:
    """A backward pass.

    Attributes
    ----------
    gradients : dict
        For each value the node of its complete gradient; one node may belong to several values.
    parts : dict
        For each gradient that is a sum the nodes it is the sum of, one for each use of the value.
    sources : dict
        For each gradient, or part of one, the operation whose VJP computed it.
    residuals : dict
        The name of each residual that was computed again.
    """

    gradients: dict[Node, Node] = field(default_factory=dict)
    parts: dict[Node, list[Node]] = field(default_factory=dict)
    sources: dict[Node, Node] = field(default_factory=dict)
    residuals: dict[Node, str] = field(default_factory=dict)


class Sent(dict[Node, Any]):
    """Keeps apart what a backward step sends, where the engine would add it up."""

    def __init__(self) -> None:
        self.parts: list[tuple[Node, Any]] = []

    def __contains__(self, node: object) -> bool:
        return False

    def __setitem__(self, node: Node, part: Any) -> None:
        self.parts.append((node, part))


def recorded_pass(targets: Sequence[Node]) -> Pass:
    """The backward pass from the targets, each beginning with ones.

    Raises
    ------
    GradientError
        If no target needs a gradient, or a leaf was changed since it was used.
    """
    needing = [node for node in targets if node.needs]
    if not needing:
        raise GradientError(
            message("draw", "a target that needs a gradient, for backward=True", targets[0].label)
        )
    found = Pass()
    arrived: dict[Node, list[Tensor]] = {n: [Tensor(np.ones_like(n.value))] for n in needing}
    made: list[Node] = []
    watched = mode(recording=True, everything=True, watchers=(made.append,), audit=None)
    with watched, np.errstate(all="ignore"):
        for node in reach(needing):
            if node in arrived:
                sent = Sent()
                g = _complete(node, arrived[node], found)
                made.clear()
                pull_useful(node, g, sent, None, True)
                found.residuals |= _residuals(node, made)
                for parent, part in sent.parts:
                    arrived.setdefault(parent, []).append(part)
                    found.sources.setdefault(part.node, node)
        for leaf in [node for node in arrived if node not in found.gradients]:
            _complete(leaf, arrived[leaf], found)
    return found


def _residuals(node: Node, made: Sequence[Node]) -> dict[Node, str]:
    """Of what a VJP computed, what equals the residuals that were kept: they are computed first."""
    named: dict[Node, str] = {}
    for name, saved in (node.saved or {}).items():
        equal = (one for one in made if np.array_equal(one.value, saved, equal_nan=True))
        first = next(equal, None)
        if first is not None:
            named.setdefault(first, name)
    return named


def _complete(node: Node, parts: Sequence[Tensor], found: Pass) -> Tensor:
    """The gradient of a value, now that all its parts have come."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    found.gradients[node] = total.node
    if len(parts) > 1:
        found.parts[total.node] = [part.node for part in parts]
    return total


def beside(graph: Graph, reading: Reading) -> Graph:
    """A graph with the backward pass beside it; a value leaves it to that to show its gradient."""
    pass_ = _Drawn(recorded_pass(reading.targets), reading)
    edges = pass_.edges()
    linked = {edge.tail for edge in edges if edge.role == "link"}
    boxes = [replace(box, gradient=None) if box.id in linked else box for box in graph.boxes]
    return replace(
        graph,
        boxes=(*boxes, *pass_.boxes()),
        folds=(*graph.folds, *pass_.folds()),
        edges=(*graph.edges, *edges),
    )


class _Drawn:
    """A pass as it is drawn beside the values that a reading has placed: boxes, folds and edges."""

    def __init__(self, found: Pass, reading: Reading) -> None:
        self.found = found
        self.place, self.ids = reading.place, reading.ids
        names, given = reading.names, reading.given
        self.owners: dict[Node, list[Node]] = {}
        for value, g in found.gradients.items():
            self.owners.setdefault(g, []).append(value)
        for owners in self.owners.values():
            owners.sort(key=lambda node: node not in given)
        self.names: dict[Node, str] = dict(names)
        self.names |= {g: f"d{names[owners[0]]}" for g, owners in self.owners.items()}
        for g, parts in found.parts.items():
            for k, part in enumerate(parts, 1):
                self.names.setdefault(part, f"{self.names[g]}_{k}")
        self.texts = found.residuals | self.names
        # In the order of the pass; a part comes before the sum.
        parts = [part for some in found.parts.values() for part in some]
        self.drawn = sorted({*self.owners, *parts}, key=by_order)
        self.id = {g: f"g{i}" for i, g in enumerate(self.drawn)}
        self.home = {g: self._home(g) for g in self.drawn}

    def boxes(self) -> list[Box]:
        return [self._box(g) for g in self.drawn if self.home[g] is g]

    def folds(self) -> list[Fold]:
        """A fold of values has one of their gradients at its side."""
        counts = Counter([home for home in self.home.values() if isinstance(home, Group)])
        return [
            Fold(f"{self.ids[group]}_back", f"backward of {group.title}",
                 (f"{n:,} gradient{'s' * (n > 1)}",))
            for group, n in counts.items()
        ]  # fmt: skip

    def edges(self) -> list[Edge]:
        """From each gradient to those it goes into, from the values they read, and the links."""
        uses: dict[tuple[str, str, Role], list[Node]] = {}
        for g in self.drawn:
            for used in self._used(g):
                role: Role = "backward" if used in self.home else "read"
                tail, head = self._place(used), self._place(g)
                if tail and head and head != tail:
                    uses.setdefault((tail, head, role), []).append(used)
        links = {
            (self._place(owner), self._place(g)): None
            for g, owners in self.owners.items() for owner in owners
        }  # fmt: skip
        edges = [
            Edge(tail, head, role == "backward", count=len(used), role=role)
            for (tail, head, role), used in uses.items() if (tail, head) not in links
        ]  # fmt: skip
        return edges + [Edge(tail, head, role="link") for tail, head in links if tail and head]

    def _box(self, g: Node) -> Box:
        owners = self.owners.get(g, [])
        parts = self.found.parts.get(g)
        source = self.found.sources.get(g)
        if parts:
            operation = f"sum of {len(parts):,} uses"
        else:
            operation = "start" if source is None else f"vjp of {_operation(source)}"
        also = tuple([f"d{self.names[owner]}" for owner in owners[1:]])
        value = g.value
        text = gradient(g, self.texts) if not parts else self._sum(parts)
        return Box(
            self.id[g], "gradient", self.names[g], np.shape(value), str(value.dtype),
            summary(value), None, operation, text, also=also,
        )  # fmt: skip

    def _sum(self, parts: Sequence[Node]) -> str:
        more = ["…"] * (len(parts) > MOST_PARTS)
        return " + ".join([*[self.names[part] for part in parts[:MOST_PARTS]], *more])

    def _home(self, g: Node) -> Node | Group | None:
        """A gradient is drawn beside its value, or beside any of several, and a part of a sum
        beside the operation it comes from."""
        owners = self.owners.get(g) or [self.found.sources[g]]
        places = [self.place.get(owner) for owner in owners]
        if all(isinstance(one, Group) for one in places):
            return places[0]
        return g if any(isinstance(one, Node) for one in places) else None

    def _place(self, node: Node) -> str | None:
        """The id of what a node is drawn as."""
        if node in self.home:
            home = self.home[node]
            if isinstance(home, Group):
                return f"{self.ids[home]}_back"
            return None if home is None else self.id[node]
        at = self.place.get(node)
        return None if at is None else self.ids[at]

    def _used(self, g: Node) -> Iterable[Node]:
        """What the text of a gradient names, looked for through what it writes out."""
        todo = [*(self.found.parts.get(g) or g.inputs)]
        seen: dict[Node, None] = {}
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen[node] = None
            if node not in self.names:
                todo += node.inputs
        return [node for node in seen if node in self.names]


def _operation(node: Node) -> str:
    assert node.primitive is not None
    return node.primitive.name
