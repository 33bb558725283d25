"""`check_backprop`: a function that returns its loss and its own gradients, as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import tree
from ..backward import reach
from ..core import Node, Tensor, plain
from ..errors import ArgumentError, message
from .findings import BackpropReport, Finding
from .judging import Given, judge
from .matching import KEY, quantity_of
from .rules import Array, norm, run
from .watching import Binding, Watched

SAMPLED = 40  # elements of a parameter that finite differences look at
Loss = Callable[[list[Array]], float]


def check_backprop(
    loss_and_grads: Callable[..., Any], params: Any, *data: Any, match: dict[str, str] | None = None
) -> BackpropReport:
    """Find the first wrong line of a hand-written backprop, and name the mistake.

    The function is run as it is, once on arrays and once on tensors, which record what NumPy
    computes: that gives the true gradient of every variable, and the values and source lines of the
    gradients that the function computes for them.

    Parameters
    ----------
    loss_and_grads : callable
        ``loss_and_grads(params, *data)`` returns ``(loss, grads)``; ``grads`` is a dict with the keys
        of ``params`` (``"W1"`` or ``"dW1"``), or a list in their order.
    params : dict, list or tuple of ndarray
        Floating-point arrays. They are not changed.
    *data
        Whatever else the function takes.
    match : dict, optional
        For variables whose names do not say it, the quantity they are the gradient of:
        ``{"err": "z2"}``. By itself ``dW1 d_W1 grad_W1 W1_grad gW1 grads["W1"]`` is the gradient of
        ``W1``, and ``delta2`` that of ``z2``.

    Returns
    -------
    BackpropReport
        As of `check_gradients`, with source lines.

    Raises
    ------
    ArgumentError
        If the function does not return a loss and gradients, or returns another loss each time.

    Notes
    -----
    Where the code cannot be followed on tensors the report says at which line, and the returned
    gradients are still held against finite differences of the returned loss.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> def logistic(params, x, t):
    ...     z = x @ params["w"]
    ...     p = 1 / (1 + np.exp(-z))
    ...     loss = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
    ...     dz = p - t
    ...     return loss, {"w": x.T @ dz}
    >>> x, t = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]), np.array([1.0, 0.0, 1.0])
    >>> report = tg.check_backprop(logistic, {"w": np.array([0.1, -0.3])}, x, t)
    >>> report.first_wrong, report["z"].diagnoses[0].kind, report["w"].verdict
    ('z', 'missing_batch_mean', 'follows')
    """
    arrays = _parameters(params)
    loss, returned = _called(loss_and_grads, tree.like(params, iter(map(np.copy, arrays))), data)
    again, _ = _called(loss_and_grads, tree.like(params, iter(map(np.copy, arrays))), data)
    if loss != again and not (np.isnan(loss) and np.isnan(again)):
        raise ArgumentError(
            message("check_backprop", "the same loss every time", f"{loss:.6g} and {again:.6g}",
                    "Seed random numbers inside the function, and keep no state between calls.")
        )  # fmt: skip
    tensors = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    handed = list(map(_recorded, data))
    watched = Watched(loss_and_grads, [tree.like(params, iter(tensors)), *handed])
    if watched.error is not None:  # some functions take data as arrays only
        second = Watched(loss_and_grads, [tree.like(params, iter(tensors)), *_copies(data)])
        if second.error is None:
            watched, handed = second, _copies(data)
    node = _loss_node(watched, loss)
    notes = []
    if watched.error is not None:
        notes.append(
            f"Tensors cannot follow the code beyond line {watched.stopped} "
            f"({type(watched.error).__name__}: {watched.error})"
        )

    def value(moved: list[Array]) -> float:
        return _called(loss_and_grads, tree.like(params, iter(map(np.copy, moved))), data)[0]

    labels = list(_labels(params))
    if node is not None and not _is_gradient(node, tensors, arrays, value):
        # At a kink no difference is the slope: look beside it.
        rng = np.random.default_rng(0)
        arrays_beside = [a + (1e-3 * rng.normal(size=a.shape)).astype(a.dtype) for a in arrays]
        beside = [Tensor(a, requires_grad=True) for a in arrays_beside]
        again_watched = Watched(loss_and_grads, [tree.like(params, iter(beside)), *handed])
        there = _loss_node(again_watched, value(arrays_beside))
        if there is None or not _is_gradient(there, beside, arrays_beside, value):
            notes.append(
                "The loss is not recorded as it is computed: some step leaves the tensors."
            )
            node = None
    if node is None:
        return _by_differences(value, labels, arrays, returned, tuple(notes))
    record = _Record(watched, node, dict(zip((t.node for t in tensors), labels)), match or {})
    if watched.error is not None:
        held = Watched(
            loss_and_grads, [tree.like(params, iter(map(np.copy, arrays))), *_copies(data)]
        )
        return record.report(held.bindings, _flat(held.result[1]), notes)
    return record.report(watched.bindings, _flat(watched.result[1]), notes)


def _parameters(params: Any) -> list[Array]:
    arrays = tree.leaves(params)
    good = all(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in arrays)
    if not isinstance(params, dict | list | tuple) or not arrays or not good:
        kinds = sorted({str(getattr(a, "dtype", type(a).__name__)) for a in arrays})
        raise ArgumentError(
            message("check_backprop", "params: a dict, list or tuple of floating-point arrays",
                    f"{type(params).__name__} of {', '.join(kinds)}",
                    "Pass what is no parameter as data.")
        )  # fmt: skip
    return arrays


def _copies(data: Any) -> list[Any]:
    return [
        tree.rebuild(one, lambda x: x.copy() if isinstance(x, np.ndarray) else x) for one in data
    ]


def _recorded(one: Any) -> Any:
    """A floating-point array as a Tensor, so that its own methods (``x.dot``) record, too."""
    if isinstance(one, np.ndarray) and one.dtype.kind == "f" and one.ndim:
        return Tensor(one.copy())
    if isinstance(one, dict | list | tuple):
        return tree.rebuild(one, _recorded)
    return one.copy() if isinstance(one, np.ndarray) else one


def _labels(params: Any, prefix: str = "") -> Iterator[str]:
    """The key of each parameter, in the order of `tree.leaves`; in lists the position."""
    pairs = params.items() if isinstance(params, dict) else enumerate(params)
    for key, one in pairs:
        name = (
            str(key)
            if isinstance(params, dict) and not prefix
            else f"{prefix or 'params'}[{key!r}]"
        )
        if isinstance(one, dict | list | tuple):
            yield from _labels(one, name)
        else:
            yield name


def _called(f: Callable[..., Any], params: Any, data: Any) -> tuple[float, list[tuple[str, Any]]]:
    result = f(params, *_copies(data))
    if not isinstance(result, tuple) or len(result) != 2 or np.size(result[0]) != 1:
        got = f"{type(result).__name__}" + (
            f" of {len(result)}" if isinstance(result, tuple) else ""
        )
        raise ArgumentError(
            message("check_backprop", "a function that returns (loss, grads), the loss a number", got,
                    "Wrap it: lambda params, *data: (loss, grads).")
        )  # fmt: skip
    return float(np.reshape(result[0], ())), _flat(result[1])


def _flat(grads: Any) -> list[tuple[str, Any]]:
    if isinstance(grads, np.ndarray | Tensor):
        grads = [grads]
    return list(zip(_labels(grads, ""), tree.leaves(grads)))


def _loss_node(watched: Watched, loss: float) -> Node | None:
    """The recorded loss: what was returned, or else the last scalar of its value."""
    if watched.error is None and isinstance(watched.result[0], Tensor):
        found: Node = watched.result[0].node
        return found if found.needs else None
    near = [
        node for node in watched.recorded
        if node.needs and np.size(node.value) == 1 and np.isclose(node.value.item(), loss, rtol=1e-6, atol=0)
    ]  # fmt: skip
    return near[-1] if near else None


def _is_gradient(node: Node, tensors: list[Tensor], arrays: list[Array], value: Loss) -> bool:
    """Whether the record's gradient is the slope of the returned loss, along one direction."""
    rng = np.random.default_rng(0)
    arrived = run(node, {}).arrived
    wide = [a.astype(float) for a in arrays]
    moves = [rng.uniform(0.5, 1.5, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in wide]
    slope = sum(
        float(np.vdot(arrived[t.node], v)) for t, v in zip(tensors, moves) if t.node in arrived
    )
    size = sum(norm(arrived[t.node]) * norm(v) for t, v in zip(tensors, moves) if t.node in arrived)
    for h in (1e-5, 1e-4, 1e-3, 1e-6):
        up, down = (value([a + s * h * v for a, v in zip(wide, moves)]) for s in (1, -1))
        rounding = np.finfo(arrays[0].dtype).eps * max(abs(up), abs(down)) / h
        if not abs((up - down) / (2 * h) - slope) > 20 * rounding + 1e-3 * size:  # nan says nothing
            return True
    return False


class _Record:
    """What tensors recorded of the function: its quantities, and the gradients it computed for them."""

    def __init__(
        self, watched: Watched, loss: Node, params: dict[Node, str], match: dict[str, str]
    ) -> None:
        self.loss, self.params, self.match = loss, params, match
        steps = reach([loss])
        self.inside = {*steps, *(one for node in steps for one in node.inputs)}
        self.true = run(loss, {}).arrived
        self.handed = {id(one.node) for one in watched.handed}
        self.names: dict[Node, str] = {}
        self.aliases: dict[str, list[Node]] = {}
        arrays = {id(one.value): one for one in self.inside if not one.needs}
        elements: dict[Node, str] = {}
        bound = sorted(watched.bindings, key=lambda one: (one.depth, "[" in one.name))
        for one in bound:
            node = one.value if isinstance(one.value, Node) else arrays.get(id(one.value))
            if node is None or node not in self.inside:
                continue
            key = KEY.match(one.name)
            name = key["key"] if key is not None and not key["key"].isdigit() else one.name
            if node.needs and node in self.true:
                if node in self.names and quantity_of(name, self.aliases):
                    continue  # dscores = probs: soon to be written on
                self.names.setdefault(node, name)
                self.aliases.setdefault(name, [])
                if node not in self.aliases[name]:
                    self.aliases[name].append(node)
                if "[" in one.name:
                    elements.setdefault(node, name)
            else:
                self.names.setdefault(node, name)
        for name, nodes in self.aliases.items():
            if len(nodes) > 1:  # of a loop: tell them apart
                for k, node in enumerate(sorted(nodes, key=lambda one: one.order)):
                    if self.names[node] == name:
                        self.names[node] = elements.get(node, f"{name}[{k}]")
        for node, label in params.items():
            if node in self.true:
                if "[" not in label or node not in self.names:
                    self.names[node] = label
                self.aliases[label] = [node]
        self.names[loss] = self.names.get(loss, "loss")

    def report(
        self, bindings: list[Binding], returned: list[tuple[str, Any]], notes: list[str]
    ) -> BackpropReport:
        given: dict[Node, Given] = {}
        strange = []
        for variable, versions in self._variables(bindings).items():
            name = self.match.get(variable) or quantity_of(variable, self.aliases)
            if name is None or name not in self.aliases:
                if variable[0] == "d" and variable[1:2] not in ("", "a") and "[" not in variable:
                    strange.append(variable)
                continue
            for node, version in self._paired(self.aliases[name], versions):
                if node is not self.loss:
                    given.setdefault(
                        node, Given(node, _array(version.value), variable, version.place)
                    )
        places = {id(one.value): one.place for one in reversed(bindings)}
        unmatched: list[str] = []
        for (key, value), owner in zip(returned, self._owners(returned)):
            if owner is None:
                unmatched.append(key)
                continue
            held = value.node if isinstance(value, Tensor) else value
            array, before = _array(held), given.get(owner)
            variable = (
                before.variable if before else (key if key.startswith("d") else f"grads[{key!r}]")
            )
            if "params[" in variable:
                variable = f"d{self.names[owner]}"
            place = places.get(id(held)) or (before.place if before else "")
            given[owner] = Given(owner, array, variable, place)
        missing = {
            node: name
            for node, name in self.names.items()
            if node in self.params and node not in given
        }
        if strange:
            notes = [
                *notes,
                f"Variables that match no quantity: {', '.join(strange)} (give match=...).",
            ]
        others = {one.name: _array(one.value) for one in bindings if self._is_outside(one.value)}
        return judge(
            self.loss,
            self.names,
            list(given.values()),
            missing,
            tuple(unmatched),
            tuple(notes),
            others,
        )

    def _is_outside(self, value: Any) -> bool:
        """Whether it is an array that was handed in and that the loss does not read."""
        leaf = isinstance(value, Node) and value.primitive is None and not value.needs
        return (
            leaf
            and value not in self.inside
            and id(value) in self.handed
            and value.value.dtype.kind == "f"
        )

    def _variables(self, bindings: list[Binding]) -> dict[str, list[Binding]]:
        """What each variable held that is no quantity of the loss, in the order of time.

        A gradient may be a value that the loss was computed from, if nothing else became of it.
        """
        found: dict[str, list[Binding]] = {}
        for one in bindings:
            if one.name not in self.aliases and not self._is_quantity(one):
                found.setdefault(one.name, []).append(one)
        for name, versions in found.items():
            fresh = [
                one
                for one in versions
                if not (isinstance(one.value, Node) and one.value in self.inside)
            ]
            found[name] = fresh or versions
        return found

    def _is_quantity(self, one: Binding) -> bool:
        """Whether it is a parameter, or ``cache["z1"]`` holding ``z1``."""
        key = KEY.match(one.name)
        return isinstance(one.value, Node) and (
            one.value in self.params
            or (key is not None and one.value in self.aliases.get(key["key"], ()))
        )

    def _paired(self, nodes: list[Node], versions: list[Binding]) -> Iterator[tuple[Node, Binding]]:
        """Which version of a variable is the gradient: the right one if any is, else the last.

        A loop gives a variable one value for each layer: the last layer's comes first.
        """
        if len(nodes) > 1:
            if len(nodes) == len(versions):
                ordered = sorted(nodes, key=lambda node: node.order, reverse=True)
                yield from zip(ordered, versions)
            elif len(versions) == 1:
                yield max(nodes, key=lambda node: node.order), versions[0]
            return
        (node,) = nodes
        right = [one for one in versions if self._is_right(node, _array(one.value))]
        chosen = (right or [one for one in versions if not _masked(one.value)] or versions)[-1]
        yield node, chosen
        last = versions[-1]
        if chosen is not last:  # written on in place: now it is the gradient of what came before
            inputs = [one for one in node.inputs if one in self.true and one in self.names]
            if len(inputs) == 1 and inputs[0].value.shape == _array(last.value).shape:
                yield inputs[0], last

    def _is_right(self, node: Node, array: Array) -> bool:
        right = self.true[node]
        return array.shape == right.shape and norm(array - right) <= 1e-6 * norm(right)

    def _owners(self, returned: list[tuple[str, Any]]) -> list[Node | None]:
        """For each returned gradient its parameter: by name, and a list by position."""
        if all(key.startswith("params[") for key, _ in returned):
            nodes = list(self.params)
            return [
                nodes[i] if i < len(nodes) and nodes[i] in self.true else None
                for i in range(len(returned))
            ]
        found: list[Node | None] = []
        for key, _ in returned:
            name = (
                key
                if key in self.aliases
                else self.match.get(key) or quantity_of(key, self.aliases)
            )
            nodes = self.aliases.get(name or "", [])
            found.append(nodes[0] if len(nodes) == 1 else None)
        return found


def _masked(value: Any) -> bool:
    """Whether it is what ``dh[h <= 0] = 0`` made: the gradient of what came before ``h``."""
    index = (value.params or {}).get("index") if isinstance(value, Node) else None
    return (
        isinstance(index, np.ndarray) and index.dtype == bool and not np.any(value.inputs[1].value)
    )


def _array(value: Any) -> Array:
    return np.asarray(value.value if isinstance(value, Node) else plain(value))


def _by_differences(
    value: Loss,
    labels: list[str],
    arrays: list[Array],
    returned: list[tuple[str, Any]],
    notes: tuple[str, ...],
) -> BackpropReport:
    """The returned gradients held against central differences of the loss at some elements."""
    listed = all(key.startswith("params[") for key, _ in returned)
    there = {
        (
            labels[i]
            if listed and i < len(labels)
            else quantity_of(key, labels)
            if key not in labels
            else key
        ): g
        for i, (key, g) in enumerate(returned)
    }
    rng = np.random.default_rng(0)
    wide = [a.astype(float) for a in arrays]
    findings = []
    for k, label in enumerate(labels):
        if label not in there:
            findings.append(Finding(label, "-", "missing", None))
            continue
        given = np.asarray(there[label])
        if given.shape != arrays[k].shape:
            note = f"its gradient has shape {given.shape}, not {arrays[k].shape}"
            findings.append(Finding(label, f"d{label}", "shape", None, note=note))
            continue
        places = rng.permutation(given.size)[:SAMPLED]
        found = np.array([_slopes(value, wide, k, place) for place in places])
        slopes, doubt = found[:, 0], found[:, 1]
        off = np.abs(given.ravel()[places] - slopes)
        coarse = np.sqrt(float(np.finfo(arrays[k].dtype).eps))
        good = off <= 20 * doubt + coarse * 100 * np.abs(slopes).max()
        verdict = "right" if good.all() else "wrong"
        findings.append(Finding(label, f"d{label}", verdict, norm(off) / (norm(slopes) or 1.0)))
    said = f"Checked against finite differences at up to {SAMPLED} elements of each parameter."
    strange = tuple(key for i, (key, _) in enumerate(returned)
                    if not listed and key not in labels and quantity_of(key, labels) is None)  # fmt: skip
    return BackpropReport(tuple(findings), strange, (*notes, said))


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
