"""Mutation testing of the VJPs: plants mistakes in the formulas and asks whether the test matrix sees them.

``python -m tests.engine.mutation [module ...]`` mutates every formula given to `Primitive.vjp` and
`Primitive.arrays`, every residual's formula, and the helpers that formulas call: one small change at
a time, at the level of the syntax tree. A mutant is caught when a property of the matrix turns red on
an operation whose samples reach the formula. Prints the counts of each file and what survived.
"""

from __future__ import annotations

import argparse
import ast
import copy
import random
import sys
import time
import types
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_np as tg
from tinygrad_np.backward import reach
from tinygrad_np.core import REGISTRY, Primitive, parameter_names

from . import test_matrix as matrix
from .arrays import numerical_gradient

# --------------------------------------------------------------------------------------------------
# Formulas, and where they stand in the source
# --------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Formula:
    """A function that takes part in a backward pass, its syntax tree, and whom it serves."""

    function: types.FunctionType
    tree: Function
    label: str
    primitives: list[Primitive] = field(default_factory=list)

    @property
    def file(self) -> str:
        return Path(self.function.__code__.co_filename).name

    @property
    def module(self) -> str:
        return Path(self.file).stem


Function = ast.Lambda | ast.FunctionDef


@cache
def functions_of(path: str) -> list[Function]:
    """Every function in a source file."""
    tree = ast.parse(Path(path).read_text())
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def last_expression(node: Function) -> ast.AST:
    """What a function returns."""
    if isinstance(node, ast.Lambda):
        return node.body
    last = node.body[-1]
    return last.value if isinstance(last, ast.Return) and last.value else last


def tree_of(function: types.FunctionType) -> Function:
    """The syntax tree of a function: the smallest around all the places that its code comes from."""
    code = function.__code__
    places = [p for p in code.co_positions() if None not in p and (p[0], p[2]) != (p[1], p[3])]
    first = min((line, column) for line, _, column, _ in places)
    last = max((line, column) for _, line, _, column in places)

    def around(node: Function) -> bool:
        end = (node.end_lineno or 0, node.end_col_offset or 0)
        return (node.lineno, node.col_offset) <= first and last <= end

    return max(
        filter(around, functions_of(code.co_filename)), key=lambda n: (n.lineno, n.col_offset)
    )


