"""A search as one user sees it: what everybody finds, with the user's copies in place of their originals.

The vector database searches the originals only. Copies are scored here, and stand in by rule: where one does, the rows
of its original are passed over however near they are. So the answer is what comparing the query with every object of
the user's view would give, as long as the index of the vector database is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from improvement_service.domain.facets import match
from improvement_service.domain.search import Page, Position, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from improvement_service.domain.facets import Wanted
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.overlay import Overlay
    from improvement_service.domain.scoring import Floats
    from improvement_service.domain.search import Hit
    from improvement_service.search.overlays import Overlays
    from improvement_service.search.ports import Vectors

GROWTH = 4
"""By how much a search that came back short grows."""


class Search:
    """Searches an index as a user sees it."""

    def __init__(self, vectors: Vectors, overlays: Overlays) -> None:
        self._vectors = vectors
        self._overlays = overlays

    async def search(
        self,
        index: SearchIndex,
        query: Floats,
        user_id: str,
        *,
        limit: int,
        after: Position | None = None,
        wanted: Wanted | None = None,
    ) -> Page:
        """Return the `limit` nearest objects to `query` [D] that come after the position `after`, best first.

        Of two that score the same the lower id comes first. Only what lies within the nearest 16,384 vectors is ever
        found.
        """
        wanted = wanted or {}
        overlay = await self._overlays.get(index, user_id)
        personal, hidden_rows = _personal(index, query, overlay, wanted)
        # One more tells whether there is a next page; and the last row found never counts, see `_candidates`.
        rows = min(self._vectors.most_hits, (after.shown if after else 0) + limit + 2 + hidden_rows)
        while True:
            hits = await self._vectors.search(index, query, rows, wanted)
            cut_short = len(hits) >= rows and rows < self._vectors.most_hits
            floor = hits[-1].score if cut_short else None
            found = _after(after, _candidates(hits, personal, floor))
            if floor is None or len(found) > limit:
                break
            # Several rows were of one object, or scored the same.
            rows = min(self._vectors.most_hits, rows * GROWTH)
        return _page(found, limit, after)


def _personal(index: SearchIndex, query: Floats, overlay: Overlay | None, wanted: Wanted) -> tuple[list[Result], int]:
    """Return what the user's copies score, and how many rows the originals have that they stand in for."""
    if overlay is None:
        return [], 0
    applied = overlay.applied(query, index.gate)
    if not applied.any():
        return [], 0
    own, base = overlay.scores(index.metric, query, applied)
    places = applied.nonzero()[0].tolist()
    results = [
        Result(overlay.object_ids[place], float(own[n]), float(base[n]), personal=True, payload=overlay.payloads[place])
        for n, place in enumerate(places)
        if match(overlay.facets[place], wanted)
    ]
    return results, overlay.rows_of(applied)


def _candidates(hits: Sequence[Hit], personal: Iterable[Result], floor: float | None) -> list[Result]:
    """Merge what everybody finds with what is the user's own, best first.

    `floor` is the score of the last row that was found when there may be more: what scores no better is not in order
    yet, since any number of rows that were not returned may score the same.
    """
    merged: dict[str, Result] = {}
    for hit in hits:
        # The first row of an object is its nearest.
        if hit.object_id not in merged:
            merged[hit.object_id] = Result(hit.object_id, hit.score, hit.score, personal=False, payload=hit.payload)
    merged.update((result.object_id, result) for result in personal)
    ordered = sorted(merged.values(), key=_order)
    return ordered if floor is None else [result for result in ordered if result.score > floor]


def _order(result: Result) -> tuple[float, str]:
    return -result.score, result.object_id


def _after(after: Position | None, results: list[Result]) -> list[Result]:
    if after is None:
        return results
    last = (-after.score, after.object_id)
    return [result for result in results if _order(result) > last]


def _page(found: list[Result], limit: int, after: Position | None) -> Page:
    results = tuple(found[:limit])
    if len(found) <= limit:
        return Page(results, None)
    shown = (after.shown if after else 0) + limit
    return Page(results, Position(shown, results[-1].score, results[-1].object_id))
