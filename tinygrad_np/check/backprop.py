"""`check_gradients` and `check_backprop`: backprop written by hand, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backward import reach
from ..core import Node, Tensor, plain
from ..errors import ArgumentError, GradientError, message
from .case import Facts
from .findings import BackpropReport
from .judging import judge
from .matching import quantity_of
from .recording import Given


def check_gradients(
    loss: Tensor,
    gradients: Mapping[str, Any],
    *,
    names: Mapping[str, Any] | None = None,
    hints: int = 3,
) -> BackpropReport:
    """Hold gradients computed by hand against a recorded loss, and name the first wrong one.

    Each array is compared with what the right rule makes of the *given* gradients above it, so a
    mistake is reported where it was made and not in everything that follows from it.

    Parameters
    ----------
    loss : Tensor
        A recorded scalar.
    gradients : dict
        For any parameters and intermediates, by name (``"W1"`` or ``"dW1"``), the gradient.
    names : dict, optional
        Names of tensors and arrays, usually ``locals()``; those given by ``name=`` go first.
    hints : {1, 2, 3}
        How much the report gives away: 1 the place of the mistake, 2 also its kind, 3 everything.

    Returns
    -------
    BackpropReport
        ``print`` it; ``.ok``, ``.first_wrong``, ``["W1"].verdict``, ``["W1"].diagnoses[0].fix``.

    Raises
    ------
    GradientError
        If the loss is not a recorded scalar.
    ArgumentError
        If no gradient can be matched to a quantity.

    Notes
    -----
    A gradient is ``right`` within what rounding explains: the whole computation is repeated with
    every step disturbed by a relative 1e-8, and the gradient may be off by 64 times what the
    rounding of its dtype makes of that; up to 1024 times, the verdict is ``noise``.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> x = np.array([[1.0, 2.0], [3.0, 5.0], [0.5, -1.0]])
    >>> W = tg.Tensor([[0.5], [-0.2]], requires_grad=True, name="W")
    >>> z = x @ W
    >>> loss = (z**2).mean()
    >>> report = tg.check_gradients(loss, {"z": 2 * z.data, "W": x.T @ (2 * z.data)}, names=locals())
    >>> report.first_wrong, report["W"].verdict, report["z"].diagnoses[0].kind
    ('z', 'follows', 'missing_batch_mean')
    """
    if not isinstance(loss, Tensor) or loss.size != 1 or not loss.requires_grad:
        got = loss.node.label if isinstance(loss, Tensor) else type(loss).__name__
        raise GradientError(
            message("check_gradients", "a recorded scalar loss that needs a gradient", got,
                    "Compute it from Tensors with requires_grad=True.")
        )  # fmt: skip
    known = _named(loss.node, names or {})
    reached = _reached(loss.node)
    quantities = {name: node for node, name in known.items() if node in reached}
    given, unmatched = [], []
    for name, value in gradients.items():
        found = name if name in quantities else quantity_of(name, quantities)
        if found is None:
            unmatched.append(name)
        else:
            variable = f"d{found}" if name == found else name
            given.append(Given(quantities[found], _array(name, value), variable))
    if not given:
        raise ArgumentError(
            message("check_gradients", f"gradients of {', '.join(quantities) or 'named tensors'}",
                    ", ".join(gradients) or "none", "Give names=locals(), or Tensor(..., name=...).")
        )  # fmt: skip
    report = judge(loss.node, Facts(names=known), given, (), tuple(unmatched))
    return report.drawn_from(loss.node, known).hinted(hints)


def _array(name: str, value: Any) -> Any:
    array = np.asarray(plain(value))
    if array.dtype.kind not in "fiub":
        raise ArgumentError(
            message("check_gradients", f"numbers for {name!r}", f"dtype {array.dtype}")
        )
    return array


def _reached(loss: Node) -> set[Node]:
    steps = reach([loss])
    return {*steps, *(one for node in steps for one in node.inputs if one.needs)}


def _named(loss: Node, names: Mapping[str, Any]) -> dict[Node, str]:
    """The names of what the loss was computed from: its own first, then those of ``names``."""
    steps = reach([loss])
    nodes = dict.fromkeys(one for node in reversed(steps) for one in (*node.inputs, node))
    found = {node: node.name for node in nodes if node.name is not None}
    tensors = {value.node: name for name, value in names.items() if isinstance(value, Tensor)}
    arrays = {id(value): name for name, value in names.items() if isinstance(value, np.ndarray)}
    for node in nodes:
        name = tensors.get(node) or (None if node.needs else arrays.get(id(node.value)))
        if name is not None and name not in found.values():
            found.setdefault(node, name)
    return found
