"""The users that a run holds."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Self

import structlog

from tideline.errors import TidelineError
from tideline.rpc import logs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from improvement_service.domain.feedback import Lease
    from improvement_service.learning.ports import Feedback

_log = structlog.get_logger(__name__)


class Leases:
    """Renews what a run holds for as long as the block lasts, and gives back what is left at its end."""

    def __init__(self, feedback: Feedback, duration: timedelta, owner: str) -> None:
        self._feedback = feedback
        self._owner = owner
        self._broken_off = True
        self._duration = duration
        self._until: dict[Lease, float] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.create_task(self._renew_now_and_then())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            if not self._renewing.cancelled():
                self._renewing.result()
        left = list(self._until)
        self._until.clear()
        if left or self._broken_off:
            try:
                if self._broken_off:
                    await self._feedback.release_all(self._owner)
                else:
                    await self._feedback.release(left)
            except TidelineError as error:
                # They come free by themselves when the leases expire.
                _log.warning("leases were not given back", count=len(left), **logs.describe(error))

    def know_all(self) -> None:
        """Know that nothing was leased for us that we have not heard of: the last answer has been read."""
        self._broken_off = False

    def add(self, lease: Lease) -> None:
        """Hold a user who was just leased."""
        self._until[lease] = monotonic() + self._duration.total_seconds()

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is ours as far as we know.

        False as well when it should have been renewed and was not: this process was stopped for a while, or nobody
        answered. Another worker may have the user then.
        """
        return self._until.get(lease, 0.0) > monotonic()

    def drop(self, leases: Iterable[Lease]) -> None:
        """Hold users no more, since they are settled or lost."""
        for lease in leases:
            self._until.pop(lease, None)

    async def _renew_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._duration.total_seconds() / 3)
            try:
                await self._renew()
            except TidelineError as error:
                _log.warning("leases were not renewed", count=len(self._until), **logs.describe(error))

    async def _renew(self) -> None:
        held = list(self._until)
        if not held:
            return
        until = monotonic() + self._duration.total_seconds()
        lost = set(await self._feedback.renew(held, self._duration))
        for lease in held:
            # Some were settled while this was under way.
            if lease in self._until:
                self._until[lease] = 0.0 if lease in lost else until
