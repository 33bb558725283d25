"""A hand-written backprop as somebody writes it, and the slips that turn it into a wrong one."""

from __future__ import annotations

import inspect
import io
import itertools
import linecache
import textwrap
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Problem = tuple[Any, ...]  # the parameters, then whatever else the function takes

KINDS = {
    "missing_batch_mean", "extra_batch_mean", "factor", "sign", "transpose",
    "missing_activation_derivative", "derivative_at_wrong_point", "derivative_all_ones",
    "derivative_wrong_function", "missing_path", "extra_term", "wrong_axis_sum",
    "unreduced_broadcast", "mean_instead_of_sum", "stale_cache", "wrong_operand",
    "missing_regularisation", "softmax_jacobian_diagonal_only", "off_by_one", "mask_not_applied",
    "mask_wrong", "mask_reused", "batchnorm_statistics_constant", "detached",
    "overwritten_in_place", "other_loss", "missing_factor",
}  # fmt: skip

# Kinds that are two names of the same numbers. A mistake may be written down with several kinds only
# if each pair of them stands here.
ALIKE = {
    "missing_activation_derivative derivative_all_ones": "a derivative left out is a derivative of 1",
    "mean_instead_of_sum extra_batch_mean": "the mean over the batch is its sum divided by N",
    "detached missing_path": "a detached value sends nothing back: its path is missing",
    "detached batchnorm_statistics_constant": "statistics are constant if they are detached",
    "batchnorm_statistics_constant missing_path": "one statistic held constant is one path less",
    "overwritten_in_place wrong_operand": "what was written over it is another array",
    "overwritten_in_place derivative_at_wrong_point": "a derivative of what was written over it",
    "off_by_one wrong_operand": "the neighbouring layer's or step's array is another array",
    "off_by_one derivative_at_wrong_point": "the slope at the neighbouring layer or step",
    "off_by_one missing_path": "a loop that ends one step early leaves out that step's term",
    "softmax_jacobian_diagonal_only missing_path": "off the diagonal are the paths by way of the sum",
    "mask_not_applied missing_activation_derivative": "the mask is the derivative of the layer",
    "mask_not_applied derivative_all_ones": "a mask left out is a mask of ones",
    "mask_wrong derivative_wrong_function": "the wrong mask is another function's derivative",
    "mask_wrong derivative_at_wrong_point": "a mask taken from other values is a slope elsewhere",
    "mask_wrong factor": "an inverted dropout mask without 1/keep is short of that factor",
    "mask_reused wrong_operand": "the mask of another layer is another array of this pass",
    "missing_regularisation factor": "half of the penalty's slope is the slope of half the penalty",
    "missing_batch_mean factor": "the batch size is a number like any other",
    "derivative_at_wrong_point wrong_operand": "a slope's formula that reads another array",
    "extra_term softmax_jacobian_diagonal_only": "p (1 - p) once more, or softmax by its diagonal",
    "wrong_operand factor": "an array and a multiple of it, the one where the other belongs",
    "off_by_one mask_wrong": "the mask of the neighbouring layer or step",
    "unreduced_broadcast wrong_axis_sum": "a sum along an axis of length 1 sums nothing",
    "missing_factor missing_activation_derivative": "a local derivative left out is a factor left out",
    "missing_factor wrong_operand": "a factor left out is a 1 in its place",
    "missing_factor missing_batch_mean": "1/n is a factor",
    "missing_factor factor": "a factor of one number is a factor",
    "extra_term other_loss": "the sigmoid's slope once more is what a squared error would give",
    "softmax_jacobian_diagonal_only other_loss": "softmax by its diagonal, after a squared error",
    "mean_instead_of_sum missing_batch_mean": "a sum where a mean belongs lacks its 1/n",
    "wrong_operand missing_activation_derivative": "a gradient from before its derivative is one without it",
    "mean_instead_of_sum factor": "the length of an axis is a number like any other",
    "transpose wrong_operand": "the elements in another order are another array",
    "derivative_wrong_function other_loss": "the slope of another loss is another function's",
    "mask_not_applied other_loss": "a loss without its mask is another loss",
    "derivative_wrong_function extra_term": "a factor of the chain too many: the slope of another function",
    "derivative_wrong_function missing_activation_derivative": "a factor of the chain too few, likewise",
    "derivative_wrong_function derivative_all_ones": "one factor of the chain is taken as 1",
    "derivative_wrong_function factor": "one branch of a function with another constant",
    "derivative_wrong_function missing_path": "one branch of a function without its slope",
    "mask_wrong missing_path": "one branch of a function without its slope",
    "factor missing_activation_derivative": "on a branch of constant slope, leaving it out is a factor",
    "factor derivative_all_ones": "on a branch of constant slope, leaving it out is a factor",
    "factor extra_term": "of a mask with one value, or of a single number, a term more is a factor",
    "mask_not_applied wrong_operand": "what no mask was applied to is another array",
    "mask_not_applied factor": "what is left of an inverted dropout mask is its factor 1/keep",
    "mask_not_applied derivative_wrong_function": "without the mask it is another function's slope",
    "mask_reused mask_wrong": "the mask of another layer is a wrong one",
    "mask_wrong extra_term": "a mask multiplied in twice",
    "mask_wrong wrong_operand": "a mask is an array",
    "mask_wrong transpose": "a transposed mask is another mask",
}  # fmt: skip


