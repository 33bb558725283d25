"""Which values get a line of their own, in which order, and what they are called."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..core import Primitive
from ..ops import (
    activation,
    arithmetic,
    attention,
    convolution,
    linalg,
    loss,
    normalization,
    pooling,
)
from ..ops.embedding import scatter_rows
from ..ops.index import is_basic, read, scatter_add
from ..ops.shape import expand_axes, permute, reshape_to, squeeze_axes, stretch
from ..program import Length, Program, Shape, Step
from .simplify import Simplifier, broadcast, mapped, number_of
from .texts import RESERVED, Source, expression

# The longest expression, so that lines stay below 100 characters; a part of one that is so short
# gets no line of its own.
WIDTH, SHORT = 76, 12
SUMS = (arithmetic.add, arithmetic.subtract)


ASSIGNED, APPENDED = "{target} {sign} {value}", "{target}.append({value})"


@dataclass(eq=False)
class Line:
    """One assignment.

    Attributes
    ----------
    target : str
    step : Step
        What is computed; in a loop, in one of its rounds.
    value : ast.expr
        The expression, in final names.
    owner : Line or None
        For a line of the backward pass, the forward line whose derivative it is part of.
    backward : bool
    derivative_of : str or None
        The name of what it is the gradient of.
    sign : str
        ``=``, or ``+=`` and ``-=`` where a loop adds up.
    form : str
        The statement around target, sign and value.
    place : ast.expr or None
        What is set, as on paper: ``h[t + 1]``; by default the target.
    same_shape : bool
        Whether the value has the same shape in each round of a loop.
    on_paper : bool
        Whether the line is an equation; a list that is made empty is none.
    summed : bool
        Whether what is added up in a loop is all there is of it.
    """

    target: str
    step: Step
    value: ast.expr
    backward: bool = False
    owner: Line | None = None
    derivative_of: str | None = None
    sign: str = "="
    form: str = ASSIGNED
    place: ast.expr | None = None
    same_shape: bool = True
    on_paper: bool = True
    summed: bool = False

    @property
    def expression(self) -> str:
        if isinstance(self.value, ast.Tuple):
            return ", ".join([tidy(one) for one in self.value.elts])
        return tidy(self.value)

    @property
    def text(self) -> str:
        return self.form.format(target=self.target, sign=self.sign, value=self.expression)


@dataclass(eq=False)
class Loop:
    """A ``for`` loop.

    Attributes
    ----------
    counter : str
    count : int
        The counter runs from 0 to below this.
    backward : bool
        Whether it runs down.
    lines : list of Line
    indexed : dict
        For each variable of the loop that has an index on paper, what to add to the counter.
    """

    counter: str
    count: int
    backward: bool
    lines: list[Line] = field(default_factory=list)
    indexed: dict[str, int] = field(default_factory=dict)

    @property
    def header(self) -> str:
        rounds = f"range({self.count})"
        return f"for {self.counter} in {f'reversed({rounds})' if self.backward else rounds}:"


class Round(NamedTuple):
    """Which value a line is: that of a variable, or, with a number, an item of a list.

    Attributes
    ----------
    name : str
    number : int or None
    offset : int
        The number of items of the list that are there before the first round.
    length : int
        Of the list.
    last : bool
        Whether the variable, if there is no list, still has this value after the loop.
    """

    name: str
    number: int | None = None
    offset: int = 0
    length: int = 0
    last: bool = True

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}[{self.number}]"


@dataclass(eq=False)
class Layout:
    """The lines of a program, and the names in it.

    Attributes
    ----------
    arguments : dict
        The input array of each name; where loops read a list of them, the list.
    lines : list of Line
    outputs : list of str
    gradients : list of dict
        For each backward pass, the user's name of a variable and the name of its gradient.
    checks : list of (str, object)
        Expressions that Python has read, and what it got.
    rows : tuple or None
        The name of the batch's length, and the input it is the length of.
    shapes : dict
        The shape of each name.
    operations : set of Primitive
    classes : str or None
        The number of classes, where every ``onehot(t)`` has the same.
    also : dict
        Other names that a gradient would go by: where ``e = y - t``, ``dy`` is ``de``.
    body : list of Line and Loop
        The lines, those of loops in them.
    lists : dict
        The names of the arguments in each list.
    lengths : dict
        The length of each list that a loop makes or reads.
    recorded : list of Line
        The lines as they were without loops.
    rounds : dict
        For each of these that is part of a loop, the `Round`.
    results : list of dict
        As ``gradients``, in the names of these.
    derivatives : dict
        For gradients in loops, the name of what they are the gradient of.
    on_paper : dict
        For lists in loops, the letter: ``h`` for ``hs``.
    """

    arguments: dict[str, Any]
    lines: list[Line]
    outputs: list[str]
    gradients: list[dict[str, str]]
    checks: list[tuple[Step, str, Any]]
    rows: tuple[str, str] | None
    shapes: dict[str, Shape]
    operations: set[Primitive] = field(default_factory=set)
    classes: str | None = None
    also: dict[str, list[str]] = field(default_factory=dict)
    body: list[Line | Loop] = field(default_factory=list)
    lists: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    recorded: list[Line] = field(default_factory=list)
    rounds: dict[str, Round] = field(default_factory=dict)
    results: list[dict[str, str]] = field(default_factory=list)
    derivatives: dict[str, str] = field(default_factory=dict)
    on_paper: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.body = self.body or list(self.lines)
        self.recorded = self.recorded or self.lines
        self.results = self.results or self.gradients


def tidy(tree: ast.expr) -> str:
    """An expression as source, with ``**`` close to simple operands."""
    source = re.sub(r"'([^'\"\\]*)'", r'"\1"', ast.unparse(tree))
    return re.sub(r"(?<![\w.)\]])([\w.]+) \*\* (-?[\w.]+)(?![\w.(\[])", r"\1**\2", source)


def identifier(name: str) -> str:
    """A user's name as a Python name: the path ``0.W`` is ``W0``."""
    parts = [part for part in re.split(r"\W+", name) if part]
    words = [part for part in parts if not part.isdigit()]
    numbers = "_".join([part for part in parts if part.isdigit()])
    found = "_".join(words[-1:])
    found += "_" * bool(numbers and found[-1:].isdigit()) + numbers
    return found if found.isidentifier() else f"v{''.join(parts)}"


