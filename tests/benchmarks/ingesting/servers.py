"""Servers to measure: each a process of its own with a database of its own, all in one mongod."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from deploy.local.processes import Process, free_port
from deploy.local.service import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

    from deploy.local.mongod import Mongod

TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """The clickstream service with its defaults, but for `settings`; `module` starts it otherwise than shipped."""

    def __init__(self, mongod: Mongod, name: str, folder: Path, settings: Mapping[str, str], module: str = "") -> None:
        self.name = name
        given = {"MONGO_URI": mongod.uri, "MONGO_DATABASE": name, "LOG_LEVEL": "warning", **settings}
        (folder / name).mkdir()
        self._service = (
            _Variant(module, folder / name, given) if module else Service("clickstream", folder / name, given)
        )
        began = time.monotonic()
        self._service.start()
        self.took_s = time.monotonic() - began

    @property
    def address(self) -> str:
        return self._service.address

    def cpu_s(self) -> float:
        """CPU time that it has used so far, its children included."""
        return cpu_s(self._service.process.pid)

    def stop(self) -> None:
        self._service.stop()


class _Variant(Service):
    """The same service, started by another module."""

    def __init__(self, module: str, folder: Path, settings: Mapping[str, str]) -> None:
        super().__init__("clickstream", folder, settings)
        self._module = module

    def _command(self) -> list[str]:
        return [sys.executable, "-m", self._module, "serve", self.name]


class Peer:
    """The same work over HTTP and JSON: FastAPI in one worker of uvicorn."""

    def __init__(self, mongod: Mongod, database: str, folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", "tests.benchmarks.peers.http_json:app", "--workers", "1"]
        command += ["--port", str(self.port), "--log-level", "warning", "--no-access-log"]
        environment = {"PEER_MONGO_URI": mongod.uri, "PEER_MONGO_DATABASE": database}
        self._process = Process(command, folder / "peer.log", environment)
        for _ in range(600):
            self._process.check()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1).read()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("the peer does not answer")

    def cpu_s(self) -> float:
        return cpu_s(self._process.pid)

    def stop(self) -> None:
        self._process.stop()


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and those below it have used so far."""
    total = 0.0
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
        for task in Path(f"/proc/{each}/task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
    return total


def database(mongod: Mongod, name: str) -> Database[dict[str, Any]]:
    """Return a database for a blocking client, durable as the service has it."""
    client: MongoClient[dict[str, Any]] = MongoClient(mongod.uri, w="majority", journal=True, tz_aware=True)
    return client[name]
