"""Users as workers hold them, in MongoDB; see `lease_updates` for what the fields mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, ReturnDocument, UpdateOne

from clickstream_service.domain.feedback import (
    WAITING,
    FeedbackCounts,
    FeedbackSession,
    FeedbackState,
    Lease,
    PendingUser,
    Renewal,
)
from clickstream_service.storage import lease_updates
from clickstream_service.storage.hydration import GROUP, groups, hydrated
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import timedelta

    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

_HELD: Final = {"$exists": True}
BEFORE_ALL: Final = datetime.fromtimestamp(0, UTC)


class MongoLeases:
    """Who holds which user, and what a worker gets to see of one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: Collection = database.sessions
        self._queue: Collection = database.sessions_for_improvement
        self._leases: Collection = database.user_leases

    @outages()
    async def lease(self, owner: str, duration: timedelta, by: datetime | None) -> Lease | None:
        """Lease the user who could have been leased for the longest time, and that `by` a time; None without one."""
        leased = await self._leases.find_one_and_update(
            lease_updates.AVAILABLE if by is None else {"pending": True, "available_at": {"$lte": by}},
            lease_updates.lease(owner, duration),
            sort=[("available_at", ASCENDING)],
            return_document=ReturnDocument.AFTER,
        )
        if leased is None:
            return None
        return Lease(leased["_id"], leased["fence"], leased["leased_at"], leased["available_at"], leased["attempts"])

    @outages()
    async def renew(self, leases: Sequence[tuple[str, int]], duration: timedelta) -> Renewal:
        """Hold users for `duration` from now, each with the fence it was leased under."""
        await self._leases.bulk_write(
            [UpdateOne(_held(*lease), lease_updates.renew(duration)) for lease in leases], ordered=False
        )
        # Whoever is held under this fence was so a moment ago, too: neither comes back once it is gone.
        found = self._leases.find(
            {"_id": {"$in": [user_id for user_id, _ in leases]}, "owner": _HELD}, {"fence": 1, "available_at": 1}
        )
        held = {(lease["_id"], lease["fence"]): lease["available_at"] async for lease in found}
        kept = [held[lease] for lease in leases if lease in held]
        return Renewal(min(kept, default=None), tuple(lease for lease in leases if lease not in held))

    @outages()
    async def release(self, leases: Sequence[tuple[str, int]]) -> int:
        """Free users that are held under these fences; returns how many were."""
        changes = [UpdateOne(_held(*lease), lease_updates.GIVE_BACK) for lease in leases]
        return (await self._leases.bulk_write(changes, ordered=False)).modified_count

    @outages()
    async def release_all(self, owner: str) -> int:
        """Free all users that a worker holds; returns how many there were."""
        # The time is named for the sake of the index.
        held = {"owner": owner, "available_at": {"$gt": BEFORE_ALL}}
        return (await self._leases.update_many(held, lease_updates.GIVE_BACK)).modified_count

    @outages()
    async def free(self, lease: Lease) -> None:
        """Free a user unless another lease holds it by now; the attempt counts."""
        await self._leases.update_one(_held(lease.user_id, lease.fence), lease_updates.FREE)

    async def sessions(self, user_id: str, events_limit: int) -> AsyncGenerator[FeedbackSession, None]:
        """Yield the submitted sessions of a user that are not irrelevant, oldest first, each with its first events."""
        counting = {"user_id": user_id, "submitted": True, "irrelevant": {"$exists": False}}
        async with outages():
            found = self._sessions.find(counting, batch_size=GROUP)
            async for group in groups(found.sort([("created_at", ASCENDING), ("_id", ASCENDING)])):
                ids = {"$in": [session["_id"] for session in group]}
                rows = {row["_id"]: row async for row in self._queue.find({"_id": ids}, {"state": 1, "failures": 1})}
                async for content in hydrated(self._database, group, events_limit):
                    row = rows[content.session.session_id]
                    yield FeedbackSession(content, FeedbackState(row["state"]), row["failures"])

    @outages()
    async def pending(self, after: tuple[datetime, str] | None, limit: int) -> list[PendingUser]:
        """Return users who wait, after (due_at, user id), longest waiting first."""
        query: Document = {"pending": True}
        if after is not None:
            at, user_id = after
            query |= {"due_at": {"$gte": at}, "$nor": [{"due_at": at, "_id": {"$lte": user_id}}]}
        found = self._leases.find(query).sort([("due_at", ASCENDING), ("_id", ASCENDING)]).limit(limit)
        leases = await found.to_list(limit)
        waiting = await self._waiting([lease["_id"] for lease in leases])
        return [_pending(lease, waiting.get(lease["_id"], 0)) for lease in leases]

    @outages()
    async def counts(self) -> FeedbackCounts:
        """Count users who wait, users who are held now, and sessions by state."""
        held_now = {"owner": _HELD, "$expr": {"$gt": ["$available_at", "$$NOW"]}}
        longest = await self._leases.find_one({"pending": True}, {"due_at": 1}, sort=[("due_at", ASCENDING)])
        return FeedbackCounts(
            pending_users=await self._leases.count_documents({"pending": True}),
            leased_users=await self._leases.count_documents(held_now),
            sessions={state: await self._queue.count_documents({"state": state}) for state in FeedbackState},
            oldest_due_at=None if longest is None else longest["due_at"],
        )

    async def _waiting(self, user_ids: Sequence[str]) -> dict[str, int]:
        """Count the sessions that wait, by user."""
        waiting = {"user_id": {"$in": list(user_ids)}, "state": {"$in": sorted(WAITING)}}
        by_user: list[dict[str, Any]] = [{"$match": waiting}, {"$group": {"_id": "$user_id", "count": {"$sum": 1}}}]
        return {group["_id"]: group["count"] async for group in self._queue.aggregate(by_user)}


def _held(user_id: str, fence: int) -> Document:
    return {"_id": user_id, "fence": fence, "owner": _HELD}


def _pending(lease: Document, waiting: int) -> PendingUser:
    owner = lease.get("owner", "")
    return PendingUser(
        user_id=lease["_id"],
        due_at=lease["due_at"],
        pending_sessions=waiting,
        owner=owner,
        lease_expires_at=lease["available_at"] if owner else None,
        attempts=lease["attempts"],
    )
