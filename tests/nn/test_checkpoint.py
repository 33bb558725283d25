from __future__ import annotations

import errno
import io
import json
import os
import pickle
import re
import signal
import sys
import zipfile

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn import checkpoint
from tinygrad_np.errors import ArgumentError, DtypeError, TensorError


class Model(nn.Module):
    """Parameters, a buffer, and names that NumPy's own savez could not take."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.net = nn.Sequential(
            nn.Dense(2, 3, activation="relu", rng=rng), nn.Dense(3, 1, rng=rng)
        )
        self.file = tg.Tensor(rng.normal(size=()), requires_grad=True)
        self.mean = tg.Tensor(rng.normal(size=3).astype(np.float16))
        self.counts = tg.Tensor(rng.integers(9, size=(2, 2)))

    def forward(self, x):
        return self.net(x)


def assert_same(state, expected):
    assert list(state) == list(expected)
    for path, value in expected.items():
        assert state[path].dtype == value.dtype
        np.testing.assert_array_equal(state[path], value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.npz"


@pytest.fixture(params=[".npz", ".safetensors"])
def either(request, tmp_path):
    """A path of each format."""
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"weights{request.param}"


# --- there and back ---


def test_what_is_saved_is_loaded(either):
    model, other = Model(0), Model(1)
    nn.save(model, either)
    nn.load(other, str(either))
    assert_same(other.state_dict(), model.state_dict())


def test_the_file_is_an_ordinary_npz(path):
    model = Model()
    nn.save(model, path)
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"about", *model.state_dict()}
        np.testing.assert_array_equal(arrays["net.0.W"], model.net[0].W.data)
        assert '"version": 1' in str(arrays["about"])
        assert "Dense(2, 3, activation='relu')" in str(arrays["about"])


def test_the_file_is_an_ordinary_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    model, path = Model(), tmp_path / "weights.safetensors"
    nn.save(model, path)
    with safetensors.safe_open(path, framework="numpy") as entries:
        assert set(entries.keys()) == set(model.state_dict())
        assert set(entries.metadata()) == {"about"}
        np.testing.assert_array_equal(entries.get_tensor("net.0.W"), model.net[0].W.data)
        about = json.loads(entries.metadata()["about"])
    assert about["version"] == 1
    assert "Dense(2, 3, activation='relu')" in about["model"]


def test_equal_weights_give_equal_files(either):
    again = either.with_stem("again")
    nn.save(Model(), either)
    nn.save(Model(), again)
    assert either.read_bytes() == again.read_bytes()


def test_weights_that_are_not_contiguous_are_saved_right(either):
    model, other = nn.Dense(2, 3), nn.Dense(2, 3)
    model.W.data = np.arange(12.0, dtype=np.float32).reshape(3, 4)[:, ::2].T
    nn.save(model, either)
    nn.load(other, either)
    np.testing.assert_array_equal(other.W.data, [[0, 4, 8], [2, 6, 10]])


base = np.arange(24.0, dtype=np.float32).reshape(4, 6)
STRIDED = {
    "transposed": base.T, "columns": base[:, ::2], "backwards": base[::-1],
    "by columns": np.asfortranarray(base),
    "one number": np.broadcast_to(np.float32(2), (2, 3)), "scalar": base[1, 2:3].reshape(()),
    "big-endian": base.astype(">f4"), "empty": base[:0],
}  # fmt: skip


@pytest.mark.parametrize("array", STRIDED.values(), ids=STRIDED)
def test_arrays_are_stored_by_value_whatever_their_strides(either, array):
    file_format = checkpoint.FILE_FORMATS[either.suffix]
    if either.suffix == ".safetensors" and array is STRIDED["transposed"]:
        library = pytest.importorskip("safetensors.numpy")
        stored = library.load(library.save({"a": array}))["a"]
        assert not np.array_equal(stored, array), "then the copy in safetensors_file can go"
    with either.open("wb") as file:
        file_format.write(file, {"a": array}, '{"model": "text"}')
    with either.open("rb") as file:
        arrays, about = file_format.read(file)
    assert (list(arrays), about) == (["a"], '{"model": "text"}')
    np.testing.assert_array_equal(arrays["a"], array)
    assert (arrays["a"].shape, arrays["a"].dtype.name) == (array.shape, array.dtype.name)


def test_a_run_is_resumed_from_either_format(either):
    """An optimizer's state, the generators' and the history, as well as the weights."""

    def train(epochs):
        model = nn.Sequential(nn.Dense(4, 6, activation="tanh", rng=0), nn.Dense(6, 3, rng=1))
        nn.fit(model, nn.datasets.iris(), loss=nn.SoftmaxCrossEntropy(), optimizer=nn.Adam(lr=0.01),
               epochs=epochs, seed=0, callbacks=[nn.Checkpoint(either)],
               resume=either if either.exists() else None)  # fmt: skip
        return model

    train(1)
    resumed = train(3)
    either.unlink()
    assert_same(resumed.state_dict(), train(3).state_dict())


def test_a_dtype_the_format_does_not_know_is_refused(tmp_path):
    pytest.importorskip("safetensors")
    model, path = Model(), tmp_path / "weights.safetensors"
    nn.save(model, path)
    before = path.read_bytes()
    model.phase = tg.Tensor(np.ones(2, complex))
    with pytest.raises(
        DtypeError,
        match=r"^save: expected numbers of at most 64 bits for \.safet.* phase of dtype c",
    ):
        nn.save(model, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch, path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    other = tmp_path / "weights.safetensors"
    with pytest.raises(TensorError, match=r'pip install "tinygrad-np\[safetensors\]"'):
        nn.save(Model(), other)
    assert os.listdir(tmp_path) == []
    other.write_bytes(b"any")
    with pytest.raises(TensorError, match=r'pip install "tinygrad-np\[safetensors\]"'):
        nn.load(Model(), other)
    nn.save(Model(), path)


def test_a_parameter_called_about_is_refused(path):
    model = Model()
    model.about = tg.Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(ArgumentError, match=r"^save: expected no parameter called 'about'"):
        nn.save(model, path)


# --- a crash leaves the old file whole ---


PLACES = [
    (".npz", "numpy.lib.format.write_array"), (".npz", "os.fsync"), (".npz", "pathlib.Path.replace"),
    (".safetensors", "safetensors.numpy.save"), (".safetensors", "os.fsync"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "place"), PLACES)
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, suffix, place, error
):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy")
    path = tmp_path / f"weights{suffix}"
    nn.save(Model(0), path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(place, fail)
    with pytest.raises(type(error)) as caught:
        nn.save(Model(1), path)
    assert caught.value.__notes__[-1].startswith(f"save: {path} was not written; what was there")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_file(either):
    """A disk that is really full, as the limit on a file's length makes it for one process."""
    resource = pytest.importorskip("resource")
    nn.save(nn.Dense(8, 8), either)
    before = either.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            nn.save(nn.Dense(100, 100), either)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.__notes__[-1].startswith(f"save: {either} was not written")
    assert either.read_bytes() == before
    assert os.listdir(either.parent) == [either.name]


