"""Write docs/derive.md: the derived backprop of four published networks: ``python docs/derive.py``."""

from __future__ import annotations

import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import nn
import tinygrad_np as tg

HERE = Path(__file__).parent


def iris(x, t, W1, b1, W2, b2, W3, b3, W4, b4):
    z1 = x @ W1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ W2 + b2
    a2 = np.maximum(z2, 0)
    z3 = a2 @ W3 + b3
    a3 = np.maximum(z3, 0)
    z4 = a3 @ W4 + b4
    return tg.softmax_cross_entropy(z4, t)


def sums_and_differences(x, t, W1, b1, W2, b2, W3, b3):
    z1 = x @ W1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ W2 + b2
    a2 = np.maximum(z2, 0)
    y = a2 @ W3 + b3
    return 0.5 * ((y - t) ** 2).sum() / len(x)


def digits(x, t, W1, b1, W2, b2):
    z1 = x @ W1 + b1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ W2 + b2
    y = tg.sigmoid(z2)
    return 0.5 * ((y - t) ** 2).sum()


def mnist(x, t, W1, b1, W2, b2):
    z1 = x @ W1 + b1
    a1 = tg.sigmoid(z1)
    z2 = a1 @ W2 + b2
    return tg.softmax_cross_entropy(z2, t)


NETWORKS: dict[str, dict[str, Any]] = {
    "A. Iris, 4-6-8-10-3": {
        "f": iris, "sizes": (4, 6, 8, 10, 3), "rows": 150, "labels": True,
        "source": 'Joseph Sasson, "Coding A Neural Network From Scratch in NumPy" (Towards Data Science)',
        "published": [
            (r"\mathrm{d}Z^{[L]} = \hat{Y} - Y", "`dz4`, which has the mean's $1/N$ already"),
            (r"\mathrm{d}Z^{[l]} = \mathrm{d}A^{[l]} \odot g'(Z^{[l]})", "`dz1`, `dz2`, `dz3`"),
            (r"\mathrm{d}W^{[l]} = \frac{1}{m}\, \mathrm{d}Z^{[l]}\, A^{[l-1]\top}",
             "`dW1` ... `dW4`, as (in, out)"),
            (r"\mathrm{d}b^{[l]} = \frac{1}{m} \sum_{i} \mathrm{d}Z^{[l](i)}", "`db1` ... `db4`"),
            (r"\mathrm{d}A^{[l-1]} = W^{[l]\top}\, \mathrm{d}Z^{[l]}", "`da1`, `da2`, `da3`"),
        ],
        "remark": "The formulas agree. What the article trains with does not: its `A` and `Z` are those of "
        "the first epoch, as its cache is never cleared.",
    },
    "B. Sums and differences, 2-4-4-3": {
        "f": sums_and_differences, "sizes": (2, 4, 4, 3), "rows": 7000, "labels": False,
        "source": '"Neural Network Using Python and Numpy", a neural net in 9 steps',
        "published": [
            (r"\mathrm{d}Z^{L} = \hat{y} - y", "`dy`, which has the mean's $1/N$ already"),
            (r"\mathrm{d}Z^{l} = W^{l+1\,\top}\, \mathrm{d}Z^{l+1} \odot \sigma'(A^{l})",
             "`dz1`, `dz2`; of a ReLU the sign of `a` is that of `z`"),
            (r"\mathrm{d}W^{l} = \frac{1}{n}\, \mathrm{d}Z^{l}\, A^{l-1\,\top}", "`dW1`, `dW2`, `dW3`"),
            (r"\mathrm{d}b^{l} = \frac{1}{n} \sum \mathrm{d}Z^{l}", "`db1`, `db2`, `db3`"),
        ],
        "remark": "The formulas agree for half the squared error. The article's $n$ is 7000 for a batch of "
        "any size; here it is `N`. What it prints as its loss is another quantity.",
    },
    "C. Digits, 64-15-10": {
        "f": digits, "sizes": (64, 15, 10), "rows": 15, "labels": False,
        "source": 'Ritchie Vink, "Programming a neural network from scratch"',
        "published": [
            (r"\delta^{(L)} = \frac{\partial J}{\partial y} \odot f'(z^{(L)}) = (y - \hat{y}) \odot f'",
             "`dz2`"),
            (r"\delta^{(i)} = \delta^{(i+1)}\, w^{(i)\top} \odot f'(z^{(i)})", "`dz1`"),
            (r"\frac{\partial J}{\partial w^{(i)}} = a^{(i)\top}\, \delta^{(i+1)}", "`dW1`, `dW2`"),
            (r"\frac{\partial J}{\partial b^{(i)}} = \delta^{(i+1)}", "`db1`, `db2`: summed over the batch"),
        ],
        "remark": "The formulas agree, with $y$ the prediction. The article's code evaluates $f'$ of the "
        "sigmoid at $y$ instead of at $z$: $f(y)\\,(1 - f(y))$ where `dz2` has `y * (1 - y)`; and it sums "
        "the gradients of the weights over the batch but averages those of the biases.",
    },
    "D. MNIST, 784-64-10": {
        "f": mnist, "sizes": (784, 64, 10), "rows": 128, "labels": False,
        "source": 'S.-H. Wu and the DataLab, "Neural Networks from Scratch" (NTHU, 2023)',
        "published": [
            (r"\Delta^{(L)} = \hat{Y} - Y", "`dz2`, which has the mean's $1/N$ already; each row of "
             "one-hot labels sums to 1"),
            (r"\Delta^{(k)} = \mathrm{act}'(Z^{(k)}) \odot (\Delta^{(k+1)}\, W^{(k+1)\top})", "`dz1`"),
            (r"\frac{\partial c}{\partial W^{(k)}} = \frac{1}{M} \sum_{n} a^{(k-1,n)} \otimes \delta^{(k,n)}",
             "`dW1`, `dW2`"),
            (r"\frac{\partial c}{\partial b^{(k)}} = \frac{1}{M} \sum_{n} \delta^{(k,n)}", "`db1`, `db2`"),
        ],
        "remark": "The formulas agree. For a sigmoid $\\mathrm{act}'(z)$ is `a1 * (1 - a1)`, which stays "
        "finite where the article's quotient of exponentials is not a number; its derivative of the ReLU is "
        "1 everywhere, instead of `z1 > 0`.",
    },
}  # fmt: skip


