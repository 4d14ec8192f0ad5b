"""What is older than it may get leaves with all that belongs to it, and is unlearned."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.clickstream.calls import create, push
from tests.clickstream.privacy.conftest import serving_privately, until
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import lease_all, lease_one, record, record_and_submit, settle

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock


async def test_old_sessions_leave_and_their_users_are_learned_anew_from_the_others(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    keeping = settings.model_copy(
        update={"retention": timedelta(days=30), "retention_every": timedelta(milliseconds=50)}
    )
    async with serving_privately(keeping, clock) as service:
        await record_and_submit(service, "old", "ann")
        await record(service, "anonymous", "")
        await push(service.sessions, "not there", [an_event("e1")], allow_missing=True)
        clock.advance(timedelta(days=29))
        await record_and_submit(service, "young", "ann")
        for user in (await lease_all(service.feedback)).values():
            await settle(service.feedback, user)
        assert database.sessions.count_documents({}) == 3

        clock.advance(timedelta(days=2))
        await until(lambda: database.session_events.count_documents({}) == 1)

        await until(lambda: database.sessions.count_documents({}) == 1)
        again = await lease_one(service.feedback)
        assert (again.lease.user_id, again.ids) == ("ann", ["young"])
        assert database.sessions_for_improvement.count_documents({}) == 1


async def test_without_a_setting_nothing_is_too_old(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving_privately(settings, clock) as service:
        await create(service.sessions, a_session("old"))
        clock.advance(timedelta(days=5_000))
        await create(service.sessions, a_session("young"))
        assert database.sessions.count_documents({}) == 2
