"""Whether a service is alive, and whether it is ready."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import clickstream_service.app
import clickstream_service.config
import improvement_service.app
import improvement_service.config
from clickstream_service.rpc.server import SERVICES
from deploy.local.mongod import Mongod
from deploy.local.processes import free_port
from deploy.local.service import Service
from improvement_service.vectors.milvus import VectorStore
from tideline.errors import DependencyUnavailable
from tideline.rpc.health import LIVE, READY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
OFTEN = {"health_every": timedelta(milliseconds=50), "health_patience": timedelta(milliseconds=400)}


class Health:
    """What a service says of itself."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = health_pb2_grpc.HealthStub(channel)

    async def of(self, service: str) -> int:
        return (await self._stub.Check(health_pb2.HealthCheckRequest(service=service))).status

    async def becomes(self, service: str, wanted: int) -> None:
        """Wait until it says so."""
        watching = self._stub.Watch(health_pb2.HealthCheckRequest(service=service))
        async for answer in watching:
            if answer.status == wanted:
                return
        raise AssertionError("the service went away")


@asynccontextmanager
async def health_of(port: int) -> AsyncIterator[Health]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Health(channel)


async def test_a_service_whose_database_is_silent_is_alive_but_not_ready_until_it_answers(tmp_path: Path) -> None:
    with Mongod(tmp_path) as mongod:
        settings = clickstream_service.config.Settings(
            mongo_uri=mongod.uri, listen="127.0.0.1:0", stop_grace=timedelta(0), **OFTEN
        )
        async with clickstream_service.app.running(settings) as port, health_of(port) as health:
            assert await health.of(READY) == await health.of(LIVE) == SERVING
            os.kill(mongod.pid, signal.SIGSTOP)
            try:
                await health.becomes(READY, NOT_SERVING)
                # Whoever asks for all, or for one service, is told the same; nobody is told to end the process.
                assert {await health.of(name) for name in ("", *SERVICES)} == {NOT_SERVING}
                assert await health.of(LIVE) == SERVING
            finally:
                os.kill(mongod.pid, signal.SIGCONT)
            await health.becomes(READY, SERVING)
            await health.becomes(SERVICES[0], SERVING)


async def test_the_improvement_service_is_ready_while_milvus_answers(
    mongo_uri: str, database_name: str, milvus_path: str
) -> None:
    class Switched(VectorStore):
        up = False

        async def ping(self) -> None:
            if not self.up:
                raise DependencyUnavailable("off")

    stores: list[Switched] = []

    def connect(settings: improvement_service.config.Settings) -> VectorStore:
        stores.append(Switched(settings.milvus_uri))
        return stores[0]

    settings = improvement_service.config.Settings(
        mongo_uri=mongo_uri,
        mongo_database=database_name,
        milvus_uri=milvus_path,
        listen="127.0.0.1:0",
        stop_grace=timedelta(0),
        **OFTEN,
    )
    async with improvement_service.app.running(settings, connect=connect) as port, health_of(port) as health:
        assert (await health.of(LIVE), await health.of(READY)) == (SERVING, NOT_SERVING)
        stores[0].up = True
        await health.becomes(READY, SERVING)
        stores[0].up = False
        await health.becomes(READY, NOT_SERVING)


async def test_a_service_that_is_told_to_end_is_not_ready_before_it_does_anything_else(
    mongo_uri: str, database_name: str, tmp_path: Path
) -> None:
    probes = free_port()
    settings = {
        "MONGO_URI": mongo_uri,
        "MONGO_DATABASE": database_name,
        "HEALTH_LISTEN": f"127.0.0.1:{probes}",
    }
    service = Service("clickstream", tmp_path, settings)
    await asyncio.to_thread(service.start)
    try:
        # The port for probes has health, and nothing else; it answers to the end.
        async with health_of(probes) as health, held_open(service.address) as call:
            watching = asyncio.create_task(health.becomes("", NOT_SERVING))
            assert await health.of(READY) == SERVING
            os.kill(service.process.pid, signal.SIGTERM)
            await watching
            assert await health.of(LIVE) == SERVING
            call.cancel()
    finally:
        assert await asyncio.to_thread(service.stop) == 0


@asynccontextmanager
async def held_open(address: str) -> AsyncIterator[Any]:
    """A call that does not end by itself."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream("/tideline.clickstream.v1.SessionService/StreamEvents")()
        await call.wait_for_connection()
        yield call