class Planner:
    """Lays out one program.

    Parameters
    ----------
    program : Program
    whole_sums : bool
        Whether a sum of the backward pass stays one line, however long: its terms are what a loop
        adds up. Then the length of an expression depends on no number in it.
    whole_gradients : bool
        Whether the gradient of each value stays a quantity of its own, and not only of those that
        the user has named.
    """

    def __init__(
        self, program: Program, whole_sums: bool = False, whole_gradients: bool = False
    ) -> None:
        self.program, self.whole_sums = program, whole_sums
        self.simple = Simplifier(program, whole_gradients, in_loops=whole_sums)
        of = self.of
        self.outputs = [of(step) for step in program.outputs]
        self.gradients = [
            [
                (step, of(one.cotangents[step]) if step in one.cotangents else None)
                for step in program.wanted
            ]
            for one in program.passes
        ]
        self.checks = [(of(step), value) for step, value in program.reads]
        self.roots = list(dict.fromkeys([
            *self.outputs, *[g for pairs in self.gradients for _, g in pairs if g is not None],
            *[step for step, _ in self.checks],
        ]))  # fmt: skip
        self.residuals: dict[Step, dict[str, Step]] = {}
        for one in program.passes:
            for owner, name, residual in one.residuals:
                self.residuals.setdefault(of(owner), {})[name] = of(residual)
        self.uses = self._uses()
        self.order = self._ordered()
        self.backward = self._of_the_backward_pass()
        self.cotangent_of = self._cotangents()
        self.tokens: dict[Step, str] = {}
        self.trees: dict[Step, ast.expr] = {}
        self.lined: list[Step] = []

    def of(self, step: Step) -> Step:
        return self.simple.of.get(step, step)

    # -- what is there -----------------------------------------------------------------------------

    def _uses(self) -> Counter[Step]:
        uses: Counter[Step] = Counter(self.roots)
        todo = list(self.roots)
        seen = set(todo)
        while todo:
            for one in parts_of(todo.pop()):
                uses[one] += 1
                if one not in seen:
                    seen.add(one)
                    todo.append(one)
        return uses

    def _ordered(self) -> list[Step]:
        """The steps that are needed, in the order in which they were recorded, arguments first."""
        recorded = [self.of(step) for step in self.program.steps]
        roots: list[Step] = []
        for step in recorded:
            roots += [*self.residuals.get(step, {}).values(), step]
        order: dict[Step, None] = {}
        for root in [*[one for one in roots if one in self.uses], *self.roots]:
            todo = [(root, False)]
            while todo:
                step, ready = todo.pop()
                if ready:
                    order[step] = None
                elif step not in order and step.operation is not None:
                    todo.append((step, True))
                    todo.extend((one, False) for one in reversed(parts_of(step)))
        return list(order)

    def _of_the_backward_pass(self) -> set[Step]:
        """The steps that are in the program only for the gradients."""
        forward: set[Step] = set()
        todo = [*self.outputs, *[step for step, _ in self.checks], *self._residual_names()]
        todo += [self.of(step) for step in self.program.steps if step.source is None]
        while todo:
            step = todo.pop()
            if step not in forward:
                forward.add(step)
                todo.extend(parts_of(step))
        return set(self.order) - forward

    def _cotangents(self) -> dict[Step, tuple[Step, int]]:
        """Of which step each step of a backward pass is the cotangent, and in which pass."""
        found: dict[Step, tuple[Step, int]] = {}
        for number, one in enumerate(self.program.passes):
            pairs = [(self.of(step), self.of(g)) for step, g in one.cotangents.items()]
            pairs = [(step, g) for step, g in pairs if g.operation is not None and g in self.uses]
            wanted = set(map(self.of, self.program.wanted))
            # The user's names first; then variables; then what is computed, and last the youngest.
            for ranked in (
                [one for one in pairs if one[0].name and one[0].operation is not None],
                [one for one in pairs if one[0] in wanted],
                [one for one in pairs if one[0].operation is not None and one[0] in self.uses],
            ):
                for step, g in ranked:
                    if g in self.backward:
                        found.setdefault(g, (step, number))
        return found

    # -- lines -------------------------------------------------------------------------------------

    def plan(self) -> Layout:
        keep = self._own_lines()
        inner = self._inner_sums(keep)
        for step in self.order:
            if step not in inner:
                self._write(step, keep)
        names = self._names()
        return self._laid_out(names)

    def _residual_names(self) -> dict[Step, str]:
        return {one: name for known in self.residuals.values() for name, one in known.items()}

    def _own_lines(self) -> set[Step]:
        checked = {step for step, _ in self.checks}
        results = [
            *self.outputs,
            *[g for pairs in self.gradients for _, g in pairs if g is not None],
        ]
        keep = {step for step in results if step.operation is not None}
        uses = Counter(self.uses)
        for step in reversed(self.order):
            named = step.name is not None and step not in self.backward
            more = uses[step] - (step in checked) - 1
            if named or (more > 0 and not _is_cheap(step)):
                keep.add(step)
            elif more > 0 and step not in keep:  # written out again and again, and so are its parts
                for one in parts_of(step):
                    uses[one] += more
        if self.whole_sums:
            keep |= self._like_the_others(keep)
        terms = self._terms()
        for step in self.order:
            owner, _ = self.cotangent_of.get(step, (None, 0))
            term = self.whole_sums and step in terms and owner and not owner.name
            if owner is not None and owner.operation and owner in keep and not _is_spread(step):
                keep |= set() if term else {step}
        keep |= self._like_the_others(keep)
        for step in list(keep):
            owner, _ = self.cotangent_of.get(step, (None, 0))
            if owner is not None and owner.operation is not None and owner in self.uses:
                keep.add(owner)  # a dz needs a z
        keep |= self.uses.keys() & self._residual_names().keys()
        return {step for step in keep if step.operation is not None}

    def _terms(self) -> set[Step]:
        """What is needed for nothing but to be one term of a sum of the backward pass."""
        sums = [one for one in self.order if one.operation in SUMS and one in self.backward]
        return {one for total in sums for one in total.inputs if self.uses[one] == 1}

    def _like_the_others(self, keep: set[Step]) -> set[Step]:
        """What gets a line because most of its like do: the gradient of the first layer is needed
        once, those of the others twice."""
        users: dict[Step, set[Any]] = {}
        for step in self.order:
            for one in parts_of(step) if step not in self.backward else ():
                users.setdefault(one, set()).add(step.operation)
        like: dict[Any, list[Step]] = {}

        def add(step: Step, *kind: Any) -> None:
            like.setdefault(kind, []).append(step)

        for step in [one for one in self.order if not _is_spread(one) and not _is_cheap(one)]:
            operation = step.operation
            owner, number = self.cotangent_of.get(step, (None, 0))
            of = owner or (step.source and self.of(step.source))
            if of is not None and of.operation is not None and step in self.backward:
                add(
                    step,
                    owner is None,
                    of.operation,
                    operation,
                    frozenset(users.get(of, ())),
                    number,
                )
            if self.whole_sums and owner is not None:
                add(step, "gradient", *_operations(owner), number)
            elif self.whole_sums and step not in self.backward:
                add(step, "value", *_operations(step), len(step.shape))
                add(step, "used", operation, frozenset(users.get(step, ())), len(step.shape))
        return {
            one for steps in like.values() for one in steps
            if len(steps) > 2 and 3 * sum(step in keep for step in steps) >= 2 * len(steps)
        }  # fmt: skip

    def _write(self, step: Step, keep: set[Step]) -> None:
        """The expression of a step; where it gets too long, its longest part becomes a line."""
        tree = self._tree(step)
        while self._is_whole_sum(step) or self._length(tree) > WIDTH:
            inline = [
                one
                for one in self._terms_of(step)
                if one.operation is not None and one not in self.tokens
            ]
            lengths = {one: self._length(self.trees[one]) for one in inline}
            if self._is_whole_sum(step):
                lengths = {one: length for one, length in lengths.items() if length > WIDTH}
            if max(lengths.values(), default=0) <= SHORT:
                break
            self._add_line(max(lengths, key=lambda one: lengths[one]))
            tree = self._tree(step)
        self.trees[step] = tree
        if step in keep:
            self._add_line(step)

    def _length(self, tree: ast.expr) -> int:
        source = ast.unparse(tree)
        return len(re.sub(r"_?\d+", "9", source) if self.whole_sums else source)

    def _is_whole_sum(self, step: Step) -> bool:
        return self.whole_sums and step in self.backward and step.operation in SUMS

    def _inner_sums(self, keep: set[Step]) -> set[Step]:
        """Sums that are nothing but the beginning of longer sums: they are written with those."""
        users: dict[Step, bool] = {}
        for step in self.order:
            for one in parts_of(step):
                users[one] = users.get(one, True) and self._is_whole_sum(step)
        roots = set(self.roots)
        return {
            step for step in self.order
            if self._is_whole_sum(step) and users.get(step) and step not in keep and step not in roots
        }  # fmt: skip

    def _terms_of(self, step: Step) -> list[Step]:
        """What a step is computed from; of a whole sum, its terms."""
        return (
            [one for one, _ in self._signed_terms(step)]
            if self._is_whole_sum(step)
            else parts_of(step)
        )

    def _signed_terms(self, step: Step) -> list[tuple[Step, bool]]:
        """The terms of a whole sum, and whether they are subtracted."""
        terms: list[tuple[Step, bool]] = []
        todo = [(step, False)]
        while todo:
            one, minus = todo.pop()
            if one is step or (self._is_whole_sum(one) and one not in self.tokens):
                a, b = one.inputs
                todo += [(b, minus is not (one.operation is arithmetic.subtract)), (a, minus)]
            else:
                terms.append((one, minus))
        return terms

    def _whole_sum(self, step: Step) -> ast.expr:
        """All terms as one expression, which is no deeper than it must be."""
        trees = [
            ast.UnaryOp(ast.USub(), tree) if minus else tree
            for one, minus in self._signed_terms(step)
            for tree in [self._operand(one, step)]
        ]
        while len(trees) > 1:
            pairs = [trees[i : i + 2] for i in range(0, len(trees), 2)]
            trees = [
                ast.BinOp(pair[0], ast.Add(), pair[1]) if pair[1:] else pair[0] for pair in pairs
            ]
        return trees[0]

    def _add_line(self, step: Step) -> None:
        self.lined.append(step)
        self._token(step)

    def _token(self, step: Step) -> str:
        """A placeholder for a step's name, which is chosen when all lines are known."""
        return self.tokens.setdefault(step, f"_{len(self.tokens)}_")

    def _tree(self, step: Step) -> ast.expr:
        """The expression of a step, whose parts are placeholders or expressions themselves."""
        if self._is_whole_sum(step):
            return self._whole_sum(step)
        holes: dict[str, ast.expr] = {}

        def hole(one: Step) -> Source:
            name = f"_in{len(holes)}_"
            holes[name] = self._operand(one, step)
            return Source(name)

        zero = step.operation is arithmetic.add and not step.by_formula and step.inputs[0]
        if (
            zero
            and number_of(zero) == 0
            and not self.whole_sums
            and step.dtype == step.inputs[1].dtype
        ):
            return self._operand(step.inputs[1], step)  # a sum that starts from 0
        arguments = [hole(one) for one in step.inputs]
        params = mapped(step.params, hole)
        params = {key: self._param(value, step) for key, value in params.items()}
        if step.operation is stretch:
            tree = self._spread(step, arguments[0])
        else:
            if step.operation is reshape_to:
                params["shape"] = self._shape(step.params["shape"], step, params["shape"])
            if step.operation in (scatter_add, scatter_rows):
                params["shape"] = self._shape(step.shape, step, tuple(step.shape))
            residuals = {
                name: hole(one)
                for name, one in self.residuals.get(step, {}).items()
                if one in self.tokens
            }
            tree = expression(step, arguments, params, residuals)
        tree = _Filled(holes).visit(_Styled().visit(_Filled(holes, only_names=True).visit(tree)))
        return _product(tree) if step.operation is arithmetic.multiply and step.by_formula else tree

    def _param(self, value: Any, step: Step) -> Any:
        if isinstance(value, np.dtype):
            like = self._like(lambda one: one.dtype == value, step)
            same = step.by_formula and like is not None
            return Source(
                f"{self._token(like)}.dtype" if same and like is not None else f"np.{value.name}"
            )
        if isinstance(value, np.generic):
            return value.item()
        return value

    def _operand(self, one: Step, user: Step) -> ast.expr:
        if one in self.tokens:
            return _parsed(self.tokens[one])
        if one.operation is not None:
            return self.trees[one]
        return _parsed(self._leaf(one, user))

    def _leaf(self, one: Step, user: Step) -> str:
        value = one.value
        if isinstance(value, np.ndarray):
            shared = self.whole_sums and self.uses[one] > 1  # one value, written in one way
            free = one.name is None and one not in self._arrays() and not shared
            if free and _is_number_here(one, user):
                return _number(value.flat[0])
            literal = _literal(value, one.shape)
            return (
                self._token(one)
                if one.name or one in self._arrays() or literal is None
                else literal
            )
        if isinstance(value, Length) or (user.operation is arithmetic.divide and user.by_formula):
            size = self._size(value, user)
            if size is not None:
                return size
            if isinstance(value, float) and value.is_integer() and user.by_formula:
                return repr(int(value))
        return _number(value)

    def _arrays(self) -> set[Step]:
        """The inputs that are arguments in any case: the user's, and what a gradient is asked of."""
        wanted = [step for pairs in self.gradients for step, _ in pairs]
        return {*wanted, *[seed for one in self.program.passes for seed in one.seeds.values()]}

    def _known(self, near: Step | None) -> Iterator[Step]:
        """Steps that have a name at this place, the nearest first."""
        todo = [] if near is None or near.source is None else [self.of(near.source)]
        seen: set[Step] = set()
        while todo and len(seen) < 20:
            step = todo.pop(0)
            if step not in seen:
                seen.add(step)
                if self._has_name(step):
                    yield step
                todo.extend(step.inputs)
        yield from [one for one in self.program.inputs if self._has_name(one)]
        yield from self.lined

    def _has_name(self, step: Step) -> bool:
        if step.operation is None:
            return isinstance(step.value, np.ndarray) and (
                step.name is not None or step in self.tokens
            )
        return step in self.tokens

    def _like(self, fits: Any, near: Step) -> Step | None:
        return next((one for one in self._known(near) if fits(one)), None)

    def _shape(self, wanted: Shape, step: Step, text: Any) -> Any:
        """A shape by the name of an array that has it."""
        if not step.by_formula or len(wanted) < 2:
            return text
        like = self._like(lambda one: same_shape(one.shape, wanted), step)
        return text if like is None else Source(f"{self._token(like)}.shape")

    def _spread(self, step: Step, inner: str) -> ast.expr:
        (x,) = step.inputs
        number = number_of(x)
        like = self._like(
            lambda one: same_shape(one.shape, step.shape) and one.dtype == step.dtype, step
        )
        if like is not None and number is not None and step.by_formula:
            name = self._token(like)
            known = {0: f"np.zeros_like({name})", 1: f"np.ones_like({name})"}
            return _parsed(known.get(number) or f"np.full_like({name}, {_number(number)})")
        shape = f"{self._token(like)}.shape" if like is not None else repr(tuple(step.shape))
        if number is not None:
            dtype = "" if step.dtype == np.float64 else f", dtype=np.{step.dtype}"
            return _parsed(_full(shape, float(number), dtype))
        if x.shape == () and like is not None:
            return _parsed(f"np.full_like({self._token(like)}, {inner})")
        return _parsed(f"np.broadcast_to({inner}, {shape})")

    def _size(self, value: Any, user: Step) -> str | None:
        """The number of elements of an array near by that it is: ``y.size``."""
        if isinstance(value, Length) and value.times == 1:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 4:
            return None
        near = next(iter(self._known(user)), None) if user.by_formula else None
        for one in [] if near is None else self._known(user):
            if len(one.shape) > 1 and _same_number(_count(one.shape), value):
                return f"{self._token(one)}.size"
            if not isinstance(value, Length):
                break
        return None

    # -- names -------------------------------------------------------------------------------------

    def _names(self) -> dict[Step, str]:
        arguments = self._arguments()
        names = _Names()
        for step, name in arguments:
            names.give(step, name)
        forward = [step for step in self.lined if step not in self.backward]
        residual = self._residual_names()
        names.give_all(
            {step: identifier(step.name) if step.name else residual.get(step) for step in forward}
        )
        names.give_all(self._letters([step for step in forward if step not in names.of], names))
        back = [step for step in self.lined if step in self.backward]
        names.give_all({step: self._gradient_name(step, names) for step in back})
        for number, one in enumerate(self.program.passes):
            for target, seed in one.seeds.items():
                if seed in self.tokens or isinstance(seed.value, np.ndarray):
                    base = names.of.get(self.of(target), "y")
                    names.give(seed, ("v" if number else "d") + base)
        return names.of

    def _arguments(self) -> list[tuple[Step, str]]:
        """The input arrays that the program uses, with the names they ask for."""
        seeds = {seed for one in self.program.passes for seed in one.seeds.values()}
        found = []
        for step in self.program.inputs:
            if step in seeds or not (step.name or step in self.tokens):
                continue
            found.append((step, identifier(step.name) if step.name else self._role(step)))
        return found

    def _role(self, leaf: Step) -> str:
        """An unnamed array by the name of the argument that it is: ``t``."""
        for user in self.order:
            for name, one in zip(user.operation.arguments if user.operation else (), user.inputs):
                if one is leaf:
                    return "c" if name in ("a", "b", "*xs", "value") else name
        return "c"

    def _letters(self, steps: list[Step], names: _Names) -> dict[Step, str | None]:
        """A letter for each unnamed value: ``z1`` where it comes from ``W1``."""
        known = dict(names.of)
        for step in steps:
            if step in self.outputs:
                known[step] = "loss" if step.shape == () else "y"
            else:
                known[step] = self._letter(step, known)
        return {step: known[step] for step in steps}

    def _letter(self, step: Step, names: Mapping[Step, str]) -> str:
        """A letter as on paper, with the number of the weights it comes from."""
        letter = LETTERS.get(step.operation, "v")
        if step.operation is arithmetic.add and _is_affine(step):
            letter = "z"
        ending = ""
        if letter not in ("z", "h"):
            return letter
        for one in ancestors_until_named(step, names):
            found = re.fullmatch(r"[A-Za-z]+(\d+)", names[one])
            if found and (one in self.program.inputs) == (letter == "z"):
                ending = found.group(1)
                break
        return letter + ending

    def _gradient_name(self, step: Step, names: _Names) -> str:
        owner, number = self.cotangent_of.get(step, (None, 0))
        base = None if owner is None else names.of.get(owner)
        if owner is None or base is None:
            return LETTERS.get(step.operation, "v")
        if number == 0:
            return f"d{base}"
        return f"v{base[1:]}" if owner in self.backward else f"dd{base}"

    # -- putting it together -----------------------------------------------------------------------

    def _laid_out(self, names: dict[Step, str]) -> Layout:
        rows = self._rows(names)
        final = {token: names[step] for step, token in self.tokens.items() if step in names}
        # Where no argument has the batch's rows, their number is what it was.
        length = rows[0] if rows is not None else repr(int(self.program.rows or 0))
        lines: dict[Step, Line] = {}
        for step in self.lined:
            value = signed(_Named(final, length).visit(self.trees[step]))
            owner, number = self.cotangent_of.get(step, (None, 0))
            variable = names.get(owner) if owner is not None and number == 0 else None
            lines[step] = Line(
                names[step], step, value, step in self.backward, derivative_of=variable
            )
        self._owners(lines)
        ordered = self._scheduled(lines)
        classes = _same_classes([line.value for line in ordered])
        gradients, aliases = self._results(names, lines, final, length)
        arguments = {names[step]: step for step, _ in self._arguments()}
        seeds = [
            seed for one in self.program.passes for seed in one.seeds.values() if seed in names
        ]
        arguments |= {names[seed]: seed for seed in seeds}
        shapes = {name: step.shape for name, step in arguments.items()}
        shapes |= {line.target: line.step.shape for line in ordered}
        shown = [*ordered, *aliases]
        checked = [
            (step, self._result_text(step, names, final, length), value)
            for step, value in self.checks
        ]
        mentioned = [_parsed(text) for _, text, _ in checked] + [line.value for line in shown]
        return Layout(
            arguments=arguments,
            lines=shown,
            outputs=[self._result_text(step, names, final, length) for step in self.outputs],
            gradients=gradients,
            checks=checked,
            rows=rows
            if rows is not None and any(rows[0] in names_in(tree) for tree in mentioned)
            else None,
            shapes=shapes,
            operations={step.operation for step in self.order if step.operation is not None},
            classes=classes,
            also=self._also(names),
        )

    def _also(self, names: dict[Step, str]) -> dict[str, list[str]]:
        also: dict[str, list[str]] = {}
        for step, g in self.program.passes[0].cotangents.items():
            name, base = names.get(self.of(g)), names.get(self.of(step))
            if name is not None and base is not None and name != f"d{base}":
                also.setdefault(name, []).append(f"d{base}")
        return also

    def _rows(self, names: dict[Step, str]) -> tuple[str, str] | None:
        """The name of the batch's length, and an argument that has it."""
        if self.program.rows is None:
            return None
        of_batch = [
            names[step]
            for step in self.program.inputs
            if step in names and step.shape and isinstance(step.shape[0], Length)
        ]
        if not of_batch:
            return None
        name = next(one for one in ("N", "n", "rows", "batch") if one not in names.values())
        return name, of_batch[0]

    def _result_text(
        self, step: Step, names: dict[Step, str], final: dict[str, str], rows: str
    ) -> str:
        if step in names:
            return names[step]
        return tidy(_Named(final, rows).visit(self._operand(step, step)))

    def _results(
        self, names: dict[Step, str], lines: dict[Step, Line], final: dict[str, str], rows: str
    ) -> tuple[list[dict[str, str]], list[Line]]:
        """The gradients by the user's names; a variable's own name for a value that has another."""
        gradients: list[dict[str, str]] = []
        aliases: list[Line] = []
        taken = {line.target for line in lines.values()}
        for number, pairs in enumerate(self.gradients):
            gradients.append({})
            for step, g in pairs:
                variable = names[self.of(step)]
                wished = ("d" if number == 0 else "dd") + variable
                mine = g is not None and g in names and names[g] == wished
                if g in names and g is not None and wished in self._given_names(names):
                    wished, mine = names[g], True  # an argument has the name
                if not mine:
                    value = self._alias(g, variable, names, step)
                    target = wished
                    while target in taken:
                        target += "_"
                    model = g if g is not None else Step(shape=step.shape, dtype=step.dtype)
                    if model.operation is None and not isinstance(model.value, np.ndarray):
                        model = Step(shape=step.shape, dtype=step.dtype)
                    aliases.append(Line(target, model, _Named(final, rows).visit(value), True))
                    wished = target
                taken.add(wished)
                key = step.name or variable
                gradients[-1][variable if key in gradients[-1] else key] = wished
        return gradients, aliases

    def _given_names(self, names: Mapping[Step, str]) -> set[str]:
        return {names[step] for step in self.program.inputs if step in names}

    def _alias(self, g: Step | None, variable: str, names: dict[Step, str], step: Step) -> ast.expr:
        if g is None:
            return _parsed(f"np.zeros_like({variable})")
        if g in names:
            return _parsed(names[g])
        number = (
            1 if g.operation is None and np.size(g.value) == 1 and g.value == 1 else number_of(g)
        )
        ones = f"np.ones_like({variable})"
        return _parsed(ones if number == 1 else f"np.full_like({variable}, {_number(number)})")

    def _owners(self, lines: dict[Step, Line]) -> None:
        """For each line of the backward pass, the forward line that contains what it derives."""
        within: dict[Step, Line] = {}
        for line in lines.values():
            todo = [line.step]
            while todo:
                step = todo.pop()
                if step not in within:
                    within[step] = line
                    todo.extend([one for one in parts_of(step) if one not in lines])
        for line in lines.values():
            source = line.step.source
            if line.backward and source is not None:
                line.owner = within.get(self.of(source))

    def _scheduled(self, lines: dict[Step, Line]) -> list[Line]:
        """The gradients of the variables as soon as they can be, weights before biases."""
        wanted = [
            g for pairs in self.gradients for _, g in pairs if g in lines and lines[g].backward
        ]
        by_token = {self.tokens[step]: step for step in lines}
        needs = {
            step: {by_token[name] for name in names_in(self.trees[step]) if name in by_token}
            for step in lines
        }
        done: dict[Step, None] = {}

        def add(step: Step) -> None:
            done[step] = None
            for g in wanted:
                if g not in done and needs[g] <= done.keys():
                    add(g)

        for first in self.lined:
            todo = [first]
            while todo:
                missing = [one for one in needs[todo[-1]] if one not in done]
                todo.extend(missing)
                if not missing and (step := todo.pop()) not in done:
                    add(step)
        return [lines[step] for step in done]


