"""Activations: the modules, and the names by which other layers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tinygrad_np as tg
from nn.module import Module
from nn.names import named

Activation = Callable[[Any], Any]


class ReLU(Module):
    """``y = max(x, 0)``, slope 0 at 0; see `tinygrad_np.relu`."""

    def forward(self, x: Any) -> Any:
        return tg.relu(x)


class Sigmoid(Module):
    """``y = 1 / (1 + exp(-x))``; see `tinygrad_np.sigmoid`."""

    def forward(self, x: Any) -> Any:
        return tg.sigmoid(x)


class Tanh(Module):
    """``y = tanh(x)``; see `tinygrad_np.tanh`."""

    def forward(self, x: Any) -> Any:
        return tg.tanh(x)


class Softmax(Module):
    """``y_i = exp(x_i) / sum_j exp(x_j)`` along an axis; see `tinygrad_np.softmax`."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def describe(self) -> str:
        return "" if self.axis == -1 else f"axis={self.axis}"

    def forward(self, x: Any) -> Any:
        return tg.softmax(x, axis=self.axis)


class LogSoftmax(Module):
    """``y_i = x_i - log sum_j exp(x_j)`` along an axis; see `tinygrad_np.log_softmax`."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def describe(self) -> str:
        return "" if self.axis == -1 else f"axis={self.axis}"

    def forward(self, x: Any) -> Any:
        return tg.log_softmax(x, axis=self.axis)


def linear(x: Any) -> Any:
    """``y = x``."""
    return x


ACTIVATIONS: dict[str, Activation] = {
    "linear": linear,
    "relu": tg.relu,
    "sigmoid": tg.sigmoid,
    "tanh": tg.tanh,
    "softmax": tg.softmax,
    "log_softmax": tg.log_softmax,
}


def activation_named(given: str | Activation | None) -> Activation | None:
    """The activation of that name or the callable itself; None for the identity.

    Raises
    ------
    ArgumentError
        For an unknown name, with the near ones.
    """
    found = None if given is None else named("activation", given, ACTIVATIONS)
    return None if found is linear else found
