"""Write docs/operations.md, the table of operations, from the registry: ``python docs/operations.py``."""

from __future__ import annotations

import inspect
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_np as tg
from tinygrad_np import operators
from tinygrad_np.core import SPECS, Primitive

PAGE = Path(__file__).with_name("operations.md")
HEAD = """# Operations

Each is a function of `tinygrad_np` (`tg.exp(x)`); many are a method, an operator or NumPy's own
function as well. Every one is differentiable to any order unless it says otherwise, and is checked
against finite differences, a reference and, where it is installed, PyTorch. Formulas, shapes,
conventions at kinks and sources stand in the docstrings. Written by `python docs/operations.py`.
"""


def spellings(operation: Any) -> list[str]:
    """The other ways to call an operation: operator, method, NumPy function."""
    tables = (operators.UFUNCS | operators.FUNCTIONS).items()
    numpy = [operators.spelled(function) for function, ours in tables if ours is operation]
    methods = [f"x.{name}()" for name, ours in operators.METHODS.items() if ours is operation]
    named = operators.BINARY | operators.UNARY | operators.COMPARISONS
    signs = [SIGNS[name] for name, ours in named.items() if ours is operation]
    return [f"`{text}`" for text in (*signs, *methods, *numpy)]


SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "matmul": "@", "neg": "-x",
    "abs": "abs(x)", "pos": "+x", "invert": "~x", "floordiv": "//", "mod": "%", "and": "&",
    "or": "\\|", "xor": "^", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip


def summary(operation: Any) -> str:
    """The first line of the docstring, or the expression of a one-line primitive."""
    numpys_own = isinstance(operation, Primitive) and isinstance(operation.fn, np.ufunc)
    if numpys_own or not operation.__doc__:
        return f"``{operation.text(operation.arguments)}``"
    return inspect.cleandoc(operation.__doc__).partition("\n")[0].replace("|", "\\|")


def page() -> str:
    """The whole page."""
    families: dict[str, list[str]] = defaultdict(list)
    public = {id(value): name for name, value in vars(tg).items() if not name.startswith("_")}
    for spec in SPECS.values():
        name = public.get(id(spec.operation))
        if name is None:
            continue
        note = "" if spec.differentiable else " (no gradient)"
        row = f"| `{name}` | {summary(spec.operation)}{note} | {' '.join(spellings(spec.operation))} |"
        families[spec.build.__module__.rpartition(".")[2]].append(row)
    parts = [HEAD]
    for family, rows in families.items():
        parts.append(f"## {family}\n\n| `tg.` | what it is | also |\n| --- | --- | --- |")
        parts.append("\n".join(sorted(rows)) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
