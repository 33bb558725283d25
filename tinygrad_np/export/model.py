"""`to_onnx`: a recorded function, translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import Node, Primitive, ndarray
from ..errors import ArgumentError, message
from ..ops.random import dropout_mask
from . import arrangement, elementwise, layers  # noqa: F401  # they fill the table
from .graph import Graph, Value, identifier
from .recording import OPERATION, Extent, Length, Recording, record, taken_out
from .translation import TRANSLATIONS, Result


def to_onnx(
    f: Callable[..., Any],
    *inputs: Any,
    names: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = True,
    description: str = "",
) -> Any:
    """What a function of tensors computes, as an ONNX model.

    The function is called twice, with the example and with other numbers in more rows: what it does
    alike is the graph, and the first axis of the inputs is that of the batch, ``N``, of any length.

    Parameters
    ----------
    f : callable
        Returns a tensor, or several in tuples, lists and dicts.
    *inputs : array_like
        An example of each argument. Shapes (but for the batch's axis) and dtypes are those of the
        graph.
    names : dict, optional
        Tensors and arrays by the names that they are to have in the graph.
    input_names, output_names : sequence of str, optional
        By default the names of the parameters of f, and ``output``.
    dynamic_batch : bool
        Whether the graph takes batches of any length, or of the example's alone.
    description : str
        A text for the reader of the file.

    Returns
    -------
    onnx.ModelProto
        Opset 20, IR version 9; looked over by ``onnx.checker``. `nn.export_onnx` writes one into a
        file, as ``onnx.save(model, path)`` does.

    Raises
    ------
    ArgumentError
        For an operation that ONNX has no counterpart of; for a function that computes something else
        on other numbers or more rows, or takes numbers out of tensors and computes with them; for
        wrong numbers of names; for more than 2 GiB of parameters.
    DtypeError
        For a function that returns something else than tensors.
    TensorError
        If onnx (the extra ``onnx``) is not installed.

    Notes
    -----
    A loop over time is unrolled, so its length is fixed; that of `lstm` stays a loop (ONNX's Scan).
    The dtypes are those of the example and of the parameters; onnxruntime computes convolutions and
    some other operators in float32 only.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> W = tg.Tensor(np.ones((3, 2)), requires_grad=True, name="W")
    >>> def scores(x):
    ...     return tg.softmax(np.tanh(x @ W))
    >>> model = tg.to_onnx(scores, np.eye(3))
    >>> [node.op_type for node in model.graph.node]
    ['MatMul', 'Tanh', 'Softmax']
    >>> model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    'N'
    """
    graph = Graph()
    recording = record(f, inputs, dynamic_batch, dict(names or {}))
    ins = _names("input_names", input_names, recording.input_names)
    outs = recording.outputs
    several = [f"output_{i}" for i in range(len(outs))]
    given = _names("output_names", output_names, ["output"] if len(outs) == 1 else several)
    graph.taken |= {*ins, *given}
    writer = _Writer(graph, recording, dict(zip(recording.inputs, ins)), dict(zip(outs, given)))
    for node, name in zip(outs, given):
        if writer.values[node].name != name:
            graph.renamed(graph.op("Identity", writer.values[node]), name)
    return graph.model(
        [writer.described(node, name) for node, name in zip(recording.inputs, ins)],
        [writer.described(node, name) for node, name in zip(outs, given)],
        identifier(getattr(f, "__name__", type(f).__name__)),
        description,
    )


def _names(option: str, given: Sequence[str] | None, default: list[str]) -> list[str]:
    names = default if given is None else list(given)
    if len(names) != len(default) or len(set(names)) != len(names) or not all(names):
        raise ArgumentError(message(OPERATION, f"{len(default)} different {option}", f"{names!r}"))
    return names


class _Writer:
    """Writes each step of a recording into a graph."""

    def __init__(
        self,
        graph: Graph,
        recording: Recording,
        inputs: Mapping[Node, str],
        outputs: Mapping[Node, str],
    ) -> None:
        self.graph, self.recording = graph, recording
        self.values: dict[Node, Value] = {}
        for node, name in inputs.items():
            self.values[node] = Value(graph, name, node.value.dtype)
            if graph.batch is None and np.ndim(node.value):
                graph.batch = self.values[node]
        for node in recording.steps:
            if node.primitive is not None:
                self.values[node] = self._named(node, node.primitive, outputs.get(node))
            elif node not in self.values and isinstance(node.value, ndarray):
                self.values[node] = self._constant(node)

    def _named(self, node: Node, primitive: Primitive, output: str | None) -> Value:
        """What an operation makes, under the name of an output or of the user's variable."""
        nodes = self.graph.nodes
        before = len(nodes)
        value = self._step(node, primitive)
        name = output or self.recording.names.of(node)
        if name is None or len(nodes) == before or value.name not in nodes[-1].output:
            return value  # an argument, handed on
        return self.graph.renamed(value, output or self.graph.fresh(name))

    def _step(self, node: Node, primitive: Primitive) -> Value:
        translation = TRANSLATIONS.get(primitive)
        recording = self.recording
        result = Result(
            self.graph, node.value.dtype, recording.shape(node),
            [recording.shape(one) for one in node.inputs], primitive.name,
        )  # fmt: skip
        if primitive is dropout_mask:
            raise ArgumentError(
                f"{OPERATION}: dropout draws other numbers at each call. Export what is computed "
                "when a model is evaluated: model.eval(), or no tg.dropout."
            )
        if translation is None:
            raise result.unsupported()
        args = [None if one.value is None else self._argument(one, node) for one in node.inputs]
        value = translation(result, *args, **recording.params(node))
        if value.dtype != node.value.dtype:
            value = value.cast(node.value.dtype)
        return value

    def _argument(self, node: Node, of: Node) -> Value:
        """An argument; a bare number in the dtype in which it meets the others."""
        if isinstance(node.value, ndarray):
            return self.values[node]
        dtype = np.result_type(*[one.value for one in of.inputs if one.value is not None])
        number, other = node.value, self.recording.twin[node].value
        if number == other or np.isnan(number):
            return self.graph.constant(np.asarray(number, dtype))
        whole = float(number).is_integer() and float(other).is_integer()
        rows = self.recording.number(int(number), int(other)) if whole else None
        if not isinstance(rows, Extent) or rows.plus:
            raise taken_out(f"the number {np.asarray(number).item():.6g}")
        return self.graph.number(rows).cast(dtype)

    def _constant(self, node: Node) -> Value:
        """A parameter or another constant; zeros for each row of a batch, as many as it has."""
        first, second = node.value, self.recording.twin[node].value
        lengths = self.recording.shape(node)
        if first.shape == second.shape:
            if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
                raise taken_out(f"an array of shape {first.shape}")
            names = self.recording.names
            return self.graph.constant(first, names.of(node) or names.of_array(first))
        row = first[tuple([slice(None) if isinstance(n, int) else slice(1) for n in lengths])]
        for whole in (first, second):
            if not np.array_equal(whole, np.broadcast_to(row, whole.shape)):
                raise taken_out(f"an array of shape {first.shape}")
        return self.graph.op("Expand", self.graph.constant(row), self.graph.lengths(lengths))

    def described(self, node: Node, name: str) -> Any:
        """The name, dtype and shape of an input or output."""
        shape = [_dimension(n) for n in self.recording.shape(node)]
        helper = self.graph.onnx.helper
        return helper.make_tensor_value_info(name, self.graph.code(node.value.dtype), shape)


def _dimension(length: Length) -> int | str | None:
    """The length of an axis as ONNX writes it: a number, a symbol or nothing."""
    if isinstance(length, Extent):
        return str(length)
    return length if isinstance(length, int) else None
