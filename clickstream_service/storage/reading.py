"""Reading only so much of what a query finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from motor.motor_asyncio import AsyncIOMotorCursor

    Document = dict[str, Any]

_T = TypeVar("_T")


async def take(
    cursor: AsyncIOMotorCursor[Document], convert: Callable[[Document], _T], limit: int, max_bytes: int
) -> tuple[list[_T], bool]:
    """Return the first `limit` of a query, converted, and whether there are more.

    Stops before the `nbytes` of the documents add up to more than `max_bytes`, but takes one in any case.
    """
    taken: list[_T] = []
    nbytes = 0
    async for document in cursor.limit(limit + 1):
        nbytes += document["nbytes"]
        if taken and (len(taken) == limit or nbytes > max_bytes):
            await cursor.close()
            return taken, True
        taken.append(convert(document))
    return taken, False
