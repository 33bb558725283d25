"""`check_backprop`: a function that returns its loss and its own gradients, as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..core import Node, Tensor, plain
from ..errors import ArgumentError, message
from .calling import Outcome, Subject, copied, subject
from .case import Facts
from .differences import by_differences, is_gradient
from .findings import BackpropReport
from .judging import judge
from .matching import quantity_of, short
from .recording import Matcher, Quantities
from .rules import Array
from .telling import tell_apart
from .watching import Binding, Watched


def check_backprop(
    loss_and_grads: Any,
    params: Any = None,
    *data: Any,
    match: Mapping[str, str] | None = None,
    hints: int = 3,
) -> BackpropReport:
    """Find the first wrong line of a hand-written backprop, and name the mistake.

    The code is run as it is, on arrays and once on tensors, which record what NumPy computes: that
    gives the true gradient of every variable, and the values and source lines of the gradients that
    the code computes for them.

    Parameters
    ----------
    loss_and_grads : callable or object
        ``loss_and_grads(params, *data)`` returns ``(loss, grads)``, or ``(grads, loss)``, or
        ``(loss, dW, db, ...)``. ``grads`` is a dict with the keys of ``params`` (``"W1"``,
        ``"dW1"``, ``"W1_grad"``), or a list or tuple in their order.

        Or a model, with ``params=None``: one whose ``loss(*data)`` returns ``(loss, grads)``; or
        one with ``forward`` and ``backward``. ``forward`` is given the data, or of it what its
        arguments are called (``X``; ``y``); if the model has a method ``loss``, that is given what
        ``forward`` returned and the labels, otherwise ``forward`` returns the loss; ``backward`` is
        given what its arguments are called. The gradients are the dict that ``backward`` returns, or
        attributes: ``dW1``, ``grads["W1"]``, ``layers[0].dW``.
    params : dict, list, tuple or object
        Floating-point arrays (or floats), in any nest; of an object its attributes, or what is in its
        ``params``. They are not changed: each run gets copies.
    *data
        Whatever else the function takes.
    match : dict, optional
        For variables whose names do not say it, the quantity they are the gradient of:
        ``{"err": "z2"}``. By itself ``dW1 d_W1 grad_W1 W1_grad gW1 grads["W1"]`` is the gradient of
        ``W1``, and ``delta2`` that of ``z2``.
    hints : {1, 2, 3}
        How much the report gives away: 1 the place of the mistake, 2 also its kind, 3 everything.

    Returns
    -------
    BackpropReport
        As of `check_gradients`, with source lines.

    Raises
    ------
    ArgumentError
        If it does not return a loss and gradients, or returns another loss each time.

    Notes
    -----
    Where the code cannot be followed on tensors the report says at which line, and the returned
    gradients are still held against finite differences of the returned loss.

    A first run on other parameters, and on the rows of the data in another order, shows what is kept
    between calls: a cache that still holds the values of that run is found. Where the arrays of
    one run allow several readings, another run on fewer rows tells them apart if it can.

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
    if hints not in (1, 2, 3):
        raise ArgumentError(message("check_backprop", "hints=1, 2 or 3", repr(hints)))
    state = np.random.get_state(legacy=True)  # noqa: NPY002 - which the user's code may draw from
    try:
        report = _Check(subject(loss_and_grads, params, data), match or {}).report()
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return report.hinted(hints)


