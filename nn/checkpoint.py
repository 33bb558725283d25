"""Weights in a file: ``.npz``, written whole or not at all, read whole or not at all.

The file is an ordinary ``.npz``: one array for each parameter and buffer under its path
(``np.load(path)["0.W"]``), and `ABOUT`, a text that says which format it is and which model.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nn.module import Module
from tinygrad_np.errors import ArgumentError, message

ABOUT = "about"
FORMAT = "tinygrad-np weights"
VERSION = 1

Array = NDArray[Any]


def save(model: Module, path: str | os.PathLike[str]) -> None:
    """Write the parameters and buffers of a model to an ``.npz`` file.

    The file is written under another name in the same folder, flushed to the disk and then renamed:
    at any moment, power loss included, `path` holds the old weights or the new, whole.

    Parameters
    ----------
    model : Module
    path : str or path
        Ending in ``.npz``.

    Raises
    ------
    ArgumentError
        For another ending.
    OSError
        If it cannot be written; the file that was there is as it was.

    Examples
    --------
    >>> import nn, os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "weights.npz")
    >>> nn.save(nn.Dense(2, 3), path)
    >>> other = nn.Dense(2, 3)
    >>> nn.load(other, path)
    >>> folder.cleanup()
    """
    path = _checked("save", path)
    about = {"format": FORMAT, "version": VERSION, "model": repr(model)}
    arrays = {ABOUT: np.array(json.dumps(about))} | model.state_dict()
    unfinished = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with unfinished.open("xb") as file:
            _write(file, arrays)
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        error.add_note(f"save: {path} was not written; what was there before is as it was.")
        raise


def load(model: Module, path: str | os.PathLike[str]) -> None:
    """Set the parameters and buffers of a model to those that `save` wrote.

    Nothing in the file is executed: it is read with ``allow_pickle=False``.

    Parameters
    ----------
    model : Module
        Of the same architecture.
    path : str or path

    Raises
    ------
    ArgumentError
        For a file that is damaged or not one of `save`, or of a newer format; or of another
        architecture, with the differences. The model stays as it was.
    OSError
        If it cannot be read.
    """
    path = _checked("load", path)
    with path.open("rb") as file:
        try:
            arrays = _read(file)
        # A damaged file fails in a dozen ways: in zipfile, zlib, NumPy's header parser, allocation.
        except Exception as error:
            raise ArgumentError(f"load: {path} is damaged or no .npz file ({error}).") from error
    about = _about(path, arrays)
    try:
        model.load_state_dict(arrays)
    except ArgumentError as error:
        error.add_note(f"load: {path} holds the weights of\n{about['model']}")
        raise


def _checked(operation: str, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix != ".npz":
        raise ArgumentError(message(operation, "a path ending in .npz", repr(str(path))))
    return path


def _write(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    # np.savez takes the names as keywords, so a parameter could not be called "file".
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _read(file: IO[bytes]) -> dict[str, Array]:
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as entry:
                array = np.lib.format.read_array(entry, allow_pickle=False)
                if entry.read(1):
                    raise ValueError(f"{name} is longer than its array")
                arrays[name.removesuffix(".npy")] = array
    return arrays


def _about(path: Path, arrays: dict[str, Array]) -> dict[str, Any]:
    """Take the description out of the arrays, checked."""
    try:
        about = json.loads(str(arrays.pop(ABOUT)))
        known = about["format"] == FORMAT and isinstance(about["version"], int) and about["model"]
    except (KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise ArgumentError(
            message("load", "a file written by nn.save", f"{path}, which does not say it is one",
                    "model.load_state_dict(np.load(path)) takes the arrays of any .npz file.")
        )  # fmt: skip
    if about["version"] > VERSION:
        raise ArgumentError(
            message("load", f"format version {VERSION} at most", f"{about['version']} in {path}",
                    "It was written by a newer tinygrad-np: install that one.")
        )  # fmt: skip
    return about  # type: ignore[no-any-return]  # what JSON gave, checked above
