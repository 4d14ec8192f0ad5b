"""Letting go of what is older than it may get.

Not by a TTL index: MongoDB would delete sessions without a word to anybody, and what was learned from them would stay.
Here a session leaves in the transaction that queues its user again, so that the next run recomputes the user's vectors
from the sessions that are left; the rollups follow the deletion as they follow any other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta


class RetentionStore(Protocol):
    """Where old records are."""

    async def expire_sessions(self, before: datetime) -> int:
        """Delete some sessions from before a time with all that belongs to them; returns how many, 0 at the end."""

    async def expire_events(self, before: datetime) -> int:
        """Delete some events from before a time that have no session; returns how many, 0 at the end."""


class Retention:
    """Deletes what is too old, oldest first."""

    def __init__(self, store: RetentionStore, kept_for: timedelta, now: Callable[[], datetime]) -> None:
        self._store = store
        self._kept_for = kept_for
        self._now = now

    async def tick(self) -> int:
        """Delete all that is too old now; returns how many sessions and events without one that was."""
        before, deleted = self._now() - self._kept_for, 0
        while some := await self._store.expire_sessions(before) or await self._store.expire_events(before):
            deleted += some
        return deleted

    async def run(self, pause: timedelta) -> None:
        """Do so every `pause` until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(pause.total_seconds())
