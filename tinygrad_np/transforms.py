"""Functions of functions: `grad`, `vjp`, `jvp`, `jacobian`, `hessian`, `hvp`, `checkpoint`.

Arguments may be arrays, numbers, Tensors, or tuples, lists and dicts of them, and every transform
may be nested in every other. What is given as a Tensor comes back as a Tensor, what is given as an
array or a number comes back as an array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tree
from .backward import gradients, reach, sweep
from .core import Node, Tensor, case, handle, mode, plain, primitive, samples, tick
from .errors import DtypeError, GradientError, IndexingError, ShapeError, message
from .ops.shape import reshape, stack

Function = Callable[..., Any]

# The same value under a node of its own, so that a function can be differentiated with respect to
# its argument and not to everything else that the argument's tensor is used for.
alias = primitive(lambda x: x, "{x}", name="alias").vjp(x=lambda g: g)
alias.samples(lambda r: [case(r(2, 3))], reference=lambda x: x)


def _variable(name: str, leaf: Any) -> Tensor:
    """A tensor to differentiate with respect to, in place of an argument."""
    if type(leaf) is Tensor and leaf.requires_grad:
        variable: Tensor = alias(leaf)
        variable.name = leaf.name
        return variable
    value = np.asarray(plain(leaf))
    if value.dtype.kind != "f":
        raise DtypeError(
            message(name, "floating-point arguments to differentiate", f"dtype {value.dtype}",
                    "Give floats (1.0, not 1), or choose other argnums.")
        )  # fmt: skip
    return Tensor(value, requires_grad=True, name=leaf.name if type(leaf) is Tensor else None)


class Trace:
    """One call of a function on variables, and the way back."""

    def __init__(self, name: str, f: Function, args: Sequence[Any], argnums: Sequence[int]) -> None:
        self.name = name
        for k in argnums:
            if not -len(args) <= k < len(args):
                raise IndexingError(
                    message(name, f"argnums within the {len(args)} arguments", str(k))
                )
        self.given = [args[k] for k in argnums]
        self.variables = [tree.rebuild(g, functools.partial(_variable, name)) for g in self.given]
        call = list(args)
        for k, variable in zip(argnums, self.variables):
            call[k] = variable
        self.flat: list[Tensor] = tree.leaves(self.variables)
        for variable in self.flat:
            variable.node.origin = self
        self.running = True
        self.output = f(*call)
        self.running = False
        # The gradient is recorded if something outside could be differentiated through it: a leaf
        # of the user's, or a variable of a transform in which this one is nested.
        self.nested = any(
            node.needs and (not isinstance(node.origin, Trace) or node.origin.running)
            for node in _leaf_nodes(tree.leaves(self.output))
        )

    def scalar(self) -> Tensor:
        """The output, which has to be one number."""
        if type(self.output) is not Tensor:
            shape = (
                np.shape(self.output) if not isinstance(self.output, tuple | list | dict) else None
            )
            if shape == ():
                return Tensor(self.output)
        if type(self.output) is not Tensor or self.output.size != 1:
            got = (
                f"shape {self.output.shape}" if type(self.output) is Tensor
                else type(self.output).__name__
            )  # fmt: skip
            raise ShapeError(
                message(self.name, "a function that returns a scalar", got,
                        "Reduce it (.sum(), .mean()), or use jacobian or vjp.")
            )  # fmt: skip
        return self.output

    def pull(self, outputs: list[Any], cotangents: list[Any], record: bool) -> list[Tensor]:
        """The gradients with respect to the variables, flat."""
        live = [
            (y, c) for y, c in zip(outputs, cotangents) if type(y) is Tensor and y.requires_grad
        ]
        if not live:
            return [Tensor(np.zeros_like(v.data)) for v in self.flat]
        found: list[Tensor] = gradients(
            [y for y, _ in live], self.flat, [c for _, c in live], create_graph=record,
            unreached="zeros",
        )  # fmt: skip
        return found

    def back(self, flat: list[Tensor]) -> list[Any]:
        """Gradients in the structure and the types of the arguments given."""
        originals = iter(tree.leaves(self.given))
        typed = iter([_as_given(g, next(originals), self.nested) for g in flat])
        return [tree.like(given, typed) for given in self.given]


def _leaf_nodes(outputs: list[Any]) -> set[Node]:
    """The leaves below some outputs."""
    nodes = [y.node for y in outputs if type(y) is Tensor and y.requires_grad]
    below = {parent for node in reach(nodes) for parent in node.inputs}
    return {node for node in below.union(nodes) if node.primitive is None}


def _as_given(result: Any, given: Any, nested: bool) -> Any:
    """A result as a Tensor for a Tensor (or inside another transform), as an array for an array."""
    if type(given) is Tensor or nested or type(result) is not Tensor:
        return result
    return result.data if isinstance(given, np.ndarray) else result.data[()]


def _value(y: Any, nested: bool, given: list[Any]) -> Any:
    """The function's own value, as plain as its arguments were."""
    if nested or any(type(g) is Tensor for g in given):
        return y
    return tree.rebuild(y, lambda leaf: plain(leaf)[()] if type(leaf) is Tensor else leaf)


