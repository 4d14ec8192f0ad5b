"""A clock that is set forwards or back on one machine changes nothing about who holds what, or what is recorded."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.clickstream.calls import create
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import DONE, lease_all, lease_one, record_and_submit, settle
from tideline.clickstream.v1 import event_pb2
from tideline.clickstream.v1 import feedback_service_pb2 as feedback_pb
from tideline.clickstream.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from pymongo.database import Database

    from tests.clickstream.conftest import Clock, Service

STEPS = [timedelta(days=1), -timedelta(days=1)]


@pytest.mark.parametrize("step", STEPS, ids=["forwards", "back"])
async def test_what_is_sent_again_after_a_step_is_a_duplicate_and_numbers_go_on(
    service: Service, clock: Clock, database: Database[dict[str, Any]], step: timedelta
) -> None:
    before = clock()
    await create(service.sessions, a_session("s1", created_at=before))
    push = pb.PushEventsRequest(session_id="s1", events=[an_event("e1")])
    await service.sessions.PushEvents(push)
    clock.advance(step)
    [again] = (await service.sessions.PushEvents(push)).outcomes
    assert again.status == event_pb2.EVENT_STATUS_DUPLICATE
    second = await create(service.sessions, a_session("s2", created_at=clock()))
    assert second.session_number == 2
    assert database.session_events.count_documents({}) == 1


@pytest.mark.parametrize("step", STEPS, ids=["forwards", "back"])
async def test_a_step_neither_ends_a_lease_nor_makes_it_last(service: Service, clock: Clock, step: timedelta) -> None:
    await record_and_submit(service, "s1")
    held = await lease_one(service.feedback, "first")
    clock.advance(step)
    assert await lease_all(service.feedback, "second") == {}
    answer = await settle(service.feedback, held)
    assert not answer.pending_again
    assert held.sessions[0].session.session.session_id == "s1"
    await service.feedback.RequeueUsers(feedback_pb.RequeueUsersRequest(user_ids=["ann"]))
    [after] = (await lease_one(service.feedback, "second")).sessions
    assert after.state == DONE
