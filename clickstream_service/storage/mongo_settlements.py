"""What became of leased feedback, in MongoDB: the sessions and the leases of some users in one transaction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pymongo import UpdateMany

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
from clickstream_service.storage.group_commit import GroupCommit, Limits
from clickstream_service.storage.transactions import in_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from motor.motor_asyncio import AsyncIOMotorClientSession as Transaction

    from clickstream_service.domain.feedback import FeedbackRules
    from clickstream_service.storage.database import Database
    from tideline.mongo.client import Collection, Document

    Choose = Callable[[QueuedSession], FeedbackOutcome | None]

_AT_ONCE: Final = timedelta(0)
_LIMITS: Final = Limits(items_per_write=64, bytes_per_write=10_000, waiting_items=10_000, waiting_bytes=10_000_000)
"""Users, and sessions in the place of bytes: whoever has more of them than fit is settled alone."""
_PARKED: Final = 1_000
"""How many sessions to reckon with where nobody has said how many there are."""
_IDS_AN_UPDATE: Final = 1_000
_FIELDS: Final = {"fence": 1, "owner": 1, "settled": 1, "generation": 1, "leased_generation": 1}


@dataclass(frozen=True, slots=True)
class _End:
    """The wish to end a lease."""

    user_id: str
    fence: int
    choose: Choose
    sessions: int


class MongoSettlements:
    """Ends leases; those that are to end at the same time share a transaction, since its costs are much the same."""

    def __init__(self, database: Database, rules: FeedbackRules) -> None:
        self._database = database
        self._queue: Collection = database.sessions_for_improvement
        self._leases: Collection = database.user_leases
        self._rules = rules
        self._ends: GroupCommit[_End, Settlement | LeaseLost] = GroupCommit(
            self._end_all, lambda end: 1 + end.sessions, _LIMITS, writers=2, name="settlements"
        )

    async def settle(self, user_id: str, fence: int, outcomes: Iterable[FeedbackOutcome]) -> Settlement:
        """Record the outcomes and free the user; raises `LeaseLost` when another worker holds the user by now.

        A lease that was settled before gets the same answer, and nothing is recorded again.
        """
        by_id = {outcome.session_id: outcome for outcome in outcomes}
        return await self._end(_End(user_id, fence, lambda session: by_id.get(session.session_id), len(by_id)))

    async def park(self, user_id: str, fence: int) -> Settlement:
        """Park all that waits of a leased user, and free the user; raises `LeaseLost`."""
        return await self._end(_End(user_id, fence, _park, _PARKED))

    async def close(self) -> None:
        """Record what waits."""
        await self._ends.settled()

    async def _end(self, end: _End) -> Settlement:
        [ended] = await self._ends.submit([end], patient=True)
        if isinstance(ended, LeaseLost):
            raise ended
        return ended

    async def _end_all(self, ends: Sequence[_End]) -> list[Settlement | LeaseLost]:
        users = {"$in": sorted({end.user_id for end in ends})}

        async def work(transaction: Transaction) -> list[Settlement | LeaseLost]:
            found = await self._leases.find({"_id": users}, _FIELDS, session=transaction).to_list(None)
            leases = {lease["_id"]: lease for lease in found}
            answers = [_known(end, leases.get(end.user_id)) for end in ends]
            # Whoever asks twice at once asks under the same fence, and gets the answer to what was asked first.
            held = {end.user_id: end for end, known in zip(reversed(ends), reversed(answers), strict=True) if not known}
            settlements = await self._settle(held, leases, transaction) if held else {}
            return [known or settlements[end.user_id] for end, known in zip(ends, answers, strict=True)]

        return await in_transaction(self._database, work)

    async def _settle(
        self, ends: Mapping[str, _End], leases: Mapping[str, Document], transaction: Transaction
    ) -> dict[str, Settlement]:
        """End leases that are held; returns by user what that led to."""
        sessions: defaultdict[str, list[QueuedSession]] = defaultdict(list)
        for row in await self._queue.find({"user_id": {"$in": [*ends]}}, session=transaction).to_list(None):
            sessions[row["user_id"]].append(_session(row))
        settlements: dict[str, Settlement] = {}
        changed: list[QueuedSession] = []
        free: defaultdict[tuple[Settlement, timedelta], list[str]] = defaultdict(list)
        for user_id, end in ends.items():
            lease, before = leases[user_id], sessions[user_id]
            seen = lease["leased_generation"]
            after = [self._settled(session, end.choose, seen) for session in before]
            changed += [new for old, new in zip(before, after, strict=True) if new != old]
            settlement, delay = self._settlement(before, after, changed_since=lease["generation"] != seen)
            settlements[user_id] = settlement
            free[settlement, delay].append(user_id)
        if changed:
            await self._queue.bulk_write([*_changes(changed)], ordered=False, session=transaction)
        updates = [UpdateMany({"_id": {"$in": ids}}, lease_updates.settle(*ended)) for ended, ids in free.items()]
        await self._leases.bulk_write(updates, ordered=False, session=transaction)
        return settlements

    def _settled(self, session: QueuedSession, choose: Choose, seen: int) -> QueuedSession:
        """Return what becomes of a session, unless it was queued again behind the worker's back, or does not count."""
        if session.generation > seen or session.state is FeedbackState.IRRELEVANT:
            return session
        outcome = choose(session)
        return session if outcome is None else session.settled(outcome, self._rules)

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


def _known(end: _End, lease: Document | None) -> Settlement | LeaseLost | None:
    """Return the answer to a wish that changes nothing; None while the lease is held."""
    if lease is None or lease["fence"] != end.fence:
        return LeaseLost("another worker has leased this user since", field="lease.fence")
    settled: Document = lease.get("settled", {})
    if settled.get("fence") == end.fence:
        return Settlement(settled["pending_again"], settled["parked"])
    if "owner" not in lease:
        return LeaseLost("the lease was given back", field="lease.fence")
    return None


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


def _changes(sessions: Iterable[QueuedSession]) -> Iterator[UpdateMany]:
    """Return updates that record what became of sessions; most of them become the same."""
    alike: defaultdict[tuple[Any, ...], list[str]] = defaultdict(list)
    for each in sessions:
        alike[each.state, each.failures, each.settlements, each.reason, each.detail].append(each.session_id)
    for values, ids in alike.items():
        recorded = dict(zip(("state", "failures", "settlements", "reason", "detail"), values, strict=True))
        change = {"$set": recorded, "$currentDate": {"settled_at": True}}
        for first in range(0, len(ids), _IDS_AN_UPDATE):
            yield UpdateMany({"_id": {"$in": ids[first : first + _IDS_AN_UPDATE]}}, change)
