"""A TCP proxy of our own: a network that can be slow, swallow everything, or hang up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter


class Proxy:
    """Forwards connections to a port of this machine; an async context manager."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_s = 0.0
        self._refusing = False
        self._writers: set[StreamWriter] = set()
        self._forgotten: set[StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.refused = 0
        """How many connections were not taken."""

    def heal(self) -> None:
        """Forward everything at once again, what was swallowed included, as a network does that lost packets."""
        self._refusing, self._delay_s = False, 0.0
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Hold up everything for so long."""
        self._delay_s = seconds

    def swallow(self) -> None:
        """Let connections stand, and new ones come about, without a byte getting through: neither side is told."""
        self._flowing.clear()

    def hang_up(self) -> None:
        """End all connections and take no more."""
        self._refusing = True
        for writer in tuple(self._writers):
            writer.transport.abort()

    def forget(self) -> None:
        """Drop all that comes over the connections that there are, and tell neither side; new ones are well."""
        self._forgotten |= self._writers

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._refusing:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._forward(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: StreamReader, sink: StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await asyncio.sleep(self._delay_s)
                await self._flowing.wait()
                if sink in self._forgotten:
                    continue
                sink.write(data)
                await sink.drain()
        self._writers.discard(sink)
        self._forgotten.discard(sink)
        sink.transport.abort()