def helpers(function: types.FunctionType) -> Iterator[types.FunctionType]:
    """The private functions of the operations that a formula calls, and those that they call."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        private = isinstance(value, types.FunctionType) and getattr(tg, name, None) is not value
        if private and value.__module__.startswith("tinygrad_np.ops"):
            yield value
            yield from helpers(value)


def formulas() -> list[Formula]:
    """Every formula, residual and helper of the operations, each once."""
    found: dict[types.CodeType, Formula] = {}

    def add(function: Any, label: str, primitive: Primitive) -> None:
        if isinstance(function, types.FunctionType):
            code = function.__code__
            if code not in found:
                found[code] = Formula(function, tree_of(function), label)
            found[code].primitives.append(primitive)

    for primitive in REGISTRY:
        if not primitive.__module__.startswith(("tinygrad_np", "numpy")):
            continue
        for kind, group in (("", primitive.formulas), ("arrays ", primitive.twins),
                            ("residual ", primitive.residuals)):  # fmt: skip
            for argument, function in group.items():
                add(function, f"{primitive.name}, {kind}{argument}", primitive)
                for helper in helpers(function):
                    add(helper, helper.__name__, primitive)
    return list(found.values())


# --------------------------------------------------------------------------------------------------
# Mutations
# --------------------------------------------------------------------------------------------------

OPPOSITE: dict[type, list[type]] = {
    ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.Add: [ast.Sub], ast.Sub: [ast.Add],
    ast.Gt: [ast.Lt, ast.GtE], ast.Lt: [ast.Gt, ast.LtE], ast.GtE: [ast.LtE, ast.Gt],
    ast.LtE: [ast.GtE, ast.Lt], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot],
}  # fmt: skip
RELATED = {
    "sin": "cos", "cos": "sin", "sinh": "cosh", "cosh": "sinh", "minimum": "maximum",
    "maximum": "minimum", "floor": "ceil", "trunc": "floor", "exp": "exp2", "log": "log2", "sum": "mean",
    "mean": "sum", "tril": "triu", "triu": "tril", "sign": "abs", "cumsum": "cumprod",
}  # fmt: skip


# Functions that do not mind the order of their arguments.
COMMUTATIVE = {"hypot", "_radius", "minimum", "maximum", "vecdot"}


def variants(node: ast.AST, names: list[str]) -> Iterator[ast.AST]:
    """What may stand in place of one node."""
    new = copy.deepcopy
    if isinstance(node, ast.BinOp):
        for operator in OPPOSITE.get(type(node.op), []):
            yield ast.BinOp(new(node.left), operator(), new(node.right))
        if isinstance(node.op, ast.Sub | ast.Div | ast.MatMult):
            yield ast.BinOp(new(node.right), new(node.op), new(node.left))
        yield new(node.left)
        if not isinstance(node.op, ast.Pow | ast.Div):
            yield new(node.right)
        if isinstance(node.op, ast.Pow):
            for operator in (ast.Add, ast.Sub):
                exponent = ast.BinOp(new(node.right), operator(), ast.Constant(1))
                yield ast.BinOp(new(node.left), ast.Pow(), exponent)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield new(node.operand)
    elif isinstance(node, ast.Attribute):
        if node.attr in ("mT", "T"):
            yield new(node.value)
        elif node.attr in RELATED:
            yield ast.Attribute(new(node.value), RELATED[node.attr], ast.Load())
    elif isinstance(node, ast.Compare):
        for operator in OPPOSITE.get(type(node.ops[0]), []):
            yield ast.Compare(new(node.left), [operator()], new(node.comparators))
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, int | float):
            yield ast.Constant(node.value + 1)
            if node.value:
                yield ast.Constant(node.value * 2)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(new(node.test), new(node.orelse), new(node.body))
    elif isinstance(node, ast.Subscript):
        yield new(node.value)
    elif isinstance(node, ast.Call):
        if node.args and not isinstance(node.args[0], ast.Starred):
            yield new(node.args[0])
        if len(node.args) >= 2 and ast.unparse(node.func).split(".")[-1] not in COMMUTATIVE:
            *others, a, b = node.args
            yield ast.Call(new(node.func), [*map(new, others), new(b), new(a)], new(node.keywords))
        for i, keyword in enumerate(node.keywords):
            if keyword.arg in ("axis", "keepdims"):
                rest = [new(k) for j, k in enumerate(node.keywords) if j != i]
                yield ast.Call(new(node.func), list(map(new, node.args)), rest)
    elif isinstance(node, ast.Name) and node.id in names:
        at = names.index(node.id)
        yield ast.Name(names[(at + 1) % len(names)], ast.Load())
        if len(names) > 2:
            yield ast.Name(names[at - 1], ast.Load())


def expressions(tree: Function) -> list[ast.AST]:
    """The nodes of a body that are computed: no docstring, no annotation, no target, no message."""
    found: list[ast.AST] = []

    def walk(node: ast.AST) -> None:
        found.append(node)
        for name, value in ast.iter_fields(node):
            if name in ("target", "targets", "annotation", "exc", "ctx", "op", "ops"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    walk(child)

    body = [tree.body] if isinstance(tree, ast.Lambda) else tree.body
    for statement in body:
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            walk(statement)
    return found


@dataclass(eq=False)
class Mutant:
    """One changed formula."""

    formula: Formula
    tree: Function
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.formula.file}:{self.line}: {self.formula.label}: {self.text}"

    @property
    def key(self) -> str:
        """What names it in `EQUIVALENT`: no line numbers, which move."""
        return f"{self.formula.module}: {self.formula.label}: {self.text}"

    @cached_property
    def code(self) -> types.CodeType:
        """The mutant compiled, with the closure's names around it."""
        original = self.formula.function.__code__
        result = self.tree if isinstance(self.tree, ast.FunctionDef) else ast.Return(self.tree)
        outer = ast.parse(f"def outer({', '.join(original.co_freevars)}): pass")
        outer.body[0].body = [result]
        module = compile(ast.fix_missing_locations(outer), original.co_filename, "exec")
        maker = next(c for c in module.co_consts if isinstance(c, types.CodeType))
        code = next(c for c in maker.co_consts if isinstance(c, types.CodeType))
        return code.replace(co_name=original.co_name)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The formula changed, wherever it is held: its code is exchanged."""
        function = self.formula.function
        original = function.__code__
        function.__code__ = self.code
        try:
            self._reset()
            yield
        finally:
            function.__code__ = original
            self._reset()

    def _reset(self) -> None:
        for primitive in self.formula.primitives:
            primitive._reset()  # the backward step is written out from the formulas


def mutants(formula: Formula) -> Iterator[Mutant]:
    """Every mutant of a formula, each text once."""
    names = [n for n in parameter_names(formula.function) if n not in ("axis", "keepdims")]
    original = formula.tree
    seen = {ast.unparse(original)}
    for position, node in enumerate(expressions(original)):
        options = list(variants(node, names))
        if node is last_expression(original) and ast.unparse(node) != "g * 0":  # zero has no sign
            options += [ast.UnaryOp(ast.USub(), node), ast.BinOp(ast.Constant(2), ast.Mult(), node)]
        for option in options:
            tree = replaced(original, position, option)
            text = ast.unparse(tree)
            if text not in seen:
                seen.add(text)
                yield Mutant(
                    formula, tree, getattr(node, "lineno", original.lineno), changed(original, tree)
                )


def changed(original: Function, tree: Function) -> str:
    """The lambda's body, or the lines of the function, that are not as they were."""
    if isinstance(tree, ast.Lambda):
        return ast.unparse(tree.body)
    old, new = ast.unparse(original).splitlines(), ast.unparse(tree).splitlines()
    return " ".join(line.strip() for i, line in enumerate(new) if old[i : i + 1] != [line])


