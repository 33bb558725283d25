"""Repeated lines as Python loops: recurrences over time, and stacks of layers that are a list.

Forward, lines that repeat with a period become a loop if in each round they read the same names,
values of the same or of an earlier round, items of lists of arguments, and numbers that grow
evenly. Backward, the gradient of what round ``t`` computed belongs to round ``t``. Such a gradient
is a sum; its terms that come from round ``t + 1`` are handed over in a variable, which the loop
sets at its end, and a sum over all rounds is added up term by term.

Everything is compared with the lines as they were recorded, round by round. Where anything does
not fit, `rolled` returns None, and the lines stay as they are.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..program import Step
from .layout import (
    APPENDED,
    ASSIGNED,
    SHORT,
    WIDTH,
    Layout,
    Line,
    Loop,
    Round,
    identifier,
    names_in,
    signed,
    without_sign,
)
from .texts import RESERVED

# Fewer rounds show no pattern, and a loop must save a quarter of the lines: three steps of a small
# recurrent network are as short without one.
ROUNDS, SAVING = 3, 0.75
# More lines in one round than this are not looked for.
LONGEST = 300
LONGEST_LINE = 92
COUNTERS = {"time": ("t", "k", "i", "j", "n"), "list": ("i", "k", "j", "n", "t")}


class _DoesNotFit(Exception):
    """A line that is not like those of the other rounds."""


# --------------------------------------------------------------------------------------------------
# Expressions with open places
# --------------------------------------------------------------------------------------------------


class Spec(NamedTuple):
    """What stands in an open place in round ``t``.

    ``kind`` is "name" (always ``key``), "constant", "power" (see `Power`), "number", "item" (of the list of arguments ``key``), "own"
    (what line ``key`` computed ``shift`` rounds ago), "other" (the same of another loop) or
    "gradient" (of the backward loop). Numbers and indices are ``slope * t + start``.
    """

    kind: str
    key: Any = None
    slope: int = 0
    start: int = 0

    def at(self, t: int) -> int:
        return self.slope * t + self.start


class Open(ast.expr):
    """An open place of an expression."""

    _fields = ()

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec


class Final(ast.Name):
    """A name that is no open place."""


class Power(NamedTuple):
    """A float that changes from round to round: ``scale * base ** n``, or 1 less that."""

    scale: float
    base: float
    from_one: bool

    def at(self, n: int) -> float:
        value = self.scale * self.base**n
        return 1 - value if self.from_one else value

    def source(self, exponent: ast.expr) -> ast.expr:
        value: ast.expr = ast.BinOp(ast.Constant(self.base), ast.Pow(), exponent)
        if self.scale != 1:
            value = ast.BinOp(ast.Constant(self.scale), ast.Mult(), value)
        return ast.BinOp(ast.Constant(1), ast.Sub(), value) if self.from_one else value


def _power(now: float, before: float, t: int, steps: int) -> Spec:
    """The power that two rounds suggest: as of a decaying learning rate, or a bias correction."""
    if 0 < before < 1 and 0 < now < 1:
        base = _short(((1 - now) / (1 - before)) ** (1 / steps))
        n = np.log(1 - now) / np.log(base) if 0 < base < 1 else np.nan
        if np.isfinite(n) and abs(n - round(n)) < 1e-6:
            return Spec("power", Power(1.0, base, True), 1, round(n) - t)
    if now * before > 0:
        base = _short((now / before) ** (1 / steps))
        return Spec("power", Power(_short(now / base**t), base, False), 1, 0)
    raise _DoesNotFit


def _short(value: float) -> float:
    return float(f"{value:.11g}")


def _text(tree: ast.AST) -> str:
    """An expression as source in which floats that differ by rounding are the same."""
    floats = r"\d+\.\d+(?:e[-+]?\d+)?|\d+e-\d+"
    return re.sub(floats, lambda found: f"{float(found.group()):.11g}", ast.unparse(tree))


def _is_open(node: Any) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    return isinstance(node, ast.Name) and not isinstance(node, Final) and node.id != "np"


def _places(tree: ast.AST) -> list[Any]:
    """The names and numbers in an expression, in their order; called functions are none."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for one in node:
                visit(one)
        elif _is_open(node):
            found.append(node.id if isinstance(node, ast.Name) else node.value)
        elif isinstance(node, ast.AST):
            for name, one in ast.iter_fields(node):
                if not (isinstance(node, ast.Call) and name == "func" and isinstance(one, ast.Name)):
                    visit(one)

    visit(tree)
    return found


def _with_places(tree: Any, fill: Callable[[Any], ast.expr]) -> Any:
    """A copy in which ``fill`` makes each place, in the order of `_places`."""
    if isinstance(tree, list):
        return [_with_places(one, fill) for one in tree]
    if _is_open(tree):
        return fill(tree.id if isinstance(tree, ast.Name) else tree.value)
    if isinstance(tree, Open) or not isinstance(tree, ast.AST):
        return tree
    if isinstance(tree, Final):
        return ast.Name(tree.id)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return ast.Call(tree.func, _with_places(tree.args, fill), _with_places(tree.keywords, fill))
    return type(tree)(
        **{name: _with_places(one, fill) for name, one in ast.iter_fields(tree)}
    )


def _place(place: Any) -> ast.expr:
    return ast.Name(place) if isinstance(place, str) else ast.Constant(place)


def _skeleton(tree: ast.expr) -> str:
    """An expression but for its places."""
    return ast.dump(_with_places(tree, lambda place: ast.Name("_" if isinstance(place, str) else "#")))


def _closed(tree: Any, fill: Callable[[Spec], ast.expr]) -> Any:
    """A template with expressions in its open places."""
    if isinstance(tree, list):
        return [_closed(one, fill) for one in tree]
    if isinstance(tree, Open):
        return fill(tree.spec)
    if not isinstance(tree, ast.AST):
        return tree
    return type(tree)(**{name: _closed(one, fill) for name, one in ast.iter_fields(tree)})


def _matched(template: Any, tree: Any, accept: Callable[[Spec, Any], bool]) -> bool:
    """Whether an expression is what a template says; ``accept`` judges the open places."""
    if isinstance(template, Open):
        return accept(template.spec, tree)
    if isinstance(template, list):
        return (
            isinstance(tree, list)
            and len(template) == len(tree)
            and all(_matched(a, b, accept) for a, b in zip(template, tree))
        )
    if not isinstance(template, ast.AST):
        return type(template) is type(tree) and bool(template == tree)
    return type(template) is type(tree) and all(
        _matched(getattr(template, name, None), getattr(tree, name, None), accept)
        for name in template._fields if name not in ("ctx", "kind")
    )


def _specs(tree: ast.AST) -> Iterator[Spec]:
    for node in ast.walk(tree):
        if isinstance(node, Open):
            yield node.spec


def terms_of(tree: ast.expr) -> list[ast.expr]:
    """The terms of a sum; those that are subtracted with a sign before the whole."""
    match tree:
        case ast.BinOp(a, ast.Add(), b):
            return [*terms_of(a), *terms_of(b)]
        case ast.BinOp(a, ast.Sub(), b):
            return [*terms_of(a), *[_negative(one) for one in terms_of(b)]]
    positive = without_sign(tree)
    return [tree if positive is None else ast.UnaryOp(ast.USub(), positive)]


def _negative(tree: ast.expr) -> ast.expr:
    return tree.operand if _is_negative(tree) else ast.UnaryOp(ast.USub(), tree)  # type: ignore[attr-defined]


def _is_negative(tree: ast.expr) -> bool:
    return isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub)


