from __future__ import annotations

import re

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from nn.layers.sparse import _free
from tests.nn.twins import check, draw, float64, pulled, shaken
from tinygrad_np.errors import ArgumentError, ShapeError

pytest.importorskip("scipy")


def dense(layer):
    """The layer's matrix."""
    A = np.zeros((layer.in_features, layer.out_features))
    A.flat[layer.places.data] = layer.values.data
    return A


def sparse(*features, **options):
    return nn.SparseDense(*features, **float64(epsilon=1.5, **options))


# --- the product ---


def test_layer_agrees_with_backprop_derived_by_hand():
    layer = shaken(sparse(6, 5))
    A, b, places = dense(layer), layer.b.data, layer.places.data

    def by_hand(x, g):
        dA = x.T @ g  # of which only the places of weights count
        return x @ A + b, {"x": g @ A.T, "values": dA.flat[places], "b": g.sum(axis=0)}

    assert places.size == round(1.5 * 11) < A.size
    check(layer, draw(4, 6), by_hand)


def test_layer_agrees_with_a_masked_layer_of_pytorch():
    torch = pytest.importorskip("torch")
    layer = shaken(sparse(6, 5, activation="tanh"))
    x = draw(4, 6)
    y, g, grads = pulled(layer, x)
    A, b = (torch.tensor(a, requires_grad=True) for a in (dense(layer), layer.b.data))
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.tanh(tx @ A + b)
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(y, ty.detach(), rtol=1e-12)
    np.testing.assert_allclose(grads["x"], tx.grad, rtol=1e-11)
    np.testing.assert_allclose(grads["b"], b.grad, rtol=1e-11)
    np.testing.assert_allclose(grads["values"], A.grad.numpy().flat[layer.places.data], rtol=1e-11)