# --------------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------------

LETTERS: dict[Primitive | None, str] = {
    linalg.matmul_2d: "z", linalg.linear_2d: "z", convolution.conv: "z",
    activation.softmax_along: "p", attention.attention_weights: "p",
    arithmetic.subtract: "e", normalization.standardize: "u",
    **dict.fromkeys((
        activation.relu, activation.sigmoid, arithmetic.tanh, arithmetic.at_least, activation.gelu_exact,
        activation.gelu_tanh, activation.silu, activation.elu_of, activation.leaky, activation.mish,
        activation.softplus_of, pooling.pool_max, pooling.pool_mean), "h"),
    **dict.fromkeys((
        loss.cross_entropy_of_labels, loss.cross_entropy_of_probabilities, loss.squared_error), "loss"),
    **dict.fromkeys((
        arithmetic.greater, arithmetic.greater_equal, arithmetic.less, arithmetic.less_equal,
        arithmetic.equal, arithmetic.not_equal), "mask"),
}  # fmt: skip


class _Names:
    """Names given out, each once."""

    def __init__(self) -> None:
        self.of: dict[Step, str] = {}
        self.taken = set(RESERVED)
        self.last: Counter[str] = Counter()

    def give(self, step: Step, name: str) -> None:
        """The name itself, or with an underscore or a number if it is taken."""
        if name in RESERVED:
            name += "_"
        self.of[step] = self._numbered(name) if name in self.taken else name
        self.taken.add(self.of[step])

    def _numbered(self, name: str) -> str:
        between = "_" if name[-1].isdigit() else ""
        while True:
            self.last[name] += 1
            found = f"{name}{between}{self.last[name]}"
            if found not in self.taken:
                return found

    def give_all(self, wishes: Mapping[Step, str | None]) -> None:
        """The names asked for; one that several values have had is numbered: ``h1``, ``h2``."""
        counts = Counter([name for name in wishes.values() if name is not None])
        for step, name in wishes.items():
            if name is not None:
                several = counts[name] > 1 and not name[-1].isdigit()
                self.give(step, self._numbered(name) if several else name)


