"""What the checker of hand-written backprop found, as text and as data."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

WIDTH = 80
FINE = ("right", "kink", "noise")


@dataclass(frozen=True)
class Diagnosis:
    """One reading of a wrong gradient.

    Attributes
    ----------
    kind : str
        From the vocabulary of mistakes.
    text : str
        The mistake in a sentence.
    fix : str
        The line as it should read.
    evidence : str
        What the mistake, made on purpose, reproduces.
    certain : bool
        Whether it reproduces every array that was given, and no other reading does.
    """

    kind: str
    text: str
    fix: str
    evidence: str
    certain: bool


@dataclass(frozen=True)
class Finding:
    """One quantity.

    Attributes
    ----------
    name : str
        The quantity, and ``given`` the variable that holds its gradient.
    verdict : str
        ``right``, ``wrong``, ``follows``, ``shape``, ``noise``, ``kink`` or ``missing``.
    error : float or None
        Relative error against the true gradient, in norm; None where the shapes differ.
    place : str
        The source line that computed it, where that is known.
    note : str
        What there is to say besides; which axis to sum for ``shape``.
    diagnoses : tuple of Diagnosis
        Readings of the mistake; if several, the arrays cannot tell them apart.
    """

    name: str
    given: str
    verdict: str
    error: float | None
    place: str = ""
    note: str = ""
    diagnoses: tuple[Diagnosis, ...] = ()


@dataclass(frozen=True)
class BackpropReport:
    """The result of `check_backprop` and `check_gradients`; ``print`` it.

    Attributes
    ----------
    findings : tuple of Finding
        Output side first; those that were not given last.
    unmatched : tuple of str
        Given gradients, and returned ones, that belong to no quantity that was found.
    notes : tuple of str
        Conventions that were seen, and where the code could not be followed.
    """

    findings: tuple[Finding, ...]
    unmatched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something was compared, everything was, and nothing is wrong."""
        return (
            bool(self.findings)
            and not self.unmatched
            and all(one.verdict in FINE for one in self.findings)
        )

    @property
    def first_wrong(self) -> str | None:
        """The first quantity, from the output, whose own line is wrong; None if there is none."""
        return next((one.name for one in self.findings if one.verdict in ("wrong", "shape")), None)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> Finding:
        for one in self.findings:
            if name in (one.name, one.given):
                return one
        raise KeyError(f"{name!r} is not among {', '.join(one.name for one in self.findings)}")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data."""
        return {"ok": self.ok, "first_wrong": self.first_wrong} | asdict(self)

    def __str__(self) -> str:
        wrong = [one.name for one in self.findings if one.verdict in ("wrong", "shape")]
        if self.ok:
            head = "backprop: ok"
        elif wrong:
            head = f"backprop: WRONG, first in the gradient of {wrong[0]}"
        else:
            head = "backprop: incomplete"
        lines = [head, _columns("quantity", "given as", "verdict", "error", "where")]
        lines += [_line(one) for one in self.findings]
        told: list[tuple[Diagnosis, ...]] = []
        for one in self.findings:
            if one.note:
                lines += _wrapped(f"{one.name}: {one.note}")
            if one.diagnoses and one.diagnoses not in told:
                told.append(one.diagnoses)
                lines += _diagnosed(one)
        if self.unmatched:
            lines += _wrapped(f"not matched to a quantity: {', '.join(self.unmatched)}")
        for note in self.notes:
            lines += _wrapped(note)
        return "\n".join(lines)

    __repr__ = __str__


def _line(one: Finding) -> str:
    shown = one.verdict if one.verdict in (*FINE, "follows", "missing") else one.verdict.upper()
    error = "-" if one.error is None else f"{one.error:.1e}"
    return _columns(one.name, one.given, shown, error, one.place)


def _diagnosed(one: Finding) -> list[str]:
    lines = []
    if len(one.diagnoses) > 1:
        lines += _wrapped(f"{one.name}: readings that these arrays cannot tell apart:")
    for diagnosis in one.diagnoses:
        sure = "" if diagnosis.certain else "perhaps "
        lines += _wrapped(f"{one.name}: {sure}{diagnosis.kind}: {diagnosis.text}")
    lines += _wrapped(f"  {one.diagnoses[0].evidence}")
    text = one.diagnoses[0].fix
    return lines + textwrap.wrap(
        text, WIDTH, initial_indent="    should read  ", subsequent_indent=" " * 17
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _columns(*texts: str) -> str:
    widths = (14, 16, 8, -8, 26)
    cut = [t if len(t) <= abs(w) else t[: abs(w) - 1] + "…" for t, w in zip(texts, widths)]
    return " ".join(t.rjust(-w) if w < 0 else t.ljust(w) for t, w in zip(cut, widths)).rstrip()