def test_the_file_is_on_the_disk_before_it_is_renamed(path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.fstat(fd).st_size), fsync(fd)))
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda self, target: (events.append(target), replace(self, target))
    )
    nn.save(Model(), path)
    assert events == [path.stat().st_size, path]


# --- damaged and hostile files ---


def refused(path, text):
    """Loading fails with that message and leaves the model as it was."""
    model = Model(1)
    before = model.state_dict()
    with pytest.raises(ArgumentError, match=text):
        nn.load(model, path)
    assert_same(model.state_dict(), before)


def test_a_truncated_file_is_refused(either):
    nn.save(Model(), either)
    whole = either.read_bytes()
    for size in [0, 1, 30, len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 1]:
        either.write_bytes(whole[:size])
        refused(
            either, rf"^load: {re.escape(str(either))} is damaged or no \{either.suffix} file \("
        )


def test_one_format_under_the_ending_of_the_other_is_refused(tmp_path, path):
    pytest.importorskip("safetensors")
    other = tmp_path / "weights.safetensors"
    nn.save(Model(), path)
    os.rename(path, other)
    refused(other, r"is damaged or no \.safetensors file")
    nn.save(Model(), other)
    os.rename(other, path)
    refused(path, r"is damaged or no \.npz file")


@pytest.mark.parametrize("shape", [[3], [1 << 40], [-3], [2, 2], [1 << 62, 1 << 62]], ids=str)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, shape):
    pytest.importorskip("safetensors")
    path = tmp_path / "weights.safetensors"
    for offsets in [[0, 24], [0, 1 << 40], [8, 0], [16, 40]]:
        if shape == [3] and offsets == [0, 24]:
            continue  # true
        header = json.dumps({"W": {"dtype": "F64", "shape": shape, "data_offsets": offsets}})
        path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(24))
        refused(path, r"is damaged or no \.safetensors file")
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    refused(path, r"is damaged or no \.safetensors file")


