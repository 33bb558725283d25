"""Every case under the checker, and the counts of what it saw."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

import tinygrad_np as tg
from tinygrad_np import tree

from .program import Mistake, Problem, Program

SAMPLES = 7
# What a good checker is held to: shares of the wrong programs.
GOALS = {"detected": 1.0, "located": 0.97, "first": 0.90, "within three": 0.97}
# Of them, how many may be told as another mistake, and that with certainty: each such reading gives every
# array of the program, too, so that the numbers alone do not refute it.
OVERBOLD = 0.005

FINE = ("right", "kink", "noise")
WIDTHS = (10, 9, 7, 10)  # of the table's columns


class Case(NamedTuple):
    """One function to check; ``mistake`` is None if it is right."""

    program: Program
    mistake: Mistake | None
    title: str
    function: Callable[..., Any]
    problem: Problem
    dtype: type[np.floating[Any]] = np.float64


class Outcome(NamedTuple):
    """What the checker said about a wrong program, and what of that was so.

    ``overbold`` is a diagnosis given as certain that is not what was done.
    """

    case: Case
    detected: bool
    located: bool
    first: bool
    within_three: bool
    overbold: bool
    said: str

    @property
    def marks(self) -> tuple[bool, ...]:
        return self.detected, self.located, self.first, self.within_three


class Acquittal(NamedTuple):
    """What the checker said about a right program."""

    case: Case
    accused: bool
    said: str


def as_dtype(value: Any, dtype: type[np.floating[Any]]) -> Any:
    """The same with its floating-point arrays in ``dtype``."""
    if isinstance(value, dict):
        return {key: as_dtype(one, dtype) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_dtype(one, dtype) for one in value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(dtype)
    return value


def made(
    program: Program, seed: int = 0, N: int = SAMPLES, dtype: type[np.floating[Any]] = np.float64
) -> Problem:
    problem: Problem = as_dtype(program.problem(np.random.default_rng(seed), N), dtype)
    return problem


def wrong_cases(programs: Iterable[Program]) -> Iterator[Case]:
    """Each program with each of its mistakes; one that changes no gradient is no mistake."""
    for program in programs:
        problem = made(program)
        loss, right = results(program.function, problem)
        for mistake in program.mistakes:
            title = f"{program.family}, {program.name}: {mistake.wrong}"
            function = program.edited(mistake.line, mistake.wrong)
            same, wrong = results(function, problem)
            if same != loss or not any(map(differ, right, wrong)):
                raise ValueError(f"{title}: changes the loss, or no gradient")
            yield Case(program, mistake, title, function, problem)


def results(function: Callable[..., Any], problem: Problem) -> tuple[float, list[Any]]:
    """The loss, and the gradients in the order of the function's own container."""
    loss, grads = function(*copy.deepcopy(problem))
    return float(loss), tree.leaves(grads)


def differ(a: Any, b: Any) -> bool:
    """Whether two gradients are not the same up to rounding."""
    return np.shape(a) != np.shape(b) or not np.allclose(a, b, rtol=1e-6, atol=1e-12)


def right_cases(programs: Iterable[Program]) -> Iterator[Case]:
    """Each program as it is, with other names, with each line rewritten; two dtypes, several sizes."""
    for program in programs:
        forms = {"as it is": program.function, "grad_ for d": program.renamed("grad_")}
        forms |= {one.same: program.edited(one.line, one.same) for one in program.rewritings}
        for seed, (how, function) in enumerate(forms.items()):
            for dtype, N in (np.float64, 4 + 3 * seed), (np.float32, 19 - seed):
                title = f"{program.family}, {program.name}, N = {N}, {dtype.__name__}: {how}"
                yield Case(program, None, title, function, made(program, seed, N, dtype), dtype)


def checked(case: Case) -> tg.BackpropReport | str:
    """The report, or how the checker failed."""
    try:
        return tg.check_backprop(case.function, *case.problem)
    except Exception as error:  # counted as a miss, and listed
        return f"{type(error).__name__}: {error}"


def outcome(case: Case) -> Outcome:
    report, mistake = checked(case), case.mistake
    assert mistake is not None
    if isinstance(report, str):
        return Outcome(case, False, False, False, False, False, report)
    place = report.first_wrong
    finding = next((one for one in report.findings if one.name == place), None)
    diagnoses = finding.diagnoses if finding is not None else ()
    names = {place, f"~{finding.given}"} if finding is not None else set()
    located = bool(names & {*mistake.quantities})
    so = [located and one.kind in mistake.kinds for one in diagnoses]
    overbold = any(one.certain and not right for one, right in zip(diagnoses, so))
    said = f"{place}: {', '.join(one.kind for one in diagnoses) or 'no kind'}"
    return Outcome(case, not report.ok, located, any(so[:1]), any(so[:3]), overbold, said)


def acquittal(case: Case) -> Acquittal:
    report = checked(case)
    if isinstance(report, str):
        return Acquittal(case, True, report)
    bad = [f"{one.name} {one.verdict}" for one in report.findings if one.verdict not in FINE]
    bad += [f"{name} not matched" for name in report.unmatched]
    return Acquittal(case, not report.ok, ", ".join(bad) or "nothing was compared")


def shares(outcomes: list[Outcome]) -> dict[str, float]:
    """The share of the cases that were detected, located, and named first and within three."""
    columns = zip(*(one.marks for one in outcomes))
    return {goal: float(np.mean(column)) for goal, column in zip(GOALS, columns)}


def short_of(outcomes: list[Outcome]) -> list[str]:
    """The goals that are missed."""
    return [goal for goal, share in shares(outcomes).items() if share < GOALS[goal]]


def table(outcomes: list[Outcome]) -> str:
    """A line for each kind of mistake, and all of them."""
    rows: dict[str, list[Outcome]] = {}
    for one in outcomes:
        assert one.case.mistake is not None
        rows.setdefault(one.case.mistake.kinds[0], []).append(one)
    lines = [f"{'kind':32}{'cases':>6}{'detected':>10}{'located':>9}{'first':>7}{'in three':>10}"]
    for kind in sorted(rows):
        lines.append(_row(kind, rows[kind]))
    lines.append(_row("all", outcomes))
    percent = zip(WIDTHS, shares(outcomes).values())
    lines.append(" " * 38 + "".join(f"{share:{width}.1%}" for width, share in percent))
    return "\n".join(lines)


def _row(name: str, outcomes: list[Outcome]) -> str:
    counts = [sum(column) for column in zip(*(one.marks for one in outcomes))]
    numbers = "".join(f"{n:>{width}}" for n, width in zip(counts, WIDTHS))
    return f"{name:32}{len(outcomes):>6}{numbers}"
