"""The service as a process: it starts, says where it is, and leaves in order."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.clickstream.calls import create
from tests.clickstream.samples import a_session
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub


@asynccontextmanager
async def started(settings: Settings, **changes: str) -> AsyncIterator[Process]:
    environment = {
        **os.environ,
        "CLICKSTREAM_MONGO_URI": str(settings.mongo_uri),
        "CLICKSTREAM_MONGO_DATABASE": settings.mongo_database,
        "CLICKSTREAM_LISTEN": "127.0.0.1:0",
        **changes,
    }
    process = await asyncio.create_subprocess_exec(
        # As the first process of a container, which is ended by no signal but those that it handles.
        *("sh", "-c", "trap '' TERM; exec \"$@\"", "sh"),
        *(sys.executable, "-m", "tideline.cli", "serve", "clickstream"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def logged(process: Process, message: str) -> dict[str, Any]:
    """Wait for a line of the log."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        entry: dict[str, Any] = json.loads(line)
        if entry["message"] == message:
            return entry
    raise AssertionError(f"the service ended without saying {message!r}")


async def keep_writing(sessions: SessionServiceAsyncStub, answered: list[str], busy: asyncio.Event) -> None:
    """Record sessions until the service is gone; `answered` holds those that it has acknowledged, some once `busy`."""
    number = 0
    while True:
        number += 1
        try:
            answered.append((await create(sessions, a_session(f"s{number}"))).session_id)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # noqa: PT017
            return
        if number == 5:
            busy.set()


async def test_it_says_where_it_listens_and_ends_in_order_in_the_middle_of_work(
    settings: Settings, database: Database[dict[str, Any]]
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        async with started(settings) as process:
            port = (await logged(process, "serving"))["port"]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert health.status == health_pb2.HealthCheckResponse.SERVING
                answered: list[str] = []
                busy = asyncio.Event()
                writing = asyncio.create_task(keep_writing(SessionServiceStub(channel), answered, busy))
                await busy.wait()
                process.send_signal(number)
                await writing
            await logged(process, "stopped")
            assert await process.wait() == 0
            assert process.stderr is not None
            assert b"Traceback" not in await process.stderr.read()
        assert database.sessions.count_documents({"_id": {"$in": answered}}) == len(answered)


async def test_without_a_database_it_ends_and_says_so(settings: Settings) -> None:
    nobody = "mongodb://127.0.0.1:1/?replicaSet=rs0"
    async with started(settings, CLICKSTREAM_MONGO_URI=nobody, CLICKSTREAM_MONGO_PATIENCE="0.2") as process:
        failed = await logged(process, "cannot start")
        assert failed["level"] == "error"
        assert await process.wait() == 1


async def test_it_ends_when_it_is_told_to_although_it_still_waits(settings: Settings) -> None:
    async with started(settings, CLICKSTREAM_MIGRATE="wait") as process:
        await logged(process, "waiting for migrations")
        process.terminate()
        assert await process.wait() == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()
