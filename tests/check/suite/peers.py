"""The same programs under the gradient checks of PyTorch, JAX and autograd.

Each is asked in the way its own documentation has it: the loss is a function whose backward rule is
the user's gradient, and that is checked by finite differences, in float64, with the default
tolerances. JAX's and autograd's are told ``modes=["rev"]`` and first order, as there is no other rule
to check; autograd's is called for each parameter, the others for all at once. Detected is what
raises; located, if the message names the first wrong quantity, which for these can only be a
parameter; named, if it says what kind of mistake that is, and a message with the two shapes counts
for what makes a shape wrong.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_np import tree
from tinygrad_np.check.matching import quantity_of

from .program import Mistake
from .running import Case, checked, outcome

Check = Callable[["Wrapped"], None]
OF_SHAPE = {"unreduced_broadcast", "wrong_axis_sum", "transpose"}


class Answer(NamedTuple):
    """What a check said: nothing if it found no fault."""

    detected: bool
    located: bool
    named: bool


class Wrapped:
    """A case as a function of its parameters' arrays alone, and the user's gradients of them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.params, *self.data = case.problem
        self.arrays = [np.asarray(one, float) for one in tree.leaves(self.params)]

    def called(self, arrays: tuple[Any, ...]) -> tuple[float, Any]:
        values = iter([np.array(one) for one in arrays])
        data = tree.rebuild(self.data, lambda x: x.copy() if isinstance(x, np.ndarray) else x)
        loss, grads = self.case.function(tree.like(self.params, values), *data)
        return float(loss), grads

    def loss(self, *arrays: Any) -> np.ndarray:
        return np.asarray(self.called(arrays)[0])

    def gradients(self, *arrays: Any) -> list[np.ndarray]:
        """In the order of the parameters."""
        grads = self.called(arrays)[1]
        if isinstance(grads, dict):
            owners = {quantity_of(f"grads[{key!r}]", self.params): g for key, g in grads.items()}
            grads = [owners[name] for name in self.params]
        return [np.asarray(one, float) for one in tree.leaves(grads)]


def labels(params: Any, prefix: str = "params") -> Iterator[str]:
    """What each parameter is called: its key, or its place ``params[2][0]``."""
    for key, one in params.items() if isinstance(params, dict) else enumerate(params):
        name = key if isinstance(params, dict) else f"{prefix}[{key}]"
        if isinstance(one, list | tuple):
            yield from labels(one, name)
        else:
            yield name


def torch_gradcheck(wrapped: Wrapped) -> None:
    import torch

    class Loss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *params):
            ctx.save_for_backward(*params)
            return torch.as_tensor(wrapped.loss(*[one.detach().numpy() for one in params]))

        @staticmethod
        def backward(ctx, g):
            arrays = [one.detach().numpy() for one in ctx.saved_tensors]
            return tuple(g * torch.as_tensor(one) for one in wrapped.gradients(*arrays))

    inputs = [torch.tensor(one, requires_grad=True) for one in wrapped.arrays]
    torch.autograd.gradcheck(Loss.apply, inputs)


def jax_check_grads(wrapped: Wrapped) -> None:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    scalar = jax.ShapeDtypeStruct((), np.float64)
    shapes = [
        jax.ShapeDtypeStruct(one.shape, np.float64) for one in wrapped.gradients(*wrapped.arrays)
    ]

    @jax.custom_vjp
    def loss(*params):
        return jax.pure_callback(wrapped.loss, scalar, *params)

    def backward(params, g):
        made = jax.pure_callback(lambda *x: tuple(wrapped.gradients(*x)), tuple(shapes), *params)
        return tuple(g * one for one in made)

    loss.defvjp(lambda *params: (loss(*params), params), backward)
    check_grads(loss, tuple(map(jax.numpy.asarray, wrapped.arrays)), order=1, modes=["rev"])


def autograd_check_grads(wrapped: Wrapped) -> None:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    loss = primitive(lambda *params: float(wrapped.loss(*params)))

    def rule(i: int) -> Any:
        return lambda answer, *params: lambda g: g * wrapped.gradients(*params)[i]

    defvjp(loss, *map(rule, range(len(wrapped.arrays))))
    np.random.seed(0)  # noqa: NPY002  # its directions are drawn from there
    for i in range(len(wrapped.arrays)):  # it looks at one argument, the first unless told
        try:
            check_grads(loss, i, modes=["rev"], order=1)(*wrapped.arrays)
        except AssertionError as error:
            raise AssertionError(f"with respect to input {i}: {error}") from error


CHECKS: dict[str, tuple[str, Check]] = {
    "PyTorch": ("torch", torch_gradcheck),
    "JAX": ("jax", jax_check_grads),
    "autograd": ("autograd", autograd_check_grads),
}
# Where a message says which input it is about, counted from 0.
INPUT = re.compile(r"with respect to input (\d+)|gradient at index (\d+)|at output\[(\d+)\]")


def answered(check: Check, case: Case) -> Answer:
    """One check of one case."""
    wrapped = Wrapped(case)
    try:
        check(wrapped)
    except Exception as error:  # each raises another kind of error when it finds a fault
        return _read(wrapped, case.mistake, str(error))
    return Answer(False, False, False)


def _read(wrapped: Wrapped, mistake: Mistake | None, said: str) -> Answer:
    if mistake is None:
        return Answer(True, False, False)
    found = INPUT.search(said)
    index = next((int(one) for one in found.groups() if one), None) if found else None
    located = index is not None and list(labels(wrapped.params))[index] in mistake.quantities
    shape = "shape" in said and bool(OF_SHAPE & set(mistake.kinds))
    words = any(kind.replace("_", " ") in said for kind in mistake.kinds)
    return Answer(True, located, located and (shape or words))


def ours(case: Case) -> Answer:
    if case.mistake is None:
        report = checked(case)
        return Answer(isinstance(report, str) or not report.ok, False, False)
    found = outcome(case)
    return Answer(found.detected, found.located, found.first)


def compared(wrong: list[Case], right: list[Case]) -> str:
    """What each of the checks detects of each kind, locates and names, and whom it accuses."""
    tools: dict[str, Callable[[Case], Answer]] = {"tinygrad_np": ours}
    missing = []
    for name, (module, check) in CHECKS.items():
        if importlib.util.find_spec(module) is None:
            missing.append(f"{name} is not installed, and was not asked.")
        else:
            tools[name] = lambda case, check=check: answered(check, case)
    answers = {name: [tool(case) for case in wrong] for name, tool in tools.items()}
    accused = {name: sum(tool(case).detected for case in right) for name, tool in tools.items()}
    kinds = [case.mistake.kinds[0] for case in wrong if case.mistake is not None]
    lines = ["detected, of each kind", _row("", "cases", tools)]
    for kind in sorted(set(kinds)):
        there = [i for i, one in enumerate(kinds) if one == kind]
        lines.append(
            _row(
                kind, len(there), [sum(answers[name][i].detected for i in there) for name in tools]
            )
        )
    for title, index in ("detected", 0), ("first wrong quantity named", 1), ("kind named", 2):
        counts = [sum(one[index] for one in answers[name]) for name in tools]
        lines.append(_row(title, len(wrong), counts))
    lines.append(_row("right programs accused", len(right), accused.values()))
    return "\n".join([*lines, *missing])


def _row(name: str, cases: Any, columns: Any) -> str:
    return f"{name:32}{cases:>6}" + "".join(f"{one:>12}" for one in columns)
