"""What was recorded of a function: its quantities, and the gradients that it computed for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backward import pull_useful, reach
from ..core import Node, Tensor, plain
from .matching import BEFORE, is_gradients_name, quantities_of, short
from .rules import Array, norm, run
from .watching import Binding

MOST_VERSIONS = 300  # of a variable in a loop; the last ones count


@dataclass(frozen=True)
class Given:
    """One array: the node whose gradient it should be, the variable, and its source line.

    ``guessed`` says that the user did not call it the gradient of that quantity in so many words,
    and ``rewritten`` what the same variable held after it was written into.
    """

    node: Node
    array: Array
    variable: str
    place: str = ""
    guessed: bool = False
    rewritten: tuple[Array, ...] = ()
    recorded: Node | None = None


@dataclass
class Quantities:
    """The named values that a loss was computed from.

    Attributes
    ----------
    names : dict
        What each node is called in the report.
    nodes : dict
        For each name a user may call a quantity, the nodes; several in a loop, in the order of time.
    series : dict
        The nodes of loops, by the name without its number.
    rewritten, overwritten : dict
        What an array held after it was written into: within the forward pass, and after it.
    """

    loss: Node
    params: Mapping[Node, str]
    names: dict[Node, str] = field(default_factory=dict)
    nodes: dict[str, list[Node]] = field(default_factory=dict)
    series: dict[str, list[Node]] = field(default_factory=dict)
    rewritten: dict[Node, list[Node]] = field(default_factory=dict)
    overwritten: dict[Node, list[Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = reach([self.loss])
        self.inside = {*steps, *(one for node in steps for one in node.inputs)}
        self.true = run(self.loss, {}).arrived

    def collect(self, bindings: Sequence[Binding]) -> None:
        """Take the names from what the variables held."""
        constants = {id(one.value): one for one in self.inside if not one.needs}
        elements: dict[Node, str] = {}
        handles: dict[tuple[str, int, int], list[Node]] = {}
        for one in sorted(bindings, key=_plainness):
            node = one.value if isinstance(one.value, Node) else constants.get(one.handle)
            if node is None or node not in self.inside:
                continue
            name = short(one.name)
            if not node.needs or node not in self.true:
                self.names.setdefault(node, name)
                continue
            if node in self.names and quantities_of(name, self.nodes):
                continue  # dscores = probs: soon to be written on
            self.names.setdefault(node, name)
            known = self.nodes.setdefault(name, [])
            if node not in known:
                known.append(node)
                handles.setdefault((name, one.frame, one.handle), []).append(node)
            if "[" in name:
                elements.setdefault(node, name)
        self._forget_rewritten(handles)
        self._note_rewritten(bindings)
        self._collect_lists()
        self._tell_apart(elements)
        for node, label in self.params.items():
            if node in self.true:
                if "[" not in label or "." in label or node not in self.names:
                    self.names[node] = short(label)
                self.nodes[label] = [node]
                self.nodes.setdefault(short(label), [node])
        self.names[self.loss] = self.names.get(self.loss, "loss")

    def _note_rewritten(self, bindings: Sequence[Binding]) -> None:
        """What the backward pass wrote over a quantity, or over data."""
        constants = {id(one.value): one for one in self.inside if not one.needs}
        held: dict[tuple[str, int], tuple[Node, int]] = {}
        for one in bindings:
            key = (one.name, one.frame)
            node = one.value if isinstance(one.value, Node) else constants.get(one.handle)
            first = held.get(key)
            if node is not None and node in self.inside:
                held[key] = (node, one.handle)
            elif first is not None and (first[1] == one.handle or first[0] in self.params):
                array = _array(one.value)
                if array.shape == np.shape(first[0].value) and array.dtype.kind == "f":
                    self.overwritten.setdefault(first[0], []).append(array)

    def _collect_lists(self) -> None:
        """The elements of a list or a dict of layers are the values of one variable, too."""
        lists: dict[str, list[Node]] = {}
        for name, nodes in self.nodes.items():
            item = re.fullmatch(r"([A-Za-z_]\w*?)s?\[(\d+)\]", name)
            if item is not None:
                lists.setdefault(item[1], []).extend(nodes)
        for name, nodes in lists.items():
            if name not in self.nodes:
                self.nodes[name] = list(dict.fromkeys(nodes))

    def _forget_rewritten(self, handles: Mapping[tuple[str, int, int], list[Node]]) -> None:
        """Of an array that was filled or changed in place, the first and the last content count."""
        for (name, _, _), versions in handles.items():
            versions = sorted(versions, key=lambda node: node.order)
            for i, node in enumerate(versions):
                self.rewritten.setdefault(node, []).extend(versions[i + 1 :])
            for node in versions[1:-1]:
                self.nodes[name].remove(node)
                if self.names.get(node) == name:
                    del self.names[node]
            if len(versions) < 2 or not _is_write(versions[1]):
                continue
            if versions[0].value.shape == versions[-1].value.shape:  # it was filled
                self.nodes[name].remove(versions[0])
                if self.names.get(versions[0]) == name:
                    del self.names[versions[0]]

    def _tell_apart(self, elements: Mapping[Node, str]) -> None:
        """The values that one variable had in a loop are numbered."""
        for name, nodes in list(self.nodes.items()):
            nodes.sort(key=lambda one: one.order)
            if len(nodes) < 2:
                continue
            self.series[name] = nodes
            for k, node in enumerate(nodes):
                if self.names.get(node) == name:
                    others = [
                        other for other, ones in self.nodes.items()
                        if other != name and ones == [node] and "[" not in other
                    ]  # fmt: skip
                    element = elements.get(node, "")
                    listed = element.partition("[")[0] in (name, f"{name}s")
                    self.names[node] = next(iter(others), element if listed else f"{name}[{k}]")

    def is_kept(self, one: Binding) -> bool:
        """Whether a variable holds a quantity and no gradient: a parameter, ``cache["z1"]``."""
        if not isinstance(one.value, Node):
            return False
        return one.value in self.params or one.value in self.nodes.get(short(one.name), ())


def _plainness(one: Binding) -> tuple[int, bool, bool]:
    """Sorts bindings by how good a name they give: a variable, of the outermost function first."""
    return one.depth, "[" in short(one.name), "[" in one.name or "." in one.name


def _is_write(node: Node) -> bool:
    return node.primitive is not None and node.primitive.name in ("write", "reshape")


class Matcher:
    """Finds out of what quantity each variable is the gradient."""

    def __init__(
        self, quantities: Quantities, match: Mapping[str, str], bindings: Sequence[Binding]
    ) -> None:
        self.quantities, self.match = quantities, match
        self.bindings = bindings
        self.given: dict[Node, Given] = {}
        self.strange: list[str] = []
        self.bound = {
            one.value: one for one in reversed(bindings)
            if isinstance(one.value, Node) and one.value not in quantities.inside
        }  # fmt: skip
        self.uses = {node: self._nearest(node, self.bound) for node in self.bound}
        self.users: dict[Node, list[Node]] = {}
        for node, used in self.uses.items():
            for one in used:
                self.users.setdefault(one, []).append(node)

    def variables(self) -> None:
        """The gradients that variables held."""
        q, bindings = self.quantities, self.bindings
        doubtful: list[Binding] = []
        for variable, versions in self._versions(bindings).items():
            if variable in self.match:
                names = [self.match[variable]] if self.match[variable] in q.nodes else []
            else:
                names = quantities_of(variable, q.nodes)
            pairs = self._best(names, versions)
            explicit = variable in self.match
            for node, version, later in pairs:
                if node is q.loss:
                    continue
                fits = self._fits(node, _array(version.value))
                if not fits and not explicit and not _says_so(variable, q.names.get(node, "")):
                    doubtful += [version] if isinstance(version.value, Node) else []
                self._take(node, version, later, guessed=not explicit)
            if not pairs:
                doubtful += [one for one in versions if isinstance(one.value, Node)]
                if is_gradients_name(variable) and "[" not in variable:
                    self.strange.append(variable)
        self._by_structure(doubtful)

    def _take(self, node: Node, one: Binding, later: Sequence[Binding], guessed: bool) -> None:
        recorded = one.value if isinstance(one.value, Node) else None
        rewritten = tuple(_array(other.value) for other in later)
        self.given.setdefault(
            node,
            Given(node, _array(one.value), one.name, one.place, guessed, rewritten, recorded),
        )

    def _versions(self, bindings: Sequence[Binding]) -> dict[str, list[Binding]]:
        """What each variable held that is no quantity of the loss, in the order of time.

        A gradient may be a value that the loss was computed from, if nothing else became of it.
        """
        q = self.quantities
        found: dict[str, list[Binding]] = {}
        for one in bindings:
            known = found.setdefault(one.name, [])
            passed_on = any(one.value is other.value for other in known)  # to a helper
            if short(one.name) not in q.nodes and not q.is_kept(one) and not passed_on:
                known.append(one)
        found = {name: versions for name, versions in found.items() if versions}
        for name, versions in found.items():
            fresh = [
                one for one in versions
                if not (isinstance(one.value, Node) and one.value in q.inside)
                and _array(one.value).dtype.kind == "f"
            ]  # fmt: skip
            found[name] = fresh or versions
        return found

    def _best(
        self, names: Sequence[str], versions: list[Binding]
    ) -> list[tuple[Node, Binding, list[Binding]]]:
        """The pairs under the first name where one fits, else under the first name."""
        tried = [self._paired(name, self.quantities.nodes[name], versions) for name in names]
        for pairs in tried:
            if any(self._fits(node, _array(one.value)) for node, one, _ in pairs):
                return pairs
        return next(iter(tried), [])

    def _paired(
        self, name: str, nodes: list[Node], versions: list[Binding]
    ) -> list[tuple[Node, Binding, list[Binding]]]:
        """Which version of a variable is the gradient of which node.

        Of one node: the right one if any is, else the last. In a loop each node has one.
        """
        if len(nodes) > 1 and len({(one.frame, one.handle) for one in versions}) == 1:
            nodes = [self._one_of(name, nodes, versions)]
        if len(nodes) > 1:
            return self._looped(nodes, versions)
        (node,) = nodes
        right = [one for one in versions if self._is_right(node, _array(one.value))]
        after = _masks(node)
        unmasked = [one for one in versions if not (after and _masked(one.value))]
        chosen = (right or unmasked or versions)[-1]
        position = next(i for i, one in enumerate(versions) if one is chosen)
        later = [one for one in versions[position + 1 :] if one.handle == chosen.handle]
        found = [(node, chosen, later)]
        last = versions[-1]
        if chosen is not last:  # written on in place: now it is the gradient of what came before
            inputs = [one for one in node.inputs if one in self.quantities.true]
            named = [one for one in inputs if one in self.quantities.names] or inputs
            if len(named) == 1 and named[0].value.shape == _array(last.value).shape:
                taken = name in self.quantities.names.values()
                self.quantities.names.setdefault(named[0], f"{name} (before)" if taken else name)
                found.append((named[0], last, []))
        return found

    def _one_of(self, name: str, nodes: list[Node], versions: list[Binding]) -> Node:
        """Of the values that a variable had one after another, that of which there is one gradient.

        It is the value that the parameters below were used in; else one that fits; else the last.
        """
        last = versions[-1]
        below = [node for user in self.users.get(last.value, ()) for node in self._says(user)]
        found = self._between(below, [], _array(last.value).shape) if below else None
        tried = [*([found] if found is not None else []), *nodes]
        fitting = (n for n in tried if any(self._fits(n, _array(one.value)) for one in versions))
        chosen = next(fitting, found or nodes[-1])
        if chosen not in self.quantities.names:
            taken = name in self.quantities.names.values()
            self.quantities.names[chosen] = f"{name} (before)" if taken else name
        return chosen

    def _says(self, recorded: Node) -> list[Node]:
        """The parameter whose gradient a recorded value is, by the name of its variable."""
        q = self.quantities
        names = quantities_of(self.bound[recorded].name, q.nodes)
        return [node for name in names[:1] for node in q.nodes[name] if node in q.params]

    def _looped(
        self, nodes: list[Node], versions: list[Binding]
    ) -> list[tuple[Node, Binding, list[Binding]]]:
        """A loop gives a variable one value a time, backwards as a rule, in place step by step.

        The values are laid beside the nodes in the one order or the other, so that as many as
        possible are right; of equally good ones the later, which is what the variable became.
        """
        versions = versions[-MOST_VERSIONS:]
        lines = dict.fromkeys(one.line for one in versions)
        groups = [versions, *([one for one in versions if one.line == line] for line in lines)]
        tried = []
        for group in groups:
            backwards = self._aligned(nodes[::-1], group)
            forwards = self._aligned(nodes, group)
            started = any(group[0].tick < one.tick for one in self._bound(nodes[-1]))
            better = max(backwards, forwards, key=lambda one: one[0])
            tried.append(
                (forwards if started else backwards) if forwards[0] == backwards[0] else better
            )
        _, pairs = max(tried, key=lambda one: one[0])
        return [(node, one, list[Binding]()) for node, one in pairs]

    def _aligned(
        self, nodes: Sequence[Node], versions: Sequence[Binding]
    ) -> tuple[float, list[tuple[Node, Binding]]]:
        """The best way to give nodes versions in this order; each may go without."""
        worth = [[self._worth(node, one) for one in versions] for node in nodes]
        n, m = len(nodes), len(versions)
        best = np.zeros((n + 1, m + 1))
        for i in range(1, n + 1):
            for j in range(1, m + 1):
                best[i, j] = max(best[i - 1, j], best[i, j - 1])
                if worth[i - 1][j - 1]:
                    best[i, j] = max(best[i, j], best[i - 1, j - 1] + worth[i - 1][j - 1])
        pairs = []
        i, j = n, m
        while i and j:
            taken = worth[i - 1][j - 1] and best[i, j] == best[i - 1, j - 1] + worth[i - 1][j - 1]
            if taken:
                pairs.append((nodes[i - 1], versions[j - 1]))
                i, j = i - 1, j - 1
            elif best[i, j] == best[i, j - 1]:
                j -= 1
            else:
                i -= 1
        return float(best[n, m]), pairs[::-1]

    def _worth(self, node: Node, one: Binding) -> float:
        """How well a value fits a node; of values that do not, one that is used does better."""
        array = _array(one.value)
        if array.shape != node.value.shape:
            return 0.0
        used = len(self.users.get(one.value, ())) if isinstance(one.value, Node) else 0
        fit = 9.0 if self._is_right(node, array) else 4.0 if self._fits(node, array) else 1.0
        return fit + min(used, 8) / 16

    def _bound(self, node: Node) -> Iterator[Binding]:
        return (one for one in self.bindings if one.value is node)

    def _is_right(self, node: Node, array: Array) -> bool:
        right = self.quantities.true.get(node)
        return (
            right is not None
            and array.shape == right.shape
            and norm(array - right) <= 1e-6 * norm(right)
        )

    def _fits(self, node: Node, array: Array) -> bool:
        """Whether it is the right gradient, or a multiple of it."""
        right = self.quantities.true.get(node)
        if right is None or array.shape != right.shape:
            return False
        square = float(np.vdot(right, right))
        if right.size < 2 or not square:
            return self._is_right(node, array)
        c = float(np.vdot(right, array)) / square
        return c != 0 and norm(array - c * right) <= 1e-5 * abs(c) * norm(right)

    # -- by what becomes of a variable -----------------------------------------------------------------

    def _by_structure(self, doubtful: Sequence[Binding]) -> None:
        """Gradients whose names say nothing: ``delta`` is that of what ``W`` was used in, if
        ``dW = x.T @ delta``."""
        q, bound, uses, users = self.quantities, self.bound, self.uses, self.users
        owner = {given.recorded: node for node, given in self.given.items() if given.recorded}
        unsure = {one.value for one in doubtful}
        counts = Counter(one.name for one in doubtful)
        repeated = {name for name, count in counts.items() if count > 1}
        for one in sorted(doubtful, key=lambda one: one.tick, reverse=True):
            below = [owner[user] for user in users.get(one.value, ()) if user in owner]
            if not below or one.value not in bound:
                continue
            above = [
                owner[used] for used in uses[one.value] if used in owner and used not in unsure
            ]
            node = self._between(below, above, _array(one.value).shape)
            loose = one.value in owner or one.name in repeated
            if node is None or (loose and not self._fits(node, _array(one.value))):
                continue
            previous = owner.pop(one.value, None)
            if previous is not None and previous is not node:
                del self.given[previous]
            if node in self.given and node is not previous:
                continue
            if node not in q.names:
                q.names[node] = self._new_name(one.name)
            self._take(node, one, [], guessed=True)
            owner[one.value] = node
            if one.name in self.strange:
                self.strange.remove(one.name)

    def expression(self, given: Given) -> list[Node]:
        """The operations of the user's own expression for a gradient, up to other gradients."""
        ends = {one.recorded for one in self.given.values() if one is not given}
        found: list[Node] = []
        todo = [given.recorded] if given.recorded is not None else []
        while todo:
            node = todo.pop()
            if node.primitive is None or node in self.quantities.inside or node in found:
                continue
            found.append(node)
            todo += [one for one in node.inputs if one not in ends]
        return found

    def _nearest(self, node: Node, bound: Mapping[Node, Binding]) -> list[Node]:
        """The variables that a recorded value was computed from."""
        found, todo, seen = [], list(node.inputs), set(node.inputs)
        while todo:
            one = todo.pop()
            if one in bound:
                found.append(one)
                continue
            if one in self.quantities.inside:
                continue
            fresh = [other for other in one.inputs if other not in seen]
            seen.update(fresh)
            todo += fresh
        return found

    def _between(
        self, below: Sequence[Node], above: Sequence[Node], shape: tuple[int, ...]
    ) -> Node | None:
        """The oldest value of a shape that depends on all ``below`` and that ``above`` depends on.

        Where there is one it depends on all that they were used in, as the last of the terms that
        are added up.
        """
        q = self.quantities
        ends = above or [q.loss]
        found = [
            node for node in q.true
            if node.primitive is not None and node.value.shape == shape
            and all(node is not one and _depends(node, one) for one in below)
            and any(node is not one and _depends(one, node) for one in ends)
        ]  # fmt: skip
        uses = [node for node in q.inside if any(one in below for one in node.inputs)]
        whole = [node for node in found if all(_depends(node, one) for one in uses)]
        return min(whole or found, key=lambda node: node.order, default=None)

    def _new_name(self, variable: str) -> str:
        bare = short(variable)
        taken = set(self.quantities.names.values())
        forms = [bare[1:].lstrip("_") if bare[0] == "d" and bare[:2] != "de" else ""]
        forms += [
            form.format(bare[len("delta") :].lstrip("_")) for form in BEFORE if bare[:5] == "delta"
        ]
        forms += [f"of {bare}"]
        return next((form for form in forms if form and form not in taken), f"of {bare} (2)")

    # -- what was returned -----------------------------------------------------------------------------

    def returned(
        self, gradients: Sequence[tuple[str, Any]], listed: bool, bindings: Sequence[Binding]
    ) -> tuple[list[str], bool]:
        """Take the returned gradients; those that match nothing, and whether a list was out of order."""
        places = {one.handle: one for one in bindings}
        by_value = {one.value: one for one in bindings if isinstance(one.value, Node)}
        variables = [
            by_value.get(value.node) if isinstance(value, Tensor) else places.get(id(value))
            for _, value in gradients
        ]
        owners, reordered = self._owners(gradients, listed, variables)
        unmatched = []
        for (key, value), owner, variable in zip(gradients, owners, variables):
            if owner is None:
                unmatched.append(key)
                continue
            before = self.given.get(owner)
            name = key if is_gradients_name(key) else f"grads[{key!r}]"
            if listed:
                name = f"d{self.quantities.names[owner]}"
            place = before.place if before is not None else ""
            if before is not None:
                name = before.variable
            elif variable is not None:
                name, place = variable.name, variable.place
            node = getattr(value, "node", None)
            self.given[owner] = Given(owner, _array(value), name, place, False, (), node)
        return unmatched, reordered

    def _owners(
        self,
        gradients: Sequence[tuple[str, Any]],
        listed: bool,
        variables: Sequence[Binding | None],
    ) -> tuple[list[Node | None], bool]:
        """For each returned gradient its parameter: by name, and a list by position."""
        q = self.quantities
        params = [node if node in q.true else None for node in q.params]
        if not listed:
            return [self._named(key) for key, _ in gradients], False
        placed = [params[i] if i < len(params) else None for i in range(len(gradients))]
        named = [self._named(one.name) if one is not None else None for one in variables]
        known = [node for node in named if node is not None and node in q.params]
        if len(known) == len(gradients) == len(set(known)) and named != placed:
            fits = [
                sum(
                    n is not None and self._fits(n, _array(g))
                    for n, (_, g) in zip(nodes, gradients)
                )
                for nodes in (placed, named)
            ]
            if fits[1] > fits[0] or len(gradients) != len(params):
                return named, True
        return placed, False

    def _named(self, key: str) -> Node | None:
        q = self.quantities
        if key in self.match:
            names = [self.match[key]]
        else:
            names = [key] if key in q.nodes else quantities_of(key, q.nodes)
        nodes = [node for name in names for node in q.nodes.get(name, ())]
        return next(
            (node for node in nodes if node in q.params), nodes[0] if len(nodes) == 1 else None
        )


