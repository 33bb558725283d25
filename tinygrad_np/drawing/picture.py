"""`draw`, and the picture it returns."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core import Node, Tensor
from ..errors import ArgumentError, DtypeError, message
from . import diff as comparison
from . import dot as dot_source
from . import store
from .engine import render
from .fold import LARGEST_IN_FULL, Collapse, Modules, earlier, near, repeats
from .graph import Call, Graph, Group, Reading, given_names, recorded
from .overlay import overlay as overlaid
from .page import page
from .passes import beside
from .steps import Story, Teller
from .theme import THEMES
from .trace import Trace, is_module, of_model

LARGEST_PNG = 2000  # boxes
DIRECTIONS = {"down": "TB", "right": "LR"}


@dataclass(frozen=True)
class Look:
    """How a graph is drawn: see `draw`."""

    theme: str = "light"
    direction: str = "down"
    legend: bool = True

    def __post_init__(self) -> None:
        _one_of("theme", self.theme, THEMES)
        _one_of("direction", self.direction, DIRECTIONS)


class Drawing:
    """A picture of a graph. A notebook shows it; `save` writes it to a file.

    Attributes
    ----------
    graph : Graph
        What the picture shows, as plain data.
    look : Look
    dot : str
        The source in Graphviz's language; needs no engine.
    svg : str
        The picture as SVG.
    png : bytes
        The picture as PNG.
    html : str
        A page, whole in one file, that steps through the operations and then back through the VJPs.
    story : Story
        The steps of the page, with their numbers, as plain data.
    """

    def __init__(self, graph: Graph, look: Look, tell: Callable[[], Story] | None = None) -> None:
        self.graph = graph
        self.look = look
        self._tell = tell

    def __repr__(self) -> str:
        return f"Drawing({self._size} boxes, {len(self.graph.edges)} edges)"

    @property
    def _size(self) -> int:
        return len(self.graph.boxes) + len(self.graph.folds) + len(self.graph.tags)

    @cached_property
    def dot(self) -> str:
        look = self.look
        theme, direction = THEMES[look.theme], DIRECTIONS[look.direction]
        return dot_source.dot(self.graph, theme, direction, look.legend)

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

    @cached_property
    def story(self) -> Story:
        if self._tell is None:
            raise ArgumentError(
                "draw: the steps of a page are computed from the tensors, and this drawing has only "
                "what they looked like. Save the page when they are drawn."
            )
        return self._tell()

    @cached_property
    def html(self) -> str:
        return page(self.story, DIRECTIONS[self.look.direction])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture; its ending is ``.svg``, ``.png``, ``.dot``, ``.html`` or ``.json``.

        JSON is what `draw.load` reads and draws again.

        The file is written beside its place and then renamed, so a failure leaves an old one whole.

        Raises
        ------
        ArgumentError
            For another ending, and for a PNG of more than 2,000 boxes.
        EngineError
            If no layout engine is installed (``.dot`` and ``.json`` need none).
        """
        path = Path(path)
        forms: dict[str, Callable[[], bytes]] = {
            ".svg": lambda: self.svg.encode(),
            ".png": lambda: self.png,
            ".dot": lambda: self.dot.encode(),
            ".html": lambda: self.html.encode(),
            ".json": lambda: store.written(self.graph, self.look).encode(),
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


class Difference(Drawing):
    """What is another in a second graph than in a first; as a picture, the second with marks.

    Attributes
    ----------
    structure, values, gradients : tuple of str
        A line for each difference.
    text : str
        All of them, as ``print`` shows them.
    """

    def __init__(self, found: comparison.Found, look: Look) -> None:
        super().__init__(found.graph, look)
        self.structure = found.structure
        self.values = found.values
        self.gradients = found.gradients

    @property
    def text(self) -> str:
        parts = {"structure": self.structure, "values": self.values, "gradients": self.gradients}
        texts = [
            "".join([f"\n  {line}" for line in some]) or " the same" for some in parts.values()
        ]
        return "\n".join([f"{what}:{text}" for what, text in zip(parts, texts)])

    def __repr__(self) -> str:
        return self.text


class Draw:
    """What `draw` is: a function, with the functions `draw.load` and `draw.diff`."""

    def __call__(
        self,
        target: Any,
        *inputs: Any,
        names: Mapping[str, Any] | None = None,
        fold: bool | None = None,
        depth: int | None = None,
        collapse: Collapse = (),
        around: Tensor | None = None,
        radius: int = 2,
        backward: bool = False,
        overlay: str | Mapping[str, str] | None = None,
        formulas: bool = True,
        theme: str = "light",
        direction: str = "down",
        legend: bool = True,
    ) -> Drawing:
        """Draw a computation, with values, gradients and local derivatives.

        Each box shows name, shape, dtype, value and gradient; a result also its operation. An edge
        into an operation carries what backward sends to that argument, ``g`` being the gradient of
        the result, and between scalars the local derivative as a number. A gradient that has not
        been computed is said to be missing. Nothing of the graph, of its gradients and of a model
        is changed.

        Parameters
        ----------
        target : Tensor, sequence of Tensor, callable, or module
            What was computed; or a function, or a model, which is called once. A module is what has
            ``named_modules()`` and ``forward``; what it computes is drawn inside a box of its own.
        *inputs
            For a function or a model. Floating-point arrays become Tensors; if nothing that a
            function is given or refers to needs a gradient, they do.
        names : dict, optional
            Names for tensors and arrays, such as ``locals()``. Next count ``name=``, then the
            variables of the function that is drawn and the paths of the modules.
        fold : bool, optional
            Whether repeated blocks, and all but the last operations, become one box that says how
            many they are. By default for graphs of more than 100 operations.
        depth : int, optional
            How many levels of modules are opened; deeper ones are one box each, and equal ones in a
            row one box together. By default all, or in a graph to be folded as many as fit.
        collapse : str, sequence of str, or callable
            Modules to be drawn as one box: paths or class names (``"blocks.*"``, ``"Dense"``), or a
            function of the module that says whether.
        around : Tensor, optional
            Draw only what is at most ``radius`` edges from this tensor.
        radius : int
        backward : bool
            Whether the backward pass is drawn beside the forward one: for each value the gradient,
            ``dW`` for ``W``, tied to it by a dashed line. It starts from ones, and calls no hooks.
        overlay : {"bytes", "time", "gradients", "nonfinite"} or dict, optional
            Of each operation the bytes kept for backward, or the time of running it again; of each
            gradient the norm, with vanishing and exploding ones framed; or what is not finite, the
            first framed and what follows hatched. A dict gives verdicts by name: ``"wrong"`` is
            framed, ``"follows"`` hatched.
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
            If the target is none of these, or a function returns no Tensor.
        ArgumentError
            For an unknown name among the options, an ``around`` that the target does not depend on,
            and a model that waits for its first batch.
        GradientError
            If a backward pass is asked for where no gradient flows.

        Examples
        --------
        >>> import tinygrad_np as tg
        >>> a = tg.Tensor(2.0, requires_grad=True, name="a")
        >>> picture = tg.draw(a * a + 1)
        >>> picture
        Drawing(4 boxes, 4 edges)
        >>> picture.graph.edges[0].formula, picture.graph.edges[0].slope
        ('g * a', 2.0)
        >>> def line(x, slope):
        ...     y = x * slope
        ...     return y + 1
        >>> [box.name for box in tg.draw(line, 2.0, 3.0).graph.boxes]
        ['x', 'slope', '1', 'y', 'v1']
        """
        look = Look(theme, direction, legend)
        trace = _traced(target, inputs)
        targets = trace.targets if trace else _nodes(target)
        nodes = recorded(targets)
        homes = trace.homes(nodes) if trace else {}
        crop = None if around is None else _crop(nodes, around, radius)
        if fold is None:
            operations = sum(node.primitive is not None for node in nodes)
            fold = crop is None and operations > LARGEST_IN_FULL
        if homes:
            groups, homes = _folded_modules(nodes, targets, homes, fold, depth, collapse)
        elif depth is not None or collapse:
            raise ArgumentError(
                message("draw", "a module, or a function that calls one, for depth= and collapse=",
                        type(target).__name__, "Draw the model itself: tg.draw(model, x).")
            )  # fmt: skip
        else:
            groups = repeats(nodes, targets) if fold else []
        if fold:
            groups = earlier(nodes, targets, groups, LARGEST_IN_FULL)
        given = given_names(nodes, names, trace.names if trace else ())
        apart = trace.inputs(nodes) if trace else set()
        reading = Reading(targets, nodes, given, groups, crop, homes, apart)
        notes = []
        if crop is not None:
            notes.append(f"{len(crop):,} of {len(nodes):,} values, within {radius} edges")
        teller = Teller(reading, formulas, "\n".join(notes))
        marks = {}
        if overlay is not None:
            found = overlaid(overlay, targets, nodes, reading.names)
            marks = found.on(groups)
            notes.append(found.note)
        graph = reading.graph(formulas, "\n".join(notes), marks)
        return Drawing(beside(graph, reading) if backward else graph, look, teller.tell)

    def load(self, path: str | os.PathLike[str]) -> Drawing:
        """The drawing that was saved as JSON, to be drawn again and compared.

        Parameters
        ----------
        path : path
            A file that `Drawing.save` wrote.

        Returns
        -------
        Drawing

        Raises
        ------
        ArgumentError
            If the file holds no graph, is damaged, or is of a later version.

        Examples
        --------
        >>> import tempfile, tinygrad_np as tg
        >>> x = tg.Tensor(2.0, requires_grad=True, name="x")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = tg.draw(x * x).save(f"{folder}/graph.json")
        ...     tg.draw.load(path)
        Drawing(2 boxes, 2 edges)
        """
        graph, look = store.read(Path(path), Look)
        return Drawing(graph, look)

    def diff(self, a: Drawing, b: Drawing, *, rtol: float = 1e-6) -> Difference:
        """What changed from one drawing to another: structure, values, gradients.

        Parameters
        ----------
        a, b : Drawing
            Of two runs, or of two versions, of the same computation.
        rtol : float
            By how much numbers may differ, relative to the norm of the array, and still be the same.

        Returns
        -------
        Difference
            Prints as text, and draws as ``b`` with what changed marked.

        Raises
        ------
        DtypeError
            If one of them is not a Drawing.

        Examples
        --------
        >>> import tinygrad_np as tg
        >>> x = tg.Tensor(2.0, requires_grad=True, name="x")
        >>> before = tg.draw(x * 3)
        >>> x.data = 4.0
        >>> tg.draw.diff(before, tg.draw(x * 3))
        structure: the same
        values:
          x: 2 -> 4
          v1: 6 -> 12
        gradients: the same
        """
        for one in (a, b):
            if not isinstance(one, Drawing):
                raise DtypeError(
                    message("draw.diff", "two Drawings", type(one).__name__,
                            "Draw the graphs first, or draw.load() what was saved.")
                )  # fmt: skip
        return Difference(comparison.compared(a.graph, b.graph, rtol), b.look)


draw = Draw()


def _traced(target: Any, inputs: Sequence[Any]) -> Trace | None:
    """The target run on its inputs, if it is to be run."""
    if is_module(target):
        return of_model(target, inputs)
    if callable(target):
        return Trace(target, inputs)
    if inputs:
        raise DtypeError(
            message("draw", "inputs only after a function or a module", type(target).__name__,
                    "Several tensors are drawn as a list: draw([a, b]).")
        )  # fmt: skip
    return None


def _folded_modules(
    nodes: Sequence[Node], targets: Sequence[Node], homes: Mapping[Node, Call], fold: bool,
    depth: int | None, collapse: Collapse,
) -> tuple[list[Group], dict[Node, Call]]:  # fmt: skip
    """What of the modules is one box, and where all else is drawn: if need be at less depth."""
    modules = Modules(nodes, homes)
    collapsed = modules.chosen(collapse)
    apart = set(targets) - {nodes[-1]}
    deepest = max(modules.levels.values(), default=0)
    for level in [deepest, *range(deepest - 1, 0, -1)] if fold and depth is None else [depth]:
        groups, open_homes = modules.groups(level, collapsed, fold, apart)
        inside = {node for group in groups for node in group.members}
        free = sum(node.primitive is not None and node not in inside for node in nodes)
        if free + len(groups) <= LARGEST_IN_FULL:
            break
    return groups, open_homes


def _nodes(target: Any) -> list[Node]:
    tensors = [target] if isinstance(target, Tensor) else target
    if not isinstance(tensors, list | tuple) or not all(isinstance(t, Tensor) for t in tensors):
        raise DtypeError(
            message("draw", "a Tensor, a list of Tensors, a function with its inputs, or a module "
                    "with a batch", type(target).__name__)
        )  # fmt: skip
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
