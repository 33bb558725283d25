"""Weights in a file, written whole or not at all, read whole or not at all.

The file is an ordinary ``.npz`` or ``.safetensors``: one array for each parameter and buffer under
its path (``np.load(path)["0.W"]``), and ``about``, a text that says which format it is and which
model. A checkpoint of a run holds more: numbers and texts as ``"run"`` of that text, where
``{"array": name}`` stands for an array of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nn import npz, safetensors_file
from nn.module import Module
from tinygrad_np.errors import ArgumentError, TensorError, message

Array = NDArray[Any]


class FileFormat(Protocol):
    """What `save` and `load` need of a format: named arrays and a text, written and read."""

    ABOUT: str

    def write(self, file: IO[bytes], arrays: Mapping[str, Array], about: str, /) -> None: ...
    def read(self, file: IO[bytes], /) -> tuple[dict[str, Array], str | None]: ...


FILE_FORMATS: dict[str, FileFormat] = {".npz": npz, ".safetensors": safetensors_file}
FORMAT = "tinygrad-np weights"
VERSION = 1
PART = ".part"  # the end of the name of a file that is not finished


def save(model: Module, path: str | os.PathLike[str]) -> None:
    """Write the parameters and buffers of a model to a file, ``.npz`` or ``.safetensors``.

    The file is written under another name in the same folder, flushed to the disk and then renamed:
    at any moment, power loss included, `path` holds the old weights or the new, whole.

    Parameters
    ----------
    model : Module
    path : str or path
        Ending in ``.npz``, or in ``.safetensors`` (the extra ``safetensors``).

    Raises
    ------
    ArgumentError
        For another ending.
    DtypeError
        For complex numbers or more than 64 bits in ``.safetensors``, which has no dtype for them.
    OSError
        If it cannot be written.
    TensorError
        If safetensors is not installed. After each error the file that was there is as it was.

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
    _save("save", model, path, {})


