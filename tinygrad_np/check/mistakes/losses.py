"""The gradient of another loss than the one that is computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...backward import by_order
from ...core import Node
from ..case import Case, ratio
from ..rules import Array, Edit, Mistake, norm


def mistakes(case: Case, target: Node) -> Iterator[Mistake]:
    """The gradient of a squared error by its prediction, whatever the loss is."""
    span = case.span(target)
    constants = dict.fromkeys(one for node in case.nodes for one in node.inputs if not one.needs)
    wanted = [one for one in constants if np.ndim(one.value) and one.value.dtype.kind in "fiub"]
    for node in sorted(span.inside, key=by_order):
        named = node is target or node in case.names
        if not named or node.primitive is None or node not in case.local.arrived:
            continue
        for one in wanted:
            if one.value.shape != node.value.shape:
                continue
            off = node.value - one.value
            right = case.local.arrived[node]
            if norm(right - ratio(right, off) * off) <= 1e-9 * norm(right):
                continue  # it is the loss

            def other(g: Array, d: Array | None, off: Array = off) -> Array:
                return off

            text = (
                f"d{case.name(node)} is {{c}} * ({case.name(node)} - {case.name(one)}), the gradient of a "
                "sum of squared errors, which is not the loss"
            )
            yield Mistake("other_loss", text, (Edit(node, None, other),), free=True, rank=3)
