"""Several calls at a time, but not too many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

_T = TypeVar("_T")


async def side_by_side(calls: Iterable[Coroutine[Any, Any, _T]], most: int) -> list[_T]:
    """Await `calls`, `most` of them at a time, and return their results in order; each is made when its turn comes.

    When one fails the others are cancelled, and none is under way any more when that is raised.
    """
    tasks: list[asyncio.Task[_T]] = []
    pending: set[asyncio.Task[_T]] = set()
    try:
        for call in calls:
            tasks.append(asyncio.create_task(call))
            pending.add(tasks[-1])
            if len(pending) == most:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
