"""What the checker of hand-written backprop found: as data, as text, as HTML, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..core import Node, handle
from ..drawing import Drawing, draw
from ..errors import ArgumentError, message

FINE = ("right", "kink", "noise")
WRONG = ("wrong", "shape")


@dataclass(frozen=True)
class Diagnosis:
    """One reading of a wrong gradient. What hints keep back is empty.

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
    constant : float or None
        The factor, where the mistake is one.
    rivals : bool
        Whether a far-fetched reading of another kind, which is not told, gives the same numbers.
    """

    kind: str
    text: str
    fix: str
    evidence: str
    certain: bool
    constant: float | None = None
    rivals: bool = False


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
    hints : {1, 2, 3}
        How much it gives away: the place of each mistake, also its kind, everything.
    """

    findings: tuple[Finding, ...]
    unmatched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    hints: int = 3
    graph: tuple[Node, Mapping[Node, str]] | None = field(default=None, repr=False, compare=False)

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
        return next((one.name for one in self.findings if one.verdict in WRONG), None)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> Finding:
        for one in self.findings:
            if name in (one.name, one.given):
                return one
        raise KeyError(f"{name!r} is not among {', '.join(one.name for one in self.findings)}")

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python data, which ``json`` can write."""
        return {
            "ok": self.ok,
            "first_wrong": self.first_wrong,
            "findings": [asdict(one) for one in self.findings],
            "unmatched": list(self.unmatched),
            "notes": list(self.notes),
            "hints": self.hints,
        }

    def hinted(self, hints: int) -> BackpropReport:
        """The same report with less given away: 1 the place of a mistake, 2 also its kind."""
        if hints not in (1, 2, 3):
            raise ArgumentError(message("report", "hints=1, 2 or 3", repr(hints)))
        if hints >= self.hints:
            return self
        found = [
            replace(
                one, note=one.note if hints == 2 else "",
                diagnoses=tuple(map(_kind_alone, one.diagnoses)) if hints == 2 else (),
            )
            for one in self.findings
        ]  # fmt: skip
        return replace(self, findings=tuple(found), hints=hints)

    def drawn_from(self, loss: Node, names: Mapping[Node, str]) -> BackpropReport:
        """The same report with the record that `draw` shows."""
        return replace(self, graph=(loss, names))

    def draw(self, **options: Any) -> Drawing:
        """The recorded graph with the verdicts laid over it.

        Parameters
        ----------
        **options
            As of `tinygrad_np.draw`: ``theme``, ``direction``, ``fold``, ...

        Returns
        -------
        Drawing
            What is wrong is framed, what only follows from it is hatched.

        Raises
        ------
        ArgumentError
            If the loss could not be recorded, so that there is no graph.
        """
        if self.graph is None:
            raise ArgumentError(
                message("report.draw", "a loss that could be recorded", "finite differences only",
                        "The notes of the report say where the code leaves the tensors.")
            )  # fmt: skip
        loss, names = self.graph
        tensors = {name: handle(node) for node, name in names.items() if _is_drawable(node)}
        verdicts = {one.name: one.verdict for one in self.findings if one.name in tensors}
        return draw(handle(loss), names=tensors, overlay=verdicts, **options)

    def __str__(self) -> str:
        from .rendering import text

        return text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from .rendering import html

        return html(self)


def _kind_alone(one: Diagnosis) -> Diagnosis:
    return Diagnosis(one.kind, "", "", "", one.certain)


def _is_drawable(node: Node) -> bool:
    return hasattr(node.value, "shape")
