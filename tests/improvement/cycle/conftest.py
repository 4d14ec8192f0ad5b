"""The whole loop in this process, on a real MongoDB and a real Milvus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.improvement.cycle.loop import Loop, looping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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
