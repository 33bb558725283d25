"""A define-by-run computation graph with reverse-mode differentiation, on NumPy.

>>> import numpy as np, tinygrad_np as tg
>>> W = tg.Tensor(np.ones((3, 2)), requires_grad=True, name="W")
>>> loss = np.tanh(np.eye(3) @ W).sum()
>>> loss.backward()
>>> W.grad.shape
(3, 2)
"""

from . import operators as operators  # binds operators, methods and NumPy's functions to Tensor
from .backward import backward, gradients, register_hook, retain_grad
from .core import Tensor, case, no_grad, primitive, samples
from .ops.activation import log_softmax, logsumexp, relu, sigmoid, softmax
from .ops.arithmetic import (
    absolute, add, astype, clip, divide, exp, log, maximum, minimum, multiply, negative, power, sign, sqrt,
    subtract, tanh, where,
)  # fmt: skip
from .ops.index import getitem
from .ops.linalg import linear, matmul
from .ops.loss import binary_cross_entropy, mean_squared_error, softmax_cross_entropy
from .ops.reduce import max, mean, min, sum
from .ops.shape import (
    broadcast_to, concatenate, expand_dims, matrix_transpose, reshape, squeeze, stack, transpose,
)  # fmt: skip