def test_a_safetensors_file_of_another_program_is_refused(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "weights.safetensors"
    for metadata in [None, {"format": "pt"}]:
        library.save_file(Model().state_dict(), path, metadata=metadata)
        refused(
            path,
            "^load: expected a file written by nn.save, got .*nn.load_torch_state_dict PyTorch's",
        )
    library.save_file(Model().state_dict(), path, metadata={"about": '{"crc32": "0"}'})
    refused(path, "its checksum is that of other numbers")


def test_a_file_with_any_byte_changed_is_refused_or_the_same(either):
    nn.save(Model(0), either)
    whole, expected = either.read_bytes(), Model(0).state_dict()
    rng = np.random.default_rng(0)
    outcomes = set()
    for position in [*range(8), *rng.choice(len(whole), size=300, replace=False)]:
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        either.write_bytes(damaged)
        model = Model(1)
        before = model.state_dict()
        try:
            nn.load(model, either)
        except ArgumentError:
            assert_same(model.state_dict(), before)
            outcomes.add("refused")
        else:  # a byte that says nothing about the arrays, such as a date
            assert_same(model.state_dict(), expected)
            outcomes.add("same")
    assert "refused" in outcomes


def archive(path, **entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)


def npy(array, allow_pickle=False):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=allow_pickle)
    return buffer.getvalue()


class Bomb:
    exploded = False

    def __reduce__(self):
        return setattr, (Bomb, "exploded", True)


def test_pickles_are_refused_and_not_executed(path):
    archive(path, about=npy(np.array([Bomb()], dtype=object), allow_pickle=True))
    refused(path, "Object arrays cannot be loaded when allow_pickle=False")
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "is damaged or no .npz file")
    assert not Bomb.exploded


def test_an_array_with_something_behind_it_is_refused(path):
    archive(path, about=npy("{}") + b"more")
    refused(path, r"about\.npy claims 8 bytes, 12 are there")


@pytest.mark.parametrize("shape", [b"(9999999999,),", b"(1 << 60,), } ", b"(-3,), }      "])
def test_an_array_that_claims_another_shape_is_refused(path, shape):
    header = npy(np.zeros(3)).replace(b"(3,), }       ", shape)
    assert shape in header
    archive(path, about=header)
    refused(path, "is damaged or no .npz file")


def test_a_file_that_would_unpack_to_gigabytes_is_refused_before_it_does(path):
    zeros = npy(np.zeros(1 << 20))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("W.npy", zeros)
    assert path.stat().st_size < len(zeros) / 500
    refused(path, "W is packed, which nn.save never does")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twice", ["W.npy", "W"])
def test_an_entry_that_is_there_twice_is_refused(path, twice):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("W.npy", npy(np.zeros(3)))
        file.writestr(twice, npy(np.ones(3)))
    refused(path, "W is there twice")


def described(path, model, **arrays):
    """A file that says it is of a model, with other arrays."""
    about = {"format": checkpoint.FORMAT, "version": 1, "model": repr(model)}
    archive(path, about=npy(json.dumps(about)), **{name: npy(a) for name, a in arrays.items()})


