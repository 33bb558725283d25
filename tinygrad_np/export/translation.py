"""The table of translations: for a primitive, what it is in ONNX.

A translation is called like its primitive, with `Value` in place of arrays, and before them the
`Result` that is wanted: ``relu(y, x)``. It returns the `Value`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import Primitive
from ..errors import ArgumentError
from .graph import Graph, Value
from .recording import OPERATION, Length

Translation = Callable[..., Value]


@dataclass(frozen=True)
class Result:
    """What an operation is to compute.

    Attributes
    ----------
    graph : Graph
    dtype : dtype
    shape : tuple
        With an `Extent` where the batch counts.
    shapes : list of tuple
        Of the arguments, alike.
    label : str
        The operation as messages name it.
    """

    graph: Graph
    dtype: np.dtype[Any]
    shape: tuple[Length, ...]
    shapes: list[tuple[Length, ...]]
    label: str

    def op(self, kind: str, *inputs: Any, dtype: Any = None, **attributes: Any) -> Value:
        """An operator; see `Graph.op`."""
        return self.graph.op(kind, *inputs, dtype=dtype, **attributes)

    def integers(self, *numbers: int) -> Value:
        """A constant vector of integers."""
        return self.graph.integers(*numbers)

    def static(self, argument: int, axes: Sequence[int]) -> list[int]:
        """The lengths of an argument along axes that the batch must not change."""
        lengths = [self.shapes[argument][axis] for axis in axes]
        if not all([isinstance(n, int) for n in lengths]):
            raise self.unsupported("along the axis of the batch")
        return lengths  # type: ignore[return-value]  # just looked at

    def unsupported(self, how: str = "") -> ArgumentError:
        """The error for an operation, or a way to use it, that there is no translation for."""
        what = f"{self.label} {how}".strip()
        return ArgumentError(
            f"{OPERATION}: {what} is not translated to ONNX. Compute it outside the exported "
            "function, or write it with other operations."
        )


TRANSLATIONS: dict[Primitive, Translation] = {}


def translates(*primitives: Primitive, mixed: bool = False) -> Callable[[Translation], Translation]:
    """Register the translation of some primitives.

    Its arguments come in the dtype of the result, as NumPy converts them; with ``mixed`` as they are.
    """

    def register(translation: Translation) -> Translation:
        def converted(y: Result, *args: Value | None, **params: Any) -> Value:
            same = [arg if arg is None else arg.cast(y.dtype) for arg in args]
            return translation(y, *same, **params)

        TRANSLATIONS.update(dict.fromkeys(primitives, translation if mixed else converted))
        return translation

    return register


def operator(primitive: Primitive, kind: str) -> None:
    """Register a primitive that is one operator of ONNX."""
    translates(primitive)(lambda y, *args: y.op(kind, *args))
