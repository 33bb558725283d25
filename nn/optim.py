"""Optimizers: each algorithm is its options, its coefficients, and an in-place `update` of arrays.

`Optimizer` does the rest. Small parameters lie one after another in one flat array, so that a step
of many of them is a few calls of NumPy; large ones are updated in pieces that stay in the cache
while the formula passes over them. What a formula needs of numbers comes as 0-d arrays of the
parameters' dtype, which NumPy need not convert.

Moving averages ``m = beta m + (1 - beta) g`` are kept divided by ``1 - beta``: ``m = beta m + g``
is a pass less. The factor is part of a later coefficient, and `Optimizer.states` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from itertools import count, pairwise
from math import inf, sqrt
from operator import is_
from types import NoneType
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nn.names import near
from tinygrad_np import Tensor, astype, each_time, no_grad, note_change, on_arrays
from tinygrad_np.errors import (
    ArgumentError,
    DtypeError,
    GradientError,
    NonFiniteError,
    ShapeError,
    message,
)

__all__ = [
    "LBFGS", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "Lion", "NAdam", "Optimizer",
    "RAdam", "RMSProp", "clip_norm", "clip_value",
]  # fmt: skip

Array = NDArray[Any]
Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]

add, subtract, multiply, divide = np.add, np.subtract, np.multiply, np.divide

# Bytes: five arrays of this size (p, g, two states, scratch) stay within a core's share of the
# last cache. Measured with 32-bit floats: with a quarter of it calls cost up to 15 % more.
PIECE: Final = 2**19
# Elements: from here on copying a gradient costs more than the calls that packing saves.
LARGE: Final = 2**16
# A number for each time that blocks were laid out anew.
LAYOUTS: Final = count(1)


# --------------------------------------------------------------------------------------------------
# Packing
# --------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A parameter with its state: numbers (the steps ``t``) and arrays of its shape."""

    param: Tensor
    numbers: dict[str, float]
    arrays: dict[str, Array]


class Block:
    """Parameters of one dtype that have taken the same steps, as one flat array.

    ``scratch`` holds three rows that all blocks of an optimizer share.
    """

    def __init__(self, entries: list[Entry], names: Iterable[str], scratch: Array) -> None:
        self.params = [entry.param for entry in entries]
        self.numbers = dict(entries[0].numbers)
        ends = np.cumsum([p.size for p in self.params])
        size, dtype = int(ends[-1]), self.params[0].dtype
        flat = np.empty(size, dtype)
        self.views = self.unpack(flat)
        self.states = {
            name: np.concatenate([_flat_state(entry, name) for entry in entries]) for name in names
        }
        cuts = range(scratch.shape[1], size, scratch.shape[1])
        bounds = [0, *cuts, size]
        self.slices = [slice(*pair) for pair in pairwise(bounds)]
        self.pieces = [
            (flat[s], *scratch[:, : s.stop - s.start], {k: v[s] for k, v in self.states.items()})
            for s in self.slices
        ]
        self.gathered = None if size >= LARGE and len(entries) == 1 else np.empty(size, dtype)
        self.gathered_pieces = [] if self.gathered is None else np.split(self.gathered, cuts)
        self.options: object = None  # those that the values were computed with
        self.values: tuple[float, ...] = ()
        self.constants: list[Array] = []

    def unpack(self, flat: Array) -> list[Array]:
        """The views of a flat array that have the parameters' shapes."""
        parts = np.split(flat, np.cumsum([p.size for p in self.params])[:-1])
        return [part.reshape(p.shape) for part, p in zip(parts, self.params)]

    def entries(self) -> list[Entry]:
        states = {name: self.unpack(flat) for name, flat in self.states.items()}
        return [
            Entry(p, dict(self.numbers), {name: parts[i] for name, parts in states.items()})
            for i, p in enumerate(self.params)
        ]

    def adopt(self) -> None:
        """Make each parameter's data our view, with its present values, and mark it as changed."""
        for p, view in zip(self.params, self.views):
            if p.data is not view:
                view[...] = p.data
            p.data = view

    def gather(self, grads: list[Array]) -> list[Array]:
        """The gradients in pieces."""
        if self.gathered is None:
            flat = grads[0].reshape(-1)
            return [flat[s] for s in self.slices]
        on_arrays(joined, grads, self.gathered)
        return self.gathered_pieces

    def ready(self, values: tuple[float, ...]) -> list[Array]:
        """Numbers as 0-d arrays of the block's dtype, always the same ones."""
        if values != self.values:
            if not self.constants:
                self.buffer = np.empty(len(values), self.params[0].dtype)
                self.constants = [self.buffer[i, ...] for i in range(len(values))]
            self.buffer[:] = values
            self.values = values
        return self.constants


def joined(arrays: list[Array], out: Array) -> None:
    """The arrays, one after another, in a flat one."""
    np.concatenate([array.ravel() for array in arrays], out=out)


def shrink(p: Array, weight: Array) -> None:
    """``p = weight p``, in place."""
    multiply(p, weight, out=p)


def penalized(p: Array, g: Array, weight: Array, decayed: Array) -> Array:
    """``g + weight p``, in ``decayed``."""
    return add(multiply(p, weight, out=decayed), g, out=decayed)


def _flat_state(entry: Entry, name: str) -> Array:
    array = entry.arrays.get(name)
    return np.zeros(entry.param.size, entry.param.dtype) if array is None else array.ravel()


