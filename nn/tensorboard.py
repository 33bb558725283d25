"""Event files, as TensorBoard reads them, written with nothing but the standard library.

A file is a row of records: the length of the data (8 bytes, little-endian), its checksum, the data,
its checksum. The data is a protocol buffer `Event` of TensorFlow's ``event.proto``, whose fields
are here: 1 wall time, 2 step, 3 file version, 5 summary (1 value: 1 tag, 2 number), 7 session log
(1 status). A field begins with its number and the kind of what follows.
"""

from __future__ import annotations

import os
import platform
import struct
import time
from functools import cache
from pathlib import Path

from nn.callbacks import Callback, Run

VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5  # the kinds of fields


class TensorBoardLog(Callback):
    """Write each epoch's measures as scalars that TensorBoard draws: ``tensorboard --logdir path``.

    A resumed run writes a file of its own, which takes the place of what the interrupted one wrote
    of the epochs that are done again.

    Parameters
    ----------
    path : str or path
        The folder of this run; beside others it is drawn in its own colour.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = Path(path)

    def on_train_begin(self, run: Run) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = ("events.out.tfevents", f"{time.time_ns():020d}", platform.node(), str(os.getpid()))
        self.file = self.folder / ".".join(parts)
        self._write(event(0, field(3, BYTES, b"brain.Event:2")))
        if run.epoch:
            start = field(1, VARINT, 1)
            self._write(event(run.epoch + 1, field(7, BYTES, start)))

    def on_epoch_end(self, run: Run) -> None:
        for name, values in run.history.items():
            number = field(1, BYTES, name.encode()) + field(2, FLOAT, values[-1])
            summary = field(1, BYTES, number)
            self._write(event(run.epoch, field(5, BYTES, summary)))

    def _write(self, data: bytes) -> None:
        with self.file.open("ab") as file:
            file.write(record(data))


def event(step: int, what: bytes) -> bytes:
    """An `Event` of now."""
    return field(1, DOUBLE, time.time()) + field(2, VARINT, step) + what


def field(number: int, kind: int, value: bytes | float) -> bytes:
    """A field of a protocol buffer."""
    head = varint(number << 3 | kind)
    match value:
        case bytes():
            return head + varint(len(value)) + value
        case int() if kind == VARINT:
            return head + varint(value)
    return head + struct.pack("<d" if kind == DOUBLE else "<f", value)


def varint(n: int) -> bytes:
    """A whole number >= 0 in groups of 7 bits, the lowest first; the last has no 8th bit."""
    groups = []
    while n > 127:
        groups.append(n & 127 | 128)
        n >>= 7
    return bytes([*groups, n])


def record(data: bytes) -> bytes:
    """The data with its length and both checksums."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, turned and shifted, so that checksums of data that holds checksums stay good."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """The cyclic redundancy check of Castagnoli's polynomial (RFC 3720, appendix B.4).

    Examples
    --------
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    table = _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> list[int]:
    """What each byte adds: eight divisions by the polynomial, bits reversed."""
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table
