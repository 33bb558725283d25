"""The same backprop with every trick we know: what a compiler's output has to be compared with.

Every result has its buffer; all parameters lie in one flat array, as do their gradients; constants
are 0-d arrays; SGD's learning rate and the mean over the batch are folded into the first cotangent.
Of two calls that do the same the cheaper one is taken: `a.dot(b, out)` costs half of a small
`np.matmul`, an `out` given by position a little less than one given by name, and an array of zeros
makes a large `np.maximum` three times as fast as the number 0. (The `out` of `np.maximum` has to be
named: giving it by position is deprecated, and noticing that takes longer than a small call.)
"""

from benchmarks.contenders.numpy_tuned.block import Block
from benchmarks.contenders.numpy_tuned.chain import Chain
from benchmarks.contenders.numpy_tuned.lenet import LeNet
from benchmarks.contenders.numpy_tuned.network import Network

__all__ = ["Block", "Chain", "LeNet", "Network"]
