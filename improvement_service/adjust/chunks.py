"""A piece of the evidence as tensors: rows, pairs of a row with an entry, and what a row is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from improvement_service.adjust.evidence import Indices


@dataclass(frozen=True)
class Chunk:
    """Some items with all their rows [R] and entries [E], and a pair [P] for each row and entry of the same item.

    Pairs are sorted by entry, then row: `row`, `entry` and `session` [P] say what a pair is made of, `weight` [P] is
    its entry's coefficient and `rows_of_entry` [E] how many pairs an entry has; `by_row` [P] sorts pairs by row and
    `pairs_of_row` [R] says how many each has.

    Terms [P + R] are what a row is compared with, and moved along: the queries of its pairs by entry, then the row
    itself. `column` [P + R] is their place in `table`, `row_of_term` [P + R] their row, `first_term` [R] where a row's
    terms begin; `term` [P + R] is the term of each pair, then of each row, and `order` [P + R] the way back.
    """

    table: Tensor
    """All queries, then all rows, of the whole batch."""
    queries: Tensor
    """The queries of the whole batch, [S, D]: a view of the table."""
    x: Tensor
    """The rows of this chunk, [R, D]: a view of the table, so what is written here is the result."""
    source: Indices
    """Where each row is from in the evidence, [R]."""
    weight: Tensor
    row: Tensor
    entry: Tensor
    session: Tensor
    rows_of_entry: Tensor
    by_row: Tensor
    pairs_of_row: Tensor
    column: Tensor
    row_of_term: Tensor
    first_term: Tensor
    term: Tensor
    order: Tensor
    has_parts: bool
    """Whether any item has more than one row."""
    has_single_pairs: bool
    """Whether each row is in one pair, which then has its number."""
