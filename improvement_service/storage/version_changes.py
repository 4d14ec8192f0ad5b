"""Whose versions change, told by the change stream of the database."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
from pymongo.errors import PyMongoError

from tideline.errors import TidelineError
from tideline.mongo.outages import outages
from tideline.rpc import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pymongo.change_stream import CollectionChangeStream

    from tideline.mongo.client import Database, Document

STALE_AFTER_S: Final = 1.0
"""Where nothing was heard of the database for longer, what is in memory is not taken for current."""
LONGEST_WAIT_S: Final = 0.2
"""How long one look for changes takes when there are none: whoever stops the service waits for it."""
READ_AT_ONCE: Final = 1_000
AGAIN_AFTER_S: Final = 5.0

_log = structlog.get_logger(__name__)


class VersionChanges:
    """Follows the versions of users' copies, of whichever replica they were written by."""

    def __init__(self, database: Database) -> None:
        self._versions = database.personal_versions.delegate
        self._thread = ThreadPoolExecutor(1, "version-changes")
        self._changed: Callable[[str, str], None] = lambda *_: None
        self._watch = 0
        self._known_until = 0.0

    def tell(self, collection: str, user_id: str) -> None:
        """Tell of a change at once; who makes one need not wait to hear of it."""
        self._changed(collection, user_id)

    def watch(self) -> int:
        """Return the number of the present watch, 0 when there is none.

        All changes of more than `STALE_AFTER_S` ago have been told then. What is told under one number has no gaps.
        """
        return self._watch if time.monotonic() - self._known_until < STALE_AFTER_S else 0

    @asynccontextmanager
    async def told(self, changed: Callable[[str, str], None]) -> AsyncIterator[None]:
        """Call `changed` with collection and user of each version that changes, for as long as the block lasts."""
        self._changed = changed
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait([following])
            self._thread.shutdown(wait=False)

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_one()
            except (PyMongoError, TidelineError) as error:
                _log.warning("versions of copies are not followed", **logs.describe(error))
            await asyncio.sleep(AGAIN_AFTER_S)

    async def _follow_one(self) -> None:
        """Follow one change stream until it breaks or ends, as it does when its collection is dropped."""
        loop = asyncio.get_running_loop()

        def tell(collection: str, user_id: str) -> None:
            loop.call_soon_threadsafe(self.tell, collection, user_id)

        stream = await self._in_thread(self._open)
        number = self._watch + 1
        try:
            while stream.alive:
                known_until = await self._in_thread(lambda: _read(stream, tell))
                if known_until is not None:
                    self._watch, self._known_until = number, known_until
        finally:
            # Whatever comes next begins anew: what was kept under this number counts no more.
            self._watch, self._known_until = number, 0.0
            self._thread.submit(stream.close)

    def _open(self) -> CollectionChangeStream[Document]:
        stream: CollectionChangeStream[Document] = self._versions.watch(
            [{"$project": {"documentKey": 1}}],
            max_await_time_ms=round(LONGEST_WAIT_S * 1000),
            batch_size=READ_AT_ONCE,
        )
        return stream

    @outages()
    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _read(stream: CollectionChangeStream[Document], tell: Callable[[str, str], object]) -> float | None:
    """Tell whose versions changed next; returns, once all has been told, when that was asked."""
    for _ in range(READ_AT_ONCE):
        # Not when the answer came: it may have lain here while this process was stopped.
        asked_at = time.monotonic()
        change = stream.try_next()
        if change is None:
            return asked_at
        key = change.get("documentKey")
        if key is not None:
            tell(key["_id"]["c"], key["_id"]["u"])
    return None
