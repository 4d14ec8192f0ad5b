"""Cutting what is streamed into messages that are not too large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable

_T = TypeVar("_T")

CHUNK_BYTES: Final = 1_000_000


async def chunks(items: AsyncIterable[_T], nbytes: Callable[[_T], int]) -> AsyncIterator[tuple[list[_T], bool]]:
    """Yield consecutive items together, and whether these are the last; at least one list, which may be empty.

    An item that is larger than `CHUNK_BYTES` comes alone.
    """
    chunk: list[_T] = []
    size = 0
    async for item in items:
        size += nbytes(item)
        if chunk and size > CHUNK_BYTES:
            yield chunk, False
            chunk, size = [], nbytes(item)
        chunk.append(item)
    yield chunk, True
