"""How fast data comes in, and out again page by page; against the driver alone, and against HTTP and JSON."""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from tests.benchmarks.harness import Ratio, Row, Table, interleaved
from tests.benchmarks.ingesting import stages
from tests.benchmarks.ingesting.scene import Scene, inserting
from tests.benchmarks.ingesting.starting import seconds_to_start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.benchmarks.harness import Bench, Rounds

CALLERS = 64
CAPACITY = 32
"""So many callers of 10 events each keep one process busy."""
PEER_CALLS = ((1, 2_000, 3), (10, 8_000, 5), (100, 16_000, 3))
"""Events a call, how many in all, and what is aimed at."""


async def tables(bench: Bench) -> AsyncIterator[Table]:
    """Yield each table once it is measured."""
    async with Scene(bench) as scene:
        yield Table("Start", await _start(bench, scene))
        yield Table("CPU by stage", _stages(scene), STAGES)
        yield Table("Events", await _events(bench, scene), TEXT)
        yield Table(
            "Single events, and events sent again", [*await _single(bench, scene), *await _duplicates(bench, scene)]
        )
        yield Table("Sessions", await _sessions(bench, scene))
        yield Table("Overload", await _overload(bench, scene))
        yield Table("Pages of a batch", await _pages(bench, scene))
        yield Table("The same work over HTTP and JSON", await _peer(bench, scene), PEER)


TEXT = """Bare is one thread of pymongo with the same documents, durable alike, into a collection with the same
indexes; in brackets behind it, without secondary indexes. What the service does for its signals meanwhile is included,
so are the looks at sessions and erasures. CPU is that of the server's processes, in microseconds an item. Events are
clicks with a time, a place and a duration; sessions have 20 results. Load comes from one process on the same cores."""
PEER = """FastAPI, one worker of uvicorn on uvloop (with h11, not httptools), pydantic, pymongo, a document per event,
indexed alike, durable alike; it looks up no session, raises no flags and counts no signals. 32 callers each."""
STAGES = """Of the functions that the service runs, a thread's CPU time in microseconds an item, in calls of 100:
`python -m tests.benchmarks.ingesting.stages`. `write` is what the driver takes to have what is encoded inserted. What
gRPC, the event loop and the looks before and after a write cost is not in it. `rules` is what applying the rules in the
protos would cost; `validate` is in its place for what plainly keeps them."""


