"""The backward pass: reach, order, accumulate, undo broadcasting.

From the outputs the pass walks back to every node that needs a gradient, visits them youngest
first, calls each VJP once with the complete cotangent, and adds up what arrives. Given arrays, the
formulas compute arrays; given Tensors, the same formulas are recorded, which is how second and
higher derivatives come about.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .core import (
    ONE,
    Node,
    Primitive,
    Tensor,
    current_audit,
    current_log,
    handle,
    ndarray,
    parameter_names,
    plain,
    told,
)
from .effects import note_change
from .errors import DtypeError, GradientError, ShapeError, TensorError, message

by_order = attrgetter("order")
engine = sys.modules[__name__]  # whose functions the backward steps call


def backward(output: Tensor, cotangent: ArrayLike | None = None) -> None:
    """Add d(output)/d(leaf) to the ``.grad`` of every leaf that requires a gradient.

    Parameters
    ----------
    output : Tensor
        A scalar, or of any shape if a cotangent is given.
    cotangent : array_like, optional
        The gradient of some final scalar with respect to ``output``, of its shape; 1 by default.

    Raises
    ------
    GradientError
        If nothing on the way needs a gradient; if ``output`` is not a scalar and no cotangent is
        given; if a leaf was changed after it was used.

    Notes
    -----
    A second call adds once more, exactly. Gradients stay until they are set to None.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).backward([1.0, 10.0])
    >>> x.grad
    array([ 2., 40.])
    """
    seed = _seed(output, cotangent)
    log = current_log()
    arrived = (
        sweep([output.node], [seed]) if log is None else log.apart(sweep, [output.node], [seed])
    )
    audit = current_audit()
    if audit is not None:
        audit.finished(arrived)
    if log is not None:
        log.before_delivery(arrived)
    deliver(arrived, given=[seed])
    if log is not None:
        log.delivered(arrived)
    for callback in list(_after.values()):
        told("refuse", "tg.after_backward calls a function that a replay knows nothing of.")
        callback()


def gradients(
    output: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    cotangent: Any = None,
    create_graph: bool = False,
    unreached: str = "error",
) -> Any:
    """The gradients of ``output`` with respect to ``inputs``, which ``.grad`` is not touched by.

    Parameters
    ----------
    output : Tensor or sequence of Tensor
        What is differentiated. Several outputs are added up, each with its cotangent.
    inputs : Tensor or sequence of Tensor
        Leaves or intermediate results of the recorded graph.
    cotangent : array_like or sequence, optional
        For each output, of its shape; 1 for scalars by default.
    create_graph : bool
        Whether the gradients are to be recorded, so that they can be differentiated again.
    unreached : {"error", "zeros"}
        What to do about an input on which no output depends.

    Returns
    -------
    Tensor, or list of Tensor for a sequence of inputs
        Of the shapes and dtypes of the inputs.

    Raises
    ------
    GradientError
        As `backward`; and if an output does not depend on an input.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor(3.0, requires_grad=True)
    >>> dy = tg.gradients(x**3, x, create_graph=True)
    >>> dy.item(), tg.gradients(dy, x).item()
    (27.0, 18.0)
    """
    outputs = [output] if isinstance(output, Tensor) else list(output)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    cotangents = [cotangent] if isinstance(output, Tensor) else cotangent or [None] * len(outputs)
    if len(cotangents) != len(outputs):
        raise GradientError(
            message("gradients", f"{len(outputs)} cotangents, one for each output",
                    str(len(cotangents)))
        )  # fmt: skip
    live = [(o, c) for o, c in zip(outputs, cotangents) if o.requires_grad or unreached == "error"]
    seeds = [_seed(o, c, recorded=create_graph) for o, c in live]
    nodes = [tensor.node for tensor in wanted]
    log = None if create_graph else current_log()
    args = [o.node for o, _ in live], seeds, create_graph, nodes
    found = sweep(*args) if log is None else log.apart(sweep, *args)
    results = [_result(tensor, found, create_graph, unreached) for tensor in wanted]
    return results[0] if isinstance(inputs, Tensor) else results


def _result(tensor: Tensor, found: dict[Node, Any], recorded: bool, unreached: str) -> Tensor:
    node = tensor.node
    if node in found:
        g = found[node]
        return g if recorded else Tensor(fitted(g, node))
    if unreached == "error":
        raise GradientError(
            f"gradients: the output does not depend on {node.label}. Was it used before a "
            'detach(), under no_grad(), or not at all? unreached="zeros" gives zeros.'
        )
    return Tensor(np.zeros_like(node.value))


def _seed(output: Tensor, cotangent: Any, recorded: bool = False) -> Any:
    """The cotangent that the pass starts from, checked."""
    node = output.node
    if not node.needs:
        raise GradientError(
            f"backward: {node.label} needs no gradient: nothing it was computed from has "
            "requires_grad=True, or it was computed under no_grad()."
        )
    value = node.value
    if value.dtype.kind == "c":
        raise DtypeError(message("backward", "a real output", f"dtype {value.dtype}"))
    if cotangent is None:
        if value.size != 1:
            raise GradientError(
                message("backward", "a scalar", f"{node.label}" if node.name is None else
                        f"{node.label} of shape {value.shape}",
                        "Reduce it (.sum() or .mean()), or give a cotangent of its shape.")
            )  # fmt: skip
        one = ONE[value.dtype]
        if not recorded:
            return one if value.ndim == 0 else one.reshape(value.shape)
        cotangent = one.reshape(value.shape)
    given = np.asarray(plain(cotangent))
    if given.shape != value.shape:
        raise ShapeError(
            message(
                "backward", f"a cotangent of the output's shape {value.shape}", f"{given.shape}"
            )
        )
    if not recorded:
        return given.astype(value.dtype, copy=False)
    return cotangent if isinstance(cotangent, Tensor) else Tensor(given.astype(value.dtype))


def reach(
    outputs: Iterable[Node], stop: Iterable[Node] = (), hooked: list[Node] | None = None
) -> list[Node]:
    """Every computed node that a gradient flows through on its way back, youngest first.

    The walk does not go beyond the nodes of ``stop``. Leaves with hooks are added to ``hooked``.
    """
    todo = list(outputs)
    seen = {*todo, *stop}
    found = []
    while todo:
        node = todo.pop()
        if node.primitive is None:
            if node.hooks is not None and hooked is not None:
                hooked.append(node)
            continue
        found.append(node)
        for parent in node.inputs:
            if parent.needs and parent not in seen:
                seen.add(parent)
                todo.append(parent)
    found.sort(key=by_order, reverse=True)
    return found


def sweep(
    outputs: Sequence[Node],
    cotangents: Sequence[Any],
    recorded: bool = False,
    wanted: Sequence[Node] | None = None,
    partial: bool = False,
) -> dict[Node, Any]:
    """Run the VJPs back from the outputs; what arrives at the leaves (or at the wanted nodes).

    With ``recorded`` the cotangents are Tensors and the formulas are recorded like any operation.
    With ``wanted`` only the paths to those nodes are followed; with ``partial`` each of them counts
    as a variable of its own, also where it was computed from another. The hooks of a leaf run as
    soon as its cotangent is complete.
    """
    hooked: list[Node] = []
    nodes: list[Any] = reach(outputs, wanted if partial and wanted else (), hooked)
    ends = _last_uses(nodes, hooked) if hooked else {}
    useful = None if wanted is None else between(nodes, wanted)
    targets = frozenset(wanted or ())
    pending: dict[Node, Any] = {}
    for node, g in zip(outputs, cotangents):
        pending[node] = pending[node] + g if node in pending else g
    arrived: dict[Node, Any] = {}
    audit = current_audit()
    everything = not recorded and useful is None and audit is None
    try:
        for node in nodes:
            g = pending.pop(node, None)
            if g is None:
                continue
            if node.hooks is not None:
                g = _run_hooks(node, g)
            if everything:
                node.primitive.pull(node, g, pending, engine)
                if ends:
                    _run_leaf_hooks(ends.get(node, ()), pending)
                continue
            if node in targets:
                arrived[node] = g
            if audit is not None:
                audit.before_step(node)
            pull_useful(node, g, pending, useful, recorded)
            if audit is not None:
                audit.after_step(node, g, pending)
            _run_leaf_hooks(ends.get(node, ()), pending)
    except Exception as error:
        raise _explained(node, g, error) from error
    _run_leaf_hooks(ends.get(None, ()), pending)
    for node, g in pending.items():  # what is left are leaves
        if wanted is None or node in targets:
            arrived[node] = g
    log = current_log()
    if log is not None and not recorded:
        log.swept(outputs, cotangents, wanted, partial, arrived)
    return arrived


def _last_uses(nodes: list[Node], leaves: list[Node]) -> dict[Node | None, list[Node]]:
    """The leaves that no node after the key reads; under None those that are outputs themselves."""
    last = {parent: node for node in nodes for parent in node.inputs if parent.primitive is None}
    ends: dict[Node | None, list[Node]] = {}
    for leaf in leaves:
        ends.setdefault(last.get(leaf), []).append(leaf)
    return ends


def _run_leaf_hooks(leaves: Iterable[Node], pending: dict[Node, Any]) -> None:
    for leaf in leaves:
        if leaf in pending:
            pending[leaf] = _run_hooks(leaf, pending[leaf])


def between(nodes: list[Node], wanted: Sequence[Node]) -> set[Node]:
    """Those of ``nodes`` (youngest first) and of ``wanted`` that lead to a wanted node."""
    useful = set(wanted)
    for node in reversed(nodes):
        if not useful.isdisjoint(node.inputs):
            useful.add(node)
    return useful


def pull_useful(
    node: Node, g: Any, pending: dict[Node, Any], useful: set[Node] | None, recorded: bool
) -> None:
    """The backward step of one node, argument by argument: only the useful ones, or recorded."""
    primitive = node.primitive
    assert primitive is not None
    values = [_lifted(parent) if recorded else parent.value for parent in node.inputs]
    known = dict(zip(primitive.arguments, values)) | {"xs": values} | (node.params or {})
    known |= {"g": g, "y": handle(node) if recorded else node.value}
    for i, parent in enumerate(node.inputs):
        formula = primitive.formulas.get("xs" if primitive.variadic else primitive.arguments[i])
        if formula is None or not parent.needs or (useful is not None and parent not in useful):
            continue
        if parent.order > node.order:
            refuse_stale(node, parent)
        if primitive.residuals and not primitive.residuals.keys() <= known.keys():
            known |= _residuals(primitive, known) if recorded else node.saved or {}
        d = not_lent(_called(formula, known | {"i": i}), node)
        if d.shape != parent.value.shape:
            d = unbroadcast(d, parent.value.shape, node)
        pending[parent] = pending[parent] + d if parent in pending else d


def _lifted(node: Node) -> Any:
    """A node as a formula reads it when it is to be recorded: a Tensor, or a plain number."""
    return handle(node) if isinstance(node.value, ndarray) else node.value


def _residuals(primitive: Primitive, known: dict[str, Any]) -> dict[str, Any]:
    """The residuals computed again, so that they are recorded."""
    return {name: _called(formula, known) for name, formula in primitive.residuals.items()}


def _called(formula: Callable[..., Any], known: dict[str, Any]) -> Any:
    return formula(*[known[name] for name in parameter_names(formula)])


def deliver(found: dict[Node, Any], given: Sequence[Any] = ()) -> None:
    """Add each cotangent to its leaf's ``.grad``.

    An array that something else may hold (another leaf, a saved value, the caller) is copied, since
    users and optimizers write into gradients.
    """
    held = {id(g) for g in given}
    for leaf, g in found.items():
        if type(g) is not ndarray or g.dtype is not leaf.value.dtype:
            g = fitted(g, leaf)
        if leaf.grad is not None:
            leaf.grad = np.asarray(leaf.gradient() + g)  # the sum of two 0-d arrays is a number
            continue
        if g.base is not None or id(g) in held:
            g = g.copy()
        held.add(id(g))
        leaf.grad = g


def fitted(g: Any, node: Node) -> NDArray[Any]:
    """A cotangent as an ndarray of the node's dtype."""
    g = plain(g)
    if type(g) is ndarray and g.dtype == node.value.dtype:
        return g
    if np.iscomplexobj(g):
        raise DtypeError(
            f"backward: the gradient of {node.label} came out complex. Only real functions of real "
            "tensors are differentiated; take .real parts or split the computation."
        )
    return np.asarray(g, dtype=node.value.dtype)


