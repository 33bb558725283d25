"""The recorded graph as plain data: boxes and edges, with every text a picture shows.

What is read here is only read: drawing leaves values, gradients and the graph as they are.
All walks are loops, so a graph may be as deep as memory allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..backward import engine, reach
from ..core import Node, Tensor
from ..errors import DtypeError, GradientError, message
from .formula import expression, local_derivative, residuals
from .numbers import Summary, number, summary

Kind = Literal["parameter", "input", "constant", "computed"]
MOST_EDGES = 12  # from one value; used more often, it is drawn as a tag at each use


@dataclass(frozen=True)
class Box:
    """One value: a leaf, or the result of an operation.

    ``gradient`` is None where no gradient flows, and a sentence where there is none to show.
    """

    id: str
    kind: Kind
    name: str
    shape: tuple[int, ...]
    dtype: str
    value: Summary
    gradient: Summary | str | None
    operation: str = ""
    expression: str = ""
    residuals: tuple[str, ...] = ()
    tags: int = 0


@dataclass(frozen=True)
class Tag:
    """The name of a value, drawn at one of its many uses instead of a long edge."""

    id: str
    kind: Kind
    name: str


@dataclass(frozen=True)
class Fold:
    """Many values drawn as one box."""

    id: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Edge:
    """A value that an operation uses, and the formula by which its gradient comes back."""

    tail: str
    head: str
    flows: bool = False
    formula: str = ""
    slope: float | None = None
    count: int = 1


@dataclass(frozen=True)
class Graph:
    """What a picture shows: boxes in the order of computation, and the edges between them."""

    boxes: tuple[Box, ...]
    folds: tuple[Fold, ...]
    tags: tuple[Tag, ...]
    edges: tuple[Edge, ...]
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Operations to be drawn as one box, and what to call them."""

    title: str
    members: frozenset[Node]


def recorded(targets: Iterable[Node]) -> list[Node]:
    """Every node that the targets were computed from, each after its inputs."""
    todo = list(targets)
    seen = set(todo)
    while todo:
        for parent in todo.pop().inputs:
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    # A leaf that was changed is younger than what was computed from it, but still comes first.
    return sorted(seen, key=lambda node: (node.primitive is not None, node.order))


