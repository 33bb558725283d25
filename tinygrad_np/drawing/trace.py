"""One call of a user's function or model, watched: what its variables are called, which modules ran.

A module is known by its ways alone: it has ``named_modules()`` and computes in ``forward``.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

import numpy as np

from .. import tree
from ..core import Node, Tensor, mode, tick
from ..errors import ArgumentError, DtypeError, message
from .graph import Call, consumers, identities


def is_module(thing: Any) -> bool:
    """Whether it is a model or a layer, and not the class of one."""
    alike = hasattr(thing, "named_modules") and callable(getattr(thing, "forward", None))
    return alike and not isinstance(thing, type)


class Trace:
    """A function called on some inputs, floating-point arrays among them as Tensors.

    They need a gradient if nothing else does: no other input, and nothing the function takes from
    around it.

    Attributes
    ----------
    targets : list of Node
        What it returned.
    names : list of dict
        Names and values: its arguments, its other variables when it returned, what it takes from
        around it, and the tensors of modules by their paths.
    calls : list of Call
        The modules' calls, in the order they began.
    """

    def __init__(self, f: Callable[..., Any], inputs: Sequence[Any]) -> None:
        self.calls: list[Call] = []
        self._code = _code_of(f)
        self._frame: FrameType | None = None
        self._arguments: dict[str, Any] = {}
        self._variables: dict[str, Any] = {}
        self._around = _around(f)
        self._tensors: dict[str, Tensor] = {}
        self._owned: dict[Node, list[Call]] = {}
        self._open: list[tuple[FrameType, Call]] = []
        self._paths: dict[int, str] = {}
        given = tree.rebuild(list(inputs), self._wrapped(f, inputs))
        self._given = {
            id(one.node if isinstance(one, Tensor) else one) for one in tree.leaves(given)
        }
        self._alive = given  # so that nothing else gets their identities
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            with mode(recording=True, everything=True):
                output = f(*given) if callable(f) else f.forward(*given)
        finally:
            sys.setprofile(before)
        self.targets = [one.node for one in tree.leaves(output) if isinstance(one, Tensor)]
        if not self.targets:
            raise DtypeError(
                message("draw", "a function that returns a Tensor", type(output).__name__,
                        "Is the result computed from Tensors or from floating-point inputs?")
            )  # fmt: skip
        again = Counter([id(call.module) for call in self.calls])
        counts: Counter[int] = Counter()
        for call in self.calls:
            counts[id(call.module)] += 1
            if again[id(call.module)] > 1:
                call.title += f"   call {counts[id(call.module)]}"

    @property
    def names(self) -> list[Mapping[str, Any]]:
        # A variable that was an argument first goes by that name no more.
        variables = {k: v for k, v in self._variables.items() if k not in self._arguments}
        return [self._arguments, variables, self._around, self._tensors]

    def inputs(self, nodes: Iterable[Node]) -> set[Node]:
        """The leaves that are what the function was given."""
        leaves = [node for node in nodes if node.primitive is None]
        return {leaf for leaf in leaves if not self._given.isdisjoint(identities(leaf))}

    def homes(self, nodes: Sequence[Node]) -> dict[Node, Call]:
        """The call each node is drawn in.

        Results belong to the call in which they were computed, the tensors of a module to the call
        of the module, other constants to the one that uses them, and inputs to none.
        """
        edges = sorted(
            [(call.start, i, call) for i, call in enumerate(self.calls)]
            + [(call.end, i, call.parent) for i, call in enumerate(self.calls)],
            key=lambda edge: edge[:2],
        )
        times = [time for time, _, _ in edges]
        found: dict[Node, Call | None] = {}
        inputs = self.inputs(nodes)
        for node in nodes:
            if node.primitive is not None:
                at = bisect(times, node.order)
                found[node] = edges[at - 1][2] if at else None
        for node, users in consumers(nodes).items():
            if node.primitive is None and node not in inputs:
                found[node] = _common(self._owned.get(node) or [found[user] for user in users])
        return {node: call for node, call in found.items() if call is not None}

    # -- watching ----------------------------------------------------------------------------------

    def _wrapped(self, f: Any, inputs: Sequence[Any]) -> Callable[[Any], Any]:
        around = [one for value in self._around.values() for one in tree.leaves(value)]
        known = [f, *tree.leaves(list(inputs)), *around]
        needed = any(
            is_module(one) or (isinstance(one, Tensor) and one.requires_grad) for one in known
        )

        def wrapped(leaf: Any) -> Any:
            if isinstance(leaf, float | np.ndarray) and np.asarray(leaf).dtype.kind == "f":
                return Tensor(leaf, requires_grad=not needed)
            return leaf

        return wrapped

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            if frame.f_code is self._code and self._frame is None:
                self._frame, self._arguments = frame, dict(frame.f_locals)
            if frame.f_code.co_name == "forward" and frame.f_code.co_argcount:
                self._enter(frame, frame.f_locals.get(frame.f_code.co_varnames[0]))
        elif event == "return":
            if frame is self._frame:
                self._variables = dict(frame.f_locals)
            if self._open and self._open[-1][0] is frame:
                self._open.pop()[1].end = tick()

    def _enter(self, frame: FrameType, module: Any) -> None:
        parent = self._open[-1][1] if self._open else None
        if not is_module(module) or (parent is not None and parent.module is module):
            return  # a class may call the forward of its base
        path = self._path(module)
        name = path or next((k for k, v in self._around.items() if v is module), "")
        title = f"{name}   {type(module).__name__}" if name else type(module).__name__
        call = Call(title, module, path, parent, tick())
        for key, tensor in own_tensors(module):
            if tensor.is_leaf:
                self._tensors.setdefault(f"{path}.{key}" if path else key, tensor)
                self._owned.setdefault(tensor.node, []).append(call)
        self.calls.append(call)
        self._open.append((frame, call))

    def _path(self, module: Any) -> str:
        if id(module) not in self._paths and not self._open:
            for path, one in module.named_modules():
                self._paths.setdefault(id(one), path)
        return self._paths.get(id(module), "")


def of_model(model: Any, inputs: Sequence[Any]) -> Trace:
    """A model called on a batch: a copy of it, which shares the parameters and nothing else.

    So running means and random generators stay as they are. Floating-point arrays are given in the
    dtype of the parameters, as `nn` does.

    Raises
    ------
    ArgumentError
        If a layer has no parameters yet, or the model cannot be copied.
    """
    modules = dict(model.named_modules())
    for path, module in modules.items():
        if not getattr(module, "built", True):
            raise ArgumentError(
                message("draw", "a model whose layers all have their parameters",
                        f"{type(module).__name__} at {path!r}, which waits for its first batch",
                        "Call the model on a batch first.")
            )  # fmt: skip
    tensors = [tensor for module in modules.values() for _, tensor in own_tensors(module)]
    shared = [one for one in tensors if one.requires_grad or not one.is_leaf]
    try:
        twin = copy.deepcopy(model, {id(one): one for one in shared})
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"draw: the model cannot be copied ({error}), and drawing must not change it. "
            "Call it on the batch yourself and draw the result."
        ) from error
    dtype = next((one.dtype for one in tensors if one.is_leaf and one.dtype.kind == "f"), None)
    given = tree.rebuild(list(inputs), functools.partial(_in_dtype, dtype))
    before = [(one, one.name) for one in shared]
    try:
        trace = Trace(twin, given)
    finally:
        for tensor, name in before:  # the first call of a model names its parameters
            tensor.name = name
    for call in trace.calls:
        if call.path or call.parent is None:
            call.module = modules[call.path]
    return trace


def own_tensors(module: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors among the attributes of a module, and in its lists and dicts of tensors."""
    for name, value in getattr(module, "__dict__", {}).items():
        held = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        pairs = held.items() if isinstance(held, dict) else ()
        for path, one in [(name, value), *[(f"{name}.{key}", one) for key, one in pairs]]:
            if isinstance(one, Tensor):
                yield path, one


def _in_dtype(dtype: Any, leaf: Any) -> Any:
    floats = isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" and dtype is not None
    return leaf.astype(dtype, copy=False) if floats else leaf


def _common(calls: Sequence[Call | None]) -> Call | None:
    """The innermost call that all of these are part of."""
    chains = [list(_outward(call))[::-1] for call in calls]
    common = None
    for level in zip(*chains):
        if any(call is not level[0] for call in level):
            break
        common = level[0]
    return common


def _outward(call: Call | None) -> Iterator[Call]:
    while call is not None:
        yield call
        call = call.parent


def _code_of(f: Any) -> CodeType | None:
    """The code whose variables are the user's: of the function itself, under its decorators."""
    f = f.forward if is_module(f) else f
    while isinstance(f := inspect.unwrap(f), functools.partial):
        f = f.func
    if not hasattr(f, "__code__"):
        f = getattr(f, "__func__", type(f).__call__)
    return getattr(f, "__code__", None)


def _around(f: Any) -> dict[str, Any]:
    """The global and outer variables that a function reads."""
    function = inspect.unwrap(f)
    if not inspect.isfunction(function):
        return {}
    found = inspect.getclosurevars(function)
    return {**found.nonlocals, **found.globals}
