"""Clients that record sessions and events through faults, and what has become of what was acknowledged."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import grpc

from tideline.clickstream.v1 import event_pb2, session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pymongo.database import Database

EVENTS_A_SESSION = 100
SESSIONS_A_CALL = 50
RETRY_S = 0.1
SILENT_FOR_S = 8.0
"""A service that answers nothing for so long is left for another one: it may be stopped, or cut off."""
REPEATABLE = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,  # a connection that ends in the middle
)
CHANNEL = (*OPTIONS, ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))
GOOD = (event_pb2.EVENT_STATUS_ACCEPTED, event_pb2.EVENT_STATUS_DUPLICATE)


@dataclass
class Progress:
    """What was acknowledged, and when (on the clock that all processes of a machine share)."""

    sessions: list[str] = field(default_factory=list)
    events: int = 0
    acknowledged_at: list[float] = field(default_factory=list)
    broken: int = 0
    unexpected: list[str] = field(default_factory=list)

    def acknowledge(self) -> None:
        now = round(time.monotonic(), 2)
        if not self.acknowledged_at or self.acknowledged_at[-1] != now:
            self.acknowledged_at.append(now)


class Writer:
    """Records its own sessions, each with its events, and goes on with another service whenever one fails."""

    until: float = math.inf
    """When to begin nothing more, on the clock of `time.monotonic`."""

    def __init__(self, name: str, addresses: Sequence[str], progress: Progress, *, first: int = 0) -> None:
        self._name = name
        self._addresses = list(addresses)
        self._turn = first
        self.progress = progress

    async def write(self, sessions: int) -> None:
        """Return once all sessions and their events are acknowledged, or those that were begun by the time `until`."""
        waiting = [f"{self._name}-{number}" for number in range(sessions)]
        while waiting and time.monotonic() < self.until:
            some = waiting[:SESSIONS_A_CALL]
            await self._until_done(self._create, some)
            await self._until_done(self._push, dict.fromkeys(some))
            self.progress.sessions += some
            del waiting[: len(some)]

    async def _until_done(self, call: Any, argument: Any) -> None:
        while True:
            address = self._addresses[self._turn % len(self._addresses)]
            try:
                async with grpc.aio.insecure_channel(address, options=CHANNEL) as channel:
                    await call(SessionServiceStub(channel), argument)
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                code = error.code() if isinstance(error, grpc.aio.AioRpcError) else grpc.StatusCode.DEADLINE_EXCEEDED
                # What gRPC says when it was about to send as the stream ended, whatever the server said.
                sending = isinstance(error, grpc.aio.AioRpcError) and error.details() == "Internal error from Core"
                if code not in REPEATABLE and not sending:
                    self.progress.unexpected.append(repr(error))
                    raise
                self.progress.broken += 1
                self._turn += 1
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _create(self, stub: Any, session_ids: Sequence[str]) -> None:
        request = pb.BatchCreateSessionsRequest(
            sessions=[
                session_pb2.Session(
                    session_id=session_id,
                    user_id=f"user of {session_id}",
                    search_results=[session_pb2.SearchResult(object_id="o1"), session_pb2.SearchResult(object_id="o2")],
                )
                for session_id in session_ids
            ]
        )
        # The time of a session is part of its content where the client gives it; here the server does.
        answer = await stub.BatchCreateSessions(request, timeout=SILENT_FOR_S)
        good = (pb.SESSION_STATUS_CREATED, pb.SESSION_STATUS_DUPLICATE)
        wrong = [outcome for outcome in answer.outcomes if outcome.status not in good]
        assert not wrong, wrong[0]
        self.progress.acknowledge()

    async def _push(self, stub: Any, left: dict[str, None]) -> None:
        """Stream the events of the sessions that are `left`; each goes from there when its events are acknowledged."""
        sent = list(left)

        async def messages() -> AsyncIterator[pb.StreamEventsRequest]:
            for sequence, session_id in enumerate(sent):
                yield pb.StreamEventsRequest(sequence=sequence, session_id=session_id, events=EVENTS)

        call = stub.StreamEvents(messages())
        try:
            for session_id in sent:
                async with asyncio.timeout(SILENT_FOR_S):
                    answer = await call.read()
                if answer is grpc.aio.EOF:
                    raise TimeoutError
                wrong = [outcome for outcome in answer.outcomes if outcome.status not in GOOD]
                assert not wrong, wrong[0]
                del left[session_id]
                self.progress.events += len(answer.outcomes)
                self.progress.acknowledge()
        finally:
            call.cancel()


EVENTS = [
    event_pb2.Event(event_id=f"e{number}", object_id="o1" if number % 3 else "o2", event_types=["click"])
    for number in range(EVENTS_A_SESSION)
]


@dataclass(frozen=True)
class Found:
    """What the database has of what was acknowledged."""

    lost: int
    duplicated: int
    events: int
    sessions: int


def found(database: Database[dict[str, Any]], session_ids: Sequence[str]) -> Found:
    """Compare the database with what was acknowledged: all events of these sessions."""
    counts: dict[str, int] = {}
    by_session = [{"$group": {"_id": "$session_id", "ids": {"$sum": 1}}}]
    for group in database.session_events.aggregate(by_session, allowDiskUse=True):
        counts[group["_id"]] = group["ids"]
    sessions = {session["_id"] for session in database.sessions.find({}, {"_id": 1})}
    numbers = [(session["batch_id"], session["session_number"]) for session in database.sessions.find()]
    expected = set(session_ids)
    lost = sum(max(0, EVENTS_A_SESSION - counts.get(session_id, 0)) for session_id in expected)
    lost += len(expected - sessions)
    duplicated = sum(max(0, count - EVENTS_A_SESSION) for count in counts.values())
    # Numbers of sessions are gapless: one that was recorded twice would have left a hole, or doubled a number.
    duplicated += len(numbers) - len(set(numbers))
    for batch in {batch_id for batch_id, _ in numbers}:
        mine = [number for batch_id, number in numbers if batch_id == batch]
        duplicated += max(mine) - len(mine)
    return Found(lost, duplicated, sum(counts.values()), len(sessions))


def longest_gap(times: Sequence[float]) -> float:
    """The longest time in which nobody's write was acknowledged, in seconds."""
    ordered = sorted(times)
    return max((later - earlier for earlier, later in pairwise(ordered)), default=0.0)
