"""A session that is marked irrelevant stays so, for the first reason that was given."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from tests.clickstream.calls import Refusal, create, get, push, refusal
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import event_pb2 as events_pb
from tideline.clickstream.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from tests.clickstream.conftest import Clock
    from tideline.clickstream.v1.session_pb2 import Session
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub


async def mark(sessions: SessionServiceAsyncStub, session_id: str, reason: str) -> Session:
    request = pb.MarkSessionIrrelevantRequest(session_id=session_id, reason=reason)
    return (await sessions.MarkSessionIrrelevant(request)).session


async def test_a_marked_session_says_why_and_since_when(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    recorded = await create(sessions, a_session("s1"))
    clock.advance(timedelta(minutes=1))
    marked = await mark(sessions, "s1", "load test")
    assert marked.irrelevance.reason == "load test"
    recorded.irrelevance.CopyFrom(marked.irrelevance)
    assert marked == recorded == (await get(sessions, "s1")).session
    assert abs(marked.irrelevance.marked_at.ToMilliseconds() - clock.time.timestamp() * 1000) < 1


async def test_the_first_reason_stays(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    await create(sessions, a_session("s1"))
    first = await mark(sessions, "s1", "load test")
    clock.advance(timedelta(minutes=1))
    assert await mark(sessions, "s1", "another") == first


async def test_of_many_who_mark_a_session_at_once_one_gives_the_reason(sessions: SessionServiceAsyncStub) -> None:
    await create(sessions, a_session("s1"))
    marked = await asyncio.gather(*(mark(sessions, "s1", f"reason {number}") for number in range(8)))
    assert len({session.irrelevance.reason for session in marked}) == 1


async def test_an_unknown_session_is_not_found(sessions: SessionServiceAsyncStub) -> None:
    not_found = Refusal(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", "session_id")
    assert await refusal(mark(sessions, "s1", "")) == not_found


async def test_a_reason_that_is_too_long_is_refused(sessions: SessionServiceAsyncStub) -> None:
    await create(sessions, a_session("s1"))
    refused = await refusal(mark(sessions, "s1", "x" * 1025))
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "reason")


async def test_a_marked_session_still_takes_events_and_is_still_the_same_when_it_is_sent_again(
    sessions: SessionServiceAsyncStub,
) -> None:
    await create(sessions, a_session("s1"))
    marked = await mark(sessions, "s1", "load test")
    assert (await push(sessions, "s1", [an_event("e1")]))[0].status == events_pb.EVENT_STATUS_ACCEPTED
    assert await create(sessions, a_session("s1")) == marked
