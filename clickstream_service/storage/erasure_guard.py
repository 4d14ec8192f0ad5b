"""Keeping what comes in for a user out while the user is erased, whichever replica it comes in at.

A writer looks before its write whether a user is being erased, and after it whether an erasure has begun since. If so,
the erasure may have looked through the user's records before they were all there: it is made to look again, even if it
was through. What a writer leaves that dies between its write and this second look was written within the grace for
which every erasure waits before it looks for the last time.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Collection

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.storage.database import Database

    Document = dict[str, Any]

RUNNING: Final = "running"
FINISHED: Final = "finished"
CONTROL: Final = {"_id": "control"}


@dataclass(frozen=True, slots=True)
class Watch:
    """What was seen before a write: how many erasures had begun, and which of the writer's users are being erased."""

    begun: int
    refused: frozenset[str]


class ErasureGuard:
    """The collection `erasures`, as writers of other collections see it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._erasures = database.erasures
        self._control = database.erasure_control
        self._secret = b""

    @outages()
    async def prepare(self) -> None:
        """Make the key of this deployment, and the count of erasures, unless they are there."""
        first = {"secret": os.urandom(32), "begun": 0, "open": 0}
        await self._control.update_one(CONTROL, {"$setOnInsert": first}, upsert=True)
        found = await self._control.find_one(CONTROL)
        assert found is not None  # noqa: S101 - upserted
        self._secret = bytes(found["secret"])

    def key(self, user_id: str) -> str:
        """Return what an erasure is found by: an HMAC, as whoever reads a plain hash can try ids until one fits."""
        return hmac.new(self._secret, user_id.encode(), hashlib.sha256).hexdigest()

    async def look(self) -> Document:
        """Return how many erasures have begun, and how many are open."""
        control = await self._control.find_one(CONTROL, {"begun": 1, "open": 1})
        assert control is not None  # noqa: S101 - prepared
        return control

    async def watch(self, user_ids: Collection[str], *, seen: Document | None = None) -> Watch:
        """Return what is to be known before something is written for these users.

        `seen` is what was looked at before, where that could be done beside something else.
        """
        control = await self.look() if seen is None else seen
        if not control["open"]:
            return Watch(control["begun"], frozenset())
        keys = {self.key(user_id): user_id for user_id in user_ids}
        running = {"_id": {"$in": list(keys)}, "state": RUNNING}
        found = self._erasures.find(running, {"_id": 1})
        return Watch(control["begun"], frozenset([keys[erasure["_id"]] async for erasure in found]))

    async def overtaken(self, watch: Watch, user_ids: Collection[str]) -> frozenset[str]:
        """Return the users whose erasure has begun since `watch`, and make it look for what was written meanwhile."""
        if (await self.look())["begun"] == watch.begun:
            return frozenset()
        keys = {self.key(user_id): user_id for user_id in user_ids}
        since = {"_id": {"$in": list(keys)}, "number": {"$gt": watch.begun}}
        found = [erasure["_id"] async for erasure in self._erasures.find(since, {"_id": 1})]
        for key in found:
            await self._look_again(key, keys[key])
        return frozenset(keys[key] for key in found)

    async def _look_again(self, key: str, user_id: str) -> None:
        async def reopen(transaction: Transaction) -> None:
            before = await self._erasures.find_one_and_update(
                {"_id": key},
                {
                    "$set": {"state": RUNNING, "user_id": user_id},
                    "$unset": {"finished_at": ""},
                    "$inc": {"late": 1},
                    "$currentDate": {"due_at": True},
                },
                session=transaction,
            )
            if before is not None and before["state"] == FINISHED:
                await self._control.update_one(CONTROL, {"$inc": {"open": 1}}, session=transaction)

        await in_transaction(self._database, reopen)
