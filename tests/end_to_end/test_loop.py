"""From a recorded search to a personalised one, through the public RPCs of both services."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deploy.local.client import Client
from deploy.local.service import Service
from deploy.local.world import Vectors, World
from tideline.clickstream.v1 import batch_service_pb2, event_pb2, session_service_pb2
from tideline.improvement.v1 import object_service_pb2, search_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from deploy.local.stack import Stack

Results = Sequence[search_service_pb2.ScoredObject]


@pytest.fixture
async def collection(client: Client, world: World) -> str:
    """A collection of its own with all items of the world."""
    name = f"c_{uuid.uuid4().hex[:12]}"
    await client.create_collection(name, world)
    return name


@pytest.fixture
async def second(stack: Stack, tmp_path: Path) -> AsyncIterator[Client]:
    """Another replica of the improvement service, on the same databases."""
    if stack.milvus_uri.endswith(".db"):
        pytest.skip("one process at a time can open Milvus Lite")
    settings = {
        "MONGO_URI": stack.mongo_uri,
        "MONGO_DATABASE": f"{stack.database}_improvement",
        "MILVUS_URI": stack.milvus_uri,
        "CLICKSTREAM_ADDRESS": stack.clickstream.address,
        "WORKER": "second",
    }
    service = Service("improvement", tmp_path / "second", settings)
    service.start()
    async with Client(stack.clickstream.address, service.address) as connected:
        yield connected
    assert service.stop() == 0


@pytest.fixture(scope="module")
def world() -> World:
    """Sixty items scattered around one direction, which is the first query; the second one points elsewhere."""
    scatter = np.random.default_rng(7)
    items = np.eye(1, 32, dtype=np.float32) + scatter.normal(0, 0.15, (60, 32)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    return World(
        items=[{"object_id": f"item {number}", "title": f"Item {number}"} for number in range(60)],
        queries=["near", "elsewhere"],
        users=[],
        item_vectors=items,
        query_vectors=np.eye(2, 32, dtype=np.float32),
        simulated=True,
    )


async def test_the_next_search_of_a_user_who_clicked_is_better_and_nobody_else_sees_a_change(
    client: Client, collection: str, world: World
) -> None:
    near, elsewhere = world.query_vectors
    everybody = await client.search(collection, near, limit=60)
    originals = await stored(client, collection, world)
    wanted = everybody[4].object_id
    session_id = await search_and_click(client, collection, near, "ann", wanted)

    run = await client.run(lambda _: None)

    assert run.vectors_moved == 5, "the one that was clicked, and the four above it that were passed over"
    found = await client.search(collection, near, user_id="ann", limit=60)
    assert place(found, wanted) < place(everybody, wanted)
    assert {result.object_id for result in found if result.personal} == {r.object_id for r in everybody[:5]}
    assert {r.object_id: r.base_score for r in found} == pytest.approx({r.object_id: r.score for r in everybody})
    for user_id in ("", "bob", "ann_", "an"):
        assert await client.search(collection, near, user_id=user_id, limit=60) == everybody
    assert await client.search(collection, elsewhere, user_id="ann", limit=60) == await client.search(
        collection, elsewhere, limit=60
    ), "copies stand in only where the query is like the one they were learned from"
    assert await stored(client, collection, world) == originals

    await client.sessions.MarkSessionIrrelevant(
        session_service_pb2.MarkSessionIrrelevantRequest(session_id=session_id, reason="somebody else's hand")
    )
    await client.run(lambda _: None)
    assert await client.search(collection, near, user_id="ann", limit=60) == everybody


async def test_what_a_user_likes_adds_up_over_runs_and_stays_with_that_user(
    client: Client, collection: str, world: World
) -> None:
    near = world.query_vectors[0]
    everybody = await client.search(collection, near, limit=60)
    wanted = {"cid": everybody[5].object_id, "dora": everybody[6].object_id}
    scores: dict[str, list[float]] = {"cid": [], "dora": []}
    for _ in range(2):
        for user_id, object_id in wanted.items():
            await search_and_click(client, collection, near, user_id, object_id)
        await client.run(lambda _: None)
        for user_id, object_id in wanted.items():
            found = await client.search(collection, near, user_id=user_id, limit=60)
            scores[user_id].append(next(result.score for result in found if result.object_id == object_id))

    base = {result.object_id: result.score for result in everybody}
    for user_id, object_id in wanted.items():
        assert base[object_id] < scores[user_id][0] < scores[user_id][1]
    dora = await client.search(collection, near, user_id="dora", limit=60)
    assert place(dora, wanted["dora"]) < place(dora, wanted["cid"])


async def test_another_replica_shows_what_was_learned_a_moment_later(
    client: Client, second: Client, collection: str, world: World
) -> None:
    near = world.query_vectors[0]
    everybody = await client.search(collection, near, limit=60)
    assert await second.search(collection, near, user_id="eve", limit=60) == everybody
    for _ in range(5):
        shown = await client.search(collection, near, user_id="eve", limit=10)
        await search_and_click(client, collection, near, "eve", shown[5].object_id)
        await client.run(lambda _: None)

        here = await client.search(collection, near, user_id="eve", limit=60)

        assert [result for result in here if result.personal]
        async with asyncio.timeout(20):
            while await second.search(collection, near, user_id="eve", limit=60) != here:
                # It is told of the change, and of those before; what it finds until then is what was there.
                pass


async def search_and_click(client: Client, collection: str, query: Vectors, user_id: str, object_id: str) -> str:
    """What a backend does: search and record it, send the click, submit the session; returns the session's id."""
    request = search_service_pb2.SearchRequest(
        collection=collection,
        query_vector=query.tolist(),
        user_id=user_id,
        limit=10,
        record_session=search_service_pb2.RecordSession(),
    )
    session_id = (await client.searches.Search(request)).session_id
    click = event_pb2.Event(event_id="click", object_id=object_id, event_types=["click"])
    pushed = await client.sessions.PushEvents(
        session_service_pb2.PushEventsRequest(session_id=session_id, events=[click])
    )
    assert pushed.outcomes[0].status == event_pb2.EVENT_STATUS_ACCEPTED
    assert not pushed.outcomes[0].flags, "it was among the results"
    await client.batches.UseSessionForImprovement(
        batch_service_pb2.UseSessionForImprovementRequest(session_id=session_id)
    )
    return session_id


async def stored(client: Client, collection: str, world: World) -> list[list[float]]:
    """The vectors of all items as they are stored for everybody."""
    request = object_service_pb2.GetObjectsRequest(
        collection=collection, object_ids=[item["object_id"] for item in world.items]
    )
    return [list(found.object.parts[0].vector) for found in (await client.objects.GetObjects(request)).objects]


def place(results: Results, object_id: str) -> int:
    return [result.object_id for result in results].index(object_id)
