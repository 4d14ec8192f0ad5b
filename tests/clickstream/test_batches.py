"""A batch is opened by its first session and closed by a release."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc

from tests.clickstream.batch_calls import open_batch, release
from tests.clickstream.conftest import serving
from tests.clickstream.samples import AWKWARD_IDS
from tests.clickstream.worker import record, refused
from tideline.clickstream.v1 import batch_service_pb2 as pb

if TYPE_CHECKING:
    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service


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
