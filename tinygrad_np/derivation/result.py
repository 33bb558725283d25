"""`derive`: the forward and the backward pass as a person would write them, in NumPy and on paper."""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Callable, Mapping, Sequence, Set
from functools import cached_property
from typing import Any

import numpy as np

from ..backward import reach
from ..core import Node, Tensor, handle
from ..errors import ArgumentError, message
from ..program import Names, Program, record
from .difference import Difference, compare
from .latex import Latex, name_in_latex, shape_in_latex
from .layout import Layout, Line, Planner
from .texts import helpers
from .tracing import Call, outputs_of

LINE = 96


def derive(
    target: Tensor | Callable[..., Any],
    *inputs: Any,
    names: Mapping[str, Any] | None = None,
    wrt: str | Sequence[str] | None = None,
    order: int = 1,
    comments: bool = False,
) -> Derivation:
    """Write out the forward and the backward pass: ``y = f(x)``, then ``dx`` for every variable.

    Parameters
    ----------
    target : Tensor or callable
        A recorded result, or a function, which is called once on ``inputs``.
    *inputs : array_like, Tensor, or nests of them
        Arguments of the function. Names come from its parameters and local variables and from
        those of the functions it calls. Arrays and floats are traced; anything else is passed as
        it is.
    names : dict, optional
        For a recorded result, names of tensors and arrays, such as ``locals()``; a tensor's own
        ``name`` (or path in a model) comes first.
    wrt : str or sequence of str, optional
        The variables to differentiate with respect to, by name. By default the tensors with
        ``requires_grad=True``, or, where a function is given none, all its float arguments.
    order : {1, 2}
        2 adds the backward pass of the gradients: the product of the Hessian with a direction
        ``v`` for each variable; of a single number, the second derivative itself.
    comments : bool
        Whether each line of the backward pass says which forward line it comes from.

    Returns
    -------
    Derivation
        With ``.source``, ``.function``, ``.text``, ``.latex``, ``.markdown`` and ``.diff``.

    Raises
    ------
    GradientError
        If nothing needs a gradient, or an array was changed since it was used.
    ArgumentError
        For an unknown name in ``wrt``, or an operation that cannot be written in NumPy alone.

    Notes
    -----
    A record holds for the way Python took. Where it took the value of a tensor, in an ``if`` or
    as a number, the source says so in an ``assert`` or a comment. What Python read from plain
    arrays (``.data``), or before ``derive`` was given a recorded result, cannot be known. A number
    that Python computed is written as the number it was; dividing by ``len(x)`` becomes ``/ N``.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> def error(x, t, w, b):
    ...     y = x @ w + b
    ...     return ((y - t) ** 2).mean()
    >>> d = tg.derive(error, np.ones((5, 2)), np.zeros(5), np.ones(2), 0.5, wrt=["w", "b"])
    >>> print(d.source)
    import numpy as np
    <BLANKLINE>
    <BLANKLINE>
    def loss_and_gradients(x, t, w, b):
        N = x.shape[0]
        y = x @ w + b
        e = y - t
        loss = np.mean(e**2)
    <BLANKLINE>
        # Backward
        dy = 2 * e / N
        dw = x.T @ dy
        db = dy.sum()
        return loss, {"w": dw, "b": db}
    """
    if order not in (1, 2):
        raise ArgumentError(message("derive", "order 1 or 2", f"{order!r}"))
    if isinstance(target, Tensor):
        if inputs:
            raise ArgumentError(
                message("derive", "a recorded tensor alone, or a function and its arguments",
                        f"a tensor and {len(inputs)} more")
            )  # fmt: skip
        outputs, given, known, reads = [target], [], Names(names), []
        formulas: Set[Node] = frozenset()
    elif callable(target):
        call = Call(target, inputs)
        outputs, given, known, reads = outputs_of(call.output), call.given, call.names, call.reads
        formulas = call.by_formula
        for name, value in (names or {}).items():
            known.add(name, value)
    else:
        raise ArgumentError(message("derive", "a Tensor or a function", type(target).__name__))
    wanted = _chosen(outputs, given, known, wrt, asked=isinstance(target, Tensor) or call.asked)
    program = record(outputs, wanted, known, given, reads, formulas, order)
    return Derivation(program, comments)


def _chosen(
    outputs: Sequence[Tensor], given: Sequence[Tensor], names: Names, wrt: Any, asked: bool
) -> list[Tensor]:
    """The variables: those asked for, else the tensors that require a gradient."""
    below: dict[Node, None] = {tensor.node: None for tensor in given if tensor.requires_grad}
    captured: dict[Node, None] = {}
    for node in reversed(reach([output.node for output in outputs])):
        captured |= {
            p: None for p in node.inputs if p.primitive is None and p.needs and p not in below
        }
    if wrt is None:
        chosen = [*captured] if captured and not asked else [*below, *captured]
        return [handle(node) for node in chosen]
    by_name = {names.of(node): node for node in [*captured, *below]}
    wanted = [wrt] if isinstance(wrt, str) else list(wrt)
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        there = ", ".join([name for name in by_name if name is not None])
        raise ArgumentError(message("derive", f"wrt among {there}", ", ".join(map(repr, unknown))))
    return [handle(by_name[name]) for name in wanted]


