"""Both services in this process, and what a backend and an operator do with them."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

import clickstream_service.app
import clickstream_service.config
import improvement_service.app
import improvement_service.config
from tests.improvement.catalogue_service import an_object
from tideline.clickstream.v1 import (
    batch_service_pb2,
    batch_service_pb2_grpc,
    event_pb2,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
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
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from improvement_service.domain.scoring import Floats
    from improvement_service.vectors.milvus import VectorStore

DIMENSION = 8
QUERY = [1.0, *[0.0] * (DIMENSION - 1)]
OBJECTS = [f"object {number}" for number in range(12)]


def object_vectors(seed: int = 3) -> Floats:
    """Unit vectors scattered around `QUERY`, [objects, dimension]."""
    scatter = np.random.default_rng(seed).normal(0, 0.4, (len(OBJECTS), DIMENSION))
    vectors = (np.array(QUERY) + scatter).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass
class Worker:
    """An improvement service and its stubs."""

    runs: improvement_service_pb2_grpc.ImprovementServiceAsyncStub
    objects: object_service_pb2_grpc.ObjectServiceAsyncStub
    searches: search_service_pb2_grpc.SearchServiceAsyncStub

    async def start(self) -> improvement_service_pb2.Run:
        """Start a run and return it as it began."""
        return (await self.runs.RunImprovement(improvement_service_pb2.RunImprovementRequest())).run

    async def run(self) -> improvement_service_pb2.Run:
        """Run improvement and return the run as it ended."""
        return await self.end_of((await self.start()).run_id)

    async def end_of(self, run_id: str) -> improvement_service_pb2.Run:
        return [state async for state in self.watch(run_id)][-1]

    async def watch(self, run_id: str) -> AsyncIterator[improvement_service_pb2.Run]:
        async for state in self.runs.WatchRun(improvement_service_pb2.WatchRunRequest(run_id=run_id)):
            yield state.run

    async def personal(self, user_id: str, collection: str) -> dict[str, list[list[float]]]:
        """Return the user's copies, by object."""
        request = object_service_pb2.GetObjectsRequest(collection=collection, object_ids=OBJECTS, user_id=user_id)
        found = (await self.objects.GetObjects(request)).objects
        return {one.object.object_id: [list(part.vector) for part in one.object.parts] for one in found if one.personal}