def _says_so(variable: str, quantity: str) -> bool:
    """Whether a variable is called the gradient of a quantity in so many words: ``dz1``."""
    name = short(variable)
    forms = ("d{}", "d_{}", "g{}", "g_{}", "grad_{}", "{}_grad", "grad{}")
    return any(name == form.format(short(quantity)) for form in forms)


def _depends(node: Node, on: Node) -> bool:
    """Whether a value was computed from another one, or is it."""
    return node is on or (
        node.order > on.order and on in {one for step in reach([node], [on]) for one in step.inputs}
    )


def _masked(value: Any) -> bool:
    """Whether it is what ``dh[h <= 0] = 0`` made: the gradient of what came before ``h``."""
    index = (value.params or {}).get("index") if isinstance(value, Node) else None
    return (
        isinstance(index, np.ndarray) and index.dtype == bool and not np.any(value.inputs[1].value)
    )


def _masks(node: Node) -> bool:
    """Whether a value lets only some of the elements of another through, as a ReLU does."""
    sent: dict[Node, Array] = {}
    if node.primitive is not None:
        pull_useful(node, np.ones_like(node.value), sent, None, recorded=False)
    slopes = [d for d in sent.values() if d.shape == node.value.shape]
    return len(slopes) == 1 and len(np.unique(slopes[0])) == 2


def _array(value: Any) -> Array:
    return np.asarray(value.value if isinstance(value, Node) else plain(value))