def derivation(network: dict[str, Any]) -> Any:
    """The network on random data of its sizes, derived."""
    r = np.random.default_rng(0)
    sizes, rows = network["sizes"], network["rows"]
    x = r.normal(size=(rows, sizes[0]))
    t = r.integers(sizes[-1], size=rows) if network["labels"] else r.normal(size=(rows, sizes[-1]))
    parameters = [
        tg.Tensor(values, requires_grad=True)
        for m, n in pairwise(sizes)
        for values in (r.normal(size=(m, n)) / np.sqrt(m), np.zeros(n))
    ]
    return tg.derive(network["f"], x, t, *parameters)


def section(title: str, network: dict[str, Any]) -> str:
    d = derivation(network)
    rows = [f"| ${formula}$ | {ours} |" for formula, ours in network["published"]]
    return "\n\n".join([
        f"## {title}",
        f"{network['source']}. The network, as one writes it:",
        f"```python\n{inspect.getsource(network['f']).strip()}\n```",
        "Derived from it:",
        f"```python\n{d.source}\n```",
        "\n".join(["| published | derived |", "|:--|:--|", *rows]),
        network["remark"],
        f"As mathematics:\n\n{d.markdown}",
    ])  # fmt: skip


def recurrent(x, h, t, U, W, b):
    for k in range(x.shape[1]):
        h = np.tanh(x[:, k] @ U + h @ W + b)
    return tg.mean_squared_error(h, t)


def layers(x, t, Ws, bs):
    h = x
    for W, b in zip(Ws[:-1], bs[:-1]):
        h = np.maximum(h @ W + b, 0)
    return tg.softmax_cross_entropy(h @ Ws[-1] + bs[-1], t)


def with_loops() -> str:
    """What repeats: a recurrent network of 50 steps, and 12 layers that are a list."""
    r = np.random.default_rng(0)

    def parameter(*shape: int) -> tg.Tensor:
        return tg.Tensor(r.normal(size=shape), requires_grad=True)

    sizes = [784, *[64] * 11, 10]
    derived = {
        recurrent: tg.derive(
            recurrent, r.normal(size=(32, 50, 8)), np.zeros((32, 16)), r.normal(size=(32, 16)),
            parameter(8, 16), parameter(16, 16), parameter(16)),
        layers: tg.derive(
            layers, r.normal(size=(32, 784)), r.integers(10, size=32),
            [parameter(*size) for size in pairwise(sizes)], [parameter(n) for n in sizes[1:]]),
    }  # fmt: skip
    parts = [
        "## What repeats",
        "Where lines repeat, as those of a recurrence or of layers that come from a list do, the "
        "derived function has a loop, if that saves at least a quarter of the lines. What later rounds "
        "or the way back need is kept in lists; a gradient that goes to the round before is handed over "
        "in a variable; what all rounds share is added up. `loops=False` writes every round out.",
    ]
    for function, d in derived.items():
        parts += [
            f"```python\n{inspect.getsource(function).strip()}\n```",
            "Derived from it:",
            f"```python\n{d.source}\n```",
        ]
    layer = nn.LSTM(8, 16, last=True, rng=0)
    parts += [
        "The recurrence as mathematics:", derived[recurrent].markdown,
        "`nn.LSTM` and `nn.GRU` are one operation each, on one packed array. They are derived as the "
        "equations of their steps; this is `nn.LSTM(8, 16, last=True)` on 50 steps, and the sum of its "
        "squared outputs:",
        f"```python\n{tg.derive((layer(r.normal(size=(32, 50, 8))) ** 2).sum()).source}\n```",
    ]  # fmt: skip
    return "\n\n".join(parts)


def page() -> str:
    intro = (
        "# Derived backprop\n\n"
        "`tg.derive(f, *inputs)` runs a function once and writes out its forward and backward pass in "
        "plain NumPy, in the names of the function. Here it is asked for four networks that articles "
        "build by hand; beside each stand the formulas as published. The source is what `python "
        "docs/derive.py` prints, unedited.\n"
    )
    return (
        "\n\n".join([intro.strip(), *[section(*one) for one in NETWORKS.items()], with_loops()])
        + "\n"
    )


if __name__ == "__main__":
    (HERE / "derive.md").write_text(page())
