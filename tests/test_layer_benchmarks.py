"""The benchmark of single layers runs, and notices a layer that is not PyTorch's."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import layers

ROOT = Path(__file__).parents[1]


def test_every_layer_agrees_with_pytorch():
    pytest.importorskip("torch")
    for name in layers.LAYERS:
        line = layers.measured(name, rounds=1, steps=1)
        assert line.startswith(name)
        assert len(line.split()) == len(name.split()) + 4


def test_another_result_stops_it(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(layers, "TOLERANCE", 1e-12)
    with pytest.raises(SystemExit, match=r"rnn, T 64, 64 to 128: differs from PyTorch by"):
        layers.measured("rnn, T 64, 64 to 128", rounds=1, steps=1)


def test_it_runs_as_a_command():
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "benchmarks.layers", "rnn", "--rounds", "1", "--steps", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    head, line = done.stdout.splitlines()
    assert head.split() == ["ours,", "ms", "PyTorch,", "ms", "ratio", "differ"]
    assert line.startswith("rnn, T 64, 64 to 128 ")
