"""`derive`: the forward and the backward pass as a person would write them, in NumPy and on paper."""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from ..backward import reach
from ..core import Node, Tensor, handle
from ..errors import ArgumentError, message
from ..program import Names, Program, record
from .difference import Difference, Quantity, compare
from .latex import Latex, name_in_latex, shape_in_latex, with_index
from .layout import Layout, Line, Loop, Planner, Round
from .loops import with_loops
from .templates import affine
from .texts import helpers
from .tracing import Call, outputs_of
from .unfolding import unfolded

LINE = 96


def derive(
    target: Tensor | Callable[..., Any],
    *inputs: Any,
    names: Mapping[str, Any] | None = None,
    wrt: str | Sequence[str] | None = None,
    order: int = 1,
    comments: bool = False,
    loops: bool = True,
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
    loops : bool
        Whether lines that repeat, as those of a recurrence or of a list of layers do, are written
        as Python loops where that is clearly shorter. Arguments that come from a list, such as
        ``Ws.0``, ``Ws.1``, are then a list again. A second derivative has no loops.

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

    `lstm` and `gru`, which layers such as ``nn.LSTM`` are made of, are written as the equations of
    their steps.

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
    targets = [*[one.node for one in (*outputs, *wanted)], *[node for node, _ in reads]]
    new, sequences = unfolded(targets, known)
    program = record(
        [handle(new.get(one.node, one.node)) for one in outputs],
        [handle(new.get(one.node, one.node)) for one in wanted],
        known, [*given, *map(handle, sequences)],
        [(new.get(node, node), value) for node, value in reads],
        {new.get(node, node) for node in formulas}, order,
    )  # fmt: skip
    return Derivation(program, comments, loops)


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

    def __init__(self, program: Program, comments: bool = False, loops: bool = True) -> None:
        self.program = program
        self.comments = comments
        found = with_loops(program) if loops else None
        self.layout: Layout = found or Planner(program).plan()
        self.arguments = {
            name: [one.value for one in step] if isinstance(step, list) else step.value
            for name, step in self.layout.arguments.items()
        }

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
        forward = [one for one in layout.body if not one.backward]
        backward = [one for one in layout.body if one.backward]
        lines += _statements(forward)
        lines += [_check(text, value) for _, text, value in layout.checks]
        if lines and backward:
            lines.append("")
        lines += ["# Backward"] * bool(backward) + _statements(backward, self.comments)
        value = ", ".join(layout.outputs)
        results = [[value if len(layout.outputs) == 1 else f"({value})"]]
        results += [["{", *_entries(one, layout), "}"] for one in layout.gradients]
        lines.append(_returned(results))
        head = f"def {self.name}({', '.join(layout.arguments)}):"
        if len(head) > LINE:
            inside = textwrap.fill(", ".join(layout.arguments) + ",", LINE - 4)
            head = f"def {self.name}(\n{textwrap.indent(inside, '    ')}\n):"
        return f"{head}\n{textwrap.indent(chr(10).join(lines), '    ')}"

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
        forward: list[Line | Loop] = [one for one in self.layout.body if not one.backward]
        groups: dict[Line | Loop | None, list[str]] = {}
        for one in forward:
            groups[one] = []
            for line in _lines_of(one):
                groups[line] = []
        of = {line: one for one in forward if isinstance(one, Loop) for line in one.lines}
        waiting: list[str] = []
        for one in [one for one in self.layout.body if one.backward]:
            if isinstance(one, Line):
                owner = self._forward_owner(one)
                (waiting if owner is None else groups[owner]).append(one.text)
                continue
            owners = [self._forward_owner(line) for line in one.lines]
            loop = next((of[owner] for owner in owners if owner in of), None)
            groups.setdefault(loop, []).extend([*waiting, one.header])
            waiting = []
            for line, owner in zip(one.lines, owners):
                inside = owner if owner in of else loop
                groups.setdefault(inside, []).append("    " + line.text)
        if waiting:
            groups.setdefault(None, []).extend(waiting)
        left = [
            "" if one is None else one.header if isinstance(one, Loop)
            else "    " * (one in of) + one.text
            for one in groups
        ]  # fmt: skip
        width = max(map(len, [*left, "forward"]))
        rows = [("forward", "backward"), ("-" * width, "-" * len("backward"))]
        for before, mine in zip(left, groups.values()):
            rows += [(before if i == 0 else "", text) for i, text in enumerate(mine or [""])]
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
        layout = self.layout
        names = {*layout.arguments, *layout.lengths, *[line.target for line in layout.lines]}
        names |= {name for one in layout.body if isinstance(one, Loop) for name in one.indexed}
        found = {name: name[1:] for name in names if name[0] == "d" and name[1:] in names}
        return found | layout.derivatives

    @cached_property
    def _mathematics(self) -> list[tuple[Line | Loop, str, str]]:
        """Each line as an equation, with its shape; each loop as the range of its index."""
        layout = self.layout
        rows = layout.rows[0] if layout.rows is not None else "N"
        loops = [one for one in layout.body if isinstance(one, Loop)]
        rounds = {name for one in loops for name in one.indexed}
        outside = Latex(
            layout.shapes, self._gradient_names, layout.lengths, layout.on_paper, rounds
        )
        found: list[tuple[Line | Loop, str, str]] = []
        for one in layout.body:
            inside = outside
            if isinstance(one, Loop):
                inside = replace(outside, counter=one.counter, indexed=one.indexed)
                found.append((one, inside.range(one), ""))
            for line in _lines_of(one):
                if line.on_paper:
                    shape = shape_in_latex(line.step, rows) if line.same_shape else ""
                    found.append((line, inside.equation(line), shape))
        return found

    @cached_property
    def latex(self) -> str:
        inside = {line for one in self.layout.body if isinstance(one, Loop) for line in one.lines}
        lines = [
            rf"&\text{{for }} {equation}:" if isinstance(one, Loop)
            else (r"\quad " if one in inside else "") + equation
            + (rf" && \in {shape}" if shape else "")
            for one, equation, shape in self._mathematics
        ]  # fmt: skip
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    @cached_property
    def markdown(self) -> str:
        inside = {line for one in self.layout.body if isinstance(one, Loop) for line in one.lines}
        parts = [f"Given {', '.join(self._given())}:"]
        for title, backward in (("Forward", False), ("Backward", True)):
            mine = []
            for one, equation, shape in self._mathematics:
                if one.backward is backward:
                    text = equation.replace("&= ", "= ").replace("&\\mathrel", "\\mathrel")
                    text = text.replace("|", r"\vert ")
                    left = f"for ${text}$:" if isinstance(one, Loop) else f"${text}$"
                    if one in inside:
                        left = rf"${chr(92)}quad {text}$"
                    mine.append(f"| {left} | {f'${shape}$' if shape else ''} |")
            if mine:
                parts.append("\n".join([f"| {title} | shape |", "|:--|:--|", *mine]))
        if any(self._gradient_names):
            parts.append(r"Here $\mathrm{d}v$ is $\partial L / \partial v$.")
        return "\n\n".join(parts)

    def _given(self) -> list[str]:
        """Each argument with its shape; a list of them item by item, or once if all are alike."""
        rows = self.layout.rows[0] if self.layout.rows is not None else "N"
        found = []
        for name, step in self.layout.arguments.items():
            written = name_in_latex(name, self._gradient_names)
            steps = step if isinstance(step, list) else [step]
            shapes = [shape_in_latex(one, rows) for one in steps]
            if not isinstance(step, list):
                found.append(rf"${written} \in {shapes[0]}$")
            elif len(set(shapes)) == 1:
                places = rf"{with_index(written, '0')}, \ldots, {with_index(written, str(len(steps) - 1))}"
                found.append(rf"${places} \in {shapes[0]}$")
            else:
                found += [
                    rf"${with_index(written, str(i))} \in {shape}$"
                    for i, shape in enumerate(shapes)
                ]
        return found

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
            has the same name in both, as a variable or as a key of what is returned. What the
            rounds of a loop compute is compared with the items of a list of that name, or with
            ``h1``, ``h2``, ...; a variable that each round sets anew, with the last round's.
        """
        given = dict(zip(self.arguments, arrays)) if arrays else self.arguments
        layout = self.layout
        flat: dict[str, Any] = {}
        for name, value in given.items():
            listed = layout.lists.get(name)
            flat |= {name: value} if listed is None else dict(zip(listed.arguments, value))
        values = self._values(flat)
        found = {
            name: Quantity(
                layout.rounds.get(line.target, Round(line.target)), value, line.expression
            )
            for line in layout.recorded
            for name, value in [(line.target, values[line.target])]
        }
        return compare(theirs, given, flat, found, layout.results, layout.also)

    def _values(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The value of each line, those of each round of a loop among them."""
        space: dict[str, Any] = {
            "np": np,
            **{key: np.asarray(value) for key, value in arrays.items()},
        }
        lines = [f"{line.target} = {line.expression}" for line in self.layout.recorded]
        if self.layout.rows is not None:
            name, _ = self.layout.rows
            space[name] = len(space[self.layout.rows[1]])
        needed = helpers(_called("\n".join(lines)), self.layout.operations)
        exec("\n".join([*needed.values(), *self._helpers, *lines]), space)
        return {line.target: space[line.target] for line in self.layout.recorded}


def _lines_of(one: Line | Loop) -> list[Line]:
    return one.lines if isinstance(one, Loop) else [one]


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


def _statements(body: Sequence[Line | Loop], comments: bool = False) -> list[str]:
    """The lines, those of loops indented, and for each the forward line that it comes from."""
    found: list[str] = []
    before: Line | None = None
    for one in body:
        if isinstance(one, Loop):
            found += [one.header, *["    " + text for text in _statements(one.lines, comments)]]
            before = None
            continue
        if comments and one.owner is not None and one.owner is not before:
            kind = "" if not one.owner.backward else "once more, "
            found.append(f"# {kind}{one.owner.text}")
        before = one.owner
        found.append(one.text)
    return found


def _check(text: str, value: Any) -> str:
    """What the record holds for, as a line."""
    if value is True:
        return f"assert {text}  # the branch that was recorded"
    if value is False:
        return f"assert not ({text})  # the branch that was recorded"
    if isinstance(value, int):
        return f"assert {text} == {value}  # what Python read when this was recorded"
    return f"# Python read {text} as {value!r} when this was recorded."


def _entries(names: Mapping[str, str], layout: Layout) -> list[str]:
    """The gradients by the user's names; those of a list by a comprehension."""
    left = dict(names)
    parts: dict[str, str] = {}
    for listed in layout.lists.values():
        keys = [listed.key(str(n)) for n in listed.numbers]
        gradients = [left.get(key, "").partition("[") for key in keys]
        name = gradients[0][0]
        if not name or [one[0] + one[1] + one[2] for one in gradients] != [
            f"{name}[{i}]" for i in range(len(keys))
        ]:
            continue
        first, slope = listed.numbers[0], listed.numbers[1] - listed.numbers[0]
        if listed.numbers == [first + slope * i for i in range(len(keys))]:
            number = "{" + ast.unparse(affine(slope, first, "i")) + "}"
            parts[keys[0]] = f'**{{f"{listed.key(number)}": g for i, g in enumerate({name})}}'
            for key in keys[1:]:
                del left[key]
    return [parts.get(key, f'"{key}": {name}') for key, name in left.items()]


def _returned(results: list[list[str]]) -> str:
    line = f"return {', '.join([_joined(one) for one in results])}"
    if len(line) + 4 <= LINE:
        return line
    inside = ",\n".join([_wrapped(one) for one in results])
    return f"return (\n{textwrap.indent(inside, '    ')},\n)"


def _joined(result: list[str]) -> str:
    """A value, or a dict in braces."""
    if len(result) == 3 and result[1].startswith("**"):
        return result[1].removeprefix("**")  # the only one
    return result[0] if len(result) == 1 else f"{{{', '.join(result[1:-1])}}}"


def _wrapped(result: list[str]) -> str:
    if len(_joined(result)) + 8 <= LINE or len(result) == 1:
        return _joined(result)
    rows = [""]
    for part in result[1:-1]:
        if rows[-1] and len(rows[-1]) + len(part) > LINE - 14:
            rows.append("")
        rows[-1] += f"{' ' if rows[-1] else ''}{part},"
    inside = "\n".join(rows)
    return f"{{\n{textwrap.indent(inside, '    ')}\n}}"
