"""Tensor, Node and Primitive: what is recorded, and how an operation is defined.

Three classes carry the engine. A `Node` is one value in the graph: a leaf, or the result of one
primitive applied to other nodes. A `Tensor` is the handle a user holds on a node; writing into a
tensor gives the handle another node and leaves the old one, which others may have used, as it was.
A `Primitive` is a NumPy function with its name, its text and one VJP formula for each argument.
This module knows no operation: they live in `tinygrad_np.ops`, one family a file.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, partial
from string import Formatter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .errors import (
    ArgumentError,
    DtypeError,
    GradientError,
    IndexingError,
    ShapeError,
    TensorError,
    message,
)

ndarray = np.ndarray
asarray = np.asarray

# One clock for the whole process. A node is younger than its inputs, so the clock is also a
# topological order; and a leaf that is younger than the node that used it has been changed since.
tick: Final = itertools.count(1).__next__


class Node:
    """One value of the graph.

    Attributes
    ----------
    value : ndarray
        What was computed; for a constant argument what was given, which may be a number.
    needs : bool
        Whether a gradient is to flow through this node.
    primitive : Primitive or None
        What computed it; None for a leaf.
    inputs : tuple of Node
        The arguments; a plain array or number has a node of its own, which needs no gradient.
    params : dict or None
        The keyword parameters (``axis``, ``keepdims``, ...).
    saved : dict or None
        Residuals that the VJPs read (``p`` of a softmax cross-entropy).
    name, grad, hooks
        What the user attached: a name, the accumulated gradient, functions of the cotangent.
    origin
        What a watcher noted about where the node was recorded (see debug.py); else None.
    order : int
        The time of creation, or of the last change of a leaf.
    """

    __slots__ = (
        "grad", "hooks", "inputs", "name", "needs", "order", "origin", "params", "primitive", "saved",
        "value",
    )  # fmt: skip

    def __init__(
        self,
        value: Any,
        needs: bool = False,
        primitive: Primitive | None = None,
        inputs: tuple[Node, ...] = (),
        params: dict[str, Any] | None = None,
        saved: dict[str, Any] | None = None,
    ) -> None:
        self.value = value
        self.needs = needs
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.saved = saved
        self.name: str | None = None
        self.grad: Any = None
        self.hooks: dict[int, Callable[[Node, Any], Any]] | None = None
        self.origin: Any = None
        self.order = tick()

    def gradient(self) -> NDArray[Any] | None:
        """``grad``; one that a compiled step left in its own memory is copied from there first."""
        if type(self.grad) is Kept:
            self.grad = self.grad.array.copy()
        return self.grad

    @property
    def label(self) -> str:
        """The name in quotes if there is one, else the operation and the shape: for messages."""
        if self.name is not None:
            return repr(self.name)
        if self.primitive is None and not isinstance(self.value, ndarray):
            return f"the number {self.value!r}"
        kind = "a leaf" if self.primitive is None else f"a result of {self.primitive.name}"
        return f"{kind} of shape {self.value.shape}"


class Kept:
    """A gradient in memory that the next run of a compiled step writes to: copied when it is asked for."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array


# --------------------------------------------------------------------------------------------------
# Modes: whether operations are recorded, and who watches them
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mode:
    """How the current thread (or task) records.

    ``everything`` also records what needs no gradient, for those who read the program and not only
    its derivative; each of the ``watchers`` is called with every new node; ``audit`` looks over the
    backward pass (see debug.py); ``log`` is told what else happens in a step (see compiling/log.py).
    """

    recording: bool = True
    everything: bool = False
    watchers: tuple[Callable[[Node], None], ...] = ()
    audit: Any = None
    log: Any = None


_usual = Mode()
_mode: ContextVar[Mode] = ContextVar("mode", default=_usual)
# How many modes are on in all threads together. While there is none, which is nearly always, an
# operation reads this one global instead of the context variable.
_active = 0
_active_lock = threading.Lock()


class mode(ContextDecorator):
    """Context manager and decorator that changes fields of the current `Mode`."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes
        self.tokens: list[Any] = []

    def _recreate_cm(self) -> mode:
        return mode(**self.changes)

    def __enter__(self) -> Self:
        global _active
        self.tokens.append(_mode.set(replace(_mode.get(), **self.changes)))
        with _active_lock:
            _active += 1
        return self

    def __exit__(self, *error: object) -> None:
        global _active
        with _active_lock:
            _active -= 1
        _mode.reset(self.tokens.pop())


def current_mode() -> Mode:
    """The `Mode` of the current thread or task."""
    return _mode.get()


def current_audit() -> Any:
    """The audit of the current `Mode`, or None."""
    return _mode.get().audit if _active else None


def current_log() -> Any:
    """The log of the current `Mode`, or None."""
    return _mode.get().log if _active else None


def told(event: str, *what: Any) -> None:
    """Tell the log of the current `Mode`, if there is one, of an event."""
    log = _mode.get().log
    if log is not None:
        getattr(log, event)(*what)


def seen(event: str, node: Node, value: Any) -> Any:
    """As `told`, of a value on its way in or out; a log may hand on an array that it knows again."""
    log = _mode.get().log
    return value if log is None else getattr(log, event)(node, value)


def plain_array(value: Any) -> Any:
    """``np.asarray(value)``; but an array that a log keeps record of stays the one that it knows."""
    log = current_log()
    return value if log is not None and log.records(value) else np.asarray(value)


class no_grad(mode):
    """Do not record: nothing computed inside needs a gradient (context manager and decorator).

    Other threads go on recording.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(recording=False)


