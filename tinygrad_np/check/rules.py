"""The right rule for every quantity of a recorded loss, run on arrays that somebody else computed.

One backward pass answers for all quantities at once: what arrives at a quantity is noted, and then
the given array takes its place. So each quantity is compared with what the right rule makes of the
*given* arrays above it, and only a line that is itself wrong differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backward import by_order, pull_useful, reach
from ..core import Node, parameter_names

Array = NDArray[Any]
Change = Callable[[Array, Any], Array]

STEP = 1e-8  # relative size of the perturbations that measure how rounding is amplified


@dataclass(frozen=True)
class Mistake:
    """One change to the backward pass.

    Attributes
    ----------
    kind, text : str
        From the vocabulary of mistakes, and in a sentence.
    at : Node
        The node whose backward step is changed.
    into : Node or None
        The argument that is given something else; None to change what arrives ``at`` itself.
    change : callable
        Given the cotangent at the node and what the right rule sends on (None if ``alone``).
    alone : bool
        Whether the step sends on nothing but this: ``into`` lies several steps further.
    """

    kind: str
    text: str
    at: Node
    into: Node | None
    change: Change
    alone: bool = False


@dataclass(frozen=True)
class Pass:
    """What one backward pass made: at each node, and from each step into each argument."""

    arrived: dict[Node, Array]
    parts: dict[tuple[Node, Node], Array]


def run(
    loss: Node,
    given: Mapping[Node, Array],
    mistakes: Sequence[Mistake] = (),
    disturb: Callable[[Array], Array] = lambda g: g,
) -> Pass:
    """The backward pass from ``loss``, in which each given array replaces what arrived there."""
    pending: dict[Node, dict[Node | None, Array]] = {loss: {None: np.ones_like(loss.value)}}
    arrived: dict[Node, Array] = {}
    parts: dict[tuple[Node, Node], Array] = {}
    steps = reach([loss])

    def arrive(node: Node) -> Array:
        g = disturb(np.asarray(sum(pending.pop(node).values())))
        for one in mistakes:
            if one.at is node and one.into is None:
                g = one.change(g, None)
        arrived[node] = g
        return given.get(node, g)

    for node in steps:
        if node not in pending:
            continue
        g = arrive(node)
        sent: dict[Node, Array] = {}
        mine = [one for one in mistakes if one.at is node and one.into is not None]
        if not any(one.alone for one in mine):
            pull_useful(node, g, sent, None, recorded=False)
        for one in mine:
            assert one.into is not None
            sent[one.into] = one.change(g, sent.get(one.into))
        for parent, d in sent.items():
            parts[node, parent] = d
            pending.setdefault(parent, {})[node] = d
    for leaf in list(pending):
        arrive(leaf)
    return Pass(arrived, parts)


def copied(loss: Node, change: Callable[[Node], Callable[[Array], Array]]) -> dict[Node, Node]:
    """The whole record computed again in float64, each value changed as ``change`` says."""
    nodes, seen = [loss], {loss}
    for node in nodes:
        fresh = [one for one in dict.fromkeys(node.inputs) if one not in seen]
        seen.update(fresh)
        nodes += fresh
    copies: dict[Node, Node] = {}
    for node in sorted(nodes, key=by_order):
        params, saved = node.params, node.saved
        value = node.value
        inputs = tuple(copies[one] for one in node.inputs)
        if node.primitive is not None:
            value = node.primitive.fn(*[one.value for one in inputs], **(params or {}))
            if node.primitive.residuals:
                value, *rest = value
                saved = dict(zip(node.primitive.residuals, rest))
            value = np.asarray(value)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = change(node)(value.astype(float))
        copies[node] = Node(value, node.needs, node.primitive, inputs, params, saved)
    return copies


def spread(
    loss: Node, given: Mapping[Node, Array], exact: Pass, seed: int = 0
) -> dict[Node, float]:
    """How far each cotangent moves, in norm, per unit of relative rounding in every step."""
    rng = np.random.default_rng(seed)

    def shaken(value: Array) -> Array:
        return np.asarray(value * (1 + STEP * rng.choice([-1.0, 1.0], np.shape(value))))

    found = dict.fromkeys(exact.arrived, 0.0)
    for _ in range(2):
        copies = copied(loss, lambda node: np.asarray if _compares(node) else shaken)
        there = {copies[node]: shaken(value) for node, value in given.items()}
        arrived = run(copies[loss], there, disturb=shaken).arrived
        for node, value in exact.arrived.items():
            if copies[node] in arrived:
                moved = norm(arrived[copies[node]] - value) / STEP
                found[node] = max(found[node], moved)
    return found


def _compares(node: Node) -> bool:
    """Whether a rule may ask where the result equals an argument, as those of max and clip do."""
    rules = node.primitive.formulas.values() if node.primitive is not None else ()
    read = [set(parameter_names(rule)) for rule in rules]
    return any("y" in names and names - {"g", "y"} for names in read)


def norm(x: Any) -> float:
    return float(np.linalg.norm(np.ravel(np.asarray(x, float))))
