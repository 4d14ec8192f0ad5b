"""Changes that MongoDB forgot before they were counted, in one of its own: a long log takes long to search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from deploy.local.mongod import Mongod
from tests.clickstream.conftest import serving
from tests.clickstream.signals.calls import click, searched
from tests.clickstream.signals.rollups import contributions, generation
from tests.clickstream.worker import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import CaughtUp, Clock
    from tests.clickstream.signals.rollups import Documents


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Mongod(tmp_path_factory.mktemp("lost_changes")) as mongod:
        yield mongod.uri


@pytest.fixture(scope="session")
def mongo_client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
        yield client


async def test_when_the_oplog_does_not_reach_back_far_enough_all_is_counted_again(
    settings: Settings, clock: Clock, database: Documents, caught_up: CaughtUp
) -> None:
    async with serving(settings, clock) as service:
        await caught_up()
        await searched(service, "s1", click("c"))
        await caught_up()
    database.sessions.delete_one({"_id": "s1"})
    state = database.rollup_state.find_one({})
    assert state is not None
    token = state["token"]["_data"]
    # A place in 1970, where no oplog begins.
    database.rollup_state.update_one({}, {"$set": {"token": {"_data": token[:2] + "000003E8" + token[10:]}}})
    async with serving(settings, clock):
        await until(lambda: generation(database) == 2)
        await caught_up()
        assert list(contributions(database)) == ["{'s': 's1', 'e': ''}"]
        assert not database.list_collection_names(filter={"name": {"$regex": "_1$"}})
