"""Whatever happens in whatever order: fences grow, no two workers hold a user, and nothing that came in is lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import grpc
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.clickstream.conftest import serving
from tests.clickstream.samples import an_event
from tests.clickstream.worker import (
    DONE,
    FAILED,
    SKIPPED,
    Leased,
    lease_all,
    mark_irrelevant,
    outcomes,
    pending,
    record,
    seconds,
    submit,
)
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb
from tideline.rpc.status import reason_of

if TYPE_CHECKING:
    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock, Service

LONG_S: Final = 600
SHORT_S: Final = 0.001

users = st.sampled_from(["ann", "bert"])
numbers = st.integers(0, 50)
steps = st.one_of(
    st.tuples(st.just("submit"), users),
    st.tuples(st.just("push"), numbers),
    st.tuples(st.just("mark_irrelevant"), numbers),
    st.tuples(st.just("requeue"), users),
    st.tuples(st.just("lease"), st.sampled_from([LONG_S, SHORT_S])),
    st.tuples(st.just("settle"), numbers, st.sampled_from([DONE, DONE, SKIPPED, FAILED])),
    st.tuples(st.just("settle_partly"), numbers),
    st.tuples(st.just("release"), numbers),
    st.tuples(st.just("renew"), numbers),
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # Nobody is parked, and nobody waits to be tried again.
    never = {"feedback_max_attempts": 1_000, "feedback_max_failures": 1_000}
    return settings.model_copy(update=never | {"feedback_backoff": timedelta(0)})


@dataclass
class History:
    """What was done to the service, and what must hold then. Each has users of its own."""

    service: Service
    name: str
    sessions: list[str] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    irrelevant: set[str] = field(default_factory=set)
    leases: list[Leased] = field(default_factory=list)
    fences: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: set[str] = field(default_factory=set)
    ended: set[tuple[str, int]] = field(default_factory=set)
    released: set[tuple[str, int]] = field(default_factory=set)
    learned: dict[str, dict[str, int]] = field(default_factory=dict)

    async def submit(self, user: str) -> None:
        session_id = f"{self.name}/{len(self.sessions)}"
        self.sessions.append(session_id)
        self.users[session_id] = f"{self.name}/{user}"
        await record(self.service, session_id, self.users[session_id])
        self.events[session_id] = 1
        assert await submit(self.service, session_id)

    async def push(self, number: int) -> None:
        if self.sessions:
            session_id = self.sessions[number % len(self.sessions)]
            events = [an_event(f"late {self.events[session_id]}")]
            await self.service.sessions.PushEvents(session_pb.PushEventsRequest(session_id=session_id, events=events))
            self.events[session_id] += 1

    async def mark_irrelevant(self, number: int) -> None:
        if self.sessions:
            session_id = self.sessions[number % len(self.sessions)]
            await mark_irrelevant(self.service, session_id)
            self.irrelevant.add(session_id)

    async def requeue(self, user: str) -> None:
        request = pb.RequeueUsersRequest(user_ids=[f"{self.name}/{user}"])
        known = f"{self.name}/{user}" in self.users.values()
        assert (await self.service.feedback.RequeueUsers(request)).requeued == known

    async def lease(self, duration: float) -> None:
        for user_id, user in (await lease_all(self.service.feedback, "w", duration=duration)).items():
            assert user_id not in self.held
            assert user.lease.fence > self.fences[user_id]
            assert {each: self.events[each] for each in user.ids} == self._counting(user_id)
            assert [len(each.session.events) for each in user.sessions] == [self.events[each] for each in user.ids]
            self.fences[user_id] = user.lease.fence
            if duration == LONG_S:
                self.held.add(user_id)
            self.leases.append(user)

    async def settle(self, number: int, state: pb.FeedbackState.ValueType) -> None:
        if self.leases:
            user = self.leases[number % len(self.leases)]
            learned = {each.session.session.session_id: len(each.session.events) for each in user.sessions}
            if await self._settle(user, outcomes(user.ids, state)) and (state != FAILED or not user.ids):
                self.learned[user.lease.user_id] = learned

    async def settle_partly(self, number: int) -> None:
        if self.leases:
            user = self.leases[number % len(self.leases)]
            if await self._settle(user, outcomes(user.ids[:-1])) and not user.ids:
                self.learned[user.lease.user_id] = {}  # of nothing, there is no part

    async def _settle(self, user: Leased, results: list[pb.FeedbackOutcome]) -> bool:
        held = (user.lease.user_id, user.lease.fence)
        request = pb.SettleFeedbackRequest(lease=user.lease, outcomes=results)
        if self.fences[held[0]] > held[1] or held in self.released:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await self.service.feedback.SettleFeedback(request)
            assert reason_of(failure.value) == "LEASE_LOST"
            return False
        await self.service.feedback.SettleFeedback(request)
        first = held not in self.ended
        self.ended.add(held)
        self.held.discard(held[0])
        return first

    async def release(self, number: int) -> None:
        if self.leases:
            lease = self.leases[number % len(self.leases)].lease
            held = (lease.user_id, lease.fence)
            current = self._is_current(held)
            answer = await self.service.feedback.ReleaseLease(pb.ReleaseLeaseRequest(leases=[lease]))
            assert answer.released == current
            if current:
                self.released.add(held)
                self.held.discard(held[0])

    async def renew(self, number: int) -> None:
        if self.leases:
            lease = self.leases[number % len(self.leases)].lease
            held = (lease.user_id, lease.fence)
            request = pb.RenewLeaseRequest(leases=[lease], duration=seconds(LONG_S))
            answer = await self.service.feedback.RenewLease(request)
            assert bool(answer.lost) != self._is_current(held)
            if self._is_current(held):
                self.held.add(held[0])

    async def finish(self) -> None:
        """Free whoever is held, work until nobody waits, and look at what was learned in the end."""
        for user in self.leases:
            await self.service.feedback.ReleaseLease(pb.ReleaseLeaseRequest(leases=[user.lease]))
        self.held.clear()
        self.released |= {(user.lease.user_id, user.lease.fence) for user in self.leases} - self.ended
        while await pending(self.service.feedback):
            first = len(self.leases)
            await self.lease(LONG_S)
            for number in range(first, len(self.leases)):
                await self.settle(number, DONE)
        assert self.learned == {user_id: self._counting(user_id) for user_id in set(self.users.values())}

    def _is_current(self, held: tuple[str, int]) -> bool:
        return self.fences[held[0]] == held[1] and held not in self.ended | self.released

    def _counting(self, user_id: str) -> dict[str, int]:
        return {
            session_id: self.events[session_id]
            for session_id in self.sessions
            if self.users[session_id] == user_id and session_id not in self.irrelevant
        }


def test_fences_grow_no_two_hold_a_user_and_what_is_learned_in_the_end_is_all_there_is(
    settings: Settings, clock: Clock
) -> None:
    with asyncio.Runner() as runner:
        context = serving(settings, clock)
        service = runner.run(context.__aenter__())
        examples = iter(range(1_000_000))

        @hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(steps, max_size=25))
        def check(taken: list[tuple[str, object]]) -> None:
            async def run() -> None:
                history = History(service, f"h{next(examples)}")
                for name, *arguments in taken:
                    await getattr(history, name)(*arguments)
                await history.finish()

            runner.run(run())

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))
