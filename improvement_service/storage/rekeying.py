"""Giving users other names, wherever they are in the database.

All of it can be broken off anywhere and begun again: a document with the old name goes after its content is under the
new one, where numbers only grow and collections only add up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymongo import ASCENDING, DeleteOne, UpdateOne

from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tideline.mongo.client import Collection, Database, Document

    Change = UpdateOne | DeleteOne
    ToChanges = Callable[[Document], list[Change]]

USERS_AT_ONCE: Final = 500


class Rekeying:
    """Renames users by `renamed`, a function that leaves new names as they are."""

    def __init__(self, database: Database, renamed: Callable[[str], str]) -> None:
        self._versions = database.get_collection("personal_versions", write_concern=DURABLE)
        self._writes = database.get_collection("personal_writes", write_concern=DURABLE)
        self._renamed = renamed

    async def run(self) -> AsyncIterator[tuple[str, int]]:
        """Rename all users; yields how much was changed, by what it is, as it goes on."""
        yield "personal_versions", await self._rename(self._versions, self._version)
        yield "personal_writes", await self._rename(self._writes, self._write)

    @outages()
    async def _rename(self, collection: Collection, changes_of: ToChanges) -> int:
        query: Document = {}
        renamed = 0
        while documents := await collection.find(query).sort("_id", ASCENDING).limit(USERS_AT_ONCE).to_list(None):
            query = {"_id": {"$gt": documents[-1]["_id"]}}
            changes = [change for document in documents for change in changes_of(document)]
            if changes:
                renamed += (await collection.bulk_write(changes)).deleted_count
        return renamed

    def _version(self, document: Document) -> list[Change]:
        old = document["_id"]
        new = {"c": old["c"], "u": self._renamed(old["u"])}
        if new == old:
            return []
        return [
            UpdateOne({"_id": new}, {"$max": {"version": document["version"]}}, upsert=True),
            DeleteOne({"_id": old}),
        ]

    def _write(self, document: Document) -> list[Change]:
        new = self._renamed(document["_id"])
        if new == document["_id"]:
            return []
        content = {
            "$max": {"fence": document["fence"]},
            "$addToSet": {"collections": {"$each": document["collections"]}},
        }
        return [UpdateOne({"_id": new}, content, upsert=True), DeleteOne({"_id": document["_id"]})]