def unbroadcast(g: Any, shape: tuple[int, ...], node: Node | None = None) -> Any:
    """Sum a cotangent over the axes along which an argument of ``shape`` was broadcast."""
    extra = g.ndim - len(shape)
    if extra == 1 and g.ndim == 2 and type(g) is ndarray and g.shape[1] == shape[0]:
        return added_rows(g)
    stretched = tuple(
        axis for axis in range(g.ndim)
        if axis < extra or (shape[axis - extra] == 1 and g.shape[axis] != 1)
    )  # fmt: skip
    if extra < 0 or any(m not in (1, n) for n, m in zip(g.shape[extra:], shape)):
        name = "a VJP" if node is None else f"the VJP of {node.primitive.name}"  # type: ignore[union-attr]
        raise ShapeError(
            message("backward", f"{name} to return the argument's shape {shape} "
                    "(or one that broadcasting made of it)", f"shape {g.shape}")
        )  # fmt: skip
    return (added(g, stretched) if stretched else g).reshape(shape)


def added(x: Any, axes: tuple[int, ...]) -> Any:
    """``x.sum(axis=axes)``: `numpy.einsum` takes half to two thirds of the time, if numbers are kept."""
    if len(axes) == x.ndim or x.dtype.kind != "f":
        return x.sum(axis=axes)
    return np.einsum(x, range(x.ndim), [i for i in range(x.ndim) if i not in axes])


