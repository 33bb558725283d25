"""Rewriting a recorded program into the one a person would write.

Each rule keeps the numbers, up to rounding: factors of 1 go, a sign and a coefficient move to the
front, a division by a number goes last, what NumPy broadcasts anyway is not broadcast first, two
transposes cancel. Steps that compute the same are one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np

from ..core import Primitive
from ..ops.arithmetic import add, cast, divide, multiply, negative, power_of, subtract, where
from ..ops.elementwise import square
from ..ops.embedding import scatter_rows
from ..ops.index import read, scatter_add
from ..ops.linalg import matmul_2d
from ..ops.products import contract
from ..ops.reduce import sum_over
from ..ops.shape import expand_axes, join, permute, pile, reshape_to, squeeze_axes, stretch
from ..program import Length, Program, Shape, Step

Rule = Callable[["Simplifier", Step], Step | None]


class Simplifier:
    """Makes steps, each only once, and the simpler one where there is one.

    Attributes
    ----------
    of : dict
        The rewritten step of each recorded one.
    """

    def __init__(
        self, program: Program, whole_gradients: bool = False, in_loops: bool = False
    ) -> None:
        self.in_loops = in_loops
        self.of: dict[Step, Step] = {step: step for step in program.inputs}
        self.known: dict[Any, Step] = {}
        # The gradient of what the user named is a quantity of its own: rules do not look into it.
        named = [
            g for one in program.passes for step, g in one.cotangents.items()
            if step.operation is not None and (whole_gradients or step.name is not None)
        ]  # fmt: skip
        self.named, self.whole = set(named), set[Step]()
        residuals: dict[Step, list[Step]] = {step: [] for step in program.steps}
        for one in program.passes:
            for owner, _, residual in one.residuals:
                residuals[owner].append(residual)
        for step in program.steps:
            for residual in residuals[step]:
                for before in _back_to(residual, self.of):
                    self.rewrite(before, recorded=True)
            self.rewrite(step, recorded=not step.by_formula)

    def rewrite(self, step: Step, recorded: bool = False) -> Step:
        """The rewritten step; one the user recorded keeps its form."""
        if step in self.of:
            return self.of[step]
        if step.operation is None:
            return step
        inputs = tuple([self.rewrite(one) for one in step.inputs])
        params = mapped(step.params, self.rewrite)
        made = self.make(step.operation, inputs, params, step, recorded)
        self.of[step] = made
        if step in self.named and made.operation is not stretch:
            self.whole.add(made)
        return made

    def sees(self, step: Step, *operations: Primitive) -> bool:
        """Whether a step is one of these operations, and a rule may take it apart: not a product,
        quotient or negative that the user has computed, which would be computed twice."""
        mine = step.by_formula or step.operation not in (multiply, divide, negative)
        return step.operation in operations and step not in self.whole and mine

    def make(
        self,
        operation: Primitive,
        inputs: Sequence[Step],
        params: Mapping[str, Any],
        like: Step,
        plain: bool = False,
    ) -> Step:
        """The simplest step of this operation, of the shape, dtype and source of ``like``."""
        rough = Step(
            operation,
            tuple(inputs),
            dict(params),
            like.shape,
            like.dtype,
            source=like.source,
            by_formula=not plain,
        )
        rules = PLAIN_RULES if plain else RULES
        for rule in rules.get(operation, ()):
            simpler = rule(self, rough)
            if simpler is not None:
                return simpler
        elementwise = operation is where or isinstance(operation.fn, np.ufunc)
        if elementwise and not plain:
            rough.inputs = _thinned(rough)
        if not elementwise and operation is not stretch:
            rough.inputs = tuple([self._array(one) for one in rough.inputs])
        key = (operation, tuple(map(self._key, rough.inputs)), _frozen(params, self._key))
        found = self.known.setdefault(key, rough)
        if found is rough and plain:
            found.value = like.value
        if plain and found.name is None:
            found.name = like.name
        return found

    def _key(self, step: Step) -> Any:
        """What two steps have in common that are the same; numbers are the same by value."""
        if step.operation is None and not isinstance(step.value, np.ndarray):
            return (type(step.value), repr(step.value), str(step.dtype))
        return id(step)

    def _array(self, step: Step) -> Step:
        """A cotangent that is a number as an array, for what is not arithmetic."""
        if number_of(step) is None or step.dtype is None:
            return step
        return Step(
            stretch, (step,), {"shape": step.shape}, step.shape, step.dtype, by_formula=True
        )

    # -- what the rules are made of ----------------------------------------------------------------

    def again(self, like: Step, operation: Primitive, *inputs: Step, **params: Any) -> Step:
        """Another operation, of the shape that broadcasting gives."""
        shape = broadcast(*[one.shape for one in inputs])
        model = Step(shape=shape, dtype=like.dtype, source=like.source, by_formula=True)
        return self.make(operation, inputs, params, model)

    def spread(self, step: Step, like: Step) -> Step:
        """The step, in the shape of ``like``."""
        if tuple(step.shape) == tuple(like.shape):
            return step
        return self.make(stretch, (step,), {"shape": like.shape}, like)


def mapped(params: Any, change: Callable[[Step], Any]) -> Any:
    """Parameters with ``change(step)`` for each step in them."""
    if isinstance(params, Step):
        return change(params)
    if isinstance(params, dict):
        return {key: mapped(value, change) for key, value in params.items()}
    if type(params) is tuple:
        return tuple([mapped(value, change) for value in params])
    return params


def _back_to(step: Step, done: Mapping[Step, Step]) -> list[Step]:
    """A step and the steps it is computed from that are not done, in their order."""
    found: dict[Step, None] = {}
    todo = [step]
    while todo:
        one = todo.pop()
        if one not in done and one.operation is not None:
            found[one] = None
            todo.extend(one.inputs)
    return list(reversed(found))


def _frozen(value: Any, key: Callable[[Step], Any]) -> Any:
    if isinstance(value, Step):
        return key(value)
    if isinstance(value, dict):
        return tuple([(name, _frozen(one, key)) for name, one in sorted(value.items())])
    if type(value) is tuple:
        return tuple([_frozen(one, key) for one in value])
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    return (
        value
        if isinstance(value, str | int | float | bool | type(None))
        else (type(value), repr(value))
    )


# --------------------------------------------------------------------------------------------------
# Numbers and shapes
# --------------------------------------------------------------------------------------------------


def number_of(step: Step) -> Any:
    """The value of a step that is a plain number; else None."""
    if step.operation is not None or isinstance(step.value, np.ndarray | Length | bool):
        return None
    return step.value if isinstance(step.value, int | float | np.number) else None


def is_scalar(step: Step) -> bool:
    """Whether it is a number, known or not: a leaf or result without axes."""
    return step.shape == ()


def broadcast(*shapes: Shape) -> Shape:
    """The shape that broadcasting gives, in which lengths of the batch stay such."""
    lengths = []
    for axis in zip_longest(*[shape[::-1] for shape in shapes], fillvalue=1):
        longer = [n for n in axis if n != 1] or list(axis)
        lengths.append(next((n for n in longer if isinstance(n, Length)), longer[0]))
    return tuple(lengths[::-1])


def _thinned(step: Step) -> tuple[Step, ...]:
    """The arguments of an elementwise operation without the stretching that NumPy does itself."""
    inputs = list(step.inputs)
    for i, one in enumerate(inputs):
        while one.operation is stretch or _only_adds_leading_axes(one):
            others = [other.shape for k, other in enumerate(inputs) if k != i]
            if broadcast(one.inputs[0].shape, *others) != tuple(step.shape):
                break
            one = one.inputs[0]
        inputs[i] = one
    return tuple(inputs)


def _only_adds_leading_axes(step: Step) -> bool:
    if step.operation not in (expand_axes, reshape_to):
        return False
    (x,) = step.inputs
    added = len(step.shape) - len(x.shape)
    return added > 0 and tuple(step.shape) == (1,) * added + tuple(x.shape)


def _number(value: Any, like: Step) -> Step:
    """A number that stands for a cotangent: its dtype tells it from a number in a formula."""
    return Step(value=value, shape=like.shape, dtype=like.dtype, source=like.source)


def _folded(value: Any) -> Any:
    """A number as a whole number if it is one."""
    return int(value) if isinstance(value, float) and value == int(value) else value


# --------------------------------------------------------------------------------------------------
# Rules
# --------------------------------------------------------------------------------------------------


def _times(s: Simplifier, step: Step) -> Step | None:
    a, b = _thinned(step)
    m, n = number_of(a), number_of(b)
    if m is not None and n is not None:
        return _number(_folded(m * n), step)
    if n is not None and m is None:
        return s.again(step, multiply, b, a)  # the coefficient first
    if m is not None and b.dtype == bool:
        b = s.make(
            cast,
            (b,),
            {"dtype": step.dtype},
            Step(shape=b.shape, dtype=step.dtype, source=step.source),
        )
        return s.again(step, multiply, a, b)
    if m == 1:
        return s.spread(b, step)
    if m == -1:
        return s.spread(s.again(step, negative, b), step)
    if m == 0:
        return s.spread(a, step)
    for one, other in ((a, b), (b, a)):
        if one.operation is stretch and number_of(one.inputs[0]) == 1:
            return s.spread(other, step)
        if one.operation is stretch and is_scalar(one.inputs[0]) and is_scalar(other):
            return s.spread(
                s.again(step, multiply, *_swapped(one.inputs[0], other, one is b)), step
            )
        if s.sees(one, negative):
            return s.again(
                step, negative, s.again(step, multiply, *_swapped(one.inputs[0], other, one is b))
            )
        if s.sees(one, divide) and is_scalar(one.inputs[1]):
            product = s.again(step, multiply, *_swapped(one.inputs[0], other, one is b))
            return s.again(step, divide, product, one.inputs[1])
    if m is not None and s.sees(b, divide):
        k, rest = _coefficient(s, b.inputs[1])
        if k != 1 and k * (m // k) == m:
            quotient = s.again(step, divide, b.inputs[0], rest)
            return s.again(step, multiply, _number(_folded(m / k), step), quotient)
    if m is not None and s.sees(b, multiply) and s.sees(b.inputs[0], divide):
        first, second = b.inputs
        if _divisor(s, first) != 1:
            scaled = s.make(multiply, (a, first), {}, _shaped(first, first.shape))
            return s.again(step, multiply, scaled, second)
    if m is not None and s.sees(b, multiply) and s.sees(b.inputs[0], expand_axes):
        first, second = b.inputs
        if _divisor(s, first.inputs[0]) == m:
            x = first.inputs[0]
            inner = s.make(multiply, (a, x), {}, _shaped(x, x.shape))
            wide = s.make(expand_axes, (inner,), first.params, _shaped(first, first.shape))
            return s.again(step, multiply, wide, second)
    if s.sees(b, multiply):
        first, second = b.inputs
        k = number_of(first)
        if m is not None and k is not None:
            return s.again(step, multiply, _number(_folded(m * k), step), second)
        if k is not None:
            return s.again(step, multiply, first, s.again(step, multiply, a, second))
        if m is None and tuple(first.shape) == tuple(step.shape):
            return s.again(step, multiply, s.again(step, multiply, a, first), second)
    if s.sees(a, multiply) and number_of(a.inputs[0]) is not None and m is None:
        inner = s.again(step, multiply, a.inputs[1], b)
        return s.again(step, multiply, a.inputs[0], inner) if number_of(inner) is None else None
    if a is b:
        return s.make(power_of, (a,), {"exponent": 2}, step)
    return None


def _divisor(s: Simplifier, step: Step) -> Any:
    """The number that a step is divided by."""
    return _coefficient(s, step.inputs[1])[0] if s.sees(step, divide) else 1


def _swapped(one: Step, other: Step, swap: bool) -> tuple[Step, Step]:
    return (other, one) if swap else (one, other)


def _over(s: Simplifier, step: Step) -> Step | None:
    a, b = _thinned(step)
    m, n = number_of(a), number_of(b)
    if n == 1:
        return s.spread(a, step)
    if m is not None and n is not None and len(repr(m / n)) <= 6:
        return _number(_folded(m / n), step)
    if s.sees(a, negative):
        return s.again(step, negative, s.again(step, divide, a.inputs[0], b))
    if a.operation is stretch and is_scalar(a.inputs[0]) and is_scalar(b):
        return s.spread(s.again(step, divide, a.inputs[0], b), step)
    if s.sees(a, multiply) and n is not None and number_of(a.inputs[0]) == n:
        return s.spread(a.inputs[1], step)
    (m, x), (k, y) = _coefficient(s, a), _coefficient(s, b)
    if n is None and k != 1 and k * (m // k) == m:
        return s.again(step, divide, s.again(step, multiply, _number(_folded(m / k), step), x), y)
    return None


def _negative(s: Simplifier, step: Step) -> Step | None:
    (x,) = step.inputs
    n = number_of(x)
    if n is not None:
        return _number(-n, step)
    if s.sees(x, negative):
        return x.inputs[0]
    if s.sees(x, subtract):
        return s.again(step, subtract, *reversed(x.inputs))
    if s.sees(x, multiply) and number_of(x.inputs[0]) is not None:
        return s.again(step, multiply, _number(-number_of(x.inputs[0]), step), x.inputs[1])
    if x.operation is stretch:
        return s.spread(s.again(step, negative, x.inputs[0]), step)
    return None


def _plus(s: Simplifier, step: Step) -> Step | None:
    a, b = _thinned(step)
    if number_of(a) is not None and number_of(b) is not None:
        return _number(_folded(number_of(a) + number_of(b)), step)
    for one, other in ((a, b), (b, a)):
        if number_of(one) == 0:
            return s.spread(other, step)
    joined = _joined(s, [*_added(s, a), *_added(s, b)], step)
    if joined is not None:
        return joined
    if s.sees(b, negative):
        return s.again(step, subtract, a, b.inputs[0])
    if s.sees(a, negative):
        return s.again(step, subtract, b, a.inputs[0])
    (k, x), (m, y) = _coefficient(s, a), _coefficient(s, b)
    if x is y:
        return s.again(step, multiply, _number(k + m, step), x)
    if s.sees(a, add) and _coefficient(s, a.inputs[1])[1] is y:
        return s.again(step, add, a.inputs[0], s.again(step, add, a.inputs[1], b))
    if m < 0:
        return s.again(step, subtract, a, s.again(step, multiply, _number(-m, step), y))
    return None


# Of more parts the sum is that of a loop.
PARTS = 4


def _added(s: Simplifier, step: Step, many: bool = False) -> list[Step]:
    """The terms of a sum, if they are few."""
    terms: list[Step] = []
    todo = [step]
    while todo and (many or len(terms) + len(todo) < PARTS):
        one = todo.pop()
        if s.sees(one, add):
            todo.extend(reversed(one.inputs))
        else:
            terms.append(one)
    return [*terms, *reversed(todo)]


def _joined(s: Simplifier, parts: Sequence[Step], step: Step) -> Step | None:
    """Gradients of slices that lie side by side and cover an axis, or of its places, as one array."""
    if not all([s.sees(one, scatter_add) and one.shape == step.shape for one in parts]):
        return None
    cuts: dict[int, tuple[int, Step]] = {}
    kinds = set()
    for one in parts:
        index = one.params["index"]
        index = index if isinstance(index, tuple) else (index,)
        places = [i for i, part in enumerate(index) if part != slice(None)]
        if (
            len(places) != 1
            or not _is_plain(index[places[0]])
            or one.inputs[0].operation is stretch
        ):
            return None
        axis, part = places[0], index[places[0]]
        if isinstance(step.shape[axis], Length):
            return None
        start, stop = (part.start or 0, part.stop) if isinstance(part, slice) else (part, part + 1)
        cuts[start] = (step.shape[axis] if stop is None else stop, one.inputs[0])
        kinds.add((axis, isinstance(part, slice)))
    at, ordered = 0, []
    while at in cuts:
        at, piece = cuts.pop(at)
        ordered.append(piece)
    if len(kinds) != 1 or cuts or len(ordered) != len(parts):
        return None
    axis, sliced = kinds.pop()
    if at != step.shape[axis] or not (sliced or not s.in_loops):
        return None
    return s.make(join if sliced else pile, ordered, {"axis": axis}, step)


def _coefficient(s: Simplifier, step: Step) -> tuple[Any, Step]:
    """A step as a number times another one."""
    if s.sees(step, negative):
        k, x = _coefficient(s, step.inputs[0])
        return -k, x
    if s.sees(step, multiply) and number_of(step.inputs[0]) is not None:
        return number_of(step.inputs[0]), step.inputs[1]
    return 1, step


def _minus(s: Simplifier, step: Step) -> Step | None:
    a, b = _thinned(step)
    if number_of(b) == 0:
        return s.spread(a, step)
    if s.sees(b, negative):
        return s.again(step, add, a, b.inputs[0])
    (k, x), (m, y) = _coefficient(s, a), _coefficient(s, b)
    if x is y:
        return s.again(step, multiply, _number(k - m, step), x)
    if s.sees(a, subtract) and _coefficient(s, a.inputs[1])[1] is y:
        return s.again(step, subtract, a.inputs[0], s.again(step, add, a.inputs[1], b))
    return None


def _read(s: Simplifier, step: Step) -> Step | None:
    """A part of a part: ``x[:, 2:][:, 0]`` is ``x[:, 2]``."""
    (x,) = step.inputs
    if x.operation is None or x.operation is not step.operation or x.name is not None:
        return None
    index = _composed(x.inputs[0].shape, x.params["index"], step.params["index"])
    if index is None:
        return None
    return s.make(x.operation, x.inputs, {"index": index}, step, not step.by_formula)


def _scatter(s: Simplifier, step: Step) -> Step | None:
    """The gradient of a part of a part; that of a sum is the sum of those of its terms."""
    (g,) = step.inputs
    terms = _added(s, g, many=True)
    if len(terms) > 1 and all([one.operation is scatter_add for one in terms]):
        parts = [s.make(scatter_add, (one,), step.params, step) for one in terms]
        total = parts[0]
        for part in parts[1:]:
            total = s.again(step, add, total, part)
        return total
    if s.sees(g, scatter_add):
        index = _composed(step.shape, step.params["index"], g.params["index"])
        if index is not None:
            return s.make(scatter_add, g.inputs, step.params | {"index": index}, step)
    return None


def _composed(shape: Shape, first: Any, second: Any) -> Any:
    """One index for two in a row, of slices without a stride and of whole numbers from 0 on."""
    first, second = [index if isinstance(index, tuple) else (index,) for index in (first, second)]
    if not all([_is_plain(part) for part in (*first, *second)]):
        return None
    found = [*first, *[slice(None)] * (len(shape) - len(first))]
    free = [axis for axis, part in enumerate(found) if isinstance(part, slice)]
    for axis, part in zip(free, second):
        outer = found[axis]
        start, stop = outer.start or 0, outer.stop
        if isinstance(part, slice):
            ends = [stop, None if part.stop is None else start + part.stop]
            end = min([n for n in ends if n is not None], default=None)
            begin = start + (part.start or 0)
            found[axis] = slice(begin or None, end)
        else:
            found[axis] = start + part
    while len(found) > 1 and found[-1] == slice(None):
        found.pop()
    return tuple(found) if len(found) > 1 else found[0]


def _is_plain(part: Any) -> bool:
    ends = (
        (part.start or 0, part.stop or 0, part.step) if isinstance(part, slice) else (part, 0, None)
    )
    whole = all([isinstance(n, int) and not isinstance(n, bool | Length) for n in ends[:2]])
    return whole and min(ends[:2]) >= 0 and ends[2] in (None, 1)


def _power(s: Simplifier, step: Step) -> Step | None:
    if step.params["exponent"] == 0:
        return _number(1, step)  # also of 0 and nan, in NumPy
    return step.inputs[0] if step.params["exponent"] == 1 else None


def _transpose(s: Simplifier, step: Step) -> Step | None:
    (x,), axes = step.inputs, step.params["axes"]
    if axes == tuple(range(len(axes))):
        return x
    if s.sees(x, permute):
        found = tuple([x.params["axes"][axis] for axis in axes])
        if x.by_formula or found == tuple(range(len(found))):
            return s.make(permute, x.inputs, {"axes": found}, step)
        return None
    last = len(axes) - 1
    swapped = (*range(last - 1), last, last - 1)
    alike = all([len(one.shape) == len(x.shape) for one in x.inputs])
    if s.sees(x, matmul_2d) and x.by_formula and axes == swapped and alike:
        a, b = [
            s.make(
                permute, (one,), {"axes": axes}, _shaped(one, tuple([one.shape[i] for i in axes]))
            )
            for one in x.inputs
        ]
        return s.make(matmul_2d, (b, a), {}, step)
    return None


def _reshape(s: Simplifier, step: Step) -> Step | None:
    (x,) = step.inputs
    if tuple(x.shape) == tuple(step.shape):
        return x
    if s.sees(x, reshape_to):
        return s.make(reshape_to, x.inputs, step.params, step)
    if s.sees(x, sum_over) and not x.params["keepdims"]:
        kept = s.make(sum_over, x.inputs, x.params | {"keepdims": True}, _shaped(x, _kept(x)))
        if tuple(kept.shape) == tuple(step.shape):
            return kept
    if s.sees(x, sum_over) and x.params["keepdims"]:
        rest = tuple([n for axis, n in enumerate(x.shape) if axis not in x.params["axis"]])
        if rest == tuple(step.shape):
            return s.make(sum_over, x.inputs, x.params | {"keepdims": False}, step)
    if number_of(x) is not None:
        return s.spread(x, step)
    if s.sees(x, negative):
        return s.again(step, negative, s.make(reshape_to, x.inputs, step.params, step))
    return None


def _kept(total: Step) -> Shape:
    before, axes = total.inputs[0].shape, total.params["axis"]
    return tuple([1 if axis in axes else n for axis, n in enumerate(before)])


def _shaped(step: Step, shape: Shape) -> Step:
    return Step(shape=shape, dtype=step.dtype, source=step.source)


def _expand(s: Simplifier, step: Step) -> Step | None:
    (x,), axes = step.inputs, step.params["axis"]
    if not axes:
        return x
    if s.sees(x, sum_over) and not x.params["keepdims"] and x.params["axis"] == axes:
        return s.make(sum_over, x.inputs, x.params | {"keepdims": True}, step)
    if s.sees(x, divide) and is_scalar(x.inputs[1]) and s.sees(x.inputs[0], sum_over):
        wide = s.make(expand_axes, (x.inputs[0],), step.params, _shaped(x, step.shape))
        return s.again(step, divide, wide, x.inputs[1])
    if number_of(x) is not None:
        return s.spread(x, step)
    if x.operation is stretch and is_scalar(x.inputs[0]):
        return s.spread(x.inputs[0], step)
    return None


def _squeeze(s: Simplifier, step: Step) -> Step | None:
    (x,), axes = step.inputs, step.params["axis"]
    if not axes:
        return x
    if s.sees(x, expand_axes) and x.params["axis"] == axes:
        return x.inputs[0]
    if s.sees(x, sum_over) and x.by_formula and x.params == {"axis": axes, "keepdims": True}:
        return s.make(sum_over, x.inputs, x.params | {"keepdims": False}, step)
    if s.sees(x, matmul_2d):  # a product with a vector, which was a row or a column meanwhile
        row, column = x.inputs
        last = len(x.shape) - 1
        if last - 1 in axes and _was_vector(s, row, 0):
            row = row.inputs[0]
        if last in axes and _was_vector(s, column, 1):
            column = column.inputs[0]
        flat = len(x.inputs[0].shape) - len(row.shape) + len(x.inputs[1].shape) - len(column.shape)
        if flat == len(axes):
            return s.make(matmul_2d, (row, column), {}, step)
    if s.sees(x, multiply):  # each factor without the axes
        factors = [
            one if one.shape == () else one.inputs[0] for one in x.inputs
            if one.shape == () or (s.sees(one, expand_axes) and one.params["axis"] == axes)
        ]  # fmt: skip
        if len(factors) == 2:
            return s.make(multiply, factors, {}, step)
    return None


def _was_vector(s: Simplifier, step: Step, axis: int) -> bool:
    return s.sees(step, expand_axes) and len(step.shape) == 2 and step.params["axis"] == (axis,)


def _column_times_row(s: Simplifier, step: Step) -> Step | None:
    """A product whose inner length is 1 multiplies elements."""
    a, b = step.inputs
    if min(len(a.shape), len(b.shape)) > 1 and a.shape[-1] == 1:
        return s.make(multiply, (a, b), {}, step)
    return None


def _product_with_ones(s: Simplifier, step: Step) -> Step | None:
    """A product with ones adds up columns or rows."""
    a, b = step.inputs
    for ones, other, axis in ((b, a, 1), (a, b, 0)):
        keepdims = len(ones.shape) == 2
        if _is_ones(ones) and len(other.shape) == 2 and (not keepdims or ones.shape[axis] == 1):
            return s.make(sum_over, (other,), {"axis": (axis,), "keepdims": keepdims}, step)
    return None


def _contracted(s: Simplifier, step: Step) -> Step | None:
    """``np.einsum("k,->k", x, 1)`` is ``x``."""
    given, result = str(step.params["subscripts"]).split("->")
    left, right = given.split(",")
    a, b = step.inputs
    for mine, other, one, x in ((left, right, a, b), (right, left, b, a)):
        if mine == "" and other == result and _is_ones(one):
            return x
    return None


def _thin_scatter(s: Simplifier, step: Step) -> Step | None:
    """What NumPy repeats anyway is not repeated before it is added."""
    g, *indices = step.inputs
    if g.operation is not stretch or is_scalar(g.inputs[0]) or step.operation is None:
        return None
    if len(g.inputs[0].shape) != len(g.shape):
        return None
    return s.make(step.operation, (g.inputs[0], *indices), step.params, step)


def _is_ones(step: Step) -> bool:
    inside = step.inputs[0] if step.operation is stretch else step
    return bool(number_of(inside) == 1)


def _same_axes(s: Simplifier, step: Step) -> Step | None:
    axes = step.params["axes"]
    return step.inputs[0] if axes == tuple(range(len(axes))) else None


def _times_seed(s: Simplifier, step: Step) -> Step | None:
    """A recorded gradient starts from a cotangent of 1."""
    seed, x = step.inputs
    is_seed = number_of(seed) == 1 and isinstance(seed.value, np.generic)
    return x if is_seed and tuple(x.shape) == tuple(step.shape) else None


def _transposed_vector(s: Simplifier, step: Step) -> Step | None:
    """The transpose of a column is a row."""
    (x,), axes = step.inputs, step.params["axes"]
    if s.sees(x, expand_axes) and axes == (1, 0) and len(x.params["axis"]) == 1:
        return s.make(expand_axes, x.inputs, {"axis": (1 - x.params["axis"][0],)}, step)
    return None


def _stretch(s: Simplifier, step: Step) -> Step | None:
    (x,) = step.inputs
    if tuple(x.shape) == tuple(step.shape):
        return x
    if x.operation is stretch or (s.sees(x, expand_axes) and x.inputs[0].shape == ()):
        return s.spread(x.inputs[0], step)
    return None


def _sum(s: Simplifier, step: Step) -> Step | None:
    (x,) = step.inputs
    if not step.params["axis"]:
        return x
    if s.sees(x, negative):
        return s.again(step, negative, s.make(sum_over, x.inputs, step.params, step))
    if s.sees(x, permute) and len(x.shape) == 2 and not step.params["keepdims"]:
        axis = tuple([1 - axis for axis in step.params["axis"]])
        return s.make(sum_over, x.inputs, step.params | {"axis": axis}, step)
    if all([x.shape[axis] == 1 for axis in step.params["axis"]]) and step.params["keepdims"]:
        return x
    return None


def _where(s: Simplifier, step: Step) -> Step | None:
    """A choice between two numbers has the dtype of neither."""
    condition, a, b = _thinned(step)
    if number_of(a) is None or number_of(b) is None:
        return None
    full = replace(step, operation=stretch, inputs=(a,), params={"shape": step.shape})
    return replace(step, inputs=(condition, full, b))


def _square(s: Simplifier, step: Step) -> Step | None:
    return s.make(power_of, step.inputs, {"exponent": 2}, step)


RULES: dict[Primitive, tuple[Rule, ...]] = {
    multiply: (_times,),
    divide: (_over,),
    negative: (_negative,),
    add: (_plus,),
    subtract: (_minus,),
    power_of: (_power,),
    permute: (_transposed_vector, _transpose),
    reshape_to: (_reshape,),
    expand_axes: (_expand,),
    squeeze_axes: (_squeeze,),
    matmul_2d: (_product_with_ones, _column_times_row),
    contract: (_contracted,),
    scatter_rows: (_thin_scatter,),
    stretch: (_stretch,),
    sum_over: (_sum,),
    square: (_square,),
    where: (_where,),
    read: (_read,),
    scatter_add: (_thin_scatter, _scatter),
}
# What the user wrote stays as it is, but for what the engine put around vectors.
PLAIN_RULES: dict[Primitive, tuple[Rule, ...]] = {
    squeeze_axes: (_squeeze,),
    reshape_to: (_reshape,),
    permute: (_same_axes,),
    multiply: (_times_seed,),
    read: (_read,),
}
