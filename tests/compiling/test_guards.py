"""When the compiled function must not run, what it must not touch, and why there may be none."""

from __future__ import annotations

import functools
import time
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from tinygrad_np.compiling.log import CONVERSIONS
from tinygrad_np.compiling.source import MISS
from tinygrad_np.core import plain
from tinygrad_np.errors import ArgumentError, DtypeError

ASARRAY = np.asarray
HIDDEN = SimpleNamespace(asarray=np.asarray)


def unseen(array: Any) -> Any:
    """A plain array, by a way that no log looks at."""
    return getattr(HIDDEN, chr(97) + "sarray")(array)


def weight(*shape: int) -> tg.Tensor:
    return tg.Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True, name="w")


def x_of(k: int, n: int = 3) -> Any:
    return np.random.default_rng(k).normal(size=n)


def runs_as_it_is(step: Any, *calls: Any) -> str:
    """Call until the step is refused; the reason."""
    compiled = tg.compile(step)

    def call() -> None:
        for args in calls:
            compiled(*args)

    with pytest.warns(UserWarning, match="runs as it is"):
        call()
    assert compiled.reason is not None
    return str(compiled.reason)


def test_a_branch_on_a_tensor_is_guarded(capsys: Any) -> None:
    w = weight(3)

    def step(x: Any) -> Any:
        w.grad = None
        y = (x * w).sum()
        if y > 0:
            print("+")
            loss = y * 2
        else:
            print("-")
            loss = y**2
        loss.backward()
        return loss, w.grad

    compiled = tg.compile(step)
    for k in range(40):
        loss, grad = compiled(x_of(k))
        mine = loss.item(), grad.copy()
        expected, g = step(x_of(k))
        assert mine[0] == pytest.approx(expected.item(), rel=1e-12)
        np.testing.assert_allclose(mine[1], g, rtol=1e-12)
    assert compiled.reason is None
    assert (
        len(capsys.readouterr().out.split()) < 40 + 10
    )  # both ways were compiled, and ran without Python's code
    assert "return MISS" in compiled.source


def test_a_loop_that_depends_on_data() -> None:
    w = weight(3)

    def step(x: Any) -> Any:
        y = x * w
        while (y * y).sum() < 5:
            y = y * 2
        return y.sum()

    compiled = tg.compile(step)
    for k in range(30):
        assert compiled(x_of(k)).item() == pytest.approx(step(x_of(k)).item(), rel=1e-12)
    assert compiled.reason is None


def test_too_many_ways_are_refused() -> None:
    w = weight(1)

    def step(x: Any) -> Any:
        y = x * w * 0 + x
        while y > 0:
            y = y - 1
        return y

    reason = runs_as_it_is(
        step,
        *[(np.array([float(k)]),) for k in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) for _ in "ab"],
    )
    assert "more than 8 ways" in reason


@pytest.mark.parametrize("norm", [False, True])
def test_a_branch_after_a_step_of_the_optimizer_is_guarded_before_it(norm: bool) -> None:
    found = []
    for wrap in (lambda step: step, tg.compile):
        layers = [nn.Dense(3, 5, bias=not norm, rng=0)] + [nn.BatchNorm(5)] * norm
        model = nn.Sequential(*layers, nn.Dense(5, 1, rng=1))
        optimizer = nn.Adam(model.parameters(), lr=0.1)

        def step(x: Any, t: Any, model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = ((model(x) - t) ** 2).mean()
            loss.backward()
            nn.clip_norm(model.parameters(), 1.0)
            optimizer.step()
            if loss > 1e6:
                raise ValueError("diverged")
            return loss

        run: Any = wrap(step)
        for k in range(8):
            x, t = (np.random.default_rng(seed).normal(size=(6, 3)) for seed in (k, k + 50))
            batch = x.astype("f4"), t[:, :1].astype("f4") * (1e6 if k == 6 else 1)
            if k == 6:
                with pytest.raises(ValueError, match="diverged"):
                    run(*batch)
            else:
                run(*batch)
        found.append(
            [*model.state_dict().values(), np.array(optimizer.state_dict()["state"][0]["t"])]
        )
    for a, b in zip(*found):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)
    assert run.reason is None


