"""What is new about sessions that were learned from has their users leased again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.clickstream.worker import (
    DONE,
    FAILED,
    PARKED,
    PENDING,
    counts,
    impatient,
    lease_all,
    lease_one,
    lease_when_free,
    mark_irrelevant,
    pending,
    push,
    record_and_submit,
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