# --------------------------------------------------------------------------------------------------
# Optimizer
# --------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class Optimizer:
    """Base of all optimizers: ``p = p - step(g)`` for each parameter that has a gradient.

    A new algorithm is a dataclass derived from it (``kw_only=True, eq=False, repr=False``): the
    fields are its options, and it defines `states`, `coefficients` and `update`.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        Leaves with ``requires_grad``. Dicts make groups with options of their own:
        ``[{"params": biases}, {"params": weights, "weight_decay": 1e-4}]``. Can be given later, by
        `attach`.
    lr : float
        Learning rate, >= 0. As every option it can be set at any time; that also sets it for
        the groups that were not given one of their own.
    weight_decay : float
        L2 penalty: adds ``weight_decay * p`` to the gradient. AdamW and Lion shrink ``p`` instead.

    Raises
    ------
    ArgumentError
        For an option outside its range, no parameters, or a parameter that comes twice.
    DtypeError
        For a parameter that is not a Tensor, or an option that is not a number.
    GradientError
        For a parameter that is computed or needs no gradient.

    Notes
    -----
    With the first step ``.data`` of each parameter becomes an array of the optimizer's, which later
    steps change in place; the array it was before is not written to. Other data may be set at any
    time. A parameter whose ``.grad`` is None is left alone, its state too. Gradients are only read.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.data
    array([ 0.5, -1. ])
    """

    params: Any = field(default=None, kw_only=False)
    lr: float
    weight_decay: float = 0.0

    decoupled: ClassVar[bool] = False
    """Whether weight decay shrinks the parameter instead of adding to the gradient."""
    steady: ClassVar[bool] = False
    """Whether `coefficients` depends on the options alone, and not on the step."""
    _steady: ClassVar[object] = None  # what the blocks compare their options with
    numbers: ClassVar[dict[str, float]] = {"t": 0}
    """The numbers of a parameter's state, as they start."""
    update: ClassVar[Callable[..., None]]
    """``update(p, g, work, spare, *coefficients, **states)``: changes ``p`` and the states in
    place. The arrays have one shape, the coefficients are 0-d; ``g`` is only read, ``work`` and
    ``spare`` are scratch.
    """

    def states(self) -> dict[str, float]:
        """The arrays of a parameter's state, which start at zero, and the unit each is kept in."""
        return {}

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        """What `update` needs of numbers, in step ``n["t"]`` = 1, 2, ..."""
        raise NotImplementedError

    # -- parameters and groups ---------------------------------------------------------------------

    def __post_init__(self) -> None:
        self._renew()
        self._blocks: list[Block] = []
        self._groups: list[tuple[Optimizer, set[str]]] = []
        params, self.params = self.params, None
        if params is not None:
            self.attach(params)

    @property
    def groups(self) -> list[Optimizer]:
        """The optimizers of the groups, with ``params`` and options; itself if there are none."""
        return [group for group, _ in self._groups] or [self]

    def attach(self, params: Params) -> None:
        """Take the parameters, if none were given; the same ones once more keep their state."""
        name = type(self).__name__
        if isinstance(params, Tensor | str | Mapping) or not isinstance(params, Iterable):
            raise DtypeError(
                message(f"{name}: params", "a list of Tensors or of dicts", type(params).__name__,
                        "Give model.parameters().")
            )  # fmt: skip
        items: list[Any] = list(params)
        grouped = bool(items) and all(isinstance(item, Mapping) for item in items)
        groups = [self._group(i, item) for i, item in enumerate(items)] if grouped else []
        tensors = [p for group, _ in groups for p in group.params] if grouped else items
        _check_parameters(name, tensors)
        if self.params is not None:
            if len(tensors) == len(self.params) and all(map(is_, tensors, self.params)):
                return
            raise ArgumentError(
                f"{name}.attach: it has other parameters already, whose state it keeps. "
                "Make a new optimizer for these."
            )
        self.params = tensors
        self._groups = groups
        if not grouped:
            self._pack([Entry(p, self.numbers, {}) for p in tensors])

    def _group(self, i: int, given: Mapping[str, Any]) -> tuple[Optimizer, set[str]]:
        options = self._options()
        own = {key: value for key, value in given.items() if key != "params"}
        unknown = sorted(own.keys() - options.keys())
        if unknown or "params" not in given:
            raise ArgumentError(
                message(f"{type(self).__name__}: group {i}",
                        f'"params" and options among {", ".join(options)}',
                        ", ".join(map(repr, unknown)) or "no params",
                        near(unknown[0], options) if unknown else "")
            )  # fmt: skip
        return replace(self, **given), set(own)

    def _pack(self, entries: list[Entry]) -> None:
        """Lay out the blocks: what can be updated together lies together."""
        together: dict[Any, list[Entry]] = {}
        for i, entry in enumerate(entries):
            p = entry.param
            key = (p.dtype, p.grad is None, *entry.numbers.values(), i if p.size >= LARGE else None)
            together.setdefault(key, []).append(entry)
        scratch = {
            dtype: np.empty((3, PIECE // dtype.itemsize), dtype)
            for dtype in {entry.param.dtype for entry in entries}
        }
        names = self.states()
        self._blocks = [
            Block(members, names, scratch[members[0].param.dtype]) for members in together.values()
        ]

    def _pack_again(self, entries: list[Entry]) -> None:
        """Lay out the blocks between steps: what was compiled with the old ones is of no use."""
        self._pack(entries)
        note_change((id(self), "blocks"), 0, next(LAYOUTS))

    def _entries(self) -> list[Entry]:
        """The state of each parameter, in the order they were given."""
        found = {id(entry.param): entry for block in self._blocks for entry in block.entries()}
        return [found[id(p)] for p in self.params]

    def _check_attached(self, method: str) -> None:
        if self.params is None:
            name = type(self).__name__
            raise ArgumentError(
                message(f"{name}.{method}", "parameters", "none yet",
                        f"Give them: {name}(model.parameters(), lr=...), or .attach() them.")
            )  # fmt: skip

    # -- options -----------------------------------------------------------------------------------

    @classmethod
    @cache
    def _defaults(cls) -> dict[str, Any]:
        return {f.name: f.default for f in fields(cls) if f.name != "params"}

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._defaults()}

    def __setattr__(self, name: str, value: Any) -> None:
        defaults = self._defaults()
        if name not in defaults:
            object.__setattr__(self, name, value)
            return
        value = _checked(f"{type(self).__name__}: {name}", name, value, defaults[name])
        if "_blocks" not in vars(self):  # not all options are there yet
            object.__setattr__(self, name, value)
            return
        before, old = self.states(), getattr(self, name)
        object.__setattr__(self, name, value)
        self._renew()
        if bool(value) != bool(old) or type(value) is not float:  # else it is a coefficient
            note_change((id(self), name), old, value)
        self._convert(before, self.states())
        for group, own in self._groups:
            if name not in own:
                setattr(group, name, value)

    def _renew(self) -> None:
        """Let each block compute its numbers anew: in its next step, or in every step where they
        depend on how many there were."""
        object.__setattr__(self, "_steady", object() if self.steady else None)

    def _convert(self, before: dict[str, float], after: dict[str, float]) -> None:
        """Keep the state as it was when an option changes the units or the number of arrays."""
        for block in self._blocks:
            for name in before.keys() & after.keys():
                if before[name] != after[name]:
                    block.states[name] *= before[name] / after[name]
        if self._blocks and before.keys() != after.keys():
            self._pack_again(self._entries())

    def __repr__(self) -> str:
        name = type(self).__name__
        defaults = self._defaults()
        options = {k: v for k, v in self._options().items() if v != defaults[k]}
        text = f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})"
        if self.params is None:
            return text
        text += f", parameters: {len(self.params)}, numbers: {sum(p.size for p in self.params):,}"
        for group, own in self._groups:
            given = "".join(f", {key}={getattr(group, key)!r}" for key in sorted(own))
            text += f"\n  group of parameters: {len(group.params)}{given}"
        return text

    # -- what a training loop calls ----------------------------------------------------------------

    def zero_grad(self) -> None:
        """Set every parameter's ``.grad`` to None."""
        self._check_attached("zero_grad")
        for p in self.params:
            p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient, in place.

        Raises
        ------
        ArgumentError
            Before there are parameters.
        """
        self._check_attached("step")
        for group, _ in self._groups:
            group.step()
        found = self._gradients()
        for grads in found:
            if NoneType in map(type, grads) and any(g is not None for g in grads):
                self._pack(self._entries())  # part those with a gradient from those without
                found = self._gradients()
                break
        for block, grads in zip(self._blocks, found):
            if grads[0] is not None:
                self._advance(block, grads)

    def _gradients(self) -> list[list[Any]]:
        return [[p.grad for p in block.params] for block in self._blocks]

    def _advance(self, block: Block, grads: list[Any]) -> None:
        """One step of one block."""
        each_time(partial(self._count, block))
        block.adopt()
        decay = self.weight_decay
        weight, *coefficients = block.constants
        for g, (p, work, spare, decayed, states) in zip(block.gather(grads), block.pieces):
            if decay and self.decoupled:
                on_arrays(shrink, p, weight)
            elif decay:
                g = on_arrays(penalized, p, g, weight, decayed)
            on_arrays(self.update, p, g, work, spare, *coefficients, **states)

    def _count(self, block: Block) -> None:
        """Begin a step of a block: its number, and what the formula needs of numbers."""
        block.numbers["t"] += 1
        if block.options is self._steady is not None:
            return  # the numbers are those of the last step
        block.options = self._steady
        decay = self.weight_decay
        factor = 1 - self.lr * decay if self.decoupled else decay
        block.ready((factor, *self.coefficients(block.numbers)))

    # -- state -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """A copy of options and state, from which a run goes on to the same bits.

        Returns
        -------
        dict
            ``algorithm``, ``options``, and ``state``, for each parameter its numbers and arrays; or
            ``groups``, such a dict for each.
        """
        self._check_attached("state_dict")
        kept: dict[str, Any] = {"algorithm": type(self).__name__, "options": self._options()}
        if self._groups:
            return kept | {"groups": [group.state_dict() for group in self.groups]}
        entries = [
            entry.numbers | {name: array.copy() for name, array in entry.arrays.items()}
            for entry in self._entries()
        ]
        return kept | {"state": entries}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same algorithm and parameters of the same shapes.

        Raises
        ------
        ArgumentError, ShapeError, DtypeError
            For what does not fit; nothing is changed then.
        """
        self._check_attached("load_state_dict")
        for load in self._loads(state):
            load()

    def _loads(self, state: Mapping[str, Any]) -> list[Callable[[], None]]:
        """Check a `state_dict`; the functions that will take it over."""
        where = f"{type(self).__name__}.load_state_dict"
        part = "groups" if self._groups else "state"
        if not {"algorithm", "options", part} <= state.keys():
            raise ArgumentError(
                message(where, f"algorithm, options and {part}", ", ".join(map(str, state)))
            )
        name = type(self).__name__
        if state["algorithm"] != name:
            raise ArgumentError(message(where, f"the state of {name}", f"{state['algorithm']}'s"))
        count = len(self._groups or self.params)
        if len(state[part]) != count:
            kind = "groups" if self._groups else "parameters"
            raise ArgumentError(message(where, f"{count} {kind}", f"{len(state[part])}"))
        defaults = self._defaults()
        if state["options"].keys() != defaults.keys():
            raise ArgumentError(
                message(where, f"options {', '.join(defaults)}", ", ".join(state["options"]))
            )
        options = {
            name: _checked(f"{where}: {name}", name, value, defaults[name])
            for name, value in state["options"].items()
        }
        inner = [
            load for group, one in zip(self.groups, state["groups"]) for load in group._loads(one)
        ] if self._groups else []  # fmt: skip
        arrays = replace(self, params=None, **options).states()
        entries = [] if self._groups else [
            _loaded(f"{where}: parameter {i}", p, given, self.numbers, arrays)
            for i, (p, given) in enumerate(zip(self.params, state["state"]))
        ]  # fmt: skip

        def take() -> None:
            vars(self).update(options)
            self._renew()
            self._pack_again(entries)

        return [take, *inner]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_blocks": self._entries() if self._blocks else []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._pack(state["_blocks"])


