"""Events that came before their sessions: they get what they take from it once both are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo import UpdateMany

from clickstream_service.storage import documents
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Collection

    from clickstream_service.storage.database import Database


@outages()
async def fill_in(database: Database, session_ids: Collection[str]) -> bool:
    """Fill in the user and the text of those of these sessions that are there, where events await them.

    Whoever records sessions, and whoever records events without one, calls this after the write is done: at least one
    of two that do so at the same time sees what the other wrote. Returns whether there were any.
    """
    if not session_ids:
        return False
    waiting = {"session_id": {"$in": list(session_ids)}, "awaits_session": True}
    found = await database.session_events.find(waiting, {"session_id": 1}).to_list(None)
    if not found:
        return False
    awaited = {"_id": {"$in": list({event["session_id"] for event in found})}}
    fields = {"user_id": 1, "search_query.text": 1}
    changes = [
        UpdateMany(
            {"session_id": session["_id"], "awaits_session": True},
            {
                "$set": {"user_id": session["user_id"], "query_text": documents.query_text(session)},
                "$unset": {"awaits_session": ""},
            },
        )
        async for session in database.sessions.find(awaited, fields)
    ]
    if changes:
        await database.session_events.bulk_write(changes, ordered=False)
    return bool(changes)
