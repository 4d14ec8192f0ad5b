"""All that is known of a user, and nothing about others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.clickstream.calls import create, push
from tests.clickstream.privacy.test_erasing_users import ANN, fill, interact
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import mark_irrelevant
from tideline.clickstream.v1 import event_pb2
from tideline.clickstream.v1 import privacy_service_pb2 as pb

if TYPE_CHECKING:
    import pytest

    from tests.clickstream.conftest import Clock
    from tests.clickstream.privacy.conftest import Private


async def exported(service: Private, user_id: str) -> list[pb.ExportUserResponse]:
    return [part async for part in service.privacy.ExportUser(pb.ExportUserRequest(user_id=user_id))]


async def test_an_export_has_sessions_with_events_and_interactions_also_those_that_do_not_count(
    service: Private,
) -> None:
    await fill(service, ANN)
    await fill(service, "bob")
    await interact(service, ANN, "another")
    await mark_irrelevant(service, f"{ANN}-1")
    parts = await exported(service, ANN)
    sessions = [each for part in parts for each in part.sessions]
    assert sorted(each.session.session_id for each in sessions) == [f"{ANN}-1", f"{ANN}-2", f"{ANN}-3"]
    assert {each.session.user_id for each in sessions} == {ANN}
    assert all(len(each.events) == 1 and not each.events_truncated for each in sessions)
    alone = [each for part in parts for each in part.interactions]
    assert sorted(each.interaction_id for each in alone) == [f"{ANN}-alone", "another"]
    assert all(not part.sessions and not part.interactions for part in await exported(service, "nobody"))


async def test_a_session_with_many_events_comes_in_parts_that_are_complete_together(
    service: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clickstream_service.storage.personal_records.EVENTS_AT_ONCE", 100)
    await create(service.sessions, a_session("s1", user_id=ANN))
    await push(service.sessions, "s1", [an_event(f"e{number:03}") for number in range(250)])
    sessions = [each for part in await exported(service, ANN) for each in part.sessions]
    assert [len(each.events) for each in sessions] == [100, 100, 50]
    assert len({event.event_id for each in sessions for event in each.events}) == 250


async def test_odd_order_and_positions_are_flagged_and_stored(service: Private, clock: Clock) -> None:
    await create(service.sessions, a_session("s1", objects=("a", "b", "c")))
    early = clock() - timedelta(minutes=1)
    outcomes = await push(
        service.sessions,
        "s1",
        [
            an_event("fine", "b", position=1),
            an_event("moved", "b", position=2),
            an_event("early", "c", created_at=early),
            an_event("both", "c", position=0, created_at=early),
        ],
    )
    assert [outcome.status for outcome in outcomes] == [event_pb2.EVENT_STATUS_ACCEPTED] * 4
    moved, early_flag = event_pb2.EVENT_FLAG_POSITION_MISMATCH, event_pb2.EVENT_FLAG_OUT_OF_SEQUENCE
    assert [list(outcome.flags) for outcome in outcomes] == [[], [moved], [early_flag], [early_flag, moved]]
