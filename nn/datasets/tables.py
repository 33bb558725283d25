"""Small data sets: two shipped with the package, one computed."""

from __future__ import annotations

from importlib import resources

import numpy as np

from nn.datasets.dataset import Dataset
from tinygrad_np.errors import ArgumentError, message


def iris() -> Dataset:
    """Return Fisher's iris flowers: 150 rows, 4 lengths in cm, 3 classes of 50.

    The values are Fisher's, as in scikit-learn and R; the copy in the UCI repository differs in
    two rows (34 and 37, counted from 0).

    Returns
    -------
    Dataset
        x float64 (150, 4) in cm, y int64 (150,); fresh arrays, yours to change.

    References
    ----------
    R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7
    (1936), 179-188.

    Examples
    --------
    >>> x, y = iris()
    >>> x[0], y[0]
    (array([5.1, 3.5, 1.4, 0.2]), np.int64(0))
    """
    return _shipped(
        "iris",
        feature_names=(
            "sepal length (cm)",
            "sepal width (cm)",
            "petal length (cm)",
            "petal width (cm)",
        ),
        class_names=("setosa", "versicolor", "virginica"),
        source="R. A. Fisher (1936); https://doi.org/10.24432/C56C76, as corrected in scikit-learn",
    )


def digits() -> Dataset:
    """Return 1797 handwritten digits of 8x8 pixels, each 0 (paper) to 16 (ink).

    A pixel counts the inked dots of a 4x4 block of the 32x32 scan.

    Returns
    -------
    Dataset
        x float64 (1797, 64), row after row of the image, y int64 (1797,) in 0..9; fresh arrays.

    References
    ----------
    C. Kaynak, "Methods of combining multiple classifiers and their applications to handwritten
    digit recognition", MSc thesis, Bogazici University (1995).

    Examples
    --------
    >>> digits()
    digits: 1,797 rows
      x (1797, 64) float64: pixel_0_0, pixel_0_1, ..., pixel_7_7
      y (1797,) int64: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
      source: E. Alpaydin, C. Kaynak (1998); https://doi.org/10.24432/C50P49, test part
      licence: CC BY 4.0
    """
    return _shipped(
        "digits",
        feature_names=pixel_names(8),
        class_names=tuple("0123456789"),
        source="E. Alpaydin, C. Kaynak (1998); https://doi.org/10.24432/C50P49, test part",
    )


def pixel_names(side: int) -> tuple[str, ...]:
    """Names ``pixel_<row>_<column>`` of a square image read row after row."""
    return tuple(f"pixel_{row}_{column}" for row in range(side) for column in range(side))


def _shipped(
    name: str, feature_names: tuple[str, ...], class_names: tuple[str, ...], source: str
) -> Dataset:
    file = resources.files(__package__) / f"{name}.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        x, y = arrays["x"].astype(np.float64), arrays["y"].astype(np.int64)
    return Dataset(x, y, feature_names, class_names, name, source, licence="CC BY 4.0")


def sums_and_differences(n: int = 10_000, seed: int = 42) -> Dataset:
    """Return numbers a, b uniform in [0, 100) with a + b, a - b and abs(a - b) to predict.

    All a are drawn before all b, by NumPy's legacy generator, so the numbers are those of
    ``np.random.seed(seed); np.random.rand(2, n) * 100`` to the last bit.

    Parameters
    ----------
    n : int
        Rows.
    seed : int

    Returns
    -------
    Dataset
        x float64 (n, 2), y float64 (n, 3).

    Raises
    ------
    ArgumentError
        For n < 1.

    Examples
    --------
    >>> data = sums_and_differences(n=3)
    >>> data.x.round(2)
    array([[37.45, 59.87],
           [95.07, 15.6 ],
           [73.2 , 15.6 ]])
    >>> data.y.round(2)
    array([[ 97.32, -22.41,  22.41],
           [110.67,  79.47,  79.47],
           [ 88.8 ,  57.6 ,  57.6 ]])
    """
    if n < 1:
        raise ArgumentError(message("sums_and_differences", "n of at least 1", f"n={n}"))
    a, b = np.random.RandomState(seed).rand(2, n) * 100
    return Dataset(
        np.stack([a, b], axis=1),
        np.stack([a + b, a - b, np.abs(a - b)], axis=1),
        ("a", "b"),
        ("a + b", "a - b", "|a - b|"),
        "sums_and_differences",
        source=f"computed, seed {seed}",
    )
