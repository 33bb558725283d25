"""What a training step does besides operations on Tensors, said so that a compiled step does it, too."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from .core import current_log


def on_arrays(function: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    """``function(*arrays, **options)``: NumPy on plain arrays that a compiled step is to do again.

    A compiled step knows operations on Tensors. What a training loop does to plain arrays besides,
    such as an optimizer's update, it knows if it is called this way.

    Parameters
    ----------
    function : callable
        Of arrays, which it may write into. It must not branch on their values.
    *arrays, **options
        Its arguments. An array must be a gradient, a result of `on_arrays`, or one that stays the
        same object from step to step.

    Returns
    -------
    object
        What the function returned.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> velocity = np.zeros(2)
    >>> tg.on_arrays(np.add, velocity, 1.0, out=velocity)
    array([1., 1.])
    """
    log = current_log()
    if log is None:
        return function(*arrays, **options)
    return log.array_code(function, arrays, options)


def each_time(function: Callable[[], Any]) -> None:
    """Call ``function()``, now and at this place of every later run of a compiled step.

    Parameters
    ----------
    function : callable
        Of nothing. It may count, or set numbers in arrays that `on_arrays` reads.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> seen = []
    >>> tg.each_time(lambda: seen.append(len(seen)))
    >>> seen
    [0]
    """
    log = current_log()
    if log is None:
        function()
    else:
        log.host_code(function)


class Surroundings:
    """A number for the state of what `note_change` was told of: the same state, the same number."""

    state = 0


def note_change(what: Hashable, before: Hashable, now: Hashable) -> None:
    """Tell compiled steps that something that they may have read was changed.

    `nn.Module` tells of its attributes: a step that was compiled in training is not used in
    evaluation, and is used again when ``train()`` is called.

    Parameters
    ----------
    what : hashable
        What was changed.
    before, now : hashable
        Its values. Changed back, it counts as never changed.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> tg.note_change("rate", 0.1, 0.2)
    >>> tg.note_change("rate", 0.2, 0.1)
    """
    Surroundings.state ^= hash((what, before)) ^ hash((what, now))
