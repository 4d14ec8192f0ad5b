"""`ObjectService`: unpack, one call, pack."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from improvement_service.rpc import convert
from tideline.improvement.v1 import object_service_pb2 as pb
from tideline.improvement.v1.object_service_pb2_grpc import ObjectServiceServicer
from tideline.rpc import paging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from improvement_service.domain.objects import CatalogueObject
    from improvement_service.objects.catalogue import Catalogue
    from improvement_service.objects.collections import Collections
    from improvement_service.objects.forgetting import Forgetting

    Context = grpc.aio.ServicerContext[Any, Any]

COLLECTIONS: Final = 100


class ObjectServicer(ObjectServiceServicer):
    """Answers calls of `ObjectService`."""

    def __init__(self, collections: Collections, catalogue: Catalogue, forgetting: Forgetting) -> None:
        self._collections = collections
        self._catalogue = catalogue
        self._forgetting = forgetting

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        created = await self._collections.create(convert.index_from_pb(request.collection))
        return pb.CreateCollectionResponse(collection=convert.index_to_pb(created))

    async def GetCollection(self, request: pb.GetCollectionRequest, context: Context) -> pb.GetCollectionResponse:
        return pb.GetCollectionResponse(collection=convert.index_to_pb(await self._collections.get(request.name)))

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Context) -> pb.ListCollectionsResponse:
        size = request.page_size or COLLECTIONS
        (after,) = paging.cursor(request, 1) or [""]
        found = await self._collections.page(str(after), size + 1)
        return pb.ListCollectionsResponse(
            collections=map(convert.index_to_pb, found[:size]),
            next_page_token=paging.token(request, [found[size - 1].name]) if len(found) > size else "",
        )

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> pb.DeleteCollectionResponse:
        return pb.DeleteCollectionResponse(deleted=await self._collections.delete(request.name))

    async def UpsertObjects(
        self, requests: AsyncIterator[pb.UpsertObjectsRequest], context: Context
    ) -> pb.UpsertObjectsResponse:
        changes = await self._catalogue.upsert(_messages(requests))
        return pb.UpsertObjectsResponse(
            upserted=changes.objects, copies_dropped=changes.copies_dropped, users_requeued=changes.users_requeued
        )

    async def GetObjects(self, request: pb.GetObjectsRequest, context: Context) -> pb.GetObjectsResponse:
        stored = await self._catalogue.get(request.collection, request.object_ids, request.user_id)
        return pb.GetObjectsResponse(objects=map(convert.stored_to_pb, stored))

    async def ExportObjects(
        self, request: pb.ExportObjectsRequest, context: Context
    ) -> AsyncIterator[pb.ExportObjectsResponse]:
        async with aclosing(self._catalogue.export(request.collection)) as parts:
            async for objects in parts:
                for response in convert.exported_to_pb(objects):
                    yield response

    async def DeleteObjects(self, request: pb.DeleteObjectsRequest, context: Context) -> pb.DeleteObjectsResponse:
        changes = await self._catalogue.delete(request.collection, request.object_ids)
        return pb.DeleteObjectsResponse(
            deleted=changes.objects, copies_dropped=changes.copies_dropped, users_requeued=changes.users_requeued
        )

    async def DeleteUserVectors(
        self, request: pb.DeleteUserVectorsRequest, context: Context
    ) -> pb.DeleteUserVectorsResponse:
        return pb.DeleteUserVectorsResponse(copies_deleted=await self._forgetting.forget(request.user_id))


async def _messages(
    requests: AsyncIterator[pb.UpsertObjectsRequest],
) -> AsyncIterator[tuple[str, list[CatalogueObject]]]:
    async for request in requests:
        yield (
            request.collection,
            [convert.object_from_pb(one, f"objects[{number}]") for number, one in enumerate(request.objects)],
        )
