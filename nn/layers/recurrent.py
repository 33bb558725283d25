"""Recurrent layers: one step, applied along a sequence.

Gate order and equations are PyTorch's, with matrices transposed: ``W_x`` is ``weight_ih_l0.T``,
``W_h`` is ``weight_hh_l0.T``, ``b_x`` and ``b_h`` are ``bias_ih_l0`` and ``bias_hh_l0``. So there are
two biases, of which only GRU needs both.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import tinygrad_np as tg
from nn.init import Initializer, Rng, Shape, generator, initializer
from nn.layers.activation import Activation, activation_named
from nn.layers.layer import Layer, label
from nn.options import differing, in_and_out
from tinygrad_np.errors import ShapeError, message


class Recurrent(Layer):
    """What the recurrent layers share: their arguments, parameters and the loop over time."""

    gates: ClassVar[int]
    gated: ClassVar[int]  # products of a gate and another number, for each output
    W_x: tg.Tensor
    W_h: tg.Tensor
    b_x: tg.Tensor | None
    b_h: tg.Tensor | None

    def __init__(
        self,
        *features: int,
        last: bool = False,
        bias: bool = True,
        weights_init: str | Initializer | ArrayLike = "xavier_uniform",
        bias_init: str | Initializer | ArrayLike = "zeros",
        rng: Rng = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.in_features, self.out_features = in_and_out(type(self).__name__, features)
        self.last = last
        self.bias = bias
        self.weights_init = initializer(weights_init)
        self.bias_init = initializer(bias_init)
        self.rng = rng
        self.dtype = np.dtype(dtype)
        if self.in_features is not None:
            self._build(self.in_features)

    @property
    def built(self) -> bool:
        return self.in_features is not None

    def _build(self, features: int) -> None:
        rng = generator(self.rng)
        n = self.gates * self.out_features
        x, h = (features, n), (self.out_features, n)
        self.W_x = self._parameter("weights_init", x, rng)
        self.W_h = self._parameter("weights_init", h, rng)
        self.b_x = self._parameter("bias_init", (n,), rng, weights=x) if self.bias else None
        self.b_h = self._parameter("bias_init", (n,), rng, weights=h) if self.bias else None
        self.in_features = features

    def forward(self, x: Any) -> Any:
        return self.run(x)[0]

    def run(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        """The outputs, and the state after the last step, to go on from.

        Parameters
        ----------
        x : array_like (N, T, in)
        state : Tensor (N, out), or the pair of them that LSTM has, optional
            By default zeros.

        Returns
        -------
        outputs : Tensor (N, T, out), or (N, out) with ``last=True``
        state
        """
        x = self._operand(x, "N", "T", self.in_features or "features")
        self._ready(x, -1)
        if x.shape[1] == 0:
            raise ShapeError(message(label(self), "at least one time step", f"{x.shape}"))
        start = self._start(x)
        return self._run(x, start if state is None else self._checked(state, start))

    def _run(self, x: Any, state: Any) -> tuple[Any, Any]:
        """Outputs and state, step by step."""
        outputs = []
        for z in _steps(_affine(x, self.W_x, self.b_x)):
            h, state = self._step(z, state)
            outputs.append(h)
        return (h if self.last else tg.stack(outputs, axis=1)), state

    def multiply_adds(self, y: Shape, x: Shape) -> int:
        """In each step both matrix products, and those of gates with what they let through."""
        N, T, features = x
        H = self.out_features
        return N * T * H * (self.gates * (features + H) + self.gated)

    def _start(self, x: Any) -> Any:
        """The state before the first step."""
        return tg.Tensor(np.zeros((len(x), self.out_features), x.dtype))

    def _checked(self, state: Any, start: Any) -> Any:
        """A state of the shape of the one that is the default."""
        if np.shape(state) != np.shape(start):
            raise ShapeError(
                message(label(self), f"a state {np.shape(start)}", f"{np.shape(state)}")
            )
        return state

    def _step(self, z: Any, state: Any) -> tuple[Any, Any]:
        """Output and state, given ``z = x_t @ W_x + b_x`` and the state before."""
        raise NotImplementedError

    def describe(self) -> str:
        features = [str(n) for n in (self.in_features, self.out_features) if n is not None]
        return ", ".join([*features, *differing(self, "last", "bias")])


def _affine(x: Any, W: tg.Tensor, b: tg.Tensor | None) -> Any:
    return tg.matmul(x, W) if b is None else tg.linear(x, W, b)


def _features_first(x: Any, W: tg.Tensor) -> Any:
    """``x_t @ W`` (T, N, n); in memory (n, T, N), which is how loops over time take it."""
    N, T, features = x.shape
    columns = tg.reshape(tg.transpose(x, (2, 1, 0)), (features, T * N))
    z = tg.reshape(tg.matmul(tg.transpose(W), columns), (W.shape[1], T, N))
    return tg.transpose(z, (1, 2, 0))


def _steps(x: Any) -> list[Any]:
    """All ``x[:, t]``. By halves: the gradient of a part is written into one twice its size.

    Read one by one, each would be written into one of the size of x.
    """
    T = x.shape[1]
    if T == 1:
        return [x[:, 0]]
    return [*_steps(x[:, : T // 2]), *_steps(x[:, T // 2 :])]


class RNN(Recurrent):
    """Elman's network ``h_t = activation(x_t @ W_x + b_x + h_{t-1} @ W_h + b_h)``.

    Parameters
    ----------
    *features : int
        ``in, out``; or only ``out``, and the input size is taken from the first batch.
    activation : str or callable
        As for `Dense`.
    last : bool
        Whether to return ``h_T`` alone, and not all T outputs.
    bias, weights_init, bias_init, rng, dtype
        As for `Dense`.

    Attributes
    ----------
    W_x : Tensor (in, out)
    W_h : Tensor (out, out)
    b_x, b_h : Tensor (out,), or None

    Raises
    ------
    ArgumentError
        As `Dense`.
    ShapeError
        When called with what is no batch of sequences ``(N, T, in)``.

    References
    ----------
    J. L. Elman, "Finding structure in time", 1990.

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.RNN(8)(np.ones((2, 5, 3))).shape
    (2, 5, 8)
    >>> nn.RNN(3, 8, last=True)(np.ones((2, 5, 3))).shape
    (2, 8)
    """

    gates = 1
    gated = 0

    def __init__(
        self, *features: int, activation: str | Activation = "tanh", **options: Any
    ) -> None:
        self.activation = activation_named(activation)
        super().__init__(*features, **options)

    def _step(self, z: Any, state: Any) -> tuple[Any, Any]:
        h = z + _affine(state, self.W_h, self.b_h)
        h = h if self.activation is None else self.activation(h)
        return h, h


class LSTM(Recurrent):
    """Long short-term memory, with gates ``i, f, g, o`` from ``z = x_t @ W_x + b_x + h @ W_h + b_h``.

    ``i, f, g, o = sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o)``,
    ``c_t = f c_{t-1} + i g`` and ``h_t = o tanh(c_t)``.

    Parameters
    ----------
    *features, last, bias, weights_init, bias_init, rng, dtype
        As for `RNN`.

    Attributes
    ----------
    W_x : Tensor (in, 4 out)
        The gates side by side, in this order.
    W_h : Tensor (out, 4 out)
    b_x, b_h : Tensor (4 out,), or None

    Raises
    ------
    ArgumentError, ShapeError
        As `RNN`.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; the forget gate: F. A. Gers,
    J. Schmidhuber and F. Cummins, "Learning to forget", 2000.

    Examples
    --------
    >>> import numpy as np, nn
    >>> layer = nn.LSTM(3, 8)
    >>> outputs, (h, c) = layer.run(np.ones((2, 5, 3)))
    >>> outputs.shape, h.shape, bool((outputs.data[:, -1] == h.data).all())
    ((2, 5, 8), (2, 8), True)
    """

    gates = 4
    gated = 3

    def _start(self, x: Any) -> Any:
        return super()._start(x), super()._start(x)

    def _checked(self, state: Any, start: Any) -> Any:
        return tuple([super(LSTM, self)._checked(*pair) for pair in zip(state, start)])

    def _run(self, x: Any, state: Any) -> tuple[Any, Any]:
        b = None if self.b_x is None or self.b_h is None else self.b_x + self.b_h
        h, c = state
        outputs, c = tg.lstm(_features_first(x, self.W_x), self.W_h, h, c, b)
        h = outputs[-1]
        return (h if self.last else tg.transpose(outputs, (1, 0, 2))), (h, c)


class GRU(Recurrent):
    """Gated recurrent unit, with gates ``r, u, n`` from ``z = x_t @ W_x + b_x``, ``v = h @ W_h + b_h``.

    ``r, u = sigmoid(z_r + v_r), sigmoid(z_u + v_u)``, ``n = tanh(z_n + r v_n)`` and
    ``h_t = (1 - u) n + u h_{t-1}``: the reset gate r acts after the matrix product, as in PyTorch.

    Parameters
    ----------
    *features, last, bias, weights_init, bias_init, rng, dtype
        As for `RNN`.

    Attributes
    ----------
    W_x : Tensor (in, 3 out)
        The gates side by side, in this order.
    W_h : Tensor (out, 3 out)
    b_x, b_h : Tensor (3 out,), or None

    Raises
    ------
    ArgumentError, ShapeError
        As `RNN`.

    References
    ----------
    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014 (where r acts
    before the product).

    Examples
    --------
    >>> import numpy as np, nn
    >>> nn.GRU(3, 8)(np.ones((2, 5, 3))).shape
    (2, 5, 8)
    """

    gates = 3
    gated = 2

    def _run(self, x: Any, state: Any) -> tuple[Any, Any]:
        z = _features_first(x, self.W_x)
        z = z if self.b_x is None else z + self.b_x
        b = np.zeros(self.W_h.shape[1], self.W_h.dtype) if self.b_h is None else self.b_h
        outputs = tg.gru(z, self.W_h, b, state)
        h = outputs[-1]
        return (h if self.last else tg.transpose(outputs, (1, 0, 2))), h