def _check_parameters(name: str, tensors: list[Any]) -> None:
    if not tensors:
        raise ArgumentError(
            message(f"{name}: params", "at least one parameter", "none",
                    "An iterator can be read only once: give model.parameters() anew.")
        )  # fmt: skip
    seen: dict[int, int] = {}
    for i, p in enumerate(tensors):
        if not isinstance(p, Tensor):
            raise DtypeError(
                message(f"{name}: params[{i}]", "a Tensor", type(p).__name__,
                        "Give model.parameters(), or dicts with \"params\" for groups.")
            )  # fmt: skip
        label = f"params[{i}]" + (f" ({p.name!r})" if p.name else "") + f" of shape {p.shape}"
        if not (p.requires_grad and p.is_leaf):
            got = "one without" if p.is_leaf else "a result of other tensors"
            raise GradientError(
                message(f"{name}: {label}", "a leaf with requires_grad=True", got,
                        "Only what was given, not computed, can be learnt.")
            )  # fmt: skip
        first = seen.setdefault(id(p), i)
        if first != i:
            raise ArgumentError(
                message(f"{name}: {label}", "each parameter once", f"params[{first}] again",
                        "It would be updated twice in each step.")
            )  # fmt: skip


def _checked(where: str, name: str, value: Any, default: Any) -> Any:
    """An option as bool, float, or tuple of floats like its default, within its range."""
    if isinstance(default, bool):
        if not isinstance(value, bool | np.bool_):
            raise DtypeError(message(where, "True or False", repr(value)))
        return bool(value)
    if isinstance(default, int):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ArgumentError(message(where, "a whole number of at least 1", repr(value)))
        return int(value)
    if isinstance(default, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(default):
            raise ArgumentError(message(where, f"{len(default)} numbers in [0, 1)", repr(value)))
        return tuple([_number(f"{where}[{i}]", x, 1.0) for i, x in enumerate(value)])
    return _number(where, value, 1.0 if name in FRACTIONS else inf)


FRACTIONS: Final = frozenset({"momentum", "dampening", "alpha", "rho"})


def _number(where: str, value: Any, end: float) -> float:
    if not isinstance(value, int | float | np.integer | np.floating):
        raise DtypeError(message(where, "a number", f"{type(value).__name__} {value!r:.40}"))
    if not 0 <= value < end:
        allowed = "a finite number >= 0" if end == inf else f"a number in [0, {end:g})"
        raise ArgumentError(message(where, allowed, f"{value}"))
    return float(value)


def _loaded(
    where: str,
    p: Tensor,
    given: Mapping[str, Any],
    numbers: Mapping[str, float],
    arrays: Iterable[str],
) -> Entry:
    """One parameter's part of a `state_dict`, checked; packing copies it."""
    expected = [*numbers, *arrays]
    if set(given) != set(expected):
        raise ArgumentError(message(where, ", ".join(expected), ", ".join(given) or "nothing"))
    for name in arrays:
        shape, dtype = np.shape(given[name]), np.asarray(given[name]).dtype
        if shape != p.shape:
            raise ShapeError(message(f"{where}: {name}", f"shape {p.shape}", f"{shape}"))
        if dtype != p.dtype:
            raise DtypeError(message(f"{where}: {name}", f"dtype {p.dtype}", f"{dtype}"))
    return Entry(
        p,
        {name: type(start)(given[name]) for name, start in numbers.items()},
        {name: np.asarray(given[name]) for name in arrays},
    )


def accumulate(state: Array, beta: Array, x: Array) -> None:
    """``state = beta state + x``, in place."""
    multiply(state, beta, out=state)
    add(state, x, out=state)


# --------------------------------------------------------------------------------------------------
# Algorithms
# --------------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class SGD(Optimizer):
    """Gradient descent: ``p = p - lr g``, with momentum ``v = momentum v + (1 - dampening) g``.

    With momentum ``p = p - lr v``; Nesterov's is ``p = p - lr (g + momentum v)``.

    Parameters
    ----------
    params, lr, weight_decay
        See `Optimizer`.
    momentum, dampening : float
        In [0, 1). ``dampening=momentum`` makes ``v`` a moving average, ``beta v + (1 - beta) g``.
    nesterov : bool
        Needs momentum without dampening.

    Notes
    -----
    ``v`` starts at 0. PyTorch starts at the first gradient, undampened; without dampening that is
    the same. Sutskever et al., "On the importance of initialization and momentum in deep learning"
    (2013), in the form whose ``v`` does not contain ``lr``.

    Examples
    --------
    >>> SGD(lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9)
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    steady: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.nesterov and not (self.momentum > 0 and self.dampening == 0):
            raise ArgumentError(
                message("SGD: nesterov=True", "momentum > 0 and dampening = 0",
                        f"momentum={self.momentum}, dampening={self.dampening}")
            )  # fmt: skip
        super().__post_init__()

    def states(self) -> dict[str, float]:
        return {"v": 1 - self.dampening} if self.momentum else {}

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        unit = 1 - self.dampening if self.momentum else 1.0
        if self.nesterov:
            return self.lr, self.momentum, self.momentum * unit
        return self.lr * unit, self.momentum

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        rate: Array, momentum: Array, lookahead: Array | None = None, v: Array | None = None,
    ) -> None:  # fmt: skip
        step = g
        if v is not None:
            accumulate(v, momentum, g)
            step = v
            if lookahead is not None:
                multiply(v, lookahead, out=work)
                step = add(work, g, out=work)
        multiply(step, rate, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class Moments(Optimizer):
    """Base of the optimizers that keep moving averages of ``g`` (``m``) and of ``g**2`` (``v``)."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def states(self) -> dict[str, float]:
        beta1, beta2 = self.betas
        return {"m": 1 - beta1, "v": 1 - beta2}

    def corrections(self, t: float) -> tuple[float, float]:
        """``a, b`` of ``m_hat = a m`` and ``sqrt(v_hat) = sqrt(v) / b``, with ``m, v`` as kept."""
        beta1, beta2 = self.betas
        return (1 - beta1) / (1 - beta1**t), sqrt((1 - beta2**t) / (1 - beta2))


@dataclass(kw_only=True, eq=False, repr=False)
class Adam(Moments):
    """Adam: ``p = p - lr m_hat / (sqrt(v_hat) + eps)``.

    ``m = beta1 m + (1 - beta1) g`` and ``v = beta2 v + (1 - beta2) g**2``; ``m_hat = m / (1 -
    beta1**t)`` and ``v_hat = v / (1 - beta2**t)``.

    Parameters
    ----------
    params, lr, weight_decay
        See `Optimizer`; the paper suggests ``lr=1e-3``.
    betas : tuple of float
        Each in [0, 1).
    eps : float
        Keeps the denominator away from 0.
    amsgrad : bool
        Use the largest ``v`` so far (Reddi et al., "On the Convergence of Adam and Beyond", 2018).

    Notes
    -----
    Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1, in the order of
    its section 2, last paragraph.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = [100.0, 1.0]
    >>> Adam([w], lr=0.5).step()
    >>> w.data.round(6)
    array([ 0.5, -2.5])
    """

    amsgrad: bool = False

    def states(self) -> dict[str, float]:
        units = super().states()
        return units | ({"v_max": units["v"]} if self.amsgrad else {})

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        a, b = self.corrections(n["t"])
        return *self.betas, self.lr * a * b, self.eps * b

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        beta1: Array, beta2: Array, rate: Array, eps: Array,
        m: Array, v: Array, v_max: Array | None = None,
    ) -> None:  # fmt: skip
        accumulate(m, beta1, g)
        accumulate(v, beta2, multiply(g, g, out=work))
        if v_max is not None:
            v = np.maximum(v_max, v, out=v_max)
        np.sqrt(v, out=work)
        add(work, eps, out=work)
        divide(m, work, out=work)
        multiply(work, rate, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: ``p = (1 - lr weight_decay) p``, then as `Adam`.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad
        See `Adam`.
    weight_decay : float
        Does not pass through the moving averages.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2, with the
    decay multiplied by ``lr`` as in PyTorch.

    Examples
    --------
    >>> AdamW(lr=1e-3, weight_decay=0.1)
    AdamW(lr=0.001, weight_decay=0.1)
    """

    weight_decay: float = 0.01

    decoupled: ClassVar[bool] = True


@dataclass(kw_only=True, eq=False, repr=False)
class RMSProp(Optimizer):
    """RMSProp: ``p = p - lr g / (sqrt(v) + eps)`` with ``v = alpha v + (1 - alpha) g**2``.

    Parameters
    ----------
    params, lr, weight_decay
        See `Optimizer`.
    alpha : float
        In [0, 1).
    eps : float
        Keeps the denominator away from 0.
    momentum : float
        In [0, 1): ``b = momentum b + g / (sqrt(v) + eps)`` and ``p = p - lr b``.
    centered : bool
        Take the variance ``v - mean**2``, ``mean = alpha mean + (1 - alpha) g``, in place of ``v``.

    Notes
    -----
    Tieleman and Hinton, "Neural Networks for Machine Learning", lecture 6.5 (2012); centered:
    Graves, "Generating Sequences With Recurrent Neural Networks" (2013), eq. 38-45. A variance that
    rounding takes below 0 counts as 0.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = [100.0, 1.0]
    >>> RMSProp([w], lr=0.5, alpha=0.75).step()
    >>> w.data.round(6)
    array([ 0., -3.])
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    def states(self) -> dict[str, float]:
        unit = 1 - self.alpha
        units = {"v": unit}
        if self.centered:
            units["mean"] = unit
        if self.momentum:
            units["b"] = 1 / sqrt(unit)
        return units

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        unit = 1 - self.alpha
        return self.alpha, unit, self.momentum, self.lr / sqrt(unit), self.eps / sqrt(unit)

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        alpha: Array, unit: Array, momentum: Array, rate: Array, eps: Array,
        v: Array, mean: Array | None = None, b: Array | None = None,
    ) -> None:  # fmt: skip
        accumulate(v, alpha, multiply(g, g, out=work))
        if mean is not None:
            accumulate(mean, alpha, g)
            multiply(mean, mean, out=work)
            multiply(work, unit, out=work)
            subtract(v, work, out=work)
            v = np.maximum(work, 0, out=work)
        np.sqrt(v, out=work)
        add(work, eps, out=work)
        divide(g, work, out=work)
        step = work
        if b is not None:
            accumulate(b, momentum, work)
            step = b
        multiply(step, rate, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class Adagrad(Optimizer):
    """Adagrad: ``p = p - lr_t g / (sqrt(v) + eps)`` with ``v = v + g**2``.

    ``lr_t = lr / (1 + (t - 1) lr_decay)``.

    Parameters
    ----------
    params, lr, weight_decay
        See `Optimizer`.
    lr_decay : float
        >= 0.
    eps : float
        Keeps the denominator away from 0.

    Notes
    -----
    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization" (2011), the diagonal form of figure 1.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = [100.0, 1.0]
    >>> Adagrad([w], lr=0.5).step()
    >>> w.data.round(6)
    array([ 0.5, -2.5])
    """

    lr_decay: float = 0.0
    eps: float = 1e-10

    def states(self) -> dict[str, float]:
        return {"v": 1.0}

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        return self.lr / (1 + (n["t"] - 1) * self.lr_decay), self.eps

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array, rate: Array, eps: Array, v: Array
    ) -> None:
        add(v, multiply(g, g, out=work), out=v)
        np.sqrt(v, out=work)
        add(work, eps, out=work)
        divide(g, work, out=work)
        multiply(work, rate, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class Adadelta(Optimizer):
    """Adadelta: ``p = p - lr d`` with ``d = sqrt(u + eps) / sqrt(v + eps) g``.

    ``v = rho v + (1 - rho) g**2`` before, ``u = rho u + (1 - rho) d**2`` after.

    Parameters
    ----------
    params, lr, weight_decay
        See `Optimizer`; the paper has ``lr=1``.
    rho : float
        In [0, 1).
    eps : float
        > 0, for with 0 the first step would be 0 and so all others.

    Notes
    -----
    Zeiler, "ADADELTA: An Adaptive Learning Rate Method" (2012), algorithm 1.

    Examples
    --------
    >>> Adadelta(lr=1.0)
    Adadelta(lr=1.0)
    """

    rho: float = 0.9
    eps: float = 1e-6

    def states(self) -> dict[str, float]:
        return {"v": 1 - self.rho, "u": 1 - self.rho}

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        return self.lr, self.rho, self.eps / (1 - self.rho)

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        rate: Array, rho: Array, eps: Array, v: Array, u: Array,
    ) -> None:  # fmt: skip
        accumulate(v, rho, multiply(g, g, out=work))
        add(u, eps, out=work)
        divide(work, add(v, eps, out=spare), out=work)
        np.sqrt(work, out=work)
        d = multiply(work, g, out=work)
        accumulate(u, rho, multiply(d, d, out=spare))
        multiply(d, rate, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class Adamax(Moments):
    """Adamax: ``p = p - lr / (1 - beta1**t) m / u`` with ``u = max(beta2 u, abs(g) + eps)``.

    ``m = beta1 m + (1 - beta1) g``.

    Parameters
    ----------
    params, lr, weight_decay, betas
        See `Adam`; the paper suggests ``lr=2e-3``.
    eps : float
        Keeps ``u`` away from 0 (not in the paper; as in PyTorch).

    Notes
    -----
    Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 2.

    Examples
    --------
    >>> Adamax(lr=2e-3)
    Adamax(lr=0.002)
    """

    def states(self) -> dict[str, float]:
        return {"m": 1 - self.betas[0], "u": 1.0}

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        a, _ = self.corrections(n["t"])
        return *self.betas, self.lr * a, self.eps

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        beta1: Array, beta2: Array, rate: Array, eps: Array, m: Array, u: Array,
    ) -> None:  # fmt: skip
        accumulate(m, beta1, g)
        np.abs(g, out=work)
        add(work, eps, out=work)
        multiply(u, beta2, out=u)
        np.maximum(u, work, out=u)
        divide(m, u, out=work)
        multiply(work, rate, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class NAdam(Moments):
    """NAdam, Adam with Nesterov's momentum: ``p = p - lr m_bar / (sqrt(v_hat) + eps)``.

    ``m_bar = (1 - mu_t) / (1 - P_t) g + mu_{t+1} / (1 - P_{t+1}) m`` with ``P_t = mu_1 ... mu_t``.

    Parameters
    ----------
    params, lr, weight_decay, betas, eps
        See `Adam`; the paper suggests ``lr=2e-3``.
    momentum_decay : float
        The ``psi`` of ``mu_t = beta1 (1 - 0.96**(t psi) / 2)``.

    Notes
    -----
    Dozat, "Incorporating Nesterov Momentum into Adam" (2016), algorithm 2 with the schedule of
    Sutskever et al. (2013).

    Examples
    --------
    >>> NAdam(lr=2e-3)
    NAdam(lr=0.002)
    """

    momentum_decay: float = 4e-3

    numbers: ClassVar[dict[str, float]] = {"t": 0, "product": 1.0}

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        mu, following = (
            beta1 * (1 - 0.96 ** (t * self.momentum_decay) / 2) for t in (n["t"], n["t"] + 1)
        )
        n["product"] *= mu
        _, b = self.corrections(n["t"])
        of_g = (1 - mu) / (1 - n["product"])
        of_m = following / (1 - n["product"] * following) * (1 - beta1)
        return beta1, beta2, self.lr * of_g * b, self.lr * of_m * b, self.eps * b

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        beta1: Array, beta2: Array, of_g: Array, of_m: Array, eps: Array, m: Array, v: Array,
    ) -> None:  # fmt: skip
        accumulate(m, beta1, g)
        accumulate(v, beta2, multiply(g, g, out=work))
        add(multiply(g, of_g, out=work), multiply(m, of_m, out=spare), out=work)
        np.sqrt(v, out=spare)
        add(spare, eps, out=spare)
        divide(work, spare, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class RAdam(Moments):
    """Rectified Adam: ``p = p - lr r m_hat sqrt(1 - beta2**t) / (sqrt(v) + eps)``.

    While the variance of ``v`` is unbounded (``rho <= 5``: the first five steps of the default
    betas) ``p = p - lr m_hat``.

    Parameters
    ----------
    params, lr, weight_decay, betas, eps
        See `Adam`.

    Notes
    -----
    ``rho_inf = 2 / (1 - beta2) - 1``, ``rho = rho_inf - 2 t beta2**t / (1 - beta2**t)``,
    ``r**2 = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)``. Liu et al., "On the
    Variance of the Adaptive Learning Rate and Beyond" (2020), algorithm 2; the paper's bound is 4,
    PyTorch's 5.

    Examples
    --------
    >>> RAdam(lr=1e-3)
    RAdam(lr=0.001)
    """

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        t, (beta1, beta2) = n["t"], self.betas
        a, b = self.corrections(t)
        end = 2 / (1 - beta2) - 1
        rho = end - 2 * t * beta2**t / (1 - beta2**t)
        if rho <= 5:  # the denominator is 0 sqrt(v) + 1
            return beta1, beta2, self.lr * a, 0.0, 1.0
        r = sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
        return beta1, beta2, self.lr * a * b * r, 1.0, self.eps / sqrt(1 - beta2)

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        beta1: Array, beta2: Array, rate: Array, adaptive: Array, floor: Array, m: Array, v: Array,
    ) -> None:  # fmt: skip
        accumulate(m, beta1, g)
        accumulate(v, beta2, multiply(g, g, out=work))
        np.sqrt(v, out=work)
        multiply(work, adaptive, out=work)
        add(work, floor, out=work)
        divide(m, work, out=work)
        multiply(work, rate, out=work)
        subtract(p, work, out=p)


