"""What telemetry costs: two clickstream services side by side, one of them without it.

`python -m tests.benchmarks.telemetry [--rounds N]` prints the CPU time of either service an event, and the ratio.
Rounds alternate, and the least CPU time of each is compared: whatever else the machine does makes others longer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import uuid
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pymongo.monitoring import TopologyListener

from deploy.local.mongod import Mongod
from deploy.local.processes import Process, free_port
from tideline.clickstream.v1 import event_pb2, session_pb2, session_service_pb2, session_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    Sessions = session_service_pb2_grpc.SessionServiceAsyncStub

CALLERS, STREAMS, CALLS, MESSAGES = 16, 4, 1_500, 6_000
"""Calls and messages are those of a round."""


class Nothing(TopologyListener):
    """Stands for whatever telemetry would call."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: self

    opened = description_changed = closed = lambda *_: None


def serve_without() -> None:
    """Serve as `tideline serve clickstream` does, without interceptor, listener and counts."""
    import tideline.cli  # noqa: PLC0415
    from clickstream_service import metrics  # noqa: PLC0415
    from tideline.mongo import client as database  # noqa: PLC0415
    from tideline.rpc.telemetry import TelemetryInterceptor  # noqa: PLC0415

    make = grpc.aio.server

    def server(interceptors: list[Any], **options: Any) -> grpc.aio.Server:
        return make(interceptors=[one for one in interceptors if not isinstance(one, TelemetryInterceptor)], **options)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(grpc.aio, "server", server))
        patches.enter_context(mock.patch.object(database, "ReportedCommands", Nothing))
        for name in ("COMMIT_ITEMS", "COMMIT_WAIT", "COMMIT_SECONDS"):
            patches.enter_context(mock.patch.object(metrics, name, Nothing()))
        tideline.cli.main(["serve", "clickstream"])


class Service:
    """A service under load, in a process of its own."""

    def __init__(self, folder: Path, uri: str, *command: str) -> None:
        address = f"127.0.0.1:{free_port()}"
        settings = {
            "CLICKSTREAM_MONGO_URI": uri,
            "CLICKSTREAM_MONGO_DATABASE": f"bench_{uuid.uuid4().hex[:8]}",
            "CLICKSTREAM_LISTEN": address,
        }
        self.process = Process([sys.executable, "-m", *command], folder / f"{uuid.uuid4().hex}.log", settings)
        self._wait_until_it_answers(address)
        self.address = address
        self._numbers = count()

    def _wait_until_it_answers(self, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def event(self) -> event_pb2.Event:
        return event_pb2.Event(event_id=str(next(self._numbers)), object_id="a", event_types=["click"])

    async def push(self, sessions: Sessions) -> None:
        """Push events one a call."""

        async def caller() -> None:
            for _ in range(CALLS // CALLERS):
                request = session_service_pb2.PushEventsRequest(session_id="s", events=[self.event()])
                await sessions.PushEvents(request)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    async def stream(self, sessions: Sessions) -> None:
        """Stream events one a message."""

        async def messages() -> AsyncIterator[session_service_pb2.StreamEventsRequest]:
            for sequence in range(1, MESSAGES // STREAMS + 1):
                yield session_service_pb2.StreamEventsRequest(sequence=sequence, session_id="s", events=[self.event()])

        async def one() -> None:
            async for _ in sessions.StreamEvents(messages()):
                pass

        await asyncio.gather(*(one() for _ in range(STREAMS)))


async def compare(services: dict[str, Service], rounds: int) -> Iterator[str]:
    """Return lines that say what each costs."""
    lines = []
    async with (
        grpc.aio.insecure_channel(services["with"].address) as one,
        grpc.aio.insecure_channel(services["without"].address) as other,
    ):
        stubs = {
            name: session_service_pb2_grpc.SessionServiceStub(channel)
            for name, channel in (("with", one), ("without", other))
        }
        session = session_pb2.Session(session_id="s", search_results=[session_pb2.SearchResult(object_id="a")])
        for stub in stubs.values():
            await stub.CreateSession(session_service_pb2.CreateSessionRequest(session=session))
        for name, events in (("push", CALLS), ("stream", MESSAGES)):
            spent: dict[str, list[float]] = {which: [] for which in services}
            for number in range(rounds + 1):
                for which in sorted(services, reverse=bool(number % 2)):
                    began = services[which].cpu_s()
                    await getattr(services[which], name)(stubs[which])
                    # The first round warms up.
                    if number:
                        spent[which].append((services[which].cpu_s() - began) / events * 1e6)
            told = {which: min(each) for which, each in spent.items()}
            lines.append(
                f"{name:7} with {told['with']:6.1f} us, without {told['without']:6.1f} us of CPU an event:"
                f" {told['with'] / told['without']:.3f}"
            )
    return iter(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=8)
    arguments.add_argument("--serve-without", action="store_true", help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.serve_without:
        serve_without()
        return
    with tempfile.TemporaryDirectory() as name, Mongod(Path(name)) as mongod, ExitStack() as running:
        folder = Path(name)
        services = {
            "with": Service(folder, mongod.uri, "tideline.cli", "serve", "clickstream"),
            "without": Service(folder, mongod.uri, "tests.benchmarks.telemetry", "--serve-without"),
        }
        for service in services.values():
            running.callback(service.process.stop)
        for line in asyncio.run(compare(services, chosen.rounds)):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
