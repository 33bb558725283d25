"""NumPy functions that make arrays, as the user's code sees them while it is recorded.

``out = np.zeros((N, K))`` followed by ``out[i] = x[i] @ W`` is forward code like any other, but a
plain array can hold no record. So while a function is watched, the arrays that *its* code makes are
tensors, and a list of tensors that it hands to NumPy is stacked. Nobody else's calls are changed.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core import Tensor
from ..ops.shape import stack

MAKERS = ("zeros", "ones", "empty", "full")
CONVERTERS = ("array", "asarray")
OF_LISTS = ("sum", "mean", "max", "min", "prod")


@contextmanager
def tensors_made(is_users: Callable[[str], bool]) -> Iterator[None]:
    """Let the code of files that ``is_users`` make tensors where it makes floating-point arrays."""
    me = threading.get_ident()
    before = {name: getattr(np, name) for name in (*MAKERS, *CONVERTERS, *OF_LISTS)}

    def theirs() -> bool:
        return threading.get_ident() == me and is_users(sys._getframe(2).f_code.co_filename)

    def maker(make: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(make)
        def made(*args: Any, **kwargs: Any) -> Any:
            array = make(*args, **kwargs)
            return Tensor(array) if theirs() and _is_float(array) else array

        return made

    def converter(convert: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(convert)
        def made(*args: Any, **kwargs: Any) -> Any:
            if not theirs():
                return convert(*args, **kwargs)
            if args and _holds_tensor(args[0]):
                joined = _joined(args[0])
                return joined if convert is before["asarray"] else joined + 0
            array = convert(*args, **kwargs)
            return Tensor(array) if _is_float(array) else array

        return made

    def of_list(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def made(*args: Any, **kwargs: Any) -> Any:
            if args and isinstance(args[0], list | tuple) and _holds_tensor(args[0]) and theirs():
                args = (_joined(args[0]), *args[1:])
            return function(*args, **kwargs)

        return made

    wrap = dict.fromkeys(MAKERS, maker) | dict.fromkeys(CONVERTERS, converter)
    wrap |= dict.fromkeys(OF_LISTS, of_list)
    for name, original in before.items():
        setattr(np, name, wrap[name](original))
    try:
        yield
    finally:
        for name, original in before.items():
            setattr(np, name, original)


def _is_float(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind == "f"


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_tensor(one) for one in value)
    return isinstance(value, Tensor)


def _joined(value: Any) -> Any:
    """A nest of tensors and numbers as one tensor, as NumPy makes one array of it."""
    return stack([_joined(one) for one in value]) if isinstance(value, list | tuple) else value
