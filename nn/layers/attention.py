"""Attention with several heads, and the block of a transformer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import tinygrad_np as tg
from nn.init import Rng, Shape, generator
from nn.layers.activation import Activation, activation_named
from nn.layers.container import Sequential
from nn.layers.dense import Dense
from nn.layers.dropout import Dropout
from nn.layers.layer import Layer, divisible, explained
from nn.layers.normalization import LayerNorm
from nn.options import differing, is_size, sizes
from tinygrad_np.errors import TensorError


class Attending(Layer):
    """What attention and block share: features that are cut into heads, and options of the parts."""

    def __init__(
        self,
        features: int | None = None,
        *,
        heads: int,
        causal: bool = False,
        dropout: float = 0.0,
        rng: Rng = None,
        dtype: DTypeLike = np.float32,
        **options: Any,
    ) -> None:
        name = type(self).__name__
        divisible(name, "heads", heads, "features", features if is_size(features) else None)
        self.features: int | None = None
        self.heads = heads
        self.causal = causal
        self.rng = None if rng is None else generator(rng)  # the parts draw one after another
        self.dropout = Dropout(dropout, rng=self.rng).p
        self.dtype = np.dtype(dtype)
        self.options = options
        if features is not None:
            sizes(name, (features,), "(features,)", most=1)
            self._build(features)

    @property
    def built(self) -> bool:
        return self.features is not None

    def _build(self, features: int) -> None:
        divisible(type(self).__name__, "heads", self.heads, "features", features)
        self._make(features, {"rng": self.rng, "dtype": self.dtype} | self.options)
        self.features = features

    def _make(self, features: int, options: dict[str, Any]) -> None:
        """Make the parts, with what their dense layers are given."""
        raise NotImplementedError

    def describe(self) -> str:
        features = [] if self.features is None else [str(self.features)]
        return ", ".join([*features, f"heads={self.heads}", *differing(self, "causal", "dropout")])


class MultiHeadAttention(Attending):
    """Attention ``y = out(concat_h(softmax(q_h k_h^T / sqrt(d) + mask) v_h))``, d = features / heads.

    ``q = x @ W_q + b_q``, ``k = m @ W_k + b_k`` and ``v = m @ W_v + b_v``, cut into heads along the
    features; m is x itself, or the memory given. See `tinygrad_np.scaled_dot_product_attention`.

    Parameters
    ----------
    features : int, optional
        By default taken from the first batch.
    heads : int
        Divides the features.
    causal : bool
        Whether position t sees positions 0 ... t only.
    dropout : float
        The probability to drop an attention weight in training; drawn as by `Dropout`.
    bias, weights_init, bias_init, rng, dtype
        As for `Dense`.

    Attributes
    ----------
    q, k, v, out : Dense (features, features)

    Raises
    ------
    ArgumentError
        For features that the heads do not divide, and as `Dense`.
    ShapeError
        When called with what is no batch of sequences ``(N, T, features)``, or a mask that does not
        fit.

    Notes
    -----
    A mask is True where attention is allowed, or floats that are added: (T, S), or (N, T, S) for a
    mask of each row, or (N, heads, T, S). PyTorch's masks of booleans are the reverse.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017, section 3.2.2.

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.MultiHeadAttention(8, heads=2, causal=True)
    >>> layer(np.ones((3, 5, 8))).shape
    (3, 5, 8)
    """

    q: Dense
    k: Dense
    v: Dense
    out: Dense

    def _make(self, features: int, options: dict[str, Any]) -> None:
        self.q, self.k, self.v, self.out = [Dense(features, features, **options) for _ in range(4)]

    def forward(self, x: Any, memory: Any = None, mask: Any = None) -> Any:
        """The result for each position of x.

        Parameters
        ----------
        x : array_like (N, T, features)
        memory : array_like (N, S, features), optional
            What is attended to; by default x.
        mask : array_like (T, S), (N, T, S) or (N, heads, T, S), optional

        Returns
        -------
        Tensor (N, T, features)
        """
        x = self._operand(x, "N", "T", self.features or "features")
        self._ready(x, -1)
        m = x if memory is None else self._operand(memory, x.shape[0], "S", x.shape[2])
        q, k, v = (self._cut(part) for part in (self.q(x), self.k(m), self.v(m)))
        if np.ndim(mask) == 3:
            mask = mask[:, None]
        p = self.dropout if self.training else 0.0
        rng = generator(self.rng) if p else None
        try:
            y = tg.scaled_dot_product_attention(q, k, v, mask, self.causal, dropout=p, rng=rng)
        except TensorError as error:
            raise explained(self, error) from error
        return self.out(tg.reshape(tg.transpose(y, (0, 2, 1, 3)), x.shape))

    def multiply_adds(
        self, y: Shape, x: Shape, memory: Shape | None = None, mask: Shape | None = None
    ) -> int:
        """``q k^T`` and the weighted sums of v; also of positions that a mask hides."""
        S = (memory or x)[1]
        return 2 * math.prod(x) * S

    def _cut(self, x: Any) -> Any:
        """(N, T, features) as (N, heads, T, d)."""
        N, T, features = x.shape
        heads = tg.reshape(x, (N, T, self.heads, features // self.heads))
        return tg.transpose(heads, (0, 2, 1, 3))


class TransformerBlock(Attending):
    """A block of a transformer: ``x = x + attention(norm1(x))``, then ``y = x + mlp(norm2(x))``.

    ``mlp`` is two dense layers, the first with an activation. Dropout acts on attention weights and
    on what is added. With ``norm_first=False`` as in the paper: ``x = norm1(x + attention(x))``,
    ``y = norm2(x + mlp(x))``.

    Parameters
    ----------
    features : int, optional
        By default taken from the first batch.
    heads : int
        Divides the features.
    hidden : int, optional
        The width between the dense layers; by default 4 times the features.
    activation : str or callable
        As for `Dense`.
    causal, dropout
        As for `MultiHeadAttention`.
    norm_first : bool
        Whether the norms come before attention and mlp, or after the sums.
    bias, weights_init, bias_init, rng, dtype
        As for `Dense`.

    Attributes
    ----------
    norm1, norm2 : LayerNorm
    attention : MultiHeadAttention
    mlp : Sequential

    Raises
    ------
    ArgumentError, ShapeError
        As `MultiHeadAttention`.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", 2017, figure 1. Norms first: A. Radford et al.,
    "Language models are unsupervised multitask learners", 2019.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.TransformerBlock(heads=2, causal=True)(np.ones((3, 5, 8))).shape
    (3, 5, 8)
    """

    norm1: LayerNorm
    attention: MultiHeadAttention
    norm2: LayerNorm
    mlp: Sequential

    def __init__(
        self,
        features: int | None = None,
        *,
        hidden: int | None = None,
        activation: str | Activation = "gelu",
        norm_first: bool = True,
        **options: Any,
    ) -> None:
        self.hidden = hidden
        self.activation = activation_named(activation)
        self.norm_first = norm_first
        super().__init__(features, **options)

    def _make(self, features: int, options: dict[str, Any]) -> None:
        hidden = 4 * features if self.hidden is None else self.hidden
        self.norm1 = LayerNorm(features, dtype=self.dtype)
        self.attention = MultiHeadAttention(
            features, heads=self.heads, causal=self.causal, dropout=self.dropout, **options
        )
        self.norm2 = LayerNorm(features, dtype=self.dtype)
        self.mlp = Sequential(
            Dense(features, hidden, activation=self.activation, **options),
            Dense(hidden, features, **options),
        )
        self.drop = Dropout(self.dropout, rng=self.rng)

    def forward(self, x: Any, mask: Any = None) -> Any:
        """The result for each position of x (N, T, features); for masks see the attention."""
        x = self._operand(x, "N", "T", self.features or "features")
        self._ready(x, -1)
        if self.norm_first:
            x = x + self.drop(self.attention(self.norm1(x), mask=mask))
            return x + self.drop(self.mlp(self.norm2(x)))
        x = self.norm1(x + self.drop(self.attention(x, mask=mask)))
        return self.norm2(x + self.drop(self.mlp(x)))

    def describe(self) -> str:
        return ", ".join([super().describe(), *differing(self, "hidden", "norm_first")])
