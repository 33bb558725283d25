"""What layers with parameters share: initial values, dtypes, and the wait for the first batch."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_np as tg
from nn.init import Array, Generator, Initializer, Rng, Shape, of_bias
from nn.module import Module, as_array, as_operand
from tinygrad_np.errors import ArgumentError, ShapeError, TensorError, message

Axes = tuple[str | int, ...]


class Layer(Module):
    """A module with parameters of its own, which may wait for the first batch to know their shapes.

    Attributes
    ----------
    rng : numpy.random.Generator, int or None
        What the initial values are drawn from; None for the generator that `nn.seed` sets.
    dtype : dtype
        Of the parameters; plain batches are converted to it.
    """

    rng: Rng
    dtype: np.dtype[Any]

    def _build(self, features: int) -> None:
        """Make the parameters for the number of features that a batch has."""
        raise NotImplementedError

    def _drawn(
        self, option: str, shape: Shape, rng: Generator, weights: Shape | None = None
    ) -> Array:
        """Initial values by the initialiser of an option; with the fans of the weights, if given."""
        init: Initializer = getattr(self, option)
        init = init if weights is None else of_bias(init, weights)
        values = np.asarray(init(shape, rng, self.dtype), self.dtype)
        if values.shape != shape:
            raise ShapeError(message(repr(self), f"{shape} from {option}", f"{values.shape}"))
        return values

    def _parameter(
        self, option: str, shape: Shape, rng: Generator, weights: Shape | None = None
    ) -> tg.Tensor:
        return tg.Tensor(self._drawn(option, shape, rng, weights), requires_grad=True)

    def _operand(self, x: Any, *axes: str | int) -> Any:
        """A batch in the layer's dtype; see `checked` for the axes."""
        return checked(self, as_operand(x, self.dtype, type(self).__name__), *axes)

    def _ready(self, x: Any, axis: int) -> None:
        """Build for the features of the first batch."""
        if self.built:
            return
        if x.shape[axis] == 0:
            raise ShapeError(message(repr(self), "a first batch with features", f"{x.shape}"))
        self._build(x.shape[axis])


def checked(layer: Module, x: Any, *axes: str | int) -> Any:
    """An array or tensor that has these axes: a number is a length, a name any, "..." any axes.

    Raises
    ------
    ShapeError
        For others, with the layer, its shape and the likely fix.
    """
    x = x if isinstance(x, tg.Tensor) else as_array(x, type(layer).__name__)
    shape = x.shape
    if _fit(shape, axes):
        return x
    fix = ""
    if _fit((1, *shape), axes):
        fix = "Did you mean x[None], a batch of one?"
    elif len(shape) > 2 and _fit((shape[0], shape[-1], *shape[1:-1]), axes):
        fix = "Did you mean np.moveaxis(x, -1, 1)?"
    expected = f"x ({', '.join(map(str, axes))})"
    raise ShapeError(message(label(layer), expected, f"{shape}", fix))


def _fit(shape: Shape, axes: Axes) -> bool:
    if "..." in axes:
        at = axes.index("...")
        more = len(shape) - len(axes) + 1
        if more < 0:
            return False
        axes = (*axes[:at], *["any"] * more, *axes[at + 1 :])
    return len(shape) == len(axes) and all(
        type(length) is str or length == n for n, length in zip(shape, axes)
    )


def label(layer: Module) -> str:
    """The layer as messages name it: its kind, its options and, once known, its first parameter.

    One without parameters is named by its path.
    """
    name = next((tensor.name for _, tensor in layer._tensors()), None)
    text = f"{type(layer).__name__}({layer.describe()})"
    if name is not None:
        return f"{text} with weights {name!r}"
    return f"{text} at {layer._path!r}" if layer._path else text


def explained(layer: Module, error: TensorError) -> TensorError:
    """The error of an operation, as one of the layer that called it."""
    return type(error)(f"{label(layer)}: {error}")


def divisible(name: str, parts: str, count: Any, of: str, n: int | None) -> None:
    """Raise unless ``count`` is a whole number of at least 1 that divides ``n``, if that is known.

    Raises
    ------
    ArgumentError
        Otherwise.
    """
    if not isinstance(count, int | np.integer) or count < 1 or (n or 0) % count:
        expected = f"{parts} that divide the {n} {of}" if n else f"{parts} of at least 1"
        raise ArgumentError(message(name, expected, f"{parts}={count!r}"))
