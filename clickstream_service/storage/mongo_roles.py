"""Roles that one replica of the service has at a time, in MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo import ReturnDocument

from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from datetime import timedelta

    from clickstream_service.storage.database import Database


class MongoRoles:
    """The collection `roles`: who has which role, by the clock of the server, under a fence that only grows."""

    def __init__(self, database: Database) -> None:
        self._roles = database.roles

    @outages()
    async def take(self, name: str, owner: str, duration: timedelta) -> int | None:
        """Have a role for `duration` from now on and return its fence; None while somebody else has it.

        Whoever has it already keeps it, under the same fence.
        """
        free = {"$lte": [{"$ifNull": ["$until", "$$NOW"]}, "$$NOW"]}
        mine = {"$eq": ["$owner", {"$literal": owner}]}
        milliseconds = round(duration.total_seconds() * 1000)
        until = {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": milliseconds}}
        fence = {"$add": ["$fence", {"$cond": [mine, 0, 1]}]}
        # An upsert may not ask for an expression, so the role is made before.
        await self._roles.update_one({"_id": name}, {"$setOnInsert": {"fence": 0}}, upsert=True)
        role = await self._roles.find_one_and_update(
            {"_id": name, "$expr": {"$or": [mine, free]}},
            [{"$set": {"fence": fence, "owner": {"$literal": owner}, "until": until}}],
            return_document=ReturnDocument.AFTER,
        )
        return None if role is None else int(role["fence"])

    @outages()
    async def any(self) -> bool:
        """Return whether anybody has a role now, as every replica that runs tries to."""
        return await self._roles.find_one({"$expr": {"$gt": ["$until", "$$NOW"]}}) is not None

    @outages()
    async def release(self, name: str, owner: str) -> None:
        """Let others have a role at once."""
        await self._roles.update_one({"_id": name, "owner": owner}, {"$unset": {"owner": "", "until": ""}})
