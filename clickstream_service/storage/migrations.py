"""The migrations of this service's data, oldest first. A released one is never changed: another one follows it."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, UpdateOne

from clickstream_service.domain.query import query_key
from clickstream_service.storage import indexes
from clickstream_service.storage.structs import unescaped
from tideline.migrations import Migration, Migrations
from tideline.mongo.ledger import MongoLedger
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

    Save = Callable[[Any], Awaitable[None]]

AT_ONCE: Final = 1_000
"""How many documents are looked at before it is noted how far a migration is."""


def migrations(database: Database, lock: timedelta) -> Migrations:
    """Return what brings a database up to date with this release."""
    return Migrations(
        MongoLedger(database.migrations),
        _schema(),
        partial(indexes.ensure, database),
        [
            Migration(1, "when sessions were recorded, and for which query", partial(_fill_in_sessions, database)),
            Migration(2, "when events were recorded", partial(_fill_in_events, database)),
        ],
        lock,
    )


def _schema() -> str:
    """Return a hash of all indexes: a release that defines others makes them, whatever the version of the data."""
    definitions = [sorted((key, repr(value)) for key, value in index.document.items()) for index in indexes.ALL]
    return hashlib.sha256(repr(definitions).encode()).hexdigest()[:16]


async def _fill_in_sessions(database: Database, cursor: Any, save: Save) -> None:
    """Give sessions from before there was `recorded_at` and `query_key` what they lack.

    When they were recorded is not known any more: when they happened comes nearest, as none may lie ahead.
    """
    fields = {"created_at": 1, "search_query": 1, "recorded_at": 1, "query_key": 1}
    await _go_through(database.sessions, fields, _session_change, cursor, save)


async def _fill_in_events(database: Database, cursor: Any, save: Save) -> None:
    """Do the same for `recorded_at` of events."""
    await _go_through(database.session_events, {"created_at": 1, "recorded_at": 1}, _event_change, cursor, save)


def _session_change(session: Document) -> Document:
    change = _event_change(session)
    if "query_key" not in session and "search_query" in session:
        query = session["search_query"]
        key = query_key(query["text"] if "text" in query else unescaped(query["structured"]))
        if key is not None:
            change["query_key"] = key
    return change


def _event_change(document: Document) -> Document:
    return {} if "recorded_at" in document else {"recorded_at": document["created_at"]}


@outages()
async def _go_through(
    collection: Collection, fields: Document, change_of: Callable[[Document], Document], cursor: Any, save: Save
) -> None:
    """Set what `change_of` returns for each document, some at a time in the order of their ids, behind `cursor`."""
    while True:
        behind = {} if cursor is None else {"_id": {"$gt": cursor}}
        found = await collection.find(behind, fields).sort("_id", ASCENDING).limit(AT_ONCE).to_list(AT_ONCE)
        changes = [
            # Somebody else may have filled it in, or taken it away, since it was read.
            UpdateOne({"_id": document["_id"], **{name: {"$exists": False} for name in change}}, {"$set": change})
            for document in found
            if (change := change_of(document))
        ]
        if changes:
            await collection.bulk_write(changes, ordered=False)
        if len(found) < AT_ONCE:
            return
        cursor = found[-1]["_id"]
        await save(cursor)
