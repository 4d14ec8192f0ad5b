"""The array types that the modules here pass to each other, and the sum they all use."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
Keys: TypeAlias = NDArray[np.uint64]


def totals(index: Indices, values: Floats, size: int) -> Floats:
    """Return the sums [size] of `values` [M] by `index` [M]."""
    return np.bincount(index, values, size).astype(np.float64, copy=False)
