"""The README's Python runs from top to bottom and prints what the README says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from tinygrad_np.core import REGISTRY

README = Path(__file__).parent.parent / "README.md"


def words(text: str) -> list[str]:
    """The words of a printed text; a relative error of rounding size is 0, whatever its last bits are."""
    return re.sub(r"\b\d\.\de-1[4-9]\b", "0.0e+00", text).split()


def test_the_story_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = len(REGISTRY)
    blocks = re.findall(r"```python\n(.*?)```(?:\n```text\n(.*?)```)?", README.read_text(), re.S)
    assert len(blocks) >= 6
    space: dict[str, object] = {}
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(README), "exec"), space)
        assert words(printed.getvalue()) == words(expected), code
    del REGISTRY[known:]
    assert (tmp_path / "graph.svg").read_text().startswith("<?xml")
