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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from ..program import Program, Step
from .layout import (
    APPENDED,
    ASSIGNED,
    SHORT,
    WIDTH,
    Layout,
    Line,
    Loop,
    Planner,
    Round,
    identifier,
    names_in,
    signed,
)
from .rounds import Roller
from .runs import ROUNDS, Group, Run
from .templates import (
    DoesNotFit,
    Final,
    Spec,
    affine,
    closed,
    is_negative,
    item,
    negated,
    place_of,
    specs_in,
    terms_of,
    text_of,
    total,
    with_places,
)
from .texts import RESERVED

# A loop must save a quarter of the lines: three steps of a small recurrent network are as short
# without one.
SAVING = 0.75
LONGEST_LINE = 92
COUNTERS = {"time": ("t", "k", "i", "j", "n"), "list": ("i", "k", "j", "n", "t")}


class Writer:
    """Writes the loops that a roller has found."""

    def __init__(self, roller: Roller) -> None:
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
        outputs = [
            ast.unparse(self._outer(ast.parse(text, mode="eval").body)) for text in self.old.outputs
        ]
        return replace(
            self.old,
            body=body,
            recorded=self.old.lines,
            lines=[
                line for one in body for line in (one.lines if isinstance(one, Loop) else [one])
            ],
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
                for spec in specs_in(tree):
                    if spec.kind == "item":
                        used[spec.key] = self.roller.lists[spec.key]
        names = Counter([name for one in used.values() for name in one.arguments])
        if any(n > 1 for n in names.values()):
            raise DoesNotFit

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
        for run in self.roller.runs:
            back = run.backward
            assert back is not None
            for tree in _backward_trees(run):
                for spec in specs_in(tree):
                    self._save(run, spec)
            for m, tree in enumerate(run.templates):
                for spec in specs_in(tree):
                    late = spec.kind == "own" and (
                        spec.start < -1 or (spec.start == -1 and spec.key < m)
                    )
                    if late or spec.kind == "other":
                        self._save(run, spec)
            for values in run.initial.values():
                for tree in values.values():
                    self._read(tree)
            for group in back.groups.values():
                if group.carried and not group.seed and run.rounds[0][group.key[1]].step.shape:
                    run.saved.add(group.key[1])
                for tree in group.seed:
                    self._read(tree)
                group.saved |= group.key[0] == "item"
        for line in self.outside:
            for tree in self.roller.rest.get(line.target, [line.value]):
                self._read(tree)
        for text in self.old.outputs:
            self._read(ast.parse(text, mode="eval").body)

    def _save(self, run: Run, spec: Spec) -> None:
        if spec.kind == "own":
            run.saved.add(spec.key)
        elif spec.kind == "other":
            spec.key[0].saved.add(spec.key[1])
        elif spec.kind == "other gradient":
            spec.key[0].backward.groups[spec.key[1]].saved = True

    def _read(self, tree: ast.expr) -> None:
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
            items = any(spec.kind == "item" for tree in run.templates for spec in specs_in(tree))
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
            raise DoesNotFit
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
            found += [run] * any(Spec("name", name) in specs_in(tree) for tree in trees)
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

    def _item_gradients(self) -> dict[str, ast.Subscript]:
        """Lines outside of loops that are the gradient of an item whose list a loop fills."""
        found: dict[str, ast.Subscript] = {}
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
                        found[target] = item(group.name, ast.Constant(names.index(known[key])))
        return found

    def _rounds(self) -> dict[str, Round]:
        """For each line as it was recorded, what it is with loops: ``h[2]`` for ``h2``."""
        found = {}
        for name, (run, m, t) in self.place.items():
            offset = run.offset(m)
            length, last = run.count + offset, t == run.count - 1
            found[name] = Round(run.names[m], t + offset, offset, length, last)
        for name, (run, key, t) in self.gradient.items():
            assert run.backward is not None
            group = run.backward.groups[key]
            offset = run.offset(key[1]) if key[0] == "of" else 0
            index = self._index(run, key, t) if key[0] == "item" else t + offset
            last = t == 0 and not group.carried and not group.saved
            found[name] = Round(group.name, index, offset, run.count + offset, last)
        for name, place in self.items.items():
            place_name, number = ast.unparse(place.value), ast.literal_eval(place.slice)
            found[name] = Round(place_name, number, 0, self.lengths[place_name], False)
        return found

    # -- expressions ---------------------------------------------------------------------------------

    def _index(self, run: Run, key: tuple[Any, ...], t: int) -> int:
        spec = self._item_spec(run, key[1])
        return spec.at(t)

    def _item_spec(self, run: Run, pattern: tuple[str, str]) -> Spec:
        found = {
            spec for tree in run.templates for spec in specs_in(tree)
            if spec.kind == "item" and spec.key == pattern
        }  # fmt: skip
        if len(found) != 1:
            raise DoesNotFit(run)
        return next(iter(found))

    def _inner(self, template: ast.expr, run: Run) -> ast.expr:
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
                    return item(
                        self.roller.used_lists[spec.key].name,
                        affine(spec.slope, spec.start, counter),
                    )
                case "own":
                    name = run.names[spec.key]
                    if spec.key not in run.saved:
                        return ast.Name(name)
                    return item(name, affine(1, spec.start + run.offset(spec.key), counter))
                case "other":
                    other, line = spec.key
                    start = spec.start + other.offset(line)
                    return item(other.names[line], affine(spec.slope, start, counter))
                case "gradient":
                    assert run.backward is not None
                    return self._gradient(run.backward.groups[spec.key], run)
            other, key = spec.key
            group = other.backward.groups[key]
            return item(group.name, affine(spec.slope, spec.start, counter))

        return signed(closed(template, fill))

    def _gradient(self, group: Group, run: Run) -> ast.expr:
        """A gradient in its own round."""
        if group.key[0] == "item":
            spec = self._item_spec(run, group.key[1])
            return item(group.name, affine(spec.slope, spec.start, run.counter))
        return item(group.name, ast.Name(run.counter)) if group.saved else ast.Name(group.name)

    def _outer(self, tree: ast.expr) -> ast.expr:
        """A recorded expression outside of the loops, in the names that they give."""
        tree = self._listed(tree)

        def fill(place: Any) -> ast.expr:
            return self._name(place) if isinstance(place, str) else ast.Constant(place)

        return with_places(tree, fill)  # type: ignore[no-any-return]

    def _name(self, name: str) -> ast.expr:
        if name in self.items:
            return self.items[name]
        for one in self.roller.used_lists.values():
            if name in one.arguments:
                return item(one.name, ast.Constant(one.arguments.index(name)))
        if name in self.place:
            run, m, t = self.place[name]
            if m not in run.saved:
                return ast.Name(run.names[m])
            if t == run.count - 1:
                return item(run.names[m], ast.UnaryOp(ast.USub(), ast.Constant(1)))
            return item(run.names[m], ast.Constant(t + run.offset(m)))
        if name in self.gradient:
            run, key, t = self.gradient[name]
            assert run.backward is not None
            group = run.backward.groups[key]
            if not group.saved:
                raise DoesNotFit(run)
            return item(
                group.name, ast.Constant(self._index(run, key, t) if key[0] == "item" else t)
            )
        return ast.Name(name)

    def _listed(self, tree: ast.expr) -> ast.expr:
        """Lists of the values of all rounds as the list that the loop has made."""
        writer = self

        class Lists(ast.NodeTransformer):
            def visit_List(self, node: ast.List) -> ast.AST:
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
                replaced = _replaced(line.value, text_of(part), name)
                line.value = with_places(replaced, place_of)
            found.append(line)
        return found

    def _forward(self) -> list[Line | Loop]:
        body: list[Line | Loop] = []
        done: set[Run] = set()
        for old in self.roller.forward:
            place = self.place.get(old.target)
            if place is None:
                line = self._line(old.target, self._outer(_not_from_zero(old.value)), old)
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
                place = item(name, ast.Constant(0)) if len(first) == 1 else None
                alike = all([self._shape_of(value) == like.step.shape for value in values])
                body.append(self._line(name, ast.List(first), like, place=place, same_shape=alike))
            elif m in run.saved:
                empty.append((name, like))
            elif first and ast.unparse(first[0]) != name:
                nothing = ast.unparse(first[0]) in ("0", "0.0")
                body.append(self._line(name, first[0], like, on_paper=not nothing))
            value = self._inner(run.templates[m], run)
            index = affine(1, run.offset(m), run.counter)
            line = self._line(
                name, value, like, same_shape=self._same_shape(run, m),
                form=APPENDED if m in run.saved else ASSIGNED,
                place=item(name, index) if m in run.saved or not first else None,
            )  # fmt: skip
            if first and m not in run.saved and isinstance(values[0], ast.Constant):
                line = _added_up(line)
            if m not in run.saved and not first:
                loop.indexed[name] = 0
            for t in range(run.count):
                self.made[run.rounds[t][m].target] = line
            loop.lines.append(line)
        if run.period == 1 and empty and not run.initial:
            (line,) = loop.lines
            rounds = ast.Call(ast.Name("range"), [ast.Constant(run.count)], [])
            each = ast.comprehension(ast.Name(run.counter), rounds, [], 0)
            return [
                replace(line, value=ast.ListComp(line.value, [each]), form=ASSIGNED, place=None)
            ]
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
                trees = (
                    self.roller.rest.get(line.target, [line.value])
                    if unit == line.target
                    else [line.value]
                )
                for tree in trees:
                    for name in names_in(tree):
                        yield from [one for one in of.get(name, ()) if one is not unit]
                if unit == line.target and line.target in self.roller.sums:
                    yield from [one for one in of[line.target] if one is not unit]
            if isinstance(unit, Run):
                for name in unit.backward.added:  # type: ignore[union-attr]
                    for tree in unit.backward.added[name]:  # type: ignore[union-attr]
                        for spec in specs_in(tree):
                            if spec.kind == "name":
                                yield from [one for one in of.get(spec.key, ()) if one is not unit]
                            elif spec.kind == "other gradient":
                                yield spec.key[0]

        def visit(unit: Any) -> None:
            if unit in done:
                return
            if unit in begun:
                raise DoesNotFit(unit if isinstance(unit, Run) else None)
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
            while (
                first and isinstance(before := body[first - 1], Line) and before.place is not None
            ):
                first -= 1  # what the loop starts from stays next to it
            body[first:first] = self._empty_lists()
        return [one for one in body if not (isinstance(one, Line) and one.target == one.expression)]

    def _outer_line(self, old: Line) -> Line:
        rest = self.roller.rest.get(old.target)
        if old.target in self.roller.sums:
            assert rest
            value = self._outer(total(rest))
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
                found = [self.roller.recorded(tree, run, 0) for tree in group.carried]
                wanted = [text_of(tree) for tree in found if tree is not None]
                if len(wanted) < len(found):
                    continue
                dumps = [text_of(one) for one in terms]
                if not (Counter(wanted) - Counter(dumps)):
                    for text in wanted:
                        i = [text_of(one) for one in terms].index(text or "")
                        del terms[i]
                    terms = [Final(group.name), *terms]
                elif len(wanted) == 1:
                    terms = [_replaced(one, wanted[0] or "", group.name) for one in terms]
        return total(terms)

    def _backward_loop(self, run: Run, set_up: set[str]) -> list[Line | Loop]:
        back = run.backward
        assert back is not None
        body: list[Line | Loop] = []
        loop = Loop(run.counter, run.count, True)
        groups = list(back.groups.values())
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
                raise DoesNotFit(run)
            if group.carried:
                m = group.key[1]
                self._may_be_made_up(group, run)
                value = (
                    self._outer(total(group.seed)) if group.seed
                    else self._zeros(like.step, self._name(run.rounds[-1][m].target), group.ones)
                )  # fmt: skip
                place = item(group.name, ast.Constant(run.count - 1 + run.offset(m)))
                line = self._line(group.name, value, like, place=place)
                if group.seed:
                    self._own(line, group.lines[run.count - 1])
                body.append(line)
        waiting = dict(back.added)
        seen: set[tuple[Any, ...]] = set()
        for group in sorted(groups, key=lambda one: self._rank(one, run)):
            if group.own:
                handed = [ast.Name(group.name)] * bool(group.carried)
                value = signed(total([*handed, *[self._inner(tree, run) for tree in group.own]]))
                loop.lines.append(self._group_line(group, run, value))
            seen.add(group.key)
            for name in [one for one in waiting if self._reads(waiting[one]) <= seen]:
                loop.lines += self._added(name, waiting.pop(name), run)
        if waiting:
            raise DoesNotFit(run)
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
        sizes: list[ast.expr] = [
            ast.BinOp(ast.List([ast.Constant(None)]), ast.Mult(), ast.Constant(size))
            for _, size in found.values()
        ]
        like = [group.lines[1] for group, _ in found.values()]
        if not found:
            return []
        value = sizes[0] if len(sizes) == 1 else ast.Tuple(sizes)
        together = self._line(", ".join(found), value, like[0], on_paper=False)
        if len(together.text) <= LONGEST_LINE:
            return [together]
        lines = zip(found, sizes, like)
        return [self._line(name, size, one, on_paper=False) for name, size, one in lines]

    def _zeros(self, step: Step, like: ast.expr, ones: bool = False) -> ast.expr:
        if step.shape == ():
            return ast.Constant(1.0 if ones else 0.0)
        return ast.Call(
            ast.Attribute(ast.Name("np"), "ones_like" if ones else "zeros_like"), [like], []
        )

    def _rank(self, group: Group, run: Run) -> int:
        line = group.lines[1]
        return self.roller.backward.index(line)

    @staticmethod
    def _reads(trees: Iterable[ast.expr]) -> set[tuple[Any, ...]]:
        return {spec.key for tree in trees for spec in specs_in(tree) if spec.kind == "gradient"}

    def _group_line(self, group: Group, run: Run, value: ast.expr) -> Line:
        like = group.lines[1]
        place = self._gradient(group, run)
        target = ast.unparse(place)
        if isinstance(place, ast.Name):
            place = item(group.name, affine(1, _offset(group, run), run.counter))
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
            negative = is_negative(value)
            value = negated(value) if negative else value
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
        for spec in specs_in(tree):
            if spec.kind == "gradient" and spec.key[0] == "of":
                line: Line = run.rounds[0][spec.key[1]]
                return line.target
        return None

    def _may_be_made_up(self, group: Group, run: Run) -> None:
        """In its last round a loop may compute what nobody needs: that must be possible."""
        assert run.backward is not None
        trees = list(group.carried)
        for one in run.backward.groups.values():
            trees += one.own if 0 not in one.lines else []
        for spec in [spec for tree in trees for spec in specs_in(tree)]:
            n = spec.at(0)
            if spec.kind == "own" and n < 0:
                value = run.initial.get(spec.key, {}).get(n)
                if value is None or self._shape_of(value) != run.rounds[0][spec.key].step.shape:
                    raise DoesNotFit(run)
            elif (spec.kind == "other" and not 0 <= n < spec.key[0].count) or (
                spec.kind in ("item", "number", "other gradient") and n < 0
            ):
                raise DoesNotFit(run)

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
                raise DoesNotFit(run)
            # The one that is read by no other that still has to be computed may be overwritten.
            group = free[0]
            left.remove(group)
            m = group.key[1]
            value = signed(total([self._inner(tree, run) for tree in group.carried]))
            if ast.unparse(value) == group.name:
                continue  # it stays what it is
            place = item(group.name, affine(1, run.offset(m) - 1, run.counter))
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


def _offset(group: Group, run: Run) -> int:
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


def _not_from_zero(tree: ast.expr) -> ast.expr:
    """A sum that starts from 0, which it had to while it was compared with others, without it."""
    match tree:
        case ast.BinOp(ast.Constant(0), ast.Add(), value):
            return value
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right):
            return ast.BinOp(_not_from_zero(left), op, right)
    return tree


