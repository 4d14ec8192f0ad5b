"""Events are stored once and durably; what cannot be stored is said, event by event."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status
from pydantic import MongoDsn

from deploy.local.mongod import Mongod
from tests.clickstream.calls import Refusal, create, get, push, refusal
from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import event_pb2 as events_pb
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.common.v1 import error_reason_pb2 as reasons
from tideline.rpc.status import reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub

ACCEPTED = events_pb.EVENT_STATUS_ACCEPTED
DUPLICATE = events_pb.EVENT_STATUS_DUPLICATE
CONFLICT = events_pb.EVENT_STATUS_CONFLICT
REJECTED = events_pb.EVENT_STATUS_REJECTED
UNKNOWN = Refusal(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", "session_id")


async def test_events_sent_again_are_duplicates_and_stored_once(
    sessions: SessionServiceAsyncStub, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    await create(sessions, a_session("s1"))
    events = [an_event(f"e{number}") for number in range(5)]
    first = await push(sessions, "s1", events[:3])
    clock.advance(timedelta(minutes=1))
    again = await push(sessions, "s1", events)
    assert [outcome.status for outcome in first] == [ACCEPTED] * 3
    assert [outcome.status for outcome in again] == [DUPLICATE] * 3 + [ACCEPTED] * 2
    assert [outcome.event_id for outcome in again] == [event.event_id for event in events]
    assert database.session_events.count_documents({}) == 5


async def test_other_content_under_the_same_id_is_a_conflict_and_the_first_stays(
    sessions: SessionServiceAsyncStub,
) -> None:
    await create(sessions, a_session("s1"))
    await push(sessions, "s1", [an_event("e1", "a")])
    outcomes = await push(
        sessions, "s1", [an_event("e1", "b"), an_event("e2", "a"), an_event("e2", "a"), an_event("e2", "b")]
    )
    assert [outcome.status for outcome in outcomes] == [CONFLICT, ACCEPTED, DUPLICATE, CONFLICT]
    assert outcomes[0].reason == reasons.ERROR_REASON_EVENT_CONFLICT
    assert outcomes[0].message
    assert [(event.event_id, event.object_id) for event in (await get(sessions, "s1")).events] == [
        ("e1", "a"),
        ("e2", "a"),
    ]


async def test_an_event_id_is_one_of_a_kind_in_its_session_only(sessions: SessionServiceAsyncStub) -> None:
    for session_id, object_id in (("s1", "a"), ("s2", "b")):
        await create(sessions, a_session(session_id))
        assert (await push(sessions, session_id, [an_event("e1", object_id)]))[0].status == ACCEPTED


async def test_an_event_for_an_object_that_was_not_shown_is_accepted_and_flagged(
    sessions: SessionServiceAsyncStub,
) -> None:
    await create(sessions, a_session("s1"))
    expected = [[], [events_pb.EVENT_FLAG_OBJECT_NOT_SHOWN]]
    for status in (ACCEPTED, DUPLICATE):
        outcomes = await push(sessions, "s1", [an_event("e1", "a"), an_event("e2", "z")])
        assert [outcome.status for outcome in outcomes] == [status, status]
        assert [list(outcome.flags) for outcome in outcomes] == expected
    assert [list(event.flags) for event in (await get(sessions, "s1")).events] == expected


async def test_flags_are_the_servers_and_not_the_clients(sessions: SessionServiceAsyncStub) -> None:
    await create(sessions, a_session("s1"))
    forged = an_event("e1", flags=[events_pb.EVENT_FLAG_SESSION_MISSING])
    assert not (await push(sessions, "s1", [forged]))[0].flags
    assert (await push(sessions, "s1", [an_event("e1")]))[0].status == DUPLICATE


async def test_events_of_an_unknown_session_are_refused_as_a_whole(
    sessions: SessionServiceAsyncStub, database: Database[dict[str, Any]]
) -> None:
    assert await refusal(push(sessions, "unknown", [an_event("e1"), an_event("")])) == UNKNOWN
    assert await refusal(push(sessions, "unknown", [an_event("")])) == UNKNOWN
    assert database.session_events.count_documents({}) == 0


async def test_events_may_overtake_their_session_when_the_client_says_so(sessions: SessionServiceAsyncStub) -> None:
    [outcome] = await push(sessions, "s1", [an_event("e1")], allow_missing=True)
    assert (outcome.status, list(outcome.flags)) == (ACCEPTED, [events_pb.EVENT_FLAG_SESSION_MISSING])
    await create(sessions, a_session("s1"))
    [event] = (await get(sessions, "s1")).events
    assert list(event.flags) == [events_pb.EVENT_FLAG_SESSION_MISSING]
    assert [outcome.status for outcome in await push(sessions, "s1", [an_event("e1")])] == [DUPLICATE]


def with_meta(nbytes: int) -> events_pb.Event:
    event = an_event("e1")
    event.meta.update({"padding": "x" * nbytes})
    return event


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (an_event(""), "event_id"),
        (an_event("x" * 513), "event_id"),
        (an_event("a\0b"), "event_id"),
        (an_event("e1", "x" * 513), "object_id"),
        (an_event("e1", event_types=[]), "event_types"),
        (an_event("e1", event_types=["click", "click"]), "event_types"),
        (an_event("e1", event_types=["click", ""]), "event_types[1]"),
        (an_event("e1", event_types=[f"t{number}" for number in range(17)]), "event_types"),
        (an_event("e1", position=-1), "position"),
        (an_event("e1", dwell=timedelta(seconds=-1)), "dwell"),
        (an_event("e1", dwell=timedelta(days=400)), "dwell"),
        (an_event("e1", created_at={"seconds": -(2**60)}), "created_at"),
        (with_meta(256 * 1024), ""),
    ],
)
async def test_an_event_that_breaks_a_rule_is_rejected_and_the_others_are_stored(
    sessions: SessionServiceAsyncStub, event: events_pb.Event, field: str
) -> None:
    await create(sessions, a_session("s1"))
    before, refused, after = await push(sessions, "s1", [an_event("before"), event, an_event("after")])
    assert [before.status, after.status] == [ACCEPTED, ACCEPTED]
    assert (refused.status, refused.reason, refused.field, refused.event_id) == (
        REJECTED, reasons.ERROR_REASON_INVALID_FIELD, field, event.event_id,
    )  # fmt: skip
    assert refused.message


async def test_a_time_too_long_ago_or_ahead_is_rejected_naming_the_field(
    sessions: SessionServiceAsyncStub, clock: Clock
) -> None:
    await create(sessions, a_session("s1"))
    second = timedelta(seconds=1)
    offsets = (-timedelta(hours=12) - second, -timedelta(hours=12), timedelta(minutes=5), timedelta(minutes=5) + second)
    events = [an_event(f"e{number}", created_at=clock.time + ahead) for number, ahead in enumerate(offsets)]
    outcomes = await push(sessions, "s1", events)
    assert [outcome.status for outcome in outcomes] == [REJECTED, ACCEPTED, ACCEPTED, REJECTED]
    for outcome in (outcomes[0], outcomes[3]):
        assert (outcome.reason, outcome.field) == (reasons.ERROR_REASON_TIME_OUT_OF_RANGE, "created_at")


@pytest.mark.parametrize("count", [0, 10_001])
async def test_a_call_with_no_or_too_many_events_is_refused(sessions: SessionServiceAsyncStub, count: int) -> None:
    refused = await refusal(push(sessions, "s1", [an_event(str(number)) for number in range(count)]))
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "events")


async def test_calls_beyond_what_may_wait_are_refused_and_told_when_to_come_again(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving(settings.model_copy(update={"waiting_events": 3}), clock) as service:
        await create(service.sessions, a_session("s1"))
        # An open transaction that inserts the same key holds up whoever writes it.
        with database.client.start_session() as session, session.start_transaction():
            database.session_events.insert_one({"_id": {"s": "s1", "e": "held"}}, session=session)
            calls = [
                asyncio.ensure_future(push(service.sessions, "s1", [an_event("held"), an_event(f"e{number}")]))
                for number in range(8)
            ]
            [first, *_], _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            session.abort_transaction()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    error = first.exception()
    assert isinstance(error, grpc.aio.AioRpcError)
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in rpc_status.from_call(error).details)
    taken = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert taken
    assert database.session_events.count_documents({}) == 1 + len(taken)


async def test_a_call_that_was_given_up_does_not_hold_up_others(
    sessions: SessionServiceAsyncStub, database: Database[dict[str, Any]]
) -> None:
    await create(sessions, a_session("s1"))
    with database.client.start_session() as session, session.start_transaction():
        database.session_events.insert_one({"_id": {"s": "s1", "e": "held"}}, session=session)
        request = pb.PushEventsRequest(session_id="s1", events=[an_event("held")])
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await sessions.PushEvents(request, timeout=0.2)
        assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        session.abort_transaction()
    # What was on its way is written all the same, and sending it again is safe.
    assert [outcome.status for outcome in await push(sessions, "s1", [an_event("held"), an_event("e2")])] == [
        DUPLICATE,
        ACCEPTED,
    ]


async def test_a_database_that_does_not_answer_is_unavailable_and_nothing_worse(
    settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    with Mongod(tmp_path) as mongod:
        own = settings.model_copy(update={"mongo_uri": MongoDsn(mongod.uri), "mongo_patience": timedelta(seconds=1)})
        async with serving(own, clock) as service:
            await create(service.sessions, a_session("s1"))
            mongod.stop()
            unavailable = Refusal(grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", "")
            assert await refusal(push(service.sessions, "s1", [an_event("e1")])) == unavailable
            assert await refusal(get(service.sessions, "s1")) == unavailable
