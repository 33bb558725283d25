"""Each example runs on its own, and prints the figures that its article does."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import nn

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = r"-?\d[\d,]*\.?\d*(?:e[+-]\d+)?"


@pytest.fixture
def run(tmp_path):
    """Run an example in an empty folder; what it printed, at most 80 columns wide."""

    def run(name, *options):
        command = [sys.executable, "-W", "error", ROOT / "examples" / name, *map(str, options)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
        return done.stdout

    return run


def table(text, columns, after=""):
    """The lines that hold this many numbers and nothing else, as an array."""
    lines = text[text.index(after) :].splitlines()
    rows = [line.replace(",", "").split() for line in lines]
    return np.array(
        [row for row in rows if len(row) == columns and all(re.fullmatch(NUMBER, n) for n in row)],
        float,
    )


def closing_comment(name):
    """What the example's last lines say that it printed."""
    source = (ROOT / "examples" / name).read_text()
    block = re.search(r"\n# Printed:\n#\n((?:#.*\n)+)\Z", source)
    assert block, f"{name} ends without a comment that says what it printed"
    return re.sub(r"(?m)^# ?", "", block[1])


def words(text):
    return re.sub(NUMBER, "0", text).split()


@pytest.mark.parametrize("name", [path.name for path in EXAMPLES])
def test_ends_with_what_it_printed(name):
    assert max(map(len, closing_comment(name).splitlines())) <= 80


def test_iris_stale_cache(run):
    text = run("iris_stale_cache.py", "--plot", "curves.png")
    published, reproduced, accuracy, error, ours = table(text, 7)[:, 1:6].T
    assert (reproduced == published).all()
    assert accuracy[-1] == 0.82
    assert error[0] < 1e-14
    assert error[1:].min() > 0.4
    assert ours.tolist() == [
        8.4074, 0.7996, 0.5940, 0.5409, 0.5135, 0.4917, 0.4579, 0.4396, 0.4238, 0.4089,
    ]  # fmt: skip
    assert "The loss rises 48 times with the first epoch's cache, 0 times without." in text
    assert re.search(r"  200 +0\.3943 +0\.92\n", text)
    assert "[9.99998315e-01 1.07470169e-06 6.10266912e-07]" in text
    assert "[-1.68496861e-06  1.07470169e-06  6.10266912e-07]" in text
    assert len(table(text, 6, after="4-6-8-3\n")) == 10
    assert words(closing_comment("iris_stale_cache.py")) == words(text)


def test_iris_keras_style(run, tmp_path):
    pytest.importorskip("matplotlib")
    text = run("iris_keras_style.py", "--plot", "curves.png")
    epoch, loss, accuracy = table(text, 3).T
    assert epoch[-1] == 30
    assert loss[-1] < 0.5 * loss[0]
    assert accuracy[-1] > accuracy[0]
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_sums_and_differences(run):
    text = run("sums_and_differences.py", "--epochs", 1000)
    assert "By formula 47 parameters, by counting 47, for 10,000 rows." in text
    found, closing = [
        table(printed, 5) for printed in (text, closing_comment("sums_and_differences.py"))
    ]
    assert found.shape == (20, 5)
    for start in (0, 10):  # the last of ten rows is the first of the run with ten times the epochs
        np.testing.assert_allclose(found[start + 9], closing[start], atol=2e-5)
    for losses in found, closing:
        training, test = losses[:, 1::2], losses[:, 2::2]
        np.testing.assert_allclose(test, training, rtol=0.15)
    predictions = table(text, 8)
    assert predictions.shape == (8, 8)
    a, b = predictions[:, :2].T
    np.testing.assert_array_equal(predictions[:, 2::2], np.stack([a + b, a - b, abs(a - b)], 1))


def test_predictions_of_sums_and_differences():
    inside = table(closing_comment("sums_and_differences.py"), 8, after="Another start")[:2]
    np.testing.assert_allclose(inside[:, 3::2], inside[:, 2::2], atol=1)


