"""Which rollups are in force, and up to where changes are in them: one document.

Rollups are made in generations: a recount makes a new one beside the one that answers questions, and then replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pymongo import ReturnDocument

from clickstream_service.domain.rollup import RoleLost, RollupRules
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bson import Timestamp
    from motor.motor_asyncio import AsyncIOMotorClientSession

    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

STATE: Final = "current"

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class RollupState:
    """A generation of rollups; what comes next was changed `since` a time, or after `token`."""

    generation: int
    rules: RollupRules
    since: Timestamp
    token: Document | None


class RollupStates:
    """The collection `rollup_state`."""

    def __init__(self, database: Database) -> None:
        self._states = database.rollup_state
        self._database = database.rollup_state.database

    def rollups(self, generation: int) -> Collection:
        return self._database[f"rollups_{generation}"]

    def contributions(self, generation: int) -> Collection:
        return self._database[f"rollup_contributions_{generation}"]

    @outages()
    async def current(self) -> RollupState | None:
        """Return what is in force; None before the first count."""
        document = await self._states.find_one({"_id": STATE})
        return None if document is None else _to_state(document)

    @outages()
    async def adopt(self, fence: int) -> RollupState | None:
        """Return what is in force, to be carried on under this fence and no earlier one; raises `RoleLost`."""
        document = await self._states.find_one_and_update(
            {"_id": STATE, "$or": [{"fence": {"$exists": False}}, {"fence": {"$lte": fence}}]},
            {"$set": {"fence": fence}},
            return_document=ReturnDocument.AFTER,
        )
        if document is None and await self.current() is not None:
            raise RoleLost
        return None if document is None else _to_state(document)

    @outages()
    async def advance(
        self, generation: int, fence: int, token: Mapping[str, Any], transaction: AsyncIOMotorClientSession | None
    ) -> None:
        """Say that changes up to `token` are in the rollups; raises `RoleLost` when another carries them on by now."""
        advanced = await self._states.update_one(
            {"_id": STATE, "generation": generation, "fence": fence}, {"$set": {"token": token}}, session=transaction
        )
        if advanced.matched_count == 0:
            raise RoleLost

    @outages()
    async def replace(self, state: RollupState) -> None:
        """Put another generation in force; whoever carried on the one before has to adopt it."""
        rules = state.rules
        document = {
            "generation": state.generation,
            "since": state.since,
            "rules": {
                "segments": list(rules.segments),
                "long_view_threshold_us": rules.long_view_threshold // _MICROSECOND,
                "format": rules.format,
            },
        }
        await self._states.replace_one({"_id": STATE}, document, upsert=True)


def _to_state(document: Document) -> RollupState:
    rules = document["rules"]
    threshold = timedelta(microseconds=rules["long_view_threshold_us"])
    return RollupState(
        generation=document["generation"],
        rules=RollupRules(tuple(rules["segments"]), threshold, rules["format"]),
        since=document["since"],
        token=document.get("token"),
    )