@dataclass(kw_only=True, eq=False, repr=False)
class Lion(Optimizer):
    """Lion: ``p = (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g)``.

    Then ``m = beta2 m + (1 - beta2) g``.

    Parameters
    ----------
    params, lr
        See `Optimizer`; the paper suggests 3 to 10 times less than for AdamW.
    weight_decay : float
        Decoupled, as in `AdamW`.
    betas : tuple of float
        Each in [0, 1).

    Notes
    -----
    Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), algorithm 2. The sign of 0
    is 0.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> w.grad = [100.0, 0.0]
    >>> Lion([w], lr=0.5).step()
    >>> w.data
    array([ 0.5, -2. ])
    """

    betas: tuple[float, float] = (0.9, 0.99)

    decoupled: ClassVar[bool] = True

    def states(self) -> dict[str, float]:
        return {"m": 1 - self.betas[1]}

    def coefficients(self, n: dict[str, float]) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        return self.lr, beta1 * (1 - beta2) / (1 - beta1), beta2

    @staticmethod
    def update(
        p: Array, g: Array, work: Array, spare: Array,
        rate: Array, ratio: Array, beta2: Array, m: Array,
    ) -> None:  # fmt: skip
        add(multiply(m, ratio, out=work), g, out=work)
        np.sign(work, out=work)
        multiply(work, rate, out=work)
        subtract(p, work, out=p)
        accumulate(m, beta2, g)


