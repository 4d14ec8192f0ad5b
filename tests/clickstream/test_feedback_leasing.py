"""Users are leased, one to one worker at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.clickstream.samples import a_session
from tests.clickstream.worker import (
    DONE,
    PARKED,
    PENDING,
    counts,
    impatient,
    lease_all,
    lease_one,
    lease_when_free,
    pending,
    record,
    record_and_submit,
    refused,
    seconds,
    settle,
    submit,
    until,
)
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb

if TYPE_CHECKING:
    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return impatient(settings)


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
    assert (again.lease.attempts, again.lease.fence) == (1, given_back.lease.fence + 1)


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
