"""JAX: loss, gradients and update in one function, compiled by `jax.jit`, called for each step."""

import os
from abc import abstractmethod
from typing import Any

if (
    "OMP_NUM_THREADS" in os.environ
):  # XLA reads its number of threads when JAX makes its first array
    os.environ["NPROC"] = os.environ["OMP_NUM_THREADS"]
    if os.environ["OMP_NUM_THREADS"] == "1":
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from benchmarks import workloads
from benchmarks.contenders import Contender
from benchmarks.workloads import Floats, Workload

State = Any  # the weights, and what the optimizer keeps of each


def descend(weights: Any, gradients: Any, memory: Any, s: workloads.SGD | workloads.Adam) -> State:
    """The weights and the optimizer's memory after a step."""
    tree = jax.tree.map
    if isinstance(s, workloads.Adam):
        k, m, v = memory
        k = k + 1
        m = tree(lambda m, g: s.beta1 * m + (1 - s.beta1) * g, m, gradients)
        v = tree(lambda v, g: s.beta2 * v + (1 - s.beta2) * g * g, v, gradients)
        rate, correction = s.lr / (1 - s.beta1**k), (1 - s.beta2**k) ** -0.5
        weights = tree(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) * correction + s.eps), weights, m, v
        )
        return weights, (k, m, v)
    if s.momentum:
        gradients = memory = tree(lambda v, g: s.momentum * v + g, memory, gradients)
    return tree(lambda p, g: p - s.lr * g, weights, gradients), memory


class Trained(Contender):
    """What all of them share; the state is donated, so that an update may reuse its memory."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.state = self.start()
        self.jitted = jax.jit(self.update, donate_argnums=0)

    def start(self) -> State:
        s = self.workload.optimizer
        weights = [jnp.array(p) for p in self.workload.initial]
        zeros = [jnp.zeros_like(p) for p in weights]
        if isinstance(s, workloads.Adam):
            return weights, (jnp.float32(0), zeros, [jnp.zeros_like(p) for p in weights])
        return weights, zeros if s.momentum else None

    @abstractmethod
    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        """The loss of `weights` on a batch."""

    def update(self, state: State, x: Any, t: Any) -> tuple[State, Any]:
        weights, memory = state
        loss, gradients = jax.value_and_grad(self.loss)(weights, x, t)
        return descend(weights, gradients, memory, self.workload.optimizer), loss

    def batch(self, x: Floats, t: NDArray[np.generic]) -> tuple[Any, Any]:
        return jnp.array(x), jnp.array(t.astype(np.int32) if t.dtype.kind == "i" else t)

    def step(self, x: Any, t: Any) -> Any:
        self.state, loss = self.jitted(self.state, x, t)
        return loss

    def round(self, batches: Any) -> float:
        return float(super().round(batches))  # waits for what was dispatched

    def parameters(self) -> list[Floats]:
        return [np.asarray(p) for p in self.state[0]]


def cross_entropy(y: Any, t: Any) -> Any:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(y), t[:, None], axis=1))


class Network(Trained):
    workload: workloads.Network

    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        *hidden, (W, b) = zip(weights[::2], weights[1::2], strict=True)
        for V, a in hidden:
            x = jax.nn.relu(x @ V + a)
        y = x @ W + b
        if self.workload.output == "sigmoid":
            y = jax.nn.sigmoid(y)
        return (
            cross_entropy(y, t) if self.workload.loss == "cross_entropy" else jnp.mean((y - t) ** 2)
        )


class Chain(Trained):
    """A loop in the compiled program; ten thousand operations one by one compile for minutes."""

    workload: workloads.Chain

    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        w, b = weights

        def cycle(x: Any, _: None) -> tuple[Any, None]:
            return jax.nn.relu(jnp.tanh(x * w + b)), None

        return jnp.mean((lax.scan(cycle, x, length=self.workload.cycles)[0] - t) ** 2)


class LeNet(Trained):
    """Channels last, which this compiler is faster at, as with maxima of slices for pooling."""

    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        V1, a1, V2, a2, *dense = weights
        x = x.transpose(0, 2, 3, 1)
        x = self.pool(jax.nn.relu(self.convolve(x, V1, 2) + a1))
        x = self.pool(jax.nn.relu(self.convolve(x, V2, 0) + a2))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        *hidden, (W, b) = zip(dense[::2], dense[1::2], strict=True)
        for V, a in hidden:
            x = jax.nn.relu(x @ V + a)
        return cross_entropy(x @ W + b, t)

    def convolve(self, x: Any, W: Any, padding: int) -> Any:
        kernel = W.transpose(2, 3, 1, 0)
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (1, 1), [(padding,) * 2] * 2, dimension_numbers=layout
        )

    def pool(self, x: Any) -> Any:
        a, b, c, d = (x[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
        return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def layer_norm(x: Any, g: Any, a: Any) -> Any:
    d = x - jnp.mean(x, axis=-1, keepdims=True)
    return d * lax.rsqrt(jnp.mean(d * d, axis=-1, keepdims=True) + 1e-5) * g + a


class Block(Trained):
    workload: workloads.Block

    def loss(self, weights: Any, x: Any, t: Any) -> Any:
        g1, a1, Wq, Wk, Wv, Wo, bo, g2, a2, W1, b1, W2, b2 = weights
        N, T, d = x.shape
        u = layer_norm(x, g1, a1)
        q, k, v = ((u @ W).reshape(N, T, self.workload.heads, -1) for W in (Wq, Wk, Wv))
        x = x + jax.nn.dot_product_attention(q, k, v).reshape(N, T, d) @ Wo + bo
        m = jax.nn.gelu(layer_norm(x, g2, a2) @ W1 + b1, approximate=True)
        return jnp.mean((x + m @ W2 + b2 - t) ** 2)
