"""Who may write a user's copies, when workers are slow, stopped or overtaken."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import improvement_service.app
from improvement_service.feedback.client import ClickstreamClient
from tests.faults.backlog import until
from tests.improvement.cycle.loop import OBJECTS, Loop, working
from tideline.improvement.v1 import improvement_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo import MongoClient

    from improvement_service.domain.feedback import Lease
    from tests.improvement.cycle.conftest import Leases
    from tests.improvement.cycle.loop import Worker
    from tests.improvement.cycle.stores import GatedStore

IN_A_SECOND = pytest.mark.parametrize("loop", [{"feedback_lease": timedelta(seconds=1)}], indirect=True)


@pytest.fixture
def renewed(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[Sequence[Lease]]:
    """Hears which leases are lost, of every renewal."""
    renewed: asyncio.Queue[Sequence[Lease]] = asyncio.Queue()
    renew = ClickstreamClient.renew

    async def listening(self: ClickstreamClient, leases: Sequence[Lease], duration: timedelta) -> list[Lease]:
        lost = await renew(self, leases, duration)
        renewed.put_nowait(lost)
        return lost

    monkeypatch.setattr(ClickstreamClient, "renew", listening)
    return renewed


@IN_A_SECOND
async def test_users_are_held_for_as_long_as_a_run_needs(
    loop: Loop, gated: Worker, store: GatedStore, renewed: asyncio.Queue[Sequence[Lease]]
) -> None:
    await loop.record("ann", OBJECTS[1])
    store.gate.clear()
    run_id = (await gated.start()).run_id
    for _ in range(4):
        assert await renewed.get() == []
    assert (await loop.worker.run()).users == pb.UserCounts(), "nobody else gets hold of the user"

    store.gate.set()

    assert (await gated.end_of(run_id)).users == pb.UserCounts(leased=1, settled=1)


@IN_A_SECOND
async def test_a_worker_that_hears_that_a_lease_is_lost_does_not_write(
    loop: Loop, gated: Worker, store: GatedStore, leases: Leases, renewed: asyncio.Queue[Sequence[Lease]]
) -> None:
    await loop.record("ann", OBJECTS[1])
    store.reading.clear()
    run_id = (await gated.start()).run_id
    await renewed.get()
    leases.update_one({"_id": "ann"}, {"$inc": {"fence": 1}})
    while not await renewed.get():
        pass

    store.reading.set()

    assert (await gated.end_of(run_id)).users == pb.UserCounts(leased=1, lost=1)
    assert not store.reached.is_set()
    assert await loop.personal("ann") == {}


async def test_a_worker_that_lost_its_lease_is_refused_and_what_it_wrote_late_is_put_right(
    loop: Loop, gated: Worker, store: GatedStore, leases: Leases
) -> None:
    await loop.record("ann", OBJECTS[1])
    store.gate.clear()
    run_id = (await gated.start()).run_id
    await store.reached.wait()
    # The first worker has looked at its lease, and is about to write: it is stopped here until the lease is over.
    leases.update_one({"_id": "ann"}, {"$set": {"available_at": datetime.now(UTC)}})
    await loop.record("ann", OBJECTS[4])
    run = await loop.worker.run()
    assert run.users == pb.UserCounts(leased=1, settled=1)
    learned = await loop.personal("ann")
    assert set(learned) == set(OBJECTS[:5])

    store.gate.set()
    late = await gated.end_of(run_id)

    assert late.users == pb.UserCounts(leased=1, lost=1)
    assert await loop.pending() == {"ann"}, "its write came after the other's, and has to be overwritten"
    await loop.worker.run()
    assert await loop.personal("ann") == learned
    assert await loop.pending() == set()


async def test_a_worker_whose_lease_was_taken_over_before_it_writes_writes_nothing(
    loop: Loop, gated: Worker, store: GatedStore, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    await loop.record("ann", OBJECTS[1])
    writes = mongo_client[loop.settings.mongo_database].personal_writes
    writes.insert_one({"_id": "ann", "fence": 2**62, "collections": []})

    run = await gated.run()

    assert run.users == pb.UserCounts(leased=1, lost=1)
    assert not store.reached.is_set()
    assert await loop.personal("ann") == {}


@pytest.mark.parametrize("loop", [{"chunk_users": 1}], indirect=True)
async def test_a_worker_that_is_stopped_in_the_middle_gives_back_all_users_those_it_had_not_read_among_them(
    loop: Loop, store: GatedStore, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(improvement_service.app, "SETTLING", timedelta(milliseconds=100))
    for number in range(40):
        await loop.record(f"user {number}", OBJECTS[1])
    store.gate.clear()
    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        await worker.start()
        await until(lambda: leases.count_documents({"owner": "w2"}) >= 10)
    # At once, but for users whom the service was leasing when it heard that the worker had gone.
    await until(lambda: not leases.count_documents({"owner": {"$exists": True}}))
    assert (await loop.worker.run()).users == pb.UserCounts(leased=40, settled=40)
