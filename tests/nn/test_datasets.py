from __future__ import annotations

import dataclasses
import gzip
import struct
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from nn import datasets
from nn.datasets import Dataset, idx
from tinygrad_np.errors import ArgumentError, NonFiniteError, ShapeError

# --- Dataset ---


def test_dataset_unpacks_and_prints():
    x, y = Dataset(np.ones((2, 1)), np.array([0, 1]))
    assert x.shape == (2, 1)
    assert y.tolist() == [0, 1]
    assert repr(datasets.iris()) == (
        "iris: 150 rows\n"
        "  x (150, 4) float64: "
        "sepal length (cm), sepal width (cm), petal length (cm), petal width (cm)\n"
        "  y (150,) int64: setosa, versicolor, virginica\n"
        "  source: R. A. Fisher (1936); https://doi.org/10.24432/C56C76, as corrected in "
        "scikit-learn\n"
        "  licence: CC BY 4.0"
    )


def test_dataset_is_frozen():
    data = datasets.iris()
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.x = data.x


def test_dataset_refuses_nan_and_mismatched_rows():
    x = np.ones((3, 2))
    with pytest.raises(ShapeError, match=r"Dataset: .* number of rows, got x \(3, 2\), y \(2,\)"):
        Dataset(x, np.zeros(2))
    x[1, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"Dataset: .* in x .* got nan at row 1, column 0"):
        Dataset(x, np.zeros(3))
    with pytest.raises(NonFiniteError, match=r"Dataset: .* in y .* got inf at row 2"):
        Dataset(np.ones((3, 2)), np.array([0, 0, np.inf]))


# --- shipped tables ---


def test_iris():
    data = datasets.iris()
    x, y = data
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((150, 4), np.float64, (150,), np.int64)
    assert np.bincount(y).tolist() == [50, 50, 50]
    # The two rows that the UCI repository has wrong, as Fisher printed them.
    np.testing.assert_array_equal(x[[34, 37]], [[4.9, 3.1, 1.5, 0.2], [4.9, 3.6, 1.4, 0.1]])
    np.testing.assert_allclose(x.mean(axis=0), [5.843333, 3.057333, 3.758, 1.199333], atol=1e-6)
    assert len(data.feature_names) == 4
    assert len(data.class_names) == 3


def test_digits():
    data = datasets.digits()
    x, y = data
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((1797, 64), np.float64, (1797,), np.int64)
    assert (x.min(), x.max()) == (0, 16)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    np.testing.assert_array_equal(x[0, :8], [0, 0, 5, 13, 9, 1, 0, 0])
    assert data.feature_names[9] == "pixel_1_1"
    assert len(data.feature_names) == 64


@pytest.mark.parametrize("name", ["iris", "digits"])
def test_shipped_data_is_scikit_learns(name):
    theirs = getattr(pytest.importorskip("sklearn.datasets"), f"load_{name}")()
    ours = getattr(datasets, name)()
    np.testing.assert_array_equal(ours.x, theirs.data)
    np.testing.assert_array_equal(ours.y, theirs.target)
    assert list(ours.feature_names) == theirs.feature_names
    assert list(ours.class_names) == [str(label) for label in theirs.target_names]


@pytest.mark.parametrize("load", [datasets.iris, datasets.digits])
def test_shipped_arrays_are_fresh(load):
    x, y = load()
    x[:], y[:] = -1, -1
    assert load().x.min() >= 0
    assert load().y.min() == 0


def test_sources_name_every_shipped_file():
    folder = Path(datasets.__file__).parent
    text = (folder / "SOURCES.md").read_text(encoding="utf-8")
    shipped = [file.name for file in folder.glob("*.npz")]
    assert sorted(shipped) == ["digits.npz", "iris.npz"]
    assert all(f"`{name}`" in text for name in shipped)


def test_sums_and_differences_are_those_of_the_legacy_generator():
    x, y = datasets.sums_and_differences()
    expected = np.random.RandomState(42).rand(2, 10_000) * 100
    np.testing.assert_array_equal(x, expected.T)
    a, b = expected
    np.testing.assert_array_equal(y, np.stack([a + b, a - b, abs(a - b)], axis=1))
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous
    # The first number of np.random.seed(42); np.random.rand().
    assert x[0, 0] == 0.3745401188473625 * 100
    assert (datasets.sums_and_differences(5, seed=1).x != x[:5]).all()


def test_sums_and_differences_refuses_no_rows():
    with pytest.raises(
        ArgumentError, match="sums_and_differences: expected n of at least 1, got n=0"
    ):
        datasets.sums_and_differences(0)


# --- idx files ---

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def small_arrays():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    images[0, 0, :2] = 0, 255
    labels = np.arange(5, dtype=np.uint8)
    return images[:3], labels[:3], images[3:], labels[3:]


@pytest.fixture
def contents():
    return dict(zip(STEMS, map(idx_bytes, small_arrays()), strict=True))


