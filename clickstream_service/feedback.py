"""Handing out feedback, one user to one worker at a time."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from clickstream_service.domain.errors import LeaseLost
from clickstream_service.leased_group import LeasedGroup

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
    from datetime import datetime

    from clickstream_service.domain.feedback import (
        FeedbackCounts,
        FeedbackOutcome,
        FeedbackRules,
        FeedbackSession,
        Lease,
        PendingUser,
        Renewal,
        Settlement,
    )


FIRST_GROUP: Final = 8
GROUP: Final = 32
"""How many users are leased at once, at first and at most."""
AHEAD: Final = timedelta(seconds=5)
"""For how long users wait for their turn, at most, before they are given back."""

_log = structlog.get_logger(__name__)


class LeaseStore(Protocol):
    """Who holds which user, and what a worker gets to see of one."""

    async def lease(self, owner: str, duration: timedelta, by: datetime | None, limit: int) -> list[Lease]:
        """Lease up to `limit` users, those first who could have been leased for the longest time, and that `by` a time.

        Empty only when there is nobody.
        """

    async def renew(self, leases: Sequence[tuple[str, int]], duration: timedelta) -> Renewal:
        """Hold users for `duration` from now, each with the fence it was leased under."""

    async def release(self, leases: Sequence[tuple[str, int]]) -> int:
        """Free users that are held under these fences; returns how many were."""

    async def release_all(self, owner: str) -> int:
        """Free all users that a worker holds; returns how many there were."""

    async def free(self, lease: Lease) -> None:
        """Free a user unless another lease holds it by now; the attempt counts."""

    def sessions(self, user_ids: Sequence[str], events_limit: int) -> AsyncGenerator[FeedbackSession | None, None]:
        """Yield the sessions of each user that count, oldest first, each with its first events; None ends each user."""

    async def pending(self, after: tuple[datetime, str] | None, limit: int) -> list[PendingUser]:
        """Return users who wait, after (due_at, user id), longest waiting first."""

    async def counts(self) -> FeedbackCounts:
        """Count users and sessions by state."""


class SettlementStore(Protocol):
    """Where leases end."""

    async def settle(self, user_id: str, fence: int, outcomes: Iterable[FeedbackOutcome]) -> Settlement:
        """Record the outcomes and free the user; raises `LeaseLost`."""

    async def park(self, user_id: str, fence: int) -> Settlement:
        """Park all that waits of a leased user, and free the user; raises `LeaseLost`."""

    async def close(self) -> None:
        """Record what waits."""


class QueueStore(Protocol):
    """Where users wait."""

    async def requeue_users(self, user_ids: Iterable[str]) -> int:
        """Queue users again; returns how many of them ever submitted anything."""

    async def requeue_everybody(self) -> int:
        """Queue all who ever submitted anything; returns how many these are."""


class Feedback:
    """What can be done with feedback."""

    def __init__(
        self, leases: LeaseStore, settlements: SettlementStore, queue: QueueStore, rules: FeedbackRules
    ) -> None:
        self._leases = leases
        self._settlements = settlements
        self._queue = queue
        self._rules = rules
        self._under_way: set[asyncio.Task[None]] = set()

    async def lease(
        self, owner: str, max_users: int, duration: timedelta | None, events_limit: int
    ) -> AsyncGenerator[tuple[Lease, AsyncGenerator[FeedbackSession, None]], None]:
        """Lease users; yields each with its sessions that count, oldest first, each of these with its first events.

        All sessions of a user have to be read before the next user is asked for, and whoever was not dealt with then is
        freed when the caller goes away. Only users who could be leased when this began: one that fails, or expires,
        meanwhile is left to the next call. A user whose lease expired too often is not leased again, but has what waits
        parked: something about it ends its workers before they can say what.

        Users are leased some at a time, more of them the faster they are read. Those whose turn does not come within
        `AHEAD` and a tenth of the duration are given back, as if they had not been leased, so that a lease is nearly as
        good as new when the caller hears of it. When this process is killed, or loses its database, the others
        of a group are held until their leases expire, and that attempt counts.
        """
        duration = duration or self._rules.lease
        patience_s = min(duration / 10, AHEAD).total_seconds()
        began_at: datetime | None = None
        left, size = max_users, FIRST_GROUP
        while left:
            until = asyncio.get_running_loop().time() + patience_s
            leases = await self._next(owner, duration, began_at, min(size, left))
            if not leases:
                return
            began_at = began_at or leases[0].leased_at
            fit = [lease for lease in leases if lease.attempts <= self._rules.max_attempts]
            content = self._leases.sessions([lease.user_id for lease in fit], events_limit)
            group = LeasedGroup(fit, content, until, self._give_back)
            try:
                await asyncio.gather(*(self._park(lease) for lease in leases if lease not in fit))
                while (lease := group.next()) is not None:
                    left -= 1
                    try:
                        yield lease, group.sessions()
                    except BaseException:
                        # The attempt counts, as it may be this user's data that ends workers, or cannot be read.
                        self._in_background(self._leases.free(lease))
                        raise
                await group.end()
            finally:
                group.close()
            size = 1 if group.late else min(2 * size, GROUP)

    async def renew(self, leases: Sequence[tuple[str, int]], duration: timedelta | None) -> Renewal:
        """Hold users, each with its fence, for longer."""
        return await self._leases.renew(leases, duration or self._rules.lease)

    async def release(self, leases: Sequence[tuple[str, int]], owner: str = "") -> int:
        """Free users, each with its fence, and all that `owner` holds, as if they had not been leased.

        Returns how many were held.
        """
        released = await self._leases.release(leases) if leases else 0
        return released + (await self._leases.release_all(owner) if owner else 0)

    async def settle(self, user_id: str, fence: int, outcomes: Sequence[FeedbackOutcome]) -> Settlement:
        """Record what became of the sessions of a user, and free the user; raises `LeaseLost`."""
        return await self._settlements.settle(user_id, fence, outcomes)

    async def requeue(self, user_ids: Sequence[str] | None) -> int:
        """Queue users again, everybody when None; returns how many of them ever submitted anything."""
        return await (self._queue.requeue_everybody() if user_ids is None else self._queue.requeue_users(user_ids))

    async def pending(self, after: tuple[datetime, str] | None, limit: int) -> tuple[list[PendingUser], bool]:
        """Return up to `limit` users who wait, after (due_at, user id), and whether there are more."""
        found = await self._leases.pending(after, limit + 1)
        return found[:limit], len(found) > limit

    async def counts(self) -> FeedbackCounts:
        """Count users and sessions by state."""
        return await self._leases.counts()

    async def close(self) -> None:
        """Wait until users whose workers went away are freed, and until what was settled is recorded."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._settlements.close()

    async def _next(self, owner: str, duration: timedelta, by: datetime | None, limit: int) -> list[Lease]:
        """Lease the next users; those that are leased although the caller went away in the meantime are freed."""
        leasing = asyncio.ensure_future(self._leases.lease(owner, duration, by, limit))
        try:
            return await asyncio.shield(leasing)
        except asyncio.CancelledError:
            self._in_background(self._free_when_leased(leasing))
            raise

    async def _free_when_leased(self, leasing: asyncio.Future[list[Lease]]) -> None:
        if leases := await leasing:
            await self._give_back(leases)

    def _give_back(self, leases: Sequence[Lease]) -> asyncio.Task[None]:
        async def release() -> None:
            await self._leases.release([(lease.user_id, lease.fence) for lease in leases])

        return self._in_background(release())

    async def _park(self, lease: Lease) -> None:
        # Whoever holds the user by now has seen that this is to be done.
        with suppress(LeaseLost):
            await self._settlements.park(lease.user_id, lease.fence)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something for a caller who does not wait for it; when it fails, the lease expires by itself."""
        task = asyncio.create_task(work, context=contextvars.Context())
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("users were not freed", error=type(error).__name__)