def save_run(model: Module, path: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
    """Write a model as `save` does, and beside it the state of its training.

    Parameters
    ----------
    model, path
        As in `save`; `load` reads the weights of such a file, too.
    run : dict
        Of dicts, lists, numbers, texts, None and arrays.
    """
    arrays: dict[str, Array] = {}
    tree = _without_arrays(run, arrays)
    _save("Checkpoint", model, path, arrays, run=tree)


def _without_arrays(value: Any, arrays: dict[str, Array]) -> Any:
    """The tree as JSON takes it; its arrays go into `arrays`."""
    match value:
        case np.ndarray():
            name = f"run/{len(arrays)}"
            arrays[name] = value
            return {"array": name}
        case Mapping():
            return {key: _without_arrays(one, arrays) for key, one in value.items()}
        case list() | tuple():
            return [_without_arrays(one, arrays) for one in value]
        case np.generic():
            return value.item()
    return value


def _with_arrays(value: Any, arrays: dict[str, Array]) -> Any:
    """The tree with its arrays, which are taken out of `arrays`."""
    match value:
        case {"array": str(name), **nothing} if not nothing:
            return arrays.pop(name)
        case dict():
            return {key: _with_arrays(one, arrays) for key, one in value.items()}
        case list():
            return [_with_arrays(one, arrays) for one in value]
    return value


def _save(
    operation: str,
    model: Module,
    path: str | os.PathLike[str],
    more: dict[str, Array],
    **described: Any,
) -> None:
    path = checked_path(operation, path)
    about = {"format": FORMAT, "version": VERSION, "model": repr(model)} | described
    arrays = model.state_dict() | more
    file_format = FILE_FORMATS[path.suffix]
    if file_format.ABOUT in arrays:
        raise ArgumentError(
            message(operation, f"no parameter called {file_format.ABOUT!r}, where the file is "
                    "described", repr(model), "Give it another name.")
        )  # fmt: skip
    with written_whole(operation, path) as file:
        file_format.write(file, arrays, json.dumps(about))


@contextmanager
def written_whole(operation: str, path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of the one at `path` when it is on the disk."""
    unfinished = path.with_name(f"{_prefix(path)}{os.urandom(4).hex()}{PART}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        error.add_note(f"{operation}: {path} was not written; what was there before is as it was.")
        raise


def _prefix(path: Path) -> str:
    return f".{path.name}."


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left of files they were writing under that name."""
    path = Path(path)
    for entry in path.parent.iterdir():
        if entry.name.startswith(_prefix(path)) and entry.name.endswith(PART):
            entry.unlink(missing_ok=True)


def load(model: Module, path: str | os.PathLike[str]) -> None:
    """Set the parameters and buffers of a model to those that `save` wrote.

    Nothing in the file is executed, and nothing it says is believed: a file that is no whole
    checkpoint of this model is refused.

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
    TensorError
        If it is a ``.safetensors`` file, and safetensors is not installed.
    """
    arrays, about, _ = _load("load", path)
    try:
        model.load_state_dict(arrays)
    except ArgumentError as error:
        error.add_note(f"load: {path} holds the weights of\n{about['model']}")
        raise


def load_run(path: str | os.PathLike[str], parts: Iterable[str]) -> dict[str, Any]:
    """What `save_run` wrote, with at least those parts; and the weights as ``"model"``.

    Raises
    ------
    ArgumentError
        As `load`, and for a file without a run or with parts missing.
    OSError
        If it cannot be read.
    """
    arrays, about, run = _load("resume", path)
    if run is None:
        raise ArgumentError(
            message("resume", "a file written by nn.Checkpoint", f"{path}, written by nn.save",
                    "nn.load(model, path) reads its weights.")
        )  # fmt: skip
    for part in parts:
        if part not in run:
            raise _lacking("resume", path, part)
    return run | {"model": arrays, "described": about["model"]}


def _load(
    operation: str, path: str | os.PathLike[str]
) -> tuple[dict[str, Array], dict[str, Any], dict[str, Any] | None]:
    """Weights, description and run of a file, checked."""
    path = checked_path(operation, path)
    with path.open("rb") as file:
        try:
            arrays, text = FILE_FORMATS[path.suffix].read(file)
        except TensorError:
            raise
        # A damaged file fails in a dozen ways: in zipfile, zlib, NumPy's header parser, allocation.
        except Exception as error:
            reason = f"{operation}: {path} is damaged or no {path.suffix} file ({error})."
            raise ArgumentError(reason) from error
    about = _about(operation, path, text)
    return arrays, about, _run(operation, path, about, arrays)


def _run(operation: str, path: Path, about: dict[str, Any], arrays: dict[str, Array]) -> Any:
    """Take the state of a training out of the description and the arrays, if there is one."""
    try:
        return _with_arrays(about.get("run"), arrays)
    except KeyError as error:
        raise _lacking(operation, path, error.args[0]) from error
    except RecursionError as error:
        reason = f"{operation}: {path} is damaged: its description is nested too deeply."
        raise ArgumentError(reason) from error


def _lacking(operation: str, path: str | os.PathLike[str], name: str) -> ArgumentError:
    return ArgumentError(f"{operation}: {path} is damaged: it lacks {name}.")


def checked_path(operation: str, path: str | os.PathLike[str]) -> Path:
    """The path, if it has the ending that tells the format.

    Raises
    ------
    ArgumentError
        For another.
    """
    path = Path(path)
    if path.suffix not in FILE_FORMATS:
        endings = " or ".join(FILE_FORMATS)
        raise ArgumentError(message(operation, f"a path ending in {endings}", repr(str(path))))
    return path


def _about(operation: str, path: Path, text: str | None) -> dict[str, Any]:
    """The description of the file, checked."""
    try:
        about = json.loads(text or "")
        known = about["format"] == FORMAT and about["version"] >= 1 and about["model"]
    except (KeyError, TypeError, ValueError, RecursionError):  # a text of nothing but brackets
        known = False
    if not known:
        raise ArgumentError(
            message(operation, "a file written by nn.save", f"{path}, which does not say it is one",
                    "model.load_state_dict takes arrays by path, as np.load and "
                    "safetensors.numpy.load_file read them, nn.load_torch_state_dict PyTorch's.")
        )  # fmt: skip
    if about["version"] > VERSION:
        raise ArgumentError(
            message(operation, f"format version {VERSION} at most", f"{about['version']} in {path}",
                    "It was written by a newer tinygrad-np: install that one.")
        )  # fmt: skip
    return about  # type: ignore[no-any-return]  # what JSON gave, checked above
