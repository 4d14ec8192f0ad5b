"""Work that one replica does at a time; when it stops or dies, another one takes over."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from clickstream_service.domain.rollup import RoleLost
from tideline.errors import DependencyUnavailable
from tideline.rpc import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import timedelta
    from typing import Any

RENEWALS: Final = 3
"""A role is renewed so often before it would expire."""
PAUSE_S: Final = 1.0
"""How long to wait after a failure."""

_log = structlog.get_logger(__name__)


class RoleStore(Protocol):
    """Where roles are kept."""

    async def take(self, name: str, owner: str, duration: timedelta) -> int | None:
        """Have a role for `duration` from now on and return its fence; None while somebody else has it."""

    async def release(self, name: str, owner: str) -> None:
        """Let others have a role at once."""


class Role:
    """A role of this replica, by name."""

    def __init__(self, store: RoleStore, name: str, duration: timedelta) -> None:
        """Without renewing, the role is kept for `duration`: a replica that dies is replaced after that."""
        self._store = store
        self._name = name
        self._duration = duration
        self._owner = uuid.uuid4().hex
        self._pause_s = duration.total_seconds() / RENEWALS

    async def perform(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Do the work whenever this replica has the role, until cancelled; `work` is given the fence.

        It is cancelled when the role is lost, and begun again when it fails.
        """
        while True:
            try:
                if not await self.do(work):
                    await asyncio.sleep(self._pause_s)
            except RoleLost:
                _log.info("another replica took over", role=self._name)
            except Exception as error:  # noqa: BLE001 - it is begun again
                _log.error("work in the background failed", role=self._name, **logs.describe(error))
                await asyncio.sleep(random.uniform(0.5, 1.5) * min(PAUSE_S, self._pause_s))  # noqa: S311

    async def do(self, work: Callable[[int], Coroutine[Any, Any, None]]) -> bool:
        """Do the work once, or nothing and return False while another replica has the role.

        Raises what the work raises, and `RoleLost`, its work cancelled, when another replica took over.
        """
        fence = await self._store.take(self._name, self._owner, self._duration)
        if fence is None:
            return False
        task = asyncio.create_task(work(fence))
        try:
            await self._renew_until_done(task)
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self._release()
        return True

    async def _renew_until_done(self, task: asyncio.Task[None]) -> None:
        expires_at = time.monotonic() + self._duration.total_seconds()
        while True:
            await asyncio.wait([task], timeout=self._pause_s)
            if task.done():
                return task.result()
            asked_at = time.monotonic()
            try:
                if await self._store.take(self._name, self._owner, self._duration) is None:
                    raise RoleLost
            except DependencyUnavailable:
                if time.monotonic() > expires_at:
                    raise RoleLost from None
            else:
                expires_at = asked_at + self._duration.total_seconds()

    async def _release(self) -> None:
        # When it cannot be released, it expires.
        with contextlib.suppress(DependencyUnavailable):
            await self._store.release(self._name, self._owner)
