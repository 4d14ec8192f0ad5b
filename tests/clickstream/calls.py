"""Calls of SessionService in few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest

from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.rpc.status import field_of, reason_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from tideline.clickstream.v1.event_pb2 import Event, EventOutcome
    from tideline.clickstream.v1.session_pb2 import Session
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub


class Refusal(NamedTuple):
    """How a call was refused."""

    code: grpc.StatusCode
    reason: str
    field: str


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Expect a call to fail, and say how."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return Refusal(failure.value.code(), reason_of(failure.value), field_of(failure.value))


async def create(sessions: SessionServiceAsyncStub, session: Session) -> Session:
    return (await sessions.CreateSession(pb.CreateSessionRequest(session=session))).session


async def create_all(sessions: SessionServiceAsyncStub, given: Sequence[Session]) -> Sequence[pb.SessionOutcome]:
    return (await sessions.BatchCreateSessions(pb.BatchCreateSessionsRequest(sessions=given))).outcomes


async def push(
    sessions: SessionServiceAsyncStub, session_id: str, events: Sequence[Event], *, allow_missing: bool = False
) -> Sequence[EventOutcome]:
    request = pb.PushEventsRequest(session_id=session_id, events=events, allow_missing=allow_missing)
    return (await sessions.PushEvents(request)).outcomes


async def get(sessions: SessionServiceAsyncStub, session_id: str, events_limit: int = 0) -> pb.GetSessionResponse:
    return await sessions.GetSession(pb.GetSessionRequest(session_id=session_id, events_limit=events_limit))
