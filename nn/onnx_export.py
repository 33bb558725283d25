"""A model as an ONNX file, for programs that know nothing of Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_np as tg
from nn.checkpoint import written_whole
from nn.module import Array, Module, mode
from tinygrad_np.errors import ArgumentError, message


def export_onnx(
    model: Module,
    example: Any,
    path: str | os.PathLike[str],
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    dynamic_batch: bool = True,
) -> None:
    """Write what a model computes in evaluation as an ``.onnx`` file.

    The model is called with the example and its operations are recorded, those of a module of your
    own as well; see `tinygrad_np.to_onnx`. Parameters and buffers keep their paths as names
    (``0.W``). The file is written whole or not at all, as by `save`.

    Parameters
    ----------
    model : Module
    example : array_like, or tuple of them for a model with several inputs
        A batch. Its dtype and its shape, but for the first axis, are those that the file takes;
        floats are converted to the dtype of the model, as by layers.
    path : str or path
        Ending in ``.onnx``.
    input_names, output_names : sequence of str, optional
        By default the names of the parameters of ``forward``, and ``output``.
    dynamic_batch : bool
        Whether the file takes batches of any length (its first axis is ``N``), or of that of the
        example alone.

    Raises
    ------
    ArgumentError
        For another ending, and as `tinygrad_np.to_onnx`: for an operation that is not translated,
        and for a model that computes something else on other numbers or in larger batches.
    OSError
        If it cannot be written; the file that was there is as it was.
    TensorError
        If onnx (the extra ``onnx``) is not installed.

    Notes
    -----
    Recurrent layers but LSTM are unrolled, and the file takes sequences as long as the example's. onnxruntime
    computes some operators in float32 only (convolution, average pooling, ``erf`` and the
    activations made of it or of ``softplus``): for it, ``model.astype("float32")`` first.

    Examples
    --------
    >>> import numpy as np, nn, os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "model.onnx")
    >>> model = nn.Sequential(nn.Dense(4, 8, activation="relu"), nn.Dense(8, 3), nn.Softmax())
    >>> nn.export_onnx(model, np.ones((2, 4)), path)
    >>> import onnx
    >>> [array.name for array in onnx.load(path).graph.initializer]
    ['0.W', '0.b', '1.W', '1.b']
    >>> folder.cleanup()
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ArgumentError(message("export_onnx", "a path ending in .onnx", repr(str(path))))
    batch = [np.asarray(one) for one in (example if isinstance(example, tuple) else (example,))]
    with mode(model, training=False):
        with tg.no_grad():
            model(*batch)  # layers make what they have waited with, and refuse what does not fit
        exported = tg.to_onnx(
            model,
            *[_converted(one, model) for one in batch],
            names=dict(model.named_parameters() + model.named_buffers()),
            input_names=input_names or _parameters(model, len(batch)),
            output_names=output_names,
            dynamic_batch=dynamic_batch,
            description=repr(model),
        )
    with written_whole("export_onnx", path) as file:
        file.write(exported.SerializeToString())


def _converted(array: Array, model: Module) -> Array:
    """Floats in the dtype of the first layer or parameter that has one."""
    layers = [module.dtype for _, module in model.named_modules() if hasattr(module, "dtype")]
    dtypes = [*layers, *[parameter.dtype for parameter in model.parameters()]]
    return array.astype(dtypes[0]) if dtypes and array.dtype.kind == "f" else array


def _parameters(model: Module, count: int) -> list[str] | None:
    """The names of the first parameters of ``forward``, if they have names."""
    positional = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD
    given = signature(model.forward).parameters.values()
    names = [one.name for one in given if one.kind in positional][:count]
    return names if len(names) == count else None
