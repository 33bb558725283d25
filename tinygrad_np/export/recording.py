"""What a function computes, recorded twice: on the example, and on other numbers in more rows.

What is the same in both recordings is part of the function; a length that grew belongs to the batch;
and a number that changed was taken out of a tensor, so that no graph can contain it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import tree
from ..core import Node, Tensor, mode, ndarray
from ..derivation.tracing import Call
from ..errors import ArgumentError, DtypeError, TensorError, message
from ..program import Names, ancestors

OPERATION = "to_onnx"
Array = NDArray[Any]


@dataclass(frozen=True)
class Extent:
    """A length that depends on the batch: ``times * N + plus`` for N rows."""

    times: int
    plus: int

    def __str__(self) -> str:
        rows = "N" if self.times == 1 else f"{self.times}*N"
        return f"{rows}{self.plus:+}" if self.plus else rows


@dataclass(frozen=True)
class Unclear:
    """A number that depends on the batch in no such way: half the rows, rounded."""

    first: Any
    second: Any

    def __str__(self) -> str:
        return f"{self.first!r} or {self.second!r}"


Length = int | Extent | Unclear


@dataclass
class Recording:
    """A function, recorded.

    Attributes
    ----------
    inputs, outputs : list of Node
    steps : list of Node
        All that the outputs are computed from, inputs and constants among them, in order.
    names : Names
        What the user calls them.
    input_names : list of str
    twin : dict
        The node of the second recording that answers to each of the first.
    lengths : (int, int)
        The rows of the batch in both.
    """

    inputs: list[Node]
    outputs: list[Node]
    steps: list[Node]
    names: Names
    input_names: list[str]
    twin: dict[Node, Node]
    lengths: tuple[int, int]

    def shape(self, node: Node) -> tuple[Length, ...]:
        """The shape of a value, with the lengths that the batch changes."""
        pairs = zip(np.shape(node.value), np.shape(self.twin[node].value))
        return tuple([self.number(*pair) for pair in pairs])

    def number(self, first: int, second: int) -> Length:
        """A number that was one and then another."""
        if first == second:
            return first
        rows, more = self.lengths
        if more == rows or (second - first) % (more - rows):
            return Unclear(first, second)
        times = (second - first) // (more - rows)
        return Extent(times, first - times * rows)

    def params(self, node: Node) -> dict[str, Any]:
        """The parameters of an operation, with the numbers that the batch changes."""
        other = self.twin[node].params or {}
        return {
            key: self._param(node, value, other[key]) for key, value in (node.params or {}).items()
        }

    def _param(self, node: Node, first: Any, second: Any) -> Any:
        if type(first) is tuple:
            if len(first) != len(second):
                raise _something_else()
            return tuple([self._param(node, a, b) for a, b in zip(first, second)])
        if isinstance(first, slice) and isinstance(second, slice):
            ends = [
                (first.start, second.start),
                (first.stop, second.stop),
                (first.step, second.step),
            ]
            return slice(*[self._param(node, a, b) for a, b in ends])
        if isinstance(first, bool):
            return first
        if isinstance(first, ndarray):
            if not np.array_equal(first, second):
                raise taken_out(f"the array {_short(first)} given to {node.label}")
            return first
        if isinstance(first, int | np.integer) and isinstance(second, int | np.integer):
            return self.number(int(first), int(second))
        if isinstance(first, float) and first != second:
            raise taken_out(f"the number {first!r} given to {node.label}")
        return first


def record(
    f: Callable[..., Any],
    inputs: Sequence[Any],
    dynamic_batch: bool,
    given: dict[str, Any],
) -> Recording:
    """Record a function on arrays.

    Raises
    ------
    ArgumentError
        If it computes something else on other numbers, or on more rows.
    """
    nest = tree.rebuild(list(inputs), _array)
    arrays = tree.leaves(nest)
    call = Call(f, nest)
    first = [tensor.node for tensor in call.given]
    if any([node.primitive is not None for node in first]):
        raise ArgumentError(
            f"{OPERATION}: the function writes into its argument, which a graph cannot. Let it begin "
            "with x = x.copy()."
        )
    outputs = _outputs(call.output)
    steps = ancestors([*first, *outputs])
    _refuse_reads(call, first)
    names = Names(given)
    for node, name in call.names.nodes.items():
        names.nodes.setdefault(node, name)
    failure = None
    for rows, others in _other_inputs(arrays, dynamic_batch):
        tensors = [Tensor(array, requires_grad=n.needs) for array, n in zip(others, first)]
        try:
            with mode(recording=True, everything=True), np.errstate(all="ignore"):
                again = _outputs(f(*tree.like(nest, iter(tensors))))
        except (TensorError, ValueError, IndexError) as error:
            failure = error  # these inputs do not share the axis of the batch
            continue
        twin = _matched([*first, *outputs], [*[t.node for t in tensors], *again])
        return Recording(
            first, outputs, steps, names, [call.names.nodes[node] for node in first], twin, rows
        )
    why = f"{OPERATION}: the function takes the example, but fails on other numbers"
    if dynamic_batch:
        fix = "With dynamic_batch=False the graph is for batches of this length alone."
        raise ArgumentError(f"{why} in more rows: {failure} {fix}") from failure
    raise ArgumentError(f"{why} of the same shape: {failure}") from failure


def taken_out(what: str) -> ArgumentError:
    """The error for numbers that no graph can contain."""
    return ArgumentError(
        f"{OPERATION}: {what} depends on the input, but Python has read it (in a branch, by float(), "
        ".data or np.asarray): in a file it would be a constant. Compute with tensors (tg.where for a "
        "branch), or make it an input."
    )


def _array(given: Any) -> Array:
    value: Array = given.data if isinstance(given, Tensor) else np.asarray(given)
    if value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
        raise DtypeError(
            message(OPERATION, "example inputs of real numbers, 64 bits at most", f"{value.dtype}")
        )
    return value


def _outputs(output: Any) -> list[Node]:
    found = tree.leaves(output)
    if not found or not all([isinstance(one, Tensor) for one in found]):
        got = ", ".join([type(one).__name__ for one in found]) or "nothing"
        raise DtypeError(
            message(OPERATION, "a function that returns tensors computed from its inputs", got)
        )
    return [one.node for one in found]


def _other_inputs(
    arrays: list[Array], dynamic_batch: bool
) -> list[tuple[tuple[int, int], list[Array]]]:
    """The rows of both recordings, and inputs for the second: more rows, and other numbers."""
    batched = [array for array in arrays if array.ndim]
    if not dynamic_batch or not batched:
        return [((0, 0), [_other_numbers(array) for array in arrays])]
    rows = len(batched[0])
    if rows == 0:
        raise ArgumentError(
            message(OPERATION, "an example with at least one row", f"{batched[0].shape}")
        )
    found = []
    for chosen in ([a for a in batched if len(a) == rows], batched[:1]):
        longer = [
            np.concatenate([a, a, a[:1]]) if any([a is one for one in chosen]) else a
            for a in arrays
        ]
        found.append(((rows, 2 * rows + 1), [_other_numbers(array) for array in longer]))
    return found


def _other_numbers(array: Array) -> Array:
    """Numbers of the same kind, but in another order and without the same largest one or sum.

    Floats keep their signs and become smaller; integers, which may be indices, are drawn from those
    that are there between the smallest and the largest.
    """
    rng = np.random.default_rng(0)
    flat = array.reshape(-1)
    if array.dtype.kind == "f":
        smaller = rng.uniform(0.5, 1, flat.size).astype(array.dtype)
        other: Array = rng.permuted(flat) * smaller
        return other.reshape(array.shape)
    known = np.unique(flat)
    between = known[1:-1] if known.size > 2 else known
    return rng.choice(between, array.shape) if flat.size else array


def _refuse_reads(call: Call, inputs: list[Node]) -> None:
    """Raise if the user's code branched on what it computed from an input, or made a number of it."""
    for node, value in call.reads:
        if set(inputs) & set(ancestors([node])):
            raise taken_out(f"the value {value!r} of {call.names.of(node) or node.label}")


def _matched(first: list[Node], second: list[Node]) -> dict[Node, Node]:
    """Which node of the second recording answers to which of the first."""
    twin: dict[Node, Node] = {}
    todo = list(zip(first, second))
    different = len(first) != len(second)
    while todo and not different:
        a, b = todo.pop()
        if a in twin:
            different = twin[a] is not b
            continue
        twin[a] = b
        different = a.primitive is not b.primitive or len(a.inputs) != len(b.inputs)
        todo += zip(a.inputs, b.inputs)
    if different:
        raise _something_else()
    return twin


def _something_else() -> ArgumentError:
    return ArgumentError(
        f"{OPERATION}: the function computes something else on other numbers or on more rows (a "
        "branch, or a loop over the batch), and a graph holds one computation only. Write tg.where "
        "for a branch; dynamic_batch=False gives a graph for this number of rows."
    )


def _short(array: Array) -> str:
    return np.array2string(array, threshold=6, edgeitems=2, precision=4)
