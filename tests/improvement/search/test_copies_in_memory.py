"""Copies in memory: asked for once, and current all the same, whoever writes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from improvement_service.storage import version_changes
from improvement_service.storage.personal_versions import MongoPersonalVersions
from tests.improvement.catalogue_service import an_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo import MongoClient
    from pymongo.database import Database

    from tests.improvement.catalogue_service import CatalogueService

NEAR = [1.0, 0.0]
MOVED = {"a": [[0.8, 0.6]]}, {"a": [[0.6, 0.8]]}


@pytest.fixture
def database(mongo_client: MongoClient[dict[str, Any]], database_name: str) -> Database[dict[str, Any]]:
    return mongo_client[database_name]


@pytest.fixture
def asked(database: Database[dict[str, Any]]) -> Callable[[], int]:
    """How often MongoDB has been asked for the version of a user."""
    database.command("profile", 2)
    return lambda: database.system.profile.count_documents({"op": "query", "ns": f"{database.name}.personal_versions"})


async def personal(served: CatalogueService, name: str, user_id: str = "ann") -> list[float]:
    """The scores of what the user finds in place of originals."""
    found = await served.search(name, NEAR, user_id)
    return [round(result.score, 3) for result in found.results if result.personal]


async def until_not_asked(served: CatalogueService, name: str, asked: Callable[[], int], user_id: str = "ann") -> None:
    """Search until it is done without asking for the version."""
    async with asyncio.timeout(20):
        while True:
            before = asked()
            await personal(served, name, user_id)
            if asked() == before:
                return


async def learned(served: CatalogueService, name: str) -> MongoPersonalVersions:
    """A user has copies; returns versions as another replica writes them."""
    index = await served.create(name, 2)
    await served.upsert(name, an_object("a", NEAR), an_object("b", [0.0, 1.0]))
    await served.learn(index, "ann", MOVED[0], [NEAR])
    return MongoPersonalVersions(served.versions._versions.database)


async def test_a_user_who_searches_again_costs_the_database_nothing(
    served: CatalogueService, collection_name: str, asked: Callable[[], int]
) -> None:
    await learned(served, collection_name)
    for user_id, found in (("ann", [0.8]), ("somebody without copies", [])):
        await until_not_asked(served, collection_name, asked, user_id)
        assert await personal(served, collection_name, user_id) == found


async def test_what_was_written_here_is_found_by_the_very_next_search(
    served: CatalogueService, collection_name: str, asked: Callable[[], int]
) -> None:
    await learned(served, collection_name)
    index = await served.definitions.get(collection_name)
    for number in range(6):
        await until_not_asked(served, collection_name, asked)
        moved = MOVED[(number + 1) % 2]
        await served.learn(index, "ann", moved, [NEAR])
        assert await personal(served, collection_name) == [moved["a"][0][0]]


async def test_what_another_replica_wrote_is_found_a_moment_later(
    served: CatalogueService, collection_name: str, asked: Callable[[], int]
) -> None:
    elsewhere = await learned(served, collection_name)
    index = await served.definitions.get(collection_name)
    for number in range(6):
        await until_not_asked(served, collection_name, asked)
        moved = MOVED[(number + 1) % 2]
        await replace(served, versions=elsewhere).learn(index, "ann", moved, [NEAR])
        async with asyncio.timeout(20):
            while await personal(served, collection_name) != [moved["a"][0][0]]:
                pass
    await until_not_asked(served, collection_name, asked)
    await elsewhere.forget_user(collection_name, "ann")
    async with asyncio.timeout(20):
        while await personal(served, collection_name):
            pass


async def test_without_news_of_the_database_versions_are_asked_for_by_each_search(
    served: CatalogueService, collection_name: str, asked: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = await learned(served, collection_name)
    await until_not_asked(served, collection_name, asked)
    monkeypatch.setattr(version_changes, "STALE_AFTER_S", 0.0)
    for _ in range(3):
        before = asked()
        assert await personal(served, collection_name) == [0.8]
        assert asked() == before + 1
    await elsewhere.forget_user(collection_name, "ann")
    assert await personal(served, collection_name) == []


async def test_a_broken_watch_is_begun_anew_and_what_was_missed_is_found(
    served: CatalogueService, collection_name: str, asked: Callable[[], int], database: Database[dict[str, Any]]
) -> None:
    elsewhere = await learned(served, collection_name)
    await until_not_asked(served, collection_name, asked)
    # A change stream ends with its collection; all versions are gone with it.
    database.drop_collection("personal_versions")
    async with asyncio.timeout(20):
        while await personal(served, collection_name):
            pass
    await elsewhere.bump(collection_name, ["ann"], 0)
    async with asyncio.timeout(20):
        while await personal(served, collection_name) != [0.8]:
            pass
    await until_not_asked(served, collection_name, asked)