def added_rows(g: NDArray[Any]) -> NDArray[Any]:
    """``g.sum(axis=0)`` of a matrix, by BLAS where it can: several times faster."""
    ones = _ones(g.shape[0], g.dtype.char)
    rows: NDArray[Any] = g.sum(axis=0) if ones is None else ones.dot(g)
    return rows


@lru_cache(maxsize=64)
def _ones(n: int, char: str) -> NDArray[Any] | None:
    """A vector of ones of a dtype that BLAS multiplies; None for another."""
    return np.ones(n, dtype=char) if char in "fd" else None


def not_lent(d: Any, node: Node) -> Any:
    """A cotangent that is no array of the graph itself, since users write into gradients."""
    saved = [parent.value for parent in node.inputs] + [node.value, *(node.saved or {}).values()]
    return d.copy() if any(d is value for value in saved) else d


def refuse_stale(node: Node, parent: Node) -> None:
    """Raise if a leaf that the VJPs of ``node`` read has been changed since ``node`` was computed."""
    primitive = node.primitive
    assert primitive is not None
    name = "xs" if primitive.variadic else primitive.arguments[node.inputs.index(parent)]
    if any(name in parameter_names(formula) for formula in primitive.formulas.values()):
        raise GradientError(
            f"backward: {parent.label} was changed after {primitive.name} used it, so its gradient "
            "would mix old and new values. Run the forward pass again before backward(), or change "
            "the tensor (optimizer.step(), .data = ...) only afterwards."
        )


