from __future__ import annotations

import errno
import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn import checkpoint
from tinygrad_np.errors import ArgumentError


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


# --- there and back ---


def test_what_is_saved_is_loaded(path):
    model, other = Model(0), Model(1)
    nn.save(model, path)
    nn.load(other, str(path))
    assert_same(other.state_dict(), model.state_dict())


def test_the_file_is_an_ordinary_npz(path):
    model = Model()
    nn.save(model, path)
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"about", *model.state_dict()}
        np.testing.assert_array_equal(arrays["net.0.W"], model.net[0].W.data)
        assert '"version": 1' in str(arrays["about"])
        assert "Dense(2, 3, activation='relu')" in str(arrays["about"])


def test_equal_weights_give_equal_files(path, tmp_path):
    nn.save(Model(), path)
    nn.save(Model(), tmp_path / "again.npz")
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_weights_that_are_not_contiguous_are_saved_right(path):
    model, other = nn.Dense(2, 3), nn.Dense(2, 3)
    model.W.data = np.arange(12.0, dtype=np.float32).reshape(3, 4)[:, ::2].T
    nn.save(model, path)
    nn.load(other, path)
    np.testing.assert_array_equal(other.W.data, [[0, 4, 8], [2, 6, 10]])


# --- a crash leaves the old file whole ---


@pytest.mark.parametrize("place", ["np.lib.format.write_array", "os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, monkeypatch, place, error):
    nn.save(Model(0), path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(place.replace("np.", "numpy."), fail)
    with pytest.raises(type(error)) as caught:
        nn.save(Model(1), path)
    assert caught.value.__notes__[-1].startswith(f"save: {path} was not written; what was there")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


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


def test_a_truncated_file_is_refused(path):
    nn.save(Model(), path)
    whole = path.read_bytes()
    for size in [0, 1, 30, len(whole) // 3, len(whole) // 2, len(whole) - 40, len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused(path, rf"^load: {re.escape(str(path))} is damaged or no \.npz file \(")


def test_a_file_with_any_byte_changed_is_refused_or_the_same(path):
    nn.save(Model(0), path)
    whole, expected = path.read_bytes(), Model(0).state_dict()
    rng = np.random.default_rng(0)
    outcomes = set()
    for position in rng.choice(len(whole), size=300, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        model = Model(1)
        before = model.state_dict()
        try:
            nn.load(model, path)
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
    refused(path, r"about\.npy is longer than its array")


def test_an_array_that_claims_to_be_huge_is_refused(path):
    header = npy(np.zeros(3)).replace(b"(3,), }       ", b"(9999999999,),")
    assert b"9999999999" in header
    archive(path, about=header)
    refused(path, "is damaged or no .npz file")


OTHER = '{"format": "other", "version": 1, "model": "Dense(2, 3)"}'


@pytest.mark.parametrize("about", [None, "text", "[]", "3", "{}", OTHER])
def test_a_file_of_another_kind_is_refused(path, about):
    archive(path, W=npy(np.ones(3)), **({} if about is None else {"about": npy(about)}))
    refused(path, r"^load: expected a file written by nn\.save, got .*which does not say it is one")


def test_a_newer_format_is_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    nn.save(Model(), path)
    monkeypatch.undo()
    refused(path, r"^load: expected format version 1 at most, got 2 in .* newer tinygrad-np")


def test_another_architecture_is_refused_with_the_differences(path):
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
        text = f"{operation.__name__}: expected a path ending in .npz, got '"
        with pytest.raises(ArgumentError, match=f"^{re.escape(text)}"):
            operation(Model(), tmp_path / "weights")
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_missing(path):
    with pytest.raises(FileNotFoundError):
        nn.load(Model(), path)
