"""Monitors: they are looked at again and again, keep a history, and tell a webhook of changes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.clickstream.calls import refusal
from tests.clickstream.conftest import serving
from tests.clickstream.signals.calls import click, searched
from tests.clickstream.signals.conftest import asked_of
from tests.clickstream.signals.webhooks import Listener
from tests.clickstream.worker import until
from tideline.clickstream.v1 import signal_pb2
from tideline.clickstream.v1 import signal_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import CaughtUp, Clock, Service
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub

UNKNOWN, OK, FIRING = signal_pb2.MONITOR_STATE_UNSPECIFIED, signal_pb2.MONITOR_STATE_OK, signal_pb2.MONITOR_STATE_FIRING
HOUR = timedelta(hours=1)
BACKOFF = timedelta(seconds=10)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture
def settings(settings: Settings, listener: Listener) -> Settings:
    often = {"monitor_every": timedelta(milliseconds=20), "monitor_webhook_backoff": BACKOFF}
    return settings.model_copy(
        update=often | {"monitor_webhook_hosts": ("Hooks.example", listener.host), "monitor_webhook_attempts": 3}
    )


def a_monitor(monitor_id: str = "ctr", **fields: Any) -> signal_pb2.Monitor:
    """Fires when less than half of the searches of the last hour led to a click."""
    rule = {
        "monitor_id": monitor_id,
        "metric": signal_pb2.SIGNAL_METRIC_CTR,
        "comparison": signal_pb2.COMPARISON_BELOW,
        "threshold": 0.5,
        "window": Duration(seconds=3600),
    }
    return signal_pb2.Monitor(**{**rule, **fields})


async def put(signals: SignalServiceAsyncStub, monitor: signal_pb2.Monitor) -> signal_pb2.Monitor:
    return (await signals.PutMonitor(pb.PutMonitorRequest(monitor=monitor))).monitor


async def get(signals: SignalServiceAsyncStub, monitor_id: str = "ctr") -> pb.GetMonitorResponse:
    return await signals.GetMonitor(pb.GetMonitorRequest(monitor_id=monitor_id))


async def until_state(signals: SignalServiceAsyncStub, state: signal_pb2.MonitorState.ValueType) -> None:
    async def is_so() -> bool:
        return (await get(signals)).monitor.state == state

    await until(is_so)


async def history(signals: SignalServiceAsyncStub) -> list[tuple[signal_pb2.MonitorState.ValueType, float, bool]]:
    transitions = (await get(signals)).transitions
    return [(each.state, each.value.value, each.delivered) for each in transitions]


async def test_a_monitor_fires_and_recovers_and_keeps_its_history(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp, clock: Clock
) -> None:
    monitor = a_monitor(min_count=2)
    assert await put(signals, monitor) == monitor
    await searched(service, "s1")
    await caught_up()
    await searched(service, "s2")
    await until_state(signals, FIRING)
    fired = (await get(signals)).monitor
    assert fired.state_since.ToDatetime(clock.time.tzinfo) == clock.time
    fired.ClearField("state")
    fired.ClearField("state_since")
    assert fired == monitor
    clock.advance(timedelta(minutes=1))
    for number in range(2):
        await searched(service, f"good{number}", click("c"))
    await until_state(signals, OK)
    assert await history(signals) == [(OK, 0.5, False), (FIRING, 0, False)]
    # Its hours are over.
    clock.advance(3 * HOUR)
    await until_state(signals, UNKNOWN)
    times = [each.at.ToDatetime(clock.time.tzinfo) for each in (await get(signals)).transitions]
    assert times == sorted(times, reverse=True)
    assert len(times) == 3


async def test_a_monitor_looks_at_its_surface_and_segment_only(
    service: Service, signals: SignalServiceAsyncStub
) -> None:
    await put(signals, a_monitor(surface="web", segment="device", segment_value="tv"))
    await put(signals, a_monitor("many", metric="SIGNAL_METRIC_SESSIONS", comparison="COMPARISON_ABOVE", threshold=1))
    await searched(service, "s1", meta={"surface": "web", "device": "phone"})
    await searched(service, "s2", click("c"), meta={"surface": "web", "device": "tv"})
    await until_state(signals, OK)
    assert (await history(signals))[0] == (OK, 1, False)

    async def many_fires() -> bool:
        return (await get(signals, "many")).monitor.state == FIRING

    await until(many_fires)


async def test_a_webhook_is_told_of_each_change_in_order_and_without_personal_data(
    service: Service, signals: SignalServiceAsyncStub, listener: Listener, clock: Clock
) -> None:
    await put(signals, a_monitor(webhook_url=f"http://{listener.host}/hook?team=search"))
    await searched(service, "s1", user_id="ann", search_query={"text": "secret"})
    await until(lambda: len(listener.told) == 1)
    await searched(service, "s2", click("c"))
    await until(lambda: len(listener.told) == 2)
    [first, second] = listener.told
    assert listener.paths == ["/hook?team=search"] * 2
    assert first.pop("delivery_id") != second.pop("delivery_id")
    assert first == {
        "monitor_id": "ctr",
        "state": "FIRING",
        "at": clock.time.isoformat(),
        "metric": "CTR",
        "comparison": "BELOW",
        "threshold": 0.5,
        "window_seconds": 3600,
        "surface": "",
        "segment": "",
        "segment_value": "",
        "value": 0,
        "low": 0,
        "high": pytest.approx(0.7935, abs=1e-4),
        "count": 1,
    }
    assert (second["state"], second["value"]) == ("OK", 0.5)

    async def both_are_noted() -> bool:
        return [delivered for *_, delivered in await history(signals)] == [True, True]

    await until(both_are_noted)


async def test_what_a_webhook_did_not_take_is_told_again_later_and_given_up_in_the_end(
    service: Service, signals: SignalServiceAsyncStub, listener: Listener, clock: Clock
) -> None:
    listener.answer = lambda: 500 if len(listener.told) < 3 else 204
    await put(signals, a_monitor(webhook_url=f"http://{listener.host}/"))
    await searched(service, "s1")
    await until(lambda: len(listener.told) == 1)
    # What happens meanwhile waits for its turn.
    await searched(service, "s2", click("c"))
    await until_state(signals, OK)
    assert len(listener.told) == 1
    clock.advance(BACKOFF)
    await until(lambda: len(listener.told) == 2)
    clock.advance(2 * BACKOFF)
    await until(lambda: len(listener.told) == 4)
    assert [told["state"] for told in listener.told] == ["FIRING", "FIRING", "FIRING", "OK"]
    assert len({told["delivery_id"] for told in listener.told}) == 2

    listener.answer = lambda: 500
    for number in range(10):
        await searched(service, f"bad{number}")
    await until(lambda: len(listener.told) == 5)
    clock.advance(BACKOFF)
    await until(lambda: len(listener.told) == 6)
    clock.advance(2 * BACKOFF)
    await until(lambda: len(listener.told) == 7)
    listener.answer = lambda: 204
    clock.advance(3 * HOUR)
    await until(lambda: len(listener.told) == 8)
    assert [told["state"] for told in listener.told[4:]] == ["FIRING"] * 3 + ["UNKNOWN"]

    async def all_is_noted() -> bool:
        return [delivered for *_, delivered in await history(signals)] == [True, False, True, True]

    await until(all_is_noted)


async def test_a_redirect_is_not_followed(
    service: Service, signals: SignalServiceAsyncStub, listener: Listener
) -> None:
    listener.answer = lambda: 302 if len(listener.told) == 1 else 200
    await put(signals, a_monitor(webhook_url=f"http://{listener.host}/hook"))
    await searched(service, "s1")
    await until(lambda: len(listener.told) == 1)
    assert listener.paths == ["/hook"]
    assert [delivered for *_, delivered in await history(signals)] == [False]


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.example/",
        "http://hooks.example:8080/",
        "http://hooks.example@elsewhere.example/",
        "http://user@hooks.example/",
        "http://127.0.0.1/",
        "http://[bad/",
    ],
)
async def test_a_webhook_elsewhere_than_on_the_allowed_hosts_is_refused(
    signals: SignalServiceAsyncStub, url: str
) -> None:
    refused = await refusal(put(signals, a_monitor(webhook_url=url)))
    assert tuple(refused) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "monitor.webhook_url")
    assert (await put(signals, a_monitor(webhook_url="https://HOOKS.example/a"))).webhook_url


async def test_without_allowed_hosts_there_are_no_webhooks(
    settings: Settings, clock: Clock, listener: Listener
) -> None:
    without = settings.model_copy(update={"monitor_webhook_hosts": ()})
    async with serving(without, clock) as service, asked_of(service) as signals:
        refused = await refusal(put(signals, a_monitor(webhook_url=f"http://{listener.host}/")))
        assert refused.field == "monitor.webhook_url"
        await put(signals, a_monitor())


async def test_a_rule_that_cannot_be_looked_at_is_refused(signals: SignalServiceAsyncStub, caught_up: CaughtUp) -> None:
    await caught_up()
    unknown = await refusal(put(signals, a_monitor(segment="country")))
    assert unknown[1:] == ("UNKNOWN_SEGMENT", "monitor.segment")
    assert (await refusal(put(signals, a_monitor(segment_value="de")))).field == "monitor.segment_value"
    assert (await refusal(put(signals, a_monitor("not an id")))).field == "monitor.monitor_id"
    assert (await refusal(put(signals, a_monitor(window=Duration(seconds=60))))).field == "monitor.window"
    assert (await refusal(put(signals, a_monitor(threshold=float("nan"))))).field == "monitor.threshold"


async def test_putting_a_monitor_again_changes_the_rule_and_keeps_the_history(
    service: Service, signals: SignalServiceAsyncStub
) -> None:
    await put(signals, a_monitor())
    await searched(service, "s1")
    await until_state(signals, FIRING)
    assert (await put(signals, a_monitor(comparison="COMPARISON_ABOVE"))).state == FIRING
    await until_state(signals, OK)
    assert [state for state, *_ in await history(signals)] == [OK, FIRING]


async def test_monitors_are_listed_by_id_and_deleted_with_their_history(
    service: Service, signals: SignalServiceAsyncStub, database: Database[dict[str, Any]]
) -> None:
    for monitor_id in ("b", "a", "c"):
        await put(signals, a_monitor(monitor_id))
    await searched(service, "s1")
    await until(lambda: database.monitor_transitions.count_documents({}) == 3)
    first = await signals.ListMonitors(pb.ListMonitorsRequest(page_size=2))
    rest = await signals.ListMonitors(pb.ListMonitorsRequest(page_size=2, page_token=first.next_page_token))
    assert [each.monitor_id for each in [*first.monitors, *rest.monitors]] == ["a", "b", "c"]
    assert rest.next_page_token == ""
    delete = pb.DeleteMonitorRequest(monitor_id="a")
    assert (await signals.DeleteMonitor(delete)).deleted
    assert not (await signals.DeleteMonitor(delete)).deleted
    assert (await refusal(get(signals, "a")))[:2] == (grpc.StatusCode.NOT_FOUND, "MONITOR_NOT_FOUND")
    assert database.monitor_transitions.distinct("monitor_id") == ["b", "c"]


async def test_of_two_replicas_one_looks_at_monitors_and_the_other_takes_over(
    settings: Settings, clock: Clock, listener: Listener
) -> None:
    async with serving(settings, clock) as second, asked_of(second) as signals:
        async with serving(settings, clock) as first:
            await put(signals, a_monitor(webhook_url=f"http://{listener.host}/"))
            await searched(first, "s1")
            await until(lambda: len(listener.told) == 1)
        await searched(second, "s2", click("c"))
        await until(lambda: len(listener.told) == 2)
        assert [told["state"] for told in listener.told] == ["FIRING", "OK"]