class _Check:
    """One check: what was run, what was recorded of it, and what is told of it."""

    def __init__(self, what: Subject, match: Mapping[str, str]) -> None:
        self.subject, self.match = what, match
        self.notes: list[str] = []
        self.stale = self._warm()
        self.outcome = what.call([a.copy() for a in what.arrays])
        self._forget_numbers()
        self.held = Watched(self._on_arrays)
        assert self.held.result is not None
        again: Outcome = self.held.result
        if not _equal(self.outcome.number, again.number):
            raise ArgumentError(
                message("check_backprop", "the same loss every time",
                        f"{self.outcome.number:.6g} and {again.number:.6g}",
                        "Seed random numbers inside the function, and keep no state between calls.")
            )  # fmt: skip
        self._note_changes()

    def _warm(self) -> list[Binding]:
        """A first run at other parameters and rows; what its variables held."""
        rng = np.random.default_rng(1)
        what = self.subject
        moved = [
            a if label in what.single else np.asarray(a * rng.uniform(0.8, 1.25, a.shape), a.dtype)
            for label, a in zip(what.labels, what.arrays)
        ]
        shuffled = rows_shuffled(what.data)
        watched = Watched(lambda: what.warmed(moved, shuffled))
        if watched.error is not None:  # on the user's own data it must run
            watched = Watched(lambda: what.warmed(moved, what.data_copies()))
        if watched.error is not None:
            raise watched.error
        return watched.bindings

    def _forget_numbers(self) -> None:
        """Plain numbers among the parameters that got no gradient are settings."""
        keys = {key for key, _ in self.outcome.gradients}
        settings = {
            label for i, label in enumerate(self.subject.labels)
            if label in self.subject.single
            and (i >= len(keys) if self.outcome.listed else not _has_gradient(label, keys))
        }  # fmt: skip
        self.subject.without(settings)

    def _on_arrays(self) -> Outcome:
        return self.subject.call([a.copy() for a in self.subject.arrays])

    def _note_changes(self) -> None:
        """Say which of the arrays it was given the function writes into."""
        what = self.subject
        values = [a.copy() for a in what.arrays]
        handed = what.data_copies()
        what.call(values, handed)
        changed = [
            label for label, a, b in zip(what.labels, values, what.arrays) if not _alike(a, b)
        ]
        for i, (mine, theirs) in enumerate(zip(handed, what.data)):
            pairs = zip(tree.leaves(mine), tree.leaves(theirs))
            if any(isinstance(a, np.ndarray) and not _alike(a, b) for a, b in pairs):
                changed.append(f"argument {i + 1} of the data")
        if changed:
            self.notes.append(f"Overwritten in place, for whoever calls it: {', '.join(changed)}.")

    # -- recording ---------------------------------------------------------------------------------

    def _recorded(self, arrays: Sequence[Array]) -> tuple[Watched, list[Tensor], Node | None]:
        """The run on tensors that can be followed furthest: with the data as tensors, if it may be."""
        loss = self.subject.value(arrays)
        tried = []
        for data_too, making in ((True, True), (False, True), (True, False), (False, False)):
            tensors = [Tensor(a.copy(), requires_grad=True) for a in arrays]
            handed = [_recorded(one) if data_too else copied(one) for one in self.subject.data]
            watched = Watched(lambda: self.subject.call(tensors, handed), making)
            node = _loss_node(watched, loss)
            tried.append((watched, tensors, node))
            if watched.error is None and node is not None:
                break
        return max(
            tried, key=lambda one: (one[2] is not None, one[0].error is None, one[0].stopped_at)
        )

    def report(self) -> BackpropReport:
        what = self.subject
        watched, tensors, node = self._recorded(what.arrays)
        if watched.error is not None:
            self.notes.append(
                f"Tensors cannot follow the code beyond line {watched.stopped} "
                f"({type(watched.error).__name__}: {watched.error})"
            )
        if node is not None and not self._is_the_loss(node, tensors):
            self.notes.append(
                "The loss is not recorded as it is computed: some step leaves the tensors"
                f"{self._where_left(watched)}."
            )
            node = None
        if node is None:
            return by_differences(what, self.outcome, tuple(self.notes))
        bindings, outcome = watched.bindings, watched.result
        if watched.error is not None:
            bindings = [
                *(one for one in bindings if one.tick < watched.stopped_at),
                *(one for one in self.held.bindings if one.tick >= watched.stopped_at),
            ]
            outcome = self.held.result
        params = dict(zip((tensor.node for tensor in tensors), what.labels))
        report = self._judged(watched, node, params, bindings, outcome)
        return tell_apart(report, what, self._smaller)

    def _smaller(self, data: tuple[Any, ...]) -> BackpropReport | None:
        """The report on other data; None if the function does not take them."""
        what = Subject(self.subject.run, self.subject.holder, data)
        try:
            other = _Check(what, self.match)
        except Exception:  # whatever the user's code says to fewer rows
            return None
        other.subject.without(set(what.labels) - set(self.subject.labels))
        watched, tensors, node = other._recorded(what.arrays)
        if node is None or watched.error is not None:
            return None
        params = dict(zip((tensor.node for tensor in tensors), what.labels))
        return other._judged(watched, node, params, watched.bindings, watched.result)

    def _is_the_loss(self, node: Node, tensors: list[Tensor]) -> bool:
        """Whether the record's gradient is the slope of the returned loss."""
        what = self.subject
        if is_gradient(node, tensors, what.arrays, what.value):
            return True
        # At a kink no difference is the slope: look beside it.
        rng = np.random.default_rng(0)
        beside = [a + (1e-3 * rng.normal(size=a.shape)).astype(a.dtype) for a in what.arrays]
        _, moved, there = self._recorded(beside)
        return there is not None and is_gradient(there, moved, beside, what.value)

    def _where_left(self, watched: Watched) -> str:
        """The lines that made numbers of tensors: after them no record goes on."""
        return f" (line {' or line '.join(watched.left[:3])})" if watched.left else ""

    # -- judging -----------------------------------------------------------------------------------

    def _judged(
        self, watched: Watched, node: Node, params: dict[Node, str], bindings: Sequence[Binding],
        outcome: Outcome,
    ) -> BackpropReport:  # fmt: skip
        quantities = Quantities(node, params)
        quantities.collect(bindings)
        matcher = Matcher(quantities, self.match, bindings)
        matcher.variables()
        unmatched, reordered = matcher.returned(outcome.gradients, outcome.listed, bindings)
        notes = list(self.notes)
        if reordered:
            notes.append(
                "The gradients are not returned in the order of the parameters; names count."
            )
        if matcher.strange:
            listed = ", ".join(dict.fromkeys(matcher.strange))
            notes.append(f"Variables that match no quantity: {listed} (give match=...).")
        notes += _overwritten(quantities, bindings)
        missing = [
            name for one, name in quantities.names.items()
            if one in params and one in quantities.true and one not in matcher.given
        ]  # fmt: skip
        facts = Facts(
            names=quantities.names,
            series=quantities.series,
            positions=watched.recorded,
            stale=self._stale(quantities, bindings),
            rewritten=_rewritten(quantities, matcher),
            written={one: matcher.expression(given) for one, given in matcher.given.items()},
        )
        report = judge(
            node, facts, list(matcher.given.values()), missing, tuple(unmatched), tuple(notes)
        )
        return report.drawn_from(node, quantities.names)

    def _stale(
        self, quantities: Quantities, bindings: Sequence[Binding]
    ) -> list[tuple[str, Array]]:
        """Arrays at hand that the loss does not read: of the first run, and handed in."""
        found: list[tuple[str, Array]] = []
        values = [_value(one) for one in quantities.inside]
        read = {value.tobytes() for value in values if value.ndim}
        for one in bindings:
            array = _value(one.value)
            outside = not (
                isinstance(one.value, Node) and (one.value in quantities.inside or one.value.needs)
            )
            if outside and _says_something(array) and array.tobytes() not in read:
                found.append((one.name, array.astype(float)))
        for one in self.stale:
            array = _value(one.value)
            if _says_something(array) and array.tobytes() not in read:
                found.append((f"{short(one.name)} of an earlier call", array.astype(float)))
        return list({array.tobytes(): (name, array) for name, array in reversed(found)}.values())[
            ::-1
        ]