def _sum(terms: Sequence[ast.expr]) -> ast.expr:
    ordered = sorted(terms, key=_is_negative)
    total = ordered[0]
    for one in ordered[1:]:
        minus = _is_negative(one)
        total = ast.BinOp(total, ast.Sub() if minus else ast.Add(), _negative(one) if minus else one)
    return total


def affine(slope: int, start: int, counter: str) -> ast.expr:
    """``slope * t + start`` as source."""
    if slope == 0:
        return ast.Constant(start)
    name: ast.expr = ast.Name(counter)
    if slope < 0 and start > 0:
        part = name if slope == -1 else ast.BinOp(ast.Constant(-slope), ast.Mult(), name)
        return ast.BinOp(ast.Constant(start), ast.Sub(), part)
    part = name if slope == 1 else ast.BinOp(ast.Constant(slope), ast.Mult(), name)
    if start == 0:
        return part
    sign = ast.Add() if start > 0 else ast.Sub()
    return ast.BinOp(part, sign, ast.Constant(abs(start)))


def _item(name: str, index: ast.expr) -> ast.expr:
    return ast.Subscript(ast.Name(name), index)


# --------------------------------------------------------------------------------------------------
# Lists of arguments
# --------------------------------------------------------------------------------------------------


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


def _argument_lists(arguments: Mapping[str, Step]) -> dict[tuple[str, str], ArgumentList]:
    found: dict[tuple[str, str], ArgumentList] = {}
    for name, step in arguments.items():
        parts = (step.name or "").split(".")
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


# --------------------------------------------------------------------------------------------------
# Forward
# --------------------------------------------------------------------------------------------------


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


class _Finder:
    """Finds the runs of the forward lines."""

    def __init__(self, lines: Sequence[Line], lists: Mapping[tuple[str, str], ArgumentList]) -> None:
        self.lines, self.lists = lines, lists
        self.item: dict[str, list[tuple[tuple[str, str], int]]] = defaultdict(list)
        for pattern, one in lists.items():
            for i, name in enumerate(one.arguments):
                self.item[name].append((pattern, i))
        self.place: dict[str, Place] = {}
        self.leaves = [_places(line.value) for line in lines]

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
        alike = np.array([known.setdefault(_skeleton(line.value), len(known)) for line in self.lines])
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
        found = []
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
        for first in range(max(start - period, 0), min(start + 2 * period, end - ROUNDS * period) + 1):
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
        own = {line.target: (m, t) for t, lines in enumerate(rounds) for m, line in enumerate(lines)}
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
                run.templates.append(
                    _with_places(run.rounds[t][m].value, lambda _, specs=specs: Open(next(specs)))
                )
        except _DoesNotFit:
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

    def _spec(self, now: Any, before: Any, m: int, t: int, own: Mapping[str, tuple[int, int]]) -> Spec:
        """What a place holds, judged by two rounds."""
        if isinstance(now, float | int) and now == before:
            return Spec("constant", now)
        if isinstance(now, float):
            return _power(now, before, t, 1)
        if isinstance(now, int):
            slope = now - before
            return Spec("number", None, slope, now - slope * t)
        if now in own:
            line, u = own[now]
            if u < t - 3 or (u == t and line >= m):
                raise _DoesNotFit
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
        raise _DoesNotFit

    def _fits(self, run: Run, m: int, t: int, own: Mapping[str, tuple[int, int]]) -> bool:
        def accept(spec: Spec, tree: Any) -> bool:
            if spec.kind == "own" and t + spec.start < 0:
                if not isinstance(tree, ast.expr) or names_in(tree) & own.keys():
                    return False
                known = run.initial.setdefault(spec.key, {}).setdefault(t + spec.start, tree)
                return ast.unparse(known) == ast.unparse(tree)
            wanted = self.recorded(run, spec, t)
            return wanted is not None and _text(wanted) == _text(tree)

        return _matched(run.templates[m], run.rounds[t][m].value, accept)

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


# --------------------------------------------------------------------------------------------------
# Backward
# --------------------------------------------------------------------------------------------------


