"""Load over gRPC from this process, of requests that were made before: what is sent costs the sender little."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import grpc

from tideline.clickstream.v1 import event_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.rpc.server import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Answers = list[bytes]

SESSION_SERVICE: Final = "/tideline.clickstream.v1.SessionService/"


class Client:
    """A few connections to one server, since one of many processes only gets the calls of some of them."""

    def __init__(self, address: str, connections: int = 1) -> None:
        # Channels of the same options would share one connection.
        self._channels = [
            grpc.aio.insecure_channel(address, options=(*OPTIONS, ("grpc.use_local_subchannel_pool", 1)))
            for _ in range(connections)
        ]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    def unary(self, method: str) -> list[Any]:
        """Return the method on each connection, which takes and gives bytes."""
        return [channel.unary_unary(method) for channel in self._channels]

    async def calls(self, name: str, requests: Sequence[bytes], callers: int) -> tuple[float, Answers]:
        """Make the calls, so many at a time; returns the seconds that it took, and the answers."""
        methods = self.unary(SESSION_SERVICE + name)
        left = iter(requests)
        answers: Answers = []

        async def caller(number: int) -> None:
            method = methods[number % len(methods)]
            for request in left:
                answers.append(await method(request))

        began = time.perf_counter()
        await asyncio.gather(*map(caller, range(callers)))
        return time.perf_counter() - began, answers

    async def streams(self, messages: Sequence[bytes], streams: int) -> tuple[float, Answers]:
        """Send the messages on so many streams and wait for all answers; the seconds that it took, and the answers."""
        methods = [channel.stream_stream(f"{SESSION_SERVICE}StreamEvents") for channel in self._channels]
        answers: Answers = []

        async def stream(number: int) -> None:
            call = methods[number % len(methods)](iter(messages[number::streams]))
            async for answer in call:
                answers.append(answer)

        began = time.perf_counter()
        await asyncio.gather(*map(stream, range(streams)))
        return time.perf_counter() - began, answers

    async def create_sessions(self, requests: Sequence[bytes]) -> Iterator[str]:
        """Create sessions, two calls at a time, and yield their ids."""
        _, answers = await self.calls("BatchCreateSessions", requests, 2)
        return iter([outcome.session_id for answer in answers for outcome in created(answer)])


def created(answer: bytes) -> Sequence[pb.SessionOutcome]:
    outcomes = pb.BatchCreateSessionsResponse.FromString(answer).outcomes
    if any(outcome.status != pb.SESSION_STATUS_CREATED for outcome in outcomes):
        raise RuntimeError("a session was not created")
    return outcomes


def check(answers: Answers, accepted: int, duplicates: int = 0) -> None:
    """Hold the outcomes against what was sent; a message of a stream is answered like a call, but for its number."""
    found: Counter[int] = Counter()
    for answer in answers:
        found.update(outcome.status for outcome in pb.StreamEventsResponse.FromString(answer).outcomes)
        found.update(outcome.status for outcome in pb.PushEventsResponse.FromString(answer).outcomes)
    wanted = Counter({event_pb2.EVENT_STATUS_ACCEPTED: accepted, event_pb2.EVENT_STATUS_DUPLICATE: duplicates})
    if +found != +wanted:
        raise RuntimeError(f"expected {wanted}, found {found}")