def _explained(node: Node, g: Any, error: Exception) -> Exception:
    """An error inside a VJP: says whose it is, and whether it returned no array."""
    primitive = node.primitive
    assert primitive is not None
    if isinstance(error, AttributeError) and "shape" in str(error):
        return DtypeError(
            message(f"backward: the VJP of {primitive.name}",
                    "an array of the argument's shape", str(error))
        )  # fmt: skip
    if not isinstance(error, TensorError):
        error.add_note(
            f"in the backward step (VJP or hook) of {primitive.name}, given a cotangent of shape {g.shape}"
        )
    return error


def _run_hooks(node: Node, g: Any) -> Any:
    assert node.hooks is not None
    for hook in list(node.hooks.values()):
        result = hook(node, g)
        g = g if result is None else result
    return g


def retain_grad(tensor: Tensor) -> None:
    """Keep the gradient of an intermediate result in its ``.grad`` after `backward`.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> h = x * 3
    >>> h.retain_grad()
    >>> (h * h).sum().backward()
    >>> h.grad
    array([ 6., 12.])
    """
    node = tensor.node
    if not node.needs:
        raise GradientError(f"retain_grad: {node.label} needs no gradient.")
    if node.primitive is not None:
        node.hooks = (node.hooks or {}) | {0: retained}


