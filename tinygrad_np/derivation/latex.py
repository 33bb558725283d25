"""Python expressions as mathematics."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from ..program import Length, Shape, Step
from .layout import Line, Loop

GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "pi",
    "rho", "sigma", "tau", "phi", "chi", "psi", "omega", "Phi",
}  # fmt: skip
FUNCTIONS = {
    "exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos", "tan": r"\tan", "tanh": r"\tanh",
    "sinh": r"\sinh", "cosh": r"\cosh", "maximum": r"\max", "minimum": r"\min", "max": r"\max",
    "min": r"\min", "sum": r"\sum", "prod": r"\prod", "log_softmax": r"\log\operatorname{softmax}",
}  # fmt: skip
SIGNS = {
    ast.Add: " + ", ast.Sub: " - ", ast.MatMult: r"\, ", ast.FloorDiv: r" \mathbin{//} ",
    ast.Mod: r" \bmod ", ast.BitAnd: r" \land ", ast.BitOr: r" \lor ", ast.BitXor: r" \oplus ",
    ast.Gt: ">", ast.GtE: r"\ge", ast.Lt: "<", ast.LtE: r"\le", ast.Eq: "=", ast.NotEq: r"\ne",
}  # fmt: skip
SUM, PRODUCT, UNARY, POWER, ATOM = range(5)
PRECEDENCE = {
    ast.Add: SUM,
    ast.Sub: SUM,
    ast.BitOr: SUM,
    ast.BitXor: SUM,
    ast.BitAnd: SUM,
    ast.Pow: POWER,
}


def name_in_latex(name: str, gradients: Mapping[str, str]) -> str:
    r"""A name: ``W1`` is ``W_{1}``, and the gradient ``dW1`` is ``\mathrm{d}W_{1}``."""
    if name in gradients:
        return rf"\mathrm{{d}}{name_in_latex(gradients[name], gradients)}"
    found = re.fullmatch(r"([A-Za-z]+?)_?(\d*)((?:_\w+)?)", name)
    letters, digits, rest = found.groups() if found else (name, "", "")
    base = rf"\{letters}" if letters in GREEK else letters
    if len(letters) > 1 and letters not in GREEK:
        base = rf"\mathrm{{{letters}}}".replace("_", r"\_")
    below = ",".join([part for part in (digits, rest.strip("_").replace("_", ",")) if part])
    return f"{base}_{{{below}}}" if below else base


def shape_in_latex(step: Step, rows: str) -> str:
    r"""``(N, 3)`` as ``\mathbb{R}^{N \times 3}``; whole numbers as ``\mathbb{Z}``."""
    numbers = {"i": "Z", "u": "Z", "b": "B"}.get(step.dtype.kind if step.dtype else "f", "R")
    lengths = [repr(n).replace("N", rows) if isinstance(n, Length) else str(n) for n in step.shape]
    power = r" \times ".join(lengths)
    return rf"\mathbb{{{numbers}}}" + (f"^{{{power}}}" if power else "")


def with_index(name: str, index: str) -> str:
    """A written name with an index below it, after those it has."""
    if name.endswith("}") and "_{" in name:
        return f"{name[:-1]},{index}}}"
    return f"{name}_{{{index}}}"


@dataclass
class Latex(ast.NodeVisitor):
    """Writes expressions, in which names have the given shapes.

    Parameters
    ----------
    shapes : mapping
        Of the names, so that products of scalars and of elements can be told apart.
    gradients : mapping
        For the name of a gradient, the name of what it is the gradient of.
    lengths : mapping
        Of the lists: their items are written with an index.
    letters : mapping
        The letters of lists that have another name.
    rounds : set of str
        What each round of a loop sets, and no list holds: it has an index, too.
    counter : str
        In a loop, its counter.
    indexed : mapping
        In a loop, the variables that each round sets, and what to add to the counter.
    """

    shapes: Mapping[str, Shape]
    gradients: Mapping[str, str]
    lengths: Mapping[str, int] = field(default_factory=dict)
    letters: Mapping[str, str] = field(default_factory=dict)
    rounds: Set[str] = frozenset()
    counter: str = ""
    indexed: Mapping[str, int] = field(default_factory=dict)

    def range(self, loop: Loop) -> str:
        ends = ["0", str(loop.count - 1)]
        first, last = reversed(ends) if loop.backward else ends
        return rf"{name_in_latex(loop.counter, {})} = {first}, \ldots, {last}"

    def equation(self, line: Line) -> str:
        """A line with its sign in the middle."""
        value, sign = line.value, "&="
        place = line.place if line.place is not None else ast.parse(line.target, mode="eval").body
        target = self.visit(place)
        match value:
            case ast.List([one]):
                value = one  # the first item
            case ast.BinOp(ast.Name(name), ast.Add(), rest) if name == line.target and self.counter:
                value, sign = rest, r"&\mathrel{+}="
        text = self.write(value)
        if line.summed:
            counter = name_in_latex(self.counter, {})
            minus = "-" if line.sign == "-=" else ""
            return rf"{target} &= {minus}\sum_{{{counter}}} {self._at(value, PRODUCT)}"
        if line.sign != "=":
            sign = rf"&\mathrel{{{line.sign[0]}}}="
        return f"{target} {sign} {text}"

    def write(self, node: ast.expr) -> str:
        return self._at(node, SUM)

    def _at(self, node: ast.expr, least: int) -> str:
        text: str = self.visit(node)
        return text if _precedence(node) >= least else rf"\left({text}\right)"

    def _is_scalar(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant() | ast.Attribute(attr="size"):
                return True
            case ast.Name(id=name):
                return len(self.shapes.get(name, ())) == 0
            case ast.Subscript(ast.Name(name)) if name in self.lengths:
                return len(self.shapes.get(name, ())) == 0
            case ast.UnaryOp(operand=one):
                return self._is_scalar(one)
            case ast.BinOp(left=one, right=other):
                return self._is_scalar(one) and self._is_scalar(other)
            case ast.Call(func=ast.Name(id="float" | "len")):
                return True
        return False

    def visit_Constant(self, node: ast.Constant) -> str:
        if isinstance(node.value, int):
            return str(node.value)
        if not isinstance(node.value, float):
            return rf"\text{{{_text(repr(node.value))}}}"
        digits, e, power = f"{node.value:.6g}".partition("e")
        return rf"{digits} \cdot 10^{{{int(power)}}}" if e else digits

    def visit_Name(self, node: ast.Name) -> str:
        name = self._named(node.id)
        if node.id in self.indexed:
            return with_index(
                name, f"{name_in_latex(self.counter, {})}{self._plus(self.indexed[node.id])}"
            )
        if node.id in self.lengths:
            return self._items(node.id, 0, self.lengths[node.id])
        return name

    def _named(self, name: str) -> str:
        return name_in_latex(self.letters.get(name, name), self.gradients)

    @staticmethod
    def _plus(n: int) -> str:
        return f"{n:+d}" if n else ""

    def _items(self, name: str, start: int, stop: int) -> str:
        """The items of a list from one to another."""
        ends = [with_index(self._named(name), str(i)) for i in (start, stop - 1)]
        return rf"\left({ends[0]}, \ldots, {ends[1]}\right)"

    def visit_UnaryOp(self, node: ast.UnaryOp) -> str:
        signs = {ast.USub: "-", ast.UAdd: "+", ast.Not: r"\lnot ", ast.Invert: r"\lnot "}
        return signs[type(node.op)] + self._at(node.operand, PRODUCT)

    def visit_BinOp(self, node: ast.BinOp) -> str:
        kind = type(node.op)
        if kind is ast.Div:
            return rf"\frac{{{self.visit(node.left)}}}{{{self.visit(node.right)}}}"
        if kind is ast.Pow:
            return f"{self._at(node.left, ATOM)}^{{{self.visit(node.right)}}}"
        mine = PRECEDENCE.get(kind, PRODUCT)
        after = mine + (kind is ast.Sub)
        left, right = self._at(node.left, mine), self._at(node.right, after)
        if kind is ast.Mult:
            scalar = self._is_scalar(node.left) or self._is_scalar(node.right)
            numbers = isinstance(node.right, ast.Constant)
            return left + (r" \cdot " if numbers else r"\, " if scalar else r" \odot ") + right
        return left + SIGNS[kind] + right

    def visit_Compare(self, node: ast.Compare) -> str:
        parts = [self.visit(node.left)]
        for op, one in zip(node.ops, node.comparators):
            parts += [SIGNS.get(type(op), r"\in"), self.visit(one)]
        return rf"\left[{' '.join(parts)}\right]"

    def visit_Attribute(self, node: ast.Attribute) -> str:
        match node:
            case ast.Attribute(value=one, attr="T" | "mT"):
                return rf"{self._at(one, ATOM)}^{{\top}}"
            case ast.Attribute(value=ast.Name(id="np"), attr=name):
                return {"inf": r"\infty", "pi": r"\pi"}.get(name, rf"\mathrm{{{_text(name)}}}")
            case ast.Attribute(value=one, attr="size"):
                return rf"\left|{self.visit(one)}\right|"
        return rf"\operatorname{{{_text(node.attr)}}}\left({self.visit(node.value)}\right)"

    def visit_Subscript(self, node: ast.Subscript) -> str:
        if isinstance(node.value, ast.Name) and node.value.id in {*self.lengths, *self.rounds}:
            return self._item(node.value.id, node.slice)
        inner = self._at(node.value, ATOM)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if all(_keeps_all(part) for part in parts):
            return inner  # new axes of length 1 are written for NumPy's sake
        if self.counter and any(
            isinstance(one, ast.Name) and one.id == self.counter for one in ast.walk(node.slice)
        ):
            places = ",".join([self._index(part) for part in parts])
            return with_index(inner, places.replace(" ", "").replace("{:}", ":"))
        match parts:
            case [ast.Call(func=ast.Attribute(attr="arange")), ast.Name() as picked]:
                return f"{inner}_{{n, {self.visit(picked)}_{{n}}}}"
        return rf"{inner}_{{[{', '.join([self._index(part) for part in parts])}]}}"

    def _item(self, name: str, index: ast.expr) -> str:
        """An item of a list, or of what each round of a loop sets."""
        match index:
            case ast.Slice(lower, upper):
                ends = [
                    ast.literal_eval(end) if end is not None else None for end in (lower, upper)
                ]
                return self._items(name, ends[0] or 0, ends[1] or self.lengths[name])
            case ast.UnaryOp(ast.USub()):
                place = self.lengths[name] + ast.literal_eval(index)
                return with_index(self._named(name), str(place))
        return with_index(self._named(name), self.visit(index).replace(" ", ""))

    def _index(self, part: ast.expr) -> str:
        if isinstance(part, ast.Slice):
            ends = [part.lower, part.upper, *([part.step] if part.step else [])]
            return "{:}".join(["" if end is None else self.visit(end) for end in ends])
        if isinstance(part, ast.Constant) and part.value is ...:
            return r"\ldots"
        return self._at(part, SUM)

    def visit_Call(self, node: ast.Call) -> str:
        arguments = list(node.args)
        match node.func:
            case ast.Attribute(
                value=ast.Attribute(value=ast.Name(id="np")) | ast.Name(id="np"), attr=name
            ):
                pass
            case ast.Attribute(value=one, attr=name):
                arguments.insert(0, one)
            case ast.Name(id=name):
                pass
            case _:
                name = "f"
        if name == "sqrt":
            return rf"\sqrt{{{self.visit(arguments[0])}}}"
        if name in ("abs", "absolute"):
            return rf"\left|{self.visit(arguments[0])}\right|"
        if name in (
            "reshape",
            "astype",
            "broadcast_to",
            "expand_dims",
            "squeeze",
            "ascontiguousarray",
        ):
            return self._at(arguments[0], SUM)  # the same numbers
        if name in ("ones_like", "zeros_like"):
            return r"\mathbf{1}" if name == "ones_like" else r"\mathbf{0}"
        if name == "where" and len(arguments) == 3:
            condition, a, b = [self.visit(one) for one in arguments]
            return rf"\begin{{cases}} {a} & {condition} \\ {b} & \text{{else}} \end{{cases}}"
        written = FUNCTIONS.get(name, rf"\operatorname{{{_text(name)}}}")
        axis = [one.value for one in node.keywords if one.arg == "axis"]
        below = self._axes(axis[0], arguments[0]) if axis else ""
        if name == "sum":
            return rf"{written}{below} {self._at(arguments[0], PRODUCT)}"
        inside = ", ".join([self.visit(one) for one in arguments])
        return rf"{written}{below}\left({inside}\right)"

    def _axes(self, axis: ast.expr, of: ast.expr) -> str:
        """What is summed over: ``n`` for the batch, else the axes."""
        shape = self.shapes.get(of.id, ()) if isinstance(of, ast.Name) else ()
        if (
            isinstance(axis, ast.Constant)
            and axis.value == 0
            and shape
            and isinstance(shape[0], Length)
        ):
            return "_{n}"
        return rf"_{{\text{{axis }}{self.visit(axis)}}}"

    def visit_Tuple(self, node: ast.Tuple) -> str:
        return ", ".join([self.visit(one) for one in node.elts])

    def visit_List(self, node: ast.List) -> str:
        return rf"\left[{', '.join([self.visit(one) for one in node.elts])}\right]"

    def visit_ListComp(self, node: ast.ListComp) -> str:
        (each,) = node.generators
        counter = ast.unparse(each.target)
        inside = replace(self, counter=counter)
        count = each.iter.args[0].value - 1 if isinstance(each.iter, ast.Call) else ""  # type: ignore[attr-defined]
        return rf"\left({inside.visit(node.elt)}\right)_{{{counter}=0}}^{{{count}}}"

    def visit_Starred(self, node: ast.Starred) -> str:
        text: str = self.visit(node.value)
        return text

    def generic_visit(self, node: ast.AST) -> str:
        return rf"\texttt{{{_text(ast.unparse(node))}}}"


def _text(source: str) -> str:
    """Any text where LaTeX reads it literally."""
    return re.sub(r"([_#$%&{}])", r"\\\1", source)


def _keeps_all(part: ast.expr) -> bool:
    if isinstance(part, ast.Slice):
        return part.lower is part.upper is part.step is None
    return isinstance(part, ast.Constant) and (part.value is None or part.value is ...)


def _precedence(node: ast.expr) -> int:
    match node:
        case ast.BinOp(op=ast.Div()):
            return PRODUCT + 1
        case ast.BinOp(op=op):
            return PRECEDENCE.get(type(op), PRODUCT)
        case ast.UnaryOp():
            return SUM
        case ast.Call(func=ast.Attribute(attr="sum")):
            return PRODUCT
        case ast.Attribute(attr="T" | "mT"):
            return POWER
    return ATOM
