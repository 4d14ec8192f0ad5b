"""Whether scheduled runs are paused, for all replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from improvement_service.storage.database import DURABLE
from improvement_service.storage.outages import outages

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorDatabase

    Document = dict[str, Any]

_THE_ONLY_ONE: Final = "schedule"


class MongoSchedule:
    """One document for all."""

    def __init__(self, database: AsyncIOMotorDatabase[Document]) -> None:
        self._schedule = database.get_collection("schedule", write_concern=DURABLE)

    @outages()
    async def is_paused(self) -> bool:
        document = await self._schedule.find_one({"_id": _THE_ONLY_ONE})
        return document is not None and bool(document["paused"])

    @outages()
    async def pause(self, *, paused: bool) -> None:
        """Pause scheduled runs, or let them happen again."""
        await self._schedule.update_one({"_id": _THE_ONLY_ONE}, {"$set": {"paused": paused}}, upsert=True)