def ancestors_until_named(step: Step, names: Mapping[Step, str]) -> Iterator[Step]:
    """The nearest named steps that a step is computed from."""
    todo = list(step.inputs)
    while todo:
        one = todo.pop(0)
        if one in names:
            yield one
        else:
            todo.extend(one.inputs)


# --------------------------------------------------------------------------------------------------
# Steps
# --------------------------------------------------------------------------------------------------


def parts_of(step: Step) -> list[Step]:
    """The steps that a step is computed from, those among its parameters included."""
    found = list(step.inputs)
    mapped(step.params, found.append)
    return found


def _operations(step: Step) -> tuple[Primitive | None, ...]:
    """The operation of a step and those of what it is computed from."""
    return step.operation, *[one.operation for one in step.inputs]


def _is_affine(step: Step) -> bool:
    """Whether it is a product with weights, plus anything."""
    while step.operation is arithmetic.add:
        if any(one.operation in (linalg.matmul_2d, linalg.linear_2d) for one in step.inputs):
            return True
        step = step.inputs[0]
    return False


def _is_cheap(step: Step) -> bool:
    """Whether it costs nothing to write it again: another view of a named value."""
    if step.operation in (permute, expand_axes, reshape_to, squeeze_axes, stretch):
        return True
    return step.operation is read and is_basic(step.params["index"])