def test_digits_report(run):
    text = run("digits_report.py")
    for weights in "1.14858562 -0.43257711 -0.37347383", "-0.75870339  0.6119356  -1.62743362":
        assert weights in text
    blocks = table(text, 13)[:, 1:].reshape(10, 4, 3)
    published, steps, true, cross_entropy = blocks.transpose(1, 0, 2)
    # A sample more or less is what the order of a sum, so another BLAS, may change.
    np.testing.assert_allclose(steps, published, atol=0.0101)
    assert cross_entropy.min() >= 0.99
    assert true.min() == 0
    held_out = re.search(r"accuracy +(\S+) +449", text)
    assert float(held_out[1]) >= 0.95
    assert words(closing_comment("digits_report.py")) == words(text)


def test_batchnorm_by_hand(run):
    text = run("batchnorm_by_hand.py", "--steps", 300)
    right, forgotten = text.split("The way through the variance forgotten\n")
    verdicts = re.findall(rf"(?m)^(\w+) +d\w+ +(\w+) +{NUMBER} \d+: d", right)
    assert len(verdicts) == 26
    assert {verdict for _, verdict in verdicts} == {"right"}
    assert "backprop: ok\n" in right
    assert forgotten.startswith("backprop: WRONG, first in the gradient of bndiff\n")
    assert "bndiff: missing_path: " in forgotten
    before, after = re.search(rf"Loss ({NUMBER}); after 300 steps .* ({NUMBER})\n", text).groups()
    assert float(after) < float(before) - 0.5
    assert words(closing_comment("batchnorm_by_hand.py")) == words(text)


def test_mnist_three_layers_on_digits(run, tmp_path):
    pytest.importorskip("matplotlib")
    text = run(
        "mnist_three_layers.py", "--digits", "--epochs", 4, "--hidden", 32, 16, "--plot", "ten.png"
    )
    assert table(text, 7).shape == (4, 7)
    assert "sigmoid, momentum       64-32-16-10" in text
    assert (tmp_path / "ten.png").stat().st_size > 5_000


@pytest.mark.skipif(
    "TINYGRAD_NP_DATA" not in os.environ, reason="TINYGRAD_NP_DATA names no folder with MNIST"
)
def test_mnist_three_layers(run):
    text = run("mnist_three_layers.py", "--epochs", 1)
    ((_, *values),) = table(text, 11)
    sigmoid, ours, slope_one, our_slope_one, true = np.reshape(values, (5, 2))
    np.testing.assert_allclose(ours, sigmoid, atol=0.02)
    np.testing.assert_allclose(our_slope_one, slope_one, atol=0.02)
    assert true[0] < our_slope_one[0]


def test_main(run, tmp_path):
    pytest.importorskip("matplotlib")
    text = run("main.py", "--out", "pictures")
    assert float(re.search(r"accuracy +(\S+) +449", text)[1]) >= 0.95
    errors = re.findall(rf"(?m)^([Wb][12]) +\(.*\) +({NUMBER}) +({NUMBER})$", text)
    assert [name for name, *_ in errors] == ["W1", "b1", "W2", "b2"]
    for _, by_hand, differences in errors:
        assert float(by_hand) < 1e-13
        assert float(differences) < 1e-7
    for name in "graph.svg", "graph.png", "curves.png":
        assert str(Path("pictures", name)) in text
        assert (tmp_path / "pictures" / name).stat().st_size > 10_000
    shown = "".join(ElementTree.parse(tmp_path / "pictures" / "graph.svg").getroot().itertext())
    for name in "x @ W1 + b1", "np.maximum(z1, 0)", "h @ W2 + b2", "g * (z1 > 0)":
        assert name in shown.replace("\xa0", " ")


