"""Which quantity a variable is the gradient of, by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

# dW1, d_W1, dL_dW1, gW1, grad_W1, gradW1, delta_z1, W1_grad, W1.grad, nabla_W1
PREFIXES = ("d", r"d[A-Za-z]{1,4}_?d", "g", "grads?", "gradient", "delta", "nabla")
SUFFIXES = ("grads?", "gradient", "bar", "delta")
LAYER = re.compile(r"^(?:delta|error|err)_?(?P<layer>\d*)$")
KEY = re.compile(r"^\w+\[['\"]?(?P<key>[^'\"\]]+)['\"]?\]$")


def quantity_of(variable: str, known: Iterable[str]) -> str | None:
    """The name among ``known`` whose gradient a variable's name says it is; None if it says nothing.

    Examples
    --------
    >>> from tinygrad_np.check.matching import quantity_of
    >>> [quantity_of(v, ["W1", "z2"]) for v in ("dW1", "W1_grad", "grads['dW1']", "delta2", "loss")]
    ['W1', 'W1', 'W1', 'z2', None]
    """
    names = list(known)
    key = KEY.match(variable)
    candidates = []
    if key is not None:
        variable = key["key"]
        candidates.append(variable)
    found = [re.fullmatch(f"{prefix}_?(.+)", variable) for prefix in PREFIXES]
    found += [re.fullmatch(f"(.+?)[_.]?{suffix}", variable) for suffix in SUFFIXES]
    candidates += [one[1] for one in found if one is not None]
    layer = LAYER.match(variable)
    if layer is not None:
        candidates += [f"z{layer['layer']}", f"a{layer['layer']}"]
    for candidate in candidates:
        if candidate in names:
            return candidate
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[one.lower()] for one in candidates if one.lower() in lower), None)
