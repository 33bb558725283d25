from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from nn import datasets
from nn.datasets import Text
from tinygrad_np.errors import ArgumentError, ShapeError


def test_encoding_and_decoding_undo_each_other():
    text = Text("to be, or not to be")
    assert text.characters == " ,benort"
    assert text.decode(text.ids) == text.text
    assert text.decode(text.encode("bone")) == "bone"
    assert text.ids.dtype == np.int64
    np.testing.assert_array_equal(text.encode(" ,b"), [0, 1, 2])


def test_windows_and_what_comes_next():
    text = Text("abcdefgh")
    x, y = text.windows(3)
    np.testing.assert_array_equal(x, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(y, x + 1)
    x, y = text.windows(3, step=1)
    assert x.shape == (5, 3)
    np.testing.assert_array_equal(x[:, 0], np.arange(5))
    np.testing.assert_array_equal(y, x + 1)
    assert Text("abcd").windows(3)[0].shape == (1, 3)  # as long as it can be


def test_both_parts_have_the_same_numbers():
    train, held_out = Text("aaaaaaaabc").split(0.2)
    assert (train.text, held_out.text) == ("aaaaaaaa", "bc")
    assert train.characters == held_out.characters == "abc"
    np.testing.assert_array_equal(held_out.ids, [1, 2])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Text(""), ArgumentError, "Text: expected a text with characters, got ''."),
        (lambda: Text("abc", "ab"), ArgumentError, "text: expected only the characters 'ab', got 'c'"),
        (lambda: Text("ab").encode("a\nz"), ArgumentError, r"got '\n', 'z'."),
        (lambda: Text("ab").split(0.1), ArgumentError, "leaves both parts a character, got 0.1."),
        (lambda: Text("ab").split(1.0), ArgumentError, "leaves both parts a character, got 1.0."),
        (lambda: Text("abc").windows(3), ShapeError, "windows: expected more than 3 characters, got 3."),
        (lambda: Text("abc").windows(0), ArgumentError, "got length=0, step=0."),
        (lambda: Text("abc").windows(2, 0.5), ArgumentError, "got length=2, step=0.5."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_python_topics_print_and_need_their_module(monkeypatch):
    text = datasets.python_topics()
    lines = repr(text).splitlines()
    assert lines[0] == f"python_topics: {len(text):,} characters, {len(text.characters)} different"
    assert lines[2] == "  licence: PSF License Version 2"
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ModuleNotFoundError, match="pydoc_data"):
        datasets.python_topics()
