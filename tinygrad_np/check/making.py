"""NumPy, as the user's code sees it while it is recorded: the arrays that it makes are tensors.

``out = np.zeros((N, K))`` followed by ``out[i] = x[i] @ W`` is forward code like any other, but a
plain array can hold no record. So in the modules of functions that are watched the name ``np`` stands
for NumPy with some functions that make tensors, and that stack the tensors in a list. NumPy
itself is not changed: nobody else sees a difference.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..core import Tensor
from ..ops.shape import stack

Function = Callable[..., Any]


class TensorNumpy(ModuleType):
    """NumPy, but for the functions that make arrays."""

    def __init__(self) -> None:
        super().__init__("numpy", np.__doc__)
        self.own = threading.get_ident()
        made: dict[str, Callable[[Function], Function]] = dict.fromkeys(
            ("zeros", "ones", "empty", "full"), self._maker
        )
        made |= dict.fromkeys(("array", "asarray"), self._converter)
        made |= dict.fromkeys(("sum", "mean", "max", "min", "prod"), self._of_list)
        for name, wrap in made.items():
            setattr(self, name, wrap(getattr(np, name)))
        self.instead = {id(np): self} | {
            id(getattr(np, name)): getattr(self, name) for name in made
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def _maker(self, make: Function) -> Function:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            array = make(*args, **kwargs)
            return Tensor(array) if self._is_ours(array) else array

        return made

    def _converter(self, convert: Function) -> Function:
        @functools.wraps(convert)
        def made(*args: Any, **kwargs: Any) -> Any:
            if args and _holds_tensor(args[0]):
                joined = _joined(args[0])
                return joined if convert is np.asarray else joined + 0
            array = convert(*args, **kwargs)
            return Tensor(array) if self._is_ours(array) else array

        return made

    def _of_list(self, function: Function) -> Function:
        @functools.wraps(function)
        def made(*args: Any, **kwargs: Any) -> Any:
            if args and isinstance(args[0], list | tuple) and _holds_tensor(args[0]):
                args = (_joined(args[0]), *args[1:])
            return function(*args, **kwargs)

        return made

    def _is_ours(self, array: Any) -> bool:
        """Whether a tensor is wanted: in this thread, for floating-point numbers."""
        is_float = isinstance(array, np.ndarray) and array.dtype.kind == "f"
        return is_float and threading.get_ident() == self.own


class Replaced:
    """Modules in which names of NumPy stand for `TensorNumpy`, until they are restored."""

    def __init__(self) -> None:
        self.numpy = TensorNumpy()
        self.before: list[tuple[dict[str, Any], str, Any]] = []
        self.seen: set[int] = set()

    def replace_in(self, module: dict[str, Any]) -> None:
        """Let the names of a module's globals stand for the other functions."""
        if id(module) in self.seen:
            return
        self.seen.add(id(module))
        for name, value in list(module.items()):
            other = self.numpy.instead.get(id(value))
            if other is not None:
                self.before.append((module, name, value))
                module[name] = other

    def restore(self) -> None:
        for module, name, value in self.before:
            module[name] = value


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_tensor(one) for one in value)
    return isinstance(value, Tensor)


def _joined(value: Any) -> Any:
    """A nest of tensors and numbers as one tensor, as NumPy makes one array of it."""
    return stack([_joined(one) for one in value]) if isinstance(value, list | tuple) else value
