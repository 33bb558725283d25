"""Verdicts: each given array against the right rule, output side first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..backward import reach, unbroadcast
from ..core import Node
from ..errors import ShapeError
from .case import Case, Facts
from .diagnosis import explain
from .findings import BackpropReport, Diagnosis, Finding
from .recording import Given
from .rules import Array, Edit, Pass, copied, norm, run, spread

# How many units of rounding a right array may be off, and from where on it is no rounding any more.
RIGHT, NOISE = 64.0, 1024.0
# A float64 gradient nearer than this is no mistake: it is the 1e-8 in somebody's log(p + 1e-8).
HARMLESS = 1e-7
WRONG = ("wrong", "shape")


class Reading(NamedTuple):
    """One way to read the given arrays."""

    case: Case
    verdicts: dict[Node, str]
    places: Mapping[Node, str]

    @property
    def blame(self) -> tuple[int, int]:
        """How many lines are wrong, and how many arrays are not right."""
        lines = {self.places.get(node) or node for node in self.wrong}
        return len(lines), sum(one != "right" for one in self.verdicts.values())

    @property
    def wrong(self) -> list[Node]:
        return [node for node, verdict in self.verdicts.items() if verdict in WRONG]


class Judge:
    """The record, and what may be expected of any gradient of it."""

    def __init__(self, loss: Node, facts: Facts, given: Sequence[Given]) -> None:
        self.coarse = float(np.finfo(loss.value.dtype).eps)
        self.copies: dict[Node, Node] = {}
        if loss.value.dtype != np.float64:
            self.copies = copied(loss, lambda node: lambda value: value)
            facts = facts.moved(self.copies)
            given = [replace(one, node=self.copies[one.node]) for one in given]
            loss = self.copies[loss]
        order = _order(loss)
        self.loss, self.facts = loss, facts
        self.given = sorted(given, key=lambda one: order[one.node])
        with np.errstate(all="ignore"):
            self.true = run(loss, {})
            self.limits = spread(loss, {}, self.true)
        self.dead = tuple(_dead(self.true))
        self.notes: list[str] = []

    def report(
        self, missing: Sequence[str], unmatched: tuple[str, ...], notes: tuple[str, ...]
    ) -> BackpropReport:
        """The verdicts, and the readings of what is wrong."""
        with np.errstate(all="ignore"):
            reading = self._without_the_unused(self._reading())
        case, verdicts, _ = reading
        diagnoses = explain(case, reading.wrong)
        if case.stopped:
            self.notes.append(
                "So many operations were recorded that not every plausible mistake was tried."
            )
        for node in reading.wrong:
            if any(one.kind == "kink" for one in diagnoses[node]):
                verdicts[node] = "kink"
        if "kink" in verdicts.values() and not any(one in WRONG for one in verdicts.values()):
            verdicts = {node: "kink" if one == "follows" else one for node, one in verdicts.items()}
        findings = [
            self._finding(one, case, verdicts[one.node], diagnoses.get(one.node, ()))
            for one in self.given if one.node in verdicts
        ]  # fmt: skip
        findings += [Finding(name, "-", "missing", None) for name in missing]
        return BackpropReport(tuple(findings), unmatched, (*notes, *self.notes))

    # -- readings ----------------------------------------------------------------------------------

    def _reading(self) -> Reading:
        """The reading that blames the fewest lines: with a constant carried on purpose, perhaps."""
        reading = self._read(self.given, 1.0)
        if reading.blame[0] == 0:
            return reading
        best, carried = reading, 1.0
        for c in self._constants(reading):
            other = self._read(self.given, c, roughly=True)
            divided = any(
                verdict == "right" or (verdict == "follows" and reading.verdicts[node] == "wrong")
                for node, verdict in other.verdicts.items() if node.primitive is None
            )  # fmt: skip
            if divided and other.blame < best.blame:
                best, carried = other, c
        if carried != 1.0:
            best = self._read(self.given, carried)
            self.notes.append(_convention(carried, best.case))
        return best

    def _read(self, given: Sequence[Given], c: float, roughly: bool = False) -> Reading:
        """The verdicts if every intermediate gradient carries the constant ``c``.

        ``roughly`` takes the rounding of the true gradients for that of the given ones.
        """
        theirs = {}
        for one in given:
            array = np.asarray(one.array)
            inner = one.node.primitive is not None and c != 1.0
            theirs[one.node] = array / c if inner else array.astype(float)
        eps = {one.node: max(self.coarse, _eps(np.asarray(one.array))) for one in given}
        fitting = {node: array for node, array in theirs.items() if array.shape == node.value.shape}
        injected = {node: array for node, array in fitting.items() if np.isfinite(array).all()}
        local = run(self.loss, injected, self.dead)
        moves = self.limits if roughly else spread(self.loss, injected, local)
        near = {
            node: RIGHT * eps[node] * (norm(local.arrived[node]) + moves[node]) for node in theirs
        }
        case = Case(self.loss, self.facts, injected, theirs, local, near, c, self.dead)
        verdicts: dict[Node, str] = {}
        for node, array in theirs.items():
            if node not in fitting:
                verdicts[node] = "shape"
            else:
                verdicts[node] = self._verdict(case, node, array, eps[node], verdicts)
        return Reading(case, verdicts, {one.node: one.place for one in given})

    def _verdict(
        self, case: Case, node: Node, array: Array, eps: float, above: Mapping[Node, str]
    ) -> str:
        right = self.true.arrived[node]
        unit = eps * (norm(right) + self.limits[node])
        error = norm(array - right) if np.isfinite(array).all() else np.inf
        if error <= RIGHT * unit:
            return "right"
        if case.same(node, case.local.arrived[node]):
            bad = any(
                above.get(one, "right") not in ("right", "noise") for one in case.span(node).steps
            )
            return "follows" if bad else "noise"
        return "noise" if error <= max(NOISE * unit, HARMLESS * norm(right)) else "wrong"

    def _constants(self, reading: Reading) -> Iterator[float]:
        """What intermediate gradients may carry: a multiple that is seen, or the size of the batch."""
        first = next((node for node in reading.wrong if node.primitive is not None), None)
        if first is None:
            return
        seen = []
        right, array = self.true.arrived[first], reading.case.theirs[first]
        square = float(np.vdot(right, right))
        if array.shape == right.shape and square:
            c = float(np.vdot(right, array)) / square
            near = abs(c) * reading.case.near[first] + HARMLESS * norm(array)
            if c and norm(array - c * right) <= near:
                seen.append(round(c) if abs(c - round(c)) < 1e-6 * abs(c) else c)
        found = [*seen, *(-c for c in seen if c < 0), *sorted(reading.case.lengths, reverse=True)]
        if reading.blame[0] > 1 or seen:
            yield from (c for c in dict.fromkeys(map(float, found)) if c != 1.0)

    def _without_the_unused(self, reading: Reading) -> Reading:
        """A variable that was only guessed to be a gradient is none if nothing wrong comes of it.

        Without it there is one wrong line less; if the gradients below are computed from it, they
        are wrong instead.
        """
        for node in reading.wrong:
            one = next(each for each in self.given if each.node is node)
            if not one.guessed:
                continue
            rest = [each for each in self.given if each is not one]
            other = self._read(rest, reading.case.carried)
            if other.blame[0] < reading.blame[0]:
                self.given = rest
                name = reading.case.name(node)
                self.notes.append(
                    f"{one.variable} is not the gradient of {name}, as its name says; "
                    "nothing wrong comes of it."
                )
                reading = other
        return reading

    # -- the report --------------------------------------------------------------------------------

    def _finding(
        self, one: Given, case: Case, verdict: str, diagnoses: tuple[Diagnosis, ...]
    ) -> Finding:
        right, array = self.true.arrived[one.node], case.theirs[one.node]
        rounding = self.limits[one.node] * max(self.coarse, _eps(np.asarray(one.array)))
        error, note = None, ""
        if verdict == "shape":
            note = _shape_note(one.node, array, f"d{case.name(one.node)}")
        else:
            error = norm(array - right) / (max(norm(right), rounding) or 1.0)
        if verdict == "wrong" and not np.isfinite(array).all():
            note = "it is not finite"
        if verdict == "wrong" and not diagnoses and not note:
            note = "no single plausible mistake reproduces it; compare the line term by term"
        return Finding(
            case.name(one.node), one.variable, verdict, error, one.place, note, diagnoses
        )


def judge(
    loss: Node,
    facts: Facts,
    given: Sequence[Given],
    missing: Sequence[str] = (),
    unmatched: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> BackpropReport:
    """The report on some given arrays."""
    return Judge(loss, facts, given).report(missing, unmatched, notes)


def _dead(true: Pass) -> Iterator[Edit]:
    """The way through a maximum that is subtracted before ``exp``: nothing comes by it, and nobody
    writes it down; so it stays closed when a wrong gradient is followed."""
    for (node, parent), d in true.parts.items():
        extremum = node.primitive is not None and node.primitive.name in ("max", "min")
        if extremum and norm(d) <= 1e-12 * norm(true.arrived[parent]):
            yield Edit(node, parent, lambda g, d: np.zeros_like(d))


def _order(loss: Node) -> dict[Node, tuple[int, int]]:
    """Sorts nodes as a backward pass completes them: leaves with the oldest step that reads them."""
    found: dict[Node, tuple[int, int]] = {}
    for node in reach([loss]):
        found[node] = (-node.order, 0)
        for parent in node.inputs:
            if parent.primitive is None and parent.needs:
                found[parent] = (-node.order, 1 + parent.value.ndim)
    return found


def _eps(array: Array) -> float:
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0


def _convention(c: float, case: Case) -> str:
    what = f"the batch size {c:g}" if c in case.batch else f"a constant {c:g}"
    return f"Convention: the intermediate gradients carry {what}, and the parameters' divide by it."


def _shape_note(node: Node, array: Array, name: str) -> str:
    shape = node.value.shape
    text = f"{name} has shape {array.shape}, its quantity {shape}"
    stretched = [
        axis for axis in range(array.ndim)
        if array.ndim - axis > len(shape) or shape[axis - array.ndim] < array.shape[axis]
    ]  # fmt: skip
    try:
        unbroadcast(array, shape)
    except (ShapeError, ValueError):
        return f"{text}: is it the transpose?" if array.shape == shape[::-1] else text
    if not stretched:
        return f"{text}: reshape it"
    keep = ", keepdims=True" if len(shape) == array.ndim else ""
    axes = str(stretched[0]) if len(stretched) == 1 else str(tuple(stretched))
    return f"{text}: sum over axis {axes} (.sum(axis={axes}{keep}))"
