"""Sessions are submitted to be learned from; the queue can be looked at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.clickstream.conftest import serving
from tests.clickstream.samples import AWKWARD_IDS
from tests.clickstream.worker import (
    PENDING,
    Leased,
    counts,
    impatient,
    lease_all,
    lease_one,
    mark_irrelevant,
    pending,
    record,
    record_and_submit,
    refused,
    settle,
    submit,
)
from tideline.clickstream.v1 import feedback_service_pb2 as pb

if TYPE_CHECKING:
    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return impatient(settings)


async def test_a_submitted_session_is_leased_with_its_events(service: Service) -> None:
    await record(service, "s1", events=3)
    assert await submit(service, "s1")
    user = await lease_one(service.feedback)
    assert (user.lease.user_id, user.lease.attempts) == ("ann", 1)
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
