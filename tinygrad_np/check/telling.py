"""Readings that the arrays of one run cannot tell apart, told apart by a run on fewer rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .. import tree
from .calling import Subject
from .findings import BackpropReport, Diagnosis, Finding

Again = Callable[[tuple[Any, ...]], BackpropReport | None]


def tell_apart(report: BackpropReport, what: Subject, again: Again) -> BackpropReport:
    """Keep of several readings those that hold on fewer rows, too; a factor may grow with them."""
    doubtful = [
        one for one in report.findings
        if len(one.diagnoses) > 1 or any(d.kind == "factor" for d in one.diagnoses)
    ]  # fmt: skip
    if not doubtful:
        return report
    for data, before, rows in _fewer(what.data):
        other = again(data)
        if other is None or [one.name for one in other.findings] != [
            one.name for one in report.findings
        ]:
            continue
        found = tuple(_told(one, other[one.name], before, rows) for one in report.findings)
        return replace(report, findings=found)
    return report


def _fewer(data: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], int, int]]:
    """The data with fewer rows, or columns: along each axis that all its arrays have in common."""
    arrays = [one for one in tree.leaves(list(data)) if isinstance(one, np.ndarray) and one.ndim]
    found = []
    for axis in (0, -1):
        lengths = [a.shape[axis] for a in arrays]
        for n in dict.fromkeys(lengths):
            if n < 3 or (len(arrays) > 1 and lengths.count(n) < 2):
                continue
            rows = n - 1 if n < 5 else n // 2 + 1

            def cut(x: Any, axis: int = axis, n: int = n, rows: int = rows) -> Any:
                if isinstance(x, np.ndarray) and x.ndim and x.shape[axis] == n:
                    return x[:rows] if axis == 0 else x[..., :rows]
                return x

            found.append((tuple(tree.rebuild(one, cut) for one in data), n, rows))
    return found


def _told(one: Finding, other: Finding, before: int, rows: int) -> Finding:
    if not one.diagnoses or not other.diagnoses:
        return one
    kept = [d for d in one.diagnoses if any(_agree(d, e) for e in other.diagnoses)]
    if not kept:
        kept = [
            told
            for d in one.diagnoses
            for e in other.diagnoses
            for told in _growing(d, e, before, rows)
        ]
        return replace(one, diagnoses=tuple(kept)) if kept else one
    if len(kept) == len(one.diagnoses):
        return one
    whole = "all" in kept[0].evidence
    first, *rest = kept
    evidence = (
        f"{first.evidence} A run on {rows} rows gives the same reading, and no other of these."
    )
    first = replace(first, evidence=evidence, certain=whole and not rest and not first.rivals)
    return replace(one, diagnoses=(first, *rest))


def _agree(a: Diagnosis, b: Diagnosis) -> bool:
    """Whether two runs give the same reading: a factor is the same only with the same number."""
    if a.kind != b.kind:
        return False
    if a.kind != "factor" or a.constant is None or b.constant is None:
        return True
    return bool(np.isclose(a.constant, b.constant, rtol=1e-4))


def _growing(a: Diagnosis, b: Diagnosis, before: int, rows: int) -> list[Diagnosis]:
    """A factor that is proportional to the number of rows: a divisor that does not change with it."""
    if a.kind != "factor" or b.kind != "factor" or a.constant is None or b.constant is None:
        return []
    if not np.isclose(a.constant / before, b.constant / rows, rtol=1e-4):
        return []
    evidence = f"{a.evidence} On {rows} rows the factor is {b.constant:.6g}, in proportion."
    divisor = before / a.constant
    if divisor >= 1.5:
        text = f"{a.text}: it is divided by {divisor:.6g} whatever the size of the batch, here {before}"
        return [replace(a, text=text, evidence=evidence)]
    text = f"{a.text}: {1 / divisor:.6g} times the size of the batch, by which it is not divided"
    plain = replace(a, evidence=evidence, certain=False)
    return [
        plain,
        replace(a, kind="missing_batch_mean", text=text, evidence=evidence, certain=False),
    ]
