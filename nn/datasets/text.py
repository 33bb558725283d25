"""Texts as numbers, character by character."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nn.options import is_size
from tinygrad_np.errors import ArgumentError, ShapeError, message


class Text:
    """A text whose characters are numbered in their sorted order.

    Parameters
    ----------
    text : str
        At least one character.
    characters : iterable of str, optional
        All there can be; by default those of the text.
    name, source, licence : str

    Attributes
    ----------
    ids : ndarray (len(text),) of int64
        ``characters[ids[i]]`` is ``text[i]``.
    characters : str
        Sorted, each once.

    Raises
    ------
    ArgumentError
        For an empty text, or one with other characters.

    Examples
    --------
    >>> text = Text("banana")
    >>> text
    text: 6 characters, 3 different
    >>> text.ids
    array([1, 0, 2, 0, 2, 0])
    >>> text.decode([1, 0, 1])
    'bab'
    """

    def __init__(
        self,
        text: str,
        characters: Iterable[str] | None = None,
        name: str = "text",
        source: str = "",
        licence: str = "",
    ) -> None:
        self.text = text
        self.characters = "".join(sorted(set(text if characters is None else characters)))
        self._numbers = {character: i for i, character in enumerate(self.characters)}
        self.name, self.source, self.licence = name, source, licence
        if not text:
            raise ArgumentError(message("Text", "a text with characters", repr(text)))
        self.ids = self.encode(text)

    def __len__(self) -> int:
        return len(self.text)

    def __repr__(self) -> str:
        lines = [f"{self.name}: {len(self):,} characters, {len(self.characters)} different"]
        lines += [f"  source: {self.source}"] if self.source else []
        lines += [f"  licence: {self.licence}"] if self.licence else []
        return "\n".join(lines)

    def encode(self, text: str) -> NDArray[np.int64]:
        """The numbers of the characters of any text.

        Raises
        ------
        ArgumentError
            For a character that is not among those known.
        """
        unknown = sorted(set(text) - self._numbers.keys())
        if unknown:
            raise ArgumentError(
                message(self.name, f"only the characters {self.characters!r:.60}",
                        ", ".join(map(repr, unknown[:8])))
            )  # fmt: skip
        return np.array([self._numbers[character] for character in text], np.int64)

    def decode(self, ids: ArrayLike) -> str:
        """The characters of these numbers."""
        return "".join([self.characters[i] for i in np.asarray(ids).reshape(-1)])

    def split(self, held_out: float) -> tuple[Text, Text]:
        """The text without its end, and that part of it, with the same numbers.

        Raises
        ------
        ArgumentError
            For a fraction that leaves one of them empty.
        """
        at = len(self) - round(held_out * len(self))
        if not 0 < at < len(self):
            raise ArgumentError(
                message("split", "a fraction that leaves both parts a character", f"{held_out!r}")
            )
        first, last = [
            Text(part, self.characters, self.name, self.source, self.licence)
            for part in (self.text[:at], self.text[at:])
        ]
        return first, last

    def windows(self, length: int, step: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Pieces of the text, and for each of their characters the next one.

        Parameters
        ----------
        length : int
        step : int, optional
            From the start of a piece to that of the next; by default the length, so that they lie
            side by side.

        Returns
        -------
        x, y : ndarray (N, length) of int64
            Views, not to be written to: ``y[:, t]`` comes after ``x[:, t]``.

        Raises
        ------
        ArgumentError
            For a length or step that is not a whole number above 0.
        ShapeError
            For a text that is not longer than a piece.

        Examples
        --------
        >>> x, y = Text("banana").windows(2)
        >>> x, y
        (array([[1, 0],
               [2, 0]]), array([[0, 2],
               [0, 2]]))
        """
        step = length if step is None else step
        if not (is_size(length) and is_size(step)):
            raise ArgumentError(
                message("windows", "length and step as whole numbers of at least 1",
                        f"length={length!r}, step={step!r}")
            )  # fmt: skip
        if len(self) <= length:
            raise ShapeError(message("windows", f"more than {length} characters", f"{len(self)}"))
        pieces = np.lib.stride_tricks.sliding_window_view(self.ids, length + 1)[::step]
        return pieces[:, :-1], pieces[:, 1:]


def python_topics() -> Text:
    """Return what ``help()`` says on Python's topics: half a million characters on every computer.

    These texts come with Python's standard library, in the module ``pydoc_data.topics``, and differ
    a little from version to version.

    Returns
    -------
    Text

    Raises
    ------
    ModuleNotFoundError
        By a Python whose packager left that module out.

    Examples
    --------
    >>> text = python_topics()
    >>> len(text) > 400_000, "assert" in text.text
    (True, True)
    """
    from pydoc_data.topics import topics

    return Text(
        "\n\n".join(topics[name] for name in sorted(topics)),
        name="python_topics",
        source="the documentation of Python, https://docs.python.org/3/reference/",
        licence="PSF License Version 2",
    )
