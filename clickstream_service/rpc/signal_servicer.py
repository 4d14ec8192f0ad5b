"""`SignalService`: unpack, one call, pack."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.domain.signal import Step
from clickstream_service.rpc import convert_signals as convert
from tideline.clickstream.v1 import signal_service_pb2 as pb
from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceServicer
from tideline.rpc import paging

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import grpc

    from clickstream_service.monitors import Monitors
    from clickstream_service.signal_lists import SignalLists
    from clickstream_service.signals import Signals

    Context = grpc.aio.ServicerContext[Any, Any]

POSITIONS: Final = 20
TYPES: Final = 1_000
HIGH_RANK: Final = 3
HIGH_IMPRESSIONS: Final = 10
OBJECTS: Final = 100
QUERIES: Final = 100
CONSUMED_OBJECTS: Final = 1_000
CONSUMED_DAYS: Final = 30
MONITORS: Final = 100


class SignalServicer(SignalServiceServicer):
    """Answers calls of `SignalService`."""

    def __init__(self, signals: Signals, lists: SignalLists, monitors: Monitors, now: Callable[[], datetime]) -> None:
        self._signals = signals
        self._lists = lists
        self._monitors = monitors
        self._now = now

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: Context) -> pb.GetMetricsResponse:
        scope = convert.scope_from_pb(request.scope, self._now())
        found = await self._signals.metrics(scope, convert.metrics_from_pb(request.metrics), Step(request.step))
        return pb.GetMetricsResponse(series=[convert.series_to_pb(metric, points) for metric, points in found.items()])

    async def GetPositionMetrics(
        self, request: pb.GetPositionMetricsRequest, context: Context
    ) -> pb.GetPositionMetricsResponse:
        scope = convert.scope_from_pb(request.scope, self._now())
        version, places = await self._signals.positions(
            scope, request.max_positions or POSITIONS, request.propensity_version
        )
        return pb.GetPositionMetricsResponse(positions=map(convert.place_to_pb, places), propensity_version=version)

    async def GetEventDistribution(
        self, request: pb.GetEventDistributionRequest, context: Context
    ) -> pb.GetEventDistributionResponse:
        types = await self._signals.types(convert.scope_from_pb(request.scope, self._now()), TYPES)
        return pb.GetEventDistributionResponse(
            types=[pb.TypeCount(interaction_type=name, count=count) for name, count in types]
        )

    async def ListSkippedObjects(
        self, request: pb.ListSkippedObjectsRequest, context: Context
    ) -> pb.ListSkippedObjectsResponse:
        objects = await self._lists.skipped(
            convert.scope_from_pb(request.scope, self._now()),
            request.max_rank or HIGH_RANK,
            request.min_impressions or HIGH_IMPRESSIONS,
            request.limit or OBJECTS,
        )
        return pb.ListSkippedObjectsResponse(objects=map(convert.skipped_to_pb, objects))

    async def ListQueries(self, request: pb.ListQueriesRequest, context: Context) -> pb.ListQueriesResponse:
        scope = convert.scope_from_pb(request.scope, self._now())
        queries = await self._lists.queries(scope, convert.query_filter_from_pb(request), request.limit or QUERIES)
        return pb.ListQueriesResponse(queries=map(convert.query_to_pb, queries))

    async def ListTopObjects(self, request: pb.ListTopObjectsRequest, context: Context) -> pb.ListTopObjectsResponse:
        objects = await self._lists.top(
            convert.scope_from_pb(request.scope, self._now()),
            frozenset(request.interaction_types),
            convert.half_life_from_pb(request),
            request.limit or OBJECTS,
            trending=request.trending,
        )
        to_pb = partial(convert.top_to_pb, trending=request.trending)
        return pb.ListTopObjectsResponse(objects=map(to_pb, objects))

    async def ListConsumedObjects(
        self, request: pb.ListConsumedObjectsRequest, context: Context
    ) -> pb.ListConsumedObjectsResponse:
        objects = await self._lists.consumed(
            request.user_id,
            frozenset(request.interaction_types),
            timedelta(days=request.days or CONSUMED_DAYS),
            request.limit or CONSUMED_OBJECTS,
        )
        return pb.ListConsumedObjectsResponse(objects=map(convert.consumed_to_pb, objects))

    async def ComparePeriods(self, request: pb.ComparePeriodsRequest, context: Context) -> pb.ComparePeriodsResponse:
        now = self._now()
        compared = await self._signals.compare(
            convert.scope_from_pb(request.scope, now),
            convert.scope_from_pb(request.baseline, now, "baseline"),
            convert.metrics_from_pb(request.metrics),
        )
        return pb.ComparePeriodsResponse(metrics=map(convert.comparison_to_pb, compared))

    async def PutMonitor(self, request: pb.PutMonitorRequest, context: Context) -> pb.PutMonitorResponse:
        monitor = await self._monitors.put(convert.monitor_from_pb(request.monitor))
        return pb.PutMonitorResponse(monitor=convert.monitor_to_pb(monitor))

    async def GetMonitor(self, request: pb.GetMonitorRequest, context: Context) -> pb.GetMonitorResponse:
        monitor, transitions = await self._monitors.get(request.monitor_id)
        return pb.GetMonitorResponse(
            monitor=convert.monitor_to_pb(monitor), transitions=map(convert.transition_to_pb, transitions)
        )

    async def ListMonitors(self, request: pb.ListMonitorsRequest, context: Context) -> pb.ListMonitorsResponse:
        [after] = paging.cursor(request, 1) or [""]
        monitors, more = await self._monitors.by_id(after, request.page_size or MONITORS)
        return pb.ListMonitorsResponse(
            monitors=map(convert.monitor_to_pb, monitors),
            next_page_token=paging.token(request, [monitors[-1].monitor_id]) if more else "",
        )

    async def DeleteMonitor(self, request: pb.DeleteMonitorRequest, context: Context) -> pb.DeleteMonitorResponse:
        return pb.DeleteMonitorResponse(deleted=await self._monitors.delete(request.monitor_id))
