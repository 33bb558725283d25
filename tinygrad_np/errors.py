"""The errors a user meets, each one sentence: operation, what was expected, what came, the likely fix."""

from __future__ import annotations


class TensorError(Exception):
    """Base of every error raised on purpose by ``tinygrad_np`` and ``nn``."""


class ShapeError(TensorError, ValueError):
    """Shapes that do not fit the operation."""


class ArgumentError(TensorError, ValueError):
    """An argument of the right type with a value that the operation cannot take."""


class DtypeError(TensorError, TypeError):
    """A type or dtype that the operation cannot take."""


class IndexingError(TensorError, IndexError):
    """An index, axis or label outside its range."""


class GradientError(TensorError, RuntimeError):
    """A gradient was asked for where none can be given."""


class NoDerivativeError(TensorError, TypeError):
    """A NumPy function that records nothing was given a tensor, so its gradient would be lost."""


class EngineError(TensorError, RuntimeError):
    """No program that lays out graphs is installed, or it failed."""


class NonFiniteError(TensorError, ArithmeticError):
    """A NaN or an infinity where it was asked to be reported."""


def message(operation: str, expected: str, got: str, fix: str = "") -> str:
    """Join the four parts of an error: ``operation: expected ..., got .... Fix.``"""
    return f"{operation}: expected {expected}, got {got}." + (f" {fix}" if fix else "")
