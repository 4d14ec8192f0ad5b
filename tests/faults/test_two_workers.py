"""Two improvement services on one backlog, on a Milvus server (Milvus Lite takes one process at a time)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from deploy.local.client import Client
from deploy.local.milvus_server import MilvusServer, milvus_server_command
from deploy.local.service import Service
from deploy.local.stack import Stack
from tests.faults.backlog import SESSIONS_A_USER, Queue, a_backlog, a_world, personal_rows, until
from tideline.clickstream.v1 import feedback_service_pb2, feedback_service_pb2_grpc
from tideline.improvement.v1 import improvement_service_pb2
from tideline.rpc import status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo import MongoClient

    from deploy.local.world import World

    Personal = Callable[[str], dict[tuple[str, str, int], list[float]]]

USERS = 500
FEWER_USERS = 200
KILLS = 6
SECOND = "second"
LEARNING = {
    # Learn as soon as there is something; in small chunks, so that there is always one half-way; and let users whose
    # worker died come free quickly.
    "SECONDS_INTERVAL": "1",
    "CHUNK_USERS": "25",
    "FEEDBACK_LEASE": "2",
    "DEVICE": "cpu",
    "MILVUS_PATIENCE": "5",
}
RECORDING = {"FEEDBACK_MAX_ATTEMPTS": "1000", "FEEDBACK_MAX_FAILURES": "1000", "FEEDBACK_BACKOFF": "0.5"}
HELD_UP_S = 8
"""How long the vector database is held up: longer than the workers wait for it."""


@pytest.fixture(scope="module")
def database() -> str:
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    if milvus_server_command() is None:
        pytest.skip("no milvus-server: `make test` installs one, TIDELINE_MILVUS_SERVER names another")
    with MilvusServer(tmp_path_factory.mktemp("milvus")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    mongo_uri: str,
    mongo_client: MongoClient[dict[str, Any]],
    milvus: MilvusServer,
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("two_workers"),
        mongo_uri=mongo_uri,
        milvus=milvus.uri,
        database=database,
        clickstream_settings=RECORDING,
        improvement_settings=LEARNING,
    ) as running:
        yield running
    for name in mongo_client.list_database_names():
        if name.startswith(database):
            mongo_client.drop_database(name)


@pytest.fixture
def workers(stack: Stack, database: str) -> Iterator[list[Service]]:
    """The stack's worker and a second one beside it."""
    settings = {
        "MONGO_URI": stack.mongo_uri,
        "MONGO_DATABASE": f"{database}_improvement",
        "MILVUS_URI": stack.milvus_uri,
        "CLICKSTREAM_ADDRESS": stack.clickstream.address,
        "WORKER": SECOND,
        **LEARNING,
    }
    second = Service("improvement", stack.folder / "second", settings)
    second.start()
    yield [stack.improvement, second]
    assert second.stop() == 0


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.clickstream.address, stack.improvement.address) as connected:
        yield connected


@pytest.fixture
def queue(mongo_client: MongoClient[dict[str, Any]], database: str) -> Queue:
    return Queue(mongo_client[f"{database}_clickstream"])


@pytest.fixture(scope="module")
def world() -> World:
    return a_world()


@pytest.fixture
async def collection(client: Client, world: World) -> str:
    name = f"c_{uuid.uuid4().hex[:12]}"
    await client.create_collection(name, world)
    return name


@pytest.fixture
def personal(stack: Stack, database: str, collection: str, mongo_client: MongoClient[dict[str, Any]]) -> Personal:
    """Reads what Milvus has of the users whose ids begin with something."""
    [index] = mongo_client[f"{database}_improvement"].search_indexes.find({"_id": collection})
    return lambda prefix: personal_rows(stack.milvus_uri, index["vectors"], prefix)


@asynccontextmanager
async def learning_later(client: Client) -> AsyncIterator[None]:
    """Nobody learns until the block ends."""
    await client.improvement.PauseSchedule(improvement_service_pb2.PauseScheduleRequest())
    yield
    await client.improvement.ResumeSchedule(improvement_service_pb2.ResumeScheduleRequest())


