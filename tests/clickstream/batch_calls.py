"""Calls of BatchService in few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tideline.clickstream.v1 import batch_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tideline.clickstream.v1.batch_service_pb2_grpc import BatchServiceAsyncStub


async def open_batch(batches: BatchServiceAsyncStub) -> pb.Batch:
    return (await batches.GetBatch(pb.GetBatchRequest())).batch


async def release(batches: BatchServiceAsyncStub, release_id: str) -> pb.Batch:
    return (await batches.ReleaseBatch(pb.ReleaseBatchRequest(release_id=release_id))).batch


async def page(batches: BatchServiceAsyncStub, batch_id: str, **fields: Any) -> pb.GetBatchSessionsResponse:
    return await batches.GetBatchSessions(pb.GetBatchSessionsRequest(batch_id=batch_id, **fields))


async def pages(batches: BatchServiceAsyncStub, batch_id: str, **fields: Any) -> AsyncIterator[pb.SessionWithEvents]:
    """Read a batch from the first session to the end of what is there."""
    last_number = 0
    while True:
        answer = await page(batches, batch_id, after_number=last_number, **fields)
        for session in answer.sessions:
            yield session
        if answer.end_of_batch or not answer.sessions:
            return
        last_number = answer.last_number


async def exported(batches: BatchServiceAsyncStub, batch_id: str, **fields: Any) -> list[pb.SessionWithEvents]:
    call = batches.ExportBatchSessions(pb.ExportBatchSessionsRequest(batch_id=batch_id, **fields))
    return [session async for part in call for session in part.sessions]


async def each_exported(batches: BatchServiceAsyncStub, batch_id: str) -> AsyncIterator[pb.SessionWithEvents]:
    async for part in batches.ExportBatchSessions(pb.ExportBatchSessionsRequest(batch_id=batch_id)):
        for session in part.sessions:
            yield session


def ids(sessions: list[pb.SessionWithEvents]) -> list[str]:
    return [each.session.session_id for each in sessions]
