"""Sessions together with their events, in flat memory however many events there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from clickstream_service.domain.session import SessionWithEvents
from clickstream_service.storage import documents

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence

    from clickstream_service.domain.event import Event
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document

GROUP: Final = 64
"""How many sessions have their events looked up at once, at most."""
GROUP_BYTES: Final = 4 * 1024 * 1024
"""How large these sessions may be together, measured as messages; a larger one comes alone."""
SESSION_BYTES: Final = 3_800_000
"""How large a session and its events may be together: gRPC clients take 4 MiB unless they are told otherwise."""


async def groups(sessions: AsyncIterable[Document]) -> AsyncIterator[list[Document]]:
    """Put consecutive sessions together, as many as fit into memory easily."""
    group: list[Document] = []
    nbytes = 0
    async for session in sessions:
        if group and (len(group) == GROUP or nbytes + session["nbytes"] > GROUP_BYTES):
            yield group
            group, nbytes = [], 0
        group.append(session)
        nbytes += session["nbytes"]
    if group:
        yield group


async def hydrated(
    database: Database, sessions: Sequence[Document], events_limit: int
) -> AsyncGenerator[SessionWithEvents, None]:
    """Yield the sessions in their order, each with its first `events_limit` events."""
    cursor = database.session_events.database.aggregate(_first_events(sessions, events_limit + 1))
    try:
        row = await anext(cursor, None)
        for position, session in enumerate(sessions):
            first = _FirstEvents(events_limit, SESSION_BYTES - session["nbytes"])
            while row is not None and row["position"] == position:
                first.add(documents.to_event(row["event"]))
                row = await anext(cursor, None)
            yield SessionWithEvents(documents.to_session(session), tuple(first.events), first.truncated)
    finally:
        await cursor.close()


class _FirstEvents:
    """The events of one session, as many as are wanted and fit."""

    def __init__(self, limit: int, max_bytes: int) -> None:
        self.events: list[Event] = []
        self.truncated = False
        self._room, self._bytes = limit, max_bytes

    def add(self, event: Event) -> None:
        self._room -= 1
        self._bytes -= event.nbytes
        if self._room < 0 or self._bytes < 0:
            self.truncated = True
        else:
            self.events.append(event)


def _first_events(sessions: Sequence[Document], limit: int) -> list[dict[str, Any]]:
    """Make a pipeline that yields the first events of each session, one document an event, in the order of `sessions`.

    `$unwind` right behind `$lookup` keeps the server from putting all events of a session into one document, which
    may have no more than 16 MiB.
    """
    wanted = [{"position": position, "session_id": session["_id"]} for position, session in enumerate(sessions)]
    return [
        # Taken literally, since an id may begin with "$".
        {"$documents": {"$literal": wanted}},
        {
            "$lookup": {
                "from": "session_events",
                "localField": "session_id",
                "foreignField": "session_id",
                "pipeline": [{"$sort": {"created_at": 1, "_id": 1}}, {"$limit": limit}],
                "as": "event",
            }
        },
        {"$unwind": "$event"},
    ]
