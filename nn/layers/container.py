"""Modules that hold others: one after another, by number, by name."""

from __future__ import annotations

from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableSequence,
    ValuesView,
)
from typing import Any

import numpy as np

from nn.layers.layer import label
from nn.module import Module
from tinygrad_np.errors import ArgumentError, ShapeError, message

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


class Residual(Sequential):
    """``y = x + layer_n(... layer_1(x))``.

    Parameters
    ----------
    *layers : callable
        As for `Sequential`.

    Raises
    ------
    ShapeError
        When called, if the layers change the shape.

    References
    ----------
    K. He et al., "Deep residual learning for image recognition", 2015, equation 1.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.Residual(np.square)(np.array([1.0, 2.0, 3.0]))
    array([ 2.,  6., 12.])
    """

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        if np.shape(y) != np.shape(x):
            raise ShapeError(
                message(label(self), f"layers that keep the shape of x, {np.shape(x)}",
                        f"{np.shape(y)}")
            )  # fmt: skip
        return x + y


class ModuleList(Module, MutableSequence[Module]):
    """A list of modules; a plain list in an attribute is found as well.

    Parameters
    ----------
    modules : iterable of Module

    Raises
    ------
    ArgumentError
        For what is no module.

    Examples
    --------
    >>> import nn
    >>> blocks = nn.ModuleList(nn.Dense(4, 4) for _ in range(2))
    >>> blocks.append(nn.Dense(4, 1, bias=False))
    >>> [name for name, _ in blocks.named_parameters()]
    ['0.W', '0.b', '1.W', '1.b', '2.W']
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.modules = [_module("ModuleList", module) for module in modules]

    def members(self) -> Iterable[tuple[str, Any]]:
        yield from ((str(i), module) for i, module in enumerate(self.modules))
        yield from ((name, value) for name, value in super().members() if name != "modules")

    def __len__(self) -> int:
        return len(self.modules)

    def __getitem__(self, index: Any) -> Any:
        return self.modules[index]

    def __setitem__(self, index: Any, module: Any) -> None:
        self.modules[index] = _module("ModuleList", module)

    def __delitem__(self, index: Any) -> None:
        del self.modules[index]

    def insert(self, index: int, value: Module) -> None:
        """Put a module before the one at an index."""
        self.modules.insert(index, _module("ModuleList", value))


class ModuleDict(Module):
    """Modules by name; a plain dict in an attribute is found as well.

    Parameters
    ----------
    modules : mapping of str to Module

    Raises
    ------
    ArgumentError
        For what is no module.

    Examples
    --------
    >>> import nn
    >>> heads = nn.ModuleDict({"digit": nn.Dense(4, 10)})
    >>> heads["colour"] = nn.Dense(4, 3)
    >>> [name for name, _ in heads.named_parameters()]
    ['digit.W', 'digit.b', 'colour.W', 'colour.b']
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.modules = {
            name: _module("ModuleDict", module) for name, module in (modules or {}).items()
        }

    def members(self) -> Iterable[tuple[str, Any]]:
        yield from self.modules.items()
        yield from ((name, value) for name, value in super().members() if name != "modules")

    def __len__(self) -> int:
        return len(self.modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __getitem__(self, name: str) -> Module:
        return self.modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.modules[name] = _module("ModuleDict", module)

    def __delitem__(self, name: str) -> None:
        del self.modules[name]

    def keys(self) -> KeysView[str]:
        """The names."""
        return self.modules.keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return self.modules.values()

    def items(self) -> ItemsView[str, Module]:
        """Names and modules."""
        return self.modules.items()


def _module(kind: str, given: Any) -> Module:
    if not isinstance(given, Module):
        raise ArgumentError(message(kind, "modules", f"{given!r:.40}"))
    return given
