"""Counts as the estimators read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clickstream_service.position_bias.arrays import totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickstream_service.position_bias.arrays import Floats, Indices

BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Cells:
    """Impressions and clicks [M] of pair `pair` [M] (rising) at rank index `rank` [M] (0 is rank 1) in `group` [M].

    `item` [P] is the object of each pair; `ranks` is R. A pair is one object shown for one query.
    """

    pair: Indices
    rank: Indices
    group: Indices
    impressions: Floats
    clicks: Floats
    item: Indices
    ranks: int

    @property
    def pairs(self) -> int:
        return len(self.item)

    def by_item(self) -> Cells:
        """Take every object as one pair, whatever was asked."""
        items = int(self.item.max(initial=-1)) + 1
        return self._summed(self.item[self.pair], self.group, np.arange(items))

    def whole(self) -> Cells:
        """Sum over the groups."""
        return self._summed(self.pair, np.zeros_like(self.group), self.item)

    def contrasted(self) -> Cells:
        """Keep the pairs shown at several ranks: all that can tell ranks apart without a guess at relevance."""
        held = self.whole()
        many = np.bincount(held.pair, minlength=self.pairs) > 1
        kept = many[self.pair]
        index = np.cumsum(many) - 1
        return replace(
            self,
            pair=index[self.pair[kept]],
            rank=self.rank[kept],
            group=self.group[kept],
            impressions=self.impressions[kept],
            clicks=self.clicks[kept],
            item=self.item[many],
        )

    def contrasted_clicks(self) -> Floats:
        """Return how many clicks [R] can be held against impressions at other ranks: sum_p C_pk (1 - N_pk / N_p)."""
        held = self.whole()
        shown = totals(held.pair, held.impressions, self.pairs)
        elsewhere = 1 - held.impressions / shown[held.pair]
        return totals(held.rank, held.clicks * elsewhere, self.ranks)

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Cut into runs of at most `BLOCK` pairs: their cells, and their pairs."""
        for start in range(0, self.pairs, BLOCK):
            stop = min(start + BLOCK, self.pairs)
            first, last = np.searchsorted(self.pair, [start, stop])
            yield slice(int(first), int(last)), slice(start, stop)

    def dense(self, cells: slice, pairs: slice, values: Floats, columns: Indices, width: int) -> Floats:
        """Lay `values` [M] of a run out as [pairs of the run, width], by `columns` [M]; cells that meet add up."""
        size = pairs.stop - pairs.start
        at = (self.pair[cells] - pairs.start) * width + columns[cells]
        return totals(at, values[cells], size * width).reshape(size, width)

    def _summed(self, pair: Indices, group: Indices, item: Indices) -> Cells:
        groups = int(group.max(initial=0)) + 1
        keys, cell = np.unique((pair * self.ranks + self.rank) * groups + group, return_inverse=True)
        return Cells(
            pair=keys // (groups * self.ranks),
            rank=keys // groups % self.ranks,
            group=keys % groups,
            impressions=totals(cell, self.impressions, len(keys)),
            clicks=totals(cell, self.clicks, len(keys)),
            item=item,
            ranks=self.ranks,
        )
