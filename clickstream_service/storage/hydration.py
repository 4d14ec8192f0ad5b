"""Sessions together with their events, in flat memory however many events there are."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from bson import decode_all

from clickstream_service.domain.session import SessionWithEvents
from clickstream_service.storage import documents
from clickstream_service.storage.indexes import OLDEST_FIRST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence

    from clickstream_service.domain.event import Event
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document

GROUP: Final = 128
"""How many sessions have their events looked up at once, at most."""
GROUP_BYTES: Final = 4 * 1024 * 1024
"""How large these sessions may be together, measured as messages; a larger one comes alone."""
FEW_EVENTS: Final = 16
"""How many events a session, on average, are asked for by one plain query and held together, at most."""
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
    few = await _few_events(database, sessions, len(sessions) * min(events_limit, FEW_EVENTS))
    if few is not None:
        for session in sessions:
            first = _FirstEvents(events_limit, SESSION_BYTES - session["nbytes"])
            for event in few[session["_id"]]:
                first.add(documents.to_event(event))
            yield first.of(session)
        return
    cursor = database.session_events.database.aggregate(_first_events(sessions, events_limit + 1))
    try:
        row = await anext(cursor, None)
        for position, session in enumerate(sessions):
            first = _FirstEvents(events_limit, SESSION_BYTES - session["nbytes"])
            while row is not None and row["position"] == position:
                first.add(documents.to_event(row["event"]))
                row = await anext(cursor, None)
            yield first.of(session)
    finally:
        await cursor.close()


async def _few_events(
    database: Database, sessions: Sequence[Document], most: int
) -> defaultdict[str, list[Document]] | None:
    """Return all events by session, oldest first; None when there are more than `most`, or more than one answer holds.

    Most sessions have few events: such a query costs the database a quarter of what `_first_events` does.
    """
    collection = database.session_events
    wanted = {"session_id": {"$in": [session["_id"] for session in sessions]}}
    cursor = collection.find_raw_batches(wanted, sort=OLDEST_FIRST, limit=most + 1, batch_size=most + 1)
    found: defaultdict[str, list[Document]] = defaultdict(list)
    async for answer in cursor:
        events = decode_all(answer, collection.codec_options)
        if found or len(events) > most:
            await cursor.close()
            return None
        for event in events:
            found[event["session_id"]].append(event)
    return found


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

    def of(self, session: Document) -> SessionWithEvents:
        return SessionWithEvents(documents.to_session(session), tuple(self.events), self.truncated)


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
