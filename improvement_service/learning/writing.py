"""Writing users' copies, and settling what became of their sessions.

Two workers never mix their writes of one user for good, although Milvus knows no leases. A worker writes only under a
lease that it holds as far as it knows, claims the user's fence before and looks at it again after. What can still
happen is that it is stopped between the claim and the write for longer than its lease (SIGSTOP, a machine that swaps),
that another worker takes the user over, and that the first one then wakes up and writes what it had computed from fewer
sessions. It finds the higher fence after its write, and queues the user again: copies are a pure function of the
sessions, so the next run puts them right. Its settlement is refused in any case.

A user who is erased meanwhile is forgotten once more after the write: nobody would put that right.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from improvement_service.domain.errors import CollectionNotFound
from improvement_service.domain.feedback import Reason, State
from improvement_service.domain.run import Stage
from tideline.errors import DependencyUnavailable, TidelineError
from tideline.rpc import logs, tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from improvement_service.domain.feedback import Lease
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.run import Tally
    from improvement_service.learning.leases import Leases
    from improvement_service.learning.moved_user import MovedUser
    from improvement_service.learning.ports import Copies, Definitions, Feedback, Fences, Forgetting, Versions

_log = structlog.get_logger(__name__)

SETTLED_AT_ONCE: Final = 64
SETTLED_IN_TRACES: Final = 32
FAILURES_OF_AN_OUTAGE: Final = 3
"""After so many users in a row whose writes the database did not answer, the others of the chunk are not tried."""


@dataclass(frozen=True)
class Written:
    """Users whose copies were written, or could not be."""

    users: Sequence[MovedUser]
    """Those that are still ours, the failed ones among them."""
    by_index: Sequence[tuple[SearchIndex, Sequence[MovedUser]]]
    claimed: Sequence[Lease]


class Writer:
    """Writes and settles users, some at a time."""

    def __init__(
        self,
        definitions: Definitions,
        vectors: Copies,
        versions: Versions,
        fences: Fences,
        feedback: Feedback,
        *,
        forgetting: Forgetting,
    ) -> None:
        self._definitions = definitions
        self._vectors = vectors
        self._versions = versions
        self._fences = fences
        self._feedback = feedback
        self._forgetting = forgetting

    async def write(self, users: Sequence[MovedUser], leases: Leases, tally: Tally) -> Written:
        """Make what was computed the users' copies. A failure is that user's alone.

        Raises `DependencyUnavailable` when our own database does not answer.
        """
        searches = (session.trace for user in users for session in user.feedback.sessions)
        with tally.timing(Stage.UPSERT), tracing.span("upsert", kept=searches):
            return await self._write(users, leases, tally)

    async def confirm(self, written: Written, leases: Leases, tally: Tally) -> list[MovedUser]:
        """Let searches see what was written, where nothing has changed meanwhile; returns the users to settle.

        Raises as `write` does.
        """
        with tally.timing(Stage.UPSERT), tracing.span("confirm", alone=len(written.users) > SETTLED_IN_TRACES):
            for index, concerned in written.by_index:
                written_until = await self._check_originals(index, concerned)
                learned = [user.lease.user_id for user in concerned if not user.failed]
                await self._versions.bump(index.name, learned, written_until)
            confirmed = await self._confirm(written.users, leases, tally)
            await self._take_back(written.claimed)
        return confirmed

    async def settle(self, users: Sequence[MovedUser], leases: Leases, tally: Tally) -> None:
        """Say what became of users who were written; a failure is that user's alone.

        Raises `DependencyUnavailable` when the clickstream service answers for nobody.
        """
        # Where there are many, each one in a trace would be too much of it.
        with tally.timing(Stage.SETTLE), tracing.span("settle", alone=len(users) > SETTLED_IN_TRACES):
            turn = asyncio.Semaphore(SETTLED_AT_ONCE)
            failures = await asyncio.gather(*(self._settle(user, leases, tally, turn) for user in users))
        unanswered = [failure for failure in failures if isinstance(failure, DependencyUnavailable)]
        if unanswered and len(unanswered) == len(users):
            raise unanswered[0]

    async def _write(self, users: Sequence[MovedUser], leases: Leases, tally: Tally) -> Written:
        held = [user for user in users if leases.holds(user.lease)]
        claimed = await self._fences.claim({user.lease: user.copies for user in held if not user.failed})
        ours = [user for user in held if user.failed or user.lease in claimed]
        _lose(users, ours, leases, tally)
        by_collection: dict[str, list[MovedUser]] = defaultdict(list)
        for user in ours:
            # Collections without a session that counts any more are written too: with nothing.
            for name in sorted(claimed.get(user.lease, ())):
                by_collection[name].append(user)
        by_index: list[tuple[SearchIndex, list[MovedUser]]] = []
        for name, concerned in by_collection.items():
            try:
                index = await self._definitions.get(name)
            except CollectionNotFound:
                # Deleted, and the copies with it.
                continue
            await self._write_copies(index, concerned, tally)
            by_index.append((index, concerned))
        return Written(ours, by_index, list(claimed))

    async def _write_copies(self, index: SearchIndex, users: Sequence[MovedUser], tally: Tally) -> None:
        """Write all users at once; when that fails, each alone, to find out whose fault it is."""
        try:
            gone = await self._vectors.replace_personal_many(index, [user.copies_in(index) for user in users])
        except CollectionNotFound:
            # Deleted a moment ago.
            return
        except Exception as error:  # noqa: BLE001
            _log.warning("a write of several users failed", users=len(users), **logs.describe(error))
            if len(users) == 1:
                users[0].fail_to_write(error)
                return
            cause = error
        else:
            tally.copies_removed += gone
            return
        unanswered = 0
        for user in users:
            if unanswered == FAILURES_OF_AN_OUTAGE:
                user.fail_to_write(cause)
            else:
                await self._write_copies(index, [user], tally)
                unanswered = unanswered + 1 if user.outage else 0

    async def _check_originals(self, index: SearchIndex, users: Sequence[MovedUser]) -> int:
        """Fail the users whose originals changed meanwhile; returns until when the others were written.

        Whoever changes originals looks for copies afterwards and queues their users; copies that were written later
        than that would be missed, and are found here.
        """
        written = [user for user in users if not user.failed]
        copied = {copy.object_id for user in written for copy in user.copies_in(index).copies}
        try:
            written_until = await self._vectors.clock()
            now = await self._vectors.base_hashes(index, copied) if copied else {}
        except Exception as error:  # noqa: BLE001
            _log.warning("originals could not be checked", **logs.describe(error))
            for user in written:
                user.fail_to_write(error)
            return 0
        for user in written:
            if any(now.get(copy.object_id) != copy.base_hash for copy in user.copies_in(index).copies):
                user.fail(Reason.ORIGINAL_CHANGED)
        return written_until

    async def _confirm(self, users: Sequence[MovedUser], leases: Leases, tally: Tally) -> list[MovedUser]:
        """Return the users whom nobody else has written meanwhile; the others are queued again."""
        written = {user.lease: user for user in users if not user.failed}
        where = {lease: [name for name, own in user.copies.items() if own.copies] for lease, user in written.items()}
        confirmed = await self._fences.confirm(where)
        overtaken = [lease for lease in written if lease not in confirmed]
        if overtaken:
            await self._feedback.requeue_users([lease.user_id for lease in overtaken])
        ours = [user for user in users if user.failed or user.lease in confirmed]
        _lose(users, ours, leases, tally)
        return ours

    async def _settle(
        self, user: MovedUser, leases: Leases, tally: Tally, turn: asyncio.Semaphore
    ) -> TidelineError | None:
        """Settle a user; returns why that failed, if it did and not for want of the lease."""
        outcomes = user.outcomes()
        async with turn:
            try:
                if user.failed and not any(outcome.state is State.FAILED for outcome in outcomes):
                    # Nothing of it waits, there may be something to unlearn: it has to stay pending all the same.
                    await self._feedback.requeue_users([user.lease.user_id])
                settlement = await self._feedback.settle(user.lease, outcomes)
                if settlement.parked and user.outage:
                    # An outage is no fault of the sessions.
                    await self._feedback.requeue_users([user.lease.user_id])
            except TidelineError as error:
                if error.reason == "LEASE_LOST":
                    leases.drop([user.lease])
                    tally.users_lost += 1
                    await self._forget_unless_known(user)
                    return None
                _log.warning(
                    "a user was not settled", **logs.describe(error), **logs.personal(user_id=user.lease.user_id)
                )
                tally.users_failed += 1
                return error
        leases.drop([user.lease])
        tally.count(outcomes)
        if user.failed:
            tally.users_failed += 1
        else:
            tally.users_settled += 1
            tally.turned += user.turned
        return None

    async def _take_back(self, claimed: Sequence[Lease]) -> None:
        """Forget users who were erased while they were written, and let the erasure go on: it waits for our lease."""
        erased = frozenset(await self._fences.forgotten([lease.user_id for lease in claimed]))
        for user_id in erased:
            await self._forgetting.forget(user_id)
        if erased:
            try:
                await self._feedback.release([lease for lease in claimed if lease.user_id in erased])
            except TidelineError as error:
                _log.warning("leases were not given back", count=len(erased), **logs.describe(error))

    async def _forget_unless_known(self, user: MovedUser) -> None:
        """Queue a user again whose lease was lost; one who was erased meanwhile has nobody else to drop the copies."""
        try:
            if not await self._feedback.requeue_users([user.lease.user_id]):
                await self._forgetting.forget(user.lease.user_id)
        except TidelineError as error:
            _log.warning("a user was not queued again", **logs.describe(error))


def _lose(users: Iterable[MovedUser], kept: Iterable[MovedUser], leases: Leases, tally: Tally) -> None:
    """Forget the users that are not kept."""
    keep = {user.lease for user in kept}
    lost = [user.lease for user in users if user.lease not in keep]
    tally.users_lost += len(lost)
    leases.drop(lost)
