"""Sessions are handed out in batches: page by page, as an export, while others are written."""

from __future__ import annotations

import asyncio
import resource
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.conftest import serving
from tests.clickstream.samples import AWKWARD_IDS, a_session, an_event
from tests.clickstream.worker import record
from tideline.clickstream.v1 import batch_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb
from tideline.rpc.status import reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.batch_service_pb2_grpc import BatchServiceAsyncStub

WRITERS = 16
SESSIONS_EACH = 60
RELEASES = 8
LARGE_BATCH = 10_000
ANSWER_BYTES = 4 * 1024 * 1024
"""What gRPC clients take unless they are told otherwise."""


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), reason_of(failure.value)


async def open_batch(batches: BatchServiceAsyncStub) -> pb.Batch:
    return (await batches.GetBatch(pb.GetBatchRequest())).batch


async def release(batches: BatchServiceAsyncStub, release_id: str) -> pb.Batch:
    return (await batches.ReleaseBatch(pb.ReleaseBatchRequest(release_id=release_id))).batch


async def page(batches: BatchServiceAsyncStub, batch_id: str, **fields: Any) -> pb.GetBatchSessionsResponse:
    return await batches.GetBatchSessions(pb.GetBatchSessionsRequest(batch_id=batch_id, **fields))


async def pages(batches: BatchServiceAsyncStub, batch_id: str, **fields: Any) -> AsyncIterator[pb.SessionWithEvents]:
    """Read a batch from the first session to the end of what is there."""
    last_number = 0
    while True:
        answer = await page(batches, batch_id, after_number=last_number, **fields)
        for session in answer.sessions:
            yield session
        if answer.end_of_batch or not answer.sessions:
            return
        last_number = answer.last_number


async def exported(batches: BatchServiceAsyncStub, batch_id: str, **fields: Any) -> list[pb.SessionWithEvents]:
    call = batches.ExportBatchSessions(pb.ExportBatchSessionsRequest(batch_id=batch_id, **fields))
    return [session async for part in call for session in part.sessions]


async def each_exported(batches: BatchServiceAsyncStub, batch_id: str) -> AsyncIterator[pb.SessionWithEvents]:
    async for part in batches.ExportBatchSessions(pb.ExportBatchSessionsRequest(batch_id=batch_id)):
        for session in part.sessions:
            yield session


