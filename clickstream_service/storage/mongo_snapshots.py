"""Training snapshots in MongoDB."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pymongo import ReturnDocument

from clickstream_service.domain.training_choice import TrainingChoice, TrainingSnapshot
from clickstream_service.storage.structs import escaped, unescaped
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Document


class MongoSnapshots:
    """The collection `training_snapshots`: a document is a choice; what it chooses stays where it is."""

    def __init__(self, database: Database) -> None:
        self._snapshots = database.training_snapshots

    @outages()
    async def add(self, snapshot: TrainingSnapshot) -> TrainingSnapshot:
        """Keep a snapshot durably, unless it is there, and return the one that is kept."""
        kept = await self._snapshots.find_one_and_update(
            {"_id": snapshot.snapshot_id},
            {"$setOnInsert": _from_snapshot(snapshot)},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        assert kept is not None  # noqa: S101 - upserted
        return _to_snapshot(kept)

    @outages()
    async def get(self, snapshot_id: str) -> TrainingSnapshot | None:
        """Return a snapshot; None when there is none such."""
        found = await self._snapshots.find_one({"_id": snapshot_id})
        return None if found is None else _to_snapshot(found)


def _from_snapshot(snapshot: TrainingSnapshot) -> Document:
    choice = snapshot.choice
    document: Document = {
        "min_interactions": choice.min_interactions,
        "interaction_types": sorted(choice.interaction_types),
        "surfaces": sorted(choice.surfaces),
        "max_negatives": choice.max_negatives,
        "max_weight": choice.max_weight,
        "propensity_version": choice.propensity_version,
        "strengths_version": choice.strengths_version,
        "recorded_before": snapshot.recorded_before,
        "created_at": snapshot.created_at,
    }
    for name, at in (("created_from", choice.created_from), ("created_before", choice.created_before)):
        if at is not None:
            document[name] = at
            # MongoDB keeps milliseconds; what is frozen is shown as it was given.
            document[f"{name}_us"] = at.microsecond % 1000
    if snapshot.meta is not None:
        document["meta"] = escaped(snapshot.meta)
    return document


def _to_snapshot(document: Document) -> TrainingSnapshot:
    meta: dict[str, Any] | None = document.get("meta")
    return TrainingSnapshot(
        snapshot_id=document["_id"],
        choice=TrainingChoice(
            created_from=_time(document, "created_from"),
            created_before=_time(document, "created_before"),
            min_interactions=document["min_interactions"],
            interaction_types=frozenset(document["interaction_types"]),
            surfaces=frozenset(document["surfaces"]),
            max_negatives=document["max_negatives"],
            max_weight=document["max_weight"],
            propensity_version=document["propensity_version"],
            strengths_version=document["strengths_version"],
        ),
        recorded_before=document["recorded_before"],
        created_at=document["created_at"],
        meta=None if meta is None else unescaped(meta),
    )


def _time(document: Document, name: str) -> datetime | None:
    at: datetime | None = document.get(name)
    return None if at is None else at + timedelta(microseconds=document[f"{name}_us"])
