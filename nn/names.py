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
                near(given, table))
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
            message(operation, f"one of {', '.join(names)}", repr(given), near(given, names))
        )


def near(given: Any, names: Iterable[str]) -> str:
    """The question whether near names are meant, if there are any; those that begin alike are.

    Examples
    --------
    >>> near("Vall_acc", ["loss", "val_loss", "val_accuracy"])
    "Did you mean 'val_accuracy' or 'val_loss'?"
    """
    if not isinstance(given, str):
        return ""
    plain = {name.lower(): name for name in names}
    wanted = given.lower().replace("-", "_")
    found = get_close_matches(wanted, plain, n=3, cutoff=0.5)
    found += [name for name in plain if wanted and name.startswith(wanted) and name not in found]
    return f"Did you mean {' or '.join(repr(plain[name]) for name in found[:3])}?" if found else ""
