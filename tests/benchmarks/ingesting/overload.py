"""What is still accepted when far more callers come than the service has capacity for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import grpc

from tests.benchmarks.ingesting.load import SESSION_SERVICE
from tideline.clickstream.v1 import event_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.ingesting.load import Client

DEADLINE_S: Final = 10.0
"""How long a caller waits; what comes later is no good to it."""
BACKOFF_S: Final = 0.1
"""How long a caller waits that was refused."""


async def goodput(client: Client, requests: Iterator[bytes], callers: int, seconds: float) -> tuple[float, int]:
    """Return events accepted in time, a second, while so many callers call one after the other; and calls refused."""
    methods = client.unary(f"{SESSION_SERVICE}PushEvents")
    answers: list[bytes] = []
    refused = 0
    until = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal refused
        while time.perf_counter() < until:
            try:
                answer = await methods[number % len(methods)](next(requests), timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}:
                    raise
                refused += 1
                await asyncio.sleep(BACKOFF_S)
            else:
                if time.perf_counter() < until:
                    answers.append(answer)

    began = time.perf_counter()
    await asyncio.gather(*map(caller, range(callers)))
    took = min(seconds, time.perf_counter() - began)
    accepted = sum(
        outcome.status == event_pb2.EVENT_STATUS_ACCEPTED
        for answer in answers
        for outcome in pb.PushEventsResponse.FromString(answer).outcomes
    )
    return accepted / took, refused
