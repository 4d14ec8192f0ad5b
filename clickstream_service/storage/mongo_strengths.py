"""Versions of strengths in MongoDB."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError

from clickstream_service.domain.strength import Level, Strength, Strengths
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document


class MongoStrengths:
    """The collection `strengths`: a document for each version but the built-in one."""

    def __init__(self, database: Database) -> None:
        self._strengths = database.strengths

    @outages()
    async def newest(self) -> Strengths | None:
        """Return the newest version; None when there is none."""
        found = await self._strengths.find_one({}, sort=[("_id", DESCENDING)], hint="_id_")
        return None if found is None else _to_strengths(found)

    @outages()
    async def get(self, version: int) -> Strengths | None:
        """Return a version; None when there is none such."""
        found = await self._strengths.find_one({"_id": version})
        return None if found is None else _to_strengths(found)

    @outages()
    async def add(self, strengths: Strengths) -> bool:
        """Keep a new version durably; returns False when its number is taken."""
        try:
            await self._strengths.insert_one(_from_strengths(strengths))
        except DuplicateKeyError:
            return False
        return True


def _from_strengths(strengths: Strengths) -> Document:
    # A list, since a type may be called anything, and a key may not.
    by_type = [
        {"type": name, "level": int(strength.level), "weight": strength.own_weight}
        for name, strength in strengths.by_type.items()
    ]
    return {
        "_id": strengths.version,
        "strengths": by_type,
        "long_view_threshold_us": strengths.long_view_threshold // timedelta(microseconds=1),
        "created_at": strengths.created_at,
    }


def _to_strengths(document: Document) -> Strengths:
    return Strengths(
        version=document["_id"],
        by_type={found["type"]: Strength(Level(found["level"]), found["weight"]) for found in document["strengths"]},
        long_view_threshold=timedelta(microseconds=document["long_view_threshold_us"]),
        created_at=document["created_at"],
    )