def _added_up(line: Line) -> Line:
    """``loss = loss + x`` of a number as ``loss += x``."""
    match line.value:
        case ast.BinOp(ast.Name(name), ast.Add() | ast.Sub() as op, rest) if (
            name == line.target and line.step.shape == () and name not in names_in(rest)
        ):
            negative = isinstance(rest, ast.UnaryOp) and isinstance(rest.op, ast.USub)
            minus = isinstance(op, ast.Sub) is not negative
            value = negated(rest) if negative else rest
            return replace(line, value=value, sign="-=" if minus else "+=")
    return line


def _replaced(tree: ast.expr, text: str, name: str) -> ast.expr:
    class Replacer(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            if isinstance(node, ast.BinOp | ast.Call) and text_of(node) == text:
                return Final(name)
            return super().visit(node)

    return Replacer().visit(tree)  # type: ignore[no-any-return]


def _scattered(tree: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """``g`` and the index of ``scatter_add(g, index, shape)``."""
    match tree:
        case ast.Call(
            ast.Name("scatter_add"), [g, ast.Subscript(ast.Attribute(attr="s_"), index), _]
        ):
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
    return (
        isinstance(part, kinds)
        and names_in(part) <= {counter}
        and all(isinstance(one, (*kinds, ast.expr_context)) for one in ast.walk(part))
    )


def with_loops(program: Program) -> Layout | None:
    """The layout with loops where lines repeat; None if that is not possible, or not shorter."""
    if len(program.passes) != 1:
        return None
    for whole_gradients in (False, True):
        layout = Planner(program, whole_sums=True, whole_gradients=whole_gradients).plan()
        roller = Roller(layout)
        if not roller.runs:
            return None
        found = _rolled(roller)
        if found is not None:
            return found
    return None


def _rolled(roller: Roller) -> Layout | None:
    while roller.runs:
        try:
            roller.read()
            found = Writer(roller).layout()
        except DoesNotFit as error:
            roller.drop(error.args[0] if error.args else None)
            continue
        loops = sum([isinstance(one, Loop) for one in found.body])
        return found if len(found.lines) + loops <= SAVING * len(found.recorded) else None
    return None
