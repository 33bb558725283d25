"""The programs are right, each mistake is one, and the checker is as good as it has to be.

Every program and every mistake is looked at here; the checker is asked about all right programs and, to
save time, about every third wrong one. ``python -m tests.check.suite`` asks about all, and fails if the
checker falls short.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import combinations

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np import tree
from tinygrad_np.check.matching import quantity_of

from . import peers, running
from .families import PROGRAMS
from .program import ALIKE, KINDS, Program

EVERY_NTH = 3
FAMILIES = sorted({one.family for one in PROGRAMS})
EVERY = pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.name)


@cache
def outcomes(family: str) -> list[running.Outcome]:
    cases = list(running.wrong_cases(one for one in PROGRAMS if one.family == family))
    return [running.outcome(case) for case in cases[::EVERY_NTH]]


# -- the programs ------------------------------------------------------------------------------------


def by_parameter(program: Program, params, grads) -> list[np.ndarray]:
    """The gradients that a program returned, in the order of its parameters."""
    if isinstance(grads, dict):
        owners = {quantity_of(f"grads[{key!r}]", params): g for key, g in grads.items()}
        return [owners[name] for name in params]
    return tree.leaves(grads)


def differences(f, params, data, step=1e-6):
    """Central differences of the loss by each element of each parameter."""
    values = [np.asarray(one, float) for one in tree.leaves(params)]
    slopes = [np.empty_like(one) for one in values]
    for k, value in enumerate(values):
        for i in np.ndindex(value.shape):
            ends = []
            for moved in value[i] + step, value[i] - step:
                there = [one.copy() for one in values]
                there[k][i] = moved
                ends.append(float(f(tree.like(params, iter(there)), *data)[0]))
            slopes[k][i] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def recorded(value):
    """Floating-point arrays as Tensors."""
    if isinstance(value, dict | list | tuple):
        return tree.rebuild(value, recorded)
    return tg.Tensor(value) if np.asarray(value).dtype.kind == "f" else value


@EVERY
def test_a_program_is_right(program):
    params, *data = running.made(program, N=5)
    grads = by_parameter(program, params, program.function(*running.made(program, N=5))[1])
    for found, slope in zip(grads, differences(program.function, params, data), strict=True):
        assert np.shape(found) == slope.shape
        np.testing.assert_allclose(found, slope, rtol=1e-5, atol=2e-9)


@EVERY
def test_tensors_record_the_same_gradients(program):
    params, *data = running.made(program)
    tensors = [tg.Tensor(one, requires_grad=True) for one in tree.leaves(params)]
    arguments = tree.like(params, iter(tensors)), *map(recorded, data)
    if not program.recordable:
        with pytest.raises((tg.TensorError, TypeError, ValueError)):
            program.function(*arguments)
        return
    loss, grads = program.function(*arguments)
    found = by_parameter(program, params, grads)
    for given, right in zip(found, tg.gradients(loss, tensors), strict=True):
        given = given.data if isinstance(given, tg.Tensor) else given
        np.testing.assert_allclose(given, right, rtol=1e-9, atol=1e-12)


@EVERY
def test_a_line_rewritten_is_as_right(program):
    problem = running.made(program)
    loss, right = running.results(program.function, problem)
    others = [program.edited(one.line, one.same) for one in program.rewritings]
    for function in [*others, program.renamed("grad_")]:
        same, found = running.results(function, problem)
        np.testing.assert_allclose(same, loss, rtol=1e-12)
        assert not any(map(running.differ, found, right))


def test_there_is_enough_of_everything():
    kinds = Counter(one.kinds[0] for program in PROGRAMS for one in program.mistakes)
    assert len(FAMILIES) >= 15
    assert sum(kinds.values()) >= 250
    assert sum(1 for _ in running.right_cases(PROGRAMS)) >= 100
    assert KINDS - {"other_loss"} == set(kinds)


def test_no_pair_of_kinds_is_called_alike_for_nothing():
    used = {
        frozenset(pair)
        for program in PROGRAMS for one in program.mistakes for pair in combinations(one.kinds, 2)
    }  # fmt: skip
    assert used == {frozenset(pair.split()) for pair in ALIKE}


# -- how a program is mutated ------------------------------------------------------------------------


def doubled(params, x):
    y = x * params["w"]
    loss = np.sum(y)
    dy = np.ones_like(y)
    dw = np.sum(dy * x)
    return loss, {"w": dw}


def small(edits: str) -> Program:
    return Program(doubled, lambda rng, N: ({"w": rng.normal(size=())}, rng.normal(size=N)), edits)


def test_edits_as_they_are_written_down():
    program = small("""
        dw = np.sum(dy * x)
            right: dw = dy @ x
            w/W sign: dw = -np.sum(dy * x)
            w mean_instead_of_sum|extra_batch_mean: dw = np.mean(dy * x)
    """)
    (rewriting,), (sign, mean) = program.rewritings, program.mistakes
    assert rewriting == ("dw = np.sum(dy * x)", "dw = dy @ x")
    assert (sign.quantities, sign.kinds, mean.kinds) == (
        ("w", "W"), ("sign",), ("mean_instead_of_sum", "extra_batch_mean"),
    )  # fmt: skip
    function = program.edited(sign.line, sign.wrong)
    params, x = {"w": 2.0}, np.array([1.0, 3.0])
    assert function(params, x) == (8.0, {"w": -4.0})
    renamed = program.renamed("grad_")
    assert renamed.__code__.co_varnames[-2:] == ("grad_y", "grad_w")
    assert renamed(params, x) == (8.0, {"w": 4.0})


@pytest.mark.parametrize(("edits", "complaint"), [
    ("dw = np.sum(dy)\n    w sign: dw = -1", "0 lines read 'dw = np.sum"),
    ("dw = np.sum(dy * x)\n    w slip: dw = -1", "'slip' is no kind"),
    ("dw = np.sum(dy * x)\n    w sign|factor: dw = -1", "nothing says why sign and factor are alike"),
    ("dy = np.ones_like(y)\n    y sign: dy = 1", "changes the loss, or no gradient"),
    ("y = x * params[\"w\"]\n    y factor: y = 2 * x * params[\"w\"]", "changes the loss"),
])  # fmt: skip
def test_edits_that_are_no_mistakes(edits, complaint):
    with pytest.raises(ValueError, match=complaint):
        list(running.wrong_cases([small(edits)]))


def test_what_counts_as_detected_located_and_named():
    program = small("""
        dw = np.sum(dy * x)
            w sign: dw = -np.sum(dy * x)
            w factor: dw = -np.sum(dy * x)
            y sign: dw = -np.sum(dy * x)
    """)
    found = [running.outcome(case) for case in running.wrong_cases([program])]
    assert [one.marks for one in found] == [
        (True, True, True, True), (True, True, False, False), (True, False, False, False),
    ]  # fmt: skip
    assert running.shares(found) == {
        "detected": 1, "located": 2 / 3, "first": 1 / 3, "within three": 1 / 3,
    }  # fmt: skip
    assert [one.overbold for one in found] == [False, True, True]
    assert running.short_of(found[:1]) == []
    assert running.short_of(found[:2]) == ["first", "within three"]
    case = next(running.right_cases([program]))
    assert not running.acquittal(case).accused
    (wrong, *_) = running.wrong_cases([program])
    assert running.acquittal(wrong).accused


# -- the checker -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_mistake_is_detected(family):
    missed = [one.case.title for one in outcomes(family) if not one.detected]
    assert missed == []


@pytest.mark.parametrize("family", FAMILIES)
def test_no_right_program_is_accused(family):
    cases = running.right_cases(one for one in PROGRAMS if one.family == family)
    accused = [(one.case.title, one.said) for one in map(running.acquittal, cases) if one.accused]
    assert accused == []


@pytest.mark.slow
def test_the_first_wrong_quantity_and_the_kind_are_named():
    everything = [one for family in FAMILIES for one in outcomes(family)]
    assert len(everything) >= 250
    assert running.short_of(everything) == [], running.table(everything)


@pytest.mark.slow
def test_no_diagnosis_is_certain_of_what_was_not_so():
    overbold = [
        (one.case.title, one.said)
        for family in FAMILIES for one in outcomes(family) if one.overbold
    ]  # fmt: skip
    assert overbold == []


# -- the peers ---------------------------------------------------------------------------------------


def shifted(params, x, t):
    W, b = params["W"], params["b"]
    y = x @ W + b
    loss = np.sum((y - t) ** 2)
    dy = 2 * (y - t)
    dW = x.T @ dy
    db = dy.sum(axis=0)
    return loss, {"W": dW, "b": db}


def problem_of_shifted(rng, N):
    params = {"W": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    return params, rng.normal(size=(N, 4)), rng.normal(size=(N, 3))


@pytest.mark.parametrize("peer", peers.CHECKS)
def test_what_a_peer_says(peer):
    module, check = peers.CHECKS[peer]
    pytest.importorskip(module)
    program = Program(shifted, problem_of_shifted, """
        db = dy.sum(axis=0)
            b sign: db = -dy.sum(axis=0)
            b unreduced_broadcast: db = dy
        dW = x.T @ dy
            W transpose: dW = dy.T @ x
        dy = 2 * (y - t)
            y factor: dy = y - t
    """)  # fmt: skip
    cases = list(running.wrong_cases([program]))
    found = {one.mistake.kinds[0]: peers.answered(check, one) for one in cases}
    right = next(running.right_cases([program]))
    assert not peers.answered(check, right).detected
    assert found["sign"] == (True, peer != "JAX", False)
    assert found["factor"] == (True, False, False)  # dy is no parameter
    assert found["unreduced_broadcast"].detected == (peer != "PyTorch")
    assert found["transpose"].detected
    table = peers.compared(cases, [right])
    assert re.search(r"(?m)^first wrong quantity named +4 +4 ", table)
    assert re.search(r"(?m)^right programs accused +1 +0 ", table)


def test_a_peer_that_is_not_installed_is_said_to_be_missing(monkeypatch):
    missing = {"PyTorch": ("no_such_module", peers.torch_gradcheck)}
    monkeypatch.setattr(peers, "CHECKS", missing)
    table = peers.compared([], [])
    assert "PyTorch is not installed, and was not asked." in table
