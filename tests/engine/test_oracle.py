"""The engine against a naive one of twenty lines, in a state machine that builds random graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

import tinygrad_np as tg


class Naive:
    """A scalar that knows its value, and for each operand the local derivative."""

    def __init__(self, value: float, *uses: tuple[Naive, float]) -> None:
        self.value, self.uses = value, uses

    def __add__(self, other: Naive) -> Naive:
        return Naive(self.value + other.value, (self, 1.0), (other, 1.0))

    def __mul__(self, other: Naive) -> Naive:
        return Naive(self.value * other.value, (self, other.value), (other, self.value))

    def tanh(self) -> Naive:
        return Naive(np.tanh(self.value), (self, 1 - np.tanh(self.value) ** 2))

    def derivative(self, x: Naive) -> float:
        """Sum over all paths: exponential, and obviously right."""
        return float(self is x) + sum(d * used.derivative(x) for used, d in self.uses)


class Machine(RuleBasedStateMachine):
    values = Bundle("values")

    def __init__(self) -> None:
        super().__init__()
        self.leaves: list[tuple[tg.Tensor, Naive]] = []
        self.count = 0

    @initialize(target=values)
    def first(self) -> Any:
        return self.new(0.5)

    @rule(target=values, value=st.floats(-1, 1))
    def new(self, value: float) -> Any:
        pair = tg.Tensor(np.array([value]), requires_grad=True), Naive(value)
        self.leaves.append(pair)
        return pair

    @rule(target=values, a=values, b=values)
    def add(self, a: Any, b: Any) -> Any:
        return a[0] + b[0], a[1] + b[1]

    @rule(target=values, a=values, b=values)
    def multiply(self, a: Any, b: Any) -> Any:
        return np.tanh(a[0] * b[0]), (a[1] * b[1]).tanh()

    @rule(target=values, a=values, b=values)
    def write(self, a: Any, b: Any) -> Any:
        """An in-place write into a copy, which leaves the other users of ``a`` alone."""
        x = a[0] + 0.0
        whole = x[:]
        x *= b[0]
        return whole, a[1] * b[1]

    @rule(a=values)
    def compare(self, a: Any) -> None:
        tensor, naive = a
        np.testing.assert_allclose(tensor.data, [naive.value], rtol=1e-9, atol=1e-12)
        if self.count > 4:  # the naive engine is exponential
            return
        self.count += 1
        for x, _ in self.leaves:
            x.grad = None
        tensor.backward(np.ones(1))
        for x, naive_x in self.leaves:
            expected = naive.derivative(naive_x)
            got = 0.0 if x.grad is None else x.grad[0]
            np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=14, deadline=None)
