"""What streams of clients that never read their answers cost a server: `python -m tests.faults.slow_readers`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from deploy.local.mongod import Mongod
from deploy.local.service import Service
from tests.faults.ingest import EVENTS
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tideline.clickstream.v1.session_service_pb2_grpc import SessionServiceAsyncStub

STREAMS_A_CHANNEL = 100
MESSAGES = 5
EVENTS_A_MESSAGE = 2
LOOKED_AT_EVERY_S = 0.5
QUIET_LOOKS = 10


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Resident memory of a process (`VmHWM` for its peak)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"{what} is not known of {pid}")


async def push(stub: SessionServiceAsyncStub, name: str, sent: list[int]) -> None:
    """Open a stream and send for as long as the server takes it; nothing is ever read."""
    call = stub.StreamEvents()
    for number in range(MESSAGES):
        await asyncio.sleep(0)
        events = EVENTS[:EVENTS_A_MESSAGE]
        request = pb.StreamEventsRequest(session_id=f"{name}-{number}", events=events, allow_missing=True)
        await call.write(request)
        sent[0] += 1
    await asyncio.Event().wait()


async def run(streams: int) -> Sequence[str]:
    with tempfile.TemporaryDirectory() as folder, Mongod(Path(folder)) as mongo:
        service = Service("clickstream", Path(folder), {"MONGO_URI": mongo.uri, "MONGO_DATABASE": "slow"})
        service.start()
        before = memory_mb(service.process.pid)
        channels = [
            grpc.aio.insecure_channel(service.address, options=[("grpc.use_local_subchannel_pool", 1)])
            for _ in range(-(-streams // STREAMS_A_CHANNEL))
        ]
        sent = [0]
        began = time.monotonic()
        tasks = [
            asyncio.create_task(push(SessionServiceStub(channels[n // STREAMS_A_CHANNEL]), f"s{n}", sent))
            for n in range(streams)
        ]
        seen, quiet = -1, 0
        while quiet < QUIET_LOOKS:
            quiet = quiet + 1 if sent[0] == seen and sent[0] else 0
            seen = sent[0]
            await asyncio.sleep(LOOKED_AT_EVERY_S)
        took = time.monotonic() - began - QUIET_LOOKS * LOOKED_AT_EVERY_S
        after, peak = memory_mb(service.process.pid), memory_mb(service.process.pid, "VmHWM")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in channels:
            await channel.close()
        status = service.stop()
    return (
        f"streams open, none read    {streams:,}",
        f"messages taken             {sent[0]:,} of {streams * MESSAGES:,} in {took:.0f} s, then no more",
        f"memory of the service      {before:.0f} MB before, {after:.0f} MB with all, {peak:.0f} MB at most",
        f"service ended with         {status}",
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--streams", type=int, default=10_000)
    for line in asyncio.run(run(arguments.parse_args().streams)):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