class Term(NamedTuple):
    """A term of a gradient, and the round of the loop whose gradients it is computed from."""

    tree: ast.expr
    home: int | None


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
    """

    key: tuple[Any, ...]
    lines: dict[int, Line] = field(default_factory=dict)
    own: list[ast.expr] = field(default_factory=list)
    carried: list[ast.expr] = field(default_factory=list)
    seed: list[ast.expr] = field(default_factory=list)
    name: str = ""
    saved: bool = False
    other_name: tuple[Any, ...] | None = None


@dataclass(eq=False)
class Back:
    """The backward loop of a run."""

    groups: dict[tuple[Any, ...], Group] = field(default_factory=dict)
    added: dict[str, list[ast.expr]] = field(default_factory=dict)


class _Roller:
    """Rolls one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.forward = [line for line in layout.lines if not line.backward]
        self.backward = [line for line in layout.lines if line.backward]
        self.lists = _argument_lists(layout.arguments)
        self.finder = _Finder(self.forward, self.lists)
        self.runs = self.finder.runs()
        self.place = self.finder.place
        self.gradient: dict[str, Place] = {}  # of names of the backward pass
        self.sums: dict[str, Line] = {}  # gradients that loops add up
        self.rest: dict[str, list[ast.expr]] = {}  # the terms of a line outside of the loops
        self.used_lists: dict[tuple[str, str], ArgumentList] = {}

    def roll(self) -> Layout | None:
        """The layout with loops, or None if there are none."""
        while self.runs:
            try:
                return self._rolled()
            except _DoesNotFit as error:
                worst = error.args[0] if error.args and error.args[0] in self.runs else None
                if worst is None:
                    return None
                self._drop(worst)
        return None

    def _drop(self, run: Run) -> None:
        self.runs = [one for one in self.runs if one is not run]
        self.place = {name: place for name, place in self.place.items() if place.run is not run}
        reads = {
            spec.key[0] for one in self.runs for tree in one.templates for spec in _specs(tree)
            if spec.kind == "other"
        }  # fmt: skip
        if run in reads:
            self.runs = []
        self.finder.place = self.place
        self.gradient, self.sums, self.rest = {}, {}, {}
        for one in self.runs:
            one.backward, one.saved, one.names = None, set(), {}

    def _rolled(self) -> Layout:
        for _, text, _ in self.layout.checks:
            if names_in(ast.parse(text, mode="eval")) & self.place.keys():
                raise _DoesNotFit
        self._assign()
        for run in self.runs:
            self._templates_of(run)
        return _Writer(self).layout()

    # -- which line belongs to which round -----------------------------------------------------------

    def _assign(self) -> None:
        for run in self.runs:
            run.backward = Back()
        order: Counter[tuple[Run, str, int]] = Counter()
        for line in self.backward:
            terms = terms_of(line.value)
            variable = line.derivative_of
            homes = {
                (place.run, place.t)
                for name in names_in(line.value)
                if (place := self.gradient.get(name)) is not None
            }
            runs = list(dict.fromkeys([run for run, _ in homes]))
            place = None if variable is None else self.place.get(variable)
            if place is not None and not self._is_there(place):
                self._put(line, place.run, ("of", place.line), place.t)
            elif variable is None or place is not None:
                home = self._round_of(line, homes)
                if home is not None:
                    skeleton = _skeleton(line.value)
                    order[home[0], skeleton, home[1]] += 1
                    key = ("value", skeleton, order[home[0], skeleton, home[1]])
                    self._put(line, home[0], key, home[1])
            elif len(homes) == 1 and (pattern := self._item_of(variable, *next(iter(homes)))):
                self._put(line, runs[0], ("item", pattern), next(iter(homes))[1])
            elif any(sum(one is run for one, _ in homes) >= ROUNDS for run in runs):
                self._add_up(line, terms)
        self._check_values()

    def _is_there(self, place: Place) -> bool:
        """Whether the gradient of a value is known: what was computed twice is one, and has two."""
        assert place.run.backward is not None
        group = place.run.backward.groups.get(("of", place.line))
        return group is not None and place.t in group.lines

    def _put(self, line: Line, run: Run, key: tuple[Any, ...], t: int) -> None:
        assert run.backward is not None
        group = run.backward.groups.setdefault(key, Group(key))
        if t in group.lines:
            raise _DoesNotFit(run)
        group.lines[t] = line
        self.gradient[line.target] = Place(run, key, t)

    def _round_of(self, line: Line, homes: set[tuple[Run, int]]) -> tuple[Run, int] | None:
        """The round of a value that is no gradient: that of the gradients it is made of."""
        if not homes:
            homes = {
                (place.run, place.t) for name in names_in(line.value)
                if (place := self.place.get(name)) is not None
            }  # fmt: skip
            if len(homes) > 1 and len({run for run, _ in homes}) == 1:
                return max(homes, key=lambda home: home[1])
        return next(iter(homes)) if len(homes) == 1 else None

    def _item_of(self, variable: str, run: Run, t: int) -> tuple[str, str] | None:
        """The list of arguments that a variable is the item of which round ``t`` reads."""
        for tree in run.templates:
            for spec in _specs(tree):
                if spec.kind == "item" and (spec.key, spec.at(t)) in self.finder.item.get(variable, ()):
                    return spec.key  # type: ignore[no-any-return]
        return None

    def _add_up(self, line: Line, terms: list[ast.expr]) -> None:
        if line.derivative_of is None or line.derivative_of in self.place:
            raise _DoesNotFit
        self.sums[line.target] = line

    def _check_values(self) -> None:
        """Values that are not there in each round are no part of the loop."""
        for run in self.runs:
            assert run.backward is not None
            for key, group in list(run.backward.groups.items()):
                if key[0] == "value" and len(group.lines) < run.count - 1:
                    del run.backward.groups[key]
                    for line in group.lines.values():
                        del self.gradient[line.target]

    # -- templates -----------------------------------------------------------------------------------

    def _home(self, tree: ast.expr, run: Run) -> int | None:
        rounds = [
            place.t for name in names_in(tree)
            if (place := self.gradient.get(name)) is not None and place.run is run
        ]  # fmt: skip
        if rounds and min(rounds) != max(rounds):
            raise _DoesNotFit(run)
        return rounds[0] if rounds else None

    def _templates_of(self, run: Run) -> None:
        back, last = run.backward, run.count - 1
        assert back is not None
        halves = {
            key: {t: self._split(line, run, t) for t, line in group.lines.items()}
            for key, group in back.groups.items()
        }
        for key, group in back.groups.items():
            self._learn(group, halves[key], run)
        for key, group in back.groups.items():
            for t, (own, later) in halves[key].items():
                seed = self._without(own, group.own, run, t)
                if seed is None or (seed and (t != last or not group.carried)):
                    raise _DoesNotFit(run)
                group.seed = seed if t == last else group.seed
                if t < last and self._without(later, group.carried, run, t + 1) != []:
                    raise _DoesNotFit(run)
        for name, line in self.sums.items():
            parts: dict[int, list[ast.expr]] = defaultdict(list)
            terms = self.rest.setdefault(name, terms_of(line.value))
            for tree in terms:
                home = self._home(tree, run)
                if home is not None:
                    parts[home].append(tree)
            if not parts:
                continue
            if sorted(parts) != list(range(run.count)):
                raise _DoesNotFit(run)
            back.added[name] = self._common([parts[1], parts[2]], [1, 2], run)
            for t, mine_now in parts.items():
                if self._without(mine_now, back.added[name], run, t) != []:
                    raise _DoesNotFit(run)
            mine = {id(tree) for one in parts.values() for tree in one}
            self.rest[name] = [tree for tree in terms if id(tree) not in mine]

    def _learn(
        self, group: Group, halves: Mapping[int, tuple[list[ast.expr], list[ast.expr]]], run: Run
    ) -> None:
        """The templates of a group, from two rounds."""
        last = run.count - 1
        if any(t not in halves for t in range(1, last)):
            raise _DoesNotFit(run)
        pair = (1, 2) if last > 2 else (1, 0)
        if any(t not in halves for t in pair):
            raise _DoesNotFit(run)
        pairs = [one for one in ((1, 2), (1, 0)) if one[1] in halves]
        group.own = max(
            [self._common([halves[t][0] for t in one], one, run) for one in pairs], key=len
        )
        if any(halves[t][1] for t in range(last) if t in halves):
            if group.key[0] != "of":
                raise _DoesNotFit(run)
            later = [t + 1 for t in pair]
            group.carried = self._common([halves[t][1] for t in pair], later, run)
        if last not in halves:
            # What the last round's gradient would be has another name already.
            match group.own:
                case [Open() as alone] if group.carried and alone.spec.kind == "gradient":
                    group.other_name = alone.spec.key
                case _:
                    raise _DoesNotFit(run)

    def _split(self, line: Line, run: Run, t: int) -> tuple[list[ast.expr], list[ast.expr]]:
        """The terms of the line's own round (or of no round), and those of the round after it."""
        own, later = [], []
        for tree in terms_of(line.value):
            home = self._home(tree, run)
            if home not in (None, t, t + 1):
                raise _DoesNotFit(run)
            (later if home == t + 1 else own).append(tree)
        return own, later

    def _common(
        self, rounds: Sequence[list[ast.expr]], numbers: Sequence[int], run: Run
    ) -> list[ast.expr]:
        """The terms that two rounds share, as templates."""
        (t, u), (now, then) = numbers, rounds
        left = [(self._keys(tree, run, u), tree) for tree in then]
        found = []
        for tree in now:
            keys = self._keys(tree, run, t)
            partner = next((one for one in left if one[0] == keys), None)
            if partner is None:
                continue
            left.remove(partner)
            specs = iter([
                self._spec(a, b, run, t, u) for a, b in zip(_places(tree), _places(partner[1]))
            ])  # fmt: skip
            found.append(_with_places(tree, lambda _, specs=specs: Open(next(specs))))
        return found

    def _keys(self, tree: ast.expr, run: Run, t: int) -> tuple[Any, ...]:
        """What a term has in common with that of another round."""
        return _skeleton(tree), *[self._key(place, run, t) for place in _places(tree)]

    def _key(self, place: Any, run: Run, t: int) -> Any:
        if isinstance(place, int | float):
            return type(place)
        for kind, known in (("gradient", self.gradient), ("own", self.place)):
            found = known.get(place)
            if found is not None and found.run is run:
                return kind, found.line, found.t - t
            if found is not None:
                return kind, id(found.run), found.line
        items = self.finder.item.get(place)
        return ("item", tuple([pattern for pattern, _ in items])) if items else place

    def _spec(self, now: Any, then: Any, run: Run, t: int, u: int) -> Spec:
        def line(a: int, b: int) -> tuple[int, int]:
            slope, rest = divmod(a - b, t - u)
            if rest:
                raise _DoesNotFit(run)
            return slope, a - slope * t

        if isinstance(now, float | int) and now == then:
            return Spec("constant", now)
        if isinstance(now, float):
            return _power(now, then, t, t - u) if t > u else _power(then, now, u, u - t)
        if isinstance(now, int):
            return Spec("number", None, *line(now, then))
        for kind, known in (("gradient", self.gradient), ("own", self.place)):
            a = known.get(now)
            if a is not None and a.run is run:
                return Spec(kind, a.line, 1, a.t - t)
            if a is not None:
                other = "other" if kind == "own" else "other gradient"
                return Spec(other, (a.run, a.line), *line(a.t, known[then].t))
        if now == then:
            return Spec("name", now)
        for pattern, i in self.finder.item.get(now, ()):
            for other, k in self.finder.item.get(then, ()):
                if pattern == other:
                    return Spec("item", pattern, *line(i, k))
        raise _DoesNotFit(run)

    def _without(
        self, terms: Sequence[ast.expr], templates: Sequence[ast.expr], run: Run, t: int
    ) -> list[ast.expr] | None:
        """The terms that no template gives in round ``t``; None if a template gives another one."""
        left = {id(tree): _text(tree) for tree in terms}
        for template in templates:
            wanted = self.recorded(template, run, t)
            found = next((one for one, text in left.items() if text == wanted), None)
            if wanted is None or found is None:
                return None
            del left[found]
        return [tree for tree in terms if id(tree) in left]

    def recorded(self, template: ast.expr, run: Run, t: int) -> str | None:
        """A template as it was recorded in round ``t``; None if there is no such round."""
        missing = False

        def fill(spec: Spec) -> ast.expr:
            nonlocal missing
            n = spec.at(t)
            found: ast.expr | None
            if spec.kind == "gradient":
                assert run.backward is not None
                group = run.backward.groups[spec.key]
                if group.other_name is not None and n == run.count - 1:
                    group = run.backward.groups[group.other_name]
                line = group.lines.get(n)
                found = None if line is None else ast.Name(line.target)
            elif spec.kind == "other gradient":
                other, key = spec.key
                line = other.backward.groups[key].lines.get(n)
                found = None if line is None else ast.Name(line.target)
            else:
                found = self.finder.recorded(run, spec, t)
            missing |= found is None
            return found or ast.Name("_")

        tree = _closed(template, fill)
        return None if missing else _text(tree)


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------


