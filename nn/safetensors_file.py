"""Named arrays and a text as ``.safetensors``, read by PyTorch, JAX and the Hugging Face libraries.

The library that writes and reads it is the extra ``safetensors``. The format has no checksum, so
there is one in the text: the library writes several texts in an order of its own, and equal weights
are to give equal files.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_np.errors import DtypeError, TensorError, message

Array = NDArray[Any]
ABOUT = "about"
CHECKSUM = "crc32"
KINDS = "fiub"  # complex64 would go, complex128 would not


def write(file: IO[bytes], arrays: Mapping[str, Array], about: str) -> None:
    """Write the arrays under their names, and the text, a JSON object, as metadata.

    Raises
    ------
    DtypeError
        For an array that the format has no dtype for.
    TensorError
        If safetensors is not installed.
    """
    numpy_format = _library().numpy
    for name, array in arrays.items():
        if array.dtype.kind not in KINDS or array.dtype.itemsize > 8:
            raise DtypeError(
                message("save", "numbers of at most 64 bits for .safetensors",
                        f"{name} of dtype {array.dtype}", "Save it as .npz, or convert it first.")
            )  # fmt: skip
    # The library writes the memory of an array as it lies there, whatever its strides.
    dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    checked = json.dumps(json.loads(about) | {CHECKSUM: _checksum(dense, about)})
    file.write(numpy_format.save(dense, metadata={ABOUT: checked}))


def read(file: IO[bytes]) -> tuple[dict[str, Array], str | None]:
    """The arrays, and the text if there is one.

    Raises
    ------
    Exception
        Of the library, if it is damaged.
    TensorError
        If safetensors is not installed.
    """
    with _library().safe_open(file.name, framework="numpy") as entries:
        arrays = {name: entries.get_tensor(name) for name in entries.keys()}  # noqa: SIM118
        checked = (entries.metadata() or {}).get(ABOUT)
    if checked is None:
        return arrays, None
    described = json.loads(checked)
    checksum = described.pop(CHECKSUM)
    about = json.dumps(described)
    if checksum != _checksum(arrays, about):
        raise ValueError("its checksum is that of other numbers")
    return arrays, about


def _checksum(arrays: Mapping[str, Array], about: str) -> str:
    """The CRC-32 of the text and of all arrays, their names, dtypes and shapes."""
    found = zlib.crc32(about.encode())
    for name, array in sorted(arrays.items()):
        found = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), found)
        found = zlib.crc32(array.astype(array.dtype.newbyteorder("<"), copy=False).data, found)
    return f"{found:08x}"


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise TensorError(
            'safetensors: not installed. Install it with pip install "tinygrad-np[safetensors]", '
            "or use a path ending in .npz."
        ) from error
    return safetensors
