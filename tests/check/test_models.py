"""What may be checked: functions of all shapes, models, loops, code that fills arrays in place."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_np as tg
from tinygrad_np.errors import ArgumentError

RNG = np.random.default_rng(0)
X, T, Y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 3)), RNG.integers(0, 3, 6)


def weights():
    rng = np.random.default_rng(1)
    return {"W1": rng.normal(size=(4, 5)), "b1": rng.normal(size=5), "W2": rng.normal(size=(5, 3)),
            "b2": rng.normal(size=3)}  # fmt: skip


class TwoLayerNet:
    """As in the course: ``params``, and ``loss`` that returns the gradients too."""

    def __init__(self, factor=1.0):
        self.params, self.factor = weights(), factor

    def loss(self, X, y=None):
        W1, b1, W2, b2 = (self.params[k] for k in ("W1", "b1", "W2", "b2"))
        N = X.shape[0]
        hidden = np.maximum(0, X.dot(W1) + b1)
        scores = hidden.dot(W2) + b2
        if y is None:
            return scores
        shifted = scores - np.max(scores, axis=1, keepdims=True)
        probs = np.exp(shifted) / np.sum(np.exp(shifted), axis=1, keepdims=True)
        loss = -np.sum(np.log(probs[np.arange(N), y])) / N
        print("loss", loss)
        dscores = probs
        dscores[np.arange(N), y] -= 1
        dscores /= N
        grads = {}
        grads["W2"] = self.factor * np.dot(hidden.T, dscores)
        grads["b2"] = np.sum(dscores, axis=0)
        dhidden = np.dot(dscores, W2.T)
        dhidden[hidden <= 0] = 0
        grads["W1"] = np.dot(X.T, dhidden)
        grads["b1"] = np.sum(dhidden, axis=0)
        return float(loss), grads


class Layered:
    """``forward`` and ``backward`` with a cache, gradients as attributes."""

    def __init__(self, sign=1.0):
        for name, value in weights().items():
            setattr(self, name, value)
        self.cache, self.sign = {}, sign

    def forward(self, x):
        z1 = x @ self.W1 + self.b1
        a1 = np.tanh(z1)
        out = a1 @ self.W2 + self.b2
        self.cache = {"x": x, "z1": z1, "a1": a1, "out": out}
        return out

    def loss(self, out, t):
        return np.mean((out - t) ** 2)

    def backward(self, t):
        dout = 2 * (self.cache["out"] - t) / t.size
        self.dW2 = self.cache["a1"].T @ dout
        self.db2 = dout.sum(axis=0)
        da1 = dout @ self.W2.T
        dz1 = self.sign * da1 * (1 - self.cache["a1"] ** 2)
        self.dW1 = self.cache["x"].T @ dz1
        self.db1 = dz1.sum(axis=0)


class Dense:
    def __init__(self, m, n, seed):
        rng = np.random.default_rng(seed)
        self.W, self.b = rng.normal(size=(m, n)), np.zeros(n)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW = self.x.T @ dout
        self.db = dout.sum(axis=0)
        return dout @ self.W.T


class Stack:
    """Layers as objects; ``forward`` returns the loss."""

    def __init__(self, transposed=False):
        self.layers, self.transposed = [Dense(4, 4, 0), Dense(4, 4, 1)], transposed

    def forward(self, x, t):
        for layer in self.layers:
            x = layer.forward(x)
        self.out = x
        return 0.5 * np.sum((x - t) ** 2)

    def backward(self, x, t):
        g = self.out - t
        for layer in reversed(self.layers):
            g = layer.backward(g)
        if self.transposed:
            self.layers[1].dW = self.layers[1].dW.T


def test_a_model_whose_loss_returns_the_gradients(capsys):
    assert tg.check_backprop(TwoLayerNet(), None, X, Y).ok
    report = tg.check_backprop(TwoLayerNet(factor=2.0), None, X, Y)
    assert report.first_wrong == "W2"
    assert report["W2"].diagnoses[0].kind == "factor"
    model = TwoLayerNet(factor=2.0)
    assert tg.check_backprop(model.loss, None, X, Y).first_wrong == "W2"
    assert {id(a) for a in model.params.values()} == {id(a) for a in model.params.values()}
    assert "loss" in capsys.readouterr().out


def test_a_model_with_forward_and_backward():
    report = tg.check_backprop(Layered(), None, X, T)
    assert report.ok, str(report)
    assert {one.name for one in report.findings} == {"out", "W2", "b2", "a1", "z1", "W1", "b1"}
    report = tg.check_backprop(Layered(sign=-1.0), None, X, T)
    assert (report.first_wrong, report["z1"].diagnoses[0].kind) == ("z1", "sign")
    assert "dz1 = self.sign * da1" in report["z1"].place


def test_layers_as_objects():
    x, t = RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))
    report = tg.check_backprop(Stack(), None, x, t)
    assert report.ok, str(report)
    report = tg.check_backprop(Stack(transposed=True), None, x, t)
    assert report.first_wrong == "layers[1].W"
    assert report["layers[1].W"].diagnoses[0].kind == "transpose"


def test_a_step_that_is_given_a_model():
    def step(model, x, t):
        loss = model.loss(model.forward(x), t)
        model.backward(t)
        return loss, {"W1": model.dW1, "b1": model.db1, "W2": model.dW2, "b2": model.db2}

    assert tg.check_backprop(step, Layered(), X, T).ok
    assert tg.check_backprop(step, Layered(-1.0), X, T).first_wrong == "z1"


def linear(params, x, t, returns):
    w, b = returns.unpack(params)
    y = x @ w + b
    loss = np.mean((y - t) ** 2)
    dy = 2 * (y - t) / len(t)
    return returns.make(loss, x.T @ dy, np.sum(dy))


@pytest.mark.parametrize(("params", "unpack", "make"), [
    ({"w": X[0], "b": 0.5}, lambda p: (p["w"], p["b"]), lambda loss, dw, db: (loss, {"dw": dw, "db": db})),
    ({"w": X[0], "b": 0.5}, lambda p: (p["w"], p["b"]), lambda loss, dw, db: ({"dw": dw, "db": db}, loss)),
    ([X[0], np.array(0.5)], lambda p: p, lambda loss, dw, db: (loss, [dw, db])),
    ((X[0], 0.5), lambda p: p, lambda loss, dw, db: (loss, (dw, db))),
    ((X[0], 0.5), lambda p: p, lambda loss, dw, db: (loss, dw, db)),
    (SimpleNamespace(w=X[0], b=0.5), lambda p: (p.w, p.b), lambda loss, dw, db: (loss, {"w": dw, "b": db})),
    ({"w": X[0], "b": 0.5, "rate": 0.1}, lambda p: (p["w"], p["b"]),
     lambda loss, dw, db: (loss, {"w_grad": dw, "b_grad": db})),
])  # fmt: skip
def test_parameters_and_gradients_in_any_form(params, unpack, make):
    returns = SimpleNamespace(unpack=unpack, make=make)
    report = tg.check_backprop(lambda p, x, t: linear(p, x, t, returns), params, X, T[:, 0])
    assert report.ok, str(report)
    assert "y" in {one.name for one in report.findings}


def test_gradients_in_another_order_than_the_parameters():
    def f(params, x, t):
        W1, W2 = params
        h = np.tanh(x @ W1)
        y = h @ W2
        dy = (y - t) / len(x)
        dW2 = h.T @ dy
        dh = dy @ W2.T
        dz = dh * (1 - h * h)
        dW1 = x.T @ dz
        return 0.5 * np.sum((y - t) ** 2) / len(x), [dW2, dW1]

    params = [RNG.normal(size=(4, 4)), RNG.normal(size=(4, 3))]
    report = tg.check_backprop(f, params, X, T)
    assert report.ok, str(report)
    assert any("not returned in the order" in note for note in report.notes)


def test_a_convolution_by_loops_that_fills_arrays():
    def f(params, x, t):
        w, b = params["w"], params["b"]
        N, L = x.shape
        out = np.zeros((N, L - 2))
        for n in range(N):
            for i in range(L - 2):
                out[n, i] = np.sum(x[n, i : i + 3] * w) + b
        loss = 0.5 * np.sum((out - t) ** 2)
        dout = out - t
        dw = np.zeros(3)
        db = 0.0
        for n in range(N):
            for i in range(L - 2):
                dw += dout[n, i] * x[n, i + shift : i + 3 + shift]
                db += dout[n, i]
        return loss, {"w": dw, "b": db}

    x, t = RNG.normal(size=(3, 7)), RNG.normal(size=(3, 5))
    params = {"w": RNG.normal(size=3), "b": np.array(0.1)}
    shift = 0
    report = tg.check_backprop(f, params, x, t)
    assert report.ok, str(report)
    assert "out" in [one.name for one in report.findings]
    assert not any("finite differences" in note for note in report.notes)


def test_samples_one_by_one_with_outer_products():
    def f(params, x, t):
        W, b = params["W"], params["b"]
        loss = 0.0
        dW, db = np.zeros_like(W), np.zeros_like(b)
        for n in range(len(x)):
            z = W @ x[n] + b
            a = 1 / (1 + np.exp(-z))
            loss += 0.5 * np.sum((a - t[n]) ** 2)
            dz = (a - t[n]) * a * (1 - a)
            dW += factor * np.outer(dz, x[n])
            db += dz
        return loss, {"W": dW, "b": db}

    params = {"W": RNG.normal(size=(3, 4)), "b": RNG.normal(size=3)}
    factor = 1
    report = tg.check_backprop(f, params, X, T)
    assert report.ok, str(report)
    factor = -1
    report = tg.check_backprop(f, params, X, T)
    assert (report.first_wrong, report["W"].diagnoses[0].kind) == ("W", "sign")
    assert "z[0..5]" in str(report)


def test_random_masks_of_numpys_global_generator():
    def f(params, x, t):
        h = np.tanh(x @ params["W1"])
        mask = (np.random.rand(*h.shape) < 0.7) / 0.7  # noqa: NPY002 - as in much published code
        d = h * mask
        y = d @ params["W2"]
        dy = (y - t) / len(x)
        dd = dy @ params["W2"].T
        dh = dd * mask if applied else dd
        dz = dh * (1 - h**2)
        return 0.5 * np.sum((y - t) ** 2) / len(x), {"W1": x.T @ dz, "W2": d.T @ dy}

    params = {"W1": RNG.normal(size=(4, 5)), "W2": RNG.normal(size=(5, 3))}
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    applied = True
    assert tg.check_backprop(f, params, X, T).ok
    applied = False
    report = tg.check_backprop(f, params, X, T)
    assert report["h"].diagnoses[0].kind == "mask_not_applied"
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_a_cache_that_is_never_cleared():
    class Stale:
        def __init__(self):
            self.W1, self.W2, self.kept = weights()["W1"], weights()["W2"], []

        def loss(self, x, t):
            h = np.tanh(x @ self.W1)
            self.kept.append(h)
            y = h @ self.W2
            dy = (y - t) / len(x)
            dW2 = self.kept[0].T @ dy
            dz = dy @ self.W2.T * (1 - h**2)
            return 0.5 * np.sum((y - t) ** 2) / len(x), {"W1": x.T @ dz, "W2": dW2}

    report = tg.check_backprop(Stale(), None, X, T)
    assert (report.first_wrong, report["W2"].diagnoses[0].kind) == ("W2", "stale_cache")
    assert "not of this forward pass" in report["W2"].diagnoses[0].text


def test_what_the_function_overwrites_is_said():
    def f(params, x, t):
        w = params["w"]
        x -= x.mean(axis=0)
        y = x @ w
        loss = np.sum((y - t) ** 2)
        y -= t
        return loss, {"w": 2 * x.T @ y}

    report = tg.check_backprop(f, {"w": X[0].copy()}, X.copy(), T[:, 0].copy())
    assert report.ok, str(report)
    text = " ".join(report.notes)
    assert "argument 1 of the data" in text
    assert "y is overwritten in place" in text


def test_where_numbers_leave_the_tensors():
    def f(params, x):
        w = params["w"]
        size = float(np.sum(w * w))
        return np.sum(x * w) + size, {"w": x + 2 * w}

    report = tg.check_backprop(f, {"w": np.arange(3.0)}, np.ones(3))
    assert report.ok
    assert "size = float(np.sum(w * w))" in str(report)


def wrong(params, x, t):
    z = x @ params["w"]
    dz = -(z - t) / len(x)
    return 0.5 * np.mean((z - t) ** 2), {"w": x.T @ dz}


def test_hints_give_away_no_more_than_they_say():
    arguments = {"w": X[0]}, X, T[:, 0]
    one, two, three = (tg.check_backprop(wrong, *arguments, hints=h) for h in (1, 2, 3))
    assert one.first_wrong == two.first_wrong == three.first_wrong == "z"
    assert "sign" not in str(one) + json.dumps(one.to_dict()) + one._repr_html_()
    assert "sign" in str(two)
    assert "dz = " not in json.dumps(two.to_dict()["findings"][0]["diagnoses"])
    assert "should read  dz" in str(three)
    assert "line" not in str(two["z"].diagnoses[0].fix)
    with pytest.raises(ArgumentError, match="hints=1, 2 or 3"):
        tg.check_backprop(wrong, *arguments, hints=4)


def test_the_report_in_a_notebook_and_as_a_picture():
    report = tg.check_backprop(wrong, {"w": X[0]}, X, T[:, 0])
    page = report._repr_html_()
    assert page.count("<tr>") == 4
    assert "should read <code>dz = " in page
    dot = report.draw()
    assert "wrong" in dot.dot
    assert "follows" in dot.dot


def test_assert_backprop():
    tg.assert_backprop(TwoLayerNet(), None, X, Y)
    with pytest.raises(AssertionError, match=r"WRONG, first in the gradient of z(.|\n)*sign"):
        tg.assert_backprop(wrong, {"w": X[0]}, X, T[:, 0])


FILE = """
import numpy as np
from helpers import data
def right(params, x, t):
    z = x @ params["w"]
    dz = (z - t) / len(x)
    return 0.5 * np.mean((z - t) ** 2), {"w": x.T @ dz}
