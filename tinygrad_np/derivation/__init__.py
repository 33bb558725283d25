"""The recorded program as a person would write it: NumPy source, and mathematics."""

from .difference import Difference
from .result import Derivation, derive

__all__ = ["Derivation", "Difference", "derive"]
