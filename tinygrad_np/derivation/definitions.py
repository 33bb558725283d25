"""Operations that are no single NumPy call, as plain NumPy functions that derived source contains.

The functions are real code, and their source is what is printed. Each stands alone or calls only
its neighbours here, so that a derived program needs nothing but NumPy.
"""

import numpy as np

# Without types, which a reader of derived source does not want to see.
# mypy: ignore-errors


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x, axis=-1):
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def logsumexp(x, axis, keepdims=False):
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        y = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis)


def onehot(t, classes):
    return t[..., None] == np.arange(classes)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def entropies(q, logp):
    return 0 - np.sum(q * np.where(q == 0, 0, logp), axis=1)


def attention_weights(s, mask=None, causal=False):
    if mask is not None:
        s = s + (np.where(mask, 0, -np.inf).astype(s.dtype) if mask.dtype == bool else mask)
    if causal:
        s = s + np.triu(np.full(s.shape[-2:], -np.inf, s.dtype), k=1)
    top = s.max(axis=-1, keepdims=True)
    e = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def scatter_add(g, index, shape):
    z = np.zeros(shape, g.dtype)
    np.add.at(z, index, g)
    return z


def place_diagonal(g, shape, offset, axis1, axis2):
    z = np.zeros(shape, g.dtype)
    i = np.arange(np.diagonal(z, offset, axis1, axis2).shape[-1])
    np.moveaxis(z, (axis1, axis2), (-2, -1))[..., i - min(offset, 0), i + max(offset, 0)] = g
    return z


def fold_edges(g, widths, mode):
    for axis, (before, after) in enumerate(widths):
        n = g.shape[axis] - before - after
        sources = np.pad(np.arange(n), (before, after), mode=mode)
        rows = np.zeros((n, *np.delete(g.shape, axis)), g.dtype)
        np.add.at(rows, sources, np.moveaxis(g, axis, 0))
        g = np.moveaxis(rows, 0, axis)
    return g


def written(x, index, value):
    y = x.copy()
    y[index] = value
    return y


def recurrence(a, b, axis):
    y = np.array(b)
    rows, factors = np.moveaxis(y, axis, 0), np.moveaxis(a, axis, 0)
    for i in range(1, len(rows)):
        rows[i] += factors[i] * rows[i - 1]
    return y


def eigh_factors(x, uplo):
    w, V = np.linalg.eigh(x, uplo)
    return np.concatenate([w[..., None, :], V], axis=-2)


def svd_factors(x):
    U, S, Vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([U, S[..., None, :], Vh.mT], axis=-2)


def windows(x, kernel, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), fill=0):
    """What each position of a kernel sees: (N, C, kh, kw, oh, ow)."""
    x = np.pad(x, ((0, 0), (0, 0), *padding), constant_values=fill)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    size = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride)]
    seen = np.empty((*x.shape[:2], *kernel, *size), x.dtype)
    for i, j in np.ndindex(*kernel):
        (top, left), (down, right) = (i * dilation[0], j * dilation[1]), stride
        seen[:, :, i, j] = x[
            :, :, top : top + down * size[0] : down, left : left + right * size[1] : right
        ]
    return seen


def add_windows(seen, size, stride, padding, dilation):
    """The adjoint of `windows`: what each pixel gets back from all who saw it."""
    N, C, *kernel, oh, ow = seen.shape
    x = np.zeros((N, C, *[n + sum(pads) for n, pads in zip(size, padding)]), seen.dtype)
    for i, j in np.ndindex(*kernel):
        (top, left), (down, right) = (i * dilation[0], j * dilation[1]), stride
        x[:, :, top : top + down * oh : down, left : left + right * ow : right] += seen[:, :, i, j]
    return x[:, :, padding[0][0] : padding[0][0] + size[0], padding[1][0] : padding[1][0] + size[1]]