def replaced(tree: Any, position: int, option: ast.AST) -> Any:
    """A copy of the tree with another node at that position."""
    tree = copy.deepcopy(tree)
    target = expressions(tree)[position]
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, name, option)
                return tree
            if isinstance(value, list) and any(item is target for item in value):
                setattr(parent, name, [option if item is target else item for item in value])
                return tree
    raise AssertionError("every expression has a parent")


# --------------------------------------------------------------------------------------------------
# The matrix, with what does not change from mutant to mutant kept
# --------------------------------------------------------------------------------------------------


class Sample:
    """A sample call with its finite differences, which no VJP enters into."""

    def __init__(self, name: str, call: matrix.Call) -> None:
        self.name, self.call = name, call
        self.outputs = [np.array(tg.core.plain(y)) for y in matrix.parts(call(*call.arrays))]
        self.gs = matrix.cotangents(self.outputs)

    def flat(self, *arrays: Any) -> Any:
        return joined(matrix.parts(self.call(*arrays)))

    @cached_property
    def first(self) -> list[Any]:
        """The derivatives of ``sum(g * y)``, by central differences."""
        return numerical_gradient(self.flat, self.call.arrays, joined(self.gs))

    @cached_property
    def second(self) -> list[Any]:
        """The derivatives of ``sum(v * dx)``, by central differences of the unchanged engine."""
        slopes = lambda *arrays: joined(matrix.vjp(self.call, arrays, self.gs))
        return numerical_gradient(slopes, self.call.arrays, joined(self.directions), h=1e-4)

    @cached_property
    def directions(self) -> list[Any]:
        return matrix.cotangents(self.call.arrays, seed=2)

    @cached_property
    def small(self) -> bool:
        return sum(a.size for a in self.call.arrays) <= 40

    def prepare(self) -> None:
        _ = self.first, self.second if self.small else None

    def reached(self) -> tuple[set[Primitive], set[Primitive]]:
        """The primitives that are recorded in the forward pass, and in the recorded gradient."""
        inputs = matrix.tensors(self.call.arrays)
        outputs = matrix.flowing(self.call(*inputs))
        forward = {node.primitive for node in reach([y.node for y in outputs])}
        if not outputs:
            return set(), set()
        gs = matrix.tensors(matrix.cotangents(outputs))
        found = tg.gradients(outputs, inputs, gs, create_graph=True, unreached="zeros")
        backward = {n.primitive for n in reach([d.node for d in found if d.requires_grad])}
        return forward, forward | backward

    # -- what a mutant may break -------------------------------------------------------------------

    def right_forward(self) -> bool:
        results = [tg.core.plain(y) for y in matrix.parts(self.call(*self.call.arrays))]
        return alike(results, self.outputs, 1e-12, 1e-13)

    def right_first(self) -> bool:
        """The VJP by the formulas, by `backward` and recorded: all three equal finite differences."""
        inputs = matrix.tensors(self.call.arrays)
        outputs = matrix.parts(self.call(*inputs))
        live = [(y, g) for y, g in zip(outputs, self.gs) if y.requires_grad]
        if not live:
            return True
        ys, gs = [y for y, _ in live], [g.astype(y.dtype) for y, g in live]
        for recorded in (False, True):
            found = tg.gradients(ys, inputs, gs, create_graph=recorded, unreached="zeros")
            if not alike([d.data for d in found], self.first, 1e-6, 2e-9):
                return False
        for y, g in zip(ys, gs):
            y.backward(g)
        grads = [np.zeros_like(x.data) if x.grad is None else x.grad for x in inputs]
        return alike(grads, [d.data for d in found], 1e-12, 1e-13)

    def right_second(self) -> bool:
        inputs = matrix.tensors(self.call.arrays)
        outputs = matrix.parts(self.call(*inputs))
        live = [(y, g) for y, g in zip(outputs, self.gs) if y.requires_grad]
        if not live:
            return True
        recorded = tg.gradients(
            [y for y, _ in live], inputs, [g for _, g in live], create_graph=True, unreached="zeros"
        )
        again = [(d, v) for d, v in zip(recorded, self.directions) if d.requires_grad]
        if not again:
            return alike([np.zeros_like(a) for a in self.call.arrays], self.second, 1e-5, 2e-7)
        found = tg.gradients(
            [d for d, _ in again], inputs, [v for _, v in again], unreached="zeros"
        )
        return alike([d.data for d in found], self.second, 1e-5, 2e-7)


