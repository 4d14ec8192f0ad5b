"""Runs of improvement: started by the schedule or on request, one at a time in this process, and watched."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from improvement_service import metrics
from improvement_service.domain.run import Run, RunState, Trigger
from improvement_service.domain.schedule import Schedule
from tideline.errors import TidelineError
from tideline.rpc import logs, tracing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime, timedelta

    from improvement_service.domain.run import Tally
    from tideline.rpc.tracing import Place

_log = structlog.get_logger(__name__)

SAVED_EVERY_S: Final = 1.0
"""How often a run under way is saved: it counts as dead when it has not been for a minute."""
LOOKED_AT_EVERY_S: Final = 1.0
"""How often whoever watches a run of another replica looks for news."""


class Cycle(Protocol):
    """A pass over the pending feedback."""

    async def run(self, owner: str, tally: Tally, stop: asyncio.Event) -> None:
        """Learn from all users who are pending, until `stop` is set."""


class RunStore(Protocol):
    """Where runs are kept."""

    async def save(self, run: Run) -> None:
        """Keep a run as it stands."""

    async def get(self, run_id: str) -> Run:
        """Return a run; raises `RunNotFound`."""

    async def newest(self, after: tuple[datetime, str] | None, limit: int) -> list[Run]:
        """Return runs after (started_at, id), newest first."""


class ScheduleStore(Protocol):
    """What all replicas know of the schedule."""

    async def is_paused(self) -> bool: ...

    async def pause(self, *, paused: bool) -> None: ...


class Timer(Protocol):
    """What calls `Improvement.tick`."""

    interval: timedelta

    def next_at(self) -> datetime | None:
        """Return when it does so next."""


class Improvement:
    """What can be done with runs."""

    def __init__(
        self,
        cycle: Cycle,
        runs: RunStore,
        schedule: ScheduleStore,
        *,
        timer: Timer,
        owner: str,
        now: Callable[[], datetime],
    ) -> None:
        """Run as the worker `owner`, a name that no other living process has."""
        self._cycle = cycle
        self._runs = runs
        self._schedule = schedule
        self._timer = timer
        self._owner = owner
        self._now = now
        self._run: Run | None = None
        self._running: asyncio.Task[None] | None = None
        self._asked_for = False
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        # One after the other, so that the last word on a run is how it ended.
        self._saving = asyncio.Lock()

    async def start(self) -> Run:
        """Start a run unless one is under way in this process; returns it."""
        while True:
            run = self._run or self._begin(Trigger.REQUEST)
            # Whoever asked for it can look it up, even if the schedule has started it and it finds nothing.
            self._asked_for = True
            async with self._saving:
                # Over by now, it may have missed what it is wanted for.
                if self._run is run:
                    await self._runs.save(run)
                    return deepcopy(run)

    async def tick(self) -> None:
        """Run as the schedule says: unless it is paused, or a run is under way. A failure waits for the next tick."""
        try:
            if self._run is not None or self._stop.is_set() or await self._schedule.is_paused():
                return
        except TidelineError as error:
            _log.warning("the schedule could not be read", **logs.describe(error))
            return
        if self._run is None:
            self._begin(Trigger.SCHEDULE)
        if self._running is not None:
            await asyncio.shield(self._running)

    async def get(self, run_id: str) -> Run:
        """Return a run; raises `RunNotFound`."""
        if self._run is not None and self._run.run_id == run_id:
            return deepcopy(self._run)
        return await self._runs.get(run_id)

    async def newest(self, after: tuple[datetime, str] | None, limit: int) -> list[Run]:
        """Return runs after (started_at, id), newest first."""
        return await self._runs.newest(after, limit)

    async def watch(self, run_id: str) -> AsyncGenerator[Run, None]:
        """Yield a run whenever it has changed, until it is over; raises `RunNotFound`."""
        seen: Run | None = None
        while True:
            changed = self._changed
            run = await self.get(run_id)
            if run != seen:
                yield run
            if run.state is not RunState.RUNNING:
                return
            seen = run
            here = self._run is not None and self._run.run_id == run_id
            with suppress(TimeoutError):
                async with asyncio.timeout(None if here else LOOKED_AT_EVERY_S):
                    await changed.wait()

    async def pause(self, *, paused: bool) -> Schedule:
        """Pause scheduled runs on all replicas, or let them happen again."""
        await self._schedule.pause(paused=paused)
        return await self.schedule()

    async def schedule(self) -> Schedule:
        """Return when runs happen."""
        paused = await self._schedule.is_paused()
        return Schedule(self._timer.interval, paused, None if paused else self._timer.next_at())

    def wind_down(self) -> None:
        """Let the run under way settle what it is writing and give back the rest; start no more."""
        self._stop.set()

    async def stop(self, within: timedelta) -> None:
        """Wind down, and wait until the run under way has ended; it is broken off after `within`."""
        self.wind_down()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=within.total_seconds())
            self._running.cancel()
            await asyncio.wait([self._running])

    def _begin(self, trigger: Trigger) -> Run:
        now = self._now()
        # MongoDB keeps milliseconds.
        started_at = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self._run = Run(uuid.uuid4().hex, trigger, self._owner, started_at)
        self._asked_for = trigger is Trigger.REQUEST
        # Without what is known of the caller, the deadline above all.
        self._running = asyncio.create_task(self._go(self._run, tracing.here()), context=contextvars.Context())
        return self._run

    async def _go(self, run: Run, caller: Place | None) -> None:
        with tracing.span("improvement run", parent=caller, run_id=run.run_id, run_trigger=run.trigger):
            await self._carry_out(run)

    async def _carry_out(self, run: Run) -> None:
        over, progress = asyncio.Event(), metrics.RunProgress()
        reporting = asyncio.create_task(self._report(run, over, progress))
        try:
            await self._cycle.run(self._owner, run.tally, self._stop)
            state = RunState.INTERRUPTED if self._stop.is_set() else RunState.SUCCEEDED
        except asyncio.CancelledError:
            state = RunState.INTERRUPTED
        except Exception as error:  # noqa: BLE001
            _log.error("run failed", run_id=run.run_id, **logs.describe(error))
            run.error = str(error) if isinstance(error, TidelineError) else type(error).__name__
            state = RunState.FAILED
        over.set()
        await reporting
        if self._is_worth_keeping(run):
            _log.info("run over", run_id=run.run_id, state=state, users=run.tally.users_leased)
        try:
            progress.count(run.tally)
            ended = replace(run, state=state, finished_at=self._now())
            metrics.run_over(ended)
            await self._save(ended)
        finally:
            # Whatever became of that: the next one may start, and those who watch this one read how it ended.
            self._run = None
            self._tell()

    async def _report(self, run: Run, over: asyncio.Event, progress: metrics.RunProgress) -> None:
        """Save the run and tell those who watch it, now and then, until it is over."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAVED_EVERY_S):
                    await over.wait()
                return
            progress.count(run.tally)
            await self._save(run)
            self._tell()

    async def _save(self, run: Run) -> None:
        if not self._is_worth_keeping(run):
            return
        try:
            async with self._saving:
                await self._runs.save(run)
        except TidelineError as error:
            _log.warning("a run was not saved", run_id=run.run_id, **logs.describe(error))

    def _is_worth_keeping(self, run: Run) -> bool:
        """The schedule looks for feedback all the time; runs that find none would fill the list."""
        return self._asked_for or run.tally.users_leased > 0 or bool(run.error)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
