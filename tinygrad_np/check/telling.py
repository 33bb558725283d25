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
    """Keep of several readings those that hold on fewer rows, too."""
    doubtful = [one for one in report.findings if len(one.diagnoses) > 1]
    if not doubtful:
        return report
    for data, rows in _fewer(what.data):
        other = again(data)
        if other is None or [one.name for one in other.findings] != [one.name for one in report.findings]:
            continue
        found = tuple(_told(one, other[one.name], rows) for one in report.findings)
        return replace(report, findings=found)
    return report


def _fewer(data: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], int]]:
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

            found.append((tuple(tree.rebuild(one, cut) for one in data), rows))
    return found


def _told(one: Finding, other: Finding, rows: int) -> Finding:
    if len(one.diagnoses) < 2 or not other.diagnoses:
        return one
    kept = [d for d in one.diagnoses if any(_agree(d, e) for e in other.diagnoses)]
    if not kept or len(kept) == len(one.diagnoses):
        return one
    whole = "all" in kept[0].evidence
    first, *rest = kept
    evidence = f"{first.evidence} A run on {rows} rows gives the same reading, and no other of these."
    first = replace(first, evidence=evidence, certain=whole and not rest)
    return replace(one, diagnoses=(first, *rest))


def _agree(a: Diagnosis, b: Diagnosis) -> bool:
    """Whether two runs give the same reading: a factor is the same only with the same number."""
    if a.kind != b.kind:
        return False
    return a.kind not in ("factor", "off_by_one") or a.text == b.text