def joined(arrays: list[Any]) -> Any:
    return np.concatenate([np.zeros(0), *map(np.ravel, arrays)])


def alike(ours: list[Any], expected: list[Any], rtol: float, atol: float) -> bool:
    """The tolerance of the matrix: relative to each element and to the largest."""
    return len(ours) == len(expected) and all(
        np.shape(a) == np.shape(b)
        and np.allclose(a, b, rtol=rtol, atol=atol * max(1.0, np.abs(b).max(initial=0)))
        for a, b in zip(ours, expected)
    )


# Those properties of the matrix that a `Sample` has for itself, or that no VJP enters into.
TAKEN_OVER = {
    matrix.test_forward_equals_the_reference,
    matrix.test_vjp_equals_finite_differences,
    matrix.test_second_derivative_equals_finite_differences_of_the_first,
    matrix.test_gradients_at_kinks_follow_the_convention,
    matrix.test_bad_input_is_refused_with_a_helpful_message,
}
# All the others are run by the name of the operation, as they are.
PROPERTIES = [
    test for name, test in vars(matrix).items() if name.startswith("test_") and test not in TAKEN_OVER
    and parameter_names(test)[:1] == ("name",)
]  # fmt: skip


class Judge:
    """Knows which samples reach which primitive, and says whether a mutant is caught."""

    def __init__(self) -> None:
        self.first: dict[Primitive, list[Sample]] = defaultdict(list)
        self.both: dict[Primitive, list[Sample]] = defaultdict(list)
        with quiet():
            for name in matrix.DIFFERENTIABLE:
                for call in matrix.calls(name):
                    if not call.arrays:
                        continue
                    sample = Sample(name, call)
                    forward, everything = sample.reached()
                    for primitive in forward:
                        self.first[primitive].append(sample)
                    for primitive in everything:
                        self.both[primitive].append(sample)

    def samples(self, table: dict[Primitive, list[Sample]], formula: Formula) -> list[Sample]:
        """Those that reach a formula, the operations of its own file first."""
        found = {s: None for primitive in formula.primitives for s in table[primitive]}
        home = formula.function.__module__
        at_home = lambda s: getattr(s.call.spec.operation, "__module__", "") == home
        return sorted(found, key=lambda s: (not at_home(s), len(joined(s.call.arrays))))

    def caught(self, mutant: Mutant) -> bool:
        """Whether some property turns red; an error of any kind is red."""
        first = self.samples(self.first, mutant.formula)
        second = [s for s in self.samples(self.both, mutant.formula) if s.small]
        with quiet():
            for sample in {*first, *second}:
                sample.prepare()
            with mutant.installed():
                try:
                    return not self._holds(first, second)
                except Exception:  # whatever a broken formula raises
                    return True

    @staticmethod
    def _holds(first: list[Sample], second: list[Sample]) -> bool:
        names = dict.fromkeys(s.name for s in [*first, *second])
        if not all(s.right_first() and s.right_forward() for s in first):
            return False
        for name in names:
            if matrix.SPECS[name].kinks():
                matrix.test_gradients_at_kinks_follow_the_convention(name)
        if not all(s.right_second() for s in second):
            return False
        for prop in PROPERTIES:
            for name in names:
                prop(*(name, np.float32)[: len(parameter_names(prop))])
        return True


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