class Mistake(NamedTuple):
    """A line, what a slip makes of it, and what the checker ought to say.

    ``quantities`` are the names by which the first wrong gradient may go, or ``~da`` for the one that
    the variable ``da`` holds, where its quantity has no name; ``kinds`` what it is, and other names for
    the same numbers.
    """

    quantities: tuple[str, ...]
    kinds: tuple[str, ...]
    line: str
    wrong: str


class Rewriting(NamedTuple):
    """A line, and another way to write it that is as right."""

    line: str
    same: str


@dataclass(frozen=True)
class Program:
    """A right backprop, with the edits that are known of it.

    Attributes
    ----------
    function : callable
        ``function(params, *data)`` returns ``(loss, grads)``.
    problem : callable
        ``problem(rng, N)`` makes parameters and data for N samples.
    edits : str
        A line of the function as it stands, and below it, indented, what may become of it:
        ``z2 sign: dz2 = t - p``, a mistake first seen in the gradient of ``z2``, or
        ``right: dz2 = -(t - p)``. Several names of a quantity stand between slashes, kinds that the
        numbers cannot tell apart between bars.
    uses : tuple
        Functions and classes of the same file that the program consists of, too.
    recordable : bool
        Whether every line of it runs on Tensors.
    """

    function: Callable[..., Any]
    problem: Callable[[np.random.Generator, int], Problem]
    edits: str
    uses: tuple[Any, ...] = ()
    recordable: bool = True

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def family(self) -> str:
        return self.function.__module__.rpartition(".")[2]

    @property
    def source(self) -> str:
        parts = [textwrap.dedent(inspect.getsource(one)) for one in (*self.uses, self.function)]
        return "\n\n".join(parts)

    @property
    def mistakes(self) -> list[Mistake]:
        return [one for one in self._parsed() if isinstance(one, Mistake)]

    @property
    def rewritings(self) -> list[Rewriting]:
        return [one for one in self._parsed() if isinstance(one, Rewriting)]

    def _parsed(self) -> list[Mistake | Rewriting]:
        found: list[Mistake | Rewriting] = []
        line = ""
        for row in textwrap.dedent(self.edits).strip().splitlines():
            if not row.startswith(" "):
                line = row
                continue
            head, _, text = row.strip().partition(": ")
            if head == "right":
                found.append(Rewriting(line, text))
            else:
                quantities, kinds = (part.split(sep) for part, sep in zip(head.split(), "/|"))
                _known(kinds)
                found.append(Mistake(tuple(quantities), tuple(kinds), line, text))
        return found

    def edited(self, line: str, new: str) -> Callable[..., Any]:
        """The program with one line changed, as a function whose source can be read."""
        lines = self.source.splitlines()
        at = [i for i, one in enumerate(lines) if one.strip() == line]
        if len(at) != 1:
            raise ValueError(f"{self.name}: {len(at)} lines read {line!r}")
        indent = lines[at[0]][: -len(line)]
        lines[at[0]] = indent + new
        return self._compiled("\n".join(lines))

    def renamed(self, prefix: str) -> Callable[..., Any]:
        """The program with ``dW1`` called otherwise: ``grad_W1``."""
        reader = io.StringIO(self.source).readline
        tokens = list(tokenize.generate_tokens(reader))
        known = {one.string for one in tokens if one.type in (tokenize.NAME, tokenize.STRING)}
        known |= {one.strip("\"'") for one in known}
        lines = self.source.splitlines(keepends=True)
        for one in reversed(tokens):
            text = one.string
            if one.type == tokenize.NAME and text[0] == "d" and text[1:] in known:
                row, column = one.start
                old = lines[row - 1]
                lines[row - 1] = f"{old[:column]}{prefix}{text[1:]}{old[column + len(text) :]}"
        return self._compiled("".join(lines))

    def _compiled(self, source: str) -> Callable[..., Any]:
        filename = f"<{self.name} {next(COUNTER)}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        space = {"np": np, "__name__": self.function.__module__}
        exec(compile(source, filename, "exec"), space)
        made: Callable[..., Any] = space[self.name]
        return made


COUNTER = itertools.count()


def _known(kinds: list[str]) -> None:
    pairs = {frozenset(pair.split()) for pair in ALIKE}
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of mistake")
    for pair in itertools.combinations(kinds, 2):
        if frozenset(pair) not in pairs:
            raise ValueError(f"nothing says why {' and '.join(pair)} are alike")


def arrays(rng: np.random.Generator, **shapes: tuple[int, ...] | int) -> dict[str, Any]:
    """Normal numbers by name; weights are scaled so that nothing saturates."""
    return {
        name: rng.normal(size=shape) * (0.6 if np.ndim(np.empty(shape)) > 1 else 0.4)
        for name, shape in shapes.items()
    }
