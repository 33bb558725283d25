"""One BLAS thread: the tests' arrays are small, and threads only wait for each other on a busy machine."""

from __future__ import annotations

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # read when NumPy is imported, which comes after this
