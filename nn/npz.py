"""Named arrays and a text as ``.npz``, NumPy's own format: a zip archive of ``.npy`` files.

Nothing in a file is believed: the arrays are as long as the file, no entry is packed (a few bytes
could become many gigabytes), none is there twice, and no object is unpickled.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Array = NDArray[Any]
ABOUT = "about"


def write(file: IO[bytes], arrays: Mapping[str, Array], about: str) -> None:
    """Write the arrays under their names, and the text as one more."""
    # np.savez takes the names as keywords, so a parameter could not be called "file".
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in {ABOUT: np.array(about), **arrays}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)


def read(file: IO[bytes]) -> tuple[dict[str, Array], str | None]:
    """The arrays, and the text if there is one.

    Raises
    ------
    Exception
        Of many kinds, by zipfile, zlib, NumPy's reader and the checks here, if it is damaged.
    """
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"{name} is there twice")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{name} is packed, which nn.save never does")
            with archive.open(info) as entry:
                _check_length(entry, info)
            with archive.open(info) as entry:  # anew: after a seek no checksum is compared
                arrays[name] = npy.read_array(entry, allow_pickle=False)
    about = arrays.pop(ABOUT, None)
    return arrays, None if about is None else str(about)


def _check_length(entry: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Refuse an array that is not as long as its entry, before there is memory for it."""
    version = npy.read_magic(entry)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = header(entry)
    length = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and entry.tell() + length != info.file_size:
        raise ValueError(
            f"{info.filename} claims {length} bytes, {info.file_size - entry.tell()} are there"
        )
