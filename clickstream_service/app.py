"""Wiring: from settings to a running service."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clickstream_service.domain.times import TimeLimits
from clickstream_service.events import Events
from clickstream_service.rpc import server as rpc
from clickstream_service.sessions import Sessions
from clickstream_service.storage import indexes
from clickstream_service.storage.database import Database
from clickstream_service.storage.group_commit import Limits
from clickstream_service.storage.mongo_events import MongoEvents
from clickstream_service.storage.mongo_sessions import MongoSessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from clickstream_service.config import Settings


def utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(settings: Settings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port.

    Leaving it in order: calls under way get their grace, then what waits is written, then the database is let go.
    Raises `DependencyUnavailable` when there is no database and `RuntimeError` when the address is taken.
    """
    async with AsyncExitStack() as stack:
        database = Database(str(settings.mongo_uri), settings.mongo_database, settings.mongo_patience)
        stack.callback(database.close)
        await indexes.ensure(database)

        sessions = MongoSessions(database, _session_writes(settings), now, _requeue_nothing)
        stack.push_async_callback(sessions.close)
        events = MongoEvents(database, _event_writes(settings), _requeue_nothing)
        stack.push_async_callback(events.close)

        times = TimeLimits(settings.max_age, settings.max_ahead)
        use_cases = rpc.UseCases(
            sessions=Sessions(sessions, events, times, now),
            events=Events(events, sessions, times, now),
        )
        server = rpc.build(use_cases, now)
        port = server.listen(settings.listen)
        await server.start()
        stack.push_async_callback(server.stop, settings.stop_grace.total_seconds())
        yield port


def _session_writes(settings: Settings) -> Limits:
    return Limits(
        items_per_write=settings.sessions_per_write,
        bytes_per_write=settings.bytes_per_write,
        waiting_items=settings.waiting_sessions,
        waiting_bytes=settings.waiting_bytes,
    )


def _event_writes(settings: Settings) -> Limits:
    return Limits(
        items_per_write=settings.events_per_write,
        bytes_per_write=settings.bytes_per_write,
        waiting_items=settings.waiting_events,
        waiting_bytes=settings.waiting_bytes,
    )


async def _requeue_nothing(session_ids: object, transaction: object) -> None:
    pass
