"""Who wrote a user's copies last, and where the user has any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from improvement_service.domain.feedback import Lease
    from tideline.mongo.client import Database, Document

_DUPLICATE_KEY: Final = 11000


class MongoPersonalWrites:
    """The highest fence under which copies of a user were written, one document a user; it only grows."""

    def __init__(self, database: Database) -> None:
        self._writes = database.get_collection("personal_writes", write_concern=DURABLE)

    @outages()
    async def claim(self, writes: Mapping[Lease, Collection[str]]) -> dict[Lease, frozenset[str]]:
        """Announce writes into these collections; returns all that the user may have copies in.

        Leases with a higher one claimed before are missing. What is announced here is cleared by a later run even if
        the one that announced it dies half-way.
        """
        updates = [
            UpdateOne(
                {"_id": lease.user_id, "fence": {"$lte": lease.fence}},
                {"$set": {"fence": lease.fence}, "$addToSet": {"collections": {"$each": sorted(collections)}}},
                upsert=True,
            )
            for lease, collections in writes.items()
        ]
        try:
            if updates:
                await self._writes.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            # A higher fence is not matched, and the insert that is tried instead finds the user's document there.
            if any(failed["code"] != _DUPLICATE_KEY for failed in error.details["writeErrors"]):
                raise
        found = await self._of(writes)
        return {lease: frozenset(document["collections"]) for lease, document in found.items()}

    @outages()
    async def confirm(self, writes: Mapping[Lease, Collection[str]]) -> set[Lease]:
        """Note where the users have copies now; returns the leases that are still the last to have claimed."""
        updates = [
            UpdateOne({"_id": lease.user_id, "fence": lease.fence}, {"$set": {"collections": sorted(collections)}})
            for lease, collections in writes.items()
        ]
        if updates:
            await self._writes.bulk_write(updates, ordered=False)
        return set(await self._of(writes))

    @outages()
    async def forgotten(self, user_ids: Collection[str]) -> list[str]:
        """Return the users who claimed writes, and were forgotten since."""
        kept = {document["_id"] async for document in self._writes.find({"_id": {"$in": list(user_ids)}}, {"_id": 1})}
        return [user_id for user_id in user_ids if user_id not in kept]

    @outages()
    async def forget(self, user_id: str) -> None:
        """Forget that anything was ever written for a user."""
        await self._writes.delete_one({"_id": user_id})

    async def _of(self, leases: Collection[Lease]) -> dict[Lease, Document]:
        """Return the documents of users whose fence is that of the lease."""
        ids: Sequence[str] = [lease.user_id for lease in leases]
        found = {document["_id"]: document async for document in self._writes.find({"_id": {"$in": ids}})}
        return {
            lease: found[lease.user_id]
            for lease in leases
            if lease.user_id in found and found[lease.user_id]["fence"] == lease.fence
        }
