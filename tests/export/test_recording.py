"""What is recorded, how it is named, and what cannot be exported."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np import tree
from tinygrad_np.errors import ArgumentError, DtypeError, TensorError
from tinygrad_np.ops.recurrent import lstm_states

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
W = tg.Tensor(np.arange(6.0, dtype=np.float32).reshape(3, 2), requires_grad=True, name="W")


def run(model, *arrays, names=("x",)):
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, dict(zip(names, arrays)))


def kinds(model):
    return [node.op_type for node in model.graph.node]


def dims(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def right(f, *arrays, model=None):
    """The graph of f, having computed what f does for batches of several lengths."""
    model = model or tg.to_onnx(f, *arrays)
    names = [one.name for one in model.graph.input]
    for n in (1, 2, 11):
        batch = [np.resize(a, (n, *a.shape[1:])) for a in arrays]
        found = run(model, *batch, names=names)
        for y, expected in zip(found, tree.leaves(f(*map(tg.Tensor, batch)))):
            np.testing.assert_allclose(y, expected.data, rtol=1e-5, atol=1e-6)
            assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    return model


# --- what it looks like ---


def test_versions_that_onnxruntime_takes():
    model = tg.to_onnx(lambda x: x + 1, x)
    assert model.opset_import[0].version <= 21
    assert model.ir_version <= 10
    assert model.producer_name == "tinygrad-np"


def test_values_are_called_as_in_the_users_code():
    def scores(pictures):
        h = np.tanh(pictures @ W)
        h = h * 2
        return tg.softmax(h)

    model = right(scores, x)
    assert model.graph.name == "scores"
    assert dims(model.graph.input[0]) == ["N", 3]
    assert dims(model.graph.output[0]) == ["N", 2]
    assert [array.name for array in model.graph.initializer] == ["W", "constant"]
    assert [node.output[0] for node in model.graph.node] == ["matmul", "h", "h_2", "output"]
    assert model.graph.input[0].name == "pictures"


def test_names_may_be_given():
    def f(a):
        return a + np.float32(1), {"second": a * 2}

    model = tg.to_onnx(f, x, input_names=["pictures"], output_names=["more", "twice"])
    assert [one.name for one in model.graph.input] == ["pictures"]
    assert [one.name for one in model.graph.output] == ["more", "twice"]
    for option, given in (("input_names", ["a", "b"]), ("output_names", ["a", "a"])):
        with pytest.raises(ArgumentError, match=rf"^to_onnx: expected \d different {option}, got"):
            tg.to_onnx(f, x, **{option: given})


def test_plain_arrays_may_be_named():
    scale = np.full(3, 2, np.float32)
    model = tg.to_onnx(lambda x: x * scale, x, names={"scale": scale})
    assert [array.name for array in model.graph.initializer] == ["scale"]


def test_equal_constants_are_there_once_and_unused_ones_not():
    model = tg.to_onnx(lambda x: (x + 2.5) * 2.5 - 2.5, x)
    assert len(model.graph.initializer) == 1


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x,
        lambda x: (x, x),
        lambda x: (x + 1,) * 2,
        lambda x: [W * 1, x],
        lambda x: x.copy() + 0,
    ],
)
def test_outputs_that_are_inputs_or_there_twice(f):
    model = tg.to_onnx(f, x)
    onnx.checker.check_model(model, full_check=True)
    for y, expected in zip(run(model, x), tree.leaves(f(tg.Tensor(x)))):
        np.testing.assert_array_equal(y, expected.data)


def test_an_input_that_is_not_used_stays():
    model = tg.to_onnx(lambda a, b: a + 1, x, x)
    assert [one.name for one in model.graph.input] == ["a", "b"]


def test_dtypes_are_those_of_numpy():
    ids = np.array([[0, 2], [1, 1]], np.int32)

    table = tg.Tensor(np.ones((3, 4), np.float32), name="table")
    right(lambda ids: (tg.embedding(ids, table), ids / 2, ids * 2, (ids > 0) | (ids == 2)), ids)


def test_integers_and_booleans_are_those_of_numpy():
    counts = np.array([[-7, 3], [7, -3], [5, 2], [-6, -4]])

    def f(n):
        divided = n // 3, n % 3, n // -4, n % -4, n / 2, n**2, -n, np.abs(n)
        masks = (n > 0) & (n < 5), (n == 3) ^ (n != 2), ~(n >= 0), n & 6, n | 1, ~n, n ^ 3
        return (
            divided, masks, np.where(n > 0, n, 0), n.sum(axis=1), (n > 0).sum(axis=1), n.mean(axis=1),
            (n > 0).any(axis=1), (n > 0).all(axis=1), np.maximum(n, 2), n.astype(np.float32), n + 0.5,
            np.sqrt(np.square(n)), np.less(n > 0, n < 5),
        )  # fmt: skip

    right(f, counts)


def test_indices_with_arrays_and_new_axes():
    rows, columns = np.array([[0, 2], [1, 1]]), np.array([2, 0])
    square = tg.Tensor(np.arange(9, dtype=np.float32).reshape(3, 3))

    def f(x):
        return (
            x[:, columns], x[:, None, columns], x[:, rows, None], x[None, :, rows][..., None],
            x[..., [True, False, True]], x[:, [-1]], x * square[rows, columns].sum(), x[:, ::-1][:, 1:],
            x[:, -1:], x[:, 2, None],
        )  # fmt: skip

    right(f, np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32))


def lstm_arrays(T, dtype=np.float32):
    draw = np.random.default_rng(T).normal
    return [draw(size=s).astype(dtype) for s in ((T, 2, 12), (3, 12), (2, 3), (2, 3))]


def test_an_lstm_is_a_loop_of_any_length_with_all_its_memories():
    W, h, c = lstm_arrays(4)[1:]
    W_h = tg.Tensor(W, name="W_h")

    def whole(z, h, c):
        return tg.lstm(z, W_h, h, c)

    def states(z):
        parts = z.transpose(2, 0, 1), W_h, np.zeros(12, np.float32), h.T, c.T
        joined = np.concatenate([a.reshape(-1) for a in parts])
        return (lstm_states(joined, size=(len(z), 2, 3)),)

    model = tg.to_onnx(whole, lstm_arrays(4)[0], h, c)
    assert kinds(model).count("Scan") == 1
    for T in (1, 4, 50):
        z, _, h, c = lstm_arrays(T)
        found = run(model, z, h, c, names=("z", "h", "c"))
        for y, expected in zip(found, whole(*map(tg.Tensor, (z, h, c)))):
            np.testing.assert_allclose(y, expected.data, rtol=1e-5, atol=1e-6)
    right(states, lstm_arrays(5)[0])  # those after every step


def test_the_weights_of_an_lstm_stay_a_constant():
    z, W, h, c = lstm_arrays(4)
    W_h = tg.Tensor(W, name="W_h")
    model = tg.to_onnx(lambda z: tg.lstm(z, W_h, h, c)[0], z)
    assert "W_h" in [array.name for array in model.graph.initializer]
    (joined,) = [node for node in model.graph.node if node.op_type == "Concat"]
    assert len(joined.input) == 2  # outputs and memories; not the arguments


def test_an_lstm_in_float64_and_of_mixed_dtypes():
    z, W, h, c = lstm_arrays(3, np.float64)
    for weights in (W, W.astype(np.float32)):
        model = tg.to_onnx(tg.lstm, z, weights, h, c)
        found = run(model, z, weights, h, c, names=("z", "W", "h", "c"))
        for y, expected in zip(found, tg.lstm(z, weights, h, c)):
            assert y.dtype == np.float64
            np.testing.assert_allclose(y, expected.data, rtol=1e-12, atol=1e-12)


# --- the batch ---


def test_lengths_of_the_batch_are_computed():
    def f(x):
        n = len(x)
        start = tg.Tensor(np.zeros((n, 2), np.float32))
        y = tg.reshape(tg.reshape(x, (3 * n,)), (n, 3, 1))
        both = tg.broadcast_to(tg.reshape(x, (1, n, 3)), (2, n, 3))
        return start + x @ W, y, both, x.sum() / n, x[-1], x[1:], x[n - 1], tg.concatenate([x, x])

    model = right(f, x)
    assert [dims(one) for one in model.graph.output] == [
        ["N", 2], ["N", 3, 1], [2, "N", 3], [], [3], ["N-1", 3], [3], ["2*N", 3]
    ]  # fmt: skip


def test_one_row_is_enough_for_an_example():
    right(lambda x: tg.softmax(x @ W), x[:1])


def test_a_batch_may_be_fixed():
    model = tg.to_onnx(lambda x: x @ W, x, dynamic_batch=False)
    assert dims(model.graph.input[0]) == [4, 3]


def test_inputs_without_the_axis_of_the_batch_are_of_one_length():
    def f(x, scale):
        return x * scale

    model = tg.to_onnx(f, x, np.ones(3, np.float32))
    assert [dims(one) for one in model.graph.input] == [["N", 3], [3]]
    square = x[:3]  # as long as the other by chance
    model = tg.to_onnx(f, square, np.ones(3, np.float32))
    assert [dims(one) for one in model.graph.input] == [["N", 3], [3]]
    found = run(model, x, np.full(3, 2, np.float32), names=("x", "scale"))
    np.testing.assert_array_equal(found[0], 2 * x)


def test_arguments_in_lists_and_dicts():
    def f(parts):
        return parts["a"] + parts["b"][0]

    model = tg.to_onnx(f, {"a": x, "b": [x]})
    found = run(model, x, x, names=[one.name for one in model.graph.input])
    np.testing.assert_array_equal(found[0], 2 * x)


# --- what cannot be exported ---


def refused(f, *inputs, text, kind=ArgumentError, **options):
    with pytest.raises(kind, match=text):
        tg.to_onnx(f, *inputs, **options)


def test_an_operation_without_translation_is_named():
    refused(lambda x: tg.cumprod(x, axis=1), x,
            text=r"^to_onnx: cumprod is not translated to ONNX\. Compute it outside")  # fmt: skip
    refused(lambda x: tg.pad(x, 1, mode="symmetric"), x, dynamic_batch=False,
            text=r"^to_onnx: pad with mode='symmetric' is not translated")  # fmt: skip


def test_an_lstm_as_wide_as_the_batch_is_refused():
    def f(x):
        W = x @ tg.concatenate([x] * 4).T
        z, zeros = W[:1, None], np.zeros((1, len(x)), np.float32)
        return tg.lstm(z, W, zeros, zeros)

    refused(f, x, text="^to_onnx: lstm_states along the axis of the batch is not translated")


def test_dropout_is_refused():
    rng = np.random.default_rng(0)
    refused(lambda x: tg.dropout(x, 0.5, rng=rng), x, text="^to_onnx: dropout draws other numbers")


def branch(x):
    return x * 2 if x.sum() > 0 else x


def number(x):
    return x * float(x.sum())


def data(x):
    return x + np.abs(x.data).max()


def array(x):
    return x + np.abs(x.data)


def parameter(x):
    return tg.take(tg.concatenate([x] * 4, axis=1), np.argsort(np.resize(x.data, 12)), axis=1)


@pytest.mark.parametrize("f", [branch, number, data, array, parameter])
def test_numbers_taken_out_of_tensors_are_refused(f):
    text = r"^to_onnx: .* depends on the input, but Python has read it"
    refused(f, x, text=text)
    refused(f, x, text=text, dynamic_batch=False)


def test_a_number_that_grows_but_not_with_the_rows_is_refused():
    # It goes from 5 to 10 while the rows go from 4 to 9: by as much, from another start.
    refused(lambda x: x * (len(x) + 1), x, text="the number 5 depends on the input")


def test_numbers_taken_out_of_integers_are_refused():
    ids = np.array([[0, 3], [1, 2], [2, 1], [3, 0]])
    refused(lambda ids: ids * int(np.max(ids.data)), ids, text="depends on the input")
    refused(lambda ids: ids * int(np.min(ids.data)), ids + 1, text="depends on the input")


def test_numbers_taken_out_of_parameters_are_constants():
    model = right(lambda x: x * float(W.sum()) if W.sum() > 0 else x, x)
    assert kinds(model) == ["Mul"]


def test_another_computation_for_more_rows_is_refused():
    def loop(x):
        y = x[0]
        for i in range(1, len(x)):
            y = y + x[i]
        return y

    refused(loop, x, text="^to_onnx: the function computes something else on other numbers or on")
    assert kinds(tg.to_onnx(loop, x, dynamic_batch=False))[-1] == "Add"
    refused(
        lambda x: x.squeeze(), x[:1], text="computes something else on other numbers or on more"
    )


def test_a_function_for_one_length_is_refused():
    refused(lambda x: x + np.ones((4, 3), np.float32), x,
            text=r"fails on other numbers in more rows: add: .* With dynamic_batch=False")  # fmt: skip


def test_numbers_that_follow_the_batch_in_no_simple_way_are_refused():
    refused(lambda x: tg.broadcast_to(x[:1], (len(x) // 2 + 1, 3)), x,
            text="expected lengths that are a multiple of the batch's plus a number")  # fmt: skip


def test_arrays_along_the_batch_are_refused():
    refused(lambda x: x + tg.Tensor(np.arange(len(x), dtype=np.float32)[:, None]), x,
            text=r"an array of shape \(4, 1\) depends on the input")  # fmt: skip


def test_what_returns_no_tensor_is_refused():
    for f in (lambda x: 3.0, lambda x: (x, x.data), lambda x: None):
        refused(f, x, kind=DtypeError, text="^to_onnx: expected a function that returns tensors")


def test_an_example_of_other_things_is_refused():
    text = "^to_onnx: expected example inputs of real numbers, 64 bits at most, got"
    for given in (np.ones(2, complex), np.ones(2, np.longdouble), "text"):
        refused(lambda x: x, given, kind=DtypeError, text=text)
    refused(
        lambda x: x + 1, x[:0], text=r"^to_onnx: expected an example with at least one row, got"
    )


def test_a_function_that_writes_into_its_argument_is_refused():
    def f(x):
        x[:, 0] = 0
        return x

    refused(f, np.ones((2, 3), int), text="writes into its argument")


def test_more_than_a_file_can_hold_is_refused(monkeypatch):
    from tinygrad_np.export import graph

    monkeypatch.setattr(graph, "LARGEST", 20)
    refused(lambda x: x @ W, x, text="expected less than 2 GiB of parameters")


def test_without_onnx_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("onnx"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(lambda x: x, x, kind=TensorError, text=r'pip install "tinygrad-np\[onnx\]"')
    assert "onnx" in sys.modules