def _numbers(argnums: int | Sequence[int]) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns ``(f(x), df/dx)``.

    Parameters
    ----------
    f : callable
        Returns a scalar.
    argnums : int or sequence of int
        The arguments to differentiate with respect to; the gradient is a tuple for a sequence.

    Returns
    -------
    callable
        Of the arguments of ``f``.

    Raises
    ------
    ShapeError
        If ``f`` does not return a scalar.
    DtypeError
        If an argument to differentiate is not floating-point.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> value, g = tg.value_and_grad(lambda p: (p["w"] ** 2).sum())({"w": np.array([1.0, 3.0])})
    >>> float(value), g["w"]
    (10.0, array([2., 6.]))
    """

    @functools.wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        numbers = _numbers(argnums)
        trace = Trace("grad", functools.partial(f, **kwargs), args, numbers)
        y = trace.scalar()
        parts = trace.back(trace.pull([y], [np.ones_like(y.data)], trace.nested))
        value = _value(trace.output, trace.nested, tree.leaves(trace.given))
        return value, parts[0] if isinstance(argnums, int) else tuple(parts)

    return run


def grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the gradient ``df/dx`` of a scalar function; see `value_and_grad`.

    Parameters
    ----------
    f : callable
        Returns a scalar.
    argnums : int or sequence of int
        The arguments to differentiate with respect to.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> float(tg.grad(tg.grad(np.sin))(1.0))
    -0.8414709848078965
    """
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return run


def vjp(f: Function, *args: Any) -> tuple[Any, Function]:
    """``f(*args)`` and the function that takes ``g`` to ``g^T J``, one cotangent for each argument.

    Parameters
    ----------
    f : callable
        Returns a tensor, or a nest of them.
    *args
        Where to differentiate: all arguments are differentiated.

    Returns
    -------
    y
        The value.
    pull : callable
        Given cotangents in the structure of ``y``, returns a tuple with one part for each argument.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> y, pull = tg.vjp(lambda x: x**2, np.array([1.0, 2.0, 3.0]))
    >>> pull(np.ones(3))
    (array([2., 4., 6.]),)
    """
    trace = Trace("vjp", f, args, range(len(args)))
    outputs = tree.leaves(trace.output)

    def pull(cotangents: Any) -> tuple[Any, ...]:
        gs = tree.leaves(cotangents)
        if len(gs) != len(outputs):
            raise ShapeError(message("vjp", f"{len(outputs)} cotangents", str(len(gs))))
        nested = trace.nested or any(type(g) is Tensor and g.requires_grad for g in gs)
        return tuple(trace.back(trace.pull(outputs, gs, nested)))

    return _value(trace.output, trace.nested, tree.leaves(trace.given)), pull


