"""Stand-ins for arrays that write down each NumPy call made on them.

A `Traced` holds an example array, of the shape, dtype and layout that the real one will have, and
the `Storage` whose memory it is in. A call on it computes the example of the result and leaves a
`Call` on the tape. What depends on values (a branch, a conversion to a number) raises.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import FunctionType
from typing import Any, Final

import numpy as np
from numpy.lib.array_utils import byte_bounds

ndarray = np.ndarray


class UntraceableError(Exception):
    """Something was done to a stand-in that NumPy calls alone do not say."""


# Kinds of storage.
TEMPORARY: Final = "temporary"  # memory of the compiled step's own, used again
FIXED: Final = "fixed"  # an array that stays the same object: a parameter, an optimizer's state
GIVEN: Final = "given"  # another array each time: an argument, or a buffer that is replaced
FRESH: Final = "fresh"  # made anew by its call, each time

# Kinds of calls.
ELEMENTWISE: Final = "elementwise"  # a ufunc, which can also write over an input
INTO: Final = "into"  # NumPy's, with out=
INTO_ROWS: Final = "into rows"  # the same; the result lies row by row
INTO_COLUMNS: Final = "into columns"  # the same; the result lies column by column
MAKES: Final = "makes"  # gives an array of its own
VIEW: Final = "view"  # gives a view of its first argument
WRITES: Final = "writes"  # writes into its first argument
OWNED: Final = "owned"  # a method, which gives arrays that are its object's memory


class Storage:
    """Memory that one or more stand-ins are in."""

    __slots__ = ("home", "kind", "memory", "nbytes", "ones", "root", "writes")

    def __init__(self, kind: str, nbytes: int, root: Any = None) -> None:
        self.kind = kind
        self.nbytes = nbytes
        self.root = root
        self.home: Any = None  # bytes of an array that stays, in which it is to be
        self.ones = 0  # elements more than that, all 1, in memory that nobody else uses
        self.memory: Any = None
        self.writes = 0  # so far


class Call:
    """One NumPy call: ``result = function(*args, **options)``."""

    __slots__ = ("args", "function", "kind", "note", "options", "out", "reads", "result", "touches")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        options: dict[str, Any],
        result: Any,
        kind: str,
        note: str,
        out: Traced | None = None,
    ) -> None:
        self.function = function
        self.args = args
        self.options = options
        self.result = result
        self.kind = kind
        self.note = note
        self.out = out
        self.reads = found(args) + found(options)  # the stand-ins among the arguments
        self.touches = self.reads + found(result)


def found(tree: Any) -> tuple[Traced, ...]:
    """The stand-ins in a nest of tuples, lists and dicts."""
    if isinstance(tree, Traced):
        return (tree,)
    if type(tree) is dict:
        tree = tuple(tree.values())
    if type(tree) in (tuple, list):
        return tuple([one for part in tree for one in found(part)])
    return ()


def examples(tree: Any) -> Any:
    """The same nest with the examples in place of the stand-ins."""
    if isinstance(tree, Traced):
        return tree.example
    if type(tree) in (tuple, list):
        return type(tree)([examples(part) for part in tree])
    if type(tree) is dict:
        return {key: examples(part) for key, part in tree.items()}
    return tree


# A batch of rows that is much longer than wide is laid out column by column: a bias is then added to
# whole columns, and reductions over few classes run along memory. So is what is computed from it.
NARROW: Final = 16


def _follows_columns(example: Any, args: Sequence[Any]) -> bool:
    """Whether an elementwise result has the shape of an argument of ours that lies by columns."""
    return example.ndim == 2 and any(
        isinstance(one, Traced) and one.storage.kind == TEMPORARY and one.shape == example.shape
        and one.flags.f_contiguous and not one.flags.c_contiguous
        for one in args
    )  # fmt: skip


def is_tall(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and 1 < shape[1] <= NARROW and shape[0] >= 4 * shape[1]


class Tape:
    """The calls in order, and the memory they speak of."""

    def __init__(self, exact: bool = False) -> None:
        self.exact = (
            exact  # whether every result lies in memory as it does when the step runs as it is
        )
        self.calls: list[Any] = []  # and what else has its place among them
        self.note = ""
        self.writable = False  # whether arrays that are no stand-ins may be written into
        self.roots: dict[int, Storage] = {}
        self.numbers: dict[tuple[Any, Any, str], Traced] = {}
        self.known: dict[Any, tuple[Any, list[tuple[Storage, int]]]] = {}
        self.order: list[tuple[int, Any]] = []

    def fixed(self, array: Any) -> Traced:
        """An array that stays; arrays in the same memory share a storage."""
        root = array
        while isinstance(root.base, ndarray):
            root = root.base
        if id(root) not in self.roots:
            self.roots[id(root)] = Storage(FIXED, root.nbytes, root)
        return Traced(self, array, self.roots[id(root)])

    def number(self, value: Any, dtype: np.dtype[Any]) -> Traced:
        """A number as an array without axes: NumPy need not convert it in every call."""
        return self.filled(value, (), dtype)

    def filled(self, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Traced:
        """An array of one number, the same one for all who ask."""
        key = (repr(value), shape, dtype.str)
        if key not in self.numbers:
            array = np.full(shape, value, dtype)
            array.flags.writeable = False
            self.numbers[key] = self.fixed(array)
        return self.numbers[key]

    def call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        options: dict[str, Any] | None = None,
        kind: str = MAKES,
        example: Any = None,
    ) -> Any:
        """Write down a call, and give the stand-ins of its results."""
        options = options or {}
        key = (function, _key(args), _key(options))
        known = self.known.get(key)
        if known is not None and all(storage.writes == count for storage, count in known[1]):
            return known[0]
        if example is None:
            example = function(*examples(args), **examples(options))
        result = self._results(example, args, kind)
        self.calls.append(Call(function, args, options, result, kind, self.note))
        if (
            kind != MAKES or type(function) is not FunctionType
        ):  # a function of ours may draw numbers
            involved = {one.storage for one in self.calls[-1].touches}
            self.known[key] = (result, [(one, one.writes) for one in involved])
            self.order.append((len(self.calls), key))
        return result

    def _results(self, example: Any, args: tuple[Any, ...], kind: str) -> Any:
        if isinstance(example, tuple | list):
            return tuple([self._results(part, args, MAKES) for part in example])
        if not isinstance(example, ndarray | np.generic):
            raise UntraceableError(f"a result of type {type(example).__name__}")
        if kind == VIEW:
            return Traced(self, example, args[0].storage)
        if kind == MAKES or (kind not in (ELEMENTWISE, INTO_ROWS) and np.ndim(example) == 0):
            return Traced(self, np.asarray(example), Storage(FRESH, example.nbytes))
        example = np.asarray(example)
        columns = kind == INTO_COLUMNS or (is_tall(example.shape) and kind != INTO_ROWS)
        columns = columns or (kind == ELEMENTWISE and _follows_columns(example, args))
        if columns and not self.exact:
            example = np.asfortranarray(example)
        return self.temporary(example)

    def temporary(self, example: Any) -> Traced:
        """A stand-in for memory of the step's own."""
        if example.dtype.hasobject:
            raise UntraceableError("an array of Python objects")
        return Traced(self, example, Storage(TEMPORARY, example.nbytes, example))

    def owned(self, method: Callable[..., Any], args: tuple[Any, ...], *arrays: Any) -> Any:
        """Write down a call that leaves its results in arrays of its object, as long as that is."""
        results = []
        for array in arrays:
            results.append(Traced(self, array, Storage(TEMPORARY, array.nbytes, array)))
            results[-1].storage.home = array.ravel("K").view(np.uint8)
        result = tuple(results) if len(results) > 1 else results[0]
        self.calls.append(Call(method, args, {}, result, OWNED, self.note))
        return result

    def write(self, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Write down a call that changes its first argument."""
        args[0].storage.writes += 1
        if args[0].storage.kind in (TEMPORARY, FRESH):  # what stays is the user's
            function(*examples(args), **examples(options))
        self.calls.append(Call(function, args, options, None, WRITES, self.note))

    def into(
        self, out: Traced, function: Any, args: Any, options: dict[str, Any], kind: str = INTO
    ) -> Traced:
        """Write down a call whose result goes into ``out``."""
        out.storage.writes += 1
        if out.storage.kind in (TEMPORARY, FRESH):
            out.example[...] = function(*examples(args), **examples(options))
        self.calls.append(Call(function, args, options, out, kind, self.note, out))
        return out

    def moved(self, value: Traced, place: Traced) -> bool:
        """Whether ``value``, transposes of products, can be computed where it would be copied to.

        A matrix product writes rows that are apart from each other as fast as rows that are not.
        """
        calls = [call for call in self.calls if isinstance(call, Call)]
        calls = [
            call for call in calls if any(one.storage is value.storage for one in call.touches)
        ]
        if not calls:
            return False
        made, *views = calls
        if made.function is not np.matmul or made.kind != INTO or made.out is not None:
            return False
        values = [made.result, *[call.result for call in views]]
        chained = all(
            call.function is np.transpose and call.args[0] is source
            for call, source in zip(views, values)
        )
        if not chained or values[-1] is not value:
            return False
        there = [place.example]
        for call in reversed(views):
            there.append(there[-1].transpose(np.argsort(call.args[1])))
        if place.itemsize not in there[-1].strides[-2:]:
            return False  # for BLAS a matrix lies by rows or by columns
        there[-1][...] = made.result.example
        for one, example in zip(values, reversed(there)):
            one.example, one.storage = example, place.storage
        return True

    def mark(self) -> int:
        return len(self.calls)

    def take_back(self, mark: int) -> None:
        del self.calls[mark:]
        while self.order and self.order[-1][0] > mark:
            self.known.pop(self.order.pop()[1], None)


def _key(tree: Any) -> Any:
    """What is the same for two arguments that are the same."""
    if type(tree) in (tuple, list):
        return (type(tree), *[_key(part) for part in tree])
    if type(tree) is dict:
        return tuple([(name, _key(part)) for name, part in tree.items()])
    if type(tree) in (int, float, bool, str, slice, type(None)):
        return (type(tree), repr(tree))
    return id(tree)


@cache
def function_of_ufunc(ufunc: np.ufunc, method: str) -> Any:
    """``ufunc.reduce`` and the like, always the same object."""
    return ufunc if method == "__call__" else getattr(ufunc, method)


class Traced:
    """A stand-in for an array."""

    __slots__ = ("example", "label", "storage", "tape", "turned")
    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(self, tape: Tape, example: Any, storage: Storage) -> None:
        self.tape = tape
        self.example = example
        self.storage = storage
        self.label: str | None = None
        self.turned = False  # whether it is another stand-in's transpose

    # -- what is known without values --------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.example.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.example.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self.example.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.example.dtype  # type: ignore[no-any-return]

    @property
    def itemsize(self) -> int:
        return self.example.itemsize  # type: ignore[no-any-return]

    @property
    def strides(self) -> tuple[int, ...]:
        return self.example.strides  # type: ignore[no-any-return]

    @property
    def flags(self) -> Any:
        return self.example.flags

    def __len__(self) -> int:
        return len(self.example)

    def covers(self) -> bool:
        """Whether it is all of its memory, each element once."""
        if (
            self.storage.ones
            and self.example.nbytes == self.storage.nbytes + self.storage.ones * self.itemsize
        ):
            return _is_dense(self.example)
        return self.example.nbytes == self.storage.nbytes and _is_dense(self.example)

    # -- what would depend on values ---------------------------------------------------------------

    def _refuse(self, *args: Any, **options: Any) -> Any:
        raise UntraceableError("a branch or a conversion that depends on values")

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __array__ = __iter__ = _refuse
    item = tolist = nonzero = _refuse

    # -- NumPy's protocols -------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", None)
        tape = self.tape
        if out is not None and len(out) != 1:
            raise UntraceableError(f"{ufunc.__name__} with several outputs")
        if method == "at":
            tape.write(ufunc.at, _target(tape, inputs[0]), *inputs[1:])
            return None
        if method in ("outer", "reduceat"):
            raise UntraceableError(f"{ufunc.__name__}.{method}")
        if ufunc is np.matmul and out is None and [np.ndim(one) for one in inputs] == [2, 2]:
            # For two matrices dot calls the same BLAS with half of matmul's overhead.
            return _dot(tape, *inputs)
        elementwise = method == "__call__" and ufunc.signature is None
        if elementwise:
            inputs = _ready(tape, ufunc, inputs)
        function = function_of_ufunc(ufunc, method)
        if ufunc.nout != 1:
            return tape.call(function, inputs, options)
        kind = ELEMENTWISE if elementwise else INTO
        if options.keys() - {"axis", "keepdims", "dtype", "casting"}:
            raise UntraceableError(f"{ufunc.__name__} with {', '.join(options)}")
        if out is None:
            return tape.call(function, inputs, options, kind)
        target = _target(tape, out[0])
        _check_fits(function, inputs, options, target)
        return tape.into(target, function, inputs, options, kind)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        handler = FUNCTIONS.get(function)
        if handler is not None:
            return handler(self.tape, *args, **options)
        if function in NEEDS_VALUES:
            raise UntraceableError(f"np.{function.__name__}")
        options = {key: value for key, value in options.items() if value is not np._NoValue}
        if options.get("out") is not None:
            raise UntraceableError(f"np.{function.__name__} with out=")
        example = function(*examples(args), **examples(options))
        if function in TELLS:
            return example
        return self.tape.call(function, args, options, _kind_of(example, args), example)

    # -- operators ---------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Any:
        if any(one.dtype == bool for one in found(index)):
            raise UntraceableError("a mask as an index")
        example = self.example[examples(index)]
        return self.tape.call(
            operator.getitem, (self, index), {}, _kind_of(example, (self,)), example
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        if (
            isinstance(value, Traced)
            and value.example.base is not None
            and _same_place(self, index, value)
        ):
            return  # x[i] += y: the result is written already
        self.tape.write(operator.setitem, self, index, value)

    def __pow__(self, exponent: Any) -> Any:
        # As ndarray does.
        simple = {1: np.positive, 2: np.square, 0.5: np.sqrt, -1: np.reciprocal}
        if isinstance(exponent, int | float) and exponent in simple and self.dtype.kind == "f":
            return simple[exponent](self)
        return np.power(self, exponent)

    # -- methods -----------------------------------------------------------------------------------

    @property
    def T(self) -> Any:
        return self.transpose()

    @property
    def mT(self) -> Any:
        return self.swapaxes(-1, -2)

    def transpose(self, *axes: Any) -> Any:
        given = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        example = self.example.transpose(given or None)
        order = tuple(given or tuple(range(self.ndim))[::-1])
        made = self.tape.call(np.transpose, (self, order), {}, VIEW, example)
        made.turned = self.ndim == 2
        return made

    def swapaxes(self, first: int, second: int) -> Any:
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.transpose(order)

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> Any:
        given = (
            shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        )
        given = (given,) if isinstance(given, int | np.integer) else tuple(given)
        if order != "C":
            raise UntraceableError("reshape in another order")
        example = self.example.reshape(given)
        if np.may_share_memory(example, self.example):
            return self.tape.call(np.reshape, (self, example.shape), {}, VIEW, example)
        fresh = empty(self.tape, example.shape, example.dtype)
        within = self.tape.call(np.reshape, (fresh, self.shape), {}, VIEW)
        if not self.tape.moved(self, within):
            self.tape.write(np.copyto, within, self)
        return fresh

    def ravel(self, order: str = "C") -> Any:
        return self.reshape((-1,))

    def flatten(self, order: str = "C") -> Any:
        return self.copy().reshape((-1,))

    def squeeze(self, axis: Any = None) -> Any:
        return self.tape.call(np.squeeze, (self, axis), {}, VIEW)

    def copy(self, order: Any = "C") -> Any:
        fresh = self.tape.temporary(np.empty_like(self.example, order=order))
        self.tape.write(np.copyto, fresh, self)
        return fresh

    def astype(
        self, dtype: Any, order: str = "K", casting: str = "unsafe", copy: bool = True
    ) -> Any:
        if np.dtype(dtype) == self.dtype:
            return self.copy("K") if copy else self
        example = self.example.astype(dtype)
        if is_tall(self.shape):
            example = np.asfortranarray(example)
        fresh = self.tape.temporary(example)
        self.tape.write(np.copyto, fresh, self, casting=casting)
        return fresh

    def fill(self, value: Any) -> None:
        self.tape.write(np.copyto, self, value)

    def dot(self, other: Any, out: Any = None) -> Any:
        return np.dot(self, other, out)

    def sum(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return np.sum(self, axis, dtype, out, keepdims)

    def mean(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return np.mean(self, axis, dtype, out, keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return np.max(self, axis, out, keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return np.min(self, axis, out, keepdims)

    def view(self, dtype: Any) -> Any:
        return self.tape.call(ndarray.view, (self, dtype), {}, VIEW)

    def __getattr__(self, name: str) -> Any:
        """The NumPy function of the same name, for methods that have no other meaning."""
        if name not in METHODS:
            raise AttributeError(name)
        function = getattr(np, name)

        def method(*args: Any, **options: Any) -> Any:
            return function(self, *args, **options)

        return method


METHODS: Final = frozenset({
    "all", "any", "argmax", "argmin", "argsort", "clip", "cumprod", "cumsum", "diagonal", "prod", "repeat",
    "round", "std", "swapaxes", "take", "trace", "var", "conj", "partition", "imag", "real",
})  # fmt: skip


def _operators() -> Iterator[tuple[str, Callable[..., Any]]]:
    binary = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide,
        "floordiv": np.floor_divide, "mod": np.remainder, "matmul": np.matmul, "and": np.bitwise_and,
        "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
    }  # fmt: skip
    for name, ufunc in binary.items():
        yield f"__{name}__", lambda self, other, f=ufunc: f(self, other)
        yield f"__r{name}__", lambda self, other, f=ufunc: f(other, self)
        yield f"__i{name}__", lambda self, other, f=ufunc: f(self, other, out=self)
    yield "__rpow__", lambda self, other: np.power(other, self)
    yield "__ipow__", lambda self, other: np.power(self, other, out=self)
    comparisons = {
        "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
        "ne": np.not_equal,
    }  # fmt: skip
    for name, ufunc in comparisons.items():
        yield f"__{name}__", lambda self, other, f=ufunc: f(self, other)
    for name, ufunc in {
        "neg": np.negative,
        "pos": np.positive,
        "invert": np.invert,
        "abs": np.absolute,
    }.items():
        yield f"__{name}__", lambda self, f=ufunc: f(self)


for _name, _operator in _operators():
    setattr(Traced, _name, _operator)


def _is_dense(array: Any) -> bool:
    """Whether every element lies somewhere between the first byte and the last, and none twice."""
    if array.flags.c_contiguous:
        return True
    low, high = byte_bounds(array)
    long = [stride for n, stride in zip(array.shape, array.strides) if n > 1]
    return bool(high - low == array.nbytes and min(long) > 0)


def _same_place(base: Traced, index: Any, value: Traced) -> bool:
    if value.storage is not base.storage:
        return False
    place = base.example[examples(index)]
    start = place.__array_interface__["data"] == value.example.__array_interface__["data"]
    return bool(start) and place.shape == value.shape


def _kind_of(example: Any, args: Sequence[Any]) -> str:
    """Whether a result is a view of the first argument or an array of its own."""
    if not isinstance(example, ndarray) or not args or not isinstance(args[0], Traced):
        return MAKES
    return VIEW if np.may_share_memory(example, args[0].example) and example.size else MAKES


def _target(tape: Tape, out: Any) -> Traced:
    """What a call writes into: a stand-in, or an array that stays."""
    if isinstance(out, Traced):
        return out
    if not tape.writable:
        raise UntraceableError("a write into an array that the function made")
    return tape.fixed(out)


def _check_fits(function: Any, inputs: Any, options: Any, target: Traced) -> None:
    made = function(*examples(inputs), **{k: v for k, v in options.items() if k != "casting"})
    if np.shape(made) != target.shape or not np.can_cast(made.dtype, target.dtype, "same_kind"):
        raise UntraceableError("an out= of another shape or kind")


def _ready(tape: Tape, ufunc: np.ufunc, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers among the inputs as arrays without axes, of the dtype that NumPy would give them."""
    arrays = [one.dtype for one in inputs if isinstance(one, Traced | ndarray)]
    made = []
    for one in inputs:
        if isinstance(one, np.generic):
            one = tape.number(one, one.dtype)
        elif type(one) in (int, float, bool):
            dtype = np.result_type(*arrays, one) if type(one) is not bool else np.dtype(bool)
            if ufunc in (np.power, np.ldexp) or dtype.kind not in "fb":
                made.append(one)
                continue
            one = tape.number(one, dtype)
        elif isinstance(one, ndarray):
            one = tape.fixed(one)
        made.append(one)
    return tuple(made)


def empty(tape: Tape, shape: Any, dtype: Any) -> Traced:
    """Memory that is written to before it is read."""
    return tape.temporary(np.empty(shape, dtype))


# --------------------------------------------------------------------------------------------------
# NumPy functions that are written down as something plainer, or that write into an argument
# --------------------------------------------------------------------------------------------------


def _dot(tape: Tape, a: Any, b: Any, out: Any = None) -> Any:
    if isinstance(a, ndarray):
        a = tape.fixed(a)
    if isinstance(b, ndarray):
        b = tape.fixed(b)
    fast = a.dtype == b.dtype and a.dtype.char in "fd" and a.ndim in (1, 2) and b.ndim in (1, 2)
    if not fast:
        if out is not None or a.ndim == 0 or b.ndim == 0:
            raise UntraceableError("np.dot of these arrays")
        if a.ndim > 2 or b.ndim > 2 or a.ndim + b.ndim < 4:
            return tape.call(np.dot, (a, b))
        return tape.call(np.matmul, (a, b), {}, INTO)
    if out is None:
        # x.T @ g is the gradient of weights, which lie row by row. A reduction to one number takes
        # longer with out= than without; of products, it does not.
        rows = a.turned or a.ndim == b.ndim == 1
        return tape.call(np.dot, (a, b), {}, INTO_ROWS if rows else INTO)
    return tape.into(_target(tape, out), np.dot, (a, b), {})


def _reduction(ufunc: np.ufunc) -> Any:
    def reduce(
        tape: Tape, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
        keepdims: Any = np._NoValue, **rest: Any,
    ) -> Any:  # fmt: skip
        if out is not None or any(value is not np._NoValue for value in rest.values()):
            raise UntraceableError(f"np.{ufunc.__name__}.reduce with these keywords")
        options: dict[str, Any] = {"axis": axis}
        if dtype is not None:
            options["dtype"] = dtype
        if keepdims is not np._NoValue and keepdims:
            options["keepdims"] = True
        return ufunc.reduce(a, **options)

    return reduce


def _extremum(ufunc: np.ufunc) -> Any:
    reduce = _reduction(ufunc)
    return lambda tape, a, axis=None, out=None, keepdims=np._NoValue, **rest: reduce(
        tape, a, axis, None, out, keepdims, **rest
    )


def _mean(tape: Tape, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
          keepdims: Any = np._NoValue, **rest: Any) -> Any:  # fmt: skip
    if dtype is not None or out is not None or a.dtype.char not in "fd" or rest:
        raise UntraceableError("np.mean of these arrays")
    total = _reduction(np.add)(tape, a, axis, None, None, keepdims)
    # In place, so that a mean of all elements stays of its dtype, too.
    return total / total.dtype.type(a.size // max(total.size, 1))


def _concatenate(tape: Tape, arrays: Any, axis: Any = 0, out: Any = None, **rest: Any) -> Any:
    arrays = [one if isinstance(one, Traced) else tape.fixed(np.asarray(one)) for one in arrays]
    if out is None:
        example = np.concatenate(examples(arrays), axis=axis)
        target = empty(tape, example.shape, example.dtype)
    else:
        target = _target(tape, out)
    axis = axis % target.ndim
    start = 0
    for one in arrays:
        index = (*[slice(None)] * axis, slice(start, start + one.shape[axis]))
        start += one.shape[axis]
        tape.write(np.copyto, target[index], one)
    return target


def _copyto(tape: Tape, dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    options = {} if where is True else {"where": where}
    tape.write(np.copyto, _target(tape, dst), src, casting=casting, **options)


def _like(value: Any) -> Any:
    def make(tape: Tape, a: Any, *args: Any, **options: Any) -> Any:
        filled = args[0] if value is NotImplemented else value
        dtype = options.get("dtype") or (args[0] if value is not NotImplemented and args else None)
        array = np.empty_like(a.example, dtype=dtype, shape=options.get("shape"))
        made = tape.temporary(array)
        if filled is not None:
            tape.write(np.copyto, made, filled, casting="unsafe")
        return made

    return make


def _sized(function: Any) -> Any:
    """A function of the shape alone."""
    return lambda tape, a, *args, **options: function(a.example, *args, **options)


def _take(tape: Tape, a: Any, indices: Any, axis: Any, mode: str) -> Any:
    # With mode="raise" NumPy computes in memory of its own first.
    kind = INTO if mode == "clip" else MAKES
    return tape.call(np.take, (a, indices), {"axis": axis, "mode": mode}, kind)


def _vdot(tape: Tape, a: Any, b: Any) -> Any:
    rows = a.flags.c_contiguous and b.flags.c_contiguous
    if a.dtype.char not in "fd" or not (rows or (a.flags.f_contiguous and b.flags.f_contiguous)):
        return tape.call(np.vdot, (a, b))
    a, b = [one.reshape(-1) if rows else one.T.reshape(-1) for one in (a, b)]
    return _dot(tape, a, b)


FUNCTIONS: Final[dict[Any, Any]] = {
    np.vdot: _vdot,
    np.dot: lambda tape, a, b, out=None: _dot(tape, a, b, out),
    np.sum: _reduction(np.add),
    np.prod: _reduction(np.multiply),
    np.max: _extremum(np.maximum),
    np.amax: _extremum(np.maximum),
    np.min: _extremum(np.minimum),
    np.amin: _extremum(np.minimum),
    np.any: _extremum(np.logical_or),
    np.all: _extremum(np.logical_and),
    np.mean: _mean,
    np.concatenate: _concatenate,
    np.copyto: _copyto,
    np.copy: lambda tape, a, order="K", subok=False: a.copy(order),
    np.reshape: lambda tape, a, shape, order="C", copy=None: a.reshape(shape, order=order),
    np.ravel: lambda tape, a, order="C": a.ravel(order),
    np.empty_like: _like(None),
    np.zeros_like: _like(0),
    np.ones_like: _like(1),
    np.full_like: _like(NotImplemented),
    np.put: lambda tape, a, *args: tape.write(np.put, a, *args),
    np.putmask: lambda tape, a, *args: tape.write(np.putmask, a, *args),
    np.put_along_axis: lambda tape, a, *args: tape.write(np.put_along_axis, a, *args),
    np.take: lambda tape, a, indices, axis=None, out=None, mode="raise": _take(
        tape, a, indices, axis, mode
    ),
    np.fill_diagonal: lambda tape, a, *args: tape.write(np.fill_diagonal, a, *args),
    np.shape: _sized(np.shape),
    np.ndim: _sized(np.ndim),
    np.size: _sized(np.size),
}
TELLS: Final = frozenset({
    np.shape, np.ndim, np.size, np.result_type, np.may_share_memory, np.shares_memory, np.iscomplexobj,
    np.isrealobj, np.can_cast, np.min_scalar_type, np.broadcast_shapes, np.common_type,
})  # fmt: skip
NEEDS_VALUES: Final = frozenset({
    np.array_equal, np.allclose, np.nonzero, np.flatnonzero, np.unique, np.count_nonzero, np.argwhere,
    np.array2string, np.array_str, np.array_repr,
})  # fmt: skip
