"""`summary`: what a model consists of, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_np as tg
from nn.module import Module, mode, submodules
from tinygrad_np.errors import ArgumentError, message

WIDTH = 80


@dataclass(frozen=True)
class Row:
    """One module of a `Summary`; ``parameters`` counts its own, not those of the modules within."""

    path: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int


@dataclass(frozen=True, repr=False)
class Summary:
    """Layers, output shapes and parameter counts; prints as a table.

    Attributes
    ----------
    rows : list of Row
        The modules that hold parameters or no other module, in definition order, each once.
    parameters, buffers : int
        Numbers that are trained, and that are kept beside them.
    bytes : int
        Of both.
    """

    rows: list[Row]
    parameters: int
    buffers: int
    bytes: int

    def __str__(self) -> str:
        cells = [("layer", "kind", "output shape", "parameters")]
        cells += [(r.path, r.kind, _shape(r.output), f"{r.parameters:,}") for r in self.rows]
        widest = [max(map(len, column)) for column in zip(*cells)]
        spare = WIDTH - 6 - widest[2] - widest[3]
        path = min(widest[0], max(spare - widest[1], spare // 3))
        kind = min(widest[1], spare - path)
        lines = [
            f"{_cut(p, path):{path}}  {_cut(k, kind):{kind}}  {o:{widest[2]}}  {n:>{widest[3]}}"
            for p, k, o, n in cells
        ]
        rule = "-" * len(lines[0])
        buffers = f", {self.buffers:,} in buffers" if self.buffers else ""
        total = f"{self.parameters:,} parameters{buffers}, {self.bytes:,} bytes"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])

    __repr__ = __str__


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else f"(N{''.join(f', {n}' for n in shape[1:])})"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def summary(model: Module, batch: Any = None) -> Summary:
    """What `Module.summary` returns."""
    shapes = {} if batch is None else _output_shapes(model, _batch(batch))
    parameters = model.parameters()
    buffers = [tensor for _, tensor in model.named_buffers()]
    rows = []
    counted: set[int] = set()
    for path, module in model.named_modules():
        held = [child for _, child in submodules(module.members())]
        below = {id(p) for child in held for p in child.parameters()}
        own = [p for p in module.parameters() if id(p) not in below | counted]
        counted.update(map(id, own))
        if own or not held:
            kind = f"{type(module).__name__}({module.describe()})"
            rows.append(Row(path, kind, shapes.get(id(module)), sum(p.size for p in own)))
    return Summary(
        rows,
        sum(p.size for p in parameters),
        sum(b.size for b in buffers),
        sum(t.data.nbytes for t in parameters + buffers),
    )


def _batch(given: Any) -> Any:
    """A batch: itself, or one row of zeros of the shape given."""
    if isinstance(given, tuple) and all(isinstance(n, int | np.integer) for n in given):
        if not given or min(given) < 1:
            raise ArgumentError(
                message("summary", "a batch, or the shape of a row such as (4,)", repr(given))
            )
        return np.zeros((1, *given), np.float32)
    return given


def _output_shapes(model: Module, batch: Any) -> dict[int, tuple[int, ...]]:
    """The shape that each module computed, by its id."""
    shapes: dict[int, tuple[int, ...]] = {}

    def watched(module: Module) -> Callable[..., Any]:
        forward = module.forward

        def watch(*args: Any, **kwargs: Any) -> Any:
            outputs = forward(*args, **kwargs)
            if hasattr(outputs, "shape"):
                shapes[id(module)] = outputs.shape
            return outputs

        return watch

    modules = [module for _, module in model.named_modules()]
    with mode(model, training=False), tg.no_grad():
        for module in modules:
            module.forward = watched(module)  # on the instance, over its class's
        try:
            model(batch)
        finally:
            for module in modules:
                del module.forward
    return shapes
