"""A term too many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...core import Node
from ..case import Case, ratio
from ..rules import Array, Change, Edit, Mistake, norm


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    """The array is the right one plus a multiple of another one: of a parameter, or a gradient."""
    yield from _multiplied(case, target)
    there = case.theirs[target]
    if there.shape != target.value.shape:
        return
    off = there - case.local.arrived[target]
    own = case.name(target)
    known = [(own, target.value, "extra_term", f"a penalty of {own} that is not in the loss: ")]
    known += [(case.name(node), value, "extra_term", "") for node, value in case.arrays(there.shape)
              if node is not target]  # fmt: skip
    known += [(f"d{case.name(node)}", array, "extra_term", "") for node, array in case.given.items()
              if node is not target and array.shape == there.shape]  # fmt: skip
    known += [(name, array, "stale_cache", "what is left from before: ")
              for name, array in case.facts.stale if array.shape == there.shape]  # fmt: skip
    penalty = "a penalty that is not in the loss: "
    known += [(f"sign({own})", np.sign(target.value), "extra_term", penalty)]
    known += [("1", np.ones(there.shape), "extra_term", "")]
    if there.size < 3:
        return  # anything is a multiple of anything
    right = case.local.arrived[target]
    for name, array, kind, why in known:
        c = ratio(off, array)
        parallel = norm(right - ratio(right, array) * array) <= 1e-6 * norm(right)
        part = any(
            node is target and norm(d + c * array) <= 1e-9 * norm(d)
            for (_, node), d in case.local.parts.items()
        )
        if part or parallel or (kind == "stale_cache" and abs(c - 1) > 1e-6):
            continue  # a factor, and no term
        if norm(off - c * array) <= case.near[target] and norm(off) > case.near[target]:
            times = "" if abs(c - 1) < 1e-9 else f"{c:.6g} * "
            text = f"d{own} has a term too many, {why}{times}{name}"
            yield Mistake(kind, text, (Edit(target, None, _plus(c * array)),), rank=2)


def _multiplied(case: Case, target: Node) -> Iterator[Mistake]:
    """The array is the right one times something that does not belong there."""
    rules = {
        "{0}": lambda v: v, "{0} * (1 - {0})": lambda v: v * (1 - v), "(1 - {0}**2)": lambda v: 1 - v * v,
        "({0} > 0)": lambda v: (v > 0).astype(float), "(1 - {0})": lambda v: 1 - v,
    }  # fmt: skip
    name = f"d{case.name(target)}"
    for node, value in case.arrays(target.value.shape):
        for said, rule in rules.items():
            factor = np.asarray(rule(value))
            if np.ptp(factor):
                text = f"{name} is multiplied by {said.format(case.name(node))}, which does not belong there"
                change = Edit(target, None, lambda g, _, factor=factor: g * factor)
                yield Mistake("extra_term", text, (change,), rank=2)


def _plus(term: Array) -> Change:
    return lambda g, _: g + term
