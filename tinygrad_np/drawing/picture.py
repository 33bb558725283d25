"""`draw`, and the picture it returns."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core import Node, Tensor
from ..errors import ArgumentError, DtypeError, message
from . import dot as dot_source
from .engine import render
from .fold import LARGEST_IN_FULL, earlier, near, repeats
from .graph import Graph, given_names, read, recorded
from .theme import THEMES

LARGEST_PNG = 2000  # boxes
DIRECTIONS = {"down": "TB", "right": "LR"}


class Drawing:
    """A picture of a graph. A notebook shows it; `save` writes it to a file.

    Attributes
    ----------
    graph : Graph
        What the picture shows, as plain data.
    dot : str
        The source in Graphviz's language; needs no engine.
    svg : str
        The picture as SVG.
    png : bytes
        The picture as PNG.
    """

    def __init__(self, graph: Graph, source: str) -> None:
        self.graph = graph
        self.dot = source

    def __repr__(self) -> str:
        return f"Drawing({self._size} boxes, {len(self.graph.edges)} edges)"

    @property
    def _size(self) -> int:
        return len(self.graph.boxes) + len(self.graph.folds) + len(self.graph.tags)

    @cached_property
    def svg(self) -> str:
        return render(self.dot, "svg").decode()

    @cached_property
    def png(self) -> bytes:
        if self._size > LARGEST_PNG:
            raise ArgumentError(
                message("draw", f"at most {LARGEST_PNG:,} boxes in a PNG", f"{self._size:,}",
                        "Save it as .svg, or draw less of it (fold=True, around=).")
            )  # fmt: skip
        return render(self.dot, "png")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture; the ending says how: ``.svg``, ``.png`` or ``.dot``.

        The file is written beside its place and then renamed, so a failure leaves an old one whole.

        Raises
        ------
        ArgumentError
            For another ending, and for a PNG of more than 2,000 boxes.
        EngineError
            If no layout engine is installed (``.dot`` needs none).
        """
        path = Path(path)
        forms: dict[str, Callable[[], bytes]] = {
            ".svg": lambda: self.svg.encode(),
            ".png": lambda: self.png,
            ".dot": lambda: self.dot.encode(),
        }
        form = forms.get(path.suffix.lower())
        if form is None:
            raise ArgumentError(
                message("draw.save", f"a name that ends in {', '.join(forms)}", repr(path.name))
            )
        content = form()
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg, "text/plain": repr(self)}


def draw(
    target: Tensor | Sequence[Tensor],
    names: Mapping[str, Any] | None = None,
    *,
    fold: bool | None = None,
    around: Tensor | None = None,
    radius: int = 2,
    formulas: bool = True,
    theme: str = "light",
    direction: str = "down",
    legend: bool = True,
) -> Drawing:
    """Draw what a tensor was computed from, with values, gradients and local derivatives.

    Each box shows name, shape, dtype, value and gradient; a result also its operation. An edge into
    an operation carries what backward sends to that argument, ``g`` being the gradient of the
    result, and between scalars the local derivative as a number. A gradient that has not been
    computed is said to be missing. Nothing of the graph is changed.

    Parameters
    ----------
    target : Tensor or sequence of Tensor
    names : dict, optional
        Names for tensors and arrays, such as ``locals()``; they go before ``name=``.
    fold : bool, optional
        Whether repeated blocks, and all but the last operations, become one box that says how many
        they are. By default for graphs of more than 100 operations.
    around : Tensor, optional
        Draw only what is at most ``radius`` edges from this tensor.
    radius : int
    formulas : bool
        Whether the edges carry their formulas.
    theme : {"light", "dark"}
    direction : {"down", "right"}
        Where the computation runs.
    legend : bool
        Whether the picture explains its shapes and colours.

    Returns
    -------
    Drawing

    Raises
    ------
    DtypeError
        If the target is not a tensor.
    ArgumentError
        For an unknown theme or direction, and an ``around`` that the target does not depend on.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> a = tg.Tensor(2.0, requires_grad=True, name="a")
    >>> picture = tg.draw(a * a + 1)
    >>> picture
    Drawing(4 boxes, 4 edges)
    >>> picture.graph.edges[0].formula, picture.graph.edges[0].slope
    ('g * a', 2.0)
    """
    targets = _nodes(target)
    _one_of("theme", theme, THEMES)
    _one_of("direction", direction, DIRECTIONS)
    nodes = recorded(targets)
    crop = None if around is None else _crop(nodes, around, radius)
    operations = sum(node.primitive is not None for node in nodes)
    if fold is None:
        fold = crop is None and operations > LARGEST_IN_FULL
    groups = earlier(nodes, targets, repeats(nodes, targets), LARGEST_IN_FULL) if fold else []
    note = "" if crop is None else f"{len(crop):,} of {len(nodes):,} values, within {radius} edges"
    graph = read(targets, nodes, given_names(nodes, names), groups, crop, formulas, note)
    return Drawing(graph, dot_source.dot(graph, THEMES[theme], DIRECTIONS[direction], legend))


def _nodes(target: Any) -> list[Node]:
    tensors = [target] if isinstance(target, Tensor) else target
    if not isinstance(tensors, list | tuple) or not all(isinstance(t, Tensor) for t in tensors):
        raise DtypeError(message("draw", "a Tensor or a list of Tensors", type(target).__name__))
    if not tensors:
        raise ArgumentError(message("draw", "at least one Tensor", "an empty list"))
    return [tensor.node for tensor in tensors]


def _crop(nodes: Sequence[Node], around: Tensor, radius: int) -> frozenset[Node]:
    if not isinstance(around, Tensor):
        raise DtypeError(message("draw", "around= to be a Tensor", type(around).__name__))
    if around.node not in nodes:
        raise ArgumentError(
            message("draw", "around= to be a tensor that the target depends on", around.node.label)
        )
    return near(nodes, around.node, radius)


def _one_of(argument: str, value: str, known: Mapping[str, Any]) -> None:
    if value not in known:
        raise ArgumentError(message("draw", f"{argument}= among {', '.join(known)}", repr(value)))
