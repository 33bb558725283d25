"""Write docs/check.md: each kind of mistake, made once and found: ``python docs/check.py``."""

from __future__ import annotations

import inspect
import linecache
from pathlib import Path

import numpy as np

import tinygrad_np as tg

HERE = Path(__file__).parent


def network(params, x, t, mask, old):
    W1, gamma, W2, b2 = params["W1"], params["gamma"], params["W2"], params["b2"]
    m = len(x)
    z = x @ W1
    c = z - z.mean(axis=0)
    r = 1 / np.sqrt((c**2).mean(axis=0) + 1e-5)
    n = c * r
    a = gamma * n
    h = np.tanh(a)
    d = h * mask
    s = d @ W2 + b2
    e = np.exp(s - s.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.sum(t * np.log(p)) / m + 0.1 * np.sum(W2**2)
    dp = -t / p / m
    ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))
    dW2 = d.T @ ds + 0.2 * W2
    db2 = ds.sum(axis=0)
    dd = ds @ W2.T
    dh = dd * mask
    da = dh * (1 - h * h)
    dgamma = (da * n).sum(axis=0)
    dn = da * gamma
    dz = r * (dn - dn.mean(axis=0) - n * (dn * n).mean(axis=0))
    dW1 = x.T @ dz
    return loss, {"W1": dW1, "gamma": dgamma, "W2": dW2, "b2": db2}


# For each kind the line as it is, and as it is written.
MISTAKES = {
    "missing_batch_mean": ("dp = -t / p / m", "dp = -t / p"),
    "extra_batch_mean": ("dp = -t / p / m", "dp = -t / p / m**2"),
    "factor": ("dW1 = x.T @ dz", "dW1 = 3 * x.T @ dz"),
    "sign": ("dd = ds @ W2.T", "dd = -ds @ W2.T"),
    "transpose": ("dW1 = x.T @ dz", "dW1 = dz.T @ x"),
    "missing_activation_derivative": ("da = dh * (1 - h * h)", "da = dh"),
    "derivative_at_wrong_point": ("da = dh * (1 - h * h)", "da = dh * (1 - a * a)"),
    "derivative_all_ones": ("da = dh * (1 - h * h)", "da = dh * np.where(a > 0, 1, np.ones_like(a))"),
    "derivative_wrong_function": ("da = dh * (1 - h * h)", "da = dh * h * (1 - h)"),
    "missing_path": (
        "ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))", "ds = p * dp"),
    "extra_term": ("db2 = ds.sum(axis=0)", "db2 = ds.sum(axis=0) + 0.2 * b2"),
    "wrong_axis_sum": ("dgamma = (da * n).sum(axis=0)", "dgamma = (da * n).sum(axis=1)"),
    "unreduced_broadcast": ("dgamma = (da * n).sum(axis=0)", "dgamma = da * n"),
    "mean_instead_of_sum": ("db2 = ds.sum(axis=0)", "db2 = ds.mean(axis=0)"),
    "stale_cache": ("dW2 = d.T @ ds + 0.2 * W2", 'dW2 = old["d"].T @ ds + 0.2 * W2'),
    "wrong_operand": ("dW2 = d.T @ ds + 0.2 * W2", "dW2 = h.T @ ds + 0.2 * W2"),
    "missing_regularisation": ("dW2 = d.T @ ds + 0.2 * W2", "dW2 = d.T @ ds"),
    "softmax_jacobian_diagonal_only": (
        "ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))", "ds = dp * p * (1 - p)"),
    "off_by_one": ("dW1 = x.T @ dz", "dW1 = np.roll(x, 1, axis=0).T @ dz"),
    "mask_not_applied": ("dh = dd * mask", "dh = dd"),
    "mask_wrong": ("dh = dd * mask", "dh = dd * (mask == 0)"),
    "mask_reused": ("dh = dd * mask", 'dh = dd * old["mask"]'),
    "batchnorm_statistics_constant": (
        "dz = r * (dn - dn.mean(axis=0) - n * (dn * n).mean(axis=0))", "dz = r * dn"),
    "detached": (
        "dz = r * (dn - dn.mean(axis=0) - n * (dn * n).mean(axis=0))", "dz = np.zeros_like(z)"),
    "overwritten_in_place": ("dW2 = d.T @ ds + 0.2 * W2", "d *= d; dW2 = d.T @ ds + 0.2 * W2"),
    "other_loss": ("ds = p * (dp - (dp * p).sum(axis=1, keepdims=True))", "ds = (s - t) / m"),
}  # fmt: skip


