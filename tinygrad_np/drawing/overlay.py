"""Overlays: what else a picture says about each operation, and which boxes it makes stand out."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..backward import reach
from ..core import Node
from ..errors import ArgumentError, GradientError, message
from .graph import Group, Mark, State, consumers, cotangents
from .numbers import number

TIMES = 3  # runs of each operation, of which the fastest counts
FAR = 1e3  # how far from the gradient nearest the output a gradient vanishes or explodes

# What a checker says about a quantity, and how it is drawn.
VERDICTS: dict[str, State] = {
    "right": "", "wrong": "framed", "shape": "framed", "missing": "framed", "follows": "hatched",
}  # fmt: skip


class Overlay(NamedTuple):
    """Marks of nodes, the mark of a group as made of those of its members, and a line of caption."""

    marks: dict[Node, Mark]
    together: Callable[[Sequence[Mark]], Mark]
    note: str

    def on(self, groups: Iterable[Group]) -> dict[Node | Group, Mark]:
        """The marks of nodes and of groups."""
        marks: dict[Any, Mark] = {**self.marks}
        for group in groups:
            inside = [self.marks[node] for node in group.members if node in self.marks]
            if inside:
                marks[group] = self.together(inside)
        return marks


def overlay(
    kind: str | Mapping[str, str], targets: Sequence[Node], nodes: Sequence[Node],
    names: Mapping[Node, str],
) -> Overlay:  # fmt: skip
    """The overlay of that name, or of a checker's verdicts by the names of quantities.

    Raises
    ------
    ArgumentError
        For an unknown overlay, or a verdict on what is not in the picture.
    """
    if isinstance(kind, Mapping):
        return _verdicts(kind, names)
    known = {"bytes": _bytes, "time": _time, "gradients": _gradients, "nonfinite": _nonfinite}
    if kind not in known:
        raise ArgumentError(message("draw", f"overlay= among {', '.join(known)}", repr(kind)))
    return known[kind](targets, nodes, names)


# --------------------------------------------------------------------------------------------------
# Bytes and seconds: amounts that add up
# --------------------------------------------------------------------------------------------------


def _bytes(targets: Sequence[Node], nodes: Sequence[Node], names: Mapping[Node, str]) -> Overlay:
    """Results and residuals, each array once; leaves are the user's and would be there anyway."""
    counted = {id(_whole(node.value)) for node in nodes if node.primitive is None}
    users = consumers(nodes)
    kept = {node: 0 for node in nodes if node.primitive is not None}
    for node in kept:
        if not (node.needs or any(user.needs for user in users.get(node, ()))):
            continue  # recorded only to be drawn
        params = [one for one in (node.params or {}).values() if isinstance(one, np.ndarray)]
        for array in map(_whole, [node.value, *(node.saved or {}).values(), *params]):
            if isinstance(array, np.ndarray) and id(array) not in counted:
                counted.add(id(array))
                kept[node] += array.nbytes
    return _amounts(kept, _in_bytes, "kept for backward, results and residuals")


def _whole(value: Any) -> Any:
    """The array that owns the memory of a view."""
    while isinstance(getattr(value, "base", None), np.ndarray):
        value = value.base
    return value


