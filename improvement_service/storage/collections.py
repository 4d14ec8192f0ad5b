"""Search indexes by name: how each is defined, and where its vectors are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo.errors import DuplicateKeyError

from improvement_service.domain.errors import CollectionNotFound
from improvement_service.domain.index import Aggregation, Metric, SearchIndex
from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tideline.mongo.client import Database, Document


class MongoCollections:
    """Definitions of search indexes, one document each."""

    def __init__(self, database: Database) -> None:
        self._collections = database.get_collection("search_indexes", write_concern=DURABLE)

    @outages()
    async def add(self, index: SearchIndex) -> SearchIndex:
        """Add a definition unless its name is taken; returns the one that is kept under the name."""
        try:
            await self._collections.insert_one(_to_document(index))
        except DuplicateKeyError:
            return await self.get(index.name)
        return index

    @outages()
    async def get(self, name: str) -> SearchIndex:
        """Return a definition; raises `CollectionNotFound`."""
        document = await self._collections.find_one({"_id": name})
        if document is None:
            raise CollectionNotFound("no collection has this name", field="collection", facts={"collection": name})
        return _from_document(document)

    @outages()
    async def page(self, after: str, limit: int) -> list[SearchIndex]:
        """Return definitions by name, those after the name `after`."""
        found = self._collections.find({"_id": {"$gt": after}}).sort("_id").limit(limit)
        return [_from_document(document) async for document in found]

    async def all(self) -> AsyncGenerator[SearchIndex, None]:
        """Yield all definitions."""
        after = ""
        while found := await self.page(after, 100):
            for index in found:
                yield index
            after = found[-1].name

    @outages()
    async def remove(self, index: SearchIndex) -> None:
        """Forget a definition; another one of the same name stays."""
        await self._collections.delete_one({"_id": index.name, "vectors": index.vectors})


def _to_document(index: SearchIndex) -> Document:
    return {
        "_id": index.name,
        "dimension": index.dimension,
        "metric": index.metric.value,
        "aggregation": index.aggregation.value,
        "adjuster": index.adjuster,
        # As pairs: the name of a parameter may be anything.
        "parameters": sorted(index.parameters.items()),
        "gate": index.gate,
        "created_at": index.created_at,
        "vectors": index.vectors,
    }


def _from_document(document: Document) -> SearchIndex:
    return SearchIndex(
        name=document["_id"],
        dimension=document["dimension"],
        metric=Metric(document["metric"]),
        aggregation=Aggregation(document["aggregation"]),
        adjuster=document["adjuster"],
        parameters=dict(document["parameters"]),
        gate=document["gate"],
        created_at=document["created_at"],
        vectors=document["vectors"],
    )
