"""Sessions are recorded once, as they were sent, or refused with the reason."""

from __future__ import annotations

from datetime import timedelta
from math import inf, nan
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.clickstream.calls import Refusal, create, create_all, get, push, refusal
from tests.clickstream.conftest import serving
from tests.clickstream.samples import AWKWARD_IDS, IDS, STRUCTS, a_session, an_event
from tideline.clickstream.v1 import batch_service_pb2 as batch_pb
from tideline.clickstream.v1 import feedback_service_pb2 as feedback_pb
from tideline.clickstream.v1 import session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.session_pb2 import SearchQuery, SearchResult, SortBy
from tideline.common.v1 import error_reason_pb2 as reasons

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub

INVALID = grpc.StatusCode.INVALID_ARGUMENT
# A service of the test's own serves all examples: what one of them records does not disturb the next.
EXAMPLES = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def nested(depth: int) -> dict[str, Any]:
    """Objects and lists inside each other, so many levels of them."""
    value: Any = []
    for level in range(2, depth):
        value = [value] if level % 2 else {"inside": value}
    return {"inside": value}


def a_full_session(session_id: str, clock: Clock) -> session_pb2.Session:
    """A session with every field that a client may set."""
    session = a_session(session_id, created_at=clock.time, collection="products", user_id="ann")
    session.query_vector.extend([0.1, -2.5e-8, 3.0])
    session.search_results[1].score = 0.0
    session.search_results[2].meta.update({"price": 9.5, "tags": ["new", None]})
    session.search_meta.update({"surface": "web", "a.b": {"$set": [True, {"x": None}]}})
    session.payload_filter.update({})
    session.payload_filter.SetInParent()
    session.sort_by.add(field="price", order=session_pb2.SORT_ORDER_DESCENDING)
    return session


