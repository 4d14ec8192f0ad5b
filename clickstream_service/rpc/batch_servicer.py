"""`BatchService`: unpack, one call, pack."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.rpc import convert_batches as convert
from clickstream_service.rpc import cursors
from clickstream_service.rpc.chunks import chunks
from tideline.clickstream.v1 import batch_service_pb2 as pb
from tideline.clickstream.v1.batch_service_pb2_grpc import BatchServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from clickstream_service.batches import Batches
    from clickstream_service.strengths import StrengthVersions
    from clickstream_service.submission import Submissions

    Context = grpc.aio.ServicerContext[Any, Any]

BATCHES: Final = 100
SESSIONS: Final = 10
EVENTS: Final = 100


class BatchServicer(BatchServiceServicer):
    """Answers calls of `BatchService`."""

    def __init__(self, batches: Batches, submissions: Submissions, strengths: StrengthVersions) -> None:
        self._batches = batches
        self._strengths = strengths
        self._submissions = submissions

    async def UseSessionForImprovement(
        self, request: pb.UseSessionForImprovementRequest, context: Context
    ) -> pb.UseSessionForImprovementResponse:
        return pb.UseSessionForImprovementResponse(submitted=await self._submissions.submit(request.session_id))

    async def GetBatch(self, request: pb.GetBatchRequest, context: Context) -> pb.GetBatchResponse:
        return pb.GetBatchResponse(batch=convert.batch_to_pb(await self._batches.get(request.batch_id)))

    async def ListBatches(self, request: pb.ListBatchesRequest, context: Context) -> pb.ListBatchesResponse:
        batches, more = await self._batches.page(
            convert.state_from_pb(request.state), cursors.after(request), request.page_size or BATCHES
        )
        return pb.ListBatchesResponse(
            batches=map(convert.batch_to_pb, batches),
            next_page_token=cursors.token(request, batches[-1].opened_at, batches[-1].batch_id) if more else "",
        )

    async def GetBatchSessions(
        self, request: pb.GetBatchSessionsRequest, context: Context
    ) -> pb.GetBatchSessionsResponse:
        page = await self._batches.sessions(
            request.batch_id, request.after_number, request.limit or SESSIONS, request.events_limit or EVENTS
        )
        strengths = await self._strengths.current()
        answer = pb.GetBatchSessionsResponse(last_number=page.last_number, end_of_batch=page.ended)
        convert.fill_sessions(answer.sessions, page.sessions, strengths)
        return answer

    async def ExportBatchSessions(
        self, request: pb.ExportBatchSessionsRequest, context: Context
    ) -> AsyncIterator[pb.ExportBatchSessionsResponse]:
        strengths = await self._strengths.current()
        exported = self._batches.export(request.batch_id, request.after_number, request.events_limit or EVENTS)
        async with aclosing(exported) as sessions:
            async for chunk, _ in chunks(sessions, lambda session: session.nbytes):
                answer = pb.ExportBatchSessionsResponse()
                convert.fill_sessions(answer.sessions, chunk, strengths)
                yield answer

    async def ReleaseBatch(self, request: pb.ReleaseBatchRequest, context: Context) -> pb.ReleaseBatchResponse:
        return pb.ReleaseBatchResponse(batch=convert.batch_to_pb(await self._batches.release(request.release_id)))
