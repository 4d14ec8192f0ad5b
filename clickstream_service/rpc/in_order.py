"""Answering a stream in its order while later messages are already worked on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from google.protobuf.message import Message

_In = TypeVar("_In", bound="Message")
_Out = TypeVar("_Out")


@dataclass
class Budget:
    """How much all streams of a server may have read ahead together."""

    limit: int
    used: int = 0


async def in_order(
    requests: AsyncIterator[_In],
    answer: Callable[[_In], Coroutine[None, None, _Out]],
    *,
    ahead: int,
    ahead_bytes: int,
    shared: Budget,
) -> AsyncIterator[_Out]:
    """Yield the answer to each request.

    Reads on while answers are awaited: at most `ahead` requests, of at most `ahead_bytes` unless it is only one; no
    more than one either when all streams that share a budget have used it up, for clients that do not read their
    answers. Then the transport's flow control makes the client wait. A request that cannot be taken ends the stream
    after the answers to those before it.
    """
    answers: asyncio.Queue[tuple[asyncio.Task[_Out], int] | None] = asyncio.Queue()
    room = asyncio.Event()
    used = 0

    async def read() -> None:
        nonlocal used
        async for request in requests:
            cost = max(request.ByteSize(), ahead_bytes // ahead)
            while used and (used + cost > ahead_bytes or shared.used + cost > shared.limit):
                room.clear()
                await room.wait()
            used += cost
            shared.used += cost
            answers.put_nowait((asyncio.create_task(answer(request)), cost))

    reader = asyncio.create_task(read())
    reader.add_done_callback(lambda _: answers.put_nowait(None))
    try:
        while (following := await answers.get()) is not None:
            task, cost = following
            yield await task
            used -= cost
            shared.used -= cost
            room.set()
        await reader
    finally:
        left = [following[0] for following in _drained(answers) if following is not None]
        reader.cancel()
        for unanswered in left:
            unanswered.cancel()
        await asyncio.gather(reader, *left, return_exceptions=True)
        shared.used -= used


def _drained(queue: asyncio.Queue[_Out]) -> list[_Out]:
    return [queue.get_nowait() for _ in range(queue.qsize())]