class _Writer:
    """Writes the loops that a roller has found."""

    def __init__(self, roller: _Roller) -> None:
        self.roller, self.old = roller, roller.layout
        self.place, self.gradient = roller.place, roller.gradient
        self.outside = [
            line for line in self.old.lines
            if line.target not in self.place and line.target not in self.gradient
        ]  # fmt: skip
        self.made: dict[str, Line] = {}
        self.shapes = dict(self.old.shapes)
        self.lengths: dict[str, int] = {}
        self.letters: dict[str, str] = {}
        self.added_to: set[str] = set()
        self.owned: dict[tuple[int, int], Line] = {}

    def layout(self) -> Layout:
        self._lists()
        self._saved()
        self._names()
        self.items = self._item_gradients()
        before = self._forward()
        after = self._backward()
        body = self._shortened([*before, *after])
        gradients = [
            {key: ast.unparse(self._outer(ast.Name(name))) for key, name in one.items()}
            for one in self.old.gradients
        ]
        outputs = [ast.unparse(self._outer(ast.parse(text, mode="eval").body)) for text in self.old.outputs]
        return replace(
            self.old,
            body=body,
            recorded=self.old.lines,
            lines=[line for one in body for line in (one.lines if isinstance(one, Loop) else [one])],
            arguments=self._arguments(),
            lists={one.name: one for one in self.roller.used_lists.values()},
            gradients=gradients,
            outputs=outputs,
            shapes=self.shapes,
            lengths=self.lengths,
            rounds=self._rounds(),
            results=self.old.gradients,
            derivatives=self._derivatives(),
            on_paper=self.letters,
        )

    # -- names ---------------------------------------------------------------------------------------

    def _lists(self) -> None:
        """The lists of arguments that loops read."""
        used = self.roller.used_lists
        for run in self.roller.runs:
            for tree in [*run.templates, *_backward_trees(run)]:
                for spec in _specs(tree):
                    if spec.kind == "item":
                        used[spec.key] = self.roller.lists[spec.key]
        names = Counter([name for one in used.values() for name in one.arguments])
        if any(n > 1 for n in names.values()):
            raise _DoesNotFit

    def _arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lists = {name: one for one in self.roller.used_lists.values() for name in one.arguments}
        for name, step in self.old.arguments.items():
            if name in lists:
                one = lists[name]
                found[one.name] = [self.old.arguments[name] for name in one.arguments]
            else:
                found[name] = step
        return found

    def _saved(self) -> None:
        """Which lines' values are kept in a list: those that are read when their round is over."""
        final: dict[tuple[Run, int], bool] = {}
        for run in self.roller.runs:
            back = run.backward
            assert back is not None
            for tree in _backward_trees(run):
                for spec in _specs(tree):
                    self._save(run, spec)
            for m, tree in enumerate(run.templates):
                for spec in _specs(tree):
                    late = spec.kind == "own" and (
                        spec.start < -1 or (spec.start == -1 and spec.key < m)
                    )
                    if late or spec.kind == "other":
                        self._save(run, spec)
            for group in back.groups.values():
                if group.carried and not group.seed and run.rounds[0][group.key[1]].step.shape:
                    run.saved.add(group.key[1])
                for tree in group.seed:
                    self._read(tree, final)
                group.saved |= group.key[0] == "item"
        for line in self.outside:
            for tree in self.roller.rest.get(line.target, [line.value]):
                self._read(tree, final)
        for text in self.old.outputs:
            self._read(ast.parse(text, mode="eval").body, final)

    def _save(self, run: Run, spec: Spec) -> None:
        if spec.kind == "own":
            run.saved.add(spec.key)
        elif spec.kind == "other":
            spec.key[0].saved.add(spec.key[1])
        elif spec.kind == "other gradient":
            spec.key[0].backward.groups[spec.key[1]].saved = True

    def _read(self, tree: ast.expr, final: dict[tuple[Run, int], bool]) -> None:
        """A line outside reads values of loops: the last round's variable stays, others are saved."""
        for name in names_in(tree):
            place = self.place.get(name)
            if place is not None and place.t != place.run.count - 1:
                place.run.saved.add(place.line)

    def _names(self) -> None:
        roller = self.roller
        listed = {name for one in roller.used_lists.values() for name in one.arguments}
        taken = {
            *RESERVED, *[name for name in self.old.arguments if name not in listed],
            *[line.target for line in self.outside], *(self.old.rows or ())[:1],
        }  # fmt: skip

        def give(*wishes: str, again: bool = False) -> str:
            """The first name that is free; ``again`` allows the first one in any case."""
            name = next((one for one in wishes if again or one not in taken), None)
            n = 1
            while name is None:
                n += 1
                name = f"{wishes[0]}_{n}" if f"{wishes[0]}_{n}" not in taken else None
            taken.add(name)
            return name

        for one in roller.used_lists.values():
            base = identifier(".".join(part for part in one.pattern if part))
            one.name = give(base, f"{base}s")
            self.lengths[one.name] = len(one.arguments)
        finals = {
            ast.unparse(value): (run, m) for run in roller.runs
            for m, values in run.initial.items() for n, value in values.items() if n == -1
        }  # fmt: skip
        for run in roller.runs:
            items = any(spec.kind == "item" for tree in run.templates for spec in _specs(tree))
            bases = self._bases(run)
            for m, base in bases.items():
                several = f"{base}s" if base in self.old.arguments else f"{base}_2"
                again = self._free_again(base, run, m)
                run.names[m] = give(base, several, f"{base}_2", again=again)
                if run.names[m] == f"{base}s":
                    self.letters[run.names[m]] = base
                if m in run.saved:
                    self.lengths[run.names[m]] = run.count + run.offset(m)
            run.counter = give(*COUNTERS["list" if items else "time"])
            taken.discard(run.counter)
            assert run.backward is not None
            for key, group in run.backward.groups.items():
                if key[0] == "of":
                    base = f"d{self.letters.get(run.names[key[1]], run.names[key[1]])}"
                    ends = [
                        line.target for line in self.outside
                        if line.target == base and finals.get(line.derivative_of or "") == (run, key[1])
                    ]  # fmt: skip
                    if ends and group.carried:
                        group.name = base
                        continue
                    group.name = give(base, f"{base}_", again=self._free_for(base, run))
                elif key[0] == "item":
                    filled = roller.used_lists[key[1]]
                    filled.gradient = filled.gradient or give(f"d{filled.name}")
                    group.name = filled.gradient
                else:
                    group.name = give("v", "u", "s", "r", "q")
                if group.saved:
                    whole = key[0] == "item" and len(roller.used_lists[key[1]].arguments)
                    self.lengths[group.name] = whole or run.count
        counters = {run.counter for run in roller.runs}
        if counters & taken:
            raise _DoesNotFit
        self.taken = taken | counters | {line.target for line in self.old.lines}

    def _readers(self, name: str) -> list[Any]:
        """What reads a name that no loop computes: lines outside, and loops."""
        found: list[Any] = []
        for line in self.outside:
            trees = self.roller.rest.get(line.target, [line.value])
            if any(name in names_in(tree) for tree in trees):
                found.append(line)
            if line.target in self.roller.sums and line.derivative_of == name:
                found.append(line)
        for run in self.roller.runs:
            assert run.backward is not None
            groups = run.backward.groups.values()
            trees = [*run.templates, *_backward_trees(run)]
            firsts = [tree for values in run.initial.values() for tree in values.values()]
            seeds = [tree for one in groups for tree in one.seed]
            found += [run] * any(Spec("name", name) in _specs(tree) for tree in trees)
            found += [(run, "first")] * sum(name in names_in(tree) for tree in firsts)
            found += [(run, "seed")] * any(name in names_in(tree) for tree in seeds)
        texts = [*self.old.outputs, *[text for _, text, _ in self.old.checks]]
        texts += [target for one in self.old.gradients for target in one.values()]
        found += [text for text in texts if name in names_in(ast.parse(text, mode="eval"))]
        return found + ["rows"] * (name in (self.old.rows or ()))

    def _free_again(self, base: str, run: Run, m: int) -> bool:
        """Whether a variable of a forward loop may have a name that is taken: that of the argument
        it starts from, or of a line after the loop."""
        if m in run.saved:
            return False
        if run.initial.get(m):
            start = run.initial[m][-1]
            mine = isinstance(start, ast.Name) and start.id == base
            return mine and self._readers(base) == [(run, "first")]
        line = next((one for one in self.outside if one.target == base and not one.backward), None)
        if line is None:
            return False
        last = run.rounds[-1][m].target
        later = self.old.lines.index(line) > self.old.lines.index(run.rounds[-1][-1])
        return later and not self._readers(last)

    def _free_for(self, base: str, run: Run) -> bool:
        """Whether a variable of a backward loop may have the name of a line that only starts it."""
        line = next((one for one in self.outside if one.target == base), None)
        return line is not None and self._readers(base) == [(run, "seed")]

    @staticmethod
    def _bases(run: Run) -> dict[int, str]:
        """What the lines of a run are called but for the number of the round."""
        found: dict[int, str] = {}
        # The user's names first; an unnamed value must not take one of them.
        for m in sorted(range(run.period), key=lambda m: run.rounds[1][m].step.name is None):
            line = run.rounds[1][m]
            base = identifier(line.step.name) if line.step.name else line.target
            base = re.sub(r"(_?\d+)+$", "", base) or "v"
            more = [base + "_" * n for n in range(1, run.period + 1)]
            letters = (base, "u", "s", "r", "q", *more)
            found[m] = next(one for one in letters if one not in found.values())
        return found

    def _derivatives(self) -> dict[str, str]:
        found = {}
        for run in self.roller.runs:
            assert run.backward is not None
            for key, group in run.backward.groups.items():
                if key[0] == "of":
                    found[group.name] = self.letters.get(run.names[key[1]], run.names[key[1]])
        return found

    def _item_gradients(self) -> dict[str, ast.expr]:
        """Lines outside of loops that are the gradient of an item whose list a loop fills."""
        found: dict[str, ast.expr] = {}
        groups = {
            key[1]: group for run in self.roller.runs
            for key, group in run.backward.groups.items() if key[0] == "item"  # type: ignore[union-attr]
        }  # fmt: skip
        outside = {line.target for line in self.outside} - self.roller.sums.keys()
        known = {step.name or name: name for name, step in self.old.arguments.items()}
        for gradients in self.old.gradients:
            for key, target in gradients.items():
                for pattern, group in groups.items():
                    names = self.roller.used_lists[pattern].arguments
                    if target in outside and known.get(key) in names:
                        found[target] = _item(group.name, ast.Constant(names.index(known[key])))
        return found

    def _rounds(self) -> dict[str, Round]:
        """For each line as it was recorded, what it is with loops: ``h[2]`` for ``h2``."""
        found = {}
        for name, (run, m, t) in self.place.items():
            offset = run.offset(m)
            found[name] = Round(run.names[m], t + offset, offset, t == run.count - 1)
        for name, (run, key, t) in self.gradient.items():
            assert run.backward is not None
            group = run.backward.groups[key]
            offset = run.offset(key[1]) if key[0] == "of" else 0
            index = self._index(run, key, t) if key[0] == "item" else t + offset
            last = t == 0 and not group.carried and not group.saved
            found[name] = Round(group.name, index, offset, last)
        for name, place in self.items.items():
            found[name] = Round(ast.unparse(place.value), place.slice.value, 0, False)  # type: ignore[attr-defined]
        return found

    # -- expressions ---------------------------------------------------------------------------------

    def _index(self, run: Run, key: tuple[Any, ...], t: int) -> int:
        spec = self._item_spec(run, key[1])
        return spec.at(t)

    def _item_spec(self, run: Run, pattern: tuple[str, str]) -> Spec:
        found = {
            spec for tree in run.templates for spec in _specs(tree)
            if spec.kind == "item" and spec.key == pattern
        }  # fmt: skip
        if len(found) != 1:
            raise _DoesNotFit(run)
        return next(iter(found))

    def _inner(self, template: ast.expr, run: Run, handed: bool = False) -> ast.expr:
        """A template in round ``t``; of terms handed over, the round is that which computes them."""
        counter = run.counter

        def fill(spec: Spec) -> ast.expr:
            match spec.kind:
                case "name":
                    return self._name(spec.key)
                case "constant":
                    return ast.Constant(spec.key)
                case "power":
                    return spec.key.source(affine(1, spec.start, counter))  # type: ignore[no-any-return]
                case "number":
                    return affine(spec.slope, spec.start, counter)
                case "item":
                    return _item(
                        self.roller.used_lists[spec.key].name, affine(spec.slope, spec.start, counter)
                    )
                case "own":
                    name = run.names[spec.key]
                    if spec.key not in run.saved:
                        return ast.Name(name)
                    return _item(name, affine(1, spec.start + run.offset(spec.key), counter))
                case "other":
                    other, line = spec.key
                    start = spec.start + other.offset(line)
                    return _item(other.names[line], affine(spec.slope, start, counter))
                case "gradient":
                    assert run.backward is not None
                    return self._gradient(run.backward.groups[spec.key], run)
            other, key = spec.key
            group = other.backward.groups[key]
            return _item(group.name, affine(spec.slope, spec.start, counter))

        return signed(_closed(template, fill))

    def _gradient(self, group: Group, run: Run) -> ast.expr:
        """A gradient in its own round."""
        if group.key[0] == "item":
            spec = self._item_spec(run, group.key[1])
            return _item(group.name, affine(spec.slope, spec.start, run.counter))
        return _item(group.name, ast.Name(run.counter)) if group.saved else ast.Name(group.name)

    def _outer(self, tree: ast.expr) -> ast.expr:
        """A recorded expression outside of the loops, in the names that they give."""
        tree = self._listed(tree)

        def fill(place: Any) -> ast.expr:
            return self._name(place) if isinstance(place, str) else ast.Constant(place)

        return _with_places(tree, fill)  # type: ignore[no-any-return]

    def _name(self, name: str) -> ast.expr:
        if name in self.items:
            return self.items[name]
        for one in self.roller.used_lists.values():
            if name in one.arguments:
                return _item(one.name, ast.Constant(one.arguments.index(name)))
        if name in self.place:
            run, m, t = self.place[name]
            if m not in run.saved:
                return ast.Name(run.names[m])
            if t == run.count - 1:
                return _item(run.names[m], ast.UnaryOp(ast.USub(), ast.Constant(1)))
            return _item(run.names[m], ast.Constant(t + run.offset(m)))
        if name in self.gradient:
            run, key, t = self.gradient[name]
            assert run.backward is not None
            group = run.backward.groups[key]
            if not group.saved:
                raise _DoesNotFit(run)
            return _item(group.name, ast.Constant(self._index(run, key, t) if key[0] == "item" else t))
        return ast.Name(name)

    def _listed(self, tree: ast.expr) -> ast.expr:
        """Lists of the values of all rounds as the list that the loop has made."""
        writer = self

        class Lists(ast.NodeTransformer):
            def visit_List(self, node: ast.List) -> ast.expr:
                return writer._sliced(node) or self.generic_visit(node)

        return Lists().visit(deepcopy(tree))  # type: ignore[no-any-return]

    def _sliced(self, node: ast.List) -> ast.expr | None:
        """A list in which the values of rounds in a row are a slice of theirs."""
        parts: list[ast.expr] = []
        left = list(node.elts)
        while left:
            n = self._in_a_row(left)
            parts.append(ast.Starred(self._slice(left[0], n)) if n >= ROUNDS else left[0])
            del left[: n if n >= ROUNDS else 1]
        match parts:
            case [ast.Starred(whole)]:
                return whole
        return ast.List(parts) if any(isinstance(one, ast.Starred) for one in parts) else None

    def _in_a_row(self, items: Sequence[ast.expr]) -> int:
        """How many of the first items are values of one line in rounds that follow each other."""
        n = 0
        for one in items:
            place = self.place.get(one.id) if isinstance(one, ast.Name) else None
            if n == 0:
                first = place
            if place is None or first is None or place != first._replace(t=first.t + n):
                break
            n += 1
        return n

    def _slice(self, first: ast.expr, n: int) -> ast.expr:
        assert isinstance(first, ast.Name)
        run, m, t = self.place[first.id]
        run.saved.add(m)
        start, end = t + run.offset(m), t + run.offset(m) + n
        name = Final(run.names[m])
        if end == run.count + run.offset(m):
            return name if start == 0 else ast.Subscript(name, ast.Slice(ast.Constant(start)))
        return ast.Subscript(
            name, ast.Slice(ast.Constant(start) if start else None, ast.Constant(end))
        )

    # -- lines ---------------------------------------------------------------------------------------

    @staticmethod
    def _line(target: str, value: ast.expr, like: Line, **more: Any) -> Line:
        return replace(like, target=target, value=value, owner=None, **more)

    def _shortened(self, body: list[Line | Loop]) -> list[Line | Loop]:
        """Lines that are too long with their part in a line of its own before."""
        found: list[Line | Loop] = []
        for one in body:
            if isinstance(one, Loop):
                lines = self._in_parts(one.lines, 4)
                one.indexed |= {line.target: 0 for line in lines if line not in one.lines}
                one.lines[:] = lines
                found.append(one)
            else:
                found += self._in_parts([one], 0)
        return found

    def _in_parts(self, lines: Sequence[Line], indent: int) -> list[Line]:
        found: list[Line] = []
        for line in lines:
            while len(line.text) + indent > LONGEST_LINE:
                part = _longest_part(line.value)
                if part is None:
                    break
                name = next(one for one in _part_names() if one not in self.taken)
                self.taken.add(name)
                self.shapes[name] = line.step.shape
                first = self._line(
                    name, part, line, sign="=", form=ASSIGNED, place=None, same_shape=False,
                    summed=False, derivative_of=None,
                )  # fmt: skip
                first.owner = line.owner
                found.append(first)
                replaced = _replaced(line.value, _text(part), name)
                line.value = _with_places(replaced, _place)
            found.append(line)
        return found

    def _forward(self) -> list[Line | Loop]:
        body: list[Line | Loop] = []
        done: set[Run] = set()
        for old in self.roller.forward:
            place = self.place.get(old.target)
            if place is None:
                line = self._line(old.target, self._outer(old.value), old)
                self.made[old.target] = line
                body.append(line)
            elif place.run not in done:
                done.add(place.run)
                body += self._forward_loop(place.run)
        return body

    def _forward_loop(self, run: Run) -> list[Line | Loop]:
        body: list[Line | Loop] = []
        loop = Loop(run.counter, run.count, False)
        empty: list[tuple[str, Line]] = []
        for m in range(run.period):
            like, name = run.rounds[0][m], run.names[m]
            values = [run.initial[m][n] for n in sorted(run.initial.get(m, {}))]
            first = [self._outer(value) for value in values]
            self.shapes[name] = like.step.shape
            if m in run.saved and first:
                place = _item(name, ast.Constant(0)) if len(first) == 1 else None
                alike = all([self._shape_of(value) == like.step.shape for value in values])
                body.append(
                    self._line(name, ast.List(first), like, place=place, same_shape=alike)
                )
            elif m in run.saved:
                empty.append((name, like))
            elif first and ast.unparse(first[0]) != name:
                nothing = ast.unparse(first[0]) in ("0", "0.0")
                body.append(self._line(name, first[0], like, on_paper=not nothing))
            value = self._inner(run.templates[m], run)
            index = affine(1, run.offset(m), run.counter)
            line = self._line(
                name, value, like, form=APPENDED if m in run.saved else ASSIGNED, same_shape=self._same_shape(run, m),
                place=_item(name, index) if m in run.saved or not first else None,
            )  # fmt: skip
            if first and m not in run.saved and isinstance(values[0], ast.Constant):
                line = _added_up(line)
            if m not in run.saved and not first:
                loop.indexed[name] = 0
            self.owned[id(run), m] = line
            for t in range(run.count):
                self.made[run.rounds[t][m].target] = line
            loop.lines.append(line)
        if run.period == 1 and empty and not run.initial:
            (line,) = loop.lines
            rounds = ast.Call(ast.Name("range"), [ast.Constant(run.count)], [])
            each = ast.comprehension(ast.Name(run.counter), rounds, [], 0)
            return [replace(line, value=ast.ListComp(line.value, [each]), form=ASSIGNED, place=None)]
        if empty:
            names = ", ".join([name for name, _ in empty])
            lists = ast.Tuple([ast.List([]) for _ in empty]) if len(empty) > 1 else ast.List([])
            body.append(self._line(names, lists, empty[0][1], on_paper=False))
        return [*body, loop]

    def _same_shape(self, run: Run, m: int) -> bool:
        return len({line[m].step.shape for line in run.rounds}) == 1

    def _backward(self) -> list[Line | Loop]:
        """Lines and loops, each after what it reads."""
        units: dict[Any, list[Line]] = {}
        for line in self.roller.backward:
            place = self.gradient.get(line.target)
            if place is not None:
                units.setdefault(place.run, []).append(line)
            elif line.target not in self.roller.sums or self.roller.rest.get(line.target):
                units.setdefault(line.target, []).append(line)
        of: dict[str, list[Any]] = {}
        for name in self.roller.sums:
            of[name] = [run for run in self.roller.runs if name in run.backward.added]  # type: ignore[union-attr]
        for unit, lines in units.items():
            for line in lines:
                of.setdefault(line.target, []).append(unit)
        self.carries = {
            run: [group for group in run.backward.groups.values() if group.carried]  # type: ignore[union-attr]
            for run in self.roller.runs
        }
        done: dict[Any, None] = {}
        begun: set[Any] = set()
        body: list[Line | Loop] = []
        set_up: set[str] = set()
        lists_made: list[bool] = []

        def needs(unit: Any) -> Iterator[Any]:
            lines = units.get(unit, [])
            for line in lines:
                trees = self.roller.rest.get(line.target, [line.value]) if unit == line.target else [line.value]
                for tree in trees:
                    for name in names_in(tree):
                        yield from [one for one in of.get(name, ()) if one is not unit]
                if unit == line.target and line.target in self.roller.sums:
                    yield from [one for one in of[line.target] if one is not unit]
            if isinstance(unit, Run):
                for name in unit.backward.added:  # type: ignore[union-attr]
                    for tree in unit.backward.added[name]:  # type: ignore[union-attr]
                        for spec in _specs(tree):
                            if spec.kind == "name":
                                yield from [one for one in of.get(spec.key, ()) if one is not unit]
                            elif spec.kind == "other gradient":
                                yield spec.key[0]

        def visit(unit: Any) -> None:
            if unit in done:
                return
            if unit in begun:
                raise _DoesNotFit(unit if isinstance(unit, Run) else None)
            begun.add(unit)
            for one in needs(unit):
                visit(one)
            done[unit] = None
            if isinstance(unit, Run):
                body.extend(self._backward_loop(unit, set_up))
            else:
                line = self._outer_line(units[unit][0])
                if line.place is not None and not lists_made:
                    lists_made.append(True)
                    body.extend(self._empty_lists())
                body.append(line)

        for unit in units:
            visit(unit)
        if not lists_made:
            first = next((i for i, one in enumerate(body) if isinstance(one, Loop)), len(body))
            while first and isinstance(body[first - 1], Line) and body[first - 1].place is not None:  # seeds
                first -= 1
            body[first:first] = self._empty_lists()
        return [one for one in body if not (isinstance(one, Line) and one.target == one.expression)]

    def _outer_line(self, old: Line) -> Line:
        rest = self.roller.rest.get(old.target)
        if old.target in self.roller.sums:
            assert rest
            value = self._outer(_sum(rest))
            line = self._line(old.target, value, old, sign="+=")
        else:
            value = self._outer(self._with_handed(old))
            target = ast.unparse(self._name(old.target))
            line = self._line(target, value, old, place=self.items.get(old.target))
        line.owner = self.made.get(old.owner.target) if old.owner is not None else None
        self.made.setdefault(old.target, line)
        return line

    def _with_handed(self, old: Line) -> ast.expr:
        """A line after a loop, in which what round 0 hands over is the variable that holds it."""
        terms = terms_of(old.value)
        for run, groups in self.carries.items():
            for group in groups:
                wanted = [self.roller.recorded(tree, run, 0) for tree in group.carried]
                if None in wanted:
                    continue
                dumps = [_text(one) for one in terms]
                if not (Counter(wanted) - Counter(dumps)):
                    for text in wanted:
                        i = [_text(one) for one in terms].index(text or "")
                        del terms[i]
                    terms = [Final(group.name), *terms]
                elif len(wanted) == 1:
                    terms = [_replaced(one, wanted[0] or "", group.name) for one in terms]
        return _sum(terms)

    def _backward_loop(self, run: Run, set_up: set[str]) -> list[Line | Loop]:
        back = run.backward
        assert back is not None
        body: list[Line | Loop] = []
        loop = Loop(run.counter, run.count, True)
        groups = [group for group in back.groups.values()]
        for name in back.added:
            if name not in set_up:
                set_up.add(name)
                line = self.roller.sums[name]
                zeros = self._zeros(line.step, self._outer(ast.Name(line.derivative_of or "")))
                body.append(self._line(name, zeros, line, on_paper=False))
        for group in groups:
            like = group.lines[1]
            self.shapes[group.name] = like.step.shape
            if group.key[0] == "of":
                loop.indexed[group.name] = run.offset(group.key[1])
            elif not group.saved:
                loop.indexed[group.name] = 0
            if group.saved and group.carried:
                raise _DoesNotFit(run)
            if group.carried:
                m = group.key[1]
                self._may_be_made_up(group, run)
                value = (
                    self._outer(_sum(group.seed)) if group.seed
                    else self._zeros(like.step, self._name(run.rounds[-1][m].target))
                )  # fmt: skip
                place = _item(group.name, ast.Constant(run.count - 1 + run.offset(m)))
                line = self._line(group.name, value, like, place=place)
                if group.seed:
                    self._own(line, group.lines[run.count - 1])
                body.append(line)
        waiting = dict(back.added)
        seen: set[tuple[Any, ...]] = set()
        for group in sorted(groups, key=lambda one: self._rank(one, run)):
            if group.own:
                handed = [ast.Name(group.name)] * bool(group.carried)
                value = signed(_sum([*handed, *[self._inner(tree, run) for tree in group.own]]))
                loop.lines.append(self._group_line(group, run, value))
            seen.add(group.key)
            for name in [one for one in waiting if self._reads(waiting[one]) <= seen]:
                loop.lines += self._added(name, waiting.pop(name), run)
        if waiting:
            raise _DoesNotFit(run)
        loop.lines += self._handed_over(groups, run)
        for line in loop.lines:
            line.backward = True
        return [*body, loop]

    def _empty_lists(self) -> list[Line | Loop]:
        """Lists that the backward loops fill: ``dWs, dbs = [None] * 5, [None] * 5``."""
        found: dict[str, tuple[Group, int]] = {}
        for run in self.roller.runs:
            assert run.backward is not None
            for group in run.backward.groups.values():
                if group.saved:
                    found.setdefault(group.name, (group, self.lengths[group.name]))
        sizes = [
            ast.BinOp(ast.List([ast.Constant(None)]), ast.Mult(), ast.Constant(size))
            for _, size in found.values()
        ]
        like = [group.lines[1] for group, _ in found.values()]
        if not found:
            return []
        value = sizes[0] if len(sizes) == 1 else ast.Tuple(sizes)
        return [self._line(", ".join(found), value, like[0], on_paper=False)]

    def _zeros(self, step: Step, like: ast.expr) -> ast.expr:
        if step.shape == ():
            return ast.Constant(0.0)
        return ast.Call(ast.Attribute(ast.Name("np"), "zeros_like"), [like], [])

    def _rank(self, group: Group, run: Run) -> int:
        line = group.lines[1]
        return self.roller.backward.index(line)

    @staticmethod
    def _reads(trees: Iterable[ast.expr]) -> set[tuple[Any, ...]]:
        return {spec.key for tree in trees for spec in _specs(tree) if spec.kind == "gradient"}

    def _group_line(self, group: Group, run: Run, value: ast.expr) -> Line:
        like = group.lines[1]
        place = self._gradient(group, run)
        target = ast.unparse(place)
        if isinstance(place, ast.Name):
            place = _item(group.name, affine(1, loop_index(group, run), run.counter))
        shapes = {one.step.shape for one in group.lines.values()}
        line = self._line(target, value, like, place=place, same_shape=len(shapes) == 1)
        self._own(line, like)
        for old in group.lines.values():
            self.made[old.target] = line
        return line

    def _own(self, line: Line, like: Line) -> None:
        line.owner = self.made.get(like.owner.target) if like.owner is not None else None

    def _added(self, name: str, templates: Sequence[ast.expr], run: Run) -> list[Line]:
        """``dW += ...``, and for a part of an array ``dx[:, t] += ...``."""
        like = self.roller.sums[name]
        found = []
        for tree in templates:
            value = terms_of(self._inner(tree, run))[0]
            target: ast.expr = ast.Name(name)
            negative = _is_negative(value)
            value = _negative(value) if negative else value
            part = _scattered(value)
            form, place, sign = ASSIGNED, None, "-=" if negative else "+="
            if part is not None and _sets_once(part[1], run.counter):
                value, target = part[0], ast.Subscript(ast.Name(name), part[1])
            elif part is not None and not negative:
                value, place = part[0], ast.Subscript(ast.Name(name), part[1])
                form = f"np.add.at({{target}}, {_index_source(part[1])}, {{value}})"
            line = self._line(ast.unparse(target), value, like, sign=sign, form=form, place=place)
            alone = len(templates) == 1 and part is None and name not in self.added_to
            self.added_to.add(name)
            line.summed = alone
            owner = self._owner_in_round(tree, run) or (like.owner.target if like.owner else "")
            line.owner = self.made.get(owner)
            found.append(line)
        return found

    def _owner_in_round(self, tree: ast.expr, run: Run) -> str | None:
        """The forward line whose gradient a term of a sum reads."""
        for spec in _specs(tree):
            if spec.kind == "gradient" and spec.key[0] == "of":
                return run.rounds[0][spec.key[1]].target
        return None

    def _may_be_made_up(self, group: Group, run: Run) -> None:
        """In its last round a loop may compute what nobody needs: that must be possible."""
        assert run.backward is not None
        trees = list(group.carried)
        for one in run.backward.groups.values():
            trees += one.own if 0 not in one.lines else []
        for spec in [spec for tree in trees for spec in _specs(tree)]:
            n = spec.at(0)
            if spec.kind == "own" and n < 0:
                value = run.initial.get(spec.key, {}).get(n)
                if value is None or self._shape_of(value) != run.rounds[0][spec.key].step.shape:
                    raise _DoesNotFit(run)
            elif spec.kind == "other" and not 0 <= n < spec.key[0].count:
                raise _DoesNotFit(run)
            elif spec.kind in ("item", "number", "other gradient") and n < 0:
                raise _DoesNotFit(run)

    def _shape_of(self, tree: ast.expr) -> Any:
        match tree:
            case ast.Name(name):
                return self.old.shapes.get(name)
            case ast.Call(ast.Attribute(ast.Name("np"), "zeros" | "ones" | "full"), [shape, *_]):
                return ast.literal_eval(shape) if not names_in(shape) else None
        return None

    def _handed_over(self, groups: Sequence[Group], run: Run) -> list[Line]:
        """What the next round starts from, in an order in which nothing is read too late."""
        left = [group for group in groups if group.carried]
        found = []
        while left:
            free = [
                one for one in left
                if not any(one.key in self._reads(other.carried) for other in left if other is not one)
            ]  # fmt: skip
            if not free:
                raise _DoesNotFit(run)
            # The one that is read by no other that still has to be computed may be overwritten.
            group = free[0]
            left.remove(group)
            m = group.key[1]
            value = signed(_sum([self._inner(tree, run) for tree in group.carried]))
            if ast.unparse(value) == group.name:
                continue  # it stays what it is
            place = _item(group.name, affine(1, run.offset(m) - 1, run.counter))
            like = group.lines[0] if 0 in group.lines else group.lines[1]
            line = self._line(group.name, value, like, place=place)
            reads = [key for key in self._reads(group.carried) if key[0] == "of"]
            line.owner = self.made.get(run.rounds[0][reads[0][1]].target) if reads else None
            found.append(line)
        return found


