"""A model written by hand, with ``.params`` and ``.loss(X, y)``, as a `Module` that `fit` can train."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

import tinygrad_np as tg
from nn.module import Module
from tinygrad_np.errors import ArgumentError, DtypeError, IndexingError, ShapeError, message

Array = NDArray[Any]


@runtime_checkable
class HandWritten(Protocol):
    """What a model must have: ``params``, arrays by name, and ``loss``.

    ``loss(X, y)`` returns the loss and a dict of its gradients, by the names in ``params``;
    ``loss(X)``, if it is there, the scores (N, K) as they are at test time.
    """

    params: Any

    def loss(self, X: Any, y: Any) -> Any:
        """The loss and its gradients."""


@tg.primitive("{loss}")  # type: ignore[untyped-decorator]
def with_gradient(loss: Any, p: Any, gradient: Any) -> Any:
    """``y = loss``, whose gradient with respect to ``p`` somebody else has computed."""
    return loss


with_gradient.vjp(
    loss=lambda g: g,
    p=lambda g, gradient: g * gradient,
)


class ByHand(Module):
    """Holds the arrays of ``model.params`` as parameters, and takes their gradients from its loss.

    Raises
    ------
    DtypeError
        For parameters that are no floating-point arrays.
    """

    def __init__(self, model: HandWritten) -> None:
        self.model = model
        self.tensors: dict[str, tg.Tensor] = {}
        for name, value in model.params.items():
            array = np.asarray(value)
            if array.dtype.kind != "f":
                raise DtypeError(
                    message(f"{type(model).__name__}.params[{name!r}]", "a floating-point array",
                            f"{array.dtype} {array.shape}")
                )  # fmt: skip
            self.tensors[name] = tg.Tensor(array, requires_grad=True, name=name)
        parameter = list(signature(model.loss).parameters.values())[1:2]
        self.gives_scores = bool(parameter) and (
            parameter[0].default is not Parameter.empty
            or parameter[0].kind is Parameter.VAR_POSITIONAL
        )

    def members(self) -> Iterable[tuple[str, Any]]:
        """The parameters under their own names."""
        return self.tensors.items()

    def describe(self) -> str:
        return f"{type(self.model).__name__}, {super().describe()}"

    def forward(self, x: Any) -> Any:
        """The scores; in training nobody may want them, so then only when they are looked at."""
        return _Later(self, x) if self.training else self.scores(x)

    def scores(self, x: Any) -> Array:
        """``model.loss(x)``."""
        self.write_back()
        scores: Array = np.asarray(self.model.loss(x))  # type: ignore[call-arg]  # of no y
        return scores

    def loss(self, outputs: Any, y: Array) -> tg.Tensor:
        """The loss of the batch that the outputs are of; of plain scores, whether y fits them.

        Raises
        ------
        ArgumentError, ShapeError
            For what is not a loss with the gradients of all parameters.
        IndexingError
            For labels outside the classes.
        """
        if not isinstance(outputs, _Later):
            self._check_labels(outputs, y)
            return tg.Tensor(0.0)
        self.write_back()
        value, gradients = self._checked(self.model.loss(outputs.x, y))
        loss = tg.Tensor(value)
        for name, tensor in self.tensors.items():
            loss = with_gradient(loss, tensor, gradients[name])
        return loss

    def write_back(self) -> None:
        """Give the model the parameters as they are now."""
        for name, tensor in self.tensors.items():
            if self.model.params[name] is not tensor.data:
                self.model.params[name] = tensor.data

    def _checked(self, returned: Any) -> tuple[Any, dict[str, Array]]:
        name = f"{type(self.model).__name__}.loss(X, y)"
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            raise ArgumentError(message(name, "(loss, grads)", f"a {type(returned).__name__}"))
        value, given = returned
        if not isinstance(given, Mapping) or np.size(value) != 1:
            raise ArgumentError(
                message(name, "a number and a dict of gradients",
                        f"{np.shape(value)} and a {type(given).__name__}")
            )  # fmt: skip
        missing = [key for key in self.tensors if key not in given]
        if missing:
            raise ArgumentError(
                message(name, f"gradients of {', '.join(self.tensors)}",
                        f"none of {', '.join(missing)}")
            )  # fmt: skip
        gradients = {key: np.asarray(given[key]) for key in self.tensors}
        for key, gradient in gradients.items():
            if gradient.shape != self.tensors[key].shape:
                raise ShapeError(
                    message(name, f"a gradient {self.tensors[key].shape} of {key!r}",
                            f"{gradient.shape}", "tg.check_backprop names a wrong line.")
                )  # fmt: skip
        return np.reshape(value, ()), gradients

    def _check_labels(self, scores: Any, y: Array) -> None:
        if y.ndim != 1 or y.dtype.kind not in "iu" or len(scores.shape) != 2:
            return
        classes = scores.shape[1]
        if classes > 1 and not 0 <= y.min() <= y.max() < classes:
            raise IndexingError(
                message(f"fit: y for {type(self.model).__name__}", f"labels in 0 ... {classes - 1} "
                        f"for {classes} scores", f"{y.min()} ... {y.max()}")
            )  # fmt: skip


@dataclass
class _Later:
    """The scores of a batch, computed when they become an array."""

    module: ByHand
    x: Any

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self.module.scores(self.x), dtype)


def as_module(operation: str, model: Any) -> Module:
    """The model itself, or one written by hand as a module.

    Raises
    ------
    DtypeError
        For what is neither.
    """
    if isinstance(model, Module):
        return model
    if isinstance(model, HandWritten) and isinstance(model.params, Mapping):
        return ByHand(model)
    raise DtypeError(
        message(operation, "an nn.Module, or a model with .params, a dict of arrays, and "
                ".loss(X, y)", f"a {type(model).__name__}")
    )  # fmt: skip


@contextmanager
def written_back(model: Module) -> Iterator[None]:
    """Leave a model that was written by hand with the parameters that it has at the end."""
    try:
        yield
    finally:
        if isinstance(model, ByHand):
            model.write_back()
