"""Wrong factors in place of the derivative of an elementwise function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ...core import Node
from ..case import Case, between, ratio, slope, slope_at
from ..rules import Array, Change, Edit, Mistake, norm

Rule = Callable[[Array], Array]
# Derivatives that are written with the output: of the sigmoid, of tanh, of ReLU.
WITH_OUTPUT: dict[str, Rule] = {
    "{0} * (1 - {0})": lambda v: v * (1 - v),
    "(1 - {0}**2)": lambda v: 1 - v * v,
    "({0} > 0)": lambda v: (v > 0).astype(float),
}
# What is written instead: those of other functions, and slips in these.
OTHERS: dict[str, Rule] = {
    "{0}": lambda v: v,
    "{0}**2": lambda v: v * v,
    "(1 - {0})": lambda v: 1 - v,
    "(1 + {0})": lambda v: 1 + v,
    "{0} * (1 + {0})": lambda v: v * (1 + v),
    "(1 + {0}**2)": lambda v: 1 + v * v,
    "(1 - {0})**2": lambda v: (1 - v) ** 2,
    "{0}**2 * (1 - {0})": lambda v: v * v * (1 - v),
    "(1 - {0}**2)**2": lambda v: (1 - v * v) ** 2,
    "{0} * (1 - {0}**2)": lambda v: v * (1 - v * v),
    "{0} * (1 - {0}) of the sigmoid of {0}": lambda v: _sigmoid(v) * (1 - _sigmoid(v)),
    "(1 - tanh({0})**2)": lambda v: 1 - np.tanh(v) ** 2,
    "sigmoid({0})": lambda v: _sigmoid(v),
    "tanh({0})": np.tanh,
    "exp({0})": np.exp,
    "exp(-{0})": lambda v: np.exp(-v),
    "cos({0})": np.cos,
    "sin({0})": np.sin,
    "sign({0})": np.sign,
    "1 / {0}": lambda v: 1 / v,
    "1 / {0}**2": lambda v: 1 / v**2,
    "({0} < 1)": lambda v: (v < 1).astype(float),
    "np.where({0} > 0, 1, 0.01)": lambda v: np.where(v > 0, 1, 0.01),
    "np.where({0} > 0, 1, 0.1)": lambda v: np.where(v > 0, 1, 0.1),
    "np.where({0} > 0, 1, exp({0}))": lambda v: np.where(v > 0, 1, np.exp(v)),
}
PLAIN = ("missing_activation_derivative", "derivative_all_ones", "kink")
# Kinds that are looked for together with a constant factor, as two mistakes in one line.
WITH_A_FACTOR = (
    "missing_activation_derivative",
    "derivative_at_wrong_point",
    "derivative_wrong_function",
)
POWERS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)


def _sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    span = case.span(target)
    for z in sorted(span.inside, key=lambda node: node.order):
        for a in reversed(span.steps):
            direct = z in a.inputs
            if a is z or a.value.shape != z.value.shape or not (direct or a in case.names):
                continue
            if not a.value.ndim and (target.value.ndim or not direct):
                continue
            block = between(case, z, a)
            found = slope(block, z, a) if block else None
            if found is None or np.ptp(found) == 0:
                continue
            if _is_linear(block, z, found):
                yield from _of_mask(case, z, a, found)
                continue
            yield from _of_block(case, target, block, z, a, found)


def _of_block(
    case: Case, target: Node, block: list[Node], z: Node, a: Node, right: Array
) -> Iterator[Mistake]:
    seen: list[Array] = []
    with np.errstate(all="ignore"):
        for kind, text, other in _instead(case, target, block, z, a, right):
            fits = other.shape == right.shape and bool(np.isfinite(other).all())
            if fits and kind not in PLAIN:
                fits = not _is_multiple(other, right) and not any(
                    np.allclose(other, one) for one in seen
                )
            if fits:
                seen.append(other)
                if kind in WITH_A_FACTOR:
                    edit = Edit(a, z, _factor(other), alone=True)
                    yield Mistake(
                        kind, text + ", and there is a factor {c} too many", (edit,), True, 3
                    )
                rank = (1 if a in case.names else 2) - (kind in PLAIN)
                yield Mistake(kind, text, (Edit(a, z, _factor(other), alone=True),), rank=rank)
        text = f"the mask in d{case.name(z)} is where the gradient itself is positive"
        if len(np.unique(right)) == 2:
            edit = Edit(a, z, lambda g, d: g * (g > 0), alone=True)
            yield Mistake("mask_wrong", text, (edit,))
        if z in a.inputs and len(block) == 1:
            for k in POWERS:
                for v, whose in ((z.value, case.name(z)), (a.value, case.name(a))):
                    other = right * v**k
                    if np.isfinite(other).all():
                        text = f"the derivative of {case.name(a)} has {whose}**{k:g} too many"
                        edit = Edit(a, z, _factor(other), alone=True)
                        yield Mistake("derivative_wrong_function", text, (edit,), free=True, rank=3)
        yield from _in_loop(case, block, z, a)


def _is_multiple(other: Array, right: Array) -> bool:
    """Whether the difference is but a factor, if it is one at all."""
    return norm(other - ratio(other, right) * right) <= 1e-9 * norm(other)


def _factor(other: Array) -> Change:
    return lambda g, d: g * other


def _in_loop(case: Case, block: Sequence[Node], z: Node, a: Node) -> Iterator[Mistake]:
    """The same at each turn of a loop: only what needs no other values."""
    ends = case.siblings(a)
    starts = case.siblings(z)
    if len(ends) < 2 or len(starts) != len(ends):
        return
    pairs = [(s, e, between(case, s, e)) for s, e in zip(starts, ends)]
    if not all(inner for _, _, inner in pairs):
        return
    slopes = [slope(inner, s, e) for s, e, inner in pairs]
    if any(one is None for one in slopes):
        return

    def made(kind: str, text: str, factors: Sequence[Array | None]) -> Iterator[Mistake]:
        if all(one is not None and np.isfinite(one).all() for one in factors):
            edits = [
                Edit(e, s, _factor(one), alone=True)
                for (s, e, _), one in zip(pairs, factors) if one is not None
            ]  # fmt: skip
            yield Mistake(kind, text, tuple(edits))

    name, point = case.name(a), case.name(z)
    ones = [np.ones_like(s.value) for s, _, _ in pairs]
    yield from made(
        "missing_activation_derivative", f"d{point} lacks the derivative of {name}", ones
    )
    text = f"the derivative is taken at {name} instead of {point}"
    yield from made(
        "derivative_at_wrong_point", text, [slope_at(i, s, e.value) for s, e, i in pairs]
    )
    rules = {**WITH_OUTPUT, **OTHERS}
    for said, rule in rules.items():
        fits = [
            np.allclose(rule(e.value), one, rtol=1e-6, atol=1e-9)
            for (_, e, _), one in zip(pairs, slopes)
            if one is not None
        ]
        if all(fits):
            text = f"{said.format(name)} is written with {point}"
            yield from made("derivative_at_wrong_point", text, [rule(s.value) for s, _, _ in pairs])
            for other in case.facts.series.values():
                if len(other) == len(pairs) and all(
                    o.value.shape == s.value.shape for o, (s, _, _) in zip(other, pairs)
                ):
                    text = f"{said.format(name)} is written with {case.name(other[0])}"
                    yield from made("wrong_operand", text, [rule(o.value) for o in other])
            before = [rule(e.value) for _, e, _ in pairs]
            text = f"{said.format(name)} is written with {name} of another turn"
            yield from made("off_by_one", text, [before[0], *before[:-1]])
            yield from made("off_by_one", text, [*before[1:], before[-1]])
            start = [rule(np.zeros_like(pairs[0][1].value)), *before[:-1]]
            yield from made("off_by_one", text, start)
        else:
            text = f"{said.format(name)} is not the derivative of {name}"
            yield from made("derivative_wrong_function", text, [rule(e.value) for _, e, _ in pairs])
            text = f"{said.format(point)} is not the derivative of {name}"
            yield from made("derivative_wrong_function", text, [rule(s.value) for s, _, _ in pairs])


def _instead(
    case: Case, target: Node, block: list[Node], z: Node, a: Node, right: Array
) -> Iterator[tuple[str, str, Array]]:
    point, output = case.name(z), case.name(a)
    x, y = z.value, a.value
    mask = bool(np.isin(right, (0, 1)).all())
    for side in (0.0, 1.0, 0.5):
        if mask and np.any(x == 0):
            text = (
                f"the derivative of {output} is taken as {side:g} where {point} is 0: a convention"
            )
            yield "kink", text, np.where(x == 0, side, right)
    ones = np.ones_like(right)
    lacks = ("missing_activation_derivative", f"d{point} lacks the derivative of {output}", ones)
    everywhere = (
        "derivative_all_ones",
        f"the derivative of {output} is taken as 1 everywhere",
        ones,
    )
    yield from (everywhere, lacks) if _writes_ones(case, target) else (lacks, everywhere)
    sides = np.unique(right)
    if len(sides) == 2:
        yield "mask_wrong", f"the mask in d{point} is the opposite one", sides.sum() - right
    there = _other_branch(block, z)
    if there is not None:
        yield "mask_wrong", f"the two branches in d{point} are exchanged", there
    there = slope_at(block, z, y)
    if there is not None:
        text = f"the derivative is taken at {output} instead of {point}"
        yield "derivative_at_wrong_point", text, there
    yield "extra_term", f"the derivative of {output} is multiplied in twice", right * right
    for name, array in case.facts.stale:
        there = slope_at(block, z, array)
        if there is not None:
            text = f"the derivative is taken at {name}, which is not of this forward pass"
            yield "stale_cache", text, there
    written = [(said, rule) for said, rule in {**WITH_OUTPUT, **OTHERS}.items()
               if np.allclose(rule(y), right, rtol=1e-6, atol=1e-9)]  # fmt: skip
    for said, rule in written:
        text = f"{said.format(output)} is written with {point}"
        yield ("mask_wrong" if mask else "derivative_at_wrong_point"), text, rule(x)
        for array in (*case.facts.rewritten.get(a, ()), *case.facts.rewritten.get(z, ())):
            text = f"{said.format(output)} is written with what {output} was overwritten by"
            yield "overwritten_in_place", text, rule(array)
        for name, array in case.facts.stale:
            if array.shape == right.shape:
                text = f"{said.format(output)} is written with {name}, which is not of this forward pass"
                yield "stale_cache", text, rule(array)
    yield from _elsewhere(case, block, z, a, mask, written)
    for said, rule in {**WITH_OUTPUT, **OTHERS}.items():
        for v, name in ((y, output), (x, point)):
            other = rule(v)
            if np.ptp(other) and (said, rule) not in written:
                yield (
                    "derivative_wrong_function",
                    f"{said.format(name)} is not the derivative of {output}",
                    other,
                )
                if np.any(right == 1) and not np.all(right == 1):
                    yield (
                        "derivative_wrong_function",
                        f"{said.format(name)} is not the derivative of {output} where that is not 1",
                        np.where(right == 1, 1, other),
                    )
    yield from _two_sided(case, target, z, a, right)


def _is_linear(block: Sequence[Node], z: Node, right: Array) -> bool:
    """Whether the derivative is the same everywhere, as that of a product with a constant."""
    names = {node.primitive.name for node in block if node.primitive is not None}
    there = slope_at(block, z, 2 * z.value + 1)
    linear = {"multiply", "divide", "add", "subtract", "negative", "copy"}
    return names <= linear and there is not None and bool(np.array_equal(right, there))


def _of_mask(case: Case, z: Node, a: Node, right: Array) -> Iterator[Mistake]:
    """The product with a constant that lets some elements through: dropout, padding."""
    values = np.unique(right)
    if len(values) != 2 or values[0] != 0:
        return
    dz, name = f"d{case.name(z)}", case.name(a)

    def made(kind: str, text: str, other: Array, free: bool = False, rank: int = 1) -> Mistake:
        return Mistake(kind, text, (Edit(a, z, _factor(other), alone=True),), free, rank)

    text = f"the mask of {name} is not applied to {dz}"
    yield made("mask_not_applied", text, np.ones_like(right), rank=0)
    yield made("mask_not_applied", text + " (and a factor {c})", np.ones_like(right), free=True)
    opposite = (right == 0).astype(float)
    yield made("mask_wrong", f"the mask in {dz} is the opposite one", opposite * values[1], rank=0)
    yield made(
        "mask_wrong", f"the mask in {dz} is the opposite one, times {{c}}", opposite, free=True
    )
    yield made(
        "mask_wrong", f"the mask in {dz} lacks its scale {values[1]:.6g}", (right > 0).astype(float)
    )
    yield made("mask_wrong", f"the mask is applied to {dz} twice", right * right)
    for node, value in case.arrays(right.shape):
        if (
            not node.needs
            and set(np.unique(value)) <= {0, *np.unique(value)[-1:]}
            and np.any(value == 0)
        ):
            text = f"the mask in {dz} is {case.name(node)}, which belongs elsewhere"
            yield made("mask_reused", text, value)
    there = case.theirs.get(z)
    g = case.given.get(a, case.local.arrived.get(a))
    if there is not None and g is not None and there.shape == g.shape:
        let = there != 0
        if not np.array_equal(let, right != 0) and not let.all():
            text = f"the mask in {dz} is another one than that of the forward pass, times {{c}}"
            yield made("mask_wrong", text, let.astype(float), free=True, rank=2)


def _other_branch(block: Sequence[Node], z: Node) -> Array | None:
    """The derivative if each ``np.where`` chose the other branch."""
    if not any(node.primitive is not None and node.primitive.name == "where" for node in block):
        return None
    moved = {z: Node(z.value, True)}
    for node in block:
        assert node.primitive is not None
        inputs = [moved.get(one, one) for one in node.inputs]
        if node.primitive.name == "where":
            condition = inputs[0]
            inputs[0] = Node(~np.asarray(condition.value, bool))
        value = node.primitive.fn(*[one.value for one in inputs], **(node.params or {}))
        if node.primitive.residuals:
            return None
        moved[node] = Node(np.asarray(value), True, node.primitive, tuple(inputs), node.params)
    return slope([moved[node] for node in block], moved[z], moved[block[-1]])


def _elsewhere(
    case: Case, block: list[Node], z: Node, a: Node, mask: bool, written: list[tuple[str, Rule]]
) -> Iterator[tuple[str, str, Array]]:
    """The derivative at the values of another layer."""
    point, output = case.name(z), case.name(a)
    for node, value in case.arrays(z.value.shape):
        if node is z or node is a:
            continue
        name = case.name(node)
        for said, rule in written:
            kind = "mask_wrong" if mask else "derivative_at_wrong_point"
            yield kind, f"{said.format(output)} is written with {name}", rule(value)
        there = slope_at(block, z, value)
        if there is not None:
            kind = "mask_wrong" if mask else "derivative_at_wrong_point"
            yield kind, f"the derivative is taken at {name} instead of {point}", there


def _two_sided(
    case: Case, target: Node, z: Node, a: Node, right: Array
) -> Iterator[tuple[str, str, Array]]:
    """Where the derivative has two values, two others: the slope of a leaky ReLU, say."""
    sides = np.unique(right)
    there = case.theirs[target]
    if len(sides) != 2 or there.shape != target.value.shape:
        return
    span = case.span(target)
    made = []
    for side in sides:
        part = Edit(a, z, _factor((right == side).astype(float)), alone=True)
        arrived = span.run(case.start, [part])
        if arrived is None:
            return
        made.append(np.ravel(arrived))
    if there.size < 4 or not np.isfinite(there).all():
        return
    found, *_ = np.linalg.lstsq(np.array(made).T, np.ravel(there), rcond=None)
    low, high = (float(round(c, 9)) for c in found)
    if low == high or abs(high - sides[1]) > 1e-6:
        return
    said = f"{low:g} and {high:g}, not {sides[0]:g} and {sides[1]:g}"
    text = f"the derivative of {case.name(a)} is taken as {said}"
    yield "derivative_wrong_function", text, np.where(right == sides[0], low, high)


def _writes_ones(case: Case, target: Node) -> bool:
    """Whether the user's own expression multiplies by an array of ones."""
    return any(
        node.primitive is not None and node.primitive.name == "multiply"
        and any(np.size(one.value) > 1 and np.all(one.value == 1) for one in node.inputs)
        for node in case.facts.written.get(target, ())
    )  # fmt: skip
