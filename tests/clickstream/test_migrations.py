"""What a release changes about the data is changed once by whoever comes first, and gone on with by the next."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from clickstream_service.domain.query import query_key
from clickstream_service.storage import indexes
from clickstream_service.storage.migrations import migrations
from tests.clickstream.calls import create
from tests.clickstream.conftest import serving
from tests.clickstream.samples import a_session
from tideline.migrations import LockLost

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from clickstream_service.storage.database import Database as Connection
    from tests.clickstream.conftest import Clock

MANY = 6_000
LOCK = timedelta(seconds=1)
THEN = datetime(2026, 3, 1, tzinfo=UTC)


def old_sessions(database: Database[dict[str, Any]], number: int) -> None:
    """Sessions as they were recorded before it was noted when, and for which query."""
    database.sessions.insert_many(
        {
            "_id": f"s{n:06}",
            "batch_id": "b",
            "session_number": n,
            "created_at": THEN,
            "search_query": {"text": f"q{n % 7}"},
        }
        for n in range(number)
    )
    database.session_events.insert_many(
        {"_id": {"s": f"s{n:06}", "e": "e"}, "session_id": f"s{n:06}", "created_at": THEN} for n in range(number)
    )


def left(database: Database[dict[str, Any]]) -> int:
    """How many documents lack something."""
    lacking = {"$or": [{"recorded_at": {"$exists": False}}, {"query_key": {"$exists": False}}]}
    missing = {"recorded_at": {"$exists": False}}
    return database.sessions.count_documents(lacking) + database.session_events.count_documents(missing)


async def migrate(settings: Settings) -> Process:
    environment = {
        **os.environ,
        "CLICKSTREAM_MONGO_URI": str(settings.mongo_uri),
        "CLICKSTREAM_MONGO_DATABASE": settings.mongo_database,
        "CLICKSTREAM_MIGRATION_LOCK": str(LOCK.total_seconds()),
    }
    command = (sys.executable, "-m", "tideline.cli", "migrate", "clickstream")
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)


async def test_two_that_start_together_migrate_once(settings: Settings, database: Database[dict[str, Any]]) -> None:
    old_sessions(database, MANY)
    both = await asyncio.gather(migrate(settings), migrate(settings))
    assert [await process.wait() for process in both] == [0, 0]
    assert left(database) == 0
    [ledger] = database.migrations.find()
    assert [done["version"] for done in ledger["history"]] == [1, 2]
    session = database.sessions.find_one({"_id": "s000008"})
    assert session is not None
    assert (session["recorded_at"], session["query_key"]) == (THEN, query_key("q1"))


async def test_one_that_is_killed_in_the_middle_is_followed_by_another_that_goes_on(
    settings: Settings, database: Database[dict[str, Any]]
) -> None:
    old_sessions(database, MANY)
    first = await migrate(settings)
    while database.migrations.find_one({"cursor": {"$exists": True}}) is None:
        assert first.returncode is None
        await asyncio.sleep(0.005)
    first.kill()
    await first.wait()
    broken_off = database.migrations.find_one({"_id": "ledger"})
    assert broken_off is not None
    assert left(database) > 0
    # What lies behind where it was broken off is not looked at again.
    database.sessions.update_one({"_id": "s000000"}, {"$unset": {"query_key": ""}})
    assert await (await migrate(settings)).wait() == 0
    assert left(database) == 1
    after = database.migrations.find_one({"_id": "ledger"})
    assert after is not None
    assert after["fence"] > broken_off["fence"]


async def test_one_that_was_overtaken_changes_the_ledger_no_more(settings: Settings, connection: Connection) -> None:
    ledger = migrations(connection, LOCK)._ledger
    slow = await ledger.take("slow", timedelta(milliseconds=1))
    assert slow is not None
    quick = None
    while quick is None:
        quick = await ledger.take("quick", LOCK)
    for late in (ledger.save(slow.fence, 1), ledger.finish(slow.fence, 1, "late"), ledger.renew(slow.fence, LOCK)):
        with pytest.raises(LockLost):
            await late
    assert (await ledger.state())[0] == 0


async def test_a_service_that_is_told_to_wait_starts_once_somebody_has_migrated(
    settings: Settings, clock: Clock, database: Database[dict[str, Any]], connection: Connection
) -> None:
    old_sessions(database, 10)

    async def serve() -> None:
        async with serving(settings.model_copy(update={"migrate": "wait"}), clock) as service:
            await create(service.sessions, a_session("new"))

    waiting = asyncio.create_task(serve())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await migrations(connection, LOCK).run()
    await waiting
    assert left(database) == 0


async def test_indexes_of_another_release_are_made_whatever_the_version_of_the_data(
    settings: Settings, connection: Connection, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrations(connection, LOCK).run()
    database.sessions.drop_index("newest_first")
    await migrations(connection, LOCK).run()
    assert "newest_first" not in database.sessions.index_information()
    monkeypatch.setattr(indexes, "ALL", (*indexes.ALL, indexes.ALL[0]))
    await migrations(connection, LOCK).run()
    assert "newest_first" in database.sessions.index_information()


async def test_what_replicas_of_the_release_before_wrote_meanwhile_is_gone_over_again(
    connection: Connection, database: Database[dict[str, Any]]
) -> None:
    await migrations(connection, LOCK).run()
    old_sessions(database, 2_500)
    await migrations(connection, LOCK).run()
    assert left(database) > 0
    await migrations(connection, LOCK).run(repeat=True)
    assert left(database) == 0
