"""Gradients of a returned loss by central differences: where tensors cannot follow, and to be sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core import Node, Tensor, plain
from .calling import Outcome, Subject
from .findings import BackpropReport, Finding
from .matching import quantity_of
from .rules import Array, norm, run

SAMPLED = 40  # elements of a parameter that finite differences look at
Loss = Callable[[Sequence[Array]], float]


def is_gradient(node: Node, tensors: list[Tensor], arrays: list[Array], value: Loss) -> bool:
    """Whether the record's gradient is the slope of the returned loss, along one direction."""
    rng = np.random.default_rng(0)
    arrived = run(node, {}).arrived
    wide = [a.astype(float) for a in arrays]
    moves = [rng.uniform(0.5, 1.5, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in wide]
    pairs = [(arrived[t.node], v) for t, v in zip(tensors, moves) if t.node in arrived]
    slope = sum(float(np.vdot(g, v)) for g, v in pairs)
    size = sum(norm(g) * norm(v) for g, v in pairs)
    for h in (1e-5, 1e-4, 1e-3, 1e-6):
        up, down = (
            value([(a + s * h * v).astype(b.dtype) for a, v, b in zip(wide, moves, arrays)])
            for s in (1, -1)
        )
        rounding = np.finfo(arrays[0].dtype).eps * max(abs(up), abs(down)) / h
        # A comparison with nan is false: nan says nothing.
        if not abs((up - down) / (2 * h) - slope) > 20 * rounding + 1e-3 * size:
            return True
    return False


def by_differences(what: Subject, outcome: Outcome, notes: tuple[str, ...]) -> BackpropReport:
    """The returned gradients held against central differences of the loss at some elements."""
    labels, arrays = what.labels, what.arrays
    there, strange = {}, []
    for i, (key, gradient) in enumerate(outcome.gradients):
        label = key if key in labels else quantity_of(key, labels)
        if outcome.listed:
            label = labels[i] if i < len(labels) else None
        if label is None:
            strange.append(key)
        else:
            there[label] = np.asarray(plain(gradient))
    findings = []
    for k, label in enumerate(labels):
        if label not in there:
            findings.append(Finding(label, "-", "missing", None))
        elif there[label].shape != arrays[k].shape:
            note = f"its gradient has shape {there[label].shape}, not {arrays[k].shape}"
            findings.append(Finding(label, f"d{label}", "shape", None, note=note))
        else:
            findings.append(_compared(what, k, there[label]))
    said = f"Checked against finite differences at up to {SAMPLED} elements of each parameter."
    return BackpropReport(tuple(findings), tuple(strange), (*notes, said))


def _compared(what: Subject, k: int, given: Array) -> Finding:
    label, array = what.labels[k], what.arrays[k]
    wide = [a.astype(float) for a in what.arrays]
    places = np.random.default_rng(0).permutation(given.size)[:SAMPLED]
    found = np.array([_slopes(what.value, wide, k, place) for place in places])
    slopes, doubt = found[:, 0], found[:, 1]
    off = np.abs(given.ravel()[places] - slopes)
    coarse = np.sqrt(float(np.finfo(array.dtype).eps))
    good = off <= 20 * doubt + coarse * 100 * np.abs(slopes).max()
    kinks = doubt > 1e-3 * (np.abs(slopes) + np.abs(slopes).max())
    error = norm(off) / (norm(slopes) or 1.0)
    if (good | kinks).all():
        verdict = "right" if good.all() else "kink"
        return Finding(label, f"d{label}", verdict, error)
    worst = int(places[int(np.argmax(np.where(good, 0, off)))])
    index = ", ".join(map(str, np.unravel_index(worst, array.shape)))
    at = list(places).index(worst)
    note = f"at [{index}] it is {given.flat[worst]:.6g}, and the slope of the loss {slopes[at]:.6g}"
    return Finding(label, f"d{label}", "wrong", error, note=note)


def _slopes(value: Loss, arrays: list[Array], k: int, place: int) -> tuple[float, float]:
    """A central difference, and how far that with four times the step is from it."""
    found = []
    for h in (1e-5, 4e-5):
        step = h * max(1.0, abs(float(arrays[k].flat[place])))
        ends = []
        for sign in (1, -1):
            moved = list(arrays)
            moved[k] = arrays[k].copy()
            moved[k].flat[place] += sign * step
            ends.append(value(moved))
        found.append((ends[0] - ends[1]) / (2 * step))
    return found[0], abs(found[0] - found[1])
