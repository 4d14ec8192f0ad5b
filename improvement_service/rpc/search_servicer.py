"""`SearchService`: unpack, one call, pack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from improvement_service.rpc import convert
from tideline.improvement.v1.search_service_pb2_grpc import SearchServiceServicer

if TYPE_CHECKING:
    import grpc

    from improvement_service.search.searching import Searching
    from tideline.improvement.v1 import search_service_pb2 as pb

    Context = grpc.aio.ServicerContext[Any, Any]


class SearchServicer(SearchServiceServicer):
    """Answers calls of `SearchService`."""

    def __init__(self, searching: Searching) -> None:
        self._searching = searching

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        return convert.found_to_pb(await self._searching.answer(convert.query_from_pb(request)), request)
