"""Propensities: estimated from what was recorded, kept version by version, and used."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.clickstream.calls import Refusal, create_all, refusal
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.training.calls import export, snapshot
from tideline.clickstream.v1 import batch_service_pb2, feedback_service_pb2, session_pb2, session_service_pb2
from tideline.clickstream.v1 import propensity_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pymongo.database import Database

    from tests.clickstream.conftest import Clock, Service
    from tests.clickstream.training.calls import Log
    from tideline.clickstream.v1.propensity_service_pb2_grpc import PropensityServiceAsyncStub
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub
    from tideline.clickstream.v1.training_service_pb2_grpc import TrainingServiceAsyncStub

TRUTH = (1.0, 0.6, 0.4, 0.3)


async def estimate(propensities: PropensityServiceAsyncStub, **fields: Any) -> pb.Propensities:
    request = pb.EstimatePropensitiesRequest(**fields)
    return (await propensities.EstimatePropensities(request)).propensities


async def shuffled(
    sessions: SessionServiceAsyncStub, prefix: str, count: int, theta: Sequence[float], **meta: str
) -> None:
    """Record sessions that show the same objects at random ranks, clicked as the position-based model has it."""
    chance = random.Random(prefix)
    attraction = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.3}
    made: list[session_pb2.Session] = []
    clicks: list[session_service_pb2.StreamEventsRequest] = []
    for number in range(count):
        shown = chance.sample(list(attraction), len(theta))
        session = a_session(f"{prefix}{number}", objects=shown, user_id=f"u{number}")
        session.search_meta.update(meta)
        made.append(session)
        for place, object_id in enumerate(shown):
            if chance.random() < theta[place] * attraction[object_id]:
                event = an_event(f"e{place}", object_id)
                clicks.append(session_service_pb2.StreamEventsRequest(session_id=session.session_id, events=[event]))
    for start in range(0, count, 500):
        await create_all(sessions, made[start : start + 500])
    async for answer in sessions.StreamEvents(iter(clicks)):
        assert all(not outcome.message for outcome in answer.outcomes)


async def test_the_curve_is_found_in_the_clicks(
    propensities: PropensityServiceAsyncStub, sessions: SessionServiceAsyncStub
) -> None:
    await shuffled(sessions, "s", 3000, TRUTH)
    found = await estimate(propensities, max_rank=4)
    assert found.method == pb.PROPENSITY_METHOD_INTERVENTION_HARVESTING
    assert (found.version, found.session_count, found.below_floor) == (1, 3000, False)
    assert [each.rank for each in found.ranks] == [1, 2, 3, 4]
    assert [each.impressions for each in found.ranks] == [3000] * 4
    for each, truth in zip(found.ranks, TRUTH, strict=True):
        assert each.examination == pytest.approx(truth, rel=0.15)
        assert each.low <= each.examination <= each.high
    assert found.effective_sample_size > 100
    assert found.assumption == pb.PROPENSITY_ASSUMPTION_UNSPECIFIED


async def test_an_estimate_says_what_its_clicks_could_not_show(
    propensities: PropensityServiceAsyncStub, sessions: SessionServiceAsyncStub
) -> None:
    chance = random.Random(7)
    made: list[session_pb2.Session] = []
    for number in range(600):
        # One ranking for each query, so that a result is at one rank only; its object is elsewhere for another query.
        turn = number % 3
        objects = [*"abc"[turn:], *"abc"[:turn]]
        made.append(
            a_session(f"s{number}", objects=objects, search_query={"text": f"query {turn}"}, user_id=f"u{number}")
        )
    await create_all(sessions, made)
    clicks = [
        session_service_pb2.StreamEventsRequest(
            session_id=session.session_id, events=[an_event(f"e{place}", session.search_results[place].object_id)]
        )
        for session in made
        for place in range(3)
        if chance.random() < 0.8 / (place + 1)
    ]
    async for answer in sessions.StreamEvents(iter(clicks)):
        assert all(not outcome.message for outcome in answer.outcomes)
    found = await estimate(propensities, max_rank=3)
    assert found.method == pb.PROPENSITY_METHOD_REGRESSION_EM
    assert found.assumption == pb.PROPENSITY_ASSUMPTION_RELEVANCE_OF_OBJECT
    kept = await propensities.GetPropensities(pb.GetPropensitiesRequest())
    assert kept.propensities == found
    # With results at several ranks it could be held against them.
    await shuffled(sessions, "moved", 600, TRUTH)
    moved = await estimate(propensities, max_rank=4, method=pb.PROPENSITY_METHOD_REGRESSION_EM)
    assert moved.method == pb.PROPENSITY_METHOD_REGRESSION_EM
    assert moved.assumption == pb.PROPENSITY_ASSUMPTION_UNSPECIFIED


async def test_an_estimate_is_for_its_surface_device_and_time_without_what_does_not_count(
    propensities: PropensityServiceAsyncStub, log: Log, sessions: SessionServiceAsyncStub, clock: Clock,
    database: Database[dict[str, Any]],
) -> None:  # fmt: skip
    await log.search("web", "abc", ["c"], search_meta={"surface": "web", "device": "phone"})
    await log.search("app", "abc", ["c"], search_meta={"surface": "app", "device": "phone"})
    await log.search("old", "abc", ["c"], created_at=clock.time - timedelta(hours=3))
    for name in ("marked", "noisy", "clicked by a bot"):
        await log.search(name, "abc", ["a"])
    await sessions.MarkSessionIrrelevant(session_service_pb2.MarkSessionIrrelevantRequest(session_id="marked"))
    database["sessions"].update_one({"_id": "noisy"}, {"$set": {"noise": ["bot"]}})
    database["session_events"].update_one({"session_id": "clicked by a bot"}, {"$set": {"noise": ["bot"]}})
    assert (await estimate(propensities, surface="web")).session_count == 1
    assert (await estimate(propensities, device="phone")).session_count == 2
    assert (await estimate(propensities, surface="web", device="desk")).session_count == 0
    assert (await estimate(propensities, created_from=clock.time - timedelta(hours=1))).session_count == 3
    everything = await estimate(propensities)
    assert everything.session_count == 4
    assert [each.clicks for each in everything.ranks[:3]] == [0, 0, 3]


async def test_below_the_floor_the_prior_is_used_and_said_so(
    propensities: PropensityServiceAsyncStub, log: Log
) -> None:
    await log.search("s1", "abc", ["c"])
    found = await estimate(propensities)
    assert (found.method, found.below_floor) == (pb.PROPENSITY_METHOD_PRIOR, True)
    assert found.assumption == pb.PROPENSITY_ASSUMPTION_POWER_LAW
    assert len(found.ranks) == 20
    assert [each.examination for each in found.ranks[:4]] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4], rel=0.2)


async def test_versions_grow_and_the_newest_of_a_surface_is_found(propensities: PropensityServiceAsyncStub) -> None:
    made = [await estimate(propensities, surface=surface) for surface in ("", "web", "web", "app")]
    assert [each.version for each in made] == [1, 2, 3, 4]

    async def get(**fields: Any) -> pb.Propensities:
        return (await propensities.GetPropensities(pb.GetPropensitiesRequest(**fields))).propensities

    assert await get() == made[0]
    assert await get(surface="web") == made[2]
    assert await get(version=2) == made[1]
    missing = Refusal(grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "version")
    assert await refusal(get(version=9)) == missing
    assert await refusal(get(surface="tv")) == missing

    first = await propensities.ListPropensities(pb.ListPropensitiesRequest(page_size=3))
    rest = await propensities.ListPropensities(
        pb.ListPropensitiesRequest(page_size=3, page_token=first.next_page_token)
    )
    assert [each.version for each in (*first.propensities, *rest.propensities)] == [4, 3, 2, 1]
    assert rest.next_page_token == ""


async def test_pairs_weigh_by_the_estimate_and_a_snapshot_keeps_to_it(
    propensities: PropensityServiceAsyncStub, training: TrainingServiceAsyncStub, sessions: SessionServiceAsyncStub,
    log: Log,
) -> None:  # fmt: skip
    await shuffled(sessions, "s", 1000, TRUTH)
    await log.search("one", "xyz", ["z"], query="socks")
    before = await snapshot(training)
    curve = (await estimate(propensities, max_rank=4)).ranks
    after = await snapshot(training)
    assert (before.choice.propensity_version, after.choice.propensity_version) == (0, 1)

    async def weight(snapshot_id: str) -> tuple[float, int]:
        pairs = await export(training, snapshot_id)
        return next((pair.weight, pair.propensity_version) for pair in pairs if pair.query.text == "socks")

    assert await weight(before.snapshot_id) == (3.0, 0)
    assert await weight(after.snapshot_id) == (pytest.approx(1 / curve[2].examination), 1)


async def test_trust_that_makes_no_sense_is_refused(propensities: PropensityServiceAsyncStub) -> None:
    trust = pb.TrustBias(click_if_relevant=[0.5], click_if_irrelevant=[0.6])
    refused = await refusal(estimate(propensities, trust_bias=trust))
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "trust_bias")
    assert len((await estimate(propensities, max_rank=1)).ranks) == 1
    trust = pb.TrustBias(click_if_relevant=[0.9], click_if_irrelevant=[0.1])
    regression = pb.PROPENSITY_METHOD_REGRESSION_EM
    refused = await refusal(estimate(propensities, trust_bias=trust, method=regression))
    assert refused == Refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "trust_bias")


async def test_a_lease_tells_how_likely_each_rank_was_looked_at(
    propensities: PropensityServiceAsyncStub, service: Service, log: Log
) -> None:
    places = {"s1": {"surface": "web", "device": "phone"}, "s2": {"surface": "app"}, "s3": {}}
    for session_id, meta in places.items():
        await log.search(session_id, "abc", ["c"], search_meta=meta)

    async def leased() -> dict[str, int]:
        """Return for each session how many ranks it knows."""
        for session_id in places:
            await service.batches.UseSessionForImprovement(
                batch_service_pb2.UseSessionForImprovementRequest(session_id=session_id)
            )
        found = {}
        async for part in service.feedback.LeaseFeedback(feedback_service_pb2.LeaseFeedbackRequest(owner="w")):
            found |= {each.session.session.session_id: len(each.examination) for each in part.sessions}
        await service.feedback.ReleaseLease(feedback_service_pb2.ReleaseLeaseRequest(leases=[part.lease]))
        return found

    assert await leased() == {"s1": 0, "s2": 0, "s3": 0}
    await estimate(propensities, surface="web", max_rank=3)
    await estimate(propensities, surface="web", device="phone", max_rank=4)
    assert await leased() == {"s1": 4, "s2": 0, "s3": 0}
    await estimate(propensities, max_rank=5)
    assert await leased() == {"s1": 4, "s2": 5, "s3": 5}
