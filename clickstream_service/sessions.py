"""Recording searches, and reading them again."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from clickstream_service.domain.session import (
    MAX_BYTES,
    Irrelevance,
    Recorded,
    Session,
    SessionFilter,
    SessionWithEvents,
)
from tideline.errors import InvalidField, TidelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from clickstream_service.domain.errors import SessionConflict, UserBeingErased
    from clickstream_service.domain.event import EventPage
    from clickstream_service.domain.times import TimeLimits

PAGE_BYTES: Final = 3_800_000
"""How large a page may get: what gRPC clients take unless they are told otherwise is 4 MiB."""


class SessionStore(Protocol):
    """Where sessions are kept."""

    async def record(self, sessions: Sequence[Session]) -> list[Recorded | SessionConflict | UserBeingErased]:
        """Number the sessions in the open batch and store them; those that are there stay as they are.

        Those of users who are being erased are refused.
        """

    async def get(self, session_id: str) -> Session:
        """Return a session; raises `SessionNotFound`."""

    async def newest(
        self, which: SessionFilter, after: tuple[datetime, str] | None, limit: int, max_bytes: int
    ) -> tuple[list[Session], bool]:
        """Return up to `limit` sessions after (created_at, id), newest first, and whether there are more."""

    async def mark_irrelevant(self, session_id: str, irrelevance: Irrelevance) -> Session:
        """Mark a session unless it is, and have it unlearned if it was submitted; raises `SessionNotFound`."""


class EventReader(Protocol):
    """Where the events of sessions are read."""

    async def page(self, session_id: str, after: tuple[datetime, str] | None, limit: int, max_bytes: int) -> EventPage:
        """Return up to `limit` events after (created_at, id), oldest first."""


class Sessions:
    """What can be done with sessions."""

    def __init__(
        self, store: SessionStore, events: EventReader, limits: TimeLimits, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._events = events
        self._limits = limits
        self._now = now

    async def create(self, session: Session | InvalidField) -> Session:
        """Record a session and return it as it is recorded; raises what is wrong with it.

        Errors name the field as a path from `session`.
        """
        [recorded] = await self.create_many([session])
        if isinstance(recorded, TidelineError):
            recorded.field = ".".join(filter(None, ("session", recorded.field)))
            raise recorded
        assert isinstance(session, Session)  # noqa: S101 - it was recorded
        return replace(
            session,
            session_id=recorded.session_id,
            batch_id=recorded.batch_id,
            session_number=recorded.session_number,
            created_at=recorded.created_at,
            irrelevance=recorded.irrelevance,
            submitted=recorded.submitted,
        )

    async def create_many(
        self, sessions: Sequence[Session | InvalidField], *, historical: bool = False
    ) -> list[Recorded | TidelineError]:
        """Record the sessions that keep the rules; the outcome of each says where it is, or what is wrong with it."""
        now = self._now()
        checked = [
            session if isinstance(session, InvalidField) else self._checked(session, now, historical=historical)
            for session in sessions
        ]
        recorded = iter(await self._store.record([session for session in checked if isinstance(session, Session)]))
        return [next(recorded) if isinstance(session, Session) else session for session in checked]

    async def get(self, session_id: str, events_limit: int) -> SessionWithEvents:
        """Return a session and its first events; raises `SessionNotFound`."""
        session = await self._store.get(session_id)
        page = await self._events.page(session_id, None, events_limit, PAGE_BYTES - session.nbytes)
        return SessionWithEvents(session, page.events, page.more)

    async def events(self, session_id: str, after: tuple[datetime, str] | None, limit: int) -> EventPage:
        """Return events of a session after (created_at, id), oldest first; raises `SessionNotFound`."""
        page = await self._events.page(session_id, after, limit, PAGE_BYTES)
        if not page.events:
            await self._store.get(session_id)
        return page

    async def newest(
        self, which: SessionFilter, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Session], bool]:
        """Return sessions after (created_at, id), newest first, and whether there are more."""
        return await self._store.newest(which, after, limit, PAGE_BYTES)

    async def mark_irrelevant(self, session_id: str, reason: str) -> Session:
        """Take a session out of training data, signals and improvement; raises `SessionNotFound`."""
        return await self._store.mark_irrelevant(session_id, Irrelevance(reason, self._now()))

    def _checked(self, session: Session, now: datetime, *, historical: bool) -> Session | InvalidField:
        fault = self._limits.fault(session.created_at, now, historical=historical) or _fault(session)
        if fault is not None:
            return fault
        # Without an id of the client's own, sending it again records it again.
        return session if session.session_id else replace(session, session_id=uuid.uuid4().hex)


def _fault(session: Session) -> InvalidField | None:
    """Return what is wrong: it is too large, or its results are out of order or not distinct."""
    if session.nbytes > MAX_BYTES:
        return InvalidField(f"a session has at most {MAX_BYTES} bytes")
    ranks = [result.rank for result in session.results]
    # Nearly always; which is wrong is looked for only when one is.
    if len({result.object_id for result in session.results}) == len(ranks) and (
        not ranks or (ranks[0] > 0 and ranks == sorted(set(ranks)))
    ):
        return None
    seen: set[str] = set()
    rank = 0
    for index, result in enumerate(session.results):
        if result.object_id in seen:
            return InvalidField("was shown before", field=f"search_results[{index}].object_id")
        if result.rank <= rank:
            return InvalidField("has to grow from result to result", field=f"search_results[{index}].rank")
        seen.add(result.object_id)
        rank = result.rank
    return None
