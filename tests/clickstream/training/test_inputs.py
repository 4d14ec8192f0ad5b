"""Sessions as inputs to fine-tune on."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.clickstream.batch_calls import open_batch, release
from tests.clickstream.training.calls import inputs
from tideline.clickstream.v1 import interaction_pb2, interaction_service_pb2, session_service_pb2

if TYPE_CHECKING:
    from typing import Any

    from pymongo.database import Database

    from tests.clickstream.conftest import Clock, Service
    from tests.clickstream.training.calls import Log
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceAsyncStub
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceAsyncStub


async def test_an_input_holds_what_was_done_with_each_object_most_important_first(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    done = [("c", "view"), ("b", "click"), ("a", "click"), ("b", "skip"), ("d", "click"), ("d", "purchase")]
    await log.search("s1", "abcdef", done, query_vector=[0.5, -0.25])
    (found,) = await inputs(training)
    assert [(event.object_id, event.importance, list(event.event_types)) for event in found.events] == [
        ("d", 3.0, ["click", "purchase"]),
        ("a", 1.0, ["click"]),
        ("b", 0.5, ["click", "skip"]),
        ("c", 0.0, ["view"]),
    ]
    assert (list(found.result_object_ids), list(found.ranks)) == (list("abcdef"), [1, 2, 3, 4, 5, 6])
    assert list(found.not_event_object_ids) == ["e", "f"]
    assert (found.query.text, list(found.query_vector)) == ("red shoes", [0.5, -0.25])
    assert (found.session_id, found.session_number, found.is_irrelevant) == ("s1", 1, False)


async def test_inputs_of_a_batch_come_by_number(training: TrainingServiceAsyncStub, log: Log, service: Service) -> None:
    await log.search("s1", "ab", ["b"])
    await log.search("s0", "ab")
    batch = await open_batch(service.batches)
    await release(service.batches, "r1")
    await log.search("s2", "ab")
    found = await inputs(training, batch_id=batch.batch_id)
    assert [(each.session_id, each.batch_id, each.session_number) for each in found] == [
        ("s1", batch.batch_id, 1),
        ("s0", batch.batch_id, 2),
    ]


async def test_inputs_of_a_time_come_oldest_first(training: TrainingServiceAsyncStub, log: Log, clock: Clock) -> None:
    for hours in (0, 2, 1, 3):
        await log.search(f"s{hours}", "ab", created_at=clock.time - timedelta(hours=hours))
    found = await inputs(
        training, created_from=clock.time - timedelta(hours=2), created_before=clock.time - timedelta(minutes=30)
    )
    assert [each.session_id for each in found] == ["s2", "s1"]


async def test_irrelevant_sessions_are_sent_only_when_asked_for_and_noise_never(
    training: TrainingServiceAsyncStub, log: Log, service: Service, database: Database[dict[str, Any]]
) -> None:
    for number in range(3):
        await log.search(f"s{number}", "ab", ["a"])
    await service.sessions.MarkSessionIrrelevant(session_service_pb2.MarkSessionIrrelevantRequest(session_id="s0"))
    database["sessions"].update_one({"_id": "s1"}, {"$set": {"noise": ["bot"]}})
    assert [each.session_id for each in await inputs(training)] == ["s2"]
    found = await inputs(training, include_irrelevant=True)
    assert [(each.session_id, each.is_irrelevant) for each in found] == [("s0", True), ("s2", False)]


async def test_importance_follows_the_version_of_the_strengths(
    training: TrainingServiceAsyncStub, log: Log, interactions: InteractionServiceAsyncStub
) -> None:
    await log.search("s1", "ab", ["b"])
    changed = interaction_pb2.Strength(
        interaction_type="click", level=interaction_pb2.STRENGTH_LEVEL_MODERATE, weight=5.0
    )
    await interactions.UpdateStrengths(interaction_service_pb2.UpdateStrengthsRequest(strengths=[changed]))
    assert (await inputs(training))[0].events[0].importance == 5.0
    assert (await inputs(training, strengths_version=1))[0].events[0].importance == 1.0