async def test_a_session_comes_back_as_it_was_sent(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    sent = a_full_session("s1", clock)
    recorded = await create(sessions, sent)
    assert recorded == (await get(sessions, "s1")).session
    assert recorded.batch_id
    assert recorded.session_number == 1
    for place, result in enumerate(sent.search_results, 1):
        result.rank = place
    recorded.ClearField("batch_id")
    recorded.ClearField("session_number")
    assert recorded == sent


async def test_creating_a_session_again_returns_the_first_one(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    first = await create(sessions, a_full_session("s1", clock))
    assert await create(sessions, a_full_session("s1", clock)) == first


async def test_a_session_that_comes_back_with_what_the_service_filled_in_is_the_same_one(
    sessions: SessionServiceAsyncStub, clock: Clock
) -> None:
    first = await create(sessions, a_session("s1", objects=("a", "b")))
    came_back = session_pb2.Session()
    came_back.CopyFrom(first)
    for field in ("batch_id", "session_number"):
        came_back.ClearField(field)
    assert [result.rank for result in came_back.search_results] == [1, 2]
    clock.advance(timedelta(hours=1))
    assert await create(sessions, came_back) == first
    came_back.search_results[1].rank = 3
    assert (await refusal(create(sessions, came_back))).reason == "SESSION_CONFLICT"


async def test_a_retry_without_a_time_returns_the_time_of_the_first_one(
    sessions: SessionServiceAsyncStub, clock: Clock
) -> None:
    first = await create(sessions, a_session("s1"))
    clock.advance(timedelta(hours=1))
    assert await create(sessions, a_session("s1")) == first


async def test_what_a_client_sends_in_fields_of_the_server_is_not_looked_at(sessions: SessionServiceAsyncStub) -> None:
    first = await create(sessions, a_session("s1"))
    forged = a_session("s1", batch_id="mine", session_number=7)
    forged.irrelevance.reason = "forged"
    assert await create(sessions, forged) == first


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "bob"},
        {"objects": "acb"},
        {"search_query": SearchQuery(text="")},
        {"search_query": None},
        {"query_vector": [0.5]},
        {"collection": "other"},
        {"sort_by": [SortBy(field="price")]},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_another_session_under_the_same_id_is_refused(
    sessions: SessionServiceAsyncStub, change: dict[str, Any]
) -> None:
    first = await create(sessions, a_session("s1"))
    refused = await refusal(create(sessions, a_session("s1", **change)))
    assert refused == Refusal(grpc.StatusCode.ALREADY_EXISTS, "SESSION_CONFLICT", "session.session_id")
    assert (await get(sessions, "s1")).session == first


async def test_a_session_without_an_id_is_given_one_each_time_it_is_sent(sessions: SessionServiceAsyncStub) -> None:
    first, second = await create(sessions, a_session("")), await create(sessions, a_session(""))
    assert first.session_id
    assert second.session_id not in ("", first.session_id)
    assert (await get(sessions, first.session_id)).session == first


async def test_an_empty_query_is_not_the_same_as_none(sessions: SessionServiceAsyncStub) -> None:
    structured = SearchQuery()
    structured.structured.update({"image": "i-7", "near": [52.5, 13.4]})
    for session_id, query in (("text", SearchQuery(text="")), ("structured", structured), ("none", None)):
        await create(sessions, a_session(session_id, search_query=query))
    assert (await get(sessions, "text")).session.search_query.WhichOneof("query") == "text"
    assert (await get(sessions, "structured")).session.search_query == structured
    assert not (await get(sessions, "none")).session.HasField("search_query")


async def test_ranks_that_leave_places_out_are_kept(sessions: SessionServiceAsyncStub) -> None:
    shown = [
        SearchResult(object_id="a", rank=1),
        SearchResult(object_id="b", rank=5),
        SearchResult(object_id="c", rank=9),
    ]
    recorded = await create(sessions, a_session("s1", search_results=shown))
    assert [result.rank for result in recorded.search_results] == [1, 5, 9]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"objects": "abca"}, "session.search_results[3].object_id"),
        ({"objects": ["a", ""]}, "session.search_results[1].object_id"),
        (
            {"search_results": [SearchResult(object_id="a", rank=2), SearchResult(object_id="b", rank=2)]},
            "session.search_results[1].rank",
        ),
        (
            {"search_results": [SearchResult(object_id="a", rank=5), SearchResult(object_id="b")]},
            "session.search_results[1].rank",
        ),
        ({"session_id": "x" * 513}, "session.session_id"),
        ({"session_id": "a\0b"}, "session.session_id"),
        ({"user_id": "é" * 257}, "session.user_id"),
        ({"query_vector": [1.0, float("nan")]}, "session.query_vector[1]"),
        ({"objects": [f"o{n}" for n in range(1001)]}, "session.search_results"),
        ({"collection": "1 + 1"}, "session.collection"),
        ({"search_query": SearchQuery(text="x" * 16385)}, "session.search_query.text"),
        ({"search_meta": nested(21)}, "session.search_meta"),
        ({"search_meta": {"surface": nan}}, "session.search_meta"),
        ({"payload_filter": {"price": [inf]}}, "session.payload_filter"),
        ({"search_query": SearchQuery(structured=nested(21))}, "session.search_query.structured"),
        ({"search_results": [SearchResult(object_id="a", meta=nested(21))]}, "session.search_results[0].meta"),
    ],
)
async def test_a_session_that_breaks_a_rule_is_refused_naming_the_field(
    sessions: SessionServiceAsyncStub, change: dict[str, Any], field: str
) -> None:
    refused = await refusal(create(sessions, a_session(**{"session_id": "s1", **change})))
    assert refused == Refusal(INVALID, "INVALID_FIELD", field)


async def test_a_session_that_is_too_large_is_refused(sessions: SessionServiceAsyncStub) -> None:
    large = a_session("s1")
    large.search_meta.update({"blob": "x" * (3 * 1024 * 1024)})
    assert await refusal(create(sessions, large)) == Refusal(INVALID, "INVALID_FIELD", "session")


