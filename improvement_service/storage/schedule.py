"""Whether scheduled runs are paused, for all replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from tideline.mongo.client import Database

_THE_ONLY_ONE: Final = "schedule"


class MongoSchedule:
    """One document for all."""

    def __init__(self, database: Database) -> None:
        self._schedule = database.get_collection("schedule", write_concern=DURABLE)

    @outages()
    async def is_paused(self) -> bool:
        document = await self._schedule.find_one({"_id": _THE_ONLY_ONE})
        return document is not None and bool(document["paused"])

    @outages()
    async def pause(self, *, paused: bool) -> None:
        """Pause scheduled runs, or let them happen again."""
        await self._schedule.update_one({"_id": _THE_ONLY_ONE}, {"$set": {"paused": paused}}, upsert=True)
