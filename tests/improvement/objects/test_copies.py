"""What becomes of personal copies when their originals change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from tests.improvement.catalogue_service import AVG, NASTY_IDS, an_object

if TYPE_CHECKING:
    from tests.improvement.catalogue_service import CatalogueService

QUERY = [1.0, 1.0]


async def personal(served: CatalogueService, name: str, user_id: str) -> set[str]:
    """Return which results of `user_id` are copies."""
    return {one.object_id for one in (await served.search(name, QUERY, user_id, limit=50)).results if one.personal}


async def test_changing_an_original_drops_its_copies_at_once_and_queues_their_users(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", [1, 0]), an_object("b", [0, 1]))
    await served.learn(index, "u1", {"a": [[1, 0.1]], "b": [[0.1, 1]]}, [QUERY])
    await served.learn(index, "u2", {"b": [[0.2, 1]]}, [QUERY])
    assert await personal(served, collection_name, "u1") == {"a", "b"}

    changes = await served.upsert(collection_name, an_object("a", [1, 0.5]), an_object("b", [0, 1]))
    assert (changes.upserted, changes.copies_dropped, changes.users_requeued) == (2, 1, 1)
    # Before and after the copies went: a run in between may have written them anew.
    assert served.clickstream.requeued == ["u1", "u1"]
    assert await personal(served, collection_name, "u1") == {"b"}
    assert await personal(served, collection_name, "u2") == {"b"}
    assert {(copy.user_id, copy.object_id) for copy in await served.vectors.copies_of(index, ["a", "b"])} == {
        ("u1", "b"),
        ("u2", "b"),
    }


async def test_a_new_payload_keeps_the_copies_and_shows_on_them_at_once(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", [1, 0], payload={"price": 1}))
    await served.learn(index, "user", {"a": [[1, 0.1]]}, [QUERY])
    assert (await served.search(collection_name, QUERY, "user")).results[0].payload["price"] == 1
    changes = await served.upsert(collection_name, an_object("a", [1, 0], payload={"price": 2}))
    assert changes.copies_dropped == 0
    (result,) = (await served.search(collection_name, QUERY, "user", payload_filter={"price": 2})).results
    assert (result.personal, result.payload["price"]) == (True, 2)
    assert not (await served.search(collection_name, QUERY, "user", payload_filter={"price": 1})).results


async def test_what_an_outage_left_undone_is_finished_by_the_same_call_again(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", [1, 0]), an_object("b", [0, 1]))
    await served.learn(index, "u1", {"a": [[1, 0.1]], "b": [[0.1, 1]]}, [QUERY])
    changed = an_object("a", [1, 0.5])

    served.clickstream.down = True
    with pytest.raises(grpc.aio.AioRpcError) as down:
        await served.upsert(collection_name, changed)
    assert down.value.code() == grpc.StatusCode.UNAVAILABLE
    # The stale copy is out of the searches already.
    assert await personal(served, collection_name, "u1") == {"b"}
    with pytest.raises(grpc.aio.AioRpcError):
        await served.delete(collection_name, "b")
    assert await personal(served, collection_name, "u1") == set()

    served.clickstream.down = False
    again = await served.upsert(collection_name, changed)
    assert (again.copies_dropped, again.users_requeued) == (1, 1)
    gone = await served.delete(collection_name, "b")
    assert (gone.deleted, gone.copies_dropped, gone.users_requeued) == (0, 1, 1)
    assert served.clickstream.requeued == ["u1"] * 4
    assert await served.vectors.copies_of(index, ["a", "b"]) == []


async def test_deleting_objects_deletes_their_copies_and_no_others(
    served: CatalogueService, collection_name: str
) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, *(an_object(object_id, [1, 0]) for object_id in NASTY_IDS))
    for user_id in ("u1", "u2"):
        await served.learn(index, user_id, {object_id: [[1, 0.1]] for object_id in NASTY_IDS}, [QUERY])
    deleted, kept = NASTY_IDS[::2], set(NASTY_IDS[1::2])
    changes = await served.delete(collection_name, *deleted, "unknown")
    assert (changes.deleted, changes.copies_dropped, changes.users_requeued) == (len(deleted), 2 * len(deleted), 2)
    assert {one.object_id for one in (await served.search(collection_name, QUERY, limit=50)).results} == kept
    assert await personal(served, collection_name, "u1") == kept
    assert await personal(served, collection_name, "u2") == kept


async def test_ids_that_look_alike_when_joined_are_kept_apart(served: CatalogueService, collection_name: str) -> None:
    index = await served.create(collection_name, 2)
    await served.upsert(collection_name, an_object("a", [1, 0]), an_object("a_b", [1, 0]))
    await served.learn(index, "b_c", {"a": [[1, 0.25]]}, [QUERY])
    await served.learn(index, "c", {"a_b": [[1, 0.5]]}, [QUERY])
    for user_id, own, other, moved in (("b_c", "a", "a_b", 0.25), ("c", "a_b", "a", 0.5)):
        (copy, original) = await served.get(collection_name, [own, other], user_id)
        assert (copy.personal, copy.display_id) == (True, "a_b_c")
        assert list(copy.object.parts[0].vector) == [1, moved]
        assert (original.personal, list(original.object.parts[0].vector)) == (False, [1, 0])
    await served.delete(collection_name, "a")
    assert await personal(served, collection_name, "b_c") == set()
    assert await personal(served, collection_name, "c") == {"a_b"}


async def test_a_copy_comes_with_the_parts_that_are_scored(served: CatalogueService, collection_name: str) -> None:
    index = await served.create(collection_name, 2, aggregation=AVG)
    await served.upsert(
        collection_name, an_object("made", [1, 0], [0, 1]), an_object("given", [1, 0], [0, 1], average=1)
    )
    await served.learn(index, "user", {"made": [[2, 1]], "given": [[1, 2]]}, [QUERY])
    made, given = await served.get(collection_name, ["made", "given"], "user")
    assert made.object == an_object("made", [2, 1], average=0)
    assert given.object == an_object("given", [1, 2], average=0)
