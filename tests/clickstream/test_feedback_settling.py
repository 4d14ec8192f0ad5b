"""What became of the sessions of a leased user is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.worker import (
    DONE,
    FAILED,
    PARKED,
    PENDING,
    SKIPPED,
    counts,
    impatient,
    lease_all,
    lease_one,
    lease_when_free,
    outcomes,
    pending,
    record_and_submit,
    refused,
    settle,
)
from tideline.clickstream.v1 import feedback_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return impatient(settings)


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
