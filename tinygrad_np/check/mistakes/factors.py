"""A constant factor too many, and what it can mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...backward import by_order
from ...core import Node
from ..case import Case, ratio, raw
from ..rules import Array, Change, Edit, Mistake, norm


def _times(c: float) -> Change:
    def change(g: Array, d: Array | None) -> Array:
        return c * (g if d is None else d)

    return change


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    """What arrives at a node, or one of its terms, has a factor."""
    there = case.theirs[target]
    if there.shape != target.value.shape:
        return
    parts = {a: d for (a, b), d in case.local.parts.items() if b is target}
    arrived = case.local.arrived[target]
    c = ratio(there, arrived)
    whole = case.loss in case.span(target).steps and case.loss not in case.given
    for kind, text in readings(case, c, target):
        if whole and kind != "sign":
            text += f" (it is the gradient of {c:.6g} * the loss)"
        rank = 0 if kind == "sign" else 1
        yield Mistake(kind, text, (Edit(target, None, _times(c)),), rank=rank, constant=c)
    if len(parts) > 1:
        yield from _of_terms(case, target, parts)
    for node in sorted(case.span(target).inside - {target}, key=by_order):
        if node in case.names and node in case.local.arrived:
            alike = [one for one in case.siblings(node) if one in case.local.arrived]
            for kind, text in readings(case, c, node):
                yield Mistake(kind, text, (Edit(node, None, _times(c)),))
                if len(alike) > 1:
                    edits = tuple(Edit(one, None, _times(c)) for one in alike)
                    yield Mistake(kind, text, edits)
    yield from _inside(case, target)


def _of_terms(case: Case, target: Node, parts: dict[Node, Array]) -> Iterator[Mistake]:
    there = case.theirs[target]
    for consumer in parts:
        looped = [one for one in case.siblings(consumer) if one in parts]
        line = case.of_one_line(consumer, list(parts))
        groups = [[consumer], *(some for some in (looped, line) if len(some) > 1)]
        for some in groups:
            mine = np.asarray(sum(parts[one] for one in some))
            c = ratio(there - (case.local.arrived[target] - mine), mine)
            if norm(mine) <= case.near[target] or abs(c) * norm(mine) <= case.near[target]:
                continue
            for kind, text in readings(case, c, target):
                way = f" in the term that comes by way of {case.name(consumer)}"
                yield Mistake(kind, text + way, tuple(Edit(one, target, _times(c)) for one in some))
            if abs(c - 2) < 1e-6:
                way = f"that comes by way of {case.name(consumer)}"
                text = f"the term of d{case.name(target)} {way} is added twice"
                yield Mistake(
                    "extra_term", text, tuple(Edit(one, target, _times(2.0)) for one in some)
                )


def _inside(case: Case, target: Node) -> Iterator[Mistake]:
    """A factor in one of the terms of something that was given no name: plain ones only."""
    span = case.span(target)
    simple = sorted({-1.0, 2.0, 0.5, *(float(n) for n in case.batch), *(1 / n for n in case.batch)})
    for node in sorted(span.inside - {target}, key=lambda one: one.order):
        ways = [a for a, b in case.local.parts if b is node]
        if len(ways) < 2:
            continue
        for way in ways:
            for c in simple:
                for kind, text in readings(case, c, node):
                    said = f" in the term that comes by way of {case.name(way)}"
                    yield Mistake(kind, text + said, (Edit(way, node, _times(c)),))


def readings(case: Case, c: float, node: Node) -> Iterator[tuple[str, str]]:
    """What a factor can mean."""
    name = f"d{case.name(node)}"
    if not np.isfinite(c) or c == 0 or abs(c - 1) < 1e-6:
        return

    def equal(x: float) -> bool:
        return abs(c / x - 1) < 1e-5

    if equal(-1):
        yield "sign", f"{name} has the opposite sign"
        return
    stretched = _stretched(case, node)
    averaged = _is_averaged(case, node)
    for n in stretched:
        if equal(1 / n):
            text = f"{name} is averaged over {n}, not summed"
            if averaged:
                yield "mean_instead_of_sum", text
            yield (
                "extra_batch_mean",
                f"{name} is {n} times too small: divided by {n} once too often",
            )
            if not averaged:
                yield "mean_instead_of_sum", text
    for n in sorted(case.batch):
        if equal(n):
            yield (
                "missing_batch_mean",
                f"{name} is {n} times too large: not divided by the batch size {n}",
            )
        elif equal(1 / n) and n not in stretched:
            yield (
                "extra_batch_mean",
                f"{name} is {n} times too small: divided by the batch size {n} once too often",
            )
    near = [n for n in sorted(case.divided) if n > 2 and any(map(equal, _beside(n)))]
    said = f"{name} has a divisor that is one off from {{}}: a factor {c:.6g} too many"
    yield from (("off_by_one", said.format(n)) for n in near if n > 4)
    yield "factor", f"{name} has a factor {c:.6g} too many"
    yield from (("off_by_one", said.format(n)) for n in near if n <= 4)
    for n in sorted(case.divided - case.batch):
        if equal(n) and n > 2:
            yield (
                "missing_batch_mean",
                f"{name} is {n} times too large: not divided by {n}, over which a mean is taken",
            )
        elif equal(1 / n) and n > 2 and n not in stretched:
            yield (
                "extra_batch_mean",
                f"{name} is {n} times too small: divided by {n} once too often",
            )


def _beside(n: int) -> tuple[float, ...]:
    """What is too much if a divisor of ``n`` is one off."""
    return n / (n - 1), (n - 1) / n, n / (n + 1), (n + 1) / n


def _is_averaged(case: Case, node: Node) -> bool:
    """Whether the user's own expression takes a mean."""
    written = case.facts.written.get(node, ())
    return any(one.primitive is not None and one.primitive.name == "mean" for one in written)


def _stretched(case: Case, node: Node) -> list[int]:
    """The lengths that the argument was broadcast along where it was used."""
    lengths = []
    for consumer in case.consumers.get(node, []):
        arrived = case.local.arrived.get(consumer)
        if arrived is not None and consumer.value.shape != node.value.shape:
            d = raw(consumer, node, case.given.get(consumer, arrived))
            if d is not None and d.shape != node.value.shape and node.value.size:
                lengths.append(d.size // node.value.size)
    return list(dict.fromkeys(lengths))
