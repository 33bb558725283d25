"""What the Python code of a step reads besides its arguments: the variables around it.

A compiled step runs no Python, so it must know when a variable that its code reads is another one
now. `Around` looks through the code for the variables and attributes that it names, follows them to
functions, objects, lists and dicts of the user's own, and writes down what is there.
"""

from __future__ import annotations

import dis
import random
import sys
from array import array
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import cache, partial
from importlib.util import resolve_name
from operator import is_
from types import (
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final, NamedTuple
from weakref import ref

import numpy as np

from ..core import Tensor
from .log import CONVERSIONS, OWN, UnreplayableError, is_library

# Variables and elements of lists; more than that is data.
MANY: Final = 4096
# Elements of an array that are compared in every call; of more than that only some.
SMALL: Final = 4096
SAMPLE: Final = 256
# Elements of a list that are compared one by one, which is faster for so many.
FEW: Final = 12
MISSING: Final = object()
# What reading a place raises when there is nothing any more.
GONE: Final = (KeyError, AttributeError, ValueError)
SAME: Final = """def same():
    try:
        return {}
    except GONE:
        return False
"""
NUMBERS: Final = (bool, int, float, complex, str, bytes, type(None), np.generic)
FUNCTIONS: Final = (FunctionType, staticmethod, classmethod, property)
# Special methods that Python calls where an object is made, shown or copied, and not where it is used.
ASIDE: Final = frozenset({
    "__init__", "__new__", "__post_init__", "__repr__", "__str__", "__del__", "__getstate__", "__setstate__",
    "__reduce__", "__reduce_ex__", "__copy__", "__deepcopy__", "__init_subclass__", "__set_name__",
})  # fmt: skip
MAKERS: Final = ("__new__", "__init__", "__post_init__")


CONTAINERS: Final = (tuple, list, set, deque, dict)
# Beside these, a text may be an attribute's name.
BY_TEXT: Final = frozenset({
    "getattr", "setattr", "hasattr", "delattr", "vars", "attrgetter", "__dict__", "__getattribute__",
})  # fmt: skip
# Of what an index is made that is always the same one.
CONSTANT: Final = ("LOAD_CONST", "BUILD_SLICE", "BUILD_TUPLE")
ATTRIBUTE: Final = frozenset({
    "LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "STORE_ATTR", "DELETE_ATTR", "IMPORT_FROM",
})  # fmt: skip


class Place(NamedTuple):
    """Where a value stands: the text that reads it from ``owner``, and its name for the user."""

    text: str
    owner: Any
    name: str


class Around:
    """The variables that a step's code reads, and their values when this was made.

    Parameters
    ----------
    roots : list
        The step, and those of its arguments that are no arrays or numbers.

    Attributes
    ----------
    generators : list of (object, state)
        Random generators among the variables, and NumPy's and Python's global ones.
    arrays : list of (ndarray, ndarray)
        Arrays among the variables, and their numbers, of large ones a sample.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.roots = list(roots)  # kept, so that nothing else is given the identity of one
        self.names: set[str] = set()  # of the attributes that the code reads
        count = -1
        while count < len(
            self.names
        ):  # code that is found late names attributes of what came early
            count = len(self.names)
            self._begin()
            for root in self.roots:
                self._walk(root, getattr(root, "__name__", type(root).__name__))
        self.values = [_read(place) for place in self.places]
        self._compile()

    def _begin(self) -> None:
        self.places: list[Place] = []
        self.seen: dict[int, Any] = {}
        self.classes: dict[int, type] = {}  # those whose methods were looked through
        self.arrays: list[tuple[Any, Any]] = []
        self.tables: list[str] = []  # their names
        self.subscripted: set[str] = set()  # what the code takes elements from
        self.generators: list[tuple[str, Any, str]] = [
            (name, one, repr(_state(one)))
            for name, one in (("np.random", np.random), ("random", random))
        ]

    # -- looking -----------------------------------------------------------------------------------

    def _place(self, text: str, owner: Any, name: str) -> None:
        self.places.append(Place(text, owner, name))
        if len(self.places) > MANY:
            raise UnreplayableError(
                f"it reads more than {MANY} variables and elements of lists, such as {name}. "
                "Give it what it needs as arguments, in arrays."
            )

    def _walk(self, value: Any, name: str) -> None:
        if isinstance(value, NUMBERS) or id(value) in self.seen:
            return
        self.seen[id(value)] = value
        if any(value is one for one in CONVERSIONS.originals.values()):
            raise UnreplayableError(
                f"it calls NumPy's function by the name {name}, and what that makes of an array leaves "
                f"no record. Call it as np.{value.__name__}."
            )
        for kinds, walk in self.WALKS:
            if isinstance(value, kinds):
                walk(self, value, name)
                if isinstance(value, CONTAINERS) and not is_library(type(value).__module__):
                    self._object(value, name)
                return
        self._object(value, name)

    def _function(self, function: FunctionType, name: str) -> None:
        if is_library(function.__module__):
            return
        variables, attributes, modules = _reads(function.__code__)
        self.names |= {*attributes, *variables}
        self.subscripted |= _subscripted(function.__code__)
        self._place("{}.__code__", function, name)
        for cell, variable in zip(function.__closure__ or (), function.__code__.co_freevars):
            try:
                content = cell.cell_contents
            except ValueError:  # it has no value yet, and if the step reads it, it fails
                continue
            self._place("{}.cell_contents", cell, variable)
            if variable == "__class__":  # of super()
                self._class(content, content.__name__)
            else:
                self._walk(content, variable)
        for variable in variables:
            if variable in function.__globals__:  # else it is built in
                self._entry(function.__globals__, variable, variable)
        for module in modules:  # that it imports when it is called
            package = function.__globals__.get("__package__")
            found = sys.modules.get(resolve_name(module, package) if package else module)
            if found is not None:
                self._walk(found, module)
        for key in sorted(self.names & vars(function).keys()):
            self._entry(vars(function), key, f"{name}.{key}")
        for kind in ("__defaults__", "__kwdefaults__"):
            if getattr(function, kind):
                self._place(f"{{}}.{kind}", function, f"the defaults of {name}")
                self._walk(getattr(function, kind), f"the defaults of {name}")

    def _entry(self, space: Mapping[str, Any], key: str, name: str) -> None:
        """A variable in a dict of variables."""
        value = space.get(key, MISSING)
        if not isinstance(value, ModuleType):
            missing = f"{{}}.get({key!r}, MISSING)"
            self._place(missing if value is MISSING else f"{{}}[{key!r}]", space, name)
        if value is not MISSING:
            self._walk(value, name)

    def _method(self, method: MethodType, name: str) -> None:
        self._walk(method.__func__, name)
        self._walk(method.__self__, "self")
        if is_library(
            type(method.__self__).__module__
        ):  # such as `nn.fit`: the user's models, losses
            for key, value in getattr(method.__self__, "__dict__", {}).items():
                if isinstance(value, FunctionType | MethodType | partial) or _notes(value):
                    self._walk(value, key)

    def _partial(self, value: partial[Any], name: str) -> None:
        self._walk(value.func, getattr(value.func, "__name__", name))
        self._walk(value.args, f"{name}.args")
        self._walk(value.keywords, f"{name}.keywords")

    def _tuple(self, value: tuple[Any, ...], name: str) -> None:
        for i, one in enumerate(value):
            self._walk(one, f"{name}[{i}]")

    def _list(self, value: Any, name: str) -> None:
        for _ in value:
            self._place("*{}", value, name)  # counted as many, read once
        del self.places[len(self.places) - len(value) :]
        self._place("tuple({})", value, name)
        self._tuple(tuple(value), name)

    def _dict(self, value: Any, name: str) -> None:
        self._place("tuple({})", value, name)
        self._place("tuple({}.values())", value, name)
        for key, one in value.items():
            self._walk(one, f"{name}[{key!r}]")

    def _module(self, value: ModuleType, name: str) -> None:
        if is_library(value.__name__):
            return
        for key in sorted(self.names & vars(value).keys()):
            self._entry(vars(value), key, f"{name}.{key}")

    def _made(self, value: type, name: str) -> None:
        """A class that is named, so that an object of it may be made."""
        for base in value.__mro__:
            for key in MAKERS:
                if isinstance(made := vars(base).get(key), FunctionType):
                    self._walk(made, f"{base.__name__}.{key}")
        self._class(value, name)

    def _class(self, value: type, name: str) -> None:
        if id(value) in self.classes:
            return
        self.classes[id(value)] = value
        if type(value) is not type:
            self._class(type(value), type(value).__name__)
        own = [base for base in value.__mro__ if not is_library(base.__module__)]
        for key in sorted(self.names | {"__call__", "forward"} | _special(own)):
            plain = False
            for base in (one for one in own if key in vars(one)):
                found = vars(base)[key]
                if isinstance(found, classmethod | staticmethod):
                    self._walk(found.__func__, f"{name}.{key}")
                elif isinstance(found, property):
                    self._walk(found.fget, f"{name}.{key}")
                else:
                    plain = True
                    self._entry(vars(base), key, f"{name}.{key}")
            if plain and key not in vars(value):
                self._place(f"{{}}.{key}", value, f"{name}.{key}")  # a class before may get it

    def _tensor(self, value: Tensor, name: str) -> None:
        if not value.requires_grad:  # a write into a parameter is one into its array
            self._place("{}.node", value, name)

    def _array(self, value: Any, name: str) -> None:
        if value.dtype == object:
            self._list(value.ravel("K"), name)
        else:
            self.arrays.append((value, _sample(value)))
            self.tables.append(name)

    def indexed(self) -> str | None:
        """The name of an array that the code takes elements from, at places that it computes."""
        return next((name for name in self.tables if name.split(".")[-1] in self.subscripted), None)

    def _reference(self, value: ref[Any], name: str) -> None:
        self._place("{}()", value, name)
        self._walk(value(), name)

    def _context(self, value: ContextVar[Any], name: str) -> None:
        self._place("{}.get(MISSING)", value, value.name)
        self._walk(value.get(MISSING), value.name)

    def watch(self, array: Any) -> None:
        """Notice, too, when this array holds other numbers."""
        if not any(one is array for one, _ in self.arrays):
            self.arrays.append((array, _sample(array)))

    def _generator(self, value: Any, name: str) -> None:
        self.generators.append((name, value, repr(_state(value))))

    def _object(self, value: Any, name: str) -> None:
        kind = type(value)
        if hasattr(kind, "__next__"):
            raise UnreplayableError(
                f"it reads from the iterator `{name}`, and a replay would not. Give what comes out of "
                "it as an argument."
            )
        self._class(kind, kind.__name__)
        has = hasattr(value, "__dict__")
        own: dict[str, Any] = value.__dict__ if has else {}
        if _notes(value):
            for key, one in own.items():
                self._walk(one, f"{name}.{key}")
            return
        if has and not is_library(kind.__module__):
            self._place("{}.__dict__", value, name)
            self._place("len({})", own, name)  # attributes that come, or go
        if "__wrapped__" in own:  # a function that another one stands for
            self._walk(own["__wrapped__"], name)
        for key in sorted(self.names):
            if key in own or (has and _is_data(kind, key)):
                self._entry(own, key, f"{name}.{key}")
            elif isinstance(vars(kind).get(key), MemberDescriptorType) and hasattr(value, key):
                self._place(f"{{}}.{key}", value, f"{name}.{key}")
                self._walk(getattr(value, key), f"{name}.{key}")
            elif isinstance(getattr(kind, key, None), property) and _is_own(kind):
                self._walk(getattr(value, key), f"{name}.{key}")  # the groups of an optimizer

    WALKS: Final[tuple[tuple[Any, Callable[..., None]], ...]] = (
        (FunctionType, _function), (MethodType, _method), (partial, _partial), (tuple, _tuple),
        ((list, set, deque, UserList, bytearray, array), _list),
        ((dict, MappingProxyType, ChainMap, UserDict), _dict),
        (ModuleType, _module), (type, _made), (Tensor, _tensor), (np.ndarray, _array),
        (ref, _reference), (ContextVar, _context),
        ((np.random.Generator, np.random.RandomState, random.Random), _generator),
    )  # fmt: skip

    # -- comparing ---------------------------------------------------------------------------------

    def _compile(self) -> None:
        """Write ``same()``: whether each variable is the very object that it was."""
        self.space: dict[str, Any] = {"MISSING": MISSING, "GONE": GONE, "is_": is_}
        tests = []
        for i, (place, value) in enumerate(zip(self.places, self.values)):
            self.space[f"o{i}"] = place.owner
            self._name(i, value)
            text = place.text.format(f"o{i}")
            if isinstance(place.owner, list) and len(value) <= FEW:
                tests.append(f"len(o{i}) == {len(value)}")
                tests += [f"o{i}[{k}] is v{i}_{k}" for k in range(len(value))]
            elif text.startswith("tuple("):
                inside = text[len("tuple(") : -1]
                tests.append(f"len(o{i}) == {len(value)} and all(map(is_, {inside}, v{i}))")
            else:
                tests.append(f"{text} is v{i}")
        exec(SAME.format(" and ".join(tests) or True), self.space)
        self.same: Callable[[], bool] = self.space["same"]

    def changed(self) -> str | None:
        """The name of a variable that is another one, or is another number, than it was."""
        for i, place in enumerate(self.places):
            now = _read(place)
            if not _alike(self.values[i], now):
                return place.name
            self.values[i] = now
            self._name(i, now)  # an equal number: the very object next time
        return None

    def _name(self, i: int, value: Any) -> None:
        """Give ``same()`` a value, and its parts if those are compared one by one."""
        self.space[f"v{i}"] = value
        if isinstance(self.places[i].owner, list) and len(value) <= FEW:
            self.space |= {f"v{i}_{k}": one for k, one in enumerate(value)}

    def give_way(self, function: Callable[[], Any]) -> str | None:
        """Call a function that every replay calls, too, and look no more at what it changes.

        The name of a variable that it changes and that other code reads, if there is one.
        """
        values = [_read(place) for place in self.places]
        samples = [_sample(array) for array, _ in self.arrays]
        function()
        same = [_untouched(value, _read(place)) for place, value in zip(self.places, values)]
        if all(same) and all(
            equal(_sample(array), sample) for (array, _), sample in zip(self.arrays, samples)
        ):
            return None
        own = {(place.text, id(place.owner)) for place in Around([function]).places}
        others = [
            place.name for place, is_same in zip(self.places, same)
            if not is_same and (place.text, id(place.owner)) not in own
        ]  # fmt: skip
        self.places = [place for place, is_same in zip(self.places, same) if is_same]
        self.values = [value for value, is_same in zip(self.values, same) if is_same]
        self.arrays = [
            pair for pair, sample in zip(self.arrays, samples) if equal(_sample(pair[0]), sample)
        ]
        self._compile()
        return next(iter(others), None)

    def leave_out(self, read: Iterable[Any]) -> None:
        """Look no more at arrays that the compiled function reads where they are."""
        known = {id(one) for one in read}
        self.arrays = [pair for pair in self.arrays if id(pair[0]) not in known]

    def overwritten(self) -> bool:
        """Whether an array holds other numbers."""
        return any(not equal(_sample(array), before) for array, before in self.arrays)

    def drawn(self, known: Iterable[Any]) -> str | None:
        """The name of a generator that was drawn from past the operations."""
        told = {id(one) for one in known}
        for name, one, state in self.generators:
            if id(one) not in told and repr(_state(one)) != state:
                return name
        return None


def _read(place: Place) -> Any:
    """The value in a place; MISSING where there is none any more."""
    try:
        return eval(place.text.format("owner"), {"owner": place.owner, "MISSING": MISSING})
    except GONE:
        return MISSING


def _alike(before: Any, now: Any) -> bool:
    if before is now:
        return True
    if type(before) is not type(now):
        return False
    if isinstance(before, tuple):
        return len(before) == len(now) and all(map(_alike, before, now))
    if isinstance(before, MethodType):  # made anew whenever it is read
        return before.__func__ is now.__func__ and before.__self__ is now.__self__
    # As texts, for 0.0 and -0.0 are not the same, and nan is.
    return isinstance(before, NUMBERS) and repr(before) == repr(now)


def _untouched(before: Any, now: Any) -> bool:
    """Whether nobody has set a variable: a number that was computed anew is another object."""
    return before is now or (not isinstance(before, NUMBERS) and _alike(before, now))


def equal(a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def _sample(array: Any) -> Any:
    if array.size <= SMALL:
        return np.array(array)
    return array.flat[:: array.size // SAMPLE]


def _state(generator: Any) -> Any:
    if generator is np.random:
        generator = np.random.mtrand._rand
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        state: Any = generator.get_state()
        return state[0], state[1].tobytes(), *state[2:]
    return generator.getstate()


def _notes(value: Any) -> bool:
    """Whether an object tells of the attributes that are set, as an `nn.Module` does."""
    return getattr(type(value), "notes_changes", False) is True


def _is_data(kind: type, key: str) -> bool:
    """Whether a class has a value under that name, which an object may be given one instead of."""
    found = next((vars(base)[key] for base in kind.__mro__ if key in vars(base)), MISSING)
    return found is not MISSING and not hasattr(type(found), "__get__")


def _is_own(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in OWN


def _special(bases: Iterable[type]) -> set[str]:
    """The special methods of classes, such as ``__getitem__``: code uses them without their names."""
    return {
        key for base in bases for key, found in vars(base).items()
        if key.startswith("__") and key.endswith("__") and key not in ASIDE
        and isinstance(found, FUNCTIONS)
        and getattr(getattr(found, "__code__", None), "co_filename", "") != "<string>"  # dataclass's
    }  # fmt: skip


@cache
def _reads(code: CodeType) -> tuple[tuple[str, ...], frozenset[str], tuple[str, ...]]:
    """The global variables, the attributes and the modules that code names, functions within it
    included."""
    variables: dict[str, None] = {}
    attributes: set[str] = set()
    modules: dict[str, None] = {}
    loaded: list[Any] = []
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            variables[one.argval] = None
        elif one.opname in ATTRIBUTE:
            attributes.add(one.argval)
        elif one.opname == "IMPORT_NAME":
            modules["." * loaded[-2] + one.argval] = None  # a level, and the names
        elif isinstance(one.argval, CodeType):
            inner = _reads(one.argval)
            variables |= dict.fromkeys(inner[0])
            attributes |= inner[1]
            modules |= dict.fromkeys(inner[2])
        if one.opname != "EXTENDED_ARG":
            loaded.append(one.argval)
    if BY_TEXT & {*code.co_names}:
        attributes |= {one for one in code.co_consts if type(one) is str and one.isidentifier()}
    return tuple(variables), frozenset(attributes), tuple(modules)


@cache
def _subscripted(code: CodeType) -> frozenset[str]:
    """The names in ``name[index]``, unless the index is a constant."""
    found: set[str] = set()
    lines = [
        one for one in dis.get_instructions(code) if one.opname not in ("CACHE", "EXTENDED_ARG")
    ]
    for i, line in enumerate(lines):
        if isinstance(line.argval, CodeType):
            found |= _subscripted(line.argval)
        if line.opname == "BINARY_SUBSCR" or line.argrepr == "[]":
            start, depth = i, 0
            while start > 0 and depth < 1:  # back to where the index begins on the stack
                start -= 1
                depth += dis.stack_effect(lines[start].opcode, lines[start].arg, jump=False)
            index = lines[start:i]
            owner = lines[start - 1].argval
            if isinstance(owner, str) and any(one.opname not in CONSTANT for one in index):
                found.add(owner)
    return frozenset(found)
