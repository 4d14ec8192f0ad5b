"""Strengths say what an interaction weighs; a deployment changes them, as versions."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickstream_service.domain.strength import BUILT_IN, Level, Strength
from tests.clickstream.calls import Refusal, create, get, push, refusal
from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import batch_service_pb2, feedback_service_pb2, session_service_pb2
from tideline.clickstream.v1 import interaction_pb2 as words
from tideline.clickstream.v1 import interaction_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceAsyncStub

SECOND = timedelta(seconds=1)


async def strengths(interactions: InteractionServiceAsyncStub, version: int = 0) -> words.Strengths:
    return (await interactions.GetStrengths(pb.GetStrengthsRequest(version=version))).strengths


async def update(interactions: InteractionServiceAsyncStub, *changed: words.Strength, **fields: Any) -> words.Strengths:
    return (await interactions.UpdateStrengths(pb.UpdateStrengthsRequest(strengths=changed, **fields))).strengths


def weights(found: words.Strengths) -> dict[str, float]:
    return {strength.interaction_type: strength.weight for strength in found.strengths}


async def test_the_first_version_knows_the_usual_types(interactions: InteractionServiceAsyncStub) -> None:
    found = await strengths(interactions)
    assert (found.version, found.long_view_threshold.ToTimedelta()) == (1, 30 * SECOND)
    assert weights(found) == {
        "add_to_cart": 2,
        "bookmark": 1,
        "click": 1,
        "filter_toggle": 0,
        "long_view": 2,
        "negative_feedback": -1,
        "positive_feedback": 2,
        "purchase": 2,
        "query_refinement": 0,
        "return_to_results": -0.5,
        "share": 1,
        "skip": -0.5,
        "view": 0,
        "wishlist": 1,
        "zero_results": 0,
    }


async def test_a_change_is_a_new_version_and_the_old_ones_stay(interactions: InteractionServiceAsyncStub) -> None:
    before = await strengths(interactions)
    after = await update(
        interactions,
        words.Strength(interaction_type="click", level=words.STRENGTH_LEVEL_WEAK),
        words.Strength(interaction_type="a.$b", level=words.STRENGTH_LEVEL_STRONG, weight=3.5),
        long_view_threshold=10 * SECOND,
    )
    assert weights(after) == {**weights(before), "click": 0.25, "a.$b": 3.5}
    assert (after.version, after.long_view_threshold.ToTimedelta()) == (2, 10 * SECOND)
    assert await strengths(interactions) == await strengths(interactions, 2) == after
    assert await strengths(interactions, 1) == before
    third = await update(interactions, words.Strength(interaction_type="view", level=words.STRENGTH_LEVEL_WEAK))
    assert (third.version, third.long_view_threshold.ToTimedelta()) == (3, 10 * SECOND)
    assert weights(third) == {**weights(after), "view": 0.25}


async def test_a_version_that_nobody_made_is_not_found(interactions: InteractionServiceAsyncStub) -> None:
    refused = await refusal(strengths(interactions, 2))
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "VERSION_NOT_FOUND", "version")


async def test_a_change_that_is_based_on_an_older_version_is_refused(
    interactions: InteractionServiceAsyncStub,
) -> None:
    weak = words.Strength(interaction_type="click", level=words.STRENGTH_LEVEL_WEAK)
    await update(interactions, weak, expected_version=1)
    refused = await refusal(update(interactions, weak, expected_version=1))
    assert refused == Refusal(grpc.StatusCode.ABORTED, "STRENGTHS_CONFLICT", "expected_version")
    assert (await update(interactions, weak, expected_version=2)).version == 3


async def test_of_concurrent_changes_none_is_lost(interactions: InteractionServiceAsyncStub) -> None:
    names = [f"own-{number}" for number in range(8)]
    await asyncio.gather(
        *(
            update(interactions, words.Strength(interaction_type=name, level=words.STRENGTH_LEVEL_MODERATE))
            for name in names
        )
    )
    found = await strengths(interactions)
    assert found.version == 9
    assert {name: weights(found).get(name) for name in names} == dict.fromkeys(names, 1)


@pytest.mark.parametrize(
    "bad",
    [
        words.Strength(interaction_type="", level=words.STRENGTH_LEVEL_WEAK),
        words.Strength(interaction_type="x"),
        words.Strength(interaction_type="x", level=words.STRENGTH_LEVEL_WEAK, weight=11),
        words.Strength(interaction_type="x", level=words.STRENGTH_LEVEL_WEAK, weight=float("nan")),
    ],
)
async def test_a_strength_that_breaks_a_rule_is_refused(
    interactions: InteractionServiceAsyncStub, bad: words.Strength
) -> None:
    assert (await refusal(update(interactions, bad))).reason == "INVALID_FIELD"
    assert (await strengths(interactions)).version == 1


async def test_another_instance_goes_by_a_change_after_a_stated_time(
    settings: Settings, clock: Clock, service: Service
) -> None:
    async with serving(settings, clock) as other:
        await create(service.sessions, a_session("s1"))
        await push(service.sessions, "s1", [an_event("e1")])
        assert (await get(other.sessions, "s1")).events[0].weight == 1
        strong = words.Strength(interaction_type="click", level=words.STRENGTH_LEVEL_STRONG)
        await update(service.interactions, strong)
        assert (await get(service.sessions, "s1")).events[0].weight == 2
        clock.advance(settings.strengths_max_age)
        assert (await get(other.sessions, "s1")).events[0].weight == 2


async def test_events_weigh_by_the_strengths_in_force_wherever_they_are_read(
    service: Service, database: Database[dict[str, Any]]
) -> None:
    await create(service.sessions, a_session("s1"))
    sent = {
        "click": (an_event("click"), 1.0),
        "long": (an_event("long", dwell=30 * SECOND), 2.0),
        "both": (an_event("both", event_types=["click", "long_view", "purchase"]), 4.0),
        "back": (an_event("back", event_types=["click", "return_to_results"]), 0.5),
        "against": (an_event("against", event_types=["negative_feedback", "skip"]), -1.5),
        "unknown": (an_event("unknown", event_types=["of our own"]), 0.0),
        "noise": (an_event("noise"), 0.0),
    }
    await push(service.sessions, "s1", [event for event, _ in sent.values()])
    database["session_events"].update_one({"_id.e": "noise"}, {"$set": {"noise": ["bot"]}})
    await service.batches.UseSessionForImprovement(batch_service_pb2.UseSessionForImprovementRequest(session_id="s1"))
    expected = {name: weight for name, (_, weight) in sent.items()}

    found = (await get(service.sessions, "s1")).events
    assert {event.event_id: event.weight for event in found} == expected
    page = await service.sessions.ListSessionEvents(session_service_pb2.ListSessionEventsRequest(session_id="s1"))
    assert {event.event_id: event.weight for event in page.events} == expected
    leases = service.feedback.LeaseFeedback(feedback_service_pb2.LeaseFeedbackRequest(owner="worker"))
    leased = [event async for part in leases for one in part.sessions for event in one.session.events]
    assert {event.event_id: event.weight for event in leased} == expected


async def test_a_weight_that_a_client_sends_is_not_kept(service: Service) -> None:
    await create(service.sessions, a_session("s1"))
    await push(service.sessions, "s1", [an_event("e1", weight=9)])
    assert (await get(service.sessions, "s1")).events[0].weight == 1
    [again] = await push(service.sessions, "s1", [an_event("e1", weight=8)])
    assert again.status == 2


@given(
    types=st.lists(st.sampled_from([*BUILT_IN.by_type, "other"]), min_size=1, max_size=8, unique=True),
    dwell=st.none() | st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=1)),
)
def test_order_does_not_matter_and_a_long_click_weighs_as_much_as_a_long_view(
    types: list[str], dwell: timedelta | None
) -> None:
    weight = BUILT_IN.weight(types, dwell)
    assert weight == pytest.approx(BUILT_IN.weight(types[::-1], dwell))
    if "click" in types and dwell is not None and dwell >= BUILT_IN.long_view_threshold:
        rest = [each for each in types if each != "click"]
        assert weight == pytest.approx(BUILT_IN.weight({*rest, "long_view"}))
    else:
        assert weight == BUILT_IN.weight(types)


def test_a_click_that_is_made_stronger_than_a_long_view_stays_so() -> None:
    changed = BUILT_IN.changed({"click": Strength(Level.STRONG, 5.0)}, None, BUILT_IN.created_at)
    assert changed.weight(["click"], timedelta(minutes=5)) == 5
    assert changed.weight(["long_view"]) == 2
