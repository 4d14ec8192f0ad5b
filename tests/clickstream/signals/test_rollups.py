"""Rollups follow what comes in, whatever happens, and a recount finds the same."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clickstream_service.storage import mongo_rollups
from clickstream_service.storage.database import Database as Connection
from clickstream_service.storage.mongo_rollups import MongoRollups
from tests.clickstream.calls import push
from tests.clickstream.conftest import serving
from tests.clickstream.signals.calls import click, done, searched
from tests.clickstream.signals.rollups import contributions, count_again, generation, rollups
from tests.clickstream.signals.test_what_counts import alone
from tests.clickstream.worker import mark_irrelevant, until
from tideline.clickstream.v1 import signal_service_pb2 as pb

if TYPE_CHECKING:
    from clickstream_service.config import Settings
    from tests.clickstream.conftest import CaughtUp, Clock, Service
    from tests.clickstream.signals.rollups import Documents
    from tideline.clickstream.v1.signal_service_pb2_grpc import SignalServiceAsyncStub

numbers = st.integers(0, 20)
types = st.lists(
    st.sampled_from(["click", "view", "purchase", "zero_results", "query_refinement", "own"]), min_size=1, unique=True
)
objects = st.sampled_from("abcde")
steps = st.one_of(
    st.tuples(st.just("search"), st.lists(objects, unique=True), st.sampled_from(["", "web", "app"]), numbers),
    st.tuples(st.just("search"), st.lists(objects, unique=True, min_size=2), st.just("web"), numbers),
    st.tuples(st.just("act"), numbers, types, objects, numbers),
    st.tuples(st.just("act"), numbers, st.just(["click"]), objects, numbers),
    st.tuples(st.just("act_alone"), types, objects, numbers),
    st.tuples(st.just("overtake"), types, objects),
    st.tuples(st.just("arrive")),
    st.tuples(st.just("mark_irrelevant"), numbers),
    st.tuples(st.just("delete_session"), numbers),
    st.tuples(st.just("delete_event"), numbers),
    st.tuples(st.just("tag_noise"), numbers),
    st.tuples(st.just("clear_noise")),
    st.tuples(st.just("catch_up")),
)


class History:
    """What was done to the service."""

    def __init__(self, service: Service, database: Documents, clock: Clock, caught_up: CaughtUp, name: str) -> None:
        self._service = service
        self._database = database
        self._clock = clock
        self._caught_up = caught_up
        self._name = name
        self._sessions: list[str] = []
        self._waiting: list[str] = []
        self._ids = count()
        self._events = 0

    async def search(self, shown: list[str], surface: str, hours: int) -> None:
        await self._search(f"{self._name}/{next(self._ids)}", shown, surface, hours)

    async def act(self, number: int, event_types: list[str], object_id: str, hours: int) -> None:
        if self._sessions:
            await self._push(self._sessions[number % len(self._sessions)], event_types, object_id, hours)

    async def act_alone(self, event_types: list[str], object_id: str, hours: int) -> None:
        self._events += 1
        at = self._clock.time - timedelta(hours=hours)
        meta = {"surface": "app"} if hours % 2 else {}
        await alone(
            self._service, f"{self._name}/{self._events}", *event_types, feature_id=object_id, occurred_at=at, meta=meta
        )

    async def overtake(self, event_types: list[str], object_id: str) -> None:
        self._waiting.append(f"{self._name}/{next(self._ids)}")
        await self._push(self._waiting[-1], event_types, object_id, 0)

    async def arrive(self) -> None:
        if self._waiting:
            await self._search(self._waiting.pop(), ["a", "b"], "web", 1)

    async def mark_irrelevant(self, number: int) -> None:
        if self._sessions:
            await mark_irrelevant(self._service, self._sessions[number % len(self._sessions)])

    async def delete_session(self, number: int) -> None:
        """As it expires: its events may go before it, after it, or later."""
        if self._sessions:
            session_id = self._sessions.pop(number % len(self._sessions))
            self._database.sessions.delete_one({"_id": session_id})
            if number % 2:
                self._database.session_events.delete_many({"session_id": session_id})

    async def delete_event(self, number: int) -> None:
        for event in self._database.session_events.find().sort("_id").skip(number).limit(1):
            self._database.session_events.delete_one({"_id": event["_id"]})

    async def tag_noise(self, number: int) -> None:
        for event in self._database.session_events.find().sort("_id").skip(number).limit(3):
            self._database.session_events.update_one({"_id": event["_id"]}, {"$set": {"noise": ["too_fast"]}})

    async def clear_noise(self) -> None:
        self._database.session_events.update_many({}, {"$unset": {"noise": ""}})

    async def catch_up(self) -> None:
        await self._caught_up()

    async def _search(self, session_id: str, shown: list[str], surface: str, hours: int) -> None:
        self._sessions.append(session_id)
        at = self._clock.time - timedelta(hours=hours)
        text = f"query {hours % 3}"
        meta = {"surface": surface, "device": "tv"} if surface else {}
        await searched(self._service, session_id, objects=shown, created_at=at, meta=meta, search_query={"text": text})

    async def _push(self, session_id: str, event_types: list[str], object_id: str, hours: int) -> None:
        self._events += 1
        at, dwell = self._clock.time - timedelta(hours=hours), timedelta(seconds=9 * hours, microseconds=hours)
        event = done(f"{self._events}", *event_types, object_id=object_id, created_at=at, dwell=dwell)
        await push(self._service.sessions, session_id, [event], allow_missing=True)


def test_after_any_history_a_recount_finds_what_was_followed(
    settings: Settings, clock: Clock, database: Documents
) -> None:
    settings = settings.model_copy(update={"max_age": timedelta(days=9)})
    with asyncio.Runner() as runner:
        context = serving(settings, clock)
        service = runner.run(context.__aenter__())
        connection = Connection(str(settings.mongo_uri), settings.mongo_database, settings.mongo_patience)
        caught_up = MongoRollups(connection).caught_up
        examples = iter(range(1_000_000))

        @hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(steps, max_size=25))
        def check(taken: list[tuple[str, Any]]) -> None:
            async def run() -> None:
                history = History(service, database, clock, caught_up, f"h{next(examples)}")
                for name, *arguments in taken:
                    await getattr(history, name)(*arguments)
                await caught_up()
                followed = rollups(database), contributions(database)
                before = generation(database)
                await count_again(connection, settings)
                assert generation(database) == before + 1
                assert (rollups(database), contributions(database)) == followed
                # The next history goes on with this one's data there, or begins with none.
                if not taken:
                    database.sessions.delete_many({})
                    database.session_events.delete_many({})

            runner.run(run())

        try:
            check()
        finally:
            connection.close()
            runner.run(context.__aexit__(None, None, None))


async def test_rollups_go_on_where_they_were_after_a_restart(
    settings: Settings, clock: Clock, database: Documents, caught_up: CaughtUp
) -> None:
    async with serving(settings, clock) as service:
        await searched(service, "s1", click("c"))
        await caught_up()
    # While nobody follows: as when the one that does has died with changes not yet counted.
    database.session_events.insert_one({**database.session_events.find_one({}), "_id": {"s": "s1", "e": "late"}})
    database.sessions.update_one({"_id": "s1"}, {"$set": {"search_meta": {"surface": "web"}}})
    async with serving(settings, clock):
        await caught_up()
        assert generation(database) == 1
        assert {int(each["events"]) for each in database.rollups_1.find({"_id.k": "metrics"})} == {2}
        assert database.rollups_1.distinct("_id.u", {"_id.k": "metrics"}) == ["web"]


async def test_what_was_recorded_before_there_were_rollups_is_counted_at_the_start(
    settings: Settings, clock: Clock, database: Documents, caught_up: CaughtUp
) -> None:
    async with serving(settings, clock) as service:
        await searched(service, "s1", click("c"))
        await alone(service, "i1", "click")
        await push(service.sessions, "not there", [click("c")], allow_missing=True)
        await caught_up()
        followed = rollups(database)
    for name in ("rollups_1", "rollup_contributions_1", "rollup_state"):
        database.drop_collection(name)
    async with serving(settings, clock):
        await caught_up()
        assert rollups(database) == followed
        assert len(contributions(database)) == 3


async def test_what_takes_longer_than_a_transaction_may_is_brought_in_bit_by_bit(
    settings: Settings,
    clock: Clock,
    database: Documents,
    caught_up: CaughtUp,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mongo_rollups, "FOLD_S", 0.0)
    async with serving(settings.model_copy(update={"signal_delay": timedelta(seconds=1)}), clock) as service:
        for part in range(2):
            await asyncio.gather(*(searched(service, f"s{part}/{number}", click("c")) for number in range(40)))
            await caught_up()
        followed = rollups(database)
        assert len(contributions(database)) == 80
        await count_again(connection, settings)
        assert rollups(database) == followed


async def test_another_setting_of_segments_has_all_counted_again(
    settings: Settings, clock: Clock, caught_up: CaughtUp, database: Documents
) -> None:
    async with serving(settings, clock) as service:
        await searched(service, "s1", meta={"country.iso": "nz"})
        await caught_up()
    changed = settings.model_copy(update={"signal_segments": ("country.iso",)})
    async with serving(changed, clock):
        await until(lambda: generation(database) == 2)
        await caught_up()
        assert database.rollups_2.distinct("_id.v", {"_id.f": "country.iso"}) == ["nz"]
        assert database.rollups_2.count_documents({"_id.f": "device"}) == 0


async def test_two_replicas_count_once_and_one_takes_over_from_the_other(
    settings: Settings, clock: Clock, database: Documents, caught_up: CaughtUp, connection: Connection
) -> None:
    async with serving(settings, clock) as second:
        async with serving(settings, clock) as first:
            for number in range(20):
                await searched([first, second][number % 2], f"s{number}", click("c"))
            await caught_up()
            assert len(contributions(database)) == 20
        await searched(second, "more", click("c"))
        await caught_up()
        followed = rollups(database)
        assert len(contributions(database)) == 21
        await count_again(connection, settings)
        assert rollups(database) == followed


async def test_a_replica_that_is_killed_is_replaced_and_nothing_is_counted_twice(
    settings: Settings, clock: Clock, database: Documents, caught_up: CaughtUp, connection: Connection
) -> None:
    settings = settings.model_copy(update={"role_lease": timedelta(seconds=1)})
    environment = {
        **os.environ,
        "CLICKSTREAM_MONGO_URI": str(settings.mongo_uri),
        "CLICKSTREAM_MONGO_DATABASE": settings.mongo_database,
        "CLICKSTREAM_LISTEN": "127.0.0.1:0",
        "CLICKSTREAM_ROLE_LEASE": "1",
        "CLICKSTREAM_SIGNAL_DELAY": "0.001",
    }
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tideline.cli", "serve", "clickstream", env=environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await caught_up()
    async with serving(settings, clock) as service:
        recording = asyncio.gather(*(searched(service, f"s{number}", click("c")) for number in range(200)))
        # Killed in the middle of it, as far as that can be had.
        await until(lambda: database.rollup_contributions_1.count_documents({}) > 0)
        doomed.kill()
        await doomed.wait()
        await recording
        await caught_up()
        followed = rollups(database)
        assert len(contributions(database)) == 200
        await count_again(connection, settings)
        assert rollups(database) == followed


async def test_a_rebuild_goes_on_while_data_comes_in_and_answers_are_given(
    service: Service,
    signals: SignalServiceAsyncStub,
    settings: Settings,
    database: Documents,
    caught_up: CaughtUp,
    connection: Connection,
) -> None:
    await asyncio.gather(*(searched(service, f"s{number}", click("c")) for number in range(50)))
    await caught_up()
    rebuilding = asyncio.create_task(count_again(connection, settings))
    request = pb.GetMetricsRequest(metrics=["SIGNAL_METRIC_SESSIONS"])
    number = 50
    while not rebuilding.done():
        await searched(service, f"s{number}", click("c"))
        number += 1
        answer = await signals.GetMetrics(request)
        assert answer.series[0].points[0].value.value >= 50
    assert await rebuilding >= 50
    await caught_up()
    assert len(contributions(database)) == number
    assert (await signals.GetMetrics(request)).series[0].points[0].value.value == number


async def test_the_command_counts_again_what_was_spoilt(
    service: Service, settings: Settings, database: Documents, caught_up: CaughtUp
) -> None:
    await searched(service, "s1", click("c"))
    await caught_up()
    right = rollups(database)
    database.rollups_1.update_many({}, {"$inc": {"refs": 7}})
    database.rollup_contributions_1.delete_many({})
    # What a recount left behind that was killed.
    database.rollups_99.insert_one({})
    environment = {
        **os.environ,
        "CLICKSTREAM_MONGO_URI": str(settings.mongo_uri),
        "CLICKSTREAM_MONGO_DATABASE": settings.mongo_database,
    }
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tideline.cli", "rebuild-rollups", env=environment, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await command.communicate()
    assert (command.returncode, said.decode()) == (0, "1 sessions and interactions without one were counted\n")
    assert rollups(database) == right
    assert sorted(database.list_collection_names(filter={"name": {"$regex": "_[0-9]+$"}})) == [
        "rollup_contributions_2",
        "rollups_2",
    ]
    await searched(service, "s2", click("c"))
    await caught_up()
    assert len(contributions(database)) == 2


@pytest.fixture
def asked_of_rollups_only(service: Service, database: Documents) -> Any:
    """Checks that what was asked meanwhile read rollups by their index, and none of what they are made of."""
    database.command("profile", 2)
    yield
    database.command("profile", 0)
    operations = database["system.profile"].find(
        {"op": {"$in": ["command", "query"]}, "command.aggregate": {"$exists": 1}}
    )
    asked = [op for op in operations if "$changeStream" not in str(op["command"]["pipeline"][:1])]
    touched = {op["ns"].removeprefix(f"{database.name}.") for op in asked}
    assert touched == {"rollups_1"}
    # One scan for each range of hours.
    assert {scan for op in asked for scan in op["planSummary"].split(", ")} == {"IXSCAN { _id: 1 }"}


async def test_a_dashboard_reads_rollups_only_and_by_their_index(
    signals: SignalServiceAsyncStub, service: Service, caught_up: CaughtUp, request: pytest.FixtureRequest
) -> None:
    for number in range(30):
        meta = {"surface": "web" if number % 2 else "app", "device": "tv"}
        await searched(service, f"s{number}", click("c", "b"), meta=meta)
    await caught_up()
    request.getfixturevalue("asked_of_rollups_only")
    scope = {"surface": "web", "segment": "device", "segment_value": "tv"}
    await signals.GetMetrics(pb.GetMetricsRequest(scope=scope, step="SIGNAL_STEP_HOUR"))
    await signals.GetPositionMetrics(pb.GetPositionMetricsRequest(scope=scope))
    await signals.GetEventDistribution(pb.GetEventDistributionRequest(scope=scope))
    await signals.ListSkippedObjects(pb.ListSkippedObjectsRequest(scope=scope))
    await signals.ListQueries(pb.ListQueriesRequest(scope=scope, max_ctr=1))
    await signals.ListTopObjects(pb.ListTopObjectsRequest(trending=True))
    await signals.ComparePeriods(pb.ComparePeriodsRequest(scope=scope, baseline={}))


async def test_what_was_recorded_counts_although_writes_never_pause(
    service: Service, database: Documents, caught_up: CaughtUp
) -> None:
    over = asyncio.Event()

    async def write(writer: str) -> None:
        for number in count():
            await push(service.sessions, "s", [click(f"{writer}{number}")])
            if over.is_set():
                return

    await searched(service, "s")
    writers = asyncio.create_task(write("a")), asyncio.create_task(write("b"))
    try:
        await caught_up()
        assert list(contributions(database)) == ["{'s': 's', 'e': ''}"]
    finally:
        over.set()
        await asyncio.gather(*writers)
