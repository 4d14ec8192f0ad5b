"""The entries of an `Evidence` in one order, and the pairs of rows and entries that they make, as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from improvement_service.adjust.evidence import Evidence, Indices

Doubles: TypeAlias = NDArray[np.float64]


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
class Pairs:
    """A pair [P] for each row and entry of the same item, sorted by entry, then row.

    Items [I] are those that have entries; rows [R] are theirs, one item's after another's. Each row has terms, what it
    is compared with and moved along: the queries of its pairs by entry, then the row itself.
    """

    source: Indices
    """Where each row is from in the evidence, [R]."""
    rows_of_item: Indices
    """How many rows each item has, [I]."""
    entries_of_item: Indices
    """How many entries each item has, [I]."""
    rows_of_entry: Indices
    """How many pairs each entry is in, [E]."""
    pairs_of_row: Indices
    """How many pairs each row is in, [R]."""
    row: Indices
    """The row of each pair, [P]."""
    entry: Indices
    """The entry of each pair, [P]."""
    term: Indices
    """The place of each pair among the terms of all rows, [P]."""

    @classmethod
    def of(cls, evidence: Evidence, entries: Entries) -> Pairs:
        """Pair the rows of all items that have entries."""
        items, entries_of_item = np.unique(entries.item, return_counts=True)
        by_item = np.argsort(evidence.item_of_row, kind="stable")
        start = np.searchsorted(evidence.item_of_row[by_item], items)
        rows_of_item = np.searchsorted(evidence.item_of_row[by_item], items, side="right") - start
        rows_of_entry = np.repeat(rows_of_item, entries_of_item)
        entry = np.repeat(np.arange(len(rows_of_entry)), rows_of_entry)
        row = ranges(np.repeat(starts(rows_of_item), entries_of_item), rows_of_entry)
        pairs_of_row = np.repeat(entries_of_item, rows_of_item)
        nth = entry - np.repeat(starts(entries_of_item), entries_of_item * rows_of_item)
        return cls(
            source=by_item[ranges(start, rows_of_item)],
            rows_of_item=rows_of_item,
            entries_of_item=entries_of_item,
            rows_of_entry=rows_of_entry,
            pairs_of_row=pairs_of_row,
            row=row,
            entry=entry,
            term=starts(pairs_of_row + 1)[row] + nth,
        )


def ranges(start: Indices, count: Indices) -> Indices:
    """Concatenate start_i, start_i + 1, ... start_i + count_i - 1."""
    steps: Indices = np.repeat(start - starts(count), count) + np.arange(int(count.sum()))
    return steps


def starts(count: Indices) -> Indices:
    """Return where each of some runs starts that follow one another, given their lengths."""
    sums: Indices = np.cumsum(count) - count
    return sums
