"""Choosing the sessions to learn from: on request, or by themselves once they have been quiet."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from clickstream_service.domain.errors import SessionIrrelevant, SessionNotFound, SessionWithoutUser
from clickstream_service.domain.feedback import Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from clickstream_service.domain.feedback import QuietSession

AT_ONCE: Final = 500
"""How many sessions a tick looks at."""

_log = structlog.get_logger(__name__)


class SubmissionStore(Protocol):
    """Where submitted sessions are queued."""

    async def submit(self, session_ids: Sequence[str]) -> list[Submission]:
        """Queue the sessions that may be learned from, and say for each what became of it."""


class QuietStore(Protocol):
    """Where sessions wait for the time at which somebody looks whether they are quiet."""

    async def due(self, now: datetime, limit: int) -> list[QuietSession]:
        """Return sessions to look at by `now`, those that were due first before others."""

    async def look_again(self, when: Sequence[tuple[str, datetime | None]]) -> None:
        """Set when to look at sessions again; None for never."""


class Submissions:
    """Sessions on their way into the queue."""

    def __init__(self, store: SubmissionStore) -> None:
        self._store = store

    async def submit(self, session_id: str) -> bool:
        """Queue a session; returns whether this call did it.

        Raises `SessionNotFound`, `SessionIrrelevant` or `SessionWithoutUser`.
        """
        [submission] = await self._store.submit([session_id])
        if submission is Submission.UNKNOWN:
            raise SessionNotFound("no session has this id", field="session_id")
        if submission is Submission.IRRELEVANT:
            raise SessionIrrelevant("the session was marked irrelevant", field="session_id")
        if submission is Submission.WITHOUT_USER:
            raise SessionWithoutUser("nothing is learned from anonymous sessions", field="session_id")
        return submission is Submission.SUBMITTED


class QuietSubmission:
    """Submits sessions by itself: those of a known user that have events, the last of them long enough ago.

    Every session of a user is looked at once it could be quiet, and then again once it could be quiet by what was seen
    at the last look; one that has no events is given up when it is older than events may be. Any number of services
    may do this at once: at worst they look at the same sessions, and one of them submits.
    """

    def __init__(
        self,
        store: SubmissionStore,
        quiet: QuietStore,
        quiet_for: timedelta,
        max_age: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._quiet = quiet
        self._quiet_for = quiet_for
        self._max_age = max_age
        self._now = now

    async def tick(self) -> int:
        """Look at the sessions that are due, at most `AT_ONCE`; returns at how many."""
        now = self._now()
        due = await self._quiet.due(now, AT_ONCE)
        ready = [session.session_id for session in due if self._is_quiet(session, now)]
        if ready:
            await self._store.submit(ready)
        later = [
            (session.session_id, self._next_look(session, now)) for session in due if not self._is_quiet(session, now)
        ]
        if later:
            await self._quiet.look_again(later)
        return len(due)

    async def run(self, pause: timedelta) -> None:
        """Tick until cancelled; waits for about `pause` when less is due than a tick looks at."""
        while True:
            looked_at = 0
            try:
                looked_at = await self.tick()
            except Exception as error:  # noqa: BLE001 - the next tick finds the same sessions
                _log.error("sessions were not submitted", exc_info=error)
            if looked_at < AT_ONCE:
                # Several services that started together shall not look at the same sessions forever.
                await asyncio.sleep(pause.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311

    def _is_quiet(self, session: QuietSession, now: datetime) -> bool:
        if session.irrelevant or session.last_event_at is None:
            return False
        return session.last_event_at + self._quiet_for <= now

    def _next_look(self, session: QuietSession, now: datetime) -> datetime | None:
        if session.irrelevant:
            return None
        if session.last_event_at is not None:
            return session.last_event_at + self._quiet_for
        return now + self._quiet_for if session.created_at >= now - self._max_age else None