@dataclass
class Loop:
    """A clickstream service, one improvement service, and the settings to run more of them."""

    feedback: feedback_service_pb2_grpc.FeedbackServiceAsyncStub
    sessions: session_service_pb2_grpc.SessionServiceAsyncStub
    batches: batch_service_pb2_grpc.BatchServiceAsyncStub
    settings: improvement_service.config.Settings
    worker: Worker
    collection: str
    recorded: int = field(default=0)

    async def create_collection(self, name: str = "", **fields: Any) -> None:
        """Create a collection, under COSINE unless told otherwise, and put all objects into it."""
        name = name or self.collection
        given = {"name": name, "dimension": DIMENSION, "metric": object_pb2.METRIC_COSINE} | fields
        request = object_service_pb2.CreateCollectionRequest(collection=object_pb2.Collection(**given))
        await self.worker.objects.CreateCollection(request)
        await self.upsert(object_vectors(), name)

    async def upsert(self, vectors: Floats, name: str = "") -> None:
        """Give the objects these vectors, [objects, dimension]."""
        objects = [an_object(*one) for one in zip(OBJECTS, vectors.tolist(), strict=True)]
        message = object_service_pb2.UpsertObjectsRequest(collection=name or self.collection, objects=objects)
        await self.worker.objects.UpsertObjects(iter([message]))

    async def record(
        self,
        user_id: str,
        *clicked: str,
        query: Sequence[float] = QUERY,
        shown: Sequence[str] = OBJECTS,
        events: Mapping[str, str] | None = None,
        submit: bool = True,
        **fields: Any,
    ) -> str:
        """Record a search, clicks and other events (by object, the type of each), and submit it; returns its id."""
        self.recorded += 1
        session_id = f"session {self.recorded}"
        session = session_pb2.Session(
            **{"session_id": session_id, "user_id": user_id, "query_vector": query, "collection": self.collection}
            | fields,
            search_results=[session_pb2.SearchResult(object_id=object_id) for object_id in shown],
        )
        await self.sessions.CreateSession(session_service_pb2.CreateSessionRequest(session=session))
        types = {**dict.fromkeys(clicked, "click"), **(events or {})}
        if types:
            pushed = [
                event_pb2.Event(event_id=object_id, object_id=object_id, event_types=[kind])
                for object_id, kind in types.items()
            ]
            await self.sessions.PushEvents(session_service_pb2.PushEventsRequest(session_id=session_id, events=pushed))
        if submit:
            await self.submit(session_id)
        return session_id

    async def act(self, session_id: str, object_id: str, *, times: int = 1) -> None:
        """Click an object, over and over."""
        events = [
            event_pb2.Event(event_id=f"click {number}", object_id=object_id, event_types=["click"])
            for number in range(times)
        ]
        await self.sessions.PushEvents(session_service_pb2.PushEventsRequest(session_id=session_id, events=events))

    async def submit(self, session_id: str) -> None:
        request = batch_service_pb2.UseSessionForImprovementRequest(session_id=session_id)
        await self.batches.UseSessionForImprovement(request)

    async def mark_irrelevant(self, session_id: str) -> None:
        request = session_service_pb2.MarkSessionIrrelevantRequest(session_id=session_id, reason="a test")
        await self.sessions.MarkSessionIrrelevant(request)

    async def requeue(self, *user_ids: str) -> None:
        await self.feedback.RequeueUsers(feedback_service_pb2.RequeueUsersRequest(user_ids=user_ids))

    async def pending(self) -> set[str]:
        """Return the users who wait."""
        answer = await self.feedback.ListPending(feedback_service_pb2.ListPendingRequest())
        return {user.user_id for user in answer.users}

    async def personal(self, user_id: str, collection: str = "") -> dict[str, list[list[float]]]:
        """Return the user's copies, by object."""
        return await self.worker.personal(user_id, collection or self.collection)

    async def search(self, user_id: str = "", **fields: Any) -> list[search_service_pb2.ScoredObject]:
        request = search_service_pb2.SearchRequest(
            **{"collection": self.collection, "query_vector": QUERY, "user_id": user_id, "limit": 50} | fields
        )
        return list((await self.worker.searches.Search(request)).results)


@asynccontextmanager
async def working(
    settings: improvement_service.config.Settings, vectors: VectorStore | None = None
) -> AsyncIterator[Worker]:
    """Run an improvement service, on `vectors` when given."""
    connect = improvement_service.app.connect_vectors if vectors is None else lambda _: vectors
    async with (
        improvement_service.app.running(settings, connect=connect) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel,
    ):
        yield Worker(
            improvement_service_pb2_grpc.ImprovementServiceStub(channel),
            object_service_pb2_grpc.ObjectServiceStub(channel),
            search_service_pb2_grpc.SearchServiceStub(channel),
        )


@asynccontextmanager
async def looping(
    mongo_uri: str, database: str, milvus_uri: str, collection: str, **settings: Any
) -> AsyncIterator[Loop]:
    """Run both services; `settings` are the improvement service's."""
    recording = clickstream_service.config.Settings(
        mongo_uri=mongo_uri,
        mongo_database=f"{database}_clickstream",
        listen="127.0.0.1:0",
        stop_grace=timedelta(0),
        feedback_backoff=timedelta(0),
    )
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(clickstream_service.app.running(recording))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS))
        given = {
            "mongo_uri": mongo_uri,
            "mongo_database": f"{database}_improvement",
            "milvus_uri": milvus_uri,
            "milvus_index_type": "FLAT",
            "clickstream_address": f"127.0.0.1:{port}",
            "listen": "127.0.0.1:0",
            "stop_grace": timedelta(0),
            "device": "cpu",
            "worker": "w1",
        }
        learning = improvement_service.config.Settings(**given | settings)
        worker = await stack.enter_async_context(working(learning))
        yield Loop(
            feedback_service_pb2_grpc.FeedbackServiceStub(channel),
            session_service_pb2_grpc.SessionServiceStub(channel),
            batch_service_pb2_grpc.BatchServiceStub(channel),
            learning,
            worker,
            collection,
        )
