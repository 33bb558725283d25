"""A backprop written by hand beside the derived one, quantity by quantity."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError, message
from .layout import Round


class Row(NamedTuple):
    """One quantity: both lines, the relative error, and what to say about it."""

    name: str
    derived: str
    theirs: str
    error: float | None
    verdict: str


@dataclass(frozen=True)
class Difference:
    """What `Derivation.diff` found; prints as a table.

    Attributes
    ----------
    rows : tuple of Row
        In the order of computation. ``verdict`` is ``same``, ``differs``, ``shape`` or ``not there``.
    """

    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it is the same."""
        compared = [row for row in self.rows if row.verdict != "not there"]
        return bool(compared) and all(row.verdict == "same" for row in compared)

    @property
    def first_wrong(self) -> str | None:
        """The first quantity that is not the same: the others may follow from it."""
        return next((row.name for row in self.rows if row.verdict in ("differs", "shape")), None)

    def __getitem__(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def __str__(self) -> str:
        lines = []
        for row in self.rows:
            error = "" if row.error is None else f"  relative error {row.error:.1e}"
            lines.append(f"{row.name}: {row.verdict}{error if row.verdict != 'same' else ''}")
            lines.append(f"    derived  {row.derived}")
            if row.theirs:
                lines.append(f"    theirs   {row.theirs}")
        return "\n".join(lines)


class Quantity(NamedTuple):
    """One value of the derived program: which it is, and how it is computed."""

    which: Round
    value: Any
    line: str


def compare(
    theirs: str | Callable[..., Any],
    arrays: Mapping[str, Any],
    flat: Mapping[str, Any],
    quantities: Mapping[str, Quantity],
    gradients: Sequence[Mapping[str, str]],
    also: Mapping[str, Sequence[str]],
) -> Difference:
    """Run the other one on copies of the arrays, and set its quantities beside ours.

    ``arrays`` are the arguments, lists among them, and ``flat`` the same without lists.
    """
    found, written = _run(theirs, _copies(arrays), _copies(flat))
    keys = {target: f"d{key}" for one in gradients for key, target in one.items()}
    rows = []
    for name, one in quantities.items():
        names = [name, *[keys[one] for one in (name,) if one in keys], *also.get(name, ())]
        there = next((other for other in names if other in found), None)
        other = None if there is None else found[there]
        if there is None or isinstance(other, list | tuple | dict):
            there, other = _of_round(one, found)
        rows.append(_row(str(one.which), one.line, written.get(there, ""), one.value, other))
    return Difference(tuple(rows))


def _copies(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: [np.array(one) for one in value] if isinstance(value, list) else np.array(value)
        for key, value in arrays.items()
    }


def _of_round(one: Quantity, found: Mapping[str, Any]) -> tuple[str, Any]:
    """Their name and value of what a round of a loop computes, if there is one."""
    which = one.which
    if which.number is None:
        return which.name, None
    for name in dict.fromkeys([which.name, which.name.removesuffix("s"), f"{which.name}s"]):
        there = found.get(name)
        if there is None:
            continue
        items = isinstance(there, list | tuple | dict) or np.ndim(there) == np.ndim(one.value) + 1
        if items:
            item = _item_of(there, which)
            if item is not None and np.shape(item) == np.shape(one.value):
                return name, item
        elif which.last:
            return name, there
    return which.name, None


def _item_of(there: Any, which: Round) -> Any:
    """The same round's item of a list, or of a dict by the number of the step; what was there
    before the first round may be in it."""
    assert which.number is not None
    items = [there[key] for key in sorted(there)] if isinstance(there, dict) else there
    index = which.number - (0 if len(items) == which.length else which.offset)
    fits = len(items) in (which.length, which.length - which.offset)
    return items[index] if fits and index >= 0 else None


def _row(name: str, derived: str, theirs: str, mine: Any, other: Any) -> Row:
    if other is None:
        return Row(name, derived, theirs, None, "not there")
    a, b = np.asarray(mine), np.asarray(other)
    if a.shape != b.shape:
        return Row(name, derived, f"{theirs}  # {b.shape}, not {a.shape}".strip(), None, "shape")
    scale = float(np.linalg.norm(np.ravel(a).astype(float))) or 1.0
    error = float(np.linalg.norm(np.ravel(a).astype(float) - np.ravel(b).astype(float))) / scale
    coarse = np.float32 in (a.dtype, b.dtype)
    same = error <= (1e-4 if coarse else 1e-9)
    return Row(name, derived, theirs, error, "same" if same else "differs")


def _run(
    theirs: str | Callable[..., Any], arrays: dict[str, Any], flat: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The variables of the other one after its run, and the line that last set each."""
    if callable(theirs):
        try:
            source = textwrap.dedent(inspect.getsource(theirs))
        except (OSError, TypeError):
            source = ""  # a function typed into a prompt: there are its values, but no lines
        return _called(theirs, arrays, flat), _written(source)
    tree = ast.parse(textwrap.dedent(theirs))
    space: dict[str, Any] = {"np": np}
    functions = [one.name for one in tree.body if isinstance(one, ast.FunctionDef)]
    if functions:
        exec(compile(tree, "<theirs>", "exec"), space)
        return _called(space[functions[-1]], arrays, flat), _written(theirs)
    space |= flat | arrays
    exec(compile(tree, "<theirs>", "exec"), space)
    return space, _written(theirs)


def _called(
    function: Callable[..., Any], arrays: dict[str, Any], flat: dict[str, Any]
) -> dict[str, Any]:
    names = [
        name for name, one in inspect.signature(function).parameters.items()
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]  # fmt: skip
    if set(names) <= arrays.keys():
        given = [arrays[name] for name in names]
    elif set(names) <= flat.keys():
        given = [flat[name] for name in names]
    elif len(names) == len(arrays):
        given = list(arrays.values())
    else:
        raise ArgumentError(
            message("diff", f"a function of {', '.join(arrays)}", f"parameters {', '.join(names)}",
                    "Call your own function in one with these parameters.")
        )  # fmt: skip
    variables: dict[str, Any] = {}

    def watch(frame: FrameType, event: str, arg: Any) -> None:
        if event == "return" and frame.f_code is getattr(function, "__code__", None):
            variables.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        result = function(*given)
    finally:
        sys.setprofile(before)
    for part in result if isinstance(result, tuple) else (result,):
        if isinstance(part, dict):
            variables |= {
                f"d{key}" if f"d{key}" not in part else str(key): one for key, one in part.items()
            }
    return variables


def _written(source: str) -> dict[str, str]:
    """For each variable the expression it was last given."""
    try:
        tree = ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return {}
    found = {}
    for one in ast.walk(tree):
        if isinstance(one, ast.Assign):
            for target in one.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = ast.unparse(one.value)
    return found
