"""A stream of events is answered in order, after the durable write, and slows down whoever is too fast."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from clickstream_service.rpc.in_order import Budget, in_order
from tests.clickstream.calls import create
from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import event_pb2 as events_pb
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.common.v1 import error_reason_pb2 as reasons
from tideline.rpc.status import field_of, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock
    from tideline.clickstream.v1.event_pb2 import Event
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub

ACCEPTED = events_pb.EVENT_STATUS_ACCEPTED
DUPLICATE = events_pb.EVENT_STATUS_DUPLICATE
REJECTED = events_pb.EVENT_STATUS_REJECTED


def message(sequence: int, session_id: str, *events: Event, **fields: Any) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(sequence=sequence, session_id=session_id, events=events, **fields)


async def answers(
    sessions: SessionServiceAsyncStub, messages: Iterable[pb.StreamEventsRequest]
) -> list[pb.StreamEventsResponse]:
    return [answer async for answer in sessions.StreamEvents(iter(messages))]


async def test_every_message_is_answered_in_order_under_its_number(
    sessions: SessionServiceAsyncStub, database: Database[dict[str, Any]]
) -> None:
    await create(sessions, a_session("s1"))
    await create(sessions, a_session("s2"))
    messages = [message(7 * number, f"s{1 + number % 2}", an_event(f"e{number}")) for number in range(300)]
    answered = await answers(sessions, messages)
    assert [answer.sequence for answer in answered] == [7 * number for number in range(300)]
    assert {outcome.status for answer in answered for outcome in answer.outcomes} == {ACCEPTED}
    assert database.session_events.count_documents({}) == 300


async def test_an_answer_comes_while_the_stream_is_open_and_after_the_event_is_stored(
    sessions: SessionServiceAsyncStub, database: Database[dict[str, Any]]
) -> None:
    await create(sessions, a_session("s1"))
    call = sessions.StreamEvents()
    for number in range(3):
        await call.write(message(number, "s1", an_event(f"e{number}")))
        answer = await call.read()
        assert isinstance(answer, pb.StreamEventsResponse)
        assert answer.sequence == number
        assert database.session_events.count_documents({}) == number + 1
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_what_is_wrong_with_one_message_is_said_in_its_answer_and_the_stream_goes_on(
    sessions: SessionServiceAsyncStub,
) -> None:
    await create(sessions, a_session("s1"))
    answered = await answers(
        sessions,
        [
            message(1, "unknown", an_event("e1"), an_event("")),
            message(2, "s1", an_event("e1"), an_event("e2", event_types=[])),
            message(3, "later", an_event("e1"), allow_missing=True),
        ],
    )
    assert [[outcome.status for outcome in answer.outcomes] for answer in answered] == [
        [REJECTED, REJECTED],
        [ACCEPTED, REJECTED],
        [ACCEPTED],
    ]
    assert answered[0].outcomes[0].reason == reasons.ERROR_REASON_SESSION_NOT_FOUND
    assert answered[1].outcomes[1].field == "event_types"


async def test_a_message_that_breaks_the_contract_ends_the_stream_after_the_answers_before_it(
    sessions: SessionServiceAsyncStub,
) -> None:
    await create(sessions, a_session("s1"))
    call = sessions.StreamEvents(
        iter([message(1, "s1", an_event("e1")), message(2, "s1"), message(3, "s1", an_event("e3"))])
    )
    first = await call.read()
    assert isinstance(first, pb.StreamEventsResponse)
    assert first.sequence == 1
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call.read()
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (reason_of(failure.value), field_of(failure.value)) == ("INVALID_FIELD", "events")


async def test_a_client_that_reconnects_resumes_by_sending_again(sessions: SessionServiceAsyncStub) -> None:
    await create(sessions, a_session("s1"))
    messages = [message(number, "s1", an_event(f"e{number}"), an_event(f"f{number}")) for number in range(50)]
    broken = sessions.StreamEvents(iter(messages))
    last = await broken.read()
    broken.cancel()
    assert isinstance(last, pb.StreamEventsResponse)
    answered = await answers(sessions, messages[last.sequence :])
    assert [answer.sequence for answer in answered] == list(range(last.sequence, 50))
    assert {outcome.status for outcome in answered[0].outcomes} == {DUPLICATE}
    statuses = {outcome.status for answer in answered for outcome in answer.outcomes}
    assert statuses <= {ACCEPTED, DUPLICATE}
    found = await sessions.GetSession(pb.GetSessionRequest(session_id="s1"))
    assert len(found.events) == 100


async def test_a_stream_waits_where_a_call_would_be_refused(settings: Settings, clock: Clock) -> None:
    narrow = settings.model_copy(update={"waiting_events": 1, "events_per_write": 5})
    async with serving(narrow, clock) as service:
        await create(service.sessions, a_session("s1"))
        streams = [
            answers(service.sessions, [message(number, "s1", an_event(f"{part}-{number}")) for number in range(100)])
            for part in "abc"
        ]
        for answered in await asyncio.gather(*streams):
            assert [answer.sequence for answer in answered] == list(range(100))
            assert {outcome.status for answer in answered for outcome in answer.outcomes} == {ACCEPTED}


async def test_reading_ahead_is_bounded_by_count_and_by_size() -> None:
    taken = 0
    go_on = asyncio.Event()

    async def requests(nbytes: int) -> AsyncIterator[pb.StreamEventsRequest]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield message(number, "x" * nbytes)

    async def answer(request: pb.StreamEventsRequest) -> int:
        await go_on.wait()
        return request.sequence

    for nbytes, most in ((1, 8), (600, 1), (5000, 1)):
        taken = 0
        go_on.clear()
        stream = in_order(requests(nbytes), answer, ahead=8, ahead_bytes=1000, shared=Budget(1_000_000))
        first = asyncio.ensure_future(anext(stream))
        for _ in range(50):
            await asyncio.sleep(0)
        # The one that does not fit has been read, too: its size is known only then.
        assert taken == most + 1
        go_on.set()
        assert [await first, *[sequence async for sequence in stream]] == list(range(100))


async def test_streams_of_clients_that_do_not_read_have_no_more_ahead_than_the_server_can_hold() -> None:
    taken: list[int] = []

    async def requests(stream: int) -> AsyncIterator[pb.StreamEventsRequest]:
        for _ in range(100):
            taken.append(stream)
            yield message(1, "s")

    async def answer(request: pb.StreamEventsRequest) -> int:
        return request.sequence

    shared = Budget(3_000)
    streams = [in_order(requests(number), answer, ahead=8, ahead_bytes=1000, shared=shared) for number in range(20)]
    for stream in streams:
        await anext(stream)
    for _ in range(200):
        await asyncio.sleep(0)
    # Each has one in hand and one that waits for room, whatever the others do.
    assert shared.used <= 3_000 + 20 * 125
    assert len(taken) <= 24 + 3 * 20
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    assert shared.used == 0


async def test_leaving_a_stream_leaves_no_work_behind() -> None:
    started: list[asyncio.Task[Any] | None] = []
    all_started = asyncio.Event()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        for number in range(5):
            yield message(number, "s1")
        await asyncio.Event().wait()

    async def answer(request: pb.StreamEventsRequest) -> int:
        started.append(asyncio.current_task())
        if len(started) == 5:
            all_started.set()
        if request.sequence:
            await asyncio.Event().wait()
        return request.sequence

    stream = in_order(requests(), answer, ahead=8, ahead_bytes=1000, shared=Budget(1_000_000))
    assert await anext(stream) == 0
    await all_started.wait()
    await stream.aclose()  # type: ignore[attr-defined]
    assert all(task is not None and task.done() for task in started)