def _backward_trees(run: Run) -> list[ast.expr]:
    """The templates of a backward loop."""
    assert run.backward is not None
    groups = run.backward.groups.values()
    found = [tree for group in groups for tree in [*group.own, *group.carried]]
    return found + [tree for added in run.backward.added.values() for tree in added]


def loop_index(group: Group, run: Run) -> int:
    """What to add to the counter for the index that a gradient has on paper."""
    return run.offset(group.key[1]) if group.key[0] == "of" else 0


def _part_names() -> Iterator[str]:
    yield "v"
    n = 1
    while True:
        n += 1
        yield f"v{n}"


def _longest_part(tree: ast.expr) -> ast.expr | None:
    """The longest part of an expression that still fits a line of its own."""
    parts: list[ast.expr] = []

    def visit(node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, ast.ListComp | ast.Slice) or name in ("slice", "func"):
                    continue
                if isinstance(one, ast.BinOp | ast.Call):
                    parts.append(one)
                if isinstance(one, ast.AST):
                    visit(one)

    visit(tree)
    lengths = [len(ast.unparse(one)) for one in parts]
    fitting = [n for n in lengths if SHORT < n <= WIDTH]
    return parts[lengths.index(max(fitting))] if fitting else None


def _added_up(line: Line) -> Line:
    """``loss = loss + x`` of a number as ``loss += x``."""
    match line.value:
        case ast.BinOp(ast.Name(name), ast.Add() | ast.Sub() as op, rest) if (
            name == line.target and line.step.shape == () and name not in names_in(rest)
        ):
            negative = isinstance(rest, ast.UnaryOp) and isinstance(rest.op, ast.USub)
            minus = isinstance(op, ast.Sub) is not negative
            value = _negative(rest) if negative else rest
            return replace(line, value=value, sign="-=" if minus else "+=")
    return line