async def test_the_deepest_structs_are_read_through_every_service(service: Service) -> None:
    deep = a_session("s1", search_meta=nested(20), search_query=SearchQuery(structured=nested(20)))
    deep.search_results[0].meta.update(nested(20))
    recorded = await create(service.sessions, deep)
    await push(service.sessions, "s1", [an_event("e1", meta=nested(20))])
    await service.batches.UseSessionForImprovement(batch_pb.UseSessionForImprovementRequest(session_id="s1"))
    batch = batch_pb.GetBatchSessionsRequest(batch_id=recorded.batch_id)
    assert (await service.batches.GetBatchSessions(batch)).sessions[0].session == recorded
    [leased] = [part async for part in service.feedback.LeaseFeedback(feedback_pb.LeaseFeedbackRequest(owner="w"))]
    assert leased.sessions[0].session.session == recorded
    assert leased.sessions[0].session.events == (await get(service.sessions, "s1")).events


async def test_a_session_of_the_largest_size_is_recorded_whatever_it_is_made_of(
    sessions: SessionServiceAsyncStub,
) -> None:
    # Each "%" takes three bytes in a document.
    large = a_session("s1", created_at=None)
    large.search_meta.update({"%" * (3 * 1024 * 1024 - 300): None})
    await create(sessions, large)
    assert (await get(sessions, "s1")).session.search_meta == large.search_meta


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [
        (timedelta(hours=-12, seconds=-1), "TIME_OUT_OF_RANGE"),
        (timedelta(hours=-12), None),
        (timedelta(minutes=5), None),
        (timedelta(minutes=5, seconds=1), "TIME_OUT_OF_RANGE"),
    ],
)
async def test_a_time_too_long_ago_or_ahead_is_refused_naming_the_field(
    sessions: SessionServiceAsyncStub, clock: Clock, ahead: timedelta, reason: str | None
) -> None:
    session = a_session("s1", created_at=clock.time + ahead)
    if reason is None:
        await create(sessions, session)
    else:
        assert await refusal(create(sessions, session)) == Refusal(INVALID, reason, "session.created_at")


async def test_how_old_a_session_may_be_is_a_setting(settings: Settings, clock: Clock) -> None:
    strict = settings.model_copy(update={"max_age": timedelta(minutes=1)})
    async with serving(strict, clock) as service:
        late = a_session("s1", created_at=clock.time - timedelta(minutes=2))
        assert (await refusal(create(service.sessions, late))).reason == "TIME_OUT_OF_RANGE"


async def test_what_is_no_time_at_all_is_refused(sessions: SessionServiceAsyncStub) -> None:
    session = a_session("s1")
    session.created_at.seconds = 2**62
    assert await refusal(create(sessions, session)) == Refusal(INVALID, "INVALID_FIELD", "session.created_at")


async def test_many_sessions_are_recorded_each_by_itself(sessions: SessionServiceAsyncStub, clock: Clock) -> None:
    await create(sessions, a_session("there"))
    await create(sessions, a_session("taken"))
    late = a_session("late", created_at=clock.time - timedelta(days=1))
    outcomes = await create_all(
        sessions,
        [
            a_session("new"),
            a_session("there"),
            a_session("taken", user_id="bob"),
            a_session("twice"),
            a_session("twice"),
            a_session("twice", user_id="bob"),
            a_session("bad", objects="aa"),
            a_session("long", collection="no name"),
            late,
            a_session(""),
        ],
    )
    batch_id = outcomes[0].batch_id

    def recorded(session_id: str, status: pb.SessionStatus, number: int) -> pb.SessionOutcome:
        return pb.SessionOutcome(session_id=session_id, status=status, batch_id=batch_id, session_number=number)

    assert outcomes[0] == recorded("new", pb.SESSION_STATUS_CREATED, 3)
    assert outcomes[1] == recorded("there", pb.SESSION_STATUS_DUPLICATE, 1)
    assert outcomes[3] == recorded("twice", pb.SESSION_STATUS_CREATED, 4)
    assert outcomes[4] == recorded("twice", pb.SESSION_STATUS_DUPLICATE, 4)
    for conflict in (outcomes[2], outcomes[5]):
        assert conflict.status == pb.SESSION_STATUS_CONFLICT
        assert conflict.reason == reasons.ERROR_REASON_SESSION_CONFLICT
    assert {outcome.status for outcome in outcomes[6:9]} == {pb.SESSION_STATUS_REJECTED}
    assert [(outcome.session_id, outcome.reason, outcome.field) for outcome in outcomes[6:9]] == [
        ("bad", reasons.ERROR_REASON_INVALID_FIELD, "search_results[1].object_id"),
        ("long", reasons.ERROR_REASON_INVALID_FIELD, "collection"),
        ("late", reasons.ERROR_REASON_TIME_OUT_OF_RANGE, "created_at"),
    ]
    assert outcomes[9] == recorded(outcomes[9].session_id, pb.SESSION_STATUS_CREATED, 5)
    assert outcomes[9].session_id


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_call_with_no_or_too_many_sessions_is_refused(sessions: SessionServiceAsyncStub, count: int) -> None:
    refused = await refusal(create_all(sessions, [a_session(str(number)) for number in range(count)]))
    assert refused == Refusal(INVALID, "INVALID_FIELD", "sessions")


