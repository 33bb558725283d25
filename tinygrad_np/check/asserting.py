"""`assert_backprop`: the checker as an assertion, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .byhand import check_backprop


def assert_backprop(
    loss_and_grads: Any,
    params: Any = None,
    *data: Any,
    match: Mapping[str, str] | None = None,
    hints: int = 3,
) -> None:
    """Fail, with the report as the message, unless `check_backprop` finds all gradients right.

    Parameters
    ----------
    loss_and_grads, params, *data, match, hints
        As of `check_backprop`.

    Raises
    ------
    AssertionError
        If a gradient is wrong, missing, or matched to nothing.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> def squares(params, x):
    ...     return np.sum((x * params["w"]) ** 2), {"w": 2 * x**2 * params["w"]}
    >>> tg.assert_backprop(squares, {"w": np.ones(3)}, np.arange(3.0))
    """
    __tracebackhide__ = True  # pytest shows the line of the test, not this one
    report = check_backprop(loss_and_grads, params, *data, match=match, hints=hints)
    if not report.ok:
        raise AssertionError(str(report))
