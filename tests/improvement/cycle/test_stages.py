"""The stages of a run work at the same time, and hold no more between them the more there is to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.improvement.cycle.loop import OBJECTS, Loop
from tideline.improvement.v1 import improvement_service_pb2 as pb

if TYPE_CHECKING:
    from tests.improvement.cycle.loop import Worker
    from tests.improvement.cycle.stores import GatedStore

USERS = 12
AHEAD = 7
"""One is written; of adjusting, fetching and leasing, each has one done that waits and one that it cannot hand on."""


@pytest.mark.parametrize("loop", [{"chunk_users": 1}], indirect=True)
async def test_while_one_chunk_is_written_the_next_ones_are_leased_read_and_moved_but_not_all(
    loop: Loop, gated: Worker, store: GatedStore
) -> None:
    for number in range(USERS):
        await loop.record(f"user {number}", OBJECTS[1])
    store.gate.clear()
    run_id = (await gated.start()).run_id

    async def leased() -> int:
        return (await gated.runs.GetRun(pb.GetRunRequest(run_id=run_id))).run.users.leased

    async with asyncio.timeout(60):
        while await leased() < AHEAD:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    for _ in range(20):
        assert await leased() == AHEAD
        assert await loop.pending() == {f"user {number}" for number in range(USERS)}, "none is settled"

    store.gate.set()
    assert (await gated.end_of(run_id)).users == pb.UserCounts(leased=USERS, settled=USERS)
