"""Evidence as one table of bounded pieces, in which rows are moved in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from improvement_service.adjust.chunks import Chunk
from improvement_service.adjust.entries import Pairs, starts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from improvement_service.adjust.entries import Doubles, Entries
    from improvement_service.adjust.evidence import Evidence, Floats

ITEMS = 4096
NUMBERS = 2**20
"""A chunk ends at either count, of items or of numbers in the vectors of its pairs: enough to keep the cost of calls
down, and still in the processor's cache."""

REGISTER = 16
"""Vectorised kernels round what does not fill a register, or does not start at one, in another way: whole ones treat
all rows alike."""


class Batch:
    """Evidence as a table of its queries and then of its rows, to be moved in place, chunk by chunk."""

    def __init__(
        self, evidence: Evidence, entries: Entries, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._evidence = evidence
        self._session = entries.session
        self._pairs = Pairs.of(evidence, entries)
        vectors, source = evidence.vectors, self._pairs.source
        # Views are cheaper than copies, and rows mostly come in the order of their items.
        self._in_order = len(source) == len(vectors) and bool((source[1:] > source[:-1]).all())
        sessions, dimension = evidence.queries.shape
        table = _empty(sessions + len(source), dimension + -dimension % REGISTER)
        table[:sessions, :dimension] = _tensor(evidence.queries)
        table[sessions:, :dimension] = _tensor(vectors if self._in_order else vectors[source])
        table[:, dimension:] = 0
        self._table = table.to(device, dtype)
        self.queries = self._table[:sessions]

    def chunks(self, weight: Doubles) -> Iterator[Chunk]:
        """Yield chunks that cover every item with an entry once, given a finite coefficient for each entry, [E]."""
        pairs, device, sessions = self._pairs, self._table.device, len(self.queries)
        pairs_of_item = pairs.rows_of_item * pairs.entries_of_item
        most = NUMBERS // max(self._table.shape[1], 1)
        ends = [np.r_[0, np.cumsum(a)] for a in (pairs_of_item, pairs.rows_of_item, pairs.entries_of_item)]
        start = 0
        while start < len(pairs_of_item):
            reached = int(np.searchsorted(ends[0], ends[0][start] + most, side="right")) - 1
            end = min(max(reached, start + 1), start + ITEMS, len(pairs_of_item))
            p, r, e = (slice(int(a[start]), int(a[end])) for a in ends)
            start = end
            row, entry, pairs_of_row = pairs.row[p] - r.start, pairs.entry[p], pairs.pairs_of_row[r]
            session = self._session[entry]
            first_term = starts(pairs_of_row + 1)
            term = np.concatenate([pairs.term[p] - (p.start + r.start), first_term + pairs_of_row])
            order = np.empty_like(term)
            order[term] = np.arange(len(term))
            column = np.concatenate([session, np.arange(sessions + r.start, sessions + r.stop)])[order]
            index = {
                "row": row,
                "entry": entry - e.start,
                "session": session,
                "rows_of_entry": pairs.rows_of_entry[e],
                "by_row": order[order < len(row)],
                "pairs_of_row": pairs_of_row,
                "column": column,
                "row_of_term": np.repeat(np.arange(len(first_term)), pairs_of_row + 1),
                "first_term": first_term,
                "term": term,
                "order": order,
            }
            yield Chunk(
                table=self._table,
                queries=self.queries,
                x=self._table[sessions + r.start : sessions + r.stop],
                source=pairs.source[r],
                weight=torch.from_numpy(weight[entry]).to(device),
                **{name: torch.from_numpy(a).to(device) for name, a in index.items()},
                has_parts=len(row) > e.stop - e.start,
                has_single_pairs=len(row) == len(first_term),
            )

    def keep_finite(self, chunk: Chunk) -> None:
        """Restore rows of a chunk that left the range of float32."""
        fits = chunk.x.sum(dim=-1).isfinite()
        if not fits.all():
            lost = torch.nonzero(~fits)[:, 0].cpu()
            dimension = self._evidence.vectors.shape[1]
            before = torch.from_numpy(self._evidence.vectors[chunk.source[lost.numpy()]])
            chunk.x[lost.to(chunk.x.device), :dimension] = before.to(chunk.x)

    def result(self) -> Floats:
        """Return the rows as they are now in the order of the evidence, [R, D] float32."""
        before = self._evidence.vectors
        rows = self._table[len(self.queries) :, : before.shape[1]].cpu().numpy()
        if self._in_order:
            return np.ascontiguousarray(rows)
        moved = before.astype(np.float32)
        moved[self._pairs.source] = rows
        return moved


def choose_device(device: str | None) -> torch.device:
    """Return the named device, or CUDA when there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _tensor(rows: Floats) -> Tensor:
    """Return the rows as a tensor, without a copy where torch can do without."""
    return torch.from_numpy(np.require(rows, np.float32, ["C", "W"]))


def _empty(rows: int, columns: int) -> Tensor:
    """Make room that starts at a whole register, in huge pages: numpy asks the system for them, torch does not."""
    room = np.empty(rows * columns + REGISTER, dtype=np.float32)
    start = -(room.ctypes.data // room.itemsize) % REGISTER
    return torch.from_numpy(room[start : start + rows * columns]).view(rows, columns)
