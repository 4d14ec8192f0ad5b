"""`tideline clean`: statistics first, tags by default, deletion only when told, and a record of it."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from typing import TYPE_CHECKING, Any

import pytest

from tests.clickstream.calls import create, push
from tests.clickstream.samples import a_session, an_event
from tests.clickstream.worker import lease_all, pending, settle, submit
from tideline import cli
from tideline.clickstream.v1 import interaction_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from clickstream_service.config import Settings
    from tests.clickstream.privacy.conftest import Private


@pytest.fixture
def clean(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run the command in a thread, since it has a loop of its own; returns what it printed."""
    monkeypatch.setenv("CLICKSTREAM_MONGO_URI", str(settings.mongo_uri))
    monkeypatch.setenv("CLICKSTREAM_MONGO_DATABASE", settings.mongo_database)

    async def run(*arguments: str) -> str:
        assert await asyncio.to_thread(cli.main, ["clean", "--by", "the team", *arguments]) == 0
        return capsys.readouterr().out

    return run


async def bot_and_person(service: Private) -> None:
    """A session of a bot, one of a person, both submitted and learned from."""
    await create(service.sessions, a_session("bot", user_id="robo", search_meta={"source": "Simulation"}))
    await create(service.sessions, a_session("person", user_id="ann"))
    for session_id in ("bot", "person"):
        await push(service.sessions, session_id, [an_event("e1"), an_event("e2", "b")])
        await submit(service, session_id)
    for user in (await lease_all(service.feedback)).values():
        await settle(service.feedback, user)


async def counted(service: Private, *, include_excluded: bool = False) -> list[tuple[str, tuple[str, ...]]]:
    request = interaction_service_pb2.ListInteractionsRequest(include_excluded=include_excluded)
    answer = await service.interactions.ListInteractions(request)
    return sorted((found.session_id, tuple(found.noise)) for found in answer.interactions)


async def test_a_dry_run_shows_statistics_and_changes_nothing(
    service: Private, clean: Callable[..., Any], database: Database[dict[str, Any]]
) -> None:
    await bot_and_person(service)
    printed = await clean("delete", "--dry-run")
    assert "2 of 4 events are noise (50.0%), of 2 visitors" in printed
    assert "source" in printed
    assert len(await counted(service)) == 4
    assert database.cleanings.count_documents({}) == 0


async def test_noise_is_tagged_left_out_and_unlearned_and_the_record_names_nobody(
    service: Private, clean: Callable[..., Any], database: Database[dict[str, Any]]
) -> None:
    await bot_and_person(service)
    assert "2 tags changed, 0 events deleted" in await clean()
    assert await counted(service) == [("person", ()), ("person", ())]
    assert await counted(service, include_excluded=True) == [
        ("bot", ("source",)),
        ("bot", ("source",)),
        ("person", ()),
        ("person", ()),
    ]
    assert set(await pending(service.feedback)) == {"robo"}
    [user] = (await lease_all(service.feedback)).values()
    assert [event.weight for session in user.sessions for event in session.session.events] == [0.0, 0.0]
    [record] = database.cleanings.find()
    assert (record["action"], record["by"], record["by_rule"]) == ("tag", "the team", {"source": 2})
    assert "robo" not in repr(record)
    assert "0 tags changed" in await clean()


async def test_who_has_no_name_can_clean(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, clean: Callable[..., Any], database: Database[dict[str, Any]]
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert "0 tags changed" in await clean("--by", "")
    assert database.cleanings.find_one()["by"] == f"user {os.getuid()}"


async def test_tags_are_taken_off_when_the_rules_change(
    service: Private, clean: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await bot_and_person(service)
    await clean()
    monkeypatch.setenv("CLICKSTREAM_NOISE", json.dumps({"sources": ["bot"]}))
    assert "2 tags changed" in await clean()
    assert len(await counted(service)) == 4


async def test_noise_is_deleted_when_told(
    service: Private, clean: Callable[..., Any], database: Database[dict[str, Any]]
) -> None:
    await bot_and_person(service)
    assert "2 events deleted" in await clean("delete")
    assert await counted(service, include_excluded=True) == [("person", ()), ("person", ())]
    assert set(await pending(service.feedback)) == {"robo"}
    assert database.cleanings.count_documents({"action": "delete", "deleted": 2}) == 1


async def test_events_from_before_the_time_looked_at_stay_as_they_are(
    service: Private, clean: Callable[..., Any], database: Database[dict[str, Any]]
) -> None:
    await bot_and_person(service)
    long_ago = [{"$set": {"created_at": {"$dateSubtract": {"startDate": "$created_at", "unit": "day", "amount": 9}}}}]
    database.session_events.update_many({"_id.e": "e1"}, long_ago)
    assert "1 of 2 events are noise" in await clean("--since-days", "8")
    assert "1 tags changed" in await clean("--since-days", "0")