def retained(node: Node, g: Any) -> None:
    g = fitted(g, node).copy()
    node.grad = g if node.grad is None else np.asarray(node.gradient() + g)


def register_hook(tensor: Tensor, hook: Callable[[Any], Any]) -> Callable[[], None]:
    """Call ``hook(g)`` with the complete cotangent of a tensor; what it returns replaces ``g``.

    Parameters
    ----------
    tensor : Tensor
        A leaf or an intermediate result that needs a gradient. The hook runs as soon as its
        cotangent is complete, while the pass goes on to older operations.
    hook : callable
        Given an ndarray (a Tensor under ``create_graph``); returns None, or one of the same shape.

    Returns
    -------
    callable
        Call it to remove the hook.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> remove = x.register_hook(lambda g: g * 10)
    >>> x.sum().backward()
    >>> x.grad
    array([10., 10.])
    """
    node = tensor.node
    if not node.needs:
        raise GradientError(f"register_hook: {node.label} needs no gradient.")

    def run(node: Node, g: Any) -> Any:
        result = hook(g)
        if result is not None and getattr(result, "shape", None) != node.value.shape:
            raise ShapeError(
                message(f"hook on {node.label}", f"None or shape {node.value.shape}",
                        f"{getattr(result, 'shape', type(result).__name__)}")
            )  # fmt: skip
        return result

    node.hooks = (node.hooks or {}) | {id(run): run}
    of_leaf = node.primitive is None  # one of a result is seen where the result is recorded
    if of_leaf:
        note_change(id(node), None, id(run))

    def remove() -> None:
        if node.hooks is not None and node.hooks.pop(id(run), None) is not None and of_leaf:
            note_change(id(node), id(run), None)

    return remove


_after: dict[object, Callable[[], Any]] = {}  # what `after_backward` registered


def after_backward(callback: Callable[[], Any]) -> Callable[[], None]:
    """Call ``callback()`` each time `backward` has added its gradients to the leaves.

    It may set the ``.grad`` of any tensor, which is how gradients are averaged over processes.

    Parameters
    ----------
    callback : callable
        Given nothing; what it returns is not used.

    Returns
    -------
    callable
        Call it to remove the callback.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([3.0, 4.0], requires_grad=True)
    >>> remove = tg.after_backward(lambda: print("x.grad", x.grad))
    >>> x.sum().backward()
    x.grad [1. 1.]
    >>> remove()
    """
    key = object()
    note_change("after_backward", len(_after), len(_after) + 1)
    _after[key] = callback

    def remove() -> None:
        if _after.pop(key, None) is not None:
            note_change("after_backward", len(_after) + 1, len(_after))

    return remove