def _replaced(tree: ast.expr, text: str, name: str) -> ast.expr:
    class Replacer(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            if isinstance(node, ast.BinOp | ast.Call) and _text(node) == text:
                return Final(name)
            return super().visit(node)

    return Replacer().visit(tree)  # type: ignore[no-any-return]


def _scattered(tree: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """``g`` and the index of ``scatter_add(g, index, shape)``."""
    match tree:
        case ast.Call(ast.Name("scatter_add"), [g, ast.Subscript(ast.Attribute(attr="s_"), index), _]):
            return g, index
        case ast.Call(ast.Name("scatter_add"), [g, index, _]):
            return g, index
    return None


def _index_source(index: ast.expr) -> str:
    has_slice = any(isinstance(one, ast.Slice) for one in ast.walk(index))
    return f"np.s_[{ast.unparse(index)}]" if has_slice else ast.unparse(index)


def _sets_once(index: ast.expr, counter: str) -> bool:
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    return all(_is_basic(part, counter) for part in parts)


def _is_basic(part: ast.expr, counter: str) -> bool:
    """Whether it is a slice or a number: an array may name an element twice."""
    if isinstance(part, ast.Constant):
        return part.value in (None, ...) or type(part.value) is int
    kinds = ast.Slice, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Name
    return isinstance(part, kinds) and names_in(part) <= {counter} and all(
        isinstance(one, (*kinds, ast.expr_context)) for one in ast.walk(part)
    )


def rolled(layout: Layout) -> Layout | None:
    """The layout with loops where lines repeat; None if that is not possible, or not shorter."""
    if len(layout.gradients) != 1:
        return None
    found = _Roller(layout).roll()
    if found is None:
        return None
    before, after = len(found.recorded), len(found.lines) + sum(isinstance(one, Loop) for one in found.body)
    return found if after <= SAVING * before else None
