"""Expressions with open places: what lines of a loop have in common, and what differs by round."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .layout import without_sign


class DoesNotFit(Exception):
    """A line that is not like those of the other rounds; its argument is the run, if there is one."""


class Spec(NamedTuple):
    """What stands in an open place in round ``t``.

    ``kind`` is "name" or "constant" (always ``key``), "power" (see `Power`), "number", "item" (of
    the list of arguments ``key``), "own" (what line ``key`` computes in round ``t + start``),
    "other" (the same of another loop), "gradient" or "other gradient" (the same of the backward
    pass). Whole numbers and indices are ``slope * t + start``.
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


def next_open(specs: Iterator[Spec]) -> Callable[[Any], Open]:
    """Makes an open place of each specification in turn."""
    return lambda _: Open(next(specs))


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


def power(now: float, before: float, t: int, steps: int) -> Spec:
    """The power that two rounds suggest: as of a decaying learning rate, or a bias correction."""
    if 0 < before < 1 and 0 < now < 1:
        base = _short(((1 - now) / (1 - before)) ** (1 / steps))
        n = np.log(1 - now) / np.log(base) if 0 < base < 1 else np.nan
        if np.isfinite(n) and abs(n - round(n)) < 1e-6:
            return Spec("power", Power(1.0, base, True), 1, round(n) - t)
    if now * before > 0:
        base = _short((now / before) ** (1 / steps))
        return Spec("power", Power(_short(now / base**t), base, False), 1, 0)
    raise DoesNotFit


def _short(value: float) -> float:
    return float(f"{value:.11g}")


def text_of(tree: ast.AST) -> str:
    """An expression as source in which floats that differ by rounding are the same."""
    floats = r"\d+\.\d+(?:e[-+]?\d+)?|\d+e-\d+"
    return re.sub(floats, lambda found: f"{float(found.group()):.11g}", ast.unparse(tree))


def _is_open(node: Any) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    return isinstance(node, ast.Name) and not isinstance(node, Final) and node.id != "np"


def places(tree: ast.AST) -> list[Any]:
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
                if not (
                    isinstance(node, ast.Call) and name == "func" and isinstance(one, ast.Name)
                ):
                    visit(one)

    visit(tree)
    return found


def with_places(tree: Any, fill: Callable[[Any], ast.expr]) -> Any:
    """A copy in which ``fill`` makes each place, in the order of `places`."""
    if isinstance(tree, list):
        return [with_places(one, fill) for one in tree]
    if _is_open(tree):
        return fill(tree.id if isinstance(tree, ast.Name) else tree.value)
    if isinstance(tree, Open) or not isinstance(tree, ast.AST):
        return tree
    if isinstance(tree, Final):
        return ast.Name(tree.id)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        return ast.Call(tree.func, with_places(tree.args, fill), with_places(tree.keywords, fill))
    return type(tree)(**{name: with_places(one, fill) for name, one in ast.iter_fields(tree)})


def place_of(place: Any) -> ast.expr:
    return ast.Name(place) if isinstance(place, str) else ast.Constant(place)


def skeleton(tree: ast.expr) -> str:
    """An expression but for its places."""
    return ast.dump(
        with_places(tree, lambda place: ast.Name("_" if isinstance(place, str) else "#"))
    )


def closed(tree: Any, fill: Callable[[Spec], ast.expr]) -> Any:
    """A template with expressions in its open places."""
    if isinstance(tree, list):
        return [closed(one, fill) for one in tree]
    if isinstance(tree, Open):
        return fill(tree.spec)
    if not isinstance(tree, ast.AST):
        return tree
    return type(tree)(**{name: closed(one, fill) for name, one in ast.iter_fields(tree)})


def matched(template: Any, tree: Any, accept: Callable[[Spec, Any], bool]) -> bool:
    """Whether an expression is what a template says; ``accept`` judges the open places."""
    if isinstance(template, Open):
        return accept(template.spec, tree)
    if isinstance(template, list):
        return (
            isinstance(tree, list)
            and len(template) == len(tree)
            and all(matched(a, b, accept) for a, b in zip(template, tree))
        )
    if not isinstance(template, ast.AST):
        return type(template) is type(tree) and bool(template == tree)
    return type(template) is type(tree) and all(
        matched(getattr(template, name, None), getattr(tree, name, None), accept)
        for name in template._fields
        if name not in ("ctx", "kind")
    )


def specs_in(tree: ast.AST) -> Iterator[Spec]:
    for node in ast.walk(tree):
        if isinstance(node, Open):
            yield node.spec


def terms_of(tree: ast.expr) -> list[ast.expr]:
    """The terms of a sum; those that are subtracted with a sign before the whole."""
    match tree:
        case ast.BinOp(a, ast.Add(), b):
            return [*terms_of(a), *terms_of(b)]
        case ast.BinOp(a, ast.Sub(), b):
            return [*terms_of(a), *[negated(one) for one in terms_of(b)]]
    positive = without_sign(tree)
    return [tree if positive is None else ast.UnaryOp(ast.USub(), positive)]


def negated(tree: ast.expr) -> ast.expr:
    return tree.operand if is_negative(tree) else ast.UnaryOp(ast.USub(), tree)  # type: ignore[attr-defined]


def is_negative(tree: ast.expr) -> bool:
    return isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub)


def total(terms: Sequence[ast.expr]) -> ast.expr:
    ordered = sorted(terms, key=is_negative)
    total = ordered[0]
    for one in ordered[1:]:
        minus = is_negative(one)
        total = ast.BinOp(total, ast.Sub() if minus else ast.Add(), negated(one) if minus else one)
    return total


class _WithoutOnes(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.BinOp(ast.Constant(1), ast.Mult(), x):
                return x
        return node


def without_ones(tree: ast.expr) -> ast.expr:
    """``x`` for ``1 * x``."""
    return _WithoutOnes().visit(tree)  # type: ignore[no-any-return]


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


def item(name: str, index: ast.expr) -> ast.Subscript:
    return ast.Subscript(ast.Name(name), index)
