"""`tideline.client` against the service as it runs, killed and started again too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from deploy.local.service import Service as Process
from tests.clickstream.calls import create
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.event_pb2 import EVENT_STATUS_ACCEPTED as ACCEPTED
from tideline.clickstream.v1.event_pb2 import EVENT_STATUS_DUPLICATE as DUPLICATE
from tideline.client import AsyncClickstream, Clickstream, EventStream, aio_pages, field_of, pages, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Service

WRITERS, EVENTS = 8, 60


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncClickstream]:
    async with AsyncClickstream(f"127.0.0.1:{service.port}") as client:
        yield client


async def test_pages_go_on_until_the_last_one_for_asyncio_and_for_threads(
    service: Service, client: AsyncClickstream
) -> None:
    for number in range(7):
        await create(client.sessions, a_session(f"s{number}"))
    request = pb.ListSessionsRequest(user_id="ann", page_size=3)
    found = [
        [each.session_id for each in page.sessions] async for page in aio_pages(client.sessions.ListSessions, request)
    ]
    assert [len(page) for page in found] == [3, 3, 1]
    assert sorted(each for page in found for each in page) == [f"s{number}" for number in range(7)]

    def blocking() -> list[list[str]]:
        with Clickstream(f"127.0.0.1:{service.port}") as same:
            return [[each.session_id for each in page.sessions] for page in pages(same.sessions.ListSessions, request)]

    assert await asyncio.to_thread(blocking) == found


async def test_events_are_pushed_over_one_stream_by_many(client: AsyncClickstream) -> None:
    await create(client.sessions, a_session("s1"))
    async with EventStream(client.sessions, unanswered=4) as events:
        outcomes = await asyncio.gather(*(events.push("s1", [an_event(f"e{number}")]) for number in range(50)))
        [again] = await events.push("s1", [an_event("e7")])
    assert {outcome.status for [outcome] in outcomes} == {ACCEPTED}
    assert again.status == DUPLICATE


async def test_one_who_pushes_what_is_refused_hears_of_it_and_the_others_go_on(client: AsyncClickstream) -> None:
    await create(client.sessions, a_session("s1"))
    async with EventStream(client.sessions) as events:
        good = [asyncio.create_task(events.push("s1", [an_event(f"e{number}")])) for number in range(5)]
        bad = asyncio.create_task(events.push("s1", []))
        good += [asyncio.create_task(events.push("s1", [an_event(f"f{number}")])) for number in range(5)]
        outcomes = await asyncio.gather(*good)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await bad
    assert {outcome.status for [outcome] in outcomes} <= {ACCEPTED, DUPLICATE}
    assert (reason_of(failure.value), field_of(failure.value)) == ("INVALID_FIELD", "events")


async def test_a_stream_to_nobody_is_given_up_after_its_patience() -> None:
    async with AsyncClickstream("127.0.0.1:1") as client, EventStream(client.sessions, patience_s=0.05) as events:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await events.push("s1", [an_event("e1")])
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Process]:
    running = Process(
        "clickstream", tmp_path, {"MONGO_URI": str(settings.mongo_uri), "MONGO_DATABASE": settings.mongo_database}
    )
    running.start()
    yield running
    running.stop()


async def test_what_is_acknowledged_over_a_service_that_is_killed_and_started_again_is_there_once(
    process: Process, database: Database[dict[str, Any]]
) -> None:
    acknowledged: list[str] = []
    halfway = asyncio.Event()

    async def kill_and_start() -> None:
        await halfway.wait()
        await asyncio.to_thread(process.kill)
        await asyncio.to_thread(process.start)

    async with AsyncClickstream(process.address) as client, EventStream(client.sessions) as events:
        await create(client.sessions, a_session("s1"))

        async def write(writer: int, killing: asyncio.Task[None]) -> None:
            number = 0
            while number < EVENTS or not killing.done():
                event_id = f"e{writer}-{number}"
                [outcome] = await events.push("s1", [an_event(event_id)])
                assert outcome.status in {ACCEPTED, DUPLICATE}
                acknowledged.append(event_id)
                number += 1
                if len(acknowledged) == WRITERS * EVENTS // 2:
                    halfway.set()

        async with asyncio.TaskGroup() as group:
            killing = group.create_task(kill_and_start())
            for writer in range(WRITERS):
                group.create_task(write(writer, killing))
    stored = [document["_id"]["e"] for document in database.session_events.find({}, {"_id": 1})]
    assert sorted(stored) == sorted(acknowledged)
    assert len(set(acknowledged)) == len(acknowledged) >= WRITERS * EVENTS
