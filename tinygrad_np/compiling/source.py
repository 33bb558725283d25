"""A plan as the source of a function, which is also what is run.

In a call of a ufunc the last argument is where its result goes: ``add(z, b, z)`` is ``z += b``.
"""

from __future__ import annotations

import builtins
import keyword
import operator
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from math import isfinite
from types import CodeType
from typing import Any, Final

import numpy as np

from ..core import Kept, Node, Tensor, new_tensor, tick
from ..derivation.layout import identifier
from ..errors import GradientError
from .buffers import Plan
from .lowering import Guard, Host, Store, changes, touched
from .traced import FIXED, FRESH, OWNED, VIEW, WRITES, Call, Traced

UNBROKEN: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
MISS = object()  # what a function returns that does not fit its arguments
RESERVED = frozenset({*keyword.kwlist, *dir(builtins), "np", "self"})


def tensor(value: Any) -> Tensor:
    """A Tensor on the result of a run, which nobody else writes to."""
    made = new_tensor(Tensor)
    made.node = Node(value if type(value) is np.ndarray else np.asarray(value))
    return made


def _at_home(line: Any) -> bool:
    """Whether a line computes its result in an array that stays."""
    return any(one.storage.home is not None for one in touched(line))


def unrecorded(node: Node, g: Any) -> Any:
    """What meets a gradient on its way into a compiled step."""
    raise GradientError(
        f"backward: {node.label} was computed by a compiled step, which keeps no graph. Call "
        "backward() in the step, or compute this with compiled.step, the step as it is."
    )


END_OF_GRAPH: Final[dict[int, Callable[[Node, Any], Any]] | None] = {0: unrecorded}


def cut(value: Any) -> Tensor:
    """As `tensor`, of a result that needs a gradient where the step runs as it is."""
    made = tensor(value)
    made.node.needs = True
    made.node.hooks = END_OF_GRAPH
    return made


