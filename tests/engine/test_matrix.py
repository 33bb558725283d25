"""The test matrix: every operation in the registry x its samples x every property.

An operation brings its samples (`tinygrad_np.samples`); each property is one test here.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.core import REGISTRY, SPECS, Case, Primitive, Spec, mode

from .arrays import Draw, numerical_gradient

ALL = sorted(SPECS)
# Before any test defines primitives of its own; nn tests those that it has.
OURS = tuple(p for p in REGISTRY if not p.__module__.startswith("nn."))
DIFFERENTIABLE = [name for name in ALL if SPECS[name].differentiable]


def is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


class Call:
    """One sample call, seen as a function of its float arrays."""

    def __init__(self, spec: Spec, case: Case) -> None:
        self.spec, self.case = spec, case
        self.arrays: list[Any] = []
        self._map(case.args, self.arrays.append)

    def _map(self, value: Any, visit: Any) -> Any:
        if is_float(value):
            return visit(value)
        if isinstance(value, list | tuple) and any(is_float(v) for v in value):
            return type(value)(self._map(v, visit) for v in value)
        if value is self.case.args:
            return tuple(self._map(v, visit) for v in value)
        return value

    def __call__(self, *arrays: Any, operation: Any = None) -> Any:
        given = iter(arrays)
        args = self._map(self.case.args, lambda _: next(given))
        return (operation or self.spec.operation)(*args, **self.case.kwargs)


def calls(name: str) -> list[Call]:
    spec = SPECS[name]
    return [Call(spec, case) for case in spec.build(Draw(len(name)))]


def parts(result: Any) -> list[Any]:
    """The outputs of an operation: one, or several."""
    return list(result) if isinstance(result, tuple | list) else [result]


def tensors(arrays: Any, requires_grad: bool = True) -> list[tg.Tensor]:
    return [tg.Tensor(a, requires_grad=requires_grad) for a in arrays]


def flowing(outputs: Any) -> list[tg.Tensor]:
    """Those outputs that a gradient flows through."""
    return [y for y in parts(outputs) if isinstance(y, tg.Tensor) and y.requires_grad]


def cotangents(outputs: list[Any], seed: int = 1) -> list[Any]:
    r = Draw(seed)
    return [r(*np.shape(y.data if isinstance(y, tg.Tensor) else y)) for y in outputs]


def vjp(call: Call, arrays: Any, gs: Any) -> list[Any]:
    """The gradients of ``sum(g * y)`` by the engine, as arrays."""
    inputs = tensors(arrays)
    outputs = parts(call(*inputs))
    live = [(y, g) for y, g in zip(outputs, gs) if y.requires_grad]
    if not live or not inputs:
        return [np.zeros_like(a) for a in arrays]
    found = tg.gradients(
        [y for y, _ in live], inputs, [g.astype(y.dtype) for y, g in live], unreached="zeros"
    )
    return [g.data for g in found]


@pytest.mark.parametrize("name", ALL)
def test_forward_equals_the_reference(name: str) -> None:
    spec = SPECS[name]
    for call in calls(name):
        for y in parts(call(*tensors(call.arrays))):
            assert isinstance(y, tg.Tensor) == bool(call.arrays)
        if spec.reference is None:
            continue
        got = parts(call(*tensors(call.arrays)))
        plain = parts(call(*call.arrays))
        expected = parts(call(*call.arrays, operation=spec.reference))
        assert len(got) == len(expected)
        for y, array, e in zip(got, plain, expected):
            assert not isinstance(array, tg.Tensor)
            assert y.shape == np.shape(e)
            y = y.data if isinstance(y, tg.Tensor) else y
            np.testing.assert_allclose(y, e, rtol=1e-12, atol=1e-13)
            np.testing.assert_array_equal(y, array)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_vjp_equals_finite_differences(name: str) -> None:
    for call in calls(name):
        outputs = parts(call(*tensors(call.arrays)))
        gs = cotangents(outputs)
        flat = lambda *arrays: np.concatenate(  # called within this turn of the loop
            [np.zeros(0), *(np.ravel(y) for y in parts(call(*arrays)))]
        )
        numerical = numerical_gradient(
            flat, call.arrays, np.concatenate([np.zeros(0), *map(np.ravel, gs)])
        )
        for engine, expected in zip(vjp(call, call.arrays, gs), numerical):
            scale = max(1.0, np.abs(expected).max(initial=0))
            np.testing.assert_allclose(engine, expected, rtol=1e-6, atol=2e-9 * scale)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_recorded_vjp_equals_the_vjp_on_arrays(name: str) -> None:
    for call in calls(name):
        inputs = tensors(call.arrays)
        outputs = flowing(call(*inputs))
        if not outputs:
            continue
        gs = cotangents(outputs)
        on_arrays = tg.gradients(outputs, inputs, gs, unreached="zeros")
        recorded = tg.gradients(outputs, inputs, gs, create_graph=True, unreached="zeros")
        fast = [x.grad for x in inputs]
        assert fast == [None] * len(inputs)  # gradients() leaves .grad alone
        for y, g in zip(outputs, gs):
            y.backward(g)
        for x, a, t in zip(inputs, on_arrays, recorded):
            grad = np.zeros_like(x.data) if x.grad is None else x.grad
            np.testing.assert_allclose(a.data, t.data, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(grad, t.data, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_derivative_equals_finite_differences_of_the_first(name: str) -> None:
    for call in calls(name):
        if sum(a.size for a in call.arrays) > 40:
            continue
        outputs = parts(call(*tensors(call.arrays)))
        gs = cotangents(outputs)
        first = vjp(call, call.arrays, gs)
        directions = cotangents(first, seed=2)
        flat = lambda *arrays: np.concatenate(  # called within this turn of the loop
            [np.zeros(0), *(np.ravel(d) for d in vjp(call, arrays, gs))]
        )
        numerical = numerical_gradient(
            flat, call.arrays, np.concatenate([np.zeros(0), *map(np.ravel, directions)]), h=1e-4
        )
        inputs = tensors(call.arrays)
        live = [(y, g) for y, g in zip(parts(call(*inputs)), gs) if y.requires_grad]
        if not live:
            continue
        ys, gs_live = [y for y, _ in live], [g for _, g in live]
        recorded = tg.gradients(ys, inputs, gs_live, create_graph=True, unreached="zeros")
        again = [(d, v) for d, v in zip(recorded, directions) if d.requires_grad]
        second = (
            tg.gradients([d for d, _ in again], inputs, [v for _, v in again], unreached="zeros")
            if again
            else [tg.Tensor(np.zeros_like(a)) for a in call.arrays]
        )
        for engine, expected in zip(second, numerical):
            scale = max(1.0, np.abs(expected).max(initial=0))
            np.testing.assert_allclose(engine.data, expected, rtol=1e-5, atol=2e-7 * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_dtype_is_kept_forward_and_backward(name: str, dtype: Any) -> None:
    for call in calls(name):
        arrays = [a.astype(dtype) for a in call.arrays]
        inputs = tensors(arrays)
        outputs = flowing(call(*inputs))
        for y in outputs:
            assert y.dtype == dtype or name == "astype", call.case
            y.backward(np.ones(y.shape, dtype))
        for x in inputs:
            assert x.grad is None or (x.grad.dtype == dtype and x.grad.shape == x.shape)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_float32_cotangents_stay_float32_on_the_way(name: str) -> None:
    for call in calls(name):
        inputs = tensors([a.astype(np.float32) for a in call.arrays])
        outputs = flowing(call(*inputs))
        if outputs:
            gs = [np.ones(y.shape, np.float32) for y in outputs]
            for g in tg.gradients(outputs, inputs, gs, create_graph=True, unreached="zeros"):
                assert g.dtype == np.float32, call.case


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_strided_input_and_cotangent(name: str) -> None:
    def strided(a: Any) -> Any:
        wide = np.full((*a.shape, 2), np.nan)
        wide[..., 1] = a
        return wide[..., 1]

    for call in calls(name):
        gs = cotangents(parts(call(*tensors(call.arrays))))
        expected = vjp(call, call.arrays, gs)
        got = vjp(call, [strided(a) for a in call.arrays], [strided(g) for g in gs])
        for a, b in zip(got, expected):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ALL)
def test_inputs_and_cotangents_are_not_changed(name: str) -> None:
    for call in calls(name):
        arrays = [a.copy() for a in call.arrays]
        for a in arrays:
            a.flags.writeable = False
        inputs = tensors(arrays, requires_grad=SPECS[name].differentiable)
        outputs = flowing(call(*inputs))
        before = [y.data.copy() for y in outputs]
        for y, g in zip(outputs, cotangents(outputs)):
            g.flags.writeable = False
            y.backward(g)
            y.backward(g)  # what the first pass left behind does not disturb the second
        for y, b in zip(outputs, before):
            np.testing.assert_array_equal(y.data, b)
        for x in inputs:
            assert x.grad is None or x.grad.flags.writeable


@pytest.mark.parametrize("name", [n for n in ALL if SPECS[n].kinks()])
def test_gradients_at_kinks_follow_the_convention(name: str) -> None:
    spec = SPECS[name]
    for case, expected in spec.kinks():
        call = Call(spec, case)
        inputs = tensors(call.arrays)
        outputs = parts(call(*inputs))
        gs = [
            np.full(y.shape, 3.0) for y in outputs
        ]  # not 1, beside which a lost factor is not seen
        for y, g in zip(outputs, gs):
            if y.requires_grad:
                y.backward(g)
        for x, got, e in zip(inputs, vjp(call, call.arrays, gs), expected, strict=True):
            np.testing.assert_array_equal(got, 3 * np.asarray(e))
            np.testing.assert_array_equal(np.zeros_like(got) if x.grad is None else x.grad, got)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivative_in_the_cotangent_is_the_jvp(name: str) -> None:
    """A VJP is linear in ``g``: recorded and differentiated with respect to it, it gives ``J v``."""
    for call in calls(name):
        inputs = tensors(call.arrays)
        outputs = parts(call(*inputs))
        live = [i for i, y in enumerate(outputs) if y.requires_grad]
        gs = tensors(cotangents([outputs[i] for i in live]))
        vs = cotangents(call.arrays, seed=2)
        recorded = tg.gradients(
            [outputs[i] for i in live], inputs, gs, create_graph=True, unreached="zeros"
        )
        again = [(d, v) for d, v in zip(recorded, vs) if d.requires_grad]
        jvps = tg.gradients([d for d, _ in again], gs, [v for _, v in again], unreached="zeros")
        moved = [
            parts(call(*(a + h * v for a, v in zip(call.arrays, vs))))
            for h in (-2e-4, -1e-4, 1e-4, 2e-4)
        ]
        for i, jvp in zip(live, jvps):
            far_left, left, right, far_right = (np.asarray(ys[i]) for ys in moved)
            expected = (8 * (right - left) - (far_right - far_left)) / 12e-4
            scale = max(1.0, np.abs(expected).max(initial=0))
            np.testing.assert_allclose(jvp.data, expected, rtol=1e-6, atol=2e-7 * scale)


@pytest.mark.parametrize("name", [n for n in ALL if SPECS[n].fails()])
def test_bad_input_is_refused_with_a_helpful_message(name: str) -> None:
    spec = SPECS[name]
    for case, error, text in spec.fails():
        with pytest.raises(error) as caught:
            spec.operation(*case.args, **case.kwargs)
        assert text in str(caught.value), str(caught.value)
        assert len(str(caught.value)) < 400


def test_every_primitive_is_reached_by_the_samples() -> None:
    """Each primitive is recorded by some sample, so each VJP is under the properties above."""
    seen: set[Primitive] = set()
    with mode(everything=True, watchers=(lambda node: seen.add(node.primitive),)):
        for name in ALL:
            for call in calls(name):
                inputs = tensors(call.arrays)
                outputs = flowing(call(*inputs))
                if outputs:
                    gs = cotangents(outputs)
                    tg.gradients(outputs, inputs, gs, create_graph=True, unreached="zeros")
    assert [p.name for p in OURS if p not in seen] == []


def test_every_public_operation_has_samples_or_is_known_to_need_none() -> None:
    operations = {
        name for name, value in vars(tg).items()
        if (isinstance(value, Primitive) or inspect.isfunction(value))
        and getattr(value, "__module__", "").startswith("tinygrad_np.ops")
    }  # fmt: skip
    sampled = {id(spec.operation) for spec in SPECS.values()}
    assert [name for name in sorted(operations) if id(getattr(tg, name)) not in sampled] == []