def wrong(params, x, t):
    loss, grads = right(params, x, t)
    return loss, {"w": -grads["w"]}
def check_args():
    return {"w": np.ones(2)}, *data()
def others():
    return {"w": np.zeros(2)}, *data()
"""


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["right"], 0, "backprop: ok"),
    (["right", "--with", "others"], 0, "backprop: ok"),
    (["wrong"], 1, "first in the gradient of w"),
    (["wrong", "--json"], 1, '"first_wrong": "w"'),
    (["nothing"], 2, "has no 'nothing'"),
    (["right", "--with", "nothing"], 2, "has no 'nothing'"),
])  # fmt: skip
def test_the_command(tmp_path, request, arguments, status, said):
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "helpers.py").write_text(
        "import numpy as np\ndef data(): return np.eye(3)[:, :2], np.arange(3.0)\n"
    )
    name, *options = arguments
    command = [
        sys.executable,
        "-m",
        "tinygrad_np.check",
        f"{tmp_path / 'mine.py'}:{name}",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=request.config.rootpath)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr


def test_models_that_cannot_be_checked():
    with pytest.raises(ArgumentError, match="a function or a model, got the class TwoLayerNet"):
        tg.check_backprop(TwoLayerNet, None, X, Y)
    with pytest.raises(ArgumentError, match=r"Write: check_backprop\(model, None, X, y\)\."):
        tg.check_backprop(TwoLayerNet(), X, Y)  # what comes second are parameters
    with pytest.raises(ArgumentError, match="a function and its parameters, or a model"):
        tg.check_backprop(3, None, X)
    with pytest.raises(ArgumentError, match=r"expected params: floating-point arrays"):
        tg.check_backprop(wrong, {"w": np.arange(3)}, X)

    class Odd:
        def __init__(self):
            self.W = np.ones((4, 3))

        def forward(self, x):
            return x @ self.W

        def backward(self, x, t, foo, bar, baz):
            return None

    with pytest.raises(ArgumentError, match=r"know what .*Odd\.backward is to be given"):
        tg.check_backprop(Odd(), None, X, T)
