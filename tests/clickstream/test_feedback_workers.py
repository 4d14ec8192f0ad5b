"""Many workers on one queue, some of which die, some of which are too slow."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest

from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import DONE, Leased, counts, leased, pending, settle, submit, until
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb
from tideline.rpc.status import reason_of

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service

USERS: Final = 500
SESSIONS_EACH: Final = 2
WORKERS: Final = 8
LEASE_S: Final = 0.3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # Nobody is parked here, however often its workers die.
    return settings.model_copy(update={"feedback_max_attempts": 1_000})


async def backlog(service: Service) -> list[str]:
    """Submit sessions of many users, all at once."""
    names = [(f"{user}/{number}", f"user {user}") for user in range(USERS) for number in range(SESSIONS_EACH)]
    sessions = [a_session(session_id, user_id=user_id) for session_id, user_id in names]
    await service.sessions.BatchCreateSessions(session_pb.BatchCreateSessionsRequest(sessions=sessions))
    assert all(await asyncio.gather(*(submit(service, session_id) for session_id, _ in names)))
    return [session_id for session_id, _ in names]


class Worker:
    """Works like the improvement service, but dies and dawdles at random."""

    def __init__(self, service: Service, name: str) -> None:
        self._service = service
        self._name = name
        self._random = random.Random(name)
        self.leases: list[pb.FeedbackLease] = []
        self.settled: list[tuple[str, int]] = []
        self.refused: list[tuple[str, int]] = []

    async def run(self) -> None:
        while await pending(self._service.feedback):
            async for user in leased(self._service.feedback, self._name, max_users=20, duration=LEASE_S):
                fate = self._random.random()
                if fate < 0.05:
                    break  # dies, with more users on the way; the server may not have seen this one go
                self.leases.append(user.lease)
                if fate < 0.15:
                    await asyncio.sleep(1.2 * LEASE_S)  # too slow, and does not know it
                await self._settle(user)

    async def _settle(self, user: Leased) -> None:
        held = (user.lease.user_id, user.lease.fence)
        try:
            await settle(self._service.feedback, user)
        except grpc.aio.AioRpcError as failure:
            if reason_of(failure) != "LEASE_LOST":
                raise
            self.refused.append(held)
        else:
            self.settled.append(held)


async def test_many_workers_settle_every_session_once_and_no_two_hold_a_user(
    service: Service, settings: Settings, clock: Clock, database: Database[dict[str, Any]]
) -> None:
    session_ids = await backlog(service)
    async with serving(settings, clock) as other:
        workers = [Worker((service, other)[number % 2], f"worker {number}") for number in range(WORKERS)]
        await asyncio.gather(*(worker.run() for worker in workers))
    assert await counts(service.feedback) == {DONE: len(session_ids)}
    assert {row["settlements"] for row in database.sessions_for_improvement.find()} == {1}

    settled = [held for worker in workers for held in worker.settled]
    assert sorted(user_id for user_id, _ in settled) == sorted(f"user {user}" for user in range(USERS))
    by_user: dict[str, list[pb.FeedbackLease]] = defaultdict(list)
    for worker in workers:
        for lease in worker.leases:
            by_user[lease.user_id].append(lease)
    for user_id, leases in by_user.items():
        leases.sort(key=lambda lease: lease.fence)
        fences = [lease.fence for lease in leases]
        assert len(set(fences)) == len(fences)
        # The one that was settled is the last; everybody before had lost the user by the time of the next lease.
        assert (user_id, fences[-1]) in settled
        for before, after in pairwise(leases):
            taken_at = after.expires_at.ToDatetime() - timedelta(seconds=LEASE_S)
            assert taken_at >= before.expires_at.ToDatetime()
    assert any(worker.refused for worker in workers)


async def test_every_call_of_a_burst_is_answered(service: Service) -> None:
    session_ids = await backlog(service)
    burst = [submit(service, session_id) for session_id in session_ids * 4]
    assert not any(await asyncio.gather(*burst))


async def test_calls_for_one_user_at_the_same_time_all_get_through(
    service: Service, settings: Settings, clock: Clock
) -> None:
    names = [f"s{number}" for number in range(60)]
    sessions = [a_session(name) for name in names]
    await service.sessions.BatchCreateSessions(session_pb.BatchCreateSessionsRequest(sessions=sessions))

    async def touch(via: Service, name: str) -> None:
        await submit(via, name)
        late = session_pb.PushEventsRequest(session_id=name, events=[an_event("late")])
        await via.sessions.PushEvents(late)

    async def learn(via: Service) -> None:
        async def some() -> bool:
            async for user in leased(via.feedback, "w", max_users=1):
                await settle(via.feedback, user)
            return touched.done()

        await until(some)

    async with serving(settings, clock) as other:
        touched = asyncio.gather(*(touch((service, other)[index % 2], name) for index, name in enumerate(names)))
        await asyncio.gather(touched, learn(service), learn(other))
        async for user in leased(service.feedback):
            assert len(user.ids) == len(names)
            await settle(service.feedback, user)
    assert await counts(service.feedback) == {DONE: len(names)}
    assert await pending(service.feedback) == {}
