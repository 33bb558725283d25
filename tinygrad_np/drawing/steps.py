"""The steps of a page: every operation forward, then every VJP backward, with their numbers.

The backward pass is run again, by the engine's own backward steps and in its order. Nothing of the
graph is changed, and hooks are not called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np

from ..backward import engine, reach, retained
from ..core import Node, parameter_names
from ..errors import GradientError, TensorError
from .formula import expression, local_derivative, residuals
from .graph import Graph, Reading, has_formula, kind_of
from .numbers import Summary, summary
from .passes import Sent

Phase = Literal["forward", "backward"]


@dataclass(frozen=True)
class Value:
    """A value that a step reads or computes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    summary: Summary
    needs: bool = True


@dataclass(frozen=True)
class Arrival:
    """What a step adds to the gradient of a value.

    Attributes
    ----------
    to : str
        The id of the value.
    part, total : Summary
        What is added, and the gradient with it.
    number, count : int
        How many VJPs have sent to the value now, and how many will have in the end.
    """

    to: str
    part: Summary
    total: Summary
    number: int = 1
    count: int = 1


@dataclass(frozen=True)
class Step:
    """An operation forward or a VJP backward; or as many in a row as are drawn as one box.

    Attributes
    ----------
    phase : {"forward", "backward"}
    place : str or None
        The id of the box of the operation, or of the fold; None for what the picture leaves out.
    title : str
        The name of the operation.
    covers : int
        How many operations or VJPs it is; 1 unless they are folded or left out.
    formula : str
        What is computed from the values ``reads``, from ``saved`` residuals and, backward, from
        ``g``, the gradient of the operation's result.
    where : tuple of str
        How the residuals are computed.
    slope : float or None
        The local derivative between two scalars.
    edge : int or None
        The place in ``Graph.edges`` of the edge that a VJP goes back along.
    """

    phase: Phase
    place: str | None
    title: str
    covers: int = 1
    formula: str = ""
    where: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    saved: tuple[tuple[str, Summary], ...] = ()
    slope: float | None = None
    edge: int | None = None
    arrivals: tuple[Arrival, ...] = ()


class Message(NamedTuple):
    """What the VJP of one argument sends to it, and the sum with what came before."""

    node: Node
    position: int
    part: Any
    total: Any
    number: int


def vjps(target: Node) -> list[tuple[Node, int]]:
    """Every VJP that ``backward`` calls, in its order: an operation and the place of an argument.

    There is one for each argument that needs a gradient and has a formula, of each operation that a
    gradient gets to; an argument that is used twice counts twice.
    """
    found = []
    reached = {target}
    for node in reach([target]):
        for i, parent in enumerate(node.inputs if node in reached else ()):
            if parent.needs and has_formula(node, i):
                reached.add(parent)
                found.append((node, i))
    return found


def messages(target: Node, calls: Iterable[tuple[Node, int]]) -> Iterator[Message]:
    """What each of the `vjps` of a target sends, beginning with 1 at the target."""
    gradients: dict[Node, Any] = {target: np.ones_like(target.value)}
    counts: Counter[Node] = Counter()
    for node, own in groupby(calls, key=lambda call: call[0]):
        sent = Sent()
        assert node.primitive is not None
        with np.errstate(all="ignore"):
            node.primitive.pull(node, gradients.pop(node), sent, engine)
        for (_, position), (parent, part) in zip(own, sent.parts, strict=True):
            gradients[parent] = gradients[parent] + part if parent in gradients else part
            counts[parent] += 1
            yield Message(node, position, part, gradients[parent], counts[parent])


@dataclass(frozen=True)
class Story:
    """The steps through a graph as it is drawn, and what they tell.

    Attributes
    ----------
    graph : Graph
        The forward pass, as the picture shows it without an overlay.
    steps : tuple of Step
    values : dict
        Each `Value` that is drawn or that a step names, by id.
    root : str or None
        The id of the value that the backward pass starts from.
    notes : tuple of str
        Why there is no backward pass, or where it ended; whose hooks it leaves out.
    """

    graph: Graph
    steps: tuple[Step, ...]
    values: dict[str, Value]
    root: str | None
    notes: tuple[str, ...]


