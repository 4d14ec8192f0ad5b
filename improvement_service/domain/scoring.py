"""How objects are scored: which of their rows take part, and what a row scores. Higher is nearer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from improvement_service.domain.index import Aggregation, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

LONGEST: Final = 1e15
"""The longest vector: the square of a longer one does not fit the arithmetic of the vector database."""
SHORTEST: Final = 1e-15
"""The shortest vector that still has a direction there."""
ROUNDING: Final = 1e-6
"""What a cosine may be off by."""


def lengths(rows: Floats) -> Doubles:
    """Return the length of each of `rows` [R, D], as [R]."""
    norms: Doubles = np.linalg.norm(rows.astype(np.float64), axis=1)
    return norms


def scores(metric: Metric, query: Floats, rows: Floats, lengths: Doubles) -> Doubles:
    """Return what each of `rows` [R, D], which have these `lengths` [R], scores for `query` [D], as [R].

    q.x/(|q| |x|), q.x or -|q - x|, in the float32 that the vector database computes in.
    """
    if metric is Metric.EUCLID:
        apart = rows - query
        # The vector database gives the square: its root in float32 would not be what is made of that.
        away: Doubles = np.sqrt(np.vecdot(apart, apart).astype(np.float64))
        return -away
    if metric is Metric.DOT:
        product: Doubles = (rows @ query).astype(np.float64)
        return product
    return cosines(query, rows, lengths)


def cosines(query: Floats, rows: Floats, lengths: Doubles) -> Doubles:
    """Return the cosine of `query` [D] with each of `rows` [R, D], which have these `lengths` [R], as [R].

    0 where one of the two has no direction.
    """
    both = lengths * np.linalg.norm(query.astype(np.float64))
    near: Doubles = np.divide(rows @ query, both, out=np.zeros(len(rows)), where=both > 0)
    return np.minimum(np.maximum(near, -1.0, out=near), 1.0, out=near)


def scored_parts(aggregation: Aggregation, is_average: Sequence[bool]) -> list[int] | None:
    """Return which parts of an object are scored; None when it is the mean of all, which the object does not have."""
    parts = range(len(is_average))
    if len(is_average) == 1:
        return [0]
    if aggregation is Aggregation.MIN:
        return [part for part in parts if not is_average[part]]
    return [part for part in parts if is_average[part]] or None


def mean(metric: Metric, vectors: Sequence[Floats]) -> Floats:
    """Return the mean of some vectors [D] as [D]: under COSINE the mean of their directions, with length 1."""
    rows = np.array(vectors, dtype=np.float64)
    if metric is Metric.COSINE:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    middle: Doubles = rows.mean(axis=0)
    if metric is Metric.COSINE:
        length = np.linalg.norm(middle)
        # Parts that cancel out have no direction; what is left of them is rounding.
        middle = middle / length if length > ROUNDING else np.zeros_like(middle)
    return middle.astype(np.float32)


def complaint(metric: Metric, dimension: int, vector: Floats) -> str:
    """Return why `vector` does not fit an index; empty when it does."""
    if vector.shape != (dimension,):
        return f"has {vector.size} numbers where the collection has {dimension}"
    if not np.isfinite(vector).all():
        return "has a number that is not finite"
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if length > LONGEST:
        return f"is longer than {LONGEST:g}"
    if metric is Metric.COSINE and length < SHORTEST:
        return "is zero, which has no direction"
    return ""
