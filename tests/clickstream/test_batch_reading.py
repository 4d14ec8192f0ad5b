"""The sessions of a batch are handed out with their events, page by page or as an export."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from clickstream_service.storage.mongo_batches import MongoBatches
from deploy.local.service import Service as Process
from tests.clickstream.batch_calls import each_exported, exported, ids, open_batch, page, pages, release
from tests.clickstream.samples import AWKWARD_IDS, a_session, an_event
from tests.clickstream.worker import record, refused
from tideline.clickstream.v1 import batch_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb
from tideline.clickstream.v1.batch_service_pb2_grpc import BatchServiceStub
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest
    from pymongo.database import Database

    from clickstream_service.domain.batch import Batch
    from clickstream_service.domain.session import SessionWithEvents
    from tests.clickstream.conftest import Clock, Service

ANSWER_BYTES = 4 * 1024 * 1024
"""What gRPC clients take unless they are told otherwise."""
LARGE_BATCH = 10_000


def memory_bytes(pid: int) -> int:
    """How much memory a process has now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


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


async def test_what_comes_in_after_a_page_was_read_is_on_it_when_the_batch_turns_out_to_be_released(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(service, "s0")
    batch_id = (await open_batch(service.batches)).batch_id
    find, sessions, read = MongoBatches.find, MongoBatches.sessions, asyncio.Event()

    async def reading(self: MongoBatches, *which: Any) -> AsyncGenerator[SessionWithEvents, None]:
        async for session in sessions(self, *which):
            yield session
        read.set()

    async def find_late(self: MongoBatches, batch_id: str) -> Batch | None:
        await read.wait()
        await record(service, "s1")
        await release(service.batches, "r1")
        return await find(self, batch_id)

    monkeypatch.setattr(MongoBatches, "sessions", reading)
    monkeypatch.setattr(MongoBatches, "find", find_late)
    answer = await page(service.batches, batch_id)
    assert ids(list(answer.sessions)) == ["s0", "s1"]
    assert (answer.last_number, answer.end_of_batch) == (2, True)


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
    service: Service, database: Database[dict[str, Any]], mongo_uri: str, tmp_path: Path
) -> None:
    await record(service, "s1", events=0)
    [document] = database.sessions.find()
    large = document | {"search_meta": {"padding": "x" * 8_000}, "nbytes": 8_200}
    for first in range(2, LARGE_BATCH + 1, 1_000):
        numbers = range(first, min(first + 1_000, LARGE_BATCH + 1))
        database.sessions.insert_many([large | {"_id": f"s{number}", "session_number": number} for number in numbers])
    database.session_batches.update_one({}, {"$set": {"count": LARGE_BATCH}})
    batch_id = (await release(service.batches, "r1")).batch_id
    reader = Process("clickstream", tmp_path, {"MONGO_URI": mongo_uri, "MONGO_DATABASE": database.name})
    await asyncio.to_thread(reader.start)
    try:
        async with grpc.aio.insecure_channel(reader.address, options=OPTIONS) as channel:
            batches = BatchServiceStub(channel)
            for read in (pages(batches, batch_id, limit=1_000), each_exported(batches, batch_id)):
                memory_at: dict[int, int] = {}
                expected = 0
                async for session in read:
                    expected += 1
                    assert session.session.session_number == expected
                    if expected in {LARGE_BATCH // 4, LARGE_BATCH}:
                        memory_at[expected] = memory_bytes(reader.process.pid)
                # What was read in between has 60 MB.
                assert memory_at[LARGE_BATCH] - memory_at[LARGE_BATCH // 4] < 30_000_000
    finally:
        await asyncio.to_thread(reader.stop)
