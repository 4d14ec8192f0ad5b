"""Putting a group of sessions into the open batch, in one transaction."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pymongo import ReturnDocument

from clickstream_service.domain.session import Recorded, Session
from clickstream_service.storage import documents
from clickstream_service.storage.transactions import blocking_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from pymongo.client_session import ClientSession

    from clickstream_service.storage.database import Database

    Document = dict[str, Any]

Content = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class Written:
    """Where sessions are recorded by now, and the content under ids that were there before."""

    recorded: Mapping[str, Recorded]
    contents: Mapping[str, Content]


class SessionWriter:
    """Writes to `sessions`, and to the count of the open batch in `session_batches`."""

    def __init__(self, database: Database, now: Callable[[], datetime], quiet_for: timedelta | None) -> None:
        """With `quiet_for`, sessions of users are to be looked at when they have been quiet for so long."""
        self._database = database
        self._sessions = database.sessions.delegate
        self._batches = database.session_batches.delegate
        self._now = now
        self._quiet_for = quiet_for
        self._some_were_there = False

    def write(self, sessions: Mapping[str, Session], refused: frozenset[str]) -> Written:
        """Record these sessions by id, but for new ones of `refused` users; blocks until that is durable.

        The batch counts its sessions in the same transaction that inserts them: numbers have no gaps, become visible
        in order, and a release of the batch falls before or after the whole group.
        """
        # Most sessions are new: what is there is looked up only when the database says that something is, or where that
        # was so of late, since a sender that repeats itself goes on to do so.
        looks = self._some_were_there or bool(refused)

        def write(transaction: ClientSession) -> Written:
            nonlocal looks
            known = self._there(list(sessions), transaction) if looks else {}
            # If this meets one that is there, it is run again, with a look.
            looks = True
            new = [each for key, each in sessions.items() if key not in known and each.user_id not in refused]
            recorded = {key: documents.to_recorded(document) for key, document in known.items()}
            contents = self._contents(sessions, known, transaction)
            return Written(recorded | (self._insert(new, transaction) if new else {}), contents)

        written = blocking_transaction(self._database, write)
        self._some_were_there = bool(written.contents)
        return written

    def _there(self, session_ids: list[str], transaction: ClientSession) -> dict[str, Document]:
        there = self._sessions.find({"_id": {"$in": session_ids}}, documents.RECORDED, session=transaction)
        return {document["_id"]: document for document in there}

    def _contents(
        self, sessions: Mapping[str, Session], known: Mapping[str, Document], transaction: ClientSession
    ) -> dict[str, Content]:
        """Return what to compare sessions with that are there."""
        contents = {key: (document["fingerprint"], document["user_id"]) for key, document in known.items()}
        others = [key for key, there in contents.items() if there != content(sessions[key])]
        if others:
            # What the service had filled in, ranks and a time, comes back with what was exported.
            stored = self._sessions.find({"_id": {"$in": others}}, session=transaction)
            for session in map(documents.to_session, stored):
                if _told(session) == _told(sessions[session.session_id]):
                    contents[session.session_id] = content(sessions[session.session_id])
        return contents

    def _insert(self, sessions: list[Session], transaction: ClientSession) -> dict[str, Recorded]:
        batch = self._batches.find_one_and_update(
            {"state": "open"},
            {
                "$inc": {"count": len(sessions)},
                "$setOnInsert": {"_id": uuid.uuid4().hex, "opened_at": self._now()},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=transaction,
        )
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
        self._sessions.insert_many(inserts, session=transaction)
        return recorded


def content(session: Session) -> Content:
    """Return what tells one use of an id from another."""
    return session.fingerprint, session.user_id


def _told(session: Session) -> Session:
    """Return what the client told, or would have, had nothing been filled in."""
    return replace(
        session, fingerprint=b"", nbytes=0, trace="", batch_id="", session_number=0, irrelevance=None, submitted=False
    )
