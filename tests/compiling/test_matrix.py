"""Compiled equals eager: every operation and its gradients, on data it was not captured on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.core import SPECS, Case

from ..engine.arrays import Draw
from ..engine.test_matrix import ALL, cotangents, parts

# One of its samples leaves the number of classes to the labels.
RUNS_AS_IT_IS = {"one_hot"}
# So many samples of an operation; all of them would repeat what these show.
FEW = 4


def cases(name: str, seed: int) -> list[Case]:
    return SPECS[name].build(Draw(seed))[:FEW]


class Sample:
    """One sample call as a step of all its arrays, labels and indices among them."""

    def __init__(self, name: str, case: Case) -> None:
        self.operation = SPECS[name].operation
        self.case = case
        self.gs: list[Any] | None = None

    def arrays(self, case: Case) -> list[Any]:
        found: list[Any] = []
        tg.tree.rebuild(
            [case.args, case.kwargs],
            lambda leaf: isinstance(leaf, np.ndarray) and found.append(leaf),
        )
        return found

    def __call__(self, *arrays: Any) -> Any:
        given = iter(arrays)
        inputs: list[tg.Tensor] = []

        def next_one(leaf: Any) -> Any:
            if not isinstance(leaf, np.ndarray):
                return leaf
            array = next(given)
            if array.dtype.kind != "f":
                return array
            inputs.append(tg.Tensor(array, requires_grad=True))
            return inputs[-1]

        args, kwargs = tg.tree.rebuild([self.case.args, self.case.kwargs], next_one)
        outputs = parts(self.operation(*args, **kwargs))
        live = [y for y in outputs if isinstance(y, tg.Tensor) and y.requires_grad]
        found = []
        if live:
            if self.gs is None:
                self.gs = [g.astype(y.dtype) for y, g in zip(live, cotangents(live))]
            found = tg.gradients(live, inputs, self.gs, unreached="zeros")
        return (*[y for y in outputs if isinstance(y, tg.Tensor | np.ndarray)], *found)


def values(results: Any) -> list[Any]:
    return [np.asarray(one.data if isinstance(one, tg.Tensor) else one) for one in results]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALL)
def test_compiled_equals_eager(name: str) -> None:
    reasons = []
    for k, case in enumerate(cases(name, 0)):
        sample = Sample(name, case)
        if not sample.arrays(case):
            continue
        step = tg.compile(sample, warn=False)
        for seed in (0, 1, 2, 3, 4):
            arrays = sample.arrays(cases(name, seed)[k])
            eager = values(sample(*arrays))
            ours = values(step(*arrays))
            assert len(ours) == len(eager)
            for a, b in zip(ours, eager):
                assert (a.shape, a.dtype) == (b.shape, b.dtype)
                scale = max(1.0, np.abs(b).max(initial=0)) if b.dtype.kind == "f" else 1
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13 * scale)
        reasons.append(step.reason)
    assert any(reasons) == (name in RUNS_AS_IT_IS), reasons
