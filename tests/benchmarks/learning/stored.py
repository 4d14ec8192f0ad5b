"""The services on top of a given amount of stored events."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from pymongo import MongoClient

from deploy.local.client import Client, Recorded
from deploy.local.mongod import Mongod
from deploy.local.service import Service
from deploy.local.stack import Stack
from tests.benchmarks.counted import counted
from tests.benchmarks.ingesting import workload
from tests.benchmarks.learning.evidence import unit
from tideline.clickstream.v1 import batch_service_pb2, feedback_service_pb2, feedback_service_pb2_grpc, session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.improvement.v1 import object_pb2, object_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from pymongo.database import Database

    Documents = Database[dict[str, Any]]

EVENTS_A_SESSION = 5
SESSIONS_A_USER = 10
FILLED = "filled"
COLLECTION = "bench"
DIMENSION = 64
OBJECTS = 1_000
LEARNERS = 50
SESSIONS = 40
A_WRITE = 5_000


@dataclass(frozen=True)
class Written:
    """A collection as the service makes it: its indexes, and documents to copy."""

    indexes: dict[str, dict[str, Any]]
    documents: list[dict[str, Any]]


async def written(folder: Path) -> dict[str, Written]:
    """Have the service record a few sessions; returns what it wrote, by collection."""
    home = folder / "written"
    home.mkdir()
    with Mongod(home) as mongod, MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as mongo:
        service = Service("clickstream", home, {"MONGO_URI": mongod.uri, "MONGO_DATABASE": "written"})
        await asyncio.to_thread(service.start)
        async with Client(service.address, service.address) as client:
            await _record_some(client)
        await asyncio.to_thread(service.stop)
        database = mongo["written"]
        return {
            name: Written(dict(database[name].index_information()), list(database[name].find()))
            for name in database.list_collection_names()
        }


async def stored_events(folder: Path, like: Mapping[str, Written], events: int, calls: int) -> dict[str, float]:
    """Fill a database with so many events `like` others; returns what things cost on top of them, by so many calls."""
    home = folder / f"events-{events}"
    home.mkdir()
    with Mongod(home, cache_gb=1) as mongod, MongoClient[dict[str, Any]](mongod.uri, tz_aware=True) as mongo:
        fill(like, mongo["tideline_clickstream"], events // EVENTS_A_SESSION)
        # Or what is measured next waits for the disk, which has the filling to write.
        mongo.admin.command("fsync")
        with Stack(home / "stack", mongo_uri=mongod.uri) as stack:
            async with Client(stack.clickstream.address, stack.improvement.address) as client:
                await counted(mongod.uri, "tideline_clickstream")
                return await _measure(client, events, calls)


async def _record_some(client: Client) -> None:
    rng = np.random.default_rng(1)
    await client.record([_searched(f"first {n}", f"first {n}", rng) for n in range(5)], lambda _: None)
    await client.batches.ReleaseBatch(batch_service_pb2.ReleaseBatchRequest(release_id="first"))


def fill(like: Mapping[str, Written], target: Documents, count: int, *, pending: bool = False) -> None:
    """Copy so many sessions as the service wrote them, with its indexes; learned from, or still `pending`."""
    for name, collection in like.items():
        target.create_collection(name)
        for index, found in collection.indexes.items():
            if index != "_id_":
                options = {key: found[key] for key in found if key not in {"key", "v", "ns"}}
                target[name].create_index(found["key"], name=index, **options)
    # Or the service would take the documents for old ones and go through them before it starts.
    target.migrations.insert_many(like["migrations"].documents)
    sessions, batch = like["sessions"].documents, like["session_batches"].documents[0]
    clicks = [
        [click for click in like["session_events"].documents if click["session_id"] == session["_id"]]
        for session in sessions
    ]
    target.session_batches.insert_one({**batch, "_id": FILLED, "count": count})

    def session(number: int) -> dict[str, Any]:
        like = sessions[number % len(sessions)]
        own = {
            "_id": f"filled {number}",
            "user_id": f"filled {number // SESSIONS_A_USER}",
            "session_number": number + 1,
        }
        return {**like, **own, "batch_id": FILLED, "created_at": like["created_at"] - timedelta(seconds=number % 10**6)}

    def event(number: int) -> dict[str, Any]:
        of, nth = divmod(number, EVENTS_A_SESSION)
        of_session = clicks[of % len(clicks)]
        like = of_session[nth % len(of_session)]
        own = {"_id": {"s": f"filled {of}", "e": str(number)}, "session_id": f"filled {of}"}
        at = like["created_at"] - timedelta(seconds=of % 10**6)
        return {**like, **own, "user_id": f"filled {of // SESSIONS_A_USER}", "created_at": at}

    _insert(target, "sessions", count, session)
    _insert(target, "session_events", count * EVENTS_A_SESSION, event)
    queue = {**like["sessions_for_improvement"].documents[0], "state": "pending" if pending else "done"}
    lease = {**like["user_leases"].documents[0], "pending": pending}
    _insert(
        target, "sessions_for_improvement", count,
        lambda n: {**queue, "_id": f"filled {n}", "user_id": f"filled {n // SESSIONS_A_USER}"},
    )  # fmt: skip
    _insert(target, "user_leases", count // SESSIONS_A_USER, lambda n: {**lease, "_id": f"filled {n}"})


def _insert(target: Documents, name: str, count: int, made: Callable[[int], dict[str, Any]]) -> None:
    for start in range(0, count, A_WRITE):
        documents = [made(number) for number in range(start, min(start + A_WRITE, count))]
        target[name].insert_many(documents, ordered=False)


def _searched(session_id: str, user_id: str, rng: np.random.Generator) -> Recorded:
    shown = rng.choice(OBJECTS, workload.RESULTS, replace=False)
    session = session_pb2.Session(
        session_id=session_id,
        user_id=user_id,
        collection=COLLECTION,
        query_vector=unit(rng.standard_normal((1, DIMENSION)))[0].tolist(),
        search_results=[session_pb2.SearchResult(object_id=f"object {one}") for one in shown],
    )
    return Recorded(session, (2, 9))


async def _measure(client: Client, events: int, calls: int) -> dict[str, float]:
    found: dict[str, float] = {}
    rng = np.random.default_rng(2)
    outcomes = (
        await client.sessions.BatchCreateSessions(pb.BatchCreateSessionsRequest(sessions=workload.sessions(SESSIONS)))
    ).outcomes
    names = _again([outcome.session_id for outcome in outcomes])

    async def push() -> None:
        await client.sessions.PushEvents(pb.PushEventsRequest(session_id=next(names), events=workload.events(100)))

    async def create() -> None:
        await client.sessions.BatchCreateSessions(pb.BatchCreateSessionsRequest(sessions=workload.sessions(50)))

    async def page() -> None:
        after = int(rng.integers(max(1, events // EVENTS_A_SESSION - 100)))
        await client.batches.GetBatchSessions(
            batch_service_pb2.GetBatchSessionsRequest(batch_id=FILLED, after_number=after, limit=100)
        )

    found["PushEvents of 100, ms"] = await _median_ms(push, calls)
    found["BatchCreateSessions of 50, ms"] = await _median_ms(create, calls)
    found["GetBatchSessions, a page of 100 anywhere, ms"] = await _median_ms(page, calls)
    await make_collection(client)
    feedback = feedback_service_pb2_grpc.FeedbackServiceStub(client.channels[0])
    learned = [_searched(uuid.uuid4().hex, f"learner {n % LEARNERS}", rng) for n in range(2 * LEARNERS)]
    await client.record(learned, lambda _: None)

    async def lease() -> None:
        request = feedback_service_pb2.LeaseFeedbackRequest(owner="bench", max_users=1)
        async for part in feedback.LeaseFeedback(request):
            if part.last:
                held = part.lease
        await feedback.ReleaseLease(feedback_service_pb2.ReleaseLeaseRequest(leases=[held]))

    async def cycle() -> None:
        users = [f"learner {n}" for n in range(LEARNERS)]
        await feedback.RequeueUsers(feedback_service_pb2.RequeueUsersRequest(user_ids=users))
        await client.run(lambda _: None)

    async def search() -> None:
        user = int(rng.integers(LEARNERS))
        query = np.array(learned[user].session.query_vector, np.float32)
        await client.search(COLLECTION, query, user_id=f"learner {user}", limit=20)

    found["a user leased and released, ms"] = await _median_ms(lease, calls)
    found[f"a run over {LEARNERS} users, ms"] = await _median_ms(cycle, max(3, calls // 6))
    found["a personalised search, ms"] = await _median_ms(search, calls)
    return found


async def make_collection(client: Client) -> None:
    """Make the collection of objects that the sessions have shown."""
    collection = object_pb2.Collection(name=COLLECTION, dimension=DIMENSION, metric=object_pb2.METRIC_COSINE)
    await client.objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))
    vectors = unit(np.random.default_rng(3).standard_normal((OBJECTS, DIMENSION)))

    async def upserts() -> AsyncIterator[object_service_pb2.UpsertObjectsRequest]:
        objects = [
            object_pb2.Object(object_id=f"object {n}", parts=[object_pb2.Part(vector=vector.tolist())])
            for n, vector in enumerate(vectors)
        ]
        yield object_service_pb2.UpsertObjectsRequest(collection=COLLECTION, objects=objects)

    await client.objects.UpsertObjects(upserts())


def _again(names: list[str]) -> Iterator[str]:
    while True:
        yield from names


async def _median_ms(call: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await call()  # type: ignore[misc]
        took.append(1000 * (time.perf_counter() - began))
    return float(np.median(took[1:]))
