"""Lines of the forward pass that repeat: which, how often, and what each round reads."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..program import Step
from .layout import Line, names_in
from .templates import (
    DoesNotFit,
    Spec,
    matched,
    next_open,
    places,
    power,
    skeleton,
    text_of,
    with_places,
)

# Fewer rounds show no pattern; rounds of more lines than this are not looked for.
ROUNDS, LONGEST = 3, 300


@dataclass(eq=False)
class ArgumentList:
    """Arguments that differ in one number of their path: ``Ws.0``, ``Ws.1``.

    Attributes
    ----------
    pattern : tuple
        The parts of the path before and after the number.
    numbers : list of int
    arguments : list of str
    """

    pattern: tuple[str, str]
    numbers: list[int] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    name: str = ""
    gradient: str = ""

    def key(self, number: str) -> str:
        return ".".join([part for part in (self.pattern[0], number, self.pattern[1]) if part])


def argument_lists(arguments: Mapping[str, Step]) -> dict[tuple[str, str], ArgumentList]:
    found: dict[tuple[str, str], ArgumentList] = {}
    for name, step in arguments.items():
        parts = (step.name or "").split(".")
        if step.name == "mask":  # each dropout has one
            one = found.setdefault(("mask", ""), ArgumentList(("mask", "")))
            one.numbers.append(len(one.numbers))
            one.arguments.append(name)
        for i, part in enumerate(parts if len(parts) > 1 else ()):
            if part.isdigit():
                pattern = ".".join(parts[:i]), ".".join(parts[i + 1 :])
                one = found.setdefault(pattern, ArgumentList(pattern))
                one.numbers.append(int(part))
                one.arguments.append(name)
    for one in found.values():
        ordered = sorted(zip(one.numbers, one.arguments))
        one.numbers, one.arguments = [n for n, _ in ordered], [name for _, name in ordered]
    return {
        pattern: one for pattern, one in found.items()
        if len(one.numbers) >= ROUNDS and len(set(one.numbers)) == len(one.numbers)
    }  # fmt: skip


class Place(NamedTuple):
    """Which line of which round of which loop computes a name."""

    run: Run
    line: Any
    t: int


@dataclass(eq=False)
class Run:
    """Lines of the forward pass that repeat.

    Attributes
    ----------
    start, period, count : int
        The first line, the lines of a round, and the rounds.
    rounds : list of list of Line
    templates : list of ast.expr
        Each line's expression with open places.
    initial : dict
        For a line that later rounds read, what they read before the first round.
    """

    start: int
    period: int
    count: int
    rounds: list[list[Line]]
    templates: list[ast.expr] = field(default_factory=list)
    initial: dict[int, dict[int, ast.expr]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    saved: set[int] = field(default_factory=set)
    counter: str = "t"
    backward: Back | None = None

    def offset(self, line: int) -> int:
        """The index of the first round's value in the list of a line's values."""
        return len(self.initial.get(line, {}))


@dataclass(eq=False)
class Group:
    """The same line of the backward pass in each round.

    Attributes
    ----------
    key : tuple
        ("of", m): the gradient of line m; ("item", pattern): that of an item of a list of
        arguments; or another value.
    lines : dict
        By round.
    own, carried : list of ast.expr
        Templates of its terms: those computed in its own round, and those in the round after.
    seed : list of ast.expr
        Terms that the last round has beside.
    other_name : tuple or None
        The group whose gradient is the same in the last round, which has no line of its own then.
    ones : bool
        Whether in the last round, which has no line of its own then, it is 1 everywhere.
    """

    key: tuple[Any, ...]
    lines: dict[int, Line] = field(default_factory=dict)
    own: list[ast.expr] = field(default_factory=list)
    carried: list[ast.expr] = field(default_factory=list)
    seed: list[ast.expr] = field(default_factory=list)
    name: str = ""
    saved: bool = False
    other_name: tuple[Any, ...] | None = None
    ones: bool = False


@dataclass(eq=False)
class Back:
    """The backward loop of a run."""

    groups: dict[tuple[Any, ...], Group] = field(default_factory=dict)
    added: dict[str, list[ast.expr]] = field(default_factory=dict)


class Finder:
    """Finds the runs of the forward lines."""

    def __init__(
        self, lines: Sequence[Line], lists: Mapping[tuple[str, str], ArgumentList]
    ) -> None:
        self.lines, self.lists = lines, lists
        self.item: dict[str, list[tuple[tuple[str, str], int]]] = defaultdict(list)
        for pattern, one in lists.items():
            for i, name in enumerate(one.arguments):
                self.item[name].append((pattern, i))
        self.place: dict[str, Place] = {}
        self.leaves = [places(line.value) for line in lines]

    def runs(self) -> list[Run]:
        found: list[Run] = []
        taken: set[int] = set()
        waiting = self._candidates()
        while True:
            # A run may read what another one computes, which has to be found first.
            new = [run for one in waiting for run in self._in(*one, taken)]
            if not new:
                return sorted(found, key=lambda run: run.start)
            found += new

    def _candidates(self) -> list[tuple[int, int, int]]:
        """Stretches of lines that are alike after a period, those that cover most first."""
        known: dict[str, int] = {}
        alike = np.array(
            [known.setdefault(skeleton(line.value), len(known)) for line in self.lines]
        )
        found = []
        for period in range(1, min(len(alike) // ROUNDS, LONGEST) + 1):
            edges = np.flatnonzero(
                np.diff(np.concatenate([[0], alike[:-period] == alike[period:], [0]]))
            )
            for start, end in edges.reshape(-1, 2).tolist():
                if end - start + period >= ROUNDS * period:
                    found.append((start, period, end - start + period))
        return sorted(found, key=lambda one: (-(one[2] // one[1]) * one[1], one[1]))

    def _in(self, start: int, period: int, length: int, taken: set[int]) -> list[Run]:
        """The runs in a stretch, one after the other."""
        found: list[Run] = []
        end = start + length
        while end - start >= ROUNDS * period:
            run = self._first_in(start, period, end, taken)
            if run is None:
                return found
            found.append(run)
            start = run.start + run.count * period
            taken |= set(range(run.start, start))
            for t, lines in enumerate(run.rounds):
                for m, line in enumerate(lines):
                    self.place[line.target] = Place(run, m, t)
        return found

    def _first_in(self, start: int, period: int, end: int, taken: set[int]) -> Run | None:
        """The longest run that begins near a line: a round may begin anywhere, and the first round
        may look different from the others."""
        best: Run | None = None
        for first in range(
            max(start - period, 0), min(start + 2 * period, end - ROUNDS * period) + 1
        ):
            count = (end - first) // period
            if best is not None and count <= best.count:
                continue
            free = next((i for i in range(first, first + count * period) if i in taken), end)
            count = min(count, (free - first) // period)
            run = self._wired(first, period, count) if count >= ROUNDS else None
            if run is not None and (best is None or run.count > best.count):
                best = run
        return best

    def _wired(self, start: int, period: int, count: int) -> Run | None:
        """The run with its templates, as far as it goes; None if it is too short."""
        rounds = [
            list(self.lines[start + t * period : start + (t + 1) * period]) for t in range(count)
        ]
        own = {
            line.target: (m, t) for t, lines in enumerate(rounds) for m, line in enumerate(lines)
        }
        for t in (3, 2):
            run = Run(start, period, count, rounds)
            if t < count and self._is_learned(run, t, own) and self._is_cut(run, own):
                return run
        return None

    def _is_learned(self, run: Run, t: int, own: Mapping[str, tuple[int, int]]) -> bool:
        """Whether two rounds give templates."""
        now, before = run.start + t * run.period, run.start + (t - 1) * run.period
        try:
            for m in range(run.period):
                if len(self.leaves[now + m]) != len(self.leaves[before + m]):
                    return False
                specs = iter([
                    self._spec(a, b, m, t, own)
                    for a, b in zip(self.leaves[now + m], self.leaves[before + m])
                ])  # fmt: skip
                run.templates.append(with_places(run.rounds[t][m].value, next_open(specs)))
        except DoesNotFit:
            return False
        return True

    def _is_cut(self, run: Run, own: Mapping[str, tuple[int, int]]) -> bool:
        """Whether enough rounds from the first on are as the templates say; the others are cut."""
        fitting = 0
        while fitting < run.count and all(
            self._fits(run, m, fitting, own) for m in range(run.period)
        ):
            fitting += 1
        run.count, run.rounds = fitting, run.rounds[:fitting]
        return fitting >= ROUNDS and all(
            sorted(values) == list(range(-len(values), 0)) for values in run.initial.values()
        )

    def _spec(
        self, now: Any, before: Any, m: int, t: int, own: Mapping[str, tuple[int, int]]
    ) -> Spec:
        """What a place holds, judged by two rounds."""
        if isinstance(now, float | int) and now == before:
            return Spec("constant", now)
        if isinstance(now, float):
            return power(now, before, t, 1)
        if isinstance(now, int):
            slope = now - before
            return Spec("number", None, slope, now - slope * t)
        if now in own:
            line, u = own[now]
            if u < t - 3 or (u == t and line >= m):
                raise DoesNotFit
            return Spec("own", line, 1, u - t)
        if now == before:
            return Spec("name", now)
        for pattern, i in self.item.get(now, ()):
            for other, k in self.item.get(before, ()):
                if pattern == other:
                    return Spec("item", pattern, i - k, i - (i - k) * t)
        a, b = self.place.get(now), self.place.get(before)
        if a is not None and b is not None and a.run is b.run and a.line == b.line:
            return Spec("other", (a.run, a.line), a.t - b.t, a.t - (a.t - b.t) * t)
        raise DoesNotFit

    def _fits(self, run: Run, m: int, t: int, own: Mapping[str, tuple[int, int]]) -> bool:
        def accept(spec: Spec, tree: Any) -> bool:
            if spec.kind == "own" and t + spec.start < 0:
                if not isinstance(tree, ast.expr) or names_in(tree) & own.keys():
                    return False
                known = run.initial.setdefault(spec.key, {}).setdefault(t + spec.start, tree)
                return ast.unparse(known) == ast.unparse(tree)
            wanted = self.recorded(run, spec, t)
            return wanted is not None and text_of(wanted) == text_of(tree)

        return matched(run.templates[m], run.rounds[t][m].value, accept)

    def recorded(self, run: Run, spec: Spec, t: int) -> ast.expr | None:
        """What stood in a place in round ``t``."""
        n = spec.at(t)
        match spec.kind:
            case "name":
                return ast.Name(spec.key)
            case "constant":
                return ast.Constant(spec.key)
            case "power":
                return ast.Constant(spec.key.at(n))
            case "number":
                return ast.Constant(n) if n >= 0 else None
            case "item":
                names = self.lists[spec.key].arguments
                return ast.Name(names[n]) if 0 <= n < len(names) else None
            case "own":
                if n < 0:
                    return run.initial.get(spec.key, {}).get(n)
                return ast.Name(run.rounds[n][spec.key].target) if n < run.count else None
            case "other":
                other, line = spec.key
                return ast.Name(other.rounds[n][line].target) if 0 <= n < other.count else None
        raise AssertionError(spec.kind)