# --------------------------------------------------------------------------------------------------
# The command
# --------------------------------------------------------------------------------------------------

# Mutants that no number can tell from the formula, by the reason: how their keys begin.
EQUIVALENT: dict[str, tuple[str, ...]] = {
    "the two have one dtype": (
        "arithmetic: tanh, arrays x: g * (ONE[g.dtype] - y * y)",
        "activation: relu, arrays x: g * (x > ZERO[g.dtype])",
        "activation: sigmoid, arrays x: g * (y * (ONE[g.dtype] - y))",
        "reduce: max, x: hit = (x == kept(y, axis, keepdims)).astype(y.dtype)",
        "reduce: max, x: hit = (x == kept(y, axis, keepdims)).astype(g.dtype)",
        "loss: softmax_cross_entropy, z: (p - one_hot_rows(t, classes=p.shape[1], dtype=g.dtype))",
    ),
    "the two have one shape": (
        "inplace: write, value: g[index] if is_basic(index) else g[index] * _last_writers(index, g)",
        "reduce: mean, x: np.broadcast_to(kept(g / (x.size / (g.size or 1)), axis, keepdims)",
        "decompositions: qr, x: m = g.shape[-2] - y.shape[-1]",
        "decompositions: qr, x: m = y.shape[-2] - g.shape[-1]",
        "decompositions: _gaps: return np.where(np.eye(differences.shape[-2], dtype=bool)",
        "rearrange: repeat, x: return np.sum(np.reshape(g, (*x.shape[:axis + 1], repeats, *g.",
        "loss: softmax_cross_entropy, z: (np.exp(logp) * np.sum(q, axis=1, keepdims=True) - q)"
        " * _column(g, logp.shape[0], reduction)",
        "loss: softmax_cross_entropy, q: -logp * _column(g, logp.shape[0], reduction)",
        "loss: nll, q: -logp * _column(g, logp.shape[0], reduction)",
        "loss: binary_cross_entropy, z: (sigmoid(z) - t) * share(g, t.size, reduction)",
        "loss: mean_squared_error, x: (x - t) * share(2 * g, x.size, reduction)",
        "loss: mean_squared_error, t: (t - x) * share(2 * g, x.size, reduction)",
        "loss: mean_squared_error, arrays x: (x - t) * (g * (2 / x.size if",
        "loss: l1, x: np.sign(x - t) * share(g, x.size, reduction)",
        "loss: l1, t: np.sign(t - x) * share(g, x.size, reduction)",
        "loss: huber, x: np.clip(x - t, -delta, delta) * share(g, x.size, reduction)",
        "loss: huber, t: np.clip(t - x, -delta, delta) * share(g, x.size, reduction)",
        "loss: kl_div, q: (np.log(q) + 1 - logp) * _column(g, logp.shape[0], reduction)",
        "loss: hinge, z: -t * (t * z < 1) * share(g, z.size, reduction)",
        "normalization: _mean_of_product: if axis == (b.ndim - 1,):",
        "normalization: _mean_of_product: return np.vecdot(a, b)[..., None] / b.shape[-1]",
    ),
    "zero either way: a denominator or an exponent under a factor of 0": (
        "arithmetic: power_to, x: g * y * math.log(base) if base else y * 0",
        "arithmetic: power, a: g * b * a ** np.where(b == 0, 2, b - 1)",
        "elementwise: _radius: return np.where(r == 0, 2, r)",
        "elementwise: finite: return np.where(y == -np.inf, 1, y)",
        "reduce: mean, x: np.broadcast_to(kept(g / (x.size / (y.size or 2)), axis, keepdims)",
        "reduce: _centred: return (x - np.mean(x, axis=axis, keepdims=True)) / (x.size / (y.size or 2)",
        "reduce: std, x: kept(g / np.where(y == 0, 2, y), axis, keepdims)",
        "reduce: norm, x: kept(g / np.where(y == 0, 2, y), axis, keepdims)",
        "reduce: norm, x: kept(g, axis, keepdims) * np.sign(x) * (np.abs(x) / kept(np.where(y == 0, 2, y)",
        "reduce: _gathered: factors = _delayed(_reversed(a, axis), axis, 1)",
    ),
    "y is a where this counts": (
        "elementwise: _chosen: return own - 0.5 * own * (y == b)",
    ),
    "what is added is 0 for a square matrix": (
        "decompositions: svd, x: if m >= n:",
        "decompositions: svd, x: if n >= m:",
    ),
    "both ways compute the same, one of them faster": (
        "linalg: product: if type(x) is not np.ndarray and type(W) is np.ndarray",
        "linalg: product: if x is np.ndarray and ",
        "linalg: product: if type(W) is np.ndarray and type(W) is np.ndarray",
        "linalg: product: if type(x) is np.ndarray and type(W) is not np.",
        "linalg: product: if type(x) is np.ndarray and W is np.",
        "linalg: product: if type(x) is np.ndarray and type(x) is np.ndarray",
        "linalg: product: if type(x) is np.ndarray and type(W) is np.ndarray and (x.ndim != 2)",
        "linalg: product: if type(x) is np.ndarray and type(W) is np.ndarray and (W.ndim == 2)",
        "linalg: product: if type(x) is np.ndarray and type(W) is np.ndarray and (x.ndim == 3)",
        "linalg: product: if type(x) is np.ndarray and type(W) is np.ndarray and (x.ndim == 4)",
        "linalg: product: if type(x) is np.ndarray and type(W) is np.ndarray and (x.ndim == 2)"
        " and (W.ndim == 4)",
        "normalization: _mean: if axis == (x.ndim + 1,)",
        "normalization: _mean: if axis == (1 - x.ndim,)",
        "normalization: _mean: if axis == (x.ndim,)",
        "normalization: _mean: if axis == (x.ndim - 1,) and x.dtype.kind != 'f':",
        "normalization: _mean_of_product: if axis == (a.ndim + 1,):",
        "normalization: _mean_of_product: if axis == (1 - a.ndim,):",
        "normalization: _mean_of_product: if axis == (a.ndim,):",
        "inplace: write, value: g[index] if is_basic(g) else",
        "inplace: write, value: g[index] if is_basic(x) else",
    ),
    "a list for a tuple, another true number for True, another number than 0": (
        "shape: transpose, x: np.transpose(g, np.argsort(axes).tolist())",
        "index: _along: grid = np.ogrid[[slice(n) for n in shape]]",
        "rearrange: roll, x: shift_along(g, shift=[-n for n in shift], axis=axis)",
        "rearrange: tile, x: return np.sum(np.reshape(g, lengths), axis=",
        "index: is_basic: return -all(",
        "index: is_basic: return 2 * all(",
        "products: einsum, b: contract(a, g, subscripts=_adjoint(subscripts, 2))",
    ),
    "the mean is taken outside this primitive": (
        "loss: nll, logp: -q * _column(g, q.shape, reduction)",
        "loss: nll, logp: -q * _column(g, q.shape[1], reduction)",
        "loss: nll, q: -logp * _column(g, q.shape, reduction)",
        "loss: nll, q: -logp * _column(g, q.shape[1], reduction)",
    ),
}  # fmt: skip
KEYS = tuple(key for keys in EQUIVALENT.values() for key in keys)


