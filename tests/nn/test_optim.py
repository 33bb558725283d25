"""Optimizers against the equations written out here, and against PyTorch, over ten steps."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from dataclasses import dataclass

import numpy as np
import pytest

import tinygrad_np as tg
from nn import optim
from nn.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    Optimizer,
    RAdam,
    RMSProp,
)
from tinygrad_np.errors import (
    ArgumentError,
    DtypeError,
    GradientError,
    NonFiniteError,
    ShapeError,
)

SHAPES = [(3, 4), (4,), (), (0, 2), (2, 1, 3)]
STEPS = 10


def draws(seed, shapes=SHAPES, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def parameters(seed=0, shapes=SHAPES, dtype=np.float64):
    return [tg.Tensor(x, requires_grad=True) for x in draws(seed, shapes, dtype)]


def train(optimizer, params, steps=STEPS, first=1):
    for t in range(first, first + steps):
        for p, g in zip(params, draws(t, [p.shape for p in params], params[0].dtype)):
            p.grad = g
        optimizer.step()


# --------------------------------------------------------------------------------------------------
# The equations, one parameter at a time, moving averages as in the papers
# --------------------------------------------------------------------------------------------------


def sgd(p, g, s, t, lr=0.1, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    if momentum == 0:
        return p - lr * g
    s["v"] = momentum * s.get("v", 0) + (1 - dampening) * g
    return p - lr * (g + momentum * s["v"] if nesterov else s["v"])


def adam(p, g, s, t, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False):
    g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    s["v_max"] = np.maximum(s.get("v_max", 0), s["v"])
    m_hat = s["m"] / (1 - betas[0] ** t)
    v_hat = s["v_max" if amsgrad else "v"] / (1 - betas[1] ** t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps)


def adamw(p, g, s, t, lr=0.1, weight_decay=0.01, **options):
    return adam(p - lr * weight_decay * p, g, s, t, lr, **options)


def rmsprop(
    p, g, s, t, lr=0.1, alpha=0.99, eps=1e-8, momentum=0.0, centered=False, weight_decay=0.0
):
    g = g + weight_decay * p
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g**2
    s["mean"] = alpha * s.get("mean", 0) + (1 - alpha) * g
    step = g / (np.sqrt(s["v"] - s["mean"] ** 2 if centered else s["v"]) + eps)
    s["b"] = momentum * s.get("b", 0) + step
    return p - lr * s["b"]


def adagrad(p, g, s, t, lr=0.1, lr_decay=0.0, eps=1e-10, weight_decay=0.0):
    g = g + weight_decay * p
    s["v"] = s.get("v", 0) + g**2
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["v"]) + eps)


def adadelta(p, g, s, t, lr=0.1, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * p
    s["v"] = rho * s.get("v", 0) + (1 - rho) * g**2
    d = np.sqrt(s.get("u", 0) + eps) / np.sqrt(s["v"] + eps) * g
    s["u"] = rho * s.get("u", 0) + (1 - rho) * d**2
    return p - lr * d


def adamax(p, g, s, t, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["u"] = np.maximum(betas[1] * s.get("u", 0), np.abs(g) + eps)
    return p - lr / (1 - betas[0] ** t) * s["m"] / s["u"]


def nadam(p, g, s, t, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3):
    g = g + weight_decay * p
    mu = [betas[0] * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in range(1, t + 2)]
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m_bar = (1 - mu[-2]) * g / (1 - np.prod(mu[:-1])) + mu[-1] * s["m"] / (1 - np.prod(mu))
    return p - lr * m_bar / (np.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)


def radam(p, g, s, t, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g**2
    m_hat = s["m"] / (1 - betas[0] ** t)
    end = 2 / (1 - betas[1]) - 1
    rho = end - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if rho <= 5:
        return p - lr * m_hat
    r = np.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
    return p - lr * r * m_hat * np.sqrt(1 - betas[1] ** t) / (np.sqrt(s["v"]) + eps)


def lion(p, g, s, t, lr=0.1, betas=(0.9, 0.99), weight_decay=0.0):
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * p)


EQUATIONS = {
    SGD: sgd, Adam: adam, AdamW: adamw, RMSProp: rmsprop, Adagrad: adagrad, Adadelta: adadelta,
    Adamax: adamax, NAdam: nadam, RAdam: radam, Lion: lion,
}  # fmt: skip

OPTIONS = [
    (SGD, {}),
    (SGD, {"weight_decay": 0.1}),
    (SGD, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "dampening": 0.9}),
    (SGD, {"momentum": 0.9, "dampening": 0.25, "weight_decay": 0.1}),
    (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (SGD, {"dampening": 0.5}),
    (Adam, {}),
    (Adam, {"betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.1}),
    (Adam, {"betas": (0.0, 0.0)}),
    (Adam, {"amsgrad": True, "betas": (0.9, 0.3)}),
    (AdamW, {}),
    (AdamW, {"weight_decay": 0.5, "amsgrad": True}),
    (RMSProp, {}),
    (RMSProp, {"alpha": 0.5, "eps": 0.1, "weight_decay": 0.1}),
    (RMSProp, {"momentum": 0.9}),
    (RMSProp, {"momentum": 0.5, "centered": True, "alpha": 0.8, "eps": 0.01}),
    (Adagrad, {}),
    (Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1, "eps": 0.1}),
    (Adadelta, {}),
    (Adadelta, {"rho": 0.5, "eps": 0.1, "weight_decay": 0.1}),
    (Adamax, {}),
    (Adamax, {"betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.1}),
    (NAdam, {}),
    (NAdam, {"betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.1, "momentum_decay": 0.5}),
    (RAdam, {}),
    (RAdam, {"betas": (0.5, 0.9), "eps": 0.1, "weight_decay": 0.1}),
    (Lion, {}),
    (Lion, {"betas": (0.5, 0.7), "weight_decay": 0.5}),
    (Lion, {"betas": (0.0, 0.0)}),
]
every_option = pytest.mark.parametrize(
    ("kind", "options"), OPTIONS, ids=lambda x: getattr(x, "__name__", None) or str(x)
)
# One of each kind, with all of its state.
KINDS = [
    (SGD, {"momentum": 0.9, "dampening": 0.25}),
    (Adam, {"amsgrad": True}),
    (RMSProp, {"momentum": 0.5, "centered": True, "eps": 0.01}),
    *((kind, {}) for kind in EQUATIONS if kind not in (SGD, Adam, RMSProp)),
]
every_kind = pytest.mark.parametrize(
    ("kind", "options"), KINDS, ids=lambda x: getattr(x, "__name__", "")
)


@every_option
def test_ten_steps_follow_the_equations(kind, options):
    params = parameters()
    train(kind(params, lr=0.1, **options), params)
    for i, p in enumerate(params):
        expected, state = draws(0)[i], {}
        for t in range(1, STEPS + 1):
            expected = EQUATIONS[kind](expected, draws(t)[i], state, t, **options)
        np.testing.assert_allclose(p.data, expected, rtol=1e-10, atol=1e-12)


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # also that of NAdam's product
    yield torch
    torch.set_default_dtype(before)


def counterpart(torch, kind):
    name = "RMSprop" if kind is RMSProp else kind.__name__
    return getattr(torch.optim, name, None)


@every_option
def test_ten_steps_follow_pytorch(kind, options, torch):
    theirs = counterpart(torch, kind)
    if theirs is None:
        pytest.skip(f"this PyTorch has no {kind.__name__}")
    params = parameters()
    train(kind(params, lr=0.1, **options), params)
    tensors = [torch.tensor(x, requires_grad=True) for x in draws(0)]
    reference = theirs(tensors, lr=0.1, **options)
    if options.get("dampening") and "momentum" in options:
        for x in tensors:  # PyTorch's first velocity is g, not (1 - dampening) g; see SGD's notes
            reference.state[x]["momentum_buffer"] = torch.zeros_like(x)
    for t in range(1, STEPS + 1):
        for x, g in zip(tensors, draws(t)):
            x.grad = torch.tensor(g)
        reference.step()
    for p, x in zip(params, tensors):
        np.testing.assert_allclose(p.data, x.detach().numpy(), rtol=1e-10, atol=1e-12)


@every_kind
def test_ten_steps_of_groups_follow_pytorch(kind, options, torch):
    theirs = counterpart(torch, kind)
    if theirs is None:
        pytest.skip(f"this PyTorch has no {kind.__name__}")
    options = {name: value for name, value in options.items() if name != "dampening"}
    params, tensors = parameters(), [torch.tensor(x, requires_grad=True) for x in draws(0)]

    def groups(of):
        return [
            {"params": of[:2], "lr": 0.05},
            {"params": of[2:3], "weight_decay": 0.3},
            {"params": of[3:]},
        ]

    train(kind(groups(params), lr=0.1, weight_decay=0.0, **options), params)
    reference = theirs(groups(tensors), lr=0.1, weight_decay=0.0, **options)
    for t in range(1, STEPS + 1):
        for x, g in zip(tensors, draws(t)):
            x.grad = torch.tensor(g)
        reference.step()
    for p, x in zip(params, tensors):
        np.testing.assert_allclose(p.data, x.detach().numpy(), rtol=1e-10, atol=1e-12)


@every_kind
def test_defaults_are_pytorchs(kind, options, torch):
    theirs = counterpart(torch, kind)
    if theirs is None:
        pytest.skip(f"this PyTorch has no {kind.__name__}")
    defaults = theirs([torch.zeros(1, requires_grad=True)], lr=0.1).defaults
    ours = kind(parameters(), lr=0.1).state_dict()["options"]
    assert ours == {name: defaults[name] for name in ours}


# --------------------------------------------------------------------------------------------------
# Packing
# --------------------------------------------------------------------------------------------------


@every_kind
def test_large_parameters_in_pieces_give_the_same(kind, options, monkeypatch):
    shapes = [(40, 5), (3,), (7, 30), (4, 4)]
    plain, pieces = parameters(shapes=shapes), parameters(shapes=shapes)
    train(kind(plain, lr=0.1, weight_decay=0.1, **options), plain)
    monkeypatch.setattr(optim, "LARGE", 20)
    monkeypatch.setattr(optim, "PIECE", 64 * 8)
    optimizer = kind(pieces, lr=0.1, weight_decay=0.1, **options)
    assert [len(block.pieces) for block in optimizer._blocks] == [4, 1, 4]
    train(optimizer, pieces)
    for p, q in zip(plain, pieces):
        np.testing.assert_array_equal(p.data, q.data)


def test_small_parameters_in_several_pieces(monkeypatch):
    monkeypatch.setattr(optim, "PIECE", 5 * 8)
    params = parameters()
    optimizer = Adam(params, lr=0.1)
    assert [len(block.pieces) for block in optimizer._blocks] == [5]
    train(optimizer, params)
    whole = parameters()
    monkeypatch.undo()
    train(Adam(whole, lr=0.1), whole)
    for p, q in zip(params, whole):
        np.testing.assert_array_equal(p.data, q.data)


@every_kind
@pytest.mark.parametrize("large", [1, 2**16])
def test_dtypes_stay_and_may_differ(kind, options, large, monkeypatch):
    monkeypatch.setattr(optim, "LARGE", large)
    single = [tg.Tensor(x.astype(np.float32), requires_grad=True) for x in draws(0)]
    double = [tg.Tensor(x, requires_grad=True) for x in draws(0)]
    params = [p for pair in zip(single, double) for p in pair]
    optimizer = kind(params, lr=0.01, weight_decay=0.1, **options)
    for t in range(1, STEPS + 1):
        for p, q, g in zip(single, double, draws(t)):
            p.grad, q.grad = g.astype(np.float32), g
        optimizer.step()
    for p, q in zip(single, double):
        assert p.dtype == np.float32
        assert q.dtype == np.float64
        np.testing.assert_allclose(p.data, q.data, rtol=2e-4, atol=2e-5)  # float32, ten steps
    for entry in optimizer._entries():
        assert all(array.dtype == entry.param.dtype for array in entry.arrays.values())


@every_kind
@pytest.mark.parametrize("large", [1, 2**16])
def test_gradients_and_given_arrays_are_only_read(kind, options, large, monkeypatch):
    monkeypatch.setattr(optim, "LARGE", large)
    given = draws(0)
    params = [tg.Tensor(x, requires_grad=True) for x in given]
    grads = draws(1)
    for p, g in zip(params, grads):
        g.flags.writeable = False
        p.grad = g
    kind(params, lr=0.1, weight_decay=0.1, **options).step()
    for p, g, x, before, g_before in zip(params, grads, given, draws(0), draws(1)):
        assert p.grad is g
        np.testing.assert_array_equal(g, g_before)
        np.testing.assert_array_equal(x, before)
        assert x.size == 0 or not np.array_equal(p.data, x)


@pytest.mark.parametrize("large", [1, 2**16])
def test_strided_and_read_only_data(large, monkeypatch):
    monkeypatch.setattr(optim, "LARGE", large)
    base = np.arange(24.0).reshape(4, 6)
    arrays = [base.T, base[::2, ::-1], np.broadcast_to(1.0, (3, 2)), np.asfortranarray(base)]
    params = [tg.Tensor(x, requires_grad=True) for x in arrays]
    optimizer = SGD(params, lr=0.5)
    for step in (1, 2):
        for p, x in zip(params, arrays):
            p.grad = np.asfortranarray(x * 2)
        optimizer.step()
        for p, x in zip(params, arrays):
            np.testing.assert_array_equal(p.data, x - step * x)


@pytest.mark.parametrize("large", [1, 2**16])
def test_data_set_between_steps_counts_and_state_stays(large, monkeypatch):
    monkeypatch.setattr(optim, "LARGE", large)
    params = parameters()
    optimizer = SGD(params, lr=0.1, momentum=0.9)
    train(optimizer, params, steps=1)
    loaded = draws(7)
    params[0].data = loaded[0]
    params[1].data[...] = loaded[1]
    train(optimizer, params, steps=1, first=2)
    for i in (0, 1):
        v = 0.9 * draws(1)[i] + draws(2)[i]
        np.testing.assert_allclose(params[i].data, loaded[i] - 0.1 * v, rtol=1e-14)
    np.testing.assert_array_equal(loaded[0], draws(7)[0])


@every_kind
def test_parameters_without_gradient_are_left_alone(kind, options):
    """Each parameter ends as if it had been trained alone with the gradients it was given."""
    params = parameters()
    optimizer = kind(params, lr=0.1, weight_decay=0.1, **options)
    turns = [{0, 1, 2, 3, 4}, {0, 2}, {0, 1, 4}, set(), {1}, {0, 1, 2, 3, 4}]
    for t, turn in enumerate(turns):
        before = [p.data.copy() for p in params]
        for i, (p, g) in enumerate(zip(params, draws(t + 1))):
            p.grad = g if i in turn else None
        optimizer.step()
        for i, p in enumerate(params):
            assert i in turn or np.array_equal(p.data, before[i])
    for i, p in enumerate(params):
        [alone] = parameters(shapes=[p.shape])
        alone.data = draws(0)[i]
        single = kind([alone], lr=0.1, weight_decay=0.1, **options)
        for t, turn in enumerate(turns):
            if i in turn:
                alone.grad = draws(t + 1)[i]
                single.step()
        np.testing.assert_array_equal(p.data, alone.data)


def test_untouched_parameter_keeps_its_array():
    params = parameters()
    before = [p.data for p in params]
    optimizer = SGD(params, lr=0.1)
    optimizer.step()
    params[0].grad = draws(1)[0]
    optimizer.step()
    assert params[0].data is not before[0]
    assert all(p.data is x for p, x in zip(params[1:], before[1:]))


def test_a_graph_from_before_the_step_is_refused():
    W, b = parameters(shapes=[(3, 2), (2,)])
    optimizer = SGD([W, b], lr=0.1)
    loss = ((tg.Tensor(np.ones((4, 3))) @ W + b) ** 2).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    for _ in range(2):  # the second time no array is replaced any more
        late = (W * W).sum()
        W.grad = np.ones((3, 2))
        optimizer.step()
        with pytest.raises(GradientError, match="changed after"):
            late.backward()


def test_making_an_optimizer_changes_nothing():
    [W] = parameters(shapes=[(3, 2)])
    loss = (W * W).sum()
    SGD([W], lr=0.1, momentum=0.9)
    loss.backward()
    np.testing.assert_array_equal(W.grad, 2 * draws(0, [(3, 2)])[0])


def test_centered_variance_below_zero_counts_as_zero():
    [p] = parameters(shapes=[(50,)])
    optimizer = RMSProp([p], lr=0.0, alpha=0.5, centered=True)
    p.grad = draws(1, [(50,)])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(200):  # long enough for v = mean**2 but for rounding, which has either sign
            optimizer.step()
    v, mean = (optimizer._blocks[0].states[name] * 0.5 for name in ("v", "mean"))
    assert (v - mean**2 < 0).any()
    assert np.isfinite(p.data).all()


# --------------------------------------------------------------------------------------------------
# Parameters, groups, options
# --------------------------------------------------------------------------------------------------


def test_parameters_can_come_later_and_from_an_iterator():
    params = parameters()
    optimizer = SGD(lr=0.1, momentum=0.9)
    assert optimizer.params is None
    optimizer.attach(iter(params))
    train(optimizer, params, steps=1)
    optimizer.attach(params)
    assert optimizer.state_dict()["state"][0]["t"] == 1
    with pytest.raises(ArgumentError, match=r"SGD.attach: it has other parameters already"):
        optimizer.attach(parameters())
    assert all(p is q for p, q in zip(optimizer.params, params, strict=True))


def test_zero_grad():
    params = parameters()
    optimizer = SGD(params, lr=0.1)
    train(optimizer, params, steps=1)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_groups_have_options_of_their_own():
    a, b, c = parameters(shapes=[(3,), (3,), (3,)])
    optimizer = SGD([{"params": [a]}, {"params": iter([b, c]), "lr": 0.5, "momentum": 0.5}], lr=0.1)
    alone = parameters(shapes=[(3,), (3,), (3,)])
    first, second = SGD(alone[:1], lr=0.1), SGD(alone[1:], lr=0.5, momentum=0.5)
    for step in range(4):
        for p, q, g in zip([a, b, c], alone, draws(step + 1, [(3,)] * 3)):
            p.grad, q.grad = g, g
        for one in (optimizer, first, second):
            one.step()
        if step == 0:
            optimizer.lr = first.lr = 0.2  # the second group keeps its own
        if step == 1:
            optimizer.groups[1].lr = second.lr = 0.3
    for p, q in zip([a, b, c], alone):
        np.testing.assert_array_equal(p.data, q.data)
    assert [group.lr for group in optimizer.groups] == [0.2, 0.3]
    optimizer.zero_grad()
    assert b.grad is None


def test_without_groups_the_optimizer_is_its_only_group():
    optimizer = SGD(parameters(), lr=0.1)
    assert optimizer.groups == [optimizer]


@pytest.mark.parametrize(
    ("kind", "name", "values", "start"),
    [
        (SGD, "lr", [0.1, 0.01, 0.0, 0.5], {"momentum": 0.9}),
        (SGD, "momentum", [0.9, 0.5, 0.0, 0.7], {}),
        (SGD, "dampening", [0.9, 0.0, 0.5, 0.1], {"momentum": 0.9}),
        (SGD, "dampening", [0.0, 0.9, 0.5, 0.1], {"momentum": 0.9, "nesterov": True}),
        (Adam, "betas", [(0.9, 0.99), (0.8, 0.99), (0.5, 0.9), (0.9, 0.999)], {"amsgrad": True}),
        (AdamW, "weight_decay", [0.1, 0.0, 0.2, 0.3], {}),
        (RMSProp, "alpha", [0.9, 0.5, 0.7, 0.9], {"momentum": 0.9, "centered": True, "eps": 0.01}),
        (Adagrad, "eps", [0.1, 1e-10, 0.2, 0.3], {}),
        (Adadelta, "rho", [0.9, 0.5, 0.7, 0.9], {"eps": 0.01}),
        (Lion, "betas", [(0.9, 0.99), (0.8, 0.9), (0.5, 0.9), (0.9, 0.99)], {}),
    ],
    ids=str,
)
def test_options_can_be_set_between_steps(kind, name, values, start):
    [p] = parameters(shapes=[(5,)])
    optimizer = kind([p], **{"lr": 0.1, name: values[0]} | start)
    [expected], state = draws(0, [(5,)]), {}
    for t, value in enumerate(values, 1):
        setattr(optimizer, name, value)
        [g] = draws(t, [(5,)])
        p.grad = g
        optimizer.step()
        if name == "momentum" and value == 0:
            state.clear()  # there is no velocity without momentum
        expected = EQUATIONS[kind](expected, g, state, t, **start, **{name: value})
    np.testing.assert_allclose(p.data, expected, rtol=1e-10)


def test_an_option_set_to_what_cannot_be_keeps_its_value():
    optimizer = SGD(parameters(), lr=0.1)
    with pytest.raises(ArgumentError, match="lr"):
        optimizer.lr = -1
    assert optimizer.lr == 0.1


def test_numpy_numbers_are_options():
    optimizer = Adam(lr=np.float32(0.5), betas=[0, np.float64(0.5)], amsgrad=np.True_)
    assert type(optimizer.lr) is float
    assert optimizer.betas == (0.0, 0.5)
    assert optimizer.amsgrad is True


def test_repr():
    assert repr(Adam(lr=0.1)) == "Adam(lr=0.1)"
    params = parameters(shapes=[(100, 20), (20,), (5,)])
    assert repr(SGD(params, lr=0.1, momentum=0.9)) == (
        "SGD(lr=0.1, momentum=0.9), parameters: 3, numbers: 2,025"
    )
    groups = [{"params": params[:1]}, {"params": params[1:], "momentum": 0.5, "lr": 1.0}]
    assert repr(SGD(groups, lr=0.1)) == (
        "SGD(lr=0.1), parameters: 3, numbers: 2,025\n"
        "  group of parameters: 1\n"
        "  group of parameters: 2, lr=1.0, momentum=0.5"
    )


def test_an_algorithm_of_ones_own():
    @dataclass(kw_only=True, eq=False, repr=False)
    class SignSGD(Optimizer):
        floor: float = 0.5

        def coefficients(self, n):
            return self.lr * n["t"], self.floor

        @staticmethod
        def update(p, g, work, spare, rate, floor):
            np.multiply(np.sign(g), np.maximum(np.abs(g), floor), out=work)
            np.subtract(p, work * rate, out=p)

    [p] = parameters(shapes=[(5,)])
    optimizer = SignSGD([p], lr=1, floor=2.0)
    train(optimizer, [p], steps=2)
    expected = draws(0, [(5,)])[0]
    for t in (1, 2):
        g = draws(t, [(5,)])[0]
        expected = expected - t * np.sign(g) * np.maximum(np.abs(g), 2)
    np.testing.assert_allclose(p.data, expected, rtol=1e-14)
    with pytest.raises(ArgumentError, match=r"SignSGD: floor: expected a finite number >= 0"):
        optimizer.floor = -1


# --------------------------------------------------------------------------------------------------
# State
# --------------------------------------------------------------------------------------------------


def rebuilt(optimizer, params, kind, options):
    """Another optimizer and parameters that go on from copies of these."""
    others = [tg.Tensor(p.data.copy(), requires_grad=True) for p in params]
    other = kind(others, lr=7.0, **options)
    other.load_state_dict(optimizer.state_dict())
    return other, others


def copied(optimizer, params, *_):
    return copy.deepcopy((optimizer, params))


def pickled(optimizer, params, *_):
    return pickle.loads(pickle.dumps((optimizer, params)))


@every_kind
@pytest.mark.parametrize("large", [1, 2**16])
@pytest.mark.parametrize("again", [rebuilt, copied, pickled])
def test_a_run_goes_on_to_the_same_bits(kind, options, large, again, monkeypatch):
    monkeypatch.setattr(optim, "LARGE", large)
    params = parameters(dtype=np.float32)
    optimizer = kind(params, lr=0.1, weight_decay=0.1, **options)
    train(optimizer, params, steps=3)
    params[1].grad = None  # so that not all have taken as many steps
    optimizer.step()
    other, others = again(optimizer, params, kind, options)
    train(optimizer, params, steps=3, first=4)
    train(other, others, steps=3, first=4)
    assert other.lr == 0.1
    for p, q in zip(params, others):
        assert p is not q
        np.testing.assert_array_equal(p.data, q.data)


def test_state_dict_is_a_copy_of_arrays_and_numbers():
    params = parameters()
    optimizer = Adam(params, lr=0.1)
    train(optimizer, params, steps=1)
    state = optimizer.state_dict()
    assert state["algorithm"] == "Adam"
    assert state["options"] == {
        "lr": 0.1, "weight_decay": 0.0, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False,
    }  # fmt: skip
    assert [sorted(one) for one in state["state"]] == [["m", "t", "v"]] * len(SHAPES)
    np.testing.assert_array_equal(state["state"][0]["m"], draws(1)[0])
    train(optimizer, params, steps=1, first=2)
    np.testing.assert_array_equal(state["state"][0]["m"], draws(1)[0])
    optimizer.load_state_dict(state)
    train(optimizer, params, steps=1, first=2)
    np.testing.assert_array_equal(state["state"][0]["m"], draws(1)[0])


def test_state_of_groups():
    params = parameters()
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.5}]
    optimizer = Adam(groups, lr=0.1)
    train(optimizer, params, steps=2)
    others = [tg.Tensor(p.data.copy(), requires_grad=True) for p in params]
    other = Adam([{"params": others[:2]}, {"params": others[2:]}], lr=3)
    other.load_state_dict(optimizer.state_dict())
    assert [group.lr for group in other.groups] == [0.1, 0.5]
    for one, its in ((optimizer, params), (other, others)):
        train(one, its, steps=2, first=3)
    for p, q in zip(params, others):
        np.testing.assert_array_equal(p.data, q.data)


def spoil(change):
    params = parameters(shapes=[(2, 3), (3,)])
    optimizer = Adam(params, lr=0.1)
    train(optimizer, params, steps=1)
    state = optimizer.state_dict()
    change(state)
    return optimizer, state


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda s: s.update(algorithm="SGD"), ArgumentError, "the state of Adam, got SGD's"),
        (lambda s: s.pop("options"), ArgumentError, "expected algorithm, options and state, got"),
        (lambda s: s["state"].pop(), ArgumentError, "expected 2 parameters, got 1."),
        (lambda s: s["options"].pop("eps"), ArgumentError, "expected options lr, weight_"),
        (lambda s: s["options"].update(lr=-1), ArgumentError, "lr: expected a finite number >= 0"),
        (lambda s: s["state"][1].pop("m"), ArgumentError, "1: expected t, m, v, got t, v."),
        (
            lambda s: s["state"][1].update(v=np.zeros(4)),
            ShapeError,
            "parameter 1: v: expected shape (3,), got (4,).",
        ),
        (
            lambda s: s["state"][1].update(v=np.zeros(3, np.float32)),
            DtypeError,
            "parameter 1: v: expected dtype float64, got float32.",
        ),
    ],
)
def test_state_that_does_not_fit_changes_nothing(change, error, text):
    optimizer, state = spoil(change)
    state.get("options", {})["weight_decay"] = 0.75
    before = optimizer.state_dict()
    with pytest.raises(error, match=re.escape(text)):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["options"] == before["options"]
    for a, b in zip(after["state"], before["state"]):
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_state_of_other_groups_is_refused():
    params = parameters(shapes=[(2,), (3,)])
    groups = Adam([{"params": params[:1]}, {"params": params[1:]}], lr=0.1)
    plain = Adam(params, lr=0.1)
    with pytest.raises(ArgumentError, match="expected algorithm, options and groups"):
        groups.load_state_dict(plain.state_dict())
    state = groups.state_dict()
    state["groups"].pop()
    with pytest.raises(ArgumentError, match="expected 2 groups, got 1"):
        groups.load_state_dict(state)


# --------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------


def leaf(shape=(2,)):
    return tg.Tensor(np.ones(shape), requires_grad=True)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: SGD([], lr=0.1), ArgumentError, "SGD: params: expected at least one parameter"),
        (lambda: SGD(0.1, lr=0.1), DtypeError, "expected a list of Tensors or of dicts, got float"),
        (lambda: SGD(leaf(), lr=0.1), DtypeError, "a list of Tensors or of dicts, got Tensor"),
        (
            lambda: SGD([leaf(), np.ones(2)], lr=0.1),
            DtypeError,
            "SGD: params[1]: expected a Tensor, got ndarray.",
        ),
        (
            lambda: SGD([leaf(), {"params": [leaf()]}], lr=0.1),
            DtypeError,
            "SGD: params[1]: expected a Tensor, got dict.",
        ),
        (
            lambda: SGD([tg.Tensor([1.0, 2.0], name="W")], lr=0.1),
            GradientError,
            "SGD: params[0] ('W') of shape (2,): expected a leaf with requires_grad=True, got one",
        ),
        (
            lambda: SGD([leaf() * 2], lr=0.1),
            GradientError,
            "params[0] of shape (2,): expected a leaf with requires_grad=True, got a result of",
        ),
        (
            lambda: SGD([(p := leaf()), leaf(), p], lr=0.1),
            ArgumentError,
            "SGD: params[2] of shape (2,): expected each parameter once, got params[0] again.",
        ),
        (
            lambda: SGD([{"params": [p := leaf()]}, {"params": [p]}], lr=0.1),
            ArgumentError,
            "SGD: params[1] of shape (2,): expected each parameter once, got params[0] again.",
        ),
        (
            lambda: SGD([{"params": [leaf()], "momentun": 0.9}], lr=0.1),
            ArgumentError,
            'SGD: group 0: expected "params" and options among lr, weight_decay, momentum, '
            "dampening, nesterov, got 'momentun'. Did you mean 'momentum'?",
        ),
        (lambda: SGD([{"lr": 0.9}], lr=0.1), ArgumentError, "nesterov, got no params."),
        (lambda: SGD([{"params": [leaf()], "lr": -1}], lr=0.1), ArgumentError, "lr: expected a"),
        (lambda: SGD(lr=-0.1), ArgumentError, "SGD: lr: expected a finite number >= 0, got -0.1"),
        (lambda: SGD(lr=float("nan")), ArgumentError, "lr: expected a finite number >= 0, got"),
        (lambda: SGD(lr=float("inf")), ArgumentError, "lr: expected a finite number >= 0, got"),
        (lambda: SGD(lr="0.1"), DtypeError, "SGD: lr: expected a number, got str '0.1'."),
        (lambda: SGD(lr=1, weight_decay=-1), ArgumentError, "weight_decay: expected a finite"),
        (lambda: SGD(lr=1, momentum=1), ArgumentError, "momentum: expected a number in [0, 1)"),
        (
            lambda: SGD(lr=1, nesterov=True),
            ArgumentError,
            "SGD: nesterov=True: expected momentum > 0 and dampening = 0, got momentum=0.0",
        ),
        (
            lambda: SGD(lr=1, nesterov=True, momentum=0.9, dampening=0.5),
            ArgumentError,
            "got momentum=0.9, dampening=0.5.",
        ),
        (lambda: SGD(lr=1, nesterov=1), DtypeError, "nesterov: expected True or False, got 1."),
        (
            lambda: Adam(lr=1, betas=(0.9, 1.0)),
            ArgumentError,
            "Adam: betas[1]: expected a number in [0, 1), got 1.0.",
        ),
        (lambda: Adam(lr=1, betas=(-0.1, 0.9)), ArgumentError, "betas[0]: expected a number in"),
        (lambda: Adam(lr=1, betas=0.9), ArgumentError, "betas: expected 2 numbers in [0, 1)"),
        (lambda: Adam(lr=1, eps=-1e-8), ArgumentError, "Adam: eps: expected a finite number >= 0"),
        (
            lambda: SGD(lr=0.1).step(),
            ArgumentError,
            "SGD.step: expected parameters, got none yet. Give them: SGD(model.parameters(), lr=",
        ),
        (lambda: SGD(lr=0.1).zero_grad(), ArgumentError, "SGD.zero_grad: expected parameters"),
        (lambda: SGD(lr=0.1).state_dict(), ArgumentError, "SGD.state_dict: expected parameters"),
        (lambda: SGD(lr=0.1).load_state_dict({}), ArgumentError, "load_state_dict: expected param"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()


def test_lr_must_be_given():
    with pytest.raises(TypeError, match="lr"):
        SGD(parameters())


# --------------------------------------------------------------------------------------------------
# L-BFGS
# --------------------------------------------------------------------------------------------------

ROWS = np.random.default_rng(0).normal(size=(30, 5))
LABELS = (ROWS @ np.arange(-2.0, 3.0) + ROWS[:, 0] ** 2 > 0).astype(float)


def logistic(params):
    w, b = params
    return tg.binary_cross_entropy(ROWS @ w + b, LABELS) + 0.05 * (w * w).sum()


def run_lbfgs(optimizer, params, steps, search=False):
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        logistic(params).backward()
        optimizer.step((lambda: logistic(params)) if search else None)
        found.append(np.concatenate([p.data.ravel() for p in params]))
    return np.array(found)


def start():
    return [tg.Tensor(np.zeros(shape), requires_grad=True) for shape in (5, ())]


def test_lbfgs_steps_along_the_bfgs_matrix_written_out():
    params = start()
    found = run_lbfgs(optim.LBFGS(params, lr=0.5, history=100), params, 8)
    x, pairs, last = np.zeros(6), [], None
    for row in found:
        z = ROWS @ x[:5] + x[5]
        d = (1 / (1 + np.exp(-z)) - LABELS) / 30
        g = np.append(ROWS.T @ d + 0.1 * x[:5], d.sum())
        if last is not None:
            pairs.append((x - last[0], g - last[1]))
        H = np.eye(6)
        if pairs:
            s, y = pairs[-1]
            H *= s @ y / (y @ y)
        for s, y in pairs:  # H = V' H V + rho s s', V = I - rho y s', rho = 1 / y's
            V = np.eye(6) - np.outer(y, s) / (y @ s)
            H = V.T @ H @ V + np.outer(s, s) / (y @ s)
        t = 0.5 * min(1, 1 / abs(g).sum()) if last is None else 0.5
        last = x, g
        x = x - t * H @ g
        np.testing.assert_allclose(row, x, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("history", [2, 10])
def test_lbfgs_is_that_of_pytorch(history):
    torch = pytest.importorskip("torch")
    params = start()
    found = run_lbfgs(optim.LBFGS(params, lr=0.7, history=history), params, STEPS)
    w, b = theirs = [torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (5, 1)]
    other = torch.optim.LBFGS(theirs, lr=0.7, max_iter=1, history_size=history,
                              tolerance_grad=0, tolerance_change=0)  # fmt: skip
    rows, labels = torch.tensor(ROWS), torch.tensor(LABELS)

    def closure():
        other.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(rows @ w + b, labels)
        loss = loss + 0.05 * (w * w).sum()
        loss.backward()
        return loss

    for row in found:
        other.step(closure)
        expected = np.append(w.detach().numpy(), b.detach().numpy())
        np.testing.assert_allclose(row, expected, rtol=1e-10, atol=1e-12)


def test_the_closure_of_lbfgs_may_compute_the_gradient_as_pytorchs_do():
    params, twin = start(), start()
    optimizer, other = optim.LBFGS(params, weight_decay=0.1), optim.LBFGS(twin, weight_decay=0.1)

    def closure():
        optimizer.zero_grad()
        loss = logistic(params)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
        other.zero_grad()
        logistic(twin).backward()
        other.step(lambda: logistic(twin))
        for p, q in zip(params, twin):
            np.testing.assert_array_equal(p.data, q.data)


def test_lbfgs_with_a_loss_finds_the_minimum_and_never_rises():
    params = start()
    optimizer = optim.LBFGS(params, lr=8.0)  # much too long: it is the search that shortens it
    losses = []
    for _ in range(60):
        losses.append(logistic(params).item())
        run_lbfgs(optimizer, params, 1, search=True)
    assert losses == sorted(losses, reverse=True)
    optimizer.zero_grad()
    logistic(params).backward()
    assert max(abs(p.grad).max() for p in params) < 1e-6


def test_lbfgs_goes_on_from_its_state():
    params, twins = start(), start()
    optimizer, other = optim.LBFGS(params, history=3), optim.LBFGS(twins, lr=9.0)
    for steps in (0, 1, 6):
        run_lbfgs(optimizer, params, steps)
        other.load_state_dict(optimizer.state_dict())
        for p, twin in zip(params, twins):
            twin.data = p.data.copy()
        np.testing.assert_array_equal(run_lbfgs(optimizer, params, 2), run_lbfgs(other, twins, 2))


def test_what_lbfgs_cannot_take_is_refused():
    params = start()
    with pytest.raises(ArgumentError, match=r"^LBFGS: params: expected parameters, got groups\."):
        optim.LBFGS([{"params": params}])
    with pytest.raises(ArgumentError, match="LBFGS: history: expected a whole number of at least"):
        optim.LBFGS(params, history=2.5)
    with pytest.raises(ArgumentError, match=r"LBFGS\.step: expected parameters, got none yet"):
        optim.LBFGS().step()
    optimizer = optim.LBFGS(params)
    with pytest.raises(ArgumentError, match="expected the state of LBFGS, got SGD's"):
        optimizer.load_state_dict(SGD(params, lr=0.1).state_dict())
    run_lbfgs(optimizer, params, 2)
    with pytest.raises(ShapeError, match=r"expected states \(1,\), got \(6,\)"):
        optim.LBFGS(params[1:]).load_state_dict(optimizer.state_dict())


# --------------------------------------------------------------------------------------------------
# Clipping
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_gradients_are_scaled_to_the_norm(limit, dtype):
    params = [*parameters(dtype=dtype), tg.Tensor(1.0, requires_grad=True)]  # one has no gradient
    grads = draws(1, dtype=dtype)
    for p, g in zip(params, grads):
        p.grad = g
    norm = np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads))
    found = optim.clip_norm(params, limit)
    np.testing.assert_allclose(found, norm, rtol=1e-6 if dtype == np.float32 else 1e-14)
    for p, g in zip(params, grads):
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(
            p.grad, g * min(1, limit / norm), rtol=1e-6 if dtype == np.float32 else 1e-14
        )
    assert params[-1].grad is None


def test_gradients_are_clipped_as_by_pytorch():
    torch = pytest.importorskip("torch")
    theirs = [torch.nn.Parameter(torch.tensor(x)) for x in draws(0)]
    for clip, peer, rtol in (
        # PyTorch divides by the norm + 1e-6, which is 3.5 here.
        (optim.clip_norm, torch.nn.utils.clip_grad_norm_, 1e-6),
        (optim.clip_value, torch.nn.utils.clip_grad_value_, 0),
    ):
        params = parameters()
        for p, other, g in zip(params, theirs, draws(1)):
            p.grad, other.grad = g.copy(), torch.tensor(g)
        clip(params, 0.25)
        peer(theirs, 0.25)
        for p, other in zip(params, theirs):
            np.testing.assert_allclose(p.grad, other.grad.numpy(), rtol=rtol)


def test_clipping_writes_into_no_array_of_the_users():
    [p], given = parameters(shapes=[(3,)]), np.array([3.0, -4.0, 0.0])
    for clip in (optim.clip_norm, optim.clip_value):
        p.grad = given
        clip([p], 1.0)
        np.testing.assert_array_equal(given, [3, -4, 0])
        assert p.grad is not given


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, "1", None])
def test_a_limit_that_is_none_is_refused(limit):
    for clip in (optim.clip_norm, optim.clip_value):
        text = f"{clip.__name__}: expected a limit above 0, got {limit!r}."
        with pytest.raises(ArgumentError, match=re.escape(text)):
            clip([], limit)


def test_a_norm_that_is_not_finite_is_refused():
    [p] = parameters(shapes=[(3,)])
    p.grad = [1.0, np.inf, 0.0]
    with pytest.raises(NonFiniteError, match="clip_norm: expected gradients with a finite norm"):
        optim.clip_norm([p], 1.0)
    np.testing.assert_array_equal(p.grad, [1, np.inf, 0])
