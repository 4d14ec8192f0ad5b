"""What became of leased feedback, in MongoDB: the sessions and the lease of a user in one transaction."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pymongo import UpdateOne

from clickstream_service.domain.errors import LeaseLost
from clickstream_service.domain.feedback import (
    LEASE_EXPIRED,
    WAITING,
    FeedbackOutcome,
    FeedbackState,
    QueuedSession,
    Settlement,
)
from clickstream_service.storage import lease_updates
from clickstream_service.storage.transactions import in_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.domain.feedback import FeedbackRules
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

    Choose = Callable[[QueuedSession], FeedbackOutcome | None]

_AT_ONCE: Final = timedelta(0)


class MongoSettlements:
    """Ends leases."""

    def __init__(self, database: Database, rules: FeedbackRules) -> None:
        self._database = database
        self._queue: Collection = database.sessions_for_improvement
        self._leases: Collection = database.user_leases
        self._rules = rules

    async def settle(self, user_id: str, fence: int, outcomes: Iterable[FeedbackOutcome]) -> Settlement:
        """Record the outcomes and free the user; raises `LeaseLost` when another worker holds the user by now.

        A lease that was settled before gets the same answer, and nothing is recorded again.
        """
        by_id = {outcome.session_id: outcome for outcome in outcomes}
        return await self._end(user_id, fence, lambda session: by_id.get(session.session_id))

    async def park(self, user_id: str, fence: int) -> Settlement:
        """Park all that waits of a leased user, and free the user; raises `LeaseLost`."""
        return await self._end(user_id, fence, _park)

    async def _end(self, user_id: str, fence: int, choose: Choose) -> Settlement:
        async def work(transaction: Transaction) -> Settlement:
            lease = await self._leases.find_one({"_id": user_id}, session=transaction)
            if lease is None or lease["fence"] != fence:
                raise LeaseLost("another worker has leased this user since", field="lease.fence")
            settled: Document = lease.get("settled", {})
            if settled.get("fence") == fence:
                return Settlement(settled["pending_again"], settled["parked"])
            if "owner" not in lease:
                raise LeaseLost("the lease was given back", field="lease.fence")
            seen = lease["leased_generation"]
            before = [_session(row) async for row in self._queue.find({"user_id": user_id}, session=transaction)]
            after = [self._settled(session, choose, seen) for session in before]
            await self._record(before, after, transaction)
            settlement, delay = self._settlement(before, after, changed_since=lease["generation"] != seen)
            change = lease_updates.settle(fence, settlement, delay)
            await self._leases.update_one({"_id": user_id}, change, session=transaction)
            return settlement

        return await in_transaction(self._database, work)

    def _settled(self, session: QueuedSession, choose: Choose, seen: int) -> QueuedSession:
        """Return what becomes of a session, unless it was queued again behind the worker's back, or does not count."""
        if session.generation > seen or session.state is FeedbackState.IRRELEVANT:
            return session
        outcome = choose(session)
        return session if outcome is None else session.settled(outcome, self._rules)

    async def _record(
        self, before: Sequence[QueuedSession], after: Sequence[QueuedSession], transaction: Transaction
    ) -> None:
        changes = [
            UpdateOne({"_id": new.session_id}, _change(new))
            for old, new in zip(before, after, strict=True)
            if new != old
        ]
        if changes:
            await self._queue.bulk_write(changes, ordered=False, session=transaction)

    def _settlement(
        self, before: Sequence[QueuedSession], after: Sequence[QueuedSession], *, changed_since: bool
    ) -> tuple[Settlement, timedelta]:
        """Return what the settlement led to, and after which time the user may be leased again."""
        waiting = [session.failures for session in after if session.state in WAITING]
        parked = sum(
            new.state is FeedbackState.PARKED and old.state is not new.state
            for old, new in zip(before, after, strict=True)
        )
        delay = _AT_ONCE if changed_since else self._rules.backoff_after(max(waiting, default=0))
        return Settlement(changed_since or bool(waiting), parked), delay


def _park(session: QueuedSession) -> FeedbackOutcome | None:
    if session.state not in WAITING:
        return None
    return FeedbackOutcome(session.session_id, FeedbackState.PARKED, LEASE_EXPIRED)


def _session(row: Document) -> QueuedSession:
    return QueuedSession(
        session_id=row["_id"],
        state=FeedbackState(row["state"]),
        failures=row["failures"],
        generation=row["generation"],
        settlements=row["settlements"],
        reason=row["reason"],
        detail=row["detail"],
    )


def _change(session: QueuedSession) -> dict[str, Any]:
    recorded = {
        "state": session.state,
        "failures": session.failures,
        "settlements": session.settlements,
        "reason": session.reason,
        "detail": session.detail,
    }
    return {"$set": recorded, "$currentDate": {"settled_at": True}}
