"""What a log of sessions says about position bias, in flat memory."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from clickstream_service.position_bias.cells import Cells

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

    from clickstream_service.position_bias.arrays import Indices, Keys

GROUPS = 64
"""Sessions are dealt into this many groups by hash: the bootstrap draws groups, so it needs no session again."""

_GROUP_BITS, _RANK_BITS = 6, 12
_PAIR_SHIFT = np.uint64(_GROUP_BITS + _RANK_BITS)
_BUFFER = 1 << 18


class ClickCounts:
    """Impressions and clicks by (query, object, rank, group of sessions), added up one session at a time.

    A pair is one object shown for one query. When there are more than `max_cells` cells, half of the pairs are left
    out, and so on: those with the higher hash, whatever was clicked, so what stays is a random sample of pairs with all
    of their impressions, and does not depend on the order of the sessions (Wegman's adaptive sampling; Flajolet 1990).
    16 bytes a cell and 16 a pair stay in memory, about three times that while they are gathered.

    `max_rank` (1 to 4,095): what was shown further down is ignored. `impressions_by_rank` and `clicks_by_rank` [R] and
    `sessions` count everything, sampled or not.
    """

    def __init__(self, max_rank: int = 20, max_cells: int = 2_000_000) -> None:
        if not 1 <= max_rank < 1 << _RANK_BITS:
            raise ValueError("max_rank is 1 to 4,095")
        if max_cells < 1:
            raise ValueError("max_cells is 1 or more")
        self.max_rank, self.max_cells = max_rank, max_cells
        self.sessions = 0
        self.impressions_by_rank: Indices = np.zeros(max_rank, np.int64)
        self.clicks_by_rank: Indices = np.zeros(max_rank, np.int64)
        self._limit = 1 << (64 - int(_PAIR_SHIFT))
        self._keys: Keys = np.empty(0, np.uint64)
        self._counts: Indices = np.empty((0, 2), np.int64)
        self._pairs: Keys = np.empty(0, np.uint64)
        self._items: Keys = np.empty(0, np.uint64)
        self._waiting: list[tuple[int, int, int, bool]] = []

    def add(self, unit: str, query: str, shown: Iterable[tuple[int, str, bool]]) -> None:
        """Add one session: `shown` are (rank from 1 on, object, whether it was clicked), an object at most once a rank.

        `unit` is what is independent of the rest: the user where one is known, else the session.
        """
        self.sessions += 1
        group = _hash(unit) % GROUPS
        start = blake2b(f"{len(query)}:{query}".encode(), digest_size=8)
        for rank, item, clicked in shown:
            pair = start.copy()
            pair.update(item.encode())
            key = int.from_bytes(pair.digest(), "little") >> int(_PAIR_SHIFT)
            if 1 <= rank <= self.max_rank:
                self._waiting.append((_key(key, rank, group), _hash(item), 1, clicked))
        if len(self._waiting) >= _BUFFER:
            self._flush()

    def add_counts(
        self,
        pair: ArrayLike,
        item: ArrayLike,
        *,
        rank: ArrayLike,
        group: ArrayLike,
        impressions: ArrayLike,
        clicks: ArrayLike,
        sessions: int,
    ) -> None:
        """Add rows [M] that are already summed: `pair` and `item` are 64-bit hashes, `rank` from 1, `group` below 64.

        Raises ValueError where a row has more clicks than impressions: the model is of a result clicked or not.
        """
        ranks, groups = np.asarray(rank, np.int64), np.asarray(group, np.int64)
        counts = np.stack([np.asarray(impressions, np.int64), np.asarray(clicks, np.int64)], axis=1)
        if np.any(counts[:, 1] > counts[:, 0]) or np.any(counts < 0):
            raise ValueError("a row has more clicks than impressions")
        if np.any((groups < 0) | (groups >= GROUPS)):
            raise ValueError(f"a group is 0 to {GROUPS - 1}")
        self.sessions += sessions
        near = (ranks >= 1) & (ranks <= self.max_rank)
        keys = (np.asarray(pair, np.uint64) >> _PAIR_SHIFT) << _PAIR_SHIFT
        keys |= (ranks << _GROUP_BITS | groups).astype(np.uint64)
        self._gather(keys[near], np.asarray(item, np.uint64)[near], counts[near])

    def cells(self) -> Cells:
        """Return the counts so far, by pair, rank and group."""
        self._flush()
        pairs = self._keys >> _PAIR_SHIFT
        _, items = np.unique(self._items, return_inverse=True)
        rank = (self._keys >> np.uint64(_GROUP_BITS)).astype(np.int64) & ((1 << _RANK_BITS) - 1)
        return Cells(
            pair=np.searchsorted(self._pairs, pairs),
            rank=rank - 1,
            group=self._keys.astype(np.int64) & (GROUPS - 1),
            impressions=self._counts[:, 0].astype(np.float64),
            clicks=self._counts[:, 1].astype(np.float64),
            item=items.astype(np.int64),
            ranks=self.max_rank,
        )

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = np.array(self._waiting, dtype=np.uint64)
        self._waiting = []
        self._gather(rows[:, 0], rows[:, 1], rows[:, 2:].astype(np.int64))

    def _gather(self, keys: Keys, items: Keys, counts: Indices) -> None:
        """Merge rows into the cells, then halve the sample of pairs until the cells fit."""
        rank = (keys >> np.uint64(_GROUP_BITS)).astype(np.int64) & ((1 << _RANK_BITS) - 1)
        np.add.at(self.impressions_by_rank, rank - 1, counts[:, 0])
        np.add.at(self.clicks_by_rank, rank - 1, counts[:, 1])
        pairs, first = np.unique(np.concatenate([self._pairs, keys >> _PAIR_SHIFT]), return_index=True)
        self._items = np.concatenate([self._items, items])[first]
        self._pairs = pairs
        self._keys, cell = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        gathered = np.concatenate([self._counts, counts])
        self._counts = np.stack(
            [np.bincount(cell, gathered[:, column], len(self._keys)) for column in (0, 1)], axis=1
        ).astype(np.int64)
        self._cut()
        while len(self._keys) > self.max_cells and self._limit > 1:
            self._limit //= 2
            self._cut()

    def _cut(self) -> None:
        kept = int(np.searchsorted(self._pairs, np.uint64(self._limit)))
        cells = int(np.searchsorted(self._keys >> _PAIR_SHIFT, np.uint64(self._limit)))
        self._pairs, self._items = self._pairs[:kept], self._items[:kept]
        self._keys, self._counts = self._keys[:cells], self._counts[:cells]


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def _key(pair: int, rank: int, group: int) -> int:
    return pair << int(_PAIR_SHIFT) | rank << _GROUP_BITS | group