def test_sparse_evolution(run):
    pytest.importorskip("scipy")
    text = run("sparse_evolution.py", "--epochs", 2, "--neurons", 300, 3000)
    rows = re.findall(rf"(?m)^(dense|epsilon.*?) +({NUMBER}) +({NUMBER})% +({NUMBER}) +", text)
    assert rows[0][0].strip() == "dense"
    assert [float(share) for _, _, share, _ in rows] == [100, 2.1, 2.1, 0.6, 0.6]
    neurons, weights, _, _, memory, dense = table(text, 6).T
    np.testing.assert_array_equal(weights, 10 * neurons)
    np.testing.assert_allclose(dense, 4 * neurons**2 / 1e6, atol=0.5)
    assert memory[1] / memory[0] < 15  # ten times the weights, a hundred times the pairs
    assert words(closing_comment("sparse_evolution.py"))[:6] == words(text)[:6]


def test_digits_parallel_on_one_rank(run):
    text = run("digits_parallel.py", "--epochs", 20)
    (accuracy, size, _), (by_hand, same, _) = (
        map(float, line.split()[1:]) for line in text.splitlines()[2:]
    )
    assert accuracy == by_hand >= 0.94
    assert size == same
    assert text.startswith("Ranks: 1; 20 epochs of 1,348 rows in batches of 96\n")
    assert words(closing_comment("digits_parallel.py"))[: len(words(text))] == words(text)


def test_lenet_quick(run, tmp_path):
    pytest.importorskip("matplotlib")
    text = run("lenet.py", "--quick", "--plot", "lenet.png")
    assert "416,520 multiply-adds" in text
    assert "1,348 images to train on, 449 to test" in text
    assert float(re.search(r"Test accuracy (\S+) after 3 epochs", text)[1]) > 0.85
    assert (tmp_path / "lenet.png").stat().st_size > 10_000
    assert len(re.findall("times .* and .* were taken for each other", text)) == 3


def test_lenet_without_its_data_says_so_and_takes_the_digits(run, tmp_path):
    text = run("lenet.py", "--data", tmp_path, "--epochs", 1)
    assert "The images are not here, so these are the 8x8 digits, enlarged." in text
    assert "after 1 epochs\n" in text


def test_lenet_on_fashion_mnist(run):
    try:
        nn.datasets.fashion_mnist(download=False)
    except FileNotFoundError:
        pytest.skip("Fashion-MNIST is not on this computer")
    text = run("lenet.py", "--epochs", 1)
    assert "60,000 images to train on, 10,000 to test" in text
    assert float(re.search(r"Test accuracy (\S+) after", text)[1]) > 0.8


@pytest.mark.parametrize("name", ["lstm_text.py", "gpt.py"])
def test_writers_learn_from_the_first_steps_on(run, name):
    text = run(name, "--quick")
    *_, samples = text.split("Temperature 0.8\n")
    assert samples.splitlines()[1].startswith("The statement ")
    losses = table(text, 4)[:, 1]
    assert losses[-1] < losses[0]
    assert float(re.search(r"Test loss (\S+) nats a character", text)[1]) < np.log(103) - 1


def test_lenet_reached_what_it_should():
    text = closing_comment("lenet.py")
    assert float(re.search(r"Test accuracy (\S+) after 6 epochs", text)[1]) >= 0.89


def test_autoencoder_quick(run, tmp_path):
    pytest.importorskip("matplotlib")
    text = run("autoencoder.py", "--quick", "--plot", "digits.png")
    found = re.findall(r"(?m)^(the mean digit|principal components|autoencoder).* (0\.\d+)$", text)
    errors = {name: float(value) for name, value in found}
    assert errors["principal components"] == 0.0239
    assert errors["autoencoder"] < 0.5 * errors["the mean digit"]
    assert text.count("through 8 numbers") == 2
    assert (tmp_path / "digits.png").stat().st_size > 10_000
    last = re.search(r"(?m)^autoencoder +(\S+)$", closing_comment("autoencoder.py"))
    assert float(last[1]) < 0.5 * errors["principal components"]
