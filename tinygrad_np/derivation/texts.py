"""One operation as NumPy source that runs.

`Primitive.text` is what a drawing shows; mostly it runs as it is. What does not, because it names a
function that NumPy has not, calls one of `definitions` here, whose source is then part of the
program, or the operation's own Python function.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..core import Primitive
from ..errors import ArgumentError, message
from ..inplace import erase, write
from ..ops import (
    activation,
    attention,
    convolution,
    decompositions,
    embedding,
    index,
    loss,
    normalization,
    pooling,
    products,
    rearrange,
    reduce,
    shape,
    sparse,
)  # fmt: skip
from ..ops.axes import axis_text
from ..ops.index import index_text
from ..program import Step
from . import definitions

Text = Callable[..., str]


class Source(str):
    """A piece of source: its repr is itself, so that it stands in tuples as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _cross_entropy(z: str, t: str, reduction: str, rows: str) -> str:
    picked = f"log_softmax({z})[np.arange({rows}), {t}]"
    return f"-{picked}" if reduction == "none" else f"-np.{reduction}({picked})"


def _along(function: str) -> Text:
    return lambda x, axis, last: (
        f"{function}({x})" if axis == last else f"{function}({x}, axis={axis})"
    )


def _logsumexp(x: str, axis: tuple[int, ...], keepdims: bool) -> str:
    return f"logsumexp({x}, {axis}, keepdims=True)" if keepdims else f"logsumexp({x}, {axis})"


# What the definitions of convolutions and pools take for granted.
PLAIN_WINDOW = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}


def _windowed(function: str, *parts: str) -> Text:
    """A call with those parts of the window, and the groups, that are not the plain ones."""

    def text(window: Any, groups: int = 1, size: Any = None, **known: str) -> str:
        options = {part: getattr(window, part) for part in parts} | {"groups": groups}
        given = [*known.values(), *([str(size)] if size is not None else [])]
        given += [str(window.kernel)] * (function == "conv_weight")
        given += [
            f"{key}={value}" for key, value in options.items() if value != PLAIN_WINDOW.get(key)
        ]
        return f"{function}({', '.join(given)})"

    return text


def _expanded(x: str, axis: tuple[int, ...], ndim: int) -> str:
    places = ["None" if i in axis else ":" for i in range(ndim)]
    while places and places[-1] == ":":
        places.pop()
    return f"{x}[{', '.join(places)}]"


def _scattered(g: str, index: Any, shape: Any) -> str:
    inside = index_text(index)
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, slice) for part in parts):
        inside = f"np.s_[{inside}]"
    elif isinstance(index, tuple):
        inside = f"({inside}{',' * (len(parts) == 1)})"
    return f"scatter_add({g}, {inside}, {shape})"


def _written(x: str, value: str, index: Any) -> str:
    return f"written({x}, np.s_[{index_text(index)}], {value})"


def _norm(x: str, axis: tuple[int, ...], keepdims: bool) -> str:
    return f"np.sqrt(np.sum({x} ** 2, {axis_text(axis, keepdims)}))"


def _norm_p(x: str, ord: float, axis: tuple[int, ...], keepdims: bool) -> str:
    return f"np.sum(np.abs({x}) ** {ord}, {axis_text(axis, keepdims)}) ** (1 / {ord})"


def _over(function: str) -> Text:
    def text(x: str, axis: tuple[int, ...], keepdims: bool, ndim: int, ddof: float = 0) -> str:
        more = axis_text(axis, keepdims, ndim) + (f", ddof={ddof}" if ddof else "")
        return f"np.{function}({x}{', ' * bool(more)}{more.removeprefix(', ')})"

    return text


def _softplus(x: str, beta: float) -> str:
    return f"softplus({x})" if beta == 1 else f"softplus({beta} * {x}) / {beta}"


def _elu(x: str, alpha: float) -> str:
    scale = "" if alpha == 1 else f"{alpha} * "
    return f"np.where({x} > 0, {x}, {scale}np.expm1(np.minimum({x}, 0)))"


def _standardized(x: str, axis: Any, eps: float) -> str:
    over = f"{axis_text(axis, True)}"
    return f"({x} - np.mean({x}, {over})) / np.sqrt(np.var({x}, {over}) + {eps})"


