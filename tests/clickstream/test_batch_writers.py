"""A batch is read while others write to it, and release it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.clickstream.batch_calls import exported, page, release
from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session
from tideline.clickstream.v1 import batch_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb

if TYPE_CHECKING:
    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.batch_service_pb2_grpc import BatchServiceAsyncStub

WRITERS = 16
SESSIONS_EACH = 60
RELEASES = 8


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
