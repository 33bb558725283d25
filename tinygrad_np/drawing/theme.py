"""Colours: Okabe and Ito's set, which colour-blind readers can tell apart, on light and on dark.

Reference: M. Okabe and K. Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paint:
    """The line and the area of one kind of box."""

    line: str
    area: str


@dataclass(frozen=True)
class Theme:
    """The colours of a picture."""

    paper: str
    ink: str
    faint: str  # shapes, dtypes, and edges on which no gradient flows
    gradient: str  # gradients, and the formulas by which they come back
    header: str  # text on the colour of a line
    parameter: Paint
    input: Paint
    constant: Paint
    computed: Paint
    fold: Paint

    def paint(self, kind: str) -> Paint:
        """The colours of a kind of box."""
        found: Paint = getattr(self, kind)
        return found


THEMES = {
    "light": Theme(
        paper="#FFFFFF",
        ink="#1B1F24",
        faint="#59636D",
        gradient="#A84400",
        header="#FFFFFF",
        parameter=Paint("#E69F00", "#FDF3DC"),
        input=Paint("#009E73", "#E2F4EE"),
        constant=Paint("#8A939C", "#F1F3F5"),
        computed=Paint("#0072B2", "#F3F9FD"),
        fold=Paint("#CC79A7", "#FBF0F6"),
    ),
    "dark": Theme(
        paper="#15191E",
        ink="#E8ECF0",
        faint="#9AA5B0",
        gradient="#FF9A4D",
        header="#0B1116",
        parameter=Paint("#E69F00", "#33280D"),
        input=Paint("#1FBF92", "#0E2C24"),
        constant=Paint("#7C8792", "#22272D"),
        computed=Paint("#56B4E9", "#172A38"),
        fold=Paint("#CC79A7", "#33202B"),
    ),
}
