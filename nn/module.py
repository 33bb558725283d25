"""`Module`: anything that holds parameters and computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError, DtypeError, message

if TYPE_CHECKING:
    from nn.summary import Summary

Array = NDArray[Any]


def _no_forward(self: Module, *args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(f"{type(self).__name__} defines no forward(self, ...).")


class Module:
    """Parameters, and a `forward` that computes with them: the base of every layer, loss and model.

    A subclass sets attributes and defines ``forward``; calling the module calls it. There is
    nothing to register and no ``super().__init__()`` to call: what a module holds is found by
    walking its attributes in the order of their definition, through modules, lists, tuples and
    dicts. A tensor there is part of the module's state: a parameter if it requires a gradient, else
    a buffer, such as a running mean. A plain array is neither, nor is the result of an operation;
    but results computed under ``no_grad`` look like buffers, so of those keep the ``.data``.

    Attributes
    ----------
    training : bool
        What `train` and `eval` set, for layers that behave differently when they are trained.

    Notes
    -----
    A parameter without a name takes its path (``0.W``) as its ``.name`` when the model is first
    called, or when the parameters are listed: early enough for drawings, derived code and
    messages, and only then is the path known. A name that is the end of the path is completed; any
    other is the user's, and stays.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg, nn
    >>> class Line(nn.Module):
    ...     def __init__(self):
    ...         self.slope = tg.Tensor(2.0, requires_grad=True)
    ...         self.offset = tg.Tensor(1.0, requires_grad=True)
    ...
    ...     def forward(self, x):
    ...         return x * self.slope + self.offset
    >>> line = Line()
    >>> line(np.array([0.0, 1.0])).data
    array([1., 3.])
    >>> [name for name, _ in line.named_parameters()]
    ['slope', 'offset']
    >>> nn.Sequential(line, line)
    Sequential(
      0: Line(slope (), offset ())
      1: Line(slope (), offset ())
    )
    """

    notes_changes: ClassVar[bool] = True
    """Whether setting an attribute is told to compiled steps."""
    training: bool = True
    forward: Callable[..., Any] = _no_forward
    _named: bool = False
    _path: str = ""  # within the model that was called, for messages

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; that it has changed is told to compiled steps, which may have read it."""
        # Before the first call attributes are new because the module is.
        before = getattr(self, name, None if self._named else value)
        object.__setattr__(self, name, value)
        if name != "_named" and _key(before) != _key(value):
            tg.note_change((id(self), name), _key(before), _key(value))

    def __delattr__(self, name: str) -> None:
        before = getattr(self, name, None)
        object.__delattr__(self, name)
        tg.note_change((id(self), name), _key(before), _key(None))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._named:
            return self._first_call(*args, **kwargs)
        return self.forward(*args, **kwargs)

    def _first_call(self, *args: Any, **kwargs: Any) -> Any:
        # Before the call, since its errors quote the names; and after it, for layers that made
        # their parameters in it.
        self._name_tensors()
        outputs = self.forward(*args, **kwargs)
        self._name_tensors()
        self._named = True
        return outputs

    def _name_tensors(self) -> None:
        for path, found in _walk(self):
            if isinstance(found, Module):
                if path.endswith(found._path):
                    found._path = path
            elif found.is_leaf and (found.name is None or path.endswith(f".{found.name}")):
                found.name = path

    # -- what it holds -----------------------------------------------------------------------------

    def members(self) -> Iterable[tuple[str, Any]]:
        """Names and values among which tensors and modules are looked for."""
        return vars(self).items()

    def named_modules(self) -> list[tuple[str, Module]]:
        """This module, under ``""``, and all within it, each once, with their paths."""
        return [(path, found) for path, found in _walk(self) if isinstance(found, Module)]

    def _tensors(self) -> list[tuple[str, tg.Tensor]]:
        return [
            (path, found) for path, found in _walk(self)
            if isinstance(found, tg.Tensor) and found.is_leaf
        ]  # fmt: skip

    @property
    def built(self) -> bool:
        """Whether all its own parameters exist; a layer may wait for its first batch."""
        return True

    def _state(self, operation: str) -> list[tuple[str, tg.Tensor]]:
        """All tensors with their paths; refused while some do not exist yet."""
        for path, module in self.named_modules():
            if not module.built:
                raise ArgumentError(
                    message(operation, "a model whose layers all have their parameters",
                            f"{module!r} at {path!r}, which waits for its first batch",
                            "Call the model on a batch first, or give the layer its input size.")
                )  # fmt: skip
        self._name_tensors()
        return self._tensors()

    def named_parameters(self) -> list[tuple[str, tg.Tensor]]:
        """Paths, such as ``0.W``, and tensors that require a gradient, in definition order.

        A tensor that is held in several places is listed once, under its first path.

        Raises
        ------
        ArgumentError
            If a layer has not seen the batch it takes its input size from.
        """
        tensors = self._state("named_parameters")
        return [(path, tensor) for path, tensor in tensors if tensor.requires_grad]

    def named_buffers(self) -> list[tuple[str, tg.Tensor]]:
        """Paths and tensors that need no gradient, as in `named_parameters`."""
        tensors = self._state("named_buffers")
        return [(path, tensor) for path, tensor in tensors if not tensor.requires_grad]

    def parameters(self) -> list[tg.Tensor]:
        """The tensors that require a gradient, as in `named_parameters`."""
        return [tensor for _, tensor in self.named_parameters()]

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, by path."""
        return {path: tensor.data.copy() for path, tensor in self._state("state_dict")}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Set all parameters and buffers to the arrays of `state`, in their own dtypes.

        Raises
        ------
        ArgumentError
            For missing or unexpected paths, other shapes, or dtypes that do not convert; all are
            listed, and nothing is changed.
        """
        own = dict(self._state("load_state_dict"))
        given = {path: np.asarray(value) for path, value in state.items()}
        check_state("load_state_dict", own, given, self)
        # All are converted before the first is set: there may not be memory for them.
        converted = {path: given[path].astype(tensor.dtype) for path, tensor in own.items()}
        for path, tensor in own.items():
            tensor.data = converted[path]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    # -- mode --------------------------------------------------------------------------------------

    def train(self, training: bool = True) -> Self:
        """Set `training` here and in every module within."""
        for _, module in self.named_modules():
            module.training = training
        return self

    def eval(self) -> Self:
        """Set `training` to False here and in every module within."""
        return self.train(False)

    def astype(self, dtype: DTypeLike) -> Self:
        """Convert all floating-point parameters and buffers, and what layers convert batches to.

        The tensors are new ones, without gradients: give an optimizer the new `parameters`.

        Parameters
        ----------
        dtype : dtype
            A floating-point one.

        Raises
        ------
        DtypeError
            For another kind of dtype.

        Examples
        --------
        >>> import nn
        >>> nn.Dense(2, 3).astype("float64").W.dtype
        dtype('float64')
        """
        target = np.dtype(dtype)
        if target.kind != "f":
            raise DtypeError(message("astype", "a floating-point dtype", f"{target}"))
        before = [tensor for _, tensor in self._tensors() if tensor.dtype.kind == "f"]
        cast = {
            id(t): tg.Tensor(t.data, requires_grad=t.requires_grad, dtype=target, name=t.name)
            for t in before
        }
        for _, module in self.named_modules():
            for name, value in vars(module).items():
                vars(module)[name] = _replaced(value, cast)
            if hasattr(module, "dtype"):
                module.dtype = target
        return self

    # -- how it looks ------------------------------------------------------------------------------

    def describe(self) -> str:
        """The arguments in the repr; by default the module's own tensors and their shapes."""
        own = [(name, value) for name, value in self.members() if isinstance(value, tg.Tensor)]
        return ", ".join(f"{name} {tensor.shape}" for name, tensor in own)

    def __repr__(self) -> str:
        return _drawn(self, ())

    def multiply_adds(self, y: Any, *args: Any, **kwargs: Any) -> int | None:
        """How many multiplications, each with an addition (MACs), a call of `forward` takes.

        Layers override it with the count that their formula gives, without that of the modules
        within, so that `summary` can tell.

        Parameters
        ----------
        y : tuple of int
            The shape of the result.
        *args, **kwargs
            What `forward` takes, with the shape of each array in its place.

        Returns
        -------
        int or None
            None where it is not known, as by default.

        Examples
        --------
        >>> import nn
        >>> nn.Dense(784, 10).multiply_adds((32, 10), (32, 784))
        250880
        """
        return None

    def summary(self, batch: Any = None) -> Summary:
        """A table of layers: output shapes, parameters, bytes and multiply-adds.

        Parameters
        ----------
        batch : array_like (N, ...) or tuple of int, optional
            A batch to compute the output shapes with, or the shape of one of its rows.

        Returns
        -------
        nn.summary.Summary

        Examples
        --------
        >>> import nn
        >>> nn.Sequential(nn.Dense(4, 6, activation="relu"), nn.Dense(3)).summary((4,))
        layer  kind                            output  params  bytes  MACs
        ------------------------------------------------------------------
        0      Dense(4, 6, activation='relu')  (N, 6)      30  120 B    24
        1      Dense(6, 3)                     (N, 3)      21   84 B    18
        ------------------------------------------------------------------
        51 parameters, 204 bytes
        42 multiply-adds (MACs) for each row
        """
        from nn.summary import summary

        return summary(self, batch)


