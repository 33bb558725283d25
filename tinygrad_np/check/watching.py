"""The user's own function, run on tensors and watched: what each variable held, and at which line."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from ..core import Node, Tensor, mode

# Code that is not the user's: ours, what ours is written out as, NumPy's, and Python's own imports.
NOT_THE_USERS = (
    str(Path(__file__).parents[1]), "<backward step>", str(Path(np.__file__).parent), "<frozen",
)  # fmt: skip


class Binding(NamedTuple):
    """A value that a variable was given: a node of the record, or an array."""

    name: str
    value: Any
    depth: int
    line: int
    place: str


class Watched:
    """One call, watched line by line.

    Attributes
    ----------
    result
        What the function returned; None if it raised ``error``.
    bindings : list of Binding
        In the order of time; containers contribute their elements.
    recorded : list of Node
        Every operation that was recorded.
    handed : list of Tensor
        The tensors among the arguments.
    """

    def __init__(self, f: Callable[..., Any], arguments: Sequence[Any]) -> None:
        self.bindings: list[Binding] = []
        self.recorded: list[Node] = []
        self.handed = [one for one in tree.leaves(list(arguments)) if isinstance(one, Tensor)]
        self.result: Any = None
        self.error: Exception | None = None
        self.stopped = ""
        self._seen: set[tuple[FrameType, str, int]] = set()
        self._alive: list[Any] = []  # so that an identity is not given twice
        self._lines: dict[FrameType, int] = {}
        self._base = 0
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            frame, self._base = frame.f_back, self._base + 1
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            with mode(recording=True, watchers=(self.recorded.append,)):
                self.result = f(*arguments)
        except (
            Exception
        ) as error:  # the user's code is not written for tensors: the report says where
            self.error = error
        finally:
            sys.settrace(before)
        self._lines.clear()

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename.startswith(NOT_THE_USERS):
            return None
        self._lines[frame] = frame.f_lineno
        return self._on_line

    def _on_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        line = self._lines[frame]
        self._look(frame, line)
        self._lines[frame] = frame.f_lineno
        if event == "exception" and not self.stopped:
            self.stopped = _place(frame, frame.f_lineno)
        return self._on_line

    def _look(self, frame: FrameType, line: int) -> None:
        for variable, value in frame.f_locals.items():
            for name, one in _held(variable, value):
                held = one.node if isinstance(one, Tensor) else one
                key = (frame, name, id(held))
                if key not in self._seen:
                    self._seen.add(key)
                    self._alive.append((frame, held))
                    self.bindings.append(
                        Binding(name, held, _depth(frame) - self._base, line, _place(frame, line))
                    )


def _held(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor | np.ndarray):
        yield name, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _held(f"{name}[{key!r}]", one)
    elif isinstance(value, list | tuple) and len(value) < 100:
        for i, one in enumerate(value):
            yield from _held(f"{name}[{i}]", one)


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def _place(frame: FrameType, line: int) -> str:
    return f"{line}: {linecache.getline(frame.f_code.co_filename, line).strip()}"