@dataclass(kw_only=True, eq=False, repr=False)
class LBFGS(Optimizer):
    """L-BFGS: ``p = p - t H g``, where ``H`` approximates the inverse Hessian of all parameters.

    H is made of the last ``history`` pairs ``s`` and ``y``, the differences of successive
    parameters and gradients. It is for losses without noise: all rows in one batch.

    Parameters
    ----------
    params, weight_decay
        See `Optimizer`; in one group.
    lr : float
        The step ``t``, or with a closure the longest that is tried. The first step is
        ``min(1, 1 / sum(abs(g)))`` of it, for nothing is known of H yet.
    history : int
        Pairs that are kept.

    Notes
    -----
    Nocedal and Wright, "Numerical Optimization" (2006): algorithm 7.4, with H_0 of equation 7.20;
    with a closure the step is halved until the loss falls as much as inequality 3.4 asks
    (algorithm 3.1). A pair with ``s @ y <= 1e-10`` is left out, so that H stays positive definite.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer, loss = LBFGS([w]), lambda: (w * w * [1.0, 100.0]).sum()
    >>> for _ in range(12):
    ...     optimizer.zero_grad()
    ...     loss().backward()
    ...     optimizer.step(loss)
    >>> float(loss().data) < 1e-12
    True
    """

    lr: float = 1.0
    history: int = 10

    def attach(self, params: Params) -> None:
        """Take the parameters, if none were given.

        Raises
        ------
        ArgumentError
            For groups.
        """
        items: Any = list(params) if isinstance(params, Iterable) else params
        if isinstance(items, list) and any(isinstance(item, Mapping) for item in items):
            raise ArgumentError(
                message("LBFGS: params", "parameters", "groups", "It has one step for all of them.")
            )
        super().attach(params if isinstance(params, Tensor | str | Mapping) else items)

    def __post_init__(self) -> None:
        self.last: tuple[Array, Array] | None = None  # parameters and gradient of the step before
        self.pairs: list[tuple[Array, Array]] = []
        super().__post_init__()

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update every parameter.

        Parameters
        ----------
        closure : callable, optional
            Gives the loss at the present parameters, as a number or a Tensor of one element; it is
            called at the parameters of before, then at those of each step that is tried. It may
            compute the gradient as well, as PyTorch's do.
        """
        self._check_attached("step")
        x = _flat([p.data for p in self.params])
        before = 0.0 if closure is None else float(closure())
        g = _flat([np.zeros_like(p.data) if p.grad is None else p.grad for p in self.params])
        g = g + self.weight_decay * x
        if self.last is not None:
            s, y = x - self.last[0], g - self.last[1]
            if s @ y > 1e-10:
                self.pairs = [*self.pairs, (s, y)][-self.history :]
        d = -self._inverse_hessian_times(g)
        t = self.lr
        if self.last is None:
            t *= min(1.0, 1 / max(float(abs(g).sum()), 1e-300))
        self.last = x, g
        if closure is None:
            self._set(x + t * d)
            return

        def penalty(at: Array) -> float:
            return self.weight_decay / 2 * float(at @ at)

        before, slope = before + penalty(x), float(g @ d)
        for _ in range(30):
            self._set(x + t * d)
            if float(closure()) + penalty(x + t * d) <= before + 1e-4 * t * slope:
                return
            t /= 2
        self._set(x)  # nothing that rounding leaves is better

    def _inverse_hessian_times(self, g: Array) -> Array:
        """``H g``: down and up the pairs, from the last to the first and back."""
        q, factors = g, []
        for s, y in reversed(self.pairs):
            alpha = (s @ q) / (s @ y)
            factors.append(alpha)
            q = q - alpha * y
        if self.pairs:
            s, y = self.pairs[-1]
            q = q * ((s @ y) / (y @ y))
        for (s, y), alpha in zip(self.pairs, reversed(factors)):
            q = q + (alpha - (y @ q) / (s @ y)) * s
        return q

    def _set(self, flat: Array) -> None:
        ends = np.cumsum([p.size for p in self.params])
        for p, part in zip(self.params, np.split(flat, ends[:-1])):
            p.data = part.reshape(p.shape)

    def state_dict(self) -> dict[str, Any]:
        """A copy of options and state, from which a run goes on to the same bits."""
        self._check_attached("state_dict")
        pairs = [self.last, *self.pairs] if self.last is not None else []
        kept = [[np.array(one) for one in pair] for pair in pairs]
        return {"algorithm": "LBFGS", "options": self._options(), "state": kept}

    def _loads(self, state: Mapping[str, Any]) -> list[Callable[[], None]]:
        where, size = "LBFGS.load_state_dict", sum(p.size for p in self.params)
        if state.get("algorithm") != "LBFGS" or not {"options", "state"} <= state.keys():
            got = state.get("algorithm")
            raise ArgumentError(message(where, "the state of LBFGS", f"{got}'s"))
        options = replace(self, params=None, **state["options"])._options()
        pairs = [(np.array(first), np.array(second)) for first, second in state["state"]]
        for array in (one for pair in pairs for one in pair):
            if array.shape != (size,):
                raise ShapeError(message(where, f"states ({size},)", f"{array.shape}"))

        def take() -> None:
            vars(self).update(options)
            self.last, self.pairs = (pairs[0], pairs[1:]) if pairs else (None, [])

        return [take]


def _flat(arrays: list[Array]) -> Array:
    return np.concatenate([array.ravel() for array in arrays])


# --------------------------------------------------------------------------------------------------
# Clipping
# --------------------------------------------------------------------------------------------------


def clip_norm(params: Iterable[Tensor], limit: float) -> Tensor:
    """Scale all gradients by ``min(1, limit / |g|)``, ``|g|`` the norm of all of them together.

    Parameters
    ----------
    params : iterable of Tensor
        Those without a gradient do not count.
    limit : float
        > 0.

    Returns
    -------
    Tensor
        The norm before.

    Raises
    ------
    ArgumentError
        For a limit that is not above 0.
    NonFiniteError
        For a norm that is not finite; the gradients stay as they are.

    Notes
    -----
    Pascanu, Mikolov and Bengio, "On the Difficulty of Training Recurrent Neural Networks" (2013),
    algorithm 1. PyTorch adds 1e-6 to the norm it divides by.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = [3.0, 4.0]
    >>> clip_norm([w], limit=1.0).item()
    5.0
    >>> w.grad
    array([0.6, 0.8])
    """
    _check_limit("clip_norm", limit)
    found = [(p, Tensor(p.grad)) for p in params if p.grad is not None]
    with no_grad():
        norm: Any = np.sqrt(sum([np.vdot(g, g) for _, g in found], Tensor(0.0, dtype=np.float32)))
        if not norm < inf:
            raise NonFiniteError(
                message("clip_norm", "gradients with a finite norm", f"{norm.item()}")
            )
        factor = limit / np.maximum(norm, limit)  # 1, to the bit, where nothing is to be clipped
        for p, g in found:
            p.grad = g * astype(factor, g.dtype)
    return norm  # type: ignore[no-any-return]


def clip_value(params: Iterable[Tensor], limit: float) -> None:
    """Clip each number of the gradients: ``g = max(-limit, min(g, limit))``.

    Parameters
    ----------
    params : iterable of Tensor
    limit : float
        > 0.

    Raises
    ------
    ArgumentError
        For a limit that is not above 0.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([0.0, 0.0], requires_grad=True)
    >>> w.grad = [3.0, -0.5]
    >>> clip_value([w], limit=1.0)
    >>> w.grad
    array([ 1. , -0.5])
    """
    _check_limit("clip_value", limit)
    for p in params:
        if p.grad is not None:
            p.grad = on_arrays(np.clip, p.grad, -limit, limit)


def _check_limit(where: str, limit: Any) -> None:
    if not isinstance(limit, int | float | np.number) or not limit > 0:
        raise ArgumentError(message(where, "a limit above 0", repr(limit)))
