"""`ObjectService` and `SearchService` on a port of their own, and what tests do with them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.struct_pb2 import Struct
from motor.motor_asyncio import AsyncIOMotorClient

from improvement_service.domain.objects import PersonalCopy
from improvement_service.objects.catalogue import Catalogue
from improvement_service.objects.collections import Collections
from improvement_service.objects.forgetting import Forgetting
from improvement_service.rpc.object_servicer import ObjectServicer
from improvement_service.rpc.search_servicer import SearchServicer
from improvement_service.search.overlays import Overlays
from improvement_service.search.personal import Search
from improvement_service.search.searching import Searching
from improvement_service.storage.collections import MongoCollections
from improvement_service.storage.personal_versions import MongoPersonalVersions
from improvement_service.storage.personal_writes import MongoPersonalWrites
from improvement_service.storage.version_changes import VersionChanges
from improvement_service.vectors.milvus import VectorStore
from tideline.errors import DependencyUnavailable
from tideline.improvement.v1 import object_pb2, object_service_pb2, object_service_pb2_grpc, search_service_pb2_grpc
from tideline.improvement.v1 import search_service_pb2 as search_pb2
from tideline.rpc.server import OPTIONS, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.scoring import Floats
    from improvement_service.domain.search import RecordedSearch

COSINE, DOT, EUCLID = object_pb2.METRIC_COSINE, object_pb2.METRIC_DOT, object_pb2.METRIC_EUCLID
MIN, AVG = object_pb2.AGGREGATION_MIN, object_pb2.AGGREGATION_AVG

NASTY_IDS = (
    "it's",
    'say "hi"',
    "back\\slash",
    "ends in \\",
    '\\"',
    "a_b",
    "a%b",
    " spaces ",
    "two\nlines",
    "tab\tand\rreturn",
    "emoji \N{GRINNING FACE}\N{VARIATION SELECTOR-16}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}" * 256,
    "x" * 512,
    '{"pk": 1}',
    '"] or pk != ""',
    "\\n",
    "\x01",
    "''",
)


@dataclass
class ClickstreamService:
    """What the improvement service asks of the clickstream service; it fails as long as `down`."""

    down: bool = False
    requeued: list[str] = field(default_factory=list)
    recorded: list[RecordedSearch] = field(default_factory=list)

    async def requeue_users(self, user_ids: Sequence[str]) -> int:
        if self.down:
            raise DependencyUnavailable("down")
        self.requeued += user_ids
        return len(user_ids)

    async def record(self, search: RecordedSearch) -> str:
        self.recorded.append(search)
        return search.recording.session_id or "assigned"


class FirstLetter:
    """An embedder of two numbers."""

    async def embed(self, texts: list[str]) -> list[Floats]:
        return [np.array([1.0, float(ord(text[0]))], np.float32) for text in texts]


@dataclass
class CatalogueService:
    """Running services: their stubs, and what lies beneath them."""

    objects: object_service_pb2_grpc.ObjectServiceAsyncStub
    searches: search_service_pb2_grpc.SearchServiceAsyncStub
    clickstream: ClickstreamService
    definitions: MongoCollections
    vectors: VectorStore
    versions: MongoPersonalVersions

    async def create(self, name: str, dimension: int, **fields: Any) -> SearchIndex:
        """Create a collection, under COSINE unless told otherwise."""
        collection = object_pb2.Collection(**{"name": name, "dimension": dimension, "metric": COSINE} | fields)
        await self.objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))
        return await self.definitions.get(name)

    async def upsert(
        self, name: str, *objects: object_pb2.Object, each: int = 1000
    ) -> object_service_pb2.UpsertObjectsResponse:
        """Upsert objects, `each` a message."""
        starts = range(0, max(1, len(objects)), each)
        return await self.objects.UpsertObjects(
            object_service_pb2.UpsertObjectsRequest(collection=name, objects=objects[start : start + each])
            for start in starts
        )

    async def get(
        self, name: str, object_ids: Iterable[str], user_id: str = ""
    ) -> list[object_service_pb2.StoredObject]:
        request = object_service_pb2.GetObjectsRequest(collection=name, object_ids=object_ids, user_id=user_id)
        return list((await self.objects.GetObjects(request)).objects)

    async def delete(self, name: str, *object_ids: str) -> object_service_pb2.DeleteObjectsResponse:
        request = object_service_pb2.DeleteObjectsRequest(collection=name, object_ids=object_ids)
        return await self.objects.DeleteObjects(request)

    async def search(
        self, name: str, query: Iterable[float], user_id: str = "", **fields: Any
    ) -> search_pb2.SearchResponse:
        if "payload_filter" in fields:
            fields["payload_filter"] = struct(fields["payload_filter"])
        return await self.searches.Search(
            search_pb2.SearchRequest(collection=name, query_vector=query, user_id=user_id, **fields)
        )

    async def learn(
        self, index: SearchIndex, user_id: str, moved: Mapping[str, Floats], queries: Sequence[Sequence[float]]
    ) -> None:
        """Give the user copies of these objects as a run does: their scored rows, moved; learned from all `queries`."""
        originals = await self.vectors.fetch_originals(index, moved)
        copies = [
            PersonalCopy(object_id, originals[object_id].base_hash, np.float32(parts), tuple(range(len(queries))))
            for object_id, parts in moved.items()
        ]
        learned = np.array(queries, np.float32).reshape(-1, index.dimension)
        await self.vectors.replace_personal(index, user_id, copies, learned)
        await self.versions.bump(index.name, [user_id], await self.vectors.clock())


def an_object(
    object_id: str, *vectors: Sequence[float], average: int | None = None, payload: Mapping[str, Any] | None = None
) -> object_pb2.Object:
    """Make an object of these parts; `average` is the one that stands for all."""
    message = object_pb2.Object(object_id=object_id)
    for part, vector in enumerate(vectors):
        message.parts.add(vector=vector, is_average=part == average)
    if payload is not None:
        message.payload.CopyFrom(struct(payload))
    return message


def struct(values: Mapping[str, Any]) -> Struct:
    message = Struct()
    message.SetInParent()
    message.update(values)
    return message


@asynccontextmanager
async def catalogue_serving(mongo_uri: str, database_name: str, milvus_uri: str) -> AsyncIterator[CatalogueService]:
    """Serve until the block ends."""
    mongo = AsyncIOMotorClient[dict[str, Any]](mongo_uri, tz_aware=True)
    database = mongo[database_name]
    vectors = VectorStore(milvus_uri, timeout_s=10.0, index_type="FLAT")
    definitions, changes = MongoCollections(database), VersionChanges(database)
    versions = MongoPersonalVersions(database, changes.tell)
    clickstream = ClickstreamService()
    server = Server()
    collections = Collections(definitions, vectors, versions, lambda: datetime.now(UTC))
    catalogue = Catalogue(definitions, vectors, versions, clickstream)
    forgetting = Forgetting(definitions, vectors, versions, MongoPersonalWrites(database))
    object_service_pb2_grpc.add_ObjectServiceServicer_to_server(
        ObjectServicer(collections, catalogue, forgetting), server.grpc
    )
    overlays = Overlays(vectors, versions, changes, most_bytes=2**20)
    searching = Searching(definitions, Search(vectors, overlays), clickstream, FirstLetter())
    search_service_pb2_grpc.add_SearchServiceServicer_to_server(SearchServicer(searching), server.grpc)
    port = server.listen("127.0.0.1:0")
    await server.start()
    try:
        async with (
            changes.told(overlays.forget),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel,
        ):
            yield CatalogueService(
                object_service_pb2_grpc.ObjectServiceStub(channel),
                search_service_pb2_grpc.SearchServiceStub(channel),
                clickstream,
                definitions,
                vectors,
                versions,
            )
    finally:
        await server.stop(0)
        await vectors.close()
        mongo.close()
