"""What one session, one event and one personal copy cost, in bytes and in CPU time: `deploy/SIZING.md` counts with it.

`python -m tests.benchmarks.unit_costs` records sessions and events of made-up users, submits them, learns from them,
and prints what MongoDB and Milvus hold of it and how long each process computed. CPU times are of this machine; bytes
are not.
"""

# ruff: noqa: T201 - this prints for a reader

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.duration_pb2 import Duration
from pymilvus import MilvusClient
from pymongo import MongoClient

from deploy.local.mongod import Mongod
from deploy.local.stack import Stack
from improvement_service.vectors import schema
from tests.benchmarks.ingesting.servers import cpu_s
from tideline.clickstream.v1 import batch_service_pb2, batch_service_pb2_grpc, event_pb2, session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub
from tideline.improvement.v1 import improvement_service_pb2, object_pb2, object_service_pb2
from tideline.improvement.v1.improvement_service_pb2_grpc import ImprovementServiceStub
from tideline.improvement.v1.object_service_pb2_grpc import ObjectServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from pymongo.database import Database

DIMENSION = 384
OBJECTS = 5_000
SHOWN = 20
SESSIONS_A_USER = 10
EVENTS_A_SESSION = 5
CLICKS_A_SESSION = 3
STREAMS = 64
COLLECTION = "products"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--users", type=int, default=1_000, help="default: %(default)s")
    users = arguments.parse_args().users
    with tempfile.TemporaryDirectory() as folder, Mongod(Path(folder), cache_gb=1) as mongod:
        settings = {"SECONDS_INTERVAL": "86400"}
        with Stack(Path(folder), mongo_uri=mongod.uri, improvement_settings=settings) as stack:
            _measure(stack, mongod, users)
            milvus = stack.milvus_uri
        _print_copies(milvus)


def _measure(stack: Stack, mongod: Mongod, users: int) -> None:
    processes = {
        "clickstream": stack.clickstream.process.pid,
        "improvement": stack.improvement.process.pid,
        "mongod": mongod.pid,
    }
    rng = np.random.default_rng(1)
    vectors = _directions(rng, OBJECTS)
    sessions = [_session(rng, user, number) for user in range(users) for number in range(SESSIONS_A_USER)]
    events = len(sessions) * EVENTS_A_SESSION
    with (
        grpc.insecure_channel(stack.clickstream.address) as clickstream,
        grpc.insecure_channel(stack.improvement.address) as improvement,
        MongoClient[dict[str, Any]](mongod.uri) as mongo,
    ):
        _fill(ObjectServiceStub(improvement), vectors)
        recording = SessionServiceStub(clickstream)
        with _costs("sessions, 100 a call", len(sessions), processes):
            for start in range(0, len(sessions), 100):
                recording.BatchCreateSessions(pb.BatchCreateSessionsRequest(sessions=sessions[start : start + 100]))
        with (
            _costs(f"events, one a message, on {STREAMS} streams", events, processes),
            ThreadPoolExecutor(STREAMS) as streams,
        ):
            list(streams.map(partial(_stream, recording), (sessions[each::STREAMS] for each in range(STREAMS))))
        with _costs("... and what is left to count into signals", events, processes):
            while _counted(mongo["tideline_clickstream"]) < len(sessions):
                time.sleep(1)
        few = min(5_000, events)
        with _costs("events, one a call, 32 calls at a time", few, processes):
            _push_one_by_one(recording, sessions[: few // EVENTS_A_SESSION])
        submitting = batch_service_pb2_grpc.BatchServiceStub(clickstream)
        with _costs("sessions submitted", len(sessions), processes):
            _all_of(
                [
                    submitting.UseSessionForImprovement.future(
                        batch_service_pb2.UseSessionForImprovementRequest(session_id=session.session_id)
                    )
                    for session in sessions
                ]
            )
        with _costs(f"users learned from, {SESSIONS_A_USER} sessions each", users, processes):
            _learn(ImprovementServiceStub(improvement))
        _print_documents(mongo)


def _session(rng: np.random.Generator, user: int, number: int) -> session_pb2.Session:
    query = _directions(rng, 1)[0]
    shown = rng.choice(OBJECTS, SHOWN, replace=False)
    return session_pb2.Session(
        session_id=f"{user:08x}-{number:04x}-4d3c-9f1e-{rng.integers(2**48):012x}",
        user_id=f"user-{user:08}",
        search_query=session_pb2.SearchQuery(text="waterproof tent for two"),
        query_vector=query.tolist(),
        search_results=[
            session_pb2.SearchResult(object_id=f"product-{each:07}", score=0.9 - place / 100)
            for place, each in enumerate(shown)
        ],
        collection=COLLECTION,
    )


def _event(session: session_pb2.Session, number: int, head: str = "") -> event_pb2.Event:
    return event_pb2.Event(
        event_id=f"{head}{session.session_id[-12:]}-{number:04}",
        object_id=session.search_results[number * 2].object_id,
        event_types=["click" if number < CLICKS_A_SESSION else "view"],
        position=number * 2,
        dwell=Duration(seconds=10 + number),
    )


def _stream(recording: SessionServiceStub, sessions: Sequence[session_pb2.Session]) -> None:
    for _ in recording.StreamEvents(_messages(sessions)):
        pass


def _counted(database: Database[dict[str, Any]]) -> int:
    names = [name for name in database.list_collection_names() if name.startswith("rollup_contributions")]
    return sum(database[name].count_documents({}) for name in names)


def _messages(sessions: Sequence[session_pb2.Session]) -> Iterator[pb.StreamEventsRequest]:
    for session in sessions:
        for number in range(EVENTS_A_SESSION):
            yield pb.StreamEventsRequest(session_id=session.session_id, events=[_event(session, number)])


def _push_one_by_one(recording: SessionServiceStub, sessions: Sequence[session_pb2.Session]) -> None:
    under_way = []
    for session in sessions:
        for number in range(EVENTS_A_SESSION):
            request = pb.PushEventsRequest(session_id=session.session_id, events=[_event(session, number, "again-")])
            under_way.append(recording.PushEvents.future(request))
            if len(under_way) >= 32:
                _all_of(under_way[:1])
                under_way.pop(0)
    _all_of(under_way)


def _all_of(calls: Sequence[Any]) -> None:
    for call in calls:
        call.result()


def _fill(objects: ObjectServiceStub, vectors: NDArray[np.float32]) -> None:
    collection = object_pb2.Collection(name=COLLECTION, dimension=DIMENSION, metric=object_pb2.METRIC_COSINE)
    objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))
    made = [
        object_pb2.Object(object_id=f"product-{each:07}", parts=[object_pb2.Part(vector=vector.tolist())])
        for each, vector in enumerate(vectors)
    ]
    for vector in made:
        vector.payload.update({"title": "Waterproof tent for two people", "price": 129.0, "brand": "Acme"})
    objects.UpsertObjects(
        object_service_pb2.UpsertObjectsRequest(collection=COLLECTION, objects=made[start : start + 500])
        for start in range(0, OBJECTS, 500)
    )


