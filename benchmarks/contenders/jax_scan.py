"""JAX again: all steps of a round in one compiled `lax.scan`, with nothing of Python in between."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.contenders import jax_jit
from benchmarks.workloads import Workload


class Scanned(jax_jit.Trained):
    """Takes a round's batches stacked; `step` stays what it is, one step."""

    whole_rounds = True

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self.scanned = jax.jit(
            lambda state, batches: lax.scan(lambda s, b: self.update(s, *b), state, batches),
            donate_argnums=0,
        )

    def gather(self, batches: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        x, t = zip(*batches, strict=True)
        return jax.block_until_ready((jnp.stack(x), jnp.stack(t)))

    def round(self, batches: tuple[Any, Any]) -> float:
        self.state, losses = self.scanned(self.state, batches)
        return float(losses[-1])


class Network(Scanned, jax_jit.Network):
    """`jax_jit`'s network."""


class Chain(Scanned, jax_jit.Chain):
    """`jax_jit`'s chain."""


class LeNet(Scanned, jax_jit.LeNet):
    """`jax_jit`'s LeNet."""


class Block(Scanned, jax_jit.Block):
    """`jax_jit`'s block."""
