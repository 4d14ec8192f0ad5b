"""`SessionService`: unpack, one call, pack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clickstream_service.rpc import convert, cursors, outcomes
from clickstream_service.rpc.in_order import Budget, in_order
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    import grpc

    from clickstream_service.events import Events
    from clickstream_service.sessions import Sessions
    from clickstream_service.strengths import StrengthVersions

    Context = grpc.aio.ServicerContext[Any, Any]

EVENTS: Final = 1_000
SESSIONS: Final = 100
READ_AHEAD: Final = 64
READ_AHEAD_BYTES: Final = 8 * 1024 * 1024
READ_AHEAD_OF_ALL: Final = 256 * 1024 * 1024
"""The same for all streams together, beyond one message each."""


class SessionServicer(SessionServiceServicer):
    """Answers calls of `SessionService`."""

    def __init__(
        self, sessions: Sessions, events: Events, strengths: StrengthVersions, now: Callable[[], datetime]
    ) -> None:
        self._sessions = sessions
        self._events = events
        self._strengths = strengths
        self._now = now
        self._ahead = Budget(READ_AHEAD_OF_ALL)

    async def CreateSession(self, request: pb.CreateSessionRequest, context: Context) -> pb.CreateSessionResponse:
        session = await self._sessions.create(convert.session_from_pb(request.session, self._now()))
        return pb.CreateSessionResponse(session=convert.session_to_pb(session))

    async def BatchCreateSessions(
        self, request: pb.BatchCreateSessionsRequest, context: Context
    ) -> pb.BatchCreateSessionsResponse:
        now = self._now()
        results = await self._sessions.create_many(
            [convert.checked_session_from_pb(session, now) for session in request.sessions],
            historical=request.historical,
        )
        return pb.BatchCreateSessionsResponse(outcomes=outcomes.of_sessions(request.sessions, results))

    async def GetSession(self, request: pb.GetSessionRequest, context: Context) -> pb.GetSessionResponse:
        found = await self._sessions.get(request.session_id, request.events_limit or EVENTS)
        strengths = await self._strengths.current()
        return pb.GetSessionResponse(
            session=convert.session_to_pb(found.session),
            events=[convert.event_to_pb(event, strengths) for event in found.events],
            events_truncated=found.truncated,
        )

    async def ListSessionEvents(
        self, request: pb.ListSessionEventsRequest, context: Context
    ) -> pb.ListSessionEventsResponse:
        page = await self._sessions.events(request.session_id, cursors.after(request), request.page_size or EVENTS)
        strengths = await self._strengths.current()
        return pb.ListSessionEventsResponse(
            events=[convert.event_to_pb(event, strengths) for event in page.events],
            next_page_token=cursors.token(request, page.events[-1].created_at, page.events[-1].event_id)
            if page.more
            else "",
        )

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Context) -> pb.ListSessionsResponse:
        sessions, more = await self._sessions.newest(
            convert.filter_from_pb(request), cursors.after(request), request.page_size or SESSIONS
        )
        return pb.ListSessionsResponse(
            sessions=map(convert.session_to_pb, sessions),
            next_page_token=cursors.token(request, sessions[-1].created_at, sessions[-1].session_id) if more else "",
        )

    async def PushEvents(self, request: pb.PushEventsRequest, context: Context) -> pb.PushEventsResponse:
        results = await self._events.push(
            request.session_id,
            convert.checked_events_from_pb(request.session_id, request.events, self._now()),
            allow_missing=request.allow_missing,
            historical=request.historical,
        )
        return pb.PushEventsResponse(outcomes=outcomes.of_events(request.events, results))

    async def StreamEvents(
        self, request_iterator: AsyncIterator[pb.StreamEventsRequest], context: Context
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        answers = in_order(
            request_iterator, self._take, ahead=READ_AHEAD, ahead_bytes=READ_AHEAD_BYTES, shared=self._ahead
        )
        async for answer in answers:
            yield answer

    async def MarkSessionIrrelevant(
        self, request: pb.MarkSessionIrrelevantRequest, context: Context
    ) -> pb.MarkSessionIrrelevantResponse:
        session = await self._sessions.mark_irrelevant(request.session_id, request.reason)
        return pb.MarkSessionIrrelevantResponse(session=convert.session_to_pb(session))

    async def _take(self, request: pb.StreamEventsRequest) -> pb.StreamEventsResponse:
        results = await self._events.take(
            convert.checked_events_from_pb(request.session_id, request.events, self._now()),
            allow_missing=request.allow_missing,
            historical=request.historical,
        )
        return pb.StreamEventsResponse(sequence=request.sequence, outcomes=outcomes.of_events(request.events, results))
