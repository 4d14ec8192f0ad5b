"""Rollups as they are in the database, and counted again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from clickstream_service.app import utc_now
from clickstream_service.app_signals import recount
from clickstream_service.storage.mongo_strengths import MongoStrengths
from clickstream_service.strengths import StrengthVersions

if TYPE_CHECKING:
    from pymongo.database import Database

    from clickstream_service.config import Settings
    from clickstream_service.storage.database import Database as Connection

    Documents = Database[dict[str, Any]]


def generation(database: Documents) -> int:
    state = database.rollup_state.find_one({"_id": "current"})
    assert state is not None
    number: int = state["generation"]
    return number


def rollups(database: Documents) -> dict[str, dict[str, str]]:
    """All rollups in force by their keys, without what counts nothing."""
    found: dict[str, dict[str, str]] = {}
    for document in database[f"rollups_{generation(database)}"].find():
        key = sorted(document.pop("_id").items())
        each = {str([*key, digest]): counts for digest, counts in document["r"].items()} if "r" in document else None
        for name, counts in (each or {str(key): document}).items():
            found[name] = {name: str(n) for name, n in counts.items() if str(n) != "0"}
    return found


def contributions(database: Documents) -> dict[str, str]:
    found = database[f"rollup_contributions_{generation(database)}"].find()
    return {str(each.pop("_id")): str(sorted(each.items())) for each in found}


async def count_again(connection: Connection, settings: Settings) -> int | None:
    """Rebuild the rollups, as the command does."""
    strengths = StrengthVersions(MongoStrengths(connection), timedelta(0), utc_now)
    return await recount(connection, settings, strengths).run()
