"""Which mistake was made: each plausible one is made on purpose, and kept if it gives the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backward import by_order, pull_useful
from ..core import Node, Tensor, mode
from ..drawing import formula
from .case import Case, between, ratio, slope
from .findings import Diagnosis
from .mistakes import candidates
from .mistakes.slopes import WITH_OUTPUT
from .rules import Edit, Mistake, norm, run

SHORT, LONGEST = 60, 200  # characters of a line that somebody would write
MOST_STEPS = 30  # of a backward pass that may become one line
# How many backward steps may be run to explain one array: naive loops record thousands of nodes.
STEPS = 120_000


class Explained(NamedTuple):
    """Some wrong arrays, and the mistakes each of which gives them."""

    readings: list[Mistake]
    nodes: tuple[Node, ...]
    rivals: bool = False


def explain(case: Case, wrong: Sequence[Node]) -> dict[Node, tuple[Diagnosis, ...]]:
    """The readings of each wrong array; arrays that one mistake explains share theirs."""
    sound = [
        node
        for node in case.given
        if node not in wrong and case.same(node, case.local.arrived[node])
    ]
    made: list[Edit] = []
    groups: list[Explained] = []
    left = list(wrong)
    budget = STEPS
    while left:
        target, *others = left
        found, budget = _best(case, made, target, others, sound, budget)
        groups.append(found)
        if found.readings:
            made += found.readings[0].edits
        left = [node for node in left if node not in found.nodes]
    everything = all(group.readings for group in groups)
    diagnoses: dict[Node, tuple[Diagnosis, ...]] = {}
    for readings, nodes, rivals in groups:
        sure = everything and len(readings) == 1 and not rivals
        told = tuple(_diagnosis(case, one, nodes, everything, sure, rivals) for one in readings)
        diagnoses |= dict.fromkeys(nodes, told)
    return diagnoses


def _best(
    case: Case, made: list[Edit], target: Node, others: list[Node], sound: list[Node], budget: int
) -> tuple[Explained, int]:
    """The mistakes that explain one array and as many others as possible, one of each kind.

    Also what is left of the number of steps.
    """
    tried: list[tuple[Mistake, tuple[Node, ...]]] = []
    span = case.span(target)
    with np.errstate(all="ignore"):
        for one in candidates(case, target):
            budget -= 10 + len(span.steps)
            if budget < 0:
                case.stopped = True
                break
            fitting = _fitting(case, made, target, one)
            if fitting is not None:
                tried.append(
                    (fitting, _explained(case, [*made, *fitting.edits], target, others, sound))
                )
    most = max((len(nodes) for _, nodes in tried), default=0)
    best = [(one, nodes) for one, nodes in tried if nodes and len(nodes) == most]
    best.sort(key=lambda pair: pair[0].rank)
    # A far-fetched reading, with a constant to fit or an array from elsewhere, gives way to a plain one.
    kinds = {one.kind for one, _ in best}
    best = [pair for pair in best if pair[0].rank <= max(1, best[0][0].rank)]
    if not best:
        return Explained([], (target,)), budget
    explained = best[0][1]
    readings: list[Mistake] = []
    for one, nodes in best:  # of one kind the nearest: further up it is the same mistake
        if nodes == explained and one.kind not in [known.kind for known in readings]:
            readings.append(one)
    rivals = kinds != {one.kind for one in readings}
    return Explained(readings, explained, rivals), budget


def _fitting(case: Case, made: list[Edit], target: Node, one: Mistake) -> Mistake | None:
    """The mistake, with its constant if it has one, if it gives the target's array."""
    try:
        arrived = case.span(target).run(case.start, [*case.dead, *made, *one.edits])
        if one.free and arrived is not None:
            there = case.theirs[target]
            c = ratio(there, arrived)
            if there.size < 3 or not c or not np.isfinite(c) or not norm(arrived):
                return None
            one, arrived = one.scaled(c), c * arrived
    except (ValueError, IndexError):  # the mistake does not fit these shapes
        return None
    return one if case.same(target, arrived) else None


def _explained(
    case: Case, edits: list[Edit], target: Node, others: list[Node], sound: list[Node]
) -> tuple[Node, ...]:
    """The wrong arrays that these mistakes give; none if ``target`` is not, or a sound one is no more."""
    try:
        arrived = run(case.loss, case.given, [*case.dead, *edits]).arrived
    except (ValueError, IndexError):  # further down it does not fit
        return (target,) if case.theirs[target].shape != target.value.shape else ()
    if not case.same(target, arrived.get(target)):
        return ()
    if not all(case.same(node, arrived.get(node)) for node in sound):
        return ()
    return (target, *[node for node in others if case.same(node, arrived.get(node))])


def _diagnosis(
    case: Case, one: Mistake, nodes: tuple[Node, ...], everything: bool, sure: bool, rivals: bool
) -> Diagnosis:
    several = ", ".join(f"d{case.name(node)}" for node in nodes)
    count = len(case.theirs)
    whole = f"; with it all {count} arrays are accounted for" if everything and count > 1 else ""
    evidence = f"Made on purpose, this reproduces {several} to rounding{whole}."
    place = next(
        (edit.into for edit in one.edits if edit.into in case.names and edit.into in case.given),
        nodes[0],
    )
    assert place is not None
    return Diagnosis(one.kind, one.text, fix(case, place), evidence, sure, one.constant, rivals)


def fix(case: Case, target: Node) -> str:
    """The line that computes a gradient from those that were given; empty if it is no line.

    If that is long, from those of the nearest named nodes.
    """
    given = {*case.given, case.loss}
    for ends, longest in ((given, SHORT), ({*given, *case.names}, LONGEST)):
        text = _line(case, target, ends)
        if text and len(text) < longest:
            return text
    return ""


def _line(case: Case, target: Node, known: set[Node]) -> str:
    ends: list[Node] = []
    todo, seen = [target], {target}
    for node in todo:
        for one in case.consumers.get(node, []):
            if one not in seen:
                seen.add(one)
                (ends if one in known else todo).append(one)
    if len(todo) > MOST_STEPS:
        return ""
    if len(ends) == 1 and ends[0] is not case.loss:
        written = _slope_text(case, target, ends[0])
        if written:
            return f"d{case.name(target)} = d{case.name(ends[0])} * {written}"
    names = dict(case.names)
    region, pending = {*todo}, dict[Node, Any]()
    with mode(recording=True, everything=True, watchers=()), np.errstate(all="ignore"):
        for node in sorted({*ends, *todo[1:]}, key=by_order, reverse=True):
            if node in region:
                if node not in pending:
                    continue
                g = pending.pop(node)
            else:
                g = Tensor(np.ones_like(node.value))
                names[g.node] = "1" if node is case.loss else f"d{case.name(node)}"
            pull_useful(node, g, pending, region, recorded=True)
    if target not in pending:
        return ""
    text = formula.gradient(pending[target].node, names)
    if case.carried != 1.0 and target.primitive is None:
        text = f"({text}) / {case.carried:g}"
    return f"d{case.name(target)} = {text}"


def _slope_text(case: Case, z: Node, a: Node) -> str:
    """The derivative of an activation in terms of its output, where it is one of the known; else empty."""
    block = between(case, z, a) if a.value.shape == z.value.shape else []
    found = slope(block, z, a) if block else None
    if found is None:
        return ""
    known = (
        text
        for text, rule in WITH_OUTPUT.items()
        if np.allclose(rule(a.value), found, rtol=1e-6, atol=1e-9)
    )
    return next(known, "").format(case.name(a))
