"""Handing out feedback, one user to one worker at a time."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
    from datetime import datetime, timedelta

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


_log = structlog.get_logger(__name__)


class LeaseStore(Protocol):
    """Who holds which user, and what a worker gets to see of one."""

    async def lease(self, owner: str, duration: timedelta, by: datetime | None) -> Lease | None:
        """Lease the user who could have been leased for the longest time, and that `by` a time; None without one."""

    async def renew(self, leases: Sequence[tuple[str, int]], duration: timedelta) -> Renewal:
        """Hold users for `duration` from now, each with the fence it was leased under."""

    async def release(self, leases: Sequence[tuple[str, int]]) -> int:
        """Free users that are held under these fences; returns how many were."""

    async def release_all(self, owner: str) -> int:
        """Free all users that a worker holds; returns how many there were."""

    async def free(self, lease: Lease) -> None:
        """Free a user unless another lease holds it by now; the attempt counts."""

    def sessions(self, user_id: str, events_limit: int) -> AsyncGenerator[FeedbackSession, None]:
        """Yield the sessions of a user that count, oldest first, each with its first events."""

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

    async def lease(self, owner: str, max_users: int, duration: timedelta | None) -> AsyncGenerator[Lease, None]:
        """Lease users, each once the one before was dealt with; whoever was not is freed when the caller goes away.

        Only users who could be leased when this began: one that fails, or expires, meanwhile is left to the next call.
        A user whose lease expired too often is not leased again, but has what waits parked: something about it ends
        its workers before they can say what.
        """
        began_at: datetime | None = None
        leased = 0
        while leased < max_users:
            lease = await self._next(owner, duration or self._rules.lease, began_at)
            if lease is None:
                return
            began_at = began_at or lease.leased_at
            if lease.attempts > self._rules.max_attempts:
                await self._settlements.park(lease.user_id, lease.fence)
                continue
            leased += 1
            try:
                yield lease
            except BaseException:
                # The attempt counts, as it may be this user's data that ends workers, or cannot be read.
                self._in_background(self._leases.free(lease))
                raise

    def sessions(self, lease: Lease, events_limit: int) -> AsyncGenerator[FeedbackSession, None]:
        """Yield the sessions of a leased user that count, oldest first, each with its first events."""
        return self._leases.sessions(lease.user_id, events_limit)

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
        """Wait until users whose workers went away are freed."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _next(self, owner: str, duration: timedelta, by: datetime | None) -> Lease | None:
        """Lease the next user; one that is leased although the caller went away in the meantime is freed."""
        leasing = asyncio.ensure_future(self._leases.lease(owner, duration, by))
        try:
            return await asyncio.shield(leasing)
        except asyncio.CancelledError:
            self._in_background(self._free_when_leased(leasing))
            raise

    async def _free_when_leased(self, leasing: asyncio.Future[Lease | None]) -> None:
        lease = await leasing
        if lease is not None:
            await self._leases.release([(lease.user_id, lease.fence)])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something for a caller who is gone; when it fails, the lease expires by itself."""
        task = asyncio.create_task(work, context=contextvars.Context())
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a user was not freed", error=type(error).__name__)
