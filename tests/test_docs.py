"""The generated pages are those that their scripts write."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_table_of_operations_is_up_to_date() -> None:
    page = runpy.run_path(str(DOCS / "operations.py"))["page"]
    assert (DOCS / "operations.md").read_text() == page(), "run: python docs/operations.py"


def test_the_page_of_the_checker_is_up_to_date() -> None:
    script = runpy.run_path(str(DOCS / "check.py"))
    assert (DOCS / "check.md").read_text() == script["page"](), "run: python docs/check.py"


def test_the_page_of_the_checker_has_every_kind_first() -> None:
    script = runpy.run_path(str(DOCS / "check.py"))
    for kind, (right, wrong) in script["MISTAKES"].items():
        report = script["checked"](right, wrong)
        assert report[report.first_wrong].diagnoses[0].kind == kind
