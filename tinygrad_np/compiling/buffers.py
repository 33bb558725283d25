"""Which calls are needed, and where in memory their results go.

A temporary array lives from the call that makes it to the last that reads it. Its memory is then
used for the next one; an elementwise result goes over an argument that nobody reads any more; and
what is copied into an array that stays is computed there in the first place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .lowering import Lowered, touched
from .traced import ELEMENTWISE, FIXED, TEMPORARY, VIEW, WRITES, Call, Storage, Traced, found

END = 1 << 60


def needed(lowered: Lowered) -> list[Any]:
    """The lines without those whose results nobody reads."""
    live = {one.storage for one in _at_the_end(lowered)}
    kept = []
    for line in reversed(lowered.lines):
        if isinstance(line, Call) and not _is_needed(line, live):
            continue
        live |= {one.storage for one in touched(line)}
        kept.append(line)
    return kept[::-1]


def _at_the_end(lowered: Lowered) -> Iterable[Traced]:
    for one in lowered.gradients.values():
        yield from found(one)
    for result in lowered.results:
        yield from found(result.value)


def _is_needed(call: Call, live: set[Storage]) -> bool:
    changed = found(call.args[0]) if call.kind == WRITES else found(call.result)
    return any(
        one.storage in live or (one.storage.kind == FIXED and call.kind != VIEW) for one in changed
    )


class Plan:
    """The lines that are left, and the memory of each stand-in.

    Attributes
    ----------
    lines : list
    blocks : list of ndarray
        The memory, as bytes.
    placed : dict of Traced to ndarray
        Every stand-in whose array is always the same one.
    """

    def __init__(self, lowered: Lowered) -> None:
        self.lines = needed(lowered)
        self.lowered = lowered
        self._find_homes()
        self.first, self.last = self._lifetimes()
        # A run that ends at a guard leaves the gradients of the run before: nothing that comes
        # before the guard may go where they are.
        self.lasting = {one.storage for value in lowered.gradients.values() for one in found(value)}
        self.blocks: list[Any] = []
        self.free: dict[int, list[Any]] = {}
        self._place()
        self.placed: dict[Traced, Any] = {}
        self.shared: dict[Any, Any] = {}
        for line in self.lines:
            for one in touched(line):
                self.array(one)
            if isinstance(line, Call) and line.kind == VIEW:
                self._bind_view(line)
        for one in _at_the_end(lowered):
            self.array(one)

    def _lifetimes(self) -> tuple[dict[Storage, int], dict[Storage, int]]:
        first: dict[Storage, int] = {}
        last: dict[Storage, int] = {}
        for i, line in enumerate(self.lines):
            for one in touched(line):
                first.setdefault(one.storage, i)
                last[one.storage] = i
        for one in _at_the_end(self.lowered):
            last[one.storage] = END
        return first, last

    # -- results that are computed where they would be copied to -----------------------------------

    def _find_homes(self) -> None:
        """Gradients are copied into one flat array, each part to its place: they can be made there."""
        first, _ = self._lifetimes()
        touches: dict[Storage, list[tuple[int, Traced]]] = {}
        copies: dict[Storage, list[int]] = {}
        for i, line in enumerate(self.lines):
            if isinstance(line, Call) and line.function is np.copyto and self._can_live(*line.args):
                copies.setdefault(line.args[1].storage, []).append(i)
            elif not (isinstance(line, Call) and line.kind == VIEW):
                for one in touched(line):
                    touches.setdefault(one.storage, []).append((i, one))
        gone: set[int] = set()
        for storage, places in copies.items():
            pairs = [self.lines[i].args for i in places]
            bases = {_address(there) - _address(value) for there, value in pairs}
            there = pairs[0][0].storage
            between = range(first[storage], places[-1])
            if len(bases) > 1 or sum(value.example.nbytes for _, value in pairs) != storage.nbytes:
                continue
            if any(
                k in between and np.may_share_memory(one.example, place.example)
                for k, one in touches.get(there, ()) for place, _ in pairs
            ):  # fmt: skip
                continue
            start = bases.pop() + byte_bounds(storage.root)[0] - byte_bounds(there.root)[0]
            storage.home = _bytes(there.root)[start : start + storage.nbytes]
            gone.update(places)
        self.lines = [line for i, line in enumerate(self.lines) if i not in gone]

    def _can_live(self, there: Any, value: Any) -> bool:
        return (
            isinstance(there, Traced) and there.storage.kind == FIXED
            and isinstance(value, Traced) and value.storage.kind == TEMPORARY
            and value.storage.home is None and not value.storage.ones
            and value.dtype == there.dtype and value.size == there.size
            and value.flags.c_contiguous and there.flags.c_contiguous
            and there.storage.root.flags.c_contiguous
        )  # fmt: skip

    # -- memory ------------------------------------------------------------------------------------

    def _place(self) -> None:
        for i, line in enumerate(self.lines):
            if not isinstance(line, Call):
                continue
            new = {one.storage: one for one in touched(line) if self._starts(one.storage, i)}
            for storage, value in new.items():
                if storage.home is not None:
                    storage.memory = storage.home
                elif storage.ones:
                    storage.memory = self._with_ones(storage, value)
                elif storage in self.lasting:
                    storage.memory = self._more(storage)
                else:
                    memory = self._over_an_argument(line, value, i)
                    storage.memory = self._take(storage) if memory is None else memory
            for storage in {one.storage for one in touched(line)}:
                lent = storage.memory is not None and storage.home is None and not storage.ones
                if self.last[storage] == i and lent:
                    self.free.setdefault(storage.memory.nbytes, []).append(storage.memory)

    def _starts(self, storage: Storage, i: int) -> bool:
        return storage.kind == TEMPORARY and storage.memory is None and self.first[storage] == i

    def _over_an_argument(self, line: Call, value: Traced, i: int) -> Any:
        """The memory of an argument of an elementwise call that is read here for the last time."""
        if line.kind != ELEMENTWISE or line.result is not value or not value.covers():
            return None
        for one in line.reads:
            storage = one.storage
            if storage.kind != TEMPORARY or self.last[storage] != i:
                continue
            if storage.home is not None or storage.ones:
                continue
            same = [other for other in line.reads if other.storage is storage]
            if all(
                other.covers() and other.strides == value.strides and other.shape == value.shape
                and other.itemsize == value.itemsize
                for other in same
            ):  # fmt: skip
                self.last[storage] = -1  # it is not free: it has a new owner
                return storage.memory
        return None

    def _take(self, storage: Storage) -> Any:
        """Free memory that fits, or more of it."""
        need = storage.nbytes
        fitting = [size for size, there in self.free.items() if there and need <= size <= 2 * need]
        if fitting:
            return self.free[min(fitting)].pop()
        return self._more(storage)

    def _more(self, storage: Storage) -> Any:
        """Memory that nothing was in before."""
        block = aligned(storage.nbytes)
        self.blocks.append(block)
        return block

    def _with_ones(self, storage: Storage, value: Traced) -> Any:
        """Memory of its own: what is 1 and never written to stays so."""
        block = aligned(storage.nbytes + storage.ones * value.itemsize)
        self.blocks.append(block)
        block.view(value.dtype)[:] = 1
        return block

    # -- arrays ------------------------------------------------------------------------------------

    def array(self, value: Traced) -> Any:
        """The array of a stand-in, if it is always the same one."""
        if value in self.placed:
            return self.placed[value]
        storage = value.storage
        if storage.kind == FIXED:
            self.placed[value] = value.example
        elif storage.kind == TEMPORARY and value.covers():
            # One object for all that have the same place: thousands would push each other out of
            # the cache.
            key = (storage.memory.ctypes.data, value.shape, value.dtype.str, value.strides)
            if key not in self.shared:
                self.shared[key] = np.ndarray(
                    value.shape, value.dtype, storage.memory, 0, value.strides
                )
            self.placed[value] = self.shared[key]
        return self.placed.get(value)

    def _bind_view(self, call: Call) -> None:
        base, *rest = call.args
        if base in self.placed and base.storage.kind == TEMPORARY:
            self.placed[call.result] = call.function(self.placed[base], *rest, **call.options)


def aligned(nbytes: int) -> Any:
    """Memory that begins at a cache line."""
    room = np.empty(nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + nbytes]


def _address(value: Traced) -> int:
    return byte_bounds(value.example)[0]


def _bytes(array: Any) -> Any:
    return array.reshape(-1).view(np.uint8)
