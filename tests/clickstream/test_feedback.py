"""Sessions are submitted, their users leased, and what became of them is settled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.conftest import serving
from tests.clickstream.samples import AWKWARD_IDS, a_session, an_event
from tests.clickstream.worker import (
    DONE,
    FAILED,
    PARKED,
    PENDING,
    SKIPPED,
    Leased,
    counts,
    lease_all,
    lease_one,
    lease_when_free,
    mark_irrelevant,
    outcomes,
    pending,
    record,
    record_and_submit,
    seconds,
    settle,
    submit,
    until,
)
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb
from tideline.rpc.status import reason_of

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "feedback_backoff": timedelta(milliseconds=20),
            "feedback_max_backoff": timedelta(milliseconds=40),
            "feedback_max_failures": 3,
            "feedback_max_attempts": 3,
        }
    )


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), reason_of(failure.value)


async def push(service: Service, session_id: str, *event_ids: str) -> None:
    events = [an_event(event_id) for event_id in event_ids]
    await service.sessions.PushEvents(session_pb.PushEventsRequest(session_id=session_id, events=events))


# Submitting


async def test_a_submitted_session_is_leased_with_its_events(service: Service) -> None:
    await record(service, "s1", events=3)
    assert await submit(service, "s1")
    user = await lease_one(service.feedback)
    assert (user.lease.user_id, user.lease.fence, user.lease.attempts) == ("ann", 1, 1)
    [session] = user.sessions
    assert session.state == PENDING
    assert session.session.session.session_id == "s1"
    assert [event.event_id for event in session.session.events] == ["e0", "e1", "e2"]


async def test_submitting_a_session_again_changes_nothing(service: Service) -> None:
    await record_and_submit(service, "s1")
    assert not await submit(service, "s1")
    await settle(service.feedback, await lease_one(service.feedback))
    assert not await submit(service, "s1")
    assert await pending(service.feedback) == {}


async def test_what_cannot_be_learned_from_is_refused_with_a_reason(service: Service) -> None:
    await record(service, "anonymous", user_id="")
    await record(service, "marked")
    await mark_irrelevant(service, "marked")
    failed = grpc.StatusCode.FAILED_PRECONDITION
    assert await refused(submit(service, "nowhere")) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert await refused(submit(service, "anonymous")) == (failed, "SESSION_WITHOUT_USER")
    assert await refused(submit(service, "marked")) == (failed, "SESSION_IRRELEVANT")


async def test_a_session_that_many_submit_at_once_is_submitted_by_one_of_them(
    service: Service, settings: Settings, clock: Clock
) -> None:
    names = [f"s{number}" for number in range(20)]
    for name in names:
        await record(service, name)
    async with serving(settings, clock) as other:
        both = (service, other, service, other)
        submitted = await asyncio.gather(*(submit(each, name) for name in names for each in both))
    assert sum(submitted) == len(names)
    assert (await lease_one(service.feedback)).ids == sorted(names)


# Leasing


async def test_a_user_is_leased_with_all_its_sessions_oldest_first(service: Service, clock: Clock) -> None:
    for number, age in enumerate((3, 1, 2)):
        session = a_session(f"s{number}", user_id="ann", created_at=clock() - timedelta(hours=age))
        await service.sessions.CreateSession(session_pb.CreateSessionRequest(session=session))
        await submit(service, f"s{number}")
    await record(service, "not submitted")
    await settle(service.feedback, await lease_one(service.feedback))
    await record_and_submit(service, "s3")
    user = await lease_one(service.feedback)
    assert user.ids == ["s0", "s2", "s1", "s3"]
    assert [session.state for session in user.sessions] == [DONE, DONE, DONE, PENDING]


async def test_nobody_else_gets_a_user_that_is_leased(service: Service) -> None:
    await record_and_submit(service, "s1")
    await lease_one(service.feedback, "first")
    assert await lease_all(service.feedback, "second") == {}
    assert (await pending(service.feedback))["ann"].owner == "first"


async def test_the_user_who_waits_longest_comes_first(service: Service) -> None:
    for user_id in ("carl", "ann", "bert"):
        await record_and_submit(service, f"of {user_id}", user_id)
    await record_and_submit(service, "one more", "carl")
    assert list(await pending(service.feedback)) == ["carl", "ann", "bert"]
    assert list(await lease_all(service.feedback, max_users=2)) == ["carl", "ann"]


async def test_a_worker_gets_a_user_once_a_call_even_if_the_lease_expires_meanwhile(service: Service) -> None:
    for number in range(30):
        await record_and_submit(service, f"s{number}", f"user {number}")
    assert len(await lease_all(service.feedback, duration=0.001)) == 30


async def test_an_expired_lease_passes_to_another_worker_under_a_higher_fence(service: Service) -> None:
    await record_and_submit(service, "s1")
    lost = await lease_one(service.feedback, "slow", duration=0.001)
    taken = await lease_when_free(service.feedback, "quick")
    assert taken.lease.fence > lost.lease.fence
    assert taken.lease.attempts == 2
    assert await refused(settle(service.feedback, lost)) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
    assert await counts(service.feedback) == {PENDING: 1}
    await settle(service.feedback, taken)
    assert await refused(settle(service.feedback, lost)) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
    assert await counts(service.feedback) == {DONE: 1}


async def test_a_renewed_lease_does_not_expire(service: Service) -> None:
    await record_and_submit(service, "s1")
    user = await lease_one(service.feedback, duration=0.2)
    renewed = await service.feedback.RenewLease(pb.RenewLeaseRequest(leases=[user.lease], duration=seconds(60)))
    assert not renewed.lost
    assert renewed.expires_at.ToDatetime() > user.lease.expires_at.ToDatetime() + timedelta(seconds=50)
    await record_and_submit(service, "s2", "bert")
    # Bert's lease was taken later and expires first: by then, Ann's would have, too.
    await lease_one(service.feedback, duration=0.2)
    assert (await lease_when_free(service.feedback)).lease.user_id == "bert"


async def test_renewing_names_the_leases_that_are_lost(service: Service) -> None:
    for user_id in ("ann", "bert", "carl"):
        await record_and_submit(service, f"of {user_id}", user_id)
    users = await lease_all(service.feedback, "first", duration=0.001)
    await settle(service.feedback, users["bert"])
    taken = await lease_when_free(service.feedback, "second")
    asked = [users["ann"].lease, users["bert"].lease, users["carl"].lease]
    renewed = await service.feedback.RenewLease(pb.RenewLeaseRequest(leases=asked))
    assert taken.lease.user_id == "ann"
    assert {lease.user_id for lease in renewed.lost} == {"ann", "bert"}


async def test_a_user_that_is_given_back_is_free_and_the_attempt_does_not_count(service: Service) -> None:
    await record_and_submit(service, "s1")
    given_back = await lease_one(service.feedback)
    request = pb.ReleaseLeaseRequest(leases=[given_back.lease])
    assert (await service.feedback.ReleaseLease(request)).released == 1
    assert (await service.feedback.ReleaseLease(request)).released == 0
    assert await refused(settle(service.feedback, given_back)) == (grpc.StatusCode.ABORTED, "LEASE_LOST")
    again = await lease_one(service.feedback)
    assert (again.lease.attempts, again.lease.fence) == (1, 2)


async def test_users_that_were_not_sent_completely_are_freed_when_the_worker_goes_away(service: Service) -> None:
    big = a_session("", user_id="ann")
    big.search_meta["padding"] = "x" * 600_000
    for number in range(12):
        big.session_id = f"s{number}"
        await service.sessions.CreateSession(session_pb.CreateSessionRequest(session=big))
        await submit(service, big.session_id)
    call = service.feedback.LeaseFeedback(pb.LeaseFeedbackRequest(owner="w", duration=seconds(600)))
    first = await anext(aiter(call))
    assert not first.last
    call.cancel()

    async def is_free() -> bool:
        return (await pending(service.feedback))["ann"].owner == ""

    await until(is_free)
    user = await lease_one(service.feedback)
    assert user.parts > 1
    assert len(user.ids) == 12
    # What ended the worker may be what it was about to get.
    assert user.lease.attempts == 2


async def test_a_user_whose_lease_expires_again_and_again_is_parked(service: Service) -> None:
    await record_and_submit(service, "harmless")
    await settle(service.feedback, await lease_one(service.feedback))
    await record_and_submit(service, "deadly")
    for attempt in (1, 2, 3):
        user = await lease_when_free(service.feedback, duration=0.001)
        assert user.lease.attempts == attempt

    async def is_parked() -> bool:
        assert await lease_all(service.feedback) == {}
        return not await pending(service.feedback)

    await until(is_parked)
    assert await counts(service.feedback) == {DONE: 1, PARKED: 1}
    await record_and_submit(service, "next")
    states = {each.session.session.session_id: each.state for each in (await lease_one(service.feedback)).sessions}
    assert states == {"harmless": DONE, "deadly": PARKED, "next": PENDING}


# Settling


async def test_a_settled_user_waits_no_more(service: Service, database: Database[dict[str, Any]]) -> None:
    await record_and_submit(service, "s1")
    await record_and_submit(service, "s2")
    user = await lease_one(service.feedback)
    request = pb.SettleFeedbackRequest(
        lease=user.lease, outcomes=[*outcomes(["s1"]), *outcomes(["s2"], SKIPPED, "no_query_vector")]
    )
    assert not (await service.feedback.SettleFeedback(request)).pending_again
    assert await counts(service.feedback) == {DONE: 1, SKIPPED: 1}
    assert await pending(service.feedback) == {}
    rows = {row["_id"]: row for row in database.sessions_for_improvement.find()}
    assert (rows["s2"]["reason"], rows["s2"]["settlements"]) == ("no_query_vector", 1)


async def test_settling_twice_counts_once_and_gets_the_same_answer(
    service: Service, database: Database[dict[str, Any]]
) -> None:
    await record_and_submit(service, "s1")
    await record_and_submit(service, "s2")
    user = await lease_one(service.feedback)
    request = pb.SettleFeedbackRequest(lease=user.lease, outcomes=[*outcomes(["s1"]), *outcomes(["s2"], FAILED)])
    first = await service.feedback.SettleFeedback(request)
    assert first.pending_again
    assert await service.feedback.SettleFeedback(request) == first
    rows = {row["_id"]: row for row in database.sessions_for_improvement.find()}
    assert (rows["s1"]["settlements"], rows["s2"]["failures"]) == (1, 1)


async def test_a_failed_session_is_tried_again_and_parked_in_the_end(service: Service) -> None:
    await record_and_submit(service, "good")
    await record_and_submit(service, "bad")
    for failures in (0, 1, 2):
        user = await lease_when_free(service.feedback)
        assert {each.session.session.session_id: each.failures for each in user.sessions}["bad"] == failures
        settled = await service.feedback.SettleFeedback(
            pb.SettleFeedbackRequest(
                lease=user.lease, outcomes=[*outcomes(["good"]), *outcomes(["bad"], FAILED, "milvus")]
            )
        )
        assert (settled.pending_again, settled.parked) == ((True, 0) if failures < 2 else (False, 1))
    assert await counts(service.feedback) == {DONE: 1, PARKED: 1}
    assert await pending(service.feedback) == {}


async def test_a_session_without_an_outcome_keeps_its_user_waiting(service: Service) -> None:
    await record_and_submit(service, "s1")
    await record_and_submit(service, "s2")
    user = await lease_one(service.feedback)
    request = pb.SettleFeedbackRequest(lease=user.lease, outcomes=outcomes(["s1"]))
    assert (await service.feedback.SettleFeedback(request)).pending_again
    user = await lease_when_free(service.feedback)
    assert [each.state for each in user.sessions] == [DONE, PENDING]


async def test_a_session_that_comes_in_while_its_user_is_leased_is_not_lost(service: Service) -> None:
    await record_and_submit(service, "s1")
    user = await lease_one(service.feedback)
    await record_and_submit(service, "s2")
    assert (await settle(service.feedback, user)).pending_again
    again = await lease_one(service.feedback)
    assert again.ids == ["s1", "s2"]
    assert not (await settle(service.feedback, again)).pending_again


async def test_outcomes_of_other_peoples_sessions_are_passed_over(service: Service) -> None:
    await record_and_submit(service, "s1", "ann")
    await record_and_submit(service, "s2", "bert")
    users = await lease_all(service.feedback)
    request = pb.SettleFeedbackRequest(lease=users["ann"].lease, outcomes=outcomes(["s1", "s2", "nowhere"]))
    await service.feedback.SettleFeedback(request)
    assert await counts(service.feedback) == {DONE: 1, PENDING: 1}


@pytest.mark.parametrize("state", [pb.FEEDBACK_STATE_UNSPECIFIED, PENDING, PARKED])
async def test_only_a_worker_s_outcomes_are_taken(service: Service, state: pb.FeedbackState.ValueType) -> None:
    lease = pb.FeedbackLease(user_id="ann", fence=1)
    request = pb.SettleFeedbackRequest(lease=lease, outcomes=outcomes(["s1"], state))
    assert await refused(service.feedback.SettleFeedback(request)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )


# Queued again


async def settled(service: Service, session_id: str) -> None:
    await record_and_submit(service, session_id)
    await settle(service.feedback, await lease_one(service.feedback))
    assert await pending(service.feedback) == {}


async def test_events_that_come_late_queue_their_user_again(service: Service) -> None:
    await settled(service, "s1")
    await push(service, "s1", "late")
    user = await lease_one(service.feedback)
    assert [event.event_id for event in user.sessions[0].session.events] == ["e0", "late"]
    assert user.sessions[0].state == PENDING


async def test_events_that_come_while_the_user_is_leased_are_seen_by_the_next_lease(service: Service) -> None:
    await record_and_submit(service, "s1")
    user = await lease_one(service.feedback)
    await push(service, "s1", "late")
    assert (await settle(service.feedback, user)).pending_again
    again = await lease_one(service.feedback)
    assert [event.event_id for event in again.sessions[0].session.events] == ["e0", "late"]
    assert again.sessions[0].state == PENDING


async def test_a_session_that_turns_out_irrelevant_is_unlearned(service: Service) -> None:
    await record_and_submit(service, "s1")
    await settled(service, "s2")
    await mark_irrelevant(service, "s1")
    user = await lease_one(service.feedback)
    assert user.ids == ["s2"]
    assert not (await settle(service.feedback, user)).pending_again
    assert await counts(service.feedback) == {DONE: 1}
    await mark_irrelevant(service, "s1")
    assert await pending(service.feedback) == {}


async def test_a_user_without_any_session_left_is_leased_to_be_unlearned(service: Service) -> None:
    await settled(service, "s1")
    await mark_irrelevant(service, "s1")
    user = await lease_one(service.feedback)
    assert user.ids == []
    assert user.parts == 1
    assert not (await settle(service.feedback, user)).pending_again


async def test_users_can_be_queued_again_whatever_became_of_their_sessions(
    service: Service, database: Database[dict[str, Any]]
) -> None:
    await settled(service, "s1")
    request = pb.RequeueUsersRequest(user_ids=["ann", "nobody", "ann"])
    assert (await service.feedback.RequeueUsers(request)).requeued == 1
    assert (await pending(service.feedback))["ann"].pending_sessions == 0
    await settle(service.feedback, await lease_one(service.feedback))
    assert database.sessions_for_improvement.find_one({"_id": "s1"}, {"settlements": 1})["settlements"] == 1


async def test_parked_sessions_are_tried_again_once_their_user_is_queued_again(service: Service) -> None:
    await record_and_submit(service, "s1")
    for _ in range(3):
        await settle(service.feedback, await lease_when_free(service.feedback), FAILED)
    assert await counts(service.feedback) == {PARKED: 1}
    await service.feedback.RequeueUsers(pb.RequeueUsersRequest(user_ids=["ann"]))
    assert (await pending(service.feedback))["ann"].pending_sessions == 1
    [session] = (await lease_one(service.feedback)).sessions
    assert (session.state, session.failures) == (PENDING, 0)


async def test_users_that_are_leased_can_be_queued_again(service: Service) -> None:
    await record_and_submit(service, "s1")
    user = await lease_one(service.feedback)
    await service.feedback.RequeueUsers(pb.RequeueUsersRequest(user_ids=["ann"]))
    assert await lease_all(service.feedback, "other") == {}
    assert (await settle(service.feedback, user)).pending_again
    assert (await lease_one(service.feedback)).ids == ["s1"]


# Looking


async def test_pending_users_are_listed_page_by_page(service: Service) -> None:
    names = [f"user {number}" for number in range(7)]
    for name in names:
        await record_and_submit(service, f"of {name}", name)
    listed: list[str] = []
    token = ""
    while True:
        page = await service.feedback.ListPending(pb.ListPendingRequest(page_size=3, page_token=token))
        listed += [user.user_id for user in page.users]
        token = page.next_page_token
        if not token:
            break
    assert listed == names
    assert all(user.pending_sessions == 1 for user in page.users)


async def test_counts_say_how_much_is_waiting_and_since_when(service: Service) -> None:
    empty = await service.feedback.GetFeedbackCounts(pb.GetFeedbackCountsRequest())
    assert (empty.pending_users, empty.leased_users, empty.HasField("oldest_due_at")) == (0, 0, False)
    for user_id in ("ann", "bert"):
        await record_and_submit(service, f"of {user_id}", user_id)
    await lease_one(service.feedback)
    answer = await service.feedback.GetFeedbackCounts(pb.GetFeedbackCountsRequest())
    assert (answer.pending_users, answer.leased_users) == (2, 1)
    assert answer.oldest_due_at == (await pending(service.feedback))["ann"].due_at
    assert await counts(service.feedback) == {PENDING: 2}


async def test_awkward_ids_come_through_as_they_are(service: Service) -> None:
    for name in AWKWARD_IDS:
        await record_and_submit(service, f"{name}"[:300], name)
    users = await lease_all(service.feedback, '"$owner"')
    assert list(users) == list(AWKWARD_IDS)
    for name, user in users.items():
        assert [each.session.session.user_id for each in user.sessions] == [name]
        assert [event.event_id for event in user.sessions[0].session.events] == ["e0"]
        assert not (await settle(service.feedback, user)).pending_again
    answer = await service.feedback.RequeueUsers(pb.RequeueUsersRequest(user_ids=AWKWARD_IDS))
    assert answer.requeued == len(AWKWARD_IDS)
    assert isinstance(users["it's"], Leased)
