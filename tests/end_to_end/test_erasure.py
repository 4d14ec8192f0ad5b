"""A user is erased while events stream in, runs are under way and both services are killed: no trace is left."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from pymilvus import MilvusClient
from pymongo import MongoClient

from deploy.local.client import Client
from deploy.local.milvus_server import milvus_server_command
from deploy.local.stack import SERVER, Stack
from deploy.local.world import World
from tideline.clickstream.v1 import (
    batch_service_pb2,
    event_pb2,
    interaction_pb2,
    interaction_service_pb2,
    interaction_service_pb2_grpc,
    privacy_service_pb2,
    privacy_service_pb2_grpc,
    session_service_pb2,
)
from tideline.improvement.v1 import improvement_service_pb2, search_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

ANN = "ann-4711-who-wants-to-be-forgotten"
BOB = "bob-0815-who-stays"
FINISHED = privacy_service_pb2.ERASURE_STATE_FINISHED


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, mongo_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, since its services are killed; on Milvus Lite when there is no server."""
    kind = SERVER if milvus_server_command() is not None else "lite"
    database = f"test_{uuid.uuid4().hex[:12]}"
    running = Stack(
        tmp_path_factory.mktemp("erasure"),
        mongo_uri=mongo_uri,
        milvus=kind,
        database=database,
        clickstream_settings={"ERASURE_PATIENCE": "1", "ERASURE_EVERY": "0.1"},
        improvement_settings={"FEEDBACK_LEASE": "3", "SECONDS_INTERVAL": "1"},
    )
    with running:
        yield running
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        for name in client.list_database_names():
            if name.startswith(database):
                client.drop_database(name)


