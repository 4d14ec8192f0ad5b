"""The use case of searching: a query is resolved, answered and, when wanted, recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from improvement_service.domain.errors import InvalidVector, NoEmbedder
from improvement_service.domain.scoring import complaint
from improvement_service.domain.search import Found, RecordedSearch

if TYPE_CHECKING:
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.scoring import Floats
    from improvement_service.domain.search import Query
    from improvement_service.search.personal import Search
    from improvement_service.search.ports import Definitions, Embedder, Recorder


class Searching:
    """Answers queries."""

    def __init__(
        self, definitions: Definitions, search: Search, recorder: Recorder, embedder: Embedder | None = None
    ) -> None:
        self._definitions = definitions
        self._search = search
        self._recorder = recorder
        self._embedder = embedder

    async def answer(self, query: Query) -> Found:
        """Answer a query; raises `CollectionNotFound`, `InvalidVector` and `NoEmbedder`."""
        index = await self._definitions.get(query.collection)
        vector = await self._vector(index, query)
        page = await self._search.search(
            index, vector, query.user_id, limit=query.limit, after=query.after, wanted=query.wanted
        )
        if query.recording is None:
            return Found(page, "")
        first_rank = 1 + (query.after.shown if query.after else 0)
        recorded = RecordedSearch(query.recording, query, vector, page.results, first_rank)
        return Found(page, await self._recorder.record(recorded))

    async def _vector(self, index: SearchIndex, query: Query) -> Floats:
        vector, field = query.vector, "query_vector"
        if vector is None:
            if self._embedder is None:
                raise NoEmbedder("no embedder is set up; send query_vector", field="text")
            (vector,), field = await self._embedder.embed([query.text]), "text"
        if wrong := complaint(index.metric, index.dimension, vector):
            raise InvalidVector(wrong, field=field)
        return vector
