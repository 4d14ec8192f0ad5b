"""Pairs: what was meant, what was passed over, and how much it weighs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.clickstream.calls import Refusal, refusal
from tests.clickstream.samples import an_event
from tests.clickstream.training.calls import export, found
from tideline.clickstream.v1 import session_pb2, session_service_pb2
from tideline.clickstream.v1 import training_service_pb2 as pb

if TYPE_CHECKING:
    from typing import Any

    from pymongo.database import Database

    from tests.clickstream.conftest import Clock
    from tests.clickstream.training.calls import Log
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceAsyncStub


async def test_negatives_were_shown_above_the_last_positive_and_passed_over(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    await log.search("s1", "abcde", ["b", "d"])
    assert found(await export(training)) == {("red shoes", "b"): ["a", "c"], ("red shoes", "d"): ["a", "c"]}


async def test_what_the_query_got_a_positive_for_elsewhere_is_no_negative(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    await log.search("s1", "abc", ["c"])
    await log.search("s2", "abc", [("a", "purchase")], search_meta={"surface": "app"})
    await log.search("s3", "abc", ["c"], query="blue shoes")
    expected = {("red shoes", "c"): ["b"], ("blue shoes", "c"): ["a", "b"]}
    assert found(await export(training, interaction_types=["click"])) == expected
    assert found(await export(training, surfaces=[""])) == expected
    assert found(await export(training, surfaces=["app"])) == {("red shoes", "a"): []}


async def test_the_negatives_passed_over_most_often_come_first(training: TrainingServiceAsyncStub, log: Log) -> None:
    await log.search("s1", "xyzp", ["p"])
    await log.search("s2", "yzp", ["p"])
    await log.search("s3", "zp", ["p"])
    assert found(await export(training)) == {("red shoes", "p"): ["z", "y", "x"]}
    assert found(await export(training, max_negatives=2)) == {("red shoes", "p"): ["z", "y"]}


async def test_a_pair_weighs_strength_times_inverse_propensity_up_to_a_limit(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    shown = [f"o{rank:02}" for rank in range(1, 21)]
    await log.search("s1", shown, [("o03", "click"), ("o20", "purchase")])
    await log.search("s2", shown, [("o01", "click"), ("o01", "add_to_cart")])
    weights = {pair.positive_object_id: pair.weight for pair in await export(training)}
    assert weights == {"o01": 3.0, "o03": 1.0 * 3, "o20": 2.0 * 10}
    clipped = {pair.positive_object_id: pair.weight for pair in await export(training, max_weight=2)}
    assert clipped == {"o01": 3.0, "o03": 1.0 * 2, "o20": 2.0 * 2}


async def test_a_pair_names_its_sessions_its_best_position_and_its_versions(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    await log.search("s2", "abp", ["p"])
    await log.search("s1", "ap", ["p", ("p", "share")])
    (pair,) = await export(training)
    assert pair.session_ids == ["s1", "s2"]
    assert (pair.position, pair.interaction_count) == (1, 3)
    assert (pair.propensity_version, pair.strengths_version) == (0, 1)
    assert [pair.positive_object_id for pair in await export(training, min_interactions=3)] == ["p"]
    assert await export(training, min_interactions=4) == []


async def test_what_speaks_against_an_object_counts_against_it(training: TrainingServiceAsyncStub, log: Log) -> None:
    await log.search("s1", "abc", ["a", ("a", "negative_feedback"), "c", ("b", "view")])
    assert found(await export(training)) == {("red shoes", "c"): ["a", "b"]}


async def test_a_positive_that_was_not_shown_has_no_position(training: TrainingServiceAsyncStub, log: Log) -> None:
    await log.search("s1", "abc", [("z", "purchase")])
    (pair,) = await export(training)
    assert (pair.positive_object_id, pair.weight, list(pair.negative_object_ids)) == ("z", 2.0, [])
    assert not pair.HasField("position")


async def test_a_click_that_was_long_enough_is_a_long_view(
    training: TrainingServiceAsyncStub, log: Log, sessions: SessionServiceAsyncStub
) -> None:
    await log.search("s1", "ab", ["a"])
    long = an_event("long", "b")
    long.dwell.FromSeconds(60)
    request = session_service_pb2.PushEventsRequest(session_id="s1", events=[long])
    await sessions.PushEvents(request)
    assert [pair.positive_object_id for pair in await export(training, interaction_types=["long_view"])] == ["b"]


async def test_irrelevant_sessions_and_noise_never_count(
    training: TrainingServiceAsyncStub, log: Log, sessions: SessionServiceAsyncStub, database: Database[dict[str, Any]]
) -> None:
    await log.search("s1", "abc", ["c"])
    await log.search("s2", "abc", ["a"])
    await log.search("s3", "abc", ["b"])
    await sessions.MarkSessionIrrelevant(session_service_pb2.MarkSessionIrrelevantRequest(session_id="s2"))
    database["session_events"].update_many({"session_id": "s3"}, {"$set": {"noise": ["bot"]}})
    assert found(await export(training)) == {("red shoes", "c"): ["a", "b"]}


async def test_only_sessions_of_the_time_asked_for_count(
    training: TrainingServiceAsyncStub, log: Log, clock: Clock
) -> None:
    start = clock.time
    for number in range(3):
        await log.search(f"s{number}", "ab", ["b"], query=f"q{number}", created_at=start - timedelta(hours=number))
    since = await export(training, created_from=start - timedelta(hours=1))
    assert sorted(pair.query.text for pair in since) == ["q0", "q1"]
    before = await export(training, created_before=start - timedelta(hours=1))
    assert [pair.query.text for pair in before] == ["q2"]


async def test_structured_queries_are_told_apart_by_what_they_hold(
    training: TrainingServiceAsyncStub, log: Log
) -> None:
    def structured(**fields: Any) -> session_pb2.SearchQuery:
        query = session_pb2.SearchQuery()
        query.structured.update(fields)
        return query

    await log.search("s1", "ab", ["b"], search_query=structured(colour="red", size=42))
    await log.search("s2", "ab", ["b"], search_query=structured(size=42, colour="red"))
    await log.search("s3", "ab", ["b"], search_query=structured(size=43))
    pairs = {tuple(sorted(pair.query.structured.items())): list(pair.session_ids) for pair in await export(training)}
    assert pairs == {(("colour", "red"), ("size", 42.0)): ["s1", "s2"], (("size", 43.0),): ["s3"]}


async def test_searches_for_nothing_make_no_pairs(training: TrainingServiceAsyncStub, log: Log) -> None:
    await log.search("s1", "ab", ["b"], query="")
    await log.search("s2", "ab", ["b"], search_query=None)
    assert await export(training) == []


@pytest.mark.usefixtures("profiled")
async def test_pairs_are_read_in_the_order_of_an_index(training: TrainingServiceAsyncStub, log: Log) -> None:
    await log.search("s1", "ab", ["b"])
    await log.search("s2", "ab", ["b"])
    assert len(await export(training)) == 1


@pytest.mark.parametrize("field", ["propensity_version", "strengths_version"])
async def test_a_version_that_is_not_there_is_refused(training: TrainingServiceAsyncStub, field: str) -> None:
    request = pb.ExportTrainingPairsRequest(choice=pb.TrainingChoice(**{field: 7}))
    refused = await refusal(anext(aiter(training.ExportTrainingPairs(request))))
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "version")