def grouped(a, axis, groups):
    """An axis of channels as two: the groups, and the channels of each."""
    return a.reshape(*a.shape[:axis], groups, a.shape[axis] // groups, *a.shape[axis + 1 :])


def conv(x, W, b, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    seen = grouped(windows(x, W.shape[2:], stride, padding, dilation), 1, groups)
    y = np.einsum("ngchwij,gochw->ngoij", seen, grouped(W, 0, groups), optimize=True)
    y = y.reshape(len(x), len(W), *y.shape[3:])
    return y if b is None else y + b[:, None, None]


def conv_input(u, W, size, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    seen = np.einsum(
        "ngoij,gochw->ngchwij", grouped(u, 1, groups), grouped(W, 0, groups), optimize=True
    )
    seen = seen.reshape(len(u), groups * W.shape[1], *seen.shape[3:])
    return add_windows(seen, size, stride, padding, dilation)


def conv_weight(u, x, kernel, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    seen = grouped(windows(x, kernel, stride, padding, dilation), 1, groups)
    W = np.einsum("ngoij,ngchwij->gochw", grouped(u, 1, groups), seen, optimize=True)
    return W.reshape(u.shape[1], *W.shape[2:])


def unfold(x, kernel, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)):
    seen = windows(x, kernel, stride, padding, dilation)
    N, C, kh, kw, oh, ow = seen.shape
    return seen.reshape(N, C * kh * kw, oh * ow)


def fold(u, size, kernel, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1)):
    edges = zip(size, kernel, stride, padding, dilation)
    places = [(n + sum(pads) - d * (k - 1) - 1) // s + 1 for n, k, s, pads, d in edges]
    seen = u.reshape(len(u), u.shape[1] // (kernel[0] * kernel[1]), *kernel, *places)
    return add_windows(seen, size, stride, padding, dilation)


def pool_mean(x, kernel, stride=(1, 1), padding=((0, 0), (0, 0))):
    seen = windows(*in_two_axes(x, kernel, stride, padding))
    return seen.mean(axis=(2, 3)).reshape(pooled_shape(x, kernel, stride, padding))


def pool_max(x, kernel, stride=(1, 1), padding=((0, 0), (0, 0))):
    seen = windows(*in_two_axes(x, kernel, stride, padding), (1, 1), -np.inf)
    return seen.max(axis=(2, 3)).reshape(pooled_shape(x, kernel, stride, padding))


def pool_argmax(x, kernel, stride=(1, 1), padding=((0, 0), (0, 0))):
    seen = windows(*in_two_axes(x, kernel, stride, padding), (1, 1), -np.inf)
    N, C, kh, kw, oh, ow = seen.shape
    winner = seen.reshape(N, C, kh * kw, oh, ow).argmax(axis=2)
    return winner.reshape(pooled_shape(x, kernel, stride, padding))


def pool_spread(u, size, kernel, stride=(1, 1), padding=((0, 0), (0, 0))):
    u, kernel, stride, padding = in_two_axes(u, kernel, stride, padding)
    share = u[:, :, None, None] / (kernel[0] * kernel[1])
    seen = np.broadcast_to(share, (*u.shape[:2], *kernel, *u.shape[2:]))
    x = add_windows(seen, (1, *size)[-2:], stride, padding, (1, 1))
    return x.reshape(*u.shape[:2], *size)


def pool_place(u, winner, size, kernel, stride=(1, 1), padding=((0, 0), (0, 0))):
    u, kernel, stride, padding = in_two_axes(u, kernel, stride, padding)
    place = np.arange(kernel[0] * kernel[1]).reshape(*kernel, 1, 1)
    seen = u[:, :, None, None] * (winner.reshape(u.shape)[:, :, None, None] == place)
    x = add_windows(seen, (1, *size)[-2:], stride, padding, (1, 1))
    return x.reshape(*u.shape[:2], *size)


def pool_pick(x, winner, kernel, stride=(1, 1), padding=((0, 0), (0, 0))):
    x, kernel, stride, padding = in_two_axes(x, kernel, stride, padding)
    place = np.arange(kernel[0] * kernel[1]).reshape(*kernel, 1, 1)
    seen = windows(x, kernel, stride, padding, (1, 1))
    chosen = winner.reshape(*x.shape[:2], 1, 1, *seen.shape[4:]) == place
    return (seen * chosen).sum(axis=(2, 3)).reshape(winner.shape)


def in_two_axes(x, kernel, stride, padding):
    """A row of pixels (N, C, L) as an image of height 1."""
    if len(kernel) == 2:
        return x, kernel, stride, padding
    return x[:, :, None], (1, *kernel), (1, *stride), ((0, 0), *padding)


def pooled_shape(x, kernel, stride, padding):
    edges = zip(x.shape[2:], kernel, stride, padding)
    return (*x.shape[:2], *[(n + sum(pads) - k) // s + 1 for n, k, s, pads in edges])


def sparse(values, rows, columns, shape):
    A = np.zeros(shape, values.dtype)
    A[rows, columns] = values
    return A
