"""Signals and monitors to and from messages of the contract."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from clickstream_service.domain.hours import hour_of
from clickstream_service.domain.monitor import Beyond, Monitor, Transition
from clickstream_service.domain.signal import (
    Comparison,
    ConsumedObject,
    Metric,
    Place,
    Point,
    QueryMetrics,
    Scope,
    SkippedObject,
    TopObject,
    Value,
)
from clickstream_service.signal_lists import QueryFilter
from tideline.clickstream.v1 import signal_pb2
from tideline.clickstream.v1 import signal_service_pb2 as pb
from tideline.errors import InvalidField
from tideline.rpc.structs import datetime_from_pb, datetime_to_pb, timedelta_from_pb, timedelta_to_pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

WEEK: Final = 7 * 24
MIN_SESSIONS: Final = 10
MAX_CTR: Final = 0.05


def scope_from_pb(message: signal_pb2.SignalScope, now: datetime, path: str = "scope") -> Scope:
    """Return what is asked for; raises `InvalidField`, its field below `path`."""
    before = hour_of(now) + 1
    since = before - 1 - WEEK
    if message.HasField("before"):
        before = hour_of(datetime_from_pb(message.before, f"{path}.before"))
        since = before - WEEK
    if message.HasField("from"):
        since = hour_of(datetime_from_pb(getattr(message, "from"), f"{path}.from"))
    if since > before:
        raise InvalidField("is before `from`", field=f"{path}.before")
    if message.segment_value and not message.segment:
        raise InvalidField("is the value of no segment", field=f"{path}.segment_value")
    return Scope(since, before, message.surface, message.segment, message.segment_value, path)


def metrics_from_pb(numbers: Iterable[int]) -> Sequence[Metric]:
    """Return the metrics, each once; all when none is named."""
    return list(dict.fromkeys(map(Metric, numbers))) or list(Metric)


def query_filter_from_pb(message: pb.ListQueriesRequest) -> QueryFilter:
    if message.HasField("max_ctr"):
        max_ctr = message.max_ctr if message.max_ctr < 1 else None
    else:
        max_ctr = None if message.zero_results else MAX_CTR
    return QueryFilter(max_ctr, message.zero_results, message.min_sessions or MIN_SESSIONS)


def value_to_pb(value: Value) -> signal_pb2.SignalValue:
    return signal_pb2.SignalValue(value=value.value, low=value.low, high=value.high, count=value.count)


def series_to_pb(metric: Metric, points: Iterable[Point]) -> pb.MetricSeries:
    series = pb.MetricSeries(metric=signal_pb2.SignalMetric.ValueType(metric))
    for point in points:
        datetime_to_pb(point.at, series.points.add(value=value_to_pb(point.value)).at)
    return series


def place_to_pb(place: Place) -> pb.PositionMetrics:
    return pb.PositionMetrics(
        position=place.position,
        impressions=place.impressions,
        clicks=place.clicks,
        ctr=value_to_pb(place.ctr),
        debiased_ctr=value_to_pb(place.debiased_ctr),
    )


def comparison_to_pb(comparison: Comparison) -> pb.MetricComparison:
    return pb.MetricComparison(
        metric=signal_pb2.SignalMetric.ValueType(comparison.metric),
        value=value_to_pb(comparison.value),
        baseline=value_to_pb(comparison.baseline),
        difference=value_to_pb(comparison.difference),
        significant=comparison.significant,
    )


def skipped_to_pb(skipped: SkippedObject) -> pb.SkippedObject:
    return pb.SkippedObject(
        object_id=skipped.object_id,
        impressions=skipped.impressions,
        skips=skipped.skips,
        skip_rate=value_to_pb(skipped.skip_rate),
    )


def query_to_pb(query: QueryMetrics) -> pb.QueryMetrics:
    return pb.QueryMetrics(
        query_text=query.query_text,
        sessions=query.sessions,
        ctr=value_to_pb(query.ctr),
        zero_result_sessions=query.zero_result_sessions,
    )


def top_to_pb(top: TopObject, *, trending: bool) -> pb.TopObject:
    previous = top.previous_score if trending else 0.0
    return pb.TopObject(object_id=top.object_id, score=top.score, count=top.count, previous_score=previous)


def consumed_to_pb(consumed: ConsumedObject) -> pb.ConsumedObject:
    message = pb.ConsumedObject(object_id=consumed.object_id, interaction_types=consumed.types, count=consumed.count)
    datetime_to_pb(consumed.last_at, message.last_at)
    return message


def half_life_from_pb(message: pb.ListTopObjectsRequest) -> timedelta | None:
    """Return the half life; None when there is none. Too short a one for our clock is the shortest that it knows."""
    if not message.HasField("half_life"):
        return None
    return max(timedelta_from_pb(message.half_life), timedelta(microseconds=1))


def monitor_from_pb(message: signal_pb2.Monitor) -> Monitor:
    """Return a monitor without what only the server may assign."""
    return Monitor(
        monitor_id=message.monitor_id,
        metric=Metric(message.metric),
        beyond=Beyond(message.comparison),
        threshold=message.threshold,
        window=timedelta_from_pb(message.window),
        surface=message.surface,
        segment=message.segment,
        segment_value=message.segment_value,
        min_count=message.min_count,
        webhook_url=message.webhook_url,
    )


def monitor_to_pb(monitor: Monitor) -> signal_pb2.Monitor:
    message = signal_pb2.Monitor(
        monitor_id=monitor.monitor_id,
        metric=signal_pb2.SignalMetric.ValueType(monitor.metric),
        comparison=signal_pb2.Comparison.ValueType(monitor.beyond),
        threshold=monitor.threshold,
        surface=monitor.surface,
        segment=monitor.segment,
        segment_value=monitor.segment_value,
        min_count=monitor.min_count,
        webhook_url=monitor.webhook_url,
        state=signal_pb2.MonitorState.ValueType(monitor.state),
    )
    timedelta_to_pb(monitor.window, message.window)
    if monitor.state_since is not None:
        datetime_to_pb(monitor.state_since, message.state_since)
    return message


def transition_to_pb(transition: Transition) -> signal_pb2.MonitorTransition:
    message = signal_pb2.MonitorTransition(
        state=signal_pb2.MonitorState.ValueType(transition.state),
        value=value_to_pb(transition.value),
        delivered=transition.delivered,
    )
    datetime_to_pb(transition.at, message.at)
    return message
