"""What a user has in place of originals, in memory for searching."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from improvement_service.domain.scoring import ROUNDING, Doubles, Floats, Indices, cosines, lengths, scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from improvement_service.domain.facets import Facets
    from improvement_service.domain.index import Metric
    from improvement_service.domain.objects import Payload


@dataclass(frozen=True)
class OverlayVersion:
    """What an overlay has to be as new as."""

    number: int
    """Grows with everything that is written."""
    written_until: int = 0
    """On the clock of the vector database: whoever reads what was written until then misses nothing; 0: not known."""


@dataclass(frozen=True)
class Overlay:
    """A user's copies whose originals are still what they were made from, with these originals. Never changed."""

    object_ids: tuple[str, ...]
    """Of each copy, [O]."""
    starts: Indices
    """The first row of each copy, [O]; it has at least one."""
    copies: Floats
    """The rows of the copies, [R, D]."""
    originals: Floats
    """The rows that they were made from, [R, D]."""
    queries: Floats
    """The queries they were learned from, [Q, D]."""
    learned: Indices
    """Pairs of a copy and a query that it was learned from, [L, 2]."""
    payloads: tuple[Payload | None, ...]
    """Of the original of each copy, [O]."""
    facets: tuple[Facets, ...]
    """What each copy can be found by, [O]."""

    def applied(self, query: Floats, gate: float) -> NDArray[np.bool_]:
        """Return which copies [O] stand in for their originals: some query they were learned from is like `query`."""
        near = cosines(query, self.queries, self._lengths_of_queries) >= gate - ROUNDING
        applied = np.zeros(len(self.object_ids), dtype=np.bool_)
        applied[self.learned[near[self.learned[:, 1]], 0]] = True
        return applied

    def scores(self, metric: Metric, query: Floats, applied: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
        """Return what each of some copies and what its original scores for `query` [D], both [A].

        `applied` [O] says which copies, at least one. The nearest row of each counts.
        """
        rows = slice(None) if applied.all() else np.repeat(applied, self._row_counts)
        kept = self._row_counts[applied]
        starts = np.cumsum(kept) - kept
        copies = scores(metric, query, self.copies[rows], self._lengths_of_copies[rows])
        originals = scores(metric, query, self.originals[rows], self._lengths_of_originals[rows])
        return np.maximum.reduceat(copies, starts), np.maximum.reduceat(originals, starts)

    def rows_of(self, applied: NDArray[np.bool_]) -> int:
        """Return how many rows the originals of these copies [O] have."""
        return int(self._row_counts[applied].sum())

    def __len__(self) -> int:
        return len(self.object_ids)

    def nbytes(self) -> int:
        """About how many bytes this takes."""
        arrays = self.copies.nbytes + self.originals.nbytes + self.queries.nbytes + self.learned.nbytes
        return arrays + 1024 * (1 + len(self.object_ids))

    # What does not depend on the query is worked out once.

    @cached_property
    def _row_counts(self) -> Indices:
        return np.diff(self.starts, append=len(self.copies))

    @cached_property
    def _lengths_of_copies(self) -> Doubles:
        return lengths(self.copies)

    @cached_property
    def _lengths_of_originals(self) -> Doubles:
        return lengths(self.originals)

    @cached_property
    def _lengths_of_queries(self) -> Doubles:
        return lengths(self.queries)
