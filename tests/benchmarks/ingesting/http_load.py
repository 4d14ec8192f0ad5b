"""The same load over HTTP/1.1: connections that are kept, bodies that were made before."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from tests.benchmarks.ingesting import workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def pushes(session_ids: Iterator[str], calls: int, events_each: int) -> list[bytes]:
    """Make requests with the same events as those of `PushEvents`, as JSON."""
    return [_request(next(session_ids), events_each) for _ in range(calls)]


def _request(session_id: str, events_each: int) -> bytes:
    events = [
        {**MessageToDict(event, preserving_proto_field_name=True), "dwell": event.dwell.seconds}
        for event in workload.events(events_each)
    ]
    body = json.dumps({"events": events}).encode()
    head = f"POST /sessions/{session_id}/events HTTP/1.1\r\nHost: peer\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def calls(port: int, requests: Sequence[bytes], callers: int) -> tuple[float, int]:
    """Make the calls, so many at a time; returns the seconds that it took, and how many events were accepted."""
    left = iter(requests)
    bodies: list[bytes] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in left:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            bodies.append(await reader.readexactly(int(length.split(b":")[1])))
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.perf_counter() - began
    return took, sum(outcome["status"] == "accepted" for body in bodies for outcome in json.loads(body)["outcomes"])
