"""A report on backprop written by hand, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html as markup
import re
import textwrap
from dataclasses import replace

from .findings import FINE, WRONG, BackpropReport, Diagnosis, Finding

WIDTH = 80
HEAD = ("quantity", "given as", "verdict", "error", "where")
COLOURS = {"wrong": "#c0392b", "shape": "#c0392b", "follows": "#b9770e", "missing": "#b9770e"}


def text(report: BackpropReport) -> str:
    """The report at 80 columns."""
    rows = folded(report.findings)
    lines = [headline(report), _columns(*HEAD)]
    lines += [_columns(*_cells(one)) for one in rows]
    told: list[tuple[Diagnosis, ...]] = []
    for one in rows:
        if one.note:
            lines += _wrapped(f"{one.name}: {one.note}")
        if one.diagnoses and one.diagnoses not in told:
            told.append(one.diagnoses)
            lines += _diagnosed(one)
    for remark in remarks(report):
        lines += _wrapped(remark)
    return "\n".join(lines)


def headline(report: BackpropReport) -> str:
    """The result in a line."""
    if report.ok:
        return "backprop: ok"
    if report.first_wrong is not None:
        return f"backprop: WRONG, first in the gradient of {report.first_wrong}"
    return "backprop: incomplete"


def remarks(report: BackpropReport) -> list[str]:
    """What there is to say about no quantity in particular."""
    unmatched = (
        [f"not matched to a quantity: {', '.join(report.unmatched)}"] if report.unmatched else []
    )
    return [*unmatched, *report.notes]


def folded(findings: tuple[Finding, ...]) -> list[Finding]:
    """The rows, those of a loop that are alike as one: ``z[0..9]``."""
    groups: dict[object, list[Finding]] = {}
    for one in findings:
        loop = re.fullmatch(r"(.+)\[(\d+)\]", one.name)
        alike = (loop[1], one.given, one.verdict, one.place, one.diagnoses) if loop else one.name
        groups.setdefault(alike, []).append(one)
    rows = []
    for some in groups.values():
        first = some[0]
        if len(some) > 1:
            base, _, _ = first.name.partition("[")
            numbers = sorted(int(one.name[len(base) + 1 : -1]) for one in some)
            whole = numbers == list(range(numbers[0], numbers[-1] + 1))
            inner = f"{numbers[0]}..{numbers[-1]}" if whole else ",".join(map(str, numbers))
            errors = [one.error for one in some if one.error is not None]
            first = replace(first, name=f"{base}[{inner}]", error=max(errors, default=None))
        rows.append(first)
    return rows


def _cells(one: Finding) -> tuple[str, ...]:
    shown = one.verdict.upper() if one.verdict in WRONG else one.verdict
    error = "-" if one.error is None else f"{one.error:.1e}"
    return one.name, one.given, shown, error, one.place


def _diagnosed(one: Finding) -> list[str]:
    lines = []
    if len(one.diagnoses) > 1:
        lines += _wrapped(f"{one.name}: readings that these arrays cannot tell apart:")
    for diagnosis in one.diagnoses:
        lines += _wrapped(f"{one.name}: {_reading(diagnosis)}")
    first = one.diagnoses[0]
    lines += _wrapped(f"  {first.evidence}") if first.evidence else []
    return lines + textwrap.wrap(
        first.fix, WIDTH, initial_indent="    should read  ", subsequent_indent=" " * 17
    )


def _reading(diagnosis: Diagnosis) -> str:
    sure = "" if diagnosis.certain else "perhaps "
    return f"{sure}{diagnosis.kind}" + (f": {diagnosis.text}" if diagnosis.text else "")


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _columns(*texts: str) -> str:
    widths = (14, 16, 8, -8, 26)
    cut = [t if len(t) <= abs(w) else t[: abs(w) - 1] + "…" for t, w in zip(texts, widths)]
    return " ".join(t.rjust(-w) if w < 0 else t.ljust(w) for t, w in zip(cut, widths)).rstrip()


def html(report: BackpropReport) -> str:
    """The report as a table."""
    escape = markup.escape
    head = "".join(f"<th style='text-align:left'>{name}</th>" for name in HEAD)
    rows = []
    for one in folded(report.findings):
        colour = COLOURS.get(one.verdict, "inherit" if one.verdict in FINE else "#b9770e")
        cells = [
            f"<td style='text-align:left;color:{colour if i == 2 else 'inherit'}'>"
            + (f"<code>{escape(cell)}</code>" if i in (0, 1, 4) else escape(cell)) + "</td>"
            for i, cell in enumerate(_cells(one))
        ]  # fmt: skip
        rows.append(f"<tr>{''.join(cells)}</tr>")
        said = [escape(one.note)] if one.note else []
        for diagnosis in one.diagnoses:
            said.append(escape(_reading(diagnosis)))
        if one.diagnoses:
            first = one.diagnoses[0]
            said += [escape(first.evidence)] if first.evidence else []
            said += [f"should read <code>{escape(first.fix)}</code>"] if first.fix else []
        if said:
            rows.append(
                f"<tr><td></td><td colspan='4' style='text-align:left'>{'<br>'.join(said)}</td></tr>"
            )
    notes = "".join(f"<p>{escape(remark)}</p>" for remark in remarks(report))
    return f"<div><b>{escape(headline(report))}</b><table><tr>{head}</tr>{''.join(rows)}</table>{notes}</div>"
