"""Cuts evidence into pieces of bounded size, as tensors: rows, and pairs of a row with an entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from improvement_service.adjust.evidence import Evidence, Indices

Doubles: TypeAlias = "NDArray[np.float64]"

ITEMS = 1024
NUMBERS = 2**19
"""A chunk ends at either count, of items or of numbers in the vectors of its pairs: enough to keep the cost of calls
down, and still in the processor's cache."""


@dataclass(frozen=True)
class Entries:
    """The entries of an `Evidence` sorted by item, session and sign, each combination once, none of weight 0."""

    item: Indices
    session: Indices
    positive: NDArray[np.bool_]
    weight: Doubles

    @classmethod
    def of(cls, evidence: Evidence) -> Entries:
        """Sort and merge: sums are taken from the smallest weight up, so that the order given does not matter."""
        said = np.flatnonzero(evidence.weight > 0)
        item, session, positive = evidence.item[said], evidence.session[said], evidence.positive[said]
        weight = evidence.weight[said].astype(np.float64)
        order = np.lexsort((weight, positive, session, item))
        keys = np.stack([item[order], session[order], positive[order]])
        first = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)][: len(order)])
        total = np.add.reduceat(weight[order], first) if len(first) else weight
        return cls(keys[0, first], keys[1, first], keys[2, first].astype(np.bool_), total)


@dataclass(frozen=True)
class Chunk:
    """Some items with all their rows [R] and entries [E], and a pair [P] for each row and entry of the same item.

    Pairs are sorted by row, then entry. `row`, `entry` and `session` [P] say what a pair is made of, the latter as a
    row of `queries` [S, D]; `row_start` [R] is where a row's pairs begin and `pairs_of_row` [R] how many there are;
    `by_entry` [P] sorts pairs by entry and `parts` [E] says how many each has. `x` [R, D] are the vectors, `rows` says
    where they are from, `weight` [E] is each entry's coefficient.
    """

    rows: slice | Tensor
    x: Tensor
    queries: Tensor
    weight: Tensor
    row: Tensor
    entry: Tensor
    session: Tensor
    row_start: Tensor
    pairs_of_row: Tensor
    by_entry: Tensor
    parts: Tensor

    @property
    def has_parts(self) -> bool:
        """Whether any item has more than one row."""
        return len(self.row) > len(self.parts)

    def of_pairs(self, x: Tensor) -> Tensor:
        """Return the row of each pair, [P, D], from rows `x` [R, D]."""
        return x.index_select(0, self.row) if len(self.row) > len(x) else x


def cut(
    vectors: Tensor, evidence: Evidence, entries: Entries, weight: Doubles, device: torch.device
) -> Iterator[Chunk]:
    """Yield chunks that cover every item with an entry once.

    `vectors` [R, D] are the evidence's, `weight` [E] is a finite coefficient for each of `entries`.
    """
    items, entry_start, entry_count = np.unique(entries.item, return_index=True, return_counts=True)
    by_item = np.argsort(evidence.item_of_row, kind="stable")
    row_start = np.searchsorted(evidence.item_of_row[by_item], items)
    part_count = np.searchsorted(evidence.item_of_row[by_item], items, side="right") - row_start
    pairs = np.cumsum(part_count * entry_count)
    most_pairs = NUMBERS // max(vectors.shape[1], 1)
    start = 0
    while start < len(items):
        reached = int(np.searchsorted(pairs, (pairs[start - 1] if start else 0) + most_pairs, side="right"))
        end = min(max(reached, start + 1), start + ITEMS, len(items))
        here = slice(start, end)
        start = end
        rows = _as_slice(by_item[_ranges(row_start[here], part_count[here])])
        entries_of_row = np.repeat(entry_count[here], part_count[here])
        first_entry = np.repeat(np.cumsum(entry_count[here]) - entry_count[here], part_count[here])
        entry = _ranges(first_entry, entries_of_row)
        said = slice(int(entry_start[here][0]), int(entry_start[here][0] + entry_count[here].sum()))
        sessions, session = np.unique(entries.session[said], return_inverse=True)
        yield Chunk(
            rows=rows,
            x=vectors[rows].to(device),
            queries=torch.from_numpy(evidence.queries[sessions]).to(device),
            weight=torch.from_numpy(weight[said].astype(np.float32)).to(device),
            row=torch.from_numpy(np.repeat(np.arange(len(entries_of_row)), entries_of_row)).to(device),
            entry=torch.from_numpy(entry).to(device),
            session=torch.from_numpy(session[entry]).to(device),
            row_start=torch.from_numpy(np.cumsum(entries_of_row) - entries_of_row).to(device),
            pairs_of_row=torch.from_numpy(entries_of_row).to(device),
            by_entry=torch.from_numpy(np.argsort(entry, kind="stable")).to(device),
            parts=torch.from_numpy(np.repeat(part_count[here], entry_count[here])).to(device),
        )


def choose_device(device: str | None) -> torch.device:
    """Return the named device, or CUDA when there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _ranges(start: Indices, count: Indices) -> Indices:
    """Concatenate start_i, start_i + 1, ... start_i + count_i - 1."""
    begin = np.cumsum(count) - count
    ranges: Indices = np.repeat(start - begin, count) + np.arange(int(count.sum()))
    return ranges


def _as_slice(rows: Indices) -> slice | Tensor:
    """Return a slice where rows follow one another, which spares the copies, else the indices."""
    if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return torch.from_numpy(rows)
