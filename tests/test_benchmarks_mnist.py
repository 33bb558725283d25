"""The trainings that are timed beside ours on MNIST are the same training."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import nn
import tinygrad_np as tg
from benchmarks.mnist_epoch import Columns, compare, contenders, data, first_weights


@pytest.fixture(scope="module")
def rows():
    def absent(**options):
        raise FileNotFoundError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.datasets, "mnist", absent)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield data()


def test_without_the_files_there_are_rows_of_the_same_size(rows):
    kind, (x, y), (x_test, y_test) = rows
    assert kind.startswith("synthetic")
    assert (x.shape, y.shape, x.dtype) == ((60_000, 784), (60_000,), np.float32)
    assert (x_test.shape, y_test.shape) == ((10_000, 784), (10_000,))
    assert 0 <= x.min() <= x.max() <= 1


def test_the_hand_written_network_has_the_right_loss_and_steps(rows):
    _, (x, y), _ = rows
    x, y = x[:128].astype(np.float64), y[:128]
    network = Columns(784)
    p = network.forward(x)
    gradients = network.gradients(np.eye(10)[y], p)
    W1, W2 = (tg.Tensor(W, requires_grad=True) for W in first_weights(784))
    b1, b2 = (tg.Tensor(np.zeros(n), requires_grad=True) for n in (64, 10))
    z = tg.sigmoid(x @ W1 + b1) @ W2 + b2
    tg.softmax_cross_entropy(z, y).backward()
    np.testing.assert_allclose(p.T, tg.softmax(z.data), rtol=1e-12)
    for name, tensor in (("W1", W1), ("b1", b1), ("W2", W2), ("b2", b2)):
        found = gradients[name].T.reshape(tensor.shape)
        np.testing.assert_allclose(found, tensor.grad, rtol=1e-9, atol=1e-14)
    network.step(gradients, lr=4, beta=0.9)
    np.testing.assert_allclose(network.W1.T, W1.data - 0.4 * W1.grad, rtol=1e-12)


@pytest.mark.parametrize("adam", [False, True])
def test_all_contenders_learn_the_same(rows, adam, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    _, (x, y), (x_test, y_test) = rows
    trainings = contenders(x[:2000], y[:2000], adam)
    assert len(trainings) == 6 - adam
    compare(trainings, (x_test, y_test), rounds=1, epochs=2)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["cpu", "ms/epoch", "ours/", "wall", "ms/epoch", "ours/", "accuracy"]
    assert [line[:23].strip() for line in lines] == list(trainings)
    assert lines[0].split()[2] == "1.00"


def test_another_training_is_noticed(rows):
    test = rows[2]
    right = {
        "ours": lambda epochs: lambda x: test[1],
        "other": lambda epochs: lambda x: 0 * test[1],
    }
    with pytest.raises(SystemExit, match="this is not one training"):
        compare(right, test, rounds=1, epochs=1)


def test_who_is_not_installed_is_named_and_skipped(rows, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = contenders(*rows[1], adam=True)
    assert "PyTorch" not in found
    assert "PyTorch: skipped, torch is not installed" in capsys.readouterr().out


def test_the_estimators_are_compared_and_one_that_is_worse_is_noticed(rows, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    from benchmarks.sklearn import compare

    training, test = ([part[:1000] for part in some] for some in rows[1:])
    compare("random rows", training, test, rounds=1, options={"max_iter": 3})
    _, title, head, *lines = capsys.readouterr().out.splitlines()
    assert title == "random rows"
    assert head.split() == ["cpu", "s", "/scikit-learn", "epochs", "loss", "accuracy"]
    assert [line[:21].strip() for line in lines] == ["scikit-learn", "ours", "ours, dtype=float64"]
    assert lines[0].split()[2:4] == ["1.00", "3"]
    losses = [line.split()[-2] for line in lines]
    assert losses[0] == losses[1] == losses[2]
    monkeypatch.setattr("nn.sklearn.MLPClassifier.score", lambda self, X, y: 0.5)
    with pytest.raises(SystemExit, match="ours: the accuracy is not that of scikit-learn"):
        compare("random rows", training, test, rounds=1, options={"max_iter": 1})
