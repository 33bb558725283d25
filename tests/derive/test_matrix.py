"""Emitted source equals eager: every operation of the test matrix, derived and run on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg

from ..engine.test_matrix import DIFFERENTIABLE, Call, calls, cotangents, flowing, tensors

# A checkpoint hides its operations, and is refused (see test_derive.py).
NAMES = [name for name in DIFFERENTIABLE if name != "checkpointed_layer"]
# Where all samples would only repeat what the first ones show, at some milliseconds each.
FEW = 2
# Rounding of a few operations in another order, one of them often a sum.
TOLERANCE = {np.float64: 1e-9, np.float32: 2e-3}


def derived(call: Call, dtype: Any) -> tuple[Any, list[Any], list[Any], list[Any]]:
    """The derivation, the arguments of its function, and what the engine gives."""
    arrays = [a.astype(dtype) for a in call.arrays]
    inputs = tensors(arrays)
    outputs = flowing(call(*inputs))
    if not outputs:
        return None, [], [], []
    d = tg.derive(lambda *xs: call(*xs), *inputs)
    seeded = len(outputs) > 1 or outputs[0].size != 1
    gs = [g.astype(y.dtype) for y, g in zip(outputs, cotangents(outputs))]
    given = list(d.arguments.values())
    if seeded:
        given[len(given) - len(gs) :] = gs
    else:
        gs = [np.ones(outputs[0].shape, outputs[0].dtype)]
    found = tg.gradients(outputs, inputs, gs, unreached="zeros")
    return d, given, [y.data for y in outputs], [g.data for g in found]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_derived_source_computes_value_and_gradients(name: str, dtype: Any) -> None:
    for call in calls(name)[: None if dtype is np.float64 else FEW]:
        d, given, values, gradients = derived(call, dtype)
        if d is None:
            continue
        with np.errstate(all="ignore"):
            results, found = d.function(*given)
        results = results if isinstance(results, tuple) else (results,)
        assert len(results) == len(values)
        for mine, expected in [*zip(results, values), *zip(found.values(), gradients)]:
            assert np.shape(mine) == expected.shape, d.source
            if expected.dtype == dtype:
                assert np.asarray(mine).dtype == dtype, d.source
            scale = max(1.0, np.abs(expected).max(initial=0))
            tolerance = TOLERANCE[dtype]
            np.testing.assert_allclose(
                mine, expected, rtol=tolerance, atol=tolerance * scale, err_msg=d.source
            )


@pytest.mark.parametrize("name", NAMES)
def test_derived_second_derivative_is_the_hessian_times_a_direction(name: str) -> None:
    for call in calls(name)[:FEW]:
        inputs = tensors(call.arrays)
        if not flowing(call(*inputs)) or sum(a.size for a in call.arrays) > 40:
            continue

        def loss(*xs: Any, call: Call = call) -> Any:
            return sum(np.sin(y).sum() for y in flowing(call(*xs)))

        d = tg.derive(loss, *inputs, order=2)
        directions = [r if r.size > 1 else np.ones_like(r) for r in cotangents(call.arrays)]
        given = dict(d.arguments)
        for i, v in enumerate(directions):
            if f"vx{i}" in given:  # a gradient that is constant has none
                given[f"vx{i}"] = v
        with np.errstate(all="ignore"):
            *_, seconds = d.function(**given)
        expected = tg.hvp(loss, list(call.arrays), directions)
        for mine, theirs in zip(seconds.values(), expected, strict=True):
            scale = max(1.0, np.abs(theirs).max(initial=0))
            np.testing.assert_allclose(mine, theirs, rtol=1e-7, atol=1e-9 * scale, err_msg=d.source)
