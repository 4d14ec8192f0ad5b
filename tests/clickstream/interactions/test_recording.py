"""An interaction is an event of its session, or stands alone; either way it is recorded once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.calls import Refusal, create, get, push, refusal
from tests.clickstream.interactions.calls import an_interaction, listed, record, record_all
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import batch_service_pb2, event_pb2, feedback_service_pb2, session_service_pb2
from tideline.clickstream.v1 import interaction_service_pb2 as pb
from tideline.common.v1 import error_reason_pb2 as reasons

if TYPE_CHECKING:
    from pymongo.database import Database

    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.interaction_pb2 import Interaction
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceAsyncStub

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def key(interaction_id: str, session_id: str = "") -> pb.InteractionKey:
    return pb.InteractionKey(interaction_id=interaction_id, session_id=session_id)


def full(clock: Clock, **fields: Any) -> Interaction:
    interaction = an_interaction(
        "i1",
        interaction_types=["click", "of our own"],
        position=3,
        document_score=0.25,
        result_set_size=40,
        duration=timedelta(seconds=2, microseconds=7),
        occurred_at=clock.time - timedelta(hours=1, microseconds=1),
        **fields,
    )
    interaction.metadata.update({"page.url": "/a", "deep": {"$x": [1.0, None]}})
    return interaction


async def pending(service: Service) -> list[str]:
    users = (await service.feedback.ListPending(feedback_service_pb2.ListPendingRequest())).users
    return [user.user_id for user in users]


async def settle_all(service: Service) -> None:
    """Let a worker have learned from all there is."""
    leases = service.feedback.LeaseFeedback(feedback_service_pb2.LeaseFeedbackRequest(owner="worker"))
    async for part in leases:
        outcomes = [
            feedback_service_pb2.FeedbackOutcome(
                session_id=each.session.session.session_id, state=feedback_service_pb2.FEEDBACK_STATE_DONE
            )
            for each in part.sessions
        ]
        await service.feedback.SettleFeedback(
            feedback_service_pb2.SettleFeedbackRequest(lease=part.lease, outcomes=outcomes)
        )


async def test_an_interaction_without_a_session_comes_back_as_it_was_sent(
    interactions: InteractionServiceAsyncStub, clock: Clock
) -> None:
    sent = full(clock, user_id="ann", query_text="red shoes")
    answer = await record(interactions, sent)
    assert (answer.interaction, answer.duplicate) == (sent, False)
    assert (await interactions.GetInteraction(pb.GetInteractionRequest(key=key("i1")))).interaction == sent


async def test_an_interaction_of_a_session_is_an_event_of_it_and_knows_its_user_and_query(
    service: Service, clock: Clock
) -> None:
    created_at = clock.time - timedelta(hours=2)
    await create(service.sessions, a_session("s1", objects=["x", "y", "z", "a"], created_at=created_at))
    sent = full(clock, session_id="s1")
    recorded = (await record(service.interactions, sent)).interaction
    sent.user_id, sent.query_text = "ann", "red shoes"
    assert recorded == sent
    [event] = (await get(service.sessions, "s1")).events
    assert (event.event_id, event.object_id, list(event.event_types)) == ("i1", "a", ["click", "of our own"])
    assert (event.position, event.dwell, event.meta) == (3, sent.duration, sent.metadata)
    assert event.created_at == sent.occurred_at


async def test_an_event_of_a_session_is_an_interaction(service: Service, clock: Clock) -> None:
    await create(service.sessions, a_session("s1"))
    await push(service.sessions, "s1", [an_event("e1", "elsewhere")])
    [found] = await listed(service.interactions)
    assert found.flags == [event_pb2.EVENT_FLAG_OBJECT_NOT_SHOWN]
    found.ClearField("flags")
    occurred_at = clock.time
    assert found == an_interaction(
        "e1", "elsewhere", session_id="s1", user_id="ann", query_text="red shoes", occurred_at=occurred_at
    )


async def test_the_same_action_is_recorded_once_whichever_way_it_comes(service: Service) -> None:
    await create(service.sessions, a_session("s1"))
    await push(service.sessions, "s1", [an_event("e1")])
    for user_id in ("", "ann"):
        assert (await record(service.interactions, an_interaction("e1", session_id="s1", user_id=user_id))).duplicate
    more = an_interaction("e1", session_id="s1", document_score=0.5)
    refused = await refusal(record(service.interactions, more))
    assert refused == Refusal(grpc.StatusCode.ALREADY_EXISTS, "EVENT_CONFLICT", "interaction.interaction_id")
    assert len(await listed(service.interactions)) == 1


async def test_ids_of_sessions_and_of_those_that_stand_alone_do_not_meet(service: Service) -> None:
    for session_id in ("s1", "s2"):
        await create(service.sessions, a_session(session_id))
    for session_id in ("", "s1", "s2"):
        assert not (await record(service.interactions, an_interaction("same", session_id=session_id))).duplicate
    assert len(await listed(service.interactions)) == 3


async def test_an_interaction_without_an_id_gets_one(interactions: InteractionServiceAsyncStub) -> None:
    first, second = await record_all(interactions, [an_interaction(""), an_interaction("")])
    assert first.event_id != second.event_id
    single = (await record(interactions, an_interaction(""))).interaction.interaction_id
    assert {one.interaction_id for one in await listed(interactions)} == {first.event_id, second.event_id, single}


async def test_each_of_a_batch_has_an_outcome_of_its_own(service: Service, clock: Clock) -> None:
    await create(service.sessions, a_session("s1"))
    old = clock.time - timedelta(days=2)
    outcomes = await record_all(
        service.interactions,
        [
            an_interaction("good"),
            an_interaction("good"),
            an_interaction("good", "b"),
            an_interaction("x" * 513),
            an_interaction("old", occurred_at=old),
            an_interaction("lost", session_id="nowhere"),
            an_interaction("hers", session_id="s1", user_id="bob"),
            an_interaction("asked", session_id="s1", query_text="green shoes"),
            an_interaction("long", duration=timedelta(days=400)),
            an_interaction("never", occurred_at={"seconds": 2**60}),
            an_interaction("last", session_id="s1", user_id="ann", query_text="red shoes"),
        ],
    )
    statuses = [event_pb2.EventStatus.Name(outcome.status).removeprefix("EVENT_STATUS_") for outcome in outcomes]
    assert statuses == ["ACCEPTED", "DUPLICATE", "CONFLICT", *["REJECTED"] * 7, "ACCEPTED"]
    assert [(outcome.reason, outcome.field) for outcome in outcomes[3:10]] == [
        (reasons.ERROR_REASON_INVALID_FIELD, "interaction_id"),
        (reasons.ERROR_REASON_TIME_OUT_OF_RANGE, "occurred_at"),
        (reasons.ERROR_REASON_SESSION_NOT_FOUND, "session_id"),
        (reasons.ERROR_REASON_INVALID_FIELD, "user_id"),
        (reasons.ERROR_REASON_INVALID_FIELD, "query_text"),
        (reasons.ERROR_REASON_INVALID_FIELD, "duration"),
        (reasons.ERROR_REASON_INVALID_FIELD, "occurred_at"),
    ]
    assert sorted(one.interaction_id for one in await listed(service.interactions)) == ["good", "last"]


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"interaction_types": []}, "INVALID_FIELD", "interaction.interaction_types"),
        ({"session_id": "s1", "user_id": "bob"}, "INVALID_FIELD", "interaction.user_id"),
        ({"session_id": "s1", "query_text": "else"}, "INVALID_FIELD", "interaction.query_text"),
        ({"occurred_at": {"seconds": 5}}, "TIME_OUT_OF_RANGE", "interaction.occurred_at"),
        ({"document_score": float("nan")}, "INVALID_FIELD", "interaction.document_score"),
    ],
)
async def test_a_refused_interaction_says_which_field_is_to_blame(
    service: Service, fields: dict[str, Any], reason: str, field: str
) -> None:
    await create(service.sessions, a_session("s1"))
    refused = await refusal(record(service.interactions, an_interaction("i1", **fields)))
    assert refused == Refusal(INVALID, reason, field)


async def test_what_happened_long_ago_is_taken_as_historical_and_the_future_never(
    interactions: InteractionServiceAsyncStub, clock: Clock
) -> None:
    long_ago, ahead = clock.time - timedelta(days=9000), clock.time + timedelta(hours=1)
    answer = await record(interactions, an_interaction("old", occurred_at=long_ago), historical=True)
    assert answer.interaction.occurred_at.ToDatetime(long_ago.tzinfo) == long_ago
    refused = await refusal(record(interactions, an_interaction("new", occurred_at=ahead), historical=True))
    assert refused.reason == "TIME_OUT_OF_RANGE"


async def test_sessions_and_events_of_long_ago_are_taken_as_historical(service: Service, clock: Clock) -> None:
    long_ago = clock.time - timedelta(days=400)
    request = session_service_pb2.BatchCreateSessionsRequest(
        sessions=[a_session("s1", created_at=long_ago)], historical=True
    )
    [created] = (await service.sessions.BatchCreateSessions(request)).outcomes
    assert created.status == session_service_pb2.SESSION_STATUS_CREATED
    events = session_service_pb2.PushEventsRequest(
        session_id="s1", events=[an_event("e1", created_at=long_ago)], historical=True
    )
    [pushed] = (await service.sessions.PushEvents(events)).outcomes
    assert pushed.status == event_pb2.EVENT_STATUS_ACCEPTED


async def test_events_about_the_search_as_a_whole_have_no_object_and_no_flag(service: Service) -> None:
    await create(service.sessions, a_session("s1", objects=[]))
    [outcome] = await push(service.sessions, "s1", [an_event("e1", "", event_types=["zero_results"])])
    assert (outcome.status, list(outcome.flags)) == (event_pb2.EVENT_STATUS_ACCEPTED, [])
    [found] = await listed(service.interactions)
    assert found.feature_id == ""


async def test_events_that_overtook_their_session_get_its_user_and_query(
    service: Service, database: Database[dict[str, Any]]
) -> None:
    await push(service.sessions, "s1", [an_event("e1")], allow_missing=True)
    [before] = await listed(service.interactions)
    assert (before.user_id, before.query_text) == ("", "")
    await create(service.sessions, a_session("s1"))
    await push(service.sessions, "s1", [an_event("e2")])
    found = await listed(service.interactions)
    assert [(one.user_id, one.query_text) for one in found] == [("ann", "red shoes")] * 2
    assert database["session_events"].count_documents({"awaits_session": {"$exists": True}}) == 0
    assert database["session_events"].count_documents({"recorded_at": {"$exists": True}}) == 2


async def test_an_interaction_is_deleted_once(service: Service) -> None:
    await record(service.interactions, an_interaction("i1"))
    delete = pb.DeleteInteractionRequest(key=key("i1"))
    assert (await service.interactions.DeleteInteraction(delete)).deleted
    assert not (await service.interactions.DeleteInteraction(delete)).deleted
    refused = await refusal(service.interactions.GetInteraction(pb.GetInteractionRequest(key=key("i1"))))
    assert refused == Refusal(grpc.StatusCode.NOT_FOUND, "INTERACTION_NOT_FOUND", "key.interaction_id")


async def test_deleting_what_was_learned_from_queues_its_user_again(service: Service) -> None:
    await create(service.sessions, a_session("s1"))
    await record(service.interactions, an_interaction("i1", session_id="s1"))
    await service.batches.UseSessionForImprovement(batch_service_pb2.UseSessionForImprovementRequest(session_id="s1"))
    await settle_all(service)
    assert await pending(service) == []
    await service.interactions.DeleteInteraction(pb.DeleteInteractionRequest(key=key("i1", "s1")))
    assert await pending(service) == ["ann"]
    assert not (await get(service.sessions, "s1")).events


async def test_an_interaction_with_a_submitted_session_queues_its_user_again(service: Service) -> None:
    await create(service.sessions, a_session("s1"))
    await service.batches.UseSessionForImprovement(batch_service_pb2.UseSessionForImprovementRequest(session_id="s1"))
    await settle_all(service)
    await record(service.interactions, an_interaction("i1", session_id="s1"))
    assert await pending(service) == ["ann"]
