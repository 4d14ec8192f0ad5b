"""Both services on real databases, once on Milvus Lite and once on a Milvus server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.client import Client
from deploy.local.milvus_server import milvus_server_command
from deploy.local.stack import LITE, SERVER, Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pymongo import MongoClient


@pytest.fixture(scope="module", params=[LITE, SERVER])
def stack(
    request: pytest.FixtureRequest,
    mongo_uri: str,
    mongo_client: MongoClient[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    if request.param == SERVER and milvus_server_command() is None:
        pytest.skip("no milvus-server: `make test` installs one, TIDELINE_MILVUS_SERVER names another")
    database = f"test_{uuid.uuid4().hex[:12]}"
    folder = tmp_path_factory.mktemp(request.param)
    with Stack(folder, mongo_uri=mongo_uri, milvus=request.param, database=database) as running:
        yield running
    for name in mongo_client.list_database_names():
        if name.startswith(database):
            mongo_client.drop_database(name)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with Client(stack.clickstream.address, stack.improvement.address) as connected:
        yield connected
