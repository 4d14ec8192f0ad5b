"""Users as workers hold them, in MongoDB; see `lease_updates` for what the fields mean."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bson import ObjectId
from pymongo import ASCENDING, UpdateOne

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
from clickstream_service.storage.hydration import GROUP, GROUP_BYTES, groups, hydrated
from clickstream_service.storage.indexes import OF_USER_OLDEST_FIRST
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import timedelta

    from clickstream_service.domain.session import SessionWithEvents
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

_HELD: Final = {"$exists": True}
_BY_ID: Final = "_id_"
"""Named, or the database weighs another index for each user."""
_SIZED: Final = 1_000
"""How many sessions are looked at, at most, to learn which users have few."""
BEFORE_ALL: Final = datetime.fromtimestamp(0, UTC)


class MongoLeases:
    """Who holds which user, and what a worker gets to see of one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: Collection = database.sessions
        self._queue: Collection = database.sessions_for_improvement
        self._leases: Collection = database.user_leases

    @outages()
    async def lease(self, owner: str, duration: timedelta, by: datetime | None, limit: int) -> list[Lease]:
        """Lease up to `limit` users, those first who could have been leased for the longest time, and that `by` a time.

        Empty only when there is nobody: where others were faster everywhere, those are tried who come next.
        """
        available = lease_updates.AVAILABLE if by is None else {"pending": True, "available_at": {"$lte": by}}
        while True:
            longest_first = self._leases.find(available, {"fence": 1}).sort("available_at", ASCENDING)
            wanted = await longest_first.limit(limit).to_list(limit)
            if not wanted:
                return []
            call = ObjectId()
            change = lease_updates.lease(owner, duration, call)
            # One by one, unlike a single update of many: the driver repeats these, safely, when a connection breaks.
            # The fence lets one of those win who want a user; it is not enough, as a settlement does not change it.
            await self._leases.bulk_write(
                [
                    UpdateOne({"_id": each["_id"], "fence": each["fence"], **available}, change, hint=_BY_ID)
                    for each in wanted
                ],
                ordered=False,
            )
            fields = {"fence": 1, "leased_at": 1, "available_at": 1, "attempts": 1}
            ours = {"_id": {"$in": [each["_id"] for each in wanted]}, "call": call, "owner": _HELD}
            won = {each["_id"]: each for each in await self._leases.find(ours, fields).to_list(limit)}
            # One that expired at once may be another worker's by now, and of a version that does not say so in `call`.
            held = [won[each["_id"]] for each in wanted if won.get(each["_id"], each)["fence"] == each["fence"] + 1]
            if held:
                return [
                    Lease(each["_id"], each["fence"], each["leased_at"], each["available_at"], each["attempts"])
                    for each in held
                ]

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

    async def sessions(
        self, user_ids: Sequence[str], events_limit: int
    ) -> AsyncGenerator[FeedbackSession | None, None]:
        """Yield the submitted sessions of each user that are not irrelevant, oldest first, each with its first events.

        None follows the last one of each user. Users in a row are read together where they have few sessions.
        """
        async with outages():
            for users in await self._runs(user_ids):
                found = self._sessions.find(_counting(users), batch_size=GROUP).sort(OF_USER_OLDEST_FIRST)
                if len(users) == 1:
                    async for group in groups(found):
                        rows = await self._rows(group)
                        async for content in hydrated(self._database, _queued(group, rows), events_limit):
                            yield _with_state(content, rows)
                    yield None
                    continue
                together = await found.to_list(None)
                rows = await self._rows(together)
                of_user: defaultdict[str, list[Document]] = defaultdict(list)
                for session in _queued(together, rows):
                    of_user[session["user_id"]].append(session)
                in_turn = [session for user_id in users for session in of_user[user_id]]
                contents = hydrated(self._database, in_turn, events_limit)
                for user_id in users:
                    # Not one more: what cannot be read of the next user is no fault of this one.
                    for _ in of_user[user_id]:
                        yield _with_state(await anext(contents), rows)
                    yield None

    async def _runs(self, user_ids: Sequence[str]) -> list[list[str]]:
        """Put users in a row together whose sessions fit into memory easily."""
        if len(user_ids) == 1:
            return [[*user_ids]]
        found = self._sessions.find(_counting(user_ids), {"_id": 0, "user_id": 1, "nbytes": 1}).sort(
            OF_USER_OLDEST_FIRST
        )
        rows = await found.limit(_SIZED).to_list(_SIZED)
        sizes = dict.fromkeys(user_ids, (0, 0))
        for row in rows:
            count, nbytes = sizes[row["user_id"]]
            sizes[row["user_id"]] = (count + 1, nbytes + row["nbytes"])
        # Where the rows end, nobody knows how many more there are.
        unknown = {user_id for user_id in user_ids if user_id >= rows[-1]["user_id"]} if len(rows) == _SIZED else set()
        runs: list[list[str]] = []
        room, space = 0, 0
        for user_id in user_ids:
            count, nbytes = (GROUP + 1, 0) if user_id in unknown else sizes[user_id]
            room, space = room - count, space - nbytes
            if not runs or room < 0 or space < 0:
                runs.append([])
                room, space = GROUP - count, GROUP_BYTES - nbytes
            runs[-1].append(user_id)
        return runs

    async def _rows(self, sessions: Sequence[Document]) -> dict[str, Document]:
        ids = [session["_id"] for session in sessions]
        found = self._queue.find({"_id": {"$in": ids}}, {"state": 1, "failures": 1})
        return {row["_id"]: row for row in await found.to_list(None)}

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


def _counting(user_ids: Sequence[str]) -> Document:
    return {"user_id": {"$in": list(user_ids)}, "submitted": True, "irrelevant": {"$exists": False}}


def _queued(sessions: Sequence[Document], rows: Mapping[str, Document]) -> list[Document]:
    """Return the sessions that are still in the queue: what is missing there was erased a moment ago."""
    return [session for session in sessions if session["_id"] in rows]


def _with_state(content: SessionWithEvents, rows: Mapping[str, Document]) -> FeedbackSession:
    row = rows[content.session.session_id]
    return FeedbackSession(content, FeedbackState(row["state"]), row["failures"])


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
