"""The right rule for every quantity of a recorded loss, run on arrays that somebody else computed.

One backward pass answers for all quantities at once: what arrives at a quantity is noted, and then
the given array takes its place. So each quantity is compared with what the right rule makes of the
*given* arrays above it, and only a line that is itself wrong differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backward import by_order, pull_useful, reach
from ..core import Node, parameter_names

Array = NDArray[Any]
Change = Callable[[Array, Any], Array]

STEP = 1e-8  # relative size of the perturbations that measure how rounding is amplified


@dataclass(frozen=True)
class Edit:
    """One change to the backward pass.

    Attributes
    ----------
    at : Node
        The node whose backward step is changed.
    into : Node or None
        The argument that is given something else; None to change what arrives ``at`` itself.
    change : callable
        Given the cotangent at the node and what the right rule sends on (None if ``alone``).
    alone : bool
        Whether the step sends on nothing but this: ``into`` lies several steps further.
    """

    at: Node
    into: Node | None
    change: Change
    alone: bool = False


@dataclass(frozen=True)
class Mistake:
    """A plausible mistake: what was changed, at one place or at all those of a loop.

    ``free`` says that a constant is to be fitted: the edits give the wrong array but for a factor.
    ``rank`` is higher for what is less plausible: of readings with the same numbers it comes later.
    ``constant`` is the factor, where the mistake is one.
    """

    kind: str
    text: str
    edits: tuple[Edit, ...]
    free: bool = False
    rank: int = 1
    constant: float | None = None

    def scaled(self, c: float) -> Mistake:
        """The same with a constant; ``{c}`` in the text stands for it."""
        edits = tuple(replace(one, change=_scaled(one.change, c)) for one in self.edits)
        return Mistake(self.kind, self.text.format(c=f"{c:.6g}"), edits, False, self.rank, c)


def _scaled(change: Change, c: float) -> Change:
    return lambda g, d: c * change(g, d)


@dataclass(frozen=True)
class Pass:
    """What one backward pass made: at each node, and from each step into each argument."""

    arrived: dict[Node, Array]
    parts: dict[tuple[Node, Node], Array]


def run(
    loss: Node,
    given: Mapping[Node, Array],
    edits: Sequence[Edit] = (),
    disturb: Callable[[Array], Array] = lambda g: g,
) -> Pass:
    """The backward pass from ``loss``, in which each given array replaces what arrived there."""
    pending: dict[Node, dict[Node | None, Array]] = {loss: {None: np.ones_like(loss.value)}}
    arrived: dict[Node, Array] = {}
    parts: dict[tuple[Node, Node], Array] = {}
    changes = _by_node(edits)

    def arrive(node: Node) -> Array:
        g = disturb(np.asarray(sum(pending.pop(node).values())))
        for one in changes.get(node, ()):
            if one.into is None:
                g = one.change(g, None)
        arrived[node] = g
        return given.get(node, g)

    for node in reach([loss]):
        if node not in pending:
            continue
        for parent, d in _sent(node, arrive(node), changes.get(node, ()), None).items():
            parts[node, parent] = d
            pending.setdefault(parent, {})[node] = d
    for leaf in list(pending):
        arrive(leaf)
    return Pass(arrived, parts)


@dataclass(frozen=True)
class Span:
    """The part of the backward pass from the nearest given arrays to one node.

    ``steps`` are the nodes whose backward step counts, youngest first, and ``inside`` those that they
    send to.
    """

    target: Node
    steps: tuple[Node, ...]
    inside: frozenset[Node]

    def run(self, start: Mapping[Node, Array], edits: Sequence[Edit] = ()) -> Array | None:
        """What arrives at the target; None if nothing does."""
        pending: dict[Node, Array] = {}
        changes = _by_node(edits)
        target = self.target
        useful = set(self.inside)
        for node in self.steps:
            if node in self.inside:
                if node not in pending:
                    continue
                g = _changed(pending.pop(node), changes.get(node, ()))
            else:
                g = start[node]
            for parent, d in _sent(node, g, changes.get(node, ()), useful).items():
                pending[parent] = pending[parent] + d if parent in pending else d
        if target not in pending:
            return None
        return _changed(pending[target], changes.get(target, ()))


def _by_node(edits: Sequence[Edit]) -> dict[Node, list[Edit]]:
    found: dict[Node, list[Edit]] = {}
    for one in edits:
        found.setdefault(one.at, []).append(one)
    return found


def _changed(g: Array, edits: Sequence[Edit]) -> Array:
    for one in edits:
        if one.into is None:
            g = one.change(g, None)
    return g


def _sent(
    node: Node, g: Array, edits: Sequence[Edit], useful: set[Node] | None
) -> dict[Node, Array]:
    """What one backward step sends to each argument."""
    sent: dict[Node, Array] = {}
    mine = [one for one in edits if one.into is not None]
    if not any(one.alone for one in mine):
        pull_useful(node, g, sent, useful, recorded=False)
    for one in mine:
        assert one.into is not None
        if useful is None or one.into in useful:
            sent[one.into] = one.change(g, sent.get(one.into))
    return sent


def copied(
    loss: Node,
    change: Callable[[Node], Callable[[Array], Array]],
    others: Mapping[Node, dict[str, Any]] | None = None,
) -> dict[Node, Node]:
    """The whole record computed again in float64, each value changed as ``change`` says.

    ``others`` are parameters of operations to take instead.
    """
    nodes, seen = [loss], {loss}
    for node in nodes:
        fresh = [one for one in dict.fromkeys(node.inputs) if one not in seen]
        seen.update(fresh)
        nodes += fresh
    copies: dict[Node, Node] = {}
    for node in sorted(nodes, key=by_order):
        params, saved = (others or {}).get(node, node.params), node.saved
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
        return np.asarray(value * (1 + STEP * np.sign(rng.random(np.shape(value)) - 0.5)))

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
