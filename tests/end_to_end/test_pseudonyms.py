"""Both services with keys: user ids are in neither database, and a change of keys changes nothing that users see."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from pymilvus import MilvusClient

import clickstream_service.app
import clickstream_service.config
import improvement_service.app
import improvement_service.config
from deploy.local.processes import free_port
from improvement_service.vectors.connection import Connection
from tests.clickstream.privacy.conftest import traces
from tests.clickstream.privacy.keys import keys_file, under
from tests.improvement.catalogue_service import an_object
from tests.improvement.cycle.loop import DIMENSION, OBJECTS, QUERY, Worker, object_vectors
from tideline.cli import main
from tideline.clickstream.v1 import (
    batch_service_pb2,
    batch_service_pb2_grpc,
    event_pb2,
    interaction_pb2,
    interaction_service_pb2,
    interaction_service_pb2_grpc,
    privacy_service_pb2,
    privacy_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tideline.improvement.v1 import (
    improvement_service_pb2,
    improvement_service_pb2_grpc,
    object_pb2,
    object_service_pb2,
    object_service_pb2_grpc,
    search_service_pb2,
    search_service_pb2_grpc,
)
from tideline.rpc.pseudonyms import WrongUserKeys
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pymongo import MongoClient

ANN, BOB = "ann-4711@example.org", "bob-0815@example.org"


@dataclass
class Deployment:
    """Where both services keep what they know, and the keys that each has."""

    mongo_uri: str
    database: str
    milvus_uri: str
    collection: str
    clickstream_keys: Path | None = None
    improvement_keys: Path | None = None

    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        shared = {"mongo_uri": self.mongo_uri}
        clickstream = {
            **shared,
            "mongo_database": f"{self.database}_clickstream",
            "user_keys_file": self.clickstream_keys,
            "role_lease": "1",
        }
        improvement = {
            **shared,
            "mongo_database": f"{self.database}_improvement",
            "milvus_uri": self.milvus_uri,
            "user_keys_file": self.improvement_keys,
        }
        return clickstream, improvement


class Shop:
    """Both services, and what a backend does with them."""

    def __init__(self, clickstream: grpc.aio.Channel, improvement: grpc.aio.Channel, collection: str) -> None:
        self._sessions = session_service_pb2_grpc.SessionServiceStub(clickstream)
        self._batches = batch_service_pb2_grpc.BatchServiceStub(clickstream)
        self._interactions = interaction_service_pb2_grpc.InteractionServiceStub(clickstream)
        self._privacy = privacy_service_pb2_grpc.PrivacyServiceStub(clickstream)
        self._worker = Worker(
            improvement_service_pb2_grpc.ImprovementServiceStub(improvement),
            object_service_pb2_grpc.ObjectServiceStub(improvement),
            search_service_pb2_grpc.SearchServiceStub(improvement),
        )
        self._collection = collection

    async def create_collection(self) -> None:
        given = object_pb2.Collection(name=self._collection, dimension=DIMENSION, metric=object_pb2.METRIC_COSINE)
        await self._worker.objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=given))
        objects = [an_object(*one) for one in zip(OBJECTS, object_vectors().tolist(), strict=True)]
        message = object_service_pb2.UpsertObjectsRequest(collection=self._collection, objects=objects)
        await self._worker.objects.UpsertObjects(iter([message]))

    async def search(self, user_id: str, *, record: bool = False) -> search_service_pb2.SearchResponse:
        recording = search_service_pb2.RecordSession() if record else None
        request = search_service_pb2.SearchRequest(
            collection=self._collection, query_vector=QUERY, user_id=user_id, limit=12, record_session=recording
        )
        return await self._worker.searches.Search(request)

    async def click(self, user_id: str, place: int) -> None:
        """Search, click, buy, and have it learned from."""
        found = await self.search(user_id, record=True)
        object_id = found.results[place].object_id
        click = event_pb2.Event(event_id="click", object_id=object_id, event_types=["click"])
        push = session_service_pb2.PushEventsRequest(session_id=found.session_id, events=[click])
        await self._sessions.PushEvents(push)
        bought = interaction_pb2.Interaction(feature_id=object_id, interaction_types=["purchase"], user_id=user_id)
        await self._interactions.RecordInteraction(interaction_service_pb2.RecordInteractionRequest(interaction=bought))
        use = batch_service_pb2.UseSessionForImprovementRequest(session_id=found.session_id)
        await self._batches.UseSessionForImprovement(use)

    async def record_directly(self, user_id: str) -> None:
        """Record a search that the improvement service knows nothing of, with a click, and have it learned from."""
        session = session_pb2.Session(
            session_id="s1",
            user_id=user_id,
            query_vector=QUERY,
            collection=self._collection,
            search_results=[session_pb2.SearchResult(object_id=object_id) for object_id in OBJECTS],
        )
        await self._sessions.CreateSession(session_service_pb2.CreateSessionRequest(session=session))
        use = batch_service_pb2.UseSessionForImprovementRequest(session_id="s1")
        await self._batches.UseSessionForImprovement(use)

    async def run(self) -> improvement_service_pb2.Run:
        return await self._worker.run()

    async def known(self, user_id: str) -> tuple[int, int]:
        """How many sessions and interactions are known of a user."""
        request = privacy_service_pb2.ExportUserRequest(user_id=user_id)
        parts = [part async for part in self._privacy.ExportUser(request)]
        return sum(len(part.sessions) for part in parts), sum(len(part.interactions) for part in parts)

    async def erased(self, user_id: str) -> dict[str, int]:
        while True:
            receipt = (await self._privacy.EraseUser(privacy_service_pb2.EraseUserRequest(user_id=user_id))).receipt
            if receipt.state == privacy_service_pb2.ERASURE_STATE_FINISHED:
                return dict(receipt.erased)


@asynccontextmanager
async def running(deployment: Deployment) -> AsyncIterator[Shop]:
    clickstream, improvement = deployment.settings()
    improvement_address = f"127.0.0.1:{free_port()}"
    recording = clickstream_service.config.Settings(
        **clickstream,
        listen="127.0.0.1:0",
        improvement_address=improvement_address,
        stop_grace=timedelta(0),
        erasure_grace=timedelta(0),
        erasure_every=timedelta(milliseconds=50),
        signal_delay=timedelta(milliseconds=20),
    )
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(clickstream_service.app.running(recording))
        address = f"127.0.0.1:{port}"
        learning = improvement_service.config.Settings(
            **improvement,
            milvus_index_type="FLAT",
            clickstream_address=address,
            listen=improvement_address,
            stop_grace=timedelta(0),
            device="cpu",
        )
        await stack.enter_async_context(improvement_service.app.running(learning))
        first, second = [
            await stack.enter_async_context(grpc.aio.insecure_channel(each, options=OPTIONS))
            for each in (address, improvement_address)
        ]
        yield Shop(first, second, deployment.collection)


@pytest.fixture
def deployment(
    mongo_uri: str, database_name: str, tmp_path_factory: pytest.TempPathFactory, collection: str
) -> Deployment:
    lite = str(tmp_path_factory.mktemp("milvus") / "vectors.db")
    milvus_uri = os.environ.get("TIDELINE_TEST_MILVUS_URI", lite)
    return Deployment(mongo_uri, database_name, milvus_uri, collection)


@pytest.fixture
def collection() -> str:
    return f"test_{uuid.uuid4().hex[:12]}"


async def rekey(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, *services: str) -> list[int]:
    """Run the commands as an operator does; returns their exit codes."""
    codes = []
    for service, settings in zip(("clickstream", "improvement"), deployment.settings(), strict=True):
        if service in (services or ("clickstream", "improvement")):
            with monkeypatch.context() as environment:
                for name, value in settings.items():
                    environment.setenv(f"{service}_{name}".upper(), str(value))
                codes.append(await asyncio.to_thread(main, ["rekey", service]))
    return codes


def everywhere(mongo: MongoClient[dict[str, Any]], deployment: Deployment, *texts: str) -> set[str]:
    """The collections, of MongoDB and of Milvus, in which one of these texts is."""
    databases = [mongo[f"{deployment.database}_{name}"] for name in ("clickstream", "improvement")]
    found = {name for database in databases for name in traces(database, *texts)}
    milvus = MilvusClient(deployment.milvus_uri)
    try:
        for name in milvus.list_collections():
            if not name.startswith(deployment.collection):
                continue
            milvus.load_collection(name)
            rows = milvus.query(name, filter='pk != ""', output_fields=["*"], limit=16_384, consistency_level="Strong")
            found |= {"milvus" for row in rows if any(text in repr(row) for text in texts)}
    finally:
        milvus.close()
    return found


PLACES = {
    "sessions", "session_events", "sessions_for_improvement", "user_leases", "personal_versions", "personal_writes",
    "milvus",
}  # fmt: skip


async def test_a_user_id_is_in_no_database_and_a_change_of_keys_changes_no_search(
    deployment: Deployment, mongo_client: MongoClient[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.clickstream_keys = deployment.improvement_keys = keys_file(tmp_path, 1)
    async with running(deployment) as shop:
        await shop.create_collection()
        for user_id, place in ((ANN, 4), (BOB, 6)):
            await shop.click(user_id, place)
        assert (await shop.run()).users.settled == 2
        before = await shop.search(ANN)
        assert any(result.personal for result in before.results)
        assert (await shop.search(under(1, ANN))).results == before.results
        assert before.results != (await shop.search(BOB)).results
        assert await shop.known(ANN) == (1, 1)
    assert everywhere(mongo_client, deployment, ANN, BOB, "ann-4711") == set()
    assert everywhere(mongo_client, deployment, under(1, ANN)) == PLACES

    deployment.clickstream_keys = deployment.improvement_keys = keys_file(tmp_path, 3)
    assert await rekey(deployment, monkeypatch, "clickstream") == [0]
    with pytest.raises(WrongUserKeys, match="tideline rekey improvement"):
        async with running(deployment):
            pass
    assert await rekey(deployment, monkeypatch) == [0, 0]
    assert everywhere(mongo_client, deployment, ANN, under(1, ANN), under(1, BOB)) == set()
    assert everywhere(mongo_client, deployment, under(3, ANN)) == PLACES
    async with running(deployment) as shop:
        assert (await shop.search(ANN)).results == before.results
        assert (await shop.search(under(1, ANN))).results == before.results
        await shop.click(ANN, 7)
        assert (await shop.run()).users.settled == 1
        assert (await shop.search(ANN)).results != before.results, "what is new adds up with what was there"
        assert await shop.known(ANN) == (2, 2)
        erased = await shop.erased(ANN)
        assert {"sessions": 2, "interactions": 2, "queued": 2, "leases": 1}.items() <= erased.items()
        assert erased["vectors"] > 0
        assert not any(result.personal for result in (await shop.search(ANN)).results)
    assert everywhere(mongo_client, deployment, ANN, under(1, ANN), under(3, ANN)) == set()
    assert everywhere(mongo_client, deployment, under(3, BOB)) == PLACES


async def test_vectors_survive_a_change_of_keys_that_is_broken_off(
    deployment: Deployment, mongo_client: MongoClient[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(deployment) as shop:
        await shop.create_collection()
        await shop.click(ANN, 4)
        await shop.run()
        before = await shop.search(ANN)
    deployment.clickstream_keys = deployment.improvement_keys = keys_file(tmp_path, 1)
    with monkeypatch.context() as broken:
        broken.setattr(Connection, "delete", _power_cut)
        with pytest.raises(PowerCut):
            await rekey(deployment, monkeypatch, "improvement")
    assert everywhere(mongo_client, deployment, under(1, ANN)) == {"milvus"}
    with pytest.raises(WrongUserKeys, match="tideline rekey clickstream"):
        async with running(deployment):
            pass
    assert await rekey(deployment, monkeypatch) == [0, 0]
    assert everywhere(mongo_client, deployment, ANN) == set()
    async with running(deployment) as shop:
        assert (await shop.search(ANN)).results == before.results


async def test_a_run_learns_nothing_from_a_service_with_other_keys_and_says_so(
    deployment: Deployment, mongo_client: MongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    deployment.improvement_keys = keys_file(tmp_path, 1)
    async with running(deployment) as shop:
        await shop.create_collection()
        await shop.record_directly(ANN)
        run = await shop.run()
        assert run.state == improvement_service_pb2.RUN_STATE_FAILED
        assert "USER_KEYS_FILE" in run.error
    assert "milvus" not in everywhere(mongo_client, deployment, ANN, under(1, ANN))


class PowerCut(BaseException):
    """Nothing is tidied up."""


async def _power_cut(*_: object) -> None:
    raise PowerCut
