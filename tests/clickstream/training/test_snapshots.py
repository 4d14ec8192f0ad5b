"""Snapshots give the same again; splits share nothing."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.clickstream.calls import Refusal, refusal
from tests.clickstream.training.calls import bytes_of, export, found, snapshot
from tests.clickstream.training.reference import a_log, expected
from tideline.clickstream.v1 import session_service_pb2
from tideline.clickstream.v1 import training_service_pb2 as pb

if TYPE_CHECKING:
    from tests.clickstream.conftest import Clock
    from tests.clickstream.training.calls import Log
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceAsyncStub


@pytest.mark.parametrize("seed", range(3))
async def test_an_export_holds_what_a_simple_count_over_all_sessions_finds(
    training: TrainingServiceAsyncStub, log: Log, seed: int
) -> None:
    made = a_log(seed, sessions=60)
    for search in made:
        await log.search(search.session_id, search.shown, search.done, search.query, user_id=search.user_id)
    assert found(await export(training, max_negatives=100)) == expected(made)


async def test_a_snapshot_gives_the_same_bytes_although_sessions_and_events_came_in(
    training: TrainingServiceAsyncStub, log: Log, clock: Clock
) -> None:
    for search in a_log(7, sessions=40):
        await log.search(search.session_id, search.shown, search.done, search.query, user_id=search.user_id)
    frozen = await snapshot(training, max_negatives=5)
    before = await export(training, frozen.snapshot_id)
    clock.advance(timedelta(milliseconds=1))
    # As old as what is frozen, but recorded later.
    for search in a_log(8, sessions=20):
        late = f"late-{search.session_id}"
        created_at = clock.time - timedelta(hours=1)
        await log.search(late, search.shown, search.done, search.query, created_at=created_at)
    await log.act("s3", [("o1", "purchase"), "o2", ("o9", "negative_feedback")], prefix="late")
    after = await export(training, frozen.snapshot_id)
    assert before
    assert bytes_of(after) == bytes_of(before)
    assert bytes_of(await export(training, max_negatives=5)) != bytes_of(before)


async def test_a_snapshot_says_all_that_it_froze(training: TrainingServiceAsyncStub, clock: Clock) -> None:
    request = pb.CreateTrainingSnapshotRequest(choice=pb.TrainingChoice(surfaces=["web", "app"]))
    request.meta.update({"why.$": "model 7"})
    frozen = (await training.CreateTrainingSnapshot(request)).snapshot
    assert len(frozen.snapshot_id) == 64
    choice = frozen.choice
    assert (choice.min_interactions, choice.max_negatives, choice.max_weight) == (1, 10, 10.0)
    assert (choice.propensity_version, choice.strengths_version) == (0, 1)
    assert choice.created_before == frozen.recorded_before
    assert frozen.recorded_before.ToMilliseconds() == int(clock.time.timestamp() * 1000) + 1
    assert dict(frozen.meta) == {"why.$": "model 7"}
    assert (
        await training.GetTrainingSnapshot(pb.GetTrainingSnapshotRequest(snapshot_id=frozen.snapshot_id))
    ).snapshot == frozen


async def test_the_same_choice_at_the_same_time_is_the_same_snapshot(
    training: TrainingServiceAsyncStub, clock: Clock
) -> None:
    first = await snapshot(training, surfaces=["web", "app"])
    assert await snapshot(training, surfaces=["app", "web"], max_negatives=10) == first
    assert (await snapshot(training, surfaces=["app"])).snapshot_id != first.snapshot_id
    clock.advance(timedelta(seconds=1))
    assert (await snapshot(training, surfaces=["app", "web"])).snapshot_id != first.snapshot_id


async def test_what_is_marked_irrelevant_leaves_a_snapshot(
    training: TrainingServiceAsyncStub, log: Log, sessions: SessionServiceAsyncStub
) -> None:
    await log.search("s1", "ab", ["b"])
    frozen = await snapshot(training)
    assert len(await export(training, frozen.snapshot_id)) == 1
    await sessions.MarkSessionIrrelevant(session_service_pb2.MarkSessionIrrelevantRequest(session_id="s1"))
    assert await export(training, frozen.snapshot_id) == []


async def test_parts_of_a_split_by_user_share_no_session_and_leave_none_out(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    made = a_log(3, sessions=60)
    for search in made:
        await log.search(search.session_id, search.shown, search.done, search.query, user_id=search.user_id)
    frozen = await snapshot(training, max_negatives=100)
    user_of = {search.session_id: search.user_id or search.session_id for search in made}
    parts = []
    for part in range(3):
        split = pb.TrainingSplit(key=pb.SPLIT_KEY_USER, fractions=[0.5, 0.3, 0.2], part=part)
        pairs = await export(training, frozen.snapshot_id, split)
        parts.append({user_of[session_id] for pair in pairs for session_id in pair.session_ids})
        assert found(pairs) == expected(
            [each for each in made if user_of[each.session_id] in parts[part] or not each.done]
        )
    whole = await export(training, frozen.snapshot_id)
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) == {user_of[session_id] for pair in whole for session_id in pair.session_ids}


async def test_parts_of_a_split_by_query_share_no_query_however_it_is_typed(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    for number in range(20):
        for form, query in enumerate([f"shoes {number}", f"SHOES  {number} ", f"\uff53hoes {number}"]):
            await log.search(f"s{number}-{form}", "ab", ["b"], query=query)
    families = []
    for part in range(2):
        split = pb.TrainingSplit(key=pb.SPLIT_KEY_QUERY, fractions=[0.7, 0.3], part=part)
        pairs = await export(training, split=split)
        families.append({" ".join(unicodedata.normalize("NFKC", pair.query.text).lower().split()) for pair in pairs})
        assert len(pairs) == 3 * len(families[part])
    assert all(families)
    assert len(families[0] | families[1]) == len(families[0]) + len(families[1]) == 20


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ExportTrainingPairsRequest(split=pb.TrainingSplit(key=1, fractions=[0.5, 0.4])), "split.fractions"),
        (pb.ExportTrainingPairsRequest(split=pb.TrainingSplit(key=1)), "split.fractions"),
        (pb.ExportTrainingPairsRequest(split=pb.TrainingSplit(key=2, fractions=[0.5, 0.5], part=2)), "split.part"),
        (pb.ExportTrainingPairsRequest(split=pb.TrainingSplit(fractions=[1.0])), "split.key"),
        (pb.ExportTrainingPairsRequest(snapshot_id="x", choice=pb.TrainingChoice()), "choice"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    training: TrainingServiceAsyncStub, request_: pb.ExportTrainingPairsRequest, field: str
) -> None:
    refused = await refusal(anext(aiter(training.ExportTrainingPairs(request_))))
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field)


async def test_a_snapshot_that_is_not_there_is_not_found(training: TrainingServiceAsyncStub) -> None:
    expected_refusal = Refusal(grpc.StatusCode.NOT_FOUND, "SNAPSHOT_NOT_FOUND", "snapshot_id")
    got = await refusal(training.GetTrainingSnapshot(pb.GetTrainingSnapshotRequest(snapshot_id="x")))
    assert got == expected_refusal
    exported = training.ExportTrainingPairs(pb.ExportTrainingPairsRequest(snapshot_id="x"))
    assert await refusal(anext(aiter(exported))) == expected_refusal
