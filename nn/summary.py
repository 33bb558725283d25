"""`summary`: what a model consists of, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_np as tg
from nn.module import Module, mode, submodules
from tinygrad_np.errors import ArgumentError, message

Shape = tuple[int, ...]

WIDTH = 80


@dataclass(frozen=True)
class Row:
    """One module of a `Summary`, with its own parameters and not those of the modules within.

    ``bytes`` are those of parameters and buffers, ``multiply_adds`` (MACs) those of its calls on one
    row of the batch (see `Module.multiply_adds`): None where they are not known.
    """

    path: str
    kind: str
    output: Shape | None
    parameters: int
    bytes: int
    multiply_adds: int | None


@dataclass(frozen=True, repr=False)
class Summary:
    """Layers, output shapes, parameters, bytes and multiply-adds; prints as a table.

    In the table bytes and multiply-adds are rounded to three digits, with k for 1000 and M for a
    million; those of a layer that does not tell its multiply-adds are "?".

    Attributes
    ----------
    rows : list of Row
        The modules that hold parameters or no other module, in definition order, each once.
    parameters, buffers : int
        Numbers that are trained, and that are kept beside them.
    bytes : int
        Of both.
    multiply_adds : int or None
        Multiplications with an addition (MACs) on the way forward, for one row of the batch: the sum
        of those that are known. None without a batch.

    Notes
    -----
    What is counted for a layer follows from its formula (`Module.multiply_adds`): a product with a
    matrix ``(k, m)`` is k m for each row. Biases, activations, pooling and reshaping count as
    nothing.
    """

    rows: list[Row]
    parameters: int
    buffers: int
    bytes: int
    multiply_adds: int | None

    def __str__(self) -> str:
        head = ["layer", "kind", "output", "params", "bytes", "MACs"]
        table = [head] + [
            [r.path, r.kind, _shape(r.output), f"{r.parameters:,}", f"{_rounded(r.bytes)}B",
             "?" if r.multiply_adds is None else _rounded(r.multiply_adds).rstrip()]
            for r in self.rows
        ]  # fmt: skip
        if self.multiply_adds is None:  # without a batch
            table = [[path, kind, n, size] for path, kind, _, n, size, _ in table]
        path, kind, *widths = [max(map(len, column)) for column in zip(*table)]
        spare = WIDTH - sum(widths) - 2 * (len(widths) + 1)
        path = min(path, max(spare - kind, 3 * spare // 5))
        kind = min(kind, spare - path)
        lines = []
        for name, text, *cells in table:
            row = [f"{cut_front(name, path):{path}}", f"{_cut_options(text, kind):{kind}}"]
            if self.multiply_adds is not None:
                row.append(f"{cells.pop(0):{widths[0]}}")
            row += [f"{cell:>{width}}" for cell, width in zip(cells, widths[-len(cells) :])]
            lines.append("  ".join(row))
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:], rule, self._total()])

    def _total(self) -> str:
        buffers = f", {self.buffers:,} in buffers" if self.buffers else ""
        total = f"{self.parameters:,} parameters{buffers}, {self.bytes:,} bytes"
        if self.multiply_adds is None:
            return total
        least = "at least " if any(row.multiply_adds is None for row in self.rows) else ""
        return f"{total}\n{least}{self.multiply_adds:,} multiply-adds (MACs) for each row"

    __repr__ = __str__


def _rounded(n: int) -> str:
    """Three digits and the unit's prefix: ``61.7 k``."""
    for size, prefix in (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"):
        if n >= 0.9995 * size:
            value = n / size
            return f"{value:.{2 - (value >= 9.995) - (value >= 99.95)}f} {prefix}"
    return f"{n} "


def _shape(shape: Shape | None) -> str:
    return "" if shape is None else f"(N{''.join(f', {n}' for n in shape[1:])})"


def cut_front(text: str, width: int) -> str:
    """The end of a path, which tells it from others, where the whole does not fit."""
    return text if len(text) <= width else "..." + text[3 - width :]


def _cut_options(text: str, width: int) -> str:
    """The last options of a layer left out, where they do not fit."""
    cut = text
    while len(cut) > width:
        before, found, _ = cut.removesuffix(", ...)").rpartition(", ")
        if not found:
            return text[: width - 3] + "..."
        cut = f"{before}, ...)"
    return cut


def summary(model: Module, batch: Any = None) -> Summary:
    """What `Module.summary` returns."""
    batch = None if batch is None else _batch(batch)
    calls = {} if batch is None else _calls(model, batch)
    parameters = model.parameters()
    buffers = [tensor for _, tensor in model.named_buffers()]
    rows = []
    counted: set[int] = set()
    for path, module in model.named_modules():
        held = [child for _, child in submodules(module.members())]
        below = {id(t) for child in held for t in _tensors(child)}
        here = [t for t in _tensors(module) if id(t) not in below]
        own = [t for t in here if id(t) not in counted]
        counted.update(map(id, own))
        made = calls.get(id(module), [])
        macs = _multiply_adds(module, made, len(batch) if made else 1, bool(here))
        if own or macs or not held:
            rows.append(Row(
                path, f"{type(module).__name__}({module.describe()})",
                made[-1].result if made else None,
                sum(t.size for t in own if t.requires_grad), sum(t.data.nbytes for t in own), macs,
            ))  # fmt: skip
    return Summary(
        rows,
        sum(p.size for p in parameters),
        sum(b.size for b in buffers),
        sum(t.data.nbytes for t in parameters + buffers),
        None if batch is None else sum(row.multiply_adds or 0 for row in rows),
    )


def _tensors(module: Module) -> list[tg.Tensor]:
    return module.parameters() + [buffer for _, buffer in module.named_buffers()]


@dataclass(frozen=True)
class _Call:
    """The shapes of what a module was given and of what it gave."""

    result: Shape
    args: tuple[Shape | None, ...]
    kwargs: dict[str, Shape | None]


def _multiply_adds(module: Module, calls: list[_Call], rows: int, computes: bool) -> int | None:
    """Those of all calls, a row; of a module that does not tell and has tensors of its own, None."""
    found = [module.multiply_adds(call.result, *call.args, **call.kwargs) for call in calls]
    if None in found:
        return None if computes else 0
    return sum(n for n in found if n is not None) // rows


def _batch(given: Any) -> Any:
    """A batch: itself, or one row of zeros of the shape given."""
    if isinstance(given, tuple) and all(isinstance(n, int | np.integer) for n in given):
        if not given or min(given) < 1:
            raise ArgumentError(
                message("summary", "a batch, or the shape of a row such as (4,)", repr(given))
            )
        return np.zeros((1, *given), np.float32)
    return given


def _calls(model: Module, batch: Any) -> dict[int, list[_Call]]:
    """The calls of each module, by its id."""
    calls: dict[int, list[_Call]] = {}

    def watched(module: Module) -> Callable[..., Any]:
        forward = module.forward

        def watch(*args: Any, **kwargs: Any) -> Any:
            outputs = forward(*args, **kwargs)
            if hasattr(outputs, "shape"):
                shapes = {name: _shape_of(value) for name, value in kwargs.items()}
                call = _Call(outputs.shape, tuple(map(_shape_of, args)), shapes)
                calls.setdefault(id(module), []).append(call)
            return outputs

        return watch

    with mode(model, training=False), tg.no_grad():
        if not all(module.built for _, module in model.named_modules()):
            model(batch)  # makes the parts of which some layers consist
        modules = [module for _, module in model.named_modules()]
        for module in modules:
            module.forward = watched(module)  # on the instance, over its class's
        try:
            model(batch)
        finally:
            for module in modules:
                del module.forward
    return calls


def _shape_of(value: Any) -> Shape | None:
    return None if value is None else np.shape(value)
