"""The options a module was made with: how they show in its repr, and sizes given by position."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from nn.module import Module
from tinygrad_np.errors import ArgumentError, message


def differing(module: Module, *names: str) -> list[str]:
    """``name=value`` of each option that is not at its default; by default of all options.

    Options are keyword arguments of a class, and attributes of the same names. Modules among the
    values are not shown: the repr shows them below.
    """
    defaults = {
        name: parameter.default
        for kind in reversed(type(module).__mro__)
        for name, parameter in signature(kind).parameters.items()
    }
    values = {name: getattr(module, name) for name in names or defaults}
    return [
        f"{name}={_short(value)}" for name, value in values.items()
        if not (isinstance(value, Module) or _same(value, defaults[name]))
    ]  # fmt: skip


def _same(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, type(default)) and bool(value == default))


def _short(value: Any) -> str:
    return f"{getattr(value, '__name__', value)!r:.40}"


def is_size(value: Any) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int | np.integer) and bool(value > 0)


def sizes(name: str, given: Sequence[Any], expected: str, most: int, least: int = 0) -> None:
    """Raise unless the sizes given by position are ``least`` to ``most`` whole numbers above 0.

    Raises
    ------
    ArgumentError
        Otherwise, with what was expected.
    """
    if not least <= len(given) <= most or not all(map(is_size, given)):
        raise ArgumentError(
            message(name, f"{expected} as whole numbers of at least 1",
                    f"({', '.join(map(repr, given))})", "Everything else is given by keyword.")
        )  # fmt: skip


def in_and_out(name: str, given: Sequence[int]) -> tuple[int | None, int]:
    """``in, out``, or only ``out`` where the input size is taken from the first batch.

    Raises
    ------
    ArgumentError
        For what is neither.
    """
    sizes(name, given, "(in, out) or (out,)", most=2, least=1)
    return (given[0] if len(given) == 2 else None), given[-1]
