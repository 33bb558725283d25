"""The plausible mistakes, family by family: each is a change of the backward pass that may be made."""

from __future__ import annotations

from collections.abc import Iterator

from ...core import Node
from ..case import Case
from ..rules import Mistake
from . import (
    extrema,
    factors,
    losses,
    normalised,
    operands,
    paths,
    shifts,
    slopes,
    softmax,
    sums,
    terms,
)  # fmt: skip

# Every family in turn; of readings with the same numbers the earlier one is named first.
FAMILIES = (
    extrema.mistakes, losses.mistakes, paths.transposed, paths.missing, softmax.mistakes,
    normalised.mistakes, slopes.mistakes, sums.mistakes, operands.mistakes,
    shifts.mistakes, factors.mistakes, terms.mistakes,
)  # fmt: skip


def candidates(case: Case, target: Node) -> Iterator[Mistake]:
    """Mistakes on the way to one wrong array, the likelier first."""
    for family in FAMILIES:
        yield from family(case, target)