def jvp(f: Function, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``f(*args)`` and the directional derivative ``J v``.

    Computed by differentiating the VJP, which is linear in its cotangent, with respect to it.

    Parameters
    ----------
    f : callable
        Returns a tensor, or a nest of them.
    args : sequence
        Where to differentiate.
    tangents : sequence
        The direction, in the structure and the shapes of ``args``.

    Returns
    -------
    y, dy
        The value, and the derivative in the structure of ``y``.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> _, dy = tg.jvp(lambda x: x**2, [np.array([1.0, 2.0])], [np.array([1.0, 10.0])])
    >>> dy
    array([ 2., 40.])
    """
    trace = Trace("jvp", f, args, range(len(args)))
    vs = tree.leaves(list(tangents))
    for v, x in zip(vs, trace.flat):
        if np.shape(plain(v)) != x.shape:
            raise ShapeError(
                message("jvp", f"a tangent of shape {x.shape}", f"{np.shape(plain(v))}")
            )
    if len(vs) != len(trace.flat):
        raise ShapeError(message("jvp", f"{len(trace.flat)} tangents", str(len(vs))))
    outputs = tree.leaves(trace.output)
    seeds = [
        Tensor(np.zeros(np.shape(plain(y))), requires_grad=True, dtype=_float(y)) for y in outputs
    ]
    pulled = trace.pull(outputs, seeds, record=True)
    terms = [(p * v).sum() for p, v in zip(pulled, vs) if p.requires_grad]
    plain_args = not any(type(g) is Tensor for g in tree.leaves([list(args), list(tangents)]))
    if terms:
        dys = gradients(terms, seeds, [None] * len(terms), create_graph=not plain_args or trace.nested,
                        unreached="zeros")  # fmt: skip
    else:
        dys = [Tensor(np.zeros_like(seed.data)) for seed in seeds]
    simple = plain_args and not trace.nested
    dy = tree.like(trace.output, iter([d.data[()] if simple else d for d in dys]))
    return _value(trace.output, trace.nested, tree.leaves([list(args), list(tangents)])), dy


def _float(y: Any) -> Any:
    dtype = np.asarray(plain(y)).dtype
    return dtype if dtype.kind == "f" else np.float64


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns all derivatives ``J[i, j] = dy_i / dx_j``, one backward pass a ``y_i``.

    Parameters
    ----------
    f : callable
        Returns a tensor, or a nest of them.
    argnums : int or sequence of int

    Returns
    -------
    callable
        Returns, for each output and each argument (in their structures), an array of the output's
        shape followed by the argument's.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        trace = Trace("jacobian", functools.partial(f, **kwargs), args, _numbers(argnums))

        def of_output(y: Any) -> Any:
            shape = np.shape(plain(y))
            rows = []
            for index in np.ndindex(shape):
                seed = np.zeros(shape, _float(y))
                seed[index] = 1
                rows.append(trace.pull([y], [seed], trace.nested))
            columns = [
                _stacked([row[k] for row in rows], (*shape, *x.shape), x.dtype)
                for k, x in enumerate(trace.flat)
            ]
            parts = trace.back(columns)
            return parts[0] if isinstance(argnums, int) else tuple(parts)

        return tree.rebuild(trace.output, of_output)

    return run


def _stacked(rows: list[Tensor], shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Gradients as one tensor of the given shape."""
    if not rows:
        return Tensor(np.zeros(shape, dtype))
    return reshape(stack(rows), shape)


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """A function that returns the second derivatives ``H[i, j] = d2f / dx_i dx_j`` of a scalar.

    Parameters
    ----------
    f : callable
        Returns a scalar.
    argnums : int or sequence of int

    Returns
    -------
    callable
        Returns an array of the argument's shape twice over (for nests: a nest of nests).

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.hessian(lambda x: x[0] * x[1] ** 2)(np.array([1.0, 3.0]))
    array([[0., 6.],
           [6., 2.]])
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Function, args: Any, vectors: Any) -> Any:
    """Hessian-vector product ``H v`` of a scalar function, without forming ``H``.

    Parameters
    ----------
    f : callable
        Returns a scalar.
    args : sequence
        Where to differentiate: all arguments.
    vectors : sequence
        One direction for each argument, of its structure and shapes.

    Returns
    -------
    tuple
        One part for each argument.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> tg.hvp(lambda x: (x**3).sum(), [np.array([1.0, 2.0])], [np.array([1.0, 1.0])])
    (array([ 6., 12.]),)
    """
    numbers = tuple(range(len(args)))
    vs = tree.leaves(list(vectors))

    def slope(*xs: Any) -> Any:
        parts = tree.leaves(list(grad(f, numbers)(*xs)))
        if len(parts) != len(vs):
            raise ShapeError(message("hvp", f"{len(parts)} vectors", str(len(vs))))
        for part, v in zip(parts, vs):
            if part.shape != np.shape(plain(v)):
                raise ShapeError(
                    message("hvp", f"a vector of shape {part.shape}", f"{np.shape(plain(v))}")
                )
        return sum((part * v).sum() for part, v in zip(parts, vs))

    return grad(slope, numbers)(*args)


def checkpoint(f: Function) -> Function:
    """The same function, whose intermediate results are not kept but computed again in `backward`.

    The memory of a deep stack then follows its checkpoints instead of its operations, for the time
    of one more forward pass.

    Parameters
    ----------
    f : callable
        Of tensors, arrays and anything else; returns one Tensor. It may use other tensors
        (the parameters of a layer), which get their gradients too.

    Returns
    -------
    callable

    Raises
    ------
    GradientError
        In `backward`, if computing again gave another result: ``f`` draws random numbers from a
        generator that has moved on, or a tensor was changed.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> w = tg.Tensor([2.0], requires_grad=True)
    >>> x = tg.Tensor([3.0], requires_grad=True)
    >>> tg.checkpoint(lambda x: np.exp(w * x).log())(x).backward()
    >>> w.grad, x.grad
    (array([3.]), array([2.]))
    """

    @functools.wraps(f)
    def run(*args: Any, **kwargs: Any) -> Any:
        start = tick()
        y = f(*args, **kwargs)
        if isinstance(y, np.ndarray):
            return y
        if type(y) is not Tensor:
            raise DtypeError(
                message("checkpoint", "a function that returns one Tensor", type(y).__name__)
            )
        if not y.requires_grad:
            return y
        used = _used_since(start, y.node)
        segment = Segment(lambda: f(*args, **kwargs), used, y.data)
        return checkpointed(*[handle(node) for node in used], segment=segment)

    return run


class Segment:
    """A checkpointed piece: how to compute it again, what it used, and what it gave."""

    def __init__(self, compute: Callable[[], Tensor], used: list[Node], value: Any) -> None:
        self.compute, self.used, self.value = compute, used, value
        self.latest: tuple[Any, dict[Node, Any]] = (None, {})  # a cotangent, and what it became

    def pulled(self, g: Any, i: int) -> Any:
        """The cotangent of the i-th node used: all are computed with the first."""
        if self.latest[0] is not g:
            with mode(recording=True):
                again = self.compute()
                if not np.array_equal(again.data, self.value, equal_nan=True):
                    raise GradientError(
                        "checkpoint: computing again in the backward pass gave another result. Does "
                        "the function draw random numbers, or was a tensor changed since?"
                    )
                recorded = type(g) is Tensor
                found = sweep([again.node], [g], recorded, wanted=self.used, partial=True)
            self.latest = g, found
        node = self.used[i]
        found = self.latest[1]
        if i == len(self.used) - 1:
            self.latest = (None, {})
        return found[node] if node in found else np.zeros_like(node.value)


checkpointed = primitive(
    lambda *xs, segment: segment.value, "checkpoint({xs})", name="checkpoint"
).vjp(xs=lambda g, i, segment: segment.pulled(g, i))


def checkpointed_layer(x: Any, W: Any) -> Tensor:
    """A layer whose product is computed again in `backward`: a sample of `checkpoint`."""
    y: Tensor = checkpoint(lambda x: np.tanh(x @ W))(x)
    return y


samples(
    checkpointed_layer,
    lambda r: [case(r(2, 3), r(3, 3))],
    reference=lambda x, W: np.tanh(x @ W),
)


def _used_since(start: int, output: Node) -> list[Node]:
    """The older nodes that the nodes recorded since ``start`` were computed from."""
    used: dict[Node, None] = {}
    for node in reach([output]):
        if node.order > start:
            used |= {p: None for p in node.inputs if p.needs and p.order < start}
    return list(used)