def _key(value: Any) -> Any:
    """What tells a value of an attribute from another."""
    return value if type(value) in (bool, int, float, str) else id(value)


def _walk(value: Any, path: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Every tensor and module that `value` is or holds, once, with its path."""
    children: Iterable[tuple[Any, Any]]
    match value:
        case Module():
            children = value.members()
        case dict():
            children = value.items()
        case list() | tuple():
            children = enumerate(value)
        case tg.Tensor():
            children = ()
        case _:
            return
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Module | tg.Tensor):
        yield path, value
    for name, child in children:
        yield from _walk(child, f"{path}.{name}" if path else str(name), seen)


def _replaced(value: Any, tensors: Mapping[int, tg.Tensor]) -> Any:
    """The value of an attribute, with other tensors in the places of those whose ids are given."""
    match value:
        case tg.Tensor():
            return tensors.get(id(value), value)
        case dict():
            value.update({key: _replaced(one, tensors) for key, one in value.items()})
        case list():
            value[:] = [_replaced(one, tensors) for one in value]
        case tuple() if any(isinstance(one, tg.Tensor) for one in value):
            return tuple(_replaced(one, tensors) for one in value)
    return value


def _drawn(module: Module, above: tuple[Module, ...]) -> str:
    """The repr, which a module that holds one of those `above` it does not repeat."""
    arguments = module.describe()
    lines = []
    for name, child in submodules(module.members()):
        text = "..." if child is module or child in above else _drawn(child, (*above, module))
        lines.append(f"{name}: {text}".replace("\n", "\n  "))
    inside = "\n  ".join([arguments, *lines]) + "\n" if lines else arguments
    return f"{type(module).__name__}({inside})"


def submodules(
    members: Iterable[tuple[Any, Any]], prefix: str = ""
) -> Iterator[tuple[str, Module]]:
    """The modules directly held, those in lists and dicts included."""
    for name, value in members:
        match value:
            case Module():
                yield f"{prefix}{name}", value
            case dict():
                yield from submodules(value.items(), f"{prefix}{name}.")
            case list() | tuple():
                yield from submodules(enumerate(value), f"{prefix}{name}.")


def check_state(
    operation: str, own: Mapping[str, Any], given: Mapping[str, Array], model: Module
) -> None:
    """Raise unless a state has the names, the shapes and the kinds of dtypes of a model's own.

    Raises
    ------
    ArgumentError
        With all differences.
    """
    both = own.keys() & given.keys()
    differences = {
        "missing": [f"{path} {own[path].shape}" for path in own if path not in both],
        "unexpected": [f"{path} {given[path].shape}" for path in given if path not in both],
        "of another shape": [
            f"{path} {given[path].shape} for {own[path].shape}"
            for path in own
            if path in both and given[path].shape != own[path].shape
        ],
        "of another kind": [
            f"{path} {given[path].dtype} for {own[path].dtype}"
            for path in own
            if path in both and not np.can_cast(given[path].dtype, own[path].dtype, "same_kind")
        ],
    }
    if any(differences.values()):
        lines = [f"  {kind}: {_some(found)}" for kind, found in differences.items() if found]
        head = f"{operation}: the state is not that of this model, which stays as it was."
        raise ArgumentError("\n".join([head, *lines, repr(model)]))


def _some(items: list[str], most: int = 8) -> str:
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """Train or evaluate inside; afterwards every module is in the mode it was in."""
    before = [(module, module.training) for _, module in model.named_modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


def as_operand(value: Any, dtype: DTypeLike, operation: str) -> Any:
    """What meets parameters of `dtype`: an array in that dtype, a Tensor as it is.

    This is the one place where `nn` converts dtypes. NumPy makes float64 where nobody asked for it,
    and a float64 batch would turn a float32 model's whole step into float64, at twice the time; so
    plain arrays follow the model. Who makes a Tensor has chosen its dtype.

    Raises
    ------
    DtypeError
        As `as_array`.
    """
    if isinstance(value, tg.Tensor):
        return value
    array = as_array(value, operation)
    # By the operation, so that a compiled step converts every batch.
    return array if array.dtype == dtype else tg.astype(array, dtype)


def as_array(value: Any, operation: str) -> Array:
    """An array of real numbers.

    Raises
    ------
    DtypeError
        For anything else.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        got = f"{type(value).__name__}: {error}"
        raise DtypeError(message(operation, "numbers in rows of equal length", got)) from error
    if array.dtype.kind not in "fiub":
        raise DtypeError(
            message(operation, "real numbers", f"dtype {array.dtype}", "Convert them first.")
        )
    return array
