"""The value every data set function returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from nn.data import check_finite, check_rows


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Inputs x and targets y, with what their columns and classes are called.

    Unpacks as ``x, y = dataset``.

    Attributes
    ----------
    x : ndarray (N, features) or (N, ...)
    y : ndarray (N,) of int64 labels, or (N, outputs) of numbers
    feature_names : sequence of str
        One for each column of x, with its unit.
    class_names : sequence of str
        ``class_names[y[i]]`` is the class of row i; the columns of y where y holds numbers.
    name, source, licence : str

    Raises
    ------
    ShapeError
        For x and y with different numbers of rows, or none.
    NonFiniteError
        For NaN or infinity, naming row and column.

    Examples
    --------
    >>> import numpy as np
    >>> Dataset(np.ones((3, 2)), np.array([0, 1, 1]), ("width (cm)", "height (cm)"), name="boxes")
    boxes: 3 rows
      x (3, 2) float64: width (cm), height (cm)
      y (3,) int64
    """

    x: NDArray[Any]
    y: NDArray[Any]
    feature_names: Sequence[str] = ()
    class_names: Sequence[str] = ()
    name: str = "dataset"
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        check_rows("Dataset", x=self.x, y=self.y)
        check_finite(self.x, "Dataset", "x")
        check_finite(self.y, "Dataset", "y")

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.x, self.y))

    def __repr__(self) -> str:
        lines = [
            f"{self.name}: {len(self.x):,} rows",
            f"  x {self.x.shape} {self.x.dtype}{_listed(self.feature_names)}",
            f"  y {self.y.shape} {self.y.dtype}{_listed(self.class_names)}",
        ]
        lines += [f"  source: {self.source}"] if self.source else []
        lines += [f"  licence: {self.licence}"] if self.licence else []
        return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    shown = list(names) if len(names) <= 10 else [*names[:2], "...", names[-1]]
    return ": " + ", ".join(shown) if shown else ""