# How an operation is written where its own text does not run. A text is given the arguments and
# parameters of the operation by name, and may ask for ndim (of the argument, or of the result of
# expand_dims), last (axis), rows (of z), and whether the user recorded it (or a formula did).
TEXTS: dict[Primitive, Text | str] = {
    shape.expand_axes: _expanded,
    shape.permute: lambda x, axes: (
        f"{x}.T" if axes == tuple(range(len(axes)))[::-1]
        else f"{x}.mT" if axes == (*range(len(axes) - 2), len(axes) - 1, len(axes) - 2)
        else f"np.transpose({x}, {axes})"),
    reduce.sum_over: _over("sum"), reduce.mean_over: _over("mean"),
    reduce.max_over: _over("max"), reduce.min_over: _over("min"),
    reduce.all_over: _over("all"), reduce.any_over: _over("any"),
    reduce.var_over: _over("var"), reduce.std_over: _over("std"),
    reduce.norm_2: _norm, reduce.norm_p: _norm_p,
    reduce.recurrence: "recurrence({a}, {b}, {axis})",
    activation.softmax_along: _along("softmax"),
    activation.log_softmax_along: _along("log_softmax"),
    activation.logsumexp_over: _logsumexp,
    activation.softplus_of: _softplus,
    activation.log_sigmoid: "-softplus(-{x})",
    activation.gelu_exact: "0.5 * {x} * (1 + erf({x} / 2 ** 0.5))",
    activation.gelu_tanh: "0.5 * {x} * (1 + np.tanh((2 / np.pi) ** 0.5 * ({x} + 0.044715 * {x} ** 3)))",
    activation.silu: "{x} / (1 + np.exp(-{x}))",
    activation.elu_of: _elu,
    index.one_hot_rows: lambda t, classes, dtype, recorded: (
        f"onehot({t}, {classes}).astype({dtype})" if recorded else f"onehot({t}, {classes})"),
    loss.cross_entropy_of_labels: _cross_entropy,
    loss.cross_entropy_of_probabilities: loss.reduced_text("entropies({q}, log_softmax({z}))"),
    loss.nll_of_probabilities: loss.reduced_text("entropies({q}, {logp})"),
    loss.cross_entropy_of_logits: loss.reduced_text("(softplus({z}) - {z} * {t})"),
    loss.huber_error: lambda x, t, delta, reduction: loss.reduced_text(
        "(np.clip({d}, -{k}, {k}) * ({d} - 0.5 * np.clip({d}, -{k}, {k})))")(
        reduction, d=f"({x} - {t})", k=str(delta)),
    loss.divergence: loss.reduced_text(
        "(entropies({q}, {logp}) - entropies({q}, np.log(np.where({q} == 0, 1, {q}))))"),
    normalization.standardize: _standardized,
    normalization.rescale: lambda x, axis, eps: (
        f"{x} / np.sqrt(np.mean({x} ** 2, {axis_text(axis, True)}) + {eps})"),
    attention.attention_weights: "attention_weights({s}, {mask}, {causal})",
    index.read: lambda x, index: f"{x}[{index_text(index)}]",
    index.scatter_add: _scattered,
    index.place_diagonal: "place_diagonal({g}, {shape}, {offset}, {axis1}, {axis2})",
    rearrange.fold_edges: "fold_edges({g}, {widths}, {mode!r})",
    write: _written,
    erase: lambda g, index: _written(g, "0", index),
    embedding.scatter_rows: "scatter_add({g}, {ids}, {shape})",
    products.contract: 'np.einsum("{subscripts}", {a}, {b})',
    decompositions.eigh_factors: "eigh_factors({x}, {uplo!r})",
    **{
        operation: _windowed(operation.fn.__name__, "stride", "padding", "dilation")
        for operation in (convolution.conv, convolution.conv_input, convolution.conv_weight)
    },
    pooling.windows_as_columns: _windowed("unfold", "kernel", "stride", "padding", "dilation"),
    pooling.columns_as_windows: _windowed("fold", "kernel", "stride", "padding", "dilation"),
    **{
        operation: _windowed(operation.fn.__name__, "kernel", "stride", "padding")
        for operation in (
            pooling.pool_mean, pooling.pool_max, pooling.pool_argmax, pooling.pool_spread,
            pooling.pool_place, pooling.pool_pick)
    },
    sparse.sparse_product: "sparse({values}, {rows}, {columns}, {size}) @ {x}",
    sparse.sparse_outer: "np.sum({u}[{rows}] * {x}[{columns}], axis=1)",
}  # fmt: skip


def _centred(x: str, axis: Any, r: str) -> str:
    return f"({x} - np.mean({x}, {axis_text(axis, True)})) * {r}"


# The same with the residuals that the backward pass needs anyway.
WITH_RESIDUALS: dict[Primitive, Text | str] = {
    activation.gelu_exact: "{x} * {Phi}",
    activation.gelu_tanh: "0.5 * {x} * (1 + {t})",
    activation.silu: "{x} * {s}",
    activation.mish: "{x} * {t}",
    normalization.standardize: _centred,
    normalization.rescale: "{x} * {r}",
    loss.cross_entropy_of_probabilities: loss.reduced_text("entropies({q}, {logp})"),
}


def expression(
    step: Step, arguments: Sequence[str], params: Mapping[str, Any], residuals: Mapping[str, str]
) -> ast.expr:
    """The operation of a step on the given arguments, as a tree."""
    primitive = step.operation
    assert primitive is not None
    own = TEXTS.get(primitive)
    if residuals and primitive in WITH_RESIDUALS:
        own, params = WITH_RESIDUALS[primitive], {**params, **residuals}
    if own is None:
        source = _own_text(primitive, arguments, params)
    else:
        known = _known(step, arguments, params)
        source = own.format(**known) if isinstance(own, str) else own(**_asked(own, known))
    return ast.parse(source, mode="eval").body


