"""Data sets: `iris` and `digits` shipped, `mnist` and `fashion_mnist` found or fetched."""

from nn.datasets.dataset import Dataset
from nn.datasets.idx import fashion_mnist, mnist
from nn.datasets.tables import digits, iris, sums_and_differences

__all__ = ["Dataset", "digits", "fashion_mnist", "iris", "mnist", "sums_and_differences"]
