"""What counts, as data comes late, alone, twice, or goes again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.clickstream.calls import create, push
from tests.clickstream.samples import a_session
from tests.clickstream.signals.calls import Metric, click, done, metric, scope, searched, values
from tests.clickstream.worker import mark_irrelevant
from tideline.clickstream.v1 import interaction_pb2, interaction_service_pb2
from tideline.clickstream.v1 import signal_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from tests.clickstream.conftest import CaughtUp, Clock, Service
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub


async def clicked(signals: SignalServiceAsyncStub) -> tuple[float | None, ...]:
    found = await values(signals)
    return found["SESSIONS"], found["CTR"], found["EVENTS"]


async def alone(service: Service, interaction_id: str, *types: str, **fields: Any) -> None:
    """Record an interaction without a session."""
    meta = fields.pop("meta", {})
    interaction = interaction_pb2.Interaction(
        **{"interaction_id": interaction_id, "feature_id": "a", "interaction_types": types, "user_id": "ann", **fields}
    )
    interaction.metadata.update(meta)
    request = interaction_service_pb2.RecordInteractionRequest(interaction=interaction)
    await service.interactions.RecordInteraction(request)


async def test_an_event_that_comes_late_changes_what_was_counted_of_its_session(
    service: Service, signals: SignalServiceAsyncStub, clock: Clock, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("c2", "b", created_at=clock.time + timedelta(minutes=2)))
    await caught_up()
    assert (await values(signals))["FIRST_CLICK_RANK"] == 2
    await push(service.sessions, "s1", [click("c1", "c", created_at=clock.time + timedelta(minutes=1))])
    await caught_up()
    assert (await values(signals))["FIRST_CLICK_RANK"] == 3
    assert await clicked(signals) == (1, 1, 2)


async def test_sending_again_counts_once(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    for _ in range(3):
        await searched(service, "s1", click("c"))
        await caught_up()
    assert await clicked(signals) == (1, 1, 1)


async def test_an_event_that_overtook_its_session_counts_under_its_surface_once_that_is_there(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await push(service.sessions, "s1", [click("c")], allow_missing=True)
    await caught_up()
    assert await clicked(signals) == (0, None, 1)
    session = a_session("s1")
    session.search_meta.update({"surface": "web"})
    await create(service.sessions, session)
    await caught_up()
    assert await clicked(signals) == (1, 1, 1)
    assert (await metric(signals, Metric.SIGNAL_METRIC_EVENTS, scope(surface="web"))).value == 1


async def test_an_irrelevant_session_counts_no_more_nor_do_events_that_come_later(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp, database: Database[dict[str, Any]]
) -> None:
    await searched(service, "bot", click("c"))
    await searched(service, "person")
    await caught_up()
    assert await clicked(signals) == (2, 0.5, 1)
    await mark_irrelevant(service, "bot")
    await push(service.sessions, "bot", [click("c2")])
    await caught_up()
    assert await clicked(signals) == (1, 0, 0)
    await mark_irrelevant(service, "person")
    await caught_up()
    # Nothing is left of them, not even zeros.
    assert await clicked(signals) == (0, None, 0)
    assert database["rollups_1"].count_documents({}) == 0
    assert database["rollup_contributions_1"].count_documents({}) == 0


async def test_noise_does_not_count(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp, database: Database[dict[str, Any]]
) -> None:
    await searched(service, "s1", click("c1"), click("c2", "b"))
    await searched(service, "s2", click("c"))
    await alone(service, "i1", "click")
    await caught_up()
    assert await clicked(signals) == (2, 1, 4)
    database.session_events.update_many({"session_id": {"$ne": "s1"}}, {"$set": {"noise": ["too_fast"]}})
    database.session_events.update_one({"_id.e": "c1"}, {"$set": {"noise": ["too_fast"]}})
    await caught_up()
    # Of the second session nothing but noise is known.
    assert await clicked(signals) == (1, 1, 1)
    assert (await values(signals))["FIRST_CLICK_RANK"] == 2
    database.session_events.update_many({}, {"$unset": {"noise": ""}})
    await caught_up()
    assert await clicked(signals) == (2, 1, 4)


async def test_what_is_deleted_counts_no_more(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp, database: Database[dict[str, Any]]
) -> None:
    await searched(service, "s1", click("c"))
    await searched(service, "s2", click("c"))
    await alone(service, "i1", "click")
    await caught_up()
    assert await clicked(signals) == (2, 1, 3)
    for session_id, interaction_id in (("s1", "c"), ("", "i1")):
        key = interaction_service_pb2.InteractionKey(session_id=session_id, interaction_id=interaction_id)
        await service.interactions.DeleteInteraction(interaction_service_pb2.DeleteInteractionRequest(key=key))
    await caught_up()
    assert await clicked(signals) == (2, 0.5, 1)
    # A session that expired, with its events or before them.
    database.sessions.delete_one({"_id": "s2"})
    await caught_up()
    assert await clicked(signals) == (1, 0, 1)
    database.session_events.delete_many({"session_id": "s2"})
    await caught_up()
    assert await clicked(signals) == (1, 0, 0)


async def test_an_interaction_without_a_session_counts_as_an_event_with_segments_of_its_own(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp
) -> None:
    await alone(service, "i1", "purchase", meta={"surface": "app", "device": "phone"})
    await alone(service, "i2", "click")
    await caught_up()
    assert await clicked(signals) == (0, None, 2)
    on_phone = scope(surface="app", segment="device", segment_value="phone")
    assert (await metric(signals, Metric.SIGNAL_METRIC_EVENTS, on_phone)).value == 1
    types = (await signals.GetEventDistribution(pb.GetEventDistributionRequest(scope=on_phone))).types
    assert [(each.interaction_type, each.count) for each in types] == [("purchase", 1)]


async def test_of_a_session_without_end_the_first_events_count(
    service: Service, signals: SignalServiceAsyncStub, caught_up: CaughtUp, clock: Clock
) -> None:
    await searched(service, "s1")
    for part in range(6):
        at = clock.time + timedelta(seconds=part)
        await push(service.sessions, "s1", [done(f"{part}.{each}", "view", created_at=at) for each in range(1_000)])
    await caught_up()
    assert await clicked(signals) == (1, 0, 5_000)
