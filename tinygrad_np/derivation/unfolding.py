"""Operations that are a whole loop, written out as the operations of its steps.

`lstm` and `gru` are one operation each, on one packed array, because that is fast. Nobody writes
their derivatives that way. So before a program is read, each is replaced by the equations of its
steps, and what was there only to pack the arrays and to unpack the results cancels. The graph that
is given is not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..core import Node, Primitive, handle, mode
from ..ops.arithmetic import add
from ..ops.index import read
from ..ops.linalg import matmul_2d
from ..ops.recurrent import BY_STEPS
from ..ops.shape import join, permute, pile, reshape_to
from ..program import Names, ancestors

WHOLE = slice(None)
MOVES = (permute, reshape_to)


def unfolded(targets: Iterable[Node], names: Names) -> tuple[dict[Node, Node], list[Node]]:
    """A computation with its loops written out.

    Returns
    -------
    of : dict
        What each node has become, if it is another one now; ``names`` learns what it is called.
    sequences : list of Node
        The inputs of the layers that were recorded only as columns: they are (N, T, in) again.
    """
    nodes = ancestors(targets)
    fused = any([node.primitive in BY_STEPS for node in nodes])
    changed = any([one.order > node.order for node in nodes for one in node.inputs])
    if not fused or changed:  # of an array that was changed since it was used, `record` complains
        return {}, []
    fresh: list[Node] = []
    with (
        mode(recording=True, everything=True, watchers=(fresh.append,), audit=None),
        np.errstate(all="ignore"),
    ):
        made = _Unfolding(names, fresh)
        for node in nodes:
            made.visit(node)
    return made.of, made.sequences


class _Unfolding:
    """The nodes made in place of others; see `unfolded`."""

    def __init__(self, names: Names, fresh: list[Node]) -> None:
        self.names, self.fresh = names, fresh
        self.of: dict[Node, Node] = {}
        self.sequences: list[Node] = []
        self.products: dict[Node, tuple[Node, int, Node] | None] = {}

    def visit(self, node: Node) -> None:
        inputs = self._new(node.inputs)
        if node.primitive in BY_STEPS and inputs[0].primitive is join:
            self.of[node] = self._by_steps(node, inputs[0])
        elif inputs != node.inputs:
            self.of[node] = self._again(node, inputs)

    def _new(self, nodes: Iterable[Node]) -> tuple[Node, ...]:
        return tuple([self.of.get(node, node) for node in nodes])

    def _by_steps(self, node: Node, packed: Node) -> Node:
        assert node.primitive is not None
        parts = [handle(_unmoved(one)) for one in packed.inputs]
        y = BY_STEPS[node.primitive](*parts, called=self._called, **_params(node))
        for one in self.fresh:
            inputs = self._new(one.inputs)
            self.of[one] = self._step(one, inputs) or self._again(one, inputs)
        self.fresh.clear()
        return self.of[y.node]

    def _called(self, step: dict[str, Any]) -> dict[str, Any]:
        """Names for what was computed and has none."""
        for name, value in step.items():
            if value.node.primitive is not None:
                self.names.nodes.setdefault(value.node, name)
        return step

    def _again(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        """The node, of other arguments; one that hooks are on stays what it is."""
        assert node.primitive is not None
        simpler = None if node.hooks else self._simpler(node.primitive, inputs, _params(node))
        if simpler is None:
            simpler = Node(node.value, node.needs, node.primitive, inputs, node.params, node.saved)
            simpler.hooks, simpler.origin = node.hooks, node.origin
        return self._named_as(node, simpler)

    def _named_as(self, node: Node, simpler: Node) -> Node:
        """Items of a loop keep the name that they have in each step."""
        name = self.names.of(node)
        if name is not None and simpler.primitive is pile:
            self.names.nodes[simpler] = name
        elif name is not None and simpler.primitive is not None:
            self.names.nodes.setdefault(simpler, name)
        return simpler

    def _made(self, primitive: Primitive, *inputs: Node, **params: Any) -> Node:
        simpler = self._simpler(primitive, inputs, params)
        if simpler is not None:
            return simpler
        value = np.asarray(primitive.compute(tuple([one.value for one in inputs]), params))
        return Node(value, any([one.needs for one in inputs]), primitive, inputs, params)

    # -- what cancels ------------------------------------------------------------------------------

    def _simpler(
        self, primitive: Primitive, inputs: tuple[Node, ...], params: Mapping[str, Any]
    ) -> Node | None:
        if primitive is read and inputs[0].primitive is pile:
            return self._part_of_pile(inputs[0], params["index"])
        if primitive is permute and inputs[0].primitive is pile:
            return self._pile_of_permuted(inputs[0], params["axes"])
        if primitive in MOVES:
            return self._moved(primitive, inputs[0], params)
        return None

    def _part_of_pile(self, x: Node, index: Any) -> Node | None:
        """``np.stack([a, b])[1]`` is ``b``."""
        parts = [*index] if isinstance(index, tuple) else [index]
        axis = _params(x)["axis"]
        if not all([type(one) in (int, slice) for one in parts]) or axis >= len(parts):
            return None
        at = parts.pop(axis)
        if type(at) is not int:
            return None
        while parts and parts[-1] == WHOLE:
            parts.pop()
        if not parts:
            return x.inputs[at]
        return self._made(read, x.inputs[at], index=tuple(parts) if parts[1:] else parts[0])

    def _pile_of_permuted(self, x: Node, axes: tuple[int, ...]) -> Node | None:
        """``np.stack(parts).transpose(1, 0, 2)`` stacks along another axis; so it is if the parts
        are transposed with it, and that cancels."""
        axis = _params(x)["axis"]
        rest = tuple([one - (one > axis) for one in axes if one != axis])
        parts = [self._moved(permute, one, {"axes": rest}) for one in x.inputs]
        found = [one for one in parts if one is not None]
        if len(found) < len(parts):
            return None
        return self._named_as(x, self._made(pile, *found, axis=axes.index(axis)))

    def _moved(self, primitive: Primitive, x: Node, params: Mapping[str, Any]) -> Node | None:
        """Elements that are moved back to where they were; and a constant, as another constant."""
        if self._is_nameless(x):
            return Node(primitive.compute((x.value,), dict(params)))
        for origin, places in _origins(x):
            moved = primitive.compute((places,), dict(params))
            if moved.shape == origin.value.shape and np.array_equal(moved, _places(origin)):
                return origin
        return None

    def _is_nameless(self, x: Node) -> bool:
        """Whether it is a constant that the user does not know by name."""
        known = x.primitive is not None or x.needs or self.names.of(x) is not None
        return not known and self.names.of_array(np.asarray(x.value)) is None

    # -- the arrays of one step --------------------------------------------------------------------

    def _step(self, node: Node, inputs: tuple[Node, ...]) -> Node | None:
        """What is simpler within the equations of a step."""
        if node.primitive is add and self._is_nameless(inputs[1]) and not np.any(inputs[1].value):
            return inputs[0]
        if node.primitive is read and type(_params(node)["index"]) is int:
            found = self._at(inputs[0], _params(node)["index"])
            # What is only read has no name of its own.
            return found if found.primitive is read else self._named_as(node, found)
        return None

    def _at(self, z: Node, t: int) -> Node:
        """``z[t]``; if nobody named z, computed from what belongs to step t: ``x[:, t] @ W + b``."""
        if self.names.of(z) is None and z.primitive is not None and z.primitive is add:
            a, b = z.inputs
            if np.shape(a.value) == z.value.shape and np.ndim(b.value) == 1:
                return self._made(add, self._at(a, t), b)
        if z not in self.products:
            self.products[z] = self._product(z) if self.names.of(z) is None else None
        product = self.products[z]
        if product is None:
            return self._made(read, z, index=t)
        x, axis, W = product
        index = (*[WHOLE] * axis, t) if axis else t
        return self._made(matmul_2d, self._made(read, x, index=index), W)

    def _product(self, z: Node) -> tuple[Node, int, Node] | None:
        """x, its axis of time, and W, if z (T, N, n) is ``W.T @ columns``, moved so that ``z[t]`` is
        ``x_t @ W``."""
        product, places = [*_origins(z)][-1]
        if product.primitive is not matmul_2d or places.ndim != 3:
            return None
        W_T, columns = product.inputs
        if W_T.primitive is not permute or W_T.value.ndim != 2 or columns.value.ndim != 2:
            return None
        n, count = product.value.shape
        column = places[..., 0]  # of step t and row n of the batch
        if not np.array_equal(places, column[..., None] + count * np.arange(n)):
            return None
        sequence = self._sequence(columns, column)
        return None if sequence is None else (*sequence, W_T.inputs[0])

    def _sequence(self, columns: Node, column: Any) -> tuple[Node, int] | None:
        """The array whose part of each step are these columns, and its axis of time."""
        if self._is_nameless(columns):
            self.sequences.append(Node(columns.value[:, column].transpose(2, 1, 0)))
            return self.sequences[-1], 1
        for x, elements in reversed([*_origins(columns)]):
            needed = elements[:, column].transpose(1, 2, 0)
            for axis in range(min(2, x.value.ndim)):
                if np.array_equal(np.moveaxis(_places(x), axis, 0), needed):
                    return x, axis
        return None


def _params(node: Node) -> dict[str, Any]:
    return node.params or {}


def _places(node: Node) -> Any:
    """The number of each element."""
    return np.arange(node.value.size).reshape(node.value.shape)


def _origins(node: Node) -> Iterator[tuple[Node, Any]]:
    """The arrays whose elements these are, nearest first, and the number there of each element."""
    places = _places(node)
    yield node, places
    while node.primitive is not None and node.primitive in MOVES:
        (before,) = node.inputs
        moved = node.primitive.compute((_places(before),), _params(node))
        places, node = moved.reshape(-1)[places], before
        yield node, places


def _unmoved(node: Node) -> Node:
    """The array itself in place of the same array reshaped to its own shape."""
    while node.primitive is reshape_to and node.inputs[0].value.shape == node.value.shape:
        (node,) = node.inputs
    return node
