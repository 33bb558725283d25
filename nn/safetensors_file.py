"""Named arrays and a text as ``.safetensors``, read by PyTorch, JAX and the Hugging Face libraries.

The library that writes and reads it is the extra ``safetensors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tinygrad_np.errors import DtypeError, TensorError, message

Array = NDArray[Any]
ABOUT = "about"
KINDS = "fiub"  # complex64 would go, complex128 would not


def write(file: IO[bytes], arrays: Mapping[str, Array], about: str) -> None:
    """Write the arrays under their names, and the text as metadata.

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
    file.write(numpy_format.save(dense, metadata={ABOUT: about}))


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
        return arrays, (entries.metadata() or {}).get(ABOUT)


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise TensorError(
            'safetensors: not installed. Install it with pip install "tinygrad-np[safetensors]", '
            "or use a path ending in .npz."
        ) from error
    return safetensors
