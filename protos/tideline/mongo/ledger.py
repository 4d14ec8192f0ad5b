"""The ledger of migrations in MongoDB: one document, its lock by the clock of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pymongo import ReturnDocument

from tideline.migrations import Hold, LockLost
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from datetime import timedelta

    from tideline.mongo.client import Collection, Document

LEDGER: Final = {"_id": "ledger"}


class MongoLedger:
    """The collection `migrations`."""

    def __init__(self, collection: Collection) -> None:
        self._ledger = collection

    @outages()
    async def state(self) -> tuple[int, frozenset[str]]:
        """Return the version of the data and the schemas that were made."""
        found = await self._ledger.find_one(LEDGER) or {}
        return found.get("version", 0), frozenset(found.get("schemas", ()))

    @outages()
    async def take(self, owner: str, duration: timedelta) -> Hold | None:
        """Hold the lock for `duration`; None while somebody else does."""
        # An upsert may not ask for an expression, so the document is made before.
        await self._ledger.update_one(LEDGER, {"$setOnInsert": {"fence": 0, "version": 0, "schemas": []}}, upsert=True)
        found = await self._ledger.find_one_and_update(
            {**LEDGER, "$expr": {"$lte": [{"$ifNull": ["$until", "$$NOW"]}, "$$NOW"]}},
            [{"$set": {"owner": {"$literal": owner}, "until": _in(duration), "fence": {"$add": ["$fence", 1]}}}],
            return_document=ReturnDocument.AFTER,
        )
        if found is None:
            return None
        return Hold(int(found["fence"]), found["version"], frozenset(found["schemas"]), found.get("cursor"))

    async def renew(self, fence: int, duration: timedelta) -> None:
        """Hold it for `duration` from now; raises `LockLost`."""
        await self._change(fence, [{"$set": {"until": _in(duration)}}])

    async def save(self, fence: int, cursor: Any) -> None:
        """Note how far the present migration is; raises `LockLost`."""
        await self._change(fence, {"$set": {"cursor": cursor}})

    async def finish(self, fence: int, version: int, name: str) -> None:
        """Note that a migration is through; raises `LockLost`."""
        done = {"version": version, "name": name}
        await self._change(fence, {"$set": {"version": version}, "$unset": {"cursor": ""}, "$push": {"history": done}})

    async def finish_schema(self, fence: int, schema: str) -> None:
        """Note that a schema is made; raises `LockLost`."""
        await self._change(fence, {"$addToSet": {"schemas": schema}})

    @outages()
    async def release(self, fence: int) -> None:
        """Let others have the lock."""
        await self._ledger.update_one({**LEDGER, "fence": fence}, {"$unset": {"until": "", "owner": ""}})

    @outages()
    async def _change(self, fence: int, change: Document | list[Document]) -> None:
        # Whoever has let the lock expire unnoticed, and is not followed by another one yet, still has it.
        changed = await self._ledger.update_one({**LEDGER, "fence": fence}, change)
        if changed.matched_count == 0:
            raise LockLost


def _in(duration: timedelta) -> dict[str, Any]:
    milliseconds = round(duration.total_seconds() * 1000)
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": milliseconds}}
