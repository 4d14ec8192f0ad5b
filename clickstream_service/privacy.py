"""Forgetting users, and telling them what is known.

An erasure is written down before anything is deleted; from then on what comes in for the user is refused, and any
replica carries it on until nothing is left:

1. Sessions, events, interactions and queue entries are deleted, some in each transaction, which counts them as well.
2. A worker that holds the user may write vectors until it settles or its lease expires: the lease goes after that.
3. The improvement service drops the user's vectors, at once and again when no worker holds the user any more.
4. When nothing was found for a while, which gives calls under way time to end, the id of the user is forgotten, too.
   The receipt stays under a keyed hash.

All of it can be done again at any point, so a replica that dies is simply followed by another one.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from clickstream_service.domain.interaction import AllOf, Choice, Match
from tideline.errors import TidelineError
from tideline.rpc import logs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from clickstream_service.domain.erasure import Erasure, ErasureWork
    from clickstream_service.domain.event import Event
    from clickstream_service.domain.session import SessionWithEvents

HELD_FOR: Final = timedelta(seconds=30)
"""How long after a replica has died another one goes on with what it was erasing."""
LOOK_AGAIN: Final = timedelta(milliseconds=250)
"""How long to wait for a worker that holds the user, and for calls that are under way."""
TRY_AGAIN: Final = timedelta(seconds=2)
"""How long to wait after a failure."""
POLL_S: Final = 0.05

_log = structlog.get_logger(__name__)


class ErasureStore(Protocol):
    """Where erasures are written down, and records deleted."""

    async def begin(self, user_id: str, now: datetime) -> Erasure:
        """Begin to erase a user unless that is under way, or was done and nothing is known of the user since."""

    async def get(self, user_id: str) -> Erasure | None:
        """Return how the erasure of a user stands; None when there is none."""

    async def claim(self, duration: timedelta) -> ErasureWork | None:
        """Return an erasure to go on with, which others leave alone for `duration`; None when none is due."""

    async def postpone(self, work: ErasureWork, delay: timedelta) -> None:
        """Let any worker go on with an erasure after `delay`."""

    async def delete_records(self, work: ErasureWork) -> None:
        """Delete all records of the user but the lease, and count them."""

    async def delete_lease(self, work: ErasureWork) -> bool:
        """Delete the user's place in the queue unless a worker holds the user; returns whether it is gone."""

    async def add(self, work: ErasureWork, kind: str, count: int) -> None:
        """Add to what is counted."""

    async def finish(self, work: ErasureWork, now: datetime) -> bool:
        """Look for the last time, and forget the user's id; False when it is too early, or something is left."""


class Vectors(Protocol):
    """What was learned of users."""

    async def forget(self, user_id: str) -> int:
        """Delete all that was learned of a user; returns how many vectors went. Raises `DependencyUnavailable`."""


class Derived(Protocol):
    """What is computed from records."""

    async def caught_up(self) -> None:
        """Wait until what was deleted by now is out of it."""


class Erasures:
    """Erases users."""

    def __init__(
        self,
        store: ErasureStore,
        vectors: Vectors | None,
        derived: Derived | None,
        patience: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        """Without `vectors` there is no improvement service. A call waits up to `patience` for its erasure."""
        self._store = store
        self._vectors = vectors
        self._derived = derived
        self._patience_s = patience.total_seconds()
        self._now = now
        self._asked = asyncio.Event()

    async def erase(self, user_id: str, within_s: float | None) -> Erasure:
        """Erase a user; returns how that stands when it is done, or after a while, at most `within_s`."""
        erasure = await self._store.begin(user_id, self._now())
        self._asked.set()
        give_up_at = time.monotonic() + min(self._patience_s, self._patience_s if within_s is None else within_s)
        while erasure.finished_at is None and time.monotonic() + POLL_S < give_up_at:
            await asyncio.sleep(POLL_S)
            erasure = await self._store.get(user_id) or erasure
        return erasure

    async def run(self, pause: timedelta) -> None:
        """Carry on erasures until cancelled; looks every `pause` for those that other replicas left."""
        while True:
            self._asked.clear()
            busy = False
            try:
                busy = await self.step()
            except Exception as error:  # noqa: BLE001 - it is carried on later
                _log.error("erasures could not be carried on", **logs.describe(error))
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause.total_seconds()):
                        await self._asked.wait()

    async def step(self) -> bool:
        """Carry on one erasure as far as it goes; returns False when none is due."""
        work = await self._store.claim(HELD_FOR)
        if work is None:
            return False
        try:
            delay = None if await self._carry_on(work) else LOOK_AGAIN
        except TidelineError as error:
            _log.warning("an erasure has to wait", **logs.describe(error))
            delay = TRY_AGAIN
        if delay is not None:
            await self._store.postpone(work, delay)
        return True

    async def _carry_on(self, work: ErasureWork) -> bool:
        """Do what can be done now; returns whether that was all."""
        await self._store.delete_records(work)
        free = await self._store.delete_lease(work)
        # When a worker holds the user, too: searches forget the user at once.
        if self._vectors is not None:
            await self._store.add(work, "vectors", await self._vectors.forget(work.user_id))
        if not free:
            return False
        if self._derived is not None:
            await self._derived.caught_up()
        return await self._store.finish(work, self._now())


class RecordReader(Protocol):
    """Where the records of a user are read."""

    def sessions(self, user_id: str) -> AsyncGenerator[SessionWithEvents, None]:
        """Yield the sessions of a user; one that has many events comes several times."""


class InteractionReader(Protocol):
    """Where interactions are read."""

    def export(self, choice: Choice) -> AsyncGenerator[Event, None]:
        """Yield all interactions, oldest first."""


class PersonalData:
    """What is known of a user."""

    def __init__(self, records: RecordReader, interactions: InteractionReader) -> None:
        self._records = records
        self._interactions = interactions

    def sessions(self, user_id: str) -> AsyncGenerator[SessionWithEvents, None]:
        """Yield the sessions of a user with their events; one that has many comes several times."""
        return self._records.sessions(user_id)

    def interactions(self, user_id: str) -> AsyncGenerator[Event, None]:
        """Yield the interactions of a user that came without a session, oldest first."""
        alone = AllOf((Match(user_ids=(user_id,)), Match(session_ids=("",))))
        return self._interactions.export(Choice(alone, include_excluded=True))
