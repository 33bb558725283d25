"""`Sequential`: layers one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nn.module import Module
from tinygrad_np.errors import ArgumentError, message

Layer = Callable[[Any], Any]


class Sequential(Module):
    """``y = layer_n(... layer_1(x))``.

    Parameters
    ----------
    *layers : callable
        Modules, or plain functions of tensors such as ``tg.relu`` or ``np.tanh``.

    Examples
    --------
    >>> import numpy as np, nn
    >>> model = nn.Sequential(nn.Dense(4, 8, activation="relu"), nn.Dense(8, 3))
    >>> model(np.ones((2, 4))).shape
    (2, 3)
    >>> [name for name, _ in model.named_parameters()]
    ['0.W', '0.b', '1.W', '1.b']
    """

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if not callable(layer):
                raise ArgumentError(
                    message("Sequential", "layers, one after another", repr(layer),
                            "Write Sequential(*layers) for a list, and nn.ReLU() for a name.")
                )  # fmt: skip
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def members(self) -> Iterable[tuple[str, Any]]:
        """The layers by position, so that paths are ``0.W``, then what else there is."""
        yield from ((str(i), layer) for i, layer in enumerate(self.layers))
        yield from ((name, value) for name, value in super().members() if name != "layers")

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, index: int | slice) -> Any:
        """A layer; for a slice a Sequential of the same layers, which shares their parameters."""
        found = self.layers[index]
        return Sequential(*found) if isinstance(found, list) else found
