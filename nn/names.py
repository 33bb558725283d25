"""Things that are given by name or as a callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from tinygrad_np.errors import ArgumentError, message

F = TypeVar("F", bound=Callable[..., Any])


def named(operation: str, given: str | F, table: Mapping[str, F]) -> F:
    """The entry of that name, or the callable itself.

    Raises
    ------
    ArgumentError
        For an unknown name, with the near ones, or for what cannot be called.
    """
    if isinstance(given, str):
        if given in table:
            return table[given]
        near = get_close_matches(given.lower().replace("-", "_"), table, n=3, cutoff=0.5)
        fix = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
    elif callable(given):
        return given
    else:
        fix = ""
    raise ArgumentError(
        message(operation, f"a callable or one of {', '.join(table)}", repr(given), fix)
    )
