"""How long the service takes to start."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.processes import Process, free_port
from tests.benchmarks.ingesting.servers import cpu_s

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.mongod import Mongod


def seconds_to_start(mongod: Mongod, folder: Path, number: int) -> tuple[float, float]:
    """Start the service on a new database; returns the seconds until it says that it is healthy, and its CPU time."""
    port = free_port()
    settings = {"MONGO_URI": mongod.uri, "MONGO_DATABASE": f"start_{number}", "LISTEN": f"127.0.0.1:{port}"}
    command = [sys.executable, "-m", "tideline.cli", "serve", "clickstream"]
    began = time.perf_counter()
    process = Process(command, folder / f"start_{number}.log", {f"CLICKSTREAM_{k}": v for k, v in settings.items()})
    try:
        while not _listening(port):
            process.check()
            time.sleep(0.01)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            while check(health_pb2.HealthCheckRequest(), timeout=10).status != health_pb2.HealthCheckResponse.SERVING:
                time.sleep(0.01)
        return time.perf_counter() - began, cpu_s(process.pid)
    finally:
        process.stop()


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
