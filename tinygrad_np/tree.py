"""Tuples, lists and dicts of arrays, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def leaves(tree: Any) -> list[Any]:
    """What is in a nest of tuples, lists and dicts, in order."""
    found: list[Any] = []
    rebuild(tree, found.append)
    return found


def rebuild(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same nest with ``change(leaf)`` in place of each leaf."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(rebuild(part, change) for part in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(rebuild(part, change) for part in tree)
    if isinstance(tree, dict):
        return {key: rebuild(part, change) for key, part in tree.items()}
    return change(tree)


def like(tree: Any, values: Iterator[Any]) -> Any:
    """The same nest with the next of ``values`` in place of each leaf."""
    return rebuild(tree, lambda _: next(values))
