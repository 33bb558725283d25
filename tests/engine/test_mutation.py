"""A fixed random part of the mutation test; ``python -m tests.engine.mutation`` runs all of it."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_np as tg

from . import mutation


@pytest.fixture(scope="module")
def judge() -> mutation.Judge:
    return mutation.Judge()


@pytest.mark.slow
def test_planted_mistakes_are_caught(judge: mutation.Judge) -> None:
    missed = [str(m) for m in mutation.sample_of(40, seed=0) if not judge.caught(m)]
    assert missed == []


def test_a_mutant_is_taken_out_again() -> None:
    (formula,) = (f for f in mutation.formulas() if f.label == "tanh, arrays x")
    mutant = next(m for m in mutation.mutants(formula) if m.text.startswith("-"))
    slopes = []
    for _ in range(2):
        x = tg.Tensor(np.array([0.5]), requires_grad=True)
        np.tanh(x).backward(np.ones(1))
        slopes.append(x.grad)
        with mutant.installed():
            x.grad = None
            np.tanh(x).backward(np.ones(1))
            slopes.append(x.grad)
    np.testing.assert_array_equal(slopes[0], slopes[2])
    np.testing.assert_array_equal(slopes[1], -slopes[0])


def test_the_formula_itself_is_not_called_wrong(judge: mutation.Judge) -> None:
    for formula in mutation.formulas()[::50]:
        same = mutation.Mutant(formula, formula.tree, 0, "unchanged")
        assert not judge.caught(same), formula.label


def test_mutants_of_a_formula() -> None:
    (formula,) = (f for f in mutation.formulas() if f.label == "divide, b")
    texts = {m.text for m in mutation.mutants(formula)}
    assert {"g * y / b", "-g * y * b", "-g * y", "-g / y / b", "b / (-g * y)", "-g / b",
            "2 * (-g * y / b)", "-g * b / b"} <= texts  # fmt: skip
    assert "-g * y / b" not in texts