@pytest.fixture
def site(tmp_path, monkeypatch, contents):
    """Small files with known sums in place of MNIST, two local mirrors, an empty cache."""
    mirrors = [tmp_path / "mirror1", tmp_path / "mirror2"]
    for mirror in mirrors:
        mirror.mkdir()
        for stem, content in contents.items():
            (mirror / f"{stem}.gz").write_bytes(gzip.compress(content))
    sums = tuple(sha256(content).hexdigest() for content in contents.values())
    urls = tuple(f"{mirror.as_uri()}/" for mirror in mirrors)
    small = dataclasses.replace(idx._MNIST, sha256=sums, mirrors=urls)
    monkeypatch.setattr(idx, "_MNIST", small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYGRAD_NP_DATA", raising=False)
    return tmp_path


def put(folder, contents, spelling="{}"):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in contents.items():
        name = spelling.format(stem)
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def no_mirrors(monkeypatch, name="_MNIST"):
    archive = dataclasses.replace(getattr(idx, name), mirrors=("file:///none/",))
    monkeypatch.setattr(idx, name, archive)


def test_mnist_values(site, contents):
    train, test = datasets.mnist(put(site / "here", contents))
    images, labels, test_images, test_labels = small_arrays()
    assert (train.x.shape, train.x.dtype, train.y.dtype) == ((3, 784), np.float32, np.int64)
    np.testing.assert_array_equal(train.x, images.reshape(3, 784) / np.float32(255))
    assert (train.x[0, 0], train.x[0, 1]) == (0, 1)
    np.testing.assert_array_equal(train.y, labels)
    np.testing.assert_array_equal(test.x, test_images.reshape(2, 784) / np.float32(255))
    np.testing.assert_array_equal(test.y, test_labels)
    assert (train.name, test.name) == ("mnist train", "mnist test")


def test_mnist_raw(site, contents):
    train, _ = datasets.mnist(put(site / "here", contents), raw=True)
    assert (train.x.shape, train.x.dtype, train.y.dtype) == ((3, 28, 28), np.uint8, np.int64)
    np.testing.assert_array_equal(train.x, small_arrays()[0])
    train.x[:] = 0  # writable


@pytest.mark.parametrize("spelling", ["{}", "{}.gz"])
@pytest.mark.parametrize("dotted", [False, True])
def test_mnist_file_names(site, contents, spelling, dotted):
    if dotted:
        contents = {stem.replace("-idx", ".idx"): content for stem, content in contents.items()}
    train, _ = datasets.mnist(str(put(site / "here", contents, spelling)))
    assert train.y.tolist() == [0, 1, 2]


@pytest.mark.parametrize("folder", ["", "mnist"])
def test_mnist_from_the_variable(site, contents, monkeypatch, folder):
    no_mirrors(monkeypatch)
    put(site / "data" / folder, contents)
    monkeypatch.setenv("TINYGRAD_NP_DATA", str(site / "data"))
    assert datasets.mnist()[0].y.tolist() == [0, 1, 2]


def test_path_goes_before_the_variable_and_the_variable_before_the_cache(
    site, contents, monkeypatch
):
    no_mirrors(monkeypatch)
    damaged = dict.fromkeys(STEMS, b"")
    put(site / "cache" / "tinygrad-np" / "mnist", damaged)
    put(site / "variable", contents)
    monkeypatch.setenv("TINYGRAD_NP_DATA", str(site / "variable"))
    assert datasets.mnist()[0].y.tolist() == [0, 1, 2]
    put(site / "variable", damaged)
    assert datasets.mnist(put(site / "path", contents))[0].y.tolist() == [0, 1, 2]


def test_download_fills_the_cache_once(site, contents, capsys, monkeypatch):
    assert datasets.mnist()[0].y.tolist() == [0, 1, 2]
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 4
    assert all("mirror1" in line for line in err)
    cache = site / "cache" / "tinygrad-np" / "mnist"
    assert sorted(file.name for file in cache.iterdir()) == sorted(f"{stem}.gz" for stem in STEMS)
    no_mirrors(monkeypatch)
    assert datasets.mnist()[1].y.tolist() == [3, 4]
    assert capsys.readouterr().err == ""


def test_download_completes_what_the_cache_holds(site, contents, capsys):
    stem = STEMS[0]
    put(site / "cache" / "tinygrad-np" / "mnist", {stem: contents[stem]})
    datasets.mnist()
    err = capsys.readouterr().err
    assert stem not in err
    assert len(err.splitlines()) == 3


@pytest.mark.parametrize(
    "content", [b"<html>sign in</html>", gzip.compress(b"\0\0\x08\x01\0\0\0\0", mtime=0), None]
)
def test_download_goes_on_to_the_next_mirror(site, content, capsys):
    bad = site / "mirror1" / f"{STEMS[1]}.gz"
    bad.unlink() if content is None else bad.write_bytes(content)
    assert datasets.mnist()[0].y.tolist() == [0, 1, 2]
    assert f"mirror2/{STEMS[1]}.gz" in capsys.readouterr().err


def test_nothing_damaged_enters_the_cache(site):
    for mirror in ("mirror1", "mirror2"):
        (site / mirror / f"{STEMS[0]}.gz").write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="expected whole gzip data"):
        datasets.mnist()
    assert list((site / "cache" / "tinygrad-np" / "mnist").iterdir()) == []