def problem():
    """Parameters, data, a dropout mask, and what an earlier epoch left behind."""
    r = np.random.default_rng(0)
    params = {"W1": r.normal(size=(4, 5)), "gamma": r.uniform(0.5, 2, 5), "W2": r.normal(size=(5, 3)),
              "b2": r.normal(size=3)}  # fmt: skip
    masks = [(r.random((7, 5)) < 0.7) / 0.7 for _ in range(2)]
    old = {"d": np.tanh(r.normal(size=(7, 5))), "mask": masks[1]}
    return params, r.normal(size=(7, 4)), np.eye(3)[r.integers(0, 3, 7)], masks[0], old


def checked(right: str, wrong: str) -> tg.check.BackpropReport:
    """The report on the network with one line as it is written."""
    source = inspect.getsource(network)
    assert source.count(f"    {right}\n") == 1
    source = source.replace(f"    {right}\n", f"    {wrong}\n")
    space = {"np": np}
    # The report quotes the lines.
    linecache.cache["network.py"] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        "network.py",
    )
    exec(compile(source, "network.py", "exec"), space)
    return tg.check_backprop(space["network"], *problem())


def page() -> str:
    """The page."""
    rows = []
    for kind, (right, wrong) in MISTAKES.items():
        report = checked(right, wrong)
        finding = report[report.first_wrong or ""]
        told = next(one for one in finding.diagnoses if one.kind == kind)
        others = [f"`{one.kind}`" for one in finding.diagnoses if one is not told]
        also = f" (or {', '.join(others)}: the numbers are the same)" if others else ""
        rows.append(f"| `{kind}` | `{wrong}` | {told.text.replace('|', 'or')}{also} |")
    sign = checked(*MISTAKES["wrong_operand"])
    return "\n\n".join([
        "# Checking backprop written by hand",
        "*Written by `python docs/check.py`, which makes each of these mistakes and asks the checker.*",
        "`tg.check_backprop(f, params, *data)` runs your function as it is, once more on tensors. That gives "
        "the true gradient of every variable, and the values and the source lines of the gradients that you "
        "compute. Each is compared with what the right rule makes of *your own* gradients above it, so only "
        "a line that is itself wrong is accused, and the others follow from it.\n\n"
        "Then plausible mistakes are made on purpose in the right backward pass. One that gives your "
        "numbers, in every array, is the reading of the report; readings with the same numbers are all "
        "told, unless a run on fewer rows tells them apart. Constants that the intermediate gradients "
        "carry to the parameters, and what is chosen at a kink, are conventions and no mistakes.",
        "The network of the examples, whose report is all right:",
        f"```python\n{inspect.getsource(network).strip()}\n```",
        f"With `{MISTAKES['wrong_operand'][1]}`:",
        f"```text\n{sign}\n```",
        "The vocabulary, each kind with one line that makes the mistake, and what the report says of it:",
        "\n".join(["| kind | as written | the report |", "|:--|:--|:--|", *rows]),
        "The same from the command line, for a file with `check_args()` that returns `(params, *data)`: "
        "`python -m tinygrad_np.check file.py:function`; in a test: `tg.assert_backprop(f, params, *data)`; "
        "for a class: `hints=1` tells the place of the mistake only, `hints=2` its kind as well.",
    ]) + "\n"  # fmt: skip


if __name__ == "__main__":
    (HERE / "check.md").write_text(page())