async def test_a_thousand_sessions_in_one_call_are_numbered_in_their_order(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving(settings.model_copy(update={"sessions_per_write": 300}), clock) as service:
        outcomes = await create_all(service.sessions, [a_session(f"s{number}") for number in range(1000)])
    assert [outcome.session_number for outcome in outcomes] == list(range(1, 1001))
    assert database.session_batches.find_one()["count"] == 1000


async def test_metadata_can_be_queried_in_the_database(
    sessions: SessionServiceAsyncStub, database: Database[dict[str, Any]]
) -> None:
    session = a_session("s1")
    session.search_meta.update({"surface": "web", "segment": {"name": "new"}})
    await create(sessions, session)
    assert database.sessions.find_one({"search_meta.surface": "web", "search_meta.segment.name": "new"})


@EXAMPLES
@given(struct=STRUCTS)
async def test_any_struct_survives(service: Service, struct: dict[str, Any]) -> None:
    sent = a_session("")
    for message in (sent.search_meta, sent.payload_filter, sent.search_results[0].meta, sent.search_query.structured):
        message.update(struct)
        message.SetInParent()
    recorded = await create(service.sessions, sent)
    event = an_event("e1")
    event.meta.update(struct)
    await push(service.sessions, recorded.session_id, [event])
    found = await get(service.sessions, recorded.session_id)
    assert found.session.search_meta == sent.search_meta
    assert found.session.payload_filter == sent.payload_filter
    assert found.session.search_results[0].meta == sent.search_meta
    assert found.session.search_query == sent.search_query
    assert found.events[0].meta == sent.search_meta


@EXAMPLES
@given(ids=st.lists(IDS, min_size=1, max_size=5, unique=True))
async def test_any_id_is_kept_and_meets_no_other(service: Service, ids: list[str]) -> None:
    for one in ids:
        await create(service.sessions, a_session(one, user_id=one, objects=[one]))
        await push(service.sessions, one, [an_event(one, one)])
    for one in ids:
        found = await get(service.sessions, one)
        assert (found.session.session_id, found.session.user_id) == (one, one)
        assert [(event.event_id, event.object_id, list(event.flags)) for event in found.events] == [(one, one, [])]
        listed = await service.sessions.ListSessions(pb.ListSessionsRequest(user_id=one))
        assert [session.session_id for session in listed.sessions] == [one]


@pytest.mark.parametrize("awkward", AWKWARD_IDS)
async def test_awkward_ids_are_kept_apart(sessions: SessionServiceAsyncStub, awkward: str) -> None:
    await create(sessions, a_session("other", user_id="other"))
    sent = a_session(awkward, user_id=awkward, objects=[awkward, "b"])
    recorded = await create(sessions, sent)
    outcomes = await push(sessions, awkward, [an_event(awkward, awkward)])
    assert not outcomes[0].flags
    found = await get(sessions, awkward)
    assert found.session == recorded
    assert [(event.event_id, event.object_id) for event in found.events] == [(awkward, awkward)]
    listed = await sessions.ListSessions(pb.ListSessionsRequest(user_id=awkward))
    assert [session.session_id for session in listed.sessions] == [awkward]
