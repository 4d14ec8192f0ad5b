"""A whole run over pending feedback, and the same work by bare drivers: MongoDB, Milvus and the adjuster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from pymilvus import MilvusClient
from pymongo import MongoClient

from deploy.local.client import Client, Recorded
from deploy.local.stack import Stack
from improvement_service.adjust import registry
from improvement_service.adjust.evidence import SessionSignals, collect
from improvement_service.domain.index import Aggregation, Metric, SearchIndex
from improvement_service.domain.objects import PersonalCopy, UserCopies
from improvement_service.vectors import schema
from tests.benchmarks.harness import Table, interleaved
from tests.benchmarks.learning.evidence import unit
from tests.benchmarks.learning.milvus import kind, of_stack
from tideline.clickstream.v1 import feedback_service_pb2, feedback_service_pb2_grpc, session_pb2
from tideline.improvement.v1 import object_pb2, object_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from improvement_service.adjust.evidence import Floats
    from tests.benchmarks.harness import Bench

DIMENSION = 384
SESSIONS_A_USER = 2
SHOWN = 20
CLICKED = (2, 9)
"""Places from 0: what is above the last one speaks against its object."""
COLLECTION = "bench"
A_CALL = 1_000


class World:
    """Objects, and users who searched and clicked."""

    def __init__(self, users: int, objects: int) -> None:
        rng = np.random.default_rng(1)
        self.users, self.objects = users, objects
        self.vectors = unit(rng.standard_normal((objects, DIMENSION)))
        self.queries = unit(rng.standard_normal((users * SESSIONS_A_USER, DIMENSION)))
        self.shown = np.array([rng.choice(objects, SHOWN, replace=False) for _ in self.queries])

    def recorded(self) -> list[Recorded]:
        """Return the sessions as clients send them."""
        return [
            Recorded(
                session_pb2.Session(
                    session_id=f"session {number}",
                    user_id=f"user {number // SESSIONS_A_USER}",
                    collection=COLLECTION,
                    query_vector=self.queries[number].tolist(),
                    search_results=[session_pb2.SearchResult(object_id=f"object {one}") for one in self.shown[number]],
                ),
                CLICKED,
            )
            for number in range(len(self.queries))
        ]

    async def upserts(self) -> AsyncIterator[object_service_pb2.UpsertObjectsRequest]:
        """Yield the objects as clients send them."""
        for start in range(0, self.objects, 500):
            objects = [
                object_pb2.Object(object_id=f"object {n}", parts=[object_pb2.Part(vector=self.vectors[n].tolist())])
                for n in range(start, min(start + 500, self.objects))
            ]
            yield object_service_pb2.UpsertObjectsRequest(collection=COLLECTION, objects=objects)


async def cycle_table(bench: Bench, uri: str) -> Table:
    """Return the line for the whole cycle, with the Milvus at `uri`."""
    world = World(bench.amount(1_000), bench.amount(5_000))
    folder = bench.folder / "cycle"
    folder.mkdir()
    # Milvus Lite belongs to one process: the bare parts have one of their own.
    bare_uri = uri if uri.startswith("http") else str(folder / "bare.db")
    with Stack(folder, milvus=of_stack(uri)) as stack:
        async with Client(stack.clickstream.address, stack.improvement.address) as client:
            await _fill(client, world)
            bare = _Bare(stack.mongo_uri, bare_uri, world)
            feedback = feedback_service_pb2_grpc.FeedbackServiceStub(client.channels[0])

            async def cycle() -> float:
                users = [f"user {number}" for number in range(world.users)]
                for start in range(0, len(users), 500):
                    request = feedback_service_pb2.RequeueUsersRequest(user_ids=users[start : start + 500])
                    await feedback.RequeueUsers(request)
                began = time.perf_counter()
                run = await client.run(lambda _: None)
                took = time.perf_counter() - began
                if run.users.settled != world.users:
                    raise RuntimeError(f"not all users were settled: {run.users}")
                return len(world.queries) / took

            measured = await interleaved({"cycle": cycle, "bare parts": bare.measure}, bench)
    behind = f"sessions/s on a {kind(uri)}: " + ", ".join(
        f"{name} {measured.median(name):,.0f}" for name in ("cycle", "bare parts")
    )
    row = measured.ratio("cycle", "bare parts").row(
        "whole cycle (lease, fetch, adjust, upsert, settle), sessions/s / the sum of the bare parts", 0.6, 0.85, behind
    )
    text = (
        f"{world.users:,} users with {SESSIONS_A_USER} sessions of {SHOWN} results, D={DIMENSION}. Bare parts, one "
        "after the other: sessions and events of all users found by pymongo, their objects' rows read and the copies "
        f"upserted by `MilvusClient`, {A_CALL:,} a call, and `bounded_rotation` on all evidence at once."
    )
    return Table("Cycle", [row], text)


async def _fill(client: Client, world: World) -> None:
    collection = object_pb2.Collection(name=COLLECTION, dimension=DIMENSION, metric=object_pb2.METRIC_COSINE)
    await client.objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))
    await client.objects.UpsertObjects(world.upserts())
    await client.record(world.recorded(), lambda _: None)


class _Bare:
    """What a run cannot do without, by the drivers alone."""

    def __init__(self, mongo_uri: str, milvus_uri: str, world: World) -> None:
        self._mongo: MongoClient[dict[str, Any]] = MongoClient(mongo_uri, tz_aware=True)
        self._milvus = MilvusClient(milvus_uri)
        self._world = world
        self._index = SearchIndex("bare", DIMENSION, Metric.COSINE, vectors="bare")
        self._adjuster = registry.load("bounded_rotation", Metric.COSINE, Aggregation.MIN, device="cpu")
        self._keys = [schema.primary_key(f"object {number}", "", 0) for number in range(world.objects)]
        self._prepare()

    def _prepare(self) -> None:
        self._milvus.create_collection("bare", schema=schema.collection_schema(self._index))
        indexes = MilvusClient.prepare_index_params()
        indexes.add_index("vector", index_type="FLAT", metric_type="COSINE")
        self._milvus.create_index("bare", indexes)
        self._milvus.load_collection("bare")
        rows = [
            {**row, "pk": self._keys[number]}
            for number, vector in enumerate(self._world.vectors)
            for row in schema.user_rows(
                UserCopies(
                    "", (PersonalCopy(f"object {number}", "", vector[None], ()),), vector[:0].reshape(0, DIMENSION)
                )
            )
        ]
        for start in range(0, len(rows), A_CALL):
            self._milvus.upsert("bare", rows[start : start + A_CALL])

    async def measure(self) -> float:
        """Do it all once; returns sessions a second."""
        signals, users = self._signals(), self._world.users
        began = time.perf_counter()
        self._read(users)
        vectors = self._originals()
        collected = collect(signals, vectors)
        moved = self._adjuster.adjust(collected.evidence)
        took = time.perf_counter() - began
        rows = _rows(collected.items, moved, collected.evidence.queries)
        began = time.perf_counter()
        for start in range(0, len(rows), A_CALL):
            self._milvus.upsert("bare", rows[start : start + A_CALL])
        return len(self._world.queries) / (took + time.perf_counter() - began)

    def _read(self, users: int) -> None:
        database = self._mongo["tideline_clickstream"]
        names = [f"user {number}" for number in range(users)]
        sessions = list(database.sessions.find({"user_id": {"$in": names}}))
        ids = [session["_id"] for session in sessions]
        events = list(database.session_events.find({"session_id": {"$in": ids}}))
        if len(sessions) != len(self._world.queries) or len(events) != len(sessions) * len(CLICKED):
            raise RuntimeError(f"{len(sessions)} sessions and {len(events)} events were found")

    def _originals(self) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for start in range(0, self._world.objects, A_CALL):
            keys = self._keys[start : start + A_CALL]
            for row in self._milvus.get("bare", keys, output_fields=["object_id", "vector"]):
                found[row["object_id"]] = np.array(row["vector"], np.float32)[None]
        return found

    def _signals(self) -> dict[str, list[SessionSignals]]:
        signals: dict[str, list[SessionSignals]] = {}
        for number, query in enumerate(self._world.queries):
            shown = [(f"object {one}", rank) for rank, one in enumerate(self._world.shown[number], start=1)]
            positives = {shown[place][0]: 1.0 for place in CLICKED}
            one = SessionSignals(f"session {number}", query, shown, positives, frozenset(positives))
            signals.setdefault(f"user {number // SESSIONS_A_USER}", []).append(one)
        return signals


def _rows(items: Any, moved: Floats, queries: Floats) -> list[dict[str, Any]]:
    by_user: dict[str, list[Any]] = {}
    for item in items:
        by_user.setdefault(item.user_id, []).append(item)
    rows: list[dict[str, Any]] = []
    for user_id, own in by_user.items():
        sessions = sorted({session for item in own for session in item.sessions})
        copies = tuple(PersonalCopy(item.object_id, "", moved[item.rows.start : item.rows.stop], (0,)) for item in own)
        rows += schema.user_rows(UserCopies(user_id, copies, queries[sessions]))
    return rows