def _is_spread(step: Step) -> bool:
    """Whether it is a number in every place."""
    return step.operation is stretch and step.inputs[0].shape == ()


def same_shape(one: Shape, other: Shape) -> bool:
    """Whether two shapes are equal for every length of the batch."""
    return len(one) == len(other) and all(_same_number(a, b) for a, b in zip(one, other))


def _same_number(a: int, b: int) -> bool:
    return a == b and (a.times if isinstance(a, Length) else 0) == (
        b.times if isinstance(b, Length) else 0
    )


def _count(shape: Shape) -> int:
    n, times = 1, None
    for one in shape:
        if isinstance(one, Length):
            times = one.times if times is None else 0
        n *= one
    if not times:
        return n
    return Length(n, n // next(one for one in shape if isinstance(one, Length)) * times)


def _number(value: Any) -> str:
    """A number as source."""
    if isinstance(value, np.generic):
        value = value.item() if value.dtype != np.float32 else float(str(value))
    if isinstance(value, np.ndarray):
        return f"np.{value.dtype}({_number(value[()])})"
    if isinstance(value, float) and not np.isfinite(value):
        return {"inf": "np.inf", "-inf": "-np.inf"}.get(repr(value), "np.nan")
    return repr(value)


def _full(shape: str, number: Any, dtype: str) -> str:
    """An array that is the same number everywhere."""
    if number in (0, 1) and not isinstance(number, bool | np.bool_):
        return f"np.{'ones' if number else 'zeros'}({shape}{dtype})"
    return f"np.full({shape}, {_number(number)}{dtype})"


def _literal(value: Any, shape: Shape) -> str | None:
    """A small or regular array as source."""
    kinds = {"float64": "", "int64": ", dtype=int", "bool": ", dtype=bool"}
    dtype = kinds.get(value.dtype.name, f", dtype=np.{value.dtype}")
    if _is_uniform(value):
        return _full(repr(tuple(shape)), value.flat[0], dtype)
    if value.ndim == 1 and value.dtype.kind == "i" and np.array_equal(value, np.arange(value.size)):
        return f"np.arange({shape[0]!r})"
    if (
        value.ndim == 2
        and value.shape[0] == value.shape[1]
        and np.array_equal(value, np.eye(len(value)))
    ):
        return f"np.eye({len(value)}{dtype})"
    if (
        value.size <= 12
        and value.dtype.kind in "iub"
        and not any(isinstance(n, Length) for n in shape)
    ):
        if value.size == 0:
            return f"np.zeros({tuple(value.shape)}{dtype})"
        return f"np.array({value.tolist()}{dtype if value.dtype.kind == 'u' else ''})"
    return None


def _is_uniform(value: Any) -> bool:
    return bool(value.size) and bool((value == value.flat[0]).all())


def _is_number_here(one: Step, user: Step) -> bool:
    """Whether a constant array may be written as its number: NumPy broadcasts it to the same."""
    operation = user.operation
    if operation is None or not (
        operation is arithmetic.where or isinstance(operation.fn, np.ufunc)
    ):
        return False
    others = [other for other in user.inputs if other is not one and other.shape]
    return (
        _is_uniform(one.value)
        and any(other.dtype == user.dtype for other in others)
        and same_shape(broadcast(*[other.shape for other in others]), user.shape)
    )


# --------------------------------------------------------------------------------------------------
# Trees
# --------------------------------------------------------------------------------------------------

ROWS = repr(Length(1))


def names_in(tree: ast.AST) -> set[str]:
    """The names that an expression reads."""
    return {one.id for one in ast.walk(tree) if isinstance(one, ast.Name)}


def _parsed(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


class _Signed(ast.NodeTransformer):
    """``a - b`` for ``a + -b``, and ``-a * b`` for ``-(a * b)``."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.UnaryOp(ast.USub(), ast.BinOp(a, ast.Mult() | ast.Div() as op, b)):
                return ast.BinOp(self.visit(ast.UnaryOp(ast.USub(), a)), op, b)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Add | ast.Sub):
            positive = without_sign(node.right)
            if positive is not None:
                op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
                return ast.BinOp(node.left, op, positive)
        return node


def without_sign(tree: ast.expr) -> ast.expr | None:
    """A product or quotient without the minus before its first factor; None if there is none."""
    match tree:
        case ast.UnaryOp(ast.USub(), one) if not (
            isinstance(one, ast.BinOp) and isinstance(one.op, ast.Add | ast.Sub)
        ):
            return one
        case ast.BinOp(left, ast.Mult() | ast.Div() | ast.MatMult() as op, right):
            rest = without_sign(left)
            return None if rest is None else ast.BinOp(rest, op, right)
    return None


def signed(tree: ast.expr) -> ast.expr:
    """An expression without a plus before a minus."""
    return _Signed().visit(tree)  # type: ignore[no-any-return]


def _product(tree: ast.expr) -> ast.expr:
    """``2 * (a * b)`` as ``2 * a * b``."""
    match tree:
        case ast.BinOp(
            ast.Constant() | ast.UnaryOp() as k, ast.Mult(), ast.BinOp(a, ast.Mult(), b)
        ):
            return ast.BinOp(_product(ast.BinOp(k, ast.Mult(), a)), ast.Mult(), b)
    return tree


def _same_classes(trees: Iterable[ast.expr]) -> str | None:
    """The number of classes if all calls of ``onehot`` share it; then it is taken out of them."""
    calls = [
        one for tree in trees for one in ast.walk(tree)
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id == "onehot"
    ]  # fmt: skip
    classes = {ast.unparse(one.args[1]) for one in calls}
    if len(classes) != 1 or not next(iter(classes)).isdigit():
        return None
    for one in calls:
        del one.args[1:]
    return classes.pop()


class _Filled(ast.NodeTransformer):
    """Puts expressions into the holes of another."""

    def __init__(self, holes: Mapping[str, ast.expr], only_names: bool = False) -> None:
        self.holes, self.only_names = holes, only_names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        inside = self.holes.get(node.id, node)
        return node if self.only_names and not isinstance(inside, ast.Name) else inside


METHODS = {
    "all", "any", "argmax", "argmin", "cumsum", "max", "mean", "min", "prod", "reshape", "std", "sum", "var",
}  # fmt: skip


class _Styled(ast.NodeTransformer):
    """Methods on names, where NumPy has both: ``dz.sum(axis=0)``."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(value=ast.Name(id="np"), attr=name) if name in METHODS and node.args:
                first = node.args[0]
                if isinstance(first, ast.Name) and not first.id.startswith("_in"):
                    return ast.Call(ast.Attribute(first, name), node.args[1:], node.keywords)
        return node


class _Named(ast.NodeTransformer):
    """Final names for placeholders, in a copy."""

    def __init__(self, names: Mapping[str, str], rows: str) -> None:
        self.names = dict(names)
        self.names[ROWS] = rows

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            return _parsed(self.names.get(node.id, node.id))
        fields = {
            key: [self.visit(one) if isinstance(one, ast.AST) else one for one in value]
            if isinstance(value, list)
            else self.visit(value) if isinstance(value, ast.AST) else value
            for key, value in ast.iter_fields(node)
        }  # fmt: skip
        return type(node)(**fields)
