"""A search as one user sees it: what everybody finds, with the user's copies in place of their originals.

The vector database searches the originals only. Copies are scored here, and stand in by rule: where one does, the rows
of its original are passed over however near they are. So the answer is what comparing the query with every object of
the user's view would give, as long as the index of the vector database is exact.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from improvement_service.domain.facets import match
from improvement_service.domain.search import Page, Position, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        asked = _Asked(index, query, limit, after, wanted or {})
        kept, current = self._overlays.kept(index, user_id)
        if current:
            return await self._page(asked, kept)
        # Whether what is in memory still counts is found out while the search goes on, and it mostly does.
        page, overlay = await asyncio.gather(self._page(asked, kept), self._overlays.get(index, user_id))
        return page if overlay is kept else await self._page(asked, overlay)

    async def _page(self, asked: _Asked, overlay: Overlay | None) -> Page:
        # One more tells whether there is a next page.
        needed = (asked.after.shown if asked.after else 0) + asked.limit + 1
        personal = _personal(asked, overlay, needed)
        # And the last row found never counts, see `_candidates`.
        rows = min(self._vectors.most_hits, needed + 1 + personal.rows_in_the_way)
        while True:
            hits = await self._vectors.search(asked.index, asked.query, rows, asked.wanted)
            cut_short = len(hits) >= rows and rows < self._vectors.most_hits
            floor = hits[-1].score if cut_short else None
            found = _after(asked.after, _candidates(hits, personal, floor))
            if floor is None or len(found) > asked.limit:
                break
            # Several rows were of one object, or scored the same.
            rows = min(self._vectors.most_hits, rows * GROWTH)
        return _page(found, asked.limit, asked.after)


@dataclass(frozen=True)
class _Asked:
    """A search, whoever asks."""

    index: SearchIndex
    query: Floats
    limit: int
    after: Position | None
    wanted: Wanted


@dataclass(frozen=True)
class _Personal:
    """What the user has in place of originals, for one query."""

    best: Sequence[Result] = ()
    """Of the copies, as many as may be shown."""
    hidden: frozenset[str] = frozenset()
    """The objects whose originals are passed over."""
    rows_in_the_way: int = 0
    """How many rows these have that may be found before there is enough to show."""


def _personal(asked: _Asked, overlay: Overlay | None, needed: int) -> _Personal:
    """Score the user's copies; no more than `needed` objects, the best ones, are ever shown."""
    if overlay is None:
        return _Personal()
    applied = overlay.applied(asked.query, asked.index.gate)
    if not applied.any():
        return _Personal()
    own, base = overlay.scores(asked.index.metric, asked.query, applied)
    places = applied.nonzero()[0]
    hidden = frozenset(overlay.object_ids[place] for place in places)
    if asked.wanted:
        matching = [match(overlay.facets[place], asked.wanted) for place in places]
        own, base, places = own[matching], base[matching], places[matching]
    ways = applied
    if len(own) > needed:
        # So many copies score at least this that no original below it is shown: those are not waited for.
        least = np.partition(own, -needed)[-needed]
        ways = np.zeros_like(applied)
        ways[places[base >= least]] = True
        best = own >= least
        own, base, places = own[best], base[best], places[best]
    results = [
        Result(overlay.object_ids[place], score, was, personal=True, payload=overlay.payloads[place])
        for place, score, was in zip(places.tolist(), own.tolist(), base.tolist(), strict=True)
    ]
    return _Personal(results, hidden, overlay.rows_of(ways))


def _candidates(hits: Sequence[Hit], personal: _Personal, floor: float | None) -> list[Result]:
    """Merge what everybody finds with what is the user's own, best first.

    `floor` is the score of the last row that was found when there may be more: what scores no better is not in order
    yet, since any number of rows that were not returned may score the same.
    """
    merged: dict[str, Result] = {}
    for hit in hits:
        # The first row of an object is its nearest.
        if hit.object_id not in merged and hit.object_id not in personal.hidden:
            merged[hit.object_id] = Result(hit.object_id, hit.score, hit.score, personal=False, payload=hit.payload)
    ordered = sorted([*merged.values(), *personal.best], key=_order)
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
