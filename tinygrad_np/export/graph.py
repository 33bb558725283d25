"""A graph of ONNX under construction: values, operators and constants, with names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, TensorError, message
from .recording import OPERATION, Extent, Length

# Read by onnxruntime from 1.17 on, and by what else there is of that age.
OPSET, IR_VERSION = 20, 9
LARGEST = 1 << 31  # bytes of a file
LAST = np.iinfo(np.int64).max  # in a slice: to the end

Array = NDArray[Any]


def library() -> Any:
    """The onnx package.

    Raises
    ------
    TensorError
        If it is not installed.
    """
    try:
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise TensorError(
            f'{OPERATION}: needs onnx. Install the extra: pip install "tinygrad-np[onnx]".'
        ) from error
    return onnx


@dataclass(frozen=True)
class Value:
    """A value of the graph; arithmetic with it adds operators. Numbers take its dtype."""

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def cast(self, dtype: Any) -> Value:
        """In another dtype, or itself."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        if self.name in self.graph.literals:
            return self.graph.constant(self.graph.literals[self.name].astype(dtype))
        return self.graph.op("Cast", self, dtype=dtype, to=self.graph.code(dtype))

    def __add__(self, other: Any) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Any) -> Value:
        return self.graph.op("Sub", self, other)

    def __mul__(self, other: Any) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Any) -> Value:
        return self.graph.op("Div", self, other)

    def __pow__(self, other: Any) -> Value:
        return self.graph.op("Pow", self, other)

    def __neg__(self) -> Value:
        return self.graph.op("Neg", self)

    def below(self, other: Any) -> Value:
        """Whether ``self < other``."""
        return self.graph.op("Less", self, other, dtype=bool)

    def same(self, other: Any) -> Value:
        """Whether ``self == other``."""
        return self.graph.op("Equal", self, other, dtype=bool)


