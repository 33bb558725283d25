"""Data sets: `iris` and `digits` shipped, `mnist` and `fashion_mnist` found or fetched, and text."""

from nn.datasets.dataset import Dataset
from nn.datasets.idx import fashion_mnist, mnist
from nn.datasets.tables import digits, iris, sums_and_differences
from nn.datasets.text import Text, python_topics

__all__ = [
    "Dataset", "Text", "digits", "fashion_mnist", "iris", "mnist", "python_topics",
    "sums_and_differences",
]  # fmt: skip
