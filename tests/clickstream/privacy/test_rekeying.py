"""`tideline rekey clickstream` gives every user the name that the newest key makes, wherever it is broken off."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.clickstream.calls import create, push
from tests.clickstream.privacy.conftest import serving_privately, traces, until
from tests.clickstream.privacy.keys import keys_file, under
from tests.clickstream.privacy.test_pseudonyms import ANN, alone, exported, record, shop
from tests.clickstream.samples import a_session, an_event
from tideline.cli import main
from tideline.clickstream.v1 import batch_service_pb2, feedback_service_pb2, privacy_service_pb2
from tideline.rpc.pseudonyms import WrongUserKeys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.conftest import Clock

    Mongo = Database[dict[str, Any]]
    Rekeyed = Callable[..., Awaitable[str]]

RECORDS = ("sessions", "session_events", "sessions_for_improvement")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    # The command waits for so long to see whether the service is running.
    return settings.model_copy(update={"role_lease": timedelta(seconds=1)})


def environment(settings: Settings, keys: Path | None) -> dict[str, str]:
    return {
        "CLICKSTREAM_MONGO_URI": str(settings.mongo_uri),
        "CLICKSTREAM_MONGO_DATABASE": settings.mongo_database,
        "CLICKSTREAM_ROLE_LEASE": str(settings.role_lease.total_seconds()),
        **({} if keys is None else {"CLICKSTREAM_USER_KEYS_FILE": str(keys)}),
    }


@pytest.fixture
def rekeyed(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rekeyed:
    """Runs the command, and returns what it printed."""

    async def run(keys: Path | None, code: int = 0) -> str:
        with monkeypatch.context() as changed:
            for name, value in environment(settings, keys).items():
                changed.setenv(name, value)
            ended = await asyncio.to_thread(main, ["rekey", "clickstream"])
        printed = "".join(capsys.readouterr())
        assert ended == code, printed
        return printed

    return run


def counted(printed: str) -> dict[str, int]:
    """What was printed of how much was changed."""
    words = [line.split() for line in printed.splitlines()]
    return {line[0]: int(line[1]) for line in words if len(line) == 2 and line[1].isdigit() and line[1] != "0"}


def with_keys(settings: Settings, path: Path | None) -> Settings:
    return settings.model_copy(update={"user_keys_file": path})


async def test_ids_become_pseudonyms_and_these_go_on_to_the_next_key(
    settings: Settings, clock: Clock, database: Mongo, tmp_path: Path, rekeyed: Rekeyed
) -> None:
    async with serving_privately(settings, clock) as service:
        await shop(service, ANN)
        everything = await exported(service, ANN)
    for newest, before in ((1, ANN), (3, under(1, ANN)), (4, under(3, ANN))):
        keys = keys_file(tmp_path, newest)
        assert traces(database, before)
        with pytest.raises(WrongUserKeys):
            async with serving_privately(with_keys(settings, keys), clock):
                pass
        printed = await rekeyed(keys)
        assert ANN not in printed
        assert under(newest, ANN) not in printed
        assert counted(printed) == {
            "sessions": 2, "session_events": 2, "sessions_for_improvement": 1, "user_leases": 1
        }  # fmt: skip
        assert traces(database, before) == []
        async with serving_privately(with_keys(settings, keys), clock) as service:
            assert await exported(service, ANN) == everything
            # A retry from before the change is still one.
            assert (await create(service.sessions, a_session("s1", user_id=ANN))).user_id == under(newest, ANN)
            assert await record(service, alone("i1", before))
            waiting = await service.feedback.ListPending(feedback_service_pb2.ListPendingRequest())
            assert [user.user_id for user in waiting.users] == [under(newest, ANN)]
        assert counted(await rekeyed(keys)) == {}, "once more changes nothing"


async def test_keys_that_do_not_lead_to_the_names_in_the_database_change_nothing(
    settings: Settings, clock: Clock, database: Mongo, tmp_path: Path, rekeyed: Rekeyed
) -> None:
    async with serving_privately(with_keys(settings, keys_file(tmp_path, 2)), clock) as service:
        await shop(service, ANN)
        assert "stop all of its replicas first" in await rekeyed(keys_file(tmp_path, 3), code=1)
    before = list(database.sessions.find())
    other = tmp_path / "other"
    first, second, third = keys_file(tmp_path, 3).read_text().splitlines()
    for lines, said in (
        ([second, first, third], "other keys"),
        ([second, third], "other keys"),
        ([first, third], "lacks the key"),
        ([first], "lacks the key"),
    ):
        other.write_text("\n".join(lines))
        other.chmod(0o600)
        assert said in await rekeyed(other, code=1)
    assert "CLICKSTREAM_USER_KEYS_FILE is not set" in await rekeyed(None, code=1)
    assert list(database.sessions.find()) == before


async def test_a_user_who_is_known_under_two_names_loses_nothing(
    settings: Settings, clock: Clock, database: Mongo, tmp_path: Path, rekeyed: Rekeyed
) -> None:
    pseudonym = under(1, ANN)
    async with serving_privately(settings, clock) as service:
        for session_id, user_id in (("s1", ANN), ("s2", pseudonym), ("s3", "bob")):
            await create(service.sessions, a_session(session_id, user_id=user_id))
            await push(service.sessions, session_id, [an_event("e1")])
            use = batch_service_pb2.UseSessionForImprovementRequest(session_id=session_id)
            await service.batches.UseSessionForImprovement(use)
        leased = service.feedback.LeaseFeedback(feedback_service_pb2.LeaseFeedbackRequest(owner="w"))
        leases = {part.lease.user_id: part.lease async for part in leased}
        settle = feedback_service_pb2.SettleFeedbackRequest(lease=leases[pseudonym])
        await service.feedback.SettleFeedback(settle)
    assert counted(await rekeyed(keys_file(tmp_path, 1)))["users_merged"] == 1
    async with serving_privately(with_keys(settings, keys_file(tmp_path, 1)), clock) as service:
        assert await exported(service, ANN) == (2, 2, 0)
        for user_id, lease in leases.items():
            settle = feedback_service_pb2.SettleFeedbackRequest(lease=lease)
            if user_id != "bob":
                with pytest.raises(Exception, match="leased this user since"):
                    await service.feedback.SettleFeedback(settle)
        again = service.feedback.LeaseFeedback(feedback_service_pb2.LeaseFeedbackRequest(owner="w"))
        parts = [part async for part in again]
        assert [part.lease.user_id for part in parts] == [pseudonym], "bob is held under his new name"
        assert {each.session.session.session_id for each in parts[0].sessions} == {"s1", "s2"}
        assert parts[0].lease.fence > max(leases[ANN].fence, leases[pseudonym].fence)
    assert {lease["_id"] for lease in database.user_leases.find()} == {pseudonym, under(1, "bob")}


async def test_an_erasure_under_way_goes_on_under_the_new_name(
    settings: Settings, clock: Clock, database: Mongo, tmp_path: Path, rekeyed: Rekeyed
) -> None:
    held = settings.model_copy(update={"erasure_every": timedelta(hours=1), "erasure_patience": timedelta(0)})
    async with serving_privately(held, clock) as service:
        await shop(service, ANN)
        finished = await service.erased("bob")
        lease = feedback_service_pb2.LeaseFeedbackRequest(owner="w", max_users=1)
        assert [part async for part in service.feedback.LeaseFeedback(lease)]
        receipts = [await service.erase(ANN), await service.erase(under(1, ANN))]
        assert {receipt.state for receipt in receipts} == {privacy_service_pb2.ERASURE_STATE_RUNNING}
        await until(lambda: database.sessions.count_documents({"user_id": ANN}) == 0)
    printed = await rekeyed(keys_file(tmp_path, 1))
    assert counted(printed)["erasures"] >= 1
    assert "1 receipts of finished erasures" in printed
    running = database.erasures.find_one({"state": "running"})
    assert running is not None
    assert running["user_id"] == under(1, ANN)
    assert finished.erasure_id in {erasure["erasure_id"] for erasure in database.erasures.find()}
    # The worker has died meanwhile, and whoever was erasing.
    database.user_leases.update_many({}, {"$unset": {"owner": ""}})
    database.erasures.update_many({"state": "running"}, {"$currentDate": {"due_at": True}})
    async with serving_privately(with_keys(settings, keys_file(tmp_path, 1)), clock) as service:
        receipt = await service.erased(ANN)
        assert receipt.erasure_id in {each.erasure_id for each in receipts}
        assert dict(receipt.erased) == {"sessions": 2, "events": 1, "interactions": 1, "queued": 1, "leases": 1}
    assert traces(database, ANN, under(1, ANN)) == []
    control = database.erasure_control.find_one({"_id": "control"})
    assert control is not None
    assert control["open"] == 0


def many(database: Mongo, users: int) -> None:
    """Records of many users as the service stores them, as far as names go."""
    now = datetime.now(UTC)
    names = [f"user {number}" for number in range(users)]
    database.sessions.insert_many(
        {"_id": f"s{name}", "user_id": name, "created_at": now, "batch_id": name, "session_number": 1} for name in names
    )
    database.session_events.insert_many(
        {"_id": {"s": f"s{name}", "e": str(number)}, "session_id": f"s{name}", "user_id": name, "created_at": now}
        for name in names
        for number in range(3)
    )
    database.sessions_for_improvement.insert_many({"_id": f"s{name}", "user_id": name, "state": 1} for name in names)
    database.user_leases.insert_many(
        {"_id": name, "pending": True, "due_at": now, "available_at": now, "generation": 1, "leased_generation": 0,
         "fence": number, "attempts": 0} for number, name in enumerate(names)
    )  # fmt: skip


async def test_a_change_of_keys_that_is_killed_is_carried_on_by_the_next(
    settings: Settings, clock: Clock, database: Mongo, tmp_path: Path, rekeyed: Rekeyed
) -> None:
    users = 800
    async with serving_privately(settings, clock):
        pass
    many(database, users)
    keys = keys_file(tmp_path, 1)
    done = {"user_id": {"$regex": "^~k1~"}}
    moments = (
        lambda: database.session_events.count_documents(done, limit=1) > 0,
        lambda: database.user_leases.count_documents({"_id": done["user_id"]}, limit=1) > 0,
    )
    for moment in moments:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tideline.cli", "rekey", "clickstream"),
            env=os.environ | environment(settings, keys),
            stdout=subprocess.DEVNULL,
        )
        await until(moment)
        process.kill()
        await process.wait()
        mark = database.pseudonyms.find_one()
        assert mark is not None
        if mark["rekeying"]:
            with pytest.raises(WrongUserKeys, match="was not finished"):
                async with serving_privately(with_keys(settings, keys), clock):
                    pass
    # The next one may lead further than the one that was broken off.
    newer = keys_file(tmp_path, 2)
    await rekeyed(newer)
    async with serving_privately(with_keys(settings, newer), clock):
        pass
    names = {under(2, f"user {number}"): number for number in range(users)}
    for collection, count in (
        (database.sessions, 1),
        (database.session_events, 3),
        (database.sessions_for_improvement, 1),
    ):
        found = {group["_id"]: group["n"] for group in collection.aggregate(
            [{"$group": {"_id": "$user_id", "n": {"$sum": 1}}}]
        )}  # fmt: skip
        assert found == dict.fromkeys(names, count)
    assert {lease["_id"]: lease["fence"] for lease in database.user_leases.find()} == names
