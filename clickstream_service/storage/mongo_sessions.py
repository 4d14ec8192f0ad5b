"""Sessions in MongoDB."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pymongo import DESCENDING, ReturnDocument

from clickstream_service.domain.errors import SessionConflict, SessionNotFound, UserBeingErased
from clickstream_service.domain.session import Irrelevance, Recorded, Session, SessionFilter
from clickstream_service.storage import documents, overtaking
from clickstream_service.storage.group_commit import GroupCommit, Limits
from clickstream_service.storage.reading import take
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from motor.motor_asyncio import AsyncIOMotorClientSession

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.erasure_guard import ErasureGuard, Watch

    Document = dict[str, Any]
    Outcome = Recorded | SessionConflict | UserBeingErased
    Requeue = Callable[[Sequence[str], AsyncIOMotorClientSession], Awaitable[None]]
    Content = tuple[bytes, str]

READ_AT_ONCE: Final = 100


class MongoSessions:
    """The collection `sessions`, and the count of the open batch in `session_batches`."""

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
        self._quiet_for = quiet_for
        self._database = database
        self._now = now
        self._requeue_in = requeue_in
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

    async def _write(self, sessions: Sequence[Session]) -> list[Outcome]:
        """Record a group in one transaction.

        The batch counts its sessions in the same transaction that inserts them: numbers have no gaps, become visible
        in order, and a release of the batch falls before or after the whole group.
        """
        first: dict[str, Session] = {}
        for session in sessions:
            first.setdefault(session.session_id, session)
        users = {session.user_id for session in sessions} - {""}

        async def write(
            transaction: AsyncIOMotorClientSession,
        ) -> tuple[Watch, dict[str, Content], dict[str, Recorded]]:
            watch = await self._guard.watch(users, transaction)
            there = self._database.sessions.find({"_id": {"$in": list(first)}}, documents.RECORDED, session=transaction)
            known = {document["_id"]: document for document in await there.to_list(None)}
            new = [
                session for key, session in first.items() if key not in known and session.user_id not in watch.refused
            ]
            contents = {key: _content(session) for key, session in first.items()}
            contents |= {key: (document["fingerprint"], document["user_id"]) for key, document in known.items()}
            others = [key for key in known if contents[key] != _content(first[key])]
            if others:
                # What the service had filled in, ranks and a time, comes back with what was exported.
                stored = self._database.sessions.find({"_id": {"$in": others}}, session=transaction)
                for session in map(documents.to_session, await stored.to_list(None)):
                    if _told(session) == _told(first[session.session_id]):
                        contents[session.session_id] = _content(first[session.session_id])
            recorded = {key: documents.to_recorded(document) for key, document in known.items()}
            return watch, contents, recorded | (await self._insert(new, transaction) if new else {})

        watch, contents, recorded = await in_transaction(self._database, write, retry_duplicates=True)
        # Of those that were there as well: who recorded them may have died before this.
        await overtaking.fill_in(self._database, first.keys())
        async with outages():
            refused = watch.refused | await self._guard.overtaken(watch, users)
        return [
            UserBeingErased("the user is being erased", field="user_id")
            if session.user_id in refused
            else _result(session, contents[key], recorded.get(key), is_first=session is first[key])
            for key, session in ((session.session_id, session) for session in sessions)
        ]

    async def _insert(self, sessions: Sequence[Session], transaction: AsyncIOMotorClientSession) -> dict[str, Recorded]:
        batch = await self._database.session_batches.find_one_and_update(
            {"state": "open"},
            {
                "$inc": {"count": len(sessions)},
                "$setOnInsert": {"_id": uuid.uuid4().hex, "opened_at": self._now()},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=transaction,
        )
        assert batch is not None  # noqa: S101 - upserted
        batch_id, number = batch["_id"], batch["count"] - len(sessions)
        recorded: dict[str, Recorded] = {}
        now = self._now()
        inserts: list[Document] = []
        for session in sessions:
            number += 1
            inserts.append(documents.from_session(session, batch_id, number, now))
            if self._quiet_for is not None and session.user_id:
                inserts[-1]["check_at"] = max(session.created_at, now) + self._quiet_for
            recorded[session.session_id] = Recorded(
                created=True,
                session_id=session.session_id,
                batch_id=batch_id,
                session_number=number,
                created_at=session.created_at,
            )
        await self._database.sessions.insert_many(inserts, session=transaction)
        return recorded


def _content(session: Session) -> Content:
    return session.fingerprint, session.user_id


def _told(session: Session) -> Session:
    """Return what the client told, or would have, had nothing been filled in."""
    return replace(
        session, fingerprint=b"", nbytes=0, trace="", batch_id="", session_number=0, irrelevance=None, submitted=False
    )


def _result(
    session: Session, content: Content, recorded: Recorded | None, *, is_first: bool
) -> Recorded | SessionConflict:
    # Not recorded: the id came twice in one go, first with a user who is being erased.
    if _content(session) != content or recorded is None:
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
