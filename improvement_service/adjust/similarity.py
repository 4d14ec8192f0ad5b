"""Lengths and products of rows, how the parts of an object share an entry, and sums over pairs.

Sums go over a row in a fixed order and without atomics, and numbers of rows and pairs are worked out in float64: a
vectorised exp or sin differs by a bit in the last few numbers of a tensor, which rounding to float32 then hides. So a
row's bits do not depend on what is computed beside it, on a CPU or on CUDA.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding_bag, threshold

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
    """Return 1 / |x| for the rows of `x` [N, D] as [N] in float64, and 0 for rows without a direction."""
    return inverse_roots(length(x).double().square())


def inverse_roots(squares: Tensor) -> Tensor:
    """Return 1 / |x| given |x|^2 [N], and 0 where that is no length of a direction."""
    return threshold(threshold(squares, SMALLEST**2, inf).rsqrt(), 1 / LARGEST, 0.0)


def directions(x: Tensor) -> Tensor:
    """Scale the rows of `x` [N, D] to length 1; rows without a direction become 0."""
    return x * inverse_lengths(x).to(x.dtype)[:, None]


def products(chunk: Chunk) -> tuple[Tensor, Tensor]:
    """Return the inner product of each pair's row and query, [P], and of each row with itself, [R], in float64.

    Products with the terms of a row are the adjoint of their weighted sum: torch's own, that goes over a row once.
    """
    found = torch.ops.aten._embedding_bag_per_sample_weights_backward(  # noqa: SLF001
        chunk.x, chunk.table, chunk.column, chunk.first_term, chunk.row_of_term, 0
    )
    near, squares = found.double().index_select(0, chunk.term).split([chunk.row.shape[0], chunk.first_term.shape[0]])
    return near, squares


def weighted_sum(chunk: Chunk, of_pairs: Tensor, of_rows: Tensor) -> Tensor:
    """Sum for each row the queries of its pairs times `of_pairs` [P], and itself times `of_rows` [R]; [R, D]."""
    weights = torch.cat((of_pairs, of_rows)).index_select(0, chunk.order).to(chunk.table.dtype)
    return embedding_bag(chunk.column, chunk.table, chunk.first_term, mode="sum", per_sample_weights=weights)


def shares(aggregation: Aggregation, chunk: Chunk, s: Tensor, temperature: float) -> Tensor:
    """Return how much of an entry each pair bears, [P], given the similarities `s` [P]; they add up to 1 in an entry.

    MIN: softmax(s / temperature) over the parts, the nearest part bears most; AVG: the same for all parts.
    """
    if not chunk.has_parts:
        return torch.ones_like(s)
    if aggregation is Aggregation.AVG:
        return 1.0 / chunk.rows_of_entry.index_select(0, chunk.entry).to(s.dtype)
    highest = torch.segment_reduce(s, "max", lengths=chunk.rows_of_entry, unsafe=True)
    odds = (s - highest.index_select(0, chunk.entry)).div_(temperature).exp_()
    return odds / sum_of_entry(chunk, odds)


def sum_of_entry(chunk: Chunk, values: Tensor) -> Tensor:
    """Sum `values` [P] over the pairs of each entry, and give each pair its entry's sum, [P]."""
    if not chunk.has_parts:
        return values
    return torch.segment_reduce(values, "sum", lengths=chunk.rows_of_entry, unsafe=True).index_select(0, chunk.entry)


def sum_of_row(chunk: Chunk, values: Tensor) -> Tensor:
    """Sum `values` [P] over the pairs of each row, [R]."""
    if chunk.has_single_pairs:
        return values
    return torch.segment_reduce(values.index_select(0, chunk.by_row), "sum", lengths=chunk.pairs_of_row, unsafe=True)


def weighted_sum_of_row(chunk: Chunk, weights: Tensor, vectors: Tensor) -> Tensor:
    """Sum weights [P] * vectors [P, D] over the pairs of each row, [R, D]."""
    first = chunk.pairs_of_row.cumsum(0) - chunk.pairs_of_row
    weights = weights.index_select(0, chunk.by_row).to(vectors.dtype)
    return embedding_bag(chunk.by_row, vectors, first, mode="sum", per_sample_weights=weights)
