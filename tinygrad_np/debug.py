"""``with tg.debug():`` every check on: non-finite numbers, changed arrays, forgotten gradients."""

from __future__ import annotations

import sys
import warnings
import zlib
from collections.abc import Iterable
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from .core import Node, Tensor, mode, ndarray, parameter_names, plain
from .errors import GradientError, NonFiniteError

PACKAGE = __name__.rpartition(".")[0]


class Origin(NamedTuple):
    """Where a node was recorded, and what its arguments were then."""

    line: str
    checksums: tuple[int | None, ...]


class debug(mode):
    """Check everything while the block runs (context manager and decorator); several times slower.

    * The first NaN or infinity, in either pass, raises `NonFiniteError` with the operation, the
      pass, the source line, the inputs there and the reason ("log of 0").
    * An array that was changed between forward and backward raises `GradientError`, also when it
      was changed through a NumPy alias. The arrays are not locked.
    * A tensor that was used (or given as one of ``parameters``) and that ``backward()`` did not
      reach is warned about, and so is a ``.grad`` left over from an earlier pass.

    Parameters
    ----------
    parameters : iterable of Tensor, optional
        Tensors that each backward pass is expected to reach.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 0.0], requires_grad=True)
    >>> with tg.debug():
    ...     y = x.log()
    Traceback (most recent call last):
    tinygrad_np.errors.NonFiniteError: log in the forward pass gave -inf at index (1,): log of x = 0...
    """

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        self.parameters = list(parameters)
        self.auditor = Auditor(self.parameters)
        super().__init__(watchers=(self.auditor.recorded,), audit=self.auditor)
        self.quiet = np.errstate(all="ignore")  # NumPy's warnings name no operation; the audit does

    def _recreate_cm(self) -> debug:
        return debug(self.parameters)

    def __enter__(self) -> debug:
        super().__enter__()
        self.quiet.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.quiet.__exit__(*error)
        super().__exit__(*error)


class Auditor:
    """What `debug` does at each recorded node and at each step back."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.expected: dict[Node, None] = {tensor.node: None for tensor in parameters}
        self.passed: set[int] = set()

    # -- forward -----------------------------------------------------------------------------------

    def recorded(self, node: Node) -> None:
        """A new node: note where, note its arguments, refuse the first non-finite value."""
        line = source_line()
        if node.primitive is not None:
            node.origin = Origin(line, tuple(_checksum(p.value) for p in node.inputs))
            self.expected |= {p: None for p in node.inputs if p.needs and p.primitive is None}
        index = _first_non_finite(node.value)
        if index is not None and all(_first_non_finite(p.value) is None for p in node.inputs):
            raise NonFiniteError(_why(node, node.value, index, "forward pass", line))

    # -- backward ----------------------------------------------------------------------------------

    def before_step(self, node: Node) -> None:
        """The arrays that the VJPs are about to read are those of the forward pass."""
        if not isinstance(node.origin, Origin) or node.primitive is None:
            return
        read = {n for f in node.primitive.formulas.values() for n in parameter_names(f)}
        names = node.primitive.arguments
        for i, (parent, before) in enumerate(zip(node.inputs, node.origin.checksums)):
            name = "xs" if node.primitive.variadic else names[i]
            if name in read and _checksum(parent.value) != before:
                raise GradientError(
                    f"backward: the array of {parent.label}, argument {name} of "
                    f"{node.primitive.name} ({node.origin.line}), was changed between the forward "
                    "and the backward pass, so the gradient would be wrong. Change a copy."
                )

    def after_step(self, node: Node, g: Any, pending: dict[Node, Any]) -> None:
        """What the VJPs of a node sent on is finite, if what they were given is."""
        if _first_non_finite(plain(g)) is not None:
            return
        for parent in node.inputs:
            d = plain(pending.get(parent))
            index = None if d is None else _first_non_finite(np.asarray(d))
            if index is not None:
                line = node.origin.line if isinstance(node.origin, Origin) else "an unknown line"
                raise NonFiniteError(_why(node, d, index, "backward pass", line))

    def finished(self, arrived: Iterable[Node]) -> None:
        """A backward pass has ended: report what it did not reach, and what it added to."""
        reached = set(arrived)
        missed = [n for n in self.expected if n not in reached and n.grad is None and n.needs]
        if missed:
            self._warn(
                "backward() did not reach " + ", ".join(n.label for n in missed)
                + ": was it used only under no_grad(), after .detach(), or as .data?"
            )  # fmt: skip
        again = [n for n in reached if n.grad is not None]
        if again:
            self._warn(
                "backward() added to a gradient left from an earlier pass: "
                + ", ".join(n.label for n in again)
                + ". Call optimizer.zero_grad() or set .grad = None before each step, unless that "
                "is meant."
            )  # fmt: skip
        self.expected = {n: None for n in self.expected if n.needs and n in reached}

    def _warn(self, text: str) -> None:
        """Warn once for each kind of finding, pointing at the user's line."""
        kind = hash(text[:32])
        if kind not in self.passed:
            self.passed.add(kind)
            warnings.warn(f"{text} ({source_line()})", RuntimeWarning, stacklevel=2)


def source_line() -> str:
    """``file.py:12`` of the innermost caller outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return "an unknown line" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_ours(module: str) -> bool:
    return module == PACKAGE or module.startswith((PACKAGE + ".", "numpy", "nn.", "contextlib"))


def _checksum(value: Any) -> int | None:
    return (
        zlib.crc32(np.ascontiguousarray(value).view(np.uint8).data)
        if isinstance(value, ndarray)
        else None
    )


def _first_non_finite(value: Any) -> tuple[int, ...] | None:
    """The index of the first NaN or infinity."""
    value = np.asarray(value)
    if value.dtype.kind not in "fc":
        return None
    finite = np.isfinite(value)
    if finite.all():
        return None
    return tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), value.shape))


def _why(node: Node, value: Any, index: tuple[int, ...], which: str, line: str) -> str:
    """The whole story of a non-finite value, in one message."""
    name = "an operation" if node.primitive is None else node.primitive.name
    at = f" at index {index}" if index else ""
    count = int(np.sum(~np.isfinite(value)))
    more = f" (and {count - 1} more)" if count > 1 else ""
    reason = _reason(node, value, index)
    return f"{name} in the {which} gave {np.asarray(value)[index]}{at}{more}: {reason}. {line}"


def _reason(node: Node, value: Any, index: tuple[int, ...]) -> str:
    """The arguments at the place, or their ranges where elements do not correspond."""
    names = node.primitive.arguments if node.primitive is not None else ()
    parts = []
    for i, parent in enumerate(node.inputs):
        name = parent.name or (names[i] if i < len(names) and names[i] != "*xs" else f"xs[{i}]")
        array = np.asarray(parent.value)
        try:
            here = np.broadcast_to(array, np.shape(value))[index]
            parts.append(f"{name} = {here:.6g}")
        except (ValueError, TypeError):
            low, high = (array.min(), array.max()) if array.size else (0, 0)
            parts.append(f"{name} of shape {array.shape} within [{low:.6g}, {high:.6g}]")
    operation = node.primitive.name if node.primitive is not None else "it"
    return f"{operation} of {', '.join(parts)}" if parts else "its arguments are not recorded"
