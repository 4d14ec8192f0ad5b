"""Versions of what users have in place of originals, so that searches can keep it in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Int64, MaxKey, MinKey
from pymongo import UpdateOne

from improvement_service.domain.overlay import OverlayVersion
from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tideline.mongo.client import Database


_NEXT: Final = {"$add": [{"$ifNull": ["$version", {"$toLong": "$$NOW"}]}, 1]}
"""The first version of a user is the time: one who was forgotten and comes back never gets an old version again."""


class MongoPersonalVersions:
    """A number for each user with copies in a collection; it only grows.

    A reader asks for the version before it reads copies, and a writer bumps it after it wrote them: what is kept in
    memory under a version is never older than that version.
    """

    def __init__(self, database: Database, changed: Callable[[str, str], None] = lambda *_: None) -> None:
        """Collection and user of each version that is changed here go to `changed`, before the change is confirmed."""
        self._changed = changed
        self._versions = database.get_collection("personal_versions", write_concern=DURABLE)

    @outages()
    async def get(self, collection: str, user_id: str) -> OverlayVersion | None:
        """Return the version; None when the user never had copies there."""
        document = await self._versions.find_one({"_id": {"c": collection, "u": user_id}})
        return None if document is None else OverlayVersion(int(document["version"]), document.get("written_until", 0))

    @outages()
    async def bump(self, collection: str, user_ids: Collection[str], written_until: int) -> None:
        """Make searches of these users read their copies anew, as written until then on the vector database's clock."""
        # Several may write at once, and whoever asked the clock first may be the last to come here.
        change = [{"$set": {"version": _NEXT, "written_until": {"$max": ["$written_until", Int64(written_until)]}}}]
        updates = [
            UpdateOne({"_id": {"c": collection, "u": user_id}}, change, upsert=True)
            for user_id in dict.fromkeys(user_ids)
        ]
        if updates:
            await self._versions.bulk_write(updates, ordered=False)
        for user_id in user_ids:
            self._changed(collection, user_id)

    @outages()
    async def forget(self, collection: str) -> None:
        """Forget all versions of a collection that is no more."""
        least, most = ({"c": collection, "u": end} for end in (MinKey(), MaxKey()))
        await self._versions.delete_many({"_id": {"$gt": least, "$lt": most}})

    @outages()
    async def forget_user(self, collection: str, user_id: str) -> None:
        """Forget that a user ever had copies in a collection."""
        await self._versions.delete_one({"_id": {"c": collection, "u": user_id}})
        self._changed(collection, user_id)
