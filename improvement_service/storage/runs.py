"""Runs in MongoDB, one document each."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from improvement_service.domain.errors import RunNotFound
from improvement_service.domain.run import Run, RunState, Stage, Tally, Trigger, Turned
from tideline.mongo.client import DURABLE
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from datetime import datetime

    from tideline.mongo.client import Database, Document

SILENT_FOR: Final = timedelta(minutes=1)
"""A run that was not saved for so long has lost its worker."""
KEPT_FOR: Final = timedelta(days=90)

INDEXES: Final = (
    IndexModel([("started_at", DESCENDING), ("_id", DESCENDING)], name="newest_first"),
    IndexModel([("state", ASCENDING), ("saved_at", ASCENDING)], name="by_state"),
    IndexModel([("finished_at", ASCENDING)], name="expiry", expireAfterSeconds=int(KEPT_FOR.total_seconds())),
)


@outages()
async def make_indexes(database: Database) -> None:
    """Create the indexes that are not there."""
    await database.get_collection("runs", write_concern=DURABLE).create_indexes(list(INDEXES))


class MongoRuns:
    """What runs did. Those whose worker went silent show as interrupted."""

    def __init__(self, database: Database) -> None:
        self._runs = database.get_collection("runs", write_concern=DURABLE)

    @outages()
    async def prepare(self, owner: str) -> None:
        """Runs that a worker of this name left behind when it died are interrupted."""
        await self._interrupt({"state": RunState.RUNNING, "owner": owner})

    @outages()
    async def save(self, run: Run) -> None:
        """Keep a run as it stands, and say that its worker lives."""
        change = {"$set": _to_document(run), "$currentDate": {"saved_at": True}}
        await self._runs.update_one({"_id": run.run_id}, change, upsert=True)

    @outages()
    async def get(self, run_id: str) -> Run:
        """Return a run; raises `RunNotFound`."""
        await self._interrupt_silent()
        document = await self._runs.find_one({"_id": run_id})
        if document is None:
            raise RunNotFound("no run has this id", field="run_id")
        return _from_document(document)

    @outages()
    async def newest(self, after: tuple[datetime, str] | None, limit: int) -> list[Run]:
        """Return runs after (started_at, id), newest first."""
        await self._interrupt_silent()
        query: Document = {}
        if after is not None:
            at, run_id = after
            query = {"started_at": {"$lte": at}, "$nor": [{"started_at": at, "_id": {"$gte": run_id}}]}
        found = self._runs.find(query).sort([("started_at", DESCENDING), ("_id", DESCENDING)]).limit(limit)
        return [_from_document(document) async for document in found]

    @outages()
    async def any_running(self) -> bool:
        """Return whether there is a run whose worker has not gone silent."""
        await self._interrupt_silent()
        return await self._runs.find_one({"state": RunState.RUNNING}) is not None

    async def _interrupt_silent(self) -> None:
        silent = {"$dateSubtract": {"startDate": "$$NOW", "unit": "second", "amount": int(SILENT_FOR.total_seconds())}}
        await self._interrupt({"state": RunState.RUNNING, "$expr": {"$lt": ["$saved_at", silent]}})

    async def _interrupt(self, which: Document) -> None:
        ended = {"state": RunState.INTERRUPTED, "finished_at": "$saved_at", "error": "its worker went silent"}
        await self._runs.update_many(which, [{"$set": ended}])


def _to_document(run: Run) -> Document:
    tally = run.tally
    return {
        "trigger": run.trigger,
        "owner": run.owner,
        "started_at": run.started_at,
        "state": run.state,
        "finished_at": run.finished_at,
        "error": run.error,
        "users": {
            "leased": tally.users_leased,
            "settled": tally.users_settled,
            "failed": tally.users_failed,
            "lost": tally.users_lost,
        },
        "sessions": dict(tally.sessions),
        # As pairs: a session filter may name reasons as it likes.
        "by_reason": sorted(tally.by_reason.items()),
        "turned": {"vectors": tally.turned.vectors, "sum": tally.turned.sum, "max": tally.turned.max},
        "copies_removed": tally.copies_removed,
        "durations_s": {stage: time.total_seconds() for stage, time in tally.durations.items()},
    }


def _from_document(document: Document) -> Run:
    users = document["users"]
    return Run(
        run_id=document["_id"],
        trigger=Trigger(document["trigger"]),
        owner=document["owner"],
        started_at=document["started_at"],
        state=RunState(document["state"]),
        finished_at=document["finished_at"],
        error=document["error"],
        tally=Tally(
            users_leased=users["leased"],
            users_settled=users["settled"],
            users_failed=users["failed"],
            users_lost=users["lost"],
            sessions=Counter(document["sessions"]),
            by_reason=Counter(dict(document["by_reason"])),
            turned=Turned(**document["turned"]),
            copies_removed=document["copies_removed"],
            durations={Stage(stage): timedelta(seconds=s) for stage, s in document["durations_s"].items()},
        ),
    )
