"""The contenders: a file each, with a class for each kind of workload that it can do."""

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Floats, Workload


class Contender(ABC):
    """Built from a workload, trains on it its own way, from copies of its initial weights."""

    weights: list[Floats]
    whole_rounds = False  # whether `round` compiles for as many steps as it is given

    def batch(self, x: Floats, t: NDArray[np.generic]) -> tuple[Any, Any]:
        """Inputs and targets as the contender's own arrays (not timed)."""
        return x, t

    @abstractmethod
    def step(self, x: Any, t: Any) -> SupportsFloat:
        """Forward, backward and the optimizer's update; returns the loss before the update."""

    def gather(self, batches: list[tuple[Any, Any]]) -> Any:
        """A round's batches, from `batch`, in the form that `round` takes (not timed)."""
        return batches

    def round(self, batches: Any) -> SupportsFloat:
        """A step on each of the batches, all of it done on return; returns the last loss."""
        for x, t in batches:
            loss = self.step(x, t)
        return loss

    def parameters(self) -> list[Floats]:
        """The weights as they are now, in the workload's order and shapes."""
        return self.weights


# name -> (module of this package, the package it must find installed)
CONTENDERS = {
    "numpy": ("numpy_plain", "numpy"),
    "numpy-tuned": ("numpy_tuned", "numpy"),
    "tinygrad_np": ("tinygrad_eager", "tinygrad_np"),
    "tinygrad-compiled": ("tinygrad_compiled", "tinygrad_np"),
    "pytorch": ("torch_eager", "torch"),
    "torch-compile": ("torch_compile", "torch"),
    "jax-jit": ("jax_jit", "jax"),
    "jax-scan": ("jax_scan", "jax"),
    "mygrad": ("mygrad_eager", "mygrad"),
    "autograd": ("autograd_eager", "autograd"),
    "sklearn": ("sklearn_mlp", "sklearn"),
}


class SkippedError(Exception):
    """A contender cannot take part."""


class NotInstalledError(SkippedError):
    """The package a contender needs is not there."""


def build(name: str, workload: Workload) -> Contender:
    """The contender `name`, set up for `workload`.

    Raises
    ------
    NotInstalledError
        When its package is missing; an error inside an installed package is not hidden.
    SkippedError
        When it has no class for this kind of workload.
    """
    module, package = CONTENDERS[name]
    try:
        classes = import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise NotInstalledError(f"{name}: skipped, {package} is not installed") from error
    kind = type(workload).__name__
    if not hasattr(classes, kind):
        raise SkippedError(f"{name}: skipped, it has no {kind}")
    contender: Contender = getattr(classes, kind)(workload)
    return contender
