"""The whole loop in this process, on a real MongoDB and a real Milvus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.improvement.cycle.loop import Loop, looping, working
from tests.improvement.cycle.stores import GatedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo import MongoClient
    from pymongo.collection import Collection

    from tests.improvement.cycle.loop import Worker

    Leases = Collection[dict[str, Any]]


@pytest.fixture
async def loop(
    mongo_uri: str, database_name: str, milvus_uri: str, collection_name: str, request: pytest.FixtureRequest
) -> AsyncIterator[Loop]:
    """Both services and a collection of twelve objects; `@pytest.mark.parametrize("loop", [{...}], indirect=True)`
    gives the improvement service other settings."""
    settings = getattr(request, "param", {})
    async with looping(mongo_uri, database_name, milvus_uri, collection_name, **settings) as running:
        await running.create_collection()
        yield running


@pytest.fixture
def store(loop: Loop) -> GatedStore:
    return GatedStore(loop.settings.milvus_uri)


@pytest.fixture
async def gated(loop: Loop, store: GatedStore) -> AsyncIterator[Worker]:
    """A second worker, whose writes wait while the gate of its store is closed."""
    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        yield worker
        store.gate.set()


@pytest.fixture
def leases(mongo_client: MongoClient[dict[str, Any]], database_name: str) -> Leases:
    """The clickstream service's leases, to look at and to meddle with."""
    return mongo_client[f"{database_name}_clickstream"].user_leases