def chosen(modules: list[str]) -> list[Mutant]:
    """The mutants of the named files, or of all."""
    return [
        m
        for formula in formulas()
        if not modules or formula.module in modules
        for m in mutants(formula)
    ]


def sample_of(count: int, seed: int) -> list[Mutant]:
    """Some mutants at random, none of them equivalent."""
    candidates = [m for m in chosen([]) if not m.key.startswith(KEYS)]
    return random.Random(seed).sample(candidates, count)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.engine.mutation", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", metavar="module", help="files of tinygrad_np/ops (all)"
    )
    modules = parser.parse_args().modules
    start = time.process_time()
    judge = Judge()
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    complaints, listed = [], set(KEYS)
    for mutant in chosen(modules):
        count, caught = counts[mutant.formula.file], judge.caught(mutant)
        count[0] += 1
        count[1] += caught
        equal = mutant.key.startswith(KEYS)
        count[2] += equal and not caught
        listed -= {key for key in KEYS if mutant.key.startswith(key)}
        if caught == equal:
            complaints.append(
                f"{'caught, though listed as equivalent' if caught else 'survived'}: {mutant}"
            )
    if not modules:
        complaints += [f"listed as equivalent, but no mutant: {key}" for key in sorted(listed)]
    print(f"{'file':24}{'mutants':>9}{'caught':>9}{'equivalent':>12}{'survived':>10}")
    counts["total"] = [sum(column) for column in zip(*counts.values())]
    for name, (total, caught, equivalent) in counts.items():
        print(f"{name:24}{total:9}{caught:9}{equivalent:12}{total - caught - equivalent:10}")
    print(*complaints, f"{time.process_time() - start:.0f} seconds of CPU", sep="\n")
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
