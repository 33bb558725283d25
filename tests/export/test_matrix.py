"""Every operation in the registry x its samples: what onnxruntime computes is what it computes here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_np as tg
from tests.engine.test_matrix import ALL, Call, calls
from tinygrad_np import tree
from tinygrad_np.errors import ArgumentError

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

# Operations that are refused, some of them only for some arguments. Every other one is translated.
REFUSED = {
    "arctan2", "binary_cross_entropy", "checkpointed_layer", "cholesky", "cholesky_of_symmetric",
    "cumprod", "diag", "dropout", "eigh", "eigh_of_symmetric", "eigvalsh", "eigvalsh_of_symmetric",
    "fold_edges", "getitem", "hinge", "huber", "inv", "kl_div", "l1", "matrix_power",
    "mean_squared_error", "nll", "pad", "pinv", "pool_pick", "pool_place", "pool_spread", "qr",
    "recurrence", "scatter_add", "scatter_rows", "searchsorted", "slogdet",
    "softmax_cross_entropy", "solve", "sparse_outer", "svd", "svd_without_signs", "svdvals",
    "take_along_axis", "written",
}  # fmt: skip
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}  # some sums of tens of numbers, in another order


def session(model: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options)


def compare(call: Call, model: Any, arrays: list[Any]) -> None:
    found = session(model).run(None, dict(zip(names(arrays), arrays)))
    expected = [y.data for y in tree.leaves(call(*[tg.Tensor(a) for a in arrays]))]
    assert len(found) == len(expected)
    for y, right in zip(found, expected):
        assert (y.shape, y.dtype) == (right.shape, right.dtype)
        np.testing.assert_allclose(y, right, **FLOAT32)


def names(arrays: list[Any]) -> list[str]:
    return [f"x{i}" for i in range(len(arrays))]


def exported(call: Call, arrays: list[Any], **options: Any) -> Any:
    return tg.to_onnx(call, *arrays, input_names=names(arrays), **options)


@pytest.mark.parametrize("name", ALL)
def test_onnxruntime_computes_the_same(name: str) -> None:
    for call in calls(name):
        arrays = [a.astype(np.float32) for a in call.arrays]
        if not arrays:
            continue  # of integers alone
        try:
            model = exported(call, arrays, dynamic_batch=False)
        except ArgumentError:
            if name not in REFUSED:
                raise
        else:
            compare(call, model, arrays)


@pytest.mark.parametrize("name", sorted(set(ALL) - REFUSED))
def test_a_graph_for_any_batch_is_right_for_other_lengths_or_refused(name: str) -> None:
    for call in calls(name):
        arrays = [a.astype(np.float32) for a in call.arrays]
        if not arrays:
            continue
        try:
            model = exported(call, arrays)
        except ArgumentError:
            continue  # the first axis is no batch, such as that of the rows of a matrix
        firsts = [one.type.tensor_type.shape.dim[:1] for one in model.graph.input]
        batched = [bool(dim) and dim[0].dim_param == "N" for dim in firsts]
        longer = [np.concatenate([a, a[::-1], a]) if n else a for a, n in zip(arrays, batched)]
        compare(call, model, longer)
