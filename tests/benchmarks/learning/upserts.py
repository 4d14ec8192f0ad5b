"""Copies written by the service's own code, and the same rows written by a bare client."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
from pymilvus import MilvusClient

from improvement_service.domain.index import Metric, SearchIndex
from improvement_service.domain.objects import PersonalCopy, UserCopies
from improvement_service.vectors import schema
from improvement_service.vectors.milvus import VectorStore
from tests.benchmarks.harness import interleaved
from tests.benchmarks.learning.evidence import unit
from tests.benchmarks.learning.milvus import kind

if TYPE_CHECKING:
    from tests.benchmarks.harness import Bench, Row

DIMENSION = 384
COPIES = 50
A_CALL = 1_000


async def upsert_row(bench: Bench, uri: str) -> Row:
    """Return the line for writing users' copies to the Milvus at `uri`."""
    store = VectorStore(uri)
    client = MilvusClient(uri)
    ours, bare = (SearchIndex(name, DIMENSION, Metric.COSINE, vectors=name) for name in ("our_upserts", "bare_upserts"))
    await asyncio.gather(*map(store.ensure, (ours, bare)))
    users = [_copies(number) for number in range(bench.amount(200))]
    rows = [row for user in users for row in schema.user_rows(user)]

    async def through_store() -> float:
        began = time.perf_counter()
        await store.replace_personal_many(ours, users)
        return len(rows) / (time.perf_counter() - began)

    async def through_client() -> float:
        began = time.perf_counter()
        for start in range(0, len(rows), A_CALL):
            client.upsert(schema.personal(bare), rows[start : start + A_CALL])
        return len(rows) / (time.perf_counter() - began)

    measured = await interleaved({"ours": through_store, "bare": through_client}, bench)
    await store.close()
    client.close()
    behind = f"rows/s on a {kind(uri)}: ours {measured.median('ours'):,.0f}, bare {measured.median('bare'):,.0f}"
    figure = "users' copies replaced (surplus found, too), rows/s / bare `MilvusClient.upsert`, 1,000 rows a call"
    return measured.ratio("ours", "bare").row(figure, 0.9, 1.2, behind)


def _copies(number: int) -> UserCopies:
    rng = np.random.default_rng(number)
    vectors = unit(rng.standard_normal((COPIES, 1, DIMENSION)).reshape(COPIES, DIMENSION))
    copies = tuple(PersonalCopy(f"object {n}", "0" * 32, vectors[n : n + 1], (n % 3,)) for n in range(COPIES))
    return UserCopies(f"user {number}", copies, unit(rng.standard_normal((3, DIMENSION))))
