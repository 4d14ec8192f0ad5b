"""Users are leased, read and settled some at a time: nobody is to notice, but by how long it takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from clickstream_service.storage import mongo_leases
from clickstream_service.storage.hydration import GROUP
from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import (
    DONE,
    Leased,
    counts,
    lease_all,
    leased,
    mark_irrelevant,
    outcomes,
    pending,
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
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service

PARTS = 12
"""More than a connection takes without being read."""


async def record_large(service: Service, user_id: str) -> None:
    """Submit sessions of a user that come in many parts."""
    large = a_session("", user_id=user_id)
    large.search_meta["padding"] = "x" * 600_000
    for number in range(PARTS):
        large.session_id = f"{user_id}/{number}"
        await service.sessions.CreateSession(session_pb.CreateSessionRequest(session=large))
        await submit(service, large.session_id)


async def test_whoever_waits_behind_a_slow_reader_is_free_for_others_before_the_lease_ends(service: Service) -> None:
    await record_large(service, "ann")
    for user_id in ("bert", "carl"):
        await record_and_submit(service, f"of {user_id}", user_id)
    slow = aiter(service.feedback.LeaseFeedback(pb.LeaseFeedbackRequest(owner="slow", duration=seconds(4))))
    parts = [await anext(slow)]
    found: dict[str, Leased] = {}

    async def others_get_them() -> bool:
        found.update(await lease_all(service.feedback, "quick"))
        return bool(found)

    await until(others_get_them)
    assert list(found) == ["bert", "carl"]
    assert {user.lease.attempts for user in found.values()} == {1}
    parts += [part async for part in slow]
    assert {part.lease.user_id for part in parts} == {"ann"}
    assert sum(len(part.sessions) for part in parts) == PARTS


async def test_whoever_waits_behind_a_slow_reader_is_sent_later_if_nobody_else_comes(service: Service) -> None:
    await record_large(service, "ann")
    for user_id in ("bert", "carl"):
        await record_and_submit(service, f"of {user_id}", user_id)
    slow = aiter(service.feedback.LeaseFeedback(pb.LeaseFeedbackRequest(owner="slow", duration=seconds(1))))
    parts = [await anext(slow)]

    async def are_free() -> bool:
        waiting = await pending(service.feedback)
        return not any(waiting[user_id].owner for user_id in ("bert", "carl"))

    await until(are_free)
    parts += [part async for part in slow]
    assert [part.lease.user_id for part in parts if part.last] == ["ann", "bert", "carl"]
    assert {part.lease.attempts for part in parts} == {1}


async def test_users_who_waited_for_their_turn_when_the_worker_went_away_count_no_attempt(service: Service) -> None:
    await record_large(service, "ann")
    for user_id in ("bert", "carl"):
        await record_and_submit(service, f"of {user_id}", user_id)
    call = service.feedback.LeaseFeedback(pb.LeaseFeedbackRequest(owner="w", duration=seconds(600)))
    await call.read()
    assert (await pending(service.feedback))["carl"].owner == "w"
    call.cancel()

    async def are_free() -> bool:
        return not any(user.owner for user in (await pending(service.feedback)).values())

    await until(are_free)
    attempts = {user.user_id: user.attempts for user in (await pending(service.feedback)).values()}
    assert attempts == {"ann": 1, "bert": 0, "carl": 0}


async def test_what_cannot_be_read_of_a_user_is_no_fault_of_those_before_and_behind(
    service: Service, database: Database[dict[str, Any]]
) -> None:
    for user_id in ("ann", "bert", "carl"):
        await record_and_submit(service, f"of {user_id}", user_id)
    database.sessions.update_one({"_id": "of bert"}, {"$unset": {"query": "", "results": "", "fingerprint": ""}})
    got: list[Leased] = []

    async def work() -> None:
        async for user in leased(service.feedback):
            got.append(user)  # noqa: PERF401 - it fails in between

    assert (await refused(work()))[0] is grpc.StatusCode.INTERNAL
    assert [user.ids for user in got] == [["of ann"]]

    async def are_free() -> bool:
        return not any(user.owner for name, user in (await pending(service.feedback)).items() if name != "ann")

    await until(are_free)
    waiting = await pending(service.feedback)
    assert {name: (user.owner, user.attempts) for name, user in waiting.items()} == {
        "ann": ("w", 1),
        "bert": ("", 1),
        "carl": ("", 0),
    }
    assert not (await settle(service.feedback, got[0])).pending_again


@pytest.mark.parametrize("sized", [1_000, 10])
async def test_users_with_many_sessions_few_and_none_come_in_their_turn_with_all_there_is(
    service: Service, monkeypatch: pytest.MonkeyPatch, sized: int
) -> None:
    monkeypatch.setattr(mongo_leases, "_SIZED", sized)
    sessions = {"few": 2, "many": GROUP + 2, "none": 1, "some": 5, "busy": 2, "few too": 2}
    for user_id, count in sessions.items():
        ids = [f"{user_id}/{number:03}" for number in range(count)]
        batch = [a_session(session_id, user_id=user_id) for session_id in ids]
        await service.sessions.BatchCreateSessions(session_pb.BatchCreateSessionsRequest(sessions=batch))
        assert all(await asyncio.gather(*(submit(service, session_id) for session_id in ids)))
    await mark_irrelevant(service, "none/000")
    clicks = [an_event(f"e{number:03}") for number in range(200)]
    await service.sessions.PushEvents(session_pb.PushEventsRequest(session_id="busy/001", events=clicks))
    users = await lease_all(service.feedback)
    assert list(users) == list(sessions)
    for user_id, user in users.items():
        assert sorted(user.ids) == [f"{user_id}/{number:03}" for number in range(sessions[user_id])] * (
            user_id != "none"
        )
    assert [len(each.session.events) for each in users["busy"].sessions] == [0, 200]


async def test_calls_of_the_same_worker_at_the_same_time_never_get_the_same_user(
    service: Service, settings: Settings, clock: Clock
) -> None:
    sessions = [a_session(f"of {number}", user_id=f"user {number}") for number in range(150)]
    await service.sessions.BatchCreateSessions(session_pb.BatchCreateSessionsRequest(sessions=sessions))
    await asyncio.gather(*(submit(service, session.session_id) for session in sessions))
    async with serving(settings, clock) as other:
        calls = [lease_all((service, other)[number % 2].feedback, max_users=1_000) for number in range(6)]
        users = [user for got in await asyncio.gather(*calls) for user in got]
    assert len(users) == len(set(users)) == len(sessions)


async def test_settlements_at_the_same_time_get_an_answer_each(service: Service) -> None:
    for number in range(20):
        await record_and_submit(service, f"of {number}", f"user {number}")
    users = await lease_all(service.feedback)
    for lost in ("user 3", "user 7"):
        await service.feedback.ReleaseLease(pb.ReleaseLeaseRequest(leases=[users[lost].lease]))
    partly = pb.SettleFeedbackRequest(lease=users["user 5"].lease)
    twice = pb.SettleFeedbackRequest(lease=users["user 9"].lease, outcomes=outcomes(users["user 9"].ids))
    others = [user for name, user in users.items() if name not in {"user 3", "user 5", "user 7", "user 9"}]
    *lost_ones, waits, first, again = await asyncio.gather(
        refused(settle(service.feedback, users["user 3"])),
        refused(settle(service.feedback, users["user 7"])),
        service.feedback.SettleFeedback(partly),
        service.feedback.SettleFeedback(twice),
        service.feedback.SettleFeedback(twice),
    )
    answers = await asyncio.gather(*(settle(service.feedback, user) for user in others))
    assert lost_ones == [(grpc.StatusCode.ABORTED, "LEASE_LOST")] * 2
    assert waits.pending_again
    assert first == again == pb.SettleFeedbackResponse()
    assert not any(answer.pending_again for answer in answers)
    assert (await counts(service.feedback))[DONE] == 17
    assert set(await pending(service.feedback)) == {"user 3", "user 5", "user 7"}


async def test_a_user_whose_records_are_broken_keeps_nobody_else_from_being_settled(
    service: Service, database: Database[dict[str, Any]]
) -> None:
    for number in range(20):
        await record_and_submit(service, f"of {number}", f"user {number}")
    users = await lease_all(service.feedback)
    database.sessions_for_improvement.update_one({"_id": "of 4"}, {"$unset": {"state": ""}})
    answers = await asyncio.gather(*(settle(service.feedback, user) for user in users.values()), return_exceptions=True)
    failed = {name for name, answer in zip(users, answers, strict=True) if isinstance(answer, BaseException)}
    assert failed == {"user 4"}
    assert set(await pending(service.feedback)) == {"user 4"}
