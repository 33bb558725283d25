from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn.module import mode
from tinygrad_np.errors import ArgumentError, DtypeError, ShapeError


def parameter(*shape, **options):
    return tg.Tensor(np.ones(shape), requires_grad=True, **options)


class Holder(nn.Module):
    """Holds whatever it is given, under the given names."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def forward(self, x):
        return x


def paths(model):
    return [path for path, _ in model.named_parameters()]


# --- what is found ---


def test_parameters_are_found_in_the_order_of_definition():
    inner = Holder(W=parameter(2), b=parameter(3))
    model = Holder(
        z=parameter(1), blocks=[inner, Holder(W=parameter(4))], table={"k": parameter(5)},
        nested=[(parameter(6),), 7, "text"], a=parameter(7),
    )  # fmt: skip
    expected = ["z", "blocks.0.W", "blocks.0.b", "blocks.1.W", "table.k", "nested.0.0", "a"]
    assert paths(model) == expected
    assert [p.size for p in model.parameters()] == [1, 2, 3, 4, 5, 6, 7]
    assert model.parameters()[1] is inner.W


def test_what_is_shared_is_found_once_under_its_first_path():
    shared, layer = parameter(2), nn.Dense(2, 2)
    model = Holder(first=shared, a=layer, b=layer, tied=Holder(W=shared))
    assert paths(model) == ["first", "a.W", "a.b"]
    assert list(model.state_dict()) == ["first", "a.W", "a.b"]
    assert [path for path, _ in model.named_modules()] == ["", "a", "tied"]


def test_a_module_may_hold_itself_and_its_parent():
    child = Holder(W=parameter(1))
    model = Holder(child=child)
    model.me = child.parent = model
    assert paths(model) == ["child.W"]
    assert repr(model) == "Holder(\n  child: Holder(W (1,)\n    parent: ...\n  )\n  me: ...\n)"


def test_only_leaf_tensors_are_state():
    W = parameter(2)
    model = Holder(W=W, hidden=W * 2, array=np.ones(3), count=3, mean=tg.Tensor([0.0]))
    assert paths(model) == ["W"]
    assert [path for path, _ in model.named_buffers()] == ["mean"]
    assert list(model.state_dict()) == ["W", "mean"]


def test_a_frozen_parameter_stays_in_the_state():
    model = nn.Sequential(nn.Dense(2, 3), nn.Dense(3, 1))
    model[0].W.requires_grad = False
    assert paths(model) == ["0.b", "1.W", "1.b"]
    assert list(model.state_dict()) == ["0.W", "0.b", "1.W", "1.b"]


def test_no_super_init_is_needed_and_classes_do_not_share_state():
    first, second = Holder(), Holder()
    first.eval()
    assert (first.training, second.training) == (False, True)


# --- names ---


def test_parameters_are_named_when_the_model_is_first_called():
    model = nn.Sequential(nn.Dense(2, 3), nn.Dense(1))
    assert model[0].W.name is None
    y = model(np.ones((4, 2)))
    names = [model[0].W.name, model[0].b.name, model[1].W.name, model[1].b.name]
    assert names == ["0.W", "0.b", "1.W", "1.b"]
    assert y.name is None


def test_names_are_completed_and_the_users_stay():
    layer = nn.Dense(2, 2)
    layer(np.ones((1, 2)))
    assert layer.W.name == "W"
    layer.b.name = "threshold"
    model = nn.Sequential(nn.Sequential(layer))
    model.parameters()
    assert (layer.W.name, layer.b.name) == ("0.0.W", "threshold")
    layer.parameters()
    assert layer.W.name == "0.0.W"


def test_a_name_that_only_sounds_like_the_path_stays():
    layer = nn.Dense(2, 2)
    layer.W.name = "bigW"
    nn.Sequential(layer).parameters()
    assert layer.W.name == "bigW"


# --- state ---


def test_state_dict_is_a_copy():
    model = nn.Dense(2, 3)
    state = model.state_dict()
    before = state["W"].copy()
    model.W.data[...] = 7
    np.testing.assert_array_equal(state["W"], before)


def test_load_state_dict_sets_values_in_their_own_dtype_and_copies():
    model = nn.Sequential(nn.Dense(2, 3), Holder(mean=tg.Tensor(np.zeros(2))))
    state = {"0.W": np.arange(6.0).reshape(2, 3), "0.b": [1, 2, 3], "1.mean": np.ones(2)}
    model.load_state_dict(state)
    assert model[0].W.dtype == np.float32
    np.testing.assert_array_equal(model[0].W.data, state["0.W"])
    np.testing.assert_array_equal(model[0].b.data, [1, 2, 3])
    state["1.mean"][...] = 9
    np.testing.assert_array_equal(model[1].mean.data, [1, 1])


def test_load_state_dict_lists_all_differences_and_changes_nothing():
    model = nn.Sequential(nn.Dense(2, 3), nn.Dense(3, 1))
    before = model.state_dict()
    state = {
        "0.W": np.ones((3, 2)), "0.b": np.array(["a", "b", "c"]), "1.W": np.ones((3, 1)),
        "2.W": np.ones(5),
    }  # fmt: skip
    text = (
        "load_state_dict: the state is not that of this model, which stays as it was.\n"
        "  missing: 1.b (1,)\n"
        "  unexpected: 2.W (5,)\n"
        "  of another shape: 0.W (3, 2) for (2, 3)\n"
        "  of another kind: 0.b <U1 for float32\n"
        "Sequential(\n"
    )
    with pytest.raises(ArgumentError, match="^" + re.escape(text)):
        model.load_state_dict(state)
    for path, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[path])


def test_load_state_dict_abridges_long_lists():
    with pytest.raises(ArgumentError, match=r"unexpected: 0 \(\), 1 \(\), .* 7 \(\) and 4 more\n"):
        nn.Sequential().load_state_dict({str(i): 1.0 for i in range(12)})


def test_backward_after_load_state_dict_is_refused():
    model = nn.Sequential(nn.Dense(2, 3), nn.Dense(3, 1))
    loss = nn.MSE()(model(np.ones((4, 2))), np.ones((4, 1)))
    model.load_state_dict(model.state_dict())
    with pytest.raises(tg.errors.GradientError, match=r"'1\.W' was changed after"):
        loss.backward()


@pytest.mark.parametrize("operation", ["named_parameters", "state_dict", "named_buffers"])
def test_layers_that_wait_for_a_batch_are_named(operation):
    model = nn.Sequential(nn.Dense(2, 3), nn.Dense(1))
    text = (
        f"{operation}: expected a model whose layers all have their parameters, got Dense(1) at "
        "'1', which waits for its first batch. Call the model on a batch first, or give the layer "
        "its input size."
    )
    with pytest.raises(ArgumentError, match=f"^{re.escape(text)}$"):
        getattr(model, operation)()
    model(np.ones((1, 2)))
    assert len(getattr(model, operation)()) == (0 if operation == "named_buffers" else 4)


def test_zero_grad_forgets():
    model = nn.Dense(2, 3)
    model(np.ones((1, 2))).sum().backward()
    assert model.W.grad is not None
    model.zero_grad()
    assert model.W.grad is None
    assert model.b.grad is None


def test_a_copy_is_independent():
    nn.seed(0)
    model = nn.Sequential(nn.Dense(2, 3, activation="relu"), nn.Dense(3, 1))
    twin = copy.deepcopy(model)
    twin[0].W.data[...] = 0
    x = np.ones((1, 2))
    assert paths(twin) == paths(model)
    assert model(x).data[0, 0] != twin(x).data[0, 0]


# --- mode ---


def test_train_and_eval_reach_every_module():
    model = Holder(layers=[Holder(), {"k": Holder()}], last=nn.Dense(1, 1))
    everything = [module for _, module in model.named_modules()]
    assert len(everything) == 4
    assert model.eval() is model
    assert [module.training for module in everything] == [False] * 4
    assert model.train() is model
    assert [module.training for module in everything] == [True] * 4


def test_mode_restores_each_module_even_after_an_error():
    model = nn.Sequential(Holder(), Holder())
    model[0].eval()
    inside = []

    def fail():
        with mode(model, training=False):
            inside.append(model[1].training)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [False]
    assert [model.training, model[0].training, model[1].training] == [True, False, True]


# --- calling, and how it looks ---


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"^Empty defines no forward\(self, \.\.\.\)\.$"):
        Empty()(1)


def test_call_passes_everything_on():
    class Sum(nn.Module):
        def forward(self, a, b=0, *, c=0):
            return a + b + c

    module = Sum()
    assert module(1, 2, c=3) == 6  # the first call, which names, and the next
    assert module(1, b=2) == 3


def test_repr_is_nested_and_indented():
    model = nn.Sequential(
        nn.Flatten(), nn.Dense(4, 6, activation="relu"),
        nn.Dense(3, activation=np.tanh, bias=False),
        Holder(W=parameter(2), heads=[nn.Dense(1, 1, activation=nn.Softmax(axis=0))]),
    )  # fmt: skip
    assert repr(model) == (
        "Sequential(\n"
        "  0: Flatten()\n"
        "  1: Dense(4, 6, activation='relu')\n"
        "  2: Dense(3, activation='tanh', bias=False)\n"
        "  3: Holder(W (2,)\n"
        "    heads.0: Dense(1, 1\n"
        "      activation: Softmax(axis=0)\n"
        "    )\n"
        "  )\n"
        ")"
    )


# --- Sequential and Flatten ---


def test_sequential_is_composition():
    model = nn.Sequential(lambda x: x + 1, nn.Dense(2, 2), np.tanh)
    x = np.array([[1.0, 2.0]], dtype=np.float32)
    W, b = model[1].W.data, model[1].b.data
    np.testing.assert_allclose(model(x).data, np.tanh((x + 1) @ W + b), rtol=1e-6)
    assert len(model) == 3
    assert list(model) == model.layers
    np.testing.assert_allclose(model[:2](x).data, (x + 1) @ W + b, rtol=1e-6)
    assert model[1:].parameters()[0] is model[1].W


def test_a_subclass_of_sequential_keeps_its_own_parameters():
    class Scaled(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Dense(1, 1))
            self.scale = parameter(1)

    assert paths(Scaled()) == ["0.W", "0.b", "scale"]


@pytest.mark.parametrize("layers", [("relu",), ([nn.Dense(1, 1)],)])
def test_sequential_refuses_what_cannot_be_called(layers):
    with pytest.raises(ArgumentError, match=r"^Sequential: expected layers, one after another.*\*"):
        nn.Sequential(*layers)


def test_flatten_keeps_rows_and_gradients():
    x = tg.Tensor(np.arange(24.0).reshape(2, 3, 4), requires_grad=True)
    y = nn.Flatten()(x)
    np.testing.assert_array_equal(y.data, np.arange(24.0).reshape(2, 12))
    y.backward(np.arange(24.0).reshape(2, 12))
    np.testing.assert_array_equal(x.grad, x.data)
    assert nn.Flatten()(np.ones((0, 2, 3))).shape == (0, 6)
    assert nn.Flatten()(np.ones(3)).shape == (3, 1)
    with pytest.raises(
        ShapeError, match=r"^Flatten\(\): expected x \(N, \.\.\.\), got a scalar\.$"
    ):
        nn.Flatten()(1.0)


# --- astype ---


class Everything(nn.Module):
    """Tensors in every place where one can be held, one of them in two."""

    def __init__(self):
        self.layer = nn.Dense(2, 3)
        self.tied = self.layer.W
        self.listed = [tg.Tensor(np.ones(2), requires_grad=True), self.layer.W]
        self.keyed = {"inner": (tg.Tensor(np.ones(1, np.float16)), nn.Dense(3, 1))}
        self.counts = tg.Tensor(np.arange(3))
        self.waiting = nn.Dense(4)

    def forward(self, x):
        return self.layer(x) @ self.tied.T


def test_astype_converts_all_floating_point_tensors():
    model = Everything()
    before = model.layer.W
    before.name = "mine"
    assert model.astype(np.float64) is model
    kinds = {path: tensor.dtype for path, tensor in model._tensors()}
    assert kinds == {
        "layer.W": "f8", "layer.b": "f8", "listed.0": "f8", "keyed.inner.0": "f8",
        "keyed.inner.1.W": "f8", "keyed.inner.1.b": "f8", "counts": "i8",
    }  # fmt: skip
    assert model.tied is model.layer.W is model.listed[1] is not before
    assert model.layer.W.name == "mine"
    assert model.layer.W.requires_grad
    np.testing.assert_array_equal(model.layer.W.data, before.data)
    assert model(np.ones((1, 2), np.float32)).dtype == np.float64
    assert model.waiting(np.ones((1, 2))).dtype == np.float64
    assert before.dtype == np.float32


def test_astype_takes_only_floating_point_dtypes():
    model = Everything()
    with pytest.raises(DtypeError, match=r"^astype: expected a floating-point dtype, got int64\."):
        model.astype(int)
    assert model.layer.W.dtype == np.float32
