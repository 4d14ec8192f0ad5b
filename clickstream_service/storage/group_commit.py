"""Group commit: what comes in while a write is under way goes out together in the next one.

Where `writers` allows it and much is waiting, another write is begun meanwhile: its documents are made while the
database is at work on the others. It is not begun for little, since few large writes are cheaper than many small ones.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from clickstream_service import metrics
from tideline.errors import Overloaded, TidelineError
from tideline.rpc import tracing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from tideline.rpc.tracing import Place

_T = TypeVar("_T")
_R = TypeVar("_R")

LULL_S: Final = 0.03
"""After so long without a write it is a lull; who sends the next call when the last is answered does so sooner."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes into one write, and how much may wait for one; bytes are whatever `size` counts."""

    items_per_write: int
    bytes_per_write: int
    waiting_items: int
    waiting_bytes: int


@dataclass(slots=True)
class _Part(Generic[_T, _R]):
    """What one caller wants written, as far as it fits into one write."""

    items: Sequence[_T]
    nbytes: int
    results: asyncio.Future[Sequence[_R]]
    came_at: float
    caller: Place | None


class GroupCommit(Generic[_T, _R]):
    """Gathers the items of concurrent callers into writes, one at a time; each caller gets the results of its own.

    A caller that goes away before its items are in a write takes them with it; later, they are written all the same.
    """

    def __init__(
        self,
        write: Callable[[Sequence[_T]], Awaitable[Sequence[_R]]],
        size: Callable[[_T], int],
        limits: Limits,
        *,
        writers: int = 1,
        name: str = "items",
    ) -> None:
        """`write` returns a result for each item in order, or raises for them all; `size` is that of an item.

        There are up to `writers` writes at a time. `name` is how metrics and traces call them.
        """
        self._write = write
        self._size = size
        self._limits = limits
        self._parts: deque[_Part[_T, _R]] = deque()
        self._items = 0
        self._bytes = 0
        self._room = asyncio.Condition()
        self._writers: set[asyncio.Task[None]] = set()
        self._wrote_at = 0.0
        self._most_writers = writers
        self._name = name
        self._commit_items = metrics.COMMIT_ITEMS.labels(name)
        self._commit_wait = metrics.COMMIT_WAIT.labels(name)
        self._commit_seconds = metrics.COMMIT_SECONDS.labels(name)
        metrics.WAITING_ITEMS.labels(name).set_function(lambda: self._items)
        metrics.WAITING_BYTES.labels(name).set_function(lambda: self._bytes)

    async def submit(self, items: Sequence[_T], *, patient: bool = False) -> list[_R]:
        """Return the result of each item once it is written.

        When too much is waiting, raises `Overloaded`, or waits for room when the caller is `patient`.
        """
        if self._full():
            if not patient:
                raise Overloaded("too much is waiting to be written")
            async with self._room:
                await self._room.wait_for(lambda: not self._full())
        mine = list(self._divide(items))
        for part in mine:
            self._parts.append(part)
            self._items += len(part.items)
            self._bytes += part.nbytes
        if not self._writers or (len(self._writers) < self._most_writers and self._much()):
            # Without what is known of this one caller, its deadline above all: the writer goes on for others.
            writer = asyncio.create_task(self._write_all(), context=contextvars.Context())
            self._writers.add(writer)
        try:
            # Nearly always there is only one, which needs no gathering.
            written = (
                [await mine[0].results] if len(mine) == 1 else await asyncio.gather(*(part.results for part in mine))
            )
        except BaseException:
            # The first failure is the answer; nobody asks for the other parts any more.
            for part in mine:
                part.results.cancel()
            raise
        return [result for results in written for result in results]

    async def settled(self) -> None:
        """Wait until everything that was submitted is written, and nobody has submitted more meanwhile."""
        while self._writers:
            await asyncio.wait(self._writers)

    async def lull(self) -> None:
        """Wait until nothing has been written for a moment."""
        while self._writers or (left := self._wrote_at + LULL_S - time.monotonic()) > 0:
            await (asyncio.wait(self._writers) if self._writers else asyncio.sleep(left))

    def _much(self) -> bool:
        return self._items >= self._limits.items_per_write // 8

    def _full(self) -> bool:
        return self._items >= self._limits.waiting_items or self._bytes >= self._limits.waiting_bytes

    def _divide(self, items: Sequence[_T]) -> Iterator[_Part[_T, _R]]:
        """Cut what one caller brings into parts that fit into a write."""
        loop, start, nbytes = asyncio.get_running_loop(), 0, 0
        now, caller = time.perf_counter(), tracing.here()
        sizes = [*map(self._size, items)]
        if items and self._fits(len(items), sum(sizes)):
            yield _Part(items, sum(sizes), loop.create_future(), now, caller)
            return
        for index, size in enumerate(sizes):
            if index > start and not self._fits(index - start + 1, nbytes + size):
                yield _Part(items[start:index], nbytes, loop.create_future(), now, caller)
                start, nbytes = index, 0
            nbytes += size
        if start < len(items):
            yield _Part(items[start:], nbytes, loop.create_future(), now, caller)

    def _fits(self, items: int, nbytes: int) -> bool:
        return items <= self._limits.items_per_write and nbytes <= self._limits.bytes_per_write

    async def _write_all(self) -> None:
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - it is started as a task
        try:
            while self._parts:
                group = await self._next_group()
                if group:
                    await self._write_group(group)
                # One writer is enough for what is little.
                if len(self._writers) > 1 and not self._much():
                    return
        finally:
            # At once: whoever comes next has to see that nobody writes any more.
            self._writers.discard(me)
            self._wrote_at = time.monotonic()

    async def _next_group(self) -> list[_Part[_T, _R]]:
        group: list[_Part[_T, _R]] = []
        items = nbytes = 0
        while self._parts:
            part = self._parts[0]
            wanted = not part.results.cancelled()
            if wanted and group and not self._fits(items + len(part.items), nbytes + part.nbytes):
                break
            self._parts.popleft()
            self._items -= len(part.items)
            self._bytes -= part.nbytes
            if wanted:
                group.append(part)
                items += len(part.items)
                nbytes += part.nbytes
        async with self._room:
            self._room.notify_all()
        return group

    async def _write_group(self, group: list[_Part[_T, _R]]) -> None:
        try:
            results = await self._write_traced(group, [item for part in group for item in part.items])
        except TidelineError as error:
            _fail(group, error)
            return
        except Exception as error:  # noqa: BLE001 - the callers raise it
            if len(group) == 1:
                _fail(group, error)
                return
            # Whatever is wrong with one caller's items shall not fail the others.
            for part in group:
                await self._write_group([part])
            return
        start = 0
        for part in group:
            end = start + len(part.items)
            if not part.results.done():
                part.results.set_result(results[start:end])
            start = end

    async def _write_traced(self, group: Sequence[_Part[_T, _R]], items: Sequence[_T]) -> Sequence[_R]:
        """Write as part of the first caller's trace, linked to the others'."""
        began = time.perf_counter()
        callers = [part.caller for part in group if part.caller is not None]
        self._commit_items.observe(len(items))
        self._commit_wait.observe(began - group[0].came_at)
        try:
            with tracing.span(f"commit {self._name}", parent=callers[0] if callers else None, linked=callers[1:]):
                return await self._write(items)
        finally:
            self._commit_seconds.observe(time.perf_counter() - began)


def _fail(group: Sequence[_Part[_T, _R]], error: Exception) -> None:
    for part in group:
        if not part.results.done():
            part.results.set_exception(error)
