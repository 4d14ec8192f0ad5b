"""The use case of searching: a query is resolved, answered and, when wanted, recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from improvement_service.domain.errors import CollectionNotFound, InvalidVector, NoEmbedder
from improvement_service.domain.scoring import complaint
from improvement_service.domain.search import Found, RecordedSearch
from tideline.errors import TidelineError

if TYPE_CHECKING:
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.scoring import Floats
    from improvement_service.domain.search import Page, Query
    from improvement_service.search.personal import Search
    from improvement_service.search.ports import Definitions, Embedder, Recorder


REMEMBERED_S: Final = 5.0
NOT_RECORDED: Final = ("DEPENDENCY_UNAVAILABLE", "OVERLOADED", "SERVER_STOPPING", "RATE_LIMITED")
"""Reasons of the clickstream service to which a search is answered all the same."""

_log = structlog.get_logger(__name__)


class Searching:
    """Answers queries."""

    def __init__(
        self, definitions: Definitions, search: Search, recorder: Recorder, embedder: Embedder | None = None
    ) -> None:
        self._definitions = definitions
        self._search = search
        self._recorder = recorder
        self._embedder = embedder
        self._known: dict[str, tuple[SearchIndex, float]] = {}

    async def answer(self, query: Query) -> Found:
        """Answer a query; raises `CollectionNotFound`, `InvalidVector` and `NoEmbedder`."""
        try:
            vector, page = await self._find(await self._index(query.collection), query)
        except CollectionNotFound:
            # Deleted; perhaps there is a new one of this name.
            if self._known.pop(query.collection, None) is None:
                raise
            vector, page = await self._find(await self._index(query.collection), query)
        if query.recording is None:
            return Found(page, "")
        first_rank = 1 + (query.after.shown if query.after else 0)
        recorded = RecordedSearch(query.recording, query, vector, page.results, first_rank)
        try:
            return Found(page, await self._recorder.record(recorded))
        except TidelineError as failure:
            # What is wrong with the request is for the caller to mend; whoever searches waits for results all the same.
            if failure.reason not in NOT_RECORDED:
                raise
            _log.warning("a search was not recorded", reason=failure.reason)
            return Found(page, "", failure.reason)

    async def _index(self, name: str) -> SearchIndex:
        """Return the definition of a collection, at most `REMEMBERED_S` old: it never changes, but may be deleted."""
        index, until = self._known.get(name, (None, 0.0))
        if index is None or time.monotonic() > until:
            self._known.pop(name, None)
            index = await self._definitions.get(name)
            self._known[name] = index, time.monotonic() + REMEMBERED_S
        return index

    async def _find(self, index: SearchIndex, query: Query) -> tuple[Floats, Page]:
        vector = await self._vector(index, query)
        page = await self._search.search(
            index, vector, query.user_id, limit=query.limit, after=query.after, wanted=query.wanted
        )
        return vector, page

    async def _vector(self, index: SearchIndex, query: Query) -> Floats:
        vector, field = query.vector, "query_vector"
        if vector is None:
            if self._embedder is None:
                raise NoEmbedder("no embedder is set up; send query_vector", field="text")
            (vector,), field = await self._embedder.embed([query.text]), "text"
        if wrong := complaint(index.metric, index.dimension, vector):
            raise InvalidVector(wrong, field=field)
        return vector
