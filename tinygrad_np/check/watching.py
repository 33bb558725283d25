"""The user's own function, run and watched: what each variable held, when, and at which line."""

from __future__ import annotations

import ast
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..core import Node, Tensor, mode
from .making import Replaced

_PACKAGE = Path(__file__).parents[1]
# Code that is not the user's: ours, NumPy's, and what is compiled from text by these.
NOT_THE_USERS = (
    *(str(path) + os.sep for path in (_PACKAGE, _PACKAGE.with_name("nn"), Path(np.__file__).parent)),
    "<backward step>", "<frozen", "<__array_function__",
)  # fmt: skip
LIBRARIES = ("tinygrad_np", "nn", "numpy")  # what these make of text, too (a dataclass's __init__)
STANDARD = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
LONGEST_LIST = 400
DEEPEST = 4  # containers within containers
NO_HOLDERS = (type, ModuleType, FunctionType, MethodType, np.random.Generator)

ITEM = Tensor.item.__code__
# Where in the user's code an operation was recorded: code, instruction, which call of it, and line.
Position = tuple[CodeType, int, int, int]


def is_users(filename: str) -> bool:
    """Whether a file is the user's own code."""
    standard = filename.startswith(STANDARD) and "site-packages" not in filename
    return not standard and not filename.startswith(NOT_THE_USERS)


class Binding(NamedTuple):
    """A value that a variable was given: a node of the record, or a copy of an array.

    ``handle`` is the identity of the array or tensor itself, which stays when it is written into;
    ``tick`` counts the lines that were executed before.
    """

    name: str
    value: Any
    depth: int
    line: int
    place: str
    tick: int
    handle: int
    frame: int


class Watched:
    """One call, watched line by line.

    Parameters
    ----------
    call : callable
        Calls the user's function.
    making : bool
        Whether arrays that the user's code makes (``np.zeros``) are tensors.

    Attributes
    ----------
    result
        What the function returned; None if it raised ``error``.
    bindings : list of Binding
        In the order of time; containers and objects contribute what is in them.
    recorded : dict
        Every operation that was recorded, and where.
    stopped : str
        The line of the user's that raised the error, and ``stopped_at`` its tick.
    left : list of str
        The lines that made a Python number of a tensor that needs a gradient.
    """

    def __init__(self, call: Callable[[], Any], making: bool = False) -> None:
        self.bindings: list[Binding] = []
        self.recorded: dict[Node, Position | None] = {}
        self.result: Any = None
        self.error: Exception | None = None
        self.stopped, self.stopped_at = "", 0
        self.left: list[str] = []
        self._ticks = 0
        self._raised: BaseException | None = None
        self._last: dict[tuple[FrameType, str], tuple[int, Any]] = {}
        self._alive: list[Any] = []  # so that an identity is not given twice
        self._frames: dict[FrameType, int] = {}
        self._lines: dict[FrameType, int] = {}
        self._base = _depth(sys._getframe())
        before = sys.gettrace()
        self._replaced = Replaced() if making else None
        with mode(recording=True, watchers=(self._on_node,)):
            sys.settrace(self._on_call)
            try:
                self.result = call()
            except Exception as error:  # not written for tensors: the report says where
                self.error = error
            finally:
                sys.settrace(before)
                if self._replaced is not None:
                    self._replaced.restore()
        self._lines.clear()
        self._last.clear()

    def _on_node(self, node: Node) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not is_users(frame.f_code.co_filename):
            frame = frame.f_back
        self.recorded[node] = (
            None
            if frame is None
            else (
                frame.f_code,
                frame.f_lasti,
                self._frames.setdefault(frame, len(self._frames)),
                frame.f_lineno,
            )
        )

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is ITEM and frame.f_locals["self"].node.needs:
            self._note_number(frame)
        filename = frame.f_code.co_filename
        room = frame.f_globals.get("__name__", "").partition(".")[0]
        if not is_users(filename) or (filename == "<string>" and room in LIBRARIES):
            return None
        if self._replaced is not None:
            self._replaced.replace_in(frame.f_globals)
        self._lines[frame] = frame.f_lineno
        return self._on_line

    def _note_number(self, frame: FrameType | None) -> None:
        while frame is not None and not is_users(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None:
            place = _place(frame.f_code, frame.f_lineno)
            if place not in self.left:
                self.left.append(place)

    def _on_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        line = self._lines[frame]
        self._ticks += 1
        self._look(frame, line)
        self._lines[frame] = frame.f_lineno
        if event == "exception" and arg[1] is not self._raised:
            self._raised = arg[1]
            self.stopped, self.stopped_at = _place(frame.f_code, frame.f_lineno), self._ticks
        return self._on_line

    def _look(self, frame: FrameType, line: int) -> None:
        for variable, value in frame.f_locals.items():
            for name, one in held(variable, value):
                before = self._last.get((frame, name))
                if isinstance(one, Tensor):
                    content: Any = one.node
                    if before is not None and before[1] is content:
                        continue
                elif before is not None and before[0] == id(one) and _same(before[1], one):
                    continue
                else:
                    content = one.copy()
                self._last[frame, name] = id(one), content
                self._alive += [frame, one]
                place = _place(frame.f_code, line)
                serial = self._frames.setdefault(frame, len(self._frames))
                self.bindings.append(
                    Binding(name, content, _depth(frame) - self._base, line, place, self._ticks,
                            id(one), serial)
                )  # fmt: skip


def _same(before: Any, now: Any) -> bool:
    return before.shape == now.shape and bool(
        np.array_equal(before, now, equal_nan=now.dtype.kind == "f")
    )


def held(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Arrays and tensors in a variable, in its containers and in its attributes, as one types them."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "fiub":
            yield name, value
    elif depth >= DEEPEST:
        return
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from held(f"{name}[{key!r}]", one, depth + 1)
    elif isinstance(value, list | tuple) and len(value) < LONGEST_LIST:
        for i, one in enumerate(value):
            yield from held(f"{name}[{i}]", one, depth + 1)
    elif has_attributes(value):
        for key, one in vars(value).items():
            yield from held(f"{name}.{key}", one, depth + 1)


def has_attributes(value: Any) -> bool:
    """Whether it is an object of the user's, whose attributes may be arrays."""
    inside = hasattr(value, "__dict__") and not isinstance(value, NO_HOLDERS)
    return inside and type(value).__module__.partition(".")[0] not in (
        "numpy",
        "builtins",
        "functools",
    )


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def _place(code: CodeType, line: int) -> str:
    return f"{line}: {statement(code.co_filename, line)}"


@cache
def _statements(filename: str, lines: int) -> dict[int, tuple[int, int]]:
    """For each line of a file, the first and last line of the smallest statement around it."""
    source = "".join(linecache.getlines(filename))
    found: dict[int, tuple[int, int]] = {}
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return found
    simple = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    simple.sort(key=lambda node: (node.end_lineno or 0) - node.lineno, reverse=True)
    for node in simple:
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
        found |= dict.fromkeys(range(node.lineno, last + 1), (node.lineno, last))
    return found


def statement(filename: str, line: int) -> str:
    """The statement at a line of source, in one line; empty where there is no source."""
    lines = linecache.getlines(filename)
    first, last = _statements(filename, len(lines)).get(line, (line, line))
    return " ".join(part.strip() for part in lines[first - 1 : last])
