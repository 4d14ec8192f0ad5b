"""Handing out recorded sessions in batches."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol

from clickstream_service.domain.batch import BatchSessions, BatchState
from clickstream_service.domain.errors import BatchNotFound, NoOpenBatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from clickstream_service.domain.batch import Batch
    from clickstream_service.domain.session import SessionWithEvents

PAGE_BYTES: Final = 3_800_000
"""How large a page may get: what gRPC clients take unless they are told otherwise is 4 MiB."""
EXPORT_AT_ONCE: Final = 1_000
"""How many sessions one query of an export yields, so that a slow reader keeps no query open for long."""


class BatchStore(Protocol):
    """Where batches are kept."""

    async def find(self, batch_id: str) -> Batch | None:
        """Return a batch."""

    async def find_open(self) -> Batch | None:
        """Return the batch that takes sessions."""

    async def page(self, state: BatchState | None, after: tuple[datetime, str] | None, limit: int) -> list[Batch]:
        """Return batches after (opened_at, id), newest first."""

    async def release(self, release_id: str, at: datetime) -> Batch | None:
        """Release the open batch, unless `release_id` has released one; None when there is none to release."""

    def sessions(
        self, batch_id: str, after_number: int, upto_number: int | None, limit: int, events_limit: int
    ) -> AsyncGenerator[SessionWithEvents, None]:
        """Yield up to `limit` sessions by number, each with its first events."""


class Batches:
    """What can be done with batches."""

    def __init__(self, store: BatchStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def get(self, batch_id: str) -> Batch:
        """Return a batch, the open one when `batch_id` is empty; raises `BatchNotFound` or `NoOpenBatch`."""
        if batch_id:
            batch = await self._store.find(batch_id)
            if batch is None:
                raise BatchNotFound("no batch has this id", field="batch_id")
            return batch
        batch = await self._store.find_open()
        if batch is None:
            raise NoOpenBatch("no session came in since the last release")
        return batch

    async def page(
        self, state: BatchState | None, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Batch], bool]:
        """Return up to `limit` batches after (opened_at, id), newest first, and whether there are more."""
        found = await self._store.page(state, after, limit + 1)
        return found[:limit], len(found) > limit

    async def release(self, release_id: str) -> Batch:
        """Close the open batch and return it, or the one that this release has closed; raises `NoOpenBatch`."""
        batch = await self._store.release(release_id, self._now())
        if batch is None:
            raise NoOpenBatch("no session came in since the last release")
        return batch

    async def sessions(self, batch_id: str, after_number: int, limit: int, events_limit: int) -> BatchSessions:
        """Return up to `limit` sessions by number, fewer when they are large; raises `BatchNotFound`."""
        page = _Page(after_number, limit)
        if batch_id:
            batch, _ = await asyncio.gather(self.get(batch_id), self._read_into(page, batch_id, events_limit))
            if batch.state is BatchState.RELEASED and page.room and page.last_number < batch.session_count:
                # It may have been released after its sessions were read, and have got more before. Now it has them all.
                await self._read_into(page, batch_id, events_limit)
        else:
            batch = await self.get(batch_id)
            await self._read_into(page, batch.batch_id, events_limit)
        at_end = page.room > 0 or page.last_number >= batch.session_count
        return BatchSessions(tuple(page.taken), page.last_number, ended=batch.state is BatchState.RELEASED and at_end)

    async def _read_into(self, page: _Page, batch_id: str, events_limit: int) -> None:
        found = self._store.sessions(batch_id, page.last_number, None, page.room, events_limit)
        async with aclosing(found) as sessions:
            async for session in sessions:
                if not page.take(session):
                    return

    async def export(
        self, batch_id: str, after_number: int, events_limit: int
    ) -> AsyncGenerator[SessionWithEvents, None]:
        """Yield the sessions by number, up to the last one there is now; raises `BatchNotFound`."""
        upto_number = (await self.get(batch_id)).session_count
        more = True
        while more:
            more = False
            found = self._store.sessions(batch_id, after_number, upto_number, EXPORT_AT_ONCE, events_limit)
            async with aclosing(found) as sessions:
                async for session in sessions:
                    yield session
                    after_number, more = session.session.session_number, True


class _Page:
    """Sessions of a batch, as many as are wanted and fit."""

    def __init__(self, after_number: int, limit: int) -> None:
        self.taken: list[SessionWithEvents] = []
        self.last_number = after_number
        self.room = limit
        """For how many more there is room; none once one was too large to fit."""
        self._bytes = 0

    def take(self, session: SessionWithEvents) -> bool:
        """Take the next one, if it fits or is the first."""
        self._bytes += session.nbytes
        if self.taken and self._bytes > PAGE_BYTES:
            self.room = 0
            return False
        self.taken.append(session)
        self.last_number = session.session.session_number
        self.room -= 1
        return True