def test_missing_and_unexpected_entries_are_refused(path, tmp_path):
    state = Model(0).state_dict()
    del state["file"]
    described(path, Model(), **state)
    refused(path, r"missing: file \(\)")
    outside = {"../../evil": np.ones(1), "/etc/passwd": np.ones(2)}
    described(path, Model(), **Model(0).state_dict(), **outside)
    refused(path, r"unexpected: \.\./\.\./evil \(1,\), /etc/passwd \(2,\)")
    assert os.listdir(tmp_path) == [path.name]  # names of entries are never names of files


@pytest.mark.parametrize(
    "values", [np.full((2, 3), 1j), np.full((2, 3), "a"), np.zeros((2, 3), "f4,f4")], ids=str
)
def test_arrays_of_another_kind_are_refused(path, values):
    described(path, Model(), **Model(0).state_dict() | {"net.0.W": values})
    refused(path, r"of another kind: net\.0\.W .* for float32")


def test_nothing_is_set_if_memory_runs_out_halfway(path, monkeypatch):
    nn.save(Model(0), path)
    model = Model(1)
    before = model.state_dict()

    class Last(np.ndarray):
        def astype(self, *args, **kwargs):
            raise MemoryError

    read = checkpoint.FILE_FORMATS[".npz"].read

    def read_last(file):
        arrays, about = read(file)
        return arrays | {"counts": arrays["counts"].view(Last)}, about

    monkeypatch.setattr("nn.npz.read", read_last)
    monkeypatch.setattr(np, "asarray", lambda a, *args, **kwargs: a)
    with pytest.raises(MemoryError):
        nn.load(model, path)
    monkeypatch.undo()
    assert_same(model.state_dict(), before)


OTHER = '{"format": "other", "version": 1, "model": "Dense(2, 3)"}'


ZERO = json.dumps({"format": checkpoint.FORMAT, "version": 0, "model": "Dense(2, 3)"})


@pytest.mark.parametrize("about", [None, "text", "[]", "3", "{}", OTHER, ZERO])
def test_a_file_of_another_kind_is_refused(path, about):
    archive(path, W=npy(np.ones(3)), **({} if about is None else {"about": npy(about)}))
    refused(path, r"^load: expected a file written by nn\.save, got .*which does not say it is one")


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_description_nested_without_end_is_refused(path, depth):
    about = {"format": checkpoint.FORMAT, "version": 1, "model": "Dense(2, 3)"}
    text = json.dumps(about)[:-1] + ', "run": ' + "[" * depth + "]" * depth + "}"
    archive(path, about=npy(text), W=npy(np.ones(3)))
    # A Python that reads 900 levels finds the weights of another model.
    refused(path, r"^load: " if depth > 900 else r"(?m)^load: ")


def test_a_newer_format_is_refused(either, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    nn.save(Model(), either)
    monkeypatch.undo()
    refused(either, r"^load: expected format version 1 at most, got 2 in .* newer tinygrad-np")


def test_another_architecture_is_refused_with_the_differences(either):
    path = either
    nn.save(nn.Sequential(nn.Dense(2, 4), nn.Dense(4, 1)), path)
    model = nn.Sequential(nn.Dense(2, 3), nn.Dense(3, 1), nn.Dense(1, 1))
    before = model.state_dict()
    with pytest.raises(ArgumentError) as caught:
        nn.load(model, path)
    text = str(caught.value)
    assert "missing: 2.W (1, 1), 2.b (1,)\n" in text
    assert "of another shape: 0.W (2, 4) for (2, 3), 0.b (4,) for (3,), 1.W (4, 1) for" in text
    [note] = caught.value.__notes__
    assert note.startswith(f"load: {path} holds the weights of\nSequential(\n  0: Dense(2, 4)")
    assert_same(model.state_dict(), before)


def test_other_endings_are_refused(tmp_path):
    for operation in (nn.save, nn.load):
        text = f"{operation.__name__}: expected a path ending in .npz or .safetensors, got '"
        with pytest.raises(ArgumentError, match=f"^{re.escape(text)}"):
            operation(Model(), tmp_path / "weights")
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_missing(path):
    with pytest.raises(FileNotFoundError):
        nn.load(Model(), path)
