"""Calls of SignalService in few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.clickstream.calls import create_all, push
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import signal_pb2
from tideline.clickstream.v1 import signal_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tests.clickstream.conftest import Service
    from tideline.clickstream.v1.event_pb2 import Event
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub

Metric = signal_pb2.SignalMetric


def scope(since: datetime | None = None, before: datetime | None = None, **fields: Any) -> signal_pb2.SignalScope:
    return signal_pb2.SignalScope(**{"from": since, "before": before, **fields})


async def searched(service: Service, session_id: str, *events: Event, **fields: Any) -> None:
    """Record a session with these events."""
    meta = fields.pop("meta", None)
    session = a_session(session_id, **fields)
    if meta is not None:
        session.search_meta.update(meta)
    [outcome] = await create_all(service.sessions, [session])
    assert not outcome.reason, outcome
    if events:
        await push(service.sessions, session_id, events)


def click(event_id: str, object_id: str = "a", **fields: Any) -> Event:
    return an_event(event_id, object_id, **fields)


def done(event_id: str, *types: str, object_id: str = "a", **fields: Any) -> Event:
    return an_event(event_id, object_id, event_types=types, **fields)


async def metric(
    signals: SignalServiceAsyncStub, which: Metric.ValueType, asked: signal_pb2.SignalScope | None = None
) -> signal_pb2.SignalValue:
    """One metric over all of the time."""
    [series] = (await signals.GetMetrics(pb.GetMetricsRequest(scope=asked, metrics=[which]))).series
    [point] = series.points
    return point.value


async def values(
    signals: SignalServiceAsyncStub, asked: signal_pb2.SignalScope | None = None
) -> dict[str, float | None]:
    """All metrics over all of the time, by their names; None where there is nothing to take one from."""
    answer = await signals.GetMetrics(pb.GetMetricsRequest(scope=asked))
    names = [Metric.Name(series.metric).removeprefix("SIGNAL_METRIC_") for series in answer.series]
    points: Sequence[signal_pb2.SignalValue] = [series.points[0].value for series in answer.series]
    return {name: value.value if value.HasField("value") else None for name, value in zip(names, points, strict=True)}
