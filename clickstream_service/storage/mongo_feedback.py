"""The queue of submitted sessions in MongoDB: `sessions_for_improvement`, and the users in it: `user_leases`.

Whatever queues a session raises the `generation` of its user in the same transaction. A lease notes the generation
that it has seen, so that a settlement never hides what came in since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pymongo import ASCENDING, UpdateMany, UpdateOne

from clickstream_service.domain.feedback import FeedbackState, Submission
from clickstream_service.storage import lease_updates
from clickstream_service.storage.group_commit import GroupCommit, Limits
from clickstream_service.storage.transactions import in_transaction
from tideline.mongo.outages import outages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

_AT_ONCE: Final = 1_000
"""How many users are queued in one transaction."""
_LIMITS: Final = Limits(items_per_write=200, bytes_per_write=200, waiting_items=10_000, waiting_bytes=10_000)


class MongoFeedback:
    """What is to be learned from."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: Collection = database.sessions
        self._queue: Collection = database.sessions_for_improvement
        self._leases: Collection = database.user_leases
        self._submissions: GroupCommit[str, Submission] = GroupCommit(
            self._submit, lambda _: 1, _LIMITS, name="submissions"
        )

    async def submit(self, session_ids: Sequence[str]) -> list[Submission]:
        """Queue the sessions that may be learned from, and say for each what became of it.

        What concurrent callers submit shares a transaction: one user's sessions would get in each other's way.
        """
        return await self._submissions.submit(session_ids)

    async def close(self) -> None:
        """Write what waits."""
        await self._submissions.settled()

    async def requeue_in(self, session_ids: Sequence[str], transaction: Transaction) -> None:
        """Queue sessions again as part of a transaction; those that were never submitted are passed over.

        A session that is irrelevant by now leaves the queue; its user is queued all the same, to unlearn it.
        """
        ids = {"$in": list(session_ids)}
        gone = {"_id": ids, "irrelevant": {"$exists": True}}
        irrelevant = {session["_id"] async for session in self._sessions.find(gone, {"_id": 1}, session=transaction)}
        rows = [
            (row, FeedbackState.IRRELEVANT if row["_id"] in irrelevant else FeedbackState.PENDING)
            async for row in self._queue.find({"_id": ids}, {"user_id": 1, "state": 1}, session=transaction)
        ]
        # What was unlearned once need not be unlearned again.
        rows = [(row, state) for row, state in rows if not row["state"] == state == FeedbackState.IRRELEVANT]
        if rows:
            generations = await self._queue_users({row["user_id"] for row, _ in rows}, transaction)
            changes = [
                UpdateOne({"_id": row["_id"]}, _queued(state, generations[row["user_id"]])) for row, state in rows
            ]
            await self._queue.bulk_write(changes, ordered=False, session=transaction)

    async def requeue_users(self, user_ids: Iterable[str]) -> int:
        """Queue users again, with their parked sessions; returns how many of them ever submitted anything."""
        distinct, queued = sorted(set(user_ids)), 0
        for first in range(0, len(distinct), _AT_ONCE):
            queued += await self._requeue_some(distinct[first : first + _AT_ONCE])
        return queued

    @outages()
    async def requeue_everybody(self) -> int:
        """Queue all who ever submitted anything, some at a time; returns how many these are."""
        queued, behind = 0, ""
        while True:
            found = self._leases.find({"_id": {"$gt": behind}}, {"_id": 1}).sort("_id", ASCENDING).limit(_AT_ONCE)
            user_ids = [lease["_id"] for lease in await found.to_list(_AT_ONCE)]
            if not user_ids:
                return queued
            queued, behind = queued + await self._requeue_some(user_ids), user_ids[-1]

    async def _requeue_some(self, user_ids: Sequence[str]) -> int:
        users = {"$in": list(user_ids)}

        async def work(transaction: Transaction) -> int:
            queued = await self._leases.update_many({"_id": users}, lease_updates.QUEUE, session=transaction)
            parked = {"user_id": users, "state": FeedbackState.PARKED}
            stuck = await self._queue.distinct("user_id", parked, session=transaction)
            generations = await self._generations(stuck, transaction)
            if stuck:
                changes = [
                    UpdateMany(
                        {"user_id": user_id, "state": FeedbackState.PARKED}, _queued(FeedbackState.PENDING, generation)
                    )
                    for user_id, generation in generations.items()
                ]
                await self._queue.bulk_write(changes, ordered=False, session=transaction)
            return queued.matched_count

        return await in_transaction(self._database, work)

    async def _submit(self, session_ids: Sequence[str]) -> list[Submission]:
        async def work(transaction: Transaction) -> list[Submission]:
            fields = {"user_id": 1, "submitted": 1, "irrelevant": 1}
            found = self._sessions.find({"_id": {"$in": list(session_ids)}}, fields, session=transaction)
            sessions = {session["_id"]: session async for session in found}
            outcomes = {session_id: _submission(sessions.get(session_id)) for session_id in session_ids}
            new = [sessions[session_id] for session_id, outcome in outcomes.items() if outcome is Submission.SUBMITTED]
            if new:
                await self._queue_new(new, transaction)
            return [_take(outcomes, session_id) for session_id in session_ids]

        return await in_transaction(self._database, work)

    async def _queue_new(self, sessions: Sequence[Document], transaction: Transaction) -> None:
        generations = await self._queue_users({session["user_id"] for session in sessions}, transaction)
        ids = {"$in": [session["_id"] for session in sessions]}
        submitted = {"$set": {"submitted": True}, "$unset": {"check_at": ""}}
        await self._sessions.update_many({"_id": ids}, submitted, session=transaction)
        changes = [
            UpdateOne(
                {"_id": session["_id"]},
                {
                    "$setOnInsert": {"user_id": session["user_id"], "settlements": 0},
                    "$currentDate": {"submitted_at": True},
                    **_queued(FeedbackState.PENDING, generations[session["user_id"]]),
                },
                upsert=True,
            )
            for session in sessions
        ]
        await self._queue.bulk_write(changes, ordered=False, session=transaction)

    async def _queue_users(self, user_ids: Iterable[str], transaction: Transaction) -> dict[str, int]:
        """Queue the users, known or not, and return the generation that each has now."""
        ordered = sorted(user_ids)
        changes = [UpdateOne({"_id": user_id}, lease_updates.QUEUE, upsert=True) for user_id in ordered]
        await self._leases.bulk_write(changes, ordered=False, session=transaction)
        return await self._generations(ordered, transaction)

    async def _generations(self, user_ids: Sequence[str], transaction: Transaction) -> dict[str, int]:
        found = self._leases.find({"_id": {"$in": list(user_ids)}}, {"generation": 1}, session=transaction)
        return {lease["_id"]: lease["generation"] async for lease in found}


def _submission(session: Document | None) -> Submission:
    if session is None:
        return Submission.UNKNOWN
    if "irrelevant" in session:
        return Submission.IRRELEVANT
    if not session["user_id"]:
        return Submission.WITHOUT_USER
    return Submission.SUBMITTED_BEFORE if session["submitted"] else Submission.SUBMITTED


def _take(outcomes: dict[str, Submission], session_id: str) -> Submission:
    """Return the outcome of a session; of those who submitted it at once, one did it and the others come after."""
    outcome = outcomes[session_id]
    if outcome is Submission.SUBMITTED:
        outcomes[session_id] = Submission.SUBMITTED_BEFORE
    return outcome


def _queued(state: FeedbackState, generation: int) -> dict[str, Any]:
    return {"$set": {"state": state, "generation": generation, "failures": 0, "reason": "", "detail": ""}}