async def test_two_workers_that_are_killed_all_the_time_settle_each_session_once_and_learn_what_an_undisturbed_one_does(
    client: Client, workers: list[Service], queue: Queue, world: World, collection: str, personal: Personal
) -> None:
    async with learning_later(client):
        await client.record(a_backlog(collection, world, USERS, "troubled "), lambda _: None)
    chance = random.Random(17)
    in_all = USERS * SESSIONS_A_USER
    kills = 0
    restarts: dict[int, asyncio.Task[None]] = {}
    while queue.waits():
        number = chance.randrange(len(workers))
        if kills < KILLS and queue.settled() > in_all * kills // (KILLS + 1) and number not in restarts:
            await asyncio.sleep(chance.uniform(0, 0.2))
            workers[number].kill()
            kills += 1
            restarts[number] = asyncio.create_task(asyncio.to_thread(workers[number].start))
        for started in [number for number, restart in restarts.items() if restart.done()]:
            # Nobody would be left to settle anything, were both not there.
            await restarts.pop(started)
        await asyncio.sleep(0.02)
    await asyncio.gather(*restarts.values())

    assert kills == KILLS
    assert queue.sessions() == [("done", 1)] * in_all
    async with learning_later(client):
        await client.record(a_backlog(collection, world, USERS, "calm "), lambda _: None)
    await until(lambda: not queue.waits())
    troubled, calm = personal("troubled "), personal("calm ")
    assert len(calm) > 3 * USERS
    assert troubled.keys() == calm.keys()
    np.testing.assert_allclose([troubled[row] for row in calm], list(calm.values()), atol=1e-6)


async def test_a_worker_that_was_stopped_for_longer_than_its_leases_is_refused_and_leaves_no_trace(
    client: Client,
    stack: Stack,
    workers: list[Service],
    queue: Queue,
    world: World,
    collection: str,
    personal: Personal,
) -> None:
    async with learning_later(client):
        await client.record(a_backlog(collection, world, FEWER_USERS, "held up "), lambda _: None)
    first, stopped = (worker.process.pid for worker in workers)
    # Otherwise the first one may be through with all users before the second one has begun.
    os.kill(first, signal.SIGSTOP)
    held: list[feedback_service_pb2.FeedbackLease] = []
    while not held:
        await until(lambda: queue.held_by(SECOND))
        os.kill(stopped, signal.SIGSTOP)
        held = queue.held_by(SECOND)
        if not held:
            os.kill(stopped, signal.SIGCONT)
    os.kill(first, signal.SIGCONT)
    await until(lambda: not queue.waits())
    learned = personal("held up ")
    assert len({user for user, _, _ in learned}) == FEWER_USERS

    os.kill(stopped, signal.SIGCONT)

    # What it holds it takes for lost, and what it was writing is put right.
    await _until_it_lost_users(client)
    await until(lambda: not queue.waits())
    assert personal("held up ") == learned
    assert all(settled == ("done", 1) for settled in queue.sessions())
    async with grpc.aio.insecure_channel(stack.clickstream.address) as channel:
        feedback = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await feedback.SettleFeedback(feedback_service_pb2.SettleFeedbackRequest(lease=held[0]))
    assert status.reason_of(refused.value) == "LEASE_LOST"


@pytest.mark.parametrize("fault", ["killed", "held up"])
async def test_a_vector_database_that_is_killed_or_held_up_in_the_middle_of_runs_costs_no_session_and_no_vector(
    fault: str,
    client: Client,
    milvus: MilvusServer,
    workers: list[Service],
    queue: Queue,
    world: World,
    collection: str,
    personal: Personal,
) -> None:
    assert len(workers) == 2
    prefix = f"{fault} under "
    async with learning_later(client):
        await client.record(a_backlog(collection, world, FEWER_USERS, prefix), lambda _: None)
    before = queue.settled()
    await until(lambda: queue.settled() > before + FEWER_USERS // 2)
    if fault == "killed":
        milvus.kill()
    else:
        os.kill(milvus.pid, signal.SIGSTOP)
        await asyncio.sleep(HELD_UP_S)
        os.kill(milvus.pid, signal.SIGCONT)
    while queue.waits():
        # One that was held up for longer than its session in etcd lasts shuts itself down when it finds out, and may
        # never come to the end of that. In a cluster, too, somebody looks after it, kills it and starts it again.
        if not await asyncio.to_thread(milvus.healthy):
            await asyncio.to_thread(milvus.kill)
            await asyncio.to_thread(milvus.start)
        await asyncio.sleep(0.05)

    assert all(settled == ("done", 1) for settled in queue.sessions())
    async with learning_later(client):
        await client.record(a_backlog(collection, world, FEWER_USERS, f"calm {prefix}"), lambda _: None)
    await until(lambda: not queue.waits())
    troubled, calm = personal(prefix), personal(f"calm {prefix}")
    assert len(calm) > 3 * FEWER_USERS
    assert troubled.keys() == calm.keys()
    np.testing.assert_allclose([troubled[row] for row in calm], list(calm.values()), atol=1e-6)


async def _until_it_lost_users(client: Client) -> None:
    async def has_lost() -> bool:
        runs = (await client.improvement.ListRuns(improvement_service_pb2.ListRunsRequest())).runs
        return any(run.owner == SECOND and run.users.lost and run.HasField("finished_at") for run in runs)

    await until(has_lost)
