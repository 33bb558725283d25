"""What may be checked: a function, or a model with its own parameters; and how it is called."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import tree
from ..core import Tensor, plain
from ..errors import ArgumentError, message
from .matching import quantity_of
from .rules import Array
from .watching import has_attributes

# What the arguments of forward, loss and backward are usually called.
INPUTS = ("x", "inputs", "input", "data", "xs", "a0", "batch")
TARGETS = ("y", "t", "targets", "target", "labels", "label", "y_true", "ys", "actual", "truth")
RETURNS = "a function that returns (loss, grads), the loss a number"


@dataclass(frozen=True)
class Outcome:
    """What one call returned: the loss, and the gradients with the labels they were given."""

    loss: Any
    gradients: list[tuple[str, Any]]
    listed: bool  # by position, in the order of the parameters

    @property
    def number(self) -> float:
        return float(np.reshape(np.asarray(plain(self.loss)), ()))


@dataclass
class Subject:
    """What is checked: ``call(values)`` runs it with these parameters, always on fresh copies.

    Attributes
    ----------
    labels : list of str
        Of each parameter: ``W1``, ``params[0]``, ``layers[0].W``.
    arrays : list of ndarray
        The parameters.
    data : tuple
        Whatever else it is given.
    """

    run: Callable[[Any, Sequence[Any]], Any]
    holder: Any
    data: tuple[Any, ...]
    labels: list[str] = field(init=False)
    arrays: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.get_state(legacy=True)  # noqa: NPY002 - the user's code may draw from it
        found = [(label, one) for label, one in leaves(self.holder) if _is_float(one)]
        names = [label for label, _ in found]
        # An object may keep gradients beside its parameters.
        kept = [
            (label, one) for label, one in found
            if (not _is_nest(self.holder) and quantity_of(label, [n for n in names if n != label]) is None)
            or _is_nest(self.holder)
        ]  # fmt: skip
        self.labels = [label for label, _ in kept]
        self.arrays = [np.asarray(one) for _, one in kept]
        self.single = {label for label, one in kept if not isinstance(one, np.ndarray)}
        if not kept:
            kinds = sorted({_kind(one) for _, one in leaves(self.holder)})
            raise ArgumentError(
                message("check_backprop", "params: floating-point arrays in a dict, list, tuple or object",
                        f"{type(self.holder).__name__} of {', '.join(kinds) or 'no arrays'}",
                        "Pass what is no parameter as data.")
            )  # fmt: skip

    def call(self, values: Sequence[Any], data: Sequence[Any] | None = None) -> Outcome:
        """The loss and the gradients for these parameters."""
        holder = self._filled(values)
        np.random.set_state(self.random)  # noqa: NPY002
        return _outcome(self.run(holder, self.data_copies() if data is None else data))

    def warmed(self, values: Sequence[Any], data: Sequence[Any]) -> Outcome:
        """The same, but what it leaves behind in the model stays there for the next calls."""
        holder = self._filled(values)
        np.random.set_state(self.random)  # noqa: NPY002
        outcome = _outcome(self.run(holder, data))
        if not _is_nest(self.holder):
            self.holder = holder
        return outcome

    def value(self, arrays: Sequence[Array]) -> float:
        """The loss alone."""
        return self.call([a.copy() for a in arrays]).number

    def data_copies(self) -> list[Any]:
        return [copied(one) for one in self.data]

    def without(self, labels: set[str]) -> None:
        """These were no parameters after all."""
        keep = [i for i, label in enumerate(self.labels) if label not in labels]
        self.labels = [self.labels[i] for i in keep]
        self.arrays = [self.arrays[i] for i in keep]

    def _filled(self, values: Sequence[Any]) -> Any:
        """The holder of the parameters, copied, with these in it."""
        new = dict(zip(self.labels, values))
        for label in self.single & new.keys():
            new[label] = new[label] if isinstance(new[label], Tensor) else float(new[label])
        try:
            holder = copy.deepcopy(self.holder)
        except Exception as error:
            raise ArgumentError(
                message("check_backprop", "an object that can be copied, so that each run starts anew",
                        f"{type(error).__name__}: {error}", "Give a function and a dict of arrays.")
            ) from error  # fmt: skip
        return _walk(holder, "", lambda label, leaf: new.get(label, leaf), set())


def subject(
    what: Any, params: Any, data: tuple[Any, ...], forward: str = "forward", backward: str = "backward"
) -> Subject:  # fmt: skip
    """The subject that the arguments of `check_backprop` describe."""
    owner = getattr(what, "__self__", None)
    if isinstance(what, type):
        raise ArgumentError(
            message("check_backprop", "a function or a model", f"the class {what.__name__}",
                    "Make one: model = " + what.__name__ + "(...).")
        )  # fmt: skip
    if params is None and inspect.ismethod(what) and owner is not None:
        name = what.__name__
        return Subject(lambda model, d: getattr(model, name)(*d), owner, data)
    both = hasattr(what, forward) and hasattr(what, backward)
    if params is None and hasattr(what, "loss") and (not both or _returns_gradients(what, data)):
        return Subject(lambda model, d: model.loss(*d), what, data)
    if params is None and both:
        return Subject(lambda model, d: _forward_backward(model, d, forward, backward), what, data)
    if not callable(what) or params is None:
        fix = "Wrap it: def step(model, X, y): ...; return loss, grads, with params=model."
        if hasattr(what, "loss") or both:
            fix = "A model has its parameters. Write: check_backprop(model, None, X, y)."
        raise ArgumentError(
            message("check_backprop", "a function and its parameters, or a model with loss(X, y), or "
                    "with forward and backward", type(what).__name__, fix)
        )  # fmt: skip
    return Subject(lambda values, d: what(values, *d), params, data)


def _returns_gradients(model: Any, data: Sequence[Any]) -> bool:
    """Whether ``model.loss(*data)`` answers with the loss and its gradients."""
    try:
        inspect.signature(model.loss).bind(*data)
        with np.errstate(all="ignore"):
            _outcome(copy.deepcopy(model).loss(*copied(list(data))))
    except Exception:  # given what it does not expect the user's code may raise anything
        return False
    return True


# -- models with forward and backward ------------------------------------------------------------------


def _forward_backward(model: Any, data: Sequence[Any], forward: str, backward: str) -> Any:
    """``forward``, the loss and ``backward`` of a model in turn; each gets the arguments it names."""
    known: dict[str, Any] = dict.fromkeys(INPUTS, data[0]) if data else {}
    if len(data) > 1:
        known |= dict.fromkeys(TARGETS, data[1])
    made = _handed(getattr(model, forward), known, data)
    results = list(made) if isinstance(made, tuple) else [made]
    loss = results[0]
    names = ("out", "output", "outputs", "pred", "y_pred", "y_hat", "yhat", "probs", "p", "scores",
             "predicted", "prediction", "predictions", "a", "logits")  # fmt: skip
    known |= dict.fromkeys(names, results[0])
    if len(results) > 1:
        known |= {"cache": results[1]}
    grad = None
    for name in ("loss", "compute_loss", "cost", "compute_cost", "criterion", "loss_fn"):
        if callable(getattr(model, name, None)):
            answer = _handed(getattr(model, name), known, [results[0], *data[1:]])
            loss, *rest = answer if isinstance(answer, tuple) else (answer,)
            grad = rest[0] if rest else None
            known |= dict.fromkeys(("dout", "grad", "grad_output", "dloss", "g", "dscores"), grad)
            break
    given = _handed(getattr(model, backward), known, [*([] if grad is None else [grad]), *data])
    return loss, given if _is_gradients(given) else _attributes(model)


def _handed(method: Callable[..., Any], known: dict[str, Any], order: Sequence[Any]) -> Any:
    """Call a method with what its parameters are called; unknown ones get the next of ``order``."""
    arguments = []
    rest = list(order)
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
            parameter.KEYWORD_ONLY,
        ):
            continue
        key = parameter.name.lower()
        if key in known:
            arguments.append(known[key])
            rest = [one for one in rest if one is not known[key]]
        elif parameter.default is not parameter.empty:
            break
        elif rest:
            arguments.append(rest.pop(0))
        else:
            raise ArgumentError(
                message("check_backprop", f"to know what {method.__qualname__} is to be given",
                        f"its parameter {parameter.name!r}",
                        "Wrap it: def step(model, X, y): ...; return loss, grads, with params=model.")
            )  # fmt: skip
    return method(*arguments)


def _is_gradients(value: Any) -> bool:
    return isinstance(value, dict) and bool(tree.leaves(value))


def _attributes(model: Any) -> dict[str, Any]:
    """The attributes of a model that are named as the gradient of another one."""
    found = dict(leaves(model))
    names = [label for label, one in found.items() if _is_float(one) or isinstance(one, Tensor)]
    return {
        label: found[label]
        for label in names
        if quantity_of(label, [name for name in names if name != label]) is not None
    }


# -- what was returned ---------------------------------------------------------------------------------


def _outcome(result: Any) -> Outcome:
    """The loss and the gradients, in whatever order and company they were returned."""
    if not isinstance(result, tuple | list) or len(result) < 2:
        got = type(result).__name__ + (f" of {len(result)}" if isinstance(result, tuple) else "")
        raise _no_outcome(got)
    first, *rest = result
    if isinstance(first, dict) and np.size(plain(rest[0])) == 1:  # (grads, loss)
        first, rest = rest[0], [first]
    if _is_nest(first) or np.size(plain(first)) != 1:
        raise _no_outcome(f"{type(result).__name__} of {len(result)}")
    nest: Any = rest
    if _is_nest(rest[0]) or len(rest) == 1:
        nest = rest[0]
    if isinstance(nest, np.ndarray | Tensor | float | np.floating):
        nest = [nest]
    found = [(label, one) for label, one in leaves(nest) if one is not None]
    if not _is_nest(nest) or not found:
        raise _no_outcome(f"gradients of type {type(nest).__name__}")
    listed = all(label.startswith("params[") for label, _ in found)
    return Outcome(first, found, listed)


def _no_outcome(got: str) -> ArgumentError:
    hint = "Wrap it: lambda params, *data: (loss, grads)."
    return ArgumentError(message("check_backprop", RETURNS, got, hint))


# -- nests and objects of arrays -----------------------------------------------------------------------


def _is_nest(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def _is_float(one: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(one.dtype.kind == "f")
    return isinstance(one, float | np.floating)


def _kind(one: Any) -> str:
    return str(getattr(one, "dtype", type(one).__name__))


def copied(one: Any) -> Any:
    """A nest with its arrays copied."""
    return tree.rebuild(one, lambda x: x.copy() if isinstance(x, np.ndarray) else x)


def leaves(holder: Any) -> list[tuple[str, Any]]:
    """Each leaf of a nest or an object, with the label one would type."""
    found: list[tuple[str, Any]] = []

    def keep(label: str, one: Any) -> Any:
        found.append((label, one))
        return one

    _walk(holder, "", keep, set())
    return found


def _walk(holder: Any, label: str, change: Callable[[str, Any], Any], seen: set[int]) -> Any:
    """The same nest or object with ``change(label, leaf)`` for each leaf; objects are written into."""
    if isinstance(holder, dict):
        return {
            key: _walk(one, f"{label}[{key!r}]" if label else str(key), change, seen)
            for key, one in holder.items()
        }
    if isinstance(holder, list | tuple):
        parts = [
            _walk(one, f"{label or 'params'}[{i}]", change, seen) for i, one in enumerate(holder)
        ]
        return type(holder)(*parts) if hasattr(holder, "_fields") else type(holder)(parts)
    if not has_attributes(holder):
        return change(label, holder)
    if id(holder) in seen:
        return holder
    seen.add(id(holder))
    inside = vars(holder)
    if not label and _is_nest(inside.get("params")):
        inside["params"] = _walk(inside["params"], "", change, seen)
        return holder
    for key in list(inside):
        inside[key] = _walk(inside[key], f"{label}.{key}" if label else key, change, seen)
    return holder
