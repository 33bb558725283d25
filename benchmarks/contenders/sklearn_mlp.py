"""scikit-learn's MLPClassifier without regularisation: its own loop over a round's batches."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from benchmarks import workloads
from benchmarks.contenders import Contender, SkippedError
from benchmarks.workloads import Floats


class Watched(MLPClassifier):  # type: ignore[misc]
    """Keeps the last batch's loss; the class's own is a mean over all batches of a call."""

    def _backprop(self, *arguments: Any, **options: Any) -> Any:
        self.last_loss, *gradients = super()._backprop(*arguments, **options)
        return self.last_loss, *gradients


class Network(Contender):
    """It has one optimizer's settings in common with us, and one loss: those of W1."""

    whole_rounds = True  # a call checks its arguments once, whatever the number of batches

    def __init__(self, workload: workloads.Network) -> None:
        s, (x, t) = workload.optimizer, workload.batches[0]
        if workload.loss != "cross_entropy" or not (isinstance(s, workloads.SGD) and s.momentum):
            raise SkippedError("sklearn: skipped, it is compared on cross-entropy with momentum")
        self.model = Watched(
            [b.size for b in workload.initial[1:-1:2]], solver="sgd", alpha=0.0, batch_size=len(x),
            learning_rate_init=s.lr, momentum=s.momentum, nesterovs_momentum=False, shuffle=False,
        )  # fmt: skip
        # The first call makes weights and optimizer, which then get the values of the workload.
        self.model.partial_fit(x, t, classes=np.arange(workload.initial[-1].size))
        for ours, initial in zip(self.parameters(), workload.initial, strict=True):
            ours[...] = initial
        for velocity in self.model._optimizer.velocities:
            velocity[...] = 0

    def gather(self, batches: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        x, t = zip(*batches, strict=True)
        return np.concatenate(x), np.concatenate(t)

    def step(self, x: Floats, t: NDArray[np.generic]) -> float:
        return self.round((x, t))

    def round(self, batches: tuple[Any, Any]) -> float:
        self.model.partial_fit(*batches)
        return float(self.model.last_loss)

    def parameters(self) -> list[Floats]:
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return [p for pair in pairs for p in pair]
