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

Kind = Literal["parameter", "input", "constant", "computed", "gradient"]
Role = Literal["use", "backward", "read", "link"]
State = Literal["", "framed", "hatched", "added", "removed", "changed"]
MOST_EDGES = 12  # from one value; used more often, it is drawn as a tag at each use


@dataclass(frozen=True)
class Mark:
    """What an overlay or a comparison says about a box, and how it makes it stand out.

    ``share`` is drawn as a bar: the part of the whole.
    """

    lines: tuple[str, ...]
    share: float | None = None
    state: State = ""


@dataclass(frozen=True)
class Box:
    """One value: a leaf, the result of an operation, or a gradient of the backward pass.

    ``gradient`` is None where no gradient flows, and a sentence where there is none to show.
    ``also`` are the other names of a gradient that belongs to several values. ``frame`` is the id
    of the innermost frame around the box.
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
    also: tuple[str, ...] = ()
    frame: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Tag:
    """The name of a value, drawn at one of its many uses instead of a long edge."""

    id: str
    kind: Kind
    name: str
    frame: str = ""


@dataclass(frozen=True)
class Fold:
    """Many values drawn as one box."""

    id: str
    title: str
    lines: tuple[str, ...]
    frame: str = ""
    mark: Mark | None = None


@dataclass(frozen=True)
class Frame:
    """A call of a module, drawn around what was computed in it, and inside the frame ``inside``."""

    id: str
    title: str
    inside: str = ""


@dataclass(frozen=True)
class Edge:
    """A value that an operation uses, and the formula by which its gradient comes back.

    With the backward pass drawn there are edges of other roles: from one gradient to the next that
    is computed from it, from a value to a gradient that reads it, and from a value to its gradient.
    """

    tail: str
    head: str
    flows: bool = False
    formula: str = ""
    slope: float | None = None
    count: int = 1
    role: Role = "use"


@dataclass(frozen=True)
class Graph:
    """What a picture shows: boxes in the order of computation, and the edges between them."""

    boxes: tuple[Box, ...]
    folds: tuple[Fold, ...]
    tags: tuple[Tag, ...]
    edges: tuple[Edge, ...]
    note: str = ""
    frames: tuple[Frame, ...] = ()

    @property
    def parts(self) -> tuple[Box | Fold | Tag, ...]:
        """What edges lead from and to."""
        return (*self.boxes, *self.folds, *self.tags)


@dataclass(eq=False)
class Call:
    """A call of a module, and when it ran: what was recorded in that time belongs to it."""

    title: str
    module: Any
    path: str
    parent: Call | None
    start: int
    end: int = 0


@dataclass(frozen=True)
class Group:
    """Operations to be drawn as one box, what to call them, and the call they are part of."""

    title: str
    members: frozenset[Node]
    home: Call | None = None
    lines: tuple[str, ...] = ()


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


def given_names(
    nodes: Iterable[Node],
    names: Mapping[str, Any] | None,
    traced: Iterable[Mapping[str, Any]] = (),
) -> dict[Node, str]:
    """The nodes the user has named: in ``names`` by the tensor or its array, or with ``name=``.

    After those count the variables of a function that was ``traced``.
    """
    by_id = _by_id(names or {})
    variables: dict[int, str] = {}
    for one in traced:
        variables = _by_id(one) | variables
    given = {}
    for node in nodes:
        keys = identities(node)
        name = by_id.get(keys[0]) or by_id.get(keys[1]) or node.name
        name = name or variables.get(keys[0]) or variables.get(keys[1])
        if name is not None:
            given[node] = name
    return given


def identities(node: Node) -> tuple[int, int]:
    """Of a node, and of the array that it was made from."""
    base = getattr(node.value, "base", None)  # an operation may have reshaped what it was given
    whole = base is not None and np.size(base) == np.size(node.value)
    return id(node), id(base if whole else node.value)


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
        members = value.items() if isinstance(value, dict) else (
            enumerate(value) if isinstance(value, list | tuple) else ())  # fmt: skip
        for text, one in [(name, value), *[(f"{name}[{i!r}]", member) for i, member in members]]:
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
        grad = again.get(node) if result and node.grad is None else node.gradient()
        if grad is not None:
            said[node] = summary(grad)
        elif node.needs:
            said[node] = NOT_KEPT if result and yet else NOT_YET
    return said


def cotangents(targets: Iterable[Node]) -> dict[Node, Any]:
    """What a backward pass from the targets, beginning with ones, brings to each node.

    No ``.grad`` is touched, and no hook is called.

    Raises
    ------
    GradientError
        If a leaf was changed since it was used.
    """
    needing = [node for node in targets if node.needs]
    found: dict[Node, Any] = {node: np.ones_like(node.value) for node in needing}
    with np.errstate(all="ignore"):
        for node in reach(needing):
            if node in found and node.primitive is not None:
                node.primitive.pull(node, found[node], found, engine)
    return found


def _computed_again(targets: Sequence[Node], nodes: Sequence[Node]) -> dict[Node, Any]:
    """The cotangents of a backward pass, if they are those that the kept gradients come from."""
    if len(targets) != 1 or targets[0].value.size != 1:
        return {}
    try:
        found = cotangents(targets)
    except GradientError:  # a leaf has been changed since: the numbers would be of another step
        return {}
    kept = [(node, g) for node in nodes if (g := node.gradient()) is not None]
    same = [
        node in found and np.allclose(found[node], grad, rtol=1e-5, equal_nan=True)
        for node, grad in kept
    ]
    return found if all(same) else {}


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------


class Reading:
    """How nodes are drawn: the place, the id and the name of each.

    Attributes
    ----------
    place : dict
        For each node that is drawn, the node itself or the group it is drawn in.
    ids : dict
        Of nodes and groups.
    names : dict
        Of nodes.
    """

    def __init__(
        self,
        targets: Sequence[Node],
        nodes: Sequence[Node],
        given: Mapping[Node, str],
        groups: Sequence[Group] = (),
        crop: Set[Node] | None = None,
        homes: Mapping[Node, Call] = {},
        apart: Set[Node] = frozenset(),
    ) -> None:
        self.targets, self.nodes, self.given, self.groups = targets, nodes, given, groups
        self.place = _places(nodes, groups, apart)
        if crop is not None:
            self.place = {node: node for node in nodes if node in crop}
        self.homes: dict[Any, Call] = {**homes}
        self.homes |= {group: group.home for group in groups if group.home is not None}
        self.ids: dict[Node | Group, str] = {node: f"n{i}" for i, node in enumerate(nodes)}
        self.ids |= {group: f"f{i}" for i, group in enumerate(groups)}
        self.names = all_names(nodes, given)

    def graph(
        self, formulas: bool = True, note: str = "", marks: Mapping[Node | Group, Mark] = {}
    ) -> Graph:
        """The boxes and edges, with their names, values, gradients and formulas."""
        nodes, place, ids, names = self.nodes, self.place, self.ids, self.names
        shown = [node for node in nodes if place.get(node) is node]
        said = gradients(self.targets, nodes, shown)
        frames = _frames([self.homes[one] for one in {*place.values()} if one in self.homes])
        lies = {one: frames[home].id for one, home in self.homes.items() if home in frames}
        boxes = [
            replace(
                _box(node, ids[node], names, kind_of(node, self.given), said.get(node)),
                frame=lies.get(node, ""), mark=marks.get(node),
            )
            for node in shown
        ]  # fmt: skip
        folds = [
            replace(
                _fold(group, ids[group], nodes, self.given, place),
                frame=lies.get(group, ""), mark=marks.get(group),
            )
            for group in self.groups
        ]  # fmt: skip
        edges = list(_edges(nodes, place, ids, names if formulas else {}))
        for fold, edge in _ends(nodes, place, ids):
            folds.append(fold)
            edges.append(edge)
        boxes, tags, edges = _tagged(boxes, edges)
        return Graph(
            tuple(boxes), tuple(folds), tuple(tags), tuple(edges), note, tuple(frames.values())
        )


def _frames(homes: Iterable[Call]) -> dict[Call, Frame]:
    """The calls that something is drawn in, and those around them, in the order they began."""
    found: set[Call] = set()
    for home in homes:
        around: Call | None = home
        while around is not None and around not in found:
            found.add(around)
            around = around.parent
    frames: dict[Call, Frame] = {}
    for call in sorted(found, key=lambda call: call.start):
        inside = frames[call.parent].id if call.parent is not None else ""
        frames[call] = Frame(f"m{len(frames)}", call.title, inside)
    return frames


def _tagged(boxes: Sequence[Box], edges: Sequence[Edge]) -> tuple[list[Box], list[Tag], list[Edge]]:
    """Values used very often get a tag at each use: many long edges nobody can follow."""
    uses = Counter([edge.tail for edge in edges])
    many = {box.id: box for box in boxes if uses[box.id] > MOST_EDGES}
    frames = {box.id: box.frame for box in boxes}
    tags, short = [], []
    for i, edge in enumerate(edges):
        if box := many.get(edge.tail):
            tags.append(Tag(f"t{i}", box.kind, box.name, frames.get(edge.head, "")))
            edge = replace(edge, tail=tags[-1].id)
        short.append(edge)
    marked = [replace(box, tags=uses[box.id]) if box.id in many else box for box in boxes]
    return marked, tags, short


def _places(
    nodes: Sequence[Node], groups: Sequence[Group], apart: Set[Node]
) -> dict[Node, Node | Group]:
    """Where each node is drawn: as itself, or in a group, which takes the leaves only it uses."""
    place: dict[Node, Node | Group] = {node: node for node in nodes}
    place |= {node: group for group in groups for node in group.members}
    for node, users in consumers(nodes).items():
        homes = {place[user] for user in users}
        if node.primitive is not None or node in apart or len(homes) > 1:
            continue
        if isinstance(home := homes.pop(), Group):
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
    return Fold(id, group.title, (*group.lines, *lines))


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
            flows = node.needs and parent.needs and has_formula(node, i)
            if tail is parent and head is node:
                formula, slope = local_derivative(node, i, names) if flows and names else ("", None)
                yield Edge(ids[tail], ids[head], flows, formula, slope)
            elif tail is not head:
                folded.setdefault((ids[tail], ids[head]), []).append(flows)
    for (tail_id, head_id), flowing in folded.items():
        yield Edge(tail_id, head_id, any(flowing), count=len(flowing))


def has_formula(node: Node, position: int) -> bool:
    primitive = node.primitive
    assert primitive is not None
    return primitive.differentiable if primitive.variadic else primitive.flows[position]
