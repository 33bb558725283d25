"""A path of the gradient that is left out, and arrays that are transposed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from ...backward import by_order
from ...core import Node
from ..case import Case
from ..rules import Array, Change, Edit, Mistake

# More terms than these are not left out in every combination.
MOST_TERMS = 5
REDUCTIONS = ("sum", "mean", "var", "std")


def transposed(case: Case, target: Node) -> Iterator[Mistake]:
    if target.value.ndim >= 2:
        text = f"d{case.name(target)} is the transpose of the right one"
        yield Mistake("transpose", text, (Edit(target, None, lambda g, _: g.mT),))
    name = f"d{case.name(target)}"
    for i, j in combinations(range(target.value.ndim), 2) if target.value.ndim > 2 else ():
        text = f"axes {i} and {j} of {name} are exchanged"
        swapped = Edit(target, None, lambda g, _, i=i, j=j: g.swapaxes(i, j))
        yield Mistake("transpose", text, (swapped,))
        turned = Edit(target, None, lambda g, _, i=i, j=j: np.flip(g, (i, j)))
        yield Mistake("wrong_operand", f"{name} is in reverse along axes {i} and {j}", (turned,))
    for axis in range(target.value.ndim):
        turned = Edit(target, None, lambda g, _, axis=axis: np.flip(g, axis))
        yield Mistake("wrong_operand", f"{name} is in reverse along axis {axis}", (turned,), rank=2)
    for group in case.edges(target):
        yield from _reshaped(case, group)


def _reshaped(case: Case, group: list[tuple[Node, Node]]) -> Iterator[Mistake]:
    """A gradient is brought back to its shape with two axes exchanged."""
    consumer, node = group[0]
    shape = node.value.shape
    if consumer.primitive is None or consumer.primitive.name != "reshape":
        return
    for i, j in combinations(range(len(shape)), 2):
        order = list(range(len(shape)))
        order[i], order[j] = j, i
        other = tuple(shape[axis] for axis in order)

        def change(
            g: Array, _: Array | None, other: tuple[int, ...] = other, i: int = i, j: int = j
        ) -> Array:
            return g.reshape(other).swapaxes(i, j)

        text = f"d{case.name(node)} is reshaped with axes {i} and {j} exchanged"
        yield Mistake("transpose", text, tuple(Edit(a, b, change) for a, b in group))


def _nothing(g: Array, d: Array | None) -> Array:
    assert d is not None
    return np.zeros_like(d)


def _zero(g: Array, _: Array | None) -> Array:
    return np.zeros_like(g)


def missing(case: Case, target: Node) -> Iterator[Mistake]:
    """Some of the terms that add up in a gradient are left out."""
    span = case.span(target)
    yield from _statistics(case, target)
    for node in sorted(span.inside, key=by_order):
        yield from _terms(case, node, target)
        if node is target:
            yield from _loop_ends(case, node)
    text = f"{case.name(target)} is treated as a constant: no gradient arrives"
    yield Mistake("detached", text, (Edit(target, None, _zero),), rank=0)
    for node in sorted(span.inside - {target}, key=by_order, reverse=True):
        if node in case.names and node in case.local.arrived:
            text = f"{case.name(node)} is treated as a constant: no gradient goes through it"
            yield Mistake("detached", text, (Edit(node, None, _zero),), rank=2)
            alike = [one for one in case.siblings(node) if one in case.local.arrived]
            if len(alike) > 1:
                yield Mistake(
                    "detached", text, tuple(Edit(one, None, _zero) for one in alike), rank=2
                )


def _ways(case: Case, node: Node) -> list[Node]:
    """The nodes that send a term to this one."""
    return [a for a, b in case.local.parts if b is node]


def _terms(case: Case, node: Node, target: Node) -> Iterator[Mistake]:
    ways = _ways(case, node)
    if len(ways) < 2:
        return
    sizes = range(1, len(ways)) if len(ways) <= MOST_TERMS else (1,)
    for left_out in (some for n in sizes for some in combinations(ways, n)):
        whose = " and ".join(case.name(one) for one in left_out)
        penalty = all(case.penalty(one) for one in left_out)
        kind = "missing_regularisation" if penalty and not case.penalty(target) else "missing_path"
        if penalty and node.primitive is None:
            kind = "missing_regularisation"
        many = "s" if len(left_out) > 1 else ""
        text = (
            f"the term{many} of d{case.name(node)} that come{'' if many else 's'} by way of {whose} "
            f"{'are' if many else 'is'} missing"
        )
        edits = tuple(Edit(one, node, _nothing) for one in left_out)
        yield Mistake(kind, text, edits)
        for kin in (case.siblings, case.relatives, lambda one: case.of_one_line(one, ways)):
            looped = [(a, b) for one in left_out for a, b in _alike(case, one, node, kin(one))]
            if len(looped) > len(left_out):
                yield Mistake(kind, text, tuple(Edit(a, b, _nothing) for a, b in looped))


def _alike(case: Case, way: Node, node: Node, kin: list[Node]) -> list[tuple[Node, Node]]:
    """The same edge in each turn of a loop, where the argument gets other terms as well."""
    i = way.inputs.index(node)
    pairs = [(one, one.inputs[i]) for one in kin if i < len(one.inputs)]
    return [(a, b) for a, b in pairs if (a, b) in case.local.parts]


def _loop_ends(case: Case, node: Node) -> Iterator[Mistake]:
    """The first or the last turn of a loop is left out."""
    ways = sorted(_ways(case, node), key=by_order)
    yield from _assigned(case, node, ways)
    for alike in dict.fromkeys(tuple(case.siblings(one)) for one in ways):
        turns = [one for one in alike if one in ways]
        if len(turns) < 2:
            continue
        for one, which in ((turns[0], "first"), (turns[-1], "last")):
            text = f"the {which} of the {len(turns)} terms that add up in d{case.name(node)} is missing"
            yield Mistake("off_by_one", text, (Edit(one, node, _nothing),))
            text = f"the {which} of the {len(turns)} turns of the loop is left out"
            yield Mistake("off_by_one", text, (Edit(one, None, _zero),))


def _statistics(case: Case, target: Node) -> Iterator[Mistake]:
    """All means and variances on the way are treated as constants."""
    found = [
        node for node in case.span(target).steps
        if node.primitive is not None and node.primitive.name in REDUCTIONS and _is_statistic(case, node)
    ]  # fmt: skip
    if not found:
        return
    edits = [
        Edit(node, one, _nothing)
        for node in found for one in dict.fromkeys(node.inputs) if (node, one) in case.local.parts
    ]  # fmt: skip
    names = " and ".join(case.name(node) for node in reversed(found))
    text = f"the statistics ({names}) are treated as constants: no gradient goes through them"
    yield Mistake("batchnorm_statistics_constant", text, tuple(edits))


def _is_statistic(case: Case, node: Node) -> bool:
    """Whether it is a mean or a deviation of data over an axis, and not a part of the loss."""
    assert node.primitive is not None
    if not node.value.ndim or node.value.size == case.loss.value.size:
        return False
    if node.primitive.name != "sum":
        return True
    after = case.consumers.get(node, [])
    return any(
        one.primitive is not None and one.primitive.name in ("divide", "multiply")
        and any(np.ndim(other.value) == 0 and not other.needs for other in one.inputs)
        for one in after
    )  # fmt: skip


def _assigned(case: Case, node: Node, ways: list[Node]) -> Iterator[Mistake]:
    """What several turns of a loop should add up is assigned: of each element the last counts."""
    reads = [one for one in ways if "index" in (one.params or {})]
    if len(reads) < 2:
        return
    text = f"what belongs to one element of d{case.name(node)} is assigned, not added up: the last counts"
    for order in (reads, reads[::-1]):
        covered = np.zeros(node.value.shape, bool)
        edits = []
        for one in reversed(order):
            edits.append(Edit(one, node, _but_for(covered.copy())))
            covered[(one.params or {})["index"]] = True
        yield Mistake("missing_path", text, tuple(edits))


def _but_for(covered: Array) -> Change:
    def change(g: Array, d: Array | None) -> Array:
        assert d is not None
        return np.where(covered, 0, d)

    return change
