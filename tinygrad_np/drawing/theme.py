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
    backward: Paint  # the boxes of the backward pass
    frame: Paint  # around what a module computed
    mark: str  # what an overlay makes stand out
    added: str
    removed: str

    def paint(self, kind: str) -> Paint:
        """The colours of a kind of box."""
        found: Paint = getattr(self, "backward" if kind == "gradient" else kind)
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
        backward=Paint("#A84400", "#FEF5F0"),
        frame=Paint("#8A939C", "#F8F9FA"),
        mark="#F0E442",
        added="#009E73",
        removed="#8A939C",
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
        backward=Paint("#FF9A4D", "#2E1D10"),
        frame=Paint("#7C8792", "#1B2026"),
        mark="#F0E442",
        added="#1FBF92",
        removed="#7C8792",
    ),
}
