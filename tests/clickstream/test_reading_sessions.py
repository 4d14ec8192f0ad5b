"""Sessions and their events are read page by page, and no page is larger than a client takes."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.calls import Refusal, create, create_all, get, push, refusal
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.event_pb2 import Event
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub

# Not base64; then a number, null, an empty list, and more lists than can be read, as JSON in base64.
MADE_UP_TOKENS = ("made up", "NQ==", "bnVsbA==", "W10=", base64.b64encode(b"[" * 5000).decode())
UNKNOWN = Refusal(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", "session_id")


async def listed(sessions: SessionServiceAsyncStub, **request: Any) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    token = ""
    while True:
        answer = await sessions.ListSessions(pb.ListSessionsRequest(**request, page_token=token))
        ids += [session.session_id for session in answer.sessions]
        if not (token := answer.next_page_token):
            return ids


async def pages_of_events(
    sessions: SessionServiceAsyncStub, session_id: str, page_size: int
) -> AsyncIterator[list[Event]]:
    token = ""
    while True:
        answer = await sessions.ListSessionEvents(
            pb.ListSessionEventsRequest(session_id=session_id, page_size=page_size, page_token=token)
        )
        yield list(answer.events)
        if not (token := answer.next_page_token):
            return


async def three_days_of_sessions(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    """Two of each user an hour, those of one user at the same time."""
    for hour in range(3):
        at = clock.time - timedelta(hours=hour)
        users = ("ann", "bob", "")
        await create_all(
            sessions,
            [
                a_session(f"{user or 'nobody'}-{hour}{part}", user_id=user, created_at=at)
                for user in users
                for part in "xy"
            ],
        )


async def test_sessions_are_listed_newest_first_whatever_the_page_size(
    sessions: SessionServiceAsyncStub, clock: Clock
) -> None:
    await three_days_of_sessions(sessions, clock)
    expected = ["ann-0y", "ann-0x", "ann-1y", "ann-1x", "ann-2y", "ann-2x"]
    for page_size in (0, 1, 2, 3, 5, 6, 7):
        assert await listed(sessions, user_id="ann", page_size=page_size) == expected
    everybody = await listed(sessions, page_size=4)
    assert len(everybody) == len(set(everybody)) == 18
    assert [name[-2] for name in everybody] == ["0"] * 6 + ["1"] * 6 + ["2"] * 6


async def test_sessions_are_listed_by_user_time_and_relevance(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    await three_days_of_sessions(sessions, clock)
    for session_id in ("ann-1x", "bob-2y"):
        await sessions.MarkSessionIrrelevant(pb.MarkSessionIrrelevantRequest(session_id=session_id, reason="test"))
    window = {"created_from": clock.time - timedelta(hours=1), "created_before": clock.time}

    assert await listed(sessions, user_id="") == [f"nobody-{hour}{part}" for hour in range(3) for part in "yx"]
    assert await listed(sessions, user_id="nobody") == []
    assert await listed(sessions, user_id="ann", **window) == ["ann-1y", "ann-1x"]
    assert sorted(await listed(sessions, **window)) == sorted(
        f"{user}-1{part}" for user in ("ann", "bob", "nobody") for part in "xy"
    )
    assert await listed(sessions, irrelevant=True, page_size=1) == ["ann-1x", "bob-2y"]
    assert await listed(sessions, irrelevant=True, user_id="bob") == ["bob-2y"]
    assert await listed(sessions, irrelevant=False, user_id="ann", page_size=2, **window) == ["ann-1y"]
    assert len(await listed(sessions, irrelevant=False)) == 16


async def test_pages_are_not_disturbed_by_new_sessions(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    await create_all(sessions, [a_session(f"old-{number}") for number in range(4)])
    first = await sessions.ListSessions(pb.ListSessionsRequest(page_size=2))
    clock.advance(timedelta(seconds=1))
    await create(sessions, a_session("new"))
    second = await sessions.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=first.next_page_token))
    assert [session.session_id for page in (first, second) for session in page.sessions] == [
        "old-3", "old-2", "old-1", "old-0",
    ]  # fmt: skip


async def test_a_page_token_is_good_for_its_own_request_only(sessions: SessionServiceAsyncStub) -> None:
    await create_all(sessions, [a_session(f"s{number}") for number in range(3)])
    token = (await sessions.ListSessions(pb.ListSessionsRequest(user_id="ann", page_size=1))).next_page_token
    refused = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN", "page_token")
    for request in (
        pb.ListSessionsRequest(user_id="bob", page_token=token),
        pb.ListSessionsRequest(page_token=token),
        *(pb.ListSessionsRequest(user_id="ann", page_token=made_up) for made_up in MADE_UP_TOKENS),
    ):
        assert await refusal(sessions.ListSessions(request)) == refused
    changed = base64.urlsafe_b64encode(base64.urlsafe_b64decode(token).replace(b"[", b"[1", 1)).decode()
    forged = pb.ListSessionsRequest(user_id="ann", page_size=2, page_token=changed)
    assert await refusal(sessions.ListSessions(forged)) == refused
    other = pb.ListSessionEventsRequest(session_id="s1", page_token=token)
    assert await refusal(sessions.ListSessionEvents(other)) == refused
    assert (await sessions.ListSessions(pb.ListSessionsRequest(user_id="ann", page_size=2, page_token=token))).sessions


async def test_ids_that_are_long_in_json_fit_into_page_tokens(sessions: SessionServiceAsyncStub) -> None:
    ids = ["\x01" * 511 + end for end in "ab"]
    await create_all(sessions, [a_session(one) for one in ids])
    await push(sessions, ids[0], [an_event(one) for one in ids])
    assert await listed(sessions, page_size=1) == ids[::-1]
    pages = [page async for page in pages_of_events(sessions, ids[0], 1)]
    assert [event.event_id for page in pages for event in page] == ids


async def test_events_are_read_oldest_first_whatever_the_page_size(
    sessions: SessionServiceAsyncStub, clock: Clock
) -> None:
    await create(sessions, a_session("s1"))
    await create(sessions, a_session("s10"))
    events = [
        an_event(event_id, created_at=clock.time - timedelta(seconds=ago))
        for event_id, ago in (("c", 0), ("b", 5), ("a", 5), ("d", 9), ("e", 5))
    ]
    await push(sessions, "s1", events)
    await push(sessions, "s10", [an_event("other")])
    for page_size in (0, 1, 2, 3, 5):
        pages = [page async for page in pages_of_events(sessions, "s1", page_size)]
        assert [event.event_id for page in pages for event in page] == ["d", "a", "b", "e", "c"]
        assert all(pages)
    found = await get(sessions, "s1", events_limit=3)
    assert [event.event_id for event in found.events] == ["d", "a", "b"]
    assert found.events_truncated
    assert not (await get(sessions, "s1", events_limit=5)).events_truncated


async def test_an_event_comes_back_as_it_was_sent(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    await create(sessions, a_session("s1", created_at=clock.time - timedelta(seconds=1)))
    full = an_event(
        "e1",
        event_types=["click", "add to my list"],
        position=0,
        dwell=timedelta(seconds=2, microseconds=5),
        created_at=clock.time - timedelta(microseconds=1),
    )
    full.meta.update({"x.y": [1.5, None, {"$z": "é"}]})
    bare = an_event("e2")
    await push(sessions, "s1", [full, bare])
    bare.created_at.FromDatetime(clock.time)
    full.weight = bare.weight = 1
    assert list((await get(sessions, "s1")).events) == [full, bare]


async def test_a_session_without_events_has_an_empty_page_and_an_unknown_one_is_not_found(
    sessions: SessionServiceAsyncStub,
) -> None:
    await create(sessions, a_session("s1"))
    assert not (await get(sessions, "s1")).events
    assert [page async for page in pages_of_events(sessions, "s1", 10)] == [[]]
    assert await refusal(get(sessions, "unknown")) == UNKNOWN
    assert await refusal(sessions.ListSessionEvents(pb.ListSessionEventsRequest(session_id="unknown"))) == UNKNOWN


async def test_a_session_of_five_thousand_events_and_a_thousand_results_is_read_by_any_client(service: Service) -> None:
    objects = [f"object-{number}" for number in range(1000)]
    await create(service.sessions, a_session("large", objects=objects))
    events = [an_event(f"event-{number:04}", objects[number % 1000], position=number % 1000) for number in range(5000)]
    outcomes = await push(service.sessions, "large", events)
    assert not any(outcome.flags for outcome in outcomes)
    # A client with the message size that gRPC has by default.
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        sessions = SessionServiceStub(channel)
        found = await get(sessions, "large", events_limit=10_000)
        assert [result.object_id for result in found.session.search_results] == objects
        assert [event.event_id for event in found.events] == [event.event_id for event in events]
        assert not found.events_truncated
        assert len((await get(sessions, "large")).events) == 1000


async def test_pages_of_large_items_are_cut_so_that_any_client_takes_them(service: Service) -> None:
    padding = "x" * 200_000
    large = [a_session(f"s{number:02}") for number in range(30)]
    for session in large:
        session.search_meta.update({"padding": padding})
    await create_all(service.sessions, large)
    events = [an_event(f"e{number:02}") for number in range(30)]
    for event in events:
        event.meta.update({"padding": padding})
    await push(service.sessions, "s00", events)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        sessions = SessionServiceStub(channel)
        assert await listed(sessions, page_size=1000) == [f"s{number:02}" for number in reversed(range(30))]
        found = await get(sessions, "s00", events_limit=10_000)
        assert found.events_truncated
        assert 1 < len(found.events) < 30
        pages = [page async for page in pages_of_events(sessions, "s00", 10_000)]
        assert [event.event_id for page in pages for event in page] == [event.event_id for event in events]


@pytest.mark.usefixtures("profiled")
async def test_no_call_of_the_session_service_walks_through_a_collection(
    sessions: SessionServiceAsyncStub, clock: Clock
) -> None:
    await three_days_of_sessions(sessions, clock)
    await create(sessions, a_session("s1"))
    await create(sessions, a_session("s1"))
    await push(sessions, "s1", [an_event("e1"), an_event("e2")])
    await push(sessions, "s1", [an_event("e1"), an_event("e3")])
    await push(sessions, "unknown", [an_event("e1")], allow_missing=True)
    await get(sessions, "s1")
    assert [len(page) async for page in pages_of_events(sessions, "s1", 2)] == [2, 1]
    mark = pb.MarkSessionIrrelevantRequest(session_id="s1", reason="test")
    await sessions.MarkSessionIrrelevant(mark)
    await sessions.MarkSessionIrrelevant(mark)
    user: dict[str, Any]
    for user in ({}, {"user_id": "ann"}, {"user_id": ""}):
        for irrelevant in ({}, {"irrelevant": True}, {"irrelevant": False}):
            for window in ({}, {"created_from": clock.time - timedelta(hours=1), "created_before": clock.time}):
                await listed(sessions, page_size=2, **user, **irrelevant, **window)
