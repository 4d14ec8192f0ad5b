"""Searches while more and more users have copies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from motor.motor_asyncio import AsyncIOMotorClient

from deploy.local.client import Client
from deploy.local.mongod import Mongod
from deploy.local.stack import Stack
from improvement_service.domain.objects import PersonalCopy, UserCopies
from improvement_service.storage.collections import MongoCollections
from improvement_service.storage.personal_versions import MongoPersonalVersions
from improvement_service.vectors.milvus import VectorStore
from tests.benchmarks.learning.evidence import unit
from tests.benchmarks.learning.milvus import milvus, of_stack
from tideline.improvement.v1 import object_pb2, object_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

COLLECTION = "bench"
DIMENSION = 64
COPIES = 5
A_WRITE = 1_000
TOPICS = 200
"""Each has at least as many objects as a user has copies."""


async def copied_users(folder: Path, users: Sequence[int], objects: int, searches: int) -> list[dict[str, float]]:
    """Give more and more users copies; returns what writes and so many searches cost at each number."""
    home = folder / "crowd"
    home.mkdir()
    rng = np.random.default_rng(4)
    topics = unit(rng.standard_normal((TOPICS, DIMENSION)))
    vectors = unit(topics[np.arange(objects) % TOPICS] + 0.05 * rng.standard_normal((objects, DIMENSION)))
    costs = []
    with milvus(home) as uri, Mongod(home) as mongod:
        stack = Stack(home / "stack", mongo_uri=mongod.uri, milvus=of_stack(uri))
        with stack:
            client = Client(stack.clickstream.address, stack.improvement.address)
            async with client:
                await _collection(client, vectors)
                there = 0
                for amount in users:
                    wrote = await _give(stack, mongod.uri, range(there, amount), topics, vectors)
                    there = amount
                    costs.append(
                        {
                            "a user's copies written, ms": wrote,
                            **await _searches(client, rng.choice(amount, min(amount, searches), replace=False), topics),
                        }
                    )
    return costs


async def _give(stack: Stack, mongo_uri: str, numbers: range, topics: np.ndarray, vectors: np.ndarray) -> float:
    """Give users copies of objects of their topic, as a run does; returns how long one took, in ms."""
    mongo: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(mongo_uri, tz_aware=True)
    database = mongo["tideline_improvement"]
    store = VectorStore(stack.milvus_uri)
    index = await MongoCollections(database).get(COLLECTION)
    versions = MongoPersonalVersions(database)
    hashes = await store.base_hashes(index, [f"object {n}" for n in range(len(vectors))])
    took = []
    for start in range(numbers.start, numbers.stop, A_WRITE):
        some = range(start, min(start + A_WRITE, numbers.stop))
        given = [_copies(number, topics, vectors, hashes) for number in some]
        began = time.perf_counter()
        await store.replace_personal_many(index, given)
        took.append(1000 * (time.perf_counter() - began) / len(some))
        await versions.bump(COLLECTION, [f"user {number}" for number in some], await store.clock())
    await store.close()
    mongo.close()
    return float(np.median(took))


def _copies(number: int, topics: np.ndarray, vectors: np.ndarray, hashes: dict[str, str]) -> UserCopies:
    own = [number % TOPICS + TOPICS * place for place in range(COPIES)]
    query = topics[number % TOPICS][None]
    copies = tuple(
        PersonalCopy(f"object {n}", hashes[f"object {n}"], unit(vectors[n][None] + query), (0,)) for n in own
    )
    return UserCopies(f"user {number}", copies, query)


async def _searches(client: Client, users: np.ndarray, topics: np.ndarray) -> dict[str, float]:
    first, again, anonymous = [], [], []
    for number in users:
        query = topics[number % TOPICS]
        first.append(await _search(client, query, f"user {number}"))
        again.append(await _search(client, query, f"user {number}"))
        anonymous.append(await _search(client, query, ""))
    return {
        "the first search of a user, p50 ms": float(np.median(first)),
        "the next search of a user, p50 ms": float(np.median(again)),
        "a search of nobody, p50 ms": float(np.median(anonymous)),
    }


async def _search(client: Client, query: np.ndarray, user_id: str) -> float:
    began = time.perf_counter()
    found = await client.search(COLLECTION, query, user_id=user_id, limit=10)
    took = 1000 * (time.perf_counter() - began)
    if bool(user_id) != any(one.personal for one in found):
        raise RuntimeError("a search was personalised that should not be, or not although it should")
    return took


async def _collection(client: Client, vectors: np.ndarray) -> None:
    collection = object_pb2.Collection(name=COLLECTION, dimension=DIMENSION, metric=object_pb2.METRIC_COSINE)
    await client.objects.CreateCollection(object_service_pb2.CreateCollectionRequest(collection=collection))

    async def upserts() -> AsyncIterator[object_service_pb2.UpsertObjectsRequest]:
        for start in range(0, len(vectors), 500):
            objects = [
                object_pb2.Object(object_id=f"object {n}", parts=[object_pb2.Part(vector=vectors[n].tolist())])
                for n in range(start, start + 500)
            ]
            yield object_service_pb2.UpsertObjectsRequest(collection=COLLECTION, objects=objects)

    await client.objects.UpsertObjects(upserts())
