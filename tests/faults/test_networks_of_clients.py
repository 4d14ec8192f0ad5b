"""A network between a client, as it is shipped, and the clickstream service that is slow, hangs up or swallows."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import grpc
import pytest

import tideline.client
from deploy.local.service import Service
from tests.faults.backlog import until
from tests.faults.proxy import Proxy
from tideline.clickstream.v1 import event_pb2, session_pb2, session_service_pb2
from tideline.client import AsyncClickstream, Clickstream, EventStream
from tideline.rpc import server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo import MongoClient

    from tideline.clickstream.v1.event_pb2 import EventOutcome

GOOD = (event_pb2.EVENT_STATUS_ACCEPTED, event_pb2.EVENT_STATUS_DUPLICATE)
PUSHERS = 4
IN_A_HURRY_S = 0.3
IN_MINUTES = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
"""How long it takes to notice that a connection died silently."""


@pytest.fixture
def service(mongo_uri: str, database_name: str, tmp_path: Path) -> Iterator[Service]:
    service = Service("clickstream", tmp_path, {"MONGO_URI": mongo_uri, "MONGO_DATABASE": database_name})
    service.start()
    yield service
    assert service.stop() == 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that died silently are noticed sixty times as soon: a client does within .7 s and not within 40."""
    for module, name in ((tideline.client, "OPTIONS"), (server, "KEEPALIVE")):
        options = [(option, value // 60 if option in IN_MINUTES else value) for option, value in getattr(module, name)]
        monkeypatch.setattr(module, name, options)


def events(*names: object) -> list[event_pb2.Event]:
    return [event_pb2.Event(event_id=str(name), object_id="o", event_types=["click"]) for name in names]


class Pushing:
    """Several who push events over one stream, each waiting for the answer before the next; nothing goes unanswered."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._numbers = itertools.count()
        self.acknowledged: list[str] = []
        self.over = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(PUSHERS):
                group.create_task(self._push())

    async def goes_on(self) -> None:
        """Wait for answers to what was not yet sent."""
        enough = len(self.acknowledged) + 2 * PUSHERS + 1
        await until(lambda: len(self.acknowledged) >= enough)

    async def _push(self) -> None:
        while not self.over:
            [outcome] = await self._stream.push("s", events(next(self._numbers)))
            self.take(outcome)

    def take(self, outcome: EventOutcome) -> None:
        assert outcome.status in GOOD
        self.acknowledged.append(outcome.event_id)


async def test_events_are_there_once_whatever_becomes_of_the_network_of_a_client(
    service: Service, mongo_client: MongoClient[dict[str, Any]], database_name: str
) -> None:
    async with (
        Proxy(int(service.address.rpartition(":")[2])) as network,
        AsyncClickstream(f"127.0.0.1:{network.port}") as clickstream,
        EventStream(clickstream.sessions) as stream,
    ):
        shown = session_pb2.Session(session_id="s", user_id="u", search_results=[{"object_id": "o"}])
        await clickstream.sessions.CreateSession(session_service_pb2.CreateSessionRequest(session=shown))
        pushing = Pushing(stream)
        running = asyncio.create_task(pushing.run())
        await pushing.goes_on()

        network.delay(0.05)
        await pushing.goes_on()
        network.heal()

        # Swallowed for a moment, and everything comes in the end.
        network.swallow()
        hurried = session_service_pb2.PushEventsRequest(session_id="s", events=events("hurried"))
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await clickstream.sessions.PushEvents(hurried, timeout=IN_A_HURRY_S)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        network.heal()
        await pushing.goes_on()
        [outcome] = (await clickstream.sessions.PushEvents(hurried)).outcomes
        pushing.take(outcome)

        # Answers that were swallowed are lost with the connection.
        network.swallow()
        network.hang_up()
        refused = network.refused
        # A call of its own is repeated until there is a network again, also one that blocks.
        patient = session_service_pb2.PushEventsRequest(session_id="s", events=events("patient"))
        with Clickstream(f"127.0.0.1:{network.port}") as blocking:
            waiting = asyncio.create_task(asyncio.to_thread(blocking.sessions.PushEvents, patient))
            await until(lambda: network.refused > refused)
            network.heal()
            [outcome] = (await waiting).outcomes
        pushing.take(outcome)
        await pushing.goes_on()

        # Nobody says that the connection is dead.
        network.forget()
        await pushing.goes_on()

        pushing.over = True
        await running
    stored = [event["_id"]["e"] for event in mongo_client[database_name].session_events.find()]
    assert sorted(stored) == sorted(pushing.acknowledged)


async def test_a_client_that_died_silently_leaves_no_call_behind() -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    request = session_service_pb2.GetSessionRequest

    async def wait(asked: Any, _: object) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        return asked

    serving = server.Server()
    methods = {"Wait": grpc.unary_unary_rpc_method_handler(wait, request.FromString, request.SerializeToString)}
    serving.grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", methods),))
    port = serving.listen("127.0.0.1:0")
    await serving.start()
    try:
        async with Proxy(port) as network, grpc.aio.insecure_channel(f"127.0.0.1:{network.port}") as channel:
            call = channel.unary_unary("/test.Test/Wait")(request(session_id="s").SerializeToString())
            await begun.wait()
            network.forget()
            await over.wait()
            call.cancel()
    finally:
        await serving.stop(0)
