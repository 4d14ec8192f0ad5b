"""What was acknowledged is there exactly once, whatever fails. The long form is `python -m tests.faults.long`."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from deploy.local.mongod import Mongod
from deploy.local.replica_set import ReplicaSet
from deploy.local.service import Service
from tests.faults import ingest
from tests.faults.backlog import until
from tests.faults.ingest import EVENTS_A_SESSION, Found, Progress, Writer, found
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATABASE = "faults"
SESSIONS = 150
MORE_THAN_FIT = 1_000_000
"""Sessions that a small disk has no room for."""
NEARLY_FULL = 60_000_000
"""So many bytes of a small disk are left when writing begins: MongoDB wants some for its journal."""
SOON_S = 2.0
"""How long writers wait for an answer before they turn to somebody else."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SILENT_FOR_S", SOON_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], Service]]:
    """Starts replicas of the clickstream service on a MongoDB; each has ended in order by the end of the test."""
    services: list[Service] = []

    def start(mongo_uri: str) -> Service:
        settings = {"MONGO_URI": mongo_uri, "MONGO_DATABASE": DATABASE, "MONGO_PATIENCE": "2"}
        service = Service("clickstream", tmp_path / f"service{len(services)}", settings)
        service.start()
        services.append(service)
        return service

    yield start
    assert [service.stop() for service in services] == [0] * len(services)


def everything(sessions: int) -> Found:
    return Found(lost=0, duplicated=0, events=sessions * EVENTS_A_SESSION, sessions=sessions)


def kept(uri: str, progress: Progress) -> Found:
    with MongoClient[dict[str, Any]](uri) as client:
        return found(client[DATABASE], progress.sessions)


async def test_primaries_and_replicas_that_are_killed_or_held_up_lose_nothing_and_double_nothing(
    tmp_path: Path, started: Callable[[str], Service]
) -> None:
    with ReplicaSet(tmp_path) as mongo:
        services = [started(mongo.uri), started(mongo.uri)]
        progress = Progress()
        writer = Writer("w", [service.address for service in services], progress)
        writing = asyncio.create_task(writer.write(SESSIONS))
        await until(lambda: progress.events > 1_000)

        primary = await asyncio.to_thread(mongo.wait_for_primary)
        mongo.kill(primary)
        services[0].kill()
        await asyncio.to_thread(services[0].start)
        os.kill(services[1].process.pid, signal.SIGSTOP)
        before = progress.events
        await until(lambda: progress.events > before or writing.done())
        os.kill(services[1].process.pid, signal.SIGCONT)
        mongo.restart(primary)
        await asyncio.to_thread(mongo.wait_until_whole)
        primary = await asyncio.to_thread(mongo.wait_for_primary)
        mongo.freeze(primary)
        more = Writer("after", [service.address for service in services], progress)
        await more.write(1)
        mongo.thaw(primary)

        await writing
        assert progress.unexpected == []
        await asyncio.to_thread(mongo.wait_until_whole)
        assert kept(mongo.uri, progress) == everything(SESSIONS + 1)


async def test_a_network_that_is_slow_swallows_or_hangs_up_loses_nothing_and_doubles_nothing(
    tmp_path: Path, started: Callable[[str], Service]
) -> None:
    with Mongod(tmp_path) as mongo:
        async with Proxy(mongo.port) as network:
            uri = f"mongodb://127.0.0.1:{network.port}/?directConnection=true"
            service = await asyncio.to_thread(started, uri)
            progress = Progress()
            writing = asyncio.create_task(Writer("w", [service.address], progress).write(SESSIONS))
            await until(lambda: progress.events)
            network.delay(0.1)
            for fault in (network.swallow, network.hang_up):
                before = progress.events
                await until(lambda before=before: progress.events > before)  # type: ignore[misc]
                broken = progress.broken
                fault()
                await until(lambda broken=broken: progress.broken > broken)  # type: ignore[misc]
                network.heal()
            await writing
            assert progress.unexpected == []
        assert kept(mongo.uri, progress) == everything(SESSIONS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 700 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", str(disk))
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk takes the right to mount one")
    yield disk
    subprocess.run(("umount", "-l", str(disk)), check=False)


async def test_a_full_disk_of_the_database_loses_nothing_that_was_acknowledged(
    small_disk: Path, started: Callable[[str], Service]
) -> None:
    mongo = await asyncio.to_thread(Mongod, small_disk)
    try:
        service = await asyncio.to_thread(started, mongo.uri)
        progress = Progress()
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            while shutil.disk_usage(small_disk).free > NEARLY_FULL:
                file.write(bytes(1_000_000))
            writer = Writer("w", [service.address], progress)
            writing = asyncio.create_task(writer.write(MORE_THAN_FIT))
            await until(lambda: progress.events > 1_000)
            with suppress(OSError):
                while True:
                    file.write(bytes(1_000_000))
        await until(lambda: progress.broken or writing.done())
        assert not writing.done()
        written = progress.events
        ballast.unlink()
        mongo.stop()
        mongo = await asyncio.to_thread(lambda: Mongod(small_disk, port=mongo.port))
        await until(lambda: progress.events > written or writing.done())
        writer.until = 0.0
        await writing
        assert progress.unexpected == []
        assert progress.events > written
        assert kept(mongo.uri, progress) == everything(len(progress.sessions))
    finally:
        mongo.stop()
