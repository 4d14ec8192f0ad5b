"""What is measured: servers, bare collections and the peer, in one mongod, and how each is put to work."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from deploy.local.mongod import Mongod
from tests.benchmarks.ingesting import http_load, load, overload, servers, workload
from tests.benchmarks.ingesting.bare import Bare
from tests.benchmarks.ingesting.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pymongo.database import Database

    from tests.benchmarks.harness import Bench

BY_ITSELF: Final = "tests.benchmarks.ingesting.each_by_itself"
ONE_EACH: Final = 20
"""So many calls of few events are made for each session."""


@dataclass(slots=True)
class Target:
    """A server, a connection or two to it, and its database."""

    server: servers.Server
    client: load.Client
    database: Database[dict[str, Any]]
    cpu_us: dict[str, list[float]] = field(default_factory=dict)

    async def quiet(self) -> None:
        """Wait until all that came in so far is in the signals: what follows is not to pay for what was before."""
        mark = uuid.uuid4().hex
        self.database.rollup_marks.insert_one({"_id": mark})
        while self.database.rollup_marks.find_one({"_id": mark}) is not None:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)

    async def sessions(self, count: int, calls: int) -> Iterator[str]:
        """Create sessions, and name one for each of so many calls, in a random order."""
        creations = workload.creations(1, count) if count < 100 else workload.creations(-(-count // 100), 100)
        ids = list(itertools.islice(itertools.cycle(await self.client.create_sessions(creations)), calls))
        random.Random(count).shuffle(ids)
        await self.quiet()
        return iter(ids)

    async def push(self, events: int, each: int, callers: int, repeated: float = 0.0) -> float:
        """Push events, so many a call; returns events a second. A part of each call may be there before."""
        calls = -(-events // each)
        ids = await self.sessions(-(-calls // (1 if each >= 100 else ONE_EACH)), calls)
        requests = workload.pushes(ids, calls, each)
        if repeated:
            before = [workload.first(request, round(each * repeated)) for request in requests]
            await self.client.calls("PushEvents", before, callers)
            await self.quiet()
        began = self.server.cpu_s()
        took, answers = await self.client.calls("PushEvents", requests, callers)
        self._spent(f"push {each}", began, calls * each)
        again = calls * round(each * repeated)
        load.check(answers, calls * each - again, again)
        await self.quiet()
        return calls * each / took

    async def stream(self, events: int, each: int, streams: int) -> float:
        """Stream events, so many a message; returns events a second."""
        count = -(-events // each)
        ids = await self.sessions(-(-count // (1 if each >= 100 else ONE_EACH)), count)
        messages = workload.messages(ids, count, each)
        began = self.server.cpu_s()
        took, answers = await self.client.streams(messages, streams)
        self._spent(f"stream {each}", began, count * each)
        load.check(answers, count * each)
        await self.quiet()
        return count * each / took

    async def create(self, sessions: int, callers: int) -> float:
        """Create sessions, 100 a call; returns sessions a second."""
        requests = workload.creations(sessions // 100, 100)
        began = self.server.cpu_s()
        took, answers = await self.client.calls("BatchCreateSessions", requests, callers)
        self._spent("create", began, sessions)
        for answer in answers:
            load.created(answer)
        await self.quiet()
        return sessions / took

    async def goodput(self, callers: int, seconds: float, requests: int) -> float:
        """Return events a second that are accepted in time from so many callers, 10 a call."""
        ids = await self.sessions(requests // ONE_EACH, requests)
        found, _ = await overload.goodput(self.client, iter(workload.pushes(ids, requests, 10)), callers, seconds)
        await self.quiet()
        return found

    def _spent(self, name: str, began: float, items: int) -> None:
        self.cpu_us.setdefault(name, []).append((self.server.cpu_s() - began) / items * 1e6)


class Scene:
    """Everything that is measured against each other, up and running."""

    def __init__(self, bench: Bench) -> None:
        self._folder = bench.folder
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        mongod = self.mongod = self._stack.enter_context(Mongod(self._folder, cache_gb=1))
        self.shipped = await self._target("shipped", {})
        self.by_itself = await self._target("by_itself", {}, module=BY_ITSELF)
        self.two = await self._target("two", {"PROCESSES": "2"}, connections=8)
        await self.shipped.push(100, 10, 4)
        source, bare = self.shipped.database, servers.database(mongod, "bare")
        self.events = Bare(source.session_events, bare, indexed=True)
        self.plain_events = Bare(source.session_events, bare, indexed=False)
        self.sessions = Bare(source.sessions, bare, indexed=True)
        self.plain_sessions = Bare(source.sessions, bare, indexed=False)
        peer = servers.database(mongod, "peer")
        Bare(source.session_events, peer, indexed=True, name="session_events")
        self.peer = servers.Peer(mongod, "peer", self._folder)
        self._stack.callback(self.peer.stop)
        self.peer_cpu_us: dict[str, list[float]] = {}
        pages = await self._target("pages", {})
        self.pages = Pages(pages.client, pages.database, at_once=100)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _target(self, name: str, settings: dict[str, str], module: str = "", connections: int = 1) -> Target:
        server = servers.Server(self.mongod, name, self._folder, settings, module)
        self._stack.callback(server.stop)
        client = load.Client(server.address, connections)
        self._stack.push_async_callback(client.close)
        return Target(server, client, servers.database(self.mongod, name))

    async def peer_push(self, events: int, each: int, callers: int) -> float:
        """Do what `Target.push` does, over HTTP."""
        calls = -(-events // each)
        requests = http_load.pushes((uuid.uuid4().hex for _ in range(calls)), calls, each)
        began = self.peer.cpu_s()
        took, accepted = await http_load.calls(self.peer.port, requests, callers)
        self.peer_cpu_us.setdefault(f"push {each}", []).append((self.peer.cpu_s() - began) / accepted * 1e6)
        if accepted != calls * each:
            raise RuntimeError("the peer did not accept all")
        return accepted / took


def inserting(bare: Bare, count: int, at_once: int, threads: int = 1) -> Callable[[], Awaitable[float]]:
    """Return a measurement of bare inserts; the documents are made before the clock runs."""

    async def insert() -> float:
        return await bare.insert(bare.documents(count), at_once, threads)

    return insert
