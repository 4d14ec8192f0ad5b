"""One of the two services as a process of its own."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.processes import Process, StartFailed, free_port
from tideline.rpc.channels import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tideline.rpc.channels import Access

ATTEMPTS = 2


class Service:
    """`tideline serve NAME` with settings from the environment, its log in `folder`."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], access: Access = NOTHING) -> None:
        """Start nothing yet; `settings` are named as the service names them, without the prefix."""
        self.name = name
        self.address = ""
        self._log = folder / f"{name}.log"
        self._settings = settings
        self._access = access
        self._process: Process | None = None

    def start(self, patience: float = 60.0) -> None:
        """Start, on the same port as before if there was one, and wait until healthy. Raises `StartFailed`."""
        for attempts_left in reversed(range(ATTEMPTS)):
            address = self.address or f"127.0.0.1:{free_port()}"
            process = self._process = Process(self._command(), self._log, self._environment(address))
            try:
                _wait_until_healthy(process, address, self._access, time.monotonic() + patience)
            except BaseException as failure:
                ended = not process.running()
                process.kill()
                # Only a service that ended by itself may have lost its port to somebody else.
                if not (isinstance(failure, StartFailed) and ended) or self.address or not attempts_left:
                    raise
            else:
                self.address = address
                return

    def stop(self) -> int:
        """Let calls under way end, then end; returns the exit status."""
        return self.process.stop(grace=30)

    def kill(self) -> None:
        """End at once, as a power cut would."""
        self.process.kill()

    @property
    def process(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "tideline.cli", "serve", self.name]

    def _environment(self, address: str) -> dict[str, str]:
        settings = {"LISTEN": address, **self._settings}
        return {
            **{f"{self.name.upper()}_{setting}": value for setting, value in settings.items()},
            # Where the libraries inside Milvus Lite write their logs; the system's temporary folder otherwise.
            "GLOG_log_dir": str(self._log.parent),
        }


def _wait_until_healthy(process: Process, address: str, access: Access, deadline: float) -> None:
    with access.channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        while time.monotonic() < deadline:
            process.check()
            try:
                answer = check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:  # not listening yet
                pass
            time.sleep(0.05)
    raise StartFailed(f"{process.name} did not become healthy in time:\n{process.tail()}")
