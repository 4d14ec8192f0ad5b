"""Keeping the numbers behind the signals current as data comes in, and counting them again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from clickstream_service.domain.rollup import ChangesLost, RollupRules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta

    from clickstream_service.roles import Role
    from clickstream_service.strengths import StrengthVersions

LONGEST_LAG: Final = 10
"""So many times the usual delay the counting leaves the machine to what is coming in, at most."""
PAUSE_S: Final = 0.5
"""How long to wait for a recount that another process does, before looking again."""

_log = structlog.get_logger(__name__)


class Following(Protocol):
    """Rollups as they are carried on."""

    async def step(self, turn: Callable[[], Awaitable[None]]) -> bool:
        """Bring what was changed next into the rollups, once it is their `turn`; returns whether that was not all.

        Raises `ChangesLost`, and `RoleLost` when another replica carries them on by now.
        """


class RollupStore(Protocol):
    """Where rollups are kept."""

    async def rules(self) -> RollupRules | None:
        """Return by which rules the rollups in force were made; None when there are none."""

    def following(self, fence: int, wait_s: float) -> AbstractAsyncContextManager[Following]:
        """Carry on the rollups in force under this fence; raises `RoleLost`."""


class RecountStore(Protocol):
    """Where rollups are made anew."""

    async def run(self, rules: RollupRules, progress: Callable[[int], None]) -> int:
        """Count everything by these rules and put the result in force; returns what was counted."""

    async def drop_leftovers(self) -> None:
        """Drop what a recount has left behind that did not come to its end."""


class Recount:
    """Counts everything again, while the signals answer from what was counted before."""

    def __init__(self, store: RecountStore, role: Role, segments: tuple[str, ...], strengths: StrengthVersions) -> None:
        self._store = store
        self._role = role
        self._segments = segments
        self._strengths = strengths

    async def rules(self) -> RollupRules:
        """Return the rules in force."""
        return RollupRules(self._segments, (await self._strengths.current()).long_view_threshold)

    async def run(self, progress: Callable[[int], None] = lambda _: None) -> int | None:
        """Return how many sessions and interactions without one were counted; None while another recount goes on.

        `progress` is told how many were counted since it was told before.
        """
        counted = 0
        rules = await self.rules()

        async def count(_: int) -> None:
            nonlocal counted
            counted = await self._store.run(rules, progress)

        return counted if await self._role.do(count) else None

    async def tidy(self) -> None:
        """Drop what a recount has left behind that did not come to its end."""

        async def drop(_: int) -> None:
            await self._store.drop_leftovers()

        await self._role.do(drop)


class Rollups:
    """Follows what comes in, changes and goes; one replica at a time does."""

    def __init__(
        self, store: RollupStore, recount: Recount, role: Role, wait: timedelta, lull: Callable[[], Awaitable[None]]
    ) -> None:
        """Gathers changes for about `wait` before they are brought into the rollups.

        Then it is waited for a `lull` in what comes in, for a while: gathered for longer, the same costs less, and who
        records something does not wait for whoever counts.
        """
        self._store = store
        self._recount = recount
        self._role = role
        self._wait_s = wait.total_seconds()
        self._lull = lull

    async def run(self) -> None:
        """Follow until cancelled."""
        await self._role.perform(self._follow)

    async def _follow(self, fence: int) -> None:
        await self._recount.tidy()
        took_s = 0.0
        while True:
            if await self._store.rules() == await self._recount.rules():
                try:
                    await self._carry_on(fence)
                    continue
                except ChangesLost:
                    # While more is changed than the database remembers for as long as a recount takes, the next one
                    # would be in vain, too: half of the time is left to what makes these changes.
                    _log.warning("changes were lost, rollups are counted again", recount_s=round(took_s))
                    await asyncio.sleep(took_s)
            # Also the first time, and when a setting says to count otherwise.
            began = time.monotonic()
            if await self._recount.run() is None:
                await asyncio.sleep(PAUSE_S)
            else:
                took_s = time.monotonic() - began

    async def _carry_on(self, fence: int) -> None:
        """Follow while the rules stay the same."""
        async with self._store.following(fence, self._wait_s) as following:
            rules = await self._recount.rules()
            behind = False
            while await self._recount.rules() == rules:
                if not behind:
                    turn = partial(self._turn, time.monotonic() + LONGEST_LAG * self._wait_s)
                await turn()
                behind = await following.step(turn)

    async def _turn(self, at_the_latest: float) -> None:
        """Wait for a lull; once it was waited for too long, there is no waiting until all is counted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_the_latest - time.monotonic()):
                await self._lull()
