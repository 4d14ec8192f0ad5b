"""A backlog of feedback, and what has become of it."""

from __future__ import annotations

import asyncio
import inspect
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pymilvus import MilvusClient

from deploy.local.client import Recorded
from deploy.local.world import World
from tideline.clickstream.v1 import feedback_service_pb2, session_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pymongo.database import Database

    from deploy.local.world import Vectors

DIMENSION = 32
ITEMS = 100
SHOWN = 10
SESSIONS_A_USER = 2


def a_world() -> World:
    """Items and queries in all directions."""
    scatter = np.random.default_rng(11)
    return World(
        items=[{"object_id": f"item {number}", "title": f"Item {number}"} for number in range(ITEMS)],
        queries=[f"query {number}" for number in range(20)],
        users=[],
        item_vectors=_directions(scatter, ITEMS),
        query_vectors=_directions(scatter, 20),
        simulated=True,
    )


def _directions(scatter: np.random.Generator, number: int) -> Vectors:
    vectors = scatter.normal(0, 1, (number, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def a_backlog(collection: str, world: World, users: int, prefix: str) -> list[Recorded]:
    """Sessions of users whose ids begin with `prefix`; with another prefix the same ones of other users."""
    chance = random.Random(5)
    sessions: list[Recorded] = []
    for user in range(users):
        for number in range(SESSIONS_A_USER):
            query = chance.randrange(len(world.queries))
            shown = chance.sample(range(ITEMS), SHOWN)
            session = session_pb2.Session(
                session_id=f"{prefix}{user}-{number}",
                user_id=f"{prefix}{user}",
                collection=collection,
                query_vector=world.query_vectors[query].tolist(),
                search_results=[session_pb2.SearchResult(object_id=world.items[item]["object_id"]) for item in shown],
            )
            sessions.append(Recorded(session, [chance.randrange(SHOWN)]))
    return sessions


@dataclass(frozen=True)
class Queue:
    """The clickstream service's database, to look at."""

    database: Database[dict[str, Any]]

    def settled(self) -> int:
        """How many sessions are done."""
        return self.database.sessions_for_improvement.count_documents({"state": "done"})

    def waits(self) -> bool:
        return self.database.user_leases.count_documents({"pending": True}, limit=1) > 0

    def held_by(self, owner: str) -> list[feedback_service_pb2.FeedbackLease]:
        """The leases of a worker."""
        found = self.database.user_leases.find({"owner": owner, "available_at": {"$gt": datetime.now(UTC)}})
        return [feedback_service_pb2.FeedbackLease(user_id=user["_id"], fence=user["fence"]) for user in found]

    def sessions(self) -> list[tuple[str, int]]:
        """The state of each submitted session, and how often it was settled."""
        return [(row["state"], row["settlements"]) for row in self.database.sessions_for_improvement.find()]


def personal_rows(milvus_uri: str, vectors: str, prefix: str) -> dict[tuple[str, str, int], list[float]]:
    """The vectors of all personal rows of the users whose ids begin with `prefix`, by user (without it), object, part.

    `vectors` is what Milvus calls the collection of the originals.
    """
    client = MilvusClient(milvus_uri)
    try:
        rows = client.query(
            f"{vectors}_personal",
            filter='owner != ""',
            output_fields=["user_id", "object_id", "part", "vector"],
            limit=16_384,
            consistency_level="Strong",
        )
    finally:
        client.close()
    assert len(rows) < 16_384
    return {
        (row["user_id"].removeprefix(prefix), row["object_id"], row["part"]): row["vector"]
        for row in rows
        if row["user_id"].startswith(prefix)
    }


async def until(condition: Callable[[], object | Awaitable[object]]) -> None:
    """Wait for something that another process brings about."""
    while True:
        met = condition()
        if inspect.isawaitable(met):
            met = await met
        if met:
            return
        await asyncio.sleep(0.02)
