"""Lengths and products of rows, how the parts of an object share an entry, and sums over pairs.

Sums go over a row in a fixed order and without atomics, and numbers of rows and pairs are worked out in float64: a
vectorised exp or sin differs by a bit in the last few numbers of a tensor, which rounding to float32 then hides. So a
row's bits do not depend on what is computed beside it, on a CPU or on CUDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding_bag

from improvement_service.domain.index import Aggregation

if TYPE_CHECKING:
    from torch import Tensor

    from improvement_service.adjust.chunks import Chunk

SMALLEST, LARGEST = 1e-15, 1e15
"""Lengths outside of this cannot be squared in float32 without loss; such rows have no direction."""


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each row of `a` and `b`, [N, D] each, as [N]."""
    product: Tensor = torch.linalg.vecdot(a, b)
    return product


def length(x: Tensor) -> Tensor:
    """Return the length of each row of `x` [N, D] as [N]."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norm


def inverse_lengths(x: Tensor) -> Tensor:
    """Return 1 / |x| for the rows of `x` [N, D] as [N], and 0 for rows without a direction."""
    norm = length(x)
    return torch.where((norm > SMALLEST) & (norm < LARGEST), 1.0 / norm.clamp_min(SMALLEST), 0.0)


def directions(x: Tensor) -> Tensor:
    """Scale the rows of `x` [N, D] to length 1; rows without a direction become 0."""
    return x * inverse_lengths(x)[:, None]


def shares(aggregation: Aggregation, chunk: Chunk, s: Tensor, temperature: float) -> Tensor:
    """Return how much of an entry each pair bears, [P], given the similarities `s` [P]; they add up to 1 in an entry.

    MIN: softmax(s / temperature) over the parts, the nearest part bears most; AVG: the same for all parts.
    """
    if not chunk.has_parts:
        return torch.ones_like(s)
    if aggregation is Aggregation.AVG:
        return 1.0 / chunk.parts[chunk.entry].to(s.dtype)
    highest = torch.segment_reduce(s[chunk.by_entry], "max", lengths=chunk.parts)
    odds = ((s - highest[chunk.entry]) / temperature).exp()
    return odds / sum_of_entry(chunk, odds)


def sum_of_entry(chunk: Chunk, values: Tensor) -> Tensor:
    """Sum `values` [P] over the pairs of each entry, and give each pair its entry's sum, [P]."""
    if not chunk.has_parts:
        return values
    return torch.segment_reduce(values[chunk.by_entry], "sum", lengths=chunk.parts)[chunk.entry]


def sum_of_row(chunk: Chunk, values: Tensor) -> Tensor:
    """Sum `values` [P] over the pairs of each row, [R]."""
    if len(values) == len(chunk.x):
        return values
    return torch.segment_reduce(values, "sum", lengths=chunk.pairs_of_row)


def weighted_sum_of_row(chunk: Chunk, weights: Tensor, vectors: Tensor, which: Tensor | None = None) -> Tensor:
    """Sum weights * vectors over the pairs of each row, [R, D].

    `weights` [P]; `vectors` [P, D], or [N, D] with `which` [P] naming the vector of each pair.
    """
    index = torch.arange(len(weights), device=weights.device) if which is None else which
    return embedding_bag(index, vectors, chunk.row_start, mode="sum", per_sample_weights=weights.to(vectors.dtype))


def finite_or(x: Tensor, fallback: Tensor) -> Tensor:
    """Take the rows of `fallback` where a row of `x` [N, D] left the range of float32."""
    fits = x.sum(dim=-1).isfinite()
    return x if fits.all() else torch.where(fits[:, None], x, fallback)