@pytest.fixture(scope="module")
def world() -> World:
    scatter = np.random.default_rng(7)
    items = np.eye(1, 16, dtype=np.float32) + scatter.normal(0, 0.15, (40, 16)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    return World(
        items=[{"object_id": f"item {number}", "title": f"Item {number}"} for number in range(40)],
        queries=["near"],
        users=[],
        item_vectors=items,
        query_vectors=np.eye(1, 16, dtype=np.float32),
        simulated=True,
    )


class Shopper:
    """Searches, clicks and submits as one user without a pause, whatever is down, until told to stop."""

    def __init__(self, client: Client, interactions: Any, collection: str, world: World, user_id: str) -> None:
        self._client, self._interactions = client, interactions
        self._collection, self._world, self._user_id = collection, world, user_id
        self.done = 0
        self.refused = 0

    async def shop(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._once(f"item {self.done % 10}")
                self.done += 1
            except grpc.aio.AioRpcError as error:
                self.refused += error.code() is grpc.StatusCode.FAILED_PRECONDITION
                await asyncio.sleep(0.01)

    async def _once(self, object_id: str) -> None:
        request = search_service_pb2.SearchRequest(
            collection=self._collection,
            query_vector=self._world.query_vectors[0].tolist(),
            user_id=self._user_id,
            limit=10,
            record_session=search_service_pb2.RecordSession(),
        )
        session_id = (await self._client.searches.Search(request, timeout=5)).session_id
        click = event_pb2.Event(event_id="click", object_id=object_id, event_types=["click"])
        push = session_service_pb2.PushEventsRequest(session_id=session_id, events=[click])
        await self._client.sessions.PushEvents(push, timeout=5)
        alone = interaction_pb2.Interaction(
            interaction_id=uuid.uuid4().hex, feature_id=object_id, interaction_types=["purchase"], user_id=self._user_id
        )
        await self._interactions.RecordInteraction(
            interaction_service_pb2.RecordInteractionRequest(interaction=alone), timeout=5
        )
        use = batch_service_pb2.UseSessionForImprovementRequest(session_id=session_id)
        await self._client.batches.UseSessionForImprovement(use, timeout=5)


async def test_the_command_prints_the_receipt(stack: Stack) -> None:
    command = [sys.executable, "-m", "tideline.cli", "erase", "nobody", "--address", stack.clickstream.address]
    printed = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    assert "finished" in printed.stdout


# The last one: it stops the services, to look into their databases.
async def test_nothing_is_left_of_a_user_who_is_erased_under_fire(stack: Stack, world: World, mongo_uri: str) -> None:
    collection = "shop"
    stop = asyncio.Event()
    async with (
        Client(stack.clickstream.address, stack.improvement.address) as client,
        grpc.aio.insecure_channel(stack.clickstream.address) as channel,
    ):
        await client.create_collection(collection, world)
        interactions = interaction_service_pb2_grpc.InteractionServiceStub(channel)
        privacy = privacy_service_pb2_grpc.PrivacyServiceStub(channel)
        ann = [Shopper(client, interactions, collection, world, ANN) for _ in range(3)]
        bob = Shopper(client, interactions, collection, world, BOB)
        # A shopper that fails ends all of it: what is waited for would never come.
        async with asyncio.TaskGroup() as group:
            for shopper in (*ann, bob):
                group.create_task(shopper.shop(stop))
            group.create_task(keep_running(client, stop))
            await until_personal(client, collection, world, ANN)
            await until_personal(client, collection, world, BOB)

            receipts = [await erase(privacy, within_s=0.5)]
            stack.clickstream.kill()
            stack.clickstream.start()
            receipts.append(await erase(privacy))
            stack.improvement.kill()
            receipts.append(await erase(privacy))
            stack.clickstream.kill()
            stack.improvement.start()
            stack.clickstream.start()
            receipt = await erased(privacy)
            stop.set()

        assert any(seen is not None and seen.erased["sessions"] for seen in (*receipts, receipt))
        assert sum(shopper.refused for shopper in ann) > 0, "it came in while the erasure was under way"
        # What she did after the end was anew: with nobody writing any more, the last word is the erasure's.
        receipt = await erased(privacy)
        found = await client.search(collection, world.query_vectors[0], user_id=ANN, limit=40)
        assert not any(result.personal for result in found)
    stack.improvement.stop()
    stack.clickstream.stop()

    with MongoClient[dict[str, Any]](mongo_uri) as mongo:
        databases = [name for name in mongo.list_database_names() if name.startswith(stack.database)]
        assert len(databases) == 2
        where = {user_id: traces(mongo, databases, user_id) for user_id in (ANN, BOB)}
    assert where[ANN] == set()
    assert {"sessions", "session_events", "user_leases", "personal_versions"} <= where[BOB], "it would find some"
    owners = user_ids_in_milvus(stack.milvus_uri)
    assert ANN not in owners
    assert BOB in owners


async def keep_running(client: Client, stop: asyncio.Event) -> None:
    """Start run after run."""
    while not stop.is_set():
        with suppress(grpc.aio.AioRpcError):
            await client.improvement.RunImprovement(improvement_service_pb2.RunImprovementRequest(), timeout=5)
        await asyncio.sleep(0.2)


async def until_personal(client: Client, collection: str, world: World, user_id: str) -> None:
    """Wait until something was learned about a user."""
    for _ in itertools.count():
        found = await client.search(collection, world.query_vectors[0], user_id=user_id, limit=10)
        if any(result.personal for result in found):
            return
        await asyncio.sleep(0.1)


async def erase(privacy: Any, within_s: float = 10.0) -> privacy_service_pb2.ErasureReceipt | None:
    """Ask for the erasure; None when the service is down, which does not stop it."""
    request = privacy_service_pb2.EraseUserRequest(user_id=ANN)
    answer = privacy_service_pb2.EraseUserResponse()
    try:
        answer = await privacy.EraseUser(request, timeout=within_s)
    except grpc.aio.AioRpcError as error:
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)  # noqa: PT017
        return None
    return answer.receipt


async def erased(privacy: Any) -> privacy_service_pb2.ErasureReceipt:
    """Ask until it is finished."""
    while True:
        receipt = await erase(privacy)
        if receipt is not None and receipt.state == FINISHED:
            return receipt
        await asyncio.sleep(0.05)


def traces(mongo: MongoClient[dict[str, Any]], databases: list[str], text: str) -> set[str]:
    """The collections in whose documents the text is, wherever in them."""
    return {
        collection
        for name in databases
        for collection in mongo[name].list_collection_names()
        for document in mongo[name][collection].find()
        if text in repr(document)
    }


def user_ids_in_milvus(uri: str) -> set[str]:
    client = MilvusClient(uri)
    try:
        found: set[str] = set()
        for collection in client.list_collections():
            client.load_collection(collection)
            rows = client.query(
                collection, filter='pk != ""', output_fields=["user_id", "object_id", "payload"],
                limit=16_384, consistency_level="Strong",
            )  # fmt: skip
            found |= {row["user_id"] for row in rows}
            assert ANN not in repr(rows)
        return found
    finally:
        client.close()
