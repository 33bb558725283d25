"""What `gradcheck` found, argument by argument, as a table and as data."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import GradientError

WIDTH = 80


@dataclass(frozen=True)
class ArgumentCheck:
    """What was found for one argument.

    Attributes
    ----------
    name : str
    order : int
        1 for the gradient, 2 for its derivative.
    shape : tuple of int
    method : str
        ``central`` or ``complex``; with random directions, how many.
    index : tuple of int or None
        The element with the largest difference among those with the worst verdict; None if only a
        direction is known.
    recorded, numerical, uncertainty : float
        There: the two derivatives of ``sum(g * y)``, and how far apart rounding alone may set them.
    verdict : str
        ``right``, ``wrong``, ``missing`` (nothing is recorded), ``shape`` (a VJP returned another
        shape), ``kink`` (one-sided slopes disagree) or ``noise`` (too much rounding to tell).
    counts : dict
        How many elements or directions were given each verdict.
    kinks : tuple
        The indices of the elements at which there is a kink.
    kind, reading : str
        The likely mistake, from the vocabulary of mistakes, and in words.
    note : str
        Why the complex step was not used.
    """

    name: str
    order: int
    shape: tuple[int, ...]
    method: str
    index: tuple[int, ...] | None
    recorded: float
    numerical: float
    uncertainty: float
    verdict: str
    counts: dict[str, int]
    kinks: tuple[tuple[int, ...], ...] = ()
    kind: str = ""
    reading: str = ""
    note: str = ""

    @property
    def error(self) -> float:
        """``|recorded - numerical|`` over the larger of the two."""
        size = max(abs(self.recorded), abs(self.numerical))
        if not np.isfinite(size):
            return np.nan
        return size and abs(self.recorded - self.numerical) / size

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, and not everything was lost in rounding."""
        if self.verdict == "noise":
            return self.counts["right"] > 0
        return self.verdict in ("right", "kink")

    def line(self) -> str:
        """One line of the table."""
        return _columns(
            self.name, str(self.shape), self.method, "-" if self.index is None else _place(self.index),
            f"{self.recorded:.3g}", f"{self.numerical:.3g}", f"{self.error:.1e}",
            self.verdict if self.ok else self.verdict.upper(),
        )  # fmt: skip

    def remark(self) -> str:
        """What there is to say beyond the table; empty if nothing."""
        if self.verdict == "shape":
            return f"{self.name}: {self.reading}"
        total = sum(self.counts.values())
        along = "directions" if " x" in self.method else "elements"
        if self.verdict in ("wrong", "missing"):
            numbers = f"recorded {self.recorded:.10g}, numerical {self.numerical:.10g}"
            where = self.name + (_place(self.index) if self.index else "")
            share = f"{self.counts['wrong']} of {total} {along} wrong"
            return f"{where}: {numbers} (+- {self.uncertainty:.0e}); {share}. {self.reading}"
        if self.verdict == "kink":
            places = ", ".join([*map(_place, self.kinks[:4]), *["..."] * (len(self.kinks) > 4)])
            return (
                f"{self.name}: one-sided slopes disagree at {self.counts['kink']} of {total} {along}"
                f"{places and f', {places}'}: the gradient there is a convention."
            )
        if self.verdict == "noise":
            return (
                f"{self.name}: rounding hides the derivative at {self.counts['noise']} of {total} "
                f"{along} (+- {self.uncertainty:.0e}). Give float64, or an f that cancels less."
            )
        return ""


def _place(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index)) or '()'}]"


def _columns(*texts: str) -> str:
    """One line of the table: texts on the left, numbers on the right, within 80 characters."""
    widths = (12, 10, 11, 8, -9, -9, -7, 7)
    cut = [t if len(t) <= abs(w) else t[: abs(w) - 1] + "…" for t, w in zip(texts, widths)]
    return " ".join(t.rjust(-w) if w < 0 else t.ljust(w) for t, w in zip(cut, widths)).rstrip()


@dataclass(frozen=True)
class GradientReport:
    """The result of `gradcheck`: one `ArgumentCheck` an argument and order; ``print`` it.

    ``report.ok``, which is also its truth, says whether nothing is wrong; ``report["W"]`` is the
    first-order check of ``W``; `raise_if_wrong` is for tests.
    """

    rows: tuple[ArgumentCheck, ...]

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> ArgumentCheck:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r} is not among the arguments {', '.join(self._names(self.rows))}")

    def raise_if_wrong(self) -> None:
        """Raise a GradientError with the report as its text, unless it is ok."""
        if not self.ok:
            raise GradientError(str(self))

    @staticmethod
    def _names(rows: Sequence[ArgumentCheck]) -> list[str]:
        return list(dict.fromkeys(row.name for row in rows))

    def __str__(self) -> str:
        bad = [row for row in self.rows if not row.ok]
        lines = [
            "gradcheck: ok" if self.ok else f"gradcheck: NOT OK: {', '.join(self._names(bad))}"
        ]
        for order, rows in itertools.groupby(self.rows, key=lambda row: row.order):
            if order > 1:
                lines.append(
                    f"derivatives of order {order}, those of order {order - 1} being the function"
                )
            lines.append(
                _columns("argument", "shape", "method", "worst at", "recorded", "numerical", "error",
                         "verdict")
            )  # fmt: skip
            checked = list(rows)
            lines += [row.line() for row in checked]
            for remark in filter(None, (row.remark() for row in checked)):
                lines += textwrap.wrap(remark, WIDTH, initial_indent="  ", subsequent_indent="    ")
        for note in dict.fromkeys(row.note for row in self.rows if row.note):
            names = ", ".join(self._names([row for row in self.rows if row.note == note]))
            text = f"{names}: central differences, not the complex step: {note}."
            lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
        return "\n".join(lines)

    __repr__ = __str__
