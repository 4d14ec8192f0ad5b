"""Giving users other names, wherever they are in the database.

All of it can be broken off anywhere and begun again: what has its new name by then is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, DeleteMany, ReplaceOne, UpdateMany

from clickstream_service.storage.erasure_guard import CONTROL, FINISHED, RUNNING
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.storage.database import Database
    from clickstream_service.storage.erasure_guard import ErasureGuard
    from tideline.mongo.client import Collection

    Document = dict[str, Any]

USERS_AT_ONCE: Final = 500

_INDEXES: Final = {
    "sessions": "of_user_newest_first",
    "session_events": "of_user_oldest_first",
    "sessions_for_improvement": "of_user_by_state",
}


class Rekeying:
    """Renames users by `renamed`, a function that leaves new names as they are."""

    def __init__(self, database: Database, guard: ErasureGuard, renamed: Callable[[str], str]) -> None:
        self._database = database
        self._guard = guard
        self._renamed = renamed

    async def run(self) -> AsyncIterator[tuple[str, int]]:
        """Rename all users; yields how much was changed, by what it is, as it goes on."""
        for collection in (
            self._database.sessions,
            self._database.session_events,
            self._database.sessions_for_improvement,
        ):
            yield collection.name, await self._rename(collection)
        moved, merged = await self._leases()
        yield "user_leases", moved
        yield "erasures", await self._erasures()
        yield "users_merged", merged

    async def finished_receipts(self) -> int:
        """Count the receipts of users whose names are forgotten: they are found by their old names only."""
        async with outages():
            return await self._database.erasures.count_documents({"state": FINISHED})

    @outages()
    async def _rename(self, collection: Collection) -> int:
        last, renamed = "", 0
        while users := await self._users(collection, last):
            last = users[-1]
            changes = [
                UpdateMany({"user_id": old}, {"$set": {"user_id": new}}) for old, new in self._to_rename(users).items()
            ]
            if changes:
                renamed += (await collection.bulk_write(changes, ordered=False)).modified_count
        return renamed

    async def _users(self, collection: Collection, after: str) -> list[str]:
        """Return the next names in a collection: read from the index, as many as there are documents."""
        query, fields = {"user_id": {"$gt": after}}, {"_id": 0, "user_id": 1}
        cursor = collection.find(query, fields).sort("user_id", ASCENDING).hint(_INDEXES[collection.name])
        users: list[str] = []
        try:
            async for document in cursor:
                if not users or document["user_id"] != users[-1]:
                    if len(users) == USERS_AT_ONCE:
                        break
                    users.append(document["user_id"])
        finally:
            await cursor.close()
        return users

    def _to_rename(self, users: Sequence[str]) -> dict[str, str]:
        return {old: new for old in users if (new := self._renamed(old)) != old}

    async def _leases(self) -> tuple[int, int]:
        """Return how many users were given new names, and how many of them were known by these already."""
        leases = self._database.user_leases
        last, moved, merged = "", 0, 0
        while True:
            async with outages():
                found = leases.find({"_id": {"$gt": last}}, {"_id": 1}).sort("_id", ASCENDING).limit(USERS_AT_ONCE)
                users = [lease["_id"] for lease in await found.to_list(USERS_AT_ONCE)]
            if not users:
                return moved, merged
            last = users[-1]
            if names := self._to_rename(users):
                moved += len(names)
                merged += await in_transaction(self._database, self._move_leases(names))

    def _move_leases(self, names: dict[str, str]) -> Callable[[Transaction], Any]:
        leases = self._database.user_leases

        async def move(transaction: Transaction) -> int:
            found = leases.find({"_id": {"$in": [*names, *names.values()]}}, session=transaction)
            there = {lease["_id"]: lease async for lease in found}
            merged = 0
            for old, new in names.items():
                if old not in there:
                    continue
                other = there.get(new)
                merged += other is not None
                there[new] = {**there[old], "_id": new} if other is None else _merged_lease(there[old], other)
            writes: list[ReplaceOne[Document] | DeleteMany] = [
                ReplaceOne({"_id": new}, there[new], upsert=True) for new in there.keys() & set(names.values())
            ]
            await leases.bulk_write([*writes, DeleteMany({"_id": {"$in": list(names)}})], session=transaction)
            return merged

        return move

    async def _erasures(self) -> int:
        """Rename users in erasures that are under way: the others name nobody."""
        erasures = self._database.erasures
        async with outages():
            found = await erasures.find({"user_id": {"$exists": True}}, {"user_id": 1}).to_list(None)
        named = [(erasure["_id"], self._renamed(erasure["user_id"])) for erasure in found]
        moves = [(old, self._guard.key(user_id), user_id) for old, user_id in named]
        moves = [move for move in moves if move[0] != move[1]]
        for old, new, user_id in moves:
            await in_transaction(self._database, self._move_erasure(old, new, user_id))
        return len(moves)

    def _move_erasure(self, old: str, new: str, user_id: str) -> Callable[[Transaction], Any]:
        erasures, control = self._database.erasures, self._database.erasure_control

        async def move(transaction: Transaction) -> None:
            erasure = await erasures.find_one({"_id": old}, session=transaction)
            other = await erasures.find_one({"_id": new}, session=transaction)
            if erasure is None:
                return
            if other is not None and other["state"] == RUNNING:
                erasure = _merged_erasure(erasure, other)
                await control.update_one(CONTROL, {"$inc": {"open": -1}}, session=transaction)
            moved = {**erasure, "_id": new, "user_id": user_id}
            await erasures.replace_one({"_id": new}, moved, upsert=True, session=transaction)
            await erasures.delete_one({"_id": old}, session=transaction)

        return move


def _merged_lease(one: Document, other: Document) -> Document:
    """Return the lease of a user who had two names: nobody holds it, and the next run learns from what both did."""
    due_at = min(one["due_at"], other["due_at"])
    return {
        "_id": other["_id"],
        "pending": True,
        "due_at": due_at,
        "available_at": due_at,
        # Above all that was queued, and all that was leased, under either name.
        "generation": max(one["generation"], other["generation"]) + 1,
        "leased_generation": max(one["leased_generation"], other["leased_generation"]),
        "fence": max(one["fence"], other["fence"]) + 1,
        "attempts": max(one["attempts"], other["attempts"]),
    }


def _merged_erasure(one: Document, other: Document) -> Document:
    """Return the erasure of a user who is being erased under two names."""
    kinds = one["erased"].keys() | other["erased"].keys()
    return {
        **other,
        "requested_at": min(one["requested_at"], other["requested_at"]),
        "number": max(one["number"], other["number"]),
        "last_look_from": max(one["last_look_from"], other["last_look_from"]),
        "late": one["late"] + other["late"],
        "erased": {kind: one["erased"].get(kind, 0) + other["erased"].get(kind, 0) for kind in kinds},
    }
