"""Which quantity a variable is the gradient of, by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable

# dW1, d_W1, dL_dW1, gW1, grad_W1, gradW1, delta_z1, W1_grad, W1.grad, nabla_W1
PREFIXES = ("d", r"d[A-Za-z]{1,4}_?d_?", "g", "grads?", "gradient", "delta", "nabla", "grad_?wrt")
SUFFIXES = ("grads?", "gradient", "bar", "delta", "error", "err", "g")
LAYER = re.compile(r"^(?:delta|error|err|d)_?(?P<layer>\d*)$")
ITEM = re.compile(r"^(?P<path>.*?)\[['\"](?P<key>[^'\"\]]+)['\"]\]$")
PLACE = re.compile(r"^(?P<path>.*[\].])\.?(?P<key>[A-Za-z_]\w*)$")
# What the values before and after an activation are called, where a layer has only a number.
BEFORE, AFTER = ("z{}", "Z{}", "z_{}", "s{}", "u{}", "net{}"), ("a{}", "A{}", "h{}", "a_{}")


def short(name: str) -> str:
    """What one calls a value that is kept: ``z1`` for ``self.cache['z1']`` and for ``model.z1``.

    Examples
    --------
    >>> from tinygrad_np.check.matching import short
    >>> [short(name) for name in ("self.cache['z1']", "self.W1", "hs[3]", "self.layers[0].W")]
    ['z1', 'W1', 'hs[3]', 'layers[0].W']
    """
    item = ITEM.match(name)
    if item is not None and "[" not in item["path"]:
        return item["key"]
    first, _, rest = name.partition(".")
    return rest if rest and "[" not in first else name


def quantities_of(variable: str, known: Iterable[str]) -> list[str]:
    """The names among ``known`` whose gradient a variable may be by its name, the likelier first.

    Examples
    --------
    >>> from tinygrad_np.check.matching import quantities_of
    >>> [quantities_of(v, ["W1", "z2", "a2"]) for v in ("dW1", "grads['dW1']", "delta2", "loss")]
    [['W1'], ['W1'], ['z2', 'a2'], []]
    """
    names = list(known)
    whole = {name: name for name in names}
    bare = {_bare(name): name for name in reversed(names)}
    found = [whole.get(one) or bare.get(_bare(one)) for one in _candidates(variable)]
    found += [whole.get(f"{one}s") for one in _candidates(variable)]
    return [name for name in dict.fromkeys(found) if name is not None]


def quantity_of(variable: str, known: Iterable[str]) -> str | None:
    """The first of `quantities_of`; None if the name says nothing.

    Examples
    --------
    >>> from tinygrad_np.check.matching import quantity_of
    >>> [quantity_of(v, ["W1", "z2"]) for v in ("dW1", "W1_grad", "grads['dW1']", "delta2", "loss")]
    ['W1', 'W1', 'W1', 'z2', None]
    """
    return next(iter(quantities_of(variable, known)), None)


def is_gradients_name(variable: str) -> bool:
    """Whether a variable is named as some gradient, of whatever quantity."""
    name = short(variable)
    return re.match(r"^(d[A-Z_]|d[a-z]{1,2}\d*$|d[a-z]+\d|grad|delta|d_|dl)", name) is not None


def _candidates(variable: str) -> list[str]:
    """The names that a variable may be the gradient of."""
    item = ITEM.match(variable)
    place = PLACE.match(variable)
    if item is not None:  # grads["W1"], grads["dW1"]; layers[0]["dW"] is that of layers[0]["W"]
        inner = _stripped(item["key"])
        plain = [item["key"]] if "[" not in item["path"] else []
        within = [f"{item['path']}[{one!r}]" for one in inner] if "[" in item["path"] else []
        return [*within, *plain, *inner]
    if place is not None:  # layers[0].dW is that of layers[0].W
        dot = "." if not place["path"].endswith(".") else ""
        found = [f"{place['path']}{dot}{one}" for one in _stripped(place["key"])]
        first, _, rest = variable.partition(".")
        if rest and "[" not in first:
            found += _candidates(rest)
        return found
    return _stripped(variable)


def _stripped(name: str) -> list[str]:
    found = [re.fullmatch(f"{prefix}_?(.+)", name) for prefix in PREFIXES]
    found += [re.fullmatch(f"(.+?)[_.]?{suffix}", name) for suffix in SUFFIXES]
    candidates = [one[1] for one in found if one is not None]
    numbered = re.fullmatch(r"d([A-Za-z]+)_?(\d+)", name)
    if numbered:
        candidates.append(numbered[1] + numbered[2])
    list_item = re.fullmatch(r"(?:d|grads?_|delta_)([A-Za-z]+)s?(\[\d+\])", name)
    if list_item:
        candidates += [list_item[1] + list_item[2], f"{list_item[1]}s{list_item[2]}"]
    listed = re.fullmatch(r"(?:deltas?|errors?)(\[\d+\])", name)
    if listed is not None:
        candidates += [form + listed[1] for form in ("z", "zs", "Z", "a", "acts")]
    layer = LAYER.match(name)
    if layer is not None:
        candidates += [form.format(layer["layer"]) for form in (*BEFORE, *AFTER)]
    return candidates


def _bare(name: str) -> str:
    return re.sub(r"_(?=\d|$)|(?<=[A-Za-z])_", "", name).lower()