def test_missing_files_say_what_to_put_where(site, contents, monkeypatch):
    no_mirrors(monkeypatch)
    del contents[STEMS[3]]
    monkeypatch.setenv("TINYGRAD_NP_DATA", str(put(site / "data", contents)))
    with pytest.raises(FileNotFoundError) as caught:
        datasets.mnist()
    text = str(caught.value)
    cache = site / "cache" / "tinygrad-np" / "mnist"
    assert text.startswith("mnist: the data is not on this computer. Looked in\n")
    assert f"  {site / 'data'}: lacks {STEMS[3]}\n" in text
    assert f"  {site / 'data' / 'mnist'}: lacks all four\n" in text
    assert f"  {cache}: lacks all four\n" in text
    assert f"The download failed:\n  file:///none/{STEMS[0]}.gz: " in text
    assert all(f"\n  {stem}\n" in text for stem in STEMS)
    assert (
        f"into {cache}, or into another folder and pass it as path= or set TINYGRAD_NP_DATA" in text
    )


def test_without_download_nothing_is_fetched(site, capsys):
    with pytest.raises(
        FileNotFoundError, match="mnist: the data is not on this computer"
    ) as caught:
        datasets.mnist(download=False)
    assert "download failed" not in str(caught.value)
    assert capsys.readouterr().err == ""
    assert not (site / "cache").exists()
    datasets.mnist()
    assert datasets.mnist(download=False)[0].y.tolist() == [0, 1, 2]


def test_a_path_without_the_files_is_not_passed_over(site):
    with pytest.raises(FileNotFoundError, match="nowhere: lacks all four") as caught:
        datasets.mnist(site / "nowhere")
    assert "download failed" not in str(caught.value)
    assert not (site / "cache").exists()


GZIPPED = gzip.compress(idx_bytes(np.arange(3, dtype=np.uint8)), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (STEMS[1], idx_bytes(np.zeros(3, np.uint8)), "expected content with SHA-256 .*, got "),
        (
            STEMS[1],
            idx_bytes(np.arange(3, dtype=np.uint8))[:-1],
            r"11 bytes for shape \(3,\), got 10",
        ),
        (
            STEMS[1],
            idx_bytes(np.arange(3, dtype=np.uint8)) + b"\0",
            r"for shape \(3,\), got 12 bytes",
        ),
        (STEMS[1], b"\0\0\x08\x01\0\0", "expected a header of 8 bytes, got 6 bytes"),
        (STEMS[1], b"\0\0\x0d\x01\0\0\0\0", "expected a start of 00 00 08 .* got 00 00 0d 01"),
        (STEMS[1], b"", "got nothing"),
        (f"{STEMS[1]}.gz", GZIPPED[:-9], "expected whole gzip data, got Compressed file ended"),
        (f"{STEMS[1]}.gz", b"\0\0\x08\x01", "expected whole gzip data, got Not a gzipped file"),
        (
            f"{STEMS[1]}.gz",
            GZIPPED[:12] + b"\xff" + GZIPPED[13:],
            "expected whole gzip data, got CRC check failed",
        ),
        (
            f"{STEMS[1]}.gz",
            GZIPPED[:10] + b"\xff" + GZIPPED[11:],
            "expected whole gzip data, got Error -3",
        ),
    ],
    ids=[
        "other content",
        "truncated",
        "too long",
        "truncated header",
        "floats",
        "empty",
        "truncated gzip",
        "no gzip",
        "gzip checksum",
        "gzip block",
    ],
)
def test_a_damaged_file_is_refused_by_name(site, contents, name, content, text):
    folder = put(site / "here", contents)
    (folder / STEMS[1]).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(ArgumentError, match=f"here.{name}: .*{text}.* remove or replace it"):
        datasets.mnist(folder)


def test_the_files_of_the_other_set_are_refused(site, contents):
    with pytest.raises(ArgumentError, match=f"{STEMS[0]}: expected content with SHA-256 c59f468a"):
        datasets.fashion_mnist(put(site / "here", contents))


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", "~/.cache/tinygrad-np"),
        ("darwin", "~/Library/Caches/tinygrad-np"),
        ("win32", "~/AppData/Local/tinygrad-np"),
    ],
)
def test_cache_folder_of_each_platform(monkeypatch, platform, expected):
    monkeypatch.setattr(idx.sys, "platform", platform)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert idx._cache_folder() == Path(expected).expanduser()


@pytest.mark.parametrize(
    ("load", "first_labels", "mean"),
    [
        (datasets.mnist, [7, 2, 1, 0, 4], 33.791),
        (datasets.fashion_mnist, [9, 2, 1, 1, 6], 73.147),
    ],
)
def test_the_real_files_where_they_are(load, first_labels, mean, monkeypatch):
    for name in ("_MNIST", "_FASHION_MNIST"):
        no_mirrors(monkeypatch, name)
    try:
        train, test = load(raw=True)
    except FileNotFoundError:
        pytest.skip("the files are not on this computer")
    assert (train.x.shape, test.x.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert test.y[:5].tolist() == first_labels
    assert test.x.mean() == pytest.approx(mean, abs=1e-2)
