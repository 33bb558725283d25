"""A function as an ONNX model, for programs that know nothing of Python.

The function is recorded and its operations are translated one by one, so that whatever is written
with tensors can be exported, layers of `nn` and a user's own code alike.
"""

from .model import to_onnx

__all__ = ["to_onnx"]
