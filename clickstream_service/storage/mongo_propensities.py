"""Versions of propensities in MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError

from clickstream_service.domain.propensity import (
    Propensities,
    PropensityAssumption,
    PropensityMethod,
    RankPropensity,
)
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document


class MongoPropensities:
    """The collection `propensities`: a document for each version."""

    def __init__(self, database: Database) -> None:
        self._propensities = database.propensities

    @outages()
    async def newest_version(self) -> int:
        """Return the newest version of all; 0 when there is none."""
        found = await self._propensities.find_one({}, {"_id": 1}, sort=[("_id", DESCENDING)], hint="_id_")
        return 0 if found is None else int(found["_id"])

    @outages()
    async def newest(self, surface: str, device: str) -> Propensities | None:
        """Return the newest estimate for just this surface and device; None when there is none."""
        found = await self._propensities.find_one(
            {"surface": surface, "device": device}, sort=[("_id", DESCENDING)], hint="of_surface_newest_first"
        )
        return None if found is None else _to_propensities(found)

    @outages()
    async def get(self, version: int) -> Propensities | None:
        """Return a version; None when there is none such."""
        found = await self._propensities.find_one({"_id": version})
        return None if found is None else _to_propensities(found)

    @outages()
    async def add(self, propensities: Propensities) -> bool:
        """Keep an estimate durably; returns False when its version is taken."""
        try:
            await self._propensities.insert_one(_from_propensities(propensities))
        except DuplicateKeyError:
            return False
        return True

    @outages()
    async def page(self, before: int | None, limit: int) -> list[Propensities]:
        """Return up to `limit` estimates older than a version, newest first."""
        query: Document = {} if before is None else {"_id": {"$lt": before}}
        cursor = self._propensities.find(query).sort("_id", DESCENDING).hint("_id_").limit(limit)
        return [_to_propensities(document) async for document in cursor]


def _from_propensities(found: Propensities) -> Document:
    return {
        "_id": found.version,
        "surface": found.surface,
        "device": found.device,
        "ranks": [
            [each.rank, each.examination, each.low, each.high, each.impressions, each.clicks] for each in found.ranks
        ],
        "method": int(found.method),
        "session_count": found.session_count,
        "effective_sample_size": found.effective_sample_size,
        "below_floor": found.below_floor,
        "trust_corrected": found.trust_corrected,
        "background": found.background,
        "assumption": int(found.assumption),
        "created_at": found.created_at,
    }


def _to_propensities(document: Document) -> Propensities:
    return Propensities(
        version=document["_id"],
        surface=document["surface"],
        device=document["device"],
        ranks=tuple(RankPropensity(*row) for row in document["ranks"]),
        method=PropensityMethod(document["method"]),
        session_count=document["session_count"],
        effective_sample_size=document["effective_sample_size"],
        below_floor=document["below_floor"],
        trust_corrected=document["trust_corrected"],
        background=document["background"],
        assumption=PropensityAssumption(document.get("assumption", 0)),
        created_at=document["created_at"],
    )
