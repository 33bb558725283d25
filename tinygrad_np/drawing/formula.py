"""Formulas as text: the expression of an operation, and the VJP of one argument.

A VJP is not parsed and not typed again: its own formula is run on tensors that stand for ``g`` and
the arguments, what it records is written out with each primitive's text, and Python's own parser
takes the needless parentheses away.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backward import unbroadcast
from ..core import Formula, Node, Tensor, mode, parameter_names
from .numbers import number


def expression(node: Node, names: Mapping[Node, str]) -> str:
    """The operation that computed a node, in the names of its arguments: ``x @ W``."""
    writer = _Writer(names)
    return writer.tidy(writer.operation(node))


def gradient(node: Node, names: Mapping[Node, str]) -> str:
    """How a gradient that was recorded is computed, in the names of what is drawn: ``h.T @ dz``."""
    if node.primitive is None:
        return ""
    writer = _Writer(names)
    while _changes_nothing(node) and node.inputs[0].primitive is not None:
        node = node.inputs[0]
        if node in names:
            return names[node]
    return writer.tidy(writer.operation(node))


def residuals(node: Node, names: Mapping[Node, str]) -> list[str]:
    """The by-products that the VJPs read: ``p = softmax(z, axis=1)``."""
    assert node.primitive is not None
    lines = []
    for name, formula in node.primitive.residuals.items():
        text, _ = _traced(node, 0, f"{node.primitive.name}.{name}", formula, names)
        lines.append(f"{name} = {text}")
    return lines


def local_derivative(
    node: Node, position: int, names: Mapping[Node, str]
) -> tuple[str, float | None]:
    """What backward sends to one argument of an operation, ``g`` being the gradient of its result.

    Returns
    -------
    formula : str
        ``g @ W.T``; for a formula that cannot be recorded the call that computes it, with what it
        reads.
    slope : float or None
        Its value for ``g = 1`` where argument and result are scalars: the local derivative.
    """
    primitive = node.primitive
    assert primitive is not None
    argument = "xs" if primitive.variadic else primitive.arguments[position]
    formula = primitive.formulas[argument]
    text, d = _traced(node, position, f"{primitive.name}.vjp.{argument}", formula, names)
    scalar = d is not None and node.value.ndim == np.ndim(node.inputs[position].value) == 0
    return text, float(d) if scalar else None


def _traced(
    node: Node, position: int, call: str, formula: Formula, names: Mapping[Node, str]
) -> tuple[str, Any]:
    """The text of a formula and its value for ``g = 1``; else the text of the call, and None."""
    primitive = node.primitive
    assert primitive is not None
    symbols: dict[Node, str] = {}

    def symbol(value: Any, name: str) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        tensor = Tensor(value)
        symbols[tensor.node] = name
        return tensor

    reads = parameter_names(formula)
    try:
        xs = [symbol(one.value, names[one]) for one in node.inputs]
        known = dict(zip(primitive.arguments, xs)) | {"xs": xs, "i": position} | (node.params or {})
        known |= {name: symbol(value, name) for name, value in (node.saved or {}).items()}
        known |= {"g": symbol(np.ones_like(node.value), "g"), "y": symbol(node.value, names[node])}
        shape = np.shape(node.inputs[position].value)
        with mode(recording=True, everything=True, watchers=()), np.errstate(all="ignore"):
            d = formula(*[known[name] for name in reads])
            if "g" in reads and d.shape != shape:
                d = unbroadcast(d, shape, node)
        writer = _Writer(symbols)
        return writer.tidy(writer.inner(d.node)), d.data
    except Exception:
        # A formula is its author's own code and may do what only arrays can: then it is shown as a
        # call, and what is wrong with it is for the backward pass to say.
        return f"{call}({', '.join(reads)})", None


class _Writer:
    """Writes recorded nodes as NumPy source in which some nodes have names.

    Names are any text, not only identifiers, so placeholders are parsed in their stead.
    """

    def __init__(self, names: Mapping[Node, str]) -> None:
        self.names = names
        self.placeholders: dict[str, str] = {}

    def operation(self, node: Node) -> str:
        primitive = node.primitive
        assert primitive is not None
        return primitive.text([f"({self.inner(one)})" for one in node.inputs], node.params)

    def inner(self, node: Node) -> str:
        if node in self.names or node.primitive is None:
            return self._atom(node)
        if _changes_nothing(node):
            return self.inner(node.inputs[0])
        return self.operation(node)

    def tidy(self, source: str) -> str:
        """The source with its names, and without needless parentheses if it is Python."""
        try:
            tree = ast.parse(source, mode="eval")
        except SyntaxError:
            for placeholder, name in self.placeholders.items():
                source = source.replace(f"({placeholder})", name)
            return source
        for part in ast.walk(tree):
            if isinstance(part, ast.Name):
                part.id = self.placeholders.get(part.id, part.id)
        return ast.unparse(tree)

    def _atom(self, node: Node) -> str:
        name = self.names.get(node)
        if name is None and np.ndim(node.value) == 0:
            return number(node.value)
        placeholder = f"_{len(self.placeholders)}_"
        self.placeholders[placeholder] = name or f"array{np.shape(node.value)}"
        return placeholder


def _changes_nothing(node: Node) -> bool:
    """Whether it is a step of undoing a broadcast that turned out to be none.

    That is a reshape to the shape it has, and axes put around a number, which broadcasts anyway.
    """
    assert node.primitive is not None
    before = np.shape(node.inputs[0].value)
    return (node.primitive.name == "reshape" and before == node.value.shape) or (
        node.primitive.name == "expand_dims" and before == ()
    )