# --------------------------------------------------------------------------------------------------
# Tensor
# --------------------------------------------------------------------------------------------------


@final
class Tensor:
    """An array whose operations are recorded, so that gradients can flow back through them.

    Parameters
    ----------
    data : array_like
        Numbers or booleans. An ndarray is not copied; its dtype stays.
    requires_grad : bool
        Whether `backward` is to compute a gradient for it. Floating-point data only.
    dtype : dtype, optional
        The dtype to convert to; by default that of ``data``.
    name : str, optional
        The name in drawings, derived code and messages; can be set later.

    Raises
    ------
    DtypeError
        For data that is not numeric, for a Tensor, and for ``requires_grad`` on integers.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> w = tg.Tensor([1.0, -2.0], requires_grad=True, name="w")
    >>> loss = (w * w).sum()
    >>> loss.backward()
    >>> w.grad
    array([ 2., -4.])
    """

    # `_base` and `_views` are set only where views exist (see inplace.py).
    __slots__ = ("__weakref__", "_base", "_views", "node")

    node: Node
    _base: tuple[Tensor, Primitive, dict[str, Any]]
    _views: dict[int, weakref.ref[Tensor]]

    def __init__(
        self,
        data: ArrayLike,
        requires_grad: bool = False,
        dtype: DTypeLike | None = None,
        name: str | None = None,
    ) -> None:
        if type(data) is Tensor:
            raise DtypeError(
                message("Tensor", "an array", "a Tensor",
                        "Use it as it is, or .detach() to cut it from its graph.")
            )  # fmt: skip
        self.node = Node(_numeric(data, dtype))
        self.name = name
        if requires_grad:
            self.requires_grad = True

    # -- the array ---------------------------------------------------------------------------------

    @property
    def data(self) -> NDArray[Any]:
        """The ndarray itself, not a copy. Setting it keeps shape and dtype."""
        return seen("read", self.node, self.node.value) if _active else self.node.value

    @data.setter
    def data(self, value: ArrayLike) -> None:
        node = self.node
        if node.primitive is not None:
            raise GradientError(
                f"data: {node.label} was computed from other tensors and cannot be given other "
                "data: its gradient would belong to the old. Make a new Tensor, or .detach() it."
            )
        if _active:
            value = seen("set", node, value)
        if value is not node.value:
            value = asarray(plain(value), dtype=node.value.dtype)
            if value.shape != node.value.shape:
                raise ShapeError(
                    message("data", f"shape {node.value.shape} as before", f"{value.shape}",
                            "Make a new Tensor to change a shape.")
                )  # fmt: skip
            node.value = value
        node.order = tick()

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.node.value.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.node.value.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.node.value.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        return self.node.value.dtype

    def numpy(self) -> NDArray[Any]:
        """The ndarray, for a tensor that needs no gradient (else use ``.data`` or ``.detach()``)."""
        if self.node.needs:
            raise GradientError(
                f"numpy: {self.node.label} needs a gradient, which a plain array would lose. "
                "Use .detach().numpy(), or .data, if that is meant."
            )
        return self.data

    def item(self) -> Any:
        """The single element as a Python number."""
        if self.size != 1:
            raise ShapeError(message("item", "a tensor of one element", f"shape {self.shape}"))
        value = self.node.value.item()
        if _active:
            told("read", self.node, value)
        return value

    def detach(self) -> Tensor:
        """A tensor on the same array that is cut from the graph."""
        detached = Tensor(self.node.value, name=self.node.name)
        if _active:
            told("same_as", detached.node, self.node)
        return detached

    # -- the gradient ------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to (or through) this tensor."""
        return self.node.needs

    @requires_grad.setter
    def requires_grad(self, needs: bool) -> None:
        node = self.node
        if node.primitive is not None:
            if needs != node.needs:
                raise GradientError(
                    f"requires_grad: {node.label} was computed from other tensors; "
                    "it can be set on leaves only. Use .detach() to cut it from its graph."
                )
            return
        if needs and node.value.dtype.kind != "f":
            raise DtypeError(
                message("requires_grad", "a floating-point tensor", f"dtype {node.value.dtype}",
                        "Give floats (1.0, not 1) or dtype=float.")
            )  # fmt: skip
        if _active:
            told("set_needs", node)
        node.needs = needs

    @property
    def grad(self) -> NDArray[Any] | None:
        """The accumulated gradient: an ndarray of the tensor's shape and dtype, or None."""
        g = self.node.gradient()
        return seen("read_gradient", self.node, g) if _active else g

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        given = value
        if value is not None:
            value = asarray(plain(value), dtype=self.dtype)
            if value.shape != self.shape:
                raise ShapeError(message("grad", f"shape {self.shape}", f"{value.shape}"))
        log = current_log()
        if log is not None:
            value = log.set_gradient(self.node, given, value)
        self.node.grad = value

    @property
    def is_leaf(self) -> bool:
        """Whether it was given and not computed."""
        return self.node.primitive is None

    @property
    def name(self) -> str | None:
        """The name in drawings, derived code and messages."""
        return self.node.name

    @name.setter
    def name(self, name: str | None) -> None:
        if name is not None and not isinstance(name, str):
            raise DtypeError(message("name", "a str or None", type(name).__name__))
        self.node.name = name

    def __repr__(self) -> str:
        node = self.node
        body = np.array2string(node.value, separator=", ", prefix="Tensor(", threshold=100)
        notes = [f"shape={node.value.shape}"] if node.value.size > 100 else []
        if node.value.dtype not in (np.float64, np.int64, np.bool_):
            notes.append(f"dtype={node.value.dtype}")
        if node.primitive is not None:
            notes.append(f"from {node.primitive.name}")
        elif node.needs:
            notes.append("requires_grad=True")
        if node.name is not None:
            notes.append(f"name={node.name!r}")
        return f"Tensor({', '.join([body, *notes])})"

    def __reduce__(self) -> tuple[Any, ...]:
        node = self.node
        if node.primitive is not None:
            raise GradientError(
                f"copy: {node.label} carries the graph that computed it and cannot be copied or "
                "pickled. Use .detach()."
            )
        return _rebuild, (node.value, node.needs, node.name, node.gradient())

    def __init_subclass__(cls) -> None:
        raise TypeError("Tensor cannot be subclassed: hold one instead (see nn.Module).")

    if TYPE_CHECKING:
        # What operators.py binds from the table of operations, declared for type checkers.
        __hash__ = object.__hash__
        T: Tensor
        mT: Tensor

        def backward(self, cotangent: ArrayLike | None = None) -> None: ...
        def retain_grad(self) -> None: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __eq__(self, other: object) -> Tensor: ...  # type: ignore[override]  # as NumPy: elementwise
        def __ne__(self, other: object) -> Tensor: ...  # type: ignore[override]  # as NumPy: elementwise
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __bool__(self) -> bool: ...
        def __float__(self) -> float: ...
        def __int__(self) -> int: ...
        def exp(self) -> Tensor: ...
        def log(self) -> Tensor: ...
        def sqrt(self) -> Tensor: ...
        def tanh(self) -> Tensor: ...
        def sigmoid(self) -> Tensor: ...
        def relu(self) -> Tensor: ...
        def softmax(self, axis: int = -1) -> Tensor: ...
        def log_softmax(self, axis: int = -1) -> Tensor: ...
        def abs(self) -> Tensor: ...
        def astype(self, dtype: DTypeLike) -> Tensor: ...
        def register_hook(self, hook: Callable[[Any], Any]) -> Callable[[], None]: ...
        def logsumexp(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def __index__(self) -> int: ...
        def __dlpack__(self, **options: Any) -> Any: ...
        def __dlpack_device__(self) -> Any: ...
        def __iadd__(self, other: Any) -> Self: ...
        def __isub__(self, other: Any) -> Self: ...
        def __imul__(self, other: Any) -> Self: ...
        def __itruediv__(self, other: Any) -> Self: ...
        def __ifloordiv__(self, other: Any) -> Self: ...
        def __imod__(self, other: Any) -> Self: ...
        def copy(self) -> Tensor: ...
        def tolist(self) -> Any: ...
        def __ipow__(self, other: Any) -> Self: ...
        def __imatmul__(self, other: Any) -> Self: ...
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]: ...
        def clip(self, min: Any = None, max: Any = None) -> Tensor: ...
        def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __rand__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __ror__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __rxor__(self, other: Any) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def sin(self) -> Tensor: ...
        def cos(self) -> Tensor: ...
        def square(self) -> Tensor: ...
        def round(self, decimals: int = 0) -> Tensor: ...
        def var(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor: ...
        def std(self, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Tensor: ...
        def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def cumsum(self, axis: int | None = None) -> Tensor: ...
        def cumprod(self, axis: int | None = None) -> Tensor: ...
        def norm(self, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def median(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def quantile(self, q: Any, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor: ...
        def argsort(self, axis: int | None = -1) -> Tensor: ...
        def all(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def any(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def transpose(self, *axes: Any) -> Tensor: ...
        def squeeze(self, axis: Any = None) -> Tensor: ...
        def ravel(self) -> Tensor: ...
        def flatten(self) -> Tensor: ...
        def swapaxes(self, axis1: int, axis2: int) -> Tensor: ...
        def repeat(self, repeats: Any, axis: int | None = None) -> Tensor: ...
        def take(self, indices: Any, axis: int | None = None) -> Tensor: ...
        def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...
        def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...
        def dot(self, b: Any) -> Tensor: ...


# A Tensor without its checks: for results, which are arrays already.
new_tensor: Final = Tensor.__new__


def _numeric(data: ArrayLike, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """``data`` as an ndarray of numbers or booleans; an ndarray stays itself."""
    try:
        value = asarray(data, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise DtypeError(
            message("Tensor", "numbers in rows of equal length", f"{type(data).__name__}: {error}")
        ) from error
    if value.dtype.kind not in "fiubc":
        raise DtypeError(message("Tensor", "numbers or booleans", f"dtype {value.dtype}"))
    if isinstance(data, np.ma.MaskedArray):
        raise DtypeError(
            message("Tensor", "a plain array", "a masked array, whose mask would be lost",
                    "Fill it (.filled()) and multiply by the mask.")
        )  # fmt: skip
    return value


def _rebuild(value: NDArray[Any], needs: bool, name: str | None, grad: Any) -> Tensor:
    tensor = Tensor(value, requires_grad=needs, name=name)
    tensor.node.grad = grad
    return tensor


def as_array(x: Any) -> Any:
    """``np.asarray(x)``; what has a dtype already (an array, or a stand-in for one) is left as it is."""
    return x if hasattr(x, "dtype") else asarray(x)


def handle(node: Node) -> Tensor:
    """A new handle on an existing node."""
    tensor = new_tensor(Tensor)
    tensor.node = node
    return tensor


def plain(value: Any) -> Any:
    """The array under a tensor; anything else as it is."""
    return value.node.value if type(value) is Tensor else value


# --------------------------------------------------------------------------------------------------
# Primitive
# --------------------------------------------------------------------------------------------------

Formula = Callable[..., Any]
Pull = Callable[[Node, Any, dict[Node, Any], Any], None]
NumPyError = (ValueError, TypeError, IndexError, np.linalg.LinAlgError)
# The types that are recorded as they come; everything else becomes an array first.
PLAIN: Final = frozenset({ndarray, int, float, bool, np.float64, np.float32, np.int64, np.bool_})

# Every primitive in the order of definition.
REGISTRY: list[Primitive] = []


class Primitive:
    """A NumPy function that is recorded, with its text and its VJP formulas.

    Made by `primitive`. Called with at least one Tensor it records a `Node` and returns a Tensor;
    called with plain arrays it computes and returns plain arrays, which is how the formulas of
    other primitives use it.

    Attributes
    ----------
    name : str
        The name in drawings and messages.
    fn : callable
        The function of plain arrays.
    arguments : tuple of str
        Its array arguments; ``("*xs",)`` for any number of them.
    parameters : tuple of str
        Its keyword parameters, which are not differentiated.
    formulas : dict
        The VJP formula of each differentiable argument.
    residuals : dict
        For each residual, the formula that computes it from the arguments.
    view : bool
        Whether the result shares memory with the first argument, as in NumPy.
    """

    # Python looks `__call__` up on the class and finds this slot: a primitive is called by way of
    # the function stored in it, at half the cost of a method that hands its arguments on.
    __slots__ = ("__call__", "__dict__")

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **params: Any) -> Any: ...

    def __init__(
        self,
        fn: Callable[..., Any],
        expr: str | Callable[..., str],
        *,
        name: str,
        arguments: tuple[str, ...],
        parameters: tuple[str, ...] = (),
        out: str | None = None,
        shapes: str | None = None,
        residuals: dict[str, Formula] | None = None,
        view: bool = False,
        hint: Callable[..., str] | None = None,
    ) -> None:
        self.fn = fn
        self.expr = expr
        self.name = self.__name__ = name
        self.__doc__ = fn.__doc__
        self.__module__ = getattr(fn, "__module__", __name__)
        self.__wrapped__ = fn
        self.arguments = arguments
        self.parameters = parameters
        self.out = out
        self.shapes = shapes
        self.residuals = residuals or {}
        self.view = view
        self.hint = hint
        self.formulas: dict[str, Formula] = {}
        self.twins: dict[str, Formula] = {}
        self.flows: tuple[bool, ...] = (False,) * len(arguments)
        self.pull: Pull = _unset
        self._reset()

    def __repr__(self) -> str:
        return f"<primitive {self.name}({', '.join((*self.arguments, *self.parameters))})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _registered, (self.name, self.arguments, self.parameters)

    def _reset(self) -> None:
        """Have the recording function and the backward step written when they are first needed.

        Compiling all of them would take most of the time of the import.
        """

        def first_call(*args: Any, **params: Any) -> Any:
            return self.apply(*args, **params)

        def first_pull(node: Node, g: Any, pending: dict[Node, Any], engine: Any) -> None:
            self.pull = _pull(self)
            self.pull(node, g, pending, engine)

        self._applied = False
        object.__setattr__(self, "__call__", first_call)
        if self.formulas:
            self.pull = first_pull

    @property
    def apply(self) -> Callable[..., Any]:
        """The recording function itself."""
        if not self._applied:
            object.__setattr__(self, "__call__", _apply(self))
            self._applied = True
        return self.__call__

    def vjp(self, **formulas: Formula) -> Self:
        """Set the VJP of each argument: the formula that takes ``g`` to that argument's cotangent.

        The parameter names of a formula say what it reads: ``g``, the cotangent of the result; ``y``,
        the result; arguments, parameters and residuals by name. A formula for ``*xs`` is given all
        arguments as ``xs`` and the position as ``i``.
        """
        self._check_names("vjp", formulas)
        self.formulas |= formulas
        self.flows = tuple([argument in self.formulas for argument in self.arguments])
        self._reset()
        return self

    def _check_names(self, method: str, formulas: dict[str, Formula]) -> None:
        """Refuse formulas of arguments, and formulas that read names, which are not there."""
        unknown = formulas.keys() - {argument.lstrip("*") for argument in self.arguments}
        if unknown:
            raise ArgumentError(
                message(f"{method} of {self.name}", f"arguments among {self.arguments}",
                        ", ".join(sorted(unknown)))
            )  # fmt: skip
        for formula in formulas.values():
            list(_sources(self, formula))

    @property
    def variadic(self) -> bool:
        return self.arguments == ("*xs",)

    @property
    def differentiable(self) -> bool:
        return bool(self.formulas)

    def text(self, args: Sequence[str], params: dict[str, Any] | None = None) -> str:
        """The expression as NumPy source, for the given argument texts."""
        named = {"xs": ", ".join(args)} if self.variadic else dict(zip(self.arguments, args))
        if callable(self.expr):
            return self.expr(**named, **(params or {}))
        return self.expr.format(**named, **(params or {}))

    def arrays(self, **twins: Formula) -> Self:
        """Set array-only twins of VJP formulas: the same numbers, faster, not differentiable again.

        They are used where cotangents are plain arrays. Only for what a benchmark shows to gain;
        the test matrix holds each twin equal to its formula.
        """
        self._check_names("arrays", twins)
        self.twins |= twins
        self._reset()
        return self

    def samples(self, build: Callable[..., list[Case]], **checks: Any) -> Self:
        """Register sample calls for the test matrix; see `samples`."""
        samples(self, build, **checks)
        return self

    def compute(self, values: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Call the function on plain values; its errors name the operation and the shapes."""
        try:
            return self.fn(*values, **params)
        except NumPyError as error:
            raise explained(self, error, values, params) from error

    def general(self, *args: Any, **params: Any) -> Any:
        """Compute, and record if a gradient is to flow: for any arguments, in any `Mode`."""
        params = (getattr(self.fn, "__kwdefaults__", None) or {}) | params
        log = _mode.get().log if _active else None
        if Tensor not in map(type, args):
            if log is not None and log.knows([args, params]):
                return log.recorded(self, args, params)
            result = self.compute(args, params)
            return result[0] if self.residuals else result
        inputs = tuple([arg.node if type(arg) is Tensor else constant(self, arg) for arg in args])
        values = tuple([node.value for node in inputs])
        y = self.compute(values, params) if log is None else log.apart(self.compute, values, params)
        saved = None
        if self.residuals:
            y, *rest = y
            saved = dict(zip(self.residuals, rest))
        if type(y) is not ndarray:
            y = asarray(y)
        flows = itertools.repeat(self.differentiable) if self.variadic else self.flows
        needs = any([node.needs and flow for node, flow in zip(inputs, flows)])
        if _active:
            node = self._watched(y, needs, inputs, params, saved)
        else:
            node = Node(y, True, self, inputs, params, saved) if needs else Node(y)
        result = handle(node)
        if self.view:
            link_view(self, result, args[0], params)
        return result

    def _watched(self, y: Any, needs: bool, inputs: Any, params: Any, saved: Any) -> Node:
        """The node of a result while some thread has changed its `Mode`."""
        mode = _mode.get()
        needs = needs and mode.recording
        node = Node(y, needs, self, inputs, params, saved)
        for watch in mode.watchers:
            watch(node)
        return node if needs or mode.everything else Node(y)


def _registered(name: str, arguments: tuple[str, ...], parameters: tuple[str, ...]) -> Primitive:
    """The primitive of that name and signature: what unpickling gives back."""
    for known in REGISTRY:
        if (known.name, known.arguments, known.parameters) == (name, arguments, parameters):
            return known
    raise ArgumentError(
        f"unpickle: no primitive {name!r} is defined here; import what defines it first."
    )


def link_view(primitive: Primitive, result: Tensor, base: Tensor, params: dict[str, Any]) -> None:
    """Let a result that shares memory with its argument, and the argument, know of each other.

    `inplace` needs it to keep views right; the argument holds its views weakly.
    """
    if result.node.value.base is None or not np.may_share_memory(
        result.node.value, base.node.value
    ):
        return
    result._base = (base, primitive, params)
    try:
        views = base._views
    except AttributeError:
        views = base._views = {}
    # When the view dies the callback is given its reference: pop(key, reference) never raises.
    views[id(result)] = weakref.ref(result, partial(views.pop, id(result)))


def constant(primitive: Primitive, arg: Any) -> Node:
    """The node of an argument that is not a Tensor: an array or number as it came, or a list."""
    if (
        type(arg) in PLAIN
        or isinstance(arg, np.generic | np.ma.MaskedArray | complex)
        or arg is None
    ):
        return Node(arg)
    if isinstance(arg, ndarray):
        return Node(arg.view(ndarray))
    value = asarray(arg)
    if value.dtype.kind not in "fiubc":
        raise DtypeError(
            message(
                primitive.name, "tensors, arrays or numbers", f"{type(arg).__name__}: {arg!r:.60}"
            )
        )
    return Node(value)


class Ready(dict["np.dtype[Any]", Any]):
    """One number as a ready-made array of each dtype: ``ONE[x.dtype]``.

    On small arrays NumPy takes longer to convert a Python number than to compute with it.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def __missing__(self, dtype: np.dtype[Any]) -> Any:
        ready = np.array(self.value, dtype)
        ready.flags.writeable = False
        self[dtype] = ready
        return ready


ZERO: Final = Ready(0)
ONE: Final = Ready(1)


# --------------------------------------------------------------------------------------------------
# What runs for each primitive, written out as source: a loop over names at run time would cost more
# than the arithmetic of small arrays.
# --------------------------------------------------------------------------------------------------

_APPLY = """
def make(_primitive, _fn, _general):
    def apply({signature}):
        if _active or {no_tensor}:
            return _general({call})
        {nodes}
        try:
            _y = _fn({values})
        except NumPyError as _error:
            raise explained(_primitive, _error, ({arrays},), {params}) from _error
        {unpack}
        if type(_y) is not ndarray:
            _y = asarray(_y)
        _result = new_tensor(Tensor)
        if {needs}:
            _result.node = Node(_y, True, _primitive, ({inputs},), {recorded}, {saved})
        else:
            _result.node = Node(_y)
        {link}
        return _result
    return apply
"""


def _apply(primitive: Primitive) -> Callable[..., Any]:
    """The function that computes and records one primitive, with nothing in it that it can do without."""
    if primitive.variadic:
        return primitive.general
    arguments = primitive.arguments
    nodes = [f"_n{k}" for k in range(len(arguments))]
    saved = [f"_r{k}" for k in range(len(primitive.residuals))]
    parameters, fn = primitive.parameters, primitive.fn
    passed = [f"{p}={p}" for p in parameters]
    params = "{" + ", ".join(f"{p!r}: {p}" for p in parameters) + "}"
    kept = "{" + ", ".join(f"{name!r}: {r}" for name, r in zip(primitive.residuals, saved)) + "}"
    source = _APPLY.format(
        signature=", ".join([*arguments, *(["*"] if parameters else []), *parameters]),
        call=", ".join([*arguments, *passed]),
        no_tensor=" and ".join(f"type({a}) is not Tensor" for a in arguments),
        nodes="\n        ".join(
            f"{n} = {a}.node if type({a}) is Tensor else "
            f"Node({a}) if type({a}) is ndarray else constant(_primitive, {a})"
            for a, n in zip(arguments, nodes)
        ),
        values=", ".join([*(f"{n}.value" for n in nodes), *passed]),
        arrays=", ".join(f"{n}.value" for n in nodes),
        params=params,
        unpack=f"_y, {', '.join(saved)} = _y" if saved else "",
        needs=" or ".join(f"{n}.needs" for n, flows in zip(nodes, primitive.flows) if flows)
        or "False",
        inputs=", ".join(nodes),
        recorded=params if parameters else "None",
        saved=kept if saved else "None",
        link=f"link_view(_primitive, _result, {arguments[0]}, {params})" if primitive.view else "",
    )
    made: dict[str, Any] = {}
    exec(_compiled(source), globals(), made)
    apply: Any = made["make"](primitive, fn, primitive.general)
    apply.__defaults__ = getattr(fn, "__defaults__", None)
    apply.__kwdefaults__ = getattr(fn, "__kwdefaults__", None)
    return apply


def _unset(node: Node, g: Any, pending: dict[Node, Any], engine: Any) -> None:
    """The backward step of a primitive without VJPs: no gradient flows."""


# What one argument adds to the backward step. It is written out as source for each primitive, since
# a loop over names at run time would cost more than the formulas of small arrays.
_EDGE = """
    p = inputs[{position}]
    if p.needs:
        if p.order > node.order:
            engine.refuse_stale(node, p)
        d = {value}
        if d.shape != p.value.shape:
            d = engine.unbroadcast(d, p.value.shape, node)
        pending[p] = pending[p] + d if p in pending else d
"""
_EACH = """
    xs = [p.value for p in inputs]
    for i, p in enumerate(inputs):
        if p.needs:
            if p.order > node.order:
                engine.refuse_stale(node, p)
            d = {value}
            if d.shape != p.value.shape:
                d = engine.unbroadcast(d, p.value.shape, node)
            pending[p] = pending[p] + d if p in pending else d
"""


def _pull(primitive: Primitive) -> Pull:
    """The backward step ``pull(node, g, pending, engine)``: add each argument's cotangent to pending."""
    edges = []
    formulas: dict[str, Any] = {}
    for position, argument in enumerate(primitive.arguments):
        name = argument.lstrip("*")
        formula = primitive.twins.get(name) or primitive.formulas.get(name)
        if formula is None:
            continue
        formulas[f"f{position}"] = formula
        value = f"f{position}({', '.join(_sources(primitive, formula))})"
        if _returns_g(formula):
            value = "g"
        elif not (formula.__module__ or "").startswith(__package__):
            value = f"engine.not_lent({value}, node)"  # our own formulas return no saved array
        template = _EACH if primitive.variadic else _EDGE
        edges.append(template.format(position=position, value=value))
    source = f"def pull(node, g, pending, engine):\n    inputs = node.inputs\n{''.join(edges)}"
    exec(_compiled(source), formulas)
    return formulas["pull"]


def _returns_g(formula: Formula) -> bool:
    """Whether a formula is ``lambda g: g``, which need not be called."""
    same_code = formula.__code__.co_code == (lambda g: g).__code__.co_code
    return same_code and parameter_names(formula) == ("g",)


@cache
def _compiled(source: str) -> Any:
    return compile(source, "<backward step>", "exec")


def _sources(primitive: Primitive, formula: Formula) -> Iterator[str]:
    """For each parameter of a formula, where a backward step finds it."""
    for name in parameter_names(formula):
        if name == "g":
            yield "g"
        elif name == "y":
            yield "node.value"
        elif name in primitive.arguments:
            yield f"inputs[{primitive.arguments.index(name)}].value"
        elif name in primitive.parameters:
            yield f"node.params[{name!r}]"
        elif name in primitive.residuals:
            yield f"node.saved[{name!r}]"
        elif primitive.variadic and name in ("xs", "i"):
            yield name
        else:
            known = ("g", "y", *primitive.arguments, *primitive.parameters, *primitive.residuals)
            raise ArgumentError(
                message(f"vjp of {primitive.name}", f"parameters among {', '.join(known)}", name)
            )


def parameter_names(formula: Formula) -> tuple[str, ...]:
    """The parameter names of a Python function (much faster than `inspect.signature`)."""
    code = formula.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def primitive(
    fn: Callable[..., Any] | str | None = None,
    expr: str | Callable[..., str] | None = None,
    *,
    name: str | None = None,
    out: str | None = None,
    shapes: str | None = None,
    residuals: dict[str, Formula] | None = None,
    view: bool = False,
    hint: Callable[..., str] | None = None,
) -> Any:
    """Define an operation: a function of arrays that is recorded, and its text.

    Used on a NumPy function, ``primitive(np.add, "{a} + {b}")``, or as a decorator,
    ``@primitive("{x} @ {W}")``. Positional parameters are arrays, keyword-only ones are parameters
    that are not differentiated. Then `Primitive.vjp` sets one formula for each argument.

    Parameters
    ----------
    fn : callable
        The function of plain arrays. It must not change its arguments.
    expr : str or callable
        The operation as NumPy source, with the argument and parameter names in braces; or a
        function that is given those texts and returns the source.
    name : str, optional
        The name in drawings and messages; by default the function's.
    out : str, optional
        The same source with ``out={out}``, where NumPy can write into a buffer.
    shapes : str, optional
        The shapes as a signature, ``"(n,k),(k,m)->(n,m)"``, quoted in error messages.
    residuals : dict, optional
        Name and formula of each by-product that a VJP reads. The function then returns
        ``(y, residual, ...)``; the formula is used when a derivative is differentiated again.
    view : bool
        Whether the result shares memory with the first argument.
    hint : callable, optional
        Given the arguments of a failed call, says what to do.

    Returns
    -------
    Primitive

    Examples
    --------
    >>> import numpy as np, tinygrad_np as tg
    >>> @tg.primitive("{x} ** 3")
    ... def cube(x):
    ...     return x**3
    >>> cube = cube.vjp(x=lambda g, x: g * 3 * x**2)
    >>> x = tg.Tensor([2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    array([12.])
    """
    if fn is None or isinstance(fn, str):
        text = expr if fn is None else fn
        return partial(
            primitive, expr=text, name=name, out=out, shapes=shapes, residuals=residuals,
            view=view, hint=hint,
        )  # fmt: skip
    name = name or fn.__name__
    if isinstance(fn, np.ufunc):
        fields = (field for _, field, _, _ in Formatter().parse(str(expr)) if field)
        arguments: tuple[str, ...] = tuple(dict.fromkeys(fields))
        parameters: tuple[str, ...] = ()
    else:
        code = fn.__code__
        arguments = code.co_varnames[: code.co_argcount]
        parameters = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        if code.co_flags & 0x04:  # the function takes *xs
            arguments = ("*xs",)
    made = Primitive(
        fn, expr or f"{name}({', '.join(f'{{{a}}}' for a in arguments)})", name=name,
        arguments=arguments, parameters=parameters, out=out, shapes=shapes, residuals=residuals,
        view=view, hint=hint,
    )  # fmt: skip
    REGISTRY.append(made)
    return made


def explained(
    primitive: Primitive, error: Exception, values: Sequence[Any], params: dict[str, Any]
) -> Exception:
    """NumPy's error as one of ours, which names the operation, the arguments and their shapes."""
    if isinstance(error, TensorError):
        return error
    names = [f"xs[{i}]" for i in range(len(values))] if primitive.variadic else primitive.arguments
    got = ", ".join(f"{name} {_kind(value)}" for name, value in zip(names, values))
    extra = "".join(f", {k}={v!r:.40}" for k, v in params.items() if v is not None)
    hint = primitive.hint(*values, **params) if primitive.hint else broadcasting_hint(*values)
    expected = f" of shapes {primitive.shapes}" if primitive.shapes else ""
    kind: type[TensorError] = ShapeError
    if isinstance(error, TypeError):
        kind = DtypeError
    elif isinstance(error, IndexError):
        kind = IndexingError
    elif isinstance(error, np.linalg.LinAlgError) and "dimension" not in str(error):
        kind = ArgumentError  # a matrix that is singular, or not positive definite
    reason = "" if hint else f" ({error})"
    return kind(
        f"{primitive.name}: cannot take {got}{extra}{reason}."
        + (f" It takes arrays{expected}." if expected else "")
        + (f" {hint}" if hint else "")
    )


def _kind(value: Any) -> str:
    if isinstance(value, ndarray):
        return f"of shape {value.shape}" + (
            f" ({value.dtype})" if value.dtype.kind not in "f" else ""
        )
    return f"= {value!r:.40}"


def broadcasting_hint(*values: Any) -> str:
    """What to do about shapes that do not broadcast; empty if they do."""
    shapes = [value.shape for value in values if isinstance(value, ndarray)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        pass
    else:
        return ""
    if len(shapes) == 2:
        a, b = sorted(shapes, key=len)
        if len(a) == 1 and len(b) == 2 and a[0] == b[0]:
            return f"Did you mean [:, None] on the one of shape {a}, to make it a column?"
        if a[::-1] == b:
            return "Did you mean to transpose one of them (.T)?"
    return "Shapes broadcast if their axes, counted from the last, are equal or 1."


# --------------------------------------------------------------------------------------------------
# Samples: what the test matrix runs
# --------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One sample call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def case(*args: Any, **kwargs: Any) -> Case:
    """One sample call: float arrays among the positional arguments are differentiated."""
    return Case(args, kwargs)


class Spec(NamedTuple):
    """An operation and what is known to be true of it."""

    operation: Callable[..., Any]
    name: str
    build: Callable[..., list[Case]]
    reference: Callable[..., Any] | None
    kinks: Sequence[tuple[Case, Sequence[Any]]]
    fails: Sequence[tuple[Case, type[Exception], str]]
    differentiable: bool


SPECS: dict[str, Spec] = {}


def samples(
    operation: Callable[..., Any],
    build: Callable[..., list[Case]],
    *,
    reference: Callable[..., Any] | None = None,
    kinks: Callable[[], Sequence[tuple[Case, Sequence[Any]]]] = lambda: (),
    fails: Callable[[], Sequence[tuple[Case, type[Exception], str]]] = lambda: (),
    differentiable: bool = True,
) -> None:
    """Register sample calls of an operation, on which the test matrix checks every property.

    Parameters
    ----------
    operation : callable
        A primitive or a public function.
    build : callable
        Given a source of random arrays ``r`` (``r(2, 3)`` is normal, ``r.positive(2, 3)``,
        ``r.unit(2, 3)`` within (-1, 1), ``r.distinct(2, 3)`` without ties, ``r.integers(k, 2, 3)``),
        returns a list of `case`.
    reference : callable, optional
        An independent function of the same arguments, on plain arrays.
    kinks : callable, optional
        Returns pairs of a `case` and the gradients that the convention gives, the cotangent being 1.
    fails : callable, optional
        Returns triples of a `case`, its error class, and a text that the message must contain.
    differentiable : bool
        False for operations whose result carries no gradient (comparisons, ``argmax``).
    """
    name = getattr(operation, "__name__", repr(operation))
    if name in SPECS:
        raise ArgumentError(f"samples: {name} has been given samples already.")
    SPECS[name] = Spec(operation, name, build, reference, kinks, fails, differentiable)  # type: ignore[arg-type]
