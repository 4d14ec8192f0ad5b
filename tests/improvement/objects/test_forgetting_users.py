"""A user who is forgotten finds what everybody does, and left nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from improvement_service.vectors import schema
from tests.improvement.catalogue_service import an_object
from tideline.improvement.v1 import object_service_pb2

if TYPE_CHECKING:
    from pymongo import MongoClient

    from tests.improvement.catalogue_service import CatalogueService

NEAR = [1.0, 0.0]


async def test_a_forgotten_user_leaves_no_row_and_no_id_and_other_users_keep_theirs(
    served: CatalogueService, collection_name: str, mongo_client: MongoClient[dict[str, Any]], database_name: str
) -> None:
    other_name = f"{collection_name}_2"
    for name in (collection_name, other_name):
        index = await served.create(name, 2)
        await served.upsert(name, an_object("a", NEAR), an_object("b", [0.0, 1.0]))
        for user_id in ("ann", "bob"):
            await served.learn(index, user_id, {"a": [[0.9, 0.1]], "b": [[0.1, 0.9]]}, [NEAR])
            assert [result.personal for result in (await served.search(name, NEAR, user_id)).results].count(True) > 0

    assert await forget(served, "ann") == 4

    for name in (collection_name, other_name):
        assert not any(result.personal for result in (await served.search(name, NEAR, "ann")).results)
        assert any(result.personal for result in (await served.search(name, NEAR, "bob")).results)
        rows = await served.vectors._milvus.read(
            schema.personal(await served.definitions.get(name)), schema.ANY, ["user_id"]
        )
        assert {row["user_id"] for row in rows} == {"bob"}
    database = mongo_client[database_name]
    found = [document for each in database.list_collection_names() for document in database[each].find()]
    assert "ann" not in repr(found)
    assert await forget(served, "ann") == 0


async def test_a_user_who_comes_back_does_not_find_what_a_replica_kept_in_memory(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", NEAR), an_object("b", [0.0, 1.0]))
    await served.learn(index, "ann", {"a": [[0.9, 0.1]]}, [NEAR])
    first = await served.versions.get(collection_name, "ann")
    await served.search(collection_name, NEAR, "ann")
    await forget(served, "ann")
    await served.learn(index, "ann", {"b": [[0.5, 0.5]]}, [NEAR])
    again = await served.versions.get(collection_name, "ann")
    assert first is not None
    assert again is not None
    assert again.number > first.number
    found = await served.search(collection_name, NEAR, "ann")
    assert {result.object_id for result in found.results if result.personal} == {"b"}


async def forget(served: CatalogueService, user_id: str) -> int:
    request = object_service_pb2.DeleteUserVectorsRequest(user_id=user_id)
    return (await served.objects.DeleteUserVectors(request)).copies_deleted