class Source:
    """The text of a plan's function, and the names that it reads.

    Attributes
    ----------
    text : str
    names : dict
        What the text's names stand for.
    checks, moves : int
    """

    def __init__(self, plan: Plan, name: str, arguments: Sequence[str], bare: bool) -> None:
        self.plan, self.lowered = plan, plan.lowered
        self.names: dict[str, Any] = {
            "MISS": MISS, "ndarray": np.ndarray, "Tensor": Tensor, "tensor": tensor, "cut": cut, "np": np,
            "asarray": np.asarray, "tick": tick,
        }  # fmt: skip
        self.counts: Counter[str] = Counter()
        self.tokens: dict[Traced, str] = {}
        self.turned: dict[Traced, str] = {}  # names of transposes
        self.objects: dict[int, tuple[Any, str]] = {}
        self.lines: list[str] = []
        self.name = self._fresh_name(name)
        self.bare = bare  # whether the step returns its one result and no nest of results
        self.arguments = [self._fresh_name(one) for one in arguments]
        for (value, _), one in zip(self.lowered.given, self.arguments):
            self.tokens[value] = one
        self._write_checks()
        self.ready = len(self.lines)
        note = ""
        self.first_change: int | None = None  # the line from which on a run leaves something behind
        for line in plan.lines:
            text = self._line(line)
            if text is None:
                continue
            if self.first_change is None and (changes(line) or _at_home(line)):
                self.first_change = self._next_line()
            if line.note != note:
                note = line.note
                self.lines += ["", f"# {note}"]
            self.lines += text if isinstance(text, list) else [text]
        if self.first_change is None:
            self.first_change = self._next_line()
        self._write_end()

    def _next_line(self) -> int:
        """The number, in the text, of the next line that is written."""
        return len(self._memory()) + 1 + len(self.lines) + 1

    def left_nothing(self, error: Exception) -> bool:
        """Whether a run that failed had done nothing that outlives it."""
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != self.code.co_filename:
            trace = trace.tb_next
        assert self.first_change is not None
        return trace is not None and trace.tb_lineno < self.first_change

    @property
    def text(self) -> str:
        body = "\n".join(f"    {line}" if line else "" for line in self.lines)
        head = "".join(f"# {line}\n" for line in self._memory())
        return f"{head}def {self.name}({', '.join(self.arguments)}):\n{body}\n"

    @cached_property
    def code(self) -> CodeType:
        return compile(self.text, f"<compiled {self.name}>", "exec")

    def function(self, names: dict[str, Any]) -> Callable[..., Any]:
        """The function, whose names stand for these objects."""
        space = dict(names)
        exec(self.code, space)
        made: Callable[..., Any] = space[self.name]
        return made

    # -- names -------------------------------------------------------------------------------------

    def _fresh_name(self, wished: str) -> str:
        base = re.sub(r"\W+", "_", wished).strip("_") or "a"
        base = f"a{base}" if base[0].isdigit() else base
        base += "_" * (base in RESERVED)
        name = base
        while name in self.names:
            self.counts[base] += 1
            name = f"{base}{'_' * base[-1].isdigit()}{self.counts[base] + 1}"
        self.names[name] = None
        return name

    def _object(self, value: Any, wished: str) -> str:
        """The name of something that the text cannot spell."""
        if id(value) not in self.objects:
            name = self._fresh_name(wished)
            self.names[name] = value
            self.objects[id(value)] = (value, name)
        return self.objects[id(value)][1]

    def _token(self, value: Traced) -> str:
        if value not in self.tokens:
            array = self.plan.array(value)
            if array is None:
                self.tokens[value] = self._fresh_name(value.label or "a")
            elif array.ndim == 0 and not array.flags.writeable:
                self.tokens[value] = self._object(array, _number_name(array))
            elif value.storage.kind == FIXED:
                self.tokens[value] = self._object(array, value.label or self._leaf_name(value))
            else:
                name = self.tokens[value] = self._fresh_name(value.label or "v")
                self.names[name] = array
        return self.tokens[value]

    def _leaf_name(self, value: Traced) -> str:
        for node, array, _ in self.lowered.leaves:
            if array is value.example and node.name:
                return identifier(node.name)
        return "c" if value.storage.kind == FIXED else "v"

    def _text(self, value: Any) -> str:
        """An argument as source."""
        if isinstance(value, Traced):
            return self._token(value)
        if value is Ellipsis:
            return "..."
        if (
            value is None
            or type(value) in (int, bool, str)
            or (type(value) is float and isfinite(value))
        ):
            return repr(value)
        if type(value) is tuple:
            inside = ", ".join(map(self._text, value))
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if type(value) is list:
            return f"[{', '.join(map(self._text, value))}]"
        if type(value) is slice:
            parts = [self._text(one) for one in (value.start, value.stop, value.step)]
            return f"slice({', '.join(parts)})"
        if isinstance(value, type) and value.__module__ == "numpy":
            return self._object(value, value.__name__)
        return self._object(
            value, "c" if isinstance(value, np.ndarray) else type(value).__name__.lower()
        )

    # -- lines -------------------------------------------------------------------------------------

    def _write_checks(self) -> None:
        """Whether the arguments, and the arrays that the function is bound to, are those of its plan."""
        wrong = []
        for (value, is_tensor), name in zip(self.lowered.given, self.arguments):
            if is_tensor:
                self.lines += [
                    f"if type({name}) is not Tensor or {name}.node.needs: return MISS",
                    f"{name} = {name}.node.value",
                ]
            else:
                wrong.append(f"type({name}) is not ndarray")
            dtype = self._object(value.dtype, value.dtype.name)
            wrong.append(f"{name}.shape != {value.shape}")
            if value.ndim:
                wrong.append(f"{name}.strides != {value.strides}")
            wrong.append(f"({name}.dtype is not {dtype} and {name}.dtype != {dtype})")
        owners: dict[bool, list[str]] = {True: [], False: []}
        for node, array, needs in self.lowered.leaves:
            owner = self._object(node, f"{identifier(node.name or 'leaf')}_node")
            name = self._object(array, identifier(node.name or "c"))
            wrong.append(f"{owner}.value is not {name}")
            owners[needs].append(owner)
        for needs, found in owners.items():
            for i in range(0, len(found), 8):
                some = [f"{owner}.needs" for owner in found[i : i + 8]]
                wrong.append(f"not ({' and '.join(some)})" if needs else " or ".join(some))
        for i in range(0, len(found := owners[True] + owners[False]), 8):
            wrong.append(" or ".join([f"{owner}.hooks" for owner in found[i : i + 8]]))
        for node in self.lowered.clean:
            owner = self._object(node, f"{identifier(node.name or 'leaf')}_node")
            wrong.append(f"{owner}.grad is not None")
        if wrong:
            text = textwrap.fill(" or ".join(wrong), 92, subsequent_indent="    ", **UNBROKEN)
            self.lines += [*f"if ({text}):".splitlines(), "    return MISS"]
        for node, value in self.lowered.replaced:
            owner = self._object(node, f"{identifier(node.name or 'leaf')}_node")
            value.label = node.name
            token = self._token(value)
            self.lines.append(f"{token} = {owner}.value")
            self.lines.append(
                f"if {token}.strides != {value.strides} or {owner}.needs is not {node.needs} "
                f"or {owner}.hooks: return MISS"
            )

    def _line(self, line: Any) -> str | list[str] | None:
        if isinstance(line, Guard):
            check = self._token(line.value)
            return f"if {'not ' if line.expected else ''}{check}: return MISS"
        if isinstance(line, Host):
            called = getattr(line.function, "func", line.function)  # of a partial, what it calls
            name = getattr(called, "__name__", "host").strip("_<>")
            return f"{self._object(line.function, name)}()"
        if isinstance(line, Store):
            owner = self._object(line.leaf, f"{identifier(line.leaf.name or 'leaf')}_node")
            value = self._token(line.value)
            own = (
                value
                if line.value.storage.kind == FRESH and line.value.ndim
                else f"np.array({value})"
            )
            return [f"{owner}.value = {own}", f"{owner}.order = tick()"]
        call: Call = line
        if call.kind == VIEW:
            if self.plan.array(call.result) is not None:
                return None
            return f"{self._token(call.result)} = {self._call(call)}"
        if call.kind == WRITES:
            return self._call(call)
        if (
            call.out is None
            and call.kind != OWNED
            and call.result.__class__ is Traced
            and self.plan.array(call.result) is not None
        ):
            return self._call(call, call.result)
        if call.out is not None:
            return self._call(call, call.out)
        targets = call.result if isinstance(call.result, tuple) else (call.result,)
        text = f"{', '.join(map(self._token, targets))} = {self._call(call)}"
        return text

    def _call(self, call: Call, out: Traced | None = None) -> str:
        function, args = call.function, call.args
        if function is np.dot and out is not None:
            return self._product(args, out)
        texts = [self._text(one) for one in args]
        texts += [
            f"{key}={self._text(value)}" for key, value in call.options.items() if key != "casting"
        ]
        if call.options.get("casting", "same_kind") != "same_kind":
            texts.append(f"casting={call.options['casting']!r}")
        if isinstance(function, np.ufunc):
            if out is not None:
                # NumPy 2.4 takes a detour for the last argument of maximum and minimum.
                by_name = texts[function.nin :] or function in (np.maximum, np.minimum)
                texts.insert(function.nin, f"{'out=' * bool(by_name)}{self._token(out)}")
            return f"{self._object(function, function.__name__)}({', '.join(texts)})"
        owner: Any = getattr(function, "__self__", None)
        if call.kind == OWNED:
            return f"{self._object(owner, owner.name)}.{function.__name__}({', '.join(texts)})"
        if isinstance(owner, np.ufunc):
            if out is not None:
                texts.append(f"out={self._token(out)}")
            return f"{self._object(function, f'{owner.__name__}_{function.__name__}')}({', '.join(texts)})"
        if out is not None:
            texts.append(f"out={self._token(out)}")
        if function is np.take:
            return f"{texts[0]}.take({', '.join(texts[1:])})"
        if function is np.dot:
            return f"{texts[0]}.dot({texts[1]})"
        if function is operator.getitem:
            return f"{texts[0]}[{self._index(args[1])}]"
        if function is np.copyto and "where" not in call.options:
            # The same, without the detour through NumPy's protocol.
            return f"{texts[0]}[...] = {texts[1]}"
        if function is operator.setitem:
            return f"{texts[0]}[{self._index(args[1])}] = {texts[2]}"
        if function is np.transpose and args[1] == tuple(range(len(args[1])))[::-1]:
            return f"{texts[0]}.T"
        if function in (np.reshape, np.transpose, np.swapaxes):
            return f"{texts[0]}.{function.__name__}({', '.join(texts[1:])})"
        return f"{self._object(function, getattr(function, '__name__', 'f').strip('<>'))}({', '.join(texts)})"

    def _product(self, args: tuple[Any, ...], out: Traced) -> str:
        """``a.dot(b, out)``, which wants ``out`` row by row: for one by columns both are transposed."""
        a, b = args
        array = self.plan.array(out)
        if array is None or array.flags.c_contiguous or out.ndim < 2:
            return f"{self._token(a)}.dot({self._token(b)}, {self._token(out)})"
        first, second = self._transposed(b), self._transposed(a)
        return f"{first}.dot({second}, {self._object(array.T, f'{self._token(out)}_T')})"

    def _transposed(self, value: Traced) -> str:
        array = self.plan.array(value)
        if array is None:
            return f"{self._token(value)}.T"
        if value not in self.turned:
            self.turned[value] = self._object(array.T, f"{self._token(value)}_T")
        return self.turned[value]

    def _index(self, index: Any) -> str:
        def part(one: Any) -> str:
            if type(one) is slice:
                ends = ["" if end is None else self._text(end) for end in (one.start, one.stop)]
                return ":".join(ends) + (f":{self._text(one.step)}" if one.step is not None else "")
            return self._text(one)

        if type(index) is tuple and index:
            return ", ".join(map(part, index)) + ("," if len(index) == 1 else "")
        return part(index)

    def _write_end(self) -> None:
        stores = []
        for node, value in self.lowered.gradients.items():
            owner = self._object(node, f"{identifier(node.name or 'leaf')}_node")
            if value is None:
                stores.append(f"{owner}.grad = None")
                continue
            array = self.plan.array(value)
            if array is None:
                token = self._token(value)  # where NumPy made a number of it, it is an array again
                stores.append(f"{owner}.grad = {token if value.ndim else f'asarray({token})'}")
            else:
                kept = self._object(Kept(array), f"kept_{identifier(node.name or 'gradient')}")
                stores.append(f"{owner}.grad = {kept}")
        if self.lowered.touched:
            owners = [
                self._object(one, f"{identifier(one.name or 'leaf')}_node")
                for one in self.lowered.touched
            ]
            stores.append(f"{' = '.join(f'{owner}.order' for owner in owners)} = tick()")
        if stores:
            self.lines += ["", "# .grad, copied when somebody asks for it", *stores]
        texts = []
        for result in self.lowered.results:
            if result.kind == "constant" or not isinstance(result.value, Traced):
                texts.append(
                    self._object(result.value, "result")
                    if not _is_plain(result.value)
                    else repr(result.value)
                )
                continue
            token = self._token(result.value)
            alone = result.value.storage.kind == FRESH
            if result.kind == "number":
                texts.append(f"{token}.item()")
            elif result.kind == "scalar":
                texts.append(f"{token}[()]")
            else:
                own = token if alone else f"{token}.copy()"
                wrap = "asarray" if result.kind == "array" else result.kind
                texts.append(f"{wrap}({own})")
        self.lines += ["", f"return {', '.join(texts)}{',' * (len(texts) == 1 and not self.bare)}"]

    def _memory(self) -> list[str]:
        total = sum(block.nbytes for block in self.plan.blocks)
        return [
            f"Results go to memory that every run uses again: {len(self.plan.blocks)} blocks, "
            f"{total:,} bytes.",
            "In a call of a ufunc the last argument is where its result goes: add(z, b, z) is z += b.",
        ]


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (int, bool, str, float)


def _number_name(array: Any) -> str:
    value = array.item()
    if value in (0, 1, 2):
        return ("zero", "one", "two")[int(value)]
    return f"c{value:.4g}".replace("-", "m").replace(".", "_").replace("+", "")
