"""What of a large graph is drawn as one box.

Only sets of operations are folded that nothing leaves and comes back to, so that a folded picture
runs one way like the graph. What was asked for, the targets, is never folded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

import numpy as np

from ..backward import by_order
from ..core import Node
from ..errors import ArgumentError, message
from .graph import Call, Group, consumers

LARGEST_IN_FULL = 100  # operations of a graph that is not folded by default
LONGEST_PERIOD = 32  # operations of a block whose repetition is recognised
FEWEST_REPEATS = 4

Block = tuple[Node, ...]


def repeats(nodes: Sequence[Node], targets: Sequence[Node]) -> list[Group]:
    """The middle of each run of equal blocks: its first and its last block stay.

    A block is what lies between two results that everything after them goes through, such as a
    layer, a residual block or a step of a loop.
    """
    blocks = list(_blocks(nodes))
    apart = set(targets) - {nodes[-1]}  # the last block stays anyway
    kinds: list[Hashable] = [
        tuple([node if node in apart else node.primitive for node in b]) for b in blocks
    ]
    groups = []
    for start, period, count in _runs(kinds):
        if count > 1:
            middle = blocks[start + period : start + period * (count - 1)]
            operations = chain.from_iterable(blocks[start : start + period])
            title = f"x{count - 2:,}   {_listed([_name(node) for node in operations])}"
            groups.append(Group(title, frozenset(chain.from_iterable(middle))))
    return groups


def _runs(kinds: Sequence[Hashable]) -> Iterator[tuple[int, int, int]]:
    """Start, period and number of periods of each run; what is in no run comes once, by itself."""
    start = 0
    while start < len(kinds):
        period, count = _best_period(kinds, start)
        if count < FEWEST_REPEATS:
            period = count = 1
        yield start, period, count
        start += period * count


def _blocks(nodes: Sequence[Node]) -> Iterator[Block]:
    """The operations in order, cut after each result that everything after it goes through."""
    operations = [node for node in nodes if node.primitive is not None]
    position = {node: i for i, node in enumerate(operations)}
    last_use = {
        node: max([position[user] for user in users]) for node, users in consumers(nodes).items()
    }
    block: list[Node] = []
    furthest = -1  # the last use of any result before this one
    for i, node in enumerate(operations):
        block.append(node)
        if furthest <= i:
            yield tuple(block)
            block = []
        furthest = max(furthest, last_use.get(node, len(operations)))
    if block:
        yield tuple(block)


def _best_period(kinds: Sequence[Hashable], start: int) -> tuple[int, int]:
    """The period, in blocks, that covers most from ``start`` on, and how often it comes."""
    best = (1, 1)
    for period in range(1, LONGEST_PERIOD + 1):
        end = start + period
        while end < len(kinds) and kinds[end] == kinds[end - period]:
            end += 1
        count = (end - start) // period
        if count >= FEWEST_REPEATS and period * count > best[0] * best[1]:
            best = (period, count)
    return best


def _listed(names: Sequence[str], longest: int = 4) -> str:
    return " → ".join([*names[:longest], *["…"] * (len(names) > longest)])


def _name(item: Node | Call) -> str:
    if isinstance(item, Call):
        return type(item.module).__name__
    assert item.primitive is not None
    return item.primitive.name


def earlier(
    nodes: Sequence[Node], targets: Sequence[Node], groups: Sequence[Group], keep: int
) -> list[Group]:
    """The groups, with all but the last ``keep`` unfolded operations folded into one more."""
    inside = {node for group in groups for node in group.members}
    free = [node for node in nodes if node.primitive is not None and node not in inside]
    if len(free) <= keep:
        return list(groups)
    # What is older than the cut has come only from what is older still.
    cut = free[-keep].order
    old = {node for node in nodes if node.primitive is not None and node.order < cut}
    later = [group for group in groups if not group.members <= old]
    return [Group("earlier operations", frozenset(old.difference(targets))), *later]


def near(nodes: Sequence[Node], center: Node, radius: int) -> frozenset[Node]:
    """The nodes at most ``radius`` edges away from one, either way, and the leaves they use."""
    uses = consumers(nodes)
    found = {center}
    border = {center}
    for _ in range(radius):
        border = {other for node in border for other in (*node.inputs, *uses.get(node, ()))} - found
        found |= border
    leaves = {one for node in found for one in node.inputs if one.primitive is None}
    return frozenset(found | leaves)


# --------------------------------------------------------------------------------------------------
# Modules
# --------------------------------------------------------------------------------------------------

Collapse = str | Sequence[str] | Callable[[Any], bool]


class Modules:
    """The calls of modules, and which of them are drawn as one box.

    What a call computed lies in a stretch of time, so nothing leaves it and comes back to it; the
    same holds for calls in a row.
    """

    def __init__(self, nodes: Sequence[Node], homes: Mapping[Node, Call]) -> None:
        self.nodes = nodes
        self.homes = dict(homes)
        self.members: dict[Call, list[Node]] = {}
        self.items: dict[Call | None, list[Node | Call]] = {}
        for node in nodes:
            if node.primitive is None:
                continue
            item: Node | Call = node
            home = self.homes.get(node)
            while True:
                row = self.items.setdefault(home, [])
                if not row or row[-1] is not item:
                    row.append(item)
                if home is None:
                    break
                self.members.setdefault(home, []).append(node)
                item, home = home, home.parent
        self.levels: dict[Call, int] = {}
        for call in sorted(self.members, key=lambda call: call.start):
            self.levels[call] = self.levels[call.parent] + 1 if call.parent else 1

    def chosen(self, collapse: Collapse) -> set[Call]:
        """The calls of the modules that ``collapse`` names, by path or class, or picks."""
        if callable(collapse):
            return {call for call in self.levels if collapse(call.module)}
        found: set[Call] = set()
        for pattern in [collapse] if isinstance(collapse, str) else collapse:
            some = {
                call for call in self.levels
                if fnmatchcase(call.path, pattern) or fnmatchcase(_name(call), pattern)
            }  # fmt: skip
            if not some:
                known = dict.fromkeys(call.path or _name(call) for call in self.levels)
                raise ArgumentError(
                    message("draw", f"collapse= among {', '.join(known)}", repr(pattern))
                )
            found |= some
        return found

    def groups(
        self, depth: int | None, collapsed: set[Call], fold: bool, apart: set[Node]
    ) -> tuple[list[Group], dict[Node, Call]]:
        """What is drawn as one box, and the open call that each node is drawn in.

        Equal closed modules in a row are one box; with ``fold`` so is the middle of any run.
        """
        closed = {
            call for call, level in self.levels.items() if depth is not None and level > depth
        }
        closed |= collapsed
        groups = []
        todo: list[Call | None] = [None]
        while todo:
            home = todo.pop()
            items = self.items.get(home, [])
            for start, period, count in _runs([self._kind(item, apart) for item in items]):
                run = items[start : start + period * count]
                calls = [one for one in run if isinstance(one, Call)]
                whole = bool(calls) and closed.issuperset(calls)
                if count > 1 and (whole or fold):
                    middle = run if whole else run[period:-period]
                    groups.append(self._run(middle, period, home))
                    closed |= {one for one in middle if isinstance(one, Call)}
                else:
                    groups += [self._single(call) for call in calls if call in closed]
                todo += [call for call in calls if call not in closed]
        return groups, self._open_homes(closed)

    def _kind(self, item: Node | Call, apart: set[Node]) -> Hashable:
        if isinstance(item, Node):
            return item if item in apart else (item.primitive, np.shape(item.value))
        inside = tuple([self._kind(node, apart) for node in self.members[item]])
        return (type(item.module), inside)

    def _single(self, call: Call) -> Group:
        members = self.members[call]
        return Group(call.title, frozenset(members), call.parent, (_gives(members[-1]),))

    def _run(self, run: Sequence[Node | Call], period: int, home: Call | None) -> Group:
        calls = [one for one in run if isinstance(one, Call)]
        members = [one for one in run if isinstance(one, Node)]
        members += [node for call in calls for node in self.members[call]]
        title = f"x{len(run) // period:,}   {_listed([_name(one) for one in run[:period]])}"
        paths = list(dict.fromkeys([call.path for call in calls if call.path]))
        lines = (f"{paths[0]} … {paths[-1]}",) if len(paths) > 1 else tuple(paths)
        last = max(members, key=by_order)
        return Group(title, frozenset(members), home, (*lines, _gives(last)))

    def _open_homes(self, closed: set[Call]) -> dict[Node, Call]:
        """Where nodes are drawn: a closed call has no inside, nor has what lies deeper in it."""
        around: dict[Call, Call | None] = {}
        for call in self.levels:  # outer ones first
            parent = around[call.parent] if call.parent else None
            around[call] = parent if call in closed or parent is not call.parent else call
        moved = {node: around.get(home, home) for node, home in self.homes.items()}
        return {node: home for node, home in moved.items() if home is not None}


def _gives(last: Node) -> str:
    return f"gives {np.shape(last.value)} {last.value.dtype}"