def consumers(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """For each node the operations that use it, once for each use."""
    uses: dict[Node, list[Node]] = {}
    for node in nodes:
        for parent in node.inputs:
            uses.setdefault(parent, []).append(node)
    return uses


# --------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------


def given_names(nodes: Iterable[Node], names: Mapping[str, Any] | None) -> dict[Node, str]:
    """The nodes the user has named: in ``names`` by the tensor or its array, or with ``name=``."""
    by_id = _by_id(names or {})
    given = {}
    for node in nodes:
        base = getattr(node.value, "base", None)  # an operation may have reshaped what it was given
        whole = base is not None and np.size(base) == np.size(node.value)
        name = by_id.get(id(node)) or by_id.get(id(base if whole else node.value)) or node.name
        if name is not None:
            given[node] = name
    return given


def all_names(nodes: Iterable[Node], given: Mapping[Node, str]) -> dict[Node, str]:
    """A name for each node: the user's; of a constant number itself; else a letter and a number."""
    counts: Counter[str] = Counter()
    names = dict(given)
    for node in nodes:
        if node in given:
            continue
        if node.primitive is None and not node.needs and np.ndim(node.value) == 0:
            names[node] = number(node.value)
            continue
        letter = "v" if node.primitive else "w" if node.needs else "c"
        counts[letter] += 1
        names[node] = f"{letter}{counts[letter]}"
    return names


def _by_id(names: Mapping[str, Any]) -> dict[int, str]:
    """The names by the identity of a tensor's node, or of an array; the first name counts."""
    if not isinstance(names, Mapping):
        raise DtypeError(
            message("draw", "names= to be a dict such as locals()", type(names).__name__)
        )
    given: dict[int, str] = {}
    for name, value in names.items():
        members = enumerate(value) if isinstance(value, list | tuple) else ()
        for text, one in [(name, value), *[(f"{name}[{i}]", member) for i, member in members]]:
            if isinstance(one, Tensor):
                given.setdefault(id(one.node), text)
            elif isinstance(one, np.ndarray) and one.ndim:
                given.setdefault(id(one), text)
    return given


def kind_of(node: Node, given: Mapping[Node, str]) -> Kind:
    """A parameter is a leaf that needs a gradient; an input is any other leaf with a name."""
    if node.primitive is not None:
        return "computed"
    if node.needs:
        return "parameter"
    return "input" if node in given else "constant"


# --------------------------------------------------------------------------------------------------
# Gradients
# --------------------------------------------------------------------------------------------------

NOT_YET = "no gradient yet"
NOT_KEPT = "gradient not kept"


def gradients(
    targets: Sequence[Node], nodes: Sequence[Node], shown: Iterable[Node]
) -> dict[Node, Summary | str]:
    """What to say about the gradient of each shown node that needs one.

    A result keeps its gradient only after `retain_grad`. Where the gradients that are kept are
    those of this one target, the others belong to them and are computed again.
    """
    yet = any(node.grad is not None for node in nodes)
    again = _computed_again(targets, nodes) if yet else {}
    said: dict[Node, Summary | str] = {}
    for node in shown:
        result = node.primitive is not None
        grad = again.get(node) if result and node.grad is None else node.grad
        if grad is not None:
            said[node] = summary(grad)
        elif node.needs:
            said[node] = NOT_KEPT if result and yet else NOT_YET
    return said


def _computed_again(targets: Sequence[Node], nodes: Sequence[Node]) -> dict[Node, Any]:
    """The cotangents of a backward pass, if they are those that the kept gradients come from."""
    if len(targets) != 1 or targets[0].value.size != 1 or not targets[0].needs:
        return {}
    found: dict[Node, Any] = {targets[0]: np.ones_like(targets[0].value)}
    try:
        for node in reach(targets):
            if node in found and node.primitive is not None:
                node.primitive.pull(node, found[node], found, engine)
    except GradientError:  # a leaf has been changed since: the numbers would be of another step
        return {}
    kept = [(node, node.grad) for node in nodes if node.grad is not None]
    same = [
        node in found and np.allclose(found[node], grad, rtol=1e-5, equal_nan=True)
        for node, grad in kept
    ]
    return found if all(same) else {}


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


def read(
    targets: Sequence[Node],
    nodes: Sequence[Node],
    given: Mapping[Node, str],
    groups: Sequence[Group] = (),
    crop: Set[Node] | None = None,
    formulas: bool = True,
    note: str = "",
) -> Graph:
    """The boxes and edges of ``nodes``: each group as one box, and only what is in the crop."""
    place = _places(nodes, groups)
    if crop is not None:
        place = {node: node for node in nodes if node in crop}
    shown = [node for node in nodes if place.get(node) is node]
    ids: dict[Node | Group, str] = {node: f"n{i}" for i, node in enumerate(nodes)}
    ids |= {group: f"f{i}" for i, group in enumerate(groups)}
    names = all_names(nodes, given)
    said = gradients(targets, nodes, shown)
    boxes = [_box(node, ids[node], names, kind_of(node, given), said.get(node)) for node in shown]
    folds = [_fold(group, ids[group], nodes, given, place) for group in groups]
    edges = list(_edges(nodes, place, ids, names if formulas else {}))
    for fold, edge in _ends(nodes, place, ids):
        folds.append(fold)
        edges.append(edge)
    boxes, tags, edges = _tagged(boxes, edges)
    return Graph(tuple(boxes), tuple(folds), tuple(tags), tuple(edges), note)


def _tagged(boxes: Sequence[Box], edges: Sequence[Edge]) -> tuple[list[Box], list[Tag], list[Edge]]:
    """Values used very often get a tag at each use: many long edges nobody can follow."""
    uses = Counter([edge.tail for edge in edges])
    many = {box.id: box for box in boxes if uses[box.id] > MOST_EDGES}
    tags, short = [], []
    for i, edge in enumerate(edges):
        if box := many.get(edge.tail):
            tags.append(Tag(f"t{i}", box.kind, box.name))
            edge = replace(edge, tail=tags[-1].id)
        short.append(edge)
    marked = [replace(box, tags=uses[box.id]) if box.id in many else box for box in boxes]
    return marked, tags, short


def _places(nodes: Sequence[Node], groups: Sequence[Group]) -> dict[Node, Node | Group]:
    """Where each node is drawn: as itself, or in a group, which takes the leaves only it uses."""
    place: dict[Node, Node | Group] = {node: node for node in nodes}
    place |= {node: group for group in groups for node in group.members}
    for node, users in consumers(nodes).items():
        homes = {place[user] for user in users}
        if node.primitive is None and len(homes) == 1 and isinstance(home := homes.pop(), Group):
            place[node] = home
    return place


def _ends(
    nodes: Iterable[Node], place: Mapping[Node, Any], ids: Mapping[Node | Group, str]
) -> Iterator[tuple[Fold, Edge]]:
    """Where a cropped picture ends: how many inputs and uses of a value it leaves out."""
    for node, users in consumers(nodes).items():
        left = sum(user not in place for user in users)
        if node in place and left:
            fold = Fold(f"{ids[node]}_uses", "…", (f"{left} more use{'s' * (left > 1)}",))
            yield fold, Edge(ids[node], fold.id)
    for node in nodes:
        left = sum(parent not in place for parent in node.inputs)
        if node in place and left:
            fold = Fold(f"{ids[node]}_inputs", "…", (f"{left} more input{'s' * (left > 1)}",))
            yield fold, Edge(fold.id, ids[node])


def _box(
    node: Node, id: str, names: Mapping[Node, str], kind: Kind, gradient: Summary | str | None
) -> Box:
    value = node.value
    dtype = str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
    leaf = Box(id, kind, names[node], np.shape(value), dtype, summary(value), gradient)
    if node.primitive is None:
        return leaf
    return replace(
        leaf,
        operation=node.primitive.name,
        expression=expression(node, names),
        residuals=tuple(residuals(node, names)),
    )


def _fold(
    group: Group,
    id: str,
    nodes: Iterable[Node],
    given: Mapping[Node, str],
    place: Mapping[Node, Node | Group],
) -> Fold:
    kinds = Counter([kind_of(node, given) for node in nodes if place[node] is group])
    counts = [("operation", kinds["computed"])]
    counts += [(kind, n) for kind, n in kinds.items() if kind != "computed"]
    lines = [f"{n:,} {what}{'s' * (n > 1)}" for what, n in counts]
    return Fold(id, group.title, tuple(lines))


def _edges(
    nodes: Iterable[Node],
    place: Mapping[Node, Node | Group],
    ids: Mapping[Node | Group, str],
    names: Mapping[Node, str],
) -> Iterator[Edge]:
    """One edge for each use of a value; those from or to a fold are counted."""
    folded: dict[tuple[str, str], list[bool]] = {}
    for node in nodes:
        for i, parent in enumerate(node.inputs):
            if node not in place or parent not in place:
                continue
            tail, head = place[parent], place[node]
            flows = node.needs and parent.needs and _has_formula(node, i)
            if tail is parent and head is node:
                formula, slope = local_derivative(node, i, names) if flows and names else ("", None)
                yield Edge(ids[tail], ids[head], flows, formula, slope)
            elif tail is not head:
                folded.setdefault((ids[tail], ids[head]), []).append(flows)
    for (tail_id, head_id), flowing in folded.items():
        yield Edge(tail_id, head_id, any(flowing), count=len(flowing))


def _has_formula(node: Node, position: int) -> bool:
    primitive = node.primitive
    assert primitive is not None
    return primitive.differentiable if primitive.variadic else primitive.flows[position]
