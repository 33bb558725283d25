"""Weights as PyTorch names them and lays them out, both ways.

What differs between a layer and its counterpart in ``torch.nn`` is the table `LAYOUTS`; nothing here
needs PyTorch, whose tensors come and go as arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinygrad_np as tg
from nn.layers.attention import MultiHeadAttention, TransformerBlock
from nn.layers.container import Sequential
from nn.layers.convolution import Convolution
from nn.layers.dense import Dense
from nn.layers.embedding import Embedding
from nn.layers.normalization import BatchNorm, Normalization
from nn.layers.recurrent import Recurrent
from nn.layers.sparse import SparseDense
from nn.module import Module, check_state
from tinygrad_np.errors import ArgumentError, DtypeError, message

Array = NDArray[Any]


class Row(NamedTuple):
    """An array of PyTorch: its name, and the tensors of ours that it is made of, one after another."""

    name: str
    ours: tuple[str, ...]
    transposed: bool = False
    always: bool = False  # also where there is none here


AFFINE = [Row("weight", ("weight",)), Row("bias", ("bias",))]
LAYOUTS: dict[type[Module], list[Row]] = {
    Dense: [Row("weight", ("W",), transposed=True), Row("bias", ("b",))],
    Convolution: [Row("weight", ("W",)), Row("bias", ("b",))],
    Embedding: [Row("weight", ("W",))],
    Normalization: AFFINE,
    BatchNorm: [
        *AFFINE,
        Row("running_mean", ("running_mean",)),
        Row("running_var", ("running_var",)),
        Row("num_batches_tracked", ("batches",), always=True),
    ],
    Recurrent: [
        Row("weight_ih_l0", ("W_x",), transposed=True),
        Row("weight_hh_l0", ("W_h",), transposed=True),
        Row("bias_ih_l0", ("b_x",)),
        Row("bias_hh_l0", ("b_h",)),
    ],
    MultiHeadAttention: [
        Row("in_proj_weight", ("q.W", "k.W", "v.W"), transposed=True),
        Row("in_proj_bias", ("q.b", "k.b", "v.b")),
        Row("out_proj.weight", ("out.W",), transposed=True),
        Row("out_proj.bias", ("out.b",)),
    ],
}
# Modules within a layer that PyTorch's counterpart calls otherwise.
RENAMED: dict[type[Module], dict[str, str]] = {
    TransformerBlock: {"attention": "self_attn", "mlp.0": "linear1", "mlp.1": "linear2"},
}


def torch_state_dict(model: Module, names: Mapping[str, str] | None = None) -> dict[str, Array]:
    """The parameters and buffers under the names and in the layouts of PyTorch.

    Parameters
    ----------
    model : Module
        All of whose layers have their parameters.
    names : dict, optional
        For modules that the PyTorch model calls otherwise: path here to path there
        (``{"features.0": "encoder.conv1"}``). ``""`` is the model itself.

    Returns
    -------
    dict of str to ndarray
        Copies. ``twin.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})``.

    Raises
    ------
    ArgumentError
        For a layer that PyTorch has no counterpart of, a layer that still waits for its first batch,
        or a path in ``names`` that there is not.

    Notes
    -----
    `Dense` is ``Linear``, `TransformerBlock` is ``TransformerEncoderLayer``, and all others are
    called there as here, with 1d, 2d or 3d behind `BatchNorm`. Modules keep their paths, and so do
    tensors that a module of yours holds itself. In a `Sequential` a layer with an ``activation``
    takes two places, since PyTorch has a module for each: ``Sequential(Dense(4, 8,
    activation="relu"), Dense(8, 3))`` gives ``0.weight`` and ``2.weight``. A tensor held in two
    places is there under both names, as in PyTorch. `Residual` has no counterpart there; the names
    are those of a ``Sequential``.

    Examples
    --------
    >>> import nn
    >>> model = nn.Sequential(nn.Dense(4, 8, activation="relu"), nn.LSTM(8, 3))
    >>> for name, array in nn.torch_state_dict(model).items():
    ...     print(name, array.shape)
    0.weight (8, 4)
    0.bias (8,)
    2.weight_ih_l0 (12, 8)
    2.weight_hh_l0 (12, 3)
    2.bias_ih_l0 (12,)
    2.bias_hh_l0 (12,)
    """
    return {entry.name: entry.array() for entry in _entries("torch_state_dict", model, names)}


def load_torch_state_dict(
    model: Module, state: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> None:
    """Set all parameters and buffers to those of a PyTorch model.

    Parameters
    ----------
    model : Module
        All of whose layers have their parameters.
    state : dict of str to array_like
        What ``twin.state_dict()``, ``torch.load`` or ``safetensors.numpy.load_file`` gave: tensors of
        PyTorch or arrays. They are copied, and take the dtypes of the model.
    names : dict, optional
        As for `torch_state_dict`, whose notes say what is called how.

    Raises
    ------
    ArgumentError
        For missing or unexpected names, other shapes, or dtypes that do not convert; all are listed,
        and nothing is changed. For one tensor that the state gives two values, and as
        `torch_state_dict`.
    DtypeError
        For a tensor with a dtype that NumPy does not have (bfloat16).

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.Dense(2, 1)
    >>> nn.load_torch_state_dict(layer, {"weight": np.array([[3.0, 4.0]]), "bias": np.zeros(1)})
    >>> layer.W.data
    array([[3.],
           [4.]], dtype=float32)
    """
    operation = "load_torch_state_dict"
    given = {name: _array(operation, name, value) for name, value in state.items()}
    entries = list(_entries(operation, model, names))
    found = {id(tensor) for entry in entries if entry.name in given for tensor in entry.tensors}
    expected = {
        entry.name: entry.array()
        for entry in entries
        # What PyTorch alone counts may be missing, and so may a second name of the same tensors.
        if entry.name in given or any([id(tensor) not in found for tensor in entry.tensors])
    }
    try:
        check_state(operation, expected, given, model)
    except ArgumentError as error:
        error.add_note(
            "A layer with an activation takes two places of a Sequential in PyTorch. For modules that "
            'are called otherwise there: names={"path here": "path there"}.'
        )
        raise
    values: dict[int, tuple[tg.Tensor, Array, str]] = {}
    for entry in entries:
        for tensor, part in entry.parts(given):
            known = values.setdefault(id(tensor), (tensor, part, entry.name))
            if not np.array_equal(known[1], part, equal_nan=part.dtype.kind == "f"):
                expected_one = f"equal values for {known[2]} and {entry.name}, one tensor here"
                raise ArgumentError(
                    message(operation, expected_one, "different ones; the model stays as it was")
                )
    for tensor, part, _ in values.values():
        tensor.data = part


@dataclass(frozen=True)
class Entry:
    """An array of PyTorch, and the tensors here that it is made of."""

    name: str
    tensors: tuple[tg.Tensor, ...]
    transposed: bool = False

    def array(self) -> Array:
        """Those of the tensors, as PyTorch lays them out."""
        if not self.tensors:
            return np.array(0)
        parts = [tensor.data.T if self.transposed else tensor.data for tensor in self.tensors]
        if len(parts) == 1:
            return parts[0].copy(order="C")
        return np.concatenate(parts)

    def parts(self, given: Mapping[str, Array]) -> list[tuple[tg.Tensor, Array]]:
        """The tensors, each with its copy of what is given for it."""
        if self.name not in given or not self.tensors:
            return []
        whole = given[self.name]
        parts = np.split(whole, len(self.tensors)) if len(self.tensors) > 1 else [whole]
        return [
            (tensor, np.array(part.T if self.transposed else part, tensor.dtype, order="C"))
            for tensor, part in zip(self.tensors, parts, strict=True)
        ]


def _entries(operation: str, model: Module, names: Mapping[str, str] | None) -> Iterator[Entry]:
    model._state(operation)  # refuses a model that is not complete
    names = dict(names or {})
    paths = dict(model.named_modules())
    for path in names.keys() - paths.keys():
        near = get_close_matches(path, paths, n=3, cutoff=0.3)
        fix = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ArgumentError(message(operation, "paths of modules in names", repr(path), fix))
    yield from _Walk(operation, names).of(model, "", "")


class _Walk:
    """All entries of a model, in the order of definition."""

    def __init__(self, operation: str, names: dict[str, str]) -> None:
        self.operation, self.names = operation, names
        self.above: list[Any] = []

    def of(self, value: Any, ours: str, theirs: str) -> Iterator[Entry]:
        """Those of a module, of a tensor, or of what a list or dict holds; with both its paths."""
        if any([value is one for one in self.above]):
            return
        self.above.append(value)
        match value:
            case Module():
                yield from self.of_module(value, ours, self.names.get(ours, theirs))
            case dict():
                yield from self.of_members(value.items(), ours, theirs)
            case list() | tuple():
                yield from self.of_members(enumerate(value), ours, theirs)
            case tg.Tensor() if value.is_leaf:
                yield Entry(theirs, (value,))
        self.above.pop()

    def of_module(self, module: Module, ours: str, theirs: str) -> Iterator[Entry]:
        if isinstance(module, SparseDense):
            raise ArgumentError(
                message(self.operation, "layers that PyTorch has, too", f"{module!r} at {ours!r}")
            )
        rows: list[Row] = _of_kind(LAYOUTS, module, [])
        for row in rows:
            named = [attrgetter(name)(module) for name in row.ours]
            tensors = tuple([tensor for tensor in named if tensor is not None])
            if len(tensors) == len(named) or row.always:
                yield Entry(_joined(theirs, row.name), tensors, row.transposed)
        known = {name.partition(".")[0] for row in rows for name in row.ours}
        members = [(name, value) for name, value in module.members() if name not in known]
        inner = _of_kind(RENAMED, module, {})
        before = self.names
        self.names = {_joined(ours, a): _joined(theirs, b) for a, b in inner.items()} | before
        yield from self.of_members(members, ours, theirs, _places(module))
        self.names = before

    def of_members(
        self,
        members: Iterable[tuple[Any, Any]],
        ours: str,
        theirs: str,
        places: Mapping[str, str] | None = None,
    ) -> Iterator[Entry]:
        for name, value in members:
            there = (places or {}).get(name, name)
            yield from self.of(value, _joined(ours, name), _joined(theirs, there))


def _places(module: Module) -> dict[str, str]:
    """Where PyTorch has the layers of a Sequential: behind those with an activation is one more."""
    if not isinstance(module, Sequential):
        return {}
    found, place = {}, 0
    for i, layer in enumerate(module):
        found[str(i)] = str(place)
        fused = isinstance(layer, Dense | Convolution) and layer.activation is not None
        place += 2 if fused else 1
    return found


def _of_kind(table: Mapping[type[Module], Any], module: Module, default: Any) -> Any:
    """What a table says of the class of a module, or of the nearest class above it."""
    return next((table[kind] for kind in type(module).__mro__ if kind in table), default)


def _joined(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _array(operation: str, name: str, value: Any) -> Array:
    """An array of ours, of PyTorch's, or of NumPy."""
    if isinstance(value, tg.Tensor):
        return value.data
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except TypeError as error:
        fix = "Convert it first: tensor.float()."
        raise DtypeError(
            message(operation, "dtypes that NumPy has", f"{name} of {value.dtype}", fix)
        ) from error
