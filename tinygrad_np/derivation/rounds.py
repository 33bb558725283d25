"""Which round of a loop each line of the backward pass belongs to, and what the rounds share."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .layout import Layout, Line, names_in
from .runs import ROUNDS, ArgumentList, Back, Finder, Group, Place, Run, argument_lists
from .templates import (
    DoesNotFit,
    Open,
    Spec,
    closed,
    next_open,
    place_of,
    places,
    power,
    skeleton,
    specs_in,
    terms_of,
    text_of,
    with_places,
    without_ones,
)


class Roller:
    """Rolls one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.forward = [line for line in layout.lines if not line.backward]
        self.backward = [line for line in layout.lines if line.backward]
        self.lists = argument_lists(layout.arguments)
        self.finder = Finder(self.forward, self.lists)
        self.runs = self.finder.runs()
        self.place = self.finder.place
        self.unnamed = {line.target: line for line in self.forward if line.step.name is None}
        self.gradient: dict[str, Place] = {}  # of names of the backward pass
        self.sums: dict[str, Line] = {}  # gradients that loops add up
        self.rest: dict[str, list[ast.expr]] = {}  # the terms of a line outside of the loops
        self.used_lists: dict[tuple[str, str], ArgumentList] = {}

    def read(self) -> None:
        """Find out which line of the backward pass belongs to which round.

        Raises
        ------
        DoesNotFit
            With the run of which that cannot be told, if it is known.
        """
        self.gradient, self.sums, self.rest, self.used_lists = {}, {}, {}, {}
        for run in self.runs:
            run.backward, run.saved, run.names = Back(), set(), {}
        for _, text, _ in self.layout.checks:
            if names_in(ast.parse(text, mode="eval")) & self.place.keys():
                raise DoesNotFit
        self._assign()
        for run in self.runs:
            self._templates_of(run)

    def drop(self, run: Run | None) -> None:
        """Go on without a run, and without all if another one reads what it computes."""
        self.runs = [one for one in self.runs if one is not run and run is not None]
        for one in self.runs:
            if any(
                spec.kind == "other" and spec.key[0] is run
                for tree in one.templates for spec in specs_in(tree)
            ):  # fmt: skip
                self.runs = []
                break
        self.place = {name: place for name, place in self.place.items() if place.run in self.runs}
        self.finder.place = self.place

    # -- which line belongs to which round -----------------------------------------------------------

    def _assign(self) -> None:
        order: Counter[tuple[Run, str, int]] = Counter()
        for line in self.backward:
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
                    form = skeleton(line.value)
                    order[home[0], form, home[1]] += 1
                    key = ("value", form, order[home[0], form, home[1]])
                    self._put(line, home[0], key, home[1])
            elif len(homes) == 1 and (pattern := self._item_of(variable, *next(iter(homes)))):
                self._put(line, runs[0], ("item", pattern), next(iter(homes))[1])
            elif any(sum(one is run for one, _ in homes) >= ROUNDS for run in runs):
                self._add_up(line)
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
            raise DoesNotFit(run)
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
            for spec in specs_in(tree):
                if spec.kind == "item" and (spec.key, spec.at(t)) in self.finder.item.get(
                    variable, ()
                ):
                    return spec.key  # type: ignore[no-any-return]
        return None

    def _add_up(self, line: Line) -> None:
        if line.derivative_of is None or line.derivative_of in self.place:
            raise DoesNotFit
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
            raise DoesNotFit(run)
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
                    raise DoesNotFit(run)
                group.seed = seed if t == last else group.seed
                if t < last and self._without(later, group.carried, run, t + 1) != []:
                    raise DoesNotFit(run)
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
                raise DoesNotFit(run)
            back.added[name] = self._common([parts[1], parts[2]], [1, 2], run)
            for t, mine_now in parts.items():
                if self._without(mine_now, back.added[name], run, t) != []:
                    raise DoesNotFit(run)
            mine = {id(tree) for one in parts.values() for tree in one}
            self.rest[name] = [tree for tree in terms if id(tree) not in mine]

    def _learn(
        self, group: Group, halves: Mapping[int, tuple[list[ast.expr], list[ast.expr]]], run: Run
    ) -> None:
        """The templates of a group, from two rounds."""
        last = run.count - 1
        if any(t not in halves for t in range(1, last)):
            raise DoesNotFit(run)
        pair = (1, 2) if last > 2 else (1, 0)
        if any(t not in halves for t in pair):
            raise DoesNotFit(run)
        pairs = [one for one in ((1, 2), (1, 0)) if one[1] in halves]
        group.own = max(
            [self._common([halves[t][0] for t in one], one, run) for one in pairs], key=len
        )
        if any(halves[t][1] for t in range(last) if t in halves):
            if group.key[0] != "of":
                raise DoesNotFit(run)
            later = [t + 1 for t in pair]
            group.carried = self._common([halves[t][1] for t in pair], later, run)
        if last not in halves:
            # What the last round's gradient would be has another name already.
            match group.own:
                case [Open() as alone] if group.carried and alone.spec.kind == "gradient":
                    group.other_name = alone.spec.key
                case [] if group.carried:
                    group.ones = True  # or it would not be as the templates of others say
                case _:
                    raise DoesNotFit(run)

    def _split(self, line: Line, run: Run, t: int) -> tuple[list[ast.expr], list[ast.expr]]:
        """The terms of the line's own round (or of no round), and those of the round after it."""
        own: list[ast.expr] = []
        later: list[ast.expr] = []
        for tree in terms_of(line.value):
            home = self._home(tree, run)
            if home not in (None, t, t + 1):
                raise DoesNotFit(run)
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
                self._spec(a, b, run, t, u) for a, b in zip(places(tree), places(partner[1]))
            ])  # fmt: skip
            found.append(with_places(tree, next_open(specs)))
        return found

    def _keys(self, tree: ast.expr, run: Run, t: int) -> tuple[Any, ...]:
        """What a term has in common with that of another round."""
        return skeleton(tree), *[self._key(place, run, t) for place in places(tree)]

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
                raise DoesNotFit(run)
            return slope, a - slope * t

        if isinstance(now, float | int) and now == then:
            return Spec("constant", now)
        if isinstance(now, float):
            return power(now, then, t, t - u) if t > u else power(then, now, u, u - t)
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
            for also, k in self.finder.item.get(then, ()):
                if pattern == also:
                    return Spec("item", pattern, *line(i, k))
        raise DoesNotFit(run)

    def _without(
        self, terms: Sequence[ast.expr], templates: Sequence[ast.expr], run: Run, t: int
    ) -> list[ast.expr] | None:
        """The terms that no template gives in round ``t``; None if a template gives another one."""
        # What comes after the loop may share a part with its last round: there it has no name.
        read = self._read_out if t == run.count - 1 else text_of
        left = {id(tree): read(tree) for tree in terms}
        for template in templates:
            tree = self.recorded(template, run, t)
            wanted = None if tree is None else read(tree)
            found = next((one for one, text in left.items() if text == wanted), None)
            if wanted is None or found is None:
                return None
            del left[found]
        return [tree for tree in terms if id(tree) in left]

    def _read_out(self, tree: ast.expr) -> str:
        """An expression with those of lines outside of the loops that the user has not named."""

        def fill(place: Any) -> ast.expr:
            line = self.unnamed.get(place)
            return place_of(place) if line is None else line.value

        return text_of(with_places(tree, fill))

    def recorded(self, template: ast.expr, run: Run, t: int) -> ast.expr | None:
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
                if group.ones and n == run.count - 1:
                    found = ast.Constant(1)
            elif spec.kind == "other gradient":
                other, key = spec.key
                line = other.backward.groups[key].lines.get(n)
                found = None if line is None else ast.Name(line.target)
            else:
                found = self.finder.recorded(run, spec, t)
            missing |= found is None
            return found or ast.Name("_")

        tree = closed(template, fill)
        return None if missing else without_ones(tree)
