"""One call of the user's function, watched: what its variables are called, and what Python reads.

A record knows operations, not names. The names are read from the frames of the user's functions
while they run, line by line, since a variable may hold one value after another.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from .. import operators, tree
from ..backward import sweep
from ..core import Node, Tensor, mode, plain
from ..errors import DtypeError, message
from ..program import Names

TRUTH, ITEM, SWEEP = operators.truth.__code__, Tensor.item.__code__, sweep.__code__
PACKAGE = Path(__file__).parents[1]
# Where code lives whose variables say nothing to the user: here, in nn beside it, in NumPy, and in
# what these and Python's import system compile.
NOT_THE_USERS = (
    str(PACKAGE), str(PACKAGE.with_name("nn")), str(Path(np.__file__).parent), "<backward step>", "<frozen",
)  # fmt: skip


class Call:
    """A function called on traced arguments.

    Attributes
    ----------
    given : list of Tensor
        The arrays among the arguments, flat.
    output
        What the function returned.
    names : Names
    reads : list of (Node, object)
        Tensors whose value Python took in the user's code, for a branch or as a number.
    by_formula : set of Node
        What was recorded on the way back of a transform in the function, such as `grad`.
    """

    def __init__(self, f: Callable[..., Any], inputs: Sequence[Any]) -> None:
        self.names = Names()
        self.reads: list[tuple[Node, Any]] = []
        self.by_formula: set[Node] = set()
        self.sweeps = 0
        self.rank: dict[Node, int] = {}
        self.entered: dict[FrameType, int] = {}
        self.held: list[Any] = []
        self.given: list[Tensor] = []
        leaves = tree.leaves(list(inputs))
        asked = any(isinstance(one, Tensor) and one.requires_grad for one in leaves)
        floats = [
            np.asarray(plain(one)).dtype for one in leaves if isinstance(one, Tensor | np.ndarray)
        ]
        dtype = np.result_type(*floats) if floats else np.dtype(float)
        self.dtype = dtype if dtype.kind == "f" else np.dtype(float)
        self.asked = asked
        arguments = tree.rebuild(list(inputs), self._traced)
        for name, value in zip(_parameters(f, len(arguments)), arguments):
            self._name_argument(name, value)
        self._name_globals(f)
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            with mode(recording=True, everything=True, watchers=(self._on_node,)):
                self.output = f(*arguments)
        finally:
            sys.settrace(before)

    def _traced(self, leaf: Any) -> Any:
        """An argument as a Tensor; what is no array or float is passed as it is."""
        if isinstance(leaf, float) and not isinstance(leaf, np.generic):
            leaf = np.asarray(leaf, self.dtype)
        if isinstance(leaf, np.ndarray | np.generic) and np.asarray(leaf).dtype.kind in "fiub":
            array = np.asarray(leaf)
            leaf = Tensor(array, requires_grad=not self.asked and array.dtype.kind == "f")
        if isinstance(leaf, Tensor):
            self.given.append(leaf)
        return leaf

    def _name_argument(self, name: str, value: Any, inside: bool = False) -> None:
        """Items of a list by its name and their number; those of a dict by their key, with the path
        if the dict itself is in something."""
        if isinstance(value, Tensor):
            self.names.nodes.setdefault(value.node, name)
            self.names.hold(value.node.value, name)
            self.rank[value.node] = 0
        elif isinstance(value, dict):
            for key, one in value.items():
                self._name_argument(f"{name}.{key}" if inside else str(key), one, True)
        elif isinstance(value, list | tuple):
            for i, one in enumerate(value):
                self._name_argument(f"{name}.{i}", one, True)

    def _name_globals(self, f: Any) -> None:
        """What the function takes from around it."""
        code = getattr(f, "__code__", None)
        if code is None:
            return
        around = inspect.getclosurevars(f)
        for name, value in {**around.globals, **around.nonlocals}.items():
            self.names.add(name, value)

    # -- watching ----------------------------------------------------------------------------------

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code is TRUTH or code is ITEM:
            self._read(frame)
        if code is SWEEP:
            self.sweeps += 1
            return self._in_sweep
        if not _is_the_users(frame):
            return None
        self.entered[frame] = _depth(frame)
        for value in frame.f_locals.values():
            if isinstance(value, Tensor):
                self.rank.setdefault(value.node, 1 << 30)
        return self._on_line

    def _in_sweep(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.sweeps -= event == "return"
        return self._in_sweep

    def _on_node(self, node: Node) -> None:
        if self.sweeps:
            self.by_formula.add(node)

    def _on_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        rank = self.entered[frame]
        for name, value in frame.f_locals.items():
            if isinstance(value, Tensor):
                node = value.node
                known = self.rank.get(node)
                if known is None or rank < known < 1 << 30:
                    self.names.nodes[node] = name
                    self.rank[node] = rank
                elif (
                    known == 1 << 30
                    and node.primitive is not None
                    and rank == min(self.entered.values())
                ):
                    self.names.nodes.setdefault(node, name)
            elif isinstance(value, np.ndarray):
                self.names.hold(value, name)
        return self._on_line

    def _read(self, frame: FrameType) -> None:
        caller = frame.f_back
        while caller is not None and caller.f_globals.get("__name__") == operators.__name__:
            caller = caller.f_back
        if caller is not None and _is_the_users(caller):
            node = frame.f_locals["self"].node
            value = node.value.item()
            self.reads.append((node, bool(value) if frame.f_code is TRUTH else value))


def _is_the_users(frame: FrameType) -> bool:
    return not frame.f_code.co_filename.startswith(NOT_THE_USERS)


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def _parameters(f: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's first parameters."""
    try:
        found = [
            one.name for one in inspect.signature(f).parameters.values()
            if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        ]  # fmt: skip
    except (TypeError, ValueError):
        found = []
    return [*found, *[f"x{i}" for i in range(len(found), count)]][:count]


def outputs_of(output: Any) -> list[Tensor]:
    """What a function returned, as a list of tensors; of several, those that need a gradient.

    Raises
    ------
    DtypeError
        If there is none.
    """
    found = [one for one in tree.leaves(output) if isinstance(one, Tensor)]
    if not found:
        raise DtypeError(
            message("derive", "a function that returns a Tensor computed from its arguments",
                    f"{type(output).__name__}")
        )  # fmt: skip
    return [one for one in found if one.requires_grad] or found
