"""When to look for feedback: the only place that knows APScheduler."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime, timedelta

_JOB: Final = "improvement"


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
        try:
            yield
        finally:
            self._scheduler.shutdown(wait=False)

    def next_at(self) -> datetime | None:
        """Return when the next call is due; None when there is none."""
        job = self._scheduler.get_job(_JOB)
        next_at: datetime | None = getattr(job, "next_run_time", None)
        return next_at
