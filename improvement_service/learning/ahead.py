"""Stages that work at the same time: asynchronous generators that run ahead of who reads them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

_T = TypeVar("_T")


@asynccontextmanager
async def ahead(items: AsyncGenerator[_T, None]) -> AsyncIterator[AsyncIterator[_T]]:
    """Let `items` be made while those before are used: one waits, and one more is in the making.

    What `items` raises is raised to the reader, after all that was made before.
    """
    waiting: asyncio.Queue[_T | None] = asyncio.Queue(maxsize=1)
    making = asyncio.create_task(_make(items, waiting))
    try:
        yield _read(waiting, making)
    finally:
        making.cancel()
        # What it raised was raised to the reader, unless the reader has left for a reason of its own.
        await asyncio.gather(making, return_exceptions=True)


async def until(stop: asyncio.Event, items: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
    """Yield `items` until `stop` is set, even if none comes for a long time."""
    stopped = asyncio.create_task(stop.wait())
    async with aclosing(items):
        try:
            while (item := await _next(items, stopped)) is not None:
                yield item
        finally:
            stopped.cancel()


async def _next(items: AsyncGenerator[_T, None], stopped: asyncio.Task[bool]) -> _T | None:
    """Return the next of `items`; None when there are no more, or when `stopped` comes first."""
    one = asyncio.ensure_future(anext(items, None))
    try:
        await asyncio.wait((one, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Cancelled where it waits, `items` can clean up before anybody closes it.
        if stopped.done() or not one.done():
            one.cancel()
            await asyncio.wait((one,))
    return None if one.cancelled() else one.result()


async def _make(items: AsyncGenerator[_T, None], waiting: asyncio.Queue[_T | None]) -> None:
    try:
        async with aclosing(items):
            async for item in items:
                await waiting.put(item)
    except asyncio.CancelledError:
        # Nobody reads any more.
        raise
    except BaseException:
        await waiting.put(None)
        raise
    await waiting.put(None)


async def _read(waiting: asyncio.Queue[_T | None], making: asyncio.Task[None]) -> AsyncIterator[_T]:
    while (item := await waiting.get()) is not None:
        yield item
    await making
