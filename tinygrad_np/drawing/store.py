"""A graph as JSON, and back: every field of the records in `graph`, checked when it is read.

A file may come from anywhere, so a text in it is only ever a text, and an id that would mean
something else to the layout engine is refused.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import ArgumentError, TensorError, message
from .graph import Graph

FORMAT, VERSION = "tinygrad_np graph", 1
ID = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

Look = TypeVar("Look")


def written(graph: Graph, look: Any) -> str:
    """The JSON of a graph and of how it is drawn."""
    whole = {"format": FORMAT, "version": VERSION, "look": _plain(look), "graph": _plain(graph)}
    return json.dumps(whole, allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n"


def read(path: Path, look: type[Look]) -> tuple[Graph, Look]:
    """The graph in a file, and how it is drawn.

    Raises
    ------
    ArgumentError
        If the file holds no graph, is damaged, or is of a later version.
    """
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _refused(path, "JSON", f"what is none ({error})") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise _refused(path, "a graph that Drawing.save wrote", "other JSON")
    if whole.get("version") != VERSION:
        raise _refused(path, f"version {VERSION}", f"version {whole.get('version')!r}",
                       "Read it with the version of tinygrad_np that wrote it.")  # fmt: skip
    try:
        graph = _made(Graph, whole.get("graph"), "graph")
        _check(graph)
        return graph, _made(look, whole.get("look"), "look")
    except TensorError as error:
        raise ArgumentError(f"draw.load: {path.name} is damaged: {error}") from error


def _refused(path: Path, expected: str, got: str, fix: str = "") -> ArgumentError:
    return ArgumentError(message(f"draw.load: {path.name}", expected, got, fix))


def _plain(one: Any) -> Any:
    """A record as a dict without the fields that have their default."""
    if isinstance(one, float):
        return one if math.isfinite(one) else str(one)
    if is_dataclass(one):
        pairs = [(field.name, getattr(one, field.name), field.default) for field in fields(one)]
    elif hasattr(one, "_fields"):
        pairs = [(k, getattr(one, k), one._field_defaults.get(k, ...)) for k in one._fields]
    else:
        return [_plain(each) for each in one] if isinstance(one, tuple) else one
    return {name: _plain(value) for name, value, default in pairs if value != default}


def _made(kind: Any, data: Any, where: str) -> Any:
    """A value of a type from plain data that may be anything."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _either(get_args(kind), data, where)
    if origin is Literal:
        fits: bool = data in get_args(kind)
    elif origin is tuple:
        if isinstance(data, list):
            of = get_args(kind)[0]
            return tuple([_made(of, one, f"{where}[{i}]") for i, one in enumerate(data)])
        fits = False
    elif is_dataclass(kind) or hasattr(kind, "_fields"):
        if isinstance(data, dict):
            return _record(kind, data, where)
        fits = False
    elif kind is float:
        if data in ("nan", "inf", "-inf"):
            return float(data)
        fits = isinstance(data, float | int) and not isinstance(data, bool)
        data = float(data) if fits else data
    elif kind is type(None):
        fits = data is None
    else:
        fits = type(data) is kind
    if not fits:
        raise ArgumentError(message(where, _named(kind), f"{data!r:.40}"))
    return data


def _either(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    errors = []
    for kind in kinds:
        try:
            return _made(kind, data, where)
        except ArgumentError as error:
            errors.append(error)
    raise errors[0]


def _record(kind: Callable[..., Any], data: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    unknown = data.keys() - hints.keys()
    if unknown:
        raise ArgumentError(message(where, f"fields among {', '.join(hints)}", ", ".join(unknown)))
    given = {name: _made(hints[name], one, f"{where}.{name}") for name, one in data.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise ArgumentError(f"{where}: {error}.") from error


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    return "a list" if get_origin(kind) is tuple else str(kind.__name__)


def _check(graph: Graph) -> None:
    """Every id is a plain word and there once, and every reference leads somewhere."""
    drawn = {part.id for part in graph.parts}
    ids = [*[part.id for part in graph.parts], *[frame.id for frame in graph.frames]]
    for id, n in Counter(ids).items():
        if n > 1 or not ID.fullmatch(id):
            raise ArgumentError(message("graph", "ids that are words, each once", f"{id!r:.40}"))
    frames = {""}
    for frame in graph.frames:
        _lead(frame.inside, frames, f"the frame {frame.id}")
        frames.add(frame.id)
    for part in graph.parts:
        _lead(part.frame, frames, part.id)
    for edge in graph.edges:
        _lead(edge.tail, drawn, "an edge")
        _lead(edge.head, drawn, "an edge")


def _lead(id: str, known: set[str], what: str) -> None:
    if id not in known:
        raise ArgumentError(message("graph", f"{what} to lead to what is there", f"{id!r:.40}"))
