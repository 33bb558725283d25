"""Verdicts: each given array against the right rule, output side first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..backward import reach, unbroadcast
from ..core import Node
from ..errors import ShapeError
from .diagnosis import Case, explain
from .findings import BackpropReport, Diagnosis, Finding
from .rules import Array, Pass, copied, norm, run, spread

# How many units of rounding a right array may be off, and from where on it is no rounding any more.
RIGHT, NOISE = 64.0, 1024.0
# A float64 gradient nearer than this is no mistake: it is the 1e-8 in somebody's log(p + 1e-8).
HARMLESS = 1e-7


class Given(NamedTuple):
    """One array: the node whose gradient it should be, the variable, and its source line."""

    node: Node
    array: Array
    variable: str
    place: str = ""


class Verdicts(NamedTuple):
    """One way to read the given arrays."""

    case: Case
    verdicts: dict[Node, str]

    @property
    def blame(self) -> tuple[int, int]:
        """How many lines are wrong, and how many arrays are not right."""
        found = list(self.verdicts.values())
        return sum(one in ("wrong", "shape") for one in found), sum(one != "right" for one in found)


def judge(
    loss: Node,
    names: Mapping[Node, str],
    given: list[Given],
    missing: Mapping[Node, str],
    unmatched: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    others: Mapping[str, Array] | None = None,
) -> BackpropReport:
    """The report on some given arrays."""
    coarse = float(np.finfo(loss.value.dtype).eps)
    if loss.value.dtype != np.float64:
        copies = copied(loss, lambda node: lambda value: value)
        names = {copies.get(node, node): name for node, name in names.items()}
        given = [one._replace(node=copies[one.node]) for one in given]
        missing = {copies[node]: name for node, name in missing.items()}
        loss = copies[loss]
    order = _order(loss)
    given = sorted(given, key=lambda one: order[one.node])
    theirs = {one.node: np.asarray(one.array) for one in given}
    eps = {node: max(coarse, _eps(array)) for node, array in theirs.items()}
    with np.errstate(all="ignore"):
        true = run(loss, {})
        limits = spread(loss, {}, true)
        reading = _read(loss, names, theirs, true, limits, eps, 1.0)
        c = _carried(true, theirs, reading)
        if c != 1.0:
            other = _read(loss, names, theirs, true, limits, eps, c)
            divided = any(
                verdict == "right"
                for node, verdict in other.verdicts.items()
                if node.primitive is None
            )
            if divided and other.blame < reading.blame:
                reading, notes = other, (*notes, _convention(c, other.case))
    case, verdicts = reading
    case.others = others or {}
    wrong = [node for node, verdict in verdicts.items() if verdict in ("wrong", "shape")]
    diagnoses = explain(case, wrong)
    for node in wrong:
        if any(one.kind == "kink" for one in diagnoses[node]):
            verdicts[node] = "kink"
    if "kink" in verdicts.values() and not any(
        one in ("wrong", "shape") for one in verdicts.values()
    ):
        verdicts = {node: "kink" if one == "follows" else one for node, one in verdicts.items()}
    findings = [
        _finding(one, case, verdicts[one.node], true, limits[one.node] * eps[one.node],
                 diagnoses.get(one.node, ())) for one in given
    ]  # fmt: skip
    findings += [Finding(name, "-", "missing", None) for name in missing.values()]
    return BackpropReport(tuple(findings), unmatched, notes)


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


def _read(
    loss: Node, names: Mapping[Node, str], theirs: dict[Node, Array], true: Pass,
    limits: Mapping[Node, float], eps: Mapping[Node, float], c: float,
) -> Verdicts:  # fmt: skip
    """The verdicts if every intermediate gradient carries the constant ``c``."""
    theirs = {
        node: array / c if node.primitive is not None and c != 1.0 else array.astype(float)
        for node, array in theirs.items()
    }
    given = {node: array for node, array in theirs.items() if array.shape == node.value.shape}
    injected = {node: array for node, array in given.items() if np.isfinite(array).all()}
    local = run(loss, injected)
    moves = spread(loss, injected, local)
    near = {node: RIGHT * eps[node] * (norm(local.arrived[node]) + moves[node]) for node in theirs}
    case = Case(loss, names, injected, theirs, local, near, c)
    verdicts = {}
    for node, array in theirs.items():
        unit = eps[node] * (norm(true.arrived[node]) + limits[node])
        error = norm(array - true.arrived[node]) if node in given else np.inf
        if node not in given:
            verdicts[node] = "shape"
        elif error <= RIGHT * unit:
            verdicts[node] = "right"
        elif case.same(node, local.arrived[node]):
            above = any(
                verdicts.get(one, "right") not in ("right", "noise") for one in case.span(node)
            )
            verdicts[node] = "follows" if above else "noise"
        else:
            harmless = error <= max(NOISE * unit, HARMLESS * norm(true.arrived[node]))
            verdicts[node] = "noise" if harmless else "wrong"
    return Verdicts(case, verdicts)


def _carried(true: Pass, theirs: Mapping[Node, Array], reading: Verdicts) -> float:
    """The constant by which the first wrong intermediate gradient is a multiple of the true one."""
    for node, verdict in reading.verdicts.items():
        if node.primitive is not None and verdict == "wrong":
            right, array = true.arrived[node], theirs[node]
            square = float(np.vdot(right, right))
            c = float(np.vdot(right, array)) / square if square else 0.0
            if c and norm(array - c * right) <= abs(c) * reading.case.near[node] + HARMLESS * norm(
                array
            ):
                return round(c) if abs(c - round(c)) < 1e-6 * abs(c) else c
    return 1.0


def _convention(c: float, case: Case) -> str:
    what = f"the batch size {c:g}" if c in case.batch else f"a constant {c:g}"
    return f"Convention: the intermediate gradients carry {what}, and the parameters' divide by it."


def _finding(
    one: Given, case: Case, verdict: str, true: Pass, rounding: float, diagnoses: tuple[Diagnosis, ...]
) -> Finding:  # fmt: skip
    right, array = true.arrived[one.node], case.theirs[one.node]
    error, note = None, ""
    if verdict == "shape":
        note = _shape_note(one.node, array, right, f"d{case.name(one.node)}")
    else:
        error = norm(array - right) / (max(norm(right), rounding) or 1.0)
    if verdict == "wrong" and not np.isfinite(array).all():
        note = "it is not finite"
    if verdict == "wrong" and not diagnoses and not note:
        note = "no single plausible mistake reproduces it; compare the line term by term"
    return Finding(case.name(one.node), one.variable, verdict, error, one.place, note, diagnoses)


def _shape_note(node: Node, array: Array, right: Array, name: str) -> str:
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
