"""Activations: the modules, and the names by which other layers take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tinygrad_np as tg
from nn.module import Module
from nn.names import named
from nn.options import differing

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


class Softsign(Module):
    """``y = x / (1 + |x|)``; see `tinygrad_np.softsign`."""

    def forward(self, x: Any) -> Any:
        return tg.softsign(x)


class LogSigmoid(Module):
    """``y = -log(1 + exp(-x))``; see `tinygrad_np.log_sigmoid`."""

    def forward(self, x: Any) -> Any:
        return tg.log_sigmoid(x)


class SiLU(Module):
    """``y = x sigmoid(x)``, also called swish; see `tinygrad_np.silu`."""

    def forward(self, x: Any) -> Any:
        return tg.silu(x)


class Mish(Module):
    """``y = x tanh(softplus(x))``; see `tinygrad_np.mish`."""

    def forward(self, x: Any) -> Any:
        return tg.mish(x)


class SELU(Module):
    """``y = scale x`` for x > 0, else ``scale alpha (exp(x) - 1)``; see `tinygrad_np.selu`."""

    def forward(self, x: Any) -> Any:
        return tg.selu(x)


class ReLU6(Module):
    """``y = min(max(x, 0), 6)``; see `tinygrad_np.relu6`."""

    def forward(self, x: Any) -> Any:
        return tg.relu6(x)


class Hardsigmoid(Module):
    """``y = min(max(x + 3, 0), 6) / 6``; see `tinygrad_np.hardsigmoid`."""

    def forward(self, x: Any) -> Any:
        return tg.hardsigmoid(x)


class Hardswish(Module):
    """``y = x min(max(x + 3, 0), 6) / 6``; see `tinygrad_np.hardswish`."""

    def forward(self, x: Any) -> Any:
        return tg.hardswish(x)


@dataclass(eq=False, repr=False)
class Parametric(Module):
    """What activations with options share: the repr."""

    def describe(self) -> str:
        return ", ".join(differing(self))


@dataclass(eq=False, repr=False)
class LeakyReLU(Parametric):
    """``y = x`` for x > 0, else ``negative_slope x``; see `tinygrad_np.leaky_relu`."""

    negative_slope: float = 0.01

    def forward(self, x: Any) -> Any:
        return tg.leaky_relu(x, self.negative_slope)


@dataclass(eq=False, repr=False)
class ELU(Parametric):
    """``y = x`` for x > 0, else ``alpha (exp(x) - 1)``; see `tinygrad_np.elu`."""

    alpha: float = 1.0

    def forward(self, x: Any) -> Any:
        return tg.elu(x, self.alpha)


@dataclass(eq=False, repr=False)
class CELU(Parametric):
    """``y = x`` for x > 0, else ``alpha (exp(x / alpha) - 1)``; see `tinygrad_np.celu`."""

    alpha: float = 1.0

    def forward(self, x: Any) -> Any:
        return tg.celu(x, self.alpha)


@dataclass(eq=False, repr=False)
class Softplus(Parametric):
    """``y = log(1 + exp(beta x)) / beta``; see `tinygrad_np.softplus`."""

    beta: float = 1.0

    def forward(self, x: Any) -> Any:
        return tg.softplus(x, self.beta)


@dataclass(eq=False, repr=False)
class GELU(Parametric):
    """``y = x Phi(x)``, or its approximation by "tanh"; see `tinygrad_np.gelu`."""

    approximate: str = "none"

    def forward(self, x: Any) -> Any:
        return tg.gelu(x, self.approximate)


@dataclass(eq=False, repr=False)
class Softmax(Parametric):
    """``y_i = exp(x_i) / sum_j exp(x_j)`` along an axis; see `tinygrad_np.softmax`."""

    axis: int = -1

    def forward(self, x: Any) -> Any:
        return tg.softmax(x, axis=self.axis)


@dataclass(eq=False, repr=False)
class LogSoftmax(Parametric):
    """``y_i = x_i - log sum_j exp(x_j)`` along an axis; see `tinygrad_np.log_softmax`."""

    axis: int = -1

    def forward(self, x: Any) -> Any:
        return tg.log_softmax(x, axis=self.axis)


def linear(x: Any) -> Any:
    """``y = x``."""
    return x


ACTIVATIONS: dict[str, Activation] = {
    "linear": linear,
    "relu": tg.relu,
    "relu6": tg.relu6,
    "leaky_relu": tg.leaky_relu,
    "elu": tg.elu,
    "celu": tg.celu,
    "selu": tg.selu,
    "gelu": tg.gelu,
    "silu": tg.silu,
    "mish": tg.mish,
    "softplus": tg.softplus,
    "sigmoid": tg.sigmoid,
    "log_sigmoid": tg.log_sigmoid,
    "hardsigmoid": tg.hardsigmoid,
    "hardswish": tg.hardswish,
    "tanh": tg.tanh,
    "softsign": tg.softsign,
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
