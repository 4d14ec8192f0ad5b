"""A user who is forgotten while a run writes: the run takes back what it wrote."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.improvement.cycle.loop import OBJECTS, Loop, working
from tests.improvement.cycle.stores import GatedStore
from tideline.clickstream.v1 import feedback_service_pb2
from tideline.improvement.v1 import object_service_pb2

if TYPE_CHECKING:
    from pymongo import MongoClient

ANN = "ann-4711"


async def test_what_a_run_wrote_for_a_user_who_was_forgotten_meanwhile_is_taken_back_and_the_lease_given_back(
    loop: Loop, mongo_client: MongoClient[dict[str, Any]]
) -> None:
    await loop.record(ANN, OBJECTS[0])
    await loop.record("bob", OBJECTS[0])
    store = GatedStore(loop.settings.milvus_uri)
    async with working(loop.settings.model_copy(update={"worker": "w2"}), store) as worker:
        store.gate.clear()
        running = asyncio.create_task(worker.run())
        await store.reached.wait()
        request = object_service_pb2.DeleteUserVectorsRequest(user_id=ANN)
        await loop.worker.objects.DeleteUserVectors(request)
        store.gate.set()
        await running

    assert await loop.personal(ANN) == {}
    assert set(await loop.personal("bob")) == {OBJECTS[0]}
    database = mongo_client[loop.settings.mongo_database]
    found = [document for name in database.list_collection_names() for document in database[name].find()]
    assert ANN not in repr(found)
    counts = await loop.feedback.GetFeedbackCounts(feedback_service_pb2.GetFeedbackCountsRequest())
    assert counts.leased_users == 0
