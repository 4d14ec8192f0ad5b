"""Changes of what is stored, in the order of their versions: each is made once, by whichever replica comes first.

The rules that let old and new replicas work side by side: a migration adds, and never takes away what the release
before reads or writes; it can be broken off anywhere and repeated; code reads what is not migrated yet. What old
replicas write while they are replaced is not migrated by then: `tideline migrate NAME --repeat` goes over it again.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

LOOKED_AT_EVERY_S: Final = 0.5
"""How often who waits looks whether the one who migrates is through, or dead."""
RENEWALS: Final = 3

_log = structlog.get_logger(__name__)


class LockLost(Exception):
    """Another replica has taken over: this one held the lock for longer than it renewed it."""


@dataclass(frozen=True)
class Hold:
    """The right to migrate, under a fence that only grows, and how far others before came."""

    fence: int
    version: int
    schemas: frozenset[str]
    cursor: Any
    """Where the migration after `version` was broken off; None for its beginning."""


class Ledger(Protocol):
    """Where is kept what was done, and who is at it."""

    async def state(self) -> tuple[int, frozenset[str]]:
        """Return the version of the data and the schemas that were made."""

    async def take(self, owner: str, duration: timedelta) -> Hold | None:
        """Hold the lock for `duration`; None while somebody else does."""

    async def renew(self, fence: int, duration: timedelta) -> None:
        """Hold it for `duration` from now; raises `LockLost`."""

    async def save(self, fence: int, cursor: Any) -> None:
        """Note how far the present migration is; raises `LockLost`."""

    async def finish(self, fence: int, version: int, name: str) -> None:
        """Note that a migration is through; raises `LockLost`."""

    async def finish_schema(self, fence: int, schema: str) -> None:
        """Note that a schema is made; raises `LockLost`."""

    async def release(self, fence: int) -> None:
        """Let others have the lock."""


@dataclass(frozen=True)
class Migration:
    """A change of data. `work` goes on behind the cursor that it is given, and saves another one now and then."""

    version: int
    name: str
    work: Callable[[Any, Callable[[Any], Awaitable[None]]], Awaitable[None]]


class Migrations:
    """All migrations of a service, and its schema: indexes and collections, named by a hash of their definitions."""

    def __init__(
        self,
        ledger: Ledger,
        schema: str,
        make_schema: Callable[[], Awaitable[None]],
        migrations: Sequence[Migration],
        duration: timedelta,
    ) -> None:
        """A replica that dies while it migrates is replaced after `duration`."""
        self._ledger = ledger
        self._schema = schema
        self._make_schema = make_schema
        self._migrations = sorted(migrations, key=lambda one: one.version)
        self._duration = duration
        self._owner = uuid.uuid4().hex

    async def run(self, *, repeat: bool = False) -> None:
        """Bring the data up to date, or wait for the replica that does; with `repeat`, all is gone over once more."""
        while repeat or not await self._is_done():
            hold = await self._ledger.take(self._owner, self._duration)
            if hold is None:
                await asyncio.sleep(LOOKED_AT_EVERY_S)
                continue
            try:
                await self._renewed(hold, self._all(hold, repeat=repeat))
            except LockLost:
                _log.warning("another replica goes on with the migrations")
            else:
                repeat = False

    async def wait(self) -> None:
        """Wait until somebody has brought the data up to date."""
        while not await self._is_done():
            _log.info("waiting for migrations")
            await asyncio.sleep(LOOKED_AT_EVERY_S)

    async def _is_done(self) -> bool:
        version, schemas = await self._ledger.state()
        return self._schema in schemas and all(one.version <= version for one in self._migrations)

    async def _renewed(self, hold: Hold, work: Awaitable[None]) -> None:
        working = asyncio.ensure_future(work)
        try:
            while not working.done():
                await asyncio.wait([working], timeout=self._duration.total_seconds() / RENEWALS)
                if not working.done():
                    await self._ledger.renew(hold.fence, self._duration)
            working.result()
        finally:
            working.cancel()
            await asyncio.wait([working])
            await self._ledger.release(hold.fence)

    async def _all(self, hold: Hold, *, repeat: bool) -> None:
        if repeat or self._schema not in hold.schemas:
            await self._make_schema()
            await self._ledger.finish_schema(hold.fence, self._schema)
        cursor = None if repeat else hold.cursor
        for migration in self._migrations:
            if migration.version <= hold.version and not repeat:
                continue
            _log.info("migrating", version=migration.version, name=migration.name, resumed=cursor is not None)
            known = migration.version <= hold.version

            async def save(done: Any, *, known: bool = known) -> None:
                # A repetition that is broken off begins anew.
                if not known:
                    await self._ledger.save(hold.fence, done)

            await migration.work(cursor, save)
            if not known:
                await self._ledger.finish(hold.fence, migration.version, migration.name)
            cursor = None
