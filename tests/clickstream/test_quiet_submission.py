"""Sessions are submitted by themselves once they have been quiet for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from clickstream_service.domain.feedback import FeedbackRules
from clickstream_service.storage.database import Database as Connection
from clickstream_service.storage.mongo_feedback import MongoFeedback
from clickstream_service.storage.mongo_quiet import MongoQuiet
from clickstream_service.submission import QuietSubmission
from tests.clickstream.conftest import serving
from tests.clickstream.samples import an_event
from tests.clickstream.worker import lease_one, mark_irrelevant, pending, record, submit, until
from tideline.clickstream.v1 import session_service_pb2 as session_pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service

QUIET = timedelta(minutes=30)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Submission is on, but the service's own task does not get to look: tests do."""
    return settings.model_copy(update={"submit_after_quiet": QUIET, "submit_every": timedelta(days=1)})


@pytest.fixture
async def quiet(service: Service, settings: Settings, clock: Clock) -> AsyncIterator[QuietSubmission]:
    connection = Connection(str(settings.mongo_uri), settings.mongo_database, settings.mongo_patience)
    queue = MongoFeedback(connection)
    yield QuietSubmission(queue, MongoQuiet(connection), QUIET, settings.max_age, clock)
    await queue.close()
    connection.close()


@pytest.fixture
def submitted(database: Database[dict[str, Any]]) -> Any:
    return lambda: sorted(row["_id"] for row in database.sessions_for_improvement.find())


async def push(service: Service, session_id: str, event_id: str) -> None:
    request = session_pb.PushEventsRequest(session_id=session_id, events=[an_event(event_id)])
    await service.sessions.PushEvents(request)


async def test_a_session_is_submitted_once_its_last_event_is_long_enough_ago(
    service: Service, quiet: QuietSubmission, clock: Clock, submitted: Any
) -> None:
    await record(service, "s1")
    clock.advance(20 * MINUTE)
    await push(service, "s1", "later")
    clock.advance(29 * MINUTE)
    await quiet.tick()
    assert submitted() == []
    clock.advance(MINUTE)
    await quiet.tick()
    assert submitted() == ["s1"]
    assert (await lease_one(service.feedback)).ids == ["s1"]


async def test_a_session_waits_for_its_first_event(
    service: Service, quiet: QuietSubmission, clock: Clock, submitted: Any
) -> None:
    await record(service, "s1", events=0)
    for _ in range(3):
        clock.advance(QUIET)
        await quiet.tick()
    await push(service, "s1", "first")
    clock.advance(QUIET)
    await quiet.tick()
    assert submitted() == ["s1"]


async def test_what_is_not_to_be_learned_from_is_not_looked_at_for_long(
    service: Service, quiet: QuietSubmission, clock: Clock, submitted: Any, database: Database[dict[str, Any]]
) -> None:
    await record(service, "anonymous", user_id="")
    await record(service, "marked")
    await mark_irrelevant(service, "marked")
    await record(service, "by hand")
    await submit(service, "by hand")
    assert database.sessions.count_documents({"check_at": {"$exists": True}}) == 1
    clock.advance(2 * QUIET)
    await quiet.tick()
    assert submitted() == ["by hand"]
    assert database.sessions.count_documents({"check_at": {"$exists": True}}) == 0


async def test_a_session_without_events_is_given_up_when_events_would_be_too_old(
    service: Service, quiet: QuietSubmission, clock: Clock, submitted: Any, database: Database[dict[str, Any]]
) -> None:
    await record(service, "s1", events=0)
    clock.advance(timedelta(hours=12))
    await quiet.tick()
    assert database.sessions.count_documents({"check_at": {"$exists": True}}) == 1
    clock.advance(QUIET)
    await quiet.tick()
    assert database.sessions.count_documents({"check_at": {"$exists": True}}) == 0
    assert submitted() == []


async def test_one_tick_does_a_bounded_part_of_the_work(
    service: Service, quiet: QuietSubmission, clock: Clock, submitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clickstream_service.submission.AT_ONCE", 3)
    for number in range(7):
        await record(service, f"s{number}")
    clock.advance(QUIET)
    assert [await quiet.tick() for _ in range(4)] == [3, 3, 1, 0]
    assert len(submitted()) == 7


async def test_several_services_submit_a_session_once(
    service: Service, settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    for number in range(50):
        await record(service, f"s{number}", f"user {number % 5}")
    clock.advance(QUIET)
    often = settings.model_copy(update={"submit_every": timedelta(milliseconds=1)})
    async with serving(often, clock), serving(often, clock):
        await until(lambda: database.sessions_for_improvement.count_documents({}) == 50)
    assert len(await pending(service.feedback)) == 5
    assert sum(lease["generation"] for lease in database.user_leases.find()) <= 50
    assert database.sessions.count_documents({"check_at": {"$exists": True}}) == 0


async def test_the_service_goes_on_submitting_after_a_failure(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[None] = []
    due = MongoQuiet.due

    async def fail_at_first(self: MongoQuiet, *arguments: Any) -> Any:
        if len(failures) < 3:
            failures.append(None)
            raise ConnectionError
        return await due(self, *arguments)

    monkeypatch.setattr(MongoQuiet, "due", fail_at_first)
    often = settings.model_copy(update={"submit_every": timedelta(milliseconds=1)})
    async with serving(often, clock) as service:
        await record(service, "s1")
        clock.advance(QUIET)
        await until(lambda: database.sessions_for_improvement.count_documents({}) == 1)
    assert len(failures) == 3


async def test_without_the_setting_nothing_is_submitted_or_marked_for_it(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    async with serving(settings.model_copy(update={"submit_after_quiet": None}), clock) as service:
        await record(service, "s1")
    assert database.sessions.count_documents({"check_at": {"$exists": True}}) == 0


def test_the_wait_after_a_failure_doubles_up_to_a_limit() -> None:
    rules = FeedbackRules(backoff=MINUTE, max_backoff=60 * MINUTE)
    waits = [rules.backoff_after(failures) / MINUTE for failures in (1, 2, 3, 7, 1_000_000)]
    assert waits == [1, 2, 4, 60, 60]