def _known(step: Step, arguments: Sequence[str], params: Mapping[str, Any]) -> dict[str, Any]:
    """What a text may ask for, by name."""
    primitive = step.operation
    assert primitive is not None
    named: dict[str, Any] = dict(zip(primitive.arguments, arguments)) | dict(params)
    first = step.inputs[0].shape if step.inputs else ()
    extra: dict[str, Any] = {
        "ndim": len(first),
        "last": len(first) - 1,
        "recorded": not step.by_formula,
    }
    if primitive is shape.expand_axes:
        extra["ndim"] = len(step.shape)
    if primitive is loss.cross_entropy_of_labels:
        extra["rows"] = repr(first[0])
    if "pattern" in params:
        pattern = params["pattern"]
        lists = {"rows": pattern.rows, "columns": pattern.columns}
        extra |= {key: f"np.array({value.tolist()}, dtype=int)" for key, value in lists.items()}
        extra["size"] = pattern.shape
    return extra | named


def _asked(text: Text, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of what is known that a text has parameters for."""
    code = text.__code__
    if code.co_flags & inspect.CO_VARKEYWORDS:
        return {
            key: value for key, value in known.items() if key not in ("ndim", "last", "recorded")
        }
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return {key: value for key, value in known.items() if key in names}


def _own_text(primitive: Primitive, arguments: Sequence[str], params: Mapping[str, Any]) -> str:
    """The primitive's text if it runs, else a call of its Python function."""
    source = primitive.text(list(arguments), dict(params))
    try:
        tree = ast.parse(source, mode="eval")
    except SyntaxError:
        return _call(primitive, arguments, params)
    inside = {
        name for text in [*arguments, *map(repr, params.values())] for name in _names_in(text)
    }
    if _names(tree) - inside - {"np"}:
        return _call(primitive, arguments, params)
    return source


def _call(primitive: Primitive, arguments: Sequence[str], params: Mapping[str, Any]) -> str:
    if not primitive.fn.__name__.isidentifier():
        raise ArgumentError(
            message("derive", "operations that are NumPy source or a named function", primitive.name,
                    "Leave tg.checkpoint out of what is derived." if primitive.name == "checkpoint" else "")
        )  # fmt: skip
    given = [*arguments, *[f"{key}={value!r}" for key, value in params.items()]]
    first = "[0]" if primitive.residuals else ""
    return f"{primitive.fn.__name__}({', '.join(given)}){first}"


def _names(tree: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(tree) if isinstance(one, ast.Name)}


def _names_in(text: str) -> set[str]:
    try:
        return _names(ast.parse(text, mode="eval"))
    except SyntaxError:
        return set()


# --------------------------------------------------------------------------------------------------
# The functions that a program calls
# --------------------------------------------------------------------------------------------------

RESERVED = frozenset({"np", *keyword.kwlist, *dir(builtins)})


def helpers(called: Iterable[str], operations: Iterable[Primitive]) -> dict[str, str]:
    """The source of each function that is called, callees first.

    Raises
    ------
    ArgumentError
        For an operation whose Python function is more than NumPy.
    """
    functions = [primitive.fn for primitive in operations if hasattr(primitive.fn, "__code__")]
    own = {function.__name__: function for function in functions}
    found: dict[str, str] = {}
    for name in called:
        function = getattr(definitions, name, None) or own.get(name)
        if function is not None:
            _add(name, function, found)
    return found


def _add(name: str, function: Any, found: dict[str, str]) -> None:
    if name in found:
        return
    if not callable(function):
        found[name] = textwrap.fill(f"{name} = {function!r}", 96, subsequent_indent="    ")
        return
    source = plain_source(function)
    space = function.__globals__
    for inner in sorted(_names(ast.parse(source)) & space.keys()):
        value = space[inner]
        if value is np or inner == name:
            continue
        if not (inspect.isfunction(value) or isinstance(value, int | float | tuple)):
            raise ArgumentError(
                message(f"derive: {name}", "a function of NumPy only", f"one that uses {inner}",
                        "Give the primitive a text that is NumPy source.")
            )  # fmt: skip
        _add(inner, value, found)
    found[name] = source


@cache
def plain_source(function: Any) -> str:
    """The source of a function without its decorators, annotations and docstring."""
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        defined = next(one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef))
    except (OSError, SyntaxError, StopIteration, TypeError) as error:
        raise ArgumentError(
            message(f"derive: {function.__name__}", "a function whose source can be read", "none",
                    "Give the primitive a text that is NumPy source.")
        ) from error  # fmt: skip
    defined.decorator_list, defined.returns = [], None
    for argument in _arguments(defined.args):
        argument.annotation = None
    if ast.get_docstring(defined) is not None:
        del defined.body[0]
    return ast.unparse(ast.fix_missing_locations(defined))


def _arguments(args: ast.arguments) -> Iterator[ast.arg]:
    yield from [*args.posonlyargs, *args.args, *args.kwonlyargs]
    yield from [one for one in (args.vararg, args.kwarg) if one is not None]