class Derivation:
    """A derived program; made by `derive`.

    Attributes
    ----------
    source : str
        A NumPy function that runs on its own.
    function : callable
        That function: the arrays in, the value and a dict of gradients out (for ``order=2`` a
        second dict); the keys are the user's names.
    arguments : dict
        The recorded arrays by name, in the order of the function's parameters.
    text : str
        Each forward line beside the lines of its gradient.
    latex, markdown : str
        The same as mathematics, with shapes; a notebook shows it.
    """

    def __init__(self, program: Program, comments: bool = False) -> None:
        self.program = program
        self.comments = comments
        self.layout: Layout = Planner(program).plan()
        self.arguments = {name: step.value for name, step in self.layout.arguments.items()}

    def __repr__(self) -> str:
        found = ", ".join([name for pass_ in self.layout.gradients for name in pass_.values()])
        return f"<derivation of {', '.join(self.layout.outputs)}: {found}>"

    def __str__(self) -> str:
        return self.source

    @property
    def name(self) -> str:
        """The name of the derived function."""
        outputs = [one for one in self.layout.outputs if one.isidentifier()]
        return f"{'_'.join(outputs) or 'value'}_and_gradients"

    # -- source ------------------------------------------------------------------------------------

    @cached_property
    def source(self) -> str:
        return "\n\n\n".join(["import numpy as np", *self._helpers, self._function()])

    @cached_property
    def _helpers(self) -> list[str]:
        """The functions that the derived one calls."""
        functions = helpers(_called(self._function()), self.layout.operations)
        if self.layout.classes is not None:
            functions["onehot"] = (
                f"def onehot(t):\n    return t[..., None] == np.arange({self.layout.classes})"
            )
        return list(functions.values())

    def _function(self) -> str:
        layout = self.layout
        lines = []
        if layout.rows is not None:
            lines += ["{} = {}.shape[0]".format(*layout.rows)]
        forward = [line for line in layout.lines if not line.backward]
        backward = [line for line in layout.lines if line.backward]
        lines += [self._assignment(line) for line in forward]
        lines += [_check(text, value) for _, text, value in layout.checks]
        if lines and backward:
            lines.append("")
        lines += ["# Backward"] * bool(backward) + self._commented(backward)
        results = [
            ", ".join(layout.outputs)
            if len(layout.outputs) == 1
            else f"({', '.join(layout.outputs)})"
        ]
        results += [_dict(one) for one in layout.gradients]
        lines.append(_returned(results))
        head = f"def {self.name}({', '.join(layout.arguments)}):"
        if len(head) > LINE:
            inside = textwrap.fill(", ".join(layout.arguments) + ",", LINE - 4)
            head = f"def {self.name}(\n{textwrap.indent(inside, '    ')}\n):"
        return f"{head}\n{textwrap.indent(chr(10).join(lines), '    ')}"

    def _assignment(self, line: Line) -> str:
        return f"{line.target} = {line.expression}"

    def _commented(self, lines: Sequence[Line]) -> list[str]:
        if not self.comments:
            return [self._assignment(line) for line in lines]
        found = []
        before: Line | None = None
        for line in lines:
            if line.owner is not None and line.owner is not before:
                kind = "" if not line.owner.backward else "once more, "
                found.append(f"# {kind}{line.owner.target} = {line.owner.expression}")
            before = line.owner
            found.append(self._assignment(line))
        return found

    @cached_property
    def function(self) -> Callable[..., Any]:
        space: dict[str, Any] = {}
        place = f"<derived {self.name} {id(self)}>"
        linecache.cache[place] = (len(self.source), None, self.source.splitlines(True), place)
        exec(compile(self.source, place, "exec"), space)
        function: Callable[..., Any] = space[self.name]
        return function

    # -- side by side ------------------------------------------------------------------------------

    @cached_property
    def text(self) -> str:
        groups: dict[Line | None, list[str]] = {
            line: [] for line in self.layout.lines if not line.backward
        }
        for line in self.layout.lines:
            if line.backward:
                groups.setdefault(self._forward_owner(line), []).append(self._assignment(line))
        left = ["" if line is None else self._assignment(line) for line in groups]
        width = max(map(len, [*left, "forward"]))
        rows = [("forward", "backward"), ("-" * width, "-" * len("backward"))]
        for forward, mine in zip(left, groups.values()):
            rows += [(forward if i == 0 else "", text) for i, text in enumerate(mine or [""])]
        return "\n".join([f"{one:{width}}    {other}".rstrip() for one, other in rows])

    @staticmethod
    def _forward_owner(line: Line) -> Line | None:
        owner = line.owner
        while owner is not None and owner.backward:
            owner = owner.owner
        return owner

    # -- mathematics -------------------------------------------------------------------------------

    @cached_property
    def _gradient_names(self) -> dict[str, str]:
        """For each gradient ``dW`` the ``W`` it belongs to."""
        names = {*self.layout.arguments, *[line.target for line in self.layout.lines]}
        return {name: name[1:] for name in names if name[0] == "d" and name[1:] in names}

    @cached_property
    def _mathematics(self) -> list[tuple[Line, str, str]]:
        writer = Latex(self.layout.shapes, self._gradient_names)
        rows = self.layout.rows[0] if self.layout.rows is not None else "N"
        return [
            (line, f"{name_in_latex(line.target, self._gradient_names)} &= {writer.write(line.value)}",
             shape_in_latex(line.step, rows))
            for line in self.layout.lines
        ]  # fmt: skip

    @cached_property
    def latex(self) -> str:
        lines = [rf"{equation} && \in {shape}" for _, equation, shape in self._mathematics]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    @cached_property
    def markdown(self) -> str:
        rows = self.layout.rows[0] if self.layout.rows is not None else "N"
        given = ", ".join([
            rf"${name_in_latex(name, self._gradient_names)} \in {shape_in_latex(step, rows)}$"
            for name, step in self.layout.arguments.items()
        ])  # fmt: skip
        parts = [f"Given {given}:"]
        for title, backward in (("Forward", False), ("Backward", True)):
            mine = [
                f"| ${equation.replace('&= ', '= ').replace('|', chr(92) + 'vert ')}$ | ${shape}$ |"
                for line, equation, shape in self._mathematics if line.backward is backward
            ]  # fmt: skip
            if mine:
                parts.append("\n".join([f"| {title} | shape |", "|:--|:--|", *mine]))
        if any(self._gradient_names):
            parts.append(r"Here $\mathrm{d}v$ is $\partial L / \partial v$.")
        return "\n\n".join(parts)

    def _repr_markdown_(self) -> str:
        return self.markdown

    # -- beside another ----------------------------------------------------------------------------

    def diff(self, theirs: str | Callable[..., Any], *arrays: Any) -> Difference:
        """Another's backprop beside this one, quantity by quantity, on the same arrays.

        Parameters
        ----------
        theirs : callable or str
            A NumPy function, or its source, or plain statements. Its parameters are found by their
            names, or else in the order of `arguments`.
        *arrays : array_like
            The arguments of `function`; by default the recorded ones.

        Returns
        -------
        Difference
            Prints as a table; ``.ok`` and ``.first_wrong`` sum it up. A quantity is compared if it
            has the same name in both, as a variable or as a key of what is returned.
        """
        given = dict(zip(self.arguments, arrays)) if arrays else self.arguments
        return compare(theirs, given, self._values(given), {
            line.target: line.expression for line in self.layout.lines
        }, self.layout.gradients, self.layout.also)  # fmt: skip

    def _values(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Every line's value."""
        body = ast.parse(self.source).body[-1]
        assert isinstance(body, ast.FunctionDef)
        space: dict[str, Any] = {
            "np": np,
            **{key: np.asarray(value) for key, value in arrays.items()},
        }
        exec("\n".join(self._helpers), space)
        statements = ast.Module([one for one in body.body if not isinstance(one, ast.Return)], [])
        exec(compile(statements, "<derived>", "exec"), space)
        return {line.target: space[line.target] for line in self.layout.lines}


def _called(source: str) -> list[str]:
    """The functions that are called by their bare names, in the order of the source."""
    calls = [
        one.func for one in ast.walk(ast.parse(source))
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
    ]  # fmt: skip
    return list(
        dict.fromkeys(
            [one.id for one in sorted(calls, key=lambda one: (one.lineno, one.col_offset))]
        )
    )


def _check(text: str, value: Any) -> str:
    """What the record holds for, as a line."""
    if value is True:
        return f"assert {text}  # the branch that was recorded"
    if value is False:
        return f"assert not ({text})  # the branch that was recorded"
    if isinstance(value, int):
        return f"assert {text} == {value}  # what Python read when this was recorded"
    return f"# Python read {text} as {value!r} when this was recorded."


def _dict(names: Mapping[str, str]) -> str:
    return "{" + ", ".join([f'"{key}": {name}' for key, name in names.items()]) + "}"


def _returned(results: list[str]) -> str:
    line = f"return {', '.join(results)}"
    if len(line) + 4 <= LINE:
        return line
    inside = ",\n".join([_wrapped(one) for one in results])
    return f"return (\n{textwrap.indent(inside, '    ')},\n)"


def _wrapped(result: str) -> str:
    if len(result) + 8 <= LINE:
        return result
    rows = [""]
    for part in result[1:-1].split(", "):
        if rows[-1] and len(rows[-1]) + len(part) > LINE - 14:
            rows.append("")
        rows[-1] += f"{' ' if rows[-1] else ''}{part},"
    inside = "\n".join(rows)
    return f"{result[0]}\n{textwrap.indent(inside, '    ')}\n{result[-1]}"
