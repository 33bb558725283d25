"""`gradcheck`: recorded derivatives held against numerical ones."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import tree
from ..backward import gradients, reach, sweep
from ..core import Primitive, Tensor, plain
from ..errors import ArgumentError, DtypeError, GradientError, message
from ..transforms import vjp
from .numerical import Array, Line, Measured, Point, complex_step_refused
from .reading import axis_reading, ratio_reading
from .report import ArgumentCheck, GradientReport
from .rules import norm

# From this many elements on an argument is examined along random directions instead.
EACH_ELEMENT_BELOW = 500
DIRECTIONS = 16
# How many elements of a big argument are looked at to tell what kind of mistake it is.
SAMPLED = 32
VERDICTS = ("right", "kink", "noise", "wrong")  # the worse the later

Flat = Callable[..., list[Any]]


def gradcheck(
    f: Callable[..., Any],
    inputs: Sequence[Any] | dict[str, Any],
    *,
    order: int = 1,
    directions: int | Mapping[str, Sequence[Any]] | None = None,
    method: str | None = None,
    seed: int = 0,
) -> GradientReport:
    """Hold recorded derivatives against numerical ones, ``(f(x + h v) - f(x - h v)) / 2h``.

    Parameters
    ----------
    f : callable
        A function of Tensors, or a primitive; it returns a Tensor or a nest of them, and the same
        numbers every time. What is checked is the gradient of ``sum(g * y)`` over its outputs, ``g``
        being 1 for a scalar and random otherwise.
    inputs : list, tuple or dict
        Its arguments, by position or by name: arrays, Tensors, or nests of them. Those of a floating
        dtype are checked, everything else (labels, ``axis``) is handed on.
    order : int
        2 checks the derivatives of the recorded gradient too, also with respect to ``g``.
    directions : int or dict, optional
        Along how many random directions each argument is examined; or for some of them, by name, the
        directions themselves, arrays of the argument's shape. By default every element is, and 16
        random directions for an argument of 500 elements or more.
    method : {"central", "complex"}, optional
        By default the complex step where ``f`` is analytic on complex arrays, otherwise central
        differences, and the report says why. Orders above 1 are always central.
    seed : int
        Of the random ``g`` and directions.

    Returns
    -------
    GradientReport
        ``.ok``, ``["name"]``, ``.raise_if_wrong()``.

    Raises
    ------
    DtypeError
        If no input is floating-point, or ``f`` returns nothing that is.
    GradientError
        If two evaluations at the same inputs differ.
    ArgumentError
        For ``method="complex"`` where it cannot be used, and for directions of an unknown argument or
        of another shape.

    Notes
    -----
    No tolerance is fixed: several steps tell truncation from rounding, and so what difference they
    explain. The complex step (Squire and Trapp, SIAM Review 40, 1998) has no rounding to speak of.

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> report = tg.gradcheck(tg.matmul, {"x": np.ones((2, 3)), "W": np.eye(3)}, order=2)
    >>> report.ok, report["W"].verdict, report["W"].method
    (True, 'right', 'complex')
    """
    if method not in (None, "central", "complex"):
        raise ArgumentError(
            message("gradcheck", "method 'central', 'complex' or None", repr(method))
        )
    if not isinstance(order, int) or order < 1:
        raise ArgumentError(message("gradcheck", "order 1 or more", repr(order)))
    names, arrays, flat = _flattened(f, inputs)
    rng = np.random.default_rng(seed)
    _refuse_strange(directions, dict(zip(names, arrays)))
    check = _Check(flat, names, arrays, rng, directions, method)
    rows = check.rows()
    for _ in range(1, order):
        if any(row.verdict == "shape" for row in rows):
            break
        check = check.differentiated()
        rows += check.rows()
    return GradientReport(tuple(rows))


def _refuse_strange(directions: Any, arrays: Mapping[str, Array]) -> None:
    """Raise if directions are given for no argument, or of another shape."""
    for name, chosen in directions.items() if isinstance(directions, Mapping) else ():
        if name not in arrays:
            raise ArgumentError(
                message("gradcheck", f"directions of {', '.join(arrays)}", repr(name))
            )
        for v in chosen:
            if np.shape(v) != arrays[name].shape or not np.any(v):
                raise ArgumentError(
                    message("gradcheck", f"directions of shape {arrays[name].shape} for {name}, not zero",
                            f"shape {np.shape(v)}")
                )  # fmt: skip


def _flattened(
    f: Callable[..., Any], inputs: Sequence[Any] | dict[str, Any]
) -> tuple[list[str], list[Array], Flat]:
    """Names and arrays of the floating-point inputs, and ``f`` as a function of these alone."""
    if not isinstance(inputs, list | tuple | dict):
        raise DtypeError(
            message("gradcheck", "a list, tuple or dict of the arguments of f", type(inputs).__name__,
                    "Write gradcheck(f, [x]).")
        )  # fmt: skip
    parameters = f.parameters if isinstance(f, Primitive) else ()
    named = inputs.items() if isinstance(inputs, dict) else zip(_argument_names(f), inputs)
    leaves = [
        (path, leaf, path.split("[")[0] not in parameters)
        for name, value in named for path, leaf in _paths(value, name)
    ]  # fmt: skip
    checked = [free and np.asarray(plain(leaf)).dtype.kind == "f" for _, leaf, free in leaves]
    if not any(checked):
        raise DtypeError(
            message("gradcheck", "floating-point inputs to differentiate",
                    ", ".join(str(np.asarray(plain(leaf)).dtype) for _, leaf, _ in leaves) or "none",
                    "Give floats (1.0, not 1).")
        )  # fmt: skip

    def flat(*tensors: Any) -> list[Any]:
        given = iter(tensors)
        filled = iter([next(given) if c else leaf for c, (_, leaf, _) in zip(checked, leaves)])
        call = tree.like(inputs, filled)
        result = f(**call) if isinstance(call, dict) else f(*call)
        return [y for y in tree.leaves(result) if np.asarray(plain(y)).dtype.kind in "fc"]

    chosen = [(path, leaf) for c, (path, leaf, _) in zip(checked, leaves) if c]
    names = [getattr(leaf, "name", None) or path for path, leaf in chosen]
    return names, [np.asarray(plain(leaf)) for _, leaf in chosen], flat


def _argument_names(f: Callable[..., Any]) -> Iterator[str]:
    """The names of the positional arguments, as far as they are known."""
    if isinstance(f, Primitive):
        known = [] if f.variadic else list(f.arguments)
    else:
        try:
            parameters = inspect.signature(f).parameters.values()
        except (TypeError, ValueError):  # some built-in functions have no signature
            parameters = {}.values()
        known = [
            p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    return itertools.chain(known, (f"inputs[{i}]" for i in itertools.count(len(known))))


def _paths(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What is in a nest, each with the name one would type."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _paths(part, f"{name}[{key!r}]")
    elif isinstance(value, tuple | list):
        for i, part in enumerate(value):
            yield from _paths(part, f"{name}[{i}]")
    else:
        yield name, value


def _typical(x: Array) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(x.astype(float) ** 2))) if x.size else 0.0


def _sizes(x: Array) -> Array:
    """How far each element is moved for one: its own size, or a part of that of the others."""
    sizes = np.maximum(np.abs(x.astype(float)), 1e-2 * _typical(x))
    return np.where(sizes == 0, 1.0, sizes)


def _signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers of either sign, none of them small: no element can hide."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))


class _Check:
    """One order of the check: a flat function, where it is examined, and what it records there."""

    def __init__(
        self, flat: Flat, names: list[str], arrays: list[Array], rng: np.random.Generator,
        directions: int | Mapping[str, Sequence[Any]] | None, method: str | None, order: int = 1,
        natural: list[float] | None = None,
    ) -> None:  # fmt: skip
        self.flat, self.names, self.order = flat, names, order
        self.sizes = [_sizes(a) for a in arrays]
        self.rng, self.directions, self.method = rng, directions, method
        self.inputs = [Tensor(a.copy(), requires_grad=True) for a in arrays]
        self.results = flat(*self.inputs)
        outputs = self.evaluate(arrays)
        if not outputs:
            raise DtypeError(
                message(
                    "gradcheck", "a function that returns floating-point tensors", "none of them"
                )
            )
        self._refuse_randomness(outputs, self.evaluate(arrays))
        single = sum(y.size for y in outputs) == 1
        gs = [np.ones_like(y) if single else _signed(rng, y.shape).astype(y.dtype) for y in outputs]
        self.point = Point(self.evaluate, arrays, outputs, gs, natural)
        self.eager = self._eager()

    def rows(self) -> list[ArgumentCheck]:
        return [self._row(k) for k in range(len(self.names))]

    def _row(self, k: int) -> ArgumentCheck:
        try:
            found = self.recorded(k)
        except ValueError as error:  # of shapes: by the engine, or by NumPy inside a formula
            return ArgumentCheck(
                self.names[k], self.order, self.point.arrays[k].shape, "-", None, np.nan, np.nan,
                np.nan, "shape", {}, kind="shape",
                reading=" ".join([str(error), *getattr(error, "__notes__", [])]),
            )  # fmt: skip
        argument = _Argument(
            self, k, np.zeros(self.point.arrays[k].shape) if found is None else found
        )
        row = argument.row()
        if found is None and row.verdict == "wrong":
            return replace(
                row, verdict="missing", kind="detached",
                reading="Nothing is recorded: f left the tensors (.data, detach(), no_grad()), or an "
                "operation has no VJP for this argument.",
            )  # fmt: skip
        eager = self.eager.get(self.inputs[k].node)
        if eager is not None and not argument.is_also(np.asarray(plain(eager))):
            return replace(
                row, verdict="wrong", kind="twin",
                reading="backward() gives other numbers than the formula: an array-only twin "
                "(Primitive.arrays) is not equal to its VJP.",
            )  # fmt: skip
        tripled = self.recorded(k, factor=3.0)
        if row.ok and tripled is not None and not argument.is_also(tripled / 3):
            return replace(
                row, verdict="wrong", kind="missing_cotangent",
                reading="Three times the cotangent does not give three times the gradient: a formula "
                "leaves out its g, which was 1 here.",
            )  # fmt: skip
        return row

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        return [np.asarray(plain(y)) for y in self.flat(*(Tensor(a) for a in arrays))]

    @staticmethod
    def _refuse_randomness(first: list[Array], second: list[Array]) -> None:
        same = len(first) == len(second) and all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second)
        )
        if not same:
            raise GradientError(
                "gradcheck: two evaluations of f at the same inputs differ. Does it draw random "
                "numbers, or keep a state? Seed a generator inside f, or fix the mask."
            )

    def differentiated(self) -> _Check:
        """The check of the gradient as a function of the inputs and of ``g``."""
        n, flat = len(self.names), self.flat

        def slopes(*xs: Any) -> list[Any]:
            return list(vjp(flat, *xs[:n])[1](list(xs[n:])))

        gs = self.point.cotangents
        g_names = [f"g{i if len(gs) > 1 else ''}" + "'" * (self.order - 1) for i in range(len(gs))]
        return _Check(
            slopes, [*self.names, *g_names], [*self.point.arrays, *gs], self.rng, self.directions,
            "central", self.order + 1, [self.point.size / (_typical(x) or 1.0) for x in self.point.arrays],
        )  # fmt: skip

    # -- what is recorded --------------------------------------------------------------------------

    def _live(self) -> list[tuple[Tensor, Array]]:
        pairs = zip(self.results, self.point.cotangents)
        return [(y, g) for y, g in pairs if type(y) is Tensor and y.requires_grad]

    def _eager(self) -> dict[Any, Any]:
        """The cotangents that `backward` would leave; none if it fails, which is explained later."""
        live = self._live()
        try:
            return sweep([y.node for y, _ in live], [g for _, g in live])
        except ValueError:
            return {}

    def recorded(self, k: int, factor: float = 1.0) -> Array | None:
        """The gradient of ``factor * g * y`` by the formulas; None if nothing is recorded."""
        live = self._live()
        node = self.inputs[k].node
        reached = {parent for y in reach([y.node for y, _ in live]) for parent in y.inputs}
        if node not in reached.union(y.node for y, _ in live):
            return None
        g: Tensor = gradients([y for y, _ in live], self.inputs[k], [factor * g for _, g in live])
        return np.asarray(g.data)


class _Argument:
    """One input, its recorded gradient, and what the numbers say about it."""

    def __init__(self, check: _Check, k: int, gradient: Array) -> None:
        self.check, self.k, self.gradient = check, k, gradient
        self.point, self.x, self.sizes = check.point, check.point.arrays[k], check.sizes[k]
        with np.errstate(invalid="ignore"):
            sized = np.abs(gradient * self.sizes)
        self.scale = float(np.max(sized, initial=0, where=np.isfinite(sized)))
        self.complex, self.note = self._choose_method()

    def is_also(self, other: Array) -> bool:
        """Whether another gradient is the same but for rounding."""
        a, b, eps = other, self.gradient, self.point.epsilon(self.k)
        near = 1e3 * eps * (np.abs(b) + self.point.significant(self.scale, eps) / self.sizes)
        with np.errstate(invalid="ignore"):
            return bool(np.all((np.abs(a - b) <= near) | (a == b) | (np.isnan(a) & np.isnan(b))))

    def _choose_method(self) -> tuple[bool, str]:
        """Whether the complex step is used, and why not where it was tried."""
        if self.check.method == "central" or not self.x.size:
            return False, ""
        v = _signed(self.check.rng, self.x.shape) * np.where(
            self.x == 0, self.sizes, np.abs(self.x)
        )
        refused = complex_step_refused(Line(self.point, self.k, v, self.gradient, self.scale))
        if refused and self.check.method == "complex":
            raise ArgumentError(
                f"gradcheck: method='complex' cannot be used for {self.check.names[self.k]}: {refused}. "
                "Leave the method out, or use 'central'."
            )
        return not refused, refused

    # -- measuring ---------------------------------------------------------------------------------

    def measure(self, v: Array, scale: float | None = None) -> Measured:
        line = Line(self.point, self.k, v, self.gradient, self.scale if scale is None else scale)
        return line.measure_complex() if self.complex else line.measure()

    def element(self, index: tuple[int, ...]) -> Measured:
        """One element. A small one beside large ones may need steps of its own size, as in ``1/x``."""
        own, size = abs(float(self.x[index])), float(self.sizes[index])
        v = np.zeros(self.x.shape)
        v[index] = size
        measured = self.measure(v).over(size)
        slope, eps = abs(float(self.gradient[index])) * own, self.point.epsilon(self.k)
        if (
            measured.verdict != "right"
            and own < size
            and slope == self.point.significant(slope, eps) > 0
        ):
            v[index] = own
            return self.measure(v, scale=0.0).over(own)
        return measured

    def wrong_element(self, v: Array) -> tuple[int, ...]:
        """Where a direction is wrong: by halving it, always towards the larger difference."""
        places = np.arange(v.size)
        while len(places) > 1:
            halves = np.array_split(places, 2)
            parts = [np.where(np.isin(np.arange(v.size), half), v.ravel(), 0) for half in halves]
            differences = [self.measure(part.reshape(v.shape)).difference for part in parts]
            places = halves[int(np.nan_to_num(differences, nan=np.inf).argmax())]
        return tuple(map(int, np.unravel_index(places[0], v.shape)))

    def sampled(self) -> list[tuple[int, ...]]:
        """Some elements at random."""
        places = self.check.rng.choice(self.x.size, min(SAMPLED, self.x.size), replace=False)
        return [tuple(map(int, np.unravel_index(place, self.x.shape))) for place in places]

    def _probes(self) -> list[Array]:
        """The directions along which it is examined; none if every element is."""
        asked = self.check.directions
        if isinstance(asked, Mapping):
            chosen = asked.get(self.check.names[self.k], ())
            probes = [np.asarray(v, float) for v in chosen]
            if probes:
                return [v * (norm(self.sizes) / norm(v)) for v in probes]
        count = asked if isinstance(asked, int) else 0
        count = count or (DIRECTIONS if self.x.size >= EACH_ELEMENT_BELOW else 0)
        if not self.x.size:
            return []
        return [_signed(self.check.rng, self.x.shape) * self.sizes for _ in range(count)]

    # -- the row -----------------------------------------------------------------------------------

    def row(self) -> ArgumentCheck:
        probes = self._probes()
        count = len(probes)
        if probes:
            measured = [self.measure(v) for v in probes]
            wrong = [v for v, m in zip(probes, measured) if m.verdict == "wrong"]
            places = {self.wrong_element(wrong[0]), *self.sampled()} if wrong else set()
            elements = {index: self.element(index) for index in sorted(places)}
        else:
            elements = {index: self.element(index) for index in np.ndindex(self.x.shape)}
            measured = list(elements.values())
        verdict = max((m.verdict for m in measured), key=VERDICTS.index, default="right")
        candidates: list[tuple[tuple[int, ...] | None, Measured]] = [
            (index, m) for index, m in elements.items() if m.verdict == verdict
        ]
        index, worst = max(
            candidates or [(None, m) for m in measured if m.verdict == verdict],
            key=lambda pair: np.nan_to_num(pair[1].difference, nan=np.inf),
            default=(None, Measured(0.0, 0.0, 0.0, "right", "-")),
        )
        kind, reading = self._read(elements) if verdict == "wrong" else ("", "")
        return ArgumentCheck(
            self.check.names[self.k], self.check.order, self.x.shape,
            f"{worst.method} x{count}" if count else worst.method, index,
            worst.recorded, worst.numerical, worst.uncertainty, verdict,
            {v: Counter(m.verdict for m in measured)[v] for v in VERDICTS},
            tuple(i for i, m in elements.items() if m.verdict == "kink"), kind, reading, self.note,
        )  # fmt: skip

    def _read(self, elements: dict[tuple[int, ...], Measured]) -> tuple[str, str]:
        """What the numbers look like."""
        told = [m for m in elements.values() if m.verdict in ("right", "wrong")]
        recorded, numerical = np.array([(m.recorded, m.numerical) for m in told]).reshape(-1, 2).T
        near = 3 * np.array([m.uncertainty for m in told]) + 1e-6 * np.max(
            np.abs(numerical), initial=0
        )
        wrong = np.array([m.verdict == "wrong" for m in told], dtype=bool)
        if len(told) == self.x.size:
            whole = [array.reshape(self.x.shape) for array in (recorded, numerical, near)]
            if (found := axis_reading(*whole))[0]:
                return found
        return ratio_reading(recorded[wrong], numerical[wrong], near[wrong], self._lengths())

    def _lengths(self) -> dict[int, str]:
        """The lengths that a sum or a mean may have run over, and whose they are."""
        inputs = zip(self.check.names, self.point.arrays)
        arrays = [*inputs, *(("the result", y) for y in self.point.outputs)]
        found: dict[int, str] = {}
        for name, array in arrays:
            for axis, n in enumerate(array.shape):
                found.setdefault(n, f"the length of axis {axis} of {name}")
        for name, array in arrays:
            found.setdefault(array.size, f"the number of elements of {name}")
        return found