async def _events(bench: Bench, scene: Scene) -> list[Row]:
    count = bench.amount(20_000)
    found = await interleaved(
        {
            "bare": inserting(scene.events, count, 1_000),
            "plain": inserting(scene.plain_events, count, 1_000),
            "bare x2": inserting(scene.events, count, 1_000, threads=2),
            "push": partial(scene.shipped.push, count, 100, 16),
            "stream": partial(scene.shipped.stream, count, 100, 4),
            "small": partial(scene.shipped.stream, count // 2, 10, 4),
            "push two": partial(scene.two.push, count, 100, 16),
            "stream two": partial(scene.two.stream, count, 100, 8),
        },
        bench,
    )
    bare = f"bare {found.median('bare'):,.0f}/s ({found.median('plain'):,.0f})"
    cpu = {name: statistics.median(spent) for name, spent in scene.shipped.cpu_us.items()}

    def behind(name: str, spent: str = "") -> str:
        plain = found.ratio(name, "plain").median
        text = f"{found.median(name):,.0f}/s; {bare}: {plain:.2f} of it"
        return f"{text}; CPU {cpu[spent]:.0f}" if spent else text

    return [
        found.ratio("push", "bare").row(
            "PushEvents, 100 events / bare `insert_many(1000)`", 0.6, 0.95, behind("push", "push 100")
        ),
        found.ratio("stream", "bare").row(
            "StreamEvents, 100 a message / the same", 0.9, "", behind("stream", "stream 100")
        ),
        found.ratio("stream", "bare x2").row(
            "the same / two threads of bare inserts", 0, 0.9, f"bare, two threads {found.median('bare x2'):,.0f}/s"
        ),
        found.ratio("small", "bare").row("StreamEvents, 10 a message / bare", 0.35, 0.6, behind("small", "stream 10")),
        found.ratio("push two", "bare").row("PushEvents, 100 events, two processes / bare", 0, "", behind("push two")),
        found.ratio("stream two", "bare").row(
            "StreamEvents, 100 a message, two processes / bare", 0, "", behind("stream two")
        ),
    ]


async def _single(bench: Bench, scene: Scene) -> list[Row]:
    count = bench.amount(3_000)
    found = await interleaved(
        {
            "by itself": partial(scene.by_itself.push, count, 1, CALLERS),
            "grouped": partial(scene.shipped.push, count, 1, CALLERS),
            "two": partial(scene.two.push, count, 1, CALLERS),
        },
        bench,
    )
    rates = f"by itself {found.median('by itself'):,.0f}/s, {CALLERS} callers"
    return [
        found.ratio("grouped", "by itself").row(
            "PushEvents, 1 event, group commit / each call by itself",
            2.1,
            "",
            f"{found.median('grouped'):,.0f}/s; {rates}",
        ),
        found.ratio("two", "by itself").row(
            "the same with two processes", 2.1, 4, f"{found.median('two'):,.0f}/s; {rates}"
        ),
    ]


async def _duplicates(bench: Bench, scene: Scene) -> list[Row]:
    count = bench.amount(10_000)
    found = await interleaved(
        {
            "none": partial(scene.shipped.push, count, 100, 16),
            "some": partial(scene.shipped.push, count, 100, 16, 0.1),
        },
        bench,
    )
    rates = f"{found.median('some'):,.0f}/s; {found.median('none'):,.0f}/s"
    return [found.ratio("some", "none").row("PushEvents, 10 % duplicates / none", 0.85, 0.95, rates)]


async def _sessions(bench: Bench, scene: Scene) -> list[Row]:
    count = bench.amount(4_000)
    found = await interleaved(
        {
            "bare": inserting(scene.sessions, count, 100),
            "plain": inserting(scene.plain_sessions, count, 100),
            "create": partial(scene.shipped.create, count, 4),
            "two": partial(scene.two.create, count, 4),
        },
        bench,
    )
    bare = f"bare {found.median('bare'):,.0f}/s ({found.median('plain'):,.0f})"
    cpu = statistics.median(scene.shipped.cpu_us["create"])
    plain = found.ratio("create", "plain").median
    return [
        found.ratio("create", "bare").row(
            "BatchCreateSessions, 100 a call / bare `insert_many(100)`",
            0.6,
            0.85,
            f"{found.median('create'):,.0f}/s; {bare}: {plain:.2f} of it; CPU {cpu:.0f}",
        ),
        found.ratio("two", "bare").row("the same with two processes", 0, "", f"{found.median('two'):,.0f}/s; {bare}"),
    ]


async def _overload(bench: Bench, scene: Scene) -> list[Row]:
    seconds = 0.3 if bench.quick else 2.0
    measure = partial(scene.shipped.goodput, seconds=seconds, requests=round(4_000 * seconds))
    found = await interleaved(
        {
            "capacity": partial(measure, CAPACITY),
            "x5": partial(measure, 5 * CAPACITY),
            "x20": partial(measure, 20 * CAPACITY),
        },
        bench,
    )
    rates = ", ".join(f"{name} {found.median(name):,.0f}/s" for name in found.values)
    return [
        found.ratio("x5", "capacity").row(
            f"goodput at 5x closed-loop overload / at capacity ({CAPACITY} callers)", 0.9, 1.0, rates
        ),
        found.ratio("x20", "capacity").row("the same at 20x", 0, 1.0, rates),
    ]


async def _pages(bench: Bench, scene: Scene) -> list[Row]:
    await scene.pages.prepare(bench.amount(4_000))
    found = await interleaved({"bare": scene.pages.bare, "service": scene.pages.through_service}, bench)
    rates = f"{found.median('service'):,.0f}/s; bare {found.median('bare'):,.0f}/s; 100 a page, 3 events each"
    return [found.ratio("service", "bare").row("GetBatchSessions pages / bare find", 0.4, 0.7, rates)]


async def _peer(bench: Bench, scene: Scene) -> list[Row]:
    rows = []
    for each, full, aim in PEER_CALLS[1:2] if bench.quick else PEER_CALLS:
        count = bench.amount(full)
        name = f"push {each}"
        scene.shipped.cpu_us.pop(name, None)
        found = await interleaved(
            {
                "peer": partial(scene.peer_push, count, each, 32),
                "service": partial(scene.shipped.push, count, each, 32),
                "two": partial(scene.two.push, count, each, 32),
            },
            bench,
        )
        own, other = scene.shipped.cpu_us[name], scene.peer_cpu_us[name]
        spent = Ratio([b / a for a, b in zip(own[-bench.rounds :], other[-bench.rounds :], strict=True)])
        rows += [
            found.ratio("service", "peer").row(f"{each} a call: events/s / peer", 0, aim, _rates(found)),
            spent.row(
                f"{each} a call: events per CPU-second / peer",
                0,
                aim,
                f"CPU {statistics.median(own):.0f} an event; peer {statistics.median(other):.0f}",
            ),
            found.ratio("two", "peer").row(f"{each} a call: events/s with two processes / peer", 0, "", ""),
        ]
    return rows


def _rates(found: Rounds) -> str:
    return ", ".join(f"{name} {found.median(name):,.0f}/s" for name in found.values)


def _stages(scene: Scene) -> list[Row]:
    with MongoClient[dict[str, Any]](scene.mongod.uri) as mongo:
        database = mongo["stages"]
        costs_of = {
            "an event": stages.of_events(database.events),
            "a session of 20 results": stages.of_sessions(database.sessions),
        }
    return [
        Row(name, f"{sum(took for stage, took in costs.items() if stage != '(rules)'):.1f}", behind=_costs(costs))
        for name, costs in costs_of.items()
    ]


def _costs(costs: dict[str, float]) -> str:
    return ", ".join(f"{stage} {took:.1f}" for stage, took in costs.items())


async def _start(bench: Bench, scene: Scene) -> list[Row]:
    times = [seconds_to_start(scene.mongod, bench.folder, number) for number in range(bench.rounds)]
    wall = statistics.median(took for took, _ in times)
    cpu = statistics.median(spent for _, spent in times)
    behind = f"from the command to a healthy answer, new database; CPU {cpu:.2f} s"
    return [Row("clickstream service, seconds", f"{wall:.2f}", "2", "", behind, wall < 2)]
