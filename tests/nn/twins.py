"""What the tests of layers share: a layer run forward and back, and the same in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nn
import tinygrad_np as tg

Arrays = dict[str, Any]


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def float64(seed: int = 3, **options: Any) -> dict[str, Any]:
    """Options of a layer: float64, drawn from a seed."""
    return {"dtype": np.float64, "rng": np.random.default_rng(seed)} | options


def shaken(layer: nn.Module) -> Any:
    """The layer with values of no symmetry: no bias of zeros, no weight of ones."""
    rng = np.random.default_rng(7)
    for p in layer.parameters():
        p.data = p.data + rng.normal(size=p.shape, scale=0.3)
    return layer


def pulled(layer: nn.Module, x: Any, *, seed: int = 5, **inputs: Any) -> tuple[Any, Any, Arrays]:
    """Output, the cotangent that was pulled back, and the gradients of x and of each parameter."""
    x = tg.Tensor(x, requires_grad=True)
    y = layer(x, **inputs)
    g = draw(*y.shape, seed=seed)
    for p in layer.parameters():
        p.grad = None
    y.backward(g)
    return y.data, g, {"x": x.grad} | {name: p.grad for name, p in layer.named_parameters()}


def check(layer: nn.Module, x: Any, by_hand: Callable[[Any, Any], tuple[Any, Arrays]]) -> None:
    """Compare with ``by_hand(x, g)``, which gives the output and every gradient."""
    y, g, grads = pulled(layer, x)
    expected, by_name = by_hand(x, g)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
    compare(grads, by_name)


def compare(grads: Arrays, expected: Arrays) -> None:
    assert grads.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(
            grads[name], gradient, rtol=1e-10, atol=1e-11, err_msg=f"gradient of {name}"
        )


def check_with_pytorch(
    layer: nn.Module, twin: Any, x: Any, names: dict[str, str], **inputs: Any
) -> None:
    """Compare with a PyTorch module, given its name for each of our parameters (matrices as ours).

    A name that ends in ``.T`` stands for the transposed matrix.
    """
    torch = pytest.importorskip("torch")
    twin.to(torch.float64)
    theirs = dict(twin.named_parameters())
    values = {name: p.data for name, p in layer.named_parameters()}
    assert names.keys() == values.keys()
    for name, other in names.items():
        value = values[name].T if other.endswith(".T") else values[name]
        theirs[other.removesuffix(".T")].data = torch.tensor(np.ascontiguousarray(value))
    y, g, grads = pulled(layer, x, **inputs)
    tx = torch.tensor(x, requires_grad=True)
    ty = twin(tx)
    ty = ty[0] if isinstance(ty, tuple) else ty
    ty.backward(torch.tensor(g))
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-10, atol=1e-12)
    found = {"x": tx.grad.numpy()}
    for name, other in names.items():
        grad = theirs[other.removesuffix(".T")].grad.numpy()
        found[name] = grad.T if other.endswith(".T") else grad
    compare(grads, found)
