"""MNIST and Fashion-MNIST, from idx files whose content is always checked."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nn.datasets.dataset import Dataset
from nn.datasets.tables import pixel_names
from tinygrad_np.errors import ArgumentError, message

VARIABLE = "TINYGRAD_NP_DATA"
_STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
TIMEOUT = 15.0  # seconds without an answer before the next mirror is tried


@dataclass(frozen=True)
class _Archive:
    name: str
    folder: str
    class_names: tuple[str, ...]
    source: str
    licence: str
    mirrors: tuple[str, ...]
    sha256: tuple[str, str, str, str]  # of the decompressed files, as in _STEMS


_MNIST = _Archive(
    name="mnist",
    folder="mnist",
    class_names=tuple("0123456789"),
    source="Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits (1998)",
    licence="CC BY-SA 3.0",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256=(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

_FASHION_MNIST = _Archive(
    name="fashion_mnist",
    folder="fashion-mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    source="Zalando SE (2017), https://github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    sha256=(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


def mnist(
    path: str | os.PathLike[str] | None = None, raw: bool = False, download: bool = True
) -> tuple[Dataset, Dataset]:
    """Return MNIST, handwritten digits of 28x28 pixels: 60,000 to train on and 10,000 to test.

    The four idx files, plain or ``.gz``, are read from `path` when it is given. Otherwise from the
    folder that the environment variable ``TINYGRAD_NP_DATA`` names (or its sub-folder ``mnist``),
    else from the user's cache folder (``~/.cache/tinygrad-np/mnist`` on Linux), to which missing
    files are downloaded (11 MB). The SHA-256 of every file's content is checked each time.

    Parameters
    ----------
    path : str or path, optional
        A folder that holds the files, or whose sub-folder ``mnist`` does.
    raw : bool
        Return the pixels as in the files.
    download : bool
        Whether missing files may be fetched; without, nothing touches the network.

    Returns
    -------
    train, test : Dataset
        x float32 (N, 784) in [0, 1], with `raw` uint8 (N, 28, 28); y int64 (N,) in 0..9.

    Raises
    ------
    FileNotFoundError
        When files are missing and cannot or may not be downloaded; says which to put where.
    ArgumentError
        For a damaged file, naming it.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE 86 (1998), 2278-2324.

    Examples
    --------
    >>> (x_train, y_train), (x_test, y_test) = mnist()  # doctest: +SKIP
    >>> x_train.shape, x_test.shape  # doctest: +SKIP
    ((60000, 784), (10000, 784))
    """
    return _load(_MNIST, path, raw, download)


def fashion_mnist(
    path: str | os.PathLike[str] | None = None, raw: bool = False, download: bool = True
) -> tuple[Dataset, Dataset]:
    """Return Fashion-MNIST, pieces of clothing in the format and the numbers of `mnist`.

    Files, parameters, result and errors are as in `mnist`, with the sub-folder ``fashion-mnist``
    (a download of 31 MB).

    References
    ----------
    H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms" (2017), arXiv:1708.07747.

    Examples
    --------
    >>> train, test = fashion_mnist(raw=True)  # doctest: +SKIP
    >>> train.class_names[train.y[0]]  # doctest: +SKIP
    'Ankle boot'
    """
    return _load(_FASHION_MNIST, path, raw, download)


def _load(
    archive: _Archive, path: str | os.PathLike[str] | None, raw: bool, download: bool
) -> tuple[Dataset, Dataset]:
    files = _locate(archive, path, download)
    x_train, y_train, x_test, y_test = map(_read_idx, files, archive.sha256)
    return (
        _dataset(archive, "train", x_train, y_train, raw),
        _dataset(archive, "test", x_test, y_test, raw),
    )


def _dataset(
    archive: _Archive, part: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], raw: bool
) -> Dataset:
    return Dataset(
        images if raw else images.reshape(len(images), -1).astype(np.float32) / np.float32(255),
        labels.astype(np.int64),
        pixel_names(images.shape[1]),
        archive.class_names,
        f"{archive.name} {part}",
        archive.source,
        archive.licence,
    )


def _locate(archive: _Archive, path: str | os.PathLike[str] | None, download: bool) -> list[Path]:
    """Find the four files in the first place that has them all."""
    cache = _cache_folder() / archive.folder
    root = path if path is not None else os.environ.get(VARIABLE) or None
    folders = []
    if root is not None:
        folders += [Path(root).expanduser() / archive.folder, Path(root).expanduser()]
    if path is None:
        folders += [cache]
    for folder in folders:
        found = _files_in(folder)
        if len(found) == len(_STEMS):
            return list(found.values())
    # A folder the caller named is all there is to it; otherwise the cache can be completed.
    failures = _download_missing(archive, cache) if path is None and download else []
    found = _files_in(folders[-1])
    if len(found) == len(_STEMS):
        return list(found.values())
    raise FileNotFoundError(_missing(archive, folders, failures, cache))


def _files_in(folder: Path) -> dict[str, Path]:
    """Find the files that folder holds, by stem, in any of the usual spellings."""
    found = {}
    for stem in _STEMS:
        spellings = (stem, stem.replace("-idx", ".idx"))
        for name in (spelling + suffix for spelling in spellings for suffix in ("", ".gz")):
            if (folder / name).is_file():
                found[stem] = folder / name
                break
    return found


def _missing(archive: _Archive, folders: list[Path], failures: list[str], cache: Path) -> str:
    def lacks(folder: Path) -> str:
        found = _files_in(folder)
        return ", ".join(stem for stem in _STEMS if stem not in found) if found else "all four"

    return "\n".join(
        [
            f"{archive.name}: the data is not on this computer. Looked in",
            *(f"  {folder}: lacks {lacks(folder)}" for folder in folders),
            *(["The download failed:", *failures] if failures else []),
            "Put these four files, plain or as .gz,",
            *(f"  {stem}" for stem in _STEMS),
            f"into {cache}, or into another folder and pass it as path= or set {VARIABLE} to it.",
            f"They are at {archive.mirrors[0]}",
        ]
    )


def _cache_folder() -> Path:
    if sys.platform == "win32":
        default = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        default = "~/Library/Caches"
    else:
        default = "~/.cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or default).expanduser() / "tinygrad-np"


def _download_missing(archive: _Archive, folder: Path) -> list[str]:
    """Fetch what folder lacks; return what each mirror answered for a file that none gave."""
    found = _files_in(folder)
    for stem, sha256 in zip(_STEMS, archive.sha256, strict=True):
        failures = [] if stem in found else _download(archive, stem, sha256, folder)
        if failures:
            return failures
    return []


def _download(archive: _Archive, stem: str, sha256: str, folder: Path) -> list[str]:
    """Fetch one file from the first mirror that has it whole, or return all that went wrong."""
    import http.client  # here, as urllib.request: 20 ms that reading files does not need

    failures = []
    for mirror in archive.mirrors:
        url = f"{mirror}{stem}.gz"
        print(f"{archive.name}: downloading {url}", file=sys.stderr)
        try:
            _fetch(url, folder / f"{stem}.gz", sha256)
        except (OSError, http.client.HTTPException, ArgumentError) as error:
            failures.append(f"  {url}: {error}")
        else:
            return []
    return failures


def _fetch(url: str, target: Path, sha256: str) -> None:
    """Download url to target, which appears whole and checked or not at all."""
    import tempfile
    import urllib.request

    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".download-", suffix=".gz")
    temporary = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as out,
            urllib.request.urlopen(url, timeout=TIMEOUT) as response,
        ):
            shutil.copyfileobj(response, out)
        _read_idx(temporary, sha256)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _read_idx(file: Path, sha256: str) -> NDArray[np.uint8]:
    """Return the array in an idx file: bytes 0, 0, type, ndim, big-endian sizes, values."""
    content = file.read_bytes()
    if file.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(file, "whole gzip data", str(error)) from error
    magic = content[:4]
    if len(magic) < 4 or magic[:3] != b"\x00\x00\x08" or not 1 <= magic[3] <= 3:
        raise _damaged(file, "a start of 00 00 08 as in idx files", magic.hex(" ") or "nothing")
    ndim = magic[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise _damaged(file, f"a header of {start} bytes", f"{len(content)} bytes")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    size = start + math.prod(shape)
    if len(content) != size:
        raise _damaged(file, f"{size} bytes for shape {shape}", f"{len(content)} bytes")
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise _damaged(file, f"content with SHA-256 {sha256}", actual)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _damaged(file: Path, expected: str, got: str) -> ArgumentError:
    fix = "The file is damaged or another one: remove or replace it."
    return ArgumentError(message(str(file), expected, got, fix))
