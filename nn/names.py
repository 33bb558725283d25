"""Things that are given by name or as a callable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
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
    if isinstance(given, str) and given in table:
        return table[given]
    if callable(given):
        return given
    raise ArgumentError(
        message(operation, f"a callable or one of {', '.join(table)}", repr(given),
                _near(given, table))
    )  # fmt: skip


def check_name(operation: str, given: Any, names: Collection[str]) -> None:
    """Refuse what is not among the names.

    Raises
    ------
    ArgumentError
        With the near ones.
    """
    if not isinstance(given, str) or given not in names:
        raise ArgumentError(
            message(operation, f"one of {', '.join(names)}", repr(given), _near(given, names))
        )


def _near(given: Any, names: Iterable[str]) -> str:
    """The question whether near ones are meant, if there are any."""
    if not isinstance(given, str):
        return ""
    near = get_close_matches(given.lower().replace("-", "_"), names, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
