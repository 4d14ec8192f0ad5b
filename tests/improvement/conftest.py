"""Objects and searches as they are served: in this process, on a free port, with a real MongoDB and a real Milvus."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.improvement.catalogue_service import CatalogueService, catalogue_serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Milvus Lite for this test run, or the server that TIDELINE_TEST_MILVUS_URI names."""
    return os.environ.get("TIDELINE_TEST_MILVUS_URI") or str(tmp_path_factory.mktemp("milvus") / "vectors.db")


@pytest.fixture
def collection_name() -> str:
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def served(mongo_uri: str, database_name: str, milvus_uri: str) -> AsyncIterator[CatalogueService]:
    async with catalogue_serving(mongo_uri, database_name, milvus_uri) as service:
        yield service
