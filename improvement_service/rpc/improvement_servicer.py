"""`ImprovementService`: unpack, one call, pack."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from improvement_service.rpc import convert_runs as convert
from tideline.improvement.v1 import improvement_service_pb2 as pb
from tideline.improvement.v1.improvement_service_pb2_grpc import ImprovementServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from improvement_service.improvement import Improvement

    Context = grpc.aio.ServicerContext[Any, Any]

RUNS: Final = 100


class ImprovementServicer(ImprovementServiceServicer):
    """Answers calls of `ImprovementService`."""

    def __init__(self, improvement: Improvement) -> None:
        self._improvement = improvement

    async def RunImprovement(self, request: pb.RunImprovementRequest, context: Context) -> pb.RunImprovementResponse:
        return pb.RunImprovementResponse(run=convert.run_to_pb(await self._improvement.start()))

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        return pb.GetRunResponse(run=convert.run_to_pb(await self._improvement.get(request.run_id)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        size = request.page_size or RUNS
        found = await self._improvement.newest(convert.position(request), size + 1)
        return pb.ListRunsResponse(
            runs=map(convert.run_to_pb, found[:size]),
            next_page_token=convert.token(request, found[size - 1]) if len(found) > size else "",
        )

    async def WatchRun(self, request: pb.WatchRunRequest, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        async with aclosing(self._improvement.watch(request.run_id)) as states:
            async for run in states:
                yield pb.WatchRunResponse(run=convert.run_to_pb(run))

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, context: Context) -> pb.PauseScheduleResponse:
        paused = await self._improvement.pause(paused=True)
        return pb.PauseScheduleResponse(schedule=convert.schedule_to_pb(paused))

    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, context: Context) -> pb.ResumeScheduleResponse:
        resumed = await self._improvement.pause(paused=False)
        return pb.ResumeScheduleResponse(schedule=convert.schedule_to_pb(resumed))

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        return pb.GetScheduleResponse(schedule=convert.schedule_to_pb(await self._improvement.schedule()))
