"""What of a large graph is drawn as one box.

Only sets of operations are folded that nothing leaves and comes back to, so that a folded picture
runs one way like the graph. What was asked for, the targets, is never folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from ..core import Node
from .graph import Group, consumers

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
    kinds = [tuple([node if node in apart else node.primitive for node in b]) for b in blocks]
    groups = []
    start = 0
    while start < len(blocks):
        period, count = _best_period(kinds, start)
        if count < FEWEST_REPEATS:
            start += 1
            continue
        middle = blocks[start + period : start + period * (count - 1)]
        title = f"x{count - 2:,}   {_listed(blocks[start : start + period])}"
        groups.append(Group(title, frozenset(chain.from_iterable(middle))))
        start += period * count
    return groups


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


def _best_period(kinds: Sequence[tuple[object, ...]], start: int) -> tuple[int, int]:
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


def _listed(blocks: Sequence[Block], longest: int = 4) -> str:
    names = [node.primitive.name for block in blocks for node in block if node.primitive]
    return " → ".join(names[:longest] + ["…"] * (len(names) > longest))


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
