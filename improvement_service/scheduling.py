"""When to look for feedback: the only place that knows APScheduler."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

_JOB: Final = "improvement"
LOOKED_AFTER_EVERY: Final = timedelta(minutes=1)
"""How often the clock is held against the schedule, at least."""


class Timer:
    """Calls something every so often; not while the call before is under way, and once for all that it missed.

    Jobs are kept in memory: who may work on what is settled by leases, so that replicas need not agree on a schedule.
    """

    def __init__(self, interval: timedelta) -> None:
        self.interval = interval
        # It warns of every call that it leaves out while the one before is under way.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler: Any = AsyncIOScheduler(timezone=UTC)

    @contextmanager
    def calling(self, tick: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Call `tick` for as long as the block lasts, for the first time when the interval has passed."""
        self._scheduler.add_job(
            tick,
            IntervalTrigger(seconds=self.interval.total_seconds(), timezone=UTC),
            id=_JOB,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        self._scheduler.start()
        following = asyncio.create_task(self._follow_the_clock())
        try:
            yield
        finally:
            following.cancel()
            self._scheduler.shutdown(wait=False)

    def next_at(self) -> datetime | None:
        """Return when the next call is due; None when there is none."""
        job = self._scheduler.get_job(_JOB)
        next_at: datetime | None = getattr(job, "next_run_time", None)
        return next_at

    async def _follow_the_clock(self) -> None:
        """Call in time although the clock was set back: APScheduler would wait until it is again as late as it was."""
        while True:
            await asyncio.sleep(min(self.interval, LOOKED_AFTER_EVERY).total_seconds())
            latest = datetime.now(UTC) + self.interval
            due = self.next_at()
            if due is not None and due > latest:
                self._scheduler.modify_job(_JOB, next_run_time=latest)
