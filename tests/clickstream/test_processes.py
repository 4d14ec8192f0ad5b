"""Several processes serve on one port; the end of one is not the end of the service."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from deploy.local.processes import free_port
from deploy.local.service import Service
from tests.clickstream.calls import create, push
from tests.clickstream.samples import a_session, an_event
from tideline.clickstream.v1 import event_pb2 as events_pb
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub
from tideline.errors import Misconfigured
from tideline.rpc.processes import nth, reserve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database


@pytest.fixture
def together(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[Service]:
    settings = {"MONGO_URI": mongo_uri, "MONGO_DATABASE": database_name, "PROCESSES": "2", "STOP_GRACE": "1"}
    service = Service("clickstream", tmp_path, settings)
    service.start()
    yield service
    service.stop()


def children(service: Service) -> list[int]:
    pid = service.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_calls_are_shared_and_go_on_when_a_process_is_killed(
    together: Service, database: Database[dict[str, Any]]
) -> None:
    async def one(number: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)  # a connection each
        async with grpc.aio.insecure_channel(together.address, options=options) as channel:
            sessions: Any = SessionServiceStub(channel)  # type: ignore[no-untyped-call]
            await create(sessions, a_session(f"s{number}"))
            [outcome] = await push(sessions, f"s{number}", [an_event("e")])
            assert outcome.status == events_pb.EVENT_STATUS_ACCEPTED

    async def one_again(number: int) -> None:
        # As clients do when their connection breaks: the kernel may have given it to the one that was just killed.
        while True:
            try:
                return await one(number)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.05)

    await asyncio.gather(*map(one, range(8)))
    before = children(together)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    await asyncio.gather(*map(one_again, range(8, 16)))
    while len(after := children(together)) < 2 or before[0] in after:  # noqa: ASYNC110 - another process starts it
        await asyncio.sleep(0.05)
    assert database.session_events.count_documents({}) == 16
    # Numbers of sessions have no gaps, whichever process gave them.
    numbers = [session["session_number"] for session in database.sessions.find().sort("session_number", 1)]
    assert numbers == list(range(1, 17))
    assert together.stop() == 0
    assert not set(after) & {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - not a real folder


def test_a_port_that_is_taken_is_not_shared() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other, pytest.raises(Misconfigured):
        reserve(f"127.0.0.1:{other.getsockname()[1]}")


def test_all_end_when_one_cannot_start() -> None:
    nowhere = f"mongodb://127.0.0.1:{free_port()}/?replicaSet=rs0"
    settings = {"MONGO_URI": nowhere, "MONGO_PATIENCE": "0.1", "PROCESSES": "2", "LISTEN": "127.0.0.1:0"}
    environment = {**os.environ, **{f"CLICKSTREAM_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "tideline.cli", "serve", "clickstream"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1


def test_each_process_has_a_port_of_its_own_for_what_is_not_shared() -> None:
    assert [nth("0.0.0.0:9090", number) for number in range(3)] == ["0.0.0.0:9090", "0.0.0.0:9091", "0.0.0.0:9092"]
    assert nth("", 1) == ""
    assert nth("127.0.0.1:0", 1) == "127.0.0.1:0"