def _learn(improvement: ImprovementServiceStub) -> None:
    run = improvement.RunImprovement(improvement_service_pb2.RunImprovementRequest()).run
    for state in improvement.WatchRun(improvement_service_pb2.WatchRunRequest(run_id=run.run_id)):
        run = state.run
    if run.state != improvement_service_pb2.RUN_STATE_SUCCEEDED:
        raise RuntimeError(f"the run did not succeed: {run}")


def _directions(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextmanager
def _costs(what: str, count: int, processes: Mapping[str, int]) -> Iterator[None]:
    """Print how long the processes computed for each of `count` things while the block ran."""
    before = {name: cpu_s(pid) for name, pid in processes.items()}
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    used = {name: (cpu_s(pid) - before[name]) * 1e6 / count for name, pid in processes.items()}
    told = ", ".join(f"{name} {microseconds:.0f}" for name, microseconds in used.items())
    print(f"{what}: {count} in {took:.1f} s ({count / took:,.0f}/s); CPU µs each: {told}", flush=True)


def _print_documents(mongo: MongoClient[dict[str, Any]]) -> None:
    mongo.admin.command("fsync")
    print(f"{'collection':48}{'documents':>10}{'bytes each':>12}{'on disk':>10}{'indexes':>10}")
    for database in ("tideline_clickstream", "tideline_improvement"):
        for name in sorted(mongo[database].list_collection_names()):
            stats = mongo[database].command("collStats", name)
            if count := stats["count"]:
                each = stats["avgObjSize"], stats["storageSize"] / count, stats["totalIndexSize"] / count
                print(f"{database + '.' + name:48}{count:>10}{each[0]:>12.0f}{each[1]:>10.0f}{each[2]:>10.0f}")


def _print_copies(milvus: str) -> None:
    """Count what copies take, uncompressed."""
    client = MilvusClient(milvus)
    for name in client.list_collections():
        if name.endswith(schema.OF_USERS):
            client.load_collection(name)
            rows = client.query(name, filter='object_id != ""', output_fields=["*"], limit=1_000)
            counted = client.query(name, filter='object_id != ""', output_fields=["count(*)"])[0]["count(*)"]
            each = sum(map(_size, rows)) / len(rows)
            print(f"Milvus: {counted} copies; bytes a copy: {each:.0f}, of which the vector {DIMENSION * 4}")


def _size(row: Mapping[str, Any]) -> int:
    return sum(len(value) * 4 if name == "vector" else len(str(value)) for name, value in row.items())


if __name__ == "__main__":
    main()