class Graph:
    """Operators and constants in order."""

    def __init__(self) -> None:
        self.onnx = library()
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.taken: set[str] = set()
        self.constants: dict[Any, Value] = {}
        self.literals: dict[str, Array] = {}  # those without a name of the user
        self.rows: Value | None = None  # the length of the batch, of shape (1,)
        self.batch: Value | None = None  # the input that has it

    def fresh(self, name: str) -> str:
        """A name that no other value has."""
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found

    def code(self, dtype: Any) -> int:
        """ONNX's number of a dtype."""
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def op(self, kind: str, *inputs: Any, dtype: Any = None, **attributes: Any) -> Value:
        """The first output of an operator; its dtype is that of the first input unless given.

        Among the inputs may be arrays, numbers (of the first input's dtype) and None.
        """
        return self.ops(kind, 1, *inputs, dtypes=[dtype], **attributes)[0]

    def ops(
        self, kind: str, count: int, *inputs: Any, dtypes: Sequence[Any], **attributes: Any
    ) -> list[Value]:
        """All outputs of an operator."""
        first = next(one for one in inputs if isinstance(one, Value))
        names = [self._input(one, first.dtype) for one in inputs]
        outputs = [self.fresh(kind.lower()) for _ in range(count)]
        present = {key: value for key, value in attributes.items() if value is not None}
        node = self.onnx.helper.make_node(kind, names, outputs, name=self.fresh(kind), **present)
        self.nodes.append(node)
        return [Value(self, name, np.dtype(d or first.dtype)) for name, d in zip(outputs, dtypes)]

    def scan(
        self, step: Callable[..., Sequence[Value]], states: Sequence[Value], x: Value
    ) -> list[Value]:
        """A loop along the first axis of x: for each state, what it is after every step.

        ``step(*states, x_t)`` makes the states after it. It may use other values of the graph.
        """
        read = [Value(self, self.fresh("step"), one.dtype) for one in (*states, x)]
        outside, self.nodes = self.nodes, []
        after = step(*read)
        kept = [self.op("Identity", one) for one in after]  # a body's outputs differ in name
        inside, self.nodes = self.nodes, outside
        ends = [[self._described(one) for one in values] for values in (read, [*after, *kept])]
        body = self.onnx.helper.make_graph(inside, self.fresh("Step"), *ends)
        dtypes = [one.dtype for one in (*after, *kept)]
        made = self.ops(
            "Scan", len(dtypes), *states, x, dtypes=dtypes, body=body, num_scan_inputs=1
        )
        return made[len(after) :]

    def _described(self, value: Value) -> Any:
        return self.onnx.helper.make_tensor_value_info(value.name, self.code(value.dtype), None)

    def joined(self, value: Value) -> list[Value]:
        """The parts of what a Concat has made."""
        (node,) = [node for node in self.nodes if value.name in node.output]
        assert node.op_type == "Concat"
        return [Value(self, name, value.dtype) for name in node.input]

    def _input(self, given: Any, dtype: np.dtype[Any]) -> str:
        if given is None:
            return ""
        if isinstance(given, Value):
            return given.name
        return self.constant(
            given if isinstance(given, np.ndarray) else np.asarray(given, dtype)
        ).name

    def renamed(self, value: Value, name: str) -> Value:
        """What the last operator made, under another name."""
        outputs = self.nodes[-1].output
        outputs[list(outputs).index(value.name)] = name
        return Value(self, name, value.dtype)

    def constant(self, array: ArrayLike, name: str | None = None) -> Value:
        """A constant; those without a name of their own are there once."""
        array = np.asarray(array, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if name is None and key in self.constants:
            return self.constants[key]
        value = Value(self, self.fresh(name or "constant"), array.dtype)
        self.initializers.append(self.onnx.numpy_helper.from_array(array, value.name))
        if name is None:
            self.constants[key] = value
            self.literals[value.name] = array
        return value

    def integers(self, *numbers: int) -> Value:
        """A constant vector of int64, as many operators take in place of attributes."""
        return self.constant(np.array(numbers, np.int64))

    def lengths(self, lengths: Sequence[Length]) -> Value:
        """A vector of int64 in which lengths of the batch are computed when the graph is run."""
        if all([isinstance(n, int | np.integer) for n in lengths]):
            return self.integers(*lengths)  # type: ignore[arg-type]  # just looked at
        return self.op("Concat", *[self._length(n) for n in lengths], axis=0)

    def number(self, number: Length) -> Value:
        """One int64, which may be a length of the batch."""
        if isinstance(number, int | np.integer):
            return self.constant(np.int64(number))
        return self.op("Squeeze", self._length(number))

    def _length(self, length: Length) -> Value:
        if isinstance(length, int | np.integer):
            return self.integers(int(length))
        if not isinstance(length, Extent):
            raise ArgumentError(
                message(OPERATION, "lengths that are a multiple of the batch's plus a number",
                        f"{length}", "dynamic_batch=False gives a graph for this batch alone.")
            )  # fmt: skip
        if self.rows is None:
            assert self.batch is not None
            self.rows = self.op("Shape", self.batch, dtype=np.int64, start=0, end=1)
        value = self.rows if length.times == 1 else self.rows * length.times
        return value if length.plus == 0 else value + length.plus

    def model(self, inputs: list[Any], outputs: list[Any], name: str, description: str) -> Any:
        """The model, checked.

        Raises
        ------
        ArgumentError
            If it is too large for a file.
        """
        helper = self.onnx.helper
        size = sum([len(one.raw_data) for one in self.initializers])
        if size >= LARGEST:
            raise ArgumentError(
                message(OPERATION, "less than 2 GiB of parameters, all that one ONNX file can hold",
                        f"{size / 2**30:.1f} GiB")
            )  # fmt: skip
        used, nodes = {one.name for one in outputs}, []
        for node in reversed(self.nodes):
            if not used.isdisjoint(node.output):
                used |= _read(node)
                nodes.append(node)
        kept = [one for one in self.initializers if one.name in used]
        graph = helper.make_graph(nodes[::-1], name, inputs, outputs, kept)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="tinygrad-np",
            doc_string=description,
        )
        self.onnx.checker.check_model(model, full_check=True)
        return model


def _read(node: Any) -> set[str]:
    """The names an operator reads; a loop those that its body does, too."""
    inside = [one for attribute in node.attribute for one in attribute.g.node]
    return set(node.input).union(*[_read(one) for one in inside])


def identifier(name: str) -> str:
    """The name of a graph, which ONNX wants to be one of C."""
    return re.sub(r"\W", "_", name) or "model"