def test_a_branch_on_what_the_optimizer_has_changed_is_refused() -> None:
    model = nn.Dense(3, 1, rng=0)
    optimizer = nn.SGD(model.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        if (model(x) ** 2).mean() > 1e6:
            raise ValueError("diverged")
        return loss

    x = np.ones((4, 3), np.float32)
    assert "after the step has changed a parameter" in runs_as_it_is(step, (x,), (x,), (x,))


@pytest.mark.parametrize(
    "name", ["count_nonzero", "nonzero", "isnan", "isfinite", "signbit", "isclose"]
)
def test_what_numpy_says_of_the_numbers_of_an_argument_is_refused(name: str) -> None:
    w = weight(3)
    says = {"nonzero": lambda t: len(np.nonzero(t)[0]), "isclose": lambda t: np.isclose(t, 1).sum()}
    function = says.get(name, lambda t: np.sum(getattr(np, name)(t)))

    def step(t: Any) -> Any:
        return (w * w).sum() / (1 + function(t))

    usual, rare = np.zeros(4), np.array([0.0, 1.0, -1.0, np.nan])
    reason = runs_as_it_is(step, *[(usual,)] * 3)
    assert reason.startswith(f"np.{name} says something of the numbers of an array")
    compiled = tg.compile(step, warn=False)
    for _ in range(12):  # long enough to be trusted
        compiled(usual)
    assert compiled(rare).item() == step(rare).item()


def test_what_is_assigned_before_a_branch_waits_for_it() -> None:
    def make() -> Any:
        norm = nn.BatchNorm(3, momentum=None, dtype=np.float64)

        def step(x: Any) -> Any:
            norm.zero_grad()
            loss = (norm(x) * x).mean()  # moves the running statistics
            if loss > 1:
                loss.backward()
            return loss

        return norm, step

    (norm, step), (twin, expected) = make(), make()
    compiled = tg.compile(step)
    sizes = [2, 3, 2, 0.1, 2, 0.2, 0.1, 3, 2, 0.1]  # small ones go the other way
    for k, size in enumerate(sizes):
        x = np.random.default_rng(k).normal(size=(8, 3)) * size
        assert compiled(x).item() == pytest.approx(expected(x).item(), rel=1e-12)
        assert (norm.weight.grad is None) == (size < 1) == (twin.weight.grad is None)
        for own, other in zip(norm.state_dict().values(), twin.state_dict().values()):
            np.testing.assert_allclose(own, other, rtol=1e-12)
    assert compiled.reason is None
    assert norm.batches.data == len(sizes)


def test_numbers_are_drawn_in_the_order_of_the_step() -> None:
    found = []
    for wrap in (lambda step: step, functools.partial(tg.compile, warn=False)):
        model, rng = nn.BatchNorm(3, dtype=float), np.random.default_rng(0)

        def step(x: Any, model: Any = model, rng: Any = rng) -> Any:
            first = tg.dropout(model(x), rng=rng)
            second = tg.dropout(x, rng=rng).sum()
            return first.sum() * (2.0 if second > 0 else 1.0)

        run: Any = wrap(step)
        found.append([run(np.random.default_rng(k).normal(size=(5, 3))).item() for k in range(20)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)


def test_numbers_that_python_takes_are_returned_or_refused() -> None:
    w = weight(3)
    seen = []

    def returns(x: Any) -> Any:
        return (x * w).sum().item()

    compiled = tg.compile(returns)
    for k in range(5):
        got = compiled(x_of(k))
        assert type(got) is float
        assert got == pytest.approx(returns(x_of(k)), rel=1e-12)
    assert compiled.reason is None

    def keeps(x: Any) -> Any:
        loss = (x * w).sum()
        seen.append(loss.item())
        return loss

    assert "did not return it" in runs_as_it_is(keeps, *[(x_of(k),) for k in range(3)])
    assert len(seen) == 3

    def branches(x: Any) -> Any:
        loss = (x * w).sum()
        if loss.item() > 0:
            loss = loss * 2
        return loss

    assert "could not tell which way to go" in runs_as_it_is(branches, (x_of(0),), (x_of(1),))

    def plain(x: Any) -> Any:
        return (x * w * np.mean(unseen((x * w).data))).sum()

    assert "a constant changed" in runs_as_it_is(plain, *[(x_of(k),) for k in range(12)])

    def alias(x: Any) -> Any:
        return ASARRAY(x) * w

    assert "by the name ASARRAY" in runs_as_it_is(alias, (x_of(0),), (x_of(1),))


def test_arrays_that_python_takes_are_computed_with() -> None:
    w = weight(3)

    def accuracy(x: Any, t: Any) -> Any:
        z = x[:, None] * w
        return z.data, (z.data.argmax(axis=1) == t).mean(), np.asarray(z.data)[0]

    def branches(x: Any, t: Any) -> Any:
        x = np.array(x, dtype=np.float32)
        return x * 2 if np.asarray(x).max() > 1 else np.asanyarray(x).T + np.ascontiguousarray(t)

    for step in (accuracy, branches):
        compiled = tg.compile(step)
        for k in range(12):
            args = x_of(k, 8), np.arange(8) % 3
            got, expected = compiled(*args), step(*args)
            for a, b in zip(got, expected):
                assert type(a) is type(b)
                np.testing.assert_allclose(a, b, rtol=1e-12)
        assert compiled.reason is None
    assert "2 variants" in repr(compiled)


def test_conversions_are_numpys_own_outside_of_logs() -> None:
    before = {name: getattr(np, name) for name in CONVERSIONS.originals}
    seen = []

    def step(x: Any) -> Any:
        seen.append(not hasattr(np.asarray, "__wrapped__"))
        if len(seen) == 3:
            raise ValueError("of the user's")
        thread = Thread(target=lambda: seen.append(type(np.asarray(x)) is np.ndarray))
        thread.start()
        thread.join()
        return np.asarray([1.0, 2.0]) + np.array(x, ndmin=1)

    compiled = tg.compile(step, warn=False)
    compiled(np.ones(2))
    with pytest.raises(ValueError, match="of the user's"):
        compiled(np.ones(2))
    assert seen == [True, True, False]
    assert compiled(np.ones(2)).tolist() == [2.0, 3.0]
    assert seen[-1]
    assert {name: getattr(np, name) for name in before} == before


@pytest.mark.parametrize(
    ("before", "after"), [("i8", "i4"), ("?", "i8"), ("f8", "i8"), ("u1", "f4"), ("f8", "?")]
)
def test_integers_of_arguments_are_recorded(before: str, after: str) -> None:
    compiled = tg.compile(lambda x, w: (x.astype(after) + 1, tg.Tensor(x).astype(after) + w))
    for k in range(8):
        x = np.random.default_rng(k).integers(0, 2, 5).astype(before)
        first, second = compiled(x, np.int64(1))
        assert first.tolist() == (x.astype(after) + 1).tolist()
        assert second.data.tolist() == (x.astype(after) + 1).tolist()
    assert compiled.reason is None


def test_rows_of_an_identity_are_labels() -> None:
    w = weight(3)

    def step(x: Any, t: Any) -> Any:
        y = np.eye(3, dtype=x.dtype)[t]
        return ((x[:, None] * w - y) ** 2).mean() + np.eye(3).sum()

    compiled = tg.compile(step)
    for k in range(12):
        x, t = x_of(k, 8), np.random.default_rng(k).integers(0, 3, 8)
        assert compiled(x, t).item() == pytest.approx(step(x, t).item(), rel=1e-12)
    assert compiled.reason is None


def test_a_function_that_stands_for_numpys_stays(monkeypatch: Any) -> None:
    def asarray(a: Any, dtype: Any = None) -> Any:
        return np.array(a, dtype)

    monkeypatch.setattr(np, "asarray", asarray)
    compiled = tg.compile(lambda x: np.asarray(x) * 2)
    for _ in range(4):
        assert compiled(np.ones(2)).tolist() == [2.0, 2.0]
        assert np.asarray is asarray


def lists(x: Any) -> Any:
    return np.array([x.mean(), x.max()])


def rounds(x: Any) -> Any:
    return round(x.mean(), 2)


@pytest.mark.parametrize(("step", "reason"), [(lists, "np.stack"), (rounds, "calls .__round__()")])
def test_numbers_of_numpys_are_numbers_in_python(step: Any, reason: str) -> None:
    assert reason in runs_as_it_is(step, (x_of(0),), (x_of(1),))
    compiled = tg.compile(step, warn=False)
    for k in range(3):
        assert np.array_equal(compiled(x_of(k)), step(x_of(k)))


def test_what_cannot_be_replayed_says_why() -> None:
    w = weight(3)

    def hook(x: Any) -> Any:
        w.grad = None
        y = x * w
        y.register_hook(lambda g: g * 2)
        loss = y.sum()
        loss.backward()
        return loss

    assert "a hook" in runs_as_it_is(hook, (x_of(0),), (x_of(1),))

    def adds(x: Any) -> Any:
        loss = (x * w).sum()
        loss.backward()
        return loss

    assert "zero_grad()" in runs_as_it_is(adds, (x_of(0),), (x_of(1),))

    def by_hand(x: Any) -> Any:
        w.grad = None
        loss = (x * w).sum()
        loss.backward()
        w.data = unseen(w.data) - 0.1 * unseen(w.grad)
        return loss

    calls = [(x_of(k),) for k in range(8)]
    assert "set to an array that Python computed" in runs_as_it_is(by_hand, *calls)

    def sets_gradient(x: Any) -> Any:
        w.grad = None
        loss = (x * w).sum()
        loss.backward()
        w.grad = unseen(w.grad) * 2
        return loss

    assert "gradient of 'w' was set" in runs_as_it_is(sets_gradient, (x_of(0),), (x_of(1),))

    def writes(x: Any) -> Any:
        x[0] = 1.0
        return (x * w).sum()

    assert "writes into an array it was given" in runs_as_it_is(writes, (x_of(0),), (x_of(1),))

    def masks(x: Any) -> Any:
        return (x * w)[x > 0].sum()

    assert "depends on values" in runs_as_it_is(masks, (x_of(0),), (x_of(1),))


def test_an_update_past_the_tensors_is_found_by_the_rehearsal() -> None:
    w = weight(3)

    def step(x: Any) -> Any:
        w.grad = None
        loss = ((x * w) ** 2).sum()
        loss.backward()
        w.node.value[...] -= 0.1 * w.node.grad  # unseen by any record
        return loss

    reason = runs_as_it_is(step, *[(x_of(k),) for k in range(12)])
    assert "a replay does not do the same" in reason


def test_a_number_that_changes_is_found_by_the_rehearsal() -> None:
    w = weight(3)

    def step(x: Any) -> Any:
        return (x * w).sum() * 1.0 + time.perf_counter() * 1e-9

    assert "a constant changed" in runs_as_it_is(step, *[(x_of(k),) for k in range(12)])


def test_numbers_around_the_step_count_as_arguments() -> None:
    w = weight(3)
    rate = 1.0

    def step(x: Any) -> Any:
        return (x * w).sum() * rate

    compiled = tg.compile(step)
    for rate in (1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 1.0):  # noqa: B007  # the step reads it
        assert compiled(x_of(1)).item() == step(x_of(1)).item()


def test_numbers_beside_arrays_are_compared_in_every_call() -> None:
    compiled = tg.compile(lambda x, k, y=None: {"sum": x * k + (0 if y is None else y)})
    one, two = np.ones(2), np.full(2, 2.0)
    for _ in range(4):
        assert compiled(one, 2.0)["sum"].tolist() == [2.0, 2.0]
    assert compiled._fast is not None
    assert compiled._fast(one, compiled) is MISS
    assert compiled(two, float("2.0"))["sum"].tolist() == [4.0, 4.0]
    assert compiled(one, 3.0)["sum"].tolist() == [3.0, 3.0]
    assert compiled(one, 2.0, two)["sum"].tolist() == [4.0, 4.0]
    assert compiled(one, 2.0, None)["sum"].tolist() == [2.0, 2.0]
    assert compiled(two, 2)["sum"].tolist() == [4.0, 4.0]


def penalty(x: Any, w: tg.Tensor) -> Any:
    leaf = tg.Tensor(x, requires_grad=True)
    loss = tg.exp((leaf * w).sum())
    (g,) = tg.gradients(loss, [leaf], create_graph=True)
    (loss + (g * g).sum()).backward()
    return loss


def saliency(x: Any, w: tg.Tensor) -> Any:
    leaf = tg.Tensor(x, requires_grad=True)
    for _ in range(2):
        tg.exp((leaf * w).sum()).backward()
    return leaf.grad


def cut_in_two(x: Any, w: tg.Tensor) -> Any:
    h = tg.exp(x * w).detach()
    h.requires_grad = True
    (h * w).sum().backward()
    return h.grad


def probe(x: Any, w: tg.Tensor) -> Any:
    zeros = tg.Tensor(np.zeros(3), requires_grad=True)
    ((zeros + x) * w).sum().backward()
    return zeros.grad


@pytest.mark.parametrize("kind", [penalty, saliency, cut_in_two, probe])
def test_leaves_that_the_step_makes(kind: Any) -> None:
    w, twin = weight(3), weight(3)

    def step(x: Any, w: tg.Tensor = w) -> Any:
        w.grad = None
        return kind(x, w)

    compiled = tg.compile(step)
    for k in range(8):
        got, expected = compiled(x_of(k)), step(x_of(k), twin)
        np.testing.assert_allclose(*map(plain, (got, expected)), rtol=1e-12)
        np.testing.assert_allclose(w.grad, twin.grad, rtol=1e-12)
    assert compiled.reason is None
    assert "1 variants" in repr(compiled)


@pytest.mark.parametrize("cleared", ["inside", "outside", "never"])
def test_a_leaf_that_is_made_once_and_kept_out_of_sight(cleared: str) -> None:
    w, box = weight(3), SimpleNamespace()

    def step(x: Any) -> Any:
        leaf = vars(box).get("leaf", w)
        if leaf is w and vars(box).get("begun"):
            vars(box)["leaf"] = leaf = weight(3)
        vars(box)["begun"] = True
        w.grad = None
        if cleared == "inside":
            leaf.grad = None
        loss = (x * leaf * w).sum()
        loss.backward()
        return loss

    compiled = tg.compile(step, warn=False)
    total = np.zeros(3)
    for k in range(8):
        compiled(x_of(k))
        if k > 0:
            total = x_of(k) * w.data + (total if cleared == "never" else 0)
            np.testing.assert_allclose(vars(box)["leaf"].grad, total, rtol=1e-12)
            if cleared == "outside":
                vars(box)["leaf"].grad = None
    assert (compiled.reason is None) == (cleared != "never")


def test_a_variable_that_is_gone_is_missed_as_before() -> None:
    space: dict[str, Any] = {"factor": 2.0}
    exec("def step(x):\n    return x * factor", space)
    compiled = tg.compile(space["step"])
    for _ in range(4):
        assert compiled(np.ones(2)).tolist() == [2.0, 2.0]
    del space["factor"]
    with pytest.raises(NameError, match="factor"):
        compiled(np.ones(2))
    space["factor"] = 3.0
    assert compiled(np.ones(2)).tolist() == [3.0, 3.0]


def test_equal_numbers_in_a_list_are_the_same_numbers() -> None:
    rates = [0.5, 2.0]
    compiled = tg.compile(lambda x: x * rates[0] * rates[1])
    for _ in range(4):
        compiled(np.ones(2))
    rates[1] = float("2.0")  # another object
    for _ in range(2):
        assert compiled(np.ones(2)).tolist() == [1.0, 1.0]
    assert compiled._same()
    assert "1 variants" in repr(compiled)
    rates[1] = 3.0
    assert compiled(np.ones(2)).tolist() == [1.5, 1.5]


def test_other_arguments_are_other_programs() -> None:
    w = weight(3)

    def step(x: Any, power: int = 2, *, scale: float = 1.0) -> Any:
        return {"y": [(scale * (x["a"] * w) ** power).sum()], "n": len(x["a"])}

    compiled = tg.compile(step)
    for k in range(4):
        for options in ({}, {"power": 3}, {"scale": 0.5}):
            got, expected = compiled({"a": x_of(k)}, **options), step({"a": x_of(k)}, **options)
            assert got["y"][0].item() == pytest.approx(expected["y"][0].item(), rel=1e-12)
            assert got["n"] == 3
    for dtype in (np.float32, np.float64, np.int64):
        for _ in range(4):
            assert (
                compiled({"a": np.arange(3).astype(dtype)})["y"][0].dtype
                == step({"a": np.arange(3).astype(dtype)})["y"][0].dtype
            )


def test_views_and_other_layouts_are_read_rightly() -> None:
    w = weight(3)
    compiled = tg.compile(lambda x: (x * w).sum(axis=0))
    block = np.random.default_rng(0).normal(size=(8, 6))
    for x in (
        block[:4, :3],
        block[4:, 3:],
        block.T[:4, :3],
        block[::2, ::2],
        np.asfortranarray(block[:4, :3]),
    ) * 4:
        np.testing.assert_allclose(compiled(x).data, (x * w.data).sum(axis=0), rtol=1e-12)


def test_nothing_that_the_user_holds_is_overwritten() -> None:
    model = nn.Sequential(nn.Dense(3, 4, activation="relu", rng=0), nn.Dense(4, 2, rng=1))
    optimizer = nn.SGD(model.parameters(), lr=0.1)

    @tg.compile
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        y = model(x)
        loss = (y**2).mean()
        loss.backward()
        optimizer.step()
        return loss, y

    held, copies = [], []
    for k in range(8):
        x = np.random.default_rng(k).normal(size=(5, 3)).astype(np.float32)
        given = x.copy()
        loss, y = step(x)
        grads = [p.grad for p in model.parameters()]
        held.append([loss.data, y.data, *grads])
        copies.append([one.copy() for one in held[-1]])
        np.testing.assert_array_equal(x, given)
    for one, copy in zip(held, copies):
        for a, b in zip(one, copy):
            np.testing.assert_array_equal(a, b)
    y.data[...] = 0  # and what is returned may be written into
    np.testing.assert_array_equal(model.parameters()[0].grad, copies[-1][2])


def test_gradients_left_in_place_behave_as_gradients() -> None:
    w = weight(3)

    @tg.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = ((x * w) ** 2).sum()
        loss.backward()
        return loss

    for k in range(5):
        step(x_of(k))
    expected = 2 * x_of(4) ** 2 * w.data
    (w * 1.0).sum().backward()  # an eager pass adds to it
    np.testing.assert_allclose(w.grad, expected + 1, rtol=1e-12)
    step(x_of(5))
    first = w.grad
    step(x_of(6))
    np.testing.assert_allclose(first, 2 * x_of(5) ** 2 * w.data, rtol=1e-12)
    assert w.grad is not first


def test_a_stale_graph_is_refused_after_a_compiled_update() -> None:
    model = nn.Dense(3, 1, rng=0)
    optimizer = nn.SGD(model.parameters(), lr=0.1)

    @tg.compile
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    x = np.ones((4, 3), np.float32)
    for _ in range(4):
        step(x)
    loss = (model(tg.Tensor(x, requires_grad=True)) ** 2).mean()
    step(x)
    with pytest.raises(tg.TensorError, match="was changed after"):
        loss.backward()


def test_transforms_are_compiled_too() -> None:
    f = lambda x: np.sum(np.sin(x) * x)
    for transform in (tg.grad, tg.value_and_grad, tg.hessian, tg.jacobian):
        made = transform(f)
        compiled = tg.compile(made)
        for k in range(5):
            for a, b in zip(tg.tree.leaves(compiled(x_of(k))), tg.tree.leaves(made(x_of(k)))):
                np.testing.assert_allclose(a, b, rtol=1e-12)
                assert type(a) is type(b)
        assert compiled.reason is None, transform


def test_numpy_on_arguments_is_recorded() -> None:
    w = weight(3)

    def step(x: Any, t: Any) -> Any:
        x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-3)
        x = np.concatenate([x[:, :1], np.maximum(x[:, 1:], 0)], axis=1).astype(np.float64)
        mask = (t[:, None] == np.arange(3)).astype(float)
        return ((x * w - mask) ** 2).mean()

    compiled = tg.compile(step)
    for k in range(5):
        rng = np.random.default_rng(k)
        x, t = rng.normal(size=(6, 3)), rng.integers(3, size=6)
        assert compiled(x, t).item() == pytest.approx(step(x, t).item(), rel=1e-12)
    assert compiled.reason is None


def test_labels_are_checked_as_before() -> None:
    model = nn.Dense(3, 4, rng=0)
    loss = nn.SoftmaxCrossEntropy()
    step = tg.compile(lambda x, t: loss(model(x), t))
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    for _ in range(4):
        step(x, np.array([0, 1, 2, 3, 0, 1]))
    for bad in (4, -1):
        with pytest.raises(tg.TensorError, match="classes"):
            step(x, np.array([0, 1, 2, 3, 0, bad]))


def test_an_error_of_the_step_is_the_users() -> None:
    w = weight(3)

    @tg.compile
    def step(x: Any) -> Any:
        if (x * w).sum() > 1e9:
            raise ValueError("too large")
        return x * w

    for k in range(4):
        step(x_of(k))
    with pytest.raises(ValueError, match="too large"):
        step(1e30 * np.sign(w.data))
    np.testing.assert_allclose(step(x_of(9)).data, x_of(9) * w.data)


def test_on_arrays_and_each_time_are_replayed() -> None:
    w = weight(3)
    mean, count, seen = np.zeros(3), np.zeros(()), []

    def move(mean: Any, g: Any, count: Any) -> None:
        mean += g / count

    @tg.compile
    def step(x: Any) -> Any:
        w.grad = None
        loss = (x * w).sum()
        loss.backward()
        tg.each_time(lambda: (seen.append(1), count.__iadd__(1)))
        tg.on_arrays(move, mean, w.grad, count)
        return loss

    expected = np.zeros(3)
    for k in range(8):
        step(x_of(k))
        expected += x_of(k) / (k + 1)
    np.testing.assert_allclose(mean, expected, rtol=1e-12)
    assert len(seen) == 8


def test_array_code_that_branches_is_refused() -> None:
    w = weight(3)

    def clip(g: Any) -> Any:
        return g / 2 if g.max() > 0 else g

    def step(x: Any) -> Any:
        w.grad = None
        loss = (x * w).sum()
        loss.backward()
        return loss, tg.on_arrays(clip, w.grad)

    assert "clip is more than NumPy calls" in runs_as_it_is(step, (x_of(0),), (x_of(1),))


def test_source_before_there_is_one() -> None:
    step = tg.compile(lambda x: x)
    with pytest.raises(ArgumentError, match="there is no source yet"):
        step.source  # noqa: B018  # the property raises


def test_a_callable_object_keeps_its_attributes_to_itself() -> None:
    class Doubled:
        """Twice its step."""

        def __init__(self) -> None:
            self.step, self.warn, self.reason = (lambda x: x), "mine", "mine"

        def __call__(self, x: Any) -> Any:
            return 2 * self.step(x)

    compiled = tg.compile(Doubled())
    assert compiled.__doc__ == "Twice its step."
    for k in range(4):
        np.testing.assert_array_equal(compiled(x_of(k)), 2 * x_of(k))
    assert compiled.reason is None


def test_compile_wants_a_function() -> None:
    with pytest.raises(DtypeError, match="compile: expected a function, got int"):
        tg.compile(3)


def test_no_warning_where_none_is_wanted() -> None:
    w = weight(3)

    def step(x: Any) -> Any:
        return float((x * w).sum()) + 0.0

    compiled = tg.compile(step, warn=False)
    for k in range(4):
        compiled(x_of(k))
    assert compiled.reason is not None
    assert "runs as it is" not in repr(compiled) or compiled.reason in repr(compiled)


def test_a_step_that_never_sees_the_same_twice_is_given_up() -> None:
    w = weight(1)
    compiled = tg.compile(lambda x, k: (x * w).sum() * k, warn=False)
    for k in range(600):
        compiled(np.ones(1), k)
    assert "never twice the same" in str(compiled.reason)
    assert len(compiled._entries) <= 65
