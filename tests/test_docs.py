"""The generated pages are those that their scripts write."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_table_of_operations_is_up_to_date() -> None:
    page = runpy.run_path(str(DOCS / "operations.py"))["page"]
    assert (DOCS / "operations.md").read_text() == page(), "run: python docs/operations.py"