def memory_bytes() -> int:
    """How much memory this process, which runs the service too, has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def ids(sessions: list[pb.SessionWithEvents]) -> list[str]:
    return [each.session.session_id for each in sessions]


# Batches


async def test_the_first_session_opens_a_batch_and_a_release_closes_it(service: Service, clock: Clock) -> None:
    assert await refused(open_batch(service.batches)) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_OPEN_BATCH")
    await record(service, "s1")
    opened = await open_batch(service.batches)
    assert (opened.state, opened.session_count, opened.HasField("released_at")) == (pb.BATCH_STATE_OPEN, 1, False)
    clock.advance(timedelta(minutes=1))
    released = await release(service.batches, "r1")
    assert (released.batch_id, released.state, released.release_id) == (
        opened.batch_id,
        pb.BATCH_STATE_RELEASED,
        "r1",
    )
    assert released.released_at.ToDatetime() - released.opened_at.ToDatetime() == timedelta(minutes=1)
    await record(service, "s2")
    following = await open_batch(service.batches)
    assert following.batch_id != opened.batch_id
    assert (await service.batches.GetBatch(pb.GetBatchRequest(batch_id=opened.batch_id))).batch == released


async def test_a_release_that_is_repeated_returns_the_batch_that_it_released(service: Service) -> None:
    await record(service, "s1")
    released = await release(service.batches, "r1")
    assert await release(service.batches, "r1") == released
    await record(service, "s2")
    assert await release(service.batches, "r1") == released
    assert (await open_batch(service.batches)).session_count == 1


async def test_nothing_can_be_released_twice(service: Service) -> None:
    await record(service, "s1")
    await release(service.batches, "r1")
    failed = (grpc.StatusCode.FAILED_PRECONDITION, "NO_OPEN_BATCH")
    assert await refused(release(service.batches, "r2")) == failed


async def test_one_release_that_is_sent_many_times_at_once_closes_one_batch(
    service: Service, settings: Settings, clock: Clock
) -> None:
    async with serving(settings, clock) as other:
        for number in range(10):
            await record(service, f"s{number}", events=0)
            writing = asyncio.gather(*(record(service, f"s{number}/{extra}", events=0) for extra in range(4)))
            releases = [release(each.batches, f"r{number}") for each in (service, other) * 4]
            assert len({batch.batch_id for batch in await asyncio.gather(*releases)}) == 1
            await writing
    listed = (await service.batches.ListBatches(pb.ListBatchesRequest(state=pb.BATCH_STATE_RELEASED))).batches
    assert sorted(batch.release_id for batch in listed) == [f"r{number}" for number in range(10)]


async def test_batches_are_listed_newest_first_page_by_page(service: Service, clock: Clock) -> None:
    for number in range(5):
        await record(service, f"s{number}")
        clock.advance(timedelta(seconds=1))
        if number < 4:
            await release(service.batches, AWKWARD_IDS[number])
    for state, expected in (
        (pb.BATCH_STATE_UNSPECIFIED, ["", *reversed(AWKWARD_IDS[:4])]),
        (pb.BATCH_STATE_RELEASED, [*reversed(AWKWARD_IDS[:4])]),
        (pb.BATCH_STATE_OPEN, [""]),
    ):
        listed: list[str] = []
        token = ""
        while True:
            request = pb.ListBatchesRequest(state=state, page_size=2, page_token=token)
            answer = await service.batches.ListBatches(request)
            listed += [batch.release_id for batch in answer.batches]
            token = answer.next_page_token
            if not token:
                break
        assert listed == expected


# Reading


async def test_unknown_batches_are_not_found(service: Service) -> None:
    missing = (grpc.StatusCode.NOT_FOUND, "BATCH_NOT_FOUND")
    assert await refused(service.batches.GetBatch(pb.GetBatchRequest(batch_id="nowhere"))) == missing
    assert await refused(page(service.batches, "nowhere")) == missing
    assert await refused(exported(service.batches, "nowhere")) == missing


async def test_sessions_come_by_number_with_their_first_events(service: Service, clock: Clock) -> None:
    for number, clicks in enumerate((3, 0, 2)):
        await record(service, f"s{number}", events=clicks)
    batch = await open_batch(service.batches)
    answer = await page(service.batches, batch.batch_id, events_limit=2)
    assert ids(list(answer.sessions)) == ["s0", "s1", "s2"]
    assert [each.session.session_number for each in answer.sessions] == [1, 2, 3]
    assert [[event.event_id for event in each.events] for each in answer.sessions] == [["e0", "e1"], [], ["e0", "e1"]]
    assert [each.events_truncated for each in answer.sessions] == [True, False, False]
    assert await exported(service.batches, batch.batch_id, events_limit=2) == list(answer.sessions)


async def test_the_end_of_a_batch_is_known_only_once_it_is_released(service: Service) -> None:
    for number in range(3):
        await record(service, f"s{number}")
    batch_id = (await open_batch(service.batches)).batch_id
    answer = await page(service.batches, batch_id, limit=2)
    assert (answer.last_number, answer.end_of_batch) == (2, False)
    answer = await page(service.batches, batch_id, after_number=2)
    assert (answer.last_number, answer.end_of_batch) == (3, False)
    answer = await page(service.batches, batch_id, after_number=3)
    assert (answer.last_number, answer.end_of_batch, list(answer.sessions)) == (3, False, [])
    await release(service.batches, "r1")
    assert not (await page(service.batches, batch_id, limit=2)).end_of_batch
    for after_number in (0, 1, 3):
        answer = await page(service.batches, batch_id, after_number=after_number)
        assert (answer.last_number, answer.end_of_batch) == (3, True)


async def test_awkward_ids_come_out_of_a_batch_with_their_events(service: Service) -> None:
    for name in AWKWARD_IDS:
        await record(service, name, user_id=name)
    read = [each async for each in pages(service.batches, (await open_batch(service.batches)).batch_id, limit=2)]
    assert ids(read) == list(AWKWARD_IDS)
    assert all(len(each.events) == 1 for each in read)


async def test_an_answer_is_never_too_large_for_a_client(service: Service) -> None:
    large = a_session("")
    large.search_meta["padding"] = "x" * 700_000
    for number in range(12):
        large.session_id = f"s{number}"
        await service.sessions.CreateSession(session_pb.CreateSessionRequest(session=large))
    batch_id = (await open_batch(service.batches)).batch_id
    answer = await page(service.batches, batch_id, limit=1000)
    assert 0 < len(answer.sessions) < 12
    assert answer.ByteSize() < ANSWER_BYTES
    assert not answer.end_of_batch
    assert len([each async for each in pages(service.batches, batch_id, limit=1000)]) == 12
    call = service.batches.ExportBatchSessions(pb.ExportBatchSessionsRequest(batch_id=batch_id))
    assert [part.ByteSize() < ANSWER_BYTES and len(part.sessions) async for part in call] == [1] * 12


async def test_events_are_cut_where_a_session_would_get_too_large_for_a_client(service: Service) -> None:
    await record(service, "s1", events=0)
    for number in range(24):
        event = an_event(f"e{number:02}")
        event.meta["padding"] = "x" * 200_000
        await service.sessions.PushEvents(session_pb.PushEventsRequest(session_id="s1", events=[event]))
    await record(service, "s2")
    answer = await page(service.batches, (await open_batch(service.batches)).batch_id, events_limit=10_000)
    session, following = answer.sessions
    assert session.events_truncated
    assert [event.event_id for event in session.events] == [f"e{number:02}" for number in range(len(session.events))]
    assert ANSWER_BYTES * 0.8 < answer.ByteSize() < ANSWER_BYTES
    assert (following.session.session_id, following.events_truncated) == ("s2", False)


async def test_an_export_ends_with_the_last_session_at_its_start(service: Service) -> None:
    large = a_session("")
    large.search_meta["padding"] = "x" * 300_000
    for number in range(40):
        large.session_id = f"s{number}"
        await service.sessions.CreateSession(session_pb.CreateSessionRequest(session=large))
    batch_id = (await open_batch(service.batches)).batch_id
    call = service.batches.ExportBatchSessions(pb.ExportBatchSessionsRequest(batch_id=batch_id, after_number=10))
    first = await anext(aiter(call))
    await record(service, "later")
    rest = [each async for part in call for each in part.sessions]
    assert ids([*first.sessions, *rest]) == [f"s{number}" for number in range(10, 40)]


async def test_a_large_batch_is_read_to_the_end_in_flat_memory(
    service: Service, database: Database[dict[str, Any]]
) -> None:
    await record(service, "s1", events=0)
    [document] = database.sessions.find()
    large = document | {"search_meta": {"padding": "x" * 8_000}, "nbytes": 8_200}
    for first in range(2, LARGE_BATCH + 1, 1_000):
        numbers = range(first, min(first + 1_000, LARGE_BATCH + 1))
        database.sessions.insert_many([large | {"_id": f"s{number}", "session_number": number} for number in numbers])
    database.session_batches.update_one({}, {"$set": {"count": LARGE_BATCH}})
    batch_id = (await release(service.batches, "r1")).batch_id
    for read in (
        pages(service.batches, batch_id, limit=1_000),
        each_exported(service.batches, batch_id),
    ):
        memory_at: dict[int, int] = {}
        expected = 0
        async for session in read:
            expected += 1
            assert session.session.session_number == expected
            if expected in {LARGE_BATCH // 4, LARGE_BATCH}:
                memory_at[expected] = memory_bytes()
        # What was read in between has 60 MB.
        assert memory_at[LARGE_BATCH] - memory_at[LARGE_BATCH // 4] < 30_000_000


# Reading while others write


class Reader:
    """Follows the open batch, and goes on with the next one when it ends."""

    def __init__(self, batches: BatchServiceAsyncStub) -> None:
        self._batches = batches
        self.read: list[tuple[str, int, str]] = []
        self.ended: set[str] = set()

    async def follow(self, wanted: int) -> None:
        while len(self.read) < wanted:
            # All of them, since a batch may be opened and released between two looks.
            batches = (await self._batches.ListBatches(pb.ListBatchesRequest())).batches
            for batch in reversed(batches):
                if batch.batch_id not in self.ended:
                    await self._finish(batch.batch_id, wanted)

    async def _finish(self, batch_id: str, wanted: int) -> None:
        last_number = 0
        while len(self.read) < wanted:
            answer = await page(self._batches, batch_id, after_number=last_number, limit=37)
            self.read += [(batch_id, each.session.session_number, each.session.session_id) for each in answer.sessions]
            last_number = answer.last_number
            if answer.end_of_batch:
                break
        self.ended.add(batch_id)


async def test_following_the_open_batch_while_sixteen_write_and_batches_are_released_misses_none_and_repeats_none(
    service: Service, settings: Settings, clock: Clock
) -> None:
    total = WRITERS * SESSIONS_EACH
    written: set[str] = set()
    released: list[pb.Batch] = []
    progress = asyncio.Condition()

    async def write(writer: int, via: Service) -> None:
        for number in range(SESSIONS_EACH):
            session = a_session(f"{writer}/{number}")
            await via.sessions.CreateSession(session_pb.CreateSessionRequest(session=session))
            written.add(session.session_id)
            async with progress:
                progress.notify_all()

    async def release_in_between(via: Service) -> None:
        for number in range(1, RELEASES + 1):
            enough = number * total // (RELEASES + 1)
            async with progress:
                await progress.wait_for(lambda enough=enough: len(written) >= enough)
            released.append(await release(via.batches, f"r{number}"))

    async with serving(settings, clock) as other:
        reader = Reader(service.batches)
        await asyncio.gather(
            *(write(writer, (service, other)[writer % 2]) for writer in range(WRITERS)),
            release_in_between(other),
            reader.follow(total),
        )
    assert len(released) == RELEASES
    assert len(reader.read) == total
    assert {session_id for _, _, session_id in reader.read} == written
    for batch in released:
        numbers = [number for batch_id, number, _ in reader.read if batch_id == batch.batch_id]
        # What ReleaseBatch returned is all that there ever is: nothing was added afterwards.
        assert numbers == list(range(1, batch.session_count + 1))
        assert len(await exported(service.batches, batch.batch_id)) == batch.session_count