def test_ten_steps_are_those_of_a_masked_network_of_pytorch():
    torch = pytest.importorskip("torch")
    model = nn.Sequential(sparse(6, 5, activation="tanh"), sparse(5, 3))
    optimizer = nn.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    masks = [torch.tensor(dense(layer) != 0) for layer in model]
    twins = [
        torch.tensor(array, requires_grad=True)
        for layer in model
        for array in (dense(layer), layer.b.data)
    ]
    theirs = torch.optim.SGD(twins, lr=0.1, momentum=0.9, weight_decay=1e-3)
    for step in range(10):
        x, t = draw(4, 6) + step, draw(4, 3)
        optimizer.zero_grad()
        nn.MSE()(model(x), t).backward()
        optimizer.step()
        A, a, B, b = twins
        theirs.zero_grad()
        y = torch.tanh(torch.tensor(x) @ (A * masks[0]) + a) @ (B * masks[1]) + b
        torch.nn.functional.mse_loss(y, torch.tensor(t)).backward()
        theirs.step()
    for layer, A, b in zip(model, twins[::2], twins[1::2]):
        np.testing.assert_allclose(dense(layer), A.detach(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(layer.b.data, b.detach(), rtol=1e-10, atol=1e-13)


def test_number_and_size_of_weights():
    layer = nn.SparseDense(300, 100, epsilon=5, rng=0)
    assert layer.values.size == 5 * 400
    assert np.all(np.diff(layer.places.data) > 0)
    assert layer.values.dtype == np.float32
    a = np.sqrt(6 / (2000 / 300 + 2000 / 100))  # of the mean numbers of weights, not of 300 and 100
    np.testing.assert_allclose(np.abs(layer.values.data).max(), a, rtol=0.05)
    full = nn.SparseDense(4, 3, epsilon=50, rng=0)
    np.testing.assert_array_equal(full.places.data, np.arange(12))


def test_places_are_uniform():
    counts = np.zeros(12)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        counts[nn.SparseDense(3, 4, epsilon=3 / 7, rng=rng).places.data] += 1
    np.testing.assert_allclose(counts / 2000, 3 / 12, atol=0.04)  # four standard deviations


def test_free_places_by_definition():
    taken = np.array([0, 1, 5, 9])
    every = _free(taken, 10, 6, np.random.default_rng(0))
    np.testing.assert_array_equal(every, [2, 3, 4, 6, 7, 8])
    found = {n for seed in range(60) for n in _free(taken, 10, 2, np.random.default_rng(seed))}
    assert found == {2, 3, 4, 6, 7, 8}


# --- evolution ---


def test_evolution_removes_what_is_nearest_to_zero_on_each_side():
    layer = sparse(6, 5, rng=np.random.default_rng(1))
    layer.values.data = np.array([8, -1, 3, -6, 2, -3, 7, 5, -8, 6, -2, 4, -5, 1, -4, -7.0])
    before = dict(zip(layer.places.data.tolist(), layer.values.data.tolist()))
    assert layer.evolve(zeta=0.3) == 4  # int(0.3 * 8) of each
    after = dict(zip(layer.places.data.tolist(), layer.values.data.tolist()))
    stayed = {place: value for place, value in before.items() if value not in (1, 2, -1, -2)}
    assert stayed.items() <= after.items()
    assert len(after) == 16
    assert np.all(np.diff(layer.places.data) > 0)


def test_new_weights_grow_at_random_places_with_initial_values():
    layer = nn.SparseDense(40, 50, epsilon=4, rng=0, weights_init=nn.init.uniform(5, 6))
    seen = set(layer.places.data.tolist())
    layer.values.data = np.full(layer.values.size, -1.0)
    assert layer.evolve(zeta=1) == 360
    assert np.all((layer.values.data >= 5) & (layer.values.data <= 6))
    assert len(seen & set(layer.places.data.tolist())) < 120  # 360 * 0.18 = 65 by chance
    assert layer.evolve(zeta=0) == 0


def test_the_product_follows_the_evolution():
    layer = sparse(6, 5)
    x = draw(4, 6)
    layer(x)
    layer.evolve(0.5)
    np.testing.assert_allclose(layer(x).data, x @ dense(layer) + layer.b.data, rtol=1e-12)


@pytest.mark.parametrize("grouped", [False, True])
def test_optimizer_state_moves_with_the_weights_that_stay(grouped):
    layer = sparse(6, 5)
    groups = [{"params": [layer.b]}, {"params": [layer.values], "lr": 0.02}]
    optimizer = nn.Adam(groups if grouped else layer.parameters(), lr=0.01)
    x = draw(4, 6)

    def step():
        optimizer.zero_grad()
        (layer(x) ** 2).sum().backward()
        optimizer.step()

    def moments():
        state = optimizer.state_dict()
        state = state["groups"][1]["state"][0] if grouped else state["state"][0]
        return state["t"], *[dict(zip(layer.places.data.tolist(), state[k])) for k in "mv"]

    for _ in range(3):
        step()
    t, m, v = moments()
    values = dict(zip(layer.places.data.tolist(), layer.values.data))
    count = layer.evolve(0.5, optimizer)
    assert layer.values.grad is None
    new_t, new_m, new_v = moments()
    new_values = dict(zip(layer.places.data.tolist(), layer.values.data))
    stayed = {place for place, value in new_values.items() if values.get(place) == value}
    assert len(stayed) == 16 - count
    assert (t, new_t) == (3, 3)
    for place in new_values:
        expected = (m[place], v[place]) if place in stayed else (0, 0)
        assert (new_m[place], new_v[place]) == expected
    assert min(v.values()) > 0
    step()
    assert moments()[0] == 4


def test_training_with_evolution_is_the_same_from_the_same_seed_and_resumes_from_its_state():
    def trained(layer, rounds):
        optimizer = nn.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        for _ in range(rounds):
            optimizer.zero_grad()
            (layer(draw(4, 6)) ** 2).sum().backward()
            optimizer.step()
            layer.evolve(0.3, optimizer)
        return layer

    first, second = trained(sparse(6, 5), 3), trained(sparse(6, 5), 3)
    for a, b in zip(first.state_dict().values(), second.state_dict().values()):
        np.testing.assert_array_equal(a, b)
    fresh = sparse(6, 5, rng=np.random.default_rng(9))
    fresh(draw(4, 6))
    fresh.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(fresh(draw(4, 6)).data, first(draw(4, 6)).data)
    assert list(first.state_dict()) == ["places", "values", "b"]


def test_memory_follows_the_weights():
    layer = nn.SparseDense(300_000, 300_000, epsilon=0.01, rng=0)
    assert layer.values.size == 6000
    y = layer(np.ones((1, 300_000), np.float32))
    y.sum().backward()
    assert layer.values.grad.shape == (6000,)
    assert layer.evolve() > 1000


# --- what is refused ---


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nn.SparseDense(4, 3, epsilon=0), "SparseDense: expected epsilon above 0, got 0."),
        (lambda: nn.SparseDense(), "SparseDense: expected (in, out) or (out,) as whole numbers"),
        (lambda: sparse(6, 5).evolve(1.5), "evolve: expected zeta in [0, 1] and weights, got zeta=1"),
        (lambda: sparse(5).evolve(), "SparseDense(5, epsilon=1.5): evolve: expected zeta in [0, 1] "
         "and weights, got no weights yet."),
        (lambda: sparse(6, 5).evolve(0.3, nn.SGD([tg.Tensor([1.0], True)], lr=1)),
         "SparseDense: evolve: expected an optimizer of its values, got SGD"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(call, text):
    with pytest.raises(ArgumentError, match=re.escape(text)):
        call()


def test_a_refused_evolution_changes_nothing():
    layer = sparse(6, 5)
    before = layer.state_dict()
    with pytest.raises(ArgumentError):
        layer.evolve(0.3, nn.SGD([tg.Tensor([1.0], True)], lr=1))
    for a, b in zip(before.values(), layer.state_dict().values()):
        np.testing.assert_array_equal(a, b)


def test_batches_that_do_not_fit_name_the_layer():
    text = "SparseDense(6, 5, epsilon=1.5) with weights '0.places': expected x (N, 6), got (4, 7)."
    with pytest.raises(ShapeError, match=re.escape(text)):
        nn.Sequential(sparse(6, 5))(np.ones((4, 7)))