def _in_bytes(n: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def _time(targets: Sequence[Node], nodes: Sequence[Node], names: Mapping[Node, str]) -> Overlay:
    """Each operation run again on the values it had."""
    spent = {node: _seconds(node) for node in nodes if node.primitive is not None}
    return _amounts(spent, _in_seconds, f"for the operations, each the fastest of {TIMES} runs")


def _seconds(node: Node) -> float:
    assert node.primitive is not None
    values = [one.value for one in node.inputs]
    best = np.inf
    with np.errstate(all="ignore"):
        for _ in range(TIMES):
            params = copy.deepcopy(node.params or {})  # a random generator must not move on
            start = time.perf_counter()
            node.primitive.fn(*values, **params)
            best = min(best, time.perf_counter() - start)
    return best


def _in_seconds(s: float) -> str:
    for unit in ("s", "ms"):
        if s >= 1:
            return f"{s:.3g} {unit}"
        s *= 1000
    return f"{s:.3g} µs"


def _amounts(amounts: Mapping[Node, float], text: Callable[[float], str], what: str) -> Overlay:
    total = sum(amounts.values())
    shares = {node: n / total if total else 0.0 for node, n in amounts.items()}

    def mark(share: float) -> Mark:
        return Mark((f"{text(share * total)}   {share:.0%}",), share)

    def together(marks: Sequence[Mark]) -> Mark:
        return mark(sum([one.share or 0.0 for one in marks]))

    marks = {node: mark(share) for node, share in shares.items()}
    return Overlay(marks, together, f"{text(total)} {what}")


# --------------------------------------------------------------------------------------------------
# Gradients
# --------------------------------------------------------------------------------------------------


def _gradients(
    targets: Sequence[Node], nodes: Sequence[Node], names: Mapping[Node, str]
) -> Overlay:
    """Norms, against the root mean square at the last parameter whose gradient is not zero."""
    if not any(node.needs for node in targets):
        raise GradientError(
            message("draw", "a target that needs a gradient, for overlay='gradients'",
                    targets[0].label)
        )  # fmt: skip
    found = cotangents(targets)
    sizes = {node: _root_mean_square(g) for node, g in found.items()}
    by_use = (one for node in reach(targets) for one in reversed(node.inputs))
    leaves = (one for one in by_use if one.primitive is None)
    near = next((leaf for leaf in leaves if 0 < sizes.get(leaf, 0.0) < np.inf), None)
    usual = sizes[near] if near is not None else 1.0
    marks = {}
    for node, g in found.items():
        norm = f"|grad| = {number(float(np.linalg.norm(np.asarray(g, float))), 3)}"
        verdict = _far(sizes[node], usual)
        marks[node] = Mark((norm, *verdict), state="framed" if verdict else "")
    at = "1" if near is None else f"that at {names[near]}, the last parameter"
    note = (
        f"|grad|: the norm of the gradient. Vanishing, exploding: its root mean square is less than "
        f"1/{FAR:,.0f} of, more than {FAR:,.0f} times {at}"
    )
    return Overlay(marks, _counted, note)


def _far(size: float, usual: float) -> tuple[str, ...]:
    if not np.isfinite(size):
        return ("not finite",)
    if size == 0:
        return ("vanishing: all zero",)
    if size < usual / FAR:
        return ("vanishing",)
    return ("exploding",) if size > usual * FAR else ()


def _root_mean_square(g: Any) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.mean(np.square(np.asarray(g, float))))) if np.size(g) else 0.0


def _counted(marks: Sequence[Mark]) -> Mark:
    """How many of each verdict, and the worst state."""
    counts = Counter([line for mark in marks if mark.state for line in mark.lines[1:]])
    states = {mark.state for mark in marks}
    worst: State = "framed" if "framed" in states else "hatched" if "hatched" in states else ""
    return Mark(tuple([f"{n:,} {line}" for line, n in counts.items()]), state=worst)


# --------------------------------------------------------------------------------------------------
# Where something went wrong first
# --------------------------------------------------------------------------------------------------


def _nonfinite(
    targets: Sequence[Node], nodes: Sequence[Node], names: Mapping[Node, str]
) -> Overlay:
    """Values that are not finite, then gradients that are not; the first is framed."""
    marks: dict[Node, Mark] = {}
    for node in nodes:
        _mark_not_finite(marks, node, "value", node.value)
    try:
        found = cotangents(targets)
    except GradientError:  # a leaf was changed since: there are only the gradients that were kept
        found = {node: node.gradient() for node in nodes if node.grad is not None}
    for node in sorted(found, key=lambda node: (node.primitive is None, -node.order)):
        _mark_not_finite(marks, node, "gradient", found[node])
    first = next(iter(marks), None)
    note = "all values and gradients are finite"
    if first is not None:
        note = f"framed: {names[first]}, the first that is not finite; hatched: what comes after it"
    return Overlay(marks, _counted, note)


def _mark_not_finite(marks: dict[Node, Mark], node: Node, what: str, array: Any) -> None:
    array = np.asarray(array)
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    bad = array.size - np.count_nonzero(np.isfinite(array))
    line = f"{what}: {bad:,} of {array.size:,} not finite"
    before = marks.get(node) or Mark((), state="hatched" if marks else "framed")
    marks[node] = replace(before, lines=(*before.lines, line))


def _verdicts(verdicts: Mapping[str, str], names: Mapping[Node, str]) -> Overlay:
    by_name = {name: node for node, name in names.items()}
    unknown = [name for name in verdicts if name not in by_name]
    if unknown:
        raise ArgumentError(
            message("draw", f"overlay= of names in the picture ({', '.join(by_name)})",
                    ", ".join(map(repr, unknown)))
        )  # fmt: skip
    marks = {
        by_name[name]: Mark((verdict,), state=VERDICTS.get(verdict, ""))
        for name, verdict in verdicts.items()
    }
    note = "framed: what is wrong; hatched: what is wrong only because of it"
    return Overlay(marks, _counted, note)
