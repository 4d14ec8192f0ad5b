"""Erasures in MongoDB: one document a user, which names the user only as long as the erasure is under way."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, IndexModel, ReturnDocument

from clickstream_service.domain.erasure import Erasure, ErasureWork
from clickstream_service.storage.erasure_guard import CONTROL, FINISHED, RUNNING, ErasureGuard
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.personal_records import PersonalRecords

    Document = dict[str, Any]

KEPT_S: Final = 90 * 24 * 3600
"""For how long finished receipts are kept."""
INDEXES: Final = (
    IndexModel([("state", ASCENDING), ("due_at", ASCENDING)], name="by_state_longest_due_first"),
    IndexModel([("finished_at", ASCENDING)], name="until_90_days_ago", expireAfterSeconds=KEPT_S),
)


class MongoErasures:
    """The collection `erasures`; `_id` is the keyed hash of the user's id.

    `due_at` is when a worker may go on with it: a worker that does moves it ahead, so that others leave it alone.
    """

    def __init__(self, database: Database, guard: ErasureGuard, records: PersonalRecords, grace: timedelta) -> None:
        """An erasure takes at least the `grace`: for so long what is being written when it begins may take."""
        self._database = database
        self._erasures = database.erasures
        self._control = database.erasure_control
        self._guard = guard
        self._records = records
        self._grace = grace

    @outages()
    async def prepare(self) -> None:
        """Create the indexes."""
        await self._erasures.create_indexes(list(INDEXES))

    async def begin(self, user_id: str, now: datetime) -> Erasure:
        """Begin to erase a user unless that is under way, or was done and nothing is known of the user since."""
        key = self._guard.key(user_id)

        async def work(transaction: Transaction) -> Erasure:
            found = await self._erasures.find_one({"_id": key}, session=transaction)
            if found is not None and (found["state"] == RUNNING or not await self._records.any(user_id, transaction)):
                return _to_erasure(found)
            control = await self._control.find_one_and_update(
                CONTROL, {"$inc": {"begun": 1, "open": 1}}, return_document=ReturnDocument.AFTER, session=transaction
            )
            assert control is not None  # noqa: S101 - prepared
            # Sessions are counted there: whoever writes some at this very moment meets this, and looks again.
            await self._database.session_batches.update_one(
                {"state": "open"}, {"$inc": {"erasures": 1}}, session=transaction
            )
            document = {
                "_id": key,
                "erasure_id": uuid.uuid4().hex,
                "user_id": user_id,
                "state": RUNNING,
                "number": control["begun"],
                "late": 0,
                "requested_at": now,
                "erased": {},
            }
            await self._erasures.replace_one({"_id": key}, document, upsert=True, session=transaction)
            times = {"due_at": "$$NOW", "last_look_from": _in(self._grace)}
            await self._erasures.update_one({"_id": key}, [{"$set": times}], session=transaction)
            return _to_erasure(document)

        return await in_transaction(self._database, work, retry_duplicates=True)

    @outages()
    async def get(self, user_id: str) -> Erasure | None:
        """Return how the erasure of a user stands; None when there is none."""
        found = await self._erasures.find_one({"_id": self._guard.key(user_id)})
        return None if found is None else _to_erasure(found)

    @outages()
    async def claim(self, duration: timedelta) -> ErasureWork | None:
        """Return an erasure to go on with, which others leave alone for `duration`; None when none is due."""
        found = await self._erasures.find_one_and_update(
            {"state": RUNNING, "$expr": {"$lte": ["$due_at", "$$NOW"]}},
            [{"$set": {"due_at": _in(duration)}}],
            sort=[("due_at", ASCENDING)],
        )
        return None if found is None else ErasureWork(found["_id"], found["user_id"], found["late"])

    @outages()
    async def postpone(self, work: ErasureWork, delay: timedelta) -> None:
        """Let any worker go on with an erasure after `delay`."""
        await self._erasures.update_one({"_id": work.key, "state": RUNNING}, [{"$set": {"due_at": _in(delay)}}])

    async def delete_records(self, work: ErasureWork) -> None:
        """Delete all records of the user but the lease, and count them."""
        await self._records.delete(work.user_id, work.key)

    async def delete_lease(self, work: ErasureWork) -> bool:
        """Delete the user's place in the queue unless a worker holds the user; returns whether it is gone."""
        return await self._records.delete_lease(work.user_id, work.key)

    @outages()
    async def add(self, work: ErasureWork, kind: str, count: int) -> None:
        """Add to what is counted."""
        if count:
            await self._erasures.update_one({"_id": work.key}, {"$inc": {f"erased.{kind}": count}})

    async def finish(self, work: ErasureWork, now: datetime) -> bool:
        """Look for the last time, and forget the user's id; False when it is too early, or something is left."""

        async def end(transaction: Transaction) -> bool:
            if await self._records.any(work.user_id, transaction):
                return False
            finished = await self._erasures.update_one(
                {
                    "_id": work.key,
                    "state": RUNNING,
                    "late": work.late,
                    "$expr": {"$lte": ["$last_look_from", "$$NOW"]},
                },
                {
                    "$set": {"state": FINISHED, "finished_at": now},
                    "$unset": {"user_id": "", "due_at": "", "last_look_from": ""},
                },
                session=transaction,
            )
            if finished.matched_count:
                await self._control.update_one(CONTROL, {"$inc": {"open": -1}}, session=transaction)
            return finished.matched_count > 0

        return await in_transaction(self._database, end)


def _to_erasure(document: Document) -> Erasure:
    return Erasure(
        document["erasure_id"], document["requested_at"], document.get("finished_at"), dict(document["erased"])
    )


def _in(delay: timedelta) -> Document:
    return {"$dateAdd": {"startDate": "$$NOW", "unit": "millisecond", "amount": round(delay.total_seconds() * 1000)}}
