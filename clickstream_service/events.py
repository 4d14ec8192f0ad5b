"""Recording what users did with results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from clickstream_service.domain.errors import EventConflict, SessionNotFound, UserBeingErased
from clickstream_service.domain.event import MAX_BYTES, Event, Stored
from tideline.errors import InvalidField, TidelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from clickstream_service.domain.session import Session
    from clickstream_service.domain.times import TimeLimits


class EventStore(Protocol):
    """Where events are kept."""

    async def record(
        self, events: Sequence[Event], *, allow_missing: bool, patient: bool
    ) -> list[Stored | EventConflict | SessionNotFound | InvalidField | UserBeingErased]:
        """Store the events that are not there yet, and queue sessions again that were submitted to be learned from.

        Events that name another user or query than their session are left out (`InvalidField`), and so are those of
        unknown sessions without `allow_missing`, and those of users who are being erased. When too much is waiting,
        raises `Overloaded`, or waits when `patient`.
        """


class SessionReader(Protocol):
    """Where sessions are read."""

    async def get(self, session_id: str) -> Session:
        """Return a session; raises `SessionNotFound`."""


class Events:
    """What can be done with events."""

    def __init__(
        self, store: EventStore, sessions: SessionReader, limits: TimeLimits, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._limits = limits
        self._now = now

    async def push(
        self, session_id: str, events: Sequence[Event | InvalidField], *, allow_missing: bool, historical: bool
    ) -> list[Stored | TidelineError]:
        """Record the events of a session; raises `SessionNotFound`, and `Overloaded` when too much is waiting."""
        outcomes = await self.record(events, allow_missing=allow_missing, historical=historical, patient=False)
        for outcome in outcomes:
            if isinstance(outcome, SessionNotFound):
                raise outcome
        if not allow_missing and all(isinstance(outcome, InvalidField) for outcome in outcomes):
            await self._sessions.get(session_id)
        return outcomes

    async def take(
        self, events: Sequence[Event | InvalidField], *, allow_missing: bool, historical: bool
    ) -> list[Stored | TidelineError]:
        """Do the same for a caller that can wait; an unknown session is an outcome of its events."""
        return await self.record(events, allow_missing=allow_missing, historical=historical, patient=True)

    async def record(
        self, events: Sequence[Event | InvalidField], *, allow_missing: bool, historical: bool, patient: bool
    ) -> list[Stored | TidelineError]:
        """Record events of any sessions, or of none, that keep the rules; the outcome of each says what is wrong.

        When too much is waiting, raises `Overloaded`, or waits when `patient`.
        """
        now = self._now()
        oldest, newest = self._limits.around(now, historical=historical)
        # Nearly all events keep the rules: one look at them together is enough then.
        good = [
            event
            for event in events
            if isinstance(event, Event) and oldest <= event.created_at <= newest and event.nbytes <= MAX_BYTES
        ]
        if len(good) == len(events):
            return list(await self._store.record(good, allow_missing=allow_missing, patient=patient))
        checked = [
            event if isinstance(event, InvalidField) else self._checked(event, now, historical=historical)
            for event in events
        ]
        good = [event for event in checked if isinstance(event, Event)]
        stored = iter(await self._store.record(good, allow_missing=allow_missing, patient=patient))
        return [next(stored) if isinstance(event, Event) else event for event in checked]

    def _checked(self, event: Event, now: datetime, *, historical: bool) -> Event | InvalidField:
        fault = self._limits.fault(event.created_at, now, historical=historical)
        if fault is not None:
            return fault
        if event.nbytes > MAX_BYTES:
            return InvalidField(f"an event has at most {MAX_BYTES} bytes")
        return event