class Teller:
    """What it takes to tell the `Story` of a drawing, which takes a backward pass, later."""

    def __init__(self, reading: Reading, formulas: bool, note: str) -> None:
        self._reading, self._formulas, self._note = reading, formulas, note
        self._nodes, self._names, self._ids = reading.nodes, reading.names, reading.ids
        self._drawn_at = max(node.order for node in self._nodes)
        self._values: dict[str, Value] = {}
        self._notes: list[str] = []
        self._titles: dict[str, str] = {}
        self._entering: dict[str, list[int]] = {}

    def tell(self) -> Story:
        """The story, if the graph is still as it was drawn.

        Raises
        ------
        GradientError
            If a leaf has been changed since, as by a step of an optimizer.
        """
        for node in self._nodes:
            if node.order > self._drawn_at:
                raise GradientError(
                    f"draw: {node.label} has been changed since it was drawn, so that the steps "
                    "would mix old and new values. Use .html or .save() before, or draw again."
                )
        graph = self._reading.graph(self._formulas, self._note)
        self._titles |= {fold.id: fold.title for fold in graph.folds}
        for i, edge in enumerate(graph.edges):
            if edge.tail not in self._titles:
                self._entering.setdefault(edge.head, []).append(i)
        for node in filter(self._drawn, self._nodes):
            self._told(node)
        targets = self._reading.targets
        steps = (*self._forward(self._nodes), *self._backward(targets))
        root = self._ids[targets[0]] if steps and steps[-1].phase == "backward" else None
        return Story(graph, steps, self._values, root, tuple(self._notes))

    def _forward(self, nodes: Sequence[Node]) -> Iterator[Step]:
        operations = [node for node in nodes if node.primitive is not None]
        for place, run in groupby(operations, key=self._place):
            first, *rest = run
            if self._drawn(first):
                yield self._operation(first)
            else:
                yield self._together("forward", place, 1 + len(rest))

    def _backward(self, targets: Sequence[Node]) -> Iterator[Step]:
        target = targets[0]
        if len(targets) > 1 or target.value.size != 1:
            self._notes.append(
                "No backward pass: it starts from one scalar, such as a loss. "
                "Draw that, or reduce the result (.sum(), .mean())."
            )
            return
        if not target.needs:
            self._notes.append(f"No backward pass: {self._names[target]} needs no gradient.")
            return
        self._told(target)
        calls = vjps(target)
        reached = {target, *[node.inputs[i] for node, i in calls]}
        hooked = {self._names[node] for node in reached if _changes_gradient(node)}
        if hooked:
            self._notes.append(f"Not called here: the hooks of {', '.join(sorted(hooked))}.")
        counts = Counter([node.inputs[i] for node, i in calls])
        for (place, _), run in groupby(self._messages(target, calls), key=self._place_of_vjp):
            yield self._vjps(place, list(run), counts)

    def _messages(self, target: Node, calls: Sequence[tuple[Node, int]]) -> Iterator[Message]:
        """The messages until one cannot be computed; then why."""
        try:
            yield from messages(target, calls)
        except TensorError as error:
            self._notes.append(f"The backward pass ends here. {error}")

    def _operation(self, node: Node) -> Step:
        assert node.primitive is not None
        return Step(
            "forward",
            self._ids[node],
            node.primitive.name,
            formula=expression(node, self._names),
            reads=tuple(dict.fromkeys(self._told(parent) for parent in node.inputs)),
        )

    def _vjps(self, place: str | None, run: Sequence[Message], counts: Mapping[Node, int]) -> Step:
        node, position = run[0].node, run[0].position
        arrivals = self._arrivals(run, counts)
        if not self._drawn(node):
            return replace(self._together("backward", place, len(run)), arrivals=arrivals)
        primitive = node.primitive
        assert primitive is not None
        formula, slope = local_derivative(node, position, self._names)
        argument = "xs" if primitive.variadic else primitive.arguments[position]
        reads = parameter_names(primitive.formulas[argument])
        saved = {name: value for name, value in (node.saved or {}).items() if name in reads}
        known = dict(zip(primitive.arguments, node.inputs)) | {"y": node}
        used = [known[name] for name in reads if name in known]
        used += node.inputs if "xs" in reads else ()
        return Step(
            "backward",
            place,
            primitive.name,
            formula=formula,
            where=tuple(residuals(node, self._names)) if saved else (),
            reads=tuple(dict.fromkeys(self._told(one) for one in used)),
            saved=tuple((name, summary(value)) for name, value in saved.items()),
            slope=slope,
            edge=self._edge(node, position),
            arrivals=arrivals,
        )

    def _arrivals(self, run: Sequence[Message], counts: Mapping[Node, int]) -> tuple[Arrival, ...]:
        """What a run of VJPs adds to each value outside of it."""
        parts: dict[Node, Any] = {}
        last: dict[Node, Message] = {}
        for message in run:
            parent = message.node.inputs[message.position]
            if self._drawn(parent) or self._drawn(message.node):
                parts[parent] = parts[parent] + message.part if parent in parts else message.part
                last[parent] = message
        return tuple(
            Arrival(self._told(parent), summary(part), summary(m.total), m.number, counts[parent])
            for (parent, part), m in zip(parts.items(), last.values())
        )

    def _together(self, phase: Phase, place: str | None, covers: int) -> Step:
        return Step(phase, place, self._titles.get(place or "", "not in the picture"), covers)

    def _told(self, node: Node) -> str:
        """The id of a node, whose value is now among the values."""
        id = self._ids[node]
        if id not in self._values:
            dtype = str(getattr(node.value, "dtype", type(node.value).__name__))
            self._values[id] = Value(
                self._names[node], kind_of(node, self._reading.given), np.shape(node.value), dtype,
                summary(node.value), node.needs,
            )  # fmt: skip
        return id

    def _drawn(self, node: Node) -> bool:
        return self._reading.place.get(node) is node

    def _place(self, node: Node) -> str | None:
        drawn_as = self._reading.place.get(node)
        return None if drawn_as is None else self._ids[drawn_as]

    def _place_of_vjp(self, message: Message) -> tuple[str | None, int]:
        """VJPs in a row with the same place are one step: those of a fold, or just one."""
        position = message.position if self._drawn(message.node) else -1
        return self._place(message.node), position

    def _edge(self, node: Node, position: int) -> int | None:
        parents = [i for i, parent in enumerate(node.inputs) if self._drawn(parent)]
        if position not in parents:
            return None
        return self._entering[self._ids[node]][parents.index(position)]


def _changes_gradient(node: Node) -> bool:
    """Whether a hook may replace the gradient; the one of `retain_grad` only keeps it."""
    return any(hook is not retained for hook in (node.hooks or {}).values())
