"""Health after grpc.health.v1: whether a process is alive, and whether it can do its work."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from tideline.rpc import logs, metrics, processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from datetime import timedelta

    Checks = Mapping[str, Callable[[], Awaitable[None]]]

LIVE: Final = "tideline.live"
"""SERVING for as long as the process answers, also while it waits for a database and while it ends: to be restarted
when this fails."""
READY: Final = "tideline.ready"
"""SERVING while every database answers: to be sent calls only then. `""` and the name of each gRPC service say the
same."""

_log = structlog.get_logger(__name__)


class Health:
    """What the process says of itself: not ready until it is told otherwise."""

    def __init__(self, server: grpc.aio.Server, services: Iterable[str]) -> None:
        """Answer on `server`, for these gRPC services too."""
        self._names = ("", READY, *services)
        self._servicer = HealthServicer()
        self._answered_at: dict[str, float] = {}
        self._leaving = False
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self, *, ready: bool) -> None:
        await self._servicer.set(LIVE, health_pb2.HealthCheckResponse.SERVING)
        await self._say(ready=ready)

    @asynccontextmanager
    async def served(self, address: str) -> AsyncIterator[None]:
        """Answer at `address` too, without encryption, for as long as the block lasts; not at all when it is empty.

        Raises `Misconfigured` when it is taken.
        """
        if not address:
            yield
            return
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        with processes.binding(address):
            port = server.add_insecure_port(address)
        await server.start()
        _log.info("serving health", address=address, port=port)
        try:
            yield
        finally:
            await server.stop(None)

    async def leave(self) -> None:
        """Be ready no more, for good."""
        self._leaving = True
        await self._say(ready=False)

    @asynccontextmanager
    async def watching(self, checks: Checks, every: timedelta, patience: timedelta) -> AsyncIterator[None]:
        """Be ready while each of `checks` has succeeded within `patience`, and again as soon as each does.

        A check asks a dependency something cheap, and raises when it does not answer. At the end of the block, the
        service is not ready any more.
        """
        watching = [asyncio.create_task(self._watch(name, checks, every, patience)) for name in checks]
        try:
            yield
        finally:
            await self.leave()
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)

    async def _watch(self, name: str, checks: Checks, every: timedelta, patience: timedelta) -> None:
        patience_s, was_up = patience.total_seconds(), True
        while True:
            cause: dict[str, object] = {}
            try:
                async with asyncio.timeout(patience_s):
                    await checks[name]()
                self._answered_at[name] = time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
                cause = logs.describe(error)
            up = self._answers(name, patience_s)
            if up != was_up:
                _log.warning("a dependency answers again" if up else "a dependency does not answer", on=name, **cause)
            was_up = up
            metrics.DEPENDENCY_UP.labels(name).set(up)
            await self._say(ready=all(self._answers(each, patience_s) for each in checks))
            await asyncio.sleep(every.total_seconds())

    def _answers(self, name: str, patience_s: float) -> bool:
        answered_at = self._answered_at.get(name)
        return answered_at is not None and time.monotonic() - answered_at < patience_s

    async def _say(self, *, ready: bool) -> None:
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if ready and not self._leaving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._servicer.set(name, status)
