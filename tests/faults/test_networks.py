"""Networks that are slow, hang up or swallow everything: before Milvus, and between the services."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import pytest_asyncio

from deploy.local.client import Client
from deploy.local.milvus_server import MilvusServer, milvus_server_command
from deploy.local.service import Service
from tests.faults.backlog import SESSIONS_A_USER, Queue, a_backlog, a_world, personal_rows, until
from tests.faults.proxy import Proxy
from tideline.common.v1.error_reason_pb2 import ERROR_REASON_DEPENDENCY_UNAVAILABLE
from tideline.improvement.v1 import improvement_service_pb2, search_service_pb2
from tideline.rpc import status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo import MongoClient
    from pymongo.database import Database

Learned = dict[tuple[str, str, int], list[float]]
pytestmark = pytest.mark.asyncio(loop_scope="module")

COLLECTION = "shop"
USERS = 24
PATIENCE_S = "1"
WAITS_S = 60.0
"""For how long the callers would wait: longer than any service may."""
IN_A_HURRY_S = 0.2
AT_ONCE = 6
"""More than the failures after which a breaker opens."""
WORLD = a_world()
LEARNING = {
    "SECONDS_INTERVAL": "3600",
    "CHUNK_USERS": "4",
    "FEEDBACK_LEASE": "2",
    "DEVICE": "cpu",
    "MILVUS_PATIENCE": PATIENCE_S,
    "CLICKSTREAM_PATIENCE": PATIENCE_S,
}
RECORDING = {"FEEDBACK_MAX_ATTEMPTS": "1000", "FEEDBACK_MAX_FAILURES": "1000", "FEEDBACK_BACKOFF": "0.5"}


@dataclass(frozen=True)
class Whole:
    """Both services, with networks of ours between them."""

    client: Client
    clickstream: Service
    database: Database[dict[str, Any]]
    before_milvus: Proxy
    between: Proxy
    milvus_uri: str
    vectors: str

    @property
    def queue(self) -> Queue:
        return Queue(self.database)

    async def record(self, prefix: str) -> None:
        """A backlog of users whose ids begin with this."""
        await self.client.record(a_backlog(COLLECTION, WORLD, USERS, prefix), lambda _: None)

    async def half_way(self) -> str:
        """Begin to learn from what waits; returns the run once it has settled some."""
        before = self.queue.settled()
        while True:
            started = await self.client.improvement.RunImprovement(improvement_service_pb2.RunImprovementRequest())
            run_id = started.run.run_id
            if await self._settled_or_over(run_id, before):
                return run_id
            # Who waits was held by the run before, which could not give anybody back.

    async def _settled_or_over(self, run_id: str, before: int) -> bool:
        get = improvement_service_pb2.GetRunRequest(run_id=run_id)
        running = improvement_service_pb2.RUN_STATE_RUNNING
        while self.queue.settled() == before:
            if (await self.client.improvement.GetRun(get)).run.state != running:
                return self.queue.settled() > before
            await asyncio.sleep(0.02)
        return True

    async def end_of(self, run_id: str) -> improvement_service_pb2.Run:
        request = improvement_service_pb2.WatchRunRequest(run_id=run_id)
        states = [state.run async for state in self.client.improvement.WatchRun(request)]
        return states[-1]

    async def learn_all(self) -> None:
        """Run until nobody waits any more: users whose worker could not give them back come free after a while."""
        while self.queue.waits():
            await self.client.run(lambda _: None)

    async def personal(self, prefix: str) -> Learned:
        return await asyncio.to_thread(personal_rows, self.milvus_uri, self.vectors, prefix)

    async def search(self, *, record: bool = False, waits_s: float = WAITS_S) -> search_service_pb2.SearchResponse:
        request = search_service_pb2.SearchRequest(
            collection=COLLECTION,
            query_vector=WORLD.query_vectors[0].tolist(),
            limit=10,
            record_session=search_service_pb2.RecordSession() if record else None,
        )
        return await self.client.searches.Search(request, timeout=waits_s)

    async def is_searched(self) -> bool:
        """Whether searches are answered; the only other answer is that the vector database is not there."""
        failures = await self.failures_of_searches()
        assert failures <= {"", "DEPENDENCY_UNAVAILABLE"}
        return failures == {""}

    async def is_recorded(self) -> bool:
        answer = await self.search(record=True)
        assert bool(answer.session_id) is not bool(answer.not_recorded)
        return bool(answer.session_id)

    async def failures_of_searches(self) -> set[str]:
        answers = await asyncio.gather(*(self.search() for _ in range(AT_ONCE)), return_exceptions=True)
        return {_reason(each) for each in answers}

    async def compare(self, prefix: str, calm: Learned) -> None:
        """Each session was settled once, and what was learned is what is learned without faults."""
        rows = self.database.sessions_for_improvement.find({"_id": {"$regex": f"^{prefix}"}})
        settled = [(row["state"], row["settlements"]) for row in rows]
        assert settled == [("done", 1)] * (USERS * SESSIONS_A_USER)
        learned = await self.personal(prefix)
        assert learned.keys() == calm.keys()
        np.testing.assert_allclose([learned[row] for row in calm], list(calm.values()), atol=1e-6)


def _reason(answer: object) -> str:
    if not isinstance(answer, BaseException):
        return ""
    return status.reason_of(answer) if isinstance(answer, grpc.RpcError) else repr(answer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(
    mongo_uri: str, mongo_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Whole]:
    if milvus_server_command() is None:
        pytest.skip("no milvus-server: `make test` installs one, TIDELINE_MILVUS_SERVER names another")
    folder, name = tmp_path_factory.mktemp("networks"), f"test_{uuid.uuid4().hex[:12]}"
    mongo = {"MONGO_URI": mongo_uri}
    async with AsyncExitStack() as stack:
        milvus = stack.enter_context(await asyncio.to_thread(MilvusServer, folder))
        before_milvus = await stack.enter_async_context(Proxy(int(milvus.uri.rpartition(":")[2])))
        clickstream = Service("clickstream", folder, {**mongo, "MONGO_DATABASE": f"{name}_clickstream", **RECORDING})
        await asyncio.to_thread(clickstream.start)
        stack.callback(clickstream.stop)
        between = await stack.enter_async_context(Proxy(int(clickstream.address.rpartition(":")[2])))
        improvement = Service(
            "improvement",
            folder,
            {
                **mongo,
                **LEARNING,
                "MONGO_DATABASE": f"{name}_improvement",
                "MILVUS_URI": f"http://127.0.0.1:{before_milvus.port}",
                "CLICKSTREAM_ADDRESS": f"127.0.0.1:{between.port}",
            },
        )
        await asyncio.to_thread(improvement.start)
        stack.callback(improvement.stop)
        client = await stack.enter_async_context(Client(clickstream.address, improvement.address))
        await client.create_collection(COLLECTION, WORLD)
        [index] = mongo_client[f"{name}_improvement"].search_indexes.find()
        database = mongo_client[f"{name}_clickstream"]
        yield Whole(client, clickstream, database, before_milvus, between, milvus.uri, index["vectors"])
    for each in ("clickstream", "improvement"):
        mongo_client.drop_database(f"{name}_{each}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calm(whole: Whole) -> Learned:
    """What is learned while all networks are well."""
    await whole.record("calm ")
    await whole.learn_all()
    learned = await whole.personal("calm ")
    assert len(learned) > 3 * USERS
    return learned


async def test_without_a_network_to_the_vector_database_searches_say_so_and_runs_fail_and_are_made_up_for(
    whole: Whole, calm: Learned
) -> None:
    network, well = whole.before_milvus, await whole.search()
    await whole.record("Milvus ")
    network.delay(0.2)
    assert await whole.search() == well
    network.heal()
    for fault in (network.swallow, network.hang_up):
        run_id = await whole.half_way()
        fault()
        with pytest.raises(grpc.RpcError) as hurried:
            await whole.search(waits_s=IN_A_HURRY_S)
        assert hurried.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        # Those that wait for an answer, and those that come when nobody is asked any more.
        assert await whole.failures_of_searches() == {"DEPENDENCY_UNAVAILABLE"}
        assert await whole.failures_of_searches() == {"DEPENDENCY_UNAVAILABLE"}
        ended = await whole.end_of(run_id)
        # A run that had read all originals by then fails its users, one that had not fails itself.
        if ended.state == improvement_service_pb2.RUN_STATE_FAILED:
            assert ended.error == "the vector database does not answer"
        else:
            assert ended.users.failed
        network.heal()
        await until(whole.is_searched)
        assert await whole.search() == well
    await whole.learn_all()
    await whole.compare("Milvus ", calm)


async def test_without_a_network_between_the_services_searches_are_answered_and_runs_end_and_are_made_up_for(
    whole: Whole, calm: Learned
) -> None:
    network, well = whole.between, await whole.search()
    await whole.record("between ")
    network.delay(0.2)
    assert (await whole.search(record=True)).session_id
    network.heal()
    for fault in (network.swallow, network.hang_up):
        run_id = await whole.half_way()
        fault()
        for _ in range(2):
            for answer in await asyncio.gather(*(whole.search(record=True) for _ in range(AT_ONCE))):
                assert (answer.session_id, answer.not_recorded) == ("", ERROR_REASON_DEPENDENCY_UNAVAILABLE)
                assert answer.results == well.results
        ended = await whole.end_of(run_id)
        # What cannot be settled fails user by user, unless there is nothing to settle yet.
        assert ended.users.failed or ended.users.lost or ended.error == "the clickstream service does not answer"
        network.heal()
        await until(whole.is_recorded)
    await whole.learn_all()
    await whole.compare("between ", calm)


async def test_a_clickstream_service_that_is_killed_in_the_middle_of_a_run_costs_no_session_and_no_vector(
    whole: Whole, calm: Learned
) -> None:
    await whole.record("killed ")
    run_id = await whole.half_way()
    whole.clickstream.kill()
    await whole.end_of(run_id)
    await asyncio.to_thread(whole.clickstream.start)
    await whole.client.channels[0].channel_ready()
    await until(whole.is_recorded)
    await whole.learn_all()
    await whole.compare("killed ", calm)
