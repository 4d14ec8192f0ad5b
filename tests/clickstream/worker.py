"""What a worker of the improvement service does with feedback, and how tests prepare it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from tests.clickstream.calls import refusal
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import batch_service_pb2 as batch_pb
from tideline.clickstream.v1 import feedback_service_pb2 as pb
from tideline.clickstream.v1 import session_service_pb2 as session_pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    import grpc

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Service
    from tideline.clickstream.v1.feedback_service_pb2_grpc import FeedbackServiceAsyncStub

DONE, SKIPPED, FAILED = pb.FEEDBACK_STATE_DONE, pb.FEEDBACK_STATE_SKIPPED, pb.FEEDBACK_STATE_FAILED
PENDING, PARKED = pb.FEEDBACK_STATE_PENDING, pb.FEEDBACK_STATE_PARKED


@dataclass
class Leased:
    """A user as a worker got it."""

    lease: pb.FeedbackLease
    sessions: list[pb.FeedbackSession] = field(default_factory=list)
    parts: int = 0
    complete: bool = False

    @property
    def ids(self) -> list[str]:
        return [each.session.session.session_id for each in self.sessions]


def seconds(number: float) -> Duration:
    return Duration(nanos=round(number * 1e9) % 1_000_000_000, seconds=int(number))


def impatient(settings: Settings) -> Settings:
    """Let failed sessions be tried again at once, and few times."""
    return settings.model_copy(
        update={
            "feedback_backoff": timedelta(milliseconds=20),
            "feedback_max_backoff": timedelta(milliseconds=40),
            "feedback_max_failures": 3,
            "feedback_max_attempts": 3,
        }
    )


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """Return the status and the reason that a call is refused with."""
    code, reason, _ = await refusal(call)
    return code, reason


async def push(service: Service, session_id: str, *event_ids: str) -> None:
    events = [an_event(event_id) for event_id in event_ids]
    await service.sessions.PushEvents(session_pb.PushEventsRequest(session_id=session_id, events=events))


async def record(service: Service, session_id: str, user_id: str = "ann", *, events: int = 1) -> None:
    """Record a session with clicks."""
    session = a_session(session_id, user_id=user_id)
    await service.sessions.CreateSession(session_pb.CreateSessionRequest(session=session))
    if events:
        clicks = [an_event(f"e{number}") for number in range(events)]
        await service.sessions.PushEvents(session_pb.PushEventsRequest(session_id=session_id, events=clicks))


async def submit(service: Service, session_id: str) -> bool:
    request = batch_pb.UseSessionForImprovementRequest(session_id=session_id)
    return (await service.batches.UseSessionForImprovement(request)).submitted


async def record_and_submit(service: Service, session_id: str, user_id: str = "ann") -> None:
    await record(service, session_id, user_id)
    await submit(service, session_id)


async def mark_irrelevant(service: Service, session_id: str) -> None:
    request = session_pb.MarkSessionIrrelevantRequest(session_id=session_id, reason="load test")
    await service.sessions.MarkSessionIrrelevant(request)


async def leased(
    feedback: FeedbackServiceAsyncStub, owner: str = "w", *, max_users: int = 0, duration: float = 60
) -> AsyncIterator[Leased]:
    """Yield users as they come in completely."""
    request = pb.LeaseFeedbackRequest(owner=owner, max_users=max_users, duration=seconds(duration))
    user: Leased | None = None
    async for part in feedback.LeaseFeedback(request):
        if user is None:
            user = Leased(part.lease)
        assert user.lease == part.lease
        user.sessions += part.sessions
        user.parts += 1
        if part.last:
            yield user
            user = None
    assert user is None


async def lease_all(
    feedback: FeedbackServiceAsyncStub, owner: str = "w", *, max_users: int = 0, duration: float = 60
) -> dict[str, Leased]:
    users = [user async for user in leased(feedback, owner, max_users=max_users, duration=duration)]
    assert len({user.lease.user_id for user in users}) == len(users)
    return {user.lease.user_id: user for user in users}


async def lease_one(feedback: FeedbackServiceAsyncStub, owner: str = "w", *, duration: float = 60) -> Leased:
    [user] = (await lease_all(feedback, owner, max_users=1, duration=duration)).values()
    return user


def outcomes(
    session_ids: Iterable[str], state: pb.FeedbackState.ValueType = DONE, reason: str = ""
) -> list[pb.FeedbackOutcome]:
    return [pb.FeedbackOutcome(session_id=session_id, state=state, reason=reason) for session_id in session_ids]


async def settle(
    feedback: FeedbackServiceAsyncStub, user: Leased, state: pb.FeedbackState.ValueType = DONE, reason: str = ""
) -> pb.SettleFeedbackResponse:
    """Settle all sessions of a user alike."""
    request = pb.SettleFeedbackRequest(lease=user.lease, outcomes=outcomes(user.ids, state, reason))
    return await feedback.SettleFeedback(request)


async def pending(feedback: FeedbackServiceAsyncStub) -> dict[str, pb.PendingUser]:
    answer = await feedback.ListPending(pb.ListPendingRequest(page_size=1000))
    return {user.user_id: user for user in answer.users}


async def counts(feedback: FeedbackServiceAsyncStub) -> dict[pb.FeedbackState.ValueType, int]:
    """Sessions by state, of the states that there are."""
    answer = await feedback.GetFeedbackCounts(pb.GetFeedbackCountsRequest())
    return {each.state: each.count for each in answer.sessions if each.count}


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that another task, or the database's clock, brings about."""
    while True:
        met = condition()
        if asyncio.iscoroutine(met):
            met = await met
        if met:
            return
        await asyncio.sleep(0.01)


async def lease_when_free(feedback: FeedbackServiceAsyncStub, owner: str = "w", *, duration: float = 60) -> Leased:
    """Lease the one user there is, once nobody holds it any more."""
    found: list[Leased] = []

    async def is_free() -> bool:
        found.extend((await lease_all(feedback, owner, max_users=1, duration=duration)).values())
        return bool(found)

    await until(is_free)
    return found[0]
