"""Runs and the schedule, as an operator sees them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from improvement_service.improvement import Improvement
from improvement_service.storage.schedule import MongoSchedule
from tests.improvement.cycle.loop import OBJECTS, Loop, working
from tideline.improvement.v1 import improvement_service_pb2 as pb
from tideline.rpc import status

if TYPE_CHECKING:
    from pymongo import MongoClient

    from tests.improvement.cycle.conftest import Leases
    from tests.improvement.cycle.loop import Worker
    from tests.improvement.cycle.stores import GatedStore


async def test_a_run_is_watched_until_its_end_here_and_from_another_replica(
    loop: Loop, gated: Worker, store: GatedStore
) -> None:
    await loop.record("ann", OBJECTS[1])
    store.gate.clear()
    run_id = (await gated.start()).run_id
    here, there = gated.watch(run_id), loop.worker.watch(run_id)
    for states in (here, there):
        while not (run := await anext(states)).users.leased:
            assert run.state == pb.RUN_STATE_RUNNING
        assert run.users.settled == 0

    store.gate.set()
    [*_, last_here] = [run async for run in here]
    [*_, last_there] = [run async for run in there]

    assert last_here == last_there
    assert last_here.state == pb.RUN_STATE_SUCCEEDED
    assert last_here.owner == "w2"
    assert last_here.users == pb.UserCounts(leased=1, settled=1)
    assert (await gated.runs.GetRun(pb.GetRunRequest(run_id=run_id))).run == last_here
    assert [run async for run in loop.worker.watch(run_id)] == [last_here], "a run that is over is told once"


async def test_asking_for_a_run_while_one_is_under_way_returns_that_one(
    loop: Loop, gated: Worker, store: GatedStore
) -> None:
    await loop.record("ann", OBJECTS[1])
    store.gate.clear()
    first = await gated.start()
    await store.reached.wait()

    assert (await gated.start()).run_id == first.run_id
    assert (await loop.worker.start()).run_id != first.run_id, "another process has a run of its own"

    store.gate.set()
    [*_, over] = [run async for run in gated.watch(first.run_id)]
    assert over.users == pb.UserCounts(leased=1, settled=1)
    assert (await gated.start()).run_id != first.run_id


async def test_runs_are_listed_newest_first_page_by_page(loop: Loop) -> None:
    ran = [(await loop.worker.run()).run_id for _ in range(5)]

    found: list[str] = []
    token = ""
    while True:
        answer = await loop.worker.runs.ListRuns(pb.ListRunsRequest(page_size=2, page_token=token))
        found += [run.run_id for run in answer.runs]
        token = answer.next_page_token
        if not token:
            break

    assert found == ran[::-1]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await loop.worker.runs.ListRuns(pb.ListRunsRequest(page_token="made up"))  # noqa: S106
    assert status.reason_of(refused.value) == "INVALID_PAGE_TOKEN"


async def test_a_run_that_is_not_there_is_not_found(loop: Loop) -> None:
    for call in (
        loop.worker.runs.GetRun(pb.GetRunRequest(run_id="x")),
        anext(loop.worker.watch("x")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert status.reason_of(refused.value) == "RUN_NOT_FOUND"


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[bool]:
    """Hears of every look at whether the schedule is paused."""
    looked: asyncio.Queue[bool] = asyncio.Queue()
    is_paused = MongoSchedule.is_paused

    async def look(self: MongoSchedule) -> bool:
        paused = await is_paused(self)
        looked.put_nowait(paused)
        return paused

    monkeypatch.setattr(MongoSchedule, "is_paused", look)
    return looked


async def test_the_schedule_runs_by_itself_unless_any_replica_was_told_to_pause(
    loop: Loop, looked: asyncio.Queue[bool]
) -> None:
    paused = (await loop.worker.runs.PauseSchedule(pb.PauseScheduleRequest())).schedule
    assert paused.paused
    assert not paused.HasField("next_run_at")
    await loop.record("ann", OBJECTS[1])
    every_second = loop.settings.model_copy(update={"worker": "w2", "seconds_interval": 1})
    async with working(every_second) as other:
        looked.get_nowait()
        for _ in range(2):
            assert await looked.get(), "a tick that finds it paused"
        assert await loop.pending() == {"ann"}
        assert not (await other.runs.ListRuns(pb.ListRunsRequest())).runs

        resumed = (await loop.worker.runs.ResumeSchedule(pb.ResumeScheduleRequest())).schedule
        assert not resumed.paused
        assert resumed.next_run_at.ToDatetime(UTC) > datetime.now(UTC)
        while await loop.pending():
            await looked.get()
        while not (runs := (await other.runs.ListRuns(pb.ListRunsRequest())).runs):
            await looked.get()

        [*_, run] = [run async for run in other.watch(runs[0].run_id)]
        assert run.trigger == pb.RUN_TRIGGER_SCHEDULE
        assert run.owner == "w2"
        assert run.users == pb.UserCounts(leased=1, settled=1)
        await looked.get()
        await looked.get()
        listed = (await other.runs.ListRuns(pb.ListRunsRequest())).runs
        assert [run.run_id for run in listed] == [run.run_id], "runs that find nothing are not worth recording"


async def test_the_schedule_says_when_it_is_due(loop: Loop) -> None:
    schedule = (await loop.worker.runs.GetSchedule(pb.GetScheduleRequest())).schedule

    assert schedule.interval.ToTimedelta() == timedelta(minutes=30)
    assert not schedule.paused
    ahead = schedule.next_run_at.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(minutes=29) < ahead <= timedelta(minutes=30)


async def test_a_run_whose_worker_died_shows_as_interrupted(
    loop: Loop, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    runs = mongo_client[loop.settings.mongo_database].runs
    dead = {**_a_run("dead"), "saved_at": datetime.now(UTC) - timedelta(minutes=2)}
    alive = {**_a_run("alive"), "saved_at": datetime.now(UTC)}
    runs.insert_many([dead, alive])

    found = {run.run_id: run for run in (await loop.worker.runs.ListRuns(pb.ListRunsRequest())).runs}

    assert found["dead"].state == pb.RUN_STATE_INTERRUPTED
    assert found["dead"].HasField("finished_at")
    assert found["alive"].state == pb.RUN_STATE_RUNNING


def _a_run(run_id: str) -> dict[str, Any]:
    return {
        "_id": run_id,
        "trigger": "schedule",
        "owner": "w9",
        "started_at": datetime.now(UTC),
        "state": "running",
        "finished_at": None,
        "error": "",
        "users": {"leased": 0, "settled": 0, "failed": 0, "lost": 0},
        "sessions": {},
        "by_reason": [],
        "turned": {"vectors": 0, "sum": 0.0, "max": 0.0},
        "copies_removed": 0,
        "durations_s": {},
    }


async def test_a_worker_that_comes_back_under_its_name_ends_what_it_left_behind(
    loop: Loop, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    runs = mongo_client[loop.settings.mongo_database].runs
    runs.insert_one({**_a_run("left behind"), "saved_at": datetime.now(UTC)})
    async with working(loop.settings.model_copy(update={"worker": "w9"})) as worker:
        run = (await worker.runs.GetRun(pb.GetRunRequest(run_id="left behind"))).run
    assert run.state == pb.RUN_STATE_INTERRUPTED


async def test_a_service_that_is_stopped_settles_what_it_writes_and_gives_back_the_rest(
    loop: Loop, store: GatedStore, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"user {number}" for number in range(8)]
    for user_id in users:
        await loop.record(user_id, OBJECTS[1])
    store.gate.clear()
    slow = loop.settings.model_copy(update={"worker": "w2", "chunk_users": 1})

    wind_down = Improvement.wind_down

    def open_then(self: Improvement) -> None:
        """The stop begins while a write is under way, which then ends."""
        wind_down(self)
        store.gate.set()

    monkeypatch.setattr(Improvement, "wind_down", open_then)
    async with working(slow, store) as worker:
        run_id = (await worker.start()).run_id
        await store.reached.wait()

    run = (await loop.worker.runs.GetRun(pb.GetRunRequest(run_id=run_id))).run
    assert run.state == pb.RUN_STATE_INTERRUPTED
    assert run.users.settled == 1
    assert len(await loop.pending()) == 7
    assert leases.count_documents({"owner": {"$exists": True}}) == 0
    assert (await loop.worker.run()).users == pb.UserCounts(leased=7, settled=7)
