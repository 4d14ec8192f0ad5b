"""Metrics over time: what counts, where, and how sure it is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.clickstream.signals.calls import Metric, click, done, metric, scope, searched, values
from tideline.clickstream.v1 import signal_service_pb2 as pb

if TYPE_CHECKING:
    from tests.clickstream.conftest import Clock, Service
    from tests.clickstream.signals.conftest import CaughtUp
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


async def test_each_metric_is_taken_from_what_was_recorded(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    await searched(service, "none", objects=())
    await searched(service, "unclicked", done("r", "query_refinement"))
    at = clock.time + timedelta(seconds=4)
    await searched(
        service,
        "clicked",
        click("c", "b", created_at=at, dwell=timedelta(seconds=10)),
        click("later", "a", created_at=at + MINUTE, dwell=timedelta(seconds=20)),
    )
    await searched(service, "bought", click("c", created_at=clock.time + timedelta(seconds=2)), done("p", "purchase"))
    await caught_up()
    assert await values(signals) == {
        "SESSIONS": 4,
        "CTR": 0.5,
        "ZERO_RESULT_RATE": 0.25,
        "REFINEMENT_RATE": 0.25,
        "CONVERSION_RATE": 0.25,
        "FIRST_CLICK_RANK": 1.5,
        "TIME_TO_FIRST_CLICK": 3,
        "DWELL": 15,
        "EVENTS": 5,
    }
