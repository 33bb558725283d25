"""Reading elements by index, and its adjoint: adding cotangents back where they were read."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import Tensor, case, plain, primitive, samples
from ..errors import DtypeError, IndexingError, message


def index_text(index: Any) -> str:
    """An index as one would type it between the brackets."""
    parts = index if isinstance(index, tuple) else (index,)
    return ", ".join([_part_text(part) for part in parts]) or "()"


def _part_text(part: Any) -> str:
    if isinstance(part, slice):
        ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
        return ":".join(ends if part.step is None else [*ends, str(part.step)])
    if part is None:
        return "None"
    return "..." if part is Ellipsis else str(part.tolist() if isinstance(part, np.ndarray) else part)


def is_basic(index: Any) -> bool:
    """Whether the index has only integers, slices, None and Ellipsis, and so reads a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return all([
        part is None or part is Ellipsis or isinstance(part, slice | int | np.integer)
        and not isinstance(part, bool) for part in parts
    ])  # fmt: skip


@primitive(expr=lambda x, index: f"{x}[{index_text(index)}]", name="getitem", view=True)
def read(x, *, index):
    return x[index]


@primitive(expr=lambda g, index, shape: f"scatter({g}, {shape}, {index_text(index)})", name="scatter_add")
def scatter_add(g, *, index, shape):
    """Zeros of ``shape`` with ``g`` added at ``index``, once for each time it was read."""
    z = np.zeros(shape, dtype=g.dtype)
    if is_basic(index):
        z[index] = g
    else:
        np.add.at(z, index, g)
    return z


read.vjp(x=lambda g, x, index: scatter_add(g, index=index, shape=x.shape))
scatter_add.vjp(g=lambda g, index: g[index])


def getitem(x: Any, index: Any) -> Tensor:
    """Elements by index: ``y = x[index]``; an element that is read twice gets both cotangents.

    Parameters
    ----------
    x : Tensor
    index : int, slice, None, Ellipsis, array of int or bool, or a tuple of them
        As in NumPy; a Tensor of integers or booleans counts as its array.

    Returns
    -------
    Tensor

    Raises
    ------
    IndexingError
        For an index outside the shape.

    Examples
    --------
    >>> import tinygrad_np as tg
    >>> x = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 0, 2]].sum().backward()
    >>> x.grad
    array([2., 0., 1.])
    """
    return read(x, index=plain_index(index))


def plain_index(index: Any) -> Any:
    """An index without Tensors and lists in it."""
    if type(index) is tuple:
        return tuple([plain_index(part) for part in index])
    if type(index) is Tensor:
        index = index.data
    elif isinstance(index, list):
        index = np.asarray(index, dtype=None if len(index) else int)
    if isinstance(index, np.ndarray) and index.dtype.kind not in "iub":
        raise DtypeError(
            message("getitem", "indices that are integers or booleans", f"dtype {index.dtype}")
        )
    return index


samples(
    getitem,
    lambda r: [
        case(r(4, 3), 1),
        case(r(4, 3), -1),
        case(r(4, 3), slice(1, None, 2)),
        case(r(4, 3), (slice(None), 2)),
        case(r(4, 3), (Ellipsis, None, slice(None, None, -1))),
        case(r(4, 3), [0, 0, 2]),
        case(r(4, 3), (np.array([0, 1, 1]), np.array([2, 0, 0]))),
        case(r(4, 3), (slice(None), np.array([[0, 1], [2, 2]]))),
        case(r(4, 3), r.data(4, 3) > 0),
        case(r(3), np.array([True, False, True])),
        case(r(4, 3), ()),
        case(r(4, 3), slice(2, 2)),
        case(r(4), []),
    ],
    reference=lambda x, index: x[index],
    fails=lambda: [
        (case(Tensor(np.ones((2, 3))), 2), IndexingError, "index=2"),
        (case(Tensor(np.ones((2, 3))), (0, 0, 0)), IndexingError, "getitem"),
        (case(Tensor(np.ones(3)), np.array([0.5])), DtypeError, "integers or booleans"),
    ],
)
