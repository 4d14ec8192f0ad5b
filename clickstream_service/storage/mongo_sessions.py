"""Sessions in MongoDB."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pymongo import DESCENDING, ReturnDocument

from clickstream_service.domain.errors import SessionConflict, SessionNotFound, UserBeingErased
from clickstream_service.storage import documents, overtaking
from clickstream_service.storage.group_commit import GroupCommit, Limits
from clickstream_service.storage.reading import take
from clickstream_service.storage.session_writing import SessionWriter, content
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from datetime import datetime, timedelta

    from motor.motor_asyncio import AsyncIOMotorClientSession

    from clickstream_service.domain.session import Irrelevance, Recorded, Session, SessionFilter
    from clickstream_service.storage.database import Database
    from clickstream_service.storage.erasure_guard import ErasureGuard, Watch
    from clickstream_service.storage.session_writing import Content

    Document = dict[str, Any]
    Outcome = Recorded | SessionConflict | UserBeingErased
    Requeue = Callable[[Sequence[str], AsyncIOMotorClientSession], Awaitable[None]]

READ_AT_ONCE: Final = 100


class MongoSessions:
    """The collection `sessions`."""

    def __init__(
        self,
        database: Database,
        limits: Limits,
        now: Callable[[], datetime],
        requeue_in: Requeue,
        *,
        quiet_for: timedelta | None,
        guard: ErasureGuard,
    ) -> None:
        """`requeue_in` queues the users of submitted sessions again, in the transaction that it is given.

        With `quiet_for`, sessions of users are submitted by themselves when they have been quiet for so long. The
        `guard` names the users of whom nothing is taken.
        """
        self._guard = guard
        self._database = database
        self._requeue_in = requeue_in
        self._writer = SessionWriter(database, now, quiet_for)
        self._writes: GroupCommit[Session, Outcome] = GroupCommit(
            self._write, lambda session: session.nbytes, limits, name="sessions"
        )

    async def record(self, sessions: Sequence[Session]) -> list[Outcome]:
        """Number the sessions in the open batch and store them; those that are there stay as they are.

        Those of users who are being erased are refused.
        """
        return await self._writes.submit(sessions)

    async def settled(self) -> None:
        """Wait until nothing waits to be written."""
        await self._writes.settled()

    async def lull(self) -> None:
        """Wait until nothing has been written for a moment."""
        await self._writes.lull()

    @outages()
    async def get(self, session_id: str) -> Session:
        """Return a session; raises `SessionNotFound`."""
        document = await self._database.sessions.find_one({"_id": session_id})
        if document is None:
            raise SessionNotFound("no session has this id", field="session_id")
        return documents.to_session(document)

    @outages()
    async def newest(
        self, which: SessionFilter, after: tuple[datetime, str] | None, limit: int, max_bytes: int
    ) -> tuple[list[Session], bool]:
        """Return up to `limit` sessions after (created_at, id), newest first, and whether there are more.

        Stops before `max_bytes`, but not before the first session.
        """
        query = _query(which)
        if after is not None:
            at, session_id = after
            query.setdefault("created_at", {})["$lte"] = at
            query["$nor"] = [{"created_at": at, "_id": {"$gte": session_id}}]
        cursor = self._database.sessions.find(query, batch_size=READ_AT_ONCE)
        cursor = cursor.sort([("created_at", DESCENDING), ("_id", DESCENDING)])
        return await take(cursor, documents.to_session, limit, max_bytes)

    @outages()
    async def mark_irrelevant(self, session_id: str, irrelevance: Irrelevance) -> Session:
        """Mark a session unless it is, and have it unlearned if it was submitted; raises `SessionNotFound`."""

        async def mark(transaction: AsyncIOMotorClientSession) -> Session:
            document = await self._database.sessions.find_one_and_update(
                {"_id": session_id, "irrelevant": {"$exists": False}},
                {"$set": {"irrelevant": documents.from_irrelevance(irrelevance)}},
                return_document=ReturnDocument.AFTER,
                session=transaction,
            )
            if document is None:
                return await self.get(session_id)
            if document["submitted"]:
                await self._requeue_in([session_id], transaction)
            return documents.to_session(document)

        return await in_transaction(self._database, mark)

    @outages()
    async def _write(self, sessions: Sequence[Session]) -> list[Outcome]:
        """Record a group, see `SessionWriter.write`."""
        first: dict[str, Session] = {}
        for session in sessions:
            first.setdefault(session.session_id, session)
        users = {session.user_id for session in sessions} - {""}
        watch = await self._guard.watch(users)
        written = await asyncio.to_thread(self._writer.write, first, watch.refused)
        refused = watch.refused | await self._tidy_up(first.keys(), watch, users)
        there = written.contents
        return [
            UserBeingErased("the user is being erased", field="user_id")
            if session.user_id in refused
            else _result(
                session,
                there.get(key) or content(first[key]),
                written.recorded.get(key),
                is_first=session is first[key],
            )
            for key, session in ((session.session_id, session) for session in sessions)
        ]

    async def _tidy_up(self, session_ids: Collection[str], watch: Watch, users: Collection[str]) -> frozenset[str]:
        """Do what is to be done once sessions are in; returns the users whose erasure has begun meanwhile."""
        # Of those that were there as well: who recorded them may have died before this.
        filled_in, overtaken = await asyncio.gather(
            overtaking.fill_in(self._database, session_ids), self._guard.overtaken(watch, users)
        )
        # What was filled in just now is something else that an erasure may have missed.
        return overtaken | await self._guard.overtaken(watch, users) if filled_in else overtaken


def _result(
    session: Session, known: Content, recorded: Recorded | None, *, is_first: bool
) -> Recorded | SessionConflict:
    # Not recorded: the id came twice in one go, first with a user who is being erased.
    if content(session) != known or recorded is None:
        return SessionConflict("this id was used for other content", field="session_id")
    return recorded if is_first else replace(recorded, created=False)


def _query(which: SessionFilter) -> Document:
    query: Document = {}
    if which.user_id is not None:
        query["user_id"] = which.user_id
    if which.irrelevant is not None:
        query["irrelevant"] = {"$exists": which.irrelevant}
    if which.created_from is not None:
        query.setdefault("created_at", {})["$gte"] = which.created_from
    if which.created_before is not None:
        query.setdefault("created_at", {})["$lt"] = which.created_before
    return query
