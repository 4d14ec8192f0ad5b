"""What was changed, from the change stream of the database."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pymongo.errors import OperationFailure

from clickstream_service.domain.rollup import ChangesLost
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from bson import Timestamp
    from pymongo.change_stream import DatabaseChangeStream

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.rollup_facts import Unit
    from tideline.mongo.client import Document

    _T = TypeVar("_T")

SESSIONS: Final = "sessions"
EVENTS: Final = "session_events"
MARKS: Final = "rollup_marks"

LONGEST_WAIT_S: Final = 0.1
"""How long one look for changes takes when there are none: whoever stops the service waits for it."""
READ_AT_ONCE: Final = 1_000

UNCOUNTED: Final = ["submitted", "check_at", "user_id", "query_text", "query_key", "recorded_at", "awaits_session"]
"""Fields that nothing is counted by: sessions and events in which only these are changed stay as they were counted."""

_CHANGED: Final = {"$map": {"input": {"$objectToArray": "$updateDescription.updatedFields"}, "in": "$$this.k"}}
_COUNTED: Final = {
    "$not": {
        "$and": [
            {"$setIsSubset": [{"$ifNull": [_CHANGED, []]}, UNCOUNTED]},
            {"$setIsSubset": [{"$ifNull": ["$updateDescription.removedFields", []]}, UNCOUNTED]},
        ]
    }
}
WATCHED: Final[list[dict[str, Any]]] = [
    {"$match": {"ns.coll": {"$in": [SESSIONS, EVENTS, MARKS]}}},
    {"$match": {"$or": [{"operationType": {"$ne": "update"}}, {"$expr": _COUNTED}]}},
    {"$project": {"operationType": 1, "ns": 1, "documentKey": 1}},
]

_OF_DOCUMENTS: Final = frozenset({"insert", "update", "replace", "delete"})
_LOST: Final = frozenset({136, 260, 280, 286})
"""CappedPositionLost, InvalidResumeToken, ChangeStreamFatalError, ChangeStreamHistoryLost."""


@dataclass
class Changes:
    """What was changed up to `token`; `marks` are those that were set meanwhile.

    Units stay in the order in which they were changed first: what happened together counts in the same rollups, and is
    to be folded together.
    """

    units: dict[Unit, None] = field(default_factory=dict)
    marks: list[str] = field(default_factory=list)
    token: Mapping[str, Any] | None = None

    def add(self, later: Changes) -> None:
        """Add what was changed after these."""
        self.units |= later.units
        self.marks += later.marks
        self.token = later.token


class ChangeReader:
    """Reads the change stream in a thread of its own: to be handed changes one by one by the driver is too slow."""

    def __init__(self, database: Database, since: Timestamp | None, after: Document | None, wait_s: float) -> None:
        """Read what was changed `since` a time, or `after` the token of earlier changes."""
        self._database = database.session_events.database.delegate
        self._start: dict[str, Any] = {"start_at_operation_time": since} if after is None else {"resume_after": after}
        self._wait_s = min(wait_s, LONGEST_WAIT_S)
        self._thread = ThreadPoolExecutor(1, "rollup-changes")
        self._stream: DatabaseChangeStream[Document] | None = None

    async def read(self, limit: int, within_s: float) -> Changes:
        """Return what was changed next: up to `limit` units, gathered for up to `within_s`; nothing when it is quiet.

        Raises `ChangesLost`, and `DependencyUnavailable`.
        """
        return await self._in_thread(lambda: self._read(limit, within_s))

    async def close(self) -> None:
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._close))
        self._thread.shutdown(wait=False)

    @outages()
    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OperationFailure as error:
            if error.code in _LOST:
                raise ChangesLost from error
            raise

    def _read(self, limit: int, within_s: float) -> Changes:
        stream = self._opened()
        changes = Changes()
        until = time.monotonic() + within_s
        while len(changes.units) < limit and not changes.marks:
            change = stream.try_next()
            if change is None:
                break
            _note(change, changes)
            if time.monotonic() > until:
                break
        changes.token = stream.resume_token
        return changes

    def _opened(self) -> DatabaseChangeStream[Document]:
        if self._stream is None:
            self._stream = self._database.watch(
                WATCHED,
                max_await_time_ms=round(self._wait_s * 1000),
                batch_size=READ_AT_ONCE,
                **self._start,
            )
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _note(change: Mapping[str, Any], changes: Changes) -> None:
    operation = change["operationType"]
    if operation not in _OF_DOCUMENTS:
        # A collection was dropped or renamed, and what was in it went without a word.
        raise ChangesLost
    key = change["documentKey"]["_id"]
    collection = change["ns"]["coll"]
    if collection == SESSIONS:
        changes.units[key, ""] = None
    elif collection == EVENTS:
        changes.units[(key["s"], "") if key["s"] else ("", key["e"])] = None
    elif operation == "insert":
        changes.marks.append(key)