def _value(one: Any) -> Array:
    return np.asarray(one.value if isinstance(one, Node) else plain(one))


def _says_something(array: Array) -> bool:
    return array.ndim > 0 and array.dtype.kind in "fb" and bool(np.any(array != array.flat[:1]))


def _equal(a: float, b: float) -> bool:
    return a == b or (np.isnan(a) and np.isnan(b))


def _alike(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _has_gradient(label: str, keys: set[str]) -> bool:
    return any(label == key or quantity_of(key, [label]) is not None for key in keys)


def _recorded(one: Any) -> Any:
    """Floating-point arrays as Tensors, so that their own methods (``x.dot``) record, too."""

    def lifted(x: Any) -> Any:
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim:
            return Tensor(x.copy())
        return x.copy() if isinstance(x, np.ndarray) else x

    return tree.rebuild(one, lifted)


def rows_shuffled(data: tuple[Any, ...]) -> list[Any]:
    """The data with the samples of the batch in another order, if it is clear what the batch is."""
    arrays = [one for one in tree.leaves(list(data)) if isinstance(one, np.ndarray) and one.ndim]
    for axis in (0, -1):
        lengths = {a.shape[axis] for a in arrays}
        if arrays and len(lengths) == 1:
            order = np.random.default_rng(2).permutation(lengths.pop())

            def shuffled(x: Any, axis: int = axis) -> Any:
                return np.take(x, order, axis) if isinstance(x, np.ndarray) and x.ndim else x

            return [tree.rebuild(one, shuffled) for one in data]
    return [copied(one) for one in data]


def _loss_node(watched: Watched, loss: float) -> Node | None:
    """The recorded loss: what was returned, or else the last scalar of its value."""
    if watched.error is None and isinstance(watched.result.loss, Tensor):
        found: Node = watched.result.loss.node
        return found if found.needs else None
    near = [
        node for node in watched.recorded
        if node.needs and np.size(node.value) == 1 and np.isclose(node.value.item(), loss, rtol=1e-6, atol=0)
    ]  # fmt: skip
    return near[-1] if near else None


def _rewritten(quantities: Quantities, matcher: Matcher) -> dict[Node, list[Array]]:
    """What quantities and gradients held after they were written into."""
    found = {
        node: [one.value for one in later] for node, later in quantities.rewritten.items() if later
    }
    for node, arrays in quantities.overwritten.items():
        found.setdefault(node, []).extend(arrays)
    for node, given in matcher.given.items():
        if given.rewritten:
            found.setdefault(node, []).extend(given.rewritten)
    return found


def _overwritten(quantities: Quantities, bindings: Sequence[Binding]) -> list[str]:
    """Quantities that the backward pass writes its gradients into: whoever reads them later is misled."""
    held: dict[tuple[int, int], Binding] = {}
    notes: list[str] = []
    for one in bindings:
        if not isinstance(one.value, Node):
            continue
        key = (one.frame, one.handle)
        before = held.setdefault(key, one)
        is_quantity = before.value in quantities.inside and quantities.names.get(
            before.value
        ) == short(before.name)
        if (
            is_quantity
            and one.value not in quantities.inside
            and before.value not in quantities.params
        ):
            text = f"{short(before.name)} is overwritten in place at line {one.place}."
            if not any(note.startswith(f"{short(before.name)} is overwritten") for note in notes):
                notes.append(text)
    return notes
